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
];

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
        let mut ddl = format!("CREATE TABLE {} (k {key} NOT NULL, n int NOT NULL", self.name);
        for column in &self.columns {
            let null = if column.nullable { "" } else { " NOT NULL" };
            let default = column.default.map_or(String::new(), |it| format!(" DEFAULT {it}"));
            // Writing to a String cannot fail.
            let _ = write!(ddl, ", {} {}{null}{default}", column.name, column.kind().name);
        }
        ddl.push_str(", PRIMARY KEY (k, n)");
        if let Some(unique) = self.unique {
            let _ = write!(ddl, ", UNIQUE KEY once (k, {})", self.columns[unique].name);
        }
        ddl.push_str(") ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci");
        ddl
    }

    /// A row's values.
    pub(crate) fn row(&self, choices: &mut Choices) -> String {
        let mut row = format!("({}, {}", self.key(choices), Self::number(choices));
        for column in &self.columns {
            let _ = write!(row, ", {}", column.value(choices));
        }
        row + ")"
    }
}

/// The tables of a seed. Each type is somewhere.
pub(crate) fn tables(seed: u64) -> Vec<Table> {
    let mut choices = Choices::random(seed);
    let mut next = choices.below(TYPES.len());
    let named = [
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
        Table { name, placed, text_key, columns, unique }
    };
    named.map(table).into_iter().collect()
}
