//! sqlx against the demo's shop on MariaDB, by the proxy whose folder is in `SHARDWAY_MYSQL_HOUSE`: integration/run.sh sets it.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::PathBuf;

use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::Executor;
use sqlx::Row;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::mysql::MySqlConnection;
use sqlx::mysql::MySqlPoolOptions;
use sqlx::mysql::MySqlSslMode;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const INSERT: &str = "INSERT INTO customers (id, name, email, country) VALUES (?, 'sqlx', 'r@example.com', 'NL')";
const UPDATE: &str = "UPDATE customers SET name = ? WHERE id = ?";
const NAME: &str = "SELECT name FROM customers WHERE id = ?";
/// Where its customers begin.
const BASE: i64 = 18_000_000;

fn house() -> PathBuf {
    env::var_os("SHARDWAY_MYSQL_HOUSE").expect("run this as: integration/run.sh mysql_rust_drivers").into()
}

fn port() -> Outcome<u16> {
    let map = fs::read_to_string(house().join("shard-map.yaml"))?;
    let port = map.split_once("mysql: 127.0.0.1:").and_then(|(_, rest)| rest.split_whitespace().next());
    Ok(port.ok_or("a port")?.parse()?)
}

/// Two keys of one shard and a third of another.
fn apart(begin: i64) -> Outcome<[i64; 3]> {
    let first = fs::read_to_string(house().join("first"))?;
    let first: BTreeSet<i64> = first.lines().map(str::parse).collect::<Result<_, _>>()?;
    let (here, there): (Vec<i64>, Vec<i64>) = (BASE + begin..BASE + begin + 40).partition(|key| first.contains(key));
    Ok([here[0], here[1], there[0]])
}

fn options() -> Outcome<MySqlConnectOptions> {
    let options = MySqlConnectOptions::new().host("127.0.0.1").port(port()?);
    Ok(options.username("app").password("so secret").database("shop"))
}

async fn customers(connection: &mut MySqlConnection, begin: i64) -> Outcome<[i64; 3]> {
    let found = apart(begin)?;
    for key in found {
        assert_eq!(sqlx::query(INSERT).bind(key).execute(&mut *connection).await?.rows_affected(), 1);
    }
    Ok(found)
}

async fn names(connection: &mut MySqlConnection, some: &[i64]) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    for key in some {
        found.push(sqlx::query(NAME).bind(key).fetch_one(&mut *connection).await?.try_get(0)?);
    }
    Ok(found)
}

/// The number of a server's error.
fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?;
    Some(error.number())
}

#[tokio::test]
async fn sqlx_logs_in_with_tls_and_without() -> Outcome {
    for mode in [MySqlSslMode::Disabled, MySqlSslMode::Required] {
        let options = options()?.ssl_mode(mode);
        let mut connection = MySqlConnection::connect_with(&options).await?;
        assert_eq!(names(&mut connection, &[7]).await?, ["Amber Paper 7"]);
        connection.ping().await?;
        connection.close().await?;
        let refused = MySqlConnection::connect_with(&options.password("wrong")).await;
        assert_eq!(refused.err().as_ref().and_then(number), Some(1045));
    }
    Ok(())
}

#[tokio::test]
async fn sqlx_finds_rows_where_it_wrote_them() -> Outcome {
    let mut connection = MySqlConnection::connect_with(&options()?).await?;
    let [a, b, c] = customers(&mut connection, 0).await?;
    for _ in 0..3 {
        assert_eq!(names(&mut connection, &[a, b, c]).await?, ["sqlx"; 3]);
    }
    let rows = sqlx::query("SELECT id FROM customers WHERE id IN (?, ?, ?)").bind(a).bind(b).bind(c);
    let mut found = Vec::new();
    for row in rows.fetch_all(&mut connection).await? {
        found.push(row.try_get::<i64, _>(0)?);
    }
    found.sort_unstable();
    let mut wanted = [a, b, c];
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    let twice = sqlx::query(INSERT).bind(c).execute(&mut connection).await;
    assert_eq!(twice.err().as_ref().and_then(number), Some(1062));
    let wrong = connection.execute("SELEC 1").await;
    assert_eq!(wrong.err().as_ref().and_then(number), Some(1064));
    assert_eq!(names(&mut connection, &[c]).await?, ["sqlx"]);
    Ok(())
}

#[tokio::test]
async fn sqlx_transactions_commit_and_roll_back_on_one_shard_and_on_two() -> Outcome {
    let mut connection = MySqlConnection::connect_with(&options()?).await?;
    let [a, b, c] = customers(&mut connection, 50).await?;
    for (key, other) in [(a, b), (a, c)] {
        let mut transaction = connection.begin().await?;
        for key in [key, other] {
            sqlx::query(UPDATE).bind("lost").bind(key).execute(&mut *transaction).await?;
        }
        transaction.rollback().await?;
        assert!(!names(&mut connection, &[key, other]).await?.contains(&"lost".to_owned()));
        let mut transaction = connection.begin().await?;
        for key in [key, other] {
            sqlx::query(UPDATE).bind("kept").bind(key).execute(&mut *transaction).await?;
        }
        // A transaction within, by a savepoint.
        let mut within = transaction.begin().await?;
        sqlx::query(UPDATE).bind("lost").bind(other).execute(&mut *within).await?;
        within.rollback().await?;
        transaction.commit().await?;
        assert_eq!(names(&mut connection, &[key, other]).await?, ["kept", "kept"]);
    }
    Ok(())
}

#[tokio::test]
async fn sqlx_pools_give_what_types_hold() -> Outcome {
    // What one session of the pool wrote another reads: by themselves only a session's own writes are there at once.
    let pool = MySqlPoolOptions::new().max_connections(4).after_connect(|connection, _| {
        Box::pin(
            async move { sqlx::raw_sql("SET shardway.consistency = 'strong'").execute(connection).await.map(drop) },
        )
    });
    let pool = pool.connect_with(options()?).await?;
    let [a, _, c] = apart(100)?;
    let bytes: Vec<u8> = (0..=255).collect();
    for key in [a, c] {
        let insert =
            "INSERT INTO typed (id, tiny, big, twice, words, bytes, flag, letters) VALUES (?, ?, ?, ?, ?, ?, ?, NULL)";
        let insert = sqlx::query(insert).bind(key).bind(-128_i8).bind(u64::MAX).bind(-1.25e300).bind("Grüße, 世界, 🌍");
        insert.bind(&bytes).bind(true).execute(&pool).await?;
        let select = "SELECT tiny, big, twice, words, bytes, flag, letters FROM typed WHERE id = ?";
        let row = sqlx::query(select).bind(key).fetch_one(&pool).await?;
        assert_eq!((row.try_get::<i8, _>(0)?, row.try_get::<u64, _>(1)?), (-128, u64::MAX));
        assert_eq!(
            (row.try_get::<f64, _>(2)?, row.try_get::<String, _>(3)?),
            (-1.25e300, "Grüße, 世界, 🌍".to_owned())
        );
        assert_eq!((row.try_get::<Vec<u8>, _>(4)?, row.try_get::<bool, _>(5)?), (bytes.clone(), true));
        assert_eq!(row.try_get::<Option<String>, _>(6)?, None);
        // As text.
        let text = format!("SELECT words FROM typed WHERE id = {key}");
        let row = sqlx::raw_sql(AssertSqlSafe(text)).fetch_one(&pool).await?;
        assert_eq!(row.try_get::<String, _>(0)?, "Grüße, 世界, 🌍");
    }
    pool.close().await;
    Ok(())
}

#[tokio::test]
async fn sqlx_reads_of_several_shards_come_as_one() -> Outcome {
    let mut connection = MySqlConnection::connect_with(&options()?).await?;
    let found = customers(&mut connection, 150).await?;
    for _ in 0..2 {
        let counted = sqlx::query("SELECT COUNT(*), MIN(id), MAX(id) FROM customers WHERE id IN (?, ?, ?)");
        let row = counted.bind(found[0]).bind(found[1]).bind(found[2]).fetch_one(&mut connection).await?;
        let wanted = (3, found.iter().min().copied(), found.iter().max().copied());
        assert_eq!((row.try_get::<i64, _>(0)?, row.try_get(1)?, row.try_get(2)?), wanted);
    }
    let sorted = sqlx::query_scalar::<_, i64>("SELECT id FROM customers WHERE id <= ? ORDER BY id DESC LIMIT 3");
    assert_eq!(sorted.bind(1000).fetch_all(&mut connection).await?, [1000, 999, 998]);
    // Rows as they come.
    let mut rows = sqlx::query("SELECT id, name FROM customers WHERE id <= 1000").fetch(&mut connection);
    let mut count = 0;
    while let Some(row) = std::future::poll_fn(|cx| rows.as_mut().poll_next(cx)).await {
        row?;
        count += 1;
    }
    drop(rows);
    assert_eq!(count, 1000);
    let done = sqlx::query("UPDATE customers SET name = 'all' WHERE id IN (?, ?, ?)");
    let done = done.bind(found[0]).bind(found[1]).bind(found[2]).execute(&mut connection).await?;
    assert_eq!(done.rows_affected(), 3);
    assert_eq!(names(&mut connection, &found).await?, ["all"; 3]);
    Ok(())
}

#[tokio::test]
async fn sqlx_rows_of_one_insert_go_to_their_shards() -> Outcome {
    let mut connection = MySqlConnection::connect_with(&options()?).await?;
    let keys: Vec<i64> = (BASE + 200..BASE + 240).collect();
    let mut insert = sqlx::QueryBuilder::new("INSERT INTO customers (id, name, email, country) ");
    insert.push_values(&keys, |mut row, key| {
        row.push_bind(key).push_bind(format!("many {key}")).push("'r@example.com'").push("'NL'");
    });
    assert_eq!(insert.build().execute(&mut connection).await?.rows_affected(), 40);
    let wanted: Vec<_> = keys.iter().map(|key| format!("many {key}")).collect();
    assert_eq!(names(&mut connection, &keys).await?, wanted);
    let mut numbers = BTreeSet::new();
    for turn in 0..3 {
        let note = sqlx::query("INSERT INTO notes (body) VALUES (?)").bind(format!("sqlx {turn}"));
        numbers.insert(note.execute(&mut connection).await?.last_insert_id());
    }
    assert_eq!(numbers.len(), 3);
    Ok(())
}

#[tokio::test]
async fn sqlx_several_statements_in_one_query() -> Outcome {
    let mut connection = MySqlConnection::connect_with(&options()?).await?;
    let [a, _, c] = customers(&mut connection, 250).await?;
    let text =
        format!("UPDATE customers SET name = 'both' WHERE id = {a}; UPDATE customers SET name = 'both' WHERE id = {c}");
    assert_eq!(connection.execute(sqlx::raw_sql(AssertSqlSafe(text))).await?.rows_affected(), 2);
    let text = format!(
        "UPDATE customers SET name = 'x' WHERE id = {a}; INSERT INTO customers (id, name, email, country) \
         VALUES ({a}, '', '', 'NL'); UPDATE customers SET name = 'x' WHERE id = {c}"
    );
    let failed = connection.execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
    assert_eq!(failed.err().as_ref().and_then(number), Some(1062));
    assert_eq!(names(&mut connection, &[c]).await?, ["both"]);
    Ok(())
}
