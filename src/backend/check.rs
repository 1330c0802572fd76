//! A test's eye on the pool: what a server itself says of a connection, at the moment it is handed out, against what
//! the proxy believes. Builds with debug assertions have it, and look where `SHARDWAY_CHECK_HANDOUT` is set.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::sync::OnceLock;
use std::task::Poll;

use crate::backend::connection::Connection;
use crate::backend::connection::Piece;
use crate::backend::settings::UNKNOWN;
use crate::backend::settings::literal;
use crate::wire::postgres::backend::DataRow;
use crate::wire::postgres::frontend;
use crate::wire::postgres::frontend::Target;

/// The statement and portal of the question, so that it disturbs neither those without a name nor anybody's.
const NAME: &str = "sw_check";

/// What holds the settings of a session, prepared statements, channels, temporary objects, locks and cursors. Settings
/// of a transaction are not a session's.
const QUESTION: &str = "\
    SELECT 'setting', name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings \
    WHERE source = 'session' AND setting IS DISTINCT FROM reset_val AND name NOT LIKE 'transaction\\_%' \
    UNION ALL SELECT 'prepared', name, '' FROM pg_catalog.pg_prepared_statements WHERE name <> 'sw_check' \
    UNION ALL SELECT 'channel', name, '' FROM pg_catalog.pg_listening_channels() AS name \
    UNION ALL SELECT 'temporary', relname, '' FROM pg_catalog.pg_class \
    WHERE relnamespace = pg_catalog.pg_my_temp_schema() \
    UNION ALL SELECT 'lock', locktype, mode FROM pg_catalog.pg_locks \
    WHERE pid = pg_catalog.pg_backend_pid() AND (locktype = 'advisory' OR relation >= 16384) \
    UNION ALL SELECT 'cursor', name, '' FROM pg_catalog.pg_cursors WHERE name <> 'sw_check'";

/// Whether connections are looked at.
pub fn is_on() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var_os("SHARDWAY_CHECK_HANDOUT").is_some())
}

/// Looks at a connection that is about to be handed out.
///
/// # Errors
/// What is there that should not be, or is not that should.
pub async fn handed_out(connection: &mut Connection) -> Result<(), String> {
    if !is_on() {
        return Ok(());
    }
    let rows = match ask(connection).await {
        Ok(rows) => rows,
        Err(Silent::Broken(error)) => {
            // Whoever gets it will find out, as always.
            tracing::debug!(%error, "a connection broke before it was handed out");
            return Ok(());
        }
        Err(Silent::Refused(said)) => return Err(said),
    };
    let mut prepared = BTreeSet::new();
    for row in &rows {
        let [kind, name, value] = row.as_slice() else { return Err(format!("an answer of {} cells", row.len())) };
        match kind.as_str() {
            "setting" | "tracked"
                if connection
                    .settings
                    .value(&name.to_ascii_lowercase())
                    .is_some_and(|known| **known == **value || **known == *UNKNOWN) => {}
            "prepared" => {
                prepared.insert(name.clone());
            }
            _ => return Err(format!("{kind} {name} {value}, where {:?} is tracked", connection.settings)),
        }
    }
    let (known, doubtful) = connection.believed_prepared();
    let missing = known.difference(&prepared).next();
    let foreign = prepared.iter().find(|name| !known.contains(*name) && !doubtful.contains(*name));
    match (missing, foreign) {
        (None, None) => Ok(()),
        (missing, foreign) => Err(format!("prepared statements: missing {missing:?}, unknown {foreign:?}")),
    }
}

/// Why there is no answer.
enum Silent {
    /// The connection is of no use.
    Broken(io::Error),
    /// The server does not answer, or not as one does that is outside of a transaction.
    Refused(String),
}

impl From<io::Error> for Silent {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// The rows that the question brings.
async fn ask(connection: &mut Connection) -> Result<Vec<Vec<String>>, Silent> {
    let mut question = QUESTION.to_owned();
    for (name, _) in connection.settings.iter().filter(|(name, _)| !name.starts_with(super::settings::OWN)) {
        let name = literal(name);
        question.push_str(&format!(" UNION ALL SELECT 'tracked', {name}, pg_catalog.current_setting({name}, true)"));
    }
    let mut out = Vec::new();
    let said = frontend::parse(&mut out, NAME.as_bytes(), question.as_bytes(), &[])
        .and_then(|()| frontend::bind(&mut out, NAME.as_bytes(), NAME.as_bytes(), &[], &[], &[]))
        .and_then(|()| frontend::execute(&mut out, NAME.as_bytes(), 0))
        .and_then(|()| frontend::close(&mut out, Target::Portal(NAME.as_bytes())))
        .and_then(|()| frontend::close(&mut out, Target::Statement(NAME.as_bytes())));
    said.map_err(|_| io::Error::other("the question cannot be said"))?;
    frontend::sync(&mut out);
    let mut sent = 0;
    poll_fn(|cx| {
        while let Some(rest) = out.get(sent..).filter(|rest| !rest.is_empty()) {
            match connection.poll_send(cx, rest) {
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        connection.poll_flush(cx)
    })
    .await?;
    let mut rows = Vec::new();
    loop {
        match connection.piece()? {
            None => {
                if connection.fill().await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            }
            Some(Piece::Rows(range, _)) => rows.extend(cells(connection.bytes(range))),
            Some(Piece::Message(b'Z', range)) => {
                return match connection.bytes(range).get(5) {
                    Some(b'I') => Ok(rows),
                    _ => Err(Silent::Refused("a transaction is open".to_owned())),
                };
            }
            Some(Piece::Message(b'E', range)) => {
                return Err(Silent::Refused(String::from_utf8_lossy(connection.bytes(range)).into_owned()));
            }
            Some(Piece::Message(..)) => {}
        }
    }
}

/// The cells of whole DataRow messages.
fn cells(mut bytes: &[u8]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    while let Some(&[_, a, b, c, d]) = bytes.first_chunk::<5>() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize + 1;
        let Some((message, rest)) = bytes.split_at_checked(length) else { break };
        bytes = rest;
        if let Ok(row) = DataRow::read(message.get(5..).unwrap_or_default()) {
            rows.push(row.cells().map(|cell| String::from_utf8_lossy(cell.unwrap_or_default()).into_owned()).collect());
        }
    }
    rows
}
