//! What the nodes of a shard claim to be → what they are held to be (design §9). Pure.
//!
//! At most one node is the primary. Where two of Postgres claim to be, the later timeline wins, for a promotion begins one; of
//! two on the same timeline the one that was accepted already stays. Where nothing tells them apart none is primary: the shard
//! is read-only until one stops or the map names one (`role: primary`). So it is with any two of MySQL, which has no timelines.
//!
//! A promotion is followed even if the node lacks what its predecessor was known to have, and what may be lost is told
//! ([`Loss`]). Of MySQL it is not: nothing tells a promoted node from a former primary that comes back.

use std::cmp::Ordering;

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
    /// shardway has put another in its place.
    pub deposed: bool,
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

/// What a promoted node is not known to have: acknowledged writes may be among it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// Who was promoted.
    pub node: usize,
    /// Whom it succeeds.
    pub former: usize,
    /// What that one had flushed.
    pub had: Position,
    /// How much of it the new one is known to have.
    pub has: Option<Position>,
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
    /// Another was promoted in its place.
    #[error("another node was promoted in its place: rebuild it from that one")]
    Deposed,
    /// It belongs to another cluster.
    #[error("its system identifier is not the one of this shard: it is a copy of something else")]
    AnotherSystem,
    /// Two claim to be primary.
    #[error(
        "another node claims to be primary as well: they are fenced until one stops or the map says role: primary for one"
    )]
    Contested,
    /// Its timeline is older than one that this shard has reached.
    #[error("its timeline is older than one that this shard has reached: it is a former primary")]
    OldTimeline,
    /// It is another node on the same timeline as the old primary.
    #[error("it claims to be primary on the timeline of the former one: only role: primary in the map can settle that")]
    SameTimeline,
    /// MySQL: it lacks acknowledged writes, and may be a former primary.
    #[error(
        "it takes writes, but lacks what the former primary was known to have: to accept it all the same, say role: \
         primary for it in the map"
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

/// What all nodes of a shard are held to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// Each node.
    pub nodes: Vec<Judgement>,
    /// Replicas may follow one who is not the primary, though all else is alike: none of them is fresh.
    pub torn: bool,
    /// What is lost by the primary that was accepted just now.
    pub loss: Option<Loss>,
}

/// Judges all nodes of a shard. `accepted` is the primary so far; it becomes the new one.
#[must_use]
pub(super) fn judge(claims: &[Claim], accepted: &mut Option<Accepted>) -> Judged {
    let claimants: Vec<usize> = claimants(claims, accepted.as_ref()).collect();
    let outcome = foremost(claims, &claimants, accepted.as_ref());
    let (verdict, loss) = match outcome.place {
        Some(place) => accept(claims, place, accepted),
        None => (None, None),
    };
    let twin = matches!(verdict, Some(Err((_, Objection::SameTimeline))));
    let torn = twin || (claimants.len() > 1 && outcome.torn);
    let named = claims.iter().any(|it| it.wanted == WantedRole::Primary);
    let objection = |place: usize, claim: &Claim| match verdict {
        Some(Err((at, objection))) if at == place => objection,
        _ if claim.wanted == WantedRole::Replica => Objection::MustBeReplica,
        _ if other_system(claim, accepted.as_ref()) => Objection::AnotherSystem,
        _ if claim.deposed => Objection::Deposed,
        _ if named && claim.wanted != WantedRole::Primary => Objection::AnotherIsNamed,
        Some(_) => outcome.of_others,
        None => Objection::Contested,
    };
    let nodes = claims
        .iter()
        .enumerate()
        .map(|(place, claim)| match claim.in_recovery {
            _ if !claim.health.reachable() => (Role::Unknown, None),
            None => (Role::Unknown, None),
            Some(false) if verdict == Some(Ok(place)) => (Role::Primary, None),
            Some(false) => match objection(place, claim) {
                // Nothing is held against it yet.
                it @ (Objection::OthersUnheard | Objection::BehindReplica) => (Role::Unknown, Some(it)),
                other => (Role::Fenced, Some(other)),
            },
            Some(true) if other_system(claim, accepted.as_ref()) => (Role::Fenced, Some(Objection::AnotherSystem)),
            Some(true) if claim.wanted == WantedRole::Primary => (Role::Replica, Some(Objection::MustBePrimary)),
            Some(true) => (Role::Replica, None),
        })
        .collect();
    Judged { nodes, torn, loss }
}

/// Who of several that claim to be primary may be it.
struct Foremost {
    /// `None`: nothing tells them apart.
    place: Option<usize>,
    /// Why the others are not.
    of_others: Objection,
    /// There are two on one timeline.
    torn: bool,
}

fn foremost(claims: &[Claim], claimants: &[usize], accepted: Option<&Accepted>) -> Foremost {
    let none = Foremost { place: None, of_others: Objection::Contested, torn: true };
    let history = |place: usize| {
        let claim = claims.get(place)?;
        Some(History { system: claim.system?, timeline: claim.timeline? })
    };
    let [first, more @ ..] = claimants else { return none };
    if more.is_empty() {
        return Foremost { place: Some(*first), of_others: Objection::Contested, torn: false };
    }
    let Some(histories) = claimants.iter().map(|it| history(*it)).collect::<Option<Vec<_>>>() else { return none };
    let alike = histories.iter().all(|it| histories.first().is_some_and(|one| one.system == it.system));
    let latest = histories.iter().map(|it| it.timeline).max();
    let Some(latest) = latest.filter(|it| alike && *it != MYSQL) else { return none };
    let on_latest: Vec<usize> =
        claimants.iter().zip(&histories).filter(|(_, it)| it.timeline == latest).map(|(place, _)| *place).collect();
    match (&*on_latest, accepted) {
        ([place], _) => Foremost { place: Some(*place), of_others: Objection::OldTimeline, torn: false },
        (twins, Some(it)) if it.history.timeline == latest && twins.contains(&it.node) => {
            Foremost { place: Some(it.node), of_others: Objection::SameTimeline, torn: true }
        }
        _ => none,
    }
}

/// The timeline of servers that have none.
pub(super) const MYSQL: u32 = 0;

/// Who claims to be primary and may.
fn claimants(claims: &[Claim], accepted: Option<&Accepted>) -> impl Iterator<Item = usize> {
    let named = claims.iter().any(|it| it.wanted == WantedRole::Primary);
    let may = move |it: &Claim| {
        it.health.reachable()
            && it.in_recovery == Some(false)
            && it.wanted != WantedRole::Replica
            && (!named || it.wanted == WantedRole::Primary)
            && (it.wanted == WantedRole::Primary || !(it.deposed || other_system(it, accepted)))
    };
    claims.iter().enumerate().filter(move |(_, it)| may(it)).map(|(place, _)| place)
}

fn other_system(claim: &Claim, accepted: Option<&Accepted>) -> bool {
    matches!((claim.system, accepted), (Some(system), Some(accepted)) if system != accepted.history.system)
}

type Accepting = (Option<Result<usize, (usize, Objection)>>, Option<Loss>);

/// Accepts who claims to be primary, or does not.
fn accept(claims: &[Claim], place: usize, accepted: &mut Option<Accepted>) -> Accepting {
    let Some(claim) = claims.get(place) else { return (None, None) };
    let (Some(system), Some(timeline)) = (claim.system, claim.timeline) else {
        return (Some(Err((place, Objection::OthersUnheard))), None);
    };
    let history = History { system, timeline };
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
    if let Err(objection) = verdict {
        return (Some(Err((place, objection))), None);
    }
    let former = accepted.take();
    let loss = former.as_ref().and_then(|it| loss(claims, place, timeline, it));
    let flushed = match former {
        Some(former) if former.node == place && former.history == history => {
            further(former.flushed, claim.flushed.clone())
        }
        _ => claim.flushed.clone(),
    };
    *accepted = Some(Accepted { node: place, history, flushed });
    (Some(Ok(place)), loss)
}

/// What is lost if that node takes the place of the former primary.
fn loss(claims: &[Claim], place: usize, timeline: u32, former: &Accepted) -> Option<Loss> {
    let had = former.flushed.as_ref().filter(|_| former.node != place)?;
    let has = claims.get(place).and_then(|it| it.replayed.as_ref());
    // Whoever follows the new one has been made to: what it had more is nowhere any more, or was never acknowledged.
    let follows = timeline != MYSQL
        && claims
            .get(former.node)
            .is_some_and(|it| it.health.reachable() && it.in_recovery == Some(true) && it.timeline == Some(timeline));
    if follows || has.is_some_and(|it| it.covers(had)) {
        return None;
    }
    Some(Loss { node: place, former: former.node, had: had.clone(), has: has.cloned() })
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

/// Another node than the accepted one claims to be primary, which does not, or on a timeline of before.
fn as_successor(claims: &[Claim], claim: &Claim, timeline: u32, former: &Accepted) -> Result<(), Objection> {
    // Names of transactions need no timelines: what was replayed is what others wrote, whatever came after it.
    if let (Some(had @ Position::Gtids(_)), Some(has @ Position::Gtids(_))) = (&former.flushed, &claim.replayed) {
        // What the former one has come to say of itself since it takes no writes any more counts as well.
        let since = claims.get(former.node).and_then(|it| it.flushed.as_ref());
        let all = has.covers(had) && since.is_none_or(|it| has.covers(it));
        return if all { Ok(()) } else { Err(Objection::MayLackWrites) };
    }
    match timeline.cmp(&former.history.timeline) {
        Ordering::Less => Err(Objection::OldTimeline),
        Ordering::Equal => Err(Objection::SameTimeline),
        Ordering::Greater => Ok(()),
    }
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
            deposed: false,
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
        judge(claims, accepted).nodes.into_iter().map(|(role, _)| role).collect()
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
    fn of_two_claimants_the_later_timeline_wins_whoever_was_accepted() {
        for past in [None, accepted(0, 1), accepted(1, 1), accepted(1, 2)] {
            let claims = [primary_of(1), primary_of(2), replica_of(1)];
            let mut now = past.clone();
            let judged = judge(&claims, &mut now);
            assert_eq!(judged.nodes[0], (Fenced, Some(Objection::OldTimeline)), "{past:?}");
            assert_eq!((judged.nodes[1], judged.torn), ((Primary, None), false), "{past:?}");
            assert_eq!(now, accepted(1, 2));
        }
        // A later one was accepted, and is not there.
        let mut past = accepted(2, 3);
        assert_eq!(roles(&[primary_of(1), primary_of(2), down()], &mut past), [Fenced, Fenced, Unknown]);
        assert_eq!(past, accepted(2, 3));
    }

    #[test]
    fn of_two_on_one_timeline_the_accepted_one_stays() {
        let claims = [primary_of(2), primary_of(2), replica_of(2)];
        for place in [0, 1] {
            let mut past = accepted(place, 2);
            let judged = judge(&claims, &mut past);
            assert_eq!(judged.nodes[place], (Primary, None));
            assert_eq!(judged.nodes[1 - place], (Fenced, Some(Objection::SameTimeline)));
            assert!(judged.torn, "nobody knows whom replicas follow");
        }
        for past in [None, accepted(0, 1), accepted(2, 2), accepted(2, 3)] {
            assert_eq!(roles(&claims, &mut past.clone()), [Fenced, Fenced, Replica], "{past:?}");
        }
        // Not known of which timeline one is.
        let unheard = Claim { timeline: None, ..primary_of(1) };
        assert_eq!(roles(&[primary_of(2), unheard], &mut accepted(0, 2)), [Fenced, Fenced]);
        let strangers = [primary_of(1), Claim { system: Some(8), ..primary_of(2) }];
        assert_eq!(roles(&strangers, &mut None), [Fenced, Fenced], "of two systems none is the right one");
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
    fn a_promoted_replica_that_lacks_writes_is_followed_and_the_loss_told() {
        let behind = Claim { replayed: Some(Position::Wal(999)), ..primary_of(2) };
        let mut past = accepted(0, 1);
        let judged = judge(&[down(), behind.clone()], &mut past);
        assert_eq!(judged.nodes[1], (Primary, None));
        let (had, has) = (Position::Wal(1000), Some(Position::Wal(999)));
        assert_eq!(judged.loss, Some(Loss { node: 1, former: 0, had: had.clone(), has }));
        assert_eq!(judge(&[down(), behind.clone()], &mut past).loss, None, "it is told once");
        let silent = Claim { replayed: None, ..behind };
        let loss = judge(&[down(), silent], &mut accepted(0, 1)).loss;
        assert_eq!(loss, Some(Loss { node: 1, former: 0, had, has: None }));
        assert_eq!(judge(&[down(), primary_of(2)], &mut accepted(0, 1)).loss, None, "it has everything");
    }

    #[test]
    fn a_former_primary_that_follows_the_new_one_is_proof_that_nothing_is_lost() {
        let rewound = Claim { replayed: Some(Position::Wal(999)), ..primary_of(2) };
        for (of_former, lost) in [(2, false), (1, true)] {
            let judged = judge(&[replica_of(of_former), rewound.clone()], &mut accepted(0, 1));
            assert_eq!(judged.nodes, [(Replica, None), (Primary, None)]);
            assert_eq!(judged.loss.is_some(), lost);
        }
    }

    #[test]
    fn equal_timelines_are_never_settled_automatically() {
        let mut past = accepted(0, 1);
        assert_eq!(judge(&[down(), primary_of(1)], &mut past).nodes[1], (Fenced, Some(Objection::SameTimeline)));
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
        assert_eq!(
            judge(&[not_yet.clone(), primary_of(1)], &mut None).nodes[1],
            (Fenced, Some(Objection::AnotherIsNamed))
        );
        assert_eq!(judge(&[not_yet], &mut None).nodes[0], (Replica, Some(Objection::MustBePrimary)));
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
        assert_eq!(judge(&[gone(), lacking.clone()], &mut past).nodes[1], (Fenced, Some(Objection::MayLackWrites)));
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
        assert_eq!(judge(&claims, &mut None).nodes[0], (Unknown, Some(Objection::BehindReplica)));
        // What comes from elsewhere says nothing of it.
        assert_eq!(roles(&[former, mysql(true, "", "0-1-90,7-9-9")], &mut None), [Primary, Replica]);
    }

    #[test]
    fn servers_without_names_of_transactions_prove_nothing() {
        let silent =
            |in_recovery| Claim { flushed: None, replayed: None, received: None, ..mysql(in_recovery, "", "") };
        let past = Some(Accepted { flushed: None, ..first("").unwrap() });
        assert_eq!(
            judge(&[gone(), silent(false)], &mut past.clone()).nodes[1],
            (Fenced, Some(Objection::SameTimeline))
        );
        assert_eq!(roles(&[gone(), mysql(false, "", "0-1-1")], &mut past.clone()), [Unknown, Fenced]);
        assert_eq!(roles(&[gone(), silent(false)], &mut first("0-1-1")), [Unknown, Fenced]);
    }
}
