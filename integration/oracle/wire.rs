//! A Postgres client that hides nothing: names and types of columns, cells as bytes, tags, and whose error it was.

use std::fmt;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// How long one answer may take before the server counts as stuck.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A row's cells, NULL as `None`.
pub(crate) type Row = Vec<Option<Vec<u8>>>;

/// What a statement was answered with.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
pub(crate) struct Answer {
    /// Types of parameters, of a prepared statement.
    pub(crate) parameters: Vec<u32>,
    /// Names and types of columns; `None`: the statement has none.
    pub(crate) columns: Option<Vec<(String, u32)>>,
    /// Their type modifiers and formats.
    pub(crate) modifiers: Vec<(u32, u16)>,
    pub(crate) rows: Vec<Row>,
    /// The command tags of all statements of the text.
    pub(crate) tags: Vec<String>,
    /// SQLSTATE and text of each notice.
    pub(crate) notices: Vec<(String, String)>,
    pub(crate) error: Option<Failure>,
    /// I, T or E: the transaction's status at the end.
    pub(crate) status: u8,
}

#[derive(Debug, PartialEq, Eq, Clone)]
pub(crate) struct Failure {
    pub(crate) sqlstate: String,
    pub(crate) message: String,
    pub(crate) hint: String,
    pub(crate) detail: String,
    /// Where the server was, such as a line of COPY.
    pub(crate) context: String,
    /// A server's errors name the routine that raised them; the proxy's own do not.
    pub(crate) by_server: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.by_server { "server" } else { "proxy" };
        write!(f, "{whose}: {} {}", self.sqlstate, self.message)
    }
}

/// One value of Bind.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    /// Its type at Parse; 0 leaves it to the server.
    pub(crate) oid: u32,
    pub(crate) binary: bool,
    pub(crate) bytes: Option<Vec<u8>>,
}

/// How a statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Simple,
    /// Parse, Bind, Describe, Execute in one flight.
    Unnamed,
    /// Parse and Describe first, then Bind and Execute of the named statement.
    Named,
}

pub(crate) struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    named: u32,
}

impl Client {
    pub(crate) fn connect(port: u16, user: &str, database: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|it| it.to_string())?;
        stream.set_nodelay(true).map_err(|it| it.to_string())?;
        stream.set_read_timeout(Some(ANSWER_MAX)).map_err(|it| it.to_string())?;
        let mut client = Self { stream, input: Vec::new(), named: 0 };
        let mut body = 196_608_i32.to_be_bytes().to_vec();
        for (name, value) in [("user", user), ("database", database), ("client_encoding", "UTF8")] {
            text(&mut body, name);
            text(&mut body, value);
        }
        body.push(0);
        let length = i32::try_from(body.len() + 4).map_err(|it| it.to_string())?;
        let start = [&length.to_be_bytes()[..], &body].concat();
        client.stream.write_all(&start).map_err(|it| it.to_string())?;
        match client.until_ready().error {
            None => Ok(client),
            Some(failure) => Err(failure.to_string()),
        }
    }

    pub(crate) fn simple(&mut self, sql: &str) -> Answer {
        let mut body = Vec::new();
        text(&mut body, sql);
        self.send(&message(b'Q', &body));
        self.until_ready()
    }

    /// COPY … FROM STDIN with these bytes.
    pub(crate) fn copy(&mut self, sql: &str, data: &[u8]) -> Answer {
        self.copy_in_parts(sql, data, data.len().max(1), false)
    }

    /// The same in messages of so many bytes, as a statement of the extended protocol if wanted.
    pub(crate) fn copy_in_parts(&mut self, sql: &str, data: &[u8], part: usize, extended: bool) -> Answer {
        if extended {
            let execute = message(b'E', &[0; 5]);
            self.send(&[parse("", sql, &[]), bind("", &[], false), execute, message(b'H', &[])].concat());
        } else {
            let mut body = Vec::new();
            text(&mut body, sql);
            self.send(&message(b'Q', &body));
        }
        let mut parts: Vec<u8> = data.chunks(part).flat_map(|it| message(b'd', it)).collect();
        parts.extend(message(b'c', &[]));
        if extended {
            parts.extend(message(b'S', &[]));
        }
        // A refused COPY ignores them.
        self.send(&parts);
        self.until_ready()
    }

    pub(crate) fn run(&mut self, how: How, sql: &str, values: &[Value], binary: bool) -> Answer {
        match how {
            How::Simple => self.simple(sql),
            How::Unnamed => {
                let flight = [parse("", sql, values), bind("", values, binary), describe(b'P', ""), execute_and_sync()];
                self.send(&flight.concat());
                self.until_ready()
            }
            How::Named => {
                self.named += 1;
                let name = format!("oracle_{}", self.named);
                self.send(&[parse(&name, sql, values), describe(b'S', &name), message(b'S', &[])].concat());
                let described = self.until_ready();
                if described.error.is_some() {
                    return described;
                }
                self.send(&[bind(&name, values, binary), execute_and_sync()].concat());
                let done = self.until_ready();
                let mut close = vec![b'S'];
                text(&mut close, &name);
                self.send(&[message(b'C', &close), message(b'S', &[])].concat());
                self.until_ready();
                Answer {
                    parameters: described.parameters,
                    columns: described.columns,
                    modifiers: described.modifiers,
                    notices: [described.notices, done.notices].concat(),
                    ..done
                }
            }
        }
    }

    /// Statements with their values, each by Parse, Bind, Describe and Execute, and one Sync behind all.
    pub(crate) fn pipeline(&mut self, all: &[(String, Vec<Value>)], binary: bool) -> Answer {
        let mut flight = Vec::new();
        for (sql, values) in all {
            flight.extend(parse("", sql, values));
            flight.extend(bind("", values, binary));
            flight.extend(describe(b'P', ""));
            flight.extend(message(b'E', &[0; 5]));
        }
        flight.extend(message(b'S', &[]));
        self.send(&flight);
        self.until_ready()
    }

    fn send(&mut self, bytes: &[u8]) {
        // A server that is gone has no answer either, which is what is told.
        let _ = self.stream.write_all(bytes);
    }

    fn until_ready(&mut self) -> Answer {
        let mut answer = Answer::default();
        loop {
            let Some((tag, body)) = self.message() else {
                let hung_up = || Failure {
                    sqlstate: "-----".to_owned(),
                    message: "the server hung up".to_owned(),
                    hint: String::new(),
                    detail: String::new(),
                    context: String::new(),
                    by_server: false,
                };
                answer.error.get_or_insert_with(hung_up);
                return answer;
            };
            match tag {
                b'Z' => {
                    answer.status = body[0];
                    return answer;
                }
                b'T' => (answer.columns, answer.modifiers) = columns(&body),
                b't' => answer.parameters = body[2..].chunks_exact(4).map(number).collect(),
                b'D' => answer.rows.push(row(&body)),
                // A line of COPY.
                b'd' => answer.rows.push(vec![Some(body)]),
                b'C' => answer.tags.push(String::from_utf8_lossy(&body[..body.len() - 1]).into_owned()),
                b'N' => {
                    let notice = failure(&body);
                    answer.notices.push((notice.sqlstate, notice.message));
                }
                b'E' => {
                    answer.error.get_or_insert_with(|| failure(&body));
                }
                _ => {}
            }
        }
    }

    fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut chunk = [0; 16_384];
        loop {
            if let Some(length) = self.input.get(1..5).map(|it| number(it) as usize)
                && self.input.len() > length
            {
                let message: Vec<u8> = self.input.drain(..=length).collect();
                return Some((message[0], message[5..].to_vec()));
            }
            match self.stream.read(&mut chunk) {
                // A server that a test has killed sends a signal.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return None,
                Ok(read) => self.input.extend_from_slice(&chunk[..read]),
            }
        }
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

fn text(body: &mut Vec<u8>, value: &str) {
    body.extend_from_slice(value.as_bytes());
    body.push(0);
}

fn short(count: usize) -> [u8; 2] {
    u16::try_from(count).expect("few").to_be_bytes()
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("small");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

fn parse(name: &str, sql: &str, values: &[Value]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, name);
    text(&mut body, sql);
    body.extend(short(values.len()));
    body.extend(values.iter().flat_map(|it| it.oid.to_be_bytes()));
    message(b'P', &body)
}

fn bind(name: &str, values: &[Value], binary: bool) -> Vec<u8> {
    let mut body = vec![0];
    text(&mut body, name);
    body.extend(short(values.len()));
    body.extend(values.iter().flat_map(|it| short(usize::from(it.binary))));
    body.extend(short(values.len()));
    for value in values {
        let length = value.bytes.as_ref().map_or(-1, |it| i32::try_from(it.len()).expect("small"));
        body.extend(length.to_be_bytes());
        body.extend(value.bytes.iter().flatten());
    }
    body.extend(short(1));
    body.extend(short(usize::from(binary)));
    message(b'B', &body)
}

fn describe(what: u8, name: &str) -> Vec<u8> {
    let mut body = vec![what];
    text(&mut body, name);
    message(b'D', &body)
}

fn execute_and_sync() -> Vec<u8> {
    [message(b'E', &[0, 0, 0, 0, 0]), message(b'S', &[])].concat()
}

fn columns(body: &[u8]) -> (Option<Vec<(String, u32)>>, Vec<(u32, u16)>) {
    let mut rest = &body[2..];
    let (mut found, mut modifiers) = (Vec::new(), Vec::new());
    while let Some(end) = rest.iter().position(|it| *it == 0) {
        let name = String::from_utf8_lossy(&rest[..end]).into_owned();
        let fields = &rest[end + 1..];
        found.push((name, number(&fields[6..10])));
        modifiers.push((number(&fields[12..16]), u16::from_be_bytes([fields[16], fields[17]])));
        rest = &fields[18..];
    }
    (Some(found), modifiers)
}

fn row(body: &[u8]) -> Row {
    let mut rest = &body[2..];
    let mut cells = Vec::new();
    while !rest.is_empty() {
        let length = number(&rest[..4]);
        rest = &rest[4..];
        if length == u32::MAX {
            cells.push(None);
        } else {
            let (cell, after) = rest.split_at(length as usize);
            cells.push(Some(cell.to_vec()));
            rest = after;
        }
    }
    cells
}

fn failure(body: &[u8]) -> Failure {
    let field = |kind: u8| {
        let found = body.split(|it| *it == 0).find_map(|it| it.strip_prefix(&[kind]));
        found.map(|it| String::from_utf8_lossy(it).into_owned())
    };
    Failure {
        sqlstate: field(b'C').unwrap_or_default(),
        message: field(b'M').unwrap_or_default(),
        hint: field(b'H').unwrap_or_default(),
        detail: field(b'D').unwrap_or_default(),
        context: field(b'W').unwrap_or_default(),
        by_server: field(b'R').is_some(),
    }
}
