//! Plan → rows: chooses nodes, takes connections from pools, says what has to be said before a statement, and carries
//! flights out.
//!
//! [`Service`] is one database being served; [`Access`] is one user's way to its nodes; [`flight::run`] does the work.

pub mod ask;
pub mod client;
pub mod clients;
pub mod flight;
pub mod gate;
pub mod link;
pub mod mysql;
pub mod say;
pub mod scatter;
pub mod transfer;
mod waiting;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

#[cfg(debug_assertions)]
use crate::backend;
use crate::backend::CheckoutError;
use crate::backend::Connection;
use crate::backend::PoolKey;
use crate::backend::pool::Pool;
use crate::backend::pool::Recipe;
use crate::backend::pool::WorkerPools;
use crate::clock;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::clients::Presence;
use crate::exec::gate::Gate;
use crate::exec::link::Link;
use crate::exec::waiting::Unlinked;
use crate::exec::waiting::at_primary;
use crate::exec::waiting::pass_reads;
use crate::exec::waiting::while_primary;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::net::ClientTls;
use crate::shard_map::Consistency;
use crate::shard_map::Database;
use crate::shard_map::PoolLimits;
use crate::shard_map::ServerLogin;
use crate::shard_map::ShardMap;
use crate::topology::Choice;
use crate::topology::Chosen;
use crate::topology::Entry;
use crate::topology::Floor;
use crate::topology::SchemaHandle;
use crate::topology::Topology;
use crate::topology::control;

pub(crate) use waiting::AGAIN;
pub(crate) use waiting::AGAIN_MAX;

/// One database being served: what the map says of it, and what is known of its servers.
#[derive(Debug)]
pub struct Service {
    /// The map's part.
    pub database: Arc<Database>,
    /// Roles, health, freshness.
    pub topology: Arc<Topology>,
    /// What exists, as the catalog shard says, and what of it is not as the map says.
    pub schema: Arc<SchemaHandle>,
    /// TLS toward its servers.
    pub tls: ClientTls,
    /// Before its commits.
    pub gate: Gate,
    /// Set when its monitors and readers are to end.
    pub ended: watch::Sender<bool>,
}

impl Service {
    /// Ends what goes on in the background, except what `newer` shares. Only for sessions between two statements it
    /// lives on.
    pub fn end(&self, newer: Option<&Self>) {
        self.ended.send_replace(true);
        self.topology.give_way_to(newer.map(|it| &*it.topology));
    }

    /// Whether a connection that was lent for the primary's sake is one to the primary. One that passes is cut off when the
    /// node is succeeded, for it was there before; a younger one would not be.
    fn still_primary(&self, node: NodeId) -> bool {
        self.topology.primary(node.shard) == Some(node)
    }

    fn no_primary(&self, shard: ShardId) -> ClientError {
        ClientError::new(
            Code::ShardUnavailable,
            format_args!("shard \"{}\" has no reachable primary", self.database.shard(shard).name),
            "SHOW NODES in the console tells what was seen of its nodes. Try again when the failover is over.",
        )
    }
}

/// The map in force with everything live about it. Replaced whole; a transaction keeps the one it began with.
#[derive(Debug)]
pub struct Deployment {
    /// The map.
    pub map: Arc<ShardMap>,
    /// Its databases.
    pub services: BTreeMap<Arc<str>, Arc<Service>>,
}

/// The deployment in force, and a number that changes whenever it or any schema does.
#[derive(Debug)]
pub struct Current {
    deployment: ArcSwap<Deployment>,
    epoch: AtomicU64,
}

impl Current {
    /// Starts with one.
    #[must_use]
    pub fn new(deployment: Deployment) -> Self {
        Self { deployment: ArcSwap::from_pointee(deployment), epoch: AtomicU64::new(1) }
    }

    /// The one in force.
    #[must_use]
    pub fn load(&self) -> Arc<Deployment> {
        self.deployment.load_full()
    }

    /// Changes whenever a session has to look again.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Puts another in force.
    pub fn swap(&self, deployment: Deployment) {
        self.deployment.store(Arc::new(deployment));
        self.bump();
    }

    /// Has every session look again (a schema changed).
    pub fn bump(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }
}

/// One user's way to the nodes of one service.
#[derive(Debug)]
pub struct Access {
    /// The service.
    pub service: Arc<Service>,
    map: Arc<ShardMap>,
    login: ServerLogin,
    workers: Rc<WorkerPools>,
    /// Whom its connections are given to.
    presence: Arc<Presence>,
    pools: RefCell<Vec<Vec<Option<Rc<Pool>>>>>,
    random: RefCell<u32>,
}

/// How new a read must be, and what the session has seen.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// The level in force.
    pub consistency: Consistency,
    /// What the session has seen of the shard.
    pub floor: Floor,
}

/// Connections on which directories are asked, of each server that has one.
const DIRECTORY_CONNECTIONS: usize = 4;

/// Who asks a server beside the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aside {
    /// The user, with the rights that they have.
    User,
    /// The control user.
    Control,
    /// The control user, for directories.
    Directory,
}

impl Access {
    /// A way for a client who logs in to the servers as `login`.
    #[must_use]
    pub fn new(
        service: Arc<Service>,
        map: Arc<ShardMap>,
        login: ServerLogin,
        workers: Rc<WorkerPools>,
        presence: Arc<Presence>,
    ) -> Self {
        let pools = service.database.shards.iter().map(|shard| vec![None; shard.nodes.len()]).collect();
        let seed = u32::try_from(clock::now().0 & 0xffff_ffff).unwrap_or(1) | 1;
        Self { service, map, login, workers, presence, pools: RefCell::new(pools), random: RefCell::new(seed) }
    }

    /// The pool of one node.
    pub fn pool(&self, node: NodeId) -> Rc<Pool> {
        let (shard, place) = (node.shard.index(), usize::from(node.node));
        if let Some(Some(pool)) = self.pools.borrow().get(shard).and_then(|nodes| nodes.get(place)) {
            return Rc::clone(pool);
        }
        let pool = self.pool_of(node, &self.login.user, &self.login, &self.map.pool);
        if let Some(slot) = self.pools.borrow_mut().get_mut(shard).and_then(|nodes| nodes.get_mut(place)) {
            *slot = Some(Rc::clone(&pool));
        }
        pool
    }

    fn pool_of(&self, node: NodeId, user: &Arc<str>, login: &ServerLogin, limits: &PoolLimits) -> Rc<Pool> {
        let database = &self.service.database;
        let at = database.node(node);
        let key = PoolKey {
            host: Arc::clone(&at.host),
            port: at.port,
            database: Arc::clone(&database.server_name),
            user: Arc::clone(user),
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

    /// A pool beside the sessions' own: who waits for it holds none of its connections.
    fn pool_aside(&self, node: NodeId, who: Aside) -> Rc<Pool> {
        let control = match who {
            Aside::Control | Aside::Directory => control::login(&self.map, &self.service.database),
            Aside::User => None,
        };
        let login = control.as_ref().unwrap_or(&self.login);
        let (what, size) = match who {
            Aside::Control | Aside::User => ("sequences", 1),
            // Writes ask each time.
            Aside::Directory => ("directories", DIRECTORY_CONNECTIONS.min(self.map.pool.size)),
        };
        let limits = PoolLimits { size, idle_min: 0, ..self.map.pool.clone() };
        self.pool_of(node, &format!("{} ({what})", login.user).into(), login, &limits)
    }

    /// A link to the shard's primary that is no session's, for numbers of sequences and for directories.
    ///
    /// # Errors
    /// No primary, or no connection in time.
    pub async fn aside(&self, shard: ShardId, who: Aside) -> Result<Link, ClientError> {
        let link = async |node| {
            let checked_out = self.workers.checkout(&self.pool_aside(node, who)).await;
            Ok(self.linked(node, checked_out.map_err(|error| self.unlinked(node, error))?, false, None))
        };
        // For what a session does, which may hold other connections.
        at_primary(&self.service, shard, Entry::Joins, link, |link| self.release_aside(link, who)).await
    }

    /// Gives such a link back when it is clean, otherwise closes it.
    pub fn release_aside(&self, mut link: Link, who: Aside) {
        let clean = link.is_clean();
        self.workers.keep_outbox(std::mem::take(&mut link.out));
        if clean {
            self.workers.give_back_to(&self.pool_aside(link.node, who), link.connection);
        }
    }

    fn random(&self) -> u32 {
        let mut state = self.random.borrow_mut();
        // xorshift: a spread between two nodes needs no more.
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        *state
    }

    /// A link to the shard's primary. Waits its turn, and a little for one to appear.
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
                Ok(link) => match self.vouched(link, chosen, fresh) {
                    Some(link) => return Ok(link),
                    None => self.service.no_primary(shard),
                },
                // A server that just died must not fail a read that another can serve.
                Err(it) if it.passes => it.error,
                Err(it) if replica && it.error.code == Code::ShardUnavailable => {
                    return self.primary(shard, entry).await;
                }
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
        if fresh.consistency == Consistency::Strong {
            return self.primary_now(shard);
        }
        let topology = &self.service.topology;
        let demand = topology.demand(fresh.consistency, fresh.floor);
        let Choice::Node(chosen) = topology.choose_read(shard, &demand, None, self.random()) else { return None };
        let replica = topology.primary(shard) != Some(chosen.node);
        let link = self.link_now(chosen.node, replica)?;
        if topology.queue(shard).is_held(Entry::New, replica) {
            self.release(link);
            return None;
        }
        self.vouched(link, chosen, fresh)
    }

    /// The link as one of that choice; `None`: what is known of a replica does not hold for a connection that is younger
    /// than the question, and it has been given back.
    fn vouched(&self, mut link: Link, chosen: Chosen, fresh: Freshness) -> Option<Link> {
        if link.replica && !self.service.topology.holds(chosen, link.connection.opened, fresh.consistency) {
            self.release(link);
            return None;
        }
        link.chosen = Some(chosen);
        Some(link)
    }

    async fn link(&self, node: NodeId, replica: bool) -> Result<Link, Unlinked> {
        // What is known of the node is noted before it is used: if it restarts in between, that is another life.
        let chosen = self.life(node);
        let pool = self.pool(node);
        let connection = self.workers.checkout(&pool).await.map_err(|error| self.unlinked(node, error))?;
        #[cfg(debug_assertions)]
        let connection = checked(connection).await.map_err(|error| Unlinked { error, passes: false })?;
        if !replica && !self.service.still_primary(node) {
            self.workers.give_back_to(&pool, connection);
            return Err(Unlinked { error: self.service.no_primary(node.shard), passes: true });
        }
        Ok(self.linked(node, connection, replica, chosen))
    }

    fn link_now(&self, node: NodeId, replica: bool) -> Option<Link> {
        #[cfg(debug_assertions)]
        if backend::check::is_on() {
            return None;
        }
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
        connection.seat.take(self.presence.id);
        self.presence.was_given();
        let mut link = Link::new(node, connection, replica, load, self.workers.outbox());
        link.chosen = chosen;
        if node.shard != self.service.database.catalog {
            link.type_oids = self.service.schema.type_oids(node.shard);
        }
        link
    }

    fn unlinked(&self, node: NodeId, error: CheckoutError) -> Unlinked {
        let passes = match &error {
            CheckoutError::Exhausted(_) => false,
            CheckoutError::Unreachable { .. } | CheckoutError::CutOff => true,
            // It stops, or starts.
            CheckoutError::Refused(said) => said.code().is_some_and(|it| it.starts_with("57P")),
        };
        Unlinked { error: self.explain(node, error), passes }
    }

    fn explain(&self, node: NodeId, error: CheckoutError) -> ClientError {
        let name = &self.service.database.node(node).name;
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
                "Look at the user's `server:` entry in the shard map and at the server's pg_hba.conf.",
            ),
        }
    }

    /// Gives a link back when it is clean, otherwise closes it. Buffers go back either way.
    pub fn release(&self, mut link: Link) {
        let out = std::mem::take(&mut link.out);
        let clean = out.is_empty() && link.is_clean();
        self.workers.keep_outbox(out);
        if clean {
            self.workers.give_back_to(&self.pool(link.node), link.connection);
        }
    }

    /// The name of a node.
    #[must_use]
    pub fn node_name(&self, node: NodeId) -> &str {
        &self.service.database.node(node).name
    }
}

/// In tests, a connection is what the proxy believes, or its hand-out is an error.
#[cfg(debug_assertions)]
async fn checked(mut connection: Box<Connection>) -> Result<Box<Connection>, ClientError> {
    match backend::check::handed_out(&mut connection).await {
        Ok(()) => Ok(connection),
        Err(found) => Err(ClientError::new(
            Code::Internal,
            format_args!("a connection is not as it should be when it is handed out: {found}"),
            "Report this with what the log says.",
        )),
    }
}

/// Waits for `future` as long as a statement may take; `None`: time is up, and the future was dropped.
pub async fn within<F: Future>(span: Duration, future: F) -> Option<F::Output> {
    match limit(span) {
        None => Some(future.await),
        Some(limit) => tokio::time::timeout(limit, future).await.ok(),
    }
}

/// A statement's limit as a duration to wait at most; `None`: no limit.
#[must_use]
pub fn limit(span: Duration) -> Option<Duration> {
    (!span.is_zero()).then_some(span)
}
