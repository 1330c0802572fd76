//! A cursor over one message's body that cannot leave it.

use super::frame::Violation;

/// What is left of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Starts at the front of `body`; `what` names the message in errors.
    pub(super) fn new(body: &'a [u8], what: &'static str) -> Self {
        Self { rest: body, what }
    }

    pub(super) fn short(&self) -> Violation {
        Violation::Body { message: self.what, why: "is cut short" }
    }

    pub(super) fn wrong(&self, why: &'static str) -> Violation {
        Violation::Body { message: self.what, why }
    }

    /// Takes `count` bytes.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Violation> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Violation> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn i16(&mut self) -> Result<i16, Violation> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Violation> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Violation> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Takes up to the next zero byte, which it swallows.
    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a [u8], Violation> {
        // Names are short, and calling a search that is fast on long texts costs more than looking.
        match self.rest.iter().take(NEAR).position(|it| *it == 0) {
            Some(end) => self.until(Some(end)),
            None => self.text(),
        }
    }

    /// Takes up to the next zero byte, which it swallows: the same for what is seldom short.
    #[inline]
    pub(super) fn text(&mut self) -> Result<&'a [u8], Violation> {
        self.until(memchr::memchr(0, self.rest))
    }

    #[inline]
    fn until(&mut self, end: Option<usize>) -> Result<&'a [u8], Violation> {
        let end = end.ok_or_else(|| self.wrong("has a string without an end"))?;
        let (text, rest) = self.rest.split_at_checked(end).ok_or_else(|| self.short())?;
        self.rest = rest.get(1..).unwrap_or_default();
        Ok(text)
    }

    /// Takes a value with its length before it; −1 stands for NULL.
    #[inline]
    pub(super) fn value(&mut self) -> Result<Option<&'a [u8]>, Violation> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| self.wrong("has a value of negative length"))?;
                self.take(length).map(Some)
            }
        }
    }

    /// Takes all that is left.
    pub(super) fn all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Insists that nothing is left.
    pub(super) fn end(&self) -> Result<(), Violation> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.wrong("goes on after its end")) }
    }
}

/// How far a string is searched byte by byte.
const NEAR: usize = 12;
