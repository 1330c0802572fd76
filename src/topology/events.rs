//! What happened to servers and to the map, the latest of it: for the console, and counted for metrics.
//!
//! Whoever logs one of these says it here as well. A shard keeps its own, so that one that flaps drives out nobody else's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock;
use crate::clock::Tick;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident => $label:literal;)*) => {
        /// What an event is about. `docs/operations.md` lists them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $name),* }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name in the console, and as a metric's label.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$name => $label),* }
            }
        }
    };
}

kinds! {
    /// A node has become the shard's primary.
    Primary => "primary";
    /// A node is something else than it was, or answers again.
    Node => "node";
    /// A node does not answer.
    Down => "down";
    /// A node claims what it must not, or an operator says so.
    Fenced => "fenced";
    /// An operator drains a node.
    Drained => "drained";
    /// A replica answers, and serves no reads.
    NoReads => "no_reads";
    /// A node was promoted that may lack acknowledged writes.
    Loss => "loss";
    /// The shard is held back.
    Paused => "paused";
    /// It is not any more; or what an operator said of a node is taken back.
    Resumed => "resumed";
    /// A planned switchover began, or has ended.
    Switchover => "switchover";
    /// A step of a failover that this process leads, or whether it would lead one.
    Failover => "failover";
    /// The proxy has started.
    Serving => "serving";
    /// A map has come into force.
    Reloaded => "reloaded";
    /// A map was not taken.
    Rejected => "rejected";
    /// The proxy lets nobody in any more.
    Stopping => "stopping";
}

impl Kind {
    /// Whether it happens to a shard, or to the process.
    #[must_use]
    pub fn is_of_shard(self) -> bool {
        match self {
            Self::Primary | Self::Node | Self::Down | Self::Fenced | Self::Drained | Self::NoReads | Self::Loss => true,
            Self::Paused | Self::Resumed | Self::Switchover | Self::Failover => true,
            Self::Serving | Self::Reloaded | Self::Rejected | Self::Stopping => false,
        }
    }
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Event {
    /// When, by the clock that puts events in order.
    pub at: Tick,
    /// When, since 1970.
    pub time: Duration,
    /// What it is about.
    pub kind: Kind,
    /// The node that it happened to.
    pub node: Option<Arc<str>>,
    /// For people.
    pub what: String,
}

/// The latest events of a shard, or of the process.
#[derive(Debug)]
pub struct Events {
    latest: Mutex<VecDeque<Event>>,
    counts: [AtomicU64; Kind::ALL.len()],
}

/// How many are kept.
pub const KEPT: usize = 200;

/// How much of what is said is kept, in characters.
const SAID_MAX: usize = 1000;

impl Default for Events {
    fn default() -> Self {
        Self { latest: Mutex::default(), counts: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Events {
    /// Notes one that has just happened.
    pub fn note(&self, kind: Kind, node: Option<&Arc<str>>, what: impl Into<String>) {
        let mut what = what.into();
        if let Some((end, _)) = what.char_indices().nth(SAID_MAX) {
            what.truncate(end);
        }
        let event = Event { at: clock::now(), time: clock::unix_now(), kind, node: node.cloned(), what };
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() >= KEPT {
            latest.pop_front();
        }
        latest.push_back(event);
        if let Some(count) = self.counts.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that are kept, the oldest first.
    #[must_use]
    pub fn latest(&self) -> Vec<Event> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// How many of a kind there have been.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts.get(kind as usize).map_or(0, |it| it.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_and_all_are_counted() {
        let events = Events::default();
        for number in 0..KEPT + 7 {
            events.note(Kind::Down, Some(&"s1-a".into()), number.to_string());
        }
        events.note(Kind::Rejected, None, "é".repeat(SAID_MAX * 2));
        let latest = events.latest();
        assert_eq!(latest.len(), KEPT);
        assert_eq!(latest.first().map(|it| &*it.what), Some("8"));
        assert_eq!(latest.last().map(|it| it.what.chars().count()), Some(SAID_MAX));
        assert_eq!((events.count(Kind::Down), events.count(Kind::Rejected), events.count(Kind::Loss)), (207, 1, 0));
        assert!(latest.is_sorted_by_key(|it| it.at));
    }
}
