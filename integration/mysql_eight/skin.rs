//! A server that looks like Oracle's MySQL 8 from outside: its greeting, its logins (caching_sha2_password, by TLS), its GTIDs,
//! its names of settings and statements. Behind it a MariaDB does the work. What MySQL 8 would not understand is
//! answered by an error, and noted.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use shardway::local_cluster::mariadb::CONTROL_PASSWORD;
use shardway::local_cluster::mariadb::CONTROL_USER;
use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;
use shardway::net::ListenerTls;
use shardway::net::Stream;
use shardway::wire::mysql::auth;
use shardway::wire::mysql::auth::sha2_byte;
use shardway::wire::mysql::capability;
use shardway::wire::mysql::frame;
use shardway::wire::mysql::handshake::Greeting;
use shardway::wire::mysql::handshake::Response;
use shardway::wire::mysql::handshake::SALT;
use shardway::wire::mysql::handshake::Switch;
use shardway::wire::mysql::handshake::TLS_REQUEST;
use shardway::wire::mysql::result::Done;
use shardway::wire::mysql::result::Failure;
use shardway::wire::mysql::status;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

pub(crate) const VERSION: &str = "8.0.36";
/// The source of all transactions, as a replication group has one.
pub(crate) const GROUP: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

/// What MySQL 8 does not know, in lower case, and the error that it has for it.
const FOREIGN: [(&str, u16); 15] = [
    ("set statement", 1064),
    (" returning ", 1064),
    ("master_gtid_wait", 1305),
    ("gtid_slave_pos", 1193),
    ("gtid_binlog_pos", 1193),
    ("gtid_current_pos", 1193),
    ("last_gtid", 1193),
    ("max_statement_time", 1193),
    ("tx_isolation", 1193),
    ("tx_read_only", 1193),
    ("all slaves", 1064),
    ("format='sql'", 1064),
    ("create or replace table", 1064),
    ("execute immediate", 1064),
    ("nopad_bin", 1273),
];

/// In the place of a value's length.
const NULL: u8 = 0xfb;

/// How many transactions MariaDB has, as the numbers of MySQL's set.
const EXECUTED: &str = "CONCAT('GROUP:1-', GREATEST(1, CAST(SUBSTRING_INDEX(@@global.gtid_binlog_pos, '-', -1) AS UNSIGNED), \
                        CAST(SUBSTRING_INDEX(@@global.gtid_slave_pos, '-', -1) AS UNSIGNED)))";

/// The state of replication, by the names that it has in MySQL.
const REPLICA_STATUS: &str = "SELECT IF(SUM(command = 'Slave_IO') > 0, 'Yes', 'No') AS Replica_IO_Running, IF(SUM(command = \
     'Slave_SQL') > 0, 'Yes', 'No') AS Replica_SQL_Running, '' AS Last_IO_Error, '' AS Last_SQL_Error FROM \
     information_schema.processlist HAVING @@global.read_only = 1";

/// What is to be known of one such server.
pub(crate) struct Skin {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    behind: u16,
    uuid: String,
    tls: ListenerTls,
    connections: AtomicU32,
    /// It speaks no TLS, and has a key to encrypt passwords by: the folder of both of its halves.
    key: Option<PathBuf>,
    /// Whether anybody sent it a password as it is, outside of TLS.
    in_clear: AtomicBool,
    /// Users whose proofs it remembers since their password came in TLS.
    remembered: Mutex<BTreeSet<Vec<u8>>>,
    fast: AtomicUsize,
    full: AtomicUsize,
    /// What it was told that MySQL 8 does not know.
    foreign: Mutex<Vec<String>>,
    /// Writes whose OK told a GTID.
    told: AtomicUsize,
    /// Changes of variables that were told, each for itself.
    variables: AtomicUsize,
}

impl Skin {
    /// Before a MariaDB.
    pub(crate) async fn start(behind: u16, number: usize, dir: &Path) -> io::Result<Self> {
        Self::start_with(behind, number, dir, None).await
    }

    /// The same without TLS, with a key for passwords.
    pub(crate) async fn start_without_tls(behind: u16, dir: &Path) -> io::Result<Self> {
        let said = |args: &[&str]| {
            let done = Command::new("openssl").args(args).current_dir(dir).output()?;
            if done.status.success() { Ok(()) } else { Err(broken(String::from_utf8_lossy(&done.stderr))) }
        };
        said(&["genrsa", "-out", "private.pem", "2048"])?;
        said(&["rsa", "-in", "private.pem", "-pubout", "-out", "public.pem"])?;
        Self::start_with(behind, 99, dir, Some(dir.to_path_buf())).await
    }

    async fn start_with(behind: u16, number: usize, dir: &Path, key: Option<PathBuf>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).map_err(io::Error::other)?;
        let (cert, private) = (dir.join(format!("skin-{port}.crt")), dir.join(format!("skin-{port}.key")));
        std::fs::write(&cert, made.cert.pem())?;
        std::fs::write(&private, made.signing_key.serialize_pem())?;
        let shared = Arc::new(Shared {
            behind,
            uuid: format!("{number:08}-71ca-11e1-9e33-c80aa9429562"),
            tls: ListenerTls::load(&cert, &private).map_err(io::Error::other)?,
            key,
            in_clear: AtomicBool::new(false),
            connections: AtomicU32::new(10),
            remembered: Mutex::default(),
            fast: AtomicUsize::new(0),
            full: AtomicUsize::new(0),
            foreign: Mutex::default(),
            told: AtomicUsize::new(0),
            variables: AtomicUsize::new(0),
        });
        let of_task = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&of_task);
                tokio::spawn(async move {
                    // Whoever hangs up, both ends are closed.
                    let _ = serve(stream, &shared).await;
                });
            }
        });
        Ok(Self { port, shared, task })
    }

    /// What it was told that MySQL 8 does not know.
    pub(crate) fn foreign(&self) -> Vec<String> {
        self.shared.foreign.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn logins(&self) -> (usize, usize) {
        (self.shared.fast.load(Ordering::Relaxed), self.shared.full.load(Ordering::Relaxed))
    }

    /// Whether anybody sent it a password as it is, outside of TLS.
    pub(crate) fn heard_in_clear(&self) -> bool {
        self.shared.in_clear.load(Ordering::Relaxed)
    }

    /// How many answers told a GTID.
    pub(crate) fn told(&self) -> usize {
        self.shared.told.load(Ordering::Relaxed)
    }

    /// How many changes of variables were told.
    pub(crate) fn variables(&self) -> usize {
        self.shared.variables.load(Ordering::Relaxed)
    }

    /// It remembers nobody's proof any more, as behind a restart.
    pub(crate) fn forget(&self) {
        self.shared.remembered.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Skin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One packet: its number and its payload, which is none of several packets here.
async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok((header[3], payload))
}

async fn put(stream: &mut (impl AsyncWrite + Unpin), sequence: u8, payload: &[u8]) -> io::Result<()> {
    let mut out = Vec::with_capacity(payload.len() + 4);
    frame::put(&mut out, sequence, payload);
    stream.write_all(&out).await?;
    stream.flush().await
}

fn broken(what: impl std::fmt::Display) -> io::Error {
    io::Error::other(what.to_string())
}

async fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut server = TcpStream::connect(("127.0.0.1", shared.behind)).await?;
    server.set_nodelay(true)?;
    let (_, behind) = packet(&mut server).await?;
    let behind = Greeting::read(&behind).map_err(broken)?;
    let connection = shared.connections.fetch_add(1, Ordering::Relaxed);
    let salt: [u8; SALT] =
        std::array::from_fn(|at| b'a' + u8::try_from((connection as usize * 7 + at) % 26).expect("a letter"));
    let not_here = capability::COMPRESS | capability::ZSTD | capability::QUERY_ATTRIBUTES;
    let common = (behind.capabilities & !not_here) | capability::LONG_PASSWORD;
    let greeting = Greeting {
        version: VERSION.to_owned(),
        // KILL is said to the server behind.
        connection: behind.connection,
        salt,
        capabilities: if shared.key.is_some() { common & !capability::SSL } else { common | capability::SSL },
        // utf8mb4_0900_ai_ci.
        collation: 255,
        status: status::AUTOCOMMIT,
        plugin: auth::CACHING_SHA2.to_owned(),
    };
    let mut client = Stream::tcp(stream)?;
    put(&mut client, 0, &greeting.payload()).await?;
    let (mut sequence, mut said) = packet(&mut client).await?;
    if said.len() == TLS_REQUEST {
        client = client.accept_tls(&[], &shared.tls).await.map_err(broken)?;
        (sequence, said) = packet(&mut client).await?;
    }
    let response = Response::read(&said).map_err(broken)?;
    let password = match std::str::from_utf8(&response.user) {
        Ok(USER) => PASSWORD,
        Ok(CONTROL_USER) => CONTROL_PASSWORD,
        _ => return refuse(&mut client, sequence.wrapping_add(1)).await,
    };
    // As clients of MySQL 8 they should take the plugin of the greeting.
    if response.plugin != auth::CACHING_SHA2.as_bytes() {
        return refuse(&mut client, sequence.wrapping_add(1)).await;
    }
    let remembers = shared.remembered.lock().unwrap_or_else(PoisonError::into_inner).contains(&response.user);
    if remembers {
        if response.proof != auth::sha2_proof(password.as_bytes(), &salt) {
            return refuse(&mut client, sequence.wrapping_add(1)).await;
        }
        shared.fast.fetch_add(1, Ordering::Relaxed);
        put(&mut client, sequence.wrapping_add(1), &[1, sha2_byte::FAST_OK]).await?;
        sequence = sequence.wrapping_add(1);
    } else {
        put(&mut client, sequence.wrapping_add(1), &[1, sha2_byte::FULL]).await?;
        let (number, mut word) = packet(&mut client).await?;
        sequence = number;
        let wanted = [password.as_bytes(), &[0]].concat();
        if !client.is_tls() {
            if word.windows(password.len()).any(|it| it == password.as_bytes()) {
                shared.in_clear.store(true, Ordering::Relaxed);
            }
            let Some(dir) = shared.key.as_ref().filter(|_| word == [sha2_byte::KEY_WANTED]) else {
                return refuse(&mut client, sequence.wrapping_add(1)).await;
            };
            let key = std::fs::read(dir.join("public.pem"))?;
            put(&mut client, sequence.wrapping_add(1), &[&[1], key.as_slice()].concat()).await?;
            (sequence, word) = packet(&mut client).await?;
            word = decrypted(dir, connection, &word)?;
            word.iter_mut().zip(salt.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
        if word != wanted {
            return refuse(&mut client, sequence.wrapping_add(1)).await;
        }
        shared.full.fetch_add(1, Ordering::Relaxed);
        shared.remembered.lock().unwrap_or_else(PoisonError::into_inner).insert(response.user.clone());
    }
    let capabilities = response.capabilities & !(capability::SSL | capability::CONNECT_ATTRIBUTES);
    let ok = log_in(&mut server, &behind, &response, capabilities, password).await?;
    put(&mut client, sequence.wrapping_add(1), &ok).await?;
    if ok.first() != Some(&0) {
        return Ok(());
    }
    carry(client, server, response.capabilities, shared).await
}

/// What was encrypted by the key.
fn decrypted(dir: &Path, connection: u32, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let file = dir.join(format!("encrypted-{connection}"));
    std::fs::write(&file, bytes)?;
    let mut openssl = Command::new("openssl");
    openssl.args(["pkeyutl", "-decrypt", "-inkey", "private.pem", "-pkeyopt", "rsa_padding_mode:oaep", "-in"]);
    let done = openssl.arg(&file).current_dir(dir).output()?;
    if done.status.success() { Ok(done.stdout) } else { Err(broken(String::from_utf8_lossy(&done.stderr))) }
}

async fn refuse(client: &mut Stream, sequence: u8) -> io::Result<()> {
    let failure = Failure { number: 1045, sqlstate: "28000".to_owned(), message: "Access denied".to_owned() };
    put(client, sequence, &failure.payload()).await
}

/// Logs in to the server behind as the one that has been let in; its last word.
async fn log_in(
    server: &mut TcpStream,
    greeting: &Greeting,
    response: &Response,
    capabilities: u32,
    password: &str,
) -> io::Result<Vec<u8>> {
    let own = Response {
        capabilities,
        proof: auth::native_proof(password.as_bytes(), &greeting.salt),
        plugin: auth::NATIVE.as_bytes().to_vec(),
        attributes: Vec::new(),
        collation: if response.collation == 255 { 45 } else { response.collation },
        ..response.clone()
    };
    put(server, 1, &own.payload()).await?;
    loop {
        let (sequence, payload) = packet(server).await?;
        if payload.first() != Some(&0xfe) {
            return Ok(payload);
        }
        let switch = Switch::read(&payload).map_err(broken)?;
        put(server, sequence.wrapping_add(1), &auth::native_proof(password.as_bytes(), &switch.salt)).await?;
    }
}

/// Carries commands and answers.
async fn carry(client: Stream, server: TcpStream, capabilities: u32, shared: &Shared) -> io::Result<()> {
    let (mut from_client, to_client) = tokio::io::split(client);
    let to_client = tokio::sync::Mutex::new(to_client);
    let (mut from_server, mut to_server) = server.into_split();
    // What was said last.
    let last = Mutex::new(Said::Other);
    let commands = async {
        loop {
            let (sequence, payload) = packet(&mut from_client).await?;
            let is_text = sequence == 0 && matches!(payload.first(), Some(0x03 | 0x16));
            if !is_text {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Said::Other;
                put(&mut to_server, sequence, &payload).await?;
                continue;
            }
            let text = String::from_utf8_lossy(&payload[1..]).into_owned();
            let lower = text.to_lowercase();
            if let Some((word, errno)) = FOREIGN.iter().find(|(word, _)| lower.contains(word)) {
                shared.foreign.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone());
                let message = format!("MySQL 8 does not know {word:?}");
                let failure = Failure { number: *errno, sqlstate: "42000".to_owned(), message };
                put(&mut *to_client.lock().await, 1, &failure.payload()).await?;
                continue;
            }
            let first = lower.split_whitespace().next().unwrap_or_default();
            *last.lock().unwrap_or_else(PoisonError::into_inner) = match payload[0] {
                3 if ["insert", "update", "delete", "replace", "commit"].contains(&first) => Said::Write,
                3 => Said::Query,
                _ => Said::Other,
            };
            let said = match String::from_utf8(payload[1..].to_vec()) {
                Ok(text) => as_mariadb(&text, &shared.uuid).into_bytes(),
                Err(bytes) => bytes.into_bytes(),
            };
            put(&mut to_server, 0, &[&payload[..1], &said].concat()).await?;
        }
    };
    let answers = async {
        loop {
            let (sequence, mut payload) = packet(&mut from_server).await?;
            let said = *last.lock().unwrap_or_else(PoisonError::into_inner);
            let is_done = sequence == 1 && payload.first() == Some(&0) && said != Said::Other;
            if is_done && capabilities & capability::SESSION_TRACK != 0 {
                payload = as_told(&payload, capabilities, said == Said::Write, shared)?;
            }
            put(&mut *to_client.lock().await, sequence, &payload).await?;
        }
    };
    tokio::select! {
        ended = commands => ended,
        ended = answers => ended,
    }
}

/// A command, as far as its OK depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Query,
    /// A query that wrote: its OK tells a GTID.
    Write,
    Other,
}

/// An OK as MySQL 8 has it: of variables that have changed it tells one after the other, each by itself, by its own names;
/// and of a transaction, as with `session_track_gtids = OWN_GTID`.
fn as_told(payload: &[u8], capabilities: u32, writes: bool, shared: &Shared) -> io::Result<Vec<u8>> {
    let mut done = Done::read(payload, capabilities).map_err(broken)?;
    let mut changes = Vec::new();
    for (kind, body) in pairs(&done.changes) {
        if kind != 0 {
            put_change(&mut changes, kind, body);
            continue;
        }
        // MariaDB: names and values of all of them.
        let mut rest = body;
        while let [length, behind @ ..] = rest {
            let (name, behind) = behind.split_at(usize::from(*length));
            let length_of_value = if behind[0] == NULL { 0 } else { usize::from(behind[0]) };
            let (value, behind) = behind.split_at(1 + length_of_value);
            rest = behind;
            let name = match name {
                b"tx_isolation" => b"transaction_isolation",
                b"tx_read_only" => b"transaction_read_only",
                name => name,
            };
            let length = u8::try_from(name.len()).expect("it is short");
            put_change(&mut changes, 0, &[&[length], name, value].concat());
            shared.variables.fetch_add(1, Ordering::Relaxed);
        }
    }
    if writes {
        let gtid = format!("{GROUP}:7");
        // How it is written, and the text with its length.
        put_change(&mut changes, 3, &[&[0, u8::try_from(gtid.len()).expect("it is short")], gtid.as_bytes()].concat());
        shared.told.fetch_add(1, Ordering::Relaxed);
    }
    done.changes = changes;
    Ok(done.payload(0, capabilities))
}

/// Kinds of changes and what is told of each, all of which are short here.
fn pairs(changes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = changes;
    std::iter::from_fn(move || {
        let [kind, length, behind @ ..] = rest else { return None };
        let (body, behind) = behind.split_at(usize::from(*length));
        rest = behind;
        Some((*kind, body))
    })
}

fn put_change(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.extend([kind, u8::try_from(body.len()).expect("it is short")]);
    out.extend(body);
}

/// What MySQL calls otherwise, in MariaDB's words.
fn as_mariadb(text: &str, uuid: &str) -> String {
    if text.eq_ignore_ascii_case("SHOW REPLICA STATUS") {
        return REPLICA_STATUS.to_owned();
    }
    text.replace("@@global.gtid_executed", &EXECUTED.replace("GROUP", GROUP))
        .replace("@@global.gtid_mode", "'ON'")
        .replace("@@global.server_uuid", &format!("'{uuid}'"))
        .replace("@@version", &format!("'{VERSION}'"))
        .replace("max_execution_time = 10000", "max_statement_time = 10")
        .replace("transaction_isolation", "tx_isolation")
        .replace("transaction_read_only", "tx_read_only")
        .replace("@@global.super_read_only", "@@global.read_only")
}
