//! One statement: what the session does itself, and what goes to servers.

use std::rc::Rc;
use std::sync::Arc;

use crate::error::ClientError;
use crate::exec::mysql::link::NAMES;
use crate::plan::Command;
use crate::plan::Parameters;
use crate::plan::Planned;
use crate::plan::World;
use crate::plan::mysql_command::Constant;
use crate::plan::mysql_command::Ending;
use crate::plan::mysql_command::Level;
use crate::plan::mysql_command::MysqlCommand;
use crate::plan::mysql_command::Scope;
use crate::plan::mysql_command::Setting;
use crate::plan::mysql_command::Target;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::settings::one_name;
use crate::session::mysql::text::Saying;

/// Variables of a session that shards may be told one by one: each shard does with them what one server would.
pub(super) const SETTABLE: [&str; 31] = [
    "autocommit",
    "default_storage_engine",
    "div_precision_increment",
    "foreign_key_checks",
    "group_concat_max_len",
    "innodb_lock_wait_timeout",
    "interactive_timeout",
    "lc_messages",
    "lc_time_names",
    "lock_wait_timeout",
    "max_execution_time",
    "max_statement_time",
    "net_read_timeout",
    "net_write_timeout",
    "optimizer_search_depth",
    "optimizer_switch",
    "sql_mode",
    "sql_notes",
    "sql_quote_show_create",
    "sql_safe_updates",
    "sql_warnings",
    "storage_engine",
    "time_zone",
    "transaction_isolation",
    "transaction_read_only",
    "tx_isolation",
    "tx_read_only",
    "unique_checks",
    "updatable_views_with_limit",
    "wait_timeout",
    "default_week_format",
];

/// Character sets in which all of ASCII stands for itself.
const CHARACTER_SETS: [&str; 6] = ["utf8mb4", "utf8mb3", "utf8", "ascii", "latin1", "binary"];

impl Session {
    /// Runs one statement of a text.
    pub(super) async fn statement(
        &mut self,
        text: &str,
        saying: Saying<'_>,
        planned: &Planned,
        parameters: Option<&Parameters<'_>>,
        world: &Rc<World>,
        more: bool,
    ) -> Result<(), Trouble> {
        let ends = matches!(&planned.template.command, Command::Mysql(it) if matches!(**it, MysqlCommand::Commit(_) | MysqlCommand::Rollback(_)));
        if !ends {
            self.refuse_undone()?;
            self.refuse_on_replicas(&planned.template)?;
        }
        let command = match &planned.template.command {
            Command::Mysql(command) => command,
            Command::Empty => return Box::pin(self.empty(text, more)).await,
            _ => return self.data(text, saying, planned, parameters, world, more).await,
        };
        let said = text.get(planned.range.clone()).unwrap_or_default();
        Box::pin(self.command_of_its_own(command, said, parameters.is_some(), world, more)).await
    }

    async fn command_of_its_own(
        &mut self,
        command: &MysqlCommand,
        said: &str,
        prepared: bool,
        world: &Rc<World>,
        more: bool,
    ) -> Result<(), Trouble> {
        let several = world.database.shards.len() > 1;
        match command {
            MysqlCommand::Begin { snapshot, read_only } => {
                if *snapshot && several {
                    return Err(ClientError::unsupported(
                        "START TRANSACTION WITH CONSISTENT SNAPSHOT over several shards is not supported",
                        "Leave it out: each shard's snapshot is taken at its first statement.",
                    )
                    .into());
                }
                self.begin(said, *read_only).await?;
                if *snapshot {
                    self.touch().await?;
                }
            }
            MysqlCommand::Commit(ending) => {
                plain_ending(*ending)?;
                self.end(true).await?;
            }
            MysqlCommand::Rollback(ending) => {
                plain_ending(*ending)?;
                self.end(false).await?;
            }
            MysqlCommand::Savepoint(name) => self.savepoint(&quoted(name)).await?,
            MysqlCommand::RollbackTo(name) => self.roll_back_to(&quoted(name)).await?,
            MysqlCommand::Release(name) => self.release_savepoint(&quoted(name)).await?,
            MysqlCommand::SetTransaction { scope: None, .. } => self.next_transaction(said)?,
            MysqlCommand::SetTransaction { scope: Some(Scope::Session | Scope::Unsaid), level, read_only } => {
                self.have_said(said, &["tx_isolation".to_owned(), "tx_read_only".to_owned()]).await?;
                if let Some(level) = level {
                    self.state.set("tx_isolation", Some(isolation(*level)));
                }
                if let Some(read_only) = read_only {
                    self.state.set("tx_read_only", Some(if *read_only { "1" } else { "0" }));
                }
            }
            MysqlCommand::Set(settings) => {
                let computed = settings.iter().any(|it| it.constant == Constant::Expression);
                if prepared && computed {
                    return Err(ClientError::unsupported(
                        "a prepared SET to an expression or parameter is not supported",
                        "Set a constant by a query.",
                    )
                    .into());
                }
                self.set(settings, said, several).await?;
            }
            MysqlCommand::SetNames { character_set, collation } => {
                self.set_names(character_set.as_deref(), collation.as_deref(), said).await?;
            }
            MysqlCommand::Use(name) => self.use_database(name)?,
            MysqlCommand::ShowWarnings { errors, count } => {
                return self.show_warnings(*errors, *count, prepared, more).await;
            }
            MysqlCommand::SetTransaction { .. }
            | MysqlCommand::SetCharacterSet(_)
            | MysqlCommand::ShowProcesses
            | MysqlCommand::Kill { .. }
            | MysqlCommand::Prepare { .. }
            | MysqlCommand::Execute { .. }
            | MysqlCommand::Deallocate(_) => return Err(not_there(command).into()),
        }
        self.done(more);
        Ok(())
    }

    /// SET of variables.
    async fn set(&mut self, settings: &[Setting], said: &str, several: bool) -> Result<(), Trouble> {
        if self.set_own(settings)? {
            return Ok(());
        }
        let mut changes: Vec<(String, Option<Arc<str>>)> = Vec::new();
        let mut stays = false;
        for it in settings {
            settable(it)?;
            let value = match &it.constant {
                Constant::Default => None,
                Constant::Plain(value) => Some(match it.autocommit() {
                    Some(Some(on)) => if on { "1" } else { "0" }.into(),
                    _ => Arc::clone(value),
                }),
                // How it is written depends on a mode that may be another when the next connection hears it.
                Constant::Text(value) if value.contains('\\') => {
                    return Err(ClientError::unsupported(
                        "SET to a string with a backslash is not supported",
                        "Give such values as parameters of the statements that use them.",
                    )
                    .into());
                }
                Constant::Text(value) => Some(literal(value).into()),
                Constant::Expression if several => {
                    return Err(ClientError::unsupported(
                        "SET to an expression over several shards is not supported",
                        "Set a constant.",
                    )
                    .into());
                }
                Constant::Expression => {
                    stays = true;
                    None
                }
            };
            match &it.target {
                Target::User(name) => changes.push((format!("@{}", quoted(&name.to_lowercase())), value)),
                Target::System(Scope::Session | Scope::Unsaid, name) => {
                    let known = SETTABLE.contains(&&**name);
                    if !known && several {
                        return Err(ClientError::unsupported(
                            format!("SET {name} over several shards is not supported"),
                            "Set it on the servers, or leave it as it is.",
                        )
                        .into());
                    }
                    stays |= !known;
                    changes.push((name.to_string(), value));
                }
                Target::System(Scope::Global | Scope::Persist, name) => {
                    return Err(ClientError::unsupported(
                        format!("SET GLOBAL {name} is not supported"),
                        "Set it on each server.",
                    )
                    .into());
                }
            }
        }
        let commits = settings.iter().any(|it| it.autocommit() == Some(Some(true))) && !self.state.autocommit();
        if commits {
            self.end(true).await?;
        }
        if stays {
            return self.have_said_for_good(said).await;
        }
        // A server says what is wrong with it.
        let names: Vec<String> = changes.iter().map(|(name, _)| one_name(name).to_owned()).collect();
        self.have_said(said, &names).await?;
        for (name, value) in changes {
            self.state.set(&name, value.as_deref());
        }
        self.forget_world();
        Ok(())
    }

    async fn set_names(
        &mut self,
        character_set: Option<&str>,
        collation: Option<&str>,
        said: &str,
    ) -> Result<(), Trouble> {
        let Some(character_set) = character_set else {
            return Err(
                ClientError::unsupported("SET NAMES DEFAULT is not supported", "Name the character set.").into()
            );
        };
        // A server says what it does not know; its connection is told again what the session speaks.
        self.have_said(said, &[NAMES.to_owned()]).await?;
        if !CHARACTER_SETS.iter().any(|it| it.eq_ignore_ascii_case(character_set)) {
            return Err(ClientError::unsupported(
                format!("SET NAMES {character_set} is not supported"),
                "SET NAMES utf8mb4.",
            )
            .into());
        }
        let value = match collation {
            Some(collation) => format!("{character_set} COLLATE {collation}"),
            None => character_set.to_owned(),
        };
        self.state.set(NAMES, Some(&value));
        self.forget_world();
        Ok(())
    }

    /// Has one server do it, which tells what is wrong with it. The session's other connections follow when they are used.
    async fn have_said(&mut self, said: &str, names: &[String]) -> Result<(), Trouble> {
        let mut link = self.any_link().await?;
        let settings = Arc::clone(&self.state.settings);
        let done = async {
            if let Err(failure) = link.take_up(&settings).await? {
                return Ok(Err(failure));
            }
            let doubtful = link.doubtful;
            let done = link.run(said).await?;
            // What has changed is known, once the session has noted it.
            link.doubtful = doubtful;
            link.forget(names);
            Ok(done)
        };
        match done.await {
            Ok(Ok(_)) => {
                self.keep(link);
                Ok(())
            }
            Ok(Err(failure)) => {
                self.keep(link);
                Err(failure.into())
            }
            Err(broken) => Err(self.lost_all(broken, &link).await),
        }
    }

    /// The same where nobody can tell another server what it has done: the connection stays with the session.
    async fn have_said_for_good(&mut self, said: &str) -> Result<(), Trouble> {
        let mut link = self.any_link().await?;
        let settings = Arc::clone(&self.state.settings);
        let done = async {
            if let Err(failure) = link.take_up(&settings).await? {
                return Ok(Err(failure));
            }
            link.run(said).await
        };
        match done.await {
            Ok(done) => {
                link.pinned = true;
                link.doubtful = true;
                self.pins.stay();
                self.keep(link);
                done.map(|_| ()).map_err(Trouble::from)
            }
            Err(broken) => Err(self.lost_all(broken, &link).await),
        }
    }

    /// Has the only shard join the transaction now.
    async fn touch(&mut self) -> Result<(), Trouble> {
        let mut link = self.any_link().await?;
        match self.join(&mut link).await {
            Ok(joined) => {
                self.keep(link);
                joined.map_err(Trouble::from)
            }
            Err(broken) => Err(self.lost_all(broken, &link).await),
        }
    }
}

fn plain_ending(ending: Ending) -> Result<(), ClientError> {
    if ending.chain == Some(true) || ending.release == Some(true) {
        return Err(ClientError::unsupported(
            "AND CHAIN and RELEASE are not supported",
            "End the transaction, and begin the next one.",
        ));
    }
    Ok(())
}

fn not_there(command: &MysqlCommand) -> ClientError {
    let (what, hint) = match command {
        MysqlCommand::SetTransaction { .. } => ("SET GLOBAL TRANSACTION", "Set it on each server."),
        MysqlCommand::SetCharacterSet(_) => ("SET CHARACTER SET", "SET NAMES does the same for the client's side."),
        MysqlCommand::ShowProcesses => ("SHOW PROCESSLIST", "Ask each server."),
        MysqlCommand::Kill { .. } => ("KILL", "Kill the connection on its server."),
        _ => ("PREPARE in SQL", "Prepare statements by the driver's protocol."),
    };
    ClientError::unsupported(format!("{what} is not supported"), hint)
}

fn isolation(level: Level) -> &'static str {
    match level {
        Level::ReadUncommitted => "'READ-UNCOMMITTED'",
        Level::ReadCommitted => "'READ-COMMITTED'",
        Level::RepeatableRead => "'REPEATABLE-READ'",
        Level::Serializable => "'SERIALIZABLE'",
    }
}

/// A name as SQL writes it.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A string without backslashes as SQL writes it.
fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Refuses what is not the same whenever it is said again, or what the proxy would not know of.
fn settable(setting: &Setting) -> Result<(), ClientError> {
    let plain = |value: &str| {
        let number = value.strip_prefix('-').unwrap_or(value);
        let number = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit() || it == b'.');
        number || ["null", "true", "false"].iter().any(|it| value.eq_ignore_ascii_case(it))
    };
    let refused = match (&setting.target, &setting.constant) {
        (Target::User(name), Constant::Plain(value)) if !plain(value) => format!("SET @{name} to {value}"),
        (Target::System(_, name), Constant::Plain(value))
            if **name == *"sql_mode" && !value.starts_with(|it: char| it.is_ascii_alphabetic()) =>
        {
            "SET sql_mode to a number".to_owned()
        }
        (Target::System(_, name), Constant::Expression)
            if ["sql_mode", "autocommit"].contains(&&**name) || name.starts_with("character_set") =>
        {
            format!("SET {name} to an expression")
        }
        _ if setting.autocommit() == Some(None) => "SET autocommit to such a value".to_owned(),
        _ => return Ok(()),
    };
    Err(ClientError::unsupported(format!("{refused} is not supported"), "Set a constant."))
}
