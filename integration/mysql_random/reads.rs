//! SELECTs made up by seeds, said to both.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Instant;

use shardway::wire::mysql::kind;

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
use crate::schema::Table;
use crate::select::Select;
use crate::select::has_every_sort;
use crate::select::select;

const SEED: u64 = 5;
/// On each number of shards.
const SELECTS: u64 = 700;
/// More mismatches than this are counted, but not made smaller.
const SHRUNK_MAX: usize = 8;
/// More than this end the search.
const FOUND_MAX: usize = 40;
/// One answer in so many may differ by what is a matter of the server's plan.
const OTHER_PLAN_ONE_IN: usize = 400;
/// How much sums of floats may differ that were added in another order.
const NEAR: f64 = 1e-9;
/// Of what is made up, plain MariaDB should accept so much, in percent: by types that do not go together a seed can have much
/// that is refused.
const ACCEPTED_MIN: usize = 40;
/// So many reasons of refusals are shown.
const REASONS: usize = 25;

#[derive(Default)]
struct Tally {
    statements: usize,
    accepted: usize,
    alike: usize,
    failed_alike: usize,
    other_plan: usize,
    refused: BTreeMap<String, usize>,
    /// By number of shards, of what plain accepts: answered, refused.
    widths: BTreeMap<usize, [usize; 2]>,
    found: Vec<String>,
}

impl Tally {
    fn print(&self, began: Instant) {
        println!(
            "oracle: reads: {} statements, plain accepts {}; {} alike, {} failed alike, {} alike but for the plan, {} MISMATCH; {} s",
            self.statements,
            self.accepted,
            self.alike,
            self.failed_alike,
            self.other_plan,
            self.found.len(),
            began.elapsed().as_secs()
        );
        for (width, [answered, refused]) in &self.widths {
            let share = *answered as f64 * 100.0 / (answered + refused).max(1) as f64;
            println!("oracle:   on {width} shards {answered} answered, {refused} refused: {share:.1} % answered");
        }
        let mut reasons: Vec<_> = self.refused.iter().collect();
        reasons.sort_by_key(|it| std::cmp::Reverse(it.1));
        for (reason, count) in reasons.into_iter().take(REASONS) {
            println!("oracle:   {count:6} {reason}");
        }
    }
}

/// A message without the names and numbers in it.
pub(crate) fn general(message: &str) -> String {
    let mut out = String::new();
    for (at, part) in message.split(['"', '\'', '`']).enumerate() {
        out.push_str(if at % 2 == 1 { "…" } else { part });
    }
    out.split(". Hint").next().unwrap_or_default().chars().filter(|it| !it.is_ascii_digit()).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Text,
    Prepared,
}

fn say(client: &mut Client, way: Way, sql: &str) -> Vec<Answer> {
    let mut answers = match way {
        Way::Text => client.query(sql),
        Way::Prepared => client.run(sql, &[]),
    };
    // What it warns of is a part of the answer.
    if answers.last().is_some_and(|it| it.error.is_none() && it.warnings > 0) {
        answers.extend(client.query("SHOW WARNINGS"));
    }
    answers
}

enum Verdict {
    Alike,
    FailedAlike,
    OtherPlan,
    Refused(String),
    Mismatch(String),
}

/// Whether the answers differ only by what one server, too, tells otherwise with another plan: whether a column is told to be
/// a key, in which row a warning was raised and how often, and the last digits of sums of floats.
fn is_of_the_plan(ours: &[Answer], plain: &[Answer], in_order: bool) -> bool {
    let (Some(our), Some(their)) = (ours.first(), plain.first()) else { return false };
    let raises = |answer: &Answer| answer.warnings > 0;
    if raises(our) != raises(their) {
        return false;
    }
    let (Some(columns), Some(theirs)) = (&our.columns, &their.columns) else { return false };
    if columns.len() != theirs.len() || our.rows.len() != their.rows.len() {
        return false;
    }
    let mut alike = (our.clone(), their.clone());
    for answer in [&mut alike.0, &mut alike.1] {
        answer.warnings = 0;
        answer.columns.iter_mut().flatten().for_each(|it| it.flags &= !PLANNED);
        if !in_order {
            answer.rows.sort();
        }
    }
    let is_float: Vec<bool> = columns.iter().map(|it| [kind::FLOAT, kind::DOUBLE].contains(&it.kind)).collect();
    let number = |cell: &Option<Vec<u8>>| std::str::from_utf8(cell.as_deref()?).ok()?.parse::<f64>().ok();
    let (ours, theirs) = (&mut alike.0.rows, &alike.1.rows);
    for (row, other) in ours.iter_mut().zip(theirs) {
        for ((cell, other), is_float) in row.iter_mut().zip(other).zip(&is_float) {
            let near = match (number(cell), number(other)) {
                (Some(one), Some(two)) => (one - two).abs() <= two.abs() * NEAR,
                _ => false,
            };
            if *is_float && near {
                cell.clone_from(other);
            }
        }
    }
    difference(&[alike.0], &[alike.1], true).is_none()
}

/// Flags of columns that depend on whether a value goes through a temporary table: NOT NULL, keys, those of parts of keys.
const PLANNED: u16 = 0x0001 | 0x0002 | 0x0008 | 0x4000 | 0x1000;

/// Said to both; whether plain accepts it.
fn compare(ring: &mut Ring, way: Way, made: &Select) -> (bool, Verdict) {
    let plain = renamed(say(&mut ring.plain, way, &made.sql), ring.width);
    let accepted = plain.iter().all(|it| it.error.is_none());
    let ours = say(&mut ring.ours, way, &made.sql);
    if is_refused(&ours) {
        let reason = ours.iter().find_map(|it| it.error.as_ref()).map_or(String::new(), |it| general(&it.message));
        return (accepted, Verdict::Refused(reason));
    }
    let verdict = match difference(&ours, &plain, made.total) {
        Some(_) if is_of_the_plan(&ours, &plain, made.total) => Verdict::OtherPlan,
        Some(what) => Verdict::Mismatch(what),
        None if accepted => Verdict::Alike,
        None => Verdict::FailedAlike,
    };
    (accepted, verdict)
}

/// The smallest statement that still differs.
fn least(ring: &mut Ring, way: Way, tables: &[Table], choices: Choices) -> String {
    let mut last = String::new();
    shrink(choices.chosen(), &mut |choices| {
        let made = select(choices, tables);
        match compare(ring, way, &made) {
            (true, Verdict::Mismatch(what)) => {
                last = format!("{};\n    {what}", made.sql);
                true
            }
            _ => false,
        }
    });
    last
}

fn search(house: &House, width: usize, seed: u64, tally: &Mutex<Tally>) -> Outcome {
    for old in [false, true] {
        let mut ring = house.ring(width, old)?;
        let first = number("MYSQL_RANDOM_FIRST", 0);
        for place in first..first + number("MYSQL_RANDOM_SELECTS", SELECTS) / 2 {
            let mut choices = Choices::random(mix(seed + u64::from(old), place));
            let made = select(&mut choices, &house.tables);
            let way = if place % 2 == 0 { Way::Text } else { Way::Prepared };
            let (accepted, verdict) = compare(&mut ring, way, &made);
            let found = {
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                tally.statements += 1;
                tally.accepted += usize::from(accepted);
                match &verdict {
                    Verdict::Alike => {
                        tally.alike += 1;
                        tally.widths.entry(width).or_default()[0] += 1;
                    }
                    Verdict::OtherPlan => {
                        tally.other_plan += 1;
                        tally.widths.entry(width).or_default()[0] += 1;
                    }
                    Verdict::FailedAlike => tally.failed_alike += 1,
                    Verdict::Refused(reason) => {
                        if accepted {
                            tally.widths.entry(width).or_default()[1] += 1;
                            *tally.refused.entry(reason.clone()).or_default() += 1;
                        }
                    }
                    Verdict::Mismatch(_) => {}
                }
                tally.found.len()
            };
            if let Verdict::Mismatch(what) = verdict {
                if ring.ours.is_lost() {
                    ring = house.ring(width, old)?;
                }
                let smaller =
                    if found < SHRUNK_MAX { least(&mut ring, way, &house.tables, choices) } else { String::new() };
                let mut told = String::new();
                let said = if way == Way::Text { "text" } else { "prepared" };
                let eof = if old { ", EOF packets" } else { "" };
                // Writing to a String cannot fail.
                let _ = write!(told, "MISMATCH on {width} shards, {said}{eof}: {what}\n  {};", made.sql);
                if !smaller.is_empty() {
                    let _ = write!(told, "\n  made smaller: {smaller}");
                }
                println!("{told}");
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                tally.found.push(told);
                if tally.found.len() >= FOUND_MAX {
                    return Ok(());
                }
                if ring.ours.is_lost() {
                    drop(tally);
                    ring = house.ring(width, old)?;
                }
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn random_selects_are_answered_as_by_one_server_or_refused() -> Outcome {
    assert!(has_every_sort());
    let seed = number("MYSQL_RANDOM_SEED", SEED);
    println!("oracle: MYSQL_RANDOM_SEED={seed}");
    let house = House::build(seed).await?;
    for table in &house.tables {
        println!("{};", table.ddl());
    }
    for width in &house.widths {
        house.ring(*width, false)?.fill(&house.tables, seed)?;
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
    assert!(tally.found.is_empty(), "{} answers differ\n{}", tally.found.len(), house.log());
    assert!(tally.accepted * 100 >= tally.statements * ACCEPTED_MIN, "plain accepts {} only", tally.accepted);
    let other_max = (tally.alike / OTHER_PLAN_ONE_IN).max(4);
    assert!(tally.other_plan <= other_max, "{} differ by the plan", tally.other_plan);
    // What one row more does is seen.
    let mut ring = house.ring(house.widths[0], false)?;
    assert_eq!(ring.plain.one("DELETE FROM s1 LIMIT 1").affected, 1);
    let made = Select { sql: "SELECT * FROM s1".to_owned(), total: false };
    let (_, verdict) = compare(&mut ring, Way::Text, &made);
    assert!(matches!(verdict, Verdict::Mismatch(_)));
    assert!(ring.difference(&house.tables)?.is_some());
    drop(ring);
    house.stop().await
}
