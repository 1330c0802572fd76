//! The same shop on servers of MariaDB, where their programs are installed: behind the same proxy, on a port of its own.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::super::AtEnd;
use super::super::Cluster;
use super::super::ClusterError;
use super::super::Durability;
use super::super::MadeAs;
use super::super::Ports;
use super::super::mariadb::MariaCluster;
use super::super::mariadb::MariaSpec;
use super::super::mariadb::Programs;
use super::super::process::command;
use super::super::process::until;
use super::super::workspace::BESIDE;
use super::DATABASE;
use super::DemoError;
use super::DemoOptions;
use super::PROXY_MAX;
use super::USER;
use super::progress::Progress;
use super::shop;

/// The shop's servers of MariaDB, and where its clients come to.
pub(super) struct Mysql {
    pub(super) cluster: MariaCluster,
    pub(super) port: u16,
    programs: Programs,
}

impl Mysql {
    /// Starts them beside `postgres`, in its folder, and makes the tables. `None`: there is no MariaDB, or the folder is a
    /// kept one without.
    pub(super) async fn start(options: &DemoOptions, postgres: &Cluster, port: u16) -> Result<Option<Self>, DemoError> {
        let dir = postgres.dir().join(BESIDE);
        if postgres.resumed() && !dir.exists() {
            return Ok(None);
        }
        let programs = match Programs::find() {
            Ok(programs) => programs,
            Err(ClusterError::NoMariadb { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let servers = options.shards * (1 + options.replicas);
        let progress = Progress::step(&format!("starting {servers} MariaDB servers"));
        let ports = match options.node_ports() {
            Ports::Free => Ports::Free,
            // Behind those of Postgres.
            Ports::From(first) => {
                Ports::From(u16::try_from(servers).ok().and_then(|it| first.checked_add(it)).unwrap_or(u16::MAX))
            }
        };
        let spec = MariaSpec {
            dir: Some(dir),
            at_end: if options.keep { AtEnd::Keep } else { AtEnd::Remove },
            shards: options.shards,
            replicas: options.replicas,
            ports,
            database: DATABASE.to_owned(),
            // As with Postgres, nobody needs one here.
            password: String::new(),
            durability: Durability::Volatile,
            ..MariaSpec::default()
        };
        let cluster = MariaCluster::start(spec).await?;
        progress.done();
        Ok(Some(Self { cluster, port, programs }))
    }

    /// Waits until the proxy answers, and loads the shop if it is not there.
    pub(super) async fn load(&self) -> Result<(), DemoError> {
        let Some(first) = self.cluster.primaries().next() else { return Ok(()) };
        let asked = format!(
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '{DATABASE}' AND table_name = 'settings'"
        );
        let loaded = first.value("", &asked).await?.as_deref() == Some("1");
        if !loaded {
            // Until DDL over shards exists, each gets its tables past the proxy, and its copy of the reference table; the
            // demo says so.
            let past = format!("{};{}", shop::MYSQL_TABLES.join(";"), shop::countries());
            for primary in self.cluster.primaries() {
                primary.value(DATABASE, &past).await?;
            }
        }
        let mut last = String::new();
        let answers = until(PROXY_MAX, async || {
            let outcome = self.say("SELECT name FROM customers WHERE id = 7;").await;
            last = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
            outcome.is_ok()
        });
        if !answers.await {
            return Err(DemoError::ProxySilent { port: self.port, error: last });
        }
        if loaded {
            return Ok(());
        }
        let progress = Progress::step("loading the shop into MariaDB");
        let mut script = String::new();
        for customer in 1..=shop::CUSTOMERS {
            script.push_str(&shop::mysql_rows_of(customer));
        }
        script.push_str(&shop::mysql_settings());
        self.say(&script).await?;
        progress.done();
        Ok(())
    }

    /// Says statements through the proxy, by the client of the command line, which ends at the first error.
    async fn say(&self, script: &str) -> Result<(), DemoError> {
        let mut client = command(&self.programs.client, None, Path::new("/"));
        client.args(["--no-defaults", "--batch", "--host=127.0.0.1", "--default-character-set=utf8mb4"]);
        client.args([&format!("--port={}", self.port), &format!("--user={USER}"), DATABASE]);
        let mut child = client.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let whole = async {
            if let Some(mut input) = child.stdin.take() {
                // A client that has ended tells why below.
                let _ = input.write_all(script.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let ended = timeout(PROXY_MAX, whole).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if ended.status.success() {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        Err(ClusterError::Command { program: format!("mariadb, through port {},", self.port), output }.into())
    }

    /// How to reach it, and its servers.
    pub(super) fn addresses(&self) -> String {
        let mut text = format!("  mariadb  {}\n", self.client());
        for node in self.cluster.nodes() {
            let role = if node.made_as() == MadeAs::Primary { "primary" } else { "replica" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {:<8} 127.0.0.1:{}  {role}", node.name(), node.port());
        }
        text
    }

    /// What to try. Each command works when it is pasted.
    pub(super) fn tries(&self) -> String {
        let client = self.client();
        let statements = [
            "SELECT * FROM customers WHERE id = 7",
            "SELECT o.id, o.status, i.product, i.quantity FROM orders o JOIN order_items i ON i.customer_id = o.customer_id AND i.order_id = o.id WHERE o.customer_id = 7",
            "UPDATE customers SET email = 'new@example.com' WHERE id = 7; SELECT email FROM customers WHERE id = 7",
            "SELECT id, name FROM customers WHERE id IN (1, 2, 3, 4)",
            "SELECT c.name, n.name FROM customers c JOIN countries n ON n.code = c.country WHERE c.id = 7",
        ];
        statements.iter().map(|statement| format!("  {client} -e \"{statement}\"\n")).collect()
    }

    fn client(&self) -> String {
        format!("mariadb -h 127.0.0.1 -P {} -u {USER} {DATABASE}", self.port)
    }
}

/// What the demo says where there is no MariaDB.
pub(super) fn absent(kept: bool) -> String {
    if kept {
        return "The kept folder has no servers of MariaDB: they are made when the folder is.\n".to_owned();
    }
    let missing = Programs::find().err().map(|error| error.to_string()).unwrap_or_default();
    format!("The same shop is on MariaDB too when that is installed; {missing}\n")
}
