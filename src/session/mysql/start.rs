//! A client that has logged in → its session.

use std::rc::Rc;
use std::sync::Arc;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec::Deployment;
use crate::exec::Service;
use crate::exec::mysql::Access;
use crate::exec::mysql::Client;
use crate::session::Worker;
use crate::session::mysql::Session;
use crate::session::mysql::Statements;
use crate::session::mysql::Trouble;
use crate::session::mysql::Used;
use crate::session::mysql::last::Last;
use crate::session::mysql::login::Arrival;
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
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;

/// Capabilities of a client that its server connections have to have as well: they change what answers say.
const OF_SERVERS: u32 = capability::FOUND_ROWS;

/// A database in use.
pub(super) fn used(
    worker: &Rc<Worker>,
    deployment: &Deployment,
    user: &User,
    name: &Arc<str>,
    service: &Arc<Service>,
    capabilities: u32,
) -> Used {
    let access = Access::new(
        Arc::clone(service),
        Arc::clone(&deployment.map),
        server_login(user),
        Rc::clone(&worker.mysql_pools),
        capabilities & OF_SERVERS,
    );
    Used { name: Arc::clone(name), access: Rc::new(access), world: None }
}

impl Session {
    /// Makes a session of a login, and tells the client that it is in. `None`: the client was turned away, for one where
    /// there are too many already (`crowded`).
    pub async fn start(worker: Rc<Worker>, deployment: &Deployment, arrival: Arrival, crowded: bool) -> Option<Self> {
        let map = Arc::clone(&deployment.map);
        let capabilities = arrival.capabilities;
        let mut client =
            Client::new(arrival.stream, &arrival.leftover, capabilities, arrival.sequence, map.limits.message);
        if crowded {
            let error = ClientError::new(
                Code::TooManyClients,
                "too many connections",
                "Raise limits.clients in the shard map, or close connections.",
            );
            client.put_failure(&say::failure(&error));
            // The client may be gone: it is turned away either way.
            let _ = client.flush().await;
            return None;
        }
        let found = map.users.get(&arrival.user).cloned().ok_or_else(|| denied(&arrival.user, "")).and_then(|user| {
            let used = match &arrival.database {
                Some(name) => Some(find(&worker, deployment, &user, name, capabilities)?),
                None => None,
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
        let mut this = Self {
            epoch: 0,
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
            warnings: Warnings::default(),
            last: Last::default(),
            reads: Reads::default(),
            turn: 0,
            ends: false,
        };
        let done = Done { status: this.usual_status(), ..Done::default() };
        this.client.put_done(&done);
        this.client.flush().await.ok()?;
        Some(this)
    }

    /// USE, COM_INIT_DB.
    pub(super) fn use_database(&mut self, name: &str) -> Result<(), Trouble> {
        if self.used.as_ref().is_some_and(|it| *it.name == *name) {
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
        let same =
            called(&deployment, name).is_some_and(|(it, _)| self.used.as_ref().is_some_and(|used| used.name == *it));
        if same {
            return Ok(());
        }
        let user = deployment.map.users.get(&self.user.name).ok_or_else(|| denied(&self.user.name, name))?;
        let used = find(&self.worker, &deployment, user, name, self.client.capabilities)?;
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
    capabilities: u32,
) -> Result<Used, Failure> {
    let found = called(deployment, name);
    // Whether there is one that the user may not see is not told, as on a server.
    let (name, service) = found.ok_or_else(|| denied(&user.name, name))?;
    if user.databases.as_ref().is_some_and(|allowed| !allowed.contains(name)) {
        return Err(denied(&user.name, name));
    }
    Ok(used(worker, deployment, user, name, service, capabilities))
}

fn denied(user: &str, database: &str) -> Failure {
    Failure {
        number: 1044,
        sqlstate: "42000".to_owned(),
        message: format!("Access denied for user '{user}'@'%' to database '{database}'"),
    }
}
