//! What a server tells of its session's changes → what a client of the proxy is told of them.
//!
//! Servers are told to tell more than clients ask for, and the proxy's own settings are changed on them, too.

use super::Violation;
use super::read::Reader;
use super::write;

/// The variables whose changes servers tell of where nobody has said otherwise, MariaDB as well as MySQL.
pub const USUAL: [&str; 5] =
    ["autocommit", "character_set_client", "character_set_connection", "character_set_results", "time_zone"];

/// What a client wants to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// Of another database in use.
    pub database: bool,
    /// Whenever anything of its state has changed.
    pub state: bool,
    /// Of these variables, in lower case; `None`: of [`USUAL`].
    pub variables: Option<Box<[Box<str>]>>,
}

impl Default for Tracking {
    fn default() -> Self {
        Self { database: true, state: false, variables: None }
    }
}

impl Tracking {
    /// Whether it is told of that variable.
    #[must_use]
    pub fn is_of(&self, variable: &[u8]) -> bool {
        match &self.variables {
            None => USUAL.iter().any(|it| variable.eq_ignore_ascii_case(it.as_bytes())),
            Some(variables) => variables.iter().any(|it| variable.eq_ignore_ascii_case(it.as_bytes())),
        }
    }

    /// Of what a server tells, what it is told: changes of variables, and that there is a change, in the server's own form.
    /// Its database and its transaction are not the server's to tell.
    ///
    /// # Errors
    /// What the server tells is malformed.
    pub fn picked(&self, changes: &[u8]) -> Result<Vec<u8>, Violation> {
        let mut out = Vec::new();
        let mut reader = Reader::new(changes, "OK");
        while !reader.is_empty() {
            let kind = reader.u8()?;
            let body = reader.bytes()?;
            let mut of = Reader::new(body, "OK");
            let mut kept = if kind == STATE && self.state { body.to_vec() } else { Vec::new() };
            // MariaDB tells of several in one.
            while kind == VARIABLES && !of.is_empty() {
                let (name, value) = (of.bytes()?, of.value()?);
                if self.is_of(name) {
                    write::bytes(&mut kept, name);
                    match value {
                        Some(value) => write::bytes(&mut kept, value),
                        None => kept.push(NULL),
                    }
                }
            }
            if !kept.is_empty() {
                out.push(kind);
                write::bytes(&mut out, &kept);
            }
        }
        Ok(out)
    }

    /// What it is told of another database in use.
    #[must_use]
    pub fn of_database(&self, name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        if self.database {
            let mut of = Vec::new();
            write::bytes(&mut of, name.as_bytes());
            out.push(DATABASE);
            write::bytes(&mut out, &of);
        }
        out.extend(self.of_state());
        out
    }

    /// What it is told of a change that is no more than that.
    #[must_use]
    pub fn of_state(&self) -> &'static [u8] {
        if self.state { &[STATE, 1, b'1'] } else { &[] }
    }
}

const VARIABLES: u8 = 0;
const DATABASE: u8 = 1;
const STATE: u8 = 2;
/// In the place of a value.
const NULL: u8 = 0xfb;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_servers_tell_clients_are_told_what_they_asked_for() {
        let usual = Tracking::default();
        // MariaDB: several variables in one.
        let told = b"\x00\x1d\x0aautocommit\x03OFF\x08sql_mode\x04ANSI\x01\x05\x04shop\x02\x011\x05\x09\x08T___W___";
        assert_eq!(usual.picked(told).unwrap(), b"\x00\x0f\x0aautocommit\x03OFF");
        // MySQL 8: one after the other.
        let told = b"\x00\x11\x09time_zone\x06+03:00\x00\x0e\x08sql_mode\x04ANSI\x00\x0e\x0aautocommit\x02ON";
        assert_eq!(usual.picked(told).unwrap(), b"\x00\x11\x09time_zone\x06+03:00\x00\x0e\x0aautocommit\x02ON");
        let modes = Tracking { variables: Some(["sql_mode".into()].into()), ..Tracking::default() };
        assert_eq!(modes.picked(told).unwrap(), b"\x00\x0e\x08sql_mode\x04ANSI");
        let none = Tracking { variables: Some([].into()), database: false, state: false };
        assert_eq!((none.picked(told).unwrap(), none.of_database("shop")), (Vec::new(), Vec::new()));
        assert_eq!(usual.of_database("shop"), b"\x01\x05\x04shop");
        let state = Tracking { state: true, ..none };
        assert_eq!(
            (&*state.picked(b"\x01\x05\x04shop\x02\x011").unwrap(), state.of_state()),
            (&b"\x02\x011"[..], &b"\x02\x011"[..])
        );
        for cut in 1..17 {
            assert!(usual.picked(&told[..cut]).is_err(), "{cut}");
        }
    }
}
