//! Directories: tables of the database that say on which shard the rows of a key are.
//!
//! What they say is kept for reads, for as long as the map allows, and shared by the sessions of the process. A write
//! asks anew, for a row that is written where nobody looks for it is lost; what is *not* in a directory is never kept. A
//! transaction that has written a directory asks on its own connection, for nobody else sees what it wrote. All others
//! are answered by the primary, as the control user.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::clock;
use crate::clock::Tick;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec;
use crate::exec::Aside;
use crate::exec::ask;
use crate::exec::flight;
use crate::exec::flight::Show;
use crate::ident::ShardId;
use crate::plan::Known;
use crate::plan::LookUp;
use crate::plan::Plan;
use crate::plan::World;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::command::cells;
use crate::session::extended::Reached;
use crate::session::simple::messages;
use crate::shard_map::Database;
use crate::shard_map::Directory;
use crate::shard_map::Key;

/// How long an answer is waited for, whatever the limit of statements.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// Keys that are asked for in one question.
const AT_ONCE: usize = 1000;
/// Keys of one statement.
const KEYS_MAX: usize = 100_000;
/// Keys of a directory that a COPY may be split by.
const WHOLE_MAX: usize = 250_000;
/// Answers that are kept for one database.
const KEPT_MAX: usize = 100_000;
/// How often a statement may come to want more keys.
const ROUNDS: usize = 4;
/// How often a server that breaks off is asked.
const ATTEMPTS: usize = 3;
/// Whatever the role or the server say by default: nobody waits for ever, and no row is hidden.
const BEFORE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL statement_timeout = '10s'; \
     SET LOCAL lock_timeout = '10s'; SET LOCAL row_security = off";

/// Rows of an answer: a key and a shard's name.
type Rows = Vec<Vec<Option<String>>>;

/// What directories have said, of all sessions.
#[derive(Debug, Default)]
pub struct Directories {
    kept: Mutex<HashMap<Arc<str>, Kept>>,
}

/// That of one database.
#[derive(Debug)]
struct Kept {
    /// Shards and groups are numbered as this map has them.
    database: Arc<Database>,
    answers: HashMap<(usize, Key), (ShardId, Tick), RandomState>,
    /// How often it has been forgotten: what was asked for before is not taken in.
    forgotten: u64,
}

impl Directories {
    fn of<T>(&self, database: &Arc<Database>, with: impl FnOnce(&mut Kept) -> T) -> T {
        let mut all: MutexGuard<'_, _> = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = all.entry(Arc::clone(&database.name)).or_insert_with(|| Kept::new(database));
        if !Arc::ptr_eq(&kept.database, database) {
            *kept = Kept { forgotten: kept.forgotten + 1, ..Kept::new(database) };
        }
        with(kept)
    }

    /// Forgets what is known of a database's directories: one has been written.
    pub(super) fn forget(&self, database: &Arc<Database>) {
        self.of(database, |kept| {
            kept.answers.clear();
            kept.forgotten += 1;
        });
    }
}

impl Kept {
    fn new(database: &Arc<Database>) -> Self {
        Self { database: Arc::clone(database), answers: HashMap::default(), forgotten: 0 }
    }

    /// What was said of a key, unless that is too long ago.
    fn find(&self, group: usize, key: &Key, cache: Duration, now: Tick) -> Option<ShardId> {
        let (shard, asked) = self.answers.get(&(group, key.clone()))?;
        (now.since(*asked) < cache).then_some(*shard)
    }

    fn keep(&mut self, group: usize, key: Key, shard: ShardId, asked: Tick) {
        if self.answers.len() >= KEPT_MAX && !self.answers.contains_key(&(group, key.clone())) {
            // Whatever is asked for often is soon here again.
            self.answers.clear();
        }
        self.answers.insert((group, key), (shard, asked));
    }
}

impl Session {
    /// The plan of a statement, once directories have said where its keys are. Cancel-safe outside of a transaction that
    /// has written a directory.
    pub(super) async fn plan_by_directory(
        &mut self,
        wanted: LookUp,
        fresh: bool,
        world: &Rc<World>,
        plan: &dyn Fn(&Known) -> Result<Plan, ClientError>,
    ) -> Result<Plan, Trouble> {
        let mut known = Known::default();
        let mut wanted = wanted;
        for _ in 0..ROUNDS {
            self.look_up(&wanted, fresh, world, &mut known).await?;
            match plan(&known)? {
                Plan::LookUp(more) => wanted = *more,
                plan => return Ok(plan),
            }
        }
        Err(ClientError::new(Code::Internal, "a statement asks for more and more keys", "Report this.").into())
    }

    async fn look_up(
        &mut self,
        wanted: &LookUp,
        fresh: bool,
        world: &Rc<World>,
        known: &mut Known,
    ) -> Result<(), Trouble> {
        if wanted.keys.len() > KEYS_MAX {
            return Err(ClientError::new(
                Code::TooLarge,
                format_args!("the statement names {} keys that a directory has to be asked for", wanted.keys.len()),
                format!("Name at most {KEYS_MAX} in one statement, or use COPY."),
            )
            .into());
        }
        let mut groups: BTreeMap<usize, Vec<Key>> = BTreeMap::new();
        for (group, key) in &wanted.keys {
            groups.entry(*group).or_default().push(key.clone());
        }
        let database = &world.database;
        for (at, mut keys) in groups {
            let Some(group) = database.groups.get(at) else { continue };
            let Some(directory) = group.function.as_directory() else { continue };
            let own = self.own_view(directory, world);
            let asked = clock::now();
            let directories = Arc::clone(&self.worker.directories);
            let (mut found, before) = directories.of(database, |kept| {
                let mut found = Vec::new();
                if !fresh && own.is_none() {
                    keys.retain(|key| match kept.find(at, key, directory.cache, asked) {
                        Some(shard) => {
                            found.push((key.clone(), shard));
                            false
                        }
                        None => true,
                    });
                }
                (found, kept.forgotten)
            });
            for (key, shard) in found.drain(..) {
                known.tell(at, key, Some(shard));
            }
            for some in keys.chunks(AT_ONCE) {
                // One more than there can be: a key that is there twice is noticed.
                let question = directory.question(group.key_type, some, some.len() * 2);
                let rows = self.ask_directory(own, directory, &question).await?;
                let told = read(&rows, at, directory, world)?;
                if own.is_none() && !directory.cache.is_zero() {
                    directories.of(database, |kept| {
                        if kept.forgotten == before {
                            for (key, shard) in &told {
                                kept.keep(at, key.clone(), *shard, asked);
                            }
                        }
                    });
                }
                for key in some {
                    known.tell(at, key.clone(), told.get(key).copied());
                }
            }
        }
        Ok(())
    }

    /// All that the directory of a group holds, if its keys are in one.
    pub(super) async fn whole_directory(&mut self, at: usize, world: &Rc<World>) -> Result<Known, Trouble> {
        let mut known = Known::default();
        let Some(group) = world.database.groups.get(at) else { return Ok(known) };
        let Some(directory) = group.function.as_directory() else { return Ok(known) };
        let own = self.own_view(directory, world);
        let question = directory.question(group.key_type, &[], WHOLE_MAX + 1);
        let rows = self.ask_directory(own, directory, &question).await?;
        if rows.len() > WHOLE_MAX {
            return Err(ClientError::new(
                Code::TooLarge,
                format_args!("the directory \"{}\" holds more than {WHOLE_MAX} keys", directory.table),
                "COPY into a table that is placed by so large a directory is not supported: use INSERT.",
            )
            .into());
        }
        for (key, shard) in read(&rows, at, directory, world)? {
            known.tell(at, key, Some(shard));
        }
        known.tell_all(at);
        Ok(known)
    }

    /// The link on which alone is to be seen what the directory says within the open transaction (or pipeline).
    fn own_view(&mut self, directory: &Directory, world: &World) -> Option<u32> {
        if !self.directory_changed {
            return None;
        }
        let own = self.links.iter().find(|link| link.shard == directory.shard && (link.begun || link.unsynced));
        let own = own.map(|link| link.id);
        if own.is_none() && !self.transaction.is_open() && !self.within_batch() {
            self.directory_has_changed(&world.database.clone());
        }
        own
    }

    /// What wrote a directory is over.
    pub(super) fn directory_has_changed(&mut self, database: &Arc<Database>) {
        self.directory_changed = false;
        self.worker.directories.forget(database);
    }

    async fn ask_directory(
        &mut self,
        own: Option<u32>,
        directory: &Directory,
        question: &str,
    ) -> Result<Rows, Trouble> {
        if let Some(id) = own {
            return Box::pin(self.ask_within(id, question)).await;
        }
        let limit = exec::limit(self.map.timeouts.statement).map_or(LOOK_MAX, |it| it.min(LOOK_MAX));
        match Box::pin(tokio::time::timeout(limit, self.ask_beside(directory, question))).await {
            Ok(done) => done,
            Err(_) => Err(ClientError::new(
                Code::TimedOut,
                format_args!("the directory \"{}\" did not answer within {limit:?}", directory.table),
                "Look at the shard that the map names for it (SHOW NODES in the console), and for locks on the table.",
            )
            .into()),
        }
    }

    /// Asks the primary, as the control user.
    async fn ask_beside(&self, directory: &Directory, question: &str) -> Result<Rows, Trouble> {
        let text = format!("{BEFORE}; {question}; COMMIT");
        // A connection that rested may have broken since.
        for _ in 0..ATTEMPTS {
            let mut link = self.access.aside(directory.shard, Aside::Directory).await?;
            let Ok(()) = ask::tell(&mut link, &[&text]).await else { continue };
            let Ok(mut answers) = ask::hear(&mut link, 1).await else { continue };
            let mut answer = answers.pop().unwrap_or_default();
            match answer.error.take() {
                // It stops, or is not up yet.
                Some(error) if flight::fields(&error).any(|(kind, it)| kind == b'C' && it.starts_with(b"57P")) => {}
                // Dropped, the link closes its connection.
                Some(error) => {
                    let said = flight::fields(&error).find(|(kind, _)| *kind == b'M').map(|(_, it)| it);
                    let said = String::from_utf8_lossy(said.unwrap_or_default()).into_owned();
                    return Err(ClientError::new(
                        Code::ShardUnavailable,
                        format_args!("the directory \"{}\" cannot be asked: {said}", directory.table),
                        "The map says where it is; the control user needs the right to SELECT from it.",
                    )
                    .into());
                }
                None if answer.is("COMMIT") => {
                    self.access.release_aside(link, Aside::Directory);
                    return Ok(answer.rows);
                }
                None => {}
            }
        }
        Err(ClientError::new(
            Code::ShardUnavailable,
            format_args!("the server that holds the directory \"{}\" broke off", directory.table),
            "Try again.",
        )
        .into())
    }

    /// Asks on a link of the open transaction or pipeline.
    async fn ask_within(&mut self, id: u32, question: &str) -> Result<Rows, Trouble> {
        let within = self.within_batch();
        if within && Box::pin(self.fly_batch()).await? == Reached::Failed {
            return Err(Trouble::Failed);
        }
        let Some(at) = self.links.iter().position(|link| link.id == id) else {
            return Err(ClientError::new(Code::Internal, "a link is gone that was held", "Report this.").into());
        };
        self.keep(at);
        self.prefix(at);
        let shard = self.links.get(at).map_or(ShardId(0), |link| link.shard);
        self.say_step(id, question, Show::Caller);
        let told = self.fly_steps().await;
        let ended = if within { Ok(()) } else { self.end_steps(&[(shard, id)]).await };
        self.unkeep(id);
        let told = told?;
        ended?;
        Ok(messages(&told).filter(|it| it.first() == Some(&b'D')).map(cells).collect())
    }
}

/// What rows say; a key with two shards, or with what is no shard, is refused.
fn read(
    rows: &Rows,
    at: usize,
    directory: &Directory,
    world: &World,
) -> Result<HashMap<Key, ShardId, RandomState>, ClientError> {
    let database = &world.database;
    let key_type = database.groups.get(at).map(|it| it.key_type);
    let mut told: HashMap<Key, ShardId, RandomState> = HashMap::default();
    for row in rows {
        let (Some(key_type), [Some(key), target]) = (key_type, row.as_slice()) else { continue };
        let Some(key) = Directory::key(key_type, key) else {
            return Err(ClientError::new(
                Code::TableUnfit,
                format_args!("the directory \"{}\" has keys of another type than the map says", directory.table),
                "Make its key column of the group's type.",
            ));
        };
        let named = target.as_deref().unwrap_or("NULL");
        let shard = (0_u16..).map(ShardId).zip(&database.shards).find(|(_, it)| &*it.name == named);
        let Some((shard, _)) = shard else {
            return Err(ClientError::new(
                Code::TableUnfit,
                format_args!(
                    "the directory \"{}\" sends a key to \"{named}\", which is no shard of the map",
                    directory.table
                ),
                "Write the name of a shard there, as the map has it.",
            ));
        };
        if told.insert(key, shard).is_some_and(|before| before != shard) {
            return Err(ClientError::new(
                Code::TableUnfit,
                format_args!("the directory \"{}\" sends one key to two shards", directory.table),
                "Leave one row for each key, and make the column unique.",
            ));
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard_map::NoEnvironment;
    use crate::shard_map::ShardMap;

    fn database() -> Arc<Database> {
        let map = "version: 1\nlisten: {postgres: 127.0.0.1:6432}\ndatabases:\n  shop: {shards: {s1: [127.0.0.1:6501]}}\n\
                   users: {app: {auth: trust}}\n";
        let (map, _) = ShardMap::parse("map.yaml", map, &NoEnvironment).unwrap();
        Arc::clone(&map.databases["shop"])
    }

    #[test]
    fn an_answer_is_kept_for_its_time_only() {
        let (directories, database) = (Directories::default(), database());
        let cache = Duration::from_secs(5);
        let start = clock::now();
        let find = |after: u64| {
            directories.of(&database, |it| it.find(0, &Key::Int(7), cache, start.plus(Duration::from_secs(after))))
        };
        assert_eq!(find(0), None);
        directories.of(&database, |it| it.keep(0, Key::Int(7), ShardId(3), start));
        assert_eq!((find(0), find(4), find(5)), (Some(ShardId(3)), Some(ShardId(3)), None));
        directories.forget(&database);
        assert_eq!(find(0), None);
    }

    #[test]
    fn it_is_bounded_and_belongs_to_its_map() {
        let (directories, old) = (Directories::default(), database());
        let now = clock::now();
        let limit = i64::try_from(KEPT_MAX).unwrap();
        directories.of(&old, |it| (0..=limit).for_each(|key| it.keep(0, Key::Int(key), ShardId(0), now)));
        assert_eq!(directories.of(&old, |it| it.answers.len()), 1);
        let newer = database();
        assert_eq!(directories.of(&newer, |it| it.answers.len()), 0);
    }
}
