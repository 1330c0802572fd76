//! One database server of a local cluster: its files, its process, and what tests do to both.

use std::fmt::Write as _;
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::process::Child;
use tokio::time::timeout;

use super::ClusterError;
use super::SUPERUSER;
use super::binaries::Binaries;
use super::client::Client;
use super::client::SqlError;
use super::process::Account;
use super::process::POLL;
use super::process::alive;
use super::process::children;
use super::process::command;
use super::process::run;
use super::process::signal;
use super::process::until;
use crate::clock;

/// How long a server may take to start, to stop, or to come to a state that was asked of it.
const CHANGE_MAX: Duration = Duration::from_secs(60);
/// How much of a log an error shows.
const LOG_LINES: usize = 12;

/// What a node was made as. A promotion changes what it is, not this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeAs {
    /// The server that the shard's replicas were copied from.
    Primary,
    /// A streaming replica.
    Replica,
}

/// How a server is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ends sessions, writes everything down: the next start needs no recovery.
    Fast,
    /// Ends at once, as in a crash.
    Immediate,
}

/// One server.
#[derive(Debug)]
pub struct Node {
    name: String,
    shard: String,
    port: u16,
    made_as: MadeAs,
    data: PathBuf,
    log: PathBuf,
    binaries: Binaries,
    account: Option<Account>,
    process: Mutex<Option<Child>>,
}

impl Node {
    pub(super) fn new(
        (shard, name): (String, String),
        port: u16,
        made_as: MadeAs,
        dir: &Path,
        (binaries, account): (&Binaries, Option<&Account>),
    ) -> Self {
        Self {
            data: dir.join(&name),
            log: dir.join(format!("{name}.log")),
            name,
            shard,
            port,
            made_as,
            binaries: binaries.clone(),
            account: account.cloned(),
            process: Mutex::new(None),
        }
    }

    /// The name that the map gives it, such as `s1-a`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its shard's name, such as `s1`.
    #[must_use]
    pub fn shard(&self) -> &str {
        &self.shard
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it was made as.
    #[must_use]
    pub fn made_as(&self) -> MadeAs {
        self.made_as
    }

    /// Its log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The process id of its server, while that runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(Child::id)
    }

    /// Connects as the superuser, past the proxy.
    ///
    /// # Errors
    /// When the server does not answer or refuses.
    pub async fn connect(&self, database: &str) -> Result<Client, ClusterError> {
        Client::connect(self.port, SUPERUSER, database).await.map_err(|error| self.sql(error))
    }

    /// Runs statements as the superuser in `database`, past the proxy; the first column of the first row.
    ///
    /// # Errors
    /// When the server does not answer or refuses.
    pub async fn value(&self, database: &str, sql: &str) -> Result<Option<String>, ClusterError> {
        self.connect(database).await?.value(sql).await.map_err(|error| self.sql(error))
    }

    pub(super) fn sql(&self, error: SqlError) -> ClusterError {
        ClusterError::Sql { node: self.name.clone(), error }
    }

    // ── its files ──

    /// Makes an empty database cluster.
    pub(super) async fn init(&self, settings: &[(String, String)]) -> Result<(), ClusterError> {
        self.make_data_folder()?;
        let mut initdb = command(&self.binaries.program("initdb"), self.account.as_ref(), self.parent());
        initdb.arg("-D").arg(&self.data).args(["-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        initdb.arg("--no-sync");
        run(initdb).await?;
        self.configure(settings)
    }

    /// Makes a streaming copy of `primary`.
    pub(super) async fn copy_of(&self, primary: &Self, settings: &[(String, String)]) -> Result<(), ClusterError> {
        self.make_data_folder()?;
        let mut backup = command(&self.binaries.program("pg_basebackup"), self.account.as_ref(), self.parent());
        backup.arg("-D").arg(&self.data).args(["-h", "127.0.0.1", "-U", SUPERUSER, "-p"]).arg(primary.port.to_string());
        backup.args(["-R", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
        run(backup).await?;
        self.configure(settings)
    }

    /// Appends to its `postgresql.conf`, where the last word counts. `ALTER SYSTEM` still overrides it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure(&self, settings: &[(String, String)]) -> Result<(), ClusterError> {
        let file = self.data.join("postgresql.conf");
        let failed = |source| ClusterError::Folder { what: "write", path: file.clone(), source };
        let mut text = fs::read_to_string(&file).map_err(failed)?;
        for (name, value) in settings {
            // The value's quotes are doubled; writing to a String cannot fail.
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        fs::write(&file, text).map_err(failed)
    }

    fn make_data_folder(&self) -> Result<(), ClusterError> {
        let failed = |source| ClusterError::Folder { what: "create", path: self.data.clone(), source };
        fs::create_dir(&self.data).map_err(failed)?;
        fs::set_permissions(&self.data, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        match &self.account {
            Some(account) => chown(&self.data, Some(account.uid), Some(account.gid)).map_err(failed),
            None => Ok(()),
        }
    }

    fn parent(&self) -> &Path {
        self.data.parent().unwrap_or(&self.data)
    }

    /// The end of its log.
    fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
    }

    // ── its process ──

    /// Starts the server and waits until it answers. A server that runs already is left alone.
    ///
    /// # Errors
    /// With the end of its log, when it ends again or does not answer in time.
    pub async fn start(&self) -> Result<(), ClusterError> {
        if self.pid().is_some() {
            return Ok(());
        }
        let failed = |source| ClusterError::Folder { what: "write", path: self.log.clone(), source };
        let log = File::options().create(true).append(true).open(&self.log).map_err(failed)?;
        let mut server = command(&self.binaries.program("postgres"), self.account.as_ref(), self.parent());
        server.arg("-D").arg(&self.data);
        server.stdout(Stdio::from(log.try_clone().map_err(failed)?)).stderr(Stdio::from(log));
        let program = "postgres".to_owned();
        let child = server.spawn().map_err(|error| ClusterError::Command { program, output: error.to_string() })?;
        self.process.lock().unwrap_or_else(PoisonError::into_inner).replace(child);
        let begun = clock::now();
        while Client::connect(self.port, SUPERUSER, "postgres").await.is_err() {
            if self.ended()?.is_some() || clock::now().since(begun) > CHANGE_MAX {
                return Err(ClusterError::NotReady { node: self.name.clone(), log: self.log_tail() });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Whether and how its process has ended.
    fn ended(&self) -> Result<Option<ExitStatus>, ClusterError> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(child) = process.as_mut() else { return Ok(None) };
        let status = child.try_wait().map_err(|error| self.process_error(&error))?;
        if status.is_some() {
            process.take();
        }
        Ok(status)
    }

    /// Stops the server and waits for its end. One that does not run is left alone.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub async fn stop(&self, how: Stop) -> Result<(), ClusterError> {
        let name = match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        };
        let Some((child, pid)) = self.take_process() else { return Ok(()) };
        signal(name, &[pid]).await.map_err(|error| self.process_error(&error))?;
        self.wait_for_end(child).await
    }

    /// Kills the server and all its sessions, as a power cut would: when this returns, none of their connections is open.
    ///
    /// # Errors
    /// When its processes do not end in time.
    pub async fn kill9(&self) -> Result<(), ClusterError> {
        let Some((child, pid)) = self.take_process() else { return Ok(()) };
        // Stopped first, so that it forks no session between the listing and the end.
        signal("STOP", &[pid]).await.map_err(|error| self.process_error(&error))?;
        let mut pids = children(pid).await;
        pids.push(pid);
        signal("KILL", &pids).await.map_err(|error| self.process_error(&error))?;
        self.wait_for_end(child).await?;
        for pid in pids {
            if !until(CHANGE_MAX, async || !alive(pid).await).await {
                return Err(ClusterError::NotReady { node: self.name.clone(), log: self.log_tail() });
            }
        }
        Ok(())
    }

    /// Freezes the server and its sessions: connections stay open and nothing answers.
    ///
    /// # Errors
    /// When no signal can be sent.
    pub async fn freeze(&self) -> Result<(), ClusterError> {
        let Some(pid) = self.pid() else { return Ok(()) };
        signal("STOP", &[pid]).await.map_err(|error| self.process_error(&error))?;
        signal("STOP", &children(pid).await).await.map_err(|error| self.process_error(&error))
    }

    /// Ends a [`Self::freeze`].
    ///
    /// # Errors
    /// When no signal can be sent.
    pub async fn thaw(&self) -> Result<(), ClusterError> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let mut pids = children(pid).await;
        pids.push(pid);
        signal("CONT", &pids).await.map_err(|error| self.process_error(&error))
    }

    fn take_process(&self) -> Option<(Child, u32)> {
        let child = self.process.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let pid = child.id()?;
        Some((child, pid))
    }

    /// Cancel-safe: the server is killed then, and reaped later.
    async fn wait_for_end(&self, mut child: Child) -> Result<(), ClusterError> {
        match timeout(CHANGE_MAX, child.wait()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.process_error(&error)),
            Err(_) => Err(ClusterError::NotReady { node: self.name.clone(), log: self.log_tail() }),
        }
    }

    fn process_error(&self, error: &io::Error) -> ClusterError {
        ClusterError::Command { program: format!("postgres of {}", self.name), output: error.to_string() }
    }

    // ── its replication ──

    /// Waits until a streaming replica receives its primary's log.
    ///
    /// # Errors
    /// With the end of its log, when it does not in time.
    pub async fn until_streaming(&self) -> Result<(), ClusterError> {
        self.until_value("SELECT status FROM pg_stat_wal_receiver", "streaming").await
    }

    /// Waits until a replica has replayed what `primary` has written so far.
    ///
    /// # Errors
    /// When it does not in time, or a server does not answer.
    pub async fn until_replayed(&self, primary: &Self) -> Result<(), ClusterError> {
        let position = primary.value("postgres", "SELECT pg_current_wal_lsn()").await?.unwrap_or_default();
        self.until_value(&format!("SELECT pg_last_wal_replay_lsn() >= '{position}'"), "t").await
    }

    /// Makes a replica show every commit later by this; zero ends it.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn delay_replay(&self, by: Duration) -> Result<(), ClusterError> {
        let by = by.as_millis();
        self.value("postgres", &format!("ALTER SYSTEM SET recovery_min_apply_delay = '{by}ms'")).await?;
        self.value("postgres", "SELECT pg_reload_conf()").await?;
        let shown = "SELECT setting FROM pg_settings WHERE name = 'recovery_min_apply_delay'";
        self.until_value(shown, &by.to_string()).await
    }

    /// Stops a replica's replay; it goes on receiving.
    ///
    /// # Errors
    /// When the server refuses, does not answer, or goes on.
    pub async fn pause_replay(&self) -> Result<(), ClusterError> {
        self.value("postgres", "SELECT pg_wal_replay_pause()").await?;
        // Version 13 has no word for "asked for, and not yet reached".
        let state = match self.binaries.major {
            ..=13 => ("SELECT pg_is_wal_replay_paused()", "t"),
            _ => ("SELECT pg_get_wal_replay_pause_state()", "paused"),
        };
        self.until_value(state.0, state.1).await
    }

    /// Lets a replica's replay go on.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn resume_replay(&self) -> Result<(), ClusterError> {
        self.value("postgres", "SELECT pg_wal_replay_resume()").await.map(drop)
    }

    /// Makes a replica the primary of its shard, and waits until it writes.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn promote(&self) -> Result<(), ClusterError> {
        self.value("postgres", "SELECT pg_promote(true, 60)").await?;
        self.until_value("SELECT pg_is_in_recovery()", "f").await
    }

    /// Makes a running replica follow `primary`, and waits until it streams; without one it follows nobody.
    ///
    /// # Errors
    /// When the server refuses, does not answer, or does not come to it in time.
    pub async fn follow(&self, primary: Option<&Self>) -> Result<(), ClusterError> {
        let conninfo =
            primary.map(|it| format!("host=127.0.0.1 port={} user={SUPERUSER}", it.port)).unwrap_or_default();
        self.value("postgres", &format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'")).await?;
        self.value("postgres", "SELECT pg_reload_conf()").await?;
        let port = primary.map(|it| it.port.to_string()).unwrap_or_default();
        let receiver =
            "SELECT coalesce((SELECT sender_port::text FROM pg_stat_wal_receiver WHERE status = 'streaming'), '')";
        self.until_value(receiver, &port).await
    }

    /// Makes the server anew as a copy of `primary`, which it then streams from: what it held before is gone.
    ///
    /// # Errors
    /// When a server does not answer, or not in time.
    pub async fn rebuild(&self, primary: &Self) -> Result<(), ClusterError> {
        // One that is frozen takes no other signal.
        self.kill9().await?;
        let file = self.data.join("postgresql.conf");
        let failed = |what| move |source| ClusterError::Folder { what, path: file.clone(), source };
        // The copy has its primary's settings; its own name the port.
        let settings = fs::read_to_string(self.data.join("postgresql.conf")).map_err(failed.clone()("read"))?;
        fs::remove_dir_all(&self.data).map_err(failed.clone()("remove the folder of"))?;
        self.copy_of(primary, &[]).await?;
        fs::write(self.data.join("postgresql.conf"), settings).map_err(failed("write"))?;
        self.start().await?;
        self.until_streaming().await
    }

    /// Asks until the answer is `wanted`.
    async fn until_value(&self, sql: &str, wanted: &str) -> Result<(), ClusterError> {
        let reached = until(CHANGE_MAX, async || {
            self.value("postgres", sql).await.is_ok_and(|answer| answer.as_deref() == Some(wanted))
        });
        if reached.await {
            return Ok(());
        }
        Err(ClusterError::NotReady { node: self.name.clone(), log: self.log_tail() })
    }
}
