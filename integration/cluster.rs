//! The local cluster itself: what the demo and every other integration test stand on.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use shardway::local_cluster::AtEnd;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::MadeAs;
use shardway::local_cluster::Ports;
use shardway::local_cluster::Stop;
use shardway::local_cluster::client::Client;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::test]
async fn replicas_stream_and_nothing_is_left_at_the_end() -> Outcome {
    let cluster = Cluster::start(ClusterSpec::default()).await?;
    let dir = cluster.dir().to_path_buf();
    let names: Vec<&str> = cluster.nodes().iter().map(|node| node.name()).collect();
    assert_eq!(names, ["s1-a", "s1-b", "s2-a", "s2-b"]);
    for node in cluster.nodes() {
        let recovering = node.value("shop", "SELECT pg_is_in_recovery()").await?;
        assert_eq!(recovering.as_deref(), Some(if node.made_as() == MadeAs::Replica { "t" } else { "f" }));
        let port = node.value("shop", "SELECT inet_server_port()").await?;
        assert_eq!(port, Some(node.port().to_string()));
    }
    // Shards are different clusters, a replica is its primary's copy.
    let mut identifiers = Vec::new();
    for node in cluster.nodes() {
        identifiers.push(node.value("shop", "SELECT system_identifier FROM pg_control_system()").await?);
    }
    assert_eq!(identifiers[0], identifiers[1]);
    assert_ne!(identifiers[0], identifiers[2]);

    // The user owns its database, and the control user may look.
    let (primary, replica) = (cluster.node("s1-a")?, cluster.node("s1-b")?);
    let mut demo = Client::connect(primary.port(), "demo", "shop").await?;
    demo.query("CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (1)").await?;
    let mut control = Client::connect(replica.port(), "shardway", "shop").await?;
    let status = control.value("SELECT status FROM pg_stat_wal_receiver").await?;
    assert_eq!(status.as_deref(), Some("streaming"));
    replica.until_replayed(primary).await?;
    assert_eq!(replica.value("shop", "SELECT count(*) FROM t").await?.as_deref(), Some("1"));

    let pids: Vec<u32> = cluster.nodes().iter().filter_map(|node| node.pid()).collect();
    assert_eq!(pids.len(), 4);
    cluster.stop().await?;
    assert!(!dir.exists());
    for pid in pids {
        assert!(!fs::exists(format!("/proc/{pid}"))?, "server {pid} still runs");
    }
    Ok(())
}

#[tokio::test]
async fn replay_is_delayed_paused_and_promoted_on_demand() -> Outcome {
    let cluster = Cluster::start(ClusterSpec { shards: 1, replicas: 2, ..ClusterSpec::default() }).await?;
    let (primary, paused, delayed) = (cluster.node("s1-a")?, cluster.node("s1-b")?, cluster.node("s1-c")?);
    primary.value("shop", "CREATE TABLE t (id bigint)").await?;
    paused.until_replayed(primary).await?;
    delayed.until_replayed(primary).await?;

    paused.pause_replay().await?;
    delayed.delay_replay(Duration::from_millis(300)).await?;
    primary.value("shop", "INSERT INTO t VALUES (1)").await?;
    delayed.until_replayed(primary).await?;
    assert_eq!(delayed.value("shop", "SELECT count(*) FROM t").await?.as_deref(), Some("1"));
    assert_eq!(paused.value("shop", "SELECT count(*) FROM t").await?.as_deref(), Some("0"));
    paused.resume_replay().await?;
    paused.until_replayed(primary).await?;
    assert_eq!(paused.value("shop", "SELECT count(*) FROM t").await?.as_deref(), Some("1"));

    primary.kill9().await?;
    assert!(primary.connect("shop").await.is_err());
    paused.promote().await?;
    assert_eq!(paused.value("shop", "SELECT pg_is_in_recovery()").await?.as_deref(), Some("f"));
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_node_comes_back_with_its_rows_and_a_frozen_one_answers_again() -> Outcome {
    let cluster = Cluster::start(ClusterSpec { shards: 1, replicas: 0, ..ClusterSpec::default() }).await?;
    let node = cluster.node("s1-a")?;
    node.value("shop", "CREATE TABLE t AS SELECT 7 AS id").await?;
    node.kill9().await?;
    assert!(node.connect("shop").await.is_err());
    node.start().await?;
    assert_eq!(node.value("shop", "SELECT id FROM t").await?.as_deref(), Some("7"));

    let mut client = node.connect("shop").await?;
    node.freeze().await?;
    let answer = tokio::time::timeout(Duration::from_millis(200), client.value("SELECT 1"));
    assert!(answer.await.is_err(), "a frozen server answered");
    node.thaw().await?;
    assert_eq!(client.until_ready().await?, [[Some("1".to_owned())]]);

    node.stop(Stop::Immediate).await?;
    assert_eq!(node.pid(), None);
    node.start().await?;
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_kept_folder_continues_and_a_strangers_is_not_touched() -> Outcome {
    let parent = std::env::temp_dir().join(format!("shardway-kept-{}", std::process::id()));
    let dir = parent.join("cluster");
    let at_end = AtEnd::Keep;
    let spec = ClusterSpec { dir: Some(dir.clone()), shards: 1, at_end, ..ClusterSpec::default() };
    let cluster = Cluster::start(spec.clone()).await?;
    assert!(!cluster.resumed());
    cluster.node("s1-a")?.value("shop", "CREATE TABLE t AS SELECT 7 AS id").await?;
    let error = Cluster::start(spec.clone()).await.expect_err("it runs").to_string();
    assert!(error.contains("runs in"), "{error}");
    cluster.stop().await?;

    // A start that fails loses nothing.
    let error = Cluster::start(ClusterSpec { shards: 2, ..spec.clone() }).await.expect_err("another shape").to_string();
    assert!(error.contains("other nodes than asked for: s1-a, s1-b"), "{error}");
    let cluster = Cluster::start(ClusterSpec { at_end: AtEnd::Remove, ..spec.clone() }).await?;
    assert!(cluster.resumed());
    assert_eq!(cluster.node("s1-a")?.value("shop", "SELECT id FROM t").await?.as_deref(), Some("7"));
    cluster.node("s1-b")?.until_streaming().await?;
    // Dropped without a stop: servers and files are gone all the same.
    drop(cluster);
    assert!(!dir.exists());

    fs::write(parent.join("mine"), "precious")?;
    let error = Cluster::start(ClusterSpec { dir: Some(parent.clone()), ..spec }).await.expect_err("not ours");
    assert!(error.to_string().contains("nothing there is touched"), "{error}");
    assert_eq!(fs::read_to_string(parent.join("mine"))?, "precious");
    fs::remove_dir_all(parent)?;
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_named_and_nothing_is_left() -> Outcome {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let dir = std::env::temp_dir().join(format!("shardway-taken-{}", std::process::id()));
    let spec = ClusterSpec { dir: Some(dir.clone()), ports: Ports::From(port), ..ClusterSpec::default() };
    let error = Cluster::start(spec).await.expect_err("the port is taken").to_string();
    assert!(error.contains(&format!("port {port} on 127.0.0.1 is taken")), "{error}");
    assert!(!dir.exists());
    Ok(())
}

/// A demo with one server on free ports, as a process of its own. Dropping it kills it.
struct Demo {
    process: Child,
    dir: PathBuf,
    port: u16,
}

impl Demo {
    /// Starts one, with `temporary` as the folder for temporary files, and waits until it says that it is ready.
    fn start(temporary: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardway"));
        command.args(["demo", "--shards", "1", "--replicas", "0", "--port", &port.to_string()]);
        command.env("TMPDIR", temporary);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn()?;
        let said = BufReader::new(process.stdout.take().ok_or("it has a standard output")?);
        let mut demo = Self { process, dir: PathBuf::new(), port };
        for line in said.lines() {
            let line = line?;
            // "  map      FOLDER/shard-map.yaml  (edits take effect)"
            if let Some(map) = line.strip_prefix("  map ").and_then(|rest| rest.split_whitespace().next()) {
                demo.dir = Path::new(map).parent().ok_or("a map is in a folder")?.to_path_buf();
            }
            if line.starts_with("Ctrl-C") {
                return Ok(demo);
            }
        }
        Err("the demo ended before it was ready".into())
    }

    /// The process of its server, and the number of the server's System V segment.
    fn server(&self) -> Result<(String, String), Box<dyn std::error::Error>> {
        let text = fs::read_to_string(self.dir.join("s1-a/postmaster.pid"))?;
        let lines: Vec<&str> = text.lines().collect();
        let segment =
            lines.get(6).and_then(|line| line.split_whitespace().nth(1)).ok_or("it wrote its segment down")?;
        Ok((lines.first().ok_or("it wrote its number down")?.trim().to_owned(), segment.to_owned()))
    }

    /// The process of its server of MariaDB.
    fn mariadb(&self) -> Result<String, Box<dyn std::error::Error>> {
        Ok(fs::read_to_string(self.dir.join("mariadb/s1-a/mariadbd.pid"))?.trim().to_owned())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether the system has a segment of that number.
fn has_segment(id: &str) -> bool {
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    table.lines().any(|line| line.split_whitespace().nth(1) == Some(id))
}

#[tokio::test]
async fn what_a_killed_demo_leaves_is_gone_after_the_next_start() -> Outcome {
    // Of its own, or another test's start would remove what is left.
    let temporary = std::env::temp_dir().join(format!("shardway-killed-{}", std::process::id()));
    fs::create_dir_all(&temporary)?;
    let mut killed = Demo::start(&temporary)?;
    let ((server, segment), mariadb) = (killed.server()?, killed.mariadb()?);
    let lives = |pid: &str| Path::new("/proc").join(pid).exists();
    killed.process.kill()?;
    killed.process.wait()?;
    // Nobody was left to stop it.
    assert!(killed.dir.join("shard-map.yaml").exists() && lives(&server) && has_segment(&segment));
    assert!(lives(&mariadb));

    let mut next = Demo::start(&temporary)?;
    assert!(!killed.dir.exists() && !lives(&server) && !has_segment(&segment) && !lives(&mariadb));
    let mut client = Client::connect(next.port, "demo", "shop").await?;
    assert_eq!(client.value("SELECT name FROM customers WHERE id = 7").await?.as_deref(), Some("Amber Paper 7"));

    let ((server, segment), mariadb) = (next.server()?, next.mariadb()?);
    let signal = format!("kill -s INT {}", next.process.id());
    Command::new("/bin/sh").args(["-c", &signal]).status()?;
    assert!(next.process.wait()?.success());
    assert!(!next.dir.exists() && !lives(&server) && !has_segment(&segment) && !lives(&mariadb));
    assert!(Client::connect(next.port, "demo", "shop").await.is_err());
    fs::remove_dir_all(temporary)?;
    Ok(())
}

#[tokio::test]
async fn a_demo_whose_port_is_taken_names_it_and_says_what_to_do() -> Outcome {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_string();
    let ended = Command::new(env!("CARGO_BIN_EXE_shardway")).args(["demo", "--port", &port]).output()?;
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8(ended.stderr)?;
    assert!(said.contains(&format!("port {port} on 127.0.0.1 is taken")) && said.contains("--port"), "{said}");
    Ok(())
}
