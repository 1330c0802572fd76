//! COPY … FROM STDIN into tables of several shards: which shard each row of the data belongs to, or that all get it.
//!
//! The data is cut into rows as the server's own reader cuts it (`CopyReadLineText`, `CopyReadAttributesText`,
//! `CopyReadAttributesCSV` and the binary format of the COPY page); nothing of a row is changed on its way, but behind it may
//! come what the client leaves to one time for all rows, or to a sequence of the map. Only the shard key's field is read.
//! What is wrong with a row is for the server to say that gets it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::error::ClientError;
use crate::error::Code;
use crate::ident::ShardId;
use crate::ident::TableName;
use crate::plan::Number;
use crate::plan::World;
use crate::plan::key::Column;
use crate::plan::key::Stored;
use crate::plan::key::Values;
use crate::plan::lookup::Known;
use crate::plan::lookup::Lies;
use crate::plan::route::no_shard_hint;
use crate::sql::CopyFormat;
use crate::sql::CopyKind;
use crate::sql::lex;
use crate::sql::lex::Kind;

/// A row may not be longer, in bytes: it is held until its end has come.
const ROW_MAX: usize = 64 << 20;
/// Of so many rows of each shard it is known where they stood in the client's data.
const LINES_MAX: usize = 1 << 17;
/// Errors show a line that is no longer, in bytes.
const SHOWN_MAX: usize = 100;
/// What a binary COPY begins with.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Where the rows of a COPY go.
#[derive(Clone, Debug)]
pub struct CopyIn {
    pub(crate) table: TableName,
    pub(crate) whose: Whose,
    /// How many fields a row has.
    pub(crate) fields: usize,
    pub(crate) format: CopyFormat,
    /// The columns of the table, where the client names none.
    pub(crate) meant: Vec<Arc<str>>,
    /// Columns that the client leaves to defaults that ask for the time, with what to ask for their values.
    pub(crate) timed: Vec<(Arc<str>, String)>,
    /// Columns that the client leaves to sequences of the map.
    pub(crate) drawn: Vec<Drawn>,
    /// All shards that rows may belong to.
    pub shards: Vec<ShardId>,
}

/// Whose a row is.
#[derive(Clone, Debug)]
pub(crate) enum Whose {
    /// That shard's to which its key belongs.
    Key(KeyField),
    /// Every shard's that takes part.
    Everybody,
}

/// The shard key of a row.
#[derive(Clone, Debug)]
pub(crate) struct KeyField {
    pub(crate) key: Arc<str>,
    pub(crate) group: usize,
    pub(crate) column: Column,
    /// The key column is NOT NULL: the server refuses a NULL by itself.
    pub(crate) not_null: bool,
    /// Which field the key is, from 0.
    pub(crate) at: At,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// In the client's row: which field.
    Field(usize),
    /// Among the numbers that the row is given.
    Number(usize),
}

/// A column that is left to a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drawn {
    pub(crate) name: Arc<str>,
    pub(crate) number: Number,
    /// How long a value is in binary format.
    pub(crate) width: usize,
}

impl CopyIn {
    /// What gives, as text, the values of the columns that are left to defaults that ask for the time: every shard would
    /// tell another. `None`: there are none.
    #[must_use]
    pub fn asks(&self) -> Option<String> {
        let values: Vec<&str> = self.timed.iter().map(|(_, it)| it.as_str()).collect();
        (!values.is_empty()).then(|| format!("SELECT {}", values.join(", ")))
    }

    /// All shards get the same rows: their copies of a reference table.
    #[must_use]
    pub fn everywhere(&self) -> bool {
        matches!(self.whose, Whose::Everybody) && self.shards.len() > 1
    }

    /// The place in the map of the group that the table belongs to.
    #[must_use]
    pub fn group(&self) -> Option<usize> {
        match &self.whose {
            Whose::Key(field) => Some(field.group),
            Whose::Everybody => None,
        }
    }

    /// The column that says whose a row is.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match &self.whose {
            Whose::Key(field) => Some(&field.key),
            Whose::Everybody => None,
        }
    }

    /// The numbers that each row is given, in their order.
    #[must_use]
    pub fn numbers(&self) -> Vec<Number> {
        self.drawn.iter().map(|it| it.number.clone()).collect()
    }

    /// What is put behind each row.
    fn more(&self) -> impl Iterator<Item = &Arc<str>> {
        self.timed.iter().map(|(name, _)| name).chain(self.drawn.iter().map(|it| &it.name))
    }

    /// The statement with the columns that it means, so that a table changed meanwhile is the server's error, and with
    /// these behind those that the client names.
    #[must_use]
    pub fn said(&self, sql: &str) -> Option<String> {
        if self.more().next().is_none() && self.meant.is_empty() {
            return Some(sql.to_owned());
        }
        if !self.meant.is_empty() {
            let lexemes = lex::lexemes(sql, 0..sql.len(), None).ok()?;
            let word = |it: &lex::Lexeme| sql.get(it.start..it.end).unwrap_or_default();
            let from = lexemes.iter().position(|it| it.kind == Kind::Word && word(it).eq_ignore_ascii_case("from"))?;
            let (before, behind) = sql.split_at_checked(lexemes.get(from.checked_sub(1)?)?.end)?;
            let names: Vec<String> = self.meant.iter().map(|it| format!("\"{}\"", it.replace('"', "\"\""))).collect();
            return Some(format!("{before} ({}){behind}", names.join(", ")));
        }
        let lexemes = lex::lexemes(sql, 0..sql.len(), None).ok()?;
        let close = lexemes.iter().find(|it| it.kind == Kind::Close)?;
        let more: String = self.more().map(|name| format!(", \"{}\"", name.replace('"', "\"\""))).collect();
        let (before, behind) = sql.split_at_checked(close.start)?;
        Some(format!("{before}{more}{behind}"))
    }
}

impl PartialEq for CopyIn {
    fn eq(&self, other: &Self) -> bool {
        (&self.table, self.key(), &self.shards) == (&other.table, other.key(), &other.shards)
    }
}

impl Eq for CopyIn {}

/// Cuts the data of one COPY into rows, and says whose each is.
#[derive(Debug)]
pub struct Splitter {
    copy: CopyIn,
    world: Rc<World>,
    /// All that the group's directory holds.
    known: Known,
    /// The last row, as far as it has come.
    pending: Vec<u8>,
    /// How far `pending` has been looked at.
    seen: usize,
    state: Cutting,
    /// Per shard, in the order of `copy.shards`: what it gets and has not been taken yet.
    shares: Vec<Vec<u8>>,
    lines: Vec<Lines>,
    /// The line of the client's data that the next row begins with, from 1.
    line: u64,
    /// Newlines and carriage returns within quotes since then.
    within: (u64, u64),
    /// The row has what should end a line in its midst: a server that knows what lines end with says so.
    strange: bool,
    /// Who has had the first line.
    first: Option<usize>,
    /// What comes is no row any more.
    over: bool,
    /// The first line says what the columns are called.
    header: bool,
    begun: bool,
    /// Something stands behind every row: `behind`, numbers, or both.
    more: bool,
    /// The values of `copy.timed`.
    behind: Vec<u8>,
    /// What stands behind the columns' names.
    behind_header: Vec<u8>,
    /// Numbers for the rows to come.
    stock: VecDeque<i64>,
    /// Those of the latest row that has got any.
    latest: Vec<i64>,
    /// The next row lacks numbers.
    hungry: bool,
    /// A row as shards get it.
    told: Vec<u8>,
}

/// Where in a row the reader is.
#[derive(Clone, Copy, Debug, Default)]
struct Cutting {
    ends: Option<Ends>,
    in_quote: bool,
    last_was_escape: bool,
}

/// What lines end with: what the first one ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Newline,
    Return,
    Both,
}

/// Which of the client's lines those of one shard are.
#[derive(Debug)]
struct Lines {
    /// The shard's line that the next row begins with.
    next: u64,
    /// The latest rows.
    known: VecDeque<Start>,
}

/// Where a row stands.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// The shard's line.
    theirs: u64,
    /// The client's.
    ours: u64,
    /// How many more lines it has there.
    more: u32,
    /// How long it is in the client's data, as far as an error would tell.
    length: u8,
}

impl Splitter {
    /// A splitter for one execution; `values` are those that [`CopyIn::asks`] asks for, `known` is all that the directory
    /// holds whose keys these are.
    #[must_use]
    pub fn new(copy: &CopyIn, world: &Rc<World>, values: &[Option<String>], known: Known) -> Self {
        let shards = copy.shards.len();
        let (mut behind, mut behind_header) = (Vec::new(), Vec::new());
        for ((name, _), value) in copy.timed.iter().zip(values) {
            copy.format.put(&mut behind, value.as_deref());
            copy.format.put(&mut behind_header, Some(name));
        }
        for Drawn { name, .. } in &copy.drawn {
            copy.format.put(&mut behind_header, Some(name));
        }
        Self {
            copy: copy.clone(),
            world: Rc::clone(world),
            known,
            pending: Vec::new(),
            seen: 0,
            state: Cutting::default(),
            shares: vec![Vec::new(); shards],
            lines: (0..shards).map(|_| Lines { next: 1, known: VecDeque::new() }).collect(),
            line: 1,
            within: (0, 0),
            strange: false,
            first: None,
            over: false,
            header: copy.format.header,
            begun: false,
            more: copy.more().next().is_some(),
            behind,
            behind_header,
            stock: VecDeque::new(),
            latest: Vec::new(),
            hungry: false,
            told: Vec::new(),
        }
    }

    /// Whether rows go on as they come, uncut: all shards get all of them.
    fn passes(&self) -> bool {
        matches!(self.copy.whose, Whose::Everybody) && !self.more
    }

    /// How many rows wait for numbers, at least; 0: none. With [`Self::stock`] filled, [`Self::feed`] goes on.
    #[must_use]
    pub fn wants(&self) -> usize {
        if !self.hungry {
            return 0;
        }
        let rows = match self.copy.format.kind {
            CopyKind::Binary => self.tuples(),
            CopyKind::Text | CopyKind::Csv => self.ended(),
        };
        let each = self.copy.drawn.len();
        rows.max(1).saturating_mul(each).saturating_sub(self.stock.len()).div_ceil(each.max(1)).max(1)
    }

    /// Takes in numbers: for row after row those of [`CopyIn::numbers`].
    pub fn stock(&mut self, numbers: impl IntoIterator<Item = i64>) {
        self.stock.extend(numbers);
        self.hungry = false;
    }

    /// The numbers of the latest row, if any has got some.
    #[must_use]
    pub fn latest(&self) -> &[i64] {
        &self.latest
    }

    /// Whether the next row has to wait for numbers.
    fn lacks(&mut self) -> bool {
        self.hungry = self.stock.len() < self.copy.drawn.len();
        self.hungry
    }

    /// The next row's numbers.
    fn take_numbers(&mut self) -> Result<(), ClientError> {
        if self.copy.drawn.is_empty() {
            return Ok(());
        }
        let count = self.copy.drawn.len().min(self.stock.len());
        self.latest.clear();
        self.latest.extend(self.stock.drain(..count));
        for (drawn, number) in self.copy.drawn.iter().zip(&self.latest) {
            drawn.check(*number)?;
        }
        Ok(())
    }

    /// Takes in more of the client's data.
    ///
    /// # Errors
    /// A key that is NULL, that no shard takes, or that cannot be computed here; a row that is too long.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        if self.passes() {
            for share in &mut self.shares {
                share.extend_from_slice(bytes);
            }
            return Ok(());
        }
        if self.over {
            // Behind the end of binary data nothing may come: the server says so.
            if self.copy.format.kind == CopyKind::Binary {
                self.blame(bytes);
            }
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            let used = self.cut(bytes)?;
            pending.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            pending.extend_from_slice(bytes);
            let used = self.cut(&pending)?;
            pending.drain(..used);
        }
        if pending.len() > ROW_MAX {
            return Err(ClientError::new(
                Code::TooLarge,
                format!("a row for \"{}\" is longer than {ROW_MAX} bytes", self.copy.table),
                "Copy such rows into their shard directly.",
            ));
        }
        self.pending = pending;
        Ok(())
    }

    /// Cuts whole rows off. How many bytes were used.
    fn cut(&mut self, bytes: &[u8]) -> Result<usize, ClientError> {
        let used = match self.copy.format.kind {
            CopyKind::Binary => self.cut_binary(bytes)?,
            CopyKind::Text | CopyKind::Csv => self.cut_lines(bytes, false)?,
        };
        self.seen = self.seen.saturating_sub(used);
        Ok(used)
    }

    /// Takes in that no more comes: a last line may have no end.
    ///
    /// # Errors
    /// As those of [`Self::feed`].
    pub fn finish(&mut self) -> Result<(), ClientError> {
        let mut pending = std::mem::take(&mut self.pending);
        if !self.over && !pending.is_empty() {
            match self.copy.format.kind {
                // The server says that this is no end.
                CopyKind::Binary => self.blame(&pending),
                CopyKind::Text | CopyKind::Csv => {
                    let used = self.cut_lines(&pending, true)?;
                    self.seen = self.seen.saturating_sub(used);
                    if self.hungry || (used < pending.len() && !self.over && !self.header && self.lacks()) {
                        pending.drain(..used);
                        self.pending = pending;
                        return Ok(());
                    }
                    if let Some(rest) = pending.get(used..).filter(|it| !it.is_empty() && !self.over) {
                        self.row(rest, rest)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What the shard of that place is to be sent, and has not been given yet.
    pub fn share(&mut self, place: usize) -> Option<&mut Vec<u8>> {
        self.shares.get_mut(place)
    }

    /// The line of the client's data that a shard's line is; `None`: it is not known any more. And how much of what an
    /// error shows of it is the client's own; `None`: all of it.
    #[must_use]
    pub fn line_of(&self, place: usize, line: u64) -> Option<(u64, Option<usize>)> {
        if self.passes() {
            return Some((line, None));
        }
        let known = &self.lines.get(place)?.known;
        let at = known.partition_point(|it| it.theirs <= line).checked_sub(1)?;
        let own = |it: &Start| Some(usize::from(it.length)).filter(|it| *it <= SHOWN_MAX && self.more);
        // Of its first row a server does not know yet what lines end with.
        let behind = |it: &Start| if it.theirs == 1 && it.ours > 1 { u64::from(it.more) } else { line - it.theirs };
        known.get(at).map(|it| (it.ours + behind(it), own(it)))
    }

    /// How many lines the row has been, as a server counts them: within quotes, only what it knows lines to end with.
    fn lines(&self, is_first: bool) -> u64 {
        match (is_first, self.state.ends) {
            (false, Some(Ends::Newline)) => 1 + self.within.0,
            _ => 1 + self.within.1,
        }
    }

    fn give(&mut self, place: usize, bytes: &[u8]) {
        self.give_row(place, bytes, bytes.len());
    }

    /// The same for a row that is so long in the client's data.
    fn give_row(&mut self, place: usize, bytes: &[u8], length: usize) {
        let lines = self.lines(self.lines.get(place).is_some_and(|it| it.next == 1));
        let more = u32::try_from(self.lines(self.line == 1) - 1).unwrap_or(u32::MAX);
        if let Some(share) = self.shares.get_mut(place) {
            share.extend_from_slice(bytes);
        }
        if let Some(theirs) = self.lines.get_mut(place) {
            if theirs.known.len() >= LINES_MAX {
                theirs.known.pop_front();
            }
            let length = u8::try_from(length).unwrap_or(u8::MAX);
            theirs.known.push_back(Start { theirs: theirs.next, ours: self.line, more, length });
            theirs.next += lines;
        }
    }

    fn give_all(&mut self, bytes: &[u8]) {
        for place in 0..self.shares.len() {
            self.give(place, bytes);
        }
    }

    /// What is no row goes to a server that says so.
    fn blame(&mut self, bytes: &[u8]) {
        match self.copy.whose {
            Whose::Key(_) => self.give(0, bytes),
            Whose::Everybody => self.give_all(bytes),
        }
    }

    /// The next row begins behind this one.
    fn next_line(&mut self) {
        self.line += self.lines(self.line == 1);
        self.within = (0, 0);
        self.strange = false;
    }

    /// Cuts whole lines off. How many bytes were used.
    fn cut_lines(&mut self, bytes: &[u8], last: bool) -> Result<usize, ClientError> {
        let csv = self.copy.format.kind == CopyKind::Csv;
        let (quote, escape) = (self.copy.format.quote, self.copy.format.escape);
        // Where both are the same, it is only a quote.
        let escape = (escape != quote).then_some(escape);
        let mut begin = 0;
        let mut at = self.seen;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let found = match (csv, self.state.in_quote) {
                (false, _) => memchr::memchr3(b'\n', b'\r', b'\\', rest),
                (true, true) => memchr::memchr2(quote, escape.unwrap_or(quote), rest),
                (true, false) => memchr::memchr3(b'\n', b'\r', quote, rest),
            };
            let passed = rest.get(..found.unwrap_or(rest.len())).unwrap_or_default();
            if self.state.in_quote {
                self.within.0 += memchr::memchr_iter(b'\n', passed).count() as u64;
                self.within.1 += memchr::memchr_iter(b'\r', passed).count() as u64;
            }
            if !passed.is_empty() {
                self.state.last_was_escape = false;
            }
            let Some(found) = found else {
                at = bytes.len();
                break;
            };
            at += found;
            let byte = bytes.get(at).copied().unwrap_or_default();
            if !csv && byte == b'\\' {
                // Whatever stands behind it is data.
                let Some(behind) = bytes.get(at + 1) else { break };
                if *behind == b'.' && at == begin {
                    let end = bytes.get(at + 2..).unwrap_or_default();
                    if end.len() < 2 && !last {
                        break;
                    }
                    let fits = match (self.state.ends, end) {
                        (_, []) | (None, [b'\n' | b'\r', ..]) => true,
                        (Some(Ends::Newline), [b'\n', ..]) | (Some(Ends::Both), [b'\r', b'\n', ..]) => true,
                        (Some(Ends::Return), [b'\r', next @ ..]) => next.first() != Some(&b'\n'),
                        (_, [b'\n' | b'\r', ..]) => {
                            return Err(self.marker("with another line end than the lines before"));
                        }
                        _ => false,
                    };
                    if fits {
                        self.over = true;
                        return Ok(bytes.len());
                    }
                } else if *behind == b'.' && self.world.schema.server_version < 180_000 {
                    return Err(self.marker("behind other data of its line"));
                }
                at += 2;
                continue;
            }
            if csv {
                if self.state.in_quote && Some(byte) == escape {
                    self.state.last_was_escape = !self.state.last_was_escape;
                }
                if byte == quote && !self.state.last_was_escape {
                    self.state.in_quote = !self.state.in_quote;
                }
                if Some(byte) != escape {
                    self.state.last_was_escape = false;
                }
                if self.state.in_quote || !matches!(byte, b'\n' | b'\r') {
                    at += 1;
                    continue;
                }
            }
            let end = match (byte, self.state.ends) {
                (b'\r', None | Some(Ends::Both)) => match bytes.get(at + 1) {
                    None if !last => break,
                    Some(b'\n') => {
                        self.state.ends = Some(Ends::Both);
                        Some(at + 2)
                    }
                    _ if self.state.ends.is_none() => {
                        self.state.ends = Some(Ends::Return);
                        Some(at + 1)
                    }
                    // The server says that this does not belong here.
                    _ => None,
                },
                (b'\r', Some(Ends::Return)) => Some(at + 1),
                (b'\n', None | Some(Ends::Newline)) => {
                    self.state.ends = Some(Ends::Newline);
                    Some(at + 1)
                }
                _ => None,
            };
            let Some(end) = end else {
                self.strange = true;
                at += 1;
                continue;
            };
            let line = bytes.get(begin..at).unwrap_or_default();
            // From version 18 on it is data.
            if csv && line == b"\\." && self.world.schema.server_version < 180_000 {
                self.over = true;
                return Ok(bytes.len());
            }
            if !self.header && self.lacks() {
                break;
            }
            let whole = bytes.get(begin..end).unwrap_or_default();
            self.row(whole, line)?;
            begin = end;
            at = end;
        }
        self.seen = at;
        Ok(begin)
    }

    /// An end-of-data marker that only one reader of the whole data reads as it is meant.
    fn marker(&self, what: &str) -> ClientError {
        ClientError::unsupported(
            format!(
                "an end-of-data marker (\\.) {what} is not supported in COPY into sharded table \"{}\"",
                self.copy.table
            ),
            "Put it on a line of its own, or leave it out.",
        )
    }

    /// A whole row with its end, and without.
    fn row(&mut self, whole: &[u8], line: &[u8]) -> Result<(), ClientError> {
        let end = whole.get(line.len()..).unwrap_or_default();
        if std::mem::take(&mut self.header) {
            self.give_all(&[line, &self.behind_header, end].concat());
            self.next_line();
            return Ok(());
        }
        // The server says which of the client's columns is missing, or that a quote is not closed.
        let short = self.more && (self.state.in_quote || self.has_too_few(line));
        if !short {
            self.take_numbers()?;
        }
        let place = match &self.copy.whose {
            Whose::Everybody => None,
            Whose::Key(KeyField { at: At::Number(number), .. }) => match self.latest.get(*number).filter(|_| !short) {
                Some(number) => Some(self.place(Some(number.to_string().as_bytes()), false)?),
                None => Some(0),
            },
            Whose::Key(KeyField { at: At::Field(field), .. }) => {
                let value = match self.copy.format.kind {
                    CopyKind::Csv => self.csv_field(line, *field).map(|it| it.map(Cow::from)),
                    CopyKind::Text | CopyKind::Binary => self.text_field(line, *field),
                };
                Some(match value {
                    // The server says that there are too few.
                    None => 0,
                    Some(_) if self.strange => self.first.unwrap_or(0),
                    Some(value) => self.place(value.as_deref(), false)?,
                })
            }
        };
        let all = 0..self.shares.len();
        let places = place.map_or(all, |it| it..it + 1);
        self.first.get_or_insert(places.start);
        if !self.more || short {
            places.for_each(|place| self.give_row(place, whole, line.len()));
        } else {
            let mut told = std::mem::take(&mut self.told);
            told.clear();
            told.extend_from_slice(line);
            told.extend_from_slice(&self.behind);
            for number in &self.latest {
                self.copy.format.put(&mut told, Some(&number.to_string()));
            }
            told.extend_from_slice(end);
            places.for_each(|place| self.give_row(place, &told, line.len()));
            self.told = told;
        }
        self.next_line();
        Ok(())
    }

    /// Whether a row has fewer fields than the client's columns.
    fn has_too_few(&self, line: &[u8]) -> bool {
        let wanted = self.copy.fields;
        let CopyFormat { delimiter, quote, escape, .. } = self.copy.format;
        let mut count = 1;
        let mut bytes = line.iter().copied().peekable();
        let mut in_quote = false;
        while let Some(byte) = bytes.next() {
            match self.copy.format.kind {
                CopyKind::Csv if in_quote => {
                    if byte == escape && bytes.peek().is_some_and(|it| *it == escape || *it == quote) {
                        bytes.next();
                    } else if byte == quote {
                        in_quote = false;
                    }
                }
                CopyKind::Csv if byte == quote => in_quote = true,
                CopyKind::Text if byte == b'\\' && delimiter != b'\\' => {
                    bytes.next();
                }
                _ if byte == delimiter => count += 1,
                _ => {}
            }
        }
        count < wanted
    }

    /// A field; inner `None`: NULL.
    fn text_field<'a>(&self, line: &'a [u8], wanted: usize) -> Option<Option<Cow<'a, [u8]>>> {
        let delimiter = self.copy.format.delimiter;
        let mut rest = line;
        for _ in 0..wanted {
            let mut at = 0;
            loop {
                at += memchr::memchr2(delimiter, b'\\', rest.get(at..)?)?;
                if rest.get(at) == Some(&b'\\') && delimiter != b'\\' {
                    at += 2;
                } else {
                    break;
                }
            }
            rest = rest.get(at + 1..)?;
        }
        let mut end = 0;
        let mut escaped = false;
        while let Some(found) = rest.get(end..).and_then(|it| memchr::memchr2(delimiter, b'\\', it)) {
            end += found;
            if rest.get(end) == Some(&b'\\') && delimiter != b'\\' {
                escaped = true;
                end += 2;
                continue;
            }
            break;
        }
        if rest.get(end..).is_none_or(|it| it.first() != Some(&delimiter)) {
            end = rest.len();
        }
        let raw = rest.get(..end)?;
        if raw == self.copy.format.null.as_slice() {
            return Some(None);
        }
        Some(Some(if escaped { unescaped(raw).into() } else { raw.into() }))
    }

    fn csv_field(&self, line: &[u8], field: usize) -> Option<Option<Vec<u8>>> {
        let CopyFormat { delimiter, quote, escape, .. } = self.copy.format;
        let mut bytes = line.iter().copied().peekable();
        for place in 0.. {
            let wanted = place == field;
            let mut value = Vec::new();
            let mut raw = 0_usize;
            let mut quoted = false;
            let mut ended = false;
            'field: loop {
                // Outside of quotes.
                loop {
                    let Some(byte) = bytes.next() else {
                        ended = true;
                        break 'field;
                    };
                    if byte == delimiter {
                        break 'field;
                    }
                    raw += 1;
                    if byte == quote {
                        quoted = true;
                        break;
                    }
                    value.push(byte);
                }
                // Inside.
                loop {
                    // The server says that the quote is not closed.
                    let byte = bytes.next()?;
                    raw += 1;
                    if byte == escape
                        && let Some(next) = bytes.peek().copied().filter(|it| *it == escape || *it == quote)
                    {
                        value.push(next);
                        bytes.next();
                        continue;
                    }
                    if byte == quote {
                        break;
                    }
                    value.push(byte);
                }
            }
            if wanted {
                let null = !quoted && raw == self.copy.format.null.len() && value == self.copy.format.null;
                return Some((!null).then_some(value));
            }
            if ended {
                return None;
            }
        }
        None
    }

    /// Cuts whole tuples off. How many bytes were used.
    fn cut_binary(&mut self, bytes: &[u8]) -> Result<usize, ClientError> {
        let number = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk::<4>()?));
        let mut begin = 0;
        if !self.begun {
            let Some(extension) = number(SIGNATURE.len() + 4) else { return Ok(0) };
            let end = SIGNATURE.len() + 8 + extension as usize;
            // The server says what is wrong with it.
            let strange = !bytes.starts_with(SIGNATURE) || extension as usize > ROW_MAX;
            if strange {
                self.over = true;
                self.give_all(bytes);
                return Ok(bytes.len());
            }
            let Some(header) = bytes.get(..end) else { return Ok(0) };
            self.give_all(header);
            for lines in &mut self.lines {
                lines.next = 1;
                lines.known.clear();
            }
            self.begun = true;
            begin = end;
        }
        loop {
            let Some(count) = bytes.get(begin..).and_then(|it| it.first_chunk::<2>()) else { return Ok(begin) };
            let count = i16::from_be_bytes(*count);
            if count == -1 {
                self.over = true;
                let end = bytes.get(begin..begin + 2).unwrap_or_default();
                self.give_all(end);
                let more = bytes.get(begin + 2..).unwrap_or_default();
                if !more.is_empty() {
                    self.blame(more);
                }
                return Ok(bytes.len());
            }
            let mut at = begin + 2;
            let mut key: Option<Option<(usize, usize)>> = None;
            let fields = usize::try_from(count).unwrap_or(0);
            for place in 0..fields {
                let Some(length) = number(at) else { return Ok(begin) };
                at += 4;
                let value = match i32::try_from(length) {
                    Ok(length) => {
                        let start = at;
                        at += usize::try_from(length).unwrap_or(0);
                        Some((start, at))
                    }
                    Err(_) if length == u32::MAX => None,
                    // The server says that this is no length.
                    Err(_) => {
                        self.over = true;
                        self.blame(bytes.get(begin..).unwrap_or_default());
                        return Ok(bytes.len());
                    }
                };
                if let Whose::Key(field) = &self.copy.whose
                    && field.at == At::Field(place)
                {
                    key = Some(value);
                }
            }
            let Some(row) = bytes.get(begin..at) else { return Ok(begin) };
            if self.lacks() {
                return Ok(begin);
            }
            // The server says that this is another number of fields than it wants.
            let more = !self.copy.drawn.is_empty() && fields == self.copy.fields;
            if more {
                self.take_numbers()?;
            }
            let place = match (&self.copy.whose, key) {
                (Whose::Everybody, _) => None,
                (Whose::Key(KeyField { at: At::Number(number), .. }), _) if more => {
                    let number = self.latest.get(*number).map(i64::to_string).unwrap_or_default();
                    Some(self.place(Some(number.as_bytes()), false)?)
                }
                (Whose::Key(_), None) => Some(0),
                (Whose::Key(_), Some(None)) => Some(self.place(None, true)?),
                (Whose::Key(_), Some(Some((start, end)))) => Some(self.place(bytes.get(start..end), true)?),
            };
            let all = 0..self.shares.len();
            let places = place.map_or(all, |it| it..it + 1);
            if more {
                let mut told = std::mem::take(&mut self.told);
                told.clear();
                let fields = u16::try_from(fields + self.copy.drawn.len()).unwrap_or(u16::MAX);
                told.extend_from_slice(&fields.to_be_bytes());
                told.extend_from_slice(row.get(2..).unwrap_or_default());
                for (drawn, number) in self.copy.drawn.iter().zip(&self.latest) {
                    drawn.put(&mut told, *number);
                }
                places.for_each(|place| self.give(place, &told));
                self.told = told;
            } else {
                places.for_each(|place| self.give(place, row));
            }
            self.next_line();
            begin = at;
        }
    }

    /// How many rows have come to their ends, and wait.
    fn ended(&self) -> usize {
        let CopyFormat { kind, quote, escape, .. } = self.copy.format;
        let csv = kind == CopyKind::Csv;
        let end = if self.state.ends == Some(Ends::Return) { b'\r' } else { b'\n' };
        let (mut count, mut in_quote, mut begins) = (0, false, false);
        let mut bytes = self.pending.get(self.seen..).unwrap_or_default().iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            if std::mem::take(&mut begins) && byte == b'\\' && bytes.peek() == Some(&b'.') {
                break;
            }
            let escapes = if csv { in_quote && byte == escape && escape != quote } else { byte == b'\\' };
            if escapes {
                bytes.next();
            } else if csv && byte == quote {
                in_quote = !in_quote;
            } else if byte == end && !in_quote {
                count += 1;
                begins = true;
            }
        }
        count
    }

    /// How many whole tuples wait.
    fn tuples(&self) -> usize {
        let bytes = &self.pending;
        let number = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk::<4>()?));
        let (mut at, mut count) = (0, 0);
        // The end is no tuple.
        let begins = |at: usize| bytes.get(at..)?.first_chunk::<2>().filter(|it| **it != [0xff, 0xff]);
        while let Some(fields) = begins(at) {
            at += 2;
            for _ in 0..i16::from_be_bytes(*fields).max(0) {
                let Some(length) = number(at) else { return count };
                at += 4 + i32::try_from(length).map_or(0, |it| usize::try_from(it).unwrap_or(0));
            }
            if at > bytes.len() {
                break;
            }
            count += 1;
        }
        count
    }

    /// The place of the shard that a key belongs to.
    fn place(&self, value: Option<&[u8]>, binary: bool) -> Result<usize, ClientError> {
        let Whose::Key(KeyField { key, group: at, column, not_null, .. }) = &self.copy.whose else { return Ok(0) };
        let table = &self.copy.table;
        let Some(group) = self.world.database.groups.get(*at) else { return Ok(0) };
        let values = Values::of_none(&self.world, Some(&self.known));
        let stored = match value {
            None => Stored::Null,
            Some(bytes) => values.copied(bytes, binary, *column),
        };
        let known = match stored {
            Stored::Key(known) => known,
            // The server says what is wrong with it.
            Stored::Invalid => return Ok(0),
            Stored::Null if *not_null => return Ok(0),
            Stored::Null => {
                return Err(ClientError::new(
                    Code::ShardKeyNull,
                    format!("null value for the shard key \"{key}\" of \"{table}\" in line {}", self.line),
                    "Give every row a key: a row without one belongs to no shard.",
                ));
            }
            Stored::Unknown => {
                return Err(ClientError::unsupported(
                    format!(
                        "the shard key \"{key}\" of \"{table}\" is given in a form that shardway cannot compute, in line {}",
                        self.line
                    ),
                    "Give it in the form that COPY TO writes.",
                ));
            }
        };
        let shard = match values.lies(*at, group, &known) {
            Lies::On(shard) => Some(shard),
            Lies::Nowhere | Lies::Unknown => None,
        };
        let shard = shard.ok_or_else(|| {
            ClientError::new(
                Code::NoShardForKey,
                format!("no shard takes the \"{key}\" of \"{table}\" in line {}", self.line),
                no_shard_hint(group),
            )
        })?;
        self.copy.shards.iter().position(|it| *it == shard).ok_or_else(|| {
            ClientError::new(Code::Internal, "a row belongs to a shard that takes no part in its COPY", "Report this.")
        })
    }

    /// How many fields servers want of a row, and how many of them are the client's.
    #[must_use]
    pub fn fields(&self) -> (usize, usize) {
        (self.copy.fields + self.copy.more().count(), self.copy.fields)
    }
}

impl Drawn {
    /// Whether the number is one of the column's type.
    fn check(&self, number: i64) -> Result<(), ClientError> {
        let what = match self.width {
            2 if i16::try_from(number).is_err() => "smallint out of range",
            4 if i32::try_from(number).is_err() => "integer out of range",
            _ => return Ok(()),
        };
        Err(ClientError::new(
            Code::NumberOutOfRange,
            what,
            format!("The sequence of column \"{}\" has come beyond the column's type: make it a bigint.", self.name),
        ))
    }

    /// A field in binary format.
    fn put(&self, out: &mut Vec<u8>, number: i64) {
        let bytes = number.to_be_bytes();
        let value = bytes.get(bytes.len().saturating_sub(self.width)..).unwrap_or(&bytes);
        out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(8).to_be_bytes());
        out.extend_from_slice(value);
    }
}

impl CopyFormat {
    /// Puts a further field behind a row.
    fn put(&self, out: &mut Vec<u8>, value: Option<&str>) {
        out.push(self.delimiter);
        let Some(value) = value else {
            out.extend_from_slice(&self.null);
            return;
        };
        if self.kind == CopyKind::Csv {
            out.push(self.quote);
            for byte in value.bytes() {
                if byte == self.quote || byte == self.escape {
                    out.push(self.escape);
                }
                out.push(byte);
            }
            out.push(self.quote);
            return;
        }
        for byte in value.bytes() {
            match byte {
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' if self.delimiter == b'\t' => out.extend_from_slice(b"\\t"),
                _ if byte == b'\\' || byte == self.delimiter => out.extend_from_slice(&[b'\\', byte]),
                _ => out.push(byte),
            }
        }
    }
}

/// A field in text format without its escapes.
fn unescaped(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut at = 0;
    let digit = |at: usize, radix: u32| {
        raw.get(at).and_then(|it| char::from(*it).to_digit(radix)).and_then(|it| u8::try_from(it).ok())
    };
    while let Some(byte) = raw.get(at).copied() {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        // At the very end it stands for nothing.
        let Some(next) = raw.get(at).copied() else { break };
        at += 1;
        out.push(match next {
            b'0'..=b'7' => {
                let mut value = next - b'0';
                for _ in 0..2 {
                    let Some(more) = digit(at, 8) else { break };
                    value = (value << 3).wrapping_add(more);
                    at += 1;
                }
                value
            }
            b'x' => match digit(at, 16) {
                None => b'x',
                Some(first) => {
                    at += 1;
                    match digit(at, 16) {
                        None => first,
                        Some(second) => {
                            at += 1;
                            (first << 4) | second
                        }
                    }
                }
            },
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            other => other,
        });
    }
    out
}
