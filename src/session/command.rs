//! What the proxy does itself: transactions, settings, SQL's prepared statements, cursors, DDL, pins.

use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::backend::Settings;
use crate::backend::settings;
use crate::clock;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::flight;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Outcome;
use crate::exec::flight::Show;
use crate::exec::link::Link;
use crate::exec::say;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan;
use crate::plan::Command;
use crate::plan::Effects;
use crate::plan::Modes;
use crate::plan::Parameter;
use crate::plan::Parameters;
use crate::plan::Pin;
use crate::plan::Plan;
use crate::plan::Planned;
use crate::session::End;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::batch::Undo;
use crate::session::gather::Said;
use crate::session::prepared::Prepared;
use crate::session::simple::Order;
use crate::session::simple::Place;
use crate::session::simple::messages;
use crate::session::simple::only_error;
use crate::session::simple::splice;
use crate::session::state;
use crate::session::transaction::Kind;
use crate::session::transaction::Transaction;
use crate::session::two_phase;
use crate::wire::postgres::backend as reply;

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Commit,
    Rollback,
}

impl Session {
    /// Carries out a command of the session's own and gathers its answer, without ReadyForQuery.
    pub(super) async fn command(&mut self, sql: &str, command: &Command) -> Result<(), Trouble> {
        self.note_effect();
        match command {
            Command::Empty => {
                reply::empty_query(self.client.out());
                Ok(())
            }
            Command::Begin(modes) => {
                let start = sql.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("start"));
                self.begin(modes, if start { "START TRANSACTION" } else { "BEGIN" }).await
            }
            Command::Commit(chain) => self.end(Ending::Commit, *chain).await,
            Command::Rollback(chain) => self.end(Ending::Rollback, *chain).await,
            Command::Savepoint(name) => self.savepoint(name).await,
            Command::Release(name) => self.release_savepoint(name).await,
            Command::RollbackTo(name) => self.rollback_to(name).await,
            Command::SetTransaction(modes) => self.set_transaction(modes).await,
            Command::SetConstraints => self.set_constraints(sql).await,
            Command::Set { name, local, value } => self.set(sql, name, *local, value.as_deref()).await,
            Command::Reset(Some(name)) => self.reset(sql, name).await,
            Command::Reset(None) => {
                self.reset_all().await?;
                self.complete("RESET");
                Ok(())
            }
            Command::Show(name) => self.show(name),
            Command::ExplainShards(range) => {
                reply::row_description(self.client.out(), &[reply::Column::text(PLAN_COLUMN)])
                    .map_err(ClientError::from)?;
                self.explain_shards(sql.get(range.clone()).unwrap_or_default()).await
            }
            Command::DiscardAll => self.discard_all().await,
            Command::Discard => self.discard(sql).await,
            Command::Prepare { name, types, body } => {
                let part = |range: &std::ops::Range<usize>| sql.get(range.clone()).unwrap_or_default();
                self.prepare_sql(name, types.as_ref().map(part), part(body)).await
            }
            Command::Execute { name, name_at, arguments } => {
                let arguments: Vec<&str> =
                    arguments.iter().map(|range| sql.get(range.clone()).unwrap_or_default()).collect();
                self.execute_sql(sql, name, name_at.clone(), &arguments).await
            }
            Command::Deallocate(name) => self.deallocate(name.as_deref()),
            Command::Fetch(name) => self.fetch(sql, name).await,
            Command::Close(name) => self.close_cursor(sql, name.as_deref()).await,
            Command::Unlisten => self.unlisten(sql).await,
            Command::Data
            | Command::Ddl
            | Command::Declare { .. }
            | Command::Listen
            | Command::Notify
            | Command::Mysql(_) => {
                Err(ClientError::new(Code::Internal, "a statement for servers came to the session", "Report this.")
                    .into())
            }
        }
    }

    /// The plan of a statement, as rows.
    pub(super) async fn explain_shards(&mut self, sql: &str) -> Result<(), Trouble> {
        let world = self.world()?;
        let compiled = self.worker.planner.borrow_mut().compile(sql, &world);
        let statements = match compiled {
            Ok(statements) => statements,
            Err(error) => return Err(self.verified(error, sql, &[], &world).await),
        };
        for statement in &statements {
            let plan = match statement.plan(sql, None, &world) {
                Ok(Plan::LookUp(wanted)) => {
                    let again = |known: &plan::Known| statement.plan_knowing(sql, None, &world, known);
                    Box::pin(self.plan_by_directory(*wanted, true, &world, &again)).await?
                }
                Ok(plan) => plan,
                Err(error) => return Err(self.verified(error, sql, &[], &world).await),
            };
            for line in statement.explain(sql, &plan, &world).lines() {
                reply::data_row(self.client.out(), &[Some(line.as_bytes())]).map_err(ClientError::from)?;
            }
        }
        self.complete("EXPLAIN");
        Ok(())
    }

    /// CommandComplete.
    pub(super) fn complete(&mut self, tag: &str) {
        reply::command_complete(self.client.out(), tag).expect("tags of the proxy's own hold no zero byte");
    }

    pub(super) fn warn(&mut self, sqlstate: &str, message: &str) {
        reply::notice(self.client.out(), reply::Severity::Warning, sqlstate, message, None);
    }

    // ── transactions ──

    async fn begin(&mut self, modes: &Modes, tag: &str) -> Result<(), Trouble> {
        let before = self.transaction.kind;
        let done = match before {
            Kind::Explicit => {
                self.warn("25001", "there is already a transaction in progress");
                self.set_modes(modes).await
            }
            // The statements before it in the same Query become part of the transaction, as on one server.
            Kind::Implicit => {
                self.transaction.kind = Kind::Explicit;
                self.set_modes(modes).await
            }
            Kind::None => self.take_up(Kind::Explicit, modes).await,
        };
        if let Err(trouble) = done {
            if before != Kind::Explicit && !matches!(trouble, Trouble::End(_)) {
                // It has not begun, and what ran before it in the same transaction is undone.
                self.finish(Ending::Rollback).await?;
            }
            return Err(trouble);
        }
        self.items_or_complete(tag);
        Ok(())
    }

    /// Opens a transaction, and makes what this batch has said already without a BEGIN part of it, as it is on one server.
    pub(super) async fn take_up(&mut self, kind: Kind, modes: &Modes) -> Result<(), Trouble> {
        let unsynced: SmallVec<[(u32, ShardId); 8]> =
            self.links.iter().filter(|link| link.unsynced).map(|link| (link.id, link.shard)).collect();
        self.transaction = Transaction {
            kind,
            modes: modes.clone(),
            settings_before: self.batch.before.take().unwrap_or_else(|| Arc::clone(&self.state.settings)),
            local: std::mem::take(&mut self.transaction.local),
            writers: self.batch_writer.take().into_iter().collect(),
            clock: self.batch.clock.take(),
            drew: std::mem::take(&mut self.batch.drew),
            used: unsynced.iter().map(|(_, shard)| *shard).collect(),
            ..Transaction::default()
        };
        let opening = self.transaction.begin();
        // With modes it may be too late, so that each is asked before the next.
        let asked = modes.text().is_some();
        for (id, _) in unsynced {
            let Some(at) = self.links.iter().position(|link| link.id == id) else { continue };
            let place = u8::try_from(at).unwrap_or(u8::MAX);
            match asked {
                true => self.told(&[place], &opening).await?,
                false => self.say_own(place, &opening, Show::Nobody),
            }
            if let Some(link) = self.links.iter_mut().find(|link| link.id == id) {
                link.begun = true;
            }
        }
        Ok(())
    }

    /// Gathers a CommandComplete, behind what the flight still owes if there is one.
    fn items_or_complete(&mut self, tag: &str) {
        if self.items.is_empty() {
            self.complete(tag);
        } else {
            let mut bytes = Vec::new();
            reply::command_complete(&mut bytes, tag).expect("tags of the proxy's own hold no zero byte");
            self.items.push(Item::Local(bytes.into()));
        }
    }

    /// The places of the links that take part in the transaction.
    fn begun(&self) -> SmallVec<[u8; 8]> {
        (0_u8..).zip(&self.links).filter(|(_, link)| link.begun).map(|(at, _)| at).collect()
    }

    /// Says `sql` on links, each alone, for the proxy's own ends.
    pub(super) async fn own(&mut self, links: &[u8], sql: &str, show: Show) -> Result<Outcome, Trouble> {
        if self.batch.extended {
            return self.own_extended(links, sql, show).await;
        }
        for at in links {
            if let Some(link) = self.links.get_mut(usize::from(*at)) {
                link.say_query(sql);
                link.unsynced = false;
            }
            self.items.push(Item::Owed {
                expect: Expect::Query,
                links: SmallVec::from_slice(&[*at]),
                show,
                prepares: 0,
            });
        }
        self.fly(0, false).await
    }

    async fn end(&mut self, ending: Ending, chain: bool) -> Result<(), Trouble> {
        if self.transaction.kind != Kind::Explicit {
            let implicit = self.transaction.kind == Kind::Implicit;
            if chain {
                return Err(ClientError::new(
                    Code::NoTransaction,
                    format_args!("{} AND CHAIN can only be used in transaction blocks", word(ending)),
                    "BEGIN first.",
                )
                .into());
            }
            self.warn("25P01", "there is no transaction in progress");
            if implicit {
                self.finish(ending).await?;
            } else {
                self.end_batch(ending).await?;
            }
            self.complete(word(ending));
            return Ok(());
        }
        let modes = chain.then(|| self.modes_to_chain(ending == Ending::Commit));
        let done = self.finish(ending).await?;
        if let Some(modes) = modes {
            self.transaction.kind = Kind::Explicit;
            self.transaction.settings_before = Arc::clone(&self.state.settings);
            self.transaction.modes = modes;
        }
        self.complete(word(done));
        Ok(())
    }

    /// COMMIT or ROLLBACK without BEGIN within a batch: what the batch has done so far ends with it, as on a server.
    async fn end_batch(&mut self, ending: Ending) -> Result<(), Trouble> {
        self.portals.clear();
        let committed = ending == Ending::Commit;
        // The one that wrote goes first: only when it has committed is anything done.
        let writer = self.batch_writer;
        let mut unsynced: SmallVec<[(bool, u32); 8]> =
            self.links.iter().filter(|link| link.unsynced).map(|link| (Some(link.shard) != writer, link.id)).collect();
        unsynced.sort_unstable();
        for (_, id) in unsynced {
            let Some(at) = self.links.iter().position(|link| link.id == id) else { continue };
            if let Some(link) = self.links.get_mut(at) {
                // What it did is undone, and so is what it was set to.
                link.spoiled |= !committed;
            }
            let outcome = self.own(&[u8::try_from(at).unwrap_or(u8::MAX)], word(ending), Show::Caller).await?;
            if outcome.failed.is_some() {
                return Err(Trouble::Told(only_error(&outcome.collected)));
            }
        }
        self.batch_writer = None;
        self.batch.is_over();
        self.batch_ended(committed);
        if std::mem::take(&mut self.schema_changed) && committed {
            self.schema_has_changed().await;
        }
        Ok(())
    }

    /// Ends the transaction around the statements of one Query.
    pub(super) async fn end_implicit(&mut self, commit: bool) -> Result<(), Trouble> {
        if !commit {
            return self.finish(Ending::Rollback).await.map(|_| ());
        }
        // The last statement is complete when its transaction is.
        let complete = self.client.take_complete();
        self.finish(Ending::Commit).await?;
        self.client.push(&complete);
        Ok(())
    }

    /// Ends the transaction around the statements of one pipeline: what each Execute did was told before the Sync.
    pub(super) async fn end_pipeline(&mut self, commit: bool) -> Result<(), Trouble> {
        self.finish(if commit { Ending::Commit } else { Ending::Rollback }).await.map(|_| ())
    }

    /// Ends the open transaction on all servers that joined; tells how it ended.
    async fn finish(&mut self, ending: Ending) -> Result<Ending, Trouble> {
        let ending = if self.transaction.failed { Ending::Rollback } else { ending };
        let before = Arc::clone(&self.transaction.settings_before);
        let mut begun = self.begun();
        // Whatever comes of it: the client's transaction is over.
        let schema_changed = std::mem::take(&mut self.schema_changed);
        let writers = std::mem::take(&mut self.transaction.writers);
        self.transaction = Transaction::default();
        self.batch.ran = false;
        self.portals.clear();
        self.settings_changed();
        let held: Vec<Arc<str>> = self
            .state
            .pins
            .iter()
            .filter_map(|(_, pin)| match pin {
                Pin::HeldCursor(name) => Some(Arc::clone(name)),
                _ => None,
            })
            .collect();
        self.cursors.retain(|name, _| held.contains(name));
        if !self.state.pins.is_empty() {
            self.pins_suspect = true;
        }
        if ending == Ending::Rollback {
            self.state.settings = before;
            let result = self.own(&begun, "ROLLBACK", Show::Nobody).await;
            self.ended(false);
            self.report();
            // A server that is gone has rolled back too.
            if let Err(Trouble::End(end)) = result {
                return Err(Trouble::End(end));
            }
            return Ok(Ending::Rollback);
        }
        let mut writer = writers.first();
        if writers.len() > 1 {
            // Links that take part are asked by themselves: nothing may be on its way to them.
            if !self.items.is_empty() {
                return Err(ClientError::new(Code::Internal, "COMMIT with answers still owed", "Report this.").into());
            }
            match Box::pin(self.commit_on_all(&writers)).await {
                Ok(two_phase::Spread::Plain(only)) => writer = only,
                Ok(two_phase::Spread::Done) => {
                    // All others only read.
                    let begun = self.begun();
                    let rest = self.own(&begun, "COMMIT", Show::Caller).await;
                    self.ended(true);
                    self.report();
                    if let Err(Trouble::End(end)) = rest {
                        return Err(Trouble::End(end));
                    }
                    if schema_changed {
                        self.schema_has_changed().await;
                    }
                    return Ok(Ending::Commit);
                }
                Err(trouble) => {
                    self.state.settings = before;
                    let begun = self.begun();
                    let rest = self.own(&begun, "ROLLBACK", Show::Nobody).await;
                    self.ended(false);
                    self.report();
                    if let Err(Trouble::End(end)) = rest {
                        return Err(Trouble::End(end));
                    }
                    return Err(trouble);
                }
            }
            begun = self.begun();
        }
        // The one that wrote goes first: only when it has committed is anything done.
        begun.sort_by_key(|at| self.links.get(usize::from(*at)).map(|link| Some(link.shard) != writer));
        if let Some((first, others)) = begun.split_first() {
            let others: SmallVec<[u8; 8]> = SmallVec::from_slice(others);
            let wrote = self.links.get(usize::from(*first)).is_some_and(|link| link.wrote);
            if wrote {
                self.access.service.gate.pass().await;
            }
            // Where the server's side has ended already, nothing reads the COMMIT.
            let ended = self.links.get(usize::from(*first)).filter(|it| it.out.is_empty() && it.connection.has_ended());
            let gone = ended.map(|link| self.access.node_name(link.node).to_owned());
            let result = self.own(&[*first], "COMMIT", Show::Caller).await;
            let outcome = match result {
                Ok(outcome) => outcome,
                Err(Trouble::Refused(error)) => {
                    // The connection broke between COMMIT and its answer.
                    self.state.settings = before;
                    self.drop_begun();
                    self.report();
                    return Err(match gone {
                        Some(name) => not_done(&name).into(),
                        None if wrote => unknown(&error).into(),
                        None => Trouble::Refused(error),
                    });
                }
                Err(other) => return Err(other),
            };
            for notice in messages(&outcome.collected).filter(|message| message.first() == Some(&b'N')) {
                self.client.push(notice);
            }
            let committed = outcome.failed.is_none() && outcome.tag.as_deref() == Some(b"COMMIT");
            if !committed {
                self.state.settings = before;
                self.own(&others, "ROLLBACK", Show::Nobody).await?;
                self.ended(false);
                self.report();
                return match outcome.failed {
                    Some(_) => Err(Trouble::Told(only_error(&outcome.collected))),
                    None => Ok(Ending::Rollback),
                };
            }
            // Nothing was written there, so nothing depends on the answers.
            let rest = self.own(&others, "COMMIT", Show::Nobody).await;
            self.ended(true);
            if let Err(Trouble::End(end)) = rest {
                return Err(Trouble::End(end));
            }
        }
        self.report();
        if schema_changed {
            self.schema_has_changed().await;
        }
        Ok(Ending::Commit)
    }

    fn ended(&mut self, committed: bool) {
        let now = clock::now();
        for link in self.links.iter_mut().filter(|link| link.begun) {
            if link.wrote
                && committed
                && let Some(floor) = self.floors.get_mut(link.shard.index())
            {
                floor.wrote(now);
            }
            link.ended(committed);
        }
        self.release_idle();
    }

    fn drop_begun(&mut self) {
        for place in (0..self.links.len()).rev() {
            if self.links.get(place).is_some_and(|link| link.begun) {
                self.lose(place);
            }
        }
        self.transaction = Transaction::default();
    }

    async fn savepoint(&mut self, name: &Arc<str>) -> Result<(), Trouble> {
        self.within_block("SAVEPOINT")?;
        let begun = self.begun();
        let outcome = self.own(&begun, &format!("SAVEPOINT {}", settings::identifier(name)), Show::Nobody).await?;
        if outcome.failed.is_some() {
            return Err(Trouble::Failed);
        }
        self.transaction.mark(Arc::clone(name), Arc::clone(&self.state.settings), &mut self.links);
        self.complete("SAVEPOINT");
        Ok(())
    }

    async fn release_savepoint(&mut self, name: &str) -> Result<(), Trouble> {
        self.within_block("RELEASE SAVEPOINT")?;
        let place = self.transaction.savepoint(name).ok_or_else(|| no_savepoint(name))?;
        let begun = self.begun();
        let outcome =
            self.own(&begun, &format!("RELEASE SAVEPOINT {}", settings::identifier(name)), Show::Nobody).await?;
        if outcome.failed.is_some() {
            return Err(Trouble::Failed);
        }
        if let Some(savepoint) = self.transaction.savepoints.get(place) {
            // READ ONLY ends with the savepoint within which it was set, however that ends.
            self.transaction.modes = savepoint.modes.clone();
        }
        self.transaction.savepoints.truncate(place);
        for link in self.links.iter_mut().filter(|link| link.begun) {
            link.marks.truncate(place);
        }
        for portal in self.portals.values_mut() {
            portal.depth = portal.depth.min(place);
        }
        self.complete("RELEASE");
        Ok(())
    }

    async fn rollback_to(&mut self, name: &str) -> Result<(), Trouble> {
        self.within_block("ROLLBACK TO SAVEPOINT")?;
        let place = self.transaction.savepoint(name).ok_or_else(|| no_savepoint(name))?;
        if self.transaction.lost {
            return Err(ClientError::new(
                Code::NotDone,
                "the transaction's server connection was lost, and its savepoints with it",
                "ROLLBACK, and run the transaction again.",
            )
            .into());
        }
        let begun = self.begun();
        let outcome =
            self.own(&begun, &format!("ROLLBACK TO SAVEPOINT {}", settings::identifier(name)), Show::Nobody).await?;
        if outcome.failed.is_some() {
            return Err(Trouble::Failed);
        }
        if let Some(savepoint) = self.transaction.savepoints.get(place).cloned() {
            self.state.settings = savepoint.settings;
            self.transaction.local = savepoint.local;
            self.transaction.writers = savepoint.writers;
            self.transaction.modes = savepoint.modes;
            self.transaction.constraints.truncate(savepoint.constraints);
        }
        self.transaction.savepoints.truncate(place + 1);
        // What was bound since goes with what was done since.
        self.portals.retain(|_, portal| portal.depth <= place);
        for link in self.links.iter_mut().filter(|link| link.begun) {
            link.back_to(place);
        }
        self.transaction.failed = false;
        self.transaction.let_go = false;
        // What failed behind the savepoint may have taken no number.
        self.transaction.drew = false;
        // What was changed behind the savepoint is as it was.
        self.transaction.altered |= self.transaction.schema.is_some();
        self.settings_changed();
        self.report();
        self.complete("ROLLBACK");
        Ok(())
    }

    /// On one server, a transaction that has failed holds no locks any more. Shards that do not know of the failure are
    /// told: what was done there since the last savepoint goes, or all of it.
    pub(super) async fn let_go(&mut self) -> Result<(), End> {
        let unaware = |link: &Link| link.begun && link.status == b'T' && link.due == 0 && !link.unsynced;
        let places: SmallVec<[u8; 8]> =
            (0_u8..).zip(&self.links).filter(|(_, link)| unaware(link)).map(|(at, _)| at).collect();
        self.transaction.let_go = true;
        if places.is_empty() {
            return Ok(());
        }
        let savepoint = self.transaction.savepoints.last().map(|it| settings::identifier(&it.name));
        let sql = savepoint.map_or_else(|| "ROLLBACK".to_owned(), |name| format!("ROLLBACK TO SAVEPOINT {name}"));
        for at in &places {
            if let Some(link) = self.links.get_mut(usize::from(*at)) {
                link.say_query(&sql);
            }
            let links = SmallVec::from_slice(&[*at]);
            // The client has heard of its failure, and hears of nothing else.
            self.items.push(Item::Owed { expect: Expect::Query, links, show: Show::Caller, prepares: 0 });
        }
        let ids: SmallVec<[u32; 8]> =
            places.iter().filter_map(|at| self.links.get(usize::from(*at))).map(|link| link.id).collect();
        match self.fly(0, false).await {
            Ok(_) => {}
            Err(Trouble::End(end)) => return Err(end),
            // What is lost holds nothing, and the client has heard of the failure.
            Err(_) => self.items.clear(),
        }
        let savepoints = self.transaction.savepoints.len();
        for link in self.links.iter_mut().filter(|link| ids.contains(&link.id) && link.status != b'E') {
            match savepoints.checked_sub(1) {
                Some(last) => link.back_to(last),
                None => link.ended(false),
            }
        }
        self.release_idle();
        Ok(())
    }

    fn within_block(&self, what: &str) -> Result<(), ClientError> {
        if self.transaction.kind == Kind::Explicit {
            return Ok(());
        }
        Err(ClientError::new(
            Code::NoTransaction,
            format_args!("{what} can only be used in transaction blocks"),
            "BEGIN first.",
        ))
    }

    async fn set_transaction(&mut self, modes: &Modes) -> Result<(), Trouble> {
        if !self.transaction.is_open() {
            self.warn("25P01", "SET TRANSACTION can only be used in transaction blocks");
            self.complete("SET");
            return Ok(());
        }
        self.set_modes(modes).await?;
        self.items_or_complete("SET");
        Ok(())
    }

    /// Sets modes of the open transaction. Whether they still may be set, servers know: one that has joined is asked, and
    /// within a savepoint one joins for that.
    async fn set_modes(&mut self, modes: &Modes) -> Result<(), Trouble> {
        let Some(text) = modes.text() else { return Ok(()) };
        if modes.read_only == Some(true) && self.transaction.writers.len() > 1 {
            return Err(ClientError::unsupported(
                "SET TRANSACTION READ ONLY behind writes of several shards is not supported",
                "Set it at the beginning, or not at all: what is READ ONLY cannot be prepared.",
            )
            .into());
        }
        let within = !self.transaction.savepoints.is_empty();
        let joined = if within { self.begun_somewhere().await? } else { self.begun() };
        let pinned = self.links.iter().any(|link| link.begun && link.pinned);
        if self.transaction.used.is_empty() && !within && !pinned && !joined.is_empty() {
            // For servers settings are statements, for the client's transaction they are not: it begins there anew.
            if self.own(&joined, "ROLLBACK", Show::Nobody).await?.failed.is_some() {
                return Err(Trouble::Failed);
            }
            self.ended(false);
        } else if !joined.is_empty() {
            self.told(&joined, &format!("SET TRANSACTION {text}")).await?;
        }
        self.transaction.add_modes(modes);
        Ok(())
    }

    async fn set_constraints(&mut self, sql: &str) -> Result<(), Trouble> {
        if !self.transaction.is_open() {
            self.warn("25P01", "SET CONSTRAINTS can only be used in transaction blocks");
            self.complete("SET CONSTRAINTS");
            return Ok(());
        }
        let begun = self.begun_somewhere().await?;
        for at in &begun {
            self.prefix(usize::from(*at));
        }
        self.told(&begun, sql).await?;
        self.transaction.constraints.push(sql.to_owned());
        for link in self.links.iter_mut().filter(|link| link.begun) {
            link.constraints = self.transaction.constraints.len();
        }
        self.complete("SET CONSTRAINTS");
        Ok(())
    }

    /// The places of the links that take part in the transaction: the catalog shard's joins if there is none.
    async fn begun_somewhere(&mut self) -> Result<SmallVec<[u8; 8]>, Trouble> {
        let mut begun = self.begun();
        if begun.is_empty() {
            let at = self.join(self.access.service.database.catalog, plan::Access::ReadPrimary).await?;
            self.prefix(at);
            begun.push(u8::try_from(at).unwrap_or(u8::MAX));
        }
        Ok(begun)
    }

    /// Says `sql` on links; the first error is what the client is told.
    async fn told(&mut self, links: &[u8], sql: &str) -> Result<(), Trouble> {
        let outcome = if self.batch.extended {
            self.own(links, sql, Show::Caller).await?
        } else {
            for at in links {
                if let Some(link) = self.links.get_mut(usize::from(*at)) {
                    link.say_query(sql);
                    link.unsynced = false;
                }
            }
            // All are heard, whoever refuses.
            let links = SmallVec::from_slice(links);
            self.items.push(Item::Owed { expect: Expect::Query, links, show: Show::Caller, prepares: 0 });
            self.fly(0, false).await?
        };
        match outcome.failed {
            Some(_) => Err(Trouble::Told(only_error(&outcome.collected))),
            None => Ok(()),
        }
    }

    // ── settings ──

    /// A link on which settings may be tried, brought up to date.
    async fn scratch(&mut self) -> Result<u8, Trouble> {
        let held = self.links.iter().position(|link| link.begun || link.pinned || (link.unsynced && !link.replica));
        let at = match held {
            Some(at) => {
                self.settle_defaults(at).await?;
                at
            }
            None => self.join(self.access.service.database.catalog, plan::Access::ReadPrimary).await?,
        };
        self.prefix(at);
        Ok(u8::try_from(at).unwrap_or(u8::MAX))
    }

    async fn set(&mut self, sql: &str, name: &str, local: bool, value: Option<&str>) -> Result<(), Trouble> {
        if name.starts_with(settings::OWN) {
            return self.set_own(name, local, value);
        }
        if let Some(value) = value {
            state::check_server(name, value)?;
        }
        if name == "transaction snapshot" {
            return Err(ClientError::unsupported(
                "SET TRANSACTION SNAPSHOT is not supported",
                "A snapshot belongs to one server: connect to that one.",
            )
            .into());
        }
        if matches!(
            name,
            "session_authorization" | "transaction_isolation" | "transaction_read_only" | "transaction_deferrable"
        ) {
            return Err(ClientError::unsupported(
                format_args!("SET {name} is not supported"),
                "Use SET TRANSACTION for the open transaction; log in as the other user instead of changing the session's.",
            )
            .into());
        }
        let names: Vec<String> = match name {
            "session characteristics" => {
                ["isolation", "read_only", "deferrable"].iter().map(|it| format!("default_transaction_{it}")).collect()
            }
            _ => vec![name.to_owned()],
        };
        let tag = self.try_setting(sql, &names, local).await?;
        self.complete(&tag);
        Ok(())
    }

    /// Runs a statement that sets `names` on a server, reads back what it came to, and makes that the session's.
    pub(super) async fn try_setting(&mut self, sql: &str, names: &[String], local: bool) -> Result<String, Trouble> {
        self.remember_settings();
        let at = self.scratch().await?;
        let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[at]);
        // By SHOW: it takes no snapshot, so that the transaction's modes may still be set behind it.
        let read: Vec<String> = names.iter().map(|name| format!("SHOW {}", settings::dotted(name))).collect();
        // One Query: when the first fails, the second is not asked. What is local outside of a transaction has no
        // effect but its warning, which it would not give with another statement beside it.
        let in_vain = local && !self.transaction.is_open();
        let said = if in_vain { sql.to_owned() } else { format!("{sql}\n;{}", read.join(";")) };
        if self.batch.extended {
            self.say_own(at, sql, Show::Caller);
            for read in &read {
                self.say_own(at, read, Show::Caller);
            }
        } else {
            if let Some(link) = self.links.get_mut(usize::from(at)) {
                link.say_query(&said);
            }
            self.items.push(Item::Owed { expect: Expect::Query, links, show: Show::Caller, prepares: 0 });
        }
        // The link must still be here when the answer is in: its settings have to be noted.
        let id = self.keep(usize::from(at));
        let outcome = self.fly_own().await;
        let at = self.unkeep(id);
        let outcome = outcome?;
        if local && outcome.failed.is_none() && self.is_spanning_pipeline() {
            self.warn("25P01", "SET LOCAL can only be used in transaction blocks");
        }
        for notice in messages(&outcome.collected).filter(|message| message.first() == Some(&b'N')) {
            self.client.push(notice);
        }
        if outcome.failed.is_some() {
            self.release_idle();
            return Err(Trouble::Told(only_error(&outcome.collected)));
        }
        let mut tag = String::from("SET");
        let mut values: Vec<Option<String>> = Vec::new();
        for message in messages(&outcome.collected) {
            match message.first() {
                Some(b'D') => values.extend(cells(message)),
                Some(b'C') if message.get(5..).is_some_and(|body| body.starts_with(b"RESET")) => {
                    "RESET".clone_into(&mut tag);
                }
                _ => {}
            }
        }
        let named: Vec<(String, bool)> = names.iter().map(|name| (name.clone(), local)).collect();
        if let Some(at) = at {
            self.note_settings(at, &named, values)?;
        }
        Ok(tag)
    }

    /// Makes what was read back from a link the session's settings: (name, until the end of the transaction only).
    fn note_settings(
        &mut self,
        at: usize,
        names: &[(String, bool)],
        values: Vec<Option<String>>,
    ) -> Result<(), Trouble> {
        let open = self.transaction.is_open() || self.batch.extended;
        let mut refused = None;
        if let Some(link) = self.links.get_mut(at) {
            for ((name, local), value) in names.iter().zip(values) {
                let Some(value) = value else { continue };
                // A setting may be refused by what it came to, however it was written.
                if let Err(error) = state::check_server(name, &value) {
                    refused = Some(error);
                    break;
                }
                if *local {
                    if open {
                        self.transaction.local = Arc::new(self.transaction.local.with(name, &value));
                        link.local = Arc::clone(&self.transaction.local);
                    }
                } else {
                    link.connection.settings = Arc::new(link.connection.settings.with(name, &value));
                    self.state.settings = Arc::new(self.state.settings.with(name, &value));
                    if self.transaction.local.value(name).is_some() {
                        self.transaction.local = Arc::new(self.transaction.local.without(name));
                        link.local = Arc::new(link.local.without(name));
                    }
                }
            }
            if link.connection.settings == self.state.settings {
                link.connection.settings = Arc::clone(&self.state.settings);
            }
            if !link.begun && !link.unsynced {
                link.committed = Arc::clone(&link.connection.settings);
            }
        }
        if let Some(error) = refused {
            // The connection has it all the same: it is closed rather than reused.
            self.lose(at);
            return Err(error.into());
        }
        self.settings_changed();
        self.report();
        self.release_idle();
        Ok(())
    }

    /// Reads back what statements changed by set_config.
    pub(super) async fn read_back(&mut self) -> Result<(), Trouble> {
        if self.readback.is_empty() {
            return Ok(());
        }
        let changed = std::mem::take(&mut self.readback);
        let (settings, local) = (Arc::clone(&self.state.settings), Arc::clone(&self.transaction.local));
        let result = self.read_each(&changed).await;
        if result.is_err() {
            self.state.settings = settings;
            self.transaction.local = local;
            self.settings_changed();
            // What these connections have is not known: they are closed rather than reused.
            for (id, _) in &changed {
                if let Some(at) = self.links.iter().position(|link| link.id == *id) {
                    self.lose(at);
                }
            }
            self.report();
        }
        self.release_idle();
        result
    }

    async fn read_each(&mut self, changed: &[(u32, plan::SetConfig)]) -> Result<(), Trouble> {
        for (id, set) in changed {
            if set.name.starts_with(settings::OWN) {
                return Err(ClientError::unsupported(
                    "set_config() of a setting under shardway. is not supported",
                    "Use SET: these settings are the proxy's.",
                )
                .into());
            }
            let Some(at) = self.links.iter().position(|link| link.id == *id) else { continue };
            let ask = format!("SELECT pg_catalog.current_setting({}, true)", settings::literal(&set.name));
            let id = self.keep(at);
            let result = self.own(&[u8::try_from(at).unwrap_or(u8::MAX)], &ask, Show::Caller).await;
            let at = self.unkeep(id);
            let outcome = result?;
            if outcome.failed.is_some() {
                return Err(Trouble::Told(only_error(&outcome.collected)));
            }
            let Some(at) = at else { continue };
            let values =
                messages(&outcome.collected).find(|it| it.first() == Some(&b'D')).map(cells).unwrap_or_default();
            self.note_settings(at, &[(set.name.to_string(), set.local)], values)?;
        }
        Ok(())
    }

    /// Whether the open transaction is the proxy's own, around a pipeline: for its client there is no block.
    fn is_spanning_pipeline(&self) -> bool {
        self.batch.extended && self.transaction.kind == Kind::Implicit
    }

    fn set_own(&mut self, name: &str, local: bool, value: Option<&str>) -> Result<(), Trouble> {
        let changed = |settings: &Settings| match value {
            Some(value) => settings.with(name, value),
            None => settings.without(name),
        };
        state::check_own(name, value.unwrap_or_else(|| default_of(name)), &self.access.service.database, &self.user)?;
        self.remember_settings();
        if local {
            if !self.transaction.is_open() || self.is_spanning_pipeline() {
                self.warn("25P01", "SET LOCAL can only be used in transaction blocks");
            }
            if self.transaction.is_open() || self.batch.extended {
                self.transaction.local = Arc::new(changed(&self.transaction.local));
            }
        } else {
            self.state.settings = Arc::new(changed(&self.state.settings));
            self.forget_local(name);
        }
        self.settings_changed();
        self.complete("SET");
        Ok(())
    }

    /// What SET LOCAL said of a setting counts no more.
    fn forget_local(&mut self, name: &str) {
        if !self.transaction.local.is_empty() {
            self.transaction.local = Arc::new(self.transaction.local.without(name));
        }
    }

    async fn reset(&mut self, sql: &str, name: &str) -> Result<(), Trouble> {
        if name.starts_with(settings::OWN) {
            state::check_own(name, default_of(name), &self.access.service.database, &self.user)?;
            self.remember_settings();
            self.state.settings = Arc::new(self.state.settings.without(name));
            self.forget_local(name);
            self.settings_changed();
            self.complete("RESET");
            return Ok(());
        }
        let tag = match self.state.startup.value(name).cloned() {
            // RESET goes back to what login said.
            Some(value) => {
                let said = format!(
                    "SELECT pg_catalog.set_config({}, {}, false)",
                    settings::literal(name),
                    settings::literal(&value)
                );
                self.try_setting(&said, &[name.to_owned()], false).await?;
                "RESET".to_owned()
            }
            None => {
                self.try_setting(sql, &[name.to_owned()], false).await?;
                self.state.settings = Arc::new(self.state.settings.without(name));
                self.settings_changed();
                "RESET".to_owned()
            }
        };
        self.complete(&tag);
        Ok(())
    }

    async fn reset_all(&mut self) -> Result<(), Trouble> {
        self.remember_settings();
        self.state.settings = Arc::clone(&self.state.startup);
        self.transaction.local = Settings::none();
        self.settings_changed();
        self.report();
        Ok(())
    }

    /// Tells the client of every reported setting that is not what it was last told.
    pub(super) fn report(&mut self) {
        if self.batch.quiet {
            self.batch.unreported = true;
            return;
        }
        let mut news = Vec::new();
        let (settings, local) = self.transaction.in_force(&self.state.settings);
        for (name, told) in &mut self.state.reported {
            let lower = name.to_ascii_lowercase();
            let now = local
                .value(&lower)
                .or_else(|| settings.value(&lower))
                .or_else(|| self.state.defaults.get(lower.as_str()));
            if let Some(now) = now
                && **now != **told
            {
                (**now).clone_into(told);
                news.push((name.clone(), Arc::clone(now)));
            }
        }
        news.sort();
        for (name, value) in news {
            // A name or value with a zero byte cannot have come from a server.
            let _ = reply::parameter_status(self.client.out(), &name, &value);
        }
    }

    /// SHOW of one of the proxy's own settings.
    fn show(&mut self, name: &str) -> Result<(), Trouble> {
        let value = self.own_value(name)?;
        let out = self.client.out();
        reply::row_description(out, &[reply::Column::text(name)]).map_err(ClientError::from)?;
        reply::data_row(out, &[Some(value.as_bytes())]).map_err(ClientError::from)?;
        self.complete("SHOW");
        Ok(())
    }

    /// The value of one of the proxy's own settings.
    pub(super) fn own_value(&self, name: &str) -> Result<String, ClientError> {
        let set = self.state.value(name, &self.transaction.local).map(|value| value.to_string());
        match name {
            "shardway.consistency" => {
                let database = &self.access.service.database;
                let level = self.state.consistency(&self.transaction.local, &self.user, database);
                Ok(set.unwrap_or_else(|| state::consistency_name(level)))
            }
            "shardway.snapshot" | "shardway.strategy" => Ok(set.unwrap_or_else(|| default_of(name).to_owned())),
            "shardway.shard" => Ok(set.unwrap_or_default()),
            _ => {
                state::check_own(name, "", &self.access.service.database, &self.user)?;
                Ok(set.unwrap_or_default())
            }
        }
    }

    // ── DISCARD, LISTEN, cursors ──

    async fn discard_all(&mut self) -> Result<(), Trouble> {
        if self.transaction.is_open() {
            return Err(ClientError::new(
                Code::InTransaction,
                "DISCARD ALL cannot run inside a transaction block",
                "End the transaction first.",
            )
            .into());
        }
        self.seen.clear();
        // The unnamed statement stays, as on a server.
        self.prepared.clear();
        self.portals.clear();
        self.cursors.clear();
        let pinned: SmallVec<[u8; 8]> =
            (0_u8..).zip(&self.links).filter(|(_, link)| link.pinned).map(|(at, _)| at).collect();
        if !pinned.is_empty() {
            let outcome = self.own(&pinned, "DISCARD ALL", Show::Caller).await?;
            if outcome.failed.is_some() {
                return Err(Trouble::Told(only_error(&outcome.collected)));
            }
            for link in self.links.iter_mut().filter(|link| link.pinned) {
                link.pinned = false;
                link.connection.settings = Settings::none();
                link.committed = Settings::none();
                link.connection.forget_all_prepared();
            }
            self.state.pins.clear();
            self.release_idle();
        }
        self.reset_all().await?;
        self.complete("DISCARD ALL");
        Ok(())
    }

    async fn discard(&mut self, sql: &str) -> Result<(), Trouble> {
        let pinned: SmallVec<[u8; 8]> =
            (0_u8..).zip(&self.links).filter(|(_, link)| link.pinned || link.begun).map(|(at, _)| at).collect();
        let outcome = self.own(&pinned, sql, Show::Caller).await?;
        if outcome.failed.is_some() {
            return Err(Trouble::Told(only_error(&outcome.collected)));
        }
        self.pins_suspect = true;
        let upper = sql.to_ascii_uppercase();
        let what = ["PLANS", "SEQUENCES", "TEMPORARY", "TEMP"].iter().find(|what| upper.contains(**what));
        let tag = match what {
            Some(&"PLANS") => "DISCARD PLANS",
            Some(&"SEQUENCES") => {
                self.seen.clear();
                "DISCARD SEQUENCES"
            }
            _ => "DISCARD TEMP",
        };
        self.complete(tag);
        Ok(())
    }

    async fn unlisten(&mut self, sql: &str) -> Result<(), Trouble> {
        let listening: SmallVec<[u8; 8]> = (0_u8..)
            .zip(&self.links)
            .filter(|(_, link)| link.pinned)
            .filter(|(_, link)| self.state.pins.iter().any(|(shard, pin)| *shard == link.shard && *pin == Pin::Listen))
            .map(|(at, _)| at)
            .collect();
        let outcome = self.own(&listening, sql, Show::Caller).await?;
        if outcome.failed.is_some() {
            return Err(Trouble::Told(only_error(&outcome.collected)));
        }
        self.pins_suspect = true;
        self.complete("UNLISTEN");
        Ok(())
    }

    async fn fetch(&mut self, sql: &str, name: &str) -> Result<(), Trouble> {
        let shard = self.cursors.get(name).copied().ok_or_else(|| {
            ClientError::new(Code::NoPortal, format_args!("cursor \"{name}\" does not exist"), "DECLARE it first.")
        })?;
        let order = Order {
            sql,
            access: plan::Access::ReadPrimary,
            command: &Command::Data,
            effects: &Effects::default(),
            place: Place::Among,
            offset: 0,
        };
        self.send(&order, &ShardSet::one(shard)).await?;
        Ok(())
    }

    async fn close_cursor(&mut self, sql: &str, name: Option<&str>) -> Result<(), Trouble> {
        match name {
            Some(name) => {
                self.fetch(sql, name).await?;
                self.cursors.remove(name);
            }
            None => {
                let held: SmallVec<[u8; 8]> =
                    (0_u8..).zip(&self.links).filter(|(_, link)| link.pinned || link.begun).map(|(at, _)| at).collect();
                let outcome = self.own(&held, sql, Show::Caller).await?;
                if outcome.failed.is_some() {
                    return Err(Trouble::Told(only_error(&outcome.collected)));
                }
                self.cursors.clear();
                self.complete("CLOSE CURSOR ALL");
            }
        }
        self.pins_suspect |= !self.state.pins.is_empty();
        Ok(())
    }

    /// What a statement that succeeded leaves behind.
    pub(super) async fn took_effect(
        &mut self,
        command: &Command,
        effects: &Effects,
        shards: &ShardSet,
    ) -> Result<(), Trouble> {
        if let Command::Declare { name, .. } = command
            && let Some(shard) = shards.only()
        {
            self.cursors.insert(Arc::clone(name), shard);
        }
        if let Command::Close(Some(name)) = command {
            self.cursors.remove(name);
            self.pins_suspect |= !self.state.pins.is_empty();
        }
        if effects.unpins && !self.state.pins.is_empty() {
            self.pins_suspect = true;
        }
        if effects.changes_schema {
            if self.transaction.is_open() || self.links.iter().any(|link| link.unsynced) {
                self.schema_changed = true;
                self.transaction.altered = self.transaction.is_open() && self.access.service.database.shards.len() > 1;
            } else {
                self.schema_has_changed().await;
            }
        }
        Ok(())
    }

    /// The link that a statement with pins or settings ran on stays until that has been noted: the shard's link is held
    /// before the statement is sent.
    pub(super) fn hold_for(&mut self, effects: &Effects, command: &Command, place: usize) {
        let pin = match (&effects.pins, command) {
            (Some(pin), _) => Some(pin.clone()),
            (None, Command::Listen) => Some(Pin::Listen),
            (None, Command::Declare { name, hold: true }) => Some(Pin::HeldCursor(Arc::clone(name))),
            _ => None,
        };
        if let Some(pin) = pin {
            self.pin(place, &pin);
            self.pins_suspect = true;
        }
        if let Some(link) = self.links.get(place) {
            let id = link.id;
            self.readback.extend(effects.set_config.iter().map(|set| (id, set.clone())));
        }
    }

    /// Looks whether what pinned the session is still there, and lets go of connections that hold nothing.
    pub(super) async fn look_at_pins(&mut self) -> Result<(), End> {
        const QUESTION: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace \
             OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()), \
             EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
             AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()), \
             EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable), \
             EXISTS (SELECT FROM pg_catalog.pg_listening_channels())";
        self.pins_suspect = false;
        let pinned: Vec<ShardId> = self.links.iter().filter(|link| link.pinned).map(|link| link.shard).collect();
        for shard in pinned {
            let Some(at) = self.links.iter().position(|link| link.pinned && link.shard == shard) else { continue };
            let place = u8::try_from(at).unwrap_or(u8::MAX);
            let outcome = match self.own(&[place], QUESTION, Show::Caller).await {
                Ok(outcome) => outcome,
                Err(Trouble::End(end)) => return Err(end),
                Err(_) => continue,
            };
            if outcome.failed.is_some() {
                // A cancel request struck here: look again next time.
                self.pins_suspect = true;
                continue;
            }
            let cells: Vec<bool> = messages(&outcome.collected)
                .filter(|message| message.first() == Some(&b'D'))
                .filter_map(|message| reply::DataRow::read(message.get(5..).unwrap_or_default()).ok())
                .flat_map(|row| row.cells().map(|cell| cell == Some(b"t")).collect::<Vec<_>>())
                .collect();
            let &[temporary, locks, cursors, listening] = cells.as_slice() else { continue };
            self.state.pins.retain(|(of, pin)| {
                *of != shard
                    || match pin {
                        Pin::Temporary(_) => temporary,
                        Pin::AdvisoryLock => locks,
                        Pin::HeldCursor(_) => cursors,
                        Pin::Listen => listening,
                        Pin::Other(_) => true,
                    }
            });
            self.settings_changed();
            if !self.state.pins.iter().any(|(of, _)| *of == shard)
                && let Some(link) = self.links.get_mut(at)
            {
                link.pinned = false;
            }
        }
        self.release_idle();
        Ok(())
    }

    // ── SQL's prepared statements ──

    async fn prepare_sql(&mut self, name: &str, types: Option<&str>, body: &str) -> Result<(), Trouble> {
        let world = self.world()?;
        let compiled = self.worker.planner.borrow_mut().compile(body, &world);
        let planned = match compiled {
            Ok(statements) => match <[Planned; 1]>::try_from(statements.into_vec()) {
                Ok([planned]) => Rc::new(planned),
                Err(_) => {
                    return Err(ClientError::unsupported(
                        "PREPARE of this statement is not supported",
                        "Prepare one statement.",
                    )
                    .into());
                }
            },
            Err(error) => return Err(self.verified(error, body, &[], &world).await),
        };
        let written_types: Option<Arc<str>> = types.map(|types| format!("({types})").into());
        let text: Arc<str> = body.into();
        let number = self.worker.registry.number(&text, &[], written_types.as_ref(), &world);
        let oids = types.map(type_oids).unwrap_or_default();
        let prepared = Prepared {
            text,
            types: oids,
            written_types,
            number,
            compiled: (world.id, Some(planned)).into(),
            drawn: None.into(),
            passing: false,
        };
        // The server says now what is wrong with it.
        let at = self.describing_link(&prepared, &world).await?;
        let prepared = Rc::new(prepared);
        let known = self.links.get_mut(at).is_some_and(|link| link.connection.has_prepared(prepared.number.number));
        if known {
            self.release_idle();
        } else {
            self.prefix(at);
            self.prepare_on(at, &prepared);
            if self.fly_own().await?.failed.is_some() {
                return Err(Trouble::Failed);
            }
        }
        // A server looks at the text first, and then at the name.
        if self.prepared.contains_key(name) {
            return Err(ClientError::new(
                Code::DuplicateStatement,
                format_args!("prepared statement \"{name}\" already exists"),
                "DEALLOCATE it first, or choose another name.",
            )
            .into());
        }
        self.prepared.insert(name.into(), prepared);
        self.complete("PREPARE");
        Ok(())
    }

    /// Says SQL's PREPARE on a link that lacks the statement.
    fn prepare_on(&mut self, at: usize, prepared: &Prepared) {
        let Some(link) = self.links.get_mut(at) else { return };
        let number = prepared.number.number;
        if link.connection.has_prepared(number) {
            return;
        }
        let types = prepared.written_types.as_deref().unwrap_or("");
        let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        let nobody = |expect, prepares| Item::Owed { expect, links: links.clone(), show: Show::Nobody, prepares };
        // Close of what is not there is no error, DEALLOCATE would be.
        if link.connection.take_doubt(number) {
            say::about(&mut link.out, b'C', b'S', &say::statement_name(number));
            self.items.push(nobody(Expect::Close, 0));
        }
        if let Some(evicted) = link.connection.note_prepared(number) {
            say::about(&mut link.out, b'C', b'S', &say::statement_name(evicted));
            self.items.push(nobody(Expect::Close, evicted));
        }
        let sql = format!("PREPARE {} {types} AS {}", say::statement_name(number), prepared.text);
        if self.batch.extended {
            self.say_preparing(at, &sql, number);
            return;
        }
        link.say_query(&sql);
        self.items.push(nobody(Expect::Query, number));
    }

    async fn execute_sql(
        &mut self,
        sql: &str,
        name: &str,
        name_at: std::ops::Range<usize>,
        arguments: &[&str],
    ) -> Result<(), Trouble> {
        let prepared = self.prepared.get(name).cloned().ok_or_else(|| no_statement(name))?;
        if prepared.written_types.is_none() && !prepared.types.is_empty() {
            return Err(ClientError::unsupported(
                "EXECUTE of a statement that was prepared by a Parse message with parameter types is not supported",
                "Execute it by Bind and Execute messages, or PREPARE it in SQL.",
            )
            .into());
        }
        let world = self.world()?;
        let Some(planned) = self.compiled(&prepared, &world)? else {
            reply::empty_query(self.client.out());
            return Ok(());
        };
        if planned.draws() {
            return Err(ClientError::unsupported(
                "EXECUTE of a statement that takes numbers of sequences is not supported",
                "Use Bind and Execute messages, or say the statement itself.",
            )
            .into());
        }
        let constants: Vec<Constant> = arguments.iter().map(|it| constant(it)).collect::<Result<_, _>>()?;
        let mut types = prepared.types.to_vec();
        types.resize(types.len().max(constants.len()), 0);
        for (oid, constant) in types.iter_mut().zip(&constants) {
            if constant.converted && *oid != NUMERIC {
                *oid = NOT_KNOWN;
            }
        }
        let values: Vec<Parameter<'_>> = constants
            .iter()
            .map(|it| Parameter { binary: false, bytes: it.text.as_deref().map(str::as_bytes) })
            .collect();
        let parameters = Parameters { types: &types, values: &values };
        let mut plan = planned.plan(&prepared.text, Some(&parameters), &world)?;
        if let Plan::LookUp(wanted) = plan {
            let again = |known: &plan::Known| planned.plan_knowing(&prepared.text, Some(&parameters), &world, known);
            let fresh = planned.template.access == plan::Access::Write;
            plan = Box::pin(self.plan_by_directory(*wanted, fresh, &world, &again)).await?;
        }
        let template = &planned.template;
        self.fit_for(&template.command)?;
        if template.command != Command::Data {
            return Err(ClientError::unsupported(
                "EXECUTE of a command of the session is not supported",
                "Say it directly.",
            )
            .into());
        }
        if plan == Plan::Carry {
            return Err(ClientError::unsupported(
                "EXECUTE of an INSERT … SELECT whose rows come from other shards is not supported",
                "Use Bind and Execute messages, or say the statement itself.",
            )
            .into());
        }
        if self.moment_due(&plan, template) {
            Box::pin(self.take_moment()).await?;
        }
        if let Plan::Gather(gather) = &plan {
            let unknown = types.contains(&NOT_KNOWN) || types.len() != usize::from(template.parameters);
            if unknown || constants.iter().any(|it| it.converted) {
                return Err(ClientError::unsupported(
                    "EXECUTE across shards with values that have to be converted is not supported",
                    "Use Bind and Execute messages, or PREPARE it with types such as bigint and text.",
                )
                .into());
            }
            let values: Vec<Option<&[u8]>> = values.iter().map(|it| it.bytes).collect();
            let said = Said { text: &prepared.text, planned: &planned, types: &types, values: &values, offset: 0 };
            return Box::pin(self.gathered_with(said, gather, Place::Among)).await.map(|_| ());
        }
        if let Plan::Split(split) = &plan {
            let values: Vec<Option<&[u8]>> = values.iter().map(|it| it.bytes).collect();
            if types.contains(&NOT_KNOWN) || constants.iter().any(|it| it.converted) {
                return Err(ClientError::unsupported(
                    "EXECUTE across shards with values that have to be converted is not supported",
                    "Use Bind and Execute messages, or PREPARE it with types such as bigint and text.",
                )
                .into());
            }
            self.begin_implicit();
            let said = Said { text: &prepared.text, planned: &planned, types: &types, values: &values, offset: 0 };
            return Box::pin(self.split(said, split)).await.map(|_| ());
        }
        let shards = self.shards(&plan)?;
        self.admit(&shards, template.access, &template.effects)?;
        let places = match shards.only() {
            Some(shard) => {
                let at = self.join(shard, template.access).await?;
                SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)])
            }
            None => self.join_all(&shards, template.access).await?,
        };
        let before = sql.get(..name_at.start).unwrap_or_default();
        let after = sql.get(name_at.end..).unwrap_or_default();
        let said = format!("{before}{}{after}", say::statement_name(prepared.number.number));
        for at in &places {
            let at = usize::from(*at);
            self.prefix(at);
            self.prepare_on(at, &prepared);
            if let Some(link) = self.links.get_mut(at) {
                link.say_query(&said);
                link.wrote |= template.access == plan::Access::Write;
            }
            self.hold_for(&template.effects, &template.command, at);
        }
        self.items.push(Item::Owed {
            expect: Expect::Query,
            links: places,
            show: Show::ClientWithoutReady,
            prepares: 0,
        });
        let outcome = self.fly(0, false).await?;
        if outcome.failed.is_some() {
            self.readback.clear();
            return Err(Trouble::Failed);
        }
        self.read_back().await?;
        self.took_effect(&template.command, &template.effects, &shards).await
    }

    fn deallocate(&mut self, name: Option<&str>) -> Result<(), Trouble> {
        match name {
            Some(name) => {
                let before = self.prepared.remove(name).ok_or_else(|| no_statement(name))?;
                if !self.items.is_empty() {
                    self.undo.push((self.items.len(), Undo::Statement(name.into(), Some(before))));
                }
                self.items_or_complete("DEALLOCATE");
            }
            None => {
                self.prepared.clear();
                self.items_or_complete("DEALLOCATE ALL");
            }
        }
        Ok(())
    }
}

/// The cells of a DataRow message as text.
pub(super) fn cells(message: &[u8]) -> Vec<Option<String>> {
    reply::DataRow::read(message.get(5..).unwrap_or_default())
        .map(|row| {
            row.cells().map(|cell| cell.and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::to_owned)).collect()
        })
        .unwrap_or_default()
}

fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Commit => "COMMIT",
        Ending::Rollback => "ROLLBACK",
    }
}

fn unknown(error: &ClientError) -> ClientError {
    ClientError::new(
        Code::OutcomeUnknown,
        "the connection was lost after COMMIT was sent and before it was acknowledged",
        "Look whether the transaction was done before running it again.",
    )
    .with_detail(error.message.clone())
}

/// What ran on a connection that broke is not done, for the server ends a transaction with it.
pub(super) fn not_done(node: &str) -> ClientError {
    ClientError::new(
        Code::NotDone,
        format_args!("the connection to node \"{node}\" was lost; nothing of this was done"),
        "Run the transaction again.",
    )
}

fn no_savepoint(name: &str) -> ClientError {
    ClientError::new(
        Code::NoSavepoint,
        format_args!("savepoint \"{name}\" does not exist"),
        "Savepoints end with RELEASE, with ROLLBACK TO an older one, and with the transaction.",
    )
}

pub(super) fn no_statement(name: &str) -> ClientError {
    ClientError::new(
        Code::NoStatement,
        format_args!("prepared statement \"{name}\" does not exist"),
        "Prepare it in this session first.",
    )
}

fn default_of(name: &str) -> &'static str {
    match name {
        "shardway.consistency" => "session",
        "shardway.snapshot" => "shard",
        "shardway.strategy" => "auto",
        _ => "",
    }
}

/// One argument of EXECUTE.
#[derive(Debug, PartialEq, Eq)]
struct Constant {
    /// Its text; `None`: NULL.
    text: Option<String>,
    /// The server makes a number of it, which it then assigns to the parameter's type: the text is not what arrives.
    converted: bool,
}

/// What EXPLAIN calls its column.
pub(super) const PLAN_COLUMN: &str = "QUERY PLAN";

/// The OID of numeric.
const NUMERIC: u32 = 1700;
/// The OID of "any", of which no parameter is: values of it are not computed.
const NOT_KNOWN: u32 = 2276;

/// A constant as SQL writes it → the text of its value.
fn constant(written: &str) -> Result<Constant, ClientError> {
    let plain = |text: Option<String>| Ok(Constant { text, converted: false });
    let written = written.trim();
    let digits = written.trim_start_matches(['-', '+']).trim_start();
    let number = !digits.is_empty()
        && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
        && digits.chars().any(|c| c.is_ascii_digit());
    if number {
        let text = written.replace(' ', "");
        // An integer in its usual spelling is the same text in every type.
        let converted = text.parse::<i64>().map_or(true, |it| it.to_string() != text);
        return Ok(Constant { text: Some(text), converted });
    }
    if written.eq_ignore_ascii_case("null") {
        return plain(None);
    }
    if written.eq_ignore_ascii_case("true") || written.eq_ignore_ascii_case("false") {
        return plain(Some(written.to_ascii_lowercase()));
    }
    if let Some(inner) = written.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''))
        && !inner.replace("''", "").contains('\'')
    {
        return plain(Some(inner.replace("''", "'")));
    }
    Err(ClientError::unsupported(
        format_args!("EXECUTE with the argument {written} is not supported"),
        "Write constants as arguments, or use Bind and Execute messages.",
    ))
}

/// The types of `(int, text)`; [`NOT_KNOWN`] for a name that is not one of the shard keys' types.
fn type_oids(written: &str) -> Vec<u32> {
    let written = written.trim();
    let inner = written.strip_prefix('(').and_then(|it| it.strip_suffix(')')).unwrap_or(written);
    let mut depth = 0_i32;
    inner
        .split(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            c == ',' && depth == 0
        })
        // A parameter's type has no modifier: the server ignores it.
        .map(|name| match name.trim().strip_suffix(')').and_then(|it| it.split_once('(')) {
            Some((name, modifier)) if !modifier.contains(['(', ')']) => name,
            _ => name,
        })
        .map(|name| match name.trim().to_ascii_lowercase().as_str() {
            "unknown" => 0,
            "bigint" | "int8" => 20,
            "integer" | "int" | "int4" => 23,
            "smallint" | "int2" => 21,
            "text" => 25,
            "varchar" | "character varying" => 1043,
            "uuid" => 2950,
            "date" => 1082,
            "timestamptz" | "timestamp with time zone" => 1184,
            "bytea" => 17,
            "numeric" | "decimal" => 1700,
            "double precision" | "float8" => 701,
            "real" | "float4" => 700,
            "bigint[]" | "int8[]" => 1016,
            "integer[]" | "int[]" | "int4[]" => 1007,
            "text[]" => 1009,
            "uuid[]" => 2951,
            _ => NOT_KNOWN,
        })
        .collect()
}

/// An ErrorResponse with a detail added.
pub(super) fn with_detail(message: &[u8], detail: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut said = false;
    say::message(&mut out, b'E', |out| {
        for (kind, value) in flight::fields(message) {
            out.push(kind);
            out.extend_from_slice(value);
            if kind == b'D' {
                out.push(b' ');
                out.extend_from_slice(detail.as_bytes());
                said = true;
            }
            out.push(0);
        }
        if !said {
            out.push(b'D');
            out.extend_from_slice(detail.as_bytes());
            out.push(0);
        }
        out.push(0);
    });
    out
}

/// Where one statement goes and what of it is said, for the extended protocol's INSERT without a column list.
#[must_use]
pub fn text_for_servers(planned: &Planned, text: &str) -> String {
    match &planned.template.splice_columns {
        Some((at, columns)) => splice(text, planned.range.start + at, columns),
        None => text.to_owned(),
    }
}

/// Whether there is anything for [`Session::took_effect`] to do.
pub(super) fn leaves_something(command: &Command, effects: &Effects) -> bool {
    *command != Command::Data || effects.changes_schema || effects.unpins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_execute_are_read_as_constants_or_refused() {
        let same = |text: &str| Ok(Constant { text: Some(text.into()), converted: false });
        let converted = |text: &str| Ok(Constant { text: Some(text.into()), converted: true });
        assert_eq!(constant("5"), same("5"));
        assert_eq!(constant("- 5"), same("-5"));
        assert_eq!(constant(" - 5.5 "), converted("-5.5"));
        assert_eq!(constant("05"), converted("05"));
        assert_eq!(constant("-0"), converted("-0"));
        assert_eq!(constant("99999999999999999999"), converted("99999999999999999999"));
        assert_eq!(constant("'it''s'"), same("it's"));
        assert_eq!(constant("NULL"), Ok(Constant { text: None, converted: false }));
        assert!(constant("1 + 1").is_err());
        assert!(constant("'a' || 'b'").is_err());
    }

    #[test]
    fn types_of_prepare_are_known_or_not() {
        assert_eq!(type_oids("(bigint, text)"), [20, 25]);
        assert_eq!(type_oids("(numeric(5, 2), VARCHAR(3), int[])"), [1700, 1043, 1007]);
        assert_eq!(
            type_oids("(char(3), bpchar, unknown, timestamp(3) with time zone)"),
            [NOT_KNOWN, NOT_KNOWN, 0, NOT_KNOWN]
        );
    }

    #[test]
    fn a_detail_is_added_to_what_the_server_said() {
        let mut message = Vec::new();
        say::message(&mut message, b'E', |out| out.extend_from_slice(b"SERROR\0C42P07\0Mno\0\0"));
        let more = with_detail(&message, "Done on: s1.");
        let detail = flight::fields(&more).find(|(kind, _)| *kind == b'D').map(|(_, value)| value.to_vec());
        assert_eq!(detail, Some(b"Done on: s1.".to_vec()));
    }
}
