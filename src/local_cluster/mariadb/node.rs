//! One MariaDB server of a local cluster: its files, its process, and what tests do to both.

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

use super::super::ClusterError;
use super::super::node::MadeAs;
use super::super::process::Account;
use super::super::process::POLL;
use super::super::process::command;
use super::super::process::run;
use super::super::process::signal;
use super::super::process::until;
use super::super::workspace::MARIADB_PID;
use super::PASSWORD;
use super::Programs;
use super::REPLICATION_USER;
use super::USER;
use crate::clock;

/// How long a server may take to start, to stop, or to come to a state that was asked of it.
const CHANGE_MAX: Duration = Duration::from_secs(60);
/// How much of a log an error shows.
const LOG_LINES: usize = 12;
/// The server's superuser, who needs no password and comes by the socket only.
const SUPERUSER: &str = "root";

/// One server.
#[derive(Debug)]
pub struct MariaNode {
    name: String,
    shard: String,
    port: u16,
    made_as: MadeAs,
    data: PathBuf,
    log: PathBuf,
    file: PathBuf,
    socket: PathBuf,
    programs: Programs,
    account: Option<Account>,
    process: Mutex<Option<Child>>,
}

impl MariaNode {
    pub(super) fn new(
        (shard, name): (String, String),
        port: u16,
        made_as: MadeAs,
        dir: &Path,
        (programs, account): (&Programs, Option<&Account>),
    ) -> Self {
        Self {
            data: dir.join(&name),
            log: dir.join(format!("{name}.log")),
            file: dir.join(format!("{name}.cnf")),
            socket: dir.join("sockets").join(&name),
            name,
            shard,
            port,
            made_as,
            programs: programs.clone(),
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

    /// Its Unix socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The process id of its server, while that runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(Child::id)
    }

    /// Runs statements as the superuser in `database` (none, if that is empty), past the proxy; the first column of the first
    /// row as text. NULL is the text `NULL`.
    ///
    /// # Errors
    /// When the server does not answer or refuses.
    pub async fn value(&self, database: &str, sql: &str) -> Result<Option<String>, ClusterError> {
        let mut client = command(&self.programs.client, self.account.as_ref(), self.parent());
        client.arg("--no-defaults").arg("--socket").arg(&self.socket).args(["--user", SUPERUSER]);
        client.args(["--batch", "--raw", "--skip-column-names", "--default-character-set=utf8mb4"]);
        client.arg(format!("--database={database}")).arg("--execute").arg(sql);
        let answer = timeout(CHANGE_MAX, run(client)).await.map_err(|_| self.not_ready())??;
        let first = answer.lines().next();
        Ok(first.map(|line| line.split('\t').next().unwrap_or(line).to_owned()))
    }

    /// Makes a database, in which the application's user may do everything. On a primary: replicas get it from there.
    ///
    /// # Errors
    /// When the server does not answer or refuses.
    pub async fn create_database(&self, name: &str) -> Result<(), ClusterError> {
        let quoted = name.replace('`', "``");
        // In GRANT, these two stand for any characters.
        let pattern = quoted.replace('_', "\\_").replace('%', "\\%");
        let sql = format!("CREATE DATABASE `{quoted}`; GRANT ALL ON `{pattern}`.* TO '{USER}'@'%'");
        self.value("", &sql).await.map(drop)
    }

    // ── its files ──

    /// Takes a copy of an empty data folder for its own.
    pub(super) fn init(&self, template: &Path, settings: &[(String, String)]) -> Result<(), ClusterError> {
        let failed = |source| ClusterError::Folder { what: "create", path: self.data.clone(), source };
        copy(template, &self.data, self.account.as_ref()).map_err(failed)?;
        fs::set_permissions(&self.data, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        fs::write(&self.file, "[mariadbd]\n").map_err(failed)?;
        self.configure(settings)
    }

    /// Appends to its file of options, where the last word counts; the next start reads it. An option without a value is one
    /// with an empty one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure(&self, settings: &[(String, String)]) -> Result<(), ClusterError> {
        let failed = |source| ClusterError::Folder { what: "write", path: self.file.clone(), source };
        let mut text = fs::read_to_string(&self.file).map_err(failed)?;
        for (name, value) in settings {
            // Writing to a String cannot fail.
            let _ = match value.as_str() {
                "" => writeln!(text, "{name}"),
                _ => writeln!(text, "{name} = {value}"),
            };
        }
        fs::write(&self.file, text).map_err(failed)
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

    fn not_ready(&self) -> ClusterError {
        ClusterError::NotReady { node: self.name.clone(), log: self.log_tail() }
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
        // A server that was killed leaves its socket.
        match fs::remove_file(&self.socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut server = command(&self.programs.server, self.account.as_ref(), self.parent());
        let mut defaults = std::ffi::OsString::from("--defaults-file=");
        defaults.push(&self.file);
        server.arg(defaults);
        server.stdout(Stdio::from(log.try_clone().map_err(failed)?)).stderr(Stdio::from(log));
        let child = server.spawn().map_err(|error| self.process_error(&error))?;
        self.process.lock().unwrap_or_else(PoisonError::into_inner).replace(child);
        let begun = clock::now();
        while !self.socket.exists() || self.value("", "SELECT 1").await.is_err() {
            if self.ended()?.is_some() || clock::now().since(begun) > CHANGE_MAX {
                return Err(self.not_ready());
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

    /// Stops the server in order and waits for its end. One that does not run is left alone.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub async fn stop(&self) -> Result<(), ClusterError> {
        self.end("TERM").await
    }

    /// Kills the server, as a power cut would: when this returns, none of its connections is open.
    ///
    /// # Errors
    /// When its process does not end in time.
    pub async fn kill9(&self) -> Result<(), ClusterError> {
        // Sessions are threads: they are gone, and their files closed, when the process can be reaped.
        self.end("KILL").await
    }

    async fn end(&self, how: &str) -> Result<(), ClusterError> {
        let child = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut child) = child else { return Ok(()) };
        let Some(pid) = child.id() else { return Ok(()) };
        signal(how, &[pid]).await.map_err(|error| self.process_error(&error))?;
        match timeout(CHANGE_MAX, child.wait()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.process_error(&error)),
            Err(_) => Err(self.not_ready()),
        }
    }

    /// Freezes the server: connections stay open and nothing answers.
    ///
    /// # Errors
    /// When no signal can be sent.
    pub async fn freeze(&self) -> Result<(), ClusterError> {
        let Some(pid) = self.pid() else { return Ok(()) };
        signal("STOP", &[pid]).await.map_err(|error| self.process_error(&error))
    }

    /// Ends a [`Self::freeze`].
    ///
    /// # Errors
    /// When no signal can be sent.
    pub async fn thaw(&self) -> Result<(), ClusterError> {
        let Some(pid) = self.pid() else { return Ok(()) };
        signal("CONT", &[pid]).await.map_err(|error| self.process_error(&error))
    }

    fn process_error(&self, error: &io::Error) -> ClusterError {
        ClusterError::Command { program: format!("mariadbd of {}", self.name), output: error.to_string() }
    }

    // ── its replication ──

    /// Makes it a replica of `primary`, from where its own transactions end.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn follow(&self, primary: &Self) -> Result<(), ClusterError> {
        let sql = format!(
            "STOP SLAVE; CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = '{REPLICATION_USER}', \
             MASTER_PASSWORD = '{PASSWORD}', MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos; START SLAVE; \
             SET GLOBAL read_only = ON",
            primary.port
        );
        self.value("", &sql).await.map(drop)
    }

    /// Waits until a replica receives its primary's log and applies it.
    ///
    /// # Errors
    /// With the end of its log, when it does not in time.
    pub async fn until_streaming(&self) -> Result<(), ClusterError> {
        let sql = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Slave_running'";
        self.until_value(sql, "ON").await
    }

    /// Waits until a replica has applied what `primary` has written so far.
    ///
    /// # Errors
    /// When it does not in time, or a server does not answer.
    pub async fn until_replayed(&self, primary: &Self) -> Result<(), ClusterError> {
        let position = primary.value("", "SELECT @@gtid_binlog_pos").await?.unwrap_or_default();
        let limit = CHANGE_MAX.as_secs() / 2;
        match self.value("", &format!("SELECT MASTER_GTID_WAIT('{position}', {limit})")).await?.as_deref() {
            Some("0") => Ok(()),
            _ => Err(self.not_ready()),
        }
    }

    /// Stops a replica's replay; it goes on receiving.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn pause_replay(&self) -> Result<(), ClusterError> {
        self.value("", "STOP SLAVE SQL_THREAD").await.map(drop)
    }

    /// Lets a replica's replay go on.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn resume_replay(&self) -> Result<(), ClusterError> {
        self.value("", "START SLAVE SQL_THREAD").await.map(drop)
    }

    /// Makes a replica a primary that writes. What it has received is applied first.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn promote(&self) -> Result<(), ClusterError> {
        self.value("", "STOP SLAVE IO_THREAD").await?;
        let applied = "SELECT COUNT(*) FROM information_schema.processlist WHERE command = 'Slave_SQL' \
                       AND state NOT LIKE 'Slave has read all relay log%'";
        self.until_value(applied, "0").await?;
        self.value("", "STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = OFF").await.map(drop)
    }

    /// Asks until the answer is `wanted`.
    async fn until_value(&self, sql: &str, wanted: &str) -> Result<(), ClusterError> {
        let reached =
            until(CHANGE_MAX, async || self.value("", sql).await.is_ok_and(|answer| answer.as_deref() == Some(wanted)));
        if reached.await { Ok(()) } else { Err(self.not_ready()) }
    }
}

/// Copies a folder with all that is in it, for `account` to own.
fn copy(from: &Path, to: &Path, account: Option<&Account>) -> io::Result<()> {
    let own = |path: &Path| account.map_or(Ok(()), |it| chown(path, Some(it.uid), Some(it.gid)));
    fs::create_dir(to)?;
    own(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target, account)?;
        } else {
            fs::copy(entry.path(), &target)?;
            own(&target)?;
        }
    }
    Ok(())
}

/// Where its server writes its number down, for the sweep of folders that nobody ended.
pub(super) fn pid_file(node: &MariaNode) -> PathBuf {
    node.data.join(MARIADB_PID)
}
