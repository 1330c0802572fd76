//! Reads whose shards' answers are put together here: totals and groups of them, and rows in one order.
//!
//! Rows in an order fly through; groups are held, as many as may be copied. What was not expected (warnings, columns that
//! differ, rows out of order) shows before the client has heard anything, as a rule: then the statement is gathered.

use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

use crate::clock;
use crate::error::ClientError;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::exec::mysql::relay::Ended;
use crate::exec::mysql::rows;
use crate::exec::mysql::rows::Next;
use crate::ident::ShardId;
use crate::plan::Planned;
use crate::plan::Shadow;
use crate::plan::Slot;
use crate::plan::Unite;
use crate::plan::World;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::gather::End;
use crate::session::mysql::gather::OWN;
use crate::session::mysql::merge::Grouping;
use crate::session::mysql::merge::Merging;
use crate::session::mysql::merge::Sorting;
use crate::session::mysql::say;
use crate::session::mysql::text::KILL;
use crate::session::mysql::text::Saying;
use crate::tasks;
use crate::wire::mysql::result::Column;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::status;

/// A shard's answer while it is read.
#[derive(Default)]
struct Stream {
    row: Vec<u8>,
    /// What the row at hand is ordered by.
    sorting: Sorting,
    /// There are no more.
    ended: bool,
    warnings: u16,
    failure: Option<Failure>,
}

impl Session {
    /// Has the shards answer, and puts their answers together; gathers what cannot be.
    pub(super) async fn united(
        &mut self,
        text: &str,
        saying: Saying<'_>,
        planned: &Planned,
        (shadow, unite): (&Shadow, &Unite),
        world: &Rc<World>,
        more: bool,
    ) -> Result<(), Trouble> {
        let told = match saying {
            Saying::Text(text) => unite.told(text, world.mode()),
            Saying::Bound(bound) => unite.told(bound.text(), world.mode()),
            Saying::Raw(_) => None,
        };
        let Some(told) = told else { return Box::pin(self.gather(text, saying, planned, shadow, world, more)).await };
        let (renumbered, bound);
        let said = match saying {
            Saying::Bound(own) => {
                let slots = (0..told.parameters).filter_map(|it| u16::try_from(it).ok()).map(Slot::Client).collect();
                renumbered = own.renumbered(slots);
                bound = own.with(&renumbered, &told.text, self.state.key_of(&told.text));
                Saying::Bound(&bound)
            }
            Saying::Text(_) | Saying::Raw(_) => Saying::Text(&told.text),
        };
        let shards: Vec<ShardId> = unite.shards.iter().collect();
        let mut links = self.take_links(&shards, &planned.template).await?;
        // What is lost with one of these connections.
        let was = self.is_within() || links.iter().any(|it| it.begun || it.is_within());
        let pinned = links.iter().any(|it| it.pinned);
        let limit = self.used()?.access.statement_max();
        let begins = was || !self.state.autocommit();
        let work = self.unite_on(&mut links, said, unite, begins, more);
        let ended = match limit {
            Some(span) => tokio::time::timeout(span, work).await,
            None => Ok(work.await),
        };
        match ended {
            Ok(Ok(Some(End::Failed(place, failure)))) => {
                self.gathered(links, &End::Failed(place, failure.clone())).await;
                Err(failure.into())
            }
            Ok(Ok(Some(End::Declined(error)))) => {
                links.into_iter().for_each(|it| self.keep(it));
                Err(error.into())
            }
            Ok(Ok(Some(End::Answered(ended)))) => {
                self.ended(links, &ended, false).await?;
                match ended {
                    Ended::Failed(_) | Ended::Refused(_) => Err(Trouble::Told),
                    Ended::Done(_) | Ended::Rows { .. } => Ok(()),
                }
            }
            Ok(Ok(None)) => {
                links.into_iter().for_each(|it| self.keep(it));
                Box::pin(self.gather(text, saying, planned, shadow, world, more)).await
            }
            Ok(Err(trouble)) => {
                drop(links);
                Err(self.broke(trouble, pinned, was).await)
            }
            Err(_) => Err(self.took_too_long(links, pinned, was).await),
        }
    }

    /// Has servers stop a read that took too long.
    pub(super) async fn took_too_long(&mut self, links: Vec<Link>, pinned: bool, was: bool) -> Trouble {
        for link in links {
            let target = Arc::clone(&link.connection.target);
            // Closed as it is, the server would go on with it until it has something to say.
            tasks::local("kill", async move {
                if let Err(error) = target.kill_query(clock::now().plus(KILL)).await {
                    tracing::debug!(%error, "what took too long may go on");
                }
                drop(link);
            });
        }
        self.ends |= pinned;
        self.roll_back().await;
        self.transaction.is_undone(was);
        say::too_slow().into()
    }

    /// The flags that a client is told of its session.
    pub(super) fn own_status(&self, links: &[Link], more: bool) -> u16 {
        let within = self.is_within() || links.iter().any(|it| it.begun || it.is_within());
        let mut own = self.usual_status();
        for (is, flag) in [(within, status::IN_TRANSACTION), (more, status::MORE_RESULTS)] {
            own |= if is { flag } else { 0 };
        }
        own
    }

    /// `None`: it must be gathered. The shards have said all then.
    async fn unite_on(
        &mut self,
        links: &mut [Link],
        said: Saying<'_>,
        unite: &Unite,
        begins: bool,
        more: bool,
    ) -> Result<Option<End>, Trouble> {
        if links.len() > 1 && !self.state.autocommit() {
            // What servers begin by themselves might begin on the second and not on the first.
            self.transaction.open();
        }
        for (place, link) in links.iter_mut().enumerate() {
            match self.make_ready(link, said).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return Ok(Some(End::Failed(place, failure))),
                Err(broken) => return Err(self.lost_on(broken, link, begins, false)),
            }
        }
        for link in links.iter_mut() {
            let told = match said {
                Saying::Text(text) => link.say_query(text).await,
                Saying::Raw(bytes) => link.say_bytes(bytes).await,
                Saying::Bound(bound) => bound.say(link).await,
            };
            if let Err(broken) = told {
                return Err(self.lost_on(broken, link, begins, false));
            }
        }
        let mut columns: Option<Vec<Column>> = None;
        let mut streams = Vec::with_capacity(links.len());
        let mut alike = true;
        for link in links.iter_mut() {
            let mut stream = Stream::default();
            match rows::columns(link).await {
                Ok(Ok(found)) => match &columns {
                    None => columns = Some(found),
                    Some(known) => alike &= relay::alike(known, &found),
                },
                Ok(Err(failure)) => (stream.ended, stream.failure) = (true, Some(failure)),
                Err(broken) => return Err(self.lost_on(broken, link, begins, false)),
            }
            streams.push(stream);
        }
        let columns = columns.unwrap_or_default();
        let binary = matches!(said, Saying::Bound(_));
        let merging = Merging::new(unite, &columns, binary).filter(|_| alike);
        let merging = merging.filter(|_| streams.iter().all(|it| it.failure.is_none()));
        let Some(merging) = merging else {
            self.drain(links, &mut streams, begins).await?;
            return Ok(failed(&streams));
        };
        match unite.how.groups {
            Some(_) => self.groups(links, streams, &merging, begins, more).await,
            None => self.sorted(links, streams, &merging, unite, begins, more).await,
        }
    }

    /// The next row of a stream.
    async fn advance(&mut self, link: &mut Link, stream: &mut Stream, begins: bool) -> Result<(), Trouble> {
        if stream.ended {
            return Ok(());
        }
        match rows::next(link, &mut stream.row).await {
            Ok(Next::Row) => return Ok(()),
            Ok(Next::End(warnings)) => stream.warnings = warnings,
            Ok(Next::Failed(failure)) => stream.failure = Some(failure),
            Err(broken) => return Err(self.lost_on(broken, link, begins, false)),
        }
        stream.ended = true;
        Ok(())
    }

    /// Hears all that the shards still have to say.
    async fn drain(&mut self, links: &mut [Link], streams: &mut [Stream], begins: bool) -> Result<(), Trouble> {
        for (link, stream) in links.iter_mut().zip(streams) {
            while !stream.ended {
                self.advance(link, stream, begins).await?;
            }
        }
        Ok(())
    }

    /// What the servers and the session say beside the rows.
    fn united_status(&self, links: &[Link], more: bool) -> u16 {
        let of_servers = links.iter().fold(0, |all, it| all | it.connection.status);
        of_servers & !OWN | self.own_status(links, more)
    }

    async fn groups(
        &mut self,
        links: &mut [Link],
        mut streams: Vec<Stream>,
        merging: &Merging<'_>,
        begins: bool,
        more: bool,
    ) -> Result<Option<End>, Trouble> {
        let limits = &self.used()?.access.service.database.gather;
        let (rows_max, bytes_max) = (limits.rows_max, limits.bytes_max);
        let mut grouping = Grouping::default();
        let mut sound = true;
        for (link, stream) in links.iter_mut().zip(&mut streams) {
            self.advance(link, stream, begins).await?;
            while !stream.ended {
                if sound {
                    let held = merging.take(&mut grouping, &stream.row);
                    sound = held.is_some_and(|it| it <= bytes_max) && grouping.len() <= rows_max;
                }
                self.advance(link, stream, begins).await?;
            }
        }
        if let Some(end) = failed(&streams) {
            return Ok(Some(end));
        }
        if !sound || streams.iter().any(|it| it.warnings > 0) {
            return Ok(None);
        }
        let Some(rows) = merging.finish(grouping) else { return Ok(None) };
        let status = self.united_status(links, more);
        self.client.put_columns(merging.shown(), status);
        for row in &rows {
            self.client.put(row);
            if self.client.is_full()
                && let Err(error) = self.client.flush().await
            {
                return Err(self.lost(Broken::Client(error), "", begins, false));
            }
        }
        self.client.end_rows(0, status);
        Ok(Some(End::Answered(Ended::Rows { count: rows.len() as u64, status, warnings: 0 })))
    }

    async fn sorted(
        &mut self,
        links: &mut [Link],
        mut streams: Vec<Stream>,
        merging: &Merging<'_>,
        unite: &Unite,
        begins: bool,
        more: bool,
    ) -> Result<Option<End>, Trouble> {
        let mark = self.client.mark();
        let status = self.united_status(links, more);
        self.client.put_columns(merging.shown(), status);
        let (mut count, mut sent, mut out) = (0_u64, false, Vec::new());
        let mut left = unite.offset;
        let mut sound = true;
        for (link, stream) in links.iter_mut().zip(&mut streams) {
            self.advance(link, stream, begins).await?;
            sound &= stream.read(merging);
        }
        while sound && unite.limit.is_none_or(|it| count < it) && streams.iter().all(|it| it.failure.is_none()) {
            let Some(place) = first(&streams, merging) else { break };
            let (Some(stream), Some(link)) = (streams.get_mut(place), links.get_mut(place)) else { break };
            let sorting = std::mem::take(&mut stream.sorting);
            if left > 0 {
                left -= 1;
            } else {
                let Some(cells) = merging.cells(&stream.row) else { break };
                out.clear();
                merging.put(&mut out, &cells);
                self.client.put(&out);
                count += 1;
            }
            self.advance(link, stream, begins).await?;
            sound &= stream.read(merging);
            // Whoever breaks the order that is counted on has another.
            sound &= stream.ended || merging.compare(&sorting, &stream.sorting) != Ordering::Greater;
            if self.client.is_full() {
                sent = true;
                if let Err(error) = self.client.flush().await {
                    return Err(self.lost(Broken::Client(error), "", begins, false));
                }
            }
        }
        self.drain(links, &mut streams, begins).await?;
        let warns = streams.iter().any(|it| it.warnings > 0);
        if streams.iter().any(|it| it.failure.is_some()) {
            if !sent {
                self.client.rewind(mark);
            }
            return Ok(failed(&streams));
        }
        if sound && !warns {
            let status = self.united_status(links, more);
            self.client.end_rows(0, status);
            return Ok(Some(End::Answered(Ended::Rows { count, status, warnings: 0 })));
        }
        if !sent {
            self.client.rewind(mark);
            return Ok(None);
        }
        let what = if warns { "warnings of several shards" } else { "rows that are ordered otherwise" };
        let error = ClientError::unsupported(
            format!("{what} behind rows that have been sent are not supported"),
            "SET @shardway_strategy = 'gather' has one server put the rows together.",
        );
        let failure = say::failure(&error);
        self.client.put_failure(&failure);
        Ok(Some(End::Answered(Ended::Refused(failure))))
    }
}

impl Stream {
    /// Reads what the row at hand is ordered by; false: it cannot be read.
    fn read(&mut self, merging: &Merging<'_>) -> bool {
        if self.ended {
            return true;
        }
        match merging.cells(&self.row).and_then(|it| merging.sorting(&it)) {
            Some(sorting) => {
                self.sorting = sorting;
                true
            }
            None => false,
        }
    }
}

/// What the first shard that failed said.
fn failed(streams: &[Stream]) -> Option<End> {
    streams.iter().enumerate().find_map(|(place, it)| Some(End::Failed(place, it.failure.clone()?)))
}

/// The stream whose row comes next.
fn first(streams: &[Stream], merging: &Merging<'_>) -> Option<usize> {
    let mut first: Option<(usize, &Stream)> = None;
    for (place, stream) in streams.iter().enumerate().filter(|(_, it)| !it.ended) {
        if first.is_none_or(|(_, it)| merging.compare(&stream.sorting, &it.sorting) == Ordering::Less) {
            first = Some((place, stream));
        }
    }
    first.map(|(place, _)| place)
}
