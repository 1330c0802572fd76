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
use super::signals::Signals;

/// Starts Postgres servers without a proxy, prints them as JSON when they answer, and stops them on SIGINT or SIGTERM.
#[derive(Clone, Debug, clap::Args)]
pub struct DevClusterOptions {
    /// The folder to use; a temporary one without.
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
    let spec = ClusterSpec {
        dir: options.dir,
        shards: options.shards,
        replicas: options.replicas,
        ports: options.node_ports.map_or(Ports::Free, Ports::From),
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
    let nodes: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|node| {
            let role = if node.made_as() == MadeAs::Primary { "primary" } else { "replica" };
            json!({"name": node.name(), "shard": node.shard(), "port": node.port(), "role": role, "pid": node.pid()})
        })
        .collect();
    let mut out = io::stdout().lock();
    writeln!(out, "{}", json!({"dir": cluster.dir(), "database": cluster.database(), "nodes": nodes}))?;
    out.flush()
}
