//! UPDATE of a shard key, by which rows move to other shards (`plan::Moves`), as parts of one transaction.
//!
//! Each shard that has some deletes them and gives what they are to be, one shard after the other; then they are inserted
//! where they belong. The client sees one UPDATE.

use std::rc::Rc;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Show;
use crate::exec::say;
use crate::ident::ShardId;
use crate::plan::Access;
use crate::plan::Moves;
use crate::plan::Planned;
use crate::plan::Share;
use crate::plan::Split;
use crate::plan::World;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::simple::messages;
use crate::session::split::Bound;
use crate::session::split::Own;
use crate::session::split::Ready;
use crate::session::split::Task;
use crate::session::split::gone;
use crate::wire::postgres::backend::DataRow;
use crate::wire::postgres::frontend::Format;

/// The portal that rows come by.
const PORTAL: &str = "shardway_moves";

/// Rows that are to move: what is said of them, and with which values.
#[derive(Debug)]
pub(super) struct Moved {
    planned: Planned,
    moves: Moves,
    types: Vec<u32>,
    values: Vec<(Format, Option<Vec<u8>>)>,
    results: Vec<Format>,
    world: Rc<World>,
}

impl Session {
    /// Tells each shard that has rows what takes them away, up to Bind.
    pub(super) async fn get_moves_ready(
        &mut self,
        task: &Task<'_>,
        ids: &[(ShardId, u32)],
        mut own: Own,
        count: usize,
    ) -> Result<Ready, Trouble> {
        if self.is_read_only() {
            return Err(ClientError::new(
                Code::ReadOnlyTransaction,
                "cannot execute UPDATE in a read-only transaction",
                "Begin a transaction that is READ WRITE.",
            )
            .into());
        }
        self.nulls_stay("changing a shard key")?;
        let moves = task.planned.moves(task.text, count, own.now.as_deref())?;
        own.types.resize(count, 0);
        let mut places: SmallVec<[u8; 8]> = SmallVec::new();
        let text = task.text.get(task.planned.range.clone()).unwrap_or_default();
        let whole = Share { text: format!("EXPLAIN {text}"), parameters: vec![true; count] };
        for shard in task.split.leave.iter().flat_map(|it| it.iter()) {
            let at = self.place_of(ids, shard)?;
            if places.is_empty() {
                // What is wrong with constants is told when it is planned, also where there is no row; and rights to UPDATE
                // are looked at when it is begun.
                let said = Bound { types: &own.types, values: task.values, portal: PORTAL, results: &[] };
                self.say_share(at, &whole, &said, &[])?;
                let link = self.links.get_mut(at).ok_or_else(gone)?;
                say::execute(&mut link.out, PORTAL);
                self.close_portal(at, &[Expect::Parse, Expect::Bind, Expect::Execute])?;
            }
            let said = Bound { types: &own.types, values: task.values, portal: task.portal, results: &[] };
            self.say_share(at, &moves.remove, &said, &[])?;
            places.push(u8::try_from(at).unwrap_or(u8::MAX));
        }
        for at in &places {
            let links = SmallVec::from_slice(&[*at]);
            self.items.push(Item::Owed { expect: Expect::Parse, links, show: Show::Nobody, prepares: 0 });
        }
        let moved = Moved {
            planned: task.planned.clone(),
            moves,
            types: own.types.clone(),
            values: task.values.iter().map(|(format, it)| (*format, it.map(<[u8]>::to_vec))).collect(),
            results: task.results.to_vec(),
            world: self.world()?,
        };
        Ok(Ready { places, own, moved: Some(Rc::new(moved)) })
    }

    /// Executes what takes rows away, then brings them where they belong; `ids` are the links of the split's shards. What
    /// the client is to see, but for a description.
    pub(super) async fn run_moves(
        &mut self,
        ids: &[u32],
        portal: &str,
        split: &Split,
        moved: &Moved,
    ) -> Result<Vec<u8>, Trouble> {
        let mut order: SmallVec<[(ShardId, u32); 8]> = split.shards.iter().copied().zip(ids.iter().copied()).collect();
        order.sort_unstable();
        let mut arrivals = moved.planned.arrivals(&moved.world)?;
        let (mut answer, mut size) = (Vec::new(), 0_usize);
        for (shard, id) in order.iter().filter(|it| split.leave.as_ref().is_some_and(|from| from.contains(it.0))) {
            self.wanted(())?;
            let collected = self.run_part(*id, portal, Access::Write, &mut size).await?;
            for message in messages(&collected) {
                match message.first() {
                    Some(b'D') => {
                        let row = DataRow::read(message.get(5..).unwrap_or_default()).map_err(|_| gone())?;
                        let cells: Vec<Option<&[u8]>> = row.cells().collect();
                        arrivals.take(*shard, &cells)?;
                    }
                    Some(b'N') => answer.extend_from_slice(message),
                    _ => {}
                }
            }
        }
        let (count, arrays) = (arrivals.count(), arrivals.finish()?);
        let mut rows: Vec<u8> = Vec::new();
        let (mut brought, mut size) = (0_usize, 0_usize);
        for (shard, array) in arrays {
            self.wanted(())?;
            let at = self.place_of(&order, shard)?;
            let values: Vec<_> = moved.values.iter().map(|(format, it)| (*format, it.as_deref())).collect();
            let said = Bound { types: &moved.types, values: &values, portal: PORTAL, results: &moved.results };
            self.say_share(at, &moved.moves.bring, &said, &[array])?;
            let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
            for expect in [Expect::Parse, Expect::Bind] {
                self.items.push(Item::Owed { expect, links: links.clone(), show: Show::Caller, prepares: 0 });
            }
            let id = self.links.get(at).map(|it| it.id).ok_or_else(gone)?;
            let collected = self.run_part(id, PORTAL, Access::Write, &mut size).await?;
            for message in messages(&collected) {
                match message.first() {
                    Some(b'D') => rows.extend_from_slice(message),
                    Some(b'N') => answer.extend_from_slice(message),
                    Some(b'C') => brought += rows_of_tag(message),
                    _ => {}
                }
            }
            self.close_portal(at, &[])?;
        }
        if brought != count {
            return Err(ClientError::new(
                Code::Internal,
                format_args!("{count} rows were taken away to be moved, and {brought} came"),
                "Nothing was done. Report this.",
            )
            .into());
        }
        answer.append(&mut rows);
        say::message(&mut answer, b'C', |out| say::string(out, &format!("UPDATE {count}")));
        Ok(answer)
    }

    /// Closes the portal; before that comes what else has been said.
    fn close_portal(&mut self, at: usize, before: &[Expect]) -> Result<(), Trouble> {
        let link = self.links.get_mut(at).ok_or_else(gone)?;
        say::about(&mut link.out, b'C', b'P', PORTAL);
        let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        for expect in before.iter().copied().chain([Expect::Close]) {
            self.items.push(Item::Owed { expect, links: links.clone(), show: Show::Nobody, prepares: 0 });
        }
        Ok(())
    }
}

/// How many rows a tag tells of.
fn rows_of_tag(message: &[u8]) -> usize {
    let tag = message.get(5..message.len().saturating_sub(1)).unwrap_or_default();
    let count = std::str::from_utf8(tag).ok().and_then(|it| it.rsplit(' ').next());
    count.and_then(|it| it.parse().ok()).unwrap_or_default()
}
