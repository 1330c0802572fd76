//! Writes and transactions made up of choices.

use std::fmt::Write as _;

use crate::choices::Choices;
use crate::schema::Counts;
use crate::schema::KEYS;
use crate::schema::Sort;
use crate::schema::Table;

/// The statements of a transaction, or such that stand alone.
pub(crate) fn script(choices: &mut Choices, tables: &[Table]) -> Vec<String> {
    let mut all = Vec::new();
    let block = choices.chance(75);
    if block && choices.chance(15) {
        let level = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "READ UNCOMMITTED"][choices.below(4)];
        all.push(format!("SET TRANSACTION ISOLATION LEVEL {level}"));
    }
    let from = all.len();
    if block {
        all.push(["BEGIN", "START TRANSACTION", "SET autocommit = 0"][choices.below(3)].to_owned());
    }
    for _ in 0..=choices.below(6) {
        let begin = choices.begin();
        all.push(statement(choices, tables, block));
        choices.end(begin);
    }
    if block {
        all.push(if choices.chance(25) { "ROLLBACK" } else { "COMMIT" }.to_owned());
        if all[from].starts_with("SET") {
            all.push("SET autocommit = 1".to_owned());
        }
    }
    all
}

fn statement(choices: &mut Choices, tables: &[Table], block: bool) -> String {
    let table = &tables[choices.below(tables.len())];
    match choices.below(if block { 26 } else { 20 }) {
        0..=3 => insert(choices, table),
        4..=5 => update(choices, table),
        6..=7 => delete(choices, table),
        8 => on_duplicate(choices, table),
        9 => format!("REPLACE INTO {} VALUES {}", table.name, rows(choices, table)),
        10 => format!("INSERT IGNORE INTO {} VALUES {}", table.name, rows(choices, table)),
        11 => copy(choices, table),
        12..=13 => read(choices, table),
        14 => LEFT_BEHIND[choices.below(LEFT_BEHIND.len())].to_owned(),
        15 => wrong(choices, table),
        kind @ 16..=18 => {
            let other = &tables[choices.below(tables.len())];
            // Which text meets a number, and fails to be one, hangs on the plan.
            let other = if kind == 18 || table.text_key == other.text_key { other } else { table };
            if kind == 18 { between(choices, table, other) } else { of_two(choices, table, other) }
        }
        // It ends a transaction, and what is counted begins anew.
        19 if choices.chance(25) => format!("TRUNCATE TABLE {}", table.name),
        19 => format!("{} RETURNING k, n", insert(choices, table)),
        20..=21 => format!("SAVEPOINT p{}", choices.below(3)),
        22 => format!("ROLLBACK TO SAVEPOINT p{}", choices.below(3)),
        23 => format!("RELEASE SAVEPOINT p{}", choices.below(3)),
        _ => read(choices, table),
    }
}

/// Asks for what the statement before has left.
const LEFT_BEHIND: [&str; 3] = [
    "SELECT LAST_INSERT_ID(), ROW_COUNT()",
    "SELECT LAST_INSERT_ID()",
    // Of an error that comes with others the proxy knows the one that it was told.
    "SELECT @@identity, @@warning_count > 0 AS warned, @@error_count > 0 AS failed",
];

/// A row with a value that does not fit, alone or behind others.
fn wrong(choices: &mut Choices, table: &Table) -> String {
    let column = &table.columns[choices.below(table.columns.len())];
    let value = ["'no number, no date, and far too long for anything'", "99999999999999999999", "NULL", "'2020-13-45'"]
        [choices.below(4)];
    let ignore = if choices.chance(30) { "IGNORE " } else { "" };
    if choices.chance(40) {
        let condition = condition(choices, table);
        return format!("UPDATE {ignore}{} SET {} = {value}{condition}", table.name, column.name);
    }
    let mut rows: Vec<String> = Vec::new();
    for _ in 0..=choices.below(3) {
        rows.push(format!("({}, {}, {})", table.key(choices), Table::number(choices), column.value(choices)));
    }
    rows.push(format!("({}, {}, {value})", table.key(choices), Table::number(choices)));
    format!("INSERT {ignore}INTO {} (k, n, {}) VALUES {}", table.name, column.name, rows.join(", "))
}

/// UPDATE or DELETE of rows that have others in a second table, mostly on one shard.
fn of_two(choices: &mut Choices, table: &Table, other: &Table) -> String {
    let at = if choices.chance(80) { format!(" AND t.k = {}", table.key(choices)) } else { String::new() };
    let joined = format!("{} t JOIN {} o ON t.k = o.k AND t.n = o.n", table.name, other.name);
    match choices.below(3) {
        0 => format!("DELETE t FROM {joined}{}", at.replacen(" AND", " WHERE", 1)),
        1 => format!(
            "DELETE FROM {} WHERE EXISTS (SELECT 1 FROM {} o WHERE o.k = {0}.k AND o.n = {0}.n){}",
            table.name,
            other.name,
            at.replace("t.k", "k"),
        ),
        _ => {
            let column = &table.columns[free(choices, table)];
            let value = column.value(choices);
            format!("UPDATE {joined} SET t.{} = {value}{}", column.name, at.replacen(" AND", " WHERE", 1))
        }
    }
}

/// INSERT … SELECT from another table, mostly within a shard.
fn between(choices: &mut Choices, table: &Table, other: &Table) -> String {
    let at = if choices.chance(75) { format!("k = {}", other.key(choices)) } else { "n = 2".to_owned() };
    let word = ["INSERT", "INSERT IGNORE", "REPLACE"][choices.below(3)];
    let more = choices.below(4) + 20;
    format!("{word} INTO {} (k, n) SELECT k, n + {more} FROM {} WHERE {at} ORDER BY k, n", table.name, other.name)
}

fn rows(choices: &mut Choices, table: &Table) -> String {
    let count = [1, 1, 1, 2, 3, 5][choices.below(6)];
    let rows: Vec<String> = (0..count).map(|_| table.counted_row(choices)).collect();
    rows.join(", ")
}

fn insert(choices: &mut Choices, table: &Table) -> String {
    if choices.chance(50) {
        return format!("INSERT INTO {} VALUES {}", table.name, rows(choices, table));
    }
    // Some columns, in another order; the others have defaults, or must not be left out.
    let mut names = vec!["n".to_owned(), "k".to_owned()];
    // What is counted may be left out.
    let left_out = match table.counts {
        Counts::Key if choices.chance(60) => Some(1),
        Counts::Number if choices.chance(60) => Some(0),
        _ => None,
    };
    if let Some(place) = left_out {
        names.remove(place);
    }
    let wanted: Vec<_> = table.columns.iter().filter(|it| !it.nullable || choices.chance(60)).collect();
    names.extend(wanted.iter().map(|it| it.name.clone()));
    let count = [1, 1, 2, 3][choices.below(4)];
    let mut rows = Vec::new();
    for _ in 0..count {
        let (number, key) = (Table::number(choices), table.key(choices));
        let mut row = match left_out {
            Some(0) => format!("({key}"),
            Some(_) => format!("({number}"),
            None => format!("({number}, {key}"),
        };
        for column in &wanted {
            let value = if choices.chance(8) { "DEFAULT".to_owned() } else { column.value(choices) };
            // Writing to a String cannot fail.
            let _ = write!(row, ", {value}");
        }
        rows.push(row + ")");
    }
    format!("INSERT INTO {} ({}) VALUES {}", table.name, names.join(", "), rows.join(", "))
}

/// A column that is no part of a unique key: in which order rows are changed is nobody's matter then.
fn free(choices: &mut Choices, table: &Table) -> usize {
    let free: Vec<usize> = (0..table.columns.len()).filter(|it| table.unique != Some(*it)).collect();
    free[choices.below(free.len())]
}

fn assignment(choices: &mut Choices, table: &Table) -> String {
    let column = &table.columns[free(choices, table)];
    let value = match column.kind().sort {
        Sort::Number if choices.chance(40) => format!("{} + 1", column.name),
        Sort::Text if choices.chance(30) => format!("LEFT(CONCAT({}, 'x'), 4)", column.name),
        _ if choices.chance(10) => "DEFAULT".to_owned(),
        _ => column.value(choices),
    };
    format!("{} = {value}", column.name)
}

fn condition(choices: &mut Choices, table: &Table) -> String {
    let key = table.key(choices);
    match choices.below(9) {
        0..=3 => format!(" WHERE k = {key} AND n = {}", Table::number(choices)),
        4..=5 => format!(" WHERE k = {key}"),
        6 => format!(" WHERE k IN ({key}, {})", table.key(choices)),
        7 => format!(" WHERE n = {}", Table::number(choices)),
        _ => {
            let numbers: Vec<_> = table.columns.iter().filter(|it| it.kind().sort == Sort::Number).collect();
            format!(" WHERE {} > {} AND n < 3", numbers[choices.below(numbers.len())].name, choices.below(12))
        }
    }
}

fn update(choices: &mut Choices, table: &Table) -> String {
    let mut set = assignment(choices, table);
    if choices.chance(25) {
        let more = assignment(choices, table);
        // The same column twice would depend on the order of both.
        if more.split(' ').next() != set.split(' ').next() {
            set = format!("{set}, {more}");
        }
    }
    let sql = format!("UPDATE {} SET {set}{}", table.name, condition(choices, table));
    if choices.chance(8) { format!("{sql} ORDER BY k, n LIMIT {}", choices.below(3) + 1) } else { sql }
}

fn delete(choices: &mut Choices, table: &Table) -> String {
    let sql = format!("DELETE FROM {}{}", table.name, condition(choices, table));
    match choices.below(12) {
        0 => format!("{sql} ORDER BY k, n LIMIT {}", choices.below(3) + 1),
        1 => format!("{sql} RETURNING k, n"),
        _ => sql,
    }
}

fn on_duplicate(choices: &mut Choices, table: &Table) -> String {
    let column = &table.columns[free(choices, table)].name;
    let set = match choices.below(3) {
        0 => format!("{column} = VALUES({column})"),
        1 => assignment(choices, table),
        _ => format!("{column} = {column}"),
    };
    format!("INSERT INTO {} VALUES {} ON DUPLICATE KEY UPDATE {set}", table.name, rows(choices, table))
}

/// INSERT … SELECT within a key, or of several.
fn copy(choices: &mut Choices, table: &Table) -> String {
    let columns: Vec<&str> = table.columns.iter().map(|it| it.name.as_str()).collect();
    let list = columns.join(", ");
    let condition = match choices.below(3) {
        0..=1 => format!("k = {}", table.key(choices)),
        _ => "n = 1".to_owned(),
    };
    format!(
        "INSERT IGNORE INTO {0} (k, n, {list}) SELECT k, n + {1}, {list} FROM {0} WHERE {condition}",
        table.name,
        choices.below(5) + KEYS,
    )
}

fn read(choices: &mut Choices, table: &Table) -> String {
    match choices.below(4) {
        0 => format!("SELECT COUNT(*), SUM(n) FROM {}{}", table.name, condition(choices, table)),
        1 => format!("SELECT * FROM {}{} ORDER BY k, n", table.name, condition(choices, table)),
        2 => format!("SELECT k, n FROM {}{} FOR UPDATE", table.name, condition(choices, table)),
        _ => format!("SELECT * FROM {}{}", table.name, condition(choices, table)),
    }
}
