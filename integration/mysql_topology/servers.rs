//! MariaDB servers in a temporary directory, for these tests only.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use shardway::clock;
use sqlx::AssertSqlSafe;
use sqlx::ConnectOptions;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::mysql::MySqlConnection;

/// What the proxy's own user is called, and its password.
pub(crate) const CONTROL: (&str, &str) = ("shardway", "hush");

/// One server; stopped and removed when dropped.
pub(crate) struct Server {
    home: PathBuf,
    pub(crate) port: u16,
    settings: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// A new server with the database `shop` and the control user, who may do everything there.
    pub(crate) async fn primary(settings: &[&str]) -> Self {
        let it = Self::installed(settings).await;
        let (user, password) = CONTROL;
        it.execute("CREATE DATABASE shop").await;
        it.execute(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'")).await;
        it.execute(&format!("GRANT ALL PRIVILEGES ON shop.* TO '{user}'@'%'")).await;
        it.execute(&format!("GRANT SLAVE MONITOR ON *.* TO '{user}'@'%'")).await;
        it.execute(&format!("GRANT REPLICATION SLAVE ON *.* TO '{user}'@'%'")).await;
        it
    }

    /// A read-only replica of `primary`, which has everything that is there now.
    pub(crate) async fn replica_of(primary: &Self) -> Self {
        let it = Self::installed(&["--read-only=1"]).await;
        it.follow(primary).await;
        let deadline = clock::now().plus(Duration::from_secs(30));
        // The last right that the primary has given: who logs in before has what there is by then, for good.
        while it.value("SELECT COUNT(*) FROM mysql.user WHERE User = 'shardway' AND Repl_slave_priv = 'Y'").await != "1"
        {
            assert!(clock::now() < deadline, "it does not replicate: {}", it.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        it
    }

    /// Has it replicate from another.
    pub(crate) async fn follow(&self, primary: &Self) {
        let (user, password) = CONTROL;
        self.execute(&format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = '{user}', \
             MASTER_PASSWORD = '{password}', MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1",
            primary.port
        ))
        .await;
        self.execute("START SLAVE").await;
    }

    async fn installed(settings: &[&str]) -> Self {
        let (user, group) = owner();
        let unique = format!("shardway-mysql-{}-{}", std::process::id(), clock::now().0);
        let home = std::env::temp_dir().join(unique);
        fs::create_dir_all(&home).unwrap();
        chown(&home, user, group).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = settings.iter().map(|it| (*it).to_owned()).collect();
        let mut it = Self { home, port, settings, process: None };
        let data = format!("--datadir={}", it.data());
        let args = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", &data];
        let output = it.command("mariadb-install-db").args(args).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}\n{}", said(&output.stdout), said(&output.stderr));
        it.start().await;
        it
    }

    fn data(&self) -> String {
        self.home.join("data").to_string_lossy().into_owned()
    }

    fn socket(&self) -> PathBuf {
        self.home.join("socket")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let (user, group) = owner();
        if let (Some(user), Some(group)) = (user, group) {
            command.uid(user).gid(group);
        }
        // Servers that share a folder for temporary files take each other's away.
        command.current_dir(&self.home).env("LC_ALL", "C").env("HOME", &self.home).env("TMPDIR", &self.home);
        command
    }

    /// Starts it and waits until it lets us in.
    pub(crate) async fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.home.join("log")).unwrap();
        let mut command = self.command("mariadbd");
        command.arg("--no-defaults").arg(format!("--datadir={}", self.data()));
        command.arg(format!("--socket={}", self.socket().display())).arg(format!("--port={}", self.port));
        command.arg(format!("--server-id={}", self.port)).args([
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--log-bin=binlog",
            "--pid-file=pid",
            "--innodb-buffer-pool-size=16M",
            "--innodb-log-file-size=8M",
            "--innodb-flush-log-at-trx-commit=0",
            "--character-set-server=utf8mb4",
        ]);
        command.args(&self.settings);
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let deadline = clock::now().plus(Duration::from_secs(60));
        while self.try_connect().await.is_err() {
            assert!(clock::now() < deadline, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap()
    }

    /// Kills it, as in a crash.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// As `root`, over its socket.
    async fn try_connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        let options = MySqlConnectOptions::new().socket(self.socket()).username("root").database("mysql");
        options.ssl_mode(sqlx::mysql::MySqlSslMode::Disabled).connect().await
    }

    pub(crate) async fn connect(&self) -> MySqlConnection {
        self.try_connect().await.unwrap()
    }

    pub(crate) async fn execute(&self, text: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(text))
            .execute(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{text}: {error}"));
    }

    /// The first value of the first row, as text.
    pub(crate) async fn value(&self, text: &str) -> String {
        use sqlx::Row;
        let mut connection = self.connect().await;
        let row = sqlx::raw_sql(AssertSqlSafe(text)).fetch_one(&mut connection).await.unwrap();
        row.try_get_unchecked(0).unwrap()
    }

    /// As the map writes it.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Servers refuse to run as root: then they run as `mysql`.
fn owner() -> (Option<u32>, Option<u32>) {
    let id = |args: &[&str]| {
        let output = Command::new("id").args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().ok()
    };
    if id(&["-u"]) == Some(0) { (id(&["-u", "mysql"]), id(&["-g", "mysql"])) } else { (None, None) }
}
