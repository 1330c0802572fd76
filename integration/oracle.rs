//! The proxy against one plain server with the same rows: what is answered is equal, what is not is refused.
//!
//! `SHARDWAY_ORACLE_STATEMENTS` says how many random statements are tried, `SHARDWAY_ORACLE_SEED` which ones.

#[path = "oracle/cases.rs"]
mod cases;
#[path = "oracle/catalogs.rs"]
mod catalogs;
#[path = "oracle/compare.rs"]
mod compare;
#[path = "oracle/random.rs"]
mod random;
#[path = "oracle/rig.rs"]
mod rig;
#[path = "oracle/wire.rs"]
#[allow(dead_code, reason = "writes use the rest of it")]
mod wire;
