//! Real MariaDB servers in a folder of their own: shards with primaries, and replicas that follow them by GTID. What
//! holds of Postgres' [`super::Cluster`] holds here: every wait has a condition and a deadline, and nothing is left.

mod binaries;
mod node;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;

pub use binaries::MARIADB_BIN_VARIABLE;
pub use binaries::Programs;
pub use node::MariaNode;
use node::pid_file;

use super::AtEnd;
use super::ClusterError;
use super::Durability;
use super::Ports;
use super::SOCKET_FOLDER_MAX;
use super::all;
use super::check_count;
use super::check_reachable;
use super::choose_ports;
use super::hold_port;
use super::node::MadeAs;
use super::node_name;
use super::process::Account;
use super::process::command;
use super::process::run;
use super::servers_account;
use super::workspace::Found;
use super::workspace::Workspace;

/// The database that is made on every shard, unless another is asked for.
pub const DATABASE: &str = "shop";
/// The application's user, by `mysql_native_password`. It may do everything in the databases of
/// [`MariaNode::create_database`].
pub const USER: &str = "demo";
/// The application's user once more, by `ed25519`, where the server has that plugin.
pub const ED25519_USER: &str = "demo25519";
/// Who a proxy probes the servers as: it sees every table, the processes, and how far replicas are.
pub const CONTROL_USER: &str = "control";
/// Who replicas log in to their primary as.
const REPLICATION_USER: &str = "replica";
/// The password of [`USER`] and [`ED25519_USER`].
pub const PASSWORD: &str = "demo";
/// The password of [`CONTROL_USER`].
pub const CONTROL_PASSWORD: &str = "control";

/// What a cluster should be.
#[derive(Clone, Debug)]
pub struct MariaSpec {
    /// Its folder; without one, a new one in the system's folder for temporary files.
    pub dir: Option<PathBuf>,
    /// What becomes of the folder when the cluster ends, however that happens.
    pub at_end: AtEnd,
    /// How many shards.
    pub shards: usize,
    /// How many replicas each shard's primary has.
    pub replicas: usize,
    /// Where the servers listen.
    pub ports: Ports,
    /// The database that is made on every shard.
    pub database: String,
    /// The password of [`USER`].
    pub password: String,
    /// Whether commits survive a crash of the machine. `Volatile` ones survive that of a server.
    pub durability: Durability,
    /// Server settings for every node, over the cluster's own.
    pub settings: Vec<(String, String)>,
    /// Server settings for one node, by its name, over those.
    pub node_settings: BTreeMap<String, Vec<(String, String)>>,
}

impl Default for MariaSpec {
    fn default() -> Self {
        Self {
            dir: None,
            at_end: AtEnd::Remove,
            shards: 2,
            replicas: 1,
            ports: Ports::Free,
            database: DATABASE.to_owned(),
            password: PASSWORD.to_owned(),
            durability: Durability::Durable,
            settings: Vec::new(),
            node_settings: BTreeMap::new(),
        }
    }
}

/// A running cluster. Dropping it kills its servers, and removes their files unless they are to be kept;
/// [`MariaCluster::stop`] does it in order.
#[derive(Debug)]
pub struct MariaCluster {
    // Before the workspace: servers end before their files are removed.
    nodes: Vec<MariaNode>,
    database: String,
    at_end: AtEnd,
    resumed: bool,
    workspace: Workspace,
}

impl MariaCluster {
    /// Starts the servers and waits until each answers and each replica follows its primary.
    ///
    /// Cancel-safe: what was started is killed and removed.
    ///
    /// # Errors
    /// What was missing, taken or refused; nothing is left behind then.
    pub async fn start(spec: MariaSpec) -> Result<Self, ClusterError> {
        check_count("the number of shards", spec.shards, 1)?;
        check_count("the number of replicas", spec.replicas, 0)?;
        let programs = Programs::find()?;
        let account = servers_account()?;
        let workspace = Workspace::claim(spec.dir.as_deref()).await?;
        check_reachable(workspace.dir(), account.as_ref()).await?;

        let resumed = workspace.found() == Found::Servers;
        let mut cluster =
            Self { nodes: Vec::new(), database: spec.database.clone(), at_end: spec.at_end, resumed, workspace };
        let places: Vec<(usize, usize)> =
            (1..=spec.shards).flat_map(|shard| (0..=spec.replicas).map(move |index| (shard, index))).collect();
        let ports = match resumed {
            true => kept_ports(cluster.dir(), &places)?,
            false => choose_ports(spec.ports, places.len())?,
        };
        for ((shard, index), port) in places.into_iter().zip(ports) {
            let names = (format!("s{shard}"), node_name(shard, index));
            let made_as = if index == 0 { MadeAs::Primary } else { MadeAs::Replica };
            let dir = cluster.workspace.dir();
            cluster.nodes.push(MariaNode::new(names, port, made_as, dir, (&programs, account.as_ref())));
        }
        if resumed {
            // Replicas go on where they were.
            all(cluster.nodes.iter().map(MariaNode::start).collect()).await?;
        } else {
            cluster.make(&spec, &programs, account.as_ref()).await?;
        }
        cluster.workspace.at_end(spec.at_end)?;
        Ok(cluster)
    }

    /// Makes new servers and starts them.
    async fn make(&self, spec: &MariaSpec, programs: &Programs, account: Option<&Account>) -> Result<(), ClusterError> {
        let template = self.prepare(programs, account).await?;
        for (number, node) in self.nodes.iter().enumerate() {
            node.init(&template, &settings_of(node, number + 1, spec, self.dir()))?;
        }
        let unwritable = |source| ClusterError::Folder { what: "remove", path: template.clone(), source };
        fs::remove_dir_all(&template).map_err(unwritable)?;
        let shards = self.nodes.chunk_by(|a, b| a.shard() == b.shard());
        all(shards.map(|nodes| start_shard(nodes, spec)).collect()).await
    }

    /// Makes the folders that all servers share, and an empty data folder, which is slow and therefore made once.
    async fn prepare(&self, programs: &Programs, account: Option<&Account>) -> Result<PathBuf, ClusterError> {
        let sockets = self.dir().join("sockets");
        if sockets.as_os_str().len() > SOCKET_FOLDER_MAX {
            // Without a socket nobody could set the server up.
            let source = std::io::ErrorKind::InvalidFilename.into();
            return Err(ClusterError::Folder { what: "have sockets in", path: sockets, source });
        }
        let template = self.dir().join("template");
        for folder in [&sockets, &self.dir().join("tmp"), &template] {
            let failed = |source| ClusterError::Folder { what: "create", path: folder.clone(), source };
            fs::create_dir(folder).map_err(failed)?;
            if let Some(account) = account {
                chown(folder, Some(account.uid), Some(account.gid)).map_err(failed)?;
            }
        }
        let mut install = command(&programs.install, account, self.dir());
        install.arg("--no-defaults").arg(format!("--datadir={}", template.display()));
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]);
        install.args(SMALL.map(|(name, value)| format!("--{name}={value}")));
        install.env("TMPDIR", self.dir().join("tmp"));
        run(install).await?;
        Ok(template)
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

    /// The servers: the shards in order, each primary before its replicas.
    #[must_use]
    pub fn nodes(&self) -> &[MariaNode] {
        &self.nodes
    }

    /// The servers that were made as primaries, in the order of the shards.
    pub fn primaries(&self) -> impl Iterator<Item = &MariaNode> {
        self.nodes.iter().filter(|node| node.made_as() == MadeAs::Primary)
    }

    /// A server by its name.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn node(&self, name: &str) -> Result<&MariaNode, ClusterError> {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.ok_or_else(|| ClusterError::NoNode { node: name.to_owned() })
    }

    /// Whether the folder was a kept one, with the rows of an earlier run.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Ends the servers, and removes their files unless they are to be kept.
    ///
    /// # Errors
    /// When a server does not end.
    pub async fn stop(self) -> Result<(), ClusterError> {
        let end = async |node: &MariaNode| match self.at_end {
            // Their rows go: nothing needs to be written down.
            AtEnd::Remove => node.kill9().await,
            AtEnd::Keep => node.stop().await,
        };
        all(self.nodes.iter().map(end).collect()).await
    }
}

/// Starts a primary, makes users and the database there, then its replicas, which get both from its log.
async fn start_shard(nodes: &[MariaNode], spec: &MariaSpec) -> Result<(), ClusterError> {
    let Some((primary, replicas)) = nodes.split_first() else { return Ok(()) };
    primary.start().await?;
    let native = |user: &str, password: &str| {
        format!("CREATE USER '{user}'@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('{password}')")
    };
    let statements = [
        native(USER, &spec.password),
        native(CONTROL_USER, CONTROL_PASSWORD),
        native(REPLICATION_USER, PASSWORD),
        // Tables are only seen by whom may read them. The last ends what a proxy has to end.
        format!(
            "GRANT SELECT, TRIGGER, LOCK TABLES, PROCESS, RELOAD, BINLOG MONITOR, SLAVE MONITOR, CONNECTION ADMIN ON *.* TO '{CONTROL_USER}'@'%'"
        ),
        // What shardway keeps on its servers.
        format!("GRANT ALL ON shardway.* TO '{CONTROL_USER}'@'%' WITH GRANT OPTION"),
        format!("GRANT REPLICATION SLAVE ON *.* TO '{REPLICATION_USER}'@'%'"),
    ];
    primary.value("", &statements.join(";")).await?;
    // To ask which plugins there are has killed servers that had just started.
    let with_plugin = format!("CREATE USER '{ED25519_USER}'@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{PASSWORD}')");
    let has_ed25519 = primary.value("", &with_plugin).await.is_ok();
    primary.create_database(&spec.database).await?;
    if has_ed25519 {
        let grant = format!("GRANT ALL ON `{}`.* TO '{ED25519_USER}'@'%'", spec.database);
        primary.value("", &grant).await?;
    }
    let replica = async |node: &MariaNode| {
        node.start().await?;
        node.follow(primary).await?;
        node.until_streaming().await?;
        node.until_replayed(primary).await
    };
    all(replicas.iter().map(replica).collect()).await
}

/// The ports that a kept folder's servers had: its replicas and its map know their primaries by them.
fn kept_ports(dir: &Path, places: &[(usize, usize)]) -> Result<Vec<u16>, ClusterError> {
    let mut wanted: Vec<String> = places.iter().map(|(shard, index)| node_name(*shard, *index)).collect();
    let mut ports = Vec::new();
    for name in &wanted {
        let path = dir.join(format!("{name}.cnf"));
        let text = fs::read_to_string(&path).unwrap_or_default();
        let port: Option<u16> = text.lines().rev().find_map(|line| line.strip_prefix("port = ")?.parse().ok());
        ports.extend(port);
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut held: Vec<String> = files.filter_map(|file| Some(file.strip_suffix(".cnf")?.to_owned())).collect();
    held.sort();
    wanted.sort();
    if held != wanted || ports.len() != wanted.len() {
        return Err(ClusterError::OtherShape { path: dir.into(), held });
    }
    for port in &ports {
        hold_port(*port)?;
    }
    Ok(ports)
}

/// What keeps a server small, from the making of its data folder on.
const SMALL: [(&str, &str); 3] =
    [("innodb-log-file-size", "16M"), ("innodb-buffer-pool-size", "32M"), ("aria-pagecache-buffer-size", "4M")];

/// What the file of options gets for one node; `number` is another for each.
fn settings_of(node: &MariaNode, number: usize, spec: &MariaSpec, dir: &Path) -> Vec<(String, String)> {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let (port, number) = (node.port().to_string(), number.to_string());
    let domain: String = node.shard().chars().filter(char::is_ascii_digit).collect();
    let (data, socket, pid, tmp) =
        (path(node.data()), path(node.socket()), path(&pid_file(node)), path(&dir.join("tmp")));
    let mut settings = vec![
        ("datadir", data.as_str()),
        ("socket", &socket),
        ("pid-file", &pid),
        ("tmpdir", &tmp),
        ("bind-address", "127.0.0.1"),
        ("port", &port),
        ("skip-name-resolve", ""),
        ("character-set-server", "utf8mb4"),
        ("collation-server", "utf8mb4_general_ci"),
        ("default-time-zone", "+00:00"),
        ("max-connections", "300"),
        ("server-id", &number),
        ("log-bin", "binlog"),
        ("relay-log", "relay"),
        ("binlog-format", "ROW"),
        ("log-slave-updates", "ON"),
        ("gtid-strict-mode", "ON"),
        ("gtid-domain-id", &domain),
        ("performance-schema", "OFF"),
        ("key-buffer-size", "1M"),
        // It takes memory that unprivileged users may not have.
        ("innodb-use-native-aio", "OFF"),
        // A server that has not got it starts without.
        ("plugin-load-add", "auth_ed25519"),
    ];
    settings.extend(SMALL);
    if node.made_as() == MadeAs::Replica {
        settings.push(("read-only", "ON"));
        // A replica whose primary was away notices it soon.
        settings.push(("slave-net-timeout", "10"));
    }
    if spec.durability == Durability::Volatile {
        settings.push(("innodb-flush-log-at-trx-commit", "2"));
    }
    let own = settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let for_all = spec.settings.iter().cloned();
    let for_one = spec.node_settings.get(node.name()).into_iter().flatten().cloned();
    own.chain(for_all).chain(for_one).collect()
}
