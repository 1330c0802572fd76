//! Who waits for a shard's primary, and who holds them back.
//!
//! Statements and transactions that find no primary wait here, in the order in which they came, as many as
//! `failover.queue_max` allows. An operator (PAUSE) and a planned switchover have them wait although there is one. When it is
//! there, or the pause is over, they go on in the same order, each as soon as the one before has left.
//!
//! Nothing is known here of servers and time: who is first looks for the primary (`exec::waiting`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::clock;
use crate::clock::Tick;

/// Those who wait for one shard.
#[derive(Debug, Default)]
pub struct Queue {
    /// Somebody waits or is held back: whoever comes has to look closer.
    busy: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    hold: Hold,
    holder: Option<Holder>,
    /// By when they came.
    waiting: BTreeMap<u64, (Entry, Arc<Notify>)>,
    came: u64,
    /// The primary was not to be reached: one at a time tries again.
    doubtful: bool,
}

/// Whether what comes is held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// No.
    #[default]
    Open,
    /// What begins is; what has begun elsewhere, or belongs to what has, goes on to its end.
    Draining(Reads),
    /// Everything is.
    Shut(Reads),
}

/// Who holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// An operator, by PAUSE.
    Operator,
    /// A planned switchover.
    Switchover,
}

impl Holder {
    /// How operators know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "PAUSE",
            Self::Switchover => "a switchover",
        }
    }
}

/// Whether reads are held back that replicas may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// They go on.
    GoOn,
    /// They are, too.
    Held,
}

/// What wants to go to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A statement by itself, or a transaction's first.
    New,
    /// Something of a session that holds connections already.
    Joins,
}

/// So many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full(pub usize);

impl Hold {
    fn lets(self, entry: Entry) -> bool {
        match self {
            Self::Open => true,
            Self::Draining(_) => entry == Entry::Joins,
            Self::Shut(_) => false,
        }
    }
}

impl State {
    /// Whether that one is the first of those who are not held back.
    fn is_turn(&self, ticket: u64, entry: Entry) -> bool {
        self.hold.lets(entry) && self.waiting.range(..ticket).all(|(_, (other, _))| !self.hold.lets(*other))
    }

    fn wake_first(&self) {
        if let Some((_, wake)) = self.waiting.values().find(|(entry, _)| self.hold.lets(*entry)) {
            wake.notify_one();
        }
    }
}

impl Queue {
    /// Whether anybody waits or is held back. One load.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        // In one order with the count of statements that run: who is counted before a pause begins to look sees it here,
        // or is seen by it.
        self.busy.load(Ordering::SeqCst)
    }

    /// Whether `entry` need not wait.
    #[must_use]
    pub fn lets(&self, entry: Entry) -> bool {
        if !self.is_busy() {
            return true;
        }
        let state = self.state();
        state.hold.lets(entry) && !state.doubtful && (state.waiting.is_empty() || entry == Entry::Joins)
    }

    /// Whether `entry` is held back, whoever else waits.
    #[must_use]
    pub fn holds(&self, entry: Entry) -> bool {
        self.is_busy() && !self.state().hold.lets(entry)
    }

    /// Whether reads are held back that replicas may serve.
    #[must_use]
    pub fn holds_reads(&self, entry: Entry) -> bool {
        self.is_busy() && {
            let hold = self.state().hold;
            matches!(hold, Hold::Draining(Reads::Held) | Hold::Shut(Reads::Held)) && !hold.lets(entry)
        }
    }

    /// Whether what `entry` got is held back by now: of the primary, or of a replica.
    #[must_use]
    pub fn is_held(&self, entry: Entry, replica: bool) -> bool {
        if replica { self.holds_reads(entry) } else { self.holds(entry) }
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// What is held back now.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.state().hold
    }

    /// Who holds back now.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        self.state().holder
    }

    /// Holds back from now on, or lets go.
    ///
    /// # Errors
    /// Who else holds back.
    pub fn set_hold(&self, hold: Hold, holder: Holder) -> Result<(), Holder> {
        let mut state = self.state();
        if let Some(other) = state.holder.filter(|it| *it != holder) {
            return Err(other);
        }
        state.hold = hold;
        state.holder = (hold != Hold::Open).then_some(holder);
        self.note(&state);
        for (_, wake) in state.waiting.values() {
            wake.notify_one();
        }
        Ok(())
    }

    /// Takes a place at the end.
    ///
    /// # Errors
    /// `max` wait already.
    pub fn enter(self: &Arc<Self>, entry: Entry, max: usize) -> Result<Place, Full> {
        let mut state = self.state();
        if state.waiting.len() >= max {
            return Err(Full(state.waiting.len()));
        }
        state.came += 1;
        let mut place = Place { queue: Arc::clone(self), ticket: state.came, entry, wake: Arc::default(), left: true };
        place.take(&mut state);
        Ok(place)
    }

    /// Whether the primary was not to be reached.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.is_busy() && self.state().doubtful
    }

    /// The primary was not to be reached.
    pub fn doubt(&self) {
        let mut state = self.state();
        state.doubtful = true;
        self.note(&state);
    }

    /// The primary has answered.
    pub fn trust(&self) {
        if self.is_busy() {
            let mut state = self.state();
            state.doubtful = false;
            self.note(&state);
            state.wake_first();
        }
    }

    fn note(&self, state: &State) {
        self.busy.store(state.hold != Hold::Open || !state.waiting.is_empty() || state.doubtful, Ordering::SeqCst);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, given up when it is dropped.
#[derive(Debug)]
pub struct Place {
    queue: Arc<Queue>,
    ticket: u64,
    entry: Entry,
    wake: Arc<Notify>,
    left: bool,
}

impl Place {
    /// Waits until nobody is before it and it is not held back. False: the deadline has passed. Cancel-safe.
    pub async fn turn(&self, deadline: Tick) -> bool {
        loop {
            // A wake that comes before it is waited for is kept.
            if self.queue.state().is_turn(self.ticket, self.entry) {
                return true;
            }
            let left = deadline.since(clock::now());
            if left.is_zero() || timeout(left, self.wake.notified()).await.is_err() {
                return self.queue.state().is_turn(self.ticket, self.entry);
            }
        }
    }

    /// Lets the next go on.
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            let mut state = self.queue.state();
            state.waiting.remove(&self.ticket);
            self.queue.note(&state);
            state.wake_first();
        }
    }

    /// Takes the place again that it had.
    pub fn take_again(&mut self) {
        let queue = Arc::clone(&self.queue);
        self.take(&mut queue.state());
    }

    fn take(&mut self, state: &mut State) {
        self.left = false;
        state.waiting.insert(self.ticket, (self.entry, Arc::clone(&self.wake)));
        self.queue.note(state);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;
    use std::time::Duration;

    use super::*;

    fn soon() -> Tick {
        clock::now().plus(Duration::from_secs(60))
    }

    async fn is_ready(mut waiting: std::pin::Pin<&mut impl Future<Output = bool>>) -> bool {
        poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn they_go_on_in_the_order_in_which_they_came() {
        let queue: Arc<Queue> = Arc::default();
        assert!(queue.lets(Entry::New) && !queue.is_busy());
        let mut first = queue.enter(Entry::New, 2).unwrap();
        let second = queue.enter(Entry::New, 2).unwrap();
        assert_eq!(queue.enter(Entry::New, 2).map(|_| ()), Err(Full(2)));
        assert!(!queue.lets(Entry::New), "nobody overtakes");
        assert!(first.turn(soon()).await);
        {
            let mut waits = pin!(second.turn(soon()));
            assert!(!is_ready(waits.as_mut()).await);
            first.leave();
            assert!(is_ready(waits.as_mut()).await);
        }
        first.take_again();
        assert!(first.turn(soon()).await && !second.turn(clock::now()).await, "it has the place that it had");
        drop((first, second));
        assert!(queue.lets(Entry::New) && !queue.is_busy());
    }

    #[tokio::test]
    async fn what_is_held_back_waits_for_the_end_of_it_and_what_has_begun_goes_on() {
        let queue: Arc<Queue> = Arc::default();
        queue.set_hold(Hold::Draining(Reads::GoOn), Holder::Operator).unwrap();
        assert_eq!(queue.set_hold(Hold::Open, Holder::Switchover), Err(Holder::Operator));
        let held = queue.enter(Entry::New, 9).unwrap();
        let joining = queue.enter(Entry::Joins, 9).unwrap();
        assert!(joining.turn(soon()).await, "it goes past what is held back");
        assert!(queue.lets(Entry::Joins) && !queue.lets(Entry::New) && !queue.holds_reads(Entry::New));
        let mut waits = pin!(held.turn(soon()));
        assert!(!is_ready(waits.as_mut()).await);
        queue.set_hold(Hold::Shut(Reads::Held), Holder::Operator).unwrap();
        assert!(!joining.turn(clock::now()).await && queue.holds_reads(Entry::Joins));
        queue.set_hold(Hold::Open, Holder::Operator).unwrap();
        assert!(is_ready(waits.as_mut()).await);
        assert!(!joining.turn(clock::now()).await, "it came later");
    }

    #[tokio::test]
    async fn a_primary_that_cannot_be_reached_is_tried_by_one_at_a_time() {
        let queue: Arc<Queue> = Arc::default();
        queue.doubt();
        assert!(queue.is_doubtful() && !queue.lets(Entry::Joins));
        let first = queue.enter(Entry::New, 9).unwrap();
        assert!(first.turn(soon()).await);
        queue.trust();
        drop(first);
        assert!(!queue.is_busy());
    }
}
