//! `shardway demo`: a cluster, a proxy before it, a shop loaded through the proxy, and something to try.
//!
//! The proxy itself is handed in, so that nothing here depends on how it is built.

mod mysql;
mod progress;
mod shop;

use std::fmt::Write as _;
use std::fs;
use std::future::Future;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::timeout;

use super::AtEnd;
use super::Cluster;
use super::ClusterError;
use super::ClusterSpec;
use super::Listeners;
use super::MadeAs;
use super::Ports;
use super::client::Client;
use super::client::SqlError;
use super::hold_port;
use super::process::until;
use super::signals::Signals;
use mysql::Mysql;
use progress::Progress;

/// The proxy's port, unless the options name another.
const PORT: u16 = 6432;
/// The proxy's port for clients of MySQL, when `--port` is the usual one.
const MYSQL_PORT: u16 = 6433;
/// The proxy's HTTP port, when `--port` is the usual one.
const HTTP_PORT: u16 = 6480;
/// The first node's port, when `--port` is the usual one.
const NODE_PORTS: u16 = 6501;
/// The shop's user, its database, and the console's.
const USER: &str = "demo";
const DATABASE: &str = "shop";
const CONSOLE: &str = "shardway";
/// The map's file name in the cluster's folder.
const MAP_FILE: &str = "shard-map.yaml";
/// How long the proxy may take to answer, and to end.
const PROXY_MAX: Duration = Duration::from_secs(60);
/// How many transactions are on their way before their answers are read.
const TRANSACTIONS_AHEAD: u64 = 25;

/// Starts a sharded sample shop on this machine and a proxy before it; Ctrl-C removes everything.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoOptions {
    /// The folder for map and servers; a temporary one without.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// The port for Postgres clients. With another than the usual one, the servers take any free ports.
    #[arg(long, default_value_t = PORT)]
    pub port: u16,
    /// The port for MySQL clients, where MariaDB is installed [default: 6433 when --port is the usual one, else any free one].
    #[arg(long)]
    pub mysql_port: Option<u16>,
    /// The port for /healthz and /readyz [default: 6480 when --port is the usual one, else none].
    #[arg(long)]
    pub http_port: Option<u16>,
    /// The first of the servers' consecutive ports [default: 6501 when --port is the usual one, else any free ones].
    #[arg(long)]
    pub node_ports: Option<u16>,
    /// How many shards.
    #[arg(long, default_value_t = 2)]
    pub shards: usize,
    /// How many replicas each shard has.
    #[arg(long, default_value_t = 1)]
    pub replicas: usize,
    /// Keep the folder at the end; a start with the same --dir goes on with its rows and its map.
    #[arg(long, requires = "dir")]
    pub keep: bool,
}

impl DemoOptions {
    fn http_port(&self) -> Option<u16> {
        self.http_port.or_else(|| (self.port == PORT).then_some(HTTP_PORT))
    }

    /// The port for clients of MySQL; 0 for any that is free.
    fn mysql_port(&self) -> u16 {
        self.mysql_port.unwrap_or(if self.port == PORT { MYSQL_PORT } else { 0 })
    }

    fn node_ports(&self) -> Ports {
        match self.node_ports {
            Some(first) => Ports::From(first),
            None if self.port == PORT => Ports::From(NODE_PORTS),
            None => Ports::Free,
        }
    }
}

/// A proxy that was started for the demo.
pub struct Serving {
    /// Comes when the proxy has ended: asked to, or with the reason.
    pub ended: Pin<Box<dyn Future<Output = Result<(), String>> + Send>>,
    /// Asks the proxy to end, without waiting for clients.
    pub stop: Box<dyn FnOnce() + Send>,
}

/// Why the demo cannot go on.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("cannot write or print ({0})")]
    Io(#[from] io::Error),
    #[error("the kept map {} does not listen on 127.0.0.1:{port}: give {option} as it was then", path.display())]
    OtherPort { path: PathBuf, option: &'static str, port: u16 },
    #[error("the proxy ended: {0}")]
    ProxyEnded(String),
    #[error("the proxy did not answer on port {port} within {} s: {error}", PROXY_MAX.as_secs())]
    ProxySilent { port: u16, error: String },
    #[error("through the proxy, {statement}: {error}")]
    Statement { statement: String, error: SqlError },
}

impl DemoError {
    /// What to do about it, where that is not plain: a line more.
    fn advice(&self) -> &'static str {
        match self {
            Self::Cluster(ClusterError::PortTaken { .. }) => {
                "\nIs another demo running? With --port 7432 (make demo ARGS='--port 7432') all ports are others."
            }
            _ => "",
        }
    }
}

/// Runs the demo until SIGINT, SIGTERM, or a failure, and removes everything. `serve` starts a proxy with a map.
pub async fn demo(options: DemoOptions, serve: impl FnOnce(&Path) -> Serving) -> ExitCode {
    match run(&options, serve).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell when standard error is gone.
            let _ = writeln!(io::stderr(), "shardway demo: {error}{}", error.advice());
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &DemoOptions, serve: impl FnOnce(&Path) -> Serving) -> Result<(), DemoError> {
    let mut signals = Signals::listen()?;
    // Held until the servers run, so that a taken port is found before anything is made.
    let held = [Some(options.port), options.http_port()].into_iter().flatten().map(hold_port);
    let held: Vec<_> = held.collect::<Result<_, _>>()?;
    let for_mysql = hold_port(options.mysql_port())?;
    let mysql_port = for_mysql.local_addr()?.port();
    let progress = Progress::step(&format!("starting {} Postgres servers", options.shards * (1 + options.replicas)));
    let spec = ClusterSpec {
        dir: options.dir.clone(),
        shards: options.shards,
        replicas: options.replicas,
        ports: options.node_ports(),
        database: DATABASE.to_owned(),
        user: USER.to_owned(),
        at_end: if options.keep { AtEnd::Keep } else { AtEnd::Remove },
        ..ClusterSpec::default()
    };
    let cluster = tokio::select! {
        cluster = Cluster::start(spec) => cluster?,
        () = signals.any() => return Ok(()),
    };
    progress.done();
    let mysql = tokio::select! {
        mysql = Mysql::start(options, &cluster, mysql_port) => mysql?,
        () = signals.any() => return Ok(()),
    };
    drop((held, for_mysql));
    let map = write_map(&cluster, mysql.as_ref(), options)?;

    let Serving { mut ended, stop } = serve(&map);
    let mut running = true;
    let outcome = tokio::select! {
        outcome = show(&cluster, mysql.as_ref(), options, &map) => outcome,
        outcome = &mut ended => { running = false; proxy_ended(outcome) }
        () = signals.any() => Ok(()),
    };
    if running {
        stop();
        // The proxy goes before its servers, or it would spend its last moments in reporting them dead.
        if timeout(PROXY_MAX, ended).await.is_err() {
            tracing::warn!("the proxy did not end in time");
        }
    }
    let progress = Progress::step("stopping");
    if let Some(mysql) = mysql {
        mysql.cluster.stop().await?;
    }
    cluster.stop().await?;
    progress.done();
    outcome
}

/// A signal reaches the proxy too, which may be the first to say so: then it ends in order.
fn proxy_ended(outcome: Result<(), String>) -> Result<(), DemoError> {
    outcome.map_err(DemoError::ProxyEnded)
}

/// Writes the map, unless the folder is a kept one that has its own.
fn write_map(cluster: &Cluster, mysql: Option<&Mysql>, options: &DemoOptions) -> Result<PathBuf, DemoError> {
    let path = cluster.dir().join(MAP_FILE);
    if cluster.resumed() && path.exists() {
        let text = fs::read_to_string(&path)?;
        let wanted = [Some(("--port", options.port)), mysql.map(|it| ("--mysql-port", it.port))];
        for (option, port) in wanted.into_iter().flatten() {
            if !text.contains(&format!("127.0.0.1:{port}")) {
                return Err(DemoError::OtherPort { path, option, port });
            }
        }
        return Ok(path);
    }
    let listeners =
        Listeners { postgres: options.port, mysql: mysql.map_or(MYSQL_PORT, |it| it.port), http: options.http_port() };
    fs::write(&path, cluster.map_yaml_beside(mysql.map(|it| &it.cluster), listeners))?;
    Ok(path)
}

/// Loads the shop, says what there is, and waits for ever.
async fn show(cluster: &Cluster, mysql: Option<&Mysql>, options: &DemoOptions, map: &Path) -> Result<(), DemoError> {
    let progress = Progress::step("starting the proxy");
    let mut client = connect(options.port).await?;
    progress.done();
    let primary = cluster.primaries().next().map(|node| node.value(DATABASE, "SELECT to_regclass('settings')"));
    let loaded = match primary {
        Some(answer) => answer.await?.is_some(),
        None => false,
    };
    if !loaded {
        load(cluster, &mut client).await?;
    }
    drop(client);
    if let Some(mysql) = mysql {
        mysql.load().await?;
    }
    let mut out = io::stdout().lock();
    out.write_all(welcome(cluster, mysql, options, map).as_bytes())?;
    out.flush()?;
    drop(out);
    std::future::pending().await
}

/// Waits until the proxy answers a statement.
async fn connect(port: u16) -> Result<Client, DemoError> {
    let mut last = Err(SqlError::Connection(io::ErrorKind::TimedOut.into()));
    let answers = until(PROXY_MAX, async || {
        last = async {
            let mut client = Client::connect(port, USER, DATABASE).await?;
            client.query("SELECT 1").await?;
            Ok(client)
        }
        .await;
        last.is_ok()
    });
    answers.await;
    last.map_err(|error| DemoError::ProxySilent { port, error: error.to_string() })
}

/// Makes the tables and their rows: all through the proxy, but for the rows of the reference table.
async fn load(cluster: &Cluster, client: &mut Client) -> Result<(), DemoError> {
    let failed = |statement: &str| {
        let statement = statement.to_owned();
        move |error| DemoError::Statement { statement, error }
    };
    let progress = Progress::step("creating the shop's tables");
    for table in shop::TABLES {
        client.query(table).await.map_err(failed(table))?;
    }
    progress.done();
    // Until writes of reference tables exist, each shard gets its copy past the proxy; the demo says so.
    for node in cluster.primaries() {
        node.value(DATABASE, &shop::countries()).await?;
    }
    let (copy, rows) = shop::SETTINGS;
    client.copy_in(copy, rows).await.map_err(failed(copy))?;

    for (name, insert) in shop::INSERTS {
        client.prepare(name, insert).await.map_err(failed(insert))?;
    }
    let progress = Progress::counted("loading customers and their orders", shop::CUSTOMERS);
    let mut next = 1;
    while next <= shop::CUSTOMERS {
        let batch = next..shop::CUSTOMERS.min(next + TRANSACTIONS_AHEAD - 1) + 1;
        next = batch.end;
        let inserts = failed("pipelined inserts");
        for customer in batch.clone() {
            for (statement, values) in shop::rows_of(customer) {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                client.add(statement, &values).map_err(failed(statement))?;
            }
            client.end_transaction();
        }
        let answers = async {
            client.send().await?;
            for _ in batch.clone() {
                client.until_ready().await?;
            }
            Ok(())
        };
        answers.await.map_err(inserts)?;
        progress.at(batch.end - 1);
    }
    progress.done();
    Ok(())
}

/// What the demo prints when it is ready. Each command works when it is pasted.
fn welcome(cluster: &Cluster, mysql: Option<&Mysql>, options: &DemoOptions, map: &Path) -> String {
    let url = |database| format!("postgres://{USER}@127.0.0.1:{}/{database}", options.port);
    let (shop, console) = (url(DATABASE), url(CONSOLE));
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("shardway"));
    let (program, map) = (program.display(), map.display());
    let mut text = format!("\nshardway demo is ready\n\n  shop     {shop}\n  console  {console}\n");
    // Writing to a String cannot fail.
    if let Some(port) = options.http_port() {
        let _ = writeln!(text, "  http     http://127.0.0.1:{port}/healthz");
    }
    let _ = writeln!(text, "  map      {map}  (edits take effect)");
    for node in cluster.nodes() {
        let role = if node.made_as() == MadeAs::Primary { "primary" } else { "replica" };
        let _ = writeln!(text, "  {:<8} 127.0.0.1:{}  {role}", node.name(), node.port());
    }
    match mysql {
        Some(mysql) => text.push_str(&mysql.addresses()),
        None => {
            let _ = write!(text, "\n{}", mysql::absent(cluster.resumed()));
        }
    }
    let _ = write!(
        text,
        "\nThe rows went through the proxy, but for those of \"countries\", which were put on every shard directly{}.\n\n\
         Try, in another terminal:\n\n",
        if mysql.is_some() { ",\nas were MariaDB's tables" } else { "" }
    );
    let statements = [
        "SELECT * FROM customers WHERE id = 7",
        "SELECT o.id, o.status, i.product, i.quantity FROM orders o JOIN order_items i ON i.customer_id = o.customer_id AND i.order_id = o.id WHERE o.customer_id = 7",
        "SELECT inet_server_port(), pg_is_in_recovery(), name FROM customers WHERE id = 7",
        "UPDATE customers SET email = 'new@example.com' WHERE id = 7 RETURNING inet_server_port(), pg_is_in_recovery(), email",
        "SELECT id, name FROM customers WHERE id IN (1, 2, 3, 4)",
    ];
    for statement in statements {
        let _ = writeln!(text, "  psql {shop} -c \"{statement}\"");
    }
    text.push_str(&mysql.map(Mysql::tries).unwrap_or_default());
    for statement in ["SHOW NODES", "SHOW MAP"] {
        let _ = writeln!(text, "  psql {console} -c \"{statement}\"");
    }
    let _ = writeln!(text, "  {program} explain --map {map} \"SELECT * FROM orders WHERE customer_id = 7\"");
    let _ = writeln!(text, "  {program} check {map} --connect");
    let ending = if options.keep { "stops everything; the folder stays" } else { "stops and removes everything" };
    let _ = writeln!(text, "\nCtrl-C {ending}.");
    text
}
