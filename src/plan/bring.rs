//! UPDATE, DELETE and MERGE beside tables whose rows are elsewhere: these are copied, and the write runs on each shard of
//! its own table with the same copies in the place of the others (as a read that is gathered does on one server).
//!
//! What each shard computes over copies must come to the same everywhere: what depends on the order in which rows lie is
//! refused. Which of several matches UPDATE … FROM takes is open on one server too.

use crate::error::ClientError;
use crate::plan::World;
use crate::plan::gather;
use crate::plan::gather::Gathering;
use crate::plan::key::Values;
use crate::plan::route::Around;
use crate::plan::route::Compiler;
use crate::plan::route::Part;
use crate::plan::route::has_tenants;
use crate::plan::route::is_object;
use crate::plan::split::Split;
use crate::plan::split::Splitting;
use crate::shard_map::Placement;
use crate::sql::model::BlockId;
use crate::sql::model::LeafId;
use crate::sql::model::Source;
use crate::sql::model::WriteKind;

/// A write that runs beside copies.
#[derive(Debug)]
pub(crate) struct Bringing {
    /// The part that says which shards write.
    anchor: usize,
    pub(crate) gathering: Box<Gathering>,
}

impl Bringing {
    /// What it comes to with these values; `None`: the copies would have to be tables.
    pub(crate) fn with(
        &self,
        parts: &[Part],
        splitting: &Splitting,
        values: &Values<'_>,
        world: &World,
    ) -> Option<Split> {
        let part = parts.get(self.anchor)?;
        let copies = self.gathering.with(parts, values, world);
        if copies.staged {
            return None;
        }
        let database = &*world.database;
        let mut shards: smallvec::SmallVec<[_; 4]> = part.shards(values, database).iter().collect();
        if shards.is_empty() {
            // No row can match: one server says so.
            shards.extend(database.groups.get(part.group)?.function.shards().first());
        }
        Some(Split { shards, now: splitting.uses_now, beside: Some(Box::new(copies)), ..Split::default() })
    }
}

impl Compiler<'_> {
    /// How the statement runs beside copies of the tables that are elsewhere; else the construct that does not allow it.
    pub(super) fn bringing(
        &self,
        places: &[(LeafId, usize)],
        around: Around<'_>,
    ) -> Option<Result<Bringing, ClientError>> {
        let query = self.query;
        let [write] = query.writes.as_slice() else { return None };
        let plain = query.only_writes && around == Around::Nothing && !query.notes.locks && !self.scattered;
        if !plain || write.kind == WriteKind::Insert || !write.merged.is_empty() {
            return None;
        }
        if has_tenants(query, self.database) {
            return None;
        }
        let (_, anchor) = *places.iter().find(|(leaf, _)| *leaf == write.target)?;
        let notes = &query.notes;
        let own = |it: &Source| matches!(it, Source::System(_) | Source::Temporary(_));
        if query.leaves.iter().any(|it| own(&it.source)) || notes.acts.is_some() || notes.catalog.is_some() {
            return None;
        }
        Some(
            self.brought(write.target, write.block, places)
                .map(|gathering| Bringing { anchor, gathering: Box::new(gathering) }),
        )
    }

    fn brought(&self, target: LeafId, top: BlockId, places: &[(LeafId, usize)]) -> Result<Gathering, ClientError> {
        let query = self.query;
        let notes = &query.notes;
        let refuse = |what: String| {
            Err(ClientError::unsupported(
                format!("{what} in a write across shards is not supported"),
                "Add a condition on the shard key so that one shard has all rows that matter.",
            ))
        };
        if let Some(what) = notes.volatile.as_ref().or(notes.per_server.as_ref()) {
            return refuse(format!("volatile function {what}"));
        }
        if !query.facts_in(top).is_real(target) {
            return refuse("an outer join that may fill up the table that is written".to_owned());
        }
        let by_chance = query
            .blocks
            .iter()
            .enumerate()
            .find(|(id, block)| *id != top && (block.hard || block.ranked || block.by_order || block.windowed));
        if let Some((_, block)) = by_chance {
            return refuse(block.obstacle.clone().unwrap_or_else(|| "a subquery".to_owned()));
        }
        if notes.array_of_rows {
            return refuse("ARRAY of a subquery".to_owned());
        }
        // The same table has another number on each shard.
        for relation in query.leaves.iter().filter_map(|it| match &it.source {
            Source::Table(relation) => Some(relation),
            _ => None,
        }) {
            if let Some(column) = relation.columns.iter().find(|it| is_object(it.type_oid)) {
                return refuse(format!("column \"{}\", which names objects of a database by number,", column.name));
            }
        }
        let near = |leaf: LeafId| {
            let (Some((group, key)), Some((of, target_key))) = (self.is_sharded(leaf), self.is_sharded(target)) else {
                return false;
            };
            let variables = self.variable(leaf, &key).zip(self.variable(target, &target_key));
            group == of
                && query.leaves.get(leaf).is_some_and(|it| it.block == top)
                && variables.is_some_and(|(own, theirs)| query.facts_of(leaf).same(own, theirs))
        };
        let mut wanted: Vec<(LeafId, gather::From)> = places
            .iter()
            .filter(|(leaf, _)| *leaf != target && !near(*leaf))
            .map(|(leaf, part)| (*leaf, gather::From::Parts(vec![*part])))
            .collect();
        let mut home = None;
        for (leaf, it) in query.leaves.iter().enumerate() {
            if let Some(Placement::Unsharded { home: at }) = it.table().and_then(|it| self.database.placement(it)) {
                wanted.push((leaf, gather::From::Home(at)));
                home = Some(at);
            }
        }
        let mut gathering = self.gathering(&[], Some(wanted))?;
        if gathering.staged {
            return refuse("GROUP BY a primary key, or TABLESAMPLE,".to_owned());
        }
        gathering.at = home;
        gathering.arrays_only = true;
        Ok(gathering)
    }
}
