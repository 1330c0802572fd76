//! One MariaDB server in a folder of its own.

use std::error::Error;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shardway::backend::mysql::Connection;
use shardway::clock;
use shardway::net::ClientTls;
use shardway::shard_map::Secret;
use shardway::shard_map::ServerLogin;

/// How long a server may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether it has.
const POLL: Duration = Duration::from_millis(20);

/// Everybody's password.
pub const PASSWORD: &str = "geheim";

/// What the server does first, one statement a line.
const INIT: &str = "\
CREATE DATABASE IF NOT EXISTS shop;
INSTALL SONAME 'auth_ed25519';
CREATE USER IF NOT EXISTS 'native'@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('geheim');
CREATE USER IF NOT EXISTS 'ed'@'%' IDENTIFIED VIA ed25519 USING PASSWORD('geheim');
CREATE USER IF NOT EXISTS 'either'@'%' IDENTIFIED VIA ed25519 USING PASSWORD('other') OR mysql_native_password USING PASSWORD('geheim');
CREATE USER IF NOT EXISTS 'void'@'%';
GRANT ALL ON shop.* TO 'native'@'%', 'ed'@'%', 'either'@'%', 'void'@'%';
";

/// A running server. It is killed, and its folder removed, at the end.
pub struct Server {
    dir: PathBuf,
    process: Child,
    pub port: u16,
}

impl Server {
    /// Makes and starts one.
    pub async fn start() -> Result<Self, Box<dyn Error>> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("shardway-mariadb-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        // Servers clean their folder for temporary files when they start: one that is shared loses others' files.
        fs::create_dir_all(dir.join("tmp"))?;
        fs::set_permissions(dir.join("tmp"), fs::Permissions::from_mode(0o777))?;
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        fs::write(dir.join("tls.crt"), made.cert.pem())?;
        fs::write(dir.join("tls.key"), made.signing_key.serialize_pem())?;
        fs::write(dir.join("init.sql"), INIT)?;
        for file in ["tls.crt", "tls.key", "init.sql"] {
            fs::set_permissions(dir.join(file), fs::Permissions::from_mode(0o644))?;
        }
        let installed = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", dir.join("data").display()))
            .args(account())
            .env("TMPDIR", dir.join("tmp"))
            .stdin(Stdio::null())
            .output()?;
        if !installed.status.success() {
            return Err(String::from_utf8_lossy(&installed.stderr).into());
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = run(&dir, port)?;
        let server = Self { dir, process, port };
        server.until_ready().await?;
        Ok(server)
    }

    /// Ends it at once, as in a crash; it is gone when this returns.
    pub fn kill(&mut self) -> Result<(), Box<dyn Error>> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again.
    pub async fn again(&mut self) -> Result<(), Box<dyn Error>> {
        self.process = run(&self.dir, self.port)?;
        self.until_ready().await
    }

    /// Its certificate, which is its own authority.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("tls.crt")
    }

    async fn until_ready(&self) -> Result<(), Box<dyn Error>> {
        let deadline = clock::now().plus(START_MAX);
        loop {
            let tried = open(self.port, "native", PASSWORD, "shop", &ClientTls::disabled()).await;
            match tried {
                Ok(_) => return Ok(()),
                Err(error) if clock::now() > deadline => {
                    let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                    return Err(format!("{error}\n{log}").into());
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Servers do not run as root.
fn account() -> Option<&'static str> {
    let root = fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0);
    root.then_some("--user=mysql")
}

fn run(dir: &Path, port: u16) -> Result<Child, Box<dyn Error>> {
    let at = |name: &str, file: &str| format!("--{name}={}", dir.join(file).display());
    let log = fs::File::create(dir.join("log"))?;
    let process = Command::new("mariadbd")
        .args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin"])
        .args(["--innodb-buffer-pool-size=32M", "--performance-schema=OFF", "--max-allowed-packet=64M"])
        .args([at("datadir", "data"), at("socket", "data/s"), at("pid-file", "data/pid"), at("init-file", "init.sql")])
        .args([at("ssl-cert", "tls.crt"), at("ssl-key", "tls.key"), format!("--port={port}")])
        .args(account())
        .env("TMPDIR", dir.join("tmp"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(process)
}

/// Who logs in.
pub fn login(user: &str, password: &str) -> ServerLogin {
    ServerLogin { user: user.into(), password: Some(Secret::new(password)) }
}

/// A connection of no pool.
pub async fn open(
    port: u16,
    user: &str,
    password: &str,
    database: &str,
    tls: &ClientTls,
) -> Result<Connection, shardway::backend::mysql::login::OpenError> {
    let deadline = clock::now().plus(Duration::from_secs(20));
    let (host, database): (Arc<str>, Arc<str>) = ("localhost".into(), database.into());
    Connection::open(&host, port, tls, &login(user, password), &database, deadline).await
}
