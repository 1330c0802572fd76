//! One client of MySQL's protocol.
//!
//! [`Session::serve`] is the loop to read first: one command after the other, each answered before the next is read.
//! `text` runs queries, `prepared` what was prepared before, `transaction` and `settings` hold what was said before, and
//! `start` lets a client in.

mod again;
mod assign;
mod command;
mod cursor;
mod ddl;
mod for_statement;
mod gather;
pub mod kill;
mod last;
mod load;
pub mod login;
mod merge;
mod named;
pub mod numbers;
mod pins;
mod prepared;
mod reads;
mod say;
mod settings;
mod span;
mod split;
mod start;
mod text;
mod tracking;
mod transaction;
mod two_phase;
mod unite;
mod usual;
mod warnings;

use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec;
use crate::exec::clients::Answered;
use crate::exec::clients::Entered;
use crate::exec::mysql::Access;
use crate::exec::mysql::Client;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay::Broken;
use crate::exec::mysql::relay::Face;
use crate::plan::World;
use crate::session::Worker;
use crate::session::leaving::Wait;
use crate::shard_map::ShardMap;
use crate::shard_map::User;
use crate::wire::mysql::command::Command;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::status;
use crate::wire::mysql::tracking::Tracking;

use self::last::Last;
use self::pins::Pins;
use self::prepared::Statements;
use self::reads::Reads;
use self::settings::State;
use self::transaction::Transaction;
use self::warnings::Warnings;

/// One client.
#[derive(Debug)]
pub struct Session {
    worker: Rc<Worker>,
    client: Client,
    user: Arc<User>,
    map: Arc<ShardMap>,
    /// The database in use, by the map's name for it, or one whose servers are asked while none is; `None`: there is none.
    used: Option<Used>,
    epoch: u64,
    state: State,
    transaction: Transaction,
    /// Connections that the session holds between statements.
    links: Vec<Link>,
    pins: Pins,
    prepared: Statements,
    /// Those of SQL's PREPARE.
    named: named::Named,
    /// Of the execution at hand.
    opening: cursor::Opening,
    warnings: Warnings,
    last: Last,
    reads: Reads,
    /// Several statements may stand in one query.
    multi: bool,
    turn: usize,
    /// By what others name it.
    ticket: kill::Ticket,
    entered: Entered,
    /// The servers that it holds connections to.
    held: kill::Held,
    /// What the session had left on a connection is gone with it: so it ends, as it would on a server.
    ends: bool,
    /// The command at hand, as long as it may be done again.
    request: again::Request,
}

/// A database in use.
#[derive(Debug)]
struct Used {
    name: Arc<str>,
    selected: Selected,
    access: Rc<Access>,
    world: Option<Rc<World>>,
}

/// Whether the client has selected a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selected {
    Yes,
    /// The servers of this one answer what needs no database.
    No,
}

/// Why a session stops doing what it was doing.
#[derive(Debug)]
enum Trouble {
    /// The client is told, and goes on.
    Refused(ClientError),
    /// The same in a server's own words, or in MySQL's.
    Failed(Failure),
    /// The client has been told already.
    Told,
    /// The session ends.
    Gone,
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Session {
    /// Serves the client until it leaves.
    pub async fn serve(mut self: Box<Self>) {
        let worker = Rc::clone(&self.worker);
        let mut stop = pin!(worker.leaving.changed.notified());
        // Once is enough: the task that is to be woken stays the same, and [`Self::idle`] looks for itself.
        poll_fn(|cx| {
            self.ticket.entry.wakes(cx.waker());
            Poll::Ready(stop.as_mut().poll(cx).is_ready())
        })
        .await;
        let mut payload = Vec::new();
        loop {
            match self.client.command(&mut payload) {
                Ok(true) => {}
                Ok(false) => {
                    if !self.idle().await {
                        break;
                    }
                    continue;
                }
                Err(violation) => {
                    self.client.put_failure(&say::failure(&violation));
                    // The client may be gone; then there is nobody to tell.
                    let _ = self.client.flush().await;
                    break;
                }
            }
            let now = self.ticket.begin();
            self.entered.begins_at(now);
            let goes_on = loop {
                self.held.begin(&self.links);
                self.begin_request();
                let goes_on = match self.put_usual(&payload) {
                    Some(mut usual) => {
                        let came = poll_fn(|cx| self.poll_usual(cx, &mut usual)).await;
                        match self.passed(usual, came) {
                            None => true,
                            Some((usual, came)) => Box::pin(self.go_on(usual, came)).await,
                        }
                    }
                    None => self.command_within_limits(&payload).await,
                };
                if !self.has_lost() || !Box::pin(self.goes_again()).await {
                    break goes_on;
                }
            };
            if self.client.told_deadlock {
                Box::pin(self.doomed()).await;
            }
            if self.held.was_struck() {
                Box::pin(self.settle()).await;
            }
            self.ticket.end();
            if payload.capacity() > PAYLOAD_KEPT {
                payload = Vec::new();
            }
            // Before the client knows, where it does not yet.
            self.entered.ends(Answered {
                within: self.is_within(),
                received: self.client.came,
                sent: self.client.went + self.client.unsent() as u64,
                prepared: self.prepared.len(),
            });
            if self.client.flush().await.is_err() || !goes_on || self.ends || self.ticket.is_over() {
                break;
            }
        }
        for link in self.links.drain(..) {
            if let Some(used) = &self.used {
                used.access.release(link);
            }
        }
    }

    /// Answers one command, as long as it may take and nobody has it stop. False: the session ends.
    async fn command_within_limits(&mut self, payload: &[u8]) -> bool {
        // Each statement has its own limit; this one is for what stands around it.
        let limit = exec::limit(self.map.timeouts.statement).map(|it| it * 2 + COMMAND_MORE);
        let (entry, held) = (Arc::clone(&self.ticket.entry), self.held.clone());
        // Boxed, as all that is seldom done: every session has the future around it.
        let command = Box::pin(self.command(payload));
        match limit {
            Some(limit) => {
                let command = tokio::time::timeout(limit, command);
                kill::stoppable(&entry, &held, command).await.unwrap_or(false)
            }
            None => kill::stoppable(&entry, &held, command).await,
        }
    }

    /// Waits for the client. False: the session ends.
    async fn idle(&mut self) -> bool {
        let limit = self.is_within().then(|| exec::limit(self.map.timeouts.idle_in_transaction)).flatten();
        let mut sleep = limit.map(|span| Box::pin(tokio::time::sleep(span)));
        enum Event {
            Client(io::Result<usize>),
            Stopping,
            TooLong,
        }
        let (within, tied) = (self.is_within(), self.links.iter().any(|it| it.pinned));
        let mut leaving = Wait::default();
        let event = poll_fn(|cx| {
            if self.ticket.is_over() {
                return Poll::Ready(Event::Stopping);
            }
            if !within && leaving.is_over(&self.worker.leaving, tied, cx) {
                return Poll::Ready(Event::Stopping);
            }
            if let Poll::Ready(result) = self.client.poll_read(cx) {
                return Poll::Ready(Event::Client(result));
            }
            match sleep.as_mut().map(|it| it.as_mut().poll(cx).is_ready()) {
                Some(true) => Poll::Ready(Event::TooLong),
                _ => Poll::Pending,
            }
        });
        match event.await {
            Event::Client(Ok(count)) => count > 0,
            Event::Client(Err(error)) => {
                tracing::debug!(%error, "a client's connection broke");
                false
            }
            // A client hears of it when it says something next, as on a server that stops.
            Event::Stopping | Event::TooLong => false,
        }
    }

    /// Answers one command. False: the session ends.
    async fn command(&mut self, payload: &[u8]) -> bool {
        let command = match Command::read(payload, self.client.capabilities) {
            Ok(command) => command,
            // To those without an answer nothing is said.
            Err(_) if Command::has_no_answer(payload) => return true,
            Err(violation) => {
                self.client.put_failure(&say::failure(&violation.into()));
                return true;
            }
        };
        if let Command::Quit = command {
            return false;
        }
        let mut result = self.answer(command, payload).await;
        // What failed while a file was on its way is told behind it.
        if !matches!(result, Err(Trouble::Gone)) && self.client.skip_file().await.is_err() {
            result = Err(Trouble::Gone);
        }
        self.told(result)
    }

    /// Tells the client what has not been told yet of how a command came out. False: the session ends.
    fn told(&mut self, result: Result<(), Trouble>) -> bool {
        self.raise_floors();
        if matches!(result, Err(Trouble::Refused(_))) && self.is_asked_again() {
            return true;
        }
        // Within a payload nothing else can be said.
        if self.client.within_payload {
            return false;
        }
        match result {
            Ok(()) | Err(Trouble::Told) => true,
            Err(Trouble::Refused(error)) => {
                self.entered.refused(error.code);
                let failure = say::failure(&error);
                self.warnings.of_failure(&failure);
                self.last.no_count();
                self.client.put_failure(&failure);
                true
            }
            Err(Trouble::Failed(failure)) => {
                self.warnings.of_failure(&failure);
                self.last.no_count();
                self.client.put_failure(&failure);
                true
            }
            Err(Trouble::Gone) => {
                // Nobody waits for what servers still do.
                self.held.abandon();
                false
            }
        }
    }

    async fn answer(&mut self, command: Command<'_>, payload: &[u8]) -> Result<(), Trouble> {
        match command {
            // The first is answered before.
            Command::Quit => Err(Trouble::Gone),
            // Warnings stay.
            Command::Ping => {
                self.last.done();
                self.put_done(false);
                Ok(())
            }
            Command::InitDb(name) => {
                let name = std::str::from_utf8(name).map_err(|_| say::not_utf8())?.to_owned();
                self.use_database(&name)?;
                self.done(false);
                Ok(())
            }
            Command::Query(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => self.query(text, None).await,
                Err(_) => {
                    let masked = text::masked(bytes);
                    Box::pin(self.query(&masked, Some(bytes))).await
                }
            },
            Command::Prepare(text) => {
                let text = std::str::from_utf8(text).map_err(|_| say::not_utf8())?;
                self.prepare(text).await
            }
            Command::Execute(execute) => self.execute(&execute).await,
            // It is answered with nothing: what is wrong with it is said at Execute.
            Command::LongData { statement, parameter, bytes } => {
                self.prepared.add(statement, parameter, bytes, self.map.limits.message);
                Ok(())
            }
            Command::Close(statement) => {
                if let Some(cursor) = self.prepared.close(statement) {
                    Box::pin(self.close_cursor(cursor)).await;
                }
                Ok(())
            }
            Command::Reset(statement) => {
                if let Some(cursor) = self.prepared.reset(statement)? {
                    Box::pin(self.close_cursor(cursor)).await;
                }
                self.done(false);
                Ok(())
            }
            Command::SetOption(option) => {
                self.multi = match option {
                    0 => true,
                    1 => false,
                    _ => return Err(say::unknown_command().into()),
                };
                let flags = self.face(false).status(self.usual_status());
                self.client.put(&crate::wire::mysql::result::end_of_rows(0, flags));
                Ok(())
            }
            Command::ResetConnection => {
                self.begin_anew();
                self.done(false);
                Ok(())
            }
            Command::Statistics => Box::pin(self.statistics(payload)).await,
            Command::Fetch { statement, rows } => Box::pin(self.fetch(statement, rows)).await,
            Command::FieldList { .. } => self.field_list(payload).await,
            Command::ProcessKill(number) => {
                Box::pin(self.kill(number, false)).await?;
                self.done(false);
                Ok(())
            }
            Command::ChangeUser(request) => Box::pin(self.change_user(request)).await,
            Command::Other(PROCESS_INFO) => self.show_processes(false).await,
            // What a user hears who may not do it on one server: it is each server's own affair.
            Command::Other(REFRESH) => Err(say::denied("RELOAD").into()),
            Command::Other(DEBUG) => Err(say::denied("SUPER").into()),
            Command::Other(_) => Err(say::unknown_command().into()),
        }
    }

    /// Forgets what was said in the session.
    fn begin_anew(&mut self) {
        // Closed, they leave nothing behind.
        self.links.clear();
        self.pins = Pins::default();
        self.transaction = Transaction::default();
        self.prepared = Statements::default();
        self.named.clear();
        self.state = self.state.fresh();
        self.warnings = Warnings::default();
        self.last.reset();
        self.reads.as_usual();
        self.client.tracking = Tracking::default();
        self.forget_world();
    }

    // ── what all answers need ──

    /// Says that it is done. It names no table, which leaves the warnings of the statement before, and has none of its own.
    fn done(&mut self, more: bool) {
        self.last.done();
        self.put_done(more);
    }

    /// The same where a server has warned of something: what, is known already.
    fn done_with(&mut self, warnings: u16, more: bool) {
        if warnings == 0 {
            return self.done(more);
        }
        self.last.done();
        let done = Done { status: self.face(more).status(self.usual_status()), warnings, ..Done::default() };
        self.client.put_done(&done);
    }

    fn put_done(&mut self, more: bool) {
        let done = Done { status: self.face(more).status(self.usual_status()), ..Done::default() };
        self.client.put_done(&done);
    }

    fn usual_status(&self) -> u16 {
        let mut flags = 0;
        if self.state.autocommit() {
            flags |= status::AUTOCOMMIT;
        }
        if self.is_within() && self.reads_only() {
            flags |= status::IN_TRANSACTION_READ_ONLY;
        }
        if self.state.keeps_backslashes() {
            flags |= status::NO_BACKSLASH_ESCAPES;
        }
        flags
    }

    fn face(&self, more: bool) -> Face {
        Face { in_transaction: self.is_within(), more, insert_id: None }
    }

    /// Whether a transaction is open, with or without BEGIN.
    fn is_within(&self) -> bool {
        self.transaction.is_open() || self.links.iter().any(Link::is_within)
    }

    /// Reads the schema anew before anybody plans by the old one.
    async fn learn_schema(&mut self) -> Result<(), Trouble> {
        let service = Arc::clone(&self.used()?.access.service);
        service.schema.refresh_now().await?;
        self.worker.current.bump();
        self.forget_world();
        Ok(())
    }

    fn used(&self) -> Result<&Used, Failure> {
        self.used.as_ref().ok_or_else(say::no_database)
    }

    fn forget_world(&mut self) {
        if let Some(used) = &mut self.used {
            used.world = None;
        }
    }

    /// What statements are planned by.
    fn world(&mut self) -> Result<Rc<World>, Trouble> {
        let epoch = self.worker.current.epoch();
        if epoch != self.epoch && !self.is_within() && self.links.is_empty() {
            self.epoch = epoch;
            self.adopt();
        }
        let held = self.is_within();
        let used = self.used.as_mut().ok_or_else(say::no_database)?;
        if let Some(world) = &used.world
            && (held || used.access.service.schema.is_current(&world.schema))
        {
            return Ok(Rc::clone(world));
        }
        let schema = used.access.service.schema.required()?;
        self.state.usual_mode = schema.mysql.as_ref().map(|it| Arc::clone(&it.sql_mode)).unwrap_or_default();
        let selected = if used.selected == Selected::Yes { &*used.access.service.database.server_name } else { "" };
        let view = self.state.view(&self.user.name, selected);
        let world = self.worker.planner.borrow_mut().world(&used.access.service.database, &schema, &view);
        used.world = Some(Rc::clone(&world));
        Ok(world)
    }

    /// Takes up the deployment in force.
    fn adopt(&mut self) {
        let Some(used) = &self.used else { return };
        let deployment = self.worker.current.load();
        // A removed database lives on for who is in it.
        let Some(service) = deployment.services.get(&used.name) else { return };
        if Arc::ptr_eq(service, &used.access.service) && Arc::ptr_eq(&deployment.map, &self.map) {
            return;
        }
        if service.database.shards != used.access.service.database.shards {
            self.reads.elsewhere();
        }
        self.map = Arc::clone(&deployment.map);
        if let Some(user) = deployment.map.users.get(&self.user.name) {
            self.user = Arc::clone(user);
        }
        let (name, selected) = (Arc::clone(&used.name), used.selected);
        let named = (&name, selected);
        let asks = (self.entered.presence(), self.client.capabilities);
        self.used = Some(start::used(&self.worker, &deployment, &self.user, named, service, asks));
    }

    /// The error of a statement whose link broke.
    fn lost(&mut self, broken: Broken, shard: &str, within: bool, may_have_written: bool) -> Trouble {
        match broken {
            Broken::Client(error) => {
                tracing::debug!(%error, "a client's connection broke");
                Trouble::Gone
            }
            Broken::Differs(what) => Trouble::Refused(ClientError::unsupported(
                format!("the shards' answers cannot be united: {what}"),
                "The tables may differ between the shards: `shardway check --connect` compares them.",
            )),
            Broken::Server(reason) => {
                if !within && !may_have_written {
                    self.note_lost();
                }
                if let Some(used) = &self.used {
                    used.access.service.topology.hurry(None);
                }
                let (code, hint) = match (within, may_have_written) {
                    // What an open transaction did is undone.
                    (true, _) | (_, false) => (Code::NotDone, "Say it again, from the beginning of the transaction."),
                    (false, true) => (Code::OutcomeUnknown, "Look whether it was done before you say it again."),
                };
                let message = format!("the connection to shard \"{shard}\" was lost: {reason}");
                Trouble::Refused(ClientError::new(code, message, hint))
            }
        }
    }
}

// Commands by their first bytes.
const REFRESH: u8 = 0x07;
const PROCESS_INFO: u8 = 0x0a;
const DEBUG: u8 = 0x0d;

/// How much longer than its statement may take a command may.
const COMMAND_MORE: Duration = Duration::from_secs(30);

/// The largest buffer for commands that is kept between them, in bytes.
const PAYLOAD_KEPT: usize = 64 << 10;
