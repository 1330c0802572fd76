//! Transactions that wait for each other on different shards: one of them is ended, as on one server.

use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use crate::bytes::Answer;
use crate::bytes::Client;
use crate::bytes::How;
use crate::house::House;
use crate::proxy::Outcome;
use crate::proxy::until;

/// A deadlock is broken within this; a client that waits longer counts as stuck.
const BROKEN_WITHIN: Duration = Duration::from_secs(10);

/// A statement that may wait, and its session.
type Running = JoinHandle<(Client, Answer)>;

fn start(mut client: Client, sql: String, how: How) -> Running {
    thread::spawn(move || {
        let answer = client.run(how, &sql, &[], false);
        (client, answer)
    })
}

fn done(running: Running) -> (Client, Answer) {
    running.join().expect("the session goes on")
}

fn ok(client: &mut Client, sql: &str) {
    assert_eq!(client.simple(sql).error.map(|it| it.to_string()), None, "{sql}");
}

/// One key of each shard, whose row is there.
async fn keys(house: &House, width: usize) -> Outcome<Vec<i64>> {
    let mut client = house.pair(width)?.ours;
    ok(&mut client, "DELETE FROM t; INSERT INTO t (id, a) SELECT 1, 0");
    for id in 2..=30 {
        ok(&mut client, &format!("INSERT INTO t (id, a) VALUES ({id}, 0)"));
    }
    let mut keys = Vec::new();
    for shard in 0..width {
        let rows = house.shard(shard, width)?.simple("SELECT min(id) FROM t").rows;
        keys.push(String::from_utf8(rows[0][0].clone().ok_or("a row on each shard")?)?.parse()?);
    }
    Ok(keys)
}

/// Whether a process of the shard waits for a lock.
async fn waits(house: &House, shard: usize, width: usize) -> Outcome {
    let mut client = house.shard(shard, width)?;
    until("a session to wait", async || {
        let rows = client.simple("SELECT FROM pg_locks WHERE NOT granted").rows;
        Ok(!rows.is_empty())
    })
    .await
}

/// Has each session write a row of its own shard, then the next one's: all wait for each other. One of them is told of it,
/// the others go on when it has ended.
async fn ring(house: &House, mut clients: Vec<Client>, keys: &[i64], texts: &[&str], how: How) -> Outcome {
    let width = keys.len();
    let text = |at: usize, place: usize| texts[at % texts.len()].replace("$key", &keys[place % width].to_string());
    for (at, client) in clients.iter_mut().enumerate() {
        ok(client, "BEGIN");
        let answer = client.run(how, &text(at, at), &[], false);
        assert_eq!(answer.error.map(|it| it.to_string()), None);
    }
    let began = Instant::now();
    let mut running = Vec::new();
    for (at, client) in clients.into_iter().enumerate() {
        running.push(start(client, text(at, at + 1), how));
        if at + 1 < width {
            waits(house, at + 1, width).await?;
        }
    }
    let mut ended = 0;
    while !running.is_empty() {
        until("one that goes on", async || Ok(running.iter().any(Running::is_finished))).await?;
        let place = running.iter().position(Running::is_finished).ok_or("it is there")?;
        let (mut client, answer) = done(running.swap_remove(place));
        match answer.error {
            None => {
                assert_eq!(answer.status, b'T');
                ok(&mut client, "COMMIT");
            }
            Some(error) => {
                assert_eq!((&*error.sqlstate, &*error.message), ("40P01", "deadlock detected"), "{texts:?}");
                assert_eq!(answer.status, b'E');
                ended += 1;
                assert_eq!(client.simple("SELECT 1").error.map(|it| it.sqlstate), Some("25P02".to_owned()));
                ok(&mut client, "ROLLBACK");
                // The session is as good as before, on every shard.
                assert_eq!(client.simple("SELECT count(*) FROM t").error, None);
            }
        }
    }
    assert_eq!(ended, 1, "{texts:?}");
    assert!(began.elapsed() < BROKEN_WITHIN, "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_wait_for_each_other_on_different_shards() -> Outcome {
    let house = House::build().await?;
    for width in [2, 3, 5] {
        let keys = keys(&house, width).await?;
        for (texts, how) in [
            (&["UPDATE t SET a = a + 1 WHERE id = $key"][..], How::Simple),
            (&["UPDATE t SET a = a + 1 WHERE id = $key RETURNING a"], How::Unnamed),
            (&["SELECT a FROM t WHERE id = $key FOR UPDATE"], How::Named),
            (&["INSERT INTO t (id, a) VALUES ($key, 9) ON CONFLICT (id) DO UPDATE SET a = 2"], How::Simple),
            (&["SELECT a FROM t WHERE id = $key FOR SHARE", "UPDATE t SET a = 3 WHERE id = $key"], How::Simple),
            (&["INSERT INTO items (id, no) VALUES ($key, 1)"], How::Simple),
        ] {
            let clients: Vec<Client> = (0..width).map(|_| Ok(house.pair(width)?.ours)).collect::<Outcome<_>>()?;
            // Those who may share, and who finds a row that somebody has committed, do not close the circle.
            if (texts.len() > 1 && width % 2 == 1) || (texts[0].starts_with("INSERT INTO items") && width > 2) {
                continue;
            }
            ring(&house, clients, &keys, texts, how).await?;
            ok(&mut house.pair(width)?.ours, "DELETE FROM items");
        }
    }
    // Through two proxies.
    let other = house.another_proxy().await?;
    for width in [2, 3] {
        let keys = keys(&house, width).await?;
        let clients = (0..width).map(|at| match at % 2 {
            0 => Ok(house.pair(width)?.ours),
            _ => Ok(Client::connect(other.port(), "demo", &format!("d{width}"))?),
        });
        let clients: Vec<Client> = clients.collect::<Outcome<_>>()?;
        ring(&house, clients, &keys, &["UPDATE t SET a = a + 1 WHERE id = $key"], How::Simple).await?;
    }
    house.nothing_is_prepared().await
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_many_rows_and_others_beside_the_proxy() -> Outcome {
    let house = House::build().await?;
    let keys = keys(&house, 3).await?;
    // One statement holds the first shard's rows and waits for the last one's.
    let [mut a, mut b] = [house.pair(3)?.ours, house.pair(3)?.ours];
    ok(&mut a, "BEGIN");
    ok(&mut a, &format!("UPDATE t SET a = 1 WHERE id = {}", keys[2]));
    let b_runs = start(b, "UPDATE t SET a = a + 1".into(), How::Simple);
    waits(&house, 2, 3).await?;
    let a_runs = start(a, format!("UPDATE t SET a = 1 WHERE id = {}", keys[0]), How::Simple);
    let (mut ended, mut ok_count) = (0, 0);
    for running in [a_runs, b_runs] {
        let (mut client, answer) = done(running);
        match answer.error {
            Some(error) => {
                assert_eq!(error.sqlstate, "40P01", "{error}");
                ended += 1;
            }
            None => ok_count += 1,
        }
        ok(&mut client, "ROLLBACK");
    }
    assert_eq!((ended, ok_count), (1, 1));
    // COPY waits for a row of the other session's, too.
    for turn in 0..2 {
        [a, b] = [house.pair(3)?.ours, house.pair(3)?.ours];
        ok(&mut a, "BEGIN");
        ok(&mut b, "BEGIN");
        ok(&mut a, &format!("INSERT INTO items (id, no) VALUES ({}, {turn})", keys[0]));
        ok(&mut b, &format!("INSERT INTO items (id, no) VALUES ({}, {turn})", keys[1]));
        let line = format!("{}\t{turn}\n", keys[1]);
        let copying = thread::spawn(move || {
            let answer = a.copy("COPY items (id, no) FROM STDIN", line.as_bytes());
            (a, answer)
        });
        waits(&house, 1, 3).await?;
        let b_runs = start(b, format!("INSERT INTO items (id, no) VALUES ({}, {turn})", keys[0]), How::Simple);
        let mut ended = 0;
        for running in [copying, b_runs] {
            let (mut client, answer) = done(running);
            if let Some(error) = answer.error {
                // What is left when the other has gone on is a key that is there already, or nothing.
                assert_eq!(error.sqlstate, "40P01", "{error}");
                ended += 1;
            }
            ok(&mut client, "ROLLBACK");
        }
        assert_eq!(ended, 1);
    }
    // Somebody at the server itself stands between them.
    [a, b] = [house.pair(3)?.ours, house.pair(3)?.ours];
    let mut direct = house.shard(0, 3)?;
    ok(&mut a, "BEGIN");
    ok(&mut b, "BEGIN");
    ok(&mut direct, "BEGIN");
    ok(&mut direct, "LOCK TABLE loose");
    ok(&mut a, &format!("UPDATE t SET a = 5 WHERE id = {}", keys[1]));
    ok(&mut b, &format!("UPDATE t SET a = 6 WHERE id = {}", keys[0]));
    let direct_runs = start(direct, format!("UPDATE t SET a = 7 WHERE id = {}", keys[0]), How::Simple);
    waits(&house, 0, 3).await?;
    let b_runs = start(b, format!("UPDATE t SET a = 8 WHERE id = {}", keys[1]), How::Simple);
    waits(&house, 1, 3).await?;
    let a_runs = start(a, format!("INSERT INTO loose (id) VALUES ({})", keys[0]), How::Simple);
    let mut ended = 0;
    for running in [a_runs, b_runs, direct_runs] {
        let (mut client, answer) = done(running);
        ended += usize::from(answer.error.is_some_and(|it| it.sqlstate == "40P01"));
        ok(&mut client, "ROLLBACK");
    }
    assert_eq!(ended, 1);
    // The same connection may be in a deadlock again, after it was struck before.
    let [mut a, mut b] = [house.pair(3)?.ours, house.pair(3)?.ours];
    ok(&mut b, &format!("BEGIN; UPDATE t SET a = 1 WHERE id = {}", keys[1]));
    ok(&mut a, &format!("BEGIN; UPDATE t SET a = 1 WHERE id = {}; SAVEPOINT s", keys[0]));
    for turn in 0..2 {
        let (b_sql, a_sql) = (keys[0], keys[1]);
        let b_runs = start(b, format!("UPDATE t SET a = 2 WHERE id = {b_sql}"), How::Simple);
        waits(&house, 0, 3).await?;
        let a_runs = start(a, format!("UPDATE t SET a = 2 WHERE id = {a_sql}"), How::Simple);
        let answer;
        (a, answer) = done(a_runs);
        assert_eq!(answer.error.map(|it| it.sqlstate).as_deref(), Some("40P01"), "{turn}");
        if turn == 0 {
            // What it holds from before the savepoint stays, so that the other one goes on waiting.
            ok(&mut a, "ROLLBACK TO s");
            let a_runs = start(a, format!("UPDATE t SET a = 2 WHERE id = {a_sql}"), How::Simple);
            let answer;
            (a, answer) = done(a_runs);
            assert_eq!(answer.error.map(|it| it.sqlstate).as_deref(), Some("40P01"), "again");
            ok(&mut a, "ROLLBACK");
            let answer;
            (b, answer) = done(b_runs);
            assert_eq!(answer.error, None);
            ok(&mut b, "ROLLBACK");
        } else {
            ok(&mut a, "ROLLBACK");
            (b, _) = done(b_runs);
            ok(&mut b, "ROLLBACK");
            break;
        }
        ok(&mut b, &format!("BEGIN; UPDATE t SET a = 1 WHERE id = {}", keys[1]));
        ok(&mut a, &format!("BEGIN; UPDATE t SET a = 1 WHERE id = {}; SAVEPOINT s", keys[0]));
    }
    // A wait that is no deadlock goes on for as long as it takes, and a cancel request is one.
    let [mut a, mut b] = [house.pair(3)?.ours, house.pair(3)?.ours];
    for client in [&mut a, &mut b] {
        ok(client, "BEGIN");
    }
    ok(&mut a, &format!("UPDATE t SET a = 5 WHERE id IN ({}, {})", keys[0], keys[1]));
    ok(&mut b, "SET LOCAL statement_timeout = '4s'");
    ok(&mut b, &format!("UPDATE t SET a = 6 WHERE id = {}", keys[2]));
    let late = b.simple(&format!("UPDATE t SET a = 6 WHERE id = {}", keys[0])).error.map(|it| it.sqlstate);
    assert_eq!(late.as_deref(), Some("57014"));
    ok(&mut b, "ROLLBACK");
    ok(&mut a, "COMMIT");
    house.nothing_is_prepared().await
}
