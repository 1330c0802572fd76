//! The MySQL protocol as MySQL 5.7 to 8.4 and MariaDB 10.4 to 11 speak it.
//!
//! [`frame`] cuts streams into packets and joins what is longer than one; [`handshake`] and [`auth`] are what comes
//! first; [`command`] is what clients say, [`result`] what servers answer, and [`tracking`] what they tell of the session
//! besides. Numbers are little-endian throughout.
//!
//! As with Postgres nothing here trusts a length or a count: a view exists only if its packet was used up as it demands.

pub mod auth;
pub mod command;
pub mod compress;
pub mod frame;
pub mod handshake;
pub mod result;
pub mod tracking;

mod read;
mod write;

pub use frame::Violation;

/// Capability flags: what both sides of a connection agree on.
pub mod capability {
    /// Longer passwords than of old. MariaDB gives this bit another sense: a client or server of MySQL's own kind.
    pub const LONG_PASSWORD: u32 = 1;
    /// Affected rows are those found, not those changed.
    pub const FOUND_ROWS: u32 = 1 << 1;
    /// Column flags have two bytes.
    pub const LONG_FLAG: u32 = 1 << 2;
    /// The response to the greeting names a database.
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    /// Packets are compressed with zlib.
    pub const COMPRESS: u32 = 1 << 5;
    /// LOAD DATA LOCAL may ask the client for files.
    pub const LOCAL_FILES: u32 = 1 << 7;
    /// Spaces before the parenthesis of a function call.
    pub const IGNORE_SPACE: u32 = 1 << 8;
    /// The protocol since MySQL 4.1: required.
    pub const PROTOCOL_41: u32 = 1 << 9;
    /// The session times out as an interactive one does.
    pub const INTERACTIVE: u32 = 1 << 10;
    /// TLS.
    pub const SSL: u32 = 1 << 11;
    /// Status flags tell of transactions.
    pub const TRANSACTIONS: u32 = 1 << 13;
    /// Proofs of passwords as since 4.1.
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    /// Several statements in one command.
    pub const MULTI_STATEMENTS: u32 = 1 << 16;
    /// Several results to one command.
    pub const MULTI_RESULTS: u32 = 1 << 17;
    /// The same for prepared statements.
    pub const PS_MULTI_RESULTS: u32 = 1 << 18;
    /// Ways to prove passwords have names.
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    /// The response tells about the client.
    pub const CONNECT_ATTRIBUTES: u32 = 1 << 20;
    /// The proof's length is an encoded number.
    pub const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
    /// The client can change a password that has expired.
    pub const EXPIRED_PASSWORDS: u32 = 1 << 22;
    /// OK packets tell how the session's state has changed.
    pub const SESSION_TRACK: u32 = 1 << 23;
    /// Results end with an OK packet, and nothing stands between columns and rows.
    pub const DEPRECATE_EOF: u32 = 1 << 24;
    /// Packets are compressed with Zstandard.
    pub const ZSTD: u32 = 1 << 26;
    /// Statements carry named attributes.
    pub const QUERY_ATTRIBUTES: u32 = 1 << 27;
}

/// Status flags of OK and EOF packets.
pub mod status {
    /// A transaction is open.
    pub const IN_TRANSACTION: u16 = 1;
    /// What is not in a transaction commits by itself.
    pub const AUTOCOMMIT: u16 = 1 << 1;
    /// Another result follows.
    pub const MORE_RESULTS: u16 = 1 << 3;
    /// A cursor was opened.
    pub const CURSOR_EXISTS: u16 = 1 << 6;
    /// Its last row was sent.
    pub const LAST_ROW_SENT: u16 = 1 << 7;
    /// The database in use was dropped.
    pub const DATABASE_DROPPED: u16 = 1 << 8;
    /// Backslashes stand for themselves in strings.
    pub const NO_BACKSLASH_ESCAPES: u16 = 1 << 9;
    /// The columns of a prepared statement have changed.
    pub const METADATA_CHANGED: u16 = 1 << 10;
    /// The row holds OUT parameters.
    pub const OUT_PARAMETERS: u16 = 1 << 12;
    /// The open transaction is READ ONLY.
    pub const IN_TRANSACTION_READ_ONLY: u16 = 1 << 13;
    /// The packet tells how the session's state has changed.
    pub const STATE_CHANGED: u16 = 1 << 14;
}

/// Types of columns and parameters.
pub mod kind {
    /// DECIMAL, as text.
    pub const NEW_DECIMAL: u8 = 0xf6;
    /// TINYINT: one byte.
    pub const TINY: u8 = 1;
    /// SMALLINT: two bytes.
    pub const SHORT: u8 = 2;
    /// INT: four bytes.
    pub const LONG: u8 = 3;
    /// FLOAT: four bytes.
    pub const FLOAT: u8 = 4;
    /// DOUBLE: eight bytes.
    pub const DOUBLE: u8 = 5;
    /// NULL: nothing.
    pub const NULL: u8 = 6;
    /// TIMESTAMP.
    pub const TIMESTAMP: u8 = 7;
    /// BIGINT: eight bytes.
    pub const LONGLONG: u8 = 8;
    /// MEDIUMINT: four bytes.
    pub const INT24: u8 = 9;
    /// DATE.
    pub const DATE: u8 = 10;
    /// TIME.
    pub const TIME: u8 = 11;
    /// DATETIME.
    pub const DATETIME: u8 = 12;
    /// YEAR: two bytes.
    pub const YEAR: u8 = 13;
    /// VARCHAR of old.
    pub const VARCHAR: u8 = 15;
    /// BIT, as bytes.
    pub const BIT: u8 = 16;
    /// JSON, as text.
    pub const JSON: u8 = 0xf5;
    /// ENUM.
    pub const ENUM: u8 = 0xf7;
    /// SET.
    pub const SET: u8 = 0xf8;
    /// TINYBLOB and TINYTEXT.
    pub const TINY_BLOB: u8 = 0xf9;
    /// MEDIUMBLOB and MEDIUMTEXT.
    pub const MEDIUM_BLOB: u8 = 0xfa;
    /// LONGBLOB and LONGTEXT.
    pub const LONG_BLOB: u8 = 0xfb;
    /// BLOB and TEXT.
    pub const BLOB: u8 = 0xfc;
    /// VARCHAR and VARBINARY.
    pub const VAR_STRING: u8 = 0xfd;
    /// CHAR and BINARY.
    pub const STRING: u8 = 0xfe;
    /// Geometry.
    pub const GEOMETRY: u8 = 0xff;
}
