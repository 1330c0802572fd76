//! Builds everything: the map, its databases, listeners, workers; takes up new maps; stops.
//!
//! One thread accepts and runs what is not on a statement's path (monitors, schema, reload, HTTP); every core has a
//! worker of its own with a current-thread runtime, which owns its clients and its share of the server connections.

mod deploy;
pub mod fleet;
pub mod log;
pub mod offline;
mod takeover;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::admin;
use crate::admin::Standing;
use crate::backend::PoolKey;
use crate::backend::Pools;
use crate::backend::mysql;
use crate::clock;
use crate::exec::Current;
use crate::exec::Deployment;
use crate::exec::clients::Clients;
use crate::fleet::Fleet;
use crate::fleet::etcd::Etcd;
use crate::net::ListenerTls;
use crate::session::cancel::Cancels;
use crate::session::leaving::Leave;
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
use crate::shard_map::live::Adjust;
use crate::shard_map::live::Live;
use crate::shard_map::live::Outcome;
use crate::shard_map::live::ProcessEnvironment;
use crate::shard_map::live::Watch;
use crate::shard_map::mistake;
use crate::tasks;
use crate::topology::Fence;
use crate::topology::events::Events;
use crate::topology::events::Kind;
use crate::topology::lead::mandate::Mandate;

use self::takeover::Door;
use self::takeover::Front;
use self::takeover::Predecessor;
use self::takeover::Socket;

/// What `serve` was asked for.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The map's file, or its place in etcd.
    pub map: PathBuf,
    /// How many worker threads; `None`: one for two cores.
    pub workers: Option<usize>,
    /// Whether it takes over from the process that serves.
    pub takeover: bool,
    /// Where processes take over from each other; `None`: beside the map.
    pub takeover_socket: Option<PathBuf>,
    /// Where to listen instead of where the map says.
    pub listen: ListenAt,
    /// The host that other proxies reach this one at; `None`: where it listens.
    pub advertise: Option<String>,
    /// Where a copy of a map in etcd is kept.
    pub map_copy: Option<PathBuf>,
}

impl Settings {
    fn door(&self) -> PathBuf {
        self.takeover_socket.clone().unwrap_or_else(|| {
            let mut beside = self.map.clone().into_os_string();
            beside.push(".takeover");
            beside.into()
        })
    }
}

/// Where one proxy of several that share a map listens; what the map does not listen on is not listened on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListenAt {
    /// For `listen.postgres`.
    pub postgres: Option<SocketAddr>,
    /// For `listen.mysql`.
    pub mysql: Option<SocketAddr>,
    /// For `listen.http`.
    pub http: Option<SocketAddr>,
}

impl ListenAt {
    fn adjust(self, listen: &mut Listen) {
        let put = |at: &mut Option<SocketAddr>, other: Option<SocketAddr>| *at = at.map(|it| other.unwrap_or(it));
        put(&mut listen.postgres, self.postgres);
        put(&mut listen.mysql, self.mysql);
        put(&mut listen.http, self.http);
    }
}

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The map has mistakes: their rendered text.
    #[error("{0}")]
    Map(String),
    /// etcd, where the map is, does not give it.
    #[error("{0}")]
    Fleet(String),
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
    /// The process that serves goes on, or nobody could take over from this one.
    #[error("takeover: {0}")]
    Takeover(String),
    /// The system does not play along.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What all parts of the process share.
pub struct Process {
    /// The deployment in force.
    pub current: Arc<Current>,
    /// The map, and where it comes from.
    pub live: Live,
    /// The others that serve the same map, if it is in etcd.
    pub fleet: Option<Arc<Fleet>>,
    /// All pools.
    pub pools: Arc<Pools>,
    /// All pools of MySQL's servers.
    pub mysql_pools: Arc<mysql::Pools>,
    /// Ends them where a server must not be used any more.
    fence: Arc<dyn Fence>,
    /// Whether this process may lead failovers.
    mandate: Arc<Mandate>,
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
    /// Whose the addresses are.
    pub standing: Post,
    /// The processes that this one has taken over from.
    pub formers: OnceLock<Arc<takeover::Formers>>,
}

/// What this process is to the addresses, and so to the others that serve them.
#[derive(Debug)]
pub struct Post {
    standing: watch::Sender<Standing>,
    /// Of those that serve the same servers side by side, one leads failovers.
    leads: watch::Sender<bool>,
}

impl Post {
    fn new(standing: Standing) -> Self {
        Self { standing: watch::Sender::new(standing), leads: watch::Sender::new(standing == Standing::Serving) }
    }

    /// Whether it was `from`; then it is `to` now.
    fn change(&self, from: Standing, to: Standing) -> bool {
        let changed = self.standing.send_if_modified(|it| {
            let changes = *it == from;
            if changes {
                *it = to;
            }
            changes
        });
        if changed {
            self.leads.send_replace(to == Standing::Serving);
        }
        changed
    }

    fn now(&self) -> Standing {
        *self.standing.borrow()
    }
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

    fn fleet(&self) -> Vec<(String, String)> {
        self.fleet.as_ref().map(|it| fleet::told(it)).unwrap_or_default()
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

    fn standing(&self) -> Standing {
        self.standing.now()
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
    let at = settings.listen;
    let adjust: Adjust = Box::new(move |map| at.adjust(&mut map.listen));
    let etcd = fleet::place_of(&settings.map).map_err(StartError::Fleet)?.map(Etcd::patient);
    let mut to_copy = None;
    let (loaded, from_etcd) = match &etcd {
        None => (Live::load(&settings.map, Box::new(ProcessEnvironment), adjust), true),
        Some(etcd) => {
            let (edition, from_etcd) = fleet::begin(etcd, settings.map_copy.as_deref()).await?;
            log::start_by(&edition.text);
            if !from_etcd {
                tracing::error!(
                    place = %etcd.place(),
                    version = edition.version,
                    "etcd does not answer: serving by the copy of the map, which may not be the latest"
                );
            }
            to_copy = from_etcd.then(|| edition.clone());
            let place = PathBuf::from(etcd.place().to_string());
            (Live::given(&place, edition, Box::new(ProcessEnvironment), adjust), from_etcd)
        }
    };
    let (live, warnings) = loaded.map_err(|mistakes| StartError::Map(mistake::render(&mistakes)))?;
    warn(&warnings);
    let map = live.current();
    if settings.takeover && settings.takeover_socket.is_none() && etcd.is_some() {
        let why = "a map in etcd has no file that a socket could be beside: say where it is, --takeover-socket FILE";
        return Err(StartError::Takeover(why.to_owned()));
    }
    let predecessor = if settings.takeover { Predecessor::meet(&settings.door()).await? } else { None };
    if settings.takeover && predecessor.is_none() {
        tracing::info!(at = %settings.door().display(), "there is nobody to take over from");
    }
    let mut sockets = bind(&map.listen, predecessor.as_ref())?;
    let standing = Post::new(if predecessor.is_some() { Standing::Coming } else { Standing::Serving });
    let leads = standing.leads.subscribe();
    let tls = load_tls(&map.listen)?;
    let (shutdown, stopping) = watch::channel(false);
    let (http_ends, http_stopping) = watch::channel(false);
    let mandate = if etcd.is_some() { Mandate::shared() } else { Mandate::alone() };
    let fleet = match etcd {
        None => None,
        Some(etcd) => {
            let own = fleet::own(&etcd, settings, &map.listen, map.version).await;
            let fleet = Fleet::new(etcd.impatient(), own, Arc::clone(&mandate), leads.clone());
            tasks::shared("fleet", Arc::clone(&fleet).run(stopping.clone()));
            if from_etcd && !fleet.joined(JOINED_MAX).await {
                let why = format!("{} has not taken this proxy in within {JOINED_MAX:?}", fleet.etcd().place());
                return Err(StartError::Fleet(why));
            }
            Some(fleet)
        }
    };
    let cancels: Arc<Cancels> = Arc::default();
    if let Some(fleet) = &fleet {
        cancels.share(Box::new(fleet::Others(fleet.seen())));
    }
    let mysql_kills: Arc<crate::session::mysql::kill::Kills> = Arc::default();
    let (pools, mysql_pools): (Arc<Pools>, Arc<mysql::Pools>) = Default::default();
    let fence: Arc<dyn Fence> =
        Arc::new(Connections { pools: Arc::clone(&pools), mysql_pools: Arc::clone(&mysql_pools) });
    let starting = async {
        let around =
            deploy::Around { cancels: &cancels, kills: &mysql_kills, fence: &fence, leads: &leads, mandate: &mandate };
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
    if let (Some(fleet), Some(edition)) = (&fleet, &to_copy) {
        fleet::write_copy(settings.map_copy.as_deref(), edition, fleet.etcd().place());
    }
    let process = Arc::new(Process {
        current: Arc::new(Current::new(Deployment { map: live.current(), services })),
        live,
        fleet,
        pools,
        mysql_pools,
        fence,
        mandate,
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
        standing,
        formers: OnceLock::new(),
    });
    warm(&process, &map);
    let count = settings.workers.unwrap_or_else(|| {
        // The kernel's part of the work, the larger one, is done on the other half; docs/decisions/runtimes.md has figures.
        std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
    });
    let workers = worker::start_all(&process, count)?;
    let mut former = None;
    if let Some(predecessor) = &predecessor {
        let taken = async {
            ready(&process).await?;
            predecessor.hand_over().await
        };
        let taken = tokio::select! {
            taken = taken => taken?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = stop.0.notified() => return Ok(()),
        };
        let formers = Arc::new(taken.formers);
        process.mysql_kills.succeed(taken.number, Arc::<takeover::Formers>::clone(&formers));
        // It was empty.
        let _ = process.formers.set(formers);
        sockets.extend(taken.sockets.into_iter().filter(|it| is_wanted(&map.listen, it.front, it.address)));
        former = Some(taken.pid);
    }
    // Who comes is let in before the former process hears of it: one of the two always does.
    let held = takeover::held(&sockets)?;
    let mut accepting = Vec::new();
    for Socket { front, listener, .. } in sockets {
        let engine = match front {
            Front::Postgres => Engine::Postgres,
            Front::Mysql => Engine::Mysql,
            Front::Http => {
                let standing = process.standing.standing.subscribe();
                let http =
                    admin::http::serve(listener, Arc::<Process>::clone(&process), standing, http_stopping.clone());
                tasks::shared("http", http);
                continue;
            }
        };
        let accept = accept(listener, engine, Arc::clone(&process), workers.clone());
        accepting.push(tasks::shared("accept", accept));
    }
    if let Some(predecessor) = predecessor {
        predecessor.taken().await?;
        process.standing.change(Standing::Coming, Standing::Serving);
    }
    let (door, mut successor) = match Door::open(&settings.door(), &process, held, former.is_some()).await {
        Ok((door, successor)) => (Some(door), successor),
        Err(error) if settings.takeover_socket.is_some() && former.is_none() => {
            return Err(StartError::Takeover(format!("{}: {error}", settings.door().display())));
        }
        Err(error) => {
            let at = settings.door();
            tracing::info!(at = %at.display(), %error, "no process can take over from this one (--takeover-socket)");
            (None, mpsc::channel(1).1)
        }
    };
    match &process.fleet {
        None => drop(tasks::shared("map watch", watch_map(Arc::clone(&process)))),
        Some(fleet) => fleet::start(&process, fleet, settings.map_copy.clone(), &stopping),
    }
    tasks::shared("periods", periods(Arc::clone(&process.present)));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        map = %process.live.path().display(),
        listen = map.listen.postgres.map(tracing::field::display),
        mysql = map.listen.mysql.map(tracing::field::display),
        workers = count,
        former,
        "serving"
    );
    let before = former.map(|pid| format!(", after process {pid}")).unwrap_or_default();
    process.events.note(Kind::Serving, None, format!("shardway {}{before}", env!("CARGO_PKG_VERSION")));
    let why = loop {
        tokio::select! {
            _ = terminate.recv() => break Stopping::Gently,
            _ = interrupt.recv() => break Stopping::AtOnce,
            () = stop.0.notified() => break Stopping::AtOnce,
            Some(pid) = successor.recv() => break Stopping::Former(pid),
            _ = hangup.recv() => { reload(&process).await; }
        }
    };
    let clients = process.clients.load(Ordering::Relaxed);
    let drain = process.live.current().timeouts.drain;
    let begun = clock::now();
    match why {
        Stopping::Former(pid) => {
            tracing::info!(
                clients,
                successor = pid,
                "another process has taken over; who is here is served until they leave"
            );
            process.events.note(Kind::Stopping, None, format!("process {pid} has taken over; {clients} clients"));
            // All that came here are with the workers by then.
            for it in accepting {
                let _ = it.await;
            }
            for worker in &workers {
                worker.leave(Leave::Between(begun.plus(drain / 2), begun.plus(drain * 3 / 4))).await;
            }
            process.pools.wane();
            process.mysql_pools.wane();
        }
        Stopping::Gently | Stopping::AtOnce => {
            process.serving.store(false, Ordering::Release);
            // Who was to take over has the sockets already, and lets in who comes.
            process.standing.change(Standing::Handing, Standing::Former);
            tracing::info!(clients, "stopping");
            process.events.note(Kind::Stopping, None, format!("{clients} clients"));
            workers.iter().for_each(worker::Handle::drain);
        }
    }
    if why != Stopping::AtOnce {
        let mut patient = matches!(why, Stopping::Former(_));
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            let since = clock::now().since(begun);
            let are_there = workers.iter().any(|it| it.clients() > 0);
            if since >= drain || !are_there && (!patient || since >= HTTP_ENDS) {
                break;
            }
            // By now whoever was let in there has asked, and need not keep the connection for later.
            if patient && since >= HTTP_ENDS {
                http_ends.send_if_modified(|it| !std::mem::replace(it, true));
            }
            tokio::select! {
                _ = tick.tick() => {}
                _ = terminate.recv() => {
                    if !std::mem::take(&mut patient) {
                        break;
                    }
                    workers.iter().for_each(worker::Handle::drain);
                }
                _ = interrupt.recv() => break,
            }
        }
    }
    tracing::info!(clients = process.clients.load(Ordering::Relaxed), "stopped");
    for worker in workers {
        worker.stop();
    }
    if let Some(door) = door.filter(|_| process.standing.now() != Standing::Former) {
        door.close();
    }
    // Nobody may be listening any more.
    let _ = (http_ends.send(true), shutdown.send(true));
    if let Some(fleet) = &process.fleet {
        fleet.left(LEFT_MAX).await;
    }
    Ok(())
}

/// Why a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    /// SIGTERM.
    Gently,
    /// SIGINT.
    AtOnce,
    /// That process has taken over.
    Former(u32),
}

/// Waits until clients can be served.
async fn ready(process: &Arc<Process>) -> Result<(), StartError> {
    let deadline = clock::now().plus(READY_MAX);
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        let missing = admin::missing(&**process);
        if missing.is_empty() {
            return Ok(());
        }
        if clock::now() > deadline {
            let missing = missing.join("\n");
            return Err(StartError::Takeover(format!(
                "this process is not ready, and the running one goes on\n{missing}"
            )));
        }
    }
}

/// The addresses that the map has clients come to.
fn addresses(listen: &Listen) -> impl Iterator<Item = (Front, SocketAddr)> {
    [(Front::Postgres, listen.postgres), (Front::Mysql, listen.mysql), (Front::Http, listen.http)]
        .into_iter()
        .filter_map(|(front, address)| Some((front, address?)))
}

fn is_wanted(listen: &Listen, front: Front, address: SocketAddr) -> bool {
    addresses(listen).any(|it| it == (front, address))
}

/// Listens where the process that is taken over from does not.
fn bind(listen: &Listen, predecessor: Option<&Predecessor>) -> Result<Vec<Socket>, StartError> {
    let open = |address: SocketAddr| {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    addresses(listen)
        .filter(|(front, address)| !predecessor.is_some_and(|it| it.offers(*front, *address)))
        .map(|(front, address)| {
            let listener = open(address).map_err(|error| StartError::Listen { address, error })?;
            Ok(Socket { front, address, listener })
        })
        .collect()
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

/// Hands every new client to the worker with the fewest, until another process takes over.
async fn accept(listener: TcpListener, engine: Engine, process: Arc<Process>, workers: Vec<worker::Handle>) {
    let mut standing = process.standing.standing.subscribe();
    let mut former = pin!(standing.wait_for(|it| *it == Standing::Former));
    loop {
        let came = tokio::select! {
            came = listener.accept() => came,
            _ = &mut former => return,
        };
        let stream = match came {
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
    // It may have been saved since this process read it.
    reload(&process).await;
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
    let rejected = process.live.rejected();
    let was_rejected = rejected.is_some();
    let outcome = process
        .live
        .reload(async |old, new, _change| {
            let addresses = |it: &Listen| (it.postgres, it.mysql, it.http);
            if addresses(&new.listen) != addresses(&old.listen) {
                return Err(
                    "listen: addresses change with a restart only\nPut them back, or restart shardway (with --takeover).".to_owned()
                );
            }
            let tls = load_tls(&new.listen).map_err(|error| error.to_string())?;
            let (before, version) = (process.current.load(), new.version);
            let around = deploy::Around {
                cancels: &process.cancels,
                kills: &process.mysql_kills,
                fence: &process.fence,
                leads: &process.standing.leads.subscribe(),
                mandate: &process.mandate,
            };
            let (map, services) = deploy::start(&new, Some(&before), around).await?;
            process.tls.store(Arc::new(tls));
            let mut map = map;
            map.version = version;
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
        // In a fleet it is tried again and again.
        Outcome::Rejected { .. } if was_rejected && process.live.rejected() == rejected => {
            tracing::warn!("the map is rejected as before; nothing changed");
        }
        Outcome::Rejected { text } => {
            tracing::error!("the map was rejected; nothing changed\n{text}");
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

/// How long the former process goes on answering HTTP on connections that it has, once another has taken over.
const HTTP_ENDS: Duration = Duration::from_secs(1);

/// How long a process that takes over may take to be ready, once it has started.
const READY_MAX: Duration = Duration::from_secs(30);

/// How long a former map's monitors go on. Each holds a connection to its server.
const FORMER_KEPT: Duration = Duration::from_secs(2);

/// How long etcd may take to let a proxy go.
const LEFT_MAX: Duration = Duration::from_secs(1);

/// How long etcd may take to take a proxy in.
const JOINED_MAX: Duration = Duration::from_secs(10);

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
