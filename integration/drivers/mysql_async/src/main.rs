//! mysql_async against the demo's shop on MariaDB: `mysql-async PORT BASE`, as the other drivers' programs.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::IsolationLevel;
use mysql_async::OptsBuilder;
use mysql_async::TxOpts;
use mysql_async::prelude::Queryable;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const INSERT: &str = "INSERT INTO customers (id, name, email, country) VALUES (?, 'async', 'r@example.com', 'NL')";
const UPDATE: &str = "UPDATE customers SET name = ? WHERE id = ?";
const NAME: &str = "SELECT name FROM customers WHERE id = ?";
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the proxy is, and where this program's customers begin.
#[derive(Clone, Copy)]
struct Shop {
    port: u16,
    base: i64,
}

/// A line for the test; true: it holds.
async fn test(name: &str, test: impl Future<Output = Outcome>) -> bool {
    let outcome = match tokio::time::timeout(PATIENCE, test).await {
        Ok(outcome) => outcome,
        Err(_) => Err("takes too long".into()),
    };
    match &outcome {
        Ok(()) => println!("ok mysql_async: {name}"),
        Err(error) => println!("FAIL mysql_async: {name}: {}", error.to_string().replace('\n', " ")),
    }
    outcome.is_ok()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let mut next = || arguments.next().and_then(|it| it.parse::<i64>().ok()).expect("mysql-async PORT BASE");
    let shop = Shop { port: u16::try_from(next()).expect("a port"), base: next() };
    let all = [
        test("logins", shop.logins()).await,
        test("rows are found where they were written", shop.rows_are_found()).await,
        test("transactions on one shard and on two", shop.transactions()).await,
        test("batches, and reads of several shards", shop.batches()).await,
        test("several statements and large values", shop.several_statements()).await,
        test("a pool gives sessions as new", shop.pool()).await,
    ];
    if all.iter().all(|it| *it) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// An assertion that ends the test alone.
fn same<T: PartialEq + std::fmt::Debug>(got: T, wanted: T) -> Outcome {
    if got == wanted { Ok(()) } else { Err(format!("got {got:?}, wanted {wanted:?}").into()) }
}

fn code<T>(outcome: Result<T, mysql_async::Error>) -> Option<u16> {
    match outcome.err()? {
        mysql_async::Error::Server(error) => Some(error.code),
        _ => None,
    }
}

async fn called(connection: &mut Conn, some: &[i64]) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    for key in some {
        found.push(connection.exec_first(NAME, (key,)).await?.ok_or("no row")?);
    }
    Ok(found)
}

fn words(word: &str, count: usize) -> Vec<String> {
    vec![word.to_owned(); count]
}

impl Shop {
    fn login(self) -> OptsBuilder {
        // It would ask for the server's socket, and go there.
        let login = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(self.port).prefer_socket(false);
        login.user(Some("app")).pass(Some("so secret")).db_name(Some("shop"))
    }

    async fn connected(self) -> Outcome<Conn> {
        Ok(Conn::new(self.login()).await?)
    }

    /// Two customers of one shard and a third of another.
    async fn customers(self, connection: &mut Conn, begin: i64) -> Outcome<[i64; 3]> {
        let house: PathBuf = env::var_os("SHARDWAY_MYSQL_HOUSE").ok_or("run this as: integration/run.sh mysql_async")?.into();
        let first = fs::read_to_string(house.join("first"))?;
        let first: BTreeSet<i64> = first.lines().map(str::parse).collect::<Result<_, _>>()?;
        let begin = self.base + begin;
        let (here, there): (Vec<i64>, Vec<i64>) = (begin..begin + 40).partition(|key| first.contains(key));
        let found = [here[0], here[1], there[0]];
        for key in found {
            connection.exec_drop(INSERT, (key,)).await?;
            same(connection.affected_rows(), 1)?;
        }
        Ok(found)
    }

    async fn logins(self) -> Outcome {
        let mut connection = self.connected().await?;
        same(called(&mut connection, &[7]).await?, words("Amber Paper 7", 1))?;
        connection.ping().await?;
        same(connection.server_version() >= (10, 0, 0), true)?;
        connection.disconnect().await?;
        same(code(Conn::new(self.login().pass(Some("wrong"))).await), Some(1045))
    }

    async fn rows_are_found(self) -> Outcome {
        let mut connection = self.connected().await?;
        let found = self.customers(&mut connection, 0).await?;
        for _ in 0..3 {
            same(called(&mut connection, &found).await?, words("async", 3))?;
        }
        let statement = connection.prep("SELECT id FROM customers WHERE id IN (?, ?, ?)").await?;
        for _ in 0..2 {
            let mut rows: Vec<i64> = connection.exec(&statement, (found[0], found[1], found[2])).await?;
            rows.sort_unstable();
            let mut wanted = found;
            wanted.sort_unstable();
            same(rows, wanted.to_vec())?;
        }
        connection.close(statement).await?;
        same(code(connection.exec_drop(INSERT, (found[2],)).await), Some(1062))?;
        same(code(connection.query_drop("SELEC 1").await), Some(1064))?;
        same(code(connection.query_drop("SELECT * FROM no_such_table").await), Some(1146))?;
        same(called(&mut connection, &found).await?, words("async", 3))?;
        Ok(())
    }

    async fn transactions(self) -> Outcome {
        let mut connection = self.connected().await?;
        let [a, b, c] = self.customers(&mut connection, 50).await?;
        for (key, other) in [(a, b), (a, c)] {
            let mut transaction = connection.start_transaction(TxOpts::default()).await?;
            transaction.exec_drop(UPDATE, ("lost", key)).await?;
            transaction.exec_drop(UPDATE, ("lost", other)).await?;
            transaction.rollback().await?;
            same(!called(&mut connection, &[key, other]).await?.contains(&"lost".to_owned()), true)?;
            let mut options = TxOpts::default();
            options.with_isolation_level(IsolationLevel::ReadCommitted);
            let mut transaction = connection.start_transaction(options).await?;
            transaction.exec_drop(UPDATE, ("kept", key)).await?;
            transaction.query_drop("SAVEPOINT one").await?;
            transaction.exec_drop(UPDATE, ("lost", other)).await?;
            transaction.query_drop("ROLLBACK TO SAVEPOINT one").await?;
            transaction.exec_drop(UPDATE, ("kept", other)).await?;
            transaction.commit().await?;
            same(called(&mut connection, &[key, other]).await?, words("kept", 2))?;
        }
        // One that is dropped half done is rolled back by the driver before the connection is used again.
        let mut transaction = connection.start_transaction(TxOpts::default()).await?;
        transaction.exec_drop(UPDATE, ("lost", a)).await?;
        transaction.exec_drop(UPDATE, ("lost", c)).await?;
        drop(transaction);
        same(called(&mut connection, &[a, c]).await?, words("kept", 2))?;
        Ok(())
    }

    async fn batches(self) -> Outcome {
        let mut connection = self.connected().await?;
        let keys: Vec<i64> = (self.base + 100..self.base + 140).collect();
        connection.exec_batch(INSERT, keys.iter().map(|key| (key,))).await?;
        let (first, last) = (keys[0], keys[39]);
        let counted = "SELECT COUNT(*), MIN(id), MAX(id) FROM customers WHERE id BETWEEN ? AND ?";
        same(connection.exec_first(counted, (first, last)).await?, Some((40_i64, first, last)))?;
        let text = format!("SELECT id FROM customers WHERE id BETWEEN {first} AND {last} ORDER BY id DESC LIMIT 2");
        same(connection.query::<i64, _>(text).await?, vec![last, last - 1])?;
        // Rows as they come; those that are left are read before the next statement.
        for most in [1000, 5] {
            let mut rows = connection.exec_iter("SELECT id, name FROM customers WHERE id <= ?", (1000,)).await?;
            let mut count = 0;
            while count < most && rows.next().await?.is_some() {
                count += 1;
            }
            drop(rows);
            same(count, most)?;
        }
        connection.exec_drop("DELETE FROM customers WHERE id BETWEEN ? AND ?", (first, last)).await?;
        same(connection.affected_rows(), 40)?;
        let mut numbers = BTreeSet::new();
        for turn in 0..3 {
            connection.exec_drop("INSERT INTO notes (body) VALUES (?)", (format!("mysql_async {turn}"),)).await?;
            numbers.insert(connection.last_insert_id().ok_or("a number")?);
        }
        same(numbers.len(), 3)?;
        Ok(())
    }

    async fn several_statements(self) -> Outcome {
        let mut connection = self.connected().await?;
        let [a, _, c] = self.customers(&mut connection, 150).await?;
        let text = format!(
            "UPDATE customers SET name = 'x' WHERE id = {a}; SELECT name FROM customers WHERE id IN ({a}, {c}); SELECT 1"
        );
        let mut results = connection.query_iter(text).await?;
        same(results.affected_rows(), 1)?;
        same(results.collect::<String>().await?.is_empty(), true)?;
        let mut both = results.collect::<String>().await?;
        both.sort_unstable();
        same(both, vec!["async".to_owned(), "x".to_owned()])?;
        same(results.collect::<i64>().await?, vec![1])?;
        results.drop_result().await?;
        // More than fits into one packet goes ahead of Execute, in pieces.
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|it| it.to_le_bytes()[0]).collect();
        for key in [a, c] {
            connection.exec_drop("INSERT INTO typed (id, bytes) VALUES (?, ?)", (key, &bytes)).await?;
            let got: Option<Vec<u8>> = connection.exec_first("SELECT bytes FROM typed WHERE id = ?", (key,)).await?;
            same(got.as_ref() == Some(&bytes), true)?;
        }
        Ok(())
    }

    async fn pool(self) -> Outcome {
        // Of one connection, so that it is the next one, too.
        let one = mysql_async::PoolConstraints::new(1, 1).ok_or("constraints")?;
        let options = mysql_async::PoolOpts::default().with_constraints(one);
        let pool = mysql_async::Pool::new(self.login().pool_opts(options));
        let mut connection = pool.get_conn().await?;
        let number = connection.id();
        connection.query_drop("SET time_zone = '+05:00'").await?;
        drop(connection);
        let mut connection = pool.get_conn().await?;
        // The same connection, without what was said in it.
        same(connection.id(), number)?;
        let zone: Option<String> = connection.query_first("SELECT @@time_zone").await?;
        same(zone.as_deref() == Some("+05:00"), false)?;
        same(called(&mut connection, &[7]).await?, words("Amber Paper 7", 1))?;
        drop(connection);
        pool.disconnect().await?;
        Ok(())
    }
}
