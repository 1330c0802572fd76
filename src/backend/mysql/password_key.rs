//! A server's public key and a password → what the server can read and listeners cannot (RSA-OAEP by SHA-1, MGF1).
//!
//! Who listens learns nothing; who can stand in the server's place shows a key of their own (docs/decisions/password-keys.md).

use getrandom::SysRng;
use rsa::Oaep;
use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey;
use rsa::rand_core::UnwrapErr;
use rsa::traits::PublicKeyParts;
use sha1::Sha1;

use crate::wire::mysql::auth;

/// The shortest modulus that is taken, in bytes: servers make keys of 2048 bits.
const MODULUS_MIN: usize = 256;

/// Encrypts a password, with the zero behind it and mixed with the salt, by a key in PEM.
///
/// # Errors
/// The key is none, or too short, or the password too long for it: why, to be told.
pub(super) fn encrypted(pem: &[u8], password: &[u8], salt: &[u8]) -> Result<Vec<u8>, &'static str> {
    let pem = str::from_utf8(pem).map_err(|_| "is no text")?;
    let key = RsaPublicKey::from_public_key_pem(pem.trim()).map_err(|_| "is no RSA key in PEM")?;
    if key.size() < MODULUS_MIN {
        return Err("is shorter than 2048 bits");
    }
    let mixed = auth::mixed(&[password, &[0]].concat(), salt);
    key.encrypt(&mut UnwrapErr(SysRng), Oaep::<Sha1>::new(), &mixed).map_err(|_| "is too short for this password")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 2048 bits, as `openssl rsa -pubout` writes it.
    const KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAowmwoN5tj59PcTluZfry
nWKvYjLVHwZOu91ymmuoU3uP4qBL4yOWPvp5NcgYWg/CdLHzEMHMgkLoJyvMJxt1
DvQVJqjXGlJIKo6SVJyKSgCQHI9zEJ443l++u7lUS6Dw5tAz04ooI1fC3zjyoN5G
5F6CQHUZuiArXYtd/KWCXONf70j+Vdu21wzJUtzwX57/GFQuH8zytSP76VsPuKP1
syEDkgq9vd7jQ0bvDWfS/BuOdnhbjLa7LVA5eS6jfLCv4i880q5c36RBzI8Lf5UC
S2p4ryBVFW127AsKsFA9/i/wma3UwvP7TQEKTTExIsiC537GMtK8ZQw8PN8tmBfG
cwIDAQAB
-----END PUBLIC KEY-----";

    const SHORT: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCmM+L8nxzVY9aP23YDESOQeuzA
JS0jsElfTYT8/2Xys9ZDuwsbTC5+vEeAgjPPqHv+qx+V7tn+8gcoCrwp9J9iX7p/
ZX+7IFP2DUwRc16kwLbvdUCNY2GUM1wacgj0kJLcJLP1AM6meEOu4XKLt0k8P64g
gwgwc1j5UGwEg1yRPwIDAQAB
-----END PUBLIC KEY-----";

    #[test]
    fn only_keys_that_are_worth_it_are_used() {
        let encrypted = |pem: &str, password: &[u8]| encrypted(pem.as_bytes(), password, &[7; 20]);
        let (one, other) = (encrypted(KEY, b"geheim").unwrap(), encrypted(KEY, b"geheim").unwrap());
        assert_eq!((one.len(), other.len()), (256, 256));
        assert_ne!(one, other, "the same password looks the same twice");
        assert_eq!(encrypted(&format!("{KEY}\n"), b"geheim").map(|it| it.len()), Ok(256));
        assert_eq!(encrypted(KEY, &[b'x'; 300]), Err("is too short for this password"));
        assert_eq!(encrypted(SHORT, b"geheim"), Err("is shorter than 2048 bits"));
        for no_key in ["", "geheim", &KEY[..200], &KEY.replace("PUBLIC", "PRIVATE")] {
            assert_eq!(encrypted(no_key, b"geheim"), Err("is no RSA key in PEM"));
        }
    }
}
