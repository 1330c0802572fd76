//! The shard function as an SQL expression: any server computes with it where a row belongs, without its keys leaving it.
//!
//! It hashes by the server's own functions, and compares numbers and bytes as the proxy does, whatever the collation.

use super::Directory;
use super::Key;
use super::KeyType;
use super::Scheme;
use super::ShardFunction;
use crate::ident::ShardId;
use crate::shard_map::hash;

impl ShardFunction {
    /// An expression for the shard of a row: its [`ShardId`] as a number, −1 where no shard takes the key, NULL where the
    /// key is NULL. `key` is the column, quoted.
    ///
    /// ```
    /// use shardway::ident::ShardId;
    /// use shardway::shard_map::{Key, KeyType, ShardFunction};
    ///
    /// let function = ShardFunction::list(KeyType::Int, vec![(Key::Int(7), ShardId(1))], None);
    /// assert_eq!(
    ///     function.in_sql("k"),
    ///     "CASE WHEN k IS NULL THEN NULL ELSE \
    ///      coalesce(('{1}'::int4[])[array_position('{7}'::int8[], k::int8)], -1) END"
    /// );
    /// ```
    #[must_use]
    pub fn in_sql(&self, key: &str) -> String {
        let plain = plain(self.key_type, key);
        let among = |values: &[(Key, ShardId)], other: &str| {
            if values.is_empty() {
                return other.to_owned();
            }
            let keys = array(self.key_type, values.iter().map(|(key, _)| key));
            let shards = numbers(values.iter().map(|(_, shard)| i32::from(shard.0)));
            format!("coalesce(({shards})[array_position({keys}, {plain})], {other})")
        };
        let rest = match &self.scheme {
            Scheme::Hash(buckets) => {
                let shards = numbers(buckets.iter().map(|shard| i32::from(shard.0)));
                format!("({shards})[1 + ({})]", bucket(self.key_type, key))
            }
            Scheme::Range(ranges) => {
                let lowest = ranges.pieces.first().filter(|(from, _)| from.is_none()).map(|(_, shard)| *shard);
                let above = ranges.pieces.iter().filter(|(from, _)| from.is_some()).map(|(_, shard)| Some(*shard));
                let shards = [lowest].into_iter().chain(above).chain(ranges.end.iter().map(|_| None));
                let shards = numbers(shards.map(|shard| shard.map_or(-1, |it| i32::from(it.0))));
                let starts: Vec<&Key> =
                    ranges.pieces.iter().filter_map(|(from, _)| from.as_ref()).chain(&ranges.end).collect();
                if starts.is_empty() {
                    format!("({shards})[1]")
                } else {
                    format!("({shards})[1 + width_bucket({plain}, {})]", array(self.key_type, starts.into_iter()))
                }
            }
            Scheme::List { values, other } | Scheme::Schema { values, other } => {
                among(values, &other.map_or_else(|| "-1".to_owned(), |it| it.0.to_string()))
            }
            // What it says has to be read first, and is then a list.
            Scheme::Directory(_) => "-1".to_owned(),
        };
        format!("CASE WHEN {key} IS NULL THEN NULL ELSE {} END", among(&self.pinned, &rest))
    }
}

impl Directory {
    /// A query for what it says of `keys`, or of all that it holds if there are none: each key in a form that
    /// [`Self::key`] reads, and the shard's name. Names are qualified: it may run under anybody's settings.
    #[must_use]
    pub fn question(&self, key_type: KeyType, keys: &[Key], rows_max: usize) -> String {
        let key = format!("d.{}", identifier(&self.key));
        let bytes = match key_type {
            KeyType::BigInt | KeyType::Int | KeyType::SmallInt => {
                format!("pg_catalog.int8send({key}::pg_catalog.int8)")
            }
            KeyType::Text => format!("pg_catalog.convert_to({key}::pg_catalog.text, pg_catalog.getdatabaseencoding())"),
            KeyType::Uuid => format!("pg_catalog.uuid_send({key})"),
            KeyType::Bytea => key.clone(),
            KeyType::Date => format!("pg_catalog.date_send({key})"),
            KeyType::TimestampTz => format!("pg_catalog.timestamptz_send({key})"),
        };
        let spelled = format!("pg_catalog.encode({bytes}, 'hex')");
        let words = || keys.iter().map(|it| hexadecimal(&bytes_of(it)));
        let list = |all: Vec<String>| all.join(",");
        // By the column itself, so that an index serves, where values can be written that compare with it.
        let condition = match key_type {
            KeyType::BigInt | KeyType::Int | KeyType::SmallInt => {
                let numbers = keys.iter().filter_map(|it| match it {
                    Key::Int(value) => Some(value.to_string()),
                    _ => None,
                });
                format!("{key} OPERATOR(pg_catalog.=) ANY ('{{{}}}'::pg_catalog.int8[])", list(numbers.collect()))
            }
            KeyType::Text => {
                let texts = words().map(|it| {
                    format!("pg_catalog.convert_from('\\x{it}'::pg_catalog.bytea, pg_catalog.getdatabaseencoding())")
                });
                format!("{key} OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.text[])", list(texts.collect()))
            }
            KeyType::Uuid => {
                format!("{key} OPERATOR(pg_catalog.=) ANY ('{{{}}}'::pg_catalog.uuid[])", list(words().collect()))
            }
            KeyType::Bytea => {
                let all = words().map(|it| format!("\"\\\\x{it}\"")).collect();
                format!("{key} OPERATOR(pg_catalog.=) ANY ('{{{}}}'::pg_catalog.bytea[])", list(all))
            }
            KeyType::Date | KeyType::TimestampTz => {
                format!("{spelled} OPERATOR(pg_catalog.=) ANY ('{{{}}}'::pg_catalog.text[])", list(words().collect()))
            }
        };
        let condition = if keys.is_empty() { format!("{key} IS NOT NULL") } else { condition };
        format!(
            "SELECT DISTINCT {spelled}, d.{}::pg_catalog.text FROM {}.{} d WHERE {condition} LIMIT {rows_max}",
            identifier(&self.target),
            identifier(&self.table.schema),
            identifier(&self.table.name)
        )
    }

    /// Reads a key of an answer.
    #[must_use]
    pub fn key(key_type: KeyType, word: &str) -> Option<Key> {
        let digit = |it: u8| char::from(it).to_digit(16).and_then(|it| u8::try_from(it).ok());
        let pair = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes: Vec<u8> = word.as_bytes().chunks(2).map(pair).collect::<Option<_>>()?;
        Some(match key_type {
            KeyType::BigInt | KeyType::Int | KeyType::SmallInt => Key::Int(i64::from_be_bytes(bytes.try_into().ok()?)),
            KeyType::Text => Key::Text(bytes),
            KeyType::Uuid => Key::Uuid(bytes.try_into().ok()?),
            KeyType::Bytea => Key::Bytea(bytes),
            KeyType::Date => Key::Date(i32::from_be_bytes(bytes.try_into().ok()?)),
            KeyType::TimestampTz => Key::TimestampTz(i64::from_be_bytes(bytes.try_into().ok()?)),
        })
    }
}

/// A key as the server's own send functions write it.
fn bytes_of(key: &Key) -> Vec<u8> {
    match key {
        Key::Int(value) | Key::TimestampTz(value) => value.to_be_bytes().to_vec(),
        Key::Date(days) => days.to_be_bytes().to_vec(),
        Key::Text(bytes) | Key::Bytea(bytes) => bytes.clone(),
        Key::Uuid(bytes) => bytes.to_vec(),
    }
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The bucket of a value. `hash_array_extended` is the only function of Postgres that hashes a value of any type by the
/// type's own function; for an array of one it adds 31 to that.
fn bucket(key_type: KeyType, key: &str) -> String {
    let value = match key_type {
        KeyType::BigInt | KeyType::Int | KeyType::SmallInt => format!("{key}::int8"),
        KeyType::Text => format!("{key}::text COLLATE \"C\""),
        KeyType::Uuid | KeyType::Date | KeyType::TimestampTz | KeyType::Bytea => key.to_owned(),
    };
    let (mask, added) = hash::FOLD;
    let added = added.wrapping_sub(31) & mask;
    format!("((hash_array_extended(ARRAY[{value}], {}) & {mask}) + {added}) & {mask}", hash::PARTITION_SEED)
}

/// A value as the number or the bytes that the proxy compares.
fn plain(key_type: KeyType, key: &str) -> String {
    match key_type {
        KeyType::BigInt | KeyType::Int | KeyType::SmallInt => format!("{key}::int8"),
        KeyType::Text => format!("convert_to({key}::text, getdatabaseencoding())"),
        KeyType::Uuid => format!("uuid_send({key})"),
        KeyType::Bytea => key.to_owned(),
        // Infinities are the least and the greatest numbers, too.
        KeyType::Date => format!("('x' || encode(date_send({key}), 'hex'))::bit(32)::int4::int8"),
        KeyType::TimestampTz => format!("('x' || encode(timestamptz_send({key}), 'hex'))::bit(64)::int8"),
    }
}

/// Keys as an array of what [`plain`] makes of values.
fn array<'a>(key_type: KeyType, keys: impl Iterator<Item = &'a Key>) -> String {
    let words = keys.map(|key| match key {
        Key::Int(value) | Key::TimestampTz(value) => value.to_string(),
        Key::Date(days) => days.to_string(),
        Key::Text(bytes) | Key::Bytea(bytes) => hexadecimal(bytes),
        Key::Uuid(bytes) => hexadecimal(bytes),
    });
    let of_bytes = matches!(key_type, KeyType::Text | KeyType::Uuid | KeyType::Bytea);
    // Backslashes are doubled within the array's text.
    let words: Vec<String> = words.map(|word| if of_bytes { format!("\"\\\\x{word}\"") } else { word }).collect();
    format!("'{{{}}}'::{}[]", words.join(","), if of_bytes { "bytea" } else { "int8" })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn numbers(all: impl Iterator<Item = i32>) -> String {
    let all: Vec<String> = all.map(|it| it.to_string()).collect();
    format!("'{{{}}}'::int4[]", all.join(","))
}
