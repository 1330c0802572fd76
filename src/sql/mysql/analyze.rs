//! Syntax tree → [`Query`], for MySQL: names as its servers resolve them, conditions where they must hold.
//!
//! Everything that may stand in a statement is on a list here; what is not makes it unreadable. Conditions are taken
//! from columns that are equal to constants, or to each other, and from nothing else.

mod expression;
mod from;
pub(super) mod shape;
mod write;

use std::collections::HashMap;
use std::sync::Arc;

use sqlparser::ast;
use sqlparser::ast::Expr;
use sqlparser::tokenizer::Span;

use crate::error::ClientError;
use crate::error::Code;
use crate::sql::model::Block;
use crate::sql::model::BlockId;
use crate::sql::model::Condition;
use crate::sql::model::ConditionId;
use crate::sql::model::Leaf;
use crate::sql::model::LeafId;
use crate::sql::model::Node;
use crate::sql::model::NodeId;
use crate::sql::model::Query;
use crate::sql::model::Source;
use crate::sql::model::Stands;
use crate::sql::model::Value;
use crate::sql::model::Variable;
use crate::sql::model::VariableId;
use crate::sql::mysql::MysqlNames;
use crate::sql::mysql::read::Seen;
use crate::sql::read;
use crate::sql::session::unreadable;

use self::from::Item;

/// More relations than this in one statement are refused.
const LEAVES_MAX: usize = 200;

pub(super) type Outcome<T> = Result<T, ClientError>;

/// What is needed to analyse one statement.
pub(crate) struct Input<'a> {
    /// The starts of the statement's literals, folded rows left out.
    pub(crate) starts: &'a [u32],
    /// The starts of its `?`.
    pub(crate) parameters: &'a [usize],
    /// The rows that the lexer folded: first literal, width.
    pub(crate) repeat: Option<(u32, u32)>,
    /// Where the statement begins in the text.
    pub(crate) base: usize,
}

pub(super) struct Analyzer<'a> {
    names: &'a MysqlNames<'a>,
    input: &'a Input<'a>,
    query: Query,
    known: HashMap<(LeafId, Arc<str>), VariableId>,
    stands: Stands,
    /// An aggregate stands in what is being walked.
    aggregates: bool,
    windows: bool,
    /// An aggregate of columns further out: it is one of the query around.
    outward: bool,
    /// In an aggregate's arguments: whether a column of this query was met, and whether another one was.
    arguments: Option<(bool, bool)>,
    /// The session's state that it asks for, by a function.
    asks: Option<String>,
}

/// A FROM's names and those around it.
pub(super) struct Scope<'s> {
    parent: Option<&'s Self>,
    items: Vec<Item>,
    /// Columns of USING and NATURAL: which item's they are differs.
    merged: Vec<String>,
    /// NATURAL: any column may be merged.
    natural: bool,
    block: BlockId,
    ctes: Option<&'s Ctes<'s>>,
}

/// The queries of WITH in sight, innermost first.
pub(super) struct Ctes<'s> {
    parent: Option<&'s Self>,
    list: Vec<(String, Vec<BlockId>)>,
}

/// Analyses a statement that reads or writes rows; also what session state it asks for.
pub(crate) fn analyze(
    statement: &ast::Statement,
    names: &MysqlNames<'_>,
    seen: &Seen,
    input: &Input<'_>,
) -> Outcome<(Query, Option<String>)> {
    let mut analyzer = Analyzer {
        names,
        input,
        query: Query::default(),
        known: HashMap::new(),
        stands: Stands::Within,
        aggregates: false,
        windows: false,
        outward: false,
        arguments: None,
        asks: seen.variable.clone(),
    };
    match statement {
        ast::Statement::Query(query) => {
            let blocks = analyzer.query(query, None, None, None, None)?;
            if let ([block], true) = (blocks.as_slice(), matches!(&*query.body, ast::SetExpr::Select(_))) {
                analyzer.query.top = Some(*block);
                analyzer.note_shape(query, *block);
            }
        }
        ast::Statement::Insert(insert) => analyzer.insert(insert)?,
        ast::Statement::Update(update) => analyzer.update(update)?,
        ast::Statement::Delete(delete) => analyzer.delete(delete)?,
        _ => return Err(unreadable("SQL")),
    }
    let query = &mut analyzer.query;
    query.only_writes = !query.writes.is_empty();
    query.notes.locks |= seen.locks;
    if seen.into {
        let refused = ("SELECT … INTO is not supported".to_owned(), "Read the rows in the application.".to_owned());
        query.notes.refused.get_or_insert(refused);
    }
    if seen.variable.is_some() || analyzer.asks.is_some() {
        query.notes.placed = true;
    }
    Ok((analyzer.query, analyzer.asks))
}

impl<'a> Analyzer<'a> {
    fn node(&mut self, node: Node) -> NodeId {
        self.query.nodes.push(node);
        self.query.nodes.len() - 1
    }

    fn condition(&mut self, condition: Condition) -> ConditionId {
        self.query.conditions.push(condition);
        self.query.conditions.len() - 1
    }

    fn leaf(&mut self, block: BlockId, source: Source, alias: Arc<str>) -> Outcome<LeafId> {
        if self.query.leaves.len() >= LEAVES_MAX {
            return Err(too_large("names too many relations"));
        }
        self.query.leaves.push(Leaf { block, source, alias });
        Ok(self.query.leaves.len() - 1)
    }

    fn block(&mut self, parent: Option<BlockId>, host: Option<LeafId>) -> Outcome<BlockId> {
        if self.query.blocks.len() >= LEAVES_MAX * 2 {
            return Err(too_large("has too many subqueries"));
        }
        let root = self.node(Node::Inner { children: Vec::new(), on: Vec::new() });
        self.query.blocks.push(Block {
            root,
            parent,
            host,
            links: Vec::new(),
            obstacle: None,
            hard: false,
            ranked: false,
            items: Vec::new(),
            grouped_outputs: Vec::new(),
            aggregated: false,
            by_order: false,
            windowed: false,
            grouped: Vec::new(),
            groups: false,
            stands: self.stands,
        });
        Ok(self.query.blocks.len() - 1)
    }

    /// Why a block's answer is not the union of the shards' answers.
    fn obstacle(&mut self, block: BlockId, what: &str) {
        if let Some(it) = self.query.blocks.get_mut(block) {
            it.obstacle.get_or_insert_with(|| what.to_owned());
            it.hard = true;
            it.ranked = true;
        }
    }

    fn set_root(&mut self, block: BlockId, children: Vec<NodeId>, on: Vec<ConditionId>) {
        let Some(root) = self.query.blocks.get(block).map(|it| it.root) else { return };
        if let Some(node) = self.query.nodes.get_mut(root) {
            *node = Node::Inner { children, on };
        }
    }

    fn variable(&mut self, leaf: LeafId, variable: Variable) -> VariableId {
        let key = (leaf, Arc::clone(&variable.column));
        if let Some(id) = self.known.get(&key) {
            return *id;
        }
        self.query.variables.push(variable);
        let id = self.query.variables.len() - 1;
        self.known.insert(key, id);
        id
    }

    /// The number of the literal that stands there.
    fn literal(&self, span: Span) -> Option<Value> {
        let start = u32::try_from(read::bytes_of(span).start).ok()?;
        self.input.starts.binary_search(&start).ok().and_then(|it| u32::try_from(it).ok()).map(Value::Literal)
    }

    /// A value that is known at execution.
    fn constant(&self, expression: &Expr) -> Option<Value> {
        match expression {
            Expr::Nested(inner) => self.constant(inner),
            Expr::Value(value) => match &value.value {
                ast::Value::Number(..) | ast::Value::SingleQuotedString(_) | ast::Value::HexStringLiteral(_) => {
                    self.literal(value.span)
                }
                ast::Value::Null => Some(Value::Null),
                ast::Value::Placeholder(mark) if mark == "?" => {
                    let start = read::bytes_of(value.span).start;
                    let number = self.input.parameters.binary_search(&start).ok()?;
                    u16::try_from(number).ok().map(Value::Parameter)
                }
                _ => None,
            },
            Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => {
                let is_number = matches!(&**expr, Expr::Value(it) if matches!(it.value, ast::Value::Number(..)));
                let inner = self.constant(expr).filter(|_| is_number)?;
                Some(Value::Negate(Box::new(inner)))
            }
            _ => None,
        }
    }

    /// A query with its WITH, order and limit; its arms' blocks.
    fn query(
        &mut self,
        query: &ast::Query,
        parent: Option<&Scope<'_>>,
        ctes: Option<&Ctes<'_>>,
        parent_block: Option<BlockId>,
        host: Option<LeafId>,
    ) -> Outcome<Vec<BlockId>> {
        if query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || query.fetch.is_some()
            || !query.pipe_operators.is_empty()
        {
            return Err(unreadable("SELECT"));
        }
        let mut sight = Ctes { parent: ctes, list: Vec::new() };
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                if cte.from.is_some() || cte.materialized.is_some() {
                    return Err(unreadable("WITH"));
                }
                let name = cte.alias.name.value.clone();
                if with.recursive {
                    sight.list.push((name.clone(), Vec::new()));
                }
                // Nothing around it binds it.
                let stood = std::mem::replace(&mut self.stands, Stands::Beside);
                let blocks = self.query(&cte.query, None, Some(&sight), parent_block, None)?;
                self.stands = stood;
                for block in &blocks {
                    self.obstacle(*block, "WITH");
                }
                sight.list.push((name, blocks));
            }
        }
        let blocks = self.set_expression(&query.body, parent, Some(&sight), parent_block, host)?;
        self.query.notes.locks |= !query.locks.is_empty();
        let first = blocks.first().copied();
        if let Some(order) = &query.order_by {
            let ast::OrderByKind::Expressions(list) = &order.kind else { return Err(unreadable("ORDER BY")) };
            if order.interpolate.is_some() {
                return Err(unreadable("ORDER BY"));
            }
            for block in &blocks {
                self.obstacle(*block, "ORDER BY");
            }
            self.beside(list.iter().map(|it| &it.expr), parent, Some(&sight), first)?;
        }
        let limits: Vec<&Expr> = match &query.limit_clause {
            None => Vec::new(),
            Some(ast::LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                limit.iter().chain(offset.iter().map(|it| &it.value)).collect()
            }
            Some(ast::LimitClause::OffsetCommaLimit { offset, limit }) => vec![offset, limit],
            Some(ast::LimitClause::LimitOffset { .. }) => return Err(unreadable("LIMIT")),
        };
        if !limits.is_empty() {
            for block in &blocks {
                self.obstacle(*block, "LIMIT");
            }
            self.beside(limits.into_iter(), parent, Some(&sight), first)?;
        }
        if blocks.len() > 1 {
            for block in &blocks {
                self.obstacle(*block, "a set operation (UNION, EXCEPT, INTERSECT)");
            }
        }
        Ok(blocks)
    }

    /// Expressions beside a query, whose names are its outputs' or columns': no condition follows from them.
    fn beside<'q>(
        &mut self,
        list: impl Iterator<Item = &'q Expr>,
        parent: Option<&Scope<'_>>,
        ctes: Option<&Ctes<'_>>,
        block: Option<BlockId>,
    ) -> Outcome<()> {
        let block = match block {
            Some(block) => block,
            None => self.block(None, None)?,
        };
        let scope = Scope { parent, items: Vec::new(), merged: Vec::new(), natural: false, block, ctes };
        let stood = std::mem::replace(&mut self.stands, Stands::Beside);
        for expression in list {
            self.expression(expression, &scope)?;
        }
        self.stands = stood;
        self.aggregated(block);
        Ok(())
    }

    /// Notes what the expressions walked last were found to hold.
    fn aggregated(&mut self, block: BlockId) {
        if std::mem::take(&mut self.windows) {
            self.obstacle(block, "a window function");
            if let Some(it) = self.query.blocks.get_mut(block) {
                it.windowed = true;
            }
        }
        if std::mem::take(&mut self.aggregates) {
            self.obstacle(block, "an aggregate");
            if let Some(it) = self.query.blocks.get_mut(block) {
                it.aggregated = true;
                it.by_order = true;
            }
        }
    }

    fn set_expression(
        &mut self,
        body: &ast::SetExpr,
        parent: Option<&Scope<'_>>,
        ctes: Option<&Ctes<'_>>,
        parent_block: Option<BlockId>,
        host: Option<LeafId>,
    ) -> Outcome<Vec<BlockId>> {
        match body {
            ast::SetExpr::Select(select) => self.select(select, parent, ctes, parent_block, host).map(|it| vec![it]),
            ast::SetExpr::Query(query) => self.query(query, parent, ctes, parent_block, host),
            ast::SetExpr::SetOperation { .. } => {
                // From the left, without a call for each.
                let (mut arms, mut first) = (Vec::new(), body);
                while let ast::SetExpr::SetOperation { left, right, .. } = first {
                    arms.push(&**right);
                    first = left;
                }
                let mut blocks = self.set_expression(first, parent, ctes, parent_block, host)?;
                for arm in arms.into_iter().rev() {
                    blocks.extend(self.set_expression(arm, parent, ctes, parent_block, host)?);
                }
                Ok(blocks)
            }
            ast::SetExpr::Values(values) => {
                let block = self.block(parent_block, host)?;
                self.obstacle(block, "VALUES");
                let scope = Scope { parent, items: Vec::new(), merged: Vec::new(), natural: false, block, ctes };
                for cell in values.rows.iter().flat_map(|it| &it.content) {
                    self.expression(cell, &scope)?;
                }
                self.aggregated(block);
                Ok(vec![block])
            }
            ast::SetExpr::Insert(_)
            | ast::SetExpr::Update(_)
            | ast::SetExpr::Delete(_)
            | ast::SetExpr::Merge(_)
            | ast::SetExpr::Table(_) => Err(unreadable("SELECT")),
        }
    }

    fn select(
        &mut self,
        select: &ast::Select,
        parent: Option<&Scope<'_>>,
        ctes: Option<&Ctes<'_>>,
        parent_block: Option<BlockId>,
        host: Option<LeafId>,
    ) -> Outcome<BlockId> {
        self.plain(select)?;
        let around = (std::mem::take(&mut self.aggregates), std::mem::take(&mut self.windows));
        let arguments = self.arguments.take();
        let block = self.block(parent_block, host)?;
        let mut scope = Scope { parent, items: Vec::new(), merged: Vec::new(), natural: false, block, ctes };
        let stood = std::mem::replace(&mut self.stands, Stands::Within);
        let children = self.from(&select.from, &mut scope)?;
        let mut on = Vec::new();
        if let Some(condition) = &select.selection {
            self.expression(condition, &scope)?;
            self.conjuncts(condition, &scope, &mut on);
        }
        // An aggregate in WHERE is one of the query around, which then aggregates.
        if self.aggregates {
            self.aggregated(block);
        }
        self.set_root(block, children, on);
        self.stands = Stands::Behind;
        for item in &select.projection {
            self.item(item, &scope)?;
        }
        if let Some(modifiers) = &select.select_modifiers
            && modifiers.sql_calc_found_rows
        {
            self.asks.get_or_insert_with(|| "SQL_CALC_FOUND_ROWS".to_owned());
            self.obstacle(block, "SQL_CALC_FOUND_ROWS");
        }
        if select.distinct.as_ref().is_some_and(|it| !matches!(it, ast::Distinct::All)) {
            self.obstacle(block, "DISTINCT");
        }
        let ast::GroupByExpr::Expressions(groups, _) = &select.group_by else { return Err(unreadable("GROUP BY")) };
        if !groups.is_empty() {
            self.obstacle(block, "GROUP BY");
            for group in groups {
                self.expression(group, &scope)?;
            }
        }
        if let Some(having) = &select.having {
            self.obstacle(block, "HAVING");
            self.expression(having, &scope)?;
        }
        for ast::NamedWindowDefinition(_, window) in &select.named_window {
            self.obstacle(block, "WINDOW");
            if let ast::NamedWindowExpr::WindowSpec(spec) = window {
                self.window(spec, &scope)?;
            }
        }
        self.aggregated(block);
        self.stands = stood;
        (self.aggregates, self.windows) = around;
        self.arguments = arguments;
        self.aggregates |= std::mem::take(&mut self.outward);
        Ok(block)
    }

    /// Refuses what other dialects have.
    fn plain(&self, select: &ast::Select) -> Outcome<()> {
        let foreign = select.top.is_some()
            || select.exclude.is_some()
            || select.into.is_some()
            || !select.lateral_views.is_empty()
            || select.prewhere.is_some()
            || !select.connect_by.is_empty()
            || !select.cluster_by.is_empty()
            || !select.distribute_by.is_empty()
            || !select.sort_by.is_empty()
            || select.qualify.is_some()
            || select.value_table_mode.is_some()
            || !matches!(select.flavor, ast::SelectFlavor::Standard);
        if foreign { Err(unreadable("SELECT")) } else { Ok(()) }
    }

    fn item(&mut self, item: &ast::SelectItem, scope: &Scope<'_>) -> Outcome<()> {
        match item {
            ast::SelectItem::UnnamedExpr(expression) | ast::SelectItem::ExprWithAlias { expr: expression, .. } => {
                self.expression(expression, scope)
            }
            ast::SelectItem::Wildcard(_)
            | ast::SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(_), _) => Ok(()),
            ast::SelectItem::ExprWithAliases { .. }
            | ast::SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::Expr(_), _) => {
                Err(unreadable("SELECT"))
            }
        }
    }
}

fn too_large(what: &str) -> ClientError {
    ClientError::new(Code::TooLarge, format!("the statement {what}"), "Ask for it in several statements.")
}
