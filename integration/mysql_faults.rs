//! Sessions of MySQL over servers that break, stand still, or are left as nobody should leave them: what was done and what
//! was not is told as it is, one answer follows one command, and nothing of one session is there for the next.

#[path = "mysql_faults/chain.rs"]
mod chain;
#[path = "mysql/client.rs"]
mod client;
#[path = "mysql/compare.rs"]
#[allow(dead_code, reason = "others use more of it")]
mod compare;
#[path = "mysql_faults/cut.rs"]
mod cut;
#[path = "mysql_faults/dead.rs"]
mod dead;
#[path = "mysql_faults/full.rs"]
mod full;
#[path = "mysql_faults/garbage.rs"]
mod garbage;
#[path = "mysql_faults/house.rs"]
mod house;
#[path = "mysql_faults/leak.rs"]
mod leak;
#[path = "sessions/relay.rs"]
mod relay;
#[path = "mysql_faults/rows.rs"]
mod rows;
