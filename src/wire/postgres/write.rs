//! Appends frames to a buffer, with lengths that are computed, checked and written last.

use bytes::BufMut;

use super::frame::Violation;

/// A buffer that grows at its end: `Vec<u8>` or `BytesMut`.
pub trait Sink: BufMut + AsMut<[u8]> {
    /// How many bytes it holds.
    fn held(&self) -> usize;
    /// Drops what lies beyond `length`.
    fn cut_back(&mut self, length: usize);
}

impl Sink for Vec<u8> {
    fn held(&self) -> usize {
        self.len()
    }
    fn cut_back(&mut self, length: usize) {
        self.truncate(length);
    }
}

impl Sink for bytes::BytesMut {
    fn held(&self) -> usize {
        self.len()
    }
    fn cut_back(&mut self, length: usize) {
        self.truncate(length);
    }
}

/// Appends one frame; `body` writes what stands behind the length. Nothing is appended when it fails.
pub(super) fn frame<S: Sink>(
    out: &mut S,
    kind: u8,
    body: impl FnOnce(&mut S) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let start = out.held();
    out.put_u8(kind);
    let result = counted(out, kind, body);
    if result.is_err() {
        out.cut_back(start);
    }
    result
}

/// Appends a length and what it counts, itself included.
pub(super) fn counted<S: Sink>(
    out: &mut S,
    kind: u8,
    body: impl FnOnce(&mut S) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let start = out.held();
    out.put_i32(0);
    body(out)?;
    let size = out.held().saturating_sub(start);
    let length = i32::try_from(size).map_err(|_| Violation::TooLong { kind, length: size, limit: LENGTH_MAX })?;
    let place = out.as_mut().get_mut(start..).and_then(<[u8]>::first_chunk_mut::<4>);
    *place.expect("four bytes were put there above") = length.to_be_bytes();
    Ok(())
}

/// Appends a frame whose body is these bytes.
pub(super) fn plain(out: &mut impl Sink, kind: u8, body: &[u8]) -> Result<(), Violation> {
    let size = body.len().saturating_add(4);
    let length = i32::try_from(size).map_err(|_| Violation::TooLong { kind, length: size, limit: LENGTH_MAX })?;
    out.put_u8(kind);
    out.put_i32(length);
    out.put_slice(body);
    Ok(())
}

/// Appends a frame without a body.
pub(super) fn empty(out: &mut impl Sink, kind: u8) {
    out.put_slice(&[kind, 0, 0, 0, 4]);
}

/// Appends a string and its zero byte. One within it would end it early and shift all that follows: refused.
pub(super) fn string(out: &mut impl Sink, text: &[u8]) -> Result<(), Violation> {
    if memchr::memchr(0, text).is_some() {
        return Err(Violation::ZeroByte);
    }
    out.put_slice(text);
    out.put_u8(0);
    Ok(())
}

/// Appends a value with its length before it.
pub(super) fn value(out: &mut impl Sink, value: Option<&[u8]>) -> Result<(), Violation> {
    match value {
        None => out.put_i32(-1),
        Some(bytes) => {
            let length = i32::try_from(bytes.len()).map_err(|_| Violation::TooLong {
                kind: 0,
                length: bytes.len(),
                limit: LENGTH_MAX,
            })?;
            out.put_i32(length);
            out.put_slice(bytes);
        }
    }
    Ok(())
}

/// Appends how many follow.
pub(super) fn count(out: &mut impl Sink, count: usize) -> Result<(), Violation> {
    let count = u16::try_from(count).map_err(|_| Violation::TooMany { count })?;
    out.put_u16(count);
    Ok(())
}

/// The greatest length that the protocol can express.
pub(super) const LENGTH_MAX: usize = 0x7fff_ffff;
