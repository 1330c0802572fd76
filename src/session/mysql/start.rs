//! A client that has logged in → its session.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::clock;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::Deployment;
use crate::exec::Service;
use crate::exec::clients::Presence;
use crate::exec::clients::Who;
use crate::exec::mysql::Access;
use crate::exec::mysql::Client;
use crate::session::Worker;
use crate::session::mysql::Selected;
use crate::session::mysql::Session;
use crate::session::mysql::Statements;
use crate::session::mysql::Trouble;
use crate::session::mysql::Used;
use crate::session::mysql::again::Request;
use crate::session::mysql::cursor::Opening;
use crate::session::mysql::kill::Held;
use crate::session::mysql::kill::Seen;
use crate::session::mysql::last::Last;
use crate::session::mysql::login;
use crate::session::mysql::login::Arrival;
use crate::session::mysql::login::LoginError;
use crate::session::mysql::pins::Pins;
use crate::session::mysql::reads::Reads;
use crate::session::mysql::say;
use crate::session::mysql::settings::State;
use crate::session::mysql::transaction::Transaction;
use crate::session::mysql::warnings::Warnings;
use crate::session::start::server_login;
use crate::shard_map::Engine;
use crate::shard_map::User;
use crate::wire::mysql::capability;
use crate::wire::mysql::handshake;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;

/// Capabilities of a client that its server connections have to have as well: they change what answers say.
const OF_SERVERS: u32 = capability::FOUND_ROWS;

/// A database in use.
pub(super) fn used(
    worker: &Rc<Worker>,
    deployment: &Deployment,
    user: &User,
    (name, selected): (&Arc<str>, Selected),
    service: &Arc<Service>,
    (presence, capabilities): (&Arc<Presence>, u32),
) -> Used {
    let mut access = Access::new(
        Arc::clone(service),
        Arc::clone(&deployment.map),
        server_login(user),
        Rc::clone(&worker.mysql_pools),
        Arc::clone(presence),
        capabilities & OF_SERVERS,
    );
    if selected == Selected::No {
        access = access.without_database();
    }
    Used { name: Arc::clone(name), selected, access: Rc::new(access), world: None }
}

impl Session {
    /// Makes a session of a login, and tells the client that it is in. `None`: the client was turned away, for one where
    /// there are too many already (`crowded`).
    pub async fn start(worker: Rc<Worker>, deployment: &Deployment, arrival: Arrival, crowded: bool) -> Option<Self> {
        let map = Arc::clone(&deployment.map);
        let capabilities = arrival.capabilities;
        let application = arrival.attributes.iter().find(|(name, _)| name == "program_name");
        let who = Who {
            user: Arc::clone(&arrival.user),
            application: application.map_or("", |(_, value)| value).into(),
            ..Who::default()
        };
        let entered = worker.clients.enter(Engine::Mysql, arrival.connection, &arrival.stream, who);
        let mut client =
            Client::new(arrival.stream, &arrival.leftover, capabilities, arrival.sequence, map.limits.message);
        if crowded {
            let error = ClientError::new(
                Code::TooManyClients,
                "too many connections",
                "Raise limits.clients in the shard map, or close connections.",
            );
            entered.refused(error.code);
            client.put_failure(&say::failure(&error));
            // The client may be gone: it is turned away either way.
            let _ = client.flush().await;
            return None;
        }
        let asks = (entered.presence(), capabilities);
        let found = map.users.get(&arrival.user).cloned().ok_or_else(|| denied(&arrival.user, "")).and_then(|user| {
            let used = match &arrival.database {
                Some(name) => Some(find(&worker, deployment, &user, name, asks)?),
                None => nowhere(&worker, deployment, &user, asks),
            };
            Ok((user, used, State::new(arrival.collation)?))
        });
        let (user, used, state) = match found {
            Ok(found) => found,
            Err(failure) => {
                client.put_failure(&failure);
                // The client may be gone already.
                let _ = client.flush().await;
                return None;
            }
        };
        let seen = Seen { user: Arc::clone(&user.name), host: client.host().into() };
        let ticket = worker.kills.ticket(arrival.connection, seen);
        client.doom = ticket.entry.doom();
        let mut this = Self {
            epoch: 0,
            held: Held::of(&ticket.entry),
            ticket,
            entered,
            multi: capabilities & capability::MULTI_STATEMENTS != 0,
            worker,
            client,
            user,
            map,
            used,
            state,
            transaction: Transaction::default(),
            links: Vec::new(),
            pins: Pins::default(),
            prepared: Statements::default(),
            named: HashMap::default(),
            opening: Opening::default(),
            warnings: Warnings::default(),
            last: Last::default(),
            reads: Reads::default(),
            turn: 0,
            ends: false,
            request: Request::default(),
        };
        this.note_database();
        let done = Done { status: this.usual_status(), ..Done::default() };
        this.client.put_done(&done);
        this.client.flush().await.ok()?;
        // From here on, not before: the login itself is in clear.
        if let Some(method) = arrival.compression {
            this.client.compress(method);
        }
        Some(this)
    }

    /// COM_CHANGE_USER: the session ends, and another one begins on the same connection.
    pub(super) async fn change_user(&mut self, payload: &[u8]) -> Result<(), Trouble> {
        let capabilities = self.client.capabilities;
        let request = handshake::change_user(payload, capabilities).map_err(|_| say::unknown_command())?;
        let collation = request.collation;
        self.begin_anew();
        let deployment = self.worker.current.load();
        let map = Arc::clone(&deployment.map);
        let users = |user: &str| map.users.get(user).map(|it| it.auth.clone());
        let deadline = clock::now().plus(map.timeouts.login);
        let name = match login::change_user(&mut self.client, &request, &users, deadline).await {
            Ok(name) => name,
            Err(LoginError::Refused(failure)) => return Err(failure.into()),
            Err(error) => {
                tracing::debug!(%error, "a change of the user came to nothing");
                return Err(Trouble::Gone);
            }
        };
        let user = map.users.get(&name).cloned().ok_or_else(|| denied(&name, ""))?;
        let database = request.database.as_deref().map(String::from_utf8_lossy);
        let asks = (self.entered.presence(), capabilities);
        let used = match &database {
            Some(name) => Some(find(&self.worker, &deployment, &user, name, asks)?),
            None => nowhere(&self.worker, &deployment, &user, asks),
        };
        self.state = State::new(collation)?;
        self.ticket.changed(Seen { user: Arc::clone(&user.name), host: self.client.host().into() });
        (self.user, self.used, self.map) = (user, used, Arc::clone(&map));
        self.reads.elsewhere();
        self.note_database();
        self.done(false);
        Ok(())
    }

    /// CREATE DATABASE of one that is in the map, and therefore there; `None`: it is not that.
    pub(super) fn is_there(&mut self, text: &str) -> Option<Result<(), Trouble>> {
        let mut words = text.trim_end_matches([';', ' ', '\n']).split_ascii_whitespace();
        let mut next_is = |wanted: &[&str]| words.next().filter(|it| wanted.iter().any(|w| it.eq_ignore_ascii_case(w)));
        next_is(&["create"])?;
        next_is(&["database", "schema"])?;
        let mut name = words.next()?;
        let unless = name.eq_ignore_ascii_case("if");
        if unless {
            let mut next_is = |wanted: &str| words.next().filter(|it| it.eq_ignore_ascii_case(wanted));
            next_is("not")?;
            next_is("exists")?;
            name = words.next()?;
        }
        let name = name.strip_prefix('`').and_then(|it| it.strip_suffix('`')).unwrap_or(name);
        let deployment = self.worker.current.load();
        let (known, _) = called(&deployment, name)?;
        let may = self.user.databases.as_ref().is_none_or(|allowed| allowed.contains(known));
        // It would commit what is open.
        if !may || self.is_within() {
            return None;
        }
        let message = format!("Can't create database '{name}'; database exists");
        let failure = Failure { number: DATABASE_EXISTS, sqlstate: "HY000".to_owned(), message };
        if !unless {
            return Some(Err(failure.into()));
        }
        self.last.done();
        self.warnings.of_note(&failure);
        let status = self.face(false).status(self.usual_status());
        self.client.put_done(&Done { status, warnings: 1, ..Done::default() });
        Some(Ok(()))
    }

    /// USE, COM_INIT_DB.
    pub(super) fn use_database(&mut self, name: &str) -> Result<(), Trouble> {
        self.select_database(name)?;
        self.note_database();
        Ok(())
    }

    /// Notes for the client which database it has selected, as its servers call it, and for operators.
    fn note_database(&mut self) {
        let selected = self.used.as_ref().filter(|it| it.selected == Selected::Yes);
        if let Some(used) = selected {
            self.client.note_database(&used.access.service.database.server_name);
        }
        self.entered.becomes(&self.user.name, &selected.map(|it| Arc::clone(&it.name)).unwrap_or_default());
    }

    fn select_database(&mut self, name: &str) -> Result<(), Trouble> {
        let selected = self.used.as_ref().filter(|it| it.selected == Selected::Yes).map(|it| Arc::clone(&it.name));
        if selected.as_deref() == Some(name) {
            return Ok(());
        }
        let of_servers = ["information_schema", "performance_schema", "mysql", "sys"];
        if of_servers.iter().any(|it| it.eq_ignore_ascii_case(name)) {
            return Err(ClientError::unsupported(
                format!("using database \"{name}\" is not supported"),
                "Name it before the table.",
            )
            .into());
        }
        let deployment = self.worker.current.load();
        if called(&deployment, name).is_some_and(|(it, _)| selected.as_ref() == Some(it)) {
            return Ok(());
        }
        let user = deployment.map.users.get(&self.user.name).ok_or_else(|| denied(&self.user.name, name))?;
        let asks = (self.entered.presence(), self.client.capabilities);
        let used = find(&self.worker, &deployment, user, name, asks)?;
        if self.is_within() || !self.links.is_empty() {
            return Err(ClientError::unsupported(
                "another database within a transaction is not supported",
                "COMMIT or ROLLBACK first.",
            )
            .into());
        }
        self.map = Arc::clone(&deployment.map);
        self.reads.elsewhere();
        self.used = Some(used);
        self.reads.elsewhere();
        Ok(())
    }
}

/// The database that clients call so.
fn called<'d>(deployment: &'d Deployment, name: &str) -> Option<(&'d Arc<str>, &'d Arc<Service>)> {
    let named = deployment.services.get_key_value(name).filter(|(_, it)| it.database.engine == Engine::Mysql);
    // Or as its servers call it, where one database alone is called so: a map that has a database of Postgres with the same
    // name must name them apart.
    named.or_else(|| {
        let by_server = |it: &Arc<Service>| it.database.engine == Engine::Mysql && *it.database.server_name == *name;
        let mut called = deployment.services.iter().filter(|(_, it)| by_server(it));
        called.next().filter(|_| called.next().is_none())
    })
}

fn find(
    worker: &Rc<Worker>,
    deployment: &Deployment,
    user: &User,
    name: &str,
    asks: (&Arc<Presence>, u32),
) -> Result<Used, Failure> {
    let found = called(deployment, name);
    // Whether there is one that the user may not see is not told, as on a server.
    let (name, service) = found.ok_or_else(|| denied(&user.name, name))?;
    if user.databases.as_ref().is_some_and(|allowed| !allowed.contains(name)) {
        return Err(denied(&user.name, name));
    }
    Ok(used(worker, deployment, user, (name, Selected::Yes), service, asks))
}

/// Where what needs no database is asked, for a client that has selected none: on the servers of the first that it may use.
pub(super) fn nowhere(
    worker: &Rc<Worker>,
    deployment: &Deployment,
    user: &User,
    asks: (&Arc<Presence>, u32),
) -> Option<Used> {
    let may = |name: &Arc<str>| user.databases.as_ref().is_none_or(|allowed| allowed.contains(name));
    let services = deployment.services.iter();
    let mut mine = services.filter(|(name, it)| it.database.engine == Engine::Mysql && may(name));
    let (name, service) = mine.next()?;
    Some(used(worker, deployment, user, (name, Selected::No), service, asks))
}

/// ER_DB_CREATE_EXISTS
const DATABASE_EXISTS: u16 = 1007;

fn denied(user: &str, database: &str) -> Failure {
    Failure {
        number: 1044,
        sqlstate: "42000".to_owned(),
        message: format!("Access denied for user '{user}'@'%' to database '{database}'"),
    }
}
