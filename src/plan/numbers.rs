//! Numbers for columns that are AUTO_INCREMENT: which rows of an INSERT want one, and its text with numbers in their places.
//!
//! On one server the server counts. Of a table whose rows are on several shards each would count by itself: there the
//! rows are given numbers before they are placed, and a number may say which shard a row belongs to. The text is cut from
//! the client's, lexeme by lexeme.

use std::ops::Range;
use std::sync::Arc;

use crate::error::ClientError;
use crate::ident::TableName;
use crate::plan::Parameters;
use crate::plan::Planned;
use crate::plan::World;
use crate::plan::inserted::Given;
use crate::plan::inserted::Inserted;
use crate::plan::key::Values;
use crate::shard_map::Placement;
use crate::sql::lex::Kind;
use crate::sql::model::Cell;
use crate::sql::model::Query;
use crate::sql::model::Rows;
use crate::sql::model::Source;
use crate::sql::model::WriteKind;

/// An INSERT into a table that counts.
#[derive(Debug)]
pub(crate) struct Counted {
    table: TableName,
    column: Arc<str>,
    /// Rows lie on several shards: the proxy gives the numbers.
    by_proxy: bool,
    cells: Cells,
    /// Where it stands in rows.
    place: Option<usize>,
    /// It is the shard key.
    is_key: bool,
    ignores: bool,
    updates: bool,
}

/// What the rows give for the column.
#[derive(Debug)]
enum Cells {
    Rows(Vec<Cell>),
    Folded {
        cell: Cell,
        first: u32,
        width: u32,
    },
    /// INSERT … SELECT that leaves it out.
    LeftOut,
    Unknown,
}

/// What a row gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gets {
    /// It wants the next number.
    Next,
    /// It has one.
    Own(i64),
    /// Its server will know.
    Unknown,
}

/// What the rows of one execution give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// The table.
    pub table: TableName,
    /// Its column that counts.
    pub column: Arc<str>,
    /// Whether the proxy gives the numbers.
    pub by_proxy: bool,
    /// The column is the shard key.
    pub is_key: bool,
    /// IGNORE: a row may be passed over.
    pub ignores: bool,
    /// ON DUPLICATE KEY UPDATE: another row may be changed instead.
    pub updates: bool,
    /// Row by row.
    pub rows: Vec<Gets>,
    place: Option<usize>,
}

impl Numbering {
    /// Of a row that has a number of its own.
    pub(crate) fn of_one(table: TableName, column: Arc<str>, is_key: bool, number: i64) -> Self {
        let rows = vec![Gets::Own(number)];
        Self { table, column, by_proxy: true, is_key, ignores: false, updates: false, rows, place: None }
    }
}

/// A statement with numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Its text.
    pub text: String,
    /// Its parameters, in order.
    pub parameters: Vec<Slot>,
}

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The client's one of that number.
    Client(u16),
    /// A number.
    Number(u64),
}

/// What is to be known of an INSERT into a table that counts; `None`: it is none.
pub(crate) fn compile(query: &Query, world: &World) -> Option<Box<Counted>> {
    let [write] = query.writes.as_slice() else { return None };
    let Some(Source::Table(relation)) = query.leaves.get(write.target).map(|it| &it.source) else { return None };
    let column = relation.columns.iter().find(|it| it.uses_sequence && it.default.is_none())?;
    if write.kind != WriteKind::Insert {
        return None;
    }
    let width = match &write.rows {
        Rows::Values(rows) => rows.first().map_or(0, Vec::len),
        Rows::Folded { row, .. } => row.len(),
        Rows::Query { .. } | Rows::None | Rows::Defaults => usize::MAX,
    };
    let place = write.columns.iter().position(|it| *it == column.name).filter(|it| *it < width);
    let cell = |row: &[Cell]| place.and_then(|it| row.get(it)).cloned().unwrap_or(Cell::Default);
    let cells = match &write.rows {
        Rows::Values(rows) => Cells::Rows(rows.iter().map(|it| cell(it)).collect()),
        Rows::Folded { row, first, width } => Cells::Folded { cell: cell(row), first: *first, width: *width },
        Rows::Query { .. } if place.is_none() => Cells::LeftOut,
        Rows::Query { .. } | Rows::None | Rows::Defaults => Cells::Unknown,
    };
    let several = world.database.shards.len() > 1 && world.view.hint.is_none();
    let placement = world.database.placement(&relation.name);
    let by_proxy = several && matches!(placement, Some(Placement::Sharded { .. }));
    let is_key = matches!(&placement, Some(Placement::Sharded { key, .. }) if *key == column.name);
    let conflict = write.conflict.as_ref();
    Some(Box::new(Counted {
        table: relation.name.clone(),
        column: Arc::clone(&column.name),
        by_proxy,
        cells,
        place,
        is_key,
        ignores: conflict.is_some_and(|it| it.may_skip),
        updates: conflict.is_some_and(|it| it.updates),
    }))
}

impl Counted {
    /// Whether some row surely wants a number of the proxy's, whatever the values are.
    pub(crate) fn draws_surely(&self) -> bool {
        self.by_proxy
            && match &self.cells {
                Cells::Rows(rows) => rows.iter().any(|it| matches!(it, Cell::Default)),
                Cells::Folded { cell, .. } => matches!(cell, Cell::Default),
                Cells::LeftOut | Cells::Unknown => false,
            }
    }
}

impl Planned {
    /// What the rows of an INSERT give for a column that counts; `None`: there is none.
    #[must_use]
    pub fn numbering(&self, text: &str, parameters: Option<&Parameters<'_>>, world: &World) -> Option<Numbering> {
        let counted = self.template.counted.as_deref()?;
        let values = self.values(text, parameters, world);
        let zero = !world.view.sql_mode.to_ascii_uppercase().contains("NO_AUTO_VALUE_ON_ZERO");
        let gets = |cell: &Cell, values: &Values<'_>| match cell {
            Cell::Default => Gets::Next,
            Cell::Value(value) => values.mysql_counted(value, zero),
            Cell::Other => Gets::Unknown,
        };
        let rows = match &counted.cells {
            Cells::Rows(rows) => rows.iter().map(|it| gets(it, &values)).collect(),
            Cells::Folded { cell, first, width } => {
                let count = 1 + values.shift.checked_div(*width).unwrap_or(0);
                (0..count).map(|row| gets(cell, &Values { from: *first, shift: row * width, ..values })).collect()
            }
            Cells::LeftOut => vec![Gets::Next],
            Cells::Unknown => vec![Gets::Unknown],
        };
        let (table, column) = (counted.table.clone(), Arc::clone(&counted.column));
        let Counted { by_proxy, is_key, ignores, updates, place, .. } = *counted;
        Some(Numbering { table, column, by_proxy, is_key, ignores, updates, rows, place })
    }

    /// Whether rows of it want numbers of the proxy's before they can be placed.
    pub(crate) fn wants_numbers(&self, text: &str, parameters: Option<&Parameters<'_>>, world: &World) -> bool {
        let numbering = self.numbering(text, parameters, world).filter(|it| it.by_proxy);
        numbering.is_some_and(|it| it.rows.contains(&Gets::Next) && !it.rows.contains(&Gets::Unknown))
    }

    /// Whether it inserts into a table that counts.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.template.counted.is_some()
    }

    /// The statement with numbers for the rows that want one, in their order: as they are, or as parameters.
    ///
    /// # Errors
    /// Its rows cannot be told apart.
    pub fn numbered(
        &self,
        text: &str,
        numbering: &Numbering,
        numbers: &[u64],
        world: &World,
        prepared: bool,
    ) -> Result<Numbered, ClientError> {
        let mode = world.mysql.unwrap_or_default();
        let cut = Inserted::of(text, self.range.clone(), mode).ok_or_else(|| untold(numbering))?;
        let (copied, out) = (self.range.start, String::with_capacity(self.range.len() * 5 / 4));
        let mut out = Edits { cut: &cut, text, copied, out, slots: Vec::new(), passed: (0, 0) };
        let mut numbers = numbers.iter().copied();
        let mut next = || numbers.next().ok_or_else(|| untold(numbering));
        let name = format!("`{}`", numbering.column.replace('`', "``"));
        let empty = |range: &Range<usize>| range.end.saturating_sub(range.start) == 2;
        match &cut.rows {
            Given::Values(rows) if rows.len() == numbering.rows.len() => {
                let adds = numbering.place.is_none();
                if adds {
                    match &cut.list {
                        Some(list) => out.put_before(list.end - 1, &comma(!empty(list), &name)),
                        None if rows.iter().all(empty) => out.put_before(cut.body, &format!("({name}) ")),
                        None => return Err(untold(numbering)),
                    }
                }
                for (row, gets) in rows.iter().zip(&numbering.rows) {
                    if *gets != Gets::Next {
                        continue;
                    }
                    let number = next()?;
                    match numbering.place {
                        None => {
                            out.put_before(row.end - 1, if empty(row) { "" } else { ", " });
                            out.number(number, prepared);
                        }
                        Some(place) => {
                            let cell = cut.words.cells(row).into_iter().nth(place).ok_or_else(|| untold(numbering))?;
                            out.replace(&cell, number, prepared);
                        }
                    }
                }
            }
            Given::Set(values) if numbering.rows == [Gets::Next] => {
                let number = next()?;
                match numbering.place {
                    Some(place) => {
                        let value = values.get(place).ok_or_else(|| untold(numbering))?;
                        out.replace(value, number, prepared);
                    }
                    None => {
                        out.copy_to(cut.bytes(&(cut.body..cut.tail)).end);
                        out.out.push_str(&format!(", {name} = "));
                        out.number(number, prepared);
                    }
                }
            }
            Given::Values(_) | Given::Set(_) => return Err(untold(numbering)),
        }
        out.copy_to(self.range.end);
        let given = cut.parameters_in(&(0..cut.words.lexemes.len()));
        Ok(Numbered { text: out.out, parameters: slots(&out.slots, given, prepared) })
    }
}

fn comma(more: bool, name: &str) -> String {
    if more { format!(", {name}") } else { name.to_owned() }
}

/// All parameters in order, of numbers at their places.
fn slots(set: &[(usize, Place, u64)], given: usize, prepared: bool) -> Vec<Slot> {
    if !prepared {
        return Vec::new();
    }
    let mut out = Vec::with_capacity(given + set.len());
    let mut set = set.iter().peekable();
    for at in 0..=given {
        while let Some((_, _, number)) = set.next_if(|(place, how, _)| *place == at && *how == Place::Before) {
            out.push(Slot::Number(*number));
        }
        if at == given {
            break;
        }
        match set.next_if(|(place, ..)| *place == at) {
            Some((_, _, number)) => out.push(Slot::Number(*number)),
            None => out.push(Slot::Client(u16::try_from(at).unwrap_or(u16::MAX))),
        }
    }
    out
}

/// Where a number stands among the client's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the one of that number.
    Before,
    /// In its place.
    In,
}

/// The text, as far as it has been made.
struct Edits<'c, 't> {
    cut: &'c Inserted<'t>,
    text: &'t str,
    copied: usize,
    out: String,
    slots: Vec<(usize, Place, u64)>,
    /// Lexemes that were looked at, and parameters among them.
    passed: (usize, usize),
}

impl Edits<'_, '_> {
    /// How many parameters stand before a byte; they are asked for in their order.
    fn parameters_before(&mut self, byte: usize) -> usize {
        let (mut at, mut count) = self.passed;
        while let Some(it) = self.cut.words.lexemes.get(at).filter(|it| it.start < byte) {
            count += usize::from(it.kind == Kind::Parameter);
            at += 1;
        }
        self.passed = (at, count);
        count
    }

    fn copy_to(&mut self, end: usize) {
        self.out.push_str(self.text.get(self.copied..end).unwrap_or_default());
        self.copied = end.max(self.copied);
    }

    fn put_before(&mut self, at: usize, more: &str) {
        self.copy_to(self.cut.words.lexemes.get(at).map_or(self.copied, |it| it.start));
        self.out.push_str(more);
    }

    /// A number that stands where nothing of the client's does.
    fn number(&mut self, number: u64, prepared: bool) {
        if !prepared {
            self.out.push_str(&number.to_string());
            return;
        }
        self.out.push('?');
        let before = self.parameters_before(self.copied);
        self.slots.push((before, Place::Before, number));
    }

    /// A number in the place of what the client gives.
    fn replace(&mut self, cell: &Range<usize>, number: u64, prepared: bool) {
        let at = self.cut.bytes(cell);
        self.copy_to(at.start);
        if prepared && self.cut.parameters_in(cell) == 1 {
            let before = self.parameters_before(at.start);
            self.slots.push((before, Place::In, number));
            self.copy_to(at.end);
            return;
        }
        self.number(number, prepared);
        self.copied = at.end;
    }
}

fn untold(numbering: &Numbering) -> ClientError {
    ClientError::unsupported(
        format!(
            "this INSERT, which leaves \"{}\" of \"{}\" to AUTO_INCREMENT, is not supported: its rows could not be told apart",
            numbering.column, numbering.table
        ),
        format!("Give \"{}\" from the application, or insert by VALUES.", numbering.column),
    )
}
