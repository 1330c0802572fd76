//! What the generator knows of the tables, and values for their columns.

use crate::bytes::Value;
use crate::choices::Choices;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Big,
    Numeric,
    Text,
    Bool,
    Uuid,
    Json,
    Tags,
    Mood,
    Time,
    Date,
    /// Generated from others.
    Made,
    /// A uuid that chance gives.
    Token,
}
use Kind::Big;
use Kind::Bool;
use Kind::Date;
use Kind::Int;
use Kind::Json;
use Kind::Made;
use Kind::Mood;
use Kind::Numeric;
use Kind::Tags;
use Kind::Text;
use Kind::Time;
use Kind::Token;
use Kind::Uuid;

/// Tables of one group have their rows of one key on one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Number,
    Count,
    Name,
    Doc,
    Band,
    Reference,
    Unsharded,
}

pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    pub(crate) columns: &'static [(&'static str, Kind)],
    /// How many of the first columns are the primary key; 0: there is none.
    pub(crate) primary: usize,
    /// Columns besides the key that may not be NULL.
    pub(crate) needed: &'static [&'static str],
}

/// Of sharded tables the first column is the key.
pub(crate) const TABLES: &[Table] = &[
    Table {
        name: "acct",
        group: Group::Number,
        columns: &[
            ("id", Big),
            ("owner", Int),
            ("name", Text),
            ("bal", Numeric),
            ("code", Text),
            ("flag", Bool),
            ("mood", Mood),
            ("tags", Tags),
            ("meta", Json),
            ("at", Time),
            ("twice", Made),
        ],
        primary: 1,
        needed: &["bal"],
    },
    Table {
        name: "line",
        group: Group::Number,
        columns: &[("id", Big), ("no", Int), ("what", Text), ("qty", Int), ("price", Numeric)],
        primary: 2,
        needed: &["no", "qty"],
    },
    Table {
        name: "part",
        group: Group::Number,
        columns: &[("id", Big), ("no", Int), ("seq", Int)],
        primary: 2,
        needed: &["no"],
    },
    Table { name: "trig", group: Group::Number, columns: &[("id", Big), ("v", Int)], primary: 1, needed: &[] },
    Table {
        name: "audit",
        group: Group::Number,
        columns: &[("id", Big), ("was", Int), ("now", Int)],
        primary: 0,
        needed: &[],
    },
    Table {
        name: "small",
        group: Group::Count,
        columns: &[("id", Int), ("v", Int), ("t", Text)],
        primary: 2,
        needed: &["v"],
    },
    Table {
        name: "loose",
        group: Group::Count,
        columns: &[("k", Int), ("v", Text), ("n", Int)],
        primary: 0,
        needed: &[],
    },
    Table {
        name: "fruit",
        group: Group::Name,
        columns: &[("name", Text), ("n", Int), ("d", Date)],
        primary: 1,
        needed: &[],
    },
    Table {
        name: "bite",
        group: Group::Name,
        columns: &[("name", Text), ("pos", Int), ("kind", Mood)],
        primary: 2,
        needed: &["pos"],
    },
    Table {
        name: "doc",
        group: Group::Doc,
        columns: &[("id", Uuid), ("title", Text), ("body", Json), ("token", Token), ("n", Big)],
        primary: 1,
        needed: &[],
    },
    Table {
        name: "band",
        group: Group::Band,
        columns: &[("id", Int), ("v", Int), ("note", Text)],
        primary: 1,
        needed: &["v"],
    },
    Table {
        name: "ref",
        group: Group::Reference,
        columns: &[("code", Text), ("n", Int), ("made", Time), ("mood", Mood)],
        primary: 1,
        needed: &[],
    },
    Table { name: "ref2", group: Group::Reference, columns: &[("code", Text), ("n", Int)], primary: 2, needed: &["n"] },
    Table {
        name: "solo",
        group: Group::Unsharded,
        columns: &[("id", Int), ("v", Text), ("n", Int)],
        primary: 1,
        needed: &[],
    },
    Table { name: "side", group: Group::Unsharded, columns: &[("v", Text), ("n", Int)], primary: 0, needed: &[] },
];

impl Table {
    pub(crate) fn is_sharded(&self) -> bool {
        !matches!(self.group, Group::Reference | Group::Unsharded)
    }

    pub(crate) fn key(&self) -> (&'static str, Kind) {
        self.columns[0]
    }

    /// Its columns but for times and chance, which two servers do not have in common.
    pub(crate) fn comparable(&self) -> impl Iterator<Item = (&'static str, Kind)> {
        self.columns.iter().copied().filter(|(_, kind)| !matches!(kind, Time | Token))
    }

    pub(crate) fn primary_list(&self) -> String {
        let names: Vec<&str> = self.columns[..self.primary].iter().map(|it| it.0).collect();
        names.join(", ")
    }
}

/// A value as a statement has it: by its text, or as a parameter.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) kind: Kind,
    /// `None`: NULL.
    pub(crate) text: Option<String>,
    /// It becomes $n where the protocol has these.
    pub(crate) is_bound: bool,
    /// With its type at Parse.
    pub(crate) is_typed: bool,
    pub(crate) is_binary: bool,
}

impl Given {
    pub(crate) fn literal(&self) -> String {
        let Some(text) = &self.text else { return "NULL".to_owned() };
        match self.kind {
            Int | Big | Numeric if text.parse::<f64>().is_ok() => match text.starts_with('-') {
                true => format!("({text})"),
                false => text.clone(),
            },
            Bool if matches!(&**text, "true" | "false") => text.clone(),
            _ => format!("'{}'", text.replace('\'', "''")),
        }
    }

    pub(crate) fn bound(&self) -> Value {
        let oid = if self.is_typed { self.oid() } else { 0 };
        let text = self.text.as_deref();
        if self.is_binary
            && let Some(bytes) = text.and_then(|it| binary(self.kind, it))
        {
            return Value { oid: self.oid(), binary: true, bytes: Some(bytes) };
        }
        Value { oid, binary: false, bytes: text.map(|it| it.as_bytes().to_vec()) }
    }

    fn oid(&self) -> u32 {
        match self.kind {
            Int => 23,
            Big => 20,
            Numeric => 1700,
            Text => 25,
            Bool => 16,
            Uuid | Token => 2950,
            Json => 3802,
            Tags => 1009,
            Time => 1184,
            Date => 1082,
            Mood | Made => 0,
        }
    }
}

/// The binary form of a value, of types that have a simple one.
pub(crate) fn binary(kind: Kind, text: &str) -> Option<Vec<u8>> {
    Some(match kind {
        Int => text.parse::<i32>().ok()?.to_be_bytes().to_vec(),
        Big => text.parse::<i64>().ok()?.to_be_bytes().to_vec(),
        Text => text.as_bytes().to_vec(),
        Bool => vec![u8::from(text.parse::<bool>().ok()?)],
        Uuid => {
            let digits: String = text.chars().filter(|it| *it != '-').collect();
            u128::from_str_radix(&digits, 16).ok()?.to_be_bytes().to_vec()
        }
        Json => [&[1], text.as_bytes()].concat(),
        Numeric | Tags | Mood | Time | Date | Made | Token => return None,
    })
}

const NAMES: [&str; 9] = ["apple", "Birne", "päron", "", "a'b", "fig", "x y", "line\nbreak", "tab\tand\\slash"];

/// A key: in so many of a hundred one that is there from the start.
pub(crate) fn key(table: &Table, known: usize, choices: &mut Choices) -> String {
    // Lines without an account fail at the end.
    let known = if matches!(table.name, "line" | "part" | "ref2") { 95 } else { known };
    let number = if choices.chance(known) { choices.below(8) + 1 } else { choices.below(200) + 9 };
    match table.key().1 {
        Text if table.group == Group::Reference => match number {
            1..=4 => ["a", "b", "c", "d"][number - 1].to_owned(),
            _ => format!("r{number}"),
        },
        Text => NAMES.get(number - 1).map_or_else(|| format!("n{number}"), |it| (*it).to_owned()),
        Uuid => format!("{:08x}-0000-4000-8000-{number:012x}", number * 0x0135_7911),
        _ if table.group == Group::Band => (number * 7 % 120).to_string(),
        Big => match number % 20 {
            17 => format!("90000000{number:02}"),
            18 => format!("-{number}"),
            _ => number.to_string(),
        },
        _ => number.to_string(),
    }
}

/// A value of a column that is no key.
pub(crate) fn value(kind: Kind, choices: &mut Choices) -> String {
    let small = choices.below(12);
    match kind {
        Int | Big | Made => small.to_string(),
        Numeric => {
            ["0", "1.5", "10", "-3.25", "99.999", "7", "120", "-900", "0.005", "3", "42", "1e2"][small].to_owned()
        }
        Text => NAMES.get(small).copied().unwrap_or("plain").to_owned(),
        Bool => small.is_multiple_of(2).to_string(),
        Uuid | Token => format!("00000000-0000-4000-8000-{small:012x}"),
        Json => ["{}", "{\"a\": 1}", "[1, 2]", "{\"a\": \"x\", \"b\": null}", "null", "\"s\""][small % 6].to_owned(),
        Tags => ["{}", "{a}", "{a,b}", "{\"x y\",NULL}"][small % 4].to_owned(),
        Mood => ["sad", "calm", "glad"][small % 3].to_owned(),
        Time => ["2001-02-03 04:05:06+00", "2010-01-01", "1999-12-31 23:59:59.123456+02"][small % 3].to_owned(),
        Date => ["2001-02-03", "2010-01-01", "1999-12-31"][small % 3].to_owned(),
    }
}

/// What is no value of the type, or none that fits.
pub(crate) fn bad(kind: Kind, choices: &mut Choices) -> String {
    let of: [&str; 2] = match kind {
        Int => ["x", "99999999999"],
        Big | Made => ["x", "99999999999999999999"],
        Numeric => ["x", "123456789012"],
        Text => ["bad", "longer than twelve letters"],
        Bool => ["perhaps", "2"],
        Uuid | Token => ["x", "00000000-0000"],
        Json => ["{", "nope"],
        Tags => ["{", "a"],
        Mood => ["mad", ""],
        Time => ["2001-02-30", "soon"],
        Date => ["2001-02-30", "soon"],
    };
    of[choices.below(2)].to_owned()
}
