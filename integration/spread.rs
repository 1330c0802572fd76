//! Reads that span shards, against one plain server with the same rows: schemas, rows and statements made up by a seed,
//! and the cases that merges are known to answer wrong, at one, two, three and five shards.
//!
//! `SHARDWAY_SPREAD_SEED` says which ones, `SHARDWAY_SPREAD_STATEMENTS` how many, `SHARDWAY_SPREAD_FIRST` where to go on.

#[path = "spread/cases.rs"]
mod cases;
#[path = "spread/choices.rs"]
mod choices;
#[path = "spread/compare.rs"]
mod compare;
#[cfg(feature = "mistakes")]
#[path = "spread/mistakes.rs"]
mod mistakes;
#[path = "spread/random.rs"]
mod random;
#[path = "spread/rig.rs"]
mod rig;
#[path = "spread/sqlsmith.rs"]
mod sqlsmith;
#[path = "spread/statement.rs"]
mod statement;
#[path = "spread/types.rs"]
mod types;
#[expect(dead_code, reason = "other tests use more of it")]
#[path = "oracle/wire.rs"]
mod wire;
#[path = "spread/words.rs"]
mod words;
#[path = "spread/world.rs"]
mod world;
