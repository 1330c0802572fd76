//! One database server, seen from here.

pub mod connection;
