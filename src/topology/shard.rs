//! One shard's numbers as all threads read them, and the monitor's state behind them.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Health;
use super::PATIENCE;
use super::Role;
use super::choose::Candidate;
use super::control::Control;
use super::events::Events;
use super::events::Kind;
use super::freshness::Position;
use super::lead::Lead;
use super::monitor::Advice;
use super::monitor::Event;
use super::monitor::ShardMonitor;
use super::monitor::Standing;
use super::order;
use super::order::Order;
use super::pace::Situation;
use super::probe;
use super::queue::Queue;
use super::roles::Accepted;
use super::roles::Loss;
use crate::clock;
use crate::clock::Tick;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::shard_map;
use crate::shard_map::Node;
use crate::tasks;

/// What is known of one server. Every number is read on its own: nothing here must agree with anything else.
#[derive(Debug)]
pub struct NodeState {
    node: Node,
    role: AtomicU8,
    health: AtomicU8,
    fresh_as_of: AtomicU64,
    behind: AtomicBool,
    asked: AtomicU64,
    generation: AtomicU64,
    position: Mutex<Option<Position>>,
    semi_sync: Mutex<Option<Arc<str>>>,
    system: AtomicU64,
    timeline: AtomicU32,
    started: AtomicI64,
    lanes: [Arc<Lane>; LANES],
    trouble: Mutex<Option<String>>,
    order: order::Standing,
}

impl NodeState {
    fn new(node: &Node) -> Self {
        Self {
            node: node.clone(),
            role: AtomicU8::new(0),
            health: AtomicU8::new(0),
            fresh_as_of: AtomicU64::new(0),
            behind: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            position: Mutex::new(None),
            semi_sync: Mutex::new(None),
            system: AtomicU64::new(0),
            timeline: AtomicU32::new(0),
            started: AtomicI64::new(0),
            lanes: Default::default(),
            trouble: Mutex::new(None),
            order: order::Standing::default(),
        }
    }

    /// The node as the map has it.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// What it is; an operator may have it fenced.
    #[must_use]
    pub fn role(&self) -> Role {
        if self.order() == Order::Fenced { Role::Fenced } else { self.seen_role() }
    }

    /// What an operator has said of it.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order.get()
    }

    /// What it was found to be.
    pub(super) fn seen_role(&self) -> Role {
        match self.role.load(Ordering::Acquire) {
            1 => Role::Primary,
            2 => Role::Replica,
            3 => Role::Fenced,
            _ => Role::Unknown,
        }
    }

    /// Whether it answers.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            1 => Health::Up,
            2 => Health::Suspect,
            3 => Health::Down,
            _ => Health::Unknown,
        }
    }

    /// Whether statements may be sent to it at all.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.health().reachable()
    }

    /// It has everything that was acknowledged before this moment; of a primary, when it was last sampled.
    #[must_use]
    pub fn fresh_as_of(&self) -> Tick {
        Tick(self.fresh_as_of.load(Ordering::Acquire))
    }

    /// Whether it is a replica that fell behind lately: no reads go there while the shard has a primary.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    /// Which of its lives this is: no two lives of any server share a number. 0: between two.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether what is known of this server holds for a connection that was opened at `opened`: only what was asked
    /// later does, for it may have restarted, and gone back in time, in between. A read
    /// must not use a younger connection to a replica.
    #[must_use]
    pub fn vouches_for(&self, opened: Tick) -> bool {
        self.asked.load(Ordering::Acquire) >= opened.0.max(1)
    }

    /// Written (primary) or replayed (replica) up to here, as servers print it.
    #[must_use]
    pub fn position_text(&self) -> String {
        lock(&self.position).as_ref().unwrap_or(&Position::Wal(0)).to_string()
    }

    /// Whether its commits wait for replicas, in words; `None`: it does not tell.
    #[must_use]
    pub fn semi_sync(&self) -> Option<Arc<str>> {
        lock(&self.semi_sync).clone()
    }

    /// Its `system_identifier`; 0 while not known.
    #[must_use]
    pub fn system(&self) -> u64 {
        self.system.load(Ordering::Acquire)
    }

    /// Its timeline; 0 while not known.
    #[must_use]
    pub fn timeline(&self) -> u32 {
        self.timeline.load(Ordering::Acquire)
    }

    /// `pg_postmaster_start_time()` in microseconds since 1970; 0 while not known.
    #[must_use]
    pub fn started(&self) -> i64 {
        self.started.load(Ordering::Acquire)
    }

    /// What is wrong with it, for people.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.order().words().map(str::to_owned).or_else(|| lock(&self.trouble).clone())
    }

    /// Statements that run on it now.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.lanes.iter().map(|lane| lane.in_use.load(Ordering::SeqCst)).sum()
    }

    /// Statements that were sent to it so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.served.load(Ordering::Relaxed)).sum()
    }

    /// Counts a statement that `worker` runs on it until the guard is dropped.
    #[must_use]
    pub fn serve(&self, worker: usize) -> Serving {
        let lane = self.lanes.get(worker % LANES).expect("a remainder is below its divisor");
        lane.served.fetch_add(1, Ordering::Relaxed);
        // In one order with what holds statements back (`queue`): whoever begins is counted before it looks.
        lane.in_use.fetch_add(1, Ordering::SeqCst);
        Serving(Arc::clone(lane))
    }

    fn publish(&self, standing: &Standing, trouble: Option<String>) {
        // A life that ended must not lend its number to what is known next, so that number goes first.
        self.generation.store(standing.generation, Ordering::Release);
        self.fresh_as_of.store(standing.fresh_as_of.0, Ordering::Release);
        self.behind.store(standing.behind, Ordering::Release);
        self.asked.store(standing.asked.0, Ordering::Release);
        replace(&self.position, &standing.position);
        replace(&self.semi_sync, &standing.semi_sync);
        self.system.store(standing.system, Ordering::Release);
        self.timeline.store(standing.timeline, Ordering::Release);
        self.started.store(standing.started, Ordering::Release);
        let role = match standing.role {
            Role::Unknown => 0,
            Role::Primary => 1,
            Role::Replica => 2,
            Role::Fenced => 3,
        };
        self.role.store(role, Ordering::Release);
        let health = match standing.health {
            Health::Unknown => 0,
            Health::Up => 1,
            Health::Suspect => 2,
            Health::Down => 3,
        };
        self.health.store(health, Ordering::Release);
        let mut shown = lock(&self.trouble);
        if *shown != trouble {
            *shown = trouble;
        }
    }
}

/// A statement that runs on a node, for the count that the less loaded of two is chosen by.
#[derive(Debug)]
pub struct Serving(Arc<Lane>);

/// One worker's counts, on a cache line of their own: workers that count in one place wait for each other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    in_use: AtomicU32,
    served: AtomicU64,
}

/// How many lanes there are; with more workers, some share one.
const LANES: usize = 8;

#[cfg(test)]
impl Serving {
    /// Counts nowhere.
    pub(crate) fn nowhere() -> Self {
        Self(Arc::default())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, Ordering::Release);
    }
}

/// One shard and its monitors. Knows nothing of its place in a map, so that it outlives one.
#[derive(Debug)]
pub(super) struct Shard {
    name: Arc<str>,
    nodes: Vec<Arc<NodeState>>,
    control: Arc<Control>,
    staleness_max: Duration,
    monitor: Mutex<ShardMonitor>,
    /// Who waits for its primary.
    queue: Arc<Queue>,
    /// Whoever waits for freshness, roles or health to change.
    changed: Notify,
    /// Each node's monitor waits here between two probes.
    wakes: Vec<Arc<Notify>>,
    at_once: Vec<AtomicBool>,
    waiting: AtomicU32,
    wanted: AtomicU64,
    started: AtomicBool,
    ended: AtomicBool,
    fence: OnceLock<Arc<dyn Fence>>,
    /// Those of the shard, whatever its nodes were.
    events: Arc<Events>,
    /// Whether statements go to a primary: see [`Shard::close`].
    door: AtomicU8,
    /// Whoever has this leads the shard's failovers.
    lead: tokio::sync::Mutex<Option<Lead>>,
}

/// Statements go to the primary.
const OPEN: u8 = 0;
/// They do not.
const CLOSED: u8 = 1;
/// They do not, and all that was acknowledged is there.
const CLOSED_COVERED: u8 = 2;

/// Ends what is open to a server whose place another has taken, or that claims what it must not.
pub trait Fence: fmt::Debug + Send + Sync {
    /// Ends all connections of sessions to that server, before it returns. It is called seldom, and must not wait.
    fn cut_off(&self, node: &Node);
}

/// A read that waits; samples are taken for it while this lives.
pub(super) struct Waiting<'a>(&'a Shard);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Shard {
    pub(super) fn new(
        shard: &shard_map::Shard,
        control: &Arc<Control>,
        staleness_max: Duration,
        past: Option<&Self>,
    ) -> Arc<Self> {
        let mut monitor = ShardMonitor::new(shard.nodes.iter().map(|it| it.role), PATIENCE, staleness_max);
        monitor.name(shard.nodes.iter().map(|it| Arc::clone(&it.name)));
        let same_server = |a: &Node, b: &Node| a.host == b.host && a.port == b.port;
        monitor.inherit(past.and_then(|past| {
            let accepted = lock(&past.monitor).accepted()?.clone();
            let node = past.nodes.get(accepted.node)?;
            let place = shard.nodes.iter().position(|it| same_server(it, node.node()))?;
            Some(Accepted { node: place, ..accepted })
        }));
        Arc::new(Self {
            name: Arc::clone(&shard.name),
            nodes: shard
                .nodes
                .iter()
                .map(|node| {
                    let state = NodeState::new(node);
                    let before = past.and_then(|past| past.nodes.iter().find(|it| same_server(node, it.node())));
                    state.order.set(before.map(|it| it.order()).unwrap_or_default());
                    Arc::new(state)
                })
                .collect(),
            control: Arc::clone(control),
            staleness_max,
            monitor: Mutex::new(monitor),
            queue: past.map_or_else(Arc::default, |past| Arc::clone(&past.queue)),
            changed: Notify::new(),
            wakes: shard.nodes.iter().map(|_| Arc::new(Notify::new())).collect(),
            at_once: shard.nodes.iter().map(|_| AtomicBool::new(false)).collect(),
            waiting: AtomicU32::new(0),
            wanted: AtomicU64::new(0),
            started: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            fence: past.map(|it| it.fence.clone()).unwrap_or_default(),
            events: past.map_or_else(Arc::default, |it| Arc::clone(&it.events)),
            door: AtomicU8::new(OPEN),
            lead: tokio::sync::Mutex::default(),
        })
    }

    /// Whether this is that shard already: same nodes, reached the same way.
    pub(super) fn is_for(&self, shard: &shard_map::Shard, control: &Control, staleness_max: Duration) -> bool {
        *self.control == *control
            && self.staleness_max == staleness_max
            && self.nodes.iter().map(|it| it.node()).eq(shard.nodes.iter())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn nodes(&self) -> &[Arc<NodeState>] {
        &self.nodes
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// Has connections cut off by `fence`; the first one stays.
    pub(super) fn fence_by(&self, fence: &Arc<dyn Fence>) {
        self.fence.get_or_init(|| Arc::clone(fence));
    }

    /// Starts one monitor a node, once.
    pub(super) fn start(self: &Arc<Self>) {
        if self.started.swap(true, Ordering::AcqRel) {
            return;
        }
        for (place, wake) in self.wakes.iter().enumerate() {
            tasks::shared("monitor", probe::watch(Arc::downgrade(self), place, Arc::clone(wake)));
        }
    }

    /// Ends its monitors, though somebody may hold it for long.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The right to lead this shard's failovers, and what is known of them; one at a time has it.
    pub(super) async fn lead(&self) -> tokio::sync::MutexGuard<'_, Option<Lead>> {
        self.lead.lock().await
    }

    /// Nobody gets a primary from now on. `covered`: its successor will have all that it acknowledges; else it must not
    /// acknowledge anything any more, whatever becomes of this.
    pub(super) fn close(&self, former: usize, covered: bool) {
        self.door.store(if covered { CLOSED_COVERED } else { CLOSED }, Ordering::Release);
        if let (false, Some(fence), Some(former)) = (covered, self.fence.get(), self.nodes.get(former)) {
            fence.cut_off(former.node());
        }
    }

    /// What an operator says of a node.
    pub(super) fn order(&self, node: &NodeState, order: Order) {
        node.order.set(order);
        self.changed.notify_waiters();
    }

    /// Ends the connections of sessions to a node.
    pub(super) fn cut_off(&self, node: &NodeState) {
        if let Some(fence) = self.fence.get() {
            fence.cut_off(node.node());
        }
    }

    /// Whoever is primary takes statements again.
    pub(super) fn open(&self) {
        self.door.store(OPEN, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// The primary that was accepted last, and its timeline.
    pub(super) fn accepted(&self) -> Option<(usize, u32)> {
        lock(&self.monitor).accepted().map(|it| (it.node, it.history.timeline))
    }

    /// Whether of every replica that answers it is known how fresh it is.
    pub(super) fn all_measured(&self) -> bool {
        let unmeasured = |it: &Arc<NodeState>| {
            it.role() == Role::Replica && it.health() == Health::Up && it.fresh_as_of() == Tick::NEVER
        };
        self.primary().is_none() || !self.nodes.iter().any(unmeasured)
    }

    pub(super) fn primary(&self) -> Option<u16> {
        if self.door.load(Ordering::Acquire) != OPEN {
            return None;
        }
        let place = self.nodes.iter().position(|it| it.role() == Role::Primary && it.is_reachable())?;
        u16::try_from(place).ok()
    }

    pub(super) fn candidates(&self, shard: ShardId, zone: Option<&str>) -> SmallVec<[Candidate; 8]> {
        let candidate = |(node, it): (u16, &Arc<NodeState>)| Candidate {
            node: NodeId { shard, node },
            role: it.role(),
            // As a replica, what is drained is as good as gone.
            health: if it.order() == Order::Drained && it.role() == Role::Replica { Health::Down } else { it.health() },
            fresh_as_of: it.fresh_as_of(),
            behind: it.is_behind(),
            generation: it.generation(),
            in_use: it.in_use(),
            weight: it.node.weight,
            near: zone.is_some() && it.node.zone.as_deref() == zone,
        };
        (0_u16..).zip(&self.nodes).map(candidate).collect()
    }

    /// Has a sample taken that is later than `moment`, at once, and followed closely while the guard lives.
    pub(super) fn wait_for(&self, moment: Tick) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.wanted.fetch_max(moment.0, Ordering::AcqRel);
        self.wake();
        Waiting(self)
    }

    /// Has one node probed at once.
    pub(super) fn probe(&self, place: usize) {
        if let (Some(at_once), Some(wake)) = (self.at_once.get(place), self.wakes.get(place)) {
            at_once.store(true, Ordering::Release);
            wake.notify_one();
        }
    }

    /// Has every node probed at once.
    pub(super) fn hurry(&self) {
        (0..self.nodes.len()).for_each(|place| self.probe(place));
    }

    fn wake(&self) {
        self.wakes.iter().for_each(|it| it.notify_one());
    }

    /// Calls `found` now and after every change until it finds something or the deadline passes. Cancel-safe.
    pub(super) async fn until<T>(&self, deadline: Tick, found: impl Fn() -> Option<T>) -> Option<T> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(it) = found() {
                return Some(it);
            }
            let left = deadline.since(clock::now());
            if left.is_zero() || timeout(left, changed).await.is_err() {
                return found();
            }
        }
    }

    pub(super) fn all_heard(&self) -> bool {
        lock(&self.monitor).all_heard()
    }

    /// Takes in what happened at a node, and shows everybody what follows from it.
    pub(super) fn observe(&self, place: usize, event: Event) -> Advice {
        let now = clock::now();
        let mut monitor = lock(&self.monitor);
        let sampled = monitor.newest_sample().cloned();
        let former = monitor.accepted().map(|it| it.node);
        let advice = monitor.observe(place, event, now);
        let succeeded = former.filter(|it| monitor.accepted().is_some_and(|now| now.node != *it));
        let show = |place: usize, state: &NodeState| {
            let standing = monitor.standing(place);
            let trouble = monitor.trouble(place);
            let moved = state.seen_role() != standing.role || state.health() != standing.health;
            if moved || state.is_behind() != standing.behind {
                self.tell(state, &standing, trouble.as_deref());
            }
            state.publish(&standing, trouble);
        };
        // Nobody takes a connection there any more, then those that are open end, and only then another is the primary: what
        // the former one still acknowledges reaches no client that could know of the new one's.
        for (place, state) in self.nodes.iter().enumerate() {
            let role = monitor.standing(place).role;
            // A server that takes no writes cannot acknowledge any.
            let deposed = succeeded == Some(place) && role != Role::Replica;
            if deposed || (role == Role::Fenced && state.seen_role() != Role::Fenced) {
                show(place, state);
                if let Some(fence) = self.fence.get() {
                    fence.cut_off(state.node());
                }
            }
        }
        self.nodes.iter().enumerate().for_each(|(place, state)| show(place, state));
        if let Some(loss) = monitor.take_loss() {
            self.tell_loss(&loss);
        }
        let new_sample = monitor.newest_sample() != sampled.as_ref();
        drop(monitor);
        // Almost free while nobody waits.
        self.changed.notify_waiters();
        if new_sample && self.waiting.load(Ordering::Acquire) > 0 {
            self.wake();
        }
        advice
    }

    /// When `place` is to be probed again, counted from the last question. `moved`: its position changed.
    pub(super) fn situation(&self, place: usize, moved: bool) -> Situation {
        let state = self.nodes.get(place);
        let role = state.map_or(Role::Unknown, |it| it.role());
        let waiting = self.waiting.load(Ordering::Acquire) > 0;
        Situation {
            at_once: self.at_once.get(place).is_some_and(|it| it.swap(false, Ordering::AcqRel)),
            role,
            has_peers: self.nodes.len() > 1,
            wanted: waiting.then(|| Tick(self.wanted.load(Ordering::Acquire))),
            sampled: lock(&self.monitor).newest_sample().map_or(Tick::NEVER, |(t0, _)| *t0),
            fresh_as_of: state.map_or(Tick::NEVER, |it| it.fresh_as_of()),
            writing: moved,
            staleness_max: self.staleness_max,
        }
    }

    fn tell_loss(&self, loss: &Loss) {
        let name = |place: usize| self.nodes.get(place).map_or("", |it| &*it.node.name);
        let (had, has) = (loss.had.to_string(), loss.has.as_ref().map(ToString::to_string).unwrap_or_default());
        if self.door.load(Ordering::Acquire) == CLOSED_COVERED {
            tracing::warn!(
                shard = &*self.name,
                node = name(loss.node),
                former = name(loss.former),
                former_had = had,
                node_has = has,
                "what the former primary had written beyond this was never acknowledged"
            );
            return;
        }
        tracing::error!(
            shard = &*self.name,
            node = name(loss.node),
            former = name(loss.former),
            former_had = had,
            node_has = has,
            "a node was promoted that may lack acknowledged writes of the former primary"
        );
        let what = format!(
            "may lack acknowledged writes of the former primary {}, which had {had}; it has {has}",
            name(loss.former)
        );
        self.events.note(Kind::Loss, self.nodes.get(loss.node).map(|it| &it.node.name), what);
    }

    fn tell(&self, state: &NodeState, standing: &Standing, trouble: Option<&str>) {
        let (shard, node) = (&*self.name, &*state.node.name);
        let (role, health) = (standing.role.name(), standing.health.name());
        let why = trouble.unwrap_or_default();
        let kind = match (standing.role, standing.health) {
            (Role::Fenced, _) => {
                tracing::error!(shard, node, role, health, why, "node fenced");
                Kind::Fenced
            }
            (_, Health::Down) => {
                tracing::warn!(shard, node, role, health, why, "node down");
                Kind::Down
            }
            (_, Health::Suspect) => {
                tracing::debug!(shard, node, role, health, why, "node suspect");
                return;
            }
            (Role::Replica, Health::Up) if trouble.is_some() => {
                tracing::warn!(shard, node, role, health, why, "replica serves no reads");
                Kind::NoReads
            }
            (now, _) => {
                tracing::info!(shard, node, role, health, why, "node is");
                if now == Role::Primary && state.seen_role() != now { Kind::Primary } else { Kind::Node }
            }
        };
        let why = trouble.map(|it| format!(": {it}")).unwrap_or_default();
        self.events.note(kind, Some(&state.node.name), format!("{role}, {health}{why}"));
    }
}

fn replace<T: Clone + PartialEq>(shown: &Mutex<Option<T>>, now: &Option<T>) {
    let mut shown = lock(shown);
    if *shown != *now {
        shown.clone_from(now);
    }
}

/// A panic elsewhere leaves numbers, not broken invariants.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
