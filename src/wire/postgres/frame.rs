//! A stream of bytes → where each message begins and ends.
//!
//! Bodies are not read here, and those that stream by are never buffered. [`head`] and [`cut`] are for what clients
//! send; [`Scan`] is for what servers send. Both check every length before anybody waits or reserves memory for it.

use crate::error::ClientError;
use crate::error::Code;

/// How the stream broke the protocol's rules. Nothing after it can be understood: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A type byte that this side never sends.
    #[error("invalid message type {kind}")]
    UnknownType {
        /// The byte.
        kind: u8,
    },
    /// A length that cannot be: shorter than itself, or not the one that the type has.
    #[error("invalid length {length} of a message of type {kind}")]
    Length {
        /// The type byte; 0 for a startup packet.
        kind: u8,
        /// The length as it stood in the header.
        length: i32,
    },
    /// A length beyond a limit.
    #[error("a message of type {kind} is {length} bytes long, the limit is {limit}")]
    TooLong {
        /// The type byte; 0 for a startup packet.
        kind: u8,
        /// The body's length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A body that is not as its type demands.
    #[error("a {message} message {why}")]
    Body {
        /// The type.
        message: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A zero byte within a string.
    #[error("a string holds a zero byte")]
    ZeroByte,
    /// More items than a count can say.
    #[error("{count} items in one message, the limit is 65535")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A major version of the protocol that is not spoken here.
    #[error("unsupported frontend protocol {major}.{minor}: server supports 3.0")]
    Version {
        /// Before the point.
        major: u16,
        /// After it.
        minor: u16,
    },
}

impl From<Violation> for ClientError {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::TooLong { .. } | Violation::TooMany { .. } => Self::new(
                Code::TooLarge,
                violation,
                "Send less in one message, or raise limits.message in the shard map.",
            ),
            Violation::Version { .. } => {
                Self::new(Code::Unsupported, violation, "Use a driver that speaks version 3 of the protocol.")
            }
            Violation::UnknownType { .. } | Violation::Length { .. } | Violation::Body { .. } | Violation::ZeroByte => {
                Self::new(
                    Code::ProtocolViolation,
                    violation,
                    "The connection ends here; connect again, and look for a fault in the driver or between it and the proxy.",
                )
            }
        }
    }
}

/// Type byte and length.
pub const HEADER: usize = 5;

/// The beginning of a message from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The type byte.
    pub kind: u8,
    /// The body's length.
    pub body: usize,
}

impl Head {
    /// The whole frame's length.
    #[must_use]
    pub fn frame(&self) -> usize {
        // `body` came from an i32, so this cannot wrap where usize has 64 bits; it saturates elsewhere.
        self.body.saturating_add(HEADER)
    }
}

/// One message, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type byte.
    pub kind: u8,
    /// What stands behind the length.
    pub body: &'a [u8],
    /// All of it, as it is forwarded.
    pub bytes: &'a [u8],
}

/// Reads the header of a client's message. `None`: fewer than five bytes are there.
///
/// # Errors
/// A type that clients do not send, a length that cannot be, a body beyond `limit` or beyond what its type may have.
#[inline]
pub fn head(bytes: &[u8], limit: usize) -> Result<Option<Head>, Violation> {
    // The type is looked at as soon as it is there: nobody waits for the length of nonsense.
    let Some(&kind) = bytes.first() else { return Ok(None) };
    let most = match kind {
        b'Q' | b'P' | b'B' | b'd' | b'F' => limit,
        b'D' | b'C' | b'E' | b'f' => limit.min(SMALL_MAX),
        b'p' => limit.min(PASSWORD_MAX),
        b'S' | b'H' | b'X' | b'c' => 0,
        _ => return Err(Violation::UnknownType { kind }),
    };
    let Some(&[_, a, b, c, d]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let length = i32::from_be_bytes([a, b, c, d]);
    let body = body_length(kind, length)?;
    if body > most {
        // What may have no body at all is malformed rather than long.
        return Err(if most == 0 {
            Violation::Length { kind, length }
        } else {
            Violation::TooLong { kind, length: body, limit: most }
        });
    }
    Ok(Some(Head { kind, body }))
}

/// Cuts the first message off a client's bytes. `None`: it is not whole yet.
///
/// # Errors
/// As [`head`].
///
/// ```
/// use shardway::wire::postgres::frame;
/// let bytes = b"Q\0\0\0\x0dSELECT 1\0S\0\0";
/// let first = frame::cut(bytes, 1024)?.expect("all of it is there");
/// assert_eq!((first.kind, first.body), (b'Q', &b"SELECT 1\0"[..]));
/// assert_eq!(frame::cut(&bytes[first.bytes.len()..], 1024)?, None);
/// # Ok::<(), frame::Violation>(())
/// ```
#[inline]
pub fn cut(bytes: &[u8], limit: usize) -> Result<Option<Frame<'_>>, Violation> {
    let Some(head) = head(bytes, limit)? else { return Ok(None) };
    let Some(bytes) = bytes.get(..head.frame()) else { return Ok(None) };
    let body = bytes.get(HEADER..).expect("a frame is at least as long as its header");
    Ok(Some(Frame { kind: head.kind, body, bytes }))
}

#[inline]
fn body_length(kind: u8, length: i32) -> Result<usize, Violation> {
    usize::try_from(length).ok().and_then(|it| it.checked_sub(4)).ok_or(Violation::Length { kind, length })
}

/// A set of type bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds([u64; 2]);

impl Kinds {
    /// The set without any.
    pub const NONE: Self = Self([0; 2]);
    /// What makes up the bulk of a result, which nobody needs to see one by one: rows and COPY data.
    pub const BULK: Self = Self::of(b"Dd");
    /// Everything that is small and may matter to who forwards a reply.
    pub const NOTABLE: Self = Self::of(b"ENSTCKRtGHWAZ");
    /// Everything a Postgres server sends.
    pub const SERVER: Self = Self::of(b"RSKENATDCZ123nsItdcGHWVv");

    /// The set of these, which must be ASCII, as all type bytes are.
    #[must_use]
    pub const fn of(kinds: &[u8]) -> Self {
        let [mut low, mut high] = [0; 2];
        let mut rest = kinds;
        while let [kind, tail @ ..] = rest {
            match *kind {
                0..64 => low |= 1 << *kind,
                64..128 => high |= 1 << (*kind - 64),
                128.. => {}
            }
            rest = tail;
        }
        Self([low, high])
    }

    /// The set and these.
    #[must_use]
    pub const fn and(self, kinds: &[u8]) -> Self {
        let (Self([low, high]), Self([more_low, more_high])) = (self, Self::of(kinds));
        Self([low | more_low, high | more_high])
    }

    /// The set less these.
    #[must_use]
    pub const fn without(self, kinds: &[u8]) -> Self {
        let (Self([low, high]), Self([less_low, less_high])) = (self, Self::of(kinds));
        Self([low & !less_low, high & !less_high])
    }

    /// Says whether `kind` is in it.
    #[inline]
    #[must_use]
    pub const fn has(self, kind: u8) -> bool {
        let Self([low, high]) = self;
        let half = if kind < 64 { low } else { high };
        kind < 128 && half >> (kind & 63) & 1 != 0
    }
}

/// Finds the messages in what a server sends, without holding any of it.
///
/// The caller keeps the buffer. [`Scan::next`] walks it with a cursor; what lies before the cursor has been looked at and
/// may be forwarded and dropped, what lies behind it (a header cut in two, a message that was asked for whole) stays
/// until more has been read behind it. Bodies that stream may be forwarded in pieces: the scanner only counts.
#[derive(Clone, Debug)]
pub struct Scan {
    skip: Kinds,
    whole: Kinds,
    whole_max: usize,
    inside: usize,
    missing: usize,
}

/// One message that a server began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'b> {
    /// The type byte.
    pub kind: u8,
    /// Where its type byte stands in the buffer.
    pub start: usize,
    /// The length of the frame, header included; its end may lie beyond the buffer.
    pub length: usize,
    /// The body, if all of it is in the buffer.
    pub body: Option<&'b [u8]>,
}

impl Seen<'_> {
    /// The transaction status of a `ReadyForQuery`: `I`, `T` or `E`.
    #[must_use]
    pub fn status(&self) -> Option<u8> {
        match (self.kind, self.body) {
            (b'Z', Some([status])) => Some(*status),
            _ => None,
        }
    }
}

impl Scan {
    /// A scanner at the start of a message.
    ///
    /// Types in `skip` are counted and not reported. Types in `whole` are reported once all of the body is in the
    /// buffer, unless it is longer than `whole_max`: then at once, without it. Others are reported at once.
    #[must_use]
    pub fn new(skip: Kinds, whole: Kinds, whole_max: usize) -> Self {
        Self { skip: skip.without(b"Z"), whole: whole.and(b"Z"), whole_max, inside: 0, missing: 0 }
    }

    /// The scanner for forwarding: rows are skipped, small messages come whole.
    #[must_use]
    pub fn forwarding() -> Self {
        Self::new(Kinds::BULK, Kinds::NOTABLE, WHOLE_MAX)
    }

    /// Changes what is skipped and what must be whole, from the next message on.
    pub fn look_for(&mut self, skip: Kinds, whole: Kinds) {
        self.skip = skip.without(b"Z");
        self.whole = whole.and(b"Z");
    }

    /// Looks for the next message that is to be reported, from `at` on, and moves `at`.
    ///
    /// After a message whose body is in the buffer, `at` stands behind it; otherwise behind its header.
    /// After `None`, everything before `at` is done with, and more must be read behind what is left.
    ///
    /// # Errors
    /// A type that servers do not send, or a length that cannot be: the connection must be closed.
    ///
    /// ```
    /// use shardway::wire::postgres::frame::Scan;
    /// let mut scan = Scan::forwarding();
    /// let (mut at, mut kinds) = (0, String::new());
    /// let bytes = b"2\0\0\0\x04D\0\0\0\x06\0\0C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
    /// while let Some(seen) = scan.next(bytes, &mut at)? {
    ///     kinds.push(char::from(seen.kind));
    /// }
    /// assert_eq!((kinds.as_str(), at), ("2CZ", bytes.len()));
    /// # Ok::<(), shardway::wire::postgres::Violation>(())
    /// ```
    #[inline]
    pub fn next<'b>(&mut self, bytes: &'b [u8], at: &mut usize) -> Result<Option<Seen<'b>>, Violation> {
        self.missing = 0;
        if self.inside > 0 {
            let step = self.inside.min(bytes.len().saturating_sub(*at));
            self.inside -= step;
            *at += step;
            if self.inside > 0 {
                return Ok(None);
            }
        }
        // Rows that lie whole in the buffer are this loop and nothing else.
        let Some(mut rest) = bytes.get(*at..) else { return Ok(None) };
        while let Some((&[kind, a, b, c, d], body)) = rest.split_first_chunk::<HEADER>() {
            let length = i32::from_be_bytes([a, b, c, d]);
            let size = body_length(kind, length)?;
            if !self.skip.has(kind) {
                *at = bytes.len() - rest.len();
                return self.look(kind, length, size, body, at);
            }
            let Some(next) = body.get(size..) else {
                self.inside = size - body.len();
                *at = bytes.len();
                return Ok(None);
            };
            rest = next;
        }
        *at = bytes.len() - rest.len();
        self.missing = HEADER - rest.len();
        match rest.first() {
            Some(&kind) if !Kinds::SERVER.has(kind) => Err(Violation::UnknownType { kind }),
            _ => Ok(None),
        }
    }

    /// A message that is not to be skipped: its header is there, and `rest` behind it. `at` stands at its type byte.
    #[inline]
    fn look<'b>(
        &mut self,
        kind: u8,
        length: i32,
        size: usize,
        rest: &'b [u8],
        at: &mut usize,
    ) -> Result<Option<Seen<'b>>, Violation> {
        Self::plausible(kind, length, size)?;
        let body = rest.get(..size);
        if body.is_none() && self.whole.has(kind) && size <= self.whole_max {
            self.missing = size - rest.len();
            return Ok(None);
        }
        if kind == b'Z' && !matches!(body, Some([b'I' | b'T' | b'E'])) {
            return Err(Violation::Body { message: "ReadyForQuery", why: "has an unknown status" });
        }
        let seen = Seen { kind, start: *at, length: size + HEADER, body };
        if body.is_some() {
            *at += seen.length;
        } else {
            self.inside = size;
            *at += HEADER;
        }
        Ok(Some(seen))
    }

    /// How much of the body of the message that was begun lies behind the cursor. 0: the next byte is a type byte.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.inside
    }

    /// How many bytes at least must be read before [`Scan::next`] can report more: what to reserve.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing.max(self.inside.min(1))
    }

    /// The lengths that a server may announce. A hostile one must neither make us wait for ever nor hold memory.
    #[inline]
    fn plausible(kind: u8, length: i32, body: usize) -> Result<(), Violation> {
        let good = match kind {
            b'Z' => body == 1,
            b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c' => body == 0,
            b'D' | b'd' | b'T' | b'E' | b'N' | b'A' | b'V' => true,
            b'R' | b'S' | b'K' | b'C' | b't' | b'G' | b'H' | b'W' | b'v' => body <= SERVER_SMALL_MAX,
            _ => return Err(Violation::UnknownType { kind }),
        };
        if good { Ok(()) } else { Err(Violation::Length { kind, length }) }
    }
}

/// Describe, Close, Execute, CopyFail: names of 63 bytes, as the servers bound them.
const SMALL_MAX: usize = 10_000;
/// Passwords and SASL messages, as the servers bound them.
const PASSWORD_MAX: usize = 1024;
/// What is asked for whole and is longer than this streams by.
const WHOLE_MAX: usize = 1 << 20;
/// What servers send besides rows, descriptions and reports; 65535 parameters' types are a quarter of it.
const SERVER_SMALL_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend(i32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_frame_is_cut_only_when_it_is_whole() {
        let bytes = [message(b'Q', b"SELECT 1\0"), message(b'S', b"")].concat();
        for end in 0..14 {
            assert_eq!(cut(&bytes[..end], 100), Ok(None));
        }
        let first = cut(&bytes[..14], 100).unwrap().unwrap();
        assert_eq!((first.kind, first.body, first.bytes.len()), (b'Q', &b"SELECT 1\0"[..], 14));
        assert_eq!(cut(&bytes[14..], 100).unwrap().unwrap().kind, b'S');
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_before_a_body_is_awaited() {
        for length in [i32::MIN, -1, 0, 1, 2, 3] {
            let mut bytes = vec![b'Q'];
            bytes.extend(length.to_be_bytes());
            assert_eq!(cut(&bytes, 100), Err(Violation::Length { kind: b'Q', length }));
        }
        for (kind, length, given, limit) in [
            (b'Q', 105_i32, 100, 100),
            (b'B', i32::MAX, 1 << 26, 1 << 26),
            (b'E', 10_005, 1 << 26, 10_000),
            (b'E', 105, 100, 100),
            (b'p', 1029, 1 << 26, 1024),
        ] {
            let mut bytes = vec![kind];
            bytes.extend(length.to_be_bytes());
            let length = usize::try_from(length - 4).unwrap();
            assert_eq!(cut(&bytes, given), Err(Violation::TooLong { kind, length, limit }));
        }
        assert_eq!(cut(&message(b'S', b"x"), 100), Err(Violation::Length { kind: b'S', length: 5 }));
    }

    #[test]
    fn only_what_clients_send_is_cut() {
        for kind in 0..=u8::MAX {
            let known = b"QPBDCESHFXdcfp".contains(&kind);
            assert_eq!(head(&[kind], 100).is_ok(), known, "{kind}");
        }
    }

    /// What a scan reports, and what it calls done with, when the bytes come in pieces of `step`.
    fn scan_in_steps(bytes: &[u8], step: usize, mut scan: Scan) -> (Vec<(u8, usize)>, Vec<u8>) {
        let (mut seen, mut done, mut held) = (vec![], vec![], vec![]);
        for piece in bytes.chunks(step) {
            held.extend_from_slice(piece);
            let mut at = 0;
            while let Some(it) = scan.next(&held, &mut at).unwrap() {
                seen.push((it.kind, it.length));
            }
            done.extend(held.drain(..at));
        }
        assert!(held.is_empty());
        assert_eq!(scan.inside(), 0);
        (seen, done)
    }

    #[test]
    fn a_scan_sees_the_same_however_the_bytes_are_cut() {
        let bytes = [
            message(b'1', b""),
            message(b'T', &[7; 90]),
            message(b'D', &[1; 300]),
            message(b'D', b""),
            message(b'C', b"SELECT 2\0"),
            message(b'E', &[0; 40]),
            message(b'Z', b"T"),
        ]
        .concat();
        let expected = vec![(b'1', 5), (b'T', 95), (b'C', 14), (b'E', 45), (b'Z', 6)];
        for step in 1..bytes.len() {
            let (seen, done) = scan_in_steps(&bytes, step, Scan::forwarding());
            assert_eq!(seen, expected, "pieces of {step}");
            assert_eq!(done, bytes);
        }
    }

    #[test]
    fn whole_messages_wait_for_their_end_and_long_ones_do_not() {
        let bytes = message(b'E', &[1; 50]);
        let mut scan = Scan::new(Kinds::BULK, Kinds::NOTABLE, 50);
        let mut at = 0;
        assert_eq!(scan.next(&bytes[..30], &mut at), Ok(None));
        assert_eq!((at, scan.missing()), (0, 25));
        assert_eq!(scan.next(&bytes, &mut at).unwrap().unwrap().body, Some(&[1; 50][..]));
        let mut scan = Scan::new(Kinds::BULK, Kinds::NOTABLE, 49);
        let mut at = 0;
        let seen = scan.next(&bytes[..30], &mut at).unwrap().unwrap();
        assert_eq!((seen.body, seen.length), (None, 55));
        assert_eq!(scan.next(&bytes[..30], &mut at), Ok(None));
        assert_eq!((at, scan.inside()), (30, 25));
    }

    #[test]
    fn a_hostile_server_is_refused() {
        for bytes in [
            message(b'Z', b""),
            message(b'Z', b"II"),
            message(b'Z', b"X"),
            message(b'1', b"x"),
            message(b'q', b""),
            vec![b'D', 0, 0, 0, 3],
            vec![b'D', 255, 255, 255, 255],
            vec![b'S', 127, 255, 255, 255],
            vec![0],
        ] {
            let mut at = 0;
            assert!(Scan::forwarding().next(&bytes, &mut at).is_err(), "{bytes:?}");
        }
    }
}
