//! The few messages that execution itself says to servers, appended to what is to be sent.

use crate::backend::settings::Difference;

/// Appends one message: the type, the length, and the body that `body` appends.
pub fn message(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a string and its terminator.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// Query.
pub fn query(out: &mut Vec<u8>, text: &str) {
    message(out, b'Q', |out| string(out, text));
}

/// Parse.
pub fn parse(out: &mut Vec<u8>, name: &str, text: &str, types: &[u32]) {
    message(out, b'P', |out| {
        string(out, name);
        string(out, text);
        out.extend_from_slice(&u16::try_from(types.len()).unwrap_or(u16::MAX).to_be_bytes());
        for oid in types {
            out.extend_from_slice(&oid.to_be_bytes());
        }
    });
}

/// Bind without parameters, results in text.
pub fn bind_plain(out: &mut Vec<u8>, portal: &str, statement: &str) {
    message(out, b'B', |out| {
        string(out, portal);
        string(out, statement);
        out.extend_from_slice(&[0; 6]);
    });
}

/// Execute to the end.
pub fn execute(out: &mut Vec<u8>, portal: &str) {
    message(out, b'E', |out| {
        string(out, portal);
        out.extend_from_slice(&[0; 4]);
    });
}

/// Describe or Close (`kind` is `D` or `C`) of a statement (`S`) or portal (`P`).
pub fn about(out: &mut Vec<u8>, kind: u8, what: u8, name: &str) {
    message(out, kind, |out| {
        out.push(what);
        string(out, name);
    });
}

/// Sync.
pub fn sync(out: &mut Vec<u8>) {
    message(out, b'S', |_| {});
}

/// Flush.
pub fn flush(out: &mut Vec<u8>) {
    message(out, b'H', |_| {});
}

/// The name of a globally numbered prepared statement on a server connection: of fixed width, never reused.
#[must_use]
pub fn statement_name(number: u64) -> String {
    format!("sw_{number:016x}")
}

/// The name of the statement by which settings are brought up to date.
const SETTER: &str = "sw_ffffffffffffffff";

/// The number of that name, which no text is given: under it a connection notes that the statement may not be closed.
pub const SETTER_NUMBER: u64 = u64::MAX;

/// Closes what a setter that failed may have left.
pub fn close_setter(out: &mut Vec<u8>) {
    about(out, b'C', b'P', SETTER);
    about(out, b'C', b'S', SETTER);
}

/// Appends what brings settings up to date, as extended-protocol messages without Sync: when one fails, the server
/// skips all that follows in the same flight. Gives back how many statements it said; each answers Parse, Bind,
/// Execute and two Close.
pub fn settings(out: &mut Vec<u8>, difference: &Difference) -> usize {
    let statements = difference.statements();
    for statement in &statements {
        setter(out, statement);
    }
    statements.len()
}

/// One such statement.
pub fn setter(out: &mut Vec<u8>, statement: &str) {
    parse(out, SETTER, statement, &[]);
    bind_plain(out, SETTER, SETTER);
    execute(out, SETTER);
    // A server keeps a portal whose statement is closed, and the next one in this transaction has the same name.
    about(out, b'C', b'P', SETTER);
    about(out, b'C', b'S', SETTER);
}
