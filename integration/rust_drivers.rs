//! tokio-postgres and sqlx against the demo's shop, on the port in `SHARDWAY_TEST_PORT`: integration/run.sh sets it.

use std::collections::BTreeMap;
use std::env;
use std::pin::pin;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::Executor;
use sqlx::Row;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgConnection;
use sqlx::postgres::PgListener;
use sqlx::postgres::PgPoolOptions;
use tokio_postgres::Client;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const INSERT: &str = "INSERT INTO customers (id, name, email, country) VALUES ($1, 'rust', 'r@example.com', 'NL') \
                      RETURNING inet_server_port()";
const UPDATE: &str = "UPDATE customers SET name = $1 WHERE id = $2";
const NAME: &str = "SELECT name FROM customers WHERE id = $1";
fn port() -> u16 {
    let port = env::var("SHARDWAY_TEST_PORT").expect("run this as: integration/run.sh rust_drivers");
    port.parse().expect("SHARDWAY_TEST_PORT is a port")
}

/// Two customers on one shard and a third on another.
fn apart(ports: &BTreeMap<i64, i32>) -> [i64; 3] {
    let (first, at) = ports.first_key_value().expect("there are customers");
    let second = ports.iter().find(|(id, port)| *id != first && *port == at).expect("a second one there").0;
    let third = ports.iter().find(|(_, port)| *port != at).expect("customers are on more than one server").0;
    [*first, *second, *third]
}

// ── tokio-postgres ──

async fn tokio_client() -> Result<Client, tokio_postgres::Error> {
    let login = format!("host=127.0.0.1 port={} user=demo dbname=shop", port());
    let (client, connection) = tokio_postgres::connect(&login, NoTls).await?;
    shardway::tasks::shared("tokio-postgres", connection);
    Ok(client)
}

async fn tokio_customers(client: &Client, first: i64) -> Result<[i64; 3], tokio_postgres::Error> {
    let mut ports = BTreeMap::new();
    for id in first..first + 8 {
        ports.insert(id, client.query_one(INSERT, &[&id]).await?.get(0));
    }
    Ok(apart(&ports))
}

async fn tokio_names(client: &Client, ids: &[i64]) -> Result<Vec<String>, tokio_postgres::Error> {
    let mut names = Vec::new();
    for id in ids {
        names.push(client.query_one(NAME, &[id]).await?.get(0));
    }
    Ok(names)
}

#[tokio::test]
async fn tokio_postgres_prepares_once_and_reaches_every_shard() -> Outcome {
    let client = tokio_client().await?;
    let ids = tokio_customers(&client, 6_000_000).await?;
    let statement = client.prepare(NAME).await?;
    for _ in 0..3 {
        // All on their way at once.
        let values = ids.map(|id| [id]);
        let parameters = values.each_ref().map(|[id]| [id as &(dyn ToSql + Sync)]);
        let (a, b, c) = tokio::try_join!(
            client.query_one(&statement, &parameters[0]),
            client.query_one(&statement, &parameters[1]),
            client.query_one(&statement, &parameters[2]),
        )?;
        assert_eq!([a.get::<_, &str>(0), b.get(0), c.get(0)], ["rust"; 3]);
    }
    Ok(())
}

#[tokio::test]
async fn tokio_postgres_transactions_span_shards() -> Outcome {
    let mut client = tokio_client().await?;
    let [a, b, c] = tokio_customers(&client, 6_000_100).await?;
    let transaction = client.transaction().await?;
    transaction.execute(UPDATE, &[&"x", &a]).await?;
    transaction.execute(UPDATE, &[&"y", &b]).await?;
    transaction.commit().await?;
    assert_eq!(tokio_names(&client, &[a, b]).await?, ["x", "y"]);

    let transaction = client.transaction().await?;
    transaction.execute(UPDATE, &[&"lost", &a]).await?;
    transaction.execute(UPDATE, &[&"lost", &c]).await?;
    transaction.rollback().await?;
    assert_eq!(tokio_names(&client, &[a, c]).await?, ["x", "rust"]);
    let transaction = client.transaction().await?;
    transaction.execute(UPDATE, &[&"both", &a]).await?;
    transaction.execute(UPDATE, &[&"both", &c]).await?;
    transaction.commit().await?;
    assert_eq!(tokio_names(&client, &[a, c]).await?, ["both", "both"]);
    Ok(())
}

#[tokio::test]
async fn tokio_postgres_several_statements_in_one_query() -> Outcome {
    let client = tokio_client().await?;
    let [a, b, c] = tokio_customers(&client, 6_000_200).await?;
    let update = |name: &str, id: i64| format!("UPDATE customers SET name = '{name}' WHERE id = {id};");
    client.batch_execute(&(update("s1", a) + &update("s2", b))).await?;
    let failed = client.batch_execute(&(update("lost", a) + &update("lost", c) + "SELECT 1/0")).await;
    assert_eq!(failed.err().and_then(|error| error.code().cloned()), Some(SqlState::DIVISION_BY_ZERO));
    assert_eq!(tokio_names(&client, &[a, b, c]).await?, ["s1", "s2", "rust"]);
    client.batch_execute(&(update("s3", a) + &update("s3", c))).await?;
    assert_eq!(tokio_names(&client, &[a, b, c]).await?, ["s3", "s2", "s3"]);
    Ok(())
}

#[tokio::test]
async fn tokio_postgres_copies_and_suspends_portals() -> Outcome {
    let mut client = tokio_client().await?;
    let sink = client.copy_in("COPY settings (name, value) FROM STDIN").await?;
    let mut sink = pin!(sink);
    let rows = bytes::Bytes::from_static(b"rust_a\t1\nrust_b\t2\n");
    std::future::poll_fn(|context| futures_sink::Sink::poll_ready(sink.as_mut(), context)).await?;
    futures_sink::Sink::start_send(sink.as_mut(), rows)?;
    assert_eq!(sink.as_mut().finish().await?, 2);
    assert_eq!(client.execute("DELETE FROM settings WHERE name LIKE 'rust%'", &[]).await?, 2);

    let transaction = client.transaction().await?;
    let query = "SELECT order_id, line FROM order_items WHERE customer_id = $1 ORDER BY 1, 2";
    let whole = transaction.query(query, &[&7_i64]).await?.len();
    let portal = transaction.bind(query, &[&7_i64]).await?;
    let mut rows = 0;
    loop {
        let part = transaction.query_portal(&portal, 2).await?;
        assert!(part.len() <= 2);
        rows += part.len();
        if part.is_empty() {
            break;
        }
    }
    assert_eq!(rows, whole);
    transaction.commit().await?;
    Ok(())
}

#[tokio::test]
async fn tokio_postgres_cancels() -> Outcome {
    let client = tokio_client().await?;
    let token = client.cancel_token();
    let other = tokio_client().await?;
    let mut sleeping = pin!(client.query_one("SELECT pg_advisory_xact_lock(7070), pg_sleep(50)", &[]));
    // One that comes before the statement would do nothing: it runs when it has the lock.
    let running = tokio::time::timeout(Duration::from_secs(30), async {
        let free = "SELECT pg_try_advisory_xact_lock(7070)";
        while other.query_one(free, &[]).await?.get::<_, bool>(0) {}
        token.cancel_query(NoTls).await
    });
    let (outcome, cancelled) = tokio::join!(sleeping.as_mut(), running);
    cancelled??;
    assert_eq!(outcome.expect_err("it was cancelled").code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(client.query_one("SELECT 1", &[]).await?.get::<_, i32>(0), 1);
    Ok(())
}

#[tokio::test]
async fn tokio_postgres_errors_are_the_servers_own() -> Outcome {
    let client = tokio_client().await?;
    for (sql, state) in [
        ("SELECT * FROM no_such_table", SqlState::UNDEFINED_TABLE),
        ("SELEC 1", SqlState::SYNTAX_ERROR),
        ("SELECT 1 / 0", SqlState::DIVISION_BY_ZERO),
    ] {
        let error = client.query(sql, &[]).await.expect_err("a wrong statement");
        assert_eq!(error.code(), Some(&state), "{sql}");
    }
    Ok(())
}

// ── sqlx ──

async fn sqlx_connection() -> Result<PgConnection, sqlx::Error> {
    PgConnection::connect_with(&sqlx_options()).await
}

fn sqlx_options() -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port()).username("demo").database("shop")
}

async fn sqlx_customers(connection: &mut PgConnection, first: i64) -> Result<[i64; 3], sqlx::Error> {
    let mut ports = BTreeMap::new();
    for id in first..first + 8 {
        ports.insert(id, sqlx::query_scalar(INSERT).bind(id).fetch_one(&mut *connection).await?);
    }
    Ok(apart(&ports))
}

async fn sqlx_name(connection: &mut PgConnection, id: i64) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(NAME).bind(id).fetch_one(connection).await
}

fn sqlx_code<T>(outcome: Result<T, sqlx::Error>) -> Option<String> {
    outcome.err()?.as_database_error()?.code().map(|code| code.into_owned())
}

#[tokio::test]
async fn sqlx_caches_statements_and_reaches_every_shard() -> Outcome {
    let mut connection = sqlx_connection().await?;
    let ids = sqlx_customers(&mut connection, 7_000_000).await?;
    for _ in 0..3 {
        for id in ids {
            assert_eq!(sqlx_name(&mut connection, id).await?, "rust");
        }
    }
    let found: Vec<i64> = sqlx::query_scalar("SELECT id FROM customers WHERE id = ANY($1)")
        .bind(ids.to_vec())
        .fetch_all(&mut connection)
        .await?;
    assert_eq!(found.len(), 3);
    connection.close().await?;
    Ok(())
}

#[tokio::test]
async fn sqlx_transactions_span_shards() -> Outcome {
    let mut connection = sqlx_connection().await?;
    let [a, b, c] = sqlx_customers(&mut connection, 7_000_100).await?;
    let mut transaction = connection.begin().await?;
    for id in [a, b] {
        sqlx::query(UPDATE).bind("x").bind(id).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    assert_eq!(sqlx_name(&mut connection, b).await?, "x");

    let mut transaction = connection.begin().await?;
    sqlx::query(UPDATE).bind("lost").bind(a).execute(&mut *transaction).await?;
    sqlx::query(UPDATE).bind("lost").bind(c).execute(&mut *transaction).await?;
    transaction.rollback().await?;
    assert_eq!(sqlx_name(&mut connection, a).await?, "x");
    assert_eq!(sqlx_name(&mut connection, c).await?, "rust");
    let mut transaction = connection.begin().await?;
    for id in [a, c] {
        sqlx::query(UPDATE).bind("both").bind(id).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    assert_eq!(sqlx_name(&mut connection, a).await?, "both");
    assert_eq!(sqlx_name(&mut connection, c).await?, "both");
    Ok(())
}

#[tokio::test]
async fn sqlx_several_statements_in_one_query() -> Outcome {
    let mut connection = sqlx_connection().await?;
    let [a, _, c] = sqlx_customers(&mut connection, 7_000_200).await?;
    let across =
        format!("UPDATE customers SET name = 'both' WHERE id = {a}; UPDATE customers SET name = 'both' WHERE id = {c}");
    let failing = format!("{across}; SELECT 1/0");
    assert_eq!(sqlx_code(connection.execute(sqlx::raw_sql(AssertSqlSafe(failing))).await).as_deref(), Some("22012"));
    assert_eq!(sqlx_name(&mut connection, a).await?, "rust");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(across))).await?;
    assert_eq!(sqlx_name(&mut connection, a).await?, "both");
    assert_eq!(sqlx_name(&mut connection, c).await?, "both");
    Ok(())
}

#[tokio::test]
async fn sqlx_copies_on_one_shard() -> Outcome {
    let mut connection = sqlx_connection().await?;
    let mut copy = connection.copy_in_raw("COPY settings (name, value) FROM STDIN").await?;
    copy.send(&b"sqlx_a\t1\nsqlx_b\t2\n"[..]).await?;
    assert_eq!(copy.finish().await?, 2);
    let deleted = sqlx::query("DELETE FROM settings WHERE name LIKE 'sqlx%'").execute(&mut connection).await?;
    assert_eq!(deleted.rows_affected(), 2);
    Ok(())
}

#[tokio::test]
async fn sqlx_pools_and_listens() -> Outcome {
    let pool = PgPoolOptions::new().max_connections(2).connect_with(sqlx_options()).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen("sqlx_channel").await?;
    sqlx::query("SELECT pg_notify('sqlx_channel', 'hello')").execute(&pool).await?;
    let heard = tokio::time::timeout(Duration::from_secs(30), listener.recv()).await??;
    assert_eq!((heard.channel(), heard.payload()), ("sqlx_channel", "hello"));
    let row = sqlx::query("SELECT count(*) FROM orders WHERE customer_id = $1").bind(7_i64).fetch_one(&pool).await?;
    assert_eq!(row.get::<i64, _>(0), 4);
    Ok(())
}
