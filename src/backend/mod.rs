//! One database server, seen from here: a connection, and the pool that lends it.

#[cfg(debug_assertions)]
pub mod check;
pub mod connection;
pub mod mysql;
mod outboxes;
pub mod pool;
mod seat;
pub mod settings;

pub use connection::Connection;
pub use connection::Piece;
pub use pool::CheckoutError;
pub use pool::PoolKey;
pub use pool::Pools;
pub use seat::Seat;
pub use settings::Settings;
