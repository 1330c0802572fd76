//! Whether this process may lead failovers, where several could: by which number, and until when.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::clock::Tick;

/// The right to lead. Clones of its `Arc` see the same.
#[derive(Debug)]
pub struct Mandate {
    /// Its number and its end; `None`: it is nobody else's.
    held: Option<Mutex<(u64, Tick)>>,
}

impl Mandate {
    /// Of a process that shares with nobody: for ever, and its number is 0.
    #[must_use]
    pub fn alone() -> Arc<Self> {
        Arc::new(Self { held: None })
    }

    /// One of several has it. This one has not, until it is given it.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        Arc::new(Self { held: Some(Mutex::new((0, Tick::NEVER))) })
    }

    /// Gives it until then. Whoever is given it later has a higher number.
    pub fn give(&self, number: u64, until: Tick) {
        if let Some(held) = &self.held {
            *held.lock().unwrap_or_else(PoisonError::into_inner) = (number, until);
        }
    }

    /// Takes it away.
    pub fn take_away(&self) {
        self.give(0, Tick::NEVER);
    }

    /// Its number, if this process has it at that moment.
    #[must_use]
    pub fn term(&self, now: Tick) -> Option<u64> {
        let Some(held) = &self.held else { return Some(0) };
        let (number, until) = *held.lock().unwrap_or_else(PoisonError::into_inner);
        (now < until).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_by_itself() {
        let mandate = Mandate::shared();
        assert_eq!(mandate.term(Tick(1)), None);
        mandate.give(7, Tick(10));
        assert_eq!((mandate.term(Tick(9)), mandate.term(Tick(10))), (Some(7), None));
        mandate.give(7, Tick(20));
        assert_eq!(mandate.term(Tick(10)), Some(7));
        mandate.take_away();
        assert_eq!(mandate.term(Tick(10)), None);
        Mandate::alone().take_away();
        assert_eq!(Mandate::alone().term(Tick(u64::MAX)), Some(0));
    }
}
