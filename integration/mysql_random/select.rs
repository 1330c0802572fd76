//! SELECTs made up of choices. Without choices comes the simplest.

use crate::choices::Choices;
use crate::schema::COMPUTED;
use crate::schema::Placed;
use crate::schema::Sort;
use crate::schema::TYPES;
use crate::schema::Table;

/// What was made up.
pub(crate) struct Select {
    pub(crate) sql: String,
    /// Its ORDER BY tells any two rows apart.
    pub(crate) total: bool,
}

#[derive(Clone)]
struct Column {
    name: String,
    sort: Sort,
    /// A key of that table: whether it is a text.
    key: Option<bool>,
}

#[derive(Clone)]
struct Item {
    alias: String,
    columns: Vec<Column>,
    /// What no two of its rows have alike.
    unique: Vec<String>,
}

struct Maker<'a> {
    tables: &'a [Table],
    choices: &'a mut Choices,
    aliases: usize,
    /// Names of WITH, and their columns.
    ctes: Vec<(String, Vec<Column>)>,
}

/// How deep queries stand in each other.
const DEEP: usize = 2;

pub(crate) fn select(choices: &mut Choices, tables: &[Table]) -> Select {
    let mut maker = Maker { tables, choices, aliases: 0, ctes: Vec::new() };
    maker.top()
}

impl Maker<'_> {
    fn chance(&mut self, percent: usize) -> bool {
        self.choices.chance(percent)
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("q{}", self.aliases)
    }

    fn top(&mut self) -> Select {
        let mut with = String::new();
        if self.chance(3) {
            with = "WITH RECURSIVE w1 AS (SELECT 1 AS d0 UNION ALL SELECT d0 + 1 FROM w1 WHERE d0 < 4) ".to_owned();
            let columns = vec![Column { name: "d0".to_owned(), sort: Sort::Number, key: None }];
            self.ctes.push(("w1".to_owned(), columns));
        } else if self.chance(12) {
            let begin = self.choices.begin();
            let (sql, columns) = self.derived(DEEP - 1);
            let name = format!("w{}", self.ctes.len() + 1);
            with = format!("WITH {name} AS ({sql}) ");
            self.ctes.push((name, columns));
            self.choices.end(begin);
        }
        match self.choices.below(100) {
            0..=84 => {
                let (sql, total) = self.block();
                Select { sql: with + &sql, total }
            }
            _ => {
                let (sql, total) = self.set_operation();
                Select { sql: with + &sql, total }
            }
        }
    }

    /// UNION, EXCEPT, INTERSECT of queries with columns of the same sorts.
    fn set_operation(&mut self) -> (String, bool) {
        let sorts: Vec<Sort> = (0..=self.choices.below(2)).map(|_| self.sort()).collect();
        let arm = |maker: &mut Self| {
            let (from, scope, condition) = maker.from(1);
            let columns: Vec<String> = sorts
                .iter()
                .enumerate()
                .map(|(at, sort)| format!("{} AS x{at}", maker.expression(&scope, *sort, 1, 0)))
                .collect();
            let condition = maker.condition_of(&scope, condition);
            format!("SELECT {} FROM {from}{condition}", columns.join(", "))
        };
        let mut sql = arm(self);
        for _ in 0..=self.choices.below(2) {
            let word = ["UNION ALL", "UNION", "EXCEPT", "INTERSECT", "UNION DISTINCT"][self.choices.below(5)];
            sql = format!("{sql} {word} {}", arm(self));
        }
        // Texts that are equal without regard to case have one order, others have one of them only.
        let plain = sorts.iter().all(|it| *it == Sort::Number);
        if self.chance(60) {
            let places: Vec<String> = (1..=sorts.len()).map(|it| it.to_string()).collect();
            sql = format!("{sql} ORDER BY {}", places.join(", "));
            if plain && self.chance(50) {
                sql = format!("{sql} LIMIT {}", self.choices.below(8));
            }
            return (sql, plain);
        }
        (sql, false)
    }

    fn sort(&mut self) -> Sort {
        [Sort::Number, Sort::Text, Sort::Time][self.choices.below(3)]
    }

    /// One SELECT.
    fn block(&mut self) -> (String, bool) {
        let begin = self.choices.begin();
        let made = match self.choices.below(10) {
            0..=4 => self.plain_block(),
            5..=8 => self.grouped_block(),
            _ => self.window_block(),
        };
        self.choices.end(begin);
        made
    }

    fn plain_block(&mut self) -> (String, bool) {
        let (from, scope, condition) = self.from(0);
        let mut columns = Vec::new();
        if self.chance(12) {
            columns.push("*".to_owned());
        } else {
            for _ in 0..=self.choices.below(4) {
                let begin = self.choices.begin();
                let sort = if self.chance(15) { Sort::Other } else { self.sort() };
                columns.push(self.expression(&scope, sort, 2, 0));
                self.choices.end(begin);
            }
        }
        let distinct = columns[0] != "*" && self.chance(12);
        let condition = self.condition_of(&scope, condition);
        let mut sql =
            format!("SELECT {}{} FROM {from}{condition}", if distinct { "DISTINCT " } else { "" }, columns.join(", "));
        let unique: Vec<String> = scope.iter().flat_map(|it| it.unique.clone()).collect();
        let total = !unique.is_empty() && scope.iter().all(|it| !it.unique.is_empty()) && !distinct;
        if total && self.chance(50) {
            let mut order = Vec::new();
            for _ in 0..self.choices.below(3) {
                let sort = self.sort();
                let by = self.expression(&scope, sort, 1, 0);
                order.push(format!("{by}{}", self.direction()));
            }
            order.extend(unique.iter().map(|it| format!("{it}{}", self.direction())));
            sql = format!("{sql} ORDER BY {}", order.join(", "));
            if self.chance(45) {
                sql = format!("{sql}{}", self.limit());
            }
            return (sql, true);
        }
        (sql, false)
    }

    fn direction(&mut self) -> &'static str {
        if self.chance(30) { " DESC" } else { "" }
    }

    fn limit(&mut self) -> String {
        let count = self.choices.below(9);
        match self.choices.below(4) {
            0..=1 => format!(" LIMIT {count}"),
            2 => format!(" LIMIT {count} OFFSET {}", self.choices.below(5)),
            _ => format!(" LIMIT {}, {count}", self.choices.below(5)),
        }
    }

    fn grouped_block(&mut self) -> (String, bool) {
        let (from, scope, condition) = self.from(0);
        let groups: Vec<(String, Sort)> = (0..self.choices.below(3))
            .map(|_| {
                let sort = self.sort();
                let by = if self.chance(70) { self.column(&scope, sort) } else { None };
                (by.unwrap_or_else(|| self.expression(&scope, sort, 1, 0)), sort)
            })
            .filter(|(by, _)| by.contains('q'))
            .collect();
        let mut columns: Vec<String> =
            groups.iter().enumerate().map(|(at, (by, _))| format!("{by} AS g{at}")).collect();
        for _ in 0..=self.choices.below(3) {
            let begin = self.choices.begin();
            columns.push(self.aggregate(&scope));
            self.choices.end(begin);
        }
        let condition = self.condition_of(&scope, condition);
        let mut sql = format!("SELECT {} FROM {from}{condition}", columns.join(", "));
        let mut rollup = false;
        if !groups.is_empty() {
            let by: Vec<String> = if self.chance(50) {
                (0..groups.len()).map(|at| format!("g{at}")).collect()
            } else {
                groups.iter().map(|(by, _)| by.clone()).collect()
            };
            sql = format!("{sql} GROUP BY {}", by.join(", "));
            rollup = self.chance(10);
            if rollup {
                sql.push_str(" WITH ROLLUP");
            }
        }
        if self.chance(20) {
            let aggregate = ["COUNT(*) > 1", "COUNT(*) >= 2", "COUNT(*) < 5"][self.choices.below(3)];
            sql = format!("{sql} HAVING {aggregate}");
        }
        let plain = groups.iter().all(|(_, sort)| *sort != Sort::Text);
        if !groups.is_empty() && !rollup && self.chance(50) {
            let order: Vec<String> = (0..groups.len()).map(|at| format!("g{at}{}", self.direction())).collect();
            sql = format!("{sql} ORDER BY {}", order.join(", "));
            if plain && self.chance(40) {
                sql = format!("{sql}{}", self.limit());
            }
            return (sql, plain);
        }
        (sql, false)
    }

    fn aggregate(&mut self, scope: &[Item]) -> String {
        let number = |maker: &mut Self| maker.expression(scope, Sort::Number, 1, 0);
        match self.choices.below(15) {
            12 => {
                let what = number(self);
                format!("GROUP_CONCAT(DISTINCT {what} ORDER BY {what} DESC)")
            }
            13 => format!("BIT_AND({})", number(self)),
            14 => format!("BIT_XOR({})", number(self)),
            0 => "COUNT(*)".to_owned(),
            1 => format!("SUM({})", number(self)),
            2 => format!("AVG({})", number(self)),
            3 => format!("MIN({})", number(self)),
            4 => format!("MAX({})", number(self)),
            5 => {
                let sort = self.sort();
                format!("COUNT({})", self.expression(scope, sort, 1, 0))
            }
            6 => {
                let sort = self.sort();
                format!("COUNT(DISTINCT {})", self.expression(scope, sort, 1, 0))
            }
            7 => {
                let time = self.expression(scope, Sort::Time, 1, 0);
                format!("MAX({time})")
            }
            8 => {
                let what = number(self);
                format!("GROUP_CONCAT({what} ORDER BY {what} SEPARATOR '|')")
            }
            9 => format!("SUM(DISTINCT {})", number(self)),
            10 => format!("BIT_OR({})", number(self)),
            _ => format!("SUM({}) + COUNT(*)", number(self)),
        }
    }

    fn window_block(&mut self) -> (String, bool) {
        let (from, scope, condition) = self.from(0);
        let unique: Vec<String> = scope.iter().flat_map(|it| it.unique.clone()).collect();
        if unique.is_empty() || scope.iter().any(|it| it.unique.is_empty()) {
            return (format!("SELECT COUNT(*) FROM {from}"), true);
        }
        let order = unique.join(", ");
        let mut columns = unique.clone();
        for _ in 0..=self.choices.below(1) {
            let number = self.expression(&scope, Sort::Number, 1, 0);
            let partition = match self.chance(60) {
                true => {
                    let sort = self.sort();
                    format!("PARTITION BY {} ", self.expression(&scope, sort, 0, 0))
                }
                false => String::new(),
            };
            columns.push(match self.choices.below(10) {
                6 => format!("DENSE_RANK() OVER ({partition}ORDER BY {number})"),
                7 => format!("NTILE(3) OVER ({partition}ORDER BY {order})"),
                8 => format!("FIRST_VALUE({number}) OVER ({partition}ORDER BY {order})"),
                9 => format!("LEAD({number}, 2) OVER ({partition}ORDER BY {order})"),
                0 => format!("ROW_NUMBER() OVER ({partition}ORDER BY {order})"),
                1 => format!("RANK() OVER ({partition}ORDER BY {number})"),
                2 => format!("SUM({number}) OVER ({partition}ORDER BY {order})"),
                3 => format!("COUNT(*) OVER ({partition})"),
                4 => format!("LAG({number}) OVER ({partition}ORDER BY {order})"),
                _ => {
                    format!("MAX({number}) OVER ({partition}ORDER BY {order} ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)")
                }
            });
        }
        let condition = self.condition_of(&scope, condition);
        let sql = format!("SELECT {} FROM {from}{condition}", columns.join(", "));
        if self.chance(50) { (format!("{sql} ORDER BY {order}"), true) } else { (sql, false) }
    }

    // ── FROM ──

    fn table(&mut self) -> (String, Item) {
        let alias = self.alias();
        let ctes = self.ctes.len();
        if ctes > 0 && self.chance(50) {
            let (name, columns) = self.ctes[self.choices.below(ctes)].clone();
            return (format!("{name} {alias}"), Item { alias, columns, unique: Vec::new() });
        }
        let table = &self.tables[self.choices.below(self.tables.len())];
        let mut columns = vec![
            Column {
                name: "k".to_owned(),
                sort: if table.text_key { Sort::Text } else { Sort::Number },
                key: (table.placed == Placed::Spread).then_some(table.text_key),
            },
            Column { name: "n".to_owned(), sort: Sort::Number, key: None },
        ];
        columns.extend(table.columns.iter().map(|it| Column {
            name: it.name.clone(),
            sort: it.kind().sort,
            key: None,
        }));
        let computed = table.computed.map(|it| Column { name: "g".to_owned(), sort: COMPUTED[it].1, key: None });
        columns.extend(computed);
        let unique = vec![format!("{alias}.k"), format!("{alias}.n")];
        (format!("{} {alias}", table.name), Item { alias, columns, unique })
    }

    /// A query in FROM or WITH: numbered columns.
    fn derived(&mut self, depth: usize) -> (String, Vec<Column>) {
        let (from, scope, condition) = self.from(depth + 1);
        let grouped = self.chance(40);
        let condition = self.condition_of(&scope, condition);
        if grouped {
            let sort = self.sort();
            let by = self.column(&scope, sort).unwrap_or_else(|| format!("{}.n", scope[0].alias));
            let by = if by.ends_with(".n") && scope[0].unique.is_empty() { "1".to_owned() } else { by };
            let aggregate = self.aggregate(&scope);
            let aggregate = if aggregate.starts_with("GROUP_CONCAT") || aggregate.starts_with("MAX(") {
                "COUNT(*)".to_owned()
            } else {
                aggregate
            };
            let columns = vec![
                Column { name: "d0".to_owned(), sort, key: None },
                Column { name: "d1".to_owned(), sort: Sort::Number, key: None },
            ];
            return (format!("SELECT {by} AS d0, {aggregate} AS d1 FROM {from}{condition} GROUP BY {by}"), columns);
        }
        let mut list = Vec::new();
        let mut columns = Vec::new();
        for at in 0..=self.choices.below(3) {
            let sort = self.sort();
            list.push(format!("{} AS d{at}", self.expression(&scope, sort, 1, depth + 1)));
            columns.push(Column { name: format!("d{at}"), sort, key: None });
        }
        (format!("SELECT {} FROM {from}{condition}", list.join(", ")), columns)
    }

    /// FROM's text, what is in sight, and a condition that joins.
    fn from(&mut self, depth: usize) -> (String, Vec<Item>, Option<String>) {
        let begin = self.choices.begin();
        let (mut text, first) = self.source(depth);
        let mut scope = vec![first];
        let mut condition = None;
        for _ in 0..[0, 0, 0, 1, 1, 1, 2][self.choices.below(7)] {
            let begin = self.choices.begin();
            let (other, item) = self.source(depth);
            let on = self.joins(&scope, &item);
            match self.choices.below(9) {
                8 => text = format!("{text} RIGHT JOIN {other} ON {on}"),
                0..=3 => text = format!("{text} JOIN {other} ON {on}"),
                4..=5 => text = format!("{text} LEFT JOIN {other} ON {on}"),
                6 if condition.is_none() => {
                    text = format!("{text} CROSS JOIN {other}");
                    condition = Some(on);
                }
                _ => text = format!("{text} INNER JOIN {other} ON {on}"),
            }
            scope.push(item);
            self.choices.end(begin);
        }
        self.choices.end(begin);
        (text, scope, condition)
    }

    fn source(&mut self, depth: usize) -> (String, Item) {
        if depth < DEEP && self.chance(12) {
            let (sql, columns) = self.derived(depth);
            let alias = self.alias();
            return (format!("({sql}) {alias}"), Item { alias, columns, unique: Vec::new() });
        }
        self.table()
    }

    fn joins(&mut self, scope: &[Item], item: &Item) -> String {
        let other = &scope[self.choices.below(scope.len())];
        let key = |it: &Item| it.columns.iter().find(|it| it.key.is_some()).and_then(|it| it.key);
        if key(other).is_some() && key(other) == key(item) && self.chance(70) {
            let more =
                if self.chance(30) { format!(" AND {}.n = {}.n", other.alias, item.alias) } else { String::new() };
            return format!("{}.k = {}.k{more}", other.alias, item.alias);
        }
        let sort = self.sort();
        let sides = (self.column(std::slice::from_ref(other), sort), self.column(std::slice::from_ref(item), sort));
        match sides {
            (Some(one), Some(two)) => format!("{one} = {two}"),
            _ => format!("{}.{} IS NOT NULL", item.alias, item.columns[0].name),
        }
    }

    // ── expressions ──

    fn column(&mut self, scope: &[Item], sort: Sort) -> Option<String> {
        let all: Vec<String> = scope
            .iter()
            .flat_map(|it| {
                it.columns.iter().filter(|it| it.sort == sort).map(|column| format!("{}.{}", it.alias, column.name))
            })
            .collect();
        if all.is_empty() { None } else { Some(all[self.choices.below(all.len())].clone()) }
    }

    fn constant(&mut self, sort: Sort) -> String {
        match sort {
            Sort::Number => ["1", "0", "2", "10", "1.5", "-3", "NULL"][self.choices.below(7)].to_owned(),
            Sort::Text => ["'a'", "'A'", "'b'", "''", "'ÖX'", "'10'", "'zz'"][self.choices.below(7)].to_owned(),
            Sort::Time | Sort::Other => ["DATE'2020-02-29'", "TIMESTAMP'2021-01-01 12:30:45'", "DATE'2024-01-01'"]
                [self.choices.below(3)]
            .to_owned(),
        }
    }

    fn expression(&mut self, scope: &[Item], sort: Sort, depth: usize, within: usize) -> String {
        if sort == Sort::Other {
            return self.column(scope, sort).unwrap_or_else(|| "1".to_owned());
        }
        if depth == 0 || self.chance(55) {
            return match self.column(scope, sort) {
                Some(column) if !self.chance(8) => column,
                _ => self.constant(sort),
            };
        }
        let begin = self.choices.begin();
        let made = match sort {
            Sort::Number => self.number(scope, depth, within),
            Sort::Text => self.text(scope, depth, within),
            Sort::Time | Sort::Other => self.time(scope, depth, within),
        };
        self.choices.end(begin);
        made
    }

    fn number(&mut self, scope: &[Item], depth: usize, within: usize) -> String {
        let part = |maker: &mut Self, sort| maker.expression(scope, sort, depth - 1, within);
        let one = part(self, Sort::Number);
        match self.choices.below(26) {
            17 => {
                let other = self.expression(scope, Sort::Other, 0, within);
                format!("LENGTH({other})")
            }
            18 => format!("DATEDIFF({}, DATE'2020-01-01')", part(self, Sort::Time)),
            19 => format!("INSTR({}, 'a')", part(self, Sort::Text)),
            20 => format!("({one} & 7)"),
            21 => format!("CRC32({})", part(self, Sort::Text)),
            22 => format!("JSON_LENGTH(JSON_ARRAY({one}, {}))", part(self, Sort::Text)),
            23 => format!("CAST({one} AS DECIMAL(12,3))"),
            24 => format!("FIELD({}, 'a', 'B', 'c1')", part(self, Sort::Text)),
            25 => format!("TIMESTAMPDIFF(HOUR, {}, TIMESTAMP'2021-01-01 12:30:45')", part(self, Sort::Time)),
            0 => format!("({one} + {})", part(self, Sort::Number)),
            1 => format!("({one} - {})", part(self, Sort::Number)),
            2 => format!("({one} * 2)"),
            3 => format!("({one} / 4)"),
            4 => format!("({one} DIV 3)"),
            5 => format!("({one} % 5)"),
            6 => format!("ABS({one})"),
            7 => format!("ROUND({one}, 1)"),
            8 => format!("COALESCE({one}, {})", part(self, Sort::Number)),
            9 => format!("LENGTH({})", part(self, Sort::Text)),
            10 => format!("CHAR_LENGTH({})", part(self, Sort::Text)),
            11 => format!("YEAR({})", part(self, Sort::Time)),
            12 => {
                let condition = self.condition(scope, depth - 1, within);
                format!("CASE WHEN {condition} THEN {one} ELSE {} END", part(self, Sort::Number))
            }
            13 => {
                let condition = self.condition(scope, depth - 1, within);
                format!("IF({condition}, {one}, 0)")
            }
            14 => format!("GREATEST({one}, {})", part(self, Sort::Number)),
            15 => format!("NULLIF({one}, 1)"),
            _ if within < DEEP => self.scalar(scope, within),
            _ => format!("FLOOR({one})"),
        }
    }

    /// A subquery of one value.
    fn scalar(&mut self, scope: &[Item], within: usize) -> String {
        let (from, inner, condition) = self.from(DEEP);
        let aggregate = ["COUNT(*)", "MAX", "SUM"][self.choices.below(3)];
        let what = if aggregate == "COUNT(*)" {
            aggregate.to_owned()
        } else {
            format!("{aggregate}({})", self.expression(&inner, Sort::Number, 0, within + 1))
        };
        let outer = match (self.chance(50), self.column(scope, Sort::Number), self.column(&inner, Sort::Number)) {
            (true, Some(outer), Some(inner)) => Some(format!("{outer} = {inner}")),
            _ => None,
        };
        let all: Vec<String> = condition.into_iter().chain(outer).collect();
        let condition = if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) };
        format!("(SELECT {what} FROM {from}{condition})")
    }

    fn text(&mut self, scope: &[Item], depth: usize, within: usize) -> String {
        let one = self.expression(scope, Sort::Text, depth - 1, within);
        match self.choices.below(23) {
            12 => format!("REVERSE({one})"),
            13 => format!("CONVERT({one} USING utf8mb4) COLLATE utf8mb4_bin"),
            14 => format!("CONVERT({one} USING utf8mb4) COLLATE utf8mb4_unicode_ci"),
            15 => format!("DATE_FORMAT({}, '%Y-%m')", self.expression(scope, Sort::Time, depth - 1, within)),
            16 => format!("HEX({})", self.expression(scope, Sort::Other, 0, within)),
            17 => format!("JSON_UNQUOTE(JSON_EXTRACT(JSON_OBJECT('x', {one}), '$.x'))"),
            18 => format!("CONCAT_WS('/', {one}, {})", self.expression(scope, Sort::Number, depth - 1, within)),
            19 => format!("SUBSTRING_INDEX({one}, '_', 1)"),
            20 => format!("MD5({one})"),
            21 => format!("REPEAT({one}, 2)"),
            22 => format!("CAST({} AS CHAR(12))", self.expression(scope, Sort::Time, depth - 1, within)),
            0 => format!("CONCAT({one}, '-', {})", self.expression(scope, Sort::Text, depth - 1, within)),
            1 => format!("UPPER({one})"),
            2 => format!("LOWER({one})"),
            3 => format!("LEFT({one}, 2)"),
            4 => format!("SUBSTRING({one}, 2)"),
            5 => format!("TRIM({one})"),
            6 => format!("COALESCE({one}, 'none')"),
            7 => format!("REPLACE({one}, 'a', 'xx')"),
            8 => format!("LPAD({one}, 4, '.')"),
            9 => format!("CAST({} AS CHAR)", self.expression(scope, Sort::Number, depth - 1, within)),
            10 => format!("HEX({one})"),
            _ => format!("IFNULL({one}, {})", self.expression(scope, Sort::Text, depth - 1, within)),
        }
    }

    fn time(&mut self, scope: &[Item], depth: usize, within: usize) -> String {
        let one = self.expression(scope, Sort::Time, depth - 1, within);
        match self.choices.below(7) {
            5 => format!("{one} + INTERVAL '1:30' MINUTE_SECOND"),
            6 => format!("CAST({one} AS DATETIME(3))"),
            0 => format!("DATE({one})"),
            1 => format!("{one} + INTERVAL {} DAY", self.choices.below(40)),
            2 => format!("DATE_SUB({one}, INTERVAL 1 MONTH)"),
            3 => format!("COALESCE({one}, DATE'2000-01-01')"),
            _ => format!("LAST_DAY({one})"),
        }
    }

    // ── conditions ──

    fn condition_of(&mut self, scope: &[Item], joins: Option<String>) -> String {
        let mut all: Vec<String> = joins.into_iter().collect();
        for _ in 0..[0, 0, 1, 1, 2][self.choices.below(5)] {
            let begin = self.choices.begin();
            all.push(self.condition(scope, 2, 0));
            self.choices.end(begin);
        }
        if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) }
    }

    fn by_key(&mut self, scope: &[Item]) -> Option<String> {
        let keys: Vec<(String, bool)> = scope
            .iter()
            .flat_map(|it| it.columns.iter().filter_map(|column| Some((format!("{}.k", it.alias), column.key?))))
            .collect();
        if keys.is_empty() {
            return None;
        }
        let (key, is_text) = &keys[self.choices.below(keys.len())];
        let mut value = || {
            let value = self.choices.below(crate::schema::KEYS) + 1;
            if *is_text { format!("'key{value}'") } else { value.to_string() }
        };
        let values = [value(), value(), value()];
        Some(match self.choices.below(4) {
            0..=1 => format!("{key} = {}", values[0]),
            2 => format!("{key} IN ({})", values.join(", ")),
            _ => format!("({key} = {} OR {key} = {})", values[0], values[1]),
        })
    }

    fn condition(&mut self, scope: &[Item], depth: usize, within: usize) -> String {
        let begin = self.choices.begin();
        let made = self.some_condition(scope, depth, within);
        self.choices.end(begin);
        made
    }

    fn some_condition(&mut self, scope: &[Item], depth: usize, within: usize) -> String {
        let sort = self.sort();
        let below = depth.saturating_sub(1);
        match self.choices.below(16) {
            0..=3 => {
                let operator = ["=", "<>", "<", ">", "<=", ">=", "<=>"][self.choices.below(7)];
                let one = self.expression(scope, sort, below, within);
                format!("{one} {operator} {}", self.expression(scope, sort, 0, within))
            }
            4..=5 => match self.by_key(scope) {
                Some(condition) => condition,
                None => "1 = 1".to_owned(),
            },
            6 => {
                let what = self.expression(scope, sort, below, within);
                format!("{what} IS {}NULL", if self.chance(50) { "NOT " } else { "" })
            }
            7 => {
                let what = self.expression(scope, sort, below, within);
                let list: Vec<String> = (0..=self.choices.below(3)).map(|_| self.constant(sort)).collect();
                let not = if self.chance(25) { "NOT " } else { "" };
                format!("{what} {not}IN ({})", list.join(", "))
            }
            8 => {
                let what = self.expression(scope, Sort::Number, below, within);
                format!("{what} BETWEEN {} AND {}", self.constant(Sort::Number), self.constant(Sort::Number))
            }
            9 => {
                let what = self.expression(scope, Sort::Text, 0, within);
                if self.chance(15) {
                    return format!("{what} REGEXP '^[a-c]'");
                }
                let like = ["'a%'", "'%B%'", "'_'", "'%'", "'C_'", "'ö%'"][self.choices.below(6)];
                format!("{what} {}LIKE {like}", if self.chance(20) { "NOT " } else { "" })
            }
            10 if depth > 0 => {
                let word = if self.chance(50) { "OR" } else { "AND" };
                let one = self.condition(scope, below, within);
                format!("({one} {word} {})", self.condition(scope, below, within))
            }
            11 if depth > 0 => format!("NOT ({})", self.condition(scope, below, within)),
            12..=13 if within < DEEP && depth > 0 => {
                let (from, inner, joins) = self.from(DEEP);
                let what = self.expression(scope, sort, 0, within);
                let condition = joins.map_or(String::new(), |it| format!(" WHERE {it}"));
                let column = self.expression(&inner, sort, 0, within + 1);
                let not = if self.chance(20) { "NOT " } else { "" };
                format!("{what} {not}IN (SELECT {column} FROM {from}{condition})")
            }
            14..=15 if within < DEEP && depth > 0 => {
                let (from, inner, joins) = self.from(DEEP);
                let sides = (self.column(scope, Sort::Number), self.column(&inner, Sort::Number));
                let outer = match sides {
                    (Some(outer), Some(inner)) => Some(format!("{inner} = {outer}")),
                    _ => None,
                };
                let all: Vec<String> = joins.into_iter().chain(outer).collect();
                let condition = if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) };
                let not = if self.chance(30) { "NOT " } else { "" };
                format!("{not}EXISTS (SELECT 1 FROM {from}{condition})")
            }
            _ => {
                let one = self.expression(scope, Sort::Number, 0, within);
                format!("{one} > {}", self.constant(Sort::Number))
            }
        }
    }
}

/// Types whose values no expression is made of stand in results alone.
pub(crate) fn has_every_sort() -> bool {
    [Sort::Number, Sort::Text, Sort::Time, Sort::Other].iter().all(|sort| TYPES.iter().any(|it| it.sort == *sort))
}
