//! An address and a name → a connection to a MySQL or MariaDB server that is ready for its first command.
//!
//! The server is not trusted: every length is bounded, it gets the password itself in TLS only, otherwise encrypted by its
//! key, and what it said in clear behind its greeting is nothing to go on with once TLS has begun.

use std::io;

use bytes::Buf;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use super::password_key;
use crate::clock::Tick;
use crate::net;
use crate::net::ClientTls;
use crate::net::ConnectError;
use crate::net::Stream;
use crate::net::TlsError;
use crate::shard_map::Secret;
use crate::wire::mysql::Violation;
use crate::wire::mysql::auth;
use crate::wire::mysql::auth::sha2_byte;
use crate::wire::mysql::capability;
use crate::wire::mysql::frame;
use crate::wire::mysql::frame::Joiner;
use crate::wire::mysql::handshake::Greeting;
use crate::wire::mysql::handshake::Response;
use crate::wire::mysql::handshake::Switch;
use crate::wire::mysql::result;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::result::First;

/// What is asked of every server; it counts where the server can.
const WANTED: u32 = capability::LONG_PASSWORD
    | capability::LONG_FLAG
    // Whether the client is asked for a file is the session's to decide.
    | capability::LOCAL_FILES
    | capability::PROTOCOL_41
    | capability::TRANSACTIONS
    | capability::SECURE_CONNECTION
    | capability::MULTI_RESULTS
    | capability::PS_MULTI_RESULTS
    | capability::PLUGIN_AUTH
    | capability::PLUGIN_AUTH_LENENC
    | capability::SESSION_TRACK
    | capability::DEPRECATE_EOF;

/// What a server must be able to.
const NEEDED: u32 =
    capability::PROTOCOL_41 | capability::SECURE_CONNECTION | capability::PLUGIN_AUTH | capability::TRANSACTIONS;

/// What may be asked for besides: [`Login::flags`].
pub const FLAGS: u32 = capability::FOUND_ROWS;

/// The longest payload that a server may send while it is logged in to.
const PAYLOAD_MAX: usize = 64 << 10;

/// The longest payload that is said to be taken afterwards: as much as the protocol's settings go up to.
const PACKET_MAX: u32 = 1 << 30;

/// How many proofs a server may ask for. MariaDB tries one kind of proof after another where a user has several.
const PROOFS_MAX: usize = 6;

/// How many columns and rows an answer to our own questions may have.
const CELLS_MAX: usize = 64;

/// Who asks for what.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The user.
    pub user: &'a str,
    /// Their password; `None`: empty.
    pub password: Option<&'a Secret>,
    /// The database to use; empty: none.
    pub database: &'a str,
    /// Of [`FLAGS`].
    pub flags: u32,
    /// The collation to begin with, by its number; it names the character set.
    pub collation: u8,
    /// The statement to run as soon as the server is ready, by what was agreed on with it.
    pub setup: fn(u32) -> &'static str,
    /// A query of one row to ask then; empty: none.
    pub query: &'a str,
}

/// A connection that is ready.
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub stream: Stream,
    /// The server's version.
    pub version: String,
    /// What KILL names the connection by.
    pub thread: u32,
    /// What both sides agreed on.
    pub capabilities: u32,
    /// The server's status.
    pub status: u16,
    /// The cells of the answer to [`Login::query`]; `None` for NULL and for what is not UTF-8.
    pub answer: Vec<Option<String>>,
    /// What came after all that. Read it before the stream.
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
    /// The server says why not: wrong password, no such database, too many connections …
    #[error("{0}")]
    Refused(Failure),
    /// The server asks for a proof that cannot be given, or not without giving the password away.
    #[error("{0}")]
    Unwilling(String),
    /// The server broke the protocol's rules.
    #[error("the server broke the protocol: {0}")]
    Violation(#[from] Violation),
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
    let whole = log_in(stream, Some((tls, host)), login);
    net::before(deadline, Box::pin(whole)).await.unwrap_or(Err(OpenError::TimedOut))
}

/// Logs in over a connection that was made by other means, such as one in memory, without TLS.
///
/// # Errors
/// As [`open`].
pub async fn open_on(stream: Stream, login: &Login<'_>, deadline: Tick) -> Result<Opened, OpenError> {
    net::before(deadline, Box::pin(log_in(stream, None, login))).await.unwrap_or(Err(OpenError::TimedOut))
}

/// Asks a server to stop what another connection of the same user runs there.
///
/// # Errors
/// When the server could not be asked, or knows no such connection.
pub async fn kill_query(
    host: &str,
    port: u16,
    tls: &ClientTls,
    login: &Login<'_>,
    thread: u32,
    deadline: Tick,
) -> Result<(), OpenError> {
    let stream = net::connect(host, port, deadline).await?;
    let statement = format!("KILL QUERY {thread}");
    let login = Login { setup: |_| "", query: &statement, ..*login };
    let whole = log_in(stream, Some((tls, host)), &login);
    net::before(deadline, Box::pin(whole)).await.unwrap_or(Err(OpenError::TimedOut)).map(drop)
}

async fn log_in(stream: Stream, tls: Option<(&ClientTls, &str)>, login: &Login<'_>) -> Result<Opened, OpenError> {
    let mut talk = Talk { stream, held: BytesMut::new(), joiner: Joiner::new(PAYLOAD_MAX), capabilities: 0 };
    let greeting = Greeting::read(&talk.next().await?)?;
    if greeting.capabilities & NEEDED != NEEDED {
        return Err(OpenError::Unwilling("the server is too old: it lacks what MySQL 5.5 has".to_owned()));
    }
    let mut capabilities = greeting.capabilities & (WANTED | (login.flags & FLAGS));
    if !login.database.is_empty() {
        capabilities |= capability::CONNECT_WITH_DB;
    }
    let mut response = Response {
        capabilities,
        packet_max: PACKET_MAX,
        collation: login.collation.into(),
        user: login.user.as_bytes().to_vec(),
        database: Some(login.database.as_bytes().to_vec()).filter(|it| !it.is_empty()),
        ..Response::default()
    };
    if let Some((tls, host)) = tls {
        talk.encrypt(&mut response, &greeting, tls, host).await?;
    }
    talk.capabilities = response.capabilities;

    // Of a kind that is not spoken here the server will hear soon enough, and ask for another.
    let password = login.password.map_or("", Secret::reveal).as_bytes();
    let plugin = if [auth::NATIVE, auth::CACHING_SHA2].contains(&&*greeting.plugin) {
        greeting.plugin.clone()
    } else {
        auth::NATIVE.to_owned()
    };
    response.proof = talk.proof(&plugin, password, &greeting.salt)?;
    response.plugin = plugin.clone().into_bytes();
    talk.send(&response.payload()).await?;
    let done = talk.authenticate(plugin, greeting.salt.to_vec(), password).await?;

    let mut status = done.status;
    let setup = (login.setup)(talk.capabilities);
    if !setup.is_empty() {
        (status, _) = talk.ask(setup).await?;
    }
    let mut answer = Vec::new();
    if !login.query.is_empty() {
        (status, answer) = talk.ask(login.query).await?;
    }
    Ok(Opened {
        stream: talk.stream,
        version: greeting.version,
        thread: greeting.connection,
        capabilities: talk.capabilities,
        status,
        answer,
        leftover: talk.held,
    })
}

/// What is said at login: one payload at a time, each small.
struct Talk {
    stream: Stream,
    held: BytesMut,
    joiner: Joiner,
    capabilities: u32,
}

impl Talk {
    async fn send(&mut self, payload: &[u8]) -> Result<(), OpenError> {
        let mut packet = Vec::with_capacity(payload.len() + frame::HEADER);
        self.joiner.sent(frame::put(&mut packet, self.joiner.sequence(), payload));
        self.stream.write_all(&packet).await.map_err(OpenError::Broken)?;
        self.stream.flush().await.map_err(OpenError::Broken)
    }

    /// The server's next payload; its errors are ours.
    async fn next(&mut self) -> Result<Vec<u8>, OpenError> {
        loop {
            if let Some((used, payload)) = self.joiner.take(&self.held)? {
                let payload = payload.map(|it| it.bytes().to_vec());
                self.held.advance(used);
                match payload {
                    Some(payload) if payload.first() == Some(&0xff) => {
                        return Err(OpenError::Refused(Failure::read(&payload)?));
                    }
                    Some(payload) => return Ok(payload),
                    None => continue,
                }
            }
            self.held.reserve(1024);
            if self.stream.read_buf(&mut self.held).await.map_err(OpenError::Broken)? == 0 {
                return Err(OpenError::Closed);
            }
        }
    }

    /// Goes over to TLS where the map wants it, and notes it in the response.
    async fn encrypt(
        &mut self,
        response: &mut Response,
        greeting: &Greeting,
        tls: &ClientTls,
        host: &str,
    ) -> Result<(), OpenError> {
        // A server that remembers no proof of the user asks for the password, which is better off in TLS.
        let beside =
            greeting.plugin != auth::CACHING_SHA2 && self.stream.peer().is_some_and(|it| it.ip().is_loopback());
        if !tls.is_wanted() || (beside && !tls.is_required()) {
            return Ok(());
        }
        if greeting.capabilities & capability::SSL == 0 {
            return if tls.is_required() { Err(OpenError::NoTls) } else { Ok(()) };
        }
        response.capabilities |= capability::SSL;
        self.send(&response.tls_request()).await?;
        let (nowhere, _) = Stream::memory(1);
        let clear = std::mem::replace(&mut self.stream, nowhere);
        // Anything that came behind the greeting came in clear, and from whomever.
        self.stream = clear.connect_tls(&self.held, &tls.without_alpn(), host).await?;
        Ok(())
    }

    /// The proof of that kind.
    fn proof(&self, plugin: &str, password: &[u8], salt: &[u8]) -> Result<Vec<u8>, OpenError> {
        match plugin {
            auth::NATIVE => Ok(auth::native_proof(password, salt)),
            // Nothing at all would be no answer where one is due.
            auth::CACHING_SHA2 if password.is_empty() => Ok(vec![0]),
            auth::CACHING_SHA2 => Ok(auth::sha2_proof(password, salt)),
            auth::ED25519 if salt.len() < auth::ED25519_SALT => {
                Err(Violation::Body { packet: "authentication switch", why: "has a salt that is too short" }.into())
            }
            auth::ED25519 => Ok(auth::ed25519_proof(password, salt.get(..auth::ED25519_SALT).unwrap_or_default())),
            auth::CLEAR => self.in_clear(password),
            other => {
                Err(OpenError::Unwilling(format!("the server asks for a proof by {other:?}, which is not spoken here")))
            }
        }
    }

    /// The password itself.
    fn in_clear(&self, password: &[u8]) -> Result<Vec<u8>, OpenError> {
        if !self.stream.is_tls() {
            let why = "the server asks for the password itself, which it gets in TLS only: set tls.mode to require or \
                       verify-full, or give the user another way to log in";
            return Err(OpenError::Unwilling(why.to_owned()));
        }
        Ok([password, &[0]].concat())
    }

    /// The password, encrypted by the key that the server shows when it is asked.
    async fn by_its_key(&mut self, password: &[u8], salt: &[u8]) -> Result<Vec<u8>, OpenError> {
        self.send(&[sha2_byte::KEY_WANTED]).await?;
        let shown = self.next().await?;
        let key = shown.strip_prefix(&[1]).ok_or_else(unasked)?;
        let refused = |why| OpenError::Unwilling(format!("the key that the server would have the password in {why}"));
        password_key::encrypted(key, password, salt).map_err(refused)
    }

    /// Answers what the server asks until it is content.
    async fn authenticate(
        &mut self,
        mut plugin: String,
        mut salt: Vec<u8>,
        password: &[u8],
    ) -> Result<Done, OpenError> {
        for _ in 0..PROOFS_MAX {
            let payload = self.next().await?;
            match payload.as_slice() {
                [0, ..] => return Ok(Done::read(&payload, self.capabilities)?),
                [0xfe] => {
                    return Err(OpenError::Unwilling("the server asks for a proof of before MySQL 4.1".to_owned()));
                }
                [0xfe, ..] => {
                    let switch = Switch::read(&payload)?;
                    (plugin, salt) = (switch.plugin, switch.salt);
                    let proof = self.proof(&plugin, password, &salt)?;
                    self.send(&proof).await?;
                }
                [1, byte] if plugin == auth::CACHING_SHA2 => match *byte {
                    sha2_byte::FAST_OK => {}
                    sha2_byte::FULL => {
                        let told = if self.stream.is_tls() {
                            self.in_clear(password)?
                        } else {
                            self.by_its_key(password, &salt).await?
                        };
                        self.send(&told).await?;
                    }
                    _ => return Err(unasked()),
                },
                _ => return Err(unasked()),
            }
        }
        Err(OpenError::Unwilling("the server asks for one proof after another".to_owned()))
    }

    /// Runs a statement with at most one row. The status behind it, and the row's cells.
    async fn ask(&mut self, statement: &str) -> Result<(u16, Vec<Option<String>>), OpenError> {
        self.joiner.restart();
        self.send(&[&[3], statement.as_bytes()].concat()).await?;
        let columns = match First::read(&self.next().await?, self.capabilities)? {
            First::Done(done) => return Ok((done.status, Vec::new())),
            First::Columns(count) if (1..=CELLS_MAX as u64).contains(&count) => usize::try_from(count).unwrap_or(1),
            First::Columns(_) | First::File(_) | First::Failed(_) => return Err(unasked()),
        };
        for _ in 0..columns {
            self.next().await?;
        }
        if self.capabilities & capability::DEPRECATE_EOF == 0 {
            self.next().await?;
        }
        let mut cells = Vec::new();
        for _ in 0..CELLS_MAX {
            let payload = self.next().await?;
            if !result::ends_rows(&payload, self.capabilities) {
                let row = result::text_row(&payload, columns)?;
                cells = row.into_iter().map(|it| it.and_then(|it| String::from_utf8(it.to_vec()).ok())).collect();
                continue;
            }
            let status = if self.capabilities & capability::DEPRECATE_EOF == 0 {
                result::read_end_of_rows(&payload)?.1
            } else {
                Done::read(&payload, self.capabilities)?.status
            };
            return Ok((status, cells));
        }
        Err(unasked())
    }
}

fn unasked() -> OpenError {
    Violation::Body { packet: "login", why: "is not what was asked for" }.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::clock;
    use crate::tasks;
    use crate::wire::mysql::handshake::SALT;
    use crate::wire::mysql::status;

    const PASSWORD: &str = "geheim";
    const SALT_HERE: [u8; SALT] = [7; SALT];
    const OK: [u8; 7] = [0, 0, 0, 2, 0, 0, 0];

    fn soon() -> Tick {
        clock::now().plus(Duration::from_secs(20))
    }

    fn greeting(plugin: &str, besides: u32) -> Vec<u8> {
        let greeting = Greeting {
            version: "8.4.0".into(),
            connection: 9,
            salt: SALT_HERE,
            capabilities: WANTED | capability::CONNECT_WITH_DB | besides,
            collation: 45,
            status: status::AUTOCOMMIT,
            plugin: plugin.into(),
        };
        greeting.payload()
    }

    fn asking<'a>(password: Option<&'a Secret>, query: &'a str) -> Login<'a> {
        Login { user: "ann", password, database: "", flags: 0, collation: 45, setup: |_| "", query }
    }

    /// A server that says one payload after the other, each behind one of the client's. What the client said.
    async fn against(script: Vec<Vec<u8>>, query: &str) -> (Result<Opened, OpenError>, Vec<Vec<u8>>) {
        let (client, server) = Stream::memory(3);
        let password = Secret::new(PASSWORD);
        let login = asking(Some(&password), query);
        let server = async move {
            let mut talk =
                Talk { stream: server, held: BytesMut::new(), joiner: Joiner::new(PAYLOAD_MAX), capabilities: 0 };
            let mut said = Vec::new();
            for (place, payload) in script.into_iter().enumerate() {
                // What a server says behind the end of a proof, or of a row, it says unasked.
                if place > 0 && !payload.starts_with(b"+") {
                    match talk.next().await {
                        Ok(payload) => said.push(payload),
                        Err(_) => return said,
                    }
                }
                let payload = payload.strip_prefix(b"+").unwrap_or(&payload);
                if talk.send(payload).await.is_err() {
                    return said;
                }
            }
            said
        };
        tokio::join!(open_on(client, &login, soon()), server)
    }

    fn switch(plugin: &str, salt: &[u8]) -> Vec<u8> {
        Switch { plugin: plugin.into(), salt: salt.to_vec() }.payload()
    }

    #[tokio::test]
    async fn every_kind_of_proof_is_given() {
        let password = PASSWORD.as_bytes();
        let native = auth::native_proof(password, &SALT_HERE);
        let (opened, said) = against(vec![greeting(auth::NATIVE, 0), OK.to_vec()], "").await;
        let opened = opened.unwrap();
        assert_eq!((opened.thread, &*opened.version, opened.status), (9, "8.4.0", 2));
        let response = Response::read(&said[0]).unwrap();
        assert_eq!((response.proof, &*response.plugin), (native.clone(), auth::NATIVE.as_bytes()));
        assert_eq!(response.capabilities, WANTED);

        let (opened, said) =
            against(vec![greeting(auth::CACHING_SHA2, 0), vec![1, sha2_byte::FAST_OK], [b"+", &OK[..]].concat()], "")
                .await;
        assert!(opened.is_ok(), "{opened:?}");
        assert_eq!(Response::read(&said[0]).unwrap().proof, auth::sha2_proof(password, &SALT_HERE));

        let other = [8; 32];
        for (asked, salt, proof) in [
            (auth::NATIVE, &other[..SALT], auth::native_proof(password, &other[..SALT])),
            (auth::ED25519, &other[..], auth::ed25519_proof(password, &other)),
            (auth::CACHING_SHA2, &other[..SALT], auth::sha2_proof(password, &other[..SALT])),
        ] {
            let (opened, said) = against(vec![greeting("dialog", 0), switch(asked, salt), OK.to_vec()], "").await;
            assert!(opened.is_ok(), "{asked}: {opened:?}");
            let response = Response::read(&said[0]).unwrap();
            assert_eq!((response.proof, &*response.plugin), (native.clone(), auth::NATIVE.as_bytes()));
            assert_eq!(said[1], proof, "{asked}");
        }
    }

    #[tokio::test]
    async fn the_password_itself_is_not_given_in_clear() {
        for script in [
            vec![greeting(auth::NATIVE, 0), switch(auth::CLEAR, &[])],
            vec![greeting(auth::CACHING_SHA2, 0), vec![1, sha2_byte::FULL], b"\x01no key".to_vec()],
            vec![greeting(auth::NATIVE, 0), switch("dialog", &[])],
            vec![greeting(auth::NATIVE, 0), vec![0xfe]],
            [vec![greeting(auth::NATIVE, 0)], vec![switch(auth::NATIVE, &SALT_HERE); PROOFS_MAX + 1]].concat(),
        ] {
            let (opened, said) = against(script, "").await;
            assert!(matches!(opened, Err(OpenError::Unwilling(_))), "{opened:?}");
            assert!(said.iter().all(|it| memchr::memmem::find(it, PASSWORD.as_bytes()).is_none()));
        }
    }

    #[tokio::test]
    async fn what_a_server_refuses_is_told_as_it_said_it() {
        let refused = Failure { number: 1045, sqlstate: "28000".into(), message: "Access denied".into() };
        let full = Failure { number: 1040, sqlstate: "HY000".into(), message: "Too many connections".into() };
        for (script, wanted) in
            [(vec![greeting(auth::NATIVE, 0), refused.payload()], refused), (vec![full.early_payload()], full)]
        {
            let opened = against(script, "").await.0;
            assert!(matches!(&opened, Err(OpenError::Refused(failure)) if *failure == wanted), "{opened:?}");
        }
        assert!(matches!(against(vec![], "").await.0, Err(OpenError::Closed)));
        let opened = against(vec![greeting(auth::NATIVE, 0)], "").await.0;
        assert!(matches!(opened, Err(OpenError::Closed | OpenError::Broken(_))), "{opened:?}");
    }

    #[tokio::test]
    async fn a_query_is_answered_by_one_row() {
        let mut row = Vec::new();
        result::put_text_row(&mut row, [Some(&b"1"[..]), None]);
        let mut script = vec![greeting(auth::NATIVE, 0), OK.to_vec(), result::column_count(2)];
        let column = result::Column::default().payload();
        let end = Done { status: 3, ..Done::default() }.payload(0xfe, WANTED);
        script.extend([&column, &column, &row, &end].map(|it| [b"+", &it[..]].concat()));
        let (client, server) = Stream::memory(1 << 16);
        let password = Secret::new(PASSWORD);
        let server = async move {
            let mut talk =
                Talk { stream: server, held: BytesMut::new(), joiner: Joiner::new(PAYLOAD_MAX), capabilities: 0 };
            for (place, payload) in script.iter().enumerate() {
                if place == 2 {
                    talk.joiner.restart();
                }
                if (1..=2).contains(&place) {
                    talk.next().await.unwrap();
                }
                talk.send(payload.strip_prefix(b"+").unwrap_or(payload)).await.unwrap();
            }
            talk
        };
        let login = asking(Some(&password), "SELECT 1, NULL");
        let (opened, _talk) = tokio::join!(open_on(client, &login, soon()), server);
        let opened = opened.unwrap();
        assert_eq!((opened.answer, opened.status), (vec![Some("1".to_owned()), None], 3));
    }

    #[tokio::test]
    async fn a_hostile_server_is_left() {
        let old = Greeting { capabilities: capability::PROTOCOL_41, ..Greeting::read(&greeting("", 0)).unwrap() };
        for script in [
            vec![b"hello".to_vec()],
            vec![old.payload()],
            vec![greeting(auth::NATIVE, 0), vec![1, 3]],
            vec![greeting(auth::NATIVE, 0), vec![2]],
            vec![greeting(auth::NATIVE, 0), vec![]],
            vec![greeting(auth::CACHING_SHA2, 0), vec![1, 9]],
            vec![greeting(auth::CACHING_SHA2, 0), vec![1, sha2_byte::FULL], b"-----BEGIN".to_vec()],
            vec![greeting(auth::NATIVE, 0), switch(auth::ED25519, &SALT_HERE)],
            vec![vec![b'x'; PAYLOAD_MAX + 1]],
        ] {
            let opened = against(script, "").await.0;
            assert!(matches!(opened, Err(OpenError::Violation(_))), "{opened:?}");
        }
    }

    /// A server that greets and then says `behind` in clear.
    async fn asked_for_tls(capabilities: u32, behind: &'static [u8], tls: &ClientTls) -> Result<Opened, OpenError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tasks::shared("server", async move {
            let mut stream = Stream::tcp(listener.accept().await.unwrap().0).unwrap();
            let mut said = Vec::new();
            frame::put(&mut said, 0, &greeting(auth::NATIVE, capabilities));
            said.extend_from_slice(behind);
            stream.write_all(&said).await.unwrap();
            // Until the other end hangs up.
            let _ = stream.read_to_end(&mut vec![]).await;
        });
        open("127.0.0.1", port, tls, &asking(None, ""), soon()).await
    }

    #[tokio::test]
    async fn bytes_in_clear_behind_the_greeting_end_it() {
        let tls = ClientTls::required(None).unwrap();
        let stuffed = asked_for_tls(capability::SSL, &[7, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0], &tls).await;
        assert!(matches!(stuffed, Err(OpenError::Tls(TlsError::Stuffed))), "{stuffed:?}");
        assert!(matches!(asked_for_tls(0, b"", &tls).await, Err(OpenError::NoTls)));
    }
}
