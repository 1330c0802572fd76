//! One flight: what is said to servers at once, and what they owe in answer, in order.
//!
//! A flight is a list of items. An item is an answer that one or several servers owe (they get the same messages, and
//! the client sees one answer), or bytes of the proxy's own that take their place between. Rows are forwarded as they
//! stand in the read buffer; nothing but the end of each answer is looked for.

mod copied;
mod sorted;

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;

use smallvec::SmallVec;

use crate::backend::Piece;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::client::Client;
use crate::exec::flight::copied::Cutter;
use crate::exec::flight::copied::Part;
use crate::exec::link::Link;
use crate::exec::say;
use crate::topology::TypeNumbers;

pub use sorted::Compare;
pub use sorted::Key;
pub use sorted::Order;

/// Bytes that one flight collects for its caller at most.
pub const COLLECTED_MAX: usize = 64 << 20;

/// Which answer is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// ParseComplete.
    Parse,
    /// BindComplete.
    Bind,
    /// ParameterDescription, then RowDescription or NoData.
    DescribeStatement,
    /// RowDescription or NoData.
    DescribePortal,
    /// Rows or COPY, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute,
    /// CloseComplete.
    Close,
    /// ReadyForQuery.
    Sync,
    /// Everything up to ReadyForQuery, which is shown only as far as [`Show`] says.
    Query,
}

/// Who gets to see an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// The client.
    Client,
    /// The client, but without the ReadyForQuery at its end (one statement of several).
    ClientWithoutReady,
    /// Nobody: the proxy said it for itself. Errors are shown all the same.
    Nobody,
    /// The same, but what the server has to remark is the client's affair.
    Remarks,
    /// The caller, in [`Outcome::collected`]; errors too.
    Caller,
}

/// One item of a flight.
#[derive(Debug)]
pub enum Item {
    /// Bytes of the proxy's own.
    Local(Cow<'static, [u8]>),
    /// The rows of what is owed next are copied out, and before them each server says what the columns are called.
    Headed,
    /// What servers owe.
    Owed {
        /// Which answer.
        expect: Expect,
        /// By whom: places in the list of links.
        links: SmallVec<[u8; 8]>,
        /// Who sees it.
        show: Show,
        /// The prepared statement that exists on the links once this is answered (0: none).
        prepares: u64,
    },
    /// What several servers owe for an Execute: the client gets their rows in this order, as one answer.
    Sorted {
        /// By whom.
        links: SmallVec<[u8; 8]>,
        /// The order that each server's rows are in.
        order: Rc<Order>,
    },
}

/// What a flight is run with.
pub struct Crew<'a> {
    /// All links of the session.
    pub links: &'a mut Vec<Link>,
    /// The client.
    pub client: &'a mut Client,
    /// Added to the position of errors, in characters: where the statement stands in the client's text.
    pub offset: u32,
}

/// The text of a CommandComplete, such as `SELECT 1`.
pub type Tag = SmallVec<[u8; 24]>;

/// How a flight ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The SQLSTATE of the first error that a server raised, with the link and the item it came at.
    pub failed: Option<Failure>,
    /// The last CommandComplete's tag.
    pub tag: Option<Tag>,
    /// Messages of items shown to the caller, whole, in order.
    pub collected: Vec<u8>,
    /// The first error that was the caller's to tell: the whole message.
    pub error: Option<Vec<u8>>,
    /// There was more for the caller than may be held: what is collected is not all.
    pub overflowed: bool,
    /// Rows that went to the client.
    pub rows: u64,
    /// Whether the client has been told that it may go on (ReadyForQuery).
    pub ready_shown: bool,
}

/// A server's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which link.
    pub link: usize,
    /// Which item.
    pub item: usize,
    /// Its five characters.
    pub sqlstate: [u8; 5],
}

/// Why a flight could not be finished.
#[derive(Debug)]
pub enum Lost {
    /// A server connection broke: which link, at which item, and the server's last words if it said any.
    Server {
        /// Which link.
        link: usize,
        /// Which item it owed.
        item: usize,
        /// Its FATAL message, whole.
        last_words: Option<Vec<u8>>,
        /// Whether the client has got a part of a row, so that nothing more can be said to it.
        within_row: bool,
    },
    /// The client's connection broke.
    Client(io::Error),
    /// The client broke the protocol.
    Violation(ClientError),
}

/// How much is kept back of what comes before rows, in bytes.
const PRELUDE_MAX: usize = 4 << 10;

/// What has been handled of one link's buffer and still goes to the client.
#[derive(Debug, Default)]
struct Run {
    link: usize,
    range: Range<usize>,
}

impl Run {
    fn add(&mut self, crew: &mut Crew<'_>, link: usize, range: Range<usize>) {
        if !self.range.is_empty() && self.link == link && self.range.end == range.start {
            self.range.end = range.end;
            return;
        }
        self.settle(crew);
        self.link = link;
        self.range = range;
    }

    /// Copies what is left to the client's gathered bytes.
    fn settle(&mut self, crew: &mut Crew<'_>) {
        if !self.range.is_empty()
            && let Some(link) = crew.links.get(self.link)
        {
            crew.client.push(link.connection.bytes(self.range.clone()));
        }
        self.range = 0..0;
    }

    /// Whether anything is left to be sent to the client.
    fn is_waiting(&self, crew: &Crew<'_>) -> bool {
        !self.range.is_empty() || crew.client.mark() > 0
    }

    /// Keeps back what comes before rows, for a read of which nothing has been sent may be asked again.
    fn keeps_prelude(&mut self, crew: &mut Crew<'_>) -> bool {
        if self.range.len() + crew.client.mark() > PRELUDE_MAX {
            return false;
        }
        self.settle(crew);
        crew.client.is_prelude()
    }

    /// Sends everything to the client, what is left in place.
    async fn send(&mut self, crew: &mut Crew<'_>) -> Result<(), Lost> {
        let range = std::mem::take(&mut self.range);
        match crew.links.get(self.link) {
            Some(link) if !range.is_empty() => crew.client.send_with(link.connection.bytes(range)).await,
            _ => crew.client.flush().await,
        }
        .map_err(Lost::Client)
    }
}

/// Says what is to be said and takes in what is owed, in order. The client's answer is complete, but its last part may
/// still be gathered in `client` unless `last` is true.
///
/// After an error of a server (in [`Outcome::failed`]) the rest of the flight has been skipped; if the flight holds a
/// `Sync` or `Query` owed, all its links are ready again, otherwise they skip until a Sync.
///
/// # Errors
/// See [`Lost`]. What happened on the other links is then unknown.
pub async fn run(items: &[Item], crew: &mut Crew<'_>, last: bool) -> Result<Outcome, Lost> {
    let mut outcome = Outcome::default();
    let mut run = Run::default();
    let mut place = 0;
    let mut headed = false;
    while let Some(item) = items.get(place) {
        match item {
            Item::Headed => headed = true,
            Item::Local(bytes) => {
                run.settle(crew);
                crew.client.push(bytes);
            }
            Item::Sorted { links, order } => {
                sorted::listen(place, links, order, crew, &mut run, &mut outcome).await?;
                if let Some(failure) = &outcome.failed {
                    let on = failure.link;
                    match end_of(items, place, Expect::Execute, Some(on), crew, &mut run) {
                        Some(at) => {
                            place = at;
                            continue;
                        }
                        None => break,
                    }
                }
            }
            Item::Owed { expect, links, show, .. } => {
                let before = outcome.failed.is_some();
                let mut answer = Answer {
                    item: place,
                    expect: *expect,
                    owing: links,
                    show: *show,
                    turn: 0,
                    skipping: before,
                    described: None,
                    headed: std::mem::take(&mut headed),
                    cutter: None,
                    summed: None,
                };
                listen(&mut answer, crew, &mut run, &mut outcome).await?;
                if outcome.failed.is_some() && !before {
                    let failed_on = outcome.failed.as_ref().map(|failure| failure.link);
                    match end_of(items, place, *expect, failed_on, crew, &mut run) {
                        Some(at) => {
                            place = at;
                            continue;
                        }
                        None => break,
                    }
                }
            }
        }
        place += 1;
    }
    if last {
        run.send(crew).await?
    } else {
        run.settle(crew)
    }
    Ok(outcome)
}

/// What a failure leaves of a flight: the Sync that still ends it, past everything else.
fn end_of(
    items: &[Item],
    place: usize,
    expect: Expect,
    failed_on: Option<usize>,
    crew: &mut Crew<'_>,
    run: &mut Run,
) -> Option<usize> {
    skip(items, place, expect, failed_on, crew, run);
    let is_sync = |(_, item): &(usize, &Item)| matches!(item, Item::Owed { expect: Expect::Sync, .. });
    let sync = items.iter().enumerate().skip(place + 1).find(is_sync);
    sync.map(|(at, _)| at).filter(|_| expect != Expect::Query)
}

/// Takes back what the items after a failure would have made true.
fn skip(
    items: &[Item],
    failed_at: usize,
    expect: Expect,
    failed_on: Option<usize>,
    crew: &mut Crew<'_>,
    run: &mut Run,
) {
    for item in items.iter().skip(failed_at) {
        if let Item::Owed { links, prepares, .. } = item
            && *prepares != 0
        {
            for link in links {
                if let Some(link) = crew.links.get_mut(usize::from(*link)) {
                    link.connection.doubt_prepared(*prepares);
                    if link.connection.unnamed == *prepares {
                        link.connection.unnamed = 0;
                    }
                }
            }
        }
    }
    // A server that skips to the next Sync skips each Query before it too, and owes no ReadyForQuery for them.
    if expect != Expect::Query
        && let Some(place) = failed_on
        && let Some(link) = crew.links.get_mut(place)
    {
        let place = u8::try_from(place).unwrap_or(u8::MAX);
        let mut skipped = 0;
        for item in items.iter().skip(failed_at + 1) {
            match item {
                Item::Owed { expect: Expect::Query, links, .. } if links.contains(&place) => skipped += 1,
                Item::Owed { expect: Expect::Sync, links, .. } if links.contains(&place) => break,
                _ => {}
            }
        }
        link.due = link.due.saturating_sub(skipped);
    }
    // Links other than the failed one still answer what they were asked; none of it is for the client.
    let has_sync = items.iter().skip(failed_at).any(|item| matches!(item, Item::Owed { expect: Expect::Sync, .. }));
    if expect == Expect::Query || has_sync {
        run.settle(crew);
    }
}

/// One answer, as far as it has been taken in: from every link that owes it, one after the other.
#[derive(Debug)]
struct Answer<'a> {
    item: usize,
    expect: Expect,
    owing: &'a [u8],
    show: Show,
    /// The one of `owing` that is being listened to.
    turn: usize,
    /// After an error everything is skipped up to here.
    skipping: bool,
    /// What the first link said of the columns, or of the data that it copies out, when there are several.
    described: Option<Vec<u8>>,
    /// See [`Item::Headed`].
    headed: bool,
    /// What of the link's copied data belongs into the whole, where that is not all.
    cutter: Option<Cutter>,
    /// The row counts of the links so far.
    summed: Option<Tag>,
}

/// What an answer waits for.
#[derive(Debug)]
enum Need {
    /// Nothing: it is complete.
    Nothing,
    /// What has been handled is to be sent before more is.
    Sent,
    /// More bytes from that link.
    More(usize),
    /// That link wants the client's COPY data.
    CopyData(usize),
    /// Nothing any more: a server is lost, or what it said cannot be passed on.
    Lost(Lost),
}

impl Answer<'_> {
    /// Takes in what has arrived.
    fn advance(&mut self, crew: &mut Crew<'_>, run: &mut Run, outcome: &mut Outcome) -> Need {
        let &mut Self { item, expect, owing, show, skipping, .. } = self;
        let shown = matches!(show, Show::Client | Show::ClientWithoutReady);
        while let Some(link) = owing.get(self.turn) {
            let link = usize::from(*link);
            let (first, last) = (self.turn == 0, self.turn + 1 == owing.len());
            loop {
                let next = match crew.links.get_mut(link) {
                    Some(link) => link.connection.piece(),
                    None => return Need::Nothing,
                };
                let piece = match next {
                    Ok(Some(piece)) => piece,
                    Ok(None) => return Need::More(link),
                    Err(error) => {
                        tracing::warn!(%error, "a server connection is of no more use");
                        return Need::Lost(lost(link, item, crew, None));
                    }
                };
                let (kind, range) = match piece {
                    Piece::Rows(range, rows) => {
                        let discard = outcome.failed.is_some();
                        if shown && !discard {
                            outcome.rows += u64::from(rows);
                            if let Some(cutter) = &mut self.cutter {
                                add_cut(cutter, crew, run, link, &range);
                                if crew.client.within_row || crew.client.is_full() {
                                    return Need::Sent;
                                }
                                continue;
                            }
                            run.add(crew, link, range);
                            crew.client.within_row =
                                crew.links.get(link).is_some_and(|link| link.connection.is_within_row());
                            if crew.client.within_row {
                                return Need::Sent;
                            }
                        } else if show == Show::Caller && !discard {
                            collect(outcome, crew, link, range);
                        }
                        continue;
                    }
                    Piece::Message(kind, range) => (kind, range),
                };
                match kind {
                    b'N' | b'A' => {
                        if shown || kind == b'A' || show == Show::Remarks {
                            run.add(crew, link, range);
                        } else if show == Show::Caller {
                            collect(outcome, crew, link, range);
                        }
                    }
                    // A server connection's settings are the proxy's affair; the session tells the client of its own.
                    b'S' => {}
                    b'E' => {
                        let bytes = crew
                            .links
                            .get(link)
                            .map(|l| l.connection.bytes(range.clone()).to_vec())
                            .unwrap_or_default();
                        if is_fatal(&bytes) {
                            return Need::Lost(lost(link, item, crew, Some(bytes)));
                        }
                        let bytes = crew.client.in_its_words(bytes);
                        if let Some(link) = crew.links.get_mut(link) {
                            link.spoiled = true;
                        }
                        if outcome.failed.is_none() {
                            outcome.failed = Some(Failure { link, item, sqlstate: sqlstate(&bytes) });
                            if show == Show::Caller {
                                outcome.collected.extend_from_slice(&bytes);
                                outcome.error = Some(bytes);
                            } else {
                                run.settle(crew);
                                crew.client.push(&moved_position(bytes, crew.offset));
                            }
                        }
                        match expect {
                            // ReadyForQuery still follows.
                            Expect::Query | Expect::Sync => {}
                            // Nothing more comes until a Sync.
                            _ => {
                                if let Some(link) = crew.links.get_mut(link) {
                                    link.skips = true;
                                }
                                return Need::Nothing;
                            }
                        }
                    }
                    b'Z' => {
                        let status = crew
                            .links
                            .get(link)
                            .and_then(|l| l.connection.bytes(range.clone()).get(5).copied())
                            .unwrap_or(b'I');
                        let owed_more = match crew.links.get_mut(link) {
                            Some(link) => {
                                link.status = status;
                                link.skips = false;
                                link.sync_eaten = false;
                                link.due = link.due.saturating_sub(1);
                                link.due
                            }
                            None => 0,
                        };
                        match expect {
                            Expect::Query => {
                                // Of several servers, the last may not know that another one failed.
                                if last && show == Show::Client && (owing.len() == 1 || outcome.failed.is_none()) {
                                    outcome.ready_shown = true;
                                    run.add(crew, link, range);
                                }
                                break;
                            }
                            Expect::Sync => {
                                // After an error, answers to earlier messages of the flight may come before.
                                if skipping && owed_more > 0 {
                                    continue;
                                }
                                if last && show == Show::Client && (owing.len() == 1 || outcome.failed.is_none()) {
                                    outcome.ready_shown = true;
                                    run.add(crew, link, range);
                                }
                                break;
                            }
                            _ if owed_more > 0 => continue,
                            // The server is done with everything, and this was never answered: waiting would be for ever.
                            _ => {
                                tracing::error!(?expect, "a server was ready before it had answered");
                                return Need::Lost(lost(link, item, crew, None));
                            }
                        }
                    }
                    _ if skipping => {}
                    b'C' => {
                        let tag = tag(crew, link, range.clone());
                        match show {
                            Show::Client | Show::ClientWithoutReady if owing.len() == 1 => {
                                outcome.tag = Some(tag);
                                run.add(crew, link, range);
                            }
                            Show::Caller => {
                                outcome.tag = Some(tag);
                                collect(outcome, crew, link, range);
                            }
                            Show::Client | Show::ClientWithoutReady => {
                                let total = self
                                    .summed
                                    .take()
                                    .map_or_else(|| tag.clone(), |sum| Tag::from_vec(add_tags(&sum, &tag)));
                                self.summed = Some(total.clone());
                                // Behind an error it is no answer.
                                if last && outcome.failed.is_none() {
                                    run.settle(crew);
                                    say::message(crew.client.out(), b'C', |out| {
                                        out.extend_from_slice(&total);
                                        out.push(0);
                                    });
                                    outcome.tag = Some(total);
                                }
                            }
                            Show::Nobody | Show::Remarks => {}
                        }
                        if expect == Expect::Execute {
                            break;
                        }
                    }
                    b'I' | b's' => {
                        if shown && last {
                            run.add(crew, link, range);
                        } else if show == Show::Caller {
                            collect(outcome, crew, link, range);
                        }
                        if expect == Expect::Execute {
                            break;
                        }
                    }
                    b'T' | b'n' | b't' => {
                        if kind == b'T'
                            && let Some(link) = crew.links.get(link)
                            && let Some(oids) = &link.type_oids
                            && let Some(column) = unreadable_column(link.connection.bytes(range.clone()), oids)
                        {
                            return Need::Lost(Lost::Violation(unreadable(&column)));
                        }
                        if shown && first {
                            if owing.len() > 1 && kind == b'T' {
                                self.described =
                                    crew.links.get(link).map(|l| l.connection.bytes(range.clone()).to_vec());
                            }
                            match crew.links.get(link).and_then(|l| l.type_oids.clone()) {
                                Some(oids) if kind != b'n' => {
                                    run.settle(crew);
                                    let message = crew.links.get(link).map(|l| l.connection.bytes(range).to_vec());
                                    crew.client.push(&renumbered(message.unwrap_or_default(), &oids.known));
                                }
                                _ => run.add(crew, link, range),
                            }
                        } else if shown && kind == b'T' {
                            let other =
                                crew.links.get(link).map(|l| l.connection.bytes(range.clone())).unwrap_or_default();
                            if let Some(ours) = &self.described
                                && !same_columns(ours, other)
                            {
                                return Need::Lost(Lost::Violation(ClientError::unsupported(
                                    "shards describe the columns of this answer differently",
                                    "Bring the schemas of the shards together; SHOW MAP names the difference.",
                                )));
                            }
                        } else if show == Show::Caller {
                            collect(outcome, crew, link, range);
                        }
                        if kind != b't' && matches!(expect, Expect::DescribePortal | Expect::DescribeStatement) {
                            break;
                        }
                    }
                    b'1' | b'2' | b'3' => {
                        if shown && first {
                            run.add(crew, link, range);
                        }
                        if matches!(expect, Expect::Parse | Expect::Bind | Expect::Close) {
                            break;
                        }
                    }
                    b'G' => {
                        run.add(crew, link, range);
                        return Need::CopyData(link);
                    }
                    b'H' if shown && owing.len() > 1 => {
                        let response = crew
                            .links
                            .get(link)
                            .map(|l| l.connection.bytes(range.clone()).to_vec())
                            .unwrap_or_default();
                        self.cutter = Cutter::new(&response, self.headed, first, last);
                        match &self.described {
                            None => {
                                self.described = Some(response);
                                if outcome.failed.is_none() {
                                    run.add(crew, link, range);
                                }
                            }
                            Some(ours) if *ours == response => {}
                            Some(_) => {
                                return Need::Lost(Lost::Violation(ClientError::unsupported(
                                    "shards describe the columns of this COPY differently",
                                    "Bring the schemas of the shards together; SHOW MAP names the difference.",
                                )));
                            }
                        }
                    }
                    b'H' => {
                        if shown {
                            run.add(crew, link, range);
                        }
                    }
                    b'c' => {
                        self.cutter = None;
                        if shown && last && outcome.failed.is_none() {
                            run.add(crew, link, range);
                        }
                    }
                    _ => {
                        tracing::warn!(kind = %char::from(kind), "a server sent a message that fits nowhere");
                        return Need::Lost(lost(link, item, crew, None));
                    }
                }
            }
            self.turn += 1;
        }
        Need::Nothing
    }
}

/// Hands on what of copied data belongs into the whole.
fn add_cut(cutter: &mut Cutter, crew: &mut Crew<'_>, run: &mut Run, link: usize, range: &Range<usize>) {
    let mut parts: SmallVec<[Part; 4]> = SmallVec::new();
    if let Some(link) = crew.links.get(link) {
        cutter.cut(link.connection.bytes(range.clone()), range, |part| match (parts.last_mut(), part) {
            // What stands together goes together.
            (Some(Part::Same(before)), Part::Same(next)) if before.end == next.start => before.end = next.end,
            (_, part) => parts.push(part),
        });
    }
    for part in parts {
        match part {
            Part::Same(range) => run.add(crew, link, range),
            Part::Other(bytes) => {
                run.settle(crew);
                crew.client.push(&bytes);
            }
        }
    }
    crew.client.within_row = cutter.is_within();
}

/// Takes in one answer from every link that owes it.
async fn listen(
    answer: &mut Answer<'_>,
    crew: &mut Crew<'_>,
    run: &mut Run,
    outcome: &mut Outcome,
) -> Result<(), Lost> {
    let item = answer.item;
    loop {
        let need = answer.advance(crew, run, outcome);
        if let Need::Nothing = need {
            return Ok(());
        }
        let may_wait = matches!(need, Need::More(_));
        if run.is_waiting(crew) && !keeps_complete(answer, crew, run) && !(may_wait && run.keeps_prelude(crew)) {
            run.send(crew).await?;
        }
        match need {
            Need::Nothing | Need::Sent => {}
            Need::More(link) => wait(link, item, crew).await?,
            Need::CopyData(link) => Box::pin(copy(link, item, answer.expect, crew)).await?,
            Need::Lost(lost) => return Err(lost),
        }
    }
}

/// Whether a CommandComplete is what was gathered last, and the server only says that it is ready. It is not sent yet: where
/// it belongs to the last statement of a Query, the session takes it back until the transaction has ended well.
fn keeps_complete(answer: &Answer<'_>, crew: &mut Crew<'_>, run: &mut Run) -> bool {
    let behind = [(Expect::Query, Show::ClientWithoutReady), (Expect::Sync, Show::Nobody)];
    if !behind.contains(&(answer.expect, answer.show)) || crew.client.is_full() {
        return false;
    }
    run.settle(crew);
    crew.client.complete_at().is_some()
}

/// Lets a server copy from the client.
async fn copy(link: usize, item: usize, expect: Expect, crew: &mut Crew<'_>) -> Result<(), Lost> {
    if crew.client.in_hand {
        return Err(violation("a message that is no CopyData where a server waits for that"));
    }
    // In the extended protocol the Sync behind Execute is eaten by the server while it copies.
    if expect == Expect::Execute
        && let Some(l) = crew.links.get_mut(link)
    {
        l.sync_eaten = l.due > 0;
        crew.client.copies += 1;
    }
    copy_in(link, item, crew).await?;
    // Behind a Flush the client waits for the answer to its CopyDone, which the server keeps to itself.
    if expect == Expect::Execute
        && let Some(l) = crew.links.get_mut(link)
        && l.due == 0
    {
        say::flush(&mut l.out);
    }
    Ok(())
}

/// Waits for more from one link, while what is still to be said to any link is sent.
async fn wait(link: usize, item: usize, crew: &mut Crew<'_>) -> Result<(), Lost> {
    if crew.links.get(link).is_some_and(|l| l.sync_eaten)
        && Box::pin(next_sync(link, item, crew)).await? == Came::Answer
    {
        return Ok(());
    }
    let result = poll_fn(|cx| {
        if let Err((at, error)) = send_all(cx, crew.links) {
            return Poll::Ready(Err((at, error)));
        }
        match crew.links.get_mut(link) {
            Some(l) => l.connection.poll_fill(cx).map_err(|error| (link, error)),
            None => Poll::Ready(Ok(0)),
        }
    })
    .await;
    match result {
        Ok(0) => Err(lost(link, item, crew, None)),
        Ok(_) => Ok(()),
        Err((at, error)) => {
            tracing::debug!(%error, "a server connection broke");
            Err(lost(at, item, crew, None))
        }
    }
}

/// Sends what can be sent now.
fn send_all(cx: &mut Context<'_>, links: &mut [Link]) -> Result<(), (usize, io::Error)> {
    for (at, link) in links.iter_mut().enumerate() {
        link.poll_out(cx).map_err(|error| (at, error))?;
    }
    Ok(())
}

/// Carries the client's COPY data to a server until the client ends it, or the server breaks off.
async fn copy_in(link: usize, item: usize, crew: &mut Crew<'_>) -> Result<(), Lost> {
    let mut left = 0_usize;
    loop {
        // Pass on what has come.
        loop {
            let unread = crew.client.unread();
            let Some(l) = crew.links.get_mut(link) else { return Ok(()) };
            if left > 0 {
                let part = left.min(unread.len());
                if part == 0 {
                    break;
                }
                l.out.extend_from_slice(unread.get(..part).unwrap_or_default());
                crew.client.consume(part);
                left -= part;
                continue;
            }
            let Some(&[kind, a, b, c, d]) = unread.first_chunk::<5>() else { break };
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if !(4..=(1 << 30)).contains(&length) {
                return Err(violation("invalid message length"));
            }
            match kind {
                b'd' => left = length + 1,
                b'c' | b'f' => {
                    if unread.len() < length + 1 {
                        if length > 64 << 10 {
                            return Err(violation("a CopyFail message is too long"));
                        }
                        break;
                    }
                    l.out.extend_from_slice(unread.get(..length + 1).unwrap_or_default());
                    crew.client.consume(length + 1);
                    return Ok(());
                }
                // The server ignores these while it copies.
                b'H' | b'S' if length == 4 => crew.client.consume(length + 1),
                _ => return Err(violation("a message that has no place in COPY")),
            }
        }
        // Send it, and meanwhile take in more from the client unless too much is waiting for the server.
        enum Event {
            Client(usize),
            Server,
        }
        let event = poll_fn(|cx| {
            if let Err((at, error)) = send_all(cx, crew.links) {
                return Poll::Ready(Err(Err((at, error))));
            }
            if let Some(l) = crew.links.get_mut(link) {
                match l.connection.poll_fill(cx) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(Err((link, io::ErrorKind::UnexpectedEof.into())))),
                    Poll::Ready(Ok(_)) => return Poll::Ready(Ok(Event::Server)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Err((link, error)))),
                    Poll::Pending => {}
                }
                if !l.out.is_empty() {
                    return Poll::Pending;
                }
            }
            crew.client.poll_read(cx).map_ok(Event::Client).map_err(Ok)
        })
        .await;
        match event {
            Ok(Event::Client(0)) => return Err(Lost::Client(io::ErrorKind::UnexpectedEof.into())),
            Ok(Event::Client(_)) => {}
            // An error, or a notice: the caller looks at it, and comes back for more data only if COPY goes on.
            Ok(Event::Server) => {
                let over = crew.links.get(link).is_some_and(|l| l.connection.begins_with(b'E'));
                if over {
                    crew.client.discard(left);
                    return Ok(());
                }
                pass_notices(link, crew);
            }
            Err(Err((at, error))) => {
                tracing::debug!(%error, "a server connection broke during COPY");
                return Err(lost(at, item, crew, None));
            }
            Err(Ok(error)) => return Err(Lost::Client(error)),
        }
    }
}

/// Notices that come while COPY data is on its way.
fn pass_notices(link: usize, crew: &mut Crew<'_>) {
    while let Some(l) = crew.links.get_mut(link) {
        if !(l.connection.begins_with(b'N') || l.connection.begins_with(b'S') || l.connection.begins_with(b'A')) {
            return;
        }
        match l.connection.piece() {
            Ok(Some(Piece::Message(_, range))) => {
                let bytes = l.connection.bytes(range).to_vec();
                crew.client.push(&bytes);
            }
            _ => return,
        }
    }
}

/// What ended the wait for a Sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// The client's Sync.
    Sync,
    /// Something of the server's.
    Answer,
}

/// Waits for the Sync with which a client ends a COPY in the extended protocol, and passes it on.
async fn next_sync(link: usize, item: usize, crew: &mut Crew<'_>) -> Result<Came, Lost> {
    loop {
        while let Some(message) = crew.client.message().map_err(Lost::Violation)? {
            match message.kind {
                b'S' => {
                    if let Some(l) = crew.links.get_mut(link) {
                        say::sync(&mut l.out);
                        l.sync_eaten = false;
                    }
                    return Ok(Came::Sync);
                }
                b'd' | b'c' | b'f' | b'H' => {}
                b'X' => return Err(Lost::Client(io::ErrorKind::UnexpectedEof.into())),
                _ => return Err(violation("a message before the Sync that ends COPY")),
            }
        }
        enum Event {
            Client(usize),
            Server(usize),
        }
        let event = poll_fn(|cx| {
            if let Err((at, error)) = send_all(cx, crew.links) {
                return Poll::Ready(Err(Err((at, error))));
            }
            if let Some(l) = crew.links.get_mut(link)
                && let Poll::Ready(result) = l.connection.poll_fill(cx)
            {
                return Poll::Ready(result.map(Event::Server).map_err(|error| Err((link, error))));
            }
            crew.client.poll_read(cx).map_ok(Event::Client).map_err(Ok)
        })
        .await;
        match event {
            Ok(Event::Client(0)) => return Err(Lost::Client(io::ErrorKind::UnexpectedEof.into())),
            Ok(Event::Client(_)) => {}
            Ok(Event::Server(0)) => return Err(lost(link, item, crew, None)),
            Ok(Event::Server(_)) => return Ok(Came::Answer),
            Err(Err((at, _))) => return Err(lost(at, item, crew, None)),
            Err(Ok(error)) => return Err(Lost::Client(error)),
        }
    }
}

fn violation(what: &str) -> Lost {
    Lost::Violation(ClientError::new(
        Code::ProtocolViolation,
        what,
        "The session is closed: what follows cannot be read safely.",
    ))
}

fn lost(link: usize, item: usize, crew: &Crew<'_>, last_words: Option<Vec<u8>>) -> Lost {
    let within_row = crew.client.within_row;
    Lost::Server { link, item, last_words, within_row }
}

fn collect(outcome: &mut Outcome, crew: &Crew<'_>, link: usize, range: Range<usize>) {
    // A part of a message is left out with the rest of it.
    if outcome.overflowed || outcome.collected.len() + range.len() > COLLECTED_MAX {
        outcome.overflowed = true;
        return;
    }
    if let Some(link) = crew.links.get(link) {
        outcome.collected.extend_from_slice(link.connection.bytes(range));
    }
}

fn tag(crew: &Crew<'_>, link: usize, range: Range<usize>) -> Tag {
    let bytes = crew.links.get(link).map(|l| l.connection.bytes(range)).unwrap_or_default();
    Tag::from_slice(bytes.get(5..bytes.len().saturating_sub(1)).unwrap_or_default())
}

/// Adds up the row counts at the end of two tags of the same command.
#[must_use]
pub fn add_tags(a: &[u8], b: &[u8]) -> Vec<u8> {
    let split = |tag: &[u8]| -> Option<(Vec<u8>, u64)> {
        let text = std::str::from_utf8(tag).ok()?;
        let (head, count) = text.rsplit_once(' ')?;
        Some((head.as_bytes().to_vec(), count.parse().ok()?))
    };
    match (split(a), split(b)) {
        (Some((head, one)), Some((_, two))) => {
            let mut sum = head;
            sum.push(b' ');
            sum.extend_from_slice((one + two).to_string().as_bytes());
            sum
        }
        _ => a.to_vec(),
    }
}

/// The fields of an ErrorResponse or NoticeResponse: (type, value).
pub fn fields(message: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    message
        .get(5..)
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .take_while(|field| !field.is_empty())
        .filter_map(|field| field.split_first().map(|(kind, value)| (*kind, value)))
}

/// The SQLSTATE of an ErrorResponse; `XX000` where it has none.
#[must_use]
pub fn sqlstate(message: &[u8]) -> [u8; 5] {
    fields(message).find(|(kind, _)| *kind == b'C').and_then(|(_, value)| value.try_into().ok()).unwrap_or(*b"XX000")
}

/// Whether an ErrorResponse ends its connection.
pub(crate) fn is_fatal(message: &[u8]) -> bool {
    fields(message).any(|(kind, value)| kind == b'V' && (value == b"FATAL" || value == b"PANIC"))
}

/// The message with its position moved by `offset` characters.
pub(crate) fn moved_position(message: Vec<u8>, offset: u32) -> Vec<u8> {
    if offset == 0 {
        return message;
    }
    let mut moved = Vec::with_capacity(message.len() + 4);
    say::message(&mut moved, message.first().copied().unwrap_or(b'E'), |out| {
        for (kind, value) in fields(&message) {
            out.push(kind);
            let position = std::str::from_utf8(value).ok().and_then(|v| v.parse::<u32>().ok());
            match position {
                Some(position) if kind == b'P' => {
                    out.extend_from_slice(position.saturating_add(offset).to_string().as_bytes());
                }
                _ => out.extend_from_slice(value),
            }
            out.push(0);
        }
        out.push(0);
    });
    moved
}

/// An error without the place in the text that it speaks of, which is not the client's.
pub(crate) fn without_position(message: Vec<u8>) -> Vec<u8> {
    if !fields(&message).any(|(kind, _)| kind == b'P') {
        return message;
    }
    let mut without = Vec::with_capacity(message.len());
    say::message(&mut without, b'E', |out| {
        for (kind, value) in fields(&message).filter(|(kind, _)| *kind != b'P') {
            out.push(kind);
            out.extend_from_slice(value);
            out.push(0);
        }
        out.push(0);
    });
    without
}

/// A RowDescription or ParameterDescription with the type numbers that clients know.
pub(crate) fn renumbered(mut message: Vec<u8>, oids: &HashMap<u32, u32>) -> Vec<u8> {
    let rename = |message: &mut Vec<u8>, at: usize| {
        if let Some(place) = message.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>)
            && let Some(known) = oids.get(&u32::from_be_bytes(*place))
        {
            *place = known.to_be_bytes();
        }
    };
    let count = message.get(5..).and_then(<[u8]>::first_chunk::<2>).map_or(0, |it| u16::from_be_bytes(*it));
    let mut at = 7;
    for _ in 0..count {
        if message.first() == Some(&b't') {
            rename(&mut message, at);
            at += 4;
            continue;
        }
        let Some(end) = message.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) else { break };
        // Six bytes of table and column number stand before the type, eight of its shape behind.
        rename(&mut message, at + end + 7);
        at += end + 19;
    }
    message
}

/// A column in binary format whose values clients could not read.
pub(crate) fn unreadable(column: &str) -> ClientError {
    ClientError::unsupported(
        format_args!(
            "column \"{column}\" in binary format is not supported: its values hold type numbers that differ between \
             shards"
        ),
        "Ask for it in text format, or cast it to text.",
    )
}

/// The first column in binary format whose values hold type numbers of the shard's own.
fn unreadable_column(message: &[u8], oids: &TypeNumbers) -> Option<String> {
    let count = u16::from_be_bytes(*message.get(5..)?.first_chunk::<2>()?);
    let mut at = 7;
    for _ in 0..count {
        let rest = message.get(at..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let oid = u32::from_be_bytes(*rest.get(end + 7..)?.first_chunk::<4>()?);
        let format = u16::from_be_bytes(*rest.get(end + 17..)?.first_chunk::<2>()?);
        if format == 1 && oids.holds_oids(oid) {
            return Some(String::from_utf8_lossy(rest.get(..end)?).into_owned());
        }
        at += end + 19;
    }
    None
}

/// Whether two RowDescriptions agree in everything a client decodes by: count, names, types, formats. Table numbers may
/// differ.
pub(crate) fn same_columns(a: &[u8], b: &[u8]) -> bool {
    let columns = |message: &[u8]| -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let count = u16::from_be_bytes(*message.get(5..)?.first_chunk::<2>()?);
        let mut at = 7;
        let mut all = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let rest = message.get(at..)?;
            let end = rest.iter().position(|byte| *byte == 0)?;
            let name = rest.get(..end)?.to_vec();
            // Six bytes of table and column number, then type, size, modifier and format.
            let shape = rest.get(end + 7..end + 19)?.to_vec();
            at += end + 19;
            all.push((name, shape));
        }
        Some(all)
    };
    match (columns(a), columns(b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_add_up() {
        assert_eq!(add_tags(b"SELECT 3", b"SELECT 4"), b"SELECT 7");
        assert_eq!(add_tags(b"INSERT 0 1", b"INSERT 0 2"), b"INSERT 0 3");
        assert_eq!(add_tags(b"BEGIN", b"BEGIN"), b"BEGIN");
    }

    #[test]
    fn a_position_moves_and_the_rest_stays() {
        let mut message = Vec::new();
        say::message(&mut message, b'E', |out| out.extend_from_slice(b"SERROR\0C42601\0P3\0\0"));
        let moved = moved_position(message.clone(), 10);
        assert_eq!(fields(&moved).collect::<Vec<_>>(), [(b'S', &b"ERROR"[..]), (b'C', b"42601"), (b'P', b"13")]);
        assert_eq!(moved_position(message.clone(), 0), message);
        assert_eq!(sqlstate(&message), *b"42601");
    }
}
