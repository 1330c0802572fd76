//! key → shard: hash buckets, ranges, lists, pinned keys.

use crate::ident::ShardId;
use crate::ident::ShardSet;

/// How many buckets a hash-sharded group has.
pub const BUCKETS: u16 = 16384;

/// The type of a shard key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `bigint`
    BigInt,
    /// `integer`
    Int,
    /// `smallint`
    SmallInt,
    /// `text` (also `varchar`)
    Text,
    /// `uuid`
    Uuid,
    /// `date`
    Date,
    /// `timestamp with time zone`
    TimestampTz,
    /// `bytea`
    Bytea,
}

/// One value of a shard key, in the server's own terms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// bigint, int, smallint.
    Int(i64),
    /// text: bytes in the database's encoding.
    Text(Vec<u8>),
    /// uuid.
    Uuid([u8; 16]),
    /// Days since 2000-01-01; `i32::MIN` and `i32::MAX` are the infinities.
    Date(i32),
    /// Microseconds since 2000-01-01 UTC; `i64::MIN` and `i64::MAX` are the infinities.
    TimestampTz(i64),
    /// bytea.
    Bytea(Vec<u8>),
}

/// One end of a range condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// No limit on this side.
    Open,
    /// The key itself belongs.
    Including(Key),
    /// Up to it, without it.
    Excluding(Key),
}

/// key → shard. Build by `shard_map::validate`; the contents are this file's own affair.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardFunction {
    // replaced by the real thing
    _private: (),
}

impl ShardFunction {
    /// The shard that a row of this key lives on; `None`: no shard takes it (list and range schemes).
    #[must_use]
    pub fn shard(&self, _key: &Key) -> Option<ShardId> {
        None
    }

    /// The shards that may hold keys between the bounds; all of them where the scheme keeps no order.
    #[must_use]
    pub fn shards_between(&self, _from: &Bound, _to: &Bound) -> ShardSet {
        ShardSet::none()
    }

    /// Every shard that may hold a row.
    #[must_use]
    pub fn shards(&self) -> ShardSet {
        ShardSet::none()
    }
}
