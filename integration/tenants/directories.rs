//! Scheme `directory`: a table says where the rows of a key are.

use crate::bytes::Client;
use crate::bytes::How;
use crate::bytes::Value;
use crate::house::House;
use crate::house::Is;
use crate::house::Is::Alike;
use crate::house::Is::Refused;
use crate::house::Pair;
use crate::house::WIDTHS;
use crate::house::shown;
use crate::house::value;
use crate::proxy::Outcome;
use crate::proxy::until;

fn groups(width: usize) -> String {
    format!(
        "    groups:
      account:
        key: uuid
        scheme: directory
        directory: {{shard: s2, table: account_map, key: id, target: shard, cache: 1h}}
        tables: {{wallets: account_id, moves: account_id}}
      tag:
        key: text
        scheme: directory
        directory: {{shard: s1, table: tag_map, key: tag, target: \"the home\", cache: 0s, missing: s{width}}}
        tables: {{notes: tag}}
      number:
        key: int
        scheme: directory
        directory: {{shard: s1, table: number_map, key: num, target: shard, cache: 1ms}}
        tables: {{counts: num}}
      place:
        key: text
        scheme: directory
        directory: {{shard: s1, table: place_map, key: name, target: shard, cache: 0s}}
        tables: {{towns: place}}
    reference: [countries]
    unsharded: {{s2: [account_map, owners]}}
"
    )
}

const MADE: &[(Is, &str)] = &[
    (Alike, "CREATE TABLE countries (code text PRIMARY KEY)"),
    (Alike, "CREATE TABLE account_map (id uuid PRIMARY KEY, shard text NOT NULL, note text)"),
    (Alike, "CREATE TABLE tag_map (tag text PRIMARY KEY, \"the home\" varchar(10))"),
    (Alike, "CREATE TABLE number_map (num integer UNIQUE, shard text)"),
    (
        Alike,
        "CREATE TABLE wallets (account_id uuid NOT NULL, no integer, total numeric(8,2), PRIMARY KEY (account_id, no))",
    ),
    (
        Alike,
        "CREATE TABLE moves (account_id uuid NOT NULL, no integer, what text DEFAULT 'x', at timestamptz DEFAULT now(), \
         FOREIGN KEY (account_id, no) REFERENCES wallets)",
    ),
    (Alike, "CREATE TABLE notes (tag text NOT NULL, id integer, PRIMARY KEY (tag, id))"),
    (Alike, "CREATE TABLE place_map (name text, shard text, house integer)"),
    (Alike, "CREATE TABLE towns (place text NOT NULL, n integer)"),
    (Alike, "CREATE TABLE counts (num integer NOT NULL PRIMARY KEY, v integer)"),
];

/// `{a}` to `{e}` are accounts on shards in turn, `{x}` is in no directory.
const SAID: &[(Is, &str)] = &[
    // An account is in sight as soon as it is there: in its session, and in its transaction.
    (
        Alike,
        "INSERT INTO account_map VALUES ('{a}', 's1', NULL), ('{b}', 's2', 'second'), ('{c}', '{3}', ''), ('{d}', '{4}', NULL)",
    ),
    (Alike, "INSERT INTO wallets VALUES ('{a}', 1, 10) RETURNING *"),
    (
        Alike,
        "BEGIN; INSERT INTO account_map VALUES ('{e}', '{5}'); INSERT INTO wallets VALUES ('{e}', 1, 50), ('{a}', 2, 11); COMMIT",
    ),
    (
        Alike,
        "INSERT INTO wallets VALUES ('{b}', 1, 20), ('{c}', 1, 30), ('{d}', 1, 40), ('{b}', 2, 21) RETURNING no, account_id",
    ),
    (Alike, "INSERT INTO moves (account_id, no) VALUES ('{a}', 1), ('{b}', 1), ('{e}', 1)"),
    // What is undone is not remembered.
    (
        Alike,
        "BEGIN; INSERT INTO account_map VALUES ('{x}', 's1'); INSERT INTO wallets VALUES ('{x}', 1, 0); SELECT total FROM wallets WHERE account_id = '{x}'; ROLLBACK",
    ),
    (Alike, "SELECT * FROM wallets WHERE account_id = '{x}'"),
    (Refused("23514"), "INSERT INTO wallets VALUES ('{x}', 1, 0)"),
    (Refused("23514"), "INSERT INTO wallets VALUES ('{a}', 7, 0), ('{x}', 1, 0)"),
    (
        Alike,
        "BEGIN; SAVEPOINT s; INSERT INTO account_map VALUES ('{x}', 's2'); INSERT INTO wallets VALUES ('{x}', 1, 0); ROLLBACK TO s; INSERT INTO account_map VALUES ('{x}', 's1'); INSERT INTO wallets VALUES ('{x}', 2, 0); SELECT no FROM wallets WHERE account_id = '{x}'; ROLLBACK",
    ),
    // Reads by key, by several keys, and by none.
    (Alike, "SELECT * FROM wallets WHERE account_id = '{b}' ORDER BY no"),
    (Alike, "SELECT * FROM wallets WHERE account_id IN ('{a}', '{c}', '{x}') ORDER BY account_id, no"),
    (Alike, "SELECT * FROM wallets WHERE account_id = ANY ('{{a},{e}}') ORDER BY account_id, no"),
    (Alike, "SELECT * FROM wallets WHERE account_id = '{a}' OR account_id = '{d}' ORDER BY 1, 2"),
    (Alike, "SELECT count(*), sum(total) FROM wallets"),
    (Alike, "SELECT account_id, count(*) FROM wallets GROUP BY 1 ORDER BY 1"),
    (Alike, "SELECT * FROM wallets WHERE account_id > '{a}' ORDER BY 1, 2"),
    (Alike, "SELECT w.no, m.what FROM wallets w JOIN moves m USING (account_id, no) WHERE w.account_id = '{e}'"),
    (Alike, "SELECT w.no, m.what FROM wallets w JOIN moves m USING (account_id, no) ORDER BY w.account_id, 1"),
    (
        Alike,
        "SELECT w.no, d.shard FROM wallets w JOIN account_map d ON d.id = w.account_id WHERE w.account_id = '{b}' ORDER BY 1",
    ),
    (Alike, "SELECT * FROM wallets WHERE account_id IN (SELECT account_id FROM moves) ORDER BY 1, 2"),
    (Alike, "SELECT total FROM wallets WHERE account_id = '{a}' AND account_id = '{b}'"),
    (Alike, "SELECT total FROM wallets WHERE account_id = '{a}' FOR UPDATE"),
    (Alike, "SELECT total FROM wallets WHERE account_id = 'nonsense'"),
    // Writes.
    (Alike, "UPDATE wallets SET total = total + 1 WHERE account_id = '{c}' RETURNING total"),
    (Alike, "UPDATE wallets SET total = total + 1"),
    (Alike, "UPDATE wallets SET total = 0 WHERE account_id = '{x}'"),
    (Alike, "DELETE FROM moves WHERE account_id IN ('{a}', '{b}')"),
    (Alike, "DELETE FROM wallets WHERE no = 2"),
    (
        Alike,
        "INSERT INTO wallets VALUES ('{a}', 1, 5) ON CONFLICT (account_id, no) DO UPDATE SET total = excluded.total RETURNING total",
    ),
    (Alike, "INSERT INTO wallets VALUES ('{a}', 1, 5), ('{b}', 1, 6)"),
    (Alike, "INSERT INTO moves SELECT account_id, no, 'copied' FROM wallets WHERE account_id = '{d}'"),
    (
        Alike,
        "BEGIN; INSERT INTO wallets VALUES ('{a}', 8, 1), ('{b}', 8, 1); DELETE FROM wallets WHERE no = 8; ROLLBACK",
    ),
    (Alike, "INSERT INTO wallets (no) VALUES (1)"),
    (
        Alike,
        "PREPARE p (uuid, int) AS SELECT total FROM wallets WHERE account_id = $1 AND no = $2; EXECUTE p ('{e}', 1); DEALLOCATE p",
    ),
    // Rows of a directory come, and stay as they are.
    (Alike, "UPDATE account_map SET note = 'n' WHERE id = '{a}'"),
    (Alike, "INSERT INTO account_map VALUES ('{a}', 's1')"),
    (Alike, "INSERT INTO account_map VALUES ('{a}', 's1') ON CONFLICT DO NOTHING"),
    (Refused("0A000"), "UPDATE account_map SET shard = 's2' WHERE id = '{a}'"),
    (Refused("0A000"), "UPDATE account_map SET id = '{x}'"),
    (
        Refused("0A000"),
        "INSERT INTO account_map VALUES ('{a}', 's2') ON CONFLICT (id) DO UPDATE SET shard = excluded.shard",
    ),
    (Refused("0A000"), "DELETE FROM account_map WHERE id = '{x}'"),
    (Refused("0A000"), "TRUNCATE account_map"),
    (Refused("0A000"), "INSERT INTO tag_map VALUES ('new', 's1')"),
    (Alike, "SELECT count(*) FROM account_map"),
    // Nor do they go with what they refer to.
    (Alike, "CREATE TABLE owners (name text PRIMARY KEY)"),
    (Alike, "INSERT INTO owners VALUES ('second'), ('third')"),
    (
        Alike,
        "ALTER TABLE account_map ADD CONSTRAINT owned FOREIGN KEY (note) REFERENCES owners ON DELETE CASCADE NOT VALID",
    ),
    (Refused("0A000"), "DELETE FROM owners WHERE name = 'second'"),
    (Refused("0A000"), "UPDATE owners SET name = 'first'"),
    (Refused("0A000"), "TRUNCATE owners CASCADE"),
    (Alike, "INSERT INTO owners VALUES ('fourth')"),
    (Alike, "ALTER TABLE account_map DROP CONSTRAINT owned"),
    (Alike, "DELETE FROM owners"),
    // It is asked by who has locked it.
    (Alike, "BEGIN; LOCK TABLE account_map; UPDATE wallets SET total = total WHERE account_id = '{b}'; ROLLBACK"),
    // Keys that no directory holds are where the map says.
    (Alike, "INSERT INTO notes VALUES ('known', 1), ('it''s', 2), ('nobody', 3), ('ö\\', 4)"),
    (Alike, "SELECT * FROM notes WHERE tag = 'it''s'"),
    (Alike, "SELECT * FROM notes WHERE tag IN ('nobody', 'ö\\', 'known') ORDER BY id"),
    (Alike, "DELETE FROM notes WHERE tag = 'nobody' RETURNING id"),
    // A key that the directory sends nowhere.
    (Alike, "INSERT INTO number_map VALUES (1, 's1'), (2, 's2'), (3, 'elsewhere'), (-4, NULL), (5, 's2')"),
    (Alike, "INSERT INTO counts VALUES (1, 10), (2, 20), (5, 50)"),
    (Refused("55000"), "INSERT INTO counts VALUES (3, 30)"),
    (Refused("55000"), "SELECT * FROM counts WHERE num = -4"),
    (Alike, "SELECT * FROM counts WHERE num IN (1, 2) ORDER BY 1"),
    (Alike, "SELECT * FROM counts WHERE num = 2.0"),
    (Alike, "SELECT * FROM counts WHERE num = 1.5"),
    (Alike, "SELECT * FROM counts WHERE num BETWEEN 1 AND 5 ORDER BY 1"),
    // Many rows of a key, which agree; and those that do not.
    (
        Alike,
        "INSERT INTO place_map VALUES ('x', 's2', 1), ('x', 's2', 2), ('x', 's2', 3), ('y', 's1', 1), ('y', 's1', 2), ('z', 's1', 1), ('z', 's2', 2)",
    ),
    (Alike, "INSERT INTO towns VALUES ('x', 1), ('x', 2), ('y', 3)"),
    (Alike, "SELECT n FROM towns WHERE place = 'x' ORDER BY n"),
    (Alike, "UPDATE towns SET n = n + 1 WHERE place IN ('x', 'y') RETURNING n"),
    (Refused("55000"), "INSERT INTO towns VALUES ('z', 4)"),
    (Refused("55000"), "SELECT n FROM towns WHERE place = 'z'"),
    (Alike, "SELECT place, n FROM towns ORDER BY n"),
];

/// The account of that letter.
fn account(letter: char) -> String {
    format!("00000000-0000-0000-0000-0000000000a{}", letter)
}

fn filled(sql: &str, width: usize) -> String {
    let mut sql = sql.to_owned();
    for letter in ['a', 'b', 'c', 'd', 'e'] {
        sql = sql.replace(&format!("{{{letter}}}"), &account(letter));
    }
    sql = sql.replace("{x}", "00000000-0000-0000-0000-0000000000ff");
    for number in 3..=5 {
        sql = sql.replace(&format!("{{{number}}}"), &format!("s{}", number.min(width)));
    }
    sql
}

fn uuid(letter: char, binary: bool) -> Value {
    let digits = account(letter).replace('-', "");
    let bytes = (0..16).map(|at| u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).expect("digits")).collect();
    match binary {
        true => Value { oid: 2950, binary: true, bytes: Some(bytes) },
        false => value(&account(letter)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_says_where_the_rows_of_a_key_are() -> Outcome {
    let house = House::build(&groups).await?;
    for (width, how) in WIDTHS.into_iter().zip([How::Simple, How::Unnamed, How::Named]) {
        let mut pair = house.pair(width)?;
        pair.cases(How::Simple, MADE);
        let tags = "INSERT INTO tag_map VALUES ('known', 's1'), ('it''s', 's2'), ('ö\\', 's2')";
        for client in [&mut house.shard(0, width)?, &mut pair.plain] {
            assert_eq!(client.simple(tags).error, None);
        }
        let said: Vec<(Is, String)> = SAID.iter().map(|(is, sql)| (*is, filled(sql, width))).collect();
        let said: Vec<(Is, &str)> = said.iter().map(|(is, sql)| (*is, sql.as_str())).collect();
        pair.cases(how, &said);
        parameters(&mut pair);
        copies(&mut pair, width);
        rows_are_where_the_directory_says(&house, &mut pair, width)?;
    }
    house.nothing_is_prepared().await?;
    explained(&house)?;
    verified(&house)?;
    another_proxy_adds(&house).await?;
    a_change_behind_the_proxy_is_seen(&house).await?;
    house.stop().await
}

fn parameters(pair: &mut Pair) {
    for how in [How::Unnamed, How::Named] {
        for binary in [false, true] {
            for letter in ['a', 'e', 'f'] {
                let key = [uuid(letter, binary)];
                pair.same_by(how, "SELECT * FROM wallets WHERE account_id = $1 ORDER BY no", &key);
                pair.same_by(how, "UPDATE wallets SET total = total * 2 WHERE account_id = $1", &key);
            }
            let several = [uuid('b', binary), value("71"), uuid('c', binary), value("72")];
            pair.same_by(how, "INSERT INTO wallets (account_id, no) VALUES ($1, $2), ($3, $4) RETURNING no", &several);
            pair.same_by(how, "DELETE FROM wallets WHERE account_id IN ($1, $3) AND no IN ($2, $4)", &several);
        }
    }
    // A key and what needs it between two Syncs.
    let pipeline = [
        ("INSERT INTO account_map VALUES ($1, 's2')".to_owned(), vec![uuid('9', false)]),
        ("INSERT INTO wallets VALUES ($1, 1, 9)".to_owned(), vec![uuid('9', false)]),
        ("SELECT total FROM wallets WHERE account_id = $1".to_owned(), vec![uuid('9', false)]),
    ];
    let (ours, theirs) = (pair.ours.pipeline(&pipeline, false), pair.plain.pipeline(&pipeline, false));
    assert_eq!((&ours.error, &ours.tags, shown(&ours.rows)), (&None, &theirs.tags, shown(&theirs.rows)));
}

fn copies(pair: &mut Pair, width: usize) {
    pair.same(&filled("BEGIN; INSERT INTO account_map VALUES ('{x}', 's1')", width));
    let mut data = String::new();
    for no in 100..400 {
        let letter = ['a', 'b', 'c', 'd', 'e'][no % 5];
        data += &format!("{}\t{no}\t{no}.5\n", account(letter));
    }
    data += &filled("{x}\t1\t1\n", width);
    pair.same_copy("COPY wallets FROM STDIN", data.as_bytes(), 1000, false);
    pair.same("COMMIT");
    let csv = format!("{},500,\"1\"\n{},501,2\n", account('a'), account('d'));
    pair.same_copy("COPY wallets (account_id, no, total) FROM STDIN (FORMAT csv)", csv.as_bytes(), 7, true);
    let nowhere = format!("{}\t600\t1\n{}\t601\t1\n", account('a'), account('0'));
    let failed = pair.ours.copy("COPY wallets FROM STDIN", nowhere.as_bytes());
    assert_eq!(failed.error.map(|it| it.sqlstate).as_deref(), Some("23514"));
    let more = format!("{}\ts1\t\\N\n", account('8'));
    pair.same_copy("COPY account_map FROM STDIN", more.as_bytes(), 100, false);
    pair.same(&format!("INSERT INTO wallets VALUES ('{}', 1, 1)", account('8')));
    pair.same("SELECT count(*), sum(total), sum(no) FROM wallets");
}

fn rows_are_where_the_directory_says(house: &House, pair: &mut Pair, width: usize) -> Outcome {
    for table in ["account_map", "wallets", "moves", "notes", "counts"] {
        let columns = if table == "moves" { "account_id, no, what" } else { "*" };
        pair.same(&format!("SELECT {columns} FROM {table} ORDER BY 1, 2"));
    }
    let sql = "SELECT string_agg(DISTINCT w.account_id::text, ',' ORDER BY w.account_id::text) FROM wallets w";
    let map = pair.plain.simple("SELECT id, shard FROM account_map").rows;
    for at in 0..width {
        let mut expected: Vec<String> = map
            .iter()
            .filter(|row| row[1].as_deref() == Some(format!("s{}", at + 1).as_bytes()))
            .map(|row| String::from_utf8_lossy(row[0].as_deref().unwrap_or_default()).into_owned())
            .collect();
        expected.sort();
        let there = house.shard(at, width)?.simple(sql).rows;
        let there = there[0][0].as_ref().map(|it| String::from_utf8_lossy(it).into_owned()).unwrap_or_default();
        assert_eq!(there, expected.join(","), "shard {at} of {width}");
    }
    Ok(())
}

fn explained(house: &House) -> Outcome {
    let mut pair = house.pair(3)?;
    let sql = filled("EXPLAIN (SHARDS) SELECT * FROM wallets WHERE account_id = '{c}'", 3);
    let answer = pair.ours.simple(&sql);
    assert!(shown(&answer.rows).contains("single s3"), "{} {:?}", shown(&answer.rows), answer.error);
    Ok(())
}

/// `shardway verify` goes by what the directory says.
fn verified(house: &House) -> Outcome {
    let file = house.cluster.dir().join("to-verify.yaml");
    std::fs::write(&file, &house.map)?;
    let verify = |table: &str| -> Outcome<(Option<i32>, String)> {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shardway"));
        let done = command.arg("verify").arg(&file).args(["--table", table]).output()?;
        Ok((done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned()))
    };
    for table in ["wallets", "moves", "notes"] {
        assert_eq!(verify(table)?, (Some(0), String::new()), "{table}");
    }
    let mut shard = house.shard(1, 3)?;
    let key = account('a');
    assert_eq!(shard.simple(&format!("INSERT INTO wallets VALUES ('{key}', 7777, 1)")).error, None);
    let (code, said) = verify("wallets")?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("key {key} is on shard \"s2\" and belongs to \"s1\"")), "{said}");
    assert_eq!(shard.simple("DELETE FROM wallets WHERE no = 7777").error, None);
    let (code, said) = verify("counts")?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("sends keys to \"elsewhere\", which is no shard of the map"), "{said}");
    Ok(())
}

/// What another proxy adds is there at once: what is not in a directory is never remembered.
async fn another_proxy_adds(house: &House) -> Outcome {
    let other = house.another_proxy().await?;
    let mut pair = house.pair(3)?;
    let mut theirs = Client::connect(other.port(), "demo", "d3")?;
    let key = account('7');
    let read = format!("SELECT total FROM wallets WHERE account_id = '{key}'");
    pair.same(&read);
    pair.refused(How::Simple, "23514", &format!("INSERT INTO wallets VALUES ('{key}', 1, 1)"));
    for client in [&mut theirs, &mut pair.plain] {
        assert_eq!(client.simple(&format!("INSERT INTO account_map VALUES ('{key}', 's3')")).error, None);
    }
    pair.same(&read);
    pair.same(&format!("INSERT INTO wallets VALUES ('{key}', 1, 1)"));
    assert_eq!(shown(&theirs.simple(&read).rows), "[1.00]");
    // Within a transaction of its own it is nobody else's.
    let key = account('6');
    let insert = format!("INSERT INTO wallets VALUES ('{key}', 1, 1)");
    assert_eq!(theirs.simple(&format!("BEGIN; INSERT INTO account_map VALUES ('{key}', 's2')")).error, None);
    assert_eq!(theirs.simple(&insert).error, None);
    pair.refused(How::Simple, "23514", &insert);
    assert_eq!(theirs.simple("ROLLBACK").error, None);
    pair.refused(How::Simple, "23514", &insert);
    other.stop().await
}

/// A directory that is changed on its server: writes know at once, reads when what is kept has expired.
async fn a_change_behind_the_proxy_is_seen(house: &House) -> Outcome {
    let mut pair = house.pair(2)?;
    let (mut first, mut second) = (house.shard(0, 2)?, house.shard(1, 2)?);
    // Kept for an hour: a read may go where the key was, a write never does.
    let key = account('a');
    pair.same(&format!("SELECT no FROM wallets WHERE account_id = '{key}' ORDER BY no"));
    assert_eq!(second.simple(&format!("UPDATE account_map SET shard = 's2' WHERE id = '{key}'")).error, None);
    assert_eq!(pair.ours.simple(&format!("INSERT INTO wallets VALUES ('{key}', 9000, 1)")).error, None);
    assert_eq!(shown(&second.simple("SELECT account_id FROM wallets WHERE no = 9000").rows), format!("[{key}]"));
    assert_eq!(second.simple("DELETE FROM wallets WHERE no = 9000").error, None);
    assert_eq!(second.simple(&format!("UPDATE account_map SET shard = 's1' WHERE id = '{key}'")).error, None);
    // Kept for a millisecond.
    let read = "SELECT v FROM counts WHERE num = 5";
    assert_eq!(shown(&pair.ours.simple(read).rows), "[50]");
    assert_eq!(first.simple("INSERT INTO counts VALUES (5, 51)").error, None);
    assert_eq!(first.simple("UPDATE number_map SET shard = 's1' WHERE num = 5").error, None);
    until("the proxy to ask anew", async || Ok(shown(&pair.ours.simple(read).rows) == "[51]")).await?;
    assert_eq!(second.simple("DELETE FROM counts WHERE num = 5").error, None);
    // Where the directory's shard is down, what is kept is still read, and nothing is written.
    let key = account('c');
    let known = format!("SELECT count(*) FROM wallets WHERE account_id = '{key}' AND no = 1");
    let mut wide = house.pair(3)?;
    wide.same(&known);
    let node = house.cluster.primaries().nth(1).ok_or("no second shard")?;
    node.kill9().await?;
    assert_eq!(shown(&wide.ours.simple(&known).rows), "[1]");
    let write = wide.ours.simple(&format!("UPDATE wallets SET total = 1 WHERE account_id = '{key}'"));
    let failure = write.error.ok_or("written without asking")?;
    assert!(!failure.by_server && !failure.hint.is_empty(), "{failure}");
    node.start().await?;
    until("writes to go on", async || {
        Ok(wide.ours.simple(&format!("UPDATE wallets SET total = 1 WHERE account_id = '{key}'")).error.is_none())
    })
    .await?;
    Ok(())
}
