//! One client: what it said, what it is owed.

pub mod login;
