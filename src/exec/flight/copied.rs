//! COPY … TO STDOUT of several servers as that of one: what stands before the rows is the first one's, what stands behind
//! them the last one's.
//!
//! A server sends each row, and the line of names before them, in a CopyData message of its own; what begins binary data
//! comes in the same message as the first row.

use std::ops::Range;

/// What binary data begins with: a signature, flags, and how long the extension is that follows.
const HEAD: usize = 19;
/// What binary data ends with.
const TRAILER: [u8; 2] = [0xff, 0xff];
/// CopyData: type and length.
const FRAME: usize = 5;

/// Cuts the data of one server to what of it belongs into the whole.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    binary: bool,
    /// It is that of the first server, of the last one.
    first: bool,
    last: bool,
    /// The first message is still to come, or in `pending`.
    begins: bool,
    /// The first message of binary data, as far as it has come.
    pending: Vec<u8>,
    /// What of a message is still to come, in bytes.
    left: usize,
    /// The message in question goes to the client.
    keeps: bool,
}

/// What goes to the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Bytes of the server's, as they stand.
    Same(Range<usize>),
    /// In the place of others.
    Other(Vec<u8>),
}

impl Cutter {
    /// For a server that has said how it sends its rows (CopyOutResponse); `None`: all that it sends belongs there.
    pub(super) fn new(response: &[u8], headed: bool, first: bool, last: bool) -> Option<Self> {
        let binary = response.get(FRAME) == Some(&1);
        let cuts = (binary && !(first && last)) || (headed && !first);
        cuts.then(|| Self { binary, first, last, begins: binary || (headed && !first), ..Self::default() })
    }

    /// Whether the client has a part of a message whose rest has not come.
    pub(super) fn is_within(&self) -> bool {
        self.left > 0 && self.keeps
    }

    /// Takes in what has come: whole messages, or a part of one. `range` is where `bytes` stand.
    pub(super) fn cut(&mut self, bytes: &[u8], range: &Range<usize>, mut give: impl FnMut(Part)) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|it| !it.is_empty()) {
            let same = |part: usize| Part::Same(range.start + at..range.start + at + part);
            if self.left > 0 {
                let part = self.left.min(rest.len());
                self.left -= part;
                if self.begins {
                    self.pending.extend_from_slice(rest.get(..part).unwrap_or_default());
                    self.head(&mut give);
                } else if self.keeps {
                    give(same(part));
                }
                at += part;
                continue;
            }
            let length =
                rest.get(1..FRAME).and_then(|it| it.first_chunk::<4>()).map_or(0, |it| u32::from_be_bytes(*it));
            let total = length as usize + 1;
            let part = total.min(rest.len());
            self.left = total - part;
            self.keeps = true;
            let message = rest.get(..part).unwrap_or_default();
            if self.begins && self.binary {
                self.pending.extend_from_slice(message);
                self.head(&mut give);
            } else if self.begins {
                self.begins = false;
                self.keeps = false;
            } else if self.binary && !self.last && self.left == 0 && message.get(FRAME..) == Some(&TRAILER) {
                self.keeps = false;
            } else {
                give(same(part));
            }
            at += part;
        }
    }

    /// Looks at the first message, if enough of it has come.
    fn head(&mut self, give: &mut impl FnMut(Part)) {
        let body = self.pending.get(FRAME..).unwrap_or_default();
        let extension = body.get(HEAD - 4..).and_then(|it| it.first_chunk::<4>());
        let head = extension.map_or(usize::MAX, |it| HEAD.saturating_add(u32::from_be_bytes(*it) as usize));
        if self.left > 0 && body.len() <= head {
            return;
        }
        self.begins = false;
        let (head, row) = body.split_at_checked(head).unwrap_or((body, &[]));
        let head = if self.first { head } else { &[] };
        let row = if !self.last && self.left == 0 && row == TRAILER { &[] } else { row };
        let length = 4 + head.len() + row.len() + self.left;
        if length > 4 {
            let mut message = vec![b'd'];
            message.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
            message.extend_from_slice(head);
            message.extend_from_slice(row);
            give(Part::Other(message));
        }
        self.pending = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [b"d", &length[..], body].concat()
    }

    fn head() -> Vec<u8> {
        [&b"PGCOPY\n\xff\r\n\0"[..], &[0; 4], &[0, 0, 0, 3], b"ext"].concat()
    }

    /// What comes of one server's messages: short ones come whole, others in parts of `step` bytes, frames whole.
    fn cut(binary: bool, headed: bool, ends: (bool, bool), messages: &[Vec<u8>], step: usize) -> Vec<u8> {
        let response = [b'H', 0, 0, 0, 7, u8::from(binary), 0, 0];
        let Some(mut cutter) = Cutter::new(&response, headed, ends.0, ends.1) else { return messages.concat() };
        let mut out = Vec::new();
        for message in messages {
            let mut at = 0;
            while at < message.len() {
                let part = if message.len() < 40 { message.len() } else { step.max(FRAME) };
                let end = (at + part).min(message.len());
                let bytes = &message[at..end];
                cutter.cut(bytes, &(0..bytes.len()), |part| match part {
                    Part::Same(range) => out.extend_from_slice(&bytes[range]),
                    Part::Other(other) => out.extend_from_slice(&other),
                });
                at = end;
            }
            assert!(!cutter.is_within());
        }
        out
    }

    #[test]
    fn names_are_told_once() {
        let (names, row) = (data(b"id,note\n"), data(b"1,a\n"));
        for step in [1, 6, 100] {
            let all = [names.clone(), row.clone(), row.clone()];
            assert_eq!(cut(false, true, (true, false), &all, step), all.concat());
            assert_eq!(cut(false, true, (false, true), &all, step), [&row[..], &row].concat());
            assert_eq!(cut(false, true, (false, false), &all[..1], step), b"");
            assert_eq!(cut(false, false, (false, false), &all, step), all.concat());
        }
    }

    #[test]
    fn binary_data_begins_once_and_ends_once() {
        let row = [0, 1, 0, 0, 0, 1, b'x'];
        let long = [&[0, 1, 0, 0, 0, 40][..], &[b'y'; 40]].concat();
        let first = data(&[&head()[..], &row].concat());
        let (other, end, empty) = (data(&row), data(&TRAILER), data(&[&head()[..], &TRAILER].concat()));
        for step in [1, 6, 25, 100] {
            let all = [data(&[&head()[..], &long].concat()), data(&long), end.clone()];
            assert_eq!(cut(true, false, (true, false), &all, step), all[..2].concat());
            assert_eq!(cut(true, false, (false, false), &all, step), [data(&long), data(&long)].concat());
            let all = [first.clone(), other.clone(), end.clone()];
            assert_eq!(cut(true, false, (true, false), &all, step), [&first[..], &other].concat());
            assert_eq!(cut(true, false, (false, false), &all, step), [&other[..], &other].concat());
            assert_eq!(cut(true, false, (false, true), &all, step), [&other[..], &other, &end].concat());
            assert_eq!(cut(true, false, (true, true), &all, step), all.concat());
            let all = [empty.clone()];
            assert_eq!(cut(true, false, (true, false), &all, step), data(&head()));
            assert_eq!(cut(true, false, (false, false), &all, step), b"");
            assert_eq!(cut(true, false, (false, true), &all, step), end);
        }
    }
}
