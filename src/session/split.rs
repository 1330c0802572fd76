//! Writes that each shard is told in words of its own (`plan::Split`), as parts of one transaction.
//!
//! Where anything of the client's text has to be known before (the types of its parameters, the columns that it returns,
//! the time), one server reads it first. Then each shard is told its part, one after the other, and the client sees one
//! answer.

use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec::flight;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Show;
use crate::exec::say;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan;
use crate::plan::Command;
use crate::plan::Planned;
use crate::plan::Share;
use crate::plan::Split;
use crate::plan::Template;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::extended::Parts;
use crate::session::extended::Portal;
use crate::session::extended::Reached;
use crate::session::extended::fatal;
use crate::session::extended::same_count;
use crate::session::extended::types_on;
use crate::session::gather::About;
use crate::session::gather::Binding;
use crate::session::gather::Described;
use crate::session::gather::Said;
use crate::session::gather::say_bind;
use crate::session::gather::trouble_of;
use crate::session::merge::formats;
use crate::session::merge::with_formats;
use crate::session::moves::Moved;
use crate::session::prepared::Prepared;
use crate::session::simple::messages;
use crate::topology::two_phase::TURN;
use crate::wire::postgres::frontend;
use crate::wire::postgres::frontend::Format;

/// Tells now() so that any server reads it alike, whatever its settings.
const NOW: &str =
    "SELECT pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.now()), 'YYYY-MM-DD HH24:MI:SS.US+00')";
/// text
const TEXT: u32 = 25;

/// What is to be split.
pub(super) struct Task<'a> {
    pub(super) split: &'a Split,
    pub(super) planned: &'a Planned,
    /// The text that the statement is a part of.
    pub(super) text: &'a str,
    /// The types of the parameters, as the client gave them.
    pub(super) types: &'a [u32],
    pub(super) values: &'a [(Format, Option<&'a [u8]>)],
    /// The client has prepared it; else the text is read first.
    prepared: Option<&'a Prepared>,
    pub(super) portal: &'a str,
    pub(super) results: &'a [Format],
    /// Where the statement stands in the client's text, in characters.
    offset: u32,
}

/// What is bound to a portal, and to which.
pub(super) struct Bound<'a> {
    pub(super) types: &'a [u32],
    pub(super) values: &'a [(Format, Option<&'a [u8]>)],
    pub(super) portal: &'a str,
    pub(super) results: &'a [Format],
}

/// A part each on its shard, bound to a portal.
pub(super) struct Ready {
    /// The links, in the order of their first row.
    pub(super) places: SmallVec<[u8; 8]>,
    /// What is known of the client's text.
    pub(super) own: Own,
    /// Rows move: what is to be done with them.
    pub(super) moved: Option<Rc<Moved>>,
}

/// What the server that read the client's text first says of it.
#[derive(Default)]
pub(super) struct Own {
    /// The types of its parameters, as the client numbers them.
    pub(super) types: Vec<u32>,
    /// Its RowDescription, as the client numbers types.
    pub(super) columns: Option<Vec<u8>>,
    pub(super) now: Option<String>,
}

impl Session {
    /// Runs a split write of a Query (or of EXECUTE) within the transaction that is open.
    pub(super) async fn split(&mut self, said: Said<'_>, split: &Split) -> Result<bool, Trouble> {
        let Said { text, planned, types, values, offset } = said;
        let values: Vec<(Format, Option<&[u8]>)> = values.iter().map(|it| (Format::Text, *it)).collect();
        let values = values.as_slice();
        let task = Task { split, planned, text, types, values, prepared: None, portal: "", results: &[], offset };
        let mut ids = SmallVec::new();
        let ready = match Box::pin(self.get_parts_ready(&task, &mut ids)).await.and_then(|it| self.wanted(it)) {
            Ok(ready) => ready,
            Err(trouble) => {
                self.end_steps(&ids).await?;
                return Err(trouble);
            }
        };
        let links = ready.places.clone();
        self.items.push(Item::Owed { expect: Expect::Bind, links, show: Show::Nobody, prepares: 0 });
        let ids_in_order = ids_of(&ids, &split.shards);
        let access = planned.template.access;
        let done = match &ready.moved {
            None => self.run_parts(&ids_in_order, "", split, access).await,
            Some(moved) => Box::pin(self.run_moves(&ids_in_order, "", split, moved)).await,
        };
        self.end_steps(&ids).await?;
        let done = done?;
        if let Some(columns) = ready.own.columns {
            self.client.push(&columns);
        }
        self.client.push(&done);
        Ok(false)
    }

    /// Binds a portal to a split write, within the transaction that is open.
    pub(super) async fn bind_split(&mut self, binding: Binding<'_>, split: &Split) -> Result<(), Trouble> {
        let Binding { message, portal, prepared, planned } = binding;
        // What came before is in sight of what is written.
        if Box::pin(self.fly_batch()).await? == Reached::Failed {
            return Ok(());
        }
        let shards = split.shard_set();
        if !self.transaction.is_open() {
            self.span_shards(&shards).await?;
        }
        // The text itself is read where the first row goes, and the client is told.
        let at = self.join(self.home_of(split)?, plan::Access::ReadPrimary).await?;
        self.ready_links(&[u8::try_from(at).unwrap_or(u8::MAX)], &prepared)?;
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
        let text = Arc::clone(&prepared.text);
        let values: Vec<(Format, Option<&[u8]>)> =
            view.values().enumerate().map(|(it, value)| (view.formats.at(it), value)).collect();
        let results: Vec<Format> = (0..view.results.given()).map(|it| view.results.at(it)).collect();
        let task = Task {
            split,
            planned: &planned,
            text: &text,
            types: &prepared.types,
            values: &values,
            prepared: Some(&prepared),
            portal: &portal,
            results: &results,
            offset: 0,
        };
        let mut ids = SmallVec::new();
        let ready = Box::pin(self.get_parts_ready(&task, &mut ids)).await.and_then(|it| self.wanted(it))?;
        let ids = ids_of(&ids, &split.shards).into_iter().collect();
        let columns = ready.own.columns.map(|columns| with_formats(&columns, &results).into());
        let depth = self.transaction.savepoints.len();
        let parts = Some(Parts { split: Rc::new(split.clone()), columns, moved: ready.moved });
        self.put_portal(portal, Portal { prepared, planned: Some(planned), links: ids, depth, order: None, parts });
        self.items.push(Item::Owed { expect: Expect::Bind, links: ready.places, show: Show::Client, prepares: 0 });
        Ok(())
    }

    /// Executes what has been bound on the links of a split's shards, one shard after the other in the shards' order: of two
    /// sessions that want the same rows, the second waits on the first shard that it needs, and holds nothing behind it.
    /// What the client is to see, but for a description.
    pub(super) async fn run_parts(
        &mut self,
        ids: &[u32],
        portal: &str,
        split: &Split,
        access: plan::Access,
    ) -> Result<Vec<u8>, Trouble> {
        let mut order: SmallVec<[usize; 8]> = (0..split.shards.len()).collect();
        order.sort_by_key(|place| split.shards.get(*place).copied());
        let mut answers: Vec<Vec<u8>> = vec![Vec::new(); split.shards.len()];
        let mut size = 0_usize;
        for place in order {
            self.wanted(())?;
            let id = ids.get(place).copied().ok_or_else(gone)?;
            if split.everywhere {
                self.say_step(id, TURN, Show::Nobody);
            }
            let answer = self.run_part(id, portal, access, &mut size).await?;
            if let Some(slot) = answers.get_mut(place) {
                *slot = answer;
            }
        }
        // Types may have other numbers on other shards, and stand in rows.
        let comparable = self.links.iter().all(|it| it.type_oids.is_none());
        Ok(put_together(split, &answers, comparable)?)
    }

    /// Executes a portal of one link. What comes is collected; `size` is what has been collected so far.
    pub(super) async fn run_part(
        &mut self,
        id: u32,
        portal: &str,
        access: plan::Access,
        size: &mut usize,
    ) -> Result<Vec<u8>, Trouble> {
        let at = self.links.iter().position(|link| link.id == id).ok_or_else(gone)?;
        let link = self.links.get_mut(at).ok_or_else(gone)?;
        say::execute(&mut link.out, portal);
        link.wrote |= access == plan::Access::Write;
        link.unsynced = true;
        let links = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        self.items.push(Item::Owed { expect: Expect::Execute, links, show: Show::Caller, prepares: 0 });
        self.say_flush();
        let outcome = self.fly(0, false).await?;
        if outcome.failed.is_some() {
            return Err(trouble_of(&outcome, About::Rows));
        }
        *size += outcome.collected.len();
        if outcome.overflowed || *size > flight::COLLECTED_MAX {
            return Err(ClientError::new(
                Code::TooLarge,
                "what this write of several shards returns is too much to be held",
                "Leave out RETURNING, or write fewer rows at once.",
            )
            .into());
        }
        Ok(outcome.collected)
    }

    /// Joins the shards of a split, and the one that reads it first; `ids` are the links that take part.
    async fn join_parts(
        &mut self,
        task: &Task<'_>,
        home: ShardId,
        ids: &mut SmallVec<[(ShardId, u32); 8]>,
    ) -> Result<(), Trouble> {
        let (shards, template) = (task.split.shard_set(), &task.planned.template);
        self.admit_at(&shards, &ShardSet::one(home), template.access, &template.effects)?;
        let mut places = self.join_all(&shards, template.access).await?;
        if !shards.contains(home) {
            let at = self.join(home, plan::Access::ReadPrimary).await?;
            places.push(u8::try_from(at).unwrap_or(u8::MAX));
        }
        for at in places {
            self.prefix(usize::from(at));
            if let Some(link) = self.links.get_mut(usize::from(at)) {
                link.unsynced = true;
                ids.push((link.shard, link.id));
            }
        }
        Ok(())
    }

    /// Joins the shards, and tells each its part up to Bind; `ids` are the links that take part.
    async fn get_parts_ready(
        &mut self,
        task: &Task<'_>,
        ids: &mut SmallVec<[(ShardId, u32); 8]>,
    ) -> Result<Ready, Trouble> {
        let Task { split, planned, .. } = *task;
        let template = Rc::clone(&planned.template);
        let home = self.home_of(split)?;
        self.join_parts(task, home, ids).await?;
        let mut own = Own::default();
        let count = usize::from(template.parameters).max(task.types.len());
        let text = task.text.get(planned.range.clone()).filter(|_| task.prepared.is_none());
        if split.leave.is_some() {
            // Types of parameters are wanted, and no server reads the whole text later.
            let own = self.read_first(task, home, text, ids).await?;
            return Box::pin(self.get_moves_ready(task, ids, own, count)).await;
        }
        if count > 0 || split.now || template.returns() || split.beside.is_some() {
            own = self.read_first(task, home, text, ids).await?;
        } else if let Some(text) = text {
            // What is wrong with the text as a whole comes before what is wrong with a part.
            let at = self.place_of(ids, home)?;
            let link = self.links.get_mut(at).ok_or_else(gone)?;
            say::parse(&mut link.out, "", text, &[]);
            link.connection.unnamed = 0;
            let links = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
            self.items.push(Item::Owed { expect: Expect::Parse, links, show: Show::Remarks, prepares: 0 });
        }
        own.types.resize(count, 0);
        if let Some(copies) = &split.beside {
            return Box::pin(self.get_beside_ready(task, copies, own, ids)).await;
        }
        let shares = planned.shares(task.text, split, own.now.as_deref())?;
        let mut places: SmallVec<[u8; 8]> = SmallVec::new();
        for (shard, share) in split.shards.iter().zip(&shares) {
            let at = self.place_of(ids, *shard)?;
            places.push(u8::try_from(at).unwrap_or(u8::MAX));
            let said = Bound { types: &own.types, values: task.values, portal: task.portal, results: task.results };
            self.say_share(at, share, &said, &[])?;
        }
        for at in &places {
            let links = SmallVec::from_slice(&[*at]);
            self.items.push(Item::Owed { expect: Expect::Parse, links, show: Show::Nobody, prepares: 0 });
        }
        Ok(Ready { places, own, moved: None })
    }

    /// Says Parse and Bind of one part, with arrays behind the client's values.
    pub(super) fn say_share(
        &mut self,
        at: usize,
        share: &Share,
        said: &Bound<'_>,
        arrays: &[Vec<u8>],
    ) -> Result<(), Trouble> {
        // A value that stands in other parts only is of no type that could be told here.
        let used = |place: usize| share.parameters.get(place).copied().unwrap_or(false);
        let types: Vec<u32> =
            said.types.iter().enumerate().map(|(place, it)| if used(place) { *it } else { TEXT }).collect();
        let values: Vec<(Format, Option<&[u8]>)> = said
            .values
            .iter()
            .enumerate()
            .map(|(place, it)| if used(place) { *it } else { (Format::Text, None) })
            .collect();
        let link = self.links.get_mut(at).ok_or_else(gone)?;
        let types = match &link.type_oids {
            Some(oids) => types_on(&oids.known, &types)?,
            None => types,
        };
        say::parse(&mut link.out, "", &share.text, &types);
        link.connection.unnamed = 0;
        say_bind(&mut link.out, said.portal, &values, arrays, said.results)?;
        link.unsynced = true;
        Ok(())
    }

    /// Has one server read the client's text, or the statement that the client prepared: what is wrong with it, the
    /// types of its parameters, what it returns; and what time it is.
    async fn read_first(
        &mut self,
        task: &Task<'_>,
        home: ShardId,
        text: Option<&str>,
        ids: &SmallVec<[(ShardId, u32); 8]>,
    ) -> Result<Own, Trouble> {
        let at = self.place_of(ids, home)?;
        match task.prepared {
            None => self.say_reading(at, text, "", task.types)?,
            Some(prepared) => {
                self.say_parse(at, prepared, Show::Nobody)?;
                let name = self.server_name(prepared);
                self.say_reading(at, None, &name, task.types)?;
            }
        }
        let read = self.items.len();
        if let Some((_, id)) = ids.iter().find(|(shard, _)| *shard == home).copied().filter(|_| task.split.now) {
            self.say_step(id, NOW, Show::Caller);
        }
        self.say_flush();
        let outcome = self.fly(task.offset, false).await?;
        if let Some(failure) = &outcome.failed {
            let about = if failure.item < read { About::Text(task.offset) } else { About::Rows };
            return Err(trouble_of(&outcome, about));
        }
        let mut described = Described::default();
        let mut now = None;
        for message in messages(&outcome.collected) {
            match message.first() {
                Some(b'D') => now = message.get(11..).and_then(|it| std::str::from_utf8(it).ok()).map(str::to_owned),
                _ => described.note(message),
            }
        }
        if task.split.now && now.is_none() {
            return Err(gone().into());
        }
        let numbers =
            self.place_of(ids, home).ok().and_then(|at| self.links.get(at)).and_then(|it| it.type_oids.clone());
        let known = |oid: u32| numbers.as_ref().and_then(|it| it.known.get(&oid)).copied().unwrap_or(oid);
        let types = described.parameter_types().into_iter().map(known).collect();
        let mut columns = described.own_message();
        if let Some(columns) = &mut columns {
            let own = described.own_columns().unwrap_or_default();
            for link in self.links.iter().filter(|link| ids.iter().any(|(_, id)| *id == link.id)) {
                let Some(oids) = &link.type_oids else { continue };
                for (column, format) in own.iter().zip(formats(own.len(), task.results)) {
                    let theirs = types_on(&oids.known, &[known(column.oid)])?;
                    if format == Format::Binary && theirs.iter().any(|it| oids.holds_oids(*it)) {
                        return Err(flight::unreadable(&column.name).into());
                    }
                }
            }
            if let Some(numbers) = &numbers {
                *columns = flight::renumbered(std::mem::take(columns), &numbers.known);
            }
            let all = own.len();
            if task.results.len() > 1 && task.results.len() != all {
                return Err(ClientError::new(
                    Code::ProtocolViolation,
                    format_args!("bind message has {} result formats but query has {all} columns", task.results.len()),
                    "Give one format for all columns, or one for each.",
                )
                .into());
            }
        }
        if task.prepared.is_none() {
            self.client.push(described.notices());
        }
        Ok(Own { types, columns, now })
    }

    /// The shard that reads the text first: the one whose now() is the transaction's, if it has one.
    fn home_of(&self, split: &Split) -> Result<ShardId, ClientError> {
        let clock = self.transaction.clock.filter(|_| split.now && self.transaction.is_open());
        let known = split.beside.as_ref().and_then(|it| it.at);
        known.or(clock).or_else(|| split.shards.first().copied()).ok_or_else(gone)
    }

    pub(super) fn place_of(&self, ids: &[(ShardId, u32)], shard: ShardId) -> Result<usize, ClientError> {
        let id = ids.iter().find(|(it, _)| *it == shard).map(|(_, id)| *id);
        self.links.iter().position(|link| Some(link.id) == id).ok_or_else(gone)
    }
}

/// The links of these shards, in their order.
fn ids_of(ids: &[(ShardId, u32)], shards: &[ShardId]) -> SmallVec<[u32; 8]> {
    shards.iter().filter_map(|shard| ids.iter().find(|(it, _)| it == shard)).map(|(_, id)| *id).collect()
}

/// The messages of one kind in each answer.
fn of_kind(answers: &[Vec<u8>], kind: u8) -> Vec<Vec<&[u8]>> {
    answers.iter().map(|answer| messages(answer).filter(|it| it.first() == Some(&kind)).collect()).collect()
}

/// One answer out of the shards', each in its place: what servers remark, the rows in their order, one tag.
fn put_together(split: &Split, answers: &[Vec<u8>], comparable: bool) -> Result<Vec<u8>, ClientError> {
    let (rows, tags) = (of_kind(answers, b'D'), of_kind(answers, b'C'));
    let mut out: Vec<u8> = Vec::with_capacity(answers.iter().map(Vec::len).sum());
    if split.everywhere {
        let sorted = |place: usize| {
            let mut rows = rows.get(place).cloned().unwrap_or_default();
            rows.sort_unstable();
            rows
        };
        let alike = |place: usize| tags.get(place) == tags.first() && (!comparable || sorted(place) == sorted(0));
        if !(1..answers.len()).all(alike) {
            return Err(copies_differ());
        }
        return Ok(answers.first().cloned().unwrap_or_default());
    }
    for notice in of_kind(answers, b'N').iter().flatten() {
        out.extend_from_slice(notice);
    }
    if split.in_order {
        let mut next = vec![0_usize; answers.len()];
        for place in &split.rows {
            let place = usize::from(*place);
            let at = next.get_mut(place).ok_or_else(gone)?;
            let row = rows.get(place).and_then(|it| it.get(*at)).ok_or_else(gone)?;
            out.extend_from_slice(row);
            *at += 1;
        }
        if next.iter().zip(&rows).any(|(next, rows)| *next != rows.len()) {
            return Err(gone());
        }
    } else {
        rows.iter().flatten().for_each(|row| out.extend_from_slice(row));
    }
    let text = |message: &&[u8]| message.get(5..message.len().saturating_sub(1)).unwrap_or_default().to_vec();
    let total = tags.iter().filter_map(|it| it.first()).map(text).reduce(|sum, tag| flight::add_tags(&sum, &tag));
    say::message(&mut out, b'C', |out| {
        out.extend_from_slice(&total.unwrap_or_default());
        out.push(0);
    });
    Ok(out)
}

/// What only makes sense within a transaction block is told so, as a server would: it does not see that the proxy has begun
/// one.
pub(super) fn needs_block(template: &Template) -> Result<(), ClientError> {
    let what = match &template.command {
        Command::Declare { hold: false, .. } => "DECLARE CURSOR",
        _ if template.tag == "LOCK TABLE" => "LOCK TABLE",
        _ => return Ok(()),
    };
    let message = format!("{what} can only be used in transaction blocks");
    Err(ClientError::new(Code::NoTransaction, message, "BEGIN first."))
}

pub(in crate::session) fn copies_differ() -> ClientError {
    ClientError::new(
        Code::TableUnfit,
        "the copies of this reference table differ: the same write does another thing on another shard",
        "Nothing was done. Compare the table on all shards, and make it the same.",
    )
}

pub(super) fn gone() -> ClientError {
    ClientError::new(Code::Internal, "a link is gone that was held", "Report this.")
}
