//! What one client has said of itself: settings, and what follows from them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Settings;
use crate::error::ClientError;
use crate::error::Code;
use crate::ident::ShardId;
use crate::plan::Pin;
use crate::plan::SessionView;
use crate::shard_map::Consistency;
use crate::shard_map::Database;
use crate::shard_map::User;

/// Settings and pins of one session.
#[derive(Debug)]
pub struct State {
    /// The name it logged in with.
    pub user: Arc<str>,
    /// Settings given at login: where RESET goes back to.
    pub startup: Arc<Settings>,
    /// Session-level settings now.
    pub settings: Arc<Settings>,
    /// What the servers have by default, where planning must know: lower-case name → value.
    pub defaults: HashMap<Arc<str>, Arc<str>>,
    /// What the client was last told of each reported setting.
    pub reported: HashMap<String, String>,
    /// What ties the session to server connections.
    pub pins: Vec<(ShardId, Pin)>,
}

impl State {
    /// The value of a setting as the session sees it: SET LOCAL first, then SET, then the server's default.
    #[must_use]
    pub fn value<'a>(&'a self, name: &str, local: &'a Settings) -> Option<&'a Arc<str>> {
        local.value(name).or_else(|| self.settings.value(name)).or_else(|| self.defaults.get(name))
    }

    /// What planning may see.
    #[must_use]
    pub fn view(&self, local: &Settings, database: &Database) -> SessionView {
        let text = |name: &str, otherwise: &str| -> Arc<str> {
            self.value(name, local).map_or_else(|| otherwise.into(), Arc::clone)
        };
        let names: Vec<Arc<str>> = self
            .pins
            .iter()
            .filter_map(|(_, pin)| match pin {
                Pin::Temporary(name) => Some(Arc::clone(name)),
                _ => None,
            })
            .collect();
        let home = self.pins.iter().find(|(_, pin)| matches!(pin, Pin::Temporary(_))).map(|(shard, _)| *shard);
        let role = self.value("role", local).filter(|role| &***role != "none").map(Arc::clone);
        let hint = self.value("shardway.shard", local).and_then(|name| shard_named(database, name));
        SessionView {
            user: Arc::clone(&self.user),
            role,
            search_path: text("search_path", "\"$user\", public"),
            time_zone: text("timezone", "GMT"),
            date_style: text("datestyle", "ISO, MDY"),
            client_encoding: text("client_encoding", "UTF8"),
            temporary: home.map(|shard| (shard, names)),
            hint,
            gather: self.value("shardway.strategy", local).is_some_and(|it| &**it == "gather"),
            sql_mode: "".into(),
        }
    }

    /// How new reads must be.
    #[must_use]
    pub fn consistency(&self, local: &Settings, user: &User, database: &Database) -> Consistency {
        match local.value("shardway.consistency").or_else(|| self.settings.value("shardway.consistency")) {
            Some(text) => consistency_of(text).unwrap_or(Consistency::Strong),
            None => user.consistency.unwrap_or(database.reads.consistency),
        }
    }
}

/// The shard of that name.
#[must_use]
pub fn shard_named(database: &Database, name: &str) -> Option<ShardId> {
    let place = database.shards.iter().position(|shard| &*shard.name == name)?;
    u16::try_from(place).ok().map(ShardId)
}

/// A level as SET takes it.
#[must_use]
pub fn consistency_name(level: Consistency) -> String {
    match level {
        Consistency::Strong => "strong".to_owned(),
        Consistency::Session => "session".to_owned(),
        Consistency::Bounded(None) => "bounded".to_owned(),
        Consistency::Bounded(Some(span)) => format!("bounded:{}ms", span.as_millis()),
        Consistency::Eventual => "eventual".to_owned(),
    }
}

/// Reads a level as SET takes it.
#[must_use]
pub fn consistency_of(text: &str) -> Option<Consistency> {
    match text {
        "strong" => Some(Consistency::Strong),
        "session" => Some(Consistency::Session),
        "eventual" => Some(Consistency::Eventual),
        "bounded" => Some(Consistency::Bounded(None)),
        _ => {
            let span = text.strip_prefix("bounded:")?;
            let (number, unit) = span.split_at(span.find(|c: char| !c.is_ascii_digit())?);
            let number: u64 = number.parse().ok()?;
            let span = match unit {
                "ms" => Duration::from_millis(number),
                "s" => Duration::from_secs(number),
                "m" => Duration::from_secs(number.checked_mul(60)?),
                _ => return None,
            };
            Some(Consistency::Bounded(Some(span)))
        }
    }
}

/// Whether the proxy's own setting `name` (with its `shardway.`) may have that value.
///
/// # Errors
/// An unknown name (42704), a bad value (22023), or one that is not built yet (0A000).
pub fn check_own(name: &str, value: &str, database: &Database, user: &User) -> Result<(), ClientError> {
    let bad = |allowed: &str| {
        Err(ClientError::new(
            Code::InvalidSetting,
            format_args!("invalid value for parameter \"{name}\": \"{value}\""),
            format!("Allowed: {allowed}."),
        ))
    };
    match name {
        "shardway.consistency" => match consistency_of(value) {
            Some(_) => Ok(()),
            None => bad("strong, session, bounded, bounded:500ms, eventual"),
        },
        "shardway.snapshot" => match value {
            "shard" | "atomic" | "strict" => Ok(()),
            _ => bad("shard, atomic, strict"),
        },
        "shardway.strategy" => match value {
            "auto" | "gather" => Ok(()),
            _ => bad("auto, gather"),
        },
        "shardway.token" => Err(ClientError::unsupported(
            "shardway.token is not built yet",
            "Use shardway.consistency = 'strong' where one service must see what another wrote.",
        )),
        "shardway.shard" if !user.hints => Err(ClientError::new(
            Code::NotPermitted,
            "permission denied to set \"shardway.shard\"",
            "Only users with `hints: true` in the shard map may choose shards themselves.",
        )),
        "shardway.shard" => match shard_named(database, value) {
            Some(_) => Ok(()),
            None => bad("the names of the shards in the map"),
        },
        _ => Err(ClientError::new(
            Code::UnknownSetting,
            format_args!("unrecognized configuration parameter \"{name}\""),
            "Settings under shardway. are the proxy's: consistency, snapshot, strategy, token, shard.",
        )),
    }
}

/// Whether shardway can work with that value of a server's setting.
///
/// # Errors
/// What would change how texts or keys are read in ways that routing does not follow.
pub fn check_server(name: &str, value: &str) -> Result<(), ClientError> {
    let refuse = |hint: &str| {
        Err(ClientError::unsupported(format_args!("setting \"{name}\" to \"{value}\" is not supported"), hint))
    };
    match name {
        "standard_conforming_strings" if !is_on(value) => {
            refuse("Literals are read as standard SQL strings; write E'…' where backslashes escape.")
        }
        "transform_null_equals" if is_on(value) => {
            refuse("Write IS NULL: routing reads `= NULL` as the standard does.")
        }
        "client_encoding" => {
            let plain: String =
                value.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
            match plain.as_str() {
                "big5" | "gb18030" | "gbk" | "windows936" | "win936" | "sjis" | "shiftjis" | "mskanji" | "win932"
                | "windows932" | "uhc" | "windows949" | "win949" | "johab" | "shiftjis2004" | "shiftjis04" => {
                    refuse("In this encoding a quote's byte may be part of a character: use UTF8.")
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn is_on(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1" | "t" | "y" | "tr" | "tru" | "ye")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_needs_its_unit() {
        assert_eq!(consistency_of("bounded:500ms"), Some(Consistency::Bounded(Some(Duration::from_millis(500)))));
        assert_eq!(consistency_of("bounded"), Some(Consistency::Bounded(None)));
        assert_eq!(consistency_of("bounded:500"), None);
        assert_eq!(consistency_of("linear"), None);
    }

    #[test]
    fn settings_that_change_how_texts_are_read_are_refused() {
        assert!(check_server("standard_conforming_strings", "off").is_err());
        assert!(check_server("standard_conforming_strings", "on").is_ok());
        assert!(check_server("client_encoding", "SJIS").is_err());
        assert!(check_server("client_encoding", "latin1").is_ok());
    }
}
