//! What clients send: views over bodies, and builders of frames.
//!
//! A view borrows the body and exists only if the body was well-formed to its last byte, so its accessors cannot fail.
//! Strings are bytes: the client's encoding need not be UTF-8, and what is forwarded must not change.

use super::Sink;
use super::Violation;
use super::frame::Frame;
use super::read::Reader;
use super::write;

// ── startup ──

/// The first packet on a connection, which has no type byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Startup<'a> {
    /// Asks for TLS.
    Tls,
    /// Asks for GSSAPI encryption.
    Gss,
    /// Asks to cancel what another connection runs.
    Cancel {
        /// The process that it was told.
        pid: u32,
        /// The key that it was told: 4 bytes, up to 256 since protocol 3.2.
        key: &'a [u8],
    },
    /// Opens a session of protocol 3.
    Session(Session<'a>),
}

/// `StartupMessage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session<'a> {
    /// The minor version asked for.
    pub minor: u16,
    /// Names and values, in the client's order and with repeats.
    pub parameters: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Session<'a> {
    /// The last value given for `name`, which is the one that counts.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&'a [u8]> {
        self.parameters.iter().rev().find(|it| it.0 == name.as_bytes()).map(|it| it.1)
    }

    /// The names of protocol extensions that were asked for.
    pub fn extensions(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.parameters.iter().map(|it| it.0).filter(|it| it.starts_with(b"_pq_."))
    }
}

impl<'a> Startup<'a> {
    /// Cuts the packet off a connection's first bytes; the number is its length. `None`: it is not whole yet.
    ///
    /// # Errors
    /// A packet shorter than its header or longer than [`STARTUP_MAX`], a version other than 3, malformed parameters.
    pub fn cut(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, Violation> {
        let Some(head) = bytes.first_chunk::<4>() else { return Ok(None) };
        let length = i32::from_be_bytes(*head);
        let size = usize::try_from(length).ok().filter(|it| *it >= 8);
        let size = size.ok_or(Violation::Length { kind: 0, length })?;
        if size > STARTUP_MAX {
            return Err(Violation::TooLong { kind: 0, length: size, limit: STARTUP_MAX });
        }
        match bytes.get(4..size) {
            Some(body) => Ok(Some((Self::read(body)?, size))),
            None => Ok(None),
        }
    }

    fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Reader::new(body, "startup");
        let (major, minor) = (body.u16()?, body.u16()?);
        match (major, minor) {
            (1234, 5678) => {
                let pid = body.u32()?;
                let key = body.all();
                if !(4..=256).contains(&key.len()) {
                    return Err(body.wrong("has a cancel key of an impossible length"));
                }
                Ok(Self::Cancel { pid, key })
            }
            (1234, 5679) => body.end().map(|()| Self::Tls),
            (1234, 5680) => body.end().map(|()| Self::Gss),
            (3, _) => {
                let mut parameters = Vec::new();
                loop {
                    match body.string()? {
                        b"" => break,
                        name => parameters.push((name, body.string()?)),
                    }
                }
                body.end()?;
                Ok(Self::Session(Session { minor, parameters }))
            }
            _ => Err(Violation::Version { major, minor }),
        }
    }
}

/// The longest startup packet: as on the servers.
pub const STARTUP_MAX: usize = 10_000;

// ── views ──

/// `Query`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The text.
    pub text: &'a [u8],
}

impl<'a> Query<'a> {
    /// Reads the body of a `Q`.
    ///
    /// # Errors
    /// When the body is malformed.
    pub fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Reader::new(body, "Query");
        let text = body.text()?;
        body.end()?;
        Ok(Self { text })
    }
}

/// `Parse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty: the unnamed one.
    pub name: &'a [u8],
    /// The text.
    pub text: &'a [u8],
    types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads the body of a `P`.
    ///
    /// # Errors
    /// When the body is malformed.
    pub fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Reader::new(body, "Parse");
        let (name, text) = (body.string()?, body.text()?);
        let count = usize::from(body.u16()?);
        let types = body.take(count * 4)?;
        body.end()?;
        Ok(Self { name, text, types })
    }

    /// The types of the first parameters, as far as they were given; 0: the server finds it out.
    pub fn types(&self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.types.as_chunks::<4>().0.iter().map(|it| u32::from_be_bytes(*it))
    }

    /// The same as they stand in the body: part of what tells two statements of one text apart.
    #[must_use]
    pub fn type_bytes(&self) -> &'a [u8] {
        self.types
    }
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As text.
    Text,
    /// In the type's binary form.
    Binary,
    /// By a code that does not exist (yet).
    Unknown(i16),
}

impl Format {
    fn of(code: i16) -> Self {
        match code {
            0 => Self::Text,
            1 => Self::Binary,
            other => Self::Unknown(other),
        }
    }
}

/// The formats of a message's values: none stands for text throughout, one for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats<'a>(&'a [u8]);

impl<'a> Formats<'a> {
    fn read(body: &mut Reader<'a>) -> Result<Self, Violation> {
        let count = usize::from(body.u16()?);
        body.take(count * 2).map(Self)
    }

    /// How many were given.
    #[must_use]
    pub fn given(&self) -> usize {
        self.0.len() / 2
    }

    /// The format of the value at `index`.
    #[must_use]
    pub fn at(&self, index: usize) -> Format {
        let codes = self.0.as_chunks::<2>().0;
        let place = if codes.len() == 1 { 0 } else { index };
        codes.get(place).map_or(Format::Text, |it| Format::of(i16::from_be_bytes(*it)))
    }

    /// The codes as they stand in the body.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// `Bind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal's name.
    pub portal: &'a [u8],
    /// The statement's name.
    pub statement: &'a [u8],
    /// The formats of the parameters.
    pub formats: Formats<'a>,
    /// The formats asked for the result.
    pub results: Formats<'a>,
    count: u16,
    values: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Reads the body of a `B`.
    ///
    /// # Errors
    /// When the body is malformed, or gives formats for another number of parameters than it has.
    pub fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Reader::new(body, "Bind");
        let (portal, statement) = (body.string()?, body.string()?);
        let formats = Formats::read(&mut body)?;
        let count = body.u16()?;
        if formats.given() > 1 && formats.given() != usize::from(count) {
            return Err(body.wrong("has another number of formats than of parameters"));
        }
        let mut ahead = body;
        let mut size = 0_usize;
        for _ in 0..count {
            // No wrap: all of it lies within one body.
            size += 4 + ahead.value()?.map_or(0, <[u8]>::len);
        }
        let values = body.take(size)?;
        let results = Formats::read(&mut body)?;
        body.end()?;
        Ok(Self { portal, statement, formats, results, count, values })
    }

    /// How many parameters there are.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The parameters in order; `None` is NULL.
    pub fn values(&self) -> impl Iterator<Item = Option<&'a [u8]>> + 'a {
        let mut values = Reader::new(self.values, "Bind");
        // They were all read once before: `ok` ends nothing early.
        (0..self.count).map_while(move |_| values.value().ok())
    }

    /// The parameter at `index` (from 0) and its format; the inner `None` is NULL, the outer: there is none.
    #[must_use]
    pub fn value(&self, index: usize) -> Option<(Format, Option<&'a [u8]>)> {
        self.values().nth(index).map(|it| (self.formats.at(index), it))
    }
}

/// What `Describe` and `Close` speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal.
    Portal(&'a [u8]),
}

impl<'a> Target<'a> {
    /// Reads the body of a `D` or a `C`.
    ///
    /// # Errors
    /// When the body is malformed.
    pub fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Reader::new(body, "Describe or Close");
        let kind = body.u8()?;
        let name = body.string()?;
        body.end()?;
        match kind {
            b'S' => Ok(Self::Statement(name)),
            b'P' => Ok(Self::Portal(name)),
            _ => Err(body.wrong("names neither a statement nor a portal")),
        }
    }

    fn parts(&self) -> (u8, &'a [u8]) {
        match self {
            Self::Statement(name) => (b'S', name),
            Self::Portal(name) => (b'P', name),
        }
    }
}

/// `Execute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The portal's name.
    pub portal: &'a [u8],
    /// How many rows at most; 0 or less: all.
    pub rows_max: i32,
}

impl<'a> Execute<'a> {
    /// Reads the body of an `E`.
    ///
    /// # Errors
    /// When the body is malformed.
    pub fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Reader::new(body, "Execute");
        let (portal, rows_max) = (body.string()?, body.i32()?);
        body.end()?;
        Ok(Self { portal, rows_max })
    }
}

/// Reads the body of an `f` (`CopyFail`): the client's reason.
///
/// # Errors
/// When the body is malformed.
pub fn copy_fail(body: &[u8]) -> Result<&[u8], Violation> {
    one_string(body, "CopyFail")
}

/// Reads the body of a `p` as a password.
///
/// # Errors
/// When the body is malformed.
pub fn password(body: &[u8]) -> Result<&[u8], Violation> {
    one_string(body, "password")
}

fn one_string<'a>(body: &'a [u8], what: &'static str) -> Result<&'a [u8], Violation> {
    let mut body = Reader::new(body, what);
    let text = body.string()?;
    body.end()?;
    Ok(text)
}

/// Reads the body of a `p` as the first message of a SASL exchange. (The later ones are bare data.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslInitial<'a> {
    /// The mechanism that was chosen.
    pub mechanism: &'a [u8],
    /// The mechanism's first message, if it came along.
    pub data: Option<&'a [u8]>,
}

impl<'a> SaslInitial<'a> {
    /// Reads the body.
    ///
    /// # Errors
    /// When the body is malformed.
    pub fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let mut body = Reader::new(body, "SASL");
        let (mechanism, data) = (body.string()?, body.value()?);
        body.end()?;
        Ok(Self { mechanism, data })
    }
}

// ── builders ──
//
// They fail on a zero byte within a string, and on what no length can say; nothing is appended then.

/// Appends a `Query`.
///
/// # Errors
/// A zero byte in the text, or more of it than a length can say.
pub fn query(out: &mut impl Sink, text: &[u8]) -> Result<(), Violation> {
    write::frame(out, b'Q', |out| write::string(out, text))
}

/// Appends a `Parse`.
///
/// # Errors
/// A zero byte in a string, or more than lengths and counts can say.
pub fn parse(out: &mut impl Sink, name: &[u8], text: &[u8], types: &[u32]) -> Result<(), Violation> {
    write::frame(out, b'P', |out| {
        write::string(out, name)?;
        write::string(out, text)?;
        write::count(out, types.len())?;
        types.iter().for_each(|it| out.put_u32(*it));
        Ok(())
    })
}

/// Appends a `Bind`. Formats are codes: 0 text, 1 binary; none stands for text throughout, one for all.
///
/// # Errors
/// A zero byte in a name, or more than lengths and counts can say.
pub fn bind(
    out: &mut impl Sink,
    portal: &[u8],
    statement: &[u8],
    formats: &[i16],
    values: &[Option<&[u8]>],
    results: &[i16],
) -> Result<(), Violation> {
    write::frame(out, b'B', |out| {
        write::string(out, portal)?;
        write::string(out, statement)?;
        write::count(out, formats.len())?;
        formats.iter().for_each(|it| out.put_i16(*it));
        write::count(out, values.len())?;
        values.iter().try_for_each(|it| write::value(out, *it))?;
        write::count(out, results.len())?;
        results.iter().for_each(|it| out.put_i16(*it));
        Ok(())
    })
}

/// Appends a `Describe`.
///
/// # Errors
/// A zero byte in the name.
pub fn describe(out: &mut impl Sink, target: Target<'_>) -> Result<(), Violation> {
    on_target(out, b'D', target)
}

/// Appends a `Close`.
///
/// # Errors
/// A zero byte in the name.
pub fn close(out: &mut impl Sink, target: Target<'_>) -> Result<(), Violation> {
    on_target(out, b'C', target)
}

fn on_target(out: &mut impl Sink, kind: u8, target: Target<'_>) -> Result<(), Violation> {
    let (what, name) = target.parts();
    write::frame(out, kind, |out| {
        out.put_u8(what);
        write::string(out, name)
    })
}

/// Appends an `Execute`.
///
/// # Errors
/// A zero byte in the name.
pub fn execute(out: &mut impl Sink, portal: &[u8], rows_max: i32) -> Result<(), Violation> {
    write::frame(out, b'E', |out| {
        write::string(out, portal)?;
        out.put_i32(rows_max);
        Ok(())
    })
}

/// Appends a `Sync`.
pub fn sync(out: &mut impl Sink) {
    write::empty(out, b'S');
}

/// Appends a `Flush`.
pub fn flush(out: &mut impl Sink) {
    write::empty(out, b'H');
}

/// Appends a `Terminate`.
pub fn terminate(out: &mut impl Sink) {
    write::empty(out, b'X');
}

/// Appends a `CopyDone`.
pub fn copy_done(out: &mut impl Sink) {
    write::empty(out, b'c');
}

/// Appends a `CopyData`.
///
/// # Errors
/// More data than a length can say.
pub fn copy_data(out: &mut impl Sink, data: &[u8]) -> Result<(), Violation> {
    write::plain(out, b'd', data)
}

/// Appends a `CopyFail`.
///
/// # Errors
/// A zero byte in the reason.
pub fn build_copy_fail(out: &mut impl Sink, reason: &[u8]) -> Result<(), Violation> {
    write::frame(out, b'f', |out| write::string(out, reason))
}

/// Appends a `PasswordMessage`.
///
/// # Errors
/// A zero byte in the password.
pub fn build_password(out: &mut impl Sink, password: &[u8]) -> Result<(), Violation> {
    write::frame(out, b'p', |out| write::string(out, password))
}

/// Appends a `SASLInitialResponse`.
///
/// # Errors
/// A zero byte in the mechanism's name.
pub fn sasl_initial(out: &mut impl Sink, mechanism: &str, data: &[u8]) -> Result<(), Violation> {
    write::frame(out, b'p', |out| {
        write::string(out, mechanism.as_bytes())?;
        write::value(out, Some(data))
    })
}

/// Appends a `SASLResponse`.
///
/// # Errors
/// More data than a length can say.
pub fn sasl_response(out: &mut impl Sink, data: &[u8]) -> Result<(), Violation> {
    write::plain(out, b'p', data)
}

/// Appends a `StartupMessage` of protocol 3.0.
///
/// # Errors
/// A zero byte in a name or value, an empty name, or more than [`STARTUP_MAX`] bytes.
pub fn startup(out: &mut impl Sink, parameters: &[(&str, &str)]) -> Result<(), Violation> {
    let start = out.held();
    let result = write::counted(out, 0, |out| {
        out.put_u32(3 << 16);
        for (name, value) in parameters {
            if name.is_empty() {
                return Err(Violation::Body { message: "startup", why: "has a parameter without a name" });
            }
            write::string(out, name.as_bytes())?;
            write::string(out, value.as_bytes())?;
        }
        out.put_u8(0);
        let length = out.held().saturating_sub(start);
        if length > STARTUP_MAX { Err(Violation::TooLong { kind: 0, length, limit: STARTUP_MAX }) } else { Ok(()) }
    });
    if result.is_err() {
        out.cut_back(start);
    }
    result
}

/// The packet that asks for TLS.
pub const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Appends a `CancelRequest`.
///
/// # Errors
/// A key that no server gave out: more than 256 bytes.
pub fn cancel_request(out: &mut impl Sink, pid: u32, key: &[u8]) -> Result<(), Violation> {
    if !(4..=256).contains(&key.len()) {
        return Err(Violation::Body { message: "startup", why: "has a cancel key of an impossible length" });
    }
    write::counted(out, 0, |out| {
        out.put_u16(1234);
        out.put_u16(5678);
        out.put_u32(pid);
        out.put_slice(key);
        Ok(())
    })
}

// ── the same message under another statement name ──

/// Appends `frame`, a Parse, Bind, Describe or Close, with `name` for its statement's name; the rest is copied unread.
///
/// # Errors
/// A malformed beginning, a Describe or Close of a portal, another type, a zero byte in `name`, or a result that no
/// length can say.
pub fn with_statement(out: &mut impl Sink, frame: &Frame<'_>, name: &[u8]) -> Result<(), Violation> {
    let mut body = Reader::new(frame.body, "renamed");
    let before = match frame.kind {
        b'P' => 0,
        b'B' => body.string()?.len() + 1,
        b'D' | b'C' if body.u8()? == b'S' => 1,
        _ => return Err(body.wrong("has no statement to rename")),
    };
    let before = frame.body.get(..before).expect("that much was read");
    body.string()?;
    write::frame(out, frame.kind, |out| {
        out.put_slice(before);
        write::string(out, name)?;
        out.put_slice(body.all());
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::super::frame;
    use super::*;

    fn body(build: impl FnOnce(&mut Vec<u8>) -> Result<(), Violation>) -> Vec<u8> {
        let mut out = vec![];
        build(&mut out).unwrap();
        frame::cut(&out, 1 << 20).unwrap().unwrap().body.to_vec()
    }

    #[test]
    fn what_is_built_is_read_back() {
        let it = body(|out| query(out, b"SELECT 1"));
        assert_eq!(Query::read(&it).unwrap().text, b"SELECT 1");
        let it = body(|out| parse(out, b"s", b"SELECT $1", &[20, 0]));
        let it = Parse::read(&it).unwrap();
        assert_eq!((it.name, it.text, it.types().collect::<Vec<_>>()), (&b"s"[..], &b"SELECT $1"[..], vec![20, 0]));
        let it = body(|out| bind(out, b"p", b"s", &[0, 1, 1], &[Some(b"x"), None, Some(b"")], &[1]));
        let it = Bind::read(&it).unwrap();
        assert_eq!((it.portal, it.statement, it.count()), (&b"p"[..], &b"s"[..], 3));
        assert_eq!(it.values().collect::<Vec<_>>(), vec![Some(&b"x"[..]), None, Some(&b""[..])]);
        assert_eq!(it.value(1), Some((Format::Binary, None)));
        assert_eq!(it.value(3), None);
        assert_eq!(it.results.at(9), Format::Binary);
        let it = body(|out| describe(out, Target::Portal(b"p")));
        assert_eq!(Target::read(&it), Ok(Target::Portal(b"p")));
        let it = body(|out| execute(out, b"p", 7));
        assert_eq!(Execute::read(&it), Ok(Execute { portal: b"p", rows_max: 7 }));
        let it = body(|out| sasl_initial(out, "SCRAM-SHA-256", b"n,,n=,r=x"));
        let it = SaslInitial::read(&it).unwrap();
        assert_eq!((it.mechanism, it.data), (&b"SCRAM-SHA-256"[..], Some(&b"n,,n=,r=x"[..])));
        let it = body(|out| build_copy_fail(out, b"why"));
        assert_eq!(copy_fail(&it), Ok(&b"why"[..]));
    }

    #[test]
    fn nothing_may_follow_a_message_within_its_frame() {
        for (read, good) in [
            ((|it| Query::read(it).map(drop)) as fn(&[u8]) -> Result<(), Violation>, body(|out| query(out, b"x"))),
            (|it| Parse::read(it).map(drop), body(|out| parse(out, b"", b"x", &[1]))),
            (|it| Bind::read(it).map(drop), body(|out| bind(out, b"", b"", &[], &[Some(b"1")], &[0]))),
            (|it| Target::read(it).map(drop), body(|out| close(out, Target::Statement(b"s")))),
            (|it| Execute::read(it).map(drop), body(|out| execute(out, b"", 0))),
            (|it| SaslInitial::read(it).map(drop), body(|out| sasl_initial(out, "X", b"y"))),
            (|it| password(it).map(drop), body(|out| build_password(out, b"secret"))),
        ] {
            assert_eq!(read(&good), Ok(()));
            assert!(read(&[&good[..], b"\0"].concat()).is_err());
            for end in 0..good.len() {
                assert!(read(&good[..end]).is_err(), "{good:?} to {end}");
            }
        }
    }

    #[test]
    fn counts_that_the_body_does_not_hold_are_refused() {
        let good = body(|out| bind(out, b"", b"", &[], &[Some(b"1")], &[]));
        for (place, value) in [(2, 0xff), (4, 0xff), (6, 0x7f), (6, 0x80), (6, 0xff)] {
            let mut bad = good.clone();
            bad[place] = value;
            assert!(Bind::read(&bad).is_err(), "{place} {value}");
        }
        assert!(Bind::read(&body(|out| bind(out, b"", b"", &[1, 1], &[None], &[]))).is_err());
    }

    #[test]
    fn a_statement_is_renamed_and_nothing_else() {
        type Build = fn(&mut Vec<u8>, &[u8]) -> Result<(), Violation>;
        let cases: [(Build, bool); 5] = [
            (|out, name| parse(out, name, b"SELECT $1", &[20]), true),
            (|out, name| bind(out, b"portal", name, &[1], &[Some(b"\0\0"), None], &[1, 0]), true),
            (|out, name| describe(out, Target::Statement(name)), true),
            (|out, name| close(out, Target::Statement(name)), true),
            (|out, name| describe(out, Target::Portal(name)), false),
        ];
        for (build, renamed) in cases {
            let (mut before, mut after, mut expected) = (vec![], vec![1, 2], vec![1, 2]);
            build(&mut before, b"mine").unwrap();
            build(&mut expected, b"the proxy's").unwrap();
            let frame = frame::cut(&before, 1000).unwrap().unwrap();
            assert_eq!(with_statement(&mut after, &frame, b"the proxy's").is_ok(), renamed);
            assert_eq!(after, if renamed { expected } else { vec![1, 2] });
            assert!(with_statement(&mut after, &frame, b"a\0b").is_err());
        }
    }

    #[test]
    fn a_zero_byte_cannot_end_a_string_early() {
        let mut out = vec![9];
        assert_eq!(query(&mut out, b"SELECT 1\0X"), Err(Violation::ZeroByte));
        assert_eq!(startup(&mut out, &[("user", "a\0database\0b")]), Err(Violation::ZeroByte));
        assert!(startup(&mut out, &[("", "x")]).is_err());
        assert!(startup(&mut out, &[("user", &"x".repeat(10_000))]).is_err());
        assert_eq!(out, [9]);
    }

    #[test]
    fn startup_packets_are_told_apart() {
        assert_eq!(Startup::cut(&TLS_REQUEST), Ok(Some((Startup::Tls, 8))));
        assert_eq!(Startup::cut(&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x30, 7]), Ok(Some((Startup::Gss, 8))));
        let mut out = vec![];
        cancel_request(&mut out, 77, &[1, 2, 3, 4]).unwrap();
        assert_eq!(Startup::cut(&out), Ok(Some((Startup::Cancel { pid: 77, key: &[1, 2, 3, 4] }, 16))));
        let mut out = vec![];
        startup(&mut out, &[("user", "ann"), ("_pq_.x", "1"), ("user", "bob")]).unwrap();
        let size = out.len();
        assert_eq!(Startup::cut(&out[..size - 1]), Ok(None));
        let Ok(Some((Startup::Session(session), length))) = Startup::cut(&out) else { panic!() };
        assert_eq!((length, session.minor, session.parameter("user")), (size, 0, Some(&b"bob"[..])));
        assert_eq!(session.extensions().collect::<Vec<_>>(), vec![&b"_pq_.x"[..]]);
        assert_eq!(Startup::cut(&[0, 0, 0, 8, 0, 2, 0, 0]), Err(Violation::Version { major: 2, minor: 0 }));
        for length in [i32::MIN, -1, 0, 4, 7, 10_001, i32::MAX] {
            assert!(Startup::cut(&length.to_be_bytes()).is_err(), "{length}");
        }
        // A TLS hello where a startup packet belongs looks like a very long one.
        assert!(Startup::cut(&[0x16, 3, 1, 2, 0]).is_err());
    }
}
