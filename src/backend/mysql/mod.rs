//! One connection to a MySQL or MariaDB server, and the packets that arrive on it.
//!
//! A connection gives packets as they come, whatever command they answer: who reads them knows what was asked. It
//! watches that they are numbered as answers are, so that one side never takes a row for the beginning of an answer.

pub mod login;
mod password_key;
pub mod prepared;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use tokio::io::AsyncWrite;

use crate::backend::Seat;
use crate::backend::Settings;
use crate::backend::mysql::prepared::Prepared;
use crate::backend::pool;
use crate::backend::pool::PoolKey;
use crate::backend::pool::Pooled;
use crate::backend::pool::Recipe;
use crate::clock;
use crate::clock::Tick;
use crate::net;
use crate::net::ClientTls;
use crate::net::Inbox;
use crate::net::Stream;
use crate::shard_map::ServerLogin;
use crate::wire::mysql::Violation;
use crate::wire::mysql::capability;
use crate::wire::mysql::frame;
use crate::wire::mysql::frame::HEADER;
use crate::wire::mysql::frame::Packet;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::result::First;

/// All pools of MySQL's connections.
pub type Pools = pool::Pools<Connection>;
/// One worker's side of them.
pub type WorkerPools = pool::WorkerPools<Connection>;
/// One of them, as one worker sees it.
pub type Pool = pool::Pool<Connection>;
/// What all threads share about it.
pub type Shared = pool::Shared<Connection>;
/// The right to have one connection open.
pub type Slot = pool::Slot<Connection>;
/// Why there is no connection.
pub type CheckoutError = pool::CheckoutError<Failure>;

/// The collation that connections begin with: utf8mb4_general_ci, which every server has.
pub const COLLATION: u8 = 45;

/// What a connection is told before its first use, and again when it was reset.
const NAMES: &str = "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci";

/// The same where the server tells how its session changes. Of variables it tells those that change what a text means
/// or what an answer says; everything else that changes shows as a change of state.
const NAMES_TRACKED: &str = "\
    SET NAMES utf8mb4 COLLATE utf8mb4_general_ci, SESSION session_track_schema = ON, \
    SESSION session_track_state_change = ON, SESSION session_track_system_variables = \
    'autocommit,character_set_client,character_set_connection,character_set_results,collation_connection,\
    last_insert_id,sql_mode,time_zone'";

/// Those variables.
pub const TRACKED_VARIABLES: &str = "autocommit,character_set_client,character_set_connection,character_set_results,\
    collation_connection,last_insert_id,sql_mode,time_zone";

/// Its second half alone, behind a statement that had it told otherwise.
pub const TRACKED: &str = "\
    SET SESSION session_track_schema = ON, SESSION session_track_state_change = ON, SESSION \
    session_track_system_variables = 'autocommit,character_set_client,character_set_connection,character_set_results,\
    collation_connection,last_insert_id,sql_mode,time_zone'";

/// What answers depend on, as a login to a server gave it: it may differ between servers, and change with a restart.
pub const MANNERS: [&str; 13] = [
    "autocommit",
    "character_set_database",
    "character_set_server",
    "collation_server",
    "default_week_format",
    "div_precision_increment",
    "group_concat_max_len",
    "lc_time_names",
    "lower_case_table_names",
    "max_allowed_packet",
    "sql_mode",
    "sql_select_limit",
    "time_zone",
];

/// How much of a buffer for what is to be sent is kept, in bytes.
const OUT_KEPT: usize = 16 << 10;

/// How many commands may wait for their answers on one connection.
pub const AWAITED_MAX: usize = 64;

const COM_QUIT: u8 = 0x01;
const COM_INIT_DB: u8 = 0x02;
const COM_QUERY: u8 = 0x03;
const COM_STMT_SEND_LONG_DATA: u8 = 0x18;
const COM_STMT_CLOSE: u8 = 0x19;
const COM_RESET_CONNECTION: u8 = 0x1f;

/// What a server said of itself when a connection was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Its version.
    pub version: Arc<str>,
    /// What was agreed on with it.
    pub capabilities: u32,
    /// Values of [`MANNERS`].
    values: Vec<Option<Arc<str>>>,
}

impl Said {
    /// The value of one of [`MANNERS`]; `None` for NULL.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Arc<str>> {
        let place = MANNERS.iter().position(|it| *it == name)?;
        self.values.get(place)?.as_ref()
    }
}

/// Where and how what a connection runs is stopped.
#[derive(Debug)]
pub struct KillTarget {
    host: Arc<str>,
    port: u16,
    tls: ClientTls,
    login: ServerLogin,
    thread: u32,
}

impl KillTarget {
    /// What KILL names the connection by.
    #[must_use]
    pub fn thread(&self) -> u32 {
        self.thread
    }

    /// Its server's host, as the map names it, and port.
    #[must_use]
    pub fn server(&self) -> (&Arc<str>, u16) {
        (&self.host, self.port)
    }

    /// Stops what the connection runs, from a connection of its own.
    ///
    /// # Errors
    /// When the server could not be asked, or the connection is gone.
    pub async fn kill_query(&self, deadline: Tick) -> Result<(), login::OpenError> {
        let login = asked(&self.login, "", 0);
        login::kill_query(&self.host, self.port, &self.tls, &login, self.thread, deadline).await
    }
}

/// A live connection to one server, logged in as one user.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    inbox: Inbox,
    out: Vec<u8>,
    /// How much of it was sent.
    sent: usize,
    /// Whether an answer has begun since the connection was opened.
    begun: bool,
    /// The number of the packet that comes next within it.
    next: u8,
    /// For commands whose answers have not begun: the number that the first packet of each has.
    awaited: VecDeque<u8>,
    /// Whether a command was said since the latest packet, and nothing else was awaited: what has begun may be over.
    fresh: bool,
    /// The database that it was opened with; empty: none.
    database: Arc<str>,
    /// What KILL names it by.
    pub thread: u32,
    /// The server's version.
    pub version: Arc<str>,
    /// What both sides agreed on.
    pub capabilities: u32,
    /// The server's status after the last OK that was noted: at first, after login.
    pub status: u16,
    /// The database in use, as far as was noted.
    pub schema: Option<Arc<str>>,
    /// What sessions have set on it, beyond what it was told when it was opened.
    pub settings: Arc<Settings>,
    /// What the server has prepared on it.
    pub prepared: Prepared,
    /// What the server said when it was opened.
    pub said: Arc<Said>,
    /// How often that had changed in its pool: a later one makes this connection stale.
    pub generation: u64,
    /// Whether its session's state is not known, so that it must be reset before somebody else has it.
    pub in_doubt: bool,
    /// How what it runs is stopped.
    pub target: Arc<KillTarget>,
    /// When it was opened.
    pub opened: Tick,
    /// The worker whose reactor watches it.
    pub home: usize,
    /// Its place in the pool's count; given back when the connection is dropped.
    pub slot: Slot,
    /// How operators see it.
    pub seat: Arc<Seat>,
}

impl Connection {
    /// Opens a connection that is of no pool.
    ///
    /// # Errors
    /// See [`login::OpenError`].
    pub async fn open(
        host: &Arc<str>,
        port: u16,
        tls: &ClientTls,
        login: &ServerLogin,
        database: &Arc<str>,
        deadline: Tick,
    ) -> Result<Self, login::OpenError> {
        let query = manners();
        let opened =
            login::open(host, port, tls, &login::Login { query: &query, ..asked(login, database, 0) }, deadline)
                .await?;
        let target =
            KillTarget { host: Arc::clone(host), port, tls: tls.clone(), login: login.clone(), thread: opened.thread };
        Ok(Self::new(opened, target, Arc::clone(database), 0, Slot::none()))
    }

    /// Takes over a stream that has just logged in; what was asked at login are the [`MANNERS`].
    fn new(opened: login::Opened, target: KillTarget, database: Arc<str>, home: usize, slot: Slot) -> Self {
        let values = opened.answer.into_iter().map(|it| it.map(Into::into)).collect();
        let version: Arc<str> = opened.version.into();
        let said = Said { version: Arc::clone(&version), capabilities: opened.capabilities, values };
        let seat = Seat::new(&opened.stream, opened.thread);
        Self {
            stream: opened.stream,
            inbox: Inbox::of(&opened.leftover),
            out: Vec::new(),
            sent: 0,
            begun: false,
            next: 0,
            awaited: VecDeque::new(),
            fresh: false,
            schema: Some(Arc::clone(&database)).filter(|it| !it.is_empty()),
            database,
            thread: opened.thread,
            version,
            capabilities: opened.capabilities,
            status: opened.status,
            settings: Settings::none(),
            prepared: Prepared::default(),
            said: Arc::new(said),
            generation: 0,
            in_doubt: false,
            target: Arc::new(target),
            opened: clock::now(),
            home,
            slot,
            seat,
        }
    }

    /// Appends one command; it goes out with [`Self::poll_flush`]. Answers to more than [`AWAITED_MAX`] must not be
    /// left unread.
    pub fn say(&mut self, payload: &[u8]) {
        let behind = frame::put(&mut self.out, 0, payload);
        if !matches!(payload.first(), Some(&(COM_QUIT | COM_STMT_SEND_LONG_DATA | COM_STMT_CLOSE))) {
            self.fresh |= self.awaited.is_empty();
            self.awaited.push_back(behind);
        }
    }

    /// Goes on within the command: what a server that asks for a file is given.
    pub fn say_on(&mut self, payload: &[u8]) {
        self.next = frame::put(&mut self.out, self.next, payload);
    }

    /// Sends what was said.
    ///
    /// # Errors
    /// Those of the socket, or that too much awaits its answer.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.awaited.len() > AWAITED_MAX {
            return Poll::Ready(Err(io::Error::other("too many commands await their answers on one connection")));
        }
        while let Some(rest) = self.out.get(self.sent..).filter(|it| !it.is_empty()) {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        self.sent = 0;
        if self.out.capacity() > OUT_KEPT {
            self.out = Vec::new();
        } else {
            self.out.clear();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// The packet at the front if it has arrived whole. It stays there until [`Self::consume`].
    ///
    /// # Errors
    /// When the server breaks the protocol: the connection is of no more use.
    pub fn packet(&self) -> io::Result<Option<Packet>> {
        let Range { start, .. } = self.inbox.ahead();
        let unread = self.inbox.unread();
        let Some(mut packet) = frame::packet(unread) else { return Ok(None) };
        let body = unread.get(packet.body.clone()).unwrap_or_default();
        // A server that hangs up says why in a packet of any number.
        let is_due = (self.begun && packet.sequence == self.next) || self.awaited.front() == Some(&packet.sequence);
        if !is_due && body.first() != Some(&0xff) {
            return Err(broken(Violation::OutOfOrder { found: packet.sequence, wanted: self.next }));
        }
        packet.body = packet.body.start + start..packet.body.end + start;
        Ok(Some(packet))
    }

    /// The next packet, read as far as needed. Its range is of [`Self::bytes`]. Of a payload of more than 16 MiB each
    /// packet is given as it is.
    ///
    /// # Errors
    /// Those of the socket, that the server hung up, or that it broke the protocol.
    pub fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Packet>> {
        loop {
            if let Some(packet) = self.packet()? {
                return Poll::Ready(Ok(packet));
            }
            if ready!(self.inbox.poll_read(&mut self.stream, cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The bytes that packets point into; valid until the next [`Self::poll_packet`] that has to read, or
    /// [`Self::rest`].
    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.inbox.bytes(range)
    }

    /// Counts the packet at the front as handled.
    pub fn consume(&mut self, packet: &Packet) {
        self.inbox.consume(HEADER + packet.body.len());
        // Numbers begin again behind 255: where both are possible, it is the answer to what was said last.
        let is_first = self.awaited.front() == Some(&packet.sequence);
        let goes_on = self.begun && packet.sequence == self.next && !(self.fresh && is_first);
        if !goes_on {
            self.awaited.pop_front();
            self.begun = true;
        }
        self.fresh = false;
        self.next = packet.sequence.wrapping_add(1);
    }

    /// Whether nothing has arrived unasked and the server has not hung up, as far as the reactor knows. Costs no system
    /// call.
    #[must_use]
    pub fn is_quiet(&mut self) -> bool {
        self.is_drained() && self.stream.is_quiet()
    }

    /// Whether everything that was said has been sent, every answer has begun, and what was read has been handled.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.inbox.is_drained() && self.out.is_empty() && self.awaited.is_empty()
    }

    /// Gives memory back if everything has been handled: packets given out before are void.
    pub fn rest(&mut self) {
        self.inbox.rest();
    }

    /// Takes note of an OK: the server's status and the database in use.
    ///
    /// # Errors
    /// What it tells of the session is malformed.
    pub fn note(&mut self, done: &Done) -> Result<(), Violation> {
        use crate::wire::mysql::result::Change;
        self.status = done.status;
        for change in done.changes()? {
            if let Change::Database(name) = change {
                self.schema = Some(String::from_utf8_lossy(name).into()).filter(|it: &Arc<str>| !it.is_empty());
            }
        }
        Ok(())
    }

    /// Whether the server can make its session as new: MySQL since 5.7.3, MariaDB since 10.2.4. Session tracking came
    /// with the same versions, or before.
    #[must_use]
    pub fn can_reset(&self) -> bool {
        self.capabilities & capability::SESSION_TRACK != 0
    }

    /// Makes the session as a new connection's is, in the database that it had when it was opened. Nothing else may be
    /// on its way.
    ///
    /// # Errors
    /// The connection is of no more use: it broke, time is up, or the server cannot or would not.
    pub async fn reset(&mut self, deadline: Tick) -> io::Result<()> {
        net::before(deadline, self.reset_now()).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn reset_now(&mut self) -> io::Result<()> {
        if !self.can_reset() || !self.is_drained() {
            return Err(broken("a connection that cannot be reset"));
        }
        let database = Arc::clone(&self.database);
        let setup = [&[COM_QUERY], setup(self.capabilities).as_bytes()].concat();
        let using = [&[COM_INIT_DB], database.as_bytes()].concat();
        self.run(&[COM_RESET_CONNECTION]).await?;
        self.settings = Settings::none();
        self.prepared.clear();
        self.run(&setup).await?;
        if !database.is_empty() {
            self.run(&using).await?;
            self.schema = Some(database);
        }
        self.in_doubt = false;
        Ok(())
    }

    /// Says a command that is answered by OK, and waits for it.
    async fn run(&mut self, command: &[u8]) -> io::Result<()> {
        self.say(command);
        poll_fn(|cx| self.poll_flush(cx)).await?;
        let packet = poll_fn(|cx| self.poll_packet(cx)).await?;
        let first = First::read(self.bytes(packet.body.clone()), self.capabilities).map_err(broken)?;
        self.consume(&packet);
        match first {
            First::Done(done) => self.note(&done).map_err(broken),
            First::Failed(failure) => Err(io::Error::other(failure.to_string())),
            First::Columns(_) | First::File(_) => Err(broken("rows where none are due")),
        }
    }
}

/// What a connection is told before its first use.
fn setup(capabilities: u32) -> &'static str {
    if capabilities & capability::SESSION_TRACK != 0 { NAMES_TRACKED } else { NAMES }
}

fn asked<'a>(login: &'a ServerLogin, database: &'a str, flags: u32) -> login::Login<'a> {
    login::Login {
        user: &login.user,
        password: login.password.as_ref(),
        database,
        flags,
        collation: COLLATION,
        setup,
        query: "",
    }
}

/// The query that asks for what answers depend on.
fn manners() -> String {
    format!("SELECT @@{}", MANNERS.join(", @@"))
}

impl Pooled for Connection {
    type Said = Arc<Said>;
    type Refusal = Failure;

    async fn open(shared: &Shared, recipe: &Recipe, home: usize, mut slot: Slot) -> Result<Self, CheckoutError> {
        let key = &shared.key;
        let query = manners();
        let login = login::Login { query: &query, ..asked(&recipe.login, &key.database, key.flags) };
        let deadline = clock::now().plus(recipe.connect);
        let opened = login::open(&key.host, key.port, &recipe.tls, &login, deadline)
            .await
            .map_err(|error| CheckoutError::of(error, key))?;
        let target = KillTarget {
            host: Arc::clone(&key.host),
            port: key.port,
            tls: recipe.tls.clone(),
            login: recipe.login.clone(),
            thread: opened.thread,
        };
        slot.watch(&opened.stream)?;
        let mut connection = Self::new(opened, target, Arc::clone(&key.database), home, slot);
        (connection.said, connection.generation) = shared.greet(Arc::clone(&connection.said));
        connection.version = Arc::clone(&connection.said.version);
        Ok(connection)
    }

    #[inline]
    fn is_quiet(&mut self) -> bool {
        !self.in_doubt && Self::is_quiet(self)
    }

    #[inline]
    fn is_drained(&self) -> bool {
        Self::is_drained(self) && !self.in_doubt
    }

    #[inline]
    fn rest(&mut self) {
        Self::rest(self);
    }

    #[inline]
    fn home(&self) -> usize {
        self.home
    }

    #[inline]
    fn slot(&self) -> &Slot {
        &self.slot
    }

    #[inline]
    fn generation(&self) -> u64 {
        self.generation
    }

    #[inline]
    fn opened(&self) -> Tick {
        self.opened
    }

    #[inline]
    fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }
}

impl CheckoutError {
    fn of(error: login::OpenError, key: &PoolKey) -> Self {
        match error {
            login::OpenError::Refused(said) => Self::Refused(said),
            other => Self::Unreachable { node: format!("{}:{}", key.host, key.port), reason: other.to_string() },
        }
    }
}

fn broken(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}"))
}

/// A connection whose other end is the test's.
#[cfg(test)]
pub(crate) fn pair(held_max: usize, capabilities: u32) -> (Connection, Stream) {
    let (stream, theirs) = Stream::memory(held_max);
    let (version, answer, leftover) = ("8.4.0".into(), Vec::new(), bytes::BytesMut::new());
    let opened = login::Opened { stream, version, thread: 9, capabilities, status: 2, answer, leftover };
    let login = ServerLogin { user: "app".into(), password: None };
    let target = KillTarget { host: "".into(), port: 0, tls: ClientTls::disabled(), login, thread: 9 };
    (Connection::new(opened, target, "shop".into(), 0, Slot::none()), theirs)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn pair(held_max: usize) -> (Connection, Stream) {
        super::pair(held_max, capability::SESSION_TRACK | capability::DEPRECATE_EOF)
    }

    async fn flush(connection: &mut Connection) {
        poll_fn(|cx| connection.poll_flush(cx)).await.unwrap();
    }

    /// The next payload's part.
    async fn next(connection: &mut Connection) -> io::Result<Vec<u8>> {
        let packet = poll_fn(|cx| connection.poll_packet(cx)).await?;
        connection.consume(&packet);
        Ok(connection.bytes(packet.body).to_vec())
    }

    fn packets(from: u8, payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        payloads.iter().fold(from, |sequence, it| frame::put(&mut out, sequence, it));
        out
    }

    #[tokio::test]
    async fn answers_come_in_pieces_of_any_size() {
        for held in [1, 3, 5, 4096] {
            let (mut connection, mut server) = pair(held);
            assert!(connection.is_quiet());
            connection.say(b"\x03one");
            connection.say(b"\x18long data");
            connection.say(b"\x03two");
            assert!(!connection.is_drained());
            let server = async move {
                let mut asked = [0; 8 + 14 + 8];
                server.read_exact(&mut asked).await.unwrap();
                assert_eq!(
                    asked.as_slice(),
                    [packets(0, &[b"\x03one"]), packets(0, &[b"\x18long data"]), packets(0, &[b"\x03two"])].concat()
                );
                server.write_all(&packets(1, &[b"a", b"", b"bc"])).await.unwrap();
                server.write_all(&packets(1, &[b"d"])).await.unwrap();
                server
            };
            let client = async {
                flush(&mut connection).await;
                for expected in [&b"a"[..], b"", b"bc"] {
                    assert_eq!(next(&mut connection).await.unwrap(), expected);
                    assert!(!connection.is_drained(), "an answer is due");
                }
                assert_eq!(next(&mut connection).await.unwrap(), b"d");
                connection.rest();
                assert!(connection.is_quiet());
            };
            let (_server, ()) = tokio::join!(server, client);
        }
    }

    #[tokio::test]
    async fn an_answer_that_ends_behind_255_packets_is_told_from_the_next() {
        let (mut connection, mut server) = pair(1 << 20);
        for _ in 0..2 {
            connection.say(b"\x03rows");
            flush(&mut connection).await;
            let rows: Vec<&[u8]> = (0..256).map(|_| &b"row"[..]).collect();
            server.write_all(&packets(1, &rows)).await.unwrap();
            for _ in 0..256 {
                assert_eq!(next(&mut connection).await.unwrap(), b"row");
            }
            assert!(connection.is_drained());
        }
    }

    #[tokio::test]
    async fn what_is_not_due_ends_the_connection() {
        let (mut connection, mut server) = pair(1 << 10);
        server.write_all(&packets(1, &[b"\0unasked"])).await.unwrap();
        assert!(next(&mut connection).await.is_err());

        let (mut connection, mut server) = pair(1 << 10);
        connection.say(b"\x03one");
        flush(&mut connection).await;
        server.write_all(&packets(2, &[b"\0late"])).await.unwrap();
        assert!(next(&mut connection).await.is_err());

        // Why a server hangs up it says with a number of its own.
        let (mut connection, mut server) = pair(1 << 10);
        connection.say(b"\x03one");
        flush(&mut connection).await;
        server.write_all(&packets(0, &[b"\xff\x87\x07killed"])).await.unwrap();
        drop(server);
        assert!(Failure::read(&next(&mut connection).await.unwrap()).unwrap().ends_connection());
        assert_eq!(next(&mut connection).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

        let (mut connection, _server) = pair(1 << 20);
        (0..=AWAITED_MAX).for_each(|_| connection.say(b"\x0e"));
        assert!(poll_fn(|cx| connection.poll_flush(cx)).await.is_err());
    }

    #[tokio::test]
    async fn a_payload_of_several_packets_is_given_as_it_is() {
        let (mut connection, mut server) = pair(1 << 20);
        let long = vec![7; frame::PACKET_MAX + 5];
        connection.say(&long);
        let sent = packets(0, &[&long]);
        let other = async move {
            let mut heard = vec![0; sent.len()];
            server.read_exact(&mut heard).await.unwrap();
            assert!(heard == sent);
            server.write_all(&packets(2, &[&long])).await.unwrap();
            server
        };
        let client = async {
            flush(&mut connection).await;
            let first = poll_fn(|cx| connection.poll_packet(cx)).await.unwrap();
            assert!(first.goes_on && first.body.len() == frame::PACKET_MAX);
            connection.consume(&first);
            let second = poll_fn(|cx| connection.poll_packet(cx)).await.unwrap();
            assert!(!second.goes_on);
            assert_eq!(connection.bytes(second.body.clone()), [7; 5]);
            connection.consume(&second);
        };
        let (_server, ()) = tokio::join!(other, client);
        connection.rest();
        assert!(connection.is_quiet());
    }

    #[tokio::test]
    async fn a_file_is_sent_within_its_command() {
        let (mut connection, mut server) = pair(1 << 10);
        connection.say(b"\x03LOAD DATA LOCAL");
        flush(&mut connection).await;
        server.write_all(&packets(1, &[b"\xfb/tmp/rows"])).await.unwrap();
        assert_eq!(next(&mut connection).await.unwrap(), b"\xfb/tmp/rows");
        connection.say_on(b"1\n2\n");
        connection.say_on(b"");
        flush(&mut connection).await;
        let mut heard = vec![0; HEADER * 3 + 16 + 4];
        server.read_exact(&mut heard).await.unwrap();
        assert!(heard.ends_with(&packets(2, &[b"1\n2\n", b""])), "{heard:?}");
        server.write_all(&packets(4, &[b"\0\0\0\x02\0\0\0"])).await.unwrap();
        assert_eq!(next(&mut connection).await.unwrap(), b"\0\0\0\x02\0\0\0");
        assert!(connection.is_drained());
    }

    #[tokio::test]
    async fn a_session_in_doubt_is_made_as_new() {
        let (mut connection, mut server) = pair(1 << 16);
        connection.in_doubt = true;
        connection.schema = Some("other".into());
        assert!(!Pooled::is_quiet(&mut connection) && !Pooled::is_drained(&connection));
        let other = async move {
            let mut asked = Vec::new();
            for _ in 0..3 {
                let mut head = [0; HEADER];
                server.read_exact(&mut head).await.unwrap();
                let mut body = vec![0; usize::from(head[0]) + usize::from(head[1]) * 256];
                server.read_exact(&mut body).await.unwrap();
                asked.push(body);
                server.write_all(&packets(1, &[b"\0\0\0\x02\0\0\0"])).await.unwrap();
            }
            (server, asked)
        };
        let deadline = clock::now().plus(std::time::Duration::from_secs(20));
        let (done, (_server, asked)) = tokio::join!(connection.reset(deadline), other);
        done.unwrap();
        assert_eq!(asked[0], [COM_RESET_CONNECTION]);
        assert!(asked[1].starts_with(b"\x03SET NAMES utf8mb4"));
        assert_eq!(asked[2], b"\x02shop");
        assert_eq!(connection.schema.as_deref(), Some("shop"));
        assert!(Pooled::is_quiet(&mut connection));
    }

    #[tokio::test]
    async fn an_ok_tells_the_database_in_use() {
        let (mut connection, _server) = pair(1 << 10);
        let changes = b"\x01\x05\x04shop".to_vec();
        connection.note(&Done { status: 3, changes, ..Done::default() }).unwrap();
        assert_eq!((connection.status, connection.schema.as_deref()), (3, Some("shop")));
        connection.note(&Done { changes: b"\x01\x01\x00".to_vec(), ..Done::default() }).unwrap();
        assert_eq!(connection.schema, None);
        assert!(connection.note(&Done { changes: b"\x01\x09x".to_vec(), ..Done::default() }).is_err());
    }
}
