//! Transfers between accounts on several shards, each with a row for what was taken and one for what was given, while
//! servers and both proxies are killed and started again.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;

use crate::client::Client;
use crate::client::LOST;
use crate::house::House;
use crate::house::SHARDS;
use crate::house::Which;
use crate::house::number;
use crate::proxy::Outcome;
use crate::proxy::until;

const ACCOUNTS: i64 = 200;
const EACH: i64 = 100;
const WRITERS: i64 = 8;
/// Each kind at least once.
const BLOWS_MIN: usize = 5;
/// How long one blow is waited for by those that work.
const BETWEEN: Duration = Duration::from_millis(400);
/// How often is looked whether a proxy lets in again.
const POLL: Duration = Duration::from_millis(10);

fn span() -> Duration {
    let seconds = std::env::var("SHARDWAY_BANK_SECONDS").ok().and_then(|it| it.parse().ok());
    Duration::from_secs(seconds.unwrap_or(6))
}

/// What a client heard of its transfers.
#[derive(Debug, Default)]
struct Heard {
    done: BTreeSet<i64>,
    failed: BTreeSet<i64>,
    unknown: BTreeSet<i64>,
}

fn mixed(seed: i64) -> i64 {
    let value = seed.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((value ^ (value >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33).cast_signed()
}

/// Moves money until all is over.
fn work(ports: [u16; 2], who: i64, over: &AtomicBool) -> Heard {
    let mut heard = Heard::default();
    let mut client: Option<Client> = None;
    for turn in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        // Whoever lets in.
        let Some(session) = client.as_mut() else {
            let port = ports[usize::try_from(mixed(who * 7 + turn) % 2).expect("one of two")];
            client = Client::connect(port, USER, PASSWORD, "shop").ok();
            if client.is_none() {
                thread::park_timeout(POLL);
            }
            continue;
        };
        let token = who * 10_000_000 + turn;
        let pick = |place: i64| mixed(token * 4 + place) % ACCOUNTS + 1;
        let (one, other) = (pick(0).min(pick(1)), pick(0).max(pick(1)));
        let amount = pick(2) - ACCOUNTS / 2;
        if one == other {
            continue;
        }
        let take = [
            format!("UPDATE accounts SET balance = balance - {amount} WHERE id = {one}"),
            format!("INSERT INTO moves VALUES ({one}, {token}, {})", -amount),
        ];
        let give = [
            format!("UPDATE accounts SET balance = balance + {amount} WHERE id = {other}"),
            format!("INSERT INTO moves VALUES ({other}, {token}, {amount})"),
        ];
        let by_one = [
            // Both rows, and both accounts, by one statement each.
            format!(
                "UPDATE accounts SET balance = balance + IF(id = {one}, {}, {amount}) WHERE id IN ({one}, {other})",
                -amount
            ),
            format!("INSERT INTO moves VALUES ({one}, {token}, {}), ({other}, {token}, {amount})", -amount),
        ];
        let within: Vec<String> = if turn % 3 == 0 { by_one.into() } else { [take, give].concat() };
        let begun = session.one("BEGIN").error.is_none();
        let said = begun && within.iter().all(|sql| session.one(sql).error.is_none());
        if !said {
            // It was never asked to be committed.
            heard.failed.insert(token);
            if session.is_lost() || session.one("ROLLBACK").error.is_some() {
                client = None;
            }
            continue;
        }
        let answer = session.one("COMMIT");
        match answer.error {
            None => heard.done.insert(token),
            Some(error) if error.errno == LOST || error.sqlstate == "08007" => heard.unknown.insert(token),
            Some(_) => heard.failed.insert(token),
        };
        if session.is_lost() {
            client = None;
        }
    }
    heard
}

/// Kills one after the other, and starts it again.
async fn strike(house: &mut House) -> Outcome<usize> {
    let begun = Instant::now();
    let mut blows = 0;
    while begun.elapsed() < span() || blows < BLOWS_MIN {
        tokio::time::sleep(BETWEEN).await;
        match blows % 5 {
            0 | 2 | 4 => {
                let node = &house.cluster.nodes()[blows % SHARDS];
                node.kill9().await?;
                until("the server's start", async || Ok(node.start().await.is_ok())).await?;
            }
            1 => house.serve(Which::First).await?,
            _ => house.serve(Which::Second).await?,
        }
        blows += 1;
    }
    Ok(blows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn money_is_only_moved_whoever_is_killed() -> Outcome {
    let mut house = House::build().await?;
    let rows: Vec<String> = (1..=ACCOUNTS).map(|id| format!("({id}, {EACH})")).collect();
    house.client(Which::First)?.done(&format!("INSERT INTO accounts VALUES {}", rows.join(", ")))?;
    let over = std::sync::Arc::new(AtomicBool::new(false));
    let ports = [Which::First, Which::Second].map(|it| house.port(it));
    let workers: Vec<_> = (1..=WRITERS)
        .map(|who| {
            let over = std::sync::Arc::clone(&over);
            thread::spawn(move || work(ports, who, &over))
        })
        .collect();
    let blows = strike(&mut house).await;
    over.store(true, Ordering::Relaxed);
    let mut heard = Heard::default();
    for worker in workers {
        let own = worker.join().map_err(|_| "a client panicked")?;
        heard.done.extend(own.done);
        heard.failed.extend(own.failed);
        heard.unknown.extend(own.unknown);
    }
    let blows = blows?;
    house.settled().await?;

    // Each transfer is there whole, or not at all, and as its client was told.
    let mut found: BTreeMap<i64, (usize, i64)> = BTreeMap::new();
    let mut by_account: BTreeMap<i64, i64> = BTreeMap::new();
    for row in house.rows("SELECT account, token, amount FROM moves")? {
        let (account, token, amount) = (number(&row, 0), number(&row, 1), number(&row, 2));
        let known = found.entry(token).or_default();
        *known = (known.0 + 1, known.1 + amount);
        *by_account.entry(account).or_default() += amount;
    }
    let log = house.log();
    for (token, (rows, sum)) in &found {
        assert_eq!((*rows, *sum), (2, 0), "transfer {token} is there in part\n{log}");
        assert!(!heard.failed.contains(token), "transfer {token} failed, and is there\n{log}");
    }
    for token in &heard.done {
        assert!(found.contains_key(token), "transfer {token} was committed, and is lost\n{log}");
    }
    let mut total = 0;
    for row in house.rows("SELECT id, balance FROM accounts")? {
        let (id, balance) = (number(&row, 0), number(&row, 1));
        assert_eq!(balance, EACH + by_account.get(&id).copied().unwrap_or_default(), "account {id}\n{log}");
        total += balance;
    }
    assert_eq!(total, ACCOUNTS * EACH);
    for which in [Which::First, Which::Second] {
        let sum = house.client(which)?.done("SELECT SUM(balance) FROM accounts")?.value();
        assert_eq!(sum, Some((ACCOUNTS * EACH).to_string()));
    }
    let Heard { done, failed, unknown } = &heard;
    let (done, failed) = (done.len(), failed.len());
    println!("figure: {blows} blows: {done} transfers done, {failed} failed, {} unknown", unknown.len());
    assert!(blows >= BLOWS_MIN && done > 50, "{blows} blows, {done} done");
    house.stop().await
}
