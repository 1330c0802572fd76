//! A client that says exactly the bytes it is told to, and writes down what comes back.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take before it counts as a hang.
pub const HANG: Duration = Duration::from_secs(20);

/// One connection.
pub struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
    /// What BackendKeyData said.
    pub key: Vec<u8>,
}

/// What ended a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing came in time.
    Hang(Vec<String>),
    /// The other side closed the connection.
    Closed(Vec<String>),
}

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut all = vec![kind];
    all.extend_from_slice(&u32::try_from(body.len() + 4).expect("a message fits").to_be_bytes());
    all.extend_from_slice(body);
    all
}

fn text(parts: &[&str]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.bytes().chain([0])).collect()
}

pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &text(&[sql]))
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    let mut body = text(&[name, sql]);
    body.extend_from_slice(&[0, 0]);
    message(b'P', &body)
}

pub fn bind(portal: &str, statement: &str, values: &[&str]) -> Vec<u8> {
    let mut body = text(&[portal, statement]);
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(&u16::try_from(values.len()).expect("few values").to_be_bytes());
    for value in values {
        body.extend_from_slice(&u32::try_from(value.len()).expect("it fits").to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    message(b'B', &body)
}

/// `kind` is D or C, `what` is S or P.
pub fn about(kind: u8, what: u8, name: &str) -> Vec<u8> {
    let mut body = vec![what];
    body.extend_from_slice(&text(&[name]));
    message(kind, &body)
}

pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    let mut body = text(&[portal]);
    body.extend_from_slice(&rows.to_be_bytes());
    message(b'E', &body)
}

pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

pub fn flush() -> Vec<u8> {
    message(b'H', &[])
}

impl Wire {
    /// Logs in as `demo`, without a password.
    pub fn connect(port: u16, database: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(HANG))?;
        stream.set_write_timeout(Some(HANG))?;
        stream.set_nodelay(true)?;
        let mut startup = 196_608_u32.to_be_bytes().to_vec();
        startup.extend(text(&["user", "demo", "database", database, "application_name", "sessions"]));
        startup.push(0);
        let mut wire = Self { stream, input: Vec::new(), key: Vec::new() };
        let length = u32::try_from(startup.len() + 4).expect("it fits");
        wire.say(&[&length.to_be_bytes(), &startup[..]].concat())?;
        loop {
            let (kind, body) = wire.message()?;
            match kind {
                b'K' => wire.key = body,
                b'Z' => return Ok(wire),
                b'E' => return Err(io::Error::other(describe(kind, &body))),
                _ => {}
            }
        }
    }

    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// A second handle on the same socket, for saying while another thread reads.
    pub fn mouth(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }

    pub fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            if let Some(&[kind, a, b, c, d]) = self.input.first_chunk::<5>() {
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                if self.input.len() > length {
                    let body = self.input[5..=length].to_vec();
                    self.input.drain(..=length);
                    return Ok((kind, body));
                }
            }
            let mut space = vec![0; 1 << 16];
            let count = self.stream.read(&mut space)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.input.extend_from_slice(&space[..count]);
        }
    }

    /// What comes up to and with the `count`th message of type `until`.
    pub fn hear(&mut self, until: u8, count: usize) -> Result<Vec<String>, Trouble> {
        let mut heard = Vec::new();
        let mut left = count;
        loop {
            match self.message() {
                Ok((kind, body)) => {
                    heard.push(describe(kind, &body));
                    if kind == until {
                        left -= 1;
                        if left == 0 {
                            return Ok(heard);
                        }
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(Trouble::Hang(heard));
                }
                Err(_) => return Err(Trouble::Closed(heard)),
            }
        }
    }

    /// One Query and everything that comes of it.
    pub fn ask(&mut self, sql: &str) -> Result<Vec<String>, Trouble> {
        self.say(&query(sql)).map_err(|_| Trouble::Closed(Vec::new()))?;
        self.hear(b'Z', 1)
    }

    /// The rows that a Query answers, cells joined by `|`.
    pub fn rows(&mut self, sql: &str) -> Vec<String> {
        let heard = self.ask(sql).unwrap_or_else(|trouble| panic!("{sql}: {trouble:?}"));
        if let Some(error) = heard.iter().find(|it| it.starts_with("E ")) {
            panic!("{sql}: {error}");
        }
        heard.iter().filter_map(|it| it.strip_prefix("D ")).map(str::to_owned).collect()
    }
}

/// One message in a line: its type, and what of it a driver acts upon.
pub fn describe(kind: u8, body: &[u8]) -> String {
    let shown = match kind {
        b'E' | b'N' => {
            let fields: Vec<(u8, String)> = body
                .split(|byte| *byte == 0)
                .filter_map(|field| field.split_first())
                .map(|(kind, value)| (*kind, String::from_utf8_lossy(value).into_owned()))
                .collect();
            let field = |wanted: u8| fields.iter().find(|(kind, _)| *kind == wanted).map_or("", |(_, text)| text);
            format!("{} {} # {}", field(b'V'), field(b'C'), field(b'M'))
        }
        b'C' | b'Z' => String::from_utf8_lossy(body).trim_end_matches('\0').to_owned(),
        b'S' => String::from_utf8_lossy(body).trim_end_matches('\0').replace('\0', "="),
        b'A' => String::from_utf8_lossy(body.get(4..).unwrap_or_default()).trim_end_matches('\0').replace('\0', "="),
        b'D' => cells(body).join("|"),
        b'T' => {
            let mut rest = &body[2..];
            let mut columns = Vec::new();
            while let Some(end) = rest.iter().position(|byte| *byte == 0) {
                let kind = u32::from_be_bytes([rest[end + 7], rest[end + 8], rest[end + 9], rest[end + 10]]);
                columns.push(format!("{}:{kind}", String::from_utf8_lossy(&rest[..end])));
                rest = &rest[end + 19..];
            }
            columns.join(" ")
        }
        b't' => format!("{body:?}"),
        b'd' => String::from_utf8_lossy(body).trim_end().to_owned(),
        _ => String::new(),
    };
    format!("{} {shown}", char::from(kind)).trim_end().to_owned()
}

fn cells(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut cells = Vec::new();
    while let Some(head) = rest.first_chunk::<4>() {
        rest = &rest[4..];
        match usize::try_from(i32::from_be_bytes(*head)) {
            Ok(length) => {
                let cell = &rest[..length];
                cells.push(if length > 200 {
                    format!("{length} bytes")
                } else {
                    String::from_utf8_lossy(cell).into_owned()
                });
                rest = &rest[length..];
            }
            Err(_) => cells.push("NULL".to_owned()),
        }
    }
    cells
}
