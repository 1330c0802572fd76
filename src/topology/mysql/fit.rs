//! What only MySQL and MariaDB can have wrong, beside the rules of `fit` that hold for every engine. Pure.

use std::sync::Arc;

use super::super::fit::Finding;
use super::super::fit::Refuses;
use super::super::fit::Severity;
use crate::ident::ShardId;
use crate::ident::TableName;
use crate::schema::Column;
use crate::schema::MysqlServer;
use crate::schema::Schema;
use crate::shard_map::Database;
use crate::shard_map::KeyType;
use crate::shard_map::Placement;

/// What to do about a shard key whose type is not the group's.
pub(in super::super) fn key_type_hint(column: &Column, key_type: KeyType) -> &'static str {
    let name = column.type_name.to_ascii_lowercase();
    if name.contains("unsigned") {
        "Make the column signed: the upper half of an unsigned type is beyond the keys that the map knows, and nothing shows \
         that no row has one."
    } else if name.starts_with("char") && key_type == KeyType::Text {
        "Make it VARCHAR: CHAR takes the spaces off the end of a value, which is then another key than the one that was \
         given."
    } else if name.starts_with("binary") && key_type == KeyType::Bytea {
        "Make it VARBINARY: BINARY pads a value, which is then another key than the one that was given."
    } else {
        "Give the column that type, or put the table into a group of its type: equal keys of different types hash differently."
    }
}

/// What to do about a shard key under whose collation different texts are equal.
pub(in super::super) const KEY_COLLATION_HINT: &str = "Values that are equal must have equal bytes. MODIFY it to CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin (MariaDB) or \
     utf8mb4_0900_bin (MySQL): utf8mb4_bin holds 'a' and 'a ' to be equal.";

/// Compares what the servers say of themselves, and of tables beyond what every engine has.
pub(in super::super) fn findings(database: &Database, schemas: &[Option<&Schema>]) -> Vec<Finding> {
    let read: Vec<(ShardId, &MysqlServer)> = (0_u16..)
        .zip(schemas)
        .filter_map(|(place, schema)| Some((ShardId(place), schema.as_ref()?.mysql.as_deref()?)))
        .collect();
    let mut tables: Vec<(&TableName, &Placement)> = database.tables.iter().collect();
    tables.sort_by_key(|(name, _)| *name);
    let mut findings = Vec::new();
    servers(database, &read, &mut findings);
    for (name, placement) in tables {
        let mut table = Table { database, read: &read, name, findings: &mut findings };
        table.names();
        table.collations();
        table.invisible();
        if !matches!(placement, Placement::Unsharded { .. }) {
            table.triggers();
        }
    }
    findings
}

/// Servers of one database that would not answer alike.
fn servers(database: &Database, read: &[(ShardId, &MysqlServer)], findings: &mut Vec<Finding>) {
    if let Some((shard, _)) = read.iter().find(|(_, it)| !is_strict(&it.sql_mode)) {
        let name = &database.shard(*shard).name;
        findings.push(Finding::new(
            Severity::Warning,
            "sql-mode-lax",
            format!("the sql_mode of shard \"{name}\" has values that do not fit stored as others"),
            "Add STRICT_TRANS_TABLES to it: a key that is shortened when it is stored is another key than the one that \
             placed its row.",
        ));
    }
    let Some(((first, model), others)) = read.split_first() else { return };
    for (shard, server) in others {
        let mut differ = |severity, code, what: &str, here: &str, there: &str, hint: &str| {
            if here != there {
                let (one, other) = (&database.shard(*shard).name, &database.shard(*first).name);
                let message = format!("shard \"{one}\" has {what} \"{here}\", and \"{other}\" has \"{there}\"");
                findings.push(Finding::new(severity, code, message, hint));
            }
        };
        differ(
            Severity::Warning,
            "version-differs",
            "version",
            series(&server.version),
            series(&model.version),
            "Shards of different versions may answer the same statement differently.",
        );
        differ(
            Severity::Warning,
            "sql-mode-differs",
            "sql_mode",
            &server.sql_mode,
            &model.sql_mode,
            "Set it alike on all servers: the same statement means something else, or fails, under another one.",
        );
        differ(
            Severity::Warning,
            "collation-differs",
            "the default collation",
            &server.collation,
            &model.collation,
            "Texts without a collation of their own are compared by it: ALTER DATABASE … COLLATE on one of them.",
        );
    }
}

/// Whether values that do not fit are errors.
fn is_strict(sql_mode: &str) -> bool {
    sql_mode.split(',').any(|it| matches!(it, "STRICT_TRANS_TABLES" | "STRICT_ALL_TABLES" | "TRADITIONAL"))
}

/// `10.11` of `10.11.6-MariaDB`.
fn series(version: &str) -> &str {
    version.match_indices('.').nth(1).and_then(|(at, _)| version.get(..at)).unwrap_or(version)
}

struct Table<'a> {
    database: &'a Database,
    read: &'a [(ShardId, &'a MysqlServer)],
    name: &'a TableName,
    findings: &'a mut Vec<Finding>,
}

impl Table<'_> {
    fn error(&mut self, refuses: Refuses, code: &'static str, message: String, hint: &str) {
        let table = Some(self.name.clone());
        let (severity, hint) = (Severity::Error, hint.to_owned());
        self.findings.push(Finding { severity, code, message, hint, table, refuses });
    }

    fn shard(&self, shard: ShardId) -> &str {
        &self.database.shard(shard).name
    }

    /// Names that do not heed case would have to be folded as the server does it.
    fn names(&mut self) {
        let Some((shard, server)) = self.read.iter().find(|(_, it)| it.lower_case_table_names != 0) else { return };
        let message = format!(
            "lower_case_table_names is {} on shard \"{}\", which finds table \"{}\" by other spellings as well",
            server.lower_case_table_names,
            self.shard(*shard),
            self.name
        );
        self.error(
            Refuses::Everything,
            "names-fold",
            message,
            "Only servers with lower_case_table_names = 0 are served.",
        );
    }

    fn collations(&mut self) {
        let of = |server: &&MysqlServer| server.collations.get(self.name).cloned();
        let mut known = self.read.iter().filter_map(|(shard, server)| Some((*shard, of(server)?)));
        let Some((first, model)) = known.next() else { return };
        // Another number of columns has been found.
        let Some((other, _)) = known.find(|(_, it)| it.len() == model.len() && *it != model) else { return };
        let message = format!(
            "columns of table \"{}\" have other collations on shard \"{}\" than on \"{}\"",
            self.name,
            self.shard(other),
            self.shard(first)
        );
        let hint = "Make them alike: what is equal on one shard would not be on the other.";
        self.error(Refuses::Everything, "collations-differ", message, hint);
    }

    fn invisible(&mut self) {
        let first = |server: &&MysqlServer| server.invisible.get(self.name).and_then(|it| it.first()).map(Arc::clone);
        let Some(column) = self.read.iter().find_map(|(_, server)| first(server)) else { return };
        let message = format!("column \"{column}\" of table \"{}\" is INVISIBLE", self.name);
        let hint = "MODIFY it to be visible: which columns `*` and INSERT without a list name would not be known.";
        self.error(Refuses::Everything, "invisible-column", message, hint);
    }

    fn triggers(&mut self) {
        let Some((shard, _)) = self.read.iter().find(|(_, it)| !it.sees_triggers) else { return };
        let message = format!(
            "whether triggers change rows of table \"{}\" cannot be seen on shard \"{}\"",
            self.name,
            self.shard(*shard)
        );
        let hint = format!("GRANT TRIGGER ON `{}`.* to the control user there.", self.name.schema);
        self.error(Refuses::Writes, "triggers-unseen", message, &hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_strict_when_it_says_so() {
        assert!(is_strict("STRICT_TRANS_TABLES,NO_ZERO_DATE") && is_strict("STRICT_ALL_TABLES"));
        assert!(!is_strict("") && !is_strict("ANSI_QUOTES"));
    }

    #[test]
    fn a_series_is_what_versions_share() {
        assert_eq!(series("10.11.6-MariaDB"), "10.11");
        assert_eq!(series("8.0.36"), "8.0");
        assert_eq!(series("9.1"), "9.1");
    }
}
