//! What a session of MySQL has to do about a statement.
//!
//! Byte ranges are those of the statement, from its first byte. Names stand as written, without their quotes.

use std::ops::Range;
use std::sync::Arc;

/// Statements that the session carries out, or follows, by itself. `Plan::Session` comes with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MysqlCommand {
    /// START TRANSACTION and BEGIN. Either commits what is open before.
    Begin {
        /// READ ONLY (true), READ WRITE (false).
        read_only: Option<bool>,
        /// WITH CONSISTENT SNAPSHOT.
        snapshot: bool,
    },
    /// COMMIT.
    Commit(Ending),
    /// ROLLBACK.
    Rollback(Ending),
    /// SAVEPOINT name (names are compared without regard to case).
    Savepoint(Arc<str>),
    /// ROLLBACK TO name.
    RollbackTo(Arc<str>),
    /// RELEASE SAVEPOINT name.
    Release(Arc<str>),
    /// SET [SESSION | GLOBAL] TRANSACTION …
    SetTransaction {
        /// For which transactions; `None`: for the next one only.
        scope: Option<Scope>,
        /// ISOLATION LEVEL.
        level: Option<Level>,
        /// READ ONLY (true), READ WRITE (false).
        read_only: Option<bool>,
    },
    /// SET of variables, in the order of the text: all of them hold, or none.
    Set(Vec<Setting>),
    /// SET NAMES; `None`: DEFAULT.
    SetNames {
        /// Such as `utf8mb4`.
        character_set: Option<Arc<str>>,
        /// COLLATE.
        collation: Option<Arc<str>>,
    },
    /// SET CHARACTER SET; `None`: DEFAULT.
    SetCharacterSet(Option<Arc<str>>),
    /// USE name.
    Use(Arc<str>),
    /// SHOW WARNINGS, SHOW ERRORS and their counts: what the session's last statement left.
    ShowWarnings {
        /// ERRORS.
        errors: bool,
        /// COUNT(*).
        count: bool,
        /// LIMIT: how many are left out, and how many follow at most.
        limit: Option<(u64, u64)>,
    },
    /// GET DIAGNOSTICS.
    Diagnostics(Diagnostics),
    /// SHOW PROCESSLIST, FULL or not.
    ShowProcesses,
    /// KILL.
    Kill {
        /// QUERY: not the whole connection.
        query: bool,
        /// The number of the connection, by which this proxy knows it; `None`: an expression, or MariaDB's other forms.
        id: Option<u32>,
    },
    /// PREPARE name FROM …
    Prepare {
        /// Names are compared without regard to case.
        name: Arc<str>,
        /// Its text.
        from: Prepared,
    },
    /// EXECUTE name USING @a, @b.
    Execute {
        /// As PREPARE named it.
        name: Arc<str>,
        /// Names of user variables.
        using: Vec<Arc<str>>,
    },
    /// EXECUTE IMMEDIATE … USING @a, @b.
    ExecuteNow {
        /// Its text.
        from: Prepared,
        /// Names of user variables.
        using: Vec<Arc<str>>,
    },
    /// DEALLOCATE PREPARE name, DROP PREPARE name.
    Deallocate(Arc<str>),
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// AND CHAIN (true), AND NO CHAIN (false); `None`: as `completion_type` has it.
    pub chain: Option<bool>,
    /// RELEASE (true): the server closes the connection; NO RELEASE (false).
    pub release: Option<bool>,
}

/// Isolation levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// READ UNCOMMITTED
    ReadUncommitted,
    /// READ COMMITTED
    ReadCommitted,
    /// REPEATABLE READ
    RepeatableRead,
    /// SERIALIZABLE
    Serializable,
}

impl Level {
    /// As SQL has it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::ReadUncommitted => "READ UNCOMMITTED",
            Self::ReadCommitted => "READ COMMITTED",
            Self::RepeatableRead => "REPEATABLE READ",
            Self::Serializable => "SERIALIZABLE",
        }
    }
}

/// Whose variable SET sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This session's (also LOCAL, and without a word).
    Session,
    /// The server's.
    Global,
    /// The server's, and in its file (PERSIST, PERSIST_ONLY).
    Persist,
    /// `@@name` without a word: SET takes the session's, for variables that sessions have.
    Unsaid,
}

/// One assignment of SET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What is set.
    pub target: Target,
    /// The value as written.
    pub value: Range<usize>,
    /// What it is.
    pub constant: Constant,
}

/// What SET sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `@name` (compared without regard to case).
    User(Arc<str>),
    /// A system variable, lower case.
    System(Scope, Arc<str>),
    /// NAMES among other things: the value is the character set, and perhaps its collation.
    Names,
}

/// A value of SET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constant {
    /// DEFAULT
    Default,
    /// A number, or a word such as ON, as written.
    Plain(Arc<str>),
    /// The value of a string.
    Text(Arc<str>),
    /// Anything else: only a server can compute it.
    Expression,
}

impl Setting {
    /// What it says about autocommit, if it is about it: `Some(None)` where that is not a constant.
    #[must_use]
    pub fn autocommit(&self) -> Option<Option<bool>> {
        let Target::System(Scope::Session | Scope::Unsaid, name) = &self.target else { return None };
        if &**name != "autocommit" {
            return None;
        }
        let (Constant::Plain(value) | Constant::Text(value)) = &self.constant else {
            return Some((self.constant == Constant::Default).then_some(true));
        };
        Some(match value.to_ascii_lowercase().as_str() {
            "1" | "on" | "true" => Some(true),
            "0" | "off" | "false" => Some(false),
            _ => None,
        })
    }
}

/// What GET DIAGNOSTICS asks for, and the user variables that it gives it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    /// Of which condition, from 1 on; `None`: of the statement.
    pub condition: Option<u64>,
    /// Names of user variables, and of what they are given, in lower case.
    pub items: Vec<(Arc<str>, String)>,
}

/// Where PREPARE has its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// In a string: its value.
    Text(Arc<str>),
    /// In a user variable of this name.
    Variable(Arc<str>),
}
