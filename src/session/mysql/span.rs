//! One statement of the client's that writes on several shards: all of it is done, or nothing.
//!
//! ```text
//! let mut span = self.open_span(&shards, true).await?;
//! for place in 0..span.len() {
//!     match self.ask_in_span(&mut span, place, saying).await? {
//!         Ok(taken) => …                                    // what this shard answered; nobody else has heard it
//!         Err(failure) => {
//!             self.undo_span(span, Some(&failure)).await?;   // nothing of the statement is left anywhere
//!             return Err(failure.into());                    // the client's error
//!         }
//!     }
//! }
//! self.keep_span(span).await?;                               // it stands, or (an error) nothing of it
//! ```
//!
//! Shards are asked one after the other, in the order that they were given in: give them in the map's order, so that two such
//! statements do not wait for each other crosswise.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::clock::Tick;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::exec::mysql::relay::Ended;
use crate::exec::mysql::relay::Taken;
use crate::ident::ShardId;
use crate::plan::Gets;
use crate::plan::Numbering;
use crate::plan::Split;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::say;
use crate::session::mysql::text::KILL;
use crate::session::mysql::text::Saying;
use crate::session::mysql::warnings::Part;
use crate::session::split::copies_differ;
use crate::tasks;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::status;

/// A statement that writes on several shards, between its beginning and its end. Nothing of the client's may run meanwhile.
#[derive(Debug)]
pub(super) struct Span {
    /// In the order that they were asked for.
    pub(super) links: Vec<Link>,
    /// Which of them have the savepoint.
    saved: Vec<bool>,
    kind: Kind,
    /// What NOW() says on all of them.
    time: Option<String>,
    /// The number that the next shard's AUTO_INCREMENT is to begin with.
    number: Option<u64>,
    /// All do the same, and the first tells what comes of it.
    copies: bool,
    /// It begins a transaction of the client's, who has said no BEGIN.
    opens: bool,
    began: Tick,
    pub(super) limit: Option<Duration>,
}

/// What a [`Span`] is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A transaction of its own, which the client does not know of.
    Own,
    /// The client's transaction.
    Within,
    /// One shard's, which does it by itself.
    Alone,
}

impl Span {
    /// All shards do the same to copies of theirs: the first alone tells warnings.
    pub(super) fn writes_copies(&mut self) {
        self.copies = true;
    }

    /// What the first row gets that the next shard's AUTO_INCREMENT counts.
    pub(super) fn begin_at(&mut self, number: u64) {
        self.number = Some(number);
    }

    /// Whether all of it goes with a transaction.
    pub(super) fn is_undoable(&self) -> bool {
        self.kind != Kind::Alone
    }

    /// How many shards it is on.
    pub(super) fn len(&self) -> usize {
        self.links.len()
    }
}

/// The savepoint before a statement on several shards: no client can have one of that name by accident.
const SAVEPOINT: &str = "SAVEPOINT `shardway: before this statement`";
const BACK: &str = "ROLLBACK TO SAVEPOINT `shardway: before this statement`";

/// How long a server may take to go back to it.
const BACK_MAX: Duration = Duration::from_secs(30);

impl Session {
    /// Makes sure that a transaction is open in which all of these shards may write, and that they are ready for a
    /// statement: the client's own, or one that ends with [`Self::keep_span`] or [`Self::undo_span`]. One of the two must
    /// follow, unless [`Self::ask_in_span`] has failed. With one shard and without a transaction none is opened.
    ///
    /// With `one_time`, `NOW()` and its kin say the same on all of them, `ON UPDATE CURRENT_TIMESTAMP` included.
    ///
    /// Forgets the warnings of the statement before.
    ///
    /// # Errors
    /// A shard may not write in this transaction, or cannot be reached: nothing has been done then.
    pub(super) async fn open_span(&mut self, shards: &[ShardId], one_time: bool) -> Result<Span, Trouble> {
        self.may_write(shards)?;
        let limit = self.used()?.access.statement_max();
        let opens = !self.is_within() && !self.state.autocommit();
        let kind = match self.is_within() || !self.state.autocommit() {
            true => Kind::Within,
            false if shards.len() == 1 => Kind::Alone,
            false => Kind::Own,
        };
        let mut links = Vec::with_capacity(shards.len());
        for shard in shards {
            match self.take_link(*shard).await {
                Ok(link) => links.push(link),
                Err(trouble) => {
                    links.into_iter().for_each(|it| self.keep(it));
                    return Err(trouble);
                }
            }
        }
        if kind == Kind::Own || (kind == Kind::Within && shards.len() > 1) {
            self.transaction.open();
        }
        self.warnings.clear();
        let saved = vec![false; links.len()];
        let time = (one_time && links.len() > 1).then(|| {
            let now = clock::unix_now();
            format!("{}.{:06}", now.as_secs(), now.subsec_micros())
        });
        Ok(Span { links, saved, kind, time, number: None, copies: false, opens, began: clock::now(), limit })
    }

    /// Has the shard at that place of the span do a statement, and gives back what it answers: an error of the server's is
    /// the inner one, and the span must be undone then. Warnings are read, for SHOW WARNINGS.
    ///
    /// # Errors
    /// A connection broke, or it took too long: the client's transaction, or the statement where there is none, is undone on
    /// all shards, and the span is over.
    pub(super) async fn ask_in_span(
        &mut self,
        span: &mut Span,
        place: usize,
        saying: Saying<'_>,
    ) -> Result<Result<Taken, Failure>, Trouble> {
        let left = span.limit.map(|it| it.saturating_sub(clock::now().since(span.began)));
        let Some(mut link) = (place < span.links.len()).then(|| span.links.remove(place)) else {
            return Err(ClientError::new(Code::Internal, "a span has no such shard", "Report this.").into());
        };
        let saves = span.kind == Kind::Within && !span.saved.get(place).copied().unwrap_or(true);
        let set: Vec<String> = span
            .time
            .iter()
            .map(|it| format!("SET timestamp = {it}"))
            .chain(span.number.map(|it| format!("SET insert_id = {it}")))
            .collect();
        // Nobody can tell whether the number was used.
        link.doubtful |= span.number.is_some();
        let tells = !(span.copies && place > 0);
        let work = self.ask_one(&mut link, saves, (span.time.as_deref(), &set), tells, saying);
        let asked = match left {
            Some(left) => tokio::time::timeout(left, work).await,
            None => Ok(work.await),
        };
        let was = span.kind == Kind::Within;
        match asked {
            Ok(Ok(taken)) => {
                span.links.insert(place, link);
                if let Some(saved) = span.saved.get_mut(place) {
                    *saved |= saves;
                }
                Ok(taken)
            }
            Ok(Err(broken)) => {
                let trouble = self.lost_on(broken, &link, span.kind != Kind::Alone, true);
                drop(link);
                self.give_up(span).await;
                let told = matches!(&trouble, Trouble::Refused(error) if error.code == Code::NotDone);
                self.transaction.is_undone(was && !told);
                Err(trouble)
            }
            Err(_) => {
                let target = Arc::clone(&link.connection.target);
                // Closed as it is, the server would go on with it until it has something to say.
                tasks::local("kill", async move {
                    if let Err(error) = target.kill_query(clock::now().plus(KILL)).await {
                        tracing::debug!(%error, "what took too long may go on");
                    }
                    drop(link);
                });
                self.give_up(span).await;
                self.transaction.is_undone(was);
                if span.kind == Kind::Alone {
                    return Err(say::too_slow_to_know().into());
                }
                Err(say::too_slow().into())
            }
        }
    }

    async fn ask_one(
        &mut self,
        link: &mut Link,
        saves: bool,
        (time, set): (Option<&str>, &[String]),
        tells: bool,
        saying: Saying<'_>,
    ) -> Result<Result<Taken, Failure>, Broken> {
        if let Err(failure) = self.make_ready(link, saying).await? {
            return Ok(Err(failure));
        }
        link.wrote = true;
        is_at(link, time);
        // In the same flight as the statement.
        let before: Vec<&str> = set.iter().map(String::as_str).chain(saves.then_some(SAVEPOINT)).collect();
        link.tell_all(&before).await?;
        match saying {
            Saying::Text(text) => link.say_query(text).await?,
            Saying::Raw(bytes) => link.say_bytes(bytes).await?,
            Saying::Bound(bound) => bound.say(link).await?,
        }
        let doubtful = link.doubtful;
        let prepared = link.hear_all(before.len()).await?;
        link.doubtful = doubtful;
        if let Err(failure) = prepared {
            return Err(Broken::Server(failure.to_string()));
        }
        let taken = relay::take(link, self.map.limits.message).await?;
        if let Ok(taken) = &taken
            && taken.done.warnings > 0
            && tells
        {
            self.warnings.count(taken.done.warnings);
            self.warnings.read(link).await?;
        }
        Ok(taken)
    }

    /// Brings the shard at that place of the span to where it can be said something else than a statement: `set` is said
    /// before. An error of the server's is the inner one.
    ///
    /// # Errors
    /// The connection broke: the span has to be broken off.
    pub(super) async fn enter(
        &mut self,
        span: &mut Span,
        place: usize,
        set: &[&str],
    ) -> Result<Result<(), Failure>, Broken> {
        let saves = span.kind == Kind::Within && !span.saved.get(place).copied().unwrap_or(true);
        let Some(link) = span.links.get_mut(place) else { return Ok(Ok(())) };
        if let Err(failure) = self.make_ready(link, Saying::Text("")).await? {
            return Ok(Err(failure));
        }
        is_at(link, span.time.as_deref());
        let time = span.time.iter().map(|it| format!("SET timestamp = {it}")).collect::<Vec<_>>();
        let time = time.iter().map(String::as_str);
        let before: Vec<&str> = time.chain(set.iter().copied()).chain(saves.then_some(SAVEPOINT)).collect();
        let doubtful = link.doubtful;
        let prepared = link.run_all(&before).await?;
        link.doubtful = doubtful;
        if prepared.is_ok()
            && let Some(saved) = span.saved.get_mut(place)
        {
            *saved |= saves;
        }
        Ok(prepared)
    }

    /// What it does can be undone, wherever that is: one shard by itself has a transaction of its own for it.
    pub(super) fn make_undoable(&mut self, span: &mut Span) {
        if span.kind == Kind::Alone {
            span.kind = Kind::Own;
            self.transaction.open();
        }
    }

    /// Its servers are in the midst of something that nothing but the end of their connections ends: all is undone.
    pub(super) async fn break_off(&mut self, mut span: Span, stop: bool) {
        let was = span.kind == Kind::Within;
        for link in span.links.drain(..) {
            if !stop {
                continue;
            }
            let target = Arc::clone(&link.connection.target);
            // Closed as it is, the server would go on with it until it has something to say.
            tasks::local("kill", async move {
                if let Err(error) = target.kill_query(clock::now().plus(KILL)).await {
                    tracing::debug!(%error, "what took too long may go on");
                }
                drop(link);
            });
        }
        self.give_up(&mut span).await;
        self.transaction.is_undone(was);
    }

    /// The statement stands: with it ends the transaction that was opened for it.
    ///
    /// # Errors
    /// It could not be committed: nothing of it is done, unless the error says that it cannot be known.
    pub(super) async fn keep_span(&mut self, span: Span) -> Result<(), Trouble> {
        for link in span.links {
            self.keep(link);
        }
        let outcome = match span.kind {
            Kind::Own => self.end(true).await,
            Kind::Within | Kind::Alone => Ok(()),
        };
        self.statement_ended();
        outcome
    }

    /// The same where the proxy refuses what servers have begun to do: a transaction that it would have begun is none.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn refuse_span(&mut self, span: Span) -> Result<(), Trouble> {
        let opens = span.opens;
        self.undo_span(span, None).await?;
        if opens {
            let once = self.transaction.once;
            self.roll_back().await;
            self.transaction.once = once;
        }
        Ok(())
    }

    /// Nothing of the statement is to be left anywhere; the client's transaction goes on. `failure`: the error that it is
    /// undone for, if a server said it.
    ///
    /// # Errors
    /// The transaction could not go on without it: it has been undone as a whole, which the client is told first.
    pub(super) async fn undo_span(&mut self, mut span: Span, failure: Option<&Failure>) -> Result<(), Trouble> {
        match span.kind {
            Kind::Alone => span.links.drain(..).for_each(|it| self.keep(it)),
            Kind::Own => {
                let once = self.transaction.once;
                self.give_up(&mut span).await;
                // The client has not ended a transaction.
                self.transaction.once = once;
            }
            Kind::Within => {
                let saved = std::mem::take(&mut span.saved);
                let (mut goes_on, mut broken) = (true, false);
                for (link, saved) in span.links.iter_mut().zip(saved) {
                    if saved {
                        let back = tokio::time::timeout(BACK_MAX, link.run(BACK)).await;
                        // What has ended the transaction has taken the savepoint with it.
                        goes_on &= matches!(back, Ok(Ok(Ok(_))));
                        broken |= !matches!(back, Ok(Ok(_)));
                    }
                }
                if goes_on {
                    span.links.drain(..).for_each(|it| self.keep(it));
                } else {
                    if broken {
                        // What does not answer is closed, which rolls it back.
                        span.links.clear();
                    }
                    self.give_up(&mut span).await;
                    // Of these clients know that they may end the transaction.
                    let told = failure.is_some_and(|it| matches!(it.number, LOCK_DEADLOCK | LOCK_WAIT_TIMEOUT));
                    self.transaction.is_undone(!told);
                }
            }
        }
        self.statement_failed(failure);
        Ok(())
    }

    /// Rolls back all that is open.
    async fn give_up(&mut self, span: &mut Span) {
        self.links.append(&mut span.links);
        self.roll_back().await;
    }

    /// A statement that each of these shards does to its own rows, or all of them to their copies.
    pub(super) async fn write_on_several(
        &mut self,
        split: &Split,
        numbering: Option<&Numbering>,
        saying: Saying<'_>,
        more: bool,
    ) -> Result<(), Trouble> {
        let numbers = match numbering.filter(|_| split.everywhere) {
            Some(numbering) => same_numbers(numbering)?,
            None => false,
        };
        let mut span = self.open_span(&split.shards, split.now).await?;
        if split.everywhere {
            span.writes_copies();
        }
        let mut total: Option<Taken> = None;
        let mut parts: Vec<Part> = Vec::with_capacity(span.len());
        for place in 0..span.len() {
            let before = self.warnings.len();
            let taken = match self.ask_in_span(&mut span, place, saying).await? {
                Ok(taken) => taken,
                Err(failure) if split.everywhere && place > 0 => {
                    tracing::error!(%failure, "copies of a reference table differ");
                    self.undo_span(span, Some(&failure)).await?;
                    return Err(copies_differ().into());
                }
                Err(failure) => {
                    self.undo_span(span, Some(&failure)).await?;
                    return Err(failure.into());
                }
            };
            parts.push(Part { told: before..self.warnings.len(), rows: rows_of(&taken.done) });
            let united = match total {
                None => {
                    if numbers && taken.done.insert_id != 0 {
                        span.begin_at(taken.done.insert_id);
                    }
                    Ok(taken)
                }
                Some(first) if split.everywhere => match same(&first, &taken) {
                    true => Ok(first),
                    false => Err(copies_differ()),
                },
                Some(total) => united(total, taken),
            };
            total = match united {
                Ok(united) => Some(united),
                Err(error) => {
                    self.undo_span(span, None).await?;
                    return Err(error.into());
                }
            };
        }
        self.keep_span(span).await?;
        let Taken { mut done, collected } = total.unwrap_or_default();
        if done.warnings > 0 && !split.everywhere {
            let dropped = self.warnings.of_own_rows(&parts, |value| compared(value, saying));
            let left = done.warnings.saturating_sub(dropped);
            warn_of(&mut done, left);
        }
        let status = self.face(more).status(done.status & !status::IN_TRANSACTION);
        if numbers && done.insert_id != 0 {
            self.last.counted(done.insert_id);
        }
        match &collected {
            None => self.last.heard(&Ended::Done(done.clone())),
            Some(rows) => self.last.heard(&Ended::Rows {
                count: rows.rows.len() as u64,
                status: done.status,
                warnings: done.warnings,
            }),
        }
        match collected {
            None => self.client.put_done(&Done { status, changes: Vec::new(), ..done }),
            Some(rows) => {
                self.client.put_columns(&rows.columns, status);
                for row in &rows.rows {
                    self.client.put(row);
                }
                self.client.end_rows(done.warnings, status);
            }
        }
        Ok(())
    }
}

/// NOW() says that on it; whoever uses it next has it set back.
fn is_at(link: &mut Link, time: Option<&str>) {
    if let Some(time) = time {
        link.connection.settings = Arc::new(link.connection.settings.with("timestamp", time));
    }
}

/// Whether AUTO_INCREMENT gives numbers to all rows, so that a later shard can be told the first.
fn same_numbers(numbering: &Numbering) -> Result<bool, ClientError> {
    let refuse = |what: &str| {
        Err(ClientError::unsupported(
            format!(
                "{what}, where AUTO_INCREMENT counts \"{}\" of reference table \"{}\", is not supported: its copies could come \
                 to differ",
                numbering.column, numbering.table
            ),
            format!("Give \"{}\" from the application.", numbering.column),
        ))
    };
    let is = |wanted: Gets| numbering.rows.contains(&wanted);
    if is(Gets::Unknown) {
        return refuse("a value that the server computes");
    }
    if !is(Gets::Next) {
        return Ok(false);
    }
    if numbering.ignores || numbering.updates {
        return refuse("IGNORE, REPLACE or ON DUPLICATE KEY UPDATE");
    }
    if numbering.rows.iter().any(|it| *it != Gets::Next) {
        return refuse("a row with a number beside one without");
    }
    Ok(true)
}

/// Whether two copies tell the same.
pub(super) fn same(one: &Taken, other: &Taken) -> bool {
    let told = |it: &Taken| (it.done.affected, it.done.insert_id, it.done.info.clone());
    let rows = |it: &Taken| it.collected.as_ref().map(|it| it.rows.len());
    told(one) == told(other) && rows(one) == rows(other)
}

/// Two shards' answers as one.
fn united(mut total: Taken, taken: Taken) -> Result<Taken, ClientError> {
    total.done = sum(&total.done, &taken.done);
    match (&mut total.collected, taken.collected) {
        (None, None) => {}
        (Some(all), Some(rows)) if relay::alike(&all.columns, &rows.columns) => all.rows.extend(rows.rows),
        _ => {
            return Err(ClientError::unsupported(
                "the shards' answers cannot be united: their columns are not of the same types",
                "The tables may differ between the shards: `shardway check --connect` compares them.",
            ));
        }
    }
    Ok(total)
}

/// What two shards did, as one server would tell it.
pub(super) fn sum(one: &Done, other: &Done) -> Done {
    Done {
        affected: one.affected.saturating_add(other.affected),
        insert_id: if one.insert_id == 0 { other.insert_id } else { one.insert_id },
        status: one.status | other.status,
        warnings: one.warnings.saturating_add(other.warnings),
        info: sum_of_texts(&one.info, &other.info),
        changes: Vec::new(),
    }
}

/// `Rows matched: 2  Changed: 1  Warnings: 0` of both together: the numbers are added, the words are the first's.
fn sum_of_texts(one: &[u8], other: &[u8]) -> Vec<u8> {
    let mut others = numbers(other).into_iter();
    let mut out = Vec::with_capacity(one.len());
    let mut rest = one;
    while let Some(first) = rest.first() {
        let length = rest.iter().take_while(|it| it.is_ascii_digit()).count();
        if length == 0 {
            out.push(*first);
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        let (digits, behind) = rest.split_at(length);
        let number = numbers(digits).first().copied().unwrap_or(0).saturating_add(others.next().unwrap_or(0));
        out.extend_from_slice(number.to_string().as_bytes());
        rest = behind;
    }
    out
}

/// How many rows an UPDATE has found, or a DELETE taken away.
fn rows_of(done: &Done) -> u64 {
    numbers(&done.info).first().copied().unwrap_or(done.affected)
}

/// Tells so many warnings: `Rows matched: 2  Changed: 1  Warnings: 0` tells of them, too.
fn warn_of(done: &mut Done, warnings: u16) {
    done.warnings = warnings;
    if let Some(place) = done.info.windows(WARNINGS.len()).position(|it| it == WARNINGS) {
        done.info.truncate(place + WARNINGS.len());
        done.info.extend_from_slice(warnings.to_string().as_bytes());
    }
}

const WARNINGS: &[u8] = b"Warnings: ";

/// How often the statement's condition gives a value.
fn compared(value: &str, saying: Saying<'_>) -> usize {
    if value.is_empty() {
        return 0;
    }
    let in_condition = |text: &str| {
        let lower = text.to_ascii_lowercase();
        let condition = lower.find("where").and_then(|it| lower.get(it..)).unwrap_or_default();
        condition.matches(&format!("'{}'", value.to_ascii_lowercase())).count()
    };
    match saying {
        Saying::Text(text) => in_condition(text),
        Saying::Raw(bytes) => in_condition(&String::from_utf8_lossy(bytes)),
        Saying::Bound(bound) => {
            let given = bound.texts();
            let bytes = value.as_bytes();
            in_condition(bound.text()) + given.iter().flatten().filter(|(_, it)| it.as_slice() == bytes).count()
        }
    }
}

fn numbers(text: &[u8]) -> Vec<u64> {
    let digits = text.split(|it| !it.is_ascii_digit()).filter(|it| !it.is_empty());
    digits.filter_map(|it| std::str::from_utf8(it).ok()?.parse().ok()).collect()
}

// As in MySQL's list of errors.
const LOCK_WAIT_TIMEOUT: u16 = 1205;
const LOCK_DEADLOCK: u16 = 1213;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_servers_tell_is_added() {
        let told = |text: &str| Done { affected: 1, info: text.as_bytes().to_vec(), warnings: 2, ..Done::default() };
        let both =
            sum(&told("Rows matched: 2  Changed: 1  Warnings: 0"), &told("Rows matched: 30  Changed: 9  Warnings: 1"));
        assert_eq!(both.info, b"Rows matched: 32  Changed: 10  Warnings: 1");
        assert_eq!((both.affected, both.warnings), (2, 4));
        assert_eq!(sum(&told(""), &told("")).info, b"");
    }
}
