//! Clients that append to lists on three shards and read them, while connections are cut, servers and the proxy killed;
//! `checker` judges what they saw.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::bytes::Answer;
use crate::bytes::Client;
use crate::bytes::How;
use crate::checker::Append;
use crate::checker::Heard;
use crate::checker::History;
use crate::checker::Key;
use crate::checker::Number;
use crate::checker::Promise;
use crate::checker::Read;
use crate::checker::check;
use crate::house::House;
use crate::house::SHARDS;
use crate::house::mixed;
use crate::proxy::Outcome;
use crate::proxy::until;
use crate::relay::Way;
use crate::span;

const LISTS: i64 = 24;
const CLIENTS: u64 = 8;
/// Reads of one reader that are kept: the checker looks at each against every transaction.
const READS_MAX: usize = 400;
/// How long a marked connection may be quiet before another one is looked for.
const MARKED_MAX: Duration = Duration::from_millis(500);
/// How often is looked whether something has happened.
const POLL: Duration = Duration::from_millis(10);
const ALL: &str = "SELECT id, array_to_string(items, ' ') FROM lists ORDER BY id";

/// Clients, what they have said and heard, and when.
struct Stage {
    port: u16,
    begun: Instant,
    over: AtomicBool,
    history: Mutex<History>,
}

impl Stage {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).expect("a test is short")
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// A session, as soon as there is one to be had; `None`: all is over.
    fn session(&self) -> Option<Client> {
        loop {
            if self.is_over() {
                return None;
            }
            match Client::connect(self.port, "demo", "shop") {
                Ok(client) => return Some(client),
                Err(_) => thread::park_timeout(POLL),
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut History)) {
        change(&mut self.history.lock().expect("no panic"));
    }
}

fn hung_up(answer: &Answer) -> bool {
    answer.error.as_ref().is_some_and(|it| it.sqlstate == "-----")
}

fn lists(answer: &Answer) -> BTreeMap<Key, Vec<Number>> {
    let text = |cell: &Option<Vec<u8>>| String::from_utf8(cell.clone().unwrap_or_default()).expect("digits");
    let numbers = |text: String| text.split_whitespace().map(|it| it.parse().expect("a number")).collect();
    answer.rows.iter().map(|row| (text(&row[0]).parse().expect("a key"), numbers(text(&row[1])))).collect()
}

/// Appends a number of its own to some lists at a time. Some look at all lists first, and then hold on to that moment.
fn append(stage: &Stage, who: u64) {
    let Some(mut client) = stage.session() else { return };
    let looks = who.is_multiple_of(4);
    for turn in 1.. {
        if stage.is_over() {
            return;
        }
        let pick = |place: u64| i64::try_from(mixed(who << 40 | turn << 4 | place) % 24).expect("small") + 1;
        // In order: who waits for whom goes in no circle.
        let keys: BTreeSet<Key> = (0..2 + turn % 3).map(pick).collect();
        let number = i64::try_from(who * 1_000_000 + turn).expect("small");
        let begun = stage.now();
        let mut answer = Answer::default();
        if looks {
            client.simple("SET shardway.snapshot = 'strict'");
            client.simple("BEGIN ISOLATION LEVEL REPEATABLE READ");
            answer = client.simple(ALL);
            if answer.error.is_none() {
                let (ended, lists) = (stage.now(), lists(&answer));
                stage.note(|it| it.reads.push(Read { begun, ended, promise: Promise::OneMoment, lists }));
            }
        } else {
            client.simple("BEGIN");
        }
        for (place, key) in keys.iter().enumerate() {
            if answer.error.is_none() {
                // One of them is the connection to be cut, where connections are cut.
                let mark = if who == 1 && place > 0 { " /* MARK */" } else { "" };
                answer = client
                    .simple(&format!("UPDATE lists SET items = items || {number}::bigint WHERE id = {key}{mark}"));
            }
        }
        let heard = if answer.error.is_some() {
            client.simple("ROLLBACK");
            Heard::Failed
        } else {
            answer = client.simple("COMMIT");
            match &answer.error {
                None if answer.tags == ["COMMIT"] => Heard::Committed,
                None => Heard::Failed,
                Some(error) if error.sqlstate == "40001" => Heard::Failed,
                Some(_) => Heard::Unknown,
            }
        };
        let ended = stage.now();
        let keys = keys.into_iter().collect();
        stage.note(|it| it.appends.push(Append { number, keys, begun, ended, heard }));
        if hung_up(&answer) || looks && hung_up(&client.simple("SELECT 1")) {
            match stage.session() {
                Some(other) => client = other,
                None => return,
            }
        }
    }
}

/// Reads all lists again and again. How often that was refused.
fn read(stage: &Stage, promise: Promise, how: How) -> usize {
    let mut refused = 0;
    let Some(mut client) = stage.session() else { return 0 };
    let mut kept = 0;
    while !stage.is_over() && kept < READS_MAX {
        if promise == Promise::OneMoment {
            client.simple("SET shardway.snapshot = 'strict'");
        }
        let begun = stage.now();
        let answer = client.run(how, ALL, &[], false);
        let ended = stage.now();
        if answer.error.is_none() {
            let lists = lists(&answer);
            stage.note(|it| it.reads.push(Read { begun, ended, promise, lists }));
            kept += 1;
            continue;
        }
        refused += 1;
        if hung_up(&answer) {
            match stage.session() {
                Some(other) => client = other,
                None => return refused,
            }
        }
    }
    refused
}

/// What befalls the house, again and again until it has been long enough. How often.
async fn strike(house: &mut House, stage: &Stage) -> Outcome<usize> {
    let count = || stage.history.lock().expect("no panic").appends.len();
    let mut blows = 0;
    while stage.begun.elapsed() < span() || blows < 6 {
        // Something is going on again.
        let before = count();
        until("transactions after the last blow", async || Ok(count() > before + 40)).await?;
        let shard = blows % SHARDS;
        match blows % 3 {
            0 => {
                let way = if blows.is_multiple_of(2) { Way::ToServer } else { Way::ToProxy };
                // The connection that was marked may be gone: another will be.
                until("a cut", async || {
                    house.relays[shard].arm(way, blows % 7);
                    let armed = Instant::now();
                    while armed.elapsed() < MARKED_MAX && !house.relays[shard].has_struck() {
                        tokio::time::sleep(POLL).await;
                    }
                    Ok(house.relays[shard].disarm())
                })
                .await?;
            }
            1 => {
                house.cluster.nodes()[shard].kill9().await?;
                house.cluster.nodes()[shard].start().await?;
            }
            _ => {
                house.kill_proxy();
                house.serve().await?;
            }
        }
        blows += 1;
    }
    Ok(blows)
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_are_whole_and_in_order_whatever_befalls() -> Outcome {
    let mut house = House::build(&["CREATE TABLE lists (id bigint PRIMARY KEY, items bigint[] NOT NULL)"], &[]).await?;
    let rows: Vec<String> = (1..=LISTS).map(|id| format!("({id}, '{{}}')")).collect();
    assert_eq!(house.client()?.simple(&format!("INSERT INTO lists VALUES {}", rows.join(", "))).error, None);
    assert!(house.keys_of_shards("lists").await?.iter().all(|it| it.len() > 2));
    let stage =
        Stage { port: house.port(), begun: Instant::now(), over: AtomicBool::new(false), history: Mutex::default() };
    let readers =
        [(Promise::OneMoment, How::Simple), (Promise::OneMoment, How::Unnamed), (Promise::EachItsOwn, How::Named)];
    let stage = std::sync::Arc::new(stage);
    let appending: Vec<_> = (0..CLIENTS)
        .map(|who| {
            let stage = std::sync::Arc::clone(&stage);
            thread::spawn(move || append(&stage, who))
        })
        .collect();
    let reading: Vec<_> = readers
        .into_iter()
        .map(|(promise, how)| {
            let stage = std::sync::Arc::clone(&stage);
            thread::spawn(move || read(&stage, promise, how))
        })
        .collect();
    let struck = strike(&mut house, &stage).await;
    stage.over.store(true, Ordering::Relaxed);
    let refused: Vec<usize> = reading.into_iter().map(|it| it.join().expect("a reader")).collect();
    appending.into_iter().for_each(|it| it.join().expect("a client"));
    let blows = struck?;
    house.settled().await?;
    let mut history = stage.history.lock().expect("no panic").clone();
    let end = house.client()?.simple(ALL);
    assert_eq!(end.error, None);
    history.end = lists(&end);
    let heard = |what: Heard| history.appends.iter().filter(|it| it.heard == what).count();
    let promised = |what: Promise| history.reads.iter().filter(|it| it.promise == what).count();
    println!(
        "figure: {blows} blows; {} transactions committed, {} failed, {} not known; {} reads at one moment, {} others; refused \
         {refused:?}",
        heard(Heard::Committed),
        heard(Heard::Failed),
        heard(Heard::Unknown),
        promised(Promise::OneMoment),
        promised(Promise::EachItsOwn)
    );
    let faults = check(&history);
    let shown: Vec<_> = faults.iter().take(20).collect();
    assert!(faults.is_empty(), "{} faults, such as {shown:?}", faults.len());
    assert!(heard(Heard::Committed) > 200 && promised(Promise::OneMoment) > 20);
    Ok(())
}
