//! Transactions made up by seeds, said to the proxy and to a plain server: the same answers, and the same rows after.
//!
//! `SHARDWAY_WRITES_SEED` says which ones, `SHARDWAY_WRITES_TRANSACTIONS` how many, `SHARDWAY_WRITES_FIRST` with which
//! batch to begin.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::answers::Verdict;
use crate::answers::compare;
use crate::answers::is_refused;
use crate::answers::shown;
use crate::arena::Arena;
use crate::arena::Ring;
use crate::bytes::Answer;
use crate::bytes::Client;
use crate::bytes::Value;
use crate::choices::Choices;
use crate::choices::Chosen;
use crate::choices::shrink;
use crate::house::WIDTHS;
use crate::proxy::Outcome;
use crate::scripts::Step;
use crate::scripts::script;
use crate::statements::Statement;

const TRANSACTIONS: usize = 1200;
/// What is tried where no seed is given.
const SEED: u64 = 9;
/// Between two times that the tables are made anew.
const BATCH: usize = 12;
/// After so many transactions the tables are compared.
const LOOK: usize = 3;
/// More mismatches than this are counted, but not made smaller.
const SHRUNK_MAX: usize = 4;
/// One is made smaller for so long at most.
const SHRUNK_FOR: Duration = Duration::from_secs(60);
/// More than this end the search.
const FOUND_MAX: usize = 12;
/// Of all statements over several shards so many in a hundred are answered, not refused.
const ANSWERED_MIN: f64 = 86.0;
/// One transaction in so many may have a statement that fails by another row than on one server.
const OTHER_ROW_ONE_IN: usize = 40;
/// The shards of one batch after the other.
const TURNS: [usize; 10] = [2, 3, 5, 1, 2, 3, 5, 2, 3, 5];
/// It says how far it is after so many transactions.
const PROGRESS: usize = 1000;
/// So many reasons of errors and refusals are shown.
const REASONS: usize = 40;
/// On the plain server this stands in the place of what the proxy refused.
const FAILS: &str = "SELECT 1 / 0";
#[derive(Default)]
struct Tally {
    transactions: usize,
    /// By what the statements are: answered, of these with an error, refused.
    kinds: BTreeMap<&'static str, [usize; 3]>,
    refused: BTreeMap<String, usize>,
    /// Where both failed, each by another row.
    other_row: BTreeMap<String, usize>,
    /// On so many shards: statements answered, refused.
    widths: BTreeMap<usize, [usize; 2]>,
    /// Errors of both, by statement and error.
    errors: BTreeMap<String, usize>,
    found: Vec<String>,
}

impl Tally {
    fn count(&mut self, width: usize, step: &Step, ours: &Answer) {
        let refused = is_refused(ours);
        let all = step.statements();
        // What an error left undone says nothing.
        let reached = if ours.error.is_some() { ours.tags.len() + 1 } else { all.len() };
        for (at, statement) in all.iter().take(reached).enumerate() {
            let failed = ours.error.is_some() && at + 1 == reached;
            // Nothing is asked of a failed transaction.
            if ours.error.as_ref().is_some_and(|it| it.sqlstate == "25P02") && failed {
                break;
            }
            let column = if failed && refused { 2 } else { 0 };
            let kind = self.kinds.entry(statement.what).or_default();
            kind[column] += 1;
            kind[1] += usize::from(failed && !refused);
            self.widths.entry(width).or_default()[column / 2] += 1;
        }
        if let Some(error) = &ours.error {
            let which = if refused { &mut self.refused } else { &mut self.errors };
            let what = all.get(ours.tags.len()).filter(|_| !refused).map_or("", |it| it.what);
            *which.entry(format!("{} {} {what}", error.sqlstate, general(&error.message))).or_default() += 1;
        }
    }

    fn add(&mut self, other: Self) {
        self.transactions += other.transactions;
        for (kind, counts) in other.kinds {
            let all = self.kinds.entry(kind).or_default();
            all.iter_mut().zip(counts).for_each(|(all, it)| *all += it);
        }
        for (width, counts) in other.widths {
            let all = self.widths.entry(width).or_default();
            all.iter_mut().zip(counts).for_each(|(all, it)| *all += it);
        }
        let named = [
            (&mut self.refused, other.refused),
            (&mut self.other_row, other.other_row),
            (&mut self.errors, other.errors),
        ];
        for (all, others) in named {
            for (name, count) in others {
                *all.entry(name).or_default() += count;
            }
        }
    }

    /// Statements answered and refused where there are several shards.
    fn over_several(&self) -> [usize; 2] {
        let several = || self.widths.iter().filter(|it| *it.0 > 1);
        [0, 1].map(|at| several().map(|it| it.1[at]).sum())
    }

    fn print(&self, began: Instant) {
        let [answered, refused] = self.over_several();
        println!(
            "oracle: writes: {} transactions, {} MISMATCH; on several shards {answered} statements answered, {refused} REFUSED ({:.1} % answered); \
             {} times both failed by another row; {} s",
            self.transactions,
            self.found.len(),
            percent(answered, answered + refused),
            self.other_row.values().sum::<usize>(),
            began.elapsed().as_secs(),
        );
        println!("oracle:   answered, refused by number of shards {:?}", self.widths);
        println!("oracle:   failed by another row {:?}", self.other_row);
        println!("oracle:   answered, of these failed, refused: {:?}", self.kinds);
        for (what, all) in [("errors of both", &self.errors), ("refused", &self.refused)] {
            println!("oracle:   {what}, the commonest:");
            let mut reasons: Vec<_> = all.iter().collect();
            reasons.sort_by_key(|it| std::cmp::Reverse(it.1));
            for (reason, count) in reasons.into_iter().take(REASONS) {
                println!("oracle:   {count:6} {reason}");
            }
        }
    }
}

fn percent(part: usize, of: usize) -> f64 {
    part as f64 * 100.0 / of.max(1) as f64
}

/// A message without the names in it.
fn general(message: &str) -> String {
    let parts: Vec<&str> = message.split('"').collect();
    parts.iter().enumerate().map(|(at, it)| if at % 2 == 1 { "\"…\"" } else { *it }).collect()
}

fn say(client: &mut Client, step: &Step) -> Answer {
    let joined = |all: &[Statement]| all.iter().map(Statement::text).collect::<Vec<_>>().join("; ");
    match step {
        Step::Query(all) => client.simple(&joined(all)),
        Step::Bound { statement, how, binary } => {
            let (sql, values) = statement.bound();
            client.run(*how, &sql, &values, *binary)
        }
        Step::Pipeline { all, binary } => {
            let all: Vec<_> = all.iter().map(Statement::bound).collect();
            client.pipeline(&all, *binary)
        }
        Step::Copy { before, copy, data, after, part, extended } => {
            let parts = [joined(before), copy.text(), joined(after)];
            let parts: Vec<String> = parts.into_iter().filter(|it| !it.is_empty()).collect();
            client.copy_in_parts(&parts.join("; "), data, *part, *extended)
        }
    }
}

/// Says a step in which the statement of that number fails, as the proxy let it fail.
fn say_failing(client: &mut Client, step: &Step, at: usize) -> Answer {
    match step {
        Step::Query(all) => {
            let texts = all.iter().enumerate().map(|(it, s)| if it == at { FAILS.to_owned() } else { s.text() });
            client.simple(&texts.collect::<Vec<_>>().join("; "))
        }
        Step::Bound { .. } => client.simple(FAILS),
        Step::Pipeline { all, binary } => {
            let one = |(it, s): (usize, &Statement)| match it == at {
                true => (FAILS.to_owned(), Vec::<Value>::new()),
                false => s.bound(),
            };
            client.pipeline(&all.iter().enumerate().map(one).collect::<Vec<_>>(), *binary)
        }
        Step::Copy { before, data, part, extended, .. } => {
            let texts = step.statements().into_iter().enumerate();
            let texts: Vec<_> = texts.map(|(it, s)| if it == at { FAILS.to_owned() } else { s.text() }).collect();
            match at > before.len() {
                true => client.copy_in_parts(&texts.join("; "), data, *part, *extended),
                false => client.simple(&texts.join("; ")),
            }
        }
    }
}

/// What is said of a batch besides its figures: the mismatch, if there is one.
fn run_batch(ring: &mut Ring, width: usize, choices: &mut Choices, tally: &mut Tally) -> Option<String> {
    if let Err(error) = ring.begin() {
        return Some(error);
    }
    let mut said = String::new();
    for number in 0..BATCH {
        // Mostly there is another; without choices there is none.
        let span = choices.begin();
        if choices.below(1000) == 0 {
            choices.end(span);
            break;
        }
        let _ = writeln!(said, "    -- transaction {number}");
        let (mut is_open, mut found) = (false, None);
        let _ = script(choices, &mut |step| {
            let (status, difference) = run_step(ring, width, &step, is_open, tally, &mut said);
            found = difference;
            is_open = status != b'I';
            found.is_none().then_some(status)
        });
        choices.end(span);
        if let Some(difference) = found {
            return Some(format!("{difference}\n{said}"));
        }
        // A chain goes on.
        if is_open {
            for client in [&mut ring.ours, &mut ring.plain] {
                client.simple("ROLLBACK");
            }
        }
        tally.transactions += 1;
        if number % LOOK == LOOK - 1
            && let Some(difference) = ring.difference()
        {
            return Some(format!("{difference}\n{said}"));
        }
    }
    ring.difference().map(|it| format!("{it}\n{said}"))
}

/// The status after a step, and what came out differently.
fn run_step(
    ring: &mut Ring,
    width: usize,
    step: &Step,
    is_open: bool,
    tally: &mut Tally,
    said: &mut String,
) -> (u8, Option<String>) {
    describe(step, said);
    let ours = say(&mut ring.ours, step);
    tally.count(width, step, &ours);
    let difference = if is_refused(&ours) {
        refuse(&mut ring.plain, step, &ours, is_open)
    } else {
        let plain = say(&mut ring.plain, step);
        match compare(step, &ours, &plain, width) {
            Verdict::Alike => None,
            Verdict::OtherRow(which) => {
                *tally.other_row.entry(which).or_default() += 1;
                None
            }
            Verdict::Mismatch(difference) => Some(difference),
        }
    };
    let _ = writeln!(said, "        {}", shown(&ours));
    (ours.status, difference)
}

/// Lets the plain server fail where the proxy refused.
fn refuse(plain: &mut Client, step: &Step, ours: &Answer, is_open: bool) -> Option<String> {
    let alone = !is_open && step.statements().len() == 1;
    let mut status = b'I';
    if !alone {
        let plain = say_failing(plain, step, ours.tags.len());
        if plain.tags != ours.tags {
            return Some(format!("before a refusal: {} where one server says {}", shown(ours), shown(&plain)));
        }
        status = plain.status;
    }
    if ours.status == b'I' && status != b'I' {
        status = plain.simple("ROLLBACK").status;
    }
    (ours.status != status).then(|| format!("status after a refusal: {}", shown(ours)))
}

fn describe(step: &Step, said: &mut String) {
    let bound = |it: &Statement| {
        let (sql, values) = it.bound();
        let values: Vec<String> = values
            .iter()
            .map(|it| {
                let text = it.bytes.as_ref().map_or("NULL".to_owned(), |it| format!("'{}'", it.escape_ascii()));
                format!("{text}:{}{}", it.oid, if it.binary { "b" } else { "" })
            })
            .collect();
        format!("{sql} {values:?}")
    };
    let texts: Vec<String> = step.statements().into_iter().map(Statement::text).collect();
    let _ = match step {
        Step::Query(_) => writeln!(said, "    Q {}", texts.join("; ")),
        Step::Bound { statement, how, binary } => {
            writeln!(said, "    {how:?}{} {}", if *binary { " binary" } else { "" }, bound(statement))
        }
        Step::Pipeline { all, binary } => {
            let all: Vec<String> = all.iter().map(bound).collect();
            writeln!(said, "    pipeline{}\n        {}", if *binary { " binary" } else { "" }, all.join("\n        "))
        }
        Step::Copy { data, part, extended, .. } => writeln!(
            said,
            "    {} {}\n        in parts of {part}: {}",
            if *extended { "extended" } else { "Q" },
            texts.join("; "),
            data.escape_ascii()
        ),
    };
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|it| it.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn mix(seed: u64, place: usize) -> u64 {
    let place = u64::try_from(place).expect("small");
    (seed ^ 0x9e37_79b9_7f4a_7c15)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        .wrapping_add(place.wrapping_mul(0x94d0_49bb_1331_11eb))
}

/// The smallest batch that still has a mismatch of the same sort.
fn least(ring: &mut Ring, width: usize, chosen: Chosen, sort: &str) -> Option<String> {
    let mut last = None;
    let began = Instant::now();
    shrink(chosen, &mut |choices| {
        if began.elapsed() > SHRUNK_FOR {
            return false;
        }
        let difference = run_batch(ring, width, choices, &mut Tally::default());
        let holds = difference.as_ref().is_some_and(|it| it.starts_with(sort));
        if holds {
            last = difference;
        }
        holds
    });
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn random_transactions_do_what_they_do_on_one_server() -> Outcome {
    let size = |name: &str| number(name).map(|it| usize::try_from(it).expect("it fits"));
    let batches = size("SHARDWAY_WRITES_TRANSACTIONS").unwrap_or(TRANSACTIONS).div_ceil(BATCH);
    let first = size("SHARDWAY_WRITES_FIRST").unwrap_or_default();
    let seed = number("SHARDWAY_WRITES_SEED").unwrap_or(SEED);
    println!("oracle: SHARDWAY_WRITES_SEED={seed}");
    let arena = Arena::build().await?;
    what_differs_is_seen(&arena)?;
    let began = Instant::now();
    let tally = Mutex::new(Tally::default());
    let outcome: Result<(), String> = thread::scope(|scope| {
        let searches: Vec<_> = WIDTHS
            .into_iter()
            .map(|width| {
                let (arena, tally) = (&arena, &tally);
                let of_width = (first..first + batches).filter(move |it| TURNS[it % TURNS.len()] == width);
                scope.spawn(move || search(arena, width, seed, of_width, tally).map_err(|it| it.to_string()))
            })
            .collect();
        searches.into_iter().try_for_each(|it| it.join().unwrap_or_else(|_| Err("a search panicked".to_owned())))
    });
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.print(began);
    outcome?;
    assert_eq!(tally.found, Vec::<String>::new());
    arena.nothing_is_prepared().await?;
    let [answered, refused] = tally.over_several();
    assert!(percent(answered, answered + refused) >= ANSWERED_MIN, "only {answered}, and {refused} are refused");
    let other: usize = tally.other_row.values().sum();
    assert!(other * OTHER_ROW_ONE_IN <= tally.transactions.max(OTHER_ROW_ONE_IN), "{other} failed by another row");
    Ok(())
}

fn search(
    arena: &Arena,
    width: usize,
    seed: u64,
    batches: impl Iterator<Item = usize>,
    tally: &Mutex<Tally>,
) -> Outcome {
    let mut ring = arena.ring(width)?;
    for batch in batches {
        let mut choices = Choices::random(mix(seed, batch));
        let mut own = Tally::default();
        let difference = run_batch(&mut ring, width, &mut choices, &mut own);
        let smaller = {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            let before = tally.transactions / PROGRESS;
            tally.add(own);
            if tally.transactions / PROGRESS > before {
                eprintln!("writes: {} transactions, {} mismatches", tally.transactions, tally.found.len());
            }
            if tally.found.len() >= FOUND_MAX {
                return Ok(());
            }
            tally.found.len() < SHRUNK_MAX
        };
        if let Some(difference) = difference {
            let sort: String = difference.chars().take_while(|it| *it != ':').collect();
            let least = if smaller { least(&mut ring, width, choices.chosen(), &sort) } else { None };
            let least = least.map_or(String::new(), |it| format!("made smaller: {it}"));
            let told = format!(
                "MISMATCH on {width} shards, SHARDWAY_WRITES_SEED={seed} SHARDWAY_WRITES_FIRST={batch}: {difference}\n{least}"
            );
            println!("{told}");
            tally.lock().unwrap_or_else(PoisonError::into_inner).found.push(told);
        }
    }
    Ok(())
}

/// Rows that are missing, changed, too many, on another shard or of another time.
fn what_differs_is_seen(arena: &Arena) -> Outcome {
    let mut ring = arena.ring(3)?;
    let meddlings = [
        ("DELETE FROM small WHERE id = (SELECT min(id) FROM small)", "only on one server: [small("),
        ("UPDATE band SET v = v + 1", "only through the proxy: [band("),
        ("INSERT INTO audit SELECT id, 1, 1 FROM acct LIMIT 1", "only through the proxy: [audit("),
        (
            "UPDATE acct SET id = 1000 + g FROM generate_series(1, 20) g WHERE acct.id IN (4, 5, 7)",
            "where nobody looks",
        ),
        ("INSERT INTO loose VALUES (NULL)", "where nobody looks"),
        ("UPDATE acct SET at = at - interval '1 second' WHERE id = (SELECT min(id) FROM acct)", "times [0]"),
        ("UPDATE ref SET made = now()", "copies of reference tables"),
        ("DELETE FROM ref WHERE code = 'd'", "copies of reference tables"),
    ];
    for (sql, told) in meddlings {
        let mut seen = 0;
        for place in 1..3 {
            ring.begin()?;
            assert_eq!(ring.difference(), None);
            if ring.meddle(place, sql).iter().any(|it| it.ends_with(" 0")) {
                continue;
            }
            let difference = ring.difference().unwrap_or_default();
            assert!(difference.contains(told), "{sql}: {difference}");
            seen += 1;
        }
        assert!(seen > 0, "{sql}");
    }
    Ok(())
}
