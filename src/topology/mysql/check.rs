//! `check --connect` of a MySQL or MariaDB database: its servers, and the map against what they say.

use std::collections::BTreeMap;

use super::super::control::Control;
use super::super::control::ControlError;
use super::super::fit;
use super::super::fit::Finding;
use super::super::fit::Severity;
use super::Connection;
use super::reader;
use super::takes_writes;
use super::unreadable;
use crate::ident::NodeId;
use crate::schema::Schema;
use crate::shard_map::Database;
use crate::shard_map::Node;
use crate::shard_map::WantedRole;

/// What one server says of itself.
struct Facts {
    /// What tells it from every other server.
    server: String,
    takes_writes: bool,
    schema: Schema,
}

/// Asks every server once, and tells what does not fit.
pub(in super::super) async fn findings(database: &Database, control: &Control) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut facts: BTreeMap<NodeId, Facts> = BTreeMap::new();
    let mut silent: Vec<(NodeId, ControlError)> = Vec::new();
    for (id, node) in database.nodes() {
        match ask(control, node).await {
            Ok(found) => drop(facts.insert(id, found)),
            Err(error) => silent.push((id, error)),
        }
    }
    for (id, error) in silent {
        let alone = !facts.keys().any(|it| it.shard == id.shard);
        findings.push(Finding::new(
            if alone { Severity::Error } else { Severity::Warning },
            "node-unreachable",
            format!("{} does not answer: {error}", named(database, id)),
            format!(
                "Check its address, and that \"{}\" may log in to database \"{}\" there.",
                control.user(),
                database.server_name
            ),
        ));
    }
    roles(database, &facts, &mut findings);
    same_server(database, &facts, &mut findings);
    let schemas: Vec<Option<&Schema>> = (0_u16..)
        .zip(&database.shards)
        .map(|(place, _)| {
            let mut here = facts.iter().filter(|(id, _)| id.shard.0 == place).map(|(_, it)| it);
            here.clone().find(|it| it.takes_writes).or_else(|| here.next()).map(|it| &it.schema)
        })
        .collect();
    findings.extend(fit::compare(database, &schemas));
    findings
}

fn named(database: &Database, id: NodeId) -> String {
    format!("node \"{}\" of shard \"{}\"", database.node(id).name, database.shard(id.shard).name)
}

fn roles(database: &Database, facts: &BTreeMap<NodeId, Facts>, findings: &mut Vec<Finding>) {
    for (id, it) in facts {
        let insisted = match (database.node(*id).role, it.takes_writes) {
            (WantedRole::Primary, false) => Some(("takes no writes", "role: primary")),
            (WantedRole::Replica, true) => Some(("takes writes", "role: replica")),
            _ => None,
        };
        if let Some((is, role)) = insisted {
            let message = format!("{} {is}, but the map says {role}", named(database, *id));
            let hint = "Leave the role to be discovered, or set read_only there as it should be.";
            findings.push(Finding::new(Severity::Error, "role-differs", message, hint));
        }
    }
    for (place, shard) in (0_u16..).zip(&database.shards) {
        let here = || facts.iter().filter(|(id, _)| id.shard.0 == place);
        let claims = here().filter(|(id, it)| it.takes_writes && database.node(**id).role != WantedRole::Replica);
        match claims.count() {
            0 if here().next().is_some() => findings.push(Finding::new(
                Severity::Error,
                "no-primary",
                format!("no node of shard \"{}\" takes writes", shard.name),
                "SET GLOBAL read_only = 0 on the server that is its primary.",
            )),
            0 | 1 => {}
            _ => findings.push(Finding::new(
                Severity::Error,
                "two-primaries",
                format!("more than one node of shard \"{}\" takes writes", shard.name),
                "SET GLOBAL read_only = 1 on replicas; servers with rows of their own are other shards.",
            )),
        }
    }
}

/// One server under two addresses would hold every row of both shards.
fn same_server(database: &Database, facts: &BTreeMap<NodeId, Facts>, findings: &mut Vec<Finding>) {
    let mut owners: BTreeMap<&str, NodeId> = BTreeMap::new();
    for (id, it) in facts {
        let owner = *owners.entry(&it.server).or_insert(*id);
        if owner != *id {
            findings.push(Finding::new(
                Severity::Error,
                "same-server",
                format!("{} is the same server as {}", named(database, *id), named(database, owner)),
                "Each node is a server of its own: give the address of another.",
            ));
        }
    }
}

async fn ask(control: &Control, node: &Node) -> Result<Facts, ControlError> {
    let mut connection = Connection::open(control, node).await?;
    // MariaDB has no @@server_uuid; where it listens and when it began tells as much.
    let question = "SELECT @@global.read_only, @@hostname, @@port, @@global.server_id, @@datadir";
    let said = connection.ask(question).await?;
    let Some([Some(read_only), identity @ ..]) = said.first().map(Vec::as_slice) else {
        return Err(unreadable("what it is"));
    };
    let takes_writes = takes_writes(read_only);
    let server = format!("{identity:?}");
    let schema = reader::read(&mut connection).await?.schema;
    Ok(Facts { server, takes_writes, schema: (*schema).clone() })
}
