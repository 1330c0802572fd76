//! What the catalog shard says exists: relations, columns, types, functions. Read by `topology`, believed by `plan`.
//!
//! Pure data. A [`Schema`] is immutable; a change of the database makes a new one with another digest.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use crate::ident::TableName;

/// Everything that planning may ask about one database.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// Changes whenever anything below changes.
    pub digest: u64,
    /// Such as 150018 (`server_version_num`).
    pub server_version: u32,
    /// The relations outside `pg_catalog` and `information_schema`.
    pub relations: HashMap<TableName, Arc<Relation>>,
    /// Names of relations in `pg_catalog` (tables and views), for resolving names as the server does.
    pub system_relations: BTreeSet<Arc<str>>,
    /// Schemas (namespaces) that exist.
    pub namespaces: BTreeSet<Arc<str>>,
    /// Functions, procedures and aggregates outside `pg_catalog` and `information_schema`: name → schemas that have one.
    pub user_functions: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// Operators outside `pg_catalog`: symbol → schemas.
    pub user_operators: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// User-defined types: (schema, name) → what it is. Row types of tables are not listed.
    pub user_types: HashMap<TableName, UserType>,
    /// True when built from the map alone (offline explain): relations are those of the map, and their columns other
    /// than the key are not known.
    pub assumed: bool,
    /// When `assumed`: schemas of whose tables the map knows no names, so that any is taken to be there.
    pub assumed_whole: BTreeSet<Arc<str>>,
    /// Of a MySQL or MariaDB server: what else it says. `None`: it is a Postgres server.
    pub mysql: Option<Arc<MysqlServer>>,
}

/// What only MySQL and MariaDB servers have to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MysqlServer {
    /// Such as `10.11.6-MariaDB-1` (`@@version`).
    pub version: Arc<str>,
    /// Whether it is MariaDB.
    pub is_mariadb: bool,
    /// `@@global.sql_mode`, in the server's order.
    pub sql_mode: Arc<str>,
    /// `@@global.lower_case_table_names`: 0, names of tables are told apart by case.
    pub lower_case_table_names: u32,
    /// The database's default character set.
    pub character_set: Arc<str>,
    /// The database's default collation.
    pub collation: Arc<str>,
    /// Whether the proxy's own login may see triggers (and with them foreign keys) of all tables.
    pub sees_triggers: bool,
    /// The collation of each column of a table, in the order of [`Relation::columns`]; `None` where none applies.
    pub collations: HashMap<TableName, Vec<Option<Arc<str>>>>,
    /// Tables with columns that `*` does not show, and those columns' names.
    pub invisible: HashMap<TableName, Vec<Arc<str>>>,
}

/// A table, view, or other thing that FROM may name.
#[derive(Clone, Debug)]
pub struct Relation {
    /// Its name.
    pub name: TableName,
    /// What it is.
    pub kind: RelationKind,
    /// Its columns in the order of `*`, dropped ones left out. Empty when `Schema::assumed`.
    pub columns: Vec<Column>,
    /// Column places of the primary key.
    pub primary_key: Option<Vec<usize>>,
    /// Column places of every unique constraint or unique index (the primary key too). `None` inside: an expression.
    pub unique: Vec<UniqueIndex>,
    /// Row triggers and statement triggers that a user made (not the constraint machinery's own), by name.
    pub triggers: Vec<Trigger>,
    /// Whether a rewrite rule hangs on it (views: beyond the one that makes it a view).
    pub has_rules: bool,
    /// Whether row-level security is on.
    pub row_security: bool,
    /// The partitioned table or inheritance parent that this belongs to.
    pub parents: Vec<TableName>,
    /// Whether other relations inherit from it or are its partitions.
    pub has_children: bool,
    /// Foreign keys that leave this table: (own columns, other table, its columns).
    pub foreign_keys: Vec<ForeignKey>,
    /// For a view: its definition, as `pg_get_viewdef` prints it under an empty search_path.
    pub definition: Option<Arc<str>>,
    /// `p` permanent, `u` unlogged, `t` temporary.
    pub persistence: char,
    /// Why statements on it are refused, if it is not as the map says.
    pub unfit: Option<Unfit>,
}

/// Why statements on a table are refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unfit {
    /// Whether only writes are.
    pub writes_only: bool,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// An ordinary table.
    Table,
    /// A partitioned table.
    Partitioned,
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
    /// A foreign table.
    Foreign,
    /// A sequence.
    Sequence,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Arc<str>,
    /// `pg_attribute.atttypid`. Of MySQL, the number of the Postgres type that behaves alike as a shard key; 0 without one.
    pub type_oid: u32,
    /// `format_type(atttypid, NULL)`, such as `bigint`, `character varying`, `sales.mood`; of MySQL `COLUMN_TYPE`.
    pub type_name: Arc<str>,
    /// `pg_attribute.atttypmod`; −1 without a modifier. Of MySQL `CHARACTER_MAXIMUM_LENGTH`.
    pub type_modifier: i32,
    /// Whether it is NOT NULL.
    pub not_null: bool,
    /// Its default or generation expression, as `pg_get_expr` prints it.
    pub default: Option<Arc<str>>,
    /// Whether it is GENERATED … STORED.
    pub generated: bool,
    /// Whether it is an identity column: `a` always, `d` by default.
    pub identity: Option<char>,
    /// Whether its default or identity draws from a sequence; of MySQL, whether it is AUTO_INCREMENT.
    pub uses_sequence: bool,
    /// That sequence, if it is exactly one.
    pub sequence: Option<TableName>,
    /// Whether its collation is deterministic (true where none applies): of MySQL, whether it is binary without padding, so
    /// that values are equal whose bytes are.
    pub deterministic: bool,
    /// Whether its collation is the database's own (true where none applies).
    pub default_collation: bool,
}

/// One unique index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniqueIndex {
    /// The index's or constraint's name.
    pub name: Arc<str>,
    /// Column places; `None` for an expression.
    pub columns: Vec<Option<usize>>,
}

/// A trigger that a user made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is BEFORE … FOR EACH ROW (it can change the row's key).
    pub before_row: bool,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// The constraint's name.
    pub name: Arc<str>,
    /// Column places here.
    pub columns: Vec<usize>,
    /// The table it points at.
    pub references: TableName,
    /// Names of the columns there, in the order of `columns`.
    pub referenced_columns: Vec<Arc<str>>,
}

/// What a user-defined type is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserType {
    /// Its OID on the catalog shard.
    pub oid: u32,
    /// `b` base, `c` composite, `d` domain, `e` enum, `p` pseudo, `r` range, `m` multirange (`pg_type.typtype`).
    pub kind: char,
    /// The OID of its array type on the catalog shard; 0 without one.
    pub array_oid: u32,
}

impl Schema {
    /// The relation of that name, if it exists outside the system schemas.
    #[must_use]
    pub fn relation(&self, name: &TableName) -> Option<&Arc<Relation>> {
        self.relations.get(name)
    }
}

impl Relation {
    /// A permanent relation without columns and all that hangs on them.
    #[must_use]
    pub fn bare(name: TableName, kind: RelationKind) -> Self {
        Self {
            name,
            kind,
            columns: Vec::new(),
            primary_key: None,
            unique: Vec::new(),
            triggers: Vec::new(),
            has_rules: false,
            row_security: false,
            parents: Vec::new(),
            has_children: false,
            foreign_keys: Vec::new(),
            definition: None,
            persistence: 'p',
            unfit: None,
        }
    }

    /// The place of a column by name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| &*column.name == name)
    }
}
