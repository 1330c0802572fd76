//! `check --connect`: the map against the servers themselves.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use sqlx::postgres::PgRow;

use super::control;
use super::control::Control;
use super::control::ControlError;
use super::control::Purpose;
use super::fit;
use super::fit::Finding;
use super::fit::Severity;
use super::lead;
use super::mysql;
use super::placement;
use super::placement::Difference;
use super::placement::PlacementError;
use super::schema_reader;
use super::schema_reader::Catalog;
use super::sequence_check;
use super::two_phase;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::shard_map::AcrossShards;
use crate::shard_map::Database;
use crate::shard_map::Engine;
use crate::shard_map::ShardMap;
use crate::shard_map::WantedRole;

/// Connects to every server of the map once and tells what does not fit, the gravest first.
pub async fn check_connect(map: &ShardMap) -> Vec<Finding> {
    let mut findings = Vec::new();
    for database in map.databases.values() {
        let Some(login) = control::login(map, database) else {
            findings.push(Finding::new(
                Severity::Error,
                "no-login",
                format!("nobody may log in to database \"{}\"", database.name),
                "Give it `control:`, or a user who may use it.",
            ));
            continue;
        };
        let control = Control::new(database, login, map.timeouts.connect);
        if database.engine == Engine::Mysql {
            findings.extend(mysql::check::findings(database, &control).await);
            continue;
        }
        let survey = Survey::of(database, &control, &mut findings).await;
        findings.extend(survey.findings(map));
        findings.extend(survey.placement_findings(map));
        let schemas: Vec<_> = survey.catalogs.iter().map(|it| it.as_ref().map(|it| it.schema.as_ref())).collect();
        findings.extend(fit::compare(database, &schemas));
        findings.extend(sequence_check::behind(database, &control, &schemas).await);
        findings.extend(survey.type_findings());
        if database.failover.lead {
            findings.extend(lead::check::findings(database, &control).await);
        }
    }
    findings.sort_by_key(|it| it.severity);
    findings
}

/// Makes every shard of the map able to take part in transactions that span shards. Each line of what is done is told;
/// doing it again changes nothing.
///
/// # Errors
/// What could not be done, and where.
pub async fn prepare(map: &ShardMap, tell: &mut dyn FnMut(String)) -> Result<(), String> {
    let wanted = |it: &&Arc<Database>| it.shards.len() > 1 && it.across_shards == AcrossShards::TwoPhase;
    for database in map.databases.values().filter(wanted) {
        let login = control::login(map, database)
            .ok_or_else(|| format!("nobody may log in to database \"{}\"", database.name))?;
        let control = Control::new(database, login, map.timeouts.connect);
        let allowed =
            map.users.values().filter(|it| it.databases.as_ref().is_none_or(|it| it.contains(&database.name)));
        let logins: Vec<String> =
            allowed.map(|it| it.server.as_ref().map_or(&it.name, |server| &server.user).to_string()).collect();
        if database.engine == Engine::Mysql {
            mysql::check::prepare(database, &control, &logins, tell).await?;
            continue;
        }
        let mut primaries = Vec::new();
        let mut cluster: Option<(String, &Arc<str>)> = None;
        for (place, shard) in (0_u16..).zip(&database.shards) {
            let mut connection = primary(database, &control, ShardId(place), Purpose::TwoPhase).await?;
            let known = two_phase::cluster_of(&mut connection).await.map_err(|it| at(&shard.name, &it))?;
            match (known, &cluster) {
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
        let id = cluster.map_or_else(|| format!("{:016x}", rand::random::<u64>()), |(id, _)| id);
        for (name, connection) in &mut primaries {
            two_phase::set_up(connection, &id).await.map_err(|it| {
                let right = it.sqlstate.as_deref() == Some("42501");
                let remedy =
                    if right { "\nRun it there as a superuser, or as the owner of schema shardway." } else { "" };
                format!("{}{remedy}", at(name, &it))
            })?;
            tell(format!("database \"{}\", shard \"{name}\": set up as part of cluster {id}", database.name));
            let strangers = two_phase::not_member_of(connection, &logins).await.map_err(|it| at(name, &it))?;
            if !strangers.is_empty() {
                tell(format!(
                    "warning: there \"{0}\" is no member of {1}, and cannot end what a dead proxy left of theirs: GRANT {1} \
                     TO \"{0}\";",
                    control.user(),
                    strangers.iter().map(|it| format!("\"{it}\"")).collect::<Vec<_>>().join(", ")
                ));
            }
        }
    }
    Ok(())
}

/// A connection to the shard's primary, found by asking its nodes.
pub(super) async fn primary(
    database: &Database,
    control: &Control,
    shard: ShardId,
    purpose: Purpose,
) -> Result<PgConnection, String> {
    let mut trouble = "it has no node that is not in recovery".to_owned();
    for (_, node) in database.nodes().filter(|(id, _)| id.shard == shard) {
        let asked = async {
            let mut connection = control.connect(node, purpose).await?;
            let facts = ask(&mut connection).await?;
            Ok::<_, ControlError>((connection, facts))
        };
        match asked.await {
            Ok((connection, facts)) if !facts.in_recovery => return Ok(connection),
            Ok(_) => {}
            Err(error) => trouble = error.text,
        }
    }
    Err(format!("the primary of shard \"{}\" does not answer: {trouble}", database.shard(shard).name))
}

fn at(shard: &str, error: &ControlError) -> String {
    format!("shard \"{shard}\": {error}")
}

/// What one server says of itself.
#[derive(Clone, Debug)]
struct Facts {
    system: u64,
    in_recovery: bool,
    version: i32,
    encoding: String,
    collation: String,
    max_prepared: i64,
    wal_level: String,
    connections: i64,
    sees_statistics: bool,
    /// What transactions over several shards need is there.
    set_up: bool,
}

/// All of one database's servers.
struct Survey<'a> {
    database: &'a Database,
    user: String,
    facts: BTreeMap<NodeId, Facts>,
    catalogs: Vec<Option<Catalog>>,
    /// What each shard has recorded of where rows are: group → fingerprint.
    records: Vec<BTreeMap<String, String>>,
}

impl<'a> Survey<'a> {
    async fn of(database: &'a Database, control: &Control, findings: &mut Vec<Finding>) -> Self {
        let mut facts = BTreeMap::new();
        let mut catalogs: Vec<Option<Catalog>> = database.shards.iter().map(|_| None).collect();
        let mut records: Vec<BTreeMap<String, String>> = database.shards.iter().map(|_| BTreeMap::new()).collect();
        let mut unreachable: Vec<(NodeId, ControlError)> = Vec::new();
        for (id, node) in database.nodes() {
            let asked = async {
                let mut connection = control.connect(node, Purpose::Check).await?;
                let facts = ask(&mut connection).await?;
                Ok::<_, ControlError>((connection, facts))
            };
            match asked.await {
                Ok((mut connection, found)) => {
                    if let Some(slot) = catalogs.get_mut(id.shard.index())
                        && (slot.is_none() || !found.in_recovery)
                    {
                        match schema_reader::read(&mut connection).await {
                            Ok(catalog) => *slot = Some(catalog),
                            Err(error) => unreachable.push((id, error)),
                        }
                        let recorded = placement::recorded(&mut connection, &database.name);
                        match (control::bounded(recorded).await, records.get_mut(id.shard.index())) {
                            (Ok(found), Some(record)) => *record = found,
                            (Ok(_), None) => {}
                            (Err(error), _) => findings.push(unreadable_record(database, id, &error)),
                        }
                    }
                    facts.insert(id, found);
                }
                Err(error) => unreachable.push((id, error)),
            }
        }
        for (id, error) in unreachable {
            let alone = !facts.keys().any(|it| it.shard == id.shard);
            let (shard, node) = (&database.shard(id.shard).name, &database.node(id).name);
            findings.push(Finding::new(
                if alone { Severity::Error } else { Severity::Warning },
                "node-unreachable",
                format!("node \"{node}\" of shard \"{shard}\" does not answer: {error}"),
                format!(
                    "Check its address, and that \"{}\" may log in to database \"{}\" there.",
                    control.user(),
                    database.server_name
                ),
            ));
        }
        Self { database, user: control.user().to_owned(), facts, catalogs, records }
    }

    fn findings(&self, map: &ShardMap) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.roles(&mut findings);
        self.systems(&mut findings);
        self.alike(&mut findings);
        self.settings(map, &mut findings);
        findings
    }

    fn node(&self, id: NodeId) -> String {
        format!("node \"{}\" of shard \"{}\"", self.database.node(id).name, self.database.shard(id.shard).name)
    }

    fn roles(&self, findings: &mut Vec<Finding>) {
        for (id, facts) in &self.facts {
            let insisted = match (self.database.node(*id).role, facts.in_recovery) {
                (WantedRole::Primary, true) => Some(("is in recovery", "role: primary")),
                (WantedRole::Replica, false) => Some(("is not in recovery", "role: replica")),
                _ => None,
            };
            if let Some((is, role)) = insisted {
                let message = format!("{} {is}, but the map says {role}", self.node(*id));
                findings.push(Finding::new(
                    Severity::Error,
                    "role-differs",
                    message,
                    "Leave the role to be discovered, or correct it.",
                ));
            }
        }
        for (place, shard) in (0_u16..).zip(&self.database.shards) {
            let here = || self.facts.iter().filter(|(id, _)| id.shard == ShardId(place));
            let claims = |(id, facts): &(&NodeId, &Facts)| {
                !facts.in_recovery && self.database.node(**id).role != WantedRole::Replica
            };
            match here().filter(claims).count() {
                0 if here().next().is_some() => findings.push(Finding::new(
                    Severity::Error,
                    "no-primary",
                    format!("no node of shard \"{}\" is a primary", shard.name),
                    "It can be read, not written, until one of its servers is promoted.",
                )),
                0 | 1 => {}
                _ => findings.push(Finding::new(
                    Severity::Error,
                    "two-primaries",
                    format!("more than one node of shard \"{}\" is a primary", shard.name),
                    "The nodes of a shard are one primary and its replicas; servers with rows of their own are other shards.",
                )),
            }
        }
    }

    /// A system identifier is shared by a primary and its replicas, and by nobody else.
    fn systems(&self, findings: &mut Vec<Finding>) {
        let mut owners: BTreeMap<u64, NodeId> = BTreeMap::new();
        let mut of_shard: BTreeMap<ShardId, (u64, NodeId)> = BTreeMap::new();
        for (id, facts) in &self.facts {
            let owner = *owners.entry(facts.system).or_insert(*id);
            if owner.shard != id.shard {
                let message = format!("{} is the same system as {}", self.node(*id), self.node(owner));
                findings.push(Finding::new(
                    Severity::Error,
                    "system-of-another-shard",
                    message,
                    "Servers with one system identifier are copies of each other: they are nodes of one shard. Give every \
                     shard a cluster of its own (initdb).",
                ));
            }
            let (system, first) = *of_shard.entry(id.shard).or_insert((facts.system, *id));
            if system != facts.system {
                let message = format!(
                    "{} is not a copy of {}: their system identifiers differ",
                    self.node(*id),
                    self.node(first)
                );
                findings.push(Finding::new(
                    Severity::Error,
                    "system-differs",
                    message,
                    "A replica is made from its primary by a base backup.",
                ));
            }
        }
    }

    fn alike(&self, findings: &mut Vec<Finding>) {
        let Some((first, model)) = self.facts.iter().next() else { return };
        for (id, facts) in self.facts.iter().skip(1) {
            let mut differ = |severity, code, what: &str, here: &str, there: &str, hint: &str| {
                if here != there {
                    let message =
                        format!("{} has {what} {here}, but {} has {there}", self.node(*id), self.node(*first));
                    findings.push(Finding::new(severity, code, message, hint));
                }
            };
            differ(
                Severity::Error,
                "encoding-differs",
                "encoding",
                &facts.encoding,
                &model.encoding,
                "Text keys are hashed as bytes: every shard needs the same encoding.",
            );
            differ(
                Severity::Error,
                "collation-differs",
                "collation",
                &facts.collation,
                &model.collation,
                "Rows of several shards can only be put in one order when all sort alike.",
            );
            let major = |it: &Facts| (it.version / 10_000).to_string();
            differ(
                Severity::Warning,
                "version-differs",
                "major version",
                &major(facts),
                &major(model),
                "Shards of different versions may answer the same statement differently.",
            );
        }
    }

    fn settings(&self, map: &ShardMap, findings: &mut Vec<Finding>) {
        let database = self.database;
        let users = map.users.values().filter(|it| it.databases.as_ref().is_none_or(|it| it.contains(&database.name)));
        // Every user's pool, the monitor, the reader of the schema, and who looks after prepared transactions and deadlocks.
        let wanted = i64::try_from(users.count() * map.pool.size + 4).unwrap_or(i64::MAX);
        for (id, facts) in &self.facts {
            let node = self.node(*id);
            if facts.max_prepared == 0 && database.across_shards == AcrossShards::TwoPhase && database.shards.len() > 1
            {
                findings.push(Finding::new(
                    Severity::Warning,
                    "no-prepared-transactions",
                    format!("{node} has max_prepared_transactions = 0"),
                    "A transaction that writes several shards is refused until it is set (to max_connections, say) and \
                     the server restarted; or say transactions: {across_shards: reject}.",
                ));
            }
            let apart = database.across_shards == AcrossShards::TwoPhase && database.shards.len() > 1;
            if apart && facts.max_prepared > 0 && !facts.set_up && !facts.in_recovery {
                findings.push(Finding::new(
                    Severity::Warning,
                    "two-phase-not-set-up",
                    format!("{node} lacks what transactions over several shards need"),
                    "Until shardway check --connect --prepare has been run, a transaction that writes several shards is \
                     refused.",
                ));
            }
            if facts.connections < wanted {
                findings.push(Finding::new(
                    Severity::Warning,
                    "too-few-connections",
                    format!("{node} takes {} connections, but the pools may open {wanted}", facts.connections),
                    "Raise max_connections there, or lower pool.size.",
                ));
            }
            if facts.wal_level != "logical" && !facts.in_recovery {
                findings.push(Finding::new(
                    Severity::Note,
                    "wal-level",
                    format!("{node} has wal_level = {}", facts.wal_level),
                    "Resharding needs wal_level = logical.",
                ));
            }
            if !facts.sees_statistics && database.shard(id.shard).nodes.len() > 1 {
                findings.push(Finding::new(
                    Severity::Warning,
                    "monitor-rights",
                    format!(
                        "\"{}\" cannot see on {node} what a replica receives, so replicas serve no reads",
                        self.user
                    ),
                    format!("GRANT pg_monitor TO {} on the primary of the shard.", self.user),
                ));
            }
        }
    }

    /// What `serve` would not start for: rows that the map looks for elsewhere.
    fn placement_findings(&self, map: &ShardMap) -> Vec<Finding> {
        let mut findings = Vec::new();
        let name = &self.database.name;
        let mut map = map.clone();
        for (shard, record) in self.database.shards.iter().zip(&self.records) {
            for (group, recorded) in record {
                if map.fingerprint(name, group).is_none() {
                    let gone = Difference {
                        shard: Arc::clone(&shard.name),
                        group: group.as_str().into(),
                        recorded: recorded.clone(),
                        now: None,
                    };
                    let gone = PlacementError::Differs(vec![gone]);
                    findings.push(Finding::new(Severity::Error, "placement-differs", gone.to_string(), gone.hint()));
                    continue;
                }
                match map.with_recorded(name, group, recorded) {
                    Ok(taken) => map = taken,
                    Err(refusal) => {
                        let message = format!("shard \"{}\" has recorded otherwise: {}", shard.name, refusal.message);
                        findings.push(Finding::new(Severity::Error, "placement-differs", message, refusal.hint));
                    }
                }
            }
        }
        findings
    }

    fn type_findings(&self) -> Vec<Finding> {
        let canonical = self.catalogs.get(self.database.catalog.index()).and_then(Option::as_ref);
        let Some(canonical) = canonical else { return Vec::new() };
        let mut findings = Vec::new();
        for (place, catalog) in (0_u16..).zip(&self.catalogs) {
            let Some(catalog) = catalog else { continue };
            let shard = &self.database.shard(ShardId(place)).name;
            let differ = schema_reader::type_oids(canonical, catalog).unwrap_or_default();
            // Every table has a row type, which hardly anybody asks for, and which differ wherever tables do.
            let rows: BTreeSet<String> =
                catalog.schema.relations.keys().map(|table| format!("{}.{}", table.schema, table.name)).collect();
            let of_rows = |name: &str| rows.contains(name.trim_end_matches("[]"));
            let named =
                |(name, oid): (&String, &u32)| (differ.contains_key(oid) && !of_rows(name)).then(|| name.clone());
            let names: Vec<String> = catalog.types.iter().filter_map(named).collect();
            if !names.is_empty() {
                findings.push(Finding::new(
                    Severity::Note,
                    "type-oids-differ",
                    format!(
                        "types with other OIDs on shard \"{shard}\" than on the catalog shard: {}",
                        names.join(", ")
                    ),
                    "Answers of one shard are given the catalog shard's OIDs; statements that return such values from \
                     several shards are refused: cast them to text there.",
                ));
            }
        }
        findings
    }
}

fn unreadable_record(database: &Database, id: NodeId, error: &ControlError) -> Finding {
    Finding::new(
        Severity::Error,
        "placement-unreadable",
        format!("the record of placements on shard \"{}\" cannot be read: {error}", database.shard(id.shard).name),
        "Let the control user read shardway.placement there; without it nothing is served.",
    )
}

async fn ask(connection: &mut PgConnection) -> Result<Facts, ControlError> {
    let row = control::bounded(sqlx::query(FACTS).fetch_one(connection)).await?;
    facts(&row).map_err(|error| ControlError::from(&error))
}

fn facts(row: &PgRow) -> Result<Facts, sqlx::Error> {
    Ok(Facts {
        system: row.try_get::<i64, _>(0)?.cast_unsigned(),
        in_recovery: row.try_get(1)?,
        version: row.try_get(2)?,
        encoding: row.try_get(3)?,
        collation: row.try_get(4)?,
        max_prepared: row.try_get(5)?,
        wal_level: row.try_get(6)?,
        connections: row.try_get(7)?,
        sees_statistics: row.try_get(8)?,
        set_up: row.try_get(9)?,
    })
}

// The columns of pg_database that name a collation differ between versions: as JSON, what is not there is null.
const FACTS: &str = "
select (select system_identifier from pg_catalog.pg_control_system()),
       pg_catalog.pg_is_in_recovery(),
       current_setting('server_version_num')::int4,
       pg_encoding_to_char((d ->> 'encoding')::int4)::text,
       concat_ws(' ', d ->> 'datcollate', d ->> 'datctype', d ->> 'datlocprovider',
                 coalesce(d ->> 'datlocale', d ->> 'daticulocale'), d ->> 'datcollversion'),
       current_setting('max_prepared_transactions')::int8,
       current_setting('wal_level'),
       current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8,
       pg_has_role(current_user, 'pg_read_all_stats', 'usage'),
       to_regprocedure('shardway.decide(text, text, xid8, text)') is not null
  from (select to_jsonb(b) from pg_catalog.pg_database b where b.datname = current_database()) as j (d)";
