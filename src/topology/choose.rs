//! Numbers of a shard's nodes → the node that serves a read (design §5).
//!
//! Pure: a snapshot of numbers goes in, a choice comes out. What the numbers are worth is `monitor`'s affair.

use std::time::Duration;

use smallvec::SmallVec;

use super::Health;
use super::Role;
use crate::clock::Tick;
use crate::ident::NodeId;
use crate::shard_map::Consistency;

/// What is known of one node at this moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Which node.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// Whether it answers.
    pub health: Health,
    /// It has everything that was acknowledged before this moment; `Tick::NEVER`: not known.
    pub fresh_as_of: Tick,
    /// It fell behind lately (`rotation`).
    pub behind: bool,
    /// Which of its lives this is; 0: between two.
    pub generation: u64,
    /// Statements that it runs for us.
    pub in_use: u32,
    /// Its share among equals.
    pub weight: u32,
    /// Whether it stands in the zone that is preferred.
    pub near: bool,
}

/// What a read asks of the node that serves it.
#[derive(Clone, Copy, Debug)]
pub struct ReadDemand {
    /// The level in force for the session.
    pub consistency: Consistency,
    /// What the session has seen.
    pub floor: Floor,
    /// `reads.staleness_max`.
    pub staleness_max: Duration,
    /// `reads.from`: whether replicas serve reads at all.
    pub from_replicas: bool,
    /// The clock, read for this choice.
    pub now: Tick,
}

/// A node in one of its lives, as it was when it was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Which node.
    pub node: NodeId,
    /// Which of its lives; goes into [`Floor::read`].
    pub generation: u64,
}

/// What the choice came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This node may serve the read.
    Node(Chosen),
    /// None may yet: wait a little (`Topology::wait_read`), then ask the primary.
    NoneYet,
}

/// What a session has seen of a shard: nothing older may be shown to it (design §5, `session`).
///
/// A session keeps one per shard. Rows that live on several shards (reference tables) are held to the floors of all
/// of them: [`Floor::join`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// When the acknowledgement of its last write was received.
    pub last_write: Tick,
    /// When its last read ended, whoever served it.
    pub last_read: Tick,
    /// When the last read ended that another node than `last_node` served.
    pub last_read_other: Tick,
    /// Who served its last read, and in which life.
    pub last_node: Option<Chosen>,
}

impl Floor {
    /// Takes in that a write was acknowledged at `at`.
    pub fn wrote(&mut self, at: Tick) {
        self.last_write = self.last_write.max(at);
    }

    /// Takes in that a read served by `by` ended at `at`. `by` is what was chosen before it was sent, not looked up
    /// afterwards: a node that restarted in between is another life.
    pub fn read(&mut self, by: Chosen, at: Tick) {
        if self.last_node != Some(by) {
            self.last_read_other = self.last_read_other.max(self.last_read);
            self.last_node = Some(by);
        }
        self.last_read = self.last_read.max(at);
    }

    /// What a node in that life must be fresh as of. The one that served the last read need not have seen more than
    /// it showed then, as long as it has not restarted.
    #[must_use]
    pub fn required(&self, node: NodeId, generation: u64) -> Tick {
        let again = generation != 0 && self.last_node == Some(Chosen { node, generation });
        self.last_write.max(if again { self.last_read_other } else { self.last_read })
    }

    /// The floor of somebody who has seen what both have seen.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let same = self.last_node == other.last_node;
        Self {
            last_write: self.last_write.max(other.last_write),
            last_read: self.last_read.max(other.last_read),
            last_read_other: if same {
                self.last_read_other.max(other.last_read_other)
            } else {
                self.last_read.max(other.last_read)
            },
            last_node: if same { self.last_node } else { None },
        }
    }

    /// The moment that satisfies it for every node.
    #[must_use]
    pub fn highest(&self) -> Tick {
        self.last_write.max(self.last_read)
    }
}

impl ReadDemand {
    /// The moment that, once replicas are fresh as of it, lets any of them serve.
    #[must_use]
    pub fn moment(&self) -> Tick {
        match self.consistency {
            Consistency::Strong | Consistency::Eventual => Tick::NEVER,
            Consistency::Session => self.floor.highest(),
            Consistency::Bounded(bound) => {
                let span = bound.unwrap_or(self.staleness_max);
                Tick(self.now.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
            }
        }
    }

    fn is_met_by(&self, candidate: &Candidate) -> bool {
        match self.consistency {
            Consistency::Strong => false,
            Consistency::Eventual => true,
            Consistency::Session => candidate.fresh_as_of >= self.floor.required(candidate.node, candidate.generation),
            Consistency::Bounded(bound) => {
                candidate.fresh_as_of != Tick::NEVER
                    && self.now.since(candidate.fresh_as_of) <= bound.unwrap_or(self.staleness_max)
            }
        }
    }

    fn keeps_up(&self, candidate: &Candidate) -> bool {
        candidate.fresh_as_of != Tick::NEVER && self.now.since(candidate.fresh_as_of) <= self.staleness_max
    }
}

/// The node that may serve a read: a fitting replica, near ones first, then the less loaded of two; the primary where
/// no replica is in rotation or none is wanted.
///
/// `random` decides which two are compared. While the shard has no reachable primary, `staleness_max` excludes nobody, and who fell behind serves, too.
#[must_use]
pub(super) fn choose(candidates: &[Candidate], demand: &ReadDemand, random: u32) -> Choice {
    let at_primary = primary(candidates).map_or(Choice::NoneYet, |it| Choice::Node(it.chosen()));
    if demand.consistency == Consistency::Strong || !demand.from_replicas {
        return at_primary;
    }
    let mut fitting: SmallVec<[&Candidate; 8]> =
        in_rotation(candidates, demand).filter(|it| demand.is_met_by(it)).collect();
    if fitting.is_empty() {
        // Waiting is worth something only for a replica that usually keeps up.
        return if in_rotation(candidates, demand).next().is_some() { Choice::NoneYet } else { at_primary };
    }
    if fitting.iter().any(|it| it.health == Health::Up) {
        fitting.retain(|it| it.health == Health::Up);
    }
    if fitting.iter().any(|it| it.near) {
        fitting.retain(|it| it.near);
    }
    match less_loaded_of_two(&fitting, random) {
        Some(it) => Choice::Node(it.chosen()),
        None => at_primary,
    }
}

fn primary(candidates: &[Candidate]) -> Option<&Candidate> {
    candidates.iter().find(|it| it.role == Role::Primary && it.health.reachable())
}

/// The replicas that reads may go to at all.
pub(super) fn in_rotation<'a>(
    candidates: &'a [Candidate],
    demand: &'a ReadDemand,
) -> impl Iterator<Item = &'a Candidate> {
    let is_led = primary(candidates).is_some();
    candidates.iter().filter(move |it| {
        it.role == Role::Replica
            && demand.from_replicas
            && if is_led { it.health == Health::Up && !it.behind && demand.keeps_up(it) } else { it.health.reachable() }
    })
}

/// Draws two by weight and takes the one with less to do for its weight; the first drawn when they are equal.
fn less_loaded_of_two<'a>(fitting: &[&'a Candidate], random: u32) -> Option<&'a Candidate> {
    let first = draw(fitting, None, random & 0xffff)?;
    let Some(second) = draw(fitting, Some(first.node), random >> 16) else { return Some(first) };
    let load = |it: &Candidate, other: &Candidate| u64::from(it.in_use) * u64::from(other.weight.max(1));
    Some(if load(second, first) < load(first, second) { second } else { first })
}

/// One of them, in proportion to the weights; `part` runs from 0 to 65535.
fn draw<'a>(fitting: &[&'a Candidate], without: Option<NodeId>, part: u32) -> Option<&'a Candidate> {
    let pool = || fitting.iter().copied().filter(|it| Some(it.node) != without);
    let total: u64 = pool().map(|it| u64::from(it.weight.max(1))).sum();
    let mut left = (u64::from(part) * total) >> 16;
    for it in pool() {
        let weight = u64::from(it.weight.max(1));
        if left < weight {
            return Some(it);
        }
        left -= weight;
    }
    None
}

impl Candidate {
    fn chosen(&self) -> Chosen {
        Chosen { node: self.node, generation: self.generation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::ShardId;

    fn id(node: u16) -> NodeId {
        NodeId { shard: ShardId(0), node }
    }

    fn node(node: u16, role: Role, fresh: u64) -> Candidate {
        Candidate {
            node: id(node),
            role,
            health: Health::Up,
            fresh_as_of: Tick(fresh),
            behind: false,
            generation: 1,
            in_use: 0,
            weight: 1,
            near: false,
        }
    }

    fn three() -> [Candidate; 3] {
        [node(0, Role::Primary, 0), node(1, Role::Replica, 900), node(2, Role::Replica, 500)]
    }

    fn demand(consistency: Consistency) -> ReadDemand {
        ReadDemand {
            consistency,
            floor: Floor::default(),
            staleness_max: Duration::from_nanos(600),
            from_replicas: true,
            now: Tick(1000),
        }
    }

    fn nodes(candidates: &[Candidate], demand: &ReadDemand) -> Vec<u16> {
        let mut seen = Vec::new();
        for random in (0..=u32::MAX).step_by(0x0101_0101) {
            if let Choice::Node(it) = choose(candidates, demand, random) {
                seen.push(it.node.node);
            }
        }
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    #[test]
    fn strong_reads_go_to_the_primary() {
        assert_eq!(nodes(&three(), &demand(Consistency::Strong)), [0]);
    }

    #[test]
    fn a_session_that_saw_nothing_uses_every_replica_but_not_the_primary() {
        assert_eq!(nodes(&three(), &demand(Consistency::Session)), [1, 2]);
    }

    #[test]
    fn a_session_that_wrote_uses_only_what_is_fresh_as_of_its_write() {
        let mut it = demand(Consistency::Session);
        it.floor.wrote(Tick(700));
        assert_eq!(nodes(&three(), &it), [1]);
        it.floor.wrote(Tick(901));
        assert_eq!(choose(&three(), &it, 0), Choice::NoneYet);
    }

    #[test]
    fn who_served_the_last_read_may_serve_again_until_it_restarts() {
        let mut it = demand(Consistency::Session);
        it.floor.read(Chosen { node: id(2), generation: 1 }, Tick(950));
        assert_eq!(nodes(&three(), &it), [2]);
        let mut restarted = three();
        restarted[2].generation = 2;
        assert_eq!(choose(&restarted, &it, 0), Choice::NoneYet);
        restarted[2].generation = 0;
        assert_eq!(choose(&restarted, &it, 0), Choice::NoneYet);
    }

    #[test]
    fn who_served_the_last_read_is_held_to_the_reads_before_it_elsewhere() {
        let mut floor = Floor::default();
        floor.read(Chosen { node: id(1), generation: 1 }, Tick(600));
        floor.read(Chosen { node: id(2), generation: 1 }, Tick(700));
        assert_eq!(floor.required(id(2), 1), Tick(600));
        assert_eq!(floor.required(id(1), 1), Tick(700));
        floor.read(Chosen { node: id(2), generation: 1 }, Tick(800));
        assert_eq!(floor.required(id(2), 1), Tick(600));
        floor.wrote(Tick(650));
        assert_eq!(floor.required(id(2), 1), Tick(650));
    }

    #[test]
    fn joined_floors_hold_what_either_saw() {
        let mut one = Floor::default();
        one.read(Chosen { node: id(1), generation: 1 }, Tick(600));
        let mut two = Floor::default();
        two.wrote(Tick(300));
        two.read(Chosen { node: id(2), generation: 1 }, Tick(700));
        let both = one.join(&two);
        assert_eq!(both.required(id(1), 1), Tick(700));
        assert_eq!(both.required(id(2), 1), Tick(700));
        assert_eq!(both.last_write, Tick(300));
        assert_eq!(one.join(&one), one);
    }

    #[test]
    fn bounded_is_exact() {
        let bound = |nanos| demand(Consistency::Bounded(Some(Duration::from_nanos(nanos))));
        assert_eq!(nodes(&three(), &bound(500)), [1, 2]);
        assert_eq!(nodes(&three(), &bound(499)), [1]);
        assert_eq!(nodes(&three(), &bound(100)), [1]);
        assert_eq!(choose(&three(), &bound(99), 0), Choice::NoneYet);
        assert_eq!(nodes(&three(), &demand(Consistency::Bounded(None))), [1, 2]);
    }

    #[test]
    fn a_replica_beyond_staleness_max_is_out_of_rotation_while_there_is_a_primary() {
        let mut it = demand(Consistency::Eventual);
        it.staleness_max = Duration::from_nanos(99);
        assert_eq!(nodes(&three(), &it), [0]);
        let mut headless = three();
        headless[0].health = Health::Down;
        assert_eq!(nodes(&headless, &it), [1, 2]);
    }

    #[test]
    fn a_replica_that_fell_behind_lately_serves_nobody_while_there_is_a_primary() {
        let mut all = three();
        all[1].behind = true;
        for consistency in [Consistency::Eventual, Consistency::Session, Consistency::Bounded(None)] {
            assert_eq!(nodes(&all, &demand(consistency)), [2]);
        }
        all[2].behind = true;
        // Nobody waits for one.
        assert_eq!(nodes(&all, &demand(Consistency::Session)), [0]);
        all[0].health = Health::Down;
        assert_eq!(nodes(&all, &demand(Consistency::Session)), [1, 2]);
    }

    #[test]
    fn without_a_primary_session_reads_need_their_floor_and_strong_ones_wait() {
        let mut headless = three();
        headless[0].health = Health::Down;
        let mut it = demand(Consistency::Session);
        it.floor.wrote(Tick(400));
        assert_eq!(nodes(&headless, &it), [1, 2]);
        it.floor.wrote(Tick(950));
        assert_eq!(choose(&headless, &it, 0), Choice::NoneYet);
        assert_eq!(choose(&headless, &demand(Consistency::Strong), 0), Choice::NoneYet);
    }

    #[test]
    fn unknown_freshness_serves_nobody_while_there_is_a_primary() {
        let mut all = three();
        all[1].fresh_as_of = Tick::NEVER;
        all[2].fresh_as_of = Tick::NEVER;
        assert_eq!(nodes(&all, &demand(Consistency::Eventual)), [0]);
        assert_eq!(nodes(&all, &demand(Consistency::Session)), [0]);
        all[0].role = Role::Fenced;
        assert_eq!(nodes(&all, &demand(Consistency::Eventual)), [1, 2]);
        let bounded = demand(Consistency::Bounded(Some(Duration::MAX)));
        assert_eq!(choose(&all, &bounded, 0), Choice::NoneYet);
    }

    #[test]
    fn what_is_down_suspect_or_fenced_does_not_serve() {
        let mut all = three();
        all[1].health = Health::Suspect;
        assert_eq!(nodes(&all, &demand(Consistency::Eventual)), [2]);
        all[2].health = Health::Down;
        assert_eq!(nodes(&all, &demand(Consistency::Eventual)), [0]);
        all[1].health = Health::Up;
        all[1].role = Role::Fenced;
        assert_eq!(nodes(&all, &demand(Consistency::Eventual)), [0]);
    }

    #[test]
    fn a_suspect_primary_still_serves() {
        let mut all = three();
        all[0].health = Health::Suspect;
        assert_eq!(nodes(&all, &demand(Consistency::Strong)), [0]);
    }

    #[test]
    fn the_same_zone_comes_first_when_it_fits() {
        let mut all = three();
        all[2].near = true;
        assert_eq!(nodes(&all, &demand(Consistency::Session)), [2]);
        let mut it = demand(Consistency::Session);
        it.floor.wrote(Tick(700));
        assert_eq!(nodes(&all, &it), [1]);
    }

    #[test]
    fn the_less_loaded_of_two_serves_by_weight() {
        let mut all = three();
        all[1].in_use = 3;
        all[2].in_use = 2;
        assert_eq!(nodes(&all, &demand(Consistency::Session)), [2]);
        all[1].weight = 2;
        assert_eq!(nodes(&all, &demand(Consistency::Session)), [1]);
    }

    #[test]
    fn idle_replicas_share_by_weight() {
        let mut all = three();
        all[1].weight = 3;
        let heavy = (0..1000_u32)
            .filter(|n| {
                let random = n.wrapping_mul(0x9E37_79B9);
                matches!(choose(&all, &demand(Consistency::Session), random), Choice::Node(it) if it.node.node == 1)
            })
            .count();
        assert!((700..800).contains(&heavy), "{heavy} of 1000");
    }

    #[test]
    fn reads_from_primary_ignore_replicas() {
        let mut it = demand(Consistency::Eventual);
        it.from_replicas = false;
        assert_eq!(nodes(&three(), &it), [0]);
    }

    #[test]
    fn a_lone_primary_serves_its_reads_at_once() {
        let mut it = demand(Consistency::Session);
        it.floor.wrote(Tick(999));
        assert_eq!(nodes(&three()[..1], &it), [0]);
    }
}
