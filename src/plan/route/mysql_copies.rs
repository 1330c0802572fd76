//! Writes of reference tables on MySQL servers: every shard does the same, so that its copy stays the same.

use crate::error::ClientError;
use crate::plan::route::Around;
use crate::plan::route::Compiler;
use crate::plan::split::Splitting;
use crate::shard_map::Placement;
use crate::sql::model::Rows;
use crate::sql::model::Source;
use crate::sql::model::WriteKind;

impl Compiler<'_> {
    /// Whether it writes a reference table.
    pub(super) fn mysql_copies(&self) -> bool {
        self.query.writes.iter().any(|write| {
            let Some(Source::Table(relation)) = self.query.leaves.get(write.target).map(|it| &it.source) else {
                return false;
            };
            self.database.placement(&relation.name) == Some(Placement::Reference)
        })
    }

    /// How it is said on every shard.
    pub(super) fn mysql_copied(&self, around: Around<'_>) -> Result<Splitting, ClientError> {
        let splitting = self.copied(around)?;
        let query = self.query;
        let refuse = |what: &str| {
            Err(ClientError::unsupported(
                format!("writing to a reference table with {what} is not supported: its copies could come to differ"),
                "Write constants, parameters and what is computed from the table's own columns and NOW().",
            ))
        };
        let Some(write) = query.writes.first() else { return refuse("no write") };
        let changes = matches!(write.kind, WriteKind::Update | WriteKind::Delete);
        // Which rows they are may depend on how rows lie.
        if let Some(what) = query.blocks.get(write.block).and_then(|it| it.obstacle.clone()).filter(|_| changes) {
            return refuse(&what);
        }
        let counts = query.leaves.get(write.target).is_some_and(|it| match &it.source {
            Source::Table(relation) => relation.columns.iter().any(|it| it.uses_sequence),
            _ => false,
        });
        if counts && matches!(write.rows, Rows::Query { .. }) {
            return refuse("AUTO_INCREMENT and the rows of a query");
        }
        if query.notes.placed {
            return refuse("what asks for the session's state");
        }
        // A column may be left to the time, and changed to it by any UPDATE.
        Ok(Splitting { uses_now: true, ..splitting })
    }
}
