//! Connections to a real MariaDB server: every way to log in, what its sessions tell, and the pool when it dies; and
//! MariaDB's own client on our side of a login.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[path = "mysql_backend/server.rs"]
mod server;

use std::error::Error;
use std::future::poll_fn;
use std::net::TcpListener;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use server::PASSWORD;
use server::Server;
use server::login;
use server::open;
use shardway::backend::mysql::CheckoutError;
use shardway::backend::mysql::Connection;
use shardway::backend::mysql::Pools;
use shardway::backend::mysql::WorkerPools;
use shardway::backend::mysql::login::OpenError;
use shardway::backend::pool::PoolKey;
use shardway::backend::pool::Recipe;
use shardway::clock;
use shardway::net;
use shardway::net::ClientTls;
use shardway::net::ListenerTls;
use shardway::net::Stream;
use shardway::session::mysql::login as client_login;
use shardway::shard_map::PoolLimits;
use shardway::shard_map::Secret;
use shardway::shard_map::UserAuth;
use shardway::wire::mysql::capability;
use shardway::wire::mysql::frame;
use shardway::wire::mysql::result::Change;
use shardway::wire::mysql::result::Done;
use shardway::wire::mysql::result::Failure;
use shardway::wire::mysql::result::First;
use shardway::wire::mysql::result::ends_rows;
use shardway::wire::mysql::result::text_row;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::task::LocalSet;

type Outcome = Result<(), Box<dyn Error>>;

/// What a statement was answered with.
#[derive(Debug)]
enum Answer {
    Done(Done),
    Rows(Vec<Vec<Option<String>>>),
    Failed(Failure),
}

async fn next(connection: &mut Connection) -> std::io::Result<Vec<u8>> {
    let whole = async {
        let packet = poll_fn(|cx| connection.poll_packet(cx)).await?;
        connection.consume(&packet);
        Ok(connection.bytes(packet.body).to_vec())
    };
    let deadline = clock::now().plus(Duration::from_secs(20));
    net::before(deadline, whole).await.unwrap_or_else(|| Err(std::io::ErrorKind::TimedOut.into()))
}

async fn ask(connection: &mut Connection, statement: &str) -> std::io::Result<Answer> {
    connection.say(&[b"\x03", statement.as_bytes()].concat());
    poll_fn(|cx| connection.poll_flush(cx)).await?;
    let capabilities = connection.capabilities;
    let columns = match First::read(&next(connection).await?, capabilities).map_err(std::io::Error::other)? {
        First::Done(done) => {
            connection.note(&done).map_err(std::io::Error::other)?;
            return Ok(Answer::Done(done));
        }
        First::Failed(failure) => return Ok(Answer::Failed(failure)),
        First::Columns(count) => usize::try_from(count).unwrap(),
        First::File(_) => return Err(std::io::Error::other("a file")),
    };
    for _ in 0..columns {
        next(connection).await?;
    }
    assert!(capabilities & capability::DEPRECATE_EOF != 0);
    let mut rows = Vec::new();
    loop {
        let payload = next(connection).await?;
        if ends_rows(&payload, capabilities) {
            return Ok(Answer::Rows(rows));
        }
        if payload.first() == Some(&0xff) {
            return Ok(Answer::Failed(Failure::read(&payload).map_err(std::io::Error::other)?));
        }
        let row = text_row(&payload, columns).map_err(std::io::Error::other)?;
        rows.push(row.into_iter().map(|it| it.map(|it| String::from_utf8_lossy(it).into_owned())).collect());
    }
}

/// The one cell of a statement's answer.
async fn value(connection: &mut Connection, statement: &str) -> Option<String> {
    match ask(connection, statement).await.unwrap() {
        Answer::Rows(rows) => rows[0][0].clone(),
        other => panic!("{statement}: {other:?}"),
    }
}

async fn done(connection: &mut Connection, statement: &str) -> Done {
    match ask(connection, statement).await.unwrap() {
        Answer::Done(done) => done,
        other => panic!("{statement}: {other:?}"),
    }
}

fn refused(opened: Result<Connection, OpenError>) -> Failure {
    match opened {
        Err(OpenError::Refused(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_way_to_log_in_that_the_server_has() -> Outcome {
    let server = Server::start().await?;
    let off = ClientTls::disabled();
    for (user, password) in
        [("native", PASSWORD), ("ed", PASSWORD), ("either", PASSWORD), ("either", "other"), ("void", "")]
    {
        let mut connection = open(server.port, user, password, "shop", &off).await?;
        let who = value(&mut connection, "SELECT CONCAT(USER(), ' ', DATABASE())").await;
        assert_eq!(who, Some(format!("{user}@127.0.0.1 shop")));
        let thread = value(&mut connection, "SELECT CONNECTION_ID()").await;
        assert_eq!(thread, Some(connection.thread.to_string()));
        assert!(connection.version.contains("MariaDB") && connection.is_quiet());
        let names = "SELECT CONCAT(@@character_set_client, ' ', @@character_set_results, ' ', @@collation_connection)";
        assert_eq!(value(&mut connection, names).await.as_deref(), Some("utf8mb4 utf8mb4 utf8mb4_general_ci"));
        assert_eq!(connection.said.value("lower_case_table_names").map(|it| &**it), Some("0"));
        assert!(connection.said.value("sql_mode").is_some_and(|it| it.contains("STRICT_TRANS_TABLES")));
    }
    for user in ["native", "ed", "nobody"] {
        let failure = refused(open(server.port, user, "wrong", "shop", &off).await);
        let words = format!("Access denied for user '{user}'@'127.0.0.1' (using password: YES)");
        assert_eq!((failure.number, &*failure.sqlstate, failure.message), (1045, "28000", words));
    }
    assert_eq!(refused(open(server.port, "native", PASSWORD, "mysql", &off).await).number, 1044);

    for (user, tls) in
        [("native", ClientTls::verified(Some(&server.certificate()))?), ("ed", ClientTls::required(None)?)]
    {
        let mut connection = open(server.port, user, PASSWORD, "shop", &tls).await?;
        let Answer::Rows(rows) = ask(&mut connection, "SHOW STATUS LIKE 'Ssl_version'").await? else { panic!() };
        assert!(rows[0][1].as_deref().is_some_and(|it| it.starts_with("TLSv1")), "{rows:?}");
        assert!(connection.capabilities & capability::SSL != 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_session_tells_what_changes_and_is_made_as_new() -> Outcome {
    let server = Server::start().await?;
    let mut connection = open(server.port, "native", PASSWORD, "shop", &ClientTls::disabled()).await?;
    let changed = |done: &Done, wanted: &Change<'_>| done.changes().unwrap().iter().any(|it| it == wanted);
    let mode = done(&mut connection, "SET sql_mode = 'ANSI_QUOTES'").await;
    assert!(changed(&mode, &Change::Variable { name: b"sql_mode", value: Some(b"ANSI_QUOTES") }), "{mode:?}");
    let autocommit = done(&mut connection, "SET autocommit = 0").await;
    assert!(changed(&autocommit, &Change::Variable { name: b"autocommit", value: Some(b"OFF") }), "{autocommit:?}");
    assert!(changed(&done(&mut connection, "SET @mine = 1").await, &Change::State(true)));
    let names = done(&mut connection, "SET NAMES latin1").await;
    assert!(changed(&names, &Change::Variable { name: b"character_set_client", value: Some(b"latin1") }));
    let used = done(&mut connection, "USE information_schema").await;
    assert!(changed(&used, &Change::Database(b"information_schema")));
    assert_eq!(connection.schema.as_deref(), Some("information_schema"));
    done(&mut connection, "CREATE TEMPORARY TABLE shop.t (a int)").await;

    connection.in_doubt = true;
    connection.reset(clock::now().plus(Duration::from_secs(20))).await?;
    assert!(!connection.in_doubt && connection.is_quiet());
    assert_eq!(connection.schema.as_deref(), Some("shop"));
    let state = "SELECT CONCAT_WS(' ', DATABASE(), @@autocommit, @@character_set_client, IFNULL(@mine, 'none'))";
    assert_eq!(value(&mut connection, state).await.as_deref(), Some("shop ON utf8mb4 none"));
    assert!(value(&mut connection, "SELECT @@sql_mode").await.is_some_and(|it| it.contains("STRICT")));
    let gone = ask(&mut connection, "SELECT * FROM t").await?;
    assert!(matches!(&gone, Answer::Failed(failure) if failure.number == 1146), "{gone:?}");
    // It is told as before.
    let mode = done(&mut connection, "SET sql_mode = 'ANSI_QUOTES'").await;
    assert!(changed(&mode, &Change::Variable { name: b"sql_mode", value: Some(b"ANSI_QUOTES") }), "{mode:?}");
    Ok(())
}

#[tokio::test]
async fn more_than_one_packet_goes_both_ways() -> Outcome {
    let server = Server::start().await?;
    let tls = ClientTls::required(None)?;
    for tls in [ClientTls::disabled(), tls] {
        let mut connection = open(server.port, "native", PASSWORD, "shop", &tls).await?;
        let long = "x".repeat(frame::PACKET_MAX + 1000);
        connection.say(format!("\x03SELECT LENGTH('{long}'), '{long}', 'end'").as_bytes());
        poll_fn(|cx| connection.poll_flush(cx)).await?;
        for _ in 0..4 {
            next(&mut connection).await?;
        }
        let first = poll_fn(|cx| connection.poll_packet(cx)).await?;
        assert!(first.goes_on);
        let mut row = connection.bytes(first.body.clone()).to_vec();
        connection.consume(&first);
        row.extend(next(&mut connection).await?);
        let cells = text_row(&row, 3)?;
        assert_eq!(cells[0], Some(long.len().to_string().as_bytes()));
        assert!(cells[1] == Some(long.as_bytes()) && cells[2] == Some(b"end"));
        assert!(ends_rows(&next(&mut connection).await?, connection.capabilities));
        connection.rest();
        assert!(connection.is_quiet());
    }
    Ok(())
}

fn key(server: &Server, flags: u32) -> PoolKey {
    PoolKey { host: "localhost".into(), port: server.port, database: "shop".into(), user: "native".into(), flags }
}

fn recipe() -> Arc<Recipe> {
    Arc::new(Recipe {
        version: 1,
        login: login("native", PASSWORD),
        tls: ClientTls::disabled(),
        limits: PoolLimits { size: 2, idle_min: 0, wait: Duration::from_secs(5), lifetime: Duration::ZERO },
        connect: Duration::from_secs(10),
    })
}

#[tokio::test]
async fn the_pool_copes_with_a_server_that_dies() -> Outcome {
    LocalSet::new().run_until(pool_and_death()).await
}

async fn pool_and_death() -> Outcome {
    let mut server = Server::start().await?;
    let workers: Rc<WorkerPools> = WorkerPools::start(Arc::new(Pools::default()));
    let pool = workers.pool(&key(&server, 0), 1, recipe);
    let mut first = workers.checkout(&pool).await?;
    let second = workers.checkout(&pool).await?;
    assert_eq!(pool.shared.counts().open, 2);
    let thread = first.thread;
    assert_eq!(value(&mut first, "SELECT 1 + 1").await.as_deref(), Some("2"));

    // Who waits gets the one that comes back, as it was.
    let (waited, ()) = tokio::join!(workers.checkout(&pool), async {
        tokio::task::yield_now().await;
        workers.give_back_to(&pool, first);
    });
    let mut first = waited?;
    assert_eq!(first.thread, thread);

    // What it runs is stopped from a connection beside the pool.
    let target = Arc::clone(&first.target);
    let begun = clock::now();
    let (slept, stopped) = tokio::join!(ask(&mut first, "SELECT SLEEP(15)"), async {
        // Until the server runs it, KILL QUERY stops nothing.
        let mut control = open(server.port, "native", PASSWORD, "shop", &ClientTls::disabled()).await.unwrap();
        let running = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE id = {} AND info LIKE 'SELECT SLEEP%'",
            target.thread()
        );
        let deadline = clock::now().plus(Duration::from_secs(10));
        while value(&mut control, &running).await.as_deref() != Some("1") && clock::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        target.kill_query(clock::now().plus(Duration::from_secs(10))).await
    });
    stopped?;
    assert!(matches!(&slept, Ok(Answer::Failed(failure)) if failure.number == 1317), "{slept:?}");
    assert!(clock::now().since(begun) < Duration::from_secs(14));

    // One is idle and one is lent when the server dies.
    workers.give_back_to(&pool, second);
    assert_eq!(pool.shared.counts().active, 1);
    server.kill()?;
    assert!(ask(&mut first, "SELECT 1").await.is_err());
    drop(first);
    let deadline = clock::now().plus(Duration::from_secs(10));
    while workers.take_idle(&pool).is_some() {
        assert!(clock::now() < deadline, "the idle connection is not seen to be dead");
        tokio::task::yield_now().await;
    }
    let refused = workers.checkout(&pool).await;
    assert!(matches!(refused, Err(CheckoutError::Unreachable { .. })), "{refused:?}");
    assert_eq!(pool.shared.counts().open, 0);

    server.again().await?;
    let mut third = workers.checkout(&pool).await?;
    assert_eq!(value(&mut third, "SELECT 1").await.as_deref(), Some("1"));
    // A session in doubt is not kept.
    third.in_doubt = true;
    workers.give_back_to(&pool, third);
    assert_eq!(pool.shared.counts().open, 0);

    // Rows that were found and not changed count where that was agreed on.
    let finding = workers.pool(&key(&server, capability::FOUND_ROWS), 1, recipe);
    for (pool, affected) in [(&pool, 0), (&finding, 1)] {
        let mut connection = workers.checkout(pool).await?;
        done(&mut connection, "CREATE OR REPLACE TABLE t (a int PRIMARY KEY, b int)").await;
        done(&mut connection, "INSERT INTO t VALUES (1, 1)").await;
        assert_eq!(done(&mut connection, "UPDATE t SET b = 1 WHERE a = 1").await.affected, affected);
    }
    Ok(())
}

/// What our side of a login does for MariaDB's own client: OK to the login and to its ping.
async fn serve_one(listener: tokio::net::TcpListener, tls: Option<&ListenerTls>) -> Result<(), Box<dyn Error>> {
    let users = |user: &str| match user {
        "ann" => Some(UserAuth::Password(Secret::new(PASSWORD))),
        "void" => Some(UserAuth::Password(Secret::new(""))),
        "demo" => Some(UserAuth::Trust),
        _ => None,
    };
    let entrance = client_login::Entrance {
        tls,
        tls_required: false,
        users: &users,
        version: "5.5.5-10.11.6-MariaDB",
        connection: 5,
        deadline: clock::now().plus(Duration::from_secs(20)),
    };
    let stream = Stream::tcp(listener.accept().await?.0)?;
    let mut arrival = client_login::login(stream, &entrance).await?;
    assert_eq!(arrival.stream.is_tls(), tls.is_some());
    let ok = Done { status: 2, ..Done::default() }.payload(0, arrival.capabilities);
    let mut sequence = arrival.sequence;
    loop {
        let mut packet = Vec::new();
        frame::put(&mut packet, sequence, &ok);
        arrival.stream.write_all(&packet).await?;
        arrival.stream.flush().await?;
        let mut command = [0; 5];
        arrival.stream.read_exact(&mut command).await?;
        // COM_PING is answered, COM_QUIT ends it.
        if command[4] != 0x0e {
            return Ok(());
        }
        sequence = 1;
    }
}

#[tokio::test]
async fn the_servers_own_client_logs_in_here() -> Outcome {
    let dir = std::env::temp_dir().join(format!("shardway-mysql-login-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let (cert, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    std::fs::write(&cert, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    let tls = ListenerTls::load(&cert, &key)?;
    for (user, password, plugin, tls) in [
        ("ann", PASSWORD, None, None),
        ("ann", PASSWORD, Some("caching_sha2_password"), None),
        ("ann", PASSWORD, Some("mysql_native_password"), None),
        ("ann", PASSWORD, None, Some(&tls)),
        ("ann", PASSWORD, Some("caching_sha2_password"), Some(&tls)),
        ("void", "", None, None),
        ("void", "", Some("caching_sha2_password"), None),
        ("demo", "", None, None),
        ("demo", "any", None, None),
        ("demo", "", Some("caching_sha2_password"), None),
        ("demo", "any", Some("caching_sha2_password"), None),
        ("demo", "any", Some("client_ed25519"), Some(&tls)),
        ("ann", PASSWORD, Some("client_ed25519"), None),
        ("ann", PASSWORD, Some("mysql_clear_password"), Some(&tls)),
        ("ann", "wrong", None, None),
        ("ann", "wrong", Some("caching_sha2_password"), None),
        ("ann", "wrong", Some("caching_sha2_password"), Some(&tls)),
        ("eve", PASSWORD, None, Some(&tls)),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let mut client = tokio::process::Command::from(Command::new("mariadb-admin"));
        client.args(["--no-defaults", "-h127.0.0.1", &format!("-P{port}"), &format!("-u{user}")]);
        client.arg(format!("--password={password}")).args(plugin.map(|it| format!("--default-auth={it}")));
        client.arg(if tls.is_some() { "--ssl" } else { "--skip-ssl" }).arg("ping").kill_on_drop(true);
        let served = serve_one(tokio::net::TcpListener::from_std(listener)?, tls);
        let (said, served) = tokio::join!(client.output(), served);
        let said = said?;
        let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        let case = format!("{user} {password} {plugin:?} {}: {text} {served:?}", tls.is_some());
        if user != "eve" && password != "wrong" {
            assert!(text.contains("mysqld is alive") && served.is_ok(), "{case}");
        } else {
            let words = format!("Access denied for user '{user}'@'127.0.0.1' (using password: YES)");
            assert!(text.contains(&words) && served.is_err(), "{case}");
        }
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
