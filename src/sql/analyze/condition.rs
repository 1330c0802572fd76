//! Conditions: which conjuncts bind a column, and to what.

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::ast::BinaryOperator;
use sqlparser::ast::Expr;
use sqlparser::ast::UnaryOperator;

use crate::mistakes::makes;
use crate::sql::analyze::Analyzer;
use crate::sql::analyze::Outcome;
use crate::sql::analyze::Resolved;
use crate::sql::analyze::Scope;
use crate::sql::analyze::Text;
use crate::sql::analyze::from::is_reserved;
use crate::sql::lex;
use crate::sql::model::Arithmetic;
use crate::sql::model::Comparison;
use crate::sql::model::Condition;
use crate::sql::model::ConditionId;
use crate::sql::model::Link;
use crate::sql::model::Type;
use crate::sql::model::Value;
use crate::sql::model::VariableId;
use crate::sql::read;

impl Analyzer<'_> {
    /// Takes the conditions out of an expression that must be true.
    pub(super) fn conjuncts(
        &mut self,
        expression: &Expr,
        scope: &Scope<'_, '_>,
        on: &mut Vec<ConditionId>,
    ) -> Outcome<()> {
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
                other => self.conjunct(other, scope, on)?,
            }
        }
        Ok(())
    }

    fn conjunct(&mut self, expression: &Expr, scope: &Scope<'_, '_>, on: &mut Vec<ConditionId>) -> Outcome<()> {
        match expression {
            Expr::BinaryOp { op: BinaryOperator::Or, .. } => self.alternatives(expression, scope, on)?,
            Expr::BinaryOp { left, op, right } => self.compare(left, op, right, scope, on),
            Expr::InList { expr, list, negated: false } => self.in_list(expr, list, scope, on),
            Expr::InSubquery { expr, subquery, negated: false } => self.in_subquery(expr, subquery, scope),
            Expr::AnyOp { left, compare_op, right, .. } if equals(compare_op) => match &**right {
                Expr::Subquery(query) => self.in_subquery(left, query, scope),
                array => {
                    let array = if let Expr::Nested(inner) = array { inner } else { array };
                    if let Some(variable) = self.column(left, scope)
                        && let Some(value) = self.value(array)
                    {
                        self.beside_array(&value, variable);
                        if self.narrows(variable, &value) {
                            let id = self.condition(Condition::AnyOf(variable, value));
                            on.push(id);
                        }
                    }
                }
            },
            Expr::Between { expr, negated: false, low, high } => {
                if let Some(variable) = self.column(expr, scope) {
                    for (bound, comparison) in [(low, Comparison::GreaterOrEqual), (high, Comparison::LessOrEqual)] {
                        self.range(variable, comparison, bound, on);
                    }
                }
            }
            Expr::IsNull(inner) => {
                if let Some(variable) = self.column(inner, scope) {
                    let id = self.condition(Condition::Null(variable));
                    on.push(id);
                }
            }
            Expr::IsNotNull(inner) => {
                if let Some(variable) = self.column(inner, scope) {
                    self.real(&[variable], on);
                }
            }
            // LIKE ALL of no patterns is true of NULL.
            Expr::Like { negated: false, expr, pattern, .. } | Expr::ILike { negated: false, expr, pattern, .. }
                if !matches!(**pattern, Expr::Function(_)) =>
            {
                if let Some(variable) = self.column(expr, scope) {
                    self.real(&[variable], on);
                }
            }
            Expr::IsTrue(inner) => self.conjuncts(inner, scope, on)?,
            Expr::Value(value) => match &value.value {
                ast::Value::Boolean(false) | ast::Value::Null => {
                    let id = self.condition(Condition::Never);
                    on.push(id);
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    /// The columns are not NULL.
    fn real(&mut self, variables: &[VariableId], on: &mut Vec<ConditionId>) {
        let leaves: Vec<_> =
            variables.iter().filter_map(|it| self.query.variables.get(*it)).map(|it| it.leaf).collect();
        if !leaves.is_empty() {
            let id = self.condition(Condition::Real(leaves));
            on.push(id);
        }
    }

    fn compare(
        &mut self,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
        scope: &Scope<'_, '_>,
        on: &mut Vec<ConditionId>,
    ) {
        if equals(op) {
            if let (Some(left), Some(right)) = (row(left), row(right))
                && left.len() == right.len()
                && left.len() > 1
            {
                for (left, right) in left.iter().zip(right) {
                    self.equal(left, right, scope, on);
                }
                return;
            }
            self.equal(left, right, scope, on);
            return;
        }
        let (comparison, mirrored) = match op {
            BinaryOperator::Lt => (Comparison::Less, Comparison::Greater),
            BinaryOperator::LtEq => (Comparison::LessOrEqual, Comparison::GreaterOrEqual),
            BinaryOperator::Gt => (Comparison::Greater, Comparison::Less),
            BinaryOperator::GtEq => (Comparison::GreaterOrEqual, Comparison::LessOrEqual),
            BinaryOperator::NotEq => {
                let columns: Vec<_> = [left, right].into_iter().filter_map(|side| self.column(side, scope)).collect();
                self.real(&columns, on);
                return;
            }
            _ => return,
        };
        match (self.column(left, scope), self.column(right, scope)) {
            (Some(a), Some(b)) => self.real(&[a, b], on),
            (Some(variable), None) => self.range(variable, comparison, right, on),
            (None, Some(variable)) => self.range(variable, mirrored, left, on),
            (None, None) => {}
        }
    }

    fn range(&mut self, variable: VariableId, comparison: Comparison, bound: &Expr, on: &mut Vec<ConditionId>) {
        let value = self.value(bound);
        if let Some(value) = &value {
            self.beside(value, variable);
        }
        match value {
            Some(value) if self.narrows(variable, &value) => {
                let id = self.condition(Condition::Range(variable, comparison, value));
                on.push(id);
            }
            _ => self.real(&[variable], on),
        }
    }

    fn equal(&mut self, left: &Expr, right: &Expr, scope: &Scope<'_, '_>, on: &mut Vec<ConditionId>) {
        match (self.column(left, scope), self.column(right, scope)) {
            (Some(a), Some(b)) => match self.same(a, b) {
                Some(id) => on.push(id),
                None => self.real(&[a, b], on),
            },
            (Some(variable), None) => self.is(variable, right, on),
            (None, Some(variable)) => self.is(variable, left, on),
            (None, None) => {}
        }
    }

    fn is(&mut self, variable: VariableId, expression: &Expr, on: &mut Vec<ConditionId>) {
        let value = self.value(expression);
        if let Some(value) = &value {
            self.beside(value, variable);
        }
        match value {
            Some(value) if self.narrows(variable, &value) => {
                let id = self.condition(Condition::Is(variable, vec![value]));
                on.push(id);
            }
            _ => self.real(&[variable], on),
        }
    }

    /// With a user-defined `=` in the search path only what the server resolves to its own operator counts.
    fn narrows(&self, variable: VariableId, value: &Value) -> bool {
        if ["=", "<", "<=", ">", ">="].iter().all(|it| self.names.user_operator(it).is_none()) {
            return true;
        }
        let oid = self.query.variables.get(variable).map_or(0, |it| it.oid);
        let plain = matches!(value, Value::Literal(_) | Value::Parameter(_));
        plain && matches!(oid, 20 | 21 | 23 | 25 | 2950 | 1082 | 1184 | 17)
    }

    fn in_list(&mut self, tested: &Expr, list: &[Expr], scope: &Scope<'_, '_>, on: &mut Vec<ConditionId>) {
        if let Some(tested) = row(tested)
            && tested.len() > 1
        {
            // (a, b) IN ((1, 2), …): each column is one of its column of the list.
            let mut rows = Vec::with_capacity(list.len());
            for entry in list {
                match row(entry) {
                    Some(cells) if cells.len() == tested.len() => rows.push(cells),
                    _ => return,
                }
            }
            for (place, column) in tested.iter().enumerate() {
                if let Some(variable) = self.column(column, scope) {
                    let cells: Vec<&Expr> = rows.iter().filter_map(|cells| cells.get(place)).collect();
                    self.one_of(variable, &cells, on);
                }
            }
            return;
        }
        if let Some(variable) = self.column(tested, scope) {
            let entries: Vec<&Expr> = list.iter().collect();
            self.one_of(variable, &entries, on);
        }
    }

    fn one_of(&mut self, variable: VariableId, entries: &[&Expr], on: &mut Vec<ConditionId>) {
        let mut values = Vec::with_capacity(entries.len());
        let mut known = true;
        for entry in entries {
            match self.value(entry) {
                Some(value) if self.narrows(variable, &value) => values.push(value),
                _ => known = false,
            }
        }
        // The list's common type decides how its members are read: literals of several kinds are left alone.
        if !known || !self.one_kind(&values) {
            self.real(&[variable], on);
            return;
        }
        for value in &values {
            self.beside(value, variable);
        }
        let id = self.condition(Condition::Is(variable, values));
        on.push(id);
    }

    /// Whether the members of a list are read by themselves as they are read together.
    fn one_kind(&self, values: &[Value]) -> bool {
        // Numbers compare alike in every common type of theirs but float; strings take the other members' type.
        let strings = values.iter().any(|it| self.is_string(it));
        let others = values.iter().any(|it| !self.is_string(it) && !matches!(it, Value::Null));
        // A parameter beside a fraction is numeric, and reads otherwise than beside the column.
        let parameters = values.iter().any(|it| matches!(it, Value::Parameter(_)));
        let fractions =
            values.iter().any(|it| !matches!(it, Value::Parameter(_) | Value::Null) && !self.is_integer(it));
        !(strings && others || parameters && fractions)
    }

    fn is_integer(&self, value: &Value) -> bool {
        match value {
            Value::Literal(number) => self.raw_literal(*number).is_some_and(|raw| {
                let digits = raw.find(|c: char| !c.is_ascii_digit()).unwrap_or(raw.len());
                digits > 0
                    && digits < 19
                    && !raw.get(digits..).unwrap_or_default().starts_with(['.', 'e', 'E', 'x', 'X', '_', 'o', 'b'])
            }),
            _ => false,
        }
    }

    pub(super) fn is_string(&self, value: &Value) -> bool {
        match value {
            Value::Literal(number) => {
                self.raw_literal(*number).is_some_and(|raw| !raw.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
            }
            Value::Fixed(raw) => !raw.starts_with(|c: char| c.is_ascii_digit() || c == '.'),
            _ => false,
        }
    }

    fn raw_literal(&self, number: u32) -> Option<&str> {
        match &self.text {
            Text::Statement { text, starts } => {
                let start = usize::try_from(*starts.get(usize::try_from(number).ok()?)?).ok()?;
                text.get(start..)
            }
            Text::Other(_) => None,
        }
    }

    /// `x IN (SELECT y …)`: only rows whose y is an x that matters, matter.
    fn in_subquery(&mut self, tested: &Expr, subquery: &ast::Query, scope: &Scope<'_, '_>) {
        let Some(outer) = self.column(tested, scope) else { return };
        let found = self.subqueries.get(&std::ptr::from_ref(subquery)).cloned().unwrap_or_default();
        for (block, inner) in found {
            if self.same_family(outer, inner).is_some()
                && let Some(it) = self.query.blocks.get_mut(block)
            {
                it.links.push(Link { outer, inner, inward: true, outward: false });
            }
        }
    }

    fn same_family(&mut self, a: VariableId, b: VariableId) -> Option<()> {
        let id = self.same(a, b)?;
        // Only asked whether it could be: the condition itself must not stay.
        if id + 1 == self.query.conditions.len() {
            self.query.conditions.pop();
        }
        Some(())
    }

    /// `a OR b`: when every branch binds the same column, their union does.
    fn alternatives(&mut self, expression: &Expr, scope: &Scope<'_, '_>, on: &mut Vec<ConditionId>) -> Outcome<()> {
        let mut branches = Vec::new();
        let mut rest = vec![expression];
        while let Some(it) = rest.pop() {
            match it {
                Expr::Nested(inner) => rest.push(inner),
                Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
                    rest.push(right);
                    rest.push(left);
                }
                other => branches.push(other),
            }
        }
        let mut common: Option<Vec<(VariableId, Vec<Value>)>> = None;
        for branch in branches {
            let mut found = Vec::new();
            self.conjuncts(branch, scope, &mut found)?;
            let mut bound: Vec<(VariableId, Vec<Value>)> = Vec::new();
            let mut never = false;
            for id in found {
                match self.query.conditions.get(id) {
                    Some(Condition::Is(variable, values)) => bound.push((*variable, values.clone())),
                    Some(Condition::Never) => never = true,
                    _ => {}
                }
            }
            if never {
                continue;
            }
            match &mut common {
                None => common = Some(bound),
                Some(common) => {
                    common.retain_mut(|(variable, values)| match bound.iter().find(|(other, _)| other == variable) {
                        Some((_, more)) => {
                            values.extend(more.iter().cloned());
                            true
                        }
                        None => false,
                    })
                }
            }
        }
        for (variable, values) in common.into_iter().flatten() {
            let id = self.condition(Condition::Is(variable, values));
            on.push(id);
        }
        Ok(())
    }

    /// The column that an expression is, and nothing but.
    pub(super) fn column(&mut self, expression: &Expr, scope: &Scope<'_, '_>) -> Option<VariableId> {
        let parts: Vec<Arc<str>> = match expression {
            Expr::Nested(inner) => return self.column(inner, scope),
            Expr::Identifier(name) if !is_reserved(name) => vec![name.value.as_str().into()],
            Expr::CompoundIdentifier(names) => names.iter().map(|it| it.value.as_str().into()).collect(),
            _ => return None,
        };
        match self.resolve(&parts, scope).0 {
            Resolved::Variable(variable) => Some(variable),
            Resolved::Opaque | Resolved::WholeRow | Resolved::Missing => None,
        }
    }

    /// The value that an expression is, when it is known at execution and computed as the server computes it.
    pub(super) fn value(&self, expression: &Expr) -> Option<Value> {
        self.value_at(expression, 0)
    }

    fn value_at(&self, expression: &Expr, depth: usize) -> Option<Value> {
        if depth > 20 {
            return None;
        }
        let inner = |it: &Expr| self.value_at(it, depth + 1);
        match expression {
            Expr::Nested(it) => inner(it),
            Expr::Value(value) => match &value.value {
                ast::Value::Number(..) | ast::Value::SingleQuotedString(_) => self.literal(value.span),
                ast::Value::Null => Some(Value::Null),
                ast::Value::Boolean(it) => Some(Value::Bool(*it)),
                ast::Value::Placeholder(name) => {
                    let number: u16 = name.strip_prefix('$')?.parse().ok()?;
                    Some(Value::Parameter(number.checked_sub(1)?))
                }
                _ => None,
            },
            Expr::TypedString(typed) => {
                let wanted = self.cast_type(&typed.data_type)?;
                Some(Value::Cast(Box::new(self.literal(typed.value.span)?), wanted))
            }
            Expr::Cast { expr, data_type, format: None, kind: ast::CastKind::Cast | ast::CastKind::DoubleColon } => {
                if let ast::DataType::Array(
                    ast::ArrayElemTypeDef::SquareBracket(element, None)
                    | ast::ArrayElemTypeDef::Qualified(element, None),
                ) = data_type
                {
                    // '{1,2}'::bigint[] and $1::bigint[]
                    let wanted = self.cast_type(element)?;
                    return Some(match inner(expr)? {
                        Value::Array(items) => {
                            Value::Array(items.into_iter().map(|it| Value::Cast(Box::new(it), wanted)).collect())
                        }
                        it => Value::Cast(Box::new(it), wanted),
                    });
                }
                let wanted = self.cast_type(data_type)?;
                Some(Value::Cast(Box::new(inner(expr)?), wanted))
            }
            Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } if self.names.user_operator("-").is_none() => {
                Some(Value::Negate(Box::new(inner(expr)?)))
            }
            Expr::UnaryOp { op: ast::UnaryOperator::Plus, expr } if self.names.user_operator("+").is_none() => {
                // +'5' is not '5': only numbers pass.
                match inner(expr)? {
                    it @ Value::Literal(_) if !self.is_string(&it) => Some(it),
                    _ => None,
                }
            }
            Expr::BinaryOp { left, op, right } => {
                let (op, symbol) = match op {
                    BinaryOperator::Plus => (Arithmetic::Add, "+"),
                    BinaryOperator::Minus => (Arithmetic::Subtract, "-"),
                    BinaryOperator::Multiply => (Arithmetic::Multiply, "*"),
                    _ => return None,
                };
                if self.names.user_operator(symbol).is_some() {
                    return None;
                }
                Some(Value::Arithmetic(op, Box::new(inner(left)?), Box::new(inner(right)?)))
            }
            Expr::Array(array) => {
                let items: Option<Vec<Value>> = array.elem.iter().map(inner).collect();
                let items = items?;
                self.one_kind(&items).then_some(Value::Array(items))
            }
            _ => None,
        }
    }

    fn literal(&self, span: sqlparser::tokenizer::Span) -> Option<Value> {
        let range = read::bytes_of(span);
        match &self.text {
            Text::Statement { starts, .. } => {
                let start = u32::try_from(range.start).ok()?;
                let number = starts.binary_search(&start).ok()?;
                u32::try_from(number).ok().map(Value::Literal)
            }
            Text::Other(text) => text.get(range).map(|raw| Value::Fixed(raw.into())),
        }
    }

    /// The text of a literal; whoever asks makes the compiled statement hold for this text only.
    pub(super) fn literal_text(&self, expression: &Expr) -> Option<String> {
        let Expr::Value(value) = expression else { return None };
        let range = read::bytes_of(value.span);
        let raw = match &self.text {
            Text::Statement { text, .. } => text.get(range)?,
            Text::Other(text) => text.get(range)?,
        };
        String::from_utf8(lex::string_value(raw)?).ok()
    }

    fn cast_type(&self, data_type: &ast::DataType) -> Option<Type> {
        if !self.names.system_first() {
            return None;
        }
        Some(match data_type {
            ast::DataType::SmallInt(None) | ast::DataType::Int2(None) => Type::Int2,
            ast::DataType::Int(None) | ast::DataType::Integer(None) | ast::DataType::Int4(None) => Type::Int4,
            ast::DataType::BigInt(None) | ast::DataType::Int8(None) => Type::Int8,
            ast::DataType::Numeric(ast::ExactNumberInfo::None) | ast::DataType::Decimal(ast::ExactNumberInfo::None) => {
                Type::Numeric
            }
            ast::DataType::Text => Type::Text,
            ast::DataType::Varchar(None) | ast::DataType::CharacterVarying(None) => Type::Varchar,
            ast::DataType::Uuid => Type::Uuid,
            ast::DataType::Date => Type::Date,
            ast::DataType::Timestamp(None, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz) => {
                Type::TimestampTz
            }
            ast::DataType::Bytea => Type::Bytea,
            _ => return None,
        })
    }

    /// Notes that a bare `$n` stands beside a column (or under a cast), which tells its type.
    pub(super) fn beside(&mut self, value: &Value, variable: VariableId) {
        let Some(oid) = self.query.variables.get(variable).map(|it| it.oid) else { return };
        self.beside_type(value, oid);
    }

    pub(super) fn beside_type(&mut self, value: &Value, oid: u32) {
        match value {
            Value::Parameter(number) => self.note_parameter(*number, if oid == 1043 { 25 } else { oid }),
            Value::Cast(inner, wanted) => {
                if let Value::Parameter(number) = &**inner {
                    self.note_parameter(*number, wanted.oid());
                }
            }
            _ => {}
        }
    }

    fn beside_array(&mut self, value: &Value, variable: VariableId) {
        let Some(oid) = self.query.variables.get(variable).map(|it| it.oid) else { return };
        match value {
            Value::Parameter(number) => self.note_parameter(*number, ARRAY_OF | if oid == 1043 { 25 } else { oid }),
            Value::Cast(inner, wanted) => {
                if let Value::Parameter(number) = &**inner {
                    self.note_parameter(*number, ARRAY_OF | wanted.oid());
                }
            }
            _ => {}
        }
    }

    fn note_parameter(&mut self, number: u16, oid: u32) {
        if let Some(it) = self.query.parameters.get_mut(usize::from(number)) {
            it.beside.push(oid);
        }
    }
}

/// Marks the type of a parameter as an array of the type in the low bits.
pub const ARRAY_OF: u32 = 0x8000_0000;

fn equals(op: &BinaryOperator) -> bool {
    match op {
        BinaryOperator::Eq => true,
        BinaryOperator::PGCustomBinaryOperator(parts) => {
            matches!(parts.as_slice(), [schema, symbol] if schema.eq_ignore_ascii_case("pg_catalog") && symbol == "=")
        }
        _ => false,
    }
}

/// `(a, b)` and `ROW(a, b)`.
fn row(expression: &Expr) -> Option<&[Expr]> {
    match expression {
        Expr::Tuple(cells) => Some(cells),
        Expr::Nested(inner) => row(inner),
        _ => None,
    }
}
