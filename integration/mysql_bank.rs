//! Two proxies before the same MySQL servers: money that is only moved, numbers that come once, and what one has left
//! prepared is ended by the other, while servers and proxies are killed.
//!
//! `SHARDWAY_BANK_SECONDS=60` goes on for longer.

#[path = "mysql_bank/bank.rs"]
mod bank;
#[path = "mysql/client.rs"]
mod client;
#[path = "mysql_bank/house.rs"]
mod house;
#[path = "mysql_bank/numbers.rs"]
mod numbers;
mod proxy;
#[path = "sessions/relay.rs"]
#[allow(dead_code, reason = "others cut connections")]
mod relay;
#[path = "mysql_bank/survivor.rs"]
mod survivor;
