//! Reads of several shards at one moment, under writers and under blows: money that is only moved, and lists to which
//! transactions append.
//!
//! `SHARDWAY_BANK_SECONDS=60` goes on for longer.

#[path = "bank/alike.rs"]
mod alike;
#[path = "bank/appends.rs"]
mod appends;
#[path = "oracle/wire.rs"]
#[allow(dead_code, reason = "the oracle uses the rest of it")]
mod bytes;
#[path = "bank/checker.rs"]
mod checker;
#[path = "bank/house.rs"]
mod house;
mod proxy;
#[path = "sessions/relay.rs"]
#[allow(dead_code, reason = "others cut connections")]
mod relay;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use bytes::Answer;
use bytes::Client;
use bytes::How;
use house::House;
use house::mixed;
use house::number;
use proxy::Outcome;
use proxy::until;
use relay::Way;

const ACCOUNTS: i64 = 1000;
const EACH: i64 = 100;
const TOTAL: i64 = ACCOUNTS * EACH;
const WRITERS: u64 = 16;

const SUM: &str = "SELECT sum(balance) FROM accounts";

/// How long writers and readers are let loose on each other.
fn span() -> Duration {
    let seconds = std::env::var("SHARDWAY_BANK_SECONDS").ok().and_then(|it| it.parse().ok());
    Duration::from_secs(seconds.unwrap_or(6))
}

async fn bank(environment: &[(&str, &str)]) -> Outcome<House> {
    let house =
        House::build(&["CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL)"], environment).await?;
    let mut client = house.client()?;
    let rows: Vec<String> = (1..=ACCOUNTS).map(|id| format!("({id}, {EACH})")).collect();
    assert_eq!(client.simple(&format!("INSERT INTO accounts VALUES {}", rows.join(", "))).error, None);
    assert_eq!(number(&client.simple(SUM)), Some(TOTAL));
    Ok(house)
}

/// Moves money between two accounts at a time. How often.
fn write(mut client: Client, seed: u64, over: &AtomicBool) -> usize {
    let mut moved = 0;
    for turn in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let pick = |place: u64| i64::try_from(mixed(seed << 32 | turn << 2 | place) % 1000).expect("small") + 1;
        let (one, other) = (pick(0).min(pick(1)), pick(0).max(pick(1)));
        let amount = pick(2) - 500;
        if one == other {
            continue;
        }
        // Always in the same order: who waits for whom goes in no circle.
        client.simple("BEGIN");
        client.simple(&format!("UPDATE accounts SET balance = balance - {amount} WHERE id = {one}"));
        client.simple(&format!("UPDATE accounts SET balance = balance + {amount} WHERE id = {other}"));
        let done = client.simple("COMMIT");
        assert_eq!((done.tags, done.error), (vec!["COMMIT".to_owned()], None));
        moved += 1;
    }
    moved
}

/// How a reader asks for the sum.
#[derive(Clone, Copy, Debug)]
enum Asks {
    /// One statement, by itself.
    Alone(How),
    /// One that is gathered.
    Gathered,
    /// Several statements of a transaction, which writes beside.
    Transaction,
    /// With default snapshots.
    Loosely,
}

/// What a reader has got.
#[derive(Debug, Default)]
struct Got {
    /// Sums, and how often each.
    sums: BTreeMap<i64, usize>,
    /// How often it was refused with 40001.
    refused: usize,
}

impl Got {
    fn note(&mut self, answer: &Answer, asks: Asks) {
        match &answer.error {
            None => *self.sums.entry(number(answer).expect("a sum")).or_default() += 1,
            Some(error) => {
                assert_eq!(error.sqlstate, "40001", "{asks:?}: {error} {}", error.detail);
                self.refused += 1;
            }
        }
    }
}

fn read(mut client: Client, asks: Asks, over: &AtomicBool) -> Got {
    let mut got = Got::default();
    if !matches!(asks, Asks::Loosely) {
        client.simple("SET shardway.snapshot = 'strict'");
    }
    while !over.load(Ordering::Relaxed) {
        match asks {
            Asks::Alone(how) => got.note(&client.run(how, SUM, &[], false), asks),
            Asks::Loosely => got.note(&client.simple(SUM), asks),
            // Row by row: nothing is put together before it is all in one place.
            Asks::Gathered => got.note(
                &client.simple("SELECT sum(b) FROM (SELECT DISTINCT ON (id) balance AS b FROM accounts ORDER BY id) s"),
                asks,
            ),
            Asks::Transaction => {
                client.simple("BEGIN ISOLATION LEVEL REPEATABLE READ");
                let low = client.simple("SELECT sum(balance) FROM accounts WHERE id <= 500");
                if low.error.is_some() {
                    got.note(&low, asks);
                    client.simple("ROLLBACK");
                    continue;
                }
                // What it writes itself it sees, and nobody else's writes.
                let paid = client.simple("UPDATE accounts SET balance = balance + 7 WHERE id IN (501, 502, 503)");
                let high = client.simple("SELECT sum(balance) FROM accounts WHERE id > 500");
                client.simple("ROLLBACK");
                match &paid.error {
                    // Somebody else has written there since.
                    Some(error) => assert_eq!(error.sqlstate, "40001", "{error}"),
                    None => {
                        let sum = number(&low).expect("a sum") + number(&high).expect("a sum") - 21;
                        *got.sums.entry(sum).or_default() += 1;
                    }
                }
            }
        }
    }
    got
}

/// Lets writers and readers loose on each other.
async fn run(house: &House, readers: &[Asks]) -> Outcome {
    let over = &AtomicBool::new(false);
    let clients: Vec<Client> = (0..WRITERS).map(|_| house.client()).collect::<Result<_, _>>()?;
    let asking: Vec<(Asks, Client)> =
        readers.iter().map(|asks| Ok((*asks, house.client()?))).collect::<Outcome<_>>()?;
    let begun = Instant::now();
    let (moved, got) = thread::scope(|scope| {
        let writers: Vec<_> = (0..).zip(clients).map(|(seed, it)| scope.spawn(move || write(it, seed, over))).collect();
        let reading: Vec<_> =
            asking.into_iter().map(|(asks, it)| (asks, scope.spawn(move || read(it, asks, over)))).collect();
        let long_enough = || begun.elapsed() > span() || reading.iter().any(|(_, it)| it.is_finished());
        while !long_enough() {
            thread::park_timeout(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
        let moved: usize = writers.into_iter().map(|it| it.join().expect("a writer")).sum();
        let got: Vec<(Asks, Got)> =
            reading.into_iter().map(|(asks, it)| (asks, it.join().expect("a reader"))).collect();
        (moved, got)
    });
    let seconds = begun.elapsed().as_secs_f64();
    println!("figure: {WRITERS} writers: {:.0} transactions over shards a second", moved as f64 / seconds);
    let (mut found, mut refused) = (0, 0);
    for (asks, got) in &got {
        let right = got.sums.get(&TOTAL).copied().unwrap_or(0);
        let others: usize = got.sums.values().sum::<usize>() - right;
        println!("figure: {asks:?}: {right} right, {others} other sums, {} times 40001", got.refused);
        if !matches!(asks, Asks::Loosely) {
            assert_eq!(others, 0, "{asks:?}: {:?}", got.sums);
            assert!(right > 0, "{asks:?}: no sum at all");
            found += right;
            refused += got.refused;
        }
    }
    let mut console = house.console()?;
    let row = console.simple("SHOW SNAPSHOTS").rows.remove(0);
    let count = |at: usize| String::from_utf8_lossy(row[at].as_deref().unwrap_or_default()).into_owned();
    println!("figure: reads at one moment: {found} done, {refused} refused");
    println!(
        "figure: moments found {} in {} tries, with {} gates; given up {}",
        count(1),
        count(2),
        count(3),
        count(4)
    );
    assert!(found > refused, "most reads at one moment are to be had");
    assert_eq!(number(&house.client()?.simple(SUM)), Some(TOTAL));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_at_one_moment_never_differ() -> Outcome {
    let house = bank(&[]).await?;
    run(&house, &[Asks::Alone(How::Simple), Asks::Alone(How::Named), Asks::Transaction, Asks::Loosely]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_over_temporary_tables_never_differ() -> Outcome {
    let house = bank(&[("SHARDWAY_ARRAY_ROWS", "3")]).await?;
    run(&house, &[Asks::Gathered]).await
}

/// Holds a transfer between two of its messages: what default reads see then, and what reads at one moment do.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_is_held_half_way_is_seen_in_part_only_by_default() -> Outcome {
    let house = bank(&[]).await?;
    let keys = house.keys_of_shards("accounts").await?;
    let (home, part) = (keys[0][0], keys[2][0]);
    let balance = async |shard: usize, id: i64| -> Outcome<i64> {
        let sql = format!("SELECT balance FROM accounts WHERE id = {id}");
        Ok(house.cluster.nodes()[shard].value("shop", &sql).await?.ok_or("a balance")?.parse()?)
    };
    let (mut halves, mut wholes, mut undecided) = (0, 0, 0);
    for count in 0..12 {
        let before = balance(0, home).await?;
        let mut client = house.client()?;
        client.simple("BEGIN");
        client.simple(&format!("UPDATE accounts SET balance = balance - 10 WHERE id = {home}"));
        let paid = client.simple(&format!("UPDATE accounts SET balance = balance + 10 WHERE id = {part} /* MARK */"));
        assert_eq!(paid.error, None);
        house.relays[2].arm_to_hold(Way::ToServer, count);
        let committing = thread::spawn(move || client.simple("COMMIT"));
        until("the part to be held, or the end", async || Ok(committing.is_finished() || house.relays[2].has_struck()))
            .await?;
        if !house.relays[2].has_struck() {
            house.relays[2].disarm();
            assert_eq!(committing.join().expect("a client").error, None);
            break;
        }
        let prepared = "SELECT count(*) FROM pg_prepared_xacts";
        let waits = house.cluster.nodes()[2].value("shop", prepared).await?.as_deref() == Some("1");
        let decided = balance(0, home).await? != before;
        let mut reader = house.client()?;
        let loosely = number(&reader.simple(SUM));
        assert_eq!(loosely, Some(if waits && decided { TOTAL - 10 } else { TOTAL }), "message {count}");
        reader.simple("SET shardway.snapshot = 'strict'");
        let strictly = reader.simple(SUM);
        match (&strictly.error, waits && decided) {
            // Its home has it and the other shard has not: there is no whole answer.
            (Some(error), true) => {
                assert_eq!(error.sqlstate, "40001", "{error}");
                assert!(error.detail.contains("in doubt"), "{}", error.detail);
                halves += 1;
            }
            // Prepared or not, nothing of it is to be seen anywhere.
            (None, false) => {
                assert_eq!(number(&strictly), Some(TOTAL));
                wholes += 1;
                undecided += usize::from(waits);
            }
            other => panic!("message {count}: {other:?}, {waits} {decided}"),
        }
        house.relays[2].disarm();
        committing.join().expect("a client");
        // Somebody ends what was cut off; then the sum is whole, whichever way it went.
        until("the end of what was prepared", async || {
            Ok(house.cluster.nodes()[2].value("shop", prepared).await?.as_deref() == Some("0"))
        })
        .await?;
        assert_eq!(number(&reader.simple(SUM)), Some(TOTAL), "message {count}");
    }
    println!(
        "figure: {halves} times seen in part by default, and refused at one moment; {wholes} times whole, {undecided} prepared"
    );
    assert!(halves > 0 && wholes > 0 && undecided > 0, "{halves} {wholes} {undecided}");
    Ok(())
}
