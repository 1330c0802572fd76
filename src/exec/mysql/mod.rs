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
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::AGAIN;
use crate::exec::AGAIN_MAX;
use crate::exec::Freshness;
use crate::exec::Service;
use crate::exec::clients::Presence;
use crate::exec::waiting::Unlinked;
use crate::exec::waiting::at_primary;
use crate::exec::waiting::pass_reads;
use crate::exec::waiting::while_primary;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::shard_map::Consistency;
use crate::shard_map::PoolLimits;
use crate::shard_map::ServerLogin;
use crate::shard_map::ShardMap;
use crate::topology::Choice;
use crate::topology::Chosen;
use crate::topology::Entry;
use crate::topology::control;

/// One user's way to the nodes of one service.
#[derive(Debug)]
pub struct Access {
    /// The service.
    pub service: Arc<Service>,
    map: Arc<ShardMap>,
    login: ServerLogin,
    workers: Rc<WorkerPools<Connection>>,
    /// Whom its connections are given to.
    presence: Arc<Presence>,
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
    /// A way for a client who logs in to the servers as `login`.
    #[must_use]
    pub fn new(
        service: Arc<Service>,
        map: Arc<ShardMap>,
        login: ServerLogin,
        workers: Rc<WorkerPools<Connection>>,
        presence: Arc<Presence>,
        flags: u32,
    ) -> Self {
        let pools = service.database.shards.iter().map(|shard| vec![None; shard.nodes.len()]).collect();
        let seed = u32::try_from(clock::now().0 & 0xffff_ffff).unwrap_or(1) | 1;
        let selected = Arc::clone(&service.database.server_name);
        let (pools, random) = (RefCell::new(pools), Cell::new(seed));
        Self { service, map, login, workers, presence, flags, selected, pools, random }
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
        let link = async |node| {
            let checked_out = self.workers.checkout(&self.pool_of_control(node)).await;
            let connection = checked_out.map_err(|error| self.unlinked(node, error))?;
            Ok(self.given(node, connection, false))
        };
        // For what a session does, which may hold other connections.
        at_primary(&self.service, shard, Entry::Joins, link, |link| self.release_control(link)).await
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

    /// A link to the shard's primary. Waits its turn, and a little for one to appear; nothing has been said to it yet.
    ///
    /// # Errors
    /// No primary, no connection in time, or too many wait already.
    pub async fn primary(&self, shard: ShardId, entry: Entry) -> Result<Link, ClientError> {
        let _waiting = self.presence.waits();
        let link = async |node| self.link(node, false).await;
        at_primary(&self.service, shard, entry, link, |link| self.release(link)).await
    }

    /// What [`Self::primary`] comes to when nothing has to be waited for.
    #[must_use]
    pub fn primary_now(&self, shard: ShardId) -> Option<Link> {
        let link = self.link_now(self.service.topology.primary(shard)?, false)?;
        // It counts as what runs there from here on: a pause has seen it, or is seen.
        if self.service.topology.queue(shard).is_busy() {
            self.release(link);
            return None;
        }
        Some(link)
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
    pub async fn read(&self, shard: ShardId, fresh: Freshness, entry: Entry) -> Result<Link, ClientError> {
        if fresh.consistency == Consistency::Strong || !self.has_choice(shard) {
            return self.primary(shard, entry).await;
        }
        let topology = &self.service.topology;
        let _waiting = self.presence.waits();
        let deadline = clock::now().plus(self.service.database.failover.wait);
        let mut pause = AGAIN;
        loop {
            pass_reads(&self.service, shard, entry, deadline).await?;
            let demand = topology.demand(fresh.consistency, fresh.floor);
            let chosen = topology.node_for_read(shard, &demand, None, self.random(), deadline).await;
            let Some(chosen) = chosen else { return self.primary(shard, entry).await };
            let replica = topology.primary(shard) != Some(chosen.node);
            let linked = match replica {
                true => self.link(chosen.node, true).await,
                false if topology.queue(shard).holds(entry) => return self.primary(shard, entry).await,
                false => while_primary(&self.service, chosen.node, &async |node| self.link(node, false).await).await,
            };
            let failed = match linked {
                Ok(link) if topology.queue(shard).is_held(entry, replica) => {
                    self.release(link);
                    continue;
                }
                Ok(link) if !replica => return Ok(link),
                Ok(link) if !topology.holds(chosen, link.connection.opened, fresh.consistency) => {
                    self.release(link);
                    self.service.no_primary(shard)
                }
                Ok(link) => return Ok(Link { chosen: Some(chosen), ..link }),
                // A server that just died must not fail a read that another can serve.
                Err(it) if it.passes => it.error,
                Err(_) if replica => return self.primary(shard, entry).await,
                Err(it) => return Err(it.error),
            };
            // The primary may be dead, and not yet known to be: nobody stands in its queue for what a replica may serve soon.
            if replica && let Some(link) = self.primary_in_place(shard, entry).await {
                return Ok(link);
            }
            if clock::now() >= deadline {
                return Err(failed);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }

    /// A link to the primary in the place of a replica that cannot be reached, if that one can.
    async fn primary_in_place(&self, shard: ShardId, entry: Entry) -> Option<Link> {
        let node = self.service.topology.primary(shard).filter(|_| !self.service.topology.queue(shard).holds(entry))?;
        let link = while_primary(&self.service, node, &async |node| self.link(node, false).await).await.ok()?;
        if self.service.topology.queue(shard).holds(entry) {
            self.release(link);
            return None;
        }
        Some(link)
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
        if topology.queue(shard).holds_reads(Entry::New)
            || !topology.holds(chosen, link.connection.opened, fresh.consistency)
        {
            self.release(link);
            return None;
        }
        link.chosen = Some(chosen);
        Some(link)
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

    async fn link(&self, node: NodeId, replica: bool) -> Result<Link, Unlinked> {
        // What is known of the node is noted before it is used: if it restarts in between, that is another life.
        let chosen = self.life(node);
        let pool = self.pool(node);
        let connection = if replica { self.workers.checkout(&pool).await } else { self.at_primary(node, &pool).await };
        let connection = connection.map_err(|error| self.unlinked(node, error))?;
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
        Link { chosen, patience: self.statement_max(), ..self.given(node, connection, replica) }
    }

    fn given(&self, node: NodeId, connection: Box<Connection>, replica: bool) -> Link {
        let load = self.service.topology.node(node).serve(self.workers.worker);
        connection.seat.take(self.presence.id);
        self.presence.was_given();
        Link::new(node, connection, load, replica)
    }

    /// A link of its own to the shard's primary, to gather a read on.
    ///
    /// # Errors
    /// No primary, or no connection in time.
    pub async fn gathering(&self, shard: ShardId) -> Result<Link, ClientError> {
        let link = async |node| {
            let checked_out = self.workers.checkout(&self.pool_of_gathers(node)).await;
            let connection = checked_out.map_err(|error| self.unlinked(node, error))?;
            Ok(self.given(node, connection, false))
        };
        // Of a read that holds its other connections already.
        at_primary(&self.service, shard, Entry::Joins, link, |link| self.release_gathering(link)).await
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

    fn unlinked(&self, node: NodeId, error: Refused) -> Unlinked {
        let passes = matches!(error, CheckoutError::Unreachable { .. } | CheckoutError::CutOff);
        Unlinked { error: self.explain(node, error), passes }
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
