//! What the servers of a database are at this moment: roles, health, freshness; and what their catalogs say.
//!
//! [`Topology`] is read by every statement without a lock; one task a node (`probe`) keeps it true. What is decided,
//! is decided in pure files: `health` (who answers), `roles` (who is primary), `freshness` (how new a replica is),
//! `rotation` (whether it keeps up), `monitor` (all of them together), `pace` (when to ask again) and `choose` (who serves a read).
//!
//! `lead` has a replica take the place of a primary that is gone, where the map says so.
//!
//! `two_phase` knows who can take part in transactions that span shards, and ends what a coordinator left behind.
//!
//! `engine` is the line between Postgres and MySQL: above it, nothing knows which of them a server is.
//!
//! `events` keeps what happened to them.
//!
//! Beside it: `schema_reader` and `schema_watch` (the catalogs as planning sees them), `fit` and `connect_check` (is
//! the map true of the servers?) and `placement` (the record, on every shard, of where rows were put);
//! `verify` looks whether the rows are there.

mod choose;
pub mod connect_check;
pub mod control;
pub mod cut;
pub mod deadlock;
mod engine;
pub mod events;
pub mod fit;
mod freshness;
pub mod gid;
mod gtid;
mod health;
pub mod lead;
mod monitor;
pub mod mysql;
pub mod order;
mod pace;
pub mod pause;
pub mod placement;
mod postgres_probe;
mod probe;
pub mod promote;
mod queue;
mod roles;
mod rotation;
pub mod schema_reader;
mod schema_watch;
mod sequence_check;
mod shard;
#[cfg(test)]
mod simulation;
pub mod switchover;
pub mod two_phase;
pub mod txlog;
pub mod verify;

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::sync::watch;

use crate::clock;
use crate::clock::Tick;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::shard_map::Consistency;
use crate::shard_map::Database;
use crate::shard_map::ServerLogin;
use crate::shard_map::Timeouts;

pub use choose::Choice;
pub use choose::Chosen;
pub use choose::Floor;
pub use choose::ReadDemand;
pub use health::Health;
pub use queue::Entry;
pub use queue::Full;
pub use queue::Hold;
pub use queue::Holder;
pub use queue::Place;
pub use queue::Queue;
pub use queue::Reads;
pub use roles::Role;
pub use schema_reader::TypeNumbers;
pub use schema_watch::SchemaHandle;
pub use schema_watch::SchemaState;
pub use shard::Fence;
pub use shard::NodeState;
pub use shard::Serving;

use control::Control;
use control::ControlError;
use control::Purpose;
use engine::Line;
use events::Events;
use order::Order;
use shard::Shard;

/// The servers of one database of one map. Shared by all threads.
///
/// Call [`Topology::run`] once; it ends when told to. When the last clone of the `Arc` is gone, so are the monitors.
#[derive(Debug)]
pub struct Topology {
    database: Arc<Database>,
    shards: Box<[Arc<Shard>]>,
    /// Who can take part in transactions that span shards, and what of them waits for a decision.
    pub two_phase: two_phase::TwoPhase,
}

impl Topology {
    /// The servers of `database`, of which nothing is known yet. The monitor logs in as `login`
    /// (see [`control::login`]).
    #[must_use]
    pub fn new(database: Arc<Database>, login: ServerLogin, timeouts: &Timeouts) -> Arc<Self> {
        Self::after(None, database, login, timeouts)
    }

    /// The same for a map that replaces another. Shards whose nodes did not change go on with all that is known of
    /// them; a changed one starts anew, but remembers which primary was accepted. Wait for [`Topology::heard`] before
    /// statements use it.
    #[must_use]
    pub fn after(former: Option<&Self>, database: Arc<Database>, login: ServerLogin, timeouts: &Timeouts) -> Arc<Self> {
        let control = Arc::new(Control::new(&database, login, timeouts.connect));
        let shard = |shard: &crate::shard_map::Shard| {
            let past = former.and_then(|it| it.shards.iter().find(|it| it.name() == &*shard.name));
            match past {
                Some(past) if past.is_for(shard, &control, database.reads.staleness_max) => Arc::clone(past),
                _ => Shard::new(shard, &control, database.reads.staleness_max, past.map(Arc::as_ref)),
            }
        };
        let shards = database.shards.iter().map(shard).collect();
        Arc::new(Self { database, shards, two_phase: two_phase::TwoPhase::default() })
    }

    /// Ends the monitors of shards that `newer` does not share, for good. Sessions that are idle may hold the former
    /// topology for long; they take up the newer one before they use it.
    pub fn give_way_to(&self, newer: Option<&Self>) {
        let shared = |it: &Arc<Shard>| newer.is_some_and(|newer| newer.shards.iter().any(|its| Arc::ptr_eq(it, its)));
        self.shards.iter().filter(|it| !shared(it)).for_each(|it| it.end());
    }

    /// Has the connections to a server cut off by `fence` when another takes its place, or when it claims what it must not;
    /// before [`Topology::run`].
    pub fn fence_by(&self, fence: &Arc<dyn Fence>) {
        self.shards.iter().for_each(|it| it.fence_by(fence));
    }

    /// Keeps the monitors running until `shutdown` is true. Needs a tokio runtime around it.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        for shard in &self.shards {
            shard.start();
        }
        // An error means that whoever could say so is gone, which says it too.
        let _ = shutdown.wait_for(|stop| *stop).await;
    }

    /// Waits until every node has answered or is known not to, at most until `deadline`. Returns whether that is so.
    /// Cancel-safe.
    pub async fn heard(&self, deadline: Tick) -> bool {
        for shard in &self.shards {
            if shard.until(deadline, || shard.all_heard().then_some(())).await.is_none() {
                return false;
            }
        }
        true
    }

    /// Waits until every replica that answers has been measured, so that reads may go there, at most until `deadline`.
    /// Cancel-safe.
    pub async fn measured(&self, deadline: Tick) -> bool {
        for shard in &self.shards {
            let _waiting = shard.wait_for(clock::now());
            if shard.until(deadline, || shard.all_measured().then_some(())).await.is_none() {
                return false;
            }
        }
        true
    }

    /// The database of the map that this is about.
    #[must_use]
    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// A node's numbers.
    ///
    /// # Panics
    /// When the number is of another map.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Arc<NodeState> {
        self.shard(id.shard)
            .nodes()
            .get(usize::from(id.node))
            .expect("a node id is only used with the map that made it")
    }

    /// Every node with its number, in the order of the map.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Arc<NodeState>)> {
        (0_u16..).zip(&self.shards).flat_map(|(shard, it)| {
            (0_u16..).zip(it.nodes()).map(move |(node, state)| (NodeId { shard: ShardId(shard), node }, state))
        })
    }

    /// The shard's primary, if it has one that can be reached.
    #[must_use]
    pub fn primary(&self, shard: ShardId) -> Option<NodeId> {
        self.shard(shard).primary().map(|node| NodeId { shard, node })
    }

    /// Waits for a primary, at most until `deadline`. Cancel-safe.
    pub async fn wait_primary(&self, shard: ShardId, deadline: Tick) -> Option<NodeId> {
        self.shard(shard).until(deadline, || self.primary(shard)).await
    }

    /// Those who wait for the shard's primary.
    #[must_use]
    pub fn queue(&self, shard: ShardId) -> &Arc<Queue> {
        self.shard(shard).queue()
    }

    /// Any reachable node of the shard, the primary first: for catalogs.
    #[must_use]
    pub fn any(&self, shard: ShardId) -> Option<NodeId> {
        self.primary(shard).or_else(|| {
            let place =
                self.shard(shard).nodes().iter().position(|it| it.role() == Role::Replica && it.is_reachable())?;
            Some(NodeId { shard, node: u16::try_from(place).ok()? })
        })
    }

    /// The shard for what all of them can answer: from the one at `turn` on, the first that has a primary, then the first
    /// that has a replica; where nothing can be reached, the one at `turn`.
    #[must_use]
    pub fn in_turn(&self, turn: usize) -> ShardId {
        let (count, turn) = (self.shards.len().max(1), turn % self.shards.len().max(1));
        let shards = || (0..count).map(|it| ShardId(u16::try_from((turn + it) % count).unwrap_or(0)));
        shards()
            .find(|it| self.primary(*it).is_some())
            .or_else(|| shards().find(|it| self.any(*it).is_some()))
            .unwrap_or_else(|| ShardId(u16::try_from(turn).unwrap_or(0)))
    }

    /// Opens a connection of the proxy's own, to whichever engine the database has.
    async fn line(&self, node: NodeId, purpose: Purpose) -> Result<Line, ControlError> {
        Line::open(self.shard(node.shard).control(), self.node(node).node(), purpose).await
    }

    /// Opens a connection of the proxy's own to a Postgres server.
    ///
    /// # Errors
    /// What the server, or the way to it, said.
    pub async fn connect(&self, node: NodeId, purpose: Purpose) -> Result<PgConnection, ControlError> {
        self.shard(node.shard).control().connect(self.node(node).node(), purpose).await
    }

    /// Who the proxy's own connections log in as.
    #[must_use]
    pub fn control_user(&self, shard: ShardId) -> &str {
        self.shard(shard).control().user()
    }

    /// Has a shard's nodes probed at once, or those of all: a connection broke in a way that may mean that a node is gone, or is
    /// the primary no more.
    pub fn hurry(&self, shard: Option<ShardId>) {
        match shard {
            Some(shard) => self.shard(shard).hurry(),
            None => self.shards.iter().for_each(|it| it.hurry()),
        }
    }

    /// The demand of a read with that consistency and floor, under this map's settings, now.
    #[must_use]
    pub fn demand(&self, consistency: crate::shard_map::Consistency, floor: Floor) -> ReadDemand {
        let reads = &self.database.reads;
        ReadDemand {
            consistency,
            floor,
            staleness_max: reads.staleness_max,
            from_replicas: reads.from_replicas,
            now: clock::now(),
        }
    }

    /// The node that may serve a read at once. `zone` is the proxy's own, where near nodes are preferred; `random` any
    /// number. No lock, no allocation for shards of up to eight nodes.
    #[must_use]
    pub fn choose_read(&self, shard: ShardId, demand: &ReadDemand, zone: Option<&str>, random: u32) -> Choice {
        choose::choose(&self.shard(shard).candidates(shard, zone), demand, random)
    }

    /// The same, but waits until `deadline` for one that may: asks for a sample at once and is woken when freshness,
    /// roles or health change. [`Choice::NoneYet`] at the deadline: the primary serves ([`Topology::primary`]), if
    /// there is one. Cancel-safe.
    pub async fn wait_read(
        &self,
        shard: ShardId,
        demand: &ReadDemand,
        zone: Option<&str>,
        random: u32,
        deadline: Tick,
    ) -> Choice {
        let of = self.shard(shard);
        let _waiting = of.wait_for(demand.moment());
        let choice = of.until(deadline, || {
            let now = clock::now();
            let choice = self.choose_read(shard, &ReadDemand { now, ..*demand }, zone, random);
            (choice != Choice::NoneYet).then_some(choice)
        });
        choice.await.unwrap_or(Choice::NoneYet)
    }

    /// Whom a read is sent to, all in all: a fitting node, after `reads.wait` the primary, and without one whoever fits
    /// first until `deadline`. `None`: nobody did. Cancel-safe.
    pub async fn node_for_read(
        &self,
        shard: ShardId,
        demand: &ReadDemand,
        zone: Option<&str>,
        random: u32,
        deadline: Tick,
    ) -> Option<Chosen> {
        if let Choice::Node(chosen) = self.choose_read(shard, demand, zone, random) {
            return Some(chosen);
        }
        let little = clock::now().plus(self.database.reads.wait).min(deadline);
        if self.shard(shard).primary().is_some()
            && let Choice::Node(chosen) = self.wait_read(shard, demand, zone, random, little).await
        {
            return Some(chosen);
        }
        let at_primary = || {
            let node = self.primary(shard)?;
            Some(Chosen { node, generation: self.node(node).generation() })
        };
        if let Some(chosen) = at_primary() {
            return Some(chosen);
        }
        let of = self.shard(shard);
        let _waiting = of.wait_for(demand.moment());
        of.until(deadline, || {
            let now = clock::now();
            match self.choose_read(shard, &ReadDemand { now, ..*demand }, zone, random) {
                Choice::Node(chosen) => Some(chosen),
                Choice::NoneYet => at_primary(),
            }
        })
        .await
    }

    /// Whether what a replica was chosen for holds for a connection to it that was opened at `opened`: it may have restarted
    /// since, gone back in time, and answered again; or be drained by now. Without a primary, old is better than nothing, at `eventual`.
    #[must_use]
    pub fn holds(&self, chosen: Chosen, opened: Tick, consistency: Consistency) -> bool {
        let node = self.node(chosen.node);
        if node.order() != Order::None {
            return false;
        }
        (node.vouches_for(opened) && node.generation() == chosen.generation)
            || (consistency == Consistency::Eventual && self.primary(chosen.node.shard).is_none())
    }

    /// Waits until what is known of a node holds for a connection opened at `opened` ([`NodeState::vouches_for`]): has
    /// it probed at once, which takes about a round trip. False at the deadline. Cancel-safe.
    pub async fn vouched(&self, id: NodeId, opened: Tick, deadline: Tick) -> bool {
        let state = self.node(id);
        if state.vouches_for(opened) {
            return true;
        }
        let of = self.shard(id.shard);
        of.probe(usize::from(id.node));
        of.until(deadline, || state.vouches_for(opened).then_some(())).await.is_some()
    }

    /// What happened to a shard's servers.
    #[must_use]
    pub fn events(&self, shard: ShardId) -> &Events {
        self.shard(shard).events()
    }

    /// How many of a shard's replicas reads may go to now, as far as nobody asks for more than `reads.staleness_max`.
    #[must_use]
    pub fn in_rotation(&self, shard: ShardId) -> usize {
        let demand = self.demand(Consistency::Eventual, Floor::default());
        choose::in_rotation(&self.shard(shard).candidates(shard, None), &demand).count()
    }

    fn shard(&self, id: ShardId) -> &Arc<Shard> {
        self.shards.get(id.index()).expect("a shard id is only used with the map that made it")
    }
}

/// Failures are borne this long before a node is down.
const PATIENCE: Duration = Duration::from_secs(1);
