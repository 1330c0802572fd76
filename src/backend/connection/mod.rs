//! One connection to a database server, and the bytes that arrive on it.

pub mod login;

#[cfg(debug_assertions)]
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use foldhash::fast::RandomState;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use crate::backend::pool::BUFFER;
use crate::backend::pool::BUFFER_MAX;
use crate::backend::pool::Slot;
use crate::backend::settings::Settings;
use crate::clock::Tick;
use crate::net::ClientTls;
use crate::net::Stream;

/// How many prepared statements one server connection keeps; the one used longest ago is closed for a new one.
pub const PREPARED_MAX: usize = 500;

/// How many statements may be in doubt on a connection that is kept.
const DOUBTFUL_MAX: usize = 100;

/// The largest message other than a row that a server may send.
const MESSAGE_MAX: usize = 64 << 20;

/// A live connection to one server, logged in as one user to one database.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    inbox: Vec<u8>,
    /// What of `inbox` is filled.
    filled: usize,
    /// What of `inbox` has been handled.
    at: usize,
    /// What is still to come of a row whose beginning has been handled.
    row_left: usize,
    /// The session-level settings that it has, beyond those it was opened with.
    pub settings: Arc<Settings>,
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
        Self {
            stream,
            inbox: leftover.to_vec(),
            filled: leftover.len(),
            at: 0,
            row_left: 0,
            settings: Settings::none(),
            prepared: HashMap::default(),
            prepared_clock: 0,
            doubtful: HashSet::new(),
            unnamed: 0,
            pid: target.pid,
            target: Arc::new(target),
            opened,
            home,
            slot,
        }
    }

    /// Whether nothing has arrived and the server has not hung up, as far as the reactor knows. Costs no system call.
    #[must_use]
    pub fn is_quiet(&mut self) -> bool {
        self.is_drained() && self.stream.is_quiet()
    }

    /// Whether everything that was read has been handled.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.at == self.filled && self.row_left == 0
    }

    /// Lends the connection a buffer while it is in use.
    pub fn lend(&mut self, mut buffer: Vec<u8>) {
        if self.inbox.is_empty() {
            buffer.resize(BUFFER, 0);
            self.inbox = buffer;
        }
    }

    /// Takes the buffer back. Only when everything in it was handled.
    #[must_use]
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        if self.at < self.filled {
            return None;
        }
        self.at = 0;
        self.filled = 0;
        let inbox = std::mem::take(&mut self.inbox);
        (inbox.capacity() == BUFFER).then_some(inbox)
    }

    /// The bytes that [`Piece`]s point into; valid until the next [`Self::poll_fill`].
    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.inbox.get(range).unwrap_or_default()
    }

    /// The next piece, if enough has arrived. The piece counts as handled.
    ///
    /// # Errors
    /// When the server breaks the protocol: the connection is of no more use.
    pub fn piece(&mut self) -> io::Result<Option<Piece>> {
        let start = self.at;
        let mut begun = 0_u32;
        // A run of rows is one piece, however many.
        loop {
            if self.row_left > 0 {
                let part = self.row_left.min(self.filled - self.at);
                self.at += part;
                self.row_left -= part;
            }
            let Some(&[kind, a, b, c, d]) = self.inbox.get(self.at..self.filled).and_then(<[u8]>::first_chunk::<5>)
            else {
                break;
            };
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if !(4..=(1 << 30)).contains(&length) {
                return Err(broken("a message length out of range"));
            }
            if matches!(kind, b'D' | b'd') {
                if length < self.filled - self.at {
                    self.at += length + 1;
                } else if self.at > start {
                    break;
                } else if length < BUFFER_MAX {
                    // A row goes out whole where it fits, so that an error can still follow it.
                    return Ok(None);
                } else {
                    self.row_left = length + 1;
                }
                begun += 1;
                continue;
            }
            if self.at > start {
                break;
            }
            if length > MESSAGE_MAX {
                return Err(broken("a message beyond the limit"));
            }
            let end = self.at + 1 + length;
            if end > self.filled {
                // Room for it is made when more is read: until then the ranges given out before hold.
                return Ok(None);
            }
            self.at = end;
            return Ok(Some(Piece::Message(kind, start..end)));
        }
        Ok((self.at > start).then_some(Piece::Rows(start..self.at, begun)))
    }

    /// Whether a part of a row has been handled and the rest has not come.
    #[must_use]
    pub fn is_within_row(&self) -> bool {
        self.row_left > 0
    }

    /// Whether a message of that type stands at the front, whole or not.
    #[must_use]
    pub fn begins_with(&self, kind: u8) -> bool {
        self.row_left == 0 && self.at < self.filled && self.inbox.get(self.at) == Some(&kind)
    }

    fn compact(&mut self) {
        if self.at > 0 {
            self.inbox.copy_within(self.at..self.filled, 0);
            self.filled -= self.at;
            self.at = 0;
        }
    }

    /// Reads more bytes. 0 means that the server hung up.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let full = self.filled == self.inbox.len();
        if self.at == self.filled {
            self.at = 0;
            self.filled = 0;
        } else if full {
            self.compact();
        }
        if self.filled == self.inbox.len() || full && self.inbox.len() < BUFFER_MAX {
            let wanted = (self.inbox.len() * 2).max(BUFFER);
            self.inbox.resize(wanted, 0);
        }
        let mut space = ReadBuf::new(self.inbox.get_mut(self.filled..).unwrap_or_default());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space))?;
        let count = space.filled().len();
        self.filled += count;
        Poll::Ready(Ok(count))
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

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}"))
}
