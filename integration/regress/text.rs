//! PostgreSQL's own regression files: where they are found, and their text as statements.
//!
//! The files come with a crate that carries PostgreSQL's parser and tests it with them; none of their text is kept here.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// The crate, and where in it the files are. Its version is that of the regression files: PostgreSQL 16's.
const CRATE: (&str, &str) = ("pg_query", "=5.1.1");
const FOLDER: &str = "libpg_query/test/sql/postgres_regress";

/// Fetches the crate as any dependency is fetched, and finds the folder of its files.
pub(crate) fn folder() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("regress");
    fs::create_dir_all(&home).expect("a folder below target");
    let (name, version) = CRATE;
    let manifest = home.join("Cargo.toml");
    let text = format!(
        "[package]\nname = \"text\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[lib]\npath = \"none.rs\"\n\
         [dependencies]\n{name} = \"{version}\"\n[workspace]\n"
    );
    fs::write(&manifest, text).expect("a manifest below target");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let ask = |more: &[&str]| {
        let mut command = Command::new(&cargo);
        command.args(["metadata", "--format-version", "1", "--manifest-path"]).arg(&manifest).args(more);
        command.output().expect("cargo runs")
    };
    // What was fetched once needs no registry.
    let offline = ask(&["--offline"]);
    let answer = if offline.status.success() { offline } else { ask(&[]) };
    assert!(answer.status.success(), "{name} is not fetched: {}", String::from_utf8_lossy(&answer.stderr));
    let found: serde_json::Value = serde_json::from_slice(&answer.stdout).expect("cargo prints JSON");
    let packages = found["packages"].as_array().expect("packages");
    let package = packages.iter().find(|it| it["name"] == name).expect("the crate is among them");
    let manifest = package["manifest_path"].as_str().expect("a path");
    Path::new(manifest).parent().expect("a folder").join(FOLDER)
}

/// What is done with a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Asked of all and compared.
    Read,
    /// Changes rows: said to the plain server, from which the shards then get the rows.
    Write,
    /// Changes what there is: said to every server.
    Define,
    /// SET, RESET, PREPARE: said in every session.
    Session,
    /// Takes back at the end of its block.
    SetLocal,
    Begin,
    /// COMMIT or ROLLBACK.
    End,
    /// Not done at all, with the reason.
    Skip(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) kind: Kind,
    /// The lines behind COPY FROM STDIN.
    pub(crate) data: Option<Vec<u8>>,
}

impl Statement {
    fn new(sql: &str, data: Option<Vec<u8>>) -> Self {
        let sql = permanent(sql);
        let kind = kind(&sql);
        Self { sql, kind, data }
    }

    /// Its words in lower case, without literals and comments.
    pub(crate) fn words(&self) -> Vec<String> {
        words(&self.sql).into_iter().map(|it| it.text).collect()
    }

    /// Whether its rows come in an order that it asks for.
    pub(crate) fn ordered(&self) -> bool {
        words(&self.sql).windows(2).any(|it| it[0].depth == 0 && it[0].text == "order" && it[1].text == "by")
    }
}

/// Cuts a file as psql does. Its own commands are left out, but for those that send what was typed.
pub(crate) fn statements(text: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (statement, after) = rest.split_at(end(rest));
        rest = after;
        if let Some(command) = rest.strip_prefix('\\') {
            let line = command.find('\n').unwrap_or(command.len());
            let sends = command.get(..line).is_some_and(|it| it.starts_with('g') && it != "getenv");
            rest = command.get(line..).unwrap_or_default();
            if sends && !bare(statement).is_empty() {
                found.push(Statement::new(bare(statement), None));
            }
            continue;
        }
        rest = rest.strip_prefix(';').unwrap_or(rest);
        let sql = bare(statement);
        if sql.is_empty() {
            continue;
        }
        let said: Vec<String> = words(sql).into_iter().map(|it| it.text).collect();
        let from_client =
            said.first().is_some_and(|it| it == "copy") && said.windows(2).any(|it| it == ["from", "stdin"]);
        let data = from_client.then(|| {
            let lines = rest.split_once('\n').map_or("", |it| it.1);
            let (data, after) = lines.split_once("\\.").unwrap_or((lines, ""));
            rest = after;
            data.as_bytes().to_vec()
        });
        found.push(Statement::new(sql, data));
    }
    found
}

/// Without the comments and blanks before it.
fn bare(statement: &str) -> &str {
    let mut rest = statement.trim();
    loop {
        let after = if rest.starts_with("--") {
            rest.split_once('\n').map_or("", |it| it.1)
        } else if rest.starts_with("/*") {
            rest.get(comment(rest)..).unwrap_or_default()
        } else {
            return rest;
        };
        rest = after.trim_start();
    }
}

/// Where a block comment ends, which may hold others.
fn comment(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0);
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'/', Some(b'*')) => (depth, at) = (depth + 1, at + 2),
            (b'*', Some(b'/')) => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// The length of a literal, quoted name or comment that begins here; `None`: none does.
fn quoted(text: &str, before: Option<u8>) -> Option<usize> {
    let bytes = text.as_bytes();
    let until = |quote: u8, escapes: bool| {
        let mut at = 1;
        while at < bytes.len() {
            match bytes[at] {
                b'\\' if escapes => at += 2,
                it if it == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
                it if it == quote => return at + 1,
                _ => at += 1,
            }
        }
        bytes.len()
    };
    match bytes.first()? {
        b'\'' => Some(until(b'\'', matches!(before, Some(b'e' | b'E')))),
        b'"' => Some(until(b'"', false)),
        b'-' if text.starts_with("--") => Some(text.find('\n').unwrap_or(text.len())),
        b'/' if text.starts_with("/*") => Some(comment(text)),
        b'$' if !before.is_some_and(|it| it.is_ascii_alphanumeric() || it == b'_') => {
            let tag = text.get(1..)?.split('$').next()?;
            let named = tag.chars().all(|it| it.is_alphanumeric() || it == '_')
                && !tag.starts_with(|it: char| it.is_ascii_digit());
            let tag = named.then(|| text.get(..tag.len() + 2)).flatten()?;
            let body = text.get(tag.len()..)?;
            Some(body.find(tag).map_or(text.len(), |it| it + tag.len() * 2))
        }
        _ => None,
    }
}

struct Word {
    text: String,
    depth: i32,
    at: usize,
}

/// The words of a statement, in lower case, and how deep in parentheses they stand.
fn words(sql: &str) -> Vec<Word> {
    let bytes = sql.as_bytes();
    let (mut found, mut at, mut depth) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        if let Some(length) = sql.get(at..).and_then(|it| quoted(it, at.checked_sub(1).map(|it| bytes[it]))) {
            at += length;
            continue;
        }
        let letter = |it: u8| it.is_ascii_alphanumeric() || it == b'_' || it >= 0x80;
        if letter(bytes[at]) {
            let length = bytes[at..].iter().take_while(|it| letter(**it)).count();
            found.push(Word { text: sql[at..at + length].to_lowercase(), depth, at });
            at += length;
            continue;
        }
        depth += i32::from(matches!(bytes[at], b'(' | b'[')) - i32::from(matches!(bytes[at], b')' | b']'));
        at += 1;
    }
    found
}

/// Where the first statement ends: at a semicolon, at a command of psql's, or with the text.
fn end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut said) = (0, 0_i32, Vec::<&str>::new());
    // BEGIN ATOMIC … END of a function's body holds statements.
    let mut body = 0;
    while at < bytes.len() {
        if let Some(length) = text.get(at..).and_then(|it| quoted(it, at.checked_sub(1).map(|it| bytes[it]))) {
            at += length;
            continue;
        }
        let letter = |it: u8| it.is_ascii_alphanumeric() || it == b'_';
        match bytes[at] {
            b';' if depth <= 0 && body == 0 => return at,
            b'\\' => return at,
            b'(' => depth += 1,
            b')' => depth -= 1,
            it if letter(it) => {
                let length = bytes[at..].iter().take_while(|it| letter(**it)).count();
                let word = &text[at..at + length];
                let is = |it: &str| word.eq_ignore_ascii_case(it);
                let routine = said.first().is_some_and(|it| it.eq_ignore_ascii_case("create"))
                    && said.iter().take(4).any(|it| ["function", "procedure"].contains(&it.to_lowercase().as_str()));
                if routine && (body == 0 && is("atomic") || body > 0 && is("case")) {
                    body += 1;
                } else if body > 0 && is("end") {
                    body -= 1;
                }
                said.push(word);
                at += length;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    at
}

/// The same with a lasting table in the place of a temporary one, for the proxy's two sessions have to see it.
fn permanent(sql: &str) -> String {
    let said = words(sql);
    let word = |place: usize| said.get(place).map_or("", |it| it.text.as_str());
    let mut cuts: Vec<(usize, usize)> = Vec::new();
    let mut cut = |place: usize| {
        if let Some(it) = said.get(place) {
            cuts.push((it.at, it.at + it.text.len()));
        }
    };
    let begins = match (word(0), word(1), word(2)) {
        ("create", "or", "replace") => 3,
        ("create", _, _) => 1,
        _ => usize::MAX,
    };
    if begins != usize::MAX {
        let begins = begins + usize::from(matches!(word(begins), "local" | "global"));
        if matches!(word(begins), "temp" | "temporary") {
            (begins.saturating_sub(1)..=begins)
                .filter(|it| matches!(word(*it), "local" | "global" | "temp" | "temporary"))
                .for_each(&mut cut);
            for place in 0..said.len() {
                let ends = match (word(place), word(place + 1), word(place + 2)) {
                    ("on", "commit", "drop") => 3,
                    ("on", "commit", "delete" | "preserve") => 4,
                    _ => 0,
                };
                (place..place + ends).for_each(&mut cut);
            }
        }
    }
    for place in 1..said.len() {
        if word(place - 1) == "into" && matches!(word(place), "temp" | "temporary") {
            cut(place);
        }
    }
    let (mut out, mut from) = (String::new(), 0);
    for (begin, end) in cuts {
        out.push_str(&sql[from..begin]);
        from = end;
    }
    out + &sql[from..]
}

fn kind(sql: &str) -> Kind {
    let said = words(sql);
    let word = |place: usize| said.get(place).map_or("", |it| it.text.as_str());
    let has = |wanted: &[&str]| said.iter().any(|it| wanted.contains(&it.text.as_str()));
    match (word(0), word(1)) {
        ("select" | "with" | "values" | "table", _)
            if has(&["insert", "update", "delete", "merge"]) && word(0) == "with" =>
        {
            Kind::Write
        }
        ("select" | "with", _) if has(&["into"]) => Kind::Define,
        ("select" | "with" | "values" | "table", _) if has(&["random", "setseed"]) => Kind::Skip("chance"),
        ("select" | "with" | "values" | "table", _) if has(&["pg_temp"]) => Kind::Skip("pg_temp"),
        ("select" | "with" | "values" | "table", _) => Kind::Read,
        ("copy", _) if said.iter().any(|it| it.depth == 0 && it.text == "to") => Kind::Skip("COPY TO"),
        ("copy", _) if sql.contains(":'") => Kind::Skip("COPY of a file"),
        ("insert" | "update" | "delete" | "merge" | "truncate" | "copy", _) => Kind::Write,
        ("begin", _) | ("start", "transaction") => Kind::Begin,
        ("rollback", _) if has(&["to", "prepared"]) => Kind::Skip("savepoint"),
        ("commit" | "rollback" | "abort" | "end", _) => Kind::End,
        ("set", "local") => Kind::SetLocal,
        ("set", "transaction" | "constraints" | "role") => Kind::Skip("SET of a transaction or role"),
        ("set" | "reset", "session") => Kind::Skip("SET of a transaction or role"),
        ("reset", "role") => Kind::Skip("SET of a transaction or role"),
        ("set" | "reset" | "prepare" | "deallocate", _) => Kind::Session,
        (
            "create" | "alter" | "drop",
            "database" | "tablespace" | "role" | "user" | "group" | "subscription" | "system" | "publication",
        ) => Kind::Skip("beyond the database"),
        (
            "create" | "alter" | "drop" | "comment" | "grant" | "revoke" | "reindex" | "cluster" | "analyze" | "vacuum",
            _,
        )
        | ("do" | "call" | "refresh" | "reassign" | "import" | "security", _) => Kind::Define,
        ("explain", _) => Kind::Skip("EXPLAIN"),
        ("show", _) => Kind::Skip("SHOW"),
        ("execute", _) => Kind::Skip("EXECUTE"),
        ("declare" | "fetch" | "move" | "close", _) => Kind::Skip("cursor"),
        ("savepoint" | "release", _) => Kind::Skip("savepoint"),
        _ => Kind::Skip("another command"),
    }
}
