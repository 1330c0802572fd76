//! Rows on their way from one server to another: fetched and inserted as prepared statements have them, so that no value is
//! written as text and read again. Of a row only the bits that say what is NULL are made anew.

use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::wire::mysql::capability;
use crate::wire::mysql::kind;
use crate::wire::mysql::result::Column;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::result::First;
use crate::wire::mysql::result::Prepared;
use crate::wire::mysql::result::ends_rows;

/// Has a server prepare a text. What it says of parameters and columns is of no interest.
///
/// # Errors
/// [`Broken`]; the server's own error is the inner one.
pub async fn prepare(link: &mut Link, text: &str) -> Result<Result<Prepared, Failure>, Broken> {
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
    let ends = link.connection.capabilities & capability::DEPRECATE_EOF == 0;
    for count in [prepared.parameters, prepared.columns] {
        for _ in 0..count {
            relay::payload(link).await?;
        }
        if count > 0 && ends {
            relay::payload(link).await?;
        }
    }
    Ok(Ok(prepared))
}

/// The same, once for each connection.
///
/// # Errors
/// [`Broken`]; the server's own error is the inner one.
pub async fn prepare_once(link: &mut Link, text: &str) -> Result<Result<u32, Failure>, Broken> {
    // Statements of clients are known by their modes as well, with zero bytes in between: none is like this one.
    if let Some(number) = link.connection.prepared.number(text) {
        return Ok(Ok(number));
    }
    if let Some(unwanted) = link.connection.prepared.make_room() {
        close(link, unwanted).await?;
    }
    let prepared = match prepare(link, text).await? {
        Ok(prepared) => prepared,
        Err(failure) => return Ok(Err(failure)),
    };
    link.connection.prepared.add(text.into(), prepared.statement);
    Ok(Ok(prepared.statement))
}

/// Tells a server that a prepared statement is of no more use.
///
/// # Errors
/// [`Broken::Server`].
pub async fn close(link: &mut Link, number: u32) -> Result<(), Broken> {
    let mut payload = vec![CLOSE];
    payload.extend_from_slice(&number.to_le_bytes());
    // It is not answered.
    link.say(&payload).await
}

/// Runs a prepared statement with integers for its parameters; its rows are to be read.
///
/// # Errors
/// [`Broken::Server`].
pub async fn ask(link: &mut Link, number: u32, values: &[i64]) -> Result<(), Broken> {
    let mut payload = head(number);
    if !values.is_empty() {
        payload.resize(payload.len() + values.len().div_ceil(8), 0);
        payload.push(1);
        for _ in values {
            payload.extend_from_slice(&[kind::LONGLONG, 0]);
        }
        for value in values {
            payload.extend_from_slice(&value.to_le_bytes());
        }
    }
    link.say(&payload).await
}

/// The columns of rows that have been asked for.
///
/// # Errors
/// [`Broken`]; the server's own error is the inner one.
pub async fn columns(link: &mut Link) -> Result<Result<Vec<Column>, Failure>, Broken> {
    let count = match relay::first(link).await? {
        First::Columns(count) => count,
        First::Failed(failure) => return Ok(Err(failure)),
        First::Done(_) | First::File(_) => return Err(Broken::Server("answers without rows".to_owned())),
    };
    let mut columns = Vec::new();
    for _ in 0..count {
        columns.push(relay::column(link).await?);
    }
    relay::end_of_columns(link).await?;
    Ok(Ok(columns))
}

/// What follows the columns.
#[derive(Debug)]
pub enum Next {
    /// A row, in the buffer.
    Row,
    /// There are no more; so many warnings.
    End(u16),
    /// It failed.
    Failed(Failure),
}

/// The next row, into `row`.
///
/// # Errors
/// [`Broken`]; the link is of no more use then.
pub async fn next(link: &mut Link, row: &mut Vec<u8>) -> Result<Next, Broken> {
    relay::payload_into(link, row).await?;
    if row.first() == Some(&0xff) {
        return relay::failure(row).map(Next::Failed);
    }
    if ends_rows(row, link.connection.capabilities) {
        let (warnings, status) = relay::end(link, row)?;
        link.connection.status = status;
        return Ok(Next::End(warnings));
    }
    Ok(Next::Row)
}

/// Rows to be inserted by one statement.
#[derive(Debug, Default)]
pub struct Batch {
    columns: usize,
    rows: usize,
    /// A bit for each value: it is NULL.
    nulls: Vec<u8>,
    /// The values, row after row.
    values: Vec<u8>,
}

impl Batch {
    /// An empty one for rows of so many columns.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self { columns, ..Self::default() }
    }

    /// How many rows it has.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many bytes the values have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.values.len()
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a row as [`next`] gave it; false: it is none.
    #[must_use]
    pub fn add(&mut self, row: &[u8]) -> bool {
        let Some(behind) = row.strip_prefix(&[0]) else { return false };
        let Some((bits, values)) = behind.split_at_checked((self.columns + NULLS_OFFSET).div_ceil(8)) else {
            return false;
        };
        let base = self.rows * self.columns;
        self.nulls.resize((base + self.columns).div_ceil(8), 0);
        for column in 0..self.columns {
            let from = column + NULLS_OFFSET;
            if bits.get(from / 8).is_some_and(|byte| byte >> (from % 8) & 1 == 1)
                && let Some(byte) = self.nulls.get_mut((base + column) / 8)
            {
                *byte |= 1 << ((base + column) % 8);
            }
        }
        self.values.extend_from_slice(values);
        self.rows += 1;
        true
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        (self.rows, self.nulls) = (0, Vec::new());
        self.values.clear();
    }

    /// Has a prepared INSERT of so many rows done with them.
    ///
    /// # Errors
    /// [`Broken`]; the server's own error is the inner one.
    pub async fn insert(
        &self,
        link: &mut Link,
        number: u32,
        types: &[[u8; 2]],
    ) -> Result<Result<Done, Failure>, Broken> {
        let mut payload = head(number);
        payload.reserve(self.nulls.len() + self.values.len() + self.rows * types.len() * 2 + 1);
        payload.extend_from_slice(&self.nulls);
        payload.push(1);
        for _ in 0..self.rows {
            for it in types {
                payload.extend_from_slice(it);
            }
        }
        payload.extend_from_slice(&self.values);
        link.say(&payload).await?;
        relay::hear(link).await
    }
}

/// The type of the parameter by which a value of that column comes as it is; `None`: there is none.
#[must_use]
pub fn parameter(column: &Column) -> Option<[u8; 2]> {
    /// UNSIGNED.
    const UNSIGNED: u16 = 32;
    let of = match column.kind {
        it @ (kind::TINY
        | kind::SHORT
        | kind::LONG
        | kind::LONGLONG
        | kind::FLOAT
        | kind::DOUBLE
        | kind::DATE
        | kind::DATETIME
        | kind::TIMESTAMP
        | kind::TIME
        | kind::NEW_DECIMAL) => it,
        // They have as many bytes.
        kind::INT24 => kind::LONG,
        kind::YEAR => kind::SHORT,
        // A string of bytes, whatever it is stored in: nothing is converted.
        kind::BIT
        | kind::TINY_BLOB
        | kind::MEDIUM_BLOB
        | kind::LONG_BLOB
        | kind::BLOB
        | kind::VARCHAR
        | kind::VAR_STRING
        | kind::STRING
            if column.collation == BINARY =>
        {
            kind::BLOB
        }
        // A text in ASCII (UUID, INET6).
        kind::VARCHAR | kind::VAR_STRING | kind::STRING => kind::VAR_STRING,
        _ => return None,
    };
    let unsigned = column.flags & UNSIGNED != 0 || column.kind == kind::YEAR;
    Some([of, u8::from(unsigned) << 7])
}

/// The beginning of COM_STMT_EXECUTE, without a cursor.
fn head(number: u32) -> Vec<u8> {
    let mut out = vec![EXECUTE];
    out.extend_from_slice(&number.to_le_bytes());
    out.push(0);
    out.extend_from_slice(&1_u32.to_le_bytes());
    out
}

/// The number of the collation of bytes.
const BINARY: u16 = 63;

/// Bits before the first column's in a row's map of NULLs.
const NULLS_OFFSET: usize = 2;

// First bytes of commands.
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const CLOSE: u8 = 0x19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_values_and_nulls() {
        let mut batch = Batch::new(3);
        // The second value is NULL, then the third, then none.
        assert!(batch.add(&[0, 0b0000_1000, 1, 3]) && batch.add(&[0, 0b0001_0000, 4, 5]));
        assert!(batch.add(&[0, 0, 7, 8, 9]));
        assert_eq!((batch.rows(), batch.nulls.as_slice()), (3, &[0b0010_0010, 0][..]));
        assert_eq!(batch.values, [1, 3, 4, 5, 7, 8, 9]);
        assert!(!batch.add(&[1, 0]) && !batch.add(&[0]) && !batch.add(&[]));
        batch.clear();
        assert!(batch.is_empty() && batch.bytes() == 0);
    }

    #[test]
    fn nulls_of_many_columns_are_found_behind_the_first_byte() {
        let mut batch = Batch::new(7);
        assert!(batch.add(&[0, 0, 0b0000_0001, 1, 2, 3, 4, 5, 6]));
        assert_eq!(batch.nulls, [0b0100_0000]);
    }

    #[test]
    fn values_are_said_to_be_what_they_are() {
        let column = |kind, collation, flags| Column { kind, collation, flags, ..Column::default() };
        assert_eq!(parameter(&column(kind::LONG, 63, 32)), Some([kind::LONG, 128]));
        assert_eq!(parameter(&column(kind::INT24, 63, 0)), Some([kind::LONG, 0]));
        assert_eq!(parameter(&column(kind::VAR_STRING, 63, 0)), Some([kind::BLOB, 0]));
        assert_eq!(parameter(&column(kind::STRING, 45, 0)), Some([kind::VAR_STRING, 0]));
        assert_eq!(parameter(&column(kind::GEOMETRY, 63, 0)), None);
        assert_eq!(parameter(&column(kind::JSON, 45, 0)), None);
        assert_eq!(parameter(&column(kind::BLOB, 45, 0)), None, "a text would be converted");
    }
}
