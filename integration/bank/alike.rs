//! Transactions that see one moment, as on one server: two sessions in turn, through the proxy and on a plain Postgres.

use crate::bytes::Answer;
use crate::bytes::Client;
use crate::bytes::How;
use crate::house::House;
use crate::proxy::Outcome;

const HOWS: [How; 3] = [How::Simple, How::Unnamed, How::Named];

/// Who says it: the one that reads at one moment, or the other. Rows are compared in order where the statement has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    One,
    Other,
}
use Who::One;
use Who::Other;

const ALL: &str = "SELECT id, balance FROM accounts ORDER BY id";
const SUM: &str = "SELECT count(*), sum(balance) FROM accounts";

/// What is the same in both. Accounts 1 to 12 are on three shards.
const SCRIPTS: &[&[(Who, &str)]] = &[
    // What others commit is not seen; what it writes itself is.
    &[
        (One, "BEGIN ISOLATION LEVEL REPEATABLE READ"),
        (One, SUM),
        (Other, "UPDATE accounts SET balance = balance + 1"),
        (Other, "INSERT INTO accounts VALUES (101, 5), (102, 6), (103, 7), (104, 8)"),
        (Other, "DELETE FROM accounts WHERE id IN (1, 2, 3)"),
        (One, SUM),
        (One, ALL),
        (One, "SELECT balance FROM accounts WHERE id = 1"),
        (One, "SELECT balance FROM accounts WHERE id = 101"),
        (One, "SELECT a.id, b.id FROM accounts a JOIN accounts b ON b.id = a.id + 1 ORDER BY 1"),
        (One, "INSERT INTO accounts VALUES (201, 1), (202, 1), (203, 1), (204, 1) RETURNING id"),
        (One, SUM),
        (One, "COMMIT"),
        (One, SUM),
        (One, ALL),
    ],
    // Who writes a row that has changed since is told so; the first to commit wins.
    &[
        (One, "BEGIN ISOLATION LEVEL REPEATABLE READ"),
        (One, ALL),
        (Other, "UPDATE accounts SET balance = 7 WHERE id = 5"),
        (One, "UPDATE accounts SET balance = balance + 1 WHERE id = 6"),
        (One, "UPDATE accounts SET balance = balance + 1 WHERE id = 5"),
        (One, "SELECT 1"),
        (One, "COMMIT"),
        (One, ALL),
        (One, "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
        (One, SUM),
        (Other, "UPDATE accounts SET balance = 8 WHERE id = 9"),
        (One, "UPDATE accounts SET balance = balance + 1"),
        (One, "ROLLBACK"),
        (One, "BEGIN ISOLATION LEVEL REPEATABLE READ"),
        (One, SUM),
        (Other, "DELETE FROM accounts WHERE id = 3"),
        (One, "DELETE FROM accounts WHERE id < 7"),
        (One, "ROLLBACK"),
        (One, ALL),
    ],
    // The first statement writes, and takes the moment too.
    &[
        (One, "BEGIN ISOLATION LEVEL REPEATABLE READ"),
        (One, "UPDATE accounts SET balance = balance * 2"),
        (Other, "INSERT INTO accounts VALUES (301, 1), (302, 1), (303, 1)"),
        (One, SUM),
        (One, "COMMIT"),
        (One, SUM),
        (One, "BEGIN ISOLATION LEVEL REPEATABLE READ"),
        (One, "INSERT INTO accounts VALUES (401, 1), (402, 1), (403, 1), (404, 1)"),
        (Other, "UPDATE accounts SET balance = 0 WHERE id < 5"),
        (One, SUM),
        (One, "COMMIT"),
        (One, ALL),
    ],
    // Rows are locked as they were at the moment, or it fails.
    &[
        (One, "BEGIN ISOLATION LEVEL REPEATABLE READ"),
        (One, "SELECT id, balance FROM accounts WHERE id < 9 FOR UPDATE"),
        (Other, "INSERT INTO accounts VALUES (801, 1), (802, 1), (803, 1)"),
        (One, SUM),
        (One, "COMMIT"),
        (One, "BEGIN ISOLATION LEVEL REPEATABLE READ"),
        (One, SUM),
        (Other, "UPDATE accounts SET balance = 3 WHERE id = 4"),
        (One, "SELECT id, balance FROM accounts FOR UPDATE"),
        (One, "ROLLBACK"),
        (One, ALL),
    ],
    // Savepoints, made before the moment is taken and behind it.
    &[
        (One, "BEGIN ISOLATION LEVEL REPEATABLE READ"),
        (One, "SET LOCAL statement_timeout = '30s'"),
        (One, "SAVEPOINT a"),
        (One, SUM),
        (Other, "UPDATE accounts SET balance = 1"),
        (One, "SAVEPOINT b"),
        (One, "UPDATE accounts SET balance = 5 WHERE id = 5"),
        (One, "ROLLBACK TO b"),
        (One, "SHOW statement_timeout"),
        (One, SUM),
        (One, "INSERT INTO accounts VALUES (501, 1), (502, 2), (503, 3)"),
        (One, "ROLLBACK TO a"),
        (One, SUM),
        (One, "INSERT INTO accounts VALUES (504, 1), (505, 2), (506, 3)"),
        (One, "RELEASE a"),
        (One, "COMMIT"),
        (One, "SHOW statement_timeout"),
        (One, ALL),
    ],
    // Each transaction has a moment of its own, chained ones too; modes are those that were said.
    &[
        (One, "BEGIN"),
        (One, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"),
        (One, SUM),
        (Other, "UPDATE accounts SET balance = balance + 3"),
        (One, SUM),
        (One, "SHOW transaction_isolation"),
        (One, "COMMIT AND CHAIN"),
        (One, SUM),
        (Other, "UPDATE accounts SET balance = balance + 3"),
        (One, SUM),
        (One, "ROLLBACK AND CHAIN"),
        (One, ALL),
        (One, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"),
        (One, "ROLLBACK"),
        (One, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"),
        (One, SUM),
        (One, "INSERT INTO accounts VALUES (601, 1)"),
        (One, "ROLLBACK"),
    ],
    // By default: every statement is such a transaction.
    &[
        (One, "SET default_transaction_isolation = 'repeatable read'"),
        (One, SUM),
        (One, "UPDATE accounts SET balance = balance + 1"),
        (One, "INSERT INTO accounts VALUES (701, 1), (702, 1), (703, 1) RETURNING id"),
        (Other, "UPDATE accounts SET balance = balance + 1"),
        (One, ALL),
        (One, "BEGIN"),
        (One, ALL),
        (Other, "UPDATE accounts SET balance = balance + 1"),
        (One, ALL),
        (One, "COMMIT"),
        (One, "DELETE FROM accounts WHERE balance > 3"),
        (One, "RESET default_transaction_isolation"),
    ],
    // With the setting, whatever comes first.
    &[
        (One, "BEGIN ISOLATION LEVEL REPEATABLE READ"),
        (One, "/* strict */ SELECT balance FROM accounts WHERE id = 1"),
        (Other, "UPDATE accounts SET balance = balance + 1"),
        (One, "SELECT balance FROM accounts WHERE id IN (1, 2, 3, 4, 5) ORDER BY id"),
        (One, SUM),
        (One, "DECLARE c CURSOR FOR SELECT balance FROM accounts WHERE id = 2"),
        (One, "FETCH ALL FROM c"),
        (One, "COMMIT"),
        (One, SUM),
        (One, "SELECT count(*) FROM accounts WHERE balance >= 0"),
        (One, "SELECT id / (id - 5) FROM accounts"),
        (One, "SELECT sum(balance), min(id), max(id) FROM accounts"),
        (One, ALL),
    ],
];

fn told(answer: &Answer, ordered: bool) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut rows = answer.rows.clone();
    if !ordered {
        rows.sort();
    }
    let state = match &answer.error {
        // What came before an error counts for nothing.
        Some(error) => {
            rows.clear();
            error.sqlstate.clone()
        }
        None => answer.tags.join(" "),
    };
    (state, answer.status, rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_moment_is_what_it_is_on_one_server() -> Outcome {
    let table = "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL)";
    let house = House::build(&[table], &[]).await?;
    let node = &house.cluster.nodes()[0];
    node.value("shop", "CREATE DATABASE plain OWNER demo").await?;
    let session = |ours: bool| -> Outcome<Client> {
        if ours { house.client() } else { Ok(Client::connect(node.port(), "demo", "plain")?) }
    };
    assert_eq!(session(false)?.simple(table).error, None);
    let mut compared = 0;
    for script in SCRIPTS {
        for how in HOWS {
            for setting in ["shard", "strict"] {
                let (mut ours, mut theirs) = ([session(true)?, session(true)?], [session(false)?, session(false)?]);
                for clients in [&mut ours, &mut theirs] {
                    assert_eq!(clients[1].simple("DELETE FROM accounts WHERE id > -1").error, None);
                    let rows: Vec<String> = (1..=12).map(|id| format!("({id}, {id})")).collect();
                    let filled = clients[1].simple(&format!("INSERT INTO accounts VALUES {}", rows.join(", ")));
                    assert_eq!(filled.error, None);
                }
                assert_eq!(ours[0].simple(&format!("SET shardway.snapshot = {setting}")).error, None);
                if setting == "shard" && script.iter().any(|(_, sql)| sql.starts_with("/* strict */")) {
                    continue;
                }
                for (who, sql) in *script {
                    let at = usize::from(*who == Other);
                    let (one, other) = (ours[at].run(how, sql, &[], false), theirs[at].run(how, sql, &[], false));
                    let ordered = sql.contains("ORDER BY");
                    assert_eq!(
                        told(&one, ordered),
                        told(&other, ordered),
                        "{how:?}, {setting}: {sql}: {:?}",
                        one.error
                    );
                    compared += 1;
                }
            }
        }
    }
    println!("figure: {compared} answers alike");
    refused(&mut session(true)?, &house).await
}

/// What cannot be had at one moment is refused, with what to do.
async fn refused(client: &mut Client, house: &House) -> Outcome {
    let keys = house.keys_of_shards("accounts").await?;
    let (a, b) = (keys[0][0], keys[1][0]);
    let of = |id: i64| format!("SELECT balance FROM accounts WHERE id = {id}");
    let mut none = |all: &[&str], last: &str, sqlstate: &str, says: &str| {
        for how in HOWS {
            for sql in all {
                assert_eq!(client.simple(sql).error, None, "{sql}");
            }
            let error = client.run(how, last, &[], false).error.unwrap_or_else(|| panic!("{all:?} {last}: refused"));
            assert_eq!(error.sqlstate, sqlstate, "{error}");
            assert!(error.to_string().contains(says) && !error.hint.is_empty(), "{error}");
            client.simple("ROLLBACK");
            client.simple("RESET ALL");
        }
    };
    none(&["BEGIN ISOLATION LEVEL REPEATABLE READ", &of(a)], &of(b), "0A000", "first statement");
    none(&["BEGIN ISOLATION LEVEL REPEATABLE READ", &of(a)], SUM, "0A000", "first statement");
    none(&["BEGIN ISOLATION LEVEL SERIALIZABLE"], SUM, "0A000", "SERIALIZABLE across shards");
    none(&["BEGIN ISOLATION LEVEL SERIALIZABLE", &of(a)], &of(b), "0A000", "SERIALIZABLE across shards");
    let strict = "SET shardway.snapshot = 'strict'";
    none(&[strict, "BEGIN ISOLATION LEVEL SERIALIZABLE"], SUM, "0A000", "SERIALIZABLE across shards");
    let by_default = "SET default_transaction_isolation = 'serializable'";
    none(&[by_default], SUM, "0A000", "SERIALIZABLE across shards");
    none(&[strict, "BEGIN"], SUM, "0A000", "READ COMMITTED");
    none(&["BEGIN", "SET LOCAL shardway.snapshot = 'atomic'"], ALL, "0A000", "READ COMMITTED");
    none(&[], "SET shardway.snapshot = 'exact'", "22023", "invalid value");
    // Outside of what is refused the session goes on, and one shard's reads never need a moment.
    for sql in [strict, "BEGIN", &of(a), &of(b), "COMMIT", SUM, "SELECT 1; SELECT 2", "SHOW shardway.snapshot"] {
        assert_eq!(client.simple(sql).error, None, "{sql}");
    }
    assert_eq!(client.simple("SHOW shardway.snapshot").rows, [[Some(b"strict".to_vec())]]);
    client.simple("RESET shardway.snapshot");
    assert_eq!(client.simple("SHOW shardway.snapshot").rows, [[Some(b"shard".to_vec())]]);
    Ok(())
}
