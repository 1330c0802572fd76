//! AUTO_INCREMENT by two proxies: no number comes twice, whatever befalls the shard that counts, and behind TRUNCATE and DROP.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;

use crate::client::Client;
use crate::house::House;
use crate::house::Which;
use crate::house::number;
use crate::proxy::Outcome;
use crate::proxy::until;

/// How many statements each client says in one phase.
const STATEMENTS: usize = 60;
const CLIENTS: usize = 2;
/// A duplicate.
const DUPLICATE: u16 = 1062;

/// What lies between two phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Nothing,
    /// The shard that counts is killed in the midst of it, and started again.
    Kill,
    Truncate,
    Drop,
}

/// Inserts rows, and starts again where that fails for another reason than a duplicate. How many statements were done.
fn insert(port: u16, who: usize, over: &AtomicBool) -> usize {
    let mut done = 0;
    let mut client: Option<Client> = None;
    for turn in 0.. {
        if done >= STATEMENTS && over.load(Ordering::Relaxed) {
            break;
        }
        let Some(session) = client.as_mut() else {
            client = Client::connect(port, USER, PASSWORD, "shop").ok();
            continue;
        };
        let rows: Vec<String> = (0..=turn % 4).map(|_| format!("({who})")).collect();
        let answer = session.one(&format!("INSERT INTO orders (who) VALUES {}", rows.join(", ")));
        match answer.error {
            None => {
                assert!(answer.insert_id > 0, "a number was told");
                done += 1;
            }
            Some(error) => {
                assert_ne!(error.errno, DUPLICATE, "a number came twice: {error}");
                if session.is_lost() {
                    client = None;
                }
            }
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn numbers_of_two_proxies_come_once() -> Outcome {
    let house = House::build().await?;
    // All numbers that ever were, and those of rows that must still be there.
    let (mut known, mut there): (BTreeSet<i64>, BTreeSet<i64>) = Default::default();
    let phases = [Between::Nothing, Between::Kill, Between::Truncate, Between::Kill, Between::Drop, Between::Truncate];
    for (at, between) in phases.into_iter().enumerate() {
        let mut client = house.client(if at % 2 == 0 { Which::First } else { Which::Second })?;
        match between {
            Between::Nothing | Between::Kill => {}
            Between::Truncate => drop(client.done("TRUNCATE TABLE orders")?),
            Between::Drop => {
                client.done("DROP TABLE orders")?;
                client.done("CREATE TABLE orders (id bigint AUTO_INCREMENT PRIMARY KEY, who int NOT NULL)")?;
            }
        }
        if matches!(between, Between::Truncate | Between::Drop) {
            assert_eq!(house.rows("SELECT id FROM orders")?.len(), 0);
        }
        let over = Arc::new(AtomicBool::new(between != Between::Kill));
        let inserting: Vec<_> = [Which::First, Which::Second]
            .into_iter()
            .flat_map(|which| std::iter::repeat_n(house.port(which), CLIENTS))
            .enumerate()
            .map(|(who, port)| {
                let over = Arc::clone(&over);
                thread::spawn(move || insert(port, who, &over))
            })
            .collect();
        if between == Between::Kill {
            // The catalog shard counts.
            let node = &house.cluster.nodes()[0];
            let before = house.rows("SELECT id FROM orders")?.len();
            until("some rows", async || Ok(house.rows("SELECT id FROM orders")?.len() > before)).await?;
            node.kill9().await?;
            until("the server's start", async || Ok(node.start().await.is_ok())).await?;
            over.store(true, Ordering::Relaxed);
        }
        for it in inserting {
            assert!(it.join().map_err(|_| format!("a client panicked\n{}", house.log()))? >= STATEMENTS);
        }
        house.settled().await?;
        let ids: BTreeSet<i64> = house.rows("SELECT id FROM orders")?.iter().map(|row| number(row, 0)).collect();
        let count = house.rows("SELECT id FROM orders")?.len();
        assert_eq!(ids.len(), count, "a number lies on two shards");
        match between {
            // What was there is there still.
            Between::Nothing | Between::Kill => assert!(ids.is_superset(&there), "rows are lost"),
            Between::Truncate | Between::Drop => {
                let again: Vec<&i64> = ids.intersection(&known).collect();
                assert!(again.is_empty(), "behind {between:?} came again {again:?}");
            }
        }
        known.extend(&ids);
        there = ids;
    }
    println!("figure: {} numbers by two proxies, none twice", known.len());
    house.stop().await
}

/// What one proxy has altered, the other one knows soon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_proxy_alters_the_other_sees() -> Outcome {
    let house = House::build().await?;
    let (mut one, mut other) = (house.client(Which::First)?, house.client(Which::Second)?);
    one.done("INSERT INTO orders (who) VALUES (1), (2), (3), (4), (5)")?;
    let sees = async |other: &mut Client, sql: &str, wanted: usize| -> Outcome {
        let mut said = String::new();
        until("the other proxy to see it", async || {
            let answer = other.one(sql);
            said = answer.error.as_ref().map(ToString::to_string).unwrap_or_default();
            Ok(answer.error.is_none() && answer.columns.is_some_and(|it| it.len() == wanted))
        })
        .await
        .map_err(|error| format!("{error}: {sql}: {said}").into())
    };
    // A column more, of which statements of several shards make use; prepared before and after.
    let statement = other.prepare("SELECT * FROM orders ORDER BY id")?;
    one.done("ALTER TABLE orders ADD COLUMN more varchar(10) DEFAULT 'new'")?;
    sees(&mut other, "SELECT * FROM orders ORDER BY id", 3).await?;
    let again = other.execute(&statement, &[], crate::client::Types::Told);
    let columns = again[0].columns.as_ref().map(Vec::len);
    assert_eq!((columns, again[0].rows.len()), (Some(3), 5), "{:?}", again[0].error);
    let count = other.done("SELECT COUNT(*) FROM orders WHERE more = 'new'")?.value();
    assert_eq!(count.as_deref(), Some("5"));
    // Who plans by what it has read of the schema refuses the column until it has read it again.
    until("the other proxy to know the column", async || {
        let error = other.one("INSERT INTO orders (who, more) VALUES (6, 'own'), (7, DEFAULT), (8, NULL)").error;
        match error.map(|it| it.errno) {
            None => Ok(true),
            Some(1235) => Ok(false),
            Some(other) => Err(format!("error {other}").into()),
        }
    })
    .await?;
    one.done("ALTER TABLE orders DROP COLUMN more, ADD UNIQUE KEY of_two (id, who)")?;
    sees(&mut other, "SELECT * FROM orders", 2).await?;
    // Until then it asks servers for the column that is gone, which is their error.
    let mut count = None;
    until("the other proxy to forget the column", async || {
        let answer = other.one("SELECT COUNT(*), SUM(who) FROM orders");
        count = answer.value();
        match answer.error.map(|it| it.errno) {
            None => Ok(true),
            Some(1054) => Ok(false),
            Some(other) => Err(format!("error {other}").into()),
        }
    })
    .await?;
    assert_eq!(count.as_deref(), Some("8"));
    // One that is gone.
    one.done("DROP TABLE t")?;
    let mut gone = None;
    until("the table to be gone", async || {
        gone = other.one("SELECT * FROM t WHERE id = 1").error.map(|it| it.errno);
        Ok(gone == Some(1146))
    })
    .await
    .map_err(|error| format!("{error}: {gone:?}"))?;
    house.stop().await
}
