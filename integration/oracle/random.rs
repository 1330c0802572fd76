//! Statements made up by a seed, about keys most of all.

use std::env;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::cases::binary;
use super::compare::Order;
use super::rig::Rig;
use super::rig::Tally;
use super::rig::uuid;
use super::wire::How;
use super::wire::Value;

const STATEMENTS: usize = 3000;
/// After so many statements the rows of all servers are compared.
const ROWS_COMPARED_EVERY: usize = 500;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Uuid,
    Date,
}

/// A relation that statements are made about: its key, a number and a text of it.
#[derive(Clone, Copy)]
struct Relation {
    name: &'static str,
    key: &'static str,
    kind: Kind,
    number: &'static str,
    text: &'static str,
    /// What names one row.
    unique: &'static str,
}

const fn relation(
    (name, key): (&'static str, &'static str),
    kind: Kind,
    number: &'static str,
    text: &'static str,
    unique: &'static str,
) -> Relation {
    Relation { name, key, kind, number, text, unique }
}

const RELATIONS: &[Relation] = &[
    relation(("users", "id"), Kind::Number, "age", "country", "id"),
    relation(("users2", "id"), Kind::Number, "age", "name", "id"),
    relation(("orders", "user_id"), Kind::Number, "no", "note", "user_id, no"),
    relation(("adults", "id"), Kind::Number, "age", "name", "id"),
    relation(("sales", "id"), Kind::Number, "no", "name", "id, no"),
    relation(("pages", "slug"), Kind::Text, "n", "body", "slug"),
    relation(("devices", "id"), Kind::Uuid, "n", "label", "id"),
    relation(("days", "day"), Kind::Date, "length(what)", "what", "day"),
    relation(("countries", "code"), Kind::Text, "people", "name", "code"),
    relation(("settings", "name"), Kind::Text, "length(value)", "value", "name"),
];

/// A relation in FROM.
#[derive(Clone)]
struct Item {
    alias: String,
    relation: Relation,
}

impl Item {
    fn key(&self) -> String {
        format!("{}.{}", self.alias, self.relation.key)
    }

    fn number(&self) -> String {
        match self.relation.number.strip_prefix("length(") {
            Some(rest) => format!("length({}.{rest}", self.alias),
            None => format!("{}.{}", self.alias, self.relation.number),
        }
    }

    fn text(&self) -> String {
        format!("{}.{}", self.alias, self.relation.text)
    }
}

struct Maker {
    random: StdRng,
    /// Parameters may be used, and these are they.
    parameters: Option<Vec<(u32, String)>>,
    aliases: usize,
}

impl Maker {
    fn below(&mut self, count: usize) -> usize {
        self.random.random_range(0..count)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn parameter(&mut self, oid: u32, text: &str) -> Option<String> {
        let parameters = self.parameters.as_mut().filter(|it| it.len() < 8)?;
        parameters.push((oid, text.to_owned()));
        Some(format!("${}", parameters.len()))
    }

    /// A key that some rows have, mostly of few values so that conditions agree now and then.
    fn number(&mut self) -> i64 {
        match self.below(12) {
            0..7 => self.random.random_range(1..=8),
            7..10 => self.random.random_range(1..=60),
            10 => [0, -1, -5, 123, 1000, 2_147_483_648][self.below(6)],
            _ => [i64::MAX, i64::MIN, 99_999, 70_000][self.below(4)],
        }
    }

    /// A constant that a number is compared with, in one of its many guises.
    fn constant(&mut self, n: i64) -> String {
        if self.chance(30) {
            let oid = [0, 0, 20, 23, 21, 1700, 701][self.below(7)];
            let fits = match oid {
                23 | 0 => i32::try_from(n).is_ok(),
                21 => i16::try_from(n).is_ok(),
                _ => true,
            };
            if fits && let Some(it) = self.parameter(oid, &n.to_string()) {
                return it;
            }
        }
        if n == i64::MIN {
            return self
                .one(&["'-9223372036854775808'", "-9223372036854775808", "(-9223372036854775807 - 1)"])
                .to_owned();
        }
        match self.below(32) {
            0..8 => n.to_string(),
            8 | 9 => format!("'{n}'"),
            10 => format!("{n}.0"),
            11 => format!("({n})::numeric"),
            12 => format!("{n}e0"),
            13 => format!("({n})::bigint"),
            14 => format!("'{n}'::bigint"),
            15 => format!("bigint '{n}'"),
            16 => format!("'  {n} '"),
            17 => format!("(+{n})"),
            18 => format!("({n} + 0)"),
            19 => format!("({} - 1)", i128::from(n) + 1),
            20 => format!("({n} * 1)"),
            21 => format!("'{n}'::text::bigint"),
            22 => format!("CAST({n} AS smallint)"),
            23 => format!("({n})::float8"),
            24 => format!("{n}.5"),
            25 => format!("CAST('{n}' AS int)"),
            26 => format!("(SELECT ({n}))"),
            27 => format!("- ({})", -i128::from(n)),
            28 => format!("abs({n})"),
            29 => format!("coalesce(NULL, {n})"),
            30 => format!("$q${n}$q$"),
            _ => self
                .one(&[
                    "NULL",
                    "-0",
                    "9223372036854775808",
                    "'99999999999999999999'",
                    "'5.0'",
                    "length('five.')",
                    "1.5",
                    "5.00000000000000000001",
                    "(7 / 2)",
                    "(-7 / 2)",
                    "(7 % 4)",
                    "2 ^ 2",
                    "(1 << 2)",
                    "4.5::int",
                    "5.5::int",
                    "2.5::float8::int",
                    "B'101'::int",
                    "''",
                    "true::int",
                    "twice(3)",
                    "5::real",
                    "'NaN'::float8",
                    "9007199254740993::float8",
                    "9223372036854775807 + 1",
                ])
                .to_owned(),
        }
    }

    fn text_of(&mut self) -> &'static str {
        self.one(&[
            "5", "05", " 5", "5 ", "5.0", "a", "A", "abc", "abc ", "é", "", "it''s", "123", "DE", "FR", "setting1",
            "new1",
        ])
    }

    fn key_constant(&mut self, kind: Kind) -> String {
        match kind {
            Kind::Number => {
                let n = self.number();
                self.constant(n)
            }
            Kind::Text => {
                let text = self.text_of();
                if self.chance(30) {
                    let oid = [0, 25, 1043, 1042][self.below(4)];
                    if let Some(it) = self.parameter(oid, &text.replace("''", "'")) {
                        return it;
                    }
                }
                match self.below(12) {
                    0..5 => format!("'{text}'"),
                    5 => format!("E'{text}'"),
                    6 => format!("'{text}'::text"),
                    7 => format!("'{text}'::varchar"),
                    8 => format!("'{text}'::char(3)"),
                    9 => format!("lower('{text}')"),
                    10 => format!("('{text}' || '')"),
                    _ => format!("'{text}'::varchar(1)"),
                }
            }
            Kind::Uuid => {
                let id = self.below(16);
                let id = uuid(id);
                if self.chance(30)
                    && let Some(it) = self.parameter([0, 2950][id.len() % 2], &id)
                {
                    return it;
                }
                match self.below(5) {
                    0 => format!("'{}'", id.to_uppercase()),
                    1 => format!("'{{{id}}}'"),
                    2 => format!("'{id}'::uuid"),
                    3 => format!("'{}'", id.replace('-', "")),
                    _ => format!("'{id}'"),
                }
            }
            Kind::Date => {
                let day = 10 + self.below(19);
                let day = format!("2024-02-{day}");
                if self.chance(30)
                    && let Some(it) = self.parameter([0, 1082, 1114][day.len() % 3], &day)
                {
                    return it;
                }
                match self.below(9) {
                    0 => format!("'{}'", day.replace('-', "")),
                    1 => format!("date '{day}'"),
                    2 => format!("'{day}'::date"),
                    3 => format!("timestamp '{day} 00:00'"),
                    4 => format!("'{day} 23:59'"),
                    5 => format!("(date '{day}' + 1)"),
                    6 => self.one(&["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'2024-02-30'", "NULL"]).to_owned(),
                    _ => format!("'{day}'"),
                }
            }
        }
    }

    /// A condition on rows of these.
    fn condition(&mut self, items: &[Item], depth: usize) -> String {
        let item = items[self.below(items.len())].clone();
        if depth > 0 && self.chance(45) {
            let (a, b) = (self.condition(items, depth - 1), self.condition(items, depth - 1));
            return match self.below(12) {
                0..5 => format!("({a} AND {b})"),
                5..8 => format!("({a} OR {b})"),
                8 => format!("NOT ({a})"),
                9 => format!("(CASE WHEN {a} THEN {b} ELSE {} END)", self.one(&["true", "false", "NULL"])),
                10 => format!(
                    "({a}) {}",
                    self.one(&["IS TRUE", "IS NOT TRUE", "IS FALSE", "IS NOT FALSE", "IS NOT NULL", "= true"])
                ),
                _ => format!("coalesce({a}, {b})"),
            };
        }
        let (key, number, text) = (item.key(), item.number(), item.text());
        let kind = item.relation.kind;
        match self.below(30) {
            0..9 => {
                let value = self.key_constant(kind);
                if self.chance(15) { format!("{value} = {key}") } else { format!("{key} = {value}") }
            }
            9 | 10 => {
                let count = 1 + self.below(3);
                let values: Vec<String> = (0..count).map(|_| self.key_constant(kind)).collect();
                format!("{key} {}IN ({})", if self.chance(20) { "NOT " } else { "" }, values.join(", "))
            }
            11 if kind == Kind::Number => {
                let (a, b) = (self.below(9), self.below(9));
                if self.chance(40)
                    && let Some(it) = self.parameter([0, 1016][a % 2], &format!("{{{a},{b}}}"))
                {
                    return format!("{key} = ANY ({it})");
                }
                let operator = self.one(&["= ANY", "= ANY", "= ANY", "<> ALL", "= ALL", "< ANY"]);
                let list = match self.below(5) {
                    0 => format!("'{{{a},{b}}}'"),
                    1 => format!("ARRAY[{a}, {b}]"),
                    2 => format!("'{{{a},NULL}}'::int[]"),
                    3 => format!("ARRAY[{a}, {b}]::bigint[]"),
                    _ => "'{}'".to_owned(),
                };
                format!("{key} {operator} ({list})")
            }
            12 => {
                let (a, b) = (self.key_constant(kind), self.key_constant(kind));
                let numbers = [self.below(60), self.below(60)];
                if self.chance(50) {
                    format!("({key}, {number}) = ({a}, {})", numbers[0])
                } else {
                    format!("({number}, {key}) IN (({}, {a}), ({}, {b}))", numbers[0], numbers[1])
                }
            }
            13 => {
                let (a, b) = (self.key_constant(kind), self.key_constant(kind));
                format!("{key} BETWEEN {a} AND {b}")
            }
            14 => {
                let value = self.key_constant(kind);
                format!(
                    "{key} {} {value}",
                    self.one(&["<", ">", "<=", ">=", "<>", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"])
                )
            }
            15 => format!("{key} IS {}NULL", self.one(&["", "NOT "])),
            16 if kind == Kind::Number => {
                let n = self.below(10);
                match self.below(5) {
                    0 => format!("{key} % 10 = {n}"),
                    // Nothing that may overflow: whether a server gets to that row is its own choice.
                    1 => format!("{key} / 2 = {n}"),
                    2 => format!("{key}::text = '{n}'"),
                    3 => format!("{key}::numeric = {n}"),
                    _ => format!("+ {key} = {n}"),
                }
            }
            17 => {
                let other = items[self.below(items.len())].clone();
                if other.relation.kind == kind {
                    format!("{key} = {}", other.key())
                } else {
                    format!("{number} = {}", other.number())
                }
            }
            18 => {
                let (inner, alias) = self.item();
                let condition = self.condition(std::slice::from_ref(&inner), 1);
                let from = format!("FROM {} {alias}", inner.relation.name);
                if inner.relation.kind == kind {
                    match self.below(4) {
                        0 => format!("{key} IN (SELECT {} {from} WHERE {condition})", inner.key()),
                        1 if kind != Kind::Uuid => {
                            format!("{key} = (SELECT max({}) {from} WHERE {condition})", inner.key())
                        }
                        2 => format!("{key} NOT IN (SELECT {} {from} WHERE {condition})", inner.key()),
                        _ => format!("EXISTS (SELECT 1 {from} WHERE {} = {key} AND {condition})", inner.key()),
                    }
                } else {
                    format!("{number} IN (SELECT {} {from} WHERE {condition})", inner.number())
                }
            }
            19 => {
                let (inner, alias) = self.item();
                let mut both = items.to_vec();
                both.push(inner.clone());
                let condition = self.condition(&both, 1);
                format!(
                    "{}EXISTS (SELECT 1 FROM {} {alias} WHERE {condition})",
                    self.one(&["", "NOT "]),
                    inner.relation.name
                )
            }
            20 => self
                .one(&[
                    "true",
                    "false",
                    "NULL::boolean",
                    "1 = 1",
                    "now() > '2020-01-01'",
                    "random() < 2",
                    "CURRENT_DATE > '2020-01-01'",
                ])
                .to_owned(),
            21 => format!("{text} = '{}'", self.one(&["name1", "DE", "note1", "body of a", "label1"])),
            22 => format!("{text} {}LIKE '%{}%'", self.one(&["", "NOT "]), self.one(&["1", "e", "x"])),
            23 => format!("{text} IS NULL"),
            _ => format!("{number} {} {}", self.one(&["<", ">", "=", "<>"]), self.below(50)),
        }
    }

    fn item(&mut self) -> (Item, String) {
        // Mostly of one group, so that joins can be proven.
        let relation = match self.below(10) {
            0..7 => RELATIONS[self.below(5)],
            _ => RELATIONS[self.below(RELATIONS.len())],
        };
        self.aliases += 1;
        // Now and then a name that another relation has, too.
        let alias = match self.below(12) {
            0 if self.aliases == 1 => "orders".to_owned(),
            1 if self.aliases == 1 => relation.name.to_owned(),
            _ => format!("t{}", self.aliases),
        };
        (Item { alias: alias.clone(), relation }, alias)
    }

    /// FROM, and what its conditions may name.
    fn from(&mut self, depth: usize) -> (String, Vec<Item>) {
        let (first, alias) = self.item();
        let mut text = self.source(&first, &alias, depth);
        let mut items = vec![first];
        while items.len() < 3 && self.chance(30) {
            let (next, alias) = self.item();
            let source = self.source(&next, &alias, depth);
            let left = items[self.below(items.len())].clone();
            let same_kind = left.relation.kind == next.relation.kind;
            let mut on = if same_kind && self.chance(85) {
                format!("{} = {}", left.key(), next.key())
            } else {
                format!("{} = {}", left.number(), next.number())
            };
            items.push(next.clone());
            if self.chance(30) {
                let more = self.condition(&items, 0);
                on = format!("{on} AND {more}");
            }
            let join = self.one(&["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
            match self.below(12) {
                0 => text = format!("{text}, {source}"),
                1 => text = format!("{text} CROSS JOIN {source}"),
                2 if left.relation.key == next.relation.key && same_kind && items.len() == 2 => {
                    text = format!("{text} {join} {source} USING ({})", next.relation.key);
                }
                3 => {
                    let inner = Item { alias: "l".to_owned(), relation: next.relation };
                    let mut seen = items.clone();
                    seen.pop();
                    seen.push(inner.clone());
                    let condition = self.condition(&seen, 0);
                    let by_key =
                        if same_kind { format!("{} = {}", inner.key(), left.key()) } else { "true".to_owned() };
                    text = format!(
                        "{text} {} JOIN LATERAL (SELECT * FROM {} l WHERE {by_key} AND {condition}) {alias} ON true",
                        self.one(&["INNER", "LEFT"]),
                        next.relation.name
                    );
                }
                // FULL JOIN takes only conditions that merge or hash.
                _ if join == "FULL JOIN" => {
                    text = format!("{text} {join} {source} ON {}", on.split(" AND ").next().unwrap_or(&on))
                }
                _ => text = format!("{text} {join} {source} ON {on}"),
            }
        }
        (text, items)
    }

    fn source(&mut self, item: &Item, alias: &str, depth: usize) -> String {
        let Relation { name, unique, key, .. } = item.relation;
        if depth == 0 || !self.chance(15) {
            return if name == alias { name.to_owned() } else { format!("{name} {}{alias}", self.one(&["", "AS "])) };
        }
        let inner = Item { alias: name.to_owned(), relation: item.relation };
        let condition = self.condition(&[inner], 1);
        match self.below(6) {
            0 => format!("(SELECT * FROM {name} WHERE {condition} ORDER BY {unique} LIMIT 3) {alias}"),
            1 => format!("(SELECT DISTINCT * FROM {name} WHERE {condition}) {alias}"),
            2 => format!("(SELECT * FROM {name} UNION ALL SELECT * FROM {name} WHERE {condition}) {alias}"),
            3 => format!("(SELECT *, count(*) OVER (PARTITION BY {key}) AS c FROM {name} WHERE {condition}) {alias}"),
            _ => format!("(SELECT * FROM {name} WHERE {condition}) {alias}"),
        }
    }

    /// A whole query, and how its rows are compared.
    fn query(&mut self) -> (String, Order) {
        let (from, items) = self.from(1);
        let first = items[0].clone();
        let mut clause = format!("FROM {from}");
        // Most statements name a key plainly, as applications do.
        let mut conditions = Vec::new();
        if self.chance(60) {
            let item = items[self.below(items.len())].clone();
            let value = self.key_constant(item.relation.kind);
            conditions.push(format!("{} = {value}", item.key()));
        }
        if self.chance(75) {
            conditions.push(self.condition(&items, 2));
        }
        if !conditions.is_empty() {
            clause = format!("{clause} WHERE {}", conditions.join(" AND "));
        }
        let key = first.key();
        match self.below(24) {
            0 => (format!("SELECT count(*), max({}), sum({}) {clause}", first.number(), first.number()), Order::Any),
            1 => (format!("SELECT {key}, count(*) {clause} GROUP BY {key}"), Order::Any),
            2 => (format!("SELECT {}, count(*) {clause} GROUP BY 1 HAVING count(*) > 1", first.text()), Order::Any),
            3 => (format!("SELECT DISTINCT {key} {clause}"), Order::Any),
            4 => (format!("SELECT DISTINCT {} {clause}", first.number()), Order::Any),
            5 => (format!("SELECT {key}, count(*) OVER (PARTITION BY {key}) {clause}"), Order::Any),
            6 => (format!("SELECT {key}, count(*) OVER () {clause}"), Order::Any),
            7 if items.len() == 1 && from.len() < 24 => {
                let unique = first.relation.unique;
                let limit =
                    self.one(&["LIMIT 3", "LIMIT 2 OFFSET 1", "FETCH FIRST 2 ROWS ONLY", "OFFSET 2", "LIMIT ALL", ""]);
                let way = self.one(&["", " DESC", " NULLS FIRST"]);
                (format!("SELECT * {clause} ORDER BY {unique}{way} {limit}"), Order::Total)
            }
            8 => (format!("SELECT {key} {clause} LIMIT 2"), Order::Count),
            9 | 10 => {
                let (right, _) = self.item();
                let condition = self.condition(std::slice::from_ref(&right), 1);
                let (a, b) = if right.relation.kind == first.relation.kind {
                    (key, right.key())
                } else {
                    (first.text(), right.text())
                };
                let operator = self.one(&["UNION", "UNION ALL", "UNION ALL", "INTERSECT", "EXCEPT", "EXCEPT ALL"]);
                let from = format!("FROM {} {}", right.relation.name, right.alias);
                (format!("SELECT {a} {clause} {operator} SELECT {b} {from} WHERE {condition}"), Order::Any)
            }
            11 | 12 => {
                let name = self.one(&["c", "users", "orders", "countries"]);
                let condition = self.condition(
                    &[Item { alias: name.to_owned(), ..Item { relation: first.relation, alias: String::new() } }],
                    1,
                );
                // Through the CTE only the columns of its own first relation are seen.
                (
                    format!(
                        "WITH {name} AS {}(SELECT {}.* {clause}) SELECT * FROM {name} WHERE {condition}",
                        self.one(&["", "", "MATERIALIZED "]),
                        first.alias
                    ),
                    Order::Any,
                )
            }
            13 => (format!("SELECT EXISTS (SELECT 1 {clause})"), Order::Any),
            14 => (format!("SELECT (SELECT count(*) {clause}), 1"), Order::Any),
            15 => {
                let condition = self.condition(&items, 0);
                (format!("SELECT {condition} AS c, {key} {clause}"), Order::Any)
            }
            16 => {
                let condition = self.condition(&items, 0);
                (format!("SELECT count(*) FILTER (WHERE {condition}) {clause}"), Order::Any)
            }
            17 => {
                (format!("SELECT {key}, now() IS NOT NULL, random() < 2, upper({}) {clause}", first.text()), Order::Any)
            }
            _ => (format!("SELECT * {clause}"), Order::Any),
        }
    }

    fn write(&mut self) -> String {
        let relation = [
            RELATIONS[1],
            RELATIONS[1],
            RELATIONS[2],
            RELATIONS[5],
            RELATIONS[6],
            RELATIONS[7],
            RELATIONS[9],
            RELATIONS[0],
        ][self.below(8)];
        let Relation { name, key, kind, .. } = relation;
        let item = Item { alias: name.to_owned(), relation };
        let value = self.key_constant(kind);
        let n = self.below(50);
        let (column, set) = match name {
            "users" | "users2" => ("age", n.to_string()),
            "orders" => ("note", format!("'note{n}'")),
            "pages" | "devices" => ("n", n.to_string()),
            "days" => ("what", format!("'what{n}'")),
            _ => ("value", format!("'{n}'")),
        };
        let returning = self.one(&["", "", " RETURNING *"]);
        let condition = if self.chance(40) { format!(" AND {}", self.condition(&[item], 1)) } else { String::new() };
        match self.below(10) {
            0..3 => format!("UPDATE {name} SET {column} = {set} WHERE {name}.{key} = {value}{condition}{returning}"),
            3 => {
                let other = self.key_constant(kind);
                format!("UPDATE {name} SET {column} = {set} WHERE {key} IN ({value}, {other}){condition}{returning}")
            }
            4 => format!("DELETE FROM {name} WHERE {name}.{key} = {value}{condition}{returning}"),
            _ => {
                let (columns, cells): (&str, Box<dyn Fn(&str, usize) -> String>) = match name {
                    "users" | "users2" => ("id, name, age", Box::new(|v, n| format!("({v}, 'name{n}', {n})"))),
                    "orders" => ("no, user_id, note", Box::new(|v, n| format!("({}, {v}, 'note')", n + 10))),
                    "pages" => ("slug, n", Box::new(|v, n| format!("({v}, {n})"))),
                    "devices" => ("id, n", Box::new(|v, n| format!("({v}, {n})"))),
                    "days" => ("day, what", Box::new(|v, n| format!("({v}, 'what{n}')"))),
                    _ => ("name, value", Box::new(|v, n| format!("({v}, '{n}')"))),
                };
                let mut rows = vec![cells(&value, n)];
                while rows.len() < 3 && self.chance(25) {
                    let again = if self.chance(50) { value.clone() } else { self.key_constant(kind) };
                    let n = self.below(50);
                    rows.push(cells(&again, n));
                }
                let unique = relation.unique;
                let conflict = match self.below(5) {
                    0 => " ON CONFLICT DO NOTHING".to_owned(),
                    1 => format!(" ON CONFLICT ({unique}) DO NOTHING"),
                    2 | 3 => format!(" ON CONFLICT ({unique}) DO UPDATE SET {column} = excluded.{column}"),
                    _ => String::new(),
                };
                format!("INSERT INTO {name} ({columns}) VALUES {}{conflict}{returning}", rows.join(", "))
            }
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|it| it.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn random_statements_are_answered_right_or_refused() {
    let seed = setting("SHARDWAY_ORACLE_SEED").unwrap_or_else(|| rand::rng().random());
    let count = setting("SHARDWAY_ORACLE_STATEMENTS").map_or(STATEMENTS, |it| usize::try_from(it).expect("it fits"));
    println!("oracle: SHARDWAY_ORACLE_SEED={seed} SHARDWAY_ORACLE_STATEMENTS={count}");
    let rig = Rig::start();
    let mut both = rig.both();
    let mut maker = Maker { random: StdRng::seed_from_u64(seed), parameters: None, aliases: 0 };
    let (mut reads, mut writes) = (Tally::default(), Tally::default());
    for place in 0..count {
        let how = [How::Simple, How::Simple, How::Unnamed, How::Named][maker.below(4)];
        maker.parameters = (how != How::Simple).then(Vec::new);
        maker.aliases = 0;
        let writing = maker.chance(20);
        let (sql, order) = if writing { (maker.write(), Order::Any) } else { maker.query() };
        let parameters = maker.parameters.take().unwrap_or_default();
        let values: Vec<Value> = parameters
            .iter()
            .map(|(oid, text)| match binary(*oid, text).filter(|_| maker.chance(50)) {
                Some(bytes) => Value { oid: *oid, binary: true, bytes: Some(bytes) },
                None => Value { oid: *oid, binary: false, bytes: Some(text.as_bytes().to_vec()) },
            })
            .collect();
        let verdict = both.check(how, &sql, &values, maker.chance(30), order);
        let tally = if writing { &mut writes } else { &mut reads };
        tally.add(&format!("{sql} {parameters:?} {how:?}"), verdict);
        if writing && !tally.mismatches.is_empty() {
            // What follows would only repeat it.
            break;
        }
        if place % ROWS_COMPARED_EVERY == ROWS_COMPARED_EVERY - 1 {
            rig.same_rows();
        }
    }
    reads.print("reads");
    writes.print("writes");
    rig.same_rows();
    assert_eq!([reads.mismatches, writes.mismatches].concat(), Vec::<String>::new());
}
