//! The extended protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync.
//!
//! What comes between two Syncs is one flight where possible: messages are gathered per server connection and sent when
//! the client flushes or syncs. Where a statement goes is known at Bind, so a Parse waits (`deferred`) for the message
//! that needs it.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec::client::Message;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Order;
use crate::exec::flight::Outcome;
use crate::exec::flight::Show;
use crate::exec::say;
use crate::exec::say::StatementName;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan;
use crate::plan::Command;
use crate::plan::Plan;
use crate::plan::Planned;
use crate::plan::Split;
use crate::plan::World;
use crate::session::End;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::batch::Batch;
use crate::session::batch::Undo;
use crate::session::command::PLAN_COLUMN;
use crate::session::command::leaves_something;
use crate::session::command::no_statement;
use crate::session::command::text_for_servers;
use crate::session::ddl::is_about_transaction;
use crate::session::gather::Binding;
use crate::session::moves::Moved;
use crate::session::prepared::Prepared;
use crate::session::simple::Ask;
use crate::session::simple::messages;
use crate::session::simple::not_utf8;
use crate::session::simple::only_error;
use crate::session::split::needs_block;
use crate::session::transaction::Kind;
use crate::wire::postgres::backend as reply;
use crate::wire::postgres::frame::Frame;
use crate::wire::postgres::frontend;
use crate::wire::postgres::frontend::Format;
use crate::wire::postgres::frontend::Target;

/// A Parse that waits for the link it will be said on.
#[derive(Debug)]
pub struct Deferred {
    pub(super) prepared: Rc<Prepared>,
    pub(super) undo: Undo,
}

/// A portal of the client.
#[derive(Debug)]
pub struct Portal {
    pub(super) prepared: Rc<Prepared>,
    pub(super) planned: Option<Rc<Planned>>,
    /// Where it was bound: the links' numbers. None: the session answers it itself.
    pub(super) links: SmallVec<[u32; 4]>,
    /// How many savepoints there were.
    pub(super) depth: usize,
    /// Its rows come from all these links in this order; the RowDescription.
    pub(super) order: Option<(Rc<Order>, Rc<[u8]>)>,
    /// It is a write of which each shard was told a part.
    pub(super) parts: Option<Parts>,
}

/// A write of which each shard was told a part.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) split: Rc<Split>,
    /// The RowDescription, if it gives rows.
    pub(super) columns: Option<Rc<[u8]>>,
    /// Rows move.
    pub(super) moved: Option<Rc<Moved>>,
}

/// What became of a part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// It was answered.
    Good,
    /// A server raised an error, which the client has been told: everything is skipped until Sync.
    Failed,
}

/// Bytes that wait for a server before they are sent without waiting for Sync.
const BATCH_MAX: usize = 1 << 20;

impl Session {
    /// Takes in one message of the extended protocol.
    pub(super) async fn extended(&mut self, message: &Message) -> Result<(), End> {
        if message.kind == b'S' {
            return self.sync().await;
        }
        if self.skipping {
            return Ok(());
        }
        self.client.in_hand = message.kind != b'H';
        let result = self.part(message).await;
        self.client.in_hand = false;
        let result = match result {
            Ok(()) if self.links.iter().any(|link| link.out.len() > BATCH_MAX) => Box::pin(self.flush_batch()).await,
            other => other,
        };
        match result {
            Ok(()) => Ok(()),
            Err(trouble) => Box::pin(self.break_off(trouble)).await,
        }
    }

    /// Takes in one message of a batch that is neither Sync nor to be skipped.
    async fn part(&mut self, message: &Message) -> Result<(), Trouble> {
        if self.batch.held.is_some() {
            Box::pin(self.settle_held(message.kind)).await?;
        }
        if !self.readback.is_empty() && matches!(message.kind, b'P' | b'B' | b'D' | b'E') {
            Box::pin(self.learn_settings()).await?;
        }
        if self.transaction.altered && self.needs_schema(message) {
            Box::pin(self.learn_schema()).await?;
        }
        match message.kind {
            b'P' => self.parse(message).await,
            b'B' => self.bind(message).await,
            b'D' => self.describe(message).await,
            b'E' => self.execute(message).await,
            b'C' => self.close(message).await,
            _ => Box::pin(self.flush_batch()).await,
        }
    }

    /// Whether a message is planned: not what ends the transaction.
    fn needs_schema(&self, message: &Message) -> bool {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok_and(|it| !is_about_transaction(it));
        match message.kind {
            b'P' => frontend::Parse::read(self.client.bytes(message.body())).is_ok_and(|it| text(it.text)),
            b'B' => {
                let Ok(view) = frontend::Bind::read(self.client.bytes(message.body())) else { return false };
                let name = std::str::from_utf8(view.statement).unwrap_or_default();
                let named = if name.is_empty() { self.unnamed.as_ref() } else { self.prepared.get(name) };
                named.is_none_or(|it| text(it.text.as_bytes()))
            }
            _ => false,
        }
    }

    /// An error within a batch: what came before it is answered first, then everything is skipped until Sync.
    pub(super) async fn break_off(&mut self, trouble: Trouble) -> Result<(), End> {
        self.skipping = true;
        let whole = matches!(&trouble, Trouble::Refused(error) if error.code == Code::SecondWritingShard)
            && !self.links.iter().any(|link| link.pinned && link.unsynced);
        if whole && !self.transaction.is_open() && !self.batch_flown {
            // Nothing of the batch has been sent, and nothing of it will be.
            self.items.clear();
            self.deferred = None;
            self.undo.clear();
            self.executed.clear();
            self.readback.clear();
            self.drop_busy();
        } else if !matches!(trouble, Trouble::End(_) | Trouble::Failed | Trouble::Shown) {
            if let Some(deferred) = self.deferred.take() {
                self.undo.push((self.items.len(), deferred.undo));
                self.items.push(Item::Local(PARSE_COMPLETE.into()));
            }
            match Box::pin(self.fly_batch()).await {
                Ok(Reached::Good) => {}
                // What came before has failed, which the client has been told: it was the first error, and the only one.
                Ok(Reached::Failed) => return Ok(()),
                Err(earlier) => return self.tell(earlier),
            }
        }
        self.tell(trouble)
    }

    // ── messages ──

    async fn parse(&mut self, message: &Message) -> Result<(), Trouble> {
        self.settle_deferred().await?;
        let unnamed = self.client.bytes(message.body()).first() == Some(&0);
        let result = self.parse_statement(message).await;
        if result.is_err() && unnamed {
            // A server drops it before it looks at the new one.
            self.undo.push((self.items.len(), Undo::Unnamed(self.unnamed.take())));
        }
        result
    }

    async fn parse_statement(&mut self, message: &Message) -> Result<(), Trouble> {
        let view = frontend::Parse::read(self.client.bytes(message.body())).map_err(fatal)?;
        let name = std::str::from_utf8(view.name).map_err(|_| not_utf8())?;
        let text: Arc<str> = std::str::from_utf8(view.text).map_err(|_| not_utf8())?.into();
        let types: Vec<u32> = view.types().collect();
        let named: Option<Box<str>> = (!name.is_empty()).then(|| name.into());
        let taken = named.as_ref().filter(|name| self.prepared.contains_key(*name)).map(|name| {
            ClientError::new(
                Code::DuplicateStatement,
                format_args!("prepared statement \"{name}\" already exists"),
                "Close it first, or choose another name.",
            )
        });
        let world = self.world()?;
        let compiled = self.worker.planner.borrow_mut().compile(&text, &world);
        let planned = match compiled {
            Ok(mut statements) if statements.len() <= 1 => statements.pop().map(Rc::new),
            Ok(_) => {
                let error = ClientError::unsupported(
                    "several commands in one prepared statement are not supported",
                    "Prepare them one by one, or send them as a simple query.",
                );
                return Err(Box::pin(self.verified(error, &text, &types, &world)).await);
            }
            Err(error) => match taken {
                // A server looks at the text first, and then at the name.
                Some(taken) if error.code.sqlstate() == "0A000" && self.fit_for(&Command::Data).is_ok() => {
                    return Err(Box::pin(self.asked(taken, &text, &types, &world, Ask::Text)).await);
                }
                _ => return Err(Box::pin(self.verified(error, &text, &types, &world)).await),
            },
        };
        if let Some(planned) = &planned {
            self.fit_for(&planned.template.command)?;
        }
        if let Some(taken) = taken {
            return Err(Box::pin(self.asked(taken, &text, &types, &world, Ask::Text)).await);
        }
        let number = match &named {
            Some(_) => self.worker.registry.number(&text, &types, None, &world),
            None => self.worker.registry.fresh(),
        };
        let local = planned.as_ref().is_none_or(|planned| is_local(&planned.template.command));
        let prepared = Rc::new(Prepared {
            text,
            types,
            written_types: None,
            number,
            compiled: (world.id, planned).into(),
            drawn: None.into(),
            passing: false,
        });
        let undo = match named {
            Some(name) => {
                let before = self.prepared.insert(name.clone(), Rc::clone(&prepared));
                Undo::Statement(name, before)
            }
            None => Undo::Unnamed(self.unnamed.replace(Rc::clone(&prepared))),
        };
        if local {
            self.undo.push((self.items.len(), undo));
            self.items.push(Item::Local(PARSE_COMPLETE.into()));
        } else {
            self.deferred = Some(Deferred { prepared, undo });
        }
        Ok(())
    }

    async fn bind(&mut self, message: &Message) -> Result<(), Trouble> {
        let view = frontend::Bind::read(self.client.bytes(message.body())).map_err(fatal)?;
        let name = std::str::from_utf8(view.statement).map_err(|_| not_utf8())?;
        let prepared = self.named(name)?;
        self.keep_deferred_for(&prepared).await?;
        self.bind_to(message, prepared).await
    }

    /// Binds that statement, whatever the message calls it.
    pub(super) async fn bind_to(&mut self, message: &Message, prepared: Rc<Prepared>) -> Result<(), Trouble> {
        let body = message.body();
        let view = frontend::Bind::read(self.client.bytes(body.clone())).map_err(fatal)?;
        let portal_name: Box<str> = std::str::from_utf8(view.portal).map_err(|_| not_utf8())?.into();
        let world = self.world()?;
        let planned = self.compiled(&prepared, &world)?;
        if planned.as_ref().is_none_or(|planned| is_local(&planned.template.command)) {
            self.no_values(message)?;
        }
        let fit = match &planned {
            Some(planned) if planned.template.command != Command::Empty => self.fit_for(&planned.template.command),
            // Nothing at all may be parsed in a transaction that has failed, but not bound.
            _ => self.fit_for(&Command::Data),
        };
        let taken = !portal_name.is_empty() && self.portals.contains_key(&portal_name);
        let error = match fit {
            Err(error) => Some(error),
            Ok(()) => taken.then(|| {
                ClientError::new(
                    Code::DuplicatePortal,
                    format_args!("cursor \"{portal_name}\" already exists"),
                    "Close it first, or choose another name.",
                )
            }),
        };
        if let Some(error) = error {
            if planned.as_ref().is_none_or(|planned| is_local(&planned.template.command)) {
                return Err(error.into());
            }
            // A server counts the values first.
            let text = text_for_servers_of(&prepared);
            let mut bind = Vec::new();
            let whole = self.client.bytes(message.whole.clone());
            let frame = Frame { kind: b'B', body: self.client.bytes(body.clone()), bytes: whole };
            frontend::with_statement(&mut bind, &frame, b"").map_err(fatal)?;
            return Err(Box::pin(self.asked(error, &text, &prepared.types, &world, Ask::Values(&bind))).await);
        }
        if let Some(Command::Fetch(cursor) | Command::Close(Some(cursor))) =
            planned.as_ref().map(|planned| &planned.template.command)
            && !self.cursors.contains_key(cursor)
        {
            // It may be declared in what has not been sent yet. If there is none, Execute says so.
            self.settle_deferred().await?;
            if Box::pin(self.fly_batch()).await? == Reached::Failed {
                return Ok(());
            }
            if !self.cursors.contains_key(cursor) {
                self.no_values(message)?;
                let depth = self.transaction.savepoints.len();
                self.put_portal(
                    portal_name,
                    Portal { prepared, planned, links: SmallVec::new(), depth, order: None, parts: None },
                );
                self.items.push(Item::Local(BIND_COMPLETE.into()));
                return Ok(());
            }
        }
        let on_servers = match &planned {
            Some(planned) if !is_local(&planned.template.command) => Rc::clone(planned),
            _ => {
                let depth = self.transaction.savepoints.len();
                let portal = Portal { prepared, planned, links: SmallVec::new(), depth, order: None, parts: None };
                self.put_portal(portal_name, portal);
                self.items.push(Item::Local(BIND_COMPLETE.into()));
                return Ok(());
            }
        };
        if on_servers.draws() {
            self.note_effect();
            return Box::pin(self.bind_drawn(message, &prepared, &on_servers, &world)).await;
        }
        let template = &on_servers.template;
        // What the proxy has begun for a pipeline over shards is no block to a client.
        if self.transaction.kind == Kind::Implicit {
            needs_block(template)?;
        }
        let (shards, access) = match &template.command {
            Command::Fetch(cursor) | Command::Close(Some(cursor)) => {
                let shard = self.cursors.get(cursor).copied().ok_or_else(|| no_cursor(cursor))?;
                (ShardSet::one(shard), plan::Access::ReadPrimary)
            }
            Command::Show(_) => (ShardSet::one(self.any_shard()), plan::Access::ReadPrimary),
            Command::Listen | Command::Notify => (ShardSet::one(world.database.catalog), plan::Access::ReadPrimary),
            _ => {
                let plan = {
                    let view = frontend::Bind::read(self.client.bytes(body.clone())).map_err(fatal)?;
                    prepared.plan(&on_servers, &view, &world)
                };
                let plan = match plan {
                    Ok(Plan::LookUp(wanted)) => {
                        let bytes = self.client.bytes(body.clone()).to_vec();
                        let again = |known: &plan::Known| {
                            let view = frontend::Bind::read(&bytes).map_err(ClientError::from)?;
                            prepared.plan_knowing(&on_servers, &view, &world, known)
                        };
                        let fresh = template.access == plan::Access::Write;
                        match Box::pin(self.plan_by_directory(*wanted, fresh, &world, &again)).await {
                            Err(Trouble::Refused(error)) => Err(error),
                            Err(trouble) => return Err(trouble),
                            Ok(plan) => Ok(plan),
                        }
                    }
                    plan => plan,
                };
                if let Ok(plan) = &plan
                    && self.moment_due(plan, template)
                    && Box::pin(self.take_moment_in_batch()).await? == Reached::Failed
                {
                    return Ok(());
                }
                match plan {
                    Ok(Plan::Gather(gather)) => {
                        let binding = Binding { message, portal: portal_name, prepared, planned: on_servers };
                        return Box::pin(self.bind_gathered(binding, &gather)).await;
                    }
                    Ok(Plan::Copy(_)) => {
                        // Its data comes behind Execute.
                        let depth = self.transaction.savepoints.len();
                        let planned = Some(on_servers);
                        let links = SmallVec::new();
                        let portal = Portal { prepared, planned, links, depth, order: None, parts: None };
                        self.put_portal(portal_name, portal);
                        self.items.push(Item::Local(BIND_COMPLETE.into()));
                        return Ok(());
                    }
                    Ok(Plan::Carry) => {
                        return Box::pin(self.bind_carried(message, &prepared, &on_servers, &world)).await;
                    }
                    Ok(Plan::Split(split)) => {
                        if self.transaction.kind != Kind::Explicit {
                            needs_block(template)?;
                        }
                        let binding = Binding { message, portal: portal_name, prepared, planned: on_servers };
                        return Box::pin(self.bind_split(binding, &split)).await;
                    }
                    Ok(plan) => (self.shards(&plan)?, template.access),
                    Err(error) => {
                        return Err(Box::pin(self.verified(error, &prepared.text, &prepared.types, &world)).await);
                    }
                }
            }
        };
        if access == plan::Access::Write && !self.transaction.is_open() && self.would_span(&shards) {
            Box::pin(self.span_shards(&shards)).await?;
        }
        self.may_be_packed(template, &shards)?;
        self.admit(&shards, access, &template.effects)?;
        // One connection after the other as soon as something is written, so that an error anywhere stops the rest.
        if !self.transaction.is_open()
            && (access == plan::Access::Write || self.batch_writer.is_some())
            && self.links.iter().any(|link| link.unsynced && !shards.contains(link.shard))
            && Box::pin(self.fly_batch()).await? == Reached::Failed
        {
            return Ok(());
        }
        let places: SmallVec<[u8; 8]> = match shards.only() {
            Some(shard) => {
                let at = self.join(shard, access).await?;
                SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)])
            }
            None => Box::pin(self.join_all(&shards, access)).await?,
        };
        self.ready_links(&places, &prepared)?;
        let mut ids = SmallVec::new();
        let name = self.server_name(&prepared);
        // Where types are numbered otherwise, what stands in binary values is looked at before they are sent.
        let in_question = self.links.iter().any(|link| link.type_oids.is_some()) && {
            let view = frontend::Bind::read(self.client.bytes(body.clone())).map_err(fatal)?;
            (0..view.results.given()).any(|at| view.results.at(at) == Format::Binary)
        };
        for at in &places {
            let Some(link) = self.links.get_mut(usize::from(*at)) else { continue };
            let whole = self.client.bytes(message.whole.clone());
            let frame = Frame { kind: b'B', body: self.client.bytes(body.clone()), bytes: whole };
            frontend::with_statement(&mut link.out, &frame, name.as_bytes()).map_err(fatal)?;
            link.unsynced = true;
            ids.push(link.id);
        }
        let depth = self.transaction.savepoints.len();
        let described = in_question.then(|| portal_name.clone());
        self.put_portal(portal_name, Portal { prepared, planned, links: ids, depth, order: None, parts: None });
        self.items.push(Item::Owed { expect: Expect::Bind, links: places.clone(), show: Show::Client, prepares: 0 });
        if let Some(portal) = described {
            return Box::pin(self.describe_numbers(&portal, &places, access)).await;
        }
        Ok(())
    }

    /// Has servers describe a portal, for the flight to refuse what it cannot renumber. What writes waits for that.
    pub(super) async fn describe_numbers(
        &mut self,
        portal: &str,
        places: &[u8],
        access: plan::Access,
    ) -> Result<(), Trouble> {
        for at in places {
            let Some(link) = self.links.get_mut(usize::from(*at)).filter(|link| link.type_oids.is_some()) else {
                continue;
            };
            say::about(&mut link.out, b'D', b'P', portal);
            self.items.push(Item::Owed {
                expect: Expect::DescribePortal,
                links: SmallVec::from_slice(&[*at]),
                show: Show::Nobody,
                prepares: 0,
            });
        }
        if access == plan::Access::Write {
            self.fly_batch().await?;
        }
        Ok(())
    }

    async fn describe(&mut self, message: &Message) -> Result<(), Trouble> {
        let body = message.body();
        match Target::read(self.client.bytes(body.clone())).map_err(fatal)? {
            Target::Statement(name) => {
                let name = std::str::from_utf8(name).map_err(|_| not_utf8())?;
                let prepared = self.named(name)?;
                self.keep_deferred_for(&prepared).await?;
                let world = self.world()?;
                let planned = self.compiled(&prepared, &world)?;
                match &planned {
                    Some(planned) if !is_local(&planned.template.command) => {}
                    _ => {
                        let mut bytes = Vec::new();
                        reply::parameter_description(&mut bytes, &[]).map_err(fatal)?;
                        describe_local(&mut bytes, planned.as_deref());
                        self.items.push(Item::Local(bytes.into()));
                        return Ok(());
                    }
                }
                let at = self.describing_link(&prepared, &world).await?;
                let places: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
                self.ready_links(&places, &prepared)?;
                let server_name = self.server_name(&prepared);
                if let Some(link) = self.links.get_mut(at) {
                    say::about(&mut link.out, b'D', b'S', &server_name);
                    link.unsynced = true;
                }
                self.say_described(Expect::DescribeStatement, places).await
            }
            Target::Portal(name) => {
                let name = std::str::from_utf8(name).map_err(|_| not_utf8())?.to_owned();
                self.settle_deferred().await?;
                // A cursor that DECLARE made is a portal too.
                let declared = self.cursors.get(name.as_str()).copied();
                let declared =
                    self.links.iter().find(|link| Some(link.shard) == declared && (link.begun || link.pinned));
                let found = match (self.portals.get(name.as_str()), declared) {
                    (Some(portal), _) => Some((portal.links.clone(), portal.planned.clone())),
                    (None, Some(link)) => Some((SmallVec::from_slice(&[link.id]), None)),
                    (None, None) => None,
                };
                let (portal_links, portal_planned) = found.ok_or_else(|| no_portal(&name))?;
                if let Some((_, columns)) = self.portals.get(name.as_str()).and_then(|it| it.order.as_ref()) {
                    let columns = columns.to_vec();
                    // In a transaction that has failed nothing is described that has columns.
                    self.fit_for(&Command::Data)?;
                    self.items.push(Item::Local(columns.into()));
                    return Ok(());
                }
                if let Some(parts) = self.portals.get(name.as_str()).and_then(|it| it.parts.as_ref()) {
                    match &parts.columns {
                        None => self.items.push(Item::Local(NO_DATA.into())),
                        Some(columns) => {
                            let columns = columns.to_vec();
                            self.fit_for(&Command::Data)?;
                            self.items.push(Item::Local(columns.into()));
                        }
                    }
                    return Ok(());
                }
                if portal_links.is_empty() {
                    let mut bytes = Vec::new();
                    describe_local(&mut bytes, portal_planned.as_deref());
                    self.items.push(Item::Local(bytes.into()));
                    return Ok(());
                }
                let places = self.places_of(&portal_links)?;
                for at in &places {
                    if let Some(link) = self.links.get_mut(usize::from(*at)) {
                        say::about(&mut link.out, b'D', b'P', &name);
                        link.unsynced = true;
                    }
                }
                self.say_described(Expect::DescribePortal, places).await
            }
        }
    }

    /// What Describe owes. In a transaction that has failed nothing is described that has columns; a server does not
    /// know of it where the proxy was the one to refuse something.
    async fn say_described(&mut self, expect: Expect, places: SmallVec<[u8; 8]>) -> Result<(), Trouble> {
        let unaware = |at: &u8| self.links.get(usize::from(*at)).is_some_and(|link| link.status != b'E');
        let aborted = self.fit_for(&Command::Data).err().filter(|_| places.iter().any(unaware));
        let show = if aborted.is_some() { Show::Caller } else { Show::Client };
        self.items.push(Item::Owed { expect, links: places, show, prepares: 0 });
        let Some(aborted) = aborted else { return Ok(()) };
        for link in self.links.iter_mut().filter(|link| link.unsynced) {
            say::flush(&mut link.out);
        }
        let outcome = self.fly_items(false).await?;
        if outcome.failed.is_some() {
            let error = only_error(&outcome.collected);
            return Err(if error.is_empty() { Trouble::Failed } else { Trouble::Told(error) });
        }
        if messages(&outcome.collected).any(|message| message.first() == Some(&b'T')) {
            return Err(aborted.into());
        }
        self.client.push(&outcome.collected);
        Ok(())
    }

    async fn execute(&mut self, message: &Message) -> Result<(), Trouble> {
        self.settle_deferred().await?;
        let view = frontend::Execute::read(self.client.bytes(message.body())).map_err(fatal)?;
        let name = std::str::from_utf8(view.portal).map_err(|_| not_utf8())?.to_owned();
        let rows_max = view.rows_max;
        let portal = self.portals.get(name.as_str()).ok_or_else(|| no_portal(&name))?;
        let prepared = Rc::clone(&portal.prepared);
        let planned = portal.planned.clone();
        let Some(planned) = planned else {
            self.items.push(Item::Local(EMPTY_QUERY.into()));
            return Ok(());
        };
        self.may_follow()?;
        let template = Rc::clone(&planned.template);
        self.fit_for(&template.command)?;
        if portal.links.is_empty() {
            return self.execute_local(&prepared, &planned).await;
        }
        let ids = portal.links.clone();
        let split = portal.parts.as_ref().map(|it| (Rc::clone(&it.split), it.moved.clone()));
        let order = portal.order.as_ref().map(|(order, _)| Rc::clone(order));
        // COPY, and a write that gives no rows, is done whole, whatever the limit.
        let gives_rows =
            (template.access != plan::Access::Write || template.returns()) && template.effects.copy.is_none();
        if rows_max > 0 && ids.len() > 1 && gives_rows {
            return Err(ClientError::unsupported(
                "a row limit on a portal that spans shards is not supported",
                "Fetch all rows at once, or narrow the statement to one shard.",
            )
            .into());
        }
        if let Some((split, moved)) = split {
            for at in self.places_of(&ids)? {
                self.prefix(usize::from(at));
            }
            if Box::pin(self.fly_batch()).await? == Reached::Failed {
                return Ok(());
            }
            let done = match moved {
                None => Box::pin(self.run_parts(&ids, &name, &split, template.access)).await?,
                Some(moved) => Box::pin(self.run_moves(&ids, &name, &split, &moved)).await?,
            };
            self.client.push(&done);
            self.batch.ran = true;
            return Ok(());
        }
        let places = self.places_of(&ids)?;
        for at in &places {
            let place = usize::from(*at);
            // Settings may have changed since Bind.
            if self.links.get(place).is_some_and(|link| {
                !Arc::ptr_eq(&link.connection.settings, &self.state.settings)
                    || !Arc::ptr_eq(&link.local, &self.transaction.local)
            }) {
                self.prefix(place);
            }
            if let Some(link) = self.links.get_mut(place) {
                frontend::execute(&mut link.out, name.as_bytes(), rows_max).map_err(fatal)?;
                link.unsynced = true;
                link.wrote |= template.access == plan::Access::Write || template.command == Command::Notify;
                link.unpreparable |= template.command == Command::Notify;
            }
            self.hold_for(&template.effects, &template.command, place);
        }
        if let Some(shard) = places.first().and_then(|at| self.links.get(usize::from(*at))).map(|link| link.shard) {
            self.executed.push((Rc::clone(&template), shard));
        }
        if template.effects.headed && places.len() > 1 {
            self.items.push(Item::Headed);
        }
        self.items.push(match order {
            Some(order) => Item::Sorted { links: places, order },
            None => Item::Owed { expect: Expect::Execute, links: places, show: Show::Client, prepares: 0 },
        });
        self.batch.ran = true;
        Ok(())
    }

    /// Executes what the session does itself, in its turn.
    async fn execute_local(&mut self, prepared: &Rc<Prepared>, planned: &Rc<Planned>) -> Result<(), Trouble> {
        self.note_effect();
        let template = Rc::clone(&planned.template);
        let sql = prepared.text.get(planned.range.clone()).unwrap_or_default();
        match &template.command {
            // These need no server: they take their turn among what is owed.
            Command::Deallocate(Some(_)) => {
                self.batch.ran = true;
                return Box::pin(self.command(sql, &template.command)).await;
            }
            // As long as nothing before it may fail, for then it must not happen.
            Command::Begin(_) if !self.transaction.is_open() && !self.links.iter().any(|link| link.unsynced) => {
                return Box::pin(self.command(sql, &template.command)).await;
            }
            Command::Empty => {
                self.items.push(Item::Local(EMPTY_QUERY.into()));
                return Ok(());
            }
            Command::Execute { .. } => {
                return Err(ClientError::unsupported(
                    "EXECUTE in the extended protocol is not supported",
                    "Bind and execute the statement itself, or send EXECUTE as a simple query.",
                )
                .into());
            }
            _ => {}
        }
        if Box::pin(self.fly_batch()).await? == Reached::Failed {
            return Ok(());
        }
        match &template.command {
            Command::Data => {
                let world = self.world()?;
                let Plan::Copy(copy) = planned.plan(&prepared.text, None, &world)? else {
                    return Err(no_portal("").into());
                };
                if !self.transaction.is_open() {
                    let shards = copy.shards.iter().copied().collect();
                    self.span_shards(&shards).await?;
                }
                self.batch.ran = true;
                Box::pin(self.copy_rows(sql, &copy, &world, &template.effects, 0)).await
            }
            Command::Show(name) => {
                self.batch.ran = true;
                let value = self.own_value(name)?;
                let out = self.client.out();
                reply::data_row(out, &[Some(value.as_bytes())]).map_err(fatal)?;
                reply::command_complete(out, "SHOW").map_err(fatal)?;
                Ok(())
            }
            Command::ExplainShards(range) => {
                self.batch.ran = true;
                self.explain_shards(sql.get(range.clone()).unwrap_or_default()).await
            }
            _ => self.execute_own(prepared, planned).await,
        }
    }

    /// Refuses a Bind with values.
    fn no_values(&self, message: &Message) -> Result<(), Trouble> {
        let given = frontend::Bind::read(self.client.bytes(message.body())).map_err(fatal)?.values().count();
        if given == 0 {
            return Ok(());
        }
        Err(ClientError::new(
            Code::ProtocolViolation,
            format_args!("bind message supplies {given} parameters, but the statement requires 0"),
            "Statements of the session take no parameters.",
        )
        .into())
    }

    /// Makes a portal, as far as the item that comes next is answered.
    pub(super) fn put_portal(&mut self, name: Box<str>, portal: Portal) {
        // Outside of a transaction none outlives a failure.
        if self.transaction.is_open() {
            let before = self.portals.insert(name.clone(), portal);
            self.undo.push((self.items.len(), Undo::Portal(name, before)));
        } else {
            self.portals.insert(name, portal);
        }
    }

    async fn close(&mut self, message: &Message) -> Result<(), Trouble> {
        self.settle_deferred().await?;
        match Target::read(self.client.bytes(message.body())).map_err(fatal)? {
            Target::Statement(name) => {
                let name = std::str::from_utf8(name).map_err(|_| not_utf8())?;
                let undo = if name.is_empty() {
                    Undo::Unnamed(self.unnamed.take())
                } else {
                    let before = self.prepared.remove(name);
                    Undo::Statement(name.into(), before)
                };
                self.undo.push((self.items.len(), undo));
                self.items.push(Item::Local(CLOSE_COMPLETE.into()));
            }
            Target::Portal(name) => {
                let name = std::str::from_utf8(name).map_err(|_| not_utf8())?.to_owned();
                let portal = self.portals.remove(name.as_str());
                let places = match &portal {
                    Some(portal) if !portal.links.is_empty() => self.places_of(&portal.links)?,
                    _ => SmallVec::new(),
                };
                if portal.is_some() {
                    self.undo.push((self.items.len(), Undo::Portal(name.as_str().into(), portal)));
                }
                if places.is_empty() {
                    self.items.push(Item::Local(CLOSE_COMPLETE.into()));
                    return Ok(());
                }
                for at in &places {
                    if let Some(link) = self.links.get_mut(usize::from(*at)) {
                        say::about(&mut link.out, b'C', b'P', &name);
                        link.unsynced = true;
                    }
                }
                self.items.push(Item::Owed { expect: Expect::Close, links: places, show: Show::Client, prepares: 0 });
            }
        }
        Ok(())
    }

    async fn flush_batch(&mut self) -> Result<(), Trouble> {
        self.settle_deferred().await?;
        Box::pin(self.fly_batch()).await?;
        self.client.flush().await?;
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), End> {
        if !self.skipping {
            let settled = match self.settle_held(b'S').await {
                Ok(()) => self.settle_deferred().await,
                Err(trouble) => Err(trouble),
            };
            if let Err(trouble) = settled {
                Box::pin(self.break_off(trouble)).await?;
            }
        }
        self.sync_eaten = false;
        let spans = self.transaction.kind == Kind::Implicit;
        if self.batch_writer.is_some() && !self.transaction.is_open() {
            self.access.service.gate.pass().await;
        }
        let result = match self.fly_before_sync().await {
            // What COPY read in it, and its error if it failed, the client has; it says one more Sync.
            Ok(true) => return self.client.flush().await.map_err(|_| End::Gone),
            Ok(false) if spans => self.sync_links(Show::Nobody).await,
            Ok(false) => self.sync_links(Show::Client).await,
            Err(trouble) => Err(trouble),
        };
        let mut committed = !self.skipping && !self.batch.failed && result.is_ok();
        let shown = match result {
            Ok(shown) => shown,
            Err(trouble) => {
                self.tell(trouble)?;
                // Whatever was said is not to be waited for any more.
                self.drop_busy();
                false
            }
        };
        if spans {
            committed &= !self.transaction.failed;
            if let Err(trouble) = Box::pin(self.end_pipeline(committed)).await {
                committed = false;
                self.tell(trouble)?;
            }
        }
        self.skipping = std::mem::take(&mut self.sync_eaten);
        self.batch_writer = None;
        self.batch.is_over();
        self.batch_flown = false;
        self.items.clear();
        self.deferred = None;
        if self.batch.is_begun() || self.batch.failed || !self.transaction.local.is_empty() {
            self.batch_ended(committed);
            self.batch = Batch::default();
        }
        if !self.transaction.is_open() {
            self.portals.clear();
            if self.schema_changed {
                self.schema_changed = false;
                self.schema_has_changed().await;
            }
        }
        if !self.readback.is_empty()
            && let Err(trouble) = Box::pin(self.read_back()).await
        {
            self.tell(trouble)?;
        }
        if self.pins_suspect && !self.transaction.is_open() {
            Box::pin(self.look_at_pins()).await?;
        }
        if shown {
            self.answered();
        } else if !self.skipping {
            self.ready().await?;
        }
        Ok(())
    }

    /// Ends the batch on every server that took part. True: the client has been told that it may go on.
    pub(super) async fn sync_links(&mut self, show: Show) -> Result<bool, Trouble> {
        let unsynced = self.unsynced();
        if unsynced.is_empty() {
            Box::pin(self.fly_batch()).await?;
            return Ok(false);
        }
        let single = unsynced.len() == 1;
        if self.writer_goes_first() {
            return Box::pin(self.sync_writer_first(&unsynced)).await;
        }
        if self.skipping && !self.transaction.is_open() {
            // The proxy refused something: what servers did of the batch must not stay.
            self.spoil(&unsynced);
        }
        for at in &unsynced {
            if let Some(link) = self.links.get_mut(usize::from(*at)) {
                link.say_sync();
            }
        }
        // A server on which the open transaction has not begun knows nothing of it.
        let begun = |at: &u8| self.links.get(usize::from(*at)).is_some_and(|link| link.begun);
        let shows = single
            && (!self.transaction.is_open() || unsynced.iter().all(begun))
            && !self.batch_leaves_settings()
            && self.readback.is_empty()
            && !self.transaction.has_set(&self.state.settings)
            && (!self.transaction.is_open() || !self.transaction.failed)
            && !self.skipping;
        let show = match show {
            Show::Client if shows => Show::Client,
            // The client has been told of one error; what others say is of no interest.
            _ if self.skipping => Show::Caller,
            _ => Show::Nobody,
        };
        self.items.push(Item::Owed { expect: Expect::Sync, links: unsynced, show, prepares: 0 });
        let outcome = self.fly_items(true).await?;
        Ok(outcome.ready_shown)
    }

    /// Whether the batch wrote on one server and read on others: only when the write is done is anything.
    fn writer_goes_first(&self) -> bool {
        !self.transaction.is_open() && self.batch_writer.is_some() && self.unsynced().len() > 1
    }

    /// Carries out what must be answered before any server's Sync is said. True: a COPY FROM STDIN was part of it, which
    /// eats the Sync that the client said before its data.
    async fn fly_before_sync(&mut self) -> Result<bool, Trouble> {
        if !self.writer_goes_first() {
            return Ok(false);
        }
        let before = self.client.copies;
        let result = Box::pin(self.fly_batch()).await;
        let copied = self.client.copies != before;
        self.sync_eaten |= copied && result.is_err();
        result.map(|_| copied)
    }

    /// Ends a batch that wrote on one server and read on others.
    async fn sync_writer_first(&mut self, unsynced: &[u8]) -> Result<bool, Trouble> {
        Box::pin(self.fly_batch()).await?;
        let writer = self.batch_writer;
        let mut order: SmallVec<[u32; 8]> = unsynced
            .iter()
            .filter_map(|at| self.links.get(usize::from(*at)))
            .filter(|link| Some(link.shard) == writer)
            .map(|link| link.id)
            .collect();
        order.extend(
            unsynced
                .iter()
                .filter_map(|at| self.links.get(usize::from(*at)))
                .filter(|link| Some(link.shard) != writer)
                .map(|link| link.id),
        );
        for id in order {
            let Some(at) = self.links.iter().position(|link| link.id == id) else { continue };
            let wrote = self.links.get(at).is_some_and(|link| link.wrote);
            let places: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
            if self.skipping {
                self.spoil(&places);
            }
            if let Some(link) = self.links.get_mut(at) {
                link.say_sync();
            }
            let show = if self.skipping { Show::Caller } else { Show::Nobody };
            self.items.push(Item::Owed { expect: Expect::Sync, links: places, show, prepares: 0 });
            match self.fly_items(false).await {
                Ok(outcome) if outcome.failed.is_some() => self.skipping = true,
                Ok(_) => {}
                Err(Trouble::End(end)) => return Err(Trouble::End(end)),
                // Only reads ran there, and they have been answered.
                Err(_) if !wrote => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(false)
    }

    /// Makes the open implicit transaction on these links fail, so that their Sync rolls it back.
    fn spoil(&mut self, links: &[u8]) {
        for at in links {
            if let Some(link) = self.links.get_mut(usize::from(*at)) {
                if link.skips {
                    continue;
                }
                // Not SQL: the server refuses it, and with it everything since the last Sync.
                say::parse(&mut link.out, "", "shardway rolls this back", &[]);
                link.connection.unnamed = 0;
            }
            self.items.push(Item::Owed {
                expect: Expect::Parse,
                links: SmallVec::from_slice(&[*at]),
                show: Show::Caller,
                prepares: 0,
            });
        }
    }

    // ── helpers ──

    /// Sends what was gathered without ending the batch, and takes in the answers.
    pub(super) async fn fly_batch(&mut self) -> Result<Reached, Trouble> {
        if self.items.is_empty() {
            self.undo.clear();
            return Ok(Reached::Good);
        }
        self.say_flush();
        let outcome = self.fly_items(false).await?;
        Ok(if outcome.failed.is_some() { Reached::Failed } else { Reached::Good })
    }

    /// Carries the batch out so far; registers and forgets what that made true.
    pub(super) async fn fly_items(&mut self, last: bool) -> Result<Outcome, Trouble> {
        self.batch_flown = true;
        let executed = std::mem::take(&mut self.executed);
        let result = self.fly(0, last).await;
        let failed = match &result {
            Ok(outcome) => outcome.failed.as_ref().map(|failure| (failure.item, failure.sqlstate)),
            Err(_) => Some((0, *b"08P01")),
        };
        if let Some((item, sqlstate)) = failed {
            self.take_back(item, sqlstate);
            self.batch.failed = true;
            if !last {
                self.skipping = true;
            }
            self.readback.clear();
            self.pins_suspect |= !self.state.pins.is_empty();
        } else {
            self.undo.clear();
            for (template, shard) in executed {
                let (command, effects) = (&template.command, &template.effects);
                if leaves_something(command, effects) {
                    Box::pin(self.took_effect(command, effects, &ShardSet::one(shard))).await?;
                }
            }
        }
        result
    }

    /// A deferred Parse that is not for `prepared` is said now.
    async fn keep_deferred_for(&mut self, prepared: &Rc<Prepared>) -> Result<(), Trouble> {
        match &self.deferred {
            Some(deferred) if !Rc::ptr_eq(&deferred.prepared, prepared) => self.settle_deferred().await,
            _ => Ok(()),
        }
    }

    /// Says a deferred Parse where it may be said.
    pub(super) async fn settle_deferred(&mut self) -> Result<(), Trouble> {
        let Some(deferred) = &self.deferred else { return Ok(()) };
        let prepared = Rc::clone(&deferred.prepared);
        let world = self.world()?;
        let at = self.describing_link(&prepared, &world).await?;
        let places: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        self.ready_links(&places, &prepared)
    }

    /// Brings links to where the statement can be bound or described: BEGIN, settings, the statement itself.
    pub(super) fn ready_links(&mut self, places: &[u8], prepared: &Rc<Prepared>) -> Result<(), Trouble> {
        for at in places {
            let at = usize::from(*at);
            self.prefix(at);
            // Servers answer what has no Sync behind it when they are told to flush.
            if let Some(link) = self.links.get_mut(at).filter(|link| !link.out.is_empty()) {
                link.unsynced = true;
            }
        }
        let mut owed = self.deferred.take();
        for at in places {
            let show = if owed.is_some() { Show::Client } else { Show::Nobody };
            let said = self.say_parse(usize::from(*at), prepared, show)?;
            if let Some(deferred) = owed.take() {
                self.undo.push((said.unwrap_or(self.items.len()), deferred.undo));
                if said.is_none() {
                    self.items.push(Item::Local(PARSE_COMPLETE.into()));
                }
            }
        }
        Ok(())
    }

    /// Says Parse on a link that lacks the statement: tells which item will show it. None: it has it already.
    pub(super) fn say_parse(&mut self, at: usize, prepared: &Prepared, show: Show) -> Result<Option<usize>, Trouble> {
        let named = self.is_named(prepared);
        let number = prepared.number.number;
        let Some(link) = self.links.get_mut(at) else { return Ok(None) };
        let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        let has = if named { link.connection.has_prepared(number) } else { link.connection.unnamed == number };
        if has {
            return Ok(None);
        }
        let text = text_for_servers_of(prepared);
        if let Some(types) = &prepared.written_types {
            // Not as a Query, which would end what the batch has begun.
            let server_name = say::statement_name(number);
            if link.connection.take_doubt(number) {
                say::about(&mut link.out, b'C', b'S', &server_name);
                self.items.push(Item::Owed {
                    expect: Expect::Close,
                    links: links.clone(),
                    show: Show::Nobody,
                    prepares: 0,
                });
            }
            let evicted = link.connection.note_prepared(number);
            self.say_preparing(at, &format!("PREPARE {server_name} {types} AS {text}"), number);
            let Some(link) = self.links.get_mut(at) else { return Ok(None) };
            if let Some(evicted) = evicted {
                say::about(&mut link.out, b'C', b'S', &say::statement_name(evicted));
                self.items.push(Item::Owed { expect: Expect::Close, links, show: Show::Nobody, prepares: evicted });
            }
            return Ok(None);
        }
        // The types that the client gave are the catalog shard's numbers.
        let theirs = match &link.type_oids {
            Some(oids) => Some(types_on(&oids.known, &prepared.types)?),
            None => None,
        };
        let types = theirs.as_deref().unwrap_or(&prepared.types);
        if named && link.connection.take_doubt(number) {
            say::about(&mut link.out, b'C', b'S', &say::statement_name(number));
            self.items.push(Item::Owed {
                expect: Expect::Close,
                links: links.clone(),
                show: Show::Nobody,
                prepares: 0,
            });
        }
        let item = self.items.len();
        self.items.push(Item::Owed { expect: Expect::Parse, links: links.clone(), show, prepares: number });
        link.unsynced = true;
        if named {
            frontend::parse(&mut link.out, say::statement_name(number).as_bytes(), text.as_bytes(), types)
                .map_err(fatal)?;
            if let Some(evicted) = link.connection.note_prepared(number) {
                say::about(&mut link.out, b'C', b'S', &say::statement_name(evicted));
                self.items.push(Item::Owed { expect: Expect::Close, links, show: Show::Nobody, prepares: evicted });
            }
        } else {
            frontend::parse(&mut link.out, b"", text.as_bytes(), types).map_err(fatal)?;
            link.connection.unnamed = number;
        }
        Ok(Some(item))
    }

    fn is_named(&self, prepared: &Prepared) -> bool {
        if prepared.passing {
            return false;
        }
        let number = prepared.number.number;
        self.unnamed.as_ref().is_none_or(|unnamed| {
            let drawn = unnamed.drawn.borrow();
            unnamed.number.number != number && drawn.as_ref().is_none_or(|(_, it)| it.prepared.number.number != number)
        })
    }

    /// The name that the statement has on servers.
    pub(super) fn server_name(&self, prepared: &Prepared) -> StatementName {
        if self.is_named(prepared) { say::statement_name(prepared.number.number) } else { StatementName::UNNAMED }
    }

    /// A link on which the statement can be described: one that is held, or one more.
    pub(super) async fn describing_link(&mut self, prepared: &Prepared, world: &Rc<World>) -> Result<usize, Trouble> {
        let planned = self.compiled(prepared, world)?;
        let home: Option<ShardId> = planned.as_ref().and_then(|planned| match &planned.template.command {
            Command::Fetch(cursor) | Command::Close(Some(cursor)) => self.cursors.get(cursor).copied(),
            _ => planned.described_on(),
        });
        let access = planned.as_ref().map_or(plan::Access::ReadPrimary, |planned| planned.template.access);
        let access = if access == plan::Access::Read { access } else { plan::Access::ReadPrimary };
        if let Some(at) = self
            .links
            .iter()
            .position(|link| (link.begun || link.unsynced || link.pinned) && home.is_none_or(|home| link.shard == home))
        {
            self.settle_defaults(at).await?;
            return Ok(at);
        }
        let shard = match home {
            Some(home) => home,
            None => match planned.as_ref().map(|planned| planned.plan(&prepared.text, None, world)) {
                Some(Ok(Plan::One(shard))) => shard,
                _ => world.database.catalog,
            },
        };
        self.join(shard, access).await
    }

    /// The statement of that name.
    fn named(&self, name: &str) -> Result<Rc<Prepared>, ClientError> {
        let found = if name.is_empty() { self.unnamed.as_ref() } else { self.prepared.get(name) };
        found.cloned().ok_or_else(|| no_statement(name))
    }

    /// What a prepared statement compiles to in this world.
    pub(super) fn compiled(&self, prepared: &Prepared, world: &Rc<World>) -> Result<Option<Rc<Planned>>, ClientError> {
        {
            let known = prepared.compiled.borrow();
            if known.0 == world.id {
                return Ok(known.1.clone());
            }
        }
        let mut statements = self.worker.planner.borrow_mut().compile(&prepared.text, world)?;
        let planned = statements.pop().map(Rc::new);
        let spliced = |it: &Option<Rc<Planned>>| it.as_ref().and_then(|it| it.template.splice_columns.clone());
        // Servers know it by the columns that the table had.
        if spliced(&prepared.compiled.borrow().1) != spliced(&planned) {
            return Err(ClientError::unsupported(
                "a prepared INSERT without a column list is not supported when the table's columns have changed since",
                "Prepare it again, or name the columns.",
            ));
        }
        *prepared.compiled.borrow_mut() = (world.id, planned.clone());
        Ok(planned)
    }

    /// Where the links with these numbers stand now.
    fn places_of(&self, ids: &[u32]) -> Result<SmallVec<[u8; 8]>, ClientError> {
        ids.iter()
            .map(|id| {
                self.links
                    .iter()
                    .position(|link| link.id == *id)
                    .and_then(|at| u8::try_from(at).ok())
                    .ok_or_else(|| no_portal(""))
            })
            .collect()
    }
}

/// Whether the session answers the command without sending its text as it is.
fn is_local(command: &Command) -> bool {
    match command {
        Command::Data
        | Command::Declare { .. }
        | Command::Listen
        | Command::Notify
        | Command::Fetch(_)
        | Command::Close(Some(_)) => false,
        Command::Show(name) => name.starts_with("shardway."),
        _ => true,
    }
}

fn text_for_servers_of(prepared: &Prepared) -> String {
    match &prepared.compiled.borrow().1 {
        Some(planned) => text_for_servers(planned, &prepared.text),
        None => prepared.text.to_string(),
    }
}

fn describe_local(out: &mut Vec<u8>, planned: Option<&Planned>) {
    match planned.map(|planned| &planned.template.command) {
        Some(Command::Show(name)) => {
            // A name out of a statement's text holds no zero byte.
            let _ = reply::row_description(out, &[reply::Column::text(name)]);
        }
        Some(Command::ExplainShards(_)) => {
            let _ = reply::row_description(out, &[reply::Column::text(PLAN_COLUMN)]);
        }
        _ => reply::no_data(out),
    }
}

fn no_portal(name: &str) -> ClientError {
    ClientError::new(
        Code::NoPortal,
        format_args!("portal \"{name}\" does not exist"),
        "Portals end with the transaction, and outside of one with Sync.",
    )
}

fn no_cursor(name: &str) -> ClientError {
    ClientError::new(Code::NoPortal, format_args!("cursor \"{name}\" does not exist"), "DECLARE it first.")
}

/// Whether a Bind gives as many values as there are parameters.
pub(super) fn same_count(given: usize, count: usize) -> Result<(), ClientError> {
    if given == count {
        return Ok(());
    }
    Err(ClientError::new(
        Code::ProtocolViolation,
        format_args!("bind message supplies {given} parameters, but the statement requires {count}"),
        "Give one value for each $n.",
    ))
}

pub(super) fn fatal(violation: crate::wire::postgres::frame::Violation) -> Trouble {
    Trouble::End(End::Fatal(violation.into()))
}

const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
const NO_DATA: &[u8] = b"n\0\0\0\x04";
const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
const EMPTY_QUERY: &[u8] = b"I\0\0\0\x04";

/// The numbers that a shard has for types, given those of the catalog shard; `oids` goes the other way.
pub(super) fn types_on(oids: &HashMap<u32, u32>, types: &[u32]) -> Result<Vec<u32>, ClientError> {
    let translate = |known: &u32| match oids.iter().find(|(_, catalog)| *catalog == known) {
        Some((shard, _)) => Ok(*shard),
        // Another type has this number on the shard, and none has it on the catalog shard.
        None if oids.contains_key(known) => Err(ClientError::unsupported(
            format_args!("a parameter of type {known}, which no type of the catalog shard is, is not supported"),
            "Look the type up again: pg_type is read on the catalog shard.",
        )),
        None => Ok(*known),
    };
    types.iter().map(translate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_numbered_as_the_shard_numbers_them() {
        let oids = HashMap::from([(17_001, 17_000), (17_000, 16_999), (16_500, 17_001)]);
        assert_eq!(
            types_on(&oids, &[20, 17_000, 0, 16_999, 18_000, 17_001]),
            Ok(vec![20, 17_001, 0, 17_000, 18_000, 16_500])
        );
        assert!(types_on(&oids, &[16_500]).is_err());
    }
}
