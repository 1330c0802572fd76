//! The names and numbers that all layers share.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

/// A shard of one database: its place in the map's order, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The place of this shard in `Database::shards`.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One database server of a shard: its place in the map's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// The shard that it serves.
    pub shard: ShardId,
    /// Its place in `Shard::nodes`.
    pub node: u16,
}

/// Shards that a statement reaches, ascending and without repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(SmallVec<[ShardId; 8]>);

impl ShardSet {
    /// The set that holds no shard.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The set of one.
    #[must_use]
    pub fn one(shard: ShardId) -> Self {
        Self(SmallVec::from_slice(&[shard]))
    }

    /// All shards of a database that has `count`.
    #[must_use]
    pub fn all(count: usize) -> Self {
        Self((0..u16::try_from(count).unwrap_or(u16::MAX)).map(ShardId).collect())
    }

    /// Adds a shard; says whether it was new.
    pub fn insert(&mut self, shard: ShardId) -> bool {
        match self.0.binary_search(&shard) {
            Ok(_) => false,
            Err(place) => {
                self.0.insert(place, shard);
                true
            }
        }
    }

    /// Keeps what is also in `other`.
    pub fn intersect(&mut self, other: &Self) {
        self.0.retain(|shard| other.contains(*shard));
    }

    /// Adds everything of `other`.
    pub fn union(&mut self, other: &Self) {
        for shard in other.iter() {
            self.insert(shard);
        }
    }

    /// Says whether `shard` is in it.
    #[must_use]
    pub fn contains(&self, shard: ShardId) -> bool {
        self.0.binary_search(&shard).is_ok()
    }

    /// The only shard, when there is exactly one.
    #[must_use]
    pub fn only(&self) -> Option<ShardId> {
        match self.0.as_slice() {
            [shard] => Some(*shard),
            _ => None,
        }
    }

    /// The lowest shard.
    #[must_use]
    pub fn first(&self) -> Option<ShardId> {
        self.0.first().copied()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Says whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<ShardId> for ShardSet {
    fn from_iter<I: IntoIterator<Item = ShardId>>(shards: I) -> Self {
        let mut set = Self::none();
        for shard in shards {
            set.insert(shard);
        }
        set
    }
}

/// A table (or view) by schema and name, both as the server's catalog spells them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Such as `public`.
    pub schema: Arc<str>,
    /// Such as `orders`.
    pub name: Arc<str>,
}

impl TableName {
    /// A table of schema `schema`.
    #[must_use]
    pub fn new(schema: &str, name: &str) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }

    /// Reads `orders` (in `public`) or `sales.orders`, as the map spells tables: no quoting, no folding.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.split_once('.') {
            Some((schema, name)) => Self::new(schema, name),
            None => Self::new("public", text),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if &*self.schema == "public" { f.write_str(&self.name) } else { write!(f, "{}.{}", self.schema, self.name) }
    }
}
