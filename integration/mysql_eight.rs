//! Servers that speak as Oracle's MySQL 8 does: logins, GTIDs, roles, replicas, and nothing said to them that only MariaDB
//! knows.

#[path = "mysql/client.rs"]
mod client;
mod proxy;
#[path = "mysql_eight/skin.rs"]
mod skin;

use std::time::Duration;

use client::Change;
use client::Client;
use client::MODERN;
use client::Types;
use client::Value;
use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::prepare_at;
use proxy::until;
use shardway::backend::mysql::Connection;
use shardway::clock;
use shardway::local_cluster::Durability;
use shardway::local_cluster::mariadb::CONTROL_PASSWORD;
use shardway::local_cluster::mariadb::CONTROL_USER;
use shardway::local_cluster::mariadb::MariaCluster;
use shardway::local_cluster::mariadb::MariaNode;
use shardway::local_cluster::mariadb::MariaSpec;
use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;
use shardway::net::ClientTls;
use shardway::shard_map::Secret;
use shardway::shard_map::ServerLogin;
use shardway::wire::mysql::capability;
use skin::Skin;

const SCHEMA: &str = "CREATE TABLE t (id bigint PRIMARY KEY, n int, note varchar(20));
CREATE TABLE orders (id bigint AUTO_INCREMENT PRIMARY KEY, who int);
CREATE TABLE refs (code varchar(10) PRIMARY KEY, n int);
CREATE TABLE node (one int PRIMARY KEY, name varchar(20) NOT NULL)";
const KEYS: i64 = 20;

struct House {
    // Ends before the servers do.
    proxy: Proxy,
    skins: Vec<Skin>,
    cluster: MariaCluster,
}

impl House {
    /// Two shards with a replica each. `node` holds on every server another row, which is in nobody's log.
    async fn build() -> Outcome<Self> {
        let spec = MariaSpec { shards: 2, replicas: 1, durability: Durability::Volatile, ..MariaSpec::default() };
        let cluster = MariaCluster::start(spec).await?;
        for primary in cluster.primaries() {
            primary.value("shop", SCHEMA).await?;
            primary.value("shop", "INSERT INTO node VALUES (1, 'primary')").await?;
        }
        let mut skins = Vec::new();
        for (number, node) in cluster.nodes().iter().enumerate() {
            skins.push(Skin::start(node.port(), number, cluster.dir()).await?);
        }
        for node in cluster.nodes() {
            let primary = cluster.primaries().find(|it| it.shard() == node.shard()).ok_or("no primary")?;
            if primary.name() != node.name() {
                node.until_replayed(primary).await?;
                node.value("shop", "SET sql_log_bin = 0; UPDATE node SET name = 'replica'").await?;
            }
        }
        let port = free_port()?;
        let mut shards = String::new();
        let all: Vec<(&MariaNode, &Skin)> = cluster.nodes().iter().zip(&skins).collect();
        for nodes in all.chunk_by(|one, other| one.0.shard() == other.0.shard()) {
            let listed: Vec<String> = nodes
                .iter()
                .map(|(node, skin)| format!("{{name: {}, host: 127.0.0.1, port: {}}}", node.name(), skin.port))
                .collect();
            shards += &format!("      {}: [{}]\n", nodes[0].0.shard(), listed.join(", "));
        }
        let map = format!(
            "version: 1\nlisten: {{mysql: 127.0.0.1:{port}}}\nusers: {{{USER}: {{password: {PASSWORD}}}}}\ndatabases:\n  \
             shop:\n    engine: mysql\n    control: {{user: {CONTROL_USER}, password: {CONTROL_PASSWORD}}}\n    failover: \
             {{wait: 20s}}\n    shards:\n{shards}    groups:\n      key: {{key: bigint, tables: {{t: id, orders: id}}}}\n    \
             reference: [refs, node]\n"
        );
        prepare_at(cluster.dir(), &map)?;
        let answers = async || {
            let Ok(mut client) = Client::connect(port, USER, PASSWORD, "shop") else { return false };
            client.query("SELECT COUNT(*) FROM node").iter().all(|it| it.error.is_none())
        };
        let proxy = Proxy::start_when(cluster.dir(), port, &map, &[], answers).await?;
        let house = Self { proxy, skins, cluster };
        let mut client = house.client()?;
        until("transactions over shards", async || {
            client.done("BEGIN")?;
            let all = (1..=KEYS).all(|id| client.done(&format!("INSERT INTO t VALUES ({id}, 0, 'x')")).is_ok());
            client.done("ROLLBACK")?;
            Ok(all)
        })
        .await
        .map_err(|error| format!("{error}\n{}", house.proxy.log()))?;
        Ok(house)
    }

    fn client(&self) -> Outcome<Client> {
        Ok(Client::connect(self.proxy.port(), USER, PASSWORD, "shop")?)
    }

    fn node(&self, name: &str) -> Outcome<&MariaNode> {
        Ok(self.cluster.node(name)?)
    }

    /// Nothing was said to the servers that MySQL 8 does not know.
    fn is_understood(&self) {
        for skin in &self.skins {
            assert_eq!(skin.foreign(), [""; 0], "{}", self.proxy.log());
        }
    }

    async fn stop(self) -> Outcome {
        self.is_understood();
        self.proxy.stop().await?;
        drop(self.skins);
        Ok(self.cluster.stop().await?)
    }
}

fn value(client: &mut Client, sql: &str) -> Outcome<String> {
    Ok(client.done(sql)?.value().unwrap_or_else(|| "NULL".to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_is_said_to_mysql_8_is_what_it_knows() -> Outcome {
    let house = House::build().await?;
    let mut client = house.client()?;
    assert!(client.greeting().version.contains(skin::VERSION), "{:?}", client.greeting());
    // Proofs were asked for in full once a user, and in TLS; then remembered.
    let (fast, full) = house.skins[0].logins();
    assert!(full >= 2 && fast > 0, "{fast} {full}");

    // What MariaDB does not have: packets packed by Zstandard.
    let mut packed = Client::connect_with(house.proxy.port(), USER, PASSWORD, "shop", MODERN | capability::ZSTD)?;
    assert_ne!(packed.capabilities() & capability::ZSTD, 0);
    for length in [10, 100_000] {
        let (found, sql) = ("x".repeat(length), format!("SELECT REPEAT('x', {length})"));
        assert_eq!(value(&mut packed, &sql)?, found);
    }

    // Rows of several shards, by one statement and one after the other, and what is counted.
    let rows: Vec<String> = (1..=KEYS).map(|id| format!("({id}, {}, 'n{id}')", id % 3)).collect();
    let done = client.done(&format!("INSERT INTO t VALUES {}", rows.join(", ")))?;
    assert_eq!((done.affected, &*done.info), (20, "Records: 20  Duplicates: 0  Warnings: 0"));
    let done = client.done("INSERT INTO orders (who) VALUES (1), (2), (3), (4)")?;
    assert_eq!((done.affected, done.insert_id), (4, 1));
    assert_eq!(value(&mut client, "SELECT LAST_INSERT_ID()")?, "1");
    assert_eq!(client.done("INSERT INTO t VALUES (99, 1, 'a'), (1, 1, 'again')").err().map(|it| it.errno), Some(1062));
    client.done("INSERT INTO refs VALUES ('a', 1), ('b', 2)")?;

    // Reads: a key, all shards, together in one place, and prepared.
    assert_eq!(value(&mut client, "SELECT note FROM t WHERE id = 7")?, "n7");
    assert_eq!(value(&mut client, "SELECT SUM(n) FROM t")?, "21");
    assert_eq!(client.done("SELECT n, COUNT(*), AVG(id) FROM t GROUP BY n ORDER BY n")?.rows.len(), 3);
    assert_eq!(client.done("SELECT t.id FROM t JOIN refs ON refs.n = t.n ORDER BY t.id LIMIT 5")?.rows.len(), 5);
    let statement = client.prepare("SELECT COUNT(*) FROM t WHERE n = ? AND id > ?")?;
    for (n, more) in [(1, 10), (2, 0)] {
        let answers = client.execute(&statement, &[Value::Long(n), Value::Double(f64::from(more))], Types::Told);
        assert_eq!(answers[0].error, None);
        assert_eq!(answers[0].rows.len(), 1);
    }

    // Writes of several shards, transactions of several, savepoints, isolation, DDL.
    assert_eq!(client.done("UPDATE t SET n = n + 1, note = NOW() WHERE n < 2")?.affected, 13);
    assert_eq!(client.done("DELETE FROM t WHERE id > 18")?.affected, 2);
    for end in ["COMMIT", "ROLLBACK"] {
        client.done("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")?;
        client.done("BEGIN")?;
        for id in 101..=110 {
            client.done(&format!("INSERT INTO t VALUES ({id}, 5, '{end}')"))?;
        }
        client.done("SAVEPOINT s")?;
        client.done("UPDATE t SET n = 6 WHERE n = 5")?;
        client.done("ROLLBACK TO s")?;
        client.done(end)?;
        assert_eq!(value(&mut client, "SELECT COUNT(*) FROM t WHERE n = 5")?, if end == "COMMIT" { "10" } else { "0" });
        client.done("DELETE FROM t WHERE id > 100")?;
    }
    client.done("SET SESSION TRANSACTION READ ONLY")?;
    client.done("START TRANSACTION READ WRITE")?;
    client.done("UPDATE t SET n = 9 WHERE id IN (1, 2, 3, 4, 5)")?;
    client.done("COMMIT")?;
    client.done("SET SESSION TRANSACTION READ WRITE")?;
    client.done("SET autocommit = 0")?;
    client.done("UPDATE t SET n = 8 WHERE id IN (1, 2, 3, 4, 5)")?;
    client.done("ALTER TABLE t ADD COLUMN more int DEFAULT 3")?;
    client.done("SET autocommit = 1")?;
    until(
        "the column to be known",
        async || Ok(client.one("SELECT SUM(more) FROM t").value().as_deref() == Some("54")),
    )
    .await?;
    assert_eq!(value(&mut client, "SELECT COUNT(*) FROM t WHERE n = 8")?, "5");
    client.done("TRUNCATE TABLE orders")?;
    assert_eq!(client.done("SET time_zone = '+03:00', sql_mode = 'ANSI_QUOTES', @x = 5")?.error, None);
    assert_eq!(value(&mut client, "SELECT \"id\" FROM \"t\" WHERE \"id\" = 7")?, "7");
    assert_eq!(value(&mut client, "SELECT @x + COUNT(*) FROM t")?, "23");
    assert_eq!(client.reset_connection().error, None);
    assert_eq!(tracked(&mut client)?, [""; 0]);
    assert!(house.skins.iter().map(Skin::variables).sum::<usize>() > 10, "variables were told one after the other");
    // What only MariaDB knows is the server's to refuse, and the client's error.
    let refused = client.one("SELECT note FROM t WHERE id = 1 /* MASTER_GTID_WAIT */").error;
    assert_eq!(refused.map(|it| it.errno), Some(1305));
    let said: Vec<String> = house.skins.iter().flat_map(Skin::foreign).collect();
    assert!(said.iter().all(|it| it.contains("/* MASTER_GTID_WAIT */")), "{said:#?}");
    let told: usize = house.skins.iter().map(Skin::told).sum();
    assert!(told > 20, "{told} answers told GTIDs");
    let House { proxy, skins, cluster } = house;
    proxy.stop().await?;
    drop(skins);
    cluster.stop().await?;
    Ok(())
}

/// What a client of MySQL 8 is told of its session: what was told otherwise than it should be.
fn tracked(client: &mut Client) -> Outcome<Vec<String>> {
    let changed = |changes: &[(&str, &str)]| -> Vec<Change> {
        changes.iter().map(|(name, value)| Change::Variable((*name).to_owned(), Some((*value).to_owned()))).collect()
    };
    let mut wrong = Vec::new();
    for (sql, wanted) in [
        ("SET autocommit = 0, time_zone = '+02:00'", changed(&[("autocommit", "OFF"), ("time_zone", "+02:00")])),
        ("SET autocommit = 1, sql_mode = 'ANSI'", changed(&[("autocommit", "ON")])),
        ("SET session_track_system_variables = 'sql_mode,transaction_isolation'", Vec::new()),
        ("SET sql_mode = '', time_zone = '+01:00'", changed(&[("sql_mode", "")])),
        ("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE", changed(&[("transaction_isolation", "SERIALIZABLE")])),
        (
            "SET SESSION transaction_isolation = 'READ-COMMITTED', sql_mode = 'ANSI_QUOTES'",
            changed(&[("transaction_isolation", "READ-COMMITTED"), ("sql_mode", "ANSI_QUOTES")]),
        ),
        ("USE shop", vec![Change::Database("shop".to_owned())]),
        ("UPDATE t SET n = 7 WHERE id = 7", Vec::new()),
        ("SET session_track_system_variables = DEFAULT, session_track_schema = OFF", Vec::new()),
        ("USE shop", Vec::new()),
    ] {
        let mut told = client.done(sql)?.changes;
        told.sort_by_key(|it| wanted.iter().position(|one| one == it));
        if told != wanted {
            wrong.push(format!("{sql}: told {told:?} for {wanted:?}"));
        }
    }
    Ok(wrong)
}

/// Without TLS, a password goes encrypted by the server's key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tls_no_password_goes_in_clear() -> Outcome {
    let spec = MariaSpec { shards: 1, replicas: 0, durability: Durability::Volatile, ..MariaSpec::default() };
    let cluster = MariaCluster::start(spec).await?;
    let skin = Skin::start_without_tls(cluster.nodes()[0].port(), cluster.dir()).await?;
    let login = ServerLogin { user: USER.into(), password: Some(Secret::new(PASSWORD)) };
    for round in 0..2 {
        let deadline = clock::now().plus(Duration::from_secs(20));
        let (host, database) = ("127.0.0.1".into(), "shop".into());
        let opened = Connection::open(&host, skin.port, &ClientTls::disabled(), &login, &database, deadline).await;
        assert!(!skin.heard_in_clear());
        // The first time by the key, then by what the server remembers.
        drop(opened?);
        assert_eq!(skin.logins(), (round, 1));
    }

    // So do a proxy's monitors and its sessions, each user for the first time.
    skin.forget();
    cluster.nodes()[0].value("shop", SCHEMA).await?;
    let port = free_port()?;
    let map = format!(
        "version: 1\nlisten: {{mysql: 127.0.0.1:{port}}}\nusers: {{{USER}: {{password: {PASSWORD}}}}}\ndatabases:\n  shop:\n    \
         engine: mysql\n    control: {{user: {CONTROL_USER}, password: {CONTROL_PASSWORD}}}\n    tls: {{mode: disable}}\n    \
         shards: {{s1: [{{host: 127.0.0.1, port: {}}}]}}\n    groups: {{key: {{key: bigint, tables: {{t: id}}}}}}\n",
        skin.port
    );
    prepare_at(cluster.dir(), &map)?;
    let answers = async || {
        Client::connect(port, USER, PASSWORD, "shop").is_ok_and(|mut it| it.one("SELECT * FROM t").error.is_none())
    };
    let proxy = Proxy::start_when(cluster.dir(), port, &map, &[], answers).await?;
    assert!(skin.logins().1 >= 3, "{:?}", skin.logins());
    assert!(!skin.heard_in_clear());
    proxy.stop().await?;
    drop(skin);
    Ok(cluster.stop().await?)
}

/// The row of `node`, and of a counter.
fn seen(client: &mut Client) -> Outcome<(String, String)> {
    let row = client.done("SELECT t.n, node.name FROM t JOIN node ON node.one = 1 WHERE t.id = 1")?.rows.remove(0);
    let text = |place: usize| String::from_utf8_lossy(row[place].as_deref().unwrap_or_default()).into_owned();
    Ok((text(0), text(1)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn replicas_of_mysql_8_are_read_once_they_have_what_the_session_saw() -> Outcome {
    let house = House::build().await?;
    let mut client = house.client()?;
    client.done("INSERT INTO t VALUES (1, 1, 'x')")?;
    let at = house.node("s1-a")?.value("shop", "SELECT COUNT(*) FROM t WHERE id = 1").await?;
    let shard = if at.as_deref() == Some("1") { "s1" } else { "s2" };
    let (primary, replica) = (house.node(&format!("{shard}-a"))?, house.node(&format!("{shard}-b"))?);
    let from_replica = async |client: &mut Client, wanted: &str| -> Outcome {
        until("a read from the replica", async || {
            let (n, name) = seen(client)?;
            // Never an older value.
            if n != wanted {
                return Err(format!("{n} where {wanted} was written").into());
            }
            Ok(name == "replica")
        })
        .await
    };
    from_replica(&mut client, "1").await?;
    for round in 2..8 {
        client.done(&format!("UPDATE t SET n = {round} WHERE id = 1"))?;
        from_replica(&mut client, &round.to_string()).await?;
    }
    // What has not been replayed is not read there, by whoever has seen it.
    replica.pause_replay().await?;
    client.done("UPDATE t SET n = 50 WHERE id = 1")?;
    for _ in 0..20 {
        assert_eq!(seen(&mut client)?, ("50".to_owned(), "primary".to_owned()));
    }
    replica.resume_replay().await?;
    from_replica(&mut client, "50").await?;

    // Who takes writes is the primary: one dies, the other is made one, and has everything.
    for skin in &house.skins {
        skin.forget();
    }
    primary.kill9().await?;
    replica.promote().await?;
    until("the promoted server to take writes", async || {
        Ok(client.one("UPDATE t SET n = 60 WHERE id = 1").error.is_none())
    })
    .await
    .map_err(|error| format!("{error}\n{}", house.proxy.log()))?;
    assert_eq!(seen(&mut client)?, ("60".to_owned(), "replica".to_owned()));
    primary.start().await?;
    primary.follow(replica).await?;
    until("the old primary to serve reads", async || {
        let (n, name) = seen(&mut client)?;
        if n != "60" {
            return Err(format!("{n} where 60 was written").into());
        }
        Ok(name == "primary")
    })
    .await
    .map_err(|error| format!("{error}\n{}", house.proxy.log()))?;
    house.stop().await
}
