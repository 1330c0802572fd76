//! Merge: shards answer a part of the statement, and one server puts their answers together.
//!
//! Everything is cut from the client's own text, lexeme by lexeme. Where its groups may have rows on several shards,
//! shards answer with groups and parts of aggregates, and the client's text runs over these; where each row of the
//! answer comes from one shard, shards answer with the first rows that each has. Which parts come to the same is a
//! list, and whatever is not on it is gathered.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use crate::mistakes::makes;
use crate::plan::Planned;
use crate::plan::gather::identifier;
use crate::plan::route::Route;
use crate::sql::functions;
use crate::sql::is_reserved_word;
use crate::sql::lex;
use crate::sql::lex::Kind;
use crate::sql::lex::Lexeme;

/// What is known of a statement that may be merged.
#[derive(Debug)]
pub(crate) struct Merging {
    /// The part that says which shards answer.
    pub(crate) anchor: usize,
    /// No row of the answer, but for order, limit and DISTINCT, needs rows of two shards.
    pub(crate) whole: bool,
    /// The items of the select list; `None`: a `*`.
    pub(crate) items: Vec<Option<Named>>,
    /// Per expression of GROUP BY, whether it is the name of an output.
    pub(crate) grouped_outputs: Vec<bool>,
    /// Texts may have other collations than the database's.
    pub(crate) collated: bool,
    /// There is one relation only: its columns have no others of their name.
    pub(crate) lonely: bool,
}

/// How an item of a select list is called.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) aliased: bool,
    pub(crate) name: Option<Arc<str>>,
}

/// A column as a server describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// The type's number.
    pub oid: u32,
    /// The type's modifier; −1 without.
    pub modifier: i32,
}

/// How the session's settings show values: shards and the server that puts their answers together have the same ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// DateStyle is ISO: what is shown of dates and times is all of them.
    pub iso: bool,
    /// IntervalStyle is postgres.
    pub plain_intervals: bool,
    /// `extra_float_digits` is above 0: a float is shown so that it is read as the same.
    pub exact_floats: bool,
}

impl Settings {
    /// Whether the text of a value of that type holds all of it.
    fn show_all(self, oid: u32) -> bool {
        match oid {
            1082 | 1083 | 1114 | 1182 | 1184 | 1266 => self.iso,
            1186 => self.plain_intervals,
            700 | 701 | 1021 | 1022 => self.exact_floats,
            _ => true,
        }
    }
}

/// What each shard is asked, and what becomes of the answers.
#[derive(Debug)]
pub struct Pushed {
    /// What each shard is asked.
    pub partial: String,
    /// How shards are asked for rows in order, which need only be put together in that order.
    pub sorting: Option<Sorting>,
    collated: bool,
    shape: Shape,
}

/// What each shard is asked when rows come in order.
#[derive(Debug)]
pub struct Sorting {
    /// The text: behind the client's columns it has one for each key.
    pub text: String,
    /// Per key, whether it is DESC and whether NULLs come first.
    pub keys: Vec<(bool, bool)>,
    /// How many rows at most.
    pub limit: Option<Bound>,
    /// How many of the first are left out.
    pub offset: Option<Bound>,
}

/// A number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// As the text has it.
    Rows(u64),
    /// `$n`, from 0.
    Parameter(usize),
}

#[derive(Debug)]
enum Shape {
    /// Groups and parts of aggregates.
    Groups {
        distinct: bool,
        roles: Vec<Role>,
        /// How many of the first columns are grouped by.
        grouped: usize,
        items: Vec<Item>,
        having: Option<String>,
        order: Vec<Ordered>,
        tail: String,
    },
    /// Rows; behind the client's columns those that are only ordered by.
    Rows { order: Vec<Sorted>, hidden: usize, ties: bool, tail: String },
}

/// What a column of the shards' answers is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Key,
    Count,
    Sum,
    Least,
    Bits,
    Bools,
    AverageSum,
    AverageCount,
}

#[derive(Debug)]
struct Item {
    /// Over the shards' answers.
    text: String,
    aliased: bool,
}

/// An item of ORDER BY over groups.
#[derive(Debug)]
struct Ordered {
    /// As the client wrote it, if it may be an output's name, and that name.
    bare: Option<(String, String)>,
    /// Over the shards' answers.
    text: Option<String>,
    direction: String,
}

/// An item of ORDER BY over rows.
#[derive(Debug)]
struct Sorted {
    by: SortedBy,
    direction: String,
}

#[derive(Debug)]
enum SortedBy {
    /// The client's column of that place.
    Place(usize),
    /// The client's column of that name.
    Name(String),
    /// The client's column of that name if there is one, else a hidden column.
    NameOrHidden(String, usize),
    /// A hidden column.
    Hidden(usize),
}

impl Planned {
    /// How the statement is merged; `None`: it is not.
    #[must_use]
    pub fn pushed(&self, text: &str) -> Option<Pushed> {
        let Route::Keys(keys) = &self.template.route else { return None };
        let merging = keys.merge.as_ref()?;
        Cut::read(text, self.range.clone())?.pushed(merging)
    }
}

/// A SELECT, cut into its clauses.
struct Cut<'t> {
    text: &'t str,
    lexemes: Vec<Lexeme>,
    /// WITH, up to SELECT.
    before: Range<usize>,
    distinct: bool,
    items: Vec<Range<usize>>,
    /// FROM and WHERE, with their words.
    from: Range<usize>,
    group: Vec<Range<usize>>,
    having: Option<Range<usize>>,
    order: Vec<Range<usize>>,
    /// LIMIT, OFFSET, FETCH.
    tail: Range<usize>,
}

const CLAUSES: &[&str] = &["from", "where", "group", "having", "order", "limit", "offset", "fetch"];

impl<'t> Cut<'t> {
    fn read(text: &'t str, range: Range<usize>) -> Option<Self> {
        let lexemes = lex::lexemes(text, range, None).ok()?;
        let mut cut = Self {
            text,
            lexemes,
            before: 0..0,
            distinct: false,
            items: Vec::new(),
            from: 0..0,
            group: Vec::new(),
            having: None,
            order: Vec::new(),
            tail: 0..0,
        };
        let mut depth = 0_usize;
        let mut select = None;
        let mut marks: Vec<(usize, &str)> = Vec::new();
        for at in 0..cut.lexemes.len() {
            match cut.kind(at) {
                Kind::Open | Kind::OpenBracket => depth += 1,
                Kind::Close | Kind::CloseBracket => depth = depth.checked_sub(1)?,
                Kind::Semicolon => return None,
                Kind::Word if depth == 0 => {
                    let label = at > 0 && (cut.is(at - 1, "as") || cut.kind(at - 1) == Kind::Dot);
                    if label {
                        continue;
                    }
                    if select.is_none() {
                        if cut.is(at, "select") {
                            select = Some(at);
                        }
                        continue;
                    }
                    if ["union", "intersect", "except", "into", "window", "for", "select"]
                        .iter()
                        .any(|it| cut.is(at, it))
                    {
                        return None;
                    }
                    let Some(word) = CLAUSES.iter().find(|it| cut.is(at, it)) else { continue };
                    let clause = match *word {
                        "from" => !cut.is(at - 1, "distinct"),
                        "group" | "order" => cut.is(at + 1, "by"),
                        // `FETCH` and `OFFSET` are reserved, as all the others are.
                        _ => true,
                    };
                    if clause {
                        marks.push((at, word));
                    }
                }
                _ => {}
            }
        }
        let select = select?;
        if select > 0 && !cut.is(0, "with") {
            return None;
        }
        cut.before = 0..select;
        let end = cut.lexemes.len();
        let mut first = select + 1;
        if cut.is(first, "distinct") {
            cut.distinct = true;
            first += 1;
        } else if cut.is(first, "all") {
            first += 1;
        }
        let (from, _) = *marks.first().filter(|(_, word)| *word == "from")?;
        cut.items = cut.list(first..from);
        let after = |place: usize| marks.get(place + 1).map_or(end, |(at, _)| *at);
        let mut stage = 0;
        for (place, (at, word)) in marks.iter().enumerate() {
            let body = at + 1..after(place);
            let rank = match *word {
                "from" => 1,
                "where" => 2,
                "group" => 3,
                "having" => 4,
                "order" => 5,
                _ => 6,
            };
            if rank < stage || (rank == stage && rank != 6) {
                return None;
            }
            stage = rank;
            match rank {
                1 | 2 => cut.from = from..body.end,
                3 => cut.group = cut.list(at + 2..body.end),
                4 => cut.having = Some(body),
                5 => cut.order = cut.list(at + 2..body.end),
                _ => {
                    cut.tail = if cut.tail.is_empty() { *at..end } else { cut.tail.clone() };
                }
            }
        }
        if makes("first-key-only") {
            cut.order.truncate(1);
        }
        Some(cut)
    }

    fn kind(&self, at: usize) -> Kind {
        self.lexemes.get(at).map_or(Kind::End, |it| it.kind)
    }

    fn raw(&self, at: usize) -> &'t str {
        self.lexemes.get(at).and_then(|it| self.text.get(it.start..it.end)).unwrap_or_default()
    }

    /// Whether a word stands there, without quotes.
    fn is(&self, at: usize, word: &str) -> bool {
        self.kind(at) == Kind::Word && self.raw(at).eq_ignore_ascii_case(word)
    }

    /// The text of these lexemes and what stands between them.
    fn slice(&self, range: &Range<usize>) -> &'t str {
        let bytes = || {
            let first = self.lexemes.get(range.start)?;
            let last = self.lexemes.get(range.end.checked_sub(1)?)?;
            self.text.get(first.start..last.end)
        };
        bytes().unwrap_or_default()
    }

    /// Parts between commas.
    fn list(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        let mut depth = 0_usize;
        let mut start = range.start;
        for at in range.clone() {
            match self.kind(at) {
                Kind::Open | Kind::OpenBracket => depth += 1,
                Kind::Close | Kind::CloseBracket => depth = depth.saturating_sub(1),
                Kind::Comma if depth == 0 => {
                    parts.push(start..at);
                    start = at + 1;
                }
                _ => {}
            }
        }
        if start < range.end {
            parts.push(start..range.end);
        }
        parts
    }

    /// The name that one lexeme is, if it is one.
    fn name(&self, at: usize) -> Option<String> {
        match self.kind(at) {
            Kind::Word => Some(lex::fold(self.raw(at))),
            Kind::Quoted => Some(lex::unquote(self.raw(at))),
            _ => None,
        }
    }

    /// The name that a part is, if it is nothing else.
    fn bare(&self, range: &Range<usize>) -> Option<String> {
        // CURRENT_SCHEMA and its like are values, whatever outputs are called.
        let is_value = |name: &String| self.kind(range.start) == Kind::Word && is_reserved_word(name);
        if range.len() == 1 { self.name(range.start).filter(|it| !is_value(it)) } else { None }
    }

    /// The number that a part is, if it is nothing else.
    fn position(&self, range: &Range<usize>) -> Option<usize> {
        (range.len() == 1 && self.kind(range.start) == Kind::Integer).then(|| self.raw(range.start).parse().ok())?
    }

    /// Behind the parenthesis that closes the one at `open`.
    fn closed(&self, open: usize, end: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for at in open..end {
            match self.kind(at) {
                Kind::Open => depth += 1,
                Kind::Close => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// An expression without the parentheses around it, which mean nothing.
    fn peeled(&self, mut range: Range<usize>) -> Range<usize> {
        while self.kind(range.start) == Kind::Open && self.closed(range.start, range.end) == Some(range.end) {
            range = range.start + 1..range.end - 1;
        }
        range
    }

    fn has(&self, range: &Range<usize>, words: &[&str]) -> bool {
        range.clone().any(|at| words.iter().any(|it| self.is(at, it)))
    }

    /// An item of ORDER BY: what is ordered by, and how.
    fn ordered(&self, range: &Range<usize>) -> Option<(Range<usize>, String)> {
        let mut end = range.end;
        // A column may have such a name.
        let apart = |end: usize| end.checked_sub(2).is_none_or(|it| self.kind(it) != Kind::Dot);
        if end >= 2 && self.is(end - 2, "nulls") && (self.is(end - 1, "first") || self.is(end - 1, "last")) {
            end -= 2;
        }
        if apart(end) && (self.is(end.checked_sub(1)?, "asc") || self.is(end - 1, "desc")) {
            end -= 1;
        }
        let expression = self.peeled(range.start..end);
        if expression.is_empty() || self.has(&expression, &["using"]) {
            return None;
        }
        // Between these words there may be comments.
        let mut direction: String =
            (end..range.end).map(|at| self.raw(at).to_ascii_lowercase()).collect::<Vec<_>>().join(" ");
        if makes("nulls-order-ignored") {
            direction = direction.split("nulls").next().unwrap_or_default().to_owned();
        }
        if makes("descending-ignored") {
            direction = direction.replace("desc", "");
        }
        Some((expression, direction))
    }

    /// The expression of an item, and its alias with what stands before.
    fn item(&self, range: &Range<usize>, aliased: bool) -> Option<(Range<usize>, Range<usize>)> {
        if !aliased {
            return Some((range.clone(), range.end..range.end));
        }
        let mut end = range.end.checked_sub(1)?;
        if end > range.start && self.is(end - 1, "as") {
            end -= 1;
        }
        (end > range.start).then_some((range.start..end, end..range.end))
    }

    fn pushed(&self, merging: &Merging) -> Option<Pushed> {
        if self.items.len() != merging.items.len() {
            return None;
        }
        // Our own names must be nobody else's.
        let ours = |at: usize| {
            self.kind(at) == Kind::UnicodeQuoted || self.name(at).is_some_and(|it| it.starts_with("sw_") || it == "sw")
        };
        if (0..self.lexemes.len()).any(ours) {
            return None;
        }
        let outside: Vec<&Range<usize>> = self.items.iter().chain(&self.having).chain(&self.order).collect();
        if outside.iter().any(|it| self.has(it, &["select", "over", "within"])) || self.has(&self.tail, &["select"]) {
            return None;
        }
        if merging.whole && !self.distinct { self.rows(merging) } else { self.groups(merging) }
    }

    /// WITH, if there is one, as it stands before SELECT.
    fn with(&self) -> String {
        if self.before.is_empty() { String::new() } else { format!("{} ", self.slice(&self.before)) }
    }

    fn rows(&self, merging: &Merging) -> Option<Pushed> {
        let mut order = Vec::with_capacity(self.order.len());
        let mut hidden: Vec<&str> = Vec::new();
        let mut hide = |text| {
            hidden.push(text);
            hidden.len() - 1
        };
        for item in &self.order {
            let (expression, direction) = self.ordered(item)?;
            let text = self.slice(&expression);
            let by = match (self.position(&expression), self.bare(&expression)) {
                (Some(place), _) => SortedBy::Place(place.checked_sub(1)?),
                (None, Some(name)) => {
                    let named = merging.items.iter().flatten().any(|it| it.name.as_deref() == Some(&*name));
                    let vague = merging.items.iter().any(|it| it.as_ref().is_none_or(|it| it.name.is_none()));
                    match (named, vague && !merging.lonely) {
                        (true, _) => SortedBy::Name(name),
                        (false, true) => return None,
                        (false, false) => SortedBy::NameOrHidden(name, hide(text)),
                    }
                }
                (None, None) => SortedBy::Hidden(hide(text)),
            };
            order.push(Sorted { by, direction });
        }
        let limit = Limit::read(self)?;
        let sorting = self.sorting(merging, &limit);
        let mut partial = self.with();
        let first = self.items.first()?.start;
        let last = self.items.last()?.end;
        partial.push_str("SELECT ");
        partial.push_str(self.slice(&(first..last)));
        for (place, text) in hidden.iter().enumerate() {
            let _ = write!(partial, ", {text} AS sw_{place}");
        }
        let _ = write!(partial, " {}", self.up_to_order());
        if let Some(rows) = limit.rows() {
            if let (Some(first), Some(last)) = (self.order.first(), self.order.last()) {
                let _ = write!(partial, " ORDER BY {}", self.slice(&(first.start..last.end)));
            }
            let _ = match limit.ties {
                true => write!(partial, " FETCH FIRST ({rows}) ROWS WITH TIES"),
                false => write!(partial, " LIMIT {rows}"),
            };
        }
        let hidden = hidden.len();
        Some(Pushed {
            partial,
            sorting,
            collated: merging.collated,
            shape: Shape::Rows { order, hidden, ties: limit.ties, tail: self.slice(&self.tail).to_owned() },
        })
    }

    /// From FROM up to ORDER BY, or to what limits the rows.
    fn up_to_order(&self) -> &'t str {
        let tail = if self.tail.is_empty() { self.lexemes.len() } else { self.tail.start };
        // Before the first item stand the two words.
        let end = self.order.first().map_or(tail, |it| it.start - 2);
        self.slice(&(self.from.start..end))
    }

    /// How shards are asked for rows in order; `None`: what they are ordered by cannot be told from the text.
    fn sorting(&self, merging: &Merging, limit: &Limit<'_>) -> Option<Sorting> {
        let bound = |text: &str| {
            let number = text.strip_prefix('$').and_then(|it| it.parse::<usize>().ok()?.checked_sub(1));
            // A server judges what is no bigint.
            number.map(Bound::Parameter).or_else(|| Some(Bound::Rows(text.parse::<i64>().ok()?.try_into().ok()?)))
        };
        let bounded = |text: Option<&str>| match text {
            None => Some(None),
            Some(text) => bound(text).map(Some),
        };
        if limit.ties {
            return None;
        }
        let (mut rows_max, offset) = (bounded(limit.limit)?, bounded(limit.offset)?);
        if makes("limit-per-shard") {
            rows_max = None;
        }
        let mut keys = Vec::with_capacity(self.order.len());
        let mut texts = Vec::with_capacity(self.order.len());
        let expression_at = |place: usize| {
            let named = merging.items.get(place)?.as_ref()?;
            Some(self.slice(&self.item(self.items.get(place)?, named.aliased)?.0))
        };
        // Behind a `*` an item's place is not its column's.
        let before_stars = merging.items.iter().take_while(|it| it.is_some()).count();
        let item_at = |place: usize| expression_at(place).filter(|_| place < before_stars);
        for item in &self.order {
            let (expression, direction) = self.ordered(item)?;
            let (text, place) = match (self.position(&expression), self.bare(&expression)) {
                (Some(position), _) => {
                    let place = position.checked_sub(1)?;
                    (item_at(place)?, Some(place))
                }
                (None, Some(name)) => {
                    let is = |it: &Option<Named>| it.as_ref().is_some_and(|it| it.name.as_deref() == Some(&*name));
                    let vague = |it: &Option<Named>| it.as_ref().map_or(!merging.lonely, |it| it.name.is_none());
                    match merging.items.iter().position(is) {
                        // Of two that are called alike the server must find that they are the same.
                        Some(place) => (expression_at(place)?, Some(place)),
                        None if merging.items.iter().any(vague) => return None,
                        None => (self.slice(&expression), None),
                    }
                }
                (None, None) => {
                    let text = self.slice(&expression);
                    (text, (0..before_stars).find(|place| expression_at(*place) == Some(text)))
                }
            };
            let descending = direction.contains("desc");
            let nulls_first = direction.contains("first") || (descending && !direction.contains("last"));
            keys.push((descending, nulls_first));
            texts.push((text, direction, place.filter(|it| *it < before_stars)));
        }
        let items = self.slice(&(self.items.first()?.start..self.items.last()?.end));
        let places: Option<Vec<usize>> = texts.iter().map(|(_, _, place)| *place).collect();
        let text = match (limit.rows(), places) {
            // Where all keys are columns of the client's, a key's second copy need not be sorted along. (A subquery
            // with a limit is never run in parallel, so that its order is kept.)
            (Some(rows), Some(places)) if !places.is_empty() => {
                let mut text = "SELECT sw.*".to_owned();
                for (place, column) in places.iter().enumerate() {
                    let _ = write!(text, ", sw_c{column} AS sw_{place}");
                }
                let _ = write!(text, " FROM ({}SELECT {items} {}", self.with(), self.up_to_order());
                for (place, (column, (_, direction, _))) in places.iter().zip(&texts).enumerate() {
                    let lead = if place == 0 { " ORDER BY " } else { ", " };
                    let _ = write!(text, "{lead}{} {direction}", column + 1);
                }
                let columns: Vec<String> =
                    (0..=places.iter().copied().max().unwrap_or(0)).map(|it| format!("sw_c{it}")).collect();
                let _ = write!(text, " LIMIT {rows}) AS sw({})", columns.join(", "));
                text
            }
            (rows, _) => {
                let mut text = format!("{}SELECT {items}", self.with());
                for (place, (key, ..)) in texts.iter().enumerate() {
                    let _ = write!(text, ", {key} AS sw_{place}");
                }
                let _ = write!(text, " {}", self.up_to_order());
                for (place, (_, direction, _)) in texts.iter().enumerate() {
                    let _ = write!(text, "{}sw_{place} {direction}", if place == 0 { " ORDER BY " } else { ", " });
                }
                if let Some(rows) = rows {
                    let _ = write!(text, " LIMIT {rows}");
                }
                text
            }
        };
        Some(Sorting { text, keys, limit: rows_max, offset })
    }

    fn groups(&self, merging: &Merging) -> Option<Pushed> {
        let named: Vec<&Named> = merging.items.iter().map(Option::as_ref).collect::<Option<_>>()?;
        let mut expressions = Vec::with_capacity(named.len());
        for (item, named) in self.items.iter().zip(&named) {
            expressions.push(self.item(item, named.aliased)?);
        }
        let mut keys: Vec<Range<usize>> = Vec::new();
        if self.group.len() != merging.grouped_outputs.len() {
            return None;
        }
        for (item, output) in self.group.iter().zip(&merging.grouped_outputs) {
            let item = &self.peeled(item.clone());
            let key = match (self.position(item), self.bare(item)) {
                (Some(place), _) => expressions.get(place.checked_sub(1)?)?.0.clone(),
                (None, Some(name)) if *output => {
                    let place = named.iter().position(|it| it.name.as_deref() == Some(&*name))?;
                    expressions.get(place)?.0.clone()
                }
                _ => item.clone(),
            };
            keys.push(key);
        }
        let aggregates = self.items.iter().chain(&self.having).chain(&self.order).any(|range| {
            range.clone().any(|at| {
                self.kind(at + 1) == Kind::Open
                    && self.name(at).is_some_and(|it| functions::class(&it) == Some(functions::Class::Aggregate))
            })
        });
        if keys.is_empty() && self.distinct && !aggregates && self.having.is_none() {
            keys.extend(expressions.iter().map(|(it, _)| it.clone()));
        }
        if keys.iter().any(|it| self.has(it, &["select"])) {
            return None;
        }
        let grouped = if self.group.is_empty() { 0 } else { keys.len() };
        let mut writer = Writer {
            cut: self,
            lonely: merging.lonely,
            keys: keys.iter().map(|it| Key::new(self, it)).collect(),
            columns: keys.iter().map(|it| (self.slice(it).to_owned(), Role::Key)).collect(),
            aggregates: Vec::new(),
        };
        let mut items = Vec::with_capacity(expressions.len());
        for ((expression, alias), named) in expressions.iter().zip(&named) {
            let mut text = writer.write(expression)?;
            if named.aliased {
                let _ = write!(text, " {}", self.slice(alias));
            }
            items.push(Item { text, aliased: named.aliased });
        }
        let mut having = match &self.having {
            None => None,
            Some(range) => Some(writer.write(range)?),
        };
        let mut order = Vec::with_capacity(self.order.len());
        for item in &self.order {
            let (expression, direction) = self.ordered(item)?;
            let raw = self.slice(&expression).to_owned();
            let item = match (self.position(&expression), self.bare(&expression)) {
                (Some(_), _) => Ordered { bare: None, text: Some(raw), direction },
                (None, Some(name)) => Ordered { bare: Some((raw, name)), text: writer.write(&expression), direction },
                (None, None) => Ordered { bare: None, text: Some(writer.write(&expression)?), direction },
            };
            order.push(item);
        }
        Limit::read(self)?;
        let columns = writer.columns;
        if columns.is_empty() {
            return None;
        }
        let mut partial = self.with();
        partial.push_str("SELECT ");
        for (place, (text, _)) in columns.iter().enumerate() {
            let _ = write!(partial, "{}{text} AS sw_{place}", if place == 0 { "" } else { ", " });
        }
        let _ = write!(partial, " {}", self.slice(&self.from));
        let pushed = self.having.as_ref().filter(|_| makes("having-per-shard")).map(|it| self.slice(it));
        if pushed.is_some() || makes("having-ignored") {
            having = None;
        }
        let roles: Vec<Role> = columns.iter().map(|(_, role)| *role).collect();
        for (nth, place) in (0..roles.len()).filter(|it| roles.get(*it) == Some(&Role::Key)).enumerate() {
            let _ = write!(partial, "{}{}", if nth == 0 { " GROUP BY " } else { ", " }, place + 1);
        }
        if let Some(pushed) = pushed {
            let _ = write!(partial, " HAVING {pushed}");
        }
        let tail = self.slice(&self.tail).to_owned();
        let shape = Shape::Groups { distinct: self.distinct, roles, grouped, items, having, order, tail };
        Some(Pushed { partial, sorting: None, collated: merging.collated, shape })
    }
}

/// LIMIT, OFFSET and FETCH.
struct Limit<'t> {
    limit: Option<&'t str>,
    offset: Option<&'t str>,
    ties: bool,
}

impl<'t> Limit<'t> {
    fn read(cut: &Cut<'t>) -> Option<Self> {
        let mut found = Self { limit: None, offset: None, ties: false };
        let end = cut.tail.end;
        let mut at = cut.tail.start;
        while at < end {
            let mut behind = at + 1;
            let mut depth = 0_usize;
            while behind < end {
                match cut.kind(behind) {
                    Kind::Open | Kind::OpenBracket => depth += 1,
                    Kind::Close | Kind::CloseBracket => depth = depth.checked_sub(1)?,
                    _ => {}
                }
                if depth == 0 && ["limit", "offset", "fetch"].iter().any(|it| cut.is(behind, it)) {
                    break;
                }
                behind += 1;
            }
            let mut body = at + 1..behind;
            if cut.is(at, "offset") {
                if cut.is(body.end - 1, "row") || cut.is(body.end - 1, "rows") {
                    body.end -= 1;
                }
                found.offset = Some(cut.slice(&body)).filter(|it| !it.is_empty());
            } else if cut.is(at, "limit") {
                found.limit = (!cut.has(&body, &["all"])).then(|| cut.slice(&body));
            } else {
                // FETCH FIRST n ROWS ONLY
                body.start += 1;
                if cut.is(body.end - 1, "ties") {
                    found.ties = true;
                    body.end -= 2;
                    found.ties = !makes("ties-cut");
                } else if cut.is(body.end - 1, "only") {
                    body.end -= 1;
                }
                if !(cut.is(body.end - 1, "row") || cut.is(body.end - 1, "rows")) {
                    return None;
                }
                body.end -= 1;
                found.limit = Some(if body.start < body.end { cut.slice(&body) } else { "1" });
            }
            at = behind;
        }
        Some(found)
    }

    /// How many rows of a shard may be among those of the answer, as SQL.
    fn rows(&self) -> Option<String> {
        let limit = self.limit?;
        let Some(offset) = self.offset else { return Some(format!("({limit})")) };
        if makes("limit-without-offset") {
            return Some(format!("({limit})"));
        }
        if makes("offset-twice") {
            return Some(format!("({limit}) OFFSET ({offset})"));
        }
        let offset = format!("greatest(({offset})::pg_catalog.int8, 0)");
        let limit = format!("({limit})::pg_catalog.int8");
        Some(format!(
            "(CASE WHEN {limit} OPERATOR(pg_catalog.>) (9223372036854775807 OPERATOR(pg_catalog.-) {offset}) THEN NULL \
             ELSE {limit} OPERATOR(pg_catalog.+) {offset} END)"
        ))
    }
}

/// An expression that is grouped by.
struct Key {
    /// What its lexemes are: names without case, everything else as it stands.
    pattern: Vec<(Kind, String)>,
    /// It is a column's name, qualified or not.
    column: bool,
    /// Nothing that stands beside it can take a part of it.
    tight: bool,
}

impl Key {
    fn new(cut: &Cut<'_>, range: &Range<usize>) -> Self {
        let range = cut.peeled(range.clone());
        let column = is_chain(cut, &range);
        let mut head = range.clone();
        // Casts behind bind more tightly than any operator.
        while head.len() > 2 && cut.kind(head.end - 2) == Kind::Cast && cut.kind(head.end - 1) == Kind::Word {
            head.end -= 2;
        }
        let call = cut.kind(head.start) == Kind::Word
            && cut.kind(head.start + 1) == Kind::Open
            && cut.closed(head.start + 1, head.end) == Some(head.end)
            && !["not", "array", "exists", "row"].iter().any(|it| cut.is(head.start, it));
        let tight = column || call || is_chain(cut, &head);
        Self { pattern: range.map(|at| pattern(cut, at)).collect(), column, tight }
    }
}

fn pattern(cut: &Cut<'_>, at: usize) -> (Kind, String) {
    match cut.kind(at) {
        Kind::Word | Kind::Quoted => (Kind::Word, cut.name(at).unwrap_or_default()),
        kind => (kind, cut.raw(at).to_owned()),
    }
}

fn is_chain(cut: &Cut<'_>, range: &Range<usize>) -> bool {
    range.len() % 2 == 1
        && range.clone().all(|at| match (at - range.start) % 2 {
            0 => matches!(cut.kind(at), Kind::Word | Kind::Quoted),
            _ => cut.kind(at) == Kind::Dot,
        })
        && !(range.len() == 1 && is_word(KEYWORDS, cut, range.start))
}

/// Words that are no columns where nothing else says so.
const KEYWORDS: &[&str] = &[
    "and",
    "any",
    "array",
    "as",
    "asymmetric",
    "between",
    "case",
    "distinct",
    "else",
    "end",
    "escape",
    "false",
    "from",
    "ilike",
    "in",
    "is",
    "isnull",
    "like",
    "not",
    "notnull",
    "null",
    "or",
    "similar",
    "some",
    "symmetric",
    "then",
    "to",
    "true",
    "when",
];

/// Types that texts are cast to without a meaning that depends on the server.
const TYPES: &[&str] = &[
    "bigint",
    "bool",
    "boolean",
    "bytea",
    "char",
    "character",
    "date",
    "decimal",
    "double",
    "float",
    "float4",
    "float8",
    "int",
    "int2",
    "int4",
    "int8",
    "integer",
    "interval",
    "json",
    "jsonb",
    "numeric",
    "precision",
    "real",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
    "varchar",
    "varying",
];

const FIELDS: &[&str] = &[
    "century",
    "day",
    "decade",
    "dow",
    "doy",
    "epoch",
    "hour",
    "isodow",
    "isoyear",
    "julian",
    "microseconds",
    "millennium",
    "milliseconds",
    "minute",
    "month",
    "quarter",
    "second",
    "week",
    "year",
];

fn is_word(words: &[&str], cut: &Cut<'_>, at: usize) -> bool {
    words.iter().any(|it| cut.is(at, it))
}

/// Writes the client's expressions over the shards' answers.
struct Writer<'c, 't> {
    cut: &'c Cut<'t>,
    lonely: bool,
    keys: Vec<Key>,
    /// The columns of the shards' answers, as SQL.
    columns: Vec<(String, Role)>,
    /// Aggregates that have been met, with what stands for them.
    aggregates: Vec<(Vec<(Kind, String)>, String)>,
}

impl Writer<'_, '_> {
    /// The expression over the shards' answers; `None`: it is not known to come to the same.
    fn write(&mut self, range: &Range<usize>) -> Option<String> {
        let cut = self.cut;
        let mut out = String::new();
        let mut at = range.start;
        let mut last = None;
        while at < range.end {
            if let Some(last) = last {
                // Whatever stands between two lexemes, there is room for a blank.
                let gap: &Range<usize> = &(last..at);
                out.push_str(if gap.is_empty() { "" } else { " " });
            }
            last = Some(at);
            if let Some((place, length)) = self.key(at, range) {
                let _ = write!(out, "sw.sw_{place}");
                at += length;
                continue;
            }
            match cut.kind(at) {
                Kind::Word if cut.kind(at + 1) == Kind::Open && !is_word(KEYWORDS, cut, at) => {
                    let name = cut.name(at)?;
                    let before = at.checked_sub(1).map_or(Kind::End, |it| cut.kind(it));
                    if before == Kind::Dot {
                        return None;
                    }
                    if before == Kind::Cast && is_word(TYPES, cut, at) {
                        out.push_str(cut.raw(at));
                        at += 1;
                        continue;
                    }
                    match functions::class(&name) {
                        // Those of this name tell types and storage, which the shards' answers have otherwise.
                        Some(functions::Class::Pure) if !name.starts_with("pg_") => {
                            out.push_str(cut.raw(at));
                            at += 1;
                        }
                        Some(functions::Class::Aggregate) => {
                            let (text, behind) = self.aggregate(&name, at, range.end)?;
                            out.push_str(&text);
                            at = behind;
                        }
                        _ => return None,
                    }
                }
                Kind::Word => {
                    let before = at.checked_sub(1).filter(|it| *it >= range.start);
                    let is_before = |word: &str| before.is_some_and(|it| cut.is(it, word));
                    let typed = before.is_some_and(|it| cut.kind(it) == Kind::Cast)
                        || is_before("as")
                        || is_before("double")
                        || is_before("character")
                        || cut.kind(at + 1) == Kind::String;
                    let field = before.is_some_and(|it| cut.kind(it) == Kind::Open)
                        && cut.is(at + 1, "from")
                        && is_word(FIELDS, cut, at);
                    if !(is_word(KEYWORDS, cut, at) || (typed && is_word(TYPES, cut, at)) || field) {
                        return None;
                    }
                    out.push_str(cut.raw(at));
                    at += 1;
                }
                Kind::Integer
                | Kind::Number
                | Kind::String
                | Kind::Bits
                | Kind::Parameter
                | Kind::Operator
                | Kind::Open
                | Kind::Close
                | Kind::OpenBracket
                | Kind::CloseBracket
                | Kind::Comma
                | Kind::Cast => {
                    out.push_str(cut.raw(at));
                    at += 1;
                }
                _ => return None,
            }
        }
        Some(out)
    }

    /// The longest expression of GROUP BY that stands there, and how many lexemes it has.
    fn key(&self, at: usize, range: &Range<usize>) -> Option<(usize, usize)> {
        let cut = self.cut;
        let before = at.checked_sub(1).filter(|it| *it >= range.start);
        let before_kind = before.map_or(Kind::End, |it| cut.kind(it));
        let named = cut.kind(at + 1) == Kind::Operator && cut.raw(at + 1) == "=>";
        let field = before_kind == Kind::Open && cut.is(at + 1, "from") && is_word(FIELDS, cut, at);
        if matches!(before_kind, Kind::Dot | Kind::Cast | Kind::String)
            || before.is_some_and(|it| cut.is(it, "as"))
            || named
            || field
        {
            return None;
        }
        let mut best: Option<(usize, usize)> = None;
        for (place, key) in self.keys.iter().enumerate() {
            // Of what names nothing each mention is the same.
            if key.pattern.iter().all(|(kind, _)| *kind != Kind::Word) {
                continue;
            }
            let length = if key.column && self.lonely {
                let mut end = at + 1;
                while cut.kind(end) == Kind::Dot && end + 1 < range.end {
                    end += 2;
                }
                let chain = at..end.min(range.end);
                let same = is_chain(cut, &chain)
                    && cut.name(chain.end - 1).as_deref() == key.pattern.last().map(|(_, it)| it.as_str());
                if !same {
                    continue;
                }
                chain.len()
            } else {
                let length = key.pattern.len();
                if at + length > range.end || !key.pattern.iter().zip(at..).all(|(it, at)| *it == pattern(cut, at)) {
                    continue;
                }
                length
            };
            let behind = at + length;
            let behind_kind = if behind < range.end { cut.kind(behind) } else { Kind::End };
            let fits = if key.tight {
                !matches!(behind_kind, Kind::Dot | Kind::Open | Kind::OpenBracket | Kind::String)
            } else {
                let opened = matches!(before_kind, Kind::End | Kind::Open | Kind::Comma)
                    || before.is_some_and(|it| is_word(&["when", "then", "else", "case"], cut, it));
                let closed = matches!(behind_kind, Kind::End | Kind::Close | Kind::Comma)
                    || is_word(&["when", "then", "else", "end"], cut, behind);
                opened && closed
            };
            if fits && best.is_none_or(|(_, longest)| length > longest) {
                best = Some((place, length));
            }
        }
        // The place among the columns of the shards' answers is that of the key.
        best
    }

    /// What stands for an aggregate's call, and the lexeme behind the call.
    fn aggregate(&mut self, name: &str, at: usize, end: usize) -> Option<(String, usize)> {
        let cut = self.cut;
        let arguments_end = cut.closed(at + 1, end)?;
        let arguments = at + 2..arguments_end - 1;
        let mut behind = arguments_end;
        let mut filter = String::new();
        if cut.is(behind, "filter") && behind < end {
            let closed = cut.closed(behind + 1, end)?;
            filter = format!(" {}", cut.slice(&(behind..closed)));
            behind = closed;
        }
        let whole: Vec<(Kind, String)> = (at..behind).map(|at| pattern(cut, at)).collect();
        if let Some((_, text)) = self.aggregates.iter().find(|(known, _)| *known == whole) {
            return Some((text.clone(), behind));
        }
        if arguments.is_empty() || cut.has(&arguments, &["order", "variadic"]) || cut.list(arguments.clone()).len() != 1
        {
            return None;
        }
        if makes("filter-ignored") {
            filter.clear();
        }
        let is_distinct = cut.is(arguments.start, "distinct") && !(name == "count" && makes("distinct-counts-added"));
        let text = if is_distinct {
            if !filter.is_empty() || !matches!(name, "count" | "sum" | "avg" | "min" | "max") {
                return None;
            }
            let argument = arguments.start + 1..arguments.end;
            let place = self.column(cut.slice(&argument).to_owned(), Role::Key);
            format!("pg_catalog.{name}(DISTINCT sw.sw_{place})")
        } else {
            let argument = cut.slice(&arguments);
            let call = |name: &str| format!("pg_catalog.{name}({argument}){filter}");
            match name {
                "count" => {
                    let place = self.column(call(name), Role::Count);
                    if makes("counts-counted") {
                        return Some((format!("pg_catalog.count(sw.sw_{place})"), behind));
                    }
                    format!("coalesce(pg_catalog.sum(sw.sw_{place}), 0)::pg_catalog.int8")
                }
                "sum" => {
                    let place = self.column(call(name), Role::Sum);
                    // What a sum is of is known when its type is.
                    format!("\u{1}{place}\u{1}")
                }
                "min" | "max" => {
                    let place = self.column(call(name), Role::Least);
                    format!("pg_catalog.{name}(sw.sw_{place})")
                }
                "bool_and" | "bool_or" | "every" => {
                    let place = self.column(call(name), Role::Bools);
                    format!("pg_catalog.{name}(sw.sw_{place})")
                }
                "bit_and" | "bit_or" | "bit_xor" => {
                    let place = self.column(call(name), Role::Bits);
                    format!("pg_catalog.{name}(sw.sw_{place})")
                }
                "avg" => {
                    if makes("average-of-averages") {
                        let place = self.column(format!("{}::pg_catalog.numeric", call("avg")), Role::AverageSum);
                        return Some((format!("pg_catalog.avg(sw.sw_{place})"), behind));
                    }
                    let sum = self.column(call("sum"), Role::AverageSum);
                    if makes("average-of-integers") {
                        let count = self.column(call("count"), Role::AverageCount);
                        let whole = "::pg_catalog.int8::pg_catalog.numeric";
                        let (sum, count) = (format!("sum(sw.sw_{sum})"), format!("sum(sw.sw_{count})"));
                        return Some((format!("(({sum} / nullif({count}, 0)){whole})"), behind));
                    }
                    let count = self.column(call("count"), Role::AverageCount);
                    format!("(pg_catalog.sum(sw.sw_{sum}) OPERATOR(pg_catalog./) pg_catalog.sum(sw.sw_{count}))")
                }
                _ => return None,
            }
        };
        self.aggregates.push((whole, text.clone()));
        Some((text, behind))
    }

    fn column(&mut self, text: String, role: Role) -> usize {
        let known = self.columns.iter().position(|(it, as_what)| *it == text && *as_what == role);
        known.unwrap_or_else(|| {
            self.columns.push((text, role));
            self.columns.len() - 1
        })
    }
}

impl Pushed {
    /// The statement over the shards' answers, which are arrays of text, one a column: the parameters from `$first` on.
    /// `own` is how the client's text describes itself, `partial` how what the shards are asked does. `None`: these
    /// answers are not known to come to the answer.
    #[must_use]
    pub fn finish(&self, own: &[Described], partial: &[Described], settings: Settings, first: usize) -> Option<String> {
        let mut cells = Vec::with_capacity(partial.len());
        for (place, column) in partial.iter().enumerate() {
            let name = type_sql(column.oid, column.modifier).filter(|_| settings.show_all(column.oid))?;
            cells.push(format!("u.sw_{place}::pg_catalog.{name} AS sw_{place}"));
        }
        let place = partial.len();
        cells.push(format!("u.sw_{place}"));
        let arrays: Vec<String> =
            (first..first + place).map(|it| format!("pg_catalog.unnest(${it}::pg_catalog.text[])")).collect();
        let names: Vec<String> = (0..=place).map(|it| format!("sw_{it}")).collect();
        let source = format!(
            "(SELECT {} FROM ROWS FROM ({}) WITH ORDINALITY AS u({})) AS sw",
            cells.join(", "),
            arrays.join(", "),
            names.join(", ")
        );
        match &self.shape {
            Shape::Groups { distinct, roles, grouped, items, having, order, tail } => {
                if roles.len() != partial.len() || items.len() != own.len() {
                    return None;
                }
                let merges = roles.iter().zip(partial).all(|(role, column)| self.merges(*role, column));
                if !merges {
                    return None;
                }
                let mut out = if *distinct { "SELECT DISTINCT " } else { "SELECT " }.to_owned();
                for (place, (item, own)) in items.iter().zip(own).enumerate() {
                    let _ = write!(out, "{}{}", if place == 0 { "" } else { ", " }, item.text);
                    if !item.aliased {
                        let _ = write!(out, " AS {}", identifier(&own.name));
                    }
                }
                let _ = write!(out, " FROM {source}");
                for place in 0..*grouped {
                    let _ = write!(out, "{}sw.sw_{place}", if place == 0 { " GROUP BY " } else { ", " });
                }
                if let Some(having) = having {
                    let _ = write!(out, " HAVING {having}");
                }
                let outputs: BTreeSet<&str> = own.iter().map(|it| it.name.as_str()).collect();
                for (place, item) in order.iter().enumerate() {
                    let text = match (&item.bare, &item.text) {
                        (Some((raw, name)), _) if outputs.contains(name.as_str()) => raw,
                        (_, Some(text)) => text,
                        (_, None) => return None,
                    };
                    let lead = if place == 0 { " ORDER BY " } else { ", " };
                    let _ = write!(out, "{lead}{text} {}", item.direction);
                }
                let _ = write!(out, " {tail}");
                summed(&out, partial)
            }
            Shape::Rows { order, hidden, ties, tail } => {
                let shown = partial.len().checked_sub(*hidden)?;
                if shown != own.len() || own.iter().zip(partial).any(|(a, b)| a.name != b.name) {
                    return None;
                }
                let mut out = "SELECT ".to_owned();
                for (place, own) in own.iter().enumerate() {
                    let lead = if place == 0 { "" } else { ", " };
                    let _ = write!(out, "{lead}sw.sw_{place} AS {}", identifier(&own.name));
                }
                let _ = write!(out, " FROM {source}");
                for (nth, item) in order.iter().enumerate() {
                    let named = |name: &str| own.iter().position(|it| it.name == name);
                    let place = match &item.by {
                        SortedBy::Place(place) => Some(*place).filter(|it| *it < shown)?,
                        SortedBy::Name(name) => named(name)?,
                        SortedBy::NameOrHidden(name, hidden) => named(name).unwrap_or(shown + hidden),
                        SortedBy::Hidden(hidden) => shown + hidden,
                    };
                    let text = matches!(partial.get(place)?.oid, 25 | 1009 | 1042 | 1043);
                    if text && self.collated {
                        return None;
                    }
                    let lead = if nth == 0 { " ORDER BY " } else { ", " };
                    let bytes = if text && makes("text-by-bytes") { "COLLATE \"C\"" } else { "" };
                    let _ = write!(out, "{lead}sw.sw_{place} {bytes} {}", item.direction);
                }
                // What a function gives several of for one row stays together.
                if !order.is_empty() && !ties {
                    let _ = write!(out, ", sw.sw_{}", partial.len());
                }
                let _ = write!(out, " {tail}");
                Some(out)
            }
        }
    }

    /// Whether parts of that type come to the whole, whatever rows they are of.
    fn merges(&self, role: Role, column: &Described) -> bool {
        match (role, column.oid) {
            // Values that are equal look alike: bool bytea int8 int2 int4 oid date time timestamp timestamptz uuid.
            (Role::Key, 16 | 17 | 20 | 21 | 23 | 26 | 1082 | 1083 | 1114 | 1184 | 2950) => true,
            // Of one scale, and of one width.
            (Role::Key, 1700 | 1042) => column.modifier >= 0 && (column.oid == 1700 || !self.collated),
            (Role::Key | Role::Least, 25 | 1043) => !self.collated,
            (Role::Least, 20 | 21 | 23 | 26 | 1082 | 1083 | 1114 | 1184) => true,
            // Exact sums: int8 of int2 and int4, numeric of int8 and numeric.
            (Role::Sum | Role::AverageSum, 20 | 1700) => true,
            (Role::Count | Role::AverageCount, 20) => true,
            (Role::Bools, 16) => true,
            (Role::Bits, 20 | 21 | 23) => true,
            _ => false,
        }
    }
}

/// Puts sums where they were left open: a sum of int8 is numeric, where the client's was int8.
fn summed(text: &str, partial: &[Described]) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 40);
    for (nth, part) in text.split('\u{1}').enumerate() {
        if nth % 2 == 0 {
            out.push_str(part);
            continue;
        }
        let place: usize = part.parse().ok()?;
        let cast = if partial.get(place)?.oid == 20 { "::pg_catalog.int8" } else { "" };
        let _ = write!(out, "pg_catalog.sum(sw.sw_{place}){cast}");
    }
    Some(out)
}

/// The name in `pg_catalog` of a built-in type whose text form holds all of a value, with its modifier.
fn type_sql(oid: u32, modifier: i32) -> Option<String> {
    let plain = match oid {
        16 => "bool",
        17 => "bytea",
        20 => "int8",
        21 => "int2",
        23 => "int4",
        25 => "text",
        26 => "oid",
        114 => "json",
        650 => "cidr",
        700 => "float4",
        701 => "float8",
        829 => "macaddr",
        869 => "inet",
        1042 => "bpchar",
        1043 => "varchar",
        1082 => "date",
        1083 => "time",
        1114 => "timestamp",
        1184 => "timestamptz",
        1186 => "interval",
        1266 => "timetz",
        1700 => "numeric",
        2950 => "uuid",
        3802 => "jsonb",
        1000 => "bool[]",
        1005 => "int2[]",
        1007 => "int4[]",
        1016 => "int8[]",
        1009 => "text[]",
        1021 => "float4[]",
        1022 => "float8[]",
        1182 => "date[]",
        1231 => "numeric[]",
        2951 => "uuid[]",
        _ => return None,
    };
    if modifier < 0 {
        return Some(plain.to_owned());
    }
    Some(match oid {
        1042 | 1043 => format!("{plain}({})", modifier.checked_sub(4)?),
        1083 | 1114 | 1184 | 1266 => format!("\"{plain}\"({modifier})"),
        1700 => {
            let both = modifier.checked_sub(4)?;
            // The scale has eleven bits and a sign.
            let scale = ((both & 0x7ff) ^ 1024) - 1024;
            format!("{plain}({}, {scale})", (both >> 16) & 0xffff)
        }
        _ => return None,
    })
}
