//! Statements that make, change and remove tables: which tables, told by their first words.

use std::sync::Arc;

use crate::sql::Constraints;
use crate::sql::cursor::Cursor;
use crate::sql::lex::Kind;
use crate::sql::lex::mysql as lex;
use crate::sql::mysql::keys;
use crate::sql::mysql::keys::Remade;

/// A table's name, and its database's if that is told.
pub(crate) type Named = (Option<Arc<str>>, Arc<str>);

/// What a statement does to tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Each with its database, if it is named.
    pub tables: Vec<Named>,
    /// What they count in AUTO_INCREMENT columns may begin anew.
    pub restarts: bool,
    /// Why it cannot be done shard by shard, and what to do instead.
    pub refused: Option<(&'static str, &'static str)>,
    /// Keys that it gives the first table.
    pub keys: Constraints,
    /// What it makes of columns of a table that is there.
    pub columns: Vec<(Arc<str>, Remade)>,
    /// IF NOT EXISTS: nothing is done to a table that is there.
    pub spared: bool,
}

/// Reads a statement that stands at the cursor; `None`: it is none of those that are known.
pub(crate) fn read(cursor: &mut Cursor<'_>) -> Option<Changed> {
    let changed = |tables, restarts| Some(Changed { tables, restarts, ..Changed::default() });
    if cursor.take("truncate") {
        cursor.take("table");
        return changed(vec![name(cursor)?], true);
    }
    if cursor.take("drop") {
        if cursor.take("index") {
            cursor.take_all(&["if", "exists"]);
            name(cursor)?;
            return if cursor.take("on") { changed(vec![name(cursor)?], false) } else { None };
        }
        if !cursor.take_any(&["table", "tables"]) {
            return None;
        }
        cursor.take_all(&["if", "exists"]);
        return changed(names(cursor)?, true);
    }
    if cursor.take("rename") {
        if !cursor.take_any(&["table", "tables"]) {
            return None;
        }
        let mut tables = Vec::new();
        loop {
            tables.push(name(cursor)?);
            if !cursor.take("to") {
                return None;
            }
            tables.push(name(cursor)?);
            if cursor.take_kind(Kind::Comma).is_none() {
                return changed(tables, true);
            }
        }
    }
    if cursor.take("alter") {
        cursor.take_any(&["online", "ignore"]);
        if !cursor.take("table") {
            return None;
        }
        cursor.take_all(&["if", "exists"]);
        let table = name(cursor)?;
        let refused = alteration(cursor);
        let counts = has(cursor, "auto_increment");
        let (keys, columns) = keys::altered(cursor);
        return Some(Changed { tables: vec![table], restarts: counts, refused, keys, columns, spared: false });
    }
    if cursor.take("create") {
        let replaces = cursor.take_all(&["or", "replace"]);
        let unique = cursor.take("unique");
        cursor.take_any(&["fulltext", "spatial"]);
        if cursor.take("index") {
            cursor.take_all(&["if", "not", "exists"]);
            name(cursor)?;
            if !(cursor.seek(&["on"]) && cursor.take("on")) {
                return None;
            }
            let tables = vec![name(cursor)?];
            let mut keys = Constraints::default();
            if unique {
                keys.unique.extend(keys::columns(cursor));
            }
            return Some(Changed { tables, keys, ..Changed::default() });
        }
        if !cursor.take("table") {
            return None;
        }
        let spared = cursor.take_all(&["if", "not", "exists"]);
        let table = name(cursor)?;
        let mut tables = vec![table];
        if cursor.take("like") {
            tables.push(name(cursor)?);
        }
        let refused = has(cursor, "select").then_some((
            "CREATE TABLE … SELECT over several shards",
            "Create the table, and insert into it by a statement of its own.",
        ));
        let keys = keys::created(cursor);
        return Some(Changed { tables, restarts: replaces || !spared, refused, keys, columns: Vec::new(), spared });
    }
    None
}

/// Whether a word stands in the rest.
fn has(cursor: &Cursor<'_>, word: &str) -> bool {
    (0..)
        .map_while(|at| cursor.peek_at(at))
        .any(|it| it.kind == Kind::Word && cursor.raw(it).eq_ignore_ascii_case(word))
}

/// What of ALTER TABLE cannot be done shard by shard.
fn alteration(cursor: &Cursor<'_>) -> Option<(&'static str, &'static str)> {
    let lexemes = || (0..).map_while(|at| cursor.peek_at(at).map(|it| (at, it)));
    let words = || lexemes().filter(|(_, it)| it.kind == Kind::Word);
    for (at, word) in words() {
        let raw = cursor.raw(word);
        if raw.eq_ignore_ascii_case("rename") && !["column", "index", "key"].iter().any(|it| cursor.is_at(at + 1, it)) {
            return Some((
                "ALTER TABLE … RENAME over several shards",
                "RENAME TABLE does the same, where the map has both names.",
            ));
        }
        let is_option = |it: &crate::sql::lex::Lexeme| it.kind == Kind::Integer || cursor.raw(*it) == "=";
        if raw.eq_ignore_ascii_case("auto_increment")
            && has(cursor, "add")
            && !cursor.peek_at(at + 1).is_some_and(|it| is_option(&it))
        {
            return Some((
                "ALTER TABLE … ADD of a column that is AUTO_INCREMENT over several shards",
                "Each shard would number its own rows: make a new table, and fill it.",
            ));
        }
        if ["exchange", "tablespace"].iter().any(|it| raw.eq_ignore_ascii_case(it)) {
            return Some((
                "ALTER TABLE … EXCHANGE PARTITION and TABLESPACE over several shards",
                "Run it on each shard's own server.",
            ));
        }
    }
    None
}

fn names(cursor: &mut Cursor<'_>) -> Option<Vec<Named>> {
    let mut found = vec![name(cursor)?];
    while cursor.take_kind(Kind::Comma).is_some() {
        found.push(name(cursor)?);
    }
    Some(found)
}

pub(super) fn name(cursor: &mut Cursor<'_>) -> Option<Named> {
    let first = word(cursor)?;
    match cursor.take_kind(Kind::Dot) {
        Some(_) => Some((Some(first), word(cursor)?)),
        None => Some((None, first)),
    }
}

pub(super) fn word(cursor: &mut Cursor<'_>) -> Option<Arc<str>> {
    let lexeme = cursor.peek()?;
    let name: Arc<str> = match lexeme.kind {
        Kind::Word => cursor.raw(lexeme).into(),
        Kind::Quoted => lex::unquote(cursor.raw(lexeme)).into(),
        _ => return None,
    };
    cursor.bump();
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::lex::mysql::Mode;

    fn told(text: &str) -> Option<(Vec<String>, bool, bool)> {
        let lexemes = lex::lexemes(text, 0..text.len(), None, Mode::default()).unwrap();
        let changed = read(&mut Cursor::new(text, &lexemes))?;
        let name = |(database, table): &Named| match database {
            Some(database) => format!("{database}.{table}"),
            None => table.to_string(),
        };
        Some((changed.tables.iter().map(name).collect(), changed.restarts, changed.refused.is_some()))
    }

    #[test]
    fn tables_are_found() {
        let found = |text: &str, tables: &[&str], restarts: bool, refused: bool| {
            let tables = tables.iter().map(ToString::to_string).collect();
            assert_eq!(told(text), Some((tables, restarts, refused)), "{text}");
        };
        found("TRUNCATE t", &["t"], true, false);
        found("DROP TABLE IF EXISTS `a b`, d.c", &["a b", "d.c"], true, false);
        found("RENAME TABLE a TO b, b TO c", &["a", "b", "b", "c"], true, false);
        found("ALTER TABLE t ADD COLUMN x int DEFAULT 5", &["t"], false, false);
        found("ALTER TABLE t AUTO_INCREMENT = 5", &["t"], true, false);
        found("ALTER TABLE t ADD x int AUTO_INCREMENT", &["t"], true, true);
        found("ALTER TABLE t RENAME TO x", &["t"], false, true);
        found("ALTER TABLE t RENAME COLUMN a TO x", &["t"], false, false);
        found("CREATE UNIQUE INDEX i ON t (a)", &["t"], false, false);
        found("DROP INDEX i ON t", &["t"], false, false);
        found("CREATE TABLE IF NOT EXISTS t (a int)", &["t"], false, false);
        found("CREATE TABLE t LIKE u", &["t", "u"], true, false);
        found("CREATE TABLE t AS SELECT 1", &["t"], true, true);
        for text in ["CREATE DATABASE x", "DROP VIEW v", "CREATE VIEW v AS SELECT 1", "ALTER DATABASE d", "DROP USER u"]
        {
            assert_eq!(told(text), None, "{text}");
        }
    }
}
