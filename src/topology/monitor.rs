//! Everything that was heard of one shard's nodes → what may be relied on. Pure: events and moments go in.
//!
//! `health` says who answers, `roles` who is what, `freshness` how new the replicas are, `rotation` whether they keep
//! up; this file keeps them together and decides what a loss of contact voids.

use std::sync::Arc;
use std::time::Duration;

use super::Health;
use super::Role;
use super::freshness::History;
use super::freshness::Position;
use super::freshness::Replayed;
use super::freshness::Samples;
use super::freshness::WalShape;
use super::health::Heard;
use super::health::Verdict;
use super::lead::mark::Mark;
use super::roles;
use super::roles::Accepted;
use super::roles::Claim;
use super::roles::Judgement;
use super::roles::Loss;
use super::rotation::Rotation;
use crate::clock::Tick;
use crate::shard_map::WantedRole;

/// What does not change while a connection to a server is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// `system_identifier`; of MySQL, which has none, 0.
    pub system: u64,
    /// When it started, in microseconds since 1970.
    pub started: i64,
    /// How its log is cut.
    pub wal: WalShape,
}

/// One answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// Noted before it was asked.
    pub asked: Tick,
    /// Whether it takes no writes: `pg_is_in_recovery()`, of MySQL `read_only`.
    pub in_recovery: bool,
    /// Of a primary: the position that a sample is made of.
    pub sampled: Option<Position>,
    /// Of a primary: `pg_current_wal_flush_lsn()`; of MySQL, also what a server wrote itself that takes no writes any more.
    pub flushed: Option<Position>,
    /// `pg_last_wal_replay_lsn()`: of a promoted server, where its recovery ended.
    pub replayed: Option<Position>,
    /// MySQL: what of that others have written.
    pub received: Option<Position>,
    /// Written on (primary) or received (replica); `None`: hidden from this user, or nothing is being received.
    pub timeline: Option<u32>,
    /// Something is being received, but this user may not see what.
    pub hidden: bool,
    /// What is wrong with its replication, in words for people.
    pub trouble: Option<Arc<str>>,
    /// MySQL: whether commits wait for replicas, in words for people.
    pub semi_sync: Option<Arc<str>>,
    /// When it started: that of its identity, unless it is another server by now.
    pub started: i64,
    /// Its part in a failover that shardway led.
    pub mark: Option<Mark>,
}

/// Something that happened at one node.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A connection opened; `life` is a number never used before.
    Connected(Identity, u64),
    /// A probe was answered.
    Answered(Report),
    /// A probe asked at that moment is still unanswered.
    Silent(Tick),
    /// A connection could not be opened, or broke; the attempt began at that moment.
    Failed(Heard, Tick, String),
}

/// What the one who waits for answers should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Advice {
    /// Go on with this connection.
    GoOn,
    /// This is not the server that the connection was opened to: open another.
    Reconnect,
}

/// What may be relied on of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// What it is.
    pub role: Role,
    /// Whether it answers.
    pub health: Health,
    /// It has everything acknowledged before then.
    pub fresh_as_of: Tick,
    /// A replica that fell behind lately, so that no reads go there.
    pub behind: bool,
    /// Noted before its last answer was asked for; NEVER when no connection is open.
    pub asked: Tick,
    /// Which life; 0: between two.
    pub generation: u64,
    /// Inserted (primary) or replayed (replica) up to here.
    pub position: Option<Position>,
    /// Whether its commits wait for replicas, where it tells.
    pub semi_sync: Option<Arc<str>>,
    /// Its cluster.
    pub system: u64,
    /// Its timeline.
    pub timeline: u32,
    /// When it started, in microseconds since 1970.
    pub started: i64,
}

/// One shard, as the monitor sees it.
#[derive(Clone, Debug)]
pub(super) struct ShardMonitor {
    nodes: Vec<NodeMonitor>,
    samples: Samples,
    accepted: Option<Accepted>,
    /// The primary and history that the freshness of the replicas is of.
    relied: Option<(usize, History)>,
    judged: Vec<Judgement>,
    /// What is lost by the primary that was accepted last, until somebody is told.
    loss: Option<Loss>,
    /// In this history two nodes have claimed to be primary: who follows the other one cannot be told from who follows the
    /// right one, also when that other one is not heard any more.
    torn: Option<History>,
    /// The latest history that a node has claimed to be primary of, and which node.
    claimed: Option<(History, usize)>,
}

#[derive(Clone, Debug)]
struct NodeMonitor {
    wanted: WantedRole,
    verdict: Verdict,
    identity: Option<Identity>,
    generation: u64,
    last: Option<Report>,
    replayed: Replayed,
    rotation: Rotation,
    /// The furthest in the last life in which it was in recovery: what a promoted node is known to have had.
    recovered: Option<Position>,
    trouble: Option<String>,
    name: Arc<str>,
    /// Holds while it is not there, too.
    mark: Option<Mark>,
}

impl ShardMonitor {
    /// Nothing heard of `nodes` yet; failures are borne for `patience`, and lag up to `staleness_max`.
    #[must_use]
    pub(super) fn new(
        nodes: impl IntoIterator<Item = WantedRole>,
        patience: Duration,
        staleness_max: Duration,
    ) -> Self {
        let nodes: Vec<_> = nodes.into_iter().map(|it| NodeMonitor::new(it, patience, staleness_max)).collect();
        let judged = vec![(Role::Unknown, None); nodes.len()];
        Self {
            nodes,
            samples: Samples::default(),
            accepted: None,
            relied: None,
            judged,
            loss: None,
            torn: None,
            claimed: None,
        }
    }

    /// What the nodes are called, by which failovers are told of.
    pub(super) fn name(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        self.nodes.iter_mut().zip(names).for_each(|(node, name)| node.name = name);
    }

    /// Takes over the past of the same shard under an earlier map: who was accepted as primary, by its place now.
    pub(super) fn inherit(&mut self, accepted: Option<Accepted>) {
        self.accepted = accepted;
    }

    /// The primary that was accepted last, reachable or not.
    #[must_use]
    pub(super) fn accepted(&self) -> Option<&Accepted> {
        self.accepted.as_ref()
    }

    /// Takes in what happened at node `place`.
    pub(super) fn observe(&mut self, place: usize, event: Event, now: Tick) -> Advice {
        let Some(node) = self.nodes.get_mut(place) else { return Advice::GoOn };
        let mut advice = Advice::GoOn;
        let mut news = None;
        match event {
            Event::Connected(identity, life) => {
                node.begin(identity, life);
                if self.samples.of().is_some_and(|(of, _)| of == place) {
                    self.samples.clear();
                }
            }
            Event::Silent(since) => {
                node.verdict.observe(Heard::Silence(since), now);
                node.end_if_down();
            }
            Event::Failed(heard, since, trouble) => {
                node.verdict.failed(heard, since, now);
                node.trouble = Some(trouble);
                node.end();
                node.end_if_down();
            }
            Event::Answered(report) => {
                // A life that was given up, be it only by silence, does not begin again: the next connection is another.
                let over = node.generation == 0 || node.identity.is_none_or(|it| it.started != report.started);
                if over || node.answered(&report).is_err() {
                    node.end();
                    advice = Advice::Reconnect;
                } else {
                    node.verdict.observe(Heard::Answer, now);
                    node.trouble = None;
                    let claims = node.identity.zip(report.timeline).filter(|_| !report.in_recovery);
                    if let Some((identity, timeline)) = claims {
                        self.claims(place, History { system: identity.system, timeline });
                    }
                    news = Some(report);
                }
            }
        }
        self.settle(place, news, now);
        advice
    }

    /// What may be relied on of a node.
    #[must_use]
    pub(super) fn standing(&self, place: usize) -> Standing {
        let Some(node) = self.nodes.get(place) else { return Standing::default() };
        let role = self.judged.get(place).map_or(Role::Unknown, |(role, _)| *role);
        let primary = role == Role::Primary;
        let identity = node.identity;
        Standing {
            role,
            health: node.verdict.health(),
            fresh_as_of: match role {
                Role::Primary => self.samples.newest().map_or(Tick::NEVER, |(t0, _)| *t0),
                Role::Replica => node.replayed.fresh_as_of(),
                Role::Unknown | Role::Fenced => Tick::NEVER,
            },
            behind: role == Role::Replica && node.rotation.is_out(),
            asked: match (node.generation, &node.last) {
                (1.., Some(last)) => last.asked,
                _ => Tick::NEVER,
            },
            generation: node.generation,
            position: node.last.as_ref().and_then(|it| {
                let shown = if primary { &it.sampled } else { &it.replayed };
                shown.as_ref().or(if primary { None } else { it.sampled.as_ref() }).cloned()
            }),
            semi_sync: node.last.as_ref().and_then(|it| it.semi_sync.clone()),
            system: identity.map_or(0, |it| it.system),
            timeline: node.last.as_ref().and_then(|it| it.timeline).unwrap_or(0),
            started: identity.map_or(0, |it| it.started),
        }
    }

    /// What is wrong with a node, for people.
    #[must_use]
    pub(super) fn trouble(&self, place: usize) -> Option<String> {
        let node = self.nodes.get(place)?;
        let objection = self.judged.get(place).and_then(|(_, objection)| *objection);
        match (&node.trouble, objection) {
            (Some(trouble), _) => Some(trouble.clone()),
            (None, Some(objection)) => Some(objection.to_string()),
            (None, None) => {
                let last = node.last.as_ref().filter(|it| it.in_recovery)?;
                if self
                    .torn
                    .is_some_and(|it| it.timeline != roles::MYSQL && self.relied.is_some_and(|(_, of)| of == it))
                {
                    return Some(TORN.to_owned());
                }
                if let Some(trouble) = &last.trouble {
                    return Some(trouble.to_string());
                }
                let why = if last.hidden { HIDDEN } else { NOT_RECEIVING };
                last.timeline.is_none().then(|| why.to_owned()).or_else(|| node.rotation.objection())
            }
        }
    }

    /// Whether every node was heard of, be it by its silence.
    #[must_use]
    pub(super) fn all_heard(&self) -> bool {
        self.nodes.iter().all(|it| match it.verdict.health() {
            Health::Unknown => false,
            Health::Up | Health::Suspect => it.last.is_some(),
            Health::Down => true,
        })
    }

    /// What is lost by a primary that was accepted since this was asked last.
    #[must_use]
    pub(super) fn take_loss(&mut self) -> Option<Loss> {
        self.loss.take()
    }

    /// The newest sample of the primary.
    #[must_use]
    pub(super) fn newest_sample(&self) -> Option<&(Tick, Position)> {
        self.samples.newest()
    }

    /// A node claims to be primary. Two of one history need not do so at the same time, and the first may have been refused.
    fn claims(&mut self, place: usize, history: History) {
        match self.claimed {
            Some((of, node)) if of == history && node != place => self.torn = Some(history),
            Some((of, _)) if of.timeline > history.timeline => {}
            _ => self.claimed = Some((history, place)),
        }
    }

    /// Whether another has been put in its place, and it has not been rebuilt from that one since.
    fn is_deposed(&self, node: &NodeMonitor) -> bool {
        let own = node.mark.as_ref().map_or(0, |it| it.epoch);
        let marks = self.nodes.iter().filter_map(|it| it.mark.as_ref());
        !node.name.is_empty() && marks.into_iter().any(|it| it.deposes() && *it.former == *node.name && it.epoch > own)
    }

    /// Judges anew and draws the consequences: samples of the primary, freshness of the replicas.
    fn settle(&mut self, place: usize, news: Option<Report>, now: Tick) {
        let claim = |it: &NodeMonitor| Claim { deposed: self.is_deposed(it), ..it.claim() };
        let claims: Vec<Claim> = self.nodes.iter().map(claim).collect();
        let judged = roles::judge(&claims, &mut self.accepted);
        self.judged = judged.nodes;
        self.loss = judged.loss.or_else(|| self.loss.take());
        let relied = self.accepted.as_ref().map(|it| (it.node, it.history));
        let history = relied.map(|(_, history)| history);
        if judged.torn {
            self.torn = history;
        }
        // Of MySQL, names of transactions tell whose they are.
        let torn = judged.torn || (self.torn == history && history.is_some_and(|it| it.timeline != roles::MYSQL));
        if relied != self.relied || torn {
            self.relied = relied;
            self.samples.clear();
            for node in &mut self.nodes {
                node.replayed.stale();
                node.rotation.forget();
            }
        }
        let role = self.judged.get(place).map(|(role, _)| *role);
        let Some(node) = self.nodes.get_mut(place) else { return };
        let (Some(report), Some(identity)) = (news, node.identity) else { return };
        match (role, report.in_recovery) {
            (Some(Role::Primary), false) => {
                if let (Some(position), Some((_, history))) = (report.sampled, relied) {
                    self.samples.push(place, history, report.asked, identity.wal.round_down(position));
                }
            }
            (Some(Role::Replica), true) => {
                let history = report.timeline.map(|timeline| History { system: identity.system, timeline });
                if let Some(replayed) = &report.replayed {
                    // A report that went back was turned away when it came.
                    let _ = node.replayed.report(&self.samples, history, replayed);
                }
                let fresh = node.replayed.fresh_as_of();
                node.rotation.observe(self.samples.ahead_of(fresh), now.since(fresh), now);
            }
            _ => {}
        }
    }
}

impl NodeMonitor {
    fn new(wanted: WantedRole, patience: Duration, staleness_max: Duration) -> Self {
        Self {
            wanted,
            verdict: Verdict::new(patience),
            identity: None,
            generation: 0,
            last: None,
            replayed: Replayed::default(),
            rotation: Rotation::new(staleness_max),
            recovered: None,
            trouble: None,
            name: "".into(),
            mark: None,
        }
    }

    /// A connection is open: a life begins, of which nothing is known.
    fn begin(&mut self, identity: Identity, life: u64) {
        self.identity = Some(identity);
        self.generation = life;
        self.replayed = Replayed::default();
    }

    /// The connection is gone: what it knew is void. What the node claimed to be holds until it is down or says
    /// otherwise, so that a broken monitor connection does not stop writes.
    fn end(&mut self) {
        self.generation = 0;
        self.replayed = Replayed::default();
        self.rotation.interrupt();
    }

    /// What is down claims nothing any more.
    fn end_if_down(&mut self) {
        if self.verdict.health() == Health::Down {
            self.last = None;
            self.end();
        }
    }

    fn answered(&mut self, report: &Report) -> Result<(), ()> {
        let back = match (self.replayed.position(), &report.replayed) {
            (Some(before), Some(now)) => !now.covers(before),
            _ => false,
        };
        if back {
            return Err(());
        }
        if let Some(replayed) = &report.replayed {
            self.recovered = Some(replayed.clone());
        }
        self.mark.clone_from(&report.mark);
        self.last = Some(report.clone());
        Ok(())
    }

    fn claim(&self) -> Claim {
        Claim {
            wanted: self.wanted,
            health: self.verdict.health(),
            in_recovery: self.last.as_ref().map(|it| it.in_recovery),
            system: self.identity.map(|it| it.system),
            timeline: self.last.as_ref().and_then(|it| it.timeline),
            flushed: self.last.as_ref().and_then(|it| it.flushed.clone()),
            replayed: self.recovered.clone(),
            received: self.last.as_ref().and_then(|it| it.received.clone()),
            deposed: false,
        }
    }
}

/// Shown for a replica whose receiver cannot be seen.
const HIDDEN: &str = "the monitor's user may not see what it receives, so it serves no reads: GRANT pg_monitor to that \
                      user on the primary";

/// Shown for a replica beside two primaries of one timeline.
const TORN: &str = "two nodes were primary on this timeline, and nothing tells whom it follows, so it serves no reads until \
                    a node is promoted to a later one, or shardway begins anew";

/// Shown for a replica without a receiver.
const NOT_RECEIVING: &str = "it receives nothing from a primary";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::freshness::Lsn;

    const SYSTEM: u64 = 7;
    const BEHIND: Duration = Duration::from_secs(2);
    const SECOND: u64 = 1_000_000_000;

    struct Shard {
        monitor: ShardMonitor,
        lives: u64,
    }

    impl Shard {
        fn of(nodes: usize) -> Self {
            let monitor = ShardMonitor::new(vec![WantedRole::Auto; nodes], Duration::from_nanos(1000), BEHIND);
            Self { monitor, lives: 0 }
        }

        fn connect(&mut self, node: usize, started: i64) {
            self.lives += 1;
            let identity = Identity { system: SYSTEM, started, wal: WalShape { page: 8192, segment: 1 << 24 } };
            assert_eq!(self.monitor.observe(node, Event::Connected(identity, self.lives), Tick(1)), Advice::GoOn);
        }

        fn primary(&mut self, node: usize, asked: u64, lsn: Lsn, timeline: u32) -> Advice {
            let report = Report {
                asked: Tick(asked),
                in_recovery: false,
                sampled: Some(Position::Wal(lsn)),
                flushed: Some(Position::Wal(lsn)),
                replayed: None,
                timeline: Some(timeline),
                received: None,
                hidden: false,
                trouble: None,
                semi_sync: None,
                started: 1,
                mark: None,
            };
            self.monitor.observe(node, Event::Answered(report), Tick(asked + 1))
        }

        fn replica(&mut self, node: usize, asked: u64, lsn: Lsn, timeline: Option<u32>) -> Advice {
            let report = Report {
                asked: Tick(asked),
                in_recovery: true,
                sampled: None,
                flushed: None,
                replayed: Some(Position::Wal(lsn)),
                timeline,
                received: None,
                hidden: timeline.is_none(),
                trouble: None,
                semi_sync: None,
                started: 1,
                mark: None,
            };
            self.monitor.observe(node, Event::Answered(report), Tick(asked + 1))
        }

        fn fail(&mut self, node: usize, heard: Heard, at: u64) {
            let advice = self.monitor.observe(node, Event::Failed(heard, Tick(at), "gone".to_owned()), Tick(at));
            assert_eq!(advice, Advice::GoOn);
        }

        fn fresh(&self, node: usize) -> u64 {
            self.monitor.standing(node).fresh_as_of.0
        }

        fn role(&self, node: usize) -> Role {
            self.monitor.standing(node).role
        }

        fn running() -> Self {
            let mut it = Self::of(2);
            it.connect(0, 1);
            it.connect(1, 1);
            assert_eq!(it.replica(1, 90, 50, Some(1)), Advice::GoOn);
            assert_eq!(it.primary(0, 100, 1000, 1), Advice::GoOn);
            assert_eq!(it.replica(1, 110, 1000, Some(1)), Advice::GoOn);
            assert_eq!(it.fresh(1), 100);
            it
        }
    }

    #[test]
    fn a_replica_is_as_fresh_as_the_sample_it_reached() {
        let mut it = Shard::running();
        let _ = it.primary(0, 200, 2000, 1);
        let _ = it.replica(1, 210, 1999, Some(1));
        assert_eq!(it.fresh(1), 100);
        let _ = it.replica(1, 220, 2000, Some(1));
        assert_eq!(it.fresh(1), 200);
        assert_eq!(it.monitor.standing(1).asked, Tick(220));
    }

    #[test]
    fn servers_that_tell_no_positions_have_roles_and_are_never_fresh() {
        let mut it = Shard::of(2);
        let report = |in_recovery| Report {
            asked: Tick(100),
            in_recovery,
            sampled: None,
            flushed: None,
            replayed: None,
            timeline: Some(0),
            received: None,
            hidden: false,
            trouble: None,
            semi_sync: None,
            started: 1,
            mark: None,
        };
        for (node, in_recovery) in [(0, false), (1, true)] {
            it.connect(node, 1);
            assert_eq!(it.monitor.observe(node, Event::Answered(report(in_recovery)), Tick(101)), Advice::GoOn);
        }
        assert_eq!((it.role(0), it.role(1)), (Role::Primary, Role::Replica));
        assert_eq!((it.fresh(0), it.fresh(1)), (0, 0));
        assert_eq!(it.monitor.trouble(1), None);
        let _ = it.monitor.observe(1, Event::Answered(report(false)), Tick(102));
        assert_eq!((it.role(0), it.role(1)), (Role::Fenced, Role::Fenced));
        // One that alone takes writes later is not the one that was accepted: nothing shows what it has.
        let _ = it.monitor.observe(0, Event::Answered(report(true)), Tick(103));
        assert_eq!((it.role(0), it.role(1)), (Role::Replica, Role::Fenced));
        let _ = it.monitor.observe(0, Event::Answered(report(false)), Tick(104));
        let _ = it.monitor.observe(1, Event::Answered(report(true)), Tick(105));
        assert_eq!((it.role(0), it.role(1)), (Role::Primary, Role::Replica));
    }

    #[test]
    fn a_broken_monitor_connection_voids_freshness_and_ends_the_life() {
        let mut it = Shard::running();
        let before = it.monitor.standing(1).generation;
        it.fail(1, Heard::Loss, 120);
        let now = it.monitor.standing(1);
        assert_eq!((now.fresh_as_of, now.generation, now.asked), (Tick::NEVER, 0, Tick::NEVER));
        it.connect(1, 1);
        assert_ne!(it.monitor.standing(1).generation, before);
        assert_eq!(it.fresh(1), 0);
        let _ = it.primary(0, 130, 1000, 1);
        let _ = it.replica(1, 140, 1000, Some(1));
        assert_eq!(it.fresh(1), 130);
    }

    #[test]
    fn a_replica_that_goes_back_or_restarts_unseen_is_another_life() {
        let mut it = Shard::running();
        assert_eq!(it.replica(1, 120, 999, Some(1)), Advice::Reconnect);
        assert_eq!((it.fresh(1), it.monitor.standing(1).generation), (0, 0));
        let mut it = Shard::of(2);
        it.connect(1, 2);
        assert_eq!(it.replica(1, 120, 999, Some(1)), Advice::Reconnect);
    }

    #[test]
    fn a_new_timeline_voids_all_freshness() {
        let mut it = Shard::running();
        let _ = it.primary(0, 200, 1000, 2);
        assert_eq!(it.fresh(1), 0);
        let _ = it.replica(1, 210, 1000, Some(1));
        assert_eq!(it.fresh(1), 0);
        let _ = it.replica(1, 220, 1000, Some(2));
        assert_eq!(it.fresh(1), 200);
    }

    #[test]
    fn a_later_timeline_takes_over_and_voids_all_freshness() {
        let mut it = Shard::of(3);
        (0..3).for_each(|node| it.connect(node, 1));
        let _ = it.replica(2, 80, 10, Some(1));
        let _ = it.replica(1, 90, 10, Some(1));
        let _ = it.primary(0, 100, 1000, 1);
        let _ = it.replica(2, 110, 1000, Some(1));
        assert_eq!(it.fresh(2), 100);
        let _ = it.primary(1, 120, 1000, 2);
        assert_eq!([it.role(0), it.role(1), it.role(2)], [Role::Fenced, Role::Primary, Role::Replica]);
        assert_eq!(it.fresh(2), 0);
        let loss = it.monitor.take_loss().map(|it| (it.node, it.former, it.had, it.has));
        assert_eq!(loss, Some((1, 0, Position::Wal(1000), Some(Position::Wal(10)))));
        assert_eq!(it.monitor.take_loss(), None);
        // The former one goes on as it was; who follows it is not fresh, who follows the new one is.
        let _ = it.primary(0, 130, 1000, 1);
        let _ = it.replica(2, 140, 1000, Some(1));
        assert_eq!((it.role(0), it.fresh(2)), (Role::Fenced, 0));
        let _ = it.primary(1, 150, 1000, 2);
        let _ = it.replica(2, 160, 1000, Some(2));
        assert_eq!(it.fresh(2), 150);
        // Without the new one there is none.
        it.fail(1, Heard::Refusal, 170);
        it.fail(1, Heard::Refusal, 171);
        assert_eq!([it.role(0), it.role(1)], [Role::Fenced, Role::Unknown]);
    }

    #[test]
    fn beside_a_twin_the_primary_stays_and_nothing_is_fresh() {
        let mut it = Shard::of(3);
        (0..3).for_each(|node| it.connect(node, 1));
        let _ = it.replica(2, 80, 10, Some(1));
        let _ = it.replica(1, 90, 10, Some(1));
        let _ = it.primary(0, 100, 1000, 1);
        let _ = it.primary(1, 120, 1000, 1);
        assert_eq!([it.role(0), it.role(1), it.role(2)], [Role::Primary, Role::Fenced, Role::Replica]);
        let _ = it.primary(0, 130, 1000, 1);
        let _ = it.replica(2, 140, 1000, Some(1));
        assert_eq!(it.fresh(2), 0);
        it.fail(1, Heard::Refusal, 150);
        it.fail(1, Heard::Refusal, 151);
        // Who is not heard may still be followed.
        let _ = it.primary(0, 160, 1000, 1);
        let _ = it.replica(2, 170, 1000, Some(1));
        assert_eq!((it.role(0), it.fresh(2)), (Role::Primary, 0));
        assert!(it.monitor.trouble(2).is_some_and(|it| it.contains("whom it follows")));
        let _ = it.primary(0, 180, 1000, 2);
        let _ = it.replica(2, 190, 1000, Some(2));
        assert_eq!((it.fresh(2), it.monitor.trouble(2)), (180, None));
    }

    #[test]
    fn a_promotion_moves_the_primary_and_starts_samples_anew() {
        let mut it = Shard::running();
        it.fail(0, Heard::Refusal, 200);
        it.fail(0, Heard::Refusal, 201);
        assert_eq!(it.role(0), Role::Unknown);
        assert_eq!(it.fresh(1), 100);
        let _ = it.primary(1, 210, 1100, 2);
        assert_eq!(it.role(1), Role::Primary);
        assert_eq!(it.monitor.newest_sample(), Some(&(Tick(210), Position::Wal(1100))));
    }

    #[test]
    fn a_primary_whose_monitor_connection_breaks_stays_primary_until_it_is_down() {
        let mut it = Shard::running();
        it.fail(0, Heard::Loss, 200);
        assert_eq!(it.role(0), Role::Primary);
        assert_eq!(it.monitor.standing(0).health, Health::Suspect);
        it.fail(0, Heard::Refusal, 201);
        it.fail(0, Heard::Refusal, 202);
        assert_eq!(it.role(0), Role::Unknown);
    }

    #[test]
    fn saturation_changes_neither_role_nor_health() {
        let mut it = Shard::running();
        it.fail(0, Heard::Loss, 200);
        it.fail(0, Heard::Saturation, 201);
        it.fail(0, Heard::Saturation, 99_999);
        assert_eq!((it.role(0), it.monitor.standing(0).health), (Role::Primary, Health::Up));
    }

    #[test]
    fn what_was_down_begins_another_life_with_its_next_connection() {
        let mut it = Shard::running();
        it.fail(1, Heard::Refusal, 200);
        it.fail(1, Heard::Refusal, 201);
        assert_eq!(it.monitor.standing(1).health, Health::Down);
        it.connect(1, 1);
        assert_eq!(it.replica(1, 210, 1000, Some(1)), Advice::GoOn);
        assert_eq!((it.fresh(1), it.monitor.standing(1).health), (100, Health::Up));
        // Silence ended this life although the connection still stands: its late answer opens no new one.
        let _ = it.monitor.observe(1, Event::Silent(Tick(300)), Tick(9_000));
        assert_eq!(it.monitor.standing(1).health, Health::Down);
        assert_eq!(it.replica(1, 300, 1000, Some(1)), Advice::Reconnect);
        assert_eq!(it.fresh(1), 0);
    }

    #[test]
    fn a_hidden_timeline_gives_no_freshness_and_says_why() {
        let mut it = Shard::running();
        let _ = it.primary(0, 200, 2000, 1);
        let _ = it.replica(1, 210, 2000, None);
        assert_eq!(it.fresh(1), 100);
        assert!(it.monitor.trouble(1).is_some_and(|it| it.contains("pg_monitor")));
    }

    #[test]
    fn a_replica_that_falls_behind_serves_no_reads_until_it_has_kept_up() {
        let mut it = Shard::running();
        let behind = |it: &Shard| it.monitor.standing(1).behind;
        for at in 1..=4 {
            let _ = it.primary(0, at * SECOND, 1000 + at, 1);
            let _ = it.replica(1, at * SECOND + 1, 1000, Some(1));
            assert_eq!(behind(&it), at > 3, "{at}");
        }
        assert!(it.monitor.trouble(1).is_some_and(|it| it.contains("until it has kept up")));
        // Nothing of the primary: nothing is held against it, and nothing is forgotten.
        let _ = it.replica(1, 9 * SECOND, 1000, Some(1));
        for at in 10..=13 {
            let _ = it.primary(0, at * SECOND, 2000, 1);
            let _ = it.replica(1, at * SECOND + 1, 2000, Some(1));
            assert_eq!(it.fresh(1), at * SECOND);
            assert_eq!(behind(&it), at < 13, "{at}");
        }
        assert_eq!(it.monitor.trouble(1), None);
    }

    #[test]
    fn a_replica_is_not_behind_for_what_the_primary_did_not_tell() {
        let mut it = Shard::running();
        // The primary is silent for long, and has written meanwhile.
        let _ = it.replica(1, 20 * SECOND, 1000, Some(1));
        let _ = it.primary(0, 30 * SECOND, 3000, 1);
        let _ = it.replica(1, 30 * SECOND + 1, 2000, Some(1));
        assert!(!it.monitor.standing(1).behind);
    }

    #[test]
    fn behind_another_primary_nobody_has_fallen_behind() {
        let mut it = Shard::running();
        for at in 1..=4 {
            let _ = it.primary(0, at * SECOND, 1000 + at, 1);
            let _ = it.replica(1, at * SECOND + 1, 1000, Some(1));
        }
        assert!(it.monitor.standing(1).behind);
        let _ = it.primary(0, 5 * SECOND, 1004, 2);
        assert!(!it.monitor.standing(1).behind);
        let _ = it.replica(1, 5 * SECOND + 1, 1004, Some(2));
        assert_eq!((it.fresh(1), it.monitor.standing(1).behind), (5 * SECOND, false));
    }

    #[test]
    fn all_are_heard_when_each_answered_or_is_down() {
        let mut it = Shard::of(2);
        assert!(!it.monitor.all_heard());
        it.connect(0, 1);
        let _ = it.primary(0, 100, 1000, 1);
        assert!(!it.monitor.all_heard());
        it.fail(1, Heard::Refusal, 101);
        it.fail(1, Heard::Refusal, 102);
        assert!(it.monitor.all_heard());
        assert_eq!(it.role(0), Role::Primary);
    }
}
