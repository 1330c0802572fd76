//! What servers send: builders of frames, and views over bodies.
//!
//! The views distrust servers as much as [`super::frontend`] distrusts clients: a merge must not index by what a
//! server says.

use super::Sink;
use super::Violation;
use super::read::Reader;
use super::write;
use crate::error::ClientError;

// ── errors and notices ──

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The session ends.
    Fatal,
    /// Something to know.
    Warning,
    /// Something to know, less so.
    Notice,
}

impl Severity {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Error => b"ERROR",
            Self::Fatal => b"FATAL",
            Self::Warning => b"WARNING",
            Self::Notice => b"NOTICE",
        }
    }
}

/// Appends an `ErrorResponse`. Long texts are cut and zero bytes left out: an error must always be sayable.
pub fn error(out: &mut impl Sink, severity: Severity, error: &ClientError) {
    report(out, b'E', severity, error.code.sqlstate(), error);
}

/// Appends a `NoticeResponse`.
pub fn notice(out: &mut impl Sink, severity: Severity, sqlstate: &str, message: &str, hint: Option<&str>) {
    let position = None;
    let fields = Texts { message, detail: None, hint, position };
    fields_of(out, b'N', severity, sqlstate, &fields);
}

fn report(out: &mut impl Sink, kind: u8, severity: Severity, sqlstate: &str, error: &ClientError) {
    let position = error.position.map(|it| it.to_string());
    let hint = Some(error.hint.as_str()).filter(|it| !it.is_empty());
    let fields =
        Texts { message: &error.message, detail: error.detail.as_deref(), hint, position: position.as_deref() };
    fields_of(out, kind, severity, sqlstate, &fields);
}

struct Texts<'a> {
    message: &'a str,
    detail: Option<&'a str>,
    hint: Option<&'a str>,
    position: Option<&'a str>,
}

fn fields_of(out: &mut impl Sink, kind: u8, severity: Severity, sqlstate: &str, texts: &Texts<'_>) {
    let mut body = Vec::with_capacity(texts.message.len() + 64);
    let fields = [
        (b'S', Some(severity.name())),
        (b'V', Some(severity.name())),
        (b'C', Some(sqlstate.as_bytes())),
        (b'M', Some(texts.message.as_bytes())),
        (b'D', texts.detail.map(str::as_bytes)),
        (b'H', texts.hint.map(str::as_bytes)),
        (b'P', texts.position.map(str::as_bytes)),
    ];
    for (field, text) in fields {
        let Some(text) = text else { continue };
        body.push(field);
        body.extend(text.iter().take(TEXT_MAX).filter(|it| **it != 0));
        body.push(0);
    }
    body.push(0);
    write::plain(out, kind, &body).expect("a few fields of at most 64 KiB each");
}

/// The fields of an `ErrorResponse` or a `NoticeResponse`. Any of them may be missing, whatever the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    fields: &'a [u8],
}

impl<'a> Report<'a> {
    /// Reads the body of an `E` or an `N`.
    ///
    /// # Errors
    /// When the body is malformed.
    pub fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(body, "ErrorResponse");
        while reader.u8()? != 0 {
            reader.string()?;
        }
        reader.end()?;
        Ok(Self { fields: body })
    }

    /// The fields in the server's order.
    pub fn fields(&self) -> impl Iterator<Item = (u8, &'a [u8])> + 'a {
        let mut fields = Reader::new(self.fields, "ErrorResponse");
        std::iter::from_fn(move || {
            let field = fields.u8().ok().filter(|it| *it != 0)?;
            Some((field, fields.string().ok()?))
        })
    }

    /// The first field of that letter.
    #[must_use]
    pub fn field(&self, letter: u8) -> Option<&'a [u8]> {
        self.fields().find(|it| it.0 == letter).map(|it| it.1)
    }

    /// `ERROR`, `FATAL` …, not translated where the server says that too.
    #[must_use]
    pub fn severity(&self) -> Option<&'a [u8]> {
        self.field(b'V').or_else(|| self.field(b'S'))
    }

    /// The SQLSTATE, if it is one.
    #[must_use]
    pub fn code(&self) -> Option<&'a str> {
        let code = self.field(b'C').and_then(|it| std::str::from_utf8(it).ok())?;
        (code.len() == 5 && code.bytes().all(|it| it.is_ascii_alphanumeric())).then_some(code)
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> Option<&'a [u8]> {
        self.field(b'M')
    }

    /// Whether the server ends the session by it.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity(), Some(b"FATAL" | b"PANIC"))
    }
}

// ── results ──

/// One column of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// The table it comes from; 0: none.
    pub table: u32,
    /// Its number in that table; 0: none.
    pub attribute: i16,
    /// Its type.
    pub type_oid: u32,
    /// The type's length; negative: it varies.
    pub type_length: i16,
    /// The type's modifier; −1: none.
    pub type_modifier: i32,
    /// 0 text, 1 binary.
    pub format: i16,
}

impl<'a> Column<'a> {
    /// A column of text, which comes from no table.
    #[must_use]
    pub fn text(name: &'a str) -> Self {
        Self::of(name, 25, -1)
    }

    /// A column of a type, in text format, which comes from no table.
    #[must_use]
    pub fn of(name: &'a str, type_oid: u32, type_length: i16) -> Self {
        let name = name.as_bytes();
        Self { name, table: 0, attribute: 0, type_oid, type_length, type_modifier: -1, format: 0 }
    }

    fn read(body: &mut Reader<'a>) -> Result<Self, Violation> {
        Ok(Self {
            name: body.string()?,
            table: body.u32()?,
            attribute: body.i16()?,
            type_oid: body.u32()?,
            type_length: body.i16()?,
            type_modifier: body.i32()?,
            format: body.i16()?,
        })
    }
}

/// Appends a `RowDescription`.
///
/// # Errors
/// A zero byte in a name, or more columns than a count can say.
pub fn row_description(out: &mut impl Sink, columns: &[Column<'_>]) -> Result<(), Violation> {
    write::frame(out, b'T', |out| {
        write::count(out, columns.len())?;
        for column in columns {
            write::string(out, column.name)?;
            out.put_u32(column.table);
            out.put_i16(column.attribute);
            out.put_u32(column.type_oid);
            out.put_i16(column.type_length);
            out.put_i32(column.type_modifier);
            out.put_i16(column.format);
        }
        Ok(())
    })
}

/// A `RowDescription`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowDescription<'a> {
    count: u16,
    columns: &'a [u8],
}

impl<'a> RowDescription<'a> {
    /// Reads the body of a `T`.
    ///
    /// # Errors
    /// When the body is malformed.
    pub fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Reader::new(body, "RowDescription");
        let count = body.u16()?;
        let mut ahead = body;
        for _ in 0..count {
            Column::read(&mut ahead)?;
        }
        ahead.end()?;
        Ok(Self { count, columns: body.all() })
    }

    /// How many columns there are.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The columns in order.
    pub fn columns(&self) -> impl Iterator<Item = Column<'a>> + 'a {
        let mut columns = Reader::new(self.columns, "RowDescription");
        (0..self.count).map_while(move |_| Column::read(&mut columns).ok())
    }
}

/// Appends a `DataRow`.
///
/// # Errors
/// More than lengths and counts can say.
pub fn data_row<T: AsRef<[u8]>>(out: &mut impl Sink, cells: &[Option<T>]) -> Result<(), Violation> {
    write::frame(out, b'D', |out| {
        write::count(out, cells.len())?;
        cells.iter().try_for_each(|it| write::value(out, it.as_ref().map(AsRef::as_ref)))
    })
}

/// A `DataRow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRow<'a> {
    count: u16,
    cells: &'a [u8],
}

impl<'a> DataRow<'a> {
    /// Reads the body of a `D`.
    ///
    /// # Errors
    /// When the body is malformed.
    pub fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Reader::new(body, "DataRow");
        let count = body.u16()?;
        let mut ahead = body;
        for _ in 0..count {
            ahead.value()?;
        }
        ahead.end()?;
        Ok(Self { count, cells: body.all() })
    }

    /// How many cells there are.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The cells in order; `None` is NULL.
    pub fn cells(&self) -> impl Iterator<Item = Option<&'a [u8]>> + 'a {
        let mut cells = Reader::new(self.cells, "DataRow");
        (0..self.count).map_while(move |_| cells.value().ok())
    }
}

/// Appends a `CommandComplete`.
///
/// # Errors
/// A zero byte in the tag.
pub fn command_complete(out: &mut impl Sink, tag: &str) -> Result<(), Violation> {
    write::frame(out, b'C', |out| write::string(out, tag.as_bytes()))
}

/// Reads the body of a `C` that a server sent (`CommandComplete`): its tag, such as `INSERT 0 3`.
///
/// # Errors
/// When the body is malformed.
pub fn tag(body: &[u8]) -> Result<&[u8], Violation> {
    let mut body = Reader::new(body, "CommandComplete");
    let tag = body.string()?;
    body.end()?;
    Ok(tag)
}

/// The number of rows that a tag ends with, if it does.
///
/// ```
/// # use shardway::wire::postgres::backend::tag_rows;
/// assert_eq!(tag_rows(b"INSERT 0 3"), Some(3));
/// assert_eq!(tag_rows(b"CREATE TABLE"), None);
/// ```
#[must_use]
pub fn tag_rows(tag: &[u8]) -> Option<u64> {
    let number = tag.rsplit(|it| *it == b' ').next().filter(|it| it.len() < tag.len())?;
    std::str::from_utf8(number).ok().filter(|it| it.bytes().all(|it| it.is_ascii_digit()))?.parse().ok()
}

/// Appends a `ReadyForQuery` with the status `I`, `T` or `E`.
pub fn ready(out: &mut impl Sink, status: u8) {
    out.put_slice(&[b'Z', 0, 0, 0, 5, status]);
}

/// Appends a `ParseComplete`.
pub fn parse_complete(out: &mut impl Sink) {
    write::empty(out, b'1');
}

/// Appends a `BindComplete`.
pub fn bind_complete(out: &mut impl Sink) {
    write::empty(out, b'2');
}

/// Appends a `CloseComplete`.
pub fn close_complete(out: &mut impl Sink) {
    write::empty(out, b'3');
}

/// Appends a `NoData`.
pub fn no_data(out: &mut impl Sink) {
    write::empty(out, b'n');
}

/// Appends an `EmptyQueryResponse`.
pub fn empty_query(out: &mut impl Sink) {
    write::empty(out, b'I');
}

/// Appends a `PortalSuspended`.
pub fn portal_suspended(out: &mut impl Sink) {
    write::empty(out, b's');
}

/// Appends a `ParameterDescription`.
///
/// # Errors
/// More types than a count can say.
pub fn parameter_description(out: &mut impl Sink, types: &[u32]) -> Result<(), Violation> {
    write::frame(out, b't', |out| {
        write::count(out, types.len())?;
        types.iter().for_each(|it| out.put_u32(*it));
        Ok(())
    })
}

/// Reads the body of a `t` (`ParameterDescription`): the types of a statement's parameters.
///
/// # Errors
/// When the body is malformed.
pub fn parameter_types(body: &[u8]) -> Result<impl ExactSizeIterator<Item = u32> + '_, Violation> {
    let mut body = Reader::new(body, "ParameterDescription");
    let count = usize::from(body.u16()?);
    let types = body.take(count * 4)?;
    body.end()?;
    Ok(types.as_chunks::<4>().0.iter().map(|it| u32::from_be_bytes(*it)))
}

// ── COPY and notifications ──

/// `CopyInResponse`, `CopyOutResponse`, `CopyBothResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyResponse<'a> {
    /// 0 text, 1 binary.
    pub format: u8,
    columns: &'a [u8],
}

impl<'a> CopyResponse<'a> {
    /// Reads the body of a `G`, an `H` or a `W`.
    ///
    /// # Errors
    /// When the body is malformed.
    pub fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Reader::new(body, "CopyResponse");
        let format = body.u8()?;
        let count = usize::from(body.u16()?);
        let columns = body.take(count * 2)?;
        body.end()?;
        Ok(Self { format, columns })
    }

    /// How many columns each row has.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns.len() / 2
    }
}

/// `NotificationResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    /// Who sent it.
    pub pid: u32,
    /// On which channel.
    pub channel: &'a [u8],
    /// What it says.
    pub payload: &'a [u8],
}

impl<'a> Notification<'a> {
    /// Reads the body of an `A`.
    ///
    /// # Errors
    /// When the body is malformed.
    pub fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Reader::new(body, "NotificationResponse");
        let (pid, channel, payload) = (body.u32()?, body.string()?, body.string()?);
        body.end()?;
        Ok(Self { pid, channel, payload })
    }
}

// ── login ──

/// Appends a `ParameterStatus`.
///
/// # Errors
/// A zero byte in the name or the value.
pub fn parameter_status(out: &mut impl Sink, name: &str, value: &str) -> Result<(), Violation> {
    write::frame(out, b'S', |out| {
        write::string(out, name.as_bytes())?;
        write::string(out, value.as_bytes())
    })
}

/// Reads the body of an `S` that a server sent (`ParameterStatus`): a name and a value.
///
/// # Errors
/// When the body is malformed.
pub fn parameter(body: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let mut body = Reader::new(body, "ParameterStatus");
    let (name, value) = (body.string()?, body.string()?);
    body.end()?;
    Ok((name, value))
}

/// Appends a `BackendKeyData`.
///
/// # Errors
/// A key longer than the 256 bytes of the protocol, or shorter than four.
pub fn key_data(out: &mut impl Sink, pid: u32, key: &[u8]) -> Result<(), Violation> {
    if !(4..=256).contains(&key.len()) {
        return Err(Violation::Body { message: "BackendKeyData", why: "has a key of an impossible length" });
    }
    write::frame(out, b'K', |out| {
        out.put_u32(pid);
        out.put_slice(key);
        Ok(())
    })
}

/// Reads the body of a `K` (`BackendKeyData`): a process and the key to cancel what it runs.
///
/// # Errors
/// When the body is malformed.
pub fn cancel_key(body: &[u8]) -> Result<(u32, &[u8]), Violation> {
    let mut body = Reader::new(body, "BackendKeyData");
    let pid = body.u32()?;
    let key = body.all();
    if !(4..=256).contains(&key.len()) {
        return Err(body.wrong("has a key of an impossible length"));
    }
    Ok((pid, key))
}

/// What a server asks for at login, or says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// Done.
    Ok,
    /// The password as it is.
    Cleartext,
    /// The password hashed with this salt.
    Md5 {
        /// The salt.
        salt: [u8; 4],
    },
    /// One of these mechanisms.
    Sasl {
        /// Their names, the server's favourite first.
        mechanisms: Vec<&'a [u8]>,
    },
    /// The mechanism's next message.
    SaslContinue {
        /// That message.
        data: &'a [u8],
    },
    /// The mechanism's last message.
    SaslFinal {
        /// That message.
        data: &'a [u8],
    },
    /// Something else: Kerberos, GSSAPI, SSPI.
    Other {
        /// Its number.
        code: u32,
    },
}

impl<'a> Authentication<'a> {
    /// Reads the body of an `R`.
    ///
    /// # Errors
    /// When the body is malformed.
    pub fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Reader::new(body, "Authentication");
        let it = match body.u32()? {
            0 => Self::Ok,
            3 => Self::Cleartext,
            5 => {
                let salt = body.take(4)?;
                Self::Md5 { salt: *salt.first_chunk().expect("four bytes were taken") }
            }
            10 => {
                let mut mechanisms = Vec::new();
                loop {
                    match body.string()? {
                        b"" => break,
                        // A server has two of them; this only bounds what a hostile one makes us hold.
                        _ if mechanisms.len() == 32 => return Err(body.wrong("names too many mechanisms")),
                        name => mechanisms.push(name),
                    }
                }
                Self::Sasl { mechanisms }
            }
            11 => Self::SaslContinue { data: body.all() },
            12 => Self::SaslFinal { data: body.all() },
            code => {
                body.all();
                Self::Other { code }
            }
        };
        body.end()?;
        Ok(it)
    }
}

/// Appends an `AuthenticationOk`.
pub fn authentication_ok(out: &mut impl Sink) {
    out.put_slice(&[b'R', 0, 0, 0, 8, 0, 0, 0, 0]);
}

/// Appends an `AuthenticationSASL`.
///
/// # Errors
/// A zero byte in a name.
pub fn authentication_sasl(out: &mut impl Sink, mechanisms: &[&str]) -> Result<(), Violation> {
    write::frame(out, b'R', |out| {
        out.put_u32(10);
        mechanisms.iter().try_for_each(|it| write::string(out, it.as_bytes()))?;
        out.put_u8(0);
        Ok(())
    })
}

/// Appends an `AuthenticationSASLContinue`.
///
/// # Errors
/// More data than a length can say.
pub fn sasl_continue(out: &mut impl Sink, data: &[u8]) -> Result<(), Violation> {
    numbered(out, 11, data)
}

/// Appends an `AuthenticationSASLFinal`.
///
/// # Errors
/// More data than a length can say.
pub fn sasl_final(out: &mut impl Sink, data: &[u8]) -> Result<(), Violation> {
    numbered(out, 12, data)
}

fn numbered(out: &mut impl Sink, code: u32, data: &[u8]) -> Result<(), Violation> {
    write::frame(out, b'R', |out| {
        out.put_u32(code);
        out.put_slice(data);
        Ok(())
    })
}

/// Appends a `NegotiateProtocolVersion`: the newest minor version that is spoken, and the extensions that are not.
///
/// # Errors
/// A zero byte in a name.
pub fn negotiate_version(out: &mut impl Sink, minor: u16, unknown: &[&[u8]]) -> Result<(), Violation> {
    write::frame(out, b'v', |out| {
        // Servers send the whole version number here, and drivers expect it.
        out.put_u32(3 << 16 | u32::from(minor));
        out.put_u32(u32::try_from(unknown.len()).map_err(|_| Violation::TooMany { count: unknown.len() })?);
        unknown.iter().try_for_each(|it| write::string(out, it))
    })
}

/// The longest text of an error that is the proxy's own.
const TEXT_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use pgwire::messages::DecodeContext;
    use pgwire::messages::PgWireBackendMessage;
    use pgwire::messages::ProtocolVersion;

    use super::super::frame::Scan;
    use super::*;
    use crate::error::Code;

    fn body(build: impl FnOnce(&mut Vec<u8>) -> Result<(), Violation>) -> Vec<u8> {
        let mut out = vec![];
        build(&mut out).unwrap();
        let seen = Scan::forwarding().next(&out, &mut 0);
        assert!(matches!(seen, Ok(Some(_)) | Ok(None)), "{seen:?}");
        assert_eq!(usize::try_from(i32::from_be_bytes(*out[1..].first_chunk().unwrap())).unwrap() + 1, out.len());
        out.split_off(5)
    }

    #[test]
    fn what_is_built_is_read_back() {
        let columns = [Column::text("name"), Column::of("n", 23, 4)];
        let it = body(|out| row_description(out, &columns));
        let it = RowDescription::read(&it).unwrap();
        assert_eq!((it.count(), it.columns().collect::<Vec<_>>()), (2, columns.to_vec()));
        let it = body(|out| data_row(out, &[Some("x"), None, Some("")]));
        let it = DataRow::read(&it).unwrap();
        assert_eq!(it.cells().collect::<Vec<_>>(), vec![Some(&b"x"[..]), None, Some(&b""[..])]);
        assert_eq!(tag(&body(|out| command_complete(out, "UPDATE 7"))), Ok(&b"UPDATE 7"[..]));
        let it = body(|out| parameter_status(out, "TimeZone", "UTC"));
        assert_eq!(parameter(&it), Ok((&b"TimeZone"[..], &b"UTC"[..])));
        assert_eq!(cancel_key(&body(|out| key_data(out, 5, &[9; 32]))), Ok((5, &[9; 32][..])));
        let it = body(|out| parameter_description(out, &[20, 25]));
        assert_eq!(parameter_types(&it).unwrap().collect::<Vec<_>>(), vec![20, 25]);
        let it = body(|out| authentication_sasl(out, &["A", "B"]));
        assert_eq!(Authentication::read(&it), Ok(Authentication::Sasl { mechanisms: vec![b"A", b"B"] }));
        let it = body(|out| sasl_final(out, b"v=x"));
        assert_eq!(Authentication::read(&it), Ok(Authentication::SaslFinal { data: b"v=x" }));
    }

    #[test]
    fn an_error_says_it_all_and_is_always_sayable() {
        let it = ClientError::new(Code::ShardKeyMissing, "no\0 key", "Name it.").with_detail("why").at(Some(8));
        let it = body(|out| {
            error(out, Severity::Error, &it);
            Ok(())
        });
        let it = Report::read(&it).unwrap();
        let fields: Vec<_> = it.fields().map(|(letter, text)| (char::from(letter), text)).collect();
        let expected: Vec<(char, &[u8])> = vec![
            ('S', b"ERROR"),
            ('V', b"ERROR"),
            ('C', b"22004"),
            ('M', b"no key"),
            ('D', b"why"),
            ('H', b"Name it."),
            ('P', b"8"),
        ];
        assert_eq!(fields, expected);
        assert_eq!((it.code(), it.is_fatal()), (Some("22004"), false));
        let long = ClientError::new(Code::Internal, "é".repeat(1 << 20), "");
        let it = body(|out| {
            error(out, Severity::Fatal, &long);
            Ok(())
        });
        assert!(it.len() < 1 << 17);
        assert!(Report::read(&it).unwrap().is_fatal());
    }

    #[test]
    fn reports_of_servers_may_lack_anything() {
        for (bytes, code) in [
            (&b"\0"[..], None),
            (b"SERROR\0\0", None),
            (b"C\0\0", None),
            (b"C123456\0\0", None),
            (b"C42P01\0C42601\0\0", Some("42P01")),
            (b"C\xff\xff\xff\xff\xff\0\0", None),
        ] {
            let it = Report::read(bytes).unwrap();
            assert_eq!(it.code(), code);
            assert!(!it.is_fatal());
        }
        for bytes in [&b""[..], b"SERROR", b"SERROR\0", b"SERROR\0C", b"\0\0", b"SERROR\0\0x"] {
            assert!(Report::read(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn hostile_counts_and_lengths_are_refused() {
        let long_value = [&1_u16.to_be_bytes()[..], &i32::MAX.to_be_bytes(), b"x"].concat();
        let negative = [&1_u16.to_be_bytes()[..], &(-2_i32).to_be_bytes()].concat();
        for bytes in [&b""[..], b"\xff", b"\xff\xff", b"\0\0x", &long_value, &negative] {
            assert!(DataRow::read(bytes).is_err(), "{bytes:?}");
            assert!(RowDescription::read(bytes).is_err(), "{bytes:?}");
        }
        for bytes in [&b""[..], b"\xff", b"\xff\xff", b"\0\0x", &long_value] {
            assert!(parameter_types(bytes).is_err(), "{bytes:?}");
            assert!(CopyResponse::read(bytes).is_err(), "{bytes:?}");
        }
        for bytes in [&b""[..], b"\0\0\0\x05abc", b"\0\0\0\x0aSCRAM", b"\0\0\0\0x"] {
            assert!(Authentication::read(bytes).is_err(), "{bytes:?}");
        }
        assert!(Authentication::read(&[&[0, 0, 0, 10][..], &b"x\0".repeat(40), b"\0"].concat()).is_err());
        assert!(cancel_key(&[0; 7]).is_err());
        assert!(cancel_key(&[0; 261]).is_err());
    }

    #[test]
    fn tags_are_read_with_care() {
        for (tag, rows) in [
            (&b"SELECT 5"[..], Some(5)),
            (b"INSERT 0 12", Some(12)),
            (b"COPY 18446744073709551616", None),
            (b"BEGIN", None),
            (b"", None),
            (b"5", None),
            (b"SELECT +5", None),
            (b"SELECT ", None),
        ] {
            assert_eq!(tag_rows(tag), rows, "{tag:?}");
        }
    }

    /// pgwire is another reading of the same protocol: it must find in our frames what we put there.
    #[test]
    fn another_implementation_reads_the_same() {
        let mut out = BytesMut::new();
        let refusal = ClientError::new(Code::Unsupported, "not here", "Do it there.");
        error(&mut out, Severity::Error, &refusal);
        row_description(&mut out, &[Column::text("a")]).unwrap();
        data_row(&mut out, &[Some("1")]).unwrap();
        command_complete(&mut out, "SELECT 1").unwrap();
        ready(&mut out, b'T');
        parameter_status(&mut out, "x", "y").unwrap();
        key_data(&mut out, 1, &[1, 2, 3, 4]).unwrap();
        authentication_sasl(&mut out, &["SCRAM-SHA-256"]).unwrap();
        parameter_description(&mut out, &[20]).unwrap();
        let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
        let mut kinds = vec![];
        while let Some(message) = PgWireBackendMessage::decode(&mut out, &context).unwrap() {
            kinds.push(format!("{message:?}").split(['(', ' ']).next().unwrap().to_owned());
            if let PgWireBackendMessage::ErrorResponse(it) = &message {
                assert!(it.fields.contains(&(b'C', "0A000".into())));
                assert!(it.fields.contains(&(b'H', "Do it there.".into())));
            }
        }
        assert!(out.is_empty());
        assert_eq!(kinds.len(), 9, "{kinds:?}");
    }
}
