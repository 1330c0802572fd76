//! Statements and transactions made up by seeds: the proxy over several numbers of shards answers as one plain MariaDB, or
//! refuses.
//!
//! `MYSQL_RANDOM_SEED` says which ones, `MYSQL_RANDOM_SELECTS` and `MYSQL_RANDOM_TRANSACTIONS` how many, and
//! `MYSQL_RANDOM_WIDTHS=1,2,3,5` on how many shards.

#[path = "mysql_random/bound.rs"]
mod bound;
#[path = "spread/choices.rs"]
mod choices;
#[path = "mysql/client.rs"]
mod client;
#[path = "mysql/compare.rs"]
#[allow(dead_code, reason = "others use more of it")]
mod compare;
#[path = "mysql_random/house.rs"]
mod house;
mod proxy;
#[path = "mysql_random/reads.rs"]
mod reads;
#[path = "mysql_random/schema.rs"]
mod schema;
#[path = "mysql_random/select.rs"]
mod select;
#[path = "mysql_random/transactions.rs"]
mod transactions;
#[path = "mysql_random/writes.rs"]
mod writes;
