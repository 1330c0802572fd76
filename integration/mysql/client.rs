//! A client that shows everything the server says: all of each column's definition, cells as they lie in the packets,
//! flags, and what is told of the session.
//!
//! A connection that breaks, or a packet that cannot be read, is an answer with the error that client libraries have for
//! it, so that a comparison shows it like any other.

#![allow(dead_code, reason = "every test uses a part of it")]

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::time::Duration;

use shardway::wire::mysql::Violation;
use shardway::wire::mysql::auth;
use shardway::wire::mysql::capability;
use shardway::wire::mysql::compress;
use shardway::wire::mysql::frame;
use shardway::wire::mysql::frame::Joiner;
use shardway::wire::mysql::handshake::Greeting;
use shardway::wire::mysql::handshake::Response;
use shardway::wire::mysql::handshake::Switch;
use shardway::wire::mysql::kind;
use shardway::wire::mysql::result;
pub(crate) use shardway::wire::mysql::result::Column;
use shardway::wire::mysql::result::Done;
use shardway::wire::mysql::result::First;
use shardway::wire::mysql::result::Prepared;
use shardway::wire::mysql::status;

/// How long one packet may be waited for.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// The longest payload that is taken.
const PAYLOAD_MAX: usize = 256 << 20;
/// How much of a file is sent in one packet.
const FILE_PIECE: usize = 1000;
/// utf8mb4_general_ci.
const COLLATION: u8 = 45;
/// How hard Zstandard tries.
const ZSTD_LEVEL: u8 = 3;

/// What a client of today asks for.
pub(crate) const MODERN: u32 = capability::LONG_PASSWORD
    | capability::LONG_FLAG
    | capability::CONNECT_WITH_DB
    | capability::PROTOCOL_41
    | capability::TRANSACTIONS
    | capability::SECURE_CONNECTION
    | capability::MULTI_STATEMENTS
    | capability::MULTI_RESULTS
    | capability::PS_MULTI_RESULTS
    | capability::PLUGIN_AUTH
    | capability::PLUGIN_AUTH_LENENC
    | capability::SESSION_TRACK
    | capability::DEPRECATE_EOF;
/// What one of years ago asks for: EOF packets, and nothing told of the session.
pub(crate) const OLD: u32 =
    MODERN & !(capability::DEPRECATE_EOF | capability::PLUGIN_AUTH_LENENC | capability::SESSION_TRACK);

/// A connection broke (CR_SERVER_LOST).
pub(crate) const LOST: u16 = 2013;
/// A packet cannot be read (CR_MALFORMED_PACKET).
pub(crate) const MALFORMED: u16 = 2027;

/// An error, of the server or of this client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) errno: u16,
    pub(crate) sqlstate: String,
    pub(crate) message: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}): {}", self.errno, self.sqlstate, self.message)
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { errno: LOST, sqlstate: "HY000".to_owned(), message: format!("lost connection to the server: {error}") }
    }
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        Self { errno: MALFORMED, sqlstate: "HY000".to_owned(), message: format!("malformed: {violation}") }
    }
}

impl From<result::Failure> for Failure {
    fn from(failure: result::Failure) -> Self {
        Self { errno: failure.number, sqlstate: failure.sqlstate, message: failure.message }
    }
}

pub(crate) type Row = Vec<Option<Vec<u8>>>;

/// What the server says of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Variable(String, Option<String>),
    Database(String),
    Transaction(String),
    Characteristics(String),
    Other,
}

/// One result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Of rows, if there are any to come; else `None`.
    pub(crate) columns: Option<Vec<Column>>,
    pub(crate) rows: Vec<Row>,
    pub(crate) affected: u64,
    pub(crate) insert_id: u64,
    pub(crate) warnings: u16,
    pub(crate) status: u16,
    pub(crate) info: String,
    pub(crate) changes: Vec<Change>,
    /// It may come behind rows.
    pub(crate) error: Option<Failure>,
}

impl Answer {
    fn failed(failure: impl Into<Failure>) -> Self {
        Self { error: Some(failure.into()), ..Self::default() }
    }

    fn done(&mut self, done: &Done) -> Result<(), Violation> {
        (self.affected, self.insert_id) = (done.affected, done.insert_id);
        (self.warnings, self.status) = (done.warnings, done.status);
        self.info = text(&done.info);
        for change in done.changes()? {
            self.changes.push(match change {
                result::Change::Variable { name, value } => Change::Variable(text(name), value.map(text)),
                result::Change::Database(name) => Change::Database(text(name)),
                result::Change::Transaction(letters) => Change::Transaction(text(letters)),
                result::Change::Characteristics(sql) => Change::Characteristics(text(sql)),
                result::Change::State(_) | result::Change::Gtids(_) | result::Change::Other => Change::Other,
            });
        }
        Ok(())
    }

    /// The first cell, as text.
    pub(crate) fn value(&self) -> Option<String> {
        self.rows.first()?.first()?.as_deref().map(text)
    }
}

/// A statement that the server has prepared.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) prepared: Prepared,
    pub(crate) parameters: Vec<Column>,
    pub(crate) columns: Vec<Column>,
}

/// A parameter's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Tiny(i8),
    Short(i16),
    Int(i32),
    Long(i64),
    Unsigned(u64),
    Float(f32),
    Double(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Decimal(&'a str),
    /// Year, month, day.
    Date(u16, u8, u8),
    /// A day, and hour, minute, second, microsecond.
    Moment((u16, u8, u8), (u8, u8, u8, u32)),
    /// It was sent before, by [`Client::long_data`].
    Sent,
}

/// Whether an execution tells the types of its parameters, as the first one must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Types {
    Told,
    AsBefore,
}

impl Value<'_> {
    /// The type, and 0x80 for one without a sign.
    fn kind(self) -> [u8; 2] {
        match self {
            Self::Null => [kind::NULL, 0],
            Self::Tiny(_) => [kind::TINY, 0],
            Self::Short(_) => [kind::SHORT, 0],
            Self::Int(_) => [kind::LONG, 0],
            Self::Long(_) => [kind::LONGLONG, 0],
            Self::Unsigned(_) => [kind::LONGLONG, 0x80],
            Self::Float(_) => [kind::FLOAT, 0],
            Self::Double(_) => [kind::DOUBLE, 0],
            Self::Text(_) | Self::Sent => [kind::VAR_STRING, 0],
            Self::Bytes(_) => [kind::BLOB, 0],
            Self::Decimal(_) => [kind::NEW_DECIMAL, 0],
            Self::Date(..) => [kind::DATE, 0],
            Self::Moment(..) => [kind::DATETIME, 0],
        }
    }

    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Null | Self::Sent => {}
            Self::Tiny(it) => out.extend(it.to_le_bytes()),
            Self::Short(it) => out.extend(it.to_le_bytes()),
            Self::Int(it) => out.extend(it.to_le_bytes()),
            Self::Float(it) => out.extend(it.to_le_bytes()),
            Self::Long(it) => out.extend(it.to_le_bytes()),
            Self::Unsigned(it) => out.extend(it.to_le_bytes()),
            Self::Double(it) => out.extend(it.to_le_bytes()),
            Self::Text(it) | Self::Decimal(it) => counted(out, it.as_bytes()),
            Self::Bytes(it) => counted(out, it),
            Self::Date(year, month, day) => {
                out.push(4);
                out.extend(year.to_le_bytes());
                out.extend([month, day]);
            }
            Self::Moment((year, month, day), (hour, minute, second, micros)) => {
                out.push(11);
                out.extend(year.to_le_bytes());
                out.extend([month, day, hour, minute, second]);
                out.extend(micros.to_le_bytes());
            }
        }
    }
}

/// Bytes with their number before them, in one to nine bytes.
fn counted(out: &mut Vec<u8>, bytes: &[u8]) {
    let count = u64::try_from(bytes.len()).expect("it fits");
    let (mark, width): (Option<u8>, usize) = match count {
        0..=250 => (None, 1),
        251..=0xffff => (Some(0xfc), 2),
        0x1_0000..=0xff_ffff => (Some(0xfd), 3),
        _ => (Some(0xfe), 8),
    };
    out.extend(mark);
    out.extend(&count.to_le_bytes()[..width]);
    out.extend(bytes);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How the cells of rows lie in their packets.
#[derive(Clone, Copy)]
enum Cells {
    Text,
    Binary,
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    joiner: Joiner,
    capabilities: u32,
    greeting: Greeting,
    /// What the login's OK said.
    pub(crate) welcome: Answer,
    lost: bool,
    /// An answer of more rows than this breaks the connection.
    pub(crate) rows_max: usize,
    /// What is sent where a file is asked for.
    pub(crate) file: Vec<u8>,
    /// Where compression was agreed on: what has come and was not unpacked, and the number of the next piece.
    squeezed: Option<(Vec<u8>, u8, compress::Method)>,
}

impl Client {
    /// Logs in with a client's usual capabilities.
    pub(crate) fn connect(port: u16, user: &str, password: &str, database: &str) -> Result<Self, Failure> {
        Self::connect_with(port, user, password, database, MODERN)
    }

    /// Logs in; without a database if that is empty. What the server does not offer is not used.
    pub(crate) fn connect_with(
        port: u16,
        user: &str,
        password: &str,
        database: &str,
        capabilities: u32,
    ) -> Result<Self, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        stream.set_nodelay(true)?;
        let (mut joiner, mut buffer) = (Joiner::new(PAYLOAD_MAX), Vec::new());
        let greeting = receive(&stream, &mut joiner, &mut buffer)?;
        if greeting.first() == Some(&0xff) {
            return Err(result::Failure::read(&greeting)?.into());
        }
        let greeting = Greeting::read(&greeting)?;
        let mut wanted = capabilities & (greeting.capabilities | capability::LONG_PASSWORD);
        if database.is_empty() {
            wanted &= !capability::CONNECT_WITH_DB;
        }
        let proof = auth::native_proof(password.as_bytes(), &greeting.salt);
        let response = Response {
            capabilities: wanted,
            packet_max: u32::try_from(PAYLOAD_MAX).expect("it fits"),
            collation: COLLATION.into(),
            user: user.as_bytes().to_vec(),
            proof,
            database: (!database.is_empty()).then(|| database.as_bytes().to_vec()),
            plugin: auth::NATIVE.as_bytes().to_vec(),
            attributes: Vec::new(),
            zstd_level: ZSTD_LEVEL,
        };
        let welcome = Answer::default();
        let mut client = Self {
            stream,
            buffer,
            joiner,
            capabilities: wanted,
            greeting,
            welcome,
            lost: false,
            rows_max: usize::MAX,
            file: Vec::new(),
            squeezed: None,
        };
        client.put(&response.payload())?;
        loop {
            let payload = client.take()?;
            match payload.first() {
                Some(0) => {
                    let done = Done::read(&payload, wanted)?;
                    let mut welcome = Answer::default();
                    welcome.done(&done)?;
                    client.welcome = welcome;
                    if let Ok(Some(method)) = compress::Method::agreed(wanted, ZSTD_LEVEL) {
                        client.squeezed = Some((Vec::new(), 0, method));
                        client.joiner.stop_counting();
                    }
                    return Ok(client);
                }
                Some(0xfe) => {
                    let switch = Switch::read(&payload)?;
                    if switch.plugin != auth::NATIVE {
                        return Err(io::Error::other(format!("asked for a proof by {}", switch.plugin)).into());
                    }
                    client.put(&auth::native_proof(password.as_bytes(), &switch.salt))?;
                }
                _ => return Err(result::Failure::read(&payload)?.into()),
            }
        }
    }

    /// What the server said first.
    pub(crate) fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// What both sides agreed on.
    pub(crate) fn capabilities(&self) -> u32 {
        self.capabilities
    }

    /// Whether the connection is gone, or was left in the middle of a packet.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    // ── commands ──

    /// COM_QUERY: all its results.
    pub(crate) fn query(&mut self, sql: &str) -> Vec<Answer> {
        self.results(0x03, sql.as_bytes(), Cells::Text)
    }

    /// COM_QUERY, of which the last result is of interest.
    pub(crate) fn one(&mut self, sql: &str) -> Answer {
        self.query(sql).pop().unwrap_or_default()
    }

    /// COM_QUERY, which must not fail.
    pub(crate) fn done(&mut self, sql: &str) -> Result<Answer, Failure> {
        let mut last = Answer::default();
        for answer in self.query(sql) {
            match answer.error {
                Some(error) => return Err(Failure { message: format!("{} in {sql}", error.message), ..error }),
                None => last = answer,
            }
        }
        Ok(last)
    }

    /// COM_STMT_PREPARE.
    pub(crate) fn prepare(&mut self, sql: &str) -> Result<Statement, Failure> {
        let outcome = self.try_prepare(sql);
        self.noted(outcome)
    }

    fn try_prepare(&mut self, sql: &str) -> Result<Statement, Failure> {
        self.command(0x16, sql.as_bytes())?;
        let first = self.take()?;
        if first.first() == Some(&0xff) {
            return Err(result::Failure::read(&first)?.into());
        }
        let prepared = Prepared::read(&first)?;
        let parameters = self.definitions(usize::from(prepared.parameters))?;
        let columns = self.definitions(usize::from(prepared.columns))?;
        Ok(Statement { prepared, parameters, columns })
    }

    /// COM_STMT_EXECUTE, without a cursor: all its results, with cells in the binary form.
    pub(crate) fn execute(&mut self, statement: &Statement, values: &[Value<'_>], types: Types) -> Vec<Answer> {
        let mut body = statement.prepared.statement.to_le_bytes().to_vec();
        body.push(0);
        body.extend(1_u32.to_le_bytes());
        if !values.is_empty() {
            let mut nulls = vec![0_u8; values.len().div_ceil(8)];
            for (place, value) in values.iter().enumerate() {
                if *value == Value::Null {
                    nulls[place / 8] |= 1 << (place % 8);
                }
            }
            body.extend(nulls);
            body.push(u8::from(types == Types::Told));
            if types == Types::Told {
                body.extend(values.iter().flat_map(|value| value.kind()));
            }
            values.iter().for_each(|value| value.put(&mut body));
        }
        self.results(0x17, &body, Cells::Binary)
    }

    /// COM_STMT_EXECUTE of a statement without parameters, for a cursor: its columns, and rows only where the server opens
    /// none.
    pub(crate) fn open_cursor(&mut self, statement: &Statement) -> Answer {
        let mut answer = Answer::default();
        let outcome = self.try_open_cursor(statement, &mut answer);
        answer.error = self.noted(outcome).err();
        answer
    }

    fn try_open_cursor(&mut self, statement: &Statement, answer: &mut Answer) -> Result<(), Failure> {
        let mut body = statement.prepared.statement.to_le_bytes().to_vec();
        body.extend([1, 1, 0, 0, 0]);
        self.command(0x17, &body)?;
        let count = match First::read(&self.take()?, self.capabilities)? {
            First::Columns(count) => count,
            First::Failed(failure) => return Err(failure.into()),
            First::Done(done) => return Ok(answer.done(&done)?),
            First::File(_) => return Err(io::Error::other("a file was asked for").into()),
        };
        let columns: Vec<Column> =
            (0..count).map(|_| Ok(Column::read(&self.take()?)?)).collect::<Result<_, Failure>>()?;
        let kinds: Vec<u8> = columns.iter().map(|it| it.kind).collect();
        answer.columns = Some(columns);
        // Where nothing stands between columns and rows, what ends the rows tells of the cursor.
        if self.capabilities & capability::DEPRECATE_EOF == 0 {
            (answer.warnings, answer.status) = result::read_end_of_rows(&self.take()?)?;
            if answer.status & status::CURSOR_EXISTS != 0 {
                return Ok(());
            }
        }
        self.rows(answer, &kinds, Cells::Binary)
    }

    /// COM_STMT_FETCH.
    pub(crate) fn fetch(&mut self, statement: &Statement, rows: u32) -> Answer {
        let mut body = statement.prepared.statement.to_le_bytes().to_vec();
        body.extend(rows.to_le_bytes());
        let kinds: Vec<u8> = statement.columns.iter().map(|it| it.kind).collect();
        let mut answer = Answer::default();
        let outcome = self.command(0x1c, &body).and_then(|()| self.rows(&mut answer, &kinds, Cells::Binary));
        answer.error = self.noted(outcome).err();
        // Every server numbers its statements in its own way.
        if let Some(error) = &mut answer.error {
            error.message = error.message.replace(&format!("({})", statement.prepared.statement), "(its number)");
        }
        answer
    }

    /// Prepares, executes once, and closes.
    pub(crate) fn run(&mut self, sql: &str, values: &[Value<'_>]) -> Vec<Answer> {
        match self.prepare(sql) {
            Err(failure) => vec![Answer::failed(failure)],
            Ok(statement) => {
                let answers = self.execute(&statement, values, Types::Told);
                self.close(&statement);
                answers
            }
        }
    }

    /// COM_STMT_SEND_LONG_DATA, which has no answer.
    pub(crate) fn long_data(&mut self, statement: &Statement, parameter: u16, bytes: &[u8]) {
        let mut body = statement.prepared.statement.to_le_bytes().to_vec();
        body.extend(parameter.to_le_bytes());
        body.extend(bytes);
        self.say(0x18, &body);
    }

    /// COM_STMT_CLOSE, which has no answer.
    pub(crate) fn close(&mut self, statement: &Statement) {
        self.say(0x19, &statement.prepared.statement.to_le_bytes());
    }

    /// COM_STMT_RESET.
    pub(crate) fn reset(&mut self, statement: &Statement) -> Answer {
        self.raw(0x1a, &statement.prepared.statement.to_le_bytes())
    }

    /// COM_PING.
    pub(crate) fn ping(&mut self) -> Answer {
        self.raw(0x0e, &[])
    }

    /// COM_INIT_DB.
    pub(crate) fn init_db(&mut self, database: &str) -> Answer {
        self.raw(0x02, database.as_bytes())
    }

    /// COM_RESET_CONNECTION.
    pub(crate) fn reset_connection(&mut self) -> Answer {
        self.raw(0x1f, &[])
    }

    /// COM_SET_OPTION: whether several statements may stand in one query. It is answered with EOF.
    pub(crate) fn multi_statements(&mut self, wanted: bool) -> Answer {
        self.raw(0x1b, &u16::from(!wanted).to_le_bytes())
    }

    /// COM_CHANGE_USER, which always asks for a proof of its own here.
    pub(crate) fn change_user(&mut self, user: &str, password: &str, database: &str) -> Answer {
        let outcome = self.try_change_user(user, password, database);
        self.noted(outcome).unwrap_or_else(Answer::failed)
    }

    fn try_change_user(&mut self, user: &str, password: &str, database: &str) -> Result<Answer, Failure> {
        let proof = auth::native_proof(password.as_bytes(), &self.greeting.salt);
        let mut body = [user.as_bytes(), &[0]].concat();
        body.push(u8::try_from(proof.len()).expect("it fits"));
        body.extend(&proof);
        body.extend([database.as_bytes(), &[0, COLLATION, 0], auth::NATIVE.as_bytes(), &[0]].concat());
        self.command(0x11, &body)?;
        loop {
            let payload = self.take()?;
            match payload.first() {
                Some(0) => {
                    let mut answer = Answer::default();
                    answer.done(&Done::read(&payload, self.capabilities)?)?;
                    return Ok(answer);
                }
                Some(0xfe) => {
                    let switch = Switch::read(&payload)?;
                    self.put(&auth::native_proof(password.as_bytes(), &switch.salt))?;
                }
                _ => return Err(result::Failure::read(&payload)?.into()),
            }
        }
    }

    /// COM_QUIT: the server must close the connection and say nothing.
    pub(crate) fn quit(mut self) -> Result<(), Failure> {
        self.command(0x01, &[])?;
        match self.stream.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(io::Error::other("something was said behind COM_QUIT").into()),
        }
    }

    /// Any command that is answered with OK, EOF or ERR.
    pub(crate) fn raw(&mut self, command: u8, body: &[u8]) -> Answer {
        let outcome = self.command(command, body).and_then(|()| self.take()).and_then(|payload| {
            let mut answer = Answer::default();
            match payload.first() {
                Some(0xff) => answer.error = Some(result::Failure::read(&payload)?.into()),
                Some(0xfe) if payload.len() <= 5 => {
                    (answer.warnings, answer.status) = result::read_end_of_rows(&payload)?
                }
                _ => answer.done(&Done::read(&payload, self.capabilities)?)?,
            }
            Ok(answer)
        });
        self.noted(outcome).unwrap_or_else(Answer::failed)
    }

    /// Any command, and the first payload of its answer as it comes.
    pub(crate) fn payload(&mut self, command: u8, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let outcome = self.command(command, body).and_then(|()| self.take());
        self.noted(outcome)
    }

    /// Bytes as they are; a test may break rules with them.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The stream, for what no client says.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// A piece of a file that was asked for; an empty one ends it.
    pub(crate) fn piece(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.put(bytes)
    }

    /// The results behind pieces of a file.
    pub(crate) fn hear_of_file(&mut self) -> Vec<Answer> {
        self.all_results(Cells::Text)
    }

    /// The results of a query that was sent before, by [`Self::send`].
    pub(crate) fn hear(&mut self) -> Vec<Answer> {
        self.joiner.restart();
        self.joiner.sent(1);
        self.all_results(Cells::Text)
    }

    // ── answers ──

    fn results(&mut self, command: u8, body: &[u8], cells: Cells) -> Vec<Answer> {
        if let Err(failure) = self.command(command, body) {
            self.lost = true;
            return vec![Answer::failed(failure)];
        }
        self.all_results(cells)
    }

    fn all_results(&mut self, cells: Cells) -> Vec<Answer> {
        let mut answers = Vec::new();
        loop {
            let mut answer = Answer::default();
            let outcome = self.result(&mut answer, cells);
            if let Err(failure) = self.noted(outcome) {
                answer.error = Some(failure);
            }
            let goes_on = answer.error.is_none() && answer.status & status::MORE_RESULTS != 0;
            answers.push(answer);
            if !goes_on {
                return answers;
            }
        }
    }

    fn result(&mut self, answer: &mut Answer, cells: Cells) -> Result<(), Failure> {
        let payload = self.take()?;
        let count = match First::read(&payload, self.capabilities)? {
            First::Done(done) => return Ok(answer.done(&done)?),
            First::Failed(failure) => return Err(failure.into()),
            First::File(_) => {
                // An empty packet ends it.
                let file = std::mem::take(&mut self.file);
                for piece in file.chunks(FILE_PIECE) {
                    self.put(piece)?;
                }
                self.put(&[])?;
                return self.result(answer, cells);
            }
            First::Columns(count) => usize::try_from(count).unwrap_or(usize::MAX),
        };
        let columns = self.definitions(count)?;
        let kinds: Vec<u8> = columns.iter().map(|it| it.kind).collect();
        answer.columns = Some(columns);
        self.rows(answer, &kinds, cells)
    }

    /// Rows to their end.
    fn rows(&mut self, answer: &mut Answer, kinds: &[u8], cells: Cells) -> Result<(), Failure> {
        loop {
            let payload = self.take()?;
            if payload.first() == Some(&0xff) {
                return Err(result::Failure::read(&payload)?.into());
            }
            if result::ends_rows(&payload, self.capabilities) {
                if self.capabilities & capability::DEPRECATE_EOF == 0 {
                    (answer.warnings, answer.status) = result::read_end_of_rows(&payload)?;
                } else {
                    answer.done(&Done::read(&payload, self.capabilities)?)?;
                }
                return Ok(());
            }
            let row = match cells {
                Cells::Text => result::text_row(&payload, kinds.len())?,
                Cells::Binary => result::binary_row(&payload, kinds)?,
            };
            if answer.rows.len() == self.rows_max {
                self.stream.shutdown(Shutdown::Both)?;
                return Err(io::Error::other("the answer is too large").into());
            }
            answer.rows.push(row.into_iter().map(|cell| cell.map(<[u8]>::to_vec)).collect());
        }
    }

    /// So many columns, and the EOF behind them where that is spoken.
    fn definitions(&mut self, count: usize) -> Result<Vec<Column>, Failure> {
        let columns: Vec<Column> =
            (0..count).map(|_| Ok(Column::read(&self.take()?)?)).collect::<Result<_, Failure>>()?;
        if count > 0 && self.capabilities & capability::DEPRECATE_EOF == 0 {
            result::read_end_of_rows(&self.take()?)?;
        }
        Ok(columns)
    }

    // ── packets ──

    /// A command that has no answer.
    fn say(&mut self, command: u8, body: &[u8]) {
        let outcome = self.command(command, body);
        // Seen with the next command.
        let _ = self.noted(outcome);
    }

    fn command(&mut self, command: u8, body: &[u8]) -> Result<(), Failure> {
        if self.lost {
            return Err(io::Error::other("it was lost before").into());
        }
        self.joiner.restart();
        if let Some((_, sequence, _)) = &mut self.squeezed {
            *sequence = 0;
        }
        let mut payload = vec![command];
        payload.extend(body);
        self.put(&payload)
    }

    fn put(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let mut out = Vec::new();
        let next = frame::put(&mut out, self.joiner.sequence(), payload);
        self.joiner.sent(next);
        if let Some((_, sequence, method)) = &mut self.squeezed {
            let mut pieces = Vec::new();
            *sequence = compress::put(&mut pieces, *sequence, &out, *method);
            out = pieces;
        }
        Ok(self.stream.write_all(&out)?)
    }

    fn take(&mut self) -> Result<Vec<u8>, Failure> {
        let Some((raw, sequence, method)) = &mut self.squeezed else {
            return receive(&self.stream, &mut self.joiner, &mut self.buffer);
        };
        loop {
            let taken = self.joiner.take(&self.buffer)?.map(|(used, it)| (used, it.map(|it| it.bytes().to_vec())));
            if let Some((used, payload)) = taken {
                self.buffer.drain(..used);
                match payload {
                    Some(payload) => return Ok(payload),
                    None => continue,
                }
            }
            match compress::take(raw, &mut self.buffer, *method)? {
                Some((used, found)) => {
                    if found != *sequence {
                        return Err(Violation::OutOfOrder { found, wanted: *sequence }.into());
                    }
                    *sequence = found.wrapping_add(1);
                    raw.drain(..used);
                }
                None => {
                    let mut chunk = [0; 16 << 10];
                    match (&self.stream).read(&mut chunk)? {
                        0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                        count => raw.extend(&chunk[..count]),
                    }
                }
            }
        }
    }

    /// Remembers that nothing more can be read.
    fn noted<T>(&mut self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(failure) = &outcome {
            self.lost |= matches!(failure.errno, LOST | MALFORMED);
        }
        outcome
    }
}

/// The next payload.
fn receive(mut stream: &TcpStream, joiner: &mut Joiner, buffer: &mut Vec<u8>) -> Result<Vec<u8>, Failure> {
    loop {
        let taken = joiner.take(buffer)?.map(|(used, payload)| (used, payload.map(|it| it.bytes().to_vec())));
        match taken {
            Some((used, payload)) => {
                buffer.drain(..used);
                if let Some(payload) = payload {
                    return Ok(payload);
                }
            }
            None => {
                let mut chunk = [0; 16 << 10];
                match stream.read(&mut chunk)? {
                    0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                    count => buffer.extend(&chunk[..count]),
                }
            }
        }
    }
}
