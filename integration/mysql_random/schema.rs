//! Tables with columns of all types, made up by a seed, and values for them.

use std::fmt::Write as _;

use crate::choices::Choices;

/// What expressions may be made of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Number,
    Text,
    Time,
    /// Compared with itself alone.
    Other,
}

/// A type, what its values are, and constants as they stand in SQL. Texts of one column that are equal without regard to case
/// are the same: which of them stands for a group is nobody's promise. Floats have exact sums.
pub(crate) struct Type {
    pub(crate) name: &'static str,
    pub(crate) sort: Sort,
    pub(crate) values: &'static [&'static str],
}

const INTEGERS: &[&str] = &["0", "1", "2", "3", "-1", "7", "10", "42", "100"];
const TEXTS: &[&str] = &["'a'", "'B'", "'c1'", "''", "'Zz'", "'öx'", "'five '", "'10'", "'it''s'", "'a_b%'"];
const TIMES: &[&str] = &["'2020-02-29'", "'2021-01-01'", "'1999-12-31'", "'2024-06-15'"];
const MOMENTS: &[&str] =
    &["'2020-02-29 00:00:00'", "'2021-01-01 12:30:45.25'", "'1999-12-31 23:59:59.999999'", "'2024-06-15 06:07:08'"];

pub(crate) const TYPES: &[Type] = &[
    Type { name: "int", sort: Sort::Number, values: INTEGERS },
    Type { name: "int unsigned", sort: Sort::Number, values: &["0", "1", "2", "3", "7", "4294967295"] },
    Type { name: "bigint", sort: Sort::Number, values: INTEGERS },
    Type { name: "smallint", sort: Sort::Number, values: INTEGERS },
    Type { name: "tinyint", sort: Sort::Number, values: INTEGERS },
    Type { name: "decimal(10,2)", sort: Sort::Number, values: &["0.00", "1.10", "-3.75", "100.25", "0.01", "7"] },
    Type { name: "decimal(20,6)", sort: Sort::Number, values: &["0.000001", "1.5", "-2.25", "12345.678"] },
    Type { name: "double", sort: Sort::Number, values: &["0", "0.5", "-1.25", "1024", "3"] },
    Type { name: "float", sort: Sort::Number, values: &["0", "0.5", "-1.25", "64", "3"] },
    Type { name: "date", sort: Sort::Time, values: TIMES },
    Type { name: "datetime", sort: Sort::Time, values: MOMENTS },
    Type { name: "datetime(6)", sort: Sort::Time, values: MOMENTS },
    Type { name: "time", sort: Sort::Other, values: &["'00:00:00'", "'12:34:56'", "'-01:00:00'", "'100:00:01'"] },
    Type { name: "year", sort: Sort::Other, values: &["1999", "2020", "2024"] },
    Type { name: "char(6) COLLATE utf8mb4_general_ci", sort: Sort::Text, values: TEXTS },
    Type { name: "varchar(20) COLLATE utf8mb4_general_ci", sort: Sort::Text, values: TEXTS },
    Type { name: "varchar(20) COLLATE utf8mb4_unicode_ci", sort: Sort::Text, values: TEXTS },
    Type { name: "varchar(20) COLLATE utf8mb4_bin", sort: Sort::Text, values: TEXTS },
    Type { name: "varchar(12) CHARACTER SET latin1", sort: Sort::Text, values: TEXTS },
    Type { name: "text COLLATE utf8mb4_general_ci", sort: Sort::Text, values: TEXTS },
    Type { name: "varbinary(10)", sort: Sort::Other, values: &["'a'", "x'00ff'", "''", "'B'"] },
    Type { name: "blob", sort: Sort::Other, values: &["'a'", "x'00ff'", "''", "'B'"] },
    Type { name: "enum('a','b','c')", sort: Sort::Other, values: &["'a'", "'b'", "'c'"] },
    Type { name: "set('x','y','z')", sort: Sort::Other, values: &["'x'", "'x,z'", "''", "'y'"] },
    Type { name: "json", sort: Sort::Other, values: &["'{\"a\": 1}'", "'[1, 2]'", "'null'"] },
    Type { name: "bit(7)", sort: Sort::Other, values: &["b'101'", "b'0'", "b'1111111'"] },
    Type { name: "bigint unsigned", sort: Sort::Number, values: &["0", "1", "2", "18446744073709551615"] },
    Type { name: "mediumint", sort: Sort::Number, values: INTEGERS },
    Type { name: "decimal(30,10)", sort: Sort::Number, values: &["0.0000000001", "1.5", "-99999999999.25"] },
    Type { name: "timestamp", sort: Sort::Time, values: &["'2020-02-29 00:00:00'", "'2021-01-01 12:30:45'"] },
    Type { name: "binary(3)", sort: Sort::Other, values: &["'a'", "x'00ff01'", "''"] },
    Type { name: "longtext COLLATE utf8mb4_unicode_ci", sort: Sort::Text, values: TEXTS },
    Type {
        name: "char(4) CHARACTER SET latin1 COLLATE latin1_bin",
        sort: Sort::Text,
        values: &["'a'", "'B'", "'é'", "''"],
    },
    Type { name: "bit(40)", sort: Sort::Other, values: &["b'101'", "b'0'", "x'ffffffffff'"] },
];

/// Columns that are computed: a type, of what, and whether it is kept.
pub(crate) const COMPUTED: &[(&str, Sort)] = &[
    ("int AS (n * 2) VIRTUAL", Sort::Number),
    ("bigint AS (n + 100) STORED", Sort::Number),
    ("varchar(20) COLLATE utf8mb4_general_ci AS (CONCAT('n', n)) STORED", Sort::Text),
];

/// Which column of the primary key is AUTO_INCREMENT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    Nothing,
    /// `k`, by which rows are spread.
    Key,
    /// `n`.
    Number,
}

/// Where a table's rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// By `k`.
    Spread,
    Everywhere,
    First,
}

pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: usize,
    pub(crate) nullable: bool,
    default: Option<&'static str>,
}

impl Column {
    pub(crate) fn kind(&self) -> &'static Type {
        &TYPES[self.kind]
    }

    /// A constant for it.
    pub(crate) fn value(&self, choices: &mut Choices) -> String {
        if self.nullable && choices.chance(15) {
            return "NULL".to_owned();
        }
        let values = self.kind().values;
        values[choices.below(values.len())].to_owned()
    }
}

/// `k` and `n` are its primary key, in this order.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) placed: Placed,
    pub(crate) text_key: bool,
    pub(crate) columns: Vec<Column>,
    /// A column that is unique beside the key.
    pub(crate) unique: Option<usize>,
    pub(crate) counts: Counts,
    /// Behind all others there is `g`, of [`COMPUTED`].
    pub(crate) computed: Option<usize>,
}

/// Keys, as they stand in SQL.
pub(crate) const KEYS: usize = 12;
pub(crate) const NUMBERS: usize = 4;

impl Table {
    pub(crate) fn key(&self, choices: &mut Choices) -> String {
        let key = choices.below(KEYS) + 1;
        if self.text_key { format!("'key{key}'") } else { key.to_string() }
    }

    pub(crate) fn number(choices: &mut Choices) -> String {
        (choices.below(NUMBERS) + 1).to_string()
    }

    pub(crate) fn ddl(&self) -> String {
        let key = if self.text_key { "varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin" } else { "bigint" };
        let count = |it: Counts| if self.counts == it { " AUTO_INCREMENT" } else { "" };
        let (of_key, of_number) = (count(Counts::Key), count(Counts::Number));
        let mut ddl = format!("CREATE TABLE {} (k {key} NOT NULL{of_key}, n int NOT NULL{of_number}", self.name);
        for column in &self.columns {
            let null = if column.nullable { "" } else { " NOT NULL" };
            let default = column.default.map_or(String::new(), |it| format!(" DEFAULT {it}"));
            // Writing to a String cannot fail.
            let _ = write!(ddl, ", {} {}{null}{default}", column.name, column.kind().name);
        }
        if let Some(computed) = self.computed {
            let _ = write!(ddl, ", g {}", COMPUTED[computed].0);
        }
        ddl.push_str(", PRIMARY KEY (k, n)");
        if self.counts == Counts::Number {
            ddl.push_str(", KEY (n)");
        }
        if let Some(unique) = self.unique {
            let _ = write!(ddl, ", UNIQUE KEY once (k, {})", self.columns[unique].name);
        }
        // A server that counts rows anew whenever it finds the time plans by how busy the machine is.
        ddl.push_str(") ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci STATS_AUTO_RECALC=0");
        ddl
    }

    /// A row's values, with a key of its own.
    pub(crate) fn row(&self, choices: &mut Choices) -> String {
        let (key, number) = (self.key(choices), Self::number(choices));
        self.row_of(choices, &key, &number)
    }

    /// The same, where a number may be left to the server.
    pub(crate) fn counted_row(&self, choices: &mut Choices) -> String {
        let mut key = self.key(choices);
        let mut number = Self::number(choices);
        let wish = ["NULL", "0", "DEFAULT", "NULL", "30"][choices.below(5)];
        match self.counts {
            Counts::Key if choices.chance(70) => wish.clone_into(&mut key),
            Counts::Number if choices.chance(70) => wish.clone_into(&mut number),
            _ => {}
        }
        self.row_of(choices, &key, &number)
    }

    fn row_of(&self, choices: &mut Choices, key: &str, number: &str) -> String {
        let mut row = format!("({key}, {number}");
        for column in &self.columns {
            // Writing to a String cannot fail.
            let _ = write!(row, ", {}", column.value(choices));
        }
        row + if self.computed.is_some() { ", DEFAULT)" } else { ")" }
    }
}

/// The tables of a seed. Each type is somewhere.
pub(crate) fn tables(seed: u64) -> Vec<Table> {
    let mut choices = Choices::random(seed);
    let mut next = choices.below(TYPES.len());
    let named = [
        ("a1", Placed::Spread, false),
        ("a2", Placed::Spread, false),
        ("s1", Placed::Spread, false),
        ("s2", Placed::Spread, false),
        ("s3", Placed::Spread, false),
        ("f1", Placed::Spread, true),
        ("r1", Placed::Everywhere, false),
        ("u1", Placed::First, false),
    ];
    let table = |(name, placed, text_key): (&'static str, Placed, bool)| {
        let mut columns = Vec::new();
        for at in 0..6 + choices.below(3) {
            // The first ones are of what most expressions are made of.
            let kind = match at {
                0 => choices.below(9),
                1 => 14 + choices.below(6),
                _ => {
                    next = (next + 1) % TYPES.len();
                    next
                }
            };
            let nullable = choices.chance(70);
            let may_have_default = !["json", "blob", "text"].iter().any(|it| TYPES[kind].name.starts_with(it));
            let default = (may_have_default && choices.chance(40))
                .then(|| TYPES[kind].values[choices.below(TYPES[kind].values.len())]);
            columns.push(Column { name: format!("c{at}"), kind, nullable, default });
        }
        let may_be_unique = |it: &Column| [Sort::Number, Sort::Time].contains(&it.kind().sort);
        let unique = if choices.chance(60) { columns.iter().position(may_be_unique) } else { None };
        let counts = match name {
            "a1" => Counts::Key,
            "a2" => Counts::Number,
            _ => Counts::Nothing,
        };
        // Of what is counted nothing can be computed.
        let computed = (counts != Counts::Number && choices.chance(30)).then(|| choices.below(COMPUTED.len()));
        Table { name, placed, text_key, columns, unique, counts, computed }
    };
    named.map(table).into_iter().collect()
}
