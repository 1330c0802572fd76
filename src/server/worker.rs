//! One thread that serves clients: a current-thread runtime, its sessions, its share of the server connections.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;

use crate::admin;
use crate::backend::mysql;
use crate::backend::pool::WorkerPools;
use crate::clock;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::Deployment;
use crate::net::Stream;
use crate::plan::Planner;
use crate::server::Process;
use crate::session::Session;
use crate::session::Worker;
use crate::session::engine::Engines;
use crate::session::leaving::Leave;
use crate::session::leaving::Leaving;
use crate::session::login;
use crate::session::login::Arrival;
use crate::session::login::Entrance;
use crate::session::mysql::Session as MysqlSession;
use crate::session::mysql::login as mysql_login;
use crate::shard_map::Engine;
use crate::shard_map::UserAuth;
use crate::tasks;
use crate::wire::postgres::backend as reply;
use crate::wire::postgres::backend::Severity;

/// What the accepting thread knows of a worker.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    clients: Arc<AtomicUsize>,
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Serve(std::net::TcpStream, Engine),
    Leave(Leave),
    Stop,
}

/// Clients that may wait for a worker's attention.
const ORDERS_MAX: usize = 1024;

/// Templates that a worker keeps.
const TEMPLATES_MAX: usize = 10_000;

/// The name of the console's database.
const CONSOLE: &str = "shardway";

impl Handle {
    pub(super) fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    pub(super) async fn take(&self, stream: TcpStream, engine: Engine) {
        match stream.into_std() {
            Ok(stream) => {
                self.clients.fetch_add(1, Ordering::Relaxed);
                if self.orders.send(Order::Serve(stream, engine)).await.is_err() {
                    self.clients.fetch_sub(1, Ordering::Relaxed);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot hand a client to a worker"),
        }
    }

    pub(super) fn drain(&self) {
        // A full queue is full of clients who are turned away anyway.
        let _ = self.orders.try_send(Order::Leave(Leave::Now));
    }

    /// Has sessions end so, behind all that it was told before.
    pub(super) async fn leave(&self, when: Leave) {
        // An error means that none are left.
        let _ = self.orders.send(Order::Leave(when)).await;
    }

    pub(super) fn stop(&self) {
        let _ = self.orders.try_send(Order::Stop);
    }
}

/// Starts `count` workers.
pub(super) fn start_all(process: &Arc<Process>, count: usize) -> io::Result<Vec<Handle>> {
    (0..count.max(1))
        .map(|number| {
            let (orders, queue) = mpsc::channel(ORDERS_MAX);
            let clients = Arc::new(AtomicUsize::new(0));
            let handle = Handle { clients: Arc::clone(&clients), orders };
            let process = Arc::clone(process);
            thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        tracing::error!(%error, "a worker cannot start");
                        return;
                    }
                };
                runtime.block_on(work(process, clients, queue));
            })?;
            Ok(handle)
        })
        .collect()
}

async fn work(process: Arc<Process>, clients: Arc<AtomicUsize>, mut orders: mpsc::Receiver<Order>) {
    let pools = WorkerPools::start(Arc::clone(&process.pools));
    let mysql_pools = mysql::WorkerPools::start(Arc::clone(&process.mysql_pools));
    let worker = Rc::new(Worker {
        current: Arc::clone(&process.current),
        pools: Rc::clone(&pools),
        mysql_pools: Rc::clone(&mysql_pools),
        planner: RefCell::new(Planner::new(TEMPLATES_MAX)),
        engines: Engines::default(),
        registry: Arc::clone(&process.registry),
        blocks: Arc::clone(&process.blocks),
        counters: Arc::clone(&process.counters),
        directories: Arc::clone(&process.directories),
        cancels: Arc::clone(&process.cancels),
        kills: Arc::clone(&process.mysql_kills),
        clients: Arc::clone(&process.present),
        facts: RefCell::new(HashMap::new()),
        leaving: Leaving::default(),
    });
    tasks::local("pool upkeep", async move {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        loop {
            every.tick().await;
            pools.tidy();
            mysql_pools.tidy();
        }
    });
    while let Some(order) = orders.recv().await {
        match order {
            Order::Serve(stream, engine) => {
                let (process, worker, clients) = (Arc::clone(&process), Rc::clone(&worker), Arc::clone(&clients));
                tasks::local("session", async move {
                    let _present = Present::new(&process, clients);
                    match engine {
                        Engine::Postgres => meet(stream, &process, worker).await,
                        Engine::Mysql => Box::pin(meet_mysql(stream, &process, worker)).await,
                    }
                });
            }
            Order::Leave(when) => worker.leaving.set(when),
            Order::Stop => return,
        }
    }
}

/// Counts a client while it is there.
struct Present {
    process: Arc<Process>,
    clients: Arc<AtomicUsize>,
}

impl Present {
    fn new(process: &Arc<Process>, clients: Arc<AtomicUsize>) -> Self {
        process.clients.fetch_add(1, Ordering::AcqRel);
        Self { process: Arc::clone(process), clients }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.process.clients.fetch_sub(1, Ordering::AcqRel);
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// From a new connection to the end of its session.
async fn meet(stream: std::net::TcpStream, process: &Arc<Process>, worker: Rc<Worker>) {
    let Some(served) = Box::pin(admit(stream, process, worker)).await else { return };
    match served {
        Served::Session(session) => session.serve().await,
        Served::Console(console) => Box::pin(console).await,
    }
}

/// The same in MySQL's protocol.
async fn meet_mysql(stream: std::net::TcpStream, process: &Arc<Process>, worker: Rc<Worker>) {
    let stream = match TcpStream::from_std(stream).and_then(Stream::tcp) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "a client went away before it was met");
            return;
        }
    };
    let deployment = process.current.load();
    let map = &deployment.map;
    let tls = process.tls.load();
    let users = |user: &str| -> Option<UserAuth> { map.users.get(user).map(|it| it.auth.clone()) };
    let version = version_of(&deployment);
    let entrance = mysql_login::Entrance {
        tls: (**tls).as_ref(),
        tls_required: map.listen.tls.as_ref().is_some_and(|tls| tls.require),
        users: &users,
        version: &version,
        connection: process.mysql_kills.number(),
        deadline: clock::now().plus(map.timeouts.login),
    };
    let arrival = match mysql_login::login(stream, &entrance).await {
        Ok(arrival) => arrival,
        Err(error) => {
            tracing::debug!(%error, "a login came to nothing");
            return;
        }
    };
    let crowded = process.clients.load(Ordering::Acquire) > map.limits.clients;
    if let Some(session) = MysqlSession::start(worker, &deployment, arrival, crowded).await {
        Box::new(session).serve().await;
    }
}

/// What clients take the servers for: the version of those that the schema was read from.
fn version_of(deployment: &Deployment) -> String {
    let mysql = deployment.services.values().filter(|it| it.database.engine == Engine::Mysql);
    let server = mysql.filter_map(|it| it.schema.current()).find_map(|it| it.mysql.clone());
    let version = server.map_or_else(|| USUAL_VERSION.to_owned(), |it| it.version.to_string());
    // So do MariaDB's own servers, for clients that know of no version beyond 5.
    if version.contains("MariaDB") { format!("5.5.5-{version}") } else { version }
}

/// What clients are told while no server has been reached.
const USUAL_VERSION: &str = "10.11.0-MariaDB";

enum Served {
    Session(Box<Session>),
    Console(std::pin::Pin<Box<dyn Future<Output = ()>>>),
}

async fn admit(stream: std::net::TcpStream, process: &Arc<Process>, worker: Rc<Worker>) -> Option<Served> {
    let stream = match TcpStream::from_std(stream).and_then(Stream::tcp) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "a client went away before it was met");
            return None;
        }
    };
    let deployment = process.current.load();
    let map = &deployment.map;
    let tls = process.tls.load();
    let users = |user: &str, database: &str| -> Option<UserAuth> {
        let found = if database == CONSOLE { map.admins.get(user) } else { map.users.get(user) };
        found.map(|user| user.auth.clone())
    };
    let entrance = Entrance {
        tls: (**tls).as_ref(),
        tls_required: map.listen.tls.as_ref().is_some_and(|tls| tls.require),
        verifiers: &process.verifiers,
        users: &users,
        deadline: clock::now().plus(map.timeouts.login),
    };
    match login::login(stream, &entrance).await {
        Ok(Arrival::Cancel { pid, key }) => {
            let connect = map.timeouts.connect;
            if worker.cancels.cancel(pid, &key, connect).await {
                return None;
            }
            let formers = process.formers.get();
            let done = match formers {
                Some(formers) => Box::pin(formers.cancel(pid, &key)).await,
                None => false,
            };
            if !done {
                Box::pin(worker.cancels.pass_on(pid, &key, connect)).await;
            }
            None
        }
        Ok(Arrival::Client(mut arrival)) => {
            if process.clients.load(Ordering::Acquire) > map.limits.clients {
                let mut message = Vec::new();
                let error = ClientError::new(
                    Code::TooManyClients,
                    "sorry, too many clients already",
                    "Raise limits.clients in the shard map, or close connections.",
                );
                reply::error(&mut message, Severity::Fatal, &error);
                // The client may be gone: it is turned away either way.
                let _ = tokio::io::AsyncWriteExt::write_all(&mut arrival.stream, &message).await;
                return None;
            }
            if arrival.database == CONSOLE {
                let process = Arc::clone(process);
                return Some(Served::Console(Box::pin(admin::console::serve(
                    arrival,
                    process,
                    worker.cancels.ticket(),
                ))));
            }
            Session::start(worker, &deployment, arrival).await.map(|session| Served::Session(Box::new(session)))
        }
        Err(error) => {
            tracing::debug!(%error, "a login came to nothing");
            None
        }
    }
}
