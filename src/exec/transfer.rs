//! Rows from several servers into one, by COPY, as they come: nothing is held but what waits to be sent.

use std::future::poll_fn;
use std::task::Poll;

use crate::backend::Piece;
use crate::exec::link::Link;

/// What may wait for the target, in bytes, before no more is taken from the sources.
const WAITING_MAX: usize = 256 << 10;

/// How much may still be transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of rows.
    pub bytes: usize,
    /// Rows.
    pub rows: usize,
}

/// Why a transfer did not come to its end.
#[derive(Debug)]
pub enum Broken {
    /// A server raised an error: which link, and the whole message.
    Failed(usize, Vec<u8>),
    /// A connection broke, or its server broke the protocol: which link.
    Lost(usize),
    /// There is more than the budget allows.
    TooMuch,
}

/// Carries the rows of `COPY … TO STDOUT`, said on each link of `sources` and answered by nothing yet, into the
/// `COPY … FROM STDIN` said on `target`. Both are extended-protocol messages without a Sync. Then the sources have
/// answered everything; the target has been told that no more comes, and owes CommandComplete.
///
/// # Errors
/// See [`Broken`]. The links are then in the middle of what they did.
pub async fn transfer(links: &mut [Link], sources: &[usize], target: usize, budget: &mut Budget) -> Result<(), Broken> {
    let mut going: Vec<usize> = sources.to_vec();
    // Whose row is in the middle: nobody else's bytes may come between.
    let mut within: Option<usize> = None;
    // Whether the target has said that it wants rows.
    let mut wanted = false;
    while !going.is_empty() || !wanted {
        let mut out = links.get_mut(target).map(|link| std::mem::take(&mut link.out)).unwrap_or_default();
        let sent = links.get(target).map_or(0, |link| link.sent);
        let room = |out: &Vec<u8>| out.len() - sent < WAITING_MAX;
        let mut result = Ok(());
        going.retain(|source| {
            if result.is_err() || within.is_some_and(|it| it != *source) {
                return true;
            }
            match take(links, *source, &mut out, budget, &room) {
                Ok(over) => {
                    within = links.get(*source).filter(|it| it.connection.is_within_row()).map(|_| *source);
                    !over
                }
                Err(broken) => {
                    result = Err(broken);
                    true
                }
            }
        });
        if let Some(link) = links.get_mut(target) {
            link.out = out;
        }
        result?;
        wanted |= target_speaks(links, target)?;
        if going.is_empty() && wanted {
            break;
        }
        let full = links.get(target).is_some_and(|link| link.out.len() - link.sent >= WAITING_MAX);
        poll_fn(|cx| {
            let mut any = false;
            for (at, link) in links.iter_mut().enumerate() {
                let waiting = link.out.len() - link.sent;
                if link.poll_out(cx).is_err() {
                    return Poll::Ready(Err(Broken::Lost(at)));
                }
                any |= at == target && full && link.out.len() - link.sent < waiting;
            }
            let awaited = going.iter().filter(|it| !full && within.is_none_or(|only| only == **it));
            for at in awaited.copied().chain(std::iter::once(target)) {
                let Some(link) = links.get_mut(at) else { continue };
                match link.connection.poll_fill(cx) {
                    Poll::Ready(Ok(count)) if count > 0 => any = true,
                    Poll::Ready(_) => return Poll::Ready(Err(Broken::Lost(at))),
                    Poll::Pending => {}
                }
            }
            if any { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await?;
        if let Some(link) = links.get_mut(target).filter(|link| link.sent >= WAITING_MAX / 2) {
            link.out.drain(..link.sent);
            link.sent = 0;
        }
    }
    if let Some(link) = links.get_mut(target) {
        crate::exec::say::message(&mut link.out, b'c', |_| {});
    }
    Ok(())
}

/// Takes what has come from one source. True: it has answered everything.
fn take(
    links: &mut [Link],
    source: usize,
    out: &mut Vec<u8>,
    budget: &mut Budget,
    room: &dyn Fn(&Vec<u8>) -> bool,
) -> Result<bool, Broken> {
    let Some(link) = links.get_mut(source) else { return Ok(true) };
    while room(out) {
        match link.connection.piece() {
            Ok(Some(Piece::Rows(range, rows))) => {
                let left = budget.bytes.checked_sub(range.len()).ok_or(Broken::TooMuch)?;
                budget.bytes = left;
                budget.rows = budget.rows.checked_sub(rows as usize).ok_or(Broken::TooMuch)?;
                out.extend_from_slice(link.connection.bytes(range));
            }
            Ok(Some(Piece::Message(kind, range))) => match kind {
                // The portal of the proxy's own is closed behind it.
                b'3' => {
                    link.connection.rest();
                    return Ok(true);
                }
                b'E' => return Err(failed(source, link.connection.bytes(range).to_vec())),
                b'1' | b'2' | b'H' | b'c' | b'C' | b'N' | b'S' | b'A' => {}
                _ => return Err(Broken::Lost(source)),
            },
            Ok(None) => return Ok(false),
            Err(_) => return Err(Broken::Lost(source)),
        }
    }
    Ok(false)
}

/// Looks at what the target says. True: that it wants rows.
fn target_speaks(links: &mut [Link], target: usize) -> Result<bool, Broken> {
    let mut wanted = false;
    let Some(link) = links.get_mut(target) else { return Ok(true) };
    loop {
        match link.connection.piece() {
            Ok(Some(Piece::Message(b'G', _))) => wanted = true,
            Ok(Some(Piece::Message(b'E', range))) => {
                return Err(failed(target, link.connection.bytes(range).to_vec()));
            }
            Ok(Some(Piece::Message(b'1' | b'2' | b'N' | b'S' | b'A', _))) => {}
            Ok(None) => return Ok(wanted),
            Ok(Some(_)) | Err(_) => return Err(Broken::Lost(target)),
        }
    }
}

fn failed(link: usize, error: Vec<u8>) -> Broken {
    if crate::exec::flight::is_fatal(&error) { Broken::Lost(link) } else { Broken::Failed(link, error) }
}
