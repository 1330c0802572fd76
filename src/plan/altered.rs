//! Where tables of MySQL are made, changed and removed: where the map says that they are.

use std::sync::Arc;

use crate::error::ClientError;
use crate::ident::ShardId;
use crate::ident::TableName;
use crate::plan::Plan;
use crate::plan::World;
use crate::plan::utility;
use crate::shard_map::Placement;
use crate::sql::mysql::ddl::Changed;
use crate::sql::mysql::keys::Remade;
use crate::sql::not_mapped;

/// Tables that a statement makes, changes or removes on all shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Altered {
    /// The tables.
    pub tables: Vec<TableName>,
    /// What they count in AUTO_INCREMENT columns may begin anew.
    pub restarts: bool,
    /// Every shard has all their rows.
    pub copies: bool,
}

/// Where it is done, and why there.
pub(crate) fn compile(changed: &Changed, world: &World) -> Result<(Plan, Altered), ClientError> {
    if let Some((what, hint)) = changed.refused {
        return Err(ClientError::unsupported(format!("{what} is not supported"), hint));
    }
    let own = &*world.view.search_path;
    let mut tables = Vec::new();
    let mut homes: Vec<Option<ShardId>> = Vec::new();
    let mut copies = true;
    for (database, table) in &changed.tables {
        if database.as_ref().is_some_and(|it| **it != *own) {
            return Err(ClientError::unsupported(
                format!("changing table \"{table}\" of another database is not supported"),
                "USE its database first.",
            ));
        }
        let name = TableName::new(own, table);
        let placement = world.database.placement(&name).ok_or_else(|| not_mapped(&name))?;
        if tables.is_empty() {
            may_be_kept(changed, &name, &placement, world)?;
        }
        let home = match placement {
            Placement::Unsharded { home } => Some(home),
            Placement::Reference => None,
            Placement::Sharded { .. } => {
                copies = false;
                None
            }
        };
        if homes.first().is_some_and(|it| *it != home) {
            return Err(ClientError::unsupported(
                "changing tables that are not on the same shards by one statement is not supported",
                "Change each by a statement of its own.",
            ));
        }
        homes.push(home);
        tables.push(name);
    }
    let plan = match homes.first().copied().flatten() {
        Some(home) => Plan::One(home),
        None => Plan::Everywhere,
    };
    Ok((plan, Altered { tables, restarts: changed.restarts, copies }))
}

/// Refuses keys that a shard alone cannot keep, and what would make the shard key another.
fn may_be_kept(changed: &Changed, name: &TableName, placement: &Placement, world: &World) -> Result<(), ClientError> {
    let there = world.schema.relation(name);
    if changed.spared && there.is_some() {
        return Ok(());
    }
    let key = match placement {
        Placement::Sharded { key, .. } => Some(key),
        Placement::Reference | Placement::Unsharded { .. } => None,
    };
    if let (Some(key), Some(relation)) = (key, there) {
        let column = relation.columns.iter().find(|it| world.is_same_column(&it.name, key));
        let is_moved = |made: &Remade| match (made, column) {
            (Remade::Added, column) => column.is_none(),
            (Remade::Gone, column) => column.is_some(),
            (Remade::Typed(kind, unsigned), Some(column)) => {
                let now = column.type_name.to_ascii_lowercase();
                let word = now.split(['(', ' ']).next().unwrap_or_default();
                word != kind || now.contains("unsigned") != *unsigned
            }
            (Remade::Typed(..), None) => false,
        };
        if changed.columns.iter().any(|(it, made)| world.is_same_column(it, key) && is_moved(made)) {
            return Err(utility::another_key(key));
        }
    }
    let mut keys = changed.keys.clone();
    for foreign in keys.foreign.iter_mut().filter(|it| it.table.len() == 1) {
        foreign.table.insert(0, Arc::clone(&world.view.search_path));
    }
    utility::constraints(&keys, name, key, world, &world.names())
}
