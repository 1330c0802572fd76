//! Syntax tree → [`Query`]: names resolved as the server resolves them, conditions taken where they must hold.
//!
//! What is not understood adds no condition and marks an obstacle; what could reach data elsewhere unseen is refused.

mod condition;
mod expression;
mod from;
mod write;

pub use condition::ARRAY_OF;
pub(crate) use from::is_reserved_word;
pub use from::not_mapped;

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use sqlparser::ast;
use sqlparser::ast::Spanned as _;
use sqlparser::tokenizer::Span;

use crate::error::ClientError;
use crate::error::Code;
use crate::sql::analyze::from::is_reserved;
use crate::sql::lex::Kind;
use crate::sql::lex::Lexeme;
use crate::sql::model::Block;
use crate::sql::model::BlockId;
use crate::sql::model::Condition;
use crate::sql::model::ConditionId;
use crate::sql::model::Leaf;
use crate::sql::model::LeafId;
use crate::sql::model::Link;
use crate::sql::model::Node;
use crate::sql::model::NodeId;
use crate::sql::model::Output;
use crate::sql::model::ParameterUse;
use crate::sql::model::Place;
use crate::sql::model::Query;
use crate::sql::model::Reference;
use crate::sql::model::Source;
use crate::sql::model::Stands;
use crate::sql::model::Value;
use crate::sql::model::Variable;
use crate::sql::model::VariableId;
use crate::sql::names::Found;
use crate::sql::names::Names;
use crate::sql::read;
use crate::sql::session::unreadable;

use self::from::Item;

/// More relations than this in one statement are refused.
const LEAVES_MAX: usize = 200;
/// Views in views, and CTEs in CTEs.
const EXPANSIONS_MAX: usize = 40;

/// Where literals stand.
enum Text<'a> {
    /// In the statement: the starts of its literals, ascending.
    Statement { text: &'a str, starts: &'a [u32] },
    /// In a view's definition or a default.
    Other(Rc<str>),
}

/// Turns one statement's tree into a [`Query`].
pub(crate) struct Analyzer<'a> {
    names: Rc<Names<'a>>,
    text: Text<'a>,
    query: Query,
    known: HashMap<(LeafId, Arc<str>), VariableId>,
    /// CTEs being expanded: a name that stands for one of them is the recursive reference.
    expanding: Vec<*const ast::Query>,
    expansions: usize,
    /// Names that cannot be resolved are let pass (ORDER BY behind a set operation).
    lenient: bool,
    /// How many blocks up the nearest column of the current aggregate's arguments stands.
    nearest: Option<usize>,
    /// An argument of the current aggregate is a column that may stand further up than `nearest` says.
    vague: bool,
    /// The rows that the lexer folded: first literal, width.
    repeat: Option<(u32, u32)>,
    /// ON CONFLICT with something that the parser cannot read.
    conflict_removed: bool,
    overriding: bool,
    inline: bool,
    /// Whether the outermost SELECT list is being walked.
    in_answer: bool,
    /// In a select list over the one row of `pg_settings` of this name.
    setting_named: Option<String>,
    /// Which text is read, by [`Query::definitions`], and where its lexemes start.
    reading: (usize, Rc<[usize]>),
    /// Where the relation's name stands that is looked up next, in bytes.
    naming: Option<Range<usize>>,
    /// How many lexemes stand before what is analysed of the statement.
    before: usize,
    /// Where in the innermost block it is read.
    stands: Stands,
    /// Subqueries of expressions that let conditions in: their arms and the first output's column in each.
    subqueries: HashMap<*const ast::Query, Vec<(BlockId, VariableId)>>,
    /// Columns of derived tables that are the same constant in every row.
    constants: HashMap<(LeafId, Arc<str>), Value>,
}

/// A FROM's names, those around it, and the CTEs in sight.
pub(crate) struct Scope<'s, 'q> {
    parent: Option<&'s Self>,
    items: Vec<Item>,
    /// Columns of USING and NATURAL, with the first item of their join.
    merged: Vec<(Arc<str>, Resolved, usize)>,
    block: BlockId,
    ctes: Option<&'s Ctes<'s, 'q>>,
}

/// One WITH, as far as it is visible.
pub(crate) struct Ctes<'s, 'q> {
    parent: Option<&'s Self>,
    scope: Option<&'s Scope<'s, 'q>>,
    list: &'s [Cte<'q>],
    visible: usize,
    recursive: bool,
}

pub(crate) struct Cte<'q> {
    name: Arc<str>,
    columns: Vec<Arc<str>>,
    /// `None`: it writes, and was analysed where it stands.
    query: Option<&'q ast::Query>,
    outputs: Vec<Output>,
    used: Cell<bool>,
}

/// What a column's name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    Variable(VariableId),
    /// A column, but none that conditions can use.
    Opaque,
    WholeRow,
    Missing,
}

/// What a query gives.
pub(crate) struct Answer {
    blocks: Vec<BlockId>,
    outputs: Vec<Output>,
    /// Per output: whether conditions on it may be applied to the rows inside.
    inward: Vec<bool>,
    /// More columns than `outputs` may exist.
    open: bool,
    /// So many outputs from the left stand where they stand in `outputs`; behind them `*` may hide further columns.
    placed: usize,
    /// A set operation: no single row inside stands behind a row outside.
    many: bool,
}

impl Answer {
    /// Forgets the outputs whose places are not known, before places matter.
    fn keep_placed(&mut self) {
        if self.placed < self.outputs.len() {
            self.outputs.truncate(self.placed);
            self.inward.truncate(self.placed);
            self.open = true;
        }
    }
}

pub(crate) type Outcome<T> = Result<T, ClientError>;

/// What is needed to analyse one statement.
pub(crate) struct Input<'a> {
    pub(crate) text: &'a str,
    pub(crate) lexemes: &'a [Lexeme],
    /// How many lexemes of the statement stand before these.
    pub(crate) before: usize,
    /// The starts of the statement's literals, folded rows left out, with their numbers.
    pub(crate) starts: &'a [u32],
    pub(crate) repeat: Option<(u32, u32)>,
    pub(crate) conflict_removed: bool,
    pub(crate) overriding: bool,
    /// It runs on the caller's stack, which is small.
    pub(crate) inline: bool,
}

/// Analyses a statement that reads or writes rows.
pub(crate) fn analyze<'a>(statement: &ast::Statement, names: Names<'a>, input: &Input<'a>) -> Outcome<Query> {
    let mut analyzer = Analyzer {
        names: Rc::new(names),
        text: Text::Statement { text: input.text, starts: input.starts },
        query: Query::default(),
        known: HashMap::new(),
        expanding: Vec::new(),
        expansions: 0,
        lenient: false,
        nearest: None,
        vague: false,
        repeat: input.repeat,
        conflict_removed: input.conflict_removed,
        overriding: input.overriding,
        inline: input.inline,
        in_answer: false,
        setting_named: None,
        reading: (0, input.lexemes.iter().map(|it| it.start).collect()),
        naming: None,
        before: input.before,
        stands: Stands::Within,
        subqueries: HashMap::new(),
        constants: HashMap::new(),
    };
    analyzer.count_parameters(input);
    match statement {
        ast::Statement::Query(query) => {
            analyzer.in_answer = true;
            let answer = analyzer.query(query, None, None, None, None)?;
            if let ([block], false) = (answer.blocks.as_slice(), answer.many) {
                analyzer.query.top = Some(*block);
            }
        }
        ast::Statement::Insert(_)
        | ast::Statement::Update(_)
        | ast::Statement::Delete(_)
        | ast::Statement::Merge(_) => {
            analyzer.query.only_writes = true;
            analyzer.query.returns = match statement {
                ast::Statement::Insert(it) => it.returning.is_some(),
                ast::Statement::Update(it) => it.returning.is_some(),
                ast::Statement::Delete(it) => it.returning.is_some(),
                _ => false,
            };
            analyzer.write(statement, None, None, None)?;
        }
        _ => return Err(unreadable("SQL")),
    }
    if analyzer.query.reread {
        // Mentions are counted once, but were met more often.
        analyzer.query.parameters.iter_mut().for_each(|it| it.beside.clear());
    }
    Ok(analyzer.query)
}

impl<'a> Analyzer<'a> {
    /// Stops where text of that length, or one expansion more, could be too much for a small stack.
    fn deepen(&self, bytes: usize) -> Outcome<()> {
        if self.inline && (bytes > read::INLINE_BYTES || self.expanding.len() > 2) {
            return Err(ClientError::new(Code::Internal, WANTS_STACK, "Report this."));
        }
        Ok(())
    }

    fn count_parameters(&mut self, input: &Input<'_>) {
        for lexeme in input.lexemes.iter().filter(|it| it.kind == Kind::Parameter) {
            let number = input.text.get(lexeme.start + 1..lexeme.end).and_then(|it| it.parse::<usize>().ok());
            if let Some(place) = number.and_then(|it| it.checked_sub(1))
                && place < usize::from(u16::MAX)
            {
                if self.query.parameters.len() <= place {
                    self.query.parameters.resize_with(place + 1, ParameterUse::default);
                }
                if let Some(it) = self.query.parameters.get_mut(place) {
                    it.mentions += 1;
                }
            }
        }
    }

    /// Which lexemes of the text being read these bytes are.
    fn place(&self, bytes: &Range<usize>) -> Place {
        let (text, starts) = &self.reading;
        let before = if *text == 0 { self.before } else { 0 };
        let at = |byte: usize| before + starts.partition_point(|it| *it < byte);
        Place { text: *text, lexemes: at(bytes.start)..at(bytes.end) }
    }

    /// Notes what stands before a table's name that `qualifier` names with its schema, from `first` up to `table`.
    pub(super) fn cut(&mut self, qualifier: &[Arc<str>], first: Span, table: Span, scope: &Scope<'_, '_>) {
        if qualifier.len() > 1 && from::find_item(qualifier, scope).is_some_and(|(item, _)| item.table.is_some()) {
            let leaf = from::find_item(qualifier, scope).map(|(item, _)| item.leaf);
            let plain = qualifier.last().map(std::slice::from_ref).and_then(|name| from::find_item(name, scope));
            if plain.map(|(item, _)| item.leaf) != leaf {
                self.query.shadowed = qualifier.last().cloned();
            }
            let place = self.place(&(read::bytes_of(first).start..read::bytes_of(table).start));
            if !self.query.qualifiers.contains(&place) {
                self.query.qualifiers.push(place);
            }
        }
    }

    /// Notes where a relation was named.
    fn refer(&mut self, alias: Option<&ast::TableAlias>, name: &Arc<str>, leaf: LeafId, definition: Option<usize>) {
        let Some(bytes) = self.naming.take() else { return };
        let place = self.place(&bytes);
        match self.query.references.iter_mut().find(|it| it.place == place) {
            Some(known) => known.leaves.push(leaf),
            None => self.query.references.push(Reference {
                place,
                name: Arc::clone(name),
                aliased: alias.is_some(),
                renamed: alias.is_some_and(|it| !it.columns.is_empty()),
                leaves: vec![leaf],
                definition,
            }),
        }
    }

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
            by_order: false,
            hard: false,
            ranked: false,
            items: Vec::new(),
            grouped_outputs: Vec::new(),
            aggregated: false,
            windowed: false,
            grouped: Vec::new(),
            groups: false,
            stands: self.stands,
        });
        Ok(self.query.blocks.len() - 1)
    }

    fn obstacle(&mut self, block: BlockId, what: impl Into<String>) {
        self.soft_obstacle(block, what);
        if let Some(it) = self.query.blocks.get_mut(block) {
            it.hard = true;
        }
    }

    /// Grouping, order, DISTINCT, a limit.
    fn soft_obstacle(&mut self, block: BlockId, what: impl Into<String>) {
        if let Some(it) = self.query.blocks.get_mut(block) {
            it.obstacle.get_or_insert_with(|| what.into());
        }
    }

    /// The same for what looks at the rows of the answer together.
    fn ranks(&mut self, block: BlockId, what: &str) {
        self.soft_obstacle(block, what);
        if let Some(it) = self.query.blocks.get_mut(block) {
            it.ranked = true;
        }
    }

    fn set_root(&mut self, block: BlockId, children: Vec<NodeId>, on: Vec<ConditionId>) {
        let Some(root) = self.query.blocks.get(block).map(|it| it.root) else { return };
        if let Some(node) = self.query.nodes.get_mut(root) {
            *node = Node::Inner { children, on };
        }
    }

    fn variable(
        &mut self,
        leaf: LeafId,
        column: &Arc<str>,
        oid: u32,
        not_null: bool,
        deterministic: bool,
    ) -> VariableId {
        let key = (leaf, column.clone());
        if let Some(id) = self.known.get(&key) {
            return *id;
        }
        self.query.variables.push(Variable { leaf, column: column.clone(), oid, not_null, deterministic });
        let id = self.query.variables.len() - 1;
        self.known.insert(key, id);
        id
    }

    /// A query with its WITH, order and limit.
    fn query(
        &mut self,
        query: &ast::Query,
        parent: Option<&Scope<'_, '_>>,
        ctes: Option<&Ctes<'_, '_>>,
        parent_block: Option<BlockId>,
        host: Option<LeafId>,
    ) -> Outcome<Answer> {
        if query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty()
        {
            return Err(unreadable("SELECT"));
        }
        let Some(with) = &query.with else { return self.query_body(query, parent, ctes, parent_block, host) };
        let mut list: Vec<Cte<'_>> = Vec::with_capacity(with.cte_tables.len());
        for cte in &with.cte_tables {
            if cte.from.is_some() {
                return Err(unreadable("WITH"));
            }
            let name: Arc<str> = cte.alias.name.value.as_str().into();
            let columns = cte.alias.columns.iter().map(|it| it.name.value.as_str().into()).collect();
            list.push(Cte { name, columns, query: Some(&cte.query), outputs: Vec::new(), used: Cell::new(false) });
        }
        // Those that write run whether they are named or not: once, here.
        for place in 0..list.len() {
            let Some(body) = list.get(place).and_then(|it| it.query) else { continue };
            let statement = match &*body.body {
                ast::SetExpr::Insert(it)
                | ast::SetExpr::Update(it)
                | ast::SetExpr::Delete(it)
                | ast::SetExpr::Merge(it) => it,
                ast::SetExpr::Select(_)
                | ast::SetExpr::Query(_)
                | ast::SetExpr::SetOperation { .. }
                | ast::SetExpr::Values(_)
                | ast::SetExpr::Table(_) => continue,
            };
            if body.with.is_some() {
                return Err(unreadable("WITH"));
            }
            let outputs = {
                let visible = if with.recursive { list.len() } else { place };
                let sight = Ctes { parent: ctes, scope: parent, list: &list, visible, recursive: with.recursive };
                self.write(statement, None, Some(&sight), parent_block)?
            };
            if let Some(cte) = list.get_mut(place) {
                cte.query = None;
                cte.outputs = outputs;
            }
        }
        let sight = Ctes { parent: ctes, scope: parent, list: &list, visible: list.len(), recursive: with.recursive };
        let answer = self.query_body(query, parent, Some(&sight), parent_block, host)?;
        // What nobody names is still looked at.
        for (place, cte) in list.iter().enumerate() {
            if let Some(body) = cte.query
                && !cte.used.get()
            {
                let visible = if with.recursive { list.len() } else { place };
                let sight = Ctes { parent: ctes, scope: parent, list: &list, visible, recursive: with.recursive };
                let in_answer = std::mem::take(&mut self.in_answer);
                self.expanding.push(std::ptr::from_ref(body));
                let found = self.query(body, parent, Some(&sight), parent_block, None);
                self.expanding.pop();
                self.in_answer = in_answer;
                for block in found?.blocks {
                    self.obstacle(block, "a subquery that nothing refers to");
                }
            }
        }
        Ok(answer)
    }

    fn query_body(
        &mut self,
        query: &ast::Query,
        parent: Option<&Scope<'_, '_>>,
        ctes: Option<&Ctes<'_, '_>>,
        parent_block: Option<BlockId>,
        host: Option<LeafId>,
    ) -> Outcome<Answer> {
        if !query.locks.is_empty() {
            self.query.notes.locks = true;
        }
        let mut answer = self.set_expression(&query.body, query.order_by.as_ref(), parent, ctes, parent_block, host)?;
        let mut limited = None;
        match &query.limit_clause {
            None => {}
            Some(ast::LimitClause::LimitOffset { limit, offset, limit_by }) => {
                if !limit_by.is_empty() {
                    return Err(unreadable("LIMIT"));
                }
                if let Some(limit) = limit {
                    self.loose(limit, parent, ctes, answer.blocks.first().copied())?;
                    limited = Some("LIMIT");
                }
                if let Some(offset) = offset {
                    self.loose(&offset.value, parent, ctes, answer.blocks.first().copied())?;
                    limited = limited.or(Some("OFFSET"));
                }
            }
            Some(ast::LimitClause::OffsetCommaLimit { .. }) => return Err(unreadable("LIMIT")),
        }
        if let Some(fetch) = &query.fetch {
            if let Some(quantity) = &fetch.quantity {
                self.loose(quantity, parent, ctes, answer.blocks.first().copied())?;
            }
            limited = Some("FETCH FIRST");
        }
        if let Some(what) = limited {
            answer.inward.fill(false);
            for block in answer.blocks.clone() {
                self.ranks(block, what);
                // The limit counts rows of the whole: nothing may be taken away before it.
                if let Some(it) = self.query.blocks.get_mut(block) {
                    for link in &mut it.links {
                        link.inward = false;
                    }
                }
            }
        }
        Ok(answer)
    }

    /// An expression beside a query: its names need not resolve here.
    fn loose(
        &mut self,
        expression: &ast::Expr,
        parent: Option<&Scope<'_, '_>>,
        ctes: Option<&Ctes<'_, '_>>,
        block: Option<BlockId>,
    ) -> Outcome<()> {
        let block = match block {
            Some(block) => block,
            None => self.block(None, None)?,
        };
        let scope = Scope { parent, items: Vec::new(), merged: Vec::new(), block, ctes };
        let lenient = std::mem::replace(&mut self.lenient, true);
        let stood = std::mem::replace(&mut self.stands, Stands::Beside);
        let done = self.expression(expression, &scope);
        self.lenient = lenient;
        self.stands = stood;
        done
    }

    fn set_expression(
        &mut self,
        body: &ast::SetExpr,
        order: Option<&ast::OrderBy>,
        parent: Option<&Scope<'_, '_>>,
        ctes: Option<&Ctes<'_, '_>>,
        parent_block: Option<BlockId>,
        host: Option<LeafId>,
    ) -> Outcome<Answer> {
        match body {
            ast::SetExpr::Select(select) => self.select(select, order, parent, ctes, parent_block, host),
            ast::SetExpr::Query(query) => {
                let mut answer = self.query(query, parent, ctes, parent_block, host)?;
                self.outer_order(order, &mut answer, parent, ctes)?;
                Ok(answer)
            }
            ast::SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let what = match (op, set_quantifier) {
                    (
                        _,
                        ast::SetQuantifier::ByName | ast::SetQuantifier::AllByName | ast::SetQuantifier::DistinctByName,
                    )
                    | (ast::SetOperator::Minus, _) => return Err(unreadable("SELECT")),
                    (ast::SetOperator::Union, ast::SetQuantifier::All) => "UNION ALL",
                    (ast::SetOperator::Union, _) => "UNION",
                    (ast::SetOperator::Except, _) => "EXCEPT",
                    (ast::SetOperator::Intersect, _) => "INTERSECT",
                };
                let mut answer = self.set_operation(left, right, parent, ctes, parent_block, host)?;
                for block in answer.blocks.clone() {
                    self.obstacle(block, what);
                }
                self.outer_order(order, &mut answer, parent, ctes)?;
                Ok(answer)
            }
            ast::SetExpr::Values(values) => {
                let block = self.block(parent_block, host)?;
                let scope = Scope { parent, items: Vec::new(), merged: Vec::new(), block, ctes };
                let mut width = 0;
                for row in &values.rows {
                    width = width.max(row.content.len());
                    for cell in &row.content {
                        self.expression(cell, &scope)?;
                    }
                }
                self.obstacle(block, "VALUES");
                let only = match values.rows.as_slice() {
                    [row] => row.content.as_slice(),
                    _ => &[],
                };
                let outputs = (1..=width)
                    .map(|place| Output {
                        name: Some(format!("column{place}").into()),
                        variables: vec![None],
                        value: only.get(place - 1).and_then(|it| self.value(it)),
                        ..Output::default()
                    })
                    .collect();
                let mut answer = Answer {
                    blocks: vec![block],
                    outputs,
                    inward: vec![false; width],
                    open: false,
                    placed: width,
                    many: false,
                };
                self.outer_order(order, &mut answer, parent, ctes)?;
                Ok(answer)
            }
            ast::SetExpr::Insert(_) | ast::SetExpr::Update(_) | ast::SetExpr::Delete(_) | ast::SetExpr::Merge(_) => {
                // WITH … INSERT: the write is the statement itself.
                let (ast::SetExpr::Insert(it)
                | ast::SetExpr::Update(it)
                | ast::SetExpr::Delete(it)
                | ast::SetExpr::Merge(it)) = body
                else {
                    return Err(unreadable("WITH"));
                };
                let outputs = self.write(it, parent, ctes, parent_block)?;
                let inward = vec![false; outputs.len()];
                Ok(Answer { blocks: Vec::new(), outputs, inward, open: true, placed: 0, many: true })
            }
            ast::SetExpr::Table(_) => Err(unreadable("TABLE")),
        }
    }

    /// Arms of set operations: nested ones of the left side are taken apart without recursion.
    fn set_operation(
        &mut self,
        left: &ast::SetExpr,
        right: &ast::SetExpr,
        parent: Option<&Scope<'_, '_>>,
        ctes: Option<&Ctes<'_, '_>>,
        parent_block: Option<BlockId>,
        host: Option<LeafId>,
    ) -> Outcome<Answer> {
        let mut arms = vec![right];
        let mut spine = left;
        while let ast::SetExpr::SetOperation { left, op, set_quantifier, right } = spine {
            if matches!(op, ast::SetOperator::Minus)
                || matches!(
                    set_quantifier,
                    ast::SetQuantifier::ByName | ast::SetQuantifier::AllByName | ast::SetQuantifier::DistinctByName
                )
            {
                return Err(unreadable("SELECT"));
            }
            arms.push(right);
            spine = left;
        }
        arms.push(spine);
        let mut all: Option<Answer> = None;
        for arm in arms.into_iter().rev() {
            let mut answer = self.set_expression(arm, None, parent, ctes, parent_block, host)?;
            answer.keep_placed();
            match &mut all {
                None => all = Some(Answer { many: true, ..answer }),
                Some(all) => {
                    if answer.open || all.open {
                        all.placed = all.placed.min(answer.placed);
                        all.keep_placed();
                    }
                    let before = all.blocks.len();
                    all.blocks.extend(&answer.blocks);
                    all.open |= answer.open;
                    for (place, output) in all.outputs.iter_mut().enumerate() {
                        output.variables.resize(before, None);
                        let other = answer.outputs.get(place);
                        let found = other.map(|it| it.variables.clone()).unwrap_or_default();
                        output.variables.extend(found);
                        output.variables.resize(all.blocks.len(), None);
                        output.value = None;
                        // Arms of several types are brought to a common one, in which other values may be equal.
                        let alike = other.is_some_and(|it| it.oid == output.oid);
                        if !alike {
                            output.oid = 0;
                        }
                        if let Some(inward) = all.inward.get_mut(place) {
                            *inward &= alike && answer.inward.get(place).copied().unwrap_or(false);
                        }
                    }
                }
            }
        }
        all.ok_or_else(|| unreadable("SELECT"))
    }

    /// ORDER BY behind something that is not one SELECT: positions and output names.
    fn outer_order(
        &mut self,
        order: Option<&ast::OrderBy>,
        answer: &mut Answer,
        parent: Option<&Scope<'_, '_>>,
        ctes: Option<&Ctes<'_, '_>>,
    ) -> Outcome<()> {
        let Some(order) = order else { return Ok(()) };
        for expression in ordered(order)? {
            self.loose(&expression.expr, parent, ctes, answer.blocks.first().copied())?;
        }
        for block in answer.blocks.clone() {
            self.obstacle(block, "ORDER BY");
        }
        Ok(())
    }

    fn select(
        &mut self,
        select: &ast::Select,
        order: Option<&ast::OrderBy>,
        parent: Option<&Scope<'_, '_>>,
        ctes: Option<&Ctes<'_, '_>>,
        parent_block: Option<BlockId>,
        host: Option<LeafId>,
    ) -> Outcome<Answer> {
        if select.select_modifiers.is_some()
            || select.top.is_some()
            || select.exclude.is_some()
            || !select.lateral_views.is_empty()
            || select.prewhere.is_some()
            || !select.connect_by.is_empty()
            || !select.cluster_by.is_empty()
            || !select.distribute_by.is_empty()
            || !select.sort_by.is_empty()
            || select.qualify.is_some()
            || select.value_table_mode.is_some()
            || !matches!(select.flavor, ast::SelectFlavor::Standard)
        {
            return Err(unreadable("SELECT"));
        }
        let in_answer = std::mem::take(&mut self.in_answer);
        let block = self.block(parent_block, host)?;
        let stood = std::mem::replace(&mut self.stands, Stands::Within);
        let mut scope = Scope { parent, items: Vec::new(), merged: Vec::new(), block, ctes };
        let mut children = Vec::new();
        for from in &select.from {
            children.push(self.table_with_joins(from, &mut scope)?);
        }
        let mut on = Vec::new();
        if let Some(selection) = &select.selection {
            self.expression(selection, &scope)?;
            self.conjuncts(selection, &scope, &mut on)?;
        }
        self.set_root(block, children, on);
        self.stands = Stands::Behind;

        let mut limits_rows = false;
        if let Some(into) = &select.into {
            let name = into.targets.first().map(|_| Vec::new()).unwrap_or_default();
            self.query.notes.into = Some((name, into.temporary));
        }
        self.in_answer = in_answer;
        self.setting_named = self.setting_named_by(select, &scope);
        let (mut outputs, open, placed) = self.projection(&select.projection, &scope)?;
        self.setting_named = None;
        self.in_answer = false;
        match &select.distinct {
            None | Some(ast::Distinct::All) => {}
            Some(ast::Distinct::Distinct) => self.ranks(block, "DISTINCT"),
            Some(ast::Distinct::On(on)) => {
                for expression in on {
                    self.output_expression(expression, &outputs, &scope)?;
                }
                limits_rows = true;
                self.obstacle(block, "DISTINCT ON");
            }
        }
        let mut grouped: Option<Vec<VariableId>> = None;
        match &select.group_by {
            ast::GroupByExpr::All(_) => return Err(unreadable("GROUP BY")),
            ast::GroupByExpr::Expressions(expressions, modifiers) => {
                if !modifiers.is_empty() {
                    return Err(unreadable("GROUP BY"));
                }
                if !expressions.is_empty() {
                    let mut columns = Vec::new();
                    let mut plain = true;
                    let mut by_name = Vec::with_capacity(expressions.len());
                    for expression in expressions {
                        let several = match expression {
                            ast::Expr::GroupingSets(_) | ast::Expr::Cube(_) | ast::Expr::Rollup(_) => true,
                            ast::Expr::Tuple(parts) => parts.is_empty(),
                            _ => false,
                        };
                        plain &= !several;
                        self.output_expression(expression, &outputs, &scope)?;
                        if let Some(variable) = self.column(expression, &scope) {
                            columns.push(variable);
                        } else if let Some([Some(variable)]) = position(expression)
                            .filter(|it| *it <= placed)
                            .and_then(|it| outputs.get(it - 1))
                            .map(|it| &*it.variables)
                        {
                            columns.push(*variable);
                        }
                        by_name.push(self.is_output(expression, &outputs, &scope));
                    }
                    if !plain {
                        // Grouping sets show NULL for a column that has a value in every row.
                        for output in &mut outputs {
                            output.variables.fill(None);
                        }
                    }
                    if let Some(it) = self.query.blocks.get_mut(block) {
                        it.grouped.clone_from(&columns);
                        it.groups = plain;
                        it.grouped_outputs = by_name;
                        it.hard |= !plain;
                    }
                    grouped = Some(if plain { columns } else { Vec::new() });
                    self.soft_obstacle(block, "GROUP BY");
                }
            }
        }
        if let Some(having) = &select.having {
            self.expression(having, &scope)?;
            self.soft_obstacle(block, "HAVING");
            if let Some(it) = self.query.blocks.get_mut(block) {
                it.aggregated = true;
            }
            grouped.get_or_insert_default();
        }
        for definition in &select.named_window {
            if let ast::NamedWindowExpr::WindowSpec(spec) = &definition.1 {
                self.window(spec, &scope)?;
            }
        }
        if let Some(order) = order {
            for expression in ordered(order)? {
                self.output_expression(&expression.expr, &outputs, &scope)?;
            }
            self.ranks(block, "ORDER BY");
        }
        if let Some(it) = self.query.blocks.get_mut(block) {
            let items = select.projection.iter().map(|it| match it {
                ast::SelectItem::UnnamedExpr(expression) => Some((false, figured_name(expression))),
                ast::SelectItem::ExprWithAlias { alias, .. } => Some((true, Some(alias.value.as_str().into()))),
                _ => None,
            });
            it.items = items.collect();
        }
        self.stands = stood;
        let (aggregated, windowed) =
            self.query.blocks.get(block).map_or((false, false), |it| (it.aggregated, it.windowed));
        let inward = outputs
            .iter()
            .map(|output| match (output.variables.first().copied().flatten(), &grouped) {
                _ if limits_rows || windowed => false,
                (Some(variable), Some(columns)) => columns.contains(&variable),
                (Some(_), None) => !aggregated,
                (None, _) => false,
            })
            .collect();
        Ok(Answer { blocks: vec![block], outputs, inward, open, placed, many: false })
    }

    /// A grouping or ordering expression: a position, an output's name, or an expression over the input.
    fn output_expression(&mut self, expression: &ast::Expr, outputs: &[Output], scope: &Scope<'_, '_>) -> Outcome<()> {
        if let ast::Expr::Identifier(name) = plainly(expression)
            && !is_reserved(name)
            && outputs.iter().any(|it| it.name.as_deref() == Some(name.value.as_str()))
        {
            return Ok(());
        }
        self.expression(expression, scope)
    }

    /// Whether an expression of GROUP BY is the name of an output, and not of a column.
    fn is_output(&mut self, expression: &ast::Expr, outputs: &[Output], scope: &Scope<'_, '_>) -> bool {
        let ast::Expr::Identifier(name) = plainly(expression) else { return false };
        // CURRENT_SCHEMA and its like are values, whatever outputs are called.
        if is_reserved(name) {
            return false;
        }
        let name: Arc<str> = name.value.as_str().into();
        if !outputs.iter().any(|it| it.name.as_ref() == Some(&name)) {
            return false;
        }
        match self.resolve(&[name], scope).0 {
            Resolved::Missing => true,
            Resolved::Variable(_) | Resolved::WholeRow => false,
            Resolved::Opaque => {
                // It may be either.
                if let Some(it) = self.query.blocks.get_mut(scope.block) {
                    it.hard = true;
                }
                false
            }
        }
    }

    /// The outputs; whether there may be more; and how many of them from the left stand where the server has them.
    fn projection(&mut self, items: &[ast::SelectItem], scope: &Scope<'_, '_>) -> Outcome<(Vec<Output>, bool, usize)> {
        let mut outputs = Vec::with_capacity(items.len());
        let mut open = false;
        let mut placed: Option<usize> = None;
        for item in items {
            match item {
                ast::SelectItem::UnnamedExpr(expression) => {
                    self.expression(expression, scope)?;
                    let name = figured_name(expression);
                    open |= name.is_none();
                    outputs.push(self.output(name, expression, scope));
                }
                ast::SelectItem::ExprWithAlias { expr, alias } => {
                    // A string behind a name is a literal of the type that is called so.
                    if alias.quote_style == Some('\'') {
                        return Err(unreadable("expression"));
                    }
                    self.expression(expr, scope)?;
                    outputs.push(self.output(Some(alias.value.as_str().into()), expr, scope));
                }
                ast::SelectItem::Wildcard(options) => {
                    plain_wildcard(options)?;
                    let before = outputs.len();
                    if self.expand(None, scope, &mut outputs)? {
                        open = true;
                        placed.get_or_insert(before);
                    }
                }
                ast::SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    plain_wildcard(options)?;
                    let parts = parts(name)?;
                    if let (Some(first), Some(last)) = (name.0.first(), name.0.last()) {
                        self.cut(&parts, first.span(), last.span(), scope);
                    }
                    let before = outputs.len();
                    if self.expand(Some(&parts), scope, &mut outputs)? {
                        open = true;
                        placed.get_or_insert(before);
                    }
                }
                ast::SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::Expr(expression), options) => {
                    plain_wildcard(options)?;
                    self.expression(expression, scope)?;
                    open = true;
                    placed.get_or_insert(outputs.len());
                }
                ast::SelectItem::ExprWithAliases { .. } => return Err(unreadable("SELECT")),
            }
        }
        if self.in_answer {
            for output in &outputs {
                if self.is_user_type(output.oid) {
                    let name = output.name.as_deref().unwrap_or("?column?").to_owned();
                    self.query.notes.user_type.get_or_insert(name);
                }
            }
        }
        let placed = placed.unwrap_or(outputs.len());
        Ok((outputs, open, placed))
    }

    fn is_user_type(&self, oid: u32) -> bool {
        oid >= 16384
    }

    fn output(&mut self, name: Option<Arc<str>>, expression: &ast::Expr, scope: &Scope<'_, '_>) -> Output {
        let variable = self.column(expression, scope);
        let oid = variable.and_then(|it| self.query.variables.get(it)).map_or(0, |it| it.oid);
        let value = if variable.is_none() { self.value(expression) } else { None };
        Output { name, variables: vec![variable], value, oid }
    }

    /// Links a derived table's columns to what stands behind them, and gives its columns.
    fn links(&mut self, host: LeafId, answer: &Answer) {
        for (place, output) in answer.outputs.iter().enumerate() {
            let Some(name) = &output.name else { continue };
            // A name that stands twice cannot be referred to.
            if answer.outputs.iter().filter(|it| it.name.as_ref() == Some(name)).count() > 1 {
                continue;
            }
            let inward = answer.inward.get(place).copied().unwrap_or(false);
            for (arm, block) in answer.blocks.iter().enumerate() {
                let Some(inner) = output.variables.get(arm).copied().flatten() else { continue };
                let (not_null, deterministic) =
                    self.query.variables.get(inner).map_or((false, true), |it| (it.not_null, it.deterministic));
                let not_null = not_null && answer.blocks.len() == 1;
                let outer = self.variable(host, name, output.oid, not_null, deterministic);
                let outward = !answer.many;
                if let Some(it) = self.query.blocks.get_mut(*block) {
                    it.links.push(Link { outer, inner, inward, outward });
                }
            }
        }
    }

    /// The relation behind a name: CTEs first where the name is not qualified.
    fn found(&self, parts: &[Arc<str>]) -> Found {
        self.names.relation(parts)
    }
}

/// The parts of a name.
pub(crate) fn parts(name: &ast::ObjectName) -> Outcome<Vec<Arc<str>>> {
    name.0
        .iter()
        .map(|part| match part {
            ast::ObjectNamePart::Identifier(it) => Ok(Arc::from(it.value.as_str())),
            ast::ObjectNamePart::Function(_) => Err(unreadable("SQL")),
        })
        .collect()
}

/// An expression without the parentheses around it.
fn plainly(expression: &ast::Expr) -> &ast::Expr {
    let mut expression = expression;
    while let ast::Expr::Nested(inner) = expression {
        expression = inner;
    }
    expression
}

fn plain_wildcard(options: &ast::WildcardAdditionalOptions) -> Outcome<()> {
    let plain = options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none();
    if plain { Ok(()) } else { Err(unreadable("SELECT")) }
}

fn ordered(order: &ast::OrderBy) -> Outcome<&[ast::OrderByExpr]> {
    match &order.kind {
        ast::OrderByKind::Expressions(expressions) if order.interpolate.is_none() => Ok(expressions),
        ast::OrderByKind::Expressions(_) | ast::OrderByKind::All(_) => Err(unreadable("ORDER BY")),
    }
}

/// The place in the select list that an expression of GROUP BY names, from 1.
fn position(expression: &ast::Expr) -> Option<usize> {
    match plainly(expression) {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(number, _) => number.parse().ok().filter(|it| *it > 0),
            _ => None,
        },
        _ => None,
    }
}

/// The name that the server gives an output without alias, where it is plain to see.
fn figured_name(expression: &ast::Expr) -> Option<Arc<str>> {
    match expression {
        ast::Expr::Identifier(name) => Some(name.value.as_str().into()),
        ast::Expr::CompoundIdentifier(names) => names.last().map(|it| it.value.as_str().into()),
        ast::Expr::Function(function) => match function.name.0.last() {
            Some(ast::ObjectNamePart::Identifier(it)) => Some(it.value.as_str().into()),
            _ => None,
        },
        ast::Expr::Nested(inner) => figured_name(inner),
        ast::Expr::Extract { .. } => Some("extract".into()),
        ast::Expr::Position { .. } => Some("position".into()),
        ast::Expr::Substring { shorthand, .. } => Some(if *shorthand { "substr" } else { "substring" }.into()),
        ast::Expr::Ceil { .. } => Some("ceil".into()),
        ast::Expr::Floor { .. } => Some("floor".into()),
        ast::Expr::Overlay { .. } => Some("overlay".into()),
        ast::Expr::Trim { trim_where, .. } => Some(match trim_where {
            None | Some(ast::TrimWhereField::Both) => "btrim".into(),
            Some(ast::TrimWhereField::Leading) => "ltrim".into(),
            Some(ast::TrimWhereField::Trailing) => "rtrim".into(),
        }),
        ast::Expr::Exists { negated: false, .. } => Some("exists".into()),
        _ => None,
    }
}

const WANTS_STACK: &str = "the statement wants a larger stack";

/// Whether the analysis only gave up because it ran on a small stack.
pub(crate) fn wants_stack(error: &ClientError) -> bool {
    error.code == Code::Internal && error.message == WANTS_STACK
}

fn too_large(what: &str) -> ClientError {
    ClientError::new(
        Code::TooLarge,
        format!("the statement {what} to be analysed"),
        "Split it into several statements.",
    )
}
