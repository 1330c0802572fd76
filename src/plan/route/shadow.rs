//! Which statements of MySQL are answered by shadows of their tables, and what is copied for them.

use std::sync::Arc;

use crate::error::ClientError;
use crate::ident::ShardId;
use crate::plan::route::Around;
use crate::plan::route::Compiler;
use crate::plan::route::Part;
use crate::plan::shadow;
use crate::plan::shadow::Shadowing;
use crate::plan::unite::Uniting;
use crate::schema::Relation;
use crate::shard_map::Placement;
use crate::sql::model::Condition;
use crate::sql::model::LeafId;
use crate::sql::model::Source;

impl Compiler<'_> {
    /// How a read is answered on one server with copies of its tables; else the construct that does not allow it.
    pub(super) fn shadowing(&self, at: Option<ShardId>, places: &[(LeafId, usize)]) -> Result<Shadowing, ClientError> {
        let query = self.query;
        let refuse = |what: String, hint: &str| {
            Err(ClientError::unsupported(format!("{what} across shards is not supported"), hint.to_owned()))
        };
        // Each server has its own.
        if let Some(what) = query.notes.volatile.as_ref().filter(|_| query.notes.primary) {
            return refuse(format!("function {what}"), "Ask it in a statement of its own.");
        }
        if let Some(what) = &query.notes.acts {
            return refuse(format!("function {what}"), "Call it in a statement of its own.");
        }
        let is_mariadb = self.world.schema.mysql.as_ref().is_none_or(|it| it.is_mariadb);
        let mut tables: Vec<shadow::Table> = Vec::new();
        for (leaf, it) in query.leaves.iter().enumerate() {
            let relation = match &it.source {
                Source::Derived(_) | Source::Rows => continue,
                Source::System(name) => {
                    return refuse(
                        format!("{name} beside tables that are spread"),
                        "Ask it in a statement of its own.",
                    );
                }
                Source::Temporary(name) => {
                    return refuse(format!("temporary table {name}"), "Keep it in a table of the database.");
                }
                Source::Table(relation) => relation,
            };
            let from = match self.database.placement(&relation.name) {
                Some(Placement::Sharded { .. }) => {
                    shadow::From::Parts(places.iter().filter(|(of, _)| *of == leaf).map(|(_, part)| *part).collect())
                }
                Some(Placement::Unsharded { home }) => shadow::From::Home(home),
                Some(Placement::Reference) => shadow::From::Everywhere,
                None => continue,
            };
            let terms = self.whole_terms(leaf, relation);
            match tables.iter_mut().find(|it| it.relation.name == relation.name) {
                Some(table) => {
                    if let (shadow::From::Parts(parts), shadow::From::Parts(more)) = (&mut table.from, from) {
                        parts.extend(more.into_iter().filter(|it| !parts.contains(it)).collect::<Vec<_>>());
                    }
                    if !table.wanted.contains(&terms) {
                        table.wanted.push(terms);
                    }
                }
                None => {
                    // Offline only the way is of interest.
                    let assumed = self.world.schema.assumed;
                    let columns = if assumed { Vec::new() } else { shadow::columns(relation, is_mariadb)? };
                    tables.push(shadow::Table { relation: Arc::clone(relation), columns, from, wanted: vec![terms] });
                }
            }
        }
        for table in &mut tables {
            if table.wanted.iter().any(Vec::is_empty) {
                table.wanted.clear();
            }
        }
        Ok(Shadowing { at, tables, unite: None })
    }

    /// How the answers of shards come to the answer, if little has to be done with them.
    pub(super) fn uniting(&self, parts: &[Part], places: &[(LeafId, usize)]) -> Option<Uniting> {
        let query = self.query;
        let shape = query.shape.as_ref().filter(|_| !query.notes.placed && self.fixed.is_none())?;
        let anchor = self.spread(parts, places, Around::Nothing, false, true, None).ok()?;
        Uniting::new(anchor.part, shape, query, self.world)
    }

    /// What must hold for a row of the leaf to matter, as far as a shard is asked about it beforehand: comparisons of
    /// integers with integers.
    fn whole_terms(&self, leaf: LeafId, relation: &Relation) -> Vec<shadow::Term> {
        let query = self.query;
        let facts = query.facts_of(leaf);
        let mut terms = Vec::new();
        for (id, variable) in query.variables.iter().enumerate().filter(|(_, it)| it.leaf == leaf) {
            let Some(column) = relation.column(&variable.column) else { continue };
            if !relation.columns.get(column).is_some_and(|it| shadow::is_whole(&it.type_name)) {
                continue;
            }
            for condition in facts.conditions().filter_map(|it| query.conditions.get(it)) {
                let (about, kind) = match condition {
                    Condition::Is(about, values) => (about, shadow::TermKind::Is(values.clone())),
                    Condition::Range(about, comparison, value) => {
                        (about, shadow::TermKind::Range(*comparison, value.clone()))
                    }
                    _ => continue,
                };
                // Of columns that equal it, those that equal it as integers do.
                let whole = |it: usize| query.variables.get(it).is_some_and(|it| matches!(it.oid, 20 | 21 | 23));
                if *about != id && !(facts.same(*about, id) && whole(*about) && whole(id)) {
                    continue;
                }
                let term = shadow::Term { column, kind };
                if !terms.contains(&term) {
                    terms.push(term);
                }
            }
        }
        terms
    }
}
