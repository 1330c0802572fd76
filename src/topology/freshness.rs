//! Positions of a primary and of its replicas → how fresh each replica is (design §5). Pure.
//!
//! A sample says: "a position asked of the primary after moment t0". A replica that has replayed that position has
//! everything that was acknowledged before t0. So t0 is noted before asking, never after.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::gtid::Gtids;
use crate::clock::Tick;

/// A position in the write-ahead log.
pub(super) type Lsn = u64;

/// How much of what was written a server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Postgres: up to here.
    Wal(Lsn),
    /// MySQL and MariaDB: these transactions.
    Gtids(Arc<Gtids>),
}

impl Position {
    /// Whether who is here has everything that who is at `other` has.
    #[must_use]
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Wal(this), Self::Wal(other)) => this >= other,
            (Self::Gtids(these), Self::Gtids(others)) => these.covers(others),
            _ => false,
        }
    }
}

/// As servers print it.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wal(lsn) => write!(f, "{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff),
            Self::Gtids(gtids) => gtids.fmt(f),
        }
    }
}

/// One history of one cluster: positions compare only within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct History {
    /// `system_identifier` of `pg_control_system()`.
    pub system: u64,
    /// The timeline.
    pub timeline: u32,
}

/// How positions of a server are cut into pages and segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WalShape {
    /// `wal_block_size`.
    pub page: u64,
    /// `wal_segment_size`, in bytes.
    pub segment: u64,
}

impl WalShape {
    /// The position that stands for `lsn`: the start of its page when only the page's header lies between. The end of
    /// the record before is that start, and an idle replica never reports more.
    #[must_use]
    pub(super) fn round_down(self, position: Position) -> Position {
        let Position::Wal(lsn) = position else { return position };
        let lsn = if self.segment > 0 && lsn % self.segment == LONG_HEADER {
            lsn - LONG_HEADER
        } else if self.page > 0 && lsn % self.page == SHORT_HEADER {
            lsn - SHORT_HEADER
        } else {
            lsn
        };
        Position::Wal(lsn)
    }
}

/// `SizeOfXLogLongPHD`: the header of a segment's first page.
const LONG_HEADER: u64 = 40;
/// `SizeOfXLogShortPHD`: the header of every other page.
const SHORT_HEADER: u64 = 24;

/// Samples of one primary in one history, oldest first: moments do not go back, and each position covers those before.
#[derive(Clone, Debug)]
pub(super) struct Samples {
    of: Option<(usize, History)>,
    kept: VecDeque<Sample>,
    capacity: usize,
}

/// A position that was sampled, as often as it was the same.
#[derive(Clone, Debug)]
struct Sample {
    /// When for the first time.
    first: Tick,
    /// When for the last time, and what.
    taken: (Tick, Position),
}

impl Default for Samples {
    fn default() -> Self {
        Self { of: None, kept: VecDeque::new(), capacity: CAPACITY }
    }
}

impl Samples {
    /// Takes in a sample of node `node`: its position, asked after `t0`. Returns whether all former ones were
    /// dropped, because the primary or the history changed or its position went back.
    pub(super) fn push(&mut self, node: usize, history: History, t0: Tick, position: Position) -> bool {
        let back = self.kept.back().is_some_and(|it| !position.covers(&it.taken.1));
        let dropped = self.of != Some((node, history)) || back;
        if dropped {
            self.kept.clear();
            self.of = Some((node, history));
        }
        match self.kept.back_mut().map(|it| &mut it.taken) {
            Some((at, last)) if *last == position => *at = (*at).max(t0),
            // Answers overtake each other only across a reconnect; an older question adds nothing then.
            Some((at, _)) if *at >= t0 => {}
            _ => {
                if self.kept.len() >= self.capacity {
                    self.thin();
                }
                self.kept.push_back(Sample { first: t0, taken: (t0, position) });
            }
        }
        dropped
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.of = None;
        self.kept.clear();
    }

    /// The node and history that the samples are of.
    #[must_use]
    pub(super) fn of(&self) -> Option<(usize, History)> {
        self.of
    }

    /// The newest moment sampled.
    #[must_use]
    pub(super) fn newest(&self) -> Option<&(Tick, Position)> {
        self.kept.back().map(|it| &it.taken)
    }

    /// The moment that a replica of `history` is fresh as of once it has replayed `replayed`: the latest of all
    /// samples that it has reached.
    #[must_use]
    pub(super) fn reached(&self, history: History, replayed: &Position) -> Option<Tick> {
        if self.of.map(|(_, of)| of) != Some(history) {
            return None;
        }
        let count = self.kept.partition_point(|it| replayed.covers(&it.taken.1));
        self.kept.get(count.checked_sub(1)?).map(|it| it.taken.0)
    }

    /// For how long the primary is known to have been ahead of a replica that is fresh as of that moment: from the first sample
    /// that it has not reached to the last. Nothing is held against it while the primary is not sampled.
    #[must_use]
    pub(super) fn ahead_of(&self, fresh_as_of: Tick) -> Duration {
        let count = self.kept.partition_point(|it| it.taken.0 <= fresh_as_of);
        match (self.kept.get(count), self.kept.back()) {
            (Some(next), Some(last)) => last.taken.0.since(next.first.max(fresh_as_of)),
            _ => Duration::ZERO,
        }
    }

    /// Leaves out every second sample of the older half: replicas far behind are judged more coarsely, never wrongly.
    fn thin(&mut self) {
        let half = self.kept.len() / 2;
        let mut place = 0;
        self.kept.retain(|_| {
            place += 1;
            place > half || place % 2 == 0
        });
    }
}

/// Samples kept of a shard: at the busiest pace some twenty seconds in full, and hours more coarsely.
const CAPACITY: usize = 4096;

/// What one replica has told in one life of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Replayed {
    position: Option<Position>,
    fresh_as_of: Tick,
}

impl Replayed {
    /// It is fresh as of this moment; `Tick::NEVER` when that is not known.
    #[must_use]
    pub(super) fn fresh_as_of(&self) -> Tick {
        self.fresh_as_of
    }

    /// The last position that it reported.
    #[must_use]
    pub(super) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Takes in a report. Within one life and one history a replica only gains, so what it once reached stays true.
    ///
    /// # Errors
    /// [`WentBack`]: the report lacks something of an earlier one, so this is another life of that server; nothing is known now.
    pub(super) fn report(
        &mut self,
        samples: &Samples,
        history: Option<History>,
        replayed: &Position,
    ) -> Result<(), WentBack> {
        if self.position.as_ref().is_some_and(|last| !replayed.covers(last)) {
            *self = Self::default();
            return Err(WentBack);
        }
        self.position = Some(replayed.clone());
        if let Some(reached) = history.and_then(|history| samples.reached(history, replayed)) {
            self.fresh_as_of = self.fresh_as_of.max(reached);
        }
        Ok(())
    }

    /// Forgets how fresh it is (another primary, another history), not where it is.
    pub(super) fn stale(&mut self) {
        self.fresh_as_of = Tick::NEVER;
    }
}

/// A replica reported a position below one that it had reported before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WentBack;

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: History = History { system: 7, timeline: 1 };

    fn samples(of: &[(u64, Lsn)]) -> Samples {
        let mut it = Samples::default();
        for (t0, lsn) in of {
            it.push(0, HERE, Tick(*t0), Position::Wal(*lsn));
        }
        it
    }

    fn wal(lsn: Lsn) -> Position {
        Position::Wal(lsn)
    }

    fn gtids(text: &str) -> Position {
        Position::Gtids(Arc::new(Gtids::of_mariadb(text).unwrap()))
    }

    #[test]
    fn a_replica_has_a_sample_once_it_has_all_domains_of_it() {
        let mut it = Samples::default();
        for (t0, position) in [(10, "0-1-1"), (20, "0-1-1,5-1-1"), (30, "0-1-2,5-1-1")] {
            assert_eq!(it.push(0, HERE, Tick(t0), gtids(position)), t0 == 10);
        }
        for (replayed, reached) in [
            ("", None),
            ("0-1-1", Some(Tick(10))),
            ("0-1-9", Some(Tick(10))),
            ("5-1-9", None),
            ("0-1-1,5-1-9", Some(Tick(20))),
            ("0-1-2,5-1-1", Some(Tick(30))),
        ] {
            assert_eq!(it.reached(HERE, &gtids(replayed)), reached, "{replayed}");
        }
        // A domain that was there is gone: it is another server's log.
        assert!(it.push(0, HERE, Tick(40), gtids("0-1-3")));
        assert_eq!(it.reached(HERE, &gtids("0-1-2,5-1-1")), None);
        let mut replica = Replayed::default();
        replica.report(&it, Some(HERE), &gtids("0-1-3,5-1-1")).unwrap();
        assert_eq!(replica.fresh_as_of(), Tick(40));
        assert_eq!(replica.report(&it, Some(HERE), &gtids("0-1-4")), Err(WentBack));
    }

    #[test]
    fn a_replica_is_fresh_as_of_the_latest_sample_it_reached() {
        let it = samples(&[(10, 100), (20, 200), (30, 300)]);
        assert_eq!(it.reached(HERE, &wal(99)), None);
        assert_eq!(it.reached(HERE, &wal(100)), Some(Tick(10)));
        assert_eq!(it.reached(HERE, &wal(299)), Some(Tick(20)));
        assert_eq!(it.reached(HERE, &wal(999)), Some(Tick(30)));
    }

    #[test]
    fn an_idle_primary_moves_the_moment_without_new_samples() {
        let it = samples(&[(10, 100), (20, 100), (30, 100)]);
        assert_eq!(it.reached(HERE, &wal(100)), Some(Tick(30)));
        assert_eq!(it.kept.len(), 1);
    }

    #[test]
    fn the_primary_is_ahead_since_the_first_sample_that_is_not_reached() {
        let ahead = |of: &[(u64, Lsn)], fresh: u64| samples(of).ahead_of(Tick(fresh)).as_nanos();
        let busy = [(10, 100), (20, 200), (30, 300), (40, 400)];
        assert_eq!([40, 30, 20, 10, 0].map(|fresh| ahead(&busy, fresh)), [0, 0, 10, 20, 30]);
        assert_eq!(ahead(&[], 10), 0);
        // It was written to once, and is asked again and again.
        let idle = [(10, 100), (20, 200), (30, 200), (40, 200)];
        assert_eq!([40, 30, 10].map(|fresh| ahead(&idle, fresh)), [0, 10, 20]);
        // It was not heard for a while: who has not reached the first sample after that was not behind all the time.
        assert_eq!(ahead(&[(10, 100), (900, 200), (910, 300)], 10), 10);
    }

    #[test]
    fn another_history_reaches_nothing() {
        let it = samples(&[(10, 100)]);
        assert_eq!(it.reached(History { timeline: 2, ..HERE }, &wal(999)), None);
        assert_eq!(it.reached(History { system: 8, ..HERE }, &wal(999)), None);
    }

    #[test]
    fn another_timeline_node_or_a_position_gone_back_drops_all_samples() {
        let mut it = samples(&[(10, 100)]);
        assert!(it.push(0, History { timeline: 2, ..HERE }, Tick(20), wal(100)));
        assert_eq!(it.reached(HERE, &wal(999)), None);
        let mut it = samples(&[(10, 100)]);
        assert!(it.push(1, HERE, Tick(20), wal(150)));
        assert_eq!(it.reached(HERE, &wal(149)), None);
        let mut it = samples(&[(10, 100), (20, 200)]);
        assert!(it.push(0, HERE, Tick(30), wal(150)));
        assert_eq!(it.reached(HERE, &wal(149)), None);
        assert_eq!(it.reached(HERE, &wal(150)), Some(Tick(30)));
    }

    #[test]
    fn thinning_only_makes_the_answer_older() {
        let all: Vec<_> = (1..=100).map(|n| (n, n * 10)).collect();
        let mut it = Samples { capacity: 16, ..Samples::default() };
        for (t0, lsn) in &all {
            it.push(0, HERE, Tick(*t0), wal(*lsn));
        }
        assert!(it.kept.len() <= 16);
        for replayed in 0..1100 {
            let exact = all.iter().rev().find(|(_, lsn)| *lsn <= replayed).map_or(Tick::NEVER, |(t0, _)| Tick(*t0));
            assert!(it.reached(HERE, &wal(replayed)).unwrap_or(Tick::NEVER) <= exact);
        }
        assert_eq!(it.reached(HERE, &wal(1000)), Some(Tick(100)));
    }

    #[test]
    fn a_position_just_behind_a_header_stands_for_the_page_start() {
        let it = WalShape { page: 8192, segment: 1 << 24 };
        assert_eq!(it.round_down(wal(0x0300_0028)), wal(0x0300_0000));
        assert_eq!(it.round_down(wal(0x0300_2018)), wal(0x0300_2000));
        assert_eq!(it.round_down(wal(0x0300_2028)), wal(0x0300_2028));
        assert_eq!(it.round_down(wal(0x0300_0060)), wal(0x0300_0060));
        assert_eq!(it.round_down(wal(0)), wal(0));
    }

    #[test]
    fn a_report_gone_back_voids_what_was_known() {
        let it = samples(&[(10, 100), (20, 200)]);
        let mut replica = Replayed::default();
        replica.report(&it, Some(HERE), &wal(200)).unwrap();
        assert_eq!(replica.fresh_as_of(), Tick(20));
        assert_eq!(replica.report(&it, Some(HERE), &wal(199)), Err(WentBack));
        assert_eq!(replica.fresh_as_of(), Tick::NEVER);
        assert_eq!(replica.position(), None);
    }

    #[test]
    fn an_unknown_timeline_gains_nothing_and_loses_nothing() {
        let mut it = samples(&[(10, 100)]);
        let mut replica = Replayed::default();
        replica.report(&it, Some(HERE), &wal(100)).unwrap();
        it.push(0, HERE, Tick(20), wal(200));
        replica.report(&it, None, &wal(200)).unwrap();
        assert_eq!(replica.fresh_as_of(), Tick(10));
    }
}
