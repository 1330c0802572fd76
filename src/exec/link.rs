//! A server connection while a session holds it.

use std::io;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use crate::backend::Connection;
use crate::backend::Settings;
use crate::exec::say;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::topology::Chosen;
use crate::topology::Serving;
use crate::topology::TypeNumbers;

/// What a session holds of one server: the connection, and what it knows of its state.
///
/// Dropping a link closes the connection, for only what is clean and idle may return to a pool.
#[derive(Debug)]
pub struct Link {
    /// The session's own number for it.
    pub id: u32,
    /// The shard.
    pub shard: ShardId,
    /// The node.
    pub node: NodeId,
    /// The connection.
    pub connection: Box<Connection>,
    /// Whether the node was a replica when chosen.
    pub replica: bool,
    /// The session's transaction has begun on it.
    pub begun: bool,
    /// It may have changed rows in the open transaction.
    pub wrote: bool,
    /// The open transaction did something on it that a server does not prepare: temporary tables, NOTIFY.
    pub unpreparable: bool,
    /// It stays with the session when the transaction ends.
    pub pinned: bool,
    /// Extended-protocol messages were said since the last Sync.
    pub unsynced: bool,
    /// The server raised an error in a batch: it skips everything up to the next Sync.
    pub skips: bool,
    /// The server raised an error since the last transaction on it ended: what that one did is undone.
    pub spoiled: bool,
    /// The session is in the middle of something with it: it stays whatever its state.
    pub kept: bool,
    /// How many ReadyForQuery are owed.
    pub due: u32,
    /// What the last ReadyForQuery said.
    pub status: u8,
    /// A Sync was eaten by COPY FROM STDIN: the client's next one belongs here.
    pub sync_eaten: bool,
    /// The session-level settings that remain if the open transaction is rolled back.
    pub committed: Arc<Settings>,
    /// What SET LOCAL did in the open transaction.
    pub local: Arc<Settings>,
    /// How many of the transaction's SET CONSTRAINTS have been said.
    pub constraints: usize,
    /// What it had when each savepoint was made.
    pub marks: Vec<Mark>,
    /// What is still to be said.
    pub out: Vec<u8>,
    /// How much of `out` has been sent.
    pub sent: usize,
    /// Counts as load on the node.
    pub load: Serving,
    /// How the shard numbers user-defined types; `None`: as the catalog shard does, whose numbers clients know.
    pub type_oids: Option<Arc<TypeNumbers>>,
    /// Which life of which node this is, where the shard has replicas: for the session's floor.
    pub chosen: Option<Chosen>,
}

/// What a link had when a savepoint was made: ROLLBACK TO brings it back.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The session's settings.
    pub settings: Arc<Settings>,
    /// What SET LOCAL had done.
    pub local: Arc<Settings>,
    /// How many SET CONSTRAINTS had been said.
    pub constraints: usize,
}

impl Link {
    /// A fresh link over a clean connection. `out` is an empty buffer to gather messages in.
    #[must_use]
    pub fn new(node: NodeId, connection: Box<Connection>, replica: bool, load: Serving, out: Vec<u8>) -> Self {
        let committed = Arc::clone(&connection.settings);
        Self {
            id: 0,
            shard: node.shard,
            node,
            connection,
            replica,
            begun: false,
            wrote: false,
            unpreparable: false,
            pinned: false,
            unsynced: false,
            skips: false,
            spoiled: false,
            kept: false,
            due: 0,
            status: b'I',
            sync_eaten: false,
            committed,
            local: Settings::none(),
            constraints: 0,
            marks: Vec::new(),
            out,
            sent: 0,
            load,
            chosen: None,
            type_oids: None,
        }
    }

    /// Whether the connection may go back to its pool.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.due == 0
            && self.status == b'I'
            && !self.unsynced
            && !self.skips
            && !self.begun
            && !self.pinned
            && !self.sync_eaten
            && self.out.is_empty()
            && !self.connection.is_within_row()
            && self.connection.is_sure()
    }

    /// Closes what a setter that failed may have left. True: two Close are owed.
    pub fn say_close_setter(&mut self) -> bool {
        let doubt = self.connection.take_doubt(say::SETTER_NUMBER);
        if doubt {
            say::close_setter(&mut self.out);
        }
        doubt
    }

    /// Says Query.
    ///
    /// A server forgets its unnamed statement at every Query.
    pub fn say_query(&mut self, text: &str) {
        say::query(&mut self.out, text);
        self.connection.unnamed = 0;
        self.due += 1;
    }

    /// Says a statement of the proxy's own that has no parameters, as the unnamed one and without Sync.
    pub fn say_unnamed(&mut self, text: &str) {
        say::unnamed(&mut self.out, text);
        self.connection.unnamed = 0;
    }

    /// Says a statement of the proxy's own in the midst of a client's: the portal without a name stays the client's.
    pub fn say_step(&mut self, text: &str) {
        say::step(&mut self.out, text);
        self.connection.unnamed = 0;
    }

    /// Says Sync.
    pub fn say_sync(&mut self) {
        say::sync(&mut self.out);
        self.due += 1;
        self.unsynced = false;
    }

    /// Sends what can be sent now of what is still to be said.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_out(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.connection.poll_send(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => self.sent += count,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        if let Poll::Ready(flushed) = self.connection.poll_flush(cx) {
            flushed?;
            self.out.clear();
            self.sent = 0;
        }
        Ok(())
    }

    /// What it has now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
            settings: Arc::clone(&self.connection.settings),
            local: Arc::clone(&self.local),
            constraints: self.constraints,
        }
    }

    /// Has again what it had at a savepoint, by the savepoint's place.
    pub fn back_to(&mut self, place: usize) {
        self.marks.truncate(place + 1);
        if let Some(mark) = self.marks.last().filter(|_| self.marks.len() == place + 1) {
            self.connection.settings = Arc::clone(&mark.settings);
            self.local = Arc::clone(&mark.local);
            self.constraints = mark.constraints;
        }
    }

    /// Whether its transaction may have something about it that a server does not prepare.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.unpreparable || self.pinned
    }

    /// The transaction on it has ended; settings made in it stay or go.
    pub fn ended(&mut self, committed: bool) {
        if committed {
            self.committed = Arc::clone(&self.connection.settings);
        } else {
            self.connection.settings = Arc::clone(&self.committed);
        }
        if !self.local.is_empty() {
            self.local = Settings::none();
        }
        self.constraints = 0;
        self.marks.clear();
        self.begun = false;
        self.wrote = false;
        self.unpreparable = false;
        self.spoiled = false;
    }
}
