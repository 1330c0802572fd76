//! The same for MySQL: one shard, any shard, the union of plain reads, or shadows (`shadow`). All else is refused so far.

use std::sync::Arc;

use crate::error::ClientError;
use crate::error::Code;
use crate::ident::TableName;
use crate::plan::Plan;
use crate::plan::World;
use crate::plan::key::Column;
use crate::plan::key::Limits;
use crate::plan::key::Values;
use crate::plan::numbers;
use crate::plan::route::Around;
use crate::plan::route::Compiled;
use crate::plan::route::Compiler;
use crate::plan::route::Insert;
use crate::plan::route::InsertKeys;
use crate::plan::route::Keys;
use crate::plan::route::ONE_SHARD;
use crate::plan::route::Part;
use crate::plan::route::Route;
use crate::plan::route::Spread;
use crate::plan::route::is_whole;
use crate::plan::route::is_writable;
use crate::plan::route::needs_primary;
use crate::plan::route::same_part;
use crate::plan::route::unfit;
use crate::plan::shadow::Shadowing;
use crate::plan::split::Splitting;
use crate::schema::Relation;
use crate::schema::RelationKind;
use crate::shard_map::KeyType;
use crate::shard_map::Placement;
use crate::sql::model::Cell;
use crate::sql::model::LeafId;
use crate::sql::model::Query;
use crate::sql::model::Rows;
use crate::sql::model::Source;
use crate::sql::model::Value;
use crate::sql::model::Write;
use crate::sql::model::WriteKind;
use crate::sql::not_mapped;

/// Compiles a query of a database with several shards.
pub(super) fn compile(query: &Query, world: &World, around: Around<'_>) -> Result<Compiled, ClientError> {
    judge(query)?;
    let mut compiler = Compiler {
        query,
        world,
        database: &world.database,
        fixed: None,
        homes: Vec::new(),
        scattered: false,
        reference: false,
        copies: false,
        moving: None,
    };
    compiler.compile_mysql(around)
}

/// What is refused wherever it would run.
fn judge(query: &Query) -> Result<(), ClientError> {
    let notes = &query.notes;
    if let Some((what, hint)) = &notes.refused {
        return Err(ClientError::unsupported(what, hint));
    }
    if let Some(name) = &notes.unreviewed {
        return Err(ClientError::new(
            Code::FunctionNotReviewed,
            format!("{name} is not known to read only what is on one shard"),
            "Compute it in the application, or ask a shard's own server.",
        ));
    }
    Ok(())
}

/// What a write of several shards is told.
fn several(query: &Query) -> ClientError {
    let kind = query.writes.first().map(|it| it.kind);
    let (what, hint) = match kind {
        Some(WriteKind::Insert) => ("INSERT of rows of several shards", "Insert rows of one shard at a time."),
        Some(WriteKind::Update) => ("UPDATE of rows on several shards", "Name one value of the shard key in WHERE."),
        Some(WriteKind::Delete | WriteKind::Merge) => {
            ("DELETE of rows on several shards", "Name one value of the shard key in WHERE.")
        }
        None => ("locking rows on several shards", "Name one value of the shard key in WHERE."),
    };
    ClientError::unsupported(format!("{what} is not supported"), hint)
}

/// The key column with what it can hold.
fn limited(relation: &Relation, key: &str, key_type: KeyType, column: Column) -> Result<Column, ClientError> {
    let limits = match relation.column(key).and_then(|place| relation.columns.get(place)) {
        Some(known) => Limits::of(known, key_type),
        None => Limits::assumed(key_type),
    };
    if limits.is_none() {
        let why = format!("has a shard key \"{key}\" whose type or collation shardway cannot compute shards by");
        return Err(unfit(&relation.name, &why));
    }
    Ok(Column { limits, ..column })
}

/// Whether all values for an AUTO_INCREMENT column are numbers of their own.
pub(super) fn numbered(
    table: &TableName,
    column: &str,
    numbers: &InsertKeys,
    values: &Values<'_>,
) -> Result<(), ClientError> {
    let certain = match numbers {
        InsertKeys::Rows(rows) => rows.iter().all(|it| values.numbers_itself(it)),
        InsertKeys::Folded { value, first, width } => {
            let rows = 1 + values.shift.checked_div(*width).unwrap_or(0);
            (0..rows).all(|row| Values { from: *first, shift: row * width, ..*values }.numbers_itself(value))
        }
        InsertKeys::Selected(_) | InsertKeys::Along(..) => false,
    };
    if certain { Ok(()) } else { Err(counted(table, column)) }
}

fn counted(table: &TableName, column: &str) -> ClientError {
    ClientError::unsupported(
        format!(
            "INSERT that leaves \"{column}\" of sharded table \"{table}\" to AUTO_INCREMENT is not supported: every \
             shard counts by itself"
        ),
        format!("Give \"{column}\" from the application."),
    )
}

impl Compiler<'_> {
    fn compile_mysql(&mut self, around: Around<'_>) -> Result<Compiled, ClientError> {
        let query = self.query;
        // With its numbers it is planned anew.
        if around == Around::Nothing && numbers::compile(query, self.world).is_some_and(|it| it.draws_surely()) {
            let why = "numbers of AUTO_INCREMENT are taken first".to_owned();
            return Ok(Compiled { route: Route::Fixed(Plan::Draw, why), primary: true, writes: true, splice: None });
        }
        let catalog = self.database.catalog;
        let mut splice = None;
        let mut inserts = Vec::new();
        for write in &query.writes {
            inserts.extend(self.mysql_write(write, &mut splice)?);
        }
        let inserted: Vec<LeafId> =
            query.writes.iter().filter(|it| it.kind == WriteKind::Insert).map(|it| it.target).collect();
        let mut parts: Vec<Part> = Vec::new();
        let mut places: Vec<(LeafId, usize)> = Vec::new();
        for (leaf, it) in query.leaves.iter().enumerate() {
            match &it.source {
                Source::Derived(_) | Source::Rows => {}
                Source::System(name) => self.fix(catalog, format!("{name} is the server's own"))?,
                Source::Temporary(name) => {
                    let home = self.world.view.temporary.as_ref().map_or(catalog, |(shard, _)| *shard);
                    self.fix(home, format!("{name} is temporary"))?;
                }
                Source::Table(relation) => {
                    readable(relation)?;
                    let is_insert = inserted.contains(&leaf);
                    if let Some(mut part) = self.table(leaf, relation, is_insert)? {
                        self.place(part.group)?;
                        let key_type = self.group(part.group)?.key_type;
                        part.column = limited(relation, &part.key, key_type, part.column)?;
                        let place = match parts.iter().position(|known| same_part(known, &part)) {
                            Some(place) => place,
                            None => {
                                parts.push(part);
                                parts.len() - 1
                            }
                        };
                        places.push((leaf, place));
                    }
                }
            }
        }
        if let Some(name) = query.notes.acts.as_ref().or(query.notes.catalog.as_ref()) {
            self.fix(catalog, format!("{name} belongs on the catalog shard"))?;
        }
        let writes = !query.writes.is_empty() || query.notes.locks;
        let reads = !writes && around == Around::Nothing;
        self.fix_homes(!reads)?;
        let primary = needs_primary(query);
        if self.mysql_copies() {
            let splitting = self.mysql_copied(around)?;
            return Ok(Compiled { route: Route::Copies(Box::new(splitting)), primary, writes, splice });
        }
        if parts.is_empty() && inserts.is_empty() && !self.scattered {
            let (plan, why) = match self.fixed.take() {
                Some((shard, why)) => (Plan::One(shard), why),
                None if self.reference && writes => (Plan::One(catalog), "reference tables only".to_owned()),
                None if self.reference => (Plan::Any, "reference tables only".to_owned()),
                None if query.notes.placed || query.notes.volatile.is_some() => {
                    (Plan::One(catalog), "no tables, but an answer of the server's own".to_owned())
                }
                None => (Plan::Any, "no tables".to_owned()),
            };
            return Ok(Compiled { route: Route::Fixed(plan, why), primary, writes, splice });
        }
        for part in &parts {
            let group = self.group(part.group)?;
            if group.require_key && part.conditions.is_empty() {
                return Err(ClientError::new(
                    Code::KeyRequired,
                    format!("the statement names no shard key of \"{}\"", part.table),
                    format!(
                        "Add a condition such as {}.{} = …: the map asks for it (require_key).",
                        part.table, part.key
                    ),
                ));
            }
        }
        let beneath = query.top.is_some()
            && places.iter().any(|(leaf, _)| query.leaves.get(*leaf).map(|it| it.block) != query.top);
        let spread = match self.spread(&parts, &places, around, writes, false, None) {
            // Each shard changes the rows that it has: the statement is as many statements, and one transaction.
            Ok(anchor) if changes(query) => Spread::Concat(anchor.part),
            // Each locks those that it has, in the same way.
            Ok(anchor) if locks(query) && !beneath && !query.notes.placed => Spread::Concat(anchor.part),
            Ok(_) if writes => Spread::Refuse(several(query)),
            _ if beneath && !writes && around == Around::Nothing => Spread::Refuse(ClientError::unsupported(
                "a subquery over a sharded table across shards is not supported",
                format!("{ONE_SHARD}."),
            )),
            Err(_) if around == Around::One("EXPLAIN") => Spread::Refuse(ClientError::unsupported(
                "EXPLAIN across shards is not supported",
                "Name one value of the shard key, or ask each shard's own server.",
            )),
            // Each server has its own.
            Ok(_) if query.notes.placed => Spread::Refuse(ClientError::unsupported(
                "what asks for the session's state (a variable, a function such as last_insert_id) across shards is not \
                 supported",
                format!("Give its value as a constant or parameter. {ONE_SHARD}."),
            )),
            Ok(anchor) => Spread::Concat(anchor.part),
            Err(error) => Spread::Refuse(error),
        };
        let split = match changes(query) {
            // Columns may be set to the time by any UPDATE.
            true => Ok(Splitting::whole(
                query.notes.now || query.writes.iter().any(|it| it.kind == WriteKind::Update),
                false,
            )),
            false if splits(query) => Ok(Splitting {
                rows: true,
                returning: query.returns,
                // Columns may take the time by default.
                ..query.writes.first().map(|it| Splitting::of_rows(true, it)).unwrap_or_default()
            }),
            false if locks(query) => Ok(Splitting::whole(query.notes.now, false)),
            false => Err(several(query)),
        };
        let unite = if reads && !beneath { self.uniting(&parts, &places) } else { None };
        let (fixed, scattered) = (self.fixed.take(), self.scattered);
        let mut shadow = None;
        let mut spread = spread;
        if reads {
            match self.shadowing(fixed.as_ref().map(|(shard, _)| *shard), &places) {
                Ok(it) => shadow = Some(Box::new(Shadowing { unite, ..it })),
                Err(error) if scattered => return Err(error),
                Err(error) if matches!(spread, Spread::Refuse(_)) => spread = Spread::Refuse(error),
                Err(_) => {}
            }
        }
        let route = Route::Keys(Box::new(Keys {
            fixed,
            parts,
            inserts,
            spread,
            gather: None,
            shadow,
            merge: None,
            scattered,
            split,
            moving: None,
            writes,
            carry: None,
            bring: None,
        }));
        Ok(Compiled { route, primary, writes, splice })
    }

    /// Refuses groups whose keys have to be looked up first.
    fn place(&self, group: usize) -> Result<(), ClientError> {
        let group = self.group(group)?;
        if group.function.as_directory().is_some() {
            return Err(ClientError::unsupported(
                format!("group \"{}\", whose keys are in a directory, is not supported on MySQL", group.name),
                "Place it by hash, range or list.",
            ));
        }
        Ok(())
    }

    /// Checks a write, and gives what an INSERT into a sharded table needs.
    fn mysql_write(&self, write: &Write, splice: &mut Option<(usize, String)>) -> Result<Option<Insert>, ClientError> {
        let Some(Source::Table(relation)) = self.query.leaves.get(write.target).map(|it| &it.source) else {
            return Ok(None);
        };
        let name = &relation.name;
        let placement = self.database.placement(name).ok_or_else(|| not_mapped(name))?;
        readable(relation)?;
        is_writable(relation, self.database)?;
        let (group, key) = match placement {
            // Of copies is seen to as a whole (`mysql_copied`).
            Placement::Unsharded { .. } | Placement::Reference => return Ok(None),
            Placement::Sharded { group, key } => (group, key),
        };
        self.place(group)?;
        let key_type = self.group(group)?.key_type;
        let column = super::key_column(relation, &key, self.group(group)?)?;
        let column = limited(relation, &key, key_type, column)?;
        if write.assigned.iter().any(|(assigned, _)| assigned.eq_ignore_ascii_case(&key)) {
            return Err(ClientError::unsupported(
                format!("changing the shard key \"{key}\" of \"{name}\" is not supported"),
                "Delete the row and insert it again.",
            ));
        }
        if write.kind != WriteKind::Insert {
            return Ok(None);
        }
        if write.conflict.is_some() {
            unique(relation, &key)?;
        }
        let width = width(&write.rows);
        if write.splice_at.is_some() && (write.columns.is_empty() || width != Some(write.columns.len())) {
            return Err(ClientError::unsupported(
                format!("INSERT into \"{name}\" without a column list whose columns are not certain is not supported"),
                format!("Name the columns, \"{key}\" among them."),
            ));
        }
        if let Some(at) = write.splice_at {
            let names: Vec<String> = write.columns.iter().map(|it| format!("`{}`", it.replace('`', "``"))).collect();
            *splice = Some((at, format!(" ({})", names.join(", "))));
        }
        let numbers = relation.columns.iter().find(|it| it.uses_sequence && *it.name != *key);
        let numbered = match numbers {
            None => None,
            Some(it) => {
                Some((Arc::clone(&it.name), self.values_of(write, &it.name)?.ok_or_else(|| counted(name, &it.name))?))
            }
        };
        let missing = || {
            if matches!(write.rows, Rows::Query { .. }) {
                return ClientError::unsupported(
                    format!(
                        "INSERT … SELECT into \"{name}\" without one value of its shard key \"{key}\" is not supported"
                    ),
                    format!(
                        "Name \"{key}\" in the column list, and select a constant or parameter for it; or insert the rows by VALUES."
                    ),
                );
            }
            ClientError::new(
                Code::ShardKeyMissing,
                format!("insert into \"{name}\" gives no value for its shard key"),
                format!("Name \"{key}\" in the column list and give it a value."),
            )
        };
        let keys = self.values_of(write, &key)?.ok_or_else(missing)?;
        // A NULL becomes 0 where several rows are inserted without strict mode: NOT NULL refuses nothing by itself.
        Ok(Some(Insert { table: name.clone(), key, group, column, not_null: false, keys, numbered }))
    }

    /// What an INSERT gives for a column; `None`: it leaves it to the server.
    fn values_of(&self, write: &Write, column: &str) -> Result<Option<InsertKeys>, ClientError> {
        let computed = || {
            ClientError::unsupported(
                format!("\"{column}\" of an inserted row is computed by the server"),
                format!("Give \"{column}\" as a constant or parameter."),
            )
        };
        let Some(place) = write.columns.iter().position(|it| it.eq_ignore_ascii_case(column)) else {
            return Ok(None);
        };
        let cell = |row: &[Cell]| -> Result<Option<Value>, ClientError> {
            match row.get(place) {
                Some(Cell::Value(value)) => Ok(Some(value.clone())),
                Some(Cell::Other) => Err(computed()),
                Some(Cell::Default) | None => Ok(None),
            }
        };
        Ok(match &write.rows {
            Rows::Values(rows) => {
                let mut values = Vec::with_capacity(rows.len());
                for row in rows {
                    let Some(value) = cell(row)? else { return Ok(None) };
                    values.push(value);
                }
                Some(InsertKeys::Rows(values))
            }
            Rows::Folded { row, first, width } => {
                cell(row)?.map(|value| InsertKeys::Folded { value, first: *first, width: *width })
            }
            Rows::Query { blocks, outputs, .. } => {
                let ([block], Some(output)) = (blocks.as_slice(), outputs.get(place)) else { return Err(computed()) };
                if let Some(value) = &output.value {
                    return Ok(Some(InsertKeys::Rows(vec![value.clone()])));
                }
                let variable = output.variables.first().copied().flatten().ok_or_else(computed)?;
                let target = self.query.leaves.get(write.target).map(|it| &it.source);
                let own = match target {
                    Some(Source::Table(relation)) => relation.column(column).and_then(|it| relation.columns.get(it)),
                    _ => None,
                };
                let selected = self.query.variables.get(variable).map_or(0, |it| it.oid);
                let same = own.map_or(self.world.schema.assumed, |it| it.type_oid != 0 && it.type_oid == selected);
                let conditions = self.conditions_of(&self.query.facts_in(*block), variable, false);
                if !same || conditions.is_empty() {
                    return Err(computed());
                }
                Some(InsertKeys::Selected(conditions))
            }
            Rows::None | Rows::Defaults => None,
        })
    }
}

/// What looks for rows that are there already looks on one shard: every unique index must contain the key.
fn unique(relation: &Relation, key: &str) -> Result<(), ClientError> {
    let contains = |places: &[Option<usize>]| {
        places.iter().flatten().any(|it| relation.columns.get(*it).is_some_and(|it| *it.name == *key))
    };
    match relation.unique.iter().find(|it| !contains(&it.columns)) {
        None => Ok(()),
        Some(index) => Err(ClientError::unsupported(
            format!(
                "REPLACE, IGNORE, ON DUPLICATE KEY UPDATE or LOAD DATA LOCAL on \"{}\", whose unique index \"{}\" is without \
                 the shard key, is not supported",
                relation.name, index.name
            ),
            format!("No index is unique across shards that does not contain \"{key}\"."),
        )),
    }
}

/// Checks a table that LOAD DATA fills, and gives the column of its shard key, where it has one. `all`: the statement names
/// no columns.
pub(crate) fn loads(
    relation: &Relation,
    world: &World,
    key: Option<(usize, &str)>,
    all: bool,
) -> Result<Option<Column>, ClientError> {
    readable(relation)?;
    is_writable(relation, &world.database)?;
    let Some((group, key)) = key else { return Ok(None) };
    let group = world.database.groups.get(group).ok_or_else(|| not_mapped(&relation.name))?;
    let name = &relation.name;
    if group.function.as_directory().is_some() {
        return Err(ClientError::unsupported(
            format!("group \"{}\", whose keys are in a directory, is not supported on MySQL", group.name),
            "Place it by hash, range or list.",
        ));
    }
    unique(relation, key)?;
    let hidden = world.schema.mysql.as_ref().is_some_and(|it| it.invisible.contains_key(name));
    if all && (hidden || relation.columns.is_empty() || relation.columns.iter().any(|it| it.generated)) {
        return Err(ClientError::unsupported(
            format!(
                "LOAD DATA into \"{name}\" without a list of columns, some of which are hidden or generated, is not supported"
            ),
            format!("Name the columns, \"{key}\" among them."),
        ));
    }
    let column = super::key_column(relation, key, group)?;
    limited(relation, key, group.key_type, column).map(Some)
}

/// Whether it is one INSERT of rows that stand in its text, and reads nothing else.
fn splits(query: &Query) -> bool {
    matches!(query.writes.as_slice(), [write] if matches!(write.rows, Rows::Values(_) | Rows::Folded { .. }))
        && query.only_writes
        && query.leaves.len() == 1
        && !query.notes.locks
}

/// Whether it is one UPDATE or DELETE.
fn changes(query: &Query) -> bool {
    matches!(query.writes.as_slice(), [write] if matches!(write.kind, WriteKind::Update | WriteKind::Delete))
        && query.only_writes
        && !query.notes.locks
}

/// Whether it reads rows, and locks them.
fn locks(query: &Query) -> bool {
    query.writes.is_empty() && query.notes.locks
}

/// How many values a row has.
fn width(rows: &Rows) -> Option<usize> {
    match rows {
        Rows::Values(rows) => {
            let first = rows.first().map(Vec::len)?;
            rows.iter().all(|it| it.len() == first).then_some(first)
        }
        Rows::Folded { row, .. } => Some(row.len()),
        Rows::Query { outputs, whole, .. } => whole.then_some(outputs.len()),
        Rows::None | Rows::Defaults => None,
    }
}

/// Whether it is a table whose rows are where the map says.
fn readable(relation: &Relation) -> Result<(), ClientError> {
    if matches!(relation.kind, RelationKind::View | RelationKind::MaterializedView) {
        return Err(ClientError::unsupported(
            format!("view \"{}\" is not supported in a database of several shards", relation.name),
            "Ask for the tables that it shows.",
        ));
    }
    is_whole(relation)
}
