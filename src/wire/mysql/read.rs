//! A cursor over one payload that cannot leave it.

use super::frame::Violation;

/// What is left of a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Starts at the front of `payload`; `what` names the packet in errors.
    pub(super) fn new(payload: &'a [u8], what: &'static str) -> Self {
        Self { rest: payload, what }
    }

    pub(super) fn wrong(&self, why: &'static str) -> Violation {
        Violation::Body { packet: self.what, why }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Looks at the next byte.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.wrong("is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.wrong("is cut short"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Violation> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Violation> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Violation> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Takes up to the next zero byte, which it swallows.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Violation> {
        let end = memchr::memchr(0, self.rest).ok_or_else(|| self.wrong("has a string without an end"))?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    /// Takes a number of one to nine bytes; the byte that stands for NULL is none.
    pub(super) fn number(&mut self) -> Result<u64, Violation> {
        self.number_or_null()?.ok_or_else(|| self.wrong("has NULL for a number"))
    }

    fn number_or_null(&mut self) -> Result<Option<u64>, Violation> {
        Ok(Some(match self.u8()? {
            0xfb => return Ok(None),
            0xfc => u64::from(self.u16()?),
            0xfd => {
                let [a, b, c] = self.array()?;
                u64::from(u32::from_le_bytes([a, b, c, 0]))
            }
            0xfe => u64::from_le_bytes(self.array()?),
            0xff => return Err(self.wrong("has an error's first byte for a number")),
            small => u64::from(small),
        }))
    }

    /// Takes bytes with their number before them.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Violation> {
        let count = self.number()?;
        self.take(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// The same, where there may be NULL.
    pub(super) fn value(&mut self) -> Result<Option<&'a [u8]>, Violation> {
        match self.number_or_null()? {
            None => Ok(None),
            Some(count) => self.take(usize::try_from(count).unwrap_or(usize::MAX)).map(Some),
        }
    }

    /// Demands that all was used.
    pub(super) fn end(&self) -> Result<(), Violation> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.wrong("is longer than it should be")) }
    }
}
