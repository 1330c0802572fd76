//! The schema, kept true: every second each shard is asked whether its catalogs changed, and read again if so.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Topology;
use super::control::Purpose;
use super::engine::Line;
use super::fit;
use super::fit::Finding;
use super::fit::Unfit;
use super::schema_reader::Catalog;
use crate::clock;
use crate::clock::Tick;
use crate::error::ClientError;
use crate::error::Code;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::ident::TableName;
use crate::schema::Schema;
use crate::topology::schema_reader::TypeNumbers;

/// What the catalogs of all shards say together.
#[derive(Debug, Default)]
pub struct SchemaState {
    /// Of the catalog shard. `None`: never read yet; nothing may be planned then.
    pub schema: Option<Arc<Schema>>,
    /// Per shard, in the map's order: its type OIDs → the catalog shard's. `None`: identical, or not read yet.
    pub type_oids: Vec<Option<Arc<TypeNumbers>>>,
    /// What is wrong between the map and the shards, or among the shards.
    pub findings: Vec<Finding>,
    /// Tables on which statements are refused, and why.
    pub unfit: HashMap<TableName, Unfit>,
    catalogs: Vec<Option<Arc<Catalog>>>,
}

/// The schema of one database, for all threads.
#[derive(Debug)]
pub struct SchemaHandle {
    topology: Arc<Topology>,
    state: ArcSwap<SchemaState>,
    changed: Notify,
    /// Shards whose catalogs have changed and cannot be read.
    unread: std::sync::Mutex<BTreeSet<ShardId>>,
    /// Whether there are any.
    stale: AtomicBool,
    requests: mpsc::Sender<Request>,
    /// Taken by the task that answers.
    queue: std::sync::Mutex<Option<mpsc::Receiver<Request>>>,
}

type Request = oneshot::Sender<Result<(), String>>;

impl SchemaHandle {
    /// Nothing read yet.
    #[must_use]
    pub fn new(topology: Arc<Topology>) -> Arc<Self> {
        Self::after(None, topology)
    }

    /// The same under a new map: what was read of a shard of the same name is judged anew at once.
    #[must_use]
    pub fn after(former: Option<&Self>, topology: Arc<Topology>) -> Arc<Self> {
        let database = topology.database();
        let former = former.map(|it| (Arc::clone(it.topology.database()), it.state()));
        let known = |name: &str| {
            let (database, state) = former.as_ref()?;
            let place = database.shards.iter().position(|it| &*it.name == name)?;
            state.catalogs.get(place).cloned().flatten()
        };
        let same = former.as_ref().is_some_and(|(it, _)| it.server_name == database.server_name);
        let catalogs = database.shards.iter().map(|it| if same { known(&it.name) } else { None }).collect();
        let state = SchemaState::of(&topology, catalogs, None);
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        Arc::new(Self {
            topology,
            state: ArcSwap::from_pointee(state),
            changed: Notify::new(),
            unread: std::sync::Mutex::default(),
            stale: AtomicBool::new(false),
            requests,
            queue: std::sync::Mutex::new(Some(queue)),
        })
    }

    /// The catalog shard's schema; `None` before it was read for the first time: then nothing can be planned.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Schema>> {
        self.state.load().schema.clone()
    }

    /// The schema, or the error that a client gets without one.
    ///
    /// # Errors
    /// [`Code::ShardUnavailable`]: the catalog shard has not been reached yet.
    pub fn required(&self) -> Result<Arc<Schema>, ClientError> {
        let unread = if self.is_stale() { self.unread().first().copied() } else { None };
        if let Some(shard) = unread {
            let name = &self.topology.database().shard(shard).name;
            return Err(ClientError::new(
                Code::ShardUnavailable,
                format!("the schema of shard \"{name}\" has changed, and cannot be read now"),
                "Try again. Somebody may hold a lock on a table that a view shows (ALTER TABLE, LOCK, TRUNCATE in an open \
                 transaction): pg_locks on that shard tells.",
            ));
        }
        self.current().ok_or_else(|| {
            let database = self.topology.database();
            let name = &database.shard(database.catalog).name;
            ClientError::new(
                Code::ShardUnavailable,
                format!("the schema has not been read from shard \"{name}\" yet"),
                format!("Try again when a server of \"{name}\" can be reached; SHOW NODES tells why it cannot."),
            )
        })
    }

    /// Whether `schema` is still the catalog shard's.
    #[must_use]
    pub fn is_current(&self, schema: &Arc<Schema>) -> bool {
        self.state.load().schema.as_ref().is_none_or(|now| Arc::ptr_eq(now, schema)) && !self.is_stale()
    }

    /// Whether the catalogs of some shard have changed and could not be read.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    fn set_read(&self, shard: ShardId, read: bool) {
        let mut unread = self.unread();
        if read {
            unread.remove(&shard);
        } else {
            unread.insert(shard);
        }
        self.stale.store(!unread.is_empty(), Ordering::Relaxed);
        drop(unread);
        self.changed.notify_waiters();
    }

    fn unread(&self) -> std::sync::MutexGuard<'_, BTreeSet<ShardId>> {
        self.unread.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How a shard numbers user-defined types; `None`: as the catalog shard does.
    #[must_use]
    pub fn type_oids(&self, shard: ShardId) -> Option<Arc<TypeNumbers>> {
        self.state.load().type_oids.get(shard.index()).cloned().flatten()
    }

    /// What the catalogs say together within a transaction that has changed some of them: those are told, the others are
    /// as they were last read.
    #[must_use]
    pub fn within(&self, changed: Vec<(ShardId, Catalog)>) -> SchemaState {
        let state = self.state();
        let mut catalogs = state.catalogs.clone();
        for (shard, catalog) in changed {
            if let Some(slot) = catalogs.get_mut(shard.index()) {
                *slot = Some(Arc::new(catalog));
            }
        }
        SchemaState::of(&self.topology, catalogs, state.schema.clone())
    }

    /// Everything that the catalogs say.
    #[must_use]
    pub fn state(&self) -> Arc<SchemaState> {
        self.state.load_full()
    }

    /// Waits until the schema was read, at most until `deadline`. Cancel-safe.
    pub async fn ready(&self, deadline: Tick) -> bool {
        self.until(deadline, || self.state.load().schema.is_some()).await
    }

    /// Waits until nothing is [stale](Self::is_stale), at most until `deadline`. Cancel-safe.
    pub async fn fresh(&self, deadline: Tick) -> bool {
        self.until(deadline, || !self.is_stale()).await
    }

    async fn until(&self, deadline: Tick, is_so: impl Fn() -> bool) -> bool {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_so() {
                return true;
            }
            let left = deadline.since(clock::now());
            if left.is_zero() || timeout(left, changed).await.is_err() {
                return is_so();
            }
        }
    }

    /// Has the catalogs of all shards looked at now, and waits for it: after DDL through the proxy.
    ///
    /// # Errors
    /// [`Code::ShardUnavailable`] with what could not be read; [`SchemaHandle::current`] may then be out of date.
    pub async fn refresh_now(&self) -> Result<Arc<Schema>, ClientError> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.requests.send(answer).await.map_err(|_| "the proxy is stopping".to_owned())?;
            answered.await.map_err(|_| "the proxy is stopping".to_owned())?
        };
        let result = timeout(REFRESH_MAX, asked).await.unwrap_or_else(|_| Err(format!("not within {REFRESH_MAX:?}")));
        result.map_err(|why| {
            ClientError::new(
                Code::ShardUnavailable,
                format!("the schema could not be read again: {why}"),
                "What was changed is changed; the proxy reads it within a second of reaching the shard.",
            )
        })?;
        self.required()
    }

    /// Keeps the schema true until `shutdown` is true. Needs a tokio runtime around it, and runs once.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let taken = self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(mut queue) = taken else { return };
        let mut reader = Reader::new(&self);
        loop {
            let began = clock::now();
            let mut asking: Vec<Request> = Vec::new();
            while let Ok(request) = queue.try_recv() {
                asking.push(request);
            }
            let result = tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return,
                result = reader.round() => result,
            };
            for request in asking {
                // Whoever asked may be gone.
                let _ = request.send(result.clone());
            }
            // A large catalog is asked about less often: a twentieth of the time at most.
            let pause = PACE.max(clock::now().since(began) * 19);
            let needed = self.is_stale() || self.current().is_none();
            let pause = if result.is_err() && needed { IMPATIENT.max(clock::now().since(began)) } else { pause };
            let asked = tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return,
                asked = timeout(pause, queue.recv()) => asked,
            };
            if let Ok(Some(request)) = asked {
                let result = tokio::select! {
                    _ = shutdown.wait_for(|stop| *stop) => return,
                    result = reader.round() => result,
                };
                let _ = request.send(result);
            }
        }
    }

    fn publish(&self, catalogs: Vec<Option<Arc<Catalog>>>) {
        let former = self.state();
        let state = SchemaState::of(&self.topology, catalogs, former.schema.clone());
        for finding in state.findings.iter().filter(|it| !former.findings.contains(it)) {
            finding.log();
        }
        self.state.store(Arc::new(state));
        self.changed.notify_waiters();
    }
}

impl SchemaState {
    fn of(topology: &Topology, catalogs: Vec<Option<Arc<Catalog>>>, former: Option<Arc<Schema>>) -> Self {
        let database = topology.database();
        let canonical = catalogs.get(database.catalog.index()).cloned().flatten();
        let oids = |it: &Option<Arc<Catalog>>| {
            let (canonical, shard) = (canonical.as_ref()?, it.as_ref()?);
            TypeNumbers::compare(canonical, shard).map(Arc::new)
        };
        let schemas: Vec<_> = catalogs.iter().map(|it| it.as_ref().map(|it| it.schema.as_ref())).collect();
        let findings = fit::compare(database, &schemas);
        let unfit = Unfit::of(&findings);
        let schema =
            fit::planning_schema(database, &schemas).map(|new| fit::marked(new, &unfit)).map(|new| match former {
                // The same schema keeps its Arc: plans made for it stay good.
                Some(former) if former.digest == new.digest => former,
                _ => Arc::new(new),
            });
        Self { schema, type_oids: catalogs.iter().map(oids).collect(), unfit, findings, catalogs }
    }
}

/// The connections that the catalogs are read over.
struct Reader<'a> {
    of: &'a SchemaHandle,
    connections: Vec<Option<(NodeId, Line)>>,
}

impl<'a> Reader<'a> {
    fn new(of: &'a SchemaHandle) -> Self {
        Self { of, connections: of.topology.database().shards.iter().map(|_| None).collect() }
    }

    /// Asks every shard once. The error names what could not be read.
    async fn round(&mut self) -> Result<(), String> {
        let mut catalogs = self.of.state().catalogs.clone();
        let mut changed = false;
        let mut trouble = Vec::new();
        for (place, catalog) in (0_u16..).zip(&mut catalogs) {
            let shard = ShardId(place);
            match self.look(shard, catalog.as_deref()).await {
                Ok(None) => {}
                Ok(Some(new)) => {
                    *catalog = Some(Arc::new(new));
                    changed = true;
                }
                Err(why) => trouble.push(format!("shard \"{}\": {why}", self.of.topology.database().shard(shard).name)),
            }
        }
        if changed {
            self.of.publish(catalogs);
        }
        if trouble.is_empty() { Ok(()) } else { Err(trouble.join("; ")) }
    }

    /// What a shard's catalogs say, if that is not known.
    async fn look(&mut self, shard: ShardId, known: Option<&Catalog>) -> Result<Option<Catalog>, String> {
        let Some(slot) = self.connections.get_mut(shard.index()) else { return Ok(None) };
        let node = self.of.topology.any(shard).ok_or("no server can be reached")?;
        // After a failover the former primary's word counts for nothing.
        let mut connection = match slot.take() {
            Some((at, connection)) if at == node => connection,
            _ => self.of.topology.line(node, Purpose::Schema).await.map_err(|it| it.text)?,
        };
        let result = async {
            let now = connection.watermark().await?;
            match known {
                Some(known) if known.watermark == now => Ok(None),
                _ => {
                    let read = connection.catalog().await;
                    // What is known to be old is planned with no longer.
                    if let Err(error) = &read
                        && known.is_some()
                    {
                        if !self.of.is_stale() {
                            tracing::warn!(shard = shard.0, error = error.text, "a changed schema cannot be read");
                        }
                        self.of.set_read(shard, false);
                    }
                    read.map(Some)
                }
            }
        };
        match result.await {
            Ok(catalog) => {
                self.of.set_read(shard, true);
                *slot = Some((node, connection));
                Ok(catalog)
            }
            Err(error) => {
                tracing::debug!(shard = shard.0, error = error.text, "schema not read");
                Err(error.text)
            }
        }
    }
}

/// How often the catalogs are asked whether they changed.
const PACE: Duration = Duration::from_secs(1);
/// The same before they were read for the first time, or when they are known to have changed.
const IMPATIENT: Duration = Duration::from_millis(50);
/// How long a refresh may be waited for.
const REFRESH_MAX: Duration = Duration::from_secs(10);
/// Sessions that may wait for a refresh at once; more wait to get in.
const REQUESTS_MAX: usize = 64;
