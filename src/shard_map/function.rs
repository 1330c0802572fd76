//! key → shard: hash buckets, ranges, lists, pinned keys.
//!
//! A function is built once, when a map is read, and asked once per key of every statement: looking up allocates
//! nothing. Whether its parts fit together (every bucket placed, no gap between ranges) is `validate`'s affair.

mod in_sql;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::ident::TableName;
use crate::shard_map::hash;

/// How many buckets a hash-sharded group has.
pub const BUCKETS: u16 = 16384;

/// How many consecutive integers a condition may span before it is taken to reach every shard of a hash.
const ENUMERATED_MAX: u64 = 64;

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

impl KeyType {
    /// All of them, as the map's documentation lists them.
    pub const ALL: [Self; 8] =
        [Self::BigInt, Self::Int, Self::SmallInt, Self::Text, Self::Uuid, Self::Date, Self::TimestampTz, Self::Bytea];

    /// As the map spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BigInt => "bigint",
            Self::Int => "int",
            Self::SmallInt => "smallint",
            Self::Text => "text",
            Self::Uuid => "uuid",
            Self::Date => "date",
            Self::TimestampTz => "timestamptz",
            Self::Bytea => "bytea",
        }
    }

    /// The integers that this type holds, if it holds integers.
    #[must_use]
    pub fn integers(self) -> Option<RangeInclusive<i64>> {
        match self {
            Self::BigInt => Some(i64::MIN..=i64::MAX),
            Self::Int => Some(i64::from(i32::MIN)..=i64::from(i32::MAX)),
            Self::SmallInt => Some(i64::from(i16::MIN)..=i64::from(i16::MAX)),
            Self::Text | Self::Uuid | Self::Date | Self::TimestampTz | Self::Bytea => None,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
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

impl Key {
    /// Whether this is how values of `key_type` are held.
    #[must_use]
    pub fn is_of(&self, key_type: KeyType) -> bool {
        match self {
            Self::Int(_) => matches!(key_type, KeyType::BigInt | KeyType::Int | KeyType::SmallInt),
            Self::Text(_) => key_type == KeyType::Text,
            Self::Uuid(_) => key_type == KeyType::Uuid,
            Self::Date(_) => key_type == KeyType::Date,
            Self::TimestampTz(_) => key_type == KeyType::TimestampTz,
            Self::Bytea(_) => key_type == KeyType::Bytea,
        }
    }

    /// Reads what `Display` wrote.
    fn parse(word: &str, key_type: KeyType) -> Option<Self> {
        let bytes = |hexadecimal: &str| -> Option<Vec<u8>> {
            let digits = hexadecimal.chars().map(|c| c.to_digit(16)).collect::<Option<Vec<_>>>()?;
            digits
                .chunks(2)
                .map(|pair| match pair {
                    [high, low] => u8::try_from(high << 4 | low).ok(),
                    _ => None,
                })
                .collect()
        };
        match key_type {
            KeyType::BigInt | KeyType::Int | KeyType::SmallInt => word.parse().ok().map(Self::Int),
            KeyType::Date => word.parse().ok().map(Self::Date),
            KeyType::TimestampTz => word.parse().ok().map(Self::TimestampTz),
            KeyType::Uuid => bytes(word)?.try_into().ok().map(Self::Uuid),
            KeyType::Text => bytes(word.strip_prefix("\\x")?).map(Self::Text),
            KeyType::Bytea => bytes(word.strip_prefix("\\x")?).map(Self::Bytea),
        }
    }

    /// The bucket that Postgres's hash puts it in, of [`BUCKETS`].
    ///
    /// ```
    /// use shardway::shard_map::Key;
    ///
    /// // satisfies_hash_partition('…'::regclass, 16384, 6754, 42::bigint) is true.
    /// assert_eq!(Key::Int(42).bucket(), 6754);
    /// ```
    #[must_use]
    pub fn bucket(&self) -> u16 {
        match self {
            Self::Int(value) | Self::TimestampTz(value) => hash::bucket_of_integer(*value),
            Self::Date(days) => hash::bucket_of_integer(i64::from(*days)),
            Self::Text(bytes) | Self::Bytea(bytes) => hash::bucket_of_bytes(bytes),
            Self::Uuid(bytes) => hash::bucket_of_bytes(bytes),
        }
    }
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
    key_type: KeyType,
    /// Ascending by key; asked before the scheme is.
    pinned: Vec<(Key, ShardId)>,
    scheme: Scheme,
    /// Every shard that may hold a row: computed once.
    shards: ShardSet,
}

/// Why a description of a function cannot be read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It names a shard that is not there.
    Shard(String),
    /// A line that no version of this program wrote.
    Line(String),
}

/// How keys that are not pinned find their shard.
#[derive(Clone, Debug, PartialEq)]
enum Scheme {
    /// The shard of each of the [`BUCKETS`] buckets.
    Hash(Arc<[ShardId]>),
    /// Pieces of the key's order.
    Range(Ranges),
    /// Values and their shards, ascending by value, and where the rest goes.
    List { values: Vec<(Key, ShardId)>, other: Option<ShardId> },
    /// The same for names of schemas, all of whose tables are on one shard.
    Schema { values: Vec<(Key, ShardId)>, other: Option<ShardId> },
    /// As a table says.
    Directory(Arc<Directory>),
}

/// The table of a database that says where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The shard that holds it.
    pub shard: ShardId,
    /// Its name.
    pub table: TableName,
    /// Its column with the key.
    pub key: Arc<str>,
    /// Its column with the shard's name.
    pub target: Arc<str>,
    /// How long an answer may be believed.
    pub cache: Duration,
    /// Where keys are that it does not hold; `None`: nowhere.
    pub missing: Option<ShardId>,
}

/// Neighbouring pieces, each from its start up to the next one's, without it.
#[derive(Clone, Debug, PartialEq)]
struct Ranges {
    /// Ascending; a start of `None`, possible only first, is below every key.
    pieces: Vec<(Option<Key>, ShardId)>,
    /// The last piece ends before this key.
    end: Option<Key>,
}

impl ShardFunction {
    /// A hash whose buckets lie where `buckets` says; `None` unless there are [`BUCKETS`] of them.
    #[must_use]
    pub fn hash(key_type: KeyType, buckets: Vec<ShardId>, pinned: Vec<(Key, ShardId)>) -> Option<Self> {
        (buckets.len() == usize::from(BUCKETS)).then(|| {
            let shards = buckets.iter().copied().collect();
            Self::new(key_type, Scheme::Hash(buckets.into()), shards, pinned)
        })
    }

    /// Neighbouring half-open ranges, ascending: each begins at its key (`None`: below every key) and ends where the
    /// next begins; the last ends before `end`.
    #[must_use]
    pub fn range(
        key_type: KeyType,
        pieces: Vec<(Option<Key>, ShardId)>,
        end: Option<Key>,
        pinned: Vec<(Key, ShardId)>,
    ) -> Self {
        let shards = pieces.iter().map(|(_, shard)| *shard).collect();
        Self::new(key_type, Scheme::Range(Ranges { pieces, end }), shards, pinned)
    }

    /// Single values, and where the rest goes (`None`: nowhere).
    #[must_use]
    pub fn list(key_type: KeyType, mut values: Vec<(Key, ShardId)>, other: Option<ShardId>) -> Self {
        values.sort();
        let shards = values.iter().map(|(_, shard)| *shard).chain(other).collect();
        Self::new(key_type, Scheme::List { values, other }, shards, Vec::new())
    }

    /// Schemas by name, whole on one shard each, and where the rest goes (`None`: nowhere).
    #[must_use]
    pub fn schemas(mut values: Vec<(Key, ShardId)>, other: Option<ShardId>) -> Self {
        values.sort();
        let shards = values.iter().map(|(_, shard)| *shard).chain(other).collect();
        Self::new(KeyType::Text, Scheme::Schema { values, other }, shards, Vec::new())
    }

    /// What a table says, of these shards.
    #[must_use]
    pub fn directory(key_type: KeyType, directory: Directory, shards: ShardSet) -> Self {
        Self::new(key_type, Scheme::Directory(Arc::new(directory)), shards, Vec::new())
    }

    fn new(key_type: KeyType, scheme: Scheme, mut shards: ShardSet, mut pinned: Vec<(Key, ShardId)>) -> Self {
        pinned.sort();
        shards.union(&pinned.iter().map(|(_, shard)| *shard).collect());
        Self { key_type, pinned, scheme, shards }
    }

    /// The type of its keys.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// As the map spells its scheme.
    #[must_use]
    pub fn scheme_name(&self) -> &'static str {
        match &self.scheme {
            Scheme::Hash(_) => "hash",
            Scheme::Range(_) => "range",
            Scheme::List { .. } => "list",
            Scheme::Schema { .. } => "schema",
            Scheme::Directory(_) => "directory",
        }
    }

    /// The schemas that it places by name; none unless the scheme is `schema`.
    #[must_use]
    pub fn named_schemas(&self) -> Vec<(String, ShardId)> {
        let Scheme::Schema { values, .. } = &self.scheme else { return Vec::new() };
        let named = |(key, shard): &(Key, ShardId)| match key {
            Key::Text(name) => Some((String::from_utf8(name.clone()).ok()?, *shard)),
            _ => None,
        };
        values.iter().filter_map(named).collect()
    }

    /// The table that says where keys are, if it is one that does.
    #[must_use]
    pub fn as_directory(&self) -> Option<&Arc<Directory>> {
        match &self.scheme {
            Scheme::Directory(directory) => Some(directory),
            Scheme::Hash(_) | Scheme::Range(_) | Scheme::List { .. } | Scheme::Schema { .. } => None,
        }
    }

    /// The shard that a row of this key lives on; `None`: no shard takes it (list and range schemes), the key is not of
    /// the group's type, or a directory has to be asked ([`Self::as_directory`]).
    #[must_use]
    pub fn shard(&self, key: &Key) -> Option<ShardId> {
        if !key.is_of(self.key_type) {
            return None;
        }
        if let Some(shard) = find(&self.pinned, key) {
            return Some(shard);
        }
        match &self.scheme {
            Scheme::Hash(buckets) => buckets.get(usize::from(key.bucket())).copied(),
            Scheme::Range(ranges) => ranges.shard(key),
            Scheme::List { values, other } | Scheme::Schema { values, other } => find(values, key).or(*other),
            Scheme::Directory(_) => None,
        }
    }

    /// The bucket of a key, as Postgres computes it, whether or not the key is pinned; `None` unless the scheme is
    /// `hash` and the key of the group's type.
    #[must_use]
    pub fn bucket(&self, key: &Key) -> Option<u16> {
        match &self.scheme {
            Scheme::Hash(_) if key.is_of(self.key_type) => Some(key.bucket()),
            Scheme::Hash(_) | Scheme::Range(_) | Scheme::List { .. } | Scheme::Schema { .. } | Scheme::Directory(_) => {
                None
            }
        }
    }

    /// The shard of a bucket; `None` unless the scheme is `hash` and there is such a bucket.
    #[must_use]
    pub fn shard_of_bucket(&self, bucket: u16) -> Option<ShardId> {
        self.buckets()?.get(usize::from(bucket)).copied()
    }

    /// The shard of each bucket, when the scheme is `hash`.
    #[must_use]
    pub fn buckets(&self) -> Option<&[ShardId]> {
        match &self.scheme {
            Scheme::Hash(buckets) => Some(buckets),
            Scheme::Range(_) | Scheme::List { .. } | Scheme::Schema { .. } | Scheme::Directory(_) => None,
        }
    }

    /// The shards that may hold keys between the bounds; all of them where the scheme keeps no order.
    #[must_use]
    pub fn shards_between(&self, from: &Bound, to: &Bound) -> ShardSet {
        if self.as_directory().is_some() {
            return self.shards();
        }
        if let Some(keys) = self.enumerate(from, to) {
            return keys.filter_map(|value| self.shard(&Key::Int(value))).collect();
        }
        if !self.keeps_order() || !self.is_bound(from) || !self.is_bound(to) {
            return self.shards();
        }
        let mut shards = match &self.scheme {
            Scheme::Range(ranges) => ranges.between(from, to),
            Scheme::List { values, other } | Scheme::Schema { values, other } => {
                let listed = values.iter().filter(|(key, _)| is_between(key, from, to)).map(|(_, shard)| *shard);
                listed.chain(*other).collect()
            }
            Scheme::Hash(_) | Scheme::Directory(_) => return self.shards(),
        };
        shards
            .union(&self.pinned.iter().filter(|(key, _)| is_between(key, from, to)).map(|(_, shard)| *shard).collect());
        shards
    }

    /// Every shard that may hold a row.
    #[must_use]
    pub fn shards(&self) -> ShardSet {
        self.shards.clone()
    }

    /// The canonical text of where it places what, one fact a line: equal texts place every key alike.
    #[must_use]
    pub fn describe(&self, name: impl Fn(ShardId) -> String) -> String {
        let mut lines = vec![format!("scheme {}", self.scheme_name()), format!("key {}", self.key_type)];
        match &self.scheme {
            Scheme::Hash(buckets) => {
                let mut owned: BTreeMap<String, Vec<String>> = BTreeMap::new();
                for (first, last, shard) in runs(buckets) {
                    let run = if first == last { first.to_string() } else { format!("{first}-{last}") };
                    owned.entry(name(shard)).or_default().push(run);
                }
                lines.extend(owned.iter().map(|(name, runs)| format!("buckets {name} {}", runs.join(","))));
            }
            Scheme::Range(Ranges { pieces, end }) => {
                lines.extend(pieces.iter().map(|(from, shard)| {
                    let from = from.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
                    format!("from {from} {}", name(*shard))
                }));
                lines.extend(end.iter().map(|end| format!("end {end}")));
            }
            Scheme::List { values, other } | Scheme::Schema { values, other } => {
                lines.extend(values.iter().map(|(key, shard)| format!("value {key} {}", name(*shard))));
                lines.extend(other.iter().map(|shard| format!("other {}", name(*shard))));
            }
            Scheme::Directory(it) => {
                let words = [&it.table.schema, &it.table.name, &it.key, &it.target].map(|word| one_word(word));
                lines.push(format!("directory {} {}", name(it.shard), words.join(" ")));
                lines.extend(it.missing.iter().map(|shard| format!("missing {}", name(*shard))));
            }
        }
        lines.extend(self.pinned.iter().map(|(key, shard)| format!("pinned {key} {}", name(*shard))));
        lines.join("\n")
    }

    /// Reads what [`Self::describe`] wrote; `find` knows the shards by name. Lines of other kinds are skipped.
    ///
    /// # Errors
    /// The line that cannot be read, or the name of a shard that `find` does not know.
    pub fn parse(text: &str, find: impl Fn(&str) -> Option<ShardId>) -> Result<Self, Unreadable> {
        let shard = |name: &str| find(name).ok_or_else(|| Unreadable::Shard(name.to_owned()));
        let mut scheme = "";
        let mut key_type = None;
        let mut buckets: Vec<Option<ShardId>> = vec![None; usize::from(BUCKETS)];
        let (mut pieces, mut end) = (Vec::new(), None);
        let (mut values, mut other) = (Vec::new(), None);
        let mut pinned = Vec::new();
        let (mut directory, mut missing) = (None, None);
        for line in text.lines() {
            let unreadable = || Unreadable::Line(line.to_owned());
            let key = |word: &str| {
                let key_type = key_type.ok_or_else(unreadable)?;
                Key::parse(word, key_type).ok_or_else(unreadable)
            };
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["scheme", name] => scheme = name,
                ["key", name] => {
                    let found = KeyType::ALL.into_iter().find(|key_type| key_type.name() == *name);
                    key_type = Some(found.ok_or_else(unreadable)?);
                }
                ["buckets", name, runs] => {
                    let shard = shard(name)?;
                    for run in runs.split(',') {
                        let (first, last) = run.split_once('-').unwrap_or((run, run));
                        let first: usize = first.parse().map_err(|_| unreadable())?;
                        let last: usize = last.parse().map_err(|_| unreadable())?;
                        let run = buckets.get_mut(first..=last).ok_or_else(unreadable)?;
                        run.fill(Some(shard));
                    }
                }
                ["from", "-", name] => pieces.push((None, shard(name)?)),
                ["from", from, name] => pieces.push((Some(key(from)?), shard(name)?)),
                ["end", at] => end = Some(key(at)?),
                ["value", value, name] => values.push((key(value)?, shard(name)?)),
                ["other", name] => other = Some(shard(name)?),
                ["pinned", value, name] => pinned.push((key(value)?, shard(name)?)),
                ["directory", name, words @ ..] => {
                    let words: Option<Vec<String>> = words.iter().map(|word| of_one_word(word)).collect();
                    let Some([schema, table, key, target]) = words.as_deref() else { return Err(unreadable()) };
                    directory = Some(Directory {
                        shard: shard(name)?,
                        table: TableName::new(schema, table),
                        key: key.as_str().into(),
                        target: target.as_str().into(),
                        cache: Duration::ZERO,
                        missing: None,
                    });
                }
                ["missing", name] => missing = Some(shard(name)?),
                ["table", ..] => {}
                _ => return Err(unreadable()),
            }
        }
        let whole = || Unreadable::Line("(the whole)".to_owned());
        let key_type = key_type.ok_or_else(whole)?;
        match scheme {
            "hash" => {
                let buckets = buckets.into_iter().collect::<Option<Vec<_>>>().ok_or_else(whole)?;
                Self::hash(key_type, buckets, pinned).ok_or_else(whole)
            }
            "range" => Ok(Self::range(key_type, pieces, end, pinned)),
            "list" => Ok(Self::list(key_type, values, other)),
            "schema" => Ok(Self::schemas(values, other)),
            "directory" => {
                let directory = Directory { missing, ..directory.ok_or_else(whole)? };
                Ok(Self::directory(key_type, directory, ShardSet::none()))
            }
            _ => Err(whole()),
        }
    }

    /// Whether `newer` leaves every row where it is: each key that has a shard here has the same one there.
    #[must_use]
    pub fn is_kept_by(&self, newer: &Self) -> bool {
        if self.key_type != newer.key_type {
            return false;
        }
        let keeps = |key: &Key| self.shard(key).is_none_or(|shard| newer.shard(key) == Some(shard));
        let pinned = self.pinned.iter().chain(&newer.pinned).all(|(key, _)| keeps(key));
        let rest = match (&self.scheme, &newer.scheme) {
            (Scheme::Hash(buckets), Scheme::Hash(newer)) => buckets == newer,
            (Scheme::List { values, other }, Scheme::List { values: newer_values, other: newer_other })
            | (Scheme::Schema { values, other }, Scheme::Schema { values: newer_values, other: newer_other }) => {
                values.iter().chain(newer_values).all(|(key, _)| keeps(key))
                    && (other.is_none() || other == newer_other)
            }
            (Scheme::Range(ranges), Scheme::Range(newer_ranges)) => {
                // Between two neighbouring bounds of either, all keys that are not pinned share one fate.
                let bounds = [ranges, newer_ranges]
                    .into_iter()
                    .flat_map(|it| it.pieces.iter().filter_map(|(from, _)| from.as_ref()).chain(&it.end));
                let lowest =
                    |it: &Ranges| it.pieces.first().filter(|(from, _)| from.is_none()).map(|(_, shard)| *shard);
                let below = lowest(ranges).is_none_or(|shard| lowest(newer_ranges) == Some(shard));
                let keeps = |key: &Key| ranges.shard(key).is_none_or(|shard| newer_ranges.shard(key) == Some(shard));
                below && bounds.into_iter().all(keeps)
            }
            (Scheme::Directory(it), Scheme::Directory(newer)) => {
                let table = |it: &Directory| (it.shard, it.table.clone(), it.key.clone(), it.target.clone());
                table(it) == table(newer) && (it.missing.is_none() || it.missing == newer.missing)
            }
            (
                Scheme::Hash(_) | Scheme::Range(_) | Scheme::List { .. } | Scheme::Schema { .. } | Scheme::Directory(_),
                _,
            ) => false,
        };
        pinned && rest
    }

    /// The buckets of `recorded` with the pinned keys of this one; `None` unless both are hashes.
    #[must_use]
    pub(super) fn with_buckets_of(&self, recorded: &Self) -> Option<Self> {
        match (&self.scheme, &recorded.scheme) {
            (Scheme::Hash(_), Scheme::Hash(buckets)) => {
                Self::hash(self.key_type, buckets.to_vec(), self.pinned.clone())
            }
            _ => None,
        }
    }

    /// Whether keys that the server finds between two bounds are between them here too. Text follows the column's
    /// collation there and its bytes here, so it does not.
    fn keeps_order(&self) -> bool {
        self.key_type != KeyType::Text
    }

    fn is_bound(&self, bound: &Bound) -> bool {
        match bound {
            Bound::Open => true,
            Bound::Including(key) | Bound::Excluding(key) => key.is_of(self.key_type),
        }
    }

    /// The integers between the bounds, when they are few.
    fn enumerate(&self, from: &Bound, to: &Bound) -> Option<RangeInclusive<i64>> {
        let all = self.key_type.integers()?;
        let first = match from {
            Bound::Including(Key::Int(value)) => *value,
            Bound::Excluding(Key::Int(value)) => value.checked_add(1)?,
            Bound::Including(_) | Bound::Excluding(_) | Bound::Open => return None,
        };
        let last = match to {
            Bound::Including(Key::Int(value)) => *value,
            Bound::Excluding(Key::Int(value)) => value.checked_sub(1)?,
            Bound::Including(_) | Bound::Excluding(_) | Bound::Open => return None,
        };
        let (first, last) = (first.max(*all.start()), last.min(*all.end()));
        (first > last || last.abs_diff(first) < ENUMERATED_MAX).then_some(first..=last)
    }
}

impl Ranges {
    fn shard(&self, key: &Key) -> Option<ShardId> {
        if self.end.as_ref().is_some_and(|end| key >= end) {
            return None;
        }
        let after = self.pieces.partition_point(|(from, _)| from.as_ref().is_none_or(|from| from <= key));
        self.pieces.get(after.checked_sub(1)?).map(|(_, shard)| *shard)
    }

    /// Piece by piece: a piece is left out only if it ends at or before `from`, or begins behind `to`.
    fn between(&self, from: &Bound, to: &Bound) -> ShardSet {
        let ends = self.pieces.iter().skip(1).map(|(start, _)| start.as_ref()).chain([self.end.as_ref()]);
        let touched = self.pieces.iter().zip(ends).filter(|((start, _), end)| {
            let reaches_from = match (from, end) {
                (Bound::Open, _) | (_, None) => true,
                (Bound::Including(from) | Bound::Excluding(from), Some(end)) => from < *end,
            };
            let starts_before_to = match (to, start) {
                (Bound::Open, _) | (_, None) => true,
                (Bound::Including(to), Some(start)) => start <= to,
                (Bound::Excluding(to), Some(start)) => start < to,
            };
            reaches_from && starts_before_to
        });
        touched.map(|((_, shard), _)| *shard).collect()
    }
}

impl fmt::Display for Key {
    /// As fingerprints spell it: one word, readable back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) | Self::TimestampTz(value) => write!(f, "{value}"),
            Self::Date(days) => write!(f, "{days}"),
            Self::Uuid(bytes) => hexadecimal(f, bytes),
            Self::Text(bytes) | Self::Bytea(bytes) => {
                f.write_str("\\x")?;
                hexadecimal(f, bytes)
            }
        }
    }
}

fn hexadecimal(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// A name as one word, whatever stands in it.
fn one_word(name: &str) -> String {
    Key::Text(name.into()).to_string()
}

fn of_one_word(word: &str) -> Option<String> {
    match Key::parse(word, KeyType::Text)? {
        Key::Text(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn find(sorted: &[(Key, ShardId)], key: &Key) -> Option<ShardId> {
    let place = sorted.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
    sorted.get(place).map(|(_, shard)| *shard)
}

fn is_between(key: &Key, from: &Bound, to: &Bound) -> bool {
    let low = match from {
        Bound::Open => true,
        Bound::Including(from) => key.cmp(from) != Ordering::Less,
        Bound::Excluding(from) => key.cmp(from) == Ordering::Greater,
    };
    let high = match to {
        Bound::Open => true,
        Bound::Including(to) => key.cmp(to) != Ordering::Greater,
        Bound::Excluding(to) => key.cmp(to) == Ordering::Less,
    };
    low && high
}

/// Neighbouring buckets of one shard: first, last, shard.
pub(super) fn runs(buckets: &[ShardId]) -> impl Iterator<Item = (usize, usize, ShardId)> {
    let mut first = 0;
    buckets.chunk_by(|a, b| a == b).filter_map(move |run| {
        let start = first;
        first += run.len();
        run.first().map(|shard| (start, first - 1, *shard))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S1: ShardId = ShardId(0);
    const S2: ShardId = ShardId(1);
    const S3: ShardId = ShardId(2);

    fn halves(key_type: KeyType, pinned: Vec<(Key, ShardId)>) -> ShardFunction {
        let buckets = (0..BUCKETS).map(|bucket| if bucket < 8192 { S1 } else { S2 }).collect();
        ShardFunction::hash(key_type, buckets, pinned).unwrap()
    }

    fn set(shards: &[ShardId]) -> ShardSet {
        shards.iter().copied().collect()
    }

    fn from(value: i64) -> Bound {
        Bound::Including(Key::Int(value))
    }

    fn below(value: i64) -> Bound {
        Bound::Excluding(Key::Int(value))
    }

    fn months() -> ShardFunction {
        ShardFunction::range(
            KeyType::BigInt,
            vec![(Some(Key::Int(0)), S1), (Some(Key::Int(1000)), S2), (Some(Key::Int(2000)), S1)],
            Some(Key::Int(3000)),
            vec![(Key::Int(1500), S3)],
        )
    }

    /// What PostgreSQL 15.18 answered: the r of 0..16383 for which
    /// `satisfies_hash_partition('p'::regclass, 16384, r, key)` is true.
    #[test]
    fn buckets_are_those_of_postgres() {
        let integers = [
            (0, 6576),
            (1, 4024),
            (-1, 12197),
            (2, 8570),
            (7, 1303),
            (42, 6754),
            (4242, 4160),
            (90210, 11022),
            (1 << 40, 11918),
            (-(1 << 40), 12586),
            (2_147_483_647, 8575),
            (2_147_483_648, 14966),
            (-2_147_483_648, 14966),
            (-2_147_483_649, 8575),
            (i64::MAX, 14966),
            (i64::MIN, 8575),
            (32767, 7886),
            (-32768, 1149),
        ];
        for (value, bucket) in integers {
            assert_eq!(Key::Int(value).bucket(), bucket, "{value}");
        }
        let texts = [
            ("", 10406),
            ("a", 3934),
            ("ab", 7200),
            ("abc", 2725),
            ("abcd", 6481),
            ("abcde", 188),
            ("abcdefgh", 15253),
            ("abcdefghi", 13443),
            ("abcdefghijk", 2907),
            ("abcdefghijkl", 12393),
            ("abcdefghijklm", 12182),
            ("user-17@example.com", 16307),
            ("Zürich", 9606),
            ("日本語", 11454),
            ("a rather longer value that needs several blocks of twelve", 6274),
        ];
        for (text, bucket) in texts {
            assert_eq!(Key::Text(text.into()).bucket(), bucket, "{text:?}");
        }
        let uuids = [
            ([0; 16], 15269),
            ([0xff; 16], 15745),
            ([0xa0, 0xee, 0xbc, 0x99, 0x9c, 0x0b, 0x4e, 0xf8, 0xbb, 0x6d, 0x6b, 0xb9, 0xbd, 0x38, 0x0a, 0x11], 9680),
        ];
        for (uuid, bucket) in uuids {
            assert_eq!(Key::Uuid(uuid).bucket(), bucket, "{uuid:?}");
        }
        // 2000-01-01, 1999-12-31, 2026-11-21, 0001-01-01, 9999-12-31, infinity, -infinity
        let dates = [
            (0, 6576),
            (-1, 12197),
            (9821, 15421),
            (-730_119, 2891),
            (2_921_939, 5215),
            (i32::MAX, 8575),
            (i32::MIN, 14966),
        ];
        for (days, bucket) in dates {
            assert_eq!(Key::Date(days).bucket(), bucket, "{days}");
        }
        // …, 2026-11-21 12:34:56.789+00, infinity, -infinity
        let times = [(0, 6576), (-1, 12197), (848_579_696_789_000, 13982), (i64::MAX, 14966), (i64::MIN, 8575)];
        for (time, bucket) in times {
            assert_eq!(Key::TimestampTz(time).bucket(), bucket, "{time}");
        }
        let bytes: [(&[u8], u16); 5] = [
            (&[], 10406),
            (&[0], 1466),
            (&[0, 0, 0], 5005),
            (&[0xde, 0xad, 0xbe, 0xef], 14147),
            (&[0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff], 2438),
        ];
        for (bytes, bucket) in bytes {
            assert_eq!(Key::Bytea(bytes.into()).bucket(), bucket, "{bytes:?}");
        }
    }

    #[test]
    fn a_pinned_key_goes_before_its_bucket() {
        let function = halves(KeyType::BigInt, vec![(Key::Int(42), S3)]);
        assert_eq!(function.shard(&Key::Int(42)), Some(S3));
        assert_eq!(function.bucket(&Key::Int(42)), Some(6754));
        assert_eq!(function.shard(&Key::Int(0)), Some(S1));
        assert_eq!(function.shard(&Key::Int(2)), Some(S2));
        assert_eq!(function.shards(), set(&[S1, S2, S3]));
    }

    #[test]
    fn a_key_of_another_type_has_no_shard() {
        let function = halves(KeyType::Text, Vec::new());
        assert_eq!(function.shard(&Key::Int(1)), None);
        assert_eq!(function.shard(&Key::Bytea(b"a".to_vec())), None);
        assert_eq!(function.shard(&Key::Text(b"a".to_vec())), Some(S1));
    }

    #[test]
    fn a_hash_needs_every_bucket() {
        assert_eq!(ShardFunction::hash(KeyType::Int, vec![S1; 16383], Vec::new()), None);
    }

    #[test]
    fn few_integers_reach_only_their_shards() {
        let function = halves(KeyType::BigInt, Vec::new());
        assert_eq!(function.shards_between(&from(0), &below(2)), set(&[S1]));
        assert_eq!(function.shards_between(&from(0), &from(2)), set(&[S1, S2]));
        assert_eq!(function.shards_between(&from(5), &below(5)), ShardSet::none());
        assert_eq!(function.shards_between(&from(0), &from(1_000_000)), set(&[S1, S2]));
        assert_eq!(function.shards_between(&from(0), &Bound::Open), set(&[S1, S2]));
        assert_eq!(function.shards_between(&from(i64::MIN), &from(i64::MAX)), set(&[S1, S2]));
    }

    #[test]
    fn ranges_are_half_open() {
        let function = months();
        let shard = |value| function.shard(&Key::Int(value));
        assert_eq!(shard(-1), None);
        assert_eq!(shard(0), Some(S1));
        assert_eq!(shard(999), Some(S1));
        assert_eq!(shard(1000), Some(S2));
        assert_eq!(shard(1500), Some(S3));
        assert_eq!(shard(2999), Some(S1));
        assert_eq!(shard(3000), None);
        assert_eq!(function.bucket(&Key::Int(0)), None);
    }

    #[test]
    fn a_range_condition_reaches_the_pieces_it_touches() {
        let function = months();
        assert_eq!(function.shards_between(&from(0), &below(1000)), set(&[S1]));
        assert_eq!(function.shards_between(&from(0), &from(1000)), set(&[S1, S2]));
        assert_eq!(function.shards_between(&from(1000), &below(1500)), set(&[S2]));
        assert_eq!(function.shards_between(&from(1000), &below(1600)), set(&[S2, S3]));
        assert_eq!(function.shards_between(&Bound::Open, &below(0)), set(&[]));
        assert_eq!(function.shards_between(&from(3000), &Bound::Open), set(&[]));
        assert_eq!(function.shards_between(&Bound::Open, &Bound::Open), set(&[S1, S2, S3]));
        let other_type = Bound::Including(Key::Date(0));
        assert_eq!(function.shards_between(&other_type, &Bound::Open), set(&[S1, S2, S3]));
    }

    #[test]
    fn order_of_text_is_the_collations_so_a_range_of_text_reaches_all() {
        let pieces = vec![(None, S1), (Some(Key::Text(b"m".to_vec())), S2)];
        let function = ShardFunction::range(KeyType::Text, pieces, None, Vec::new());
        assert_eq!(function.shard(&Key::Text(b"alpha".to_vec())), Some(S1));
        let below_b = Bound::Excluding(Key::Text(b"b".to_vec()));
        assert_eq!(function.shards_between(&Bound::Open, &below_b), set(&[S1, S2]));
    }

    #[test]
    fn a_list_sends_the_rest_to_other_or_nowhere() {
        let values = vec![(Key::Int(3), S2), (Key::Int(1), S1)];
        let function = ShardFunction::list(KeyType::Int, values.clone(), None);
        assert_eq!(function.shard(&Key::Int(3)), Some(S2));
        assert_eq!(function.shard(&Key::Int(2)), None);
        let function = ShardFunction::list(KeyType::Int, values, Some(S3));
        assert_eq!(function.shard(&Key::Int(2)), Some(S3));
        assert_eq!(function.shards_between(&from(-500), &from(1)), set(&[S1, S3]));
    }

    #[test]
    fn a_description_names_runs_of_buckets() {
        let function = halves(KeyType::BigInt, vec![(Key::Int(42), S3)]);
        let text = function.describe(|shard| format!("s{}", shard.0 + 1));
        assert_eq!(text, "scheme hash\nkey bigint\nbuckets s1 0-8191\nbuckets s2 8192-16383\npinned 42 s3");
    }

    fn number(name: &str) -> Option<ShardId> {
        name.strip_prefix('s')?.parse::<u16>().ok()?.checked_sub(1).map(ShardId)
    }

    #[test]
    fn a_description_reads_back() {
        let text = |bytes: &str| Key::Text(bytes.into());
        let functions = [
            halves(KeyType::BigInt, vec![(Key::Int(-42), S3)]),
            halves(KeyType::Uuid, vec![(Key::Uuid([7; 16]), S3)]),
            ShardFunction::hash(KeyType::Date, crate::shard_map::placement::by_remainder(&[S2, S1]), Vec::new())
                .unwrap(),
            months(),
            ShardFunction::range(
                KeyType::TimestampTz,
                vec![(None, S2), (Some(Key::TimestampTz(-5)), S1)],
                None,
                Vec::new(),
            ),
            ShardFunction::list(KeyType::Text, vec![(text("DE"), S1), (text("a b"), S2), (text(""), S2)], Some(S3)),
            ShardFunction::list(KeyType::Bytea, vec![(Key::Bytea(vec![0, 255]), S1)], None),
            ShardFunction::schemas(vec![(text("acme"), S1), (text("Odd name"), S2)], Some(S3)),
            ShardFunction::directory(KeyType::Uuid, a_directory(Some(S2)), ShardSet::none()),
        ];
        for function in functions {
            let written = function.describe(|shard| format!("s{}", shard.0 + 1));
            assert_eq!(ShardFunction::parse(&written, number), Ok(function), "{written}");
        }
        assert_eq!(
            ShardFunction::parse("scheme list\nkey int\nvalue 1 s9x", number),
            Err(Unreadable::Shard("s9x".to_owned()))
        );
        assert!(ShardFunction::parse("scheme hash\nkey int\nbuckets s1 0-9", number).is_err());
        assert!(ShardFunction::parse("scheme list\nkey int\nfuture 1", number).is_err());
    }

    fn a_directory(missing: Option<ShardId>) -> Directory {
        Directory {
            shard: S1,
            table: TableName::new("public", "account map"),
            key: "id".into(),
            target: "shard".into(),
            cache: Duration::ZERO,
            missing,
        }
    }

    #[test]
    fn another_directory_says_otherwise() {
        let of = |directory| ShardFunction::directory(KeyType::Int, directory, ShardSet::all(3));
        let old = of(a_directory(None));
        assert!(old.is_kept_by(&of(Directory { cache: Duration::from_secs(5), ..a_directory(Some(S2)) })));
        assert!(!of(a_directory(Some(S2))).is_kept_by(&old));
        assert!(!old.is_kept_by(&of(Directory { key: "other".into(), ..a_directory(None) })));
        assert!(!old.is_kept_by(&of(Directory { shard: S2, ..a_directory(None) })));
        assert_eq!((old.shard(&Key::Int(1)), old.shards().len()), (None, 3));
        assert_eq!(old.shards_between(&from(1), &below(3)), ShardSet::all(3));
    }

    #[test]
    fn what_had_no_shard_may_get_one() {
        let list = |values: &[(i64, ShardId)], other| {
            ShardFunction::list(
                KeyType::Int,
                values.iter().map(|(key, shard)| (Key::Int(*key), *shard)).collect(),
                other,
            )
        };
        let old = list(&[(1, S1), (2, S2)], None);
        assert!(old.is_kept_by(&list(&[(1, S1), (2, S2), (3, S1)], None)));
        assert!(old.is_kept_by(&list(&[(1, S1), (2, S2)], Some(S1))));
        assert!(!old.is_kept_by(&list(&[(1, S1)], None)));
        assert!(old.is_kept_by(&list(&[(1, S1)], Some(S2))));
        assert!(!old.is_kept_by(&list(&[(1, S2), (2, S2)], None)));
        let open = list(&[(1, S1)], Some(S2));
        assert!(!open.is_kept_by(&list(&[(1, S1), (3, S1)], Some(S2))));
        assert!(!open.is_kept_by(&list(&[(1, S1)], None)));
    }

    #[test]
    fn ranges_may_grow_where_nothing_was() {
        let range = |pieces: &[(Option<i64>, ShardId)], end: Option<i64>| {
            let pieces = pieces.iter().map(|(from, shard)| (from.map(Key::Int), *shard)).collect();
            ShardFunction::range(KeyType::BigInt, pieces, end.map(Key::Int), Vec::new())
        };
        let old = range(&[(Some(0), S1), (Some(10), S2)], Some(20));
        assert!(old.is_kept_by(&old));
        assert!(old.is_kept_by(&range(&[(Some(0), S1), (Some(10), S2), (Some(20), S1)], Some(30))));
        assert!(old.is_kept_by(&range(&[(None, S2), (Some(0), S1), (Some(5), S1), (Some(10), S2)], None)));
        assert!(!old.is_kept_by(&range(&[(Some(0), S1), (Some(11), S2)], Some(20))));
        assert!(!old.is_kept_by(&range(&[(Some(0), S1), (Some(10), S2)], Some(19))));
        assert!(!old.is_kept_by(&range(&[(Some(1), S1), (Some(10), S2)], Some(20))));
        assert!(!range(&[(None, S1)], None).is_kept_by(&range(&[(Some(0), S1)], None)));
    }

    #[test]
    fn pinning_a_key_elsewhere_moves_its_rows() {
        let old = halves(KeyType::BigInt, Vec::new());
        assert!(!old.is_kept_by(&halves(KeyType::BigInt, vec![(Key::Int(42), S3)])));
        assert!(!old.is_kept_by(&halves(KeyType::Int, Vec::new())));
        // Its bucket lies there already.
        assert!(old.is_kept_by(&halves(KeyType::BigInt, vec![(Key::Int(42), S1)])));
        assert!(halves(KeyType::BigInt, vec![(Key::Int(42), S1)]).is_kept_by(&old));
    }
}
