//! What most statements are: whole, for one shard, with an answer that is the client's as it stands.
//!
//! A Query, or Bind to Sync of a named statement, is put on its link and its answer passed on without the machinery that
//! `Session::burst` needs for everything else. Whatever is not plainly so is left to that, with nothing done that would
//! not be done there too.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use crate::backend::Piece;
use crate::exec::client::Message;
use crate::exec::flight;
use crate::exec::flight::Lost;
use crate::exec::link::Link;
use crate::exec::say;
use crate::ident::ShardSet;
use crate::plan;
use crate::plan::Plan;
use crate::plan::Template;
use crate::session::End;
use crate::session::Session;
use crate::session::transaction::Kind;
use crate::wire::postgres::frontend;

/// An answer that goes through as it stands.
#[derive(Debug)]
pub(super) struct Passing {
    /// The place of the link.
    place: usize,
    /// What of the link's buffer is still to be sent to the client.
    range: Range<usize>,
    /// Something was sent that TLS may still hold back.
    unflushed: bool,
    /// A server raised an error.
    failed: bool,
    /// ReadyForQuery has come.
    over: bool,
}

/// Describe of the unnamed portal, as a whole message.
const DESCRIBE: &[u8] = b"D\0\0\0\x06P\0";
/// Execute of the unnamed portal to its end.
const EXECUTE: &[u8] = b"E\0\0\0\x09\0\0\0\0\0";
/// Sync.
const SYNC: &[u8] = b"S\0\0\0\x04";

impl Session {
    /// Puts a message on its link if it is usual; its answer is then to be taken with [`Self::poll_passing`].
    pub(super) fn put_usual(&mut self, message: &Message) -> Option<Passing> {
        self.begin_request();
        let usual = !self.skipping
            && self.items.is_empty()
            && self.client.mark() == 0
            && !self.pins_suspect
            && !self.transaction.altered
            && !self.within_batch()
            && !self.batch.is_begun()
            && !self.batch_flown
            && (self.portals.is_empty() || self.transaction.is_open());
        if !usual {
            return None;
        }
        let turn = self.turn;
        let begun = self.client.at();
        let place = match message.kind {
            b'Q' => self.put_query(message),
            b'B' => self.put_bind(message),
            _ => None,
        };
        // Where any shard will do, the long way must come to the same one.
        if place.is_none() {
            self.turn = turn;
        }
        let place = place?;
        if self.links.get(place).is_some_and(|link| !link.begun && !link.pinned) && self.only_reads() {
            self.keep_said(message.whole.start..message.whole.end + self.client.at() - begun);
        }
        Some(Passing { place, range: 0..0, unflushed: false, failed: false, over: false })
    }

    fn put_query(&mut self, message: &Message) -> Option<usize> {
        let open = match self.transaction.kind {
            Kind::None => false,
            Kind::Explicit if !self.transaction.failed && !self.transaction.has_set(&self.state.settings) => true,
            _ => return None,
        };
        let world = self.world().ok()?;
        let query = frontend::Query::read(self.client.bytes(message.body())).ok()?;
        let text = std::str::from_utf8(query.text).ok()?;
        let compiled = self.worker.planner.borrow_mut().compile(text, &world).ok()?;
        let [statement] = compiled.as_slice() else { return None };
        let template = &*statement.template;
        if !template.is_plain() {
            return None;
        }
        let plan = statement.plan(text, None, &world).ok()?;
        self.batch_writer = None;
        self.batch.is_over();
        let place = self.join_usual(&plan, template)?;
        // A server forgets both at every Query.
        self.unnamed = None;
        if open {
            self.portals.remove("");
        }
        let link = self.links.get_mut(place)?;
        link.out.extend_from_slice(self.client.bytes(message.whole.clone()));
        link.connection.unnamed = 0;
        link.wrote |= template.access == plan::Access::Write;
        link.due += 1;
        Some(place)
    }

    fn put_bind(&mut self, message: &Message) -> Option<usize> {
        if self.transaction.is_open() || !self.transaction.local.is_empty() || !self.state.pins.is_empty() {
            return None;
        }
        // All of it must be here.
        let unread = self.client.unread();
        let behind = unread.strip_prefix(DESCRIBE).unwrap_or(unread).strip_prefix(EXECUTE)?.strip_prefix(SYNC)?;
        let rest = unread.len() - behind.len();
        let world = self.world().ok()?;
        let body = message.body();
        let view = frontend::Bind::read(self.client.bytes(body.clone())).ok()?;
        if !view.portal.is_empty() || view.statement.is_empty() {
            return None;
        }
        let name = std::str::from_utf8(view.statement).ok()?;
        let prepared = self.prepared.get(name)?;
        let planned = self.compiled(prepared, &world).ok()??;
        let template = &*planned.template;
        if !template.is_plain() {
            return None;
        }
        let plan = prepared.plan(&planned, &view, &world).ok()?;
        // Behind the portal's name, which is empty, and the statement's.
        let values = body.start + 1 + name.len() + 1..body.end;
        let number = prepared.number.number;
        let place = self.join_usual(&plan, template)?;
        let link = self.links.get_mut(place)?;
        if !link.connection.has_prepared(number) {
            return None;
        }
        say::bind_values(&mut link.out, &say::statement_name(number), self.client.bytes(values));
        link.out.extend_from_slice(self.client.unread().get(..rest)?);
        self.client.consume(rest);
        link.wrote |= template.access == plan::Access::Write;
        link.due += 1;
        Some(place)
    }

    /// The place of a link on which the statement can be said with nothing before it.
    fn join_usual(&mut self, plan: &Plan, template: &Template) -> Option<usize> {
        if !self.map.timeouts.statement.is_zero() {
            return None;
        }
        if let Plan::Gather(_) | Plan::Split(_) | Plan::Copy(_) | Plan::Carry | Plan::LookUp(_) = plan {
            return None;
        }
        let shard = self.shards(plan).ok()?.only()?;
        let waits = match self.transaction.is_open() {
            true => self.moment_due_in_transaction(false) || self.moment_due_for_dump(&template.effects),
            false => template.access == plan::Access::Write && self.access.service.gate.is_shut(),
        };
        if waits {
            return None;
        }
        self.admit(&ShardSet::one(shard), template.access, &template.effects).ok()?;
        let place = self.join_now(shard, template.access)?;
        let open = self.transaction.is_open();
        // Others may wait for a transaction that is on several shards, and its server be made to give up: the long way
        // knows what the client hears then.
        if open && self.links.len() > 1 {
            return None;
        }
        let link = self.links.get_mut(place)?;
        let ready = link.begun == open
            && link.type_oids.is_none()
            && link.out.is_empty()
            && Arc::ptr_eq(&link.connection.settings, &self.state.settings)
            && Arc::ptr_eq(&link.local, &self.transaction.local)
            && link.constraints == self.transaction.constraints.len();
        if !ready {
            return None;
        }
        Some(place)
    }

    /// Says what is still to be said on the link, and passes its answer on. Ready: all of it has been sent.
    pub(super) fn poll_passing(&mut self, cx: &mut Context<'_>, passing: &mut Passing) -> Poll<Result<(), Lost>> {
        let Some(link) = self.links.get_mut(passing.place) else {
            return Poll::Ready(Err(Lost::Client(io::ErrorKind::NotConnected.into())));
        };
        let lost = loop {
            if let Err(error) = link.poll_out(cx) {
                tracing::debug!(%error, "a server connection broke");
                break None;
            }
            while !passing.range.is_empty() {
                let bytes = link.connection.bytes(passing.range.clone());
                passing.range.start += ready!(self.client.poll_send(cx, bytes)).map_err(Lost::Client)?;
                passing.unflushed = true;
            }
            if passing.unflushed {
                ready!(self.client.poll_flush(cx)).map_err(Lost::Client)?;
                passing.unflushed = false;
            }
            if passing.over {
                link.connection.rest();
                return Poll::Ready(Ok(()));
            }
            match passing.take(link) {
                Ok(()) if !passing.range.is_empty() => {}
                Ok(()) => match ready!(link.connection.poll_fill(cx)) {
                    Ok(0) => break None,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "a server connection broke");
                        break None;
                    }
                },
                Err(last_words) => break last_words,
            }
        };
        // What came before goes before the error.
        self.client.push(link.connection.bytes(passing.range.clone()));
        let within_row = link.connection.is_within_row();
        Poll::Ready(Err(Lost::Server { link: passing.place, item: 0, last_words: lost, within_row }))
    }

    /// Takes stock after an answer that has gone through.
    pub(super) fn passed(&mut self, passing: &Passing) {
        self.batch_writer = None;
        self.batch.is_over();
        self.after(passing.failed);
        self.answered();
    }

    /// Tells the client that the answer will not come.
    pub(super) async fn give_up(&mut self, lost: Lost) -> Result<(), End> {
        let trouble = self.trouble(lost);
        self.tell(trouble)?;
        self.batch_writer = None;
        self.batch.is_over();
        self.ready().await?;
        self.end_request().await
    }
}

impl Passing {
    /// Takes in what has arrived, as far as it can be sent at once.
    ///
    /// # Errors
    /// The connection is of no more use: the server's last words, if it said any.
    fn take(&mut self, link: &mut Link) -> Result<(), Option<Vec<u8>>> {
        loop {
            let piece = link.connection.piece().map_err(|error| {
                tracing::warn!(%error, "a server connection is of no more use");
                None
            })?;
            let (kind, range) = match piece {
                None => return Ok(()),
                Some(Piece::Rows(range, _)) => (b'D', range),
                Some(Piece::Message(kind, range)) => (kind, range),
            };
            match kind {
                // A server connection's settings are the proxy's affair; the session tells the client of its own.
                b'S' if self.range.is_empty() => continue,
                b'S' => return Ok(()),
                b'E' => {
                    let bytes = link.connection.bytes(range.clone());
                    if flight::is_fatal(bytes) {
                        return Err(Some(bytes.to_vec()));
                    }
                    link.spoiled = true;
                    self.failed = true;
                }
                b'Z' => {
                    link.status = link.connection.bytes(range.clone()).get(5).copied().unwrap_or(b'I');
                    link.due = link.due.saturating_sub(1);
                    self.over = true;
                }
                b'D' | b'T' | b'C' | b'2' | b'n' | b'I' | b'N' | b'A' => {}
                _ => {
                    tracing::warn!(kind = %char::from(kind), "a server sent a message that fits nowhere");
                    return Err(None);
                }
            }
            if self.range.is_empty() {
                self.range = range;
            } else {
                self.range.end = range.end;
            }
            if self.over || link.connection.is_within_row() {
                return Ok(());
            }
        }
    }
}
