//! Constants of a statement become parameters, bound as drivers bind them: integers of any width, doubles for numbers, texts
//! for dates and numbers, bytes for texts, NULL, and long data.

use crate::choices::Choices;
use crate::client::Answer;
use crate::client::Client;
use crate::client::Types;
use crate::client::Value;

/// A statement and what is bound to its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) sql: String,
    values: Vec<Given>,
}

/// A parameter's value.
#[derive(Clone, Debug)]
enum Given {
    Null,
    Tiny(i8),
    Short(i16),
    Int(i32),
    Long(i64),
    Unsigned(u64),
    Float(f32),
    Double(f64),
    Text(String),
    Bytes(String),
    Decimal(String),
    Date(u16, u8, u8),
    Moment((u16, u8, u8), (u8, u8, u8, u32)),
    /// In two pieces, before the execution.
    Long2(String),
}

impl Given {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Tiny(it) => Value::Tiny(*it),
            Self::Short(it) => Value::Short(*it),
            Self::Int(it) => Value::Int(*it),
            Self::Long(it) => Value::Long(*it),
            Self::Unsigned(it) => Value::Unsigned(*it),
            Self::Float(it) => Value::Float(*it),
            Self::Double(it) => Value::Double(*it),
            Self::Text(it) => Value::Text(it),
            Self::Bytes(it) => Value::Bytes(it.as_bytes()),
            Self::Decimal(it) => Value::Decimal(it),
            Self::Date(year, month, day) => Value::Date(*year, *month, *day),
            Self::Moment(day, time) => Value::Moment(*day, *time),
            Self::Long2(_) => Value::Sent,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -- bound: {:?}", self.sql, self.values)
    }
}

impl Bound {
    /// Prepares it, executes it as often as said, and closes it. Behind the answers comes what was told of it when it was
    /// prepared.
    pub(crate) fn run(&self, client: &mut Client, times: usize) -> Vec<Answer> {
        let statement = match client.prepare(&self.sql) {
            Ok(statement) => statement,
            Err(failure) => return vec![Answer { error: Some(failure), ..Answer::default() }],
        };
        let mut answers = Vec::new();
        for time in 0..times {
            for (place, value) in (0..).zip(&self.values) {
                if let Given::Long2(text) = value {
                    let (one, other) = text.as_bytes().split_at(text.len() / 2);
                    client.long_data(&statement, place, one);
                    client.long_data(&statement, place, other);
                }
            }
            let values: Vec<Value<'_>> = self.values.iter().map(Given::value).collect();
            let types = if time == 0 { Types::Told } else { Types::AsBefore };
            answers.extend(client.execute(&statement, &values, types));
            if let Some(answer) = answers.last().filter(|it| it.error.is_some() || it.warnings > 0) {
                if answer.error.is_none() {
                    answers.extend(client.query("SHOW WARNINGS"));
                }
                break;
            }
        }
        client.close(&statement);
        answers.push(Answer {
            columns: (!statement.columns.is_empty()).then_some(statement.columns),
            affected: statement.prepared.parameters.into(),
            warnings: statement.prepared.warnings,
            ..Answer::default()
        });
        answers
    }
}

/// The words of a statement in which a constant is not what its value is, but a place or a part of the syntax.
const ORDERING: [&str; 2] = ["ORDER", "GROUP"];

/// Puts parameters in the place of some constants.
pub(crate) fn bind(choices: &mut Choices, sql: &str) -> Bound {
    let grouped = sql.contains("GROUP BY") || sql.contains("DISTINCT");
    let bytes = sql.as_bytes();
    let mut bound = Bound { sql: String::with_capacity(sql.len()), values: Vec::new() };
    // For each open parenthesis: within ORDER BY or GROUP BY, and within what SELECT lists.
    let mut levels = vec![(false, false)];
    let (mut last, mut before) = (String::new(), String::new());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &sql[at..];
        let end = match bytes[at] {
            b'\'' => at + quoted(rest),
            b'`' => at + 2 + rest[1..].find('`').unwrap_or(rest.len() - 2),
            byte if byte.is_ascii_digit() => {
                let number = |it: char| it.is_ascii_digit() || it == '.';
                at + rest.find(|it: char| !number(it)).unwrap_or(rest.len())
            }
            byte if byte.is_ascii_alphabetic() || byte == b'_' || byte == b'@' => {
                let word = |it: char| it.is_alphanumeric() || it == '_' || it == '@' || it == '.' || it == '*';
                at + rest.find(|it: char| !word(it)).unwrap_or(rest.len())
            }
            _ => at + rest.chars().next().map_or(1, char::len_utf8),
        };
        let token = &sql[at..end];
        let top = levels.last_mut().expect("the statement's own");
        let first = token.as_bytes()[0];
        let is_literal = first == b'\'' || first.is_ascii_digit();
        let prefixed = first == b'\'' && sql[..at].ends_with(|it: char| it.is_ascii_alphanumeric());
        let fixed =
            top.0 || (grouped && top.1) || matches!(&*last, "SEPARATOR" | "BETWEEN" | "AND" if before == "ROWS");
        let fixed = fixed || matches!(&*last, "SEPARATOR" | "AS" | "CHARSET" | "SAVEPOINT" | "=>" | "JSON_PATH");
        let fixed = fixed || token.starts_with("'$") || (prefixed && !matches!(&*last, "DATE" | "TIMESTAMP"));
        if is_literal && !fixed && choices.chance(65) {
            if prefixed {
                bound.sql.truncate(bound.sql.len() - last.len());
            }
            let begin = choices.begin();
            bound.values.push(if first == b'\'' {
                text(choices, token.trim_matches('\'').replace("''", "'"))
            } else {
                number(choices, token, matches!(&*last, "LIMIT" | "OFFSET" | "INTERVAL") || before == "LIMIT")
            });
            choices.end(begin);
            bound.sql.push('?');
        } else {
            bound.sql.push_str(token);
        }
        match first {
            b'(' => levels.push((false, false)),
            b')' => {
                if levels.len() > 1 {
                    levels.pop();
                }
            }
            _ if first.is_ascii_alphabetic() => {
                match token {
                    "BY" => top.0 = ORDERING.contains(&&*last) || last == "PARTITION",
                    "SELECT" => *top = (false, true),
                    "FROM" => *top = (false, false),
                    "LIMIT" | "HAVING" | "WHERE" | "SEPARATOR" | "UNION" | "EXCEPT" | "INTERSECT" => top.0 = false,
                    _ => {}
                }
                before = std::mem::replace(&mut last, token.to_owned());
            }
            b' ' => {}
            _ => before = std::mem::replace(&mut last, token.to_owned()),
        }
        at = end;
    }
    bound
}

/// How long a quoted text is, with its quotes.
fn quoted(rest: &str) -> usize {
    let mut at = 1;
    while let Some(found) = rest[at..].find('\'') {
        at += found + 1;
        if !rest[at..].starts_with('\'') {
            return at;
        }
        at += 1;
    }
    rest.len()
}

fn number(choices: &mut Choices, token: &str, is_count: bool) -> Given {
    let whole: Option<u64> = token.parse().ok();
    let double = || Given::Double(token.parse().expect("a number"));
    let Some(value) = whole else {
        return match choices.below(10) {
            0..=4 => double(),
            5..=6 => Given::Decimal(token.to_owned()),
            7 => Given::Float(token.parse().expect("a number")),
            8 => Given::Text(token.to_owned()),
            _ => Given::Null,
        };
    };
    let long = i64::try_from(value).map_or(Given::Unsigned(value), Given::Long);
    if is_count {
        return match choices.below(4) {
            0..=1 => long,
            2 => Given::Int(i32::try_from(value).unwrap_or(0)),
            _ => Given::Unsigned(value),
        };
    }
    match choices.below(24) {
        0..=4 => long,
        5..=6 => i8::try_from(value).map_or(long, Given::Tiny),
        7..=8 => i16::try_from(value).map_or(long, Given::Short),
        9..=11 => i32::try_from(value).map_or(long, Given::Int),
        12..=14 => Given::Unsigned(value),
        15..=18 => double(),
        19..=20 => Given::Text(token.to_owned()),
        21 => Given::Decimal(token.to_owned()),
        22 => Given::Long2(token.to_owned()),
        _ => Given::Null,
    }
}

fn text(choices: &mut Choices, text: String) -> Given {
    let day = |text: &str| {
        let mut parts = text.splitn(3, '-');
        Some((parts.next()?.parse::<u16>().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let time = |text: &str| {
        let (clock, micros) = text.split_once('.').unwrap_or((text, "0"));
        let mut parts = clock.splitn(3, ':');
        let micros = format!("{micros:0<6}").parse().ok()?;
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, micros))
    };
    let typed = match text.split_once(' ') {
        Some((date, clock)) => day(date).zip(time(clock)).map(|(date, clock)| Given::Moment(date, clock)),
        None => day(&text).map(|(year, month, day)| Given::Date(year, month, day)),
    };
    match (choices.below(20), typed) {
        (0..=8, Some(typed)) => typed,
        (17, _) => Given::Bytes(text),
        (18, _) => Given::Long2(text),
        (19, _) => Given::Null,
        _ => Given::Text(text),
    }
}

#[test]
fn constants_become_parameters_and_places_do_not() {
    let mut seen = 0;
    for seed in 0..200 {
        let bound = bind(
            &mut Choices::random(seed),
            "SELECT q1.c1, x'00ff', 'it''s' FROM s1 q1 WHERE k = 1 ORDER BY 2 LIMIT 3",
        );
        assert!(bound.sql.starts_with("SELECT q1.c1, x'00ff', ") && bound.sql.contains("ORDER BY 2 LIMIT "), "{bound}");
        assert_eq!(bound.sql.matches('?').count(), bound.values.len(), "{bound}");
        seen += usize::from(bound.sql == "SELECT q1.c1, x'00ff', ? FROM s1 q1 WHERE k = ? ORDER BY 2 LIMIT ?");
    }
    assert!(seen > 0);
    let by_words = bind(&mut Choices::random(2), "SELECT g FROM t WHERE d > DATE'2020-02-29' GROUP BY g");
    assert!(!by_words.sql.contains("DATE?"), "{by_words}");
}
