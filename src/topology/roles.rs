//! What the nodes of a shard claim to be → what they are held to be (design §9). Pure.
//!
//! At most one node is the primary. Where two claim to be, none is: the shard is read-only and nothing is fresh until
//! one stops or the map names one (`role: primary`). A node that was promoted behind our back is accepted only with
//! proof that it has everything the old primary was known to have.

use super::Health;
use super::freshness::History;
use super::freshness::Position;
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
#[derive(Clone, Debug)]
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
    /// Where its log ends for certain: flushed (primary). Of one of MySQL that takes no writes, what it wrote itself.
    pub flushed: Option<Position>,
    /// The furthest position that it is known to have replayed: for a promoted node, a lower bound of where its
    /// timeline forked.
    pub replayed: Option<Position>,
    /// MySQL: what of that others have written.
    pub received: Option<Position>,
}

/// The primary that was accepted last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Which node.
    pub node: usize,
    /// Its history.
    pub history: History,
    /// The furthest position that it is known to have flushed.
    pub flushed: Option<Position>,
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
    /// Another has what it lacks, or had it when it was asked a moment later.
    #[error(
        "it claims to be primary, but a replica has transactions that it lacks: it is a former primary, unless the map \
         says role: primary for it"
    )]
    BehindReplica,
    /// Others have not been heard.
    #[error("it claims to be primary; the other nodes of the shard have not been heard yet")]
    OthersUnheard,
}

/// What a node is held to be, and why not what it claims.
pub(super) type Judgement = (Role, Option<Objection>);

/// Judges all nodes of a shard. `accepted` is the primary so far; it becomes the new one.
#[must_use]
pub(super) fn judge(claims: &[Claim], accepted: &mut Option<Accepted>) -> Vec<Judgement> {
    let contested = contested(claims, accepted.as_ref());
    let primary = if contested { None } else { primary(claims, accepted) };
    let named = claims.iter().any(|it| it.wanted == WantedRole::Primary);
    let objection = |place: usize, claim: &Claim| match primary {
        Some(Err((at, objection))) if at == place => objection,
        _ if claim.wanted == WantedRole::Replica => Objection::MustBeReplica,
        _ if other_system(claim, accepted.as_ref()) => Objection::AnotherSystem,
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
                // Nothing is held against it yet.
                it @ (Objection::OthersUnheard | Objection::BehindReplica) => (Role::Unknown, Some(it)),
                other => (Role::Fenced, Some(other)),
            },
            Some(true) if other_system(claim, accepted.as_ref()) => (Role::Fenced, Some(Objection::AnotherSystem)),
            Some(true) if claim.wanted == WantedRole::Primary => (Role::Replica, Some(Objection::MustBePrimary)),
            Some(true) => (Role::Replica, None),
        })
        .collect()
}

/// Whether two nodes that both may be primary claim it.
#[must_use]
pub(super) fn contested(claims: &[Claim], accepted: Option<&Accepted>) -> bool {
    claimants(claims, accepted).count() > 1
}

fn claimants<'a>(claims: &'a [Claim], accepted: Option<&'a Accepted>) -> impl Iterator<Item = (usize, &'a Claim)> {
    let named = claims.iter().any(|it| it.wanted == WantedRole::Primary);
    claims.iter().enumerate().filter(move |(_, it)| {
        it.health.reachable()
            && it.in_recovery == Some(false)
            && it.wanted != WantedRole::Replica
            && (!named || it.wanted == WantedRole::Primary)
            && (it.wanted == WantedRole::Primary || !other_system(it, accepted))
    })
}

fn other_system(claim: &Claim, accepted: Option<&Accepted>) -> bool {
    matches!((claim.system, accepted), (Some(system), Some(accepted)) if system != accepted.history.system)
}

/// The only claimant, accepted or refused.
fn primary(claims: &[Claim], accepted: &mut Option<Accepted>) -> Option<Result<usize, (usize, Objection)>> {
    let (place, _) = claimants(claims, accepted.as_ref()).next()?;
    let claim = claims.get(place)?;
    let (Some(system), Some(timeline)) = (claim.system, claim.timeline) else {
        return Some(Err((place, Objection::OthersUnheard)));
    };
    let verdict = match &*accepted {
        _ if claim.wanted == WantedRole::Primary => Ok(()),
        None => as_the_first(claims, place, system, timeline),
        Some(former) if former.node == place => {
            if timeline >= former.history.timeline {
                Ok(())
            } else {
                Err(Objection::OldTimeline)
            }
        }
        Some(former) => as_successor(claims, claim, timeline, former),
    };
    Some(verdict.map_err(|objection| (place, objection)).map(|()| {
        let history = History { system, timeline };
        let flushed = match accepted.take() {
            Some(former) if former.node == place && former.history == history => {
                further(former.flushed, claim.flushed.clone())
            }
            _ => claim.flushed.clone(),
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
    if others().any(later) {
        return Err(Objection::OldTimeline);
    }
    let has = claims.get(place).and_then(|it| it.flushed.as_ref());
    let ahead = |it: &Claim| match (has, it.received.as_ref()) {
        (Some(Position::Gtids(has)), Some(Position::Gtids(other))) => has.lacks_of(other),
        _ => false,
    };
    if others().filter(|it| it.health.reachable()).any(ahead) { Err(Objection::BehindReplica) } else { Ok(()) }
}

/// What is known to have been flushed, after another report.
fn further(before: Option<Position>, now: Option<Position>) -> Option<Position> {
    match (before, now) {
        (Some(before), Some(now)) => Some(if before.covers(&now) { before } else { now }),
        (before, now) => now.or(before),
    }
}

/// Another node than the accepted one claims alone. The former primary is down, or is in recovery now.
fn as_successor(claims: &[Claim], claim: &Claim, timeline: u32, former: &Accepted) -> Result<(), Objection> {
    // Names of transactions need no timelines: what was replayed is what others wrote, whatever came after it.
    if let (Some(had @ Position::Gtids(_)), Some(has @ Position::Gtids(_))) = (&former.flushed, &claim.replayed) {
        // What the former one has come to say of itself since it takes no writes any more counts as well.
        let since = claims.get(former.node).and_then(|it| it.flushed.as_ref());
        let all = has.covers(had) && since.is_none_or(|it| has.covers(it));
        return if all { Ok(()) } else { Err(Objection::MayLackWrites) };
    }
    if timeline == former.history.timeline {
        return Err(Objection::SameTimeline);
    }
    if timeline < former.history.timeline {
        return Err(Objection::OldTimeline);
    }
    let follows = claims
        .get(former.node)
        .is_some_and(|it| it.health.reachable() && it.in_recovery == Some(true) && it.timeline == Some(timeline));
    let all = match (&claim.replayed, &former.flushed) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(has), Some(had)) => has.covers(had),
    };
    if follows || all { Ok(()) } else { Err(Objection::MayLackWrites) }
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
            flushed: Some(Position::Wal(1000)),
            replayed: Some(Position::Wal(1000)),
            received: None,
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
        Some(Accepted { node, history: History { system: 7, timeline }, flushed: Some(Position::Wal(1000)) })
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
            assert!(contested(&claims, past.as_ref()));
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
        let behind = Claim { replayed: Some(Position::Wal(999)), ..primary_of(2) };
        let mut past = accepted(0, 1);
        assert_eq!(judge(&[down(), behind.clone()], &mut past)[1], (Fenced, Some(Objection::MayLackWrites)));
        assert_eq!(past, accepted(0, 1));
        let named = Claim { wanted: WantedRole::Primary, ..behind };
        assert_eq!(roles(&[down(), named], &mut past), [Unknown, Primary]);
    }

    #[test]
    fn a_former_primary_that_follows_the_new_one_is_proof_enough() {
        let rewound = Claim { replayed: Some(Position::Wal(999)), ..primary_of(2) };
        assert_eq!(roles(&[replica_of(2), rewound.clone()], &mut accepted(0, 1)), [Replica, Primary]);
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
        assert_eq!(roles(&[primary_of(1), replica_only.clone()], &mut accepted(0, 1)), [Primary, Fenced]);
        assert_eq!(roles(&[down(), replica_only], &mut accepted(0, 1)), [Unknown, Fenced]);
        let named = Claim { wanted: WantedRole::Primary, ..primary_of(1) };
        assert_eq!(roles(&[named, primary_of(2)], &mut None), [Primary, Fenced]);
        let not_yet = Claim { wanted: WantedRole::Primary, ..replica_of(1) };
        assert_eq!(judge(&[not_yet.clone(), primary_of(1)], &mut None)[1], (Fenced, Some(Objection::AnotherIsNamed)));
        assert_eq!(judge(&[not_yet], &mut None)[0], (Replica, Some(Objection::MustBePrimary)));
    }

    #[test]
    fn a_copy_of_something_else_is_fenced_as_replica_and_as_primary() {
        let stranger = Claim { system: Some(8), ..replica_of(1) };
        assert_eq!(roles(&[primary_of(1), stranger], &mut None), [Primary, Fenced]);
        let stranger = Claim { system: Some(8), ..primary_of(9) };
        assert_eq!(roles(&[primary_of(1), stranger.clone()], &mut accepted(0, 1)), [Primary, Fenced]);
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
        let ahead = Claim { flushed: Some(Position::Wal(2000)), ..primary_of(1) };
        let _ = judge(&[ahead], &mut past);
        assert_eq!(past.and_then(|it| it.flushed), Some(Position::Wal(2000)));
    }

    // Servers of MySQL: one system, one timeline, and names of transactions.

    fn gtids(text: &str) -> Option<Position> {
        Some(Position::Gtids(std::sync::Arc::new(crate::topology::gtid::Gtids::of_mariadb(text).unwrap())))
    }

    fn mysql(in_recovery: bool, wrote: &str, replayed: &str) -> Claim {
        let (flushed, replayed) = (gtids(wrote), gtids(replayed));
        Claim {
            timeline: Some(0),
            system: Some(0),
            flushed,
            received: replayed.clone(),
            replayed,
            ..claim(in_recovery, 0)
        }
    }

    fn gone() -> Claim {
        Claim { flushed: None, replayed: None, ..down() }
    }

    fn first(flushed: &str) -> Option<Accepted> {
        Some(Accepted { node: 0, history: History { system: 0, timeline: 0 }, flushed: gtids(flushed) })
    }

    #[test]
    fn a_promoted_node_succeeds_with_all_transactions_that_the_former_primary_had() {
        let mut past = first("0-1-100");
        assert_eq!(roles(&[gone(), mysql(false, "0-2-101", "0-1-100")], &mut past), [Unknown, Primary]);
        assert_eq!(past.as_ref().and_then(|it| it.flushed.clone()), gtids("0-2-101"));
        assert_eq!(past.map(|it| it.node), Some(1));
    }

    #[test]
    fn numbers_of_its_own_do_not_stand_for_those_that_it_lacks() {
        let mut past = first("0-1-100");
        let lacking = mysql(false, "0-2-200", "0-1-99");
        assert_eq!(judge(&[gone(), lacking.clone()], &mut past)[1], (Fenced, Some(Objection::MayLackWrites)));
        assert_eq!(past, first("0-1-100"));
        let other_domain = mysql(false, "0-1-100", "0-1-100");
        assert_eq!(roles(&[gone(), other_domain], &mut first("0-1-100,5-1-1")), [Unknown, Fenced]);
        let named = Claim { wanted: WantedRole::Primary, ..lacking };
        assert_eq!(roles(&[gone(), named], &mut past), [Unknown, Primary]);
    }

    #[test]
    fn what_the_former_primary_says_since_counts_as_well() {
        // It stopped at 105, which was not known when it took writes.
        let former = mysql(true, "0-1-105", "");
        let claims = |replayed| [former.clone(), mysql(false, "", replayed)];
        assert_eq!(roles(&claims("0-1-104"), &mut first("0-1-100")), [Replica, Fenced]);
        assert_eq!(roles(&claims("0-1-105"), &mut first("0-1-100")), [Replica, Primary]);
    }

    #[test]
    fn a_former_primary_of_mysql_that_comes_back_is_fenced() {
        let past = Some(Accepted { node: 1, history: History { system: 0, timeline: 0 }, flushed: gtids("0-2-110") });
        let former = mysql(false, "0-1-105", "");
        assert_eq!(roles(&[former.clone(), gone()], &mut past.clone()), [Fenced, Unknown]);
        // Beside the new one it makes two.
        assert_eq!(roles(&[former, mysql(false, "0-2-110", "0-1-100")], &mut past.clone()), [Fenced, Fenced]);
    }

    #[test]
    fn at_start_a_claimant_that_lacks_what_a_replica_has_is_not_believed() {
        let former = mysql(false, "0-1-100", "");
        let claims = [former.clone(), mysql(true, "", "0-2-101")];
        assert_eq!(judge(&claims, &mut None)[0], (Unknown, Some(Objection::BehindReplica)));
        // What comes from elsewhere says nothing of it.
        assert_eq!(roles(&[former, mysql(true, "", "0-1-90,7-9-9")], &mut None), [Primary, Replica]);
    }

    #[test]
    fn servers_without_names_of_transactions_prove_nothing() {
        let silent =
            |in_recovery| Claim { flushed: None, replayed: None, received: None, ..mysql(in_recovery, "", "") };
        let past = Some(Accepted { flushed: None, ..first("").unwrap() });
        assert_eq!(judge(&[gone(), silent(false)], &mut past.clone())[1], (Fenced, Some(Objection::SameTimeline)));
        assert_eq!(roles(&[gone(), mysql(false, "", "0-1-1")], &mut past.clone()), [Unknown, Fenced]);
        assert_eq!(roles(&[gone(), silent(false)], &mut first("0-1-1")), [Unknown, Fenced]);
    }
}
