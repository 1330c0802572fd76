//! From a client who has proven who they are to a session: the settings they asked for, and what the server says of
//! itself to that user.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::backend::Settings;
use crate::backend::connection::Greeting;
use crate::backend::connection::Manner;
use crate::backend::settings;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::Access;
use crate::exec::Deployment;
use crate::exec::Freshness;
use crate::exec::client::Client;
use crate::exec::clients::Presence;
use crate::exec::clients::Who;
use crate::exec::flight;
use crate::exec::flight::Crew;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Show;
use crate::exec::link::Link;
use crate::exec::say;
use crate::session::Session;
use crate::session::Worker;
use crate::session::again::Request;
use crate::session::batch::Batch;
use crate::session::command::cells;
use crate::session::login::LoggedIn;
use crate::session::simple::messages;
use crate::session::simple::only_error;
use crate::session::state;
use crate::session::state::State;
use crate::session::transaction::Transaction;
use crate::shard_map::Consistency;
use crate::shard_map::Engine;
use crate::shard_map::ServerLogin;
use crate::shard_map::User;
use crate::shard_map::UserAuth;
use crate::topology::Entry;
use crate::topology::Floor;
use crate::wire::postgres::backend as reply;
use crate::wire::postgres::backend::Severity;

/// Database, user, and the settings of the startup packet.
pub type FactsKey = (Arc<str>, Arc<str>, Vec<(String, String)>);

/// What the first login of its kind found out.
#[derive(Clone, Debug)]
pub struct Facts {
    greeting: Greeting,
    /// What answers depend on, by default.
    manner: Arc<Manner>,
    /// The settings of the startup packet, as the server spells their values.
    startup: Arc<Settings>,
    /// Server defaults that planning must know.
    defaults: Arc<HashMap<Arc<str>, Arc<str>>>,
}

/// Server settings that are asked for at login, because they are not reported by themselves.
const ASKED: [&str; 5] = [
    "default_transaction_isolation",
    "default_transaction_read_only",
    "default_transaction_deferrable",
    "standard_conforming_strings",
    "role",
];

/// The first cell of the answers that matter, among those to statements that set something.
const ANSWER: &str = "shardway";

/// How many kinds of logins a thread remembers.
const FACTS_MAX: usize = 1000;

/// What the proxy gives servers for a user.
#[must_use]
pub fn server_login(user: &User) -> ServerLogin {
    user.server.clone().unwrap_or_else(|| ServerLogin {
        user: Arc::clone(&user.name),
        password: match &user.auth {
            UserAuth::Trust => None,
            UserAuth::Password(secret) => Some(secret.clone()),
        },
    })
}

/// The client is told, and the connection closed.
enum Unwelcome {
    Error(ClientError),
    Message(Vec<u8>),
}

impl From<ClientError> for Unwelcome {
    fn from(error: ClientError) -> Self {
        Self::Error(error)
    }
}

impl Session {
    /// Makes a session of a login; tells the client what a server would, up to ReadyForQuery. `None`: the client was
    /// turned away.
    pub async fn start(worker: Rc<Worker>, deployment: &Deployment, arrival: LoggedIn) -> Option<Self> {
        let ticket = worker.cancels.ticket();
        let application = arrival.parameters.iter().rfind(|(name, _)| name.eq_ignore_ascii_case("application_name"));
        let who = Who {
            user: arrival.user.as_str().into(),
            database: arrival.database.as_str().into(),
            application: application.map_or("", |(_, value)| value).into(),
        };
        let entered = worker.clients.enter(Engine::Postgres, ticket.pid, &arrival.stream, who);
        let mut client = Client::new(arrival.stream, &arrival.leftover, deployment.map.limits.message);
        let wanted = (&*arrival.user, &*arrival.database, arrival.parameters);
        let parts = Self::settle_in(&worker, deployment, &mut client, wanted, entered.presence());
        let (user, access, facts) = match parts.await {
            Ok(parts) => parts,
            Err(unwelcome) => {
                match unwelcome {
                    Unwelcome::Error(error) => {
                        entered.refused(error.code);
                        reply::error(client.out(), Severity::Fatal, &error);
                    }
                    Unwelcome::Message(message) => client.push(&message),
                }
                // The client may be gone already.
                let _ = client.flush().await;
                return None;
            }
        };
        let shards = access.service.database.shards.len();
        let mut reported: HashMap<String, String> = HashMap::new();
        let mut defaults: HashMap<Arc<str>, Arc<str>> = (*facts.defaults).clone();
        defaults.extend(facts.manner.iter().map(|(name, value)| (name.into(), Arc::clone(value))));
        for (name, value) in facts.greeting.iter() {
            let lower = name.to_ascii_lowercase();
            defaults.insert(lower.as_str().into(), value.as_str().into());
            let now = facts.startup.value(&lower).map_or(value.as_str(), |it| &**it);
            let now = if lower == "session_authorization" { &*user.name } else { now };
            // What a server reports holds no zero byte.
            let _ = reply::parameter_status(client.out(), name, now);
            reported.insert(name.clone(), now.to_owned());
        }
        client.doom = ticket.doom();
        let _ = reply::key_data(client.out(), ticket.pid, &ticket.key.to_be_bytes());
        reply::ready(client.out(), b'I');
        client.flush().await.ok()?;
        let state = State {
            user: Arc::clone(&user.name),
            startup: Arc::clone(&facts.startup),
            settings: facts.startup,
            defaults,
            reported,
            pins: Vec::new(),
        };
        Some(Self {
            epoch: 0,
            map: Arc::clone(&deployment.map),
            database_name: Arc::clone(&access.service.database.name),
            worker,
            client,
            user,
            access,
            world: None,
            state,
            transaction: Transaction::default(),
            links: Vec::new(),
            items: Vec::new(),
            prepared: HashMap::default(),
            unnamed: None,
            deferred: None,
            portals: HashMap::default(),
            cursors: HashMap::new(),
            skipping: false,
            batch_writer: None,
            floors: vec![Floor::default(); shards],
            turn: 0,
            ticket,
            entered,
            manner: facts.manner,
            pins_suspect: false,
            next_link: 0,
            staged: 0,
            undo: Vec::new(),
            executed: Vec::new(),
            readback: Vec::new(),
            batch_flown: false,
            sync_eaten: false,
            batch: Batch::default(),
            schema_changed: false,
            seen: super::sequences::Seen::default(),
            directory_changed: false,
            request: Request::default(),
        })
    }

    async fn settle_in(
        worker: &Rc<Worker>,
        deployment: &Deployment,
        client: &mut Client,
        (user, database, parameters): (&str, &str, Vec<(String, String)>),
        presence: &Arc<Presence>,
    ) -> Result<(Arc<User>, Rc<Access>, Facts), Unwelcome> {
        let map = &deployment.map;
        let user = map.users.get(user).cloned().ok_or_else(|| {
            ClientError::new(
                Code::NotAuthorized,
                format_args!("user \"{user}\" may not use databases"),
                "Add the user under `users:` in the shard map.",
            )
        })?;
        let service = deployment.services.get(database).ok_or_else(|| {
            ClientError::new(
                Code::NoDatabase,
                format_args!("database \"{database}\" does not exist"),
                "Connect to a database of the shard map.",
            )
        })?;
        if user.databases.as_ref().is_some_and(|allowed| !allowed.iter().any(|name| **name == *database)) {
            return Err(ClientError::new(
                Code::NotAuthorized,
                format_args!("user \"{}\" may not use database \"{database}\"", user.name),
                "List the database under the user's `databases:` in the shard map.",
            )
            .into());
        }
        if service.database.engine == Engine::Mysql {
            return Err(ClientError::new(
                Code::NoDatabase,
                format_args!("database \"{database}\" is one of MySQL servers"),
                "Connect to it by `listen.mysql`, with a client of MySQL.",
            )
            .into());
        }
        let access = Rc::new(Access::new(
            Arc::clone(service),
            Arc::clone(map),
            server_login(&user),
            Rc::clone(&worker.pools),
            Arc::clone(presence),
        ));
        let key: FactsKey = (database.into(), Arc::clone(&user.name), parameters);
        let known = worker.facts.borrow().get(&key).cloned();
        let catalog = service.database.catalog;
        if let Some(facts) = known {
            let latest = service.topology.any(catalog).and_then(|node| access.pool(node).shared.said());
            let stale =
                latest.is_some_and(|(greeting, manner)| *greeting != *facts.greeting || !manner.is(&facts.manner));
            if !stale {
                return Ok((user, access, facts));
            }
        }
        let fresh = Freshness { consistency: Consistency::Eventual, floor: Floor::default() };
        let link = access.read(catalog, fresh, Entry::New).await?;
        let replica = link.replica;
        let facts = match Self::find_out(link, &access, client, &user, &key.2).await {
            // A replica refuses everything where transactions are SERIALIZABLE by default.
            Err(Unwelcome::Message(_)) if replica => {
                let link = access.primary(catalog, Entry::New).await?;
                Self::find_out(link, &access, client, &user, &key.2).await?
            }
            other => other?,
        };
        let mut kept = worker.facts.borrow_mut();
        if kept.len() >= FACTS_MAX {
            kept.clear();
        }
        kept.insert(key, facts.clone());
        Ok((user, access, facts))
    }

    /// Asks the catalog shard what it says of itself to this user, and whether it takes the settings.
    async fn find_out(
        mut link: Link,
        access: &Rc<Access>,
        client: &mut Client,
        user: &User,
        parameters: &[(String, String)],
    ) -> Result<Facts, Unwelcome> {
        let database = &access.service.database;
        let (greeting, manner) = (Arc::clone(&link.connection.greeting), Arc::clone(&link.connection.manner));
        // Defaults first, on a connection that has none of anybody's settings.
        let mut own = Settings::default();
        let mut wanted = Settings::default();
        for (name, value) in parameters {
            let name = name.to_ascii_lowercase();
            if name.starts_with(settings::OWN) {
                state::check_own(&name, value, database, user)?;
                own = own.with(&name, value);
            } else {
                state::check_server(&name, value)?;
                wanted = wanted.with(&name, value);
            }
        }
        let back = link.connection.settings.difference(&Settings::default());
        let there = Settings::default().difference(&wanted);
        let one = SmallVec::from_slice(&[0]);
        let owed = |expect, show| Item::Owed { expect, links: SmallVec::clone(&one), show, prepares: 0 };
        link.say_close_setter();
        say::settings(&mut link.out, &back);
        link.say_sync();
        let asked: Vec<String> = ASKED.iter().map(|name| setting(name)).collect();
        link.say_query(&format!("SELECT '{ANSWER}', {}", asked.join(", ")));
        say::settings(&mut link.out, &there);
        link.say_sync();
        let mut items = vec![owed(Expect::Sync, Show::Caller), owed(Expect::Query, Show::Caller)];
        items.push(owed(Expect::Sync, Show::Caller));
        let names: Vec<&str> = wanted.iter().map(|(name, _)| &**name).collect();
        if !names.is_empty() {
            let asked: Vec<String> = names.iter().map(|name| setting(name)).collect();
            link.say_query(&format!("SELECT '{ANSWER}', {}", asked.join(", ")));
            items.push(owed(Expect::Query, Show::Caller));
        }
        let mut links = vec![link];
        let mut crew = Crew { links: &mut links, client, offset: 0 };
        let outcome = flight::run(&items, &mut crew, false).await.map_err(|_| {
            ClientError::new(
                Code::ShardUnavailable,
                "the connection to the catalog shard was lost during login",
                "Connect again.",
            )
        })?;
        if outcome.failed.is_some() {
            return Err(Unwelcome::Message(as_fatal(&only_error(&outcome.collected))));
        }
        let mut answers = messages(&outcome.collected)
            .filter(|it| it.first() == Some(&b'D'))
            .map(cells)
            .filter(|row| row.first().is_some_and(|cell| cell.as_deref() == Some(ANSWER)));
        let defaults = answers
            .next()
            .map(|row| {
                let named = ASKED.iter().zip(row.iter().skip(1));
                named.filter_map(|(name, value)| Some(((*name).into(), value.as_deref()?.into()))).collect()
            })
            .unwrap_or_default();
        let mut startup = own;
        for (name, value) in names.iter().zip(answers.next().unwrap_or_default().into_iter().skip(1)) {
            if let Some(value) = value {
                state::check_server(name, &value)?;
                startup = startup.with(name, &value);
            }
        }
        let startup = Arc::new(startup);
        for mut link in links {
            link.connection.settings = Arc::clone(&startup);
            link.committed = Arc::clone(&startup);
            access.release(link);
        }
        Ok(Facts { greeting, manner, startup, defaults: Arc::new(defaults) })
    }
}

fn setting(name: &str) -> String {
    format!("pg_catalog.current_setting({}, true)", settings::literal(name))
}

/// A server's error during login ends the connection.
fn as_fatal(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    say::message(&mut out, b'E', |out| {
        for (kind, value) in flight::fields(message) {
            out.push(kind);
            out.extend_from_slice(if matches!(kind, b'S' | b'V') { b"FATAL" } else { value });
            out.push(0);
        }
        out.push(0);
    });
    out
}
