//! What a server has prepared on one connection, by text.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;

/// How many statements one connection may have; the one prepared first goes first.
const STATEMENTS_MAX: usize = 256;

/// The server's numbers of statements.
#[derive(Debug, Default)]
pub struct Prepared {
    numbers: HashMap<Arc<str>, u32, RandomState>,
    order: VecDeque<Arc<str>>,
    /// Of no more use, and not closed yet.
    unwanted: Vec<u32>,
}

impl Prepared {
    /// The number of the statement of that text, if it is there.
    #[must_use]
    pub fn number(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    /// Takes in what has been prepared.
    pub fn add(&mut self, text: Arc<str>, number: u32) {
        if self.numbers.insert(Arc::clone(&text), number).is_none() {
            self.order.push_back(text);
        }
    }

    /// Takes out what has to be closed before there is room for another.
    pub fn make_room(&mut self) -> Option<u32> {
        if let Some(number) = self.unwanted.pop() {
            return Some(number);
        }
        if self.order.len() < STATEMENTS_MAX {
            return None;
        }
        let oldest = self.order.pop_front()?;
        self.numbers.remove(&oldest)
    }

    /// Forgets one that the server does not know, or would prepare anew.
    pub fn remove(&mut self, text: &str) -> Option<u32> {
        self.order.retain(|it| **it != *text);
        self.numbers.remove(text)
    }

    /// Forgets one that is not to be run again; the server still has it.
    pub fn spoil(&mut self, text: &str) {
        let number = self.remove(text);
        self.unwanted.extend(number);
    }

    /// Forgets all: the server has.
    pub fn clear(&mut self) {
        self.unwanted.clear();
        self.numbers.clear();
        self.order.clear();
    }
}
