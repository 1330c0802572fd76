//! SCRAM-SHA-256, in both roles: who knows the password proves it without telling it (RFC 5802, RFC 7677).
//!
//! The exchanges are those of `pgwire` (server) and `postgres-protocol` (client). What is ours is the door in front of
//! them: they get decoded payloads only, never a stranger's frame; lengths are bounded before they look; and a user who
//! does not exist is asked the same questions, with a salt that stays the same, as one who does.

use pgwire::api::auth::sasl::scram::ScramSecret;
use pgwire::api::auth::sasl::scram::ScramServerAuth;
use pgwire::api::auth::sasl::scram::ScramServerAuthWaitingForClientFinal;
use pgwire::api::auth::sasl::scram::gen_salted_password;
use pgwire::error::PgWireError;
use postgres_protocol::authentication::sasl::ChannelBinding;
use postgres_protocol::authentication::sasl::ScramSha256;
use sha2::Digest;
use sha2::Sha256;

/// The mechanism.
pub const PLAIN: &str = "SCRAM-SHA-256";
/// The mechanism that is bound to the TLS connection.
pub const PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Why an exchange failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// The other side does not speak the mechanism as it is written.
    #[error("malformed SCRAM message")]
    Malformed,
    /// A message that is longer than any honest one.
    #[error("SCRAM message of {0} bytes")]
    TooLong(usize),
    /// A mechanism that was not offered, or used otherwise than it says.
    #[error("SCRAM mechanism that was not offered")]
    Mechanism,
    /// The client does not know the password.
    #[error("wrong password")]
    WrongPassword,
    /// The server does not know the password, or asks for too much work.
    #[error("the server failed to prove itself: {0}")]
    Server(String),
}

// ── as the server ──

/// What is kept of a password to recognize it by.
#[derive(Clone)]
pub struct Verifier {
    salt: [u8; 16],
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(…)")
    }
}

/// What all salts of this process are made of.
#[derive(Clone)]
pub struct Pepper([u8; 32]);

impl std::fmt::Debug for Pepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pepper(…)")
    }
}

impl Pepper {
    /// Thirty-two bytes that nobody else knows.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    fn digest(&self, what: &[u8], user: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(self.0).chain_update(what).chain_update(user).finalize().into()
    }

    fn salt(&self, user: &[u8]) -> [u8; 16] {
        *self.digest(b"salt", user).first_chunk().expect("half of it")
    }

    /// The verifier of a user who exists. This costs about a millisecond, on purpose of the mechanism: keep it.
    #[must_use]
    pub fn verifier(&self, user: &[u8], password: &str) -> Verifier {
        let salt = self.salt(user);
        let salted = gen_salted_password(password, &salt, ITERATIONS);
        match ScramSecret::verifier_from_salted_password(salt.to_vec(), salted, ITERATIONS) {
            ScramSecret::Verifier { stored_key, server_key, .. } => Verifier { salt, stored_key, server_key },
            ScramSecret::SaltedPassword { .. } => self.nobody(user),
        }
    }

    /// The verifier of a user who does not exist: no password fits, and the salt is always the same.
    #[must_use]
    pub fn nobody(&self, user: &[u8]) -> Verifier {
        let stored_key = self.digest(b"stored", user).to_vec();
        let server_key = self.digest(b"server", user).to_vec();
        Verifier { salt: self.salt(user), stored_key, server_key }
    }
}

/// The server's side, before the client has spoken.
#[derive(Debug)]
pub struct Server(ScramServerAuth);

impl Server {
    /// `chain_pem`: the server's certificate, when the connection is TLS. If it can be bound to, that is offered.
    #[must_use]
    pub fn new(chain_pem: Option<&[u8]>) -> Self {
        let plain = ScramServerAuth::new();
        let mut bound = plain.clone();
        match chain_pem.map(|pem| bound.configure_certificate(pem)) {
            Some(Ok(())) => Self(bound),
            // A signature for which the RFC defines no hash, such as Ed25519: nothing to bind to.
            Some(Err(_)) | None => Self(plain),
        }
    }

    /// The mechanisms to offer, best first.
    #[must_use]
    pub fn mechanisms(&self) -> &'static [&'static str] {
        if self.0.supports_channel_binding() { &[PLUS, PLAIN] } else { &[PLAIN] }
    }

    /// Takes the client's first message; gives the answer and what waits for the second.
    ///
    /// # Errors
    /// When the message is malformed, or does not go with the mechanism.
    pub fn first(&self, mechanism: &[u8], data: &[u8], verifier: &Verifier) -> Result<(String, Waiting), ScramError> {
        bounded(data)?;
        let bound = match std::str::from_utf8(mechanism) {
            Ok(PLUS) if self.0.supports_channel_binding() => true,
            Ok(PLAIN) => false,
            _ => return Err(ScramError::Mechanism),
        };
        // Whoever names the bound mechanism must bind, and nobody else may claim to.
        if data.starts_with(b"p=") != bound {
            return Err(ScramError::Mechanism);
        }
        let secret = ScramSecret::Verifier {
            salt: verifier.salt.to_vec(),
            iterations: ITERATIONS,
            stored_key: verifier.stored_key.clone(),
            server_key: verifier.server_key.clone(),
        };
        let (answer, waiting) =
            self.0.on_client_first_message_with_secret(data, secret).map_err(|_| ScramError::Malformed)?;
        Ok((answer, Waiting(waiting)))
    }
}

/// The server's side, waiting for the proof.
#[derive(Debug)]
pub struct Waiting(ScramServerAuthWaitingForClientFinal);

impl Waiting {
    /// Takes the client's proof; gives the server's own.
    ///
    /// # Errors
    /// When the message is malformed, or the password is not the one.
    pub fn finish(self, data: &[u8]) -> Result<String, ScramError> {
        bounded(data)?;
        match self.0.on_client_final_message(data) {
            Ok(answer) => Ok(answer),
            Err(PgWireError::InvalidPassword(_)) => Err(ScramError::WrongPassword),
            Err(_) => Err(ScramError::Malformed),
        }
    }
}

fn bounded(data: &[u8]) -> Result<(), ScramError> {
    if data.len() > MESSAGE_MAX { Err(ScramError::TooLong(data.len())) } else { Ok(()) }
}

// ── as the client ──

/// The client's side.
pub struct Client {
    exchange: ScramSha256,
    mechanism: &'static str,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

impl Client {
    /// Chooses among what the server offers; `None`: there is nothing that is spoken here.
    ///
    /// `end_point` is the hash of the server's certificate, where there is TLS and such a hash.
    #[must_use]
    pub fn choose(offered: &[&[u8]], end_point: Option<Vec<u8>>, password: &str) -> Option<Self> {
        let offers = |name: &str| offered.contains(&name.as_bytes());
        let (mechanism, binding) = match end_point {
            Some(hash) if offers(PLUS) => (PLUS, ChannelBinding::tls_server_end_point(hash)),
            // We could and it does not: said in the exchange, so that nobody between us can have struck it out.
            Some(_) if offers(PLAIN) => (PLAIN, ChannelBinding::unrequested()),
            None if offers(PLAIN) => (PLAIN, ChannelBinding::unsupported()),
            _ => return None,
        };
        Some(Self { exchange: ScramSha256::new(password.as_bytes(), binding), mechanism })
    }

    /// The mechanism's name and first message.
    #[must_use]
    pub fn first(&self) -> (&'static str, &[u8]) {
        (self.mechanism, self.exchange.message())
    }

    /// Takes the server's challenge; gives the proof. This costs what the server asks for, up to a bound: milliseconds.
    ///
    /// # Errors
    /// When the challenge is malformed, too long, or asks for more than 100,000 rounds.
    pub fn answer(&mut self, challenge: &[u8]) -> Result<&[u8], ScramError> {
        bounded(challenge)?;
        self.exchange.update(challenge).map_err(|error| ScramError::Server(error.to_string()))?;
        Ok(self.exchange.message())
    }

    /// Takes the server's own proof.
    ///
    /// # Errors
    /// When the server does not know the password.
    pub fn finish(&mut self, proof: &[u8]) -> Result<(), ScramError> {
        bounded(proof)?;
        self.exchange.finish(proof).map_err(|error| ScramError::Server(error.to_string()))
    }
}

/// The work that guessing costs per guess: the servers' own default.
const ITERATIONS: usize = 4096;
/// The longest message of an exchange, in either direction: as on the servers.
const MESSAGE_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn pepper() -> Pepper {
        Pepper::new([7; 32])
    }

    fn exchange(verifier: &Verifier, password: &str) -> Result<(), ScramError> {
        let mut client = Client::choose(&[PLAIN.as_bytes()], None, password).unwrap();
        let (mechanism, first) = client.first();
        let (challenge, waiting) = Server::new(None).first(mechanism.as_bytes(), first, verifier)?;
        let proof = client.answer(challenge.as_bytes())?.to_vec();
        client.finish(waiting.finish(&proof)?.as_bytes())
    }

    #[test]
    fn the_right_password_is_recognized_and_no_other() {
        let verifier = pepper().verifier(b"ann", "schön, geheim");
        assert_eq!(exchange(&verifier, "schön, geheim"), Ok(()));
        for wrong in ["", "schön", "schön, geheim "] {
            assert_eq!(exchange(&verifier, wrong), Err(ScramError::WrongPassword));
        }
    }

    #[test]
    fn nobody_is_asked_the_same_questions() {
        let (known, unknown) = (pepper().verifier(b"ann", "x"), pepper().nobody(b"eve"));
        assert_eq!(exchange(&unknown, ""), Err(ScramError::WrongPassword));
        assert_eq!(unknown.salt, pepper().nobody(b"eve").salt);
        assert_eq!(known.salt, pepper().nobody(b"ann").salt, "a new user keeps the salt of nobody");
        assert_ne!(unknown.salt, Pepper::new([8; 32]).nobody(b"eve").salt);
        let server = Server::new(None);
        let shapes = [&known, &unknown].map(|it| server.first(PLAIN.as_bytes(), b"n,,n=,r=abc", it).unwrap().0.len());
        assert_eq!(shapes[0], shapes[1]);
    }

    #[test]
    fn a_server_without_the_password_is_found_out() {
        let verifier = pepper().verifier(b"ann", "right");
        let mut client = Client::choose(&[PLAIN.as_bytes()], None, "right").unwrap();
        let (challenge, _) = Server::new(None).first(PLAIN.as_bytes(), client.first().1, &verifier).unwrap();
        client.answer(challenge.as_bytes()).unwrap();
        assert!(client.finish(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").is_err());
    }

    /// T-04: what a hostile server asks for is bounded before it costs anything.
    #[test]
    fn a_hostile_challenge_costs_nothing() {
        let answer = |make: fn(&str) -> String| {
            let mut client = Client::choose(&[PLAIN.as_bytes()], None, "x").unwrap();
            let first = std::str::from_utf8(client.first().1).unwrap();
            // The nonce itself may hold "r=".
            let nonce = first.split_once("r=").unwrap().1.to_owned();
            client.answer(make(&nonce).as_bytes()).map(drop)
        };
        assert_eq!(answer(|nonce| format!("r={nonce}x,s=AAAA,i=4096")), Ok(()));
        assert!(answer(|nonce| format!("r={nonce}{},s=AAAA,i=4096", "x".repeat(10 << 20))).is_err());
        assert!(answer(|nonce| format!("r={nonce}x,s=AAAA,i=2147483648")).is_err());
        assert!(answer(|nonce| format!("r={nonce}x,s=AAAA,i=100001")).is_err());
        assert!(answer(|nonce| format!("r={nonce}x,s=AAAA,i=99999999999999")).is_err());
        assert!(answer(|nonce| format!("r={nonce}x,s=AAAA,i=-1")).is_err());
        assert!(answer(|nonce| format!("r={nonce}x,s=?,i=4096")).is_err());
        assert!(answer(|_| "r=another,s=AAAA,i=4096".to_owned()).is_err());
        assert!(answer(|_| String::new()).is_err());
    }

    /// T-03: every way to cut or bend the client's messages.
    #[test]
    fn hostile_clients_are_refused() {
        let verifier = pepper().verifier(b"ann", "x");
        let server = Server::new(None);
        for (mechanism, data) in [
            (PLAIN, &b""[..]),
            (PLAIN, b"n"),
            (PLAIN, b"n,,"),
            (PLAIN, b"n,,n="),
            (PLAIN, b"n,,n=,x=1"),
            (PLAIN, b"n,,m=1,n=,r=abc"),
            (PLAIN, b"n,a=eve,n=,r=abc"),
            (PLAIN, b"p=tls-server-end-point,,n=,r=abc"),
            (PLUS, b"p=tls-server-end-point,,n=,r=abc"),
            (PLUS, b"n,,n=,r=abc"),
            ("SCRAM-SHA-1", b"n,,n=,r=abc"),
            (PLAIN, b"\xff,,n=,r=abc"),
            (PLAIN, &[b'n'; 1025]),
        ] {
            assert!(server.first(mechanism.as_bytes(), data, &verifier).is_err(), "{data:?}");
        }
        for proof in [&b""[..], b"c=biws", b",p=", b"c=biws,r=abc,p=", b"c=biws,p=AAAA", b"\xff", &[b'c'; 1025]] {
            let (_, waiting) = server.first(PLAIN.as_bytes(), b"n,,n=,r=abc", &verifier).unwrap();
            assert!(waiting.finish(proof).is_err(), "{proof:?}");
        }
    }

    #[test]
    fn a_mechanism_is_chosen_that_both_speak() {
        let hash = || Some(vec![1; 32]);
        let both = [PLUS.as_bytes(), PLAIN.as_bytes()];
        let choose = |offered: &[&[u8]], end_point| {
            Client::choose(offered, end_point, "x").map(|it| {
                let (mechanism, first) = it.first();
                (mechanism, first[..2].to_vec())
            })
        };
        assert_eq!(choose(&both, hash()), Some((PLUS, b"p=".to_vec())));
        assert_eq!(choose(&both, None), Some((PLAIN, b"n,".to_vec())));
        assert_eq!(choose(&[PLAIN.as_bytes()], hash()), Some((PLAIN, b"y,".to_vec())));
        assert_eq!(choose(&[PLUS.as_bytes()], None), None);
        assert_eq!(choose(&[b"OAUTHBEARER"], hash()), None);
    }
}
