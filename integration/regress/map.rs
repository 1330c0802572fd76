//! Where the tables of one file lie: found by running the file alone on a scratch database first.
//!
//! A table lies by the first of its columns that can be a key and never holds NULL while the file runs; those that
//! have none lie on one shard, or on both. Tables that inherit from each other lie alike.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::sides::Session;

/// How a table lies on the shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lies {
    /// By this column, of this type, with this hash.
    By(String, &'static str, &'static str),
    Everywhere,
    /// On the first shard or the second.
    On(usize),
}

/// Types of keys: OID, name in the map, and how Postgres hashes them.
const KEYS: [(&str, &str, &str); 8] = [
    ("20", "bigint", "pg_catalog.hashint8extended(KEY, 8816678312871386365)"),
    ("23", "int", "pg_catalog.hashint4extended(KEY, 8816678312871386365)"),
    ("21", "smallint", "pg_catalog.hashint2extended(KEY, 8816678312871386365)"),
    ("25", "text", "pg_catalog.hashtextextended(KEY, 8816678312871386365)"),
    ("1043", "text", "pg_catalog.hashtextextended(KEY::pg_catalog.text, 8816678312871386365)"),
    ("2950", "uuid", "pg_catalog.uuid_hash_extended(KEY, 8816678312871386365)"),
    (
        "1082",
        "date",
        "pg_catalog.hashint4extended(CASE KEY WHEN 'infinity' THEN 2147483647 WHEN '-infinity' THEN -2147483648 \
         ELSE KEY - date '2000-01-01' END, 8816678312871386365)",
    ),
    ("1184", "timestamptz", "pg_catalog.timestamp_hash_extended(KEY AT TIME ZONE 'UTC', 8816678312871386365)"),
];

/// What the scratch run saw, so far.
#[derive(Default)]
pub(crate) struct Seen {
    tables: BTreeMap<String, Table>,
    /// Children and parents.
    families: BTreeSet<(String, String)>,
    /// Functions by name, with the bodies they had.
    functions: BTreeMap<String, BTreeSet<String>>,
    /// Everything that FROM can name.
    relations: BTreeSet<String>,
}

struct Table {
    /// Columns that may be the key: name and type.
    keys: Vec<(String, String)>,
}

impl Seen {
    /// Takes in what there is now.
    pub(crate) fn look(&mut self, scratch: &mut Session, named: impl Fn(&str) -> bool) {
        let mine = "n.nspname !~ '^(pg_|information_schema|shardway)'";
        let names = scratch.table(&format!(
            "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE {mine} AND c.relkind IN ('r', 'p', 'v', 'm', 'S')"
        ));
        self.relations.extend(names.into_iter().flatten());
        let families = scratch.table(
            "SELECT a.relnamespace::regnamespace || '.' || a.relname, b.relnamespace::regnamespace || '.' || b.relname \
             FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class a ON a.oid = i.inhrelid \
             JOIN pg_catalog.pg_class b ON b.oid = i.inhparent WHERE a.relkind IN ('r', 'p')",
        );
        self.families.extend(families.into_iter().map(|mut it| (it.remove(0), it.remove(0))));
        let functions = scratch.table(&format!(
            "SELECT n.nspname || '.' || p.proname, l.lanname || ' ' || CASE WHEN p.prokind = 'a' THEN '' \
             ELSE pg_catalog.pg_get_functiondef(p.oid) END FROM pg_catalog.pg_proc p \
             JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
             WHERE {mine}"
        ));
        for mut row in functions {
            let body = row.pop().expect("two columns");
            self.functions.entry(row.remove(0)).or_default().insert(body);
        }
        let columns = scratch.table(&format!(
            "SELECT n.nspname || '.' || c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind, \
             c.relhasrules OR c.relrowsecurity, coalesce(a.attname, ''), coalesce(a.atttypid, 0), \
             coalesce(a.attnotnull, false), coalesce(l.collisdeterministic, true) \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
             LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation \
             WHERE {mine} AND c.relkind IN ('r', 'p') ORDER BY 1, a.attnum"
        ));
        let mut now: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        let mut asked = Vec::new();
        for row in columns {
            let [table, full, kind, ruled, column, oid, filled, plain] =
                <[String; 8]>::try_from(row).expect("eight columns");
            if !named(table.split('.').next_back().unwrap_or_default()) {
                continue;
            }
            let keys = now.entry(table.clone()).or_default();
            if ruled == "t" || plain == "f" || column.contains('"') || KEYS.iter().all(|it| it.0 != oid) {
                continue;
            }
            if filled == "f" && kind == "r" {
                asked.push((table, column.clone(), format!("SELECT bool_or(\"{column}\" IS NULL) FROM ONLY {full}")));
            }
            keys.push((column, oid));
        }
        let holes: Vec<String> =
            asked.iter().enumerate().map(|(place, it)| format!("SELECT {place}, ({})", it.2)).collect();
        if !holes.is_empty() {
            let holes = scratch.table(&(holes.join(" UNION ALL ") + " ORDER BY 1"));
            for (hole, (table, column, _)) in holes.iter().zip(&asked) {
                if hole[1] == "t"
                    && let Some(keys) = now.get_mut(table)
                {
                    keys.retain(|it| it.0 != *column);
                }
            }
        }
        for (name, keys) in now {
            self.tables.entry(name).and_modify(|it| it.keys.retain(|key| keys.contains(key))).or_insert(Table { keys });
        }
    }

    /// The map that follows.
    pub(crate) fn map(&self) -> Map {
        let mut tables = BTreeMap::new();
        // A family is known by the least of its members' names.
        let mut family: BTreeMap<&str, &str> = self.tables.keys().map(|it| (it.as_str(), it.as_str())).collect();
        while let Some((from, to)) = self.families.iter().find_map(|(child, parent)| {
            let (a, b) = (*family.get(child.as_str())?, *family.get(parent.as_str())?);
            (a != b).then(|| (a.max(b), a.min(b)))
        }) {
            family.values_mut().filter(|it| **it == from).for_each(|it| *it = to);
        }
        let (mut keyless, heads) = (0, family.values().copied().collect::<BTreeSet<&str>>());
        for head in heads {
            let members: Vec<&str> = family.iter().filter(|it| *it.1 == head).map(|it| *it.0).collect();
            let keys_of = |it: &str| self.tables.get(it).map_or(&[][..], |it| &it.keys);
            // A column that all have is one of the root's, which come first there.
            let root = members.iter().find(|it| !self.families.iter().any(|(child, _)| child == *it)).unwrap_or(&head);
            let key = keys_of(root).iter().find(|key| members.iter().all(|it| keys_of(it).contains(key)));
            let lies = match key.and_then(|key| Some((key, KEYS.iter().find(|it| it.0 == key.1)?))) {
                Some((key, (_, kind, hash))) => Lies::By(key.0.clone(), kind, hash),
                None => {
                    keyless += 1;
                    [Lies::Everywhere, Lies::On(1), Lies::On(0)][keyless % 3].clone()
                }
            };
            tables.extend(members.iter().map(|it| ((*it).to_owned(), lies.clone())));
        }
        Map { tables, safe: self.safe() }
    }

    /// Functions whose bodies name no relation, nor a function that does.
    fn safe(&self) -> Vec<String> {
        let words = |body: &str| -> BTreeSet<String> {
            body.split(|it: char| !it.is_alphanumeric() && it != '_').map(str::to_lowercase).collect()
        };
        let mut unsafe_words: BTreeSet<String> = self.relations.clone();
        unsafe_words.extend(["execute", "nextval", "setval", "currval", "set_config"].map(str::to_owned));
        let mut safe: BTreeMap<&String, BTreeSet<String>> = BTreeMap::new();
        for (name, bodies) in &self.functions {
            // Its own name stands in its definition.
            let own = name.split('.').next_back().unwrap_or_default().to_lowercase();
            let all = bodies.iter().flat_map(|it| words(it)).filter(|it| *it != own).collect();
            safe.insert(name, all);
        }
        loop {
            let found: Vec<&String> =
                safe.iter().filter(|it| !it.1.is_disjoint(&unsafe_words)).map(|it| *it.0).collect();
            if found.is_empty() {
                break;
            }
            for name in found {
                safe.remove(name);
                unsafe_words.extend(name.split('.').next_back().map(str::to_lowercase));
            }
        }
        safe.into_keys().filter(|it| ordinary(it)).cloned().collect()
    }
}

/// Whether the map's file can have the name as it is.
fn ordinary(name: &str) -> bool {
    name.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_' || it == '.')
        && name.matches('.').count() == 1
}

#[derive(Default)]
pub(crate) struct Map {
    tables: BTreeMap<String, Lies>,
    safe: Vec<String>,
}

impl Map {
    pub(crate) fn lies(&self, table: &str) -> Option<&Lies> {
        self.tables.get(table)
    }

    /// How many tables lie by a key, everywhere, and on one shard.
    pub(crate) fn counts(&self) -> [usize; 3] {
        let of = |which: fn(&Lies) -> bool| self.tables.values().filter(|it| which(it)).count();
        [of(|it| matches!(it, Lies::By(..))), of(|it| *it == Lies::Everywhere), of(|it| matches!(it, Lies::On(_)))]
    }

    /// The map's file.
    pub(crate) fn text(&self, database: &str, listen: u16, shards: [u16; 2]) -> String {
        let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut others: [Vec<&str>; 3] = Default::default();
        for (table, lies) in self.tables.iter().filter(|it| ordinary(it.0)) {
            match lies {
                Lies::By(key, kind, _) => groups.entry(kind).or_default().push(format!("{table}: \"{key}\"")),
                Lies::Everywhere => others[2].push(table),
                Lies::On(home) => others[*home].push(table),
            }
        }
        let mut text = format!(
            "version: 1\nlisten: {{postgres: 127.0.0.1:{listen}}}\ndatabases:\n  {database}:\n    \
             functions: {{safe: [{}]}}\n    shards: {{s1: [127.0.0.1:{}], s2: [127.0.0.1:{}]}}\n",
            self.safe.join(", "),
            shards[0],
            shards[1]
        );
        if !groups.is_empty() {
            text.push_str("    groups:\n");
        }
        for (kind, tables) in groups {
            let _ = writeln!(text, "      by_{kind}: {{key: {kind}, tables: {{{}}}}}", tables.join(", "));
        }
        let [first, second, everywhere] = others.map(|it| it.join(", "));
        let _ = write!(
            text,
            "    reference: [{everywhere}]\n    unsharded: {{s1: [{first}], s2: [{second}]}}\nusers: {{{}: {{auth: trust}}}}\n",
            super::sides::USER
        );
        text
    }
}
