//! Writes and transactions made up of choices.

use std::fmt::Write as _;

use crate::choices::Choices;
use crate::schema::KEYS;
use crate::schema::Sort;
use crate::schema::Table;

/// The statements of a transaction, or such that stand alone.
pub(crate) fn script(choices: &mut Choices, tables: &[Table]) -> Vec<String> {
    let mut all = Vec::new();
    let block = choices.chance(75);
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
        if all[0].starts_with("SET") {
            all.push("SET autocommit = 1".to_owned());
        }
    }
    all
}

fn statement(choices: &mut Choices, tables: &[Table], block: bool) -> String {
    let table = &tables[choices.below(tables.len())];
    match choices.below(if block { 20 } else { 14 }) {
        0..=3 => insert(choices, table),
        4..=5 => update(choices, table),
        6..=7 => delete(choices, table),
        8 => on_duplicate(choices, table),
        9 => format!("REPLACE INTO {} VALUES {}", table.name, rows(choices, table)),
        10 => format!("INSERT IGNORE INTO {} VALUES {}", table.name, rows(choices, table)),
        11 => copy(choices, table),
        12..=13 => read(choices, table),
        14..=15 => format!("SAVEPOINT p{}", choices.below(3)),
        16 => format!("ROLLBACK TO SAVEPOINT p{}", choices.below(3)),
        17 => format!("RELEASE SAVEPOINT p{}", choices.below(3)),
        _ => read(choices, table),
    }
}

fn rows(choices: &mut Choices, table: &Table) -> String {
    let count = [1, 1, 1, 2, 3, 5][choices.below(6)];
    let rows: Vec<String> = (0..count).map(|_| table.row(choices)).collect();
    rows.join(", ")
}

fn insert(choices: &mut Choices, table: &Table) -> String {
    if choices.chance(50) {
        return format!("INSERT INTO {} VALUES {}", table.name, rows(choices, table));
    }
    // Some columns, in another order; the others have defaults, or must not be left out.
    let mut names = vec!["n".to_owned(), "k".to_owned()];
    let wanted: Vec<_> = table.columns.iter().filter(|it| !it.nullable || choices.chance(60)).collect();
    names.extend(wanted.iter().map(|it| it.name.clone()));
    let count = [1, 1, 2, 3][choices.below(4)];
    let mut rows = Vec::new();
    for _ in 0..count {
        let mut row = format!("({}, {}", Table::number(choices), table.key(choices));
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
