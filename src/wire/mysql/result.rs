//! What servers answer: OK, errors, columns and rows. Builders of payloads, and views over them.

use std::fmt;

use super::Violation;
use super::capability;
use super::command::Length;
use super::command::binary_length;
use super::command::is_null;
use super::read::Reader;
use super::status;
use super::write;

// ── OK, end of rows, errors ──

/// Done; or, in the place of EOF, the end of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Rows that were changed (or found, as agreed).
    pub affected: u64,
    /// The first number that AUTO_INCREMENT gave.
    pub insert_id: u64,
    /// Flags of [`status`].
    pub status: u16,
    /// How many warnings there are to be shown.
    pub warnings: u16,
    /// What there is to say (`Records: 2  Duplicates: 0  Warnings: 0`).
    pub info: Vec<u8>,
    /// How the session has changed, as the server writes it.
    pub changes: Vec<u8>,
}

impl Done {
    /// The payload of an OK packet, or of the end of rows where EOF packets are not spoken: it begins with `first`, 0 or
    /// 0xfe.
    #[must_use]
    pub fn payload(&self, first: u8, capabilities: u32) -> Vec<u8> {
        let mut out = vec![first];
        write::number(&mut out, self.affected);
        write::number(&mut out, self.insert_id);
        let tracks = capabilities & capability::SESSION_TRACK != 0;
        let changed = tracks && !self.changes.is_empty();
        let flags = if changed { self.status | status::STATE_CHANGED } else { self.status & !status::STATE_CHANGED };
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.warnings.to_le_bytes());
        // Manuals have it without its length where the session is not tracked; servers and clients do not.
        if changed || !self.info.is_empty() {
            write::bytes(&mut out, &self.info);
        }
        if changed {
            write::bytes(&mut out, &self.changes);
        }
        out
    }

    /// Reads an OK packet, or the end of rows that looks like one.
    ///
    /// # Errors
    /// It is malformed.
    pub fn read(payload: &[u8], capabilities: u32) -> Result<Self, Violation> {
        let mut reader = Reader::new(payload, "OK");
        reader.take(1)?;
        let (affected, insert_id) = (reader.number()?, reader.number()?);
        let (status, warnings) = (reader.u16()?, reader.u16()?);
        let mut done = Self { affected, insert_id, status, warnings, ..Self::default() };
        if !reader.is_empty() {
            done.info = reader.bytes()?.to_vec();
        }
        if capabilities & capability::SESSION_TRACK != 0 && status & status::STATE_CHANGED != 0 && !reader.is_empty() {
            done.changes = reader.bytes()?.to_vec();
        }
        reader.end()?;
        Ok(done)
    }

    /// What the session's state has become, as far as the server tells.
    ///
    /// # Errors
    /// It is malformed.
    pub fn changes(&self) -> Result<Vec<Change<'_>>, Violation> {
        let mut reader = Reader::new(&self.changes, "OK");
        let mut changes = Vec::new();
        while !reader.is_empty() {
            let kind = reader.u8()?;
            let mut of = Reader::new(reader.bytes()?, "OK");
            match kind {
                // MariaDB tells of several in one.
                0 => {
                    while !of.is_empty() {
                        changes.push(Change::Variable { name: of.bytes()?, value: of.value()? });
                    }
                }
                1 => changes.push(Change::Database(of.bytes()?)),
                // One letter, without a length of its own.
                2 => changes.push(Change::State(of.rest() == b"1")),
                3 => {
                    of.take(1)?;
                    changes.push(Change::Gtids(of.bytes()?));
                }
                4 => changes.push(Change::Characteristics(of.bytes()?)),
                5 => changes.push(Change::Transaction(of.bytes()?)),
                _ => changes.push(Change::Other),
            }
        }
        Ok(changes)
    }
}

/// One change of a session's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A system variable is another now.
    Variable {
        /// Its name.
        name: &'a [u8],
        /// Its value.
        value: Option<&'a [u8]>,
    },
    /// The database in use is another now.
    Database(&'a [u8]),
    /// Whether anything of the session's state has changed, be it told or not: variables of users, temporary tables,
    /// prepared statements too.
    State(bool),
    /// What the transaction is called in the log (MySQL).
    Gtids(&'a [u8]),
    /// How to begin such a transaction.
    Characteristics(&'a [u8]),
    /// What the transaction has done: eight letters.
    Transaction(&'a [u8]),
    /// Something else.
    Other,
}

/// The payload of an EOF packet.
#[must_use]
pub fn end_of_rows(warnings: u16, status: u16) -> Vec<u8> {
    let ([a, b], [c, d]) = (warnings.to_le_bytes(), status.to_le_bytes());
    vec![0xfe, a, b, c, d]
}

/// An EOF packet: its warnings and its status.
///
/// # Errors
/// It is malformed.
pub fn read_end_of_rows(payload: &[u8]) -> Result<(u16, u16), Violation> {
    let mut reader = Reader::new(payload, "EOF");
    reader.take(1)?;
    let read = (reader.u16()?, reader.u16()?);
    reader.end()?;
    Ok(read)
}

/// Whether a payload ends rows: EOF, or OK in its place. A row may begin with 0xfe as well, and is as long as that says.
#[must_use]
pub fn ends_rows(payload: &[u8], capabilities: u32) -> bool {
    let longest = if capabilities & capability::DEPRECATE_EOF == 0 { 5 } else { super::frame::PACKET_MAX - 1 };
    payload.first() == Some(&0xfe) && payload.len() <= longest
}

/// Something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The error's number.
    pub number: u16,
    /// Its SQLSTATE.
    pub sqlstate: String,
    /// What there is to say.
    pub message: String,
}

impl Failure {
    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let mut out = vec![0xff];
        out.extend_from_slice(&self.number.to_le_bytes());
        out.push(b'#');
        out.extend_from_slice(self.sqlstate.as_bytes());
        // Clients hold so much.
        let mut end = self.message.len().min(MESSAGE_MAX);
        while !self.message.is_char_boundary(end) {
            end -= 1;
        }
        out.extend_from_slice(self.message.get(..end).unwrap_or_default().as_bytes());
        out
    }

    /// Its payload in the place of a greeting, where no SQLSTATE is said.
    #[must_use]
    pub fn early_payload(&self) -> Vec<u8> {
        let mut out = self.payload();
        out.drain(3..(3 + 1 + self.sqlstate.len()).min(out.len()));
        out
    }

    /// Whether it says that the server ends the connection: what was asked, it has not done.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        matches!(self.number, SERVER_SHUTDOWN | CONNECTION_KILLED | IDLE_FOR_TOO_LONG)
    }

    /// Reads an ERR packet. Before the handshake is done servers leave out the SQLSTATE.
    ///
    /// # Errors
    /// It is malformed.
    pub fn read(payload: &[u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(payload, "ERR");
        reader.take(1)?;
        let number = reader.u16()?;
        let mut sqlstate = "HY000".to_owned();
        if reader.peek() == Some(b'#') {
            sqlstate = String::from_utf8_lossy(reader.take(6)?.get(1..).unwrap_or_default()).into_owned();
        }
        Ok(Self { number, sqlstate, message: String::from_utf8_lossy(reader.rest()).into_owned() })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.message, self.number, self.sqlstate)
    }
}

/// The server stops.
const SERVER_SHUTDOWN: u16 = 1053;
/// KILL (MariaDB).
const CONNECTION_KILLED: u16 = 1927;
/// Nothing was said for `wait_timeout` (MySQL since 8.0.24).
const IDLE_FOR_TOO_LONG: u16 = 4031;

/// Bytes of a message that clients have room for (`MYSQL_ERRMSG_SIZE` less its zero).
const MESSAGE_MAX: usize = 511;

// ── what a command is answered with ──

/// The first payload of an answer to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// It is done.
    Done(Done),
    /// It failed.
    Failed(Failure),
    /// So many columns follow.
    Columns(u64),
    /// The server would have a file of the client's.
    File(Vec<u8>),
}

impl First {
    /// Reads a payload.
    ///
    /// # Errors
    /// It is malformed.
    pub fn read(payload: &[u8], capabilities: u32) -> Result<Self, Violation> {
        let mut reader = Reader::new(payload, "result");
        match reader.peek() {
            Some(0) => Done::read(payload, capabilities).map(Self::Done),
            Some(0xff) => Failure::read(payload).map(Self::Failed),
            Some(0xfb) => {
                reader.take(1)?;
                Ok(Self::File(reader.rest().to_vec()))
            }
            _ => {
                let count = reader.number()?;
                reader.end()?;
                Ok(Self::Columns(count))
            }
        }
    }
}

/// The payload that says how many columns follow.
#[must_use]
pub fn column_count(count: u64) -> Vec<u8> {
    let mut out = Vec::new();
    write::number(&mut out, count);
    out
}

/// A column of a result, or a parameter of a statement (ColumnDefinition41).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// The database of its table.
    pub database: Vec<u8>,
    /// The table as the statement calls it.
    pub table: Vec<u8>,
    /// The table's own name.
    pub own_table: Vec<u8>,
    /// The column as the statement calls it.
    pub name: Vec<u8>,
    /// The column's own name.
    pub own_name: Vec<u8>,
    /// The number of its collation.
    pub collation: u16,
    /// How many bytes a value is long at most.
    pub length: u32,
    /// One of [`super::kind`].
    pub kind: u8,
    /// Flags: 1 NOT NULL, 2 primary key, 32 unsigned, 128 binary and others.
    pub flags: u16,
    /// Digits behind the point; 31: as many as there are.
    pub decimals: u8,
}

impl Column {
    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write::bytes(&mut out, b"def");
        for text in [&self.database, &self.table, &self.own_table, &self.name, &self.own_name] {
            write::bytes(&mut out, text);
        }
        out.push(12);
        out.extend_from_slice(&self.collation.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.push(self.kind);
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&[self.decimals, 0, 0]);
        out
    }

    /// Reads a payload; what COM_FIELD_LIST adds is left out.
    ///
    /// # Errors
    /// It is malformed.
    pub fn read(payload: &[u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(payload, "column");
        reader.bytes()?;
        let mut text = || reader.bytes().map(<[u8]>::to_vec);
        let (database, table, own_table, name, own_name) = (text()?, text()?, text()?, text()?, text()?);
        let mut fixed = Reader::new(reader.bytes()?, "column");
        let (collation, length) = (fixed.u16()?, fixed.u32()?);
        let (kind, flags, decimals) = (fixed.u8()?, fixed.u16()?, fixed.u8()?);
        Ok(Self { database, table, own_table, name, own_name, collation, length, kind, flags, decimals })
    }
}

// ── rows ──

/// The cells of a row in text; `None`: NULL.
///
/// # Errors
/// It does not have so many.
pub fn text_row(payload: &[u8], columns: usize) -> Result<Vec<Option<&[u8]>>, Violation> {
    let mut reader = Reader::new(payload, "row");
    let cells = (0..columns).map(|_| reader.value()).collect::<Result<Vec<_>, _>>()?;
    reader.end()?;
    Ok(cells)
}

/// The payload of a row in text.
pub fn put_text_row<'a>(out: &mut Vec<u8>, cells: impl IntoIterator<Item = Option<&'a [u8]>>) {
    for cell in cells {
        match cell {
            None => out.push(0xfb),
            Some(bytes) => write::bytes(out, bytes),
        }
    }
}

/// The cells of a binary row as they lie there, without lengths; `None`: NULL.
///
/// # Errors
/// It is not of such columns.
pub fn binary_row<'a>(payload: &'a [u8], kinds: &[u8]) -> Result<Vec<Option<&'a [u8]>>, Violation> {
    let mut reader = Reader::new(payload, "binary row");
    reader.take(1)?;
    let nulls = reader.take((kinds.len() + NULLS_OFFSET).div_ceil(8))?;
    let mut cells = Vec::with_capacity(kinds.len());
    for (place, kind) in kinds.iter().enumerate() {
        if is_null(nulls, place, NULLS_OFFSET) {
            cells.push(None);
            continue;
        }
        cells.push(Some(match binary_length(*kind) {
            Length::Fixed(count) => reader.take(count)?,
            Length::Counted => reader.bytes()?,
            Length::Time => {
                let count = usize::from(reader.u8()?);
                reader.take(count)?
            }
            Length::Unknown => return Err(reader.wrong("has a column of a type that does not exist")),
        }));
    }
    reader.end()?;
    Ok(cells)
}

/// The payload of a binary row, of cells as [`binary_row`] gives them.
pub fn put_binary_row(out: &mut Vec<u8>, kinds: &[u8], cells: &[Option<&[u8]>]) {
    out.push(0);
    let start = out.len();
    out.resize(start + (kinds.len() + NULLS_OFFSET).div_ceil(8), 0);
    for (place, (kind, cell)) in kinds.iter().zip(cells).enumerate() {
        match (cell, binary_length(*kind)) {
            (None, _) => {
                let at = place + NULLS_OFFSET;
                if let Some(byte) = out.get_mut(start + at / 8) {
                    *byte |= 1 << (at % 8);
                }
            }
            (Some(bytes), Length::Fixed(_)) => out.extend_from_slice(bytes),
            (Some(bytes), _) => write::bytes(out, bytes),
        }
    }
}

/// Bits before the first column's in a binary row's map of NULLs.
const NULLS_OFFSET: usize = 2;

/// What a statement is once it is prepared (COM_STMT_PREPARE_OK).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Its number.
    pub statement: u32,
    /// How many columns its rows have.
    pub columns: u16,
    /// How many parameters it has.
    pub parameters: u16,
    /// How many warnings there are.
    pub warnings: u16,
}

impl Prepared {
    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let mut out = vec![0];
        out.extend_from_slice(&self.statement.to_le_bytes());
        out.extend_from_slice(&self.columns.to_le_bytes());
        out.extend_from_slice(&self.parameters.to_le_bytes());
        out.push(0);
        out.extend_from_slice(&self.warnings.to_le_bytes());
        out
    }

    /// Reads a payload that is not an error.
    ///
    /// # Errors
    /// It is malformed.
    pub fn read(payload: &[u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(payload, "prepared statement");
        reader.take(1)?;
        let (statement, columns, parameters) = (reader.u32()?, reader.u16()?, reader.u16()?);
        reader.take(1)?;
        let warnings = if reader.is_empty() { 0 } else { reader.u16()? };
        Ok(Self { statement, columns, parameters, warnings })
    }
}

#[cfg(test)]
mod tests {
    use super::super::kind;
    use super::*;

    #[test]
    fn ok_is_read_as_it_was_written() {
        for flags in [0, capability::SESSION_TRACK] {
            for (info, changes) in [(&b""[..], &b""[..]), (b"Records: 2", b""), (b"", b"\x01\x05\x04shop")] {
                let changes = if flags == 0 { b"" } else { changes };
                let status = if changes.is_empty() { 2 } else { 2 | status::STATE_CHANGED };
                let done = Done {
                    affected: 300,
                    insert_id: 1 << 40,
                    status,
                    warnings: 3,
                    info: info.to_vec(),
                    changes: changes.to_vec(),
                };
                let payload = done.payload(0, flags);
                assert_eq!(First::read(&payload, flags), Ok(First::Done(done.clone())));
                let expected = if changes.is_empty() { Vec::new() } else { vec![Change::Database(b"shop")] };
                assert_eq!(done.changes(), Ok(expected));
            }
        }
    }

    #[test]
    fn changes_of_a_session_are_told_apart() {
        // As MariaDB 10.11 writes them: variables, a transaction's characteristics and its state.
        let changes = b"\x00\x0f\x0aautocommit\x03OFF\x04\x13\x12START TRANSACTION;\x05\x09\x08T___W___".to_vec();
        let done = Done { changes, ..Done::default() };
        assert_eq!(
            done.changes(),
            Ok(vec![
                Change::Variable { name: b"autocommit", value: Some(b"OFF") },
                Change::Characteristics(b"START TRANSACTION;"),
                Change::Transaction(b"T___W___"),
            ])
        );
        let state = Done { changes: b"\x02\x011\x02\x010".to_vec(), ..Done::default() };
        assert_eq!(state.changes(), Ok(vec![Change::State(true), Change::State(false)]));
        assert!(Done { changes: b"\x00\x09\x01a".to_vec(), ..Done::default() }.changes().is_err());
    }

    #[test]
    fn errors_are_read_as_they_were_written() {
        let failure = Failure { number: 1064, sqlstate: "42000".into(), message: "You have an error".into() };
        assert_eq!(First::read(&failure.payload(), 0), Ok(First::Failed(failure.clone())));
        let early = Failure { number: 1040, sqlstate: "HY000".into(), message: "Too many connections".into() };
        assert_eq!(early.early_payload(), b"\xff\x10\x04Too many connections");
        assert_eq!(Failure::read(&early.early_payload()), Ok(early));
        let long = Failure { message: "ö".repeat(1000), ..failure };
        assert_eq!(Failure::read(&long.payload()).unwrap().message, "ö".repeat(255));
    }

    #[test]
    fn columns_are_read_as_they_were_written() {
        let column = Column {
            database: b"shop".to_vec(),
            table: b"u".to_vec(),
            own_table: b"users".to_vec(),
            name: b"n".to_vec(),
            own_name: b"name".to_vec(),
            collation: 45,
            length: 400,
            kind: kind::VAR_STRING,
            flags: 1,
            decimals: 31,
        };
        assert_eq!(Column::read(&column.payload()), Ok(column));
        assert_eq!(First::read(&column_count(300), 0), Ok(First::Columns(300)));
        assert_eq!(First::read(b"\xfb/tmp/x", 0), Ok(First::File(b"/tmp/x".to_vec())));
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let long = vec![b'x'; 70_000];
        let cells = [Some(&b"1"[..]), None, Some(b""), Some(&long)];
        let mut row = Vec::new();
        put_text_row(&mut row, cells);
        assert_eq!(text_row(&row, 4).unwrap(), cells);
        assert!(text_row(&row, 3).is_err() && text_row(&row, 5).is_err());

        let kinds =
            [kind::LONG, kind::VAR_STRING, kind::DATETIME, kind::TINY, kind::NEW_DECIMAL, kind::DOUBLE, kind::DATE];
        let cells =
            [Some(&[1_u8, 0, 0, 0][..]), Some(&long), Some(&[0xe8, 7, 1, 2]), None, Some(b"1.50"), None, Some(b"")];
        let mut row = Vec::new();
        put_binary_row(&mut row, &kinds, &cells);
        assert_eq!(binary_row(&row, &kinds).unwrap(), cells);
        assert!(binary_row(&row[..row.len() - 1], &kinds).is_err());
        assert!(binary_row(&row, &kinds[..6]).is_err());
    }

    #[test]
    fn the_end_of_rows_is_not_a_row() {
        assert!(ends_rows(&end_of_rows(1, 2), 0));
        assert_eq!(read_end_of_rows(&end_of_rows(1, 2)), Ok((1, 2)));
        let done = Done { status: 2, ..Done::default() };
        assert!(ends_rows(&done.payload(0xfe, 0), capability::DEPRECATE_EOF));
        // A row whose first cell is of more than 16 MiB.
        assert!(!ends_rows(&[0xfe, 0, 0, 0, 1, 0, 0, 0, 0], 0));
    }

    #[test]
    fn a_prepared_statement_is_read_as_it_was_written() {
        let prepared = Prepared { statement: 9, columns: 2, parameters: 3, warnings: 1 };
        assert_eq!(Prepared::read(&prepared.payload()), Ok(prepared));
        assert!(Prepared::read(b"\0\x01").is_err());
    }
}
