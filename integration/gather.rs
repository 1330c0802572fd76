//! Reads that span shards when there is much of them, when servers die in the middle, and when the client is slow:
//! an error or the whole answer, and no more memory than the answer needs.

#[path = "oracle/wire.rs"]
#[allow(dead_code, reason = "the oracle uses the rest of it")]
mod bytes;
mod proxy;

use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::map_of;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::client::Client;

const GROUPS: &str = "    groups: {user: {key: bigint, tables: {users: id}}}
    gather: {rows_max: 20000, bytes_max: 4MiB}
users: {demo: {auth: trust}}
";
/// Rows of `users`.
const USERS: i64 = 2000;

/// A cluster of two shards without replicas, and a proxy in front of it.
async fn start(environment: &[(&str, &str)]) -> Outcome<(Cluster, Proxy)> {
    start_with(0, environment).await
}

async fn start_with(replicas: usize, environment: &[(&str, &str)]) -> Outcome<(Cluster, Proxy)> {
    let cluster = Cluster::start(ClusterSpec { shards: 2, replicas, ..ClusterSpec::default() }).await?;
    for node in cluster.primaries() {
        let mut client = Client::connect(node.port(), "demo", "shop").await?;
        client.query("CREATE TABLE users (id bigint PRIMARY KEY, name text, pad text)").await?;
    }
    let port = free_port()?;
    let proxy = Proxy::start(&cluster, port, &map_of(&cluster, port, |_| true, GROUPS), environment).await?;
    let mut client = proxy.client().await?;
    client.prepare("new", "INSERT INTO users VALUES ($1, $2, repeat('x', 100))").await?;
    for id in 1..=USERS {
        client.add("new", &[&id.to_string(), &format!("name{}", id % 7)])?;
        finish(&mut client).await?;
    }
    Ok((cluster, proxy))
}

/// Runs what was added as a transaction of its own.
async fn finish(client: &mut Client) -> Outcome {
    client.end_transaction();
    client.send().await?;
    client.until_ready().await?;
    Ok(())
}

/// The SQLSTATE of what a statement is refused or broken off with.
fn failure(answer: &bytes::Answer) -> &str {
    answer.error.as_ref().map_or("none", |it| &it.sqlstate)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_leaves_nothing() -> Outcome {
    let (_cluster, proxy) = start(&[]).await?;
    let mut client = bytes::Client::connect(proxy.port(), "demo", "shop")?;
    assert_eq!(client.simple("SET shardway.strategy = 'gather'").error, None);
    let all = USERS.to_string().into_bytes();
    for how in [bytes::How::Simple, bytes::How::Named] {
        let whole = client.run(how, "SELECT count(*) FROM users", &[], false);
        assert_eq!(whole.rows, [[Some(all.clone())]]);
    }
    let mut loader = proxy.client().await?;
    // Rows by themselves are few enough; with what they hold they are too many bytes.
    let wide = "UPDATE users SET pad = repeat('x', 6000) WHERE id = $1";
    loader.prepare("wide", wide).await?;
    for id in 1..=USERS {
        loader.add("wide", &[&id.to_string()])?;
        finish(&mut loader).await?;
    }
    // Beyond what one array takes, tables are filled, and they have the map's limit.
    for how in [bytes::How::Simple, bytes::How::Unnamed, bytes::How::Named] {
        let narrow = client.run(how, "SELECT count(*), max(name) FROM users", &[], false);
        assert_eq!(narrow.error, None, "columns that nothing mentions stay where they are");
        let limited =
            client.run(how, "SELECT id, max(length(pad)) FROM users GROUP BY id, name HAVING id > 0", &[], false);
        assert!(["none", "53400"].contains(&failure(&limited)), "{:?}", limited.error);
    }
    // By tables, whatever the number of rows: more bytes than the map allows.
    let keyed = "SELECT name, pad, count(*) FROM users GROUP BY id";
    for how in [bytes::How::Simple, bytes::How::Unnamed, bytes::How::Named] {
        let refused = client.run(how, keyed, &[], false);
        assert_eq!(failure(&refused), "53400", "{how:?}");
        assert!(refused.error.is_some_and(|it| it.message.contains("\"users\"") && it.hint.contains("Narrow")));
        let after = client.run(how, "SELECT count(*) FROM users", &[], false);
        assert_eq!(after.rows, [[Some(all.clone())]], "the session goes on");
    }
    for text in ["BEGIN", keyed, "SELECT 1", "ROLLBACK", "SELECT 1"] {
        let answer = client.simple(text);
        let wanted = if text == keyed { "53400" } else { "none" };
        let wanted = if text == "SELECT 1" && answer.error.is_some() { "25P02" } else { wanted };
        assert_eq!(failure(&answer), wanted, "{text}");
    }
    // Nothing is left on the servers.
    let left = "SELECT count(*) FROM pg_class WHERE relpersistence = 't'";
    assert_eq!(client.simple(left).rows, [[Some(b"0".to_vec())]]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_the_middle_is_an_error() -> Outcome {
    // The second proxy fills tables for a handful of rows.
    for environment in [&[][..], &[("SHARDWAY_ARRAY_ROWS", "3")]] {
        let (cluster, proxy) = start(environment).await?;
        let victim = cluster.node("s2-a")?;
        for (strategy, statement, how) in [
            ("auto", "SELECT u.id, repeat('x', 1000) FROM users u", bytes::How::Simple),
            ("auto", "COPY (SELECT u.id, repeat('x', 1000) FROM users u) TO STDOUT (HEADER)", bytes::How::Simple),
            ("auto", "COPY users TO STDOUT BINARY", bytes::How::Unnamed),
            ("auto", "SELECT count(*) FROM users", bytes::How::Simple),
            ("auto", "SELECT id, pad FROM users ORDER BY id", bytes::How::Simple),
            ("auto", "SELECT id, pad FROM users ORDER BY id", bytes::How::Named),
            ("gather", "SELECT count(*) FROM users", bytes::How::Simple),
            ("gather", "SELECT count(*) FROM users", bytes::How::Unnamed),
            ("gather", "SELECT name, count(*) FROM users GROUP BY id", bytes::How::Named),
        ] {
            let mut client = bytes::Client::connect(proxy.port(), "demo", "shop")?;
            assert_eq!(client.simple(&format!("SET shardway.strategy = '{strategy}'")).error, None);
            assert_eq!(client.run(how, statement, &[], false).error, None, "{statement}");
            // It has been asked and does not answer; then it is gone.
            victim.freeze().await?;
            let asking = tokio::task::spawn_blocking(move || client.run(how, statement, &[], false));
            let mut watcher = Client::connect(cluster.node("s1-a")?.port(), "shardway", "shop").await?;
            proxy::until("the other shard's answer", async || {
                let busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo' AND state_change > query_start - interval '1 hour'";
                Ok(watcher.value(busy).await?.is_some_and(|it| it != "0"))
            })
            .await?;
            victim.kill9().await?;
            let answer = asking.await?;
            assert!(answer.error.is_some(), "{statement} was answered: {:?} {} rows", answer.tags, answer.rows.len());
            assert!(answer.tags.is_empty(), "{statement} was called complete");
            victim.start().await?;
            let mut again = proxy.client().await?;
            proxy::until("the shard", async || {
                let count = again.value("SELECT count(*) FROM users").await;
                Ok(count.is_ok_and(|it| it == Some(USERS.to_string())))
            })
            .await?;
        }
    }
    Ok(())
}

/// One shard is read from its replica, the other one from its primary: then all are asked on primaries, and nobody is
/// left out.
#[tokio::test(flavor = "multi_thread")]
async fn no_shard_is_left_out_where_one_has_no_replica() -> Outcome {
    let (cluster, proxy) = start_with(1, &[]).await?;
    let all = USERS.to_string().into_bytes();
    for victim in ["s1-b", "s2-b"] {
        let node = cluster.node(victim)?;
        node.kill9().await?;
        for strategy in ["auto", "gather"] {
            for how in [bytes::How::Simple, bytes::How::Unnamed, bytes::How::Named] {
                let mut client = bytes::Client::connect(proxy.port(), "demo", "shop")?;
                assert_eq!(client.simple(&format!("SET shardway.strategy = '{strategy}'")).error, None);
                for begin in ["", "BEGIN", "BEGIN READ ONLY"] {
                    assert_eq!(client.simple(begin).error, None);
                    for _ in 0..3 {
                        let sorted = client.run(how, "SELECT id FROM users ORDER BY id", &[], false);
                        // While the proxy finds out, a read may meet the dead server.
                        if sorted.error.as_ref().is_some_and(|it| it.sqlstate.starts_with("08")) {
                            break;
                        }
                        assert_eq!(sorted.error, None, "{victim} {strategy} {how:?} {begin}");
                        assert_eq!(sorted.rows.len(), usize::try_from(USERS)?, "{victim} {strategy} {how:?} {begin}");
                        assert_eq!(sorted.tags, [format!("SELECT {USERS}")]);
                        let counted = client.run(how, "SELECT count(*), max(name) FROM users", &[], false);
                        assert_eq!(counted.error, None, "{victim} {strategy} {how:?} {begin}");
                        assert_eq!(counted.rows[0][0].as_ref(), Some(&all));
                        let grouped = client.run(how, "SELECT name, count(*) FROM users GROUP BY name", &[], false);
                        assert_eq!(grouped.rows.len(), 7, "{:?}", grouped.error);
                        let joined =
                            client.run(how, "SELECT count(*) FROM users a JOIN users b ON a.id = b.id + 1", &[], false);
                        assert_eq!(joined.rows, [[Some((USERS - 1).to_string().into_bytes())]], "{:?}", joined.error);
                    }
                    assert_eq!(client.simple(if begin.is_empty() { "" } else { "ROLLBACK" }).error, None);
                }
            }
        }
        node.start().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_shard_explains_its_part() -> Outcome {
    let (_cluster, proxy) = start(&[]).await?;
    let mut client = bytes::Client::connect(proxy.port(), "demo", "shop")?;
    let lines = |answer: &bytes::Answer| -> Vec<String> {
        let text =
            |row: &Vec<Option<Vec<u8>>>| String::from_utf8_lossy(row[0].as_deref().unwrap_or_default()).into_owned();
        answer.rows.iter().map(text).collect()
    };
    for (query, part) in [
        ("SELECT * FROM users", ""),
        ("SELECT count(*) FROM users", ", its part: SELECT pg_catalog.count(*)"),
        (
            "SELECT id FROM users ORDER BY id LIMIT 3",
            ", its part: SELECT sw.*, sw_c0 AS sw_0 FROM (SELECT id FROM users",
        ),
        ("SELECT a.id FROM users a JOIN users b ON a.name = b.name", ", copy of users: SELECT"),
    ] {
        for (before, sign) in [("EXPLAIN", "rows="), ("EXPLAIN (ANALYZE, COSTS OFF)", "Execution Time")] {
            for (begin, end) in [("", ""), ("BEGIN", "ROLLBACK")] {
                assert_eq!(client.simple(begin).error, None);
                let answer = client.simple(&format!("{before} {query}"));
                assert_eq!(answer.error, None, "{before} {query}");
                let lines = lines(&answer);
                for shard in ["s1", "s2"] {
                    let title = format!("Shard {shard}{part}");
                    assert!(lines.iter().any(|it| it.starts_with(&title)), "{title} in {lines:#?}");
                }
                assert!(lines.iter().filter(|it| it.contains(sign)).count() >= 2, "{lines:#?}");
                assert!(lines.iter().any(|it| it.contains("users")), "{lines:#?}");
                assert_eq!(answer.tags, ["EXPLAIN"]);
                assert_eq!(client.simple(end).error, None);
            }
        }
    }
    // What programs read is one plan, or none.
    let refused = client.simple("EXPLAIN (FORMAT JSON) SELECT count(*) FROM users");
    assert_eq!(failure(&refused), "0A000");
    assert_eq!(client.simple("SELECT count(*) FROM users").rows, [[Some(USERS.to_string().into_bytes())]]);
    Ok(())
}

/// Connections that were opened before a role's defaults changed, and some that were opened after.
#[tokio::test(flavor = "multi_thread")]
async fn every_shard_answers_in_one_manner() -> Outcome {
    let (_cluster, proxy) = start(&[]).await?;
    let connect = || bytes::Client::connect(proxy.port(), "demo", "shop");
    let mut first = connect()?;
    let day = "SELECT (date '2024-01-02' + (id * 0)::integer)::text, count(*) FROM users GROUP BY 1";
    let all = format!("SELECT DISTINCT d::text FROM ({}) s", day.replace("::text", " AS d"));
    let days = |client: &mut bytes::Client| -> Vec<String> {
        let mut days = Vec::new();
        for statement in [day, &all, "SELECT (date '2024-01-02' + (id * 0)::integer)::text FROM users WHERE id < 40"] {
            let answer = client.simple(statement);
            assert_eq!(answer.error, None, "{statement}");
            let cell = |row: &Vec<Option<Vec<u8>>>| {
                String::from_utf8_lossy(row[0].as_deref().unwrap_or_default()).into_owned()
            };
            days.extend(answer.rows.iter().map(cell));
        }
        days.sort();
        days.dedup();
        days
    };
    assert_eq!(days(&mut first), ["2024-01-02"]);
    assert_eq!(first.simple("ALTER ROLE demo SET datestyle = 'SQL, DMY'").error, None);
    let mut seen = Vec::new();
    for id in 1..20 {
        // Whoever comes next gets another connection to that shard.
        let mut holder = connect()?;
        holder.simple("BEGIN");
        assert_eq!(holder.simple(&format!("SELECT name FROM users WHERE id = {id}")).error, None);
        let mut second = connect()?;
        let shown = days(&mut second);
        assert_eq!(shown.len(), 1, "{shown:?}");
        assert_eq!(second.simple("SHOW datestyle").rows.len(), 1);
        seen.extend(shown);
        assert_eq!(days(&mut first), ["2024-01-02"]);
    }
    assert_eq!(seen.last().map(String::as_str), Some("02/01/2024"));
    // What servers do not report by themselves.
    assert_eq!(first.simple("ALTER ROLE demo SET bytea_output = 'escape'").error, None);
    let bytes = "SELECT (id * 0)::text::bytea::text, count(*) FROM users GROUP BY 1";
    let mut shown = String::new();
    for id in 1..20 {
        let mut holder = connect()?;
        holder.simple("BEGIN");
        assert_eq!(holder.simple(&format!("SELECT name FROM users WHERE id = {id}")).error, None);
        let answer = connect()?.simple(bytes);
        assert_eq!(answer.rows.len(), 1, "{:?}", answer.rows);
        shown = String::from_utf8_lossy(answer.rows[0][0].as_deref().unwrap_or_default()).into_owned();
    }
    assert_eq!(shown, "0");
    assert_eq!(first.simple("ALTER ROLE demo RESET bytea_output").error, None);
    assert_eq!(first.simple("ALTER ROLE demo RESET datestyle").error, None);
    Ok(())
}

/// A client that has said one Query, and nothing of its answer has been read.
fn asking(proxy: &Proxy, statement: &str) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port()))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let login = b"user\0demo\0database\0shop\0\0";
    stream.write_all(&u32::try_from(login.len() + 8)?.to_be_bytes())?;
    stream.write_all(&196_608_u32.to_be_bytes())?;
    stream.write_all(login)?;
    stream.write_all(b"Q")?;
    stream.write_all(&u32::try_from(statement.len() + 5)?.to_be_bytes())?;
    stream.write_all(statement.as_bytes())?;
    stream.write_all(&[0])?;
    Ok(stream)
}

/// The time below which 99 of 100 statements of another client are answered, a hundred a second, with what runs between
/// them.
async fn slowest_but_one(other: &mut Client, mut between: impl FnMut() -> Outcome) -> Outcome<Duration> {
    let mut times = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..300 {
        pace.tick().await;
        between()?;
        let begun = Instant::now();
        assert_eq!(other.value("SELECT name FROM users WHERE id = 7").await?.as_deref(), Some("name0"));
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(296).copied().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_costs_no_memory() -> Outcome {
    let (_cluster, proxy) = start(&[]).await?;
    let mut other = proxy.client().await?;
    let alone = slowest_but_one(&mut other, || Ok(())).await?;
    // Ten million rows, all of them of the shards' own making; then the same in order.
    let statement = "SELECT u.id, u.pad FROM users u, generate_series(1, 5000)";
    let copy = format!("COPY ({statement}) TO STDOUT (FORMAT csv, HEADER)");
    for statement in [statement.to_owned(), format!("{statement} ORDER BY u.id"), copy] {
        let before = proxy.resident()?;
        let mut most = before;
        let mut slow = asking(&proxy, &statement)?;
        // A hundred times a second: 100 KiB.
        let mut buffer = vec![0; 1 << 10];
        slow.read_exact(&mut buffer)?;
        let beside = slowest_but_one(&mut other, || {
            slow.read_exact(&mut buffer)?;
            most = most.max(proxy.resident()?);
            Ok(())
        })
        .await?;
        assert_eq!(other.value("SELECT count(*) FROM users").await?, Some(USERS.to_string()));
        println!(
            "figure: {} MiB before, {} MiB at most while 10 million rows wait; others' p99 {alone:?} alone, {beside:?} beside",
            before >> 20,
            most >> 20
        );
        assert!(most < 100 << 20, "{most} bytes");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_million_rows_in_order_cost_no_memory() -> Outcome {
    let (_cluster, proxy) = start(&[]).await?;
    let before = proxy.resident()?;
    let mut most = before;
    let mut reader = BufReader::with_capacity(
        256 << 10,
        asking(&proxy, "SELECT u.id FROM users u, generate_series(1, 5000) ORDER BY u.id")?,
    );
    let (mut rows, mut last) = (0_u64, 0_i64);
    let mut header = [0; 4];
    // What login is answered with is not framed otherwise.
    let mut body = Vec::new();
    loop {
        let mut kind = [0];
        reader.read_exact(&mut kind)?;
        reader.read_exact(&mut header)?;
        body.resize(usize::try_from(u32::from_be_bytes(header))? - 4, 0);
        reader.read_exact(&mut body)?;
        match kind {
            [b'D'] => {
                // One cell: two bytes of their number, four of its length.
                let id: i64 = std::str::from_utf8(body.get(6..).unwrap_or_default())?.parse()?;
                assert!(id >= last, "{id} behind {last}");
                last = id;
                rows += 1;
                if rows.is_multiple_of(100_000) {
                    most = most.max(proxy.resident()?);
                }
            }
            [b'C'] => break,
            [b'E'] => panic!("{}", String::from_utf8_lossy(&body)),
            _ => {}
        }
    }
    assert_eq!((rows, last), (10_000_000, USERS));
    assert_eq!(body, b"SELECT 10000000\0");
    println!("figure: {} MiB before, {} MiB at most while 10 million rows were put in order", before >> 20, most >> 20);
    assert!(most < 100 << 20, "{most} bytes");
    Ok(())
}
