//! UPDATE of a shard key: rows leave their shards and come to others.
//!
//! The old rows are deleted, and the server that had them gives what they are to be, computed by itself, column by column
//! as text; then each row is inserted where its key belongs. Both texts are cut from the client's. All old rows go before
//! a new one comes. Where the order would show (a key that another row of the statement gives up), it is refused, for one
//! server's order is that in which rows lie.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ops::Deref;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::error::ClientError;
use crate::error::Code;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::ident::TableName;
use crate::plan::Plan;
use crate::plan::Planned;
use crate::plan::World;
use crate::plan::gather;
use crate::plan::key::Column;
use crate::plan::key::Stored;
use crate::plan::key::Values;
use crate::plan::lookup::Lies;
use crate::plan::route::Keys;
use crate::plan::route::Route;
use crate::plan::route::Spread;
use crate::plan::split::Share;
use crate::plan::split::Split;
use crate::plan::split::timed;
use crate::plan::split::used_parameters;
use crate::plan::words::Words;
use crate::schema;
use crate::schema::Relation;
use crate::schema::RelationKind;
use crate::shard_map::Key;
use crate::sql::lex;
use crate::sql::lex::Kind;
use crate::sql::model::Query;
use crate::sql::model::Value;
use crate::sql::model::Write;

/// Types from here on may differ between servers.
const FIRST_OF_INITDB: u32 = 10_000;

/// How rows move whose shard key an UPDATE sets, values left open.
#[derive(Debug)]
pub(crate) struct Moving {
    relation: Arc<Relation>,
    key: Arc<str>,
    group: usize,
    column: Column,
    /// The new key, where it is the same for all rows.
    value: Option<Value>,
    /// The columns that are set, in the order of the text.
    assigned: Vec<Arc<str>>,
    /// Why no row of it can go to another shard.
    refused: Option<ClientError>,
}

/// The shard key's column, as the map and the schema have it.
#[derive(Clone, Copy)]
pub(crate) struct Placing<'a> {
    pub(crate) key: &'a Arc<str>,
    pub(crate) group: usize,
    pub(crate) column: Column,
}

impl Moving {
    /// Of the only write of a statement, an UPDATE that sets the key.
    pub(crate) fn new(
        query: &Query,
        write: &Write,
        relation: &Arc<Relation>,
        placing: Placing<'_>,
        world: &World,
        alone: bool,
    ) -> Self {
        let Placing { key, group, column } = placing;
        let value = write.assigned.iter().find(|(column, _)| column == key).and_then(|(_, value)| value.clone());
        let assigned: Vec<Arc<str>> = write.assigned.iter().map(|(column, _)| Arc::clone(column)).collect();
        let refused =
            obstacle(query, relation, &assigned, world, alone).map(|what| unsupported(&relation.name, key, &what));
        Self { relation: Arc::clone(relation), key: Arc::clone(key), group, column, value, assigned, refused }
    }

    /// Where the UPDATE goes, if not where one goes that leaves the key as it is (`plan`).
    pub(crate) fn plan(
        &self,
        plan: &Plan,
        keys: &Keys,
        values: &Values<'_>,
        world: &World,
    ) -> Result<Option<Plan>, ClientError> {
        let sources = match plan {
            Plan::One(shard) => ShardSet::one(*shard),
            Plan::Split(split) => split.shard_set(),
            _ => return Err(self.unsupported("in such a statement")),
        };
        let Some(group) = world.database.groups.get(self.group) else { return Ok(None) };
        let targets = match self.value.as_ref().map(|it| values.stored(it, self.column)) {
            // The server refuses these, wherever it finds a row.
            Some(Stored::Invalid) => return Ok(None),
            Some(Stored::Null) if self.is_not_null() => return Ok(None),
            Some(Stored::Null) => return Err(self.null()),
            Some(Stored::Key(key)) => match values.lies(self.group, group, &key) {
                Lies::On(shard) => ShardSet::one(shard),
                Lies::Nowhere => return Err(self.nowhere()),
                Lies::Unknown => group.function.shards(),
            },
            Some(Stored::Unknown) | None => group.function.shards(),
        };
        let mut shards = sources.clone();
        shards.union(&targets);
        if shards.only().is_some() {
            return Ok(None);
        }
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        if group.function.as_directory().is_some() {
            return Err(self.unsupported("in a table whose keys a directory places"));
        }
        if let Spread::Refuse(error) = &keys.spread {
            return Err(error.clone());
        }
        let splitting = keys.split.as_ref().map_err(Clone::clone)?;
        Ok(Some(Plan::Split(Box::new(Split {
            shards: shards.iter().collect(),
            now: splitting.uses_now,
            leave: Some(sources),
            ..Split::default()
        }))))
    }

    fn is_not_null(&self) -> bool {
        self.relation.columns.iter().any(|it| it.name == self.key && it.not_null)
    }

    fn null(&self) -> ClientError {
        ClientError::new(
            Code::ShardKeyNull,
            format!("null value for the shard key \"{}\" of \"{}\"", self.key, self.relation.name),
            "Give every row a key: a row without one belongs to no shard.",
        )
    }

    fn nowhere(&self) -> ClientError {
        ClientError::new(
            Code::NoShardForKey,
            format!("no shard takes this \"{}\" of \"{}\"", self.key, self.relation.name),
            "Add the value or range to the map's group, or give it an `other` shard.",
        )
    }

    fn unsupported(&self, what: &str) -> ClientError {
        unsupported(&self.relation.name, &self.key, what)
    }
}

/// Why rows of a table cannot move, or not by this statement.
fn obstacle(query: &Query, relation: &Relation, assigned: &[Arc<str>], world: &World, alone: bool) -> Option<String> {
    if !alone || !query.only_writes {
        return Some("within WITH, EXPLAIN or a cursor".to_owned());
    }
    if query.leaves.len() != 1 {
        return Some("with FROM or a subquery over a table".to_owned());
    }
    if relation.kind != RelationKind::Table || relation.has_children || !relation.parents.is_empty() {
        return Some("in a partitioned or inherited table".to_owned());
    }
    // A DELETE and an INSERT call others than an UPDATE does.
    if let Some(trigger) = relation.triggers.first() {
        return Some(format!("in a table with a trigger (\"{}\")", trigger.name));
    }
    let refers = |it: &&Arc<Relation>| it.foreign_keys.iter().any(|key| key.references == relation.name);
    if let Some(other) = world.schema.relations.values().filter(refers).map(|it| &it.name).min() {
        return Some(format!("that a foreign key of \"{other}\" refers to"));
    }
    if relation.columns.is_empty() && !world.schema.assumed {
        return Some("without known columns".to_owned());
    }
    if let Some(column) = relation.columns.iter().find(|it| crate::plan::route::is_object(it.type_oid)) {
        return Some(format!("beside column \"{}\", which names objects of a database by number", column.name));
    }
    // What a cast makes of a value is what an assignment makes of it, but for types that have a length or a check within.
    let plain = |it: &&schema::Column| {
        // Types in schemas of other shards have those shards' numbers.
        let here = |name: &TableName| {
            world.database.schema_home(&name.schema).is_none_or(|home| home == world.database.catalog)
        };
        let mut types = world.schema.user_types.iter().filter(|(name, _)| here(name)).map(|(_, user)| user);
        let known =
            types.find(|user| user.oid == it.type_oid || (user.array_oid != 0 && user.array_oid == it.type_oid));
        it.type_oid < FIRST_OF_INITDB || known.is_some_and(|it| matches!(it.kind, 'e' | 'b' | 'r' | 'm'))
    };
    let set = |it: &&schema::Column| assigned.contains(&it.name) && !it.generated;
    let column = relation.columns.iter().filter(set).find(|it| !plain(it))?;
    Some(format!("beside column \"{}\" of type {}", column.name, column.type_name))
}

fn unsupported(table: &TableName, key: &str, what: &str) -> ClientError {
    ClientError::unsupported(
        format!("changing the shard key \"{key}\" of \"{table}\" {what} is not supported"),
        "Delete the row and insert it again.",
    )
}

/// What shards are told of rows that move.
#[derive(Clone, Debug)]
pub struct Moves {
    /// What takes them away, and gives what they are to be.
    pub remove: Share,
    /// What brings them, as an array of rows, its last parameter.
    pub bring: Share,
    /// The number of that parameter, from 0.
    pub array: usize,
}

impl Planned {
    fn moving(&self) -> Result<&Moving, ClientError> {
        let moving = match &self.template.route {
            Route::Keys(keys) => keys.moving.as_deref(),
            Route::Fixed(..) | Route::Copies(_) | Route::Copy(_) | Route::Draw(_) | Route::Carry(_) => None,
        };
        moving.ok_or_else(|| unreadable(""))
    }

    /// What shards are told of rows that move; `count` is how many parameters the client gives, `now` what now() says, as
    /// a literal without quotes.
    ///
    /// # Errors
    /// A text that cannot be cut into these.
    pub fn moves(&self, text: &str, count: usize, now: Option<&str>) -> Result<Moves, ClientError> {
        let moving = self.moving()?;
        let lexemes = lex::lexemes(text, self.range.clone(), None).map_err(|_| unreadable(""))?;
        let cut = Cut { words: Words { text, lexemes }, now, moving };
        cut.moves(count)
    }

    /// What takes in rows on their way.
    ///
    /// # Errors
    /// The statement moves none.
    pub fn arrivals<'a>(&'a self, world: &'a Rc<World>) -> Result<Arrivals<'a>, ClientError> {
        let moving = self.moving()?;
        Ok(Arrivals {
            moving,
            world,
            watched: moving.watched(),
            arrays: BTreeMap::new(),
            old: HashMap::new(),
            new: Vec::new(),
            count: 0,
            excludes: false,
        })
    }
}

/// The parts of an UPDATE.
struct Parts {
    target: Range<usize>,
    condition: Option<Range<usize>>,
    returning: Option<Range<usize>>,
    /// What each column is set to, in the order of `Moving::assigned`.
    values: Vec<Range<usize>>,
}

struct Cut<'t> {
    words: Words<'t>,
    now: Option<&'t str>,
    moving: &'t Moving,
}

impl<'t> Deref for Cut<'t> {
    type Target = Words<'t>;

    fn deref(&self) -> &Words<'t> {
        &self.words
    }
}

impl Cut<'_> {
    fn moves(&self, count: usize) -> Result<Moves, ClientError> {
        let parts = self.parts()?;
        let relation = &*self.moving.relation;
        let mut given: Vec<String> = Vec::with_capacity(relation.columns.len());
        for column in &relation.columns {
            let set = self.moving.assigned.iter().position(|it| *it == column.name);
            given.push(match set.and_then(|it| parts.values.get(it)) {
                _ if column.generated => "NULL".to_owned(),
                Some(value) if self.is_default(value) && (column.default.is_some() || column.identity.is_some()) => {
                    return Err(self.moving.unsupported("beside SET … = DEFAULT"));
                }
                Some(value) if self.is_default(value) => "NULL".to_owned(),
                // Lengths are checked where it is inserted, as those of an assignment are.
                Some(value) => format!("({})::{}", self.said(value)?, type_name(column)),
                None => quoted(&column.name),
            });
        }
        let watched = self.moving.watched();
        given.extend(watched.old.iter().filter_map(|it| relation.columns.get(*it)).map(|it| quoted(&it.name)));
        let name = format!("{}.{}", quoted(&relation.name.schema), quoted(&relation.name.name));
        given.push(if relation.columns.iter().all(|it| is_settled(it.type_oid)) { "true" } else { EXACT }.to_owned());
        // Such a constraint looks at rows in the order in which they are changed, and no schema tells of it.
        given.push(format!(
            "EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid OPERATOR(pg_catalog.=) {}::pg_catalog.regclass \
             AND contype OPERATOR(pg_catalog.=) 'x')",
            literal(&name),
        ));
        let target = self.slice(&parts.target);
        let condition = match &parts.condition {
            Some(range) => format!(" WHERE {}", self.said(range)?),
            None => String::new(),
        };
        let remove = format!("DELETE FROM {target}{condition} RETURNING {}", given.join(", "));
        let kept = || relation.columns.iter().filter(|it| !it.generated);
        let columns: Vec<String> = kept().map(|it| quoted(&it.name)).collect();
        let cells: Vec<String> = columns.iter().map(|it| format!("r.{it}")).collect();
        let returning = match &parts.returning {
            Some(range) => format!(" RETURNING {}", self.said(range)?),
            None => String::new(),
        };
        let bring = format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM pg_catalog.unnest(${}::pg_catalog.text::{name}[]) AS r{returning}",
            self.target(&parts.target)?,
            columns.join(", "),
            cells.join(", "),
            count + 1,
        );
        let removing = parts.condition.iter().chain(&parts.values);
        Ok(Moves {
            remove: Share { text: remove, parameters: used_parameters(self, removing, count) },
            bring: Share { text: bring, parameters: used_parameters(self, parts.returning.iter(), count) },
            array: count,
        })
    }

    fn said(&self, range: &Range<usize>) -> Result<String, ClientError> {
        match self.now {
            None => Ok(self.slice(range).to_owned()),
            Some(now) => timed(self.text, self.lexemes.get(range.clone()).unwrap_or_default(), now, false),
        }
    }

    /// The table as an INSERT names it: with AS before an alias, without ONLY and `*`.
    fn target(&self, range: &Range<usize>) -> Result<String, ClientError> {
        let is_name = |at: usize| matches!(self.kind(at), Kind::Word | Kind::Quoted);
        let mut at = range.start;
        if self.is(at, "only") && range.len() > 1 {
            at += 1;
        }
        let first = at;
        while is_name(at) && self.kind(at + 1) == Kind::Dot {
            at += 2;
        }
        if !is_name(at) {
            return Err(unreadable("its table's name"));
        }
        let name = self.slice(&(first..at + 1));
        at += 1;
        if at < range.end && self.kind(at) == Kind::Operator && self.raw(at) == "*" {
            at += 1;
        }
        if at < range.end && self.is(at, "as") {
            at += 1;
        }
        match range.end.saturating_sub(at) {
            0 => Ok(name.to_owned()),
            1 if is_name(at) => Ok(format!("{name} AS {}", self.raw(at))),
            _ => Err(unreadable("its table's name")),
        }
    }

    fn parts(&self) -> Result<Parts, ClientError> {
        let end = self.lexemes.iter().position(|it| matches!(it.kind, Kind::End | Kind::Semicolon));
        let end = end.unwrap_or(self.lexemes.len());
        if !self.is(0, "update") {
            return Err(unreadable(""));
        }
        let (mut depth, mut set, mut condition, mut returning) = (0_usize, None, None, None);
        for at in 1..end {
            match self.kind(at) {
                Kind::Open | Kind::OpenBracket => depth += 1,
                Kind::Close | Kind::CloseBracket => depth = depth.saturating_sub(1),
                // Behind these it is somebody's name.
                Kind::Word if depth == 0 && self.kind(at - 1) != Kind::Dot && !self.is(at - 1, "as") => {
                    if set.is_none() {
                        // A table may be called so.
                        let begins = at > 1 && !(at == 2 && self.is(1, "only"));
                        set = (begins && self.is(at, "set")).then_some(at);
                    } else if returning.is_none() {
                        if self.is(at, "returning") {
                            returning = Some(at);
                        } else if condition.is_none() && self.is(at, "where") {
                            condition = Some(at);
                        }
                    }
                }
                _ => {}
            }
        }
        let set = set.ok_or_else(|| unreadable("SET"))?;
        let before_returning = returning.unwrap_or(end);
        let values = self.values(&(set + 1..condition.unwrap_or(before_returning)))?;
        if condition.is_some_and(|at| self.is(at + 1, "current") && self.is(at + 2, "of")) {
            return Err(self.moving.unsupported("WHERE CURRENT OF"));
        }
        Ok(Parts {
            target: 1..set,
            condition: condition.map(|at| at + 1..before_returning),
            returning: returning.map(|at| at + 1..end),
            values,
        })
    }

    /// What columns are set to.
    fn values(&self, range: &Range<usize>) -> Result<Vec<Range<usize>>, ClientError> {
        let mut values = Vec::new();
        for item in self.items(range) {
            let (target, value) = match self.kind(item.start) {
                Kind::Open => {
                    let close = self.closed(item.start).ok_or_else(|| unreadable("SET"))?;
                    (item.start..close, close + 1..item.end)
                }
                _ => (item.start..item.start + 1, item.start + 2..item.end),
            };
            let equals = target.end;
            if !(self.kind(equals) == Kind::Operator && self.raw(equals) == "=") || value.is_empty() {
                return Err(self.moving.unsupported("beside SET of a part of a column"));
            }
            if self.kind(target.start) != Kind::Open {
                self.is_called(target.start, values.len())?;
                values.push(value);
                continue;
            }
            let open = if self.is(value.start, "row") { value.start + 1 } else { value.start };
            let is_list = self.kind(open) == Kind::Open && self.closed(open) == Some(value.end);
            let asks = ["select", "with", "values", "table"].iter().any(|it| self.is(open + 1, it));
            let columns = self.items(&(target.start + 1..target.end - 1));
            let cells = if is_list { self.items(&(open + 1..value.end - 1)) } else { Vec::new() };
            if asks || columns.len() != cells.len() || cells.iter().any(Range::is_empty) {
                return Err(self.moving.unsupported("beside SET (…) = of what is no list"));
            }
            for (column, cell) in columns.into_iter().zip(cells) {
                if column.len() != 1 {
                    return Err(self.moving.unsupported("beside SET of a part of a column"));
                }
                self.is_called(column.start, values.len())?;
                values.push(cell);
            }
        }
        if values.len() == self.moving.assigned.len() { Ok(values) } else { Err(unreadable("SET")) }
    }

    /// That the text and what was understood of it agree.
    fn is_called(&self, at: usize, number: usize) -> Result<(), ClientError> {
        let name = match self.kind(at) {
            Kind::Word => lex::fold(self.raw(at)),
            Kind::Quoted => lex::unquote(self.raw(at)),
            _ => return Err(unreadable("SET")),
        };
        if self.moving.assigned.get(number).is_some_and(|it| **it == *name) { Ok(()) } else { Err(unreadable("SET")) }
    }

    /// What commas separate.
    fn items(&self, range: &Range<usize>) -> Vec<Range<usize>> {
        let mut items = Vec::new();
        let (mut depth, mut start) = (0_usize, range.start);
        for at in range.clone() {
            match self.kind(at) {
                Kind::Open | Kind::OpenBracket => depth += 1,
                Kind::Close | Kind::CloseBracket => depth = depth.saturating_sub(1),
                Kind::Comma if depth == 0 => {
                    items.push(start..at);
                    start = at + 1;
                }
                _ => {}
            }
        }
        items.push(start..range.end);
        items
    }
}

/// What one column of a unique index is compared by.
#[derive(Clone, Copy, Debug)]
enum Watch {
    /// The shard key.
    Key,
    /// A column of which equal values have equal texts.
    Text(usize),
}

/// How rows are compared as a unique index does it.
#[derive(Debug)]
struct Index {
    columns: Vec<Watch>,
    /// Others of its columns are set, too: whether a row's entry changes is not known.
    is_vague: bool,
}

/// What unique indexes make of rows on their way.
#[derive(Debug)]
struct Watched {
    indexes: Vec<Index>,
    /// The columns whose old values are wanted as well, for they are set; the key is the first.
    old: Vec<usize>,
}

impl Moving {
    fn key_place(&self) -> usize {
        self.relation.column(&self.key).unwrap_or_default()
    }

    fn watched(&self) -> Watched {
        let key = self.key_place();
        let mut old = vec![key];
        let watch = |place: usize| {
            let column = self.relation.columns.get(place)?;
            // Of others equal values may be spelled in two ways: they are taken to be equal.
            let plain = column.deterministic && column.type_modifier == -1 && !column.generated;
            let spelled = plain && is_spelled_once(column.type_oid);
            if place == key { Some(Watch::Key) } else { spelled.then_some(Watch::Text(place)) }
        };
        let is_set = |place: usize| {
            let column = self.relation.columns.get(place);
            column.is_none_or(|it| it.generated || self.assigned.contains(&it.name))
        };
        let mut indexes = Vec::new();
        for unique in &self.relation.unique {
            let columns: Vec<Watch> = unique.columns.iter().flatten().filter_map(|at| watch(*at)).collect();
            let is_vague = unique.columns.iter().any(|it| it.is_none_or(|at| watch(at).is_none() && is_set(at)));
            indexes.push(Index { columns, is_vague });
        }
        for watch in indexes.iter().flat_map(|it| &it.columns) {
            let Watch::Text(place) = watch else { continue };
            if is_set(*place) && !old.contains(place) {
                old.push(*place);
            }
        }
        Watched { indexes, old }
    }
}

/// A row as a unique index sees it.
type Entry = (usize, Option<Key>, Vec<Option<Box<[u8]>>>);

/// Rows on their way.
#[derive(Debug)]
pub struct Arrivals<'a> {
    moving: &'a Moving,
    world: &'a Rc<World>,
    watched: Watched,
    /// Per shard, the rows that belong there, as an array's text form.
    arrays: BTreeMap<ShardId, Vec<u8>>,
    old: HashMap<Entry, usize>,
    new: Vec<(Entry, usize)>,
    count: usize,
    /// An exclusion constraint looks at them.
    excludes: bool,
}

impl Arrivals<'_> {
    /// Takes in what a shard gives for a row that it has no more.
    ///
    /// # Errors
    /// A key that is NULL, that no shard takes, or that cannot be computed here.
    pub fn take(&mut self, from: ShardId, cells: &[Option<&[u8]>]) -> Result<(), ClientError> {
        let width = self.moving.relation.columns.len();
        let (Some(row), Some(rest)) = (cells.get(..width), cells.get(width..)) else { return Err(unreadable("")) };
        let Some((before, [exact, excludes])) = rest.split_at_checked(self.watched.old.len()) else {
            return Err(unreadable(""));
        };
        self.excludes |= *excludes != Some(b"f");
        if *exact != Some(b"t") {
            return Err(self.moving.unsupported(
                "under these settings of DateStyle, IntervalStyle or extra_float_digits, which do not tell values exactly,",
            ));
        }
        let key = row.get(self.moving.key_place()).copied().flatten();
        let new = self.stored(key);
        let shard = match &new {
            Stored::Key(key) => {
                let group = self.world.database.groups.get(self.moving.group);
                group.and_then(|it| it.function.shard(key)).ok_or_else(|| self.moving.nowhere())?
            }
            Stored::Null if !self.moving.is_not_null() => return Err(self.moving.null()),
            // A server says why.
            Stored::Null | Stored::Invalid => from,
            Stored::Unknown => return Err(self.moving.unsupported("to a value that shardway cannot compute")),
        };
        let old = self.stored(before.first().copied().flatten());
        let old_place = |place: usize| self.watched.old.iter().position(|it| *it == place);
        for (index, Index { columns, is_vague }) in self.watched.indexes.iter().enumerate() {
            let entry = |key: &Stored, text: &dyn Fn(usize) -> Option<Box<[u8]>>| -> Entry {
                let key = match key {
                    Stored::Key(key) => Some(key.clone()),
                    Stored::Null | Stored::Invalid | Stored::Unknown => None,
                };
                let texts = columns.iter().filter_map(|it| match it {
                    Watch::Key => None,
                    Watch::Text(place) => Some(text(*place)),
                });
                (index, key, texts.collect())
            };
            let text = |place: usize| row.get(place).copied().flatten().map(Box::from);
            let was = |place: usize| match old_place(place) {
                Some(at) => before.get(at).copied().flatten().map(Box::from),
                None => text(place),
            };
            let (gone, come) = (entry(&old, &was), entry(&new, &text));
            if gone != come || *is_vague {
                self.new.push((come, self.count));
            }
            // A number that no row has: several rows have that entry.
            self.old.entry(gone).and_modify(|it| *it = usize::MAX).or_insert(self.count);
        }
        self.count += 1;
        let array = self.arrays.entry(shard).or_insert_with(|| vec![b'{']);
        gather::put_element(array, &record(row));
        Ok(())
    }

    fn stored(&self, key: Option<&[u8]>) -> Stored {
        let Some(bytes) = key else { return Stored::Null };
        let values = Values::of_none(self.world, None);
        values.copied(bytes, false, self.moving.column)
    }

    /// How many rows there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// What each shard gets, in their order.
    ///
    /// # Errors
    /// A row takes a key that another one of them gives up.
    pub fn finish(self) -> Result<Vec<(ShardId, Vec<u8>)>, ClientError> {
        if self.new.iter().any(|(entry, row)| self.old.get(entry).is_some_and(|it| it != row)) {
            return Err(self.moving.unsupported("to one that another row of the same statement has"));
        }
        if self.excludes && self.count > 1 {
            return Err(self.moving.unsupported("of several rows in a table with an exclusion constraint"));
        }
        let closed = |(shard, mut array): (ShardId, Vec<u8>)| {
            array.push(b'}');
            (shard, array)
        };
        Ok(self.arrays.into_iter().map(closed).collect())
    }
}

/// The text form of a row.
fn record(cells: &[Option<&[u8]>]) -> Vec<u8> {
    let mut record = vec![b'('];
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            record.push(b',');
        }
        let Some(cell) = cell else { continue };
        record.push(b'"');
        for byte in *cell {
            if matches!(byte, b'"' | b'\\') {
                record.push(*byte);
            }
            record.push(*byte);
        }
        record.push(b'"');
    }
    record.push(b')');
    record
}

/// Whether the text form of every value is read as the same value.
const EXACT: &str = "pg_catalog.current_setting('extra_float_digits')::pg_catalog.int4 OPERATOR(pg_catalog.>) 0 \
     AND pg_catalog.current_setting('datestyle') OPERATOR(pg_catalog.~~) 'ISO%' \
     AND pg_catalog.current_setting('intervalstyle') OPERATOR(pg_catalog.<>) 'sql_standard'";

/// Types whose text form depends on no setting, or is read alike whatever it is.
fn is_settled(oid: u32) -> bool {
    // bool, bytea, "char", name, int8, int2, int4, text, oid, json, bpchar, varchar, uuid, numeric, jsonb, and arrays.
    const SETTLED: [u32; 27] = [
        16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 1042, 1043, 1700, 2950, 3802, 199, 1000, 1005, 1007, 1009, 1014, 1015,
        1016, 1231, 2951, 3807, 1001,
    ];
    SETTLED.contains(&oid)
}

/// Types of which equal values have equal texts.
fn is_spelled_once(oid: u32) -> bool {
    matches!(oid, 16 | 17 | 20 | 21 | 23 | 25 | 26 | 1043 | 1082 | 1114 | 1184 | 2950)
}

/// The type of a column without a length.
fn type_name(column: &schema::Column) -> &str {
    match column.type_oid {
        // Their plain names mean a length of 1.
        1042 => "pg_catalog.bpchar",
        1014 => "pg_catalog.bpchar[]",
        1560 => "pg_catalog.\"bit\"",
        1561 => "pg_catalog.\"bit\"[]",
        _ => &column.type_name,
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal, whatever the session's settings.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn unreadable(what: &str) -> ClientError {
    let error = ClientError::unsupported(
        "this UPDATE of a shard key is not supported: its parts could not be told apart",
        "Delete the row and insert it again.",
    );
    if what.is_empty() { error } else { error.with_detail(format!("What was looked for is {what}.")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_quoted() {
        assert_eq!(literal(r#""it's"."a\b""#), r#"E'"it''s"."a\\b"'"#);
    }

    #[test]
    fn a_row_is_spelled_as_servers_read_it() {
        assert_eq!(record(&[Some(b"1"), None, Some(b""), Some(br#"a"b\c,"#)]), br#"("1",,"","a""b\\c,")"#);
        assert_eq!(record(&[None]), b"()");
    }
}
