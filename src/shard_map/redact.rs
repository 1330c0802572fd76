//! A map's text without the secrets written in it, so that a snippet of it can be shown.
//!
//! It works on text that need not be valid YAML, and hides too much rather than too little: what follows `password:`
//! and its like up to where the value must have ended, unless it plainly names a variable or a file.

use crate::shard_map::mistake::Place;

/// What stands for a secret, however long it is.
const STARS: &str = "********";

/// The text, and how its places moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redacted {
    text: String,
    /// Ascending.
    hidden: Vec<Hidden>,
}

/// A stretch of the original that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hidden {
    start: usize,
    end: usize,
    /// How many bytes stand for it.
    length: usize,
}

impl Redacted {
    /// Hides what looks like a secret, and the places that are known to hold one.
    pub(super) fn new(original: &str, known: &[Place]) -> Self {
        let mut secrets = known.to_vec();
        let mut from = 0;
        while let Some(start) = next_value(original, from) {
            let end = start + secret_length(original, start);
            secrets.push(Place { start, end });
            from = end;
        }
        secrets.sort_unstable();
        let mut redacted = Self { text: String::with_capacity(original.len()), hidden: Vec::new() };
        let mut copied = 0;
        for Place { start, end } in secrets {
            let start = start.max(copied);
            let secret = original.get(start..end).unwrap_or_default();
            if secret.is_empty() {
                continue;
            }
            redacted.text.push_str(original.get(copied..start).unwrap_or_default());
            let before = redacted.text.len();
            redacted.text.push_str(STARS);
            // Lines stay what they are, so that their numbers do.
            redacted.text.extend(secret.matches('\n'));
            redacted.hidden.push(Hidden { start, end, length: redacted.text.len() - before });
            copied = end;
        }
        redacted.text.push_str(original.get(copied..).unwrap_or_default());
        redacted
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where a place of the original is in the redacted text; one that touches a secret covers its stars.
    pub(super) fn place(&self, start: usize, end: usize) -> (usize, usize) {
        let (mut from, mut to) = (start, end);
        // From the last one back, so that each still sees its place in the original.
        for hidden in self.hidden.iter().rev() {
            let moved = |at: usize, inside: usize| {
                if at >= hidden.end {
                    at - hidden.end + hidden.start + hidden.length
                } else if at > hidden.start {
                    hidden.start + inside
                } else {
                    at
                }
            };
            (from, to) = (moved(from, 0), moved(to, STARS.len()));
        }
        let from = from.min(self.text.len());
        (from, to.clamp(from, self.text.len()))
    }
}

/// Where the value of the next secret key behind `from` begins.
fn next_value(text: &str, from: usize) -> Option<usize> {
    let colons = text.get(from..)?.match_indices(':').map(|(at, _)| from + at);
    for colon in colons {
        let before = text.get(from..colon)?.trim_end_matches([' ', '\t', '"', '\'']);
        let key = before.rsplit(|c: char| !is_word(c)).next().unwrap_or_default();
        if is_secret(key) && !in_comment(text, colon) {
            let value = text.get(colon + 1..)?.trim_start_matches([' ', '\t']);
            return Some(text.len() - value.len());
        }
    }
    None
}

/// Misspelt keys hold secrets too.
fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["pass", "pwd", "secret", "token", "url"].iter().any(|word| key.starts_with(word))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// Comments are shown as they are: what stands in one is no one's password yet, and hiding it would hide the example.
fn in_comment(text: &str, at: usize) -> bool {
    let line = text.get(..at).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
    line.trim_start().starts_with('#')
}

/// How many bytes from `value` are secret.
fn secret_length(text: &str, value: usize) -> usize {
    let rest = text.get(value..).unwrap_or_default();
    let line = rest.split(['\n', '\r']).next().unwrap_or_default();
    match line.chars().next() {
        None | Some('#') => block_length(text, value, rest),
        Some('{') => {
            let inside = line.trim_start_matches(['{', ' ']);
            let key = inside.trim_start_matches(['"', '\'']);
            let word = key.split(|c: char| !is_word(c)).next();
            if matches!(word, Some("env" | "file")) { 0 } else { line.find('}').map_or(line.len(), |at| at + 1) }
        }
        Some(quote @ ('"' | '\'')) => {
            let close = rest.get(1..).and_then(|inside| inside.find(quote));
            close.map_or(line.len(), |close| close + 2)
        }
        Some('|' | '>') => line.len() + block_length(text, value, rest.get(line.len()..).unwrap_or_default()),
        Some(_) => plain_length(line),
    }
}

/// A plain value ends with its line, or before the next key of the braces it stands in.
fn plain_length(line: &str) -> usize {
    let next_key = |at: usize| {
        let after = line.get(at + 1..).unwrap_or_default().trim_start();
        let word = after.find(|c: char| !is_word(c)).unwrap_or(after.len());
        word > 0 && after.get(word..).is_some_and(|rest| rest.starts_with(':'))
    };
    let comma = line.match_indices(',').map(|(at, _)| at).find(|at| next_key(*at));
    let end = comma.or_else(|| line.find('}')).unwrap_or(line.len());
    line.get(..end).map_or(end, |value| value.trim_end().len())
}

/// A value on the lines behind its key: every line that is indented deeper than the key's, unless it names a source.
fn block_length(text: &str, value: usize, rest: &str) -> usize {
    let key_line = text.get(..value).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
    let indent = key_line.len() - key_line.trim_start().len();
    let deeper = |line: &&str| line.trim().is_empty() || line.len() - line.trim_start().len() > indent;
    let mut lines = rest.split_inclusive('\n');
    let first = lines.next().unwrap_or_default();
    let block: Vec<&str> = lines.take_while(deeper).collect();
    let names_source = block.iter().any(|line| {
        let line = line.trim_start();
        line.starts_with("env:") || line.starts_with("file:")
    });
    if names_source || block.iter().all(|line| line.trim().is_empty()) {
        return 0;
    }
    let length: usize = first.len() + block.iter().map(|line| line.len()).sum::<usize>();
    length - usize::from(rest.get(..length).is_some_and(|part| part.ends_with('\n')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact(text: &str) -> String {
        Redacted::new(text, &[]).text().to_owned()
    }

    #[test]
    fn secrets_are_hidden_wherever_they_end() {
        let cases = [
            ("password: hush", "password: ********"),
            ("app: {password: hush, databases: [shop]}", "app: {password: ********, databases: [shop]}"),
            ("app: {password: hu,sh}", "app: {password: ********}"),
            ("  password: 'hu: }sh'  # why", "  password: ********  # why"),
            ("\"password\": \"hush\"}", "\"password\": ********}"),
            ("token: hush\nnext: 1", "token: ********\nnext: 1"),
            ("password: |\n  hush\n  more\nnext: 1", "password: ********\n\n\nnext: 1"),
            ("a:\n  password:\n    hush\n  next: 1", "a:\n  password:********\n\n  next: 1"),
            ("password: {value: hush}", "password: ********"),
            ("password: \"hush", "password: ********"),
            ("{passwrd: hush}", "{passwrd: ********}"),
        ];
        for (text, expected) in cases {
            assert_eq!(redact(text), expected, "{text}");
        }
    }

    #[test]
    fn sources_are_shown() {
        for text in [
            "password: {env: SHOP_PASSWORD}",
            "{password: { file: /run/secrets/app }, databases: [shop]}",
            "password:\n  env: SHOP_PASSWORD\n",
            "# app: {password: hush}",
            "host: passau",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn places_move_with_the_text() {
        let text = "app: {password: a-very-long-secret, databases: [shop]}";
        let redacted = Redacted::new(text, &[]);
        let at = text.find("shop").unwrap();
        let (start, end) = redacted.place(at, at + 4);
        assert_eq!(&redacted.text()[start..end], "shop");
        let at = text.find("very").unwrap();
        let (start, end) = redacted.place(at, at + 4);
        assert_eq!(&redacted.text()[start..end], "********");
        assert_eq!(redacted.place(0, 3), (0, 3));
        let known = Redacted::new("app: hush, b: {password: hush}", &[Place { start: 5, end: 9 }]);
        assert_eq!(known.text(), "app: ********, b: {password: ********}");
        assert_eq!(known.place(11, 12), (15, 16));
    }
}
