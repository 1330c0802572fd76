//! A server connection while a session holds it.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Settings;
use crate::backend::mysql::Connection;
use crate::backend::settings::UNKNOWN;
use crate::clock;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::topology::Chosen;
use crate::topology::Serving;
use crate::topology::mysql::xid::Branch;
use crate::wire::mysql::result::Change;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::status;

/// What a session holds of one server: the connection, and what it knows of its state.
///
/// Dropping a link closes the connection, for only what is clean may return to a pool.
#[derive(Debug)]
pub struct Link {
    /// The shard.
    pub shard: ShardId,
    /// The node.
    pub node: NodeId,
    /// The connection.
    pub connection: Box<Connection>,
    /// The session's transaction has begun on it.
    pub begun: bool,
    /// What its part of the transaction is called, where XA began it.
    pub branch: Option<Box<Branch>>,
    /// It may have changed rows in the open transaction.
    pub wrote: bool,
    /// How many of the transaction's savepoints it has.
    pub savepoints: usize,
    /// The session has left something on it that settings do not tell: it stays until that is gone.
    pub pinned: bool,
    /// How many cursors the session has open on it: it stays until they are closed.
    pub cursors: usize,
    /// Something of the session on it has changed, and nobody knows what it was before.
    pub doubtful: bool,
    /// How long a statement of the proxy's own may take; `None`: as long as it wants.
    pub patience: Option<Duration>,
    /// Counts as load on the node.
    pub load: Serving,
    /// Whether the node was a replica when it was chosen: nothing but proven reads may be said to it.
    pub replica: bool,
    /// Which life of which node this is, where the shard has replicas: for the session's floor.
    pub chosen: Option<Chosen>,
}

impl Link {
    /// A fresh link over a clean connection.
    #[must_use]
    pub fn new(node: NodeId, connection: Box<Connection>, load: Serving, replica: bool) -> Self {
        Self {
            shard: node.shard,
            node,
            connection,
            begun: false,
            branch: None,
            wrote: false,
            savepoints: 0,
            pinned: false,
            cursors: 0,
            doubtful: false,
            patience: None,
            load,
            replica,
            chosen: None,
        }
    }

    /// Whether a transaction is open on it, as the server has said last.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.connection.status & status::IN_TRANSACTION != 0
    }

    /// Whether the connection may go back to its pool.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        // A variable that was set once is never again as one that was not, unless the server makes its session as new.
        let is_renewable =
            self.connection.can_reset() || !self.connection.settings.iter().any(|(name, _)| name.starts_with('@'));
        !self.begun && !self.pinned && self.cursors == 0 && !self.doubtful && !self.is_within() && is_renewable
    }

    /// Takes in what an OK packet tells of the session's state.
    pub fn heard(&mut self, done: &Done) {
        let Ok(changes) = done.changes() else {
            self.doubtful = true;
            return;
        };
        for change in changes {
            match change {
                Change::Database(name) => {
                    self.connection.schema = std::str::from_utf8(name).ok().map(Arc::from);
                }
                Change::Variable { .. } => self.doubtful = true,
                Change::State(changed) => self.doubtful |= changed,
                Change::Gtids(_) | Change::Characteristics(_) | Change::Transaction(_) | Change::Other => {}
            }
        }
    }

    /// Says a command.
    ///
    /// # Errors
    /// [`Broken::Server`].
    pub async fn say(&mut self, payload: &[u8]) -> Result<(), Broken> {
        self.connection.say(payload);
        self.flush().await
    }

    /// Says a query.
    ///
    /// # Errors
    /// [`Broken::Server`].
    pub async fn say_query(&mut self, text: &str) -> Result<(), Broken> {
        self.say_bytes(text.as_bytes()).await
    }

    /// Says a query that need not be text.
    ///
    /// # Errors
    /// [`Broken::Server`].
    pub async fn say_bytes(&mut self, text: &[u8]) -> Result<(), Broken> {
        let mut payload = Vec::with_capacity(text.len() + 1);
        payload.push(QUERY);
        payload.extend_from_slice(text);
        self.say(&payload).await
    }

    /// Sends what has been said.
    ///
    /// # Errors
    /// [`Broken::Server`].
    pub async fn flush(&mut self) -> Result<(), Broken> {
        poll_fn(|cx| self.connection.poll_flush(cx)).await.map_err(|error| Broken::Server(error.to_string()))
    }

    /// Has a statement of the proxy's own done.
    ///
    /// # Errors
    /// [`Broken`]; the server's own error is the inner one.
    pub async fn run(&mut self, text: &str) -> Result<Result<Done, Failure>, Broken> {
        let patience = self.patience;
        let work = async {
            self.say_query(text).await?;
            relay::hear(self).await
        };
        match patience {
            None => work.await,
            Some(span) => tokio::time::timeout(span, work)
                .await
                .unwrap_or_else(|_| Err(Broken::Server("no answer within timeouts.statement".to_owned()))),
        }
    }

    /// Has statements of the proxy's own done, in one flight; each is said whatever the ones before come to. The first
    /// error of the server's is the inner one.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn run_all(&mut self, texts: &[&str]) -> Result<Result<(), Failure>, Broken> {
        self.tell_all(texts).await?;
        self.hear_all(texts.len()).await
    }

    /// The first half of [`Self::run_all`].
    ///
    /// # Errors
    /// [`Broken::Server`].
    pub async fn tell_all(&mut self, texts: &[&str]) -> Result<(), Broken> {
        for text in texts {
            let mut payload = Vec::with_capacity(text.len() + 1);
            payload.push(QUERY);
            payload.extend_from_slice(text.as_bytes());
            self.connection.say(&payload);
        }
        self.flush().await
    }

    /// The second half of [`Self::run_all`].
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn hear_all(&mut self, count: usize) -> Result<Result<(), Failure>, Broken> {
        let mut all = Ok(());
        for _ in 0..count {
            if let Err(failure) = relay::hear(self).await?
                && all.is_ok()
            {
                all = Err(failure);
            }
        }
        Ok(all)
    }

    /// Its part of a transaction is over.
    pub fn is_over(&mut self) {
        (self.begun, self.wrote, self.savepoints, self.branch) = (false, false, 0, None);
    }

    /// Something was said that may have changed these: whoever uses the connection next says them anew.
    pub fn forget(&mut self, names: &[String]) {
        let settings = names.iter().fold((*self.connection.settings).clone(), |all, name| all.with(name, UNKNOWN));
        self.connection.settings = Arc::new(settings);
    }

    /// Brings its settings to those of the session.
    ///
    /// # Errors
    /// [`Broken`]; the server's own error is the inner one.
    pub async fn take_up(&mut self, wanted: &Arc<Settings>) -> Result<Result<(), Failure>, Broken> {
        if Arc::ptr_eq(&self.connection.settings, wanted) || self.connection.settings == *wanted {
            return Ok(Ok(()));
        }
        let mut difference = self.connection.settings.difference(wanted);
        if difference.reset.iter().any(|it| it.starts_with('@')) && !self.begun && !self.is_within() {
            // A variable that was set once is never again as one that was not.
            let deadline = clock::now().plus(RESET);
            self.connection.reset(deadline).await.map_err(|error| Broken::Server(error.to_string()))?;
            difference = self.connection.settings.difference(wanted);
        }
        let names = |it: &str| it == NAMES || OF_NAMES.contains(&it);
        let renamed = difference.reset.iter().any(|it| names(it)) || difference.set.iter().any(|(name, _)| names(name));
        if renamed {
            // SET NAMES changes them all, and by default they are what SET NAMES says.
            difference.reset.retain(|it| !names(it));
            difference.set.retain(|(name, _)| !names(name));
            let all = std::iter::once(NAMES).chain(OF_NAMES);
            difference.set.extend(all.filter_map(|it| Some((it.into(), Arc::clone(wanted.value(it)?)))));
            if wanted.value(NAMES).is_none() {
                difference.reset.push(NAMES.into());
            }
        }
        let is_mariadb = self.connection.version.contains("MariaDB");
        let mut assignments: Vec<String> = Vec::new();
        let mut statements: Vec<String> = Vec::new();
        let reset = difference.reset.iter().map(|name| (name, None));
        for (name, value) in reset.chain(difference.set.iter().map(|(name, value)| (name, Some(value)))) {
            match (&**name, value) {
                // It sets three variables at once, and is said before what sets one of them.
                (NAMES, Some(value)) => statements.push(format!("SET NAMES {value}")),
                (NAMES, None) => statements.push(format!("SET NAMES {FIRST_NAMES}")),
                (variable, value) if variable.starts_with('@') => {
                    assignments.push(format!("{variable} = {}", value.map_or("NULL", |it| it)));
                }
                (variable, value) => {
                    let variable = if is_mariadb { variable } else { of_mysql(variable) };
                    assignments.push(format!("SESSION {variable} = {}", value.map_or("DEFAULT", |it| it)));
                }
            }
        }
        if !assignments.is_empty() {
            statements.push(format!("SET {}", assignments.join(", ")));
        }
        for statement in statements {
            let doubtful = self.doubtful;
            if let Err(failure) = self.run(&statement).await? {
                // Some of it may have been done.
                self.doubtful = true;
                return Ok(Err(failure));
            }
            // The server tells of what was changed just now.
            self.doubtful = doubtful;
        }
        self.connection.settings = Arc::clone(wanted);
        Ok(Ok(()))
    }
}

/// How long it may take to make a connection as new.
const RESET: Duration = Duration::from_secs(3);

/// The first byte of COM_QUERY.
const QUERY: u8 = 3;

/// The name under which SET NAMES is kept among a session's settings.
pub const NAMES: &str = "names";

/// What it sets, and what may be set behind it. The collation comes last: the set of the connection brings its own.
pub const OF_NAMES: [&str; 4] =
    ["character_set_client", "character_set_results", "character_set_connection", "collation_connection"];

/// What connections speak that nobody has told otherwise.
pub const USUAL_NAMES: &str = "utf8mb4";

/// The same as connections are told it when they are opened.
const FIRST_NAMES: &str = "utf8mb4 COLLATE utf8mb4_general_ci";

/// What MySQL calls variables that MariaDB knows by their old names.
fn of_mysql(variable: &str) -> &str {
    match variable {
        "tx_isolation" => "transaction_isolation",
        "tx_read_only" => "transaction_read_only",
        other => other,
    }
}
