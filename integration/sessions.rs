//! Sessions over real servers, byte for byte: server connections cut at every message, the same messages said to the
//! proxy and to one plain Postgres, and nothing left behind for the next session.

#[path = "sessions/cut.rs"]
mod cut;
#[path = "sessions/house.rs"]
mod house;
#[path = "sessions/leak.rs"]
mod leak;
#[path = "sessions/relay.rs"]
mod relay;
#[path = "sessions/same.rs"]
mod same;
#[path = "sessions/wire.rs"]
mod wire;
