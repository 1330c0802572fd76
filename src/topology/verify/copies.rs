//! Whether a reference table is the same on every shard: by count and digest, and row for row where these differ.
//!
//! Writers of reference tables take turns, and keep theirs on each shard until their write is committed there. So all
//! shards are seen at one moment between writers: the lock is taken on every shard, in the writers' order, then every
//! shard's snapshot, and the lock is given back before anything is read.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Asked;
use super::BEGIN;
use super::Table;
use super::Unseen;
use super::everywhere;
use super::fit::Finding;
use super::quoted;
use super::together;
use super::words;
use super::words::shown;
use crate::clock;
use crate::schema::Relation;
use crate::topology::two_phase::TURN_OF_READERS;
use crate::topology::two_phase::TURN_OVER;

/// How long a writer may keep us waiting for a turn.
const TURN_MAX: Duration = Duration::from_secs(30);
/// How long it may while we keep other writers waiting elsewhere.
const TURN_TRY: &str = "SET lock_timeout = '1s'";
/// For a table that somebody changes.
const TABLE_WAIT: &str = "SET lock_timeout = '10s'";
/// Rows that are held of a shard.
const FETCHED: usize = 500;
/// How much of a row is shown.
pub(in super::super) const SHOWN: usize = 200;

const FETCH: &str = "FETCH FORWARD 500 FROM verify_copies";

/// A copy: its rows, and the sum of their digests in four parts.
type Digest = (i64, String);
/// A row of a copy: what orders and finds it, its digest, what is shown of it.
pub(in super::super) type Line = (Vec<u8>, String, String);

pub(super) async fn compare(
    shards: &mut [Asked],
    table: &Table<'_>,
    findings: &mut Vec<Finding>,
) -> Result<String, Unseen> {
    let Some(relation) = table.on.iter().copied().flatten().next() else {
        return Ok("reference, not created yet".to_owned());
    };
    take_snapshots(shards).await?;
    let row = row_of(relation.columns.iter().map(|it| &*it.name));
    let sql = digest_of(table, &row);
    let copies: Vec<Digest> = together(shards.iter_mut().map(|shard| {
        let sql = sql.as_str();
        Box::pin(async move { Ok(shard.rows::<Digest>(sql).await?.into_iter().next().unwrap_or_default()) })
            as Pin<Box<_>>
    }))
    .await?;
    let first = copies.first().cloned().unwrap_or_default();
    if copies.iter().all(|it| *it == first) {
        everywhere(shards, "COMMIT").await?;
        return Ok(words::reference(Some(first.0), shards.len()));
    }
    let rows = name_rows(shards, table, relation, &row).await?;
    let counted = shards.iter().zip(&copies).map(|(shard, (rows, _))| (&*shard.name, *rows));
    words::copies_differ(table.name, counted, &rows, findings);
    everywhere(shards, "COMMIT").await?;
    Ok(words::reference(None, shards.len()))
}

/// Begins a transaction on every shard, between two writers of reference tables.
async fn take_snapshots(shards: &mut [Asked]) -> Result<(), Unseen> {
    let begun = clock::now();
    everywhere(shards, TURN_TRY).await?;
    while let Err(unseen) = take_turn(shards).await {
        // Held nowhere while it is waited for anew.
        everywhere(shards, "SELECT pg_advisory_unlock_all()").await?;
        let taken = unseen.error.sqlstate.as_deref() == Some("55P03");
        if !taken {
            return Err(unseen);
        }
        if clock::now().since(begun) > TURN_MAX {
            let mut unseen = unseen;
            unseen.error.text = format!("writers of reference tables leave no turn within {TURN_MAX:?}");
            return Err(unseen);
        }
    }
    everywhere(shards, TABLE_WAIT).await?;
    everywhere(shards, BEGIN).await?;
    everywhere(shards, TURN_OVER).await
}

async fn take_turn(shards: &mut [Asked]) -> Result<(), Unseen> {
    for shard in shards {
        shard.run(TURN_OF_READERS).await?;
    }
    Ok(())
}

/// The text of a row: the same bytes for the same values, whatever the column order or encoding of a server.
fn row_of<'a>(columns: impl Iterator<Item = &'a str>) -> String {
    let columns: Vec<String> = columns.map(|it| format!("t.{}", quoted(it))).collect();
    format!("ROW({})::text", columns.join(", "))
}

/// SHA-256 of every row, added up in four parts: in whatever order they come, and as often as they are there.
fn digest_of(table: &Table<'_>, row: &str) -> String {
    let mut parts = String::new();
    for place in 0..4 {
        // Writing to a String cannot fail.
        let _ = write!(parts, ", coalesce(sum(('x' || substr(d, {}, 16))::bit(64)::int8::numeric), 0)", 1 + 16 * place);
    }
    format!(
        "SELECT count(*), concat_ws(' '{parts}) \
         FROM (SELECT encode(sha256(convert_to({row}, 'UTF8')), 'hex') AS d FROM {} AS t) AS digests",
        table.sql()
    )
}

/// Reads all copies side by side in one order, and says of the first rows that differ how. Rows are told apart by their
/// primary key; without one equal rows are counted.
async fn name_rows(
    shards: &mut [Asked],
    table: &Table<'_>,
    relation: &Relation,
    row: &str,
) -> Result<Vec<String>, Unseen> {
    let key_of = |it: &Relation| -> Option<Vec<Arc<str>>> {
        it.primary_key.as_ref()?.iter().map(|at| it.columns.get(*at).map(|column| Arc::clone(&column.name))).collect()
    };
    let key = key_of(relation).filter(|key| table.on.iter().flatten().all(|it| key_of(it).as_ref() == Some(key)));
    let digest = format!("encode(sha256(convert_to({row}, 'UTF8')), 'hex')");
    let select = match &key {
        Some(key) => {
            let key = row_of(key.iter().map(|it| &**it));
            format!("SELECT convert_to({key}, 'UTF8') AS k, {digest}, {key} FROM {} AS t ORDER BY k", table.sql())
        }
        None => format!(
            "SELECT convert_to({digest}, 'UTF8') AS k, count(*)::text, left(min({row} COLLATE \"C\"), {SHOWN}) \
             FROM {} AS t GROUP BY k ORDER BY k",
            table.sql()
        ),
    };
    let declare = format!("DECLARE verify_copies NO SCROLL CURSOR FOR {select}");
    together(shards.iter_mut().map(|shard| {
        let declare = declare.as_str();
        Box::pin(async move { shard.rows::<()>(declare).await.map(drop) }) as Pin<Box<_>>
    }))
    .await?;
    let mut copies: Vec<Copied> = shards.iter().map(|_| Copied::default()).collect();
    let mut named = Vec::new();
    loop {
        together(shards.iter_mut().zip(&mut copies).map(|(shard, copy)| Box::pin(copy.fill(shard)) as Pin<Box<_>>))
            .await?;
        let Some(next) = copies.iter().filter_map(|it| it.lines.front()).map(|(key, _, _)| key).min().cloned() else {
            return Ok(named);
        };
        let found: Vec<Option<Line>> =
            copies.iter_mut().map(|it| it.lines.pop_front_if(|line| line.0 == next)).collect();
        let digest = |line: &Option<Line>| line.as_ref().map(|(_, digest, _)| digest.clone());
        let first = found.first().map(digest);
        if found.iter().all(|it| Some(digest(it)) == first) {
            continue;
        }
        if named.len() == table.rows {
            named.push("more rows differ, which are not named".to_owned());
            return Ok(named);
        }
        let names = shards.iter().map(|it| &*it.name);
        named.push(difference(names, &found, key.as_deref()));
    }
}

/// One shard's copy as it comes.
#[derive(Default)]
struct Copied {
    lines: VecDeque<Line>,
    ended: bool,
}

impl Copied {
    async fn fill(&mut self, shard: &mut Asked) -> Result<(), Unseen> {
        if self.lines.is_empty() && !self.ended {
            self.lines.extend(shard.rows::<Line>(FETCH).await?);
            self.ended = self.lines.len() < FETCHED;
        }
        Ok(())
    }
}

/// Says where a row is, and who has which version of it.
pub(in super::super) fn difference<'a>(
    shards: impl Iterator<Item = &'a str>,
    found: &[Option<Line>],
    key: Option<&[Arc<str>]>,
) -> String {
    let shown = shown(found.iter().flatten().next().map(|(_, _, it)| it.as_str()).unwrap_or_default(), SHOWN);
    let mut versions: Vec<(Option<&str>, Vec<String>)> = Vec::new();
    for (shard, line) in shards.zip(found) {
        let digest = line.as_ref().map(|(_, digest, _)| digest.as_str());
        let name = format!("\"{shard}\"");
        match versions.iter_mut().find(|(it, _)| *it == digest) {
            Some((_, names)) => names.push(name),
            None => versions.push((digest, vec![name])),
        }
    }
    let parts = versions.iter().enumerate().map(|(place, (digest, names))| {
        let names = names.join(", ");
        match digest {
            None => format!("missing on {names}"),
            Some("1") if key.is_none() => format!("once on {names}"),
            Some(count) if key.is_none() => format!("{count} times on {names}"),
            Some(_) if versions.len() == 2 && versions.iter().any(|(it, _)| it.is_none()) => {
                format!("there on {names}")
            }
            Some(_) => format!("version {} on {names}", place + 1),
        }
    });
    let parts: Vec<String> = parts.collect();
    let of = key.map_or_else(String::new, |key| format!(" ({})", key.join(", ")));
    format!("row{of} = {shown} is {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetches_hold_as_many_rows_as_are_counted_on() {
        assert!(FETCH.contains(&FETCHED.to_string()));
    }
}
