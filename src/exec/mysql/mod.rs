//! The same for MySQL: connections, what has to be said before a statement, and answers on their way to the client.

pub mod client;
pub mod link;
pub mod passing;
pub mod relay;
pub mod rows;

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use client::Client;
pub use link::Link;

use crate::backend::CheckoutError;
use crate::backend::PoolKey;
use crate::backend::mysql::Connection;
use crate::backend::pool::Pool;
use crate::backend::pool::Pooled;
use crate::backend::pool::Recipe;
use crate::backend::pool::WorkerPools;
use crate::clock;
use crate::clock::Tick;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::AGAIN;
use crate::exec::AGAIN_MAX;
use crate::exec::Freshness;
use crate::exec::Service;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::shard_map::Consistency;
use crate::shard_map::PoolLimits;
use crate::shard_map::ServerLogin;
use crate::shard_map::ShardMap;
use crate::topology::Choice;
use crate::topology::Chosen;
use crate::topology::control;

/// One user's way to the nodes of one service.
#[derive(Debug)]
pub struct Access {
    /// The service.
    pub service: Arc<Service>,
    map: Arc<ShardMap>,
    login: ServerLogin,
    workers: Rc<WorkerPools<Connection>>,
    /// Capabilities that the session's connections have beyond the usual ones.
    flags: u32,
    /// The database that its connections use, as the servers call it; empty: none.
    selected: Arc<str>,
    pools: RefCell<Vec<PoolsOfShard>>,
    random: Cell<u32>,
}

/// Its pools by node, as far as they were used.
type PoolsOfShard = Vec<Option<Rc<Pool<Connection>>>>;

type Refused = CheckoutError<<Connection as Pooled>::Refusal>;

impl Access {
    /// A way for whoever logs in to the servers as `login`.
    #[must_use]
    pub fn new(
        service: Arc<Service>,
        map: Arc<ShardMap>,
        login: ServerLogin,
        workers: Rc<WorkerPools<Connection>>,
        flags: u32,
    ) -> Self {
        let pools = service.database.shards.iter().map(|shard| vec![None; shard.nodes.len()]).collect();
        let seed = u32::try_from(clock::now().0 & 0xffff_ffff).unwrap_or(1) | 1;
        let selected = Arc::clone(&service.database.server_name);
        Self { service, map, login, workers, flags, selected, pools: RefCell::new(pools), random: Cell::new(seed) }
    }

    /// The same by connections that use no database.
    #[must_use]
    pub fn without_database(self) -> Self {
        Self { selected: "".into(), ..self }
    }

    /// The pool of connections on which reads are gathered. It is beside the sessions' own: who waits for one of its
    /// connections may hold others, and who has one waits for nothing else.
    fn pool_of_gathers(&self, node: NodeId) -> Rc<Pool<Connection>> {
        self.pool_for(node, format!("{} (reads)", self.login.user).into())
    }

    /// A pool of one connection of the control user's, beside the sessions' own: who waits for it holds none of those.
    fn pool_of_control(&self, node: NodeId) -> Rc<Pool<Connection>> {
        let database = &self.service.database;
        let login = control::login(&self.map, database).unwrap_or_else(|| self.login.clone());
        let limits = PoolLimits { size: 1, idle_min: 0, ..self.map.pool.clone() };
        let at = database.node(node);
        let key = PoolKey {
            host: Arc::clone(&at.host),
            port: at.port,
            database: Arc::clone(&database.server_name),
            user: format!("{} (numbers)", login.user).into(),
            flags: 0,
        };
        self.workers.pool(&key, self.map.version, || {
            Arc::new(Recipe {
                version: self.map.version,
                login: login.clone(),
                tls: self.service.tls.clone(),
                limits: limits.clone(),
                connect: self.map.timeouts.connect,
            })
        })
    }

    /// A link of the control user's to the shard's primary, which is no session's.
    ///
    /// # Errors
    /// No primary, or no connection in time.
    pub async fn control(&self, shard: ShardId) -> Result<Link, ClientError> {
        let deadline = clock::now().plus(self.service.database.failover.wait);
        let node = self.wait_primary(shard, deadline).await?;
        let connection =
            self.at_primary(node, &self.pool_of_control(node)).await.map_err(|error| self.explain(node, error))?;
        let load = self.service.topology.node(node).serve(self.workers.worker);
        Ok(Link::new(node, connection, load, false))
    }

    /// Gives such a link back when it is clean, otherwise closes it.
    pub fn release_control(&self, link: Link) {
        if link.is_clean() {
            self.workers.give_back_to(&self.pool_of_control(link.node), link.connection);
        }
    }

    fn pool(&self, node: NodeId) -> Rc<Pool<Connection>> {
        let (shard, place) = (node.shard.index(), usize::from(node.node));
        if let Some(Some(pool)) = self.pools.borrow().get(shard).and_then(|nodes| nodes.get(place)) {
            return Rc::clone(pool);
        }
        let pool = self.pool_for(node, Arc::clone(&self.login.user));
        if let Some(slot) = self.pools.borrow_mut().get_mut(shard).and_then(|nodes| nodes.get_mut(place)) {
            *slot = Some(Rc::clone(&pool));
        }
        pool
    }

    fn pool_for(&self, node: NodeId, user: Arc<str>) -> Rc<Pool<Connection>> {
        let database = &self.service.database;
        let at = database.node(node);
        let key = PoolKey {
            host: Arc::clone(&at.host),
            port: at.port,
            database: Arc::clone(&self.selected),
            user,
            flags: self.flags,
        };
        self.workers.pool(&key, self.map.version, || {
            Arc::new(Recipe {
                version: self.map.version,
                login: self.login.clone(),
                tls: self.service.tls.clone(),
                limits: self.map.pool.clone(),
                connect: self.map.timeouts.connect,
            })
        })
    }

    /// A link to the shard's primary. Waits a little for one to appear; nothing has been said to it yet.
    ///
    /// # Errors
    /// No primary, or no connection in time.
    pub async fn primary(&self, shard: ShardId) -> Result<Link, ClientError> {
        let deadline = clock::now().plus(self.service.database.failover.wait);
        let mut pause = AGAIN;
        loop {
            let node = self.wait_primary(shard, deadline).await?;
            let error = match self.link(node, false).await {
                Ok(link) => return Ok(link),
                Err(error @ (CheckoutError::Unreachable { .. } | CheckoutError::CutOff)) => error,
                Err(error) => return Err(self.explain(node, error)),
            };
            if clock::now().plus(pause) > deadline {
                return Err(self.explain(node, error));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }

    /// What [`Self::primary`] comes to when nothing has to be waited for.
    #[must_use]
    pub fn primary_now(&self, shard: ShardId) -> Option<Link> {
        self.link_now(self.service.topology.primary(shard)?, false)
    }

    async fn wait_primary(&self, shard: ShardId, deadline: Tick) -> Result<NodeId, ClientError> {
        let topology = &self.service.topology;
        if let Some(node) = topology.primary(shard) {
            return Ok(node);
        }
        topology.wait_primary(shard, deadline).await.ok_or_else(|| self.service.no_primary(shard))
    }

    /// Whether reads of that shard may go elsewhere than to its primary.
    #[must_use]
    pub fn has_choice(&self, shard: ShardId) -> bool {
        let database = &self.service.database;
        database.reads.from_replicas && database.shard(shard).nodes.len() > 1
    }

    /// A link that may serve a read of this freshness.
    ///
    /// # Errors
    /// No node, or no connection in time.
    pub async fn read(&self, shard: ShardId, fresh: Freshness) -> Result<Link, ClientError> {
        if fresh.consistency == Consistency::Strong || !self.has_choice(shard) {
            return self.primary(shard).await;
        }
        let topology = &self.service.topology;
        let demand = topology.demand(fresh.consistency, fresh.floor);
        let deadline = demand.now.plus(self.service.database.failover.wait);
        let chosen = topology.node_for_read(shard, &demand, None, self.random(), deadline).await;
        let Some(chosen) = chosen.filter(|it| topology.primary(shard) != Some(it.node)) else {
            return self.primary(shard).await;
        };
        // A replica that just died must not fail a read that the primary can serve.
        let Ok(mut link) = self.link(chosen.node, true).await else { return self.primary(shard).await };
        if !self.is_vouched_for(&link, chosen.node, fresh) {
            self.release(link);
            return self.primary(shard).await;
        }
        link.chosen = Some(chosen);
        Ok(link)
    }

    /// What [`Self::read`] comes to when nothing has to be waited for.
    #[must_use]
    pub fn read_now(&self, shard: ShardId, fresh: Freshness) -> Option<Link> {
        if fresh.consistency == Consistency::Strong || !self.has_choice(shard) {
            return self.primary_now(shard);
        }
        let topology = &self.service.topology;
        let demand = topology.demand(fresh.consistency, fresh.floor);
        let Choice::Node(chosen) = topology.choose_read(shard, &demand, None, self.random()) else { return None };
        if topology.primary(shard) == Some(chosen.node) {
            return self.primary_now(shard);
        }
        let mut link = self.link_now(chosen.node, true)?;
        if !self.is_vouched_for(&link, chosen.node, fresh) {
            self.release(link);
            return None;
        }
        link.chosen = Some(chosen);
        Some(link)
    }

    /// What is known of a replica does not hold for a connection that is younger than the question.
    fn is_vouched_for(&self, link: &Link, node: NodeId, fresh: Freshness) -> bool {
        fresh.consistency == Consistency::Eventual
            || self.service.topology.node(node).vouches_for(link.connection.opened)
    }

    fn random(&self) -> u32 {
        // xorshift: a spread between two nodes needs no more.
        let mut state = self.random.get();
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        self.random.set(state);
        state
    }

    async fn link(&self, node: NodeId, replica: bool) -> Result<Link, Refused> {
        // What is known of the node is noted before it is used: if it restarts in between, that is another life.
        let chosen = self.life(node);
        let pool = self.pool(node);
        let connection =
            if replica { self.workers.checkout(&pool).await? } else { self.at_primary(node, &pool).await? };
        Ok(self.linked(node, connection, replica, chosen))
    }

    /// A connection to a node that is the primary still when it has been lent.
    async fn at_primary(&self, node: NodeId, pool: &Pool<Connection>) -> Result<Box<Connection>, Refused> {
        let connection = self.workers.checkout(pool).await?;
        if self.service.still_primary(node) {
            return Ok(connection);
        }
        self.workers.give_back_to(pool, connection);
        Err(CheckoutError::CutOff)
    }

    fn link_now(&self, node: NodeId, replica: bool) -> Option<Link> {
        let chosen = self.life(node);
        let connection = self.workers.take_idle(&self.pool(node))?;
        Some(self.linked(node, connection, replica, chosen))
    }

    /// Which life of the node this is, where it is one of several.
    fn life(&self, node: NodeId) -> Option<Chosen> {
        let shared = self.service.database.shard(node.shard).nodes.len() > 1;
        shared.then(|| Chosen { node, generation: self.service.topology.node(node).generation() })
    }

    fn linked(&self, node: NodeId, connection: Box<Connection>, replica: bool, chosen: Option<Chosen>) -> Link {
        let load = self.service.topology.node(node).serve(self.workers.worker);
        Link { chosen, patience: self.statement_max(), ..Link::new(node, connection, load, replica) }
    }

    /// A link of its own to the shard's primary, to gather a read on.
    ///
    /// # Errors
    /// No primary, or no connection in time.
    pub async fn gathering(&self, shard: ShardId) -> Result<Link, ClientError> {
        let node = self.wait_primary(shard, clock::now().plus(self.service.database.failover.wait)).await?;
        let pool = self.pool_of_gathers(node);
        let connection = self.at_primary(node, &pool).await.map_err(|error| self.explain(node, error))?;
        Ok(Link::new(node, connection, self.service.topology.node(node).serve(self.workers.worker), false))
    }

    /// Gives such a link back when it is clean, otherwise closes it.
    pub fn release_gathering(&self, link: Link) {
        if link.is_clean() {
            self.workers.give_back_to(&self.pool_of_gathers(link.node), link.connection);
        }
    }

    /// Gives a link back when it is clean, otherwise closes it.
    pub fn release(&self, link: Link) {
        if link.is_clean() {
            self.workers.give_back_to(&self.pool(link.node), link.connection);
        }
    }

    /// The name of a node.
    #[must_use]
    pub fn node_name(&self, node: NodeId) -> &str {
        &self.service.database.node(node).name
    }

    /// How long one statement may take; `None`: as long as it wants.
    #[must_use]
    pub fn statement_max(&self) -> Option<Duration> {
        crate::exec::limit(self.map.timeouts.statement)
    }

    fn explain(&self, node: NodeId, error: Refused) -> ClientError {
        let name = self.node_name(node);
        match error {
            CheckoutError::Exhausted(wait) => ClientError::new(
                Code::PoolExhausted,
                format_args!("no connection to \"{name}\" became free within {wait:?}"),
                "All connections of the pool are in use: raise pool.size in the shard map, or hold transactions \
                 for a shorter time.",
            ),
            CheckoutError::CutOff => self.service.no_primary(node.shard),
            CheckoutError::Unreachable { reason, .. } => ClientError::new(
                Code::ShardUnavailable,
                format_args!("cannot reach node \"{name}\": {reason}"),
                "SHOW NODES in the console tells what was seen of it.",
            ),
            CheckoutError::Refused(said) => ClientError::new(
                Code::ShardUnavailable,
                format_args!("node \"{name}\" refused the login of \"{}\": {said}", self.login.user),
                "Look at the user's `server:` entry in the shard map and at the server's accounts.",
            ),
        }
    }
}
