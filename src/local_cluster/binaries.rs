//! Finds the Postgres server programs of this machine, and says what to install when there are none.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use super::ClusterError;

/// The oldest major version that the cluster's settings are written for.
pub const MAJOR_MIN: u32 = 13;

/// The environment variable that names the folder of the programs, before any search.
pub const PG_BIN_VARIABLE: &str = "SHARDWAY_PG_BIN";

/// The programs a cluster needs; one folder has to hold them all.
const PROGRAMS: [&str; 3] = ["postgres", "initdb", "pg_basebackup"];

/// Folders where packages put the programs. A `*` stands for any one name.
const USUAL_FOLDERS: [&str; 9] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/usr/libexec/postgresql*",
    "/opt/homebrew/opt/postgresql*/bin",
    "/opt/homebrew/bin",
    "/usr/local/opt/postgresql*/bin",
    "/home/linuxbrew/.linuxbrew/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// A folder of Postgres server programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// Where `postgres`, `initdb` and `pg_basebackup` are.
    pub folder: PathBuf,
    /// The major version of `postgres` there.
    pub major: u32,
}

impl Binaries {
    /// Finds the newest programs on this machine: where `SHARDWAY_PG_BIN` says, or else on the PATH, where `pg_config`
    /// says, and in the folders that packages use.
    ///
    /// # Errors
    /// [`ClusterError::NoBinaries`], whose text says what to install.
    pub fn find() -> Result<Self, ClusterError> {
        let folders = match env::var_os(PG_BIN_VARIABLE) {
            Some(folder) => vec![PathBuf::from(folder)],
            None => candidates(),
        };
        choose(folders.into_iter().filter_map(|folder| version_in(&folder).map(|major| (major, folder))).collect())
    }

    /// The path of one program.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Takes the newest of what was found.
fn choose(found: Vec<(u32, PathBuf)>) -> Result<Binaries, ClusterError> {
    let by_version: BTreeMap<u32, PathBuf> = found.into_iter().rev().collect();
    match by_version.into_iter().next_back() {
        Some((major, folder)) if major >= MAJOR_MIN => Ok(Binaries { folder, major }),
        Some((major, folder)) => Err(ClusterError::NoBinaries { too_old: Some((major, folder)) }),
        None => Err(ClusterError::NoBinaries { too_old: None }),
    }
}

/// Every folder worth a look, in the order in which equal versions are preferred.
fn candidates() -> Vec<PathBuf> {
    let path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let told = Command::new("pg_config").arg("--bindir").output().ok().filter(|output| output.status.success());
    let told = told.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    told.into_iter().chain(path).chain(USUAL_FOLDERS.into_iter().flat_map(expand)).collect()
}

/// The folders that `pattern` stands for; at most one `*`.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let Some((parent, prefix)) = before.rsplit_once('/') else { return Vec::new() };
    let entries = fs::read_dir(if parent.is_empty() { "/" } else { parent });
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(after.trim_start_matches('/')))
        .collect()
}

/// The major version of the `postgres` in `folder`, if all the programs are there.
fn version_in(folder: &Path) -> Option<u32> {
    if !PROGRAMS.iter().all(|program| folder.join(program).is_file()) {
        return None;
    }
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// The major version in a line such as `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(line: &str) -> Option<u32> {
    let number = line.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_server_prints() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_version("postgres (PostgreSQL) 9.6.24\n"), Some(9));
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn the_newest_is_chosen_and_too_old_is_said() {
        let found = vec![(14, "/a".into()), (17, "/b".into()), (17, "/c".into())];
        assert_eq!(choose(found).expect("one fits"), Binaries { folder: "/b".into(), major: 17 });
        let error = choose(vec![(12, "/old".into())]).expect_err("12 is too old").to_string();
        assert!(error.contains("PostgreSQL 12 in /old is too old") && error.contains("apt-get install"), "{error}");
        let error = choose(Vec::new()).expect_err("nothing there").to_string();
        assert!(error.contains("apt-get install") && error.contains("SHARDWAY_PG_BIN"), "{error}");
    }
}
