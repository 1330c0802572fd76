//! What random writes are tried on: databases over one, two, three and five shards, each with a plain one beside it.

use std::fmt::Write as _;

use crate::bytes::Client;
use crate::bytes::Row;
use crate::house::shown;
use crate::proxy::Outcome;
use crate::rig::Plan;
use crate::rig::Rig;

/// `mood` has another number in each database. Constraints of every kind that a shard can keep.
const SCHEMA: &str = "
CREATE TYPE mood AS ENUM ('sad', 'calm', 'glad');
CREATE TABLE ref (code text PRIMARY KEY, n integer CHECK (n < 100), made timestamptz DEFAULT now(), mood mood DEFAULT 'calm');
CREATE TABLE ref2 (code text REFERENCES ref ON UPDATE CASCADE, n integer, PRIMARY KEY (code, n));
CREATE TABLE acct (id bigint PRIMARY KEY, owner integer, name text CHECK (name <> 'bad'),
    bal numeric(10,2) NOT NULL DEFAULT 0 CHECK (bal >= -1000), code text REFERENCES ref, flag boolean DEFAULT true,
    mood mood, tags text[] DEFAULT '{}', meta jsonb, at timestamptz DEFAULT now(),
    twice bigint GENERATED ALWAYS AS (owner * 2) STORED);
CREATE TABLE line (id bigint REFERENCES acct DEFERRABLE INITIALLY DEFERRED, no integer, what text DEFAULT 'thing',
    qty integer NOT NULL DEFAULT 1 CHECK (qty >= 0), price numeric(6,2), PRIMARY KEY (id, no));
CREATE TABLE part (id bigint, no integer, seq integer, PRIMARY KEY (id, no), UNIQUE (id, seq) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (id, no) REFERENCES line ON DELETE CASCADE);
CREATE TABLE trig (id bigint PRIMARY KEY, v integer);
CREATE TABLE audit (id bigint, was integer, now integer);
CREATE FUNCTION small() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := NEW.v % 1000; RETURN NEW; END';
CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.audit VALUES (coalesce(NEW.id, OLD.id), OLD.v, NEW.v); RETURN NULL; END';
CREATE TRIGGER small BEFORE INSERT OR UPDATE ON trig FOR EACH ROW EXECUTE FUNCTION small();
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON trig FOR EACH ROW EXECUTE FUNCTION audited();
CREATE TABLE small (id integer, v integer, t text, PRIMARY KEY (id, v));
CREATE TABLE loose (k integer, v text, n integer DEFAULT 7);
CREATE TABLE fruit (name text PRIMARY KEY, n integer CHECK (n >= 0), d date DEFAULT CURRENT_DATE);
CREATE TABLE bite (name text, pos integer, kind mood, PRIMARY KEY (name, pos));
CREATE TABLE doc (id uuid PRIMARY KEY, title varchar(12), body jsonb, token uuid DEFAULT gen_random_uuid(), n bigint);
CREATE TABLE band (id integer PRIMARY KEY, v integer NOT NULL, note text);
CREATE TABLE solo (id serial PRIMARY KEY, v text, n integer UNIQUE CHECK (n <> 13));
CREATE TABLE side (v text, n integer);
";

/// What every batch begins with.
const ROWS: &str = "
INSERT INTO ref (code, n) VALUES ('a', 1), ('b', 2), ('c', 3), ('d', 4);
INSERT INTO ref2 VALUES ('a', 1), ('a', 2), ('b', 1);
INSERT INTO acct (id, owner, name, bal, code, mood, tags, meta) VALUES (1, 1, 'one', 10, 'a', 'sad', '{a}', '{\"a\": 1}'),
    (2, 2, 'two', 20, 'b', 'calm', '{a,b}', NULL), (3, 3, 'three', 30.5, 'a', 'glad', '{}', '{}'), (4, 1, NULL, 0, NULL, NULL, NULL, '[1]'),
    (5, NULL, 'five', -5, 'a', 'sad', '{}', '{\"a\": \"x\"}'), (6, 6, 'six', 60, 'b', 'glad', '{c}', NULL), (7, 7, '', 7, 'a', NULL, '{}', NULL),
    (8, 8, 'eight', 800, 'a', 'calm', '{}', '{}');
INSERT INTO line SELECT id, owner, name, id, bal FROM acct WHERE owner IS NOT NULL;
INSERT INTO part VALUES (1, 1, 1), (2, 2, 1), (3, 3, 1);
INSERT INTO trig VALUES (1, 10), (2, 20), (3, 30), (4, 40), (5, 50);
INSERT INTO small VALUES (1, 1, 'x'), (1, 2, 'y'), (2, 1, 'z'), (3, 3, NULL), (4, 1, 'w'), (5, 1, 'v');
INSERT INTO loose VALUES (1, 'a', 1), (2, 'b', 2), (3, NULL, 3), (3, 'c', 3), (4, 'd', NULL);
INSERT INTO fruit (name, n) VALUES ('apple', 1), ('Birne', 2), ('päron', 3), ('', 4), ('a''b', 5);
INSERT INTO bite VALUES ('apple', 1, 'sad'), ('apple', 2, 'glad'), ('Birne', 1, NULL), ('fig', 1, 'calm');
INSERT INTO band VALUES (1, 1, 'a'), (2, 2, 'b'), (30, 3, 'c'), (50, 5, 'd'), (70, 7, NULL);
INSERT INTO solo (v, n) VALUES ('a', 1), ('b', 2), ('c', NULL);
INSERT INTO side VALUES ('a', 1), ('b', 2);
";

/// Where a table's rows are.
#[derive(Clone, Copy)]
enum Lies {
    Hash(&'static str),
    Band,
    Everywhere,
    First,
}

/// Name, where its rows are, its key, its columns but for times and chance, its times. Those that refer to others first.
const TABLES: &[(&str, Lies, &str, &str, &str)] = &[
    ("part", Lies::Hash("hashint8extended"), "id", "id, no, seq", ""),
    ("line", Lies::Hash("hashint8extended"), "id", "id, no, what, qty, price", ""),
    ("acct", Lies::Hash("hashint8extended"), "id", "id, owner, name, bal, code, flag, mood, tags, meta, twice", "at"),
    ("ref2", Lies::Everywhere, "", "code, n", ""),
    ("ref", Lies::Everywhere, "", "code, n, mood", "made"),
    ("trig", Lies::Hash("hashint8extended"), "id", "id, v", ""),
    ("audit", Lies::Hash("hashint8extended"), "id", "id, was, now", ""),
    ("small", Lies::Hash("hashint4extended"), "id", "id, v, t", ""),
    ("loose", Lies::Hash("hashint4extended"), "k", "k, v, n", ""),
    ("fruit", Lies::Hash("hashtextextended"), "name", "name, n, d", ""),
    ("bite", Lies::Hash("hashtextextended"), "name", "name, pos, kind", ""),
    ("doc", Lies::Hash("uuid_hash_extended"), "id", "id, title, body, n, token IS NULL", ""),
    ("band", Lies::Band, "id", "id, v, note", ""),
    ("solo", Lies::First, "", "id, v, n", ""),
    ("side", Lies::First, "", "v, n", ""),
];

/// How many keys of `band` lie on one shard.
const BAND: usize = 20;

pub(crate) struct Arena(Rig);

/// A session through the proxy and a plain one, with what looks at the shards themselves.
pub(crate) struct Ring {
    pub(crate) ours: Client,
    pub(crate) plain: Client,
    shards: Vec<Client>,
    ports: [u16; 2],
    width: usize,
}

impl Arena {
    pub(crate) async fn build() -> Outcome<Self> {
        let plan = Plan {
            settings: &[("jit", "off"), ("full_page_writes", "off"), ("max_wal_size", "1GB")],
            schema: SCHEMA,
            placed: &placed,
            spans: "INSERT INTO trig SELECT 1; INSERT INTO trig VALUES (2), (3), (4), (5), (6)",
        };
        Ok(Self(Rig::build(plan).await?))
    }

    pub(crate) fn ring(&self, width: usize) -> Outcome<Ring> {
        let ports = self.0.ports();
        let (ours, plain) = sessions(ports, width)?;
        let nodes = self.0.cluster.primaries().take(width);
        let shards: Result<_, _> = nodes.map(|it| Client::connect(it.port(), "demo", &format!("d{width}"))).collect();
        Ok(Ring { ours, plain, shards: shards?, ports, width })
    }

    /// No transaction waits anywhere for its end.
    pub(crate) async fn nothing_is_prepared(&self) -> Outcome {
        self.0.nothing_is_prepared().await
    }
}

impl Ring {
    /// The same rows on both, and nothing else.
    pub(crate) fn begin(&mut self) -> Result<(), String> {
        // A session that an earlier batch broke, or left in a transaction.
        (self.ours, self.plain) = sessions(self.ports, self.width)?;
        let mut sql = String::new();
        for (name, ..) in TABLES {
            let _ = write!(sql, "DELETE FROM {name};");
        }
        // Those of a trigger.
        sql += "DELETE FROM audit; SELECT setval('solo_id_seq', 1, false)";
        for client in self.shards.iter_mut().chain([&mut self.plain]) {
            if let Some(error) = client.simple(&sql).error {
                return Err(format!("the tables are not emptied: {error}"));
            }
        }
        for client in [&mut self.ours, &mut self.plain] {
            if let Some(error) = client.simple(ROWS).error {
                return Err(format!("the first rows are not inserted: {error}"));
            }
        }
        Ok(())
    }

    /// Says something to one shard behind the proxy's back.
    pub(crate) fn meddle(&mut self, place: usize, sql: &str) -> Vec<String> {
        let answer = self.shards[place].simple(sql);
        assert_eq!(answer.error, None, "{sql}");
        answer.tags
    }

    /// The first table whose rows on all shards together are not those of the plain server, or lie where nobody looks
    /// for them.
    pub(crate) fn difference(&mut self) -> Option<String> {
        let mut plain = read(&mut self.plain, &query(None));
        number_times(&mut plain);
        let mut ours = Vec::new();
        let mut first_copies: Option<Vec<Line>> = None;
        for (place, client) in self.shards.iter_mut().enumerate() {
            let all = read(client, &query(Some((place, self.width))));
            if let Some(lost) = all.iter().find(|it| it.lost) {
                return Some(format!(
                    "{}: {} is on shard {}, where nobody looks for it",
                    lost.table,
                    lost.row,
                    place + 1
                ));
            }
            let is_copied = |it: &Line| matches!(TABLES[it.at].1, Lies::Everywhere);
            let (mut copies, own): (Vec<Line>, Vec<Line>) = all.into_iter().partition(is_copied);
            ours.extend(own);
            copies.sort();
            if let Some(first) = &first_copies {
                if *first != copies {
                    let shown = |it: &[Line]| it.iter().map(|it| it.row.clone()).collect::<Vec<_>>().join(" ");
                    return Some(format!(
                        "copies of reference tables: on the first shard {}, on shard {} {}",
                        shown(first),
                        place + 1,
                        shown(&copies)
                    ));
                }
            } else {
                ours.extend(copies.iter().cloned());
                first_copies = Some(copies);
            }
        }
        number_times(&mut ours);
        plain.sort();
        ours.sort();
        if plain == ours {
            return None;
        }
        let only = |a: &[Line], b: &[Line]| {
            let (mut a, mut b) = (a.to_vec(), b.to_vec());
            a.retain(|it| match b.iter().position(|other| other == it) {
                Some(at) => {
                    b.remove(at);
                    false
                }
                None => true,
            });
            a.iter().map(|it| format!("{}{} times {:?}", it.table, it.row, it.times)).collect::<Vec<_>>().join(" | ")
        };
        Some(format!(
            "only through the proxy: [{}], only on one server: [{}]",
            only(&ours, &plain),
            only(&plain, &ours)
        ))
    }
}

fn sessions([ours, plain]: [u16; 2], width: usize) -> Result<(Client, Client), String> {
    Ok((
        Client::connect(ours, "demo", &format!("d{width}"))?,
        Client::connect(plain, "demo", &format!("plain{width}"))?,
    ))
}

/// A row of a table. Times of its own are as many as the first, second … of all that there are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    at: usize,
    table: String,
    row: String,
    times: Vec<i64>,
    lost: bool,
}

/// Everything in one answer: table, row, its times in microseconds, whether it lies where its key says.
fn query(place: Option<(usize, usize)>) -> String {
    let parts = TABLES.iter().enumerate().map(|(at, (name, lies, key, columns, times))| {
        let lost = match (place, lies) {
            // One shard takes a NULL, too.
            (None | Some((_, 1)), _) | (_, Lies::Everywhere) | (Some((0, _)), Lies::First) => "false".to_owned(),
            (Some(_), Lies::First) => "true".to_owned(),
            (Some((place, width)), Lies::Hash(hash)) => format!(
                "((({hash}({key}, 8816678312871386365) & 16383) + 10467) & 16383) NOT BETWEEN {} AND {}",
                place * 16_384 / width,
                (place + 1) * 16_384 / width - 1
            ),
            (Some((place, width)), Lies::Band) => {
                let from = if place == 0 { "-2147483648".to_owned() } else { (place * BAND).to_string() };
                let to = if place + 1 == width { "2147483648".to_owned() } else { ((place + 1) * BAND).to_string() };
                format!("NOT ({key} >= {from} AND {key} < {to})")
            }
        };
        let times = match *times {
            "" => "NULL::bigint".to_owned(),
            column => format!("(extract(epoch FROM {column}) * 1000000)::bigint"),
        };
        format!("SELECT {at}, ROW({columns})::text, {times}, {lost} FROM {name}")
    });
    parts.collect::<Vec<_>>().join(" UNION ALL ")
}

fn read(client: &mut Client, sql: &str) -> Vec<Line> {
    let answer = client.simple(sql);
    assert_eq!(answer.error, None, "{sql}");
    let cell = |row: &Row, at: usize| row[at].as_ref().map(|it| String::from_utf8_lossy(it).into_owned());
    let line = |row: &Row| {
        let at: usize =
            cell(row, 0).and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("{}", shown(&answer.rows)));
        Line {
            at,
            table: TABLES[at].0.to_owned(),
            row: cell(row, 1).unwrap_or_default(),
            times: cell(row, 2).and_then(|it| it.parse().ok()).into_iter().collect(),
            lost: cell(row, 3).as_deref() != Some("f"),
        }
    };
    answer.rows.iter().map(line).collect()
}

/// What was done at one time has one number: the times of two servers differ, their order does not.
fn number_times(lines: &mut [Line]) {
    let mut all: Vec<i64> = lines.iter().flat_map(|it| it.times.clone()).collect();
    all.sort_unstable();
    all.dedup();
    for time in lines.iter_mut().flat_map(|it| &mut it.times) {
        let place = all.binary_search(time).expect("it is one of them");
        *time = i64::try_from(place).expect("few");
    }
}

fn placed(width: usize) -> String {
    let ranges: Vec<String> = (0..width)
        .map(|place| {
            let from = if place == 0 { String::new() } else { format!("from: {}, ", place * BAND) };
            let to = if place + 1 == width { String::new() } else { format!("to: {}, ", (place + 1) * BAND) };
            format!("{{{from}{to}shard: s{}}}", place + 1)
        })
        .collect();
    format!(
        "    groups:
      number: {{key: bigint, tables: {{acct: id, line: id, part: id, trig: {{key: id, triggers: safe}}, audit: id}}}}
      count: {{key: int, tables: {{small: id, loose: k}}}}
      name: {{key: text, tables: {{fruit: name, bite: name}}}}
      doc: {{key: uuid, tables: {{doc: id}}}}
      band: {{key: int, scheme: range, ranges: [{}], tables: {{band: id}}}}
    reference: [ref, ref2]
    unsharded: {{s1: [solo, side]}}
",
        ranges.join(", ")
    )
}
