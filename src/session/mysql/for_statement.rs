//! `SET STATEMENT … FOR …`: the session's settings are others for as long as one statement takes.

use std::rc::Rc;
use std::sync::Arc;

use crate::error::ClientError;
use crate::plan::Command;
use crate::plan::World;
use crate::plan::mysql_set_statement as set_statement;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::settings::one_name;

/// What may be set for one statement over several shards: how long and by which means it is done, not what it means.
const SETTABLE: [&str; 19] = [
    "bulk_insert_buffer_size",
    "eq_range_index_dive_limit",
    "in_predicate_conversion_threshold",
    "innodb_lock_wait_timeout",
    "join_buffer_size",
    "join_cache_level",
    "lock_wait_timeout",
    "long_query_time",
    "low_priority_updates",
    "max_heap_table_size",
    "max_statement_time",
    "mrr_buffer_size",
    "optimizer_prune_level",
    "optimizer_search_depth",
    "optimizer_switch",
    "optimizer_use_condition_selectivity",
    "read_buffer_size",
    "sort_buffer_size",
    "tmp_table_size",
];

impl Session {
    /// Runs a statement whose text could not be compiled, if it is one of these; `None`: it is not.
    pub(super) async fn for_one_statement(
        &mut self,
        text: &str,
        world: &Rc<World>,
        error: &ClientError,
    ) -> Option<Result<(), Trouble>> {
        if error.code.sqlstate() != "0A000" {
            return None;
        }
        let found = set_statement::read(text, world.mode())?;
        if !found.settings.iter().all(|(name, _)| SETTABLE.contains(&&**name)) {
            return None;
        }
        let statement = text.get(found.statement..)?;
        let compiled = self.worker.planner.borrow_mut().compile(statement, world);
        match compiled.as_deref() {
            // Those of the session itself a server would not take there, or not do with them what they say.
            Ok([only]) if only.template.command == Command::Data => {}
            Ok(_) => return None,
            Err(_) => {}
        }
        let before = Arc::clone(&self.state.settings);
        for (name, at) in &found.settings {
            let value = text.get(at.clone()).filter(|it| !it.eq_ignore_ascii_case("default"));
            self.state.set(name, value);
        }
        // Connections take up what the session has when they are used, and take it back with the next statement.
        let answer = Box::pin(self.query(statement, None)).await;
        for (name, _) in &found.settings {
            self.state.set(name, before.value(one_name(name)).map(|it| &**it));
        }
        Some(answer)
    }
}
