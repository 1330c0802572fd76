//! The client's socket: commands in, answers gathered into few sends.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use tokio::io::AsyncWrite;

use crate::error::ClientError;
use crate::net::Inbox;
use crate::net::Stream;
use crate::wire::mysql::Violation;
use crate::wire::mysql::capability;
use crate::wire::mysql::compress;
use crate::wire::mysql::frame;
use crate::wire::mysql::frame::Joiner;
use crate::wire::mysql::result::Column;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::result::column_count;
use crate::wire::mysql::result::end_of_rows;
use crate::wire::mysql::tracking::Tracking;

/// What may be gathered before it is sent, in bytes.
const GATHER_MAX: usize = 64 << 10;

/// What is packed at once at most, in bytes: as long as that takes, others of the thread wait.
const PACK_MAX: usize = 128 << 10;

/// What a client may say before it has been answered, in bytes; more of it is not read until then.
const EARLY_MAX: usize = 64 << 10;

/// How long a client that was asked for a file may say nothing.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// The first byte of a request for a file.
const FILE: u8 = 0xfb;

/// One client's connection.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    inbox: Inbox,
    out: Vec<u8>,
    /// How much of that has been sent, or packed to be sent.
    sent: usize,
    /// How often something was sent, or begun to be.
    sends: u64,
    joiner: Joiner,
    /// The number of the next packet that it gets.
    sequence: u8,
    /// What was agreed at login.
    pub capabilities: u32,
    /// It has been given a part of a payload: nothing but the rest of it can follow.
    pub within_payload: bool,
    /// What the session waits for is being ended, for others of a deadlock wait for it: the servers' word for that is not
    /// what the client is to hear.
    pub doom: Arc<AtomicBool>,
    /// It has heard of a deadlock in that word's place.
    pub told_deadlock: bool,
    /// What it is told is not sent yet.
    held: Option<Hold>,
    /// Where it was before it was told of columns of which others are still to come.
    columns: Option<Mark>,
    /// Compression was agreed on.
    squeezed: Option<Box<Squeezed>>,
    /// It may be asked for a file: it can, and says LOAD DATA.
    pub may_send_files: bool,
    /// It was asked for a file, and has not said all of it.
    sends_file: bool,
    /// Of which changes of its session it is told, where that was agreed on.
    pub tracking: Tracking,
    /// What it is told of them with the next OK.
    changes: Vec<u8>,
    /// How many bytes have come from it, unpacked.
    pub came: u64,
    /// How many bytes have gone to it, before they were packed.
    pub went: u64,
}

/// What goes over the wire where compression was agreed on.
#[derive(Debug)]
struct Squeezed {
    method: compress::Method,
    inbox: Inbox,
    /// The number of the next piece that is sent.
    sequence: u8,
    out: Vec<u8>,
    /// How much of that has been sent.
    sent: usize,
}

/// What a client is told while nothing is sent to it.
#[derive(Clone, Copy, Debug)]
struct Hold {
    /// How much that may be, in bytes.
    limit: usize,
    /// It was more.
    overflowed: bool,
}

/// What whoever is ended so that others of a deadlock can go on is told, as a server puts it.
#[must_use]
pub fn deadlock() -> Failure {
    Failure {
        number: LOCK_DEADLOCK,
        sqlstate: "40001".to_owned(),
        message: "Deadlock found when trying to get lock; try restarting transaction".to_owned(),
    }
}

// As in MySQL's list of errors.
const LOCK_DEADLOCK: u16 = 1213;
const INTERRUPTED: u16 = 1317;

/// A place in what the client is told.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    length: usize,
    sequence: u8,
}

impl Squeezed {
    /// Appends what the next piece holds, if it has come whole. One at a time: it may hold many times what it is long.
    fn unpack(&mut self, plain: &mut Vec<u8>) -> io::Result<bool> {
        let broken = |error: Violation| io::Error::new(io::ErrorKind::InvalidData, error);
        let taken = compress::take(self.inbox.unread(), plain, self.method).map_err(broken)?;
        if let Some((used, sequence)) = taken {
            self.inbox.consume(used);
            self.sequence = sequence.wrapping_add(1);
        }
        self.inbox.rest();
        Ok(taken.is_some())
    }
}

impl Client {
    /// Takes over a stream that has logged in, and what it sent too early. `sequence` is that of the packet that is due,
    /// `message_max` the longest payload that is taken, in bytes.
    #[must_use]
    pub fn new(stream: Stream, leftover: &[u8], capabilities: u32, sequence: u8, message_max: usize) -> Self {
        let joiner = Joiner::new(message_max);
        Self {
            stream,
            inbox: Inbox::of(leftover),
            out: Vec::new(),
            sent: 0,
            sends: 0,
            joiner,
            sequence,
            capabilities,
            within_payload: false,
            doom: Arc::default(),
            told_deadlock: false,
            held: None,
            columns: None,
            squeezed: None,
            may_send_files: false,
            sends_file: false,
            tracking: Tracking::default(),
            changes: Vec::new(),
            came: 0,
            went: 0,
        }
    }

    /// Compresses from now on, in both directions. What was told before has been sent.
    pub fn compress(&mut self, method: compress::Method) {
        let mut inbox = Inbox::default();
        if !self.inbox.is_drained() {
            inbox.push(self.inbox.unread());
            self.inbox = Inbox::default();
        }
        self.joiner.stop_counting();
        self.squeezed = Some(Box::new(Squeezed { method, inbox, sequence: 0, out: Vec::new(), sent: 0 }));
    }

    /// The next command, into `payload`, if it has come whole. The answer to it begins behind.
    ///
    /// # Errors
    /// When the stream breaks the protocol.
    pub fn command(&mut self, payload: &mut Vec<u8>) -> Result<bool, ClientError> {
        loop {
            let Some((used, taken)) = self.joiner.take(self.inbox.unread())? else { return Ok(false) };
            let whole = taken.map(|it| {
                payload.clear();
                payload.extend_from_slice(it.bytes());
            });
            self.inbox.consume(used);
            if whole.is_some() {
                self.sequence = self.joiner.sequence();
                self.joiner.restart();
                self.inbox.rest();
                return Ok(true);
            }
        }
    }

    /// What the client says to what it was asked within a command.
    ///
    /// # Errors
    /// Those of the socket, that the client hung up, and that it breaks the protocol.
    pub async fn reply(&mut self) -> io::Result<Vec<u8>> {
        self.flush().await?;
        self.joiner.sent(self.sequence);
        let mut payload = Vec::new();
        while !self.command(&mut payload).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.message))? {
            if poll_fn(|cx| self.poll_read(cx)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(payload)
    }

    /// Asks for a file: [`Self::file_piece`] gives it.
    pub fn ask_for_file(&mut self, name: &[u8]) {
        let mut request = vec![FILE];
        request.extend_from_slice(name);
        self.put(&request);
        self.sends_file = true;
    }

    /// The next piece of the file that was asked for; an empty one ends it.
    ///
    /// # Errors
    /// As [`Self::reply`], and that it says nothing for a minute.
    pub async fn file_piece(&mut self) -> io::Result<Vec<u8>> {
        self.file_piece_within(SILENT_MAX).await
    }

    async fn file_piece_within(&mut self, patience: Duration) -> io::Result<Vec<u8>> {
        let piece = tokio::time::timeout(patience, self.reply())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        self.sends_file = !piece.is_empty();
        Ok(piece)
    }

    /// Lets it say the rest of a file that nobody needs any more. Whatever it is to be told comes behind that: a client reads
    /// no answer before, and what it says until then is no command.
    ///
    /// # Errors
    /// As [`Self::file_piece`].
    pub async fn skip_file(&mut self) -> io::Result<()> {
        while self.sends_file {
            self.file_piece().await?;
        }
        Ok(())
    }

    /// Whether it has yet to say all of a file that it was asked for.
    #[must_use]
    pub fn sends_file(&self) -> bool {
        self.sends_file
    }

    /// Whether what it says is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// Where it is: an address, or "localhost" where it has none.
    #[must_use]
    pub fn host(&self) -> String {
        self.stream.peer().map_or_else(|| "localhost".to_owned(), |it| it.ip().to_canonical().to_string())
    }

    /// Reads more, or unpacks more of what was read. 0: the client hung up.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &mut self.squeezed {
            None => {
                let read = self.inbox.poll_read(&mut self.stream, cx);
                if let Poll::Ready(Ok(count)) = &read {
                    self.came += *count as u64;
                }
                read
            }
            Some(squeezed) => {
                let mut plain = Vec::new();
                // What came with the login, or with a piece before, is there already.
                if !squeezed.unpack(&mut plain)? {
                    if ready!(squeezed.inbox.poll_read(&mut self.stream, cx))? == 0 {
                        return Poll::Ready(Ok(0));
                    }
                    squeezed.unpack(&mut plain)?;
                }
                self.inbox.push(&plain);
                self.came += plain.len() as u64;
                Poll::Ready(Ok(1))
            }
        }
    }

    /// Ready when the client has hung up. What it says early is kept, up to a limit.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.inbox.unread().len() < EARLY_MAX {
            match ready!(self.poll_read(cx)) {
                Ok(0) => return Poll::Ready(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) => return Poll::Ready(error),
            }
        }
        Poll::Pending
    }

    // ── what it is told ──

    /// Adds a payload, as packets.
    pub fn put(&mut self, payload: &[u8]) {
        self.sequence = frame::put(&mut self.out, self.sequence, payload);
    }

    /// Adds a packet as a server sent it, under the client's own number.
    pub fn put_packet(&mut self, body: &[u8]) {
        let [a, b, c, ..] = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        self.out.extend_from_slice(&[a, b, c, self.sequence]);
        self.out.extend_from_slice(body);
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Says that something is done, and what has been noted of its session.
    pub fn put_done(&mut self, done: &Done) {
        let payload = if self.changes.is_empty() {
            done.payload(0, self.capabilities)
        } else {
            let changes = std::mem::take(&mut self.changes);
            Done { changes, ..done.clone() }.payload(0, self.capabilities)
        };
        self.put(&payload);
    }

    /// Notes for the next OK what a server tells of what the client's statement has changed there.
    pub fn note_changes(&mut self, done: &Done) {
        if self.capabilities & capability::SESSION_TRACK != 0 && !done.changes.is_empty() {
            // Of what cannot be read whoever reads all of it makes something.
            self.changes.extend(self.tracking.picked(&done.changes).unwrap_or_default());
        }
    }

    /// Notes for the next OK that its session uses that database.
    pub fn note_database(&mut self, name: &str) {
        if self.capabilities & capability::SESSION_TRACK != 0 {
            self.changes.extend(self.tracking.of_database(name));
        }
    }

    /// Notes for the next OK that something of its session has changed that no server tells of.
    pub fn note_state(&mut self) {
        if self.capabilities & capability::SESSION_TRACK != 0 {
            self.changes.extend(self.tracking.of_state());
        }
    }

    /// Says that something failed. Among columns a client reads no error: it is told of all of them or of none.
    pub fn put_failure(&mut self, failure: &Failure) {
        self.take_back_columns();
        self.changes.clear();
        if failure.number == INTERRUPTED && self.doom.load(Ordering::Relaxed) {
            self.told_deadlock = true;
            return self.put(&deadlock().payload());
        }
        self.put(&failure.payload());
    }

    /// Says what columns follow.
    pub fn put_columns(&mut self, columns: &[Column], status: u16) {
        self.put(&column_count(columns.len() as u64));
        for column in columns {
            self.put(&column.payload());
        }
        self.end_columns(status);
    }

    /// From now on it is told of columns, one after the other. None of them is sent before [`Self::end_columns`].
    pub fn begin_columns(&mut self) {
        self.columns = Some(self.mark());
    }

    /// Whether it has been told of some columns, and not of all.
    #[must_use]
    pub fn is_among_columns(&self) -> bool {
        self.columns.is_some()
    }

    /// Takes back what it has been told of columns, if that was not all.
    pub fn take_back_columns(&mut self) {
        if let Some(mark) = self.columns.take() {
            self.rewind(mark);
        }
    }

    /// Says that the columns are all told, where that is said.
    pub fn end_columns(&mut self, status: u16) {
        self.columns = None;
        if self.capabilities & capability::DEPRECATE_EOF == 0 {
            self.put(&end_of_rows(0, status));
        }
    }

    /// Says that the rows are all told.
    pub fn end_rows(&mut self, warnings: u16, status: u16) {
        if self.capabilities & capability::DEPRECATE_EOF == 0 {
            self.put(&end_of_rows(warnings, status));
        } else {
            let done = Done { status, warnings, ..Done::default() };
            let payload = done.payload(0xfe, self.capabilities);
            self.put(&payload);
        }
    }

    /// Where it is, before something that may have to be taken back.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { length: self.out.len(), sequence: self.sequence }
    }

    /// How often something was sent, or begun to be.
    #[must_use]
    pub fn sends(&self) -> u64 {
        self.sends
    }

    /// Takes back what was added since, none of which may have been sent.
    pub fn rewind(&mut self, mark: Mark) {
        self.out.truncate(mark.length);
        self.sequence = mark.sequence;
        self.within_payload = false;
    }

    /// Sends nothing from now on. What is more than `limit` bytes fails to be sent.
    pub fn hold(&mut self, limit: usize) {
        self.held = Some(Hold { limit, overflowed: false });
    }

    /// Sends again. False: it was more than it might be.
    pub fn let_go(&mut self) -> bool {
        self.held.take().is_none_or(|it| !it.overflowed)
    }

    /// What it has been told since, none of which may have been sent: packets.
    #[must_use]
    pub fn told_since(&self, mark: Mark) -> &[u8] {
        self.out.get(mark.length..).unwrap_or_default()
    }

    // ── sending ──

    /// Whether so much is gathered that it should be sent before there is more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.out.len() >= self.held.map_or(GATHER_MAX, |it| it.limit)
    }

    /// How much of what it is told is not sent yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.out.len()
    }

    /// Sends what is gathered.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(hold) = &mut self.held {
            hold.overflowed |= self.out.len() >= hold.limit;
            return Poll::Ready(if hold.overflowed { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(()) });
        }
        self.sends += u64::from(!self.out.is_empty());
        match self.squeezed.as_deref_mut() {
            None => ready!(poll_send(&mut self.stream, &self.out, &mut self.sent, cx))?,
            Some(squeezed) => {
                let mut has_packed = false;
                loop {
                    ready!(poll_send(&mut self.stream, &squeezed.out, &mut squeezed.sent, cx))?;
                    squeezed.out.clear();
                    squeezed.sent = 0;
                    let Some(rest) = self.out.get(self.sent..).filter(|it| !it.is_empty()) else { break };
                    // Between pieces others of the thread have their turn.
                    if std::mem::replace(&mut has_packed, true) {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    let piece = rest.get(..PACK_MAX).unwrap_or(rest);
                    squeezed.sequence = compress::put(&mut squeezed.out, squeezed.sequence, piece, squeezed.method);
                    self.sent += piece.len();
                }
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.went += self.out.len() as u64;
        self.out.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// The same.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }
}

/// Sends the rest of `out`, of which `sent` bytes have been.
fn poll_send(stream: &mut Stream, out: &[u8], sent: &mut usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while let Some(rest) = out.get(*sent..).filter(|it| !it.is_empty()) {
        match ready!(Pin::new(&mut *stream).poll_write(cx, rest))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => *sent += count,
        }
    }
    Poll::Ready(Ok(()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn pair(held_max: usize) -> (Client, Stream) {
        let (ours, theirs) = Stream::memory(held_max);
        (Client::new(ours, &[], 0, 1, 1 << 20), theirs)
    }

    #[tokio::test]
    async fn pieces_are_unpacked_one_by_one() {
        const PIECE: usize = 1 << 18;
        const PIECES: usize = 64;
        for method in [compress::Method::Zlib, compress::Method::Zstd(3)] {
            let (mut client, mut theirs) = pair(1 << 22);
            client.compress(method);
            let mut packed = Vec::new();
            for sequence in 0..PIECES {
                // A payload longer than what is taken fails: these are many.
                let mut plain = Vec::new();
                (0..PIECE / 1024).for_each(|_| _ = frame::put(&mut plain, 0, &[0; 1020]));
                compress::put(&mut packed, u8::try_from(sequence).unwrap(), &plain, method);
            }
            theirs.write_all(&packed).await.unwrap();
            drop(packed);
            // While something else is done, the client is listened to no longer than it has said a little.
            let gone = poll_fn(|cx| Poll::Ready(client.poll_gone(cx).is_ready())).await;
            assert!(!gone);
            let mut held = client.inbox.unread().len();
            assert!((EARLY_MAX..=PIECE).contains(&held), "{held}");
            let (mut command, mut count) = (Vec::new(), 0);
            while count < PIECES * (PIECE / 1024) {
                if client.command(&mut command).unwrap() {
                    count += 1;
                } else {
                    assert!(poll_fn(|cx| client.poll_read(cx)).await.unwrap() > 0);
                }
                held = held.max(client.inbox.size());
            }
            assert!(held <= 2 * PIECE, "{held} bytes of {method:?}");
            drop(theirs);
            assert!(poll_fn(|cx| Poll::Ready(client.poll_gone(cx).is_ready())).await);
        }
    }

    #[tokio::test]
    async fn who_takes_nothing_packed_is_given_no_more() {
        let noise: Vec<u8> = (0..20_000_u32).flat_map(|it| it.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for method in [compress::Method::Zlib, compress::Method::Zstd(3)] {
            let (mut client, mut theirs) = pair(1000);
            client.compress(method);
            let mut plain = Vec::new();
            let mut sequence = 1;
            for payload in [&noise[..], b"x", &noise.repeat(5)] {
                client.put(payload);
                sequence = frame::put(&mut plain, sequence, payload);
                assert!(client.is_full());
                let sent = poll_fn(|cx| Poll::Ready(client.poll_flush(cx).is_ready())).await;
                assert!(!sent && client.is_full(), "it waits");
            }
            let told = async {
                let (mut packed, mut found) = (Vec::new(), Vec::new());
                while found.len() < plain.len() {
                    theirs.read_buf(&mut packed).await.unwrap();
                    let mut before = found.len();
                    while let Some((used, _)) = compress::take(&packed, &mut found, method).unwrap() {
                        packed.drain(..used);
                        assert!(found.len() - before <= PACK_MAX, "a piece holds no more");
                        before = found.len();
                    }
                }
                found
            };
            let (sent, found) = tokio::join!(client.flush(), told);
            sent.unwrap();
            assert!(found == plain);
            assert!(!client.is_full());
        }
    }

    #[tokio::test]
    async fn who_is_asked_for_a_file_says_it_or_is_given_up() {
        let (mut client, mut theirs) = pair(1 << 20);
        client.ask_for_file(b"f");
        let silent = client.file_piece_within(Duration::from_millis(1)).await;
        assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(client.sends_file(), "what it says is of its file still");
        let mut asked = [0; 6];
        theirs.read_exact(&mut asked).await.unwrap();
        assert_eq!(asked, *b"\x02\0\0\x01\xfbf");
        // What looks like a command, and one behind the file.
        theirs.write_all(b"\x02\0\0\x02\x03;\x02\0\0\x03\x03;\0\0\0\x04\x01\0\0\0\x0e").await.unwrap();
        assert_eq!(client.file_piece().await.unwrap(), b"\x03;");
        client.skip_file().await.unwrap();
        assert!(!client.sends_file());
        let mut command = Vec::new();
        assert!(client.command(&mut command).unwrap());
        assert_eq!(command, [0x0e]);
        client.ask_for_file(b"f");
        drop(theirs);
        assert!(client.skip_file().await.is_err());
    }
}
