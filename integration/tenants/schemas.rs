//! Scheme `schema`: a tenant's schema is whole on one shard; search_path and qualified names say which.

use crate::bytes::Client;
use crate::bytes::How;
use crate::house::House;
use crate::house::Is;
use crate::house::Is::Alike;
use crate::house::Is::Refused;
use crate::house::WIDTHS;
use crate::house::shown;
use crate::house::value;
use crate::proxy::Outcome;
use crate::proxy::until;

fn groups(width: usize) -> String {
    format!(
        "    groups:
      workspace: {{scheme: schema, schemas: {{acme: s1, globex: s2, 'Odd Co': s{width}}}, other: s2}}
      customer: {{key: bigint, tables: {{users: id}}}}
    reference: [countries, lib.words]
"
    )
}

/// Everything is made through the proxy.
const MADE: &[(Is, &str)] = &[
    (Alike, "CREATE TABLE countries (code text PRIMARY KEY, name text)"),
    (Alike, "CREATE TABLE users (id bigint PRIMARY KEY, name text)"),
    (Alike, "CREATE SCHEMA lib"),
    (Alike, "CREATE TABLE lib.words (word text PRIMARY KEY)"),
    (Alike, "CREATE SCHEMA acme"),
    (Alike, "CREATE SCHEMA IF NOT EXISTS acme"),
    (Alike, "CREATE SCHEMA acme"),
    (Alike, "CREATE SCHEMA globex AUTHORIZATION demo"),
    (Alike, "CREATE SCHEMA \"Odd Co\""),
    (Alike, "CREATE SCHEMA initech"),
    (Alike, "CREATE TYPE acme.mood AS ENUM ('sad', 'glad')"),
    (Alike, "CREATE TYPE globex.mood AS ENUM ('off', 'on')"),
    (Alike, "CREATE SEQUENCE acme.numbers START 7"),
    (
        Alike,
        "CREATE TABLE acme.orders (id serial PRIMARY KEY, country text REFERENCES countries, total numeric(8,2), mood acme.mood)",
    ),
    (
        Alike,
        "CREATE TABLE acme.lines (order_id integer REFERENCES acme.orders ON DELETE CASCADE, no integer, what text)",
    ),
    (Alike, "CREATE TABLE globex.orders (id serial PRIMARY KEY, total numeric(8,2), mood globex.mood)"),
    (Alike, "CREATE TABLE \"Odd Co\".\"The Orders\" (id bigint PRIMARY KEY, what text UNIQUE)"),
    (Alike, "CREATE TABLE initech.orders (id integer GENERATED ALWAYS AS IDENTITY, what text)"),
    (Alike, "CREATE INDEX ON acme.orders (total)"),
    (Alike, "CREATE UNIQUE INDEX by_total ON globex.orders (total)"),
    (Alike, "CREATE VIEW acme.large AS SELECT id, total FROM acme.orders WHERE total > 50"),
    (Alike, "CREATE VIEW acme.named AS SELECT o.id, c.name FROM acme.orders o JOIN countries c ON c.code = o.country"),
    (Alike, "CREATE FUNCTION acme.twice(n integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT n * 2'"),
    (Alike, "ALTER TABLE acme.orders ADD COLUMN note text DEFAULT 'none'"),
    (Alike, "COMMENT ON TABLE acme.orders IS 'orders'"),
    (Alike, "COMMENT ON SCHEMA acme IS 'a tenant'"),
    (Alike, "GRANT USAGE ON SCHEMA acme TO public"),
    (Alike, "GRANT SELECT ON ALL TABLES IN SCHEMA acme TO public"),
    (Refused("0A000"), "CREATE VIEW acme.others AS SELECT id FROM users"),
    (Refused("0A000"), "CREATE VIEW acme.others AS SELECT id FROM globex.orders"),
    (Refused("0A000"), "CREATE TABLE acme.more (id bigint REFERENCES users)"),
    (Refused("0A000"), "CREATE TABLE acme.more (id integer REFERENCES globex.orders)"),
    (Refused("0A000"), "ALTER TABLE acme.orders SET SCHEMA globex"),
    (Refused("0A000"), "ALTER SCHEMA acme RENAME TO zeta"),
    (Refused("0A000"), "GRANT USAGE ON SCHEMA acme, globex TO public"),
    (Refused("0A000"), "DROP TABLE acme.lines, globex.orders"),
];

const SAID: &[(Is, &str)] = &[
    (Alike, "INSERT INTO countries VALUES ('DE', 'Germany'), ('FR', 'France')"),
    (Alike, "INSERT INTO users VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e'), (6, 'f'), (7, 'g')"),
    (Alike, "INSERT INTO lib.words VALUES ('x')"),
    (Alike, "INSERT INTO acme.orders (country, total, mood) VALUES ('DE', 10, 'sad'), ('FR', 99, 'glad') RETURNING *"),
    (Alike, "INSERT INTO globex.orders (total, mood) VALUES (1, 'on'), (2, NULL) RETURNING id, total"),
    (Alike, "INSERT INTO globex.orders (total) VALUES (1)"),
    (Alike, "INSERT INTO acme.orders (country) VALUES ('XX')"),
    (Alike, "INSERT INTO acme.lines VALUES (1, 1, 'a'), (1, 2, 'b'), (2, 1, 'c')"),
    (Alike, "INSERT INTO \"Odd Co\".\"The Orders\" VALUES (1, 'one'), (2, 'two')"),
    (Alike, "INSERT INTO initech.orders (what) VALUES ('i') RETURNING id"),
    (Alike, "SELECT * FROM acme.orders ORDER BY id"),
    (Alike, "SELECT acme.orders.id, count(*) FROM acme.orders JOIN acme.lines ON order_id = id GROUP BY 1 ORDER BY 1"),
    (Alike, "SELECT * FROM acme.large"),
    (Alike, "SELECT * FROM acme.named ORDER BY 1"),
    (Alike, "SELECT o.id, u.name FROM acme.orders o JOIN users u ON u.id = o.id ORDER BY 1"),
    (Alike, "SELECT o.id, u.name FROM globex.orders o JOIN users u ON u.id = o.id WHERE u.id = 2"),
    (Alike, "UPDATE acme.orders SET total = total + 1 WHERE id = 1 RETURNING total"),
    (Alike, "DELETE FROM acme.lines WHERE no = 2"),
    (Alike, "SELECT what FROM \"Odd Co\".\"The Orders\" ORDER BY 1 DESC"),
    (Alike, "SELECT * FROM acme.nothing"),
    (Alike, "SELECT * FROM hooli.orders"),
    (Alike, "SELECT nope FROM globex.orders"),
    (Alike, "INSERT INTO globex.lines VALUES (1)"),
    (Refused("0A000"), "SELECT * FROM acme.orders, globex.orders"),
    (Refused("0A000"), "SELECT * FROM acme.orders UNION ALL SELECT id, NULL, total, NULL, NULL FROM globex.orders"),
    (Refused("0A000"), "INSERT INTO globex.orders (total) SELECT total FROM acme.orders"),
    (Refused("0A000"), "SELECT acme.twice(2)"),
    // search_path says which tenant it is; public is behind it.
    (Alike, "SET search_path = acme, public"),
    (Alike, "SELECT id, total FROM orders ORDER BY id"),
    (Alike, "SELECT count(*) FROM users"),
    (Alike, "SELECT name FROM users WHERE id = 3"),
    (Alike, "SELECT o.id, c.name FROM orders o JOIN countries c ON c.code = o.country ORDER BY 1"),
    (Alike, "SELECT * FROM lines"),
    (Alike, "CREATE TABLE extra (id integer PRIMARY KEY, v text)"),
    (Alike, "CREATE TYPE kind AS ENUM ('a', 'b')"),
    (Alike, "CREATE VIEW some AS SELECT v FROM extra"),
    (Alike, "INSERT INTO extra VALUES (1, 'x'), (2, 'y')"),
    (Alike, "SELECT * FROM some ORDER BY 1"),
    (Alike, "SET search_path = globex, public"),
    (Alike, "SELECT id, total FROM orders ORDER BY id"),
    (Alike, "SELECT * FROM extra"),
    (Alike, "SELECT * FROM lines"),
    (Alike, "SELECT v FROM acme.extra ORDER BY v"),
    (Alike, "CREATE TABLE extra (id integer, w text)"),
    (Alike, "SELECT * FROM extra"),
    (Alike, "DROP TABLE extra"),
    (Alike, "SET search_path = 'Odd Co'"),
    (Alike, "SELECT * FROM \"The Orders\" ORDER BY id"),
    (Alike, "SET search_path = hooli, initech"),
    (Alike, "SELECT what FROM orders"),
    (Alike, "RESET search_path"),
    (Alike, "SELECT * FROM orders"),
    (
        Alike,
        "BEGIN; SET LOCAL search_path = globex; INSERT INTO orders (total) VALUES (77); SELECT count(*) FROM orders; COMMIT",
    ),
    (Alike, "SELECT count(*) FROM globex.orders"),
    // Transactions over two tenants and the rest are one transaction.
    (
        Alike,
        "BEGIN; UPDATE acme.orders SET total = 5 WHERE id = 2; UPDATE globex.orders SET total = 6 WHERE id = 2; UPDATE users SET name = 'z'; COMMIT",
    ),
    (Alike, "BEGIN; DELETE FROM acme.lines; DELETE FROM globex.orders; ROLLBACK"),
    (
        Alike,
        "BEGIN; CREATE TABLE acme.later (n integer); INSERT INTO acme.later VALUES (1); SELECT * FROM acme.later; ROLLBACK",
    ),
    (Alike, "SELECT * FROM acme.later"),
    (Alike, "TRUNCATE acme.lines"),
    (Alike, "SELECT * FROM acme.lines"),
    (Alike, "LOCK TABLE acme.orders"),
    (Alike, "DROP TABLE acme.extra"),
    (Alike, "DROP TABLE acme.extra CASCADE"),
    (Alike, "DROP TYPE acme.kind"),
    (Alike, "DROP SEQUENCE acme.numbers"),
    (Alike, "DROP SCHEMA initech"),
    (Alike, "DROP SCHEMA initech CASCADE"),
    (Alike, "SELECT * FROM initech.orders"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_schema_is_whole_on_its_shard() -> Outcome {
    let house = House::build(&groups).await?;
    for (width, how) in WIDTHS.into_iter().zip([How::Simple, How::Unnamed, How::Named]) {
        let mut pair = house.pair(width)?;
        pair.cases(How::Simple, MADE);
        pair.cases(how, SAID);
        for how in [How::Simple, How::Unnamed, How::Named] {
            pair.same_by(how, "SELECT id, total, mood, note FROM acme.orders ORDER BY id", &[]);
            pair.same_by(how, "SELECT id, total, mood FROM globex.orders ORDER BY id", &[]);
            pair.same_by(how, "SELECT id, what FROM \"Odd Co\".\"The Orders\" ORDER BY id", &[]);
            pair.same_by(how, "SELECT id, name FROM users ORDER BY id", &[]);
        }
        // A type that only its shard has is of the number that it has there, and that a client finds if it asks there.
        let sql = "SELECT mood, id FROM globex.orders ORDER BY id LIMIT 1";
        let number = house.shard(1, width)?.simple("SELECT 'globex.mood'::regtype::oid::text").rows;
        for how in [How::Simple, How::Unnamed, How::Named] {
            let columns = pair.ours.run(how, sql, &[], false).columns.unwrap_or_default();
            let numbers: Vec<String> = columns.into_iter().map(|(_, number)| format!("[{number}]")).collect();
            assert_eq!(numbers, [shown(&number), "[23]".to_owned()], "{width} shards, {how:?}");
        }
        // A prepared statement means another tenant's table under another path.
        for path in ["acme", "globex", "acme"] {
            pair.same(&format!("SET search_path = {path}, public"));
            pair.same_by(How::Named, "SELECT total FROM orders WHERE id = $1", &[value("2")]);
            pair.same_by(How::Unnamed, "UPDATE orders SET total = total + $1 RETURNING id, total", &[value("1.5")]);
        }
        pair.same("RESET search_path");
        let data = b"21\tDE\t3.5\tsad\tn\n22\tFR\t4\tglad\t\\N\n";
        pair.same_copy("COPY acme.orders FROM STDIN", data, 7, false);
        pair.same("COPY acme.orders TO STDOUT");
        // Each is where the map says, and nowhere else.
        for (schema, home) in [("acme", 0), ("globex", 1), ("Odd Co", width - 1)] {
            for at in 0..width {
                let mut shard = house.shard(at, width)?;
                let sql = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'");
                let there = shown(&shard.simple(&sql).rows);
                assert_eq!(there, if at == home { "[1]" } else { "[0]" }, "{schema} on shard {at} of {width}");
            }
        }
    }
    house.nothing_is_prepared().await?;
    catalogs_may_differ(&house).await?;
    what_stands_astray_is_seen(&house).await?;
    house.stop().await
}

/// Tables that a tenant makes on its own server are known soon.
async fn catalogs_may_differ(house: &House) -> Outcome {
    for width in WIDTHS {
        let mut pair = house.pair(width)?;
        let sql = "CREATE TABLE globex.behind (id integer); INSERT INTO globex.behind VALUES (3)";
        assert_eq!(house.shard(1, width)?.simple(sql).error, None);
        assert_eq!(pair.plain.simple(sql).error, None);
        until("the proxy to know the table", async || {
            Ok(pair.ours.simple("SELECT id FROM globex.behind").error.is_none())
        })
        .await?;
        pair.same("SELECT id FROM globex.behind");
        pair.same("SET search_path = globex");
        pair.same("SELECT id FROM behind");
    }
    Ok(())
}

/// A table of a tenant's on another shard is not mistaken for anything.
async fn what_stands_astray_is_seen(house: &House) -> Outcome {
    let width = 3;
    let mut astray: Client = house.shard(2, width)?;
    let sql = "CREATE SCHEMA acme; CREATE TABLE acme.users (id bigint, name text); INSERT INTO acme.users VALUES (3, 'stray')";
    assert_eq!(astray.simple(sql).error, None);
    let mut pair = house.pair(width)?;
    until("the proxy to see it", async || {
        Ok(pair.ours.simple("SELECT * FROM acme.users").error.is_some_and(|it| it.message.contains("shard")))
    })
    .await?;
    assert_eq!(pair.ours.simple("SET search_path = acme, public").error, None);
    for how in [How::Simple, How::Named] {
        let message = pair.refused(how, "55000", "SELECT name FROM users WHERE id = 3");
        assert!(message.contains("s3"), "{message}");
    }
    pair.same("SELECT id, total FROM acme.orders");
    assert_eq!(astray.simple("DROP SCHEMA acme CASCADE").error, None);
    until("the proxy to see that it is gone", async || {
        Ok(pair.ours.simple("SELECT name FROM users WHERE id = 3").error.is_none())
    })
    .await?;
    Ok(())
}
