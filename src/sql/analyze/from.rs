//! FROM: relations, joins, and what a column's name means among them.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use sqlparser::ast;

use crate::error::ClientError;
use crate::error::Code;
use crate::ident::TableName;
use crate::schema::RelationKind;
use crate::sql::analyze::Analyzer;
use crate::sql::analyze::Answer;
use crate::sql::analyze::Ctes;
use crate::sql::analyze::EXPANSIONS_MAX;
use crate::sql::analyze::Outcome;
use crate::sql::analyze::Resolved;
use crate::sql::analyze::Scope;
use crate::sql::analyze::Text;
use crate::sql::analyze::parts;
use crate::sql::analyze::too_large;
use crate::sql::lex;
use crate::sql::model::BlockId;
use crate::sql::model::Condition;
use crate::sql::model::ConditionId;
use crate::sql::model::LeafId;
use crate::sql::model::Node;
use crate::sql::model::NodeId;
use crate::sql::model::Output;
use crate::sql::model::Source;
use crate::sql::names::Found;
use crate::sql::read;
use crate::sql::session::unreadable;

/// One name of a FROM and its columns.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) name: Arc<str>,
    /// The table's own name, while no alias hides it.
    pub(crate) table: Option<TableName>,
    pub(crate) leaf: LeafId,
    pub(crate) columns: Rc<Vec<ItemColumn>>,
    /// There may be more columns than these.
    pub(crate) open: bool,
    /// Any name may be one of its columns (offline, where the schema is assumed).
    pub(crate) assumed: bool,
    /// It has system columns.
    pub(crate) stored: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct ItemColumn {
    pub(crate) name: Arc<str>,
    /// Its name in the relation; `None`: conditions cannot use it.
    real: Option<Arc<str>>,
    oid: u32,
    not_null: bool,
    deterministic: bool,
}

const TSVECTOR: u32 = 3614;

const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

/// What an outer join is, seen from the left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Inner,
    Left,
    Right,
    Full,
}

impl Analyzer<'_> {
    pub(super) fn table_with_joins(
        &mut self,
        from: &ast::TableWithJoins,
        scope: &mut Scope<'_, '_>,
    ) -> Outcome<NodeId> {
        let first = scope.items.len();
        let mut node = self.factor(&from.relation, scope)?;
        for join in &from.joins {
            if join.global {
                return Err(unreadable("JOIN"));
            }
            let second = scope.items.len();
            let right = self.factor(&join.relation, scope)?;
            let (kind, constraint) = match &join.join_operator {
                ast::JoinOperator::Join(it) | ast::JoinOperator::Inner(it) => (Kind::Inner, it),
                ast::JoinOperator::CrossJoin(it) => (Kind::Inner, it),
                ast::JoinOperator::Left(it) | ast::JoinOperator::LeftOuter(it) => (Kind::Left, it),
                ast::JoinOperator::Right(it) | ast::JoinOperator::RightOuter(it) => (Kind::Right, it),
                ast::JoinOperator::FullOuter(it) => (Kind::Full, it),
                _ => return Err(unreadable("JOIN")),
            };
            let mut on = Vec::new();
            match constraint {
                ast::JoinConstraint::None => {}
                ast::JoinConstraint::On(expression) => {
                    // What stands further left in the same FROM is not in sight.
                    let sight = Scope {
                        parent: scope.parent,
                        items: scope.items.get(first..).unwrap_or_default().to_vec(),
                        merged: scope.merged.iter().filter(|it| it.2 >= first).cloned().collect(),
                        block: scope.block,
                        ctes: scope.ctes,
                    };
                    self.expression(expression, &sight)?;
                    self.conjuncts(expression, &sight, &mut on)?;
                }
                ast::JoinConstraint::Using(columns) => {
                    for column in columns {
                        let parts = parts(column)?;
                        let [name] = parts.as_slice() else { return Err(unreadable("JOIN")) };
                        self.merge(name, kind, scope, first, second, &mut on);
                    }
                }
                ast::JoinConstraint::Natural => self.natural(kind, scope, first, second, &mut on),
            }
            node = self.node(match kind {
                Kind::Inner => Node::Inner { children: vec![node, right], on },
                Kind::Left => Node::Outer { kept: node, optional: right, on },
                Kind::Right => Node::Outer { kept: right, optional: node, on },
                Kind::Full => Node::Full { left: node, right, on },
            });
        }
        Ok(node)
    }

    /// One column of USING: equal on both sides, and one name for both from here on.
    fn merge(
        &mut self,
        name: &Arc<str>,
        kind: Kind,
        scope: &mut Scope<'_, '_>,
        first: usize,
        second: usize,
        on: &mut Vec<ConditionId>,
    ) {
        let merged_in =
            |from: usize, to: usize| scope.merged.iter().rposition(|(it, _, at)| it == name && *at >= from && *at < to);
        let (left_merged, right_merged) = (merged_in(first, second), merged_in(second, usize::MAX));
        let known = |place: Option<usize>| place.and_then(|it| scope.merged.get(it)).map(|it| it.1);
        let left = match known(left_merged) {
            Some(resolved) => resolved,
            None => self.among(name, scope.items.get(first..second).unwrap_or_default()),
        };
        let right = match known(right_merged) {
            Some(resolved) => resolved,
            None => self.among(name, scope.items.get(second..).unwrap_or_default()),
        };
        if let (Resolved::Variable(a), Resolved::Variable(b)) = (left, right)
            && let Some(condition) = self.same(a, b)
        {
            on.push(condition);
        }
        let alike = match (left, right) {
            (Resolved::Variable(a), Resolved::Variable(b)) => {
                let (a, b) = (self.query.variables.get(a), self.query.variables.get(b));
                a.zip(b).is_some_and(|(a, b)| a.oid == b.oid || family(a.oid) == family(b.oid))
            }
            _ => false,
        };
        let merged = match kind {
            // The column has the common type of both, in which other values may be equal than in one of them.
            _ if !alike => Resolved::Opaque,
            Kind::Inner if matches!(left, Resolved::Variable(_)) => left,
            Kind::Inner | Kind::Right => right,
            Kind::Left => left,
            Kind::Full => Resolved::Opaque,
        };
        // The later one first, for the other's place to stay.
        let mut gone = [left_merged, right_merged];
        gone.sort();
        for place in gone.into_iter().flatten().rev() {
            scope.merged.remove(place);
        }
        scope.merged.push((name.clone(), merged, first));
    }

    fn natural(
        &mut self,
        kind: Kind,
        scope: &mut Scope<'_, '_>,
        first: usize,
        second: usize,
        on: &mut Vec<ConditionId>,
    ) {
        let left = scope.items.get(first..second).unwrap_or_default();
        let right = scope.items.get(second..).unwrap_or_default();
        if left.iter().chain(right).any(|item| item.open || item.assumed) {
            // Which columns are common is not known: no name without a qualifier means anything any more.
            self.query.vague_columns = true;
            if let Some(item) = scope.items.get_mut(first) {
                item.open = true;
            }
            return;
        }
        let mut common: Vec<Arc<str>> = Vec::new();
        for column in left.iter().flat_map(|item| item.columns.iter()) {
            let shared = right.iter().any(|item| item.columns.iter().any(|it| it.name == column.name));
            if shared && !common.contains(&column.name) {
                common.push(column.name.clone());
            }
        }
        for name in common {
            self.merge(&name, kind, scope, first, second, on);
        }
    }

    pub(super) fn factor(&mut self, factor: &ast::TableFactor, scope: &mut Scope<'_, '_>) -> Outcome<NodeId> {
        let block = scope.block;
        if let ast::TableFactor::Table { alias: Some(alias), .. }
        | ast::TableFactor::Function { alias: Some(alias), .. }
        | ast::TableFactor::UNNEST { alias: Some(alias), .. }
        | ast::TableFactor::Derived { alias: Some(alias), .. }
        | ast::TableFactor::NestedJoin { alias: Some(alias), .. } = factor
        {
            self.reserved_word(&alias.name)?;
        }
        match factor {
            ast::TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                let parts = parts(name)?;
                self.reserved(name)?;
                if let Some(
                    ast::TableSampleKind::BeforeTableAlias(sample) | ast::TableSampleKind::AfterTableAlias(sample),
                ) = sample
                {
                    self.query.notes.sampled = true;
                    self.query.notes.sampled_again |= sample.seed.is_some();
                    self.obstacle(block, "TABLESAMPLE");
                    self.query.notes.volatile.get_or_insert_with(|| "TABLESAMPLE".to_owned());
                }
                self.naming = Some(named_at(name));
                let item = self.named(&parts, alias.as_ref(), scope)?;
                self.naming = None;
                let leaf = item.leaf;
                scope.items.push(item);
                Ok(self.node(Node::Leaf(leaf)))
            }
            ast::TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } => {
                if args.settings.is_some() {
                    return Err(unreadable("FROM"));
                }
                self.function_in_from(name, &args.args, alias.as_ref(), *with_ordinality, scope)
            }
            ast::TableFactor::Function { name, args, with_ordinality, alias, .. } => {
                self.function_in_from(name, args, alias.as_ref(), *with_ordinality, scope)
            }
            ast::TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality, .. } => {
                let mut several = array_exprs.len() > 1;
                for expression in array_exprs {
                    self.expression(expression, scope)?;
                    several |= !self.plain_array(expression, scope);
                }
                let name = "unnest".into();
                self.rows_item(name, alias.as_ref(), *with_ordinality, several, scope)
            }
            ast::TableFactor::Derived { lateral, subquery, alias, sample: None } => {
                let name: Arc<str> = alias.as_ref().map_or("", |it| it.name.value.as_str()).into();
                let host = self.leaf(block, Source::Derived(Vec::new()), name.clone())?;
                let in_answer = std::mem::take(&mut self.in_answer);
                let answer = if *lateral {
                    // What stands to the left is in sight.
                    let items = scope.items.clone();
                    let merged = scope.merged.clone();
                    let sight = Scope { parent: scope.parent, items, merged, block, ctes: scope.ctes };
                    self.query(subquery, Some(&sight), scope.ctes, Some(block), Some(host))
                } else {
                    self.query(subquery, scope.parent, scope.ctes, Some(block), Some(host))
                };
                self.in_answer = in_answer;
                let item = self.derived_item(host, answer?, name, alias.as_ref());
                scope.items.push(item);
                Ok(self.node(Node::Leaf(host)))
            }
            ast::TableFactor::NestedJoin { table_with_joins, alias } => match alias {
                None => self.table_with_joins(table_with_joins, scope),
                Some(alias) => {
                    let mut inner =
                        Scope { parent: scope.parent, items: Vec::new(), merged: Vec::new(), block, ctes: scope.ctes };
                    let node = self.table_with_joins(table_with_joins, &mut inner)?;
                    // Its columns are all of theirs, under a name that is not followed.
                    self.query.whole_rows.extend(inner.items.iter().map(|it| it.leaf));
                    let leaf = self.leaf(block, Source::Rows, alias.name.value.as_str().into())?;
                    scope.items.push(opaque(leaf, alias.name.value.as_str().into()));
                    Ok(node)
                }
            },
            _ => Err(unreadable("FROM")),
        }
    }

    fn function_in_from(
        &mut self,
        name: &ast::ObjectName,
        arguments: &[ast::FunctionArg],
        alias: Option<&ast::TableAlias>,
        ordinality: bool,
        scope: &mut Scope<'_, '_>,
    ) -> Outcome<NodeId> {
        let parts = parts(name)?;
        self.call(&parts, arguments, scope)?;
        let name = parts.last().cloned().unwrap_or_else(|| "".into());
        let several = crate::sql::functions::class(&name).is_none_or(|_| {
            name.starts_with("json")
                || name.starts_with("pg_")
                || name.starts_with("_pg")
                || name.starts_with("ts_")
                || &*name == "aclexplode"
        });
        self.rows_item(name, alias, ordinality, several, scope)
    }

    /// Whether the elements of an array have no columns of their own, so that `unnest` gives one column.
    fn plain_array(&mut self, expression: &ast::Expr, scope: &Scope<'_, '_>) -> bool {
        match expression {
            ast::Expr::Nested(inner) => self.plain_array(inner, scope),
            ast::Expr::Array(array) => array.elem.iter().all(|it| self.value(it).is_some()),
            ast::Expr::Cast {
                data_type:
                    ast::DataType::Array(
                        ast::ArrayElemTypeDef::SquareBracket(element, _) | ast::ArrayElemTypeDef::Qualified(element, _),
                    ),
                ..
            } => !matches!(**element, ast::DataType::Custom(..)),
            ast::Expr::Value(_) => true,
            other => self
                .column(other, scope)
                .and_then(|it| self.query.variables.get(it))
                // An array of a built-in type; a tsvector gives three columns.
                .is_some_and(|it| (1..16_384).contains(&it.oid) && it.oid != TSVECTOR),
        }
    }

    fn rows_item(
        &mut self,
        name: Arc<str>,
        alias: Option<&ast::TableAlias>,
        ordinality: bool,
        several: bool,
        scope: &mut Scope<'_, '_>,
    ) -> Outcome<NodeId> {
        let shown = alias.map_or(name, |it| it.name.value.as_str().into());
        let leaf = self.leaf(scope.block, Source::Rows, shown.clone())?;
        let mut item = opaque(leaf, shown.clone());
        let named = alias.map_or(&[][..], |it| it.columns.as_slice());
        let mut columns: Vec<ItemColumn> = named.iter().map(|it| opaque_column(&it.name.value)).collect();
        for column in named {
            if let Some(data_type) = &column.data_type {
                self.data_type(data_type)?;
            }
        }
        if columns.is_empty() {
            columns.push(opaque_column(&shown));
        }
        if ordinality {
            columns.push(opaque_column("ordinality"));
        }
        // `AS t(a, b)` renames the first columns; with types it says which there are.
        item.open = several && named.iter().all(|it| it.data_type.is_none());
        item.columns = Rc::new(columns);
        scope.items.push(item);
        Ok(self.node(Node::Leaf(leaf)))
    }

    /// A relation by name: a CTE, a table, a view.
    pub(super) fn named(
        &mut self,
        parts: &[Arc<str>],
        alias: Option<&ast::TableAlias>,
        scope: &Scope<'_, '_>,
    ) -> Outcome<Item> {
        let shown: Arc<str> = match alias {
            Some(alias) => {
                self.reserved_word(&alias.name)?;
                alias.name.value.as_str().into()
            }
            None => parts.last().cloned().unwrap_or_else(|| "".into()),
        };
        if let [name] = parts {
            let mut sight = scope.ctes;
            while let Some(ctes) = sight {
                if let Some(place) = ctes.list.iter().take(ctes.visible).position(|cte| cte.name == *name) {
                    return self.cte(ctes, place, shown, alias, scope.block);
                }
                sight = ctes.parent;
            }
        }
        match self.found(parts) {
            Found::Temporary(name) => {
                let leaf = self.leaf(scope.block, Source::Temporary(name), shown.clone())?;
                let mut item = opaque(leaf, shown);
                item.stored = true;
                Ok(item)
            }
            Found::System(name) => {
                let schema = parts.len().checked_sub(2).and_then(|at| parts.get(at));
                let schema = schema.map_or("pg_catalog", |it| it).to_owned();
                let table = alias.is_none().then(|| TableName::new(&schema, &name));
                let leaf = self.leaf(scope.block, Source::System(name), shown.clone())?;
                let mut item = opaque(leaf, shown);
                item.table = table;
                item.stored = true;
                Ok(item)
            }
            Found::Missing(name) => Err(not_mapped(&name)),
            Found::Table(relation) if relation.kind == RelationKind::View => {
                let name = relation.name.clone();
                self.view(&relation, shown, alias, scope.block, &name)
            }
            Found::Table(relation) => {
                let table = alias.is_none().then(|| relation.name.clone());
                let leaf = self.leaf(scope.block, Source::Table(relation.clone()), shown.clone())?;
                self.refer(alias, &relation.name.name, leaf, None);
                let assumed = self.names.schema.assumed && relation.columns.is_empty();
                let columns = relation
                    .columns
                    .iter()
                    .map(|column| ItemColumn {
                        name: column.name.clone(),
                        real: Some(column.name.clone()),
                        oid: column.type_oid,
                        not_null: column.not_null,
                        deterministic: column.deterministic,
                    })
                    .collect();
                let mut item =
                    Item { name: shown, table, leaf, columns: Rc::new(columns), open: false, assumed, stored: true };
                rename(&mut item, alias);
                Ok(item)
            }
        }
    }

    fn cte(
        &mut self,
        ctes: &Ctes<'_, '_>,
        place: usize,
        shown: Arc<str>,
        alias: Option<&ast::TableAlias>,
        block: BlockId,
    ) -> Outcome<Item> {
        let Some(cte) = ctes.list.get(place) else { return Err(unreadable("WITH")) };
        self.query.reread |= cte.used.replace(true);
        let Some(body) = cte.query else {
            // What a write returns.
            let leaf = self.leaf(block, Source::Rows, shown.clone())?;
            let mut item = opaque(leaf, shown);
            item.columns = Rc::new(cte.outputs.iter().flat_map(|it| &it.name).map(|it| opaque_column(it)).collect());
            return Ok(item);
        };
        if self.expanding.contains(&std::ptr::from_ref(body)) {
            let leaf = self.leaf(block, Source::Rows, shown.clone())?;
            return Ok(opaque(leaf, shown));
        }
        self.deepen(0)?;
        self.expansions += 1;
        if self.expanding.len() >= EXPANSIONS_MAX || self.expansions > EXPANSIONS_MAX * 5 {
            return Err(too_large("nests too many queries"));
        }
        let host = self.leaf(block, Source::Derived(Vec::new()), shown.clone())?;
        let visible = if ctes.recursive { ctes.list.len() } else { place };
        let sight =
            Ctes { parent: ctes.parent, scope: ctes.scope, list: ctes.list, visible, recursive: ctes.recursive };
        let in_answer = std::mem::take(&mut self.in_answer);
        self.expanding.push(std::ptr::from_ref(body));
        let answer = self.query(body, ctes.scope, Some(&sight), Some(block), Some(host));
        self.expanding.pop();
        self.in_answer = in_answer;
        let mut answer = answer?;
        if ctes.recursive && answer.many {
            // The recursive arm sees rows of its own making: nothing may be pushed into it.
            answer.inward.fill(false);
        }
        if !cte.columns.is_empty() {
            answer.keep_placed();
        }
        for (output, name) in answer.outputs.iter_mut().zip(&cte.columns) {
            output.name = Some(name.clone());
        }
        Ok(self.derived_item(host, answer, shown, alias))
    }

    /// A view is the subquery that its definition is.
    fn view(
        &mut self,
        relation: &crate::schema::Relation,
        shown: Arc<str>,
        alias: Option<&ast::TableAlias>,
        block: BlockId,
        name: &TableName,
    ) -> Outcome<Item> {
        let refuse = || {
            ClientError::unsupported(format!("view \"{name}\" cannot be expanded"), "Query the tables behind the view.")
        };
        let definition: Rc<str> =
            relation.definition.as_deref().ok_or_else(refuse)?.trim_end_matches([';', ' ', '\n']).into();
        self.deepen(definition.len())?;
        let lexemes = lex::lexemes(&definition, 0..definition.len(), None).map_err(|_| refuse())?;
        read::check(&lexemes)?;
        let Some((ast::Statement::Query(body), _)) = read::parse(&definition, &lexemes) else { return Err(refuse()) };
        self.expansions += 1;
        if self.expanding.len() >= EXPANSIONS_MAX || self.expansions > EXPANSIONS_MAX * 5 {
            return Err(too_large("nests too many views"));
        }
        let host = self.leaf(block, Source::Derived(Vec::new()), shown.clone())?;
        let text = match self.naming.as_ref().map(|bytes| self.place(bytes)) {
            Some(place) => match self.query.references.iter().find(|it| it.place == place).and_then(|it| it.definition)
            {
                Some(known) => known,
                None => {
                    self.query.definitions.push(Arc::from(&*definition));
                    self.query.definitions.len()
                }
            },
            None => usize::MAX,
        };
        self.refer(alias, &name.name, host, Some(text));
        let starts: Rc<[usize]> = lexemes.iter().map(|it| it.start).collect();
        let reading = std::mem::replace(&mut self.reading, (text, starts));
        let names = Rc::new(self.names.unqualified());
        let names = std::mem::replace(&mut self.names, names);
        let before = std::mem::replace(&mut self.text, Text::Other(definition.clone()));
        let in_answer = std::mem::take(&mut self.in_answer);
        self.expanding.push(std::ptr::from_ref(&*body));
        let answer = self.query(&body, None, None, Some(block), Some(host));
        self.expanding.pop();
        self.in_answer = in_answer;
        self.text = before;
        self.names = names;
        self.reading = reading;
        let mut answer = answer?;
        answer.keep_placed();
        while answer.outputs.len() < relation.columns.len() {
            answer.outputs.push(Output::default());
        }
        for (output, column) in answer.outputs.iter_mut().zip(&relation.columns) {
            output.name = Some(column.name.clone());
        }
        if !relation.columns.is_empty() {
            answer.open = false;
        }
        let mut item = self.derived_item(host, answer, shown, alias);
        item.table = alias.is_none().then(|| name.clone());
        Ok(item)
    }

    fn derived_item(
        &mut self,
        host: LeafId,
        mut answer: Answer,
        shown: Arc<str>,
        alias: Option<&ast::TableAlias>,
    ) -> Item {
        if let Some(alias) = alias.filter(|it| !it.columns.is_empty()) {
            answer.keep_placed();
            for (output, column) in answer.outputs.iter_mut().zip(&alias.columns) {
                output.name = Some(column.name.value.as_str().into());
            }
        }
        self.links(host, &answer);
        if let Some(leaf) = self.query.leaves.get_mut(host) {
            leaf.source = Source::Derived(answer.blocks.clone());
        }
        if answer.blocks.len() == 1 {
            for output in &answer.outputs {
                if let (Some(name), Some(value)) = (&output.name, &output.value) {
                    self.constants.insert((host, Arc::clone(name)), value.clone());
                }
            }
        }
        let columns = answer.outputs.iter().filter_map(|output| self.derived_column(host, output)).collect();
        let unnamed = answer.outputs.iter().any(|it| it.name.is_none());
        Item {
            name: shown,
            table: None,
            leaf: host,
            columns: Rc::new(columns),
            open: answer.open || unnamed,
            assumed: false,
            stored: false,
        }
    }

    fn derived_column(&self, host: LeafId, output: &Output) -> Option<ItemColumn> {
        let name = output.name.clone()?;
        let variable = self.known.get(&(host, name.clone())).and_then(|it| self.query.variables.get(*it));
        Some(match variable {
            Some(it) => ItemColumn {
                real: Some(name.clone()),
                name,
                oid: it.oid,
                not_null: it.not_null,
                deterministic: it.deterministic,
            },
            None => opaque_column(&name),
        })
    }

    /// The columns of `*` or `t.*`; true: there may be more.
    pub(super) fn expand(
        &mut self,
        qualifier: Option<&[Arc<str>]>,
        scope: &Scope<'_, '_>,
        outputs: &mut Vec<Output>,
    ) -> Outcome<bool> {
        let mut items: Vec<Item> = Vec::new();
        let mut merged: Vec<(Arc<str>, Resolved, usize)> = Vec::new();
        match qualifier {
            None => {
                items.extend(scope.items.iter().cloned());
                merged.extend(scope.merged.iter().cloned());
            }
            Some(parts) => match find_item(parts, scope) {
                Some((item, _)) => items.push(item.clone()),
                None => return Err(missing_column(&parts.join("."))),
            },
        }
        // Behind several joins with merged columns, which stand where is not followed.
        let mut open = !merged.is_empty() && items.len() > 2;
        if open {
            self.query.whole_rows.extend(items.iter().map(|it| it.leaf));
        }
        for (name, resolved, _) in &merged {
            let variable = if let Resolved::Variable(it) = resolved { Some(*it) } else { None };
            let oid = variable.and_then(|it| self.query.variables.get(it)).map_or(0, |it| it.oid);
            outputs.push(Output { name: Some(name.clone()), variables: vec![variable], value: None, oid });
        }
        for item in &items {
            open |= item.open || item.assumed;
            for column in item.columns.iter() {
                if merged.iter().any(|(name, ..)| *name == column.name) {
                    continue;
                }
                let variable = match self.item_column(item, column) {
                    Resolved::Variable(it) => Some(it),
                    Resolved::Opaque | Resolved::WholeRow | Resolved::Missing => None,
                };
                let name = Some(column.name.clone());
                outputs.push(Output { name, variables: vec![variable], value: None, oid: column.oid });
            }
        }
        Ok(open)
    }

    fn item_column(&mut self, item: &Item, column: &ItemColumn) -> Resolved {
        match &column.real {
            Some(real) => {
                let id = self.variable(item.leaf, real, column.oid, column.not_null, column.deterministic);
                Resolved::Variable(id)
            }
            None => Resolved::Opaque,
        }
    }

    /// A column's name without qualifier among some items of one FROM.
    fn among(&mut self, name: &Arc<str>, items: &[Item]) -> Resolved {
        let mut found: Option<(Item, ItemColumn)> = None;
        for item in items {
            for column in item.columns.iter().filter(|it| it.name == *name) {
                if found.is_some() {
                    return Resolved::Opaque; // ambiguous: the server says so
                }
                found = Some((item.clone(), column.clone()));
            }
        }
        if let Some((item, column)) = found {
            // Offline another table may have it too.
            if items.iter().any(|it| it.assumed) {
                return Resolved::Opaque;
            }
            return self.item_column(&item, &column);
        }
        let mut candidates = items.iter().filter(|it| it.assumed || it.open);
        match (candidates.next(), candidates.next()) {
            (None, _) => Resolved::Missing,
            (Some(item), None) if item.assumed => {
                let leaf = item.leaf;
                Resolved::Variable(self.variable(leaf, name, 0, false, true))
            }
            _ => Resolved::Opaque,
        }
    }

    /// What a column reference means; also how many scopes up it stands.
    pub(super) fn resolve(&mut self, parts: &[Arc<str>], scope: &Scope<'_, '_>) -> (Resolved, usize) {
        if let [name] = parts {
            let mut sight = Some(scope);
            let mut level = 0;
            while let Some(it) = sight {
                if let Some((_, resolved, _)) = it.merged.iter().rfind(|(merged, ..)| merged == name) {
                    return (*resolved, level);
                }
                match self.among(name, &it.items) {
                    Resolved::Missing => {}
                    Resolved::Opaque if !it.items.iter().any(|item| item.columns.iter().any(|at| at.name == *name)) => {
                        if SYSTEM_COLUMNS.contains(&&**name) {
                            self.query.notes.system_column.get_or_insert_with(|| name.clone());
                        }
                        // It may as well be a column further out.
                        self.vague |= it.parent.is_some();
                        self.query.vague_columns |= it.parent.is_some();
                        // Or a whole row: of this scope, of one within it, or further out.
                        let mut around = Some(scope);
                        while let Some(scope) = around {
                            let named = scope.items.iter().filter(|item| item.name == *name).map(|item| item.leaf);
                            self.query.whole_rows.extend(named);
                            around = scope.parent;
                        }
                        return (Resolved::Opaque, level);
                    }
                    resolved => return (resolved, level),
                }
                if SYSTEM_COLUMNS.contains(&&**name) && it.items.iter().any(|item| item.stored) {
                    self.query.notes.system_column.get_or_insert_with(|| name.clone());
                    return (Resolved::Opaque, level);
                }
                sight = it.parent;
                level += 1;
            }
            let mut sight = Some(scope);
            let mut level = 0;
            while let Some(it) = sight {
                if let Some(item) = it.items.iter().find(|item| item.name == *name) {
                    self.query.whole_rows.insert(item.leaf);
                    return (Resolved::WholeRow, level);
                }
                sight = it.parent;
                level += 1;
            }
            return (Resolved::Missing, 0);
        }
        let Some((column, qualifier)) = parts.split_last() else { return (Resolved::Missing, 0) };
        let Some((item, level)) = find_item(qualifier, scope) else { return (Resolved::Missing, 0) };
        let mut matching = item.columns.iter().filter(|it| it.name == *column);
        match (matching.next(), matching.next()) {
            (Some(found), None) => (self.item_column(item, found), level),
            (Some(_), Some(_)) => (Resolved::Opaque, level),
            (None, _) if item.stored && SYSTEM_COLUMNS.contains(&&**column) => {
                self.query.notes.system_column.get_or_insert_with(|| column.clone());
                (Resolved::Opaque, level)
            }
            (None, _) if item.assumed => {
                let leaf = item.leaf;
                (Resolved::Variable(self.variable(leaf, column, 0, false, true)), level)
            }
            (None, _) if item.open => (Resolved::Opaque, level),
            (None, _) => (Resolved::Missing, level),
        }
    }

    /// Equality of two columns, where it carries over: both of one family of types.
    pub(super) fn same(&mut self, a: usize, b: usize) -> Option<ConditionId> {
        let (left, right) = (self.query.variables.get(a)?, self.query.variables.get(b)?);
        let families = (family(left.oid), family(right.oid));
        let fits = match families {
            (Family::Unknown, _) | (_, Family::Unknown) => self.names.schema.assumed,
            (Family::Other, _) | (_, Family::Other) => false,
            (left, right) => left == right,
        };
        if !fits || !left.deterministic || !right.deterministic {
            return None;
        }
        if self.names.user_operator("=").is_some() && (left.oid != right.oid || left.oid == 1043) {
            return None;
        }
        Some(self.condition(Condition::Same(a, b)))
    }

    pub(super) fn reserved(&self, name: &ast::ObjectName) -> Outcome<()> {
        for part in &name.0 {
            if let ast::ObjectNamePart::Identifier(it) = part {
                self.reserved_word(it)?;
            }
        }
        Ok(())
    }

    /// A reserved word where a name should stand was read otherwise than the server reads it.
    pub(super) fn reserved_word(&self, name: &ast::Ident) -> Outcome<()> {
        // A string behind a name is a literal of the type that is called so.
        if is_reserved(name) || name.quote_style == Some('\'') {
            return Err(unreadable("SQL"));
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Unknown,
    Integer,
    Text,
    Exactly(u32),
    Other,
}

fn family(oid: u32) -> Family {
    match oid {
        0 => Family::Unknown,
        20 | 21 | 23 => Family::Integer,
        25 | 1043 => Family::Text,
        17 | 1082 | 1184 | 2950 => Family::Exactly(oid),
        _ => Family::Other,
    }
}

pub(super) fn find_item<'s>(qualifier: &[Arc<str>], scope: &'s Scope<'_, '_>) -> Option<(&'s Item, usize)> {
    let mut sight = Some(scope);
    let mut level = 0;
    while let Some(it) = sight {
        let found = it.items.iter().find(|item| match qualifier {
            [name] => item.name == *name,
            [.., schema, name] => {
                item.table.as_ref().is_some_and(|table| table.schema == *schema && table.name == *name)
            }
            [] => false,
        });
        if let Some(item) = found {
            return Some((item, level));
        }
        sight = it.parent;
        level += 1;
    }
    None
}

/// The bytes of a name, its schema included.
fn named_at(name: &ast::ObjectName) -> Range<usize> {
    let parts = name.0.iter().filter_map(|part| match part {
        ast::ObjectNamePart::Identifier(it) => Some(read::bytes_of(it.span)),
        ast::ObjectNamePart::Function(_) => None,
    });
    parts.reduce(|first, last| first.start..last.end).unwrap_or(0..0)
}

fn opaque(leaf: LeafId, name: Arc<str>) -> Item {
    Item { name, table: None, leaf, columns: Rc::default(), open: true, assumed: false, stored: false }
}

fn opaque_column(name: &str) -> ItemColumn {
    ItemColumn { name: name.into(), real: None, oid: 0, not_null: false, deterministic: true }
}

/// `t AS a(x, y)`: the first columns get new names.
fn rename(item: &mut Item, alias: Option<&ast::TableAlias>) {
    let Some(alias) = alias.filter(|it| !it.columns.is_empty()) else { return };
    let mut columns = (*item.columns).clone();
    if item.assumed {
        columns = alias.columns.iter().map(|it| opaque_column(&it.name.value)).collect();
        item.assumed = false;
        item.open = true;
    } else {
        for (column, new) in columns.iter_mut().zip(&alias.columns) {
            column.name = new.name.value.as_str().into();
        }
    }
    item.columns = Rc::new(columns);
}

/// The refusal of a relation that routing knows nothing about. One that does not exist is the server's own 42P01.
pub fn not_mapped(name: &TableName) -> ClientError {
    let hint = if &*name.schema == "shardway" {
        "It is shardway's own record on each shard. pg_dump takes the schema from a shard's own server."
    } else {
        "List it in the map: under a group's tables, under reference, or under unsharded."
    };
    ClientError::new(Code::TableNotMapped, format!("table \"{name}\" is not in the shard map"), hint)
}

pub(crate) fn missing_column(name: &str) -> ClientError {
    ClientError::unsupported(
        format!("\"{name}\" is no column that shardway can find"),
        "Call functions as f(x), not as x.f; qualify the column by its table's name or alias.",
    )
}

/// Words that Postgres never takes for a table's name or alias.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    // From PostgreSQL 16 on.
    "system_user",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];

/// Whether a bare word is reserved: it is no column then.
pub(crate) fn is_reserved(name: &ast::Ident) -> bool {
    name.quote_style.is_none() && is_reserved_word(&name.value)
}

/// The same of a word that has no quotes.
pub(crate) fn is_reserved_word(word: &str) -> bool {
    RESERVED.contains(&word)
}
