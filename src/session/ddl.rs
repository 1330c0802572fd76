//! Changes of the schema: on all shards as one transaction where servers allow that, else on one after the other.
//!
//! What a transaction has changed only it sees. Before its next statement is planned, the catalogs are read again on the
//! connections that it has.

use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Outcome;
use crate::exec::flight::Show;
use crate::exec::say;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan;
use crate::plan::Command;
use crate::plan::Effects;
use crate::plan::Planned;
use crate::plan::Template;
use crate::plan::World;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::command::cells;
use crate::session::command::with_detail;
use crate::session::extended::Reached;
use crate::session::simple;
use crate::session::simple::Order;
use crate::session::simple::Place;
use crate::session::simple::messages;
use crate::session::simple::only_error;
use crate::session::transaction::Kind;
use crate::topology::schema_reader;

impl Session {
    /// A change of the schema: where it belongs, or on all shards in order.
    pub(super) async fn ddl(
        &mut self,
        text: &str,
        statement: &Planned,
        place: Place,
        world: &Rc<World>,
    ) -> Result<bool, Trouble> {
        let sql = text.get(statement.range.clone()).unwrap_or_default();
        let plan = match statement.plan(text, None, world) {
            Ok(plan) => plan,
            Err(error) => return Err(self.verified(error, sql, &[], world).await),
        };
        let effects = &statement.template.effects;
        let shards = self.shards(&plan)?;
        if shards.len() > 1 && !effects.outside_transaction {
            match self.may_write_all(&shards) {
                Ok(()) => {
                    if self.transaction.kind == Kind::None {
                        self.begin_implicit();
                        // It reads nothing whose moment would matter.
                        self.transaction.modes.isolation = Some(plan::Isolation::ReadCommitted);
                    }
                    self.ddl_on_all(sql, &statement.template, &shards).await?;
                    return Ok(false);
                }
                Err(refusal) if self.transaction.kind == Kind::Explicit => return Err(refusal.into()),
                Err(_) => {}
            }
        }
        if shards.len() > 1 && self.transaction.kind == Kind::Explicit {
            return Err(ClientError::unsupported(
                "this command inside a transaction block is not supported",
                "Run it outside: each shard commits it by itself, in order.",
            )
            .into());
        }
        if shards.len() > 1 && self.transaction.kind == Kind::Implicit && self.batch.ran {
            return Err(ClientError::unsupported(
                "this command in a Query before the Sync of a pipeline is not supported",
                "Send a Sync before it: each shard commits it by itself, in order.",
            )
            .into());
        }
        if shards.len() <= 1 && self.batch.extended {
            return self.ddl_within(sql, effects, &shards).await;
        }
        if shards.len() <= 1 {
            let offset = simple::characters(text, statement.range.start);
            let (access, command) = (plan::Access::Write, &Command::Ddl);
            let shown = self.send(&Order { sql, access, command, effects, place, offset }, &shards).await?;
            self.took_effect(&Command::Ddl, effects, &shards).await?;
            return Ok(shown);
        }
        if self.transaction.is_open() {
            // The statements before it are done; DDL commits by itself.
            self.end_implicit(true).await?;
        }
        let mut done: Vec<ShardId> = Vec::new();
        let mut tag = None;
        for shard in shards.iter() {
            let result = self.ddl_on(shard, sql, effects).await;
            let trouble = match result {
                Ok(outcome) if outcome.failed.is_none() => {
                    if done.is_empty() {
                        for notice in messages(&outcome.collected).filter(|it| it.first() == Some(&b'N')) {
                            self.client.push(notice);
                        }
                        tag = outcome.tag;
                    }
                    done.push(shard);
                    continue;
                }
                Ok(outcome) => Trouble::Told(only_error(&outcome.collected)),
                Err(trouble) => trouble,
            };
            if done.is_empty() {
                return Err(trouble);
            }
            let name = |shard: &ShardId| world.database.shard(*shard).name.to_string();
            let untouched: Vec<String> =
                shards.iter().filter(|it| !done.contains(it) && *it != shard).map(|it| name(&it)).collect();
            let report = format!(
                "Done on: {}. Failed on: {}. Untouched: {}.",
                done.iter().map(name).collect::<Vec<_>>().join(", "),
                name(&shard),
                if untouched.is_empty() { "none".to_owned() } else { untouched.join(", ") }
            );
            self.schema_has_changed().await;
            return Err(match trouble {
                Trouble::Refused(error) => Trouble::Refused(error.with_detail(report)),
                Trouble::Told(message) => Trouble::Told(with_detail(&message, &report)),
                other => other,
            });
        }
        self.schema_has_changed().await;
        let tag = tag.unwrap_or_default();
        say::message(self.client.out(), b'C', |out| {
            out.extend_from_slice(&tag);
            out.push(0);
        });
        Ok(false)
    }

    /// Whether all of these can be written in one transaction.
    pub(super) fn may_write_all(&self, shards: &ShardSet) -> Result<(), ClientError> {
        let mut writers = self.transaction.writers.clone();
        for shard in shards.iter().filter(|it| !self.transaction.writers.contains(*it)) {
            if !writers.is_empty() {
                self.may_write_too(&writers, shard)?;
            }
            writers.insert(shard);
        }
        Ok(())
    }

    /// The same on all shards, one after the other, within the open transaction.
    async fn ddl_on_all(&mut self, sql: &str, template: &Template, shards: &ShardSet) -> Result<(), Trouble> {
        self.admit(shards, plan::Access::Write, &template.effects)?;
        for shard in shards.iter() {
            let at = self.join(shard, plan::Access::Write).await?;
            self.prefix(at);
            if let Some(link) = self.links.get_mut(at) {
                link.wrote = true;
            }
            if self.batch.extended {
                self.say_close_portal(at);
            }
            let show = if Some(shard) == shards.first() { Show::Remarks } else { Show::Nobody };
            if self.own(&[u8::try_from(at).unwrap_or(u8::MAX)], sql, show).await?.failed.is_some() {
                return Err(Trouble::Failed);
            }
        }
        self.took_effect(&Command::Ddl, &template.effects, shards).await?;
        self.complete(template.tag);
        Ok(())
    }

    /// Where the client's portal without a name is a command of the proxy's own, it is no longer what it was on the server,
    /// which would find the tables that it read in use.
    pub(super) fn say_close_portal(&mut self, at: usize) {
        if self.portals.get("").is_some_and(|it| !it.links.is_empty()) {
            return;
        }
        let Some(link) = self.links.get_mut(at) else { return };
        say::about(&mut link.out, b'C', b'P', "");
        link.unsynced = true;
        let links = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        self.items.push(Item::Owed { expect: Expect::Close, links, show: Show::Nobody, prepares: 0 });
    }

    /// Reads again what the open transaction has changed of the schema.
    pub(super) async fn learn_schema(&mut self) -> Result<(), Trouble> {
        // Definitions of views cannot be read while somebody holds a lock on what they show.
        const BEFORE: [&str; 4] = [
            "SAVEPOINT sw_schema",
            "SET LOCAL search_path TO pg_catalog",
            "SET LOCAL client_encoding TO 'UTF8'",
            "SET LOCAL lock_timeout TO '5s'",
        ];
        const BEHIND: [&str; 2] = ["ROLLBACK TO SAVEPOINT sw_schema", "RELEASE SAVEPOINT sw_schema"];
        let within = self.within_batch();
        if within && Box::pin(self.fly_batch()).await? == Reached::Failed {
            return Ok(());
        }
        if self.transaction.failed {
            return Ok(());
        }
        self.transaction.altered = false;
        let begun: SmallVec<[(u32, ShardId); 8]> =
            self.links.iter().filter(|link| link.begun && !link.replica).map(|link| (link.id, link.shard)).collect();
        let texts = || {
            let own = BEFORE.iter().map(|it| (*it).to_owned());
            own.chain(schema_reader::questions()).chain(BEHIND.iter().map(|it| (*it).to_owned()))
        };
        let mut read = Vec::new();
        for (id, shard) in begun {
            let Some(at) = self.links.iter().position(|link| link.id == id) else { continue };
            let place = u8::try_from(at).unwrap_or(u8::MAX);
            for text in texts() {
                if within {
                    self.say_own(place, &text, Show::Caller);
                } else if let Some(link) = self.links.get_mut(at) {
                    link.say_query(&text);
                    let links = SmallVec::from_slice(&[place]);
                    self.items.push(Item::Owed { expect: Expect::Query, links, show: Show::Caller, prepares: 0 });
                }
            }
            let outcome = if within { self.fly_own().await? } else { self.fly(0, false).await? };
            if outcome.failed.is_some() {
                return Err(Trouble::Told(only_error(&outcome.collected)));
            }
            if outcome.overflowed {
                return Err(unread().into());
            }
            let mut answers: Vec<Vec<String>> = vec![Vec::new()];
            for message in messages(&outcome.collected) {
                match message.first() {
                    Some(b'D') => {
                        let text = cells(message).into_iter().next().flatten().unwrap_or_default();
                        answers.last_mut().into_iter().for_each(|it| it.push(text.clone()));
                    }
                    Some(b'C') => answers.push(Vec::new()),
                    _ => {}
                }
            }
            let answers = answers.get(BEFORE.len()..).unwrap_or_default();
            let catalog = schema_reader::answered(answers).map_err(|error| {
                tracing::error!(error, "the schema within a transaction cannot be read");
                unread()
            })?;
            read.push((shard, catalog));
        }
        let state = Arc::new(self.access.service.schema.within(read));
        for link in self.links.iter_mut().filter(|link| link.begun) {
            link.type_oids = state.type_oids.get(link.shard.index()).cloned().flatten();
        }
        self.transaction.schema = Some(state);
        self.world = None;
        Ok(())
    }

    async fn ddl_on(&mut self, shard: ShardId, sql: &str, effects: &Effects) -> Result<Outcome, Trouble> {
        let at = self.join(shard, plan::Access::Write).await?;
        let place = u8::try_from(at).unwrap_or(u8::MAX);
        self.prefix(at);
        if effects.outside_transaction && !self.items.is_empty() {
            let id = self.keep(at);
            if let Some(link) = self.links.get_mut(at) {
                link.say_sync();
            }
            self.items.push(Item::Owed {
                expect: Expect::Sync,
                links: SmallVec::from_slice(&[place]),
                show: Show::Nobody,
                prepares: 0,
            });
            let outcome = self.fly(0, false).await;
            self.unkeep(id);
            if outcome?.failed.is_some() {
                return Err(Trouble::Failed);
            }
        }
        if let Some(link) = self.links.get_mut(at) {
            link.wrote = true;
        }
        self.own(&[place], sql, Show::Caller).await
    }

    /// The schema changed through this session: read it again before anybody plans by the old one.
    pub(super) async fn schema_has_changed(&mut self) {
        let service = Arc::clone(&self.access.service);
        self.worker.blocks.forget(&service.database.name);
        if let Err(error) = service.schema.refresh_now().await {
            tracing::warn!(%error, "the schema could not be read again after DDL; it will be tried again");
        }
        self.worker.current.bump();
        self.world = None;
    }
}

/// Whether a text ends a transaction or goes back in it: what it changed of the schema does not matter to that.
pub(super) fn is_about_transaction(text: &str) -> bool {
    let first = text.trim_start().split(|it: char| !it.is_ascii_alphabetic()).next().unwrap_or_default();
    ["commit", "rollback", "end", "abort", "savepoint", "release"].iter().any(|it| first.eq_ignore_ascii_case(it))
}

fn unread() -> ClientError {
    ClientError::unsupported(
        "a schema that cannot be read behind a change of it in the same transaction is not supported",
        "COMMIT first.",
    )
}
