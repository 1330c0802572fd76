//! One group: its scheme's keys → its shard function.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::ident::TableName;

use super::super::Group;
use super::super::Placement;
use super::super::Schemas;
use super::super::file;
use super::super::file::Literal;
use super::super::file::Scheme;
use super::super::function::BUCKETS;
use super::super::function::Directory;
use super::super::function::Key;
use super::super::function::KeyType;
use super::super::function::ShardFunction;
use super::super::function::runs;
use super::super::literal;
use super::super::mistake::Place;
use super::super::placement;
use super::super::read::At;
use super::super::read::Field;
use super::super::read::List;
use super::super::read::Named;
use super::super::read::Text;
use super::super::read::missing_key;
use super::Shards;
use super::Validator;
use super::database::Tables;

/// The heaviest weight on a ring.
const WEIGHT_MAX: u64 = 64;
/// The schemes that place rows by a key.
const KEYED: &[Scheme] = &[Scheme::Hash, Scheme::Range, Scheme::List, Scheme::Directory];

impl Validator<'_, '_> {
    pub(super) fn group(&mut self, name: &At<String>, group: &file::Group, ids: &Shards) -> Group {
        let scheme = group.scheme.given().map_or(Scheme::Hash, |at| at.value);
        let key_type = group.key.given().map_or(KeyType::BigInt, |at| at.value.0);
        // With a scheme that could not be read, nothing says which keys belong.
        let readable = !matches!(group.scheme, Field::Broken);
        if readable {
            self.keys_of_scheme(name, group, scheme);
        }
        let typed = group.key.given().is_some() && readable;
        let function = match scheme {
            Scheme::Hash => self.hash(group, key_type, typed, ids),
            Scheme::Range => self.range(group, key_type, typed, ids),
            Scheme::List => self.list(group, key_type, typed, ids),
            Scheme::Directory => self.directory(group, key_type, ids),
            Scheme::Schema => self.schemas(group, ids),
        };
        let key_type = if scheme == Scheme::Schema { KeyType::Text } else { key_type };
        Group {
            name: name.value.as_str().into(),
            key_type,
            // Thrown away with everything else: what is wrong has been reported.
            function: function.unwrap_or_else(|| ShardFunction::list(key_type, Vec::new(), None)),
            require_key: group.require_key.given().is_some_and(|flag| flag.value.0),
            explicit_placement: group.placement.given().is_some(),
        }
    }

    /// Keys that the scheme needs, and keys that belong to another.
    fn keys_of_scheme(&mut self, name: &At<String>, group: &file::Group, scheme: Scheme) {
        fn written<T>(field: &Field<T>, place: impl Fn(&T) -> Place) -> Option<Place> {
            field.given().map(place)
        }
        let word = scheme_word(scheme);
        let title = format!("group `{}`", name.value);
        let schemes = |schemes: &'static [Scheme]| schemes;
        let given = [
            ("key", written(&group.key, |at| at.place), schemes(KEYED)),
            ("placement", written(&group.placement, |at| at.place), schemes(&[Scheme::Hash])),
            ("pinned", written(&group.pinned, |named| named.place), schemes(&[Scheme::Hash, Scheme::Range])),
            ("values", written(&group.values, |named| named.place), schemes(&[Scheme::List])),
            ("other", written(&group.other, |at| at.place), schemes(&[Scheme::List, Scheme::Schema])),
            ("ranges", written(&group.ranges, |list| list.place), schemes(&[Scheme::Range])),
            ("directory", written(&group.directory, |record| record.place), schemes(&[Scheme::Directory])),
            ("schemas", written(&group.schemas, |named| named.place), schemes(&[Scheme::Schema])),
            ("tables", written(&group.tables, |named| named.place), schemes(KEYED)),
            ("require_key", written(&group.require_key, |at| at.place), schemes(KEYED)),
        ];
        for (key, place, belongs) in given {
            let Some(place) = place.filter(|_| !belongs.contains(&scheme)) else { continue };
            let owner = belongs.first().map_or("", |scheme| scheme_word(*scheme));
            self.mistakes.error(
                "map-scheme-key",
                place,
                format!("`{key}` means nothing in a group of scheme {word}"),
                format!("Remove `{key}`, or write `scheme: {owner}`."),
            );
        }
        let needed = [
            ("key", group.key.is_absent(), scheme != Scheme::Schema),
            ("values", group.values.is_absent(), scheme == Scheme::List),
            ("ranges", group.ranges.is_absent(), scheme == Scheme::Range),
            ("directory", group.directory.is_absent(), scheme == Scheme::Directory),
            ("schemas", group.schemas.is_absent(), scheme == Scheme::Schema),
        ];
        for (key, absent, is_needed) in needed {
            if absent && is_needed {
                missing_key(&title, key, name.place, self.mistakes);
            }
        }
    }

    pub(super) fn group_tables(
        &mut self,
        index: usize,
        name: &At<String>,
        group: &file::Group,
        tables: &mut Tables,
        trusted_triggers: &mut Vec<TableName>,
    ) {
        let named = group.tables.given();
        let is_schema = group.scheme.given().is_some_and(|at| at.value == Scheme::Schema);
        let none = group.tables.is_absent() || named.is_some_and(|named| named.entries.is_empty());
        if none && !is_schema {
            self.mistakes.error(
                "map-group-empty",
                name.place,
                format!("group `{}` has no table", name.value),
                "List its tables with the column that holds the key: `tables: {orders: customer_id}`.",
            );
        }
        for (table, spelled) in named.into_iter().flat_map(Named::iter) {
            let (key, triggers) = match spelled {
                file::Table::Key(key) => (Some(key), None),
                file::Table::Record(record) => (record.key.given(), record.triggers.given()),
            };
            let Some(key) = key else { continue };
            let placement = Placement::Sharded { group: index, key: key.value.0.as_str().into() };
            tables.place(table, format!("group `{}`", name.value), placement, self.mistakes);
            if triggers.is_some() {
                trusted_triggers.push(tables.naming.table(&table.value));
            }
        }
    }

    fn hash(&mut self, group: &file::Group, key_type: KeyType, typed: bool, ids: &Shards) -> Option<ShardFunction> {
        let pinned = self.pinned(group, key_type, typed, ids);
        let buckets = match &group.placement {
            Field::Absent => {
                let all: Vec<ShardId> = (0_u16..).map(ShardId).take(ids.names.len()).collect();
                (!all.is_empty()).then(|| placement::equal_shares(&all))
            }
            Field::Broken => None,
            Field::Given(at) => match &at.value {
                file::Placement::Ranges(named) => self.bucket_ranges(at.place, named, ids),
                file::Placement::Ring(named) => self.ring(at.place, named, ids),
                file::Placement::Modulus(modulus) => self.modulus(modulus, ids),
            },
        };
        ShardFunction::hash(key_type, buckets?, pinned)
    }

    fn bucket_ranges(&mut self, place: Place, named: &Named<file::Buckets>, ids: &Shards) -> Option<Vec<ShardId>> {
        let mut owners: Vec<Option<ShardId>> = vec![None; usize::from(BUCKETS)];
        let mut whole = named.entries.iter().all(|(_, ranges)| ranges.is_some());
        for (name, ranges) in named.iter() {
            let shard = ids.find(&name.value, name.place, self.mistakes);
            whole &= shard.is_some();
            for At { place, value: (first, last) } in &ranges.0 {
                if *last >= u64::from(BUCKETS) {
                    self.mistakes.error(
                        "map-bucket-range",
                        *place,
                        format!("there is no bucket {last}"),
                        format!("Buckets are 0 to {}.", BUCKETS - 1),
                    );
                    whole = false;
                }
                let mut taken = None;
                let bound = |bucket: u64| usize::try_from(bucket).unwrap_or(usize::MAX);
                let run = (*first..=*last).zip(owners.iter_mut().skip(bound(*first)));
                for (bucket, owner) in run {
                    // An unknown shard's buckets are placed all the same, so as not to be missed below.
                    if owner.replace(shard.unwrap_or(ShardId(0))).is_some() && taken.is_none() {
                        taken = Some(bucket);
                    }
                }
                if let Some(bucket) = taken {
                    self.mistakes.error(
                        "map-bucket-twice",
                        *place,
                        format!("bucket {bucket} is placed a second time"),
                        "Every bucket lies on one shard: let the ranges end where others begin.",
                    );
                    whole = false;
                }
            }
        }
        let missing: Vec<ShardId> = owners.iter().map(|owner| ShardId(u16::from(owner.is_none()))).collect();
        let missing: Vec<String> = runs(&missing)
            .filter(|(.., missing)| missing.0 == 1)
            .map(|(first, last, _)| if first == last { first.to_string() } else { format!("{first}-{last}") })
            .collect();
        if !missing.is_empty() && named.entries.iter().all(|(_, ranges)| ranges.is_some()) {
            let shown = missing.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            let more = if missing.len() > 5 { ", …" } else { "" };
            self.mistakes.error(
                "map-bucket-unplaced",
                place,
                format!("no shard has bucket {shown}{more}"),
                format!("Place every bucket from 0 to {} once.", BUCKETS - 1),
            );
            whole = false;
        }
        if whole { owners.into_iter().collect() } else { None }
    }

    fn ring(&mut self, place: Place, named: &Named<At<super::Number>>, ids: &Shards) -> Option<Vec<ShardId>> {
        let mut members: Vec<(Arc<str>, ShardId, usize)> = Vec::new();
        for (name, weight) in named.iter() {
            let field = Field::Given(weight.clone());
            let weight = self.number("ring", Some(&field), 1, 1..=WEIGHT_MAX);
            if let Some(shard) = ids.find(&name.value, name.place, self.mistakes) {
                members.push((name.value.as_str().into(), shard, weight.min(64)));
            }
        }
        if named.entries.is_empty() {
            self.mistakes.error(
                "map-bucket-unplaced",
                place,
                "the ring has no shard",
                "Name shards and their weights.",
            );
        }
        (!members.is_empty() && !self.mistakes.any_error()).then(|| placement::ring(&members))
    }

    fn modulus(&mut self, it: &file::ModulusPlacement, ids: &Shards) -> Option<Vec<ShardId>> {
        let (modulus, shards) = (it.modulus.given()?, it.shards.given()?);
        let number = modulus.value.0;
        if !number.is_power_of_two() || number > u64::from(BUCKETS) {
            self.mistakes.error(
                "map-modulus",
                modulus.place,
                format!("buckets cannot be placed by their remainder modulo {number}"),
                format!("Write a power of two, 1 to {BUCKETS}."),
            );
            return None;
        }
        let found: Vec<_> = shards.iter().map(|at| ids.find(&at.value.0, at.place, self.mistakes)).collect();
        if shards.items.len() as u64 != number {
            self.mistakes.error(
                "map-modulus",
                shards.place,
                format!(
                    "modulus {number} needs {number} shards in the order of the remainders; here stand {}",
                    shards.items.len()
                ),
                "Name a shard for each remainder, the same one several times if need be.",
            );
            return None;
        }
        let found = found.into_iter().collect::<Option<Vec<_>>>()?;
        (found.len() as u64 == number).then(|| placement::by_remainder(&found))
    }

    fn pinned(&mut self, group: &file::Group, key_type: KeyType, typed: bool, ids: &Shards) -> Vec<(Key, ShardId)> {
        let named = group.pinned.given();
        self.keys_by_shard(named, key_type, typed, ids, "map-pinned-type", "map-pinned-twice", "pinned")
    }

    #[expect(clippy::too_many_arguments, reason = "the two callers differ in what they call the mistakes")]
    fn keys_by_shard(
        &mut self,
        named: Option<&Named<List<Literal>>>,
        key_type: KeyType,
        typed: bool,
        ids: &Shards,
        wrong_type: &'static str,
        twice: &'static str,
        verb: &str,
    ) -> Vec<(Key, ShardId)> {
        let mut keys: BTreeMap<Key, (Place, ShardId)> = BTreeMap::new();
        for (name, list) in named.into_iter().flat_map(Named::iter) {
            let shard = ids.find(&name.value, name.place, self.mistakes).unwrap_or(ShardId(0));
            for at in list.iter().filter(|_| typed) {
                let Some(key) = self.literal(at, key_type, wrong_type) else { continue };
                if let Some((first, _)) = keys.get(&key) {
                    let line = self.mistakes.line(*first);
                    self.mistakes.error(
                        twice,
                        at.place,
                        format!("`{}` is {verb} a second time", at.value.text),
                        format!("The first is on line {line}: keep one."),
                    );
                } else {
                    keys.insert(key, (at.place, shard));
                }
            }
        }
        keys.into_iter().map(|(key, (_, shard))| (key, shard)).collect()
    }

    fn literal(&mut self, at: &At<Literal>, key_type: KeyType, wrong_type: &'static str) -> Option<Key> {
        match literal::parse(&at.value, key_type, wrong_type) {
            Ok(key) => Some(key),
            Err((code, message, hint)) => {
                self.mistakes.error(code, at.place, message, hint);
                None
            }
        }
    }

    fn list(&mut self, group: &file::Group, key_type: KeyType, typed: bool, ids: &Shards) -> Option<ShardFunction> {
        let named = group.values.given();
        let values = self.keys_by_shard(named, key_type, typed, ids, "map-value-type", "map-value-twice", "listed");
        let other = self.shard_or_reject(&group.other, ids);
        Some(ShardFunction::list(key_type, values, other))
    }

    fn shard_or_reject(&mut self, field: &Field<At<Text>>, ids: &Shards) -> Option<ShardId> {
        let at = field.given().filter(|at| at.value.0 != "reject")?;
        ids.find(&at.value.0, at.place, self.mistakes)
    }

    fn range(&mut self, group: &file::Group, key_type: KeyType, typed: bool, ids: &Shards) -> Option<ShardFunction> {
        let pinned = self.pinned(group, key_type, typed, ids);
        let list = group.ranges.given()?;
        if list.items.is_empty() {
            self.mistakes.error("map-range-gap", list.place, "no key is in any range", "List the ranges.");
        }
        let mut pieces = Vec::new();
        let mut whole = typed && list.items.iter().all(Option::is_some);
        for At { value: range, .. } in list.iter() {
            let shard = range.shard.given().and_then(|at| ids.find(&at.value.0, at.place, self.mistakes));
            let mut bound = |field: &Field<At<Literal>>| match field {
                Field::Absent => Some(None),
                Field::Broken => None,
                Field::Given(_) if !typed => None,
                Field::Given(at) => self.literal(at, key_type, "map-bound-type").map(Some),
            };
            let (from, to) = (bound(&range.from), bound(&range.to));
            let (Some(from), Some(to), Some(shard)) = (from, to, shard) else {
                whole = false;
                continue;
            };
            let place = |field: &Field<At<Literal>>| field.given().map_or(range.place, |at| at.place);
            if let (Some(low), Some(high)) = (&from, &to)
                && low >= high
            {
                self.mistakes.error(
                    "map-range-empty",
                    place(&range.to),
                    "this range holds no key: it ends before it begins",
                    "A range holds from ≤ key < to.",
                );
                whole = false;
                continue;
            }
            pieces.push(Piece { from_place: place(&range.from), to_place: place(&range.to), from, to, shard });
        }
        if !whole {
            return None;
        }
        // None, below every key, sorts first.
        pieces.sort_by(|a, b| a.from.cmp(&b.from));
        for (before, piece) in pieces.iter().zip(pieces.iter().skip(1)) {
            self.neighbours(before, piece);
        }
        let end = pieces.last().and_then(|piece| piece.to.clone());
        let pieces = pieces.into_iter().map(|piece| (piece.from, piece.shard)).collect();
        Some(ShardFunction::range(key_type, pieces, end, pinned))
    }

    /// `piece` must begin where `before` ends.
    fn neighbours(&mut self, before: &Piece, piece: &Piece) {
        let (code, message) = match (&before.to, &piece.from) {
            (Some(to), Some(from)) if to == from => return,
            (Some(to), Some(from)) if to < from => {
                ("map-range-gap", "keys between this range and the one before are in none")
            }
            _ => ("map-range-overlap", "this range begins before the one before it ends"),
        };
        let line = self.mistakes.line(before.to_place);
        self.mistakes.error(
            code,
            piece.from_place,
            message,
            format!("Let it begin with the `to` of the range on line {line}: from ≤ key < to."),
        );
    }

    fn directory(&mut self, group: &file::Group, key_type: KeyType, ids: &Shards) -> Option<ShardFunction> {
        let it = group.directory.given()?;
        let shard = it.shard.given().and_then(|at| ids.find(&at.value.0, at.place, self.mistakes));
        let missing = self.shard_or_reject(&it.missing, ids);
        let cache = self.span("cache", Some(&it.cache), 30 * super::SECOND, super::Zero::Allowed, super::DAY);
        let word = |field: &Field<At<Text>>| field.given().map(|at| at.value.0.clone());
        let (table, key, target) = (word(&it.table)?, word(&it.key)?, word(&it.target)?);
        let directory = Directory {
            shard: shard?,
            table: TableName::parse(&table),
            key: key.as_str().into(),
            target: target.as_str().into(),
            cache,
            missing,
        };
        Some(ShardFunction::directory(key_type, directory, ShardSet::all(ids.names.len())))
    }

    fn schemas(&mut self, group: &file::Group, ids: &Shards) -> Option<ShardFunction> {
        let mut homes = Vec::new();
        for (name, shard) in group.schemas.given().into_iter().flat_map(Named::iter) {
            let home = ids.find(&shard.value.0, shard.place, self.mistakes).unwrap_or(ShardId(0));
            let is_own = matches!(name.value.as_str(), "public" | "shardway" | "information_schema");
            if is_own || name.value.starts_with("pg_") {
                self.mistakes.error(
                    "map-reserved-name",
                    name.place,
                    format!("schema `{}` is not one that a shard can have to itself", name.value),
                    "Tables of `public` are listed one by one; `unlisted` is where all others of them go.",
                );
            }
            homes.push((Key::Text(name.value.clone().into_bytes()), home));
        }
        let other = self.shard_or_reject(&group.other, ids);
        Some(ShardFunction::schemas(homes, other))
    }

    /// The schemas of all groups of that scheme together.
    pub(super) fn all_schemas(&mut self, file: &file::Database, tables: &Tables, ids: &Shards) -> Schemas {
        let mut all = Schemas::default();
        let mut places: BTreeMap<String, Place> = BTreeMap::new();
        let mut rest: Option<Place> = None;
        for (_, group) in file.groups.given().into_iter().flat_map(Named::iter) {
            if group.scheme.given().is_none_or(|at| at.value != Scheme::Schema) {
                continue;
            }
            for (name, shard) in group.schemas.given().into_iter().flat_map(Named::iter) {
                let home = ids.numbers.get(&shard.value.0).copied().unwrap_or(ShardId(0));
                if let Some(first) = places.insert(name.value.clone(), name.place) {
                    let line = self.mistakes.line(first);
                    self.mistakes.error(
                        "map-schema-twice",
                        name.place,
                        format!("schema `{}` is placed a second time", name.value),
                        format!("The first is on line {line}: keep one."),
                    );
                }
                let mut listed: Vec<&TableName> = tables.placed.keys().filter(|it| *it.schema == *name.value).collect();
                listed.sort();
                if let Some(table) = listed.first() {
                    self.mistakes.error(
                        "map-schema-table",
                        name.place,
                        format!(
                            "schema `{}` is whole on one shard, and table `{table}` is listed elsewhere",
                            name.value
                        ),
                        "Remove the table from the map: it is where its schema is.",
                    );
                }
                all.homes.insert(name.value.as_str().into(), home);
            }
            let Some(at) = group.other.given().filter(|at| at.value.0 != "reject") else { continue };
            if let Some(first) = rest.replace(at.place) {
                let line = self.mistakes.line(first);
                self.mistakes.error(
                    "map-schema-twice",
                    at.place,
                    "the rest of the schemas is placed a second time",
                    format!("The first `other` is on line {line}: keep one."),
                );
            }
            all.other = ids.numbers.get(&at.value.0).copied();
        }
        all
    }
}

/// A range whose bounds are read.
struct Piece {
    from: Option<Key>,
    to: Option<Key>,
    shard: ShardId,
    from_place: Place,
    to_place: Place,
}

fn scheme_word(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Hash => "hash",
        Scheme::Range => "range",
        Scheme::List => "list",
        Scheme::Directory => "directory",
        Scheme::Schema => "schema",
    }
}
