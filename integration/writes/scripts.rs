//! Transactions made up by choices: what is said until nothing is open any more.

use crate::bytes::How;
use crate::choices::Choices;
use crate::statements::Maker;
use crate::statements::Statement;
use crate::tables::Group;
use crate::tables::Kind;
use crate::tables::TABLES;
use crate::tables::Table;
use crate::tables::bad;
use crate::tables::binary;
use crate::tables::key;
use crate::tables::value;

/// What is said at once.
pub(crate) enum Step {
    /// A simple query.
    Query(Vec<Statement>),
    Bound {
        statement: Statement,
        how: How,
        binary: bool,
    },
    /// Several statements of the extended protocol before one Sync.
    Pipeline {
        all: Vec<Statement>,
        binary: bool,
    },
    /// COPY FROM STDIN; in a simple query with others around it, or by itself in the extended protocol.
    Copy {
        before: Vec<Statement>,
        copy: Statement,
        data: Vec<u8>,
        after: Vec<Statement>,
        part: usize,
        extended: bool,
    },
}

impl Step {
    /// All its statements.
    pub(crate) fn statements(&self) -> Vec<&Statement> {
        match self {
            Self::Query(all) | Self::Pipeline { all, .. } => all.iter().collect(),
            Self::Bound { statement, .. } => vec![statement],
            Self::Copy { before, copy, after, .. } => before.iter().chain([copy]).chain(after).collect(),
        }
    }
}

/// Makes up a transaction and says it: `say` tells the status after a step, or `None` to stop.
pub(crate) fn script(choices: &mut Choices, say: &mut dyn FnMut(Step) -> Option<u8>) -> Option<()> {
    let step = match choices.below(20) {
        0..=4 => single(choices),
        5 if choices.chance(30) => prepared(choices),
        5..=6 => Step::Query(statements(choices, 3, 5)),
        7..=8 => Step::Query(block(choices, 4)),
        9..=10 => {
            let all = statements(choices, 3, 5);
            Step::Pipeline { all, binary: choices.chance(40) }
        }
        11 => {
            let all = block(choices, 3);
            Step::Pipeline { all, binary: choices.chance(40) }
        }
        _ => return dialog(choices, say),
    };
    say(step).map(|_| ())
}

/// One statement that is prepared by SQL and run twice.
fn prepared(choices: &mut Choices) -> Step {
    let statement = Maker { choices }.statement();
    // What cannot be prepared at all is found when its turn comes, and by one server before.
    if ["odd", "COPY TO"].contains(&statement.what) {
        return Step::Query(vec![statement]);
    }
    let mut all = vec![Statement::plain("PREPARE", format!("PREPARE p AS {}", statement.text()))];
    if choices.chance(40) {
        all.insert(0, opening(choices));
    }
    for _ in 0..2 {
        all.push(Statement { in_order: statement.in_order, ..Statement::plain("EXECUTE", "EXECUTE p") });
    }
    all.push(Statement::plain("DEALLOCATE", "DEALLOCATE p"));
    if choices.chance(30) {
        all.push(ending(choices));
    }
    Step::Query(all)
}

/// BEGIN, some statements and an end.
fn block(choices: &mut Choices, max: usize) -> Vec<Statement> {
    let mut all = vec![opening(choices)];
    all.extend(statements(choices, max, 20));
    all.push(ending(choices));
    all
}

/// A transaction of several steps; after an error it mostly goes back or ends.
fn dialog(choices: &mut Choices, say: &mut dyn FnMut(Step) -> Option<u8>) -> Option<()> {
    let mut first = vec![opening(choices)];
    if choices.chance(20) {
        first.extend(statements(choices, 2, 10));
    }
    let mut status = say(Step::Query(first))?;
    let mut has_savepoint = false;
    for _ in 0..=choices.below(7) {
        let begin = choices.begin();
        let step = match status {
            b'E' if has_savepoint && choices.chance(75) => Some(Statement::plain("command", "ROLLBACK TO s")),
            b'E' if choices.chance(70) => None,
            _ if !has_savepoint && choices.chance(35) => Some(Statement::plain("command", "SAVEPOINT s")),
            _ => Some(Statement::default()),
        };
        let step = match step {
            None => break,
            Some(it) if it.what.is_empty() => within(choices),
            Some(it) if choices.chance(25) => Step::Bound { statement: it, how: How::Unnamed, binary: false },
            Some(it) => Step::Query(vec![it]),
        };
        choices.end(begin);
        for statement in step.statements() {
            match &*statement.text() {
                "SAVEPOINT s" => has_savepoint = true,
                "RELEASE s" => has_savepoint = false,
                _ => {}
            }
        }
        status = say(step)?;
        has_savepoint &= status != b'I';
    }
    let mut last = vec![ending(choices)];
    if choices.chance(10) {
        last.insert(0, Maker { choices }.statement());
    }
    if choices.chance(5) {
        last.extend(statements(choices, 1, 0));
    }
    say(Step::Query(last)).map(|_| ())
}

fn single(choices: &mut Choices) -> Step {
    if choices.chance(20) {
        return copy(choices);
    }
    let how = [How::Simple, How::Unnamed, How::Named][choices.below(3)];
    let binary = choices.chance(40);
    let statement = Maker { choices }.statement();
    match how {
        How::Simple => Step::Query(vec![statement]),
        _ => Step::Bound { statement, how, binary },
    }
}

fn within(choices: &mut Choices) -> Step {
    match choices.below(20) {
        0..=11 => single(choices),
        12..=16 => {
            let statement = command(choices);
            match choices.chance(25) {
                true => Step::Bound { statement, how: How::Unnamed, binary: false },
                false => Step::Query(vec![statement]),
            }
        }
        17 => {
            let all = statements(choices, 2, 30);
            Step::Pipeline { all, binary: choices.chance(40) }
        }
        _ => Step::Query(statements(choices, 2, 30)),
    }
}

/// One to so many, of which so many in a hundred are no DML but say something of the transaction.
fn statements(choices: &mut Choices, max: usize, commands: usize) -> Vec<Statement> {
    let (mut all, mut has_savepoint) = (Vec::new(), false);
    for _ in 0..=choices.below(max) {
        let begin = choices.begin();
        let statement = match choices.chance(commands) {
            false => Maker { choices }.statement(),
            // What goes back to a savepoint should mostly find one.
            true if !has_savepoint && choices.chance(70) => Statement::plain("command", "SAVEPOINT s"),
            true => command(choices),
        };
        has_savepoint |= statement.text() == "SAVEPOINT s";
        all.push(statement);
        choices.end(begin);
    }
    all
}

fn opening(choices: &mut Choices) -> Statement {
    let text = match choices.below(24) {
        0..=15 => "BEGIN",
        16 => "START TRANSACTION",
        17 => "BEGIN ISOLATION LEVEL REPEATABLE READ",
        18 => "BEGIN READ ONLY",
        19 => "BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE",
        20 => "BEGIN READ WRITE",
        21 => "BEGIN ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE",
        22 => "START TRANSACTION READ ONLY, ISOLATION LEVEL REPEATABLE READ",
        _ => "BEGIN WORK",
    };
    Statement::plain("BEGIN", text)
}

fn ending(choices: &mut Choices) -> Statement {
    let text = match choices.below(20) {
        0..=11 => "COMMIT",
        12 => "END",
        13 => "COMMIT AND CHAIN",
        14 => "ROLLBACK AND CHAIN",
        15 => "ABORT",
        16 => "COMMIT WORK",
        _ => "ROLLBACK",
    };
    Statement::plain("COMMIT", text)
}

/// What is said of the transaction.
fn command(choices: &mut Choices) -> Statement {
    let text = match choices.below(36) {
        0..=10 => "SAVEPOINT s",
        11..=13 => "ROLLBACK TO s",
        14..=16 => "RELEASE s",
        17..=20 => "SAVEPOINT \"S 2\"",
        21 if choices.chance(50) => "ROLLBACK TO SAVEPOINT \"S 2\"",
        21 => "RELEASE SAVEPOINT \"S 2\"",
        22 => "SET CONSTRAINTS ALL DEFERRED",
        23 => "SET CONSTRAINTS ALL IMMEDIATE",
        24 => "SET LOCAL DateStyle = 'German'",
        25 => "SET TRANSACTION READ ONLY",
        26 => "SHOW transaction_isolation",
        27 => "COMMIT AND CHAIN",
        28 => "BEGIN",
        // Of one shard: that the name is taken on another one is not noticed.
        29 => "DECLARE c CURSOR FOR SELECT id, owner, name FROM acct WHERE id = 3",
        30 => "DECLARE c CURSOR FOR SELECT id, no, qty FROM line WHERE id = 3 ORDER BY no",
        31 => "FETCH 2 FROM c",
        32 => "FETCH ALL FROM c",
        33 => "CLOSE c",
        34 => "SET LOCAL IntervalStyle = 'iso_8601'",
        _ => "COMMIT",
    };
    Statement::plain("command", text)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Csv,
    Binary,
}

fn copy(choices: &mut Choices) -> Step {
    let tables: Vec<&Table> = TABLES.iter().filter(|it| it.group != Group::Reference || it.name == "ref2").collect();
    let table = tables[choices.below(tables.len())];
    let format = [Format::Text, Format::Csv, Format::Text, Format::Binary][choices.below(4)];
    let fits = |(at, (name, kind)): (usize, (&'static str, Kind)), choices: &mut Choices| {
        let in_format = format != Format::Binary || binary(kind, &value(kind, &mut *choices)).is_some();
        let needed = at == 0 || table.needed.contains(&name);
        kind != Kind::Made && in_format && (needed || choices.chance(70))
    };
    let is_whole = format != Format::Binary && choices.chance(30) && table.name != "solo";
    let columns: Vec<(&'static str, Kind)> = table
        .columns
        .iter()
        .copied()
        .enumerate()
        .filter(|it| if is_whole { it.1.1 != Kind::Made } else { fits(*it, choices) })
        .map(|it| it.1)
        .collect();
    let names: Vec<&str> = columns.iter().map(|it| it.0).collect();
    let list = if is_whole { String::new() } else { format!(" ({})", names.join(", ")) };
    // Delimiter, NULL, quote, escape, header.
    let (options, delimiter, null, quote, header) = match (format, choices.below(3)) {
        (Format::Text, 0) => ("", "\t", "\\N", "", false),
        (Format::Text, 1) => (" (DELIMITER '|', NULL 'nil')", "|", "nil", "", false),
        (Format::Text, _) => (" (HEADER)", "\t", "\\N", "", true),
        (Format::Csv, 0) => (" (FORMAT csv)", ",", "", "\"", false),
        (Format::Csv, 1) => (" CSV HEADER", ",", "", "\"", true),
        (Format::Csv, _) => (" (FORMAT csv, DELIMITER ';', QUOTE '''', NULL 'NIL')", ";", "NIL", "'", false),
        (Format::Binary, _) => (" (FORMAT binary)", "", "", "", false),
    };
    let mut data: Vec<u8> = Vec::new();
    if format == Format::Binary {
        data.extend(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    } else if header {
        data.extend(names.join(delimiter).bytes());
        data.push(b'\n');
    }
    let rows = [1, 3, 0, 6, 12, 25][choices.below(6)];
    for _ in 0..rows {
        let begin = choices.begin();
        let mut cells: Vec<(Kind, Option<String>)> = Vec::new();
        for (at, (name, kind)) in columns.iter().enumerate() {
            let text = match choices.below(100) {
                _ if at == 0 && choices.chance(98) => Some(key(table, 6, choices)),
                _ if *name == "code" => Some("a".to_owned()),
                0 if choices.chance(15) => Some(bad(*kind, choices)),
                1..=6 if at >= table.primary && !table.needed.contains(name) => None,
                7 if choices.chance(10) => None,
                _ if at < table.primary => Some(choices.below(300).to_string()),
                _ => Some(value(*kind, choices)),
            };
            cells.push((*kind, text));
        }
        match choices.below(400) {
            1 => cells.push((Kind::Int, None)),
            2 => drop(cells.pop()),
            _ => {}
        }
        match format {
            Format::Text => {
                let cells: Vec<String> =
                    cells.into_iter().map(|it| it.1.map_or(null.to_owned(), |it| escaped(&it, delimiter))).collect();
                data.extend(cells.join(delimiter).bytes());
                data.push(b'\n');
            }
            Format::Csv => {
                let cells: Vec<String> = cells
                    .into_iter()
                    .map(|it| match it.1 {
                        None => null.to_owned(),
                        Some(text) => {
                            let special = [delimiter, quote, "\n", "\\", "\t"].iter().any(|it| text.contains(it));
                            match special || text.is_empty() || text == null {
                                true => format!("{quote}{}{quote}", text.replace(quote, &quote.repeat(2))),
                                false => text,
                            }
                        }
                    })
                    .collect();
                data.extend(cells.join(delimiter).bytes());
                data.push(b'\n');
            }
            Format::Binary => {
                data.extend(u16::try_from(cells.len()).expect("few").to_be_bytes());
                for (kind, text) in cells {
                    // What is no value becomes one byte, which none of the types has.
                    let bytes = text.map(|it| binary(kind, &it).unwrap_or(vec![7]));
                    let length = bytes.as_ref().map_or(-1, |it| i32::try_from(it.len()).expect("short"));
                    data.extend(length.to_be_bytes());
                    data.extend(bytes.unwrap_or_default());
                }
            }
        }
        choices.end(begin);
    }
    if format == Format::Binary {
        data.extend([0xff, 0xff]);
    }
    let copy = Statement::plain("COPY", format!("COPY {}{list} FROM STDIN{options}", table.name));
    let part = [10_000, 50, 7][choices.below(3)];
    let extended = choices.chance(30);
    let around = !extended && choices.chance(25);
    let (before, after) = match around {
        true => (statements(choices, 1, 10), statements(choices, 1, 10)),
        false => (Vec::new(), Vec::new()),
    };
    Step::Copy { before, copy, data, after, part, extended }
}

fn escaped(text: &str, delimiter: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t");
    if delimiter == "\t" { text } else { text.replace(delimiter, &format!("\\{delimiter}")) }
}
