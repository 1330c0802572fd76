//! One statement: what the session does itself, and what goes to servers.

use std::rc::Rc;
use std::sync::Arc;

use crate::error::ClientError;
use crate::exec::mysql::link::NAMES;
use crate::exec::mysql::relay;
use crate::plan::Command;
use crate::plan::Parameters;
use crate::plan::Planned;
use crate::plan::World;
use crate::plan::mysql_command::Level;
use crate::plan::mysql_command::MysqlCommand;
use crate::plan::mysql_command::Scope;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::assign::Said;
use crate::session::mysql::text::Saying;

/// Variables of a session that shards may be told one by one: each shard does with them what one server would.
pub(super) const SETTABLE: [&str; 75] = [
    "autocommit",
    "bulk_insert_buffer_size",
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "collation_connection",
    "default_storage_engine",
    "default_tmp_storage_engine",
    "default_week_format",
    "div_precision_increment",
    "eq_range_index_dive_limit",
    "foreign_key_checks",
    "group_concat_max_len",
    "histogram_type",
    "idle_transaction_timeout",
    "in_predicate_conversion_threshold",
    "information_schema_stats_expiry",
    "innodb_lock_wait_timeout",
    "innodb_table_locks",
    "interactive_timeout",
    "join_buffer_size",
    "join_buffer_space_limit",
    "join_cache_level",
    "lc_messages",
    "lc_time_names",
    "lock_wait_timeout",
    "long_query_time",
    "low_priority_updates",
    "max_execution_time",
    "max_heap_table_size",
    "max_seeks_for_key",
    "max_session_mem_used",
    "max_statement_time",
    "max_tmp_tables",
    "mrr_buffer_size",
    "myisam_sort_buffer_size",
    "net_read_timeout",
    "net_retry_count",
    "net_write_timeout",
    "optimizer_prune_level",
    "optimizer_search_depth",
    "optimizer_switch",
    "optimizer_use_condition_selectivity",
    "preload_buffer_size",
    "query_alloc_block_size",
    "query_cache_type",
    "query_cache_wlock_invalidate",
    "query_prealloc_size",
    "range_optimizer_max_mem_size",
    "read_buffer_size",
    "read_rnd_buffer_size",
    "show_create_table_verbosity",
    "slow_query_log",
    "sort_buffer_size",
    "sql_big_selects",
    "sql_buffer_result",
    "sql_mode",
    "sql_notes",
    "sql_quote_show_create",
    "sql_require_primary_key",
    "sql_safe_updates",
    "sql_warnings",
    "storage_engine",
    "time_zone",
    "tmp_memory_table_size",
    "tmp_table_size",
    "transaction_alloc_block_size",
    "transaction_isolation",
    "transaction_prealloc_size",
    "transaction_read_only",
    "tx_isolation",
    "tx_read_only",
    "unique_checks",
    "updatable_views_with_limit",
    "wait_timeout",
];

/// Character sets in which all of ASCII stands for itself.
pub(super) const CHARACTER_SETS: [&str; 6] = ["utf8mb4", "utf8mb3", "utf8", "ascii", "latin1", "binary"];

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
        self.may_open_cursor(&planned.template);
        let command = match &planned.template.command {
            Command::Mysql(command) => command,
            Command::Empty => return Box::pin(self.empty(text, more)).await,
            _ => return self.data(text, saying, planned, parameters, world, more).await,
        };
        let said = text.get(planned.range.clone()).unwrap_or_default();
        Box::pin(self.command_of_its_own(command, said, saying, parameters, world, more)).await
    }

    async fn command_of_its_own(
        &mut self,
        command: &MysqlCommand,
        said: &str,
        saying: Saying<'_>,
        parameters: Option<&Parameters<'_>>,
        world: &Rc<World>,
        more: bool,
    ) -> Result<(), Trouble> {
        let prepared = parameters.is_some();
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
                self.end_said(true, *ending).await?;
            }
            MysqlCommand::Rollback(ending) => {
                self.end_said(false, *ending).await?;
            }
            MysqlCommand::Savepoint(name) => self.savepoint(&quoted(name)).await?,
            MysqlCommand::RollbackTo(name) => self.roll_back_to(&quoted(name)).await?,
            MysqlCommand::Release(name) => self.release_savepoint(&quoted(name)).await?,
            MysqlCommand::SetTransaction { scope: None, level, read_only } => {
                self.next_transaction(*level, *read_only)?
            }
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
                let has_values = parameters.is_some_and(|it| !it.values.is_empty());
                let warnings = match self.told_whole(said, world) {
                    // It asks what the statement before has left: that is a constant now.
                    Some(text) if !has_values => self.set_written_out(&text, world, several).await?,
                    _ => self.set(settings, Said { text: said, saying, parameters }, several).await?,
                };
                self.done_with(warnings, more);
                return Ok(());
            }
            MysqlCommand::SetNames { character_set, collation } => {
                self.set_names(character_set.as_deref(), collation.as_deref(), said).await?;
            }
            MysqlCommand::SetCharacterSet(name) => self.set_character_set(name.as_deref(), said).await?,
            MysqlCommand::Use(name) => self.use_database(name)?,
            MysqlCommand::Prepare { name, from } => return self.prepare_named(name, from, more).await,
            MysqlCommand::Execute { name, using } => return self.execute_named(name, using, more).await,
            MysqlCommand::ExecuteNow { from, using } => return self.execute_now(from, using, more).await,
            MysqlCommand::Diagnostics(asked) => return self.get_diagnostics(asked, more),
            MysqlCommand::Deallocate(name) => {
                self.deallocate_named(name)?;
                self.client.note_state();
            }
            MysqlCommand::ShowProcesses if !prepared => return self.show_processes(more).await,
            MysqlCommand::Kill { query, id: Some(id) } => Box::pin(self.kill(*id, *query)).await?,
            MysqlCommand::ShowWarnings { errors, count, limit } => {
                return self.show_warnings((*errors, *count), *limit, prepared, more).await;
            }
            MysqlCommand::SetTransaction { .. } | MysqlCommand::ShowProcesses | MysqlCommand::Kill { id: None, .. } => {
                return Err(not_there(command).into());
            }
        }
        self.done(more);
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
            let done = self.set_by(&mut link, Saying::Text(said), true).await?;
            link.forget(names);
            if let Ok(done) = &done {
                self.client.note_changes(done);
            }
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

    /// COM_STATISTICS: a line by one of the servers.
    pub(super) async fn statistics(&mut self, payload: &[u8]) -> Result<(), Trouble> {
        let mut link = self.any_link().await?;
        let told = async {
            link.say(payload).await?;
            relay::payload(&mut link).await
        };
        match told.await {
            Ok(line) => {
                self.keep(link);
                self.client.put(&line);
                Ok(())
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

fn not_there(command: &MysqlCommand) -> ClientError {
    let (what, hint) = match command {
        MysqlCommand::SetTransaction { .. } => ("SET GLOBAL TRANSACTION", "Set it on each server."),
        MysqlCommand::ShowProcesses => ("a prepared SHOW PROCESSLIST", "Ask by a query."),
        _ => ("KILL of anything but a number", "KILL [CONNECTION | QUERY] number."),
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
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
