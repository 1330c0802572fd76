//! Programs started for a cluster: as which user, their output, signals to them and to their children.

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::ClusterError;
use crate::clock;

/// How often a condition is looked at again while it is waited for.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// The user that servers run as when the caller is root, whom Postgres refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// Looks for an unprivileged user in the text of `/etc/passwd`: `postgres`, or else `nobody`.
    pub(super) fn find(passwd: &str) -> Option<Self> {
        let named = |wanted: &str| {
            passwd.lines().find_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next().filter(|name| *name == wanted)?;
                let uid = fields.nth(1)?.parse().ok()?;
                let gid = fields.next()?.parse().ok()?;
                (uid != 0).then(|| Self { name: name.to_owned(), uid, gid })
            })
        };
        named("postgres").or_else(|| named("nobody"))
    }
}

/// What begins the names of variables that database programs look at.
const LOOKED_AT: [&str; 3] = ["PG", "MYSQL", "MARIADB"];

/// A command with nothing of the caller's that could change what a database's program does.
pub(super) fn command(program: &Path, account: Option<&Account>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if LOOKED_AT.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    // A group of its own, so that Ctrl-C in the terminal reaches the demo and not its servers.
    command.process_group(0);
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// Runs a command to its end; a failure carries what it printed.
pub(super) async fn run(mut command: Command) -> Result<String, ClusterError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let failed = |output: String| ClusterError::Command { program: program.clone(), output };
    let output = command.output().await.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(failed(format!("{text}{}", String::from_utf8_lossy(&output.stderr)).trim().to_owned()))
}

/// Sends a signal, by name, to each process; those that are gone already are no error.
pub(super) async fn signal(name: &str, pids: &[u32]) -> io::Result<()> {
    if pids.is_empty() {
        return Ok(());
    }
    // `kill` is built into every shell, also where no such program is installed.
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let script = format!("kill -s {name} {} 2>/dev/null || true", pids.join(" "));
    Command::new("/bin/sh").arg("-c").arg(script).stdin(Stdio::null()).status().await.map(drop)
}

/// The children of a process, one level deep: all that a Postgres server has.
pub(super) async fn children(parent: u32) -> Vec<u32> {
    let listing = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output();
    let table = match process_table() {
        Some(table) => table,
        None => listing.await.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default(),
    };
    table
        .lines()
        .filter_map(|line| {
            let (pid, of) = line.trim().split_once(char::is_whitespace)?;
            (of.trim().parse() == Ok(parent)).then(|| pid.parse().ok())?
        })
        .collect()
}

/// Every process and its parent, a line each, where the system has `/proc`.
fn process_table() -> Option<String> {
    let mut table = String::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((_, parent)) = state_and_parent(&stat) {
            table.push_str(&format!("{} {parent}\n", entry.file_name().to_string_lossy()));
        }
    }
    (!table.is_empty()).then_some(table)
}

/// The third and fourth field of `/proc/PID/stat`. The second, a name in parentheses, may hold spaces.
fn state_and_parent(stat: &str) -> Option<(&str, &str)> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?, fields.next()?))
}

/// Whether the process lives; one that only waits to be reaped does not.
pub(super) async fn alive(pid: u32) -> bool {
    if Path::new("/proc/self/stat").exists() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        return state_and_parent(&stat).is_some_and(|(state, _)| state != "Z" && state != "X");
    }
    let script = format!("kill -s 0 {pid} 2>/dev/null");
    Command::new("/bin/sh").arg("-c").arg(script).status().await.is_ok_and(|status| status.success())
}

/// Whether `pid` is a Postgres server whose data is in `data`: a number in a stale file may be anybody's by now.
pub(super) async fn serves(pid: u32, data: &Path) -> bool {
    if let Ok(folder) = fs::read_link(format!("/proc/{pid}/cwd")) {
        return folder == data || fs::canonicalize(data).is_ok_and(|real| real == folder);
    }
    let listing = Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output().await;
    listing.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&*data.to_string_lossy()))
}

/// Looks at a condition until it holds; `false` when the deadline passes first.
///
/// Cancel-safe: nothing is lost but the waiting.
pub(super) async fn until(limit: Duration, mut holds: impl AsyncFnMut() -> bool) -> bool {
    let begun = clock::now();
    loop {
        if holds().await {
            return true;
        }
        if clock::now().since(begun) > limit {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_root_run_as_postgres_or_nobody() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533:nobody:/:/usr/sbin/nologin\n";
        let nobody = Account { name: "nobody".to_owned(), uid: 65534, gid: 65533 };
        assert_eq!(Account::find(passwd), Some(nobody));
        let both = format!("{passwd}postgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash\n");
        assert_eq!(Account::find(&both).map(|account| (account.uid, account.gid)), Some((101, 104)));
        assert_eq!(Account::find("postgres:x:0:0::/:/bin/sh"), None);
    }

    #[test]
    fn a_process_name_may_hold_anything() {
        assert_eq!(state_and_parent("12 (a) b (c)) S 7 12 12 0"), Some(("S", "7")));
    }
}
