//! Sessions that write and read at once never see an older value than one that they have seen, and still most reads
//! come from replicas. Planted mistakes in how freshness is measured are found.

mod proxy;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proxy::Failure;
use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::map_of;
use proxy::quantile;
use proxy::text;
use shardway::clock;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::MadeAs;
use shardway::local_cluster::Node;
use shardway::local_cluster::client::Client;
use shardway::tasks;

const SESSIONS: u64 = 8;
const KEYS_EACH: u64 = 4;
const WRITES: u64 = 10_000;
/// A planted mistake that is not found within so many writes is not found.
const WRITES_WITH_FAULT: u64 = 20_000;
/// Of every value a replica shows, it shows the commit so much later.
const DELAY: Duration = Duration::from_millis(200);
/// The least part of reads that replicas serve while their replay runs.
const FROM_REPLICAS: f64 = 0.8;

const REST: &str = "
    groups: {counter: {key: bigint, tables: {counters: id}}}
users: {demo: {auth: trust}}
";

/// What all sessions of a run share.
#[derive(Default)]
struct Run {
    writes_left: AtomicU64,
    /// Whether some replica's replay stands, or stood a moment ago.
    paused: AtomicBool,
    /// Set by the first who saw an older value.
    found: AtomicBool,
}

impl Run {
    /// Waits until that many more writes have been begun, or all.
    async fn until_written(&self, count: u64) {
        let left = self.writes_left.load(Ordering::SeqCst).saturating_sub(count);
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        while self.writes_left.load(Ordering::SeqCst) > left {
            tick.tick().await;
        }
    }
}

/// What one session saw.
#[derive(Default)]
struct Seen {
    reads: u64,
    from_replicas: u64,
    /// The same while every replay ran.
    running: u64,
    running_from_replicas: u64,
    older: Vec<String>,
    after_write: Vec<Duration>,
}

impl Seen {
    fn take_in(&mut self, other: Self) {
        self.reads += other.reads;
        self.from_replicas += other.from_replicas;
        self.running += other.running;
        self.running_from_replicas += other.running_from_replicas;
        self.older.extend(other.older);
        self.after_write.extend(other.after_write);
    }
}

struct Session {
    number: u64,
    client: Client,
    /// The newest value that it saw of every key.
    newest: HashMap<u64, u64>,
    seen: Seen,
    run: Arc<Run>,
}

impl Session {
    async fn write(&mut self, key: u64) -> Outcome {
        let sql = format!("UPDATE counters SET value = value + 1 WHERE id = {key} RETURNING value");
        let value = self.client.value(&sql).await?.ok_or("no such counter")?.parse()?;
        self.newest.insert(key, value);
        Ok(())
    }

    async fn read(&mut self, key: u64) -> Outcome {
        let running = !self.run.paused.load(Ordering::SeqCst);
        let sql = format!("SELECT value, pg_is_in_recovery(), inet_server_port() FROM counters WHERE id = {key}");
        let rows = self.client.query(&sql).await?;
        let row = rows.first().ok_or("no such counter")?;
        let (value, replica): (u64, u64) = (text(row, 0)?.parse()?, u64::from(text(row, 1)? == "t"));
        self.seen.reads += 1;
        self.seen.from_replicas += replica;
        if running && !self.run.paused.load(Ordering::SeqCst) {
            self.seen.running += 1;
            self.seen.running_from_replicas += replica;
        }
        let newest = self.newest.entry(key).or_default();
        if value < *newest {
            let port = text(row, 2)?;
            self.seen
                .older
                .push(format!("session {}: counter {key} was {newest} and is {value} at {port}", self.number));
            self.run.found.store(true, Ordering::SeqCst);
        }
        *newest = value.max(*newest);
        Ok(())
    }

    async fn work(mut self) -> Outcome<Seen> {
        let one = |left: u64| left.checked_sub(1);
        while !self.run.found.load(Ordering::SeqCst)
            && self.run.writes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one).is_ok()
        {
            let own = self.number * KEYS_EACH + rand::random_range(0..KEYS_EACH);
            self.write(own).await?;
            let begun = clock::now();
            self.read(own).await?;
            self.seen.after_write.push(clock::now().since(begun));
            self.read(rand::random_range(0..SESSIONS * KEYS_EACH)).await?;
            self.read(rand::random_range(0..SESSIONS * KEYS_EACH)).await?;
        }
        Ok(self.seen)
    }
}

async fn load(proxy: &Proxy, run: &Arc<Run>, writes: u64) -> Outcome<Seen> {
    run.writes_left.store(writes, Ordering::SeqCst);
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let client = proxy.client().await?;
        let session = Session { number, client, newest: HashMap::new(), seen: Seen::default(), run: Arc::clone(run) };
        sessions.push(tasks::shared("session", session.work()));
    }
    let mut all = Seen::default();
    for session in sessions {
        all.take_in(session.await??);
    }
    Ok(all)
}

/// The same while a replica's replay stands still, now this one's and now that one's.
async fn load_with_pauses(cluster: &Cluster, proxy: &Proxy, run: &Arc<Run>, writes: u64) -> Outcome<(Seen, u64)> {
    let replicas: Vec<&Node> = cluster.nodes().iter().filter(|node| node.made_as() == MadeAs::Replica).collect();
    run.paused.store(true, Ordering::SeqCst);
    let mut pauses = 0;
    let pausing = async {
        loop {
            let replica = replicas.get(rand::random_range(0..replicas.len())).ok_or("no replicas")?;
            replica.pause_replay().await?;
            run.until_written(rand::random_range(0..80)).await;
            replica.resume_replay().await?;
            pauses += 1;
            run.until_written(rand::random_range(0..80)).await;
        }
    };
    let seen = tokio::select! {
        seen = load(proxy, run, writes) => seen?,
        stopped = pausing => { let stopped: Outcome = stopped; stopped?; return Err("pausing ended".into()) },
    };
    for replica in replicas {
        replica.resume_replay().await?;
    }
    run.paused.store(false, Ordering::SeqCst);
    Ok((seen, pauses))
}

/// Three nodes a shard, one replica of each behind.
async fn cluster(settings: &[(&str, &str)]) -> Outcome<Cluster> {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let cluster = Cluster::start(ClusterSpec { replicas: 2, settings, ..ClusterSpec::default() }).await?;
    for primary in cluster.primaries() {
        let mut client = Client::connect(primary.port(), "demo", "shop").await?;
        client
            .query("CREATE TABLE counters (id bigint PRIMARY KEY, value bigint NOT NULL) WITH (fillfactor = 50)")
            .await?;
    }
    for name in ["s1-c", "s2-c"] {
        cluster.node(name)?.delay_replay(DELAY).await?;
    }
    Ok(cluster)
}

async fn start(cluster: &Cluster, fault: Option<&str>) -> Outcome<Proxy> {
    let port = free_port()?;
    let environment: Vec<_> = fault.map(|fault| ("SHARDWAY_FAULT", fault)).into_iter().collect();
    Proxy::start(cluster, port, &map_of(cluster, port, |_| true, REST), &environment).await
}

#[expect(clippy::print_stdout, reason = "its figures are what it is run for")]
async fn check(settings: &[(&str, &str)], faults: &[&str]) -> Outcome {
    let cluster = cluster(settings).await?;
    let proxy = start(&cluster, None).await?;
    let mut client = proxy.client().await?;
    for key in 0..SESSIONS * KEYS_EACH {
        client.query(&format!("INSERT INTO counters VALUES ({key}, 0)")).await?;
    }
    // A session that has seen nothing may be shown the past, where there are no counters.
    for node in cluster.nodes().iter().filter(|node| node.made_as() == MadeAs::Replica) {
        node.until_replayed(cluster.node(&format!("{}-a", node.shard()))?).await?;
    }
    let run = Arc::new(Run::default());
    let begun = clock::now();
    let mut all = load(&proxy, &run, WRITES / 2).await?;
    let (paused, pauses) = load_with_pauses(&cluster, &proxy, &run, WRITES / 2).await?;
    all.take_in(paused);
    let took = clock::now().since(begun);
    #[expect(clippy::cast_precision_loss, reason = "a share of some ten thousand")]
    let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
    let running = share(all.running_from_replicas, all.running);
    println!(
        "figure: {WRITES} writes and {} reads in {took:.1?}, {pauses} pauses: {:.1} % of reads from replicas, \
         {:.1} % while replay ran; a read after a write p50 {:.1?}, p99 {:.1?}; {} older values",
        all.reads,
        100.0 * share(all.from_replicas, all.reads),
        100.0 * running,
        quantile(&mut all.after_write, 0.5),
        quantile(&mut all.after_write, 0.99),
        all.older.len(),
    );
    proxy.stop().await?;
    if !all.older.is_empty() {
        return Err(all.older.join("\n").into());
    }
    for fault in faults {
        let proxy = start(&cluster, Some(fault)).await?;
        let run = Arc::new(Run::default());
        let (seen, _) = load_with_pauses(&cluster, &proxy, &run, WRITES_WITH_FAULT).await?;
        let left = run.writes_left.load(Ordering::SeqCst);
        let found = seen.older.first().ok_or_else(|| Failure::from(format!("{fault} was not found")))?;
        println!("figure: {fault} was found after {} writes: {found}", WRITES_WITH_FAULT - left);
        proxy.stop().await?;
    }
    assert!(running >= FROM_REPLICAS, "{:.1} % of reads came from replicas", 100.0 * running);
    cluster.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_an_older_value() -> Outcome {
    check(&[], &["clock_after"]).await
}

/// Commits are acknowledged before they are written. The log is written every 10 ms instead of 200 ms, or no replica
/// could have a commit before the reads of it ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_an_older_value_without_synchronous_commit() -> Outcome {
    let settings = [("synchronous_commit", "off"), ("wal_writer_delay", "10ms")];
    check(&settings, &["write_position", "clock_after"]).await
}
