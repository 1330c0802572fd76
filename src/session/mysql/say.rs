//! Errors in MySQL's words: numbers and SQLSTATEs that its clients know.

use crate::error::ClientError;
use crate::error::Code;
use crate::wire::mysql::result::Failure;

/// An error of the proxy's own. There is no field for hints: they follow the message.
pub(super) fn failure(error: &ClientError) -> Failure {
    let (number, sqlstate) = numbered(error.code);
    let mut message = error.message.clone();
    if let Some(detail) = &error.detail {
        message = format!("{message}. {detail}");
    }
    Failure { number, sqlstate: sqlstate.to_owned(), message: format!("{message}. Hint: {}", error.hint) }
}

/// The number and the SQLSTATE under which a MySQL server knows such an error.
fn numbered(code: Code) -> (u16, &'static str) {
    match code {
        Code::Unsupported
        | Code::TableNotMapped
        | Code::Unreadable
        | Code::FunctionNotReviewed
        | Code::SecondWritingShard
        | Code::ShardKeyNull
        | Code::KeyRequired => (NOT_SUPPORTED_YET, "42000"),
        Code::ShardKeyMissing => (NO_DEFAULT_FOR_FIELD, "HY000"),
        Code::NoShardForKey => (NO_PARTITION_FOR_GIVEN_VALUE, "HY000"),
        Code::UnknownSetting => (UNKNOWN_SYSTEM_VARIABLE, "HY000"),
        Code::InvalidSetting => (WRONG_VALUE_FOR_VAR, "42000"),
        Code::ProtocolViolation => (MALFORMED_PACKET, "HY000"),
        Code::TooLarge => (NET_PACKET_TOO_LARGE, "08S01"),
        Code::PoolExhausted | Code::TooManyClients => (TOO_MANY_CONNECTIONS, "08004"),
        // What drivers take for a deadlock they say again.
        Code::NotDone | Code::NoCommonMoment => (LOCK_DEADLOCK, "40001"),
        Code::LoginRefused | Code::NotAuthorized => (ACCESS_DENIED, "28000"),
        Code::LocalFiles => (LOCAL_FILES_DISABLED, "HY000"),
        Code::NoDatabase => (UNKNOWN_DATABASE, "42000"),
        _ => (UNKNOWN_ERROR, "HY000"),
    }
}

pub(super) fn no_database() -> Failure {
    Failure { number: NO_DATABASE_SELECTED, sqlstate: "3D000".to_owned(), message: "No database selected".to_owned() }
}

pub(super) fn unknown_command() -> Failure {
    Failure { number: UNKNOWN_COMMAND, sqlstate: "08S01".to_owned(), message: "Unknown command".to_owned() }
}

pub(super) fn no_statement(number: u32, command: &str) -> Failure {
    let message = format!("Unknown prepared statement handler ({number}) given to {command}");
    Failure { number: UNKNOWN_STATEMENT, sqlstate: "HY000".to_owned(), message }
}

pub(super) fn no_cursor(number: u32) -> Failure {
    let message = format!("The statement ({number}) has no open cursor");
    Failure { number: NO_OPEN_CURSOR, sqlstate: "HY000".to_owned(), message }
}

pub(super) fn no_named(name: &str, command: &str) -> Failure {
    let message = format!("Unknown prepared statement handler ({name}) given to {command}");
    Failure { number: UNKNOWN_STATEMENT, sqlstate: "HY000".to_owned(), message }
}

pub(super) fn wrong_arguments(command: &str) -> Failure {
    let message = format!("Incorrect arguments to {command}");
    Failure { number: WRONG_ARGUMENTS, sqlstate: "HY000".to_owned(), message }
}

pub(super) fn denied(privilege: &str) -> Failure {
    let message = format!("Access denied; you need (at least one of) the {privilege} privilege(s) for this operation");
    Failure { number: SPECIFIC_ACCESS_DENIED, sqlstate: "42000".to_owned(), message }
}

pub(super) fn no_condition() -> Failure {
    Failure { number: NO_SUCH_CONDITION, sqlstate: "35000".to_owned(), message: "Invalid condition number".to_owned() }
}

pub(super) fn no_savepoint(name: &str) -> Failure {
    let message = format!("SAVEPOINT {name} does not exist");
    Failure { number: SAVEPOINT_DOES_NOT_EXIST, sqlstate: "42000".to_owned(), message }
}

pub(super) fn within_transaction() -> Failure {
    Failure {
        number: CANT_CHANGE_TRANSACTION,
        sqlstate: "25001".to_owned(),
        message: "Transaction characteristics can't be changed while a transaction is in progress".to_owned(),
    }
}

pub(super) fn read_only_transaction() -> Failure {
    Failure {
        number: CANT_EXECUTE_IN_READ_ONLY,
        sqlstate: "25006".to_owned(),
        message: "Cannot execute statement in a READ ONLY transaction".to_owned(),
    }
}

pub(super) fn too_slow() -> Failure {
    Failure {
        number: STATEMENT_TIMEOUT,
        sqlstate: "70100".to_owned(),
        message: "Query execution was interrupted (timeouts.statement exceeded)".to_owned(),
    }
}

/// The same of what may have been done when it was stopped.
pub(super) fn too_slow_to_know() -> ClientError {
    ClientError::new(
        Code::OutcomeUnknown,
        "the statement took longer than timeouts.statement, and was stopped; it may have been done before",
        "Look whether it was done before you say it again.",
    )
}

pub(super) fn interrupted() -> Failure {
    Failure {
        number: QUERY_INTERRUPTED,
        sqlstate: "70100".to_owned(),
        message: "Query execution was interrupted".to_owned(),
    }
}

pub(super) fn killed() -> Failure {
    Failure { number: CONNECTION_KILLED, sqlstate: "70100".to_owned(), message: "Connection was killed".to_owned() }
}

pub(super) fn no_thread(number: u32) -> Failure {
    let message = format!("Unknown thread id: {number}");
    Failure { number: NO_SUCH_THREAD, sqlstate: "HY000".to_owned(), message }
}

pub(super) fn not_owner(number: u32) -> Failure {
    let message = format!("You are not owner of thread {number}");
    Failure { number: KILL_DENIED, sqlstate: "HY000".to_owned(), message }
}

pub(super) fn not_utf8() -> ClientError {
    ClientError::unsupported(
        "text that is not UTF-8 is not supported",
        "SET NAMES utf8mb4, and send bytes as parameters or in hexadecimal (x'…').",
    )
}

// As in MySQL's and MariaDB's lists of errors (`mysqld_error.h`).
const TOO_MANY_CONNECTIONS: u16 = 1040;
const ACCESS_DENIED: u16 = 1045;
const NO_DATABASE_SELECTED: u16 = 1046;
const UNKNOWN_COMMAND: u16 = 1047;
const UNKNOWN_DATABASE: u16 = 1049;
const NO_SUCH_THREAD: u16 = 1094;
const KILL_DENIED: u16 = 1095;
const UNKNOWN_ERROR: u16 = 1105;
/// MariaDB's (ER_LOAD_INFILE_CAPABILITY_DISABLED).
const LOCAL_FILES_DISABLED: u16 = 4166;
const NET_PACKET_TOO_LARGE: u16 = 1153;
const UNKNOWN_SYSTEM_VARIABLE: u16 = 1193;
const WRONG_ARGUMENTS: u16 = 1210;
const LOCK_DEADLOCK: u16 = 1213;
const SPECIFIC_ACCESS_DENIED: u16 = 1227;
const WRONG_VALUE_FOR_VAR: u16 = 1231;
const NOT_SUPPORTED_YET: u16 = 1235;
const UNKNOWN_STATEMENT: u16 = 1243;
const SAVEPOINT_DOES_NOT_EXIST: u16 = 1305;
const QUERY_INTERRUPTED: u16 = 1317;
const NO_DEFAULT_FOR_FIELD: u16 = 1364;
const NO_OPEN_CURSOR: u16 = 1421;
const NO_PARTITION_FOR_GIVEN_VALUE: u16 = 1526;
const NO_SUCH_CONDITION: u16 = 1758;
const CANT_EXECUTE_IN_READ_ONLY: u16 = 1792;
const CANT_CHANGE_TRANSACTION: u16 = 1568;
const MALFORMED_PACKET: u16 = 1835;
const CONNECTION_KILLED: u16 = 1927;
const STATEMENT_TIMEOUT: u16 = 1969;
