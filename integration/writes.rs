//! Statements that write rows of several shards do what they do on one server: tags, rows, errors, the tables after.
//!
//! One cluster serves 1, 2, 3 and 5 shards, as databases of one map; beside each stands a plain database that hears
//! the same statements.

#[path = "writes/afar.rs"]
mod afar;
#[path = "writes/answers.rs"]
mod answers;
#[path = "writes/arena.rs"]
mod arena;
#[path = "oracle/wire.rs"]
#[allow(dead_code, reason = "the oracle uses the rest of it")]
mod bytes;
#[path = "writes/cases.rs"]
mod cases;
#[path = "spread/choices.rs"]
#[allow(dead_code, reason = "reads use the rest of it")]
mod choices;
#[path = "writes/clauses.rs"]
mod clauses;
#[path = "writes/copies.rs"]
mod copies;
#[path = "writes/deadlocks.rs"]
mod deadlocks;
#[path = "writes/dump.rs"]
mod dump;
#[path = "writes/elsewhere.rs"]
mod elsewhere;
#[path = "writes/house.rs"]
mod house;
#[path = "writes/moves.rs"]
mod moves;
#[path = "writes/outs.rs"]
mod outs;
mod proxy;
#[path = "writes/random.rs"]
mod random;
#[path = "writes/rig.rs"]
mod rig;
#[path = "writes/schema.rs"]
mod schema;
#[path = "writes/scripts.rs"]
mod scripts;
#[path = "writes/statements.rs"]
mod statements;
#[path = "writes/tables.rs"]
mod tables;
