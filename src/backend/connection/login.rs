//! An address and a name → a connection to a database server that is ready for its first statement.
//!
//! The server is not trusted: every length is bounded, it must prove that it knows the password where the mechanism
//! lets it, and it cannot talk us down to a weaker way of proving ours once a better one was begun.

use std::io;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::clock::Tick;
use crate::net;
use crate::net::ClientTls;
use crate::net::ConnectError;
use crate::net::Stream;
use crate::net::TlsError;
use crate::shard_map::Secret;
use crate::shard_map::ServerTls;
use crate::shard_map::TlsMode;
use crate::wire::postgres::Violation;
use crate::wire::postgres::backend::Authentication;
use crate::wire::postgres::backend::DataRow;
use crate::wire::postgres::backend::Report;
use crate::wire::postgres::backend::cancel_key;
use crate::wire::postgres::backend::parameter;
use crate::wire::postgres::frame::HEADER;
use crate::wire::postgres::frame::Kinds;
use crate::wire::postgres::frame::Scan;
use crate::wire::postgres::frontend;
use crate::wire::postgres::scram;

/// Who asks for what.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The role.
    pub user: &'a str,
    /// Its password; `None` where the server trusts.
    pub password: Option<&'a Secret>,
    /// The database.
    pub database: &'a str,
    /// What else the startup packet says, such as `client_encoding`.
    pub parameters: &'a [(&'a str, &'a str)],
    /// A query of one row to ask as soon as the server is ready; empty: none.
    pub query: &'a str,
}

/// A connection that is ready.
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub stream: Stream,
    /// What the server reported of its settings, in its order.
    pub parameters: Vec<(String, String)>,
    /// The process that serves it.
    pub pid: u32,
    /// The key to cancel what it runs; empty: the server gave none.
    pub key: Vec<u8>,
    /// The cells of the answer to [`Login::query`]; `None` for NULL and for what is not UTF-8.
    pub answer: Vec<Option<String>>,
    /// What came after the server was ready: notices, changed settings. Read it before the stream.
    pub leftover: BytesMut,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The server cannot be reached.
    #[error("cannot connect: {0}")]
    Connect(#[from] ConnectError),
    /// It was reached and was too slow.
    #[error("login did not end in time")]
    TimedOut,
    /// The connection broke.
    #[error("the connection broke during login: {0}")]
    Broken(#[source] io::Error),
    /// The server hung up without a word.
    #[error("the server closed the connection during login")]
    Closed,
    /// TLS is asked for and the server has none.
    #[error("the server does not speak TLS, which the map requires")]
    NoTls,
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server does not believe who we are (class 28).
    #[error("login refused: {0}")]
    Refused(ServerError),
    /// The server has another reason: no such database, too many connections, starting up …
    #[error("{0}")]
    Server(ServerError),
    /// The server asks for a password and the map has none, or for one in a way that would give it away.
    #[error("{0}")]
    Unwilling(&'static str),
    /// The server did not prove itself, or broke the rules of the exchange.
    #[error(transparent)]
    Scram(#[from] scram::ScramError),
    /// The server broke the protocol's rules.
    #[error("the server broke the protocol: {0}")]
    Violation(#[from] Violation),
}

/// An error as the server sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// The body of its `ErrorResponse`, well-formed.
    pub body: Bytes,
}

impl ServerError {
    /// Its fields.
    #[must_use]
    pub fn report(&self) -> Option<Report<'_>> {
        Report::read(&self.body).ok()
    }

    /// Its SQLSTATE, if it has one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.report().and_then(|it| it.code())
    }
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let message = self.report().and_then(|it| it.message()).unwrap_or(b"the server gave no reason");
        write!(f, "{} ({})", message.escape_ascii(), self.code().unwrap_or("no code"))
    }
}

/// What the map says about TLS toward servers, made ready for use. It reads files: not for the path of a statement.
///
/// # Errors
/// When the authorities' file cannot be used.
pub fn tls(map: &ServerTls) -> Result<ClientTls, TlsError> {
    let ca = map.ca.as_deref();
    match map.mode {
        TlsMode::Disable => Ok(ClientTls::disabled()),
        TlsMode::Prefer => ClientTls::preferred(ca),
        TlsMode::Require => ClientTls::required(ca),
        TlsMode::VerifyFull => ClientTls::verified(ca),
    }
}

/// Connects, goes over to TLS, logs in and waits until the server is ready.
///
/// Cancel-safe: what was begun is closed, nothing more.
///
/// # Errors
/// See [`OpenError`]. The connection is closed by then.
pub async fn open(
    host: &str,
    port: u16,
    tls: &ClientTls,
    login: &Login<'_>,
    deadline: Tick,
) -> Result<Opened, OpenError> {
    let stream = net::connect(host, port, deadline).await?;
    let whole = async { log_in(encrypt(stream, tls, host).await?, login).await };
    net::before(deadline, Box::pin(whole)).await.unwrap_or(Err(OpenError::TimedOut))
}

/// Logs in over a connection that was made by other means, such as one in memory.
///
/// # Errors
/// As [`open`].
pub async fn open_on(stream: Stream, login: &Login<'_>, deadline: Tick) -> Result<Opened, OpenError> {
    net::before(deadline, Box::pin(log_in(stream, login))).await.unwrap_or(Err(OpenError::TimedOut))
}

/// Asks a server to cancel what `pid` runs there. The request travels as its session does: never in clear beside TLS.
///
/// It returns when the server has hung up, which it does once the signal was sent.
///
/// # Errors
/// When the server could not be asked. That it was asked does not mean that anything was cancelled.
pub async fn cancel(
    host: &str,
    port: u16,
    tls: &ClientTls,
    pid: u32,
    key: &[u8],
    deadline: Tick,
) -> Result<(), OpenError> {
    let stream = net::connect(host, port, deadline).await?;
    let whole = async {
        let mut stream = encrypt(stream, tls, host).await?;
        let mut request = Vec::with_capacity(16);
        frontend::cancel_request(&mut request, pid, key)?;
        stream.write_all(&request).await.map_err(OpenError::Broken)?;
        stream.flush().await.map_err(OpenError::Broken)?;
        // Some servers reset instead of closing; either way they have read it.
        let _ = stream.read(&mut [0]).await;
        Ok(())
    };
    net::before(deadline, Box::pin(whole)).await.unwrap_or(Err(OpenError::TimedOut))
}

async fn encrypt(mut stream: Stream, tls: &ClientTls, host: &str) -> Result<Stream, OpenError> {
    let beside = stream.peer().is_some_and(|it| it.ip().is_loopback());
    if !tls.is_wanted() || (beside && !tls.is_required()) {
        return Ok(stream);
    }
    stream.write_all(&frontend::TLS_REQUEST).await.map_err(OpenError::Broken)?;
    // More room than the one byte that may come, so that what was put behind it is seen.
    let mut answer = BytesMut::with_capacity(64);
    if stream.read_buf(&mut answer).await.map_err(OpenError::Broken)? == 0 {
        return Err(OpenError::Closed);
    }
    match answer.split_first() {
        Some((b'S', rest)) => Ok(stream.connect_tls(rest, tls, host).await?),
        Some((b'N', [])) if tls.is_required() => Err(OpenError::NoTls),
        Some((b'N', [])) => Ok(stream),
        // An error here comes from whoever sits on the wire, in clear: its text is not worth repeating.
        _ => Err(Violation::Body { message: "answer to a TLS request", why: "is neither S nor N" }.into()),
    }
}

async fn log_in(stream: Stream, login: &Login<'_>) -> Result<Opened, OpenError> {
    let mut talk = Talk::new(stream);
    let mut parameters = vec![("user", login.user), ("database", login.database)];
    parameters.extend_from_slice(login.parameters);
    let mut packet = Vec::with_capacity(256);
    frontend::startup(&mut packet, &parameters)?;
    talk.send(&packet).await?;
    authenticate(&mut talk, login).await?;

    let mut opened = (Vec::new(), 0, Vec::new());
    let mut reported = 0_usize;
    loop {
        let (kind, body) = talk.next().await?;
        match kind {
            b'S' => {
                let (name, value) = parameter(&body)?;
                reported = reported.saturating_add(body.len());
                let texts = (String::from_utf8(name.to_vec()), String::from_utf8(value.to_vec()));
                let ((Ok(name), Ok(value)), true) = (texts, reported <= REPORTED_MAX) else {
                    let why = "is not UTF-8, or one too many";
                    return Err(Violation::Body { message: "ParameterStatus", why }.into());
                };
                opened.0.push((name, value));
            }
            b'K' => {
                let (pid, key) = cancel_key(&body)?;
                (opened.1, opened.2) = (pid, key.to_vec());
            }
            b'Z' if *body == *b"I" => break,
            b'v' => return Err(Violation::Version { major: 3, minor: 0 }.into()),
            kind => return Err(Violation::UnknownType { kind }.into()),
        }
    }
    let (parameters, pid, key) = opened;
    let answer = if login.query.is_empty() { Vec::new() } else { ask(&mut talk, login.query).await? };
    Ok(Opened { stream: talk.stream, parameters, pid, key, answer, leftover: talk.held })
}

/// Asks a query of one row. Its cells.
async fn ask(talk: &mut Talk, query: &str) -> Result<Vec<Option<String>>, OpenError> {
    let mut packet = Vec::with_capacity(query.len() + 6);
    frontend::query(&mut packet, query.as_bytes())?;
    talk.send(&packet).await?;
    let mut cells = Vec::new();
    loop {
        let (kind, body) = talk.next().await?;
        match kind {
            b'D' => {
                let row = DataRow::read(&body)?;
                cells = row.cells().map(|cell| cell.and_then(|it| String::from_utf8(it.to_vec()).ok())).collect();
            }
            b'T' | b'C' | b'S' => {}
            b'Z' if *body == *b"I" => return Ok(cells),
            kind => return Err(Violation::UnknownType { kind }.into()),
        }
    }
}

/// Proves who we are, in the way that the server asks for and that may be answered.
async fn authenticate(talk: &mut Talk, login: &Login<'_>) -> Result<(), OpenError> {
    let (_, body) = talk.authentication().await?;
    let mut answer = Vec::with_capacity(128);
    match Authentication::read(&body)? {
        Authentication::Ok => return Ok(()),
        Authentication::Cleartext if talk.stream.is_tls() => {
            frontend::build_password(&mut answer, password(login)?.as_bytes())?;
        }
        Authentication::Cleartext => {
            return Err(OpenError::Unwilling("the server asks for the password in clear, without TLS"));
        }
        Authentication::Md5 { salt } => {
            let (user, password) = (login.user.as_bytes(), password(login)?.as_bytes());
            let hash = postgres_protocol::authentication::md5_hash(user, password, salt);
            frontend::build_password(&mut answer, hash.as_bytes())?;
        }
        Authentication::Sasl { mechanisms } => {
            let end_point = talk.stream.server_end_point();
            let client = scram::Client::choose(&mechanisms, end_point, password(login)?)
                .ok_or(OpenError::Unwilling("the server offers no SASL mechanism that is spoken here"))?;
            prove(talk, client).await?;
        }
        Authentication::SaslContinue { .. } | Authentication::SaslFinal { .. } => {
            return Err(OpenError::Unwilling("the server continues an exchange that was not begun"));
        }
        Authentication::Other { .. } => {
            return Err(OpenError::Unwilling("the server asks for Kerberos, GSSAPI or SSPI"));
        }
    }
    if !answer.is_empty() {
        talk.send(&answer).await?;
    }
    let (_, body) = talk.authentication().await?;
    match Authentication::read(&body)? {
        Authentication::Ok => Ok(()),
        _ => Err(OpenError::Unwilling("the server asks for a second proof")),
    }
}

/// The SCRAM exchange up to the server's own proof. Only then may it say that all is well.
async fn prove(talk: &mut Talk, mut client: scram::Client) -> Result<(), OpenError> {
    let mut message = Vec::with_capacity(256);
    let (mechanism, first) = client.first();
    frontend::sasl_initial(&mut message, mechanism, first)?;
    talk.send(&message).await?;

    let (_, body) = talk.authentication().await?;
    let Authentication::SaslContinue { data } = Authentication::read(&body)? else {
        return Err(OpenError::Unwilling("the server left the SCRAM exchange"));
    };
    // The rounds that the server asks for take milliseconds: not on the thread that serves clients.
    let challenge = data.to_vec();
    let work = tokio::task::spawn_blocking(move || {
        let proof = client.answer(&challenge).map(<[u8]>::to_vec);
        (client, proof)
    });
    let (mut client, proof) = work.await.map_err(|error| OpenError::Broken(io::Error::other(error)))?;
    message.clear();
    frontend::sasl_response(&mut message, &proof?)?;
    talk.send(&message).await?;

    let (_, body) = talk.authentication().await?;
    let Authentication::SaslFinal { data } = Authentication::read(&body)? else {
        return Err(OpenError::Unwilling("the server left the SCRAM exchange"));
    };
    Ok(client.finish(data)?)
}

fn password<'a>(login: &Login<'a>) -> Result<&'a str, OpenError> {
    match login.password {
        Some(secret) => Ok(secret.reveal()),
        None => Err(OpenError::Unwilling("the server asks for a password and the map has none for this user")),
    }
}

/// What is said at login: one message at a time, each small.
struct Talk {
    stream: Stream,
    held: BytesMut,
    scan: Scan,
}

impl Talk {
    fn new(stream: Stream) -> Self {
        Self { stream, held: BytesMut::new(), scan: Scan::new(Kinds::NONE, Kinds::SERVER, MESSAGE_MAX) }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), OpenError> {
        self.stream.write_all(bytes).await.map_err(OpenError::Broken)?;
        self.stream.flush().await.map_err(OpenError::Broken)
    }

    /// The server's next message that is not a notice; its errors are ours.
    async fn next(&mut self) -> Result<(u8, Bytes), OpenError> {
        loop {
            let mut at = 0;
            if let Some(seen) = self.scan.next(&self.held, &mut at)? {
                let (kind, length) = (seen.kind, seen.length);
                if seen.body.is_none() {
                    return Err(Violation::TooLong { kind, length, limit: MESSAGE_MAX }.into());
                }
                let mut frame = self.held.split_to(at).freeze();
                frame.advance(HEADER);
                match kind {
                    b'N' => {}
                    b'E' => return Err(refusal(frame)),
                    kind => return Ok((kind, frame)),
                }
                continue;
            }
            self.held.reserve(self.scan.missing().clamp(1024, MESSAGE_MAX));
            if self.stream.read_buf(&mut self.held).await.map_err(OpenError::Broken)? == 0 {
                return Err(OpenError::Closed);
            }
        }
    }

    async fn authentication(&mut self) -> Result<(u8, Bytes), OpenError> {
        match self.next().await? {
            (b'R', body) => Ok((b'R', body)),
            (kind, _) => Err(Violation::UnknownType { kind }.into()),
        }
    }
}

fn refusal(body: Bytes) -> OpenError {
    if let Err(violation) = Report::read(&body) {
        return violation.into();
    }
    let error = ServerError { body };
    match error.code() {
        Some(code) if code.starts_with("28") => OpenError::Refused(error),
        _ => OpenError::Server(error),
    }
}

/// The longest message of a login.
const MESSAGE_MAX: usize = 1 << 16;
/// All the settings that a server reports at login, together.
const REPORTED_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::clock;
    use crate::tasks;
    use crate::wire::postgres::backend;
    use crate::wire::postgres::backend::Severity;

    fn soon() -> Tick {
        clock::now().plus(Duration::from_secs(20))
    }

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind][..], &i32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
    }

    fn authentication(code: u32, rest: &[u8]) -> Vec<u8> {
        frame(b'R', &[&code.to_be_bytes(), rest].concat())
    }

    fn ready() -> Vec<u8> {
        let mut out = vec![];
        backend::authentication_ok(&mut out);
        backend::ready(&mut out, b'I');
        out
    }

    /// A server that says `script`, whatever it hears; gives what came of the login and what it heard.
    async fn against(script: Vec<u8>, password: Option<&str>) -> (Result<Opened, OpenError>, Vec<u8>) {
        let (ours, mut server) = Stream::memory(1 << 20);
        server.write_all(&script).await.unwrap();
        server.shutdown().await.unwrap();
        let secret = password.map(Secret::new);
        let login = Login { user: "ann", password: secret.as_ref(), database: "shop", parameters: &[], query: "" };
        let opened = open_on(ours, &login, soon()).await;
        let mut heard = vec![];
        let (opened, stream) = match opened {
            Ok(Opened { stream, parameters, pid, key, answer, leftover }) => {
                let (nowhere, _) = Stream::memory(1);
                (Ok(Opened { stream: nowhere, parameters, pid, key, answer, leftover }), Some(stream))
            }
            Err(error) => (Err(error), None),
        };
        drop(stream);
        server.read_to_end(&mut heard).await.unwrap();
        (opened, heard)
    }

    #[tokio::test]
    async fn what_the_server_reports_is_kept() {
        let mut script = vec![];
        backend::authentication_ok(&mut script);
        backend::parameter_status(&mut script, "TimeZone", "UTC").unwrap();
        backend::notice(&mut script, Severity::Notice, "00000", "hello", None);
        backend::key_data(&mut script, 7, &[1; 32]).unwrap();
        backend::ready(&mut script, b'I');
        backend::parameter_status(&mut script, "TimeZone", "CET").unwrap();
        let (opened, heard) = against(script, None).await;
        let opened = opened.unwrap();
        assert_eq!(opened.parameters, [("TimeZone".to_owned(), "UTC".to_owned())]);
        assert_eq!((opened.pid, opened.key), (7, vec![1; 32]));
        assert_eq!(opened.leftover.first(), Some(&b'S'), "what came after it is kept");
        let mut expected = vec![];
        frontend::startup(&mut expected, &[("user", "ann"), ("database", "shop")]).unwrap();
        assert_eq!(heard, expected);
    }

    #[tokio::test]
    async fn passwords_are_hashed_or_not_told() {
        let script = [authentication(5, &[1, 2, 3, 4]), ready()].concat();
        let (opened, heard) = against(script, Some("geheim")).await;
        assert!(opened.is_ok());
        assert!(heard.ends_with(b"md522a979dc904e2347cdbc3e19805085a1\0"));
        let script = [authentication(3, b""), ready()].concat();
        let (opened, heard) = against(script, Some("geheim")).await;
        assert!(matches!(opened, Err(OpenError::Unwilling(_))));
        assert!(!heard.windows(6).any(|it| it == b"geheim"));
        for code in [5_u32, 10] {
            let rest: &[u8] = if code == 5 { &[0; 4] } else { b"SCRAM-SHA-256\0\0" };
            assert!(matches!(against(authentication(code, rest), None).await.0, Err(OpenError::Unwilling(_))));
        }
    }

    #[tokio::test]
    async fn a_server_cannot_leave_an_exchange_that_it_began() {
        let sasl = authentication(10, b"SCRAM-SHA-256\0\0");
        for next in [
            ready(),
            authentication(3, b""),
            authentication(5, &[0; 4]),
            authentication(12, b"v=AAAA"),
            authentication(11, b"r=x,s=AAAA,i=4096"),
            authentication(11, format!("r={},s=AAAA,i=1", "x".repeat(4000)).as_bytes()),
            authentication(11, b""),
        ] {
            let (opened, heard) = against([sasl.clone(), next].concat(), Some("geheim")).await;
            assert!(matches!(opened, Err(OpenError::Unwilling(_) | OpenError::Scram(_))), "{opened:?}");
            assert!(!heard.windows(6).any(|it| it == b"geheim"));
        }
        for unknown in [&b"OAUTHBEARER\0\0"[..], b"\0", b"SCRAM-SHA-256-PLUS\0\0"] {
            let (opened, _) = against(authentication(10, unknown), Some("geheim")).await;
            assert!(matches!(opened, Err(OpenError::Unwilling(_))), "{opened:?}");
        }
    }

    #[tokio::test]
    async fn refusals_are_told_apart() {
        let (opened, _) = against(frame(b'E', b"SFATAL\0C28P01\0Mno\0\0"), None).await;
        assert!(matches!(&opened, Err(OpenError::Refused(it)) if it.code() == Some("28P01")), "{opened:?}");
        assert_eq!(opened.unwrap_err().to_string(), "login refused: no (28P01)");
        let late = [authentication(0, b""), frame(b'E', b"C3D000\0Mnone\0\0")].concat();
        assert!(matches!(against(late, None).await.0, Err(OpenError::Server(it)) if it.code() == Some("3D000")));
        // T-05: a server's error may lack anything.
        for body in [&b"\0"[..], b"M\0\0", b"SFATAL\0\0"] {
            assert!(matches!(against(frame(b'E', body), None).await.0, Err(OpenError::Server(_))));
        }
        assert!(matches!(against(frame(b'E', b"SFATAL"), None).await.0, Err(OpenError::Violation(_))));
        assert!(matches!(against(vec![], None).await.0, Err(OpenError::Closed)));
    }

    #[tokio::test]
    async fn a_hostile_server_is_left() {
        let many: Vec<u8> = (0..3000).flat_map(|_| frame(b'S', b"aaaaaaaaaaaaaaaa\0bbbbbbbbbbbbbbbbbb\0")).collect();
        for script in [
            vec![b'R', 0x7f, 0xff, 0xff, 0xff],
            vec![b'R', 0, 0, 0, 3],
            frame(b'N', &[b'x'; 1 << 17]),
            frame(b'T', b"\0\0"),
            [authentication(0, b""), many].concat(),
            [authentication(0, b""), frame(b'Z', b"T")].concat(),
            [authentication(0, b""), frame(b'S', b"a\0\xff\0")].concat(),
            [authentication(0, b""), authentication(0, b"")].concat(),
        ] {
            let opened = against(script, None).await.0;
            assert!(matches!(opened, Err(OpenError::Violation(_))), "{opened:?}");
        }
    }

    /// The answer of a server to a request for TLS.
    async fn asked_for_tls(answer: &'static [u8], tls: &ClientTls) -> Result<Opened, OpenError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tasks::shared("server", async move {
            let mut stream = Stream::tcp(listener.accept().await.unwrap().0).unwrap();
            let mut asked = [0; 8];
            stream.read_exact(&mut asked).await.unwrap();
            stream.write_all(answer).await.unwrap();
            // Until the other end hangs up.
            let _ = stream.read_to_end(&mut vec![]).await;
        });
        let login = Login { user: "ann", password: None, database: "shop", parameters: &[], query: "" };
        open("127.0.0.1", port, tls, &login, soon()).await
    }

    #[tokio::test]
    async fn bytes_in_clear_behind_the_answer_end_it() {
        let tls = ClientTls::required(None).unwrap();
        assert!(matches!(asked_for_tls(b"SR\0\0\0\x08\0\0\0\0", &tls).await, Err(OpenError::Tls(TlsError::Stuffed))));
        assert!(matches!(asked_for_tls(b"N", &tls).await, Err(OpenError::NoTls)));
        assert!(matches!(asked_for_tls(b"NR", &tls).await, Err(OpenError::Violation(_))));
        assert!(matches!(asked_for_tls(b"E\0\0\0\x08", &tls).await, Err(OpenError::Violation(_))));
    }
}
