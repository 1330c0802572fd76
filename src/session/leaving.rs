//! When sessions end because their process does: at once between transactions, or, while another process serves who comes,
//! each when it is least missed.

use std::cell::Cell;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Sleep;
use tokio::time::sleep;

use crate::clock;
use crate::clock::Tick;

/// When the sessions of a thread end. What is within a transaction never does before the transaction's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leave {
    /// When their clients leave.
    #[default]
    Never,
    /// Each when its client has been silent for a moment, and not all at once but spread from the first of these moments to the
    /// second; those whose clients are never silent, or that keep something on a server (a pin), at the second.
    Between(Tick, Tick),
    /// Between transactions.
    Now,
}

/// What all sessions of a thread look at while they are idle.
#[derive(Debug, Default)]
pub struct Leaving {
    /// Wakes those that are idle.
    pub(crate) changed: Notify,
    when: Cell<Leave>,
}

impl Leaving {
    /// From now on they end so.
    pub fn set(&self, when: Leave) {
        self.when.set(when);
        self.changed.notify_waiters();
    }
}

/// One session's wait for its client.
#[derive(Debug, Default)]
pub(crate) struct Wait {
    until: Option<Tick>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    /// Whether the session, which is between transactions, ends now. Else its task is woken when it may.
    pub(crate) fn is_over(&mut self, leaving: &Leaving, tied: bool, cx: &mut Context<'_>) -> bool {
        let (from, to) = match leaving.when.get() {
            Leave::Never => return false,
            Leave::Now => return true,
            Leave::Between(from, to) => (from, to),
        };
        let now = clock::now();
        let until = *self.until.get_or_insert_with(|| {
            let share = if tied { 1.0 } else { rand::random() };
            from.plus(to.since(from).mul_f64(share)).max(now.plus(SILENT)).min(to)
        });
        loop {
            if clock::now() >= until {
                return true;
            }
            // Not to the end at once: what is to be may have changed.
            let nap = || Box::pin(sleep(until.since(now).min(NAP)));
            if self.sleep.get_or_insert_with(nap).as_mut().poll(cx).is_pending() {
                return false;
            }
            self.sleep = None;
            if leaving.when.get() == Leave::Now {
                return true;
            }
        }
    }
}

/// How long a client has to be silent to be told that it has to connect anew: what it would say in that moment gets no answer.
const SILENT: Duration = Duration::from_secs(1);

/// How often it is looked again.
const NAP: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    async fn over(leaving: &Leaving, tied: bool) -> bool {
        let mut wait = Wait::default();
        poll_fn(|cx| Poll::Ready(wait.is_over(leaving, tied, cx))).await
    }

    #[tokio::test]
    async fn sessions_end_at_once_or_when_they_are_silent() {
        let leaving = Leaving::default();
        assert!(!over(&leaving, false).await);
        leaving.set(Leave::Now);
        assert!(over(&leaving, true).await);
        let now = clock::now();
        leaving.set(Leave::Between(now, now.plus(Duration::from_secs(3600))));
        assert!(!over(&leaving, false).await);
        // Who is never silent is not spared beyond the end.
        leaving.set(Leave::Between(now, now));
        assert!(over(&leaving, false).await);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let leaving = Leaving::default();
        let now = clock::now();
        leaving.set(Leave::Between(now, now.plus(Duration::from_secs(3600))));
        let mut wait = Wait::default();
        // It is looked again within a while, and then sees that things have changed.
        let ended = poll_fn(|cx| match wait.is_over(&leaving, true, cx) {
            true => Poll::Ready(()),
            false => {
                leaving.set(Leave::Now);
                Poll::Pending
            }
        });
        ended.await;
    }
}
