//! Proofs of passwords, in both roles, by the names that the protocol gives them.

use ed25519_dalek::hazmat::ExpandedSecretKey;
use ed25519_dalek::hazmat::raw_sign;
use sha1::Sha1;
use sha2::Digest;
use sha2::Sha256;
use sha2::Sha512;

/// By SHA-1 (MySQL to 8.0, MariaDB).
pub const NATIVE: &str = "mysql_native_password";
/// By SHA-256, with a memory of proofs (MySQL since 8.0).
pub const CACHING_SHA2: &str = "caching_sha2_password";

/// By a signature (MariaDB).
pub const ED25519: &str = "client_ed25519";
/// The password itself: in TLS only.
pub const CLEAR: &str = "mysql_clear_password";

/// Bytes of [`ED25519`]'s salt.
pub const ED25519_SALT: usize = 32;

/// caching_sha2_password's single bytes.
pub mod sha2_byte {
    /// The server: the proof is right, and an OK packet follows.
    pub const FAST_OK: u8 = 3;
    /// The server: it remembers no proof of this user, and needs the password.
    pub const FULL: u8 = 4;
    /// The client: which key is the password to be encrypted with?
    pub const KEY_WANTED: u8 = 2;
}

/// A proof by [`NATIVE`]: SHA1(password) ⊕ SHA1(salt, SHA1(SHA1(password))). Empty for an empty password.
#[must_use]
pub fn native_proof(password: &[u8], salt: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha1::digest(password);
    let mask = Sha1::new().chain_update(salt).chain_update(Sha1::digest(once)).finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

/// What is kept of a password to check [`NATIVE`] proofs by: SHA1(SHA1(password)).
#[must_use]
pub fn native_stored(password: &[u8]) -> [u8; 20] {
    Sha1::digest(Sha1::digest(password)).into()
}

/// Whether a proof by [`NATIVE`] is of the password that this was kept of.
#[must_use]
pub fn native_is_right(proof: &[u8], salt: &[u8], stored: &[u8; 20]) -> bool {
    let mask = Sha1::new().chain_update(salt).chain_update(stored).finalize();
    let once: Vec<u8> = proof.iter().zip(mask).map(|(a, b)| a ^ b).collect();
    // Compared is a digest of what the client sent: how far it agrees tells nothing.
    proof.len() == 20 && Sha1::digest(once).as_slice() == stored
}

/// A proof by [`CACHING_SHA2`]: SHA256(password) ⊕ SHA256(SHA256(SHA256(password)), salt). Empty for an empty password.
#[must_use]
pub fn sha2_proof(password: &[u8], salt: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha256::digest(password);
    let mask = Sha256::new().chain_update(Sha256::digest(once)).chain_update(salt).finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

/// What is kept of a password to check [`CACHING_SHA2`] proofs by: SHA256(SHA256(password)).
#[must_use]
pub fn sha2_stored(password: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(password)).into()
}

/// Whether a proof by [`CACHING_SHA2`] is of the password that this was kept of.
#[must_use]
pub fn sha2_is_right(proof: &[u8], salt: &[u8], stored: &[u8; 32]) -> bool {
    let mask = Sha256::new().chain_update(stored).chain_update(salt).finalize();
    let once: Vec<u8> = proof.iter().zip(mask).map(|(a, b)| a ^ b).collect();
    proof.len() == 32 && Sha256::digest(once).as_slice() == stored
}

/// A proof by [`ED25519`]: the salt, signed by the key that SHA512(password) expands to.
#[must_use]
pub fn ed25519_proof(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let key = ExpandedSecretKey::from_bytes(&Sha512::digest(password).into());
    raw_sign::<ed25519_dalek::Sha512>(&key, salt, &(&key).into()).to_bytes().to_vec()
}

/// The password as it stands in what is encrypted with the server's key: with a zero behind it, and mixed with the salt. The same
/// again gives the password back.
#[must_use]
pub fn mixed(password: &[u8], salt: &[u8]) -> Vec<u8> {
    password.iter().zip(salt.iter().cycle()).map(|(a, b)| a ^ b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; 20] = [7; 20];

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |all, it| all + &format!("{it:02X}"))
    }

    #[test]
    fn what_is_kept_is_what_servers_keep() {
        // SELECT PASSWORD('secret') on MariaDB, without its star.
        assert_eq!(hex(&native_stored(b"secret")), "14E65567ABDB5135D0CFD9A70B3032C179A49EE7");
    }

    #[test]
    fn the_right_password_is_known_and_others_are_not() {
        assert!(native_is_right(&native_proof(b"secret", &SALT), &SALT, &native_stored(b"secret")));
        assert!(sha2_is_right(&sha2_proof(b"secret", &SALT), &SALT, &sha2_stored(b"secret")));
        for (proof, salt) in [(native_proof(b"other", &SALT), SALT), (native_proof(b"secret", &SALT), [8; 20])] {
            assert!(!native_is_right(&proof, &salt, &native_stored(b"secret")));
        }
        for (proof, salt) in [(sha2_proof(b"other", &SALT), SALT), (sha2_proof(b"secret", &SALT), [8; 20])] {
            assert!(!sha2_is_right(&proof, &salt, &sha2_stored(b"secret")));
        }
        // Neither nothing nor a part is a proof.
        assert!(!native_is_right(&[], &SALT, &native_stored(b"")));
        assert!(!sha2_is_right(&[], &SALT, &sha2_stored(b"")));
    }

    #[test]
    fn a_signature_is_of_the_key_that_servers_keep() {
        // SELECT ed25519_password('secret') on MariaDB, out of its base64.
        const KEPT: &str = "648814444520E4F56043A2EC9215E63BE7992D2D270BC6DEE873E36164786096";
        let salt = [9; ED25519_SALT];
        let key = ExpandedSecretKey::from_bytes(&Sha512::digest(b"secret").into());
        let known = ed25519_dalek::VerifyingKey::from(&key);
        assert_eq!(hex(known.as_bytes()), KEPT);
        let signature = |password: &[u8]| {
            let proof: [u8; 64] = ed25519_proof(password, &salt).try_into().unwrap();
            ed25519_dalek::Signature::from_bytes(&proof)
        };
        assert!(known.verify_strict(&salt, &signature(b"secret")).is_ok());
        assert!(known.verify_strict(&salt, &signature(b"other")).is_err());
    }

    #[test]
    fn mixing_twice_gives_the_password() {
        assert_eq!(
            mixed(&mixed(b"a longer password than the salt\0", &SALT), &SALT),
            b"a longer password than the salt\0"
        );
    }
}
