//! What a SELECT does with the rows of its FROM and WHERE, where that is little: reads whose shards' answers come to the
//! answer with some work of the proxy's own.
//!
//! Only what is certain to mean this has a shape. Literals may be others at each execution: nothing is taken from them but
//! as values.

use sqlparser::ast;
use sqlparser::ast::Expr;

use crate::sql::functions::mysql;
use crate::sql::model::BlockId;
use crate::sql::model::Value;
use crate::sql::mysql::analyze::Analyzer;

/// What a statement does with its rows, and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Its items; `None`: there is a `*` among them, so that their places are not known.
    pub items: Option<Vec<Item>>,
    /// Rows that are alike are one.
    pub distinct: bool,
    /// It aggregates: by groups, or (with no groups) all rows.
    pub aggregates: bool,
    /// What it groups by.
    pub groups: Vec<Path>,
    /// What the answer is ordered by, and whether backwards.
    pub order: Vec<(Ordered, bool)>,
    /// How many rows it gives at most.
    pub limit: Option<Value>,
    /// How many it leaves out.
    pub offset: Option<Value>,
}

/// A column as the statement writes it: with or without its table's name.
pub type Path = Vec<String>;

/// An item of the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A column.
    Column(Path),
    /// A literal or a parameter.
    Constant,
    /// An aggregate; of a column, where it is of nothing else.
    Total(Total, Option<Path>),
    /// Anything else.
    Other,
}

/// What an answer is ordered by.
#[derive(Clone, Debug, PartialEq)]
pub enum Ordered {
    /// An item, by its place.
    Item(usize),
    /// A column.
    Column(Path),
}

/// An aggregate that can be computed from those of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// COUNT
    Count,
    /// SUM
    Sum,
    /// MIN
    Least,
    /// MAX
    Most,
    /// AVG
    Average,
    /// BIT_AND
    And,
    /// BIT_OR
    Or,
    /// BIT_XOR
    Xor,
}

impl Analyzer<'_> {
    /// Notes the shape of a query that is one plain SELECT: what keeps it from being a union is no more than that.
    pub(super) fn note_shape(&mut self, query: &ast::Query, block: BlockId) {
        let Some(shape) = self.shape(query) else { return };
        let Some(it) = self.query.blocks.get_mut(block) else { return };
        // An aggregate where none was expected is one that the shape does not know.
        if it.windowed || (it.aggregated && !shape.aggregates) {
            return;
        }
        it.hard = false;
        self.query.shape = Some(Box::new(shape));
    }

    fn shape(&self, query: &ast::Query) -> Option<Shape> {
        let ast::SetExpr::Select(select) = &*query.body else { return None };
        let ast::GroupByExpr::Expressions(groups, modifiers) = &select.group_by else { return None };
        let plain = query.with.is_none()
            && query.locks.is_empty()
            && select.having.is_none()
            && select.named_window.is_empty()
            && modifiers.is_empty()
            && !select.select_modifiers.as_ref().is_some_and(|it| it.sql_calc_found_rows)
            && !select.from.is_empty();
        if !plain {
            return None;
        }
        let distinct = match &select.distinct {
            None | Some(ast::Distinct::All) => false,
            Some(ast::Distinct::Distinct) => true,
            Some(_) => return None,
        };
        let mut items = Vec::with_capacity(select.projection.len());
        let mut names = Vec::with_capacity(select.projection.len());
        let mut star = false;
        for it in &select.projection {
            let (expression, alias) = match it {
                ast::SelectItem::UnnamedExpr(expression) => (expression, None),
                ast::SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value.as_str())),
                _ => {
                    star = true;
                    continue;
                }
            };
            let item = item(expression);
            let own = match &item {
                Item::Column(path) => path.last().map(String::as_str),
                _ => None,
            };
            names.push(alias.or(own).map(str::to_owned));
            items.push(item);
        }
        let totals = items.iter().any(|it| matches!(it, Item::Total(..)));
        let aggregates = totals || !groups.is_empty();
        if aggregates && (star || distinct) {
            return None;
        }
        let named = |name: &str| {
            let mut places = names.iter().enumerate().filter(|(_, it)| it.as_deref().is_some_and(|it| same(it, name)));
            (places.next().map(|(place, _)| place), places.next().is_some())
        };
        let mut grouped = Vec::with_capacity(groups.len());
        for it in groups {
            let path = path(it)?;
            // The name of an item may be that of another column.
            if let [name] = path.as_slice() {
                let other = |(item, given): (&Item, &Option<String>)| {
                    given.as_deref().is_some_and(|it| same(it, name))
                        && !matches!(item, Item::Column(own) if own.last().is_some_and(|it| same(it, name)))
                };
                if items.iter().zip(&names).any(other) {
                    return None;
                }
            }
            grouped.push(path);
        }
        let mut order = Vec::new();
        if let Some(by) = &query.order_by {
            let ast::OrderByKind::Expressions(list) = &by.kind else { return None };
            for it in list {
                let using = matches!(it.options.sort, Some(ast::OrderBySort::Using(_)));
                if using || it.options.nulls_first.is_some() || it.with_fill.is_some() {
                    return None;
                }
                let of = match item(&it.expr) {
                    Item::Column(path) => match path.as_slice() {
                        [name] => match named(name) {
                            (Some(place), false) if !star => Ordered::Item(place),
                            (Some(place), false) => match items.get(place)? {
                                Item::Column(path) => Ordered::Column(path.clone()),
                                _ => return None,
                            },
                            (Some(_), true) => return None,
                            (None, _) => Ordered::Column(path),
                        },
                        _ => Ordered::Column(path),
                    },
                    total @ Item::Total(_, Some(_)) => Ordered::Item(items.iter().position(|it| *it == total)?),
                    _ => return None,
                };
                order.push((of, matches!(it.options.sort, Some(ast::OrderBySort::Desc))));
            }
        }
        let (limit, offset) = match &query.limit_clause {
            None => (None, None),
            Some(ast::LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                let offset = offset.as_ref().map(|it| self.constant(&it.value));
                (Some(self.constant(limit.as_ref()?)?), transposed(offset)?)
            }
            Some(ast::LimitClause::OffsetCommaLimit { offset, limit }) => {
                (Some(self.constant(limit)?), Some(self.constant(offset)?))
            }
            Some(_) => return None,
        };
        let items = (!star).then_some(items);
        Some(Shape { items, distinct, aggregates, groups: grouped, order, limit, offset })
    }
}

/// None of an option that has nothing in it.
fn transposed<T>(it: Option<Option<T>>) -> Option<Option<T>> {
    match it {
        None => Some(None),
        Some(None) => None,
        Some(some) => Some(some),
    }
}

/// Names of columns and items are told apart without their case.
pub(crate) fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn item(expression: &Expr) -> Item {
    match expression {
        Expr::Nested(inner) => item(inner),
        Expr::Value(_) => Item::Constant,
        Expr::Function(function) => match total(function) {
            Some((total, of)) => Item::Total(total, of),
            None => Item::Other,
        },
        other => path(other).map_or(Item::Other, Item::Column),
    }
}

/// The aggregate that a function is.
fn total(it: &ast::Function) -> Option<(Total, Option<Path>)> {
    let [ast::ObjectNamePart::Identifier(name)] = it.name.0.as_slice() else { return None };
    let ast::FunctionArguments::List(list) = &it.args else { return None };
    let [ast::FunctionArg::Unnamed(argument)] = list.args.as_slice() else { return None };
    let plain = name.quote_style.is_none()
        && it.over.is_none()
        && it.filter.is_none()
        && it.null_treatment.is_none()
        && list.duplicate_treatment.is_none()
        && list.clauses.is_empty();
    let total = match name.value.to_ascii_lowercase().as_str() {
        _ if !plain => return None,
        "count" => Total::Count,
        "sum" => Total::Sum,
        "min" => Total::Least,
        "max" => Total::Most,
        "avg" => Total::Average,
        "bit_and" => Total::And,
        "bit_or" => Total::Or,
        "bit_xor" => Total::Xor,
        _ => return None,
    };
    let of = match argument {
        ast::FunctionArgExpr::Expr(it) => path(it),
        ast::FunctionArgExpr::Wildcard if total == Total::Count => None,
        _ => return None,
    };
    Some((total, of))
}

/// The column that an expression is.
fn path(expression: &Expr) -> Option<Path> {
    match expression {
        Expr::Nested(inner) => path(inner),
        // Some functions are called without parentheses.
        Expr::Identifier(name)
            if name.quote_style.is_none() && mysql::is_called_bare(&name.value.to_ascii_lowercase()) =>
        {
            None
        }
        Expr::Identifier(name) => Some(vec![name.value.clone()]),
        Expr::CompoundIdentifier(path) => Some(path.iter().map(|it| it.value.clone()).collect()),
        _ => None,
    }
}
