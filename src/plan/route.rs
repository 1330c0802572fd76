//! Statement × World → [`Route`], once; Route × values → [`Plan`], every time.

mod mysql;
mod mysql_copies;
mod shadow;

use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::error::Code;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::ident::TableName;
use crate::mistakes::makes;
use crate::plan::Plan;
use crate::plan::World;
use crate::plan::bring::Bringing;
use crate::plan::carry;
use crate::plan::carry::Carrying;
use crate::plan::copy::CopyIn;
use crate::plan::draw;
use crate::plan::draw::Drawing;
use crate::plan::gather;
use crate::plan::gather::Gathering;
use crate::plan::key::Column;
use crate::plan::key::Found;
use crate::plan::key::Stored;
use crate::plan::key::Values;
use crate::plan::lookup::Lies;
use crate::plan::merge::Merging;
use crate::plan::merge::Named;
use crate::plan::moves::Moving;
use crate::plan::moves::Placing;
use crate::plan::shadow::Shadowing;
use crate::plan::split::Split;
use crate::plan::split::Splitting;
use crate::plan::split::asks_time;
use crate::schema::Relation;
use crate::schema::RelationKind;
use crate::shard_map::Database;
use crate::shard_map::Key;
use crate::shard_map::Placement;
use crate::shard_map::function::Bound;
use crate::sql::Names;
use crate::sql::facts::Facts;
use crate::sql::functions;
use crate::sql::lex;
use crate::sql::lex::Kind;
use crate::sql::model::BlockId;
use crate::sql::model::Cell;
use crate::sql::model::Comparison;
use crate::sql::model::Condition;
use crate::sql::model::ConflictTarget;
use crate::sql::model::LeafId;
use crate::sql::model::Query;
use crate::sql::model::Rows;
use crate::sql::model::Source;
use crate::sql::model::Value;
use crate::sql::model::VariableId;
use crate::sql::model::Write;
use crate::sql::model::WriteKind;
use crate::sql::not_mapped;

pub(crate) use self::mysql::loads;

/// How a compiled statement finds its shards.
#[derive(Debug)]
pub(crate) enum Route {
    /// Always the same.
    Fixed(Plan, String),
    /// By keys.
    Keys(Box<Keys>),
    /// A write of reference tables: the same on every shard.
    Copies(Box<Splitting>),
    /// COPY FROM STDIN: each row by its key.
    Copy(Box<CopyIn>),
    /// By what its text comes to with numbers of sequences.
    Draw(Box<Drawing>),
    /// By what its text comes to with the rows that its SELECT gives.
    Carry(Box<Carrying>),
}

/// Everything that must lie on one shard, and what to do when it does not.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Where unsharded tables and catalogs in the statement live.
    pub(crate) fixed: Option<(ShardId, String)>,
    /// Sharded tables that are read or changed.
    pub(crate) parts: Vec<Part>,
    /// Sharded tables that rows are inserted into.
    pub(crate) inserts: Vec<Insert>,
    /// When more than one shard is reached.
    pub(crate) spread: Spread,
    /// How it is answered by copies of its tables on one server.
    pub(crate) gather: Option<Box<Gathering>>,
    /// The same for MySQL.
    pub(crate) shadow: Option<Box<Shadowing>>,
    /// How it is answered by answers of shards that one server puts together.
    pub(crate) merge: Option<Merging>,
    /// Unsharded tables of several shards are in it: it is never answered by one shard alone.
    pub(crate) scattered: bool,
    /// A write: how each shard is told a part of it, or why it cannot be.
    pub(crate) split: Result<Splitting, ClientError>,
    /// An UPDATE that sets the shard key.
    pub(crate) moving: Option<Box<Moving>>,
    /// It writes.
    pub(crate) writes: bool,
    /// INSERT … SELECT: how it is carried out where its rows come from elsewhere.
    pub(crate) carry: Option<Box<Carrying>>,
    /// UPDATE, DELETE or MERGE: how it runs beside copies of tables that are elsewhere.
    pub(crate) bring: Option<Bringing>,
}

/// A sharded table with what is known about its key.
#[derive(Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) table: TableName,
    pub(crate) key: Arc<str>,
    pub(crate) group: usize,
    pub(crate) column: Column,
    pub(crate) conditions: Vec<KeyCondition>,
}

/// A condition on a shard key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum KeyCondition {
    Is(Vec<Value>),
    AnyOf(Value),
    Range(Comparison, Value),
    Nothing,
}

/// Rows for a sharded table.
#[derive(Debug)]
pub(crate) struct Insert {
    pub(crate) table: TableName,
    pub(crate) key: Arc<str>,
    pub(crate) group: usize,
    pub(crate) column: Column,
    /// The key column is NOT NULL: the server refuses a NULL by itself.
    pub(crate) not_null: bool,
    pub(crate) keys: InsertKeys,
    /// MySQL: another column that is AUTO_INCREMENT, and its values, which must all be numbers of their own.
    pub(crate) numbered: Option<(Arc<str>, InsertKeys)>,
}

/// Where inserted keys come from.
#[derive(Debug)]
pub(crate) enum InsertKeys {
    /// One value a row.
    Rows(Vec<Value>),
    /// One value for the first row, further rows by their literals.
    Folded { value: Value, first: u32, width: u32 },
    /// A SELECT whose key column satisfies these.
    Selected(Vec<KeyCondition>),
    /// A SELECT whose rows belong where they come from: this column of that block is the shard key of a table there.
    Along(BlockId, VariableId),
}

/// What to do when several shards are reached.
#[derive(Debug)]
pub(crate) enum Spread {
    /// Union of the answers of the shards of this part.
    Concat(usize),
    /// Refuse so.
    Refuse(ClientError),
}

/// What compiling a query gives besides its route.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) route: Route,
    /// Replicas may not serve it.
    pub(crate) primary: bool,
    pub(crate) writes: bool,
    /// INSERT without a column list: the list to splice in, behind this byte of the text.
    pub(crate) splice: Option<(usize, String)>,
}

/// A table of which a row stands behind every row of the answer.
struct Anchor {
    part: usize,
    key: Option<VariableId>,
}

const ONE_SHARD: &str = "Add a condition on the shard key so that one shard answers";

/// What stands around a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Around<'a> {
    /// Nothing: its rows are the answer.
    Nothing,
    /// Something that one server does, and what: it may do so with copies.
    Gathers(&'a str),
    /// The same, but it takes no parameters.
    Stages(&'a str),
    /// COPY of its rows as text: a line is a line, wherever it comes from. It takes no parameters.
    Copies,
    /// Something that one shard does with its own rows.
    One(&'a str),
}

/// Compiles a query.
pub(crate) fn compile(query: &Query, world: &World, around: Around<'_>) -> Result<Compiled, ClientError> {
    let database = &*world.database;
    let writes = !query.writes.is_empty() || query.notes.locks;
    if let Some(shard) = world.view.hint {
        let route = Route::Fixed(Plan::One(shard), "hint: shardway.shard".to_owned());
        return Ok(Compiled {
            route,
            primary: needs_primary(query),
            writes: writes || query.notes.unreviewed.is_some() || !query.notes.sequences.is_empty(),
            splice: None,
        });
    }
    if database.shards.len() == 1 {
        let notes = &query.notes;
        let unknown = notes.unreviewed.is_some()
            || notes.refused.is_some()
            || notes.into.is_some()
            || !notes.sequences.is_empty();
        return Ok(Compiled {
            route: Route::Fixed(Plan::One(ShardId(0)), "the database has one shard".to_owned()),
            // Nobody has looked at what views of MySQL call.
            primary: needs_primary(query) || (world.mysql.is_some() && shows_views(query)),
            writes: writes || unknown,
            splice: None,
        });
    }
    if world.mysql.is_some() {
        return mysql::compile(query, world, around);
    }
    // What is in a schema that is whole on a shard is nowhere else, not even its type.
    let carrying = carry::compile(query, world, around).filter(|_| !has_tenants(query, database)).map(Box::new);
    let drawing = draw::compile(query, world, around);
    let draws_later = drawing.is_err();
    match (drawing, &carrying) {
        (Ok(Some(drawing)), _) => {
            return Ok(Compiled { route: Route::Draw(Box::new(drawing)), primary: true, writes: true, splice: None });
        }
        (Ok(None), _) => judge(query)?,
        // It takes its numbers when it is told with its rows.
        (Err(_), Some(_)) if query.notes.sequences.is_empty() => judge(query)?,
        (Err(error), _) => return Err(error),
    }
    let mut compiler = Compiler {
        query,
        world,
        database,
        fixed: None,
        homes: Vec::new(),
        scattered: false,
        reference: false,
        copies: false,
        moving: None,
    };
    match (compiler.compile(around), carrying) {
        // One server could do it, with numbers of its own.
        (Ok(_), Some(carrying)) if draws_later => {
            Ok(Compiled { route: Route::Carry(carrying), primary: true, writes: true, splice: None })
        }
        (Ok(mut compiled), Some(carrying)) => {
            if let Route::Keys(keys) = &mut compiled.route {
                keys.carry = Some(carrying);
            }
            Ok(compiled)
        }
        (Err(error), Some(carrying)) if error.code == Code::Unsupported => {
            Ok(Compiled { route: Route::Carry(carrying), primary: true, writes: true, splice: None })
        }
        (outcome, _) => outcome,
    }
}

fn shows_views(query: &Query) -> bool {
    query.leaves.iter().any(|it| matches!(&it.source, Source::Table(relation) if relation.kind == RelationKind::View))
}

/// Whether it names a table of a schema that is whole on one shard.
pub(super) fn has_tenants(query: &Query, database: &Database) -> bool {
    query.leaves.iter().filter_map(|it| it.table()).any(|it| database.schema_home(&it.schema).is_some())
}

pub(crate) fn needs_primary(query: &Query) -> bool {
    let notes = &query.notes;
    notes.primary
        || notes.catalog.is_some()
        || notes.acts.is_some()
        || query.leaves.iter().any(|leaf| match &leaf.source {
            Source::System(_) | Source::Temporary(_) => true,
            Source::Table(relation) => relation.persistence == 'u' || relation.kind == RelationKind::Sequence,
            Source::Derived(_) | Source::Rows => false,
        })
}

/// What is refused wherever it would run.
fn judge(query: &Query) -> Result<(), ClientError> {
    let notes = &query.notes;
    if let Some((what, hint)) = &notes.refused {
        return Err(ClientError::unsupported(what, hint));
    }
    if let Some(name) = notes.sequences.first() {
        return Err(ClientError::unsupported(
            format!("{name} is not supported: a sequence has a life of its own on every shard"),
            "List the sequence in the map, under sequences: {NAME: {shard: …}}, or use gen_random_uuid().",
        ));
    }
    let beside_tables = |_: &&String| {
        !query.writes.is_empty()
            || query.leaves.iter().any(|leaf| matches!(leaf.source, Source::Table(_) | Source::Temporary(_)))
    };
    if let Some(name) = notes.unreviewed.as_ref().or_else(|| notes.unlisted.as_ref().filter(beside_tables)) {
        return Err(ClientError::new(
            Code::FunctionNotReviewed,
            format!("{name} is not known to read only what is on one shard"),
            "If it reads no tables, declare it in the map under functions: {safe: […]}.",
        ));
    }
    if notes.into.is_some() {
        return Err(ClientError::unsupported(
            "SELECT INTO is not supported",
            "List the new table in the map, create it, and insert into it.",
        ));
    }
    Ok(())
}

pub(super) struct Compiler<'a> {
    pub(super) query: &'a Query,
    world: &'a World,
    pub(super) database: &'a Database,
    fixed: Option<(ShardId, String)>,
    /// Unsharded tables, with where they live.
    homes: Vec<(LeafId, ShardId)>,
    pub(super) scattered: bool,
    reference: bool,
    /// A reference table is written.
    copies: bool,
    /// The shard key is set.
    moving: Option<Box<Moving>>,
}

impl<'a> Compiler<'a> {
    fn compile(&mut self, around: Around<'_>) -> Result<Compiled, ClientError> {
        let query = self.query;
        let catalog = self.database.catalog;
        let mut splice = None;
        let mut inserts = Vec::new();
        for write in &query.writes {
            if let Some(insert) = self.write(write, &mut splice, around)? {
                inserts.push(insert);
            }
        }
        let inserted: Vec<LeafId> =
            query.writes.iter().filter(|it| it.kind == WriteKind::Insert).map(|it| it.target).collect();
        let mut parts: Vec<Part> = Vec::new();
        let mut places: Vec<(LeafId, usize)> = Vec::new();
        for (leaf, it) in query.leaves.iter().enumerate() {
            match &it.source {
                Source::Derived(_) | Source::Rows => {}
                Source::System(name) => self.fix(catalog, format!("{name} is a catalog"))?,
                Source::Temporary(name) => {
                    let home = self.world.view.temporary.as_ref().map_or(catalog, |(shard, _)| *shard);
                    self.fix(home, format!("{name} is temporary"))?;
                }
                Source::Table(relation) => {
                    let is_insert = inserted.contains(&leaf);
                    if let Some(part) = self.table(leaf, relation, is_insert)?
                        && !is_insert
                    {
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
        self.fix_homes(writes || matches!(around, Around::One(_)))?;
        let primary = needs_primary(query);
        if self.copies {
            let splitting = self.copied(around)?;
            return Ok(Compiled { route: Route::Copies(Box::new(splitting)), primary, writes, splice });
        }
        if parts.is_empty() && inserts.is_empty() && !self.scattered {
            let (plan, why) = match self.fixed.take() {
                Some((shard, why)) => (Plan::One(shard), why),
                None if self.reference => (Plan::Any, "reference tables only".to_owned()),
                None if query.notes.placed || query.notes.volatile.is_some() => {
                    (Plan::One(catalog), "no tables, but an answer of the server's own".to_owned())
                }
                None => (Plan::Any, "no tables".to_owned()),
            };
            let plan =
                if let (Plan::Any, true) = (&plan, writes && self.reference) { Plan::One(catalog) } else { plan };
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
        let reads = !writes && inserts.is_empty() && !matches!(around, Around::One(_));
        let locking = writes || !inserts.is_empty();
        let mut merge = None;
        let along = match inserts.as_slice() {
            [Insert { keys: InsertKeys::Along(block, variable), group, .. }] => Some((*block, *variable, *group)),
            _ => None,
        };
        let mut spread = match self.spread(&parts, &places, around, locking, false, along) {
            Ok(anchor) => Spread::Concat(anchor.part),
            Err(error) => Spread::Refuse(error),
        };
        if reads
            && let Spread::Refuse(_) = spread
            && let Some((anchor, merging)) = self.merging(&parts, &places, around)
        {
            match merging {
                None => spread = Spread::Concat(anchor),
                Some(merging) => merge = Some(merging),
            }
        }
        let gathering = self.gathering(&places, None).and_then(|mut it| {
            it.staged |= matches!(around, Around::Stages(_) | Around::Copies);
            if it.staged && it.arrays_only { Err(neither_way()) } else { Ok(it) }
        });
        let gather = match gathering {
            Ok(gathering) if reads => Some(Box::new(gathering)),
            Err(error) if reads && matches!(spread, Spread::Refuse(_)) => {
                spread = Spread::Refuse(error);
                None
            }
            Ok(_) | Err(_) => None,
        };
        let split = self.splitting(&places, around);
        let mut bring = None;
        if let (Spread::Refuse(_), Ok(_)) = (&spread, &split) {
            // Where neither way will do, it is the first that is told of.
            bring = self.bringing(&places, around).and_then(Result::ok);
        }
        let (fixed, moving, scattered) = (self.fixed.take(), self.moving.take(), self.scattered);
        let route = Route::Keys(Box::new(Keys {
            fixed,
            parts,
            inserts,
            spread,
            gather,
            shadow: None,
            merge,
            scattered,
            split,
            moving,
            writes,
            carry: None,
            bring,
        }));
        Ok(Compiled { route, primary, writes, splice })
    }

    fn fix(&mut self, shard: ShardId, why: String) -> Result<(), ClientError> {
        match &self.fixed {
            Some((other, before)) if *other != shard => Err(ClientError::unsupported(
                format!("the statement reaches two shards: {before}, {why}"),
                "Ask for these in two statements.",
            )),
            Some(_) => Ok(()),
            None => {
                self.fixed = Some((shard, why));
                Ok(())
            }
        }
    }

    /// Unsharded tables of one shard bind the statement to it. Those of several can be read together only by a copy.
    fn fix_homes(&mut self, together: bool) -> Result<(), ClientError> {
        let homes = std::mem::take(&mut self.homes);
        let first = self.fixed.as_ref().map(|(shard, _)| *shard).or_else(|| homes.first().map(|(_, home)| *home));
        self.scattered = !together && homes.iter().any(|(_, home)| Some(*home) != first);
        // A copy is of the table's type, which is where the schema is.
        let named = |leaf: LeafId| self.query.leaves.get(leaf).and_then(|it| it.table());
        let apart = |(leaf, home): &&(LeafId, ShardId)| {
            Some(*home) != first && named(*leaf).is_some_and(|it| self.database.schema_home(&it.schema).is_some())
        };
        let of_schema = homes.iter().find(apart).or_else(|| {
            let first = homes.first().filter(|_| self.scattered)?;
            named(first.0).is_some_and(|it| self.database.schema_home(&it.schema).is_some()).then_some(first)
        });
        if let Some((leaf, home)) = of_schema {
            let name = named(*leaf).map(ToString::to_string).unwrap_or_default();
            let shard = &self.database.shard(*home).name;
            let other =
                self.fixed.as_ref().map_or_else(|| "what is on another shard".to_owned(), |(_, why)| why.clone());
            return Err(ClientError::unsupported(
                format!(
                    "\"{name}\", whose schema is whole on shard \"{shard}\", together with {other} is not supported"
                ),
                "Ask for what is in each schema in a statement of its own.",
            ));
        }
        for (leaf, home) in &homes {
            if self.scattered && Some(*home) != first {
                continue;
            }
            let name = self.query.leaves.get(*leaf).and_then(|it| it.table()).map(ToString::to_string);
            self.fix(*home, format!("{} is unsharded", name.unwrap_or_default()))?;
        }
        self.homes = homes;
        Ok(())
    }

    fn group(&self, place: usize) -> Result<&'a crate::shard_map::Group, ClientError> {
        self.database.groups.get(place).ok_or_else(|| {
            ClientError::new(Code::Internal, "a table names a group that is not in the map", "Report this.")
        })
    }

    /// Where a table's rows may be; `None`: it is not sharded.
    fn table(&mut self, leaf: LeafId, relation: &Arc<Relation>, inserted: bool) -> Result<Option<Part>, ClientError> {
        let name = &relation.name;
        if relation.kind == RelationKind::Sequence
            && let Some(shard) = self.counts_at(name)
        {
            self.fix(shard, format!("sequence {name} counts there"))?;
            return Ok(None);
        }
        let placement = self.database.placement(name).ok_or_else(|| not_mapped(name))?;
        is_whole(relation)?;
        match placement {
            Placement::Unsharded { home } => {
                self.homes.push((leaf, home));
                Ok(None)
            }
            Placement::Reference => {
                self.reference = true;
                Ok(None)
            }
            Placement::Sharded { group, key } => {
                if inserted {
                    return Ok(None);
                }
                let facts = self.query.facts_of(leaf);
                let column = key_column(relation, &key, self.group(group)?)?;
                let block = self.query.leaves.get(leaf).map_or(0, |it| it.block);
                // IS NULL holds for rows that an outer join fills, so it tells nothing about rows that it may fill.
                let there = self.query.facts_in(block).is_real(leaf);
                let conditions = self.conditions(&facts, leaf, &key, there);
                Ok(Some(Part { table: name.clone(), key, group, column, conditions }))
            }
        }
    }

    /// The only shard on which a sequence counts.
    fn counts_at(&self, name: &TableName) -> Option<ShardId> {
        if let Some(sequence) = self.database.sequences.get(name) {
            return Some(sequence.shard);
        }
        let numbers = |it: &&Arc<Relation>| it.columns.iter().any(|column| column.sequence.as_ref() == Some(name));
        let table = self.world.schema.relations.values().find(numbers)?;
        match self.database.placement(&table.name)? {
            Placement::Unsharded { home } => Some(home),
            Placement::Sharded { .. } | Placement::Reference => None,
        }
    }

    pub(super) fn variable(&self, leaf: LeafId, column: &str) -> Option<VariableId> {
        self.query.variables.iter().position(|it| it.leaf == leaf && &*it.column == column)
    }

    /// What the facts say about a column.
    fn conditions(&self, facts: &Facts, leaf: LeafId, key: &str, there: bool) -> Vec<KeyCondition> {
        match self.variable(leaf, key) {
            Some(variable) => self.conditions_of(facts, variable, there),
            None => facts
                .conditions()
                .filter(|id| matches!(self.query.conditions.get(*id), Some(Condition::Never)))
                .map(|_| KeyCondition::Nothing)
                .take(1)
                .collect(),
        }
    }

    fn conditions_of(&self, facts: &Facts, variable: VariableId, there: bool) -> Vec<KeyCondition> {
        let mut found = Vec::new();
        let deterministic = self.query.variables.get(variable).is_none_or(|it| it.deterministic);
        for id in facts.conditions() {
            let condition = match self.query.conditions.get(id) {
                Some(Condition::Is(it, values)) if facts.same(*it, variable) => KeyCondition::Is(values.clone()),
                Some(Condition::AnyOf(it, value)) if facts.same(*it, variable) => KeyCondition::AnyOf(value.clone()),
                Some(Condition::Range(it, comparison, value)) if facts.same(*it, variable) => {
                    KeyCondition::Range(*comparison, value.clone())
                }
                // The very column, NOT NULL, of a row that is there.
                Some(Condition::Null(it)) if *it == variable => match self.query.variables.get(*it) {
                    Some(column) if column.not_null && there => KeyCondition::Nothing,
                    _ => continue,
                },
                Some(Condition::Never) => KeyCondition::Nothing,
                _ => continue,
            };
            if deterministic && !found.contains(&condition) {
                found.push(condition);
            }
        }
        found
    }

    pub(super) fn is_sharded(&self, leaf: LeafId) -> Option<(usize, Arc<str>)> {
        let name = self.query.leaves.get(leaf)?.table()?;
        match self.database.placement(name)? {
            Placement::Sharded { group, key } => Some((group, key)),
            Placement::Reference | Placement::Unsharded { .. } => None,
        }
    }

    /// Whether the answer is the union of the shards' answers, and which part says which shards; else why not.
    fn spread(
        &self,
        parts: &[Part],
        places: &[(LeafId, usize)],
        around: Around<'_>,
        writes: bool,
        merging: bool,
        along: Option<(BlockId, VariableId, usize)>,
    ) -> Result<Anchor, ClientError> {
        let query = self.query;
        // The table whose key is still to be named; with all of them named, other keys will not do.
        let hint = match parts.iter().find(|part| !part.is_named()) {
            Some(part) => format!("{ONE_SHARD}, such as {}.{} = ….", part.table, part.key),
            None => "The keys that it names may lie on several shards: ask for one of them in a statement.".to_owned(),
        };
        let refuse =
            |what: String| ClientError::unsupported(format!("{what} across shards is not supported"), hint.clone());
        if around == Around::One("EXPLAIN") {
            return Err(ClientError::unsupported(
                "EXPLAIN across shards is not supported",
                "EXPLAIN (SHARDS) tells where it goes. Each shard's plan of a read is shown in text format, to a Query \
                 without parameters.",
            ));
        }
        if let Around::Gathers(what) | Around::Stages(what) | Around::One(what) = around {
            return Err(refuse(what.to_owned()));
        }
        if around == Around::Copies && (!query.writes.is_empty() || query.notes.locks) {
            return Err(refuse("COPY of a query that writes or locks rows".to_owned()));
        }
        // Each shard changes the rows that it has: the statement is as many statements, and one transaction.
        let target = match query.writes.as_slice() {
            // What MERGE inserts belongs where the source's row is.
            [write] if write.kind == WriteKind::Merge && along.is_some() => None,
            [write] if query.only_writes && write.kind != WriteKind::Insert && self.fixed.is_none() => {
                Some(write.target)
            }
            _ => None,
        };
        // Or inserts what it finds in its own.
        let along = along.filter(|_| query.only_writes && self.fixed.is_none());
        // Or locks rows of its own. Copies of a reference table's row would have to be locked on all shards.
        let locks = query.notes.locks
            && query.writes.is_empty()
            && !merging
            && around == Around::Nothing
            && self.fixed.is_none()
            && !self.reference;
        let each = target.is_some() || along.is_some() || locks;
        if let Some(write) = query.writes.first().filter(|_| !each) {
            let what = match write.kind {
                WriteKind::Insert => "INSERT",
                WriteKind::Update => "UPDATE",
                WriteKind::Delete => "DELETE",
                WriteKind::Merge => {
                    return Err(ClientError::unsupported(
                        "MERGE across shards is not supported",
                        "Name the target's shard key by a constant in ON, and a sharded source's in a subquery: \
                         USING (SELECT … WHERE key = …).",
                    ));
                }
            };
            return Err(match &self.fixed {
                Some((_, why)) => two_shards(what, why),
                None => refuse(what.to_owned()),
            });
        }
        if query.notes.locks != locks || (writes && !each) {
            return Err(refuse("locking rows (FOR UPDATE, FOR SHARE)".to_owned()));
        }
        let top = along
            .map(|(block, ..)| block)
            .or_else(|| target.and_then(|leaf| query.leaves.get(leaf)).map(|leaf| leaf.block));
        let top = top.or(query.top).ok_or_else(|| {
            let what =
                query.blocks.iter().find_map(|it| it.obstacle.clone()).unwrap_or_else(|| "this query".to_owned());
            refuse(what)
        })?;
        if let Some((_, why)) = &self.fixed {
            return Err(two_shards("a join", why));
        }
        let obstacle = query.blocks.get(top).filter(|it| !merging || it.hard).and_then(|it| it.obstacle.clone());
        if let Some(what) = obstacle {
            return Err(refuse(if locks { format!("locking rows (FOR UPDATE, FOR SHARE) with {what}") } else { what }));
        }
        let notes = &query.notes;
        if let Some(what) = &notes.volatile {
            return Err(refuse(format!("volatile function {what}")));
        }
        // What a write says of the time is written out (`Splitting`).
        if notes.now && !each {
            return Err(refuse("now() and its family".to_owned()));
        }
        if let Some(what) = &notes.system_column {
            return Err(refuse(format!("system column \"{what}\"")));
        }
        // The same table has another number on each shard.
        let numbered = query.leaves.iter().enumerate().find_map(|(leaf, it)| {
            let Source::Table(relation) = &it.source else { return None };
            let copied = self.copied_columns(leaf, relation);
            let is_copied = |place: usize| copied.as_ref().is_none_or(|it| it.contains(&place));
            let mut columns = relation.columns.iter().enumerate();
            columns.find(|(place, it)| is_copied(*place) && is_object(it.type_oid)).map(|(_, it)| &it.name)
        });
        if let Some(column) = numbered {
            return Err(refuse(format!("column \"{column}\", which names objects of a database by number,")));
        }
        // What depends on the order in which rows lie is computed once.
        let by_chance = query.blocks.iter().enumerate().find(|(id, block)| {
            let reads = |it: &crate::sql::model::Leaf| it.block == *id && !matches!(it.source, Source::Rows);
            let sharded = |leaf: LeafId| query.leaves.get(leaf).is_some_and(|it| it.block == *id);
            *id != top
                && (block.hard || block.ranked || block.by_order || block.windowed)
                && query.leaves.iter().any(reads)
                && !places.iter().any(|(leaf, _)| sharded(*leaf))
        });
        if let Some((_, block)) = by_chance {
            return Err(refuse(block.obstacle.clone().unwrap_or_else(|| "a subquery".to_owned())));
        }
        // Of a write's columns one server tells, and what holds such a number is found (`session::split`).
        // In text it has no number.
        if let Some(what) = notes.user_type.as_ref().filter(|_| !each && around != Around::Copies) {
            return Err(ClientError::unsupported(
                format!("a user-defined type in the answer (\"{what}\") across shards is not supported"),
                format!("Cast columns of such a type to text. {hint}"),
            ));
        }
        // A table whose row stands behind every row of the answer.
        let facts = query.facts_in(top);
        let anchor = places.iter().find(|(leaf, _)| {
            let is_key = |(_, wanted, group): (BlockId, VariableId, usize)| {
                let key = self.is_sharded(*leaf).filter(|(of, _)| *of == group);
                key.and_then(|(_, key)| self.variable(*leaf, &key))
                    .is_some_and(|it| it == wanted || facts.same(it, wanted))
            };
            facts.is_real(*leaf)
                && self.reached_plainly(*leaf, top)
                && target.is_none_or(|it| it == *leaf)
                && along.is_none_or(is_key)
        });
        let Some((anchor, anchor_part)) = anchor else {
            let what = places
                .iter()
                .find_map(|(leaf, _)| self.first_obstacle(*leaf))
                .unwrap_or_else(|| "an outer join that may fill up every sharded table".to_owned());
            return Err(refuse(what));
        };
        let Some((anchor_group, anchor_key)) = self.is_sharded(*anchor) else {
            return Err(refuse("this query".to_owned()));
        };
        let anchor_key = self.variable(*anchor, &anchor_key);
        for (leaf, _) in places {
            let block = query.leaves.get(*leaf).map_or(top, |it| it.block);
            let is_outside = block == top || query.blocks.get(block).is_some_and(|it| it.host.is_some());
            if leaf == anchor || (!is_outside && makes("subquery-per-shard")) {
                continue;
            }
            let colocated = match self.is_sharded(*leaf) {
                Some((group, key)) if group == anchor_group => {
                    let facts = query.facts_of(*leaf);
                    match (self.variable(*leaf, &key), anchor_key) {
                        (Some(own), Some(theirs)) => facts.same(own, theirs),
                        _ => false,
                    }
                }
                _ => false,
            };
            if !colocated && !makes("any-join-is-local") {
                let name = |leaf: LeafId| {
                    query.leaves.get(leaf).and_then(|it| it.table()).map(ToString::to_string).unwrap_or_default()
                };
                return Err(ClientError::unsupported(
                    format!(
                        "\"{}\" and \"{}\" together across shards are not supported: they are not joined on their shard keys",
                        name(*anchor),
                        name(*leaf)
                    ),
                    hint,
                ));
            }
        }
        Ok(Anchor { part: *anchor_part, key: anchor_key })
    }

    /// How the answers of shards come to the answer, where they do so with some more work on the whole; the part that
    /// says which shards; `None` in the place of the work: there is none, for no group has rows on two shards.
    fn merging(
        &self,
        parts: &[Part],
        places: &[(LeafId, usize)],
        around: Around<'_>,
    ) -> Option<(usize, Option<Merging>)> {
        let query = self.query;
        let notes = &query.notes;
        // A function of one's own may be called once for the answer and once for its order.
        if around != Around::Nothing
            || notes.placed
            || notes.sampled
            || notes.own_function
            || !notes.set_config.is_empty()
        {
            return None;
        }
        let top = query.top?;
        let block = query.blocks.get(top)?;
        // What is added to the select list is called so.
        let is_ours = |leaf: &crate::sql::model::Leaf| match &leaf.source {
            Source::Table(relation) => relation.columns.iter().any(|it| it.name.starts_with("sw_")),
            _ => false,
        };
        if query.leaves.iter().any(is_ours) {
            return None;
        }
        let anchor = self.spread(parts, places, around, false, true, None).ok()?;
        let facts = query.facts_in(top);
        let by_key = anchor.key.is_some_and(|key| block.grouped.iter().any(|it| facts.same(*it, key)));
        let whole = if block.groups { by_key || makes("groups-per-shard") } else { !block.aggregated };
        if whole && (!block.ranked || (makes("distinct-per-shard") && block.obstacle.as_deref() == Some("DISTINCT"))) {
            return Some((anchor.part, None));
        }
        let plain = |leaf: &crate::sql::model::Leaf| match &leaf.source {
            Source::Table(relation) => relation.columns.iter().all(|it| it.default_collation && it.type_oid != 19),
            Source::Derived(_) => true,
            Source::System(_) | Source::Temporary(_) | Source::Rows => false,
        };
        let merging = Merging {
            anchor: anchor.part,
            whole,
            items: block.items.iter().map(|it| it.clone().map(|(aliased, name)| Named { aliased, name })).collect(),
            grouped_outputs: block.grouped_outputs.clone(),
            collated: notes.collates || !query.leaves.iter().all(plain),
            lonely: query.leaves.len() == 1,
        };
        Some((anchor.part, Some(merging)))
    }

    /// Whether a leaf's block is `top` or a plain derived table in it.
    fn reached_plainly(&self, leaf: LeafId, top: BlockId) -> bool {
        let mut block = match self.query.leaves.get(leaf) {
            Some(it) => it.block,
            None => return false,
        };
        loop {
            let Some(it) = self.query.blocks.get(block) else { return false };
            if block == top {
                return true;
            }
            if it.obstacle.is_some() {
                return false;
            }
            match (it.host, it.parent) {
                (Some(_), Some(parent)) => block = parent,
                _ => return false,
            }
        }
    }

    fn first_obstacle(&self, leaf: LeafId) -> Option<String> {
        let mut block = self.query.leaves.get(leaf)?.block;
        loop {
            let it = self.query.blocks.get(block)?;
            if let Some(what) = &it.obstacle {
                return Some(what.clone());
            }
            if it.host.is_none() && it.parent.is_some() {
                return Some("a subquery over all of a sharded table".to_owned());
            }
            block = it.parent?;
        }
    }

    /// Rows of a directory come, and stay as they are: what would change where the rows of a key are looked for, is refused.
    fn directory(&self, write: &Write, name: &TableName) -> Result<(), ClientError> {
        let group = self.database.directory_of(name).and_then(|it| self.database.groups.get(it));
        let Some((group, directory)) = group.and_then(|it| Some((it, it.function.as_directory()?))) else {
            let Some((group, columns)) = behind_directory(name, self.world) else { return Ok(()) };
            let is_key = |it: &&(Arc<str>, Option<Value>)| columns.contains(&it.0);
            let what = match write.kind {
                WriteKind::Delete => "DELETE from",
                WriteKind::Merge => "MERGE into",
                WriteKind::Insert | WriteKind::Update if write.assigned.iter().any(|it| is_key(&it)) => {
                    "a change of a key in"
                }
                WriteKind::Insert | WriteKind::Update => return Ok(()),
            };
            return Err(behind_refused(what, name, &group.name));
        };
        let what = match write.kind {
            WriteKind::Delete => Some("DELETE from"),
            WriteKind::Merge => Some("MERGE into"),
            WriteKind::Insert if directory.missing.is_some() => Some("INSERT into"),
            // What it sets may not be told apart from what it may set.
            WriteKind::Insert if write.conflict.as_ref().is_some_and(|it| it.updates) => {
                Some("ON CONFLICT DO UPDATE of rows in")
            }
            WriteKind::Insert | WriteKind::Update => {
                let moves = |it: &Arc<str>| *it == directory.key || *it == directory.target;
                let moving = write.assigned.iter().any(|(column, _)| moves(column));
                moving.then_some("a change of the key or the shard in")
            }
        };
        what.map_or(Ok(()), |what| Err(directory_moves(what, name, &group.name)))
    }

    /// Checks a write, and gives what an INSERT into a sharded table needs.
    fn write(
        &mut self,
        write: &Write,
        splice: &mut Option<(usize, String)>,
        around: Around<'_>,
    ) -> Result<Option<Insert>, ClientError> {
        let Some(leaf) = self.query.leaves.get(write.target) else { return Ok(None) };
        let relation = match &leaf.source {
            Source::Table(relation) => relation.clone(),
            Source::System(_) | Source::Temporary(_) | Source::Derived(_) | Source::Rows => return Ok(None),
        };
        let name = &relation.name;
        let placement = self.database.placement(name).ok_or_else(|| not_mapped(name))?;
        is_writable(&relation, self.database)?;
        self.directory(write, name)?;
        let (group, key) = match placement {
            Placement::Unsharded { home } => {
                self.merged_numbers(write, &relation, home)?;
                return Ok(None);
            }
            Placement::Reference => {
                self.copies = true;
                if write.kind == WriteKind::Insert {
                    splice_columns(write, &relation, splice);
                    self.sequences(write, &relation, "reference")?;
                }
                return Ok(None);
            }
            Placement::Sharded { group, key } => (group, key),
        };
        let column = key_column(&relation, &key, self.group(group)?)?;
        if let Some((_, value)) = write.assigned.iter().find(|(column, _)| *column == key)
            && !self.keeps_key(write, &key, value.as_ref())
        {
            if write.kind != WriteKind::Update || self.query.writes.len() > 1 {
                return Err(ClientError::unsupported(
                    format!("changing the shard key \"{key}\" of \"{name}\" is not supported"),
                    "Change it by an UPDATE of its own, or delete the row and insert it again.",
                ));
            }
            let (placing, alone) = (Placing { key: &key, group, column }, around == Around::Nothing);
            let moving = Moving::new(self.query, write, &relation, placing, self.world, alone);
            self.moving = Some(Box::new(moving));
        }
        let known = relation.column(&key).and_then(|place| relation.columns.get(place));
        let not_null = known.is_some_and(|it| it.not_null);
        if write.kind == WriteKind::Merge && !write.merged.is_empty() {
            let keys = self.merged_keys(write, &relation, &key, group, column)?;
            return Ok(Some(Insert { table: name.clone(), key, group, column, not_null, keys, numbered: None }));
        }
        if write.kind != WriteKind::Insert {
            return Ok(None);
        }
        self.conflict(write, &relation, &key)?;
        splice_columns(write, &relation, splice);
        self.sequences(write, &relation, "sharded")?;
        let place = write.columns.iter().position(|it| *it == key);
        if place.is_none() && write.columns.is_empty() && !matches!(write.rows, Rows::Defaults) {
            return Err(ClientError::unsupported(
                format!("INSERT into \"{name}\" without a column list needs the schema"),
                format!("Name the columns, \"{key}\" among them."),
            ));
        }
        let computed = || {
            ClientError::unsupported(
                format!("the shard key \"{key}\" of an inserted row is computed by the server"),
                format!("Give \"{key}\" as a constant or parameter."),
            )
        };
        let cell = |row: &[Cell]| -> Result<Value, ClientError> {
            match place.map(|place| row.get(place)) {
                Some(Some(Cell::Value(value))) => Ok(value.clone()),
                Some(Some(Cell::Other)) => Err(computed()),
                Some(Some(Cell::Default) | None) | None => self.default_key(&relation, &key),
            }
        };
        let keys = match &write.rows {
            Rows::None => return Ok(None),
            Rows::Defaults => InsertKeys::Rows(vec![self.default_key(&relation, &key)?]),
            Rows::Values(rows) => {
                let mut keys = Vec::with_capacity(rows.len());
                for row in rows {
                    keys.push(cell(row)?);
                }
                InsertKeys::Rows(keys)
            }
            Rows::Folded { row, first, width } => {
                InsertKeys::Folded { value: cell(row)?, first: *first, width: *width }
            }
            Rows::Query { whole: false, .. } if write.splice_at.is_some() => return Err(computed()),
            Rows::Query { blocks, outputs, .. } => match place.map(|place| outputs.get(place)) {
                None => InsertKeys::Rows(vec![self.default_key(&relation, &key)?]),
                Some(None) => return Err(computed()),
                Some(Some(output)) => match &output.value {
                    Some(value) if blocks.len() == 1 => InsertKeys::Rows(vec![value.clone()]),
                    _ => {
                        let [block] = blocks.as_slice() else { return Err(computed()) };
                        let variable = output.variables.first().copied().flatten().ok_or_else(computed)?;
                        let same_type = self
                            .query
                            .variables
                            .get(variable)
                            .is_some_and(|it| it.oid == 0 || column.oid == 0 || it.oid == column.oid);
                        let facts = self.query.facts_in(*block);
                        let conditions = self.conditions_of(&facts, variable, false);
                        // The rows of a table of the same group, by the same key.
                        let along = self.query.leaves.iter().enumerate().any(|(leaf, it)| {
                            let key = self.is_sharded(leaf).filter(|(of, _)| it.block == *block && *of == group);
                            let key =
                                key.filter(|_| facts.is_real(leaf)).and_then(|(_, key)| self.variable(leaf, &key));
                            key.is_some_and(|it| it == variable || facts.same(it, variable))
                        });
                        if same_type && along {
                            let keys = InsertKeys::Along(*block, variable);
                            return Ok(Some(Insert {
                                table: name.clone(),
                                key,
                                group,
                                column,
                                not_null,
                                keys,
                                numbered: None,
                            }));
                        }
                        if !same_type || conditions.is_empty() {
                            return Err(ClientError::unsupported(
                                format!(
                                    "INSERT … SELECT into \"{name}\" whose rows' shard is not proven is not supported"
                                ),
                                format!("Restrict the selected \"{key}\" to one value."),
                            ));
                        }
                        InsertKeys::Selected(conditions)
                    }
                },
            },
        };
        Ok(Some(Insert { table: name.clone(), key: key.clone(), group, column, not_null, keys, numbered: None }))
    }

    /// Where the keys come from that a MERGE inserts.
    fn merged_keys(
        &self,
        write: &Write,
        relation: &Relation,
        key: &str,
        group: usize,
        column: Column,
    ) -> Result<InsertKeys, ClientError> {
        let refuse = |why: &str| {
            Err(ClientError::unsupported(
                format!("MERGE that inserts into \"{}\" {why} is not supported", relation.name),
                format!("Insert the source's own shard key as \"{key}\", which ON equals with it; name the columns."),
            ))
        };
        let mut found: Option<(Option<VariableId>, Option<Value>)> = None;
        for merged in &write.merged {
            for drawn in relation.columns.iter().filter(|it| it.uses_sequence || it.identity.is_some()) {
                let cell = merged.columns.iter().position(|it| *it == drawn.name).and_then(|it| merged.cells.get(it));
                if !matches!(cell, Some(Cell::Value(_) | Cell::Other)) {
                    return refuse(&format!("and leaves \"{}\" to a sequence", drawn.name));
                }
            }
            let Some(place) = merged.columns.iter().position(|it| **it == *key) else {
                return refuse("without its shard key");
            };
            let value = match merged.cells.get(place) {
                Some(Cell::Value(value)) => Some(value.clone()),
                Some(Cell::Other) => None,
                Some(Cell::Default) | None => return refuse("without its shard key"),
            };
            let this = (merged.variables.get(place).copied().flatten(), value);
            if found.as_ref().is_some_and(|it| *it != this) {
                return refuse("by different keys");
            }
            found = Some(this);
        }
        match found {
            Some((_, Some(value))) => Ok(InsertKeys::Rows(vec![value])),
            Some((Some(variable), None)) => {
                let same_type =
                    self.query.variables.get(variable).is_some_and(|it| column.oid == 0 || it.oid == column.oid);
                let facts = self.query.facts_in(write.block);
                let along = (0..self.query.leaves.len()).any(|leaf| {
                    let key = self.is_sharded(leaf).filter(|(of, _)| *of == group && leaf != write.target);
                    let key = key.filter(|_| facts.is_real(leaf) && self.reached_plainly(leaf, write.block));
                    let key = key.and_then(|(_, key)| self.variable(leaf, &key));
                    key.is_some_and(|it| it == variable || facts.same(it, variable))
                });
                if same_type && along {
                    return Ok(InsertKeys::Along(write.block, variable));
                }
                let conditions = self.conditions_of(&facts, variable, false);
                match same_type && !conditions.is_empty() {
                    true => Ok(InsertKeys::Selected(conditions)),
                    false => refuse("rows whose shard is not proven"),
                }
            }
            _ => refuse("a key that is computed by the server"),
        }
    }

    /// How a write of a reference table is said on every shard, so that all copies stay the same.
    fn copied(&self, around: Around<'_>) -> Result<Splitting, ClientError> {
        let query = self.query;
        let notes = &query.notes;
        let refuse = |what: &str| {
            Err(ClientError::unsupported(
                format!("writing to a reference table with {what} is not supported: its copies could come to differ"),
                "Write constants, parameters and what is computed from the table's own columns and now().",
            ))
        };
        if around != Around::Nothing {
            return refuse("EXPLAIN, a cursor or COPY");
        }
        let [write] = query.writes.as_slice() else { return refuse("several writes in one statement") };
        if !query.only_writes {
            return refuse("WITH");
        }
        if write.kind == WriteKind::Merge {
            return refuse("MERGE");
        }
        let foreign = query.leaves.iter().find_map(|leaf| match &leaf.source {
            Source::Derived(_) | Source::Rows => None,
            Source::System(name) => Some(name.to_string()),
            Source::Temporary(name) => Some(name.to_string()),
            Source::Table(it) => {
                (self.database.placement(&it.name) != Some(Placement::Reference)).then(|| it.name.to_string())
            }
        });
        if let Some(table) = foreign {
            return refuse(&format!("\"{table}\", which is no reference table,"));
        }
        if let Some(name) = notes.volatile.as_ref().or(notes.per_server.as_ref()) {
            return refuse(&format!("volatile function {name}"));
        }
        if let Some(name) = notes.acts.as_ref().or(notes.catalog.as_ref()) {
            return refuse(&format!("function {name}"));
        }
        if notes.own_function {
            return refuse("a function of one's own, which may be volatile,");
        }
        if let Some(column) = &notes.system_column {
            return refuse(&format!("system column \"{column}\""));
        }
        let by_chance = notes.array_of_rows
            || query.blocks.iter().enumerate().any(|(id, block)| {
                id != write.block && (block.ranked || block.by_order || block.windowed || block.hard)
            })
            // Of rows of one key the first one stays.
            || (write.conflict.is_some() && matches!(write.rows, Rows::Query { .. }));
        if by_chance {
            return refuse("a subquery whose answer may depend on how rows lie");
        }
        let others = query.leaves.iter().enumerate().any(|(leaf, it)| leaf != write.target && it.block == write.block);
        if write.kind == WriteKind::Update && others {
            return refuse("UPDATE … FROM, which takes any one of the rows that match");
        }
        let Some(Source::Table(relation)) = query.leaves.get(write.target).map(|it| &it.source) else {
            return refuse("what is no table");
        };
        let splitting = splitting_of(query, write, relation);
        let rows = matches!(write.rows, Rows::Values(_) | Rows::Folded { .. } | Rows::None);
        if !rows && !splitting.defaults.is_empty() {
            return refuse("a default that asks for the time, but for rows of VALUES,");
        }
        Ok(Splitting { copies: true, ..splitting })
    }

    /// How each shard is told a part of a write, or why it cannot be.
    fn splitting(&self, places: &[(LeafId, usize)], around: Around<'_>) -> Result<Splitting, ClientError> {
        let query = self.query;
        let notes = &query.notes;
        if query.writes.is_empty() && around == Around::Nothing {
            return Ok(Splitting::whole(notes.now, false));
        }
        let [write] = query.writes.as_slice() else { return Err(several_rows("a statement with several writes")) };
        let refuse = |what: &str| Err(several_rows(what));
        let Some(Source::Table(relation)) = query.leaves.get(write.target).map(|it| &it.source) else {
            return refuse("a write to what is no table");
        };
        let inserts = write.kind == WriteKind::Insert;
        if around != Around::Nothing {
            return refuse("EXPLAIN, a cursor or COPY");
        }
        if !query.only_writes {
            return refuse("WITH");
        }
        let returning = inserts && query.returns;
        let splitting = splitting_of(query, write, relation);
        let left_out = |column: &crate::schema::Column| {
            write
                .merged
                .iter()
                .any(|it| !it.columns.contains(&column.name) || it.cells.iter().any(|it| matches!(it, Cell::Default)))
        };
        if write.merged.iter().len() > 0
            && relation.columns.iter().any(|it| it.default.as_ref().is_some_and(|it| asks_time(it)) && left_out(it))
        {
            return refuse("MERGE that leaves a column to a default that asks for the time");
        }
        if splitting.selects {
            // Each shard selects its own.
            return Ok(splitting);
        }
        if inserts {
            if self.fixed.is_some() || !places.is_empty() || self.reference {
                return refuse("a subquery over a table");
            }
            if let Some(what) = &notes.per_server {
                return Err(several_rows(what));
            }
            if let Some(column) = &notes.system_column {
                return Err(several_rows(&format!("system column \"{column}\"")));
            }
            if returning && write.conflict.as_ref().is_some_and(|it| it.may_skip) {
                return refuse(
                    "ON CONFLICT that may leave out rows, with RETURNING: which ones came back could not be told",
                );
            }
        }
        Ok(splitting)
    }

    /// A constant default of the key column.
    fn default_key(&self, relation: &Relation, key: &str) -> Result<Value, ClientError> {
        let missing = || {
            ClientError::new(
                Code::ShardKeyMissing,
                format!("insert into \"{}\" gives no value for its shard key", relation.name),
                format!("Name \"{key}\" in the column list and give it a value."),
            )
        };
        let column = relation.column(key).and_then(|place| relation.columns.get(place)).ok_or_else(missing)?;
        match &column.default {
            // The server refuses the NULL where the column is NOT NULL.
            None if column.not_null && column.identity.is_none() => Ok(Value::Null),
            None => Err(missing()),
            Some(text) => {
                let literal = text.split("::").next().unwrap_or_default();
                let plain = !literal.is_empty() && literal.bytes().all(|byte| byte.is_ascii_digit());
                let quoted = literal.len() >= 2
                    && literal.starts_with('\'')
                    && literal.ends_with('\'')
                    && !literal.get(1..literal.len() - 1).unwrap_or("'").contains('\'');
                if plain || quoted { Ok(Value::Fixed(literal.into())) } else { Err(missing()) }
            }
        }
    }

    /// Whether a MERGE would have a shard count where another one does.
    fn merged_numbers(&self, write: &Write, relation: &Relation, home: ShardId) -> Result<(), ClientError> {
        for column in relation.columns.iter().filter(|it| it.uses_sequence || it.identity.is_some()) {
            let counts = column.sequence.as_ref().and_then(|it| self.database.sequences.get(it));
            if counts.is_none_or(|it| it.shard == home) {
                continue;
            }
            let left = |merged: &crate::sql::model::Merged| {
                let place = merged.columns.iter().position(|it| *it == column.name);
                !matches!(place.and_then(|it| merged.cells.get(it)), Some(Cell::Value(_) | Cell::Other))
            };
            if write.merged.iter().any(left) {
                return Err(ClientError::unsupported(
                    format!(
                        "MERGE that inserts into \"{}\" and leaves \"{}\" to a sequence is not supported",
                        relation.name, column.name
                    ),
                    "Insert what is missing by INSERT … SELECT.",
                ));
            }
        }
        Ok(())
    }

    /// Columns that would draw from one shard's sequence.
    fn sequences(&self, write: &Write, relation: &Relation, kind: &str) -> Result<(), ClientError> {
        for column in relation.columns.iter().filter(|it| it.uses_sequence || it.identity.is_some()) {
            let place = write.columns.iter().position(|it| *it == column.name);
            let drawn = match (&write.rows, place) {
                (Rows::Defaults, _) | (_, None) => true,
                (Rows::Values(rows), Some(place)) => {
                    rows.iter().any(|row| matches!(row.get(place), Some(Cell::Default) | None))
                }
                (Rows::Folded { row, .. }, Some(place)) => matches!(row.get(place), Some(Cell::Default) | None),
                (Rows::Query { outputs, .. }, Some(place)) => write.splice_at.is_some() && place >= outputs.len(),
                (Rows::None, Some(_)) => false,
            };
            if drawn || (write.overriding && column.identity.is_some()) {
                return Err(ClientError::unsupported(
                    format!(
                        "INSERT that leaves \"{}\" of {kind} table \"{}\" to a sequence is not supported: every shard counts by itself",
                        column.name, relation.name
                    ),
                    sequence_hint(column),
                ));
            }
        }
        Ok(())
    }

    /// ON CONFLICT looks at one shard: every constraint that it watches must contain the key.
    fn conflict(&self, write: &Write, relation: &Relation, key: &str) -> Result<(), ClientError> {
        let Some(conflict) = &write.conflict else { return Ok(()) };
        let contains = |columns: &[Option<usize>]| {
            columns.iter().flatten().any(|place| relation.columns.get(*place).is_some_and(|it| &*it.name == key))
        };
        let fits = match &conflict.target {
            ConflictTarget::Any => relation.unique.iter().all(|it| contains(&it.columns)),
            ConflictTarget::Columns(columns) => columns.iter().any(|it| &**it == key),
            ConflictTarget::Constraint(name) => {
                relation.unique.iter().find(|it| it.name == *name).is_some_and(|it| contains(&it.columns))
            }
            ConflictTarget::Other => false,
        };
        if fits {
            return Ok(());
        }
        Err(ClientError::unsupported(
            format!("ON CONFLICT on \"{}\" by a constraint without the shard key is not supported", relation.name),
            format!("Name a unique constraint that contains \"{key}\": no other is unique across shards."),
        ))
    }

    /// Whether an UPDATE sets the key to what it asks of it.
    fn keeps_key(&self, write: &Write, key: &str, value: Option<&Value>) -> bool {
        if write.kind != WriteKind::Update {
            return false;
        }
        let Some((value, variable)) = value.zip(self.variable(write.target, key)) else { return false };
        let facts = self.query.facts_of(write.target);
        let is_that = |it: &KeyCondition| matches!(it, KeyCondition::Is(values) if *values == [value.clone()]);
        self.conditions_of(&facts, variable, false).iter().any(is_that)
    }
}

/// Copies of tables on one server.
impl Compiler<'_> {
    /// How the statement is answered by copies of its tables; else the construct that does not allow it.
    pub(super) fn gathering(
        &self,
        places: &[(LeafId, usize)],
        wanted: Option<Vec<(LeafId, gather::From)>>,
    ) -> Result<Gathering, ClientError> {
        let query = self.query;
        let notes = &query.notes;
        let refuse = |what: String, hint: &str| {
            Err(ClientError::unsupported(format!("{what} across shards is not supported"), hint.to_owned()))
        };
        if let Some(what) = &notes.system_column {
            return refuse(format!("system column \"{what}\""), "Name the row by its key.");
        }
        if let Some(what) = &notes.stored {
            return refuse(
                format!("function {what}"),
                "Ask it of one key: a copy of a row is not stored as the row is.",
            );
        }
        if notes.sampled_again {
            return refuse(
                "TABLESAMPLE … REPEATABLE".to_owned(),
                "Leave REPEATABLE out, or take a condition on a hash.",
            );
        }
        if let Some(name) = &query.shadowed {
            return refuse(
                format!("a column of \"{name}\" by its schema, where another \"{name}\" hides it,"),
                "Give the tables aliases of their own.",
            );
        }
        let view = query
            .references
            .iter()
            .find(|it| it.definition.is_some() && it.leaves.iter().any(|leaf| query.whole_rows.contains(leaf)));
        if let Some(view) = view {
            return refuse(
                format!("the whole row of view \"{}\"", view.name),
                "Name its columns: where its definition stands, the row is of no type that has a name.",
            );
        }
        if !notes.set_config.is_empty() {
            return refuse("set_config beside tables".to_owned(), "Call it in a statement of its own, or use SET.");
        }
        let catalog = self.database.catalog;
        let at = match (&self.fixed, &notes.user_type) {
            _ if wanted.is_some() => None,
            (Some((shard, _)), Some(what)) if *shard != catalog => {
                return refuse(
                    format!("a user-defined type in the answer (\"{what}\") beside what lives on another shard"),
                    "Cast columns of such a type to text.",
                );
            }
            (Some((shard, _)), _) => Some(*shard),
            (None, Some(_)) => Some(catalog),
            (None, None) => None,
        };
        let mut tables: Vec<gather::Table> = Vec::new();
        let mut copied: Vec<(LeafId, usize)> = Vec::new();
        let sharded = places.iter().map(|(leaf, part)| (*leaf, gather::From::Parts(vec![*part])));
        let away = self.homes.iter().filter(|(_, home)| self.scattered && Some(*home) != at);
        let all = || sharded.chain(away.map(|(leaf, home)| (*leaf, gather::From::Home(*home)))).collect();
        for (leaf, from) in wanted.unwrap_or_else(all) {
            let Some(Source::Table(relation)) = query.leaves.get(leaf).map(|it| &it.source) else { continue };
            // Offline only the way is of interest.
            if relation.columns.is_empty() && !self.world.schema.assumed {
                return refuse(format!("table \"{}\" without known columns", relation.name), "Connect to servers.");
            }
            let terms = self.terms(leaf, relation);
            let columns = self.copied_columns(leaf, relation);
            let place = match tables.iter_mut().position(|it| it.relation.name == relation.name) {
                Some(place) => place,
                None => {
                    let from = match &from {
                        gather::From::Home(home) => gather::From::Home(*home),
                        gather::From::Parts(_) => gather::From::Parts(Vec::new()),
                    };
                    let columns = Some(std::collections::BTreeSet::new());
                    tables.push(gather::Table {
                        relation: relation.clone(),
                        from,
                        columns,
                        wanted: Vec::new(),
                        keyed: false,
                    });
                    tables.len() - 1
                }
            };
            copied.push((leaf, place));
            let Some(table) = tables.get_mut(place) else { continue };
            if let (gather::From::Parts(parts), gather::From::Parts(more)) = (&mut table.from, from) {
                parts.extend(more.into_iter().filter(|it| !parts.contains(it)).collect::<Vec<_>>());
            }
            match (&mut table.columns, columns) {
                (Some(known), Some(more)) => known.extend(more),
                (known, None) => *known = None,
                (None, _) => {}
            }
            if !table.wanted.contains(&terms) {
                table.wanted.push(terms);
            }
        }
        for (leaf, place) in &copied {
            // Rows that are values come from a function, which has no key: whether one is needed, the server will say.
            if let Some(table) = tables.get_mut(*place).filter(|_| !query.whole_rows.contains(leaf)) {
                table.keyed |= self.groups_by_key(*leaf);
            }
        }
        for table in &mut tables {
            let all = table.relation.columns.len();
            if table.wanted.iter().any(Vec::is_empty) {
                table.wanted.clear();
            }
            if table.columns.as_ref().is_some_and(|it| it.len() == all) {
                table.columns = None;
            }
        }
        let spots = self.spots(&copied, &mut tables)?;
        // Of tables alone samples are taken.
        let staged = notes.sampled || tables.iter().any(|it| it.keyed);
        // Tables would be seen there.
        let arrays_only =
            notes.catalog.is_some() || query.leaves.iter().any(|it| matches!(it.source, Source::System(_)));
        Ok(Gathering { at, tables, spots, definitions: query.definitions.clone(), staged, arrays_only })
    }

    /// Whether a leaf's columns are used where only its primary key is grouped by: a copy would need the key, too.
    fn groups_by_key(&self, leaf: LeafId) -> bool {
        let query = self.query;
        let Some(Source::Table(relation)) = query.leaves.get(leaf).map(|it| &it.source) else { return false };
        let Some(key) = &relation.primary_key else { return false };
        query.blocks.iter().any(|block| {
            let grouped: Vec<&Arc<str>> = block
                .grouped
                .iter()
                .filter_map(|it| query.variables.get(*it))
                .filter(|it| it.leaf == leaf)
                .map(|it| &it.column)
                .collect();
            let names = |place: &usize| relation.columns.get(*place).map(|it| &it.name);
            !grouped.is_empty()
                && key.iter().filter_map(names).all(|it| grouped.contains(&it))
                && query.variables.iter().any(|it| it.leaf == leaf && !grouped.contains(&&it.column))
        })
    }

    /// What is to be replaced in the texts.
    fn spots(
        &self,
        copied: &[(LeafId, usize)],
        tables: &mut [gather::Table],
    ) -> Result<Vec<gather::Spot>, ClientError> {
        let query = self.query;
        let mut spots = Vec::new();
        let mut left: Vec<LeafId> = copied.iter().map(|(leaf, _)| *leaf).collect();
        for reference in &query.references {
            let alias = (!reference.aliased).then(|| Arc::clone(&reference.name));
            let whole = reference.leaves.iter().any(|it| query.whole_rows.contains(it));
            let place = reference.place.clone();
            let by = match reference.definition {
                Some(definition) => gather::By::Definition(definition),
                None => {
                    let found = copied.iter().find(|(leaf, _)| reference.leaves.contains(leaf));
                    let Some((_, table)) = found else { continue };
                    // A list of names renames the first columns: none may be missing.
                    if let Some(table) = tables.get_mut(*table).filter(|_| reference.renamed) {
                        table.columns = None;
                    }
                    left.retain(|it| !reference.leaves.contains(it));
                    gather::By::Copy(*table)
                }
            };
            spots.push(gather::Spot { place, by, whole, alias });
        }
        if let Some(leaf) = left.first() {
            let name = query.leaves.get(*leaf).and_then(|it| it.table()).map(ToString::to_string).unwrap_or_default();
            return Err(ClientError::unsupported(
                format!("\"{name}\" across shards is not supported where it is named here"),
                ONE_SHARD.to_owned(),
            ));
        }
        let cuts = query.qualifiers.iter().map(|place| gather::Spot {
            place: place.clone(),
            by: gather::By::Nothing,
            whole: false,
            alias: None,
        });
        spots.extend(cuts);
        Ok(spots)
    }

    /// The columns of a leaf that the statement mentions; `None`: any may be.
    fn copied_columns(&self, leaf: LeafId, relation: &Relation) -> Option<std::collections::BTreeSet<usize>> {
        let query = self.query;
        if query.vague_columns || query.whole_rows.contains(&leaf) {
            return None;
        }
        let mut places: std::collections::BTreeSet<usize> =
            query.variables.iter().filter(|it| it.leaf == leaf).filter_map(|it| relation.column(&it.column)).collect();
        let others = relation.columns.iter().enumerate();
        places.extend(others.filter(|(_, it)| gather::is_indispensable(it.type_oid)).map(|(place, _)| place));
        Some(places)
    }

    /// What must hold for a row of the leaf to matter, as far as any server can be asked about it beforehand.
    fn terms(&self, leaf: LeafId, relation: &Relation) -> Vec<gather::Term> {
        let query = self.query;
        let facts = query.facts_of(leaf);
        let mut terms = Vec::new();
        for (id, variable) in query.variables.iter().enumerate().filter(|(_, it)| it.leaf == leaf) {
            let Some(column) = relation.column(&variable.column).filter(|_| variable.deterministic) else { continue };
            for condition in facts.conditions().filter_map(|it| query.conditions.get(it)) {
                let (about, kind) = match condition {
                    Condition::Is(about, values) => (about, gather::TermKind::Is(values.clone())),
                    Condition::Range(about, comparison, value) => {
                        (about, gather::TermKind::Range(*comparison, value.clone()))
                    }
                    _ => continue,
                };
                let ordered = matches!(kind, gather::TermKind::Range(..));
                if !facts.same(*about, id) || !gather::compares_safely(variable.oid, ordered) {
                    continue;
                }
                let strings = query.variables.get(*about).is_some_and(|it| it.oid == variable.oid);
                let term = gather::Term { column, kind, strings };
                if !terms.contains(&term) {
                    terms.push(term);
                }
            }
        }
        terms
    }
}

/// Types whose values are numbers of catalog rows: regclass and its kind, and arrays of them.
pub(crate) fn is_object(oid: u32) -> bool {
    const OBJECTS: [u32; 22] = [
        24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191, 1008, 2207, 2208, 2209, 2210, 2211, 3735, 3770,
        4090, 4097, 4192,
    ];
    OBJECTS.contains(&oid)
}

fn same_part(a: &Part, b: &Part) -> bool {
    a.group == b.group && a.column == b.column && a.conditions == b.conditions
}

/// Rows that must be copied as tables, in a statement that must not see such tables.
fn neither_way() -> ClientError {
    ClientError::unsupported(
        "GROUP BY a primary key, COPY or TABLESAMPLE, with a catalog across shards is not supported",
        "Ask catalogs in a statement of their own.",
    )
}

/// What is on one shard beside sharded rows that may be elsewhere.
/// Whether a table's rows are where the map says, as far as its definition tells.
pub(crate) fn is_whole(relation: &Relation) -> Result<(), ClientError> {
    let name = &relation.name;
    if let Some(unfit) = relation.unfit.as_ref().filter(|unfit| !unfit.writes_only) {
        return Err(ClientError::new(Code::TableUnfit, &unfit.message, unfit.hint.clone()));
    }
    match relation.kind {
        RelationKind::Foreign => return Err(refused_kind("foreign table", name)),
        RelationKind::Sequence => return Err(refused_kind("sequence", name)),
        RelationKind::Table if relation.has_children => {
            return Err(refused_kind("table with inheritance children", name));
        }
        RelationKind::Table | RelationKind::Partitioned | RelationKind::View | RelationKind::MaterializedView => {}
    }
    if relation.row_security {
        return Err(ClientError::unsupported(
            format!("table \"{name}\" has row-level security, whose policies may read other shards"),
            "Filter in the statement, or in a view.",
        ));
    }
    Ok(())
}

/// Whether nothing of its own happens when a table is written that shards could not do each by itself.
pub(crate) fn is_writable(relation: &Relation, database: &Database) -> Result<(), ClientError> {
    let name = &relation.name;
    if let Some(unfit) = &relation.unfit {
        return Err(ClientError::new(Code::TableUnfit, &unfit.message, unfit.hint.clone()));
    }
    if relation.has_rules {
        return Err(unfit(name, "has a rewrite rule"));
    }
    if database.trusted_triggers.contains(name) {
        return Ok(());
    }
    let sharded = matches!(database.placement(name), Some(Placement::Sharded { .. }));
    if sharded && relation.triggers.iter().any(|it| it.before_row) {
        return Err(unfit(name, "has a BEFORE ROW trigger, which can change the shard key"));
    }
    match relation.triggers.first() {
        None => Ok(()),
        Some(trigger) => Err(ClientError::new(
            Code::FunctionNotReviewed,
            format!("trigger \"{}\" of table \"{name}\" is not known to read only what is on one shard", trigger.name),
            "If it reads no tables of other shards, vouch for it in the map: {key: …, triggers: safe}.",
        )),
    }
}

/// How a default comes to the same on several shards as on one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Computed {
    /// For each row by itself, wherever that is.
    Anywhere,
    /// The same, and each time it is another.
    ByChance,
    /// Once for all rows: it asks for the time.
    Once,
}

/// How a default is computed; `None`: it may depend on the server.
pub(crate) fn computed(default: &str, names: &Names<'_>) -> Option<Computed> {
    let lexemes = lex::lexemes(default, 0..default.len(), None).ok()?;
    let raw = |at: usize| lexemes.get(at).and_then(|it| default.get(it.start..it.end)).unwrap_or_default();
    let kind = |at: usize| lexemes.get(at).map_or(Kind::End, |it| it.kind);
    let spells_time = |at: usize| matches!(kind(at), Kind::String | Kind::UnicodeString) && lex::names_a_time(raw(at));
    let (mut time, mut chance) = ((0..lexemes.len()).any(spells_time), false);
    for at in (0..lexemes.len()).filter(|at| matches!(kind(*at), Kind::Word | Kind::Quoted)) {
        let name: Arc<str> = raw(at).trim_matches('"').to_ascii_lowercase().into();
        let called = kind(at + 1) == Kind::Open;
        if called && !names.user_functions(std::slice::from_ref(&name)).is_empty() {
            return None;
        }
        match functions::class(&name) {
            Some(functions::Class::Pure) => {}
            Some(functions::Class::Now) => time = true,
            _ if functions::says_another_each_time(&name) => chance = true,
            None if !called => {}
            _ => return None,
        }
    }
    match (time, chance) {
        (true, true) => None,
        (true, false) => Some(Computed::Once),
        (false, true) => Some(Computed::ByChance),
        (false, false) => Some(Computed::Anywhere),
    }
}

/// What is known of a write that may be split.
fn splitting_of(query: &Query, write: &Write, relation: &Relation) -> Splitting {
    let inserts = write.kind == WriteKind::Insert;
    let width = match &write.rows {
        Rows::Values(rows) => rows.first().map_or(0, Vec::len),
        Rows::Folded { row, .. } => row.len(),
        Rows::Query { .. } | Rows::Defaults | Rows::None => 0,
    };
    // Without a list they are as many as the SELECT gives.
    let selected = match &write.rows {
        Rows::Query { outputs, .. } if write.splice_at.is_some() => outputs.len(),
        Rows::Query { .. } => usize::MAX,
        _ => 0,
    };
    let mut defaults = Vec::new();
    for column in relation.columns.iter().filter(|it| !it.generated) {
        let Some(default) = column.default.as_ref().filter(|it| asks_time(it)) else { continue };
        let place = write.columns.iter().position(|it| *it == column.name);
        if place.is_some_and(|it| it < selected) {
            continue;
        }
        let place = place.filter(|it| *it < width);
        defaults.push((Arc::clone(&column.name), place, Arc::clone(default)));
    }
    let rows = inserts && matches!(write.rows, Rows::Values(_) | Rows::Folded { .. });
    let selects = matches!(write.rows, Rows::Query { .. });
    let returning = inserts && query.returns;
    Splitting { defaults, rows, selects, returning, ..Splitting::of_rows(query.notes.now, write) }
}

/// An INSERT without a column list: the list that it means by the schema.
fn splice_columns(write: &Write, relation: &Relation, splice: &mut Option<(usize, String)>) {
    let Some(at) = write.splice_at.filter(|_| !relation.columns.is_empty()) else { return };
    let width = match &write.rows {
        Rows::Values(rows) => rows.first().map(Vec::len),
        Rows::Folded { row, .. } => Some(row.len()),
        Rows::Query { outputs, whole, .. } => whole.then_some(outputs.len()),
        Rows::Defaults | Rows::None => None,
    };
    if let Some(width) = width.filter(|it| *it <= relation.columns.len()) {
        let names: Vec<String> =
            relation.columns.iter().take(width).map(|it| format!("\"{}\"", it.name.replace('"', "\"\""))).collect();
        *splice = Some((at, format!(" ({})", names.join(", "))));
    }
}

/// How a column's sequence comes to count for all shards.
fn sequence_hint(column: &crate::schema::Column) -> String {
    match &column.sequence {
        Some(name) => format!(
            "List it in the map, under sequences: {{{name}: {{shard: …}}}}, or give \"{}\" from the application.",
            column.name
        ),
        None => format!("Give \"{}\" from the application, or make it a uuid.", column.name),
    }
}

/// Rows of several shards beside something that each shard would do by itself.
fn several_rows(what: &str) -> ClientError {
    ClientError::unsupported(
        format!("INSERT of rows of several shards is not supported with {what}"),
        "Insert rows of one shard key at a time.",
    )
}

fn two_shards(what: &str, why: &str) -> ClientError {
    ClientError::unsupported(
        format!("{what} with what lives on one shard ({why}) across shards is not supported"),
        "Ask for it in a statement of its own; a table that is joined often can be a reference table.",
    )
}

/// The group to whose directory a foreign key leads from a table, and the columns there that such keys refer to: rows of the
/// directory may go, or change, with rows of the table.
pub(crate) fn behind_directory<'w>(
    name: &TableName,
    world: &'w World,
) -> Option<(&'w crate::shard_map::Group, Vec<Arc<str>>)> {
    for group in &world.database.groups {
        let Some(directory) = group.function.as_directory() else { continue };
        let (mut seen, mut place, mut columns) = (vec![directory.table.clone()], 0, Vec::new());
        while let Some(relation) = seen.get(place).map(|it| world.schema.relations.get(it)) {
            place += 1;
            for key in relation.iter().flat_map(|it| &it.foreign_keys) {
                if key.references == *name {
                    columns.extend(key.referenced_columns.iter().cloned());
                }
                if !seen.contains(&key.references) {
                    seen.push(key.references.clone());
                }
            }
        }
        if !columns.is_empty() {
            return Some((group, columns));
        }
    }
    None
}

/// What could take rows of a directory with it.
pub(crate) fn behind_refused(what: &str, name: &TableName, group: &str) -> ClientError {
    ClientError::unsupported(
        format!(
            "{what} \"{name}\", to which a foreign key of the directory of group \"{group}\" refers, is not supported"
        ),
        "A row of the directory may go or change with it, and rows would be looked for where they are not. When none of the \
         keys has rows, do it on the directory's server itself.",
    )
}

/// Rows stay where they are when the directory says otherwise.
pub(crate) fn directory_moves(what: &str, name: &TableName, group: &str) -> ClientError {
    ClientError::unsupported(
        format!("{what} \"{name}\", which says where the rows of group \"{group}\" are, is not supported"),
        "Rows would be looked for where they are not. When none of the keys has rows, change it on its server itself.",
    )
}

fn refused_kind(kind: &str, name: &TableName) -> ClientError {
    ClientError::unsupported(format!("{kind} \"{name}\" is not supported"), "Use a plain or partitioned table.")
}

fn unfit(name: &TableName, why: &str) -> ClientError {
    ClientError::new(
        Code::TableUnfit,
        format!("table \"{name}\" {why}"),
        "Remove it, or vouch for triggers in the map: {key: …, triggers: safe}.",
    )
}

/// The key column as conversion needs it.
pub(crate) fn key_column(
    relation: &Relation,
    key: &str,
    group: &crate::shard_map::Group,
) -> Result<Column, ClientError> {
    let known = relation.column(key).and_then(|place| relation.columns.get(place));
    let column = Column {
        key_type: group.key_type,
        oid: known.map_or(0, |it| it.type_oid),
        modifier: known.map_or(-1, |it| it.type_modifier),
        limits: None,
    };
    if known.is_none() && !relation.columns.is_empty() {
        return Err(unfit(&relation.name, &format!("has no column \"{key}\", which the map names as its shard key")));
    }
    if column.own_type().is_none() {
        return Err(unfit(&relation.name, &format!("has a shard key \"{key}\" of another type than the map says")));
    }
    Ok(column)
}

impl Keys {
    /// Where one execution goes that is answered by copies of its tables, if it can be.
    pub(crate) fn gathered(&self, values: &Values<'_>, world: &World) -> Option<Plan> {
        if let Some(shadow) = &self.shadow {
            return Some(Plan::Shadow(Box::new(shadow.with(&self.parts, values, world))));
        }
        let gather = self.gather.as_ref()?;
        Some(Plan::Gather(Box::new(gather.with(&self.parts, values, world))))
    }

    /// Where one execution goes.
    pub(crate) fn plan(&self, values: &Values<'_>, world: &World) -> Result<Plan, ClientError> {
        let plan = self.plan_in_place(values, world)?;
        match &self.moving {
            Some(moving) => moving.plan(&plan, self, values, world).map(|moved| moved.unwrap_or(plan)),
            None => Ok(plan),
        }
    }

    /// The same, if no row moves.
    fn plan_in_place(&self, values: &Values<'_>, world: &World) -> Result<Plan, ClientError> {
        let database = &*world.database;
        // One table, one key: the usual case.
        let mut place: Option<ShardId> = self.fixed.as_ref().map(|(shard, _)| *shard);
        let mut conflict = false;
        let mut spread = false;
        for part in &self.parts {
            let Some(group) = database.groups.get(part.group) else { continue };
            if let [KeyCondition::Is(wanted)] = part.conditions.as_slice()
                && let [value] = wanted.as_slice()
                && let Found::Key(key) = values.compared(value, part.column)
            {
                match (values.lies(part.group, group, &key), place) {
                    (Lies::Nowhere, _) => {}
                    (Lies::Unknown, _) => spread = true,
                    (Lies::On(shard), None) => place = Some(shard),
                    (Lies::On(shard), Some(other)) => conflict |= shard != other,
                }
                continue;
            }
            let shards = part.shards(values, database);
            match (shards.only(), place) {
                (Some(shard), None) => place = Some(shard),
                (Some(shard), Some(other)) => conflict |= shard != other,
                (None, _) => spread |= !shards.is_empty(),
            }
        }
        for insert in &self.inserts {
            match insert.placed(values, database)? {
                Placed::Anywhere => {}
                Placed::One(shard) => match place {
                    None => place = Some(shard),
                    Some(other) => conflict |= shard != other,
                },
                Placed::Several(rows) => {
                    let splitting = self.split.as_ref().map_err(Clone::clone)?;
                    return Ok(Plan::Split(Box::new(split_rows(&rows, splitting)?)));
                }
            }
        }
        if self.scattered
            && let Some(plan) = self.gathered(values, world)
        {
            return Ok(plan);
        }
        if !spread && !conflict && !self.scattered {
            let shard = place.or_else(|| {
                let group = self.parts.first().map(|it| it.group).or_else(|| self.inserts.first().map(|it| it.group));
                database.groups.get(group?)?.function.shards().first()
            });
            return Ok(Plan::One(shard.unwrap_or(database.catalog)));
        }
        match &self.spread {
            Spread::Refuse(error) => {
                if let Some(bring) = &self.bring {
                    let splitting = self.split.as_ref().map_err(Clone::clone)?;
                    let split = bring.with(&self.parts, splitting, values, world).ok_or_else(|| error.clone())?;
                    return Ok(Plan::Split(Box::new(split)));
                }
                let merging = self.merge.as_ref().filter(|_| !world.view.gather && world.utf8);
                let shards = merging.and_then(|it| self.parts.get(it.anchor)).map(|it| it.shards(values, database));
                if let Some(shard) = shards.as_ref().and_then(ShardSet::only) {
                    return Ok(Plan::One(shard));
                }
                let mut plan = self.gathered(values, world).ok_or_else(|| error.clone())?;
                if let Plan::Shadow(shadow) = &plan
                    && let Some(shard) = shadow.unite.as_ref().and_then(|it| it.shards.only())
                {
                    return Ok(Plan::One(shard));
                }
                if let (Plan::Gather(gather), Some(shards)) = (&mut plan, shards.filter(|it| !it.is_empty())) {
                    gather.merge = Some(shards);
                }
                Ok(plan)
            }
            Spread::Concat(anchor) => {
                if world.view.gather
                    && let Some(plan) = self.gathered(values, world)
                {
                    return Ok(plan);
                }
                let shards = self.parts.get(*anchor).map(|part| part.shards(values, database)).unwrap_or_default();
                match (shards.only(), shards.first()) {
                    (Some(shard), _) => Ok(Plan::One(shard)),
                    // One shard after the other: what all shards do at once could wait for what others do at once, for ever.
                    (None, Some(_)) if self.writes => {
                        let splitting = self.split.as_ref().map_err(Clone::clone)?;
                        let shards = shards.iter().collect();
                        Ok(Plan::Split(Box::new(Split { shards, now: splitting.uses_now, ..Split::default() })))
                    }
                    (None, Some(_)) => Ok(Plan::Concat(shards)),
                    (None, None) => {
                        let group = self.parts.get(*anchor).and_then(|it| database.groups.get(it.group));
                        Ok(Plan::One(group.and_then(|it| it.function.shards().first()).unwrap_or(database.catalog)))
                    }
                }
            }
        }
    }
}

impl Part {
    /// Whether the statement names values of its key.
    fn is_named(&self) -> bool {
        self.conditions.iter().any(|it| !matches!(it, KeyCondition::Range(..)))
    }

    /// The shards that may hold rows that matter.
    pub(crate) fn shards(&self, values: &Values<'_>, database: &Database) -> ShardSet {
        narrowed(&self.conditions, self.group, self.column, values, database)
    }
}

fn narrowed(
    conditions: &[KeyCondition],
    group: usize,
    column: Column,
    values: &Values<'_>,
    database: &Database,
) -> ShardSet {
    let at = group;
    let Some(group) = database.groups.get(at) else { return ShardSet::all(database.shards.len()) };
    let function = &group.function;
    let mut shards = function.shards();
    let mut exact: Option<Vec<Key>> = None;
    let mut low = Bound::Open;
    let mut high = Bound::Open;
    for condition in conditions {
        match condition {
            KeyCondition::Nothing => return ShardSet::none(),
            KeyCondition::Is(wanted) if values.mysql.is_some() => {
                if let Some(keys) = values.listed(wanted, column) {
                    meet(&mut exact, keys);
                }
            }
            KeyCondition::Is(wanted) => {
                let mut keys = Vec::with_capacity(wanted.len());
                let mut known = true;
                for value in wanted {
                    match values.compared(value, column) {
                        Found::Key(key) => keys.push(key),
                        Found::Nothing => {}
                        Found::Unknown => known = false,
                    }
                }
                if known {
                    meet(&mut exact, keys);
                }
            }
            KeyCondition::AnyOf(value) => {
                if let Some(keys) = values.any_of(value, column) {
                    meet(&mut exact, keys);
                }
            }
            KeyCondition::Range(comparison, value) => bound(*comparison, values, value, column, &mut low, &mut high),
        }
    }
    if let Some(keys) = exact {
        let mut hit = ShardSet::none();
        for key in &keys {
            match values.lies(at, group, key) {
                Lies::On(shard) => {
                    hit.insert(shard);
                }
                Lies::Nowhere => {}
                Lies::Unknown => hit.union(&function.shards()),
            }
        }
        shards.intersect(&hit);
    }
    if low != Bound::Open || high != Bound::Open {
        shards.intersect(&function.shards_between(&low, &high));
    }
    shards
}

/// Keeps the keys that satisfy both.
fn meet(exact: &mut Option<Vec<Key>>, keys: Vec<Key>) {
    match exact {
        None => *exact = Some(keys),
        Some(before) => before.retain(|key| keys.contains(key)),
    }
}

fn bound(
    comparison: Comparison,
    values: &Values<'_>,
    value: &Value,
    column: Column,
    low: &mut Bound,
    high: &mut Bound,
) {
    // Text ranges follow a collation that only the server knows; fractions and nulls are left alone.
    if matches!(column.key_type, crate::shard_map::KeyType::Text) {
        return;
    }
    let Found::Key(key) = values.compared(value, column) else { return };
    let (slot, new) = match comparison {
        Comparison::Less => (high, Bound::Excluding(key)),
        Comparison::LessOrEqual => (high, Bound::Including(key)),
        Comparison::Greater => (low, Bound::Excluding(key)),
        Comparison::GreaterOrEqual => (low, Bound::Including(key)),
    };
    // The first bound found stays; another one would only narrow further.
    if *slot == Bound::Open {
        *slot = new;
    }
}

/// Where the rows of an INSERT belong.
enum Placed {
    /// The server refuses them wherever they go.
    Anywhere,
    /// All to that shard.
    One(ShardId),
    /// Each to its own; `None`: the server refuses that one anyhow.
    Several(Vec<Option<ShardId>>),
}

/// What to do about a key that no shard takes.
pub(crate) fn no_shard_hint(group: &crate::shard_map::Group) -> String {
    match group.function.as_directory() {
        None => "Add the value or range to the map's group, or give it an `other` shard.".to_owned(),
        Some(it) => format!(
            "Insert it into \"{}\" first, with a shard's name in \"{}\"; or give the map's directory a `missing` shard.",
            it.table, it.target
        ),
    }
}

fn split_rows(rows: &[Option<ShardId>], splitting: &Splitting) -> Result<Split, ClientError> {
    let mut shards: SmallVec<[ShardId; 4]> = SmallVec::new();
    let mut places = Vec::with_capacity(rows.len());
    for shard in rows {
        let place = match shard {
            None => 0,
            Some(shard) => shards.iter().position(|it| it == shard).unwrap_or_else(|| {
                shards.push(*shard);
                shards.len() - 1
            }),
        };
        places.push(u8::try_from(place).map_err(|_| several_rows("so many shards"))?);
    }
    Ok(Split {
        shards,
        rows: places,
        now: splitting.uses_now,
        in_order: splitting.returning,
        updates: splitting.updates,
        may_skip: splitting.may_skip,
        ..Split::default()
    })
}

impl Insert {
    /// The shards that the rows belong to.
    fn placed(&self, values: &Values<'_>, database: &Database) -> Result<Placed, ClientError> {
        let Some(group) = database.groups.get(self.group) else { return Ok(Placed::Anywhere) };
        if let Some((column, numbers)) = &self.numbered {
            mysql::numbered(&self.table, column, numbers, values)?;
        }
        let mut place: Option<ShardId> = None;
        let mut several: Vec<Option<ShardId>> = Vec::new();
        let mut count = 0_usize;
        let mut add = |stored: Stored| -> Result<(), ClientError> {
            count += 1;
            let key = match stored {
                Stored::Key(key) => key,
                Stored::Null if !self.not_null => {
                    return Err(ClientError::new(
                        Code::ShardKeyNull,
                        format!("null value for the shard key \"{}\" of \"{}\"", self.key, self.table),
                        "Give every row a key: a row without one belongs to no shard.",
                    ));
                }
                Stored::Invalid | Stored::Null => {
                    if !several.is_empty() {
                        several.push(None);
                    }
                    return Ok(());
                }
                Stored::Unknown => {
                    return Err(ClientError::unsupported(
                        format!(
                            "the shard key \"{}\" of \"{}\" is given in a form that shardway cannot compute",
                            self.key, self.table
                        ),
                        "Give it as a plain literal or parameter of the column's own type.",
                    ));
                }
            };
            let shard = match values.lies(self.group, group, &key) {
                Lies::On(shard) => shard,
                // With what comes of it, it is planned anew.
                Lies::Unknown => return Ok(()),
                Lies::Nowhere => {
                    return Err(ClientError::new(
                        Code::NoShardForKey,
                        format!("no shard takes this \"{}\" of \"{}\"", self.key, self.table),
                        no_shard_hint(group),
                    ));
                }
            };
            match place {
                None => place = Some(shard),
                Some(other) if other != shard && several.is_empty() => {
                    // All before it were the first one's, or are refused anyhow.
                    several.resize(count - 1, Some(other));
                    several.push(Some(shard));
                }
                Some(_) if !several.is_empty() => several.push(Some(shard)),
                Some(_) => {}
            }
            Ok(())
        };
        match &self.keys {
            InsertKeys::Along(..) => {}
            InsertKeys::Rows(rows) => {
                for value in rows {
                    add(values.stored(value, self.column))?;
                }
            }
            InsertKeys::Folded { value, first, width } => {
                let rows = 1 + values.shift.checked_div(*width).unwrap_or(0);
                for row in 0..rows {
                    // Within its row a literal stands `row` rows later; `from` is moved so that none but they shift.
                    let at = Values { from: *first, shift: row * width, ..*values };
                    add(at.stored(value, self.column))?;
                }
            }
            InsertKeys::Selected(conditions) => {
                let shards = narrowed(conditions, self.group, self.column, values, database);
                match (shards.only(), shards.is_empty()) {
                    (Some(shard), _) => place = Some(shard),
                    (None, true) => {}
                    (None, false) => {
                        return Err(ClientError::unsupported(
                            format!("INSERT … SELECT into \"{}\" whose rows span shards is not supported", self.table),
                            format!("Restrict the selected \"{}\" to one value.", self.key),
                        ));
                    }
                }
            }
        }
        Ok(match place {
            None => Placed::Anywhere,
            Some(_) if !several.is_empty() => Placed::Several(several),
            Some(shard) => Placed::One(shard),
        })
    }
}
