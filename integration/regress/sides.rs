//! The servers of one file: one that holds all rows, its twin that holds them in another order, and the shards.
//!
//! The files define and write; both are done on the plain server. Definitions are repeated on the others as they
//! come, and rows are copied from it before the next read, each to the shard of its key.

use std::collections::BTreeMap;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;

use super::map::Lies;
use super::map::Map;
use super::wire::Answer;
use super::wire::Client;

pub(crate) const USER: &str = "demo";
const SUPERUSER: &str = "postgres";
/// Copied rows are sent in pieces of this size.
const PIECE: usize = 1 << 20;
/// Buckets of each shard.
const HALF: usize = 8192;

/// A session that is opened again, with its settings, when the server hangs up.
pub(crate) struct Session {
    port: u16,
    user: &'static str,
    database: String,
    client: Client,
    settings: Vec<String>,
}

impl Session {
    pub(crate) fn open(port: u16, user: &'static str, database: &str) -> Self {
        let client = Client::connect(port, user, database).expect("a server lets us in");
        Self { port, user, database: database.to_owned(), client, settings: Vec::new() }
    }

    pub(crate) fn run(&mut self, sql: &str) -> Answer {
        let answer = self.client.simple(sql);
        self.mend(&answer);
        answer
    }

    pub(crate) fn copy(&mut self, sql: &str, data: &[u8]) -> Answer {
        let answer = self.client.copy(sql, data);
        self.mend(&answer);
        answer
    }

    /// Says something that lasts as long as the session.
    pub(crate) fn set(&mut self, sql: &str) -> Answer {
        let answer = self.run(sql);
        if answer.error.is_none() {
            self.settings.push(sql.to_owned());
        }
        answer
    }

    fn mend(&mut self, answer: &Answer) {
        if answer.error.as_ref().is_none_or(|it| it.sqlstate != "-----") {
            return;
        }
        self.client = Client::connect(self.port, self.user, &self.database).expect("a server lets us in again");
        for setting in &self.settings {
            self.client.simple(setting);
        }
    }

    /// Asks within a transaction that may not write.
    pub(crate) fn read(&mut self, sql: &str) -> Answer {
        self.run("BEGIN READ ONLY");
        let answer = self.run(sql);
        self.run("ROLLBACK");
        answer
    }

    /// The answer's cells as text, NULL as nothing.
    pub(crate) fn table(&mut self, sql: &str) -> Vec<Vec<String>> {
        let answer = self.run(sql);
        assert_eq!(answer.error, None, "{sql}");
        let cell = |it: Option<Vec<u8>>| it.map(|it| String::from_utf8_lossy(&it).into_owned()).unwrap_or_default();
        answer.rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect()
    }
}

/// A server: the session that the file's statements are said in, and one of the superuser's.
pub(crate) struct Side {
    pub(crate) session: Session,
    pub(crate) control: Session,
}

impl Side {
    pub(crate) fn open(port: u16, database: &str) -> Self {
        let session = Session::open(port, USER, database);
        let mut control = Session::open(port, SUPERUSER, database);
        // Copied rows have met their triggers and foreign keys.
        control.set("SET session_replication_role = replica");
        Self { session, control }
    }
}

/// What is known of a table's rows.
#[derive(Clone, PartialEq, Eq)]
struct Rows {
    made: String,
    digest: String,
}

/// A table of the plain server.
struct Table {
    name: String,
    /// Quoted, with its schema.
    full: String,
    columns: String,
    made: String,
    ruled: bool,
}

/// In what order the twin holds its rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shuffle {
    /// Those of one shard, then those of the other.
    ByShard,
    ByShardBackwards,
    /// Any, by this number.
    By(u64),
}

/// Copies what changed from the plain server to the others.
#[derive(Default)]
pub(crate) struct Copier {
    known: BTreeMap<String, Rows>,
}

impl Copier {
    /// Brings the shards and the twin to what the plain server has; tables of which nothing was said are left alone.
    pub(crate) fn sync(
        &mut self,
        plain: &mut Session,
        twin: &mut Side,
        shards: &mut [Side; 2],
        map: &Map,
    ) -> Vec<String> {
        let tables: Vec<Table> = tables(plain).into_iter().filter(|it| map.lies(&it.name).is_some()).collect();
        let digests = digests(plain, &tables);
        let mut complaints = Vec::new();
        for (table, digest) in tables.iter().zip(digests) {
            let rows = Rows { made: table.made.clone(), digest };
            if self.known.get(&table.name) == Some(&rows) {
                continue;
            }
            let lies = map.lies(&table.name).expect("it is in the map");
            if let Err(complaint) = spread(plain, twin, shards, table, lies) {
                complaints.push(format!("{}: {complaint}", table.name));
            }
            self.known.insert(table.name.clone(), rows);
        }
        complaints
    }
}

impl Copier {
    /// Gives the twin its rows anew, in another order.
    pub(crate) fn shuffle(plain: &mut Session, twin: &mut Side, map: &Map, shuffle: Shuffle) -> Result<(), String> {
        for table in tables(plain) {
            if let Some(lies) = map.lies(&table.name) {
                let lines = lines(plain, &table, lies)?;
                fill(&mut twin.control, &table, &shuffled(&lines, shuffle))?;
            }
        }
        Ok(())
    }
}

fn shuffled(lines: &[(usize, Vec<u8>)], shuffle: Shuffle) -> Vec<&[u8]> {
    let mut order: Vec<usize> = (0..lines.len()).collect();
    match shuffle {
        Shuffle::ByShard => order.sort_by_key(|it| lines[*it].0 / HALF),
        Shuffle::ByShardBackwards => order.sort_by_key(|it| std::cmp::Reverse((lines[*it].0 / HALF, *it))),
        Shuffle::By(number) => {
            order.sort_by_key(|it| {
                let mut hasher = DefaultHasher::new();
                (number, it).hash(&mut hasher);
                hasher.finish()
            });
        }
    }
    order.into_iter().map(|it| &*lines[it].1).collect()
}

fn tables(plain: &mut Session) -> Vec<Table> {
    let found = plain.table(
        "SELECT n.nspname || '.' || c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname), \
         coalesce(string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum), ''), c.oid || '/' || c.relfilenode, c.relhasrules \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
         WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema|shardway)' GROUP BY n.nspname, c.oid ORDER BY 1",
    );
    let table = |row: Vec<String>| {
        let [name, full, columns, made, ruled] = <[String; 5]>::try_from(row).expect("five columns");
        Table { name, full, columns, made, ruled: ruled == "t" }
    };
    found.into_iter().map(table).collect()
}

fn digests(plain: &mut Session, tables: &[Table]) -> Vec<String> {
    let one = |(place, table): (usize, &Table)| {
        format!(
            "SELECT {place}, count(*) || '/' || coalesce(sum(pg_catalog.hashtextextended(a_row::text, 0)::numeric), 0) \
             FROM ONLY {} a_row",
            table.full
        )
    };
    if tables.is_empty() {
        return Vec::new();
    }
    let all: Vec<String> = tables.iter().enumerate().map(one).collect();
    plain.table(&(all.join(" UNION ALL ") + " ORDER BY 1")).into_iter().map(|mut it| it.remove(1)).collect()
}

/// A table's rows and the bucket of each.
fn lines(plain: &mut Session, table: &Table, lies: &Lies) -> Result<Vec<(usize, Vec<u8>)>, String> {
    let bucket = match lies {
        Lies::By(key, _, hash) => {
            format!("((({}) & 16383) + 10467) & 16383", hash.replace("KEY", &format!("\"{key}\"")))
        }
        Lies::Everywhere | Lies::On(_) => "0".to_owned(),
    };
    let comma = if table.columns.is_empty() { "" } else { ", " };
    let answer = plain.run(&format!("SELECT {bucket}{comma}{} FROM ONLY {} ORDER BY ctid", table.columns, table.full));
    if let Some(error) = answer.error {
        return Err(error.to_string());
    }
    let mut lines = Vec::with_capacity(answer.rows.len());
    for row in &answer.rows {
        let bucket = row[0].as_deref().ok_or("its key is NULL")?;
        let bucket: usize = std::str::from_utf8(bucket).expect("digits").parse().expect("a number");
        lines.push((bucket, line(&row[1..])));
    }
    Ok(lines)
}

/// Copies one table's rows to where they belong.
fn spread(
    plain: &mut Session,
    twin: &mut Side,
    shards: &mut [Side; 2],
    table: &Table,
    lies: &Lies,
) -> Result<(), String> {
    let lines = lines(plain, table, lies)?;
    let wanted = |shard: usize, bucket: usize| match lies {
        Lies::By(..) => bucket / HALF == shard,
        Lies::Everywhere => true,
        Lies::On(home) => *home == shard,
    };
    for (shard, side) in shards.iter_mut().enumerate() {
        let some: Vec<&[u8]> = lines.iter().filter(|it| wanted(shard, it.0)).map(|it| &*it.1).collect();
        fill(&mut side.control, table, &some).map_err(|it| format!("on shard {}: {it}", shard + 1))?;
    }
    fill(&mut twin.control, table, &shuffled(&lines, Shuffle::By(0))).map_err(|it| format!("on the twin: {it}"))
}

fn fill(control: &mut Session, table: &Table, lines: &[&[u8]]) -> Result<(), String> {
    let failed = |answer: Answer| answer.error.map_or(Ok(()), |it| Err(it.to_string()));
    // A rule would see DELETE.
    let empty = if table.ruled { "TRUNCATE ONLY" } else { "DELETE FROM ONLY" };
    failed(control.run(&format!("{empty} {}", table.full)))?;
    let columns = if table.columns.is_empty() { String::new() } else { format!("({})", table.columns) };
    let copy = format!("COPY {} {columns} FROM STDIN", table.full);
    let mut piece = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        piece.extend_from_slice(line);
        if piece.len() > PIECE || place + 1 == lines.len() {
            failed(control.copy(&copy, &piece))?;
            piece.clear();
        }
    }
    Ok(())
}

/// A row in COPY's text format.
fn line(row: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut line = Vec::new();
    for (place, cell) in row.iter().enumerate() {
        if place > 0 {
            line.push(b'\t');
        }
        let Some(cell) = cell else {
            line.extend(b"\\N");
            continue;
        };
        for byte in cell {
            match byte {
                b'\\' => line.extend(b"\\\\"),
                b'\n' => line.extend(b"\\n"),
                b'\r' => line.extend(b"\\r"),
                b'\t' => line.extend(b"\\t"),
                it => line.push(*it),
            }
        }
    }
    line.push(b'\n');
    line
}
