//! What ties a session to one connection (locks, temporary tables, what nobody could tell another connection), and when it
//! comes loose again.
//!
//! Only sessions of databases of one shard have any. A server does not tell which locks by name a session has: the names are
//! read from the statements that take them, and asked for one by one when a lock is let go of.

use std::sync::Arc;

use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::plan::Effects;
use crate::plan::Pin;
use crate::plan::Template;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::wire::mysql::result::text_row;

/// What ties the session.
#[derive(Debug, Default)]
pub(super) struct Pins {
    /// Names of locks.
    locks: Vec<String>,
    /// Locks whose names nobody knows.
    unnamed: bool,
    /// LOCK TABLES.
    tables: bool,
    temporary: Vec<Arc<str>>,
    /// What stays until the connection is closed.
    forever: bool,
}

/// The most names that are kept; with more of them the connection stays.
const NAMES_MAX: usize = 64;

/// What the answer to a look may come to, in bytes.
const LOOK_MAX: usize = 1 << 20;

/// All that DO may call, to leave nothing but locks.
const OF_LOCKS: [&str; 6] = ["get_lock", "release_lock", "release_all_locks", "is_free_lock", "is_used_lock", "sleep"];

impl Pins {
    fn is_empty(&self) -> bool {
        self.locks.is_empty() && !self.unnamed && !self.tables && self.temporary.is_empty() && !self.forever
    }

    /// Something stays until the connection is closed.
    pub(super) fn stay(&mut self) {
        self.forever = true;
    }

    /// Takes in what a statement has left. One that failed may have taken locks by name before it did.
    fn note(&mut self, text: &str, effects: &Effects, asked: bool, failed: bool) {
        let lower = text.to_ascii_lowercase();
        self.forever |= asked;
        match &effects.pins {
            Some(Pin::AdvisoryLock) => self.note_locks(text, &lower),
            Some(Pin::Other("DO")) if leaves_only_locks(&lower) => self.note_locks(text, &lower),
            Some(Pin::Other("LOCK TABLES")) => self.tables |= !failed,
            Some(Pin::Temporary(name)) if !failed => {
                // Which database it is in is not told.
                self.forever |= text.contains('.') || self.temporary.len() >= NAMES_MAX;
                if !self.temporary.contains(name) {
                    self.temporary.push(Arc::clone(name));
                }
            }
            Some(Pin::Temporary(_)) | None => {}
            Some(_) => self.forever = true,
        }
        // It may have another name now.
        let renames = ["alter", "rename"].iter().any(|it| lower.contains(it));
        self.forever |= effects.changes_schema && renames && !self.temporary.is_empty();
    }

    fn note_locks(&mut self, text: &str, lower: &str) {
        for (at, word) in lower.match_indices("get_lock") {
            let behind = text.get(at + word.len()..).unwrap_or_default();
            match first_string(behind).filter(|_| self.locks.len() < NAMES_MAX) {
                Some(name) if self.locks.iter().any(|it| it == name) => {}
                Some(name) => self.locks.push(name.to_owned()),
                None => self.unnamed = true,
            }
        }
    }
}

/// The string that a call begins its arguments with, if that is all of the first and has nothing to be unquoted.
fn first_string(behind: &str) -> Option<&str> {
    let inside = behind.trim_start().strip_prefix('(')?.trim_start().strip_prefix('\'')?;
    let (string, rest) = inside.split_once('\'')?;
    (rest.trim_start().starts_with(',') && !string.contains('\\')).then_some(string)
}

/// Whether all that DO calls are functions of locks, and it assigns nothing.
fn leaves_only_locks(lower: &str) -> bool {
    let is_word = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '$' | '.') || !it.is_ascii();
    let calls = lower.match_indices('(').filter_map(|(at, _)| {
        let before = lower.get(..at)?.trim_end();
        let start = before.rfind(|it| !is_word(it)).map_or(0, |it| it + 1);
        before.get(start..).filter(|it| !it.is_empty() && *it != "do")
    });
    !lower.contains(['@', '`', '"', '/', '#']) && calls.into_iter().all(|it| OF_LOCKS.contains(&it))
}

/// Whether it lets go of all locks by name, and does nothing else.
fn lets_go_of_all(text: &str) -> bool {
    let words: String = text.trim().trim_end_matches(';').split_whitespace().collect::<Vec<_>>().join(" ");
    ["select release_all_locks()", "do release_all_locks()"].iter().any(|it| words.eq_ignore_ascii_case(it))
}

impl Session {
    /// Takes in what a statement has left on its connection, or taken from it; `asked`: it left what it computed there.
    pub(super) async fn settle_pins(
        &mut self,
        text: &str,
        template: &Template,
        asked: bool,
        failed: bool,
    ) -> Result<(), Trouble> {
        let effects = &template.effects;
        self.pins.note(text, effects, asked, failed);
        let Some(place) = self.links.iter().position(|it| it.pinned) else { return Ok(()) };
        let mut link = self.links.swap_remove(place);
        if (effects.unpins || template.tag == "DO") && !failed {
            self.pins.tables &= template.tag != "UNLOCK TABLES";
            if lets_go_of_all(text) {
                self.pins.locks.clear();
                self.pins.unnamed = false;
            }
            if !self.pins.forever
                && let Err(broken) = look(&mut self.pins, &mut link).await
            {
                // The client has been told already that the statement is done; the session ends.
                self.lost_all(broken, &link).await;
                return Err(Trouble::Told);
            }
        }
        link.pinned = !self.pins.is_empty();
        self.keep(link);
        Ok(())
    }
}

/// Asks a server what there still is.
async fn look(pins: &mut Pins, link: &mut crate::exec::mysql::Link) -> Result<(), Broken> {
    if !pins.locks.is_empty() {
        let asked: Vec<String> =
            pins.locks.iter().map(|name| format!("IS_USED_LOCK('{name}') <=> CONNECTION_ID()")).collect();
        link.say_query(&format!("SELECT {}", asked.join(", "))).await?;
        if let Ok(collected) = relay::collect(link, LOOK_MAX).await?
            && let Some(row) = collected.rows.first()
        {
            let cells = text_row(row, pins.locks.len()).map_err(|error| Broken::Server(error.to_string()))?;
            let mut held = cells.into_iter().map(|it| it != Some(b"0"));
            pins.locks.retain(|_| held.next().unwrap_or(true));
        }
    }
    let mut there = Vec::new();
    for name in std::mem::take(&mut pins.temporary) {
        link.say_query(&format!("SHOW CREATE TABLE `{}`", name.replace('`', "``"))).await?;
        let collected = relay::collect(link, LOOK_MAX).await?;
        let is_temporary =
            collected.is_ok_and(|it| it.rows.iter().any(|row| row.windows(TEMPORARY.len()).any(|it| it == TEMPORARY)));
        if is_temporary {
            there.push(name);
        }
    }
    pins.temporary = there;
    Ok(())
}

/// How servers begin what makes such a table.
const TEMPORARY: &[u8] = b"CREATE TEMPORARY TABLE";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_locks_are_read_where_they_stand_as_they_are() {
        let names = |text: &str| {
            let mut pins = Pins::default();
            pins.note_locks(text, &text.to_ascii_lowercase());
            (pins.locks.join(","), pins.unnamed)
        };
        assert_eq!(names("SELECT GET_LOCK('a', 1), get_lock ( 'B' ,0)"), ("a,B".to_owned(), false));
        for unknown in [
            "SELECT GET_LOCK(?, 1)",
            "SELECT GET_LOCK(CONCAT('a', 'b'), 1)",
            "SELECT GET_LOCK('a' 'b', 1)",
            "SELECT GET_LOCK('a''b', 1)",
            r"SELECT GET_LOCK('a\'', 1)",
            "SELECT `get_lock`('a', 1)",
            "SELECT GET_LOCK/**/('a', 1)",
            "SELECT GET_LOCK(\"a\", 1)",
        ] {
            assert!(names(unknown).1, "{unknown}");
        }
    }

    #[test]
    fn do_leaves_locks_alone_if_it_calls_nothing_else() {
        for text in ["do get_lock('a', 0)", "do release_lock('a'), (1 + 1)", "do sleep (1)", "do 1"] {
            assert!(leaves_only_locks(text), "{text}");
        }
        for text in ["do f()", "do @a := 1", "do s.get_lock(1)", "do `get_lock`('a', 0)", "do last_insert_id(5)"] {
            assert!(!leaves_only_locks(text), "{text}");
        }
    }
}
