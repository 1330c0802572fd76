//! `check --connect` of a MySQL or MariaDB database: its servers, and the map against what they say.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::control::Control;
use super::super::control::ControlError;
use super::super::fit;
use super::super::fit::Finding;
use super::super::fit::Severity;
use super::Connection;
use super::own;
use super::reader;
use super::takes_writes;
use super::two_phase;
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

/// Makes every shard able to take part in transactions that span shards; doing it again changes nothing.
///
/// # Errors
/// What could not be done, and where.
pub(in super::super) async fn prepare(
    database: &Database,
    control: &Control,
    logins: &[String],
    tell: &mut dyn FnMut(String),
) -> Result<(), String> {
    let mut primaries = Vec::new();
    let mut cluster: Option<(Arc<str>, &Arc<str>)> = None;
    for (place, shard) in (0_u16..).zip(&database.shards) {
        let mut connection = primary(database, control, place).await?;
        let at = |it: &ControlError| format!("shard \"{}\": {it}", shard.name);
        match (two_phase::cluster_of(&mut connection).await.map_err(|it| at(&it))?, &cluster) {
            (Some(new), Some((old, other))) if new != *old => {
                return Err(format!(
                    "shards \"{other}\" and \"{}\" were set up as parts of different clusters: shardway.cluster holds \
                     {old} and {new}",
                    shard.name
                ));
            }
            (Some(new), None) => cluster = Some((new, &shard.name)),
            _ => {}
        }
        primaries.push((&shard.name, connection));
    }
    let id = cluster.map_or_else(|| format!("{:016x}", rand::random::<u64>()), |(id, _)| id.to_string());
    for (name, connection) in &mut primaries {
        let server = format!("{:016x}", rand::random::<u64>());
        let set_up = two_phase::set_up(connection, &id, &server).await;
        set_up.map_err(|it| format!("shard \"{name}\": {it}\n{}", remedy(control.user(), logins)))?;
        tell(format!("database \"{}\", shard \"{name}\": set up as part of cluster {id}", database.name));
        let accounts = two_phase::accounts(connection, logins).await;
        let accounts = accounts.map_err(|it| format!("shard \"{name}\": {it}\n{}", remedy(control.user(), logins)))?;
        for account in accounts {
            let granted = connection.ask(&format!("{} {account}", own::GRANTED)).await;
            granted.map_err(|it| format!("shard \"{name}\": {it}\n{}", remedy(control.user(), logins)))?;
            tell(format!("there {account} may note decisions"));
        }
    }
    Ok(())
}

/// What has to be granted by hand where we may not do it.
fn remedy(user: &str, logins: &[String]) -> String {
    let grants = logins.iter().map(|it| format!("{} '{it}'@'%';", own::GRANTED)).collect::<Vec<_>>().join("\n");
    format!(
        "There an administrator has to say this (with the accounts' own hosts), and then this command can be run again:\n\
         GRANT ALL ON shardway.* TO '{user}'@'%' WITH GRANT OPTION;\n{grants}"
    )
}

/// A connection to the node of a shard that takes writes.
pub(super) async fn primary(database: &Database, control: &Control, place: u16) -> Result<Connection, String> {
    let mut trouble = "it has no node that takes writes".to_owned();
    for (_, node) in database.nodes().filter(|(id, _)| id.shard.0 == place) {
        let asked = async {
            let mut connection = Connection::open(control, node).await?;
            let said = connection.ask("SELECT @@global.read_only").await?;
            Ok::<_, ControlError>((said.first().and_then(|it| it.first()?.clone()), connection))
        };
        match asked.await {
            Ok((Some(read_only), connection)) if takes_writes(&read_only) => return Ok(connection),
            Ok(_) => {}
            Err(error) => trouble = error.text,
        }
    }
    let name = database.shards.get(usize::from(place)).map(|it| Arc::clone(&it.name)).unwrap_or_default();
    Err(format!("the primary of shard \"{name}\" does not answer: {trouble}"))
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
