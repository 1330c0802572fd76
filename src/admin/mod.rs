//! What operators look at and turn: the console (database `shardway` on the Postgres port) and HTTP.
//!
//! Neither knows how the process is built: `server` hands in an [`Operated`].

pub mod console;
pub mod http;
mod metrics;
mod show;

use std::pin::Pin;
use std::sync::Arc;

use crate::backend::Pools;
use crate::backend::mysql;
use crate::exec::Deployment;
use crate::exec::clients::Clients;
use crate::ident::ShardId;
use crate::shard_map::live::Live;
use crate::shard_map::live::Outcome;
use crate::topology::events::Events;

/// Whose the addresses are that clients come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Another process's still, which this one is about to take over from.
    Coming,
    /// This one's.
    Serving,
    /// This one's, while it hands them to another.
    Handing,
    /// Another's: this one serves who is left.
    Former,
}

/// A running proxy, as its operators see it.
pub trait Operated: Send + Sync {
    /// The map and the databases in force.
    fn deployment(&self) -> Arc<Deployment>;

    /// The map's file.
    fn live(&self) -> &Live;

    /// What there is to tell of other proxies that serve the same map: items and values.
    fn fleet(&self) -> Vec<(String, String)>;

    /// All connections to servers of Postgres.
    fn pools(&self) -> &Pools;

    /// All connections to servers of MySQL and MariaDB.
    fn mysql_pools(&self) -> &mysql::Pools;

    /// Clients that have logged in.
    fn clients(&self) -> &Arc<Clients>;

    /// How many clients are connected, logged in or not.
    fn connected(&self) -> usize;

    /// What happened that is no shard's affair.
    fn events(&self) -> &Events;

    /// Whether clients are let in.
    fn serving(&self) -> bool;

    /// Whose the addresses are.
    fn standing(&self) -> Standing;

    /// Reads the map's file again and puts it in force if everything about it holds.
    fn reload(self: Arc<Self>) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;
}

/// What keeps clients from being served: nodes that do not answer, and schemas that have not been read.
#[must_use]
pub fn missing(process: &dyn Operated) -> Vec<String> {
    let deployment = process.deployment();
    let mut missing = Vec::new();
    for (name, service) in &deployment.services {
        for (shard, it) in (0_u16..).map(ShardId).zip(&service.database.shards) {
            if service.topology.any(shard).is_none() {
                missing.push(format!("{name}.{}: no node answers", it.name));
            }
        }
        if service.schema.current().is_none() {
            missing.push(format!("{name}: the schema has not been read"));
        }
    }
    missing
}
