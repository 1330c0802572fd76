//! How far a replica is behind, report by report → whether reads go to it at all. Pure.
//!
//! What a read may be shown is decided by how fresh a replica is at that moment (`choose`), whatever is said here. But a
//! replica whose lag hovers around `staleness_max` would be in use, and not in use, by turns, and its reads with it at
//! the primary. So one that fell behind comes back only when it has kept up for a while, by a margin.

use std::time::Duration;

use crate::clock::Tick;

/// Whether one replica is in rotation, as far as its lag tells.
#[derive(Clone, Debug)]
pub(super) struct Rotation {
    /// `reads.staleness_max`.
    limit: Duration,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    In,
    /// It fell behind.
    Out,
    /// It fell behind, and has kept up since this moment.
    Returning(Tick),
}

impl Rotation {
    /// Nothing is known yet, so nothing is held against it.
    #[must_use]
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, place: Place::In }
    }

    /// Takes in a report: how long the primary has been ahead of the replica, and how long ago it was fresh.
    pub(super) fn observe(&mut self, lag: Duration, age: Duration, now: Tick) {
        match self.place {
            Place::In if lag > self.limit => self.place = Place::Out,
            Place::Out | Place::Returning(_) if lag > self.limit / MARGIN || age > self.limit => {
                self.place = Place::Out;
            }
            Place::Out => self.place = Place::Returning(now),
            Place::Returning(since) if now.since(since) >= HOLD => self.place = Place::In,
            Place::In | Place::Returning(_) => {}
        }
    }

    /// Nobody knows how it did meanwhile: it begins to keep up anew.
    pub(super) fn interrupt(&mut self) {
        if self.place != Place::In {
            self.place = Place::Out;
        }
    }

    /// Its lag was behind another primary.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Why no reads go there, for people; `None`: they do.
    #[must_use]
    pub(super) fn objection(&self) -> Option<String> {
        let limit = self.limit;
        self.is_out().then(|| {
            format!("it was more than {limit:?} behind, and serves no reads until it has kept up for {HOLD:?}")
        })
    }

    /// Whether no reads go there.
    #[must_use]
    pub(super) fn is_out(&self) -> bool {
        self.place != Place::In
    }
}

/// How long a replica has to keep up that fell behind.
const HOLD: Duration = Duration::from_secs(3);
/// It keeps up while it is behind by this part of `staleness_max` at most.
const MARGIN: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);
    const MILLI: u64 = 1_000_000;

    /// A replica that is asked every 10 ms.
    struct Watched {
        rotation: Rotation,
        now: u64,
        turns: usize,
    }

    impl Watched {
        fn new() -> Self {
            Self { rotation: Rotation::new(LIMIT), now: 1000, turns: 0 }
        }

        /// Its lag for so long, in milliseconds, by the milliseconds that have passed.
        fn lags(&mut self, span: u64, lag: impl Fn(u64) -> u64) {
            for passed in (0..span).step_by(10) {
                let lag = Duration::from_millis(lag(passed));
                let was = self.rotation.is_out();
                self.rotation.observe(lag, lag, Tick((self.now + passed) * MILLI));
                self.turns += usize::from(was != self.rotation.is_out());
            }
            self.now += span;
        }

        fn is_out(&self) -> bool {
            self.rotation.is_out()
        }
    }

    #[test]
    fn one_that_fell_behind_comes_back_when_it_has_kept_up_for_a_while() {
        let mut it = Watched::new();
        it.lags(1000, |_| 2000);
        assert!(!it.is_out());
        it.lags(10, |_| 2001);
        assert!(it.is_out());
        assert!(it.rotation.objection().is_some_and(|it| it.contains("more than 2s behind")));
        it.lags(3000, |_| 3);
        assert!(it.is_out());
        it.lags(10, |_| 3);
        assert_eq!((it.is_out(), it.rotation.objection()), (false, None));
    }

    #[test]
    fn one_that_is_just_within_the_bound_does_not_come_back() {
        let mut it = Watched::new();
        it.lags(10, |_| 5000);
        it.lags(600_000, |_| 1001);
        assert!(it.is_out());
        it.lags(3010, |_| 1000);
        assert!(!it.is_out());
    }

    #[test]
    fn a_moment_behind_begins_the_while_anew() {
        let mut it = Watched::new();
        it.lags(10, |_| 5000);
        it.lags(2990, |_| 0);
        it.lags(10, |_| 1500);
        it.lags(3000, |_| 0);
        assert!(it.is_out());
        it.lags(10, |_| 0);
        assert!(!it.is_out());
    }

    #[test]
    fn what_is_not_known_to_be_fresh_does_not_keep_up() {
        let mut it = Watched::new();
        it.lags(10, |_| 5000);
        for passed in 0..1000 {
            it.rotation.observe(Duration::ZERO, LIMIT + Duration::from_nanos(1), Tick((it.now + passed * 10) * MILLI));
        }
        assert!(it.is_out());
    }

    #[test]
    fn a_lost_contact_begins_the_while_anew_and_holds_nothing_against_who_was_in() {
        let mut it = Watched::new();
        it.rotation.interrupt();
        assert!(!it.is_out());
        it.lags(10, |_| 5000);
        it.lags(2990, |_| 0);
        it.rotation.interrupt();
        it.lags(3000, |_| 0);
        assert!(it.is_out());
        it.rotation.forget();
        assert!(!it.is_out());
    }

    #[test]
    fn lag_that_hovers_around_the_bound_takes_it_out_once() {
        let mut it = Watched::new();
        it.lags(600_000, |passed| if passed / 10 % 2 == 0 { 2010 } else { 1990 });
        assert_eq!(it.turns, 1);
    }

    #[test]
    fn lag_that_grows_and_shrinks_in_less_time_takes_it_out_once() {
        // Between nothing and 3 s, in three seconds each: out and back in each round, were it not for the while.
        let mut it = Watched::new();
        it.lags(600_000, |passed| if passed % 3000 < 1500 { passed % 3000 * 2 } else { 6000 - passed % 3000 * 2 });
        assert_eq!(it.turns, 1);
        // Where it keeps up for long enough in between, it is used.
        let mut it = Watched::new();
        it.lags(600_000, |passed| if passed % 10_000 < 1000 { 2500 } else { 0 });
        assert_eq!(it.turns, 120);
    }
}
