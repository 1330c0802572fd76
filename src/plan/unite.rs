//! Reads of MySQL's whose shards' answers come to the answer with some work of the proxy's: totals of totals, groups of
//! groups, and rows in one order.
//!
//! Each shard is told the client's own text with some items more, behind its own, and without what holds of the whole only
//! (LIMIT of groups): so types and names of columns are the server's own. Texts are compared by what the servers
//! themselves compare them by (WEIGHT_STRING). What is not known to compare so is gathered.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use crate::ident::ShardSet;
use crate::plan::World;
use crate::plan::key::Values;
use crate::plan::route::Part;
use crate::plan::shadow::quoted;
use crate::schema::Relation;
use crate::sql::lex::Kind;
use crate::sql::lex::Lexeme;
use crate::sql::lex::mysql as lex;
use crate::sql::lex::mysql::Mode;
use crate::sql::model::Query;
use crate::sql::model::Source;
use crate::sql::model::Value;
use crate::sql::mysql::Item;
use crate::sql::mysql::Ordered;
use crate::sql::mysql::Path;
use crate::sql::mysql::Shape;
use crate::sql::mysql::Total;

/// How answers are united, values left open.
#[derive(Debug)]
pub(crate) struct Uniting {
    /// The part whose shards answer.
    pub(crate) anchor: usize,
    how: Arc<How>,
    limit: Option<Value>,
    offset: Option<Value>,
}

/// How answers are united.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct How {
    /// What shards are asked for behind the client's own items.
    pub hidden: Vec<Hidden>,
    /// What makes groups of rows; `None`: rows stay what they are.
    pub groups: Option<Groups>,
    /// What the answer is ordered by.
    pub order: Vec<SortKey>,
    /// The groups are rows of which those that are alike are one: DISTINCT.
    pub distinct: bool,
}

/// An item of the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// This.
    Text(String),
    /// A function of what the aggregate at this place is of.
    Of(&'static str, usize),
    /// The weights of the aggregate at this place.
    Weight(usize),
}

/// Groups of rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// What rows of one group have in common; nothing: there is one group.
    pub keys: Vec<Key>,
    /// Items that are put together of those of shards.
    pub totals: Vec<Put>,
    /// Quotients: of which item, of which sum and which count.
    pub averages: Vec<(usize, At, At)>,
}

/// An item that is put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Which.
    pub at: At,
    /// How.
    pub total: Total,
    /// Of the least and the most: what they are compared by.
    pub by: Key,
}

/// A column of what shards answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// An item of the client's.
    Item(usize),
    /// One of the proxy's own.
    Hidden(usize),
}

/// What values are told apart by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where it is.
    pub at: At,
    /// How.
    pub by: By,
}

/// How values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// As what they are.
    Value,
    /// They are weights of texts; what shorter ones are filled up with.
    Weights(&'static [u8]),
    /// They are texts, which compare as their bytes do where all of them are printable ASCII.
    Ascii {
        /// Whatever their case is.
        folds: bool,
        /// Blanks behind the shorter one change nothing.
        pads: bool,
    },
}

impl Key {
    /// What shorter values are filled up with.
    #[must_use]
    pub fn pad(&self) -> &'static [u8] {
        match self.by {
            By::Weights(pad) => pad,
            By::Ascii { pads: true, .. } => b" ",
            By::Value | By::Ascii { pads: false, .. } => &[],
        }
    }
}

/// What rows are ordered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// What.
    pub key: Key,
    /// The greatest come first.
    pub descending: bool,
}

/// What one execution unites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unite {
    /// The shards that answer.
    pub shards: ShardSet,
    /// How.
    pub how: Arc<How>,
    /// Rows at most.
    pub limit: Option<u64>,
    /// Rows that are left out.
    pub offset: u64,
}

/// What shards are told.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// The text.
    pub text: String,
    /// How many of the client's parameters it has: the first ones.
    pub parameters: usize,
}

impl Uniting {
    /// By the shape of a statement; `None`: it is not known how.
    pub(crate) fn new(anchor: usize, shape: &Shape, query: &Query, world: &World) -> Option<Self> {
        let mut making = Making { query, world, how: How::default() };
        let done = match shape.items.as_deref() {
            Some(items) if shape.aggregates => making.grouped(items, &shape.groups, &shape.order),
            Some(items) if shape.distinct => making.distinct(items, &shape.order),
            items if !shape.aggregates && !shape.distinct => making.sorted(items, &shape.order),
            _ => None,
        };
        done?;
        let how = Arc::new(making.how);
        Some(Self { anchor, how, limit: shape.limit.clone(), offset: shape.offset.clone() })
    }

    /// What it comes to with these values.
    pub(crate) fn with(&self, parts: &[Part], values: &Values<'_>, world: &World) -> Option<Unite> {
        let whole = |value: &Value| u64::try_from(values.mysql_whole(value)??).ok();
        let limit = match &self.limit {
            None => None,
            Some(value) => Some(whole(value)?),
        };
        let offset = match &self.offset {
            None => 0,
            Some(value) => whole(value)?,
        };
        limit.unwrap_or(0).checked_add(offset)?;
        let mut shards = parts.get(self.anchor)?.shards(values, &world.database);
        if crate::mistakes::makes("shard-forgotten") {
            shards = shards.iter().take(shards.len().saturating_sub(1).max(1)).collect();
        }
        (!shards.is_empty()).then(|| Unite { shards, how: Arc::clone(&self.how), limit, offset })
    }
}

struct Making<'a> {
    query: &'a Query,
    world: &'a World,
    how: How,
}

/// How values of a column are compared.
enum Compared {
    /// As they are.
    Plain,
    /// By another expression of the column, whose values are compared as they are.
    By(&'static str),
    /// By weights; or as the second one, where all is ASCII.
    Weights(&'static [u8], Option<By>),
    /// Not here.
    Unknown,
}

impl Making<'_> {
    /// Rows in an order.
    fn sorted(&mut self, items: Option<&[Item]>, order: &[(Ordered, bool)]) -> Option<()> {
        for (of, descending) in order {
            let key = match of {
                Ordered::Item(place) => match items?.get(*place)? {
                    Item::Column(path) => self.key(path, Some(*place))?,
                    _ => return None,
                },
                Ordered::Column(path) => self.key(path, None)?,
            };
            self.how.order.push(SortKey { key, descending: *descending });
        }
        Some(())
    }

    /// Rows of columns, of which those that are alike are one. With items more, servers would go about it otherwise.
    fn distinct(&mut self, items: &[Item], order: &[(Ordered, bool)]) -> Option<()> {
        let columns: Option<Vec<&Path>> = items
            .iter()
            .map(|it| match it {
                Item::Column(path) => Some(path),
                _ => None,
            })
            .collect();
        let columns = columns?;
        let place = |of: &Ordered| match of {
            Ordered::Item(place) => Some(*place),
            Ordered::Column(path) => columns.iter().position(|it| *it == path),
        };
        let order: Vec<(usize, bool)> =
            order.iter().map(|(of, descending)| Some((place(of)?, *descending))).collect::<Option<_>>()?;
        let mut keys = Vec::with_capacity(columns.len());
        for (at, path) in columns.iter().enumerate() {
            let by = match self.column(path)?.0 {
                Compared::Plain => By::Value,
                Compared::Weights(_, Some(by)) => by,
                Compared::Weights(_, None) | Compared::By(_) | Compared::Unknown => return None,
            };
            keys.push(Key { at: At::Item(at), by });
        }
        for (at, descending) in order {
            self.how.order.push(SortKey { key: keys.get(at)?.clone(), descending });
        }
        self.how.distinct = true;
        self.how.groups = Some(Groups { keys, ..Groups::default() });
        Some(())
    }

    /// Aggregates of groups, or of all rows.
    fn grouped(&mut self, items: &[Item], groups: &[Path], order: &[(Ordered, bool)]) -> Option<()> {
        let mut made = Groups::default();
        let shown = |path: &Path| items.iter().position(|it| matches!(it, Item::Column(own) if own == path));
        for path in groups {
            made.keys.push(self.key(path, shown(path))?);
        }
        for (place, item) in items.iter().enumerate() {
            match item {
                // What a group has in common, any of its rows tells.
                Item::Column(path) if groups.contains(path) => {}
                Item::Constant => {}
                Item::Total(total, of) => self.total(&mut made, place, *total, of.as_ref())?,
                Item::Column(_) | Item::Other => return None,
            }
        }
        for (of, descending) in order {
            let key = match of {
                Ordered::Item(place) => match items.get(*place)? {
                    Item::Column(path) => made.keys.get(groups.iter().position(|it| it == path)?)?.clone(),
                    Item::Constant | Item::Other => return None,
                    Item::Total(..) => {
                        let put = made.totals.iter().find(|it| it.at == At::Item(*place));
                        put.map_or(Key { at: At::Item(*place), by: By::Value }, |it| it.by.clone())
                    }
                },
                Ordered::Column(path) => made.keys.get(groups.iter().position(|it| it == path)?)?.clone(),
            };
            self.how.order.push(SortKey { key, descending: *descending });
        }
        self.how.groups = Some(made);
        Some(())
    }

    fn total(&mut self, made: &mut Groups, place: usize, total: Total, of: Option<&Path>) -> Option<()> {
        let at = At::Item(place);
        let own = Key { at, by: By::Value };
        let compared = match of {
            None => None,
            Some(path) => Some(self.column(path)?.0),
        };
        match total {
            Total::Count => made.totals.push(Put { at, total, by: own }),
            Total::And | Total::Or | Total::Xor | Total::Sum => {
                // Sums of what is no exact number depend on its order.
                if matches!(total, Total::Sum) && !matches!(compared, None | Some(Compared::Plain)) {
                    return None;
                }
                made.totals.push(Put { at, total, by: own });
            }
            Total::Average => {
                if !matches!(compared, None | Some(Compared::Plain)) {
                    return None;
                }
                let sum = self.hide(Hidden::Of("SUM", place));
                let count = self.hide(Hidden::Of("COUNT", place));
                for (at, total) in [(sum, Total::Sum), (count, Total::Count)] {
                    made.totals.push(Put { at, total, by: Key { at, by: By::Value } });
                }
                made.averages.push((place, sum, count));
            }
            Total::Least | Total::Most => {
                let by = match compared {
                    None | Some(Compared::Plain) => own,
                    Some(Compared::Weights(pad, _)) => {
                        Key { at: self.hide(Hidden::Weight(place)), by: By::Weights(pad) }
                    }
                    Some(Compared::By(_) | Compared::Unknown) => return None,
                };
                made.totals.push(Put { at, total, by });
            }
        }
        Some(())
    }

    fn hide(&mut self, hidden: Hidden) -> At {
        let known = self.how.hidden.iter().position(|it| *it == hidden);
        At::Hidden(known.unwrap_or_else(|| {
            self.how.hidden.push(hidden);
            self.how.hidden.len() - 1
        }))
    }

    /// What values of a column are told apart by; `shown`: the item that is the column.
    fn key(&mut self, path: &Path, shown: Option<usize>) -> Option<Key> {
        let (compared, name) = self.column(path)?;
        Some(match (compared, shown) {
            (Compared::Plain, Some(place)) => Key { at: At::Item(place), by: By::Value },
            (Compared::Plain, None) => Key { at: self.hide(Hidden::Text(name)), by: By::Value },
            (Compared::By(function), _) => {
                let text = function.replace('?', &name);
                Key { at: self.hide(Hidden::Text(text)), by: By::Value }
            }
            (Compared::Weights(pad, _), _) => {
                Key { at: self.hide(Hidden::Text(format!("WEIGHT_STRING({name})"))), by: By::Weights(pad) }
            }
            (Compared::Unknown, _) => return None,
        })
    }

    /// How values of a column are compared, and the column as SQL.
    fn column(&self, path: &Path) -> Option<(Compared, String)> {
        let (column, qualifiers) = path.split_last()?;
        let mut found = None;
        for it in self.query.leaves.iter().filter(|it| Some(it.block) == self.query.top) {
            if qualifiers.last().is_some_and(|table| *table != *it.alias) {
                continue;
            }
            // What is not a table may have any column.
            let Source::Table(relation) = &it.source else { return None };
            if let Some(place) = relation.columns.iter().position(|it| it.name.eq_ignore_ascii_case(column)) {
                if found.is_some() {
                    return None;
                }
                found = Some((relation, place));
            }
        }
        let (relation, place) = found?;
        let name: Vec<String> = path.iter().map(|it| quoted(it)).collect();
        let name = name.join(".");
        // It is written in the client's character set.
        if !name.is_ascii() {
            return None;
        }
        Some((compared(relation, place, self.world), name))
    }
}

fn compared(relation: &Relation, place: usize, world: &World) -> Compared {
    let Some(column) = relation.columns.get(place) else { return Compared::Unknown };
    let full = column.type_name.to_ascii_lowercase();
    match full.split(['(', ' ']).next().unwrap_or_default() {
        "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" | "decimal" | "numeric" | "date"
        | "datetime" => Compared::Plain,
        "enum" | "set" => Compared::By("CAST(? AS UNSIGNED)"),
        "char" | "varchar" => {
            let collation = world.schema.mysql.as_ref().and_then(|it| it.collations.get(&relation.name));
            let collation = collation.and_then(|it| it.get(place)?.as_deref());
            let Some((pad, width)) = collation.and_then(weights) else { return Compared::Unknown };
            let ascii = collation.and_then(ascii);
            let length = full.split_once('(').and_then(|(_, it)| it.split_once(')'));
            let length = length.and_then(|(it, _)| it.trim().parse::<usize>().ok());
            // Servers order by no more bytes.
            match length.is_some_and(|it| it.saturating_mul(width) <= SORT_LENGTH) {
                true => Compared::Weights(pad, ascii),
                false => Compared::Unknown,
            }
        }
        _ => Compared::Unknown,
    }
}

impl Unite {
    /// The statement as shards are told it; `None`: its parts are not found.
    #[must_use]
    pub fn told(&self, text: &str, mode: Mode) -> Option<Told> {
        let lexemes = lex::lexemes(text, 0..text.len(), None, mode).ok()?;
        let parts = Parts::of(text, &lexemes)?;
        let mut out = String::with_capacity(text.len() + 64 * self.how.hidden.len());
        let hidden = self.how.hidden.iter().map(|it| it.sql(text, &parts)).collect::<Option<Vec<_>>>()?;
        let (before, behind) = text.split_at_checked(parts.items_end)?;
        out.push_str(before);
        for (place, it) in hidden.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(out, ", {it} AS `shardway key {place}`");
        }
        // Of groups any may be the last one's part.
        let all = self.how.groups.is_some() && !self.how.distinct;
        // As it stands it is right for each shard; and of no rows servers describe columns otherwise than of some.
        let is_kept = (!all && self.offset == 0) || self.limit == Some(0);
        let Some(from) = parts.limit.filter(|_| !is_kept) else {
            out.push_str(behind);
            return Some(Told { text: out, parameters: parameters(&lexemes, text.len()) });
        };
        out.push_str(text.get(parts.items_end..from)?);
        if let Some(limit) = self.limit.filter(|_| !all) {
            let _ = write!(out, "LIMIT {}", limit + self.offset);
        }
        out.push_str(text.get(parts.end..)?);
        Some(Told { text: out, parameters: parameters(&lexemes, from) })
    }
}

/// How many parameters stand before a place.
fn parameters(lexemes: &[Lexeme], before: usize) -> usize {
    lexemes.iter().filter(|it| it.kind == Kind::Parameter && it.start < before).count()
}

impl Hidden {
    fn sql(&self, text: &str, parts: &Parts) -> Option<String> {
        Some(match self {
            Self::Text(sql) => sql.clone(),
            Self::Of(function, place) => {
                let item = parts.items.get(*place)?;
                format!("{function}({})", text.get(item.inner.clone()?)?)
            }
            Self::Weight(place) => {
                let item = parts.items.get(*place)?;
                format!("WEIGHT_STRING({})", text.get(item.call.clone()?)?)
            }
        })
    }
}

/// Where a SELECT has its parts.
struct Parts {
    items: Vec<ItemPlace>,
    /// Where the items end.
    items_end: usize,
    limit: Option<usize>,
    /// Where the statement ends.
    end: usize,
}

/// An item that begins with a function's call: the call, and what stands within its parentheses, unless that has parameters.
#[derive(Default)]
struct ItemPlace {
    call: Option<Range<usize>>,
    inner: Option<Range<usize>>,
}

impl Parts {
    fn of(text: &str, lexemes: &[Lexeme]) -> Option<Self> {
        let word = |it: &Lexeme, wanted: &str| {
            it.kind == Kind::Word && text.get(it.start..it.end).is_some_and(|it| it.eq_ignore_ascii_case(wanted))
        };
        let end = lexemes.iter().rev().find(|it| it.kind != Kind::Semicolon)?.end;
        let first = lexemes.first().filter(|it| word(it, "select"))?;
        let mut it = Self { items: Vec::new(), items_end: 0, limit: None, end };
        let (mut depth, mut from, mut previous) = (0_usize, false, *first);
        let mut begins = 1;
        for (place, lexeme) in lexemes.iter().enumerate().skip(1) {
            match lexeme.kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.checked_sub(1)?,
                Kind::Semicolon => break,
                Kind::Comma if depth == 0 && !from => {
                    it.items.push(ItemPlace::of(lexemes.get(begins..place)?));
                    begins = place + 1;
                }
                Kind::Word if depth == 0 && previous.kind != Kind::Dot => {
                    if !from && word(lexeme, "from") {
                        it.items.push(ItemPlace::of(lexemes.get(begins..place)?));
                        (from, it.items_end) = (true, previous.end);
                    } else if from && word(lexeme, "limit") {
                        it.limit = Some(lexeme.start);
                    }
                }
                _ => {}
            }
            previous = *lexeme;
        }
        (from && depth == 0).then_some(it)
    }
}

impl ItemPlace {
    /// Words such as SQL_NO_CACHE may stand before the first one.
    fn of(item: &[Lexeme]) -> Self {
        let Some(open) = item.iter().position(|it| it.kind == Kind::Open) else { return Self::default() };
        let Some(name) = open.checked_sub(1).and_then(|it| item.get(it)).filter(|it| it.kind == Kind::Word) else {
            return Self::default();
        };
        let mut depth = 0_usize;
        for (place, lexeme) in item.iter().enumerate().skip(open) {
            match lexeme.kind {
                Kind::Open => depth += 1,
                Kind::Close if depth == 1 => {
                    let within = item.get(open + 1..place).unwrap_or_default();
                    let (Some(first), Some(last)) = (within.first(), within.last()) else { return Self::default() };
                    // A parameter would be there twice.
                    if within.iter().any(|it| it.kind == Kind::Parameter) {
                        return Self::default();
                    }
                    return Self { call: Some(name.start..lexeme.end), inner: Some(first.start..last.end) };
                }
                Kind::Close => depth -= 1,
                _ => {}
            }
        }
        Self::default()
    }
}

/// How texts of a collation compare where all of them are printable ASCII.
fn ascii(collation: &str) -> Option<By> {
    let (folds, pads) = match collation {
        "latin1_swedish_ci" | "ascii_general_ci" | "utf8mb4_general_ci" | "utf8mb3_general_ci" | "utf8_general_ci" => {
            (true, true)
        }
        "latin1_bin" | "ascii_bin" | "utf8mb4_bin" | "utf8mb3_bin" | "utf8_bin" => (false, true),
        "ascii_nopad_bin" | "latin1_nopad_bin" | "utf8mb4_nopad_bin" => (false, false),
        _ => return None,
    };
    Some(By::Ascii { folds, pads })
}

/// `max_sort_length` as servers have it.
const SORT_LENGTH: usize = 1024;

/// What a collation fills shorter texts up with, in weights, and how many bytes of weights a character has at most. Only
/// those that compare texts weight by weight.
fn weights(collation: &str) -> Option<(&'static [u8], usize)> {
    Some(match collation {
        "latin1_swedish_ci" | "latin1_general_ci" | "latin1_general_cs" | "latin1_bin" | "ascii_general_ci"
        | "ascii_bin" => (&[0x20], 1),
        "ascii_nopad_bin" | "latin1_nopad_bin" => (&[], 1),
        "utf8mb4_general_ci" | "utf8mb3_general_ci" | "utf8_general_ci" | "utf8mb3_bin" | "utf8_bin" => {
            (&[0x00, 0x20], 2)
        }
        "utf8mb4_bin" => (&[0x00, 0x00, 0x20], 3),
        "utf8mb4_nopad_bin" => (&[], 3),
        "utf8mb4_unicode_ci" | "utf8mb3_unicode_ci" => (&[0x02, 0x09], 16),
        "utf8mb4_0900_bin" => (&[], 4),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unite(how: How, limit: Option<u64>, offset: u64) -> Unite {
        Unite { shards: ShardSet::none(), how: Arc::new(how), limit, offset }
    }

    fn key(at: At, by: By) -> SortKey {
        SortKey { key: Key { at, by }, descending: false }
    }

    fn told(unite: &Unite, text: &str) -> (String, usize) {
        let told = unite.told(text, Mode::default()).unwrap();
        (told.text, told.parameters)
    }

    #[test]
    fn keys_stand_behind_the_items_and_the_limit_takes_the_offset_in() {
        let hidden = vec![Hidden::Text("WEIGHT_STRING(`c`)".to_owned())];
        let how =
            || How { hidden: hidden.clone(), order: vec![key(At::Hidden(0), By::Weights(b" "))], ..How::default() };
        assert_eq!(
            told(&unite(how(), None, 0), "/* FROM */ SELECT c, EXTRACT(DAY FROM d) FROM t ORDER BY c;"),
            (
                "/* FROM */ SELECT c, EXTRACT(DAY FROM d), WEIGHT_STRING(`c`) AS `shardway key 0` FROM t ORDER BY c;"
                    .to_owned(),
                0
            )
        );
        let (text, parameters) = told(&unite(how(), Some(5), 0), "SELECT c FROM t WHERE a = ? ORDER BY c LIMIT ?");
        assert!(text.ends_with("FROM t WHERE a = ? ORDER BY c LIMIT ?") && parameters == 2, "{text}");
        let (text, parameters) =
            told(&unite(how(), Some(5), 7), "SELECT c FROM t WHERE a = ? ORDER BY c LIMIT ? OFFSET ? ; ");
        assert!(text.ends_with("FROM t WHERE a = ? ORDER BY c LIMIT 12 ; ") && parameters == 1, "{text}");
        let how = || How { distinct: true, groups: Some(Groups::default()), ..How::default() };
        let (text, parameters) = told(&unite(how(), Some(5), 0), "SELECT DISTINCT c FROM t ORDER BY c LIMIT ?");
        assert!(text.ends_with("FROM t ORDER BY c LIMIT ?") && parameters == 1, "{text}");
        let (text, parameters) = told(&unite(how(), Some(5), 1), "SELECT DISTINCT c FROM t LIMIT ?, ?");
        assert!(text.ends_with("FROM t LIMIT 6") && parameters == 0, "{text}");
    }

    #[test]
    fn no_rows_are_asked_for_as_they_stand() {
        let how = || How { groups: Some(Groups::default()), ..How::default() };
        let text = "SELECT a, COUNT(*) FROM t GROUP BY a LIMIT ?, ?";
        assert_eq!(told(&unite(how(), Some(0), 3), text), (text.to_owned(), 2));
    }

    #[test]
    fn groups_are_counted_here() {
        let how = How {
            hidden: vec![Hidden::Of("SUM", 0), Hidden::Of("COUNT", 0), Hidden::Weight(1)],
            groups: Some(Groups::default()),
            ..How::default()
        };
        assert_eq!(
            told(
                &unite(how, Some(3), 0),
                "SELECT SQL_NO_CACHE AVG( a*(2) ) AS x, max(`c`) FROM t GROUP BY b ORDER BY x LIMIT 3"
            ),
            (
                "SELECT SQL_NO_CACHE AVG( a*(2) ) AS x, max(`c`), SUM(a*(2)) AS `shardway key 0`, COUNT(a*(2)) AS \
                 `shardway key 1`, WEIGHT_STRING(max(`c`)) AS `shardway key 2` FROM t GROUP BY b ORDER BY x "
                    .to_owned(),
                0
            )
        );
        let how = How { hidden: vec![Hidden::Of("SUM", 0)], groups: Some(Groups::default()), ..How::default() };
        assert_eq!(unite(how, None, 0).told("SELECT AVG(a + ?) FROM t", Mode::default()), None);
    }
}
