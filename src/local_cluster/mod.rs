//! Real Postgres servers in a folder of their own: shards with primaries and streaming replicas, for the demo, the
//! integration tests and the benchmark; and those of MariaDB ([`mariadb`]).
//!
//! Everything is waited for by its condition, with a deadline. Whatever way the process ends, nothing is left: an
//! orderly end and a dropped [`Cluster`] remove servers and files, and what a kill -9 left is removed by the next
//! start (`workspace`).

pub mod binaries;
pub mod client;
pub mod demo;
pub mod dev;
mod map;
pub mod mariadb;
mod node;
mod process;
mod signals;
mod workspace;

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::ops::Range;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;

use binaries::Binaries;
use client::SqlError;
use client::identifier;
pub use map::Listeners;
pub use node::MadeAs;
pub use node::Node;
pub use node::Stop;
use process::Account;
pub use workspace::AtEnd;
use workspace::Found;
use workspace::Workspace;

/// The servers' superuser. It logs in past the proxy only.
pub const SUPERUSER: &str = "postgres";
/// A role that a proxy may probe the servers with, for maps that name a `control` user.
pub const CONTROL_USER: &str = "shardway";
/// The most shards, and the most replicas of one, that a machine is asked for.
const COUNT_MAX: usize = 25;
/// The longest path of a socket that every system takes, less the name that Postgres adds.
const SOCKET_FOLDER_MAX: usize = 80;

/// Which ports the servers listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Consecutive ones from here: the shards in order, each primary before its replicas.
    From(u16),
    /// Any that are free.
    Free,
}

/// Whether commits survive a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The server's own default.
    Durable,
    /// `fsync` is off: only for rows that nobody will miss, as in a demo or a test.
    Volatile,
}

/// What a cluster should be.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// Its folder; without one, a new one in the system's folder for temporary files.
    pub dir: Option<PathBuf>,
    /// How many shards.
    pub shards: usize,
    /// How many replicas each shard's primary has.
    pub replicas: usize,
    /// Where the servers listen. Those of a kept folder keep their ports.
    pub ports: Ports,
    /// The database that is made on every shard.
    pub database: String,
    /// The role that is made on every shard and owns the database.
    pub user: String,
    /// Whether commits survive a crash of the machine.
    pub durability: Durability,
    /// What becomes of the folder when the cluster ends, however that happens.
    pub at_end: AtEnd,
    /// Server settings for every node, over the cluster's own.
    pub settings: Vec<(String, String)>,
    /// Server settings for one node, by its name, over those.
    pub node_settings: BTreeMap<String, Vec<(String, String)>>,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            dir: None,
            shards: 2,
            replicas: 1,
            ports: Ports::Free,
            database: "shop".to_owned(),
            user: "demo".to_owned(),
            durability: Durability::Volatile,
            at_end: AtEnd::Remove,
            settings: Vec::new(),
            node_settings: BTreeMap::new(),
        }
    }
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No fitting server programs; the text says what to install.
    #[error("{}", no_binaries(.too_old.as_ref()))]
    NoBinaries {
        /// The newest that was found, when that is too old.
        too_old: Option<(u32, PathBuf)>,
    },
    /// No MariaDB; the text says what to install.
    #[error(
        "no MariaDB server was found: {program} is missing.\n\
         Debian, Ubuntu: apt-get install mariadb-server\n\
         Fedora, RHEL:   dnf install mariadb-server\n\
         macOS:          brew install mariadb\n\
         or set {} to the folder that holds the programs",
        mariadb::MARIADB_BIN_VARIABLE
    )]
    NoMariadb {
        /// What is missing.
        program: &'static str,
    },
    /// Root may not run Postgres, and nobody else is there.
    #[error("database servers refuse to run as root, and /etc/passwd has neither a user \"postgres\" nor \"nobody\"")]
    NoAccount,
    /// A port that somebody else listens on.
    #[error("port {port} on 127.0.0.1 is taken ({source})")]
    PortTaken {
        /// Which one.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// More servers than can be named and numbered.
    #[error("{what} must be {min} to {max}", max = COUNT_MAX)]
    Count {
        /// Of what.
        what: &'static str,
        /// At least this.
        min: usize,
    },
    /// Another process runs a cluster there.
    #[error("a cluster runs in {} already", path.display())]
    FolderInUse {
        /// The folder.
        path: PathBuf,
    },
    /// Somebody's files.
    #[error("{} is not empty and not a cluster's folder of this user: nothing there is touched", path.display())]
    FolderNotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// The user that the servers run as cannot reach their folder.
    #[error("user \"{account}\", which the servers run as, cannot enter {}: choose another folder", path.display())]
    FolderUnreachable {
        /// The user.
        account: String,
        /// The folder.
        path: PathBuf,
    },
    /// A kept folder holds a cluster of another shape.
    #[error("{} holds other nodes than asked for: {}", path.display(), held.join(", "))]
    OtherShape {
        /// The folder.
        path: PathBuf,
        /// The nodes that are there.
        held: Vec<String>,
    },
    /// No node of that name.
    #[error("there is no node \"{node}\"")]
    NoNode {
        /// The name.
        node: String,
    },
    /// The file system refused.
    #[error("cannot {what} {} ({source})", path.display())]
    Folder {
        /// To do what.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed: {output}")]
    Command {
        /// Which.
        program: String,
        /// What it printed.
        output: String,
    },
    /// A server did not come to the state that was waited for.
    #[error("node {node} is not in the state that was waited for; the end of its log:\n{log}")]
    NotReady {
        /// Which.
        node: String,
        /// The end of its log.
        log: String,
    },
    /// A server's error.
    #[error("node {node}: {error}")]
    Sql {
        /// Which.
        node: String,
        /// What it said.
        error: SqlError,
    },
}

fn no_binaries(too_old: Option<&(u32, PathBuf)>) -> String {
    let found = match too_old {
        Some((major, folder)) => format!("PostgreSQL {major} in {} is too old: ", folder.display()),
        None => "no PostgreSQL server was found: ".to_owned(),
    };
    format!(
        "{found}version {} or newer is needed (postgres, initdb, pg_basebackup).\n\
         Debian, Ubuntu: apt-get install postgresql\n\
         Fedora, RHEL:   dnf install postgresql-server\n\
         Alpine:         apk add postgresql\n\
         macOS:          brew install postgresql@17\n\
         or set {} to the folder that holds the programs",
        binaries::MAJOR_MIN,
        binaries::PG_BIN_VARIABLE
    )
}

/// A running cluster. Dropping it kills its servers, and removes their files unless they are to be kept;
/// [`Cluster::stop`] does it in order.
#[derive(Debug)]
pub struct Cluster {
    // Before the workspace: servers end before their files are removed.
    nodes: Vec<Node>,
    database: String,
    user: String,
    resumed: bool,
    at_end: AtEnd,
    workspace: Workspace,
}

impl Cluster {
    /// Starts the servers and waits until each answers and each replica streams.
    ///
    /// Cancel-safe: what was started is killed and removed.
    ///
    /// # Errors
    /// What was missing, taken or refused; nothing is left behind then.
    pub async fn start(spec: ClusterSpec) -> Result<Self, ClusterError> {
        check_count("the number of shards", spec.shards, 1)?;
        check_count("the number of replicas", spec.replicas, 0)?;
        let binaries = Binaries::find()?;
        let account = servers_account()?;
        // First, because it frees the ports of a cluster that was killed.
        let workspace = Workspace::claim(spec.dir.as_deref()).await?;
        check_reachable(workspace.dir(), account.as_ref()).await?;

        let mut cluster = Self {
            nodes: Vec::new(),
            database: spec.database.clone(),
            user: spec.user.clone(),
            resumed: workspace.found() == Found::Servers,
            at_end: spec.at_end,
            workspace,
        };
        let sockets = cluster.make_sockets_folder(account.as_ref())?;
        let places = (1..=spec.shards).flat_map(|shard| (0..=spec.replicas).map(move |index| (shard, index)));
        let places: Vec<(usize, usize)> = places.collect();
        let ports = match cluster.resumed {
            true => kept_ports(cluster.dir(), &places)?,
            false => choose_ports(spec.ports, places.len())?,
        };
        for ((shard, index), port) in places.into_iter().zip(ports) {
            let names = (format!("s{shard}"), node_name(shard, index));
            let made_as = if index == 0 { MadeAs::Primary } else { MadeAs::Replica };
            let dir = cluster.workspace.dir();
            cluster.nodes.push(Node::new(names, port, made_as, dir, (&binaries, account.as_ref())));
        }
        if cluster.resumed {
            cluster.start_again(&spec, &sockets).await?;
        } else {
            let shards = cluster.nodes.chunk_by(|a, b| a.shard() == b.shard());
            all(shards.map(|nodes| start_shard(nodes, &spec, &sockets)).collect()).await?;
        }
        cluster.workspace.at_end(spec.at_end)?;
        Ok(cluster)
    }

    /// Starts the servers that a kept folder holds.
    async fn start_again(&self, spec: &ClusterSpec, sockets: &str) -> Result<(), ClusterError> {
        for node in &self.nodes {
            node.configure(&settings_of(node, spec, sockets))?;
        }
        all(self.nodes.iter().map(Node::start).collect()).await
    }

    /// The folder that everything is in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.workspace.dir()
    }

    /// The database that was made on every shard.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Whether the folder was a kept one, with the rows of an earlier run.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// The servers: the shards in order, each primary before its replicas.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The servers that were made as primaries, in the order of the shards.
    pub fn primaries(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.made_as() == MadeAs::Primary)
    }

    /// A server by its name.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn node(&self, name: &str) -> Result<&Node, ClusterError> {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.ok_or_else(|| ClusterError::NoNode { node: name.to_owned() })
    }

    /// A shard map of the sample shop on these servers, with the proxy on `postgres` and, if wanted, its HTTP on `http`.
    #[must_use]
    pub fn map_yaml(&self, postgres: u16, http: Option<u16>) -> String {
        self.map_yaml_beside(None, Listeners { postgres, mysql: 0, http })
    }

    /// The same with the shop on servers of MariaDB beside it, if there are any.
    #[must_use]
    pub fn map_yaml_beside(&self, mariadb: Option<&mariadb::MariaCluster>, listeners: Listeners) -> String {
        let places: Vec<_> = self.nodes.iter().map(|node| (node.shard(), node.name(), node.port())).collect();
        let mariadb = mariadb.into_iter().flat_map(mariadb::MariaCluster::nodes);
        let mariadb: Vec<_> = mariadb.map(|node| (node.shard(), node.name(), node.port())).collect();
        map::yaml(&places, &mariadb, &self.database, &self.user, listeners)
    }

    /// Stops the servers, and removes their files unless they are to be kept.
    ///
    /// # Errors
    /// When a server does not stop; all are killed then.
    pub async fn stop(self) -> Result<(), ClusterError> {
        let how = match self.at_end {
            AtEnd::Remove => Stop::Immediate,
            AtEnd::Keep => Stop::Fast,
        };
        for node in &self.nodes {
            node.thaw().await?;
        }
        all(self.nodes.iter().map(|node| node.stop(how)).collect()).await
    }

    /// The folder for the servers' Unix sockets; none when its path is longer than sockets may have.
    fn make_sockets_folder(&self, account: Option<&Account>) -> Result<String, ClusterError> {
        let path = self.dir().join("sockets");
        if path.as_os_str().len() > SOCKET_FOLDER_MAX {
            return Ok(String::new());
        }
        let failed = |source| ClusterError::Folder { what: "create", path: path.clone(), source };
        fs::create_dir_all(&path).map_err(failed)?;
        if let Some(account) = account {
            chown(&path, Some(account.uid), Some(account.gid)).map_err(failed)?;
        }
        Ok(path.to_string_lossy().into_owned())
    }
}

/// Starts a primary, makes role and database there, then its replicas.
async fn start_shard(nodes: &[Node], spec: &ClusterSpec, sockets: &str) -> Result<(), ClusterError> {
    let Some((primary, replicas)) = nodes.split_first() else { return Ok(()) };
    primary.init(&settings_of(primary, spec, sockets)).await?;
    primary.start().await?;
    let (user, database) = (identifier(&spec.user), identifier(&spec.database));
    let mut client = primary.connect("postgres").await?;
    let statements = [
        // Probes need pg_monitor; the table of placements needs CREATE; ending a prepared transaction needs its role.
        // The demo's map names no control user, so its only user probes too.
        format!("CREATE ROLE {user} LOGIN IN ROLE pg_monitor"),
        format!("CREATE ROLE {CONTROL_USER} LOGIN IN ROLE pg_monitor, {user}"),
        format!("CREATE DATABASE {database} OWNER {user}"),
        format!("GRANT CREATE ON DATABASE {database} TO {CONTROL_USER}"),
    ];
    for statement in statements {
        client.query(&statement).await.map_err(|error| primary.sql(error))?;
    }
    let replica = async |node: &Node| {
        node.copy_of(primary, &settings_of(node, spec, sockets)).await?;
        node.start().await?;
        node.until_streaming().await
    };
    all(replicas.iter().map(replica).collect()).await
}

/// What `postgresql.conf` gets for one node.
fn settings_of(node: &Node, spec: &ClusterSpec, sockets: &str) -> Vec<(String, String)> {
    let port = node.port().to_string();
    let mut settings = vec![
        ("listen_addresses", "127.0.0.1"),
        ("port", &port),
        ("unix_socket_directories", sockets),
        ("cluster_name", node.name()),
        ("log_line_prefix", "%m [%p] %q%u@%d %a "),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("wal_level", "logical"),
        ("max_prepared_transactions", "64"),
        ("max_connections", "200"),
        ("max_wal_senders", "10"),
        ("max_replication_slots", "10"),
        ("wal_keep_size", "256MB"),
        ("max_wal_size", "256MB"),
        // In the folder, so that a server that is killed leaves none elsewhere.
        ("dynamic_shared_memory_type", "mmap"),
        ("shared_buffers", "16MB"),
        // A replica whose primary was away looks for it again at once.
        ("wal_retrieve_retry_interval", "200ms"),
    ];
    if spec.durability == Durability::Volatile {
        settings.push(("fsync", "off"));
    }
    let own = settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let for_all = spec.settings.iter().cloned();
    let for_one = spec.node_settings.get(node.name()).into_iter().flatten().cloned();
    own.chain(for_all).chain(for_one).collect()
}

/// `s1-a` is made as the primary of `s1`, `s1-b` and on as its replicas.
fn node_name(shard: usize, index: usize) -> String {
    let letter = ('a'..='z').nth(index).unwrap_or('z');
    format!("s{shard}-{letter}")
}

fn check_count(what: &'static str, count: usize, min: usize) -> Result<(), ClusterError> {
    if (min..=COUNT_MAX).contains(&count) { Ok(()) } else { Err(ClusterError::Count { what, min }) }
}

/// Ports that nobody listens on now. Free ones are held together, so that they differ.
fn choose_ports(ports: Ports, count: usize) -> Result<Vec<u16>, ClusterError> {
    let mut held = Vec::new();
    for index in 0..count {
        let port = match ports {
            Ports::Free => 0,
            Ports::From(first) => {
                u16::try_from(index).ok().and_then(|index| first.checked_add(index)).ok_or_else(|| {
                    ClusterError::PortTaken { port: first, source: io::ErrorKind::AddrNotAvailable.into() }
                })?
            }
        };
        held.push(hold_port(port)?);
    }
    let address = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    held.iter()
        .map(|listener| address(listener).map_err(|source| ClusterError::PortTaken { port: 0, source }))
        .collect()
}

/// The ports that a kept folder's servers had: its replicas and its map know their primaries by them.
fn kept_ports(dir: &Path, places: &[(usize, usize)]) -> Result<Vec<u16>, ClusterError> {
    let failed = |path: PathBuf| move |source| ClusterError::Folder { what: "read", path, source };
    let mut held = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed(dir.into()))?.flatten() {
        if entry.path().join("PG_VERSION").exists() {
            held.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    held.sort();
    let mut wanted: Vec<String> = places.iter().map(|(shard, index)| node_name(*shard, *index)).collect();
    let files = wanted.iter().map(|name| dir.join(name).join("postgresql.conf")).collect::<Vec<_>>();
    wanted.sort();
    if held != wanted {
        return Err(ClusterError::OtherShape { path: dir.into(), held });
    }
    let mut ports = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(failed(file.clone()))?;
        let port = text.lines().rev().find_map(|line| line.strip_prefix("port = '")?.strip_suffix('\'')?.parse().ok());
        let port = port.ok_or_else(|| io::ErrorKind::InvalidData.into()).map_err(failed(file))?;
        hold_port(port)?;
        ports.push(port);
    }
    Ok(ports)
}

/// Listens on a port of 127.0.0.1, which shows that nobody else does.
///
/// # Errors
/// [`ClusterError::PortTaken`].
pub fn hold_port(port: u16) -> Result<TcpListener, ClusterError> {
    let bind = |port: u16| TcpListener::bind(("127.0.0.1", port));
    // Below those that the kernel gives to outgoing connections: one of them could have it when the server comes to it.
    let quiet = || (0..TRIES).find_map(|_| bind(rand::random_range(QUIET_PORTS)).ok());
    let held = if port == 0 { quiet() } else { None };
    held.map_or_else(|| bind(port), Ok).map_err(|source| ClusterError::PortTaken { port, source })
}

/// Ports that neither well-known servers nor outgoing connections usually have (`ip_local_port_range` begins at 32768).
const QUIET_PORTS: Range<u16> = 12_000..32_000;

/// So many of them are tried.
const TRIES: usize = 100;

/// Who the servers run as, if not as the caller: for root, whom they refuse, somebody else.
fn servers_account() -> Result<Option<Account>, ClusterError> {
    match workspace::own_uid()? {
        0 => {
            let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
            Account::find(&passwd).map(Some).ok_or(ClusterError::NoAccount)
        }
        _ => Ok(None),
    }
}

/// Tries whether the servers' user can enter `dir`; a folder below root's home, say, it cannot.
async fn check_reachable(dir: &Path, account: Option<&Account>) -> Result<(), ClusterError> {
    let Some(account) = account else { return Ok(()) };
    let mut test = process::command(Path::new("/bin/sh"), Some(account), Path::new("/"));
    test.args(["-c", "cd \"$0\""]).arg(dir);
    let unreachable = |_| ClusterError::FolderUnreachable { account: account.name.clone(), path: dir.into() };
    process::run(test).await.map(drop).map_err(unreachable)
}

/// Waits for all of them, and at the first failure for no more: the others are dropped.
async fn all<F: Future<Output = Result<(), ClusterError>>>(futures: Vec<F>) -> Result<(), ClusterError> {
    let mut waiting: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    poll_fn(|context| {
        let mut failed = None;
        waiting.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(outcome) => {
                failed = failed.take().or_else(|| outcome.err());
                false
            }
        });
        match failed {
            Some(error) => Poll::Ready(Err(error)),
            None if waiting.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_a_taken_one_is_named() {
        let ports = choose_ports(Ports::Free, 8).expect("the system has free ports");
        let distinct: std::collections::BTreeSet<u16> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), 8);
        let held = hold_port(0).expect("a free port").local_addr().map(|a| a.port()).expect("bound");
        let listener = hold_port(held).expect("free again");
        let error = choose_ports(Ports::From(held), 1).expect_err("it is taken").to_string();
        assert!(error.contains(&format!("port {held}")), "{error}");
        drop(listener);
    }

    #[test]
    fn nodes_are_named_as_the_map_names_them() {
        assert_eq!(node_name(1, 0), "s1-a");
        assert_eq!(node_name(12, 2), "s12-c");
        assert!(check_count("replicas", COUNT_MAX + 1, 0).is_err());
    }
}
