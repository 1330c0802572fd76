//! SET: constants are kept as they stand; what has to be computed a server computes, and its value is kept.
//!
//! Whatever a session has set is told to each of its connections as a constant: so a value is read back from the server
//! that computed it, with its type, its character set and its collation.

use std::rc::Rc;
use std::sync::Arc;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec::mysql::Link;
use crate::exec::mysql::link::NAMES;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::ident::ShardId;
use crate::plan::Command;
use crate::plan::Parameters;
use crate::plan::Plan;
use crate::plan::World;
use crate::plan::mysql_command::Constant;
use crate::plan::mysql_command::MysqlCommand;
use crate::plan::mysql_command::Scope;
use crate::plan::mysql_command::Setting;
use crate::plan::mysql_command::Target;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::command::CHARACTER_SETS;
use crate::session::mysql::command::SETTABLE;
use crate::session::mysql::command::quoted;
use crate::session::mysql::settings::one_name;
use crate::session::mysql::text::Saying;
use crate::session::mysql::text::can_be_told;
use crate::session::mysql::tracking;
use crate::wire::mysql::kind;
use crate::wire::mysql::result::Column;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::result::text_row;

/// What the values that one statement sets may come to, in bytes, as they are read back.
const VALUES_MAX: usize = 4 << 20;

/// What a text with these settings says, to whom it is said, and with which parameters.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    /// The statement.
    pub(super) text: &'a str,
    /// How servers are told it.
    pub(super) saying: Saying<'a>,
    /// Of a prepared one.
    pub(super) parameters: Option<&'a Parameters<'a>>,
}

/// What becomes of one setting.
struct Change {
    /// Under which it is kept.
    name: String,
    /// `None`: as servers have it by default.
    value: Option<Arc<str>>,
    /// What is asked for the value that a server has computed.
    asked: Option<String>,
}

impl Session {
    /// SET of variables. How many warnings there are to be shown.
    pub(super) async fn set(&mut self, settings: &[Setting], said: Said<'_>, several: bool) -> Result<u16, Trouble> {
        if self.set_own(settings)? {
            return Ok(0);
        }
        let before = self.client.tracking.clone();
        let set = self.set_all(settings, said, several).await;
        if set.is_err() {
            // What a SET says of it counts once all of it is done.
            self.client.tracking = before;
        }
        set
    }

    async fn set_all(&mut self, settings: &[Setting], said: Said<'_>, several: bool) -> Result<u16, Trouble> {
        let tracking = tracking::behind(&self.client.tracking, settings)?;
        let mut changes = Vec::with_capacity(settings.len());
        let mut stays = false;
        for it in settings.iter().filter(|it| !tracking::is_about(it)) {
            let (change, stay) = change(it, several)?;
            changes.push(change);
            stays |= stay;
        }
        let commits = settings.iter().any(|it| it.autocommit() == Some(Some(true))) && !self.state.autocommit();
        if commits {
            self.end(true).await?;
        }
        let (shard, pins) = self.where_computed(settings, said, several)?;
        let mut link = match shard {
            Some(shard) => self.take_link(shard).await?,
            None => self.any_link().await?,
        };
        link.pinned |= stays || pins;
        // Who would be told of a variable that there is not has an error that is none of its own.
        let told = |it: &&Change| it.name.starts_with('@') || it.name == NAMES || SETTABLE.contains(&&*it.name);
        let names: Vec<String> = changes.iter().filter(told).map(|it| one_name(&it.name).to_owned()).collect();
        // It says itself what is to be told: the servers' usual, until then.
        let tracks = tracking.is_some();
        if let Some(tracking) = tracking {
            self.client.tracking = tracking;
        }
        let set = self.set_on(&mut link, said, (shard.is_some(), stays), &names, &changes, tracks).await;
        let done = match set {
            // The connection goes on telling what the proxy wants to know, as far as the statement came.
            Ok(set) if tracks => self.track_as_usual(&mut link).await.map(|()| set),
            set => set,
        };
        let (done, values) = match done {
            Err(broken) => return Err(self.lost_all(broken, &link).await),
            Ok(Err(failure)) => {
                self.keep(link);
                return Err(failure.into());
            }
            Ok(Ok(done)) => done,
        };
        if stays || pins {
            self.pins.stay();
        }
        if done.warnings > 0 {
            self.warnings.clear();
            if let Err(broken) = self.warnings.read(&mut link).await {
                return Err(self.lost_all(broken, &link).await);
            }
        }
        self.keep(link);
        let mut computed = values.into_iter();
        for change in &mut changes {
            if change.asked.is_some() {
                change.value = computed.next().flatten().map(Into::into);
            }
            character_set_is_read(change)?;
        }
        if !stays {
            for change in changes {
                self.state.set(&change.name, change.value.as_deref());
            }
        }
        self.forget_world();
        Ok(done.warnings)
    }

    /// The same of another text than the client's.
    pub(super) async fn set_written_out(
        &mut self,
        text: &str,
        world: &Rc<World>,
        several: bool,
    ) -> Result<u16, Trouble> {
        let compiled = self.worker.planner.borrow_mut().compile(text, world)?;
        let command = compiled.first().map(|it| Rc::clone(&it.template));
        let Some(Command::Mysql(command)) = command.as_ref().map(|it| &it.command) else { return Err(spread().into()) };
        let MysqlCommand::Set(settings) = &**command else { return Err(spread().into()) };
        self.set(settings, Said { text, saying: Saying::Text(text), parameters: None }, several).await
    }

    /// Where what has to be computed can be: `None`: nothing has, or anywhere. Also whether it leaves something on its
    /// connection.
    fn where_computed(
        &mut self,
        settings: &[Setting],
        said: Said<'_>,
        several: bool,
    ) -> Result<(Option<ShardId>, bool), Trouble> {
        let computed: Vec<&str> = settings
            .iter()
            .filter(|it| it.constant == Constant::Expression)
            .filter_map(|it| said.text.get(it.value.clone()))
            .collect();
        if computed.is_empty() {
            return Ok((None, false));
        }
        let asked = format!("SELECT {}", computed.join(", "));
        let world = self.world()?;
        let compiled = self.worker.planner.borrow_mut().compile(&asked, &world)?;
        let [planned] = compiled.as_slice() else { return Err(spread().into()) };
        let effects = &planned.template.effects;
        can_be_told(effects, &asked, several)?;
        if several && !effects.assigns.is_empty() {
            return Err(spread().into());
        }
        let leaves = effects.pins.is_some();
        if several && leaves {
            return Err(spread().into());
        }
        let shard = match planned.plan(&asked, said.parameters, &world)? {
            Plan::One(shard) => shard,
            // Tables that are alike everywhere; or none.
            Plan::Any if effects.asks_catalogs => return Ok((None, leaves)),
            Plan::Any => self.any_shard()?,
            _ => return Err(spread().into()),
        };
        Ok((Some(shard), leaves))
    }

    /// Has one server do it, and reads what it has computed. The session's other connections follow when they are used.
    /// `tracks`: it says itself what the client is told of.
    async fn set_on(
        &mut self,
        link: &mut Link,
        said: Said<'_>,
        (reads, stays): (bool, bool),
        names: &[String],
        changes: &[Change],
        tracks: bool,
    ) -> Result<Result<(Done, Vec<Option<String>>), Failure>, Broken> {
        let settings = Arc::clone(&self.state.settings);
        if let Err(failure) = link.take_up(&settings).await? {
            return Ok(Err(failure));
        }
        if reads && let Err(failure) = self.join(link).await? {
            return Ok(Err(failure));
        }
        let saying = match said.saying {
            Saying::Bound(bound) if said.parameters.is_some_and(|it| !it.values.is_empty()) => {
                if let Err(failure) = self.ready_prepared(link, bound).await? {
                    return Ok(Err(failure));
                }
                said.saying
            }
            _ => Saying::Text(said.text),
        };
        let done = self.set_by(link, saying, !tracks).await?;
        link.doubtful |= stays;
        link.forget(names);
        let done = match done {
            Ok(done) => done,
            Err(failure) => return Ok(Err(failure)),
        };
        self.client.note_changes(&done);
        let asked: Vec<&str> = changes.iter().filter_map(|it| it.asked.as_deref()).collect();
        if asked.is_empty() || stays {
            return Ok(Ok((done, Vec::new())));
        }
        // Its warnings would be gone with the next statement.
        if done.warnings > 0 {
            self.warnings.clear();
            self.warnings.read(link).await?;
        }
        let values = read_back(link, &asked).await?;
        Ok(values.map(|values| (done, values)))
    }

    /// Reads the values of user variables that a statement has given values on one server.
    pub(super) async fn read_variables(&mut self, link: &mut Link, names: &[Arc<str>]) -> Result<(), Broken> {
        let targets: Vec<String> = names.iter().map(|it| variable(it)).collect();
        let asked: Vec<String> = targets.iter().map(|it| of_variable(it)).collect();
        let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
        link.forget(&targets);
        match read_back(link, &asked).await? {
            Ok(values) => {
                for (name, value) in targets.iter().zip(values) {
                    self.state.set(name, value.as_deref());
                }
                Ok(())
            }
            Err(failure) => Err(Broken::Server(failure.to_string())),
        }
    }

    /// SET CHARACTER SET.
    pub(super) async fn set_character_set(&mut self, character_set: Option<&str>, said: &str) -> Result<(), Trouble> {
        if let Some(name) = character_set {
            is_read(name)?;
        }
        const SETS: [&str; 3] = ["character_set_client", "character_set_results", "collation_connection"];
        let mut link = self.any_link().await?;
        let names: Vec<String> = std::iter::once(NAMES).chain(SETS).map(str::to_owned).collect();
        let asked: Vec<String> = SETS.iter().map(|it| of_system(it)).collect();
        let changes: Vec<Change> = SETS
            .iter()
            .zip(asked)
            .map(|(name, asked)| Change { name: (*name).to_owned(), value: None, asked: Some(asked) })
            .collect();
        let said = Said { text: said, saying: Saying::Text(said), parameters: None };
        let values = match self.set_on(&mut link, said, (false, false), &names, &changes, false).await {
            Err(broken) => return Err(self.lost_all(broken, &link).await),
            Ok(Err(failure)) => {
                self.keep(link);
                return Err(failure.into());
            }
            Ok(Ok((_, values))) => values,
        };
        self.keep(link);
        let changes = changes.into_iter().zip(values);
        let changes: Vec<Change> = changes.map(|(it, value)| Change { value: value.map(Into::into), ..it }).collect();
        changes.iter().try_for_each(character_set_is_read)?;
        for change in changes {
            self.state.set(&change.name, change.value.as_deref());
        }
        self.forget_world();
        Ok(())
    }
}

/// What one setting changes; also whether it stays on the connection, for nobody can tell another server.
fn change(it: &Setting, several: bool) -> Result<(Change, bool), ClientError> {
    let number = |value: &str| {
        let number = value.strip_prefix('-').unwrap_or(value);
        !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit() || it == b'.')
    };
    let word = |value: &str, words: &[&str]| words.iter().any(|it| value.eq_ignore_ascii_case(it));
    match &it.target {
        Target::User(name) => {
            let name = variable(name);
            let asked = || Some(of_variable(&name));
            let (value, asked) = match &it.constant {
                Constant::Plain(value) if number(value) || word(value, &["null", "true", "false"]) => {
                    (Some(Arc::clone(value)), None)
                }
                _ => (None, asked()),
            };
            Ok((Change { name, value, asked }, false))
        }
        Target::Names => {
            let Constant::Plain(value) = &it.constant else { return Err(spread()) };
            Ok((Change { name: NAMES.to_owned(), value: Some(Arc::clone(value)), asked: None }, false))
        }
        Target::System(Scope::Global | Scope::Persist, name) => {
            Err(ClientError::unsupported(format!("SET GLOBAL {name} is not supported"), "Set it on each server."))
        }
        Target::System(Scope::Session | Scope::Unsaid, name) => {
            let name = name.to_string();
            if it.autocommit() == Some(None) {
                return Err(ClientError::unsupported(
                    "SET autocommit to such a value is not supported",
                    "Set it to 0 or 1.",
                ));
            }
            let known = SETTABLE.contains(&&*name);
            // As it is without being set.
            let usual = match (&*name, &it.constant) {
                ("sql_auto_is_null" | "completion_type" | "profiling", Constant::Plain(value)) => &**value == "0",
                ("sql_select_limit", Constant::Plain(value)) => &**value == "18446744073709551615",
                ("sql_select_limit" | "completion_type" | "sql_auto_is_null", Constant::Default) => true,
                _ => false,
            };
            if !known && !usual && several {
                return Err(ClientError::unsupported(
                    format!("SET {name} over several shards is not supported"),
                    "Set it on the servers, or leave it as it is.",
                ));
            }
            let asked = || Some(of_system(&name));
            let (value, asked) = match &it.constant {
                _ if !known => (None, None),
                Constant::Default => (None, None),
                Constant::Plain(value) => match it.autocommit() {
                    Some(Some(on)) => (Some(if on { "1" } else { "0" }.into()), None),
                    // A mode by its number, or by a variable's name.
                    _ if name == "sql_mode" && !value.starts_with(|it: char| it.is_ascii_alphabetic()) => {
                        (None, asked())
                    }
                    _ => (Some(Arc::clone(value)), None),
                },
                // How it is written depends on a mode that may be another when the next connection hears it.
                Constant::Text(value) if value.contains('\\') => (None, asked()),
                Constant::Text(value) => (Some(literal(value).into()), None),
                Constant::Expression => (None, asked()),
            };
            Ok((Change { name, value, asked }, !known && !usual))
        }
    }
}

/// Refuses character sets in which a text would not be read as its server reads it.
fn character_set_is_read(change: &Change) -> Result<(), ClientError> {
    let value = change.value.as_deref().map(|it| it.trim_matches('\''));
    match (&*change.name, value) {
        (NAMES, Some(value)) => is_read(value.split(' ').next().unwrap_or(value)),
        ("character_set_client" | "character_set_connection", Some(value)) => is_read(value),
        ("character_set_results", Some(value)) if !value.eq_ignore_ascii_case("null") => is_read(value),
        ("collation_connection", Some(value)) => is_read(value.split('_').next().unwrap_or(value)),
        // By default it is as the server has it.
        ("character_set_client" | "character_set_connection" | "collation_connection", None) => Err(
            ClientError::unsupported(format!("SET {} = DEFAULT is not supported", change.name), "SET NAMES utf8mb4."),
        ),
        _ => Ok(()),
    }
}

fn is_read(character_set: &str) -> Result<(), ClientError> {
    if CHARACTER_SETS.iter().any(|it| it.eq_ignore_ascii_case(character_set)) {
        return Ok(());
    }
    Err(ClientError::unsupported(format!("character set {character_set} is not supported"), "SET NAMES utf8mb4."))
}

fn spread() -> ClientError {
    ClientError::new(
        Code::Unsupported,
        "SET to a value that no single shard can compute is not supported",
        "Ask for the value by a statement of its own, and set a constant.",
    )
}

/// A user variable as it is kept among the settings.
pub(super) fn variable(name: &str) -> String {
    format!("@{}", quoted(&name.to_lowercase()))
}

/// A string without backslashes as SQL writes it.
fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

// ── values that servers have computed ──

fn of_variable(variable: &str) -> String {
    format!("{variable}, CHARSET({variable}), COLLATION({variable}), HEX({variable})")
}

fn of_system(name: &str) -> String {
    let variable = format!("@@session.{}", quoted(name));
    format!("{variable}, '', '', HEX({variable})")
}

/// How long servers say that a variable is that nobody has given a value.
const UNSET_LENGTH: u32 = 1 << 24;

/// Cells that are asked for of one variable.
const CELLS: usize = 4;

/// Asks a server for values, and gives them as constants of SQL; `None`: there is none.
async fn read_back(link: &mut Link, asked: &[&str]) -> Result<Result<Vec<Option<String>>, Failure>, Broken> {
    link.say_query(&format!("SELECT {}", asked.join(", "))).await?;
    let collected = match relay::collect(link, VALUES_MAX).await? {
        Ok(collected) => collected,
        Err(failure) => return Ok(Err(failure)),
    };
    let broken = || Broken::Server("answers a question for values with something else".to_owned());
    let row = collected.rows.first().ok_or_else(broken)?;
    let cells = text_row(row, collected.columns.len()).map_err(|_| broken())?;
    let text = |cell: Option<&[u8]>| cell.map(|it| String::from_utf8_lossy(it).into_owned());
    let mut values = Vec::with_capacity(asked.len());
    for (columns, cells) in collected.columns.chunks(CELLS).zip(cells.chunks(CELLS)) {
        let ([column, ..], [value, set, collation, hex]) = (columns, cells) else { return Err(broken()) };
        let (set, collation) = (text(*set).unwrap_or_default(), text(*collation).unwrap_or_default());
        // One that nobody has given a value yet; NULL that was given is described as shorter.
        if value.is_none() && column.length == UNSET_LENGTH {
            values.push(None);
            continue;
        }
        values.push(Some(constant(column, text(*value), &set, &collation, text(*hex))));
    }
    Ok(Ok(values))
}

/// A value as a constant of the same type.
fn constant(column: &Column, value: Option<String>, set: &str, collation: &str, hex: Option<String>) -> String {
    const UNSIGNED: u16 = 32;
    let unsigned = column.flags & UNSIGNED != 0;
    match (column.kind, value) {
        (kind::LONGLONG, None) if set.is_empty() => "NULL".to_owned(),
        (kind::LONGLONG, None) => format!("CAST(NULL AS {})", if unsigned { "UNSIGNED" } else { "SIGNED" }),
        (kind::LONGLONG, Some(value)) if unsigned && !set.is_empty() => format!("CAST({value} AS UNSIGNED)"),
        (kind::NEW_DECIMAL, None) => "CAST(NULL AS DECIMAL(65,30))".to_owned(),
        (kind::NEW_DECIMAL, Some(value)) if value.contains('.') => value,
        (kind::NEW_DECIMAL, Some(value)) => format!("CAST({value} AS DECIMAL(65,0))"),
        (kind::DOUBLE, None) => "CAST(NULL AS DOUBLE)".to_owned(),
        (kind::DOUBLE, Some(value)) if value.contains(['e', 'E']) => value,
        (kind::DOUBLE, Some(value)) => format!("{value}e0"),
        (kind::TINY | kind::SHORT | kind::INT24 | kind::LONG | kind::LONGLONG, Some(value)) => value,
        // Of a system variable.
        (_, Some(value)) if set.is_empty() && !value.contains('\\') => literal(&value),
        (_, Some(_)) if set.is_empty() => format!("x'{}'", hex.unwrap_or_default()),
        (_, None) if set.is_empty() || set == "binary" => "NULL".to_owned(),
        (_, None) => format!("CONVERT(NULL USING {set}) COLLATE {collation}"),
        (_, Some(_)) if set == "binary" => format!("_binary x'{}'", hex.unwrap_or_default()),
        (_, Some(_)) => format!("_{set} x'{}' COLLATE {collation}", hex.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_what_they_are() {
        let of = |kind, flags, value: Option<&str>, set: &str, hex: &str| {
            let column = Column { kind, flags, ..Column::default() };
            constant(&column, value.map(str::to_owned), set, "c", Some(hex.to_owned()))
        };
        assert_eq!(of(kind::LONGLONG, 0, Some("-5"), "binary", ""), "-5");
        assert_eq!(of(kind::LONGLONG, 32, Some("5"), "binary", ""), "CAST(5 AS UNSIGNED)");
        assert_eq!(of(kind::LONGLONG, 0, None, "binary", ""), "CAST(NULL AS SIGNED)");
        assert_eq!(of(kind::NEW_DECIMAL, 0, Some("1.50"), "binary", ""), "1.50");
        assert_eq!(of(kind::NEW_DECIMAL, 0, Some("2"), "binary", ""), "CAST(2 AS DECIMAL(65,0))");
        assert_eq!(of(kind::DOUBLE, 0, Some("2"), "binary", ""), "2e0");
        assert_eq!(of(kind::DOUBLE, 0, Some("1e300"), "binary", ""), "1e300");
        assert_eq!(of(kind::MEDIUM_BLOB, 0, Some("it's"), "utf8mb4", "69742773"), "_utf8mb4 x'69742773' COLLATE c");
        assert_eq!(of(kind::MEDIUM_BLOB, 0, None, "binary", ""), "NULL");
        assert_eq!(of(kind::MEDIUM_BLOB, 0, None, "latin1", ""), "CONVERT(NULL USING latin1) COLLATE c");
        assert_eq!(of(kind::VAR_STRING, 0, Some("a'b"), "", ""), "'a''b'");
        assert_eq!(of(kind::VAR_STRING, 0, Some("a\\"), "", "615C"), "x'615C'");
    }
}
