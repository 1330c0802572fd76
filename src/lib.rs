//! A sharding reverse proxy for Postgres servers that already exist.
//!
//! The modules stand in the order in which a statement meets them:
//!
//! ```text
//! client bytes → wire → session → sql → plan → exec → backend → database
//!                                └─ pure ──┘    rows return: backend → exec → session → wire
//! beside the path, deciding where things are:  shard_map · topology · admin
//! ```
//!
//! `docs/architecture.md` has the invariants; `tests/architecture.rs` holds the edges between the modules.

// ── the path of a statement ──
pub mod backend;
pub mod exec;
pub mod net;
pub mod plan;
pub mod server;
pub mod session;
pub mod sql;
pub mod wire;
// ── beside the path ──
pub mod admin;
pub mod fleet;
pub mod local_cluster;
pub mod shard_map;
pub mod topology;
// ── leaves: the common vocabulary ──
pub mod clock;
pub mod error;
pub mod ident;
pub mod mistakes;
pub mod schema;
pub mod tasks;
