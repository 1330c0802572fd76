//! Writes beside copies of tables that are elsewhere (`plan::Split::beside`): the rows are fetched once, before anything is
//! written, and bound as arrays on each shard that writes.

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec::flight::Show;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan;
use crate::plan::Effects;
use crate::plan::Gather;
use crate::plan::put_element;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::gather::About;
use crate::session::gather::SETTLE;
use crate::session::gather::UNSETTLE;
use crate::session::gather::say_bind;
use crate::session::gather::trouble_of;
use crate::session::merge::columns_of;
use crate::session::simple::messages;
use crate::session::split::Own;
use crate::session::split::Ready;
use crate::session::split::Task;

/// More rows of one table and shard are not brought to where a write runs ...
const ROWS_MAX: usize = 100_000;
/// ... and not more bytes of all tables together: each shard that writes is sent all of them.
const BYTES_MAX: usize = 16 << 20;

impl Session {
    /// Fetches the copies, and tells each shard the write over them up to Bind; `ids` are the links that take part.
    pub(super) async fn get_beside_ready(
        &mut self,
        task: &Task<'_>,
        copies: &Gather,
        own: Own,
        ids: &mut SmallVec<[(ShardId, u32); 8]>,
    ) -> Result<Ready, Trouble> {
        self.copies_keep_values(copies)?;
        let arrays = self.fetch_arrays(copies, ids).await?;
        self.wanted(())?;
        let count = own.types.len();
        let stands = |place: usize, _| {
            copies.copies.get(place).map(|it| plan::as_parameter(it, count + place + 1)).unwrap_or_default()
        };
        let text = task.planned.rewritten(task.text, &stands).ok_or_else(|| not_beside(""))?;
        let text = task.planned.beside(&text, own.now.as_deref())?;
        for shard in &task.split.shards {
            let at = self.place_of(ids, *shard)?;
            self.say_reading(at, Some(&text), "", &own.types)?;
        }
        self.say_flush();
        let outcome = self.fly(0, false).await?;
        if outcome.failed.is_some() {
            return Err(match trouble_of(&outcome, About::Rewritten) {
                Trouble::Refused(error) => not_beside(error.detail.as_deref().unwrap_or_default()).into(),
                other => other,
            });
        }
        // A copy has the columns of the table.
        let wanted = own.columns.as_deref().and_then(columns_of);
        let described = messages(&outcome.collected).filter(|it| matches!(it.first(), Some(b'T' | b'n')));
        for (shard, message) in task.split.shards.iter().zip(described) {
            let columns = columns_of(message).filter(|_| message.first() == Some(&b'T')).map(|mut columns| {
                let id = ids.iter().find(|(it, _)| it == shard).map_or(0, |(_, id)| *id);
                columns.iter_mut().for_each(|it| it.oid = self.known_type(id, it.oid));
                columns
            });
            if columns != wanted {
                return Err(not_beside("with copies of its tables it has other columns").into());
            }
        }
        let mut places: SmallVec<[u8; 8]> = SmallVec::new();
        for shard in &task.split.shards {
            let at = self.place_of(ids, *shard)?;
            places.push(u8::try_from(at).unwrap_or(u8::MAX));
            let Some(link) = self.links.get_mut(at) else { return Err(not_beside("").into()) };
            say_bind(&mut link.out, task.portal, task.values, &arrays, task.results)?;
            link.unsynced = true;
        }
        Ok(Ready { places, own, moved: None })
    }

    /// The rows of the copies, as arrays.
    async fn fetch_arrays(
        &mut self,
        copies: &Gather,
        ids: &mut SmallVec<[(ShardId, u32); 8]>,
    ) -> Result<Vec<Vec<u8>>, Trouble> {
        let mut shards = ShardSet::none();
        copies.copies.iter().for_each(|it| shards.union(&it.shards));
        self.admit(&shards, plan::Access::ReadPrimary, &Effects::default())?;
        for shard in shards.iter().filter(|it| !ids.iter().any(|(known, _)| known == it)).collect::<Vec<_>>() {
            let at = self.join(shard, plan::Access::ReadPrimary).await?;
            self.prefix(at);
            if let Some(link) = self.links.get_mut(at) {
                link.unsynced = true;
                ids.push((shard, link.id));
            }
        }
        for copy in &copies.copies {
            let fetch = format!("{} LIMIT {}", copy.fetch, ROWS_MAX + 1);
            for (_, id) in ids.iter().filter(|(shard, _)| copy.shards.contains(*shard)).copied().collect::<Vec<_>>() {
                if copy.unsettled {
                    self.say_step(id, SETTLE, Show::Nobody);
                }
                self.say_step(id, &fetch, Show::Caller);
                if copy.unsettled {
                    self.say_step(id, UNSETTLE, Show::Nobody);
                }
            }
        }
        self.say_flush();
        let outcome = self.fly(0, false).await?;
        if outcome.failed.is_some() {
            return Err(trouble_of(&outcome, About::Rows));
        }
        let mut arrays: Vec<Vec<u8>> = copies.copies.iter().map(|_| vec![b'{']).collect();
        let fetches = copies.copies.iter().enumerate();
        let mut fetches = fetches.flat_map(|(at, copy)| copy.shards.iter().map(move |_| at));
        let mut current = fetches.next();
        let mut rows = 0_usize;
        for message in messages(&outcome.collected) {
            match message.first() {
                Some(b'D') => {
                    rows += 1;
                    if let Some(array) = current.and_then(|at| arrays.get_mut(at)) {
                        put_element(array, message.get(11..).unwrap_or_default());
                    }
                    if rows > ROWS_MAX {
                        return Err(too_much(copies, current).into());
                    }
                }
                Some(b'C') => {
                    rows = 0;
                    current = fetches.next();
                }
                _ => {}
            }
        }
        if outcome.overflowed || arrays.iter().map(Vec::len).sum::<usize>() > BYTES_MAX {
            return Err(too_much(copies, current).into());
        }
        if current.is_some() {
            return Err(not_beside("a shard did not answer").into());
        }
        arrays.iter_mut().for_each(|it| it.push(b'}'));
        Ok(arrays)
    }
}

fn too_much(copies: &Gather, at: Option<usize>) -> ClientError {
    let copy = at.and_then(|it| copies.copies.get(it)).or_else(|| copies.copies.first());
    ClientError::new(
        Code::GatherLimit,
        format!(
            "the write needs more of \"{}\" on other shards than {ROWS_MAX} rows of a shard or {BYTES_MAX} bytes",
            copy.map(|it| it.table.to_string()).unwrap_or_default()
        ),
        "Narrow it by conditions that every row must satisfy, or write fewer rows at once.",
    )
}

fn not_beside(why: &str) -> ClientError {
    let error = ClientError::unsupported(
        "this write across shards is not supported: it does not run on copies of the tables that are elsewhere",
        "Add a condition on the shard key so that one shard has all rows that matter.",
    );
    if why.is_empty() { error } else { error.with_detail(why.to_owned()) }
}
