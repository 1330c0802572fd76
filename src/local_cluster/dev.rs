//! A cluster alone, for scripts: its nodes as one line of JSON, then it waits to be stopped.

use std::io;
use std::io::Write;
use std::path::PathBuf;

use serde_json::json;

use super::AtEnd;
use super::Cluster;
use super::ClusterError;
use super::ClusterSpec;
use super::Durability;
use super::MadeAs;
use super::Ports;
use super::mariadb::CONTROL_PASSWORD;
use super::mariadb::CONTROL_USER;
use super::mariadb::MariaCluster;
use super::mariadb::MariaSpec;
use super::mariadb::PASSWORD;
use super::mariadb::USER;
use super::signals::Signals;

/// Whose servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Those of Postgres.
    Postgres,
    /// Those of MariaDB.
    Mariadb,
}

/// Starts servers without a proxy, prints them as JSON when they answer, and stops them on SIGINT or SIGTERM.
#[derive(Clone, Debug, clap::Args)]
pub struct DevClusterOptions {
    /// Whose servers.
    #[arg(long, value_enum, default_value_t = Kind::Postgres)]
    pub engine: Kind,
    /// The folder to use; a temporary one without. For Postgres alone.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// How many shards.
    #[arg(long, default_value_t = 2)]
    pub shards: usize,
    /// How many replicas each has.
    #[arg(long, default_value_t = 0)]
    pub replicas: usize,
    /// The first of consecutive ports; any free ones without.
    #[arg(long)]
    pub node_ports: Option<u16>,
    /// The database to make.
    #[arg(long, default_value = "shop")]
    pub database: String,
    /// A server setting, as `name=value`; may be repeated.
    #[arg(long = "set", value_parser = parse_setting)]
    pub settings: Vec<(String, String)>,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected name=value")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Runs `shardway dev-cluster`.
///
/// # Errors
/// Why there is no cluster.
pub async fn dev_cluster(options: DevClusterOptions) -> Result<(), ClusterError> {
    let failed =
        |source| ClusterError::Folder { what: "listen for signals, or print, in", path: PathBuf::new(), source };
    let mut signals = Signals::listen().map_err(failed)?;
    let ports = options.node_ports.map_or(Ports::Free, Ports::From);
    if options.engine == Kind::Mariadb {
        let spec = MariaSpec {
            shards: options.shards,
            replicas: options.replicas,
            ports,
            database: options.database,
            durability: Durability::Volatile,
            settings: options.settings,
            ..MariaSpec::default()
        };
        let cluster = tokio::select! {
            cluster = MariaCluster::start(spec) => cluster?,
            () = signals.any() => return Ok(()),
        };
        print_mariadb(&cluster).map_err(failed)?;
        signals.any().await;
        return cluster.stop().await;
    }
    let spec = ClusterSpec {
        dir: options.dir,
        shards: options.shards,
        replicas: options.replicas,
        ports,
        database: options.database,
        durability: Durability::Volatile,
        at_end: AtEnd::Remove,
        settings: options.settings,
        ..ClusterSpec::default()
    };
    let cluster = tokio::select! {
        cluster = Cluster::start(spec) => cluster?,
        () = signals.any() => return Ok(()),
    };
    print(&cluster).map_err(failed)?;
    signals.any().await;
    cluster.stop().await
}

fn print(cluster: &Cluster) -> io::Result<()> {
    let nodes = cluster.nodes().iter();
    let nodes: Vec<_> = nodes
        .map(|node| json!({"name": node.name(), "shard": node.shard(), "port": node.port(), "role": role(node.made_as()), "pid": node.pid()}))
        .collect();
    print_line(&json!({"dir": cluster.dir(), "database": cluster.database(), "nodes": nodes}))
}

fn print_mariadb(cluster: &MariaCluster) -> io::Result<()> {
    let nodes = cluster.nodes().iter();
    let nodes: Vec<_> = nodes
        .map(|node| json!({"name": node.name(), "shard": node.shard(), "port": node.port(), "role": role(node.made_as()), "pid": node.pid()}))
        .collect();
    print_line(&json!({
        "dir": cluster.dir(), "database": cluster.database(), "nodes": nodes, "user": USER, "password": PASSWORD,
        "control": {"user": CONTROL_USER, "password": CONTROL_PASSWORD},
    }))
}

fn role(made_as: MadeAs) -> &'static str {
    if made_as == MadeAs::Primary { "primary" } else { "replica" }
}

fn print_line(line: &serde_json::Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
