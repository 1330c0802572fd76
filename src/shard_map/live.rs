//! A map's file → the map that routing goes by, while the file changes.
//!
//! A new text is parsed, validated, compared with what is in force and shown to the server (which binds, connects,
//! compares what the shards recorded); only then does one atomic store put it in force. Whatever fails before that
//! leaves everything as it was, and is remembered for `SHOW MAP`.

use std::fs::File;
use std::io::ErrorKind;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Environment;
use super::Mistake;
use super::ShardMap;
use super::Warning;
use super::diff::Change;
use super::diff::diff;
use super::mistake;

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// How long a directory must be quiet before its files are read: editors write, rename and touch.
const QUIET: Duration = Duration::from_millis(100);

/// How many bursts in a row may postpone that.
const BURSTS_MAX: usize = 20;

/// The map in force. Cheap to clone; every clone sees the same.
#[derive(Clone, Debug)]
pub struct MapHandle(Arc<ArcSwap<ShardMap>>);

impl MapHandle {
    /// Of a map that nobody replaces: for tests, and for commands that work offline.
    #[must_use]
    pub fn fixed(map: ShardMap) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(map)))
    }

    /// The map in force now. Keep it for a whole statement, or a whole transaction.
    #[must_use]
    pub fn current(&self) -> Arc<ShardMap> {
        self.0.load_full()
    }
}

/// What came of a reload.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The new map is in force.
    Swapped {
        /// Its number.
        version: u64,
        /// What it changed.
        change: Box<Change>,
        /// What to look at in it.
        warnings: Vec<Warning>,
    },
    /// The file says what is in force.
    Unchanged,
    /// Nothing changed.
    Rejected {
        /// Why not, as `check` prints it.
        text: String,
    },
}

/// A map's text that is no file's: which edition it is, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edition {
    /// Its number; later ones have higher numbers.
    pub version: u64,
    /// What it says.
    pub text: Arc<str>,
}

/// Changes a map as this process was asked to when it was started: where it listens.
pub type Adjust = Box<dyn Fn(&mut ShardMap) + Send + Sync>;

/// The map of one file, or of a place that gives editions of it.
pub struct Live {
    path: PathBuf,
    /// What was given last, where it is no file.
    given: Option<Mutex<Edition>>,
    adjust: Adjust,
    handle: MapHandle,
    environment: Box<dyn Environment + Send + Sync>,
    /// Why the last text was rejected; `None` when it was not.
    rejected: Mutex<Option<Arc<str>>>,
    /// One reload at a time; others wait their turn.
    turn: Semaphore,
}

impl Live {
    /// Reads the map at `path` for the first time.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn load(
        path: &Path,
        environment: Box<dyn Environment + Send + Sync>,
        adjust: Adjust,
    ) -> Result<(Self, Vec<Warning>), Vec<Mistake>> {
        let name = path.display().to_string();
        let text = environment.file(path).map_err(|reason| vec![Mistake::unreadable(&name, reason)])?;
        Self::begin(path, None, &text, environment, adjust)
    }

    /// Takes the first edition of a map that is no file's; `place` is what it is called.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn given(
        place: &Path,
        edition: Edition,
        environment: Box<dyn Environment + Send + Sync>,
        adjust: Adjust,
    ) -> Result<(Self, Vec<Warning>), Vec<Mistake>> {
        let text = Arc::clone(&edition.text);
        Self::begin(place, Some(edition), &text, environment, adjust)
    }

    fn begin(
        path: &Path,
        given: Option<Edition>,
        text: &str,
        environment: Box<dyn Environment + Send + Sync>,
        adjust: Adjust,
    ) -> Result<(Self, Vec<Warning>), Vec<Mistake>> {
        let (mut map, warnings) = ShardMap::parse(&path.display().to_string(), text, environment.as_ref())?;
        adjust(&mut map);
        if let Some(given) = &given {
            map.version = given.version;
        }
        let live = Self {
            path: path.to_owned(),
            given: given.map(Mutex::new),
            adjust,
            handle: MapHandle::fixed(map),
            environment,
            rejected: Mutex::new(None),
            turn: Semaphore::new(1),
        };
        Ok((live, warnings))
    }

    /// Takes in another edition, for the next reload; an earlier one than was given already is left.
    pub fn offer(&self, edition: Edition) {
        if let Some(given) = &self.given {
            let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
            if edition.version > given.version {
                *given = edition;
            }
        }
    }

    /// What to read the map in force from.
    #[must_use]
    pub fn handle(&self) -> MapHandle {
        self.handle.clone()
    }

    /// The map in force now.
    #[must_use]
    pub fn current(&self) -> Arc<ShardMap> {
        self.handle.current()
    }

    /// The file, or what the place is called.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the file's text is not in force, if it is not: as `check` prints it.
    #[must_use]
    pub fn rejected(&self) -> Option<Arc<str>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a map in force at start, once what the shards recorded has been taken in; its version stays.
    pub fn install(&self, map: ShardMap) {
        self.handle.0.store(Arc::new(map));
    }

    /// Reads the file again and, if `prepare` agrees, puts it in force. `prepare` gets the map in force, the new one
    /// and what changes, and gives back what to put in force, or why nothing may be.
    ///
    /// Cancel-safe: nothing is changed before the last step, which does not wait.
    pub async fn reload<F>(&self, prepare: F) -> Outcome
    where
        F: AsyncFnOnce(&ShardMap, ShardMap, &Change) -> Result<ShardMap, String>,
    {
        let turn = self.turn.acquire().await;
        let outcome = self.try_reload(prepare).await.unwrap_or_else(|text| Outcome::Rejected { text });
        let rejected = match &outcome {
            Outcome::Rejected { text } => Some(text.as_str().into()),
            Outcome::Swapped { .. } | Outcome::Unchanged => None,
        };
        *self.rejected.lock().unwrap_or_else(PoisonError::into_inner) = rejected;
        drop(turn);
        outcome
    }

    async fn try_reload<F>(&self, prepare: F) -> Result<Outcome, String>
    where
        F: AsyncFnOnce(&ShardMap, ShardMap, &Change) -> Result<ShardMap, String>,
    {
        let old = self.current();
        let given = self.given.as_ref().map(|it| it.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let version = given.as_ref().map(|it| it.version);
        let (mut new, warnings) = self.read(given).map_err(|found| mistake::render(&found))?;
        (self.adjust)(&mut new);
        let refused = |refusals: Vec<super::diff::Refusal>| {
            refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let mut new = new.carrying_over(&old).map_err(refused)?;
        new.version = old.version;
        // An edition that says the same is in force under its own number.
        if new == *old && version.is_none_or(|it| it == old.version) {
            return Ok(Outcome::Unchanged);
        }
        let change = diff(&old, &new).map_err(refused)?;
        let version = version.unwrap_or(old.version + 1);
        new.version = version;
        let mut new = prepare(&old, new, &change).await?;
        new.version = version;
        self.handle.0.store(Arc::new(new));
        Ok(Outcome::Swapped { version, change: Box::new(change), warnings })
    }

    fn read(&self, given: Option<Edition>) -> Result<(ShardMap, Vec<Warning>), Vec<Mistake>> {
        let (name, environment) = (self.path.display().to_string(), self.environment.as_ref());
        let text = match given {
            Some(edition) => edition.text,
            None => environment.file(&self.path).map_err(|reason| vec![Mistake::unreadable(&name, reason)])?.into(),
        };
        ShardMap::parse(&name, &text, environment)
    }
}

/// The variables and files of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text));
        match read {
            Ok(length) if length as u64 > FILE_MAX => Err(format!("it is larger than {FILE_MAX} bytes")),
            Ok(_) => Ok(text),
            Err(error) => Err(match error.kind() {
                ErrorKind::NotFound => "no such file".to_owned(),
                ErrorKind::PermissionDenied => "permission denied".to_owned(),
                ErrorKind::IsADirectory => "it is a directory".to_owned(),
                ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
                _ => error.to_string(),
            }),
        }
    }
}

/// Sees that a file may have changed, also when it was replaced.
pub struct Watch {
    /// Watching ends when it is dropped.
    _watcher: RecommendedWatcher,
    events: mpsc::Receiver<()>,
}

impl Watch {
    /// Begins to watch. Editors and config managers replace files, so it is the directory that is watched, and where
    /// the file is a link, also the one it leads to.
    ///
    /// # Errors
    /// When the system cannot watch it.
    pub fn new(path: &Path) -> Result<Self, notify::Error> {
        let (sender, events) = mpsc::channel(1);
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let names: Vec<_> = [path, &target].into_iter().filter_map(Path::file_name).map(ToOwned::to_owned).collect();
        let concerns = move |changed: &PathBuf| {
            changed.file_name().is_none_or(|name| {
                // Kubernetes swaps ..data, to which the file links.
                names.iter().any(|wanted| wanted == name) || name.to_string_lossy().starts_with("..")
            })
        };
        let mut watcher = notify::recommended_watcher(move |event: Result<notify::Event, notify::Error>| {
            let concerns_us = match &event {
                Ok(event) => !event.kind.is_access() && (event.paths.is_empty() || event.paths.iter().any(&concerns)),
                // Events may have been lost: look.
                Err(_) => true,
            };
            if concerns_us {
                // A full channel says that already.
                let _ = sender.try_send(());
            }
        })?;
        let folder = |path: &Path| match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        watcher.watch(&folder(path), RecursiveMode::NonRecursive)?;
        let (near, far) = (folder(path), folder(&target));
        if near.canonicalize().ok().as_ref() != Some(&far) {
            watcher.watch(&far, RecursiveMode::NonRecursive)?;
        }
        Ok(Self { _watcher: watcher, events })
    }

    /// Waits until the file may have changed and the directory is quiet again; `false` when watching has ended.
    ///
    /// Cancel-safe: a change that was seen while waiting for quiet may be forgotten, nothing more.
    pub async fn changed(&mut self) -> bool {
        if self.events.recv().await.is_none() {
            return false;
        }
        for _ in 0..BURSTS_MAX {
            match timeout(QUIET, self.events.recv()).await {
                Ok(Some(())) => {}
                Ok(None) => return false,
                Err(_) => break,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MAP: &str = "version: 1
listen: {postgres: 127.0.0.1:6432}
databases:
  shop:
    shards: {s1: [a:5432], s2: [b:5432]}
    groups: {customer: {key: bigint, tables: {customers: id}}}
users: {demo: {auth: trust}}
";

    /// A directory of its own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("shardway-live-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn map(&self) -> PathBuf {
            self.0.join("map.yaml")
        }

        fn write(&self, text: &str) {
            fs::write(self.map(), text).unwrap();
        }

        fn live(&self) -> Live {
            self.write(MAP);
            Live::load(&self.map(), Box::new(ProcessEnvironment), Box::new(|_| ()))
                .unwrap_or_else(|_| panic!("the map is right"))
                .0
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    async fn reload(live: &Live) -> Outcome {
        live.reload(async |_, new, _| Ok(new)).await
    }

    #[tokio::test]
    async fn a_right_map_is_put_in_force() {
        let folder = Folder::new("right");
        let live = folder.live();
        let handle = live.handle();
        assert_eq!(reload(&live).await, Outcome::Unchanged);
        folder.write(&MAP.replace("[a:5432]", "[a:5432, c:5432]"));
        let Outcome::Swapped { version, change, .. } = reload(&live).await else { panic!("it is right") };
        assert_eq!((version, handle.current().version), (2, 2));
        assert_eq!(change.lines, ["node c:5432 of shop.s1 is added"]);
        assert_eq!(handle.current().databases["shop"].nodes().count(), 3);
    }

    #[tokio::test]
    async fn a_wrong_map_changes_nothing_and_is_remembered() {
        let folder = Folder::new("wrong");
        let live = folder.live();
        let before = live.current();
        folder.write(&MAP.replace("groups", "gruops"));
        let Outcome::Rejected { text } = reload(&live).await else { panic!("it is wrong") };
        assert!(text.contains("map-unknown-key") && text.contains("Did you mean `groups`?"), "{text}");
        assert_eq!(live.rejected().as_deref(), Some(text.as_str()));
        assert!(Arc::ptr_eq(&before, &live.current()));

        fs::remove_file(folder.map()).unwrap();
        let Outcome::Rejected { text } = reload(&live).await else { panic!("it is gone") };
        assert!(text.contains("map-unreadable") && text.contains("no such file"), "{text}");

        folder.write(MAP);
        assert_eq!(reload(&live).await, Outcome::Unchanged);
        assert_eq!(live.rejected(), None);
    }

    #[tokio::test]
    async fn editions_keep_their_numbers() {
        let edition = |version, text: &str| Edition { version, text: text.into() };
        let adjust = |map: &mut ShardMap| map.limits.clients = 7;
        let place = Path::new("etcd://nobody/shop");
        let live = Live::given(place, edition(4, MAP), Box::new(ProcessEnvironment), Box::new(adjust));
        let live = live.unwrap_or_else(|_| panic!("the map is right")).0;
        assert_eq!((live.current().version, live.current().limits.clients), (4, 7));
        assert_eq!(reload(&live).await, Outcome::Unchanged);
        live.offer(edition(6, MAP));
        assert!(matches!(reload(&live).await, Outcome::Swapped { version: 6, .. }));
        // One that comes late changes nothing.
        live.offer(edition(5, &MAP.replace("b:5432", "b:5432, c:5432")));
        assert_eq!(reload(&live).await, Outcome::Unchanged);
        live.offer(edition(9, &MAP.replace("groups", "gruops")));
        assert!(matches!(reload(&live).await, Outcome::Rejected { .. }));
        assert_eq!((live.current().version, live.current().limits.clients), (6, 7));
    }

    #[tokio::test]
    async fn what_moves_rows_is_rejected() {
        let folder = Folder::new("moves");
        let live = folder.live();
        folder.write(&MAP.replace("key: bigint", "key: bigint, placement: {s1: 0-99, s2: 100-16383}"));
        let Outcome::Rejected { text } = reload(&live).await else { panic!("it moves rows") };
        assert!(text.contains("group `customer` of database `shop` has its rows elsewhere"), "{text}");
        assert_eq!(live.current().version, 1);
    }

    #[tokio::test]
    async fn the_server_has_the_last_word() {
        let folder = Folder::new("server");
        let live = folder.live();
        folder.write(&MAP.replace("6432", "6433"));
        let outcome = live.reload(async |_, _, _| Err("127.0.0.1:6433 is taken".to_owned())).await;
        assert_eq!(outcome, Outcome::Rejected { text: "127.0.0.1:6433 is taken".to_owned() });
        assert_eq!(live.current().listen.postgres.unwrap().port(), 6432);
        let outcome = live
            .reload(async |old, mut new, change| {
                assert!(change.listen_changed && old.listen.postgres.unwrap().port() == 6432);
                new.limits.clients = 7;
                Ok(new)
            })
            .await;
        assert!(matches!(outcome, Outcome::Swapped { version: 2, .. }));
        assert_eq!((live.current().limits.clients, live.current().version), (7, 2));
    }

    #[tokio::test]
    async fn a_replaced_file_is_noticed() {
        let folder = Folder::new("watch");
        folder.write(MAP);
        let mut watch = Watch::new(&folder.map()).unwrap();
        let beside = folder.0.join("map.yaml.new");
        fs::write(&beside, MAP).unwrap();
        fs::rename(&beside, folder.map()).unwrap();
        assert_eq!(timeout(Duration::from_secs(20), watch.changed()).await, Ok(true));
        folder.write(MAP);
        assert_eq!(timeout(Duration::from_secs(20), watch.changed()).await, Ok(true));
    }
}
