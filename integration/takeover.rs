//! A proxy that is upgraded while it serves: one process after the other takes over, and no client is refused, nor any
//! transaction lost. `SHARDWAY_TAKEOVERS` says how many take over (3).

#[path = "mysql/client.rs"]
mod mysql;
mod proxy;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::map_of;
use proxy::prepare;
use proxy::quantile;
use proxy::text;
use proxy::until;
use shardway::clock;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::Durability;
use shardway::local_cluster::client::Client;
use shardway::local_cluster::client::SqlError;
use shardway::local_cluster::mariadb::CONTROL_PASSWORD;
use shardway::local_cluster::mariadb::CONTROL_USER;
use shardway::local_cluster::mariadb::MariaCluster;
use shardway::local_cluster::mariadb::MariaSpec;
use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;
use shardway::tasks;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_postgres::NoTls;

/// How many clients of Postgres come in a second.
const A_SECOND: u64 = 500;
/// They come so often, some at once, in milliseconds.
const TICK: u64 = 20;
/// How many of them may be there at once: a machine that is too slow gets fewer.
const AT_ONCE: usize = 200;
/// How many sessions are in a transaction while another process takes over, and how many write one after the other.
const WITHIN: i64 = 8;
const WRITERS: i64 = 4;
const IDLE: usize = 20;

/// Servers of both engines, and the map of a proxy before them; that one is to be started.
struct House {
    postgres: Cluster,
    mariadb: MariaCluster,
    map: String,
    port: u16,
    mysql: u16,
    http: u16,
}

impl House {
    async fn build(drain: &str) -> Outcome<Self> {
        let settings = vec![("max_prepared_transactions".to_owned(), "50".to_owned())];
        let postgres =
            Cluster::start(ClusterSpec { shards: 2, replicas: 0, settings, ..ClusterSpec::default() }).await?;
        for primary in postgres.primaries() {
            let mut owner = Client::connect(primary.port(), "demo", "shop").await?;
            owner.query("CREATE TABLE rows (id bigint PRIMARY KEY, n bigint NOT NULL)").await?;
        }
        let spec = MariaSpec { shards: 1, replicas: 0, durability: Durability::Volatile, ..MariaSpec::default() };
        let mariadb = MariaCluster::start(spec).await?;
        let node = mariadb.primaries().next().ok_or("no server")?;
        node.value("shop", "CREATE TABLE notes (id BIGINT PRIMARY KEY, note VARCHAR(20))").await?;
        let (port, mysql, http) = (free_port()?, free_port()?, free_port()?);
        let rest = format!(
            "    groups: {{rows: {{key: bigint, tables: {{rows: id}}}}}}\n    control: {{user: postgres}}\n  \
               notes:\n    engine: mysql\n    database: shop\n    control: {{user: {CONTROL_USER}, password: {CONTROL_PASSWORD}}}\n    \
               shards: {{m1: ['127.0.0.1:{}']}}\n    groups: {{note: {{key: bigint, tables: {{notes: id}}}}}}\n\
             users: {{demo: {{auth: trust, server: {{user: demo}}}}, {}\n\
             timeouts: {{drain: {drain}}}\npool: {{size: 20, wait: 60s}}\n",
            node.port(),
            format_args!("anna: {{password: {PASSWORD}, server: {{user: {USER}, password: {PASSWORD}}}}}}}"),
        );
        let map = map_of(&postgres, port, |_| true, &rest).replace(
            &format!("listen: {{postgres: 127.0.0.1:{port}}}"),
            &format!("listen: {{postgres: 127.0.0.1:{port}, mysql: 127.0.0.1:{mysql}, http: 127.0.0.1:{http}}}"),
        );
        prepare(&postgres, &map)?;
        Ok(Self { postgres, mariadb, map, port, mysql, http })
    }

    async fn serve(&self) -> Outcome<Proxy> {
        Proxy::start(&self.postgres, self.port, &self.map, &[]).await
    }

    async fn client(&self) -> Outcome<Client> {
        Ok(Client::connect(self.port, "demo", "shop").await?)
    }

    fn mysql(&self) -> Outcome<mysql::Client> {
        Ok(mysql::Client::connect(self.mysql, "anna", PASSWORD, "notes")?)
    }

    /// What HTTP answers on a connection of its own: the first line.
    async fn http(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        said.lines().next().map(ToOwned::to_owned).ok_or_else(|| io::Error::other("no answer"))
    }

    async fn stop(self) -> Outcome {
        self.mariadb.stop().await?;
        self.postgres.stop().await?;
        Ok(())
    }
}

/// What became of those who came.
#[derive(Default)]
struct Run {
    ended: AtomicBool,
    served: AtomicU64,
    of_mysql: AtomicU64,
    of_http: AtomicU64,
    /// Transactions that were committed, and sessions that were told between two of them to come again.
    committed: AtomicU64,
    told: AtomicU64,
    failures: Mutex<Vec<String>>,
    took: Mutex<Vec<Duration>>,
}

impl Run {
    fn goes_on(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    fn failed(&self, what: &str, why: impl Display) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{what}: {why}"));
    }

    fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One who comes, asks and leaves.
async fn visit(port: u16, run: Arc<Run>) {
    let begun = clock::now();
    let visited = async {
        let mut client = Client::connect(port, "demo", "shop").await?;
        client.query("SELECT n FROM rows WHERE id = 1").await
    };
    match visited.await {
        Ok(rows) if rows.len() == 1 => {
            run.served.fetch_add(1, Ordering::Relaxed);
            run.took.lock().unwrap_or_else(PoisonError::into_inner).push(clock::now().since(begun));
        }
        Ok(rows) => run.failed("a visitor", format!("{rows:?}")),
        Err(error) => run.failed("a visitor", error),
    }
}

/// So many come in a second, each on a connection of its own.
async fn visitors(port: u16, run: Arc<Run>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut every = tokio::time::interval(Duration::from_millis(TICK));
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while run.goes_on() {
        every.tick().await;
        for _ in 0..A_SECOND * TICK / 1000 {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let visit = visit(port, Arc::clone(&run));
            tasks::shared("visit", async move {
                visit.await;
                drop(place);
            });
        }
    }
    // All of them have left.
    let _ = places.acquire_many(u32::try_from(AT_ONCE).unwrap_or(1)).await;
}

/// Transactions over two shards, one after the other; a session that is told to come again between two of them does.
async fn write(port: u16, first: i64, run: Arc<Run>) {
    let mut key = first;
    let mut client: Option<Client> = None;
    while run.goes_on() {
        let Some(it) = &mut client else {
            match Client::connect(port, "demo", "shop").await {
                Ok(it) => client = Some(it),
                Err(error) => run.failed("a writer's login", error),
            }
            continue;
        };
        match it.query("BEGIN").await {
            Ok(_) => {}
            Err(SqlError::Server { sqlstate, .. }) if sqlstate == "57P01" => {
                run.told.fetch_add(1, Ordering::Relaxed);
                client = None;
                continue;
            }
            Err(error) => {
                run.failed("a writer's BEGIN", error);
                client = None;
                continue;
            }
        }
        for at in 0..4 {
            if let Err(error) = it.query(&format!("INSERT INTO rows VALUES ({}, {key})", key + at)).await {
                run.failed("within a transaction", error);
            }
        }
        match it.query("COMMIT").await {
            Ok(_) => {
                run.committed.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => run.failed("a COMMIT", error),
        }
        key += 4;
    }
}

/// Visitors of MySQL, one after the other, on a thread of their own.
fn mysql_visitors(port: u16, run: &Run) {
    while run.goes_on() {
        let visited = mysql::Client::connect(port, "anna", PASSWORD, "notes")
            .and_then(|mut it| it.done("SELECT note FROM notes WHERE id = 1"));
        match visited {
            Ok(answer) if answer.rows.len() == 1 => {
                run.of_mysql.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => run.failed("a visitor of MySQL", format!("{answer:?}")),
            Err(error) => run.failed("a visitor of MySQL", error),
        }
    }
}

/// A session within a transaction that wrote on both shards.
async fn begin(house: &House, first: i64) -> Outcome<Client> {
    let mut client = house.client().await?;
    client.query("BEGIN").await?;
    for key in first..first + 3 {
        client.query(&format!("INSERT INTO rows VALUES ({key}, 0)")).await?;
    }
    Ok(client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_upgrade_refuses_nobody() -> Outcome {
    let count: i64 = std::env::var("SHARDWAY_TAKEOVERS").map_or(Ok(3), |it| it.parse())?;
    let house = House::build("16s").await?;
    let mut proxy = house.serve().await?;
    house.client().await?.query("INSERT INTO rows VALUES (1, 0)").await?;
    house.mysql()?.done("INSERT INTO notes VALUES (1, 'here')")?;
    let run = Arc::new(Run::default());
    let mut running = vec![tasks::shared("visitors", visitors(house.port, Arc::clone(&run)))];
    for writer in 1..=WRITERS {
        running.push(tasks::shared("writer", write(house.port, writer * 1_000_000_000, Arc::clone(&run))));
    }
    let (mysql, of_mysql) = (house.mysql, Arc::clone(&run));
    let mysql = thread::spawn(move || mysql_visitors(mysql, &of_mysql));
    let begun = clock::now();
    let mut formers = Vec::new();
    let mut lasted = Vec::new();
    for number in 1..=count {
        let seen = || (run.served.load(Ordering::Relaxed), run.of_mysql.load(Ordering::Relaxed));
        let before = seen();
        until("visitors", async || Ok(seen().0 > before.0 + 100 && seen().1 > before.1 + 5)).await?;
        let mut within = Vec::new();
        for session in 0..WITHIN {
            within.push(begin(&house, number * 1_000_000 + session * 1000).await?);
        }
        let mut of_mysql = house.mysql()?;
        of_mysql.done("BEGIN")?;
        of_mysql.done(&format!("INSERT INTO notes VALUES ({}, 'within')", number + 100))?;
        let mut idle = Vec::new();
        for _ in 0..IDLE {
            idle.push(house.client().await?);
        }
        let at = clock::now();
        let next = proxy.taken_over().await?;
        lasted.push(clock::now().since(at));
        assert!(house.http("/readyz").await?.contains("200"));
        run.of_http.fetch_add(1, Ordering::Relaxed);
        // What began before goes on in the former process, to its end.
        for (session, client) in (0..).zip(&mut within) {
            let key = number * 1_000_000 + session * 1000 + 3;
            client.query(&format!("INSERT INTO rows VALUES ({key}, 0)")).await?;
            client.query("COMMIT").await?;
        }
        of_mysql.done("COMMIT")?;
        // So do sessions that had nothing to say.
        for client in &mut idle {
            assert_eq!(client.query("SELECT n FROM rows WHERE id = 1").await?.len(), 1);
        }
        formers.push((std::mem::replace(&mut proxy, next), idle));
    }
    // In the end they are told to come again, and nothing else.
    let mut told = 0;
    for (former, idle) in formers {
        let log = former.log();
        former.has_stopped().await?;
        for mut client in idle {
            match client.query("SELECT 1").await {
                Err(SqlError::Server { sqlstate, .. }) if sqlstate == "57P01" => told += 1,
                other => return Err(format!("an idle session hears {other:?}\n{log}").into()),
            }
        }
    }
    let seen = run.served.load(Ordering::Relaxed);
    until("visitors of the last one", async || Ok(run.served.load(Ordering::Relaxed) > seen + 100)).await?;
    let span = clock::now().since(begun);
    run.ended.store(true, Ordering::Relaxed);
    for it in running {
        it.await?;
    }
    mysql.join().map_err(|_| "a visitor of MySQL panicked")?;
    let failures = run.failures();
    let committed = run.committed.load(Ordering::Relaxed);
    let served = run.served.load(Ordering::Relaxed);
    let mut took = run.took.lock().unwrap_or_else(PoisonError::into_inner).clone();
    #[expect(clippy::cast_precision_loss, reason = "some thousand")]
    let a_second = served as f64 / span.as_secs_f64();
    println!(
        "figure: {count} takeovers in {span:.1?}, each within {:.2?} (median, starting included); {served} new connections of \
         Postgres ({a_second:.0} a second, login and one read p50 {:.1?}, p99 {:.1?}), {} of MySQL: {} refused; {committed} transactions \
         over two shards, {} more across a takeover: none dropped; {} writers and {told} idle sessions were told to connect again",
        quantile(&mut lasted, 0.5),
        quantile(&mut took, 0.5),
        quantile(&mut took, 0.99),
        run.of_mysql.load(Ordering::Relaxed),
        failures.len(),
        count * (WITHIN + 1),
        run.told.load(Ordering::Relaxed),
    );
    assert!(failures.is_empty(), "{failures:#?}\n{}", proxy.log());
    // All that was acknowledged is there, whole.
    let mut rows = BTreeMap::new();
    for primary in house.postgres.primaries() {
        for row in Client::connect(primary.port(), "demo", "shop").await?.query("SELECT id FROM rows").await? {
            let key: i64 = text(&row, 0)?.parse()?;
            *rows.entry(key).or_insert(0) += 1;
        }
    }
    let expected = 1 + i64::try_from(committed)? * 4 + count * WITHIN * 4;
    assert_eq!((i64::try_from(rows.len())?, rows.values().all(|it| *it == 1)), (expected, true));
    proxy.stop().await?;
    assert!(std::fs::symlink_metadata(house.postgres.dir().join("proxy").join("map.yaml.takeover")).is_err());
    house.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_be_stopped_is_where_the_session_is() -> Outcome {
    let house = House::build("60s").await?;
    let first = house.serve().await?;
    house.mysql()?.done("INSERT INTO notes VALUES (1, 'here')")?;
    let login = format!("host=127.0.0.1 port={} user=demo dbname=shop", house.port);
    let mut sleeping = Vec::new();
    let mut processes = vec![first];
    let mut killed = Vec::new();
    // A session with each of three processes.
    for turn in 0..3 {
        if turn > 0 {
            let next = processes.last().ok_or("no process")?.taken_over().await?;
            processes.push(next);
        }
        let (client, connection) = tokio_postgres::connect(&login, NoTls).await?;
        tasks::shared("tokio-postgres", connection);
        let cancel = client.cancel_token();
        // A cancel request that strikes nothing is for nothing.
        client.simple_query("SELECT n FROM rows WHERE id = 1").await?;
        sleeping
            .push((cancel, tasks::shared("sleeper", async move { client.simple_query("SELECT pg_sleep(120)").await })));
        let mut victim = house.mysql()?;
        let number = victim.greeting().connection;
        killed.push((number, thread::spawn(move || victim.query("SELECT SLEEP(120) FROM notes WHERE id = 1"))));
    }
    let numbers: BTreeSet<u32> = killed.iter().map(|it| it.0).collect();
    assert_eq!(numbers.len(), 3, "two processes give the same numbers");
    for (cancel, sleeper) in sleeping {
        until("a cancelled statement", async || {
            cancel.cancel_query(NoTls).await?;
            Ok(sleeper.is_finished())
        })
        .await?;
        let error = sleeper.await?.err().ok_or("it was not cancelled")?;
        assert_eq!(error.code().map(|it| it.code().to_owned()).as_deref(), Some("57014"), "{error}");
    }
    let mut killer = house.mysql()?;
    for (number, sleeper) in killed {
        until("a killed statement", async || {
            if !sleeper.is_finished() {
                // Its end may come first.
                let _ = killer.done(&format!("KILL {number}"));
            }
            Ok(sleeper.is_finished())
        })
        .await?;
        let answers = sleeper.join().map_err(|_| "it panicked")?;
        assert!(answers.iter().any(|it| it.error.is_some()), "it was not killed: {answers:?}");
    }
    let unknown = killer.done("KILL QUERY 77777777").err().ok_or("nobody has that number")?;
    assert_eq!(unknown.errno, 1094, "{unknown}");
    // Former processes end as soon as nobody is there, and at SIGTERM ask those who are idle to leave.
    let last = processes.pop().ok_or("no process")?;
    for it in &processes {
        it.signal("TERM")?;
    }
    for it in processes {
        it.has_stopped().await?;
    }
    house.client().await?.query("SELECT n FROM rows WHERE id = 1").await?;
    last.stop().await?;
    house.stop().await
}

/// Speaks as a process that takes over does until it has the sockets.
async fn given_the_sockets(socket: &Path) -> Outcome<UnixStream> {
    let mut fake = UnixStream::connect(socket).await?;
    for (say, hear) in [("shardway takeover 1\n", "listens "), ("ready\n", "yours ")] {
        fake.write_all(say.as_bytes()).await?;
        let mut heard = [0; 4096];
        let count = fake.read(&mut heard).await?;
        assert!(heard[..count].starts_with(hear.as_bytes()), "{:?}", String::from_utf8_lossy(&heard[..count]));
    }
    Ok(fake)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_cannot_take_over_changes_nothing() -> Outcome {
    let house = House::build("30s").await?;
    let proxy = house.serve().await?;
    let socket = house.postgres.dir().join("proxy").join("map.yaml.takeover");
    assert_eq!(std::fs::symlink_metadata(&socket)?.permissions().mode() & 0o777, 0o600);
    let mut client = house.client().await?;
    let mut fails = async |why: &str| {
        let mut next = proxy.successor()?;
        let status = next.ended().await?;
        assert!(!status.success() && next.log().contains(why), "{why}: {status}\n{}", next.log());
        // Whoever is there and whoever comes.
        client.query("SELECT n FROM rows WHERE id = 1").await?;
        house.client().await?.query("SELECT n FROM rows WHERE id = 1").await?;
        assert!(house.http("/readyz").await?.contains("200"));
        Outcome::Ok(())
    };
    // A pause ends with its process: nobody may take it away unknowingly.
    let mut console = proxy.console().await?;
    console.query("PAUSE shop.s1").await?;
    console.query("RESUME shop.s1").await?;
    console.query("PAUSE shop.s2").await?;
    let mut next = proxy.successor()?;
    let status = next.ended().await?;
    assert!(!status.success() && next.log().contains("shop.s2 is held back by PAUSE"), "{}", next.log());
    console.query("RESUME").await?;
    // One that has been given the sockets, and ends before it lets anybody in.
    let fake = given_the_sockets(&socket).await?;
    assert!(console.query("PAUSE shop.s2").await.is_err());
    fails("another process takes over from it").await?;
    drop(fake);
    until("everything to be as before", async || Ok(console.query("PAUSE shop.s2").await.is_ok())).await?;
    console.query("RESUME").await?;
    // One that lets nobody in for too long is told so, however late it says that it does.
    let mut fake = given_the_sockets(&socket).await?;
    until("everything to be as before", async || Ok(console.query("PAUSE shop.s2").await.is_ok())).await?;
    let late = fake.write_all(b"taken\n").await;
    let mut heard = String::new();
    fake.read_to_string(&mut heard).await.map_err(|error| format!("{error}, after {late:?}"))?;
    assert!(heard.starts_with("no: it let nobody in within"), "{heard}");
    console.query("RESUME").await?;
    // A map that is wrong.
    proxy.replace_map(&house.map.replace("groups:", "gruops:"))?;
    fails("map-unknown-key").await?;
    // An address that another program has.
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let there = taken.local_addr()?.port();
    proxy.replace_map(
        &house.map.replace(&format!("http: 127.0.0.1:{}", house.http), &format!("http: 127.0.0.1:{there}")),
    )?;
    fails("cannot listen on").await?;
    // A server that does not answer.
    let nobody = free_port()?;
    let shard = house.postgres.nodes().last().ok_or("no server")?.port();
    proxy.replace_map(&house.map.replace(&format!("port: {shard}}}"), &format!("port: {nobody}}}")))?;
    fails("no server can be reached").await?;
    client.query("SELECT n FROM rows WHERE id = 1").await?;
    // What it is told that it listens on is where it listens, by the map of the one that takes over.
    let elsewhere = free_port()?;
    let moved = house.map.replace(&format!("http: 127.0.0.1:{}", house.http), &format!("http: 127.0.0.1:{elsewhere}"));
    proxy.replace_map(&moved)?;
    let next = proxy.taken_over().await?;
    let refused = console.query("PAUSE shop.s1").await.err().ok_or("a former process pauses")?;
    assert!(refused.to_string().contains("another process takes over"), "{refused}");
    assert!(TcpStream::connect(("127.0.0.1", elsewhere)).await.is_ok());
    // The former one holds the former address until those have left who came there.
    until("the former address to be left", async || {
        Ok(TcpStream::connect(("127.0.0.1", house.http))
            .await
            .is_err_and(|it| it.kind() == io::ErrorKind::ConnectionRefused))
    })
    .await?;
    drop((client, console));
    proxy.has_stopped().await?;
    next.stop().await?;
    // With nobody there, it serves as any other.
    let alone = house.serve().await?;
    let map = alone.map().to_owned();
    alone.stop().await?;
    std::fs::write(&map, &house.map)?;
    let alone = Proxy::start(&house.postgres, house.port, &house.map, &[]).await?;
    alone.stop().await?;
    house.stop().await
}
