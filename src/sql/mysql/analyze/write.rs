//! INSERT, REPLACE of one table, UPDATE and DELETE of one or, joined on one shard, of several.

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::ast::Expr;
use sqlparser::ast::Spanned as _;

use crate::error::ClientError;
use crate::sql::model::BlockId;
use crate::sql::model::Cell;
use crate::sql::model::Conflict;
use crate::sql::model::ConflictTarget;
use crate::sql::model::LeafId;
use crate::sql::model::Node;
use crate::sql::model::Output;
use crate::sql::model::Rows;
use crate::sql::model::Source;
use crate::sql::model::Stands;
use crate::sql::model::Value;
use crate::sql::model::Write;
use crate::sql::model::WriteKind;
use crate::sql::mysql::analyze::Analyzer;
use crate::sql::mysql::analyze::Outcome;
use crate::sql::mysql::analyze::Scope;
use crate::sql::mysql::analyze::from::Item;
use crate::sql::mysql::analyze::from::parts;
use crate::sql::read;
use crate::sql::session::unreadable;

impl Analyzer<'_> {
    pub(super) fn insert(&mut self, insert: &ast::Insert) -> Outcome<()> {
        let tag = if insert.replace_into { "REPLACE" } else { "INSERT" };
        let foreign = insert.or.is_some()
            || insert.overwrite
            || insert.partitioned.is_some()
            || !insert.after_columns.is_empty()
            || insert.has_table_keyword
            || insert.output.is_some()
            || insert.settings.is_some()
            || insert.format_clause.is_some()
            || insert.multi_table_insert_type.is_some()
            || insert.table_alias.is_some();
        if foreign {
            return Err(unreadable(tag));
        }
        let ast::TableObject::TableName(name) = &insert.table else { return Err(unreadable(tag)) };
        let block = self.block(None, None)?;
        let item = self.table(name, None, block, None)?;
        let target = item.leaf();
        let mut scope =
            Scope { parent: None, items: vec![item], merged: Vec::new(), natural: false, block, ctes: None };
        let leaf = self.node(Node::Leaf(target));
        self.set_root(block, vec![leaf], Vec::new());
        let mut columns: Vec<Arc<str>> = Vec::new();
        for column in &insert.columns {
            columns.push(self.target_column(target, column, tag)?);
        }
        let mut splice_at = None;
        let rows = match (&insert.source, insert.assignments.as_slice()) {
            (Some(source), []) => {
                if columns.is_empty() {
                    splice_at = Some(read::bytes_of(name.span()).end.saturating_sub(self.input.base));
                    columns = self.all_columns(target);
                }
                self.source(source, &scope)?
            }
            (None, assignments) if !assignments.is_empty() && columns.is_empty() => {
                let mut row = Vec::with_capacity(assignments.len());
                for it in assignments {
                    let ast::AssignmentTarget::ColumnName(column) = &it.target else { return Err(unreadable(tag)) };
                    columns.push(self.target_column(target, column, tag)?);
                    row.push(self.cell(&it.value, &scope)?);
                }
                Rows::Values(vec![row])
            }
            _ => return Err(unreadable(tag)),
        };
        // INSERT … VALUES (…) AS new: its columns are nobody's that matters here.
        if insert.insert_alias.is_some() {
            scope.items.clear();
        }
        let mut assigned = Vec::new();
        match &insert.on {
            None => {}
            Some(ast::OnInsert::DuplicateKeyUpdate(list)) => assigned = self.assigned(list, target, &scope, tag)?,
            Some(_) => return Err(unreadable(tag)),
        }
        // What IGNORE passes over and what REPLACE takes away is what any unique index finds.
        let watches = insert.ignore || insert.replace_into || insert.on.is_some();
        let conflict = watches.then_some(Conflict {
            target: ConflictTarget::Any,
            updates: insert.on.is_some(),
            may_skip: insert.ignore,
        });
        self.returning(insert.returning.as_ref(), &scope)?;
        self.query.writes.push(Write {
            kind: WriteKind::Insert,
            target,
            block,
            rows,
            columns,
            splice_at,
            assigned,
            conflict,
            overriding: false,
            merged: Vec::new(),
        });
        Ok(())
    }

    fn returning(&mut self, returning: Option<&Vec<ast::SelectItem>>, scope: &Scope<'_>) -> Outcome<()> {
        self.query.returns = returning.is_some();
        for item in returning.into_iter().flatten() {
            self.item(item, scope)?;
        }
        self.aggregated(scope.block);
        Ok(())
    }

    /// A column of the table that is written, as the schema calls it.
    fn target_column(&self, leaf: LeafId, name: &ast::ObjectName, tag: &str) -> Outcome<Arc<str>> {
        let path = parts(name)?;
        let column = path.last().map(String::as_str).unwrap_or_default();
        let Some(Source::Table(relation)) = self.query.leaves.get(leaf).map(|it| &it.source) else {
            return Ok(column.into());
        };
        if relation.columns.is_empty() {
            return Ok(column.into());
        }
        let found = relation.columns.iter().find(|it| it.name.eq_ignore_ascii_case(column));
        found.map(|it| Arc::clone(&it.name)).ok_or_else(|| {
            ClientError::unsupported(
                format!("{tag} names the column \"{column}\", which \"{}\" does not have", relation.name),
                "Name columns that the table has.",
            )
        })
    }

    fn all_columns(&self, leaf: LeafId) -> Vec<Arc<str>> {
        match self.query.leaves.get(leaf).map(|it| &it.source) {
            Some(Source::Table(relation)) => relation.columns.iter().map(|it| Arc::clone(&it.name)).collect(),
            _ => Vec::new(),
        }
    }

    /// Where an INSERT's rows come from.
    fn source(&mut self, source: &ast::Query, scope: &Scope<'_>) -> Outcome<Rows> {
        let bare = source.with.is_none() && source.order_by.is_none() && source.limit_clause.is_none();
        if let (ast::SetExpr::Values(values), true) = (&*source.body, bare) {
            let mut rows = Vec::with_capacity(values.rows.len());
            for row in &values.rows {
                let mut cells = Vec::with_capacity(row.content.len());
                for cell in &row.content {
                    cells.push(self.cell(cell, scope)?);
                }
                rows.push(cells);
            }
            self.aggregated(scope.block);
            return Ok(match (self.input.repeat, rows.len()) {
                (Some((first, width)), 1) => Rows::Folded { row: rows.pop().unwrap_or_default(), first, width },
                (Some(_), _) => return Err(unreadable("INSERT")),
                (None, _) => Rows::Values(rows),
            });
        }
        let blocks = self.query(source, None, None, None, None)?;
        let mut outputs = Vec::new();
        let mut whole = false;
        if let (ast::SetExpr::Select(select), [block]) = (&*source.body, blocks.as_slice()) {
            whole = true;
            for item in &select.projection {
                let (ast::SelectItem::UnnamedExpr(it) | ast::SelectItem::ExprWithAlias { expr: it, .. }) = item else {
                    // From here on no place is known.
                    whole = false;
                    break;
                };
                outputs.push(self.output(it, *block));
            }
        }
        Ok(Rows::Query { blocks, outputs, whole })
    }

    /// What an output of a SELECT is, where that is plain: a constant, or the column of a table of its FROM.
    fn output(&mut self, expression: &Expr, block: BlockId) -> Output {
        let path: Vec<&str> = match expression {
            Expr::Identifier(it) => vec![&it.value],
            Expr::CompoundIdentifier(path) => path.iter().map(|it| it.value.as_str()).collect(),
            _ => return Output { value: self.constant(expression), ..Output::default() },
        };
        // By the name of its table, or where there is but one.
        let here: Vec<LeafId> = (0..self.query.leaves.len())
            .filter(|it| self.query.leaves.get(*it).is_some_and(|it| it.block == block))
            .collect();
        let named: Vec<LeafId> = match path.as_slice() {
            [_] => here,
            [table, _] => here
                .into_iter()
                .filter(|it| self.query.leaves.get(*it).is_some_and(|it| &*it.alias == *table))
                .collect(),
            _ => Vec::new(),
        };
        let ([leaf], Some(column)) = (named.as_slice(), path.last()) else { return Output::default() };
        let variable =
            self.query.variables.iter().position(|it| it.leaf == *leaf && it.column.eq_ignore_ascii_case(column));
        let oid = variable.and_then(|it| self.query.variables.get(it)).map_or(0, |it| it.oid);
        Output { name: None, variables: vec![variable], value: None, oid }
    }

    fn cell(&mut self, expression: &Expr, scope: &Scope<'_>) -> Outcome<Cell> {
        if let Expr::Identifier(name) = expression
            && name.quote_style.is_none()
            && name.value.eq_ignore_ascii_case("default")
        {
            return Ok(Cell::Default);
        }
        if let Some(value) = self.constant(expression) {
            return Ok(Cell::Value(value));
        }
        self.expression(expression, scope)?;
        Ok(Cell::Other)
    }

    fn assigned(
        &mut self,
        list: &[ast::Assignment],
        target: LeafId,
        scope: &Scope<'_>,
        tag: &str,
    ) -> Outcome<Vec<(Arc<str>, Option<Value>)>> {
        let mut assigned = Vec::with_capacity(list.len());
        for it in list {
            let ast::AssignmentTarget::ColumnName(column) = &it.target else { return Err(unreadable("UPDATE")) };
            let column = self.target_column(target, column, tag)?;
            assigned.push((column, self.constant(&it.value)));
            self.expression(&it.value, scope)?;
        }
        Ok(assigned)
    }

    /// The only table of an UPDATE or DELETE.
    fn alone(&mut self, table: &ast::TableWithJoins, block: BlockId, tag: &str) -> Outcome<Scope<'static>> {
        let mut scope = scope_of(block);
        let children = self.from(std::slice::from_ref(table), &mut scope)?;
        self.set_root(block, children, Vec::new());
        let is_table = scope.items.len() == 1
            && scope
                .items
                .first()
                .and_then(|it| self.query.leaves.get(it.leaf()))
                .is_some_and(|it| !matches!(it.source, Source::Derived(_) | Source::Rows));
        if is_table { Ok(scope) } else { Err(several(tag)) }
    }

    /// What an UPDATE or DELETE joins: one shard must have all of it.
    fn joins(
        &mut self,
        tables: &[ast::TableWithJoins],
        selection: Option<&Expr>,
        block: BlockId,
        tag: &str,
    ) -> Outcome<Scope<'static>> {
        let mut scope = scope_of(block);
        let children = self.from(tables, &mut scope)?;
        self.obstacle(block, &format!("{tag} of several tables"));
        let mut on = Vec::new();
        if let Some(condition) = selection {
            self.expression(condition, &scope)?;
            self.conjuncts(condition, &scope, &mut on);
        }
        self.set_root(block, children, on);
        Ok(scope)
    }

    /// The table that one of the names in front of FROM stands for.
    fn called(&self, path: &[String], scope: &Scope<'_>, tag: &str) -> Outcome<LeafId> {
        let mut found = scope.items.iter().filter(|it| it.is_called(path)).map(Item::leaf);
        let (Some(leaf), None) = (found.next(), found.next()) else { return Err(several(tag)) };
        self.is_table(leaf).then_some(leaf).ok_or_else(|| several(tag))
    }

    /// The table whose column an assignment of an UPDATE of several tables names.
    fn assigned_table(&self, path: &[String], scope: &Scope<'_>) -> Outcome<LeafId> {
        if let [table @ .., _] = path
            && !table.is_empty()
        {
            return self.called(table, scope, "UPDATE");
        }
        let column = path.last().map(String::as_str).unwrap_or_default();
        let mut found = scope.items.iter().filter(|it| it.has(column) == Some(true)).map(Item::leaf);
        // What may have it has it not, or a server says that the name is ambiguous.
        let (Some(leaf), None) = (found.next(), found.next()) else { return Err(several("UPDATE")) };
        self.is_table(leaf).then_some(leaf).ok_or_else(|| several("UPDATE"))
    }

    fn is_table(&self, leaf: LeafId) -> bool {
        matches!(self.query.leaves.get(leaf).map(|it| &it.source), Some(Source::Table(_)))
    }

    pub(super) fn update(&mut self, update: &ast::Update) -> Outcome<()> {
        if update.from.is_some() || update.or.is_some() || update.output.is_some() || update.returning.is_some() {
            return Err(unreadable("UPDATE"));
        }
        let block = self.block(None, None)?;
        if !update.table.joins.is_empty() {
            return self.update_joined(update, block);
        }
        let scope = self.alone(&update.table, block, "UPDATE")?;
        let Some(target) = scope.items.first().map(Item::leaf) else { return Err(unreadable("UPDATE")) };
        self.condition_of(update.selection.as_ref(), target, &scope)?;
        self.stands = Stands::Behind;
        let assigned = self.assigned(&update.assignments, target, &scope, "UPDATE")?;
        self.ordered(&update.order_by, update.limit.as_ref(), &scope)?;
        self.changes(WriteKind::Update, target, block, assigned);
        Ok(())
    }

    fn update_joined(&mut self, update: &ast::Update, block: BlockId) -> Outcome<()> {
        let scope = self.joins(std::slice::from_ref(&update.table), update.selection.as_ref(), block, "UPDATE")?;
        self.stands = Stands::Behind;
        let mut targets: Vec<LeafId> = Vec::new();
        let mut assigned: Vec<Vec<(Arc<str>, Option<Value>)>> = Vec::new();
        for it in &update.assignments {
            let ast::AssignmentTarget::ColumnName(column) = &it.target else { return Err(unreadable("UPDATE")) };
            let target = self.assigned_table(&parts(column)?, &scope)?;
            let one = self.assigned(std::slice::from_ref(it), target, &scope, "UPDATE")?;
            match targets.iter().position(|it| *it == target).and_then(|it| assigned.get_mut(it)) {
                Some(known) => known.extend(one),
                None => {
                    targets.push(target);
                    assigned.push(one);
                }
            }
        }
        self.ordered(&update.order_by, update.limit.as_ref(), &scope)?;
        for (target, assigned) in targets.into_iter().zip(assigned) {
            self.changes(WriteKind::Update, target, block, assigned);
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, delete: &ast::Delete) -> Outcome<()> {
        if delete.output.is_some() {
            return Err(unreadable("DELETE"));
        }
        let ast::FromTable::WithFromKeyword(from) = &delete.from else { return Err(unreadable("DELETE")) };
        let block = self.block(None, None)?;
        if !delete.tables.is_empty() || delete.using.is_some() {
            return self.delete_joined(delete, from, block);
        }
        let [table] = from.as_slice() else { return Err(unreadable("DELETE")) };
        let scope = self.alone(table, block, "DELETE")?;
        let Some(target) = scope.items.first().map(Item::leaf) else { return Err(unreadable("DELETE")) };
        self.condition_of(delete.selection.as_ref(), target, &scope)?;
        self.stands = Stands::Behind;
        self.ordered(&delete.order_by, delete.limit.as_ref(), &scope)?;
        self.returning(delete.returning.as_ref(), &scope)?;
        self.changes(WriteKind::Delete, target, block, Vec::new());
        Ok(())
    }

    /// DELETE a, b FROM …, and DELETE FROM a, b USING ….
    fn delete_joined(&mut self, delete: &ast::Delete, from: &[ast::TableWithJoins], block: BlockId) -> Outcome<()> {
        let (names, tables) = match &delete.using {
            None => (delete.tables.iter().map(parts).collect::<Outcome<Vec<_>>>()?, from),
            Some(tables) if delete.tables.is_empty() => {
                (from.iter().map(plain).collect::<Outcome<Vec<_>>>()?, &**tables)
            }
            Some(_) => return Err(unreadable("DELETE")),
        };
        if delete.returning.is_some() {
            return Err(unreadable("DELETE"));
        }
        let scope = self.joins(tables, delete.selection.as_ref(), block, "DELETE")?;
        self.stands = Stands::Behind;
        self.ordered(&delete.order_by, delete.limit.as_ref(), &scope)?;
        for name in names {
            let target = self.called(&name, &scope, "DELETE")?;
            self.changes(WriteKind::Delete, target, block, Vec::new());
        }
        Ok(())
    }

    fn condition_of(&mut self, selection: Option<&Expr>, target: LeafId, scope: &Scope<'_>) -> Outcome<()> {
        let mut on = Vec::new();
        if let Some(condition) = selection {
            self.expression(condition, scope)?;
            self.conjuncts(condition, scope, &mut on);
        }
        let leaf = self.node(Node::Leaf(target));
        self.set_root(scope.block, vec![leaf], on);
        Ok(())
    }

    fn ordered(&mut self, order: &[ast::OrderByExpr], limit: Option<&Expr>, scope: &Scope<'_>) -> Outcome<()> {
        for it in order {
            self.obstacle(scope.block, "ORDER BY");
            self.expression(&it.expr, scope)?;
        }
        if let Some(limit) = limit {
            self.obstacle(scope.block, "LIMIT");
            self.expression(limit, scope)?;
        }
        self.aggregated(scope.block);
        Ok(())
    }

    fn changes(&mut self, kind: WriteKind, target: LeafId, block: BlockId, assigned: Vec<(Arc<str>, Option<Value>)>) {
        self.query.writes.push(Write {
            kind,
            target,
            block,
            rows: Rows::None,
            columns: Vec::new(),
            splice_at: None,
            assigned,
            conflict: None,
            overriding: false,
            merged: Vec::new(),
        });
    }
}

fn scope_of(block: BlockId) -> Scope<'static> {
    Scope { parent: None, items: Vec::new(), merged: Vec::new(), natural: false, block, ctes: None }
}

/// A table's name with nothing beside it.
fn plain(table: &ast::TableWithJoins) -> Outcome<Vec<String>> {
    match &table.relation {
        ast::TableFactor::Table { name, alias: None, .. } if table.joins.is_empty() => parts(name),
        _ => Err(unreadable("DELETE")),
    }
}

fn several(tag: &str) -> ClientError {
    ClientError::unsupported(
        format!("{tag} of several tables, one of which is not certain, is not supported"),
        "Write each table by a statement of its own.",
    )
}
