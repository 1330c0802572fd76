//! Prepared statements: the client's numbers, and on which connections servers have them.
//!
//! A server is asked to prepare a statement when the client does, for only it knows what the parameters and columns are;
//! other connections prepare it when it first runs there. Types are told with every execution, since the connection of the
//! one before may be another.

mod plain;

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::backend::Settings;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::plan::Command;
use crate::plan::Parameter;
use crate::plan::Parameters;
use crate::plan::Planned;
use crate::plan::Slot;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::cursor::Cursor;
use crate::session::mysql::say;
use crate::session::mysql::text::Saying;
use crate::session::mysql::text::spliced;
use crate::wire::mysql::capability;
use crate::wire::mysql::command::Execute;
use crate::wire::mysql::command::Type;
use crate::wire::mysql::kind;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::result::Prepared;
use crate::wire::mysql::result::end_of_rows;

/// One client's prepared statements.
#[derive(Debug, Default)]
pub(super) struct Statements {
    pub(super) all: HashMap<u32, Statement, RandomState>,
    latest: u32,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Statement {
    text: Arc<str>,
    parameters: usize,
    /// Those of the last execution that told any.
    types: Option<Vec<Type>>,
    /// What was sent of parameters before the execution.
    long: HashMap<u16, Vec<u8>, RandomState>,
    /// Something that was sent before cannot be used: it is said at Execute.
    spoiled: bool,
    compiled: Option<Compiled>,
    pub(super) cursor: Option<Cursor>,
}

/// A statement as it was understood last, which holds as long as what it was understood by.
#[derive(Debug)]
struct Compiled {
    /// The number of the world.
    world: u32,
    settings: Arc<Settings>,
    planned: Rc<Planned>,
    /// As servers are told it.
    said: Arc<str>,
    /// What connections know it by.
    key: Arc<str>,
}

/// How many one client may have; as `max_prepared_stmt_count` of a server.
const STATEMENTS_MAX: usize = 16_382;

impl Statements {
    /// COM_STMT_SEND_LONG_DATA.
    pub(super) fn add(&mut self, statement: u32, parameter: u16, bytes: &[u8], limit: usize) {
        let Some(statement) = self.all.get_mut(&statement) else { return };
        let held: usize = statement.long.values().map(Vec::len).sum();
        if usize::from(parameter) >= statement.parameters || held + bytes.len() > limit {
            statement.spoiled = true;
            return;
        }
        statement.long.entry(parameter).or_default().extend_from_slice(bytes);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// COM_STMT_CLOSE.
    pub(super) fn close(&mut self, statement: u32) -> Option<Cursor> {
        self.all.remove(&statement)?.cursor
    }

    /// COM_STMT_RESET.
    pub(super) fn reset(&mut self, number: u32) -> Result<Option<Cursor>, Failure> {
        let statement = self.all.get_mut(&number).ok_or_else(|| say::no_statement(number, "mysqld_stmt_reset"))?;
        statement.long.clear();
        statement.spoiled = false;
        Ok(statement.cursor.take())
    }
}

/// One execution.
#[derive(Debug)]
pub(super) struct Bound<'a> {
    text: Arc<str>,
    /// What connections know it by.
    key: Arc<str>,
    types: &'a [Type],
    values: Vec<Option<&'a [u8]>>,
    long: &'a HashMap<u16, Vec<u8>, RandomState>,
}

/// Parameters of a statement that servers are told in the place of the client's.
#[derive(Debug)]
pub(super) struct Renumbered {
    slots: Vec<Slot>,
    types: Vec<Type>,
    /// Of those that are numbers, in their order.
    numbers: Vec<[u8; 8]>,
    long: HashMap<u16, Vec<u8>, RandomState>,
}

impl Bound<'_> {
    /// Parameters in another order, and numbers among them.
    pub(super) fn renumbered(&self, slots: Vec<Slot>) -> Renumbered {
        let number = Type { kind: kind::LONGLONG, unsigned: true };
        let mut long: HashMap<u16, Vec<u8>, RandomState> = HashMap::default();
        for (place, slot) in (0_u16..).zip(&slots) {
            if let Slot::Client(own) = slot
                && let Some(bytes) = self.long.get(own)
            {
                long.insert(place, bytes.clone());
            }
        }
        let types = slots.iter().map(|it| match it {
            Slot::Client(own) => self.types.get(usize::from(*own)).copied().unwrap_or(number),
            Slot::Number(_) => number,
        });
        let numbers = slots.iter().filter_map(|it| match it {
            Slot::Client(_) => None,
            Slot::Number(number) => Some(number.to_le_bytes()),
        });
        Renumbered { types: types.collect(), numbers: numbers.collect(), long, slots }
    }

    /// Another text with such parameters.
    pub(super) fn with<'b>(&'b self, renumbered: &'b Renumbered, text: &str, key: String) -> Bound<'b> {
        let mut numbers = renumbered.numbers.iter();
        let values = renumbered.slots.iter().map(|it| match it {
            Slot::Client(own) => self.values.get(usize::from(*own)).copied().flatten(),
            Slot::Number(_) => numbers.next().map(|it| &it[..]),
        });
        Bound {
            text: text.into(),
            key: key.into(),
            types: &renumbered.types,
            values: values.collect(),
            long: &renumbered.long,
        }
    }

    /// The same values for another text.
    pub(super) fn with_text(&self, text: &str, key: String) -> Bound<'_> {
        Bound { text: text.into(), key: key.into(), types: self.types, values: self.values.clone(), long: self.long }
    }

    /// The text as servers have it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Says it to a server that has the statement.
    pub(super) async fn say(&self, link: &mut Link) -> Result<(), Broken> {
        let Some(number) = link.connection.prepared.number(&self.key) else {
            return Err(Broken::Server("a prepared statement is gone".to_owned()));
        };
        if !self.long.is_empty() {
            // Nor would it take other types afterwards.
            link.connection.prepared.spoil(&self.key);
        }
        self.say_as(link, number, 0).await
    }

    /// The same of the server's statement of that number, with flags.
    pub(super) async fn say_as(&self, link: &mut Link, number: u32, flags: u8) -> Result<(), Broken> {
        for (parameter, bytes) in self.long {
            let mut payload = Vec::with_capacity(bytes.len() + 7);
            payload.push(LONG_DATA);
            payload.extend_from_slice(&number.to_le_bytes());
            payload.extend_from_slice(&parameter.to_le_bytes());
            payload.extend_from_slice(bytes);
            // It is not answered.
            link.say(&payload).await?;
        }
        link.say(&self.payload(number, flags)).await
    }

    /// COM_STMT_EXECUTE with types; without flags rows come at once.
    fn payload(&self, number: u32, flags: u8) -> Vec<u8> {
        let mut out = vec![EXECUTE];
        out.extend_from_slice(&number.to_le_bytes());
        out.push(flags);
        out.extend_from_slice(&1_u32.to_le_bytes());
        if self.values.is_empty() {
            return out;
        }
        let nulls = out.len();
        out.resize(nulls + self.values.len().div_ceil(8), 0);
        out.push(1);
        for it in self.types {
            out.extend_from_slice(&[it.kind, u8::from(it.unsigned) << 7]);
        }
        for (place, (value, it)) in self.values.iter().zip(self.types).enumerate() {
            let is_long = u16::try_from(place).is_ok_and(|it| self.long.contains_key(&it));
            match value {
                Some(bytes) => it.put(&mut out, bytes),
                None if is_long => {}
                None => {
                    if let Some(byte) = out.get_mut(nulls + place / 8) {
                        *byte |= 1 << (place % 8);
                    }
                }
            }
        }
        out
    }
}

/// What names no table leaves the warnings of the statement before, where it is prepared, too.
pub(super) fn prepares_without_tables(planned: &Planned) -> bool {
    planned.template.effects.asks_catalogs || matches!(planned.template.command, Command::Mysql(_))
}

impl Session {
    /// COM_STMT_PREPARE.
    pub(super) async fn prepare(&mut self, text: &str) -> Result<(), Trouble> {
        if self.prepared.all.len() >= STATEMENTS_MAX {
            return Err(Failure {
                number: 1461,
                sqlstate: "42000".to_owned(),
                message: format!(
                    "Can't create more than max_prepared_stmt_count statements (current value: {STATEMENTS_MAX})"
                ),
            }
            .into());
        }
        let world = self.world()?;
        let compiled = self.worker.planner.borrow_mut().compile(text, &world);
        let statements = match compiled {
            Ok(statements) => statements,
            Err(_) if let Some(bare) = world.bare(text) => return Box::pin(self.prepare(&bare)).await,
            Err(error) => match self.told_whole(text, &world) {
                // What it asks for may be a shard key, and is another number each time.
                Some(told) => match self.worker.planner.borrow_mut().compile(&told, &world) {
                    Ok(statements) => statements,
                    Err(_) => return Err(error.into()),
                },
                None => return Err(Box::pin(self.verified(error, text)).await),
            },
        };
        if statements.len() > 1 {
            return Box::pin(self.refuse_several(text)).await;
        }
        let mut link = self.any_link().await?;
        let settings = Arc::clone(&self.state.settings);
        match link.take_up(&settings).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                self.keep(link);
                return Err(failure.into());
            }
            Err(broken) => return Err(self.lost_all(broken, &link).await),
        }
        let told = match self.prepare_on(&mut link, text).await {
            Ok(told) => told,
            Err(broken) => return Err(self.lost_all(broken, &link).await),
        };
        self.keep(link);
        let told = told?;
        if !statements.first().is_some_and(prepares_without_tables) {
            self.warnings.clear();
        }
        let number = self.prepared.latest.wrapping_add(1).max(1);
        self.prepared.latest = number;
        let ok = Prepared { statement: number, ..told.prepared };
        let flags = self.face(false).status(self.usual_status());
        self.client.put(&ok.payload());
        for columns in [&told.parameters, &told.columns] {
            for column in columns {
                self.client.put(column);
            }
            if !columns.is_empty() && self.client.capabilities & capability::DEPRECATE_EOF == 0 {
                self.client.put(&end_of_rows(0, flags));
            }
        }
        let statement = Statement {
            text: text.into(),
            parameters: usize::from(ok.parameters),
            types: None,
            long: HashMap::default(),
            spoiled: false,
            compiled: None,
            cursor: None,
        };
        self.prepared.all.insert(number, statement);
        Ok(())
    }

    /// Has a server prepare a text on that link, unless it has done so.
    pub(super) async fn prepare_on(&self, link: &mut Link, text: &str) -> Result<Result<Told, Failure>, Broken> {
        let key = self.state.key_of(text);
        let again = link.connection.prepared.remove(&key);
        if let Some(unwanted) = again.or_else(|| link.connection.prepared.make_room()) {
            let mut payload = vec![CLOSE];
            payload.extend_from_slice(&unwanted.to_le_bytes());
            // It is not answered.
            link.say(&payload).await?;
        }
        let mut payload = Vec::with_capacity(text.len() + 1);
        payload.push(PREPARE);
        payload.extend_from_slice(text.as_bytes());
        link.say(&payload).await?;
        let first = relay::payload(link).await?;
        let broken = |error: crate::wire::mysql::Violation| Broken::Server(error.to_string());
        if first.first() == Some(&0xff) {
            return Ok(Err(Failure::read(&first).map_err(broken)?));
        }
        let prepared = Prepared::read(&first).map_err(broken)?;
        let mut told = Told { prepared, parameters: Vec::new(), columns: Vec::new() };
        let ends = link.connection.capabilities & capability::DEPRECATE_EOF == 0;
        for (count, of) in [(prepared.parameters, &mut told.parameters), (prepared.columns, &mut told.columns)] {
            for _ in 0..count {
                of.push(relay::payload(link).await?);
            }
            if count > 0 && ends {
                relay::payload(link).await?;
            }
        }
        link.connection.prepared.add(key.into(), prepared.statement);
        Ok(Ok(told))
    }

    /// COM_STMT_EXECUTE.
    pub(super) async fn execute(&mut self, execute: &Execute<'_>) -> Result<(), Trouble> {
        let number = execute.statement;
        let unknown = || say::no_statement(number, "mysqld_stmt_execute");
        // It is put back however this ends.
        let mut statement = self.prepared.all.remove(&number).ok_or_else(unknown)?;
        if let Some(cursor) = statement.cursor.take() {
            Box::pin(self.close_cursor(cursor)).await;
        }
        // What it was given beforehand is gone behind it; a cursor stays.
        if !statement.long.is_empty() || execute.flags & READ_ONLY != 0 {
            self.note_effect();
        }
        let result = match execute.flags & READ_ONLY {
            0 => self.execute_it(execute, &mut statement).await,
            _ => Box::pin(self.execute_for_cursor(execute, &mut statement)).await,
        };
        statement.long.clear();
        statement.spoiled = false;
        self.prepared.all.insert(number, statement);
        result
    }

    pub(super) async fn execute_it(&mut self, execute: &Execute<'_>, statement: &mut Statement) -> Result<(), Trouble> {
        if statement.spoiled {
            return Err(say::wrong_arguments("mysqld_stmt_execute").into());
        }
        let is_long = |place: usize| u16::try_from(place).is_ok_and(|it| statement.long.contains_key(&it));
        let read = execute.parameters(statement.parameters, statement.types.as_deref(), is_long);
        let read = read.map_err(|_| say::wrong_arguments("mysqld_stmt_execute"))?;
        if let Some(told) = read.told {
            statement.types = Some(told);
        }
        let types = statement.types.as_deref().unwrap_or_default();
        let world = self.world()?;
        let text = Arc::clone(&statement.text);
        let known = statement.compiled.as_ref().filter(|it| it.world == world.id);
        let mut told = None;
        let (planned, said, key) = match known.filter(|it| Arc::ptr_eq(&it.settings, &self.state.settings)) {
            Some(it) => (Some(Rc::clone(&it.planned)), Arc::clone(&it.said), Arc::clone(&it.key)),
            None => {
                let compiled = self.worker.planner.borrow_mut().compile(&text, &world);
                let planned = match compiled {
                    Ok(mut statements) => statements.pop().map(Rc::new),
                    // What it asks of the statement before may be a shard key.
                    Err(error) => {
                        told = Some(self.told_whole(&text, &world).ok_or(error)?);
                        None
                    }
                };
                let said = match planned.as_ref().map(|it| spliced(&text, it)) {
                    Some(Cow::Owned(it)) => it.into(),
                    Some(Cow::Borrowed(_)) | None => Arc::clone(&text),
                };
                let key: Arc<str> = self.state.key_of(&said).into();
                statement.compiled = planned.as_ref().map(|planned| Compiled {
                    world: world.id,
                    settings: Arc::clone(&self.state.settings),
                    planned: Rc::clone(planned),
                    said: Arc::clone(&said),
                    key: Arc::clone(&key),
                });
                (planned, said, key)
            }
        };
        let bound = Bound { text: said, key, types, values: read.values, long: &statement.long };
        let texts = bound.texts();
        let (oids, values) = parameters_of(&texts);
        let parameters = Parameters { types: &oids, values: &values };
        match (told, planned) {
            (Some(told), _) => {
                self.refuse_undone()?;
                self.data_told(&told, Saying::Bound(&bound), Some(&parameters), &world, false).await
            }
            (None, Some(planned)) => {
                self.statement(&text, Saying::Bound(&bound), &planned, Some(&parameters), &world, false).await
            }
            (None, None) => Err(ClientError::new(
                Code::Internal,
                "a prepared statement holds none",
                "Report this; the log has more.",
            )
            .into()),
        }
    }

    /// Has a statement prepared where it is to run.
    pub(super) async fn ready_prepared(
        &mut self,
        link: &mut Link,
        bound: &Bound<'_>,
    ) -> Result<Result<(), Failure>, Broken> {
        // MariaDB takes a parameter's long data for what the execution before has left of it, where that had another type: such a
        // statement is prepared anew. A client's own statement would meet the same there; another client's never does.
        if bound.long.is_empty() && link.connection.prepared.number(&bound.key).is_some() {
            return Ok(Ok(()));
        }
        Ok(self.prepare_on(link, &bound.text).await?.map(|_| ()))
    }
}

impl Bound<'_> {
    /// Its values as text, with the numbers of the types that are read as such; 0 and no bytes: NULL.
    pub(super) fn texts(&self) -> Vec<Option<Shown>> {
        self.values
            .iter()
            .zip(self.types)
            .enumerate()
            .map(|(place, (value, it))| {
                let long = u16::try_from(place).ok().and_then(|it| self.long.get(&it));
                let bytes = long.map(Vec::as_slice).or(*value)?;
                Some(text_or_other(*it, bytes))
            })
            .collect()
    }
}

/// What planning looks at, of [`Bound::texts`].
pub(super) fn parameters_of(texts: &[Option<Shown>]) -> (Vec<u32>, Vec<Parameter<'_>>) {
    let oids = texts.iter().map(|it| it.as_ref().map_or(0, |(oid, _)| *oid)).collect();
    let values = texts
        .iter()
        .map(|it| Parameter { binary: false, bytes: it.as_ref().map(|(_, bytes)| bytes.as_slice()) })
        .collect();
    (oids, values)
}

/// A value as text, behind the number of its type.
pub(super) type Shown = (u32, SmallVec<[u8; 24]>);

fn text_or_other(it: Type, bytes: &[u8]) -> Shown {
    text_of(it, bytes).unwrap_or_else(|| (OTHER, SmallVec::new()))
}

/// A value as text with the number of a type that behaves alike; `None`: of a type by which nothing is looked for.
fn text_of(it: Type, bytes: &[u8]) -> Option<Shown> {
    let number = |value: i128| Some((INT8, digits(value)));
    match it.kind {
        kind::TINY => {
            bytes.first().and_then(|b| number(if it.unsigned { (*b).into() } else { b.cast_signed().into() }))
        }
        kind::SHORT | kind::YEAR => {
            let bytes = <[u8; 2]>::try_from(bytes).ok()?;
            number(if it.unsigned { u16::from_le_bytes(bytes).into() } else { i16::from_le_bytes(bytes).into() })
        }
        kind::LONG | kind::INT24 => {
            let bytes = <[u8; 4]>::try_from(bytes).ok()?;
            number(if it.unsigned { u32::from_le_bytes(bytes).into() } else { i32::from_le_bytes(bytes).into() })
        }
        kind::LONGLONG => {
            let bytes = <[u8; 8]>::try_from(bytes).ok()?;
            number(if it.unsigned { u64::from_le_bytes(bytes).into() } else { i64::from_le_bytes(bytes).into() })
        }
        // As JavaScript's drivers send every number.
        kind::DOUBLE => whole(f64::from_le_bytes(<[u8; 8]>::try_from(bytes).ok()?)),
        kind::FLOAT => whole(f32::from_le_bytes(<[u8; 4]>::try_from(bytes).ok()?).into()),
        kind::VARCHAR | kind::VAR_STRING | kind::STRING => Some((TEXT, bytes.into())),
        _ => None,
    }
}

/// A floating point number, if it is an integer of so few digits that none is lost.
fn whole(value: f64) -> Option<Shown> {
    let whole = value.fract() == 0.0 && value.abs() < WHOLE_MAX;
    // Minus zero is zero.
    whole.then(|| (DOUBLE, format!("{:.0}", value + 0.0).as_bytes().into()))
}

/// A number of at most 64 bits as text.
fn digits(value: i128) -> SmallVec<[u8; 24]> {
    let mut digits = SmallVec::new();
    let mut rest = u64::try_from(value.unsigned_abs()).unwrap_or(u64::MAX);
    loop {
        digits.push(b'0' + u8::try_from(rest % 10).unwrap_or_default());
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        digits.push(b'-');
    }
    digits.reverse();
    digits
}

/// What a server says of a statement that it has prepared.
#[derive(Debug)]
pub(super) struct Told {
    prepared: Prepared,
    /// Payloads.
    parameters: Vec<Vec<u8>>,
    columns: Vec<Vec<u8>>,
}

/// Integers below are told apart as floating point numbers.
const WHOLE_MAX: f64 = 1e15;

/// CURSOR_TYPE_READ_ONLY.
pub(super) const READ_ONLY: u8 = 1;

// First bytes of commands.
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const LONG_DATA: u8 = 0x18;
const CLOSE: u8 = 0x19;

// By the numbers that planning knows types by.
const INT8: u32 = 20;
const DOUBLE: u32 = 701;
const TEXT: u32 = 25;
/// A type that no key is of.
const OTHER: u32 = 2249;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_they_are_written() {
        for value in [0, 7, -1, 10, i64::MIN.into(), i64::MAX.into(), u64::MAX.into()] {
            assert_eq!(&digits(value)[..], i128::to_string(&value).as_bytes());
        }
    }
}
