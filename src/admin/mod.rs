//! What operators look at and turn: the console (database `shardway` on the Postgres port) and HTTP.

pub mod console;
pub mod http;
