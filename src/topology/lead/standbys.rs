//! What servers say of their standbys → whose word an acknowledged write waited for, and whom a standby receives from
//! (`synchronous_standby_names`, `primary_conninfo`). Pure.

use std::fmt;

/// `synchronous_standby_names`, where it names any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::topology) struct Policy {
    /// How many have to confirm.
    pub count: usize,
    /// Any of them, or the first that are there.
    pub any: bool,
    /// Who may.
    pub names: Vec<String>,
}

impl Policy {
    /// Reads the setting; `None`: commits wait for nobody.
    ///
    /// # Errors
    /// It is not understood.
    pub(in crate::topology) fn read(text: &str) -> Result<Option<Self>, String> {
        let words = words(text).ok_or_else(|| format!("synchronous_standby_names '{text}' is not understood"))?;
        let plain = |words: &[Word]| {
            let mut names = Vec::new();
            for (place, word) in words.iter().enumerate() {
                match (place % 2, word) {
                    (0, Word::Name(name)) => names.push(name.clone()),
                    (1, Word::Sign(',')) => {}
                    _ => return None,
                }
            }
            (words.len() % 2 == 1).then_some(names)
        };
        let bare = |name: &Word, keyword: &str| matches!(name, Word::Name(it) if it.eq_ignore_ascii_case(keyword));
        let number = |word: &Word| if let Word::Name(it) = word { it.parse::<usize>().ok() } else { None };
        let read = match &*words {
            [] => return Ok(None),
            [keyword, count, Word::Sign('('), names @ .., Word::Sign(')')] if bare(keyword, "any") => {
                number(count).zip(plain(names)).map(|(count, names)| Self { count, any: true, names })
            }
            [keyword, count, Word::Sign('('), names @ .., Word::Sign(')')] if bare(keyword, "first") => {
                number(count).zip(plain(names)).map(|(count, names)| Self { count, any: false, names })
            }
            [count, Word::Sign('('), names @ .., Word::Sign(')')] => {
                number(count).zip(plain(names)).map(|(count, names)| Self { count, any: false, names })
            }
            names => plain(names).map(|names| Self { count: 1, any: false, names }),
        };
        read.map(Some).ok_or_else(|| format!("synchronous_standby_names '{text}' is not understood"))
    }

    /// Whether anybody may confirm, whatever its name.
    #[must_use]
    pub(in crate::topology) fn is_open(&self) -> bool {
        self.names.iter().any(|it| it == "*")
    }
}

/// As the server reads it; nothing for no names.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names.is_empty() {
            return Ok(());
        }
        write!(f, "{} {} (", if self.any { "ANY" } else { "FIRST" }, self.count)?;
        for (place, name) in self.names.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}\"{}\"", name.replace('"', "\"\""))?;
        }
        f.write_str(")")
    }
}

enum Word {
    Name(String),
    Sign(char),
}

fn words(text: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            _ if next.is_ascii_whitespace() => {}
            '(' | ')' | ',' => words.push(Word::Sign(next)),
            '"' => {
                let mut name = String::new();
                loop {
                    match rest.next()? {
                        '"' if rest.next_if_eq(&'"').is_some() => name.push('"'),
                        '"' => break,
                        other => name.push(other),
                    }
                }
                words.push(Word::Name(name));
            }
            _ => {
                let mut name = String::from(next);
                while let Some(more) = rest.next_if(|it| !it.is_ascii_whitespace() && !"(),\"".contains(*it)) {
                    name.push(more);
                }
                words.push(Word::Name(name));
            }
        }
    }
    Some(words)
}

/// `primary_conninfo` by which nobody is reached. What it was before stays in it: passwords must not be written anywhere else,
/// and whoever finishes or undoes a failover needs them.
///
/// # Errors
/// It is written as a URI, which nothing can be put behind.
pub(in crate::topology) fn severed(conninfo: &str) -> Result<String, &'static str> {
    if is_severed(conninfo) {
        return Ok(conninfo.to_owned());
    }
    match pairs(conninfo) {
        Some(pairs) if !pairs.is_empty() => Ok(format!("{conninfo}{NOWHERE}")),
        _ => Err("its primary_conninfo is not written as keywords and values"),
    }
}

/// Whether it has been [`severed`].
#[must_use]
pub(in crate::topology) fn is_severed(conninfo: &str) -> bool {
    conninfo.ends_with(NOWHERE)
}

/// What it was before it was [`severed`].
#[must_use]
pub(in crate::topology) fn whole(conninfo: &str) -> &str {
    conninfo.strip_suffix(NOWHERE).unwrap_or(conninfo)
}

/// The same with another server in it; all else stays. `None`: it cannot be read.
#[must_use]
pub(in crate::topology) fn addressed(conninfo: &str, host: &str, port: u16) -> Option<String> {
    let pairs = pairs(whole(conninfo))?;
    let kept = pairs.into_iter().filter(|(key, _)| !["host", "hostaddr", "port"].contains(&&**key));
    let address = [("host".to_owned(), host.to_owned()), ("port".to_owned(), port.to_string())];
    let one = |(key, value): (String, String)| format!("{key}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
    Some(kept.chain(address).map(one).collect::<Vec<_>>().join(" "))
}

/// The name that a standby confirms under.
#[must_use]
pub(in crate::topology) fn application_name(conninfo: &str, cluster_name: &str) -> String {
    let named = pairs(whole(conninfo)).unwrap_or_default().into_iter().rfind(|(key, _)| key == "application_name");
    match named {
        Some((_, name)) if !name.is_empty() => name,
        _ if !cluster_name.is_empty() => cluster_name.to_owned(),
        _ => "walreceiver".to_owned(),
    }
}

/// Later words count: a socket in a folder that there is not is tried and given up at once, without a name to be looked up.
const NOWHERE: &str = " hostaddr='' host='/shardway/recruited' port='1'";

/// Keywords and values as libpq reads them.
fn pairs(conninfo: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut rest = conninfo.chars().peekable();
    loop {
        while rest.next_if(char::is_ascii_whitespace).is_some() {}
        if rest.peek().is_none() {
            return Some(pairs);
        }
        let mut key = String::new();
        while let Some(it) = rest.next_if(|it| it.is_ascii_alphanumeric() || *it == '_') {
            key.push(it);
        }
        while rest.next_if(char::is_ascii_whitespace).is_some() {}
        if key.is_empty() || rest.next() != Some('=') {
            return None;
        }
        while rest.next_if(char::is_ascii_whitespace).is_some() {}
        let mut value = String::new();
        if rest.next_if_eq(&'\'').is_some() {
            loop {
                match rest.next()? {
                    '\\' => value.push(rest.next()?),
                    '\'' => break,
                    other => value.push(other),
                }
            }
        } else {
            while let Some(it) = rest.next_if(|it| !it.is_ascii_whitespace()) {
                value.push(if it == '\\' { rest.next()? } else { it });
            }
        }
        pairs.push((key, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(count: usize, any: bool, names: &[&str]) -> Policy {
        Policy { count, any, names: names.iter().map(|it| (*it).to_owned()).collect() }
    }

    #[test]
    fn the_setting_is_read_as_servers_read_it() {
        for (text, read) in [
            ("a", policy(1, false, &["a"])),
            ("a, b", policy(1, false, &["a", "b"])),
            ("2 (a, b, c)", policy(2, false, &["a", "b", "c"])),
            ("FIRST 1 (a,b)", policy(1, false, &["a", "b"])),
            ("any 2(\"s1-b\", \"x \"\"y\"\"\")", policy(2, true, &["s1-b", "x \"y\""])),
            ("*", policy(1, false, &["*"])),
            ("any", policy(1, false, &["any"])),
        ] {
            assert_eq!(Policy::read(text), Ok(Some(read.clone())), "{text}");
            assert_eq!(Policy::read(&read.to_string()), Ok(Some(read)), "{text}");
        }
        assert_eq!(Policy::read(" "), Ok(None));
        for text in ["a b", "ANY x (a)", "ANY 1 (a", "ANY 1 (a,)", "\"a", "(a)", ","] {
            assert!(Policy::read(text).is_err(), "{text}");
        }
    }

    const WRITTEN: &str = "user=replicator password='it''' host=old,older port=1,2 application_name=b";

    #[test]
    fn what_is_severed_keeps_what_it_was() {
        let severed = severed("user=a password='x y' host=h").unwrap();
        assert!(is_severed(&severed) && !is_severed(whole(&severed)));
        assert_eq!(whole(&severed), "user=a password='x y' host=h");
        assert_eq!(super::severed(&severed), Ok(severed.clone()));
        assert!(super::severed("postgres://a@h/").is_err());
        assert!(super::severed("").is_err());
        assert_eq!(addressed(&severed, "n", 7).unwrap(), "user='a' password='x y' host='n' port='7'");
    }

    #[test]
    fn another_address_keeps_all_else() {
        assert_eq!(pairs(WRITTEN), None, "quotes are escaped by backslashes there");
        let written = "user = replicator password='it\\'s' hostaddr=10.0.0.1 port=1 sslmode=verify-full";
        let moved = addressed(written, "new", 5433).unwrap();
        assert_eq!(moved, "user='replicator' password='it\\'s' sslmode='verify-full' host='new' port='5433'");
        assert_eq!(addressed(&moved, "new", 5433).unwrap(), moved);
    }

    #[test]
    fn a_standby_has_the_name_that_it_gives_or_its_clusters() {
        assert_eq!(application_name("host=a application_name=x", "c"), "x");
        assert_eq!(application_name("host=a", "c"), "c");
        assert_eq!(application_name("", ""), "walreceiver");
        assert_eq!(application_name(&severed("host=a application_name=x").unwrap(), "c"), "x");
    }
}
