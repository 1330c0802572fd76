//! What is said of tables, whatever engine their servers are.

use super::fit::Finding;
use super::fit::Severity;
use crate::ident::TableName;

/// How much of a key is shown.
const KEY_SHOWN: usize = 100;

/// At most so many characters of a value, on one line whatever it holds.
pub(in super::super) fn shown(value: &str, most: usize) -> String {
    let mut text = String::new();
    for c in value.chars().take(most) {
        if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text
}

pub(in super::super) fn rows_in_words(count: i64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

fn error(findings: &mut Vec<Finding>, code: &'static str, message: String, hint: &str) {
    findings.push(Finding::new(Severity::Error, code, message, hint));
}

/// Rows of a sharded table that have no key.
pub(in super::super) fn without_key(table: &TableName, shard: &str, key: &str, rows: i64, findings: &mut Vec<Finding>) {
    let message = format!(
        "sharded table \"{table}\": {} on shard \"{shard}\" without a key ({key} is NULL)",
        rows_in_words(rows)
    );
    let hint = "No statement that names a key finds them: give them one, or delete them, by a connection to that \
                shard; then SET NOT NULL.";
    error(findings, "key-null", message, hint);
}

/// Rows of a sharded table that are not where their keys belong.
pub(in super::super) fn misplaced(table: &TableName, shard: &str, rows: i64, findings: &mut Vec<Finding>) {
    let message =
        format!("sharded table \"{table}\": {} on shard \"{shard}\" that belong elsewhere", rows_in_words(rows));
    let hint = "Statements that name their keys do not find them there. Move them, by connections to the shards, within one \
                transaction each; the findings that follow name some.";
    error(findings, "rows-misplaced", message, hint);
}

/// One of them. `home` is where it belongs (`None`: nowhere), and `there` whether rows of its key are there as well.
pub(in super::super) fn one_misplaced(
    table: &TableName,
    shard: &str,
    home: Option<&str>,
    key: &str,
    there: bool,
    findings: &mut Vec<Finding>,
) {
    let shown = shown(key, KEY_SHOWN);
    let Some(home) = home else {
        let message = format!("sharded table \"{table}\": key {shown} is on shard \"{shard}\", and no shard takes it");
        error(findings, "row-nowhere", message, "Give the map a place for it, or delete the row there.");
        return;
    };
    let too = if there { ", where there are rows of this key as well" } else { "" };
    let message =
        format!("sharded table \"{table}\": key {shown} is on shard \"{shard}\" and belongs to \"{home}\"{too}");
    let hint = "It is not found by its key, and counted twice where both shards have it: move or delete it there.";
    error(findings, "row-misplaced", message, hint);
}

/// What is said of a sharded table in one line.
pub(in super::super) fn sharded(rows: i64, wrong: i64) -> String {
    if wrong == 0 {
        format!("sharded, {}, each on the shard of its key", rows_in_words(rows))
    } else {
        format!("sharded, {}, {wrong} of them NOT on the shard of their key", rows_in_words(rows))
    }
}

/// An unsharded table has rows on a shard that is not its home.
pub(in super::super) fn astray(table: &TableName, shard: &str, findings: &mut Vec<Finding>) {
    let message = format!("unsharded table \"{table}\" has rows on shard \"{shard}\", which is not its home");
    let hint = "Nothing reads them there: if they are nobody's own, drop that table.";
    findings.push(Finding::new(Severity::Warning, "rows-astray", message, hint));
}

/// What is said of an unsharded table in one line.
pub(in super::super) fn unsharded(astray: bool) -> String {
    if astray { "unsharded, with rows elsewhere too".to_owned() } else { "unsharded, at home".to_owned() }
}

/// Copies of a reference table that differ, how many rows they have and how some differ.
pub(in super::super) fn copies_differ<'a>(
    table: &TableName,
    copies: impl Iterator<Item = (&'a str, i64)>,
    rows: &[String],
    findings: &mut Vec<Finding>,
) {
    let counts: Vec<String> = copies.map(|(shard, rows)| format!("{} on \"{shard}\"", rows_in_words(rows))).collect();
    let hint = "Decide which copy is right, and make the others like it by connections to their shards.";
    let message = format!("the copies of reference table \"{table}\" differ: {}", counts.join(", "));
    error(findings, "copies-differ", message, hint);
    for said in rows {
        error(findings, "row-differs", format!("reference table \"{table}\": {said}"), hint);
    }
}

/// What is said of a reference table in one line: its rows, if all copies are the same, and how many those are.
pub(in super::super) fn reference(rows: Option<i64>, copies: usize) -> String {
    match rows {
        Some(rows) => format!("reference, {}, the same on {copies} shards", rows_in_words(rows)),
        None => "reference, and the copies DIFFER".to_owned(),
    }
}
