//! Buffers of a worker that messages are built in, kept for whoever needs one next.

use std::cell::RefCell;

/// Empty buffers.
#[derive(Debug, Default)]
pub(super) struct Outboxes(RefCell<Vec<Vec<u8>>>);

impl Outboxes {
    /// An empty buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a buffer for later, unless it grew large. What is in it is forgotten here: the next one may be another session's,
    /// which would send it.
    pub(super) fn keep(&self, mut buffer: Vec<u8>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT && buffer.capacity() <= CAPACITY_MAX {
            buffer.clear();
            kept.push(buffer);
        }
    }
}

/// How many are kept at most.
const KEPT: usize = 64;
/// Larger ones are freed.
const CAPACITY_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_what_another_has_left() {
        let outboxes = Outboxes::default();
        outboxes.keep(b"another's".to_vec());
        let mut next = outboxes.take();
        assert!(next.is_empty() && next.capacity() > 0);
        next.reserve(2 * CAPACITY_MAX);
        outboxes.keep(next);
        assert_eq!(outboxes.take().capacity(), 0);
    }
}
