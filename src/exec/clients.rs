//! Who is connected, what they do now, and how much they have done: for operators.
//!
//! Only its own session writes what is counted of a client, so that counting is a load and a store; what is counted of a
//! database is summed up when somebody asks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::AddAssign;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::clock;
use crate::clock::Tick;
use crate::error::Code;
use crate::net::Stream;
use crate::shard_map::Engine;

/// Upper bounds of the spans that answers are counted by are powers of two, in microseconds: from this one …
const SPAN_FIRST: u32 = 7;
/// … in so many steps; what takes longer than 16.8 s is counted behind them.
pub const SPANS: usize = 18;

/// How much was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands that were answered: a Query, or all messages up to a Sync; of MySQL, any command.
    pub queries: u64,
    /// Transactions that ended, those of single statements among them.
    pub transactions: u64,
    /// How often a server connection was given to the client.
    pub assignments: u64,
    /// Bytes that came from the client.
    pub received: u64,
    /// Bytes that went to the client.
    pub sent: u64,
    /// Time between a command's arrival and the end of its answer, in nanoseconds.
    pub query_time: u64,
    /// The same of transactions, the client's own pauses included.
    pub transaction_time: u64,
    /// Of these, time in which no server connection or no primary was there.
    pub wait_time: u64,
    /// Commands by the time that they took: below 128 µs, 256 µs and so on, and the rest.
    pub spans: [u64; SPANS + 1],
}

impl Counts {
    fn each(&mut self) -> impl Iterator<Item = &mut u64> {
        let Self { queries, transactions, assignments, received, sent, query_time, transaction_time, wait_time, spans } =
            self;
        [queries, transactions, assignments, received, sent, query_time, transaction_time, wait_time]
            .into_iter()
            .chain(spans)
    }

    /// What has come to it since it was `earlier`.
    #[must_use]
    pub fn since(mut self, mut earlier: Self) -> Self {
        self.each().zip(earlier.each()).for_each(|(own, before)| *own = own.saturating_sub(*before));
        self
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, mut other: Self) {
        self.each().zip(other.each()).for_each(|(own, more)| *own += *more);
    }
}

/// The upper bound of the span at `place`.
#[must_use]
pub fn span_max(place: usize) -> Duration {
    Duration::from_micros(1 << (SPAN_FIRST as usize + place))
}

fn span_of(took: Duration) -> usize {
    let micros = took.as_micros().min(u128::from(u64::MAX));
    let bits = u128::BITS - micros.leading_zeros();
    (bits.saturating_sub(SPAN_FIRST) as usize).min(SPANS)
}

/// What a client says of itself; it may change.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// The user of the map.
    pub user: Arc<str>,
    /// The database of the map; empty: none is selected.
    pub database: Arc<str>,
    /// What it calls itself; empty: nothing.
    pub application: Arc<str>,
}

/// What a client does at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It has been answered.
    Nothing,
    /// It is being answered.
    Something,
    /// It has said something, and waits for a server connection since then.
    Waiting(Tick),
}

/// One client.
#[derive(Debug)]
pub struct Presence {
    /// Its number, which no other client of this process ever has; never 0.
    pub id: u64,
    /// Whose protocol it speaks.
    pub engine: Engine,
    /// What it was told to cancel or KILL itself by.
    pub process: u32,
    /// Its end of the connection.
    pub peer: Option<SocketAddr>,
    /// The proxy's end.
    pub local: Option<SocketAddr>,
    /// Whether TLS is in use.
    pub tls: bool,
    /// When it came.
    pub connected: Tick,
    who: Mutex<(Who, Counts)>,
    busy: AtomicBool,
    since: AtomicU64,
    begun: AtomicU64,
    waiting: AtomicU64,
    prepared: AtomicU64,
    queries: AtomicU64,
    transactions: AtomicU64,
    assignments: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    query_time: AtomicU64,
    transaction_time: AtomicU64,
    wait_time: AtomicU64,
    spans: [AtomicU64; SPANS + 1],
}

/// What the session knows when a command has been answered.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Whether a transaction is open.
    pub within: bool,
    /// All bytes that came from the client.
    pub received: u64,
    /// All bytes that went to it.
    pub sent: u64,
    /// How many statements it has prepared.
    pub prepared: usize,
}

/// Adds to what nobody else writes.
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Relaxed).wrapping_add(more), Relaxed);
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl Presence {
    fn new(id: u64, engine: Engine, process: u32, stream: &Stream, who: Who) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            id,
            engine,
            process,
            peer: stream.peer(),
            local: stream.local(),
            tls: stream.is_tls(),
            connected: clock::now(),
            who: Mutex::new((who, Counts::default())),
            busy: AtomicBool::new(false),
            since: zero(),
            begun: zero(),
            waiting: zero(),
            prepared: zero(),
            queries: zero(),
            transactions: zero(),
            assignments: zero(),
            received: zero(),
            sent: zero(),
            query_time: zero(),
            transaction_time: zero(),
            wait_time: zero(),
            spans: std::array::from_fn(|_| zero()),
        }
    }

    // ── by its session ──

    /// The client has said something; nothing new if it is being answered already.
    pub fn begins(&self) {
        if !self.busy.load(Relaxed) {
            self.begins_at(clock::now());
        }
    }

    /// The same, where the clock has been read.
    pub fn begins_at(&self, now: Tick) {
        self.since.store(now.0, Relaxed);
        if self.begun.load(Relaxed) == 0 {
            self.begun.store(now.0, Relaxed);
        }
        self.busy.store(true, Relaxed);
    }

    /// It has been answered.
    pub fn ends(&self, answered: Answered) {
        let now = clock::now();
        let took = now.since(Tick(self.since.load(Relaxed)));
        add(&self.queries, 1);
        add(&self.query_time, nanos(took));
        if let Some(count) = self.spans.get(span_of(took)) {
            add(count, 1);
        }
        if !answered.within {
            add(&self.transactions, 1);
            add(&self.transaction_time, nanos(now.since(Tick(self.begun.load(Relaxed)))));
            self.begun.store(0, Relaxed);
        }
        self.received.store(answered.received, Relaxed);
        self.sent.store(answered.sent, Relaxed);
        self.prepared.store(answered.prepared as u64, Relaxed);
        self.busy.store(false, Relaxed);
    }

    /// It waits for a server connection while the guard lives. Within a wait this changes nothing.
    pub fn waits(&self) -> Waiting<'_> {
        if self.waiting.load(Relaxed) != 0 {
            return Waiting(None);
        }
        let now = clock::now();
        self.waiting.store(now.0, Relaxed);
        Waiting(Some((self, now)))
    }

    /// It was given a server connection.
    pub fn was_given(&self) {
        add(&self.assignments, 1);
    }

    /// It calls itself otherwise.
    pub fn is_called(&self, application: &str) {
        let mut who = locked(&self.who);
        if *who.0.application != *application {
            who.0.application = application.into();
        }
    }

    // ── by everybody ──

    /// What it says of itself.
    #[must_use]
    pub fn who(&self) -> Who {
        locked(&self.who).0.clone()
    }

    /// What it does.
    #[must_use]
    pub fn doing(&self) -> Doing {
        match Tick(self.waiting.load(Relaxed)) {
            Tick::NEVER if self.busy.load(Relaxed) => Doing::Something,
            Tick::NEVER => Doing::Nothing,
            since => Doing::Waiting(since),
        }
    }

    /// When it last said something; never: it has not yet.
    #[must_use]
    pub fn since(&self) -> Tick {
        Tick(self.since.load(Relaxed))
    }

    /// When its open transaction began; never: none is open.
    #[must_use]
    pub fn begun(&self) -> Tick {
        Tick(self.begun.load(Relaxed))
    }

    /// How many statements it has prepared.
    #[must_use]
    pub fn prepared(&self) -> u64 {
        self.prepared.load(Relaxed)
    }

    /// What it has done.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            queries: self.queries.load(Relaxed),
            transactions: self.transactions.load(Relaxed),
            assignments: self.assignments.load(Relaxed),
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
            query_time: self.query_time.load(Relaxed),
            transaction_time: self.transaction_time.load(Relaxed),
            wait_time: self.wait_time.load(Relaxed),
            spans: std::array::from_fn(|at| self.spans.get(at).map_or(0, |it| it.load(Relaxed))),
        }
    }
}

/// A client that waits for a server connection.
#[derive(Debug)]
pub struct Waiting<'a>(Option<(&'a Presence, Tick)>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some((presence, since)) = self.0.take() else { return };
        add(&presence.wait_time, nanos(clock::now().since(since)));
        presence.waiting.store(0, Relaxed);
    }
}

/// All clients that have logged in.
#[derive(Debug)]
pub struct Clients {
    all: Mutex<All>,
    refusals: [AtomicU64; Code::ALL.len()],
}

#[derive(Debug, Default)]
struct All {
    last: u64,
    here: BTreeMap<u64, Arc<Presence>>,
    /// What those did who have left.
    gone: BTreeMap<Arc<str>, Counts>,
    /// What had been done at the end of the latest period, and what was done in it.
    period: Period,
}

#[derive(Clone, Debug, Default)]
struct Period {
    ended: Tick,
    until: BTreeMap<Arc<str>, Counts>,
    within: BTreeMap<Arc<str>, Counts>,
    took: Duration,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Clients {
    fn default() -> Self {
        Self { all: Mutex::default(), refusals: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl All {
    fn by_database(&self) -> BTreeMap<Arc<str>, Counts> {
        let mut sums = self.gone.clone();
        for presence in self.here.values() {
            let who = locked(&presence.who);
            *sums.entry(Arc::clone(&who.0.database)).or_default() += presence.counts().since(who.1);
        }
        sums
    }
}

impl Clients {
    /// Lists a client until the guard is dropped.
    #[must_use]
    pub fn enter(self: &Arc<Self>, engine: Engine, process: u32, stream: &Stream, who: Who) -> Entered {
        let mut all = locked(&self.all);
        all.last += 1;
        let presence = Arc::new(Presence::new(all.last, engine, process, stream, who));
        all.here.insert(presence.id, Arc::clone(&presence));
        Entered { clients: Arc::clone(self), presence }
    }

    /// All of them, in the order in which they came.
    #[must_use]
    pub fn here(&self) -> Vec<Arc<Presence>> {
        locked(&self.all).here.values().cloned().collect()
    }

    /// What clients of each database have done, those who left included.
    #[must_use]
    pub fn by_database(&self) -> BTreeMap<Arc<str>, Counts> {
        locked(&self.all).by_database()
    }

    /// What they did in the latest period, and how long that was.
    #[must_use]
    pub fn latest_period(&self) -> (BTreeMap<Arc<str>, Counts>, Duration) {
        let all = locked(&self.all);
        (all.period.within.clone(), all.period.took)
    }

    /// A period ends, and the next begins.
    pub fn end_period(&self) {
        let mut all = locked(&self.all);
        let (now, until) = (clock::now(), all.by_database());
        let before = std::mem::take(&mut all.period);
        let within = until.iter().map(|(name, counts)| {
            (Arc::clone(name), counts.since(before.until.get(name).copied().unwrap_or_default()))
        });
        let within = within.collect();
        all.period = Period { ended: now, took: now.since(before.ended), until, within };
    }

    /// A client was told that error of the proxy's own.
    pub fn refused(&self, code: Code) {
        if let Some(count) = self.refusals.get(code as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// How often clients were told which error.
    pub fn refusals(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        Code::ALL.iter().zip(&self.refusals).map(|(code, count)| (*code, count.load(Relaxed)))
    }
}

/// A client's place among all, taken away when this is dropped.
#[derive(Debug)]
pub struct Entered {
    clients: Arc<Clients>,
    presence: Arc<Presence>,
}

impl Entered {
    /// For whoever is asked on the client's behalf.
    #[must_use]
    pub fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    /// It was told that error of the proxy's own.
    pub fn refused(&self, code: Code) {
        self.clients.refused(code);
    }

    /// It is somebody else from now on, or uses another database: what it did before counts for the former one.
    pub fn becomes(&self, user: &Arc<str>, database: &Arc<str>) {
        let mut all = locked(&self.clients.all);
        let mut who = locked(&self.presence.who);
        let counts = self.presence.counts();
        let done = counts.since(who.1);
        if who.0.database != *database {
            all.leaves(&who.0.database, done);
            who.1 = counts;
        }
        (who.0.user, who.0.database) = (Arc::clone(user), Arc::clone(database));
    }
}

impl All {
    fn leaves(&mut self, database: &Arc<str>, done: Counts) {
        // A name that nobody has ever done anything by may be anything.
        if done != Counts::default() {
            *self.gone.entry(Arc::clone(database)).or_default() += done;
        }
    }
}

impl Deref for Entered {
    type Target = Presence;

    fn deref(&self) -> &Presence {
        &self.presence
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut all = locked(&self.clients.all);
        all.here.remove(&self.presence.id);
        let who = locked(&self.presence.who);
        all.leaves(&who.0.database, self.presence.counts().since(who.1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Answered = Answered { within: false, received: 10, sent: 20, prepared: 1 };

    fn enter(clients: &Arc<Clients>, database: &str) -> Entered {
        let who = Who { user: "ann".into(), database: database.into(), application: "".into() };
        clients.enter(Engine::Postgres, 7, &Stream::memory(1).0, who)
    }

    #[test]
    fn what_clients_did_stays_with_their_database() {
        let clients = Arc::new(Clients::default());
        let (one, two) = (enter(&clients, "shop"), enter(&clients, "shop"));
        assert_ne!(one.id, two.id);
        assert_eq!(one.doing(), Doing::Nothing);
        one.begins();
        assert_eq!((one.doing(), one.since() != Tick::NEVER), (Doing::Something, true));
        let waiting = one.waits();
        drop(one.waits());
        assert!(matches!(one.doing(), Doing::Waiting(_)));
        drop(waiting);
        one.was_given();
        one.ends(Answered { within: true, ..DONE });
        assert_eq!((one.doing(), one.begun() != Tick::NEVER), (Doing::Nothing, true));
        one.begins();
        one.ends(DONE);
        assert_eq!(one.begun(), Tick::NEVER);
        two.begins();
        two.ends(DONE);
        let of = |name: &str| clients.by_database().get(name).copied().unwrap_or_default();
        let shop = of("shop");
        assert_eq!((shop.queries, shop.transactions, shop.assignments), (3, 2, 1));
        assert_eq!((shop.received, shop.sent, shop.spans.iter().sum::<u64>()), (20, 40, 3));
        assert!(shop.transaction_time >= shop.query_time && shop.query_time >= shop.wait_time);
        drop(two);
        assert_eq!((of("shop"), clients.here().len()), (shop, 1));
        one.becomes(&"eve".into(), &"other".into());
        one.begins();
        one.ends(Answered { received: 15, ..DONE });
        assert_eq!((of("shop"), of("other").queries, of("other").received), (shop, 1, 5));
        assert_eq!(&*one.who().user, "eve");
        // Whoever did nothing leaves no trace: the name may be one that is not there.
        drop(enter(&clients, "no such database"));
        assert_eq!(clients.by_database().len(), 2);
    }

    #[test]
    fn a_period_is_what_came_since_the_one_before() {
        let clients = Arc::new(Clients::default());
        let one = enter(&clients, "shop");
        clients.end_period();
        one.begins();
        one.ends(DONE);
        clients.end_period();
        let queries = || clients.latest_period().0.get("shop").map(|it| it.queries);
        assert_eq!(queries(), Some(1));
        clients.end_period();
        assert_eq!(queries(), Some(0));
    }

    #[test]
    fn spans_are_counted_below_their_bounds() {
        for (micros, place) in [(0, 0), (127, 0), (128, 1), (255, 1), (256, 2), (16_777_215, 17), (16_777_216, 18)] {
            assert_eq!(span_of(Duration::from_micros(micros)), place, "{micros}");
        }
        assert_eq!(span_of(Duration::MAX), SPANS);
        assert_eq!(span_max(0), Duration::from_micros(128));
        assert_eq!(span_max(SPANS - 1), Duration::from_micros(16_777_216));
    }

    #[test]
    fn refusals_are_counted_by_code() {
        let clients = Clients::default();
        clients.refused(Code::PoolExhausted);
        clients.refused(Code::Internal);
        clients.refused(Code::Internal);
        let told: Vec<_> = clients.refusals().filter(|(_, count)| *count > 0).collect();
        assert_eq!(told, [(Code::PoolExhausted, 1), (Code::Internal, 2)]);
    }
}
