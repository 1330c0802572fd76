//! Whether two answers to a step are the same, as far as one server can say the same twice.

use crate::bytes::Answer;
use crate::bytes::Failure;
use crate::bytes::Row;
use crate::scripts::Step;
use crate::statements::Part;
use crate::statements::Statement;

/// 2024-01-01, in microseconds since 2000: what is later was not written by a statement but is the server's time.
const NOW_MIN: i64 = 757_382_400_000_000;

/// Whether the proxy itself declined.
pub(crate) fn is_refused(answer: &Answer) -> bool {
    let codes = ["0A000", "22004", "53400", "55000"];
    // What is locked before it is read is looked at once; somebody else's transaction may end meanwhile.
    let no_moment = |it: &Failure| it.sqlstate == "40001" && it.message.contains("at one moment");
    answer.error.as_ref().is_some_and(|it| !it.by_server && (codes.contains(&&*it.sqlstate) || no_moment(it)))
}

/// How a step or a transaction came out.
pub(crate) enum Verdict {
    Alike,
    /// Both fail, and where several rows of several shards are wrong it may be by another one.
    OtherRow(String),
    Mismatch(String),
}

/// Whether a cell is a time of the server's own, or a uuid that it made up: in binary, or as text in the styles of these
/// sessions. Those of the statements are old, or have zeros.
fn is_own(cell: &[u8]) -> bool {
    let is_time = match cell.len() {
        8 => cell.try_into().is_ok_and(|it| i64::from_be_bytes(it) > NOW_MIN),
        22.. => {
            let (iso, german) = (cell.starts_with(b"202"), cell.get(6..9) == Some(b"202"));
            (iso && cell[4] == b'-') || (german && cell[2] == b'.')
        }
        _ => false,
    };
    let is_uuid = (cell.len() == 36 && cell[8] == b'-' && &cell[14..24] != b"4000-8000-")
        || (cell.len() == 16 && cell[6] >> 4 == 4 && cell[8] >> 6 == 2 && cell[6..10] != [0x40, 0, 0x80, 0]);
    is_time || is_uuid
}

/// Rows with the server's own times and chance made the same.
fn rows_of(answer: &Answer, in_order: bool) -> Vec<Row> {
    let mut rows = answer.rows.clone();
    for cell in rows.iter_mut().flatten().flatten().filter(|it| is_own(it)) {
        *cell = b"its own".to_vec();
    }
    if !in_order {
        rows.sort();
    }
    rows
}

pub(crate) fn compare(step: &Step, ours: &Answer, plain: &Answer, width: usize) -> Verdict {
    let both =
        |what: &str| Verdict::Mismatch(format!("{what}: {} where one server says {}", shown(ours), shown(plain)));
    let states =
        |it: &Answer| it.error.as_ref().map(|it| (it.sqlstate.clone(), it.message.clone(), it.context.clone()));
    if ours.tags != plain.tags {
        return both("tags");
    }
    if ours.status != plain.status {
        return both("status");
    }
    match (states(ours), states(plain)) {
        (None, None) => {}
        (Some(a), Some(b)) if a == b => return Verdict::Alike,
        (Some(a), Some(b)) if (width > 1 || reads_rows(step)) && is_of_a_row(step, &a.0) && is_of_a_row(step, &b.0) => {
            return Verdict::OtherRow(format!("{} for {}", a.0, b.0));
        }
        (Some(a), Some(b)) if width > 1 && is_of_a_table(step, &a.0) && is_of_a_table(step, &b.0) => {
            return Verdict::OtherRow(format!("{} for {}", a.0, b.0));
        }
        _ => return both("error"),
    }
    let kinds = |it: &Answer| -> Option<Vec<(String, u32)>> {
        let columns = it.columns.clone()?;
        // Types of the schema's own have a number on each server.
        Some(columns.into_iter().map(|(name, oid)| (name, if oid < 16_384 { oid } else { 0 })).collect())
    };
    if kinds(ours) != kinds(plain) {
        return both("columns");
    }
    let in_order = step.statements().iter().all(|it| it.in_order);
    if rows_of(ours, in_order) != rows_of(plain, in_order) {
        return both("rows");
    }
    if ours.notices != plain.notices {
        return both("notices");
    }
    Verdict::Alike
}

/// Errors that a row's values raise: where several rows do, which one is first depends on the order of rows.
fn is_of_a_row(step: &Step, sqlstate: &str) -> bool {
    let is_value = sqlstate.starts_with("22") || sqlstate.starts_with("23") || sqlstate == "21000";
    // ON CONFLICT and a constraint that is deferrable: raised when the first row comes to it.
    let is_value = is_value || sqlstate == "55000";
    // In binary what is too short or too long.
    is_value || (sqlstate == "08P01" && matches!(step, Step::Copy { .. }))
}

/// Errors of TRUNCATE: a table that is in use on one shard is told of before what all shards would say.
fn is_of_a_table(step: &Step, sqlstate: &str) -> bool {
    let truncates = |part: &Part| matches!(part, Part::Text(text) if text.starts_with("TRUNCATE"));
    let truncates = step.statements().iter().any(|it| it.parts.iter().any(truncates));
    truncates && matches!(sqlstate, "0A000" | "55006")
}

/// Whether it takes stored rows in the order in which they lie, which is a server's own.
fn reads_rows(step: &Step) -> bool {
    step.statements().iter().any(|it| it.what != "INSERT … VALUES")
}

pub(crate) fn shown(answer: &Answer) -> String {
    let notices = if answer.notices.is_empty() { String::new() } else { format!(" notices {:?}", answer.notices) };
    let error = answer.error.as_ref().map_or(String::new(), |it| format!(" {it} ({}) {}", it.detail, it.context));
    format!(
        "{:?}{error} {} {}{notices}",
        answer.tags,
        char::from(answer.status.max(b'-')),
        crate::house::shown(&answer.rows)
    )
}

#[test]
fn answers_that_differ_are_told_apart() {
    let statement = || Statement::plain("SELECT", "SELECT");
    let step = |in_order| Step::Query(vec![Statement { in_order, ..statement() }]);
    let row = |it: &str| vec![Some(it.as_bytes().to_vec())];
    let base = Answer {
        columns: Some(vec![("a".to_owned(), 25)]),
        rows: vec![row("x"), row("y")],
        tags: vec!["SELECT 2".to_owned()],
        status: b'I',
        ..Answer::default()
    };
    let failed = |sqlstate: &str, by_server| Answer {
        error: Some(Failure {
            sqlstate: sqlstate.to_owned(),
            message: "no".to_owned(),
            hint: String::new(),
            detail: String::new(),
            context: String::new(),
            by_server,
        }),
        tags: Vec::new(),
        ..base.clone()
    };
    let alike = |in_order, a: &Answer, b: &Answer| matches!(compare(&step(in_order), a, b, 3), Verdict::Alike);
    let turned = Answer { rows: vec![row("y"), row("x")], ..base.clone() };
    assert!(alike(true, &base, &base) && alike(false, &base, &turned) && !alike(true, &base, &turned));
    let others = [
        Answer { rows: vec![row("x")], ..base.clone() },
        Answer { rows: vec![row("x"), vec![None]], ..base.clone() },
        Answer { tags: vec!["SELECT 3".to_owned()], ..base.clone() },
        Answer { status: b'T', ..base.clone() },
        Answer { columns: Some(vec![("b".to_owned(), 25)]), ..base.clone() },
        Answer { columns: Some(vec![("a".to_owned(), 23)]), ..base.clone() },
        Answer { notices: vec![("01000".to_owned(), "oh".to_owned())], ..base.clone() },
        failed("22012", true),
    ];
    for other in &others {
        assert!(!alike(false, &base, other) && !alike(false, other, &base), "{other:?}");
    }
    let of_row = |a: &str, b: &str, width| compare(&step(false), &failed(a, true), &failed(b, true), width);
    assert!(matches!(of_row("23505", "23502", 3), Verdict::OtherRow(_)));
    assert!(matches!(of_row("23505", "23502", 1), Verdict::OtherRow(_)));
    let values = Step::Query(vec![Statement::plain("INSERT … VALUES", "INSERT")]);
    let one = compare(&values, &failed("23505", true), &failed("23502", true), 1);
    assert!(matches!(one, Verdict::Mismatch(_)));
    assert!(matches!(of_row("42703", "23502", 3), Verdict::Mismatch(_)));
    assert!(is_refused(&failed("0A000", false)) && !is_refused(&failed("0A000", true)));
    assert!(!is_refused(&failed("25P02", false)) && !is_refused(&failed("40001", false)));
    // Times of its own are each server's.
    let timed = |it: &[u8]| Answer {
        columns: Some(vec![("at".to_owned(), 1184)]),
        rows: vec![vec![Some(it.to_vec())]],
        ..base.clone()
    };
    assert!(alike(true, &timed(b"2026-01-02 03:04:05+00"), &timed(b"2026-01-02 03:04:06+00")));
    assert!(!alike(true, &timed(b"2001-01-02 03:04:05+00"), &timed(b"2001-01-02 03:04:06+00")));
}
