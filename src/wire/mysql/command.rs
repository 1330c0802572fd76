//! What clients say once they are in.

use smallvec::SmallVec;

use super::Violation;
use super::capability;
use super::kind;
use super::read::Reader;
use super::write;

/// One command, by its first byte; what stands behind it is read by whoever runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// The client leaves.
    Quit,
    /// It uses another database.
    InitDb(&'a [u8]),
    /// It asks something: the text, behind its attributes.
    Query(&'a [u8]),
    /// It asks for the columns of a table.
    FieldList {
        /// The table.
        table: &'a [u8],
        /// Which columns, as LIKE says it.
        pattern: &'a [u8],
    },
    /// A line of text about the server.
    Statistics,
    /// KILL of old.
    ProcessKill(u32),
    /// Whether the server is there.
    Ping,
    /// Another user; see [`super::handshake::change_user`].
    ChangeUser(&'a [u8]),
    /// A statement to prepare.
    Prepare(&'a [u8]),
    /// A prepared statement to run.
    Execute(Execute<'a>),
    /// A part of a parameter's value.
    LongData {
        /// The statement.
        statement: u32,
        /// The parameter's place.
        parameter: u16,
        /// What is added.
        bytes: &'a [u8],
    },
    /// A prepared statement is of no more use.
    Close(u32),
    /// Its cursor and long data go.
    Reset(u32),
    /// Whether several statements may stand in a query: 0 on, 1 off.
    SetOption(u16),
    /// More rows of a cursor.
    Fetch {
        /// The statement.
        statement: u32,
        /// How many.
        rows: u32,
    },
    /// The session is as new.
    ResetConnection,
    /// A command that is not served.
    Other(u8),
}

impl<'a> Command<'a> {
    /// Reads a payload.
    ///
    /// # Errors
    /// It is malformed.
    pub fn read(payload: &'a [u8], capabilities: u32) -> Result<Self, Violation> {
        let mut reader = Reader::new(payload, "command");
        let byte = reader.u8()?;
        let command = match byte {
            0x01 => Self::Quit,
            0x02 => Self::InitDb(reader.rest()),
            0x03 => {
                if capabilities & capability::QUERY_ATTRIBUTES != 0 {
                    attributes(&mut reader)?;
                }
                Self::Query(reader.rest())
            }
            0x04 => Self::FieldList { table: reader.string()?, pattern: reader.rest() },
            0x09 => Self::Statistics,
            0x0c => Self::ProcessKill(reader.u32()?),
            0x0e => Self::Ping,
            0x11 => Self::ChangeUser(reader.rest()),
            0x16 => Self::Prepare(reader.rest()),
            0x17 => {
                let (statement, flags, times) = (reader.u32()?, reader.u8()?, reader.u32()?);
                if times != 1 {
                    return Err(reader.wrong("runs a statement another number of times than once"));
                }
                Self::Execute(Execute { statement, flags, rest: reader.rest() })
            }
            0x18 => Self::LongData { statement: reader.u32()?, parameter: reader.u16()?, bytes: reader.rest() },
            0x19 => Self::Close(reader.u32()?),
            0x1a => Self::Reset(reader.u32()?),
            0x1b => Self::SetOption(reader.u16()?),
            0x1c => Self::Fetch { statement: reader.u32()?, rows: reader.u32()? },
            0x1f => Self::ResetConnection,
            other => return Ok(Self::Other(other)),
        };
        reader.end()?;
        Ok(command)
    }

    /// Whether a client waits for no answer to it, be it readable or not: long data and the closing of a statement.
    #[must_use]
    pub fn has_no_answer(payload: &[u8]) -> bool {
        matches!(payload.first(), Some(0x18 | 0x19))
    }
}

/// Skips the attributes of a query. They are the client's notes: nothing here asks for them.
fn attributes(reader: &mut Reader<'_>) -> Result<(), Violation> {
    let count = usize::try_from(reader.number()?).unwrap_or(usize::MAX);
    reader.number()?;
    if count == 0 {
        return Ok(());
    }
    let nulls = reader.take(count.div_ceil(8))?;
    if reader.u8()? != 1 {
        return Err(reader.wrong("has attributes without types"));
    }
    let mut types = Vec::new();
    for _ in 0..count {
        types.push(Type::read(reader)?);
        reader.bytes()?;
    }
    for (place, it) in types.iter().enumerate() {
        if !is_null(nulls, place, 0) {
            it.value(reader)?;
        }
    }
    Ok(())
}

/// A prepared statement is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The statement.
    pub statement: u32,
    /// 0, or the kind of cursor that is wanted: 1 reads only.
    pub flags: u8,
    rest: &'a [u8],
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type {
    /// One of [`kind`].
    pub kind: u8,
    /// Whether a number has no sign.
    pub unsigned: bool,
}

impl Type {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Violation> {
        let kind = reader.u8()?;
        Ok(Self { kind, unsigned: reader.u8()? & 0x80 != 0 })
    }

    /// Appends a value of this type as [`Execute::parameters`] gives it.
    pub fn put(self, out: &mut Vec<u8>, bytes: &[u8]) {
        match binary_length(self.kind) {
            Length::Fixed(_) | Length::Unknown => out.extend_from_slice(bytes),
            Length::Counted | Length::Time => write::bytes(out, bytes),
        }
    }

    fn value<'a>(self, reader: &mut Reader<'a>) -> Result<&'a [u8], Violation> {
        match binary_length(self.kind) {
            Length::Fixed(count) => reader.take(count),
            Length::Counted => reader.bytes(),
            Length::Time => {
                let count = usize::from(reader.u8()?);
                reader.take(count)
            }
            Length::Unknown => Err(reader.wrong("has a value of a type that does not exist")),
        }
    }
}

/// The parameters of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters<'a> {
    /// Their types, if they are told: else they are those of the last execution.
    pub told: Option<Vec<Type>>,
    /// Their values as they lie in the packet, without lengths; `None`: NULL, or sent before as long data.
    pub values: Vec<Option<&'a [u8]>>,
}

/// Parameters none of which was sent before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole<'a> {
    /// Their types.
    pub types: SmallVec<[Type; 8]>,
    /// Whether the execution told them: else they are those of the last one.
    pub told: bool,
    /// A bit for each that is NULL.
    pub nulls: &'a [u8],
    /// The values as they lie in the packet, without lengths; `None`: NULL.
    pub values: SmallVec<[Option<&'a [u8]>; 8]>,
    /// The values as they lie in the packet, one behind the other.
    pub packed: &'a [u8],
}

impl<'a> Execute<'a> {
    /// The same as [`Self::parameters`] where nothing was sent before, without taking memory for a few. `None`: that has to be
    /// asked, and may say what is wrong.
    #[must_use]
    pub fn whole(&self, count: usize, known: Option<&[Type]>) -> Option<Whole<'a>> {
        let mut reader = Reader::new(self.rest, "COM_STMT_EXECUTE");
        let mut whole = Whole { types: SmallVec::new(), told: false, nulls: &[], values: SmallVec::new(), packed: &[] };
        if count == 0 {
            return Some(whole);
        }
        whole.nulls = reader.take(count.div_ceil(8)).ok()?;
        whole.told = reader.u8().ok()? != 0;
        if whole.told {
            for _ in 0..count {
                whole.types.push(Type::read(&mut reader).ok()?);
            }
        } else {
            whole.types.extend_from_slice(known.filter(|it| it.len() == count)?);
        }
        let mut all = reader;
        let all = all.rest();
        for (place, it) in whole.types.iter().enumerate() {
            let null = is_null(whole.nulls, place, 0);
            // Without its bit it is one nevertheless, which a server must be told by the bit.
            if it.kind == kind::NULL && !null {
                return None;
            }
            whole.values.push(if null { None } else { Some(it.value(&mut reader).ok()?) });
        }
        whole.packed = all.get(..all.len() - reader.rest().len())?;
        Some(whole)
    }

    /// Reads the values of `count` parameters, whose types are `known` where they are not told. `is_long`: which have been
    /// sent before, and are not here.
    ///
    /// # Errors
    /// It is malformed, or no types are known.
    pub fn parameters(
        &self,
        count: usize,
        known: Option<&[Type]>,
        is_long: impl Fn(usize) -> bool,
    ) -> Result<Parameters<'a>, Violation> {
        let mut reader = Reader::new(self.rest, "COM_STMT_EXECUTE");
        if count == 0 {
            return Ok(Parameters { told: None, values: Vec::new() });
        }
        let nulls = reader.take(count.div_ceil(8))?;
        let told = match reader.u8()? {
            0 => None,
            _ => Some((0..count).map(|_| Type::read(&mut reader)).collect::<Result<Vec<_>, _>>()?),
        };
        let types = told.as_deref().or(known).filter(|it| it.len() == count);
        let types = types.ok_or_else(|| reader.wrong("tells no types"))?;
        let mut values = Vec::with_capacity(count);
        for (place, it) in types.iter().enumerate() {
            let absent = is_null(nulls, place, 0) || is_long(place) || it.kind == kind::NULL;
            values.push(if absent { None } else { Some(it.value(&mut reader)?) });
        }
        // Servers do not look whether that is all, and mysql2 of JavaScript leaves bytes behind large values.
        Ok(Parameters { told, values })
    }
}

/// Whether the bit of a value says that it is NULL; `offset`: bits before the first value's.
pub(super) fn is_null(bits: &[u8], place: usize, offset: usize) -> bool {
    let at = place + offset;
    bits.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}

/// How a binary value says its length.
pub(super) enum Length {
    Fixed(usize),
    Counted,
    Time,
    Unknown,
}

pub(super) fn binary_length(of: u8) -> Length {
    match of {
        kind::NULL => Length::Fixed(0),
        kind::TINY => Length::Fixed(1),
        kind::SHORT | kind::YEAR => Length::Fixed(2),
        kind::LONG | kind::INT24 | kind::FLOAT => Length::Fixed(4),
        kind::LONGLONG | kind::DOUBLE => Length::Fixed(8),
        kind::DATE | kind::DATETIME | kind::TIMESTAMP | kind::TIME => Length::Time,
        // DECIMAL of old is 0; VARCHAR, BIT and all from JSON on are counted.
        0 | kind::VARCHAR | kind::BIT | kind::JSON..=kind::GEOMETRY => Length::Counted,
        _ => Length::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_known_by_their_first_byte() {
        let read = |bytes: &'static [u8]| Command::read(bytes, 0);
        assert_eq!(read(b"\x03SELECT 1"), Ok(Command::Query(b"SELECT 1")));
        assert_eq!(read(b"\x02shop"), Ok(Command::InitDb(b"shop")));
        assert_eq!(read(b"\x04t\0%"), Ok(Command::FieldList { table: b"t", pattern: b"%" }));
        assert_eq!(read(b"\x19\x01\0\0\0"), Ok(Command::Close(1)));
        assert_eq!(read(b"\x1c\x01\0\0\0\x02\0\0\0"), Ok(Command::Fetch { statement: 1, rows: 2 }));
        assert_eq!(
            read(b"\x18\x01\0\0\0\x02\0abc"),
            Ok(Command::LongData { statement: 1, parameter: 2, bytes: b"abc" })
        );
        assert_eq!(read(b"\x12"), Ok(Command::Other(0x12)));
        for bad in [&b""[..], b"\x19\x01", b"\x0e\x01", b"\x1b\x01"] {
            assert!(Command::read(bad, 0).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn attributes_of_a_query_are_passed_over() {
        let flags = capability::QUERY_ATTRIBUTES;
        assert_eq!(Command::read(b"\x03\0\x01SELECT 1", flags), Ok(Command::Query(b"SELECT 1")));
        // Two: a text and a NULL.
        let bytes = b"\x03\x02\x01\x02\x01\xfe\0\x01a\x06\0\x01b\x02xySELECT 1";
        assert_eq!(Command::read(bytes, flags), Ok(Command::Query(b"SELECT 1")));
        assert!(Command::read(b"\x03\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", flags).is_err());
    }

    #[test]
    fn parameters_are_cut_by_their_types() {
        // A number, a text, NULL, a date, and one that was sent before.
        let bytes =
            b"\x17\x01\0\0\0\0\x01\0\0\0\x04\x01\x03\0\xfd\0\x08\x80\x0a\0\xfc\0\x05\0\0\0\x02hi\x04\xe8\x07\x01\x02";
        let Ok(Command::Execute(execute)) = Command::read(bytes, 0) else { panic!("an execution") };
        let found = execute.parameters(5, None, |place| place == 4).unwrap();
        let told = found.told.clone().unwrap();
        assert_eq!(told.get(2), Some(&Type { kind: kind::LONGLONG, unsigned: true }));
        let date: &[u8] = &[0xe8, 7, 1, 2];
        assert_eq!(found.values, [Some(&[5_u8, 0, 0, 0][..]), Some(b"hi"), None, Some(date), None]);
        assert!(execute.whole(5, None).is_none(), "the last value is missing");
        // The same again, without types.
        let again = [&bytes[..11], b"\0", &bytes[22..]].concat();
        let Ok(Command::Execute(execute)) = Command::read(&again, 0) else { panic!("an execution") };
        assert!(execute.parameters(5, None, |_| false).is_err());
        assert_eq!(execute.parameters(5, Some(&told), |place| place == 4).unwrap().values, found.values);
        assert!(execute.parameters(5, Some(&told), |_| false).is_err(), "the last value is missing");
    }

    #[test]
    fn parameters_none_of_which_was_sent_before_are_read_at_once() {
        // A number, a text and NULL; and what mysql2 of JavaScript leaves behind.
        let head = b"\x17\x01\0\0\0\0\x01\0\0\0";
        let told = [&head[..], b"\x04\x01\x03\0\xfd\0\x08\x80\x05\0\0\0\x02hi\0\0"].concat();
        let untold = [&head[..], b"\x04\0\x05\0\0\0\x02hi"].concat();
        let Ok(Command::Execute(execute)) = Command::read(&told, 0) else { panic!("an execution") };
        let whole = execute.whole(3, None).unwrap();
        let parameters = execute.parameters(3, None, |_| false).unwrap();
        assert_eq!(whole.types.to_vec(), parameters.told.unwrap());
        assert_eq!(whole.values.to_vec(), parameters.values);
        assert_eq!((whole.told, whole.nulls, whole.packed), (true, &b"\x04"[..], &b"\x05\0\0\0\x02hi"[..]));
        let Ok(Command::Execute(execute)) = Command::read(&untold, 0) else { panic!("an execution") };
        assert!(execute.whole(3, None).is_none());
        assert_eq!(execute.whole(3, Some(&whole.types)), Some(Whole { told: false, ..whole }));
        // A value of the type NULL whose bit is not set is none.
        let typed = [&head[..], b"\0\x01\x06\0"].concat();
        let Ok(Command::Execute(execute)) = Command::read(&typed, 0) else { panic!("an execution") };
        assert!(execute.whole(1, None).is_none());
        assert_eq!(execute.parameters(1, None, |_| false).unwrap().values, [None]);
    }
}
