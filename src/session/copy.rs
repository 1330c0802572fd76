//! COPY … FROM STDIN into a table whose rows are on several shards: the client's data, row by row to each its own, as
//! parts of one transaction.

use std::collections::VecDeque;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::exec;
use crate::exec::flight;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Lost;
use crate::exec::flight::Show;
use crate::exec::say;
use crate::exec::scatter;
use crate::exec::scatter::Dealer;
use crate::exec::scatter::Gone;
use crate::exec::scatter::Scattered;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan;
use crate::plan::CopyIn;
use crate::plan::Effects;
use crate::plan::Number;
use crate::plan::Splitter;
use crate::plan::World;
use crate::session::End;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::command::cells;
use crate::session::extended::types_on;
use crate::session::sequences::Counter;
use crate::session::simple::messages;
use crate::session::split::copies_differ;
use crate::session::split::gone;
use crate::topology::two_phase::TURN;

/// Deals out rows, with numbers of sequences for those that want some.
struct Deal<'a> {
    splitter: Splitter,
    /// What each row wants.
    numbers: Vec<Number>,
    counter: Counter<'a>,
}

impl Dealer for Deal<'_> {
    type Error = Trouble;

    fn fields(&self) -> (usize, usize) {
        self.splitter.fields()
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        Ok(self.splitter.feed(bytes)?)
    }

    fn is_hungry(&self) -> bool {
        self.splitter.wants() > 0
    }

    async fn supply(&mut self) -> Result<(), Trouble> {
        let rows = self.splitter.wants().min(ROWS_MAX);
        // Sequences that several columns share are asked for all of them at once.
        let mut taken: Vec<(&Number, VecDeque<i64>)> = Vec::new();
        for number in &self.numbers {
            if !taken.iter().any(|(it, _)| *it == number) {
                let count = self.numbers.iter().filter(|it| *it == number).count() * rows;
                taken.push((number, self.counter.next(number, count).await?.into()));
            }
        }
        let mut stock = Vec::with_capacity(rows * self.numbers.len());
        for _ in 0..rows {
            for number in &self.numbers {
                let (_, left) = taken.iter_mut().find(|(it, _)| *it == number).ok_or_else(gone)?;
                stock.push(left.pop_front().ok_or_else(gone)?);
            }
        }
        self.splitter.stock(stock);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        Ok(self.splitter.finish()?)
    }

    fn share(&mut self, place: usize) -> Option<&mut Vec<u8>> {
        self.splitter.share(place)
    }
}

/// Rows that numbers are taken for at once.
const ROWS_MAX: usize = 50_000;

impl Session {
    /// Whether rows that are copied out in binary format can be read by whoever knows the catalog shard's types.
    ///
    /// # Errors
    /// Values of a column hold numbers of types that are others on one of the shards.
    pub(super) fn may_be_packed(&self, template: &plan::Template, shards: &ShardSet) -> Result<(), ClientError> {
        if template.packed.is_empty() || shards.len() < 2 {
            return Ok(());
        }
        for oids in shards.iter().filter_map(|shard| self.access.service.schema.type_oids(shard)) {
            for (column, oid) in &template.packed {
                if types_on(&oids.known, &[*oid])?.iter().any(|it| oids.holds_oids(*it)) {
                    return Err(flight::unreadable(column));
                }
            }
        }
        Ok(())
    }

    /// Runs the COPY within the transaction that is open, and tells the client what came of it.
    pub(super) async fn copy_rows(
        &mut self,
        sql: &str,
        copy: &CopyIn,
        world: &Rc<World>,
        effects: &Effects,
        offset: u32,
    ) -> Result<(), Trouble> {
        let shards: ShardSet = copy.shards.iter().copied().collect();
        if copy.asks().is_some() && self.transaction.clock.is_some_and(|it| !shards.contains(it)) {
            return Err(ClientError::unsupported(
                "COPY with a default that asks for the time is not supported where the transaction has asked a shard for it \
                 that takes no part",
                "Give the column from the application.",
            )
            .into());
        }
        let known = match copy.group() {
            Some(group) => self.whole_directory(group, world).await?,
            None => plan::Known::default(),
        };
        if !copy.numbers().is_empty() {
            self.may_number()?;
        }
        self.admit(&shards, plan::Access::Write, effects)?;
        let mut ids: SmallVec<[(ShardId, u32); 8]> = SmallVec::new();
        for at in self.join_all(&shards, plan::Access::Write).await? {
            self.prefix(usize::from(at));
            if let Some(link) = self.links.get_mut(usize::from(at)) {
                link.unsynced = true;
                ids.push((link.shard, link.id));
            }
        }
        if !self.items.is_empty() {
            self.say_flush();
            if self.fly(0, false).await?.failed.is_some() {
                self.end_steps(&ids).await?;
                return Err(Trouble::Failed);
            }
        }
        let mut values = Vec::new();
        if let Some(asks) = copy.asks() {
            let clock = self.transaction.clock.or_else(|| copy.shards.first().copied()).ok_or_else(gone)?;
            self.transaction.clock = Some(clock);
            if let Some((_, id)) = ids.iter().find(|(it, _)| *it == clock).copied() {
                self.say_step(id, &asks, Show::Caller);
            }
            let told = self.fly_steps().await;
            if told.is_err() {
                self.end_steps(&ids).await?;
            }
            let told = told?;
            let row = messages(&told).find(|it| it.first() == Some(&b'D'));
            values = row.map(cells).unwrap_or_default();
        }
        if copy.everywhere() {
            // Writers of reference tables take turns.
            for (_, id) in &ids {
                self.say_step(*id, TURN, Show::Nobody);
                if let Err(trouble) = self.fly_steps().await.and_then(|it| self.wanted(it)) {
                    self.end_steps(&ids).await?;
                    return Err(trouble);
                }
            }
        }
        let sql = &*copy.said(sql).ok_or_else(gone)?;
        let mut places: Vec<usize> = Vec::new();
        for shard in &copy.shards {
            let id = ids.iter().find(|(it, _)| it == shard).map(|(_, id)| *id);
            let at = self.links.iter().position(|link| Some(link.id) == id).ok_or_else(gone)?;
            let link = self.links.get_mut(at).ok_or_else(gone)?;
            say::step_in(&mut link.out, sql);
            say::flush(&mut link.out);
            link.connection.unnamed = 0;
            link.unsynced = true;
            link.wrote = true;
            places.push(at);
        }
        let (access, worker) = (Rc::clone(&self.access), Rc::clone(&self.worker));
        let counter = Counter { access: &access, blocks: &worker.blocks, limit: self.map.timeouts.statement, world };
        let splitter = Splitter::new(copy, world, &values, known);
        let mut deal = Deal { splitter, numbers: copy.numbers(), counter };
        let mut left = 0;
        let running = scatter::scatter(&mut self.links, &places, &mut self.client, &mut deal, &mut left);
        let done = Box::pin(exec::within(self.map.timeouts.statement, running)).await;
        self.client.discard(left);
        let Deal { splitter, numbers, .. } = deal;
        self.seen.saw(&numbers, splitter.latest());
        let done = match done {
            None => return Err(self.timed_out()),
            Some(Err(Gone::Client(error))) => return Err(error.into()),
            Some(Err(Gone::Violation(what))) => return Err(Trouble::End(End::Fatal(scatter::violation(what)))),
            Some(Err(Gone::Server(link))) => {
                return Err(self.trouble(Lost::Server { link, item: 0, last_words: None, within_row: false }));
            }
            Some(Ok(done)) => done,
        };
        match done {
            Scattered::Done(counts) => {
                let rows: u64 = if copy.everywhere() {
                    if counts.iter().any(|it| Some(it) != counts.first()) {
                        self.end_steps(&ids).await?;
                        return Err(copies_differ().into());
                    }
                    counts.first().copied().unwrap_or(0)
                } else {
                    counts.iter().sum()
                };
                for at in &places {
                    if let Some(link) = self.links.get_mut(*at) {
                        say::close_step(&mut link.out);
                    }
                    let links = SmallVec::from_slice(&[u8::try_from(*at).unwrap_or(u8::MAX)]);
                    self.items.push(Item::Owed { expect: Expect::Close, links, show: Show::Nobody, prepares: 0 });
                }
                self.say_flush();
                if self.fly(0, false).await?.failed.is_some() {
                    return Err(Trouble::Failed);
                }
                self.end_steps(&ids).await?;
                self.complete(&format!("COPY {rows}"));
                Ok(())
            }
            Scattered::Failed(place, error) => {
                self.end_steps(&ids).await?;
                let error = with_line(error, |line| splitter.line_of(place, line));
                Err(Trouble::Told(flight::moved_position(error, offset)))
            }
            Scattered::Refused(trouble) => {
                self.end_steps(&ids).await?;
                Err(trouble)
            }
        }
    }
}

/// The error with the line of the client's data that it speaks of, where it speaks of one of a shard's. What the proxy has
/// put behind the client's row is nothing to tell.
fn with_line(error: Vec<u8>, line_of: impl Fn(u64) -> Option<(u64, Option<usize>)>) -> Vec<u8> {
    let mut told = Vec::with_capacity(error.len() + 4);
    say::message(&mut told, b'E', |out| {
        for (kind, value) in flight::fields(&error) {
            out.push(kind);
            let context = std::str::from_utf8(value).ok().filter(|it| kind == b'W' && it.starts_with("COPY "));
            match context.and_then(|context| at_line(context, &line_of)) {
                Some(context) => out.extend_from_slice(context.as_bytes()),
                None => out.extend_from_slice(value),
            }
            out.push(0);
        }
        out.push(0);
    });
    told
}

/// `COPY table, line N: "the line"`, by the client's data.
fn at_line(context: &str, line_of: impl Fn(u64) -> Option<(u64, Option<usize>)>) -> Option<String> {
    const LINE: &str = ", line ";
    let at = context.find(LINE)? + LINE.len();
    let (before, behind) = context.split_at_checked(at)?;
    let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
    let (number, behind) = behind.split_at_checked(digits)?;
    let (line, own) = line_of(number.parse().ok()?)?;
    let row = behind.strip_prefix(": \"").and_then(|it| it.get(..own?));
    Some(match row {
        Some(row) => format!("{before}{line}: \"{row}\""),
        None => format!("{before}{line}{behind}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_speak_of_the_client_s_lines() {
        let told = |context: &str, own| at_line(context, |line| Some((line + 10, own))).unwrap();
        assert_eq!(told("COPY t, line 3: \"a\tb\t17\"", Some(3)), "COPY t, line 13: \"a\tb\"");
        assert_eq!(told("COPY t, line 3: \"aé...\"", None), "COPY t, line 13: \"aé...\"");
        assert_eq!(told("COPY t, line 3, column a: \"abcdef\"", Some(1)), "COPY t, line 13, column a: \"abcdef\"");
        assert_eq!(told("COPY t, line 3", Some(1)), "COPY t, line 13");
    }
}
