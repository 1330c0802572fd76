//! A server's `information_schema` → [`Catalog`]. The same questions on MariaDB and MySQL.
//!
//! What is read and what is watched come from one list: [`watermark`] asks for digests of exactly the rows that [`read`]
//! takes, computed by the server, so that a second's question brings back one line.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::control::ControlError;
use super::super::health::Heard;
use super::super::schema_reader::Catalog;
use super::Connection;
use super::Texts;
use super::catalog;
use super::catalog::Answers;
use super::unreadable;

/// One thing that is asked of `information_schema`.
struct Question {
    from: &'static str,
    /// The column that names the database.
    schema: &'static str,
    /// What else must hold; empty: nothing.
    and: &'static str,
    columns: &'static [&'static str],
    order: &'static str,
}

/// Asks whether anything changed: equal answers mean equal catalogs, as far as [`read`] looks.
pub(in super::super) async fn watermark(connection: &mut Connection) -> Result<String, ControlError> {
    let parts: Vec<String> = QUESTIONS.iter().map(|it| format!("({})", it.digest(&connection.database))).collect();
    let question = format!("SELECT CONCAT_WS('/', {SERVER}, {})", parts.join(", "));
    let digests = connection.ask_for_all(&question).await?;
    let Some([Some(digests)]) = digests.first().map(Vec::as_slice) else { return Err(unreadable("its digests")) };
    let grants = connection.ask(GRANTS).await?;
    Ok(format!("{digests}/{grants:?}"))
}

/// Reads everything, at one moment: again if something changed meanwhile.
pub(in super::super) async fn read(connection: &mut Connection) -> Result<Catalog, ControlError> {
    let mut before = watermark(connection).await?;
    for _ in 0..ATTEMPTS {
        let answers = ask(connection).await?;
        let after = watermark(connection).await?;
        if before == after {
            let schema = catalog::build(&connection.database, answers).ok_or_else(|| unreadable("its settings"))?;
            return Ok(Catalog { watermark: after, schema: Arc::new(schema), types: BTreeMap::new() });
        }
        before = after;
    }
    let text = "the schema changes faster than it can be read".to_owned();
    Err(ControlError { heard: Heard::Answer, text, sqlstate: None })
}

async fn ask(connection: &mut Connection) -> Result<Answers, ControlError> {
    let server = connection.ask(&format!("SELECT {SERVER}")).await?;
    let grants = connection.ask(GRANTS).await?;
    let mut answers: Vec<Vec<Texts>> = Vec::new();
    for question in &QUESTIONS {
        let question = question.rows(&connection.database);
        answers.push(connection.ask_for_all(&question).await?);
    }
    let answers: [Vec<Texts>; 7] = answers.try_into().map_err(|_| unreadable("its catalogs"))?;
    let [relations, views, columns, indexes, triggers, foreign_keys, routines] = answers;
    Ok(Answers { server, grants, relations, views, columns, indexes, triggers, foreign_keys, routines })
}

impl Question {
    /// A literal lets the server look into one database only; the second comparison heeds case.
    fn condition(&self, database: &str) -> String {
        let name = literal(database);
        let and = if self.and.is_empty() { String::new() } else { format!(" AND {}", self.and) };
        format!("{0} = {name} AND BINARY {0} = {name}{and}", self.schema)
    }

    fn rows(&self, database: &str) -> String {
        let (columns, condition) = (self.columns.join(", "), self.condition(database));
        format!("SELECT {columns} FROM information_schema.{} WHERE {condition} ORDER BY {}", self.from, self.order)
    }

    /// How many rows there are, and a sum over the digests of all: the order plays no part.
    fn digest(&self, database: &str) -> String {
        let columns: Vec<String> = self.columns.iter().map(|it| format!("QUOTE({it})")).collect();
        let (columns, condition) = (columns.join(", "), self.condition(database));
        format!(
            "SELECT CONCAT_WS(':', COUNT(*), SUM(CAST(CONV(LEFT(MD5(CONCAT_WS(',', {columns})), 15), 16, 10) AS UNSIGNED))) \
             FROM information_schema.{} WHERE {condition}",
            self.from
        )
    }
}

/// A text as these connections' `sql_mode` reads it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// In the order of the fields of [`Answers`].
const QUESTIONS: [Question; 7] = [
    Question {
        from: "TABLES",
        schema: "TABLE_SCHEMA",
        and: "TABLE_TYPE <> 'TEMPORARY'",
        columns: &["TABLE_NAME", "TABLE_TYPE"],
        order: "TABLE_NAME",
    },
    Question {
        from: "VIEWS",
        schema: "TABLE_SCHEMA",
        and: "",
        columns: &["TABLE_NAME", "VIEW_DEFINITION"],
        order: "TABLE_NAME",
    },
    Question {
        from: "COLUMNS",
        schema: "TABLE_SCHEMA",
        and: "",
        columns: &[
            "TABLE_NAME",
            "ORDINAL_POSITION",
            "COLUMN_NAME",
            "DATA_TYPE",
            "COLUMN_TYPE",
            "CHARACTER_MAXIMUM_LENGTH",
            "IS_NULLABLE",
            "COLUMN_DEFAULT",
            "EXTRA",
            "GENERATION_EXPRESSION",
            "COLLATION_NAME",
        ],
        order: "TABLE_NAME, ORDINAL_POSITION",
    },
    Question {
        from: "STATISTICS",
        schema: "TABLE_SCHEMA",
        and: "NON_UNIQUE = 0",
        columns: &["TABLE_NAME", "INDEX_NAME", "SEQ_IN_INDEX", "COLUMN_NAME", "SUB_PART"],
        order: "TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX",
    },
    Question {
        from: "TRIGGERS",
        schema: "EVENT_OBJECT_SCHEMA",
        and: "",
        columns: &["EVENT_OBJECT_TABLE", "TRIGGER_NAME", "ACTION_TIMING", "EVENT_MANIPULATION"],
        order: "EVENT_OBJECT_TABLE, TRIGGER_NAME",
    },
    Question {
        from: "KEY_COLUMN_USAGE",
        schema: "TABLE_SCHEMA",
        and: "REFERENCED_TABLE_NAME IS NOT NULL",
        columns: &[
            "TABLE_NAME",
            "CONSTRAINT_NAME",
            "ORDINAL_POSITION",
            "COLUMN_NAME",
            "REFERENCED_TABLE_SCHEMA",
            "REFERENCED_TABLE_NAME",
            "REFERENCED_COLUMN_NAME",
        ],
        order: "TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION",
    },
    Question {
        from: "ROUTINES",
        schema: "ROUTINE_SCHEMA",
        and: "",
        columns: &["ROUTINE_NAME", "ROUTINE_TYPE"],
        order: "ROUTINE_NAME, ROUTINE_TYPE",
    },
];

/// The server's settings that planning, or the comparison of shards, asks about.
const SERVER: &str = "@@version, @@global.sql_mode, @@global.lower_case_table_names, @@character_set_database, \
                      @@collation_database";

const GRANTS: &str = "SHOW GRANTS";

/// How often a schema that changes meanwhile is read again.
const ATTEMPTS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_the_sessions_read_them() {
        assert_eq!(literal(r"it's\"), r"'it''s\\'");
    }

    #[test]
    fn what_is_watched_is_what_is_read() {
        let question = &QUESTIONS[0];
        let condition = "TABLE_SCHEMA = 'shop' AND BINARY TABLE_SCHEMA = 'shop' AND TABLE_TYPE <> 'TEMPORARY'";
        assert!(question.rows("shop").contains(condition));
        assert!(question.digest("shop").ends_with(condition));
        assert!(question.digest("shop").contains("QUOTE(TABLE_NAME), QUOTE(TABLE_TYPE)"));
    }
}
