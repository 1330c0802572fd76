//! Answers of servers → the client's: one server's as it comes, or those of several as one.
//!
//! Rows are copied from the server's read buffer to the client's; of packets only the header is made anew, for the client
//! counts on its own, and what ends columns or rows is said in the manner that was agreed with it.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use crate::exec::mysql::Client;
use crate::exec::mysql::Link;
use crate::wire::mysql::Violation;
use crate::wire::mysql::capability;
use crate::wire::mysql::frame::Packet;
use crate::wire::mysql::result::Column;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::result::First;
use crate::wire::mysql::result::ends_rows;
use crate::wire::mysql::result::read_end_of_rows;
use crate::wire::mysql::status;

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Done, without rows.
    Done(Done),
    /// With so many rows.
    Rows {
        /// How many.
        count: u64,
        /// Flags of [`status`], and warnings that there are to be shown.
        status: u16,
        /// How many warnings there are to be shown.
        warnings: u16,
    },
    /// With an error of the server's, which the client has been told.
    Failed(Failure),
    /// With an error of the proxy's behind the rows, which the client has been told; the servers have said all.
    Refused(Failure),
}

impl Ended {
    /// How many warnings there are to be shown: an error is one.
    #[must_use]
    pub fn warnings(&self) -> u16 {
        match self {
            Self::Done(done) => done.warnings,
            Self::Rows { warnings, .. } => *warnings,
            Self::Failed(_) | Self::Refused(_) => 1,
        }
    }
}

/// Why an answer came to no end.
#[derive(Debug)]
pub enum Broken {
    /// The client is gone.
    Client(io::Error),
    /// The server is gone, or says what is no answer.
    Server(String),
    /// The servers' answers are not of one kind: nothing can be made of them.
    Differs(String),
}

/// What the client is told of the session in the place of what one server knows of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Face {
    /// A transaction is open, whether or not on this server.
    pub in_transaction: bool,
    /// Another answer follows this one.
    pub more: bool,
    /// The number that the proxy gave to the first row.
    pub insert_id: Option<u64>,
}

impl Face {
    /// The flags that the client is told.
    #[must_use]
    pub fn status(self, of_server: u16) -> u16 {
        let mut flags = of_server & !(status::MORE_RESULTS | status::STATE_CHANGED);
        if self.in_transaction {
            flags |= status::IN_TRANSACTION;
        }
        if self.more {
            flags |= status::MORE_RESULTS;
        }
        flags
    }

    /// The same where what the server says of further results of its own stands.
    #[must_use]
    pub fn passing(self, of_server: u16) -> u16 {
        self.status(of_server) | of_server & status::MORE_RESULTS
    }
}

/// Passes on all that a server answers to one command: with CALL, several results.
///
/// # Errors
/// [`Broken`]; the link is of no more use then.
pub async fn pass(link: &mut Link, client: &mut Client, face: Face) -> Result<Ended, Broken> {
    let flags = |of_server| face.passing(of_server);
    loop {
        let ended = pass_one(link, client, &flags, face.insert_id).await?;
        if !more_follows(&ended) {
            return Ok(ended);
        }
    }
}

/// The same with other flags in the place of the server's.
///
/// # Errors
/// [`Broken`]; the link is of no more use then.
pub async fn pass_as(link: &mut Link, client: &mut Client, flags: &dyn Fn(u16) -> u16) -> Result<Ended, Broken> {
    loop {
        let ended = pass_one(link, client, flags, None).await?;
        if !more_follows(&ended) {
            return Ok(ended);
        }
    }
}

pub(super) fn more_follows(ended: &Ended) -> bool {
    let flags = match ended {
        Ended::Done(done) => done.status,
        Ended::Rows { status, .. } => *status,
        Ended::Failed(_) | Ended::Refused(_) => 0,
    };
    flags & status::MORE_RESULTS != 0
}

async fn pass_one(
    link: &mut Link,
    client: &mut Client,
    flags: &dyn Fn(u16) -> u16,
    insert_id: Option<u64>,
) -> Result<Ended, Broken> {
    attend(link, client).await?;
    let count = match first(link).await? {
        First::Done(done) => return Ok(tell_done(link, client, done, flags, insert_id)),
        First::Failed(failure) => {
            client.put_failure(&failure);
            return Ok(Ended::Failed(failure));
        }
        First::File(name) => return file(&name, link, client, flags).await,
        First::Columns(count) => count,
    };
    client.begin_columns();
    client.put(&crate::wire::mysql::result::column_count(count));
    let early = match columns(count, link, client).await {
        Ok(early) => early,
        Err(broken) => {
            client.take_back_columns();
            return Err(broken);
        }
    };
    client.end_columns(flags(early.unwrap_or(link.connection.status)));
    rows(link, client, Last::Tells(flags)).await
}

/// Tells the client that a statement without rows is done. `insert_id`: the number that the proxy gave.
pub(super) fn tell_done(
    link: &mut Link,
    client: &mut Client,
    done: Done,
    flags: impl Fn(u16) -> u16,
    insert_id: Option<u64>,
) -> Ended {
    link.heard(&done);
    client.note_changes(&done);
    let insert_id = insert_id.filter(|_| done.affected > 0).unwrap_or(done.insert_id);
    let told = Done { status: flags(done.status), changes: Vec::new(), insert_id, ..done };
    client.put_done(&told);
    Ended::Done(Done { status: done.status, insert_id: done.insert_id, ..told })
}

/// Passes on a file that a server asks for in answer to LOAD DATA LOCAL, and what it says of it. A client that has not said
/// that, or cannot, is not asked.
async fn file(name: &[u8], link: &mut Link, client: &mut Client, flags: &dyn Fn(u16) -> u16) -> Result<Ended, Broken> {
    if !client.may_send_files {
        // Nothing is a file without rows.
        link.connection.say_on(&[]);
        link.flush().await?;
        discard(link).await?;
        let failure = no_files();
        client.put_failure(&failure);
        // The server has said that all is well.
        return Ok(Ended::Refused(failure));
    }
    client.ask_for_file(name);
    while client.sends_file() {
        let piece = client.file_piece().await.map_err(Broken::Client)?;
        link.connection.say_on(&piece);
        link.flush().await?;
    }
    match first(link).await? {
        First::Done(done) => Ok(tell_done(link, client, done, flags, None)),
        First::Failed(failure) => {
            client.put_failure(&failure);
            Ok(Ended::Failed(failure))
        }
        First::Columns(_) | First::File(_) => Err(Broken::Server("answers a file with something else".to_owned())),
    }
}

/// What a server says that may not ask its client for a file.
#[must_use]
pub fn no_files() -> Failure {
    Failure {
        number: 4166,
        sqlstate: "HY000".to_owned(),
        message: "The used command is not allowed because the MariaDB server or client has disabled the local infile \
                  capability"
            .to_owned(),
    }
}

/// What a server first says to LOAD DATA LOCAL: the name of the file that it would have; its own error is the inner one.
///
/// # Errors
/// [`Broken`]; the link is of no more use then.
pub async fn wanted_file(link: &mut Link) -> Result<Result<Vec<u8>, Failure>, Broken> {
    match first(link).await? {
        First::File(name) => Ok(Ok(name)),
        First::Failed(failure) => Ok(Err(failure)),
        First::Done(_) | First::Columns(_) => Err(Broken::Server("asks for no file".to_owned())),
    }
}

/// Sends what was said on several links at once; an error comes with the place of its link.
///
/// # Errors
/// [`Broken::Server`].
pub async fn flush_all(links: &mut [Link]) -> Result<(), (usize, Broken)> {
    poll_fn(|cx| {
        let mut all = Poll::Ready(Ok(()));
        for (place, link) in links.iter_mut().enumerate() {
            match link.connection.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err((place, Broken::Server(error.to_string())))),
                Poll::Pending => all = Poll::Pending,
            }
        }
        all
    })
    .await
}

/// Unites what several servers answer to one command: the columns of the first, the rows of all, server after server.
///
/// # Errors
/// [`Broken`]; none of the links is of any more use then.
pub async fn unite(links: &mut [Link], client: &mut Client, face: Face) -> Result<Ended, Broken> {
    let mut columns: Option<Vec<Column>> = None;
    let (mut total, mut all_warnings, mut flags) = (0_u64, 0_u16, 0_u16);
    let last = links.len().saturating_sub(1);
    for (place, link) in links.iter_mut().enumerate() {
        attend(link, client).await?;
        let count = match first(link).await? {
            First::Failed(failure) => {
                client.put_failure(&failure);
                return Ok(Ended::Failed(failure));
            }
            First::Columns(count) => count,
            First::Done(_) | First::File(_) => return Err(Broken::Differs("one answers without rows".to_owned())),
        };
        let mut described = Vec::new();
        for _ in 0..count {
            described.push(column(link).await?);
        }
        end_of_columns(link).await?;
        match &columns {
            None => {
                client.put_columns(&described, face.status(link.connection.status));
                columns = Some(described);
            }
            Some(known) if alike(known, &described) => {}
            Some(_) => return Err(Broken::Differs("their columns are not of the same types".to_owned())),
        }
        match rows(link, client, Last::IsSilent).await? {
            Ended::Rows { count, status, warnings } => {
                total += count;
                all_warnings = all_warnings.saturating_add(warnings);
                // What holds of one of them holds of the whole (a transaction is open, no index was used).
                flags |= status;
            }
            other => return Ok(other),
        }
        if place == last && all_warnings > 0 {
            let failure = Failure {
                number: 1235,
                sqlstate: "42000".to_owned(),
                message: "warnings of several shards are not supported: they are not those of one server. Hint: SHOW \
                          WARNINGS tells them; write the statement so that it raises none."
                    .to_owned(),
            };
            client.put_failure(&failure);
            return Ok(Ended::Refused(failure));
        }
        if place == last {
            client.end_rows(all_warnings, face.status(flags));
        }
    }
    Ok(Ended::Rows { count: total, status: flags, warnings: all_warnings })
}

/// What a server answers to who asks for a cursor.
#[derive(Debug)]
pub enum Opened {
    /// These columns, and a cursor whose rows are fetched: warnings and status.
    Cursor(Vec<Column>, u16, u16),
    /// These columns, and the rows at once, which are to be read; the status, where it is told before them.
    Rows(Vec<Column>, Option<u16>),
    /// No rows.
    Done(Done),
    /// An error.
    Failed(Failure),
}

/// Hears what a server answers to who asks for a cursor, but for rows.
///
/// # Errors
/// [`Broken`]; the link is of no more use then.
pub async fn opened(link: &mut Link, client: &mut Client) -> Result<Opened, Broken> {
    attend(link, client).await?;
    let count = match first(link).await? {
        First::Done(done) => {
            link.heard(&done);
            return Ok(Opened::Done(done));
        }
        First::Failed(failure) => return Ok(Opened::Failed(failure)),
        First::File(_) => return Err(Broken::Server("asks for a file of the client's".to_owned())),
        First::Columns(count) => count,
    };
    let mut columns = Vec::new();
    for _ in 0..count {
        columns.push(column(link).await?);
    }
    if link.connection.capabilities & capability::DEPRECATE_EOF == 0 {
        let payload = payload(link).await?;
        let (warnings, flags) = end(link, &payload)?;
        link.connection.status = flags & !status::CURSOR_EXISTS;
        return Ok(match flags & status::CURSOR_EXISTS {
            0 => Opened::Rows(columns, Some(flags)),
            _ => Opened::Cursor(columns, warnings, flags),
        });
    }
    // What ends the rows tells of a cursor; it comes at once.
    let packet = attend(link, client).await?;
    let body = link.connection.bytes(packet.body.clone());
    if packet.goes_on || !ends_rows(body, link.connection.capabilities) {
        return Ok(Opened::Rows(columns, None));
    }
    let (warnings, flags) = end(link, body)?;
    if flags & status::CURSOR_EXISTS == 0 {
        return Ok(Opened::Rows(columns, None));
    }
    link.connection.consume(&packet);
    link.connection.status = flags & !status::CURSOR_EXISTS;
    Ok(Opened::Cursor(columns, warnings, flags))
}

/// Passes on the rows behind columns that were read by [`opened`], and what ends them.
///
/// # Errors
/// [`Broken`]; the link is of no more use then.
pub async fn pass_rows(link: &mut Link, client: &mut Client, face: Face) -> Result<Ended, Broken> {
    rows(link, client, Last::Tells(&|of_server| face.status(of_server))).await
}

/// Passes on rows that were fetched by a cursor, without what ends them.
///
/// # Errors
/// [`Broken`]; the link is of no more use then.
pub async fn pass_fetched(link: &mut Link, client: &mut Client) -> Result<Ended, Broken> {
    rows(link, client, Last::IsSilent).await
}

/// Whether rows of the one can stand among rows of the other.
#[must_use]
pub fn alike(one: &[Column], other: &[Column]) -> bool {
    // 32 is UNSIGNED, 128 BINARY, 256 ENUM, 2048 SET: what a client reads a value by.
    const MATTER: u16 = 32 | 128 | 256 | 2048;
    let kind = |it: &Column| (it.kind, it.collation, it.decimals, it.flags & MATTER);
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| kind(a) == kind(b) && a.name == b.name)
}

/// Passes on columns that no rows follow (COM_FIELD_LIST).
///
/// # Errors
/// [`Broken`]; the link is of no more use then.
pub async fn list(link: &mut Link, client: &mut Client, flags: u16) -> Result<(), Broken> {
    loop {
        if client.is_full() {
            client.flush().await.map_err(Broken::Client)?;
        }
        let payload = payload(link).await?;
        if payload.first() == Some(&0xff) {
            client.put(&payload);
            return Ok(());
        }
        if ends_rows(&payload, link.connection.capabilities) {
            client.end_rows(0, flags);
            return Ok(());
        }
        client.put(&payload);
    }
}

/// Hears an answer that is not the client's: an error of the server's is the inner one.
///
/// # Errors
/// [`Broken`]; the link is of no more use then.
pub async fn hear(link: &mut Link) -> Result<Result<Done, Failure>, Broken> {
    let mut failed = None;
    loop {
        let done = match first(link).await? {
            First::Done(done) => {
                link.heard(&done);
                done
            }
            First::Failed(failure) => return Ok(Err(failed.unwrap_or(failure))),
            First::Columns(_) | First::File(_) => {
                return Err(Broken::Server("answers what nobody asked".to_owned()));
            }
        };
        if done.status & status::MORE_RESULTS == 0 {
            return Ok(failed.take().map_or(Ok(done), Err));
        }
    }
}

/// Hears rows that are not the client's, as text; no more than `limit` bytes of them.
///
/// # Errors
/// [`Broken`]; the link is of no more use then.
pub async fn collect(link: &mut Link, limit: usize) -> Result<Result<Collected, Failure>, Broken> {
    only_rows(take(link, limit).await?)
}

/// The same, without the rows that are beyond `limit` bytes.
///
/// # Errors
/// [`Broken`]; the link is of no more use then.
pub async fn collect_first(link: &mut Link, limit: usize) -> Result<Result<Collected, Failure>, Broken> {
    only_rows(take_as(link, limit, Beyond::IsLeftOut).await?)
}

fn only_rows(answer: Result<Taken, Failure>) -> Result<Result<Collected, Failure>, Broken> {
    match answer {
        Ok(Taken { collected: Some(collected), .. }) => Ok(Ok(collected)),
        Ok(Taken { collected: None, .. }) => Err(Broken::Server("answers without rows".to_owned())),
        Err(failure) => Ok(Err(failure)),
    }
}

/// Hears an answer with or without rows, of which no more than `limit` bytes are held. It must be the only one.
///
/// # Errors
/// [`Broken`]; the link is of no more use then.
pub async fn take(link: &mut Link, limit: usize) -> Result<Result<Taken, Failure>, Broken> {
    take_as(link, limit, Beyond::Breaks).await
}

/// What becomes of rows beyond a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beyond {
    /// Nothing can be made of the answer.
    Breaks,
    /// They are heard, and not held.
    IsLeftOut,
}

async fn take_as(link: &mut Link, limit: usize, beyond: Beyond) -> Result<Result<Taken, Failure>, Broken> {
    let mut collected = Collected::default();
    let count = match first(link).await? {
        First::Columns(count) => count,
        First::Failed(failure) => return Ok(Err(failure)),
        First::Done(done) => {
            link.heard(&done);
            return Ok(Ok(Taken { done, collected: None }));
        }
        First::File(_) => return Err(Broken::Server("asks for a file".to_owned())),
    };
    for _ in 0..count {
        collected.columns.push(column(link).await?);
    }
    end_of_columns(link).await?;
    let mut size = 0;
    loop {
        let payload = payload(link).await?;
        if payload.first() == Some(&0xff) {
            return Ok(Err(failure(&payload)?));
        }
        if ends_rows(&payload, link.connection.capabilities) {
            let (warnings, flags) = end(link, &payload)?;
            link.connection.status = flags;
            let done = Done { warnings, status: flags, ..Done::default() };
            return Ok(Ok(Taken { done, collected: Some(collected) }));
        }
        size += payload.len();
        if size > limit {
            if beyond == Beyond::IsLeftOut {
                continue;
            }
            return Err(Broken::Server(format!("answers with more than {limit} bytes")));
        }
        collected.rows.push(payload);
    }
}

/// Hears an answer that nobody is told.
///
/// # Errors
/// [`Broken`]; the link is of no more use then.
pub async fn discard(link: &mut Link) -> Result<(), Broken> {
    let count = match first(link).await? {
        First::Columns(count) => count,
        First::Failed(_) => return Ok(()),
        First::Done(done) => {
            link.heard(&done);
            return Ok(());
        }
        First::File(_) => return Err(Broken::Server("asks for a file".to_owned())),
    };
    for _ in 0..count {
        column(link).await?;
    }
    end_of_columns(link).await?;
    loop {
        let payload = payload(link).await?;
        if payload.first() == Some(&0xff) {
            return Ok(());
        }
        if ends_rows(&payload, link.connection.capabilities) {
            let (_, flags) = end(link, &payload)?;
            link.connection.status = flags;
            return Ok(());
        }
    }
}

/// An answer that is not the client's as it is.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// What its end said; of one with rows, the status and the warnings alone.
    pub done: Done,
    /// Its rows, if it has any columns.
    pub collected: Option<Collected>,
}

/// Rows that are not the client's.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// Their columns.
    pub columns: Vec<Column>,
    /// Their payloads.
    pub rows: Vec<Vec<u8>>,
}

// ── packets ──

enum Last<'a> {
    /// The client is told where the rows end, with these flags.
    Tells(&'a dyn Fn(u16) -> u16),
    /// Others' rows follow.
    IsSilent,
}

async fn rows(link: &mut Link, client: &mut Client, last: Last<'_>) -> Result<Ended, Broken> {
    let capabilities = link.connection.capabilities;
    let mut count = 0_u64;
    let mut within = false;
    loop {
        if client.is_full() {
            client.flush().await.map_err(Broken::Client)?;
        }
        let packet = attend(link, client).await?;
        let body = link.connection.bytes(packet.body.clone());
        if !within && body.first() == Some(&0xff) {
            let failure = failure(body)?;
            link.connection.consume(&packet);
            client.put_failure(&failure);
            return Ok(Ended::Failed(failure));
        }
        if !within && !packet.goes_on && ends_rows(body, capabilities) {
            let (warnings, flags) = end_rows(link, &packet)?;
            if let Last::Tells(status) = last {
                client.end_rows(warnings, status(flags));
            }
            return Ok(Ended::Rows { count, status: flags, warnings });
        }
        client.put_packet(body);
        count += u64::from(!within);
        within = packet.goes_on;
        client.within_payload = within;
        link.connection.consume(&packet);
    }
}

/// Takes in the packet that ends rows: its warnings and its status.
pub(super) fn end_rows(link: &mut Link, packet: &Packet) -> Result<(u16, u16), Broken> {
    let capabilities = link.connection.capabilities;
    let body = link.connection.bytes(packet.body.clone());
    let wrong = |error: Violation| Broken::Server(error.to_string());
    let (done, (warnings, flags)) = if capabilities & capability::DEPRECATE_EOF == 0 {
        (None, read_end_of_rows(body).map_err(wrong)?)
    } else {
        let done = Done::read(body, capabilities).map_err(wrong)?;
        let told = (done.warnings, done.status);
        (Some(done), told)
    };
    link.connection.consume(packet);
    if let Some(done) = done {
        link.heard(&done);
    }
    link.connection.status = flags;
    Ok((warnings, flags))
}

/// Warnings and status of what ends rows.
pub(super) fn end(link: &Link, payload: &[u8]) -> Result<(u16, u16), Broken> {
    let capabilities = link.connection.capabilities;
    let read = if capabilities & capability::DEPRECATE_EOF == 0 {
        read_end_of_rows(payload)
    } else {
        Done::read(payload, capabilities).map(|done| (done.warnings, done.status))
    };
    read.map_err(|error| Broken::Server(error.to_string()))
}

/// What ends the columns, where the server says it: its status.
pub(super) async fn end_of_columns(link: &mut Link) -> Result<Option<u16>, Broken> {
    if link.connection.capabilities & capability::DEPRECATE_EOF != 0 {
        return Ok(None);
    }
    let payload = payload(link).await?;
    read_end_of_rows(&payload).map(|(_, flags)| Some(flags)).map_err(|error| Broken::Server(error.to_string()))
}

pub(super) async fn first(link: &mut Link) -> Result<First, Broken> {
    let capabilities = link.connection.capabilities;
    let payload = payload(link).await?;
    let first = First::read(&payload, capabilities).map_err(|error| Broken::Server(error.to_string()))?;
    if let First::Done(done) = &first {
        link.connection.status = done.status;
    }
    Ok(first)
}

pub(super) async fn column(link: &mut Link) -> Result<Column, Broken> {
    let payload = payload(link).await?;
    Column::read(&payload).map_err(|error| Broken::Server(error.to_string()))
}

/// Passes columns on: the status behind them, where the server says it.
async fn columns(count: u64, link: &mut Link, client: &mut Client) -> Result<Option<u16>, Broken> {
    for _ in 0..count {
        packets(link, client).await?;
    }
    end_of_columns(link).await
}

pub(super) fn failure(payload: &[u8]) -> Result<Failure, Broken> {
    Failure::read(payload).map_err(|error| Broken::Server(error.to_string()))
}

/// Passes one payload on, however many packets it is.
async fn packets(link: &mut Link, client: &mut Client) -> Result<(), Broken> {
    loop {
        let packet = next(link).await?;
        client.put_packet(link.connection.bytes(packet.body.clone()));
        link.connection.consume(&packet);
        if !packet.goes_on {
            return Ok(());
        }
    }
}

/// A whole payload, out of the buffer.
pub(crate) async fn payload(link: &mut Link) -> Result<Vec<u8>, Broken> {
    let mut whole = Vec::new();
    payload_into(link, &mut whole).await?;
    Ok(whole)
}

/// The same into a buffer.
pub(super) async fn payload_into(link: &mut Link, whole: &mut Vec<u8>) -> Result<(), Broken> {
    whole.clear();
    loop {
        let packet = next(link).await?;
        whole.extend_from_slice(link.connection.bytes(packet.body.clone()));
        link.connection.consume(&packet);
        if !packet.goes_on {
            return Ok(());
        }
        if whole.len() > PAYLOAD_MAX {
            return Err(Broken::Server("answers with a payload that is too long".to_owned()));
        }
    }
}

/// The next packet, waited for as long as the client is there.
async fn attend(link: &mut Link, client: &mut Client) -> Result<Packet, Broken> {
    poll_fn(|cx| match link.connection.poll_packet(cx) {
        Poll::Ready(packet) => Poll::Ready(packet.map_err(|error| Broken::Server(error.to_string()))),
        Poll::Pending => client.poll_gone(cx).map(|error| Err(Broken::Client(error))),
    })
    .await
}

async fn next(link: &mut Link) -> Result<Packet, Broken> {
    poll_fn(|cx| link.connection.poll_packet(cx)).await.map_err(|error| Broken::Server(error.to_string()))
}

/// What is held whole of one payload at most (a column's description, a row of the proxy's own questions), in bytes: what
/// servers send at most.
const PAYLOAD_MAX: usize = 1 << 30;
