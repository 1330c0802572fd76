//! Statements made up by seeds, run on the plain server and in two ways through the proxy.

use std::collections::BTreeMap;
use std::env;

use rand::Rng;

use super::choices::Choices;
use super::choices::shrink;
use super::compare::Verdict;
use super::compare::compare;
use super::rig::DATABASES;
use super::rig::Rig;
use super::rig::Way;
use super::statement::Statement;
use super::statement::statement;
use super::wire::Answer;
use super::wire::How;

const STATEMENTS: usize = 4000;
const WORLDS: usize = 3;
/// More mismatches than this are counted, but not made smaller.
const SHRUNK_MAX: usize = 12;
/// Of what is made up, plain Postgres should accept so much, in percent.
const ACCEPTED_MIN: usize = 90;
/// One run in so many may fail where plain answers, or the other way round, by an error that only computing a value
/// raises: whether a value that the answer does not need is computed is the planner's affair, and copies have other plans.
const EVALUATED_ONE_IN: usize = 1000;
/// Protocols and formats of results.
const PROTOCOLS: [(How, bool, &str); 5] = [
    (How::Simple, false, "simple"),
    (How::Unnamed, false, "unnamed text"),
    (How::Unnamed, true, "unnamed binary"),
    (How::Named, false, "named text"),
    (How::Named, true, "named binary"),
];
const EVALUATED: &str = "one of both computed a value, which failed:";
const WAYS: usize = DATABASES.len() * PROTOCOLS.len() * 2;

/// The two ways that the statement of that number is run: over twenty statements all there are.
fn ways(number: usize) -> [Way; 2] {
    [0, 1].map(|which| {
        let roll = (number * 2 + which) * 17 % WAYS;
        let (how, binary, _) = PROTOCOLS[roll / DATABASES.len() % PROTOCOLS.len()];
        Way {
            database: Some(roll % DATABASES.len()),
            how,
            binary,
            gather: roll >= WAYS / 2,
            profile: [0, 0, 1, 0, 2][number / 7 % 5],
            in_transaction: number % 11 == 5,
        }
    })
}

#[derive(Default)]
struct Tally {
    statements: usize,
    accepted: usize,
    /// Of plain's errors, by SQLSTATE.
    errors: BTreeMap<String, usize>,
    timeouts: usize,
    /// Runs by verdict, of statements that plain accepts.
    matched: usize,
    refused: BTreeMap<String, usize>,
    mismatched: usize,
    failed_alike: usize,
    /// Runs in which one of both computed what the other did not, and failed.
    evaluated: usize,
    /// By feature: matched, refused, mismatched.
    features: BTreeMap<&'static str, [usize; 3]>,
    /// Pairs of what a run was made of.
    pairs: BTreeMap<(String, String), usize>,
    found: Vec<String>,
}

impl Tally {
    fn add(&mut self, statement: &Statement, way: Way, accepted: bool, verdict: &Verdict) {
        let traits = traits(way);
        for (at, a) in traits.iter().enumerate() {
            for b in &traits[at + 1..] {
                *self.pairs.entry((a.clone(), b.clone())).or_default() += 1;
            }
        }
        let column = match verdict {
            Verdict::Same => 0,
            Verdict::SameError(_) => {
                self.failed_alike += 1;
                return;
            }
            Verdict::Refused(reason) => {
                self.evaluated += usize::from(reason.starts_with(EVALUATED));
                1
            }
            Verdict::Mismatch(_) => 2,
        };
        for feature in &statement.features {
            self.features.entry(feature).or_default()[column] += 1;
        }
        match verdict {
            Verdict::Same => self.matched += 1,
            Verdict::Refused(reason) if accepted => *self.refused.entry(reason.clone()).or_default() += 1,
            Verdict::Mismatch(_) => self.mismatched += 1,
            _ => {}
        }
    }

    fn print(&self) {
        let percent = |part: usize, of: usize| format!("{:.1} %", part as f64 * 100.0 / of.max(1) as f64);
        let refused: usize = self.refused.values().sum();
        let answered = self.matched + refused + self.mismatched;
        println!(
            "oracle: spread: {} statements, plain accepts {}; in two ways each: {} MATCH ({} of accepted), {refused} REFUSED, \
             {} MISMATCH, {} failed alike, {} took too long",
            self.statements,
            percent(self.accepted, self.statements),
            self.matched,
            percent(self.matched, answered),
            self.mismatched,
            self.failed_alike,
            self.timeouts,
        );
        println!("oracle:   errors of plain {:?}", self.errors);
        let fewest = self.pairs.values().min().copied().unwrap_or_default();
        println!(
            "oracle:   {} pairs of shards, protocol, format and strategy, each {fewest} times or more",
            self.pairs.len()
        );
        let mut reasons: Vec<_> = self.refused.iter().collect();
        reasons.sort_by_key(|it| std::cmp::Reverse(it.1));
        for (reason, count) in reasons {
            println!("oracle:   {count:6} {reason}");
        }
        println!("oracle:   MATCH REFUSED MISMATCH by feature");
        for (feature, [matched, refused, mismatched]) in &self.features {
            println!("oracle:   {matched:6} {refused:5} {mismatched:5} {feature}");
        }
    }
}

fn traits(way: Way) -> Vec<String> {
    let strategy = if way.gather { "gather" } else { "auto" };
    let format = if way.binary { "binary" } else { "text" };
    vec![
        way.database.map_or("plain", |it| DATABASES[it].0).to_owned(),
        format!("{:?}", way.how),
        format.to_owned(),
        strategy.to_owned(),
    ]
}

/// What a statement comes to in one way. `None`: it takes too long.
fn run(rig: &mut Rig, statement: &Statement, way: Way) -> Option<(Answer, Answer, Verdict)> {
    let (text, values) = match way.how {
        How::Simple => (statement.plain_text(), Vec::new()),
        _ => statement.bound(),
    };
    let plain = rig.run(way.plain(), &statement.path, &text, &values);
    let too_long = |answer: &Answer| answer.error.as_ref().is_some_and(|it| it.sqlstate == "57014");
    if too_long(&plain) {
        return None;
    }
    let ours = rig.run(way, &statement.path, &text, &values);
    let types = rig.types(way.database.unwrap_or_default());
    let verdict = compare(&ours, &plain, types, statement.order);
    let verdict = match (&ours.error, &plain.error) {
        (Some(error), None) | (None, Some(error)) if error.by_server && by_value(&error.sqlstate) => {
            Verdict::Refused(format!("{EVALUATED} {}", error.sqlstate))
        }
        _ => verdict,
    };
    Some((ours, plain, verdict))
}

/// Whether an error depends on values: data exceptions, a subquery with more than one row, and a collation that
/// comparing texts lacks.
fn by_value(sqlstate: &str) -> bool {
    sqlstate.starts_with("22") || matches!(sqlstate, "21000" | "42P22")
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|it| it.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// One seed for each world and place in it.
fn mix(seed: u64, place: usize) -> u64 {
    let place = u64::try_from(place).expect("small");
    (seed ^ 0x9e37_79b9_7f4a_7c15)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        .wrapping_add(place.wrapping_mul(0x94d0_49bb_1331_11eb))
}

#[test]
fn random_reads_are_answered_right_or_refused() {
    let size = |name: &str| number(name).map(|it| usize::try_from(it).expect("it fits"));
    let count = size("SHARDWAY_SPREAD_STATEMENTS").unwrap_or(STATEMENTS);
    let first = size("SHARDWAY_SPREAD_FIRST").unwrap_or_default();
    // Of each reason so many refusals are shown, made smaller, and all that plain itself declines.
    let shown = size("SHARDWAY_SPREAD_SHOW").unwrap_or_default();
    // Two that are always the same, and one that nobody has seen; or as asked for.
    let seeds: Vec<u64> = match number("SHARDWAY_SPREAD_SEED") {
        Some(seed) => (0..WORLDS).map(|it| seed.wrapping_add(u64::try_from(it).expect("small"))).collect(),
        None => vec![1, 2, rand::rng().random_range(3..u64::from(u32::MAX))],
    };
    println!("oracle: SHARDWAY_SPREAD_SEED={} gives what {seeds:?} begins with last", seeds[WORLDS - 1]);
    let mut rig = Rig::start(&seeds);
    let mut tally = Tally::default();
    for place in first..first + count {
        let world = place % WORLDS;
        let mut choices = Choices::random(mix(seeds[world], place / WORLDS));
        let made = statement(&rig.worlds[world], &mut choices);
        let chosen = choices.chosen();
        tally.statements += 1;
        let mut counted = false;
        for way in ways(place) {
            let Some((_, plain, verdict)) = run(&mut rig, &made, way) else {
                tally.timeouts += 1;
                continue;
            };
            match &plain.error {
                None if !counted => tally.accepted += 1,
                Some(error) if !counted => *tally.errors.entry(error.sqlstate.clone()).or_default() += 1,
                _ => {}
            }
            counted = true;
            tally.add(&made, way, plain.error.is_none(), &verdict);
            if let Some(error) = plain.error.as_ref().filter(|_| shown > 0) {
                println!("ERROR {} {}: {}", error.sqlstate, error.message, made.plain_text());
            }
            if let Verdict::Refused(reason) = &verdict
                && plain.error.is_none()
                && tally.refused.get(reason).is_some_and(|it| *it <= shown)
            {
                let text = least(&mut rig, world, way, chosen.clone(), &|it| it == &verdict).plain_text();
                println!("REFUSED {reason}: {text}");
            }
            if let Verdict::Mismatch(difference) = verdict {
                let told =
                    told(&mut rig, world, way, &made, &difference, chosen.clone(), tally.found.len() < SHRUNK_MAX);
                let told = format!("MISMATCH at {place}, seed {}: {told}", seeds[world]);
                eprintln!("{told}");
                println!("{told}");
                tally.found.push(told);
            }
        }
        if place % 500 == 499 {
            eprintln!("spread: {} statements, {} mismatches", tally.statements, tally.mismatched);
        }
    }
    tally.print();
    assert_eq!(tally.found, Vec::<String>::new());
    assert!(
        tally.evaluated * EVALUATED_ONE_IN <= tally.statements.max(EVALUATED_ONE_IN) * 2,
        "{} of them",
        tally.evaluated
    );
    let accepted = tally.accepted * 100 / tally.statements.max(1);
    assert!(accepted >= ACCEPTED_MIN, "only {accepted} % of the statements are right");
}

/// A mismatch in words, of the smallest statement that still has one.
fn told(
    rig: &mut Rig,
    world: usize,
    way: Way,
    made: &Statement,
    difference: &str,
    chosen: super::choices::Chosen,
    smaller: bool,
) -> String {
    let show = |rig: &mut Rig, made: &Statement| {
        let text = if way.how == How::Simple { made.plain_text() } else { made.bound().0 };
        let values: Vec<String> = match way.how {
            How::Simple => Vec::new(),
            _ => made
                .bound()
                .1
                .iter()
                .map(|it| format!("{:?}", it.bytes.as_ref().map(|it| String::from_utf8_lossy(it).into_owned())))
                .collect(),
        };
        let difference = match run(rig, made, way) {
            Some((_, _, Verdict::Mismatch(difference))) => difference,
            other => format!("not again: {:?}", other.map(|it| it.2)),
        };
        format!("{way:?}, search_path {}\n    {text}\n    {values:?}\n    {difference}", made.path)
    };
    if !smaller {
        return format!("{}\n    {difference}", show(rig, made));
    }
    let first = made.plain_text();
    let least = least(rig, world, way, chosen, &|it| matches!(it, Verdict::Mismatch(_)));
    format!("{}\n    found as: {first}\n    {difference}", show(rig, &least))
}

/// The smallest statement that comes to the same.
fn least(
    rig: &mut Rig,
    world: usize,
    way: Way,
    chosen: super::choices::Chosen,
    is_it: &dyn Fn(&Verdict) -> bool,
) -> Statement {
    let mut best = shrink(chosen, &mut |choices| {
        let made = statement(&rig.worlds[world], choices);
        run(rig, &made, way).is_some_and(|it| it.1.error.is_none() && is_it(&it.2))
    });
    statement(&rig.worlds[world], &mut best)
}

#[test]
fn all_ways_come_up() {
    let all: Vec<Way> = (0..WAYS / 2).flat_map(ways).collect();
    let mut seen: Vec<String> = all.iter().map(|it| format!("{:?}", traits(*it))).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), WAYS);
}
