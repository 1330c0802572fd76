//! The folder a cluster lives in: claimed by a lock, removed at the end, swept by the next start when nobody could.
//!
//! The lock is the kernel's, so that it goes with the process that held it, however that ended. Every claimed folder
//! is also written into one well-known folder of this user, where the next start looks for what a kill -9 left.

use std::env;
use std::fs;
use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::ClusterError;
use super::process::POLL;
use super::process::alive;
use super::process::children;
use super::process::serves;
use super::process::signal;
use super::process::until;
use crate::clock;

/// The file that marks a folder as a cluster's, and is locked while the cluster runs.
const LOCK: &str = "cluster.lock";
/// The file that marks a folder with whole servers that are to be started again.
const KEPT: &str = "cluster.kept";
/// The file in which a server of MariaDB writes its number down, as its options say; Postgres' is `postmaster.pid`.
pub(super) const MARIADB_PID: &str = "mariadbd.pid";
/// The folder within a cluster's, for a second one of the same process: whoever removes the outer one ends both.
pub(super) const BESIDE: &str = "mariadb";
/// How long the processes of a killed cluster may take to end.
const SWEEP_MAX: Duration = Duration::from_secs(20);
/// How long files may still appear while a folder is removed: servers that were killed notice it within a moment.
const REMOVE_MAX: Duration = Duration::from_secs(5);

/// What becomes of a cluster's folder when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AtEnd {
    /// It is removed.
    #[default]
    Remove,
    /// It stays, and a start in the same folder continues with its rows.
    Keep,
}

/// What a claimed folder holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// The servers of an earlier run.
    Servers,
}

/// A folder that this process alone runs a cluster in. Dropping it removes the folder, unless that is to be kept.
#[derive(Debug)]
pub(super) struct Workspace {
    dir: PathBuf,
    registration: PathBuf,
    found: Found,
    _lock: File,
}

impl Workspace {
    /// Claims `dir`, or a new folder of its own, after removing what a killed cluster left.
    pub(super) async fn claim(dir: Option<&Path>) -> Result<Self, ClusterError> {
        let home = home()?;
        sweep(&home).await?;
        let number = home.join(process::id().to_string());
        let dir = match dir {
            Some(dir) => dir.to_path_buf(),
            None => make_new(&number)?,
        };
        let failed = |what: &'static str, source| ClusterError::Folder { what, path: dir.clone(), source };
        fs::create_dir_all(&dir).map_err(|error| failed("create", error))?;
        let dir = fs::canonicalize(&dir).map_err(|error| failed("resolve", error))?;
        let marked = dir.join(LOCK).exists();
        if !marked && fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(ClusterError::FolderNotOurs { path: dir });
        }
        let lock = lock(&dir)?.ok_or_else(|| ClusterError::FolderInUse { path: dir.clone() })?;
        end_servers(&dir).await?;
        let found = if dir.join(KEPT).exists() { Found::Servers } else { Found::Nothing };
        if found == Found::Nothing {
            empty(&dir).map_err(|error| failed("empty", error))?;
        }
        let registration = register(&home, &dir).map_err(|error| failed("register", error))?;
        Ok(Self { dir, registration, found, _lock: lock })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn found(&self) -> Found {
        self.found
    }

    /// Decides what becomes of the folder. To be called when its servers are whole: until then a new folder goes
    /// and a kept one stays, so that a start that fails neither leaves anything nor loses anything.
    pub(super) fn at_end(&self, at_end: AtEnd) -> Result<(), ClusterError> {
        let mark = self.dir.join(KEPT);
        let outcome = match at_end {
            AtEnd::Keep => File::create(&mark).map(drop),
            AtEnd::Remove if mark.exists() => fs::remove_file(&mark),
            AtEnd::Remove => Ok(()),
        };
        outcome.map_err(|source| ClusterError::Folder { what: "write into", path: self.dir.clone(), source })
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // Nobody has written down its segment where a server ended in order.
        let segments = Segment::of_killed(&self.dir);
        let kept = self.dir.join(KEPT).exists();
        let removed = if kept { Ok(()) } else { remove(&self.dir) };
        free(&segments);
        if let Err(error) = removed {
            tracing::warn!(folder = %self.dir.display(), %error, "the cluster's folder could not be removed");
            // It stays registered: the next start tries again.
            return;
        }
        if let Err(error) = fs::remove_file(&self.registration) {
            tracing::warn!(file = %self.registration.display(), %error, "the cluster is still registered");
        }
    }
}

/// Makes a folder that was not there: one process may start several clusters at once, as tests do.
fn make_new(number: &Path) -> Result<PathBuf, ClusterError> {
    let mut n = 0_u32;
    loop {
        let dir = number.with_extension(n.to_string());
        match fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => n += 1,
            Err(source) => return Err(ClusterError::Folder { what: "create", path: dir, source }),
        }
    }
}

/// The folder where this user's clusters are registered.
fn home() -> Result<PathBuf, ClusterError> {
    let uid = own_uid()?;
    let home = env::temp_dir().join(format!("shardway-demo-{uid}"));
    let failed = |source| ClusterError::Folder { what: "create", path: home.clone(), source };
    match fs::DirBuilder::new().mode(0o755).create(&home) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    // Whoever could write there could make this user stop processes and remove folders.
    let about = fs::symlink_metadata(&home).map_err(failed)?;
    if !about.is_dir() || about.uid() != uid || about.mode() & 0o022 != 0 {
        return Err(ClusterError::FolderNotOurs { path: home });
    }
    fs::canonicalize(&home).map_err(failed)
}

/// This process's user.
pub(super) fn own_uid() -> Result<u32, ClusterError> {
    if let Ok(about) = fs::metadata("/proc/self") {
        return Ok(about.uid());
    }
    let failed = |output: String| ClusterError::Command { program: "id".to_owned(), output };
    let output = Command::new("id").arg("-u").output().map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().parse().map_err(|_| failed(text))
}

/// Writes the place of `dir` down, whole or not at all.
fn register(home: &Path, dir: &Path) -> io::Result<PathBuf> {
    let name = dir.to_string_lossy().replace('/', "%");
    let registration = home.join(format!("{name}.folder"));
    let draft = home.join(format!("{name}.{}.draft", process::id()));
    let mut file = File::create(&draft)?;
    file.write_all(dir.to_string_lossy().as_bytes())?;
    fs::rename(&draft, &registration)?;
    Ok(registration)
}

/// Ends every registered cluster whose process is gone, and removes those that were not to be kept.
async fn sweep(home: &Path) -> Result<(), ClusterError> {
    let entries =
        fs::read_dir(home).map_err(|source| ClusterError::Folder { what: "read", path: home.into(), source })?;
    for entry in entries.flatten() {
        let registration = entry.path();
        if registration.extension().is_none_or(|extension| extension != "folder") {
            continue;
        }
        let Ok(text) = fs::read_to_string(&registration) else { continue };
        let dir = PathBuf::from(text);
        let left = dir.join(LOCK).exists();
        if left {
            let Some(_lock) = lock(&dir)? else { continue };
            tracing::info!(folder = %dir.display(), "ending what an earlier run left");
            end_servers(&dir).await?;
            if !dir.join(KEPT).exists() {
                remove(&dir).map_err(|source| ClusterError::Folder { what: "remove", path: dir.clone(), source })?;
            }
        }
        match fs::remove_file(&registration) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ClusterError::Folder { what: "remove", path: registration, source: error });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes a folder's lock; nothing when another process has it.
fn lock(dir: &Path) -> Result<Option<File>, ClusterError> {
    let failed = |source| ClusterError::Folder { what: "lock", path: dir.into(), source };
    let file = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Ends the servers whose data is in a folder of `dir`, and no other process.
async fn end_servers(dir: &Path) -> Result<(), ClusterError> {
    let mut ending = Vec::new();
    let nested = dir.join(BESIDE);
    let entries = [dir, &nested].into_iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten();
    for entry in entries.flatten() {
        let read = |name: &str| fs::read_to_string(entry.path().join(name));
        let Ok(text) = read("postmaster.pid").or_else(|_| read(MARIADB_PID)) else { continue };
        let Some(pid) = text.lines().next().and_then(|line| line.trim().parse().ok()) else { continue };
        if serves(pid, &entry.path()).await {
            let mut pids = children(pid).await;
            pids.push(pid);
            ending.extend(pids);
        }
    }
    let failed = |source| ClusterError::Folder { what: "end the servers in", path: dir.into(), source };
    signal("KILL", &ending).await.map_err(failed)?;
    let gone = until(SWEEP_MAX, async || {
        for pid in &ending {
            if alive(*pid).await {
                return false;
            }
        }
        true
    });
    let segments = Segment::of_killed(dir);
    if !gone.await {
        return Err(failed(io::ErrorKind::TimedOut.into()));
    }
    free(&segments);
    Ok(())
}

/// A System V segment of shared memory, which each server has as a lock and leaves behind when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    key: i64,
    id: i64,
}

impl Segment {
    /// Those that the servers in a folder of `dir` wrote down and did not remove.
    fn of_killed(dir: &Path) -> Vec<Self> {
        let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path().join("postmaster.pid"));
        files.filter_map(|file| Self::written(&fs::read_to_string(file).ok()?)).collect()
    }

    /// The seventh line of `postmaster.pid`.
    fn written(text: &str) -> Option<Self> {
        let mut words = text.lines().nth(6)?.split_whitespace();
        Some(Self { key: words.next()?.parse().ok()?, id: words.next()?.parse().ok()? })
    }

    /// How many processes use it, by the text of `/proc/sysvipc/shm`; `None` when it is gone. The key shows that the
    /// number has not become somebody else's.
    fn users(self, table: &str) -> Option<u32> {
        table.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [key, id, _, _, _, _, users, ..] = words.as_slice() else { return None };
            let same = key.parse::<i32>().map(i64::from) == Ok(self.key) && id.parse() == Ok(self.id);
            same.then(|| users.parse().ok())?
        })
    }
}

/// Frees segments once nobody uses them; where the system has no list of them, they stay.
fn free(segments: &[Segment]) {
    let begun = clock::now();
    for segment in segments {
        let users = || segment.users(&fs::read_to_string("/proc/sysvipc/shm").ok()?);
        while users().is_some_and(|users| users > 0) && clock::now().since(begun) < REMOVE_MAX {
            thread::sleep(POLL);
        }
        if users() == Some(0) {
            // What is not freed costs 56 bytes.
            let _ = Command::new("ipcrm").args(["-m", &segment.id.to_string()]).status();
        }
    }
}

/// Removes everything in a folder but its lock, which this process holds.
fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        if entry.file_type()?.is_dir() { remove(&entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

/// Removes a folder, also while killed processes write their last into it.
fn remove(dir: &Path) -> io::Result<()> {
    let begun = clock::now();
    loop {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) if clock::now().since(begun) < REMOVE_MAX => thread::sleep(POLL),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_known_by_number_and_key() {
        let text = "77\nfolder\n1\n6501\nfolder/sockets\n127.0.0.1\n  10125444    786432\nready   \n";
        let segment = Segment::written(text).expect("a server wrote it");
        assert_eq!(segment, Segment { key: 10_125_444, id: 786_432 });
        assert_eq!(Segment::written("77\nfolder\n"), None);
        let table = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid\n";
        let row =
            |key: i64, users| format!("{table}{key:>10} 786432 600 56 77 78 {users} 105 114 105 114 1 0 1 4096 0\n");
        assert_eq!(segment.users(&row(10_125_444, 2)), Some(2));
        assert_eq!(segment.users(&row(10_125_444, 0)), Some(0));
        assert_eq!(segment.users(&row(7, 0)), None);
        assert_eq!(segment.users(table), None);
    }
}
