//! A connection to a database server.

pub mod login;
