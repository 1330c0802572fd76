//! What differs between two answers, in words.

use shardway::wire::mysql::status;

use crate::client::Answer;
use crate::client::Change;
use crate::client::Column;
use crate::client::Failure;
use crate::client::LOST;
use crate::client::Row;

/// Flags that tell of the session. Others tell how the server went about it.
const FLAGS: [(u16, &str); 9] = [
    (status::IN_TRANSACTION, "IN_TRANS"),
    (status::AUTOCOMMIT, "AUTOCOMMIT"),
    (status::MORE_RESULTS, "MORE_RESULTS"),
    (status::CURSOR_EXISTS, "CURSOR_EXISTS"),
    (status::LAST_ROW_SENT, "LAST_ROW_SENT"),
    (status::DATABASE_DROPPED, "DB_DROPPED"),
    (status::NO_BACKSLASH_ESCAPES, "NO_BACKSLASH_ESCAPES"),
    (status::OUT_PARAMETERS, "PS_OUT_PARAMS"),
    (status::IN_TRANSACTION_READ_ONLY, "IN_TRANS_READONLY"),
];

/// The errors that the proxy declines with, and how the server's own of that number begin.
const REFUSALS: [(u16, &str, &str); 2] =
    // A write that gives its shard key no value is the second.
    [(1235, "42000", "This version of MariaDB"), (1364, "HY000", "Field '")];

/// Whether the proxy itself declined.
pub(crate) fn is_refused(answers: &[Answer]) -> bool {
    let refused = |it: &Failure| {
        let mut known = REFUSALS.iter();
        known.any(|(errno, state, own)| it.errno == *errno && it.sqlstate == *state && !it.message.starts_with(own))
    };
    answers.iter().any(|answer| answer.error.as_ref().is_some_and(refused))
}

/// The answers of the plain database, with the other's name in the place of its own.
pub(crate) fn renamed(answers: Vec<Answer>, width: usize) -> Vec<Answer> {
    renamed_from(answers, &format!("plain{width}"), &format!("d{width}"))
}

/// The same for any two names.
pub(crate) fn renamed_from(mut answers: Vec<Answer>, from: &str, to: &str) -> Vec<Answer> {
    let bytes = |bytes: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(bytes);
        if text.contains(from) {
            *bytes = text.replace(from, to).into_bytes();
        }
    };
    for answer in &mut answers {
        if let Some(error) = &mut answer.error {
            error.message = error.message.replace(from, to);
        }
        answer.info = answer.info.replace(from, to);
        for column in answer.columns.iter_mut().flatten() {
            rename_from(column, from, to);
        }
        answer.rows.iter_mut().flatten().flatten().for_each(bytes);
        for change in &mut answer.changes {
            if let Change::Database(name) = change {
                *name = name.replace(from, to);
            }
        }
    }
    answers
}

/// The same of one column.
pub(crate) fn rename(column: &mut Column, width: usize) {
    rename_from(column, &format!("plain{width}"), &format!("d{width}"));
}

fn rename_from(column: &mut Column, from: &str, to: &str) {
    for part in [&mut column.database, &mut column.table, &mut column.own_table, &mut column.name, &mut column.own_name]
    {
        let text = String::from_utf8_lossy(part);
        if text.contains(from) {
            *part = text.replace(from, to).into_bytes();
        }
    }
}

/// What a client can tell our answers from the other's by; `in_order`: rows too come in the same order.
pub(crate) fn difference(ours: &[Answer], theirs: &[Answer], in_order: bool) -> Option<String> {
    for (place, (our, their)) in ours.iter().zip(theirs).enumerate() {
        if let Some(what) = of_one(our, their, in_order) {
            return Some(if theirs.len() > 1 { format!("result {}: {what}", place + 1) } else { what });
        }
    }
    (ours.len() != theirs.len()).then(|| format!("{} results where one server gives {}", ours.len(), theirs.len()))
}

fn of_one(ours: &Answer, theirs: &Answer, in_order: bool) -> Option<String> {
    // In which words a connection ends is the system's affair.
    let is_lost = |answer: &Answer| answer.error.as_ref().is_some_and(|it| it.errno == LOST);
    if is_lost(ours) && is_lost(theirs) {
        return None;
    }
    if ours.error != theirs.error {
        let said = |answer: &Answer| match &answer.error {
            Some(error) => format!("error {error}"),
            None => summary(answer),
        };
        return Some(format!("{} where one server says {}", said(ours), said(theirs)));
    }
    // Rows that come before an error are nobody's promise.
    if ours.error.is_some() {
        return None;
    }
    if let Some(what) = columns(ours.columns.as_deref(), theirs.columns.as_deref()) {
        return Some(what);
    }
    let rows = |answer: &Answer| {
        let mut rows = answer.rows.clone();
        if !in_order {
            rows.sort();
        }
        rows
    };
    let (our_rows, their_rows) = (rows(ours), rows(theirs));
    if our_rows != their_rows {
        return Some(format!("rows {} where one server has {}", shown(&our_rows), shown(&their_rows)));
    }
    let numbers =
        |it: &Answer| [("affected rows", it.affected), ("insert id", it.insert_id), ("warnings", it.warnings.into())];
    for ((what, our), (_, their)) in numbers(ours).into_iter().zip(numbers(theirs)) {
        if our != their {
            return Some(format!("{what} {our} where one server says {their}"));
        }
    }
    if ours.info != theirs.info {
        return Some(format!("info {:?} where one server says {:?}", ours.info, theirs.info));
    }
    if flags(ours.status) != flags(theirs.status) {
        return Some(format!("status {} where one server has {}", flags(ours.status), flags(theirs.status)));
    }
    // Which of several variables a server tells first is its tables' affair.
    let told = |it: &Answer| {
        let mut told: Vec<String> = it.changes.iter().map(|change| format!("{change:?}")).collect();
        told.sort();
        told
    };
    let changes = (told(ours) != told(theirs)).then_some((&ours.changes, &theirs.changes));
    changes.map(|(ours, theirs)| format!("changes of the session {ours:?} where one server tells {theirs:?}"))
}

/// What differs in the columns' definitions.
pub(crate) fn columns(ours: Option<&[Column]>, theirs: Option<&[Column]>) -> Option<String> {
    let (ours, theirs) = match (ours, theirs) {
        (Some(ours), Some(theirs)) => (ours, theirs),
        (None, None) => return None,
        (Some(_), None) => return Some("rows where one server has none".to_owned()),
        (None, Some(_)) => return Some("no rows where one server has some, or at least columns".to_owned()),
    };
    if ours.len() != theirs.len() {
        return Some(format!("{} columns where one server has {}", ours.len(), theirs.len()));
    }
    let parts = |it: &Column| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        [
            ("database", text(&it.database)),
            ("table", text(&it.table)),
            ("own table", text(&it.own_table)),
            ("name", text(&it.name)),
            ("own name", text(&it.own_name)),
            ("collation", it.collation.to_string()),
            ("length", it.length.to_string()),
            ("type", it.kind.to_string()),
            ("flags", format!("{:#x}", it.flags)),
            ("decimals", it.decimals.to_string()),
        ]
    };
    for (place, (our, their)) in ours.iter().zip(theirs).enumerate() {
        for ((what, our), (_, their)) in parts(our).into_iter().zip(parts(their)) {
            if our != their {
                return Some(format!("column {}: {what} {our:?} where one server has {their:?}", place + 1));
            }
        }
    }
    None
}

fn summary(answer: &Answer) -> String {
    match &answer.columns {
        Some(_) => format!("rows {}", shown(&answer.rows)),
        None => format!("OK, {} rows affected", answer.affected),
    }
}

fn flags(status: u16) -> String {
    let set: Vec<&str> = FLAGS.iter().filter(|(bit, _)| status & bit != 0).map(|(_, name)| *name).collect();
    format!("[{}]", set.join(" "))
}

/// Rows as text; cells that are none are written in hex.
pub(crate) fn shown(rows: &[Row]) -> String {
    let cell = |cell: &Option<Vec<u8>>| match cell {
        None => "NULL".to_owned(),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
            _ => format!("0x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        },
    };
    let rows: Vec<String> = rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(",")).collect();
    format!("[{}]", rows.join(" | "))
}
