//! What happened to probes of one node → whether it answers. Pure.
//!
//! Saturation and slowness are not sickness: a server that says "too many clients" is alive, and one that takes its
//! time keeps its place. Only silence, refusal and failure that last lead to [`Health::Down`].

use std::mem;
use std::time::Duration;

use crate::clock::Tick;

/// Whether a node answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Nothing was heard yet, good or bad.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It stopped answering a moment ago: replicas rest, a primary goes on serving.
    Suspect,
    /// It does not answer.
    Down,
}

impl Health {
    /// Whether statements may be sent to it.
    #[must_use]
    pub fn reachable(self) -> bool {
        matches!(self, Self::Up | Self::Suspect)
    }

    /// The word for consoles and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
        }
    }
}

/// What came of one attempt to hear from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A probe's answer.
    Answer,
    /// A probe asked at that moment has not been answered yet.
    Silence(Tick),
    /// Nobody listens there, or the server is starting or stopping.
    Refusal,
    /// The server is alive and has no place for us (53300 and its kind).
    Saturation,
    /// The connection that had been open broke.
    Loss,
    /// Anything else: a login that failed, a host that is not found, no connection in time.
    Failure,
}

/// The verdict on one node.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    health: Health,
    failing_since: Option<Tick>,
    refusals: u32,
    patience: Duration,
}

impl Verdict {
    /// Nothing heard yet; failures are borne for `patience`.
    #[must_use]
    pub(super) fn new(patience: Duration) -> Self {
        Self { health: Health::Unknown, failing_since: None, refusals: 0, patience }
    }

    /// The verdict now.
    #[must_use]
    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// Takes in that an attempt which began at `since` came to nothing; returns the new verdict when it changes.
    pub(super) fn failed(&mut self, heard: Heard, since: Tick, now: Tick) -> Option<Health> {
        if matches!(heard, Heard::Failure | Heard::Refusal) {
            self.failing_since.get_or_insert(since);
        }
        self.observe(heard, now)
    }

    /// Takes in what was heard; returns the new verdict when it changes.
    pub(super) fn observe(&mut self, heard: Heard, now: Tick) -> Option<Health> {
        let health = match heard {
            Heard::Answer => {
                self.clear();
                Health::Up
            }
            Heard::Saturation => {
                self.clear();
                if self.health == Health::Suspect { Health::Up } else { self.health }
            }
            Heard::Silence(since) => {
                let silent = now.since(since);
                if silent >= self.patience * SILENCE_FACTOR {
                    Health::Down
                } else if silent >= self.patience {
                    self.worse(Health::Suspect)
                } else {
                    self.health
                }
            }
            Heard::Refusal => {
                self.refusals += 1;
                if self.refusals >= REFUSALS || self.lasted(now) { Health::Down } else { self.worse(Health::Suspect) }
            }
            Heard::Loss | Heard::Failure => {
                if self.lasted(now) {
                    Health::Down
                } else {
                    self.worse(Health::Suspect)
                }
            }
        };
        (mem::replace(&mut self.health, health) != health).then_some(health)
    }

    fn clear(&mut self) {
        self.failing_since = None;
        self.refusals = 0;
    }

    fn lasted(&mut self, now: Tick) -> bool {
        let since = *self.failing_since.get_or_insert(now);
        now.since(since) >= self.patience
    }

    /// What was never up is not suspected, it is unknown until it is down; what is down stays so.
    fn worse(&self, health: Health) -> Health {
        match self.health {
            Health::Up | Health::Suspect => health,
            Health::Unknown | Health::Down => self.health,
        }
    }
}

/// Refusals in a row that make a node down: the second rules out a restart seen in passing.
const REFUSALS: u32 = 2;

/// A server that is merely slow may leave a probe unanswered for so many times the patience.
const SILENCE_FACTOR: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn verdict(heard: &[(Heard, u64)]) -> Health {
        let mut it = Verdict::new(Duration::from_secs(1));
        for (heard, millis) in heard {
            it.observe(*heard, Tick(SECOND + millis * 1_000_000));
        }
        it.health()
    }

    #[test]
    fn one_lost_probe_is_a_suspicion_and_the_next_answer_ends_it() {
        assert_eq!(verdict(&[(Heard::Answer, 0), (Heard::Failure, 10)]), Health::Suspect);
        assert_eq!(verdict(&[(Heard::Answer, 0), (Heard::Failure, 10), (Heard::Answer, 20)]), Health::Up);
    }

    #[test]
    fn two_refusals_are_down_at_once() {
        assert_eq!(verdict(&[(Heard::Answer, 0), (Heard::Refusal, 10)]), Health::Suspect);
        assert_eq!(
            verdict(&[(Heard::Answer, 0), (Heard::Loss, 5), (Heard::Refusal, 6), (Heard::Refusal, 99)]),
            Health::Down
        );
        let between = [(Heard::Answer, 0), (Heard::Refusal, 10), (Heard::Answer, 20), (Heard::Refusal, 30)];
        assert_eq!(verdict(&between), Health::Suspect);
    }

    #[test]
    fn failures_are_borne_for_a_second() {
        assert_eq!(verdict(&[(Heard::Answer, 0), (Heard::Failure, 10), (Heard::Failure, 1009)]), Health::Suspect);
        assert_eq!(verdict(&[(Heard::Answer, 0), (Heard::Failure, 10), (Heard::Failure, 1010)]), Health::Down);
    }

    #[test]
    fn saturation_never_makes_a_node_down() {
        let mut heard = vec![(Heard::Answer, 0), (Heard::Loss, 1)];
        heard.extend((2..100).map(|n| (Heard::Saturation, n * 1000)));
        assert_eq!(verdict(&heard), Health::Up);
        assert_eq!(verdict(&[(Heard::Saturation, 0), (Heard::Saturation, 90_000)]), Health::Unknown);
    }

    #[test]
    fn a_slow_answer_is_a_suspicion_and_long_silence_is_down() {
        let asked = Heard::Silence(Tick(SECOND));
        assert_eq!(verdict(&[(Heard::Answer, 0), (asked, 900)]), Health::Up);
        assert_eq!(verdict(&[(Heard::Answer, 0), (asked, 1000)]), Health::Suspect);
        assert_eq!(verdict(&[(Heard::Answer, 0), (asked, 1000), (Heard::Answer, 2500)]), Health::Up);
        assert_eq!(verdict(&[(Heard::Answer, 0), (asked, 1000), (asked, 3000)]), Health::Down);
    }

    #[test]
    fn a_node_never_heard_is_unknown_until_it_is_down() {
        assert_eq!(verdict(&[(Heard::Refusal, 0)]), Health::Unknown);
        assert_eq!(verdict(&[(Heard::Refusal, 0), (Heard::Refusal, 100)]), Health::Down);
        assert_eq!(verdict(&[(Heard::Failure, 0), (Heard::Failure, 999)]), Health::Unknown);
    }

    #[test]
    fn only_an_answer_raises_what_is_down() {
        let down = [(Heard::Refusal, 0), (Heard::Refusal, 1), (Heard::Saturation, 2), (Heard::Failure, 3)];
        assert_eq!(verdict(&down), Health::Down);
        assert_eq!(verdict(&[(Heard::Refusal, 0), (Heard::Refusal, 1), (Heard::Answer, 2)]), Health::Up);
    }

    #[test]
    fn one_long_failure_counts_from_its_beginning() {
        let mut it = Verdict::new(Duration::from_secs(1));
        it.observe(Heard::Answer, Tick(SECOND));
        assert_eq!(it.failed(Heard::Failure, Tick(2 * SECOND), Tick(5 * SECOND)), Some(Health::Down));
    }

    #[test]
    fn a_change_is_told_once() {
        let mut it = Verdict::new(Duration::from_secs(1));
        assert_eq!(it.observe(Heard::Answer, Tick(1)), Some(Health::Up));
        assert_eq!(it.observe(Heard::Answer, Tick(2)), None);
    }
}
