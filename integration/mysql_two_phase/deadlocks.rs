//! Transactions that wait for each other on different servers: one of them is ended, as on one server.

use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;

use crate::House;
use crate::WITHIN;
use crate::client::Answer;
use crate::client::Client;
use crate::insert;
use crate::proxy::Outcome;
use crate::proxy::Proxy;
use crate::proxy::free_port;
use crate::proxy::until;
use crate::state;

/// A deadlock is broken within this; servers would take 50 seconds.
const BROKEN_WITHIN: Duration = Duration::from_secs(10);

/// A statement that may wait, and its session.
type Running = JoinHandle<(Client, Answer)>;

fn start(mut client: Client, sql: String, prepared: bool) -> Running {
    thread::spawn(move || {
        let answer = match prepared {
            false => client.one(&sql),
            true => client.run(&sql, &[]).pop().unwrap_or_default(),
        };
        (client, answer)
    })
}

fn done(running: Running) -> (Client, Answer) {
    running.join().expect("the session goes on")
}

/// Whether somebody waits for a lock of the shard's.
async fn waits(house: &House, shard: usize) -> Outcome {
    let node = &house.cluster.nodes()[shard];
    until("a session to wait", async || {
        // Not by INNODB_TRX: who asks for it all the time is told the same all the time.
        let waiting = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS
            WHERE VARIABLE_NAME = 'INNODB_ROW_LOCK_CURRENT_WAITS'";
        Ok(node.value("shop", waiting).await?.as_deref() != Some("0"))
    })
    .await
}

/// Has each session write a row of its own shard, then the next one's: all wait for each other. One of them is told of it
/// and has nothing left of what it did, the others go on.
async fn ring(
    house: &House,
    clients: Vec<Client>,
    keys: &[i64],
    (begin, text, prepared): (&str, &str, bool),
) -> Outcome {
    let width = clients.len();
    let text = |place: usize| text.replace("$key", &keys[place % width].to_string());
    let mut running = Vec::new();
    let mut clients = clients;
    for (at, client) in clients.iter_mut().enumerate() {
        client.done(begin)?;
        client.done(&text(at))?;
    }
    let began = Instant::now();
    for (at, client) in clients.into_iter().enumerate() {
        running.push(start(client, text(at + 1), prepared));
        if at + 1 < width {
            waits(house, at + 1).await?;
        }
    }
    let mut ended = 0;
    while !running.is_empty() {
        until("one that goes on", async || Ok(running.iter().any(Running::is_finished))).await?;
        let place = running.iter().position(Running::is_finished).ok_or("it is there")?;
        let (mut client, answer) = done(running.swap_remove(place));
        if let Some(error) = answer.error {
            let told = (error.errno, &*error.sqlstate, &*error.message);
            let wanted = "Deadlock found when trying to get lock; try restarting transaction";
            assert_eq!(told, (1213, "40001", wanted), "{text:?}", text = text(0));
            ended += 1;
            // Nothing is open any more, and the session is as good as before.
            let warnings = client.done("SHOW WARNINGS")?.rows;
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert_eq!(
                client.one("SELECT id FROM t WHERE id = 0").status & WITHIN,
                match begin {
                    "BEGIN" => 0,
                    _ => WITHIN,
                }
            );
        } else {
            assert_eq!(answer.status & WITHIN, WITHIN);
        }
        client.done("COMMIT")?;
        client.done("SET autocommit = 1")?;
    }
    assert_eq!(ended, 1, "{}", text(0));
    assert!(began.elapsed() < BROKEN_WITHIN, "{:?}", began.elapsed());
    house.settled().await
}

/// Sets `n` of these rows to 0.
fn reset(client: &mut Client, keys: &[i64]) -> Outcome {
    for key in keys {
        client.done(&format!("REPLACE INTO t (id, n) VALUES ({key}, 0)"))?;
    }
    Ok(())
}

fn total(client: &mut Client, keys: &[i64]) -> Outcome<i64> {
    let mut total = 0;
    for key in keys {
        let value = client.done(&format!("SELECT n FROM t WHERE id = {key}"))?.value();
        total += value.ok_or("a number")?.parse::<i64>()?;
    }
    Ok(total)
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_wait_for_each_other_on_different_shards() -> Outcome {
    let mut house = House::build().await?;
    let keys = house.next();
    let mut watcher = house.client()?;
    let update = "UPDATE t SET n = n + 1 WHERE id = $key";
    for (width, begin, text, prepared) in [
        (2, "BEGIN", update, false),
        (2, "SET autocommit = 0", update, true),
        (3, "BEGIN", update, true),
        (2, "BEGIN", "SELECT n FROM t WHERE id = $key FOR UPDATE", false),
        (3, "BEGIN", "DELETE FROM t WHERE id = $key", false),
    ] {
        reset(&mut watcher, &keys)?;
        let clients = (0..width).map(|_| house.client()).collect::<Outcome<Vec<Client>>>()?;
        ring(&house, clients, &keys[..width], (begin, text, prepared)).await?;
        if text == update {
            // All but one have added to two rows each, and of that one nothing is left.
            assert_eq!(total(&mut watcher, &keys)?, 2 * (i64::try_from(width)? - 1));
        }
    }
    // Through two proxies.
    let port = free_port()?;
    let map = house.map.replace(&format!("127.0.0.1:{}}}", house.port), &format!("127.0.0.1:{port}}}"));
    let answers = async || {
        let client = Client::connect(port, USER, PASSWORD, "shop");
        client.is_ok_and(|mut it| it.done("SELECT id FROM t WHERE id = 1").is_ok())
    };
    let dir = house.cluster.dir().join("other");
    std::fs::create_dir_all(&dir)?;
    let other = Proxy::start_when(&dir, port, &map, &[], answers).await?;
    for width in [2, 3] {
        reset(&mut watcher, &keys)?;
        let clients = (0..width).map(|at| match at % 2 {
            0 => house.client(),
            _ => Ok(Client::connect(port, USER, PASSWORD, "shop")?),
        });
        ring(&house, clients.collect::<Outcome<Vec<Client>>>()?, &keys[..width], ("BEGIN", update, false)).await?;
        assert_eq!(total(&mut watcher, &keys)?, 2 * (i64::try_from(width)? - 1));
    }
    drop(other);
    // What proxies told each other is nowhere.
    for node in house.cluster.nodes() {
        let told = "SELECT count(*) FROM shardway.txlog WHERE decision = 'told'";
        assert_eq!(node.value("shop", told).await?.as_deref(), Some("0"));
    }

    // One statement that writes everywhere holds the first shard's rows, and waits for the last one's.
    reset(&mut watcher, &keys)?;
    let (mut one, all) = (house.client()?, house.client()?);
    one.done("BEGIN")?;
    one.done(&format!("UPDATE t SET n = 7 WHERE id = {}", keys[2]))?;
    let ids = keys.map(|it| it.to_string()).join(", ");
    let all_runs = start(all, format!("UPDATE t SET n = n + 1 WHERE id IN ({ids})"), false);
    waits(&house, 2).await?;
    let one_runs = start(one, format!("UPDATE t SET n = 7 WHERE id = {}", keys[0]), false);
    let mut told = Vec::new();
    for running in [one_runs, all_runs] {
        let (mut client, answer) = done(running);
        told.push(state(&answer));
        client.done("COMMIT")?;
    }
    told.sort();
    assert_eq!(told, ["1213", "done"]);

    // An INSERT of several rows waits for a key that somebody is about to have.
    let fresh = house.next();
    let (mut one, all) = (house.client()?, house.client()?);
    one.done("BEGIN")?;
    one.done(&insert(fresh[2], "one"))?;
    let rows = fresh.map(|it| format!("({it})")).join(", ");
    let all_runs = start(all, format!("INSERT INTO t (id) VALUES {rows}"), false);
    waits(&house, 2).await?;
    let one_runs = start(one, insert(fresh[0], "one"), false);
    let (mut one, first) = done(one_runs);
    one.done("ROLLBACK")?;
    let (_, second) = done(all_runs);
    let mut told = [state(&first), state(&second)];
    told.sort();
    assert_eq!(told, ["1213", "done"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_no_circle_is_left_alone_and_a_crowd_gets_on() -> Outcome {
    let mut house = House::build().await?;
    let keys = house.next();
    let mut watcher = house.client()?;
    reset(&mut watcher, &keys)?;
    // One after the other, and all for the first, who takes longer than it takes to find a circle.
    let mut first = house.client()?;
    first.done("BEGIN")?;
    for key in keys {
        first.done(&format!("UPDATE t SET n = n + 1 WHERE id = {key}"))?;
    }
    let crowd: Vec<JoinHandle<Outcome>> = (0..6)
        .map(|_| {
            let mut client = house.client()?;
            let own = house.next();
            Ok(thread::spawn(move || {
                client.done("BEGIN")?;
                for key in own.iter().take(2).chain(&keys) {
                    let text = format!("INSERT INTO t (id, n) VALUES ({key}, 1) ON DUPLICATE KEY UPDATE n = n + 1");
                    client.done(&text)?;
                }
                client.done("COMMIT")?;
                Ok(())
            }))
        })
        .collect::<Outcome<_>>()?;
    waits(&house, 0).await?;
    thread::sleep(HELD);
    first.done("COMMIT")?;
    for one in crowd {
        one.join().expect("it goes on")?;
    }
    assert_eq!(total(&mut watcher, &keys)?, 3 * 7);

    // Rows in any order: whoever is told of a deadlock begins anew, and all come to their end.
    let began = Instant::now();
    let crowd: Vec<JoinHandle<Outcome<u32>>> = (0..CROWD)
        .map(|number| {
            let mut client = house.client()?;
            Ok(thread::spawn(move || {
                let mut again = 0;
                for turn in 0..TURNS {
                    let order = [(number + turn) % 3, (number + turn + 1 + number % 2) % 3];
                    while let Err(failure) = transfer(&mut client, order.map(|it| keys[it])) {
                        if failure.errno != 1213 {
                            return Err(failure.into());
                        }
                        client.done("ROLLBACK")?;
                        again += 1;
                    }
                }
                Ok(again)
            }))
        })
        .collect::<Outcome<_>>()?;
    let mut again = 0;
    for one in crowd {
        again += one.join().expect("it goes on").inspect_err(|_| eprintln!("{}", house.log()))?;
    }
    let took = began.elapsed();
    assert_eq!(total(&mut watcher, &keys)?, 3 * 7 + i64::try_from(CROWD * TURNS * 2)?);
    assert!(took < CROWD_MAX, "{took:?}, {again} deadlocks");
    Ok(())
}

/// Adds to two rows, one after the other.
fn transfer(client: &mut Client, keys: [i64; 2]) -> Result<(), crate::client::Failure> {
    client.done("BEGIN")?;
    for key in keys {
        client.done(&format!("UPDATE t SET n = n + 1 WHERE id = {key}"))?;
    }
    client.done("COMMIT").map(|_| ())
}

/// How long the first one holds what all others wait for: this is no condition that could be waited for.
const HELD: Duration = Duration::from_secs(4);

const CROWD: usize = 12;
const TURNS: usize = 3;
/// One circle that nobody breaks would take 50 seconds.
const CROWD_MAX: Duration = Duration::from_secs(45);
