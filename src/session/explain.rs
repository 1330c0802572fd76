//! EXPLAIN of what spans shards: what each shard is asked, and its plan under its name.

use std::ops::Range;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::exec::flight::Show;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan;
use crate::plan::Effects;
use crate::plan::Plan;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::command::PLAN_COLUMN;
use crate::session::simple::messages;
use crate::wire::postgres::backend as reply;

/// One thing that shards are asked.
struct Ask {
    shards: ShardSet,
    /// What it is for, and the text where it is not the client's own.
    title: String,
    sql: String,
}

impl Session {
    /// Explains a statement on each shard that it reaches. `query` is where the explained one stands in `sql`. False: it
    /// is not one that can be.
    pub(super) async fn explain_spread(&mut self, sql: &str, query: Range<usize>) -> Result<bool, Trouble> {
        let (Some(prefix), Some(inner)) = (sql.get(..query.start), sql.get(query)) else { return Ok(false) };
        // Other forms are read by programs, which expect one plan.
        let lower = prefix.to_ascii_lowercase();
        let formatted = lower.contains("format") && !lower.split_whitespace().any(|it| it.starts_with("text"));
        if formatted {
            return Ok(false);
        }
        let world = self.world()?;
        let compiled = self.worker.planner.borrow_mut().compile(inner, &world);
        let Ok(statements) = compiled else { return Ok(false) };
        let [statement] = statements.as_slice() else { return Ok(false) };
        if statement.template.parameters > 0 || statement.template.access == plan::Access::Write {
            return Ok(false);
        }
        let asks = match statement.plan(inner, None, &world) {
            Ok(Plan::Concat(shards)) => vec![Ask { shards, title: String::new(), sql: inner.to_owned() }],
            Ok(Plan::Gather(gather)) => match gather.merge.zip(statement.pushed(inner)) {
                Some((shards, pushed)) => {
                    let sql = pushed.sorting.map_or(pushed.partial, |it| it.text);
                    vec![Ask { shards, title: format!(", its part: {sql}"), sql }]
                }
                None => gather
                    .copies
                    .into_iter()
                    .map(|copy| {
                        let title = format!(", copy of {}: {}", copy.table, copy.select);
                        Ask { shards: copy.shards, title, sql: copy.select }
                    })
                    .collect(),
            },
            _ => return Ok(false),
        };
        let mut all = ShardSet::none();
        asks.iter().for_each(|it| all.union(&it.shards));
        let access = statement.template.access;
        if self.moment_due_for(&Plan::Concat(all.clone()), access) {
            Box::pin(self.take_moment()).await?;
        }
        self.admit_at(&all, &all, access, &Effects::default())?;
        let places = self.join_all(&all, access).await?;
        let mut ids: SmallVec<[(ShardId, u32); 8]> = SmallVec::new();
        for (shard, at) in all.iter().zip(&places) {
            let at = usize::from(*at);
            self.prefix(at);
            if let Some(link) = self.links.get_mut(at) {
                link.unsynced = true;
                ids.push((shard, link.id));
            }
        }
        let mut titles = Vec::new();
        for ask in &asks {
            for shard in ask.shards.iter() {
                let Some((_, id)) = ids.iter().find(|(it, _)| *it == shard) else { continue };
                self.say_step(*id, &format!("{prefix}{}", ask.sql), Show::Caller);
                let name = world.database.shards.get(shard.index()).map(|it| it.name.to_string()).unwrap_or_default();
                titles.push(format!("Shard {name}{}", ask.title));
            }
        }
        let collected = match self.fly_steps().await {
            Ok(collected) => collected,
            Err(trouble) => {
                self.end_steps(&ids).await?;
                return Err(trouble);
            }
        };
        self.end_steps(&ids).await?;
        let row = |session: &mut Self, line: &[u8]| {
            reply::data_row(session.client.out(), &[Some(line)]).map_err(ClientError::from)
        };
        reply::row_description(self.client.out(), &[reply::Column::text(PLAN_COLUMN)]).map_err(ClientError::from)?;
        let mut titles = titles.iter();
        let mut title = titles.next();
        for message in messages(&collected) {
            match message.first() {
                Some(b'D') => {
                    if let Some(title) = title.take() {
                        row(self, title.as_bytes())?;
                    }
                    let line = [b"  ", message.get(11..).unwrap_or_default()].concat();
                    row(self, &line)?;
                }
                Some(b'C') => title = titles.next(),
                _ => {}
            }
        }
        self.complete("EXPLAIN");
        Ok(true)
    }
}
