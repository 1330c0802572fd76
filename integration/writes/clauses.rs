//! Parts of statements: conditions, assignments, what is returned.

use crate::statements::Maker;
use crate::statements::Statement;
use crate::tables::Kind;
use crate::tables::Table;

impl Maker<'_> {
    pub(crate) fn returning(&mut self, s: &mut Statement, table: &'static Table, target: &str, percent: usize) {
        if !self.choices.chance(percent) {
            return;
        }
        let begin = self.choices.begin();
        s.say(" RETURNING ");
        match self.choices.below(5) {
            0 => s.say(table.key().0),
            1 => s.say("*"),
            2 => {
                let names: Vec<String> = table.comparable().map(|it| format!("{target}.{}", it.0)).collect();
                s.say(&names.join(", "));
            }
            _ => {
                let (name, kind) = self.plain_column(table);
                let expression = match kind {
                    Kind::Int | Kind::Big | Kind::Numeric if self.choices.chance(10) => format!("10 / ({name} - 3)"),
                    Kind::Int | Kind::Big | Kind::Numeric => format!("{name} * 2 + 1"),
                    Kind::Text => format!("{name} || '!'"),
                    Kind::Time | Kind::Token => format!("{name} IS NULL"),
                    Kind::Json => format!("{name}->>'a'"),
                    Kind::Tags => format!("cardinality({name})"),
                    Kind::Mood => format!("{name}::text"),
                    _ => name.to_owned(),
                };
                s.say(&format!("{expression} AS out, {}", table.key().0));
            }
        }
        self.choices.end(begin);
    }

    /// A column that belongs to no key and is not generated; of some tables the last of the primary key.
    pub(crate) fn plain_column(&mut self, table: &'static Table) -> (&'static str, Kind) {
        let all: Vec<_> =
            table.columns[table.primary.max(1)..].iter().copied().filter(|it| it.1 != Kind::Made).collect();
        if all.is_empty() {
            return table.columns[table.columns.len() - 1];
        }
        all[self.choices.below(all.len())]
    }

    /// `name = …`, in which columns are named behind `q`.
    pub(crate) fn assignment(&mut self, s: &mut Statement, table: &'static Table, name: &str, kind: Kind, q: &str) {
        s.say(&format!("{name} = "));
        if name == "code" {
            let code = if self.choices.chance(95) { "b" } else { "none" };
            return self.give(s, kind, Some(code.to_owned()), false);
        }
        // A change of what is unique depends on which row comes first.
        if table.columns[..table.primary].iter().any(|it| it.0 == name) {
            return self.value(s, kind);
        }
        let c = format!("{q}{name}");
        match self.choices.below(12) {
            0..=3 => self.value(s, kind),
            4 => s.say("DEFAULT"),
            5 => self.give(s, kind, None, false),
            6 => {
                s.say("CASE WHEN ");
                self.other_condition(s, table, q);
                s.say(&format!(" THEN {c} ELSE NULL END"));
            }
            7 if matches!(kind, Kind::Int | Kind::Big) => s.say(
                ["(SELECT max(n) FROM ref)", "(SELECT count(*) FROM ref2)", "(SELECT count(*) FROM small)"]
                    [self.rarely_last(3)],
            ),
            _ => {
                let texts: [String; 4] = match kind {
                    Kind::Int | Kind::Big => [
                        format!("{c} + 1"),
                        format!("coalesce({c}, 0) * 2"),
                        format!("coalesce({c}, 1) % 5"),
                        format!("10 / ({c} - 3)"),
                    ],
                    Kind::Numeric => [
                        format!("{c} + 1.5"),
                        format!("round({c} / 3, 2)"),
                        format!("coalesce({c}, 0) * 1.1"),
                        format!("{c} - 2000"),
                    ],
                    Kind::Text => [
                        format!("upper({c})"),
                        format!("left({c}, 2)"),
                        format!("coalesce({c}, 'n')"),
                        "'bad'".to_owned(),
                    ],
                    Kind::Bool => [format!("NOT {c}"), format!("{c} IS TRUE"), "true".to_owned(), "'x'".to_owned()],
                    Kind::Json => [
                        format!("{c} || '{{\"z\": 1}}'"),
                        "'[5]'".to_owned(),
                        format!("jsonb_build_array({c})"),
                        "'{'".to_owned(),
                    ],
                    Kind::Tags => [
                        format!("array_append({c}, 'w')"),
                        format!("{c}[1:1]"),
                        "ARRAY['x']".to_owned(),
                        "'{'".to_owned(),
                    ],
                    Kind::Mood => [
                        "'glad'".to_owned(),
                        format!("coalesce({c}, 'sad')"),
                        format!("CASE {c} WHEN 'sad' THEN 'calm'::mood ELSE {c} END"),
                        "'mad'".to_owned(),
                    ],
                    Kind::Time => ["now()".to_owned(), "CURRENT_TIMESTAMP".to_owned(), c.clone(), "'soon'".to_owned()],
                    Kind::Date => {
                        ["CURRENT_DATE".to_owned(), format!("{c} + 1"), "now()::date".to_owned(), "'soon'".to_owned()]
                    }
                    Kind::Uuid | Kind::Token | Kind::Made => {
                        ["DEFAULT".to_owned(), "gen_random_uuid()".to_owned(), "DEFAULT".to_owned(), "'x'".to_owned()]
                    }
                };
                let at = self.rarely_last(4);
                s.say(&texts[at]);
            }
        }
    }

    pub(crate) fn set_list(&mut self, s: &mut Statement, table: &'static Table, q: &str) {
        s.say(" SET ");
        if self.choices.chance(3) {
            // A change of the key.
            s.say(&format!("{} = ", table.key().0));
            return self.key(s, table);
        }
        let mut named = Vec::new();
        for at in 0..=self.choices.below(2) {
            let (name, kind) = self.plain_column(table);
            if named.contains(&name) {
                continue;
            }
            named.push(name);
            if at > 0 {
                s.say(", ");
            }
            self.assignment(s, table, name, kind, q);
        }
    }

    pub(crate) fn key_condition(&mut self, s: &mut Statement, table: &'static Table, q: &str) {
        let (name, kind) = table.key();
        match self.choices.below(8) {
            0..=3 => {
                s.say(&format!("{q}{name} = "));
                self.key(s, table);
            }
            4 => {
                s.say(&format!("{q}{name} IN ("));
                for at in 0..=self.choices.below(4) {
                    if at > 0 {
                        s.say(", ");
                    }
                    self.key(s, table);
                }
                s.say(")");
            }
            5 => {
                self.key(s, table);
                s.say(&format!(" = {q}{name}"));
            }
            6 if kind != Kind::Uuid => {
                s.say(&format!("{q}{name} BETWEEN "));
                self.key(s, table);
                s.say(" AND ");
                self.key(s, table);
            }
            _ => {
                s.say(&format!("{q}{name} = "));
                self.key(s, table);
                if let Some((next, kind)) = table.columns.get(1).filter(|_| table.primary > 1) {
                    s.say(&format!(" AND {q}{next} = "));
                    self.value(s, *kind);
                }
            }
        }
    }

    pub(crate) fn other_condition(&mut self, s: &mut Statement, table: &'static Table, q: &str) {
        let (name, kind) = self.plain_column(table);
        let c = format!("{q}{name}");
        let which = self.choices.below(4);
        match kind {
            Kind::Int | Kind::Big | Kind::Numeric | Kind::Made | Kind::Date => match which {
                0 => s.say(&format!("{c} IS NOT NULL")),
                1 | 2 => {
                    s.say(&format!("{c} {} ", ["=", "<", ">=", "<>"][self.choices.below(4)]));
                    self.value(s, kind);
                }
                _ => {
                    s.say(&format!("{c} BETWEEN "));
                    self.value(s, kind);
                    s.say(" AND ");
                    self.value(s, kind);
                }
            },
            Kind::Text => match which {
                0 => s.say(&format!("{c} IS NULL")),
                1 => s.say(&format!("{c} LIKE '%e%'")),
                2 => s.say(&format!("length({c}) > 2")),
                _ => {
                    s.say(&format!("{c} = "));
                    self.value(s, kind);
                }
            },
            Kind::Bool => {
                s.say(&[c.clone(), format!("NOT {c}"), format!("{c} IS NOT TRUE"), format!("{c} IS NULL")][which])
            }
            Kind::Mood => s.say(
                &[
                    format!("{c} = 'sad'"),
                    format!("{c} > 'sad'"),
                    format!("{c} IS NULL"),
                    format!("{c} IN ('calm', 'glad')"),
                ][which],
            ),
            Kind::Tags => s.say(
                &[
                    format!("{c} @> '{{a}}'"),
                    format!("cardinality({c}) > 0"),
                    format!("'b' = ANY ({c})"),
                    format!("{c} = '{{}}'"),
                ][which],
            ),
            Kind::Json => s.say(
                &[format!("{c} IS NULL"), format!("{c}->>'a' = '1'"), format!("{c} ? 'a'"), format!("{c} @> '{{}}'")]
                    [which],
            ),
            Kind::Time => s.say(
                &[
                    format!("{c} IS NOT NULL"),
                    format!("{c} <= now()"),
                    format!("{c} > '2005-01-01'"),
                    format!("{c} IS NULL"),
                ][which],
            ),
            Kind::Uuid | Kind::Token => s.say(&format!("{c} IS NOT NULL")),
        }
    }

    /// WHERE, or nothing.
    pub(crate) fn conditions(&mut self, s: &mut Statement, table: &'static Table, q: &str) {
        let begin = self.choices.begin();
        self.conditions_within(s, table, q);
        self.choices.end(begin);
    }

    fn conditions_within(&mut self, s: &mut Statement, table: &'static Table, q: &str) {
        let roll = self.choices.below(20);
        if roll == 19 {
            return;
        }
        s.say(" WHERE ");
        match roll {
            0..=6 => self.key_condition(s, table, q),
            7..=9 => {
                self.key_condition(s, table, q);
                s.say(" AND ");
                self.other_condition(s, table, q);
            }
            10 | 11 => self.other_condition(s, table, q),
            12 => {
                s.say("(");
                self.key_condition(s, table, q);
                s.say(" OR ");
                self.other_condition(s, table, q);
                s.say(")");
            }
            13 => {
                s.say("NOT (");
                self.other_condition(s, table, q);
                s.say(")");
            }
            14 | 15 => {
                let near = !self.choices.chance(15);
                let other = self.other(table, near);
                let target = if q.is_empty() { format!("{}.", table.name) } else { q.to_owned() };
                let not = if self.choices.chance(30) { "NOT " } else { "" };
                let cast = if other.group == table.group { "" } else { "::text" };
                let (key, other_key) = (table.key().0, other.key().0);
                s.say(&format!(
                    "{not}EXISTS (SELECT FROM {} o WHERE o.{other_key}{cast} = {target}{key}{cast}",
                    other.name
                ));
                if self.choices.chance(40) {
                    s.say(" AND ");
                    self.other_condition(s, other, "o.");
                }
                s.say(")");
            }
            16 | 17 => {
                let other = self.other(table, true);
                let fits = other.key().1 == table.key().1;
                let cast = if fits { "" } else { "::text" };
                s.say(&format!(
                    "{q}{}{cast} IN (SELECT o.{}{cast} FROM {} o WHERE ",
                    table.key().0,
                    other.key().0,
                    other.name
                ));
                self.other_condition(s, other, "o.");
                s.say(")");
            }
            _ => {
                let (name, kind) = self.plain_column(table);
                match kind {
                    Kind::Text => s.say(&format!("{q}{name} IN (SELECT code FROM ref)")),
                    Kind::Int | Kind::Big => s.say(&format!("{q}{name} IN (SELECT n FROM ref WHERE n < 4)")),
                    _ => s.say(&format!("{q}{name} IS NOT NULL")),
                }
            }
        }
    }

    /// WHERE of `t` and `o`, by their keys where these are of one type.
    pub(crate) fn joined(&mut self, s: &mut Statement, table: &'static Table, other: &'static Table) {
        let (key, other_key) = (table.key(), other.key());
        match key.1 == other_key.1 {
            true => s.say(&format!(" WHERE t.{} = o.{}", key.0, other_key.0)),
            false => s.say(&format!(" WHERE t.{}::text = o.{}::text", key.0, other_key.0)),
        }
        self.narrower(s, table, other, 3);
    }

    /// One more condition, on either table, twice in so many times.
    pub(crate) fn narrower(&mut self, s: &mut Statement, table: &'static Table, other: &'static Table, times: usize) {
        match self.choices.below(times) {
            0 => {
                s.say(" AND ");
                self.key_condition(s, table, "t.");
            }
            1 => {
                s.say(" AND ");
                self.other_condition(s, other, "o.");
            }
            _ => {}
        }
    }
}
