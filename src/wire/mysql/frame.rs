//! Packets: three bytes of length, one that counts, and what they hold. A payload of 2²⁴ − 1 bytes goes on in the next.

use std::ops::Range;

use crate::error::ClientError;
use crate::error::Code;

/// Bytes of a packet's header.
pub const HEADER: usize = 4;
/// What one packet holds at most; a packet that holds so much is not the last of its payload.
pub const PACKET_MAX: usize = (1 << 24) - 1;

/// How the stream broke the protocol's rules. Nothing after it can be understood: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A packet whose number does not follow the one before.
    #[error("packet {found} where packet {wanted} was due")]
    OutOfOrder {
        /// The number that it has.
        found: u8,
        /// The number that it should have.
        wanted: u8,
    },
    /// A payload beyond the limit.
    #[error("a packet is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// A payload that is not as its kind demands.
    #[error("a {packet} packet {why}")]
    Body {
        /// The kind.
        packet: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl From<Violation> for ClientError {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::TooLong { .. } => {
                Self::new(Code::TooLarge, violation, "Send less at once, or raise limits.message in the shard map.")
            }
            _ => Self::new(
                Code::ProtocolViolation,
                violation,
                "The session is closed: what follows cannot be read safely.",
            ),
        }
    }
}

/// One packet at the front of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its number.
    pub sequence: u8,
    /// Where its bytes are, without the header.
    pub body: Range<usize>,
    /// Whether the payload goes on in the next packet.
    pub goes_on: bool,
}

/// The first packet of `bytes`, if it is there whole.
#[must_use]
pub fn packet(bytes: &[u8]) -> Option<Packet> {
    let [a, b, c, sequence] = *bytes.first_chunk::<HEADER>()?;
    let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
    let end = HEADER + length;
    (bytes.len() >= end).then_some(Packet { sequence, body: HEADER..end, goes_on: length == PACKET_MAX })
}

/// Joins the packets of payloads, and watches that they are numbered as they should be.
#[derive(Debug)]
pub struct Joiner {
    /// The number of the packet that is due.
    next: u8,
    limit: usize,
    held: Vec<u8>,
    within: bool,
    /// Others count: numbers are taken as they come.
    uncounted: bool,
}

/// A whole payload.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// It came in one packet: its bytes are in the buffer that was given.
    Here(&'a [u8]),
    /// It came in several.
    Joined(Vec<u8>),
}

impl Payload<'_> {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Here(bytes) => bytes,
            Payload::Joined(bytes) => bytes,
        }
    }
}

impl Joiner {
    /// Takes payloads of `limit` bytes at most.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { next: 0, limit, held: Vec::new(), within: false, uncounted: false }
    }

    /// Takes numbers as they come: within compressed pieces, which count, senders number packets in more than one way.
    pub fn stop_counting(&mut self) {
        self.uncounted = true;
    }

    /// Begins to count anew: with every command.
    pub fn restart(&mut self) {
        self.next = 0;
    }

    /// The number that the next packet has, in either direction.
    #[must_use]
    pub fn sequence(&self) -> u8 {
        self.next
    }

    /// Goes on behind packets that were sent.
    pub fn sent(&mut self, next: u8) {
        self.next = next;
    }

    /// Takes the first packet of `bytes`: how many bytes were used, and the payload if that was its last packet. `None`:
    /// more bytes are needed. A payload that grows beyond the limit is refused before it is there.
    ///
    /// # Errors
    /// A packet out of order, or a payload that is too long.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(usize, Option<Payload<'a>>)>, Violation> {
        let Some(head) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let [a, b, c, sequence] = *head;
        if self.uncounted {
            self.next = sequence;
        }
        if sequence != self.next {
            return Err(Violation::OutOfOrder { found: sequence, wanted: self.next });
        }
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        if self.held.len() + length > self.limit {
            return Err(Violation::TooLong { limit: self.limit });
        }
        let Some(body) = bytes.get(HEADER..HEADER + length) else { return Ok(None) };
        self.next = self.next.wrapping_add(1);
        let used = HEADER + length;
        if length == PACKET_MAX {
            self.held.extend_from_slice(body);
            self.within = true;
            return Ok(Some((used, None)));
        }
        if !std::mem::take(&mut self.within) {
            return Ok(Some((used, Some(Payload::Here(body)))));
        }
        let mut joined = std::mem::take(&mut self.held);
        joined.extend_from_slice(body);
        Ok(Some((used, Some(Payload::Joined(joined)))))
    }
}

/// Appends a payload as packets, the first with the number `sequence`; the number that comes next.
pub fn put(out: &mut Vec<u8>, mut sequence: u8, payload: &[u8]) -> u8 {
    let mut rest = payload;
    loop {
        let (now, later) = rest.split_at(rest.len().min(PACKET_MAX));
        let length = u32::try_from(now.len()).unwrap_or(u32::MAX).to_le_bytes();
        let [a, b, c, _] = length;
        out.extend_from_slice(&[a, b, c, sequence]);
        out.extend_from_slice(now);
        sequence = sequence.wrapping_add(1);
        rest = later;
        // One that is full says that another follows, be it empty.
        if now.len() < PACKET_MAX {
            return sequence;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All payloads in `bytes`, which come in pieces of `piece` bytes.
    fn payloads(bytes: &[u8], piece: usize, limit: usize) -> Result<Vec<Vec<u8>>, Violation> {
        let (mut joiner, mut found, mut buffer) = (Joiner::new(limit), Vec::new(), Vec::new());
        for chunk in bytes.chunks(piece) {
            buffer.extend_from_slice(chunk);
            loop {
                let (used, payload) = match joiner.take(&buffer)? {
                    None => break,
                    Some((used, payload)) => (used, payload.map(|it| it.bytes().to_vec())),
                };
                found.extend(payload);
                buffer.drain(..used);
            }
        }
        assert_eq!(buffer.len(), 0, "all is used");
        Ok(found)
    }

    #[test]
    fn what_is_put_is_taken_again_however_it_comes() {
        let all = [Vec::new(), vec![7], vec![1; 300], vec![2; PACKET_MAX - 1]];
        let mut bytes = Vec::new();
        all.iter().fold(0, |sequence, it| put(&mut bytes, sequence, it));
        assert_eq!(payloads(&bytes, bytes.len(), PACKET_MAX).unwrap(), all);
        let small = bytes.get(..HEADER + HEADER + 1 + HEADER + 300).unwrap();
        assert_eq!(payloads(small, 1, 1000).unwrap(), all.get(..3).unwrap());
    }

    #[test]
    fn a_payload_of_several_packets_is_one() {
        for extra in [0, 1, PACKET_MAX] {
            let long = vec![3; PACKET_MAX + extra];
            let mut bytes = Vec::new();
            let packets = 2 + extra / PACKET_MAX;
            assert_eq!(usize::from(put(&mut bytes, 0, &long)), packets);
            assert_eq!(bytes.len(), long.len() + packets * HEADER);
            assert_eq!(payloads(&bytes, 1 << 20, 3 * PACKET_MAX).unwrap(), [long]);
        }
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_header() {
        let mut joiner = Joiner::new(10);
        assert_eq!(joiner.take(&[11, 0, 0, 0]), Err(Violation::TooLong { limit: 10 }));
        let mut bytes = Vec::new();
        put(&mut bytes, 0, &vec![0; PACKET_MAX + 10]);
        assert_eq!(payloads(&bytes, 1 << 20, PACKET_MAX + 9), Err(Violation::TooLong { limit: PACKET_MAX + 9 }));
    }

    #[test]
    fn packets_are_numbered() {
        let mut joiner = Joiner::new(10);
        assert_eq!(joiner.take(&[0, 0, 0, 1]), Err(Violation::OutOfOrder { found: 1, wanted: 0 }));
        assert!(joiner.take(&[0, 0, 0, 0]).unwrap().is_some());
        joiner.restart();
        assert_eq!(joiner.sequence(), 0);
        joiner.sent(255);
        assert!(joiner.take(&[0, 0, 0, 255]).unwrap().is_some());
        assert_eq!(joiner.sequence(), 0, "they begin again behind 255");
    }
}
