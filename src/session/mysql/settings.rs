//! What a session has set: which of it changes the meaning of texts, and what its server connections have to be told.

use std::sync::Arc;

use crate::backend::Settings;
use crate::error::ClientError;
use crate::exec::mysql::link::NAMES;
use crate::exec::mysql::link::OF_NAMES;
use crate::exec::mysql::link::USUAL_NAMES;
use crate::plan::SessionView;
use crate::wire::mysql::result::Failure;

/// A session's settings.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// As SET would write them, by name in lower case; user variables begin with `@`.
    pub(super) settings: Arc<Settings>,
    /// Those that it came with.
    first: Arc<Settings>,
    /// The servers' own `sql_mode`.
    pub(super) usual_mode: Arc<str>,
}

impl State {
    /// Those of a client that speaks by that collation.
    pub(super) fn new(collation: u16) -> Result<Self, Failure> {
        let names = match collation {
            // utf8mb4_general_ci and its kin; 255 is MySQL 8's own, which MariaDB takes for its usual one.
            45 | 46 | 224..=247 | 255 => USUAL_NAMES,
            33 | 83 | 192..=215 => "utf8mb3",
            11 | 65 => "ascii",
            63 => "binary",
            5 | 8 | 15 | 31 | 47 | 48 | 49 | 94 => "latin1",
            _ => {
                return Err(crate::session::mysql::say::failure(&ClientError::unsupported(
                    format!("the character set of collation {collation} is not supported"),
                    "Connect with utf8mb4.",
                )));
            }
        };
        let none = Settings::none();
        let first = if names == USUAL_NAMES { none } else { Arc::new(none.with(NAMES, names)) };
        Ok(Self { settings: Arc::clone(&first), first, usual_mode: "".into() })
    }

    /// As it was at first.
    pub(super) fn fresh(&self) -> Self {
        Self { settings: Arc::clone(&self.first), ..self.clone() }
    }

    pub(super) fn set(&mut self, name: &str, value: Option<&str>) {
        let name = one_name(name);
        let mut settings = match value {
            Some(value) => self.settings.with(name, value),
            None => self.settings.without(name),
        };
        // It sets all that belongs to it.
        if name == NAMES {
            for other in OF_NAMES {
                settings = settings.without(other);
            }
        }
        self.settings = Arc::new(settings);
    }

    /// What a connection knows a prepared text by: servers read it by the modes in force when it was prepared.
    pub(super) fn key_of(&self, text: &str) -> String {
        let of_reading = ["sql_mode", NAMES, "time_zone", "tx_isolation"];
        let mut key: String =
            of_reading.iter().map(|it| format!("{}\0", self.settings.value(it).map_or("", |it| it))).collect();
        key.push_str(text);
        key
    }

    pub(super) fn autocommit(&self) -> bool {
        self.settings.value("autocommit").is_none_or(|it| {
            let it = it.trim_matches('\'');
            !(it == "0" || it.eq_ignore_ascii_case("off") || it.eq_ignore_ascii_case("false"))
        })
    }

    /// Whether plain reads lock what they read, within transactions.
    pub(super) fn is_serializable(&self) -> bool {
        self.settings.value("tx_isolation").is_some_and(|it| it.to_ascii_uppercase().contains("SERIALIZABLE"))
    }

    /// Whether transactions of which nothing is said may only read.
    pub(super) fn is_read_only(&self) -> bool {
        let is_on = |it: &Arc<str>| matches!(&*it.trim_matches('\'').to_ascii_lowercase(), "1" | "on" | "true");
        self.settings.value("tx_read_only").is_some_and(is_on)
    }

    /// Whether backslashes stand for themselves, as far as the session has said so.
    pub(super) fn keeps_backslashes(&self) -> bool {
        self.sql_mode().to_ascii_uppercase().contains("NO_BACKSLASH_ESCAPES")
    }

    /// Whether what does not fit is an error.
    pub(super) fn is_strict(&self) -> bool {
        let mode = self.sql_mode().to_ascii_uppercase();
        mode.contains("STRICT_") || mode.contains("TRADITIONAL")
    }

    fn sql_mode(&self) -> &str {
        self.settings.value("sql_mode").unwrap_or(&self.usual_mode).trim_matches('\'')
    }

    /// The character set of its texts; where their strings are taken to be of another, none that is known.
    fn character_set(&self) -> &str {
        let set = |name: &str| self.settings.value(name).map(|it| it.trim_matches('\''));
        let names = self.settings.value(NAMES).and_then(|it| it.split(' ').next()).unwrap_or(USUAL_NAMES);
        let client = set("character_set_client").unwrap_or(names);
        let collated = set("collation_connection").and_then(|it| it.split('_').next());
        let others = [set("character_set_connection"), collated, (client != names).then_some(names)];
        // The last that was set counts, which is not kept: so all have to agree.
        if others.into_iter().flatten().all(|it| it.eq_ignore_ascii_case(client)) { client } else { MIXED }
    }

    /// What changes the meaning of its texts, in that database (as the servers call it).
    pub(super) fn view(&self, user: &str, database: &str) -> SessionView {
        SessionView {
            sql_mode: self.sql_mode().into(),
            client_encoding: self.character_set().into(),
            gather: self.settings.value(STRATEGY).is_some_and(|it| is_gather(it)),
            ..SessionView::plain_mysql(user, database)
        }
    }
}

/// The user variable that says how reads of several shards are answered, as settings name it.
const STRATEGY: &str = "@`shardway_strategy`";

/// Whether a variable's value, as it is kept, is the word.
fn is_gather(kept: &str) -> bool {
    // In hexadecimal, where a server has read it.
    kept.eq_ignore_ascii_case("'gather'") || kept.contains("x'676174686572'")
}

/// What stands for a text in one character set whose strings are taken to be of another.
const MIXED: &str = "mixed";

/// Of two names of one variable, that under which it is kept.
pub(super) fn one_name(name: &str) -> &str {
    match name {
        "transaction_isolation" => "tx_isolation",
        "transaction_read_only" => "tx_read_only",
        other => other,
    }
}
