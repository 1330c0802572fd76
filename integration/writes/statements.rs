//! Statements made up by choices.

use std::fmt::Write as _;

use crate::bytes::Value;
use crate::choices::Choices;
use crate::tables::Given;
use crate::tables::Group;
use crate::tables::Kind;
use crate::tables::TABLES;
use crate::tables::Table;
use crate::tables::bad;
use crate::tables::key;
use crate::tables::value;

pub(crate) enum Part {
    Text(String),
    Value(Given),
}

/// One statement.
#[derive(Default)]
pub(crate) struct Statement {
    pub(crate) parts: Vec<Part>,
    /// Its rows come in an order that it names, or in that of VALUES.
    pub(crate) in_order: bool,
    /// What it is, for the figures.
    pub(crate) what: &'static str,
}

impl Statement {
    pub(crate) fn plain(what: &'static str, text: impl Into<String>) -> Self {
        Self { parts: vec![Part::Text(text.into())], in_order: false, what }
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.parts.push(Part::Text(text.to_owned()));
    }

    pub(crate) fn text(&self) -> String {
        let part = |it: &Part| match it {
            Part::Text(text) => text.clone(),
            Part::Value(value) => value.literal(),
        };
        self.parts.iter().map(part).collect()
    }

    /// With $n for the values that are to be bound.
    pub(crate) fn bound(&self) -> (String, Vec<Value>) {
        let (mut sql, mut values) = (String::new(), Vec::new());
        for part in &self.parts {
            match part {
                Part::Text(text) => sql += text,
                Part::Value(value) if value.is_bound => {
                    values.push(value.bound());
                    let _ = write!(sql, "${}", values.len());
                }
                Part::Value(value) => sql += &value.literal(),
            }
        }
        (sql, values)
    }
}

/// Makes statements.
pub(crate) struct Maker<'a> {
    pub(crate) choices: &'a mut Choices,
}

impl Maker<'_> {
    pub(crate) fn table(&mut self) -> &'static Table {
        // Sharded ones, and of these the richest most.
        match self.choices.below(24) {
            0..=4 => &TABLES[0],
            5..=7 => &TABLES[1],
            8 => &TABLES[2],
            9 | 10 => &TABLES[3],
            11..=12 => &TABLES[5],
            13 => &TABLES[6],
            14 | 15 => &TABLES[7],
            16 => &TABLES[8],
            17 => &TABLES[9],
            18 => &TABLES[10],
            19 | 20 => &TABLES[11],
            21 => &TABLES[12],
            22 => &TABLES[13],
            _ => &TABLES[14],
        }
    }

    /// Another table; of the same group if there is one and it is wished.
    pub(crate) fn other(&mut self, table: &Table, near: bool) -> &'static Table {
        let fits = |it: &&&'static Table| it.name != table.name && (!near || it.group == table.group);
        let all: Vec<&'static Table> = TABLES.iter().filter(|it| fits(&it)).collect();
        match all.is_empty() {
            true => &TABLES[11],
            false => all[self.choices.below(all.len())],
        }
    }

    pub(crate) fn give(&mut self, s: &mut Statement, kind: Kind, text: Option<String>, is_typed: bool) {
        let is_bound = self.choices.chance(60);
        let is_typed = is_typed || self.choices.chance(50);
        let is_binary = self.choices.chance(40);
        s.parts.push(Part::Value(Given { kind, text, is_bound, is_typed, is_binary }));
    }

    /// A value that is compared, assigned or inserted.
    pub(crate) fn value(&mut self, s: &mut Statement, kind: Kind) {
        // Seldom none of its type: a statement has many values.
        let is_bad = self.choices.below(250) == 1;
        let text = if is_bad { bad(kind, self.choices) } else { value(kind, self.choices) };
        self.give(s, kind, Some(text), false);
    }

    pub(crate) fn key(&mut self, s: &mut Statement, table: &Table) {
        let text = key(table, 45, self.choices);
        self.give(s, table.key().1, Some(text), false);
    }

    pub(crate) fn statement(&mut self) -> Statement {
        let begin = self.choices.begin();
        let mut s = Statement::default();
        match self.choices.below(52) {
            0..=11 => self.insert(&mut s),
            12..=20 => self.update(&mut s),
            21..=25 => self.delete(&mut s),
            26 | 27 => self.insert_select(&mut s),
            28..=31 => self.insert_from_elsewhere(&mut s),
            32..=34 => self.with(&mut s),
            35..=40 => self.select(&mut s),
            41 => self.merge(&mut s),
            42..=44 => self.merge_inserting(&mut s),
            45..=48 => self.change_key(&mut s),
            49 | 50 => self.copy_out(&mut s),
            _ => self.odd(&mut s),
        }
        self.choices.end(begin);
        s
    }

    fn insert(&mut self, s: &mut Statement) {
        let table = self.table();
        self.insert_into(s, table);
    }

    fn insert_into(&mut self, s: &mut Statement, table: &'static Table) {
        s.what = "INSERT … VALUES";
        s.in_order = true;
        s.say(&format!("INSERT INTO {}", table.name));
        let alias = self.choices.chance(10);
        if alias {
            s.say(" AS x");
        }
        let columns = self.columns(s, table);
        s.say(" VALUES ");
        let rows = [1, 2, 3, 5, 8][self.choices.below(5)];
        // Rows that are there need an ON CONFLICT.
        let has_conflicts = table.primary > 0 && self.choices.chance(40);
        let known = if has_conflicts { 50 } else { 4 };
        for row in 0..rows {
            let begin = self.choices.begin();
            s.say(if row == 0 { "(" } else { ", (" });
            for (at, (name, kind)) in columns.iter().enumerate() {
                if at > 0 {
                    s.say(", ");
                }
                self.cell(s, table, name, *kind, known);
            }
            if self.choices.below(400) == 1 && rows > 1 {
                s.say(", 1");
            }
            s.say(")");
            self.choices.end(begin);
        }
        let target = if alias { "x" } else { table.name };
        if has_conflicts {
            self.on_conflict(s, table, target);
        }
        self.returning(s, table, target, 35);
    }

    /// Writes a list of columns, or none, and says which they are.
    fn columns(&mut self, s: &mut Statement, table: &'static Table) -> Vec<(&'static str, Kind)> {
        let all = table.columns.iter().copied();
        if table.name != "solo" && self.choices.chance(25) {
            return all.filter(|(_, kind)| *kind != Kind::Made).collect();
        }
        let first = usize::from(table.name != "solo");
        let mut chosen: Vec<_> = all
            .enumerate()
            .filter(|(at, (name, kind))| {
                let needed = *at < first || table.needed.contains(name);
                match kind {
                    Kind::Made => self.choices.chance(1),
                    _ if needed => !self.choices.chance(1),
                    _ => self.choices.chance(60),
                }
            })
            .map(|it| it.1)
            .collect();
        if chosen.is_empty() {
            chosen.push(table.columns[1]);
        }
        if self.choices.chance(40) {
            let by = self.choices.below(chosen.len());
            chosen.rotate_left(by);
        }
        let names: Vec<&str> = chosen.iter().map(|it| it.0).collect();
        s.say(&format!(" ({})", names.join(", ")));
        chosen
    }

    fn cell(&mut self, s: &mut Statement, table: &'static Table, name: &str, kind: Kind, known: usize) {
        if name == table.key().0 && (table.is_sharded() || table.group == Group::Reference) {
            return self.key_cell(s, table, kind, known);
        }
        if matches!(name, "code") {
            let code = if self.choices.below(100) == 1 { "none" } else { "a" };
            return self.give(s, kind, Some(code.to_owned()), false);
        }
        // Numbers that tell rows of one key apart.
        if table.columns[1..table.primary.max(1)].iter().any(|it| it.0 == name)
            && kind == Kind::Int
            && self.choices.chance(85)
        {
            let number = (self.choices.below(500) + 20).to_string();
            return self.give(s, kind, Some(number), false);
        }
        if table.needed.contains(&name) && !self.choices.chance(2) {
            return self.value(s, kind);
        }
        match self.choices.below(20) {
            0..=11 => self.value(s, kind),
            12 | 13 => s.say("DEFAULT"),
            14 | 15 => self.give(s, kind, None, false),
            16 => s.say(match kind {
                Kind::Time => "now()",
                Kind::Date => "CURRENT_DATE",
                _ => "DEFAULT",
            }),
            17 => s.say(if self.choices.chance(30) { "(NULL)" } else { "NULL" }),
            _ => s.say(match kind {
                Kind::Int | Kind::Big => {
                    ["2 + 3", "length('four')", "(4 * 2)", "abs(-6)", "1 / 0"][self.rarely_last(5)]
                }
                Kind::Numeric => {
                    ["1.25 * 2", "round(2.555, 2)", "'3'::numeric", "10 / 4", "1 / 0.0"][self.rarely_last(5)]
                }
                Kind::Text => {
                    ["'a' || 'b'", "upper('up')", "'x'::text", "repeat('z', 3)", "'bad'"][self.rarely_last(5)]
                }
                Kind::Bool => {
                    ["1 < 2", "NOT true", "true AND NULL", "'t'::boolean", "'x'::boolean"][self.rarely_last(5)]
                }
                Kind::Json => {
                    ["jsonb_build_object('k', 1)", "'[]'::jsonb || '[3]'", "to_jsonb(5)", "'{}'", "'{'::jsonb"]
                        [self.rarely_last(5)]
                }
                Kind::Tags => ["ARRAY['p', 'q']", "'{r}'::text[]", "array_append(ARRAY['s'], 't')", "'{}'", "'{'"]
                    [self.rarely_last(5)],
                Kind::Mood => {
                    ["'sad'::mood", "'glad'", "NULL::mood", "lower('SAD')::mood", "'mad'::mood"][self.rarely_last(5)]
                }
                Kind::Time => [
                    "CURRENT_TIMESTAMP",
                    "now() - interval '0'",
                    "transaction_timestamp()",
                    "now()",
                    "'soon'::timestamptz",
                ][self.rarely_last(5)],
                Kind::Date => {
                    ["now()::date", "CURRENT_DATE", "date '2001-02-03' + 1", "'2020-01-01'::date", "'soon'::date"]
                        [self.rarely_last(5)]
                }
                Kind::Uuid | Kind::Token => "gen_random_uuid()",
                Kind::Made => "DEFAULT",
            }),
        }
    }

    /// Mostly not the last, which fails.
    pub(crate) fn rarely_last(&mut self, count: usize) -> usize {
        if self.choices.chance(6) { count - 1 } else { self.choices.below(count - 1) }
    }

    fn key_cell(&mut self, s: &mut Statement, table: &'static Table, kind: Kind, known: usize) {
        match self.choices.below(200) {
            0..=188 => {
                let text = key(table, known, self.choices);
                self.give(s, kind, Some(text), false);
            }
            189 => self.give(s, kind, None, false),
            190 => s.say("DEFAULT"),
            191 => {
                let bad = bad(kind, self.choices);
                self.give(s, kind, Some(bad), false);
            }
            _ => {
                let text = key(table, known, self.choices);
                s.say(&match kind {
                    Kind::Int | Kind::Big => {
                        let form = self.choices.below(6);
                        match form {
                            0 => format!("'{text}'"),
                            1 => format!("{text} + 1"),
                            2 => format!("{text}.4"),
                            3 => format!("{text}::bigint"),
                            4 => format!("({text})"),
                            _ => format!("abs({text})"),
                        }
                    }
                    Kind::Text => format!("'k' || '{}'", text.replace('\'', "''")),
                    _ => format!("'{text}'::uuid"),
                });
            }
        }
    }

    fn on_conflict(&mut self, s: &mut Statement, table: &'static Table, target: &str) {
        let begin = self.choices.begin();
        let primary = table.primary_list();
        match self.choices.below(10) {
            0..=2 => s.say(&format!(" ON CONFLICT ({primary}) DO NOTHING")),
            3 => s.say(" ON CONFLICT DO NOTHING"),
            4 => s.say(&format!(" ON CONFLICT ON CONSTRAINT {}_pkey DO NOTHING", table.name)),
            _ => {
                s.say(&format!(" ON CONFLICT ({primary}) DO UPDATE SET "));
                let (name, kind) = self.plain_column(table);
                match self.choices.below(4) {
                    0 => s.say(&format!("{name} = excluded.{name}")),
                    1 if matches!(kind, Kind::Int | Kind::Big | Kind::Numeric) => {
                        s.say(&format!("{name} = coalesce({target}.{name}, 0) + coalesce(excluded.{name}, 1)"));
                    }
                    _ => self.assignment(s, table, name, kind, &format!("{target}.")),
                }
                if self.choices.chance(25) {
                    s.say(" WHERE ");
                    self.other_condition(s, table, &format!("{target}."));
                }
            }
        }
        self.choices.end(begin);
    }

    fn update(&mut self, s: &mut Statement) {
        let table = self.table();
        self.update_of(s, table);
    }

    fn update_of(&mut self, s: &mut Statement, table: &'static Table) {
        let begin = self.choices.begin();
        s.what = "UPDATE";
        match self.choices.below(12) {
            0..=6 => {
                s.say(&format!("UPDATE {}", table.name));
                self.set_list(s, table, "");
                self.conditions(s, table, "");
                self.returning(s, table, table.name, 25);
            }
            7 | 8 => {
                s.what = "UPDATE … FROM";
                let near = !self.choices.chance(20);
                let other = self.other(table, near);
                s.say(&format!("UPDATE {} AS t", table.name));
                self.set_list(s, table, "t.");
                s.say(&format!(" FROM {} o", other.name));
                self.joined(s, table, other);
                if self.choices.chance(20) {
                    s.say(&format!(" RETURNING t.{}", table.key().0));
                }
            }
            9 | 10 => {
                s.what = "UPDATE … FROM elsewhere";
                s.say(&format!("UPDATE {} AS t", table.name));
                self.set_list(s, table, "t.");
                s.say(" FROM ");
                self.joined_elsewhere(s, table);
            }
            _ => {
                // One row of the other for each of these.
                s.what = "UPDATE … FROM";
                s.say(
                    [
                        "UPDATE acct SET owner = r.n + 1, mood = r.mood FROM ref r WHERE r.code = acct.code",
                        "UPDATE line l SET what = a.name, qty = l.qty + 1 FROM acct a WHERE a.id = l.id",
                        "UPDATE part SET seq = l.qty FROM line l WHERE l.id = part.id AND l.no = part.no",
                    ][self.choices.below(3)],
                );
                if self.choices.chance(50) {
                    s.say(" AND ");
                    let q = if s.text().contains("line l SET") {
                        "l."
                    } else if s.text().contains("acct SET") {
                        "acct."
                    } else {
                        "part."
                    };
                    let table = match q {
                        "l." => &TABLES[1],
                        "acct." => &TABLES[0],
                        _ => &TABLES[2],
                    };
                    self.key_condition(s, table, q);
                }
            }
        }
        self.choices.end(begin);
    }

    /// Rows that come to other shards.
    fn change_key(&mut self, s: &mut Statement) {
        let begin = self.choices.begin();
        s.what = "UPDATE of a key";
        let table = match self.choices.below(16) {
            0 => self.table(),
            1 => &TABLES[2],
            2 => &TABLES[4],
            3..=5 => &TABLES[5],
            6 | 7 => &TABLES[6],
            8 | 9 => &TABLES[7],
            10 => &TABLES[8],
            11 | 12 => &TABLES[9],
            _ => &TABLES[10],
        };
        let (name, kind) = table.key();
        s.say(&format!("UPDATE {}{} SET {name} = ", table.name, if self.choices.chance(20) { " AS t" } else { "" }));
        let by = self.choices.below(4);
        let moves_all = self.choices.chance(35);
        match kind {
            // Seldom one that another row has.
            Kind::Int | Kind::Big if moves_all => s.say(&format!("{name} + {}", [500, 1000, -700, 60][by])),
            Kind::Text if moves_all => s.say(&format!("{name} || '{}'", ["~", "x", "", "é"][by])),
            _ => self.key_cell(s, table, kind, 30),
        }
        if self.choices.chance(50) {
            let (name, kind) = self.plain_column(table);
            s.say(", ");
            self.assignment(s, table, name, kind, "");
        }
        if moves_all {
            self.conditions(s, table, "");
        } else {
            s.say(" WHERE ");
            self.key_condition(s, table, "");
        }
        if self.choices.chance(40) {
            s.say(" RETURNING *");
        }
        self.choices.end(begin);
    }

    fn delete(&mut self, s: &mut Statement) {
        let table = self.table();
        self.delete_of(s, table);
    }

    fn delete_of(&mut self, s: &mut Statement, table: &'static Table) {
        let begin = self.choices.begin();
        s.what = "DELETE";
        let roll = self.choices.below(100);
        if roll >= 85 {
            s.what = "DELETE … USING elsewhere";
            s.say(&format!("DELETE FROM {} t USING ", table.name));
            self.joined_elsewhere(s, table);
        } else if roll < 70 {
            s.say(&format!("DELETE FROM {}", table.name));
            self.conditions(s, table, "");
            self.returning(s, table, table.name, 25);
        } else {
            s.what = "DELETE … USING";
            let near = !self.choices.chance(20);
            let other = self.other(table, near);
            s.say(&format!("DELETE FROM {} t USING {} o", table.name, other.name));
            self.joined(s, table, other);
            if self.choices.chance(20) {
                s.say(&format!(" RETURNING t.{}", table.key().0));
            }
        }
        self.choices.end(begin);
    }

    fn insert_select(&mut self, s: &mut Statement) {
        s.what = "INSERT … SELECT";
        let table = self.table();
        let near = !self.choices.chance(20);
        let source = self.other(table, near);
        s.say(&format!("INSERT INTO {} (", table.name));
        let columns: Vec<_> = table
            .columns
            .iter()
            .copied()
            .enumerate()
            .filter(|(at, (_, kind))| *at < table.primary.max(1) || (*kind != Kind::Made && self.choices.chance(50)))
            .map(|it| it.1)
            .collect();
        let names: Vec<&str> = columns.iter().map(|it| it.0).collect();
        s.say(&format!("{}) SELECT ", names.join(", ")));
        let along = table.group == source.group && !self.choices.chance(10);
        let on_conflict = if table.primary > 0 { self.choices.below(8) } else { 7 };
        // Of two rows with one key the first wins, and none of them is the first.
        let may_differ = on_conflict > 2 || (along && source.primary == 1);
        for (at, (name, kind)) in columns.iter().enumerate() {
            if at > 0 {
                s.say(", ");
            }
            let same: Vec<_> = source.columns[1..].iter().filter(|it| it.1 == *kind).collect();
            if at == 0 && along {
                s.say(&format!("o.{}", source.key().0));
            } else if at == 0 {
                let text = key(table, 45, self.choices);
                self.give(s, *kind, Some(text), true);
            } else if *name == "code" {
                s.say("'a'");
            } else if at < table.primary {
                // What was not there before, mostly.
                let number = self.choices.below(400);
                s.say(&if *kind == Kind::Text { format!("'s{number}'") } else { number.to_string() });
            } else if may_differ && !same.is_empty() && self.choices.chance(60) {
                s.say(&format!("o.{}", same[self.choices.below(same.len())].0));
            } else if *kind == Kind::Time {
                s.say("now()");
            } else {
                let text = value(*kind, self.choices);
                s.say(&match kind {
                    Kind::Int | Kind::Big => text,
                    Kind::Numeric => format!("{text}::numeric"),
                    _ => format!("'{}'", text.replace('\'', "''")),
                });
            }
        }
        s.say(&format!(" FROM {} o", source.name));
        self.conditions(s, source, "o.");
        match on_conflict {
            0 => s.say(&format!(" ON CONFLICT ({}) DO NOTHING", table.primary_list())),
            1 => s.say(" ON CONFLICT DO NOTHING"),
            2 => {
                let (name, kind) = self.plain_column(table);
                s.say(&format!(" ON CONFLICT ({}) DO UPDATE SET ", table.primary_list()));
                self.assignment(s, table, name, kind, &format!("{}.", table.name));
            }
            _ => self.returning(s, table, table.name, 30),
        }
    }

    fn with(&mut self, s: &mut Statement) {
        let table = self.table();
        s.what = "WITH";
        let begin = self.choices.begin();
        match self.choices.below(6) {
            0..=2 => {
                s.say("WITH w AS (");
                let mut inner = Statement::default();
                match self.choices.below(3) {
                    0 => {
                        inner.say(&format!("UPDATE {}", table.name));
                        self.set_list(&mut inner, table, "");
                    }
                    1 => inner.say(&format!("DELETE FROM {}", table.name)),
                    _ => {
                        inner.say(&format!("INSERT INTO {} ({}", table.name, table.key().0));
                        for name in table.needed {
                            inner.say(&format!(", {name}"));
                        }
                        inner.say(") VALUES (");
                        self.key(&mut inner, table);
                        for _ in table.needed {
                            inner.say(", ");
                            self.value(&mut inner, Kind::Int);
                        }
                        inner.say(")");
                    }
                }
                let is_insert = matches!(inner.parts.first(), Some(Part::Text(it)) if it.starts_with("INSERT"));
                s.parts.extend(inner.parts);
                if !is_insert {
                    s.say(" WHERE ");
                    self.key_condition(s, table, "");
                }
                s.say(&format!(" RETURNING {})", table.key().0));
                s.say(match self.choices.below(3) {
                    0 => " SELECT count(*) FROM w",
                    1 => " SELECT * FROM w",
                    _ => " SELECT w.*, r.code FROM w, ref r",
                });
            }
            3 => {
                let other = self.other(table, true);
                s.say(&format!("WITH w AS (SELECT o.{} AS k FROM {} o WHERE ", other.key().0, other.name));
                self.key_condition(s, other, "o.");
                let cast = if other.key().1 == table.key().1 { "" } else { "::text" };
                s.say(&format!(
                    ") DELETE FROM {} t WHERE t.{}{cast} IN (SELECT k{cast} FROM w) AND ",
                    table.name,
                    table.key().0
                ));
                self.key_condition(s, table, "t.");
            }
            4 => {
                s.say("WITH w AS (DELETE FROM line WHERE id = ");
                let key = key(&TABLES[1], 90, self.choices);
                self.give(s, Kind::Big, Some(key.clone()), true);
                s.say(" RETURNING *) INSERT INTO audit SELECT ");
                self.give(s, Kind::Big, Some(key), true);
                s.say(", no, qty FROM w");
            }
            _ => {
                s.say("WITH w AS (SELECT 1 AS one) ");
                self.update_of(s, table);
                s.what = "WITH";
            }
        }
        self.choices.end(begin);
    }

    fn select(&mut self, s: &mut Statement) {
        let table = self.table();
        s.what = "SELECT";
        match self.choices.below(8) {
            0 | 1 => {
                let names: Vec<&str> = table.comparable().map(|it| it.0).collect();
                s.say(&format!("SELECT {} FROM {}", names.join(", "), table.name));
                self.conditions(s, table, "");
            }
            2 if table.primary > 0 => {
                let names: Vec<&str> = table.comparable().map(|it| it.0).collect();
                s.say(&format!("SELECT {} FROM {}", names.join(", "), table.name));
                self.conditions(s, table, "");
                s.say(&format!(" ORDER BY {} LIMIT 5", table.primary_list()));
                s.in_order = true;
            }
            3..=4 => {
                s.say(&format!("SELECT count(*), min({0}::text), max({0}::text) FROM {1}", table.key().0, table.name));
                self.conditions(s, table, "");
            }
            5 => {
                let other = self.other(table, true);
                s.say(&format!("SELECT count(*) FROM {} t JOIN {} o ON ", table.name, other.name));
                let cast = if other.key().1 == table.key().1 { "" } else { "::text" };
                s.say(&format!("t.{}{cast} = o.{}{cast}", table.key().0, other.key().0));
                self.conditions(s, table, "t.");
            }
            _ => {
                s.what = "SELECT … FOR";
                let names: Vec<&str> = table.comparable().map(|it| it.0).collect();
                s.say(&format!("SELECT {} FROM {} WHERE ", names.join(", "), table.name));
                self.key_condition(s, table, "");
                s.say(
                    [" FOR UPDATE", " FOR SHARE", " FOR NO KEY UPDATE", " FOR KEY SHARE", " FOR UPDATE SKIP LOCKED"]
                        [self.choices.below(5)],
                );
            }
        }
    }

    fn merge(&mut self, s: &mut Statement) {
        s.what = "MERGE";
        let table = self.table();
        s.say(&format!("MERGE INTO {} t USING ", table.name));
        let other = self.other(table, true);
        match self.choices.chance(50) {
            true => s.say(&format!("{} o ON ", other.name)),
            false => {
                s.say(&format!("(SELECT * FROM {} WHERE ", other.name));
                self.key_condition(s, other, "");
                s.say(") o ON ");
            }
        }
        let cast = if other.key().1 == table.key().1 { "" } else { "::text" };
        s.say(&format!("t.{}{cast} = o.{}{cast} AND ", table.key().0, other.key().0));
        self.key_condition(s, table, "t.");
        s.say(" WHEN MATCHED THEN ");
        match self.choices.chance(40) {
            true => s.say("DELETE"),
            false => {
                let (name, kind) = self.plain_column(table);
                s.say("UPDATE SET ");
                self.assignment(s, table, name, kind, "t.");
            }
        }
    }

    /// COPY out of a table, or of what a query finds in one; without times and chance, which are each server's own.
    fn copy_out(&mut self, s: &mut Statement) {
        let table = self.table();
        s.what = "COPY TO";
        let own = |kind: &Kind| matches!(kind, Kind::Time | Kind::Token | Kind::Made);
        let all: Vec<&str> = table.columns.iter().filter(|it| !own(&it.1)).map(|it| it.0).collect();
        let is_whole = all.len() == table.columns.len() && self.choices.chance(50);
        let some: Vec<&str> = all.iter().copied().filter(|_| self.choices.chance(60)).collect();
        let list = if some.is_empty() { all.join(", ") } else { some.join(", ") };
        let from = match self.choices.below(4) {
            0 => format!("(SELECT {list} FROM {})", table.name),
            1 => format!("(SELECT {list} FROM {} WHERE {} IS NOT NULL)", table.name, table.columns[1].0),
            _ if is_whole => table.name.to_owned(),
            _ => format!("{} ({list})", table.name),
        };
        let options = ["", " (HEADER)", " CSV HEADER", " (FORMAT csv, FORCE_QUOTE *)", " (DELIMITER '|', NULL 'nil')"];
        s.say(&format!("COPY {from} TO STDOUT{}", options[self.choices.below(options.len())]));
    }

    /// What is seldom, or wrong.
    fn odd(&mut self, s: &mut Statement) {
        let table = self.table();
        s.what = "odd";
        let name = table.name;
        let texts = [
            "SELECT 1 / 0".to_owned(),
            format!("TRUNCATE {name}"),
            format!("INSERT INTO {name} DEFAULT VALUES"),
            format!("UPDATE {name} SET nothing = 1"),
            format!("DELETE FROM {name} WHERE nothing = 1"),
            format!("INSERT INTO {name} (nothing) VALUES (1)"),
            "INSERT INTO nowhere VALUES (1)".to_owned(),
            format!("LOCK TABLE {name} IN ROW EXCLUSIVE MODE"),
            format!("SELECT count(*) FROM {name} WHERE 'x'::integer = 1"),
            format!("COPY (SELECT count(*) FROM {name}) TO STDOUT"),
            format!("TABLE {name} LIMIT 0"),
            "VALUES (1, 'a'), (2, 'b')".to_owned(),
            "SELECT now() = now(), pg_typeof(1)".to_owned(),
            format!("UPDATE {name} SET {} = {}", table.key().0, table.key().0),
        ];
        let at = self.choices.below(texts.len());
        s.say(&texts[at]);
    }
}
