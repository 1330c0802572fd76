//! Whether two answers are alike.

use std::collections::BTreeMap;

use super::wire::Answer;
use super::wire::Failure;
use super::wire::Row;

/// User-defined types are numbered from here.
const FIRST_USER_TYPE: u32 = 16_384;
/// An anonymous row.
const RECORD: u32 = 2249;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;

/// The names of user-defined types by their numbers, which differ between servers.
pub(crate) type Types = BTreeMap<u32, String>;

/// How the rows of two answers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As a multiset.
    Any,
    /// In order.
    Total,
    /// The number of rows only: which ones is the server's choice.
    Count,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Both gave the same answer.
    Same,
    /// Both failed, with the SQLSTATE.
    SameError(String),
    /// The proxy declined, and this is its reason.
    Refused(String),
    Mismatch(String),
}

/// What the proxy said, beside what the plain server said.
pub(crate) fn compare(ours: &Answer, theirs: &Answer, types: [&Types; 2], order: Order) -> Verdict {
    match (&ours.error, &theirs.error) {
        (Some(refusal), _) if !refusal.by_server && matches!(refusal.sqlstate.as_str(), "0A000" | "54000") => {
            return Verdict::Refused(reason(&refusal.message));
        }
        (Some(our), Some(their)) if our.sqlstate == their.sqlstate => {
            if ours.status != theirs.status {
                return Verdict::Mismatch(format!("status {}, plain {}", ours.status, theirs.status));
            }
            return Verdict::SameError(their.sqlstate.clone());
        }
        (None, None) => {}
        (our, their) => {
            let show = |it: &Option<Failure>| it.as_ref().map_or("no error".to_owned(), ToString::to_string);
            return Verdict::Mismatch(format!("{}; plain: {}", show(our), show(their)));
        }
    }
    let told = |it: &Answer, types: &Types| {
        let name = |oid: u32| types.get(&oid).cloned().unwrap_or_else(|| oid.to_string());
        let columns: Option<Vec<_>> =
            it.columns.as_ref().map(|it| it.iter().map(|(column, oid)| (column.clone(), name(*oid))).collect());
        let parameters: Vec<_> = it.parameters.iter().map(|oid| name(*oid)).collect();
        (columns, it.modifiers.clone(), parameters)
    };
    let (our, their) = (told(ours, types[0]), told(theirs, types[1]));
    if our != their {
        return Verdict::Mismatch(format!("described as {our:?}, plain {their:?}"));
    }
    for (what, our, their) in [
        ("tags", format!("{:?}", ours.tags), format!("{:?}", theirs.tags)),
        ("status", ours.status.to_string(), theirs.status.to_string()),
        ("notices", format!("{:?}", ours.notices), format!("{:?}", theirs.notices)),
    ] {
        if our != their {
            return Verdict::Mismatch(format!("{what} {our}, plain {their}"));
        }
    }
    let (our, their) = (renumbered(ours, types[0]), renumbered(theirs, types[1]));
    let rows = match order {
        Order::Count => String::new(),
        Order::Total => differ(&our, &their),
        Order::Any => differ(&sorted(our), &sorted(their)),
    };
    if rows.is_empty() { Verdict::Same } else { Verdict::Mismatch(rows) }
}

/// The rows with names in the place of the numbers of user-defined types, which arrays and rows in binary hold, and with
/// one NaN for all: whether a sum is one with or without a sign depends on the order of what is added.
fn renumbered(answer: &Answer, types: &Types) -> Vec<Row> {
    let columns = answer.columns.as_deref().unwrap_or_default();
    let mut rows = answer.rows.clone();

    for (at, (_, oid)) in columns.iter().enumerate() {
        if answer.modifiers.get(at).is_some_and(|(_, format)| *format == 1) {
            for cell in rows.iter_mut().filter_map(|row| row.get_mut(at)).flatten() {
                let is_nan = match (*oid, cell.as_slice()) {
                    (FLOAT4, bytes) => bytes.try_into().is_ok_and(|it| f32::from_be_bytes(it).is_nan()),
                    (FLOAT8, bytes) => bytes.try_into().is_ok_and(|it| f64::from_be_bytes(it).is_nan()),
                    _ => false,
                };
                if is_nan {
                    *cell = b"NaN".to_vec();
                }
            }
        }
        if *oid < FIRST_USER_TYPE && *oid != RECORD {
            continue;
        }
        for cell in rows.iter_mut().filter_map(|row| row.get_mut(at)).flatten() {
            if let Some(named) = named(cell, types) {
                *cell = named;
            }
        }
    }
    rows
}

/// A record or array in binary format with names in the place of its types' numbers; `None`: it is neither.
fn named(cell: &[u8], types: &Types) -> Option<Vec<u8>> {
    record(cell, types).or_else(|| array(cell, types))
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    /// A value with its length; what is in it may have types too.
    fn value(&mut self, types: &Types, out: &mut Vec<u8>) -> Option<()> {
        let length = self.number()?;
        out.extend(length.to_be_bytes());
        if length != u32::MAX {
            let (value, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
            self.0 = rest;
            out.extend(named(value, types).unwrap_or_else(|| value.to_vec()));
        }
        Some(())
    }
}

fn name_of(number: u32, types: &Types) -> Vec<u8> {
    types.get(&number).map_or_else(|| number.to_be_bytes().to_vec(), |it| it.clone().into_bytes())
}

/// The number of fields, and the type and value of each (`record_send`).
fn record(cell: &[u8], types: &Types) -> Option<Vec<u8>> {
    let mut reader = Reader(cell);
    let count = reader.number().filter(|it| *it < 2000)?;
    let mut out = count.to_be_bytes().to_vec();
    for _ in 0..count {
        out.extend(name_of(reader.number().filter(|it| *it > 15)?, types));
        reader.value(types, &mut out)?;
    }
    (reader.0.is_empty() && count > 0).then_some(out)
}

/// Dimensions, whether there are NULLs, the elements' type, each dimension's length and lower bound, the elements
/// (`array_send`).
fn array(cell: &[u8], types: &Types) -> Option<Vec<u8>> {
    let mut reader = Reader(cell);
    let dimensions = reader.number().filter(|it| *it <= 6)?;
    let nulls = reader.number().filter(|it| *it <= 1)?;
    let mut out = [dimensions.to_be_bytes(), nulls.to_be_bytes()].concat();
    out.extend(name_of(reader.number().filter(|it| *it > 15)?, types));
    let mut elements = u32::from(dimensions > 0);
    for _ in 0..dimensions {
        let (length, bound) = (reader.number()?, reader.number()?);
        elements = elements.checked_mul(length)?;
        out.extend(length.to_be_bytes());
        out.extend(bound.to_be_bytes());
    }
    for _ in 0..elements {
        reader.value(types, &mut out)?;
    }
    reader.0.is_empty().then_some(out)
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

/// What two lists of rows differ in; empty: nothing.
fn differ(ours: &[Row], theirs: &[Row]) -> String {
    if ours == theirs {
        return String::new();
    }
    let show = |row: &Row| {
        let cells: Vec<_> =
            row.iter().map(|it| it.as_ref().map(|it| String::from_utf8_lossy(it).into_owned())).collect();
        format!("{cells:?}")
    };
    let only = |these: &[Row], those: &[Row]| {
        let mut left: BTreeMap<&Row, isize> = BTreeMap::new();
        these.iter().for_each(|it| *left.entry(it).or_default() += 1);
        those.iter().for_each(|it| *left.entry(it).or_default() -= 1);
        let some: Vec<String> = left.iter().filter(|it| *it.1 > 0).take(3).map(|it| show(it.0)).collect();
        some.join(" ")
    };
    let (more, less) = (only(ours, theirs), only(theirs, ours));
    if more.is_empty() && less.is_empty() {
        let place = ours.iter().zip(theirs).position(|(a, b)| a != b).unwrap_or_default();
        return format!("another order from row {place} on: {}; plain: {}", show(&ours[place]), show(&theirs[place]));
    }
    format!("{} rows, plain {}; only here: {more}; only plain: {less}", ours.len(), theirs.len())
}

/// A refusal's message without the names in it.
pub(crate) fn reason(message: &str) -> String {
    let mut out = String::new();
    for (place, piece) in message.split('"').enumerate() {
        out.push_str(if place % 2 == 0 { piece } else { "…" });
    }
    out.split('(').next().unwrap_or_default().trim().to_owned()
}

/// A harness that cannot fail proves nothing.
#[test]
fn answers_that_differ_are_told() {
    let cell = |text: &str| Some(text.as_bytes().to_vec());
    let plain = Answer {
        parameters: vec![23],
        columns: Some(vec![("a".to_owned(), 23), ("b".to_owned(), 20_000)]),
        modifiers: vec![(u32::MAX, 0), (u32::MAX, 0)],
        rows: vec![vec![cell("1"), cell("x")], vec![cell("2"), None]],
        tags: vec!["SELECT 2".to_owned()],
        status: b'I',
        ..Answer::default()
    };
    let (ours, theirs) = (Types::from([(30_000, "mood".to_owned())]), Types::from([(20_000, "mood".to_owned())]));
    let verdict = |change: &dyn Fn(&mut Answer), order: Order| {
        let mut answer = plain.clone();
        answer.columns = Some(vec![("a".to_owned(), 23), ("b".to_owned(), 30_000)]);
        change(&mut answer);
        compare(&answer, &plain, [&ours, &theirs], order)
    };
    let column = |answer: &mut Answer, name: &str, oid: u32| {
        answer.columns = Some(vec![(name.to_owned(), oid), ("b".to_owned(), 30_000)]);
    };
    assert_eq!(verdict(&|_| {}, Order::Total), Verdict::Same);
    assert_eq!(verdict(&|it| it.rows.reverse(), Order::Any), Verdict::Same);
    assert_eq!(verdict(&|it| it.rows[0][0] = cell("7"), Order::Count), Verdict::Same);
    let failure = |by_server: bool, sqlstate: &str| Failure {
        sqlstate: sqlstate.to_owned(),
        message: "\"t\" does not do".to_owned(),
        hint: String::new(),
        detail: String::new(),
        context: String::new(),
        by_server,
    };
    let refused = verdict(&|it| it.error = Some(failure(false, "0A000")), Order::Any);
    assert_eq!(refused, Verdict::Refused("… does not do".to_owned()));
    let changes: [(&str, &dyn Fn(&mut Answer)); 14] = [
        ("order", &|it| it.rows.reverse()),
        ("value", &|it| it.rows[0][0] = cell("7")),
        ("NULL", &|it| it.rows[1][1] = cell("")),
        ("a row less", &|it| it.rows.truncate(1)),
        ("a row twice", &|it| it.rows[1] = it.rows[0].clone()),
        ("name", &|it| column(it, "c", 23)),
        ("type", &|it| column(it, "a", 20)),
        ("user-defined type", &|it| it.columns = plain.columns.clone()),
        ("modifier", &|it| it.modifiers[0].0 = 8),
        ("format", &|it| it.modifiers[0].1 = 1),
        ("parameter", &|it| it.parameters[0] = 20),
        ("tag", &|it| it.tags = vec!["SELECT 3".to_owned()]),
        ("status", &|it| it.status = b'T'),
        ("error", &|it| it.error = Some(failure(true, "0A000"))),
    ];
    for (what, change) in changes {
        assert!(matches!(verdict(change, Order::Total), Verdict::Mismatch(_)), "{what} is not told");
    }
    let noticed = verdict(&|it| it.notices = vec![("01000".to_owned(), "so".to_owned())], Order::Any);
    assert!(matches!(noticed, Verdict::Mismatch(_)));
    // Errors of both.
    let failed = Answer { error: Some(failure(true, "22012")), ..Answer::default() };
    let other = Answer { error: Some(failure(true, "22003")), ..Answer::default() };
    assert_eq!(compare(&failed, &failed, [&ours, &theirs], Order::Any), Verdict::SameError("22012".to_owned()));
    assert!(matches!(compare(&failed, &other, [&ours, &theirs], Order::Any), Verdict::Mismatch(_)));
    assert!(matches!(compare(&failed, &plain, [&ours, &theirs], Order::Any), Verdict::Mismatch(_)));
    // Numbers of types within values.
    // A record of one field, and in it an array of one element, whose text looks like a number of a type.
    let array = |oid: u32| {
        let element = [1, 0, oid, 1, 1, 4, 30_000].map(u32::to_be_bytes).concat();
        let length = u32::try_from(element.len()).expect("short");
        let record = [[1, 2277, length].map(u32::to_be_bytes).concat(), element].concat();
        Answer { rows: vec![vec![None, Some(record)]], ..plain.clone() }
    };
    let ours_array = Answer { columns: Some(vec![("a".to_owned(), 23), ("b".to_owned(), 30_000)]), ..array(30_000) };
    assert_eq!(compare(&ours_array, &array(20_000), [&ours, &theirs], Order::Any), Verdict::Same);
    let wrong = Answer { rows: array(20_001).rows, ..ours_array };
    assert!(matches!(compare(&wrong, &array(20_000), [&ours, &theirs], Order::Any), Verdict::Mismatch(_)));
}
