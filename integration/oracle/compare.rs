//! Whether two answers are the same one.

use std::collections::BTreeMap;

use super::wire::Answer;
use super::wire::Failure;
use super::wire::Row;

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

#[derive(Debug)]
pub(crate) enum Verdict {
    /// Both gave the same answer or failed alike.
    Same,
    /// Both failed, with the SQLSTATE.
    SameError(String),
    /// The proxy declined, and this is its reason.
    Refused(String),
    Mismatch(String),
}

/// What the proxy said beside what one plain server said.
pub(crate) fn compare(proxy: &Answer, plain: &Answer, order: Order) -> Verdict {
    match (&proxy.error, &plain.error) {
        (Some(ours), Some(theirs)) if ours.sqlstate == theirs.sqlstate => {
            return Verdict::SameError(theirs.sqlstate.clone());
        }
        (None, None) => {}
        (ours, theirs) => {
            let show = |it: &Option<Failure>| it.as_ref().map_or("no error".to_owned(), ToString::to_string);
            return Verdict::Mismatch(format!("proxy has {}, plain has {}", show(ours), show(theirs)));
        }
    }
    let built_in = |it: &Answer| {
        let columns = it.columns.clone().unwrap_or_default();
        let columns: Vec<_> = columns.into_iter().map(|(name, oid)| (name, oid.min(16_384))).collect();
        let parameters: Vec<u32> = it.parameters.iter().map(|oid| *oid.min(&16_384)).collect();
        (it.columns.is_some(), columns, parameters)
    };
    if built_in(proxy) != built_in(plain) {
        return Verdict::Mismatch(format!("described as {:?}, plain {:?}", built_in(proxy), built_in(plain)));
    }
    if proxy.tags != plain.tags {
        return Verdict::Mismatch(format!("tags {:?}, plain {:?}", proxy.tags, plain.tags));
    }
    let rows = match order {
        Order::Count => String::new(),
        Order::Total => differ(&proxy.rows, &plain.rows),
        Order::Any => differ(&sorted(proxy.rows.clone()), &sorted(plain.rows.clone())),
    };
    if rows.is_empty() { Verdict::Same } else { Verdict::Mismatch(rows) }
}

pub(crate) fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

/// What two lists of rows differ in; empty: nothing.
pub(crate) fn differ(ours: &[Row], theirs: &[Row]) -> String {
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
        let some: Vec<String> = left.iter().filter(|it| *it.1 > 0).take(4).map(|it| show(it.0)).collect();
        some.join(" ")
    };
    format!(
        "{} rows, plain {}; only here: {}; only plain: {}",
        ours.len(),
        theirs.len(),
        only(ours, theirs),
        only(theirs, ours)
    )
}
