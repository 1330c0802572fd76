//! What an operator has said of one server: that nothing new goes there (DRAIN), or nothing at all (FENCE).
//!
//! It is this process's own, like a pause, and stays while maps change, as long as they have the server.

use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::interval;

use super::Topology;
use super::events::Kind;
use super::roles::Role;
use crate::clock;
use crate::clock::Tick;
use crate::ident::NodeId;

/// What was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    #[default]
    None,
    /// As a replica it serves no reads; what goes on there comes to its end.
    Drained,
    /// Nothing is sent there, and what goes on there is cut off.
    Fenced,
}

impl Order {
    /// For people; `None`: nothing was said.
    #[must_use]
    pub fn words(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Drained => Some("an operator drains it (DRAIN) until RESUME"),
            Self::Fenced => Some("an operator has fenced it (FENCE) until RESUME"),
        }
    }
}

/// One that is read by all threads.
#[derive(Debug, Default)]
pub(super) struct Standing(AtomicU8);

impl Standing {
    pub(super) fn get(&self) -> Order {
        // In one order with the count of statements that run: who is counted before it is looked at sees this here.
        match self.0.load(Ordering::SeqCst) {
            1 => Order::Drained,
            2 => Order::Fenced,
            _ => Order::None,
        }
    }

    pub(super) fn set(&self, order: Order) {
        let number = match order {
            Order::None => 0,
            Order::Drained => 1,
            Order::Fenced => 2,
        };
        self.0.store(number, Ordering::SeqCst);
    }
}

/// Why a server is not drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undrained {
    /// It is its shard's primary.
    Primary,
    /// So many connections were in use there when time was up. No new ones come.
    Busy(u32),
}

/// How often it is looked whether everything has come to its end.
const LOOK: Duration = Duration::from_millis(5);

impl Topology {
    /// Sends a replica no more reads, and waits until nothing goes on there, at most until `deadline`. Cancel-safe: it stays
    /// drained.
    ///
    /// # Errors
    /// [`Undrained`].
    pub async fn drain(&self, id: NodeId, deadline: Tick) -> Result<(), Undrained> {
        let node = self.node(id);
        if node.role() == Role::Primary {
            return Err(Undrained::Primary);
        }
        if node.order() != Order::Fenced {
            self.say(id, Order::Drained, Kind::Drained);
        }
        let mut tick = interval(LOOK);
        loop {
            tick.tick().await;
            match node.in_use() {
                0 => break,
                count if clock::now() >= deadline => return Err(Undrained::Busy(count)),
                _ => {}
            }
        }
        // What is open there is idle.
        self.shard(id.shard).cut_off(node);
        Ok(())
    }

    /// Sends a server nothing any more, and ends what goes on there.
    pub fn fence(&self, id: NodeId) {
        self.say(id, Order::Fenced, Kind::Fenced);
        self.shard(id.shard).cut_off(self.node(id));
    }

    /// Takes back what was said of a server.
    pub fn readmit(&self, id: NodeId) {
        if self.node(id).order() != Order::None {
            self.say(id, Order::None, Kind::Resumed);
        }
    }

    fn say(&self, id: NodeId, order: Order, kind: Kind) {
        let node = self.node(id);
        if node.order() == order {
            return;
        }
        let what = order.words().unwrap_or("an operator takes back what was said of it (RESUME)");
        tracing::warn!(shard = self.shard(id.shard).name(), node = &*node.node().name, what, "told");
        self.shard(id.shard).order(node, order);
        self.events(id.shard).note(kind, Some(&node.node().name), what);
    }
}
