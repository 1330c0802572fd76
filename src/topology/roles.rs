//! What the nodes of a shard claim to be → what they are held to be (design §9). Pure.
//!
//! At most one node is the primary. Where two claim to be, none is: the shard is read-only and nothing is fresh until
//! one stops or the map names one (`role: primary`). A node that was promoted behind our back is accepted only with
//! proof that it has everything the old primary was known to have.

use super::Health;
use super::freshness::History;
use super::freshness::Lsn;
use crate::shard_map::WantedRole;

/// What a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Not known, or not settled.
    #[default]
    Unknown,
    /// Writes go here.
    Primary,
    /// Reads may go here.
    Replica,
    /// It claims what it must not: nothing goes here.
    Fenced,
}

impl Role {
    /// The word for consoles and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Fenced => "fenced",
        }
    }
}

/// What one node said last, and whether it can be reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// What the map insists on.
    pub wanted: WantedRole,
    /// Whether it answers.
    pub health: Health,
    /// Whether it takes no writes (in recovery, or read-only), by its last answer on the connection that is open now; `None`: it said nothing yet.
    pub in_recovery: Option<bool>,
    /// The cluster that it is a copy of.
    pub system: Option<u64>,
    /// Its timeline: written on (primary) or received (replica).
    pub timeline: Option<u32>,
    /// Where its log ends for certain: flushed (primary).
    pub flushed: Lsn,
    /// The furthest position that it is known to have replayed: for a promoted node, a lower bound of where its
    /// timeline forked.
    pub replayed: Lsn,
}

/// The primary that was accepted last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Which node.
    pub node: usize,
    /// Its history.
    pub history: History,
    /// The furthest position that it is known to have flushed.
    pub flushed: Lsn,
}

/// Why a node is not what it claims, or the shard not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Objection {
    /// The map says `role: replica`.
    #[error("it takes writes, but the map insists that it is a replica")]
    MustBeReplica,
    /// The map says `role: primary`.
    #[error("it takes no writes, but the map insists that it is the primary")]
    MustBePrimary,
    /// The map names another.
    #[error("it claims to be primary, but the map insists on another node")]
    AnotherIsNamed,
    /// It belongs to another cluster.
    #[error("its system identifier is not the one of this shard: it is a copy of something else")]
    AnotherSystem,
    /// Two claim to be primary.
    #[error("two nodes claim to be primary: both are fenced until one stops or the map says role: primary for one")]
    Contested,
    /// Its timeline is older than one that this shard has reached.
    #[error("its timeline is older than one that this shard has reached: it is a former primary")]
    OldTimeline,
    /// It is another node on the same timeline as the old primary.
    #[error("it claims to be primary on the timeline of the former one: only role: primary in the map can settle that")]
    SameTimeline,
    /// It may lack acknowledged writes.
    #[error(
        "it was promoted before it had everything that the former primary was known to have: to accept it all the \
         same, say role: primary for it in the map"
    )]
    MayLackWrites,
    /// Others have not been heard.
    #[error("it claims to be primary; the other nodes of the shard have not been heard yet")]
    OthersUnheard,
}

/// What a node is held to be, and why not what it claims.
pub(super) type Judgement = (Role, Option<Objection>);

/// Judges all nodes of a shard. `accepted` is the primary so far; it becomes the new one.
#[must_use]
pub(super) fn judge(claims: &[Claim], accepted: &mut Option<Accepted>) -> Vec<Judgement> {
    let contested = contested(claims, *accepted);
    let primary = if contested { None } else { primary(claims, accepted) };
    let named = claims.iter().any(|it| it.wanted == WantedRole::Primary);
    let objection = |place: usize, claim: &Claim| match primary {
        Some(Err((at, objection))) if at == place => objection,
        _ if claim.wanted == WantedRole::Replica => Objection::MustBeReplica,
        _ if other_system(claim, *accepted) => Objection::AnotherSystem,
        _ if named && claim.wanted != WantedRole::Primary => Objection::AnotherIsNamed,
        _ => Objection::Contested,
    };
    claims
        .iter()
        .enumerate()
        .map(|(place, claim)| match claim.in_recovery {
            _ if !claim.health.reachable() => (Role::Unknown, None),
            None => (Role::Unknown, None),
            Some(false) if primary == Some(Ok(place)) => (Role::Primary, None),
            Some(false) => match objection(place, claim) {
                Objection::OthersUnheard => (Role::Unknown, Some(Objection::OthersUnheard)),
                other => (Role::Fenced, Some(other)),
            },
            Some(true) if other_system(claim, *accepted) => (Role::Fenced, Some(Objection::AnotherSystem)),
            Some(true) if claim.wanted == WantedRole::Primary => (Role::Replica, Some(Objection::MustBePrimary)),
            Some(true) => (Role::Replica, None),
        })
        .collect()
}

/// Whether two nodes that both may be primary claim it.
#[must_use]
pub(super) fn contested(claims: &[Claim], accepted: Option<Accepted>) -> bool {
    claimants(claims, accepted).count() > 1
}

fn claimants(claims: &[Claim], accepted: Option<Accepted>) -> impl Iterator<Item = (usize, &Claim)> {
    let named = claims.iter().any(|it| it.wanted == WantedRole::Primary);
    claims.iter().enumerate().filter(move |(_, it)| {
        it.health.reachable()
            && it.in_recovery == Some(false)
            && it.wanted != WantedRole::Replica
            && (!named || it.wanted == WantedRole::Primary)
            && (it.wanted == WantedRole::Primary || !other_system(it, accepted))
    })
}

fn other_system(claim: &Claim, accepted: Option<Accepted>) -> bool {
    matches!((claim.system, accepted), (Some(system), Some(accepted)) if system != accepted.history.system)
}

/// The only claimant, accepted or refused.
fn primary(claims: &[Claim], accepted: &mut Option<Accepted>) -> Option<Result<usize, (usize, Objection)>> {
    let (place, claim) = claimants(claims, *accepted).next()?;
    let (Some(system), Some(timeline)) = (claim.system, claim.timeline) else {
        return Some(Err((place, Objection::OthersUnheard)));
    };
    let verdict = match *accepted {
        _ if claim.wanted == WantedRole::Primary => Ok(()),
        None => as_the_first(claims, place, system, timeline),
        Some(former) if former.node == place => {
            if timeline >= former.history.timeline {
                Ok(())
            } else {
                Err(Objection::OldTimeline)
            }
        }
        Some(former) => as_successor(claims, claim, timeline, &former),
    };
    Some(verdict.map_err(|objection| (place, objection)).map(|()| {
        let history = History { system, timeline };
        let flushed = match *accepted {
            Some(former) if former.node == place && former.history == history => former.flushed.max(claim.flushed),
            _ => claim.flushed,
        };
        *accepted = Some(Accepted { node: place, history, flushed });
        place
    }))
}

/// Without a past, whoever claims alone is believed once all others were heard and none knows a later timeline.
fn as_the_first(claims: &[Claim], place: usize, system: u64, timeline: u32) -> Result<(), Objection> {
    let others = || claims.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, it)| it);
    if others().any(|it| it.health == Health::Unknown || (it.health.reachable() && it.in_recovery.is_none())) {
        return Err(Objection::OthersUnheard);
    }
    let later = |it: &Claim| it.system == Some(system) && it.timeline.is_some_and(|other| other > timeline);
    if others().any(later) { Err(Objection::OldTimeline) } else { Ok(()) }
}

/// Another node than the accepted one claims alone. The former primary is down, or is in recovery now.
fn as_successor(claims: &[Claim], claim: &Claim, timeline: u32, former: &Accepted) -> Result<(), Objection> {
    if timeline == former.history.timeline {
        return Err(Objection::SameTimeline);
    }
    if timeline < former.history.timeline {
        return Err(Objection::OldTimeline);
    }
    let follows = claims
        .get(former.node)
        .is_some_and(|it| it.health.reachable() && it.in_recovery == Some(true) && it.timeline == Some(timeline));
    if follows || claim.replayed >= former.flushed { Ok(()) } else { Err(Objection::MayLackWrites) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(in_recovery: bool, timeline: u32) -> Claim {
        Claim {
            wanted: WantedRole::Auto,
            health: Health::Up,
            in_recovery: Some(in_recovery),
            system: Some(7),
            timeline: Some(timeline),
            flushed: 1000,
            replayed: 1000,
        }
    }

    fn primary_of(timeline: u32) -> Claim {
        claim(false, timeline)
    }

    fn replica_of(timeline: u32) -> Claim {
        claim(true, timeline)
    }

    fn down() -> Claim {
        Claim { health: Health::Down, in_recovery: None, ..claim(true, 1) }
    }

    fn roles(claims: &[Claim], accepted: &mut Option<Accepted>) -> Vec<Role> {
        judge(claims, accepted).into_iter().map(|(role, _)| role).collect()
    }

    fn accepted(node: usize, timeline: u32) -> Option<Accepted> {
        Some(Accepted { node, history: History { system: 7, timeline }, flushed: 1000 })
    }

    use Role::Fenced;
    use Role::Primary;
    use Role::Replica;
    use Role::Unknown;

    #[test]
    fn one_claimant_is_the_primary() {
        let mut past = None;
        assert_eq!(roles(&[primary_of(1), replica_of(1)], &mut past), [Primary, Replica]);
        assert_eq!(past, accepted(0, 1));
    }

    #[test]
    fn nobody_is_believed_before_all_were_heard() {
        let unheard = Claim { health: Health::Unknown, in_recovery: None, ..claim(true, 1) };
        assert_eq!(roles(&[primary_of(1), unheard], &mut None), [Unknown, Unknown]);
        assert_eq!(roles(&[primary_of(1), down()], &mut None), [Primary, Unknown]);
    }

    #[test]
    fn at_start_a_claimant_behind_a_replica_is_a_former_primary() {
        assert_eq!(roles(&[primary_of(1), replica_of(2)], &mut None), [Fenced, Replica]);
    }

    #[test]
    fn two_claimants_are_both_fenced_whoever_was_accepted() {
        for past in [None, accepted(0, 1), accepted(1, 2)] {
            let claims = [primary_of(1), primary_of(2), replica_of(1)];
            assert_eq!(roles(&claims, &mut past.clone()), [Fenced, Fenced, Replica]);
            assert!(contested(&claims, past));
        }
    }

    #[test]
    fn the_accepted_one_goes_on_when_the_other_stops() {
        assert_eq!(roles(&[primary_of(1), down()], &mut accepted(0, 1)), [Primary, Unknown]);
        assert_eq!(roles(&[primary_of(1), replica_of(1)], &mut accepted(0, 1)), [Primary, Replica]);
    }

    #[test]
    fn a_promoted_replica_with_everything_succeeds_a_primary_that_is_gone() {
        let mut past = accepted(0, 1);
        assert_eq!(roles(&[down(), primary_of(2)], &mut past), [Unknown, Primary]);
        assert_eq!(past, accepted(1, 2));
    }

    #[test]
    fn a_promoted_replica_that_may_lack_writes_is_fenced_unless_it_is_named() {
        let behind = Claim { replayed: 999, ..primary_of(2) };
        let mut past = accepted(0, 1);
        assert_eq!(judge(&[down(), behind], &mut past)[1], (Fenced, Some(Objection::MayLackWrites)));
        assert_eq!(past, accepted(0, 1));
        let named = Claim { wanted: WantedRole::Primary, ..behind };
        assert_eq!(roles(&[down(), named], &mut past), [Unknown, Primary]);
    }

    #[test]
    fn a_former_primary_that_follows_the_new_one_is_proof_enough() {
        let rewound = Claim { replayed: 999, ..primary_of(2) };
        assert_eq!(roles(&[replica_of(2), rewound], &mut accepted(0, 1)), [Replica, Primary]);
        assert_eq!(roles(&[replica_of(1), rewound], &mut accepted(0, 1)), [Replica, Fenced]);
    }

    #[test]
    fn equal_timelines_are_never_settled_automatically() {
        let mut past = accepted(0, 1);
        assert_eq!(judge(&[down(), primary_of(1)], &mut past)[1], (Fenced, Some(Objection::SameTimeline)));
    }

    #[test]
    fn a_former_primary_that_comes_back_is_fenced() {
        let past = accepted(1, 2);
        assert_eq!(roles(&[primary_of(1), down()], &mut past.clone()), [Fenced, Unknown]);
        assert_eq!(roles(&[primary_of(1), replica_of(2)], &mut past.clone()), [Fenced, Replica]);
    }

    #[test]
    fn the_map_has_the_last_word() {
        let replica_only = Claim { wanted: WantedRole::Replica, ..primary_of(2) };
        assert_eq!(roles(&[primary_of(1), replica_only], &mut accepted(0, 1)), [Primary, Fenced]);
        assert_eq!(roles(&[down(), replica_only], &mut accepted(0, 1)), [Unknown, Fenced]);
        let named = Claim { wanted: WantedRole::Primary, ..primary_of(1) };
        assert_eq!(roles(&[named, primary_of(2)], &mut None), [Primary, Fenced]);
        let not_yet = Claim { wanted: WantedRole::Primary, ..replica_of(1) };
        assert_eq!(judge(&[not_yet, primary_of(1)], &mut None)[1], (Fenced, Some(Objection::AnotherIsNamed)));
        assert_eq!(judge(&[not_yet], &mut None)[0], (Replica, Some(Objection::MustBePrimary)));
    }

    #[test]
    fn a_copy_of_something_else_is_fenced_as_replica_and_as_primary() {
        let stranger = Claim { system: Some(8), ..replica_of(1) };
        assert_eq!(roles(&[primary_of(1), stranger], &mut None), [Primary, Fenced]);
        let stranger = Claim { system: Some(8), ..primary_of(9) };
        assert_eq!(roles(&[primary_of(1), stranger], &mut accepted(0, 1)), [Primary, Fenced]);
        assert_eq!(roles(&[down(), stranger], &mut accepted(0, 1)), [Unknown, Fenced]);
    }

    #[test]
    fn the_same_node_may_move_to_a_later_timeline_but_not_back() {
        assert_eq!(roles(&[primary_of(3)], &mut accepted(0, 1)), [Primary]);
        assert_eq!(roles(&[primary_of(1)], &mut accepted(0, 3)), [Fenced]);
    }

    #[test]
    fn what_was_flushed_is_remembered() {
        let mut past = accepted(0, 1);
        let ahead = Claim { flushed: 2000, ..primary_of(1) };
        let _ = judge(&[ahead], &mut past);
        assert_eq!(past.map(|it| it.flushed), Some(2000));
    }
}
