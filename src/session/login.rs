//! A new connection → a client who proved who they are, or a request to cancel.
//!
//! What a client's packets mean is computed by [`open`] and [`Request::read`], which do no I/O; [`login`] carries it
//! out. Whoever fails is told so here, and in the same words whether the user exists or not.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::clock::Tick;
use crate::error::ClientError;
use crate::error::Code;
use crate::net;
use crate::net::ListenerTls;
use crate::net::Stream;
use crate::net::TlsError;
use crate::shard_map::Secret;
use crate::shard_map::UserAuth;
use crate::wire::postgres::Violation;
use crate::wire::postgres::backend;
use crate::wire::postgres::backend::Severity;
use crate::wire::postgres::frame;
use crate::wire::postgres::frontend::SaslInitial;
use crate::wire::postgres::frontend::Session;
use crate::wire::postgres::frontend::Startup;
use crate::wire::postgres::scram;
use crate::wire::postgres::scram::Pepper;
use crate::wire::postgres::scram::ScramError;
use crate::wire::postgres::scram::Verifier;

/// What a listener asks of those who come.
#[derive(Debug)]
pub struct Entrance<'a, U: ?Sized> {
    /// TLS, if it is offered.
    pub tls: Option<&'a ListenerTls>,
    /// Whether those who do not take it are turned away.
    pub tls_required: bool,
    /// What passwords are recognized by.
    pub verifiers: &'a Arc<Verifiers>,
    /// Who may come.
    pub users: &'a U,
    /// When patience ends.
    pub deadline: Tick,
}

/// Says how a user proves who they are.
pub trait Users {
    /// `None`: there is no such user for that database.
    fn auth(&self, user: &str, database: &str) -> Option<UserAuth>;
}

impl<F: Fn(&str, &str) -> Option<UserAuth>> Users for F {
    fn auth(&self, user: &str, database: &str) -> Option<UserAuth> {
        self(user, database)
    }
}

/// What came of a connection.
#[derive(Debug)]
pub enum Arrival {
    /// A client, who was told `AuthenticationOk` and nothing after it.
    Client(LoggedIn),
    /// A request to cancel, which gets no answer.
    Cancel {
        /// The process that the client was told.
        pid: u32,
        /// The key that it was told.
        key: Vec<u8>,
    },
}

/// A client who proved who they are.
#[derive(Debug)]
pub struct LoggedIn {
    /// The connection, perhaps in TLS by now.
    pub stream: Stream,
    /// What the client sent already. Read it before the stream.
    pub leftover: BytesMut,
    /// Who it is.
    pub user: String,
    /// The database that they want: not looked at yet.
    pub database: String,
    /// Settings, in the order in which they take effect: those of `options` first.
    pub parameters: Vec<(String, String)>,
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
    Refused(ClientError),
}

impl From<ClientError> for LoginError {
    fn from(error: ClientError) -> Self {
        Self::Refused(error)
    }
}

impl From<Violation> for LoginError {
    fn from(violation: Violation) -> Self {
        Self::Refused(violation.into())
    }
}

// ── what is computed ──

/// What a connection's first packet asks for, as far as the shell must act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It is not whole yet.
    More,
    /// Answer `N` to a request for TLS: go on in clear.
    DeclineTls,
    /// Answer `N` to a request for GSSAPI encryption: go on in clear.
    DeclineGss,
    /// Answer `S` and go over to TLS.
    Encrypt,
    /// A request to cancel.
    Cancel {
        /// The process that the client was told.
        pid: u32,
        /// The key that it was told.
        key: Vec<u8>,
    },
    /// A session.
    Session(Request),
}

/// What the connection is like when a packet comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// TLS can be had.
    pub tls_offered: bool,
    /// TLS must be had.
    pub tls_required: bool,
    /// TLS is had.
    pub in_tls: bool,
    /// TLS was asked for.
    pub tls_asked: bool,
    /// GSSAPI encryption was asked for.
    pub gss_asked: bool,
}

/// What a startup packet asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Who it says it is.
    pub user: String,
    /// The database.
    pub database: String,
    /// Settings, in the order in which they take effect.
    pub parameters: Vec<(String, String)>,
    /// Extensions of the protocol that are not spoken here.
    pub extensions: Vec<Vec<u8>>,
    /// The minor version is newer than what is spoken here.
    pub newer: bool,
}

/// Takes the first packet off `held`.
///
/// # Errors
/// When the packet is malformed, comes at the wrong time, or is followed by what should have waited for an answer.
pub fn open(held: &mut BytesMut, situation: Situation) -> Result<Opening, ClientError> {
    let Some((startup, length)) = Startup::cut(held)? else { return Ok(Opening::More) };
    let followed = held.len() > length;
    let opening = match startup {
        Startup::Tls if situation.in_tls || situation.tls_asked => return Err(repeated("TLS")),
        Startup::Gss if situation.in_tls || situation.gss_asked => return Err(repeated("GSSAPI encryption")),
        // Whoever puts something behind the question hopes that it is read as if it had come encrypted.
        Startup::Tls | Startup::Gss if followed => {
            return Err(ClientError::new(
                Code::ProtocolViolation,
                "data was sent in clear before encryption was agreed on",
                "Wait for the answer to the request for encryption; if the driver does, somebody on the way put it there.",
            ));
        }
        Startup::Tls if situation.tls_offered => Opening::Encrypt,
        Startup::Tls => Opening::DeclineTls,
        Startup::Gss => Opening::DeclineGss,
        Startup::Cancel { pid, key } => Opening::Cancel { pid, key: key.to_vec() },
        Startup::Session(_) if situation.tls_required && !situation.in_tls => {
            return Err(ClientError::new(
                Code::NotAuthorized,
                "connections without TLS are turned away here",
                "Connect with sslmode=require or stronger.",
            ));
        }
        Startup::Session(session) => Opening::Session(Request::read(&session)?),
    };
    held.advance(length);
    Ok(opening)
}

fn repeated(what: &str) -> ClientError {
    ClientError::new(
        Code::ProtocolViolation,
        format_args!("{what} was asked for twice"),
        "The connection ends here; connect again, and look for a fault in the driver.",
    )
}

impl Request {
    /// Reads the parameters of a startup packet.
    ///
    /// # Errors
    /// When a name or value is not text, there is no user, replication is asked for, or `options` cannot be read.
    pub fn read(session: &Session<'_>) -> Result<Self, ClientError> {
        let mut request = Self { newer: session.minor > 0, ..Self::default() };
        let mut options = Vec::new();
        for &(name, value) in &session.parameters {
            if name.starts_with(b"_pq_.") {
                request.extensions.push(name.to_vec());
                continue;
            }
            let name = text(name, "startup parameter's name")?;
            match name {
                // Servers keep it in ASCII, whatever it was: it must never keep anybody out.
                "application_name" => request.parameters.push((name.to_owned(), ascii(value))),
                "user" => request.user = text(value, "user name")?.to_owned(),
                "database" => request.database = text(value, "database name")?.to_owned(),
                "options" => options.extend(settings(text(value, "value of \"options\"")?)?),
                "replication" => replication(value)?,
                _ => {
                    let value = text(value, "startup parameter's value")?;
                    request.parameters.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        if request.user.is_empty() {
            return Err(ClientError::new(
                Code::NotAuthorized,
                "no user name was given at login",
                "Name the user in the connection string.",
            ));
        }
        if request.database.is_empty() {
            request.database.clone_from(&request.user);
        }
        // On a server, what stands in the packet itself overrides what stands in `options`.
        options.append(&mut request.parameters);
        request.parameters = options;
        Ok(request)
    }
}

fn text<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, ClientError> {
    std::str::from_utf8(bytes).map_err(|_| {
        ClientError::new(Code::ProtocolViolation, format_args!("a {what} is not UTF-8"), "Write it in UTF-8.")
    })
}

fn ascii(bytes: &[u8]) -> String {
    bytes.iter().map(|it| if (32..127).contains(it) { char::from(*it) } else { '?' }).collect()
}

fn replication(value: &[u8]) -> Result<(), ClientError> {
    match value.to_ascii_lowercase().as_slice() {
        b"false" | b"off" | b"no" | b"0" => Ok(()),
        _ => Err(ClientError::unsupported(
            "replication connections are not supported",
            "Connect to the shard's server itself to replicate from it.",
        )),
    }
}

/// Reads `options`, which are written as on a server's command line: `-c name=value` and `--name=value`.
///
/// # Errors
/// Another switch, or one without a value.
pub fn settings(options: &str) -> Result<Vec<(String, String)>, ClientError> {
    let mut settings = Vec::new();
    let mut words = words(options).into_iter();
    while let Some(word) = words.next() {
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(setting), _) => setting.to_owned(),
            (None, Some("")) => words.next().unwrap_or_default(),
            (None, Some(setting)) => setting.to_owned(),
            (None, None) => {
                return Err(ClientError::new(
                    Code::InvalidSetting,
                    format_args!("\"{word}\" in the startup options is not supported"),
                    "Write settings as -c name=value or --name=value.",
                ));
            }
        };
        match setting.split_once('=') {
            Some((name, value)) if !name.is_empty() => settings.push((name.replace('-', "_"), value.to_owned())),
            _ => {
                return Err(ClientError::new(
                    Code::InvalidSetting,
                    format_args!("\"{setting}\" in the startup options has no name or no value"),
                    "Write settings as -c name=value or --name=value.",
                ));
            }
        }
    }
    Ok(settings)
}

/// Splits at white space; a backslash takes the next character as it is.
fn words(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

// ── passwords ──

/// What passwords are recognized by, kept because computing it is slow on purpose.
#[derive(Debug)]
pub struct Verifiers {
    pepper: Pepper,
    kept: Mutex<HashMap<String, Vec<(Secret, Verifier)>>>,
}

impl Verifiers {
    /// None are kept yet. `secret` must be random; it makes the salts.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self { pepper: Pepper::new(secret), kept: Mutex::default() }
    }

    /// Computes what is not kept yet: before a map takes effect, so that nobody's first login takes longer than that of
    /// a user who does not exist. Takes about a millisecond each; not for a thread that serves clients.
    pub fn warm<'a>(&self, users: impl IntoIterator<Item = (&'a str, &'a Secret)>) {
        for (user, password) in users {
            self.verifier(user, password);
        }
    }

    fn kept(&self, user: &str, password: &Secret) -> Option<Verifier> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(user)?.iter().find(|it| it.0 == *password).map(|it| it.1.clone())
    }

    fn verifier(&self, user: &str, password: &Secret) -> Verifier {
        if let Some(verifier) = self.kept(user, password) {
            return verifier;
        }
        let verifier = self.pepper.verifier(user.as_bytes(), password.reveal());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = kept.entry(user.to_owned()).or_default();
        // The password as a user, the password in the console, and the ones before a change.
        if of_user.len() >= PER_USER_MAX {
            of_user.remove(0);
        }
        of_user.push((password.clone(), verifier.clone()));
        verifier
    }
}

/// Finds the verifier of a user, known or not; what is slow is done on another thread.
async fn recognize(verifiers: &Arc<Verifiers>, user: &str, password: Option<Secret>) -> Result<Verifier, LoginError> {
    let Some(password) = password else { return Ok(verifiers.pepper.nobody(user.as_bytes())) };
    if let Some(verifier) = verifiers.kept(user, &password) {
        return Ok(verifier);
    }
    let (verifiers, user) = (Arc::clone(verifiers), user.to_owned());
    let work = tokio::task::spawn_blocking(move || verifiers.verifier(&user, &password));
    work.await.map_err(|error| LoginError::Broken(io::Error::other(error)))
}

// ── what is carried out ──

/// Brings a new connection to the end of its login.
///
/// Whoever is refused was told why before this returns. Cancel-safe: the connection is closed, nothing more.
///
/// # Errors
/// See [`LoginError`]. The connection is closed by then.
pub async fn login<U: Users + ?Sized>(stream: Stream, entrance: &Entrance<'_, U>) -> Result<Arrival, LoginError> {
    let mut visitor = Visitor { stream, held: BytesMut::new() };
    let whole = async {
        let request = match visitor.negotiate(entrance).await {
            Ok(Opened::Session(request)) => request,
            Ok(Opened::Cancel { pid, key }) => return Ok(Arrival::Cancel { pid, key }),
            Err(error) => return Err(visitor.turn_away(error).await),
        };
        match visitor.authenticate(&request, entrance).await {
            Ok(()) => {
                let Request { user, database, parameters, .. } = request;
                let Visitor { stream, held: leftover } = visitor;
                Ok(Arrival::Client(LoggedIn { stream, leftover, user, database, parameters }))
            }
            Err(error) => Err(visitor.turn_away(error).await),
        }
    };
    net::before(entrance.deadline, Box::pin(whole)).await.unwrap_or(Err(LoginError::TimedOut))
}

enum Opened {
    Session(Request),
    Cancel { pid: u32, key: Vec<u8> },
}

/// A connection whose client is not known yet.
struct Visitor {
    stream: Stream,
    held: BytesMut,
}

impl Visitor {
    /// Up to the startup packet.
    async fn negotiate<U: ?Sized>(&mut self, entrance: &Entrance<'_, U>) -> Result<Opened, LoginError> {
        let mut situation = Situation {
            tls_offered: entrance.tls.is_some(),
            tls_required: entrance.tls_required,
            ..Situation::default()
        };
        loop {
            // A packet of one kind may come once, so this ends after three rounds.
            match open(&mut self.held, situation)? {
                Opening::More => self.read().await?,
                Opening::DeclineTls => {
                    situation.tls_asked = true;
                    self.send(b"N").await?;
                }
                Opening::DeclineGss => {
                    situation.gss_asked = true;
                    self.send(b"N").await?;
                }
                Opening::Encrypt => {
                    self.send(b"S").await?;
                    let Some(tls) = entrance.tls else { return Err(TlsError::NotTcp.into()) };
                    let (nowhere, _) = Stream::memory(1);
                    let clear = std::mem::replace(&mut self.stream, nowhere);
                    self.stream = clear.accept_tls(&self.held, tls).await?;
                    situation.in_tls = true;
                }
                Opening::Cancel { pid, key } => return Ok(Opened::Cancel { pid, key }),
                Opening::Session(request) => return Ok(Opened::Session(request)),
            }
        }
    }

    /// Up to `AuthenticationOk`.
    async fn authenticate<U: Users + ?Sized>(
        &mut self,
        request: &Request,
        entrance: &Entrance<'_, U>,
    ) -> Result<(), LoginError> {
        let mut out = Vec::with_capacity(128);
        if request.newer || !request.extensions.is_empty() {
            let extensions: Vec<&[u8]> = request.extensions.iter().map(Vec::as_slice).collect();
            backend::negotiate_version(&mut out, 0, &extensions)?;
        }
        let password = match entrance.users.auth(&request.user, &request.database) {
            Some(UserAuth::Trust) => {
                backend::authentication_ok(&mut out);
                return self.send(&out).await;
            }
            Some(UserAuth::Password(secret)) => Some(secret),
            None => None,
        };
        let chain = entrance.tls.filter(|_| self.stream.is_tls()).map(ListenerTls::chain_pem);
        let server = scram::Server::new(chain);
        backend::authentication_sasl(&mut out, server.mechanisms())?;
        self.send(&out).await?;
        out.clear();

        let body = self.answer().await?;
        let initial = SaslInitial::read(&body)?;
        let verifier = recognize(entrance.verifiers, &request.user, password).await?;
        let first = server.first(initial.mechanism, initial.data.unwrap_or_default(), &verifier);
        let (challenge, waiting) = first.map_err(|error| unproven(&error, &request.user))?;
        backend::sasl_continue(&mut out, challenge.as_bytes())?;
        self.send(&out).await?;
        out.clear();

        let body = self.answer().await?;
        let proof = waiting.finish(&body).map_err(|error| unproven(&error, &request.user))?;
        backend::sasl_final(&mut out, proof.as_bytes())?;
        backend::authentication_ok(&mut out);
        self.send(&out).await
    }

    /// The body of the client's next message, which must be an answer to what it was asked.
    async fn answer(&mut self) -> Result<Bytes, LoginError> {
        loop {
            if let Some(head) = frame::head(&self.held, ANSWER_MAX)? {
                if head.kind != b'p' {
                    return Err(Violation::UnknownType { kind: head.kind }.into());
                }
                if self.held.len() >= head.frame() {
                    let mut frame = self.held.split_to(head.frame()).freeze();
                    frame.advance(frame::HEADER);
                    return Ok(frame);
                }
            }
            self.read().await?;
        }
    }

    /// Reads a little more. What is held never exceeds the longest packet by more than this.
    async fn read(&mut self) -> Result<(), LoginError> {
        self.held.reserve(READ);
        match self.stream.read_buf(&mut self.held).await? {
            0 => Err(LoginError::Closed),
            _ => Ok(()),
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), LoginError> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Tells the client why, as far as it can still be told, and hangs up.
    async fn turn_away(&mut self, error: LoginError) -> LoginError {
        if let LoginError::Refused(reason) = &error {
            let mut out = Vec::with_capacity(256);
            backend::error(&mut out, Severity::Fatal, reason);
            // The client may be gone already; the reason goes to the log in any case.
            if self.send(&out).await.is_ok() {
                let _ = self.stream.shutdown().await;
            }
        }
        error
    }
}

fn unproven(error: &ScramError, user: &str) -> ClientError {
    match error {
        ScramError::WrongPassword | ScramError::Server(_) => ClientError::new(
            Code::LoginRefused,
            format_args!("password authentication failed for user \"{user}\""),
            "Check the user and the password against \"users\" in the shard map.",
        ),
        ScramError::Malformed | ScramError::TooLong(_) | ScramError::Mechanism => ClientError::new(
            Code::ProtocolViolation,
            error,
            "Use a driver that speaks SCRAM-SHA-256, and the mechanism that it was offered.",
        ),
    }
}

/// How much is read at a time from somebody who is not known yet.
const READ: usize = 1024;
/// The longest answer during login; the frame layer bounds it further.
const ANSWER_MAX: usize = 2048;
/// How many passwords are kept for one name.
const PER_USER_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::connection::login as server_login;
    use crate::backend::connection::login::OpenError;
    use crate::clock;
    use crate::net::ClientTls;
    use crate::net::testing::Certificate;
    use crate::tasks;
    use crate::wire::postgres::frontend;

    const PASSWORD: &str = "geheim";

    fn soon() -> Tick {
        clock::now().plus(Duration::from_secs(20))
    }

    fn verifiers() -> Arc<Verifiers> {
        Arc::new(Verifiers::new([3; 32]))
    }

    fn users(user: &str, _: &str) -> Option<UserAuth> {
        match user {
            "ann" => Some(UserAuth::Password(Secret::new(PASSWORD))),
            "demo" => Some(UserAuth::Trust),
            _ => None,
        }
    }

    fn packet(parameters: &[(&str, &str)]) -> Vec<u8> {
        let mut out = vec![];
        frontend::startup(&mut out, parameters).unwrap();
        out
    }

    fn read(packet: &[u8]) -> Result<Request, ClientError> {
        match open(&mut packet.into(), Situation::default())? {
            Opening::Session(request) => Ok(request),
            other => panic!("{other:?}"),
        }
    }

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_are_read_as_a_server_reads_its_command_line() {
        for (options, expected) in [
            ("", Some(vec![])),
            ("-c geqo=off", Some(vec![("geqo", "off")])),
            ("-cgeqo=off  --search-path=a,b", Some(vec![("geqo", "off"), ("search_path", "a,b")])),
            (r"-c search_path=a\ b\\c", Some(vec![("search_path", r"a b\c")])),
            ("-c a.b==c", Some(vec![("a.b", "=c")])),
            ("-c x=", Some(vec![("x", "")])),
            ("-c", None),
            ("-c geqo", None),
            ("--geqo", None),
            ("--", None),
            ("-c =x", None),
            ("-B 100", None),
            ("geqo=off", None),
        ] {
            assert_eq!(settings(options).ok(), expected.map(|it| pairs(&it)), "{options}");
        }
    }

    #[test]
    fn a_startup_packet_says_who_and_what() {
        let it = read(&packet(&[
            ("TimeZone", "UTC"),
            ("user", "ann"),
            ("options", "-c geqo=off"),
            ("_pq_.new", "1"),
            ("application_name", "ä"),
            ("replication", "off"),
        ]));
        let expected = Request {
            user: "ann".into(),
            database: "ann".into(),
            parameters: pairs(&[("geqo", "off"), ("TimeZone", "UTC"), ("application_name", "??")]),
            extensions: vec![b"_pq_.new".to_vec()],
            newer: false,
        };
        assert_eq!(it, Ok(expected));
        let it = read(&packet(&[("user", "a"), ("database", ""), ("user", "b'; DROP")])).unwrap();
        assert_eq!((it.user.as_str(), it.database.as_str()), ("b'; DROP", "b'; DROP"));
    }

    #[test]
    fn what_cannot_be_a_session_is_refused() {
        for (parameters, code) in [
            (&[][..], Code::NotAuthorized),
            (&[("user", "")], Code::NotAuthorized),
            (&[("user", "a"), ("replication", "true")], Code::Unsupported),
            (&[("user", "a"), ("replication", "database")], Code::Unsupported),
            (&[("user", "a"), ("options", "-x")], Code::InvalidSetting),
        ] {
            assert_eq!(read(&packet(parameters)).unwrap_err().code, code, "{parameters:?}");
        }
        let mut bytes = packet(&[("user", "ann")]);
        bytes[13] = 0xff;
        assert_eq!(read(&bytes).unwrap_err().code, Code::ProtocolViolation);
    }

    #[test]
    fn first_packets_mean_what_the_situation_allows() {
        let tls = frontend::TLS_REQUEST.to_vec();
        let gss = vec![0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
        let offered = Situation { tls_offered: true, ..Situation::default() };
        let take = |packet: &[u8], situation| open(&mut packet.into(), situation);
        assert_eq!(take(&tls, Situation::default()), Ok(Opening::DeclineTls));
        assert_eq!(take(&tls, offered), Ok(Opening::Encrypt));
        assert_eq!(take(&gss, offered), Ok(Opening::DeclineGss));
        assert_eq!(take(&tls[..7], offered), Ok(Opening::More));
        assert!(take(&tls, Situation { tls_asked: true, ..offered }).is_err());
        assert!(take(&tls, Situation { in_tls: true, ..offered }).is_err());
        assert!(take(&gss, Situation { gss_asked: true, ..offered }).is_err());
        // T-01: nothing may stand behind a request for encryption, whether it is granted or not.
        for request in [&tls, &gss] {
            for situation in [offered, Situation::default()] {
                let stuffed = [&request[..], &packet(&[("user", "eve")])].concat();
                assert_eq!(take(&stuffed, situation).unwrap_err().code, Code::ProtocolViolation);
            }
        }
        let required = Situation { tls_required: true, ..offered };
        let session = packet(&[("user", "ann")]);
        assert_eq!(take(&session, required).unwrap_err().code, Code::NotAuthorized);
        assert!(matches!(take(&session, Situation { in_tls: true, ..required }), Ok(Opening::Session(_))));
        let mut cancel = vec![];
        frontend::cancel_request(&mut cancel, 5, &[1; 32]).unwrap();
        assert_eq!(take(&cancel, required), Ok(Opening::Cancel { pid: 5, key: vec![1; 32] }));
    }

    /// Lets a client that is like a server connection of ours log in over `client`.
    async fn log_in_with(
        streams: (Stream, Stream),
        user: &'static str,
        password: &'static str,
    ) -> (Result<server_login::Opened, OpenError>, Result<Arrival, LoginError>) {
        let (client, server) = streams;
        let ours = async move {
            let verifiers = verifiers();
            let entrance =
                Entrance { tls: None, tls_required: false, verifiers: &verifiers, users: &users, deadline: soon() };
            let mut arrival = login(server, &entrance).await;
            if let Ok(Arrival::Client(it)) = &mut arrival {
                let mut out = vec![];
                backend::parameter_status(&mut out, "server_version", "15").unwrap();
                backend::key_data(&mut out, 9, &[1, 2, 3, 4]).unwrap();
                backend::ready(&mut out, b'I');
                it.stream.write_all(&out).await.unwrap();
            }
            arrival
        };
        let secret = Secret::new(password);
        let request = server_login::Login {
            user,
            password: Some(&secret),
            database: "shop",
            parameters: &[("TimeZone", "UTC")],
            query: "",
        };
        tokio::join!(server_login::open_on(client, &request, soon()), ours)
    }

    #[tokio::test]
    async fn whoever_knows_the_password_comes_in() {
        for (user, password) in [("ann", PASSWORD), ("demo", "")] {
            let (opened, arrival) = log_in_with(Stream::memory(64), user, password).await;
            let opened = opened.unwrap();
            assert_eq!((opened.pid, opened.key), (9, vec![1, 2, 3, 4]));
            assert_eq!(opened.parameters, pairs(&[("server_version", "15")]));
            let Ok(Arrival::Client(it)) = arrival else { panic!() };
            assert_eq!((it.user.as_str(), it.database.as_str()), (user, "shop"));
            assert_eq!(it.parameters, pairs(&[("TimeZone", "UTC")]));
            assert!(it.leftover.is_empty());
        }
    }

    #[tokio::test]
    async fn a_wrong_password_and_an_unknown_user_are_told_the_same() {
        for (user, password) in [("ann", "x"), ("eve", "x"), ("eve", "")] {
            let (opened, arrival) = log_in_with(Stream::memory(64), user, password).await;
            let Err(OpenError::Refused(told)) = opened else { panic!("{opened:?}") };
            let message = format!("password authentication failed for user \"{user}\"");
            let report = told.report().unwrap();
            assert_eq!((report.code(), report.message()), (Some("28P01"), Some(message.as_bytes())));
            assert!(report.is_fatal());
            assert!(matches!(arrival, Err(LoginError::Refused(it)) if it.code == Code::LoginRefused));
        }
    }

    /// Sends `bytes` and gives what comes back until the end.
    async fn answer_to(bytes: Vec<u8>) -> (Vec<u8>, Result<Arrival, LoginError>) {
        let (mut client, server) = Stream::memory(1 << 16);
        client.write_all(&bytes).await.unwrap();
        let verifiers = verifiers();
        let entrance =
            Entrance { tls: None, tls_required: false, verifiers: &verifiers, users: &users, deadline: soon() };
        let told = async {
            let mut told = vec![];
            client.shutdown().await.unwrap();
            client.read_to_end(&mut told).await.unwrap();
            told
        };
        let came = async {
            let mut arrival = login(server, &entrance).await;
            if let Ok(Arrival::Client(it)) = &mut arrival {
                it.stream.shutdown().await.unwrap();
            }
            arrival
        };
        tokio::join!(told, came)
    }

    #[tokio::test]
    async fn a_newer_protocol_is_talked_down_and_what_is_unknown_is_listed() {
        let mut bytes = packet(&[("user", "demo"), ("_pq_.a", "1")]);
        bytes[7] = 2;
        let (told, arrival) = answer_to([&bytes[..], b"Q\0\0\0\x05\0"].concat()).await;
        let expected = [&b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.a\0"[..], b"R\0\0\0\x08\0\0\0\0"].concat();
        assert_eq!(told, expected);
        let Ok(Arrival::Client(it)) = arrival else { panic!() };
        assert_eq!(&it.leftover[..], b"Q\0\0\0\x05\0", "what was sent early is not lost");
    }

    #[tokio::test]
    async fn nothing_but_an_answer_is_taken_before_the_proof() {
        for early in [&b"Q\0\0\0\x0dSELECT 1\0"[..], b"X\0\0\0\x04", b"p\0\0\x10\0", b"p\0\0\0\x05x", b"\0"] {
            let (told, arrival) = answer_to([&packet(&[("user", "ann")]), early].concat()).await;
            assert!(matches!(arrival, Err(LoginError::Refused(_))), "{arrival:?}");
            assert!(told.windows(6).any(|it| it == b"SFATAL"), "{told:?}");
        }
    }

    #[tokio::test]
    async fn who_is_silent_or_leaves_costs_nothing_more() {
        let (_, arrival) = answer_to(vec![0, 0]).await;
        assert!(matches!(arrival, Err(LoginError::Closed)));
        let (_client, server) = Stream::memory(64);
        let verifiers = verifiers();
        let deadline = clock::now().plus(Duration::from_millis(1));
        let entrance = Entrance { tls: None, tls_required: false, verifiers: &verifiers, users: &users, deadline };
        assert!(matches!(login(server, &entrance).await, Err(LoginError::TimedOut)));
    }

    /// A listener of ours with TLS; gives its port and what came of the first connection.
    async fn with_tls(certificate: &Certificate) -> (u16, tokio::task::JoinHandle<Result<Arrival, LoginError>>) {
        let tls = certificate.server();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tasks::shared("listener", async move {
            let verifiers = verifiers();
            let entrance = Entrance {
                tls: Some(&tls),
                tls_required: true,
                verifiers: &verifiers,
                users: &users,
                deadline: soon(),
            };
            let stream = Stream::tcp(listener.accept().await.unwrap().0).unwrap();
            let mut arrival = login(stream, &entrance).await;
            if let Ok(Arrival::Client(it)) = &mut arrival {
                let mut out = vec![];
                backend::ready(&mut out, b'I');
                it.stream.write_all(&out).await.unwrap();
                it.stream.flush().await.unwrap();
            }
            arrival
        });
        (port, task)
    }

    #[tokio::test]
    async fn tls_is_agreed_on_checked_and_bound_to() {
        tls_with(&Certificate::new("localhost"), &Certificate::new("localhost")).await;
        tls_with(&Certificate::authority("localhost"), &Certificate::authority("localhost")).await;
    }

    async fn tls_with(certificate: &Certificate, other: &Certificate) {
        let ca = Some(certificate.path());
        // Both ends can bind to this certificate, so each login below succeeds only if both find the same hash.
        let offered = scram::Server::new(Some(certificate.server().chain_pem()));
        assert_eq!(offered.mechanisms(), [scram::PLUS, scram::PLAIN]);
        for (host, tls, good) in [
            ("localhost", ClientTls::verified(ca), true),
            ("127.0.0.1", ClientTls::verified(ca), false),
            ("127.0.0.1", ClientTls::required(ca), true),
            ("localhost", ClientTls::verified(Some(other.path())), false),
            ("localhost", ClientTls::required(Some(other.path())), false),
            ("localhost", ClientTls::required(None), true),
        ] {
            let (port, task) = with_tls(certificate).await;
            let secret = Secret::new(PASSWORD);
            let request = server_login::Login {
                user: "ann",
                password: Some(&secret),
                database: "shop",
                parameters: &[],
                query: "",
            };
            let opened = server_login::open(host, port, &tls.unwrap(), &request, soon()).await;
            let arrival = task.await.unwrap();
            assert_eq!(opened.is_ok(), good, "{host} {opened:?}");
            if good {
                assert!(matches!(arrival, Ok(Arrival::Client(it)) if it.stream.is_tls()));
                let mut stream = opened.unwrap().stream;
                assert!(stream.is_tls() && stream.server_end_point().is_some());
                stream.readable().await.unwrap();
                assert!(!stream.is_quiet(), "the other end is gone");
            } else {
                assert!(matches!(opened, Err(OpenError::Tls(_))), "{opened:?}");
                assert!(matches!(arrival, Err(LoginError::Tls(_))), "{arrival:?}");
            }
        }
    }

    #[tokio::test]
    async fn nothing_in_clear_reaches_a_session_that_is_encrypted() {
        let certificate = Certificate::new("localhost");
        let (port, task) = with_tls(&certificate).await;
        let mut client = net::connect("127.0.0.1", port, soon()).await.unwrap();
        let stuffed = [&frontend::TLS_REQUEST[..], &packet(&[("user", "demo")])].concat();
        client.write_all(&stuffed).await.unwrap();
        let mut told = vec![];
        client.read_to_end(&mut told).await.unwrap();
        assert_eq!(told.first(), Some(&b'E'), "neither S nor N");
        assert!(matches!(task.await.unwrap(), Err(LoginError::Refused(it)) if it.code == Code::ProtocolViolation));

        // The same in two segments: what comes behind the S is taken for a handshake, which it is not.
        let (port, task) = with_tls(&certificate).await;
        let mut client = net::connect("127.0.0.1", port, soon()).await.unwrap();
        client.write_all(&frontend::TLS_REQUEST).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'S');
        client.write_all(&packet(&[("user", "demo")])).await.unwrap();
        assert!(matches!(task.await.unwrap(), Err(LoginError::Tls(_))));
    }

    #[tokio::test]
    async fn passwords_are_told_apart_by_what_they_are_and_kept() {
        let verifiers = verifiers();
        let (old, new) = (Secret::new("old"), Secret::new("new"));
        verifiers.warm([("ann", &old)]);
        assert!(verifiers.kept("ann", &old).is_some());
        assert!(verifiers.kept("ann", &new).is_none());
        assert!(verifiers.kept("bob", &old).is_none());
        for number in 0..10 {
            verifiers.warm([("ann", &Secret::new(&number.to_string()))]);
        }
        assert_eq!(verifiers.kept.lock().unwrap()["ann"].len(), PER_USER_MAX);
    }
}
