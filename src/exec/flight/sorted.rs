//! Rows of several servers, each of which sends its own in order, as one sequence in order: what waits is at most a
//! read and a row of each.

use std::cmp::Ordering;
use std::future::poll_fn;
use std::ops::Range;
use std::task::Poll;

use smallvec::SmallVec;

use super::Crew;
use super::Failure;
use super::Lost;
use super::Outcome;
use super::Run;
use super::Tag;
use super::is_fatal;
use super::send_all;
use super::sqlstate;
use super::without_position;
use crate::backend::Piece;
use crate::error::ClientError;
use crate::exec::say;

/// After so many rows others have their turn.
const TURN: u64 = 2000;

/// How rows are put in order: by their last columns, which the client does not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What they are ordered by, in binary format, one column each.
    pub keys: Vec<Key>,
    /// So many of the first rows are left out.
    pub offset: u64,
    /// So many of the others are sent at most.
    pub limit: u64,
}

/// One column to order by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// How values compare.
    pub compare: Compare,
    /// DESC
    pub descending: bool,
    /// NULLS FIRST
    pub nulls_first: bool,
}

/// How Postgres's default operators compare values of a type, by their binary format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Integers with a sign, however wide; dates and times as well.
    Signed,
    /// bool, oid, uuid, bytea: byte by byte.
    Bytes,
    /// float4 and float8: NaN is above all, and the zeros are equal.
    Float,
    /// numeric
    Numeric,
}

impl Compare {
    /// That of a built-in type; `None`: its order is not known here.
    #[must_use]
    pub fn of(oid: u32) -> Option<Self> {
        Some(match oid {
            // int8 int2 int4 date time timestamp timestamptz
            20 | 21 | 23 | 1082 | 1083 | 1114 | 1184 => Self::Signed,
            // bool bytea oid uuid
            16 | 17 | 26 | 2950 => Self::Bytes,
            700 | 701 => Self::Float,
            1700 => Self::Numeric,
            _ => return None,
        })
    }

    fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Self::Bytes => a.cmp(b),
            Self::Signed => signed(a).cmp(&signed(b)),
            Self::Float => {
                let (a, b) = (float(a), float(b));
                a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            }
            Self::Numeric => Numeric::read(a).cmp(&Numeric::read(b)),
        }
    }
}

fn signed(bytes: &[u8]) -> i64 {
    let first = bytes.first().map_or(0, |it| if *it >= 0x80 { -1 } else { 0 });
    bytes.iter().fold(first, |sum, byte| (sum << 8) | i64::from(*byte))
}

fn float(bytes: &[u8]) -> f64 {
    match (bytes.first_chunk::<8>(), bytes.first_chunk::<4>()) {
        (Some(all), _) => f64::from_be_bytes(*all),
        (None, Some(all)) => f64::from(f32::from_be_bytes(*all)),
        (None, None) => f64::NAN,
    }
}

/// A numeric in binary format (`numeric_send`): digits of base 10,000, of which the first stands for 10,000^weight.
struct Numeric<'a> {
    weight: i16,
    sign: u16,
    digits: &'a [u8],
}

impl<'a> Numeric<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let at = |place: usize| bytes.get(place..).and_then(|it| it.first_chunk::<2>()).copied().unwrap_or_default();
        let mut digits = bytes.get(8..).unwrap_or_default();
        while let Some(rest) = digits.strip_suffix(&[0, 0]) {
            digits = rest;
        }
        Self { weight: i16::from_be_bytes(at(2)), sign: u16::from_be_bytes(at(4)), digits }
    }

    /// −infinity, below zero, zero, above, infinity, NaN.
    fn rank(&self) -> u8 {
        match (self.sign, self.digits.is_empty()) {
            (0xF000, _) => 0,
            (0x4000, false) => 1,
            (0x0000 | 0x4000, true) => 2,
            (0x0000, false) => 3,
            (0xD000, _) => 4,
            _ => 5,
        }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let magnitude = || self.weight.cmp(&other.weight).then_with(|| self.digits.cmp(other.digits));
        self.rank().cmp(&other.rank()).then_with(|| match self.rank() {
            1 => magnitude().reverse(),
            3 => magnitude(),
            _ => Ordering::Equal,
        })
    }
}

impl Order {
    /// Compares two rows by the cells behind those of the client.
    fn compare(&self, mut a: &[u8], mut b: &[u8]) -> Ordering {
        for key in &self.keys {
            let (left, right);
            (left, a) = cell(a);
            (right, b) = cell(b);
            let order = match (left, right) {
                (Some(left), Some(right)) => {
                    let order = key.compare.compare(left, right);
                    if key.descending { order.reverse() } else { order }
                }
                (None, None) => Ordering::Equal,
                (None, Some(_)) if key.nulls_first => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) if key.nulls_first => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }
}

/// The first cell, `None` for NULL, and what is behind it.
fn cell(cells: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let Some((length, rest)) = cells.split_first_chunk::<4>() else { return (None, &[]) };
    match usize::try_from(i32::from_be_bytes(*length)) {
        Ok(length) => rest.split_at_checked(length).map_or((None, &[]), |(value, rest)| (Some(value), rest)),
        Err(_) => (None, rest),
    }
}

/// One server's rows, as far as they have come.
#[derive(Default)]
struct Source {
    link: usize,
    bytes: Vec<u8>,
    /// The first row that has not been taken, whole, and where its keys begin.
    head: Option<(Range<usize>, usize)>,
    /// Behind the last row that was taken.
    taken: usize,
    /// The keys of that row.
    before: Option<Vec<u8>>,
    /// It has sent everything.
    done: bool,
}

/// What a source waits for.
enum Need {
    Nothing,
    More,
    /// Its server raised an error.
    Failed(Vec<u8>),
    Lost(Lost),
}

/// Takes in the answers to an Execute of all these links, whose rows are in order.
pub(super) async fn listen(
    item: usize,
    links: &[u8],
    order: &Order,
    crew: &mut Crew<'_>,
    run: &mut Run,
    outcome: &mut Outcome,
) -> Result<(), Lost> {
    run.settle(crew);
    let mut sources: SmallVec<[Source; 8]> =
        links.iter().map(|link| Source { link: usize::from(*link), ..Source::default() }).collect();
    let mut seen = 0_u64;
    let mut sent = 0_u64;
    loop {
        for source in &mut sources {
            loop {
                match source.advance(order, crew, item) {
                    Need::Nothing => break,
                    Need::More => {
                        if crew.client.mark() > 0 {
                            crew.client.flush().await.map_err(Lost::Client)?;
                        }
                        wait(source.link, item, crew).await?;
                    }
                    Need::Failed(error) => {
                        outcome.failed = Some(Failure { link: source.link, item, sqlstate: sqlstate(&error) });
                        crew.client.push(&without_position(error));
                        return Ok(());
                    }
                    Need::Lost(lost) => return Err(lost),
                }
            }
        }
        let mut first: Option<usize> = None;
        for (place, source) in sources.iter().enumerate() {
            let Some(keys) = source.keys() else { continue };
            let is_first = match first.and_then(|it| sources.get(it)).and_then(Source::keys) {
                Some(least) => order.compare(keys, least) == Ordering::Less,
                None => true,
            };
            if is_first {
                first = Some(place);
            }
        }
        let Some(source) = first.and_then(|it| sources.get_mut(it)) else { break };
        if seen >= order.offset && sent < order.limit {
            source.show(order, crew.client.out());
            sent += 1;
        }
        seen += 1;
        source.take();
        if crew.client.is_full() {
            crew.client.flush().await.map_err(Lost::Client)?;
        }
        if seen.is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
    }
    let tag = format!("SELECT {sent}");
    say::message(crew.client.out(), b'C', |out| say::string(out, &tag));
    outcome.rows += sent;
    outcome.tag = Some(Tag::from_slice(tag.as_bytes()));
    Ok(())
}

/// Waits for more from one link.
async fn wait(link: usize, item: usize, crew: &mut Crew<'_>) -> Result<(), Lost> {
    // No row goes to the client in part.
    let gone = |at| Lost::Server { link: at, item, last_words: None, within_row: false };
    poll_fn(|cx| {
        if let Err((at, _)) = send_all(cx, crew.links) {
            return Poll::Ready(Err(gone(at)));
        }
        match crew.links.get_mut(link) {
            Some(l) => l.connection.poll_fill(cx).map(|it| match it {
                Ok(count) if count > 0 => Ok(()),
                _ => Err(gone(link)),
            }),
            None => Poll::Ready(Err(gone(link))),
        }
    })
    .await
}

impl Source {
    fn keys(&self) -> Option<&[u8]> {
        self.head.as_ref().and_then(|(row, keys)| self.bytes.get(*keys..row.end))
    }

    /// Sees to it that the next row is there, if there is one.
    fn advance(&mut self, order: &Order, crew: &mut Crew<'_>, item: usize) -> Need {
        if self.head.is_some() {
            return Need::Nothing;
        }
        loop {
            let rest = self.bytes.get(self.taken..).unwrap_or_default();
            if let Some(&[_, a, b, c, d]) = rest.first_chunk::<5>() {
                let length = u32::from_be_bytes([a, b, c, d]) as usize + 1;
                if rest.len() >= length {
                    return self.found(self.taken..self.taken + length, order);
                }
            }
            if self.done {
                return Need::Nothing;
            }
            let Some(link) = crew.links.get_mut(self.link) else { return self.lost(item, None) };
            match link.connection.piece() {
                Ok(Some(Piece::Rows(range, _))) => {
                    self.bytes.drain(..self.taken);
                    self.taken = 0;
                    self.bytes.extend_from_slice(link.connection.bytes(range));
                }
                Ok(Some(Piece::Message(kind, range))) => match kind {
                    b'C' => self.done = true,
                    b'E' => {
                        let error = link.connection.bytes(range).to_vec();
                        if is_fatal(&error) {
                            return self.lost(item, Some(error));
                        }
                        link.spoiled = true;
                        link.skips = true;
                        return Need::Failed(crew.client.in_its_words(error));
                    }
                    b'N' | b'A' => {
                        let bytes = link.connection.bytes(range).to_vec();
                        crew.client.push(&bytes);
                    }
                    b'S' => {}
                    _ => return self.lost(item, None),
                },
                Ok(None) => return Need::More,
                Err(error) => {
                    tracing::warn!(%error, "a server connection is of no more use");
                    return self.lost(item, None);
                }
            }
        }
    }

    fn lost(&self, item: usize, last_words: Option<Vec<u8>>) -> Need {
        Need::Lost(Lost::Server { link: self.link, item, last_words, within_row: false })
    }

    /// Takes note of the next row. It must not come before the last one: the server would order otherwise than we do.
    fn found(&mut self, row: Range<usize>, order: &Order) -> Need {
        let bytes = self.bytes.get(row.clone()).unwrap_or_default();
        let count = bytes.get(5..).and_then(|it| it.first_chunk::<2>()).map_or(0, |it| u16::from_be_bytes(*it));
        let shown = usize::from(count).saturating_sub(order.keys.len());
        let mut rest = bytes.get(7..).unwrap_or_default();
        for _ in 0..shown {
            (_, rest) = cell(rest);
        }
        if let Some(before) = &self.before
            && order.compare(before, rest) == Ordering::Greater
        {
            tracing::error!(link = self.link, "rows that were to be in order are not");
            return Need::Lost(Lost::Violation(ClientError::unsupported(
                "this ORDER BY across shards is not supported: a shard's rows came in another order",
                "Set shardway.strategy to gather, and report this.",
            )));
        }
        let keys = row.end - rest.len();
        self.head = Some((row, keys));
        Need::Nothing
    }

    /// Appends the next row without its keys.
    fn show(&self, order: &Order, out: &mut Vec<u8>) {
        let Some((row, keys)) = &self.head else { return };
        let bytes = self.bytes.get(row.clone()).unwrap_or_default();
        if order.keys.is_empty() {
            out.extend_from_slice(bytes);
            return;
        }
        let count = bytes.get(5..).and_then(|it| it.first_chunk::<2>()).map_or(0, |it| u16::from_be_bytes(*it));
        let shown = count.saturating_sub(u16::try_from(order.keys.len()).unwrap_or(u16::MAX));
        say::message(out, b'D', |out| {
            out.extend_from_slice(&shown.to_be_bytes());
            out.extend_from_slice(self.bytes.get(row.start + 7..*keys).unwrap_or_default());
        });
    }

    /// Goes on to what is behind the next row.
    fn take(&mut self) {
        let Some((row, keys)) = self.head.take() else { return };
        let before = self.before.get_or_insert_default();
        before.clear();
        before.extend_from_slice(self.bytes.get(keys..row.end).unwrap_or_default());
        self.taken = row.end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(weight: i16, sign: u16, digits: &[u16]) -> Vec<u8> {
        let mut bytes = u16::try_from(digits.len()).expect("few").to_be_bytes().to_vec();
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend([0, 0]);
        digits.iter().for_each(|it| bytes.extend(it.to_be_bytes()));
        bytes
    }

    #[test]
    fn values_compare_as_a_server_compares_them() {
        let numerics = [
            numeric(0, 0xF000, &[]),
            numeric(1, 0x4000, &[1, 5000]),
            numeric(0, 0x4000, &[7]),
            numeric(-1, 0x4000, &[5000]),
            numeric(0, 0, &[]),
            numeric(-2, 0, &[1]),
            numeric(-1, 0, &[5000]),
            numeric(0, 0, &[7]),
            numeric(0, 0, &[7, 1]),
            numeric(1, 0, &[1]),
            numeric(0, 0xD000, &[]),
            numeric(0, 0xC000, &[]),
        ];
        for (a, left) in numerics.iter().enumerate() {
            for (b, right) in numerics.iter().enumerate() {
                assert_eq!(Compare::Numeric.compare(left, right), a.cmp(&b), "{a} {b}");
            }
        }
        let floats = [f64::NEG_INFINITY, -1.5, 0.0, 2.0, f64::INFINITY, f64::NAN].map(f64::to_be_bytes);
        for (a, left) in floats.iter().enumerate() {
            for (b, right) in floats.iter().enumerate() {
                assert_eq!(Compare::Float.compare(left, right), a.cmp(&b), "{a} {b}");
            }
        }
        let zeros = [0.0_f64, -0.0].map(f64::to_be_bytes);
        assert_eq!(Compare::Float.compare(&zeros[0], &zeros[1]), Ordering::Equal);
        for (a, b) in [(-5_i32, 3_i32), (-2, -1), (1, 256)] {
            assert_eq!(Compare::Signed.compare(&a.to_be_bytes(), &b.to_be_bytes()), Ordering::Less);
        }
    }

    #[test]
    fn nulls_and_directions_are_kept_apart() {
        let row = |value: Option<i32>| match value {
            Some(value) => [4_i32.to_be_bytes(), value.to_be_bytes()].concat(),
            None => (-1_i32).to_be_bytes().to_vec(),
        };
        for descending in [false, true] {
            for nulls_first in [false, true] {
                let keys = vec![Key { compare: Compare::Signed, descending, nulls_first }];
                let order = Order { keys, offset: 0, limit: u64::MAX };
                let numbers = order.compare(&row(Some(1)), &row(Some(2)));
                assert_eq!(numbers == Ordering::Greater, descending);
                assert_eq!(order.compare(&row(None), &row(Some(2))) == Ordering::Less, nulls_first);
                assert_eq!(order.compare(&row(Some(2)), &row(None)) == Ordering::Greater, nulls_first);
                assert_eq!(order.compare(&row(None), &row(None)), Ordering::Equal);
            }
        }
    }
}
