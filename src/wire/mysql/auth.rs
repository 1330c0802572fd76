//! Proofs of passwords, in both roles, by the names that the protocol gives them.

use sha1::Sha1;
use sha2::Digest;
use sha2::Sha256;

/// By SHA-1 (MySQL to 8.0, MariaDB).
pub const NATIVE: &str = "mysql_native_password";
/// By SHA-256, with a memory of proofs (MySQL since 8.0).
pub const CACHING_SHA2: &str = "caching_sha2_password";

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
    fn mixing_twice_gives_the_password() {
        assert_eq!(
            mixed(&mixed(b"a longer password than the salt\0", &SALT), &SALT),
            b"a longer password than the salt\0"
        );
    }
}
