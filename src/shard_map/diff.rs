//! Two maps → what changes between them, or why the change may not happen: it would look for rows where they are not.
//!
//! Where rows are is remembered as a fingerprint of each group, in the running proxy and on every shard, so that
//! neither a reload nor a restart can move rows by moving words. A group without `placement:` stays where it was.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Database;
use super::Group;
use super::Node;
use super::Placement;
use super::ShardMap;
use super::User;
use super::function::ShardFunction;
use super::function::Unreadable;
use crate::ident::ShardId;
use crate::ident::TableName;

/// The name under which it is recorded where reference and unsharded tables are. No group can have it.
pub const WHOLE: &str = "(whole tables)";

/// What to do about rows that would not be found.
const PUT_BACK: &str = "Put the map back as it was: shardway does not move rows that exist yet.";

/// What a new map changes. Names are as the maps spell them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Databases that were not there.
    pub databases_added: Vec<Arc<str>>,
    /// Databases that are there no more: no new login.
    pub databases_removed: Vec<Arc<str>>,
    /// Nodes that were not there.
    pub nodes_added: Vec<NodeOf>,
    /// Nodes that are there no more: no new checkout.
    pub nodes_removed: Vec<NodeOf>,
    /// Users that were not there.
    pub users_added: Vec<Arc<str>>,
    /// Users that are there no more: no new login.
    pub users_removed: Vec<Arc<str>>,
    /// Users who are known otherwise now: new logins see it.
    pub users_changed: Vec<Arc<str>>,
    /// Whether an address, a token or a certificate of a listener changed.
    pub listen_changed: bool,
    /// All of it in words, a line each; empty when nothing changed.
    pub lines: Vec<String>,
}

/// A node and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOf {
    /// Its database.
    pub database: Arc<str>,
    /// Its shard.
    pub shard: Arc<str>,
    /// The node itself.
    pub node: Node,
}

/// Why a map may not take the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A short name that stays, such as `map-moves-rows`.
    pub code: &'static str,
    /// What would happen.
    pub message: String,
    /// What to do instead: whole sentences.
    pub hint: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n\n  × {}\n  help: {}\n", self.code, self.message, self.hint)
    }
}

impl std::error::Error for Refusal {}

/// The canonical text of where a group's rows are: its shard function by the shards' names, then its tables with
/// their key columns. What [`ShardMap::with_recorded`] reads.
#[must_use]
pub fn fingerprint(database: &Database, group: &Group) -> String {
    let name = |shard: ShardId| database.shard(shard).name.to_string();
    let mut text = group.function.describe(name);
    let index = database.groups.iter().position(|other| other.name == group.name);
    let tables: BTreeMap<String, &str> = database
        .tables
        .iter()
        .filter_map(|(table, placement)| match placement {
            Placement::Sharded { group, key } if Some(*group) == index => Some((spell(table), &**key)),
            Placement::Sharded { .. } | Placement::Reference | Placement::Unsharded { .. } => None,
        })
        .collect();
    for (table, key) in tables {
        text.push_str(&format!("\ntable {table} {}", escape(key)));
    }
    text
}

/// The canonical text of where the tables are that are not spread: reference tables, unsharded ones by the shard's
/// name, and the shard of those that the map does not name; and of where sequences count.
fn whole(database: &Database) -> String {
    let placed = database.tables.iter().filter_map(|(table, placement)| match placement {
        Placement::Sharded { .. } => None,
        Placement::Reference => Some(format!("reference {}", spell(table))),
        Placement::Unsharded { home } => Some(format!("unsharded {} {}", spell(table), named(database, *home))),
    });
    let unlisted = database.unlisted.map(|home| format!("unlisted {}", named(database, home)));
    let sequences = database
        .sequences
        .iter()
        .map(|(name, sequence)| format!("sequence {} {}", spell(name), named(database, sequence.shard)));
    let lines: BTreeSet<String> = placed.chain(unlisted).chain(sequences).collect();
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

/// Everything about a database that a shard records: each group's fingerprint, and where whole tables are.
#[must_use]
pub fn records(database: &Database) -> Vec<(Arc<str>, String)> {
    let groups = database.groups.iter().map(|group| (Arc::clone(&group.name), fingerprint(database, group)));
    groups.chain([(WHOLE.into(), whole(database))]).collect()
}

impl ShardMap {
    /// The fingerprint of a group, or of [`WHOLE`]; `None` when there is no such group.
    #[must_use]
    pub fn fingerprint(&self, database: &str, group: &str) -> Option<String> {
        let database = self.databases.get(database)?;
        if group == WHOLE {
            return Some(whole(database));
        }
        database.groups.iter().find(|it| &*it.name == group).map(|group| fingerprint(database, group))
    }

    /// This map with the group where `recorded` says that its rows are: a group without `placement:` takes its
    /// buckets from there; any other must agree. Afterwards the group's fingerprint may differ from the record by
    /// what was added: record it again then.
    ///
    /// # Errors
    /// When the map would look for rows where they are not.
    pub fn with_recorded(&self, database: &str, group: &str, recorded: &str) -> Result<Self, Refusal> {
        let Some(found) = self.databases.get(database) else { return Ok(self.clone()) };
        if group == WHOLE {
            return match whole_stays(found, recorded).into_iter().next() {
                Some(refusal) => Err(refusal),
                None => Ok(self.clone()),
            };
        }
        let Some(index) = found.groups.iter().position(|it| &*it.name == group) else {
            return group_gone(found, group, recorded).map_or_else(|| Ok(self.clone()), Err);
        };
        let place = Place { database, group };
        let function = found.groups.get(index).map(|written| recorded_function(found, written, recorded, place));
        let mut database = Database::clone(found);
        if let (Some(function), Some(group)) = (function.transpose()?, database.groups.get_mut(index)) {
            group.function = function;
        }
        tables_stay(&database, index, recorded, place)?;
        let mut map = self.clone();
        map.databases.insert(Arc::clone(&database.name), Arc::new(database));
        Ok(map)
    }

    /// This map with every group that has no `placement:` where `old` has it.
    ///
    /// # Errors
    /// What would be looked for where it is not.
    pub fn carrying_over(self, old: &Self) -> Result<Self, Vec<Refusal>> {
        let mut refusals = Vec::new();
        let mut map = self;
        for (name, database) in &old.databases {
            for group in &database.groups {
                match map.with_recorded(name, &group.name, &fingerprint(database, group)) {
                    Ok(carried) => map = carried,
                    Err(refusal) => refusals.push(refusal),
                }
            }
        }
        if refusals.is_empty() { Ok(map) } else { Err(refusals) }
    }
}

/// What `new` changes of `old`. Groups without placement must have been carried over before.
///
/// # Errors
/// Everything that would look for existing rows where they are not.
pub fn diff(old: &ShardMap, new: &ShardMap) -> Result<Change, Vec<Refusal>> {
    let mut change = Change::default();
    let mut refusals = Vec::new();
    for (name, database) in &old.databases {
        match new.databases.get(name) {
            Some(newer) => databases(database, newer, new, &mut change, &mut refusals),
            None => {
                change.databases_removed.push(Arc::clone(name));
                change.lines.push(format!("database {name} is removed"));
                change.nodes_removed.extend(nodes(database).into_values());
            }
        }
    }
    for (name, database) in &new.databases {
        if !old.databases.contains_key(name) {
            change.databases_added.push(Arc::clone(name));
            change.lines.push(format!("database {name} is added"));
            change.nodes_added.extend(nodes(database).into_values());
        }
    }
    users(&old.users, &new.users, &mut change);
    settings(old, new, &mut change);
    if refusals.is_empty() { Ok(change) } else { Err(refusals) }
}

/// What is named in a refusal.
#[derive(Clone, Copy)]
struct Place<'p> {
    database: &'p str,
    group: &'p str,
}

impl Place<'_> {
    fn moves(self, what: impl fmt::Display) -> Refusal {
        Refusal {
            code: "map-moves-rows",
            message: format!("group `{}` of database `{}` has its rows elsewhere: {what}", self.group, self.database),
            hint: PUT_BACK.to_owned(),
        }
    }
}

/// The function of a group whose rows are where `recorded` says.
fn recorded_function(
    database: &Database,
    written: &Group,
    recorded: &str,
    place: Place<'_>,
) -> Result<ShardFunction, Refusal> {
    let find = |name: &str| shard_named(database, name);
    let known = ShardFunction::parse(recorded, find).map_err(|error| match error {
        Unreadable::Shard(name) => place.moves(format!("shard `{name}` is not in the map, and has rows")),
        Unreadable::Line(line) => unreadable(place.group, &line),
    })?;
    if known.key_type() != written.key_type {
        return Err(place.moves(format!("its key is {}, and the map says {}", known.key_type(), written.key_type)));
    }
    if known.scheme_name() != written.function.scheme_name() {
        let (known, written) = (known.scheme_name(), written.function.scheme_name());
        return Err(place.moves(format!("its scheme is {known}, and the map says {written}")));
    }
    let function = match written.function.with_buckets_of(&known) {
        Some(function) if !written.explicit_placement => function,
        _ => written.function.clone(),
    };
    if known.is_kept_by(&function) {
        return Ok(function);
    }
    let what = match known.scheme_name() {
        "range" => "`ranges` differ for keys that have a shard",
        "list" => "`values` differ for keys that have a shard",
        "schema" => "`schemas` differ for schemas that have a shard",
        "directory" => "`directory` is another, or keys that it does not hold go elsewhere",
        _ if known.buckets() == function.buckets() => "`pinned` differs",
        _ => "`placement` differs",
    };
    Err(place.moves(what))
}

fn unreadable(group: &str, line: &str) -> Refusal {
    Refusal {
        code: "map-record-unreadable",
        message: format!("what is recorded of group `{group}` cannot be read: {line}"),
        hint: "It was written by a newer shardway: use that one, or restore table shardway.placement.".to_owned(),
    }
}

/// Tables of the record are in the group with the same key, or not in the map at all.
fn tables_stay(database: &Database, index: usize, recorded: &str, place: Place<'_>) -> Result<(), Refusal> {
    for (table, key) in recorded_tables(recorded) {
        match database.placement(&table) {
            None => {}
            Some(Placement::Sharded { group, key: now }) if group == index && *now == *key => {}
            Some(Placement::Sharded { group, key: now }) if group == index => {
                return Err(place.moves(format!("table `{table}` is placed by `{key}`, and the map says `{now}`")));
            }
            Some(_) => return Err(place.moves(format!("table `{table}` is in this group, and the map says otherwise"))),
        }
    }
    Ok(())
}

/// A group may leave the map if its tables do, and its schemas are not looked for elsewhere.
fn group_gone(database: &Database, group: &str, recorded: &str) -> Option<Refusal> {
    let table = recorded_tables(recorded).into_iter().find(|(table, _)| database.placement(table).is_some());
    let place = Place { database: &database.name, group };
    let known = ShardFunction::parse(recorded, |name| shard_named(database, name)).ok();
    let schemas = known.as_ref().map(ShardFunction::named_schemas).unwrap_or_default();
    let moved = schemas.into_iter().find(|(schema, shard)| match database.placement(&TableName::new(schema, "")) {
        Some(Placement::Unsharded { home }) => home != *shard,
        Some(Placement::Sharded { .. } | Placement::Reference) | None => false,
    });
    if let Some((schema, _)) = moved {
        return Some(place.moves(format!("schema `{schema}` is in this group, and the map says otherwise")));
    }
    table.map(|(table, _)| place.moves(format!("table `{table}` is in this group, and the map says otherwise")))
}

fn recorded_tables(recorded: &str) -> Vec<(TableName, String)> {
    let read = |line: &str| {
        let (table, key) = line.strip_prefix("table ")?.split_once(' ')?;
        let (schema, name) = table.split_once('.')?;
        Some((TableName::new(&unescape(schema), &unescape(name)), unescape(key)))
    };
    recorded.lines().filter_map(read).collect()
}

fn databases(old: &Database, new: &Database, map: &ShardMap, change: &mut Change, refusals: &mut Vec<Refusal>) {
    let name = &old.name;
    for group in &old.groups {
        let place = Place { database: name, group: &group.name };
        let recorded = fingerprint(old, group);
        match map.with_recorded(name, &group.name, &recorded) {
            Err(refusal) => refusals.push(refusal),
            // A default that was not carried over.
            Ok(kept) if kept.fingerprint(name, &group.name) != map.fingerprint(name, &group.name) => {
                refusals.push(place.moves("`placement` differs"));
            }
            Ok(_) => {}
        }
    }
    if old.server_name != new.server_name || old.engine != new.engine {
        refusals.push(Refusal {
            code: "map-other-database",
            message: format!("database `{name}` would become another one on the servers"),
            hint: "Add it under a name of its own; `database:` says what it is called on the servers.".to_owned(),
        });
    }
    refusals.extend(whole_stays(new, &whole(old)));
    servers_stay(old, new, refusals);
    let (before, after) = (nodes(old), nodes(new));
    for (key, node) in &before {
        match after.get(key) {
            None => {
                change.lines.push(format!("node {} of {name}.{} is removed", node.node.name, node.shard));
                change.nodes_removed.push(node.clone());
            }
            Some(newer) if newer.node != node.node => {
                change.lines.push(format!("node {} of {name}.{} changes", newer.node.name, newer.shard));
            }
            Some(_) => {}
        }
    }
    for (_, node) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
        change.lines.push(format!("node {} of {name}.{} is added", node.node.name, node.shard));
        change.nodes_added.push(node.clone());
    }
    let names = |database: &Database| database.shards.iter().map(|it| Arc::clone(&it.name)).collect::<BTreeSet<_>>();
    let (shards, newer) = (names(old), names(new));
    change.lines.extend(newer.difference(&shards).map(|shard| format!("shard {name}.{shard} is added")));
    change.lines.extend(shards.difference(&newer).map(|shard| format!("shard {name}.{shard} is removed")));
    for table in new.tables.keys().collect::<BTreeSet<_>>() {
        if !old.tables.contains_key(table) {
            change.lines.push(format!("table {table} of {name} is added"));
        }
    }
    for table in old.tables.keys().collect::<BTreeSet<_>>() {
        if !new.tables.contains_key(table) {
            change.lines.push(format!("table {table} of {name} is removed"));
        }
    }
    let rest = [
        ("control", old.control != new.control),
        ("tls", old.tls != new.tls),
        ("catalog", named(old, old.catalog) != named(new, new.catalog)),
        ("functions", old.safe_functions != new.safe_functions),
        ("triggers", old.trusted_triggers != new.trusted_triggers),
        ("unlisted", old.unlisted.map(|it| named(old, it)) != new.unlisted.map(|it| named(new, it))),
        ("sequences", old.sequences != new.sequences),
        ("reads", old.reads != new.reads),
        ("transactions", old.across_shards != new.across_shards),
        ("local_files", old.local_files != new.local_files),
        ("failover", old.failover != new.failover),
        ("groups", groups_differ(old, new)),
    ];
    let changed = rest.into_iter().filter(|(_, differs)| *differs);
    change.lines.extend(changed.map(|(key, _)| format!("{key} of {name} changes")));
}

/// Unsharded tables and sequences stay on their shard, reference tables on all; what the map no longer names may go.
fn whole_stays(database: &Database, recorded: &str) -> Vec<Refusal> {
    let moves = |what: String| Refusal {
        code: "map-moves-rows",
        message: format!("{what}, and the map says otherwise"),
        hint: PUT_BACK.to_owned(),
    };
    let table_of = |spelled: &str| {
        spelled.split_once('.').map(|(schema, name)| TableName::new(&unescape(schema), &unescape(name)))
    };
    let refused = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            ["reference", table] => {
                let table = table_of(table)?;
                let spread = matches!(database.placement(&table), Some(Placement::Sharded { .. }));
                spread.then(|| moves(format!("table `{table}` of database `{}` is on every shard", database.name)))
            }
            ["unsharded", table, shard] => {
                let table = table_of(table)?;
                let stays = match database.placement(&table) {
                    None => true,
                    Some(Placement::Unsharded { home }) => &*named(database, home) == shard,
                    Some(Placement::Sharded { .. } | Placement::Reference) => false,
                };
                let what = || format!("table `{table}` of database `{}` is whole on shard `{shard}`", database.name);
                (!stays).then(|| moves(what()))
            }
            ["unlisted", shard] => {
                let stays = database.unlisted.is_none_or(|home| &*named(database, home) == shard);
                let what = || format!("tables of database `{}` that it does not name are on `{shard}`", database.name);
                (!stays).then(|| moves(what()))
            }
            // Another shard's would hand out numbers again.
            ["sequence", name, shard] => {
                let name = table_of(name)?;
                let stays = database.sequences.get(&name).is_none_or(|it| &*named(database, it.shard) == shard);
                let what = || format!("sequence `{name}` of database `{}` counts on shard `{shard}`", database.name);
                (!stays).then(|| moves(what()))
            }
            _ => Some(unreadable(WHOLE, line)),
        }
    };
    recorded.lines().filter_map(refused).collect()
}

/// A server keeps its rows when it is listed under another shard.
fn servers_stay(old: &Database, new: &Database, refusals: &mut Vec<Refusal>) {
    let (before, after) = (nodes(old), nodes(new));
    for (key, node) in &before {
        if let Some(newer) = after.get(key)
            && newer.shard != node.shard
        {
            refusals.push(Refusal {
                code: "map-moves-rows",
                message: format!(
                    "server {}:{} has the rows of shard `{}`, and the map lists it under `{}`",
                    node.node.host, node.node.port, node.shard, newer.shard
                ),
                hint: format!("List it under `{}`; a shard can be renamed by nobody while rows are on it.", node.shard),
            });
        }
    }
}

fn users(old: &BTreeMap<Arc<str>, Arc<User>>, new: &BTreeMap<Arc<str>, Arc<User>>, change: &mut Change) {
    for (name, user) in new {
        match old.get(name) {
            None => {
                change.lines.push(format!("user {name} is added"));
                change.users_added.push(Arc::clone(name));
            }
            Some(older) if older != user => {
                change.lines.push(format!("user {name} changes"));
                change.users_changed.push(Arc::clone(name));
            }
            Some(_) => {}
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        change.lines.push(format!("user {name} is removed"));
        change.users_removed.push(Arc::clone(name));
    }
}

fn settings(old: &ShardMap, new: &ShardMap, change: &mut Change) {
    change.listen_changed = old.listen != new.listen;
    let rest = [
        ("listen", change.listen_changed),
        ("admin", old.admins != new.admins),
        ("pool", old.pool != new.pool),
        ("timeouts", old.timeouts != new.timeouts),
        ("limits", old.limits != new.limits),
        ("log", old.log != new.log),
    ];
    let changed = rest.into_iter().filter(|(_, differs)| *differs);
    change.lines.extend(changed.map(|(key, _)| format!("{key} changes")));
}

/// Whether groups differ in what moves no rows.
fn groups_differ(old: &Database, new: &Database) -> bool {
    let facts = |database: &Database| -> Vec<(Arc<str>, bool, String, Option<Duration>)> {
        let name = |shard: ShardId| named(database, shard).to_string();
        let cache = |it: &Group| it.function.as_directory().map(|it| it.cache);
        let of = |it: &Group| (Arc::clone(&it.name), it.require_key, it.function.describe(name), cache(it));
        database.groups.iter().map(of).collect()
    };
    facts(old) != facts(new)
}

/// Nodes by host and port.
fn nodes(database: &Database) -> BTreeMap<(Arc<str>, u16), NodeOf> {
    let of = |shard: &super::Shard, node: &Node| NodeOf {
        database: Arc::clone(&database.name),
        shard: Arc::clone(&shard.name),
        node: node.clone(),
    };
    database
        .shards
        .iter()
        .flat_map(|shard| shard.nodes.iter().map(move |node| ((Arc::clone(&node.host), node.port), of(shard, node))))
        .collect()
}

fn named(database: &Database, shard: ShardId) -> Arc<str> {
    Arc::clone(&database.shard(shard).name)
}

fn shard_named(database: &Database, name: &str) -> Option<ShardId> {
    (0_u16..).map(ShardId).zip(&database.shards).find(|(_, shard)| &*shard.name == name).map(|(id, _)| id)
}

/// `schema.name`, each part one word without a full stop.
fn spell(table: &TableName) -> String {
    format!("{}.{}", escape(&table.schema), escape(&table.name))
}

/// A word without blanks, line breaks or full stops, readable back.
fn escape(text: &str) -> String {
    let plain = |c: char| !matches!(c, '%' | '.') && !c.is_whitespace() && !c.is_control();
    text.chars().map(|c| if plain(c) { c.to_string() } else { format!("%{:x};", u32::from(c)) }).collect()
}

fn unescape(word: &str) -> String {
    let mut parts = word.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_once(';').unwrap_or(("", part));
        text.extend(u32::from_str_radix(code, 16).ok().and_then(char::from_u32));
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::shard_map::NoEnvironment;
    use crate::shard_map::mistake;

    const BASE: &str = "version: 1
listen: {postgres: 127.0.0.1:6432}
databases:
  shop:
    shards:
      s1: [a:5432, b:5432]
      s2: [c:5432]
    groups:
      customer: {key: bigint, tables: {customers: id, orders: customer_id}}
      branch: {key: text, scheme: list, values: {s1: [DE], s2: [US]}, tables: {branches: country}}
    reference: [countries]
    unsharded: {s1: [settings]}
users:
  demo: {auth: trust}
";

    fn map(text: &str) -> ShardMap {
        ShardMap::parse("m.yaml", text, &NoEnvironment).unwrap_or_else(|found| panic!("{}", mistake::render(&found))).0
    }

    /// What the change of one stretch of the map's text comes to, carried over as a reload does it.
    fn change(from: &str, to: &str) -> Result<Change, Vec<Refusal>> {
        assert!(BASE.contains(from), "{from}");
        let (old, new) = (map(BASE), map(&BASE.replacen(from, to, 1)));
        let new = new.carrying_over(&old)?;
        diff(&old, &new)
    }

    fn lines(from: &str, to: &str) -> Vec<String> {
        change(from, to).unwrap_or_else(|refusals| panic!("{refusals:?}")).lines
    }

    fn refused(from: &str, to: &str) -> String {
        change(from, to).expect_err("it moves rows").iter().map(|it| format!("{}\n", it.message)).collect()
    }

    #[test]
    fn a_sequence_counts_where_it_did() {
        let with =
            |sequences: &str| map(&BASE.replacen("users:", &format!("    sequences: {{{sequences}}}\nusers:"), 1));
        let (none, here) = (map(BASE), with("bill: {shard: s1}"));
        assert_eq!(diff(&none, &here).unwrap().lines, ["sequences of shop changes"]);
        assert_eq!(diff(&here, &with("bill: {shard: s1, block: 7}")).unwrap().lines, ["sequences of shop changes"]);
        assert!(diff(&here, &none).is_ok());
        let elsewhere = with("bill: {shard: s2}");
        let recorded = here.fingerprint("shop", WHOLE).unwrap();
        for refusal in [
            diff(&here, &elsewhere).unwrap_err().remove(0),
            elsewhere.with_recorded("shop", WHOLE, &recorded).unwrap_err(),
        ] {
            assert_eq!(
                refusal.message,
                "sequence `bill` of database `shop` counts on shard `s1`, and the map says otherwise"
            );
        }
    }

    #[test]
    fn schemas_and_directories_stay_where_they_are() {
        let with = |more: &str| map(&BASE.replacen("    reference", &format!("{more}    reference"), 1));
        let schemas = |homes: &str| format!("      work: {{scheme: schema, schemas: {{{homes}}}}}\n");
        let old = with(&schemas("acme: s1"));
        assert_eq!(diff(&old, &with(&schemas("acme: s1, globex: s2"))).unwrap().lines, ["groups of shop changes"]);
        for moved in [schemas("acme: s2"), schemas("globex: s2")] {
            let refusal = diff(&old, &with(&moved)).unwrap_err().remove(0);
            assert_eq!(
                refusal.message,
                "group `work` of database `shop` has its rows elsewhere: `schemas` differ for schemas that have a shard"
            );
        }
        assert!(diff(&old, &map(BASE)).is_ok());
        let unlisted = map(&BASE.replacen("    reference", "    unlisted: s2\n    reference", 1));
        let refusal = diff(&old, &unlisted).unwrap_err().remove(0);
        assert!(refusal.message.ends_with("schema `acme` is in this group, and the map says otherwise"), "{refusal}");
        let directory = |rest: &str| {
            let told = format!("directory: {{shard: s1, table: told, key: id, target: shard{rest}}}");
            format!("      told: {{key: uuid, scheme: directory, {told}, tables: {{wallets: id}}}}\n")
        };
        let old = with(&directory(""));
        assert_eq!(diff(&old, &with(&directory(", cache: 1s"))).unwrap().lines, ["groups of shop changes"]);
        assert!(diff(&old, &with(&directory(", missing: s2"))).is_ok());
        assert!(diff(&with(&directory(", missing: s2")), &old).is_err());
        assert!(diff(&old, &with(&directory("").replace("key: id", "key: other"))).is_err());
    }

    #[test]
    fn the_same_map_changes_nothing() {
        assert_eq!(change("version: 1", "version: 1").unwrap(), Change::default());
    }

    #[test]
    fn what_moves_no_rows_is_live() {
        let change = change("s2: [c:5432]", "s2: [c:5432, d:5432]").unwrap();
        assert_eq!(change.lines, ["node d:5432 of shop.s2 is added"]);
        assert_eq!(change.nodes_added.len(), 1);
        assert_eq!(lines("a:5432, b:5432", "a:5432"), ["node b:5432 of shop.s1 is removed"]);
        assert_eq!(lines("[countries]", "[countries, plans]"), ["table plans of shop is added"]);
        assert_eq!(lines("customers: id, ", ""), ["table customers of shop is removed"]);
        assert_eq!(lines("  demo:", "  app: {auth: trust}\n  demo:"), ["control of shop changes", "user app is added"]);
        assert_eq!(lines("users:", "pool: {size: 5}\nusers:"), ["pool changes"]);
        assert_eq!(lines("s2: [US]", "s2: [US, CA]"), ["groups of shop changes"]);
        assert_eq!(lines("127.0.0.1:6432", "127.0.0.1:6433"), ["listen changes"]);
        assert_eq!(lines("users:\n", "  archive: {shards: {only: [z:1]}}\nusers:\n"), ["database archive is added"]);
    }

    #[test]
    fn a_shard_added_without_placement_owns_no_buckets() {
        let (old, new) = (map(BASE), map(&BASE.replace("s2: [c:5432]", "s2: [c:5432]\n      s3: [e:5432]")));
        let buckets = |map: &ShardMap| map.databases["shop"].groups[0].function.buckets().unwrap().to_vec();
        assert_ne!(buckets(&old), buckets(&new));
        let new = new.carrying_over(&old).unwrap();
        assert_eq!(buckets(&old), buckets(&new));
        let change = diff(&old, &new).unwrap();
        assert_eq!(change.lines, ["node e:5432 of shop.s3 is added", "shard shop.s3 is added"]);
    }

    #[test]
    fn shards_may_change_places_in_the_file() {
        let text = BASE.replace(
            "      s1: [a:5432, b:5432]\n      s2: [c:5432]\n",
            "      s2: [c:5432]\n      s1: [a:5432, b:5432]\n",
        );
        let (old, new) = (map(BASE), map(&text.replace("    reference", "    catalog: s1\n    reference")));
        let new = new.carrying_over(&old).unwrap();
        assert_eq!(diff(&old, &new).unwrap().lines, [""; 0]);
        let shard = |map: &ShardMap| {
            let shop = &map.databases["shop"];
            let id = shop.groups[0].function.shard(&crate::shard_map::Key::Int(42)).unwrap();
            shop.shard(id).name.to_string()
        };
        assert_eq!(shard(&old), shard(&new));
    }

    #[test]
    fn what_would_look_for_rows_elsewhere_is_refused() {
        let cases = [
            ("key: bigint,", "key: bigint, placement: {s1: 0-99, s2: 100-16383},", "`placement` differs"),
            ("key: bigint,", "key: bigint, pinned: {s2: [42]},", "`pinned` differs"),
            ("key: bigint,", "key: int,", "its key is bigint, and the map says int"),
            ("key: bigint,", "key: bigint, scheme: list, values: {s1: [1]},", "its scheme is hash"),
            ("orders: customer_id", "orders: id", "placed by `customer_id`, and the map says `id`"),
            ("{s1: [DE], s2: [US]}", "{s1: [US], s2: [DE]}", "`values` differ"),
            ("{s1: [DE], s2: [US]}", "{s1: [DE]}", "`values` differ"),
            ("unsharded: {s1:", "unsharded: {s2:", "table `settings` of database `shop` is whole on shard `s1`"),
            (
                "s1: [a:5432, b:5432]\n      s2: [c:5432]",
                "s1: [c:5432]\n      s2: [a:5432]",
                "has the rows of shard `s1`",
            ),
            ("  shop:\n", "  shop:\n    database: other\n", "another one on the servers"),
        ];
        for (from, to, message) in cases {
            let text = refused(from, to);
            assert!(text.contains(message), "{to}: {text}");
        }
    }

    #[test]
    fn a_table_that_changes_its_class_is_refused() {
        let new = BASE.replace("tables: {customers: id, orders: customer_id}", "tables: {customers: id}");
        let new = map(&new.replace("[countries]", "[countries, orders]"));
        let refusals = new.carrying_over(&map(BASE)).unwrap_err();
        assert_eq!(refusals.len(), 1);
        assert!(refusals[0].message.contains("table `orders` is in this group"), "{}", refusals[0]);
        assert!(refusals[0].hint.starts_with("Put the map back"), "{}", refusals[0]);
        // Left out, it could be found by no one; sent to one shard, it would be found in part.
        let new = BASE.replace("tables: {customers: id, orders: customer_id}", "tables: {customers: id}");
        assert!(map(&new).carrying_over(&map(BASE)).is_ok());
        let unlisted = map(&new.replace("    reference", "    unlisted: s1\n    reference"));
        assert!(unlisted.carrying_over(&map(BASE)).is_err());
    }

    #[test]
    fn a_shard_with_rows_cannot_leave() {
        let new = BASE.replace("      s2: [c:5432]\n", "").replace("{s1: [DE], s2: [US]}", "{s1: [DE, US]}");
        let refusals = map(&new).carrying_over(&map(BASE)).unwrap_err();
        assert_eq!(refusals.len(), 2, "{refusals:?}");
        assert!(refusals[0].message.contains("shard `s2` is not in the map"), "{}", refusals[0]);
    }

    #[test]
    fn a_restart_finds_what_was_recorded() {
        let old = map(BASE);
        let recorded = old.fingerprint("shop", "customer").unwrap();
        assert_eq!(
            recorded,
            "scheme hash\nkey bigint\nbuckets s1 0-8191\nbuckets s2 8192-16383\n\
             table public.customers id\ntable public.orders customer_id"
        );
        let grown = map(&BASE.replace("s2: [c:5432]", "s2: [c:5432]\n      s3: [e:5432]"));
        let found = grown.with_recorded("shop", "customer", &recorded).unwrap();
        assert_eq!(found.fingerprint("shop", "customer").unwrap(), recorded);
        let explicit = map(&BASE.replace("key: bigint,", "key: bigint, placement: {s1: 0-8191, s2: 8192-16383},"));
        assert!(explicit.with_recorded("shop", "customer", &recorded).is_ok());
        let moved = map(&BASE.replace("key: bigint,", "key: bigint, placement: {s2: 0-8191, s1: 8192-16383},"));
        assert_eq!(moved.with_recorded("shop", "customer", &recorded).unwrap_err().code, "map-moves-rows");
        let newer = old.with_recorded("shop", "customer", "scheme hash\nkey bigint\nmoons 7");
        assert_eq!(newer.unwrap_err().code, "map-record-unreadable");
    }

    #[test]
    fn whole_tables_are_recorded_and_stay() {
        let text = BASE.replace("[settings]}", "[settings, \"a b.c\"]}\n    unlisted: s2");
        let recorded = map(&text).fingerprint("shop", WHOLE).unwrap();
        assert_eq!(
            recorded,
            "reference public.countries\nunlisted s2\nunsharded a%20;b.c s1\nunsharded public.settings s1"
        );
        let outcome = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            let found = map(&text.replacen(from, to, 1)).with_recorded("shop", WHOLE, &recorded);
            found.map(|_| ()).map_err(|refusal| refusal.message)
        };
        assert_eq!(outcome("[countries]", "[countries, plans]"), Ok(()));
        assert_eq!(outcome("    unlisted: s2\n", ""), Ok(()));
        assert_eq!(
            outcome("    reference: [countries]\n    unsharded: {s1: [settings, \"a b.c\"]}\n    unlisted: s2\n", ""),
            Ok(())
        );
        for (from, to, message) in [
            ("unsharded: {s1:", "unsharded: {s2:", "is whole on shard `s1`"),
            (
                "{s1: [settings, \"a b.c\"]}",
                "{s1: [\"a b.c\"], s2: [settings]}",
                "table `settings` of database `shop` is whole",
            ),
            // Left out, it would be looked for where unlisted tables are.
            ("[settings, ", "[", "table `settings` of database `shop` is whole on shard `s1`"),
            (
                "    reference: [countries]\n    unsharded: {s1: [settings, ",
                "    reference: [countries, settings]\n    unsharded: {s1: [",
                "is whole on shard `s1`",
            ),
            ("unlisted: s2", "unlisted: s1", "tables of database `shop` that it does not name are on `s2`"),
        ] {
            let refused = outcome(from, to).unwrap_err();
            assert!(refused.contains(message), "{to}: {refused}");
        }
        assert_eq!(map(BASE).with_recorded("shop", WHOLE, "moons 7").unwrap_err().code, "map-record-unreadable");
        assert!(map(BASE).with_recorded("shop", WHOLE, "").is_ok());
    }

    #[test]
    fn any_name_reads_back() {
        for name in ["orders", "with space", "a.b", "100%", "zeilen\numbruch", "日本", "%2e;"] {
            let table = TableName::new("public", name);
            let text = format!("table {} {}", spell(&table), escape(name));
            assert_eq!(text.lines().count(), 1);
            assert_eq!(recorded_tables(&text), [(table, name.to_owned())]);
        }
    }
}
