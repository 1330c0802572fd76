//! Comments that servers of MySQL execute: `/*! … */`, `/*!50003 … */`, `/*M! … */`.
//!
//! Which of them a server executes depends on its version. A text is rewritten as that server reads it, so that nobody
//! else has to know of them; what two readings of the rules could take in two ways is left as it is.

use super::at;
use super::mysql::Mode;

/// Whose rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// MariaDB; otherwise Oracle's MySQL.
    pub is_mariadb: bool,
    /// Such as 101106 or 80036.
    pub version: u32,
}

/// The first version of MySQL whose comments MariaDB leaves to MySQL, and the last.
const OF_MYSQL: std::ops::RangeInclusive<u32> = 50_700..=99_999;

/// The text without such comments: those that the server executes are replaced by what is in them, others by nothing.
/// `None`: there are none, or it is not certain how the server reads them.
///
/// ```
/// use shardway::sql::lex::executable::{Reader, bare};
/// let server = Reader { is_mariadb: true, version: 101_106 };
/// let text = "CREATE TABLE t (a int) /*! ENGINE = innodb */ /*!50700 x */";
/// assert_eq!(bare(text, Default::default(), server).unwrap(), "CREATE TABLE t (a int)  ENGINE = innodb  ");
/// ```
#[must_use]
pub fn bare(text: &str, mode: Mode, server: Reader) -> Option<String> {
    let bytes = text.as_bytes();
    let mut told = String::with_capacity(text.len());
    // Up to where the text is in `told`, and where the comment began that is being executed.
    let (mut taken, mut place, mut within, mut found) = (0, 0, false, false);
    while let Some(&byte) = bytes.get(place) {
        match (byte, at(bytes, place + 1)) {
            (b'\'' | b'"' | b'`', _) => place = string_end(bytes, place, mode)?,
            // In one that is executed its end might be taken for theirs.
            (b'#', _) if !within => place = line_end(bytes, place),
            (b'-', b'-') if !within && at(bytes, place + 2) <= b' ' => place = line_end(bytes, place),
            (b'#', _) => return None,
            (b'-', b'-') if at(bytes, place + 2) <= b' ' => return None,
            (b'*', b'/') if within => {
                told.push_str(text.get(taken..place)?);
                part(&mut told, at(bytes, place + 2));
                (place, within) = (place + 2, false);
                taken = place;
            }
            (b'/', b'*') if within => return None,
            (b'/', b'*') => match opened(bytes, place, server)? {
                Opened::Comment => place = behind(bytes, place + 2)?,
                Opened::Executed(from) => {
                    told.push_str(text.get(taken..place)?);
                    part(&mut told, at(bytes, from));
                    (place, taken, within, found) = (from, from, true, true);
                }
                Opened::Skipped => {
                    told.push_str(text.get(taken..place)?);
                    let end = behind(bytes, place + 2)?;
                    // Another one in it may be part of it.
                    if memchr::memmem::find(bytes.get(place + 2..end)?, b"/*").is_some() {
                        return None;
                    }
                    part(&mut told, at(bytes, end));
                    (place, taken, found) = (end, end, true);
                }
            },
            (b';', _) if within => return None,
            _ => place += 1,
        }
    }
    if !found || within {
        return None;
    }
    told.push_str(text.get(taken..)?);
    // A text of comments alone is no empty one to servers.
    Some(if told.trim_ascii().is_empty() { "/**/".to_owned() } else { told })
}

/// What begins with `/*`.
enum Opened {
    /// A comment for everybody.
    Comment,
    /// What it holds, from there, is part of the statement.
    Executed(usize),
    /// It is for servers of other versions.
    Skipped,
}

fn opened(bytes: &[u8], place: usize, server: Reader) -> Option<Opened> {
    let of_mariadb = at(bytes, place + 2) == b'M' && at(bytes, place + 3) == b'!';
    if (of_mariadb && !server.is_mariadb) || (!of_mariadb && at(bytes, place + 2) != b'!') {
        return Some(Opened::Comment);
    }
    let from = place + 3 + usize::from(of_mariadb);
    let digits = bytes.get(from..)?.iter().take(7).take_while(|it| it.is_ascii_digit()).count();
    if digits < 5 {
        return Some(Opened::Executed(from));
    }
    let digits = digits.min(6);
    // Of MySQL it depends on the release whether the sixth is one of them, and whether it warns where no blank follows.
    if !server.is_mariadb && (digits == 6 || !at(bytes, from + digits).is_ascii_whitespace()) {
        return None;
    }
    let version: u32 = std::str::from_utf8(bytes.get(from..from + digits)?).ok()?.parse().ok()?;
    let others = server.is_mariadb && !of_mariadb && OF_MYSQL.contains(&version);
    Some(if version <= server.version && !others { Opened::Executed(from + digits) } else { Opened::Skipped })
}

/// Behind the end of a comment.
fn behind(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memmem::find(bytes.get(from..)?, b"*/").map(|it| from + it + 2)
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    memchr::memchr(b'\n', bytes.get(from..).unwrap_or_default()).map_or(bytes.len(), |it| from + it)
}

/// Behind a string or an identifier in quotes.
fn string_end(bytes: &[u8], from: usize, mode: Mode) -> Option<usize> {
    let mark = at(bytes, from);
    let name = mark == b'`' || (mark == b'"' && mode.ansi_quotes);
    let mut place = from + 1;
    loop {
        match *bytes.get(place)? {
            b'\\' if !name && !mode.no_backslash_escapes => place += 2,
            // A doubled one begins what follows, which changes nothing.
            byte if byte == mark => return Some(place + 1),
            _ => place += 1,
        }
    }
}

/// Keeps apart what a comment's mark stood between.
fn part(told: &mut String, next: u8) {
    let apart = |it: u8| it.is_ascii_whitespace() || matches!(it, 0 | b'(' | b')' | b',' | b';');
    if told.bytes().last().is_some_and(|it| !apart(it)) && !apart(next) {
        told.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARIADB: Reader = Reader { is_mariadb: true, version: 101_106 };
    const MYSQL: Reader = Reader { is_mariadb: false, version: 80_036 };

    #[test]
    fn a_text_is_read_as_the_server_of_that_version_reads_it() {
        for (text, mariadb, mysql) in [
            ("SELECT 1", None, None),
            ("SELECT /* ! */ '/*! a */' -- /*! b */\n", None, None),
            ("/*! SELECT */ 1", Some(" SELECT  1"), Some(" SELECT  1")),
            ("/*!40101 SET NAMES utf8 */", Some(" SET NAMES utf8 "), Some(" SET NAMES utf8 ")),
            ("SELECT/*!40001 SQL_NO_CACHE */ 1", Some("SELECT SQL_NO_CACHE  1"), Some("SELECT SQL_NO_CACHE  1")),
            ("SELECT 1/*!40001 + 1*/2", Some("SELECT 1 + 1 2"), Some("SELECT 1 + 1 2")),
            ("SELECT 1 /*!50700 + 1 */", Some("SELECT 1 "), Some("SELECT 1  + 1 ")),
            ("SELECT 1 /*!99999 + 1 */", Some("SELECT 1 "), Some("SELECT 1 ")),
            ("SELECT 1 /*!100100 + 1 */", Some("SELECT 1  + 1 "), None),
            ("SELECT 1 /*!110000 + 1 */", Some("SELECT 1 "), None),
            ("SELECT 1 /*M! + 1 */", Some("SELECT 1  + 1 "), None),
            ("SELECT 1 /*M!50700 + 1 */", Some("SELECT 1  + 1 "), None),
            (r"/*M!999999\- enable the sandbox mode */ ", Some("/**/"), None),
            ("SELECT /*! '*/' */ 1", Some("SELECT  '*/'  1"), Some("SELECT  '*/'  1")),
            // Fewer digits are no version.
            ("SELECT /*!1234*/", Some("SELECT 1234"), Some("SELECT 1234")),
            ("SELECT /*!12345+ 1 */", Some("SELECT + 1 "), None),
            ("/*! SELECT /* x */ 1 */", None, None),
            ("/*!99999 SELECT /* x */ 1 */", None, None),
            ("/*! SELECT 1; SELECT 2 */", None, None),
            ("/*! SELECT 1 -- */\n 2 */", None, None),
            ("/*! SELECT 1", None, None),
        ] {
            assert_eq!(bare(text, Mode::default(), MARIADB).as_deref(), mariadb, "MariaDB: {text}");
            assert_eq!(bare(text, Mode::default(), MYSQL).as_deref(), mysql, "MySQL: {text}");
        }
    }

    #[test]
    fn strings_end_where_the_sessions_mode_has_them_end() {
        let straight = Mode { no_backslash_escapes: true, ..Mode::default() };
        let text = r"SELECT '\'/*! , 'a' */, '' ";
        assert_eq!(bare(text, straight, MARIADB).as_deref(), Some(r"SELECT '\' , 'a' , '' "));
        assert_eq!(bare(text, Mode::default(), MARIADB), None);
    }
}
