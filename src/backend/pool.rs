//! Pools of server connections: bounded per node, database and user; first come, first served; no thread is woken for
//! a connection that the own thread has. What a pool needs of a connection is [`Pooled`]: each engine has its own.
//!
//! Every worker thread keeps the idle connections that its own reactor watches. What is shared is small: how many are
//! open, and who waits. A worker without an idle connection opens one while the bound allows, and otherwise queues; a
//! connection given back anywhere goes to the one who waited longest, on whatever thread, and later home again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::backend::connection::Connection;
use crate::backend::outboxes::Outboxes;
use crate::backend::seat::Seat;
use crate::backend::seat::Seats;
use crate::clock;
use crate::clock::Tick;
use crate::net;
use crate::shard_map::PoolLimits;
use crate::shard_map::ServerLogin;
use crate::tasks;

/// What a pool needs of a connection. Without further words the pools below are those of Postgres's.
pub trait Pooled: fmt::Debug + Send + Sized + 'static {
    /// What a server says of itself at login, and what answers depend on: a connection to one that said something else
    /// is not lent any more.
    type Said: Clone + PartialEq + fmt::Debug + Send;
    /// What a server says that refuses a login.
    type Refusal: Clone + fmt::Debug + fmt::Display;

    /// Logs in, by the recipe and for the worker `home`, and takes what the server said up with [`Shared::greet`].
    fn open(
        shared: &Shared<Self>,
        recipe: &Recipe,
        home: usize,
        slot: Slot<Self>,
    ) -> impl Future<Output = Result<Self, CheckoutError<Self::Refusal>>>;
    /// Whether nothing has arrived and the server has not hung up. Costs no system call.
    fn is_quiet(&mut self) -> bool;
    /// Whether everything that was read has been handled.
    fn is_drained(&self) -> bool;
    /// Gives memory back if everything has been handled.
    fn rest(&mut self);
    /// The worker whose reactor watches it.
    fn home(&self) -> usize;
    /// Its place in the pool's count.
    fn slot(&self) -> &Slot<Self>;
    /// How often what the server says had changed when it was opened.
    fn generation(&self) -> u64;
    /// When it was opened.
    fn opened(&self) -> Tick;
    /// How operators see it.
    fn seat(&self) -> &Arc<Seat>;
}

/// What a pool is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    /// Host name or address.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// The database's name on the server.
    pub database: Arc<str>,
    /// The role that logs in.
    pub user: Arc<str>,
    /// What its connections ask for at login that others do without (MySQL's FOUND_ROWS); 0: nothing.
    pub flags: u32,
}

/// How a pool opens connections; replaced when the map changes it.
#[derive(Debug)]
pub struct Recipe {
    /// The version of the map that says so: an older one never takes the place of a newer.
    pub version: u64,
    /// The role and its password.
    pub login: ServerLogin,
    /// TLS toward the server.
    pub tls: net::ClientTls,
    /// Bounds.
    pub limits: PoolLimits,
    /// How long opening may take.
    pub connect: Duration,
}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckoutError<R = crate::backend::connection::login::ServerError> {
    /// All are lent and none came back in time.
    #[error("no server connection became free within {0:?}")]
    Exhausted(Duration),
    /// The server was cut off meanwhile.
    #[error("the server is not used any more")]
    CutOff,
    /// The server cannot be reached, or did not answer in time.
    #[error("cannot reach {node}: {reason}")]
    Unreachable {
        /// Which.
        node: String,
        /// Why.
        reason: String,
    },
    /// The server answered with an error of its own.
    #[error("the server refused the login: {0}")]
    Refused(R),
}

/// Counts of one pool, for SHOW POOLS.
#[derive(Clone, Debug, Default)]
pub struct PoolCounts {
    /// Connections open, idle or lent or being opened.
    pub open: usize,
    /// Of these, lent or being opened.
    pub active: usize,
    /// Of these, being opened.
    pub opening: usize,
    /// Clients that wait.
    pub waiting: usize,
    /// How long the first of them has waited.
    pub wait: Duration,
    /// The bound.
    pub size: usize,
    /// How often one was lent.
    pub lent: u64,
}

/// What all threads share about one pool.
#[derive(Debug)]
pub struct Shared<C: Pooled = Connection> {
    /// What it is for.
    pub key: PoolKey,
    recipe: Mutex<Arc<Recipe>>,
    /// The recipe's, to be read without the lock.
    version: AtomicU64,
    size: AtomicUsize,
    open: AtomicUsize,
    waiting: AtomicUsize,
    lanes: [Lane; LANES],
    waiters: Mutex<VecDeque<Waiter<C>>>,
    /// Set when the map no longer has it: what is lent finishes, nothing is kept.
    retired: AtomicBool,
    /// What the server said at the latest login here.
    said: Mutex<Option<C::Said>>,
    /// How often that has changed.
    generation: AtomicU64,
    /// Its connections' sockets, to be cut off from another thread.
    sockets: Mutex<Sockets>,
    seats: Seats,
}

#[derive(Debug, Default)]
struct Sockets {
    next: u64,
    open: HashMap<u64, net::Cutter>,
}

/// One worker's counts, on a cache line of their own: workers that count in one place wait for each other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    idle: AtomicUsize,
    lent: AtomicU64,
}

/// How many lanes there are; with more workers, some share one.
const LANES: usize = 8;

#[derive(Debug)]
struct Waiter<C: Pooled>(oneshot::Sender<Grant<C>>, Tick);

#[derive(Debug)]
enum Grant<C: Pooled> {
    Connection(Box<C>),
    Open(Slot<C>),
}

/// The right to have one connection open; given back on drop, to whoever waits.
#[derive(Debug)]
pub struct Slot<C: Pooled = Connection> {
    pool: Option<Arc<Shared<C>>>,
    /// The connection's number among the pool's sockets.
    watched: Option<u64>,
}

impl<C: Pooled> Slot<C> {
    /// That of a connection which is of no pool.
    #[must_use]
    pub fn none() -> Self {
        Self { pool: None, watched: None }
    }

    fn of(pool: &Arc<Shared<C>>) -> Self {
        Self { pool: Some(Arc::clone(pool)), watched: None }
    }

    /// Has the connection cut off when the pool is ([`Pools::cut_off`]). Before it is used for the first time.
    ///
    /// # Errors
    /// When it could not be: such a connection must not be used.
    pub fn watch<R>(&mut self, stream: &net::Stream) -> Result<(), CheckoutError<R>> {
        let Some(pool) = &self.pool else { return Ok(()) };
        let cutter = stream.cutter().map_err(|error| CheckoutError::Unreachable {
            node: format!("{}:{}", pool.key.host, pool.key.port),
            reason: error.to_string(),
        })?;
        let Some(cutter) = cutter else { return Ok(()) };
        let mut sockets = locked(&pool.sockets);
        sockets.next += 1;
        let number = sockets.next;
        sockets.open.insert(number, cutter);
        self.watched = Some(number);
        Ok(())
    }
}

impl<C: Pooled> Drop for Slot<C> {
    fn drop(&mut self) {
        let Some(mut pool) = self.pool.take() else { return };
        if let Some(number) = self.watched.take() {
            locked(&pool.sockets).open.remove(&number);
        }
        // Somebody may be waiting for exactly this: hand the right on rather than giving it up.
        while pool.waiting.load(Ordering::Acquire) > 0
            && pool.open.load(Ordering::Acquire) <= pool.size.load(Ordering::Relaxed)
        {
            let Some(waiter) = pool.next_waiter() else { break };
            match waiter.0.send(Grant::Open(Self::of(&pool))) {
                Ok(()) => return,
                Err(Grant::Open(mut unwanted)) => {
                    // The waiter gave up; take the right back without dropping it, which would recurse.
                    if let Some(back) = unwanted.pool.take() {
                        pool = back;
                    }
                }
                Err(Grant::Connection(_)) => {}
            }
        }
        pool.open.fetch_sub(1, Ordering::SeqCst);
        // Who queued between the look above and this found nothing to take, and nobody else would tell them.
        pool.hand_on_slots();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: Pooled> Shared<C> {
    fn next_waiter(&self) -> Option<Waiter<C>> {
        let mut waiters = locked(&self.waiters);
        let waiter = waiters.pop_front();
        self.waiting.store(waiters.len(), Ordering::Release);
        waiter
    }

    fn enqueue(&self) -> oneshot::Receiver<Grant<C>> {
        let (sender, receiver) = oneshot::channel();
        let mut waiters = locked(&self.waiters);
        waiters.retain(|waiter| !waiter.0.is_closed());
        waiters.push_back(Waiter(sender, clock::now()));
        // Before it is looked whether something is free; who frees something looks for waiters afterwards.
        self.waiting.store(waiters.len(), Ordering::SeqCst);
        receiver
    }

    fn take_slot(self: &Arc<Self>) -> Option<Slot<C>> {
        let size = self.size.load(Ordering::Relaxed);
        self.open
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| (open < size).then_some(open + 1))
            .is_ok()
            .then(|| Slot::of(self))
    }

    /// Gives what may be opened to those who wait.
    fn hand_on_slots(self: &Arc<Self>) {
        while self.waiting.load(Ordering::SeqCst) > 0 {
            let Some(slot) = self.take_slot() else { return };
            // On drop it goes to the one who waited longest.
            drop(slot);
        }
    }

    /// Takes up how connections are opened from now on, unless that is known better already.
    fn take_up(self: &Arc<Self>, recipe: Arc<Recipe>) {
        let mut current = locked(&self.recipe);
        if recipe.version <= current.version {
            return;
        }
        self.size.store(recipe.limits.size, Ordering::Relaxed);
        self.version.store(recipe.version, Ordering::Release);
        *current = recipe;
        drop(current);
        self.hand_on_slots();
    }

    /// What the server said at the last fresh login here, and what answers depend on since.
    #[must_use]
    pub fn said(&self) -> Option<C::Said> {
        locked(&self.said).clone()
    }

    /// Whether no later login was told otherwise.
    fn is_current(&self, connection: &C) -> bool {
        connection.generation() == self.generation.load(Ordering::Relaxed)
    }

    /// Takes in what a server said at a login; what it said before is kept where it is the same. The second: how often
    /// it has changed.
    pub fn greet(&self, said: C::Said) -> (C::Said, u64) {
        let mut latest = locked(&self.said);
        let said = match latest.take() {
            Some(known) if known == said => known,
            _ => {
                self.generation.fetch_add(1, Ordering::Relaxed);
                said
            }
        };
        *latest = Some(said.clone());
        (said, self.generation.load(Ordering::Relaxed))
    }

    fn cut_off(&self) {
        // What is lent does not come back, and what is idle is not lent.
        self.generation.fetch_add(1, Ordering::AcqRel);
        locked(&self.sockets).open.values().for_each(net::Cutter::cut);
        // Who waits for one of them is better off elsewhere; a dropped sender says so.
        let waiters = std::mem::take(&mut *locked(&self.waiters));
        self.waiting.store(0, Ordering::Release);
        drop(waiters);
    }

    /// Counts for SHOW POOLS.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        let open = self.open.load(Ordering::Relaxed);
        let first = locked(&self.waiters).iter().find(|it| !it.0.is_closed()).map(|it| it.1);
        PoolCounts {
            open,
            active: open.saturating_sub(self.idle()),
            opening: open.saturating_sub(self.seats.all().len()),
            waiting: self.waiting.load(Ordering::Relaxed),
            wait: first.map_or(Duration::ZERO, |it| clock::now().since(it)),
            size: self.size.load(Ordering::Relaxed),
            lent: self.lanes.iter().map(|lane| lane.lent.load(Ordering::Relaxed)).sum(),
        }
    }

    /// Its connections that are open and logged in.
    #[must_use]
    pub fn seats(&self) -> Vec<Arc<Seat>> {
        self.seats.all()
    }

    /// How many connections are idle, on whatever worker.
    fn idle(&self) -> usize {
        self.lanes.iter().map(|lane| lane.idle.load(Ordering::SeqCst)).sum()
    }

    fn lane(&self, worker: usize) -> &Lane {
        self.lanes.get(worker % LANES).expect("a remainder is below its divisor")
    }

    /// Whether connections are still wanted; their age is looked at by [`WorkerPools::tidy`] only.
    fn keeps_all(&self) -> bool {
        !self.retired.load(Ordering::Relaxed) && self.open.load(Ordering::Relaxed) <= self.size.load(Ordering::Relaxed)
    }
}

/// All pools of the process.
#[derive(Debug)]
pub struct Pools<C: Pooled = Connection> {
    all: Mutex<HashMap<PoolKey, Arc<Shared<C>>>>,
    mailboxes: Mutex<Vec<mpsc::Sender<Letter<C>>>>,
    /// Fewer and fewer clients are left, and another process wants the connections.
    wanes: AtomicBool,
}

impl<C: Pooled> Default for Pools<C> {
    fn default() -> Self {
        Self { all: Mutex::default(), mailboxes: Mutex::default(), wanes: AtomicBool::new(false) }
    }
}

/// What one worker tells another about a pool.
#[derive(Debug)]
enum Letter<C: Pooled> {
    /// A connection comes home.
    Home(Box<C>),
    /// Somebody waits while you may have an idle one.
    Wanted(Arc<Shared<C>>),
}

impl<C: Pooled> Pools<C> {
    /// The pool of that key, made or brought up to date with `recipe`.
    pub fn pool(&self, key: &PoolKey, recipe: Arc<Recipe>) -> Arc<Shared<C>> {
        let mut all = locked(&self.all);
        let pool = all.entry(key.clone()).or_insert_with(|| {
            Arc::new(Shared {
                key: key.clone(),
                size: AtomicUsize::new(recipe.limits.size),
                version: AtomicU64::new(recipe.version),
                recipe: Mutex::new(Arc::clone(&recipe)),
                open: AtomicUsize::new(0),
                lanes: Default::default(),
                waiting: AtomicUsize::new(0),
                waiters: Mutex::default(),
                retired: AtomicBool::new(false),
                said: Mutex::default(),
                generation: AtomicU64::new(0),
                sockets: Mutex::default(),
                seats: Seats::default(),
            })
        });
        pool.take_up(recipe);
        Arc::clone(pool)
    }

    /// Every pool, in order of key.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Shared<C>>> {
        let mut all: Vec<_> = locked(&self.all).values().cloned().collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }

    /// Ends all connections to a server, lent or idle: whoever waits for an answer there is told that the connection broke.
    pub fn cut_off(&self, host: &str, port: u16) {
        for pool in locked(&self.all).values().filter(|it| *it.key.host == *host && it.key.port == port) {
            pool.cut_off();
        }
    }

    /// From now on what is idle is closed within seconds: half of it each second, so that what is used stays.
    pub fn wane(&self) {
        self.wanes.store(true, Ordering::Relaxed);
    }

    /// Retires every pool that `keep` does not want: nothing of it is kept, what is lent finishes.
    pub fn retire(&self, keep: impl Fn(&PoolKey) -> bool) {
        locked(&self.all).retain(|key, pool| {
            let kept = keep(key);
            pool.retired.store(!kept, Ordering::Relaxed);
            kept
        });
    }
}

/// One worker's side of all pools.
#[derive(Debug)]
pub struct WorkerPools<C: Pooled = Connection> {
    pools: Arc<Pools<C>>,
    /// This worker's number.
    pub worker: usize,
    local: RefCell<HashMap<PoolKey, Rc<Pool<C>>>>,
    outboxes: Outboxes,
}

/// One pool, as one worker sees it.
#[derive(Debug)]
pub struct Pool<C: Pooled = Connection> {
    /// What the threads share.
    pub shared: Arc<Shared<C>>,
    // They stay in their boxes when they are lent: a pointer moves, not a connection.
    idle: RefCell<Vec<Box<C>>>,
}

/// How many letters may wait for a worker; beyond it a connection stays where it is.
const LETTERS_MAX: usize = 1024;

impl<C: Pooled> WorkerPools<C> {
    /// This worker's side; starts the task that reads its letters. Call on the worker's own thread.
    #[must_use]
    pub fn start(pools: Arc<Pools<C>>) -> Rc<Self> {
        let (sender, mut letters) = mpsc::channel(LETTERS_MAX);
        let worker = {
            let mut mailboxes = locked(&pools.mailboxes);
            mailboxes.push(sender);
            mailboxes.len() - 1
        };
        let this = Rc::new(Self { pools, worker, local: RefCell::default(), outboxes: Outboxes::default() });
        let reader = Rc::clone(&this);
        tasks::local("pool letters", async move {
            while let Some(letter) = letters.recv().await {
                match letter {
                    Letter::Home(connection) => reader.give_back(connection),
                    Letter::Wanted(shared) => reader.serve_waiters(&shared),
                }
            }
        });
        this
    }

    /// An empty buffer to build messages in.
    #[must_use]
    pub fn outbox(&self) -> Vec<u8> {
        self.outboxes.take()
    }

    /// Keeps a buffer for later; what is in it is forgotten.
    pub fn keep_outbox(&self, outbox: Vec<u8>) {
        self.outboxes.keep(outbox);
    }

    /// This worker's side of one pool, as the map of `version` has it.
    pub fn pool(&self, key: &PoolKey, version: u64, recipe: impl FnOnce() -> Arc<Recipe>) -> Rc<Pool<C>> {
        let known = self.local.borrow().get(key).cloned();
        if let Some(pool) = &known
            && !pool.shared.retired.load(Ordering::Relaxed)
            && pool.shared.version.load(Ordering::Acquire) >= version
        {
            return Rc::clone(pool);
        }
        let shared = self.pools.pool(key, recipe());
        match known {
            Some(pool) if Arc::ptr_eq(&pool.shared, &shared) => pool,
            former => {
                if let Some(former) = former {
                    // Idle sessions may keep it for long; its connections are wanted by nobody.
                    let unwanted = former.idle.take().len();
                    former.shared.lane(self.worker).idle.fetch_sub(unwanted, Ordering::Relaxed);
                }
                let pool = Rc::new(Pool { shared, idle: RefCell::default() });
                self.local.borrow_mut().insert(key.clone(), Rc::clone(&pool));
                pool
            }
        }
    }

    /// An idle connection of this worker, if one is there and nobody waits. The fast path: no await, no lock.
    #[must_use]
    pub fn take_idle(&self, pool: &Pool<C>) -> Option<Box<C>> {
        if pool.shared.waiting.load(Ordering::Acquire) > 0 {
            return None;
        }
        let connection = self.pop_quiet(pool)?;
        self.hand_out(pool);
        Some(connection)
    }

    fn pop_quiet(&self, pool: &Pool<C>) -> Option<Box<C>> {
        loop {
            let mut connection = pool.idle.borrow_mut().pop()?;
            pool.shared.lane(self.worker).idle.fetch_sub(1, Ordering::Relaxed);
            // What the server hung up on, or sent something on unasked, is of no use.
            // What was opened before the role's or the database's defaults changed would answer in another manner.
            if pool.shared.is_current(&connection) && connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    fn hand_out(&self, pool: &Pool<C>) {
        pool.shared.lane(self.worker).lent.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection: an idle one, a new one, or, when the bound is reached, the first that comes back.
    ///
    /// Cancel-safe: gives up its place in the queue, nothing more.
    ///
    /// # Errors
    /// See [`CheckoutError`].
    pub async fn checkout(&self, pool: &Pool<C>) -> Result<Box<C>, CheckoutError<C::Refusal>> {
        if let Some(connection) = self.take_idle(pool) {
            return Ok(connection);
        }
        let shared = &pool.shared;
        let wait = locked(&shared.recipe).limits.wait;
        let slot = if shared.waiting.load(Ordering::Acquire) == 0 { shared.take_slot() } else { None };
        let connection = match slot {
            Some(slot) => Box::new(self.open(shared, slot).await?),
            None => {
                let receiver = shared.enqueue();
                // Between the look and the queueing one may have come back, here or elsewhere.
                self.serve_waiters(shared);
                if let Some(slot) = shared.take_slot() {
                    drop(slot);
                }
                self.ask_others(shared);
                match tokio::time::timeout(wait, receiver).await {
                    Ok(Ok(Grant::Connection(connection))) => connection,
                    Ok(Ok(Grant::Open(slot))) => Box::new(self.open(shared, slot).await?),
                    Ok(Err(_)) => return Err(CheckoutError::CutOff),
                    Err(_) => return Err(CheckoutError::Exhausted(wait)),
                }
            }
        };
        self.hand_out(pool);
        Ok(connection)
    }

    async fn open(&self, shared: &Arc<Shared<C>>, slot: Slot<C>) -> Result<C, CheckoutError<C::Refusal>> {
        let recipe = Arc::clone(&locked(&shared.recipe));
        let connection = C::open(shared, &recipe, self.worker, slot).await?;
        shared.seats.note(connection.seat());
        Ok(connection)
    }

    fn ask_others(&self, shared: &Arc<Shared<C>>) {
        if shared.idle() == 0 {
            return;
        }
        for (worker, mailbox) in locked(&self.pools.mailboxes).iter().enumerate() {
            if worker != self.worker {
                // A full mailbox is being read; its reader will give back what it holds soon enough.
                let _ = mailbox.try_send(Letter::Wanted(Arc::clone(shared)));
            }
        }
    }

    fn serve_waiters(&self, shared: &Arc<Shared<C>>) {
        let local = self.local.borrow().get(&shared.key).cloned();
        let Some(pool) = local else { return };
        while shared.waiting.load(Ordering::Acquire) > 0 {
            let Some(connection) = self.pop_quiet(&pool) else { return };
            self.give_back(connection);
        }
    }

    /// Gives back a connection of `pool` that is clean and idle. The fast path: no lock, nothing allocated. Whether the
    /// server is still there is looked at when it is taken.
    pub fn give_back_to(&self, pool: &Pool<C>, mut connection: Box<C>) {
        let shared = &pool.shared;
        if connection.home() != self.worker || shared.waiting.load(Ordering::SeqCst) > 0 {
            return self.give_back(connection);
        }
        connection.rest();
        if !connection.is_drained() || !shared.keeps_all() {
            return;
        }
        connection.seat().leave();
        pool.idle.borrow_mut().push(connection);
        shared.lane(self.worker).idle.fetch_add(1, Ordering::SeqCst);
        if shared.waiting.load(Ordering::SeqCst) > 0 {
            self.serve_waiters(shared);
        }
    }

    /// Gives back a connection that is clean and idle. Whatever is not must be dropped instead.
    pub fn give_back(&self, mut connection: Box<C>) {
        connection.rest();
        let Some(shared) = connection.slot().pool.clone() else { return };
        if !connection.is_quiet() || !shared.keeps_all() || !shared.is_current(&connection) {
            return;
        }
        connection.seat().leave();
        while shared.waiting.load(Ordering::Acquire) > 0 {
            let Some(waiter) = shared.next_waiter() else { break };
            match waiter.0.send(Grant::Connection(connection)) {
                Ok(()) => return,
                Err(Grant::Connection(back)) => connection = back,
                Err(Grant::Open(_)) => return,
            }
        }
        if connection.home() != self.worker {
            let mailbox = locked(&self.pools.mailboxes).get(connection.home()).cloned();
            match mailbox.map(|mailbox| mailbox.try_send(Letter::Home(connection))) {
                None | Some(Ok(())) => return,
                Some(Err(
                    mpsc::error::TrySendError::Full(Letter::Home(back))
                    | mpsc::error::TrySendError::Closed(Letter::Home(back)),
                )) => {
                    connection = back;
                }
                Some(Err(_)) => return,
            }
        }
        let local = self.local.borrow().get(&shared.key).cloned();
        let pool = local.unwrap_or_else(|| {
            let pool = Rc::new(Pool { shared: Arc::clone(&shared), idle: RefCell::default() });
            self.local.borrow_mut().insert(shared.key.clone(), Rc::clone(&pool));
            pool
        });
        pool.idle.borrow_mut().push(connection);
        shared.lane(self.worker).idle.fetch_add(1, Ordering::SeqCst);
        if shared.waiting.load(Ordering::SeqCst) > 0 {
            // They queued while this one was on its way here, and did not see it.
            self.serve_waiters(&shared);
        }
    }

    /// Closes idle connections that are too old, unwanted or dead. Call about once a second.
    pub fn tidy(&self) {
        let now = clock::now();
        let pools: Vec<_> = self.local.borrow().values().cloned().collect();
        for pool in pools {
            let lifetime = locked(&pool.shared.recipe).limits.lifetime;
            if self.pools.wanes.load(Ordering::Relaxed) {
                // Those at the end are lent first.
                let unused = pool.idle.borrow().len().div_ceil(2);
                pool.idle.borrow_mut().drain(..unused);
                pool.shared.lane(self.worker).idle.fetch_sub(unused, Ordering::Relaxed);
            }
            pool.idle.borrow_mut().retain_mut(|connection| {
                let young = lifetime.is_zero() || now.since(connection.opened()) < lifetime;
                let current = pool.shared.is_current(connection);
                let keep = young && current && connection.is_quiet() && pool.shared.keeps_all();
                if !keep {
                    pool.shared.lane(self.worker).idle.fetch_sub(1, Ordering::Relaxed);
                }
                keep
            });
        }
        self.local
            .borrow_mut()
            .retain(|_, pool| !pool.shared.retired.load(Ordering::Relaxed) || !pool.idle.borrow().is_empty());
    }
}
