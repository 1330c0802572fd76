//! Schemas and rows made up by a seed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::choices::Choices;
use super::types::Kind;
use super::types::TYPES;

/// A column as statements see it.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Quoted if it must be.
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// Where a table's rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lies {
    /// By the hash of the first column.
    Big,
    Word,
    Id,
    /// By ranges of the first column.
    Band,
    Everywhere,
    Home,
}

impl Lies {
    pub(crate) fn is_spread(self) -> bool {
        !matches!(self, Self::Everywhere | Self::Home)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) lies: Lies,
    pub(crate) columns: Vec<Column>,
    /// The columns that name one row; none: rows may be there twice.
    pub(crate) unique: Vec<String>,
    /// Its rows are in partitions.
    pub(crate) partitioned: bool,
}

/// A view and its columns.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
}

#[derive(Debug)]
pub(crate) struct World {
    /// Its schema; another has the same name and an x behind it.
    pub(crate) schema: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) views: Vec<View>,
    /// What makes the tables, the same on every server.
    pub(crate) ddl: String,
    /// All rows, as INSERTs.
    pub(crate) rows: Vec<String>,
}

/// Types that every world uses, and the functions that the map calls safe.
pub(crate) const TYPES_DDL: &str = "
CREATE TYPE mood AS ENUM ('sad', 'calm', 'glad', 'it''s \"odd\"', 'Sad');
CREATE DOMAIN score AS integer CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN label AS text NOT NULL DEFAULT '';
CREATE TYPE pair AS (a integer, b text);
CREATE TYPE nest AS (n integer, p pair);
CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE FUNCTION twice(n bigint) RETURNS bigint IMMUTABLE LANGUAGE sql AS 'SELECT n * 2';
";

const NAMES: &[&str] = &[
    "n",
    "note",
    "\"Name\"",
    "\"select\"",
    "größe",
    "\"a b\"",
    "\"q\"\"q\"",
    "id",
    "x",
    "y2",
    "a",
    "\"$1\"",
    "value",
    "t0",
    "date",
];

const ALL: [(&str, Lies); 9] = [
    ("t0", Lies::Big),
    ("t1", Lies::Big),
    ("t2", Lies::Big),
    ("w0", Lies::Word),
    ("\"Ids\"", Lies::Id),
    ("b0", Lies::Band),
    ("empty", Lies::Big),
    ("ref", Lies::Everywhere),
    ("home", Lies::Home),
];

/// How often a column is NULL, in percent.
const NULLS: usize = 15;

impl World {
    pub(crate) fn new(seed: u64, number: usize) -> Self {
        let mut choices = Choices::random(seed);
        let schema = format!("g{number}");
        let mut world = Self {
            schema: schema.clone(),
            tables: Vec::new(),
            views: Vec::new(),
            ddl: format!("CREATE SCHEMA {schema}; CREATE SCHEMA {schema}x;\n"),
            rows: Vec::new(),
        };
        for (name, lies) in ALL {
            world.add_table(&mut choices, &schema, name, lies);
        }
        // The same names again, with other columns and places.
        let other = format!("{schema}x");
        world.add_table(&mut choices, &other, "t0", Lies::Big);
        world.add_table(&mut choices, &other, "t1", Lies::Word);
        world.add_views();
        world
    }

    fn add_table(&mut self, choices: &mut Choices, schema: &str, name: &str, lies: Lies) {
        let key = match lies {
            Lies::Big => ("k", Kind::Big, "bigint"),
            Lies::Word => ("k", Kind::Text, "text"),
            Lies::Id => ("\"Id\"", Kind::Uuid, "uuid"),
            Lies::Band => ("k", Kind::Int, "integer"),
            Lies::Everywhere => ("code", Kind::Text, "text"),
            Lies::Home => ("name", Kind::Text, "text"),
        };
        let mut columns = vec![Column { name: key.0.to_owned(), kind: key.1 }];
        let mut definitions = vec![format!("{} {} NOT NULL", key.0, key.2)];
        let mut pools: Vec<(&[&str], bool)> = vec![(&[], false)];
        let unique = match choices.below(4) {
            0 | 1 => vec![key.0.to_owned()],
            2 => {
                columns.push(Column { name: "no".to_owned(), kind: Kind::Int });
                definitions.push("no integer NOT NULL".to_owned());
                pools.push((&[], false));
                vec![key.0.to_owned(), "no".to_owned()]
            }
            _ => Vec::new(),
        };
        let count = 3 + choices.below(6);
        let mut taken: BTreeSet<&str> = BTreeSet::new();
        let mut dropped = Vec::new();
        let mut generated = None;
        while columns.len() < count {
            let name = NAMES[choices.below(NAMES.len())];
            if !taken.insert(name) {
                continue;
            }
            if choices.chance(6) {
                // Its number stays taken.
                definitions.push(format!("gone{} integer", dropped.len()));
                dropped.push(format!("gone{}", dropped.len()));
            }
            let (kind, sql, pool) = TYPES[choices.below(TYPES.len())];
            columns.push(Column { name: name.to_owned(), kind });
            definitions.push(format!("{name} {sql}"));
            pools.push((pool, sql == "label"));
        }
        if choices.chance(20) && columns.iter().all(|it| it.name != "twin") {
            let of = columns[choices.below(columns.len())].clone();
            // Not of every kind: its text form must not depend on settings.
            if matches!(of.kind, Kind::Int | Kind::Text | Kind::Big | Kind::Num) {
                definitions
                    .push(format!("twin text GENERATED ALWAYS AS (coalesce({}::text, '-') || '!') STORED", of.name));
                generated = Some(Column { name: "twin".to_owned(), kind: Kind::Text });
            }
        }
        if !unique.is_empty() {
            definitions.push(format!("PRIMARY KEY ({})", unique.join(", ")));
        }
        let partitioned = choices.chance(15) && lies == Lies::Big;
        let by = if partitioned { format!(" PARTITION BY HASH ({})", key.0) } else { String::new() };
        let _ = writeln!(self.ddl, "CREATE TABLE {schema}.{name} ({}){by};", definitions.join(", "));
        for part in (0..2).filter(|_| partitioned) {
            let _ = writeln!(
                self.ddl,
                "CREATE TABLE {schema}.part_{name}_{part} PARTITION OF {schema}.{name} FOR VALUES WITH (MODULUS 2, REMAINDER {part});"
            );
        }
        for column in dropped {
            let _ = writeln!(self.ddl, "ALTER TABLE {schema}.{name} DROP COLUMN {column};");
        }
        let rows = match (name, lies) {
            ("empty", _) => 0,
            ("t2", _) => 40,
            _ => 8 + choices.below(14),
        };
        // All rows of one key, or keys of their own.
        let hot = name == "t2";
        let names: Vec<&str> = columns.iter().map(|it| it.name.as_str()).collect();
        for row in 0..rows {
            let one_key = hot && unique != [key.0];
            let at = if one_key { 3 } else { row };
            let repeated = unique.is_empty() && choices.chance(40);
            let at = if repeated || unique.len() == 2 { at % 5 } else { at };
            let mut cells = vec![match lies {
                Lies::Big => ["1", "2", "3", "0", "-7", "9223372036854775807", "2147483648"]
                    .get(at)
                    .map_or_else(|| (at * 3).to_string(), |it| (*it).to_owned()),
                Lies::Band => (at * 10).to_string(),
                Lies::Id => format!("'{:08x}-0000-4000-8000-{:012x}'", at * 0x1357_9bd, at),
                _ => ["'a'", "'b'", "'A'", "'ä'", "''", "'10'", "'it''s'", "'\"'", "'\\'", "' a'"]
                    .get(at)
                    .map_or_else(|| format!("'w{at}'"), |it| (*it).to_owned()),
            }];
            if unique.len() == 2 {
                cells.push(row.to_string());
            }
            for (pool, required) in pools.iter().skip(cells.len()) {
                if !required && choices.chance(NULLS) {
                    cells.push("NULL".to_owned());
                } else {
                    cells.push(quoted(pool[choices.below(pool.len())]));
                }
            }
            self.rows.push(format!(
                "INSERT INTO {schema}.{name} ({}) VALUES ({});",
                names.join(", "),
                cells.join(", ")
            ));
        }
        columns.extend(generated);
        self.tables.push(Table {
            schema: schema.to_owned(),
            name: name.to_owned(),
            lies,
            columns,
            unique,
            partitioned,
        });
    }

    fn add_views(&mut self) {
        let schema = self.schema.clone();
        let mut add = |name: &str, columns: Vec<Column>, definition: String| {
            let _ = writeln!(self.ddl, "CREATE VIEW {schema}.{name} AS {definition};");
            self.views.push(View { name: name.to_owned(), columns });
        };
        let column = |name: &str, kind: Kind| Column { name: name.to_owned(), kind };
        let t0 = &self.tables[0];
        let t1 = &self.tables[1];
        let renamed = |table: &Table, prefix: &str| -> (Vec<Column>, String) {
            let columns: Vec<Column> =
                table.columns.iter().enumerate().map(|(at, it)| column(&format!("{prefix}{at}"), it.kind)).collect();
            let list: Vec<String> = table
                .columns
                .iter()
                .zip(&columns)
                .map(|(from, to)| format!("{prefix}.{} AS {}", from.name, to.name))
                .collect();
            (columns, list.join(", "))
        };
        add("v_all", t0.columns.clone(), format!("SELECT * FROM {schema}.t0"));
        let (columns, list) = renamed(t1, "u");
        add("v_some", columns, format!("SELECT {list} FROM {schema}.t1 u WHERE u.k > 1"));
        let (left, left_list) = renamed(t0, "p");
        let (right, right_list) = renamed(t1, "q");
        add(
            "v_join",
            [left, right].concat(),
            format!("SELECT {left_list}, {right_list} FROM {schema}.t0 p LEFT JOIN {schema}.t1 q ON p.k = q.k"),
        );
        add(
            "v_count",
            vec![column("k", Kind::Big), column("n", Kind::Big)],
            format!("SELECT k, count(*) AS n FROM {schema}.t1 GROUP BY k"),
        );
        add(
            "v_ref",
            vec![column("k", Kind::Big), column("code", Kind::Text), column("s", Kind::Int)],
            format!("SELECT t.k, r.code, 3::score AS s FROM {schema}.t1 t JOIN {schema}.ref r ON r.code <> t.k::text"),
        );
        add(
            "v_view",
            vec![column("m", Kind::Big), column("c", Kind::Big)],
            format!("SELECT max(k) AS m, count(*) AS c FROM {schema}.v_all"),
        );
    }
}

pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
