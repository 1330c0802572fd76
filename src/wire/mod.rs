//! Bytes ⇄ messages. No sockets, no routing, no waiting: everything here takes bytes and gives bytes.

pub mod mysql;
pub mod postgres;
