//! INSERT … SELECT whose rows come from elsewhere (`plan::Carried`): the rows are read within the transaction, before
//! anything is written; then the INSERT is said with them.

use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec::client::Message;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Show;
use crate::exec::say;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan;
use crate::plan::Carried;
use crate::plan::Command;
use crate::plan::Effects;
use crate::plan::Parameter;
use crate::plan::Parameters;
use crate::plan::Plan;
use crate::plan::Planned;
use crate::plan::World;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::extended::Reached;
use crate::session::extended::fatal;
use crate::session::extended::same_count;
use crate::session::extended::types_on;
use crate::session::gather::About;
use crate::session::gather::Described;
use crate::session::gather::Task;
use crate::session::gather::say_bind;
use crate::session::gather::trouble_of;
use crate::session::merge::SETTINGS;
use crate::session::merge::columns_of;
use crate::session::prepared::Prepared;
use crate::session::simple::Place;
use crate::session::simple::characters;
use crate::session::simple::messages;
use crate::wire::postgres::frontend;
use crate::wire::postgres::frontend::Format;

type Value<'a> = (Format, Option<&'a [u8]>);

/// What is to be carried.
struct Load<'a> {
    carried: &'a Carried<'a>,
    /// The client's own text ...
    own: &'a str,
    /// ... which it has prepared; else it is read first.
    prepared: Option<&'a Prepared>,
    values: &'a [Value<'a>],
    /// Where the statement stands in the client's text, in characters.
    offset: u32,
    home: ShardId,
}

/// What the INSERT comes to.
struct Told {
    text: String,
    /// The types of its parameters, as the client numbers them.
    types: Vec<u32>,
    /// It has no rows, and is to be said where it was read.
    empty: bool,
}

/// The rows of the SELECT: their columns' types as the client numbers them, and the values.
#[derive(Default)]
struct Rows {
    types: Vec<u32>,
    bytes: Vec<u8>,
}

impl Session {
    /// Runs an INSERT … SELECT of a Query.
    pub(super) async fn carry(&mut self, text: &str, statement: &Planned, world: &Rc<World>) -> Result<bool, Trouble> {
        let carried = statement.carried(text)?;
        self.begin_implicit();
        let home = self.carries_at(&carried);
        let own = text.get(statement.range.clone()).unwrap_or_default();
        let offset = characters(text, statement.range.start);
        let load = Load { carried: &carried, own, prepared: None, values: &[], offset, home };
        let mut ids = SmallVec::new();
        let told = Box::pin(self.read_rows(&load, world, &mut ids)).await;
        self.end_steps(&ids).await?;
        let told = told?;
        let mut planned = match told.empty {
            true => statement.on_shard(&told.text, home),
            false => self.planned_with_rows(&told.text, world)?,
        };
        planned.read = true;
        Box::pin(self.data(&told.text, &planned, Place::Among, world)).await
    }

    /// Binds an INSERT … SELECT: what is bound is the INSERT with its rows.
    pub(super) async fn bind_carried(
        &mut self,
        message: &Message,
        prepared: &Rc<Prepared>,
        planned: &Planned,
        world: &Rc<World>,
    ) -> Result<(), Trouble> {
        let text = Arc::clone(&prepared.text);
        let carried = planned.carried(&text)?;
        // What came before is in sight of what is read.
        if Box::pin(self.fly_batch()).await? == Reached::Failed {
            return Ok(());
        }
        let home = self.carries_at(&carried);
        if !self.transaction.is_open() {
            self.span_shards(&ShardSet::one(home)).await?;
        }
        // The text itself is read there, and the client is told.
        let at = self.join(home, plan::Access::ReadPrimary).await?;
        self.ready_links(&[u8::try_from(at).unwrap_or(u8::MAX)], prepared)?;
        if let Some(link) = self.links.get_mut(at) {
            link.unsynced = true;
        }
        if Box::pin(self.fly_batch()).await? == Reached::Failed {
            return Ok(());
        }
        let body = self.client.bytes(message.body()).to_vec();
        let view = frontend::Bind::read(&body).map_err(fatal)?;
        let (given, count) = (view.count(), usize::from(planned.template.parameters).max(prepared.types.len()));
        same_count(given, count)?;
        let values: Vec<Value<'_>> =
            view.values().enumerate().map(|(it, value)| (view.formats.at(it), value)).collect();
        let own = text.get(planned.range.clone()).unwrap_or_default();
        let load = Load { carried: &carried, own, prepared: Some(prepared), values: &values, offset: 0, home };
        let told = Box::pin(self.read_rows(&load, world, &mut SmallVec::new())).await?;
        let mut bound = match told.empty {
            true => planned.on_shard(&told.text, home),
            false => self.planned_with_rows(&told.text, world)?,
        };
        bound.read = true;
        let bound = Prepared {
            text: told.text.into(),
            types: told.types,
            written_types: None,
            number: self.worker.registry.fresh(),
            compiled: (world.id, Some(Rc::new(bound))).into(),
            drawn: None.into(),
            passing: true,
        };
        Box::pin(self.bind_to(message, Rc::new(bound))).await
    }

    /// Where the client's text is read.
    fn carries_at(&self, carried: &Carried<'_>) -> ShardId {
        let database = &self.access.service.database;
        let clock = self.transaction.clock.filter(|_| self.transaction.is_open());
        carried.home().or(clock).or(database.gather.on).unwrap_or(database.catalog)
    }

    fn planned_with_rows(&self, text: &str, world: &Rc<World>) -> Result<Planned, Trouble> {
        let mut statements = self.worker.planner.borrow_mut().compile(text, world)?;
        match statements.pop().filter(|it| statements.is_empty() && !it.carries()) {
            Some(planned) => Ok(planned),
            None => Err(unclear().into()),
        }
    }

    /// Has one server read the client's text, and reads the rows of its SELECT; `ids` are the links that took part.
    async fn read_rows(
        &mut self,
        load: &Load<'_>,
        world: &Rc<World>,
        ids: &mut SmallVec<[(ShardId, u32); 8]>,
    ) -> Result<Told, Trouble> {
        self.nulls_stay("INSERT … SELECT of rows from other shards")?;
        let one = ShardSet::one(load.home);
        self.admit(&one, plan::Access::ReadPrimary, &Effects::default())?;
        let at = self.join(load.home, plan::Access::ReadPrimary).await?;
        self.prefix(at);
        let Some(link) = self.links.get_mut(at) else { return Err(unclear().into()) };
        link.unsynced = true;
        let id = link.id;
        ids.push((load.home, id));
        match load.prepared {
            None => self.say_reading(at, Some(load.own), "", &[])?,
            Some(prepared) => {
                self.say_parse(at, prepared, Show::Nobody)?;
                let name = self.server_name(prepared);
                self.say_reading(at, None, &name, &prepared.types)?;
            }
        }
        let read = self.items.len();
        self.say_step(id, SETTINGS, Show::Caller);
        self.say_flush();
        let outcome = self.fly(load.offset, false).await?;
        if let Some(failure) = &outcome.failed {
            if load.carried.is_scattered() && failure.sqlstate == *b"42P01" {
                return Err(ClientError::unsupported(
                    "INSERT … SELECT with unsharded tables of several shards is not supported",
                    "Insert in two steps, by way of a table that both shards have.",
                )
                .into());
            }
            return Err(trouble_of(&outcome, if failure.item < read { About::Text(load.offset) } else { About::Rows }));
        }
        let mut described = Described::default();
        let mut exact = false;
        for message in messages(&outcome.collected) {
            match message.first() {
                Some(b'D') => exact = message.ends_with(b"iso plain exact"),
                _ => described.note(message),
            }
        }
        if load.prepared.is_none() {
            self.client.push(described.notices());
        }
        let types: Vec<u32> = described.parameter_types().into_iter().map(|it| self.known_type(id, it)).collect();
        let rows = Box::pin(self.collect_rows(load, &types, world, ids)).await?;
        self.wanted(())?;
        if !exact && !load.carried.is_settled(&rows.types) {
            return Err(ClientError::unsupported(
                "INSERT … SELECT of rows from other shards is not supported with another DateStyle than ISO, \
                 another IntervalStyle than postgres or extra_float_digits below 1",
                "Set them back for this statement.",
            )
            .into());
        }
        let cells: Vec<Vec<Option<&[u8]>>> =
            messages(&rows.bytes).filter(|it| it.first() == Some(&b'D')).map(cells).collect();
        let empty = cells.is_empty();
        if empty {
            self.plan_own(load, &types, id).await?;
        }
        let said = match empty {
            true => load.carried.empty(rows.types.len()),
            false => load.carried.told(&rows.types, &cells)?,
        };
        // In its place, so that errors are told where they stand.
        let before = usize::try_from(load.offset).unwrap_or(0);
        Ok(Told { text: format!("{:before$}{said}", ""), types, empty })
    }

    /// Has the server that read the client's text plan it: what a constant comes to is told without any row.
    async fn plan_own(&mut self, load: &Load<'_>, types: &[u32], id: u32) -> Result<(), Trouble> {
        let Some(at) = self.links.iter().position(|link| link.id == id) else { return Err(unclear().into()) };
        let Some(link) = self.links.get_mut(at) else { return Err(unclear().into()) };
        let theirs = match &link.type_oids {
            Some(oids) => types_on(&oids.known, types)?,
            None => types.to_vec(),
        };
        say::parse(&mut link.out, "", &format!("EXPLAIN {}", load.own), &theirs);
        link.connection.unnamed = 0;
        say_bind(&mut link.out, say::STEP, load.values, &[], &[])?;
        say::execute(&mut link.out, say::STEP);
        say::close_step(&mut link.out);
        link.unsynced = true;
        let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        for expect in [Expect::Parse, Expect::Bind, Expect::Execute, Expect::Close] {
            self.items.push(Item::Owed { expect, links: links.clone(), show: Show::Nobody, prepares: 0 });
        }
        self.say_flush();
        let outcome = self.fly(0, false).await?;
        if outcome.failed.is_some() { Err(trouble_of(&outcome, About::Rows)) } else { Ok(()) }
    }

    /// The rows of the SELECT, in its order.
    async fn collect_rows(
        &mut self,
        load: &Load<'_>,
        types: &[u32],
        world: &Rc<World>,
        ids: &mut SmallVec<[(ShardId, u32); 8]>,
    ) -> Result<Rows, Trouble> {
        let source = load.carried.source.as_str();
        let planned = self.planned_with_rows(source, world)?;
        let template = Rc::clone(&planned.template);
        let only_reads = template.access != plan::Access::Write && template.effects.copy.is_none();
        if template.command != Command::Data || !only_reads || planned.draws() {
            return Err(unclear().into());
        }
        let parameters: SmallVec<[Parameter<'_>; 8]> = load
            .values
            .iter()
            .map(|(format, bytes)| Parameter { binary: *format == Format::Binary, bytes: *bytes })
            .collect();
        let given = Parameters { types, values: &parameters };
        let plan = match planned.plan(source, Some(&given), world)? {
            Plan::LookUp(wanted) => {
                let again = |known: &plan::Known| planned.plan_knowing(source, Some(&given), world, known);
                Box::pin(self.plan_by_directory(*wanted, true, world, &again)).await?
            }
            plan => plan,
        };
        let mut asked: SmallVec<[u32; 8]> = SmallVec::new();
        match &plan {
            Plan::Gather(gather) => {
                let home = self.gathers_at(gather, &template.effects);
                let task = Task {
                    gather,
                    planned: &planned,
                    text: source,
                    count: load.values.len(),
                    types,
                    values: load.values,
                    prepared: None,
                    access: plan::Access::ReadPrimary,
                    offset: 0,
                    home,
                    alone: false,
                };
                let ready = self.get_ready(&task, ids).await.map_err(without_place)?;
                self.wanted(())?;
                let at = self.keeper(ids, home)?;
                let Some(link) = self.links.get_mut(at) else { return Err(unclear().into()) };
                say_bind(&mut link.out, say::STEP, load.values, &ready.arrays, &[])?;
                asked.push(link.id);
            }
            Plan::One(_) | Plan::Any | Plan::Concat(_) => {
                let shards = self.shards(&plan)?;
                self.admit(&shards, plan::Access::ReadPrimary, &template.effects)?;
                for (shard, at) in shards.iter().zip(self.join_all(&shards, plan::Access::ReadPrimary).await?) {
                    let at = usize::from(at);
                    self.prefix(at);
                    let Some(link) = self.links.get_mut(at) else { return Err(unclear().into()) };
                    let theirs = match &link.type_oids {
                        Some(oids) => types_on(&oids.known, types)?,
                        None => types.to_vec(),
                    };
                    say::parse(&mut link.out, "", source, &theirs);
                    link.connection.unnamed = 0;
                    link.unsynced = true;
                    say_bind(&mut link.out, say::STEP, load.values, &[], &[])?;
                    let id = link.id;
                    let links = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
                    self.items.push(Item::Owed { expect: Expect::Parse, links, show: Show::Nobody, prepares: 0 });
                    asked.push(id);
                    if !ids.iter().any(|(known, _)| *known == shard) {
                        ids.push((shard, id));
                    }
                }
            }
            Plan::Split(_)
            | Plan::Copy(_)
            | Plan::Shadow(_)
            | Plan::Draw
            | Plan::Carry
            | Plan::LookUp(_)
            | Plan::Everywhere
            | Plan::Session => {
                return Err(unclear().into());
            }
        }
        for id in &asked {
            let Some(at) = self.links.iter().position(|link| link.id == *id) else { return Err(unclear().into()) };
            let Some(link) = self.links.get_mut(at) else { return Err(unclear().into()) };
            say::about(&mut link.out, b'D', b'P', say::STEP);
            say::execute(&mut link.out, say::STEP);
            say::close_step(&mut link.out);
            link.unsynced = true;
            let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
            for expect in [Expect::Bind, Expect::DescribePortal, Expect::Execute, Expect::Close] {
                self.items.push(Item::Owed { expect, links: links.clone(), show: Show::Caller, prepares: 0 });
            }
        }
        self.say_flush();
        let outcome = self.fly(0, false).await?;
        if outcome.failed.is_some() {
            return Err(trouble_of(&outcome, About::Rows));
        }
        if outcome.overflowed {
            return Err(ClientError::new(
                Code::TooLarge,
                "INSERT … SELECT whose rows come from other shards reads more than can be held",
                "Insert fewer rows at once, such as by a condition on a range; or COPY them out and in again.",
            )
            .into());
        }
        let mut known: Option<Vec<u32>> = None;
        let mut answers = asked.iter();
        for message in messages(&outcome.collected).filter(|it| it.first() == Some(&b'T')) {
            let id = answers.next().copied().unwrap_or_default();
            let columns = columns_of(message).ok_or_else(unclear)?;
            let types: Vec<u32> = columns.iter().map(|it| self.known_type(id, it.oid)).collect();
            if known.as_ref().is_some_and(|it| *it != types) {
                return Err(unclear().into());
            }
            known = Some(types);
        }
        if answers.next().is_some() {
            return Err(unclear().into());
        }
        Ok(Rows { types: known.unwrap_or_default(), bytes: outcome.collected })
    }

    /// A type's number on a link, as the client numbers it.
    pub(super) fn known_type(&self, id: u32, oid: u32) -> u32 {
        let link = self.links.iter().find(|link| link.id == id);
        link.and_then(|it| it.type_oids.as_ref()).and_then(|it| it.known.get(&oid)).copied().unwrap_or(oid)
    }
}

/// Positions in the SELECT alone are none in the client's text.
fn without_place(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Told(error) => Trouble::Told(crate::exec::flight::without_position(error)),
        other => other,
    }
}

/// The values of a DataRow.
fn cells(row: &[u8]) -> Vec<Option<&[u8]>> {
    let mut rest = row.get(7..).unwrap_or_default();
    let mut cells = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        rest = more;
        match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => {
                let (value, more) = rest.split_at_checked(length).unwrap_or_default();
                rest = more;
                cells.push(Some(value));
            }
            Err(_) => cells.push(None),
        }
    }
    cells
}

fn unclear() -> ClientError {
    ClientError::unsupported(
        "this INSERT … SELECT of rows from other shards is not supported",
        "Read the rows first, and insert them by VALUES or COPY.",
    )
}
