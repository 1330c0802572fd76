//! The map against what the shards' catalogs say of its tables. Pure.
//!
//! What is wrong with one table refuses statements on that table only ([`Unfit`]): all of them where a row could be
//! looked for in the wrong place, writes where only a write could go wrong.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::mysql;
use crate::error::ClientError;
use crate::error::Code;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::ident::TableName;
use crate::schema::Column;
use crate::schema::Relation;
use crate::schema::RelationKind;
use crate::schema::Schema;
use crate::shard_map::Database;
use crate::shard_map::Engine;
use crate::shard_map::KeyType;
use crate::shard_map::Placement;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// `check` fails.
    Error,
    /// It works, but probably not as meant.
    Warning,
    /// Good to know.
    Note,
}

/// Something that the servers say and the map should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A short name that stays, such as `table-missing`.
    pub code: &'static str,
    /// What was found: lower case, no full stop, names in double quotes.
    pub message: String,
    /// What to do: whole sentences.
    pub hint: String,
    /// The table that it is about, if it is about one.
    pub table: Option<TableName>,
    /// What statements on that table it refuses.
    pub refuses: Refuses,
}

/// What a finding refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refuses {
    /// Nothing.
    #[default]
    Nothing,
    /// Writes on the table.
    Writes,
    /// Every statement on the table.
    Everything,
}

/// Why statements on a table are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Whether reads are refused too.
    pub refuses: Refuses,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Unfit {
    /// The refusals that follow from findings, the gravest for each table.
    #[must_use]
    pub fn of(findings: &[Finding]) -> HashMap<TableName, Self> {
        let mut unfit: HashMap<TableName, Self> = HashMap::new();
        for finding in findings.iter().filter(|it| it.refuses != Refuses::Nothing) {
            let Some(table) = &finding.table else { continue };
            if unfit.get(table).is_none_or(|known| known.refuses < finding.refuses) {
                let (message, hint) = (finding.message.clone(), finding.hint.clone());
                unfit.insert(table.clone(), Self { refuses: finding.refuses, message, hint });
            }
        }
        unfit
    }

    /// The error for a statement that reads, or (`write`) writes, the table.
    #[must_use]
    pub fn refusal(&self, write: bool) -> Option<ClientError> {
        let refused = match self.refuses {
            Refuses::Nothing => false,
            Refuses::Writes => write,
            Refuses::Everything => true,
        };
        refused.then(|| ClientError::new(Code::TableUnfit, &self.message, self.hint.clone()))
    }
}

impl Finding {
    pub(super) fn new(
        severity: Severity,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { severity, code, message: message.into(), hint: hint.into(), table: None, refuses: Refuses::Nothing }
    }

    /// Puts it into the log.
    pub(super) fn log(&self) {
        let (code, hint) = (self.code, &*self.hint);
        match self.severity {
            Severity::Error => tracing::error!(code, hint, "{}", self.message),
            Severity::Warning => tracing::warn!(code, hint, "{}", self.message),
            Severity::Note => tracing::debug!(code, hint, "{}", self.message),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        write!(f, "{word}[{}]: {}\n  help: {}", self.code, self.message, self.hint)
    }
}

/// The schema with every unfit table marked, so that planning refuses what must not be done with it.
#[must_use]
pub(super) fn marked(mut schema: Schema, unfit: &HashMap<TableName, Unfit>) -> Schema {
    let mut names: Vec<&TableName> = unfit.keys().collect();
    names.sort();
    for name in names {
        let (Some(relation), Some(unfit)) = (schema.relations.get_mut(name), unfit.get(name)) else { continue };
        let mark = crate::schema::Unfit {
            writes_only: unfit.refuses == Refuses::Writes,
            message: unfit.message.clone(),
            hint: unfit.hint.clone(),
        };
        schema.digest = foldhash::fast::FixedState::default().hash_one((schema.digest, name, &mark));
        Arc::make_mut(relation).unfit = Some(mark);
    }
    schema
}

/// Compares every table of the map with the schemas of the shards, in the map's order (`None`: not read). A shard that
/// was not read is left out, not doubted.
#[must_use]
pub fn compare(database: &Database, schemas: &[Option<&Schema>]) -> Vec<Finding> {
    let mut tables: Vec<_> = database.tables.iter().collect();
    tables.sort_by_key(|(name, _)| *name);
    let mut findings = Vec::new();
    for (name, placement) in tables {
        Check { database, schemas, name, placement, findings: &mut findings }.table();
    }
    missing_sequences(database, schemas, &mut findings);
    of_whole_schemas(database, schemas, &mut findings);
    directories(database, schemas, &mut findings);
    if database.engine == Engine::Mysql {
        findings.extend(mysql::fit::findings(database, schemas));
    }
    findings
}

/// Directories say of each key one thing, and can be asked.
fn directories(database: &Database, schemas: &[Option<&Schema>], findings: &mut Vec<Finding>) {
    for group in &database.groups {
        let Some(directory) = group.function.as_directory() else { continue };
        let Some(schema) = schemas.get(directory.shard.index()).copied().flatten() else { continue };
        // That it is missing has been found.
        let Some(relation) = schema.relation(&directory.table) else { continue };
        let mut find = |severity, code, message, hint: &str| {
            let table = Some(directory.table.clone());
            findings.push(Finding { severity, code, message, hint: hint.to_owned(), table, refuses: Refuses::Nothing });
        };
        let name = &directory.table;
        let column = |name: &str| relation.column(name).and_then(|it| Some((it, relation.columns.get(it)?)));
        match column(&directory.key) {
            None => find(
                Severity::Error,
                "directory-column",
                format!("the directory \"{name}\" has no column \"{}\"", directory.key),
                "Name the column that holds the keys.",
            ),
            Some((_, key)) if !is_of(key, group.key_type) => find(
                Severity::Error,
                "directory-column",
                format!(
                    "the key \"{}\" of directory \"{name}\" is {}, but group \"{}\" is keyed by {}",
                    key.name, key.type_name, group.name, group.key_type
                ),
                "Make both the same type.",
            ),
            Some((place, key)) => {
                if !relation.unique.iter().any(|it| it.columns == [Some(place)]) {
                    find(
                        Severity::Warning,
                        "directory-not-unique",
                        format!("the key \"{}\" of directory \"{name}\" is not unique", key.name),
                        "Make it the primary key: a key with two shards is refused, and looked for row by row.",
                    );
                }
            }
        }
        match column(&directory.target) {
            Some((_, target)) if matches!(target.type_oid, 25 | 1043) => {}
            Some((_, target)) => find(
                Severity::Error,
                "directory-column",
                format!("column \"{}\" of directory \"{name}\" is {}", target.name, target.type_name),
                "It holds the shards' names: make it text.",
            ),
            None => find(
                Severity::Error,
                "directory-column",
                format!("the directory \"{name}\" has no column \"{}\"", directory.target),
                "Name the column that holds the shards' names.",
            ),
        }
    }
}

/// Tables of schemas that are whole on one shard: what is wrong with them there, and what of them is elsewhere.
fn of_whole_schemas(database: &Database, schemas: &[Option<&Schema>], findings: &mut Vec<Finding>) {
    if database.schemas.homes.is_empty() && database.schemas.other.is_none() {
        return;
    }
    for (place, schema) in (0_u16..).zip(schemas) {
        let (shard, Some(schema)) = (ShardId(place), schema) else { continue };
        let mut names: Vec<&TableName> = schema.relations.keys().collect();
        names.sort();
        for name in names {
            let Some(home) = database.schema_home(&name.schema).filter(|_| !database.tables.contains_key(name)) else {
                continue;
            };
            if home == shard {
                let is_table = |it: &Relation| matches!(it.kind, RelationKind::Table | RelationKind::Partitioned);
                if schema.relation(name).is_some_and(|it| is_table(it)) {
                    let placement = Placement::Unsharded { home };
                    Check { database, schemas, name, placement: &placement, findings }.table();
                }
                continue;
            }
            let there = schemas.get(home.index()).copied().flatten();
            let hides = there.is_none_or(|it| !it.relations.contains_key(name));
            let (name_here, name_home) = (&database.shard(shard).name, &database.shard(home).name);
            findings.push(Finding {
                severity: if hides { Severity::Error } else { Severity::Warning },
                code: "schema-elsewhere",
                message: format!("\"{name}\" is on shard \"{name_here}\", and its schema is whole on \"{name_home}\""),
                hint: "Nothing reads it there: move it, or drop it there.".to_owned(),
                table: Some(name.clone()),
                refuses: if hides { Refuses::Everything } else { Refuses::Nothing },
            });
        }
    }
}

/// Sequences of the map are on every shard: one counts, and any may be asked what a statement means that names them.
fn missing_sequences(database: &Database, schemas: &[Option<&Schema>], findings: &mut Vec<Finding>) {
    for name in database.sequences.keys() {
        let is_there = |schema: &Schema| schema.relation(name).is_some_and(|it| it.kind == RelationKind::Sequence);
        let read = || (0_u16..).zip(schemas).filter_map(|(at, it)| Some((ShardId(at), (*it)?)));
        let lacks: Vec<String> = read()
            .filter(|(_, schema)| !is_there(schema))
            .map(|(shard, _)| format!("\"{}\"", database.shard(shard).name))
            .collect();
        if lacks.is_empty() {
            continue;
        }
        let (severity, code) = match lacks.len() == read().count() {
            true => (Severity::Note, "sequence-not-created"),
            false => (Severity::Error, "sequence-missing"),
        };
        findings.push(Finding::new(
            severity,
            code,
            format!("sequence \"{name}\" is missing on shard {}", lacks.join(", ")),
            "CREATE SEQUENCE, or CREATE TABLE with a serial column, makes it on every shard when it is said through the \
             proxy.",
        ));
    }
}

/// The schema that planning goes by: the catalog shard's, with the tables that live elsewhere taken from there.
#[must_use]
pub(super) fn planning_schema(database: &Database, schemas: &[Option<&Schema>]) -> Option<Schema> {
    let canonical = (*schemas.get(database.catalog.index())?)?;
    let mut merged = canonical.clone();
    // What is in a schema that is whole on another shard is that shard's.
    merged.namespaces.retain(|it| database.schema_home(it).is_none_or(|home| home == database.catalog));
    for (place, schema) in (0_u16..).zip(schemas) {
        let shard = ShardId(place);
        let Some(schema) = schema.filter(|_| shard != database.catalog) else { continue };
        let whole = |it: &str| database.schema_home(it) == Some(shard);
        let mut found = false;
        for name in schema.namespaces.iter().filter(|it| whole(it)) {
            found |= merged.namespaces.insert(Arc::clone(name));
        }
        for (all, own) in
            [(&mut merged.user_functions, &schema.user_functions), (&mut merged.user_operators, &schema.user_operators)]
        {
            for (name, schemas) in own {
                for it in schemas.iter().filter(|it| whole(it)) {
                    let known = all.entry(Arc::clone(name)).or_default();
                    if !known.contains(it) {
                        known.push(Arc::clone(it));
                        found = true;
                    }
                }
            }
        }
        for (name, kind) in schema.user_types.iter().filter(|(name, _)| whole(&name.schema)) {
            merged.user_types.insert(name.clone(), kind.clone());
            found = true;
        }
        if found {
            merged.digest = merged.digest.rotate_left(7) ^ schema.digest ^ u64::from(place);
        }
        // Elsewhere they are told of, so that no name finds them there without the proxy knowing.
        let astray = |name: &TableName| {
            let home = database.schema_home(&name.schema).filter(|_| !database.tables.contains_key(name));
            let there = home.and_then(|it| *schemas.get(it.index())?);
            home.is_some() && there.is_none_or(|it| !it.relations.contains_key(name))
        };
        let here = |name: &TableName| match database.placement(name) {
            Some(Placement::Unsharded { home }) => home == shard || astray(name),
            Some(Placement::Sharded { .. } | Placement::Reference) => !canonical.relations.contains_key(name),
            None => false,
        };
        for (name, relation) in schema.relations.iter().filter(|(name, _)| here(name)) {
            // The shard's digest stands for whatever of it is used.
            merged.digest = merged.digest.rotate_left(7) ^ schema.digest ^ u64::from(place);
            merged.relations.insert(name.clone(), relation.clone());
        }
    }
    Some(merged)
}

/// One table under examination.
struct Check<'a> {
    database: &'a Database,
    schemas: &'a [Option<&'a Schema>],
    name: &'a TableName,
    placement: &'a Placement,
    findings: &'a mut Vec<Finding>,
}

impl<'a> Check<'a> {
    fn find(&mut self, severity: Severity, refuses: Refuses, code: &'static str, message: String, hint: String) {
        let table = Some(self.name.clone());
        self.findings.push(Finding { severity, code, message, hint, table, refuses });
    }

    fn error(&mut self, refuses: Refuses, code: &'static str, message: String, hint: impl Into<String>) {
        self.find(Severity::Error, refuses, code, message, hint.into());
    }

    fn warn(&mut self, code: &'static str, message: String, hint: impl Into<String>) {
        self.find(Severity::Warning, Refuses::Nothing, code, message, hint.into());
    }

    fn table(mut self) {
        let all = || ShardSet::all(self.database.shards.len());
        let wanted = match self.placement {
            Placement::Sharded { group, .. } => {
                self.database.groups.get(*group).map_or_else(all, |it| it.function.shards())
            }
            Placement::Reference => all(),
            Placement::Unsharded { home } => ShardSet::one(*home),
        };
        let read: Vec<(ShardId, &'a Schema)> =
            wanted.iter().filter_map(|shard| Some((shard, (*self.schemas.get(shard.index())?)?))).collect();
        let found: Vec<(ShardId, &'a Relation)> =
            read.iter().filter_map(|(shard, schema)| Some((*shard, schema.relation(self.name)?.as_ref()))).collect();
        let Some((first_shard, first)) = found.first().copied() else {
            if !read.is_empty() {
                let message = format!("table \"{}\" does not exist yet", self.name);
                let hint = match self.database.engine {
                    Engine::Postgres => "CREATE TABLE through the proxy makes it on every shard.",
                    Engine::Mysql => "Create it alike on every shard.",
                };
                self.find(Severity::Note, Refuses::Nothing, "table-not-created", message, hint.to_owned());
            }
            return;
        };
        for (shard, _) in read.iter().filter(|(shard, _)| found.iter().all(|(at, _)| at != shard)) {
            let message = format!("table \"{}\" is missing on shard {}", self.name, self.named(*shard));
            self.error(
                Refuses::Everything,
                "table-missing",
                message,
                format!("Create it there as it is on {}.", self.named(first_shard)),
            );
        }
        for (shard, other) in found.iter().skip(1) {
            self.same_columns((first_shard, first), (*shard, other));
        }
        for (shard, relation) in &found {
            self.relation(*shard, relation);
        }
    }

    fn named(&self, shard: ShardId) -> String {
        format!("\"{}\"", self.database.shard(shard).name)
    }

    /// Findings that are the same on every shard are told once, with the first of them.
    fn told(&self, code: &str) -> bool {
        self.findings.iter().any(|it| it.code == code && it.table.as_ref() == Some(self.name))
    }

    fn same_columns(&mut self, (shard, here): (ShardId, &Relation), (other, there): (ShardId, &Relation)) {
        let (shard, other) = (self.named(shard), self.named(other));
        let what = |it: &Column| (it.name.clone(), it.type_name.clone(), it.type_modifier, it.generated);
        if here.kind != there.kind || !here.columns.iter().map(what).eq(there.columns.iter().map(what)) {
            let differing = here
                .columns
                .iter()
                .map(Some)
                .chain(std::iter::repeat(None))
                .zip(there.columns.iter().map(Some).chain(std::iter::repeat(None)))
                .take(here.columns.len().max(there.columns.len()))
                .find(|(a, b)| a.map(what) != b.map(what));
            let shown = |it: Option<&Column>| {
                it.map_or_else(|| "no column".to_owned(), |it| format!("\"{}\" {}", it.name, it.type_name))
            };
            let detail = differing.map_or_else(
                || "it is not the same kind of relation".to_owned(),
                |(a, b)| format!("{} there, {} on {shard}", shown(b), shown(a)),
            );
            self.error(
                Refuses::Everything,
                "columns-differ",
                format!("the columns of table \"{}\" differ on shard {other}: {detail}", self.name),
                "Every shard needs the same columns of the same types in the same order: a dropped and re-added column \
                 moves to the end.",
            );
            return;
        }
        let soft = |it: &Column| (it.not_null, it.default.clone(), it.identity);
        if let Some((column, _)) = here.columns.iter().zip(&there.columns).find(|(a, b)| soft(a) != soft(b)) {
            let message = format!(
                "column \"{}\" of table \"{}\" has another default, identity or NOT NULL on shard {other} than on {shard}",
                column.name, self.name
            );
            self.warn("column-differs", message, "Make them equal, or the same INSERT means something else there.");
        }
    }

    fn relation(&mut self, shard: ShardId, relation: &Relation) {
        if !matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned) && !self.told("not-a-table") {
            self.error(
                Refuses::Everything,
                "not-a-table",
                format!("\"{}\" is not a table on shard {}", self.name, self.named(shard)),
                "The map places tables; views over them need no entry.",
            );
            return;
        }
        if let Placement::Sharded { group, key } = self.placement {
            self.key(shard, relation, *group, key);
            self.uniqueness(relation, *group, key);
            self.triggers(relation);
            self.sequences(relation);
        }
        if matches!(self.placement, Placement::Reference) {
            self.sequences(relation);
        }
        self.parents(relation);
        self.foreign_keys(relation);
    }

    fn key(&mut self, shard: ShardId, relation: &Relation, group: usize, key: &str) {
        let Some(group) = self.database.groups.get(group) else { return };
        let Some(column) = relation.column(key).and_then(|it| relation.columns.get(it)) else {
            if !self.told("key-missing") {
                let message = format!("table \"{}\" has no column \"{key}\" on shard {}", self.name, self.named(shard));
                self.error(
                    Refuses::Everything,
                    "key-missing",
                    message,
                    "Name the column that is the table's shard key.",
                );
            }
            return;
        };
        if !is_of(column, group.key_type) && !self.told("key-type") {
            let message = format!(
                "the shard key \"{key}\" of table \"{}\" is {}, but group \"{}\" is keyed by {}",
                self.name,
                column.type_name,
                group.name,
                group.key_type.name()
            );
            let hint = match self.database.engine {
                Engine::Postgres => {
                    "Give the column that type, or put the table into a group of its type: equal keys of different types \
                     hash differently."
                }
                Engine::Mysql => mysql::fit::key_type_hint(column, group.key_type),
            };
            self.error(Refuses::Everything, "key-type", message, hint);
        }
        if !column.deterministic && !self.told("key-collation") {
            let what = match self.database.engine {
                Engine::Postgres => "a collation that is not deterministic",
                Engine::Mysql => "a collation under which different texts are equal",
            };
            let message = format!("the shard key \"{key}\" of table \"{}\" has {what}", self.name);
            let hint = match self.database.engine {
                Engine::Postgres => {
                    "Values that are equal must have equal bytes: use a deterministic collation for the column."
                }
                Engine::Mysql => mysql::fit::KEY_COLLATION_HINT,
            };
            self.error(Refuses::Everything, "key-collation", message, hint);
        }
        if column.generated && !self.told("key-generated") {
            let message = format!("the shard key \"{key}\" of table \"{}\" is a generated column", self.name);
            self.error(
                Refuses::Everything,
                "key-generated",
                message,
                "The proxy must see the key of a row that it places: use an ordinary column.",
            );
        }
        if !column.not_null && !self.told("key-nullable") {
            let message = format!("the shard key \"{key}\" of table \"{}\" may be NULL", self.name);
            let alter = match self.database.engine {
                Engine::Postgres => format!("ALTER {key} SET NOT NULL"),
                Engine::Mysql => format!("MODIFY {key} {} NOT NULL", column.type_name),
            };
            let hint = format!("ALTER TABLE {} {alter} on every shard; a row without a key has no shard.", self.name);
            self.warn("key-nullable", message, hint);
        }
    }

    fn uniqueness(&mut self, relation: &Relation, group: usize, key: &str) {
        let spread = self.database.groups.get(group).is_some_and(|it| it.function.shards().len() > 1);
        let place = relation.column(key);
        for index in relation.unique.iter().filter(|it| spread && !it.columns.contains(&place)) {
            if self.told("unique-without-key") {
                return;
            }
            let message = format!(
                "\"{}\" of table \"{}\" is unique on each shard only: it does not contain the shard key \"{key}\"",
                index.name, self.name
            );
            let hint =
                format!("Add \"{key}\" to the columns of \"{}\": then equal rows meet on one shard.", index.name);
            self.error(Refuses::Writes, "unique-without-key", message, hint);
        }
    }

    fn triggers(&mut self, relation: &Relation) {
        let vouched = self.database.trusted_triggers.contains(self.name);
        let own = relation.triggers.iter().find(|it| it.before_row).map(|it| (self.name.clone(), it.name.clone()));
        // Rows that arrive through the parent meet the triggers of its partitions.
        let inherited = || {
            self.descendants().into_iter().find_map(|it| {
                it.triggers.iter().find(|it| it.before_row).map(|trigger| (it.name.clone(), trigger.name.clone()))
            })
        };
        if let Some((table, trigger)) = own.or_else(inherited)
            && !vouched
            && !self.told("before-row-trigger")
        {
            let message = format!(
                "trigger \"{trigger}\" of table \"{table}\" could change a row's shard key before it is stored"
            );
            let hint = format!(
                "If it leaves the key alone, say so in the map: tables: {{{}: {{key: …, triggers: safe}}}}.",
                self.name
            );
            self.error(Refuses::Writes, "before-row-trigger", message, hint);
        }
        if relation.has_rules && !self.told("rewrite-rule") {
            let message = format!("table \"{}\" has a rewrite rule, which could send its rows elsewhere", self.name);
            self.error(Refuses::Everything, "rewrite-rule", message, "Drop the rule, or make it a trigger.");
        }
    }

    fn descendants(&self) -> Vec<&'a Relation> {
        let mut names = BTreeSet::from([self.name.clone()]);
        let mut found: Vec<&Relation> = Vec::new();
        let relations = || self.schemas.iter().flatten().flat_map(|it| it.relations.values());
        while let Some(next) =
            relations().find(|it| !names.contains(&it.name) && it.parents.iter().any(|p| names.contains(p)))
        {
            names.insert(next.name.clone());
            found.extend(relations().filter(|it| it.name == next.name).map(AsRef::as_ref));
        }
        found
    }

    fn sequences(&mut self, relation: &Relation) {
        let served = |it: &Column| it.sequence.as_ref().is_some_and(|name| self.database.sequences.contains_key(name));
        // AUTO_INCREMENT, which has no default, is counted by the proxy.
        let counted = |it: &Column| self.database.engine == Engine::Mysql && it.default.is_none();
        let alone = |it: &&Column| it.uses_sequence && !served(it) && !counted(it);
        let Some(column) = relation.columns.iter().find(alone) else { return };
        if self.database.shards.len() == 1 || self.told("local-sequence") {
            return;
        }
        let message = format!(
            "column \"{}\" of table \"{}\" takes its default from a sequence, of which every shard has its own",
            column.name, self.name
        );
        let hint = match &column.sequence {
            Some(name) => format!(
                "An INSERT that leaves it out is refused. List it in the map to have one count for all: sequences: \
                 {{{name}: {{shard: {}}}}}.",
                self.database.shard(ShardId(0)).name
            ),
            None => "Give the column a value in every INSERT; one without is refused.".to_owned(),
        };
        self.warn("local-sequence", message, hint);
    }

    fn parents(&mut self, relation: &Relation) {
        for parent in &relation.parents {
            let differs = self.database.tables.get(parent).is_some_and(|it| it != self.placement);
            if differs && !self.told("parent-elsewhere") {
                let message =
                    format!("table \"{}\" inherits from \"{parent}\", which the map places otherwise", self.name);
                self.error(
                    Refuses::Everything,
                    "parent-elsewhere",
                    message,
                    "Rows of a child are rows of its parent: place both alike, or name only the parent.",
                );
            }
        }
    }

    fn foreign_keys(&mut self, relation: &Relation) {
        for foreign in &relation.foreign_keys {
            let target = self.database.placement(&foreign.references);
            let stays = match (self.placement, &target) {
                (_, Some(Placement::Reference)) => true,
                (Placement::Unsharded { home }, Some(Placement::Unsharded { home: other })) => home == other,
                (Placement::Sharded { group, .. }, Some(Placement::Sharded { group: other, .. })) => group == other,
                _ => false,
            };
            if !stays && !self.told("foreign-key-leaves") {
                let message = format!(
                    "foreign key \"{}\" of table \"{}\" points at \"{}\", whose rows live elsewhere",
                    foreign.name, self.name, foreign.references
                );
                self.error(
                    Refuses::Writes,
                    "foreign-key-leaves",
                    message,
                    "A server checks it among its own rows only: drop it, or make the other table a reference table or \
                     part of the group.",
                );
            }
            if let (Placement::Sharded { key, .. }, Some(Placement::Sharded { key: other, .. })) =
                (self.placement, &target)
                && stays
                && !carries_key(relation, foreign, key, other)
                && !self.told("foreign-key-without-key")
            {
                let message = format!(
                    "foreign key \"{}\" of table \"{}\" does not carry the shard key, so it finds rows of the same shard only",
                    foreign.name, self.name
                );
                let hint = format!("Add \"{key}\" to it, pointing at \"{other}\" of \"{}\".", foreign.references);
                self.warn("foreign-key-without-key", message, hint);
            }
        }
    }
}

fn carries_key(relation: &Relation, foreign: &crate::schema::ForeignKey, key: &str, other: &str) -> bool {
    let place = relation.column(key);
    foreign.columns.iter().zip(&foreign.referenced_columns).any(|(own, there)| Some(*own) == place && &**there == other)
}

/// Whether the column's own type is the group's: by OID, for a domain or a look-alike has another.
fn is_of(column: &Column, key_type: KeyType) -> bool {
    match key_type {
        KeyType::BigInt => column.type_oid == 20,
        KeyType::Int => column.type_oid == 23,
        KeyType::SmallInt => column.type_oid == 21,
        KeyType::Text => matches!(column.type_oid, 25 | 1043),
        KeyType::Uuid => column.type_oid == 2950,
        KeyType::Date => column.type_oid == 1082,
        KeyType::TimestampTz => column.type_oid == 1184,
        KeyType::Bytea => column.type_oid == 17,
    }
}
