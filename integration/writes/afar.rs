//! Statements whose rows come from elsewhere: from other keys, other tables, many rows made one.

use crate::statements::Maker;
use crate::statements::Statement;
use crate::tables::Kind;
use crate::tables::Table;
use crate::tables::key;
use crate::tables::value;

impl Maker<'_> {
    /// Rows whose keys are no keys where they come from, or are made of many rows.
    pub(crate) fn insert_from_elsewhere(&mut self, s: &mut Statement) {
        s.what = "INSERT … SELECT elsewhere";
        let table = self.table();
        let source = self.other(table, false);
        let (name, kind) = table.key();
        s.say(&format!("INSERT INTO {} ({name}", table.name));
        let others: Vec<_> = table
            .columns
            .iter()
            .copied()
            .enumerate()
            // The key is named already.
            .filter(|(at, (name, kind))| {
                *at > 0
                    && (*at < table.primary
                        || table.needed.contains(name)
                        || (!matches!(kind, Kind::Made | Kind::Time | Kind::Token) && self.choices.chance(40)))
            })
            .collect();
        for (_, (name, _)) in &others {
            s.say(&format!(", {name}"));
        }
        s.say(") SELECT ");
        let number = |kind: Kind| matches!(kind, Kind::Int | Kind::Big);
        let fits = |it: Kind| if number(kind) { number(it) || it == Kind::Numeric } else { it == kind };
        let keys: Vec<&str> = source.columns.iter().filter(|it| fits(it.1)).map(|it| it.0).collect();
        let from = (!keys.is_empty()).then(|| keys[self.choices.below(keys.len())]);
        let grouped = from.is_some() && self.choices.chance(25);
        let shift = [0, 0, 1, 300][self.choices.below(4)];
        match from {
            Some(column) if number(kind) && shift > 0 => s.say(&format!("o.{column} + {shift}")),
            Some(column) => s.say(&format!("o.{column}")),
            None => {
                let text = key(table, 45, self.choices);
                self.give(s, kind, Some(text), true);
            }
        }
        for (at, (name, kind)) in &others {
            s.say(", ");
            let same: Vec<_> = source.columns.iter().filter(|it| it.1 == *kind && it.1 != Kind::Text).collect();
            if *name == "code" {
                s.say("'a'");
            } else if grouped && number(*kind) {
                s.say("count(*)");
            } else if *at < table.primary && number(*kind) {
                s.say(&self.choices.below(400).to_string());
            } else if !same.is_empty() && !grouped && self.choices.chance(60) {
                s.say(&format!("o.{}", same[self.choices.below(same.len())].0));
            } else if number(*kind) && self.choices.chance(20) {
                s.say(["2.5", "7.4", "length('abc')", "1e1"][self.choices.below(4)]);
            } else {
                let text = value(*kind, self.choices);
                match self.choices.chance(30) {
                    true => self.give(s, *kind, Some(text), true),
                    false => s.say(&match kind {
                        Kind::Int | Kind::Big | Kind::Numeric => text,
                        _ => format!("'{}'", text.replace('\'', "''")),
                    }),
                }
            }
        }
        s.say(&format!(" FROM {} o", source.name));
        let before = s.parts.len();
        self.conditions(s, source, "o.");
        if let Some(column) = from {
            s.say(&format!(" {} o.{column} IS NOT NULL", if s.parts.len() > before { "AND" } else { "WHERE" }));
        }
        if let Some(column) = from.filter(|_| grouped) {
            s.say(&format!(" GROUP BY o.{column}"));
        } else if source.primary > 0 && self.choices.chance(30) {
            let names: Vec<String> = source.columns[..source.primary].iter().map(|it| format!("o.{}", it.0)).collect();
            s.say(&format!(" ORDER BY {} LIMIT 3", names.join(", ")));
        }
        self.returning(s, table, table.name, 20);
    }

    /// Another table, or rows on the spot, and what joins them with `t`: no key of both.
    pub(crate) fn joined_elsewhere(&mut self, s: &mut Statement, table: &'static Table) {
        let other = self.other(table, false);
        let ints = |of: &'static Table| -> Vec<&'static str> {
            of.columns.iter().filter(|it| matches!(it.1, Kind::Int | Kind::Big)).map(|it| it.0).collect()
        };
        let (own, theirs) = (ints(table), ints(other));
        if own.is_empty() || theirs.is_empty() {
            s.say(&format!("{} o WHERE t.{}::text = o.{}::text", other.name, table.key().0, other.columns[1].0));
        } else if self.choices.chance(20) {
            let column = own[self.choices.below(own.len())];
            return s.say(&format!("(VALUES (1), (2), (5)) o (x) WHERE t.{column} = o.x"));
        } else {
            let (column, theirs) = (own[self.choices.below(own.len())], theirs[self.choices.below(theirs.len())]);
            s.say(&format!("{} o WHERE t.{column} = o.{theirs}", other.name));
        }
        self.narrower(s, table, other, 4);
        if self.choices.chance(20) {
            s.say(&format!(" RETURNING t.{}", table.key().0));
        }
    }

    /// MERGE that inserts where there is no match.
    pub(crate) fn merge_inserting(&mut self, s: &mut Statement) {
        s.what = "MERGE that inserts";
        let table = self.table();
        let (name, kind) = table.key();
        let other = self.other(table, true);
        s.say(&format!("MERGE INTO {} t USING (SELECT ", table.name));
        if self.choices.chance(50) || other.key().1 != kind {
            let cast = match kind {
                Kind::Big => "bigint",
                Kind::Int => "int",
                Kind::Uuid => "uuid",
                _ => "text",
            };
            let text = key(table, 45, self.choices);
            self.give(s, kind, Some(text), true);
            s.say(&format!("::{cast} AS k"));
        } else {
            s.say(&format!("{} AS k FROM {} WHERE ", other.key().0, other.name));
            self.key_condition(s, other, "");
        }
        s.say(&format!(") o ON t.{name} = o.k"));
        if table.primary > 1 {
            let (name, kind) = table.columns[1];
            s.say(&format!(" AND t.{name} = "));
            self.value(s, kind);
        }
        match self.choices.below(3) {
            0 => s.say(" WHEN MATCHED THEN DELETE"),
            1 => {
                let (name, kind) = self.plain_column(table);
                s.say(" WHEN MATCHED THEN UPDATE SET ");
                self.assignment(s, table, name, kind, "t.");
            }
            _ => {}
        }
        let columns: Vec<_> = table
            .columns
            .iter()
            .enumerate()
            .filter(|(at, (name, kind))| {
                *at > 0
                    && (*at < table.primary
                        || table.needed.contains(name)
                        // Each server's clock tells its own.
                        || matches!(kind, Kind::Time | Kind::Date)
                        || (*kind == Kind::Int && self.choices.chance(50)))
            })
            .collect();
        s.say(&format!(" WHEN NOT MATCHED THEN INSERT ({name}"));
        for (_, (name, _)) in &columns {
            s.say(&format!(", {name}"));
        }
        s.say(") VALUES (o.k");
        for (at, (name, kind)) in columns {
            s.say(", ");
            match kind {
                Kind::Int if at < table.primary => s.say(&(self.choices.below(500) + 20).to_string()),
                Kind::Time => s.say("now()"),
                Kind::Date => s.say("CURRENT_DATE"),
                _ if *name == "code" => s.say("'a'"),
                _ => self.value(s, *kind),
            }
        }
        s.say(")");
    }
}
