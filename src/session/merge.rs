//! Statements that shards answer in part, and one server puts together (`plan::merge`).

use std::rc::Rc;

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
use crate::plan::Bound;
use crate::plan::Pushed;
use crate::plan::Sorting;
use crate::plan::put_element;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::gather::About;
use crate::session::gather::Described;
use crate::session::gather::Ready;
use crate::session::gather::Task;
use crate::session::gather::say_bind;
use crate::session::gather::trouble_of;
use crate::session::simple::messages;
use crate::wire::postgres::frontend::Format;

/// Types from here on have other numbers on other servers.
const FIRST_USER_TYPE: u32 = 16_384;

/// Tells [`plan::Settings`]. (A server's `statement_timeout` runs from Parse on until something has been executed.)
pub(super) const SETTINGS: &str = "SELECT pg_catalog.concat_ws(' ', \
     CASE WHEN pg_catalog.starts_with(pg_catalog.current_setting('datestyle'), 'ISO') THEN 'iso' END, \
     CASE pg_catalog.current_setting('intervalstyle') WHEN 'postgres' THEN 'plain' END, \
     CASE WHEN pg_catalog.current_setting('extra_float_digits')::pg_catalog.int4 OPERATOR(pg_catalog.>) 0 THEN 'exact' END)";

/// Rows in order, got ready on each shard: the unnamed statement there gives the client's columns and the keys.
pub(super) struct SortedReady {
    pub(super) order: Rc<flight::Order>,
    /// How the client's text describes itself (RowDescription, all in text format).
    columns: Vec<u8>,
    /// What was said of the client's text.
    pub(super) notices: Vec<u8>,
    /// The links of the shards.
    pub(super) places: SmallVec<[u8; 8]>,
}

impl SortedReady {
    /// How many columns the client gets.
    pub(super) fn count(&self) -> usize {
        count_of(&self.columns)
    }

    /// The RowDescription in these formats.
    pub(super) fn described(&self, results: &[Format]) -> Vec<u8> {
        with_formats(&self.columns, results)
    }
}

/// A number of rows; outer `None`: it is not known.
fn bound(bound: Option<Bound>, types: &[u32], values: &[(Format, Option<&[u8]>)]) -> Option<Option<u64>> {
    let number = match bound {
        None => return Some(None),
        Some(Bound::Rows(rows)) => return Some(Some(rows)),
        Some(Bound::Parameter(number)) => number,
    };
    let value: i64 = match (types.get(number)?, values.get(number)?) {
        (_, (_, None)) => return Some(None),
        (20, (Format::Binary, Some(bytes))) => i64::from_be_bytes(<[u8; 8]>::try_from(*bytes).ok()?),
        (21, (Format::Binary, Some(bytes))) => i64::from(i16::from_be_bytes(<[u8; 2]>::try_from(*bytes).ok()?)),
        (23, (Format::Binary, Some(bytes))) => i64::from(i32::from_be_bytes(<[u8; 4]>::try_from(*bytes).ok()?)),
        (20 | 21 | 23, (Format::Text, Some(text))) => std::str::from_utf8(text).ok()?.trim().parse().ok()?,
        _ => return None,
    };
    Some(Some(u64::try_from(value).ok()?))
}

/// The shards' answers, as far as they have been read.
#[derive(Default)]
struct Answers {
    columns: Option<Vec<plan::Described>>,
    /// Text arrays, one a column.
    arrays: Vec<Vec<u8>>,
    /// How the server that puts them together shows values.
    settings: Option<plan::Settings>,
    /// How many statements have been answered to their end.
    ended: usize,
    /// Two shards answer with different types, or something is not understood.
    unlike: bool,
}

impl Session {
    /// Has the server that puts answers together read the client's text: how it describes itself, as far as that has
    /// been told, and the types of its parameters. `None`: some have other numbers on other servers.
    async fn read_own(
        &mut self,
        task: &Task<'_>,
        shards: &ShardSet,
        ids: &mut SmallVec<[(ShardId, u32); 8]>,
    ) -> Result<Option<(Described, Vec<u32>)>, Trouble> {
        let mut all = shards.clone();
        all.union(&ShardSet::one(task.home));
        self.take_part(task, &all, task.access, false, ids).await?;
        let at = self.keeper(ids, task.home)?;
        let own = task.text.get(task.planned.range.clone()).filter(|_| task.prepared.is_none());
        self.say_reading_own(at, own, task)?;
        let mut described = Described::default();
        let mut types = Vec::new();
        if task.count > 0 {
            // Of what is asked of the shards alone the types could not be told.
            self.say_flush();
            let outcome = self.fly(task.offset, false).await?;
            if outcome.failed.is_some() {
                return Err(trouble_of(&outcome, About::Text(task.offset)));
            }
            messages(&outcome.collected).for_each(|message| described.note(message));
            types = described.parameter_types();
            if types.iter().any(|it| *it >= FIRST_USER_TYPE) {
                return Ok(None);
            }
        }
        Ok(Some((described, types)))
    }

    /// Asks the shards, and gets the statement ready over their answers. `None`: it is to be gathered; what was
    /// said without a Sync goes on.
    pub(super) async fn ready_by_merge(
        &mut self,
        task: &Task<'_>,
        shards: &ShardSet,
        pushed: &Pushed,
        ids: &mut SmallVec<[(ShardId, u32); 8]>,
    ) -> Result<Option<Ready>, Trouble> {
        let Some((mut described, types)) = self.read_own(task, shards, ids).await? else { return Ok(None) };
        let checked_at = self.items.len();
        if let Some((_, id)) = ids.iter().find(|(shard, _)| *shard == task.home).copied() {
            self.say_step(id, SETTINGS, Show::Caller);
        }
        for shard in shards.iter() {
            let (_, id) = ids.iter().find(|(it, _)| *it == shard).copied().ok_or_else(lost_link)?;
            self.say_asking(id, &pushed.partial, &types, task)?;
        }
        self.say_flush();
        let outcome = self.fly(task.offset, false).await?;
        if let Some(failure) = &outcome.failed {
            let about = if failure.item < checked_at { About::Text(task.offset) } else { About::Rows };
            return Err(trouble_of(&outcome, about));
        }
        if outcome.overflowed {
            return Ok(None);
        }
        let mut answers = Answers::default();
        for message in messages(&outcome.collected) {
            if described.is_whole() { answers.note(message) } else { described.note(message) }
        }
        // Every shard, and the settings.
        if answers.ended != shards.len() + 1 {
            return Err(lost_link().into());
        }
        let own = described.own_columns();
        let merged = answers.columns.as_ref().filter(|_| !answers.unlike).and_then(|columns| {
            let text = pushed.finish(&own?, columns, answers.settings?, task.count + 1)?;
            (columns.len() == answers.arrays.len()).then_some(text)
        });
        let Some(merged) = merged else { return Ok(None) };
        tracing::trace!(%merged, "merged");
        let at = self.keeper(ids, task.home)?;
        self.say_reading(at, Some(&merged), "", &types)?;
        self.say_flush();
        let outcome = self.fly(task.offset, false).await?;
        if outcome.failed.is_some() {
            return Err(trouble_of(&outcome, About::Rewritten));
        }
        messages(&outcome.collected).for_each(|message| described.note(message));
        let Ok(notices) = described.checked(task) else { return Ok(None) };
        for array in &mut answers.arrays {
            array.push(b'}');
        }
        Ok(Some(Ready { arrays: answers.arrays, notices }))
    }

    /// Asks the shards for rows in order, so that they need only be put together in that order. `None`: their order
    /// is not known here.
    pub(super) async fn ready_sorted(
        &mut self,
        task: &Task<'_>,
        shards: &ShardSet,
        sorting: &Sorting,
        ids: &mut SmallVec<[(ShardId, u32); 8]>,
    ) -> Result<Option<SortedReady>, Trouble> {
        let Some((mut described, types)) = self.read_own(task, shards, ids).await? else { return Ok(None) };
        let checked_at = self.items.len();
        let mut asked: SmallVec<[u32; 8]> = SmallVec::new();
        for shard in shards.iter() {
            let (_, id) = ids.iter().find(|(it, _)| *it == shard).copied().ok_or_else(lost_link)?;
            let at = self.links.iter().position(|link| link.id == id).ok_or_else(lost_link)?;
            self.say_reading(at, Some(&sorting.text), "", &types)?;
            asked.push(id);
        }
        if let Some((_, id)) = ids.iter().find(|(shard, _)| *shard == task.home && !shards.contains(*shard)).copied() {
            // See `SETTINGS`.
            self.say_step(id, "SELECT", Show::Nobody);
        }
        self.say_flush();
        let outcome = self.fly(task.offset, false).await?;
        if let Some(failure) = &outcome.failed {
            let about = if failure.item < checked_at { About::Text(task.offset) } else { About::Rows };
            return Err(trouble_of(&outcome, about));
        }
        let mut answers = Answers::default();
        for message in messages(&outcome.collected) {
            if described.is_whole() { answers.note(message) } else { described.note(message) }
        }
        let order = answers.columns.as_ref().filter(|_| !answers.unlike).and_then(|columns| {
            let own = described.own_columns()?;
            let behind = columns.get(own.len()..).filter(|it| it.len() == sorting.keys.len())?;
            // Records and what users define hold numbers of types.
            if own.iter().any(|it| it.oid >= FIRST_USER_TYPE || matches!(it.oid, 2249 | 2287)) {
                return None;
            }
            if !own.iter().zip(columns).all(|(a, b)| (a.oid, a.modifier) == (b.oid, b.modifier)) {
                return None;
            }
            let keys = behind.iter().zip(&sorting.keys).map(|(column, (descending, nulls_first))| {
                let compare = flight::Compare::of(column.oid)?;
                Some(flight::Key { compare, descending: *descending, nulls_first: *nulls_first })
            });
            let limit = bound(sorting.limit, &types, task.values)?.unwrap_or(u64::MAX);
            let offset = bound(sorting.offset, &types, task.values)?.unwrap_or(0);
            Some(flight::Order { keys: keys.collect::<Option<_>>()?, offset, limit })
        });
        // Links that are not needed any more have been given back, and others have taken their places.
        let place = |id: &u32| self.links.iter().position(|link| link.id == *id).and_then(|at| u8::try_from(at).ok());
        let places: Option<SmallVec<[u8; 8]>> = asked.iter().map(place).collect();
        let places = places.ok_or_else(lost_link)?;
        match (order, described.own_message()) {
            (Some(order), Some(columns)) => {
                let notices = described.told(task);
                Ok(Some(SortedReady { order: Rc::new(order), columns, notices, places }))
            }
            _ => Ok(None),
        }
    }

    /// Binds what has been got ready on each shard, so that an Execute gives the client's columns and the keys.
    pub(super) fn say_bind_sorted(
        &mut self,
        ready: &SortedReady,
        portal: &str,
        values: &[(Format, Option<&[u8]>)],
        results: &[Format],
    ) -> Result<(), Trouble> {
        let mut formats = formats(ready.count(), results);
        formats.extend(ready.order.keys.iter().map(|_| Format::Binary));
        let mut bind = Vec::new();
        say_bind(&mut bind, portal, values, &[], &formats)?;
        for at in &ready.places {
            let link = self.links.get_mut(usize::from(*at)).ok_or_else(lost_link)?;
            link.out.extend_from_slice(&bind);
            link.unsynced = true;
        }
        Ok(())
    }

    /// Says what a shard is asked, with the client's values; the answer and how it describes itself are collected.
    fn say_asking(&mut self, id: u32, text: &str, types: &[u32], task: &Task<'_>) -> Result<(), Trouble> {
        let at = self.links.iter().position(|link| link.id == id).ok_or_else(lost_link)?;
        let link = self.links.get_mut(at).ok_or_else(lost_link)?;
        say::parse(&mut link.out, "", text, types);
        link.connection.unnamed = 0;
        say_bind(&mut link.out, say::STEP, task.values, &[], &[])?;
        say::about(&mut link.out, b'D', b'P', say::STEP);
        say::execute(&mut link.out, say::STEP);
        say::close_step(&mut link.out);
        link.unsynced = true;
        let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        for expect in [Expect::Parse, Expect::Bind, Expect::DescribePortal, Expect::Execute, Expect::Close] {
            self.items.push(Item::Owed { expect, links: links.clone(), show: Show::Caller, prepares: 0 });
        }
        Ok(())
    }
}

impl Answers {
    fn note(&mut self, message: &[u8]) {
        match message.first() {
            Some(b'T') => {
                let columns = columns_of(message);
                match &self.columns {
                    None => {
                        let count = columns.as_ref().map_or(0, Vec::len);
                        self.arrays.resize_with(count, || vec![b'{']);
                        self.unlike |= columns.is_none();
                        self.columns = columns;
                    }
                    Some(known) => self.unlike |= columns.as_ref() != Some(known),
                }
            }
            Some(b'C') => self.ended += 1,
            Some(b'D') if self.columns.is_none() => {
                let text = message.get(11..).map(String::from_utf8_lossy).unwrap_or_default();
                self.settings = Some(plan::Settings {
                    iso: text.contains("iso"),
                    plain_intervals: text.contains("plain"),
                    exact_floats: text.contains("exact"),
                });
            }
            Some(b'D') => {
                let mut rest = message.get(7..).unwrap_or_default();
                for array in &mut self.arrays {
                    let Some((length, more)) = rest.split_first_chunk::<4>() else {
                        self.unlike = true;
                        return;
                    };
                    rest = more;
                    match usize::try_from(i32::from_be_bytes(*length)) {
                        Ok(length) => {
                            let (value, more) = rest.split_at_checked(length).unwrap_or_default();
                            rest = more;
                            put_element(array, value);
                        }
                        Err(_) => {
                            if array.len() > 1 {
                                array.push(b',');
                            }
                            array.extend_from_slice(b"NULL");
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

fn lost_link() -> ClientError {
    ClientError::new(Code::Internal, "a link is gone that was held", "Report this.")
}

/// How many columns a RowDescription has.
fn count_of(columns: &[u8]) -> usize {
    columns.get(5..).and_then(|it| it.first_chunk::<2>()).map_or(0, |it| usize::from(u16::from_be_bytes(*it)))
}

/// The formats of so many columns, as a Bind message gives them.
pub(super) fn formats(count: usize, results: &[Format]) -> Vec<Format> {
    let format = |place: usize| match results {
        [] => Format::Text,
        [all] => *all,
        each => each.get(place).copied().unwrap_or(Format::Text),
    };
    (0..count).map(format).collect()
}

/// A RowDescription in these formats.
pub(super) fn with_formats(columns: &[u8], results: &[Format]) -> Vec<u8> {
    let mut message = columns.to_vec();
    let mut at = 7;
    for format in formats(count_of(columns), results) {
        let name = message.get(at..).and_then(|it| it.iter().position(|byte| *byte == 0)).unwrap_or(0);
        let end = at + name + 19;
        if let Some(code) = message.get_mut(end - 2..end) {
            code.copy_from_slice(&u16::from(format == Format::Binary).to_be_bytes());
        }
        at = end;
    }
    message
}

/// The columns of a RowDescription.
pub(super) fn columns_of(message: &[u8]) -> Option<Vec<plan::Described>> {
    let count = u16::from_be_bytes(*message.get(5..)?.first_chunk::<2>()?);
    let mut rest = message.get(7..)?;
    let mut columns = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let name = std::str::from_utf8(rest.get(..end)?).ok()?.to_owned();
        // Behind the name: table (4), column (2), type (4), size (2), modifier (4), format (2).
        let oid = u32::from_be_bytes(*rest.get(end + 7..)?.first_chunk::<4>()?);
        let modifier = i32::from_be_bytes(*rest.get(end + 13..)?.first_chunk::<4>()?);
        columns.push(plan::Described { name, oid, modifier });
        rest = rest.get(end + 19..)?;
    }
    Some(columns)
}
