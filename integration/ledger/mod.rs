//! Clients that write through a proxy while servers fail, and keep a ledger of what they were told of every write.

#![allow(dead_code, reason = "every test uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shardway::clock;
use shardway::clock::Tick;
use shardway::local_cluster::client::Client;
use shardway::local_cluster::client::Row;
use shardway::local_cluster::client::SqlError;
use shardway::tasks;

use crate::proxy::Outcome;
use crate::proxy::text;

/// The table that they write: nothing keeps a row from being there twice.
pub(crate) const TABLE: &str = "CREATE TABLE ledger (id bigint NOT NULL, part int NOT NULL)";

/// How long a client waits for one answer: longer than the proxy may make it wait.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// How long it waits to be let in where it may go to another proxy.
const ELSEWHERE: Duration = Duration::from_secs(1);
/// After so many writes it goes back to the proxy that it began with.
const WRITES_AT_ONE: usize = 50;

/// What a client was told of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Done,
    NotDone,
    Unknown,
}

#[derive(Default)]
struct Page {
    /// Each write, how many rows it has, and what was told.
    writes: BTreeMap<u64, (usize, Told)>,
    /// When writes were acknowledged that began after the moment that is asked about.
    acknowledged: Option<Tick>,
    /// The latest moment that writes must have begun after, to count as the first.
    since: Tick,
    /// What must not be: an error that tells nothing.
    strange: Vec<String>,
    /// What was told of writes that were not done.
    reasons: BTreeMap<String, usize>,
}

/// The ledger, shared by its clients.
#[derive(Default)]
pub(crate) struct Ledger {
    page: Mutex<Page>,
    next: AtomicU64,
    ended: AtomicBool,
}

impl Ledger {
    fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many writes were acknowledged.
    pub(crate) fn done(&self) -> usize {
        self.page().writes.values().filter(|(_, told)| *told == Told::Done).count()
    }

    /// How many were not, or perhaps not.
    pub(crate) fn not_done(&self) -> usize {
        self.page().writes.values().filter(|(_, told)| *told != Told::Done).count()
    }

    /// From now on, the first acknowledgement of a write that begins later is waited for.
    pub(crate) fn mark(&self) -> Tick {
        let mut page = self.page();
        page.since = clock::now();
        page.acknowledged = None;
        page.since
    }

    /// When a write that began after the last mark was acknowledged.
    pub(crate) fn first_since_mark(&self) -> Option<Tick> {
        self.page().acknowledged
    }

    /// Lets the clients end.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    fn write(&self, id: u64, rows: usize, told: Told, begun: Tick, reason: Option<String>) {
        let mut page = self.page();
        page.writes.insert(id, (rows, told));
        if told == Told::Done && begun > page.since && page.acknowledged.is_none() {
            page.acknowledged = Some(clock::now());
        }
        if let Some(reason) = reason {
            *page.reasons.entry(reason).or_default() += 1;
        }
    }

    /// Compares with the rows that are there in the end (`SELECT id, part FROM ledger`): what was acknowledged is there once,
    /// what was certainly not done is not there, and what is unknown is there whole or not at all.
    pub(crate) fn compare(&self, rows: &[Row]) -> Outcome {
        let mut held: BTreeMap<u64, BTreeMap<usize, usize>> = BTreeMap::new();
        for row in rows {
            let (id, part) = (text(row, 0)?.parse()?, text(row, 1)?.parse()?);
            *held.entry(id).or_default().entry(part).or_default() += 1;
        }
        let page = self.page();
        let mut found = page.strange.clone();
        for (id, (parts, told)) in &page.writes {
            let there = held.remove(id).unwrap_or_default();
            let whole = there.len() == *parts && there.values().all(|count| *count == 1);
            let right = match told {
                Told::Done => whole,
                Told::NotDone => there.is_empty(),
                Told::Unknown => whole || there.is_empty(),
            };
            if !right {
                found.push(format!("write {id} of {parts} rows, told {told:?}: there are {there:?}"));
            }
        }
        found.extend(held.keys().map(|id| format!("nobody wrote {id}")));
        if found.is_empty() { Ok(()) } else { Err(found.join("\n").into()) }
    }

    /// Counts, for people.
    pub(crate) fn told(&self) -> String {
        let page = self.page();
        let count = |told: Told| page.writes.values().filter(|(_, it)| *it == told).count();
        format!(
            "{} writes acknowledged, {} certainly not done, {} unknown; {:?}",
            count(Told::Done),
            count(Told::NotDone),
            count(Told::Unknown),
            page.reasons
        )
    }
}

/// Starts that many clients of the proxy at `port`. They write until the ledger ends: one row, or two in a transaction.
pub(crate) fn start(ledger: &Arc<Ledger>, port: u16, clients: usize) -> Vec<tokio::task::JoinHandle<()>> {
    start_among(ledger, &[port], clients)
}

/// The same of several proxies, of which some may die: whoever was dropped by one comes back to the next.
pub(crate) fn start_among(ledger: &Arc<Ledger>, ports: &[u16], clients: usize) -> Vec<tokio::task::JoinHandle<()>> {
    (0..clients).map(|number| tasks::shared("client", work(Arc::clone(ledger), ports.to_vec(), number))).collect()
}

async fn work(ledger: Arc<Ledger>, ports: Vec<u16>, number: usize) {
    let mut client = None;
    let mut turn = number;
    let mut written = 0_usize;
    let may_die = ports.len() > 1;
    while !ledger.ended.load(Ordering::SeqCst) {
        // Who had to go elsewhere comes back.
        if written >= WRITES_AT_ONE && turn != number {
            (client, turn, written) = (None, number, 0);
        }
        let Some(open) = &mut client else {
            let opened = Client::connect(ports[turn % ports.len()], "demo", "shop");
            match tokio::time::timeout(if may_die { ELSEWHERE } else { ANSWER_MAX }, opened).await {
                Ok(Ok(it)) => (client, written) = (Some(it), 0),
                _ if may_die => turn += 1,
                Ok(Err(error)) => ledger.page().strange.push(format!("a client was not let in: {error}")),
                Err(_) => ledger.page().strange.push(format!("a client was not let in within {ANSWER_MAX:?}")),
            }
            continue;
        };
        written += 1;
        let id = ledger.next.fetch_add(1, Ordering::SeqCst);
        let rows = 1 + number % 2;
        let begun = clock::now();
        let (result, last) = match rows {
            1 => (said(open, &format!("INSERT INTO ledger VALUES ({id}, 0)")).await, true),
            _ => transaction(open, id).await,
        };
        let (told, reason) = match &result {
            Ok(()) => (Told::Done, None),
            // What is not the write itself, nor its COMMIT, cannot have done it.
            Err(error @ SqlError::Server { sqlstate, .. }) => match &**sqlstate {
                "08007" => (Told::Unknown, Some(sqlstate.clone())),
                // Nothing was done, and the proxy says so: no primary in time, a transaction that was lost.
                "40001" | "57P03" | "53300" => (Told::NotDone, Some(sqlstate.clone())),
                _ => {
                    ledger.page().strange.push(format!("write {id} of {rows} rows was told: {error}"));
                    (Told::NotDone, Some(sqlstate.clone()))
                }
            },
            Err(error @ SqlError::Connection(_)) => {
                client = None;
                if !may_die {
                    ledger.page().strange.push(format!("write {id} of {rows} rows: the client was dropped: {error}"));
                }
                (if last { Told::Unknown } else { Told::NotDone }, Some("dropped".to_owned()))
            }
        };
        ledger.write(id, rows, told, begun, reason);
    }
}

/// Two rows in a transaction; and whether it had come to the COMMIT.
async fn transaction(client: &mut Client, id: u64) -> (Result<(), SqlError>, bool) {
    for sql in [
        "BEGIN".to_owned(),
        format!("INSERT INTO ledger VALUES ({id}, 0)"),
        format!("INSERT INTO ledger VALUES ({id}, 1)"),
    ] {
        if let Err(error) = said(client, &sql).await {
            if matches!(error, SqlError::Server { .. }) {
                // The transaction has failed, or was never there; its end tells nothing new.
                let _ = said(client, "ROLLBACK").await;
            }
            return (Err(error), false);
        }
    }
    (said(client, "COMMIT").await, true)
}

async fn said(client: &mut Client, sql: &str) -> Result<(), SqlError> {
    match tokio::time::timeout(ANSWER_MAX, client.query(sql)).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(SqlError::Connection(std::io::ErrorKind::TimedOut.into())),
    }
}
