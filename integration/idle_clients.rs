//! Five thousand clients that have nothing to say share twenty connections to each server, and cost little.

mod proxy;

use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::map_of;
use proxy::text;
use shardway::clock;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::client::Client;
use shardway::tasks;

const CLIENTS: usize = 5000;
/// How many log in at once.
const AT_ONCE: usize = 50;
const POOL: usize = 20;
/// What one idle client may cost the proxy, in bytes of resident memory.
const BYTES_MAX: u64 = 32 << 10;

/// Every client asks for one row, all at once within a part of them, and the answers are right.
async fn all_ask(clients: Vec<Client>) -> Outcome<Vec<Client>> {
    let mut asking = Vec::new();
    let mut clients = clients.into_iter().enumerate();
    loop {
        let part: Vec<_> = clients.by_ref().take(CLIENTS / AT_ONCE).collect();
        if part.is_empty() {
            break;
        }
        asking.push(tasks::shared("asking", async move {
            let mut asked = Vec::new();
            for (number, mut client) in part {
                let id = number % 100;
                let value = client.value(&format!("SELECT name FROM accounts WHERE id = {id}")).await?;
                if value != Some(format!("account {id}")) {
                    return Err(format!("client {number} was told {value:?}").into());
                }
                asked.push(client);
            }
            Outcome::Ok(asked)
        }));
    }
    let mut all = Vec::new();
    for part in asking {
        all.extend(part.await??);
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_idle_clients_share_twenty_connections() -> Outcome {
    let cluster = Cluster::start(ClusterSpec { replicas: 0, ..ClusterSpec::default() }).await?;
    for primary in cluster.primaries() {
        let mut client = Client::connect(primary.port(), "demo", "shop").await?;
        client.query("CREATE TABLE accounts (id bigint PRIMARY KEY, name text NOT NULL)").await?;
    }
    let port = free_port()?;
    let rest = format!(
        "    groups: {{account: {{key: bigint, tables: {{accounts: id}}}}}}\npool: {{size: {POOL}, wait: 30s}}\n\
         timeouts: {{login: 60s}}\nusers: {{demo: {{auth: trust}}}}\n"
    );
    let proxy = Proxy::start(&cluster, port, &map_of(&cluster, port, |_| true, &rest), &[]).await?;
    let mut first = proxy.client().await?;
    for id in 0..100 {
        first.query(&format!("INSERT INTO accounts VALUES ({id}, 'account {id}')")).await?;
    }
    // Pools and caches have their size before it is measured: what is left are the clients.
    let mut early = Vec::new();
    for _ in 0..AT_ONCE {
        early.push(proxy.client().await?);
    }
    let early = all_ask(early).await?;
    let before = proxy.resident()?;

    let begun = clock::now();
    let mut entering = Vec::new();
    for _ in 0..AT_ONCE {
        entering.push(tasks::shared("entering", async move {
            let mut clients = Vec::new();
            for _ in 0..CLIENTS / AT_ONCE {
                clients.push(Client::connect(port, "demo", "shop").await?);
            }
            Outcome::Ok(clients)
        }));
    }
    let mut clients = Vec::new();
    for part in entering {
        clients.extend(part.await??);
    }
    let entered = clock::now().since(begun);
    assert_eq!(clients.len(), CLIENTS);
    let fresh = proxy.resident()?.saturating_sub(before);
    let clients = all_ask(clients).await?;
    let idle = proxy.resident()?.saturating_sub(before);
    let each = |bytes: u64| bytes / u64::try_from(CLIENTS).unwrap_or(1);

    let mut most = 0;
    for node in cluster.nodes() {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo' AND backend_type = 'client backend'";
        let open: usize = node.value("shop", sql).await?.unwrap_or_default().parse()?;
        // One more is the monitor's, one the schema reader's, and one looks after prepared transactions.
        assert!(open <= POOL + 3, "{} has {open} connections", node.name());
        most = most.max(open);
    }
    let mut console = proxy.console().await?;
    for pool in console.query("SHOW POOLS").await? {
        let open: usize = text(&pool, 19)?.parse()?;
        assert!(open <= POOL, "{pool:?}");
    }
    // They are still there, all of them, and so are those who came first.
    let begun = clock::now();
    let clients = all_ask(clients).await?;
    let asked = clock::now().since(begun);
    all_ask(early).await?;
    println!(
        "figure: {CLIENTS} clients entered in {entered:.1?} and asked again in {asked:.1?}; {:.1} KiB of the proxy's \
         memory each when they had entered, {:.1} KiB when they had asked; at most {most} connections to a server",
        kib(each(fresh)),
        kib(each(idle)),
    );
    assert!(each(idle) <= BYTES_MAX, "{} bytes a client", each(idle));
    drop(clients);
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "some thousand bytes")]
fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}
