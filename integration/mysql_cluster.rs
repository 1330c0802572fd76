//! The local cluster of MariaDB, and the client that tests see it with: what the tests of MySQL clients stand on.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use client::Change;
use client::Client;
use client::LOST;
use client::MODERN;
use client::OLD;
use client::Types;
use client::Value;
use shardway::clock;
use shardway::local_cluster::MadeAs;
use shardway::local_cluster::mariadb::CONTROL_PASSWORD;
use shardway::local_cluster::mariadb::CONTROL_USER;
use shardway::local_cluster::mariadb::ED25519_USER;
use shardway::local_cluster::mariadb::MariaCluster;
use shardway::local_cluster::mariadb::MariaSpec;
use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;
use shardway::wire::mysql::capability;
use shardway::wire::mysql::kind;
use shardway::wire::mysql::status;

#[path = "mysql/client.rs"]
mod client;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const TRANSACTION: u16 = status::IN_TRANSACTION;
const AUTOCOMMIT: u16 = status::AUTOCOMMIT;

fn connect(port: u16) -> Result<Client, client::Failure> {
    Client::connect(port, USER, PASSWORD, "shop")
}

async fn one_server() -> Result<MariaCluster, Box<dyn std::error::Error>> {
    Ok(MariaCluster::start(MariaSpec { shards: 1, replicas: 0, ..MariaSpec::default() }).await?)
}

#[tokio::test]
async fn replicas_follow_and_nothing_is_left_at_the_end() -> Outcome {
    let cluster = MariaCluster::start(MariaSpec::default()).await?;
    let dir = cluster.dir().to_path_buf();
    let names: Vec<&str> = cluster.nodes().iter().map(|node| node.name()).collect();
    assert_eq!(names, ["s1-a", "s1-b", "s2-a", "s2-b"]);
    let mut numbers = Vec::new();
    for node in cluster.nodes() {
        let is_replica = node.made_as() == MadeAs::Replica;
        let read_only = node.value("shop", "SELECT @@read_only").await?;
        assert_eq!(read_only.as_deref(), Some(if is_replica { "1" } else { "0" }), "{}", node.name());
        assert_eq!(node.value("", "SELECT @@port").await?, Some(node.port().to_string()));
        numbers.extend(node.value("", "SELECT @@server_id").await?);
    }
    numbers.dedup();
    assert_eq!(numbers.len(), 4, "{numbers:?}");

    // The application writes on the primary, and reads on the replica once that has it.
    let (primary, replica) = (cluster.node("s1-a")?, cluster.node("s1-b")?);
    let mut demo = connect(primary.port())?;
    demo.done("CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (1)")?;
    replica.until_replayed(primary).await?;
    let mut reader = connect(replica.port())?;
    assert_eq!(reader.done("SELECT COUNT(*) FROM t")?.value().as_deref(), Some("1"));
    let refused = reader.one("INSERT INTO t VALUES (2)").error.ok_or("a replica took a write")?;
    assert_eq!(refused.errno, 1290, "{refused}");
    // The other shard has no such table.
    let other = connect(cluster.node("s2-a")?.port())?.one("SELECT * FROM t").error.ok_or("it is there")?;
    assert_eq!((other.errno, other.sqlstate.as_str()), (1146, "42S02"));

    // The control user sees what the application has made, and how far replicas are.
    let mut control = Client::connect(replica.port(), CONTROL_USER, CONTROL_PASSWORD, "")?;
    let seen = "SELECT column_type FROM information_schema.columns WHERE table_schema = 'shop' AND table_name = 't'";
    assert_eq!(control.done(seen)?.value().as_deref(), Some("bigint(20)"));
    assert_eq!(control.done("SHOW REPLICA STATUS")?.rows.len(), 1);

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
async fn a_killed_node_comes_back_with_its_rows_and_a_frozen_one_answers_again() -> Outcome {
    let cluster = one_server().await?;
    let node = cluster.node("s1-a")?;
    node.value("shop", "CREATE TABLE t AS SELECT 7 AS id").await?;
    let mut open = connect(node.port())?;
    node.kill9().await?;
    assert_eq!(open.ping().error.map(|it| it.errno), Some(LOST));
    assert!(connect(node.port()).is_err());
    node.start().await?;
    assert_eq!(node.value("shop", "SELECT id FROM t").await?.as_deref(), Some("7"));

    node.freeze().await?;
    let answer = tokio::time::timeout(Duration::from_millis(200), node.value("", "SELECT 1"));
    assert!(answer.await.is_err(), "a frozen server answered");
    node.thaw().await?;
    assert_eq!(node.value("", "SELECT 1").await?.as_deref(), Some("1"));

    node.stop().await?;
    assert_eq!(node.pid(), None);
    node.configure(&[("max-connections".to_owned(), "77".to_owned())])?;
    node.start().await?;
    assert_eq!(node.value("", "SELECT @@max_connections").await?.as_deref(), Some("77"));
    let dir = cluster.dir().to_path_buf();
    // Dropped without a stop: servers and files are gone all the same.
    drop(cluster);
    assert!(!dir.exists());
    Ok(())
}

#[tokio::test]
async fn replay_pauses_a_replica_is_promoted_and_the_old_primary_follows_it() -> Outcome {
    let cluster = MariaCluster::start(MariaSpec { shards: 1, ..MariaSpec::default() }).await?;
    let (first, second) = (cluster.node("s1-a")?, cluster.node("s1-b")?);
    first.value("shop", "CREATE TABLE t (id bigint PRIMARY KEY)").await?;
    second.until_replayed(first).await?;
    second.pause_replay().await?;
    first.value("shop", "INSERT INTO t VALUES (1)").await?;
    assert_eq!(second.value("shop", "SELECT COUNT(*) FROM t").await?.as_deref(), Some("0"));
    second.resume_replay().await?;
    second.until_replayed(first).await?;
    assert_eq!(second.value("shop", "SELECT COUNT(*) FROM t").await?.as_deref(), Some("1"));

    first.kill9().await?;
    second.promote().await?;
    connect(second.port())?.done("INSERT INTO t VALUES (2)")?;
    first.start().await?;
    first.follow(second).await?;
    first.until_streaming().await?;
    first.until_replayed(second).await?;
    assert_eq!(first.value("shop", "SELECT COUNT(*) FROM t").await?.as_deref(), Some("2"));
    assert_eq!(first.value("", "SELECT @@read_only").await?.as_deref(), Some("1"));
    cluster.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_client_reads_every_kind_of_answer() -> Outcome {
    let cluster = one_server().await?;
    let port = cluster.node("s1-a")?.port();
    let wrong = Client::connect(port, USER, "wrong", "shop").err().ok_or("a wrong password was taken")?;
    assert_eq!((wrong.errno, wrong.sqlstate.as_str()), (1045, "28000"));
    // What this client cannot do it says.
    let modern = Client::connect(port, ED25519_USER, PASSWORD, "shop").err().ok_or("by another proof")?;
    let has_plugin = cluster
        .node("s1-a")?
        .value("", "SELECT COUNT(*) FROM information_schema.plugins WHERE plugin_name = 'ed25519'");
    match has_plugin.await?.as_deref() {
        Some("1") => assert!(modern.message.ends_with("asked for a proof by client_ed25519"), "{modern}"),
        _ => assert_eq!(modern.errno, 1045, "{modern}"),
    }
    let nowhere = Client::connect(port, USER, PASSWORD, "nowhere").err().ok_or("no such database")?;
    assert!(matches!(nowhere.errno, 1044 | 1049), "{nowhere}");

    for capabilities in [MODERN, OLD] {
        let mut client = Client::connect_with(port, USER, PASSWORD, "shop", capabilities)?;
        let tracks = capabilities & capability::SESSION_TRACK != 0;
        assert_eq!(client.capabilities() & capability::DEPRECATE_EOF, capabilities & capability::DEPRECATE_EOF);
        assert!(client.greeting().version.contains("MariaDB"));
        assert_eq!(client.welcome.status & (TRANSACTION | AUTOCOMMIT), AUTOCOMMIT);

        client.done("DROP TABLE IF EXISTS t")?;
        client.done(
            "CREATE TABLE t (id bigint AUTO_INCREMENT PRIMARY KEY, n int, s varchar(20), d decimal(6,2), day date)",
        )?;
        let done =
            client.done("INSERT INTO t (n, s, d, day) VALUES (1, 'a', 1.5, '2020-02-29'), (2, NULL, NULL, NULL)")?;
        assert_eq!((done.affected, done.insert_id, done.columns), (2, 1, None));
        assert_eq!(done.info, "Records: 2  Duplicates: 0  Warnings: 0");

        // Rows as text, with all of their columns.
        let read = client.done("SELECT x.id AS key_, n, s, d, day FROM t AS x ORDER BY id")?;
        let columns = read.columns.ok_or("it has columns")?;
        let first = columns.first().ok_or("it has a first column")?;
        let names = [&first.database, &first.table, &first.own_table, &first.name, &first.own_name];
        assert_eq!(names.map(|it| String::from_utf8_lossy(it).into_owned()), ["shop", "x", "t", "key_", "id"]);
        assert_eq!((first.kind, first.length, first.collation), (kind::LONGLONG, 20, 63));
        let cells = |row: &client::Row| {
            row.iter().map(|it| it.clone().map(|it| String::from_utf8_lossy(&it).into_owned())).collect::<Vec<_>>()
        };
        let text = |it: &str| Some(it.to_owned());
        assert_eq!(cells(&read.rows[0]), [text("1"), text("1"), text("a"), text("1.50"), text("2020-02-29")]);
        assert_eq!(cells(&read.rows[1])[2..], [None, None, None]);

        // Several results, the last an error, behind which nothing runs.
        let answers = client.query("SELECT 1; DO 0; SELECT nope; SELECT 2");
        assert_eq!(answers.len(), 3);
        assert_eq!(answers[0].value().as_deref(), Some("1"));
        let error = answers[2].error.as_ref().ok_or("there is no such column")?;
        assert_eq!((error.errno, error.sqlstate.as_str()), (1054, "42S22"));
        // Warnings, and an error that comes behind rows.
        assert_eq!(client.one("SELECT CAST('x' AS SIGNED)").warnings, 1);
        let late = client.one("SELECT id, (SELECT 1 UNION SELECT id) FROM t ORDER BY id");
        assert_eq!((late.rows.len(), late.error.map(|it| it.errno)), (1, Some(1242)));

        // Prepared: values of each kind there and back, types told once, long data, and a failure.
        let statement = client.prepare("SELECT ?, ?, ?, ?, ?, ?, ?, ?")?;
        assert_eq!((statement.parameters.len(), statement.columns.len()), (8, 8));
        let day = Value::Date(2020, 2, 29);
        let long = "x".repeat(70_000);
        let values = [
            Value::Null,
            Value::Tiny(-1),
            Value::Int(-2),
            Value::Unsigned(u64::MAX),
            Value::Double(0.5),
            Value::Text(&long),
            Value::Decimal("1.25"),
            day,
        ];
        for types in [Types::Told, Types::AsBefore] {
            let answers = client.execute(&statement, &values, types);
            assert_eq!((answers.len(), &answers[0].error), (1, &None));
            let row = &answers[0].rows[0];
            assert_eq!(row[0], None);
            assert_eq!(row[3].as_deref(), Some(&u64::MAX.to_le_bytes()[..]));
            assert_eq!(row[4].as_deref(), Some(&0.5_f64.to_le_bytes()[..]));
            assert_eq!(row[5].as_deref(), Some(long.as_bytes()));
            assert_eq!(row[6].as_deref(), Some(&b"1.25"[..]));
            assert_eq!(row[7].as_deref(), Some(&[0xe4, 7, 2, 29][..]));
        }
        client.close(&statement);
        let closed = client.execute(&statement, &values, Types::Told);
        assert_eq!(closed[0].error.as_ref().map(|it| it.errno), Some(1243));
        let statement = client.prepare("SELECT LENGTH(?)")?;
        client.long_data(&statement, 0, b"abc");
        client.long_data(&statement, 0, b"de");
        let length = client.execute(&statement, &[Value::Sent], Types::Told);
        assert_eq!(length[0].rows[0][0].as_deref().map(|it| it[0]), Some(5));
        assert_eq!(client.reset(&statement).error, None);
        assert_eq!(client.prepare("SELEC 1").err().map(|it| it.errno), Some(1064));
        assert_eq!(client.run("INSERT INTO t (n) VALUES (?)", &[Value::Long(9)])[0].affected, 1);

        // Transactions show in the status.
        let state = |answer: client::Answer| answer.status & (TRANSACTION | AUTOCOMMIT);
        assert_eq!(state(client.done("BEGIN")?), TRANSACTION | AUTOCOMMIT);
        assert_eq!(state(client.done("SELECT 1")?), TRANSACTION | AUTOCOMMIT);
        assert_eq!(state(client.done("ROLLBACK")?), AUTOCOMMIT);
        assert_eq!(state(client.done("SET autocommit = 0")?), 0);
        assert_eq!(state(client.reset_connection()), AUTOCOMMIT);

        // The database in use.
        let changed = client.done("USE information_schema")?.changes;
        assert_eq!(changed.contains(&Change::Database("information_schema".to_owned())), tracks, "{changed:?}");
        assert_eq!(client.init_db("nowhere").error.map(|it| it.errno), Some(1044));
        assert_eq!(client.init_db("shop").error, None);
        assert_eq!(client.done("SELECT DATABASE()")?.value().as_deref(), Some("shop"));

        assert_eq!(client.multi_statements(false).error, None);
        assert_eq!(client.one("SELECT 1; SELECT 2").error.map(|it| it.errno), Some(1064));
        assert_eq!(client.multi_statements(true).error, None);
        assert_eq!(client.raw(0x77, &[]).error.map(|it| it.errno), Some(1047));
        assert_eq!(client.ping().error, None);

        // A row of more than one packet.
        let large = client.done("SELECT REPEAT('y', 16777215 + 10)");
        // The server sends no value beyond its max_allowed_packet.
        assert_eq!(large?.rows[0][0], None);
        client.quit()?;
    }
    cluster.stop().await?;
    Ok(())
}

/// Set for a process of this test that runs a cluster until it is told to stop, or killed: the file that it writes its
/// server's number and its folder into.
const RUNS_A_CLUSTER: &str = "SHARDWAY_RUNS_A_CLUSTER";
/// How long a process may take to start or to end its cluster.
const CHANGE_MAX: Duration = Duration::from_secs(60);

/// A cluster in a process of its own, in a folder for temporary files of its own. Dropping it kills it.
struct Apart {
    process: Child,
    file: PathBuf,
    server: String,
    dir: PathBuf,
}

impl Apart {
    async fn start(temporary: &Path, name: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let file = temporary.join(name);
        let mut command = Command::new(env::current_exe()?);
        command.args(["what_a_killed_process_leaves_is_gone_after_the_next_start", "--exact"]);
        command.env("TMPDIR", temporary).env(RUNS_A_CLUSTER, &file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn()?;
        let mut apart = Self { process, file, server: String::new(), dir: PathBuf::new() };
        until(|| apart.file.exists()).await?;
        let text = fs::read_to_string(&apart.file)?;
        let (server, dir) = text.split_once(' ').ok_or("it wrote down what it has")?;
        (apart.server, apart.dir) = (server.to_owned(), dir.into());
        Ok(apart)
    }

    fn lives(&self) -> bool {
        let state = fs::read_to_string(Path::new("/proc").join(&self.server).join("status")).unwrap_or_default();
        // One that nobody has reaped is gone all the same.
        state.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn until(mut holds: impl FnMut() -> bool) -> Outcome {
    let begun = clock::now();
    while !holds() {
        if clock::now().since(begun) > CHANGE_MAX {
            return Err(format!("it took more than {CHANGE_MAX:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

#[tokio::test]
async fn what_a_killed_process_leaves_is_gone_after_the_next_start() -> Outcome {
    if let Some(file) = env::var_os(RUNS_A_CLUSTER).map(PathBuf::from) {
        let cluster = one_server().await?;
        let pid = cluster.nodes()[0].pid().ok_or("it runs")?;
        let draft = file.with_extension("draft");
        fs::write(&draft, format!("{pid} {}", cluster.dir().display()))?;
        fs::rename(draft, &file)?;
        until(|| file.with_extension("stop").exists()).await?;
        return Ok(cluster.stop().await?);
    }
    let temporary = env::temp_dir().join(format!("shardway-killed-{}", std::process::id()));
    fs::create_dir_all(&temporary)?;
    let mut killed = Apart::start(&temporary, "killed").await?;
    killed.process.kill()?;
    killed.process.wait()?;
    // Nobody was left to stop it.
    assert!(killed.dir.exists() && killed.lives());

    let mut next = Apart::start(&temporary, "next").await?;
    assert!(!killed.dir.exists() && !killed.lives());
    assert!(next.dir.exists() && next.lives());
    fs::write(next.file.with_extension("stop"), "")?;
    assert!(next.process.wait()?.success());
    assert!(!next.dir.exists() && !next.lives());
    fs::remove_dir_all(temporary)?;
    Ok(())
}
