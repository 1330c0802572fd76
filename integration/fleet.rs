//! Three proxies that share a map by etcd, on real servers: versions reach all of them, a lost etcd stops changes and nothing
//! else, and a cancel request finds the proxy that has the session.
//!
//! `SHARDWAY_FLEET_KILLS` says how often one of the three etcd nodes or proxies is killed while maps are pushed (3).

mod etcd;
mod proxy;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use etcd::EtcdNode;
use etcd::etcds;
use etcd::shardway;
use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::map_of;
use proxy::quantile;
use proxy::text;
use proxy::until;
use serde_json::json;
use shardway::fleet::etcd::Etcd;
use shardway::fleet::etcd::Login;
use shardway::fleet::place::Place;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::client::Client;

const REST: &str = "    groups: {ledger: {key: bigint, tables: {ledger: id}}}
    control: {user: postgres}
users: {demo: {auth: trust}}
";

/// One shard, etcd, and proxies that share a map.
struct House {
    cluster: Cluster,
    etcds: Vec<EtcdNode>,
    place: String,
    map: String,
    ports: Vec<u16>,
    proxies: Vec<Option<Proxy>>,
}

impl House {
    /// etcd has no map yet, and no proxy runs.
    async fn build() -> Outcome<Self> {
        let cluster = Cluster::start(ClusterSpec { shards: 1, replicas: 0, ..ClusterSpec::default() }).await?;
        let table = "CREATE TABLE ledger (id bigint NOT NULL, part int NOT NULL)";
        Client::connect(cluster.nodes()[0].port(), "demo", "shop").await?.query(table).await?;
        let ports = vec![free_port()?, free_port()?, free_port()?];
        let (etcds, place) = etcds(cluster.dir(), 3, "http", &[], &[])?;
        let map = map_of(&cluster, ports[0], |_| true, REST);
        let house = Self { cluster, etcds, place, map, ports, proxies: vec![None, None, None] };
        until("etcd", async || Ok(house.ask(&["map", "history"]).await?.0)).await?;
        Ok(house)
    }

    fn start(&self, place: usize, arguments: &[&str]) -> Outcome<Proxy> {
        let port = self.ports[place];
        let listen = format!("127.0.0.1:{port}");
        let arguments = [&["--listen-postgres", &listen], arguments].concat();
        let dir = self.cluster.dir().join(format!("proxy-{place}"));
        Proxy::spawn(&dir, port, PathBuf::from(&self.place), &arguments, &[])
    }

    async fn serve(&mut self, place: usize) -> Outcome {
        let mut proxy = self.start(place, &[])?;
        proxy.serves().await?;
        self.proxies[place] = Some(proxy);
        Ok(())
    }

    async fn ask(&self, arguments: &[&str]) -> Outcome<(bool, String)> {
        shardway(&[arguments, &["--map", &self.place]].concat(), &[]).await
    }

    /// Pushes a text, as it is.
    async fn push(&self, text: &str, arguments: &[&str]) -> Outcome<(bool, String)> {
        let file = self.cluster.dir().join("to-push.yaml");
        fs::write(&file, text)?;
        self.ask(&[&["map", "push", &file.to_string_lossy()], arguments].concat()).await
    }

    /// Pulls the map, lets that many clients in, pushes that, and waits until all serve it. How long that took those who run.
    async fn change(&self, clients: usize) -> Outcome<Duration> {
        let (done, pulled) = self.ask(&["map", "pull"]).await?;
        assert!(done, "{pulled}");
        let kept: Vec<&str> = pulled.lines().filter(|it| !it.starts_with("limits:")).collect();
        let (done, said) = self.push(&format!("{}\nlimits: {{clients: {clients}}}\n", kept.join("\n")), &[]).await?;
        assert!(done, "{said}\n{}", self.logs());
        let running = self.proxies.iter().flatten().count();
        let line = said.lines().find(|it| it.starts_with(&format!("served by {running} of "))).ok_or(said.clone())?;
        let took = line.split(" proxies after ").nth(1).and_then(|it| it.split(' ').next()).ok_or(said.clone())?;
        Ok(Duration::from_millis(took.parse()?))
    }

    fn logs(&self) -> String {
        self.proxies.iter().flatten().map(Proxy::log).collect::<Vec<_>>().join("\n--\n")
    }

    /// Waits until etcd answers: while its members elect one of them, it does not.
    async fn until_answered(&self) -> Outcome {
        until("etcd to answer", async || Ok(self.ask(&["map", "history"]).await?.0)).await
    }

    /// What `SHOW MAP` says of an item.
    async fn shown(&self, place: usize, item: &str) -> Outcome<Option<String>> {
        let mut console = Client::connect(self.ports[place], "demo", "shardway").await?;
        let rows = console.query("SHOW MAP").await?;
        let row = rows.iter().find(|row| text(row, 0).is_ok_and(|it| it == item));
        Ok(row.and_then(|row| row.get(1).cloned().flatten()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_reach_every_proxy_and_a_lost_etcd_stops_changes_only() -> Outcome {
    let mut house = House::build().await?;
    // There is nothing to serve by.
    let (status, log) = house.start(0, &[])?.gives_up().await?;
    assert!(!status.success() && log.contains("there is no map at etcd://"), "{log}");
    let (done, said) = house.push("version: 1\n", &[]).await?;
    assert!(!done && said.contains("map-"), "{said}");
    let (done, said) = house.push(&house.map, &[]).await?;
    assert!(done && said.contains("version 1 is pushed\nserved by 0 of 0 proxies"), "{said}");
    for place in 0..3 {
        house.serve(place).await?;
    }

    // Versions reach everybody, and nobody's change is overwritten by who has not seen it.
    let mut spans = Vec::new();
    for clients in 100..105 {
        spans.push(house.change(clients).await?);
    }
    let (p50, p99) = (quantile(&mut spans, 0.5), quantile(&mut spans, 0.99));
    println!("oracle: 3 proxies serve a new version after {p50:?} (p50), {p99:?} (p99)");
    for place in 0..3 {
        assert_eq!(house.shown(place, "version").await?.as_deref(), Some("6"));
        assert_eq!(house.shown(place, "etcd").await?.as_deref(), Some("answers"));
    }
    let (done, said) = house.push(&house.map, &[]).await?;
    assert!(!done && said.contains("say --from 6 to replace that"), "{said}");
    let (done, said) = house.push(&house.map, &["--from", "5"]).await?;
    assert!(!done && said.contains("it was made from version 5, and version 6 is in force"), "{said}");
    let moved = house.map.replace("key: bigint", "key: text");
    let (done, said) = house.push(&moved, &["--from", "6"]).await?;
    assert!(!done && said.contains("has its rows elsewhere") && !said.contains("is pushed"), "{said}");
    let (_, first) = house.ask(&["map", "pull", "--version", "1"]).await?;
    assert!(first.starts_with("# shardway map version 1 of etcd://") && first.ends_with(&house.map), "{first}");
    let (_, told) = house.ask(&["map", "history"]).await?;
    let told: Vec<&str> = told.lines().collect();
    assert!(told.len() == 6 && told[0].starts_with("     6") && told[0].ends_with("served by 1, 2, 3"), "{told:?}");
    let (done, said) = shardway(&["check", &house.place], &[]).await?;
    assert!(done && said.contains("is right"), "{said}");

    // What only a proxy finds out, it says, and whoever pushed is told.
    let unreachable = house.map.replace("\nusers:", "\n  other:\n    shards: {s1: ['127.0.0.1:1']}\nusers:");
    let (done, said) = house.push(&unreachable, &["--from", "6", "--wait", "0"]).await?;
    assert!(!done && said.contains("version 7 is pushed") && said.contains("serves version 6: "), "{said}");
    for place in 0..3 {
        until("the map to be refused", async || Ok(house.shown(place, "rejected").await?.is_some())).await?;
        assert_eq!(house.shown(place, "version").await?.as_deref(), Some("6"));
    }
    let (done, said) = house.push(&house.map, &["--from", "7"]).await?;
    assert!(done && said.contains("version 8 is pushed"), "{said}");
    house.change(200).await?;

    // Of three, one may be gone; of two that are gone nothing changes, and clients do not notice.
    house.etcds[0].kill();
    house.until_answered().await?;
    house.change(201).await?;
    let mut client = Client::connect(house.ports[0], "demo", "shop").await?;
    client.query("BEGIN").await?;
    house.etcds[1].kill();
    for place in 0..3 {
        let told = async || Ok(house.shown(place, "etcd").await?.is_some_and(|it| it.starts_with("does not answer")));
        until("the loss to be noticed", told).await?;
    }
    client.query("INSERT INTO ledger VALUES (1, 0)").await?;
    client.query("COMMIT").await?;
    for port in &house.ports {
        let rows = Client::connect(*port, "demo", "shop").await?.query("SELECT id FROM ledger").await?;
        assert_eq!(rows.len(), 1);
    }
    let (done, said) = house.push(&house.map, &["--from", "9"]).await?;
    assert!(!done && said.contains("etcd at 127.0.0.1:"), "{said}");

    // Who starts now says what is missing, or goes by the copy that it was asked to keep.
    house.proxies[2] = None;
    let (status, log) = house.start(2, &[])?.gives_up().await?;
    assert!(!status.success() && log.contains("--map-copy FILE"), "{log}");
    let copy = house.cluster.dir().join("copy.yaml");
    let copy = copy.to_string_lossy();
    let (status, log) = house.start(2, &["--map-copy", &copy])?.gives_up().await?;
    assert!(!status.success() && log.contains("there is no copy of it"), "{log}");
    house.etcds[0].start()?;
    until("etcd to be there again", async || Ok(house.ask(&["map", "history"]).await?.0)).await?;
    let mut proxy = house.start(2, &["--map-copy", &copy])?;
    proxy.serves().await?;
    house.proxies[2] = Some(proxy);
    house.change(202).await?;
    until("the copy", async || Ok(fs::read_to_string(&*copy)?.starts_with("# shardway map version 11 of"))).await?;
    house.etcds[0].kill();
    house.proxies[2] = None;
    let mut proxy = house.start(2, &["--map-copy", &copy])?;
    proxy.serves().await?;
    assert!(proxy.log().contains("serving by the copy of the map"), "{}", proxy.log());
    house.proxies[2] = Some(proxy);
    assert_eq!(house.shown(2, "version").await?.as_deref(), Some("11"));
    house.etcds[0].start()?;
    until("etcd to be there again", async || Ok(house.ask(&["map", "history"]).await?.0)).await?;
    until("all to be members", async || {
        let (_, told) = house.ask(&["map", "history"]).await?;
        Ok(told
            .lines()
            .next()
            .is_some_and(|it| it.split("served by ").nth(1).is_some_and(|it| it.split(',').count() == 3)))
    })
    .await?;
    house.change(203).await?;
    Ok(house.cluster.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_the_others_take_the_next_version() -> Outcome {
    let count: usize = std::env::var("SHARDWAY_FLEET_KILLS").map_or(3, |it| it.parse().expect("a number"));
    let mut house = House::build().await?;
    let (done, said) = house.push(&house.map, &[]).await?;
    assert!(done, "{said}");
    for place in 0..3 {
        house.serve(place).await?;
    }
    let mut spans = Vec::new();
    for round in 0..count {
        let victim = round / 2 % 3;
        if round % 2 == 0 {
            house.etcds[victim].kill();
            house.until_answered().await?;
        } else {
            house.proxies[victim] = None;
        }
        spans.push(house.change(1000 + round).await?);
        if round % 2 == 0 {
            house.etcds[victim].start()?;
        } else {
            house.serve(victim).await?;
        }
        for place in 0..3 {
            Client::connect(house.ports[place], "demo", "shop").await?.query("SELECT id FROM ledger").await?;
        }
    }
    let (p50, p99) = (quantile(&mut spans, 0.5), quantile(&mut spans, 0.99));
    println!("oracle: {count} kills; those who are left serve a new version after {p50:?} (p50), {p99:?} (p99)");
    Ok(house.cluster.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_request_finds_the_proxy_that_has_the_session() -> Outcome {
    let mut house = House::build().await?;
    let (done, said) = house.push(&house.map, &[]).await?;
    assert!(done, "{said}");
    for place in 0..3 {
        house.serve(place).await?;
    }
    for (has, asked) in [(0, 1), (1, 2), (2, 0), (0, 0)] {
        let config = format!("host=127.0.0.1 port={} user=demo dbname=shop", house.ports[has]);
        let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await?;
        let driven = shardway::tasks::shared("connection", connection);
        let token = client.cancel_token();
        let sleeping =
            shardway::tasks::shared("client", async move { client.simple_query("SELECT pg_sleep(600)").await });
        let node = &house.cluster.nodes()[0];
        let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(600)'";
        until("the statement to run", async || Ok(node.value("shop", running).await?.as_deref() == Some("1"))).await?;
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", house.ports[asked])).await?;
        token.cancel_query_raw(stream, tokio_postgres::NoTls).await?;
        let ended = sleeping.await?.err().ok_or("it was not cancelled")?;
        assert_eq!(ended.code(), Some(&tokio_postgres::error::SqlState::QUERY_CANCELED), "{ended}");
        driven.abort();
    }
    Ok(house.cluster.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_is_spoken_to_in_tls_and_by_name_and_password() -> Outcome {
    let dir = std::env::temp_dir().join(format!("shardway-fleet-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&cert, certificate.cert.pem())?;
    fs::write(&key, certificate.signing_key.serialize_pem())?;
    let more = ["--cert-file", &cert.to_string_lossy(), "--key-file", &key.to_string_lossy()].map(str::to_owned);
    let (nodes, place) = etcds(&dir, 1, "https", &[], &more)?;
    let trusted = Login { user: None, ca: Some(cert.clone()) };
    let etcd = Etcd::new(Place::read(&place)?, trusted)?.patient();
    until("etcd", async || Ok(etcd.read(&["map"]).await.is_ok())).await?;
    for (path, body) in [
        ("/v3/auth/user/add", json!({"name": "root", "password": "secret"})),
        ("/v3/auth/user/grant", json!({"user": "root", "role": "root"})),
        ("/v3/auth/enable", json!({})),
    ] {
        etcd.ask(path, &body).await?;
    }
    let map = "version: 1\nlisten: {postgres: 127.0.0.1:6432}\ndatabases:\n  shop:\n    shards: {s1: ['127.0.0.1:1']}\nusers: {demo: {auth: trust}}\n";
    let file = dir.join("map.yaml");
    fs::write(&file, map)?;
    let (file, ca) = (file.to_string_lossy(), cert.to_string_lossy());
    let push = ["map", "push", &*file, "--map", &*place, "--wait", "0"];
    let login = [("SHARDWAY_ETCD_USER", "root"), ("SHARDWAY_ETCD_PASSWORD", "secret"), ("SHARDWAY_ETCD_CA", &*ca)];
    let (done, said) = shardway(&push, &login).await?;
    assert!(done && said.contains("version 1 is pushed"), "{said}");
    for (environment, why) in [
        (&login[..2], "TLS handshake failed"),
        (&login[..1], "SHARDWAY_ETCD_USER is set without SHARDWAY_ETCD_PASSWORD"),
        (&login[2..], "set SHARDWAY_ETCD_USER and SHARDWAY_ETCD_PASSWORD"),
        (
            &[login[0], ("SHARDWAY_ETCD_PASSWORD", "wrong"), login[2]],
            "set SHARDWAY_ETCD_USER and SHARDWAY_ETCD_PASSWORD",
        ),
    ] {
        let (done, said) = shardway(&push, environment).await?;
        assert!(!done && said.contains(why), "{why}: {said}");
    }
    let clear = place.replace("etcds://", "etcd://");
    let (done, said) = shardway(&["map", "pull", "--map", &clear], &login).await?;
    assert!(!done && said.contains("write etcds://"), "{said}");
    drop(nodes);
    fs::remove_dir_all(&dir)?;
    Ok(())
}
