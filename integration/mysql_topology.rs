//! Monitors and schemas against real MariaDB servers: what they say must be true of them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests may fail as tests do"
)]

#[path = "mysql_topology/servers.rs"]
mod servers;

use std::sync::Arc;
use std::time::Duration;

use shardway::clock;
use shardway::clock::Tick;
use shardway::ident::NodeId;
use shardway::ident::ShardId;
use shardway::ident::TableName;
use shardway::schema::Schema;
use shardway::shard_map::NoEnvironment;
use shardway::shard_map::ShardMap;
use shardway::tasks;
use shardway::topology::Health;
use shardway::topology::Role;
use shardway::topology::SchemaHandle;
use shardway::topology::Topology;
use shardway::topology::connect_check;
use shardway::topology::control;
use shardway::topology::placement;
use shardway::topology::verify;
use tokio::sync::watch;

use servers::CONTROL;
use servers::Server;

const SHARD: ShardId = ShardId(0);
const PRIMARY: NodeId = NodeId { shard: SHARD, node: 0 };
const REPLICA: NodeId = NodeId { shard: SHARD, node: 1 };

/// A map of these shards, each a list of nodes as maps write them.
fn map(shards: &[&[String]]) -> ShardMap {
    let shards: Vec<String> =
        shards.iter().enumerate().map(|(place, nodes)| format!("s{}: [{}]", place + 1, nodes.join(", "))).collect();
    let (user, password) = CONTROL;
    let text = format!(
        "version: 1
listen: {{mysql: 127.0.0.1:6433}}
databases:
  shop:
    engine: mysql
    control: {{user: {user}, password: {password}}}
    shards: {{{}}}
    groups:
      customer:
        key: bigint
        tables: {{customers: id, orders: customer_id, notes: customer_id, odd: customer_id, hidden: customer_id}}
      tag: {{key: text, tables: {{tags: tag, padded: tag, fixed: tag}}}}
    reference: [countries]
users:
  app: {{auth: trust}}
",
        shards.join(", ")
    );
    match ShardMap::parse("map.yaml", &text, &NoEnvironment) {
        Ok((map, _)) => map,
        Err(mistakes) => panic!("{}", shardway::shard_map::mistake::render(&mistakes)),
    }
}

fn topology(map: &ShardMap, former: Option<&Topology>) -> (Arc<Topology>, watch::Sender<bool>) {
    let database = &map.databases["shop"];
    let topology = Topology::after(former, Arc::clone(database), control::login(map, database).unwrap(), &map.timeouts);
    let (stop, stopped) = watch::channel(false);
    tasks::shared("topology", Arc::clone(&topology).run(stopped));
    (topology, stop)
}

/// A running monitor; the sender keeps it so.
async fn watching(map: &ShardMap) -> (Arc<Topology>, watch::Sender<bool>) {
    let (topology, stop) = topology(map, None);
    assert!(topology.heard(soon(20)).await, "{}", show(&topology));
    (topology, stop)
}

fn soon(seconds: u64) -> Tick {
    clock::now().plus(Duration::from_secs(seconds))
}

fn show(topology: &Topology) -> String {
    let line = |(id, it): (NodeId, &Arc<shardway::topology::NodeState>)| {
        format!("{id:?} {} {} {:?}\n", it.role().name(), it.health().name(), it.trouble())
    };
    topology.nodes().map(line).collect()
}

/// Waits for something to become true of the topology.
async fn until(topology: &Topology, what: &str, holds: impl Fn(&Topology) -> bool) {
    let deadline = soon(20);
    while !holds(topology) {
        assert!(clock::now() < deadline, "{what}:\n{}", show(topology));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn roles(topology: &Topology) -> Vec<Role> {
    topology.nodes().map(|(_, it)| it.role()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_takes_writes_is_the_primary_and_two_are_none() {
    let primary = Server::primary(&[]).await;
    let replica = Server::replica_of(&primary).await;
    let map = map(&[&[primary.address(), replica.address()]]);
    let (topology, _stop) = watching(&map).await;
    until(&topology, "roles", |it| roles(it) == [Role::Primary, Role::Replica]).await;
    assert_eq!(topology.primary(SHARD), Some(PRIMARY));
    assert_eq!(topology.node(REPLICA).trouble(), None);
    assert!(topology.measured(soon(10)).await, "{}", show(&topology));
    assert_ne!(topology.node(REPLICA).fresh_as_of(), Tick::NEVER);
    // What was written before a moment is there once the replica is fresh as of it.
    primary.execute("CREATE TABLE shop.seen (n INT PRIMARY KEY)").await;
    for n in 0..20 {
        primary.execute(&format!("INSERT INTO shop.seen VALUES ({n})")).await;
        let written = clock::now();
        topology.vouched(REPLICA, written, soon(10)).await;
        until(&topology, "fresh", |it| it.node(REPLICA).fresh_as_of() >= written).await;
        assert_eq!(replica.value("SELECT MAX(n) FROM shop.seen").await, n.to_string());
    }
    assert_eq!(topology.node(PRIMARY).position_text(), replica.value("SELECT @@gtid_slave_pos").await);
    // While it applies nothing it gains nothing, and says why.
    replica.execute("STOP SLAVE SQL_THREAD").await;
    primary.execute("INSERT INTO shop.seen VALUES (99)").await;
    let written = clock::now();
    until(&topology, "told", |it| it.node(REPLICA).trouble().is_some_and(|it| it.contains("applies nothing"))).await;
    assert!(topology.node(REPLICA).fresh_as_of() < written);
    replica.execute("START SLAVE").await;
    until(&topology, "fresh again", |it| it.node(REPLICA).fresh_as_of() >= written).await;
    primary.execute("SET GLOBAL rpl_semi_sync_master_enabled = 1").await;
    replica.execute("SET GLOBAL rpl_semi_sync_slave_enabled = 1; STOP SLAVE; START SLAVE").await;
    until(&topology, "semi-sync", |it| it.node(PRIMARY).semi_sync().as_deref() == Some("semi-sync, 1 replica")).await;
    primary.execute("SET GLOBAL rpl_semi_sync_master_enabled = 0").await;
    until(&topology, "no more", |it| it.node(PRIMARY).semi_sync().is_some_and(|it| it.starts_with("async"))).await;
    replica.execute("STOP SLAVE").await;
    until(&topology, "told", |it| it.node(REPLICA).trouble().is_some_and(|it| it.contains("receives nothing"))).await;
    replica.execute("SET GLOBAL read_only = 0").await;
    until(&topology, "both fenced", |it| roles(it) == [Role::Fenced, Role::Fenced]).await;
    assert_eq!(topology.primary(SHARD), None);
    assert!(topology.node(PRIMARY).trouble().is_some_and(|it| it.contains("role: primary")));
    replica.execute("SET GLOBAL read_only = 1").await;
    assert_eq!(topology.wait_primary(SHARD, soon(10)).await, Some(PRIMARY), "{}", show(&topology));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_granted_later_counts() {
    let primary = Server::primary(&[]).await;
    let replica = Server::replica_of(&primary).await;
    replica.execute(&format!("REVOKE SLAVE MONITOR ON *.* FROM '{}'@'%'", CONTROL.0)).await;
    let (topology, _stop) = watching(&map(&[&[primary.address(), replica.address()]])).await;
    until(&topology, "told", |it| it.node(REPLICA).trouble().is_some_and(|it| it.contains("GRANT SLAVE MONITOR")))
        .await;
    replica.execute(&format!("GRANT SLAVE MONITOR ON *.* TO '{}'@'%'", CONTROL.0)).await;
    until(&topology, "fine", |it| {
        it.node(REPLICA).trouble().is_none() && it.node(REPLICA).fresh_as_of() != Tick::NEVER
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_made_writable_succeeds_with_everything_and_waits_for_the_map_without() {
    let mut primary = Server::primary(&[]).await;
    let replica = Server::replica_of(&primary).await;
    let discovered = map(&[&[primary.address(), replica.address()]]);
    let (first, _stop) = watching(&discovered).await;
    until(&first, "roles", |it| roles(it) == [Role::Primary, Role::Replica]).await;
    let written = clock::now();
    until(&first, "fresh", |it| it.node(REPLICA).fresh_as_of() >= written).await;
    primary.kill();
    until(&first, "down", |it| it.node(PRIMARY).health() == Health::Down).await;
    assert_eq!(first.primary(SHARD), None);
    replica.execute(PROMOTE).await;
    assert_eq!(first.wait_primary(SHARD, soon(20)).await, Some(REPLICA), "{}", show(&first));
    replica.execute("CREATE TABLE shop.later (n INT)").await;
    // Its predecessor comes back as it was: two take writes, so that none may.
    primary.start().await;
    until(&first, "both fenced", |it| roles(it) == [Role::Fenced, Role::Fenced]).await;
    primary.execute("SET GLOBAL read_only = 1").await;
    until(&first, "settled", |it| it.primary(SHARD) == Some(REPLICA)).await;
    // It follows nobody, so it serves no reads.
    until(&first, "told", |it| it.node(PRIMARY).trouble().is_some_and(|it| it.contains("receives nothing"))).await;
    assert_eq!(first.node(PRIMARY).fresh_as_of(), Tick::NEVER);
    primary.execute("SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos").await;
    primary.follow(&replica).await;
    let followed = clock::now();
    until(&first, "follows", |it| it.node(PRIMARY).fresh_as_of() >= followed).await;

    // This time the last write does not reach the one that is promoted.
    primary.execute("STOP SLAVE").await;
    replica.execute("INSERT INTO shop.later VALUES (1)").await;
    let known = replica.value("SELECT @@gtid_current_pos").await;
    until(&first, "sampled", |it| it.node(REPLICA).position_text() == known).await;
    replica.execute("SET GLOBAL read_only = 1").await;
    until(&first, "none", |it| it.primary(SHARD).is_none()).await;
    primary.execute(PROMOTE).await;
    // Numbers of its own do not stand for what it lacks.
    for n in 0..5 {
        primary.execute(&format!("INSERT INTO shop.later VALUES ({n})")).await;
    }
    let lacks =
        |it: &Topology| it.node(PRIMARY).trouble().is_some_and(|it| it.contains("lacks what the former primary"));
    until(&first, "fenced", |it| it.node(PRIMARY).role() == Role::Fenced && lacks(it)).await;
    let named = format!("{{host: 127.0.0.1, port: {}, role: primary}}", primary.port);
    let (second, _stop) = topology(&map(&[&[named, replica.address()]]), Some(&first));
    assert_eq!(second.wait_primary(SHARD, soon(20)).await, Some(PRIMARY), "{}", show(&second));
}

/// What an operator says to a replica that is to take writes.
const PROMOTE: &str = "STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = 0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_start_a_former_primary_is_not_believed_beside_a_replica_that_has_more() {
    let former = Server::primary(&[]).await;
    let follower = Server::replica_of(&former).await;
    follower.execute("STOP SLAVE").await;
    // It has followed somebody since whom nobody can reach any more.
    let position = follower.value("SELECT @@gtid_slave_pos").await;
    let (server, number) = position.strip_prefix("0-").unwrap().split_once('-').unwrap();
    let later = number.parse::<u64>().unwrap() + 5;
    follower.execute(&format!("SET GLOBAL gtid_slave_pos = '0-{server}-{later}'")).await;
    let map = map(&[&[former.address(), follower.address()]]);
    let (topology, _stop) = watching(&map).await;
    until(&topology, "told", |it| it.node(PRIMARY).trouble().is_some_and(|it| it.contains("it lacks"))).await;
    assert_eq!(topology.primary(SHARD), None);
    follower.execute(&format!("SET GLOBAL gtid_slave_pos = '{position}'")).await;
    assert_eq!(topology.wait_primary(SHARD, soon(20)).await, Some(PRIMARY), "{}", show(&topology));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_is_the_primary_again_in_another_life() {
    let mut server = Server::primary(&[]).await;
    let map = map(&[&[server.address()]]);
    let (topology, _stop) = watching(&map).await;
    assert_eq!(topology.primary(SHARD), Some(PRIMARY), "{}", show(&topology));
    let before = topology.node(PRIMARY).generation();
    assert!(topology.node(PRIMARY).started() > 0);
    server.kill();
    until(&topology, "down", |it| it.node(PRIMARY).health() == Health::Down).await;
    assert_eq!(topology.primary(SHARD), None);
    server.start().await;
    assert_eq!(topology.wait_primary(SHARD, soon(20)).await, Some(PRIMARY), "{}", show(&topology));
    assert_ne!(topology.node(PRIMARY).generation(), before);
    let later = clock::now();
    assert!(topology.vouched(PRIMARY, later, soon(10)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_writes_is_no_primary_and_a_full_one_is_not_dead() {
    let server = Server::primary(&["--max-connections=10"]).await;
    server.execute("SET GLOBAL read_only = 1").await;
    let map = map(&[&[server.address()]]);
    let (topology, _stop) = watching(&map).await;
    assert_eq!(roles(&topology), [Role::Replica]);
    assert_eq!(topology.primary(SHARD), None);
    server.execute("SET GLOBAL read_only = 0").await;
    assert_eq!(topology.wait_primary(SHARD, soon(10)).await, Some(PRIMARY), "{}", show(&topology));
    // The monitor's connection is cut, and all places are taken before it is back.
    use sqlx::ConnectOptions;
    let mut admin = server.connect().await;
    let (user, password) = CONTROL;
    let places = sqlx::mysql::MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(server.port)
        .username(user)
        .password(password)
        .ssl_mode(sqlx::mysql::MySqlSslMode::Disabled);
    let mut crowd = Vec::new();
    let deadline = soon(20);
    while !topology.node(PRIMARY).trouble().is_some_and(|it| it.to_lowercase().contains("too many")) {
        assert!(clock::now() < deadline, "{}", show(&topology));
        if let Ok(connection) = places.connect().await {
            crowd.push(connection);
            continue;
        }
        let own: Vec<u64> = ids(&mut crowd).await;
        for id in others(&mut admin, &own).await {
            let _ = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("KILL {id}"))).execute(&mut admin).await;
        }
    }
    assert_ne!(topology.node(PRIMARY).health(), Health::Down);
    assert_eq!(topology.primary(SHARD), Some(PRIMARY), "{}", show(&topology));
    drop(crowd);
    until(&topology, "back", |it| it.node(PRIMARY).trouble().is_none() && it.node(PRIMARY).generation() != 0).await;
}

/// The numbers that the server gave these connections.
async fn ids(crowd: &mut [sqlx::mysql::MySqlConnection]) -> Vec<u64> {
    let mut ids = Vec::new();
    for connection in crowd {
        ids.push(sqlx::query_scalar("SELECT CONNECTION_ID()").fetch_one(connection).await.unwrap());
    }
    ids
}

/// The control user's other connections.
async fn others(admin: &mut sqlx::mysql::MySqlConnection, own: &[u64]) -> Vec<u64> {
    let question = "SELECT CAST(ID AS UNSIGNED) FROM information_schema.PROCESSLIST WHERE USER = 'shardway'";
    let mut all: Vec<u64> = sqlx::query_scalar(question).fetch_all(admin).await.unwrap();
    all.retain(|it| !own.contains(it));
    all
}

/// Tables as they should be, and some as they should not.
const TABLES: &str = "
CREATE TABLE countries (code VARCHAR(2) PRIMARY KEY, name VARCHAR(99) NOT NULL);
CREATE TABLE customers (id BIGINT PRIMARY KEY, country VARCHAR(2), FOREIGN KEY (country) REFERENCES countries (code));
CREATE TABLE orders (customer_id BIGINT NOT NULL, no INT NOT NULL AUTO_INCREMENT, note VARCHAR(9) DEFAULT 'it''s',
    twice BIGINT AS (customer_id * 2) STORED, PRIMARY KEY (customer_id, no), KEY (no),
    FOREIGN KEY (customer_id) REFERENCES customers (id));
CREATE TABLE notes (id INT PRIMARY KEY, customer_id BIGINT NOT NULL);
CREATE TABLE odd (customer_id BIGINT UNSIGNED PRIMARY KEY);
CREATE TABLE hidden (customer_id BIGINT PRIMARY KEY, secret INT INVISIBLE);
CREATE TABLE tags (tag VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PRIMARY KEY);
CREATE TABLE padded (tag VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY);
CREATE TABLE fixed (tag CHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin PRIMARY KEY);
CREATE VIEW open AS SELECT id FROM customers;
CREATE FUNCTION Twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n";

async fn with_tables(server: &Server) {
    server.execute(&format!("USE shop; {TABLES}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_are_read_judged_and_kept_true() {
    let one = Server::primary(&[]).await;
    let two = Server::primary(&[]).await;
    with_tables(&one).await;
    with_tables(&two).await;
    let map = map(&[&[one.address()], &[two.address()]]);
    let (topology, _stop) = watching(&map).await;
    let handle = SchemaHandle::new(Arc::clone(&topology));
    let (_end, ended) = watch::channel(false);
    tasks::shared("schema", Arc::clone(&handle).run(ended));
    assert!(handle.ready(soon(20)).await, "{}", show(&topology));
    let schema = handle.refresh_now().await.unwrap();
    described(&schema);
    let unfit = |table: &str| {
        let state = handle.state();
        state.unfit.get(&table_of(table)).map(|it| it.message.clone())
    };
    for table in ["customers", "orders", "tags", "countries"] {
        assert_eq!(unfit(table), None, "{table}");
    }
    assert!(unfit("odd").unwrap().contains("bigint(20) unsigned"));
    assert!(unfit("padded").unwrap().contains("different texts are equal"));
    assert!(unfit("fixed").unwrap().contains("char(36)"));
    assert!(unfit("hidden").unwrap().contains("INVISIBLE"));
    assert!(unfit("notes").unwrap().contains("does not contain the shard key"));
    let codes: Vec<&str> = handle.state().findings.iter().map(|it| it.code).collect();
    // The proxy counts for AUTO_INCREMENT.
    assert!(!codes.contains(&"local-sequence"), "{codes:?}");

    // The same twice is the same plan; what changes on one shard alone refuses the table, until it is alike again.
    assert!(Arc::ptr_eq(&schema, &handle.refresh_now().await.unwrap()));
    one.execute("ALTER TABLE shop.customers ADD name VARCHAR(20)").await;
    changed(&handle, "columns differ", |_| unfit("customers").is_some()).await;
    two.execute("ALTER TABLE shop.customers ADD name VARCHAR(20) COLLATE utf8mb4_bin").await;
    changed(&handle, "collations differ", |_| unfit("customers").is_some_and(|it| it.contains("collations"))).await;
    two.execute("ALTER TABLE shop.customers MODIFY name VARCHAR(20)").await;
    changed(&handle, "alike", |_| unfit("customers").is_none()).await;
    for server in [&one, &two] {
        server.execute("CREATE TRIGGER shop.move BEFORE INSERT ON shop.tags FOR EACH ROW SET NEW.tag = 'x'").await;
    }
    changed(&handle, "trigger", |_| unfit("tags").is_some_and(|it| it.contains("move"))).await;
    one.execute("CREATE OR REPLACE VIEW shop.open AS SELECT id, country FROM shop.customers").await;
    changed(&handle, "view", |it| it.relation(&table_of("open")).is_some_and(|it| it.columns.len() == 2)).await;

    // A user who cannot see triggers must not be taken to have seen that there are none.
    for server in [&one, &two] {
        server.execute("REVOKE TRIGGER ON shop.* FROM 'shardway'@'%'").await;
    }
    changed(&handle, "rights", |_| unfit("orders").is_some_and(|it| it.contains("cannot be seen"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_locked_is_not_taken_to_be_gone() {
    let server = Server::primary(&[]).await;
    let map = map(&[&[server.address()]]);
    let (topology, _stop) = watching(&map).await;
    let handle = SchemaHandle::new(Arc::clone(&topology));
    let (_end, ended) = watch::channel(false);
    tasks::shared("schema", Arc::clone(&handle).run(ended));
    assert!(handle.ready(soon(20)).await, "{}", show(&topology));
    let mut builder = server.connect().await;
    // Its name is locked until the rows are there, and `information_schema` leaves it out meanwhile.
    let slow = "CREATE TABLE shop.notes AS SELECT SLEEP(8) AS id, 1 AS customer_id";
    let building = tokio::spawn(async move { sqlx::raw_sql(slow).execute(&mut builder).await.unwrap() });
    let mut admin = server.connect().await;
    let sleeping = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'";
    let deadline = soon(7);
    while sqlx::query_scalar::<_, i64>(sleeping).fetch_one(&mut admin).await.unwrap() == 0 {
        assert!(clock::now() < deadline, "it does not sleep");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refused = handle.refresh_now().await.unwrap_err();
    assert!(refused.to_string().to_lowercase().contains("lock"), "{refused}");
    building.await.unwrap();
    changed(&handle, "built", |it| it.relation(&table_of("notes")).is_some_and(|it| it.columns.len() == 2)).await;
}

fn table_of(name: &str) -> TableName {
    TableName::new("shop", name)
}

async fn changed(handle: &SchemaHandle, what: &str, holds: impl Fn(&Schema) -> bool) {
    let began = clock::now();
    let deadline = soon(20);
    while !handle.current().is_some_and(|it| holds(&it)) {
        assert!(clock::now() < deadline, "{what}: {:#?}", handle.state().findings);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("{what}: seen after {:?}", clock::now().since(began));
}

fn described(schema: &Schema) {
    let server = schema.mysql.as_ref().unwrap();
    assert!(server.is_mariadb && server.sees_triggers);
    assert_eq!(server.lower_case_table_names, 0);
    assert!(server.sql_mode.contains("STRICT_TRANS_TABLES"));
    assert!(schema.server_version > 100_000);
    let orders = schema.relation(&table_of("orders")).unwrap();
    assert_eq!(orders.primary_key, Some(vec![0, 1]));
    assert_eq!(orders.columns.iter().map(|it| it.type_oid).collect::<Vec<_>>(), [20, 23, 25, 20]);
    assert!(orders.columns[1].uses_sequence);
    assert_eq!(orders.columns[2].default.as_deref(), Some("'it''s'"));
    assert!(orders.columns[3].generated);
    assert_eq!(orders.foreign_keys[0].references, table_of("customers"));
    assert_eq!(&*orders.foreign_keys[0].referenced_columns[0], "id");
    let view = schema.relation(&table_of("open")).unwrap();
    assert!(view.definition.as_deref().is_some_and(|it| it.contains("customers")), "{view:?}");
    assert!(schema.user_functions.contains_key("twice"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_nobody_has_prepared_are_left_as_they_are() {
    let one = Server::primary(&[]).await;
    let two = Server::primary(&[]).await;
    let map = map(&[&[one.address()], &[two.address()]]);
    let (topology, _stop) = watching(&map).await;
    let recorded = placement::reconcile(&topology, &[(Arc::from("customer"), "hash".to_owned())]).await.unwrap();
    assert!(recorded.is_empty());
    let request = verify::Request { tables: Vec::new(), statement: Duration::from_secs(5), rows: 1 };
    let verified = verify::verify(&map, &request, &mut |_| {}).await;
    assert!(verified.unseen.is_empty() && verified.findings.is_empty(), "{verified:?}");
    // What may not be prepared is told with what would allow it.
    let refused = connect_check::prepare(&map, &mut |it| panic!("{it}")).await.unwrap_err();
    assert!(refused.contains("GRANT ALL ON shardway.*"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_rows_were_put_is_recorded_once_servers_are_prepared_and_compared_ever_after() {
    let mut one = Server::primary(&[]).await;
    let two = Server::primary(&[]).await;
    let map = map(&[&[one.address()], &[two.address()]]);
    let (topology, _stop) = watching(&map).await;
    let placed = |by: &str| [(Arc::from("customer"), by.to_owned()), (Arc::from("it's\\"), "hash".to_owned())];
    // Nobody has made the table: nothing is recorded, whatever is said.
    assert!(placement::reconcile(&topology, &placed("hash")).await.unwrap().is_empty());
    for server in [&one, &two] {
        server.execute(&shardway::topology::mysql::own::SETUP.join(";")).await;
        server.execute("GRANT ALL ON shardway.* TO 'shardway'@'%'").await;
    }
    let recorded = placement::reconcile(&topology, &placed("hash")).await.unwrap();
    assert_eq!(recorded.len(), 4, "{recorded:?}");
    assert!(placement::reconcile(&topology, &placed("hash")).await.unwrap().is_empty());
    let differs = placement::reconcile(&topology, &placed("range")).await.unwrap_err();
    assert!(matches!(&differs, placement::PlacementError::Differs(all) if all.len() == 2), "{differs:?}");
    // Of what is gone from the map, rows would never be found again.
    let gone = placement::reconcile(&topology, &placed("hash")[..1]).await.unwrap_err();
    assert!(gone.to_string().contains("it's"), "{gone}");
    placement::record(&topology, &placed("range")).await.unwrap();
    assert!(placement::reconcile(&topology, &placed("range")).await.unwrap().is_empty());
    // One that takes no writes cannot keep it.
    one.execute("SET GLOBAL read_only = ON").await;
    until(&topology, "no primary", |it| it.primary(ShardId(0)).is_none()).await;
    let refused = placement::record(&topology, &placed("hash")).await.unwrap_err();
    assert_eq!(refused.to_string(), "shard \"s1\" has no node that takes writes");
    one.execute("SET GLOBAL read_only = OFF").await;
    until(&topology, "a primary", |it| it.primary(ShardId(0)).is_some()).await;
    // One that cannot be asked may know better.
    one.kill();
    until(&topology, "down", |it| it.node(PRIMARY).health() == Health::Down).await;
    let unheard = placement::reconcile(&topology, &placed("range")).await.unwrap_err();
    assert!(matches!(unheard, placement::PlacementError::Unreachable { .. }), "{unheard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_what_does_not_fit() {
    let server = Server::primary(&[]).await;
    with_tables(&server).await;
    let other = Server::primary(&["--sql-mode=ANSI_QUOTES"]).await;
    // The same server under another address, and one that nobody has started.
    let twin = format!("localhost:{}", server.port);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let map = map(&[&[server.address(), twin], &[other.address()], &[nobody.to_string()]]);
    let findings = connect_check::check_connect(&map).await;
    let codes: Vec<&str> = findings.iter().map(|it| it.code).collect();
    for code in [
        "same-server",
        "two-primaries",
        "node-unreachable",
        "table-missing",
        "key-type",
        "sql-mode-differs",
        "sql-mode-lax",
    ] {
        assert!(codes.contains(&code), "{code} is not among {codes:?}");
    }
    let text: String = findings.iter().map(|it| format!("{it}\n")).collect();
    assert!(!text.contains(CONTROL.1), "a secret is told");
}
