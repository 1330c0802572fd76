//! `shardway verify` of MySQL and MariaDB. Keys come here one after the other, and where they belong is computed as for any
//! statement; copies are compared by digests that the servers add up.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use sqlx::AssertSqlSafe;
use sqlx::Row;
use sqlx::mysql::MySqlRow;
use tokio::time::timeout;

use super::super::control;
use super::super::control::Control;
use super::super::control::ControlError;
use super::super::fit::Finding;
use super::super::health::Heard;
use super::super::verify::Request;
use super::super::verify::Unseen;
use super::super::verify::Verified;
use super::super::verify::chosen;
use super::super::verify::copies::Line;
use super::super::verify::copies::SHOWN;
use super::super::verify::copies::difference;
use super::super::verify::together;
use super::super::verify::words;
use super::Connection;
use super::check;
use super::is_mariadb;
use super::placement;
use super::reader;
use super::two_phase;
use crate::clock;
use crate::ident::ShardId;
use crate::ident::TableName;
use crate::schema::Relation;
use crate::schema::Schema;
use crate::shard_map::Database;
use crate::shard_map::Directory;
use crate::shard_map::Group;
use crate::shard_map::Key;
use crate::shard_map::KeyType;
use crate::shard_map::Placement;
use crate::shard_map::ShardMap;

/// A shard that is asked, and how long an answer may take.
struct Asked<'a> {
    id: ShardId,
    name: Arc<str>,
    connection: Connection,
    answer: Duration,
    /// How to come by one more connection.
    database: &'a Database,
    control: &'a Control,
}

/// One table as the shards have it.
struct Table<'a> {
    name: &'a TableName,
    /// Its relation on each shard, in the map's order.
    on: &'a [Option<&'a Relation>],
    /// How many rows are named.
    rows: usize,
}

type Rows<'a> = Pin<Box<dyn Stream<Item = Result<MySqlRow, sqlx::Error>> + Send + 'a>>;
type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unseen>> + 'a>>;

/// Looks at every table that is asked for.
///
/// # Errors
/// Why no more could be looked at.
pub(in super::super) async fn of_database(
    map: &ShardMap,
    database: &Database,
    request: &Request,
    tell: &mut dyn FnMut(String),
    all: &mut Verified,
) -> Result<(), String> {
    let login = control::login(map, database).ok_or("nobody may log in to it")?;
    let control = Control::new(database, login, map.timeouts.connect);
    let mut shards = Vec::new();
    let mut schemas: Vec<Arc<Schema>> = Vec::new();
    // Buckets that the map does not place are where the shards have recorded them.
    let mut map = map.clone();
    for (place, shard) in (0_u16..).zip(&database.shards) {
        let mut connection = check::primary(database, &control, place).await?;
        let failed = |error: ControlError| format!("shard \"{}\": {error}", shard.name);
        for (group, recorded) in placement::kept(&mut connection, &database.name).await.map_err(failed)? {
            map = map.with_recorded(&database.name, &group, &recorded).map_err(|refusal| {
                format!(
                    "shard \"{}\" has recorded its rows elsewhere than the map says: {}",
                    shard.name, refusal.message
                )
            })?;
        }
        schemas.push(reader::read(&mut connection).await.map_err(failed)?.schema);
        let milliseconds = request.statement.as_millis();
        let limit = if is_mariadb(&connection.version) {
            format!("max_statement_time = {}", request.statement.as_secs_f64())
        } else {
            format!("max_execution_time = {milliseconds}")
        };
        connection.ask(&format!("SET SESSION time_zone = '+00:00', {limit}")).await.map_err(failed)?;
        let answer = request.statement.saturating_add(GRACE);
        let (id, name) = (ShardId(place), Arc::clone(&shard.name));
        shards.push(Asked { id, name, connection, answer, database, control: &control });
    }
    let database = map.databases.get(&database.name).ok_or("the map lost it")?;
    let tables = chosen(database, &schemas, request, tell, all);
    let mut left = tables.len();
    for (name, placement) in tables {
        let on: Vec<Option<&Relation>> = schemas.iter().map(|it| it.relation(name).map(AsRef::as_ref)).collect();
        let table = Table { name, on: &on, rows: request.rows };
        let outcome = match placement {
            Placement::Reference => copies(&mut shards, &table, &mut all.findings).await,
            Placement::Sharded { group, key } => match database.groups.get(*group) {
                Some(group) if group.function.as_directory().is_none() => {
                    placed(&mut shards, &table, group, key, &mut all.findings).await
                }
                Some(_) => Ok("in a directory, which is not supported on MySQL".to_owned()),
                None => Ok("in no group".to_owned()),
            },
            Placement::Unsharded { home } => strays(&mut shards, &table, *home, &mut all.findings).await,
        };
        let lost = match outcome {
            Ok(said) => {
                tell(format!("{name}: {said}"));
                None
            }
            Err(unseen) => {
                tell(format!("{name}: {unseen}"));
                all.unseen.push(format!("table \"{name}\": {unseen}"));
                everywhere(&mut shards, "ROLLBACK").await.err()
            }
        };
        left -= 1;
        if let Some(lost) = lost {
            return Err(format!("{lost}; {left} more tables were not looked at"));
        }
    }
    Ok(())
}

impl Table<'_> {
    /// As SQL.
    fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.name.schema), quoted(&self.name.name))
    }

    fn is_on(&self, shard: ShardId) -> bool {
        self.on.get(shard.index()).copied().flatten().is_some()
    }
}

impl Asked<'_> {
    fn unseen(&self, error: ControlError) -> Unseen {
        Unseen { shard: Arc::clone(&self.name), error }
    }

    async fn ask(&mut self, sql: &str) -> Result<Vec<super::Texts>, Unseen> {
        let asked = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.connection.line);
        let rows = match timeout(self.answer, asked).await {
            Ok(rows) => rows.map_err(|error| ControlError::from(&error)),
            Err(_) => Err(late(self.answer)),
        };
        let texts = |row: &MySqlRow| (0..row.len()).map(|it| row.try_get_unchecked(it)).collect();
        let read = |rows: Vec<MySqlRow>| {
            let texts: Result<Vec<super::Texts>, sqlx::Error> = rows.iter().map(texts).collect();
            texts.map_err(|error| ControlError::from(&error))
        };
        rows.and_then(read).map_err(|error| self.unseen(error))
    }

    /// The first value of an answer's first row.
    async fn value(&mut self, sql: &str) -> Result<Option<String>, Unseen> {
        Ok(self.ask(sql).await?.into_iter().next().and_then(|it| it.into_iter().next()).flatten())
    }
}

fn late(answer: Duration) -> ControlError {
    ControlError { heard: Heard::Loss, text: format!("no answer within {answer:?}"), sqlstate: None }
}

async fn everywhere(shards: &mut [Asked<'_>], sql: &str) -> Result<(), Unseen> {
    together(shards.iter_mut().map(|shard| Box::pin(async move { shard.ask(sql).await.map(drop) }) as Work<'_, ()>))
        .await
        .map(drop)
}

// ── rows of sharded tables ──

/// What one shard's keys come to.
#[derive(Default)]
struct Counted {
    rows: i64,
    without_key: i64,
    misplaced: i64,
    /// Where some of those belong (`None`: nowhere), and their keys.
    some: BTreeSet<(Option<ShardId>, Vec<u8>)>,
}

/// Computes of every key where its row belongs, and names those that belong elsewhere.
async fn placed(
    shards: &mut [Asked<'_>],
    table: &Table<'_>,
    group: &Group,
    key: &str,
    findings: &mut Vec<Finding>,
) -> Result<String, Unseen> {
    everywhere(shards, BEGIN).await?;
    let key_type = group.function.key_type();
    let sql = format!("SELECT {} FROM {}", asked(key_type, &quoted(key)), table.sql());
    let counted: Vec<Counted> = together(shards.iter_mut().map(|shard| {
        let sql = sql.as_str();
        let on = table.is_on(shard.id);
        Box::pin(async move { if on { count(shard, sql, group).await } else { Ok(Counted::default()) } }) as Work<'_, _>
    }))
    .await?;
    let names: Vec<Arc<str>> = shards.iter().map(|it| Arc::clone(&it.name)).collect();
    let (mut rows, mut wrong) = (0, 0);
    for (shard, here) in names.iter().zip(&counted) {
        rows += here.rows;
        wrong += here.without_key + here.misplaced;
        if here.without_key > 0 {
            words::without_key(table.name, shard, key, here.without_key, findings);
        }
        if here.misplaced > 0 {
            words::misplaced(table.name, shard, here.misplaced, findings);
        }
        for (place, value) in here.some.iter().take(table.rows) {
            let there = match place.and_then(|place| shards.get_mut(place.index())) {
                Some(other) if value.len() <= KEY_MAX && table.is_on(other.id) => {
                    let same = format!("{} = {}", quoted(key), literal(key_type, value));
                    let question = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {same})", table.sql());
                    other.value(&question).await?.as_deref() == Some("1")
                }
                _ => false,
            };
            let home = place.and_then(|it| names.get(it.index())).map(|it| &**it);
            words::one_misplaced(table.name, shard, home, &spelled(key_type, value), there, findings);
        }
    }
    everywhere(shards, "COMMIT").await?;
    Ok(words::sharded(rows, wrong))
}

/// Reads all keys of one shard.
async fn count(shard: &mut Asked<'_>, sql: &str, group: &Group) -> Result<Counted, Unseen> {
    let (own, answer) = (shard.id, shard.answer);
    let mut counted = Counted::default();
    let all = async {
        let mut rows: Rows<'_> = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(&mut shard.connection.line);
        while let Some(row) = next(&mut rows).await? {
            counted.rows += 1;
            let Some(word) = row.try_get_unchecked::<Option<Vec<u8>>, _>(0)? else {
                counted.without_key += 1;
                continue;
            };
            let home = key_of(group.function.key_type(), &word).and_then(|it| group.function.shard(&it));
            if home == Some(own) {
                continue;
            }
            counted.misplaced += 1;
            if counted.some.len() < SAMPLE {
                // Of one that is longer than any that is looked for, as much as shows that it is.
                let kept = word.get(..KEY_MAX + 1).unwrap_or(&word).to_vec();
                counted.some.insert((home, kept));
            }
        }
        Ok::<_, sqlx::Error>(())
    };
    match timeout(answer, all).await {
        Ok(Ok(())) => Ok(counted),
        Ok(Err(error)) => Err(shard.unseen(ControlError::from(&error))),
        Err(_) => Err(shard.unseen(late(answer))),
    }
}

async fn next(rows: &mut Rows<'_>) -> Result<Option<MySqlRow>, sqlx::Error> {
    poll_fn(|context| rows.as_mut().poll_next(context)).await.transpose()
}

/// What is asked of a key's column, so that [`key_of`] reads it.
fn asked(key_type: KeyType, column: &str) -> String {
    match key_type {
        // What is no day of the calendar (0000-00-00) has no number.
        KeyType::Date => format!("IF({column} IS NULL, NULL, IFNULL(TO_DAYS({column}) - {DAY_0}, 'none'))"),
        KeyType::Uuid => format!("REPLACE({column}, '-', '')"),
        _ => column.to_owned(),
    }
}

fn key_of(key_type: KeyType, word: &[u8]) -> Option<Key> {
    let text = || std::str::from_utf8(word).ok();
    match key_type {
        KeyType::BigInt | KeyType::Int | KeyType::SmallInt => text()?.parse().ok().map(Key::Int),
        KeyType::Text => Some(Key::Text(word.to_vec())),
        KeyType::Bytea => Some(Key::Bytea(word.to_vec())),
        KeyType::Uuid => Directory::key(key_type, text()?),
        KeyType::Date => text()?.parse().ok().map(Key::Date),
        // No column of MySQL's is a key of this type.
        KeyType::TimestampTz => None,
    }
}

/// A key that [`asked`] has brought, as SQL that compares with its column.
fn literal(key_type: KeyType, word: &[u8]) -> String {
    let hex = || word.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    match key_type {
        KeyType::Text => format!("_utf8mb4 X'{}'", hex()),
        KeyType::Bytea => format!("X'{}'", hex()),
        KeyType::Date => format!("FROM_DAYS({DAY_0} + {})", String::from_utf8_lossy(word)),
        _ => reader::literal(&spelled(key_type, word)),
    }
}

/// The same as it is shown.
fn spelled(key_type: KeyType, word: &[u8]) -> String {
    let text = String::from_utf8_lossy(word);
    match key_type {
        KeyType::Bytea => word.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
        KeyType::Uuid if text.len() == 32 && text.is_ascii() => {
            format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
        }
        _ => text.into_owned(),
    }
}

/// Looks for rows of an unsharded table on other shards than its home, where nothing reads them.
async fn strays(
    shards: &mut [Asked<'_>],
    table: &Table<'_>,
    home: ShardId,
    findings: &mut Vec<Finding>,
) -> Result<String, Unseen> {
    let mut astray = false;
    for shard in shards.iter_mut().filter(|it| it.id != home && table.is_on(it.id)) {
        let any = format!("SELECT EXISTS (SELECT 1 FROM {})", table.sql());
        if shard.value(&any).await?.as_deref() == Some("1") {
            astray = true;
            words::astray(table.name, &shard.name, findings);
        }
    }
    Ok(words::unsharded(astray))
}

// ── copies of reference tables ──

/// Whether all copies are the same: by count and digest, and row for row where these differ.
async fn copies(shards: &mut [Asked<'_>], table: &Table<'_>, findings: &mut Vec<Finding>) -> Result<String, Unseen> {
    let Some(relation) = table.on.iter().copied().flatten().next() else {
        return Ok("reference, not created yet".to_owned());
    };
    take_snapshots(shards, table).await?;
    let sql = digest_of(table, relation);
    let said: Vec<Vec<super::Texts>> = together(shards.iter_mut().map(|shard| {
        let sql = sql.as_str();
        Box::pin(async move { shard.ask(sql).await }) as Work<'_, _>
    }))
    .await?;
    let counts: Vec<i64> =
        said.iter().map(|it| it.first().and_then(|it| it.first()?.as_deref()?.parse().ok()).unwrap_or(-1)).collect();
    if said.iter().all(|it| Some(it) == said.first()) {
        everywhere(shards, "COMMIT").await?;
        return Ok(words::reference(counts.first().copied(), shards.len()));
    }
    let rows = name_rows(shards, table, relation).await?;
    let counted = shards.iter().zip(counts).map(|(shard, rows)| (&*shard.name, rows));
    words::copies_differ(table.name, counted, &rows, findings);
    everywhere(shards, "COMMIT").await?;
    Ok(words::reference(None, shards.len()))
}

/// Begins a transaction on every shard, between two writers of the table.
///
/// A writer holds it on every shard until its write is committed there. So it is locked on one shard after the other, as
/// writers come to them; while all are locked no write is half done, and each shard's snapshot is taken.
async fn take_snapshots(shards: &mut [Asked<'_>], table: &Table<'_>) -> Result<(), Unseen> {
    let mut gates = Vec::new();
    for shard in shards.iter() {
        let opened = check::primary(shard.database, shard.control, shard.id.0).await;
        gates.push(opened.map_err(|text| shard.unseen(ControlError { heard: Heard::Failure, text, sqlstate: None }))?);
    }
    let begun = clock::now();
    loop {
        match lock(shards, &mut gates, table).await {
            Ok(()) => break,
            Err(mut unseen) => {
                let waited = unseen.error.text == UNDECIDED || unseen.error.text.starts_with(LOCKED);
                if !waited || clock::now().since(begun) > TURN_MAX {
                    if waited {
                        unseen.error.text =
                            format!("writers of this table leave no turn within {TURN_MAX:?}: {}", unseen.error.text);
                    }
                    return Err(unseen);
                }
                // Held nowhere while it is waited for anew.
                unlock(shards, &mut gates).await?;
                tokio::time::sleep(TURN_PAUSE).await;
            }
        }
    }
    everywhere(shards, BEGIN).await?;
    unlock(shards, &mut gates).await
}

async fn lock(shards: &[Asked<'_>], gates: &mut [Connection], table: &Table<'_>) -> Result<(), Unseen> {
    let sql = format!("LOCK TABLES {} READ", table.sql());
    for (shard, gate) in shards.iter().zip(&mut *gates) {
        gate.ask(&sql).await.map_err(|error| shard.unseen(error))?;
    }
    // What was prepared by a session that is gone holds no table any more.
    for (shard, gate) in shards.iter().zip(gates) {
        if !two_phase::prepared(gate).await.map_err(|error| shard.unseen(error))?.is_empty() {
            let text = UNDECIDED.to_owned();
            return Err(shard.unseen(ControlError { heard: Heard::Answer, text, sqlstate: None }));
        }
    }
    Ok(())
}

async fn unlock(shards: &[Asked<'_>], gates: &mut [Connection]) -> Result<(), Unseen> {
    for (shard, gate) in shards.iter().zip(gates) {
        gate.ask("UNLOCK TABLES").await.map_err(|error| shard.unseen(error))?;
    }
    Ok(())
}

/// SHA-256 of a row: the same for the same values, whatever the order of columns.
fn row_digest(relation: &Relation) -> String {
    let columns = relation.columns.iter().map(|it| {
        let name = format!("t.{}", quoted(&it.name));
        // Of which fewer digits are printed than there are.
        let float = it.type_name.to_ascii_lowercase().starts_with("float");
        let value = if float { format!("CAST({name} AS DOUBLE)") } else { name };
        format!("IFNULL(SHA2(CAST({value} AS BINARY), 256), '-')")
    });
    format!("SHA2(CONCAT_WS(',', {}), 256)", columns.collect::<Vec<_>>().join(", "))
}

/// The digests of all rows, added up in four parts: in whatever order they come, and as often as they are there.
fn digest_of(table: &Table<'_>, relation: &Relation) -> String {
    let mut parts = String::new();
    for place in 0..4 {
        // Writing to a String cannot fail.
        let _ = write!(parts, ", SUM(CAST(CONV(SUBSTRING(d, {}, 16), 16, 10) AS UNSIGNED))", 1 + 16 * place);
    }
    format!("SELECT COUNT(*){parts} FROM (SELECT {} AS d FROM {} AS t) AS digests", row_digest(relation), table.sql())
}

/// Reads all copies side by side in one order, and says of the first rows that differ how. Rows are told apart by their
/// primary key; without one equal rows are counted.
async fn name_rows(shards: &mut [Asked<'_>], table: &Table<'_>, relation: &Relation) -> Result<Vec<String>, Unseen> {
    let key_of = |it: &Relation| -> Option<Vec<Arc<str>>> {
        it.primary_key.as_ref()?.iter().map(|at| it.columns.get(*at).map(|column| Arc::clone(&column.name))).collect()
    };
    let key = key_of(relation).filter(|key| table.on.iter().flatten().all(|it| key_of(it).as_ref() == Some(key)));
    let text = |columns: &[Arc<str>]| {
        let columns = columns.iter().map(|it| format!("CONVERT(t.{} USING utf8mb4)", quoted(it)));
        format!("LEFT(CONCAT_WS(', ', {}), {SHOWN})", columns.collect::<Vec<_>>().join(", "))
    };
    let digest = row_digest(relation);
    let sql = match &key {
        Some(key) => {
            let bytes = key.iter().map(|it| format!("SHA2(CAST(t.{} AS BINARY), 256)", quoted(it)));
            let bytes = bytes.collect::<Vec<_>>().join(", ");
            format!("SELECT CONCAT({bytes}) AS k, {digest}, {} FROM {} AS t ORDER BY k", text(key), table.sql())
        }
        None => {
            let columns: Vec<Arc<str>> = relation.columns.iter().map(|it| Arc::clone(&it.name)).collect();
            let shown = text(&columns);
            format!("SELECT {digest} AS k, COUNT(*), MIN({shown}) FROM {} AS t GROUP BY k ORDER BY k", table.sql())
        }
    };
    let names: Vec<Arc<str>> = shards.iter().map(|it| Arc::clone(&it.name)).collect();
    let mut copies: Vec<Copied<'_>> = shards.iter_mut().map(|shard| Copied::begin(shard, &sql)).collect();
    let mut named = Vec::new();
    loop {
        for copy in &mut copies {
            copy.fill().await?;
        }
        let Some(first) = copies.iter().filter_map(|it| it.line.as_ref()).map(|(key, _, _)| key).min().cloned() else {
            return Ok(named);
        };
        let found: Vec<Option<Line>> = copies.iter_mut().map(|it| it.line.take_if(|line| line.0 == first)).collect();
        let digest = |line: &Option<Line>| line.as_ref().map(|(_, digest, _)| digest.clone());
        if found.iter().all(|it| Some(digest(it)) == found.first().map(digest)) {
            continue;
        }
        if named.len() == table.rows {
            named.push("more rows differ, which are not named".to_owned());
            // Their transactions end with them: what is left of the answers is not read.
            drop(copies);
            return Ok(named);
        }
        named.push(difference(names.iter().map(|it| &**it), &found, key.as_deref()));
    }
}

/// One shard's copy as it comes.
struct Copied<'a> {
    shard: Arc<str>,
    answer: Duration,
    rows: Rows<'a>,
    line: Option<Line>,
    ended: bool,
}

impl<'a> Copied<'a> {
    fn begin(shard: &'a mut Asked<'_>, sql: &str) -> Self {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch(&mut shard.connection.line);
        Self { shard: Arc::clone(&shard.name), answer: shard.answer, rows, line: None, ended: false }
    }

    async fn fill(&mut self) -> Result<(), Unseen> {
        if self.line.is_some() || self.ended {
            return Ok(());
        }
        let row = match timeout(self.answer, next(&mut self.rows)).await {
            Ok(row) => row.map_err(|error| ControlError::from(&error)),
            Err(_) => Err(late(self.answer)),
        };
        let text = |row: &MySqlRow, place: usize| {
            let bytes = row.try_get_unchecked::<Option<Vec<u8>>, _>(place).ok().flatten().unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        match row.map_err(|error| Unseen { shard: Arc::clone(&self.shard), error })? {
            Some(row) => self.line = Some((text(&row, 0).into_bytes(), text(&row, 1), text(&row, 2))),
            None => self.ended = true,
        }
        Ok(())
    }
}

/// An identifier as SQL.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Begins a transaction whose statements all see this moment, and write nothing.
const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
/// What an answer may take beyond the server's own bound.
const GRACE: Duration = Duration::from_secs(10);
/// How many misplaced keys are held of a shard.
const SAMPLE: usize = 1000;
/// Keys that are longer are not looked for elsewhere.
const KEY_MAX: usize = 1000;
/// The first of January 2000, as TO_DAYS counts.
const DAY_0: u32 = 730_485;
/// How long writers may keep us waiting for a turn.
const TURN_MAX: Duration = Duration::from_secs(30);
/// How long they are let go on before the next attempt.
const TURN_PAUSE: Duration = Duration::from_millis(100);
/// How a server says that somebody held a lock for too long.
const LOCKED: &str = "Lock wait timeout";
const UNDECIDED: &str = "a transaction over several shards has not ended there";
