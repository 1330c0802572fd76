//! Statements that are answered by one server with copies of what is elsewhere (`plan::Gather`).
//!
//! Two flights. In the first the server that gathers reads the client's text, so that what is wrong with it is the
//! server's own error, and the text with copies in the place of tables, which must describe itself alike; all shards
//! fetch rows, as the text form of each row. In the second the rows are bound as arrays, one a table, and the
//! statement runs.

use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec::client::Message;
use crate::exec::flight;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Outcome;
use crate::exec::flight::Show;
use crate::exec::say;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan;
use crate::plan::Command;
use crate::plan::Copy;
use crate::plan::Effects;
use crate::plan::Gather;
use crate::plan::Isolation;
use crate::plan::Planned;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::command::leaves_something;
use crate::session::extended::Portal;
use crate::session::extended::Reached;
use crate::session::extended::fatal;
use crate::session::extended::same_count;
use crate::session::extended::types_on;
use crate::session::merge::SortedReady;
use crate::session::merge::columns_of;
use crate::session::prepared::Prepared;
use crate::session::simple::Place;
use crate::session::simple::characters;
use crate::session::simple::messages;
use crate::wire::postgres::frontend;
use crate::wire::postgres::frontend::Format;

/// More rows of one table and shard are not sent as an array, which has no indexes ...
const ARRAY_ROWS: usize = 2_000;
/// ... unless nothing else can be had.
const ARRAY_ROWS_ONLY: usize = 100_000;

#[cfg(debug_assertions)]
fn array_rows_wanted() -> Option<usize> {
    // Tests have small tables.
    static ROWS: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    *ROWS.get_or_init(|| std::env::var("SHARDWAY_ARRAY_ROWS").ok()?.parse().ok())
}

#[cfg(not(debug_assertions))]
fn array_rows_wanted() -> Option<usize> {
    None
}

/// A Bind that is to be gathered for.
pub(super) struct Binding<'a> {
    pub(super) message: &'a Message,
    pub(super) portal: Box<str>,
    pub(super) prepared: Rc<Prepared>,
    pub(super) planned: Rc<Planned>,
}

/// A statement with its values in text form.
pub(super) struct Said<'a> {
    /// The text that it is a part of.
    pub(super) text: &'a str,
    pub(super) planned: &'a Planned,
    pub(super) types: &'a [u32],
    pub(super) values: &'a [Option<&'a [u8]>],
    /// Where it stands in the client's text, in characters.
    pub(super) offset: u32,
}

/// What is to be gathered.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) gather: &'a Gather,
    pub(super) planned: &'a Planned,
    /// The text that the statement is a part of.
    pub(super) text: &'a str,
    /// How many parameters the client gives.
    pub(super) count: usize,
    /// Their types, as the client knows them.
    pub(super) types: &'a [u32],
    /// What the client gives.
    pub(super) values: &'a [(Format, Option<&'a [u8]>)],
    /// The client has prepared it; else the text is read first.
    pub(super) prepared: Option<&'a Prepared>,
    /// What the shards are joined for.
    pub(super) access: plan::Access,
    /// Where the statement stands in the client's text, in characters.
    pub(super) offset: u32,
    pub(super) home: ShardId,
    /// Nothing else is done between the last Sync and the next.
    pub(super) alone: bool,
}

/// What has been got ready on the link that gathers: the unnamed statement there is the client's, over copies.
pub(super) struct Ready {
    /// The values behind the client's own: an array a copy, or none where the copies are tables.
    pub(super) arrays: Vec<Vec<u8>>,
    /// What was said of the client's text.
    pub(super) notices: Vec<u8>,
}

impl Session {
    /// The shard that gathers.
    pub(super) fn gathers_at(&self, gather: &Gather, effects: &Effects) -> ShardId {
        let database = &self.access.service.database;
        let clock = self.transaction.clock.filter(|_| self.transaction.is_open() && effects.uses_now);
        gather.at.or(clock).or(database.gather.on).unwrap_or(database.catalog)
    }

    /// Runs one statement of a Query. True: the client has been told that it may go on.
    pub(super) async fn gathered(
        &mut self,
        text: &str,
        statement: &Planned,
        gather: &Gather,
        place: Place,
    ) -> Result<bool, Trouble> {
        let offset = characters(text, statement.range.start);
        self.gathered_with(Said { text, planned: statement, types: &[], values: &[], offset }, gather, place).await
    }

    /// The same with values, for EXECUTE.
    pub(super) async fn gathered_with(
        &mut self,
        said: Said<'_>,
        gather: &Gather,
        place: Place,
    ) -> Result<bool, Trouble> {
        let Said { text, planned, types, values, offset } = said;
        let template = Rc::clone(&planned.template);
        let home = self.gathers_at(gather, &template.effects);
        let access = template.access;
        let values: Vec<(Format, Option<&[u8]>)> = values.iter().map(|it| (Format::Text, *it)).collect();
        let (count, values) = (values.len(), values.as_slice());
        let alone = place == Place::Alone;
        let task = Task { gather, planned, text, count, types, values, prepared: None, access, offset, home, alone };
        let mut ids = SmallVec::new();
        if template.command == Command::Data && template.effects.copy.is_none() {
            match self.get_sorted(&task, &mut ids).await.and_then(|it| self.wanted(it)) {
                Ok(None) => {}
                Ok(Some(sorted)) => {
                    return self.show_sorted(&sorted, &task, &ids, place).await;
                }
                Err(trouble) => {
                    self.end_steps(&ids).await?;
                    return Err(trouble);
                }
            }
        }
        let ready = match self.get_ready(&task, &mut ids).await.and_then(|it| self.wanted(it)) {
            Ok(ready) => ready,
            Err(trouble) => {
                self.end_steps(&ids).await?;
                return Err(trouble);
            }
        };
        self.client.push(&ready.notices);
        let keeper = self.keeper(&ids, home)?;
        // A cursor and COPY have no columns to be told of.
        let described = template.effects.copy.is_none() && template.command == Command::Data;
        let mut bind = Vec::new();
        if let Err(trouble) = say_bind(&mut bind, "", values, &ready.arrays, &[]) {
            self.end_steps(&ids).await?;
            return Err(trouble);
        }
        let others: SmallVec<[u8; 8]> = (0_u8..)
            .zip(&mut self.links)
            .filter(|(at, link)| usize::from(*at) != keeper && ids.iter().any(|(_, id)| *id == link.id))
            .map(|(at, link)| {
                link.say_sync();
                at
            })
            .collect();
        let Some(link) = self.links.get_mut(keeper) else { return Err(not_gathered("").into()) };
        link.out.append(&mut bind);
        if described {
            say::about(&mut link.out, b'D', b'P', "");
        }
        say::execute(&mut link.out, "");
        link.say_sync();
        self.hold_for(&template.effects, &template.command, keeper);
        let alone = place == Place::Alone;
        let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(keeper).unwrap_or(u8::MAX)]);
        let owed = |expect, show| Item::Owed { expect, links: links.clone(), show, prepares: 0 };
        self.items.push(owed(Expect::Bind, Show::Remarks));
        if described {
            self.items.push(owed(Expect::DescribePortal, Show::Client));
        }
        self.items.push(owed(Expect::Execute, Show::Client));
        // Whatever fails, the first Sync behind it is gone on with, and then the next.
        if !others.is_empty() {
            self.items.push(Item::Owed { expect: Expect::Sync, links: others, show: Show::Nobody, prepares: 0 });
        }
        self.items.push(owed(Expect::Sync, if alone { Show::Client } else { Show::Nobody }));
        let outcome = self.fly(offset, alone).await?;
        let shown = self.shown(&outcome)?;
        if leaves_something(&template.command, &template.effects) {
            self.took_effect(&template.command, &template.effects, &ShardSet::one(home)).await?;
        }
        Ok(shown)
    }

    /// What has been got ready, unless the client cancelled meanwhile: between two steps no server runs anything that a
    /// cancel request would strike.
    pub(super) fn wanted<T>(&self, ready: T) -> Result<T, Trouble> {
        if self.ticket.is_struck() {
            return Err(ClientError::new(
                Code::Canceled,
                "canceling statement due to user request",
                "Run it again if it is still wanted.",
            )
            .into());
        }
        Ok(ready)
    }

    /// Asks for rows in order, if that is all there is to do.
    async fn get_sorted(
        &mut self,
        task: &Task<'_>,
        ids: &mut SmallVec<[(ShardId, u32); 8]>,
    ) -> Result<Option<SortedReady>, Trouble> {
        let Some(shards) = &task.gather.merge else { return Ok(None) };
        let Some(pushed) = task.planned.pushed(task.text) else { return Ok(None) };
        let Some(sorting) = pushed.sorting else { return Ok(None) };
        Box::pin(self.ready_sorted(task, shards, &sorting, ids)).await
    }

    /// Shows rows in order, as the answer to a Query.
    async fn show_sorted(
        &mut self,
        sorted: &SortedReady,
        task: &Task<'_>,
        ids: &[(ShardId, u32)],
        place: Place,
    ) -> Result<bool, Trouble> {
        self.client.push(&sorted.notices);
        if let Err(trouble) = self.say_bind_sorted(sorted, "", task.values, &[]) {
            self.end_steps(ids).await?;
            return Err(trouble);
        }
        for at in &sorted.places {
            let link = self.links.get_mut(usize::from(*at)).ok_or_else(|| not_gathered(""))?;
            say::execute(&mut link.out, "");
        }
        let all: SmallVec<[u8; 8]> = (0_u8..)
            .zip(&mut self.links)
            .filter(|(_, link)| ids.iter().any(|(_, id)| *id == link.id))
            .map(|(at, link)| {
                link.say_sync();
                at
            })
            .collect();
        let links = sorted.places.clone();
        self.items.push(Item::Owed { expect: Expect::Bind, links: links.clone(), show: Show::Nobody, prepares: 0 });
        self.items.push(Item::Local(sorted.described(&[]).into()));
        self.items.push(Item::Sorted { links, order: Rc::clone(&sorted.order) });
        let alone = place == Place::Alone;
        let show = if alone { Show::Client } else { Show::Nobody };
        self.items.push(Item::Owed { expect: Expect::Sync, links: all, show, prepares: 0 });
        let outcome = self.fly(task.offset, alone).await?;
        self.shown(&outcome)
    }

    /// Binds a portal to a statement that is gathered.
    pub(super) async fn bind_gathered(&mut self, binding: Binding<'_>, gather: &Gather) -> Result<(), Trouble> {
        let Binding { message, portal, prepared, planned } = binding;
        // What came before is in sight of what is fetched.
        if Box::pin(self.fly_batch()).await? == Reached::Failed {
            return Ok(());
        }
        let template = Rc::clone(&planned.template);
        let home = self.gathers_at(gather, &template.effects);
        let count = usize::from(template.parameters).max(prepared.types.len());
        // The text itself is read where it will run, and the client is told.
        self.admit_at(&ShardSet::one(home), &ShardSet::one(home), template.access, &template.effects)?;
        // What has been bound on a replica stays where it is: nothing may have to be asked again of primaries.
        let begun = self.links.iter().any(|link| link.unsynced);
        let alone = !begun && self.client.is_last_before_sync();
        let access = if begun || gather.staged { plan::Access::ReadPrimary } else { template.access };
        let at = self.join(home, access).await?;
        if alone && gather.merge.is_none() {
            self.at_one_moment(at);
        }
        self.ready_links(&[u8::try_from(at).unwrap_or(u8::MAX)], &prepared)?;
        if let Some(link) = self.links.get_mut(at) {
            link.unsynced = true;
        }
        if Box::pin(self.fly_batch()).await? == Reached::Failed {
            return Ok(());
        }
        let body = self.client.bytes(message.body()).to_vec();
        let view = frontend::Bind::read(&body).map_err(fatal)?;
        let given = view.count();
        same_count(given, count)?;
        let mut types = prepared.types.clone();
        types.resize(count, 0);
        let text = Arc::clone(&prepared.text);
        let values: Vec<(Format, Option<&[u8]>)> =
            view.values().enumerate().map(|(it, value)| (view.formats.at(it), value)).collect();
        let task = Task {
            gather,
            planned: &planned,
            text: &text,
            count,
            types: &types,
            values: &values,
            prepared: Some(&prepared),
            access,
            offset: 0,
            home,
            alone,
        };
        let mut ids = SmallVec::new();
        let results: Vec<Format> = (0..view.results.given()).map(|it| view.results.at(it)).collect();
        // Rows of several servers cannot be had a few at a time.
        if template.command == Command::Data
            && self.client.asks_for_all(&portal)
            && let Some(sorted) = self.get_sorted(&task, &mut ids).await.and_then(|it| self.wanted(it))?
        {
            if results.len() > 1 && results.len() != sorted.count() {
                return Err(ClientError::new(
                    Code::ProtocolViolation,
                    format_args!(
                        "bind message has {} result formats but query has {} columns",
                        results.len(),
                        sorted.count()
                    ),
                    "Give one format for all columns, or one for each.",
                )
                .into());
            }
            self.say_bind_sorted(&sorted, &portal, &values, &results)?;
            let ids = sorted.places.iter().filter_map(|at| self.links.get(usize::from(*at))).map(|it| it.id).collect();
            let depth = self.transaction.savepoints.len();
            let order = Some((Rc::clone(&sorted.order), sorted.described(&results).into()));
            self.put_portal(portal, Portal { prepared, planned: Some(planned), links: ids, depth, order, parts: None });
            let links = sorted.places;
            self.items.push(Item::Owed { expect: Expect::Bind, links, show: Show::Client, prepares: 0 });
            return Ok(());
        }
        let ready = self.get_ready(&task, &mut ids).await.and_then(|it| self.wanted(it))?;
        let at = self.keeper(&ids, home)?;
        let places: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        let (in_question, id) = {
            let Some(link) = self.links.get_mut(at) else { return Err(not_gathered("").into()) };
            say_bind(&mut link.out, &portal, &values, &ready.arrays, &results)?;
            link.unsynced = true;
            (link.type_oids.is_some() && results.contains(&Format::Binary), link.id)
        };
        let depth = self.transaction.savepoints.len();
        let described = in_question.then(|| portal.clone());
        let links = SmallVec::from_slice(&[id]);
        self.put_portal(portal, Portal { prepared, planned: Some(planned), links, depth, order: None, parts: None });
        self.items.push(Item::Owed { expect: Expect::Bind, links: places.clone(), show: Show::Client, prepares: 0 });
        if let Some(portal) = described {
            return Box::pin(self.describe_numbers(&portal, &places, template.access)).await;
        }
        Ok(())
    }

    /// Whether copies hold what their tables hold, under the settings of the session.
    pub(super) fn copies_keep_values(&self, gather: &Gather) -> Result<(), ClientError> {
        if self.state.value("xmloption", &self.transaction.local).is_some_and(|it| &**it != "content")
            && gather.copies.iter().any(|it| it.xml)
        {
            return Err(ClientError::unsupported(
                "a read across shards with xmloption document is not supported",
                "Set it back to content: what columns of xml hold need not be a document.",
            ));
        }
        self.nulls_stay("a read across shards")
    }

    /// Whether a NULL in an array is one again when a server reads it.
    pub(super) fn nulls_stay(&self, what: &str) -> Result<(), ClientError> {
        if self.state.value("array_nulls", &self.transaction.local).is_some_and(|it| &**it != "on") {
            return Err(ClientError::unsupported(
                format!("{what} with array_nulls off is not supported"),
                "Set it back on: a NULL in an array would be copied as the word.",
            ));
        }
        Ok(())
    }

    /// Gets the statement ready where it runs: by arrays if they are small enough, else by tables. What has been said is
    /// not ended; `ids` are the links that took part.
    pub(super) async fn get_ready(
        &mut self,
        task: &Task<'_>,
        ids: &mut SmallVec<[(ShardId, u32); 8]>,
    ) -> Result<Ready, Trouble> {
        self.copies_keep_values(task.gather)?;
        if let Some(shards) = &task.gather.merge {
            if let Some(pushed) = task.planned.pushed(task.text)
                && let Some(ready) = Box::pin(self.ready_by_merge(task, shards, &pushed, ids)).await?
            {
                return Ok(ready);
            }
            // Tables are to be read at one moment, which begins before anything else is said.
            if task.alone && !self.transaction.is_open() {
                self.end_steps(ids).await?;
                ids.clear();
            }
        }
        let mut described = None;
        let shards = shards_of(task.gather, task.home);
        if !task.gather.staged {
            self.take_part(task, &shards, task.access, task.alone, ids).await?;
            match self.ready_by_arrays(task, ids).await? {
                Attempt::Ready(ready) => return Ok(ready),
                Attempt::TooMany(text) => described = Some(self.wanted(text)?),
            }
        }
        if task.gather.arrays_only {
            return Err(ClientError::new(
                if task.gather.staged { Code::Unsupported } else { Code::GatherLimit },
                "the statement needs temporary tables, which it would see",
                "Ask catalogs in a statement of its own.",
            )
            .into());
        }
        if self.is_read_only() {
            return Err(ClientError::new(
                Code::GatherLimit,
                "the statement needs temporary tables, which a read-only transaction may not have",
                "Run it outside of a READ ONLY transaction, or narrow it by conditions that every row must satisfy.",
            )
            .into());
        }
        let on_replicas = ids.iter().any(|(_, id)| self.links.iter().any(|link| link.id == *id && link.replica));
        if on_replicas {
            self.end_steps(ids).await?;
        }
        if on_replicas {
            ids.clear();
        }
        if on_replicas || task.gather.staged {
            self.take_part(task, &shards, plan::Access::ReadPrimary, task.alone, ids).await?;
        }
        self.ready_by_tables(task, ids, described).await
    }

    /// Joins all shards that take part, and says what comes before anything else there: that all is read at one moment,
    /// where one statement after the other is to be.
    pub(super) async fn take_part(
        &mut self,
        task: &Task<'_>,
        shards: &ShardSet,
        access: plan::Access,
        one_moment: bool,
        ids: &mut SmallVec<[(ShardId, u32); 8]>,
    ) -> Result<(), Trouble> {
        self.admit_at(shards, &ShardSet::one(task.home), access, &task.planned.template.effects)?;
        let places = self.join_all(shards, access).await?;
        for (shard, at) in shards.iter().zip(&places) {
            let at = usize::from(*at);
            if one_moment {
                self.at_one_moment(at);
            }
            self.prefix(at);
            if let Some(link) = self.links.get_mut(at) {
                link.unsynced = true;
                if !ids.iter().any(|(known, _)| *known == shard) {
                    ids.push((shard, link.id));
                }
            }
        }
        Ok(())
    }

    /// Says that all that is asked on a link up to its Sync is asked at one moment: of several tables one by one, they
    /// could show two. A transaction of the client's is what it was begun as, and so is a pipeline that goes on.
    fn at_one_moment(&mut self, at: usize) {
        let free = !self.transaction.is_open() && self.isolation() == Isolation::ReadCommitted;
        let Some(link) = self.links.get(at).filter(|link| free && !link.unsynced && !link.begun) else { return };
        let id = link.id;
        // Outside of a transaction block it counts for what is said until the Sync, and warns.
        self.say_step(id, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", Show::Nobody);
    }

    /// The same for the client's own text, or for the statement that it prepared.
    pub(super) fn say_reading_own(&mut self, at: usize, own: Option<&str>, task: &Task<'_>) -> Result<(), Trouble> {
        let Some(prepared) = task.prepared else { return self.say_reading(at, own, "", task.types) };
        // It may have been read elsewhere, before it was known that replicas will not do.
        self.say_parse(at, prepared, Show::Nobody)?;
        let name = self.server_name(prepared);
        self.say_reading(at, None, &name, task.types)
    }

    /// Says that the server that gathers is to read and describe a text; what comes back is collected.
    pub(super) fn say_reading(
        &mut self,
        at: usize,
        text: Option<&str>,
        name: &str,
        types: &[u32],
    ) -> Result<(), Trouble> {
        let Some(link) = self.links.get_mut(at) else { return Err(not_gathered("").into()) };
        let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        if let Some(text) = text {
            let theirs = match &link.type_oids {
                Some(oids) => types_on(&oids.known, types)?,
                None => types.to_vec(),
            };
            say::parse(&mut link.out, name, text, &theirs);
            link.connection.unnamed = 0;
            let links = links.clone();
            self.items.push(Item::Owed { expect: Expect::Parse, links, show: Show::Caller, prepares: 0 });
        }
        say::about(&mut link.out, b'D', b'S', name);
        self.items.push(Item::Owed { expect: Expect::DescribeStatement, links, show: Show::Caller, prepares: 0 });
        Ok(())
    }

    /// Fetches rows and makes arrays of them.
    async fn ready_by_arrays(
        &mut self,
        task: &Task<'_>,
        ids: &SmallVec<[(ShardId, u32); 8]>,
    ) -> Result<Attempt, Trouble> {
        let limit = if self.is_read_only() || task.gather.arrays_only {
            ARRAY_ROWS_ONLY
        } else {
            array_rows_wanted().unwrap_or(ARRAY_ROWS)
        };
        let rewritten = rewritten(task, &|place, copy, _| plan::as_parameter(copy, task.count + place + 1))?;
        let at = self.keeper(ids, task.home)?;
        let own = task.text.get(task.planned.range.clone()).filter(|_| task.prepared.is_none());
        self.say_reading_own(at, own, task)?;
        let checked_at = self.items.len();
        self.say_reading(at, Some(&rewritten), "", task.types)?;
        let fetched_at = self.items.len();
        for copy in &task.gather.copies {
            let fetch = format!("{} LIMIT {}", copy.fetch, limit + 1);
            for shard in copy.shards.iter() {
                let Some((_, id)) = ids.iter().find(|(it, _)| *it == shard) else { continue };
                if copy.unsettled {
                    self.say_step(*id, SETTLE, Show::Nobody);
                }
                self.say_step(*id, &fetch, Show::Caller);
                if copy.unsettled {
                    self.say_step(*id, UNSETTLE, Show::Nobody);
                }
            }
        }
        // A server's statement_timeout runs from Parse on until something has been executed.
        if let Some(id) = self.links.get(at).map(|link| link.id) {
            self.say_step(id, "SELECT", Show::Nobody);
        }
        self.say_flush();
        let outcome = self.fly(task.offset, false).await?;
        if let Some(failure) = &outcome.failed {
            let about = match failure.item {
                item if item < checked_at => About::Text(task.offset),
                item if item < fetched_at => About::Rewritten,
                _ => About::Rows,
            };
            return Err(trouble_of(&outcome, about));
        }
        let mut described = Described::default();
        if outcome.overflowed {
            messages(&outcome.collected).for_each(|message| described.note(message));
            return Ok(Attempt::TooMany(described.of_text()));
        }
        let copies = &task.gather.copies;
        let mut fetches = copies.iter().enumerate().flat_map(|(at, copy)| copy.shards.iter().map(move |_| at));
        let mut current = fetches.next();
        let mut arrays: Vec<Vec<u8>> = copies.iter().map(|_| vec![b'{']).collect();
        let mut rows = 0_usize;
        for message in messages(&outcome.collected) {
            match message.first() {
                Some(b'D') => {
                    rows += 1;
                    if rows > limit {
                        return Ok(Attempt::TooMany(described.of_text()));
                    }
                    if let Some(array) = current.and_then(|at| arrays.get_mut(at)) {
                        plan::put_element(array, message.get(11..).unwrap_or_default());
                    }
                }
                Some(b'C') => {
                    rows = 0;
                    current = fetches.next();
                }
                _ => described.note(message),
            }
        }
        if current.is_some() {
            return Err(not_gathered("a shard did not answer").into());
        }
        let notices = described.checked(task)?;
        for array in &mut arrays {
            array.push(b'}');
        }
        // What fetched rows there took the place of the statement without a name.
        let at = self.keeper(ids, task.home)?;
        let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        if let Some(link) = self.links.get_mut(at) {
            let theirs = match &link.type_oids {
                Some(oids) => types_on(&oids.known, task.types)?,
                None => task.types.to_vec(),
            };
            say::parse(&mut link.out, "", &rewritten, &theirs);
            link.connection.unnamed = 0;
        }
        self.items.push(Item::Owed { expect: Expect::Parse, links, show: Show::Nobody, prepares: 0 });
        Ok(Attempt::Ready(Ready { arrays, notices }))
    }

    /// Fills temporary tables with the rows.
    async fn ready_by_tables(
        &mut self,
        task: &Task<'_>,
        ids: &SmallVec<[(ShardId, u32); 8]>,
        described: Option<Described>,
    ) -> Result<Ready, Trouble> {
        let mut described = match described {
            Some(described) => described,
            None => {
                let at = self.keeper(ids, task.home)?;
                let own = task.text.get(task.planned.range.clone()).filter(|_| task.prepared.is_none());
                self.say_reading_own(at, own, task)?;
                self.say_flush();
                let outcome = self.fly(task.offset, false).await?;
                if outcome.failed.is_some() {
                    return Err(trouble_of(&outcome, About::Text(task.offset)));
                }
                let mut described = Described::default();
                messages(&outcome.collected).for_each(|message| described.note(message));
                described
            }
        };
        let names = self.stage(task.gather, ids, task.home).await?;
        let rewritten = rewritten(task, &|place, copy, whole| {
            names.get(place).map(|it| plan::as_table(copy, it, whole)).unwrap_or_default()
        })?;
        let at = self.keeper(ids, task.home)?;
        self.say_reading(at, Some(&rewritten), "", task.types)?;
        self.say_flush();
        let outcome = self.fly(task.offset, false).await?;
        if outcome.failed.is_some() {
            return Err(trouble_of(&outcome, About::Rewritten));
        }
        messages(&outcome.collected).for_each(|message| described.note(message));
        let notices = described.checked(task)?;
        Ok(Ready { arrays: Vec::new(), notices })
    }

    /// The place of the link that gathers.
    pub(super) fn keeper(&self, ids: &[(ShardId, u32)], home: ShardId) -> Result<usize, ClientError> {
        let id = ids.iter().find(|(shard, _)| *shard == home).map(|(_, id)| *id);
        self.links.iter().position(|link| Some(link.id) == id).ok_or_else(|| not_gathered(""))
    }

    /// Ends on these links what was said without a Sync, and rolls it back where something failed.
    pub(super) async fn end_steps(&mut self, ids: &[(ShardId, u32)]) -> Result<(), Trouble> {
        // What has been said is answered; the client hears of what went wrong first only.
        if !self.items.is_empty() {
            for item in &mut self.items {
                if let Item::Owed { show, .. } = item {
                    *show = Show::Caller;
                }
            }
            self.say_flush();
            self.fly(0, false).await?;
        }
        let mut links: SmallVec<[u8; 8]> = SmallVec::new();
        for (at, link) in (0_u8..).zip(&mut self.links) {
            if link.unsynced && ids.iter().any(|(_, id)| *id == link.id) {
                link.say_sync();
                links.push(at);
            }
        }
        if links.is_empty() {
            return Ok(());
        }
        self.items.push(Item::Owed { expect: Expect::Sync, links, show: Show::Caller, prepares: 0 });
        self.fly(0, false).await.map(|_| ())
    }
}

/// What came of fetching rows for arrays.
enum Attempt {
    Ready(Ready),
    /// There are too many rows. How the client's text describes itself.
    TooMany(Described),
}

/// How the client's text and the rewritten one describe themselves.
#[derive(Default)]
pub(super) struct Described {
    notices: Vec<u8>,
    columns: Vec<Vec<u8>>,
    parameters: Vec<Vec<u8>>,
}

impl Described {
    pub(super) fn note(&mut self, message: &[u8]) {
        match message.first() {
            Some(b't') => self.parameters.push(message.to_vec()),
            Some(b'T' | b'n') => self.columns.push(message.to_vec()),
            // What the text itself calls forth is told once.
            Some(b'N') if self.columns.is_empty() => self.notices.extend_from_slice(message),
            _ => {}
        }
    }

    /// Whether the client's text has been described.
    pub(super) fn is_whole(&self) -> bool {
        !self.columns.is_empty()
    }

    /// The types of the client's parameters.
    pub(super) fn parameter_types(&self) -> Vec<u32> {
        let body = self.parameters.first().and_then(|it| it.get(7..)).unwrap_or_default();
        body.chunks_exact(4).filter_map(|it| it.first_chunk::<4>()).map(|it| u32::from_be_bytes(*it)).collect()
    }

    /// The columns of the client's text.
    pub(super) fn own_columns(&self) -> Option<Vec<plan::Described>> {
        columns_of(self.columns.first()?)
    }

    /// What is known of the client's text alone.
    fn of_text(mut self) -> Self {
        self.columns.truncate(1);
        self.parameters.truncate(1);
        self
    }

    /// What was said of the client's text.
    pub(super) fn notices(&self) -> &[u8] {
        &self.notices
    }

    /// What was said of the client's text, if the client has not been told yet.
    pub(super) fn told(self, task: &Task<'_>) -> Vec<u8> {
        if task.prepared.is_none() { self.notices } else { Vec::new() }
    }

    /// The RowDescription of the client's text.
    pub(super) fn own_message(&self) -> Option<Vec<u8>> {
        self.columns.first().filter(|it| it.first() == Some(&b'T')).cloned()
    }

    /// That both have the same columns and parameters. What was said of the client's text.
    pub(super) fn checked(self, task: &Task<'_>) -> Result<Vec<u8>, ClientError> {
        let alike = match (self.columns.as_slice(), self.parameters.as_slice()) {
            ([text, rewritten], [ours, theirs]) => {
                let shape = text == rewritten || flight::same_columns(text, rewritten);
                // The copies are parameters too, behind all others.
                shape && theirs.get(7..).unwrap_or_default().starts_with(ours.get(7..).unwrap_or_default())
            }
            _ => false,
        };
        if !alike {
            return Err(not_gathered("with copies of its tables it has other columns"));
        }
        Ok(self.told(task))
    }
}

/// What an error of a server is about.
#[derive(Clone, Copy)]
pub(super) enum About {
    /// The client's text, which stands so many characters behind the start of what it sent.
    Text(u32),
    /// The text over copies.
    Rewritten,
    /// What was asked for the rows.
    Rows,
}

/// What an error of a server means for the client.
pub(super) fn trouble_of(outcome: &Outcome, about: About) -> Trouble {
    // Without one it has been told already: a setting, say.
    let Some(error) = outcome.error.clone() else { return Trouble::Failed };
    match about {
        About::Text(offset) => Trouble::Told(flight::moved_position(error, offset)),
        About::Rewritten => {
            let said = flight::fields(&error).find(|(kind, _)| *kind == b'M').map(|(_, it)| it).unwrap_or_default();
            not_gathered(&String::from_utf8_lossy(said)).into()
        }
        About::Rows => Trouble::Told(flight::without_position(error)),
    }
}

/// Makes the text form of values independent of settings, until [`UNSETTLE`].
pub(super) const SETTLE: &str = "SELECT \
     pg_catalog.set_config('shardway.datestyle', pg_catalog.current_setting('datestyle'), true), \
     pg_catalog.set_config('shardway.intervalstyle', pg_catalog.current_setting('intervalstyle'), true), \
     pg_catalog.set_config('shardway.float_digits', pg_catalog.current_setting('extra_float_digits'), true), \
     pg_catalog.set_config('datestyle', 'ISO', true), pg_catalog.set_config('intervalstyle', 'postgres', true), \
     pg_catalog.set_config('extra_float_digits', '3', true)";

/// Takes [`SETTLE`] back.
pub(super) const UNSETTLE: &str = "SELECT \
     pg_catalog.set_config('datestyle', pg_catalog.current_setting('shardway.datestyle'), true), \
     pg_catalog.set_config('intervalstyle', pg_catalog.current_setting('shardway.intervalstyle'), true), \
     pg_catalog.set_config('extra_float_digits', pg_catalog.current_setting('shardway.float_digits'), true)";

/// All shards that take part.
fn shards_of(gather: &Gather, home: ShardId) -> ShardSet {
    let mut shards = ShardSet::one(home);
    for copy in &gather.copies {
        shards.union(&copy.shards);
    }
    shards
}

/// The statement with copies in the place of tables.
fn rewritten(task: &Task<'_>, copy: &dyn Fn(usize, &Copy, bool) -> String) -> Result<String, ClientError> {
    let copies = &task.gather.copies;
    let stands = |place: usize, whole| copies.get(place).map(|it| copy(place, it, whole)).unwrap_or_default();
    task.planned.rewritten(task.text, &stands).ok_or_else(|| not_gathered(""))
}

/// Bind with further values behind the client's: arrays in text format.
pub(super) fn say_bind(
    out: &mut Vec<u8>,
    portal: &str,
    values: &[(Format, Option<&[u8]>)],
    arrays: &[Vec<u8>],
    results: &[Format],
) -> Result<(), Trouble> {
    let count = |of: usize| u16::try_from(of).map_err(|_| not_gathered("too many parameters"));
    let code = |format: &Format| u16::from(*format == Format::Binary).to_be_bytes();
    let all = count(values.len() + arrays.len())?;
    let size: usize = arrays.iter().map(Vec::len).sum::<usize>()
        + values.iter().map(|(_, it)| it.map_or(0, <[u8]>::len)).sum::<usize>();
    if size > flight::COLLECTED_MAX * 2 {
        return Err(ClientError::new(
            Code::TooLarge,
            "the values of this statement are too many to be sent with copies of its tables",
            "Send fewer at once.",
        )
        .into());
    }
    let results_count = count(results.len())?;
    say::message(out, b'B', |out| {
        say::string(out, portal);
        out.push(0);
        out.extend_from_slice(&all.to_be_bytes());
        for (format, _) in values {
            out.extend_from_slice(&code(format));
        }
        out.resize(out.len() + arrays.len() * 2, 0);
        out.extend_from_slice(&all.to_be_bytes());
        for value in values.iter().map(|(_, it)| *it).chain(arrays.iter().map(|it| Some(it.as_slice()))) {
            match value {
                None => out.extend_from_slice(&u32::MAX.to_be_bytes()),
                Some(bytes) => {
                    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
                    out.extend_from_slice(bytes);
                }
            }
        }
        out.extend_from_slice(&results_count.to_be_bytes());
        for format in results {
            out.extend_from_slice(&code(format));
        }
    });
    Ok(())
}

fn not_gathered(why: &str) -> ClientError {
    let error = ClientError::unsupported(
        "this statement across shards is not supported: it does not run on copies of its tables",
        "Add a condition on the shard key so that one shard answers.",
    );
    if why.is_empty() { error } else { error.with_detail(format!("The server said: {why}.")) }
}
