//! A client's COPY data, row by row to several servers, as it comes: what waits is a row, a read, and what a server has
//! not taken yet.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use smallvec::SmallVec;

use crate::backend::Piece;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::client::Client;
use crate::exec::flight;
use crate::exec::link::Link;
use crate::exec::say;

/// What may wait for one server, in bytes, before no more is taken from the client.
const WAITING_MAX: usize = 256 << 10;
/// More of the client's data is not looked at in one turn.
const TURN: usize = 64 << 10;

/// What cuts the data into rows, and says whose each is.
pub trait Dealer {
    /// Why data cannot be dealt out.
    type Error: From<ClientError>;

    /// How many fields servers are to want of a row, and how many of them are the client's, the first.
    fn fields(&self) -> (usize, usize);

    /// Takes in more of the client's data.
    ///
    /// # Errors
    /// Why it cannot be dealt out.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Whether it lacks something that [`Self::supply`] brings, before it goes on with what it has been fed.
    fn is_hungry(&self) -> bool;

    /// Brings that.
    ///
    /// # Errors
    /// Why it cannot be had.
    fn supply(&mut self) -> impl Future<Output = Result<(), Self::Error>>;

    /// Takes in that no more comes.
    ///
    /// # Errors
    /// Why it cannot be dealt out.
    fn finish(&mut self) -> Result<(), Self::Error>;

    /// What the target of that place is to be sent, and has not been given yet.
    fn share(&mut self, place: usize) -> Option<&mut Vec<u8>>;
}

/// How the data came to its end.
#[derive(Debug)]
pub enum Scattered<E> {
    /// All servers have all rows: how many each.
    Done(Vec<u64>),
    /// A server raised an error: the place of its link among the targets, and the whole message.
    Failed(usize, Vec<u8>),
    /// The data cannot be scattered.
    Refused(E),
}

/// Why nothing more can be said to somebody.
#[derive(Debug)]
pub enum Gone {
    /// A server's connection broke: which link.
    Server(usize),
    /// The client's did.
    Client(io::Error),
    /// The client broke the protocol.
    Violation(&'static str),
}

/// One of the servers that rows go to.
#[derive(Debug)]
struct Target {
    link: usize,
    /// CopyInResponse, as it came.
    wants: Option<Vec<u8>>,
    /// What it said at the end: how many rows it took, or an error.
    said: Option<Result<u64, Vec<u8>>>,
    /// When it did, by count.
    heard: usize,
    /// It has been told that no more comes.
    told: bool,
}

/// Carries the data of the client's COPY to the `COPY … FROM STDIN` that has been said on each link of `targets`, in the
/// dealer's order, in extended-protocol messages without a Sync. Notices go to the client.
///
/// Afterwards each server has raised an error, or taken all rows; and the client's data has been read up to its end,
/// unless something failed. `left` is how much of the client's last message has not been read.
///
/// # Errors
/// See [`Gone`]. The links are then in the middle of what they did.
pub async fn scatter<D: Dealer>(
    links: &mut [Link],
    targets: &[usize],
    client: &mut Client,
    dealer: &mut D,
    left: &mut usize,
) -> Result<Scattered<D::Error>, Gone> {
    let mut targets: SmallVec<[Target; 8]> =
        targets.iter().map(|link| Target { link: *link, wants: None, said: None, heard: 0, told: false }).collect();
    // Everybody wants rows, or somebody does not.
    while targets.iter().any(|it| it.wants.is_none() && it.said.is_none()) {
        hear(links, &mut targets, client)?;
        if targets.iter().all(|it| it.wants.is_some() || it.said.is_some()) {
            break;
        }
        wait(links, &mut targets, client, false).await?;
    }
    if targets.iter().any(|it| it.said.is_some()) {
        return end(links, &mut targets, client, None).await;
    }
    let wants = targets.first().and_then(|it| it.wants.clone()).unwrap_or_default();
    let fields = wants.get(6..8).and_then(|it| it.first_chunk::<2>()).map_or(0, |it| u16::from_be_bytes(*it));
    let (wanted, clients) = dealer.fields();
    if usize::from(fields) != wanted {
        let error = ClientError::unsupported(
            "COPY into a table that has just changed its columns is not supported",
            "Run it again.",
        );
        return end(links, &mut targets, client, Some(error.into())).await;
    }
    // A byte for the format, the number of columns, and the format of each.
    let formats = wants.get(8..8 + clients * 2).unwrap_or_default();
    say::message(client.out(), b'G', |out| {
        out.extend_from_slice(wants.get(5..6).unwrap_or_default());
        out.extend_from_slice(&u16::try_from(clients).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(formats);
    });
    client.flush().await.map_err(Gone::Client)?;
    loop {
        let mut over = false;
        let mut refused = None;
        let mut turn = 0;
        while turn < TURN && !over && refused.is_none() {
            let unread = client.unread();
            if *left > 0 {
                let part = (*left).min(unread.len()).min(TURN);
                if part == 0 {
                    break;
                }
                refused = dealer.feed(unread.get(..part).unwrap_or_default()).err();
                client.consume(part);
                *left -= part;
                turn += part;
                while refused.is_none() && dealer.is_hungry() {
                    refused = sated(dealer).await.err();
                    if refused.is_none() {
                        refused = dealer.feed(&[]).err();
                    }
                }
                continue;
            }
            let Some(&[kind, a, b, c, d]) = unread.first_chunk::<5>() else { break };
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if !(4..=(1 << 30)).contains(&length) {
                return Err(Gone::Violation("invalid message length"));
            }
            match kind {
                b'd' => {
                    *left = length - 4;
                    client.consume(5);
                    turn += 5;
                }
                b'c' | b'f' => {
                    if unread.len() < length + 1 {
                        if length > TURN {
                            return Err(Gone::Violation("a CopyFail message is too long"));
                        }
                        break;
                    }
                    let whole = unread.get(..length + 1).unwrap_or_default().to_vec();
                    client.consume(length + 1);
                    over = true;
                    match kind {
                        b'c' => {
                            refused = dealer.finish().err();
                            while refused.is_none() && dealer.is_hungry() {
                                refused = sated(dealer).await.err();
                                if refused.is_none() {
                                    refused = dealer.finish().err();
                                }
                            }
                        }
                        _ => {
                            pass_on(links, &targets, dealer);
                            for target in targets.iter_mut().filter(|it| it.said.is_none()) {
                                if let Some(link) = links.get_mut(target.link) {
                                    link.out.extend_from_slice(&whole);
                                }
                                target.told = true;
                            }
                        }
                    }
                }
                // The server ignores these while it copies.
                b'H' | b'S' if length == 4 => client.consume(length + 1),
                _ => return Err(Gone::Violation("a message that has no place in COPY")),
            }
        }
        let moved = turn > 0;
        pass_on(links, &targets, dealer);
        if refused.is_some() {
            return end(links, &mut targets, client, refused).await;
        }
        if over {
            for target in targets.iter_mut().filter(|it| !it.told) {
                if let Some(link) = links.get_mut(target.link) {
                    say::message(&mut link.out, b'c', |_| {});
                    say::flush(&mut link.out);
                }
                target.told = true;
            }
            return end(links, &mut targets, client, None).await;
        }
        hear(links, &mut targets, client)?;
        if targets.iter().any(|it| it.said.is_some()) {
            return end(links, &mut targets, client, None).await;
        }
        if client.is_full() {
            client.flush().await.map_err(Gone::Client)?;
        }
        if moved {
            // Others have their turn.
            tokio::task::yield_now().await;
        }
        let full = |link: &Link| link.out.len() - link.sent >= WAITING_MAX;
        let waits = targets.iter().any(|it| links.get(it.link).is_some_and(full));
        // There may be more that has come.
        if turn < TURN || waits {
            wait(links, &mut targets, client, !waits).await?;
        }
    }
}

/// Brings what the dealer lacks. Boxed, for it is seldom awaited.
async fn sated<D: Dealer>(dealer: &mut D) -> Result<(), D::Error> {
    Box::pin(dealer.supply()).await
}

/// Wraps what each server is dealt.
fn pass_on(links: &mut [Link], targets: &[Target], dealer: &mut impl Dealer) {
    for (place, target) in targets.iter().enumerate() {
        let (Some(share), Some(link)) = (dealer.share(place), links.get_mut(target.link)) else { continue };
        if share.is_empty() {
            continue;
        }
        if link.sent >= WAITING_MAX / 2 {
            link.out.drain(..link.sent);
            link.sent = 0;
        }
        say::message(&mut link.out, b'd', |out| out.extend_from_slice(share));
        share.clear();
    }
}

/// Takes in what servers say.
fn hear(links: &mut [Link], targets: &mut [Target], client: &mut Client) -> Result<(), Gone> {
    let heard = targets.iter().map(|it| it.heard).max().unwrap_or(0) + 1;
    for target in targets.iter_mut().filter(|it| it.said.is_none()) {
        let Some(link) = links.get_mut(target.link) else { continue };
        loop {
            match link.connection.piece() {
                Ok(Some(Piece::Message(kind, range))) => {
                    let bytes = link.connection.bytes(range);
                    match kind {
                        b'G' => target.wants = Some(bytes.to_vec()),
                        b'E' if flight::is_fatal(bytes) => return Err(Gone::Server(target.link)),
                        b'E' => {
                            target.said = Some(Err(client.in_its_words(bytes.to_vec())));
                            target.heard = heard;
                            link.skips = true;
                            link.spoiled = true;
                            break;
                        }
                        b'C' => {
                            let tag = bytes.get(5..bytes.len().saturating_sub(1)).unwrap_or_default();
                            let count =
                                std::str::from_utf8(tag).ok().and_then(|it| it.rsplit(' ').next()?.parse().ok());
                            target.said = Some(Ok(count.unwrap_or(0)));
                            break;
                        }
                        b'N' | b'A' => client.push(bytes),
                        b'1' | b'2' | b'S' => {}
                        _ => return Err(Gone::Server(target.link)),
                    }
                }
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => return Err(Gone::Server(target.link)),
            }
        }
    }
    Ok(())
}

/// Waits until something has moved: a server spoke or took something, or the client spoke, if it is listened to.
async fn wait(links: &mut [Link], targets: &mut [Target], client: &mut Client, listens: bool) -> Result<(), Gone> {
    let full = |links: &[Link]| {
        targets.iter().any(|it| links.get(it.link).is_some_and(|link| link.out.len() - link.sent >= WAITING_MAX))
    };
    poll_fn(|cx| {
        let was_full = full(links);
        for (at, link) in links.iter_mut().enumerate() {
            if link.poll_out(cx).is_err() {
                return Poll::Ready(Err(Gone::Server(at)));
            }
        }
        let is_full = full(links);
        let mut any = was_full && !is_full;
        for target in targets.iter().filter(|it| it.said.is_none()) {
            let Some(link) = links.get_mut(target.link) else { continue };
            match link.connection.poll_fill(cx) {
                Poll::Ready(Ok(count)) if count > 0 => any = true,
                Poll::Ready(_) => return Poll::Ready(Err(Gone::Server(target.link))),
                Poll::Pending => {}
            }
        }
        if listens && !is_full {
            match client.poll_read(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Gone::Client(io::ErrorKind::UnexpectedEof.into()))),
                Poll::Ready(Ok(_)) => any = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Gone::Client(error))),
                Poll::Pending => {}
            }
        }
        if any { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// Hears everybody to the end. Where anything failed, whoever still waits for rows is told that none come.
async fn end<E>(
    links: &mut [Link],
    targets: &mut [Target],
    client: &mut Client,
    refused: Option<E>,
) -> Result<Scattered<E>, Gone> {
    loop {
        let failed = refused.is_some() || targets.iter().any(|it| matches!(it.said, Some(Err(_))));
        for target in targets.iter_mut().filter(|it| failed && it.said.is_none() && !it.told && it.wants.is_some()) {
            if let Some(link) = links.get_mut(target.link) {
                say::message(&mut link.out, b'f', |out| say::string(out, "another shard refused its rows"));
                say::flush(&mut link.out);
            }
            target.told = true;
        }
        hear(links, targets, client)?;
        if targets.iter().all(|it| it.said.is_some()) {
            break;
        }
        wait(links, targets, client, false).await?;
    }
    if let Some(error) = refused {
        return Ok(Scattered::Refused(error));
    }
    // What was heard first called forth the others.
    let errors = targets.iter().enumerate().filter_map(|(place, it)| match &it.said {
        Some(Err(error)) => Some((it.heard, place, error)),
        _ => None,
    });
    Ok(match errors.min_by_key(|(heard, ..)| *heard) {
        Some((_, place, error)) => Scattered::Failed(place, error.clone()),
        None => Scattered::Done(targets.iter().filter_map(|it| it.said.as_ref()?.as_ref().ok().copied()).collect()),
    })
}

/// A COPY that is over where the client's connection is in the middle of it.
#[must_use]
pub fn violation(what: &str) -> ClientError {
    ClientError::new(Code::ProtocolViolation, what, "The session is closed: what follows cannot be read safely.")
}
