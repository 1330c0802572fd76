//! Plan → text, for golden cases and `shardway explain`.

use std::fmt::Write as _;

use crate::error::ClientError;
use crate::ident::ShardId;
use crate::plan::Access;
use crate::plan::Command;
use crate::plan::Number;
use crate::plan::Plan;
use crate::plan::Planned;
use crate::plan::Whence;
use crate::plan::World;
use crate::plan::route::InsertKeys;
use crate::plan::route::KeyCondition;
use crate::plan::route::Route;
use crate::plan::route::Spread;

impl Planned {
    /// The plan as `shardway explain` shows it; `text` is what the statement is a part of.
    #[must_use]
    pub fn explain(&self, text: &str, plan: &Plan, world: &World) -> String {
        let template = &*self.template;
        let shard = |id: ShardId| {
            world.database.shards.get(id.index()).map_or_else(|| format!("#{}", id.0), |it| it.name.to_string())
        };
        let role = match template.access {
            Access::Read => "replica",
            Access::ReadPrimary | Access::Write => "primary",
        };
        let pushed = match plan {
            Plan::Gather(gather) => gather.merge.as_ref().zip(self.pushed(text)),
            _ => None,
        };
        let mut text = match plan {
            Plan::One(id) => format!("single {}, {role}", shard(*id)),
            Plan::Any => format!("any shard, {role}"),
            Plan::Concat(shards) => {
                format!("concat {}, {role}", shards.iter().map(shard).collect::<Vec<_>>().join(" "))
            }
            Plan::Gather(gather) => {
                let at = gather.at.or(world.database.gather.on).unwrap_or(world.database.catalog);
                if let Some((shards, pushed)) = pushed {
                    let shards = shards.iter().map(shard).collect::<Vec<_>>().join(" ");
                    let asked = &pushed.partial;
                    return format!("merge at {}, {role}\nask {shards}: {asked}\nwhy: {}", shard(at), self.why());
                }
                let mut text = format!("gather at {}, {role}", shard(at));
                for copy in &gather.copies {
                    let columns = match &copy.columns {
                        None => "all columns".to_owned(),
                        Some(columns) if columns.is_empty() => "no columns".to_owned(),
                        Some(columns) => columns.join(", "),
                    };
                    let shards = copy.shards.iter().map(shard).collect::<Vec<_>>().join(" ");
                    let shards = if shards.is_empty() { "no shard" } else { &shards };
                    let _ = write!(text, "\ncopy {} ({columns}) from {shards}", copy.table);
                    if !copy.condition.is_empty() {
                        let _ = write!(text, " where {}", copy.condition);
                    }
                }
                if let Some(error) = self.not_better() {
                    let what = error.message.strip_suffix(" across shards is not supported");
                    let _ = write!(text, "\nnot a union of answers: {}", what.unwrap_or(&error.message));
                }
                text
            }
            Plan::Shadow(shadow) if shadow.unite.is_some() => {
                let shards = shadow.unite.iter().flat_map(|it| it.shards.iter());
                format!("merge {}, {role}", shards.map(shard).collect::<Vec<_>>().join(" "))
            }
            Plan::Shadow(shadow) => {
                let at = shadow.at.or(world.database.gather.on).unwrap_or(world.database.catalog);
                let mut text = format!("gather at {}, {role}", shard(at));
                for it in &shadow.tables {
                    let from = match &it.whence {
                        Whence::Spread(shards) => shards.iter().map(shard).collect::<Vec<_>>().join(" "),
                        Whence::Home(home) if *home == at => continue,
                        Whence::Home(home) => shard(*home),
                        Whence::Everywhere => continue,
                    };
                    let _ =
                        write!(text, "\ncopy {} from {}", it.table, if from.is_empty() { "no shard" } else { &from });
                    if !it.condition.is_empty() {
                        let _ = write!(text, " where {}", it.condition_with_values());
                    }
                }
                if let Some(error) = self.not_better() {
                    let what = error.message.strip_suffix(" across shards is not supported");
                    let _ = write!(text, "\nnot a union of answers: {}", what.unwrap_or(&error.message));
                }
                text
            }
            Plan::Split(split) if split.leave.is_some() => {
                let named = |shards: &mut dyn Iterator<Item = ShardId>| shards.map(shard).collect::<Vec<_>>().join(" ");
                let from = split.leave.as_ref().map(|it| named(&mut it.iter())).unwrap_or_default();
                let to = named(&mut split.shards.iter().copied());
                let now = if split.now { ", with now() written out" } else { "" };
                format!("move rows of {from} within {to}, {role}{now}")
            }
            Plan::Split(split) if split.rows.is_empty() => {
                let shards = split.shards.iter().map(|it| shard(*it)).collect::<Vec<_>>().join(" ");
                let same = if split.everywhere { ", the same on each" } else { "" };
                let now = if split.now { ", with now() written out" } else { "" };
                let mut text = format!("split {shards}, {role}{same}{now}");
                for copy in split.beside.iter().flat_map(|it| &it.copies) {
                    let columns = copy.columns.as_ref().map_or_else(|| "all columns".to_owned(), |it| it.join(", "));
                    let from = copy.shards.iter().map(shard).collect::<Vec<_>>().join(" ");
                    let _ = write!(text, "\ncopy {} ({columns}) from {from}", copy.table);
                    if !copy.condition.is_empty() {
                        let _ = write!(text, " where {}", copy.condition);
                    }
                }
                text
            }
            Plan::Split(split) => {
                let shards = (0_u8..).zip(&split.shards).map(|(place, it)| {
                    format!("{} ({} rows)", shard(*it), split.rows.iter().filter(|row| **row == place).count())
                });
                let order = if split.in_order { ", RETURNING in the order of VALUES" } else { "" };
                let now = if split.now { ", with now() written out" } else { "" };
                format!("split {}, {role}{now}{order}", shards.collect::<Vec<_>>().join(" "))
            }
            Plan::Copy(copy) => {
                let shards = copy.shards.iter().map(|it| shard(*it)).collect::<Vec<_>>().join(" ");
                let how = if copy.everywhere() { "the same on each" } else { "row by row" };
                let numbers: Vec<String> = copy
                    .numbers()
                    .iter()
                    .filter_map(|it| match it {
                        Number::Next(name) | Number::Identity(name) => Some(format!(", with numbers of {name}")),
                        Number::Current(_) | Number::Last | Number::Set { .. } => None,
                    })
                    .collect();
                format!("split {shards}, {role}, {how}{}", numbers.concat())
            }
            Plan::LookUp(wanted) => {
                let asked = wanted.keys.iter().filter_map(|(group, _)| world.database.groups.get(*group));
                let mut tables: Vec<String> = asked
                    .filter_map(|it| it.function.as_directory())
                    .map(|it| format!("\"{}\" on {}", it.table, shard(it.shard)))
                    .collect();
                tables.sort();
                tables.dedup();
                let (keys, tables) = (wanted.keys.len(), tables.join(", "));
                format!("look up {keys} {} in {tables}, then {role}", if keys == 1 { "key" } else { "keys" })
            }
            Plan::Draw if world.mysql.is_some() => "draw numbers of AUTO_INCREMENT\nthen plan with them".to_owned(),
            Plan::Draw => match self.told(text, world, true) {
                Ok(told) => {
                    let from = told.numbers.iter().map(|it| match it {
                        Number::Next(name) | Number::Identity(name) => format!("next of {name}"),
                        Number::Current(name) => format!("last of {name}"),
                        Number::Last => "last of all".to_owned(),
                        Number::Set { name, value, .. } => format!("{name} set to {value}"),
                    });
                    let from: Vec<String> = from.collect();
                    format!("draw {}\nthen {}", from.join(", "), told.text(|place| format!(":n{}", place + 1)))
                }
                Err(error) => format!("refused {}: {}", error.code.sqlstate(), error.message),
            },
            Plan::Carry => match self.carried(text) {
                Ok(carried) => format!(
                    "carry: the rows are read first, then each is written where it belongs\nread {}",
                    carried.source
                ),
                Err(error) => format!("refused {}: {}", error.code.sqlstate(), error.message),
            },
            Plan::Everywhere => "everywhere".to_owned(),
            Plan::Session => format!("session: {}", session(&template.command)),
        };
        let why = self.why();
        if !why.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\nwhy: {why}");
        }
        text
    }

    /// Why the answer is not the union of the shards' answers.
    fn not_better(&self) -> Option<&ClientError> {
        match &self.template.route {
            Route::Keys(keys) => match &keys.spread {
                Spread::Refuse(error) => Some(error),
                Spread::Concat(_) => None,
            },
            Route::Fixed(..) | Route::Copies(_) | Route::Copy(_) | Route::Draw(_) | Route::Carry(_) => None,
        }
    }

    fn why(&self) -> String {
        let keys = match &self.template.route {
            Route::Fixed(_, why) => return why.clone(),
            Route::Copy(copy) => {
                return match copy.key() {
                    Some(key) => format!("{}.{key} of every row", copy.table),
                    None if copy.everywhere() => "every shard has a copy of the reference table".to_owned(),
                    None => format!("{} is unsharded", copy.table),
                };
            }
            Route::Copies(it) if it.copies => return "every shard has a copy of the reference table".to_owned(),
            Route::Copies(_) => return "every shard has a part".to_owned(),
            Route::Draw(_) => return "sequences count on one shard for all".to_owned(),
            Route::Carry(_) => return String::new(),
            Route::Keys(keys) => keys,
        };
        let mut reasons = Vec::new();
        if let Some((_, why)) = &keys.fixed {
            reasons.push(why.clone());
        }
        for insert in &keys.inserts {
            let how = match &insert.keys {
                InsertKeys::Rows(rows) if rows.len() == 1 => "the inserted row",
                InsertKeys::Rows(_) | InsertKeys::Folded { .. } => "every inserted row",
                InsertKeys::Selected(_) | InsertKeys::Along(..) => "the selected rows",
            };
            reasons.push(format!("{}.{} of {how}", insert.table, insert.key));
        }
        for part in &keys.parts {
            let column = format!("{}.{}", part.table, part.key);
            if part.conditions.is_empty() {
                reasons.push(format!("no condition on {column}"));
            }
            for condition in &part.conditions {
                reasons.push(match condition {
                    KeyCondition::Is(values) if values.len() == 1 => format!("{column} = a value"),
                    KeyCondition::Is(values) => format!("{column} is one of {} values", values.len()),
                    KeyCondition::AnyOf(_) => format!("{column} = ANY of an array"),
                    KeyCondition::Range(..) => format!("{column} in a range"),
                    KeyCondition::Nothing => format!("no row of {} can match", part.table),
                });
            }
        }
        reasons.join("; ")
    }
}

fn session(command: &Command) -> String {
    match command {
        Command::Empty => "empty".to_owned(),
        Command::Data => "data".to_owned(),
        Command::ExplainShards(_) => "explain (shards)".to_owned(),
        Command::Ddl => "ddl".to_owned(),
        Command::Begin(_) => "begin".to_owned(),
        Command::Commit(chain) => format!("commit{}", if *chain { " and chain" } else { "" }),
        Command::Rollback(chain) => format!("rollback{}", if *chain { " and chain" } else { "" }),
        Command::Savepoint(name) => format!("savepoint {name}"),
        Command::Release(name) => format!("release {name}"),
        Command::RollbackTo(name) => format!("rollback to {name}"),
        Command::SetTransaction(_) => "set transaction".to_owned(),
        Command::SetConstraints => "set constraints".to_owned(),
        Command::Set { name, local, value } => {
            let value = value.as_ref().map_or_else(|| "(default or list)".to_owned(), |it| format!("'{it}'"));
            format!("set {}{name} = {value}", if *local { "local " } else { "" })
        }
        Command::Reset(name) => format!("reset {}", name.as_deref().unwrap_or("all")),
        Command::Show(name) => format!("show {name}"),
        Command::DiscardAll => "discard all".to_owned(),
        Command::Discard => "discard".to_owned(),
        Command::Prepare { name, .. } => format!("prepare {name}"),
        Command::Execute { name, arguments, .. } => format!("execute {name} with {} arguments", arguments.len()),
        Command::Deallocate(name) => format!("deallocate {}", name.as_deref().unwrap_or("all")),
        Command::Declare { name, .. } => format!("declare {name}"),
        Command::Fetch(name) => format!("fetch {name}"),
        Command::Close(name) => format!("close {}", name.as_deref().unwrap_or("all")),
        Command::Listen => "listen".to_owned(),
        Command::Unlisten => "unlisten".to_owned(),
        Command::Notify => "notify".to_owned(),
        Command::Mysql(command) => format!("{command:?}"),
    }
}
