//! Builds everything: the map, its databases, listeners, workers; takes up new maps; stops.
//!
//! One thread accepts and runs what is not on a statement's path (monitors, schema, reload, HTTP); every core has a
//! worker of its own with a current-thread runtime, which owns its clients and its share of the server connections.

mod deploy;
pub mod log;
pub mod offline;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Notify;
use tokio::sync::watch;

use crate::admin;
use crate::backend::PoolKey;
use crate::backend::Pools;
use crate::backend::mysql;
use crate::clock;
use crate::exec::Current;
use crate::exec::Deployment;
use crate::exec::clients::Clients;
use crate::net::ListenerTls;
use crate::session::cancel::Cancels;
use crate::session::login::Verifiers;
use crate::session::mysql::numbers::Counters;
use crate::session::prepared::Registry;
use crate::session::sequences::Blocks;
use crate::shard_map::Engine;
use crate::shard_map::Listen;
use crate::shard_map::Node;
use crate::shard_map::ShardMap;
use crate::shard_map::UserAuth;
use crate::shard_map::Warning;
use crate::shard_map::live::Live;
use crate::shard_map::live::Outcome;
use crate::shard_map::live::ProcessEnvironment;
use crate::shard_map::live::Watch;
use crate::shard_map::mistake;
use crate::tasks;
use crate::topology::Fence;
use crate::topology::events::Events;
use crate::topology::events::Kind;

/// What `serve` was asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The map's file.
    pub map: PathBuf,
    /// How many worker threads; `None`: one for two cores.
    pub workers: Option<usize>,
}

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The map has mistakes: their rendered text.
    #[error("{0}")]
    Map(String),
    /// The servers do not allow it.
    #[error("{0}")]
    Servers(String),
    /// An address is taken.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A certificate cannot be used.
    #[error("listen.tls: {0}")]
    Tls(#[from] crate::net::TlsError),
    /// The system does not play along.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What all parts of the process share.
pub struct Process {
    /// The deployment in force.
    pub current: Arc<Current>,
    /// The map's file.
    pub live: Live,
    /// All pools.
    pub pools: Arc<Pools>,
    /// All pools of MySQL's servers.
    pub mysql_pools: Arc<mysql::Pools>,
    /// Ends them where a server must not be used any more.
    fence: Arc<dyn Fence>,
    /// All sessions in MySQL's protocol, by what KILL names them.
    pub mysql_kills: Arc<crate::session::mysql::kill::Kills>,
    /// All cancel keys.
    pub cancels: Arc<Cancels>,
    /// All prepared texts.
    pub registry: Arc<Registry>,
    /// Numbers of sequences that were taken and not handed out yet.
    pub blocks: Arc<Blocks>,
    /// Numbers of AUTO_INCREMENT.
    pub counters: Arc<Counters>,
    /// What directories have said.
    pub directories: Arc<crate::session::directory::Directories>,
    /// What passwords are recognized by.
    pub verifiers: Arc<Verifiers>,
    /// TLS toward clients.
    pub tls: ArcSwap<Option<ListenerTls>>,
    /// Clients that have logged in, as operators see them.
    pub present: Arc<Clients>,
    /// What happened that is no shard's affair.
    pub events: Events,
    /// Clients that are connected, logged in or not.
    pub clients: AtomicUsize,
    /// Whether clients are let in.
    pub serving: AtomicBool,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("clients", &self.clients).finish_non_exhaustive()
    }
}

impl admin::Operated for Process {
    fn deployment(&self) -> Arc<Deployment> {
        self.current.load()
    }

    fn live(&self) -> &Live {
        &self.live
    }

    fn pools(&self) -> &Pools {
        &self.pools
    }

    fn mysql_pools(&self) -> &mysql::Pools {
        &self.mysql_pools
    }

    fn clients(&self) -> &Arc<Clients> {
        &self.present
    }

    fn connected(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    fn reload(self: Arc<Self>) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        Box::pin(async move { reload(&self).await })
    }
}

/// Asks a running proxy to stop without waiting for its clients.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Notify>);

impl Stop {
    /// Does so.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

/// Serves until SIGTERM, SIGINT, or `stop`. Blocks the calling thread, which must not be one of a runtime.
///
/// # Errors
/// Why it could not start.
pub fn run(settings: &Settings, stop: &Stop) -> Result<(), StartError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("control").enable_all().build()?;
    let outcome = runtime.block_on(serve(settings, stop));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// The connections of all sessions to all servers.
#[derive(Debug)]
struct Connections {
    pools: Arc<Pools>,
    mysql_pools: Arc<mysql::Pools>,
}

impl Fence for Connections {
    fn cut_off(&self, node: &Node) {
        self.pools.cut_off(&node.host, node.port);
        self.mysql_pools.cut_off(&node.host, node.port);
    }
}

async fn serve(settings: &Settings, stop: &Stop) -> Result<(), StartError> {
    // Signals first: one that comes while starting must not kill without a trace.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (live, warnings) = Live::load(&settings.map, Box::new(ProcessEnvironment))
        .map_err(|mistakes| StartError::Map(mistake::render(&mistakes)))?;
    warn(&warnings);
    let map = live.current();
    let listeners = bind(&map.listen).await?;
    let tls = load_tls(&map.listen)?;
    let (shutdown, stopping) = watch::channel(false);
    let cancels: Arc<Cancels> = Arc::default();
    let mysql_kills: Arc<crate::session::mysql::kill::Kills> = Arc::default();
    let (pools, mysql_pools): (Arc<Pools>, Arc<mysql::Pools>) = Default::default();
    let fence: Arc<dyn Fence> =
        Arc::new(Connections { pools: Arc::clone(&pools), mysql_pools: Arc::clone(&mysql_pools) });
    let starting = async {
        let around = deploy::Around { cancels: &cancels, kills: &mysql_kills, fence: &fence };
        let (map, services) = deploy::start(&map, None, around).await.map_err(StartError::Servers)?;
        Ok::<_, StartError>((Arc::new(map), services))
    };
    let (map, services) = tokio::select! {
        started = starting => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
        () = stop.0.notified() => return Ok(()),
    };
    live.install((*map).clone());
    let process = Arc::new(Process {
        current: Arc::new(Current::new(Deployment { map: live.current(), services })),
        live,
        pools,
        mysql_pools,
        fence,
        mysql_kills,
        cancels,
        registry: Arc::default(),
        blocks: Arc::default(),
        counters: Arc::default(),
        directories: Arc::default(),
        verifiers: Arc::new(Verifiers::new(rand::random())),
        tls: ArcSwap::from_pointee(tls),
        present: Arc::default(),
        events: Events::default(),
        clients: AtomicUsize::new(0),
        serving: AtomicBool::new(true),
    });
    warm(&process, &map);
    let count = settings.workers.unwrap_or_else(|| {
        // The kernel's part of the work, the larger one, is done on the other half; docs/decisions/runtimes.md has figures.
        std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
    });
    let workers = worker::start_all(&process, count)?;
    if let Some(http) = listeners.http {
        let process = Arc::clone(&process);
        tasks::shared("http", admin::http::serve(http, process, stopping.clone()));
    }
    for listener in listeners.postgres {
        tasks::shared("accept", accept(listener, Engine::Postgres, Arc::clone(&process), workers.clone()));
    }
    for listener in listeners.mysql {
        tasks::shared("accept", accept(listener, Engine::Mysql, Arc::clone(&process), workers.clone()));
    }
    tasks::shared("map watch", watch_map(Arc::clone(&process)));
    tasks::shared("periods", periods(Arc::clone(&process.present)));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        map = %process.live.path().display(),
        listen = map.listen.postgres.map(tracing::field::display),
        mysql = map.listen.mysql.map(tracing::field::display),
        workers = count,
        "serving"
    );
    process.events.note(Kind::Serving, None, format!("shardway {}", env!("CARGO_PKG_VERSION")));
    let gently = loop {
        tokio::select! {
            _ = terminate.recv() => break true,
            _ = interrupt.recv() => break false,
            () = stop.0.notified() => break false,
            _ = hangup.recv() => { reload(&process).await; }
        }
    };
    process.serving.store(false, Ordering::Release);
    let clients = process.clients.load(Ordering::Relaxed);
    tracing::info!(clients, "stopping");
    process.events.note(Kind::Stopping, None, format!("{clients} clients"));
    for worker in &workers {
        worker.drain();
    }
    if gently {
        let drain = process.live.current().timeouts.drain;
        let deadline = clock::now().plus(drain);
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while process.clients.load(Ordering::Acquire) > 0 && clock::now() < deadline {
            tokio::select! {
                _ = tick.tick() => {}
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
    }
    for worker in workers {
        worker.stop();
    }
    // Nobody may be listening any more.
    let _ = shutdown.send(true);
    Ok(())
}

struct Listeners {
    postgres: Vec<TcpListener>,
    mysql: Vec<TcpListener>,
    http: Option<TcpListener>,
}

async fn bind(listen: &Listen) -> Result<Listeners, StartError> {
    let open = async |address: SocketAddr| {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    let mut postgres = Vec::new();
    if let Some(address) = listen.postgres {
        postgres.push(open(address).await.map_err(|error| StartError::Listen { address, error })?);
    }
    let mut mysql = Vec::new();
    if let Some(address) = listen.mysql {
        mysql.push(open(address).await.map_err(|error| StartError::Listen { address, error })?);
    }
    let http = match listen.http {
        Some(address) => Some(open(address).await.map_err(|error| StartError::Listen { address, error })?),
        None => None,
    };
    Ok(Listeners { postgres, mysql, http })
}

fn load_tls(listen: &Listen) -> Result<Option<ListenerTls>, StartError> {
    Ok(match &listen.tls {
        Some(tls) => Some(ListenerTls::load(&tls.cert, &tls.key)?),
        None => None,
    })
}

/// Computes what passwords are recognized by, so that the first login takes no longer than the next.
fn warm(process: &Arc<Process>, map: &Arc<ShardMap>) {
    let (verifiers, map) = (Arc::clone(&process.verifiers), Arc::clone(map));
    tokio::task::spawn_blocking(move || {
        verifiers.warm(map.users.values().chain(map.admins.values()).filter_map(|user| match &user.auth {
            UserAuth::Password(secret) => Some((&*user.name, secret)),
            UserAuth::Trust => None,
        }));
    });
}

/// Hands every new client to the worker with the fewest.
async fn accept(listener: TcpListener, engine: Engine, process: Arc<Process>, workers: Vec<worker::Handle>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                // Out of file descriptors, most likely: the next attempt would fail at once.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if !process.serving.load(Ordering::Acquire) {
            continue;
        }
        if let Some(worker) = workers.iter().min_by_key(|worker| worker.clients()) {
            worker.take(stream, engine).await;
        }
    }
}

/// Takes up a new map whenever the file changes.
async fn watch_map(process: Arc<Process>) {
    let mut watch = match Watch::new(process.live.path()) {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!(%error, "the map's file cannot be watched: SIGHUP and RELOAD still work");
            return;
        }
    };
    while watch.changed().await {
        reload(&process).await;
    }
}

/// Ends what a former map had running, once whoever had just begun had time to choose nodes by it. Whoever is in a
/// longer transaction goes on with what was known then.
async fn end_later(former: Arc<Deployment>, process: Arc<Process>) {
    tokio::time::sleep(FORMER_KEPT).await;
    let current = process.current.load();
    for (name, service) in &former.services {
        let newer = current.services.get(name);
        if !newer.is_some_and(|newer| Arc::ptr_eq(newer, service)) {
            service.end(newer.map(Arc::as_ref));
        }
    }
}

/// Reads the map again and puts it in force if everything about it holds.
pub async fn reload(process: &Arc<Process>) -> Outcome {
    let was_rejected = process.live.rejected().is_some();
    let outcome = process
        .live
        .reload(async |old, new, _change| {
            let addresses = |it: &Listen| (it.postgres, it.mysql, it.http);
            if addresses(&new.listen) != addresses(&old.listen) {
                return Err(
                    "listen: addresses change with a restart only\nPut them back, or restart shardway.".to_owned()
                );
            }
            let tls = load_tls(&new.listen).map_err(|error| error.to_string())?;
            let before = process.current.load();
            let around =
                deploy::Around { cancels: &process.cancels, kills: &process.mysql_kills, fence: &process.fence };
            let (map, services) = deploy::start(&new, Some(&before), around).await?;
            process.tls.store(Arc::new(tls));
            let mut map = map;
            map.version = old.version + 1;
            let map = Arc::new(map);
            warm(process, &map);
            let wanted = deploy::pool_keys(&services);
            process.current.swap(Deployment { map: Arc::clone(&map), services });
            tasks::shared("former map", end_later(before, Arc::clone(process)));
            let is_wanted =
                |key: &PoolKey| wanted.contains(&(Arc::clone(&key.host), key.port, Arc::clone(&key.database)));
            process.pools.retire(is_wanted);
            process.mysql_pools.retire(is_wanted);
            Ok((*map).clone())
        })
        .await;
    match &outcome {
        Outcome::Swapped { version, warnings, .. } => {
            tracing::info!(version, "a new map is in force");
            process.events.note(Kind::Reloaded, None, format!("map version {version}"));
            warn(warnings);
        }
        Outcome::Unchanged if was_rejected => tracing::info!("the file is the map in force again"),
        Outcome::Unchanged => tracing::debug!("the map's file says what is in force"),
        Outcome::Rejected { text } => {
            tracing::error!("the map's file was rejected; nothing changed\n{text}");
            process.events.note(Kind::Rejected, None, text.trim_end());
        }
    }
    outcome
}

/// Has averages of SHOW STATS be those of the latest period.
async fn periods(clients: Arc<Clients>) {
    let mut every = tokio::time::interval(PERIOD);
    loop {
        every.tick().await;
        clients.end_period();
    }
}

/// Logs what to look at in a map that is served all the same.
fn warn(warnings: &[Warning]) {
    for warning in warnings {
        tracing::warn!("{}", mistake::render(std::slice::from_ref(warning)).trim_end());
    }
}

/// How long a period is that averages are taken of.
const PERIOD: Duration = Duration::from_secs(60);

/// How long a former map's monitors go on. Each holds a connection to its server.
const FORMER_KEPT: Duration = Duration::from_secs(2);

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
