//! Holds back commits for a moment, so that all shards can be seen at one (`session::snapshot`).
//!
//! A gate is a courtesy, not a lock: whoever passes it unasked costs a reader another try and never a wrong answer. It
//! is open but for milliseconds, and then it costs whoever commits the load of one flag.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::Semaphore;

use crate::clock;
use crate::clock::Tick;

/// How long a commit is held back at most, however many shut the gate one after the other.
const HELD_MAX: Duration = Duration::from_millis(100);
/// How many readers look at once: each holds two connections of every shard meanwhile.
pub const LOOKING_MAX: usize = 4;

/// The gate before the commits of one database.
#[derive(Debug)]
pub struct Gate {
    shut: AtomicBool,
    state: Mutex<State>,
    opened: Notify,
    /// Whose turn it is to look.
    pub turns: Semaphore,
    /// What has come of looking.
    pub counts: Counts,
}

/// What has come of looking at all shards at one moment.
#[derive(Debug, Default)]
pub struct Counts {
    /// Moments that were found.
    pub found: AtomicU64,
    /// Tries, of which most may fail.
    pub tries: AtomicU64,
    /// How often the gate was shut.
    pub shut: AtomicU64,
    /// Readers that gave up.
    pub given_up: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// How many hold it shut.
    holders: u32,
    /// When it opens whatever they do.
    until: Tick,
}

/// Holds a gate shut until it is dropped.
#[derive(Debug)]
pub struct Shut<'a>(&'a Gate);

impl Default for Gate {
    fn default() -> Self {
        Self {
            shut: AtomicBool::new(false),
            state: Mutex::default(),
            opened: Notify::new(),
            turns: Semaphore::new(LOOKING_MAX),
            counts: Counts::default(),
        }
    }
}

impl Gate {
    /// Whether commits are held back now.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }

    /// Waits until the gate is open, or has been shut for too long. Cancel-safe.
    pub async fn pass(&self) {
        if self.is_shut() {
            // Boxed, so that the future of everything around it stays small.
            Box::pin(self.wait()).await;
        }
    }

    async fn wait(&self) {
        let deadline = clock::now().plus(HELD_MAX);
        loop {
            let opened = self.opened.notified();
            let now = clock::now();
            // Whoever opens it takes the flag back before it wakes anybody.
            let until = if self.is_shut() { self.state().until.min(deadline) } else { now };
            if until <= now {
                return;
            }
            // Time that has run out is looked at above.
            let _ = tokio::time::timeout(until.since(now), opened).await;
        }
    }

    /// Shuts it for `span` at most.
    pub fn shut(&self, span: Duration) -> Shut<'_> {
        let mut state = self.state();
        state.holders += 1;
        state.until = state.until.max(clock::now().plus(span));
        self.shut.store(true, Ordering::Relaxed);
        self.counts.shut.fetch_add(1, Ordering::Relaxed);
        Shut(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.holders = state.holders.saturating_sub(1);
        if state.holders == 0 {
            state.until = Tick::NEVER;
            self.0.shut.store(false, Ordering::Relaxed);
            self.0.opened.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn whoever_holds_it_last_opens_it() {
        let gate = Gate::default();
        let (first, second) = (gate.shut(HELD_MAX), gate.shut(HELD_MAX));
        let mut waiting = pin!(gate.pass());
        let mut has_passed = async || poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_ready())).await;
        assert!(!has_passed().await);
        drop(first);
        assert!(gate.is_shut() && !has_passed().await);
        drop(second);
        assert!(!gate.is_shut() && has_passed().await);
    }

    #[tokio::test]
    async fn a_gate_that_nobody_opens_lets_through_in_the_end() {
        let gate = Gate::default();
        let _shut = gate.shut(Duration::from_secs(3600));
        let begun = clock::now();
        gate.pass().await;
        assert!(clock::now().since(begun) >= HELD_MAX);
        // Its own bound may be sooner.
        let gate = Gate::default();
        let _shut = gate.shut(Duration::from_millis(1));
        let begun = clock::now();
        gate.pass().await;
        assert!(clock::now().since(begun) < HELD_MAX);
    }
}
