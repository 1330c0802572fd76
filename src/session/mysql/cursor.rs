//! Cursors: rows of a prepared statement that its client fetches piece by piece.
//!
//! Where rows are asked for in their places, each server opens a cursor of its own, and the session keeps those connections
//! until it is closed. Servers put a cursor's rows aside when they open it, so what the session does on the same connection
//! meanwhile changes none of them. Rows that were gathered, or put together here, are held in the session, up to a limit.

use std::collections::VecDeque;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Ended;
use crate::exec::mysql::relay::Face;
use crate::exec::mysql::relay::Opened;
use crate::exec::mysql::rows;
use crate::ident::ShardId;
use crate::plan::Command;
use crate::plan::Template;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::prepared::Bound;
use crate::session::mysql::prepared::READ_ONLY;
use crate::session::mysql::prepared::Statement;
use crate::session::mysql::say;
use crate::session::mysql::text::Saying;
use crate::wire::mysql::capability;
use crate::wire::mysql::command::Execute;
use crate::wire::mysql::frame;
use crate::wire::mysql::result::Column;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::First;
use crate::wire::mysql::result::column_count;
use crate::wire::mysql::result::read_end_of_rows;
use crate::wire::mysql::status;

/// What a session holds of its cursors' rows, in bytes.
const HELD_MAX: usize = 64 << 20;

/// What becomes of the rows of an execution.
#[derive(Debug, Default)]
pub(super) enum Opening {
    /// They go to the client: it has not asked for a cursor, or there is none for such a statement.
    #[default]
    No,
    /// The client has asked for a cursor.
    Wanted,
    /// Servers have opened cursors.
    Opened(VecDeque<Part>),
}

impl Opening {
    pub(super) fn is_wanted(&self) -> bool {
        matches!(self, Self::Wanted)
    }
}

/// A server's cursor.
#[derive(Debug)]
pub(super) struct Part {
    shard: ShardId,
    /// The number of the connection, for another to the same shard has no such cursor.
    thread: u32,
    /// The statement, as the server numbers it: it is the cursor's own.
    statement: u32,
}

/// An open cursor.
#[derive(Debug)]
pub(super) enum Cursor {
    /// Rows are with servers, one after the other.
    Servers(VecDeque<Part>),
    /// Rows are here: packets, and how much of them has been fetched.
    Held(Vec<u8>, usize),
}

impl Cursor {
    fn held(&self) -> usize {
        match self {
            Self::Servers(_) => 0,
            Self::Held(rows, _) => rows.len(),
        }
    }
}

impl Session {
    /// COM_STMT_EXECUTE for a cursor.
    pub(super) async fn execute_for_cursor(
        &mut self,
        execute: &Execute<'_>,
        statement: &mut Statement,
    ) -> Result<(), Trouble> {
        let others: usize = self.prepared.all.values().filter_map(|it| it.cursor.as_ref()).map(Cursor::held).sum();
        let mark = self.client.mark();
        self.client.hold(HELD_MAX.saturating_sub(others));
        self.opening = Opening::Wanted;
        let result = self.execute_it(execute, statement).await;
        let fits = self.client.let_go();
        match std::mem::take(&mut self.opening) {
            _ if !fits => {
                self.client.rewind(mark);
                Err(ClientError::new(
                    Code::TooLarge,
                    format!("the rows of a cursor over several shards are more than {HELD_MAX} bytes"),
                    "Ask for fewer rows at once, or without a cursor: then they are not held.",
                )
                .into())
            }
            Opening::Opened(parts) => {
                let cursor = Cursor::Servers(parts);
                match result {
                    Ok(()) => statement.cursor = Some(cursor),
                    Err(_) => self.close_cursor(cursor).await,
                }
                result
            }
            Opening::Wanted if result.is_ok() => {
                let told = self.client.told_since(mark);
                if let Some(held) = Held::of(told, self.client.capabilities) {
                    self.client.rewind(mark);
                    self.client.put(&column_count(held.columns.len() as u64));
                    held.columns.iter().for_each(|it| self.client.put(it));
                    self.client.end_rows(held.warnings, held.status | status::CURSOR_EXISTS);
                    statement.cursor = Some(Cursor::Held(held.rows, 0));
                }
                result
            }
            Opening::Wanted | Opening::No => result,
        }
    }

    /// Statements that tell no rows by a cursor on one server either go on without.
    pub(super) fn may_open_cursor(&mut self, template: &Template) {
        if self.opening.is_wanted() && !(template.command == Command::Data && template.tag == "SELECT") {
            self.opens_none();
        }
    }

    fn opens_none(&mut self) {
        self.opening = Opening::No;
        // What was told before is less than what may be held.
        let _ = self.client.let_go();
    }

    /// Has servers open cursors, and tells the client of the columns.
    pub(super) async fn open_on(&mut self, links: &mut [Link], bound: &Bound<'_>, was: bool) -> Result<Ended, Trouble> {
        if links.len() > 1 && !self.state.autocommit() {
            // As for any statement: what servers begin by themselves must begin on all.
            self.transaction.open();
        }
        let mut statements = Vec::with_capacity(links.len());
        let mut refused = None;
        for link in links.iter_mut() {
            let made = async {
                if let Err(failure) = self.make_ready(link, Saying::Text("")).await? {
                    return Ok(Err(failure));
                }
                rows::prepare(link, bound.text()).await
            };
            match made.await {
                Ok(Ok(prepared)) => statements.push(prepared.statement),
                Ok(Err(failure)) => {
                    refused = Some(failure);
                    break;
                }
                Err(broken) => return Err(self.lost_on(broken, link, was, false)),
            }
        }
        if let Some(failure) = refused {
            self.close_on(links, &statements, was).await?;
            self.client.put_failure(&failure);
            return Ok(Ended::Failed(failure));
        }
        for (link, statement) in links.iter_mut().zip(&statements) {
            if let Err(broken) = bound.say_as(link, *statement, READ_ONLY).await {
                return Err(self.lost_on(broken, link, was, false));
            }
        }
        let several = links.len() > 1;
        let mut columns: Option<Vec<Column>> = None;
        let (mut all_warnings, mut flags, mut failed) = (0_u16, 0, None);
        for link in links.iter_mut() {
            let opened = relay::opened(link, &mut self.client).await;
            match opened.map_err(|broken| self.lost_on(broken, link, was, false))? {
                Opened::Cursor(found, warnings, status) => {
                    all_warnings = all_warnings.saturating_add(warnings);
                    flags |= status;
                    match &columns {
                        None => columns = Some(found),
                        Some(known) if relay::alike(known, &found) => {}
                        Some(_) => return Err(differs("their columns are not of the same types").into()),
                    }
                }
                Opened::Failed(failure) => failed = failed.or(Some(failure)),
                Opened::Rows(..) | Opened::Done(_) if several => {
                    return Err(differs("one opens no cursor").into());
                }
                Opened::Done(done) => {
                    self.opens_none();
                    let status = self.face(false).status(done.status);
                    self.client.put_done(&Done { status, changes: Vec::new(), ..done.clone() });
                    rows_closed(self.close_on(links, &statements, was).await)?;
                    return Ok(Ended::Done(done));
                }
                Opened::Rows(found, early) => {
                    self.opens_none();
                    let face = Face { in_transaction: false, more: false, insert_id: None };
                    self.client.put_columns(&found, face.status(early.unwrap_or(link.connection.status)));
                    let passed = relay::pass_rows(link, &mut self.client, face).await;
                    let ended = passed.map_err(|broken| self.lost_on(broken, link, was, false))?;
                    rows_closed(self.close_on(links, &statements, was).await)?;
                    return Ok(ended);
                }
            }
        }
        if let Some(failure) = failed {
            self.close_on(links, &statements, was).await?;
            self.client.put_failure(&failure);
            return Ok(Ended::Failed(failure));
        }
        if several && all_warnings > 0 {
            self.close_on(links, &statements, was).await?;
            return Err(ClientError::unsupported(
                "warnings of several shards are not supported: they are not those of one server",
                "Write the statement so that it raises none.",
            )
            .into());
        }
        let columns = columns.unwrap_or_default();
        self.client.put(&column_count(columns.len() as u64));
        columns.iter().for_each(|it| self.client.put(&it.payload()));
        let face = Face { in_transaction: false, more: false, insert_id: None };
        self.client.end_rows(all_warnings, face.status(flags));
        let mut parts = VecDeque::with_capacity(links.len());
        for (link, statement) in links.iter_mut().zip(statements) {
            link.cursors += 1;
            parts.push_back(Part { shard: link.shard, thread: link.connection.thread, statement });
        }
        self.opening = Opening::Opened(parts);
        Ok(Ended::Rows { count: 0, status: flags & !status::CURSOR_EXISTS, warnings: all_warnings })
    }

    /// Has servers forget statements, each that of its place.
    async fn close_on(&mut self, links: &mut [Link], statements: &[u32], was: bool) -> Result<(), Trouble> {
        for (link, statement) in links.iter_mut().zip(statements) {
            if let Err(broken) = rows::close(link, *statement).await {
                return Err(self.lost_on(broken, link, was, false));
            }
        }
        Ok(())
    }

    /// COM_STMT_FETCH.
    pub(super) async fn fetch(&mut self, number: u32, count: u32) -> Result<(), Trouble> {
        let unknown = || say::no_statement(number, "mysqld_stmt_fetch");
        let statement = self.prepared.all.get_mut(&number).ok_or_else(unknown)?;
        let cursor = statement.cursor.take().ok_or_else(|| say::no_cursor(number))?;
        let left = match cursor {
            Cursor::Servers(parts) => self.fetch_from(parts, count).await?,
            Cursor::Held(rows, at) => self.fetch_held(rows, at, count).await?,
        };
        let flags = self.face(false).status(self.usual_status());
        let of_cursor = if left.is_some() { status::CURSOR_EXISTS } else { status::LAST_ROW_SENT };
        self.client.end_rows(0, flags | of_cursor);
        if let Some(statement) = self.prepared.all.get_mut(&number) {
            statement.cursor = left;
        }
        Ok(())
    }

    /// Rows of servers' cursors; what is left, if anything may be.
    async fn fetch_from(&mut self, mut parts: VecDeque<Part>, count: u32) -> Result<Option<Cursor>, Trouble> {
        let mut wanted = u64::from(count);
        while let Some(part) = parts.front() {
            let Some(mut link) = self.link_of(part) else {
                self.close_cursor(Cursor::Servers(parts)).await;
                return Err(ClientError::new(
                    Code::NotDone,
                    "the connection that a cursor was open on is gone",
                    "Execute the statement again.",
                )
                .into());
            };
            let mut payload = vec![FETCH];
            payload.extend_from_slice(&part.statement.to_le_bytes());
            payload.extend_from_slice(&u32::try_from(wanted).unwrap_or(u32::MAX).to_le_bytes());
            let fetched = async {
                link.say(&payload).await?;
                relay::pass_fetched(&mut link, &mut self.client).await
            };
            match fetched.await {
                Err(broken) => {
                    let trouble = self.lost_all(broken, &link).await;
                    drop(link);
                    parts.pop_front();
                    self.close_cursor(Cursor::Servers(parts)).await;
                    return Err(trouble);
                }
                // The client has been told.
                Ok(Ended::Failed(_) | Ended::Refused(_) | Ended::Done(_)) => {
                    self.keep(link);
                    self.close_cursor(Cursor::Servers(parts)).await;
                    return Err(Trouble::Told);
                }
                Ok(Ended::Rows { count, status: flags, .. }) => {
                    link.connection.status &= !(status::CURSOR_EXISTS | status::LAST_ROW_SENT);
                    self.keep(link);
                    if flags & status::LAST_ROW_SENT == 0 {
                        return Ok(Some(Cursor::Servers(parts)));
                    }
                    wanted = wanted.saturating_sub(count);
                    let through = parts.pop_front().into_iter().collect();
                    self.close_cursor(Cursor::Servers(through)).await;
                }
            }
        }
        Ok(None)
    }

    /// Rows that are held; what is left. As with servers, who fetches just the last one is not told that it is.
    async fn fetch_held(&mut self, rows: Vec<u8>, mut at: usize, count: u32) -> Result<Option<Cursor>, Trouble> {
        let mut wanted = count;
        while wanted > 0 {
            let Some(rest) = rows.get(at..).filter(|it| !it.is_empty()) else { return Ok(None) };
            let Some(packet) = frame::packet(rest) else { return Ok(None) };
            self.client.put_packet(rest.get(packet.body.clone()).unwrap_or_default());
            self.client.within_payload = packet.goes_on;
            at += packet.body.end;
            wanted -= u32::from(!packet.goes_on);
            if self.client.is_full() && self.client.flush().await.is_err() {
                return Err(Trouble::Gone);
            }
        }
        Ok(Some(Cursor::Held(rows, at)))
    }

    /// A cursor is of no more use.
    pub(super) async fn close_cursor(&mut self, cursor: Cursor) {
        let Cursor::Servers(parts) = cursor else { return };
        for part in parts {
            let Some(mut link) = self.link_of(&part) else { continue };
            link.cursors = link.cursors.saturating_sub(1);
            match rows::close(&mut link, part.statement).await {
                Ok(()) => self.keep(link),
                // What else was on it is gone, too.
                Err(broken) => {
                    let within = link.begun || link.is_within();
                    let _ = self.lost_all(broken, &link).await;
                    self.transaction.is_undone(within);
                }
            }
        }
    }

    /// The connection that a cursor is open on.
    fn link_of(&mut self, part: &Part) -> Option<Link> {
        let is = |it: &Link| it.shard == part.shard && it.connection.thread == part.thread;
        let place = self.links.iter().position(is)?;
        Some(self.links.swap_remove(place))
    }
}

/// What a statement told is with the client: that it could not be closed is the connection's end, and nobody's error.
fn rows_closed(closed: Result<(), Trouble>) -> Result<(), Trouble> {
    closed.map_err(|_| Trouble::Told)
}

fn differs(what: &str) -> ClientError {
    ClientError::unsupported(
        format!("the shards' answers cannot be united: {what}"),
        "The tables may differ between the shards: `shardway check --connect` compares them.",
    )
}

/// An answer with rows that is kept for a cursor.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    columns: Vec<Vec<u8>>,
    /// Packets.
    rows: Vec<u8>,
    warnings: u16,
    status: u16,
}

impl Held {
    /// Of the packets of one answer; `None`: it has no rows, or failed.
    fn of(told: &[u8], capabilities: u32) -> Option<Self> {
        let ends = capabilities & capability::DEPRECATE_EOF == 0;
        let mut at = 0;
        let (body, _) = packet_at(told, &mut at)?;
        let First::Columns(count) = First::read(body, capabilities).ok()? else { return None };
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(packet_at(told, &mut at)?.0.to_vec());
        }
        if ends {
            packet_at(told, &mut at)?;
        }
        let begin = at;
        loop {
            let before = at;
            let (body, _) = packet_at(told, &mut at)?;
            // Nothing follows what ends the rows, be it an error.
            if at == told.len() {
                let (warnings, status) = match (body.first(), ends) {
                    (Some(0xfe), true) => read_end_of_rows(body).ok()?,
                    (Some(0xfe), false) => Done::read(body, capabilities).map(|it| (it.warnings, it.status)).ok()?,
                    _ => return None,
                };
                return Some(Self { columns, rows: told.get(begin..before)?.to_vec(), warnings, status });
            }
        }
    }
}

/// The packet at a place, and whether its payload goes on; the place moves behind it.
fn packet_at<'a>(bytes: &'a [u8], at: &mut usize) -> Option<(&'a [u8], bool)> {
    let rest = bytes.get(*at..)?;
    let packet = frame::packet(rest)?;
    *at += packet.body.end;
    Some((rest.get(packet.body)?, packet.goes_on))
}

/// COM_STMT_FETCH.
const FETCH: u8 = 0x1c;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_held_as_columns_and_rows() {
        for capabilities in [0, capability::DEPRECATE_EOF] {
            let ends = capabilities == 0;
            let done = Done { status: 2, warnings: 1, ..Done::default() };
            let end = if ends { vec![0xfe, 1, 0, 2, 0] } else { done.payload(0xfe, capabilities) };
            let column = Column::default().payload();
            let rows: [&[u8]; 2] = [b"\0\0a", b"\0\0b"];
            let (mut told, mut sequence, mut held) = (Vec::new(), 1, Vec::new());
            let mut payloads = vec![column_count(1), column.clone()];
            payloads.extend(ends.then(|| vec![0xfe, 0, 0, 2, 0]));
            for payload in &payloads {
                sequence = frame::put(&mut told, sequence, payload);
            }
            for row in rows {
                frame::put(&mut held, sequence, row);
                sequence = frame::put(&mut told, sequence, row);
            }
            let without_end = told.clone();
            frame::put(&mut told, sequence, &end);
            let found = Held::of(&told, capabilities).unwrap();
            assert_eq!(
                (found.columns, found.rows.len(), found.warnings, found.status),
                (vec![column], held.len(), 1, 2)
            );
            // An error behind rows, an answer without any, and one that is cut short.
            let mut failed = without_end.clone();
            frame::put(&mut failed, sequence, b"\xff\x01\x04#HY000no");
            assert_eq!(Held::of(&failed, capabilities), None);
            assert_eq!(Held::of(&without_end, capabilities), None);
            let mut plain = Vec::new();
            frame::put(&mut plain, 1, &done.payload(0, capabilities));
            assert_eq!(Held::of(&plain, capabilities), None);
        }
    }
}
