//! Replicas fall behind, catch up, die and come back in any order, under load: nobody is shown anything older than it may be
//! shown, replicas serve whenever they may, and the primary never has more to do than its pool lets in. A planted mistake in
//! how lag is measured is found.
//!
//! `SHARDWAY_LAG_SECONDS=600` goes on for longer, `SHARDWAY_LAG_SEED` has the same things happen again.

#![expect(clippy::cast_precision_loss, reason = "figures are small")]

mod proxy;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
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
use proxy::until;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use shardway::clock;
use shardway::clock::Tick;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::MadeAs;
use shardway::local_cluster::Node;
use shardway::local_cluster::Stop;
use shardway::local_cluster::client::Client;
use shardway::local_cluster::client::SqlError;
use shardway::tasks;
use tokio::sync::watch;

const SECONDS: u64 = 15;
/// Beyond it a replica is out of use, whatever is asked for.
const STALENESS_MAX: Duration = Duration::from_secs(2);
/// Of `bounded`.
const BOUND: Duration = Duration::from_millis(500);
const POOL: u64 = 6;
const KEYS: u64 = 8;
/// Clients of each level; those of `session` and as many others write.
const CLIENTS: u64 = 4;
/// Between what a client does.
const PACE: Duration = Duration::from_millis(4);
/// How long a replica stays as it was made, at most.
const SPELL: u64 = 4_000;
/// A replica that fell behind is held for so long at least.
const HOLD: u64 = 3;
/// The least part of reads at `eventual` that replicas serve while one of the shard is in use.
const FROM_REPLICAS: f64 = 0.8;

const REST: &str = "
    groups: {counter: {key: bigint, tables: {counters: id}}}
    reads: {staleness_max: 2s}
pool: {size: 6, wait: 30s}
users: {demo: {auth: trust}}
";

/// What was acknowledged of one counter, which one client alone counts up.
#[derive(Default)]
struct Counter {
    /// When each value was acknowledged.
    acknowledged: Mutex<Vec<(Tick, u64)>>,
    /// No value beyond this can be there.
    begun: AtomicU64,
}

impl Counter {
    /// The value that had been acknowledged before `moment`.
    fn before(&self, moment: Tick) -> u64 {
        let all = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.partition_point(|(at, _)| *at < moment);
        count.checked_sub(1).and_then(|place| all.get(place)).map_or(0, |(_, value)| *value)
    }

    /// How long before `moment` a value beyond `value` had been acknowledged.
    fn age(&self, value: u64, moment: Tick) -> Duration {
        let all = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let next = all.partition_point(|(_, it)| *it <= value);
        all.get(next).map_or(Duration::ZERO, |(at, _)| moment.since(*at))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Eventual,
    Bounded,
    Session,
    Strong,
}

const LEVELS: [Level; 4] = [Level::Eventual, Level::Bounded, Level::Session, Level::Strong];

/// What clients of one level saw.
#[derive(Default)]
struct Seen {
    reads: u64,
    from_replicas: u64,
    /// The same while a replica of the shard was in use.
    allowed: u64,
    allowed_from_replicas: u64,
    oldest: Duration,
    /// Of `session`: what a replica had shown, and the primary did not show yet.
    before_primary: u64,
    errors: BTreeMap<String, u64>,
}

impl Seen {
    fn take_in(&mut self, other: Self) {
        self.reads += other.reads;
        self.from_replicas += other.from_replicas;
        self.allowed += other.allowed;
        self.allowed_from_replicas += other.allowed_from_replicas;
        self.oldest = self.oldest.max(other.oldest);
        self.before_primary += other.before_primary;
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }
}

/// What all of a run share.
struct Run {
    counters: Vec<Counter>,
    /// The shard of each counter.
    shards: Vec<usize>,
    primaries: Vec<u16>,
    /// Replicas of each shard that are in use, and, above the lowest byte, how often that has changed.
    in_use: Vec<AtomicU64>,
    ended: watch::Sender<bool>,
    wrong: Mutex<Vec<String>>,
    /// What was done to replicas.
    told: Mutex<Vec<String>>,
    writes: Mutex<Vec<Duration>>,
}

impl Run {
    fn is_over(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits for so long, unless the end comes first.
    async fn rest(&self, span: Duration) {
        let mut ended = self.ended.subscribe();
        // Either is what was waited for.
        let _ = tokio::time::timeout(span, ended.wait_for(|it| *it)).await;
    }

    fn is_wrong(&self, what: &str) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(told(what));
    }
}

/// As logs tell of it.
fn told(what: &str) -> String {
    format!("{} {what}", clock::utc(clock::unix_now()))
}

fn number(row: &[Option<String>], column: usize) -> Outcome<u64> {
    Ok(text(row, column)?.parse()?)
}

struct Reader {
    level: Level,
    number: u64,
    client: Client,
    chance: StdRng,
    /// The newest value of each counter that the session wrote, or saw at a primary, and that it saw anywhere.
    newest: HashMap<u64, (u64, u64)>,
    seen: Seen,
    run: Arc<Run>,
}

impl Reader {
    async fn start(level: Level, number: u64, seed: u64, proxy: &Proxy, run: &Arc<Run>) -> Outcome<Self> {
        let mut client = proxy.client().await?;
        let value = match level {
            Level::Eventual => "eventual",
            Level::Bounded => "bounded:500ms",
            Level::Session => "session",
            Level::Strong => "strong",
        };
        client.query(&format!("SET shardway.consistency = '{value}'")).await?;
        let chance = StdRng::seed_from_u64(seed);
        let (newest, seen, run) = (HashMap::new(), Seen::default(), Arc::clone(run));
        Ok(Self { level, number, client, chance, newest, seen, run })
    }

    /// Counts one up that nobody else does.
    async fn write(&mut self, key: u64) -> Outcome {
        let run = Arc::clone(&self.run);
        let counter = &run.counters[usize::try_from(key)?];
        counter.begun.fetch_add(1, Ordering::SeqCst);
        let begun = clock::now();
        let sql = format!("UPDATE counters SET value = value + 1 WHERE id = {key} RETURNING value");
        let value = self.client.value(&sql).await?.ok_or("no such counter")?.parse()?;
        let now = clock::now();
        counter.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push((now, value));
        run.writes.lock().unwrap_or_else(PoisonError::into_inner).push(now.since(begun));
        self.newest.insert(key, (value, value));
        Ok(())
    }

    /// Reads one counter, or all of them.
    async fn read(&mut self, key: Option<u64>) -> Outcome {
        let run = Arc::clone(&self.run);
        let used = || run.in_use.iter().map(|it| it.load(Ordering::SeqCst)).collect::<Vec<_>>();
        let sql = match key {
            Some(key) => format!("SELECT id, value, inet_server_port() FROM counters WHERE id = {key}"),
            None => "SELECT id, value, inet_server_port() FROM counters".to_owned(),
        };
        let (before, begun) = (used(), clock::now());
        let rows = match self.client.query(&sql).await {
            Ok(rows) => rows,
            Err(SqlError::Server { sqlstate, message, .. }) => {
                *self.seen.errors.entry(format!("{sqlstate} {message}")).or_default() += 1;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let after = used();
        if rows.len() as u64 != if key.is_some() { 1 } else { KEYS } {
            run.is_wrong(&format!("{:?} {}: of {key:?} there is {rows:?} only", self.level, self.number));
        }
        let mut from_replicas = true;
        for row in &rows {
            from_replicas &= !run.primaries.contains(&text(row, 2)?.parse()?);
            self.look(number(row, 0)?, number(row, 1)?, text(row, 2)?, begun)?;
        }
        let shards = match key {
            Some(key) => vec![run.shards[usize::try_from(key)?]],
            None => (0..before.len()).collect(),
        };
        // One and the same number of replicas in use all the while, and not none.
        let allowed = shards.iter().all(|it| before[*it] == after[*it] && before[*it] & 0xff > 0);
        self.seen.reads += 1;
        self.seen.from_replicas += u64::from(from_replicas);
        self.seen.allowed += u64::from(allowed);
        self.seen.allowed_from_replicas += u64::from(allowed && from_replicas);
        Ok(())
    }

    /// Whether a value may be shown to whoever asked at `begun`.
    fn look(&mut self, key: u64, value: u64, port: &str, begun: Tick) -> Outcome {
        let counter = &self.run.counters[usize::try_from(key)?];
        let earlier = |span: Duration| Tick(begun.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)));
        let (at_primary, anywhere) = self.newest.entry(key).or_default();
        let is_primary = self.run.primaries.contains(&port.parse()?);
        let least = match self.level {
            Level::Eventual => 0,
            Level::Bounded => counter.before(earlier(BOUND)),
            // A replica may have shown a commit that nobody was told of yet, before the primary does.
            Level::Session if is_primary => (*at_primary).max(counter.before(begun)),
            Level::Session => *anywhere,
            Level::Strong => counter.before(begun),
        };
        let age = counter.age(value, begun);
        if value < least || value > counter.begun.load(Ordering::SeqCst) {
            self.run.is_wrong(&format!(
                "{:?} {}: counter {key} is {value} at {} {port}, at least {least} was due; {age:?} old",
                self.level,
                self.number,
                if is_primary { "primary" } else { "replica" }
            ));
        }
        self.seen.before_primary += u64::from(self.level == Level::Session && value < *anywhere);
        if is_primary {
            *at_primary = value.max(*at_primary);
        }
        *anywhere = value.max(*anywhere);
        self.seen.oldest = self.seen.oldest.max(age);
        Ok(())
    }

    async fn work(mut self, own: Option<u64>) -> Outcome<(Level, Seen)> {
        while !self.run.is_over() {
            if let Some(own) = own {
                self.write(own).await?;
                self.read(Some(own)).await?;
            }
            let key = self.chance.random_range(0..KEYS + 1);
            self.read((key < KEYS).then_some(key)).await?;
            self.run.rest(PACE).await;
        }
        Ok((self.level, self.seen))
    }
}

/// What is done to replicas, and how often it was.
type Blows = BTreeMap<&'static str, usize>;

/// Has things happen to one replica, and undoes them in the end.
async fn strike(node: &Node, mut chance: StdRng, run: &Run) -> Outcome<Blows> {
    let (mut paused, mut delayed) = (false, false);
    let mut blows = Blows::new();
    while !run.is_over() {
        let blow = match (chance.random_range(0..10), node.pid().is_some()) {
            (_, false) => "start",
            (0, _) => "pause",
            (1, _) => "delay by 5 s",
            (2, _) => "delay by 2 s",
            (3, _) => "kill",
            (4, _) => "restart",
            (5..=6, _) if paused => "resume",
            (5..=8, _) if delayed => "no delay",
            _ => "nothing",
        };
        if blow != "nothing" {
            run.told.lock().unwrap_or_else(PoisonError::into_inner).push(told(&format!("{}: {blow}", node.name())));
        }
        match blow {
            "start" => node.start().await?,
            "pause" => {
                // It need not stand still at once: a delay goes first.
                node.value("postgres", "SELECT pg_wal_replay_pause()").await?;
                paused = true;
            }
            "resume" => {
                node.resume_replay().await?;
                paused = false;
            }
            "delay by 5 s" | "delay by 2 s" => {
                let by = if blow == "delay by 5 s" { Duration::from_secs(5) } else { STALENESS_MAX };
                node.delay_replay(by).await?;
                delayed = true;
            }
            "no delay" => {
                node.delay_replay(Duration::ZERO).await?;
                delayed = false;
            }
            "kill" => {
                node.kill9().await?;
                paused = false;
            }
            "restart" => {
                node.stop(if chance.random() { Stop::Fast } else { Stop::Immediate }).await?;
                node.start().await?;
                paused = false;
            }
            _ => {}
        }
        *blows.entry(blow).or_default() += 1;
        run.rest(Duration::from_millis(chance.random_range(0..SPELL))).await;
    }
    node.start().await?;
    node.resume_replay().await?;
    node.delay_replay(Duration::ZERO).await?;
    Ok(blows)
}

/// Whether reads go to each replica, as the console has it: whether it answers, nothing is wrong with it, and it is fresh enough.
async fn in_use(console: &mut Client) -> Outcome<BTreeMap<String, bool>> {
    let mut nodes = BTreeMap::new();
    for row in console.query("SHOW NODES").await? {
        if text(&row, 4)? == "replica" {
            let fresh = row[7].as_deref().and_then(|it| it.parse().ok()).map(Duration::from_millis);
            let fits = text(&row, 5)? == "up" && row[10].is_none() && fresh.is_some_and(|it| it <= STALENESS_MAX);
            nodes.insert(text(&row, 2)?.to_owned(), fits);
        }
    }
    Ok(nodes)
}

/// What was seen of the servers.
#[derive(Default)]
struct Watched {
    /// How often each replica came into use or went out of it.
    turns: BTreeMap<String, u64>,
    /// Sessions that ran something at one primary at the same time.
    busiest: u64,
}

/// Looks at the servers again and again.
async fn look_on(cluster: &Cluster, proxy: &Proxy, run: &Run) -> Outcome<Watched> {
    let mut console = proxy.console().await?;
    let mut primaries = Vec::new();
    for primary in cluster.primaries() {
        primaries.push(primary.connect("shop").await?);
    }
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo' AND state <> 'idle' \
                    AND application_name IN ('', 'shardway demo')";
    let mut watched = Watched::default();
    let mut before = BTreeMap::new();
    while !run.is_over() {
        let now = in_use(&mut console).await?;
        for (node, used) in &now {
            let turned = before.get(node).is_some_and(|it| it != used);
            *watched.turns.entry(node.clone()).or_default() += u64::from(turned);
        }
        if now != before {
            for (place, held) in run.in_use.iter().enumerate() {
                let shard = format!("s{}-", place + 1);
                let count = now.iter().filter(|(node, used)| node.starts_with(&shard) && **used).count() as u64;
                let times = held.load(Ordering::SeqCst) >> 8;
                held.store((times + 1) << 8 | count, Ordering::SeqCst);
            }
            before = now;
        }
        for primary in &mut primaries {
            let busy = primary.value(sessions).await?.unwrap_or_default().parse()?;
            watched.busiest = watched.busiest.max(busy);
        }
        run.rest(Duration::from_millis(10)).await;
    }
    Ok(watched)
}

/// Lets all of it happen for so long, or until something is wrong.
async fn let_happen(
    cluster: &Cluster,
    proxy: &Proxy,
    span: Duration,
    seed: u64,
) -> Outcome<(Arc<Run>, BTreeMap<Level, Seen>, Blows, Watched)> {
    let mut shards = vec![0; usize::try_from(KEYS)?];
    let mut primaries = Vec::new();
    let counters: Vec<Counter> = (0..KEYS).map(|_| Counter::default()).collect();
    for (place, primary) in cluster.primaries().enumerate() {
        primaries.push(primary.port());
        for row in primary.connect("shop").await?.query("SELECT id, value FROM counters").await? {
            let (key, value) = (usize::try_from(number(&row, 0)?)?, number(&row, 1)?);
            shards[key] = place;
            counters[key].begun.store(value, Ordering::SeqCst);
        }
    }
    let run = Arc::new(Run {
        counters,
        shards,
        in_use: primaries.iter().map(|_| AtomicU64::new(0)).collect(),
        primaries,
        ended: watch::channel(false).0,
        wrong: Mutex::default(),
        told: Mutex::default(),
        writes: Mutex::default(),
    });
    let mut clients = Vec::new();
    for (place, level) in (0_u64..).zip(LEVELS) {
        for number in 0..CLIENTS {
            let reader = Reader::start(level, number, seed ^ (place * CLIENTS + number) << 32, proxy, &run).await?;
            let own = match level {
                Level::Session => Some(number),
                Level::Strong => Some(CLIENTS + number),
                Level::Eventual | Level::Bounded => None,
            };
            clients.push(tasks::shared("reader", reader.work(own)));
        }
    }
    let replicas: Vec<&Node> = cluster.nodes().iter().filter(|it| it.made_as() == MadeAs::Replica).collect();
    let struck = async {
        let chance = |place: u64| StdRng::seed_from_u64(seed ^ (1 << 60 | place));
        let [a, b, c, d] = replicas[..] else { return Err(Failure::from("four replicas")) };
        let all = tokio::try_join!(
            strike(a, chance(0), &run),
            strike(b, chance(1), &run),
            strike(c, chance(2), &run),
            strike(d, chance(3), &run)
        )?;
        let mut blows = Blows::new();
        for (blow, count) in [all.0, all.1, all.2, all.3].into_iter().flatten() {
            *blows.entry(blow).or_default() += count;
        }
        Ok(blows)
    };
    let end = async {
        let begun = clock::now();
        let wrong = || !run.wrong.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        while clock::now().since(begun) < span && !wrong() && !clients.iter().any(|it| it.is_finished()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        run.ended.send_replace(true);
        Ok::<_, Failure>(())
    };
    let (blows, watched, ()) = tokio::try_join!(struck, look_on(cluster, proxy, &run), end)?;
    let mut seen: BTreeMap<Level, Seen> = BTreeMap::new();
    for client in clients {
        let (level, of_one) = client.await??;
        seen.entry(level).or_default().take_in(of_one);
    }
    Ok((run, seen, blows, watched))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lag_shows_nobody_too_old_a_value() -> Outcome {
    let setting = |name: &str| std::env::var(name).ok().and_then(|it| it.parse::<u64>().ok());
    let seconds = setting("SHARDWAY_LAG_SECONDS").unwrap_or(SECONDS);
    let seed = setting("SHARDWAY_LAG_SEED").unwrap_or_else(rand::random);
    println!("oracle: lag: SHARDWAY_LAG_SEED={seed}, {seconds} s");
    let cluster = Cluster::start(ClusterSpec { replicas: 2, ..ClusterSpec::default() }).await?;
    for primary in cluster.primaries() {
        let mut client = Client::connect(primary.port(), "demo", "shop").await?;
        client
            .query("CREATE TABLE counters (id bigint PRIMARY KEY, value bigint NOT NULL) WITH (fillfactor = 50)")
            .await?;
    }
    let port = free_port()?;
    let map = map_of(&cluster, port, |_| true, REST);
    let proxy = Proxy::start(&cluster, port, &map, &[]).await?;
    let mut client = proxy.client().await?;
    for key in 0..KEYS {
        client.query(&format!("INSERT INTO counters VALUES ({key}, 0)")).await?;
    }
    // Whoever has seen nothing may be shown the past, where there are no counters.
    for node in cluster.nodes().iter().filter(|node| node.made_as() == MadeAs::Replica) {
        node.until_replayed(cluster.node(&format!("{}-a", node.shard()))?).await?;
    }
    let begun = clock::now();
    let (run, seen, blows, watched) = let_happen(&cluster, &proxy, Duration::from_secs(seconds), seed).await?;
    let mut console = proxy.console().await?;
    until("all replicas to be used again", async || Ok(in_use(&mut console).await?.values().all(|it| *it)))
        .await
        .map_err(|error| format!("{error}\n{}", proxy.log()))?;
    let took = clock::now().since(begun).as_secs();
    let log = proxy.log();
    println!(
        "oracle: lag: {}",
        blows.iter().map(|(blow, count)| format!("{blow} {count}")).collect::<Vec<_>>().join(", ")
    );
    let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
    for (level, it) in &seen {
        println!(
            "oracle: lag: {level:?}: {} reads, {:.1} % from replicas ({:.1} % while one was in use), {:?} too old at most; \
             {} values shown by a replica before the primary; errors {:?}",
            it.reads,
            100.0 * share(it.from_replicas, it.reads),
            100.0 * share(it.allowed_from_replicas, it.allowed),
            it.oldest,
            it.before_primary,
            it.errors,
        );
    }
    let (reads, replicas) = seen.values().fold((0, 0), |sum, it| (sum.0 + it.reads, sum.1 + it.from_replicas));
    let mut writes = std::mem::take(&mut *run.writes.lock().unwrap_or_else(PoisonError::into_inner));
    println!(
        "oracle: lag: {reads} reads in all, {:.1} % at a primary, {} of {POOL} connections busy there at most; {} writes, \
         p50 {:.1?}, p99 {:.1?}",
        100.0 * share(reads - replicas, reads),
        watched.busiest,
        writes.len(),
        quantile(&mut writes, 0.5),
        quantile(&mut writes, 0.99),
    );
    let behind = |node: &str| {
        let of =
            |line: &&str| line.contains("replica serves no reads") && line.contains("kept up") && line.contains(node);
        log.lines().filter(of).count() as u64
    };
    for (node, turns) in &watched.turns {
        println!("oracle: lag: {node} came into use or went out {turns} times; it fell behind {} times", behind(node));
        assert!(behind(node) <= took / HOLD + 1, "{node} was moved too often:\n{log}");
    }
    let wrong = std::mem::take(&mut *run.wrong.lock().unwrap_or_else(PoisonError::into_inner));
    let told = run.told.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
    assert!(wrong.is_empty(), "{}\n{told}\n{log}", wrong.join("\n"));
    assert!(watched.busiest <= POOL, "{} sessions at one primary", watched.busiest);
    for (level, it) in &seen {
        // The others may ask for more than a replica has that is in use.
        let least = if *level == Level::Eventual { FROM_REPLICAS } else { 0.0 };
        assert!(share(it.allowed_from_replicas, it.allowed) >= least, "{level:?} at the primary\n{log}");
        // A read that had begun to be answered when its server died is told so.
        assert!(it.errors.keys().all(|error| error.starts_with("40001")), "{level:?}: {:?}", it.errors);
        // Without a primary, old is better than nothing.
        let led = !log.lines().any(|it| it.contains("node down") && (it.contains("s1-a") || it.contains("s2-a")));
        assert!(!led || it.oldest <= STALENESS_MAX, "{level:?}: {:?} too old\n{log}", it.oldest);
    }
    proxy.stop().await?;
    let proxy = Proxy::start(&cluster, port, &map, &[("SHARDWAY_FAULT", "received_position")]).await?;
    let (run, ..) = let_happen(&cluster, &proxy, Duration::from_secs(120), seed).await?;
    let wrong = std::mem::take(&mut *run.wrong.lock().unwrap_or_else(PoisonError::into_inner));
    let found = wrong.first().ok_or("received_position was not found")?;
    println!("oracle: lag: received_position was found: {found}");
    proxy.stop().await?;
    Ok(cluster.stop().await?)
}
