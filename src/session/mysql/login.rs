//! A new connection → a client who proved who they are, in MySQL's protocol.
//!
//! The greeting asks for caching_sha2_password; who comes with another kind of proof is asked for mysql_native_password.
//! The map knows the passwords, so a proof is always looked at itself; the password is asked for in TLS alone, where a
//! server with no memory of the user would ask for it, too. Who is unknown goes the same way with a password that nobody
//! has, and is refused in the same words.

use std::io;
use std::sync::Arc;

use bytes::Buf;
use bytes::BytesMut;
use sha2::Digest;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::clock::Tick;
use crate::exec::mysql::Client;
use crate::net;
use crate::net::ListenerTls;
use crate::net::Stream;
use crate::net::TlsError;
use crate::shard_map::UserAuth;
use crate::wire::mysql::Violation;
use crate::wire::mysql::auth;
use crate::wire::mysql::auth::sha2_byte;
use crate::wire::mysql::capability;
use crate::wire::mysql::compress::Method;
use crate::wire::mysql::frame;
use crate::wire::mysql::frame::Joiner;
use crate::wire::mysql::handshake::Greeting;
use crate::wire::mysql::handshake::Response;
use crate::wire::mysql::handshake::SALT;
use crate::wire::mysql::handshake::Switch;
use crate::wire::mysql::handshake::TLS_REQUEST;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::status;

/// What clients are offered; TLS besides, where the listener has it. With the first flag, which MariaDB uses otherwise,
/// its clients know that there is nothing of MariaDB's own.
pub const OFFERED: u32 = capability::LONG_PASSWORD
    | capability::FOUND_ROWS
    | capability::LONG_FLAG
    | capability::CONNECT_WITH_DB
    | capability::COMPRESS
    | capability::LOCAL_FILES
    | capability::PROTOCOL_41
    | capability::INTERACTIVE
    | capability::TRANSACTIONS
    | capability::SECURE_CONNECTION
    | capability::MULTI_STATEMENTS
    | capability::MULTI_RESULTS
    | capability::PS_MULTI_RESULTS
    | capability::PLUGIN_AUTH
    | capability::CONNECT_ATTRIBUTES
    | capability::PLUGIN_AUTH_LENENC
    | capability::SESSION_TRACK
    | capability::DEPRECATE_EOF
    | capability::ZSTD;

/// utf8mb4_general_ci: what the greeting says of the server's character set.
const COLLATION: u8 = 45;

/// The longest payload of a client that is not in: user, database, proof, and what it tells of itself.
const PAYLOAD_MAX: usize = 64 << 10;

/// How much is read at once, in bytes.
const READ: usize = 1024;

/// What a listener asks of those who come.
pub struct Entrance<'a> {
    /// TLS, if it is offered.
    pub tls: Option<&'a ListenerTls>,
    /// Whether those who do not take it are turned away.
    pub tls_required: bool,
    /// Who may come.
    pub users: &'a dyn Users,
    /// The server's version, by which clients choose dialects: that of the servers behind.
    pub version: &'a str,
    /// What KILL shall name the connection by.
    pub connection: u32,
    /// When patience ends.
    pub deadline: Tick,
}

/// Says how a user proves who they are.
pub trait Users {
    /// `None`: there is no such user. Which databases they may use is the session's to say.
    fn auth(&self, user: &str) -> Option<UserAuth>;
}

impl<F: Fn(&str) -> Option<UserAuth>> Users for F {
    fn auth(&self, user: &str) -> Option<UserAuth> {
        self(user)
    }
}

/// A client who proved who they are, and was not told so yet: an OK packet is due.
#[derive(Debug)]
pub struct Arrival {
    /// The connection, perhaps in TLS by now.
    pub stream: Stream,
    /// What the client sent already. Read it before the stream.
    pub leftover: Vec<u8>,
    /// Who it is.
    pub user: Arc<str>,
    /// The database that they want: not looked at yet.
    pub database: Option<String>,
    /// What both sides agreed on.
    pub capabilities: u32,
    /// The client's collation, by the low byte of its number: it names the character set.
    pub collation: u16,
    /// The longest payload that the client takes, as it says.
    pub packet_max: u32,
    /// What KILL names the connection by.
    pub connection: u32,
    /// What the client tells of itself.
    pub attributes: Vec<(String, String)>,
    /// How what both say is packed from the OK packet on.
    pub compression: Option<Method>,
    /// The number of the OK packet that is due.
    pub sequence: u8,
}

/// Why nobody came in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The client went away, or never spoke: what port scanners and health checks do.
    #[error("the client closed the connection before it had logged in")]
    Closed,
    /// Patience ended.
    #[error("login did not end in time")]
    TimedOut,
    /// The connection broke.
    #[error("the connection broke during login: {0}")]
    Broken(#[from] io::Error),
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The client was told why.
    #[error("{0}")]
    Refused(Failure),
}

impl From<Violation> for LoginError {
    fn from(violation: Violation) -> Self {
        let (number, message) = match violation {
            Violation::OutOfOrder { .. } => (1156, "Got packets out of order"),
            Violation::TooLong { .. } => (1153, "Got a packet bigger than 'max_allowed_packet' bytes"),
            Violation::Body { .. } => (1043, "Bad handshake"),
        };
        Self::Refused(Failure { number, sqlstate: "08S01".to_owned(), message: message.to_owned() })
    }
}

/// What MySQL says of one connection too many: see [`turn_away`].
#[must_use]
pub fn too_many() -> Failure {
    Failure { number: 1040, sqlstate: "08004".to_owned(), message: "Too many connections".to_owned() }
}

/// Tells a client that was not greeted why it is not, and hangs up.
///
/// # Errors
/// The client is gone, or takes nothing until `deadline`.
pub async fn turn_away(mut stream: Stream, reason: &Failure, deadline: Tick) -> io::Result<()> {
    let mut packet = Vec::new();
    frame::put(&mut packet, 0, &reason.early_payload());
    let whole = async {
        stream.write_all(&packet).await?;
        stream.shutdown().await
    };
    net::before(deadline, whole).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

/// Brings a new connection to the end of its login.
///
/// Whoever is refused was told why before this returns. Cancel-safe: the connection is closed, nothing more.
///
/// # Errors
/// See [`LoginError`]. The connection is closed by then.
pub async fn login(stream: Stream, entrance: &Entrance<'_>) -> Result<Arrival, LoginError> {
    let mut visitor = Visitor { stream, held: BytesMut::new(), joiner: Joiner::new(PAYLOAD_MAX) };
    let whole = async {
        match visitor.enter(entrance).await {
            Ok((response, user)) => Ok(visitor.arrived(response, user, entrance.connection)),
            Err(error) => Err(visitor.turn_away(error).await),
        }
    };
    net::before(entrance.deadline, Box::pin(whole)).await.unwrap_or(Err(LoginError::TimedOut))
}

/// Lets a client that is in become another user: what COM_CHANGE_USER asks for, whose payload was read as `request`.
/// The proof in it is not looked at; another is asked for, by a salt that nobody has seen. Who it is now: the OK packet is
/// due.
///
/// # Errors
/// As [`login`]; who is refused was not told yet, and the connection stays as it is.
pub async fn change_user(
    client: &mut Client,
    request: &Response,
    users: &dyn Users,
    deadline: Tick,
) -> Result<Arc<str>, LoginError> {
    net::before(deadline, Box::pin(prove(client, request, None, users))).await.unwrap_or(Err(LoginError::TimedOut))
}

/// Whom a proof is asked of.
trait Talk {
    /// What it says next.
    async fn next(&mut self) -> Result<Vec<u8>, LoginError>;
    /// Tells it something.
    async fn send(&mut self, payload: &[u8]) -> Result<(), LoginError>;
    /// Whether what is said is encrypted.
    fn is_tls(&self) -> bool;
    /// Where it is.
    fn host(&self) -> String;
}

impl Talk for Client {
    async fn next(&mut self) -> Result<Vec<u8>, LoginError> {
        Ok(self.reply().await?)
    }

    async fn send(&mut self, payload: &[u8]) -> Result<(), LoginError> {
        self.put(payload);
        Ok(self.flush().await?)
    }

    fn is_tls(&self) -> bool {
        self.is_tls()
    }

    fn host(&self) -> String {
        self.host()
    }
}

/// A salt. Clients of old take it for text: no zero, and no `$`, which divides what servers keep of passwords.
fn salt() -> [u8; SALT] {
    std::array::from_fn(|_| {
        loop {
            let byte = rand::random::<u8>() & 0x7f;
            if byte != 0 && byte != b'$' {
                return byte;
            }
        }
    })
}

/// A connection whose client is not known yet.
struct Visitor {
    stream: Stream,
    held: BytesMut,
    joiner: Joiner,
}

impl Visitor {
    /// From the greeting to the proof.
    async fn enter(&mut self, entrance: &Entrance<'_>) -> Result<(Response, Arc<str>), LoginError> {
        let salt = salt();
        let greeting = Greeting {
            version: entrance.version.to_owned(),
            connection: entrance.connection,
            salt,
            capabilities: OFFERED | if entrance.tls.is_some() { capability::SSL } else { 0 },
            collation: COLLATION,
            status: status::AUTOCOMMIT,
            plugin: auth::CACHING_SHA2.to_owned(),
        };
        self.send(&greeting.payload()).await?;
        let mut payload = self.next().await?;
        if payload.len() == TLS_REQUEST {
            let Some(tls) = entrance.tls else { return Err(malformed("asks for TLS, which was not offered").into()) };
            let (nowhere, _) = Stream::memory(1);
            let clear = std::mem::replace(&mut self.stream, nowhere);
            // Nothing behind the request was read: it is for TLS to read, and must be the beginning of a handshake.
            self.stream = clear.accept_tls(&self.held, tls).await?;
            payload = self.next().await?;
        } else if entrance.tls_required {
            return Err(LoginError::Refused(Failure {
                number: 3159,
                sqlstate: "HY000".to_owned(),
                message: "Connections using insecure transport are prohibited while --require_secure_transport=ON."
                    .to_owned(),
            }));
        }
        let mut response = Response::read(&payload)?;
        response.capabilities &= greeting.capabilities;
        if Method::agreed(response.capabilities, response.zstd_level).is_err() {
            return Err(malformed("asks for a level of Zstandard that there is not").into());
        }
        let user = prove(self, &response, Some(&salt), entrance.users).await?;
        Ok((response, user))
    }

    fn arrived(self, response: Response, user: Arc<str>, connection: u32) -> Arrival {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Arrival {
            stream: self.stream,
            leftover: self.held.to_vec(),
            user,
            database: response.database.as_deref().map(text),
            capabilities: response.capabilities,
            collation: response.collation,
            packet_max: response.packet_max,
            connection,
            attributes: response.attributes.iter().map(|(name, value)| (text(name), text(value))).collect(),
            // A level that there is not was refused.
            compression: Method::agreed(response.capabilities, response.zstd_level).unwrap_or_default(),
            sequence: self.joiner.sequence(),
        }
    }

    /// Tells the client why, as far as it can still be told, and hangs up.
    async fn turn_away(&mut self, error: LoginError) -> LoginError {
        if let LoginError::Refused(reason) = &error {
            // The client may be gone already; the reason goes to the log in any case.
            if self.send(&reason.payload()).await.is_ok() {
                let _ = self.stream.shutdown().await;
            }
        }
        error
    }
}

impl Talk for Visitor {
    /// Nothing behind it is read: clients that ask for TLS begin with it at once.
    async fn next(&mut self) -> Result<Vec<u8>, LoginError> {
        loop {
            if let Some((used, payload)) = self.joiner.take(&self.held)? {
                let payload = payload.map(|it| it.bytes().to_vec());
                self.held.advance(used);
                if let Some(payload) = payload {
                    return Ok(payload);
                }
            } else {
                let whole = match *self.held {
                    [a, b, c, _, ..] => frame::HEADER + usize::from(a) + (usize::from(b) << 8) + (usize::from(c) << 16),
                    _ => frame::HEADER,
                };
                let missing = whole.saturating_sub(self.held.len());
                self.held.reserve(missing.min(READ));
                let limit = u64::try_from(missing).unwrap_or(u64::MAX);
                if (&mut self.stream).take(limit).read_buf(&mut self.held).await? == 0 {
                    return Err(LoginError::Closed);
                }
            }
        }
    }

    async fn send(&mut self, payload: &[u8]) -> Result<(), LoginError> {
        let mut packet = Vec::with_capacity(frame::HEADER + payload.len());
        self.joiner.sent(frame::put(&mut packet, self.joiner.sequence(), payload));
        self.stream.write_all(&packet).await?;
        Ok(self.stream.flush().await?)
    }

    fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    fn host(&self) -> String {
        self.stream.peer().map_or_else(|| "localhost".to_owned(), |it| it.ip().to_canonical().to_string())
    }
}

/// Asks for a proof and looks at it. `greeted`: the salt by which the response's own proof was made.
async fn prove(
    talk: &mut impl Talk,
    response: &Response,
    greeted: Option<&[u8; SALT]>,
    users: &dyn Users,
) -> Result<Arc<str>, LoginError> {
    let user = String::from_utf8_lossy(&response.user);
    // Who is believed anyway is asked all the same: clients wait for what they know.
    let password = match users.auth(&user) {
        Some(UserAuth::Trust) => None,
        Some(UserAuth::Password(secret)) => Some(secret.reveal().as_bytes().to_vec()),
        None => Some(rand::random::<[u8; 32]>().to_vec()),
    };
    let names_plugins = response.capabilities & capability::PLUGIN_AUTH != 0;
    let (mut proof, mut used) = (response.proof.clone(), greeted.copied().unwrap_or_default());
    let mut kind = Kind::of(&response.plugin, names_plugins);
    // A client that would prove itself otherwise than the greeting asks has kept its proof back, or knows neither.
    let kept_back = kind != Some(Kind::Sha2) && (kind.is_none() || proof.is_empty());
    if greeted.is_none() && !names_plugins {
        return Err(LoginError::Refused(Failure {
            number: 1251,
            sqlstate: "08004".to_owned(),
            message: "Client does not support authentication protocol requested by server; consider upgrading \
                      MySQL client"
                .to_owned(),
        }));
    }
    if greeted.is_none() || (kept_back && names_plugins) {
        let asked = kind.unwrap_or(Kind::Native);
        used = salt();
        let switch = Switch { plugin: asked.name().to_owned(), salt: used.to_vec() };
        talk.send(&switch.payload()).await?;
        (proof, kind) = (talk.next().await?, Some(asked));
    }
    let kind = kind.unwrap_or(Kind::Native);
    // A client that must answer something and has no password says a zero.
    let empty = matches!(proof.as_slice(), [] | [0]);
    let right = match (kind, &password) {
        (_, Some(password)) if empty => password.is_empty(),
        (Kind::Native, Some(password)) => auth::native_is_right(&proof, &used, &auth::native_stored(password)),
        (Kind::Sha2, Some(password)) => prove_by_sha2(talk, &proof, &used, password).await?,
        (Kind::Sha2, None) if !empty => {
            talk.send(&[1, sha2_byte::FAST_OK]).await?;
            true
        }
        (_, None) => true,
    };
    if right { Ok(user.into()) } else { Err(denied(&talk.host(), &user, !empty)) }
}

async fn prove_by_sha2(talk: &mut impl Talk, proof: &[u8], salt: &[u8], password: &[u8]) -> Result<bool, LoginError> {
    if auth::sha2_is_right(proof, salt, &auth::sha2_stored(password)) {
        talk.send(&[1, sha2_byte::FAST_OK]).await?;
        return Ok(true);
    }
    // Without TLS there is no other way: no key is kept here to encrypt a password with.
    if !talk.is_tls() {
        return Ok(false);
    }
    talk.send(&[1, sha2_byte::FULL]).await?;
    let told = talk.next().await?;
    let told = told.strip_suffix(&[0]).unwrap_or(&told);
    Ok(Sha256::digest(told).ct_eq(&Sha256::digest(password)).into())
}

/// What everybody is told who is not let in.
fn denied(host: &str, user: &str, with_password: bool) -> LoginError {
    let with = if with_password { "YES" } else { "NO" };
    LoginError::Refused(Failure {
        number: 1045,
        sqlstate: "28000".to_owned(),
        message: format!("Access denied for user '{user}'@'{host}' (using password: {with})"),
    })
}

/// A kind of proof that is looked at here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Native,
    Sha2,
}

impl Kind {
    /// That of a client's response; clients that do not name kinds know the older one.
    fn of(plugin: &[u8], named: bool) -> Option<Self> {
        match plugin {
            _ if !named => Some(Self::Native),
            _ if plugin == auth::NATIVE.as_bytes() => Some(Self::Native),
            _ if plugin == auth::CACHING_SHA2.as_bytes() => Some(Self::Sha2),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Native => auth::NATIVE,
            Self::Sha2 => auth::CACHING_SHA2,
        }
    }
}

fn malformed(why: &'static str) -> Violation {
    Violation::Body { packet: "handshake response", why }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::mysql::login as server_login;
    use crate::backend::mysql::login::OpenError;
    use crate::clock;
    use crate::net::ClientTls;
    use crate::net::testing::Certificate;
    use crate::shard_map::Secret;
    use crate::tasks;
    use crate::wire::mysql::result::Done;
    use crate::wire::mysql::result::First;

    const PASSWORD: &str = "geheim";
    const VERSION: &str = "5.5.5-10.11.6-MariaDB";

    fn soon() -> Tick {
        clock::now().plus(Duration::from_secs(20))
    }

    fn users(user: &str) -> Option<UserAuth> {
        match user {
            "ann" => Some(UserAuth::Password(Secret::new(PASSWORD))),
            "void" => Some(UserAuth::Password(Secret::new(""))),
            "demo" => Some(UserAuth::Trust),
            _ => None,
        }
    }

    fn entrance(tls: Option<&ListenerTls>) -> Entrance<'_> {
        Entrance { tls, tls_required: false, users: &users, version: VERSION, connection: 77, deadline: soon() }
    }

    /// Logs in, and says OK to whom comes in.
    async fn serve(stream: Stream, entrance: &Entrance<'_>) -> Result<Arrival, LoginError> {
        let mut arrival = login(stream, entrance).await?;
        let done = Done { status: status::AUTOCOMMIT, ..Done::default() };
        let mut packet = Vec::new();
        frame::put(&mut packet, arrival.sequence, &done.payload(0, arrival.capabilities));
        arrival.stream.write_all(&packet).await?;
        arrival.stream.flush().await?;
        Ok(arrival)
    }

    fn asking<'a>(user: &'a str, password: Option<&'a Secret>) -> server_login::Login<'a> {
        server_login::Login {
            user,
            password,
            database: "shop",
            flags: capability::FOUND_ROWS,
            collation: 45,
            setup: |_| "",
            query: "",
        }
    }

    /// What a client reads and says, packet by packet.
    struct Caller {
        visitor: Visitor,
        greeting: Greeting,
    }

    impl Caller {
        async fn new(stream: Stream) -> Self {
            let mut visitor = Visitor { stream, held: BytesMut::new(), joiner: Joiner::new(PAYLOAD_MAX) };
            let greeting = Greeting::read(&visitor.next().await.unwrap()).unwrap();
            Self { visitor, greeting }
        }

        async fn respond(&mut self, user: &str, plugin: &str, proof: Vec<u8>, without: u32) {
            let response = Response {
                zstd_level: 3,
                capabilities: OFFERED & !without,
                collation: 8,
                packet_max: 1 << 20,
                user: user.into(),
                proof,
                plugin: plugin.into(),
                attributes: vec![(b"program_name".to_vec(), b"mysql".to_vec())],
                ..Response::default()
            };
            self.visitor.send(&response.payload()).await.unwrap();
        }

        async fn told(&mut self) -> Vec<u8> {
            self.visitor.next().await.unwrap()
        }
    }

    fn refusal(payload: &[u8]) -> String {
        match First::read(payload, OFFERED).unwrap() {
            First::Failed(failure) => failure.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn both_logins_agree_in_pieces_of_any_size() {
        let (right, wrong, none) = (Secret::new(PASSWORD), Secret::new("other"), Secret::new(""));
        for held in [1, 2, 3, 7, 64, 4096] {
            for (user, password, comes_in) in [
                ("ann", Some(&right), true),
                ("demo", Some(&wrong), true),
                ("demo", None, true),
                ("void", None, true),
                ("void", Some(&none), true),
                ("void", Some(&right), false),
                ("ann", Some(&wrong), false),
                ("ann", None, false),
                ("eve", Some(&right), false),
                ("eve", None, false),
            ] {
                let (client, server) = Stream::memory(held);
                let entrance = entrance(None);
                let login = asking(user, password);
                let (opened, arrival) =
                    tokio::join!(server_login::open_on(client, &login, soon()), serve(server, &entrance));
                if comes_in {
                    let (opened, arrival) = (opened.unwrap(), arrival.unwrap());
                    assert_eq!((opened.thread, &*opened.version, opened.status), (77, VERSION, 2));
                    assert_eq!((&*arrival.user, arrival.database.as_deref()), (user, Some("shop")));
                    assert_eq!(arrival.capabilities, opened.capabilities);
                    assert!(opened.capabilities & capability::FOUND_ROWS != 0);
                    assert!(opened.leftover.is_empty() && arrival.leftover.is_empty());
                    assert_eq!(arrival.collation, 45);
                } else {
                    let with = if password.is_some() { "YES" } else { "NO" };
                    let words = format!("Access denied for user '{user}'@'localhost' (using password: {with})");
                    let Err(OpenError::Refused(failure)) = opened else { panic!("{opened:?}") };
                    assert_eq!((failure.number, &*failure.sqlstate, failure.message), (1045, "28000", words));
                    assert!(matches!(arrival, Err(LoginError::Refused(_))));
                }
            }
        }
    }

    #[tokio::test]
    async fn clients_of_other_kinds_are_asked_again() {
        let named = 0;
        let nameless = capability::PLUGIN_AUTH | capability::PLUGIN_AUTH_LENENC;
        for (plugin, password, without, keeps_back, switches, comes_in) in [
            (auth::NATIVE, PASSWORD, named, false, false, true),
            (auth::NATIVE, PASSWORD, named, true, true, true),
            (auth::NATIVE, "other", named, false, false, false),
            (auth::NATIVE, "other", named, true, true, false),
            ("", PASSWORD, nameless, false, false, true),
            ("", "other", nameless, false, false, false),
            ("", "", nameless, false, false, false),
            ("dialog", PASSWORD, named, true, true, true),
            ("dialog", PASSWORD, named, false, true, true),
            ("dialog", "", named, false, true, false),
            (auth::CACHING_SHA2, PASSWORD, named, false, false, true),
            (auth::CACHING_SHA2, PASSWORD, named, true, false, false),
            (auth::CACHING_SHA2, "other", named, false, false, false),
        ] {
            let (client, server) = Stream::memory(4096);
            let client = async {
                let mut caller = Caller::new(client).await;
                let salt = caller.greeting.salt;
                let proof = match plugin {
                    _ if keeps_back => Vec::new(),
                    auth::CACHING_SHA2 => auth::sha2_proof(password.as_bytes(), &salt),
                    "dialog" => b"whatever".to_vec(),
                    _ => auth::native_proof(password.as_bytes(), &salt),
                };
                caller.respond("ann", plugin, proof, without).await;
                let mut told = caller.told().await;
                if switches {
                    let switch = Switch::read(&told).unwrap();
                    assert_eq!(switch.plugin, auth::NATIVE);
                    assert_ne!(switch.salt, salt);
                    caller.visitor.send(&auth::native_proof(password.as_bytes(), &switch.salt)).await.unwrap();
                    told = caller.told().await;
                }
                if told == [1, sha2_byte::FAST_OK] {
                    told = caller.told().await;
                }
                told
            };
            let entrance = entrance(None);
            let (told, arrival) = tokio::join!(client, serve(server, &entrance));
            if comes_in {
                assert!(matches!(First::read(&told, OFFERED), Ok(First::Done(_))), "{plugin}");
                let attributes = arrival.unwrap().attributes;
                assert_eq!(attributes, [("program_name".to_owned(), "mysql".to_owned())]);
            } else {
                assert!(refusal(&told).starts_with("Access denied for user 'ann'@'localhost'"), "{plugin}");
            }
        }
    }

    #[tokio::test]
    async fn another_user_is_proven_by_a_new_salt() {
        for (user, password, comes_in) in
            [("ann", PASSWORD, true), ("ann", "other", false), ("eve", PASSWORD, false), ("demo", "any", true)]
        {
            let (client, server) = Stream::memory(4096);
            let request = Response {
                zstd_level: 3,
                capabilities: OFFERED,
                user: user.into(),
                plugin: auth::CACHING_SHA2.into(),
                ..Response::default()
            };
            let visitor = async {
                let mut visitor = Visitor { stream: client, held: BytesMut::new(), joiner: Joiner::new(PAYLOAD_MAX) };
                visitor.joiner.sent(1);
                let switch = Switch::read(&visitor.next().await.unwrap()).unwrap();
                assert_eq!(switch.plugin, auth::CACHING_SHA2);
                visitor.send(&auth::sha2_proof(password.as_bytes(), &switch.salt)).await.unwrap();
                let told = visitor.next().await.unwrap();
                assert_eq!(told == [1, sha2_byte::FAST_OK], comes_in);
            };
            let mut client = Client::new(server, &[], OFFERED, 1, PAYLOAD_MAX);
            let asked = async {
                let arrival = change_user(&mut client, &request, &users, soon()).await;
                if let Err(LoginError::Refused(failure)) = &arrival {
                    client.put_failure(failure);
                    client.flush().await.unwrap();
                }
                arrival
            };
            let (arrival, ()) = tokio::join!(asked, visitor);
            assert_eq!(arrival.is_ok(), comes_in, "{user}");
        }
    }

    #[tokio::test]
    async fn what_is_no_login_is_told_so() {
        let long = vec![b'x'; PAYLOAD_MAX + 1];
        for (sequence, payload, words) in [
            (1, &b"hello"[..], "Bad handshake"),
            (1, &[0; TLS_REQUEST], "Bad handshake"),
            (2, b"hello", "Got packets out of order"),
            (1, &long, "Got a packet bigger"),
        ] {
            let (client, server) = Stream::memory(1 << 20);
            let client = async {
                let mut caller = Caller::new(client).await;
                caller.visitor.joiner.sent(sequence);
                caller.visitor.send(payload).await.unwrap();
                // The answer is numbered by what the server has seen.
                let mut told = Vec::new();
                caller.visitor.stream.read_to_end(&mut told).await.unwrap();
                refusal(&told[frame::HEADER..])
            };
            let entrance = entrance(None);
            let (told, arrival) = tokio::join!(client, login(server, &entrance));
            assert!(told.starts_with(words), "{told}");
            assert!(matches!(arrival, Err(LoginError::Refused(_))));
        }
        let (client, server) = Stream::memory(1 << 10);
        turn_away(server, &too_many(), soon()).await.unwrap();
        let opened = server_login::open_on(client, &asking("ann", None), soon()).await;
        assert!(matches!(opened, Err(OpenError::Refused(failure)) if failure.number == 1040));
    }

    #[tokio::test]
    async fn patience_ends() {
        let (mut client, server) = Stream::memory(1 << 10);
        let entrance = Entrance { deadline: clock::now().plus(Duration::from_millis(20)), ..entrance(None) };
        assert!(matches!(login(server, &entrance).await, Err(LoginError::TimedOut)));
        client.read_to_end(&mut Vec::new()).await.unwrap();
    }

    #[test]
    fn salts_are_text() {
        let salts: Vec<_> = (0..1000).map(|_| salt()).collect();
        assert!(salts.iter().flatten().all(|it| (1..=0x7f).contains(it) && *it != b'$'));
        assert_ne!(salts[0], salts[1]);
    }

    // ── in TLS ──

    type Task = tokio::task::JoinHandle<Result<Arrival, LoginError>>;

    async fn with_tls(certificate: &Certificate, tls_required: bool) -> (u16, Task) {
        let tls = certificate.server();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // The users are asked by reference, which does not go to other threads.
        let task = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let stream = Stream::tcp(listener.accept().await.unwrap().0).unwrap();
                serve(stream, &Entrance { tls_required, ..entrance(Some(&tls)) }).await
            })
        });
        (port, task)
    }

    #[tokio::test]
    async fn a_login_in_tls_goes_through_with_the_right_certificate_only() {
        let certificate = Certificate::new("localhost");
        let other = Certificate::new("localhost");
        let password = Secret::new(PASSWORD);
        for (tls, comes_in) in [
            (ClientTls::verified(Some(certificate.path())).unwrap(), true),
            (ClientTls::required(None).unwrap(), true),
            (ClientTls::verified(Some(other.path())).unwrap(), false),
        ] {
            let (port, task) = with_tls(&certificate, true).await;
            let login = asking("ann", Some(&password));
            let opened = server_login::open("localhost", port, &tls, &login, soon()).await;
            let arrival = task.await.unwrap();
            if comes_in {
                let (opened, arrival) = (opened.unwrap(), arrival.unwrap());
                assert!(opened.stream.is_tls() && arrival.stream.is_tls());
                assert!(arrival.capabilities & capability::SSL != 0);
            } else {
                assert!(matches!(opened, Err(OpenError::Tls(_))), "{opened:?}");
                assert!(matches!(arrival, Err(LoginError::Tls(_))), "{arrival:?}");
            }
        }
        let (port, task) = with_tls(&certificate, true).await;
        let login = asking("ann", Some(&password));
        let opened = server_login::open("localhost", port, &ClientTls::disabled(), &login, soon()).await;
        assert!(matches!(opened, Err(OpenError::Refused(failure)) if failure.number == 3159));
        assert!(task.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn the_password_itself_is_asked_for_in_tls() {
        let certificate = Certificate::new("localhost");
        for (told, comes_in) in [(PASSWORD, true), ("other", false)] {
            let (port, task) = with_tls(&certificate, false).await;
            let mut caller = Caller::new(net::connect("127.0.0.1", port, soon()).await.unwrap()).await;
            let request = Response { capabilities: OFFERED | capability::SSL, zstd_level: 3, ..Response::default() };
            caller.visitor.send(&request.tls_request()).await.unwrap();
            let (nowhere, _) = Stream::memory(1);
            let clear = std::mem::replace(&mut caller.visitor.stream, nowhere);
            let tls = ClientTls::required(None).unwrap().without_alpn();
            caller.visitor.stream = clear.connect_tls(&[], &tls, "localhost").await.unwrap();
            caller.respond("ann", auth::CACHING_SHA2, vec![9; 32], 0).await;
            assert_eq!(caller.told().await, [1, sha2_byte::FULL]);
            caller.visitor.send(&[told.as_bytes(), &[0]].concat()).await.unwrap();
            let end = caller.told().await;
            if comes_in {
                assert_eq!(end.first(), Some(&0));
            } else {
                assert!(refusal(&end).contains("using password: YES"));
            }
            assert_eq!(task.await.unwrap().is_ok(), comes_in);
        }
    }

    #[tokio::test]
    async fn nothing_in_clear_reaches_a_session_that_is_encrypted() {
        let certificate = Certificate::new("localhost");
        let (port, task) = with_tls(&certificate, false).await;
        let mut caller = Caller::new(net::connect("127.0.0.1", port, soon()).await.unwrap()).await;
        let request = Response {
            capabilities: OFFERED | capability::SSL,
            user: b"demo".to_vec(),
            zstd_level: 3,
            ..Response::default()
        };
        let mut stuffed = Vec::new();
        let next = frame::put(&mut stuffed, 1, &request.tls_request());
        frame::put(&mut stuffed, next, &request.payload());
        caller.visitor.stream.write_all(&stuffed).await.unwrap();
        let mut told = Vec::new();
        // Dropped with bytes unread: the end may be a reset.
        let _ = caller.visitor.stream.read_to_end(&mut told).await;
        assert!(matches!(told.first(), None | Some(0x15)), "nothing but an alert of TLS: {told:?}");
        assert!(matches!(task.await.unwrap(), Err(LoginError::Tls(_))));

        // The same in two segments: what comes behind is taken for a handshake, which it is not.
        let (port, task) = with_tls(&certificate, false).await;
        let mut caller = Caller::new(net::connect("127.0.0.1", port, soon()).await.unwrap()).await;
        caller.visitor.send(&request.tls_request()).await.unwrap();
        tasks::shared("second", async move {
            let _ = caller.visitor.send(&request.payload()).await;
            let _ = caller.visitor.stream.read_to_end(&mut Vec::new()).await;
        });
        assert!(matches!(task.await.unwrap(), Err(LoginError::Tls(_))));
    }
}
