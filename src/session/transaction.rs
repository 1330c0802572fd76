//! The transaction that a client sees, and what it means on the servers that joined it.

use std::sync::Arc;

use crate::backend::Settings;
use crate::backend::settings;
use crate::exec::link::Link;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan::Modes;
use crate::topology::SchemaState;

/// Who opened the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// None is open: each statement (or batch) is its own.
    None,
    /// The proxy, around the statements of one simple Query that cannot be sent as one text.
    Implicit,
    /// The client.
    Explicit,
}

/// The state of a session's transaction. Servers join lazily: BEGIN costs nothing.
#[derive(Debug)]
pub struct Transaction {
    /// Who opened it.
    pub kind: Kind,
    /// A statement of it failed: all others are refused until it ends.
    pub failed: bool,
    /// A server connection of it was lost: it cannot be taken up again, not even from a savepoint.
    pub lost: bool,
    /// It has failed, and shards on which nothing did hold no locks of it any more either.
    pub let_go: bool,
    /// It has taken numbers from a server's sequences.
    pub drew: bool,
    /// It has changed the schema since that was last read.
    pub altered: bool,
    /// The schema as it sees it, where it has changed it.
    pub schema: Option<Arc<SchemaState>>,
    /// What BEGIN and SET TRANSACTION said.
    pub modes: Modes,
    /// Open savepoints, oldest first.
    pub savepoints: Vec<Savepoint>,
    /// The session's settings before it: what ROLLBACK brings back.
    pub settings_before: Arc<Settings>,
    /// What SET LOCAL did.
    pub local: Arc<Settings>,
    /// The shards that were written to.
    pub writers: ShardSet,
    /// The shard whose now() has been used.
    pub clock: Option<ShardId>,
    /// SET CONSTRAINTS statements, for shards that join later.
    pub constraints: Vec<String>,
    /// All shards have joined it, and show one moment.
    pub one_moment: bool,
    /// Tables were locked before the shards were seen at one moment.
    pub locked: bool,
    /// The shards that the client's statements have used. Others may have joined for what the proxy says itself.
    pub used: ShardSet,
}

/// One savepoint.
#[derive(Clone, Debug)]
pub struct Savepoint {
    /// Its name, folded.
    pub name: Arc<str>,
    /// The session's settings when it was made.
    pub settings: Arc<Settings>,
    /// What SET LOCAL had done.
    pub local: Arc<Settings>,
    /// The writing shards then.
    pub writers: ShardSet,
    /// The modes then.
    pub modes: Modes,
    /// How many SET CONSTRAINTS there had been.
    pub constraints: usize,
}

impl Default for Transaction {
    fn default() -> Self {
        Self {
            kind: Kind::None,
            failed: false,
            lost: false,
            let_go: false,
            drew: false,
            altered: false,
            schema: None,
            modes: Modes::default(),
            savepoints: Vec::new(),
            settings_before: Settings::none(),
            local: Settings::none(),
            writers: ShardSet::none(),
            clock: None,
            constraints: Vec::new(),
            one_moment: false,
            locked: false,
            used: ShardSet::none(),
        }
    }
}

impl Transaction {
    /// What ReadyForQuery says of it.
    #[must_use]
    pub fn status(&self) -> u8 {
        match (self.kind, self.failed) {
            (Kind::Explicit, true) => b'E',
            (Kind::Explicit, false) => b'T',
            _ => b'I',
        }
    }

    /// The settings that hold while the session has `now`: a failed transaction has lost what it did since its last
    /// savepoint. The second: what SET LOCAL did.
    #[must_use]
    pub fn in_force(&self, now: &Arc<Settings>) -> (Arc<Settings>, Arc<Settings>) {
        if self.kind != Kind::Explicit || !self.failed {
            return (Arc::clone(now), Arc::clone(&self.local));
        }
        match self.savepoints.last() {
            Some(savepoint) => (Arc::clone(&savepoint.settings), Arc::clone(&savepoint.local)),
            None => (Arc::clone(&self.settings_before), Arc::default()),
        }
    }

    /// Whether settings have been changed in it.
    #[must_use]
    pub fn has_set(&self, now: &Arc<Settings>) -> bool {
        self.kind == Kind::Explicit && (!Arc::ptr_eq(now, &self.settings_before) || !self.local.is_empty())
    }

    /// Whether servers that join it get a BEGIN.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.kind != Kind::None
    }

    /// The modes outside of every savepoint: what is left of them whatever is rolled back.
    #[must_use]
    pub fn outer_modes(&self) -> &Modes {
        self.savepoints.first().map_or(&self.modes, |first| &first.modes)
    }

    /// BEGIN, with the modes outside of every savepoint.
    #[must_use]
    pub fn begin(&self) -> String {
        self.outer_modes().text().map_or_else(|| "BEGIN".to_owned(), |modes| format!("BEGIN {modes}"))
    }

    /// What a server that joins is told: BEGIN with the modes, and the savepoints, oldest first, each with the modes that
    /// were set since.
    #[must_use]
    pub fn opening(&self) -> Vec<String> {
        let mut all = vec![self.begin()];
        let mut modes = self.outer_modes();
        for (at, savepoint) in self.savepoints.iter().enumerate() {
            all.push(format!("SAVEPOINT {}", settings::identifier(&savepoint.name)));
            let then = self.savepoints.get(at + 1).map_or(&self.modes, |next| &next.modes);
            if modes != then {
                // Nothing else can be changed within a savepoint.
                let read_only = Modes { read_only: then.read_only, ..Modes::default() };
                all.extend(read_only.text().map(|modes| format!("SET TRANSACTION {modes}")));
                modes = then;
            }
        }
        all
    }

    /// The place of the newest savepoint of that name.
    #[must_use]
    pub fn savepoint(&self, name: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|savepoint| &*savepoint.name == name)
    }

    /// Notes a savepoint on every server that has joined.
    pub fn mark(&mut self, name: Arc<str>, settings: Arc<Settings>, links: &mut [Link]) {
        self.savepoints.push(Savepoint {
            name,
            settings,
            local: Arc::clone(&self.local),
            writers: self.writers.clone(),
            modes: self.modes.clone(),
            constraints: self.constraints.len(),
        });
        for link in links.iter_mut().filter(|link| link.begun) {
            link.marks.push(link.mark());
        }
    }

    /// Takes in more modes.
    pub fn add_modes(&mut self, modes: &Modes) {
        if modes.isolation.is_some() {
            self.modes.isolation = modes.isolation;
        }
        if modes.read_only.is_some() {
            self.modes.read_only = modes.read_only;
        }
        if modes.deferrable.is_some() {
            self.modes.deferrable = modes.deferrable;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Isolation;

    #[test]
    fn a_late_joiner_hears_of_modes_and_savepoints_in_order() {
        let mut transaction = Transaction {
            kind: Kind::Explicit,
            modes: Modes { isolation: Some(Isolation::ReadCommitted), read_only: Some(true), deferrable: None },
            ..Transaction::default()
        };
        transaction.mark("a".into(), Arc::default(), &mut []);
        transaction.mark("B\"c".into(), Arc::default(), &mut []);
        assert_eq!(
            transaction.opening().join("; "),
            "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY; SAVEPOINT \"a\"; SAVEPOINT \"B\"\"c\""
        );
        transaction.mark("a".into(), Arc::default(), &mut []);
        assert_eq!(transaction.savepoint("a"), Some(2));
    }

    #[test]
    fn what_was_set_within_a_savepoint_is_told_within_it() {
        let mut transaction = Transaction { kind: Kind::Explicit, ..Transaction::default() };
        transaction.mark("a".into(), Arc::default(), &mut []);
        transaction.mark("b".into(), Arc::default(), &mut []);
        transaction.add_modes(&Modes { read_only: Some(true), ..Modes::default() });
        transaction.mark("c".into(), Arc::default(), &mut []);
        assert_eq!(
            transaction.opening().join("; "),
            "BEGIN; SAVEPOINT \"a\"; SAVEPOINT \"b\"; SET TRANSACTION READ ONLY; SAVEPOINT \"c\""
        );
    }
}
