//! Transactions: what BEGIN, savepoints and the like have said, and which servers have heard it.
//!
//! BEGIN costs nothing: a shard joins with its first statement. Without BEGIN, `autocommit = 0` does the same, and there
//! the servers themselves begin. The first shard that joins is the home and hears the client's own words; each later one
//! begins its part by XA, so that it can be prepared should several have written by the end (`two_phase`).

use std::sync::Arc;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec::mysql::Link;
use crate::exec::mysql::client::deadlock;
use crate::exec::mysql::relay::Broken;
use crate::ident::ShardId;
use crate::plan::mysql_command::Ending;
use crate::plan::mysql_command::Level;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::say;
use crate::topology::mysql::xid::Gid;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;

/// The transaction that is open, if one is.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// BEGIN as the client said it.
    begun_by: Option<String>,
    /// What BEGIN said of it.
    read_only: Option<bool>,
    /// What the session said of it when it began: what SET SESSION says later is for the next one.
    of_session: Option<bool>,
    /// It was rolled back by the proxy: nothing is done until the client ends it.
    undone: bool,
    /// What SET TRANSACTION said, for the next transaction alone.
    pub(super) once: Once,
    savepoints: Vec<Savepoint>,
    /// The shard that joined first.
    pub(super) home: Option<Home>,
    /// What servers know it by, once a second shard has joined.
    pub(super) gid: Option<Gid>,
}

/// What SET TRANSACTION says without SESSION: each time of one of the two, or of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Once {
    level: Option<Level>,
    read_only: Option<bool>,
}

impl Once {
    /// As servers are told.
    fn text(self) -> Option<String> {
        let access = self.read_only.map(|it| if it { "READ ONLY" } else { "READ WRITE" });
        let said: Vec<String> = self
            .level
            .map(|it| format!("ISOLATION LEVEL {}", it.words()))
            .into_iter()
            .chain(access.map(str::to_owned))
            .collect();
        (!said.is_empty()).then(|| format!("SET TRANSACTION {}", said.join(", ")))
    }
}

/// Where the decision will be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    pub(super) shard: ShardId,
    /// Its connection.
    pub(super) thread: u32,
}

#[derive(Debug)]
struct Savepoint {
    /// In lower case: they are the same in upper case.
    name: String,
    /// The name as it was written.
    written: String,
}

/// The most savepoints that a transaction may have: each shard that joins is told all of them.
const SAVEPOINTS_MAX: usize = 1000;

impl Transaction {
    /// Whether BEGIN was said.
    pub(super) fn is_open(&self) -> bool {
        self.begun_by.is_some()
    }

    /// It has been rolled back, and the client does not know.
    pub(super) fn is_undone(&mut self, undone: bool) {
        self.undone |= undone;
    }

    /// Whether SET TRANSACTION has said something of it.
    pub(super) fn has_modes(&self) -> bool {
        self.once != Once::default()
    }

    /// Has the next statement be part of a transaction, whether or not the client knows of one.
    pub(super) fn open(&mut self) {
        self.begun_by.get_or_insert_with(|| "START TRANSACTION".to_owned());
    }
}

impl Session {
    /// START TRANSACTION, BEGIN: ends what is open.
    pub(super) async fn begin(&mut self, text: &str, read_only: Option<bool>) -> Result<(), Trouble> {
        // What SET TRANSACTION said is for this one.
        let once = std::mem::take(&mut self.transaction.once);
        self.end(true).await?;
        self.transaction.once = once;
        self.transaction.begun_by = Some(text.to_owned());
        self.transaction.read_only = read_only;
        self.transaction.of_session = Some(self.state.is_read_only());
        Ok(())
    }

    /// COMMIT and ROLLBACK as the client says them: what AND CHAIN begins has the manner of what has ended, and RELEASE ends
    /// the session.
    pub(super) async fn end_said(&mut self, commit: bool, ending: Ending) -> Result<(), Trouble> {
        let Transaction { once, read_only, of_session, .. } = self.transaction;
        self.end(commit).await?;
        if ending.chain == Some(true) {
            let begin = match read_only {
                None => "START TRANSACTION",
                Some(true) => "START TRANSACTION READ ONLY",
                Some(false) => "START TRANSACTION READ WRITE",
            };
            self.transaction.once = once;
            self.transaction.begun_by = Some(begin.to_owned());
            (self.transaction.read_only, self.transaction.of_session) = (read_only, of_session);
        }
        self.ends |= ending.release == Some(true);
        Ok(())
    }

    /// SET TRANSACTION without SESSION.
    pub(super) fn next_transaction(&mut self, level: Option<Level>, read_only: Option<bool>) -> Result<(), Trouble> {
        if self.is_within() {
            return Err(say::within_transaction().into());
        }
        let once = &mut self.transaction.once;
        *once = Once { level: level.or(once.level), read_only: read_only.or(once.read_only) };
        Ok(())
    }

    /// Whether the transaction that is open, or the next one, may only read: by what BEGIN, SET TRANSACTION or the session says.
    pub(super) fn reads_only(&self) -> bool {
        let said = self.transaction.read_only.or(self.transaction.once.read_only).or(self.transaction.of_session);
        said.unwrap_or_else(|| self.state.is_read_only())
    }

    pub(super) async fn savepoint(&mut self, written: &str) -> Result<(), Trouble> {
        // Outside of transactions it comes and goes with the statement. Without autocommit there is no outside.
        if !self.is_within() && self.state.autocommit() {
            return Ok(());
        }
        if self.transaction.savepoints.len() >= SAVEPOINTS_MAX {
            return Err(ClientError::new(
                Code::TooLarge,
                format!("a transaction has {SAVEPOINTS_MAX} savepoints"),
                "Release those that are not needed any more.",
            )
            .into());
        }
        let name = plain(written);
        self.catch_up().await?;
        let place = self.transaction.savepoints.iter().position(|it| it.name == name);
        self.on_all(&format!("SAVEPOINT {written}")).await?;
        if let Some(place) = place {
            self.transaction.savepoints.remove(place);
        }
        self.transaction.savepoints.push(Savepoint { name, written: written.to_owned() });
        let count = self.transaction.savepoints.len();
        self.links.iter_mut().for_each(|it| it.savepoints = count);
        Ok(())
    }

    pub(super) async fn roll_back_to(&mut self, written: &str) -> Result<(), Trouble> {
        let place = self.place_of(written)?;
        self.catch_up().await?;
        self.on_all(&format!("ROLLBACK TO SAVEPOINT {written}")).await?;
        self.transaction.savepoints.truncate(place + 1);
        self.links.iter_mut().for_each(|it| it.savepoints = place + 1);
        Ok(())
    }

    pub(super) async fn release_savepoint(&mut self, written: &str) -> Result<(), Trouble> {
        let place = self.place_of(written)?;
        self.catch_up().await?;
        self.on_all(&format!("RELEASE SAVEPOINT {written}")).await?;
        self.transaction.savepoints.truncate(place);
        self.links.iter_mut().for_each(|it| it.savepoints = place);
        Ok(())
    }

    fn place_of(&self, written: &str) -> Result<usize, Failure> {
        let name = plain(written);
        let place = self.transaction.savepoints.iter().position(|it| it.name == name);
        place.ok_or_else(|| say::no_savepoint(written.trim_matches('`')))
    }

    /// Has all that take part hear the savepoints that they lack.
    async fn catch_up(&mut self) -> Result<(), Trouble> {
        let mut links = std::mem::take(&mut self.links);
        let mut outcome = Ok(());
        for link in links.iter_mut().filter(|it| it.begun || it.is_within()) {
            if outcome.is_ok() {
                outcome = self.tell_savepoints(link).await;
            }
        }
        match outcome {
            Ok(()) => {
                self.links = links;
                Ok(())
            }
            Err(broken) => {
                drop(links);
                let trouble = self.lost(broken, "", true, false);
                self.roll_back().await;
                Err(trouble)
            }
        }
    }

    async fn tell_savepoints(&self, link: &mut Link) -> Result<(), Broken> {
        for savepoint in self.transaction.savepoints.iter().skip(link.savepoints) {
            if let Err(failure) = link.run(&format!("SAVEPOINT {}", savepoint.written)).await? {
                return Err(Broken::Server(failure.to_string()));
            }
        }
        link.savepoints = self.transaction.savepoints.len();
        Ok(())
    }

    /// Says it to all that take part. What one refuses is the client's error; then the whole is rolled back, for the
    /// others have done it.
    async fn on_all(&mut self, text: &str) -> Result<(), Trouble> {
        for place in 0..self.links.len() {
            let Some(link) = self.links.get_mut(place) else { break };
            if !link.begun && !link.is_within() {
                continue;
            }
            match link.run(text).await {
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => {
                    self.roll_back().await;
                    self.transaction.is_undone(true);
                    return Err(failure.into());
                }
                Err(broken) => {
                    let shard = self.shard_name(place);
                    self.ends |= self.links.remove(place).pinned;
                    let trouble = self.lost(broken, &shard, true, false);
                    self.roll_back().await;
                    return Err(trouble);
                }
            }
        }
        Ok(())
    }

    /// What a server is told of the transaction before it begins its part.
    fn said_before(&self) -> Once {
        let Transaction { once, read_only, of_session, .. } = self.transaction;
        // Since the client has begun it, the session may have come to say otherwise.
        let changed = of_session.filter(|it| read_only.is_none() && *it != self.state.is_read_only());
        Once { read_only: once.read_only.or(changed), ..once }
    }

    fn shard_name(&self, place: usize) -> Arc<str> {
        let name = |link: &Link| {
            let used = self.used.as_ref()?;
            Some(Arc::clone(&used.access.service.database.shard(link.shard).name))
        };
        self.links.get(place).and_then(name).unwrap_or_default()
    }

    /// Makes a link part of the transaction that is open.
    ///
    /// # Errors
    /// The server's own error is the inner one.
    pub(super) async fn join(&mut self, link: &mut Link) -> Result<Result<(), Failure>, Broken> {
        if link.begun || link.is_within() {
            return Ok(Ok(()));
        }
        if let Some(once) = self.said_before().text() {
            // Without a transaction it is for the next statement that begins one, which need not be the one at hand: nobody
            // else may have the connection.
            link.doubtful |= self.transaction.begun_by.is_none();
            if let Err(failure) = link.run(&once).await? {
                return Ok(Err(failure));
            }
        }
        if let Some(branch) = self.branch_of(link) {
            // XA knows no access modes of its own.
            if self.transaction.read_only == Some(false)
                && let Err(failure) = link.run("SET TRANSACTION READ WRITE").await?
            {
                return Ok(Err(failure));
            }
            if let Err(failure) = link.run(&format!("XA START {branch}")).await? {
                return Ok(Err(failure));
            }
            (link.begun, link.branch) = (true, Some(Box::new(branch)));
        } else if let Some(begin) = &self.transaction.begun_by {
            if let Err(failure) = link.run(begin).await? {
                return Ok(Err(failure));
            }
            link.begun = true;
        }
        if self.is_within() || !self.state.autocommit() {
            let home = Home { shard: link.shard, thread: link.connection.thread };
            self.transaction.home.get_or_insert(home);
            self.transaction.of_session.get_or_insert_with(|| self.state.is_read_only());
            link.savepoints = 0;
            self.tell_savepoints(link).await?;
        }
        Ok(Ok(()))
    }

    /// A statement has ended, and with it what was for it alone.
    pub(super) fn statement_ended(&mut self) {
        if !self.is_within() {
            self.transaction.once = Once::default();
        }
        self.statement_without_tables_ended();
    }

    /// The same of one that has failed by what a server says, if one did, or is said again in another way. Before it comes to
    /// tables, SET TRANSACTION is for the next one still.
    pub(super) fn statement_failed(&mut self, failure: Option<&Failure>) {
        match failure {
            Some(failure) if !BEFORE_TABLES.contains(&failure.number) => self.statement_ended(),
            _ => self.statement_without_tables_ended(),
        }
    }

    /// The same of one that names no tables: it is no transaction, and uses up nothing that was said for the next one.
    pub(super) fn statement_without_tables_ended(&mut self) {
        if !self.is_within() {
            (self.transaction.home, self.transaction.gid, self.transaction.of_session) = (None, None, None);
            if self.state.autocommit() {
                self.transaction.savepoints.clear();
            }
        }
    }

    /// What commits by itself has ended what was open, and its savepoints.
    pub(super) fn has_committed(&mut self) {
        if !self.is_within() {
            self.transaction.savepoints.clear();
        }
    }

    /// Refuses what would be done outside of the transaction that the client takes it to be in.
    pub(super) fn refuse_undone(&self) -> Result<(), ClientError> {
        if !self.transaction.undone {
            return Ok(());
        }
        Err(ClientError::new(
            Code::NotDone,
            "the transaction has been rolled back: a statement of it failed on one of several shards, or took too long",
            "ROLLBACK, and begin anew.",
        ))
    }

    /// COMMIT or ROLLBACK.
    pub(super) async fn end(&mut self, commit: bool) -> Result<(), Trouble> {
        if commit && self.transaction.undone {
            let refused = self.refuse_undone();
            self.transaction = Transaction::default();
            refused?;
        }
        let links = std::mem::take(&mut self.links);
        let reads_only = self.reads_only();
        let gid = std::mem::take(&mut self.transaction).gid;
        let (mut parts, others): (Vec<Link>, Vec<Link>) = links.into_iter().partition(|it| it.begun || it.is_within());
        others.into_iter().for_each(|it| self.keep(it));
        // What may only read has written nothing, though it may have tried.
        parts.iter_mut().for_each(|it| it.wrote &= !reads_only);
        if !commit {
            self.undo(parts).await;
            return Ok(());
        }
        match gid {
            Some(gid) if parts.iter().filter(|it| it.wrote).nth(1).is_some() => self.commit_on_all(parts, &gid).await,
            _ => self.commit_on_one(parts).await,
        }
    }

    /// The error of a link that broke beside the statements of the client's: an open transaction is gone with it, and what
    /// was left on it.
    pub(super) async fn lost_all(&mut self, broken: Broken, link: &Link) -> Trouble {
        let within = self.is_within() || link.begun || link.is_within();
        self.ends |= link.pinned;
        let trouble = self.lost(broken, "", within, false);
        self.roll_back().await;
        trouble
    }

    /// Rolls back what is open, whatever the servers say to it.
    pub(super) async fn roll_back(&mut self) {
        // A connection on which that fails is closed, which does it too.
        let _ = self.end(false).await;
    }

    /// Keeps a link that the session needs between statements, and gives back any other.
    pub(super) fn keep(&mut self, mut link: Link) {
        self.note_answer(&link);
        if link.begun || link.pinned || link.cursors > 0 || link.is_within() {
            self.links.push(link);
            return;
        }
        link.doubtful |= self.held.remove(&link);
        if let Some(used) = &self.used {
            used.access.release(link);
        }
    }

    /// The client has heard of a deadlock, by which, as on one server, the whole transaction is undone.
    pub(super) async fn doomed(&mut self) {
        self.client.told_deadlock = false;
        self.warnings.of_failure(&deadlock());
        self.roll_back().await;
        self.statement_ended();
    }

    /// Servers were told to stop: what they had not heard yet must not strike the next statement.
    pub(super) async fn settle(&mut self) {
        let (mut links, mut lost) = (std::mem::take(&mut self.links), false);
        for mut link in links.drain(..) {
            let was = link.begun || link.is_within();
            match self.is_still_within(&mut link).await {
                Ok(within) if within || !was => self.links.push(link),
                Ok(_) | Err(_) => {
                    lost |= was;
                    self.ends |= link.pinned;
                }
            }
        }
        if lost {
            self.roll_back().await;
            self.transaction.is_undone(true);
        }
    }

    /// Whether a server says that its transaction is over, after an error that may have ended it.
    pub(super) async fn is_still_within(&self, link: &mut Link) -> Result<bool, Broken> {
        link.say(&[PING]).await?;
        match crate::exec::mysql::relay::hear(link).await? {
            Ok(Done { .. }) => Ok(link.is_within()),
            Err(failure) => Err(Broken::Server(failure.to_string())),
        }
    }
}

/// Errors of statements that have come to no table: a syntax, a table that is not there, a write where only reads may be.
const BEFORE_TABLES: [u16; 3] = [1064, 1146, 1792];

/// The first byte of COM_PING.
const PING: u8 = 0x0e;

/// A savepoint's name as servers compare it.
fn plain(written: &str) -> String {
    written.trim_matches('`').replace("``", "`").to_lowercase()
}
