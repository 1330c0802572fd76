//! Transactions made up by seeds, said to both; what the proxy refuses is left out on the plain server, for it has done nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::bound::Bound;
use crate::bound::bind;
use crate::choices::Choices;
use crate::choices::shrink;
use crate::client::Answer;
use crate::client::Client;
use crate::compare::difference;
use crate::compare::is_refused;
use crate::compare::renamed;
use crate::house::House;
use crate::house::Ring;
use crate::house::mix;
use crate::house::number;
use crate::proxy::Outcome;
use crate::reads::general;
use crate::schema::Counts;
use crate::schema::Table;
use crate::writes::script;

const SEED: u64 = 3;
/// On each number of shards.
const TRANSACTIONS: u64 = 160;
/// Between two times that the tables are filled anew.
const BATCH: u64 = 10;
/// More mismatches than this are counted, but not made smaller.
const SHRUNK_MAX: usize = 6;
/// One is made smaller for so long at most.
const SHRUNK_FOR: Duration = Duration::from_secs(20);
/// More than this end the search.
const FOUND_MAX: usize = 25;
/// So many reasons of refusals are shown.
const REASONS: usize = 25;
/// One statement in so many may fail by another row than on one server.
const OTHER_ROW_ONE_IN: usize = 50;

#[derive(Default)]
struct Tally {
    transactions: usize,
    alike: usize,
    failed_alike: usize,
    /// Both failed by a duplicate, of another row.
    other_row: usize,
    /// Alike but for the numbers of rows that warnings of an UPDATE name.
    other_number: usize,
    /// How often, and the first such statement.
    refused: BTreeMap<String, (usize, String)>,
    /// By number of shards: answered, refused.
    widths: BTreeMap<usize, [usize; 2]>,
    found: Vec<String>,
    /// Numbers of AUTO_INCREMENT may differ from now on.
    uneven: bool,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.transactions += other.transactions;
        self.alike += other.alike;
        self.failed_alike += other.failed_alike;
        self.other_row += other.other_row;
        self.other_number += other.other_number;
        for (reason, (count, first)) in other.refused {
            self.refused.entry(reason).or_insert_with(|| (0, first)).0 += count;
        }
        for (width, counts) in other.widths {
            let all = self.widths.entry(width).or_default();
            all.iter_mut().zip(counts).for_each(|(all, it)| *all += it);
        }
    }

    fn print(&self, began: Instant) {
        println!(
            "oracle: transactions: {}; statements: {} alike ({} of them but for the rows that warnings of an UPDATE name), {} failed alike, {} failed by another row, {} MISMATCH; {} s",
            self.transactions,
            self.alike,
            self.other_number,
            self.failed_alike,
            self.other_row,
            self.found.len(),
            began.elapsed().as_secs()
        );
        for (width, [answered, refused]) in &self.widths {
            let share = *answered as f64 * 100.0 / (answered + refused).max(1) as f64;
            println!("oracle:   on {width} shards {answered} answered, {refused} refused: {share:.1} % answered");
        }
        let mut reasons: Vec<_> = self.refused.iter().collect();
        reasons.sort_by_key(|it| std::cmp::Reverse(it.1.0));
        for (reason, (count, first)) in reasons.into_iter().take(REASONS) {
            println!("oracle:   {count:6} {reason}");
            println!("           {first}");
        }
    }
}

/// How the statements of a transaction are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Text,
    Prepared,
    Bound,
}

/// A statement, and its parameters where it has some.
struct Said {
    sql: String,
    bound: Option<Bound>,
    way: Way,
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.bound {
            Some(bound) => bound.fmt(f),
            None => self.sql.fmt(f),
        }
    }
}

/// The statements of a transaction.
fn scripted(choices: &mut Choices, tables: &[Table], way: Way) -> Vec<Said> {
    let all = script(choices, tables);
    let said = |sql: String| {
        // Others cannot be prepared.
        let can = ["INSERT", "REPLACE", "UPDATE", "DELETE", "SELECT"].iter().any(|it| sql.starts_with(it));
        let way = if can { way } else { Way::Text };
        let bound = (way == Way::Bound).then(|| bind(choices, &sql));
        Said { sql, bound, way }
    };
    all.into_iter().map(said).collect()
}

fn say(client: &mut Client, said: &Said) -> Vec<Answer> {
    let mut answers = match (&said.bound, said.way) {
        (Some(bound), _) => return bound.run(client, 1),
        (None, Way::Text | Way::Bound) => client.query(&said.sql),
        (None, Way::Prepared) => client.run(&said.sql, &[]),
    };
    if answers.last().is_some_and(|it| it.error.is_none() && it.warnings > 0) {
        let shown = client.query("SHOW WARNINGS");
        // In which order rows were tried is not told where they are on several shards.
        answers.extend(shown);
    }
    answers
}

fn errno(answers: &[Answer]) -> u16 {
    answers.iter().find_map(|it| it.error.as_ref()).map_or(0, |it| it.errno)
}

/// An error that tells the number of a row, without it.
fn counted(answers: &[Answer]) -> Option<(u16, &str)> {
    let error = answers.iter().find_map(|it| it.error.as_ref())?;
    Some((error.errno, error.message.split_once(" at row ")?.0))
}

/// Answers without the numbers of rows that warnings name.
fn unnumbered(answers: &[Answer]) -> Vec<Answer> {
    let mut answers = answers.to_vec();
    for cell in answers.iter_mut().flat_map(|it| it.rows.iter_mut().flatten().flatten()) {
        if let Some(place) = cell.windows(AT_ROW.len()).rposition(|it| it == AT_ROW) {
            cell.truncate(place);
        }
    }
    answers
}

const AT_ROW: &[u8] = b" at row ";

/// What one server refuses in any case.
const REFUSED: &str = "SELECT refused_by_the_proxy";

/// Runs the statements of a transaction; what came out differently, with all that was said.
fn run(ring: &mut Ring, tables: &[Table], all: &[Said], tally: &mut Tally) -> Option<String> {
    let mut said = String::new();
    let width = ring.width;
    for one in all {
        let sql = &one.sql;
        let counted_by_server = || tables.iter().any(|it| it.counts != Counts::Nothing && sql.contains(it.name));
        let ours = say(&mut ring.ours, one);
        // Writing to a String cannot fail.
        let _ = write!(said, "\n    {one};");
        if is_refused(&ours) {
            let reason = ours.iter().find_map(|it| it.error.as_ref()).map_or(String::new(), |it| general(&it.message));
            let _ = write!(said, " -- refused: {reason}");
            // What is asked of the statement before is that it failed.
            ring.plain.query(REFUSED);
            tally.refused.entry(reason).or_insert_with(|| (0, one.to_string())).0 += 1;
            tally.widths.entry(width).or_default()[1] += 1;
            // Nor how many one took that was refused when it had its numbers.
            if !sql.starts_with("SELECT") && counted_by_server() {
                tally.uneven = true;
                break;
            }
        } else {
            let plain = renamed(say(&mut ring.plain, one), width);
            tally.widths.entry(width).or_default()[0] += 1;
            match difference(&ours, &plain, sql.contains("ORDER BY")) {
                None if errno(&ours) == 0 => {
                    tally.alike += 1;
                    // Which numbers come next depends on which of these rows were passed over or took the place of others.
                    if counted_by_server() && (sql.contains("IGNORE") || sql.starts_with("REPLACE")) {
                        tally.uneven = true;
                        break;
                    }
                }
                None => {
                    tally.failed_alike += 1;
                    let _ = write!(said, " -- error {}", errno(&ours));
                    // How many numbers an INSERT took that failed is nobody's promise, nor what LAST_INSERT_ID() says of it.
                    if counted_by_server() {
                        tally.uneven = true;
                        break;
                    }
                }
                // Which row is tried first is a matter of plans, and so is how many were changed before it. Those of VALUES
                // come in their order.
                Some(_) if errno(&ours) == 1062 && errno(&plain) == 1062 && !sql.contains("VALUES") => {
                    tally.other_row += 1;
                    if counted_by_server() {
                        tally.uneven = true;
                        break;
                    }
                }
                Some(_)
                    if sql.starts_with("UPDATE") && counted(&ours).is_some_and(|it| Some(it) == counted(&plain)) =>
                {
                    tally.other_row += 1;
                }
                // Which row a warning names is a matter of plans as well.
                Some(_)
                    if sql.starts_with("UPDATE")
                        && difference(&unnumbered(&ours), &unnumbered(&plain), false).is_none() =>
                {
                    tally.alike += 1;
                    tally.other_number += 1;
                }
                Some(what) => return Some(format!("{what}{said}")),
            }
        }
        if let Some(what) = difference(&[ring.ours.ping()], &[ring.plain.ping()], true) {
            return Some(format!("afterwards {what}{said}"));
        }
    }
    tally.transactions += 1;
    match ring.difference(tables) {
        Ok(None) => None,
        Ok(Some(what)) => Some(format!("tables: {what}{said}")),
        Err(error) => Some(format!("tables cannot be read: {error}{said}")),
    }
}

/// Ends what is open on both sides.
fn end(ring: &mut Ring) {
    for client in [&mut ring.ours, &mut ring.plain] {
        client.query("ROLLBACK");
        client.query("SET autocommit = 1");
        // What the statement before has left is the same, too.
        client.query("SELECT LAST_INSERT_ID(0)");
        client.query("SELECT COUNT(*) FROM u1");
    }
}

/// One transaction on freshly filled tables.
fn alone(house: &House, ring: &mut Ring, choices: &mut Choices, fill: u64, way: Way) -> Outcome<Option<String>> {
    end(ring);
    if ring.ours.is_lost() || ring.plain.is_lost() {
        *ring = house.ring(ring.width, false)?;
    }
    ring.fill(&house.tables, fill)?;
    let all = scripted(choices, &house.tables, way);
    Ok(run(ring, &house.tables, &all, &mut Tally::default()))
}

fn search(house: &House, width: usize, seed: u64, tally: &Mutex<Tally>) -> Outcome {
    let mut ring = house.ring(width, false)?;
    let first = number("MYSQL_RANDOM_FIRST", 0);
    let transactions = number("MYSQL_RANDOM_TRANSACTIONS", TRANSACTIONS);
    for batch in first..first + transactions.div_ceil(BATCH) {
        let fill = mix(seed, batch);
        ring.fill(&house.tables, fill)?;
        for place in 0..BATCH {
            let way = [Way::Text, Way::Bound, Way::Prepared, Way::Bound][usize::try_from(place % 4)?];
            let mut choices = Choices::random(mix(seed ^ fill, place));
            let all = scripted(&mut choices, &house.tables, way);
            let mut own = Tally::default();
            let found = run(&mut ring, &house.tables, &all, &mut own);
            end(&mut ring);
            if own.uneven && found.is_none() {
                ring.fill(&house.tables, fill)?;
            }
            let before = {
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                tally.add(own);
                tally.found.len()
            };
            let Some(what) = found else { continue };
            let mut smaller = String::new();
            if before < SHRUNK_MAX {
                let began = Instant::now();
                shrink(choices.chosen(), &mut |choices| {
                    if began.elapsed() > SHRUNK_FOR {
                        return false;
                    }
                    let found = alone(house, &mut ring, choices, fill, way).unwrap_or(None);
                    if let Some(found) = &found {
                        smaller.clone_from(found);
                    }
                    found.is_some()
                });
            }
            let told = format!(
                "MISMATCH on {width} shards, {way:?}, MYSQL_RANDOM_SEED={seed} MYSQL_RANDOM_FIRST={batch}: {what}\n  made smaller: {smaller}"
            );
            println!("{told}");
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.found.push(told);
            if tally.found.len() >= FOUND_MAX {
                return Ok(());
            }
            drop(tally);
            ring = house.ring(width, false)?;
            ring.fill(&house.tables, fill)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn random_transactions_do_what_they_do_on_one_server() -> Outcome {
    let seed = number("MYSQL_RANDOM_SEED", SEED);
    println!("oracle: MYSQL_RANDOM_SEED={seed}");
    let house = House::build(seed).await?;
    for table in &house.tables {
        println!("{};", table.ddl());
    }
    let began = Instant::now();
    let tally = Mutex::new(Tally::default());
    let outcome: Result<(), String> = thread::scope(|scope| {
        let searches: Vec<_> = house
            .widths
            .iter()
            .map(|width| {
                let (house, tally) = (&house, &tally);
                scope.spawn(move || search(house, *width, seed, tally).map_err(|it| it.to_string()))
            })
            .collect();
        searches.into_iter().try_for_each(|it| it.join().unwrap_or_else(|_| Err("a search panicked".to_owned())))
    });
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.print(began);
    outcome?;
    assert!(tally.found.is_empty(), "{} differ\n{}", tally.found.len(), house.log());
    assert!(tally.alike > tally.transactions, "{} statements answered", tally.alike);
    let other_max = (tally.alike + tally.failed_alike) / OTHER_ROW_ONE_IN;
    assert!(tally.other_row <= other_max.max(2), "{} failed by another row", tally.other_row);
    house.stop().await
}
