//! What `information_schema` answered → [`Schema`]. Pure.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use sha2::Digest;
use sha2::Sha256;

use super::Texts;
use super::is_mariadb;
use super::version_number;
use crate::ident::TableName;
use crate::schema::Column;
use crate::schema::ForeignKey;
use crate::schema::MysqlServer;
use crate::schema::Relation;
use crate::schema::RelationKind;
use crate::schema::Schema;
use crate::schema::Trigger;
use crate::schema::UniqueIndex;

/// What a server answered, as texts.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) server: Vec<Texts>,
    pub(super) grants: Vec<Texts>,
    pub(super) relations: Vec<Texts>,
    pub(super) views: Vec<Texts>,
    pub(super) columns: Vec<Texts>,
    pub(super) indexes: Vec<Texts>,
    pub(super) triggers: Vec<Texts>,
    pub(super) foreign_keys: Vec<Texts>,
    pub(super) routines: Vec<Texts>,
}

/// The schema of `database`; `None`: the server did not tell its settings.
pub(super) fn build(database: &str, answers: Answers) -> Option<Schema> {
    let digest = Sha256::digest(format!("{database:?}{answers:?}"));
    let digest = digest.iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    let settings = answers.server.first()?;
    let text = |place: usize| settings.get(place).and_then(Option::as_deref);
    let version = text(0)?;
    let mut build = Build {
        database,
        is_mariadb: is_mariadb(version),
        relations: BTreeMap::new(),
        collations: HashMap::new(),
        invisible: HashMap::new(),
    };
    answers.relations.iter().for_each(|row| build.relation(row));
    answers.views.iter().for_each(|row| build.view(row));
    answers.columns.iter().for_each(|row| build.column(row));
    answers.indexes.iter().for_each(|row| build.index(row));
    answers.triggers.iter().for_each(|row| build.trigger(row));
    answers.foreign_keys.iter().for_each(|row| build.foreign_key(row));
    build.finish_indexes();
    let mut user_functions: HashMap<Arc<str>, Vec<Arc<str>>> = HashMap::new();
    for row in &answers.routines {
        // Names of routines do not heed case.
        let Some(Some(name)) = row.first() else { continue };
        user_functions.insert(name.to_lowercase().into(), vec![database.into()]);
    }
    let server = MysqlServer {
        version: version.into(),
        is_mariadb: build.is_mariadb,
        sql_mode: text(1)?.into(),
        lower_case_table_names: text(2)?.parse().ok()?,
        character_set: text(3)?.into(),
        collation: text(4)?.into(),
        sees_triggers: sees_triggers(&answers.grants, database),
        collations: build.collations,
        invisible: build.invisible,
    };
    Some(Schema {
        digest,
        server_version: version_number(version),
        relations: build.relations.into_values().map(|it| (it.name.clone(), Arc::new(it))).collect(),
        namespaces: BTreeSet::from([Arc::from(database)]),
        user_functions,
        mysql: Some(Arc::new(server)),
        ..Schema::default()
    })
}

/// Relations under construction, by name.
struct Build<'a> {
    database: &'a str,
    is_mariadb: bool,
    relations: BTreeMap<String, Relation>,
    collations: HashMap<TableName, Vec<Option<Arc<str>>>>,
    invisible: HashMap<TableName, Vec<Arc<str>>>,
}

impl Build<'_> {
    fn relation(&mut self, row: &Texts) {
        let [Some(name), Some(kind)] = row.as_slice() else { return };
        let kind = match kind.as_str() {
            "VIEW" | "SYSTEM VIEW" => RelationKind::View,
            "SEQUENCE" => RelationKind::Sequence,
            _ => RelationKind::Table,
        };
        let table = TableName::new(self.database, name);
        self.relations.insert(name.clone(), Relation::bare(table, kind));
    }

    fn view(&mut self, row: &Texts) {
        let [Some(name), Some(definition)] = row.as_slice() else { return };
        // Empty for those who may not see it.
        if let Some(relation) = self.relations.get_mut(name).filter(|_| !definition.is_empty()) {
            relation.definition = Some(definition.as_str().into());
        }
    }

    fn column(&mut self, row: &Texts) {
        let [
            Some(table),
            _,
            Some(name),
            Some(data_type),
            Some(column_type),
            length,
            nullable,
            default,
            extra,
            expression,
            collation,
        ] = row.as_slice()
        else {
            return;
        };
        let Some(relation) = self.relations.get_mut(table) else { return };
        let extra = extra.as_deref().unwrap_or_default().to_ascii_uppercase();
        let expression = expression.as_deref().filter(|it| !it.is_empty());
        let generated =
            expression.is_some() || extra.contains("VIRTUAL GENERATED") || extra.contains("STORED GENERATED");
        let default = match default.as_deref() {
            // MariaDB tells expressions, MySQL the value itself unless it says otherwise.
            Some("NULL") if self.is_mariadb => None,
            Some(it) if self.is_mariadb || extra.contains("DEFAULT_GENERATED") => Some(it.to_owned()),
            Some(it) => Some(format!("'{}'", it.replace('\\', "\\\\").replace('\'', "''"))),
            None => None,
        };
        let draws = default.as_deref().is_some_and(|it| it.to_ascii_lowercase().contains("nextval("));
        if extra.split([' ', ',']).any(|it| it == "INVISIBLE") {
            self.invisible.entry(relation.name.clone()).or_default().push(name.as_str().into());
        }
        let collation: Option<Arc<str>> = collation.as_deref().map(Arc::from);
        relation.columns.push(Column {
            name: name.as_str().into(),
            type_oid: key_type(data_type, column_type),
            type_name: column_type.as_str().into(),
            type_modifier: length.as_deref().and_then(|it| it.parse().ok()).unwrap_or(-1),
            not_null: nullable.as_deref() == Some("NO"),
            default: expression.map(Arc::from).or_else(|| default.map(Arc::from)),
            generated,
            identity: None,
            uses_sequence: draws || extra.contains("AUTO_INCREMENT"),
            sequence: None,
            deterministic: collation.as_deref().is_none_or(is_binary),
            default_collation: collation.as_deref().is_none_or(is_binary),
        });
        self.collations.entry(relation.name.clone()).or_default().push(collation);
    }

    /// One column of an index, in order; a part that is an expression, or only the beginning of a column, is none.
    fn index(&mut self, row: &Texts) {
        let [Some(table), Some(name), _, column, part] = row.as_slice() else { return };
        let Some(relation) = self.relations.get_mut(table) else { return };
        let place = column.as_deref().filter(|_| part.is_none()).and_then(|it| relation.column(it));
        match relation.unique.iter_mut().find(|it| *it.name == **name) {
            Some(index) => index.columns.push(place),
            None => relation.unique.push(UniqueIndex { name: name.as_str().into(), columns: vec![place] }),
        }
    }

    fn finish_indexes(&mut self) {
        for relation in self.relations.values_mut() {
            let primary = relation.unique.iter().find(|it| &*it.name == "PRIMARY");
            relation.primary_key = primary.and_then(|it| it.columns.iter().copied().collect());
        }
    }

    fn trigger(&mut self, row: &Texts) {
        let [Some(table), Some(name), Some(timing), Some(event)] = row.as_slice() else { return };
        // All are FOR EACH ROW; one before DELETE has no new row to change.
        let before_row = timing == "BEFORE" && event != "DELETE";
        if let Some(relation) = self.relations.get_mut(table) {
            relation.triggers.push(Trigger { name: name.as_str().into(), before_row });
        }
    }

    fn foreign_key(&mut self, row: &Texts) {
        let [Some(table), Some(name), _, Some(column), Some(schema), Some(other), Some(referenced)] = row.as_slice()
        else {
            return;
        };
        let Some(relation) = self.relations.get_mut(table) else { return };
        let Some(place) = relation.column(column) else { return };
        let references = TableName::new(schema, other);
        match relation.foreign_keys.iter_mut().find(|it| *it.name == **name) {
            Some(key) => {
                key.columns.push(place);
                key.referenced_columns.push(referenced.as_str().into());
            }
            None => relation.foreign_keys.push(ForeignKey {
                name: name.as_str().into(),
                columns: vec![place],
                references,
                referenced_columns: vec![referenced.as_str().into()],
            }),
        }
    }
}

/// The number of the Postgres type that behaves alike as a shard key; 0: no such type. CHAR and BINARY are none: what is
/// stored of a value is shortened or padded, and would hash otherwise than the value that was given.
fn key_type(data_type: &str, column_type: &str) -> u32 {
    let unsigned = column_type.to_ascii_lowercase().contains("unsigned");
    match data_type.to_ascii_lowercase().as_str() {
        "bigint" if !unsigned => 20,
        "int" if !unsigned => 23,
        "smallint" if !unsigned => 21,
        "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => 25,
        "uuid" => 2950,
        "date" => 1082,
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => 17,
        _ => 0,
    }
}

/// Whether texts are equal under a collation only if their bytes in UTF-8 are: `utf8mb4_bin` pads with spaces.
fn is_binary(collation: &str) -> bool {
    matches!(
        collation,
        "utf8mb4_nopad_bin" | "utf8mb4_0900_bin" | "utf8mb3_nopad_bin" | "utf8_nopad_bin" | "ascii_nopad_bin"
    )
}

/// Whether grants show that triggers of every table of the database can be seen: who lacks that right is shown none.
fn sees_triggers(grants: &[Texts], database: &str) -> bool {
    let own = format!("`{}`.*", database.replace('`', "``"));
    let literally = own.replace('_', "\\_").replace('%', "\\%");
    grants.iter().flatten().flatten().any(|grant| {
        let Some((rights, rest)) = grant.strip_prefix("GRANT ").and_then(|it| it.split_once(" ON ")) else {
            return false;
        };
        let on = rest.split(" TO ").next().unwrap_or_default();
        let all = rights.split(',').map(str::trim).any(|it| matches!(it, "ALL PRIVILEGES" | "ALL" | "TRIGGER"));
        all && [own.as_str(), literally.as_str(), "*.*"].contains(&on)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Texts {
        cells.iter().map(|it| (*it != "-").then(|| (*it).to_owned())).collect()
    }

    fn column(cells: &[&str]) -> Column {
        let mut answers = server("10.11.6-MariaDB");
        answers.relations = vec![row(&["t", "BASE TABLE"])];
        answers.columns = vec![row(&[&["t", "1", "c"], cells].concat())];
        let schema = build("shop", answers).unwrap();
        schema.relations[&TableName::new("shop", "t")].columns[0].clone()
    }

    fn server(version: &str) -> Answers {
        Answers {
            server: vec![row(&[version, "STRICT_TRANS_TABLES", "0", "utf8mb4", "utf8mb4_general_ci"])],
            grants: vec![row(&["GRANT ALL PRIVILEGES ON *.* TO `control`@`%` IDENTIFIED BY PASSWORD '*X'"])],
            ..Answers::default()
        }
    }

    #[test]
    fn a_table_is_read_whole() {
        let mut answers = server("10.11.6-MariaDB-1");
        answers.relations = vec![row(&["orders", "BASE TABLE"]), row(&["open", "VIEW"]), row(&["s", "SEQUENCE"])];
        answers.views = vec![row(&["open", "select 1"])];
        answers.columns = vec![
            row(&["orders", "1", "id", "bigint", "bigint(20)", "-", "NO", "-", "auto_increment", "", "-"]),
            row(&["orders", "2", "note", "varchar", "varchar(9)", "9", "YES", "NULL", "", "", "utf8mb4_bin"]),
            row(&["orders", "3", "n", "int", "int(11)", "-", "YES", "-", "STORED GENERATED", "`id` + 1", "-"]),
        ];
        answers.indexes = vec![
            row(&["orders", "PRIMARY", "1", "id", "-"]),
            row(&["orders", "u", "1", "note", "4"]),
            row(&["orders", "u", "2", "id", "-"]),
        ];
        answers.triggers = vec![row(&["orders", "a", "AFTER", "INSERT"]), row(&["orders", "b", "BEFORE", "UPDATE"])];
        answers.foreign_keys = vec![row(&["orders", "f", "1", "id", "shop", "customers", "cid"])];
        answers.routines = vec![row(&["Twice", "FUNCTION"])];
        let schema = build("shop", answers).unwrap();
        assert_eq!(schema.server_version, 101_106);
        let orders = &schema.relations[&TableName::new("shop", "orders")];
        assert_eq!(orders.primary_key, Some(vec![0]));
        assert_eq!(orders.unique[1].columns, [None, Some(0)]);
        assert!(orders.columns[0].uses_sequence && orders.columns[0].not_null);
        assert_eq!((orders.columns[0].type_oid, orders.columns[1].type_oid), (20, 25));
        assert!(!orders.columns[1].deterministic && orders.columns[1].default.is_none());
        assert_eq!(orders.columns[1].type_modifier, 9);
        assert!(orders.columns[2].generated);
        assert_eq!(orders.columns[2].default.as_deref(), Some("`id` + 1"));
        assert_eq!(orders.triggers.iter().map(|it| it.before_row).collect::<Vec<_>>(), [false, true]);
        assert_eq!(orders.foreign_keys[0].references, TableName::new("shop", "customers"));
        assert_eq!(schema.relations[&TableName::new("shop", "open")].definition.as_deref(), Some("select 1"));
        assert_eq!(schema.relations[&TableName::new("shop", "s")].kind, RelationKind::Sequence);
        assert!(schema.user_functions.contains_key("twice"));
        assert!(schema.mysql.unwrap().sees_triggers);
    }

    #[test]
    fn types_that_change_what_they_are_given_are_no_keys() {
        let oid = |kind: &str, full: &str| column(&[kind, full, "-", "NO", "-", "", "", "-"]).type_oid;
        assert_eq!(oid("bigint", "bigint(20) unsigned"), 0);
        assert_eq!(oid("int", "int(10) unsigned zerofill"), 0);
        assert_eq!(oid("char", "char(36)"), 0);
        assert_eq!(oid("binary", "binary(16)"), 0);
        assert_eq!(oid("uuid", "uuid"), 2950);
        assert_eq!(oid("smallint", "smallint(6)"), 21);
        assert_eq!(oid("varbinary", "varbinary(16)"), 17);
    }

    #[test]
    fn only_binary_collations_without_padding_compare_bytes() {
        let deterministic = |it: &str| column(&["varchar", "varchar(9)", "9", "NO", "-", "", "", it]).deterministic;
        assert!(deterministic("utf8mb4_nopad_bin") && deterministic("utf8mb4_0900_bin") && deterministic("-"));
        for padded in ["utf8mb4_bin", "utf8mb4_general_ci", "latin1_nopad_bin", "ascii_bin", "utf8mb4_uca1400_ai_ci"] {
            assert!(!deterministic(padded), "{padded}");
        }
    }

    #[test]
    fn defaults_are_expressions_on_both() {
        let default = |version: &str, default: &str, extra: &str| {
            let mut answers = server(version);
            answers.relations = vec![row(&["t", "BASE TABLE"])];
            answers.columns = vec![row(&["t", "1", "c", "varchar", "varchar(9)", "9", "YES", default, extra, "", "-"])];
            let schema = build("shop", answers).unwrap();
            schema.relations[&TableName::new("shop", "t")].columns[0].default.clone()
        };
        assert_eq!(default("10.11.6-MariaDB", "'it'", "").as_deref(), Some("'it'"));
        assert_eq!(default("10.11.6-MariaDB", "NULL", ""), None);
        assert_eq!(default("8.0.36", "NULL", "").as_deref(), Some("'NULL'"));
        assert_eq!(default("8.0.36", "it's", "").as_deref(), Some("'it''s'"));
        assert_eq!(default("8.0.36", "uuid()", "DEFAULT_GENERATED").as_deref(), Some("uuid()"));
    }

    #[test]
    fn invisible_columns_are_told_of() {
        let mut answers = server("10.11.6-MariaDB");
        answers.relations = vec![row(&["t", "BASE TABLE"])];
        answers.columns = vec![row(&["t", "1", "c", "int", "int(11)", "-", "YES", "-", "INVISIBLE", "", "-"])];
        let schema = build("shop", answers).unwrap();
        assert_eq!(schema.mysql.unwrap().invisible[&TableName::new("shop", "t")], [Arc::from("c")]);
    }

    #[test]
    fn the_right_to_see_triggers_is_read_from_grants() {
        let sees = |grant: &str| sees_triggers(&[row(&[grant])], "my_shop");
        assert!(sees("GRANT ALL PRIVILEGES ON `my_shop`.* TO `c`@`%`"));
        assert!(sees("GRANT ALL PRIVILEGES ON `my\\_shop`.* TO `c`@`%`"));
        assert!(sees("GRANT SELECT, TRIGGER ON *.* TO `c`@`%` REQUIRE SSL"));
        assert!(!sees("GRANT SELECT, INSERT ON *.* TO `c`@`%`"));
        assert!(!sees("GRANT TRIGGER ON `my_shop`.`t` TO `c`@`%`"));
        assert!(!sees("GRANT ALL PRIVILEGES ON `other`.* TO `c`@`%`"));
        assert!(!sees("GRANT `role` TO `c`@`%`"));
    }

    #[test]
    fn another_answer_is_another_digest() {
        let mut answers = server("10.11.6-MariaDB");
        let plain = build("shop", server("10.11.6-MariaDB")).unwrap().digest;
        answers.relations = vec![row(&["t", "BASE TABLE"])];
        assert_ne!(build("shop", answers).unwrap().digest, plain);
    }
}
