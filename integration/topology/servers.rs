//! Postgres servers in a temporary directory, for these tests only.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use shardway::clock;
use shardway::ident::ShardId;
use shardway::shard_map::AcrossShards;
use shardway::shard_map::Consistency;
use shardway::shard_map::Database;
use shardway::shard_map::Engine;
use shardway::shard_map::Failover;
use shardway::shard_map::Gathers;
use shardway::shard_map::Node;
use shardway::shard_map::Reads;
use shardway::shard_map::ServerLogin;
use shardway::shard_map::ServerTls;
use shardway::shard_map::Shard;
use shardway::shard_map::Timeouts;
use shardway::shard_map::TlsMode;
use shardway::shard_map::WantedRole;
use tokio_postgres::Client;
use tokio_postgres::NoTls;

/// One server; stopped and removed when dropped.
pub(crate) struct Server {
    home: PathBuf,
    pub port: u16,
    process: Option<Child>,
}

impl Server {
    /// A new primary with the database `shop`, a superuser `postgres` and a user `shardway` who is in `pg_monitor`.
    pub(crate) async fn primary(settings: &str) -> Self {
        let mut it = Self::empty();
        it.run("initdb", &["-D", &it.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]);
        it.configure(&format!(
            "fsync = off\nshared_buffers = 8MB\nmax_wal_size = 1GB\nhot_standby = on\nwal_level = replica\n\
             wal_keep_size = 64MB\nunix_socket_directories = ''\nlisten_addresses = '127.0.0.1'\n{settings}\n"
        ));
        it.start().await;
        let admin = it.connect_to("postgres", "postgres").await;
        admin.batch_execute("create database shop").await.unwrap();
        admin.batch_execute("create role shardway login; grant pg_monitor to shardway").await.unwrap();
        it
    }

    /// A streaming replica of `primary`.
    pub(crate) async fn replica_of(primary: &Self) -> Self {
        let mut it = Self::empty();
        let port = primary.port.to_string();
        let args =
            ["-D", &it.data(), "-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-R", "-c", "fast", "-X", "stream"];
        it.run("pg_basebackup", &args);
        it.start().await;
        it
    }

    fn empty() -> Self {
        let (user, group) = owner();
        let unique = format!("shardway-topology-{}-{}", std::process::id(), clock::now().0);
        let home = std::env::temp_dir().join(unique);
        fs::create_dir_all(&home).unwrap();
        chown(&home, user, group).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { home, port, process: None }
    }

    pub(crate) fn data(&self) -> String {
        self.home.join("data").to_string_lossy().into_owned()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(bindir().join(program));
        let (user, group) = owner();
        if let (Some(user), Some(group)) = (user, group) {
            command.uid(user).gid(group);
        }
        command.current_dir(&self.home).env("LC_ALL", "C").env("PGCONNECT_TIMEOUT", "10");
        command
    }

    fn run(&self, program: &str, args: &[&str]) {
        let output = self.command(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn configure(&self, text: &str) {
        let path = Path::new(&self.data()).join("postgresql.conf");
        let before = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{before}\n{text}")).unwrap();
    }

    /// Starts it and waits until it lets us in.
    pub(crate) async fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.home.join("log")).unwrap();
        let mut command = self.command("postgres");
        command.args(["-D", &self.data(), "-p", &self.port.to_string()]);
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let deadline = clock::now().plus(Duration::from_secs(60));
        loop {
            let target = format!("host=127.0.0.1 port={} user=postgres dbname=template1", self.port);
            if tokio_postgres::connect(&target, NoTls).await.is_ok() {
                return;
            }
            assert!(clock::now() < deadline, "{}", fs::read_to_string(self.home.join("log")).unwrap());
            tokio::task::yield_now().await;
        }
    }

    /// Ends it: `-INT` fast, `-QUIT` at once, as after a crash.
    pub(crate) fn stop(&mut self, signal: &str) {
        if let Some(mut process) = self.process.take() {
            assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
            process.wait().unwrap();
        }
    }

    /// Freezes or thaws the postmaster and everything under it.
    pub(crate) fn signal_all(&self, signal: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        let children = Command::new("pgrep").args(["-P", &id]).output().unwrap();
        let mut ids = vec![id];
        ids.extend(String::from_utf8(children.stdout).unwrap().split_whitespace().map(str::to_owned));
        assert!(Command::new("kill").arg(signal).args(ids).status().unwrap().success());
    }

    pub(crate) async fn connect(&self) -> Client {
        self.connect_to("shop", "postgres").await
    }

    pub(crate) async fn connect_to(&self, database: &str, user: &str) -> Client {
        let target = format!("host=127.0.0.1 port={} user={user} dbname={database}", self.port);
        let (client, connection) = tokio_postgres::connect(&target, NoTls).await.unwrap();
        shardway::tasks::shared("test client", async move {
            // The test notices a broken connection by its own next statement.
            let _ = connection.await;
        });
        client
    }

    pub(crate) async fn execute(&self, text: &str) {
        self.connect().await.batch_execute(text).await.unwrap();
    }

    pub(crate) fn node(&self) -> Node {
        Node {
            name: format!("127.0.0.1:{}", self.port).into(),
            host: "127.0.0.1".into(),
            port: self.port,
            zone: None,
            weight: 1,
            role: WantedRole::Auto,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").args(["-QUIT", &process.id().to_string()]).status();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Servers refuse to run as root: then they run as `postgres`.
fn owner() -> (Option<u32>, Option<u32>) {
    let id = |args: &[&str]| {
        let output = Command::new("id").args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().ok()
    };
    if id(&["-u"]) == Some(0) { (id(&["-u", "postgres"]), id(&["-g", "postgres"])) } else { (None, None) }
}

fn bindir() -> PathBuf {
    let output = Command::new("pg_config").arg("--bindir").output().unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A database of these shards, without tables.
pub(crate) fn database(shards: Vec<Vec<Node>>) -> Database {
    let named = |(place, nodes): (usize, Vec<Node>)| Shard { name: format!("s{}", place + 1).into(), nodes };
    Database {
        name: "shop".into(),
        server_name: "shop".into(),
        engine: Engine::Postgres,
        control: Some(login()),
        tls: ServerTls { mode: TlsMode::Prefer, ca: None },
        catalog: ShardId(0),
        local_files: false,
        safe_functions: Vec::new(),
        shards: shards.into_iter().enumerate().map(named).collect(),
        groups: Vec::new(),
        tables: std::collections::HashMap::new(),
        trusted_triggers: Vec::new(),
        unlisted: None,
        schemas: shardway::shard_map::Schemas::default(),
        sequences: std::collections::BTreeMap::new(),
        reads: Reads {
            from_replicas: true,
            consistency: Consistency::Session,
            staleness_max: Duration::from_secs(2),
            wait: Duration::from_millis(20),
            prefer_zone: true,
        },
        gather: Gathers { on: None, bytes_max: 256 << 20, rows_max: 5_000_000 },
        across_shards: AcrossShards::TwoPhase,
        failover: Failover { lead: false, fence: Vec::new(), wait: Duration::from_secs(10), queue_max: 2000 },
    }
}

pub(crate) fn login() -> ServerLogin {
    ServerLogin { user: Arc::from("shardway"), password: None }
}

pub(crate) fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(3),
        login: Duration::from_secs(15),
        statement: Duration::ZERO,
        idle_in_transaction: Duration::ZERO,
        drain: Duration::from_secs(30),
    }
}
