//! An open server connection as operators see it, and who has it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock;
use crate::clock::Tick;
use crate::net::Stream;

/// One open connection. It is listed as long as the connection lives.
#[derive(Debug)]
pub struct Seat {
    /// Its number, which no other connection of this process ever has.
    pub id: u64,
    /// The server's process or thread.
    pub process: u32,
    /// The server's end of it.
    pub peer: Option<SocketAddr>,
    /// The proxy's end.
    pub local: Option<SocketAddr>,
    /// Whether TLS is in use.
    pub tls: bool,
    /// When it was opened.
    pub opened: Tick,
    holder: AtomicU64,
}

impl Seat {
    /// That of a connection that has just logged in.
    #[must_use]
    pub fn new(stream: &Stream, process: u32) -> Arc<Self> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: LAST.fetch_add(1, Relaxed) + 1,
            process,
            peer: stream.peer(),
            local: stream.local(),
            tls: stream.is_tls(),
            opened: clock::now(),
            holder: AtomicU64::new(0),
        })
    }

    /// A client has it, by its number among clients.
    pub fn take(&self, client: u64) {
        self.holder.store(client, Relaxed);
    }

    /// Nobody has it.
    pub fn leave(&self) {
        self.holder.store(0, Relaxed);
    }

    /// The client that has it, or had it last before it was closed.
    #[must_use]
    pub fn holder(&self) -> Option<u64> {
        Some(self.holder.load(Relaxed)).filter(|it| *it != 0)
    }
}

/// The open connections of a pool.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Vec<Weak<Seat>>>);

impl Seats {
    pub(super) fn note(&self, seat: &Arc<Seat>) {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|it| it.strong_count() > 0);
        seats.push(Arc::downgrade(seat));
    }

    pub(super) fn all(&self) -> Vec<Arc<Seat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_listed_while_its_connection_lives() {
        let seats = Seats::default();
        let stream = Stream::memory(1).0;
        let (one, two) = (Seat::new(&stream, 11), Seat::new(&stream, 12));
        seats.note(&one);
        seats.note(&two);
        one.take(5);
        let listed = |seats: &Seats| seats.all().iter().map(|it| (it.process, it.holder())).collect::<Vec<_>>();
        assert_eq!(listed(&seats), [(11, Some(5)), (12, None)]);
        one.leave();
        drop(two);
        assert_eq!(listed(&seats), [(11, None)]);
        assert_ne!(one.id, Seat::new(&stream, 13).id);
    }
}
