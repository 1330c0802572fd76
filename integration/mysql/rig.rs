//! Runs cases on both sides, in each way that clients have, and tells what is not alike.

use std::fmt::Write as _;

use crate::across::ACROSS;
use crate::cases::CASES;
use crate::client::Answer;
use crate::client::Client;
use crate::client::MODERN;
use crate::client::OLD;
use crate::client::Types;
use crate::client::Value;
use crate::compare::columns;
use crate::compare::difference;
use crate::compare::is_refused;
use crate::compare::rename;
use crate::compare::renamed;
use crate::house::Against;
use crate::house::Contents;
use crate::house::Direct;
use crate::house::House;
use crate::house::Pair;
use crate::house::WIDTHS;
use crate::merges::MERGES;
use crate::parameters::Is;
use crate::parameters::PARAMETERS;
use crate::proxy::Outcome;
use crate::reads::READS;
use crate::sessions::SESSIONS;
use crate::texts::TEXTS;
use crate::usual::USUAL;
use crate::writes::WRITES;

/// How many problems are told of.
const TOLD_MAX: usize = 60;

/// How a client says its statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As text, with what clients of today ask for.
    Text,
    /// As text, with EOF packets and nothing told of the session.
    OldText,
    /// Prepared, run once, and closed.
    Prepared,
    /// The same with EOF packets.
    OldPrepared,
}

const WAYS: [Way; 4] = [Way::Text, Way::OldText, Way::Prepared, Way::OldPrepared];

impl Way {
    fn capabilities(self) -> u32 {
        match self {
            Self::Text | Self::Prepared => MODERN,
            Self::OldText | Self::OldPrepared => OLD,
        }
    }

    fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::OldText)
    }
}

/// What was found.
#[derive(Default)]
pub(crate) struct Found {
    alike: usize,
    refused: usize,
    /// Of what may be refused: answered all the same.
    answered: usize,
    problems: Vec<String>,
}

impl Found {
    /// What there is to say; an error if something is wrong.
    pub(crate) fn told(self, log: &str) -> Outcome {
        let Self { alike, refused, answered, problems } = self;
        println!(
            "oracle: {alike} alike, {refused} refused, {answered} answered that might be refused, {} wrong",
            problems.len()
        );
        if problems.is_empty() {
            return Ok(());
        }
        let mut text = format!("{} problems:\n", problems.len());
        for problem in problems.iter().take(TOLD_MAX) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "- {problem}");
        }
        if problems.len() > TOLD_MAX {
            let _ = writeln!(text, "and {} more", problems.len() - TOLD_MAX);
        }
        println!("{text}");
        if !log.is_empty() {
            println!("the proxy's log:\n{log}");
        }
        Err("answers differ from one server's".into())
    }

    /// With problems that were found elsewhere.
    pub(crate) fn and(mut self, problems: Vec<String>) -> Self {
        self.problems.extend(problems);
        self
    }

    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }
}

/// Runs the cases whose title holds `wanted`.
pub(crate) fn run(house: &House, against: Against, wanted: &str) -> Outcome<Found> {
    let mut found = Found::default();
    // A plain server has one width.
    let widths = if against == Against::Plain { &WIDTHS[..1] } else { &WIDTHS[..] };
    for &width in widths {
        let mut direct = house.direct(width)?;
        direct.fill()?;
        let initial = direct.contents()?;
        // How clients of years ago are spoken to does not depend on how many shards there are.
        for way in WAYS.into_iter().filter(|it| width == 2 || it.capabilities() == MODERN || against == Against::Plain)
        {
            let cases = CASES
                .iter()
                .chain(READS)
                .chain(WRITES)
                .chain(SESSIONS)
                .chain(USUAL)
                .chain(ACROSS)
                .chain(TEXTS)
                .chain(MERGES);
            for (title, lines) in cases.filter(|(title, _)| title.contains(wanted)) {
                let place = format!("{width} shards, {way:?}, {title}");
                let mut pair = house.pair(width, way.capabilities())?;
                let before = found.problems.len();
                case(&mut pair, (width, way, against), lines, &place, &mut found);
                settle(&mut direct, pair, &initial, &place, found.problems.len() > before, &mut found)?;
            }
        }
        for capabilities in [MODERN, OLD] {
            for (is, sql, sets) in PARAMETERS.iter().filter(|(_, sql, _)| sql.contains(wanted)) {
                let place = format!("{width} shards, parameters, {capabilities:#x}, {sql}");
                let mut pair = house.pair(width, capabilities)?;
                let before = found.problems.len();
                let is = is_at(*is, width, against);
                if let Some(problem) = parameters(&mut pair, width, is, sql, sets, &mut found) {
                    found.problems.push(format!("{place}: {problem}"));
                }
                settle(&mut direct, pair, &initial, &place, found.problems.len() > before, &mut found)?;
            }
        }
    }
    Ok(found)
}

/// Ends what a case has begun, compares the tables, and puts them back.
fn settle(
    direct: &mut Direct,
    mut pair: Pair,
    initial: &Contents,
    place: &str,
    doubtful: bool,
    found: &mut Found,
) -> Outcome {
    for (who, client) in [("ours", &mut pair.ours), ("plain", &mut pair.plain)] {
        if client.is_lost() {
            continue;
        }
        if let Some(error) = client.one("ROLLBACK").error {
            found.problems.push(format!("{place}: ROLLBACK at the end ({who}): {error}"));
        }
    }
    if let Some(what) = direct.difference()? {
        found.problems.push(format!("{place}: behind it, {what}"));
        direct.fill()?;
    } else if doubtful || direct.contents()? != *initial {
        direct.fill()?;
    }
    Ok(())
}

/// What a line is to be, where there are so many shards.
fn is_at(is: Is, width: usize, against: Against) -> Is {
    match is {
        Is::Refused if against == Against::Plain || width == 1 => Is::Alike,
        Is::Refused if width < WIDTHS[WIDTHS.len() - 1] => Is::Either,
        other => other,
    }
}

fn case(pair: &mut Pair, (width, way, against): (usize, Way, Against), lines: &str, place: &str, found: &mut Found) {
    for (number, line) in lines.lines().filter(|line| !line.is_empty()).enumerate() {
        let (is, sql) = match (line.strip_prefix("! "), line.strip_prefix("? ")) {
            (Some(rest), _) => (Is::Refused, rest),
            (_, Some(rest)) => (Is::Either, rest),
            (None, None) => (Is::Alike, line),
        };
        let sql = sql.replace('⏎', "\n");
        let is = is_at(is, width, against);
        let ours = say(&mut pair.ours, way, &sql, width, "d");
        let problem = judge(is, ours, found, || renamed(say(&mut pair.plain, way, &sql, width, "plain"), width), &sql);
        let mut problems: Vec<String> = problem.into_iter().collect();
        // An error tells no status.
        if problems.is_empty() && !sql.starts_with('\\') {
            problems.extend(
                difference(&[pair.ours.ping()], &[pair.plain.ping()], true).map(|it| format!("afterwards {it}")),
            );
        }
        for problem in problems {
            found.problems.push(format!("{place}: line {}, {sql:?}: {problem}", number + 1));
        }
        if pair.ours.is_lost() {
            return;
        }
    }
}

/// Compares, if there is something to be compared.
fn judge(
    is: Is,
    ours: Vec<Answer>,
    found: &mut Found,
    theirs: impl FnOnce() -> Vec<Answer>,
    sql: &str,
) -> Option<String> {
    let last_error = || ours.iter().find_map(|it| it.error.as_ref().map(ToString::to_string)).unwrap_or_default();
    match (is, is_refused(&ours)) {
        (Is::Alike, true) => Some(format!("refused: {} (one server: {})", last_error(), brief(&theirs()))),
        (_, true) => {
            found.refused += 1;
            None
        }
        (Is::Refused, false) => {
            let theirs = theirs();
            let compared = difference(&ours, &theirs, is_ordered(sql)).unwrap_or_else(|| "as one server".to_owned());
            Some(format!("not refused, but answered: {compared}"))
        }
        (_, false) => {
            let problem = difference(&ours, &theirs(), is_ordered(sql));
            if problem.is_none() {
                found.alike += 1;
                found.answered += usize::from(is == Is::Either);
            }
            problem
        }
    }
}

fn brief(answers: &[Answer]) -> String {
    let one = |answer: &Answer| match (&answer.error, &answer.columns) {
        (Some(error), _) => format!("error {error}"),
        (None, Some(_)) => format!("{} rows", answer.rows.len()),
        (None, None) => format!("OK, {} affected", answer.affected),
    };
    answers.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn is_ordered(sql: &str) -> bool {
    sql.to_ascii_uppercase().contains("ORDER BY")
}

/// Says a line in its way.
fn say(client: &mut Client, way: Way, sql: &str, width: usize, prefix: &str) -> Vec<Answer> {
    if let Some(command) = sql.strip_prefix('\\') {
        let answer = match command.split_once(' ') {
            None if command == "ping" => client.ping(),
            None if command == "reset" => client.reset_connection(),
            Some(("db", "own")) => client.init_db(&format!("{prefix}{width}")),
            Some(("db", name)) => client.init_db(name),
            _ => unreachable!("no such command: {command}"),
        };
        return vec![answer];
    }
    let sql = sql.replace("{db}", &format!("{prefix}{width}"));
    if way.is_text() { client.query(&sql) } else { client.run(&sql, &[]) }
}

/// Prepares once, and executes with each set of parameters: types are told where they differ from those before.
fn parameters(
    pair: &mut Pair,
    width: usize,
    is: Is,
    sql: &str,
    sets: &[&[Value<'_>]],
    found: &mut Found,
) -> Option<String> {
    let (ours, theirs) = match (pair.ours.prepare(sql), pair.plain.prepare(sql)) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(error), plain) => {
            let ours = Answer { error: Some(error), ..Answer::default() };
            let theirs = Answer { error: plain.err(), ..Answer::default() };
            return judge(is, vec![ours], found, || renamed(vec![theirs], width), sql)
                .map(|it| format!("preparing: {it}"));
        }
        (Ok(_), Err(error)) => return Some(format!("prepared where one server says error {error}")),
    };
    let mut known = theirs.clone();
    known.columns.iter_mut().chain(&mut known.parameters).for_each(|column| rename(column, width));
    let pairs = [("columns", &ours.columns, &known.columns), ("parameters", &ours.parameters, &known.parameters)];
    for (what, ours, theirs) in pairs {
        if let Some(difference) = columns(Some(ours), Some(theirs)) {
            return Some(format!("preparing, {what}: {difference}"));
        }
    }
    if ours.prepared.warnings != theirs.prepared.warnings {
        return Some(format!("preparing: {} warnings, not {}", ours.prepared.warnings, theirs.prepared.warnings));
    }
    let mut before: Option<Vec<std::mem::Discriminant<Value<'_>>>> = None;
    for (place, set) in sets.iter().enumerate() {
        let kinds: Vec<_> = set.iter().map(std::mem::discriminant).collect();
        let types = if before.as_ref() == Some(&kinds) { Types::AsBefore } else { Types::Told };
        let answers = pair.ours.execute(&ours, set, types);
        let refused = is_refused(&answers);
        let plain = || renamed(pair.plain.execute(&theirs, set, types), width);
        if let Some(problem) = judge(is, answers, found, plain, sql) {
            return Some(format!("execution {}, {set:?}, types {types:?}: {problem}", place + 1));
        }
        // The plain server has not heard of one that was refused.
        before = (!refused).then_some(kinds);
    }
    let resets = [pair.ours.reset(&ours), pair.plain.reset(&theirs)];
    if let Some(what) = difference(&resets[..1], &resets[1..], true) {
        return Some(format!("resetting: {what}"));
    }
    pair.ours.close(&ours);
    pair.plain.close(&theirs);
    let closed = [pair.ours.execute(&ours, sets[0], Types::Told), pair.plain.execute(&theirs, sets[0], Types::Told)];
    let numbers = closed.map(|answers| answers[0].error.as_ref().map(|it| it.errno));
    (numbers[0] != numbers[1]).then(|| format!("once closed: error {:?}, not {:?}", numbers[0], numbers[1]))
}
