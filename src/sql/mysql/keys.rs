//! Keys and columns in CREATE TABLE, CREATE INDEX and ALTER TABLE, as far as a shard alone could not keep what they
//! promise. What is not understood is left out, for the servers to judge.

use std::sync::Arc;

use crate::sql::Constraints;
use crate::sql::Foreign;
use crate::sql::cursor::Cursor;
use crate::sql::ddl::skip;
use crate::sql::lex::Kind;
use crate::sql::mysql::ddl::name;
use crate::sql::mysql::ddl::word;

/// What ALTER TABLE makes of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remade {
    /// It is new.
    Added,
    /// It is dropped, or has another name.
    Gone,
    /// It has this type: its first word in lower case, and whether it is unsigned.
    Typed(String, bool),
}

/// What CREATE TABLE promises, behind the table's name.
pub(super) fn created(cursor: &mut Cursor<'_>) -> Constraints {
    let mut found = Constraints::default();
    elements(cursor, &mut found, &mut Vec::new());
    found
}

/// The columns of an index; one of which only a part, or something computed from it, counts is left out.
pub(super) fn columns(cursor: &mut Cursor<'_>) -> Option<Vec<Arc<str>>> {
    cursor.take_kind(Kind::Open)?;
    let mut found = Vec::new();
    loop {
        if let Some(name) = word(cursor)
            && !cursor.is_kind(Kind::Open)
        {
            found.push(name);
        }
        skip(cursor, |_| false);
        if cursor.take_kind(Kind::Comma).is_none() {
            cursor.take_kind(Kind::Close)?;
            return Some(found);
        }
    }
}

/// What ALTER TABLE promises, and does to columns, behind the table's name.
pub(super) fn altered(cursor: &mut Cursor<'_>) -> (Constraints, Vec<(Arc<str>, Remade)>) {
    let (mut found, mut remade) = (Constraints::default(), Vec::new());
    if cursor.take("wait") {
        cursor.bump();
    }
    cursor.take("nowait");
    loop {
        alteration(cursor, &mut found, &mut remade);
        skip(cursor, |_| false);
        if cursor.take_kind(Kind::Comma).is_none() {
            return (found, remade);
        }
    }
}

/// One part of ALTER TABLE; may stop within it.
fn alteration(cursor: &mut Cursor<'_>, found: &mut Constraints, remade: &mut Vec<(Arc<str>, Remade)>) -> Option<()> {
    if cursor.take("add") {
        cursor.take("column");
        cursor.take_all(&["if", "not", "exists"]);
        return match cursor.is_kind(Kind::Open) {
            true => elements(cursor, found, remade),
            false => element(cursor, found, remade),
        };
    }
    let changes = cursor.take("change");
    if changes || cursor.take("modify") {
        cursor.take("column");
        cursor.take_all(&["if", "exists"]);
        let former = word(cursor)?;
        let name = if changes { word(cursor)? } else { Arc::clone(&former) };
        let made = if former.eq_ignore_ascii_case(&name) { typed(&mut cursor.clone())? } else { Remade::Gone };
        remade.push((former, made));
        return definition(cursor, &name, found);
    }
    if cursor.take("drop") {
        let others = ["check", "constraint", "foreign", "index", "key", "partition", "period", "primary", "system"];
        if cursor.take("column") || !others.iter().any(|it| cursor.is(it)) {
            cursor.take_all(&["if", "exists"]);
            remade.push((word(cursor)?, Remade::Gone));
        }
    } else if cursor.take_all(&["rename", "column"]) {
        cursor.take_all(&["if", "exists"]);
        remade.push((word(cursor)?, Remade::Gone));
    }
    Some(())
}

fn elements(cursor: &mut Cursor<'_>, found: &mut Constraints, remade: &mut Vec<(Arc<str>, Remade)>) -> Option<()> {
    cursor.take_kind(Kind::Open)?;
    loop {
        element(cursor, found, remade);
        skip(cursor, |_| false);
        if cursor.take_kind(Kind::Comma).is_none() {
            return cursor.take_kind(Kind::Close).map(|_| ());
        }
    }
}

/// A column, a key or another constraint; may stop within it.
fn element(cursor: &mut Cursor<'_>, found: &mut Constraints, remade: &mut Vec<(Arc<str>, Remade)>) -> Option<()> {
    let constraint = cursor.take("constraint");
    if constraint && !["check", "foreign", "primary", "unique"].iter().any(|it| cursor.is(it)) {
        word(cursor)?;
    }
    if cursor.take_all(&["primary", "key"]) {
        found.unique.push(indexed(cursor)?);
    } else if cursor.take("unique") {
        cursor.take_any(&["index", "key"]);
        found.unique.push(indexed(cursor)?);
    } else if cursor.take_all(&["foreign", "key"]) {
        cursor.take_all(&["if", "not", "exists"]);
        if !cursor.is_kind(Kind::Open) {
            word(cursor)?;
        }
        let own = columns(cursor)?;
        if cursor.take("references") {
            references(cursor, own, found)?;
        }
    } else if !constraint && !["check", "fulltext", "index", "key", "spatial"].iter().any(|it| cursor.is(it)) {
        let name = word(cursor)?;
        remade.push((Arc::clone(&name), Remade::Added));
        definition(cursor, &name, found)?;
    }
    Some(())
}

/// `[name] [USING method] (columns)`
fn indexed(cursor: &mut Cursor<'_>) -> Option<Vec<Arc<str>>> {
    cursor.take_all(&["if", "not", "exists"]);
    if !cursor.is_kind(Kind::Open) && !cursor.is("using") {
        word(cursor)?;
    }
    if cursor.take("using") {
        word(cursor)?;
    }
    columns(cursor)
}

/// A column's definition behind its name.
fn definition(cursor: &mut Cursor<'_>, name: &Arc<str>, found: &mut Constraints) -> Option<()> {
    loop {
        skip(cursor, |it| ["key", "primary", "references", "serial", "unique"].iter().any(|word| it.is(word)));
        if cursor.take("references") {
            references(cursor, vec![Arc::clone(name)], found)?;
        } else if cursor.take_any(&["primary", "serial", "unique"]) {
            cursor.take("key");
            found.unique.push(vec![Arc::clone(name)]);
        } else if cursor.take("key") {
            // KEY alone is the primary one.
            found.unique.push(vec![Arc::clone(name)]);
        } else {
            return Some(());
        }
    }
}

fn references(cursor: &mut Cursor<'_>, own: Vec<Arc<str>>, found: &mut Constraints) -> Option<()> {
    let (database, table) = name(cursor)?;
    let referenced = if cursor.is_kind(Kind::Open) { columns(cursor)? } else { Vec::new() };
    found.foreign.push(Foreign { columns: own, table: database.into_iter().chain([table]).collect(), referenced });
    Some(())
}

/// The type that a definition begins with.
fn typed(cursor: &mut Cursor<'_>) -> Option<Remade> {
    let mut kind = word(cursor)?.to_ascii_lowercase();
    if cursor.take("varying") || kind == "varcharacter" {
        "varchar".clone_into(&mut kind);
    }
    let kind = match &*kind {
        "int8" => "bigint",
        "int4" | "integer" => "int",
        "int2" => "smallint",
        other => other,
    };
    let unsigned = kind == "serial" || {
        skip(cursor, |it| it.is("unsigned") || it.is("zerofill"));
        cursor.is("unsigned") || cursor.is("zerofill")
    };
    Some(Remade::Typed(if kind == "serial" { "bigint" } else { kind }.to_owned(), unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::lex::mysql as lex;
    use crate::sql::lex::mysql::Mode;
    use crate::sql::mysql::ddl;

    /// What is read of a statement: unique keys, foreign keys, columns.
    fn read(text: &str) -> String {
        let lexemes = lex::lexemes(text, 0..text.len(), None, Mode::default()).unwrap();
        let changed = ddl::read(&mut Cursor::new(text, &lexemes)).unwrap();
        let mut said: Vec<String> = changed.keys.unique.iter().map(|it| format!("unique {}", it.join(","))).collect();
        said.extend(
            changed
                .keys
                .foreign
                .iter()
                .map(|it| format!("{} to {}({})", it.columns.join(","), it.table.join("."), it.referenced.join(","))),
        );
        said.extend(changed.columns.iter().map(|(name, made)| match made {
            Remade::Added => format!("+{name}"),
            Remade::Gone => format!("-{name}"),
            Remade::Typed(kind, unsigned) => format!("{name} {kind}{}", if *unsigned { " unsigned" } else { "" }),
        }));
        said.join("; ")
    }

    #[test]
    fn keys_and_columns_are_read() {
        for (text, said) in [
            ("CREATE UNIQUE INDEX i ON t (a, `b c` DESC, d(5))", "unique a,b c"),
            ("CREATE INDEX i ON t (a)", ""),
            (
                "CREATE TABLE t (id bigint PRIMARY KEY, a int UNIQUE KEY COMMENT 'unique', KEY (a))",
                "unique id; unique a",
            ),
            ("CREATE TABLE t (id bigint KEY, x decimal(6,2) AS (1 + key_of(2)))", "unique id"),
            (
                "CREATE TABLE t (a int, b int, PRIMARY KEY USING BTREE (a, b), UNIQUE k (b)) ENGINE = InnoDB",
                "unique a,b; unique b",
            ),
            (
                "CREATE TABLE t (a int, CONSTRAINT f FOREIGN KEY g (a, b) REFERENCES d.u (c, e) ON DELETE CASCADE)",
                "a,b to d.u(c,e)",
            ),
            ("CREATE TABLE t (a int REFERENCES u (c) NOT NULL, CONSTRAINT PRIMARY KEY (a))", "unique a; a to u(c)"),
            ("CREATE TABLE t LIKE u", ""),
            (
                "ALTER TABLE t ADD UNIQUE (a), ADD COLUMN b int UNIQUE, ADD (c int, d int)",
                "unique a; unique b; +b; +c; +d",
            ),
            ("ALTER TABLE t ADD CONSTRAINT FOREIGN KEY (a) REFERENCES u (b)", "a to u(b)"),
            ("ALTER TABLE t CHANGE id id2 bigint, CHANGE a A int", "-id; a int"),
            ("ALTER TABLE t MODIFY COLUMN id int(10) UNSIGNED, MODIFY b INT8 NOT NULL", "id int unsigned; b bigint"),
            ("ALTER TABLE t MODIFY id serial", "unique id; id bigint unsigned"),
            ("ALTER TABLE t MODIFY a character varying(9)", "a varchar"),
            ("ALTER TABLE t DROP a, DROP COLUMN IF EXISTS b, DROP PRIMARY KEY, DROP INDEX i", "-a; -b"),
            ("ALTER TABLE t RENAME COLUMN a TO b, ALGORITHM = INPLACE", "-a"),
            ("ALTER TABLE t ENGINE = InnoDB, COMMENT 'primary key (a)'", ""),
        ] {
            assert_eq!(read(text), said, "{text}");
        }
    }
}
