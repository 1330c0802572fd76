//! Query messages: one statement, or several in one text.

use std::rc::Rc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec;
use crate::exec::client::Message;
use crate::exec::flight;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Lost;
use crate::exec::flight::Outcome;
use crate::exec::flight::Show;
use crate::exec::link::Link;
use crate::exec::say;
use crate::ident::ShardSet;
use crate::plan;
use crate::plan::Command;
use crate::plan::Effects;
use crate::plan::Plan;
use crate::plan::Planned;
use crate::plan::World;
use crate::session::End;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::batch::Batch;
use crate::session::batch::Within;
use crate::session::cancel::Ticket;
use crate::session::command::leaves_something;
use crate::session::ddl::is_about_transaction;
use crate::session::extended::Reached;
use crate::session::gather::Said;
use crate::session::split::needs_block;
use crate::session::transaction::Kind;
use crate::session::transaction::Transaction;
use crate::topology::Entry;
use crate::wire::postgres::backend as reply;
use crate::wire::postgres::frontend;

/// How long a server may take to say whether it would refuse a text, too.
const ASK_MAX: Duration = Duration::from_secs(3);

/// What is sent to servers as a Query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    /// The text.
    pub(super) sql: &'a str,
    /// What it does to data.
    pub(super) access: plan::Access,
    /// What it is.
    pub(super) command: &'a Command,
    /// What else it does.
    pub(super) effects: &'a Effects,
    /// Whether it stands alone.
    pub(super) place: Place,
    /// Where it stands in the client's text, in characters.
    pub(super) offset: u32,
}

/// Whether a statement stands alone in its Query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It does: the server's ReadyForQuery may go to the client as it comes.
    Alone,
    /// Others stand beside it.
    Among,
}

/// What a server is asked before the client is told of an error of the proxy's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask<'a> {
    /// Whether anything is wrong with the text.
    Text,
    /// Whether it can be read at all.
    Syntax,
    /// Whether this Bind message has as many values as the text takes.
    Values(&'a [u8]),
}

impl Session {
    /// Answers a Query.
    pub(super) async fn simple(&mut self, message: &Message) -> Result<(), End> {
        if self.skipping {
            return Ok(());
        }
        if self.within_batch() || self.batch.is_begun() {
            self.client.in_hand = true;
            let within = Box::pin(self.query_within()).await;
            self.client.in_hand = false;
            match within? {
                Within::Run => {}
                Within::Skip => return Ok(()),
                Within::Refused => return Box::pin(self.refused_within()).await,
            }
        }
        self.batch_writer = None;
        self.batch.is_over();
        // A server forgets both at every Query.
        self.unnamed = None;
        if !self.portals.is_empty() {
            self.portals.remove("");
        }
        let mut text = self.worker.pools.outbox();
        match frontend::Query::read(self.client.bytes(message.body())) {
            Ok(query) => text.extend_from_slice(query.text),
            Err(violation) => return Err(End::Fatal(violation.into())),
        }
        let result = match std::str::from_utf8(&text) {
            Ok(text) => Box::pin(self.query(text)).await,
            Err(_) => Err(Trouble::Refused(not_utf8())),
        };
        self.worker.pools.keep_outbox(text);
        let (shown, done) = match result {
            Ok(shown) => (shown, true),
            Err(Trouble::Shown) => (true, false),
            Err(trouble) => {
                self.tell(trouble)?;
                (false, false)
            }
        };
        if self.transaction.kind == Kind::Implicit
            && let Err(trouble) = Box::pin(self.end_implicit(done && !self.transaction.failed)).await
        {
            self.tell(trouble)?;
        }
        self.batch.quiet = false;
        self.batch_writer = None;
        self.batch.is_over();
        if self.batch.is_begun() {
            let unreported = self.batch.unreported;
            self.batch = Batch::default();
            if unreported {
                self.report();
            }
        }
        if self.pins_suspect && !self.transaction.is_open() {
            Box::pin(self.look_at_pins()).await?;
        }
        if !shown {
            return self.ready().await;
        }
        self.answered();
        Ok(())
    }

    /// What a Query's answer means for the session. True: the client has been told that it may go on.
    pub(super) fn shown(&mut self, outcome: &Outcome) -> Result<bool, Trouble> {
        if outcome.failed.is_none() {
            return Ok(outcome.ready_shown);
        }
        // What the server said to the client includes that it may go on, when the statement stood alone.
        self.transaction.failed = self.transaction.is_open();
        self.readback.clear();
        Err(if outcome.ready_shown { Trouble::Shown } else { Trouble::Failed })
    }

    /// Tells the client what there is to tell; ends the session where it must.
    pub(super) fn tell(&mut self, trouble: Trouble) -> Result<(), End> {
        match trouble {
            Trouble::Refused(error) => self.refuse(error),
            Trouble::Told(message) => {
                self.client.push(&message);
                self.transaction.failed = self.transaction.is_open();
            }
            Trouble::Failed | Trouble::Shown => self.transaction.failed = self.transaction.is_open(),
            Trouble::End(end) => return Err(end),
        }
        self.items.clear();
        self.release_idle();
        Ok(())
    }

    /// Runs a text. True: the client has been told that it may go on.
    async fn query(&mut self, text: &str) -> Result<bool, Trouble> {
        if self.transaction.altered && !is_about_transaction(text) {
            Box::pin(self.learn_schema()).await?;
        }
        let world = self.world()?;
        let compiled = self.worker.planner.borrow_mut().compile(text, &world);
        let statements = match compiled {
            Ok(statements) => statements,
            Err(error) => return Box::pin(self.piecemeal(error, text, &world)).await,
        };
        // Where the client is to be told of settings before it may go on (those of a transaction, should this fail), the
        // proxy tells it both.
        let reports = self.batch.unreported || self.transaction.has_set(&self.state.settings);
        let place = if reports { Place::Among } else { Place::Alone };
        match statements.as_slice() {
            [] => {
                reply::empty_query(self.client.out());
                Ok(false)
            }
            [only] if self.transaction.kind != Kind::Implicit => self.statement(text, only, place, &world).await,
            all => {
                if let [only] = all {
                    let sql = text.get(only.range.clone()).unwrap_or_default();
                    self.alone_within(sql, &only.template.command)?;
                }
                if self.transaction.kind != Kind::Implicit
                    && let Some((shards, access, effects)) = together(all, text, &world)
                    && !(self.transaction.is_open() && self.transaction.failed)
                {
                    let order =
                        Order { sql: text, access, command: &Command::Data, effects: &effects, place, offset: 0 };
                    return self.send(&order, &shards).await;
                }
                // Boxed, as all that is not done for every statement: the future that every statement needs stays small.
                Box::pin(self.several(text, all)).await
            }
        }
    }

    /// Runs the statements of one text one after the other, as one transaction where the client has none open.
    async fn several(&mut self, text: &str, all: &[Planned]) -> Result<bool, Trouble> {
        let compiled_in = self.world()?.id;
        for statement in all {
            self.begin_implicit();
            let sql = text.get(statement.range.clone()).unwrap_or_default();
            if self.transaction.altered && !is_about_transaction(sql) {
                Box::pin(self.learn_schema()).await?;
            }
            let world = self.world()?;
            if world.id == compiled_in {
                self.statement(text, statement, Place::Among, &world).await?;
            } else {
                // A statement before it changed what the text means: its search_path, say.
                let piece = in_place(text, &statement.range);
                let compiled = self.worker.planner.borrow_mut().compile(&piece, &world);
                let again = match compiled {
                    Ok(again) => again,
                    Err(error) => return Err(self.verified(error, &piece, &[], &world).await),
                };
                for statement in &again {
                    self.statement(&piece, statement, Place::Among, &world).await?;
                }
            }
            if self.client.is_full() {
                self.client.flush().await?;
            }
        }
        Ok(false)
    }

    /// What the statements of one Query are run in where the client has no transaction open.
    pub(super) fn begin_implicit(&mut self) {
        // Settings are told of once, at the end.
        self.batch.quiet = true;
        if self.transaction.kind == Kind::None {
            self.transaction = Transaction {
                kind: Kind::Implicit,
                settings_before: std::sync::Arc::clone(&self.state.settings),
                ..Transaction::default()
            };
        }
    }

    /// Runs a text of which one statement at least is refused: a server runs what stands before the first one that it
    /// refuses itself.
    async fn piecemeal(&mut self, error: ClientError, text: &str, world: &Rc<World>) -> Result<bool, Trouble> {
        let pieces = self.worker.planner.borrow_mut().pieces(text);
        if pieces.len() < 2 || !self.state.pins.is_empty() {
            return Err(self.verified(error, text, &[], world).await);
        }
        match self.asked(error.clone(), text, &[], world, Ask::Text).await {
            // The server can read it all, and then finds that it is more than one.
            Trouble::Told(said) if !flight::fields(&said).any(|(kind, _)| kind == b'P') => {}
            other => return Err(other),
        }
        // Each in its place, so that errors are told where they stand.
        let pieces: Vec<String> = pieces.iter().map(|range| in_place(text, range)).collect();
        for piece in &pieces {
            let compiled = self.worker.planner.borrow_mut().compile(piece, world);
            if let Err(error) = compiled
                && let refused @ Trouble::Refused(_) = self.asked(error, piece, &[], world, Ask::Text).await
            {
                return Err(refused);
            }
        }
        for piece in &pieces {
            self.begin_implicit();
            if self.transaction.altered {
                Box::pin(self.learn_schema()).await?;
            }
            let world = self.world()?;
            let compiled = self.worker.planner.borrow_mut().compile(piece, &world);
            let statements = match compiled {
                Ok(statements) => statements,
                Err(error) => return Err(self.verified(error, piece, &[], &world).await),
            };
            for statement in &statements {
                self.statement(piece, statement, Place::Among, &world).await?;
            }
        }
        Ok(false)
    }

    /// Runs one statement. True: the client has been told that it may go on.
    async fn statement(
        &mut self,
        text: &str,
        statement: &Planned,
        place: Place,
        world: &Rc<World>,
    ) -> Result<bool, Trouble> {
        let template = Rc::clone(&statement.template);
        self.fit_for(&template.command)?;
        match &template.command {
            Command::Data | Command::Declare { .. } | Command::Notify | Command::Listen => {
                self.data(text, statement, place, world).await
            }
            Command::Ddl => Box::pin(self.ddl(text, statement, place, world)).await,
            Command::Show(name) if !name.starts_with("shardway.") => {
                let shards = ShardSet::one(self.any_shard());
                let sql = text.get(statement.range.clone()).unwrap_or_default();
                let offset = characters(text, statement.range.start);
                let order = Order {
                    sql,
                    access: plan::Access::ReadPrimary,
                    command: &Command::Data,
                    effects: &Effects::default(),
                    place,
                    offset,
                };
                self.send(&order, &shards).await
            }
            _ => {
                let sql = text.get(statement.range.clone()).unwrap_or_default();
                Box::pin(self.command(sql, &template.command)).await?;
                Ok(false)
            }
        }
    }

    /// Whether the transaction is in a state for that command.
    pub(super) fn fit_for(&self, command: &Command) -> Result<(), ClientError> {
        let ends =
            matches!(command, Command::Rollback(_) | Command::Commit(_) | Command::RollbackTo(_) | Command::Empty);
        if self.transaction.is_open() && self.transaction.failed && !ends {
            return Err(ClientError::new(
                Code::TransactionAborted,
                "current transaction is aborted, commands ignored until end of transaction block",
                "ROLLBACK, or ROLLBACK TO a savepoint made before the error.",
            ));
        }
        Ok(())
    }

    /// Plans and sends one statement.
    pub(super) async fn data(
        &mut self,
        text: &str,
        statement: &Planned,
        place: Place,
        world: &Rc<World>,
    ) -> Result<bool, Trouble> {
        let template = &statement.template;
        if statement.draws() {
            self.note_effect();
            return Box::pin(self.draw(text, statement, place, world)).await;
        }
        let plan = match statement.plan(text, None, world) {
            Ok(Plan::LookUp(wanted)) => {
                let fresh = template.access == plan::Access::Write;
                let again = |known: &plan::Known| statement.plan_knowing(text, None, world, known);
                match Box::pin(self.plan_by_directory(*wanted, fresh, world, &again)).await {
                    Err(Trouble::Refused(error)) => Err(error),
                    Err(trouble) => return Err(trouble),
                    Ok(plan) => Ok(plan),
                }
            }
            plan => plan,
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                let sql = text.get(statement.range.clone()).unwrap_or_default();
                if let Some(at) = template.explained_at
                    && error.code == Code::Unsupported
                    && Box::pin(self.explain_spread(sql, at..sql.len())).await?
                {
                    return Ok(false);
                }
                return Err(Box::pin(self.verified(error, sql, &[], world)).await);
            }
        };
        let mut place = place;
        if self.moment_due(&plan, template) {
            Box::pin(self.take_moment()).await?;
            if self.transaction.kind == Kind::Implicit {
                place = Place::Among;
            }
        }
        let shards = match &plan {
            // Without values a server refuses every parameter.
            Plan::Gather(_) if template.parameters > 0 => ShardSet::one(world.database.catalog),
            Plan::Gather(gather) => {
                return Box::pin(self.gathered(text, statement, gather, place)).await;
            }
            // Without values a server refuses every parameter.
            Plan::Split(_) | Plan::Carry if template.parameters > 0 => ShardSet::one(world.database.catalog),
            Plan::Carry => return Box::pin(self.carry(text, statement, world)).await,
            Plan::Copy(copy) => {
                self.begin_implicit();
                let sql = text.get(statement.range.clone()).unwrap_or_default();
                let offset = characters(text, statement.range.start);
                Box::pin(self.copy_rows(sql, copy, world, &template.effects, offset)).await?;
                return Ok(false);
            }
            Plan::Split(split) => {
                if place == Place::Alone && self.transaction.kind != Kind::Explicit {
                    needs_block(template)?;
                }
                self.begin_implicit();
                let offset = characters(text, statement.range.start);
                let said = Said { text, planned: statement, types: &[], values: &[], offset };
                return Box::pin(self.split(said, split)).await;
            }
            plan => self.shards(plan)?,
        };
        self.may_be_packed(template, &shards)?;
        if template.access == plan::Access::Write && shards.len() > 1 && self.transaction.kind == Kind::None {
            // What several shards write is one transaction.
            self.begin_implicit();
            place = Place::Among;
        }
        let spliced;
        let (sql, offset) = match &template.splice_columns {
            // The columns that were assumed are written out, so that a table changed meanwhile is the server's error.
            Some((at, columns)) => {
                let sql = text.get(statement.range.clone()).unwrap_or_default();
                spliced = splice(sql, *at, columns);
                (spliced.as_str(), characters(text, statement.range.start))
            }
            None if place == Place::Alone => (text, 0),
            None => (text.get(statement.range.clone()).unwrap_or_default(), characters(text, statement.range.start)),
        };
        let (command, effects) = (&template.command, &template.effects);
        let access = match command {
            Command::Listen | Command::Notify => plan::Access::ReadPrimary,
            _ => template.access,
        };
        let shown = self.send(&Order { sql, access, command, effects, place, offset }, &shards).await?;
        if leaves_something(command, effects) {
            Box::pin(self.took_effect(command, effects, &shards)).await?;
        }
        Ok(shown)
    }

    /// Sends a text to shards as a Query, and forwards the answer. Fails with [`Trouble::Failed`] when a server raised
    /// an error (which has gone through).
    pub(super) async fn send(&mut self, order: &Order<'_>, shards: &ShardSet) -> Result<bool, Trouble> {
        let &Order { sql, access, command, effects, place, offset } = order;
        self.admit(shards, access, effects)?;
        let links: SmallVec<[u8; 8]> = match shards.only() {
            Some(shard) => {
                let at = self.join(shard, access).await?;
                SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)])
            }
            None => Box::pin(self.join_all(shards, access)).await?,
        };
        for at in &links {
            self.prefix(usize::from(*at));
        }
        if effects.outside_transaction && !self.items.is_empty() {
            // Nothing may stand in the same flight: settings would make it a transaction block.
            for at in &links {
                if let Some(link) = self.links.get_mut(usize::from(*at)) {
                    link.say_sync();
                }
            }
            self.items.push(Item::Owed { expect: Expect::Sync, links: links.clone(), show: Show::Nobody, prepares: 0 });
            let kept: SmallVec<[u32; 8]> = links.iter().map(|at| self.keep(usize::from(*at))).collect();
            let outcome = self.fly(0, false).await;
            for id in kept {
                self.unkeep(id);
            }
            if outcome?.failed.is_some() {
                return Err(Trouble::Failed);
            }
        }
        for at in &links {
            if let Some(link) = self.links.get_mut(usize::from(*at)) {
                link.say_query(sql);
                link.wrote |= access == plan::Access::Write || *command == Command::Notify;
                link.unpreparable |= *command == Command::Notify;
            }
            self.hold_for(effects, command, usize::from(*at));
        }
        if access == plan::Access::Write && !self.transaction.is_open() {
            self.access.service.gate.pass().await;
        }
        // What set_config came to may have to be refused before the client may go on.
        let alone = place == Place::Alone && effects.set_config.is_empty();
        let show = if alone { Show::Client } else { Show::ClientWithoutReady };
        if effects.headed && links.len() > 1 {
            self.items.push(Item::Headed);
        }
        self.items.push(Item::Owed { expect: Expect::Query, links, show, prepares: 0 });
        let outcome = self.fly(offset, alone).await?;
        let shown = self.shown(&outcome)?;
        if !self.readback.is_empty() {
            Box::pin(self.read_back()).await?;
        }
        Ok(shown)
    }

    /// A refusal, after the catalog shard has been asked whether it would not refuse as well: then its own error is what
    /// the client must see (promise 1).
    pub(super) async fn verified(&mut self, error: ClientError, sql: &str, types: &[u32], world: &World) -> Trouble {
        if error.code.sqlstate() != "0A000" || error.code == Code::SecondWritingShard {
            return Trouble::Refused(error);
        }
        // A server that can read the text looks at the transaction before it looks at what the text means.
        if let Err(aborted) = self.fit_for(&Command::Data) {
            return self.asked(aborted, sql, types, world, Ask::Syntax).await;
        }
        self.asked(error, sql, types, world, Ask::Text).await
    }

    /// An error of the proxy's own, after the catalog shard has been asked whether it has another one before it: at
    /// Parse, or with the values of a Bind at their count.
    pub(super) async fn asked(
        &mut self,
        error: ClientError,
        sql: &str,
        types: &[u32],
        world: &World,
        ask: Ask<'_>,
    ) -> Trouble {
        if !self.state.pins.is_empty() {
            return Trouble::Refused(error);
        }
        let mut shard = world.database.catalog;
        // Nobody else knows what the transaction has changed. It fails in any case.
        if self.transaction.schema.is_some()
            && let Some(at) = self.links.iter().position(|link| link.begun && link.shard == shard)
        {
            return match Box::pin(self.asked_within(at, sql, types)).await {
                Ok(Some(said)) if ask == Ask::Text => Trouble::Told(said),
                Ok(_) => Trouble::Refused(error),
                Err(trouble) => trouble,
            };
        }
        // What is not on the catalog shard may be on another, which is asked then.
        for _ in 0..2 {
            match self.asked_at(shard, sql, types, ask).await {
                Some((sqlstate, said)) => {
                    let is_missing = matches!(&sqlstate, b"42P01" | b"3F000");
                    let homes = if is_missing { names_in(&said) } else { Vec::new() };
                    match homes.iter().find_map(|name| world.lives_elsewhere(name, shard)) {
                        Some(home) => shard = home,
                        None if ask == Ask::Text
                            || sqlstate == *(if ask == Ask::Syntax { b"42601" } else { b"08P01" }) =>
                        {
                            return Trouble::Told(said);
                        }
                        None => break,
                    }
                }
                None => break,
            }
        }
        Trouble::Refused(error)
    }

    /// What one shard's server has against a text: its SQLSTATE and all of it.
    async fn asked_at(
        &mut self,
        shard: crate::ident::ShardId,
        sql: &str,
        types: &[u32],
        ask: Ask<'_>,
    ) -> Option<([u8; 5], Vec<u8>)> {
        let access = Rc::clone(&self.access);
        let mut link = access.primary(shard, Entry::Joins).await.ok()?;
        let wanted = std::sync::Arc::clone(&self.state.settings);
        let difference = link.connection.settings.difference(&wanted);
        link.say_close_setter();
        say::settings(&mut link.out, &difference);
        link.connection.settings = wanted;
        let mut links = vec![link];
        let link = links.first_mut()?;
        if ask == Ask::Syntax {
            // Where a transaction has failed, a server reads the text and does no more; SQLSTATE 42601 alone does not tell
            // what it cannot read from what it does not understand.
            link.say_sync();
            self.flown(&mut links, Expect::Sync).await?.ok()?;
            links.first_mut()?.say_query("BEGIN; SELECT 1 / 0");
            self.flown(&mut links, Expect::Query).await?.ok()?;
        }
        let link = links.first_mut()?;
        link.connection.unnamed = 0;
        say::parse(&mut link.out, "", sql, types);
        if let Ask::Values(bind) = ask {
            link.out.extend_from_slice(bind);
        }
        link.say_sync();
        let outcome = self.flown(&mut links, Expect::Sync).await?;
        if ask == Ask::Syntax {
            links.first_mut()?.say_query("ROLLBACK");
            self.flown(&mut links, Expect::Query).await?.ok()?;
        }
        let failed = matches!(&outcome, Ok(outcome) if outcome.failed.is_some());
        for mut link in links {
            if failed {
                link.connection.doubt_prepared(say::SETTER_NUMBER);
            }
            link.ended(!failed);
            access.release(link);
        }
        match outcome {
            Ok(Outcome { failed: Some(failure), collected, .. }) => Some((failure.sqlstate, only_error(&collected))),
            Ok(_) | Err(_) => None,
        }
    }

    /// Sends what was said on the only link of `links`, and collects the answer. `None`: it took too long.
    async fn flown(&mut self, links: &mut Vec<Link>, expect: Expect) -> Option<Result<Outcome, Lost>> {
        let items = [Item::Owed { expect, links: SmallVec::from_slice(&[0]), show: Show::Caller, prepares: 0 }];
        let mut crew = crate::exec::flight::Crew { links, client: &mut self.client, offset: 0 };
        let running = crate::exec::flight::run(&items, &mut crew, false);
        // It may wait for a lock, even for one that this very transaction holds.
        let limit = exec::limit(self.map.timeouts.statement).map_or(ASK_MAX, |it| it.min(ASK_MAX));
        let Ok(outcome) = tokio::time::timeout(limit, running).await else {
            // Dropped, the links close their connections.
            links.iter().for_each(|link| Ticket::cancel_now(&link.connection));
            return None;
        };
        Some(outcome)
    }
}

impl Session {
    /// What the server of a link of the open transaction has against a text, if anything.
    async fn asked_within(&mut self, at: usize, sql: &str, types: &[u32]) -> Result<Option<Vec<u8>>, Trouble> {
        let within = self.within_batch();
        if within && self.fly_batch().await? == Reached::Failed {
            return Err(Trouble::Failed);
        }
        let Some(link) = self.links.get_mut(at) else { return Ok(None) };
        say::parse(&mut link.out, "", sql, types);
        link.connection.unnamed = 0;
        link.unsynced = true;
        let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        if !within {
            link.say_sync();
        }
        self.items.push(Item::Owed { expect: Expect::Parse, links: links.clone(), show: Show::Caller, prepares: 0 });
        if within {
            self.say_flush();
        } else {
            self.items.push(Item::Owed { expect: Expect::Sync, links, show: Show::Nobody, prepares: 0 });
        }
        let outcome = self.fly(0, false).await?;
        Ok(outcome.failed.is_some().then(|| only_error(&outcome.collected)))
    }
}

/// The first ErrorResponse of what was collected.
pub(super) fn only_error(collected: &[u8]) -> Vec<u8> {
    messages(collected).find(|message| message.first() == Some(&b'E')).unwrap_or_default().to_vec()
}

/// What stands in double quotes in the message of the first ErrorResponse.
fn names_in(collected: &[u8]) -> Vec<String> {
    let error = only_error(collected);
    let message = crate::exec::flight::fields(&error).find(|(kind, _)| *kind == b'M').map(|(_, it)| it);
    let message = String::from_utf8_lossy(message.unwrap_or_default()).into_owned();
    message.split('"').enumerate().filter(|(at, _)| at % 2 == 1).map(|(_, it)| it.to_owned()).collect()
}

/// Cuts collected bytes into whole messages.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let &[_, a, b, c, d] = bytes.first_chunk::<5>()?;
        let length = u32::from_be_bytes([a, b, c, d]) as usize + 1;
        let (message, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        Some(message)
    })
}

/// Where all statements of a text go, when they can go there as one text.
fn together(all: &[Planned], text: &str, world: &World) -> Option<(ShardSet, plan::Access, Effects)> {
    let mut shard = None;
    let mut access = plan::Access::ReadPrimary;
    let mut together = Effects::default();
    for statement in all {
        let template = &statement.template;
        let Ok(Plan::One(here)) = statement.plan(text, None, world) else { return None };
        if !template.is_plain() || shard.is_some_and(|before| before != here) {
            return None;
        }
        shard = Some(here);
        together.uses_now |= template.effects.uses_now;
        together.asks_drawn |= template.effects.asks_drawn && !together.draws_surely;
        together.draws |= template.effects.draws;
        together.draws_surely |= template.effects.draws_surely;
        together.changes_directory |= template.effects.changes_directory;
        if template.access == plan::Access::Write {
            access = plan::Access::Write;
        }
    }
    Some((ShardSet::one(shard?), access, together))
}

/// A part of a text, behind as many blanks as there are characters before it: errors are told where it stands.
fn in_place(text: &str, range: &std::ops::Range<usize>) -> String {
    let before = usize::try_from(characters(text, range.start)).unwrap_or(0);
    format!("{:before$}{}", "", text.get(range.clone()).unwrap_or_default())
}

/// How many characters stand before byte `at`.
pub(super) fn characters(text: &str, at: usize) -> u32 {
    u32::try_from(text.get(..at).unwrap_or_default().chars().count()).unwrap_or(0)
}

/// The statement with `insertion` at byte `at`.
pub(super) fn splice(sql: &str, at: usize, insertion: &str) -> String {
    match sql.split_at_checked(at) {
        Some((before, after)) => format!("{before}{insertion}{after}"),
        None => sql.to_owned(),
    }
}

pub(super) fn not_utf8() -> ClientError {
    ClientError::unsupported(
        "statement text that is not UTF-8 is not supported",
        "Use client_encoding = UTF8, or send only ASCII in the text and the rest as parameters.",
    )
}
