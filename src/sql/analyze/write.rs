//! INSERT, UPDATE, DELETE, MERGE.

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::ast::Expr;

use crate::sql::analyze::Analyzer;
use crate::sql::analyze::Ctes;
use crate::sql::analyze::Outcome;
use crate::sql::analyze::Scope;
use crate::sql::analyze::from::Item;
use crate::sql::analyze::from::is_reserved;
use crate::sql::analyze::parts;
use crate::sql::lex;
use crate::sql::model::BlockId;
use crate::sql::model::Cell;
use crate::sql::model::Condition;
use crate::sql::model::ConditionId;
use crate::sql::model::Conflict;
use crate::sql::model::ConflictTarget;
use crate::sql::model::LeafId;
use crate::sql::model::Merged;
use crate::sql::model::Node;
use crate::sql::model::Output;
use crate::sql::model::Rows;
use crate::sql::model::Source;
use crate::sql::model::Type;
use crate::sql::model::Value;
use crate::sql::model::Write;
use crate::sql::model::WriteKind;
use crate::sql::read;
use crate::sql::session::unreadable;

impl Analyzer<'_> {
    /// Analyses a write; what it returns.
    pub(super) fn write(
        &mut self,
        statement: &ast::Statement,
        parent: Option<&Scope<'_, '_>>,
        ctes: Option<&Ctes<'_, '_>>,
        parent_block: Option<BlockId>,
    ) -> Outcome<Vec<Output>> {
        let block = self.block(parent_block, None)?;
        let mut scope = Scope { parent, items: Vec::new(), merged: Vec::new(), block, ctes };
        let in_answer = std::mem::take(&mut self.in_answer);
        let outputs = match statement {
            ast::Statement::Insert(insert) => self.insert(insert, &mut scope),
            ast::Statement::Update(update) => self.update(update, &mut scope),
            ast::Statement::Delete(delete) => self.delete(delete, &mut scope),
            ast::Statement::Merge(merge) => self.merge_statement(merge, &mut scope),
            _ => Err(unreadable("SQL")),
        };
        self.in_answer = in_answer;
        outputs
    }

    /// The table that is written, under its name or alias. A CTE does not shadow it.
    fn target(
        &mut self,
        name: &ast::ObjectName,
        alias: Option<&ast::TableAlias>,
        scope: &mut Scope<'_, '_>,
    ) -> Outcome<LeafId> {
        let parts = parts(name)?;
        let sight = Scope { parent: None, items: Vec::new(), merged: Vec::new(), block: scope.block, ctes: None };
        let item = self.named(&parts, alias, &sight)?;
        let leaf = item.leaf;
        if let Some(Source::Derived(_)) = self.query.leaves.get(leaf).map(|it| &it.source) {
            self.query.notes.refused.get_or_insert_with(|| {
                (
                    format!("writing through view \"{}\" is not supported", parts.join(".")),
                    "Write to the table behind the view.".to_owned(),
                )
            });
        }
        scope.items.push(item);
        Ok(leaf)
    }

    fn insert(&mut self, insert: &ast::Insert, scope: &mut Scope<'_, '_>) -> Outcome<Vec<Output>> {
        if insert.or.is_some()
            || insert.ignore
            || insert.overwrite
            || !insert.assignments.is_empty()
            || insert.partitioned.is_some()
            || !insert.after_columns.is_empty()
            || insert.has_table_keyword
            || insert.replace_into
            || insert.insert_alias.is_some()
            || insert.output.is_some()
            || insert.multi_table_insert_type.is_some()
        {
            return Err(unreadable("INSERT"));
        }
        let ast::TableObject::TableName(name) = &insert.table else { return Err(unreadable("INSERT")) };
        let alias = insert.table_alias.as_ref().map(|it| ast::TableAlias {
            explicit: true,
            name: ast::Ident::new(it.alias.value.as_str()),
            columns: Vec::new(),
            at: None,
        });
        let target = self.target(name, alias.as_ref(), scope)?;
        let node = self.node(Node::Leaf(target));
        self.set_root(scope.block, vec![node], Vec::new());
        let mut columns = Vec::with_capacity(insert.columns.len());
        for column in &insert.columns {
            let column = parts(column)?;
            columns.push(column.last().cloned().ok_or_else(|| unreadable("INSERT"))?);
        }
        let splice_at = if insert.columns.is_empty() {
            let last = match &insert.table_alias {
                Some(alias) => Some(alias.alias.span),
                None => name.0.last().and_then(|part| match part {
                    ast::ObjectNamePart::Identifier(it) => Some(it.span),
                    ast::ObjectNamePart::Function(_) => None,
                }),
            };
            last.map(|span| read::bytes_of(span).end)
        } else {
            None
        };
        let relation = match self.query.leaves.get(target).map(|it| &it.source) {
            Some(Source::Table(relation)) => Some(relation.clone()),
            _ => None,
        };
        if columns.is_empty()
            && let Some(relation) = &relation
        {
            columns = relation.columns.iter().map(|it| it.name.clone()).collect();
        }
        let types: Vec<u32> = columns
            .iter()
            .map(|name| {
                relation
                    .as_ref()
                    .and_then(|it| it.columns.iter().find(|column| column.name == *name))
                    .map_or(0, |it| it.type_oid)
            })
            .collect();
        // The source sees nothing of the target.
        let outside =
            Scope { parent: scope.parent, items: Vec::new(), merged: Vec::new(), block: scope.block, ctes: scope.ctes };
        let rows = match &insert.source {
            None => Rows::Defaults,
            Some(source) => match &*source.body {
                ast::SetExpr::Values(values)
                    if source.with.is_none()
                        && source.order_by.is_none()
                        && source.limit_clause.is_none()
                        && source.fetch.is_none() =>
                {
                    self.values(values, &types, &outside)?
                }
                _ => {
                    let mut answer = self.query(source, outside.parent, outside.ctes, Some(scope.block), None)?;
                    let whole = answer.placed >= answer.outputs.len();
                    answer.keep_placed();
                    Rows::Query { blocks: answer.blocks, outputs: answer.outputs, whole }
                }
            },
        };
        let mut assigned = Vec::new();
        let conflict = match &insert.on {
            None => None,
            Some(ast::OnInsert::OnConflict(on)) => {
                let target = match &on.conflict_target {
                    _ if self.conflict_removed => ConflictTarget::Other,
                    None => ConflictTarget::Any,
                    Some(ast::ConflictTarget::Columns(columns)) => {
                        ConflictTarget::Columns(columns.iter().map(|it| it.value.as_str().into()).collect())
                    }
                    Some(ast::ConflictTarget::OnConstraint(name)) => {
                        ConflictTarget::Constraint(parts(name)?.last().cloned().unwrap_or_else(|| "".into()))
                    }
                };
                let (updates, may_skip) = match &on.action {
                    ast::OnConflictAction::DoNothing => (false, true),
                    ast::OnConflictAction::DoUpdate(update) => {
                        let excluded = scope.items.first().cloned().map(|item| Item {
                            name: "excluded".into(),
                            table: None,
                            ..item
                        });
                        let mut items = scope.items.clone();
                        items.extend(excluded);
                        let sight = Scope {
                            parent: scope.parent,
                            items,
                            merged: Vec::new(),
                            block: scope.block,
                            ctes: scope.ctes,
                        };
                        self.assignments(&update.assignments, &sight, &mut assigned)?;
                        if let Some(selection) = &update.selection {
                            self.expression(selection, &sight)?;
                        }
                        (true, update.selection.is_some())
                    }
                };
                Some(Conflict { target, updates, may_skip })
            }
            Some(_) => return Err(unreadable("INSERT")),
        };
        let outputs = self.returning(insert.returning.as_deref(), scope)?;
        // Columns that the statement gives no value take their defaults.
        if let Some(relation) = &relation {
            for column in &relation.columns {
                let place = columns.iter().position(|it| *it == column.name);
                let given = place.is_some_and(|place| match &rows {
                    Rows::Values(rows) => {
                        rows.iter().all(|row| row.get(place).is_some_and(|it| !matches!(it, Cell::Default)))
                    }
                    Rows::Folded { row, .. } => row.get(place).is_some_and(|it| !matches!(it, Cell::Default)),
                    Rows::Defaults => false,
                    // Without a list of columns they are as many as it gives.
                    Rows::Query { outputs, .. } => !insert.columns.is_empty() || place < outputs.len(),
                    Rows::None => true,
                });
                if !given && let Some(default) = &column.default {
                    self.default_of(default, column.uses_sequence)?;
                }
                if column.generated
                    && let Some(default) = &column.default
                {
                    self.default_of(default, false)?;
                }
            }
        }
        self.query.writes.push(Write {
            kind: WriteKind::Insert,
            target,
            block: scope.block,
            rows,
            columns,
            splice_at,
            assigned,
            conflict,
            overriding: self.overriding,
            merged: Vec::new(),
        });
        Ok(outputs)
    }

    /// A default calls functions too. Those that draw from a sequence are judged by the column.
    fn default_of(&mut self, text: &Arc<str>, sequence: bool) -> Outcome<()> {
        if sequence {
            return Ok(());
        }
        self.deepen(text.len())?;
        let refuse = |this: &mut Self| this.unreviewed(format!("default {text}"));
        let Ok(lexemes) = lex::lexemes(text, 0..text.len(), None) else { return refuse(self) };
        let string = |it: &lex::Lexeme| it.kind == lex::Kind::String || it.kind == lex::Kind::UnicodeString;
        // 'now' is read by the clock of whoever reads it.
        self.query.notes.now |=
            lexemes.iter().filter(|it| string(it)).any(|it| text.get(it.start..it.end).is_none_or(lex::names_a_time));
        let Some(expression) = read::parse_expression(text, &lexemes) else { return refuse(self) };
        let block = self.block(None, None)?;
        let scope = Scope { parent: None, items: Vec::new(), merged: Vec::new(), block, ctes: None };
        let names = std::rc::Rc::new(self.names.unqualified());
        let names = std::mem::replace(&mut self.names, names);
        let source = std::mem::replace(&mut self.text, super::Text::Other(text.as_ref().into()));
        let lenient = std::mem::replace(&mut self.lenient, true);
        let done = self.expression(&expression, &scope);
        self.lenient = lenient;
        self.text = source;
        self.names = names;
        done
    }

    fn values(&mut self, values: &ast::Values, types: &[u32], scope: &Scope<'_, '_>) -> Outcome<Rows> {
        let mut rows = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            let mut cells = Vec::with_capacity(row.content.len());
            for (place, cell) in row.content.iter().enumerate() {
                if is_default(cell) {
                    cells.push(Cell::Default);
                    continue;
                }
                self.expression(cell, scope)?;
                cells.push(match self.value(cell) {
                    Some(value) => {
                        if let Some(oid) = types.get(place).filter(|it| **it != 0) {
                            self.beside_type(&value, *oid);
                        }
                        Cell::Value(value)
                    }
                    None => Cell::Other,
                });
            }
            rows.push(cells);
        }
        match (self.repeat, rows.as_slice()) {
            (Some((first, width)), [_]) => Ok(Rows::Folded { row: rows.pop().unwrap_or_default(), first, width }),
            (Some(_), _) => Err(unreadable("INSERT")),
            (None, _) => Ok(Rows::Values(rows)),
        }
    }

    fn returning(&mut self, items: Option<&[ast::SelectItem]>, scope: &Scope<'_, '_>) -> Outcome<Vec<Output>> {
        let Some(items) = items else { return Ok(Vec::new()) };
        let (mut outputs, ..) = self.projection(items, scope)?;
        for output in &mut outputs {
            output.variables.clear();
            output.value = None;
        }
        Ok(outputs)
    }

    fn assignments(
        &mut self,
        assignments: &[ast::Assignment],
        scope: &Scope<'_, '_>,
        assigned: &mut Vec<(Arc<str>, Option<Value>)>,
    ) -> Outcome<()> {
        let relation =
            scope.items.first().and_then(|item| self.query.leaves.get(item.leaf)).and_then(|leaf| match &leaf.source {
                Source::Table(relation) => Some(relation.clone()),
                _ => None,
            });
        for assignment in assignments {
            self.expression(&assignment.value, scope)?;
            match &assignment.target {
                ast::AssignmentTarget::ColumnName(name) => {
                    let name = parts(name)?.first().cloned().ok_or_else(|| unreadable("UPDATE"))?;
                    let column = relation.as_ref().and_then(|it| it.columns.iter().find(|column| column.name == name));
                    if is_default(&assignment.value) && column.is_some_and(|it| it.identity.is_some()) {
                        self.query.notes.refused.get_or_insert_with(|| sequence_refused(&name));
                    }
                    if is_default(&assignment.value)
                        && let Some(default) = column.and_then(|it| it.default.clone())
                    {
                        self.default_of(&default, column.is_some_and(|it| it.uses_sequence))?;
                        if column.is_some_and(|it| it.uses_sequence) {
                            self.query.notes.refused.get_or_insert_with(|| sequence_refused(&name));
                        }
                    }
                    // `key = excluded.key` in DO UPDATE: the conflict is about that very key (route looks at the target).
                    if let Expr::CompoundIdentifier(names) = &assignment.value
                        && let [item, column] = names.as_slice()
                        && item.value == "excluded"
                        && *column.value == *name
                        && scope.items.get(1).is_some_and(|it| &*it.name == "excluded")
                    {
                        continue;
                    }
                    let value = self.value(&assignment.value);
                    if let (Some(value), Some(column)) = (&value, column) {
                        self.beside_type(value, column.type_oid);
                    }
                    assigned.push((name, value));
                }
                ast::AssignmentTarget::Tuple(names) => {
                    if has_default(&assignment.value) {
                        return Err(crate::error::ClientError::unsupported(
                            "SET (…) = (…) with DEFAULT is not supported",
                            "Set each column by itself.",
                        ));
                    }
                    for name in names {
                        let name = parts(name)?.first().cloned().ok_or_else(|| unreadable("UPDATE"))?;
                        assigned.push((name, None));
                    }
                }
            }
        }
        // Generated columns are computed anew.
        for column in relation.iter().flat_map(|it| &it.columns).filter(|it| it.generated) {
            if let Some(default) = &column.default {
                self.default_of(default, false)?;
            }
        }
        Ok(())
    }

    fn update(&mut self, update: &ast::Update, scope: &mut Scope<'_, '_>) -> Outcome<Vec<Output>> {
        if update.or.is_some()
            || update.output.is_some()
            || !update.order_by.is_empty()
            || update.limit.is_some()
            || !update.table.joins.is_empty()
        {
            return Err(unreadable("UPDATE"));
        }
        let ast::TableFactor::Table { name, alias, args: None, .. } = &update.table.relation else {
            return Err(unreadable("UPDATE"));
        };
        let target = self.target(name, alias.as_ref(), scope)?;
        let mut children = vec![self.node(Node::Leaf(target))];
        match &update.from {
            None => {}
            Some(ast::UpdateTableFromKind::AfterSet(from)) => {
                for it in from {
                    children.push(self.table_with_joins(it, scope)?);
                }
            }
            Some(ast::UpdateTableFromKind::BeforeSet(_)) => return Err(unreadable("UPDATE")),
        }
        let mut on = Vec::new();
        if let Some(selection) = &update.selection {
            self.expression(selection, scope)?;
            self.conjuncts(selection, scope, &mut on)?;
        }
        self.set_root(scope.block, children, on);
        let mut assigned = Vec::new();
        self.assignments(&update.assignments, scope, &mut assigned)?;
        let outputs = self.returning(update.returning.as_deref(), scope)?;
        self.push_write(WriteKind::Update, target, scope.block, assigned, Vec::new());
        Ok(outputs)
    }

    fn delete(&mut self, delete: &ast::Delete, scope: &mut Scope<'_, '_>) -> Outcome<Vec<Output>> {
        if !delete.tables.is_empty() || delete.output.is_some() || !delete.order_by.is_empty() || delete.limit.is_some()
        {
            return Err(unreadable("DELETE"));
        }
        let ast::FromTable::WithFromKeyword(from) = &delete.from else { return Err(unreadable("DELETE")) };
        let [ast::TableWithJoins { relation: ast::TableFactor::Table { name, alias, args: None, .. }, joins }] =
            from.as_slice()
        else {
            return Err(unreadable("DELETE"));
        };
        if !joins.is_empty() {
            return Err(unreadable("DELETE"));
        }
        let target = self.target(name, alias.as_ref(), scope)?;
        let mut children = vec![self.node(Node::Leaf(target))];
        for it in delete.using.iter().flatten() {
            children.push(self.table_with_joins(it, scope)?);
        }
        let mut on = Vec::new();
        if let Some(selection) = &delete.selection {
            self.expression(selection, scope)?;
            self.conjuncts(selection, scope, &mut on)?;
        }
        self.set_root(scope.block, children, on);
        let outputs = self.returning(delete.returning.as_deref(), scope)?;
        self.push_write(WriteKind::Delete, target, scope.block, Vec::new(), Vec::new());
        Ok(outputs)
    }

    /// MERGE: the target's rows that matter are those that ON joins; what is inserted must lie there too.
    fn merge_statement(&mut self, merge: &ast::Merge, scope: &mut Scope<'_, '_>) -> Outcome<Vec<Output>> {
        if merge.output.is_some() {
            return Err(unreadable("MERGE"));
        }
        let ast::TableFactor::Table { name, alias, args: None, .. } = &merge.table else {
            return Err(unreadable("MERGE"));
        };
        let target = self.target(name, alias.as_ref(), scope)?;
        let target_node = self.node(Node::Leaf(target));
        let source_node = self.factor(&merge.source, scope)?;
        // In a join a row of them may be filled with NULLs.
        if !matches!(merge.source, ast::TableFactor::Derived { .. }) {
            self.constants.clear();
        }
        let mut on = Vec::new();
        self.expression(&merge.on, scope)?;
        self.conjuncts(&merge.on, scope, &mut on)?;
        self.constants_in(&merge.on, scope, &mut on);
        let by_source = |it: &ast::MergeClause| it.clause_kind == ast::MergeClauseKind::NotMatchedBySource;
        if merge.clauses.iter().any(by_source) {
            return Err(unreadable("MERGE"));
        }
        // Source rows without a match matter where anything is done or asked for them: then the source is preserved.
        let asks = |it: &ast::MergeClause| {
            it.clause_kind != ast::MergeClauseKind::Matched
                && (it.predicate.is_some() || matches!(it.action, ast::MergeAction::Insert(_)))
        };
        if merge.clauses.iter().any(asks) {
            let node = self.node(Node::Outer { kept: source_node, optional: target_node, on });
            self.set_root(scope.block, vec![node], Vec::new());
        } else {
            self.set_root(scope.block, vec![target_node, source_node], on);
        }
        let mut assigned = Vec::new();
        let mut merged = Vec::new();
        for clause in &merge.clauses {
            if let Some(predicate) = &clause.predicate {
                self.expression(predicate, scope)?;
            }
            match &clause.action {
                ast::MergeAction::Update(update) => {
                    let ast::MergeUpdateKind::Set(assignments) = &update.kind else { return Err(unreadable("MERGE")) };
                    if update.update_predicate.is_some() || update.delete_predicate.is_some() {
                        return Err(unreadable("MERGE"));
                    }
                    self.assignments(assignments, scope, &mut assigned)?;
                }
                ast::MergeAction::Insert(insert) => merged.push(self.merged(insert, target, scope)?),
                ast::MergeAction::Delete { .. } | ast::MergeAction::DoNothing { .. } => {}
            }
        }
        self.push_write(WriteKind::Merge, target, scope.block, assigned, merged);
        Ok(Vec::new())
    }

    /// Columns of the target that ON equals with a column of the source that is one constant.
    fn constants_in(&mut self, on: &Expr, scope: &Scope<'_, '_>, found: &mut Vec<ConditionId>) {
        match on {
            Expr::Nested(inner) => self.constants_in(inner, scope, found),
            Expr::BinaryOp { left, op: ast::BinaryOperator::And, right } => {
                self.constants_in(left, scope, found);
                self.constants_in(right, scope, found);
            }
            Expr::BinaryOp { left, op: ast::BinaryOperator::Eq, right } if self.names.user_operator("=").is_none() => {
                for (column, other) in [(left, right), (right, left)] {
                    let Some(value) = self.constant(other, scope) else { continue };
                    let Some(variable) = self.column(column, scope) else { continue };
                    let oid = self.query.variables.get(variable).map_or(0, |it| it.oid);
                    // A string there is text.
                    let (whole, text) = (matches!(oid, 20 | 21 | 23), matches!(oid, 25 | 1043));
                    let kind = if self.is_text(&value) { text } else { whole || matches!(value, Value::Cast(..)) };
                    if kind {
                        found.push(self.condition(Condition::Is(variable, vec![value])));
                    }
                }
            }
            _ => {}
        }
    }

    /// The constant that a qualified column of a derived table is in every row.
    fn constant(&self, expression: &Expr, scope: &Scope<'_, '_>) -> Option<Value> {
        let names = match expression {
            Expr::Nested(inner) => return self.constant(inner, scope),
            Expr::CompoundIdentifier(names) => names,
            _ => return None,
        };
        let [item, column] = names.as_slice() else { return None };
        let mut items = scope.items.iter().filter(|it| *it.name == *item.value);
        let (item, None) = (items.next()?, items.next()) else { return None };
        self.constants.get(&(item.leaf, column.value.as_str().into())).cloned()
    }

    /// A row that MERGE inserts.
    fn merged(&mut self, insert: &ast::MergeInsertExpr, target: LeafId, scope: &Scope<'_, '_>) -> Outcome<Merged> {
        let ast::MergeInsertKind::Values(values) = &insert.kind else { return Err(unreadable("MERGE")) };
        let [row] = values.rows.as_slice() else { return Err(unreadable("MERGE")) };
        if insert.insert_predicate.is_some() {
            return Err(unreadable("MERGE"));
        }
        let mut columns: Vec<Arc<str>> = Vec::with_capacity(insert.columns.len());
        for column in &insert.columns {
            columns.push(parts(column)?.last().cloned().ok_or_else(|| unreadable("MERGE"))?);
        }
        let relation = match self.query.leaves.get(target).map(|it| &it.source) {
            Some(Source::Table(relation)) => Some(relation.clone()),
            _ => None,
        };
        let (mut cells, mut variables) = (Vec::new(), Vec::new());
        for (place, cell) in row.content.iter().enumerate() {
            if is_default(cell) {
                cells.push(Cell::Default);
                variables.push(None);
                continue;
            }
            self.expression(cell, scope)?;
            variables.push(self.column(cell, scope));
            let value = self.value(cell);
            let known =
                columns.get(place).and_then(|name| relation.as_ref()?.columns.iter().find(|it| it.name == *name));
            if let (Some(value), Some(column)) = (&value, known) {
                self.beside_type(value, column.type_oid);
            }
            cells.push(value.or_else(|| self.constant(cell, scope)).map_or(Cell::Other, Cell::Value));
        }
        for column in relation.iter().flat_map(|it| &it.columns) {
            let cell = columns.iter().position(|it| *it == column.name).and_then(|place| cells.get(place));
            let given = cell.is_some_and(|it| !matches!(it, Cell::Default));
            if let Some(default) = column.default.as_ref().filter(|_| !given || column.generated) {
                self.default_of(default, column.uses_sequence)?;
            }
        }
        Ok(Merged { columns, cells, variables })
    }

    /// Whether a constant is a string, whose type in a derived table is text.
    fn is_text(&self, value: &Value) -> bool {
        match value {
            Value::Cast(_, Type::Text | Type::Varchar) | Value::Parameter(_) => true,
            Value::Literal(_) | Value::Fixed(_) => self.is_string(value),
            _ => false,
        }
    }

    fn push_write(
        &mut self,
        kind: WriteKind,
        target: LeafId,
        block: BlockId,
        assigned: Vec<(Arc<str>, Option<Value>)>,
        merged: Vec<Merged>,
    ) {
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
            merged,
        });
    }
}

/// The refusal of a column that would draw from a sequence on one shard only.
fn sequence_refused(column: &str) -> (String, String) {
    (
        format!("column \"{column}\" would draw from a sequence of one shard"),
        "Give the value from the application, or use gen_random_uuid().".to_owned(),
    )
}

/// DEFAULT, in whatever parentheses.
/// Whether one of the values of a row is DEFAULT.
fn has_default(value: &Expr) -> bool {
    match value {
        Expr::Tuple(all) => all.iter().any(has_default),
        Expr::Nested(it) => has_default(it),
        Expr::Function(it) => match &it.args {
            ast::FunctionArguments::List(list) => list.args.iter().any(|arg| match arg {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(it)) => has_default(it),
                _ => false,
            }),
            _ => false,
        },
        other => is_default(other),
    }
}

fn is_default(expression: &Expr) -> bool {
    match expression {
        Expr::Nested(inner) => is_default(inner),
        Expr::Identifier(name) => is_reserved(name) && name.value == "default",
        _ => false,
    }
}
