//! What is going on in a shard → when a node is probed again. Pure.

use std::time::Duration;

use super::Role;
use crate::clock::Tick;

/// What the next probe of a node depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// Whether somebody wants to hear from this node at once.
    pub at_once: bool,
    /// What the node is.
    pub role: Role,
    /// Whether the shard has other nodes.
    pub has_peers: bool,
    /// The latest moment that a waiting read needs, while one waits.
    pub wanted: Option<Tick>,
    /// The newest sample of the primary.
    pub sampled: Tick,
    /// The node is fresh as of (replicas).
    pub fresh_as_of: Tick,
    /// Whether something was written since the probe before, as positions tell.
    pub writing: bool,
    /// `reads.staleness_max`: idle probes must be closer than that.
    pub staleness_max: Duration,
}

/// How long to wait after the last question before the next.
#[must_use]
pub(super) fn gap(it: &Situation) -> Duration {
    let idle = IDLE.min(it.staleness_max / 4).max(BUSY);
    match it.role {
        _ if it.at_once => Duration::ZERO,
        _ if !it.has_peers => ALONE,
        Role::Primary if it.wanted.is_some_and(|wanted| it.sampled < wanted) => SAMPLE_MIN,
        Role::Primary if it.writing => BUSY,
        // Only a sample that it has not reached gives a replica anything to tell.
        Role::Replica if it.fresh_as_of < it.sampled && it.wanted.is_some_and(|wanted| it.fresh_as_of < wanted) => {
            REPLAY_MIN
        }
        Role::Replica if it.fresh_as_of < it.sampled => BUSY,
        Role::Primary | Role::Replica | Role::Unknown | Role::Fenced => idle,
    }
}

/// How long to wait before connecting again after `failures` in a row.
#[must_use]
pub(super) fn retry(failures: u32) -> Duration {
    match failures {
        0 | 1 => RETRY_MIN,
        more => (RETRY_MIN * 2_u32.saturating_pow(more - 1)).min(RETRY_MAX),
    }
}

/// A shard of one node: only its health is of interest.
const ALONE: Duration = Duration::from_secs(1);
/// Nothing is written and nobody waits.
const IDLE: Duration = Duration::from_millis(100);
/// Something is being written.
const BUSY: Duration = Duration::from_millis(10);
/// A read waits for a sample: many of them share one.
const SAMPLE_MIN: Duration = Duration::from_millis(4);
/// A read waits for a replica to reach a sample.
const REPLAY_MIN: Duration = Duration::from_millis(2);

const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(role: Role) -> Situation {
        Situation {
            at_once: false,
            role,
            has_peers: true,
            wanted: None,
            sampled: Tick(100),
            fresh_as_of: Tick(100),
            writing: false,
            staleness_max: Duration::from_secs(2),
        }
    }

    #[test]
    fn a_lone_node_is_asked_once_a_second() {
        assert_eq!(gap(&Situation { has_peers: false, writing: true, ..at(Role::Primary) }), ALONE);
    }

    #[test]
    fn who_is_asked_for_is_probed_at_once() {
        assert_eq!(gap(&Situation { at_once: true, ..at(Role::Replica) }), Duration::ZERO);
    }

    #[test]
    fn waiting_reads_hurry_the_primary_until_it_is_sampled() {
        assert_eq!(gap(&Situation { wanted: Some(Tick(101)), ..at(Role::Primary) }), SAMPLE_MIN);
        assert_eq!(gap(&Situation { wanted: Some(Tick(100)), ..at(Role::Primary) }), IDLE);
    }

    #[test]
    fn waiting_reads_hurry_a_replica_only_when_there_is_a_sample_to_reach() {
        assert_eq!(gap(&Situation { wanted: Some(Tick(101)), ..at(Role::Replica) }), IDLE);
        let behind = Situation { fresh_as_of: Tick(90), ..at(Role::Replica) };
        assert_eq!(gap(&Situation { wanted: Some(Tick(95)), ..behind }), REPLAY_MIN);
        assert_eq!(gap(&Situation { wanted: Some(Tick(80)), ..behind }), BUSY);
        assert_eq!(gap(&behind), BUSY);
    }

    #[test]
    fn writes_are_followed_and_idleness_is_cheap() {
        assert_eq!(gap(&Situation { writing: true, ..at(Role::Primary) }), BUSY);
        assert_eq!(gap(&at(Role::Primary)), IDLE);
        let strict = Situation { staleness_max: Duration::from_millis(200), ..at(Role::Primary) };
        assert_eq!(gap(&strict), Duration::from_millis(50));
    }

    #[test]
    fn retries_slow_down_to_a_bound() {
        assert_eq!(retry(1), RETRY_MIN);
        assert_eq!(retry(2), RETRY_MIN * 2);
        assert_eq!(retry(u32::MAX), RETRY_MAX);
    }
}
