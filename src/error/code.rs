//! One table of every error that shardway raises itself.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident => $sqlstate:literal, $retry:ident;)*) => {
        /// Every kind of error of the proxy's own. `docs/errors.md` is checked against this list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name),* }

        impl Code {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The five characters that drivers look at.
            #[must_use]
            pub fn sqlstate(self) -> &'static str {
                match self { $(Self::$name => $sqlstate),* }
            }

            /// The variant's name: also the metric label.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            /// Whether the same statement may succeed when sent again.
            #[must_use]
            pub fn retry(self) -> Retry {
                match self { $(Self::$name => Retry::$retry),* }
            }
        }
    };
}

/// Whether a client may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same statement will fail the same way.
    No,
    /// Yes: the statement, or the whole transaction if one was open.
    Yes,
    /// Only after looking whether it was done.
    AfterLooking,
}

codes! {
    /// A construct that is not answered across shards, or at all.
    Unsupported => "0A000", No;
    /// A table that exists but is not in the map.
    TableNotMapped => "0A000", No;
    /// A statement that the proxy's parser cannot read (the server can).
    Unreadable => "0A000", No;
    /// A function that is not known to be safe on part of the data.
    FunctionNotReviewed => "0A000", No;
    /// One transaction would write a second shard, and the shards are not set up for that.
    SecondWritingShard => "0A000", No;
    /// `require_key`: the statement names no shard key.
    KeyRequired => "0A000", No;
    /// A write whose shard key is NULL.
    ShardKeyNull => "22004", No;
    /// A write that gives its shard key no value.
    ShardKeyMissing => "22004", No;
    /// A write whose key belongs to no shard (list and range schemes, directories).
    NoShardForKey => "23514", No;
    /// LOAD DATA LOCAL where the map does not allow it.
    LocalFiles => "0A000", No;
    /// A sequence's number that is not of its column's type.
    NumberOutOfRange => "22003", No;
    /// A setting under `shardway.` that does not exist.
    UnknownSetting => "42704", No;
    /// A setting under `shardway.` with a bad value, or one that shardway cannot work with.
    InvalidSetting => "22023", No;
    /// A statement after an error in the same transaction.
    TransactionAborted => "25P02", No;
    /// A command that needs to stand outside a transaction block.
    InTransaction => "25001", No;
    /// A savepoint or other transaction command outside a transaction block.
    NoTransaction => "25P01", No;
    /// A savepoint that does not exist.
    NoSavepoint => "3B001", No;
    /// A prepared statement that does not exist.
    NoStatement => "26000", No;
    /// A prepared statement that exists already.
    DuplicateStatement => "42P05", No;
    /// A portal or cursor that does not exist.
    NoPortal => "34000", No;
    /// A portal whose name is taken.
    DuplicatePortal => "42P03", No;
    /// The message stream broke the protocol's rules; the session ends.
    ProtocolViolation => "08P01", No;
    /// A message, statement or result beyond a limit.
    TooLarge => "54000", No;
    /// A read over several shards needs more rows in one place than the map allows (`gather:`).
    GatherLimit => "53400", No;
    /// No server connection became free in time.
    PoolExhausted => "53300", Yes;
    /// Too many clients.
    TooManyClients => "53300", Yes;
    /// The shard has no node that can serve this now.
    ShardUnavailable => "57P03", Yes;
    /// The server connection broke and the statement's fate is known: not done.
    NotDone => "40001", Yes;
    /// The shards could not be read at one moment, for transactions kept ending on them.
    NoCommonMoment => "40001", Yes;
    /// The server connection broke before the answer was whole; nothing of a write is left behind, the transaction is gone.
    ConnectionLost => "08006", Yes;
    /// A commit was sent and no answer came.
    OutcomeUnknown => "08007", AfterLooking;
    /// Wrong user, password or database.
    LoginRefused => "28P01", No;
    /// The user may not use that database, or there is no such user.
    NotAuthorized => "28000", No;
    /// The database is not in the map.
    NoDatabase => "3D000", No;
    /// The user lacks a right in the console.
    NotPermitted => "42501", No;
    /// A statement or a wait ran beyond its limit.
    TimedOut => "57014", Yes;
    /// The client cancelled a statement between two of its steps.
    Canceled => "57014", Yes;
    /// A transaction stayed open and idle beyond its limit.
    IdleInTransaction => "25P03", Yes;
    /// The proxy is stopping.
    ShuttingDown => "57P01", Yes;
    /// A switchover did not come to its end.
    SwitchoverFailed => "55000", No;
    /// A console command that does not exist.
    ConsoleSyntax => "42601", No;
    /// A table of the map is not as the map says; statements on it are refused.
    TableUnfit => "55000", No;
    /// currval or lastval before nextval.
    NotYetDefined => "55000", No;
    /// A sequence's number in a transaction that is READ ONLY.
    ReadOnlyTransaction => "25006", No;
    /// A broken invariant of the proxy: the session ends, the log has more.
    Internal => "XX000", No;
}
