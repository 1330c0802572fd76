//! Clients that speak MySQL's protocol.

pub mod login;
