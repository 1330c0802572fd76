//! FROM: relations, joins, and what columns' names stand for.

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::ast::JoinConstraint;
use sqlparser::ast::JoinOperator;
use sqlparser::ast::TableFactor;

use crate::schema::Relation;
use crate::sql::analyze::not_mapped;
use crate::sql::model::BlockId;
use crate::sql::model::Condition;
use crate::sql::model::LeafId;
use crate::sql::model::Node;
use crate::sql::model::NodeId;
use crate::sql::model::Source;
use crate::sql::model::Variable;
use crate::sql::model::VariableId;
use crate::sql::mysql::Found;
use crate::sql::mysql::analyze::Analyzer;
use crate::sql::mysql::analyze::Ctes;
use crate::sql::mysql::analyze::Outcome;
use crate::sql::mysql::analyze::Scope;
use crate::sql::session::unreadable;

/// One thing of a FROM, by its name.
#[derive(Clone)]
pub(super) struct Item {
    /// Its alias or name.
    name: String,
    /// Its database, where it has no alias.
    database: Option<Arc<str>>,
    leaf: LeafId,
    columns: Columns,
}

/// What is known of an item's columns.
#[derive(Clone)]
enum Columns {
    /// Those of the table.
    Of(Arc<Relation>),
    /// A table's, of which only the map is known.
    Assumed,
    /// Any.
    Open,
}

/// What a column's name stands for.
pub(super) enum Meant {
    /// A table's column, of the innermost query (true) or one around it.
    Column(VariableId, bool),
    /// A column that no condition can use; true: certainly not of a query further out.
    Other(bool),
}

impl Item {
    pub(super) fn leaf(&self) -> LeafId {
        self.leaf
    }

    /// Whether it is what a name with or without its database stands for.
    pub(super) fn is_called(&self, path: &[String]) -> bool {
        match path {
            [name] => *name == self.name,
            [database, name] => *name == self.name && self.database.as_deref() == Some(database),
            _ => false,
        }
    }

    /// `None`: it may have such a column or not.
    pub(super) fn has(&self, column: &str) -> Option<bool> {
        match &self.columns {
            Columns::Of(relation) => Some(relation.columns.iter().any(|it| it.name.eq_ignore_ascii_case(column))),
            Columns::Assumed | Columns::Open => None,
        }
    }
}

impl Analyzer<'_> {
    pub(super) fn from(&mut self, from: &[ast::TableWithJoins], scope: &mut Scope<'_>) -> Outcome<Vec<NodeId>> {
        let mut children = Vec::with_capacity(from.len());
        for it in from {
            children.push(self.joined(it, scope)?);
        }
        Ok(children)
    }

    fn joined(&mut self, it: &ast::TableWithJoins, scope: &mut Scope<'_>) -> Outcome<NodeId> {
        let start = scope.items.len();
        let mut node = self.factor(&it.relation, scope)?;
        for join in &it.joins {
            let middle = scope.items.len();
            let right = self.factor(&join.relation, scope)?;
            if join.global {
                return Err(unreadable("JOIN"));
            }
            let (constraint, outer) = match &join.join_operator {
                JoinOperator::Join(it)
                | JoinOperator::Inner(it)
                | JoinOperator::CrossJoin(it)
                | JoinOperator::StraightJoin(it) => (it, None),
                JoinOperator::Left(it) | JoinOperator::LeftOuter(it) => (it, Some(false)),
                JoinOperator::Right(it) | JoinOperator::RightOuter(it) => (it, Some(true)),
                _ => return Err(unreadable("JOIN")),
            };
            let mut on = Vec::new();
            match constraint {
                JoinConstraint::On(condition) => {
                    // Names of ON are those of the join's two sides.
                    let inner = Scope {
                        parent: scope.parent,
                        items: scope.items.get(start..).unwrap_or_default().to_vec(),
                        merged: scope.merged.clone(),
                        natural: scope.natural,
                        block: scope.block,
                        ctes: scope.ctes,
                    };
                    self.expression(condition, &inner)?;
                    self.conjuncts(condition, &inner, &mut on);
                }
                JoinConstraint::Using(columns) => {
                    for column in columns {
                        let [ast::ObjectNamePart::Identifier(name)] = column.0.as_slice() else {
                            return Err(unreadable("JOIN"));
                        };
                        let name = name.value.to_ascii_lowercase();
                        let left = self.only(scope.items.get(start..middle).unwrap_or_default(), &name);
                        let right = self.only(scope.items.get(middle..).unwrap_or_default(), &name);
                        if let Some((left, right)) = left.zip(right).filter(|_| !scope.merged.contains(&name)) {
                            on.extend(self.same(left, right));
                        }
                        scope.merged.push(name);
                    }
                }
                JoinConstraint::Natural => scope.natural = true,
                JoinConstraint::None => {}
            }
            node = self.node(match outer {
                None => Node::Inner { children: vec![node, right], on },
                Some(false) => Node::Outer { kept: node, optional: right, on },
                Some(true) => Node::Outer { kept: right, optional: node, on },
            });
        }
        Ok(node)
    }

    fn factor(&mut self, factor: &TableFactor, scope: &mut Scope<'_>) -> Outcome<NodeId> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions: _,
                json_path: None,
                sample: None,
                index_hints: _,
            } if with_hints.is_empty() => {
                let item = self.table(name, alias.as_ref(), scope.block, scope.ctes)?;
                let node = self.node(Node::Leaf(item.leaf));
                scope.items.push(item);
                Ok(node)
            }
            TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None } => {
                let leaf = self.leaf(scope.block, Source::Rows, alias.name.value.as_str().into())?;
                let blocks = self.query(subquery, scope.parent, scope.ctes, Some(scope.block), Some(leaf))?;
                if let Some(it) = self.query.leaves.get_mut(leaf) {
                    it.source = Source::Derived(blocks);
                }
                let name = alias.name.value.clone();
                scope.items.push(Item { name, database: None, leaf, columns: Columns::Open });
                Ok(self.node(Node::Leaf(leaf)))
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.joined(table_with_joins, scope),
            _ => Err(unreadable("FROM")),
        }
    }

    /// A relation by its name.
    pub(super) fn table(
        &mut self,
        name: &ast::ObjectName,
        alias: Option<&ast::TableAlias>,
        block: BlockId,
        ctes: Option<&Ctes<'_>>,
    ) -> Outcome<Item> {
        if alias.is_some_and(|it| !it.columns.is_empty() || it.at.is_some()) {
            return Err(unreadable("FROM"));
        }
        let parts = parts(name)?;
        let called = alias.map(|it| it.name.value.clone());
        let (database, table) = match parts.as_slice() {
            [table] => {
                if let Some(blocks) = find_cte(ctes, table) {
                    let leaf = self.leaf(block, Source::Derived(blocks), table.as_str().into())?;
                    let name = called.unwrap_or_else(|| table.clone());
                    return Ok(Item { name, database: None, leaf, columns: Columns::Open });
                }
                if table.eq_ignore_ascii_case("dual") {
                    let leaf = self.leaf(block, Source::Rows, table.as_str().into())?;
                    return Ok(Item { name: table.clone(), database: None, leaf, columns: Columns::Open });
                }
                (None, table)
            }
            [database, table] => (Some(database.as_str()), table),
            _ => return Err(unreadable("FROM")),
        };
        let known_as: Arc<str> = called.clone().unwrap_or_else(|| table.clone()).as_str().into();
        let (source, columns, database) = match self.names.find(database, table)? {
            Found::System(name) => (Source::System(name), Columns::Open, None),
            Found::Temporary(name) => (Source::Temporary(name), Columns::Open, None),
            Found::Missing(name) => return Err(not_mapped(&name)),
            Found::Table(relation) => {
                let columns =
                    if relation.columns.is_empty() { Columns::Assumed } else { Columns::Of(Arc::clone(&relation)) };
                let database = called.is_none().then(|| Arc::clone(&relation.name.schema));
                (Source::Table(relation), columns, database)
            }
        };
        let leaf = self.leaf(block, source, Arc::clone(&known_as))?;
        Ok(Item { name: known_as.to_string(), database, leaf, columns })
    }

    /// A column of that item, where it is a table's.
    pub(super) fn column_of(&mut self, item: &Item, column: &str) -> Option<VariableId> {
        let variable = match &item.columns {
            Columns::Open => return None,
            Columns::Assumed => {
                Variable { leaf: item.leaf, column: column.into(), oid: 0, not_null: false, deterministic: true }
            }
            Columns::Of(relation) => {
                let found = relation.columns.iter().find(|it| it.name.eq_ignore_ascii_case(column))?;
                Variable {
                    leaf: item.leaf,
                    column: Arc::clone(&found.name),
                    oid: found.type_oid,
                    not_null: found.not_null,
                    deterministic: found.deterministic,
                }
            }
        };
        Some(self.variable(item.leaf, variable))
    }

    /// The column, where one of the items alone may have it.
    fn only(&mut self, items: &[Item], column: &str) -> Option<VariableId> {
        let mut may = items.iter().filter(|it| it.has(column) != Some(false));
        let item = may.next().filter(|_| may.next().is_none())?.clone();
        self.column_of(&item, column)
    }

    /// What a column's name stands for.
    pub(super) fn resolve(&mut self, parts: &[&str], scope: &Scope<'_>) -> Meant {
        let mut scope = scope;
        let mut innermost = true;
        loop {
            let found: Vec<Item> = match parts {
                [column] => {
                    let is_merged = scope.natural || scope.merged.iter().any(|it| it.eq_ignore_ascii_case(column));
                    let may: Vec<Item> =
                        scope.items.iter().filter(|it| it.has(column) != Some(false)).cloned().collect();
                    // Beside others that may have it, it is one of theirs or further out.
                    let certain = may.iter().any(|it| it.has(column) == Some(true));
                    if !may.is_empty() && (is_merged || may.len() > 1) {
                        return Meant::Other(innermost && certain);
                    }
                    may
                }
                [table, _] => scope.items.iter().filter(|it| it.name == *table).cloned().collect(),
                [database, table, _] => {
                    let is = |it: &&Item| it.database.as_deref() == Some(*database) && it.name == *table;
                    scope.items.iter().filter(is).cloned().collect()
                }
                _ => return Meant::Other(false),
            };
            match (found.as_slice(), parts.last()) {
                ([], _) => {}
                ([item], Some(column)) => {
                    return match self.column_of(item, column) {
                        Some(variable) => Meant::Column(variable, innermost),
                        None => Meant::Other(innermost && parts.len() > 1),
                    };
                }
                _ => return Meant::Other(false),
            }
            match scope.parent {
                Some(parent) => scope = parent,
                None => return Meant::Other(false),
            }
            innermost = false;
        }
    }

    /// Two columns are equal, if equality means the same for both.
    pub(super) fn same(&mut self, a: VariableId, b: VariableId) -> Option<usize> {
        let (one, other) = (self.query.variables.get(a)?, self.query.variables.get(b)?);
        let whole = |oid: u32| matches!(oid, 20 | 21 | 23);
        let alike = (whole(one.oid) && whole(other.oid))
            // By the map alone no type is known.
            || (one.oid == other.oid && (one.oid != 0 || self.names.schema.assumed));
        let fits = alike && one.deterministic && other.deterministic;
        fits.then(|| self.condition(Condition::Same(a, b)))
    }
}

/// The parts of a name, which must be plain identifiers.
pub(super) fn parts(name: &ast::ObjectName) -> Outcome<Vec<String>> {
    name.0
        .iter()
        .map(|part| match part {
            ast::ObjectNamePart::Identifier(it) => Ok(it.value.clone()),
            ast::ObjectNamePart::Function(_) => Err(unreadable("SQL")),
        })
        .collect()
}

fn find_cte(ctes: Option<&Ctes<'_>>, name: &str) -> Option<Vec<BlockId>> {
    let mut sight = ctes;
    while let Some(it) = sight {
        if let Some((_, blocks)) = it.list.iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return Some(blocks.clone());
        }
        sight = it.parent;
    }
    None
}
