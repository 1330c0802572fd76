//! The little Postgres client that the cluster is set up with: trust logins on loopback, text values, and pipelines.
//!
//! It also loads the demo's rows through the proxy, which shows the proxy what an impatient driver sends: many
//! transactions in flight at once, each ended by its own Sync.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// How long one answer may take before the server counts as stuck.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A row as text, NULL as `None`.
pub type Row = Vec<Option<String>>;

/// What a server, or the way to it, had against a statement.
#[derive(Debug)]
pub enum SqlError {
    /// The server's own error.
    Server {
        /// Its SQLSTATE.
        sqlstate: String,
        /// Its message.
        message: String,
        /// Its hint, or nothing.
        hint: String,
    },
    /// No answer, or not one of the protocol's.
    Connection(io::Error),
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { sqlstate, message, hint } if hint.is_empty() => write!(f, "{message} ({sqlstate})"),
            Self::Server { sqlstate, message, hint } => write!(f, "{message} ({sqlstate}): {hint}"),
            Self::Connection(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SqlError {}

impl From<io::Error> for SqlError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
}

impl Client {
    /// Logs in on 127.0.0.1 without a password.
    ///
    /// # Errors
    /// The server's refusal, or what the connection failed of.
    pub async fn connect(port: u16, user: &str, database: &str) -> Result<Self, SqlError> {
        let connecting = TcpStream::connect(("127.0.0.1", port));
        let stream = tokio::time::timeout(ANSWER_MAX, connecting).await.map_err(|_| timed_out())??;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, input: BytesMut::new(), output: BytesMut::new() };
        let parameters = [("user", user), ("database", database), ("application_name", "shardway demo")];
        frontend::startup_message(parameters, &mut client.output)?;
        client.send().await?;
        client.until_ready().await?;
        Ok(client)
    }

    /// Runs statements of one simple Query, and returns the rows of them all.
    ///
    /// # Errors
    /// The first error of the server.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Row>, SqlError> {
        frontend::query(sql, &mut self.output)?;
        self.send().await?;
        self.until_ready().await
    }

    /// The first column of the first row, NULL and no row as nothing.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub async fn value(&mut self, sql: &str) -> Result<Option<String>, SqlError> {
        let rows = self.query(sql).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// Parses a named statement on the server.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub async fn prepare(&mut self, name: &str, sql: &str) -> Result<(), SqlError> {
        frontend::parse(name, sql, [], &mut self.output)?;
        frontend::sync(&mut self.output);
        self.send().await?;
        self.until_ready().await.map(drop)
    }

    /// Adds one execution of a prepared statement to the batch that [`Self::send`] sends.
    ///
    /// # Errors
    /// When a value is too long for the protocol.
    pub fn add(&mut self, statement: &str, values: &[&str]) -> Result<(), SqlError> {
        let write = |value: &&str, buffer: &mut BytesMut| {
            buffer.extend_from_slice(value.as_bytes());
            Ok(IsNull::No)
        };
        frontend::bind("", statement, [], values, write, [], &mut self.output)
            .map_err(|_| io::Error::other("a value too long for one message"))?;
        frontend::execute("", 0, &mut self.output)?;
        Ok(())
    }

    /// Ends a transaction of the batch.
    pub fn end_transaction(&mut self) {
        frontend::sync(&mut self.output);
    }

    /// Sends what was added so far.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn send(&mut self) -> Result<(), SqlError> {
        let sending = self.stream.write_all_buf(&mut self.output);
        tokio::time::timeout(ANSWER_MAX, sending).await.map_err(|_| timed_out())??;
        Ok(())
    }

    /// Copies text rows into a table.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub async fn copy_in(&mut self, sql: &str, rows: &str) -> Result<(), SqlError> {
        frontend::query(sql, &mut self.output)?;
        self.send().await?;
        let (tag, body) = self.message().await?;
        if tag != b'G' {
            // Either an error, or a statement that is not a COPY: both end in ReadyForQuery.
            let outcome = if tag == b'E' { Err(server_error(body)) } else { Err(unexpected(tag)) };
            self.until_ready().await?;
            return outcome;
        }
        frontend::CopyData::new(rows.as_bytes())?.write(&mut self.output);
        frontend::copy_done(&mut self.output);
        self.send().await?;
        self.until_ready().await.map(drop)
    }

    /// Reads up to ReadyForQuery; the rows on the way, or the first error on the way.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub async fn until_ready(&mut self) -> Result<Vec<Row>, SqlError> {
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            let (tag, body) = match self.message().await {
                Ok(message) => message,
                // A server that says why, and then hangs up, has said why.
                Err(error) => return Err(failed.unwrap_or(error)),
            };
            match tag {
                b'Z' => return failed.map_or(Ok(rows), Err),
                b'D' => rows.push(decode_row(body)?),
                b'E' => failed = failed.or_else(|| Some(server_error(body))),
                b'R' if body.first_chunk::<4>() != Some(&[0; 4]) => {
                    return Err(io::Error::other("the server asks for a password").into());
                }
                _ => {}
            }
        }
    }

    async fn message(&mut self) -> Result<(u8, Bytes), SqlError> {
        loop {
            if let Some(message) = take_message(&mut self.input)? {
                return Ok(message);
            }
            let reading = self.stream.read_buf(&mut self.input);
            let read = tokio::time::timeout(ANSWER_MAX, reading).await.map_err(|_| timed_out())??;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

/// Cuts the next whole message, if it is there: its tag and its body.
fn take_message(input: &mut BytesMut) -> Result<Option<(u8, Bytes)>, SqlError> {
    let Some(&[tag, a, b, c, d]) = input.first_chunk::<5>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(io::Error::other)?;
    if length < 4 {
        return Err(unexpected(tag));
    }
    if input.len() <= length {
        return Ok(None);
    }
    let mut message = input.split_to(length.saturating_add(1)).freeze();
    message.advance(5);
    Ok(Some((tag, message)))
}

fn decode_row(mut body: Bytes) -> Result<Row, SqlError> {
    let columns = body.try_get_u16().map_err(io::Error::other)?;
    let mut row = Vec::new();
    for _ in 0..columns {
        let length = body.try_get_i32().map_err(io::Error::other)?;
        let Ok(length) = usize::try_from(length) else {
            row.push(None);
            continue;
        };
        if body.remaining() < length {
            return Err(unexpected(b'D'));
        }
        row.push(Some(String::from_utf8_lossy(&body.split_to(length)).into_owned()));
    }
    Ok(row)
}

fn server_error(body: Bytes) -> SqlError {
    let (mut sqlstate, mut message, mut hint) = (String::new(), String::new(), String::new());
    for field in body.split(|byte| *byte == 0) {
        let Some((kind, text)) = field.split_first() else { continue };
        let text = String::from_utf8_lossy(text).into_owned();
        match kind {
            b'C' => sqlstate = text,
            b'M' => message = text,
            b'H' => hint = text,
            _ => {}
        }
    }
    SqlError::Server { sqlstate, message, hint }
}

fn unexpected(tag: u8) -> SqlError {
    io::Error::other(format!("unexpected message {:?}", char::from(tag))).into()
}

fn timed_out() -> SqlError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// Text as an SQL literal.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as an SQL identifier.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_only_when_whole() {
        let mut input = BytesMut::from(&b"Z\0\0\0\x05I1\0\0"[..]);
        let (tag, body) = take_message(&mut input).expect("well formed").expect("whole");
        assert_eq!((tag, &body[..]), (b'Z', &b"I"[..]));
        assert!(take_message(&mut input).expect("well formed").is_none());
        assert!(take_message(&mut BytesMut::from(&b"Z\0\0\0\x03"[..])).is_err());
    }

    #[test]
    fn rows_keep_null_apart_from_empty_text() {
        let body = Bytes::from_static(b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0");
        assert_eq!(decode_row(body).expect("whole"), [Some("ab".to_owned()), None, Some(String::new())]);
        assert!(decode_row(Bytes::from_static(b"\0\x01\0\0\0\x09ab")).is_err());
    }

    #[test]
    fn errors_keep_their_code() {
        let error = server_error(Bytes::from_static(b"SERROR\0C0A000\0Mno\0Hdo this\0\0"));
        assert_eq!(error.to_string(), "no (0A000): do this");
    }
}
