//! One connection to a database server, and the bytes that arrive on it.

pub mod login;

#[cfg(debug_assertions)]
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::future::poll_fn;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use foldhash::fast::RandomState;
use tokio::io::AsyncWrite;

use crate::backend::pool::CheckoutError;
use crate::backend::pool::PoolKey;
use crate::backend::pool::Pooled;
use crate::backend::pool::Recipe;
use crate::backend::pool::Shared;
use crate::backend::pool::Slot;
use crate::backend::seat::Seat;
use crate::backend::settings::Settings;
use crate::clock;
use crate::clock::Tick;
use crate::net::ClientTls;
use crate::net::Inbox;
use crate::net::Stream;

/// How many prepared statements one server connection keeps; the one used longest ago is closed for a new one.
pub const PREPARED_MAX: usize = 500;

/// How many statements may be in doubt on a connection that is kept.
const DOUBTFUL_MAX: usize = 100;

/// The largest message other than a row that a server may send.
const MESSAGE_MAX: usize = 64 << 20;

/// What answers depend on, as a login to a server gave it: defaults of the server, the database and the role. They may
/// change from one login to the next, and differ between servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Values of [`MANNERS`].
    values: Vec<Option<Arc<str>>>,
    /// Their hash: the same for the same values.
    mark: u64,
}

/// The settings of a [`Manner`].
pub const MANNERS: [&str; 13] = [
    "datestyle",
    "timezone",
    "intervalstyle",
    "extra_float_digits",
    "bytea_output",
    "search_path",
    "array_nulls",
    "xmloption",
    "xmlbinary",
    "default_text_search_config",
    "quote_all_identifiers",
    "client_encoding",
    "transform_null_equals",
];

impl Manner {
    /// That of a connection whose server says these values of [`MANNERS`].
    #[must_use]
    pub fn new(values: Vec<Option<String>>) -> Self {
        let mut hasher = DefaultHasher::new();
        values.hash(&mut hasher);
        Self { mark: hasher.finish(), values: values.into_iter().map(|it| it.map(Into::into)).collect() }
    }

    /// Whether both are alike.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.mark == other.mark
    }

    /// The query that asks for it.
    #[must_use]
    pub fn query() -> String {
        let asked = MANNERS.map(|name| format!("pg_catalog.current_setting('{name}', true)"));
        format!("SELECT {}", asked.join(", "))
    }

    /// The settings in which `other` differs, with the values that they have here.
    pub fn beside<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'static str, &'a Arc<str>)> + 'a {
        MANNERS.iter().enumerate().filter_map(|(at, name)| {
            let (own, other) = (self.values.get(at)?, other.values.get(at)?);
            own.as_ref().filter(|it| Some(*it) != other.as_ref()).map(|it| (*name, it))
        })
    }

    /// The settings and their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Arc<str>)> + '_ {
        MANNERS.iter().zip(&self.values).filter_map(|(name, value)| Some((*name, value.as_ref()?)))
    }
}

/// What a server says of itself at login: names and values of its reported settings.
pub type Greeting = Arc<Vec<(String, String)>>;

/// A live connection to one server, logged in as one user to one database.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    inbox: Inbox,
    /// What is still to come of a row whose beginning has been handled.
    row_left: usize,
    /// The session-level settings that it has, beyond those it was opened with.
    pub settings: Arc<Settings>,
    /// What it was opened with.
    pub manner: Arc<Manner>,
    /// What the server said of itself when it was opened.
    pub greeting: Greeting,
    /// Which greeting of its pool that is: a later one makes this connection stale.
    pub generation: u64,
    /// Prepared statements by global number, with the moment of their last use (a counter).
    prepared: HashMap<u64, u64, RandomState>,
    prepared_clock: u64,
    /// Statements of which it is not known whether they are prepared here.
    doubtful: HashSet<u64>,
    /// The statement that its unnamed statement holds; 0: unknown or none.
    pub unnamed: u64,
    /// The server's process.
    pub pid: u32,
    /// How what it runs is cancelled.
    pub target: Arc<CancelTarget>,
    /// When it was opened.
    pub opened: Tick,
    /// The worker whose reactor watches it.
    pub home: usize,
    /// Its place in the pool's count; given back when the connection is dropped.
    pub slot: Slot,
    /// How operators see it.
    pub seat: Arc<Seat>,
}

/// Where and how what a connection runs is cancelled.
#[derive(Debug)]
pub struct CancelTarget {
    /// The server's host.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// TLS toward it: a cancel request travels as its session does.
    pub tls: ClientTls,
    /// The server's process.
    pub pid: u32,
    /// The key that a cancel request needs.
    pub key: Vec<u8>,
}

/// What stands at the front of the inbox. Ranges are of [`Connection::bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole message other than a row: its type, and all of its bytes, header included.
    Message(u8, Range<usize>),
    /// Rows (DataRow or CopyData): whole ones, or a part of one. How many began here.
    Rows(Range<usize>, u32),
}

impl Connection {
    /// Takes over a stream that has just logged in.
    #[must_use]
    pub fn new(stream: Stream, target: CancelTarget, leftover: &[u8], opened: Tick, home: usize, slot: Slot) -> Self {
        let seat = Seat::new(&stream, target.pid);
        Self {
            stream,
            inbox: Inbox::of(leftover),
            row_left: 0,
            settings: Settings::none(),
            manner: Arc::default(),
            greeting: Arc::default(),
            generation: 0,
            prepared: HashMap::default(),
            prepared_clock: 0,
            doubtful: HashSet::new(),
            unnamed: 0,
            pid: target.pid,
            target: Arc::new(target),
            opened,
            home,
            slot,
            seat,
        }
    }

    /// Whether nothing has arrived and the server has not hung up, as far as the reactor knows. Costs no system call.
    #[must_use]
    pub fn is_quiet(&mut self) -> bool {
        self.is_drained() && self.stream.is_quiet()
    }

    /// Whether the server has hung up, or was cut off: what is said now reaches nobody.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stream.has_ended()
    }

    /// Whether everything that was read has been handled.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.inbox.is_drained() && self.row_left == 0
    }

    /// Gives memory back if everything has been handled: [`Piece`]s given out before are void.
    pub fn rest(&mut self) {
        self.inbox.rest();
    }

    /// The bytes that [`Piece`]s point into; valid until the next [`Self::poll_fill`] or [`Self::rest`].
    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.inbox.bytes(range)
    }

    /// The next piece, if enough has arrived. The piece counts as handled.
    ///
    /// # Errors
    /// When the server breaks the protocol: the connection is of no more use.
    pub fn piece(&mut self) -> io::Result<Option<Piece>> {
        let Range { start, end: filled } = self.inbox.ahead();
        let mut at = start;
        let mut begun = 0_u32;
        // A run of rows is one piece, however many.
        loop {
            if self.row_left > 0 {
                let part = self.row_left.min(filled - at);
                at += part;
                self.row_left -= part;
            }
            let Some(&[kind, a, b, c, d]) = self.inbox.bytes(at..filled).first_chunk::<5>() else { break };
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if !(4..=(1 << 30)).contains(&length) {
                // What stands before it is handled first: the end of a row must not be lost from sight.
                if at > start {
                    break;
                }
                return Err(broken("a message length out of range"));
            }
            if matches!(kind, b'D' | b'd') {
                if length < filled - at {
                    at += length + 1;
                } else if at > start {
                    break;
                } else if length < self.inbox.size() {
                    // A row goes out whole where it fits, so that an error can still follow it.
                    return Ok(None);
                } else {
                    self.row_left = length + 1;
                }
                begun += 1;
                continue;
            }
            if at > start {
                break;
            }
            if length > MESSAGE_MAX {
                return Err(broken("a message beyond the limit"));
            }
            let end = at + 1 + length;
            if end > filled {
                // Room for it is made when more is read: until then the ranges given out before hold.
                return Ok(None);
            }
            self.inbox.consume(end - start);
            return Ok(Some(Piece::Message(kind, start..end)));
        }
        self.inbox.consume(at - start);
        Ok((at > start).then_some(Piece::Rows(start..at, begun)))
    }

    /// Whether a part of a row has been handled and the rest has not come.
    #[must_use]
    pub fn is_within_row(&self) -> bool {
        self.row_left > 0
    }

    /// Whether a message of that type stands at the front, whole or not.
    #[must_use]
    pub fn begins_with(&self, kind: u8) -> bool {
        self.row_left == 0 && self.inbox.unread().first() == Some(&kind)
    }

    /// Reads more bytes. 0 means that the server hung up.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.inbox.poll_read(&mut self.stream, cx)
    }

    /// Reads more bytes; 0: the server hung up.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Sends a part of `bytes`.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    /// Pushes out what the stream may hold back (TLS).
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Whether the statement of that number is prepared here; marks it as used.
    pub fn has_prepared(&mut self, statement: u64) -> bool {
        self.prepared_clock += 1;
        match self.prepared.get_mut(&statement) {
            Some(used) => {
                *used = self.prepared_clock;
                true
            }
            None => false,
        }
    }

    /// Notes a statement as prepared here. Gives back the one that has to be closed to keep the bound.
    pub fn note_prepared(&mut self, statement: u64) -> Option<u64> {
        self.prepared_clock += 1;
        self.prepared.insert(statement, self.prepared_clock);
        if self.prepared.len() <= PREPARED_MAX {
            return None;
        }
        let oldest = self.prepared.iter().min_by_key(|(_, used)| **used).map(|(statement, _)| *statement)?;
        self.prepared.remove(&oldest);
        Some(oldest)
    }

    /// Notes that nobody knows whether a statement is prepared here: what would tell was skipped.
    pub fn doubt_prepared(&mut self, statement: u64) {
        self.prepared.remove(&statement);
        self.doubtful.insert(statement);
    }

    /// Whether the statement may be here although [`Self::has_prepared`] denies it, so that it must be closed before it
    /// is prepared. Ends the doubt.
    pub fn take_doubt(&mut self, statement: u64) -> bool {
        self.doubtful.remove(&statement)
    }

    /// The names of the statements that are prepared here, and of those that may be.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn believed_prepared(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let named = |number: &u64| format!("sw_{number:016x}");
        (self.prepared.keys().map(named).collect(), self.doubtful.iter().map(named).collect())
    }

    /// Whether little enough is in doubt that the connection is worth keeping.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.doubtful.len() <= DOUBTFUL_MAX
    }

    /// Notes that no statement is prepared here any more.
    pub fn forget_all_prepared(&mut self) {
        self.prepared.clear();
        self.doubtful.clear();
        self.unnamed = 0;
    }
}

impl Pooled for Connection {
    type Said = (Greeting, Arc<Manner>);
    type Refusal = login::ServerError;

    async fn open(shared: &Shared, recipe: &Recipe, home: usize, mut slot: Slot) -> Result<Self, CheckoutError> {
        let key = &shared.key;
        let login = login::Login {
            user: &recipe.login.user,
            password: recipe.login.password.as_ref(),
            database: &key.database,
            parameters: &[],
            query: &Manner::query(),
        };
        let deadline = clock::now().plus(recipe.connect);
        let opened = login::open(&key.host, key.port, &recipe.tls, &login, deadline)
            .await
            .map_err(|error| CheckoutError::of(error, key))?;
        let said = (Arc::new(opened.parameters), Arc::new(Manner::new(opened.answer)));
        let ((greeting, manner), generation) = shared.greet(said);
        let target = CancelTarget {
            host: Arc::clone(&key.host),
            port: key.port,
            tls: recipe.tls.clone(),
            pid: opened.pid,
            key: opened.key,
        };
        slot.watch(&opened.stream)?;
        let mut connection = Self::new(opened.stream, target, &opened.leftover, clock::now(), home, slot);
        (connection.greeting, connection.manner, connection.generation) = (greeting, manner, generation);
        Ok(connection)
    }

    #[inline]
    fn is_quiet(&mut self) -> bool {
        Self::is_quiet(self)
    }

    #[inline]
    fn is_drained(&self) -> bool {
        Self::is_drained(self)
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
            login::OpenError::Refused(said) | login::OpenError::Server(said) => Self::Refused(said),
            other => Self::Unreachable { node: format!("{}:{}", key.host, key.port), reason: other.to_string() },
        }
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}"))
}
