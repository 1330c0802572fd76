//! KILL: which session a number is, and how what it does is stopped.
//!
//! A session is told that it is to stop; it has its servers stop, itself, while it holds its connections: so nobody is hit
//! who was lent one of them meanwhile. Numbers are this proxy's own: those that greetings tell. In the same way a session is
//! told that others of a deadlock wait for it (`topology::deadlock`). A number that nobody has here may be that of a session
//! which a process still serves that this one has taken over from: it is asked.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;

use crate::backend::mysql::KillTarget;
use crate::clock;
use crate::clock::Tick;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::session::mysql::Selected;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::say;
use crate::tasks;
use crate::topology::deadlock::Process;
use crate::topology::deadlock::Sessions;
use crate::topology::deadlock::Spread;
use crate::wire::mysql::result::put_text_row;

/// How long it may take to have a server stop what it does.
const KILL: Duration = Duration::from_secs(3);
/// How long after that a server that goes on is told again; each time twice as long, up to [`KILL`].
const AGAIN: Duration = Duration::from_millis(100);

/// The processes before this one, which still serve some of the clients.
pub trait Formers: std::fmt::Debug + Send + Sync {
    /// Has the session with that number stop there, as [`Kills::kill`] does here.
    fn kill<'a>(
        &'a self,
        number: u32,
        query: bool,
        by: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), NotKilled>> + Send + 'a>>;
}

/// All sessions, by their numbers.
#[derive(Debug, Default)]
pub struct Kills {
    formers: OnceLock<Arc<dyn Formers>>,
    next: AtomicU32,
    entries: Mutex<BTreeMap<u32, Arc<Entry>>>,
}

/// One session, as others see it.
#[derive(Debug)]
pub(super) struct Entry {
    /// Who it is, and where.
    pub(super) seen: Mutex<Seen>,
    /// One of [`NOTHING`], [`DOOMED`], [`QUERY`], [`CONNECTION`].
    wanted: AtomicU8,
    /// Whether it answers a command.
    busy: AtomicU8,
    /// When it last began one: a [`Tick`].
    since: AtomicU64,
    struck: Notify,
    /// What it waits for is being ended, for others of a deadlock wait for it.
    doom: Arc<AtomicBool>,
    held: Mutex<Several>,
    /// The session's task, which looks for itself whenever it is woken.
    task: OnceLock<Waker>,
}

/// What others see of a session that holds connections to several servers; empty of all others.
#[derive(Debug, Default)]
struct Several {
    targets: Vec<Arc<KillTarget>>,
    /// When the newest of them was added.
    joined: Tick,
    /// Which of them wait in a deadlock, and are to stop.
    waiting: Vec<Process>,
}

/// What a list of sessions tells of one.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) user: Arc<str>,
    pub(super) host: Arc<str>,
}

const NOTHING: u8 = 0;
/// What waits in a deadlock.
const DOOMED: u8 = 1;
/// KILL QUERY.
const QUERY: u8 = 2;
/// KILL.
const CONNECTION: u8 = 3;

/// Why nothing was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKilled {
    /// There is no such session.
    Unknown,
    /// It is another user's.
    AnotherUsers,
}

/// A session's own entry; taken out when it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    kills: Arc<Kills>,
    pub(super) number: u32,
    pub(super) entry: Arc<Entry>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kills {
    /// A number for one who comes.
    #[must_use]
    pub fn number(&self) -> u32 {
        loop {
            // Zero is nobody's.
            let number = self.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if number != 0 && !locked(&self.entries).contains_key(&number) {
                return number;
            }
        }
    }

    /// The number that came last.
    #[must_use]
    pub fn last(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// Counts on from `number`: those up to there are a former process's. Ask it for sessions that are not here.
    pub fn succeed(&self, number: u32, formers: Arc<dyn Formers>) {
        self.next.store(number, Ordering::Relaxed);
        // A process takes over once.
        let _ = self.formers.set(formers);
    }

    pub(super) fn ticket(self: &Arc<Self>, number: u32, seen: Seen) -> Ticket {
        let entry = Arc::new(Entry {
            seen: Mutex::new(seen),
            wanted: AtomicU8::new(NOTHING),
            busy: AtomicU8::new(0),
            since: AtomicU64::new(clock::now().0),
            struck: Notify::new(),
            doom: Arc::default(),
            held: Mutex::default(),
            task: OnceLock::new(),
        });
        locked(&self.entries).insert(number, Arc::clone(&entry));
        Ticket { kills: Arc::clone(self), number, entry }
    }

    /// Has a session stop, or what it does.
    ///
    /// # Errors
    /// Who asks may not, or it is not here.
    pub fn kill(&self, number: u32, query: bool, by: &str) -> Result<(), NotKilled> {
        let entry = locked(&self.entries).get(&number).cloned().ok_or(NotKilled::Unknown)?;
        if *locked(&entry.seen).user != *by {
            return Err(NotKilled::AnotherUsers);
        }
        // What ends the whole is not taken back by what ends a statement.
        entry.wanted.fetch_max(if query { QUERY } else { CONNECTION }, Ordering::AcqRel);
        entry.wake();
        Ok(())
    }

    /// All of them, with their numbers.
    fn all(&self) -> Vec<(u32, Arc<Entry>)> {
        locked(&self.entries).iter().map(|(number, entry)| (*number, Arc::clone(entry))).collect()
    }
}

impl Entry {
    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) != 0
    }

    /// How long it has been doing what it does.
    fn since(&self, now: Tick) -> Duration {
        now.since(Tick(self.since.load(Ordering::Relaxed)))
    }

    fn is_over(&self) -> bool {
        self.wanted.load(Ordering::Acquire) == CONNECTION
    }

    /// Has the session's task woken when it is to stop. Once is enough: it stays the same.
    pub(super) fn wakes(&self, task: &Waker) {
        self.task.get_or_init(|| task.clone());
    }

    fn wake(&self) {
        self.struck.notify_one();
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }

    /// Whether the session is to stop what it does.
    pub(super) fn is_struck(&self) -> bool {
        self.wanted.load(Ordering::Acquire) != NOTHING
    }

    /// True while what it waits for is being ended for others' sake.
    pub(super) fn doom(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.doom)
    }
}

fn process(target: &KillTarget) -> Process {
    let (host, port) = target.server();
    Process { host: Arc::clone(host), port, pid: target.thread() }
}

impl Sessions for Kills {
    fn spread(&self, age: Duration) -> Vec<Spread> {
        let now = clock::now();
        let mut found = Vec::new();
        for (number, entry) in locked(&self.entries).iter() {
            // Who has just begun to wait, or waits for its client, is in no circle that stays.
            if !entry.is_busy() || entry.since(now) < age {
                continue;
            }
            let held = locked(&entry.held);
            if held.targets.len() > 1 && now.since(held.joined) >= age {
                let processes = held.targets.iter().map(|it| process(it)).collect();
                found.push(Spread { session: *number, processes });
            }
        }
        found
    }

    fn end(&self, session: u32, waiting: &[Process]) {
        let Some(entry) = locked(&self.entries).get(&session).cloned() else { return };
        locked(&entry.held).waiting = waiting.to_vec();
        entry.doom.store(true, Ordering::Relaxed);
        entry.wanted.fetch_max(DOOMED, Ordering::AcqRel);
        entry.wake();
    }
}

impl Ticket {
    /// The session begins a command, now: what was to end the one before is not for this one.
    pub(super) fn begin(&self) -> Tick {
        let _ = self
            .entry
            .wanted
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |it| matches!(it, DOOMED | QUERY).then_some(NOTHING));
        self.entry.doom.store(false, Ordering::Relaxed);
        self.entry.busy.store(1, Ordering::Relaxed);
        let now = clock::now();
        self.entry.since.store(now.0, Ordering::Relaxed);
        now
    }

    /// The command is answered.
    pub(super) fn end(&self) {
        self.entry.busy.store(0, Ordering::Relaxed);
    }

    /// Whether the session is to end.
    pub(super) fn is_over(&self) -> bool {
        self.entry.is_over()
    }

    pub(super) fn changed(&self, seen: Seen) {
        *locked(&self.entry.seen) = seen;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        locked(&self.kills.entries).remove(&self.number);
    }
}

/// Waits until the session is to stop what it does.
pub(super) async fn struck(entry: &Entry) {
    while !entry.is_struck() {
        entry.struck.notified().await;
    }
}

/// The servers that a session has been given connections to, and holds them still.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    targets: Rc<RefCell<Vec<Arc<KillTarget>>>>,
    struck: Rc<Cell<bool>>,
    /// Others see them, for there are several.
    shown: Rc<Cell<bool>>,
    entry: Option<Arc<Entry>>,
}

impl Held {
    /// Those of the session with that entry.
    pub(super) fn of(entry: &Arc<Entry>) -> Self {
        Self { entry: Some(Arc::clone(entry)), ..Self::default() }
    }

    /// A command begins with these connections.
    pub(super) fn begin(&self, links: &[Link]) {
        let mut held = self.targets.borrow_mut();
        held.clear();
        held.extend(links.iter().map(|it| Arc::clone(&it.connection.target)));
        self.struck.set(false);
        self.show(&held);
    }

    /// Whether it holds none.
    pub(super) fn is_empty(&self) -> bool {
        self.targets.borrow().is_empty()
    }

    /// The session is given a connection.
    pub(super) fn add(&self, link: &Link) {
        let mut held = self.targets.borrow_mut();
        held.push(Arc::clone(&link.connection.target));
        self.show(&held);
    }

    /// It gives one back. True: what it runs was to be stopped, which may strike late: it must not be used again.
    pub(super) fn remove(&self, link: &Link) -> bool {
        let mut held = self.targets.borrow_mut();
        held.retain(|it| !Arc::ptr_eq(it, &link.connection.target));
        self.show(&held);
        self.struck.get()
    }

    /// Has others see what is held, if that is several connections, or was.
    fn show(&self, held: &[Arc<KillTarget>]) {
        let several = held.len() > 1;
        let Some(entry) = self.entry.as_ref().filter(|_| several || self.shown.get()) else { return };
        self.shown.set(several);
        let mut seen = locked(&entry.held);
        if !several {
            seen.targets.clear();
        } else if seen.targets.len() != held.len() || !seen.targets.iter().zip(held).all(|(a, b)| Arc::ptr_eq(a, b)) {
            seen.targets.clear();
            seen.targets.extend_from_slice(held);
            seen.joined = clock::now();
        }
    }

    /// Whether servers were told to stop since the command began.
    pub(super) fn was_struck(&self) -> bool {
        self.struck.get()
    }

    /// Has all of them stop, or of a session that is in a deadlock those that wait there, whoever waits for them.
    async fn stop(&self, doomed: bool) {
        self.struck.set(true);
        let mut targets = self.targets.borrow().clone();
        if let Some(entry) = self.entry.as_ref().filter(|_| doomed) {
            let waiting = std::mem::take(&mut locked(&entry.held).waiting);
            targets.retain(|it| waiting.contains(&process(it)));
        }
        for target in targets {
            if let Err(error) = target.kill_query(clock::now().plus(KILL)).await {
                tracing::debug!(%error, "what is to be stopped may go on");
            }
        }
    }

    /// The same for a client that is gone: the session does not wait for it.
    pub(super) fn abandon(&self) {
        let targets = Rc::new(RefCell::new(self.targets.take()));
        let this = Self { targets, struck: Rc::clone(&self.struck), ..Self::default() };
        tasks::local("kill", async move { this.stop(false).await });
    }
}

/// Does `work`. If the session is to stop, so are the servers that it has connections to, and `work` goes on to see what
/// they say to that.
pub(super) async fn stoppable<T>(entry: &Entry, held: &Held, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let mut pause = AGAIN;
    loop {
        let mut wait = pin!(struck(entry));
        let done = poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            wait.as_mut().poll(cx).map(|_| None)
        });
        if let Some(done) = done.await {
            return done;
        }
        // Until the servers have been told, what was said to them is still the session's.
        let doomed = entry.wanted.load(Ordering::Acquire) == DOOMED;
        let mut stop = pin!(held.stop(doomed));
        let mut done = None;
        poll_fn(|cx| {
            if done.is_none()
                && let Poll::Ready(it) = work.as_mut().poll(cx)
            {
                done = Some(it);
            }
            stop.as_mut().poll(cx)
        })
        .await;
        if let Some(done) = done {
            return done;
        }
        // A server that had not begun with it has not heard what was asked: it is asked again.
        if doomed {
            let _ = entry.wanted.compare_exchange(DOOMED, NOTHING, Ordering::AcqRel, Ordering::Relaxed);
        } else {
            if let Ok(done) = tokio::time::timeout(pause, work.as_mut()).await {
                return done;
            }
            pause = (pause * 2).min(KILL);
        }
    }
}

/// The same for what waits for no server: it is given up. `None`: it was.
pub(super) async fn unless_struck<T>(entry: &Entry, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut wait = pin!(struck(entry));
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        wait.as_mut().poll(cx).map(|()| None)
    })
    .await
}

impl Session {
    /// KILL, COM_PROCESS_KILL.
    pub(super) async fn kill(&mut self, number: u32, query: bool) -> Result<(), Trouble> {
        if number == self.ticket.number {
            if query {
                return Err(say::interrupted().into());
            }
            self.ends = true;
            return Err(say::killed().into());
        }
        let kills = &self.worker.kills;
        let killed = match (kills.kill(number, query, &self.user.name), kills.formers.get()) {
            (Err(NotKilled::Unknown), Some(formers)) => formers.kill(number, query, &self.user.name).await,
            (killed, _) => killed,
        };
        match killed {
            Ok(()) => Ok(()),
            Err(NotKilled::Unknown) => Err(say::no_thread(number).into()),
            Err(NotKilled::AnotherUsers) => Err(say::not_owner(number).into()),
        }
    }
}

impl Session {
    /// SHOW PROCESSLIST: the sessions of this proxy that are the user's own. What they say is nobody else's to see.
    pub(super) async fn show_processes(&mut self, more: bool) -> Result<(), Trouble> {
        // What its columns are is the server's to say.
        let mut link = self.any_link().await?;
        let collected = async {
            link.say_query("SHOW PROCESSLIST").await?;
            relay::collect(&mut link, PROCESSES_MAX).await
        };
        let columns = match collected.await {
            Ok(Ok(collected)) => collected.columns,
            Ok(Err(failure)) => {
                self.keep(link);
                return Err(failure.into());
            }
            Err(broken) => return Err(self.lost_all(broken, &link).await),
        };
        self.keep(link);
        let flags = self.face(more).status(self.usual_status());
        self.client.put_columns(&columns, flags);
        let now = clock::now();
        let database = self.used.as_ref().filter(|it| it.selected == Selected::Yes).map(|it| Arc::clone(&it.name));
        for (number, entry) in self.worker.kills.all() {
            let Seen { user, host } = locked(&entry.seen).clone();
            if *user != *self.user.name {
                continue;
            }
            let own = number == self.ticket.number;
            let (number, time) = (number.to_string(), entry.since(now).as_secs().to_string());
            let cells = [
                Some(number.as_str()),
                Some(&*user),
                Some(&*host),
                database.as_deref().filter(|_| own),
                Some(if entry.is_busy() { "Query" } else { "Sleep" }),
                Some(&time),
                Some(""),
                Some("SHOW PROCESSLIST").filter(|_| own),
                Some("0.000"),
            ];
            let mut row = Vec::new();
            put_text_row(&mut row, cells.iter().take(columns.len()).map(|it| it.map(str::as_bytes)));
            self.client.put(&row);
        }
        self.client.end_rows(0, flags);
        Ok(())
    }
}

/// What a server's list may come to, in bytes: of it only the columns are used.
const PROCESSES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(user: &str) -> Seen {
        Seen { user: user.into(), host: "localhost".into() }
    }

    #[tokio::test]
    async fn only_ones_own_sessions_are_killed_and_only_what_they_do_now() {
        let kills = Arc::new(Kills::default());
        let (one, two) = (kills.number(), kills.number());
        assert_ne!(one, two);
        let ticket = kills.ticket(one, seen("ann"));
        assert_eq!(kills.kill(two, true, "ann"), Err(NotKilled::Unknown));
        assert_eq!(kills.kill(one, true, "eve"), Err(NotKilled::AnotherUsers));
        let wanted = || ticket.entry.wanted.load(Ordering::Acquire);
        assert_eq!(wanted(), NOTHING);
        assert_eq!(kills.kill(one, true, "ann"), Ok(()));
        struck(&ticket.entry).await;
        assert_eq!(unless_struck(&ticket.entry, std::future::pending::<()>()).await, None);
        ticket.begin();
        assert_eq!(wanted(), NOTHING);
        let held = Held::default();
        assert_eq!(stoppable(&ticket.entry, &held, async { 7 }).await, 7);
        assert!(!held.was_struck());
        assert_eq!(kills.kill(one, false, "ann"), Ok(()));
        assert_eq!(kills.kill(one, true, "ann"), Ok(()));
        ticket.begin();
        assert!(ticket.is_over());
        assert_eq!(kills.all().len(), 1);
        drop(ticket);
        assert_eq!(kills.kill(one, true, "ann"), Err(NotKilled::Unknown));
    }
}
