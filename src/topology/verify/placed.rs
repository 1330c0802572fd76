//! Whether every row of a sharded table is on the shard of its key, and no row of an unsharded one beside its home.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use super::Asked;
use super::BEGIN;
use super::Table;
use super::Unseen;
use super::everywhere;
use super::fit::Finding;
use super::fit::Severity;
use super::quoted;
use super::together;
use super::words;
use super::words::shown;
use crate::ident::ShardId;
use crate::shard_map::Directory;
use crate::shard_map::Group;
use crate::shard_map::Key;
use crate::shard_map::ShardFunction;

/// How many misplaced rows are looked through for keys to name.
const SAMPLE: usize = 1000;
/// Keys whose text is longer are named by its beginning, and not looked for elsewhere.
const KEY_MAX: usize = 1000;
/// Keys of a directory that are compared with: what is beyond them is told to be nowhere.
const DIRECTORY_MAX: usize = 1_000_000;
/// How much of a key is shown.
const SHOWN: usize = 100;

/// The group with what its directory says in its place, if it has one.
pub(super) async fn by_directory<'g>(
    shards: &mut [Asked],
    group: &'g Group,
    findings: &mut Vec<Finding>,
) -> Result<Cow<'g, Group>, Unseen> {
    let Some(directory) = group.function.as_directory() else { return Ok(Cow::Borrowed(group)) };
    let names: Vec<Arc<str>> = shards.iter().map(|it| Arc::clone(&it.name)).collect();
    let question = directory.question(group.key_type, &[], DIRECTORY_MAX);
    let rows: Vec<(String, Option<String>)> = match shards.iter_mut().find(|it| it.id == directory.shard) {
        Some(shard) => shard.rows(&question).await?,
        None => Vec::new(),
    };
    let mut values: BTreeMap<Key, ShardId> = BTreeMap::new();
    let mut strange: BTreeSet<String> = BTreeSet::new();
    for (key, target) in rows {
        let shard = names.iter().position(|it| target.as_deref() == Some(&**it));
        let shard = shard.and_then(|it| u16::try_from(it).ok()).map(ShardId);
        match (Directory::key(group.key_type, &key), shard) {
            (Some(key), Some(shard)) => {
                values.insert(key, shard);
            }
            (_, _) => {
                strange.insert(target.unwrap_or_else(|| "NULL".to_owned()));
            }
        }
    }
    for target in strange {
        findings.push(Finding::new(
            Severity::Error,
            "directory-shard",
            format!(
                "the directory \"{}\" sends keys to \"{}\", which is no shard of the map",
                directory.table,
                shown(&target, SHOWN)
            ),
            "Write the name of a shard there, as the map has it.",
        ));
    }
    let function = ShardFunction::list(group.key_type, values.into_iter().collect(), directory.missing);
    Ok(Cow::Owned(Group { function, ..group.clone() }))
}

/// Computes on every shard that has the table where its rows belong, and names those that belong elsewhere.
pub(super) async fn look(
    shards: &mut [Asked],
    table: &Table<'_>,
    group: &Group,
    key: &str,
    findings: &mut Vec<Finding>,
) -> Result<String, Unseen> {
    let (name, at, key) = (table.name, table.sql(), quoted(key));
    let place = group.function.in_sql("k");
    let rows = format!("(SELECT k, {place} AS place FROM (SELECT {key} AS k FROM {at} OFFSET 0) AS keys) AS rows");
    everywhere(shards, BEGIN).await?;
    let has = |shard: &Asked| table.on.get(shard.id.index()).copied().flatten().is_some();
    let count = format!("SELECT place, count(*) FROM {rows} GROUP BY place");
    let counted: Vec<Vec<(Option<i32>, i64)>> = together(shards.iter_mut().map(|shard| {
        let (has, count) = (has(shard), count.as_str());
        Box::pin(async move { if has { shard.rows(count).await } else { Ok(Vec::new()) } }) as Pin<Box<_>>
    }))
    .await?;
    let names: Vec<Arc<str>> = shards.iter().map(|it| Arc::clone(&it.name)).collect();
    let of = |place: i32| usize::try_from(place).ok().and_then(|it| names.get(it));
    let (mut all, mut wrong) = (0, 0);
    for here in 0..shards.len() {
        let own = i32::try_from(here).unwrap_or(i32::MAX);
        let Some(shard) = names.get(here) else { continue };
        let mut misplaced = 0;
        for (place, rows) in counted.get(here).into_iter().flatten().copied() {
            all += rows;
            match place {
                Some(place) if place == own => {}
                Some(_) => misplaced += rows,
                None => {
                    wrong += rows;
                    words::without_key(name, shard, &key, rows, findings);
                }
            }
        }
        if misplaced == 0 {
            continue;
        }
        wrong += misplaced;
        words::misplaced(name, shard, misplaced, findings);
        let some = format!(
            "SELECT place, left(text, {KEY_MAX}), length(text) FROM (SELECT place, k::text AS text FROM {rows} \
             WHERE place <> {own} LIMIT {SAMPLE}) AS samples GROUP BY place, text ORDER BY place, text COLLATE \"C\" LIMIT {}",
            table.rows
        );
        let named: Vec<(i32, String, i32)> = match shards.get_mut(here) {
            Some(shard) => shard.rows(&some).await?,
            None => Vec::new(),
        };
        for (place, text, length) in named {
            let known = length <= i32::try_from(KEY_MAX).unwrap_or(i32::MAX);
            let there = match shards.iter_mut().find(|it| it.id.index() == usize::try_from(place).unwrap_or(usize::MAX))
            {
                Some(other) if known && has(other) => is_there(other, &at, &key, group, &text).await?,
                _ => false,
            };
            words::one_misplaced(name, shard, of(place).map(|it| &**it), &text, there, findings);
        }
    }
    everywhere(shards, "COMMIT").await?;
    Ok(words::sharded(all, wrong))
}

/// Whether a shard has rows of a key, given as text.
async fn is_there(shard: &mut Asked, at: &str, key: &str, group: &Group, text: &str) -> Result<bool, Unseen> {
    let value = format!("'{}'::{}", text.replace('\'', "''"), group.key_type);
    let found: Vec<(bool,)> = shard.rows(&format!("SELECT exists (SELECT FROM {at} WHERE {key} = {value})")).await?;
    Ok(found.first().is_some_and(|(it,)| *it))
}

/// Looks for rows of an unsharded table on other shards than its home, where nothing reads them.
pub(super) async fn strays(
    shards: &mut [Asked],
    table: &Table<'_>,
    home: ShardId,
    findings: &mut Vec<Finding>,
) -> Result<String, Unseen> {
    everywhere(shards, BEGIN).await?;
    let mut found = 0;
    for shard in shards.iter_mut().filter(|it| it.id != home) {
        if table.on.get(shard.id.index()).copied().flatten().is_none() {
            continue;
        }
        let some: Vec<(bool,)> = shard.rows(&format!("SELECT exists (SELECT FROM {})", table.sql())).await?;
        if some.first().is_some_and(|(it,)| *it) {
            found += 1;
            words::astray(table.name, &shard.name, findings);
        }
    }
    everywhere(shards, "COMMIT").await?;
    Ok(words::unsharded(found > 0))
}
