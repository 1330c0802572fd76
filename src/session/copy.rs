//! COPY … FROM STDIN into a table whose rows are on several shards: the client's data, row by row to each its own, as
//! parts of one transaction.

use std::rc::Rc;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::error::Code;
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
use crate::plan::Splitter;
use crate::plan::World;
use crate::session::End;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::command::cells;
use crate::session::simple::messages;

impl Dealer for Splitter {
    fn fields(&self) -> (usize, usize) {
        Self::fields(self)
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        Self::feed(self, bytes)
    }

    fn finish(&mut self) -> Result<(), ClientError> {
        Self::finish(self)
    }

    fn share(&mut self, place: usize) -> Option<&mut Vec<u8>> {
        Self::share(self, place)
    }
}

impl Session {
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
        let known = self.whole_directory(copy.group, world).await?;
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
        let mut splitter = Splitter::new(copy, world, &values, known);
        let mut left = 0;
        let running = scatter::scatter(&mut self.links, &places, &mut self.client, &mut splitter, &mut left);
        let done = Box::pin(exec::within(self.map.timeouts.statement, running)).await;
        self.client.discard(left);
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
            Scattered::Done(rows) => {
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
                let error = with_line(error, splitter.behind(), |line| splitter.line_of(place, line));
                Err(Trouble::Told(flight::moved_position(error, offset)))
            }
            Scattered::Refused(error) => {
                self.end_steps(&ids).await?;
                Err(error.into())
            }
        }
    }
}

/// The error with the line of the client's data that it speaks of, where it speaks of one of a shard's; `ours` is what
/// the proxy has put behind each row.
fn with_line(error: Vec<u8>, ours: &[u8], line_of: impl Fn(u64) -> Option<u64>) -> Vec<u8> {
    const LINE: &str = ", line ";
    let mut told = Vec::with_capacity(error.len() + 4);
    say::message(&mut told, b'E', |out| {
        for (kind, value) in flight::fields(&error) {
            out.push(kind);
            let text = std::str::from_utf8(value).ok().filter(|it| kind == b'W' && it.starts_with("COPY "));
            let parts = text.and_then(|text| {
                let at = text.find(LINE)? + LINE.len();
                let (before, behind) = text.split_at_checked(at)?;
                let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
                let (number, behind) = behind.split_at_checked(digits)?;
                Some((before, line_of(number.parse().ok()?)?, behind))
            });
            match parts {
                Some((before, line, behind)) => {
                    out.extend_from_slice(before.as_bytes());
                    out.extend_from_slice(line.to_string().as_bytes());
                    let ours = std::str::from_utf8(ours).unwrap_or_default();
                    // What the proxy has put behind the client's row is nothing to tell.
                    let behind = if ours.is_empty() { behind.to_owned() } else { behind.replace(ours, "") };
                    out.extend_from_slice(behind.as_bytes());
                }
                None => out.extend_from_slice(value),
            }
            out.push(0);
        }
        out.push(0);
    });
    told
}

fn gone() -> ClientError {
    ClientError::new(Code::Internal, "a link is gone that was held", "Report this.")
}
