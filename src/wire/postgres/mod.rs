//! The Postgres protocol, version 3.0.
//!
//! [`frame`] cuts streams into messages and checks every length; bodies stay unread. [`frontend`] and [`backend`] read
//! and build what clients and servers send. [`scram`] proves passwords in both directions.
//!
//! Nothing here trusts a length, a count or a terminator, whichever side it came from: a view exists only if its body
//! was used up exactly.

pub mod backend;
pub mod frame;
pub mod frontend;
pub mod scram;

mod read;
mod write;

pub use frame::Violation;
pub use write::Sink;
