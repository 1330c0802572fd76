//! One client: what it said, and what it is owed.
//!
//! [`Session::serve`] is the loop to read first. `usual` answers what is plain; `simple` answers any other Query,
//! `extended` the messages of the extended protocol, `command` what the proxy itself has to do (transactions, settings,
//! cursors); `transaction` and `state` hold what was said before.

mod again;
pub mod batch;
mod beside;
pub mod cancel;
mod carry;
pub mod command;
mod copy;
mod ddl;
pub mod directory;
pub mod engine;
pub mod explain;
pub mod extended;
pub mod gather;
pub mod leaving;
pub mod login;
pub mod merge;
mod moves;
pub mod mysql;
pub mod prepared;
pub mod sequences;
pub mod simple;
mod snapshot;
mod split;
pub mod stage;
pub mod start;
pub mod state;
pub mod transaction;
pub mod two_phase;
pub mod usual;

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::backend::Settings;
use crate::backend::connection::Manner;
use crate::backend::pool::WorkerPools;
use crate::backend::settings;
use crate::clock;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec;
use crate::exec::Access;
use crate::exec::Current;
use crate::exec::Freshness;
use crate::exec::client::Client;
use crate::exec::client::Message;
use crate::exec::clients::Answered;
use crate::exec::clients::Clients;
use crate::exec::clients::Entered;
use crate::exec::flight;
use crate::exec::flight::Crew;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Lost;
use crate::exec::flight::Outcome;
use crate::exec::flight::Show;
use crate::exec::link::Link;
use crate::exec::say;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan;
use crate::plan::Effects;
use crate::plan::Isolation;
use crate::plan::Modes;
use crate::plan::Pin;
use crate::plan::Plan;
use crate::plan::Planner;
use crate::plan::SetConfig;
use crate::plan::Template;
use crate::plan::World;
use crate::session::cancel::Cancels;
use crate::session::cancel::Ticket;
use crate::session::engine::Engines;
use crate::session::extended::Portal;
use crate::session::prepared::Prepared;
use crate::session::prepared::Registry;
use crate::session::state::State;
use crate::session::transaction::Kind;
use crate::session::transaction::Transaction;
use crate::shard_map::ShardMap;
use crate::shard_map::User;
use crate::topology::Entry;
use crate::topology::Floor;
use crate::wire::postgres::backend as reply;
use crate::wire::postgres::backend::Severity;

/// What all sessions of one thread share.
#[derive(Debug)]
pub struct Worker {
    /// The deployment in force.
    pub current: Arc<Current>,
    /// This thread's side of the pools.
    pub pools: Rc<WorkerPools>,
    /// The same for MySQL's servers.
    pub mysql_pools: Rc<crate::backend::mysql::WorkerPools>,
    /// This thread's compiled statements.
    pub planner: RefCell<Planner>,
    /// Memory for bursts.
    pub engines: Engines,
    /// Prepared statements of all threads, by text.
    pub registry: Arc<Registry>,
    /// Numbers of sequences, of all threads.
    pub blocks: Arc<sequences::Blocks>,
    /// Numbers of AUTO_INCREMENT, of all threads.
    pub counters: Arc<mysql::numbers::Counters>,
    /// What directories have said, of all threads.
    pub directories: Arc<directory::Directories>,
    /// Cancel keys of all threads.
    pub cancels: Arc<Cancels>,
    /// MySQL's sessions of all threads.
    pub kills: Arc<mysql::kill::Kills>,
    /// Clients of all threads, as operators see them.
    pub clients: Arc<Clients>,
    /// What login found out, by database, user and settings.
    pub facts: RefCell<HashMap<start::FactsKey, start::Facts>>,
    /// When sessions end because the proxy does.
    pub leaving: leaving::Leaving,
}

/// Why a session stops doing what it was doing.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The client is told, and goes on.
    Refused(ClientError),
    /// A server's own ErrorResponse takes the place of a refusal: the whole message.
    Told(Vec<u8>),
    /// The client has been told already (a server's error went through).
    Failed,
    /// The same, and also that it may go on.
    Shown,
    /// The session ends.
    End(End),
}

/// Why a session ends.
#[derive(Debug)]
pub enum End {
    /// The client said goodbye or hung up.
    Gone,
    /// The client is told, and the connection closed.
    Fatal(ClientError),
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::Refused(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        tracing::debug!(%error, "a client's connection broke");
        Self::End(End::Gone)
    }
}

/// One client.
#[derive(Debug)]
pub struct Session {
    worker: Rc<Worker>,
    client: Client,
    user: Arc<User>,
    database_name: Arc<str>,
    map: Arc<ShardMap>,
    access: Rc<Access>,
    epoch: u64,
    world: Option<Rc<World>>,
    state: State,
    transaction: Transaction,
    links: Vec<Link>,
    items: Vec<Item>,
    prepared: HashMap<Box<str>, Rc<Prepared>, RandomState>,
    unnamed: Option<Rc<Prepared>>,
    deferred: Option<extended::Deferred>,
    portals: HashMap<Box<str>, Portal, RandomState>,
    cursors: HashMap<Arc<str>, ShardId>,
    /// After an error in the extended protocol everything is skipped until Sync.
    skipping: bool,
    /// Whether the batch between two Syncs has written, and where.
    batch_writer: Option<ShardId>,
    floors: Vec<Floor>,
    turn: u16,
    ticket: Ticket,
    entered: Entered,
    /// What answers depend on, as the login found it on the catalog shard.
    manner: Arc<Manner>,
    /// Whether pins may have ended and are to be looked at when no transaction is open.
    pins_suspect: bool,
    next_link: u32,
    /// How many statements had temporary tables filled for them.
    staged: u32,
    /// What messages changed whose answers are not known yet, by the items of the flight.
    undo: Vec<(usize, batch::Undo)>,
    /// Statements that the flight executes, for what they leave behind.
    executed: Vec<(Rc<Template>, ShardId)>,
    /// Settings that statements changed by set_config, to be read back: on which link, by its number.
    readback: Vec<(u32, SetConfig)>,
    /// Whether anything of the batch since the last Sync has been sent.
    batch_flown: bool,
    /// What else is known of that batch.
    batch: batch::Batch,
    /// The Sync at hand was said before the data of a COPY that broke: the client says one more, and waits for its answer.
    sync_eaten: bool,
    /// Whether the open transaction changed the schema.
    schema_changed: bool,
    /// What currval and lastval say.
    seen: sequences::Seen,
    /// The open transaction, or what comes before the next Sync, has written a directory.
    directory_changed: bool,
    /// What the client asked for last, as long as it may be asked again.
    request: again::Request,
}

impl Session {
    /// Serves the client until it leaves.
    pub async fn serve(self: Box<Self>) {
        let mut this = self;
        let worker = Rc::clone(&this.worker);
        let mut stop = pin!(worker.leaving.changed.notified());
        // Once is enough: the task that is to be woken stays the same, and [`Self::idle`] looks for itself.
        poll_fn(|cx| Poll::Ready(stop.as_mut().poll(cx).is_ready())).await;
        let end = loop {
            match this.client.message() {
                Ok(Some(message)) => {
                    this.entered.begins();
                    let result;
                    if let Some(mut passing) = this.put_usual(&message) {
                        this.client.rest();
                        result = match poll_fn(|cx| this.poll_passing(cx, &mut passing)).await {
                            Ok(()) => {
                                this.passed(&passing);
                                this.forget_said();
                                Ok(())
                            }
                            // Boxed, as all that is seldom done: every session has this future.
                            Err(lost) => Box::pin(this.give_up(lost)).await,
                        };
                    } else {
                        (this, result) = worker.engines.burst(this, message).await;
                    }
                    match result {
                        Ok(()) => this.client.relax(),
                        Err(end) => break end,
                    }
                }
                Ok(None) => {
                    if let Err(end) = this.idle().await {
                        break end;
                    }
                }
                Err(violation) => break End::Fatal(violation),
            }
        };
        if let End::Fatal(error) = end {
            this.entered.refused(error.code);
            reply::error(this.client.out(), Severity::Fatal, &error);
            // The client may be gone; then there is nobody to tell.
            let _ = this.client.flush().await;
        }
        this.leave();
    }

    /// Gives back what may be reused; everything else closes as it is dropped.
    fn leave(&mut self) {
        for mut link in self.links.drain(..) {
            link.pinned = link.pinned || link.begun;
            self.access.release(link);
        }
    }

    /// Answers everything that has arrived.
    async fn burst(&mut self, first: Message) -> Result<(), End> {
        let mut next = Some(first);
        loop {
            while let Some(message) = next.take() {
                self.note_said(&message);
                let ends = matches!(message.kind, b'Q' | b'S');
                self.message(message).await?;
                if ends {
                    self.end_request().await?;
                }
                next = self.client.message().map_err(End::Fatal)?;
            }
            // A batch that is not finished keeps its place here, with what it has gathered.
            if !self.within_batch() {
                self.client.flush().await.map_err(|_| End::Gone)?;
                return Ok(());
            }
            match self.client.read().await {
                Ok(0) | Err(_) => return Err(End::Gone),
                Ok(_) => next = self.client.message().map_err(End::Fatal)?,
            }
        }
    }

    /// Waits for the client; meanwhile passes on what pinned servers send unasked (notifications).
    async fn idle(&mut self) -> Result<(), End> {
        if self.transaction.failed && !self.transaction.let_go {
            Box::pin(self.let_go()).await?;
        }
        let limit = match self.transaction.kind {
            Kind::None => None,
            _ => exec::limit(self.map.timeouts.idle_in_transaction),
        };
        let mut sleep = limit.map(|span| Box::pin(tokio::time::sleep(span)));
        let mut leaving = leaving::Wait::default();
        // What came together with the last answer.
        let mut any = false;
        for at in 0..self.links.len() {
            any |= self.pass_on(at)?;
        }
        if any {
            self.client.flush().await.map_err(|_| End::Gone)?;
        }
        loop {
            enum Event {
                Stopping,
                Client(io::Result<usize>),
                Server(usize, io::Result<usize>),
                TooLong,
            }
            let event = poll_fn(|cx| {
                if !self.transaction.is_open() {
                    let tied = self.links.iter().any(|it| it.pinned);
                    if leaving.is_over(&self.worker.leaving, tied, cx) {
                        return Poll::Ready(Event::Stopping);
                    }
                }
                if let Poll::Ready(result) = self.client.poll_read(cx) {
                    return Poll::Ready(Event::Client(result));
                }
                for (at, link) in self.links.iter_mut().enumerate() {
                    if link.pinned
                        && let Poll::Ready(result) = link.connection.poll_fill(cx)
                    {
                        return Poll::Ready(Event::Server(at, result));
                    }
                }
                if let Some(sleep) = &mut sleep
                    && sleep.as_mut().poll(cx).is_ready()
                {
                    return Poll::Ready(Event::TooLong);
                }
                Poll::Pending
            })
            .await;
            match event {
                Event::Stopping => {
                    return Err(End::Fatal(ClientError::new(
                        Code::ShuttingDown,
                        "terminating connection: the proxy is stopping",
                        "Connect again.",
                    )));
                }
                Event::Client(Ok(0) | Err(_)) => return Err(End::Gone),
                Event::Client(Ok(_)) => return Ok(()),
                Event::Server(at, Ok(count)) if count > 0 => {
                    self.pass_on(at)?;
                    self.client.flush().await.map_err(|_| End::Gone)?;
                }
                Event::Server(at, _) => return Err(self.lose_tie(at)),
                Event::TooLong => {
                    return Err(End::Fatal(ClientError::new(
                        Code::IdleInTransaction,
                        "terminating connection due to idle-in-transaction timeout",
                        "End transactions soon, or raise timeouts.idle_in_transaction in the shard map.",
                    )));
                }
            }
        }
    }

    /// Gathers what a pinned server sent unasked: notifications and notices. True: there was something.
    ///
    /// # Errors
    /// The server breaks the protocol, and the session ends with what it kept there.
    fn pass_on(&mut self, place: usize) -> Result<bool, End> {
        let mut any = false;
        while let Some(link) = self.links.get_mut(place).filter(|link| link.pinned) {
            match link.connection.piece() {
                Ok(Some(crate::backend::Piece::Message(b'A' | b'N', range))) => {
                    self.client.push(link.connection.bytes(range));
                    any = true;
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a server connection is of no more use");
                    return Err(self.lose_tie(place));
                }
            }
        }
        Ok(any)
    }

    /// A connection is lost that the session was pinned to.
    fn lose_tie(&mut self, place: usize) -> End {
        self.lose(place);
        End::Fatal(ClientError::new(
            Code::ConnectionLost,
            "the server connection that this session was tied to is lost",
            "What was kept there (temporary tables, locks, LISTEN) is gone: connect again.",
        ))
    }

    async fn message(&mut self, message: Message) -> Result<(), End> {
        self.entered.begins();
        if matches!(message.kind, b'Q' | b'B') {
            self.ticket.begin();
        }
        if self.access.service.schema.is_stale() && !self.transaction.is_open() {
            // Mostly for a moment, where somebody changes tables quickly.
            let deadline = clock::now().plus(self.access.service.database.failover.wait);
            let schema = Arc::clone(&self.access.service.schema);
            Box::pin(async move { schema.fresh(deadline).await }).await;
        }
        match message.kind {
            b'Q' => self.simple(&message).await,
            b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S' => self.extended(&message).await,
            b'X' => Err(End::Gone),
            // What is left of a COPY that the server broke off.
            b'd' | b'c' | b'f' => Ok(()),
            b'F' => {
                if self.skipping {
                    return Ok(());
                }
                self.refuse(ClientError::unsupported(
                    "the function-call message is not supported",
                    "Call the function in a SELECT: the message is obsolete and names functions by number.",
                ));
                self.ready().await
            }
            other => Err(End::Fatal(ClientError::new(
                Code::ProtocolViolation,
                format_args!("message type \"{}\" has no place here", char::from(other)),
                "The session is closed: what follows cannot be read safely.",
            ))),
        }
    }

    /// Tells the client of an error of the proxy's own; an open transaction has failed.
    fn refuse(&mut self, error: ClientError) {
        self.note_refused();
        if error.code == Code::Internal {
            tracing::error!(%error, "an invariant is broken");
        }
        if !self.is_asked_again() {
            self.entered.refused(error.code);
        }
        reply::error(self.client.out(), Severity::Error, &error);
        self.transaction.failed = self.transaction.is_open();
    }

    /// Says ReadyForQuery, and sends everything.
    async fn ready(&mut self) -> Result<(), End> {
        let status = self.transaction.status();
        if status == b'E' {
            self.report();
        }
        reply::ready(self.client.out(), status);
        if self.is_asked_again() {
            return Ok(());
        }
        // Before the client knows: it may ask who it is at once, on another connection.
        self.answered();
        self.client.flush().await.map_err(|_| End::Gone)
    }

    /// The client is told that it may go on.
    fn answered(&self) {
        self.entered.ends(Answered {
            within: self.transaction.is_open(),
            received: self.client.came,
            sent: self.client.sent() + self.client.mark() as u64,
            prepared: self.prepared.len(),
        });
    }

    // ── the world ──

    /// The world that statements are compiled in now. Between transactions a new map or schema is taken up here.
    fn world(&mut self) -> Result<Rc<World>, ClientError> {
        let epoch = self.worker.current.epoch();
        if epoch != self.epoch && !self.transaction.is_open() && self.links.is_empty() {
            self.adopt(epoch);
        }
        if let Some(world) = &self.world {
            // The schema may have changed behind the proxy; a transaction goes on with the one it began with.
            if self.transaction.is_open() || self.access.service.schema.is_current(&world.schema) {
                return Ok(Rc::clone(world));
            }
        }
        let own = self.transaction.schema.as_ref().and_then(|it| it.schema.clone());
        let schema = own.map_or_else(|| self.access.service.schema.required(), Ok)?;
        let database = &self.access.service.database;
        let view = self.state.view(&self.transaction.local, database);
        let world = self.worker.planner.borrow_mut().world(database, &schema, &view);
        self.world = Some(Rc::clone(&world));
        Ok(world)
    }

    /// Takes up the deployment in force.
    fn adopt(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.world = None;
        let deployment = self.worker.current.load();
        let Some(service) = deployment.services.get(&self.database_name) else {
            // A removed database lives on for who is in it.
            return;
        };
        if Arc::ptr_eq(service, &self.access.service) && Arc::ptr_eq(&deployment.map, &self.map) {
            return;
        }
        let user = deployment.map.users.get(&self.user.name).unwrap_or(&self.user);
        self.user = Arc::clone(user);
        self.map = Arc::clone(&deployment.map);
        let login = start::server_login(&self.user);
        let old: Vec<Arc<str>> = self.access.service.database.shards.iter().map(|s| Arc::clone(&s.name)).collect();
        let new: Vec<Arc<str>> = service.database.shards.iter().map(|s| Arc::clone(&s.name)).collect();
        let nodes_differ = self.access.service.database.shards != service.database.shards;
        if old != new || nodes_differ {
            // What was seen was seen on nodes that may be numbered otherwise now: nothing older than this moment.
            let now = clock::now();
            self.floors = vec![Floor::default(); new.len()];
            for floor in &mut self.floors {
                floor.wrote(now);
            }
        }
        self.access = Rc::new(Access::new(
            Arc::clone(service),
            Arc::clone(&deployment.map),
            login,
            Rc::clone(&self.worker.pools),
            Arc::clone(self.entered.presence()),
        ));
    }

    /// Settings changed: what texts mean may have changed with them.
    fn settings_changed(&mut self) {
        self.world = None;
        self.entered.is_called(self.state.settings.value("application_name").map_or("", |it| it));
    }

    fn freshness(&self, shard: ShardId) -> Freshness {
        let database = &self.access.service.database;
        Freshness {
            consistency: self.state.consistency(&self.transaction.local, &self.user, database),
            floor: self.floors.get(shard.index()).copied().unwrap_or_default(),
        }
    }

    // ── links ──

    /// Whether messages of a batch have been taken in that are not answered yet.
    fn within_batch(&self) -> bool {
        self.deferred.is_some()
            || !self.items.is_empty()
            || self.batch.held.is_some()
            || self.links.iter().any(|link| link.unsynced || !link.out.is_empty())
    }

    /// Keeps a link while something of several steps is done with it, and tells its number.
    fn keep(&mut self, place: usize) -> u32 {
        match self.links.get_mut(place) {
            Some(link) => {
                link.kept = true;
                link.id
            }
            None => 0,
        }
    }

    /// Keeps a link no longer. Its place now, if it is still there.
    fn unkeep(&mut self, id: u32) -> Option<usize> {
        let place = self.links.iter().position(|link| link.id == id)?;
        if let Some(link) = self.links.get_mut(place) {
            link.kept = false;
        }
        Some(place)
    }

    /// The place of a link that this statement can use, if one is held.
    fn held(&self, shard: ShardId, access: plan::Access) -> Option<usize> {
        self.links.iter().position(|link| {
            link.shard == shard && (link.begun || link.pinned || access == plan::Access::Read || !link.replica)
        })
    }

    /// How new what is read there must be, where reads may go elsewhere than to the primary.
    fn choice(&self, shard: ShardId, access: plan::Access) -> Option<Freshness> {
        let reads = match self.transaction.kind {
            Kind::Explicit => self.transaction.outer_modes().read_only == Some(true) && access == plan::Access::Read,
            Kind::Implicit => false,
            Kind::None => access == plan::Access::Read,
        };
        // A replica refuses SERIALIZABLE.
        (reads && self.access.has_choice(shard) && self.isolation() != Isolation::Serializable)
            .then(|| self.freshness(shard))
    }

    /// The settings in force when the transaction (or batch) began: `default_transaction_…` counts from then.
    fn settings_at_begin(&self) -> &Arc<Settings> {
        if self.transaction.is_open() {
            return &self.transaction.settings_before;
        }
        self.batch.before.as_ref().unwrap_or(&self.state.settings)
    }

    /// How statements run now are isolated.
    fn isolation(&self) -> Isolation {
        self.transaction.modes.isolation.unwrap_or_else(|| {
            let level = self.mode_at_begin("default_transaction_isolation").map_or("", |level| level);
            if level.eq_ignore_ascii_case("serializable") {
                Isolation::Serializable
            } else if level.eq_ignore_ascii_case("repeatable read") {
                Isolation::RepeatableRead
            } else {
                Isolation::ReadCommitted
            }
        })
    }

    /// A setting when the transaction began: the session's, else the server's default.
    fn mode_at_begin(&self, name: &str) -> Option<&Arc<str>> {
        self.settings_at_begin().value(name).or_else(|| self.state.defaults.get(name))
    }

    /// The modes that a transaction chained to this one has, whatever the defaults are by then.
    fn modes_to_chain(&self, commits: bool) -> Modes {
        // ROLLBACK goes back to before every savepoint; what failed outside of any has lost its modes, on a server too.
        let mut modes = match (commits && !self.transaction.failed, self.transaction.savepoints.is_empty()) {
            (true, _) => self.transaction.modes.clone(),
            (false, true) if self.transaction.failed => return Modes::default(),
            (false, _) => self.transaction.outer_modes().clone(),
        };
        let is_on = |name: &str| self.mode_at_begin(name).map(|value| &**value == "on");
        modes.isolation = Some(self.isolation());
        modes.read_only = modes.read_only.or_else(|| is_on("default_transaction_read_only"));
        modes.deferrable = modes.deferrable.or_else(|| is_on("default_transaction_deferrable"));
        modes
    }

    /// The place of a link to that shard, fit for `access`, if none has to be waited for.
    fn join_now(&mut self, shard: ShardId, access: plan::Access) -> Option<usize> {
        self.note_access(access);
        self.joined_now(shard, access)
    }

    fn joined_now(&mut self, shard: ShardId, access: plan::Access) -> Option<usize> {
        if let Some(place) = self.held(shard, access) {
            return Some(place);
        }
        let link = match self.choice(shard, access) {
            Some(fresh) => self.access.read_now(shard, fresh),
            None => self.access.primary_now(shard),
        };
        link.map(|link| self.take_in(link))
    }

    /// The place of a link to that shard, fit for `access`.
    async fn join(&mut self, shard: ShardId, access: plan::Access) -> Result<usize, Trouble> {
        self.note_access(access);
        self.joined(shard, access).await
    }

    /// The same, for a request that goes nowhere beyond what it went to already: what is known of it stays.
    async fn joined(&mut self, shard: ShardId, access: plan::Access) -> Result<usize, Trouble> {
        let place = match self.joined_now(shard, access) {
            Some(place) => place,
            None => {
                // Boxed, so that the future of everything around it stays small.
                let link = Box::pin(self.wait_link(shard, self.choice(shard, access))).await?;
                self.take_in(link)
            }
        };
        self.settle_defaults(place).await?;
        Ok(place)
    }

    /// Notes a link as held. Its place.
    fn take_in(&mut self, mut link: Link) -> usize {
        self.ticket.add(&link.connection);
        self.next_link = self.next_link.wrapping_add(1);
        link.id = self.next_link;
        if !link.connection.manner.is(&self.manner) {
            self.keep_manner(&Arc::clone(&link.connection.manner));
        }
        self.links.push(link);
        self.links.len() - 1
    }

    /// A connection has other defaults than this session began with: from now on the session says its own, as if the
    /// client had done so in its startup packet.
    fn keep_manner(&mut self, other: &Manner) {
        let own = Arc::clone(&self.manner);
        let lists = [&mut self.state.startup, &mut self.state.settings];
        let before = self.transaction.is_open().then_some(&mut self.transaction.settings_before);
        let savepoints = self.transaction.savepoints.iter_mut().map(|it| &mut it.settings);
        // What was one list stays one list.
        let mut done: SmallVec<[(Arc<Settings>, Arc<Settings>); 4]> = SmallVec::new();
        for list in lists.into_iter().chain(before).chain(savepoints).chain(self.batch.before.as_mut()) {
            let known = done.iter().find(|(old, _)| Arc::ptr_eq(old, list)).map(|(_, new)| Arc::clone(new));
            let new = known.unwrap_or_else(|| {
                let lacking = own.beside(other).filter(|(name, _)| list.value(name).is_none());
                // A list that lacks nothing is left: equal lists are one pointer.
                let new = lacking.fold(Arc::clone(list), |all, (name, value)| Arc::new(all.with(name, value)));
                done.push((Arc::clone(list), Arc::clone(&new)));
                new
            });
            *list = new;
        }
        self.settings_changed();
    }

    /// A link that has to be waited for.
    async fn wait_link(&self, shard: ShardId, fresh: Option<Freshness>) -> Result<Link, ClientError> {
        let entry = if self.links.is_empty() { Entry::New } else { Entry::Joins };
        let joining = async {
            match fresh {
                Some(fresh) => self.access.read(shard, fresh, entry).await,
                None => self.access.primary(shard, entry).await,
            }
        };
        exec::within(self.map.timeouts.statement, joining).await.unwrap_or_else(|| {
            Err(ClientError::new(
                Code::TimedOut,
                "canceling statement due to the proxy's statement timeout",
                "Raise timeouts.statement in the shard map, or find out why no server connection is free.",
            ))
        })
    }

    /// Links to all of `shards`; replicas only or primaries only.
    async fn join_all(&mut self, shards: &ShardSet, access: plan::Access) -> Result<SmallVec<[u8; 8]>, Trouble> {
        // Who waits for a shard that nobody reaches, or that is paused, holds no other's connection meanwhile.
        for shard in shards.iter() {
            let topology = &self.access.service.topology;
            if topology.primary(shard).is_none() || topology.queue(shard).is_busy() {
                self.join(shard, access).await?;
            }
        }
        let mut places: SmallVec<[usize; 8]> = SmallVec::new();
        for shard in shards.iter() {
            places.push(self.join(shard, access).await?);
        }
        let mixed = places.iter().any(|at| self.links.get(*at).is_some_and(|link| link.replica))
            && places.iter().any(|at| self.links.get(*at).is_some_and(|link| !link.replica));
        if mixed && places.len() > 1 {
            for (place, shard) in places.iter_mut().zip(shards.iter()) {
                if self.links.get(*place).is_some_and(|link| link.replica && !link.begun && !link.pinned) {
                    // What a replica may serve stays just that, wherever it runs.
                    *place = self.joined(shard, plan::Access::ReadPrimary).await?;
                }
            }
        }
        Ok(places.into_iter().map(|at| u8::try_from(at).unwrap_or(u8::MAX)).collect())
    }

    /// Sees to it that settings that count for whole transactions only (`default_transaction_…`) have been said on a link
    /// before one begins there.
    async fn settle_defaults(&mut self, place: usize) -> Result<(), Trouble> {
        let lacks = self.links.get(place).is_some_and(|link| {
            !Arc::ptr_eq(&link.connection.settings, self.settings_at_begin())
                && !link.begun
                && !link.unsynced
                && !self.said_before(link).is_empty()
        });
        // Boxed, so that the future of everything around it stays small.
        if lacks { Box::pin(self.bring_defaults(place)).await } else { Ok(()) }
    }

    /// What must be said on a link before a transaction begins there: all settings that differ if saying them within it
    /// would take the one snapshot that it has.
    fn said_before(&self, link: &Link) -> settings::Difference {
        let mut difference = link.connection.settings.difference(self.settings_at_begin());
        if self.isolation() == Isolation::ReadCommitted { difference.take_defaults() } else { difference }
    }

    /// Says those settings, and waits for the answer: said in the statement's own transaction they would not count for
    /// it, and said before it in the same flight they could fail (by a cancel) and the statement be run all the same.
    async fn bring_defaults(&mut self, place: usize) -> Result<(), Trouble> {
        let Some(defaults) = self.links.get(place).map(|link| self.said_before(link)) else { return Ok(()) };
        let Some(link) = self.links.get_mut(place) else { return Ok(()) };
        let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(place).unwrap_or(u8::MAX)]);
        let mut items = Vec::new();
        // What failed is told behind what was asked before it.
        if link.say_close_setter() {
            close_items(&mut items, &links, Show::Caller);
        }
        let count = say::settings(&mut link.out, &defaults);
        setter_items(&mut items, &links, count, Show::Caller);
        link.say_sync();
        items.push(Item::Owed { expect: Expect::Sync, links, show: Show::Caller, prepares: 0 });
        let outcome = self.fly_aside(&items).await?;
        if outcome.failed.is_some() {
            // It failed in a transaction of its own, which is over.
            if let Some(link) = self.links.get_mut(place) {
                link.spoiled = false;
            }
            return Err(Trouble::Told(simple::only_error(&outcome.collected)));
        }
        if let Some(link) = self.links.get_mut(place) {
            link.connection.settings = Arc::new(link.connection.settings.changed_by(&defaults));
            link.committed = Arc::clone(&link.connection.settings);
        }
        Ok(())
    }

    /// Carries out what is no part of what the client asked for, whatever of that is gathered.
    async fn fly_aside(&mut self, items: &[Item]) -> Result<Outcome, Trouble> {
        // What is gathered goes out with it.
        self.say_flush();
        let mut crew = Crew { links: &mut self.links, client: &mut self.client, offset: 0 };
        let trouble = match exec::within(self.map.timeouts.statement, flight::run(items, &mut crew, false)).await {
            Some(Ok(outcome)) => return Ok(outcome),
            Some(Err(lost)) => self.trouble(lost),
            None => self.timed_out(),
        };
        // What is gathered names links by their places, which are others now: it ends with the links that owed it.
        self.items.clear();
        self.executed.clear();
        self.readback.clear();
        self.take_back(0, *b"08006");
        Err(trouble)
    }

    /// Asks servers for the answers to what is said without a Sync.
    fn say_flush(&mut self) {
        for link in self.links.iter_mut().filter(|link| link.unsynced && !link.out.is_empty()) {
            exec::say::flush(&mut link.out);
        }
    }

    /// What is said on a link before the statement itself: BEGIN, savepoints, settings that differ, constraints.
    fn prefix(&mut self, place: usize) {
        let wanted = Arc::clone(&self.state.settings);
        let Some(link) = self.links.get_mut(place) else { return };
        let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(place).unwrap_or(u8::MAX)]);
        let settled =
            Arc::ptr_eq(&link.connection.settings, &wanted) && Arc::ptr_eq(&link.local, &self.transaction.local);
        if !settled && link.say_close_setter() {
            close_items(&mut self.items, &links, Show::Nobody);
        }
        let opens = self.transaction.is_open() && !link.begun;
        if opens {
            // Before any setting: a statement before BEGIN would be the transaction's first, and its isolation could no
            // longer be chosen.
            // Not as a Query: should it fail (by a cancel), what comes behind it must not run outside of a transaction.
            for statement in self.transaction.opening() {
                link.say_unnamed(&statement);
                for expect in [Expect::Parse, Expect::Bind, Expect::Execute] {
                    let show = Show::Nobody;
                    self.items.push(Item::Owed { expect, links: links.clone(), show, prepares: 0 });
                }
            }
            link.begun = true;
            link.marks = vec![link.mark(); self.transaction.savepoints.len()];
        }
        // What SET LOCAL did and does no longer: it is not known what the server goes back to.
        if !Arc::ptr_eq(&link.local, &self.transaction.local) {
            for (name, _) in link.local.iter().filter(|(name, _)| self.transaction.local.value(name).is_none()) {
                link.connection.settings = Arc::new(link.connection.settings.with(name, settings::UNKNOWN));
            }
        }
        if !Arc::ptr_eq(&link.connection.settings, &wanted) {
            let difference = link.connection.settings.difference(&wanted);
            let count = say::settings(&mut link.out, &difference);
            // Said for the session, it takes the place of what SET LOCAL did.
            for name in difference.set.iter().map(|(name, _)| name).chain(&difference.reset) {
                if link.local.value(name).is_some() {
                    link.local = Arc::new(link.local.without(name));
                }
            }
            setter_items(&mut self.items, &links, count, Show::Nobody);
            link.connection.settings = wanted;
        }
        if !Arc::ptr_eq(&link.local, &self.transaction.local) {
            let statements = link.local.difference(&self.transaction.local).local_statements();
            for statement in &statements {
                say::setter(&mut link.out, statement);
            }
            setter_items(&mut self.items, &links, statements.len(), Show::Nobody);
            link.local = Arc::clone(&self.transaction.local);
        }
        // Behind the settings: names of constraints are looked up along the search_path.
        let constraints = self.transaction.constraints.get(link.constraints..).unwrap_or_default();
        if !constraints.is_empty() {
            link.say_query(&constraints.join("; "));
            link.constraints += constraints.len();
            self.items.push(query_item(&links));
        }
    }

    /// Whether the open transaction (or batch) may do this on that shard; notes it when so.
    fn admit(&mut self, shards: &ShardSet, access: plan::Access, effects: &Effects) -> Result<(), ClientError> {
        self.admit_at(shards, shards, access, effects)
    }

    /// The same for a statement whose `now()` is asked on `clocks` only.
    fn admit_at(
        &mut self,
        shards: &ShardSet,
        clocks: &ShardSet,
        access: plan::Access,
        effects: &Effects,
    ) -> Result<(), ClientError> {
        self.directory_changed |= effects.changes_directory;
        if effects.locks_tables {
            return self.admit_lock(shards);
        }
        if access == plan::Access::Write {
            if self.transaction.is_open() {
                let mut writers = self.transaction.writers.clone();
                for shard in shards.iter().filter(|it| !self.transaction.writers.contains(*it)) {
                    if !writers.is_empty() {
                        self.may_write_too(&writers, shard)?;
                    }
                    writers.insert(shard);
                }
                self.transaction.writers = writers;
            } else {
                for shard in shards.iter() {
                    self.admit_in_batch(shard)?;
                }
            }
        }
        let drew = if self.transaction.is_open() { &mut self.transaction.drew } else { &mut self.batch.drew };
        if effects.asks_drawn && !*drew {
            return Err(ClientError::unsupported(
                "currval and lastval of numbers that this transaction has not taken are not supported: the next statement \
                 may run on another connection",
                "Use RETURNING; or ask in the transaction that takes them, behind the statement that does.",
            ));
        }
        *drew |= effects.draws_surely;
        if effects.draws {
            self.seen.counted_elsewhere();
        }
        if effects.uses_now
            && let Some(shard) = clocks.first()
        {
            // What is said before a Sync is one transaction, and may become one over several shards.
            let open = self.transaction.is_open();
            let clock = if open { &mut self.transaction.clock } else { &mut self.batch.clock };
            match *clock {
                Some(before) if (before != shard || clocks.len() > 1) && (open || access == plan::Access::Write) => {
                    return Err(ClientError::unsupported(
                        "now() on a second shard of one transaction is not supported",
                        "A transaction has one now(); read it once and pass it as a parameter, or use \
                         clock_timestamp().",
                    ));
                }
                Some(_) if !open => {}
                _ => *clock = Some(shard),
            }
        }
        if !self.transaction.is_open() {
            let used: ShardSet = self.batch.used.iter().chain(shards.iter()).collect();
            self.at_one_moment_only(&used, shards, access)?;
            self.batch.used = used;
            return Ok(());
        }
        let used: ShardSet = self.transaction.used.iter().chain(shards.iter()).collect();
        self.at_one_moment_only(&used, shards, access)?;
        self.transaction.used = used;
        Ok(())
    }

    /// The same for LOCK TABLE, which writes nothing and sees nothing.
    fn admit_lock(&mut self, shards: &ShardSet) -> Result<(), ClientError> {
        let open = self.transaction.is_open();
        if open && self.moment_due_in_transaction(true) {
            // The moment is still to come.
            self.transaction.locked = true;
            return Ok(());
        }
        let used = if open { &self.transaction.used } else { &self.batch.used };
        let used: ShardSet = used.iter().chain(shards.iter()).collect();
        self.at_one_moment_only(&used, shards, plan::Access::Write)?;
        if open {
            self.transaction.used = used;
        } else {
            self.batch.used = used;
        }
        Ok(())
    }

    /// The same for a write outside of a transaction, which may not span shards.
    fn admit_in_batch(&mut self, shard: ShardId) -> Result<(), ClientError> {
        match self.batch_writer {
            Some(before) if before != shard => {
                let database = &self.access.service.database;
                Err(ClientError::new(
                    Code::SecondWritingShard,
                    format_args!(
                        "transaction writes shard \"{}\" and would write shard \"{}\" too",
                        database.shard(before).name,
                        database.shard(shard).name
                    ),
                    "Say BEGIN before it.",
                ))
            }
            _ => {
                self.batch_writer = Some(shard);
                Ok(())
            }
        }
    }

    /// The shard for what any shard can answer: one that has joined, else each that lives in turn.
    fn any_shard(&mut self) -> ShardId {
        if let Some(link) = self.links.iter().find(|link| link.begun || link.unsynced || link.pinned) {
            return link.shard;
        }
        self.turn = self.turn.wrapping_add(1);
        self.access.service.topology.in_turn(usize::from(self.turn))
    }

    /// The shards of a plan whose text goes to servers as it is.
    fn shards(&mut self, plan: &Plan) -> Result<ShardSet, ClientError> {
        Ok(match plan {
            Plan::One(shard) => ShardSet::one(*shard),
            Plan::Any => ShardSet::one(self.any_shard()),
            Plan::Concat(shards) => shards.clone(),
            Plan::Gather(_)
            | Plan::Shadow(_)
            | Plan::Split(_)
            | Plan::Copy(_)
            | Plan::Draw
            | Plan::Carry
            | Plan::LookUp(_) => {
                return Err(ClientError::unsupported(
                    "this statement across shards is not supported here",
                    "Send it by itself, as a Query or by Parse, Bind and Execute.",
                ));
            }
            Plan::Everywhere => ShardSet::all(self.access.service.database.shards.len()),
            // LISTEN and NOTIFY: what is not about rows has its home on the catalog shard.
            Plan::Session => ShardSet::one(self.access.service.database.catalog),
        })
    }

    /// Carries out what has been put together in `items`; then no item is left.
    async fn fly(&mut self, offset: u32, last: bool) -> Result<Outcome, Trouble> {
        let mut items = std::mem::take(&mut self.items);
        let flown = {
            let mut crew = Crew { links: &mut self.links, client: &mut self.client, offset };
            let flying = pin!(flight::run(&items, &mut crew, last));
            match exec::limit(self.map.timeouts.statement) {
                None => Ok(flying.await),
                Some(limit) => Box::pin(tokio::time::timeout(limit, flying)).await,
            }
        };
        let Ok(result) = flown else { return Err(self.timed_out()) };
        let result = match result {
            Ok(outcome) => Ok(outcome),
            Err(lost) => Err(self.trouble(lost)),
        };
        items.clear();
        self.items = items;
        let outcome = result?;
        if outcome.failed.is_some() && self.links.iter().any(|link| link.skips && !link.unsynced) {
            Box::pin(self.resync()).await?;
        }
        self.after(outcome.failed.is_some());
        Ok(outcome)
    }

    /// The statement ran into the proxy's own limit: it is cancelled, and its connections are closed.
    fn timed_out(&mut self) -> Trouble {
        // What wrote outside of a transaction may have committed before the cancel got there.
        let unknown = !self.transaction.is_open() && self.links.iter().any(|link| link.wrote && link.due > 0);
        let within_row = self.client.within_row;
        for place in (0..self.links.len()).rev() {
            if self.links.get(place).is_some_and(|link| link.due > 0 || link.unsynced || link.begun) {
                self.links.get(place).inspect(|link| Ticket::cancel_now(&link.connection));
                self.lose(place);
            }
        }
        if within_row {
            // The client has got a part of a row: nothing more can be said to it.
            return Trouble::End(End::Gone);
        }
        Trouble::Refused(if unknown {
            ClientError::new(
                Code::OutcomeUnknown,
                "the write ran into the proxy's statement timeout before it was acknowledged",
                "Look whether it was done before running it again.",
            )
        } else {
            ClientError::new(
                Code::TimedOut,
                "canceling statement due to the proxy's statement timeout",
                "Raise timeouts.statement in the shard map, or make the statement faster.",
            )
        })
    }

    /// A flight could not be finished.
    fn trouble(&mut self, lost: Lost) -> Trouble {
        match lost {
            Lost::Client(error) => error.into(),
            Lost::Violation(error) if error.code == Code::ProtocolViolation => Trouble::End(End::Fatal(error)),
            Lost::Violation(error) => {
                self.drop_busy();
                Trouble::Refused(error)
            }
            Lost::Server { link, last_words, within_row, .. } => {
                let (name, wrote) = match self.links.get(link) {
                    Some(held) => (self.access.node_name(held.node).to_owned(), held.wrote),
                    None => (String::new(), false),
                };
                self.access.service.topology.hurry(self.links.get(link).map(|it| it.shard));
                if let Some(words) = &last_words {
                    let said = flight::fields(words)
                        .find(|(kind, _)| *kind == b'M')
                        .map(|(_, text)| String::from_utf8_lossy(text).into_owned());
                    tracing::warn!(node = name, said, "a server closed a connection");
                }
                let open = self.transaction.is_open();
                if !open && !wrote && !within_row {
                    self.note_lost();
                }
                self.lose(link);
                self.drop_busy();
                if within_row {
                    return Trouble::End(End::Gone);
                }
                // Whether the server had come to the write when it went is not to be seen from what it had answered.
                let error = if open || !wrote {
                    command::not_done(&name)
                } else {
                    ClientError::new(
                        Code::OutcomeUnknown,
                        format_args!("the connection to node \"{name}\" was lost before the write was acknowledged"),
                        "Look whether it was done before running it again.",
                    )
                };
                let said = last_words.as_deref().and_then(|words| {
                    flight::fields(words)
                        .find(|(kind, _)| *kind == b'M')
                        .map(|(_, text)| String::from_utf8_lossy(text).into_owned())
                });
                Trouble::Refused(match said {
                    Some(said) => error.with_detail(format!("The server said: {said}.")),
                    None => error,
                })
            }
        }
    }

    /// A link's connection is lost, and with it the transaction that it was part of.
    fn lose(&mut self, place: usize) {
        if place >= self.links.len() {
            return;
        }
        let link = self.links.remove(place);
        let _ = self.ticket.remove(&link.connection);
        self.sync_eaten |= link.sync_eaten;
        if link.begun && self.transaction.is_open() {
            self.transaction.failed = true;
            self.transaction.lost = true;
        }
        if link.pinned {
            self.state.pins.retain(|(shard, _)| *shard != link.shard);
            self.world = None;
        }
        self.cursors.retain(|_, shard| *shard != link.shard);
    }

    /// Closes every link that owes an answer nobody will wait for.
    fn drop_busy(&mut self) {
        for place in (0..self.links.len()).rev() {
            if self.links.get(place).is_some_and(|link| link.due > 0 || link.unsynced || !link.out.is_empty()) {
                self.lose(place);
            }
        }
    }

    /// Takes stock after a flight: transactions that ended, what was seen, links that go back.
    fn after(&mut self, failed: bool) {
        let mut now = None;
        for link in &mut self.links {
            if link.due > 0 {
                continue;
            }
            link.connection.rest();
            if link.status == b'E' {
                self.transaction.failed = true;
            }
            if !link.unsynced && !link.begun && link.status == b'I' {
                // By its own errors: another server's do not undo what this one did, and it may have failed a flight ago.
                let good = !link.spoiled;
                if link.wrote && good {
                    note_write(&mut self.floors, link, &mut now);
                }
                link.ended(good);
            }
            if let Some(chosen) = link.chosen {
                let now = *now.get_or_insert_with(clock::now);
                if let Some(floor) = self.floors.get_mut(link.shard.index()) {
                    floor.read(chosen, now);
                }
            }
        }
        if failed && self.transaction.is_open() {
            self.transaction.failed = true;
        }
        if self.directory_changed && !self.links.iter().any(|link| link.begun || link.unsynced) {
            let database = Arc::clone(&self.access.service.database);
            self.directory_has_changed(&database);
        }
        self.release_idle();
    }

    /// Gives back every link that nothing holds.
    fn release_idle(&mut self) {
        let mut place = 0;
        while let Some(link) = self.links.get(place) {
            let awaited = self.readback.iter().any(|(id, _)| *id == link.id);
            let wanted = link.begun || link.pinned || link.kept || link.unsynced || awaited || !link.out.is_empty();
            let broken = link.due > 0 && !link.unsynced && link.out.is_empty() && self.items.is_empty();
            if wanted && !broken {
                place += 1;
                continue;
            }
            if broken && (link.begun || link.pinned) {
                self.lose(place);
                continue;
            }
            let link = self.links.swap_remove(place);
            // A cancel request on its way might hit whoever has the connection next.
            if self.ticket.remove(&link.connection) {
                self.access.release(link);
            }
        }
    }

    /// Pins what a statement left on its connection.
    fn pin(&mut self, place: usize, pin: &Pin) {
        let Some(link) = self.links.get_mut(place) else { return };
        link.pinned = true;
        let pin = (link.shard, pin.clone());
        if !self.state.pins.contains(&pin) {
            self.state.pins.push(pin);
            self.world = None;
        }
    }
}

fn note_write(floors: &mut [Floor], link: &Link, now: &mut Option<clock::Tick>) {
    if link.chosen.is_some()
        && let Some(floor) = floors.get_mut(link.shard.index())
    {
        floor.wrote(*now.get_or_insert_with(clock::now));
    }
}

/// What a Query of the proxy's own owes.
fn query_item(links: &SmallVec<[u8; 8]>) -> Item {
    Item::Owed { expect: Expect::Query, links: links.clone(), show: Show::Nobody, prepares: 0 }
}

/// What [`Link::say_close_setter`] owes.
fn close_items(items: &mut Vec<Item>, links: &SmallVec<[u8; 8]>, show: Show) {
    for _ in 0..2 {
        items.push(Item::Owed { expect: Expect::Close, links: links.clone(), show, prepares: 0 });
    }
}

/// What `count` setters owe.
fn setter_items(items: &mut Vec<Item>, links: &SmallVec<[u8; 8]>, count: usize, show: Show) {
    for _ in 0..count {
        for expect in [Expect::Parse, Expect::Bind, Expect::Execute, Expect::Close, Expect::Close] {
            let prepares = if expect == Expect::Close { say::SETTER_NUMBER } else { 0 };
            items.push(Item::Owed { expect, links: links.clone(), show, prepares });
        }
    }
}
