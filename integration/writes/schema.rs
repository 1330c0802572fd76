//! Changes of the schema over several shards: within transactions, beside other statements, undone.

use crate::bytes::Answer;
use crate::bytes::How;
use crate::house::House;
use crate::house::Pair;
use crate::house::WIDTHS;
use crate::house::is_refused;
use crate::house::told;
use crate::proxy::Outcome;

/// Statements that stand by themselves for a client that says them one after the other.
const STEPS: &[&str] = &[
    "CREATE TABLE made (id bigint PRIMARY KEY, a integer NOT NULL DEFAULT 7, CHECK (a < 1000))",
    "CREATE TABLE made (id bigint PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS made (id bigint PRIMARY KEY)",
    "INSERT INTO made (id) VALUES (1), (2), (3), (4), (5), (6)",
    "ALTER TABLE made ADD COLUMN w numeric(6,2) DEFAULT round(1.234, 1) CHECK (w > 0), ADD d date DEFAULT '2020-01-01'::date",
    "ALTER TABLE made DROP COLUMN w, DROP d",
    // What a transaction has made it can use.
    "BEGIN",
    "ALTER TABLE made ADD COLUMN note text DEFAULT 'x'",
    "UPDATE made SET note = note || id",
    "SELECT count(*), max(note) FROM made",
    "INSERT INTO made VALUES (11, 1, 'a'), (12, 2, 'b'), (13, 3, 'c'), (14, 4, 'd') RETURNING *",
    "CREATE INDEX made_note ON made (note)",
    "COMMIT",
    "SELECT id, a, note FROM made ORDER BY id",
    // What it undoes was never there.
    "BEGIN",
    "CREATE TABLE made2 (id bigint REFERENCES made (id), b text)",
    "ROLLBACK",
    "SELECT * FROM made2",
    "BEGIN",
    "CREATE TABLE made2 (id bigint PRIMARY KEY, b text)",
    "INSERT INTO made2 SELECT id, note FROM made",
    "SELECT m.id, n.b FROM made m JOIN made2 n ON n.id = m.id WHERE m.a > 2 ORDER BY 1",
    "SAVEPOINT s",
    "ALTER TABLE made2 ADD COLUMN c integer DEFAULT 5",
    "INSERT INTO made2 (id, c) VALUES (101, 1), (102, 2), (103, 3)",
    "SELECT sum(c) FROM made2",
    "ROLLBACK TO s",
    "SELECT sum(c) FROM made2",
    "ROLLBACK TO s",
    "ALTER TABLE made2 RENAME b TO renamed",
    "UPDATE made2 SET renamed = upper(renamed) WHERE id IN (1, 2, 3)",
    "SELECT id, renamed FROM made2 ORDER BY id LIMIT 4",
    "COMMIT",
    "SELECT count(renamed) FROM made2",
    // An error on any shard undoes it on all.
    "BEGIN",
    "ALTER TABLE made2 ADD CHECK (id < 14)",
    "COMMIT",
    "ALTER TABLE made2 ADD CHECK (id < 14)",
    "ALTER TABLE made2 ADD CONSTRAINT ok CHECK (id < 1000)",
    "INSERT INTO made2 (id) VALUES (2000), (2001), (2002), (2003)",
    "DROP TABLE made2",
    "DROP TABLE IF EXISTS made2",
    "DROP TABLE made2",
    // Reference tables, types, views, functions.
    "BEGIN; CREATE TYPE hue AS ENUM ('red', 'blue'); CREATE TABLE maderef (h hue PRIMARY KEY, n integer); COMMIT",
    "INSERT INTO maderef VALUES ('red', 1), ('blue', 2)",
    "SELECT h, n FROM maderef ORDER BY h",
    "BEGIN",
    "ALTER TABLE made ADD COLUMN h hue REFERENCES maderef",
    "UPDATE made SET h = 'red' WHERE id < 4",
    "SELECT h, count(*) FROM made GROUP BY h ORDER BY 1",
    "SELECT id, h FROM made WHERE id < 12 ORDER BY id",
    "COMMIT",
    "BEGIN",
    "CREATE VIEW made_red AS SELECT id, a FROM made WHERE h = 'red'",
    "SELECT count(*) FROM made_red",
    "DROP VIEW made_red",
    "COMMIT",
    "BEGIN",
    "TRUNCATE made",
    "ALTER TABLE made DROP COLUMN h",
    "DROP TABLE maderef",
    "DROP TYPE hue",
    "SELECT * FROM made",
    "ROLLBACK",
    "SELECT count(*), count(h) FROM made",
    "COMMENT ON TABLE made IS 'it''s made'",
    "SELECT obj_description('made'::regclass)",
    "BEGIN READ ONLY",
    "ALTER TABLE made DROP COLUMN note",
    "ROLLBACK",
    "BEGIN",
    "ALTER TABLE made DROP COLUMN note",
    "SELECT 1 / 0",
    "SELECT note FROM made",
    "COMMIT",
    "SELECT note FROM made WHERE id = 1",
    "DROP TABLE made, maderef",
    "DROP TYPE hue",
];

/// Several statements in one Query are one transaction.
const TOGETHER: &[&str] = &[
    "CREATE TABLE made (id bigint PRIMARY KEY); INSERT INTO made VALUES (1), (2), (3); SELECT count(*) FROM made",
    "INSERT INTO made VALUES (4); ALTER TABLE made ADD COLUMN b integer; UPDATE made SET b = 4; SELECT sum(b) FROM made",
    "ALTER TABLE made ADD COLUMN c integer; SELECT 1 / 0",
    "SELECT * FROM made ORDER BY id",
    "DROP TABLE made; CREATE TABLE made (id bigint, other text); INSERT INTO made VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    "SELECT * FROM made ORDER BY id",
    "DROP TABLE made",
];

/// What was prepared before goes by the columns of now; and levels at which transactions begin do not matter.
const LATER: &[&str] = &[
    "CREATE TABLE made (id bigint PRIMARY KEY, a integer NOT NULL DEFAULT 7, note text DEFAULT 'x')",
    "PREPARE put AS INSERT INTO made VALUES ($1, $2)",
    "EXECUTE put(301, 1)",
    "ALTER TABLE made ADD COLUMN z integer DEFAULT 9",
    "EXECUTE put(302, 2)",
    "SELECT * FROM made WHERE id > 300 ORDER BY id",
    "SET default_transaction_isolation = 'repeatable read'",
    "ALTER TABLE made ADD COLUMN y integer DEFAULT 3",
    "SELECT sum(y) FROM made",
    "BEGIN",
    "SELECT count(*) FROM made",
    "ALTER TABLE made DROP COLUMN y",
    "INSERT INTO made (id) VALUES (501), (502), (503)",
    "SELECT * FROM made WHERE id > 400 ORDER BY id",
    "COMMIT",
    "SHOW transaction_isolation",
    "RESET default_transaction_isolation",
    "ALTER TABLE made DROP COLUMN a",
];

/// What would be another thing on each shard, or leave rows where nobody looks for them; refused on several.
const REFUSED: &[&str] = &[
    "ALTER TABLE refs ADD COLUMN u uuid DEFAULT gen_random_uuid()",
    "ALTER TABLE refs ADD COLUMN u timestamptz NOT NULL DEFAULT now(), ADD COLUMN w integer",
    "ALTER TABLE refs ADD u serial",
    "ALTER TABLE refs ALTER n TYPE float USING random()",
    "ALTER TABLE t ADD COLUMN at timestamptz DEFAULT CURRENT_TIMESTAMP",
    "ALTER TABLE t ADD COLUMN at timestamptz DEFAULT 'now'",
    "ALTER TABLE t ADD COLUMN IF NOT EXISTS no bigint GENERATED ALWAYS AS IDENTITY",
    "ALTER TABLE t RENAME COLUMN id TO x",
    "ALTER TABLE t RENAME a TO id",
    "ALTER TABLE t ALTER COLUMN \"id\" TYPE bigint USING id * 10",
    "ALTER TABLE t DROP COLUMN IF EXISTS id CASCADE, ADD COLUMN id bigint DEFAULT 5",
    "BEGIN; ALTER TABLE t ADD COLUMN z integer; CREATE INDEX CONCURRENTLY t_a ON t (a); COMMIT",
];

fn compare(ours: &Answer, theirs: &Answer, sql: &str) -> Option<String> {
    let (ours, theirs) = (told(ours, sql.contains("ORDER BY")), told(theirs, sql.contains("ORDER BY")));
    (ours != theirs).then(|| format!("{sql}: {ours:?} where one server says {theirs:?}"))
}

fn run(pair: &mut Pair, how: How, sql: &str, what: &str, wrong: &mut Vec<String>) {
    let how = if sql.contains("; ") { How::Simple } else { how };
    let ours = pair.ours.run(how, sql, &[], false);
    let theirs = pair.plain.run(how, sql, &[], false);
    wrong.extend(compare(&ours, &theirs, sql).map(|it| format!("{what}: {it}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_changes_on_all_shards_or_on_none() -> Outcome {
    let house = House::build().await?;
    let mut wrong = Vec::new();
    for width in WIDTHS {
        for how in [How::Simple, How::Unnamed, How::Named] {
            let mut pair = house.pair(width)?;
            let what = format!("{width} shards, {how:?}");
            for sql in STEPS {
                run(&mut pair, how, sql, &what, &mut wrong);
            }
            for sql in TOGETHER {
                run(&mut pair, How::Simple, sql, &what, &mut wrong);
            }
            for sql in LATER.iter().filter(|_| how == How::Simple) {
                run(&mut pair, how, sql, &what, &mut wrong);
            }
            // Its columns are others now than those that it was read with.
            let late = pair.ours.simple("EXECUTE put(305, 5)");
            if how == How::Simple && width > 1 && !is_refused(&late) {
                wrong.push(format!("{what}: {late:?}"));
            }
            for sql in ["DEALLOCATE ALL", "DROP TABLE IF EXISTS made"] {
                pair.ours.simple(sql);
                pair.plain.simple(sql);
            }
            for sql in REFUSED.iter().filter(|_| width > 1 && how == How::Simple) {
                let answer = pair.ours.simple(sql);
                pair.ours.simple("ROLLBACK");
                if !is_refused(&answer) {
                    wrong.push(format!("{what}: {sql}: {answer:?}"));
                }
            }
            // Nobody else sees what is not committed.
            pair.ours.simple("BEGIN; CREATE TABLE made (id bigint)");
            let other = house.pair(width)?.ours.simple("SELECT * FROM made");
            assert_eq!(other.error.map(|it| it.sqlstate).as_deref(), Some("42P01"), "{what}");
            pair.ours.simple("ROLLBACK");
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    house.nothing_is_prepared().await
}
