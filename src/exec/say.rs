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

/// The ErrorResponse for whoever is ended so that others of a deadlock can go on, as a server puts it.
#[must_use]
pub fn deadlock() -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, b'E', |out| {
        for (kind, value) in [
            (b'S', "ERROR"),
            (b'V', "ERROR"),
            (b'C', "40P01"),
            (b'M', "deadlock detected"),
            (b'D', "Transactions that are on several shards waited for each other, each on another shard."),
            (b'H', "Run the transaction again; those that lock the same rows in the same order do not meet like this."),
        ] {
            out.push(kind);
            string(out, value);
        }
        out.push(0);
    });
    out
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

/// Bind of a statement to the unnamed portal; `values` is what stands behind the names.
pub fn bind_values(out: &mut Vec<u8>, statement: &str, values: &[u8]) {
    message(out, b'B', |out| {
        string(out, "");
        string(out, statement);
        out.extend_from_slice(values);
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

/// The name of a prepared statement on a server connection; it is made for every Bind, and allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct StatementName {
    bytes: [u8; 19],
    length: usize,
}

impl StatementName {
    /// The name of the unnamed statement.
    pub const UNNAMED: Self = Self { bytes: [0; 19], length: 0 };
}

impl std::ops::Deref for StatementName {
    type Target = str;

    fn deref(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(bytes).expect("it is made of ASCII")
    }
}

impl std::fmt::Display for StatementName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self)
    }
}

/// The name of a globally numbered prepared statement: `sw_` and 16 hexadecimal digits, never reused.
#[must_use]
pub fn statement_name(number: u64) -> StatementName {
    let mut bytes = *b"sw_0000000000000000";
    let mut left = number;
    for digit in bytes.iter_mut().rev().take(16) {
        let [value, ..] = (left & 15).to_le_bytes();
        *digit = value + if value < 10 { b'0' } else { b'a' - 10 };
        left >>= 4;
    }
    StatementName { bytes, length: bytes.len() }
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

/// The portal of a step.
pub const STEP: &str = "sw_step";

/// A statement without parameters, as the unnamed one, in a portal of the proxy's own; it answers Parse, Bind, Execute
/// and Close.
pub fn step(out: &mut Vec<u8>, statement: &str) {
    parse(out, "", statement, &[]);
    bind_plain(out, STEP, "");
    execute(out, STEP);
    about(out, b'C', b'P', STEP);
}

/// The same for COPY FROM STDIN: what is said before the rows; behind them comes [`close_step`].
pub fn step_in(out: &mut Vec<u8>, statement: &str) {
    parse(out, "", statement, &[]);
    bind_plain(out, STEP, "");
    execute(out, STEP);
}

/// Closes the portal of a step.
pub fn close_step(out: &mut Vec<u8>) {
    about(out, b'C', b'P', STEP);
}

/// A statement without parameters, as the unnamed one.
pub fn unnamed(out: &mut Vec<u8>, statement: &str) {
    parse(out, "", statement, &[]);
    bind_plain(out, "", "");
    execute(out, "");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_have_names_of_one_width() {
        assert_eq!(&*statement_name(1), "sw_0000000000000001");
        assert_eq!(&*statement_name(u64::MAX - 0x5f), "sw_ffffffffffffffa0");
        assert_eq!(&*StatementName::UNNAMED, "");
    }
}
