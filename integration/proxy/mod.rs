//! A proxy process of its own in front of a local cluster, and what the tests of this folder ask of it.

#![allow(dead_code, reason = "every test uses a part of it")]

use std::fmt::Write as _;
use std::fs;
use std::fs::File;
use std::net::TcpListener;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use shardway::clock;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::client::Client;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// How long the proxy may take to start, to stop, or to come to a state that is waited for.
const CHANGE_MAX: Duration = Duration::from_secs(30);
/// How often a condition is looked at again while it is waited for.
const POLL: Duration = Duration::from_millis(10);

/// A map of the cluster's nodes for which `wanted` holds, with `rest` in the place of its groups and other tables.
pub(crate) fn map_of(cluster: &Cluster, port: u16, wanted: impl Fn(&str) -> bool, rest: &str) -> String {
    let mut text = format!(
        "version: 1\nlisten: {{postgres: 127.0.0.1:{port}}}\nadmin: {{users: {{demo: {{auth: trust}}}}}}\ndatabases:\n  shop:\n    shards:\n"
    );
    for nodes in cluster.nodes().chunk_by(|a, b| a.shard() == b.shard()) {
        let listed = nodes.iter().filter(|node| wanted(node.name()));
        let listed: Vec<String> = listed
            .map(|node| format!("        - {{name: {}, host: 127.0.0.1, port: {}}}\n", node.name(), node.port()))
            .collect();
        if let (Some(node), false) = (nodes.first(), listed.is_empty()) {
            // Writing to a String cannot fail.
            let _ = write!(text, "      {}:\n{}", node.shard(), listed.concat());
        }
    }
    text.push_str(rest);
    text
}

/// A map of a database for each number of shards, `d` and that number; `placed` is what stands behind its shards.
pub(crate) fn map_of_widths(
    cluster: &Cluster,
    port: u16,
    widths: &[usize],
    placed: &dyn Fn(usize) -> String,
) -> String {
    let mut map =
        format!("version: 1\nlisten: {{postgres: 127.0.0.1:{port}}}\nusers: {{demo: {{auth: trust}}}}\ndatabases:\n");
    for width in widths {
        let shard = |(at, port): (usize, u16)| format!("      s{}: ['127.0.0.1:{port}']\n", at + 1);
        let shards: String = cluster.primaries().take(*width).map(|it| it.port()).enumerate().map(shard).collect();
        let _ = write!(map, "  d{width}:\n    shards:\n{shards}{}", placed(*width));
    }
    // The one that tells whether the proxy is up.
    let _ = write!(map, "  shop:\n    shards: {{s1: ['127.0.0.1:{}']}}\n", cluster.nodes()[0].port());
    map
}

/// Makes the shards of a map able to take part in transactions over several of them, as an operator does.
pub(crate) fn prepare(cluster: &Cluster, map: &str) -> Outcome {
    prepare_at(cluster.dir(), map)
}

/// The same of a map for any servers; `dir` is a folder for it.
pub(crate) fn prepare_at(dir: &Path, map: &str) -> Outcome {
    let file = dir.join("to-prepare.yaml");
    fs::write(&file, map)?;
    let mut check = Command::new(env!("CARGO_BIN_EXE_shardway"));
    let done = check.arg("check").arg(&file).args(["--connect", "--prepare"]).output()?;
    let said = String::from_utf8_lossy(&done.stderr) + String::from_utf8_lossy(&done.stdout);
    if done.status.success() { Ok(()) } else { Err(said.into_owned().into()) }
}

/// A port of 127.0.0.1 that nobody has, and no other test gets while this process lives: a proxy that stops and starts again
/// would otherwise find another test's server in its place. It is none of those that the system gives by itself.
pub(crate) fn free_port() -> Outcome<u16> {
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let folder = std::env::temp_dir().join("shardway-test-ports");
    fs::create_dir_all(&folder)?;
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let ports = usize::from(PORTS.end - PORTS.start);
    let first = std::process::id() as usize * 64 + held.len();
    for place in 0..ports {
        let port = PORTS.start + u16::try_from((first + place) % ports)?;
        let file = File::create(folder.join(port.to_string()))?;
        if file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            held.push(file);
            return Ok(port);
        }
    }
    Err("all ports for tests are taken".into())
}

/// Below what systems give to whoever asks for any (32768 and more, usually).
const PORTS: Range<u16> = 20_000..32_000;

/// Looks until `holds`.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> Outcome<bool>) -> Outcome {
    let begun = clock::now();
    while !holds().await? {
        if clock::now().since(begun) > CHANGE_MAX {
            return Err(format!("waited {CHANGE_MAX:?} for {what}").into());
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// One `shardway serve`. Dropping it kills it.
pub(crate) struct Proxy {
    child: Child,
    port: u16,
    map: PathBuf,
    log: PathBuf,
}

impl Proxy {
    /// Starts it in a folder of the cluster's and waits until it lets clients in.
    pub(crate) async fn start(cluster: &Cluster, port: u16, map: &str, environment: &[(&str, &str)]) -> Outcome<Self> {
        let answers = async || Client::connect(port, "demo", "shop").await.is_ok();
        Self::start_when(cluster.dir(), port, map, environment, answers).await
    }

    /// Starts it in a folder of `dir` and waits until it answers.
    pub(crate) async fn start_when(
        dir: &Path,
        port: u16,
        map: &str,
        environment: &[(&str, &str)],
        mut answers: impl AsyncFnMut() -> bool,
    ) -> Outcome<Self> {
        let mut proxy = Self::launch(dir, port, map, environment)?;
        let begun = clock::now();
        while !answers().await {
            if proxy.child.try_wait()?.is_some() || clock::now().since(begun) > CHANGE_MAX {
                return Err(format!("the proxy does not start:\n{}", proxy.log()).into());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(proxy)
    }

    /// Waits until it lets clients in.
    pub(crate) async fn serves(&mut self) -> Outcome {
        let begun = clock::now();
        while Client::connect(self.port, "demo", "shop").await.is_err() {
            if self.child.try_wait()?.is_some() || clock::now().since(begun) > CHANGE_MAX {
                return Err(format!("the proxy does not start:\n{}", self.log()).into());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until it ends by itself: its status and what it said.
    pub(crate) async fn gives_up(mut self) -> Outcome<(ExitStatus, String)> {
        let status = self.ended().await?;
        Ok((status, self.log()))
    }

    /// Starts it and waits until it ends by itself: its status and what it said.
    pub(crate) async fn refused(cluster: &Cluster, port: u16, map: &str) -> Outcome<(ExitStatus, String)> {
        let mut proxy = Self::launch(cluster.dir(), port, map, &[])?;
        let status = proxy.ended().await?;
        Ok((status, proxy.log()))
    }

    fn launch(dir: &Path, port: u16, map: &str, environment: &[(&str, &str)]) -> Outcome<Self> {
        let dir = dir.join("proxy");
        fs::create_dir_all(&dir)?;
        let file = dir.join("map.yaml");
        replace(&file, map)?;
        Self::spawn(&dir, port, file, &[], environment)
    }

    /// Starts it by a map that is wherever it is, and waits for nothing.
    pub(crate) fn spawn(
        dir: &Path,
        port: u16,
        file: PathBuf,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Outcome<Self> {
        fs::create_dir_all(dir)?;
        let log = dir.join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardway"));
        command.arg("serve").arg("--map").arg(&file).args(["--workers", "2"]).args(arguments);
        command.env_remove("SHARDWAY_FAULT").envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        Ok(Self { child: command.spawn()?, port, map: file, log })
    }

    /// Starts another one of the same map that is to take over from this one.
    pub(crate) fn successor(&self) -> Outcome<Self> {
        let log = self.log.with_file_name(format!("log-after-{}", self.child.id()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardway"));
        command.args(["serve", "--takeover", "--workers", "2", "--map"]).arg(&self.map);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        Ok(Self { child: command.spawn()?, port: self.port, map: self.map.clone(), log })
    }

    /// Has another one take over from this one, and waits until it has: that one.
    pub(crate) async fn taken_over(&self) -> Outcome<Self> {
        let mut next = self.successor()?;
        let former = format!("\"former\":{}", self.child.id());
        let begun = clock::now();
        while !(next.log().contains(&former) && self.log().contains("has taken over")) {
            if next.child.try_wait()?.is_some() || clock::now().since(begun) > CHANGE_MAX {
                return Err(format!("it does not take over:\n{}\nthe former one:\n{}", next.log(), self.log()).into());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(next)
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> Outcome<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    pub(crate) fn map(&self) -> &Path {
        &self.map
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) async fn client(&self) -> Outcome<Client> {
        Ok(Client::connect(self.port, "demo", "shop").await?)
    }

    pub(crate) async fn console(&self) -> Outcome<Client> {
        Ok(Client::connect(self.port, "demo", "shardway").await?)
    }

    /// Puts another text in the place of the map's file, as editors and config managers do.
    pub(crate) fn replace_map(&self, text: &str) -> Outcome {
        replace(&self.map, text)
    }

    /// Memory that it holds, in bytes.
    pub(crate) fn resident(&self) -> Outcome<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Stops it and waits for its end.
    pub(crate) async fn stop(self) -> Outcome {
        self.signal("INT")?;
        self.has_stopped().await
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) -> Outcome {
        let pid = self.child.id();
        Command::new("/bin/sh").arg("-c").arg(format!("kill -s {name} {pid}")).status()?;
        Ok(())
    }

    /// Waits for its end, which must be a good one.
    pub(crate) async fn has_stopped(mut self) -> Outcome {
        let status = self.ended().await?;
        if status.success() { Ok(()) } else { Err(format!("it ended with {status}:\n{}", self.log()).into()) }
    }

    pub(crate) async fn ended(&mut self) -> Outcome<ExitStatus> {
        let mut status = None;
        until("the proxy's end", async || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })
        .await?;
        status.ok_or_else(|| "it runs".into())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn replace(file: &Path, text: &str) -> Outcome {
    let beside = file.with_extension("new");
    fs::write(&beside, text)?;
    Ok(fs::rename(beside, file)?)
}

/// A row's value, which must be there.
pub(crate) fn text(row: &[Option<String>], column: usize) -> Outcome<&str> {
    row.get(column).and_then(|value| value.as_deref()).ok_or_else(|| format!("no column {column} in {row:?}").into())
}

/// The value below which a part of them lies; zero for none.
pub(crate) fn quantile(spans: &mut [Duration], part: f64) -> Duration {
    spans.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a small length")]
    let place = (spans.len() as f64 * part) as usize;
    spans.get(place.min(spans.len().saturating_sub(1))).copied().unwrap_or_default()
}
