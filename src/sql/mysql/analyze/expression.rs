//! Expressions: every part is looked at, and conditions are taken from what must be true.

use sqlparser::ast;
use sqlparser::ast::BinaryOperator;
use sqlparser::ast::Expr;
use sqlparser::ast::UnaryOperator;

use crate::mistakes::makes;
use crate::sql::functions::mysql;
use crate::sql::functions::mysql::Class;
use crate::sql::model::Comparison;
use crate::sql::model::Condition;
use crate::sql::model::ConditionId;
use crate::sql::model::Value;
use crate::sql::model::VariableId;
use crate::sql::mysql::analyze::Analyzer;
use crate::sql::mysql::analyze::Outcome;
use crate::sql::mysql::analyze::Scope;
use crate::sql::mysql::analyze::from::Meant;
use crate::sql::mysql::analyze::from::parts;
use crate::sql::session::unreadable;

impl Analyzer<'_> {
    /// Looks at an expression: its functions, columns and subqueries.
    pub(super) fn expression(&mut self, expression: &Expr, scope: &Scope<'_>) -> Outcome<()> {
        // Chains of operators are as deep as they are long.
        let mut rest = vec![expression];
        while let Some(it) = rest.pop() {
            match it {
                Expr::Nested(inner) => rest.push(inner),
                Expr::BinaryOp { left, right, .. } => rest.extend([&**right, &**left]),
                other => self.part(other, scope)?,
            }
        }
        Ok(())
    }

    fn part(&mut self, expression: &Expr, scope: &Scope<'_>) -> Outcome<()> {
        match expression {
            Expr::Identifier(name) => {
                let word = name.value.to_ascii_lowercase();
                if name.quote_style.is_none() && mysql::is_called_bare(&word) {
                    return self.calls(&word);
                }
                self.column(&[&name.value], scope);
                Ok(())
            }
            Expr::CompoundIdentifier(path) => {
                let path: Vec<&str> = path.iter().map(|it| it.value.as_str()).collect();
                self.column(&path, scope);
                Ok(())
            }
            Expr::Value(_) | Expr::TypedString(_) => Ok(()),
            Expr::IsFalse(it)
            | Expr::IsNotFalse(it)
            | Expr::IsTrue(it)
            | Expr::IsNotTrue(it)
            | Expr::IsNull(it)
            | Expr::IsNotNull(it)
            | Expr::IsUnknown(it)
            | Expr::IsNotUnknown(it)
            | Expr::UnaryOp { expr: it, .. }
            | Expr::Cast { expr: it, format: None, .. }
            | Expr::Extract { expr: it, .. }
            | Expr::Ceil { expr: it, .. }
            | Expr::Floor { expr: it, .. }
            | Expr::Collate { expr: it, .. }
            | Expr::Prefixed { value: it, .. } => self.expression(it, scope),
            Expr::Interval(it) => self.expression(&it.value, scope),
            Expr::Convert { expr, styles, .. } if styles.is_empty() => self.expression(expr, scope),
            Expr::InList { expr, list, .. } => {
                self.expression(expr, scope)?;
                self.all(list, scope)
            }
            Expr::InSubquery { expr, subquery, .. } => {
                self.expression(expr, scope)?;
                self.subquery(subquery, scope)
            }
            Expr::Between { expr, low, high, .. } => {
                self.expression(expr, scope)?;
                self.expression(low, scope)?;
                self.expression(high, scope)
            }
            Expr::AnyOp { left, right, .. }
            | Expr::AllOp { left, right, .. }
            | Expr::Position { expr: left, r#in: right } => {
                self.expression(left, scope)?;
                self.expression(right, scope)
            }
            Expr::Like { expr, pattern, escape_char, .. } => {
                self.expression(expr, scope)?;
                self.expression(pattern, scope)?;
                escape_char.as_deref().map_or(Ok(()), |it| self.expression(it, scope))
            }
            Expr::RLike { expr, pattern, .. } => {
                self.expression(expr, scope)?;
                self.expression(pattern, scope)
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                self.expression(expr, scope)?;
                for it in [substring_from, substring_for].into_iter().flatten() {
                    self.expression(it, scope)?;
                }
                Ok(())
            }
            Expr::Trim { expr, trim_what, trim_characters: None, .. } => {
                self.expression(expr, scope)?;
                trim_what.as_deref().map_or(Ok(()), |it| self.expression(it, scope))
            }
            Expr::Function(function) => self.function(function, scope),
            Expr::Case { operand, conditions, else_result, .. } => {
                for it in [operand, else_result].into_iter().flatten() {
                    self.expression(it, scope)?;
                }
                for it in conditions {
                    self.expression(&it.condition, scope)?;
                    self.expression(&it.result, scope)?;
                }
                Ok(())
            }
            Expr::Exists { subquery, .. } | Expr::Subquery(subquery) => self.subquery(subquery, scope),
            Expr::Tuple(list) => self.all(list, scope),
            Expr::MatchAgainst { columns, .. } => {
                for column in columns {
                    let path = parts(column)?;
                    let path: Vec<&str> = path.iter().map(String::as_str).collect();
                    self.column(&path, scope);
                }
                // The relevance of a row depends on all others.
                self.query.notes.volatile.get_or_insert_with(|| "MATCH … AGAINST".to_owned());
                Ok(())
            }
            _ => Err(unreadable("SQL")),
        }
    }

    fn all(&mut self, list: &[Expr], scope: &Scope<'_>) -> Outcome<()> {
        list.iter().try_for_each(|it| self.expression(it, scope))
    }

    fn column(&mut self, path: &[&str], scope: &Scope<'_>) {
        let inner = match self.resolve(path, scope) {
            Meant::Column(_, inner) | Meant::Other(inner) => inner,
        };
        if let Some(arguments) = &mut self.arguments {
            arguments.0 |= inner;
            arguments.1 |= !inner;
        }
    }

    fn subquery(&mut self, query: &ast::Query, scope: &Scope<'_>) -> Outcome<()> {
        self.query(query, Some(scope), scope.ctes, Some(scope.block), None).map(|_| ())
    }

    pub(super) fn window(&mut self, window: &ast::WindowSpec, scope: &Scope<'_>) -> Outcome<()> {
        self.all(&window.partition_by, scope)?;
        window.order_by.iter().try_for_each(|it| self.expression(&it.expr, scope))
    }

    fn function(&mut self, function: &ast::Function, scope: &Scope<'_>) -> Outcome<()> {
        let plain = !function.uses_odbc_syntax
            && matches!(function.parameters, ast::FunctionArguments::None)
            && function.filter.is_none()
            && function.within_group.is_empty();
        if !plain {
            return Err(unreadable("SQL"));
        }
        let path = parts(&function.name)?;
        let quoted = function.name.0.iter().any(|part| match part {
            ast::ObjectNamePart::Identifier(it) => it.quote_style.is_some(),
            ast::ObjectNamePart::Function(_) => true,
        });
        let class = match path.as_slice() {
            // In backticks and with a database's name it is a stored function's.
            [name] if !quoted => {
                let name = name.to_ascii_lowercase();
                self.calls(&name)?;
                mysql::class(&name)
            }
            _ => {
                self.query.notes.unreviewed.get_or_insert_with(|| format!("function {}", path.join(".")));
                None
            }
        };
        match &function.over {
            None => {}
            Some(ast::WindowType::NamedWindow(_)) => self.windows = true,
            Some(ast::WindowType::WindowSpec(spec)) => {
                self.windows = true;
                self.window(spec, scope)?;
            }
        }
        let aggregate = class == Some(Class::Aggregate) && function.over.is_none();
        let around = if aggregate { self.arguments.replace((false, false)) } else { None };
        match &function.args {
            ast::FunctionArguments::None => {}
            ast::FunctionArguments::Subquery(query) => self.subquery(query, scope)?,
            ast::FunctionArguments::List(list) => {
                for argument in &list.args {
                    match argument {
                        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(it)) => self.expression(it, scope)?,
                        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Wildcard) => {}
                        _ => return Err(unreadable("SQL")),
                    }
                }
                for clause in &list.clauses {
                    match clause {
                        ast::FunctionArgumentClause::OrderBy(order) => {
                            order.iter().try_for_each(|it| self.expression(&it.expr, scope))?;
                        }
                        ast::FunctionArgumentClause::Separator(_) => {}
                        ast::FunctionArgumentClause::Limit(it) => self.expression(it, scope)?,
                        _ => return Err(unreadable("SQL")),
                    }
                }
            }
        }
        if aggregate {
            let met = std::mem::replace(&mut self.arguments, around);
            match met {
                // Of columns further out only: there it counts.
                Some((false, true)) if scope.parent.is_some() => self.outward = true,
                _ => self.aggregates = true,
            }
        }
        Ok(())
    }

    /// Notes what a call of one of the server's own functions is to a router.
    fn calls(&mut self, name: &str) -> Outcome<()> {
        let notes = &mut self.query.notes;
        match mysql::class(name) {
            Some(Class::Pure | Class::Aggregate) => {}
            Some(Class::Window) => self.windows = true,
            Some(Class::Now) => {
                notes.now = true;
            }
            Some(Class::Volatile) => {
                notes.volatile.get_or_insert_with(|| name.to_owned());
            }
            Some(Class::Session) => {
                notes.volatile.get_or_insert_with(|| name.to_owned());
                notes.placed = true;
                self.asks.get_or_insert_with(|| format!("{name}()"));
            }
            Some(Class::Place) => {
                notes.volatile.get_or_insert_with(|| name.to_owned());
                notes.placed = true;
                notes.primary = true;
            }
            Some(Class::Lock) => {
                notes.acts.get_or_insert_with(|| name.to_owned());
                notes.advisory = true;
            }
            Some(Class::Unlock) => {
                notes.acts.get_or_insert_with(|| name.to_owned());
                notes.unlocks = true;
            }
            None => {
                notes.unreviewed.get_or_insert_with(|| format!("function {name}"));
            }
        }
        Ok(())
    }

    /// Takes the conditions out of an expression that must be true.
    pub(super) fn conjuncts(&mut self, expression: &Expr, scope: &Scope<'_>, on: &mut Vec<ConditionId>) {
        let mut rest = vec![expression];
        while let Some(it) = rest.pop() {
            match it {
                Expr::Nested(inner) => rest.push(inner),
                Expr::BinaryOp { left, op: BinaryOperator::Or, .. } if makes("key-found-in-or") => rest.push(left),
                Expr::UnaryOp { op: UnaryOperator::Not, expr } if makes("key-found-in-not") => rest.push(expr),
                Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                    rest.push(right);
                    rest.push(left);
                }
                other => self.conjunct(other, scope, on),
            }
        }
    }

    fn conjunct(&mut self, expression: &Expr, scope: &Scope<'_>, on: &mut Vec<ConditionId>) {
        for (variable, values) in self.values(expression, scope) {
            on.push(self.condition(Condition::Is(variable, values)));
        }
        match expression {
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                if let (Some(a), Some(b)) = (self.named(left, scope), self.named(right, scope)) {
                    on.extend(self.same(a, b));
                }
            }
            Expr::BinaryOp { left, op, right } => {
                let comparison = match op {
                    BinaryOperator::Lt => Comparison::Less,
                    BinaryOperator::LtEq => Comparison::LessOrEqual,
                    BinaryOperator::Gt => Comparison::Greater,
                    BinaryOperator::GtEq => Comparison::GreaterOrEqual,
                    _ => return,
                };
                self.range(left, comparison, right, scope, on);
                let turned = match comparison {
                    Comparison::Less => Comparison::Greater,
                    Comparison::LessOrEqual => Comparison::GreaterOrEqual,
                    Comparison::Greater => Comparison::Less,
                    Comparison::GreaterOrEqual => Comparison::LessOrEqual,
                };
                self.range(right, turned, left, scope, on);
            }
            Expr::Between { expr, negated: false, low, high } => {
                self.range(expr, Comparison::GreaterOrEqual, low, scope, on);
                self.range(expr, Comparison::LessOrEqual, high, scope, on);
            }
            _ => {}
        }
    }

    fn range(
        &mut self,
        column: &Expr,
        comparison: Comparison,
        value: &Expr,
        scope: &Scope<'_>,
        on: &mut Vec<ConditionId>,
    ) {
        if let Some((variable, value)) = self.named(column, scope).zip(self.constant(value)) {
            on.push(self.condition(Condition::Range(variable, comparison, value)));
        }
    }

    /// The column that an expression is.
    fn named(&mut self, expression: &Expr, scope: &Scope<'_>) -> Option<VariableId> {
        let meant = match expression {
            Expr::Nested(inner) => return self.named(inner, scope),
            Expr::Identifier(name) => self.resolve(&[&name.value], scope),
            Expr::CompoundIdentifier(path) => {
                let path: Vec<&str> = path.iter().map(|it| it.value.as_str()).collect();
                self.resolve(&path, scope)
            }
            _ => return None,
        };
        match meant {
            Meant::Column(variable, _) => Some(variable),
            Meant::Other(_) => None,
        }
    }

    /// Columns that equal one of these values where the expression is true.
    fn values(&mut self, expression: &Expr, scope: &Scope<'_>) -> Vec<(VariableId, Vec<Value>)> {
        match expression {
            Expr::Nested(inner) => self.values(inner, scope),
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                for (column, value) in [(left, right), (right, left)] {
                    if let Some((variable, value)) = self.named(column, scope).zip(self.constant(value)) {
                        return vec![(variable, vec![value])];
                    }
                }
                Vec::new()
            }
            Expr::InList { expr, list, negated: false } => {
                let values: Option<Vec<Value>> = list.iter().map(|it| self.constant(it)).collect();
                match self.named(expr, scope).zip(values) {
                    Some((variable, values)) => vec![(variable, values)],
                    None => Vec::new(),
                }
            }
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                let mut found = self.values(left, scope);
                found.extend(self.values(right, scope));
                found
            }
            Expr::BinaryOp { op: BinaryOperator::Or, .. } => {
                let (mut arms, mut rest) = (Vec::new(), vec![expression]);
                while let Some(it) = rest.pop() {
                    match it {
                        Expr::BinaryOp { left, op: BinaryOperator::Or, right } => rest.extend([&**right, &**left]),
                        other => arms.push(other),
                    }
                }
                let mut arms = arms.into_iter();
                let mut found = arms.next().map(|it| self.values(it, scope)).unwrap_or_default();
                for arm in arms {
                    if found.is_empty() {
                        break;
                    }
                    let more = self.values(arm, scope);
                    found.retain_mut(|(variable, values)| {
                        let same = more.iter().find(|(it, _)| it == variable);
                        values.extend(same.iter().flat_map(|(_, more)| more.iter().cloned()));
                        same.is_some()
                    });
                }
                found
            }
            _ => Vec::new(),
        }
    }
}
