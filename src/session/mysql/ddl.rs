//! Tables that are made, changed and removed: on one shard after the other, for servers commit each such statement by
//! itself.

use std::rc::Rc;

use crate::clock;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::exec::mysql::relay::Ended;
use crate::exec::mysql::relay::Taken;
use crate::ident::ShardId;
use crate::plan::Altered;
use crate::plan::World;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::span::sum;
use crate::session::mysql::text::Saying;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::status;

/// The longest answer that is held, in bytes.
const ANSWER_MAX: usize = 1 << 20;

impl Session {
    /// Has all shards do it, in their order.
    pub(super) async fn alter_everywhere(
        &mut self,
        altered: &Altered,
        statement: &str,
        saying: Saying<'_>,
        world: &Rc<World>,
        more: bool,
    ) -> Result<(), Trouble> {
        if self.is_within() {
            // What is no SQL commits nothing.
            self.must_be_read(statement).await?;
        }
        self.end(true).await?;
        self.warnings.clear();
        let now = clock::unix_now();
        let time = format!("{}.{:06}", now.as_secs(), now.subsec_micros());
        let count = world.database.shards.len();
        let mut total: Option<Done> = None;
        let mut outcome = Ok(());
        for place in 0..count {
            let shard = ShardId(u16::try_from(place).unwrap_or(u16::MAX));
            match self.alter_on(shard, saying, &time, place == 0).await {
                Ok(done) => {
                    total = Some(match total {
                        None => done,
                        // Of copies each shard has all the rows.
                        Some(total) if altered.copies => total,
                        // What one has to say, all have.
                        Some(total) => Done { warnings: total.warnings, ..sum(&total, &without_warnings(done)) },
                    });
                }
                Err(trouble) => {
                    outcome = Err(self.halfway(trouble, place, world));
                    break;
                }
            }
        }
        let done_somewhere = total.is_some();
        if done_somewhere && altered.restarts {
            for table in &altered.tables {
                if let Err(trouble) = self.restart_count(table).await {
                    outcome = outcome.and(Err(trouble));
                }
            }
        }
        if done_somewhere && Box::pin(self.learn_schema()).await.is_err() {
            tracing::warn!("the schema could not be read behind a statement that may have changed it");
            self.forget_world();
        }
        outcome?;
        let mut done = total.unwrap_or_default();
        done.status = self.face(more).status(done.status & !status::IN_TRANSACTION);
        done.changes = Vec::new();
        self.client.put_done(&done);
        self.warnings.count(done.warnings);
        self.last.heard(&Ended::Done(done));
        self.statement_ended();
        Ok(())
    }

    async fn alter_on(&mut self, shard: ShardId, saying: Saying<'_>, time: &str, shows: bool) -> Result<Done, Trouble> {
        // What it ends is over; without autocommit, the next shard would join what the one before seems to have begun.
        (self.transaction.home, self.transaction.gid) = (None, None);
        let mut link = self.take_link(shard).await?;
        let limit = self.used()?.access.statement_max();
        let work = self.alter_by(&mut link, saying, time, shows);
        let said = match limit {
            Some(span) => tokio::time::timeout(span, work).await,
            None => Ok(work.await),
        };
        match said {
            Ok(Ok(Ok(taken))) => {
                self.keep(link);
                Ok(taken.done)
            }
            Ok(Ok(Err(failure))) => {
                self.keep(link);
                Err(failure.into())
            }
            Ok(Err(broken)) => Err(self.lost_on(broken, &link, false, true)),
            // Closed, the server goes on with it until it has something to say.
            Err(_) => Err(ClientError::new(
                Code::OutcomeUnknown,
                "the statement took longer than timeouts.statement; it may be done later",
                "Look at the table before you say it again.",
            )
            .into()),
        }
    }

    async fn alter_by(
        &mut self,
        link: &mut Link,
        saying: Saying<'_>,
        time: &str,
        shows: bool,
    ) -> Result<Result<Taken, Failure>, Broken> {
        if let Err(failure) = self.make_ready(link, saying).await? {
            return Ok(Err(failure));
        }
        // Columns that are added may take it.
        let doubtful = link.doubtful;
        if let Err(failure) = link.run(&format!("SET timestamp = {time}")).await? {
            return Ok(Err(failure));
        }
        link.doubtful = doubtful;
        link.forget(&["timestamp".to_owned()]);
        match saying {
            Saying::Text(text) => link.say_query(text).await?,
            Saying::Bound(bound) => bound.say(link).await?,
            Saying::Raw(bytes) => link.say_bytes(bytes).await?,
        }
        let taken = relay::take(link, ANSWER_MAX).await?;
        if let Ok(taken) = &taken
            && taken.done.warnings > 0
            && shows
        {
            self.warnings.read(link).await?;
        }
        Ok(taken)
    }

    /// Has a server say whether it can read a statement.
    pub(super) async fn must_be_read(&mut self, statement: &str) -> Result<(), Trouble> {
        let mut link = self.any_link().await?;
        match self.prepare_on(&mut link, statement).await {
            Ok(said) => {
                self.keep(link);
                match said {
                    Err(failure) if failure.number == SYNTAX => Err(failure.into()),
                    _ => Ok(()),
                }
            }
            Err(broken) => Err(self.lost_all(broken, &link).await),
        }
    }

    /// An error of one shard, after others have done it.
    fn halfway(&self, trouble: Trouble, place: usize, world: &World) -> Trouble {
        if place == 0 {
            return trouble;
        }
        let name = |at: &usize| format!("\"{}\"", world.database.shard(ShardId(u16::try_from(*at).unwrap_or(0))).name);
        let done: Vec<String> = (0..place).map(|it| name(&it)).collect();
        let not: Vec<String> = (place + 1..world.database.shards.len()).map(|it| name(&it)).collect();
        let mut more = format!(" (on shard {}; done on {}", name(&place), done.join(", "));
        if !not.is_empty() {
            more.push_str(&format!("; not on {}", not.join(", ")));
        }
        more.push(')');
        match trouble {
            Trouble::Failed(failure) => {
                Trouble::Failed(Failure { message: format!("{}{more}", failure.message), ..failure })
            }
            Trouble::Refused(error) => {
                Trouble::Refused(ClientError::new(error.code, format!("{}{more}", error.message), error.hint))
            }
            other => other,
        }
    }
}

/// `Records: 3  Duplicates: 0  Warnings: 1` as if there were none.
fn without_warnings(done: Done) -> Done {
    let info = String::from_utf8_lossy(&done.info);
    let info = match info.split_once("Warnings: ") {
        Some((before, _)) => format!("{before}Warnings: 0").into_bytes(),
        None => done.info.clone(),
    };
    Done { info, ..done }
}

/// It is no SQL.
const SYNTAX: u16 = 1064;
