//! SET of session_track_… → of what changes of its session the client is told.
//!
//! A connection to a server tells the proxy what it has to know; what the client wants to know is picked from that, and
//! settings beyond it are tracked for the one statement that may change them.

use crate::backend::mysql::TRACKED;
use crate::backend::mysql::TRACKED_VARIABLES;
use crate::error::ClientError;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::plan::mysql_command::Constant;
use crate::plan::mysql_command::Scope;
use crate::plan::mysql_command::Setting;
use crate::plan::mysql_command::Target;
use crate::session::mysql::Session;
use crate::session::mysql::text::Saying;
use crate::wire::mysql::capability;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::tracking::Tracking;

/// Variables that nothing changes but SET, which runs on one connection: whatever it says there is all there is to say.
/// What servers do not know among them they refuse themselves.
const TOLD: [&str; 18] = [
    "auto_increment_increment",
    "auto_increment_offset",
    "autocommit",
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "collation_connection",
    "foreign_key_checks",
    "group_concat_max_len",
    "last_insert_id",
    "lc_time_names",
    "sql_mode",
    "time_zone",
    "transaction_isolation",
    "transaction_read_only",
    "tx_isolation",
    "tx_read_only",
    "unique_checks",
];

/// Whether it is one of these settings.
pub(super) fn is_about(setting: &Setting) -> bool {
    matches!(&setting.target, Target::System(Scope::Session | Scope::Unsaid, name) if name.starts_with("session_track_"))
}

/// What the client is told of behind a SET, if that is about it.
pub(super) fn behind(now: &Tracking, settings: &[Setting]) -> Result<Option<Tracking>, ClientError> {
    let mut tracking = now.clone();
    let mut any = false;
    for setting in settings.iter().filter(|it| is_about(it)) {
        any = true;
        let Target::System(_, name) = &setting.target else { continue };
        let value = match &setting.constant {
            Constant::Default => None,
            Constant::Plain(value) | Constant::Text(value) => Some(value.to_ascii_lowercase()),
            Constant::Expression => return Err(unsupported(name, "such a value")),
        };
        let value = value.as_deref();
        let is_off = matches!(value, None | Some("0" | "off" | "false"));
        match (&**name, value) {
            ("session_track_schema", None | Some("1" | "on" | "true")) => tracking.database = true,
            ("session_track_schema", _) if is_off => tracking.database = false,
            ("session_track_system_variables", None) => tracking.variables = None,
            ("session_track_system_variables", Some(list)) => {
                let names = list.split(',').map(str::trim).filter(|it| !it.is_empty());
                if let Some(other) = names.clone().find(|it| !TOLD.contains(it)) {
                    return Err(unsupported(name, &format!("{other:?}")));
                }
                tracking.variables = Some(names.map(Box::from).collect());
            }
            ("session_track_state_change", _) if is_off => tracking.state = false,
            ("session_track_state_change", Some("1" | "on" | "true")) => tracking.state = true,
            ("session_track_transaction_info" | "session_track_gtids", _) if is_off => {}
            (_, value) => return Err(unsupported(name, value.unwrap_or("DEFAULT"))),
        }
    }
    Ok(any.then_some(tracking))
}

fn unsupported(name: &str, value: &str) -> ClientError {
    ClientError::unsupported(
        format!("SET {name} to {value} is not supported"),
        "Clients are told of another database in use, of a change of state, and of variables that SET alone changes.",
    )
}

impl Session {
    /// Has a connection do what sets variables; `tracks`: while it tells of what the client wants to know. What has changed
    /// is known, once the session has noted it.
    pub(super) async fn set_by(
        &self,
        link: &mut Link,
        saying: Saying<'_>,
        tracks: bool,
    ) -> Result<Result<Done, Failure>, Broken> {
        let doubtful = link.doubtful;
        let told = tracks && self.track_for_client(link).await?;
        match saying {
            Saying::Text(text) => link.say_query(text).await?,
            Saying::Raw(bytes) => link.say_bytes(bytes).await?,
            Saying::Bound(bound) => bound.say(link).await?,
        }
        let done = relay::hear(link).await?;
        if told {
            self.track_as_usual(link).await?;
        }
        link.doubtful = doubtful;
        Ok(done)
    }

    /// Has a connection tell of what the client wants to know besides the usual. Whether it has to be told so no more.
    async fn track_for_client(&self, link: &mut Link) -> Result<bool, Broken> {
        let Some(variables) = &self.client.tracking.variables else { return Ok(false) };
        let agreed = self.client.capabilities & link.connection.capabilities & capability::SESSION_TRACK != 0;
        if !agreed || variables.iter().all(|it| TRACKED_VARIABLES.split(',').any(|tracked| **it == *tracked)) {
            return Ok(false);
        }
        let statement = format!("SET SESSION session_track_system_variables = '{}'", variables.join(","));
        said(link, &statement).await.map(|()| true)
    }

    /// Has a connection tell what the proxy wants to know, and no more.
    pub(super) async fn track_as_usual(&self, link: &mut Link) -> Result<(), Broken> {
        if link.connection.capabilities & capability::SESSION_TRACK == 0 {
            return Ok(());
        }
        said(link, TRACKED).await
    }
}

/// Has it done, of which the session's state knows nothing.
async fn said(link: &mut Link, statement: &str) -> Result<(), Broken> {
    let doubtful = link.doubtful;
    let done = link.run(statement).await?;
    link.doubtful = doubtful;
    done.map(drop).map_err(|failure| Broken::Server(failure.to_string()))
}
