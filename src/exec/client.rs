//! The client's socket, as execution sees it: messages cut from what arrives, answers gathered into few sends.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use tokio::io::AsyncWrite;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec::flight;
use crate::exec::say;
use crate::net::Inbox;
use crate::net::Stream;

/// What may be gathered before it is sent.
const GATHER_MAX: usize = 64 << 10;

/// One client's connection.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    inbox: Inbox,
    out: Vec<u8>,
    /// How many bytes it has been sent, or may have been.
    sent: u64,
    /// A send was given up in the middle of a message: nothing more can be said.
    torn: bool,
    /// The longest message that is taken, in bytes.
    message_max: usize,
    /// A message that came is still to be read: nothing may be read over it.
    pub in_hand: bool,
    /// How often servers copied from it in the extended protocol.
    pub copies: u64,
    /// So many bytes that come next belong to a message that nobody wants any more.
    unwanted: usize,
    /// The client has been given a part of a row: nothing but the rest of it can follow.
    pub within_row: bool,
    /// A server is being made to give up what it does for this client, for it is part of a deadlock.
    pub doom: Arc<AtomicBool>,
    /// What stands in the place of one of the client's messages.
    in_place: Vec<u8>,
    /// How many bytes have come from it.
    pub came: u64,
}

/// Where messages begin that the client has not sent: no buffer is as long.
const IN_PLACE: usize = usize::MAX / 2;

/// One message of a client: its type, and where its body stands in [`Client::bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The type byte.
    pub kind: u8,
    /// The whole of it, header included.
    pub whole: Range<usize>,
}

impl Message {
    /// Where the body stands.
    #[must_use]
    pub fn body(&self) -> Range<usize> {
        self.whole.start + 5..self.whole.end
    }
}

impl Client {
    /// Takes over a stream that has logged in, and what it sent too early.
    #[must_use]
    pub fn new(stream: Stream, leftover: &[u8], message_max: usize) -> Self {
        Self {
            stream,
            inbox: Inbox::of(leftover),
            out: Vec::new(),
            sent: 0,
            torn: false,
            message_max,
            in_hand: false,
            copies: 0,
            within_row: false,
            in_place: Vec::new(),
            unwanted: 0,
            doom: Arc::default(),
            came: 0,
        }
    }

    /// The bytes that a [`Message`] points into; valid until the next read or [`Self::rest`].
    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        match range.start.checked_sub(IN_PLACE) {
            None => self.inbox.bytes(range),
            Some(start) => self.in_place.get(start..range.end - IN_PLACE).unwrap_or_default(),
        }
    }

    /// A message in the place of the one that is in hand, until the next is put there.
    pub fn put_in_place(&mut self, kind: u8, bytes: Vec<u8>) -> Message {
        self.in_place = bytes;
        Message { kind, whole: IN_PLACE..IN_PLACE + self.in_place.len() }
    }

    /// The next whole message, if it has arrived. It counts as handled.
    ///
    /// # Errors
    /// When the stream breaks the protocol.
    pub fn message(&mut self) -> Result<Option<Message>, ClientError> {
        let Range { start, end: filled } = self.inbox.ahead();
        let Some(&[kind, a, b, c, d]) = self.inbox.unread().first_chunk::<5>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !matches!(
            kind,
            b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S' | b'F' | b'X' | b'd' | b'c' | b'f' | b'p'
        ) {
            return Err(ClientError::new(
                Code::ProtocolViolation,
                format_args!("invalid frontend message type {kind}"),
                "The session is closed: what follows cannot be read safely.",
            ));
        }
        if length < 4 {
            return Err(ClientError::new(
                Code::ProtocolViolation,
                "invalid message length",
                "The session is closed: what follows cannot be read safely.",
            ));
        }
        if length > self.message_max {
            return Err(ClientError::new(
                Code::ProtocolViolation,
                format_args!("message of {length} bytes is beyond the limit of {} bytes", self.message_max),
                "Raise limits.message in the shard map, or send less at once.",
            ));
        }
        let end = start + 1 + length;
        if end > filled {
            return Ok(None);
        }
        self.inbox.consume(1 + length);
        Ok(Some(Message { kind, whole: start..end }))
    }

    /// What the client hears of a server's error: where the server was made to give up because of a deadlock, that.
    #[must_use]
    pub fn in_its_words(&self, error: Vec<u8>) -> Vec<u8> {
        if flight::sqlstate(&error) == *b"57014" && self.doom.swap(false, Ordering::Relaxed) {
            return say::deadlock();
        }
        error
    }

    /// Whether the bytes that have come end with a whole message, and none is left.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.inbox.is_drained()
    }

    /// The bytes that have come and are not handled; COPY data is taken from here.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.inbox.unread()
    }

    /// Whether what has come next holds an Execute of that portal for all its rows, before any Sync.
    #[must_use]
    pub fn asks_for_all(&self, portal: &str) -> bool {
        let mut rest = self.inbox.unread();
        while let Some(&[kind, a, b, c, d]) = rest.first_chunk::<5>() {
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            let Some((message, more)) = rest.split_at_checked(length.saturating_add(1)) else { return false };
            match kind {
                b'E' => {
                    let body = message.get(5..).unwrap_or_default();
                    let (name, limit) = body.split_at_checked(portal.len()).unwrap_or_default();
                    if name == portal.as_bytes() && limit.first() == Some(&0) {
                        return limit == [0; 5];
                    }
                }
                b'S' | b'X' => return false,
                _ => {}
            }
            rest = more;
        }
        false
    }

    /// Whether a Sync has come, with nothing before it that does something of its own.
    #[must_use]
    pub fn is_last_before_sync(&self) -> bool {
        let mut rest = self.inbox.unread();
        while let Some(&[kind, a, b, c, d]) = rest.first_chunk::<5>() {
            match kind {
                b'S' => return true,
                b'D' | b'E' | b'C' | b'H' => {}
                _ => return false,
            }
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            rest = rest.get(length.saturating_add(1)..).unwrap_or_default();
        }
        false
    }

    /// Where what comes next stands.
    #[must_use]
    pub fn at(&self) -> usize {
        self.inbox.ahead().start
    }

    /// How many bytes the client has been sent, or may have been.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Puts bytes before what is not handled, as if they had not been read yet. [`Message`]s given out before are void.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.inbox.put_back(bytes);
    }

    /// Counts `count` bytes as handled.
    pub fn consume(&mut self, count: usize) {
        self.inbox.consume(count);
    }

    /// The same for bytes that may not have come yet: the rest of a message that nobody wants any more.
    pub fn discard(&mut self, count: usize) {
        let here = count.min(self.inbox.unread().len());
        self.inbox.consume(here);
        self.unwanted += count - here;
    }

    /// Reads more; holds no buffer while nothing comes. 0: the client hung up. [`Message`]s given out before are void.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = self.inbox.poll_read(&mut self.stream, cx);
        if let Poll::Ready(Ok(count)) = &read {
            self.came += *count as u64;
        }
        if self.unwanted > 0 && read.is_ready() {
            let wanted = std::mem::take(&mut self.unwanted);
            self.discard(wanted);
        }
        read
    }

    /// Gives memory back if everything has been handled: [`Message`]s given out before are void.
    pub fn rest(&mut self) {
        self.inbox.rest();
    }

    /// Reads more. 0: the client hung up.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn read(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    /// Adds to what is to be sent.
    pub fn push(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// What is to be sent, for builders that append.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Takes back what was gathered last if it is a CommandComplete: what it tells is not certain yet.
    #[must_use]
    pub fn take_complete(&mut self) -> Vec<u8> {
        self.complete_at().map_or_else(Vec::new, |at| self.out.split_off(at))
    }

    /// Where the last of the gathered messages begins, if that is a CommandComplete.
    pub(super) fn complete_at(&self) -> Option<usize> {
        let (mut last, mut next) = (0, 0);
        while let Some(&[_, a, b, c, d]) = self.out.get(next..).and_then(<[u8]>::first_chunk) {
            last = next;
            next += 1 + u32::from_be_bytes([a, b, c, d]) as usize;
        }
        (next == self.out.len() && self.out.get(last) == Some(&b'C')).then_some(last)
    }

    /// Whether what was gathered only comes before rows: that statements were read and bound, and what columns they have.
    #[must_use]
    pub fn is_prelude(&self) -> bool {
        let mut next = 0;
        while let Some(&[kind, a, b, c, d]) = self.out.get(next..).and_then(<[u8]>::first_chunk) {
            if !matches!(kind, b'1' | b'2' | b'3' | b't' | b'T' | b'n') {
                return false;
            }
            next += 1 + u32::from_be_bytes([a, b, c, d]) as usize;
        }
        next == self.out.len()
    }

    /// How much has been gathered.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.out.len()
    }

    /// Whether enough was gathered that it should be sent before more is.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.out.len() >= GATHER_MAX
    }

    /// Sends what was gathered and then `tail`, which is not copied where possible.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn send_with(&mut self, tail: &[u8]) -> io::Result<()> {
        let rest: &[u8] = if self.out.is_empty() {
            tail
        } else {
            self.out.extend_from_slice(tail);
            &[]
        };
        if self.torn {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // Whoever gives up on this future in the middle leaves a part of a message behind.
        self.torn = true;
        let mut sent = 0;
        let stream = &mut self.stream;
        let bytes: &[u8] = if self.out.is_empty() { rest } else { &self.out };
        self.sent += bytes.len() as u64;
        poll_fn(|cx| {
            while sent < bytes.len() {
                let count = ready!(Pin::new(&mut *stream).poll_write(cx, bytes.get(sent..).unwrap_or_default()))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                sent += count;
            }
            Pin::new(&mut *stream).poll_flush(cx)
        })
        .await?;
        self.torn = false;
        self.out.clear();
        if self.out.capacity() > GATHER_MAX * 2 {
            self.out = Vec::new();
        }
        Ok(())
    }

    /// Sends a part of `bytes`, before which nothing may be gathered. Whoever gives up says no more.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.sent += count as u64;
        Poll::Ready(if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) })
    }

    /// Pushes out what the stream may hold back (TLS).
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Sends what was gathered.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() { Ok(()) } else { self.send_with(&[]).await }
    }

    /// Gives memory back before a long wait.
    pub fn relax(&mut self) {
        if self.out.is_empty() && self.out.capacity() > 0 {
            self.out = Vec::new();
        }
    }
}
