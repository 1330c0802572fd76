//! What has been read and not been handled yet.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use tokio::io::AsyncRead;
use tokio::io::ReadBuf;

/// What a buffer holds at first, in bytes; a longer message makes it as large as needed.
const BUFFER: usize = 64 << 10;

/// How many buffers a thread keeps for later.
const KEPT: usize = 64;

thread_local! {
    /// Buffers that nobody reads into now. The one used last is the next, while the processor's caches still have it.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What arrived on a connection, and how much of it has been handled.
///
/// It has memory only from a read until what came is handled and [`Self::rest`] is called, or until it waits for more: an
/// idle connection costs none, and connections that are handled one after the other read into the same buffer.
#[derive(Debug, Default)]
pub struct Inbox {
    buffer: Vec<u8>,
    /// What of the buffer is filled.
    filled: usize,
    /// What of it has been handled.
    at: usize,
}

impl Inbox {
    /// Begins with what was read already.
    #[must_use]
    pub fn of(leftover: &[u8]) -> Self {
        Self { buffer: leftover.to_vec(), filled: leftover.len(), at: 0 }
    }

    /// Those bytes, handled or not; void after the next [`Self::poll_read`] or [`Self::rest`]. What others left in the
    /// buffer is never shown.
    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(..self.filled).and_then(|filled| filled.get(range)).unwrap_or_default()
    }

    /// What is not handled, where it stands in [`Self::bytes`].
    #[must_use]
    pub fn ahead(&self) -> Range<usize> {
        self.at..self.filled
    }

    /// What is not handled.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.bytes(self.ahead())
    }

    /// How much fits in, in bytes, before it has to grow.
    #[must_use]
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// Whether everything has been handled.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.at == self.filled
    }

    /// Counts `count` bytes as handled.
    pub fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.filled);
    }

    /// Reads more. 0: the other end hung up.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn poll_read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            self.buffer = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER]);
        }
        if self.at == self.filled {
            self.at = 0;
            self.filled = 0;
        } else if self.filled == self.buffer.len() && self.at > 0 {
            self.buffer.copy_within(self.at..self.filled, 0);
            self.filled -= self.at;
            self.at = 0;
        }
        if self.filled == self.buffer.len() {
            let wanted = (self.buffer.len() * 2).max(BUFFER);
            self.buffer.resize(wanted, 0);
        }
        let mut space = ReadBuf::new(self.buffer.get_mut(self.filled..).unwrap_or_default());
        let polled = Pin::new(stream).poll_read(cx, &mut space);
        let count = space.filled().len();
        self.filled += count;
        if polled.is_pending() {
            self.rest();
        }
        ready!(polled)?;
        Poll::Ready(Ok(count))
    }

    /// Adds bytes that were not read here.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.truncate(self.filled);
        self.buffer.drain(..self.at);
        self.buffer.extend_from_slice(bytes);
        (self.filled, self.at) = (self.buffer.len(), 0);
    }

    /// Puts bytes before what is not handled.
    pub fn put_back(&mut self, bytes: &[u8]) {
        let mut all = Vec::with_capacity(bytes.len() + self.unread().len());
        all.extend_from_slice(bytes);
        all.extend_from_slice(self.unread());
        *self = Self { filled: all.len(), buffer: all, at: 0 };
    }

    /// Gives the memory back if everything has been handled.
    pub fn rest(&mut self) {
        if !self.is_drained() {
            return;
        }
        self.at = 0;
        self.filled = 0;
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.len() == BUFFER {
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < KEPT {
                    spare.push(buffer);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::net::Stream;

    #[tokio::test]
    async fn what_is_not_handled_stays_through_growth_and_rest() {
        let (mut one, mut other) = Stream::memory(1 << 20);
        let mut inbox = Inbox::of(b"early");
        inbox.consume(2);
        let sent: Vec<u8> = (0..200_000_u32).map(|it| u8::try_from(it % 251).unwrap()).collect();
        other.write_all(&sent).await.unwrap();
        let mut wanted = b"rly".to_vec();
        wanted.extend_from_slice(&sent);
        while inbox.unread().len() < wanted.len() {
            assert!(poll_fn(|cx| inbox.poll_read(&mut one, cx)).await.unwrap() > 0);
            inbox.rest();
        }
        assert_eq!(inbox.unread(), wanted);
        assert!(inbox.size() >= wanted.len());
        inbox.consume(wanted.len() - 1);
        inbox.rest();
        assert_eq!(inbox.unread(), &wanted[wanted.len() - 1..]);
        inbox.consume(1);
        inbox.rest();
        assert_eq!(inbox.size(), 0, "what is empty holds no memory");
    }

    #[test]
    fn what_is_put_back_comes_before_what_is_not_handled() {
        let mut inbox = Inbox::of(b"abcdef");
        inbox.consume(4);
        inbox.put_back(b"cd");
        assert_eq!(inbox.unread(), b"cdef");
        inbox.consume(4);
        inbox.rest();
        inbox.put_back(b"x");
        assert_eq!(inbox.unread(), b"x");
    }

    #[tokio::test]
    async fn one_buffer_serves_connections_in_turn() {
        let (mut one, mut other) = Stream::memory(64);
        let (mut first, mut second) = (Inbox::default(), Inbox::default());
        for inbox in [&mut first, &mut second] {
            let waits = poll_fn(|cx| Poll::Ready(inbox.poll_read(&mut one, cx).is_pending())).await;
            assert!(waits);
            assert_eq!(inbox.size(), 0, "who waits holds no memory");
            other.write_all(b"abc").await.unwrap();
            assert_eq!(poll_fn(|cx| inbox.poll_read(&mut one, cx)).await.unwrap(), 3);
            inbox.consume(3);
            inbox.rest();
        }
        assert_eq!(SPARE.with_borrow(Vec::len), 1);
    }
}
