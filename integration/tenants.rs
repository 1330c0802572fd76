//! Tenants that are placed one by one: by a directory, or whole in a schema of their own. What is said through the proxy is
//! what one server says.
//!
//! One cluster serves 2, 3 and 5 shards, as databases of one map; beside each stands a plain database that hears the same
//! statements.

#[path = "oracle/wire.rs"]
#[allow(dead_code, reason = "the oracle uses the rest of it")]
mod bytes;
#[path = "tenants/directories.rs"]
mod directories;
#[path = "tenants/house.rs"]
mod house;
mod proxy;
#[path = "tenants/schemas.rs"]
mod schemas;
