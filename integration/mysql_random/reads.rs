//! SELECTs made up by seeds, said to both.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Instant;

use shardway::wire::mysql::kind;

use crate::bound::Bound;
use crate::bound::bind;
use crate::choices::Choices;
use crate::choices::shrink;
use crate::client::Answer;
use crate::client::Client;
use crate::client::Column;
use crate::compare::difference;
use crate::compare::is_refused;
use crate::compare::renamed;
use crate::compare::renamed_from;
use crate::house::House;
use crate::house::OTHER_PLANS;
use crate::house::Ring;
use crate::house::USUAL_PLANS;
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
/// One answer in so many may differ by what is a matter of the plan of the plain server, which must disagree with itself.
const OTHER_PLAN_ONE_IN: usize = 200;
/// How much sums of floats may differ that were added in another order.
const NEAR: f64 = 1e-9;
/// Of what is made up, plain MariaDB should accept so much, in percent: by types that do not go together a seed can have much
/// that is refused.
const ACCEPTED_MIN: usize = 40;
/// Of what plain accepts so much must be answered, in thousandths.
const ANSWERED_MIN: usize = 980;
/// So many reasons of refusals are shown.
const REASONS: usize = 25;

#[derive(Default)]
struct Tally {
    statements: usize,
    accepted: usize,
    alike: usize,
    failed_alike: usize,
    other_plan: usize,
    /// Set aside: alike where each execution is prepared anew, for a server's second one fails otherwise.
    forgets: usize,
    too_large: usize,
    /// How often, and the first such statement.
    refused: BTreeMap<String, (usize, String)>,
    /// By number of shards, of what plain accepts: answered, refused.
    widths: BTreeMap<usize, [usize; 2]>,
    found: Vec<String>,
}

impl Tally {
    fn print(&self, began: Instant) {
        println!(
            "oracle: reads: {} statements, plain accepts {}; {} alike, {} failed alike, {} alike but for the plan (the plain server disagrees with itself), {} set aside (a server's second execution fails, and anew does not), {} too large to be read, {} MISMATCH; {} s",
            self.statements,
            self.accepted,
            self.alike,
            self.failed_alike,
            self.other_plan,
            self.forgets,
            self.too_large,
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
    /// With parameters, twice, the second time with types as they were told before.
    Bound,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Prepared => "prepared",
            Self::Bound => "bound",
        }
    }
}

/// What is asked.
struct Asked {
    made: Select,
    bound: Option<Bound>,
}

impl Asked {
    fn make(choices: &mut Choices, tables: &[Table], way: Way) -> Self {
        let mut made = select(choices, tables);
        let bound = (way == Way::Bound).then(|| bind(choices, &made.sql));
        // A group's expression stands twice, with parameters of its own each time, one of which may be bound as NULL.
        made.total &= bound.is_none() || !made.sql.contains("GROUP BY");
        Self { made, bound }
    }

    fn told(&self) -> String {
        self.bound.as_ref().map_or_else(|| self.made.sql.clone(), Bound::to_string)
    }
}

fn say(client: &mut Client, way: Way, asked: &Asked) -> Vec<Answer> {
    let sql = &asked.made.sql;
    let mut answers = match (way, &asked.bound) {
        (_, Some(bound)) => return bound.run(client, 2),
        (Way::Text | Way::Bound, None) => client.query(sql),
        (Way::Prepared, None) => client.run(sql, &[]),
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
    /// A server has forgotten a column by the second execution of what it prepared.
    Forgets,
    Refused(String),
    Mismatch(String),
    /// The plain server's answer is too large to be read, or takes too long; its session may be of no use any more.
    TooLarge,
}

/// What is answered where each execution is prepared anew, if the second execution of what was prepared once fails by a column
/// that the first one found: MariaDB's own mistake, on the plain server or on one behind the proxy, as it plans.
fn prepared_anew(client: &mut Client, width: usize, asked: &Asked, answers: &[Answer]) -> Option<Vec<Answer>> {
    let bound = asked.bound.as_ref()?;
    let [first, second, _] = answers else { return None };
    if first.error.is_some() || second.error.as_ref().is_none_or(|it| it.errno != UNKNOWN_COLUMN) {
        return None;
    }
    let mut anew = || renamed(bound.run(client, 1), width);
    let (once, again) = (anew(), anew());
    let ([one, told], [two, _]) = (once.as_slice(), again.as_slice()) else { return None };
    Some(vec![one.clone(), two.clone(), told.clone()])
}

/// ER_STATEMENT_TIMEOUT of MariaDB's.
const STATEMENT_TIMEOUT: u16 = 1969;

/// ER_BAD_FIELD_ERROR.
const UNKNOWN_COLUMN: u16 = 1054;

/// In what the answers differ, where that may be a matter of one server's plan: whether a column is told to be a key or can
/// be NULL, or what it is called where it lies, whether and how often a warning was raised, and the last digits of sums of
/// floats. `None`: in something else, too.
fn of_the_plan(ours: &[Answer], plain: &[Answer], in_order: bool) -> Option<BTreeSet<String>> {
    let mut aspects = BTreeSet::new();
    // What was warned of is shown, and nothing is executed again behind that.
    let shows = |it: &[Answer]| it.iter().any(|it| it.warnings > 0);
    let (ours, plain) = if shows(ours) || shows(plain) {
        if difference(ours, plain, false).is_some() {
            aspects.insert("warnings".to_owned());
        }
        (without_warnings(ours), without_warnings(plain))
    } else {
        (ours.to_vec(), plain.to_vec())
    };
    if ours.len() != plain.len() {
        return None;
    }
    for (place, (our, their)) in ours.iter().zip(&plain).enumerate() {
        let (mut our, mut their) = (our.clone(), their.clone());
        (our.warnings, their.warnings) = (0, 0);
        let columns = our.columns.iter_mut().flatten().zip(their.columns.iter_mut().flatten());
        for (at, (one, other)) in columns.enumerate() {
            aspects.extend(described_otherwise(one, other, place, at));
            if [&one.own_name, &other.own_name].iter().any(|it| it.is_empty()) {
                one.own_name.clone_from(&other.own_name);
            }
            one.flags &= !PLANNED;
            other.flags &= !PLANNED;
        }
        if !in_order {
            our.rows.sort();
            their.rows.sort();
        }
        let kinds: Vec<u8> = our.columns.iter().flatten().map(|it| it.kind).collect();
        for (row, other) in our.rows.iter_mut().zip(&their.rows) {
            for (at, ((cell, other), kind)) in row.iter_mut().zip(other).zip(&kinds).enumerate() {
                let near = match (float(cell, *kind), float(other, *kind)) {
                    (Some(one), Some(two)) => (one - two).abs() <= two.abs() * NEAR,
                    _ => false,
                };
                if near && cell != other {
                    aspects.insert(format!("floats of {place}.{at}"));
                    cell.clone_from(other);
                }
            }
        }
        difference(&[our], &[their], true).is_none().then_some(())?;
    }
    Some(aspects)
}

/// The first answer, and what was told of the statement when it was prepared: what is the same whether or not one was warned.
fn without_warnings(answers: &[Answer]) -> Vec<Answer> {
    let mut kept: Vec<Answer> = answers.first().into_iter().cloned().collect();
    // What was prepared is told last, without a status.
    kept.extend(answers.last().filter(|it| answers.len() > 1 && !is_shown(it) && it.rows.is_empty()).cloned());
    kept
}

/// In what of a plan's a column is described otherwise: its flags, or its own name, which what went through a temporary table
/// has and what is computed at the end has not.
fn described_otherwise(one: &Column, other: &Column, place: usize, at: usize) -> BTreeSet<String> {
    let flags = (one.flags ^ other.flags) & PLANNED != 0;
    let named = one.own_name != other.own_name && (one.own_name.is_empty() || other.own_name.is_empty());
    let found = [(flags, "flags"), (named, "own name")].into_iter().filter(|it| it.0);
    found.map(|(_, what)| format!("{what} of {place}.{at}")).collect()
}

/// An answer to SHOW WARNINGS.
fn is_shown(answer: &Answer) -> bool {
    let names = ["Level", "Code", "Message"];
    answer.columns.as_ref().is_some_and(|it| it.iter().map(|it| &*it.name).eq(names.map(str::as_bytes)))
}

/// A float, as text or in the binary form.
fn float(cell: &Option<Vec<u8>>, kind: u8) -> Option<f64> {
    let bytes = cell.as_deref()?;
    if ![kind::FLOAT, kind::DOUBLE].contains(&kind) {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok().and_then(|it| it.parse().ok());
    text.or_else(|| match bytes.len() {
        8 => Some(f64::from_le_bytes(bytes.try_into().ok()?)),
        4 => Some(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        _ => None,
    })
}

/// Whether the plain server disagrees with itself as much when it plans otherwise: one of its answers is ours but for what
/// differs between two of its own.
fn is_proven(ring: &mut Ring, way: Way, asked: &Asked, ours: &[Answer], plain: &[Answer]) -> bool {
    let (in_order, width) = (asked.made.total, ring.width);
    let mut answers = vec![plain.to_vec()];
    let mut known = BTreeSet::new();
    // Executed again, a statement is described otherwise than the first time.
    if let [first, second, rest @ ..] = plain
        && asked.bound.is_some()
        && first.warnings == 0
    {
        let again = [&[second.clone(), first.clone()], rest].concat();
        known.extend(of_the_plan(&again, plain, in_order).unwrap_or_default());
    }
    // With few rows or none, whole tables are constants to a plan, and columns are described otherwise.
    for (client, database) in &mut ring.fewer {
        let other = renamed_from(say(client, way, asked), database, &format!("d{width}"));
        for (place, (one, other)) in other.iter().zip(plain).enumerate() {
            let columns = one.columns.iter().flatten().zip(other.columns.iter().flatten());
            known.extend(columns.enumerate().flat_map(|(at, (one, other))| described_otherwise(one, other, place, at)));
        }
    }
    let is_known = |answers: &[Vec<Answer>], known: &BTreeSet<String>| {
        answers.iter().any(|it| of_the_plan(ours, it, in_order).is_some_and(|it| it.is_subset(known)))
    };
    if is_known(&answers, &known) {
        return true;
    }
    for plan in OTHER_PLANS {
        for (client, database) in &mut ring.otherwise {
            if client.is_lost() || client.done(plan).is_err() {
                continue;
            }
            let other = renamed_from(say(client, way, asked), database, &format!("d{width}"));
            if client.is_lost() || client.done(USUAL_PLANS).is_err() {
                continue;
            }
            known.extend(answers.iter().filter_map(|it| of_the_plan(&other, it, in_order)).flatten());
            answers.push(other);
            if is_known(&answers, &known) {
                return true;
            }
        }
    }
    false
}

/// Flags of columns that depend on whether a value goes through a temporary table: NOT NULL, keys, those of parts of keys,
/// and BINARY, which numbers that are computed have, and numbers that lie in a table do not.
const PLANNED: u16 = 0x0001 | 0x0002 | 0x0008 | 0x4000 | 0x8000 | 0x1000 | 0x0080;

/// Said to both; whether plain accepts it.
fn compare(ring: &mut Ring, way: Way, asked: &Asked) -> (bool, Verdict) {
    let mut plain = renamed(say(&mut ring.plain, way, asked), ring.width);
    let took_too_long = |it: &Answer| it.error.as_ref().is_some_and(|it| it.errno == STATEMENT_TIMEOUT);
    if ring.plain.is_lost() || plain.iter().any(took_too_long) {
        return (false, Verdict::TooLarge);
    }
    let anew = prepared_anew(&mut ring.plain, ring.width, asked, &plain);
    let mut forgets = anew.is_some();
    plain = anew.unwrap_or(plain);
    let accepted = plain.iter().all(|it| it.error.is_none());
    let mut ours = say(&mut ring.ours, way, asked);
    if accepted && let Some(anew) = prepared_anew(&mut ring.ours, ring.width, asked, &ours) {
        (ours, forgets) = (anew, true);
    }
    if is_refused(&ours) {
        let reason = ours.iter().find_map(|it| it.error.as_ref()).map_or(String::new(), |it| general(&it.message));
        return (accepted, Verdict::Refused(reason));
    }
    let verdict = match difference(&ours, &plain, asked.made.total) {
        Some(_) if is_proven(ring, way, asked, &ours, &plain) => Verdict::OtherPlan,
        Some(what) => Verdict::Mismatch(what),
        None if forgets => Verdict::Forgets,
        None if accepted => Verdict::Alike,
        None => Verdict::FailedAlike,
    };
    (accepted, verdict)
}

/// The smallest statement that still differs.
fn least(ring: &mut Ring, way: Way, tables: &[Table], choices: Choices) -> String {
    let mut last = String::new();
    shrink(choices.chosen(), &mut |choices| {
        let asked = Asked::make(choices, tables, way);
        match compare(ring, way, &asked) {
            (true, Verdict::Mismatch(what)) => {
                last = format!("{};\n    {what}", asked.told());
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
            let way = [Way::Text, Way::Bound, Way::Prepared, Way::Bound][usize::try_from(place % 4)?];
            let asked = Asked::make(&mut choices, &house.tables, way);
            let (accepted, verdict) = compare(&mut ring, way, &asked);
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
                    Verdict::Forgets => {
                        tally.forgets += 1;
                        tally.widths.entry(width).or_default()[0] += 1;
                    }
                    Verdict::FailedAlike => tally.failed_alike += 1,
                    Verdict::Refused(reason) => {
                        if accepted {
                            tally.widths.entry(width).or_default()[1] += 1;
                            let known = tally.refused.entry(reason.clone()).or_insert_with(|| (0, asked.told()));
                            known.0 += 1;
                        }
                    }
                    Verdict::TooLarge => tally.too_large += 1,
                    Verdict::Mismatch(_) => {}
                }
                tally.found.len()
            };
            if matches!(verdict, Verdict::TooLarge) {
                ring = house.ring(width, old)?;
                continue;
            }
            if let Verdict::Mismatch(what) = verdict {
                if ring.ours.is_lost() {
                    ring = house.ring(width, old)?;
                }
                let smaller =
                    if found < SHRUNK_MAX { least(&mut ring, way, &house.tables, choices) } else { String::new() };
                let mut told = String::new();
                let said = way.name();
                let eof = if old { ", EOF packets" } else { "" };
                // Writing to a String cannot fail.
                let _ = write!(told, "MISMATCH on {width} shards at {place}, {said}{eof}: {what}\n  {};", asked.told());
                if !smaller.is_empty() {
                    let _ = write!(told, "\n  made smaller: {smaller}");
                }
                println!("{told}");
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                tally.found.push(told);
                if tally.found.len() >= FOUND_MAX {
                    return Ok(());
                }
                if ring.ours.is_lost() || ring.plain.is_lost() {
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
        let mut ring = house.ring(*width, false)?;
        ring.fill(&house.tables, seed)?;
        house.copy(&mut ring).await?;
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
    for (width, [answered, refused]) in &tally.widths {
        let share = answered * 1000 / (answered + refused).max(1);
        assert!(share >= ANSWERED_MIN, "on {width} shards {refused} are refused that plain accepts");
    }
    // What one row more does is seen.
    let mut ring = house.ring(house.widths[0], false)?;
    for (client, _) in &mut ring.otherwise {
        assert_eq!(client.one("DELETE FROM s1 ORDER BY k, n LIMIT 1").affected, 1);
    }
    let made = Select { sql: "SELECT * FROM s1".to_owned(), total: false };
    let (_, verdict) = compare(&mut ring, Way::Text, &Asked { made, bound: None });
    assert!(matches!(verdict, Verdict::Mismatch(_)));
    assert!(ring.difference(&house.tables)?.is_some());
    drop(ring);
    house.stop().await
}
