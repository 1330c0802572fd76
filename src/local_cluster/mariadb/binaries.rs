//! Finds the MariaDB programs of this machine, and says what to install when there are none.

use std::env;
use std::path::Path;
use std::path::PathBuf;

use super::super::ClusterError;

/// The environment variable that names the folder of the programs, before any search: an unpacked release, or one folder that
/// holds them all.
pub const MARIADB_BIN_VARIABLE: &str = "SHARDWAY_MARIADB_BIN";

/// Folders where packages put the programs; the server is seldom on the PATH.
const USUAL_FOLDERS: [&str; 8] = [
    "/usr/sbin",
    "/usr/bin",
    "/usr/libexec",
    "/usr/local/mariadb/bin",
    "/usr/local/mysql/bin",
    "/opt/homebrew/opt/mariadb/bin",
    "/usr/local/opt/mariadb/bin",
    "/usr/local/bin",
];

/// Where the programs are, each in its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// The server.
    pub server: PathBuf,
    /// What makes a data folder.
    pub install: PathBuf,
    /// The client of the command line.
    pub client: PathBuf,
}

impl Programs {
    /// Finds them: where `SHARDWAY_MARIADB_BIN` says, or else on the PATH and in the folders that packages use.
    ///
    /// # Errors
    /// [`ClusterError::NoMariadb`], whose text says what to install.
    pub fn find() -> Result<Self, ClusterError> {
        let folders = match env::var_os(MARIADB_BIN_VARIABLE) {
            // Of an unpacked release: one of the programs is a script beside the others' folder.
            Some(folder) => {
                let folder = PathBuf::from(folder);
                vec![folder.clone(), folder.join("bin"), folder.join("scripts"), folder.join("../scripts")]
            }
            None => {
                let path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>());
                path.unwrap_or_default().into_iter().chain(USUAL_FOLDERS.into_iter().map(PathBuf::from)).collect()
            }
        };
        Self::among(&folders, Path::is_file)
    }

    fn among(folders: &[PathBuf], is_there: impl Fn(&Path) -> bool) -> Result<Self, ClusterError> {
        let find = |program: &'static str| {
            let mut paths = folders.iter().map(|folder| folder.join(program));
            paths.find(|path| is_there(path)).ok_or(ClusterError::NoMariadb { program })
        };
        Ok(Self { server: find("mariadbd")?, install: find("mariadb-install-db")?, client: find("mariadb")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_is_in_the_first_folder_that_has_it() {
        let folders = ["/a".into(), "/b".into()];
        let there = ["/b/mariadbd", "/a/mariadb", "/b/mariadb", "/b/mariadb-install-db"];
        let found = Programs::among(&folders, |path| there.iter().any(|it| Path::new(it) == path));
        let found = found.expect("all are there");
        assert_eq!((found.server, found.client), ("/b/mariadbd".into(), "/a/mariadb".into()));
        let error = Programs::among(&folders, |_| false).expect_err("none is there").to_string();
        assert!(error.contains("mariadbd") && error.contains("apt-get install"), "{error}");
        assert!(error.contains(MARIADB_BIN_VARIABLE), "{error}");
    }
}
