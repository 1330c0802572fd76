//! Answers of shards → the answer: values that are compared and added exactly as the servers do it, groups of groups.
//!
//! Of what a value is only the columns' own descriptions tell; what they leave open is not put together here.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::plan::At;
use crate::plan::By;
use crate::plan::Groups;
use crate::plan::Key;
use crate::plan::SortKey;
use crate::plan::Total;
use crate::plan::Unite;
use crate::wire::mysql::kind;
use crate::wire::mysql::result::Column;
use crate::wire::mysql::result::binary_row;
use crate::wire::mysql::result::put_binary_row;
use crate::wire::mysql::result::put_text_row;
use crate::wire::mysql::result::text_row;

/// A value that can be compared, or added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// An integer.
    Whole(i128),
    /// A decimal.
    Decimal(Decimal),
    /// Compared byte by byte.
    Bytes(Vec<u8>),
}

/// An exact decimal: its digits, so many of them behind the point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    scale: usize,
}

/// What the shards' rows are like, and what is to be made of them.
#[derive(Debug)]
pub(super) struct Merging<'a> {
    unite: &'a Unite,
    columns: &'a [Column],
    binary: bool,
    kinds: Vec<u8>,
    /// How many of the columns are the client's.
    shown: usize,
}

/// Groups while they come together.
#[derive(Debug, Default)]
pub(super) struct Grouping {
    rows: Vec<Vec<Option<Vec<u8>>>>,
    places: HashMap<Vec<u8>, usize>,
    bytes: usize,
}

/// What a row is compared by; `None` inside: NULL.
pub(super) type Sorting = Vec<Option<Cell>>;

impl<'a> Merging<'a> {
    /// Of rows with these columns; `None`: something in them is not known to be put together.
    #[must_use]
    pub(super) fn new(unite: &'a Unite, columns: &'a [Column], binary: bool) -> Option<Self> {
        let shown = columns.len().checked_sub(unite.how.hidden.len())?;
        let kinds = columns.iter().map(|it| it.kind).collect();
        let it = Self { unite, columns, binary, kinds, shown };
        let compares = |key: &Key| it.column(key.at).is_some_and(|column| key.by != By::Value || compares(column));
        let ordered = unite.how.order.iter().all(|by| compares(&by.key) || it.is_average(by.key.at));
        let grouped = unite.how.groups.as_ref().is_none_or(|groups| {
            groups.keys.iter().all(compares)
                && groups.averages.iter().all(|(at, ..)| it.is_average(At::Item(*at)))
                && groups.totals.iter().all(|put| {
                    let kind = it.column(put.at).map(|it| it.kind);
                    match put.total {
                        Total::Count | Total::And | Total::Or | Total::Xor => kind == Some(kind::LONGLONG),
                        Total::Sum => kind == Some(kind::NEW_DECIMAL),
                        Total::Least | Total::Most => compares(&put.by),
                        Total::Average => false,
                    }
                })
        });
        (ordered && grouped).then_some(it)
    }

    /// The columns that the client sees.
    #[must_use]
    pub(super) fn shown(&self) -> &'a [Column] {
        self.columns.get(..self.shown).unwrap_or_default()
    }

    fn place(&self, at: At) -> usize {
        match at {
            At::Item(place) => place,
            At::Hidden(place) => self.shown + place,
        }
    }

    fn column(&self, at: At) -> Option<&'a Column> {
        self.columns.get(self.place(at))
    }

    fn is_average(&self, at: At) -> bool {
        let averages = self.unite.how.groups.iter().flat_map(|it| &it.averages);
        averages.clone().any(|(of, ..)| At::Item(*of) == at)
            && self.column(at).is_some_and(|it| it.kind == kind::NEW_DECIMAL)
    }

    /// The cells of a row; `None`: it is none of these columns.
    #[must_use]
    pub(super) fn cells<'r>(&self, row: &'r [u8]) -> Option<Vec<Option<&'r [u8]>>> {
        if self.binary { binary_row(row, &self.kinds).ok() } else { text_row(row, self.kinds.len()).ok() }
    }

    /// The client's row of such cells.
    pub(super) fn put(&self, out: &mut Vec<u8>, cells: &[Option<&[u8]>]) {
        let cells = cells.get(..self.shown).unwrap_or_default();
        if self.binary {
            put_binary_row(out, self.kinds.get(..self.shown).unwrap_or_default(), cells);
        } else {
            put_text_row(out, cells.iter().copied());
        }
    }

    /// A value by which rows are told apart; `None`: it cannot be read.
    fn value(&self, key: &Key, cells: &[Option<&[u8]>]) -> Option<Option<Cell>> {
        let Some(bytes) = cells.get(self.place(key.at))? else { return Some(None) };
        Some(Some(match key.by {
            By::Value => Cell::read(bytes, self.column(key.at)?, self.binary)?,
            By::Weights(_) => Cell::Bytes(bytes.to_vec()),
            By::Ascii { .. } if !bytes.iter().all(|it| matches!(it, b' '..=b'~')) => return None,
            By::Ascii { folds: true, .. } => Cell::Bytes(bytes.to_ascii_uppercase()),
            By::Ascii { folds: false, .. } => Cell::Bytes(bytes.to_vec()),
        }))
    }

    /// What the answer is ordered by, of one row; `None`: it cannot be read.
    #[must_use]
    pub(super) fn sorting(&self, cells: &[Option<&[u8]>]) -> Option<Sorting> {
        self.unite.how.order.iter().map(|it| self.value(&it.key, cells)).collect()
    }

    /// Which of two rows comes first.
    #[must_use]
    pub(super) fn compare(&self, one: &Sorting, other: &Sorting) -> Ordering {
        ordered(one, other, &self.unite.how.order)
    }

    // ── groups ──

    /// Takes a shard's row in; how many bytes are held now. `None`: it cannot be put together with others.
    pub(super) fn take(&self, grouping: &mut Grouping, row: &[u8]) -> Option<usize> {
        let groups = self.unite.how.groups.as_ref()?;
        let cells = self.cells(row)?;
        let mut name = Vec::new();
        for key in &groups.keys {
            match self.value(key, &cells)? {
                None => name.push(0),
                Some(value) => value.name(key.pad(), &mut name),
            }
        }
        if let Some(known) = grouping.places.get(&name) {
            let known = grouping.rows.get_mut(*known)?;
            for put in &groups.totals {
                self.add(known, &cells, put.at, put.total, &put.by)?;
            }
            return Some(grouping.bytes);
        }
        grouping.bytes += row.len() + name.len() + ROW;
        grouping.places.insert(name, grouping.rows.len());
        grouping.rows.push(cells.into_iter().map(|it| it.map(<[u8]>::to_vec)).collect());
        Some(grouping.bytes)
    }

    fn add(
        &self,
        known: &mut [Option<Vec<u8>>],
        cells: &[Option<&[u8]>],
        at: At,
        total: Total,
        by: &Key,
    ) -> Option<()> {
        let place = self.place(at);
        let Some(more) = *cells.get(place)? else { return Some(()) };
        let column = self.column(at)?;
        let Some(had) = known.get(place)?.clone() else {
            *known.get_mut(place)? = Some(more.to_vec());
            let beside = self.place(by.at);
            *known.get_mut(beside)? = cells.get(beside)?.map(<[u8]>::to_vec);
            return Some(());
        };
        let read = |bytes: &[u8]| Cell::read(bytes, column, self.binary);
        let sum = match total {
            Total::Count | Total::And | Total::Or | Total::Xor => {
                let (Cell::Whole(a), Cell::Whole(b)) = (read(&had)?, read(more)?) else { return None };
                if total == Total::Count {
                    let count = i64::try_from(a + b).ok()?;
                    if self.binary { count.to_le_bytes().to_vec() } else { count.to_string().into_bytes() }
                } else {
                    let (a, b) = (u64::try_from(a).ok()?, u64::try_from(b).ok()?);
                    let bits = match total {
                        Total::And => a & b,
                        Total::Or => a | b,
                        _ => a ^ b,
                    };
                    if self.binary { bits.to_le_bytes().to_vec() } else { bits.to_string().into_bytes() }
                }
            }
            Total::Sum => {
                let (Cell::Decimal(a), Cell::Decimal(b)) = (read(&had)?, read(more)?) else { return None };
                let sum = a.plus(&b);
                if sum.digits.len() > DIGITS_MAX {
                    return None;
                }
                sum.to_string().into_bytes()
            }
            Total::Least | Total::Most => {
                let beside = self.place(by.at);
                let own: Vec<Option<&[u8]>> = known.iter().map(Option::as_deref).collect();
                let (a, b) = (self.value(by, &own)?, self.value(by, cells)?);
                let wanted = if total == Total::Least { Ordering::Less } else { Ordering::Greater };
                if b?.compare(&a?, by.pad()) == wanted {
                    *known.get_mut(beside)? = cells.get(beside)?.map(<[u8]>::to_vec);
                    *known.get_mut(place)? = Some(more.to_vec());
                }
                return Some(());
            }
            Total::Average => return None,
        };
        *known.get_mut(place)? = Some(sum);
        Some(())
    }

    /// The client's rows of all groups, in their order; `None`: they cannot be told.
    #[must_use]
    pub(super) fn finish(&self, grouping: Grouping) -> Option<Vec<Vec<u8>>> {
        let groups = self.unite.how.groups.as_ref()?;
        // Without another order it is that of what they have in common, as servers group.
        let keys: Vec<SortKey> = match self.unite.how.order.as_slice() {
            [] => groups.keys.iter().map(|it| SortKey { key: it.clone(), descending: false }).collect(),
            order => order.to_vec(),
        };
        let mut rows = Vec::with_capacity(grouping.rows.len());
        for mut cells in grouping.rows {
            self.average(groups, &mut cells)?;
            let cells: Vec<Option<&[u8]>> = cells.iter().map(Option::as_deref).collect();
            let sorting: Sorting = keys.iter().map(|it| self.value(&it.key, &cells)).collect::<Option<_>>()?;
            let mut row = Vec::new();
            self.put(&mut row, &cells);
            rows.push((sorting, row));
        }
        rows.sort_by(|(one, _), (other, _)| ordered(one, other, &keys));
        let left = usize::try_from(self.unite.offset).unwrap_or(usize::MAX);
        let limit = self.unite.limit.and_then(|it| usize::try_from(it).ok()).unwrap_or(usize::MAX);
        Some(rows.into_iter().skip(left).take(limit).map(|(_, row)| row).collect())
    }

    /// Divides sums by counts, as servers do: the quotient has as many digits as groups of nine hold, and is then rounded.
    fn average(&self, groups: &Groups, cells: &mut [Option<Vec<u8>>]) -> Option<()> {
        for (of, sum, count) in &groups.averages {
            let own = self.columns.get(*of)?;
            let scale = usize::from(self.column(*sum)?.decimals);
            let total = match cells.get(self.place(*sum))? {
                None => None,
                Some(bytes) => Some(Decimal::read(bytes)?),
            };
            let count = match cells.get(self.place(*count))? {
                None => 0,
                Some(bytes) => match Cell::read(bytes, self.column(*count)?, self.binary)? {
                    Cell::Whole(count) => u64::try_from(count).ok()?,
                    _ => return None,
                },
            };
            *cells.get_mut(*of)? = match total.filter(|_| count > 0) {
                None => None,
                Some(total) => Some(total.divided(count, scale, usize::from(own.decimals))?.to_string().into_bytes()),
            };
        }
        Some(())
    }
}

impl Grouping {
    /// How many there are.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

fn ordered(one: &Sorting, other: &Sorting, keys: &[SortKey]) -> Ordering {
    for ((a, b), by) in one.iter().zip(other).zip(keys) {
        // NULL is less than all.
        let ordering = match (a, b) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => a.compare(b, by.key.pad()),
        };
        if ordering != Ordering::Equal {
            return if by.descending { ordering.reverse() } else { ordering };
        }
    }
    Ordering::Equal
}

/// Whether values of that column are ordered as [`Cell`] orders them.
fn compares(column: &Column) -> bool {
    /// ENUM and SET are ordered by their numbers.
    const NUMBERED: u16 = 256 | 2048;
    match column.kind {
        kind::TINY
        | kind::SHORT
        | kind::LONG
        | kind::LONGLONG
        | kind::INT24
        | kind::NEW_DECIMAL
        | kind::DATE
        | kind::DATETIME => true,
        kind::VAR_STRING => column.collation == BINARY && column.flags & NUMBERED == 0,
        _ => false,
    }
}

impl Cell {
    fn read(bytes: &[u8], column: &Column, binary: bool) -> Option<Self> {
        /// UNSIGNED.
        const UNSIGNED: u16 = 32;
        match column.kind {
            kind::NEW_DECIMAL => Decimal::read(bytes).map(Self::Decimal),
            kind::TINY | kind::SHORT | kind::LONG | kind::LONGLONG | kind::INT24 if binary => {
                let length = if column.kind == kind::INT24 { 3 } else { bytes.len() };
                let unsigned = column.flags & UNSIGNED != 0;
                let bytes = bytes.get(..length)?;
                let negative = !unsigned && bytes.last().is_some_and(|it| it & 0x80 != 0);
                let mut all = [if negative { 0xff } else { 0 }; 16];
                all.get_mut(..length)?.copy_from_slice(bytes);
                Some(Self::Whole(i128::from_le_bytes(all)))
            }
            kind::TINY | kind::SHORT | kind::LONG | kind::LONGLONG | kind::INT24 => {
                std::str::from_utf8(bytes).ok()?.parse().ok().map(Self::Whole)
            }
            // Year, month, day, hour, minute, second, millionths; what is left out is zero.
            kind::DATE | kind::DATETIME if binary => {
                let mut all = [0_u8; 11];
                all.get_mut(..bytes.len())?.copy_from_slice(bytes);
                let [a, b, month, day, hour, minute, second, w, x, y, z] = all;
                Some(Self::Bytes(vec![b, a, month, day, hour, minute, second, z, y, x, w]))
            }
            // As text they are of one length, the greatest parts first.
            kind::DATE | kind::DATETIME | kind::VAR_STRING => Some(Self::Bytes(bytes.to_vec())),
            _ => None,
        }
    }

    fn compare(&self, other: &Self, pad: &[u8]) -> Ordering {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(b),
            (Self::Decimal(a), Self::Decimal(b)) => a.compare(b),
            (Self::Bytes(a), Self::Bytes(b)) => compare(a, b, pad),
            // Of one column all are alike.
            _ => Ordering::Equal,
        }
    }

    /// The same bytes for what compares as equal, and others for what does not; none begins like another.
    fn name(&self, pad: &[u8], out: &mut Vec<u8>) {
        out.push(1);
        match self {
            Self::Whole(value) => out.extend_from_slice(&value.to_le_bytes()),
            Self::Decimal(value) => {
                let own = value.digits.len() - value.scale;
                let whole = value.digits.iter().take(own).skip_while(|it| **it == 0);
                let part = value.digits.get(own..).unwrap_or_default();
                let part = part.iter().rposition(|it| *it != 0).and_then(|it| part.get(..=it)).unwrap_or_default();
                let zero = value.digits.iter().all(|it| *it == 0);
                out.push(if value.negative && !zero { b'-' } else { b'+' });
                out.extend(whole);
                out.push(b'.');
                out.extend_from_slice(part);
                out.push(b'.');
            }
            Self::Bytes(bytes) => {
                let mut bytes = bytes.as_slice();
                while !pad.is_empty()
                    && let Some(shorter) = bytes.strip_suffix(pad)
                {
                    bytes = shorter;
                }
                out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
                out.extend_from_slice(bytes);
            }
        }
    }
}

/// Compares bytes, the shorter ones filled up.
fn compare(a: &[u8], b: &[u8], pad: &[u8]) -> Ordering {
    if pad.is_empty() {
        return a.cmp(b);
    }
    let common = a.len().min(b.len());
    let (head_a, rest_a) = a.split_at(common);
    let (head_b, rest_b) = b.split_at(common);
    let against = |rest: &[u8]| rest.iter().copied().cmp(pad.iter().copied().cycle().take(rest.len()));
    head_a.cmp(head_b).then_with(|| if rest_b.is_empty() { against(rest_a) } else { against(rest_b).reverse() })
}

impl Decimal {
    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |it| (true, it));
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits: Vec<u8> = whole.bytes().chain(part.bytes()).map(|it| it.wrapping_sub(b'0')).collect();
        let fits = !digits.is_empty() && digits.iter().all(|it| *it < 10);
        fits.then_some(Self { negative, digits, scale: part.len() })
    }

    /// The digits with so many before and behind the point.
    fn spread(&self, whole: usize, scale: usize) -> Vec<u8> {
        let own = self.digits.len() - self.scale;
        let mut digits = vec![0; whole.saturating_sub(own)];
        digits.extend_from_slice(&self.digits);
        digits.resize(digits.len() + scale.saturating_sub(self.scale), 0);
        digits
    }

    fn aligned(&self, other: &Self) -> (Vec<u8>, Vec<u8>, usize) {
        let whole = (self.digits.len() - self.scale).max(other.digits.len() - other.scale) + 1;
        let scale = self.scale.max(other.scale);
        (self.spread(whole, scale), other.spread(whole, scale), scale)
    }

    fn compare(&self, other: &Self) -> Ordering {
        let (a, b, _) = self.aligned(other);
        let zero = |it: &[u8]| it.iter().all(|digit| *digit == 0);
        match (self.negative && !zero(&a), other.negative && !zero(&b)) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => a.cmp(&b),
            (true, true) => b.cmp(&a),
        }
    }

    fn plus(&self, other: &Self) -> Self {
        let (a, b, scale) = self.aligned(other);
        let (negative, digits) = if self.negative == other.negative {
            (self.negative, added(&a, &b))
        } else if a >= b {
            (self.negative, taken(&a, &b))
        } else {
            (other.negative, taken(&b, &a))
        };
        // One digit before the point stays.
        let most = digits.len().saturating_sub(scale + 1);
        let zeros = digits.iter().take(most).take_while(|it| **it == 0).count();
        let digits = digits.get(zeros..).unwrap_or_default().to_vec();
        let negative = negative && digits.iter().any(|it| *it != 0);
        Self { negative, digits, scale }
    }

    /// The quotient as a server computes it: `scale` digits were behind the point, so many are shown.
    fn divided(&self, count: u64, scale: usize, shown: usize) -> Option<Self> {
        // Beyond, how many digits were asked for is not known any more.
        if self.scale > scale || shown < scale || shown >= SCALE_MAX {
            return None;
        }
        let groups = |digits: usize| digits.div_ceil(GROUP) * GROUP;
        let held = groups(scale);
        let computed = groups(held + (shown - scale).saturating_sub(held - scale));
        let mut digits = self.spread(0, scale);
        digits.resize(digits.len() + computed.checked_sub(scale)?, 0);
        let mut rest = 0_u128;
        for digit in &mut digits {
            rest = rest * 10 + u128::from(*digit);
            *digit = u8::try_from(rest / u128::from(count)).ok()?;
            rest %= u128::from(count);
        }
        // Away from zero where half or more is cut off.
        let kept = digits.len() - (computed.checked_sub(shown)?);
        let up = digits.get(kept).is_some_and(|it| *it >= 5);
        digits.truncate(kept);
        let mut one = vec![0; kept + 1];
        if let Some(last) = one.last_mut() {
            *last = u8::from(up);
        }
        digits.insert(0, 0);
        let digits = added(&digits, &one);
        let most = digits.len().saturating_sub(shown + 1);
        let zeros = digits.iter().take(most).take_while(|it| **it == 0).count();
        let digits = digits.get(zeros..)?.to_vec();
        let negative = self.negative && digits.iter().any(|it| *it != 0);
        Some(Self { negative, digits, scale: shown })
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        if self.negative {
            f.write_char('-')?;
        }
        let point = self.digits.len() - self.scale;
        for (place, digit) in self.digits.iter().enumerate() {
            if place == point {
                f.write_char('.')?;
            }
            f.write_char(char::from(b'0' + digit))?;
        }
        Ok(())
    }
}

/// The sum of digits; there is room for it.
fn added(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let mut digits: Vec<u8> = a
        .iter()
        .zip(b)
        .rev()
        .map(|(x, y)| {
            let sum = x + y + carry;
            carry = sum / 10;
            sum % 10
        })
        .collect();
    digits.reverse();
    digits
}

/// The difference of digits, of which the second are no more.
fn taken(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut digits: Vec<u8> = a
        .iter()
        .zip(b)
        .rev()
        .map(|(x, y)| {
            let (x, y) = (*x, y + borrow);
            borrow = u8::from(x < y);
            x + 10 * borrow - y
        })
        .collect();
    digits.reverse();
    digits
}

/// The number of the collation of bytes.
const BINARY: u16 = 63;

/// How many digits a decimal of the servers has at most.
const DIGITS_MAX: usize = 65;

/// How many digits behind the point it has at most.
const SCALE_MAX: usize = 38;

/// How many digits servers compute at once.
const GROUP: usize = 9;

/// What a group costs besides its bytes, roughly.
const ROW: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn decimals_are_added_to_the_last_digit() {
        for (a, b, sum) in [
            ("1.10", "20.05", "21.15"),
            ("-1.10", "0.10", "-1.00"),
            ("0.00", "0.00", "0.00"),
            ("-5.25", "5.25", "0.00"),
            ("99999999999999999999999999999999.99", "0.01", "100000000000000000000000000000000.00"),
            ("5", "-7", "-2"),
            ("10", "-9", "1"),
            ("-3", "-4", "-7"),
        ] {
            assert_eq!(decimal(a).plus(&decimal(b)).to_string(), sum, "{a} + {b}");
            assert_eq!(decimal(b).plus(&decimal(a)).to_string(), sum, "{b} + {a}");
        }
    }

    #[test]
    fn decimals_are_ordered_by_value() {
        let sorted = ["-10.5", "-2.00", "-0.01", "0.00", "0.5", "3", "20.10"];
        for (place, a) in sorted.iter().enumerate() {
            for (other, b) in sorted.iter().enumerate() {
                assert_eq!(decimal(a).compare(&decimal(b)), place.cmp(&other), "{a} {b}");
            }
        }
        assert_eq!(decimal("-0.00").compare(&decimal("0")), Ordering::Equal);
    }

    #[test]
    fn shorter_texts_are_filled_up() {
        assert_eq!(compare(b"A", b"A ", b" "), Ordering::Equal);
        assert_eq!(compare(b"A", b"A\t", b" "), Ordering::Greater);
        assert_eq!(compare(b"A", b"AB", b" "), Ordering::Less);
        assert_eq!(compare(b"A", b"A ", b""), Ordering::Less);
        assert_eq!(compare(&[0, 0x41], &[0, 0x41, 0, 0x20, 0, 0x20], &[0, 0x20]), Ordering::Equal);
    }

    #[test]
    fn numbers_and_dates_are_read_in_both_forms() {
        let column = |kind, flags| Column { kind, flags, collation: 63, ..Column::default() };
        let read = |bytes: &[u8], column: &Column, binary| Cell::read(bytes, column, binary);
        assert_eq!(read(b"-7", &column(kind::LONG, 0), false), Some(Cell::Whole(-7)));
        assert_eq!(read(&[0xf9, 0xff, 0xff, 0xff], &column(kind::LONG, 0), true), Some(Cell::Whole(-7)));
        assert_eq!(read(&[0xff; 8], &column(kind::LONGLONG, 32), true), Some(Cell::Whole(u64::MAX.into())));
        let date = |bytes: &[u8]| read(bytes, &column(kind::DATETIME, 0), true).unwrap();
        assert_eq!(date(&[0xe4, 7, 2, 29]).compare(&date(&[0xe4, 7, 2, 29, 0, 0, 1]), &[]), Ordering::Less);
        assert_eq!(date(&[0xff, 7, 2, 29]).compare(&date(&[0x00, 8, 1, 1]), &[]), Ordering::Less);
        assert_eq!(read(b"1.5", &column(kind::DOUBLE, 0), false), None);
    }

    #[test]
    fn quotients_have_the_digits_that_a_server_computes() {
        // What MariaDB says to AVG of such columns.
        for (sum, count, scale, shown, quotient) in [
            ("10", 3, 0, 4, "3.3333"),
            ("20", 3, 0, 4, "6.6667"),
            ("-20", 3, 0, 4, "-6.6667"),
            ("0", 3, 0, 4, "0.0000"),
            ("1", 100_000, 0, 4, "0.0000"),
            ("-1", 100_000, 0, 4, "0.0000"),
            ("2.00", 3, 2, 6, "0.666667"),
            // Nine digits are computed, and none is left to round by.
            ("2.00000", 3, 5, 9, "0.666666666"),
            ("2.000000", 3, 6, 10, "0.6666666667"),
            ("199998", 2, 0, 4, "99999.0000"),
        ] {
            let found = decimal(sum).divided(count, scale, shown).unwrap();
            assert_eq!(found.to_string(), quotient, "{sum} / {count}");
        }
        assert_eq!(decimal("1").divided(3, 38, 38), None);
    }

    #[test]
    fn what_compares_as_equal_has_one_name() {
        let name = |cell: Cell, pad: &[u8]| {
            let mut out = Vec::new();
            cell.name(pad, &mut out);
            out
        };
        let of = |text: &str| name(Cell::Decimal(decimal(text)), &[]);
        assert!(of("1.50") == of("01.5") && of("-0.00") == of("0") && of("1.05") != of("10.5") && of("-1") != of("1"));
        let of = |text: &[u8], pad| name(Cell::Bytes(text.to_vec()), pad);
        assert!(of(b"A ", b" ") == of(b"A", b" ") && of(b"A ", b"") != of(b"A", b""));
    }
}
