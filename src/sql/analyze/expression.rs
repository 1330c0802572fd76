//! Expressions: every function, operator, cast, column and subquery in them is looked at once.

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::ast::Expr;
use sqlparser::ast::Spanned as _;

use crate::error::ClientError;
use crate::error::Code;
use crate::sql::analyze::Analyzer;
use crate::sql::analyze::Outcome;
use crate::sql::analyze::Resolved;
use crate::sql::analyze::Scope;
use crate::sql::analyze::from::is_reserved;
use crate::sql::analyze::from::missing_column;
use crate::sql::analyze::parts;
use crate::sql::functions;
use crate::sql::functions::Class;
use crate::sql::session::unreadable;

impl Analyzer<'_> {
    /// Walks an expression. Conditions are not taken here.
    pub(super) fn expression(&mut self, expression: &Expr, scope: &Scope<'_, '_>) -> Outcome<()> {
        // Long chains lean to the left: the left spine is walked in a loop.
        let mut next = Some(expression);
        while let Some(it) = next {
            next = self.one(it, scope)?;
        }
        Ok(())
    }

    fn each<'e>(&mut self, expressions: impl IntoIterator<Item = &'e Expr>, scope: &Scope<'_, '_>) -> Outcome<()> {
        for expression in expressions {
            self.expression(expression, scope)?;
        }
        Ok(())
    }

    fn one<'e>(&mut self, expression: &'e Expr, scope: &Scope<'_, '_>) -> Outcome<Option<&'e Expr>> {
        match expression {
            Expr::Identifier(name) => self.identifier(name, scope)?,
            Expr::CompoundIdentifier(names) => {
                let parts: Vec<Arc<str>> = names.iter().map(|it| it.value.as_str().into()).collect();
                self.reference(&parts, scope)?;
                if let [first, .., table, _] = names.as_slice()
                    && let Some((_, qualifier)) = parts.split_last()
                {
                    self.cut(qualifier, first.span, table.span, scope);
                }
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                for access in access_chain {
                    match access {
                        // `(row).f` is a column, or a call of f(row).
                        ast::AccessExpr::Dot(Expr::Identifier(name)) => {
                            let parts: [Arc<str>; 1] = [name.value.as_str().into()];
                            let candidates = self.names.user_functions(&parts);
                            if candidates.iter().any(|it| !self.names.safe_functions.contains(it)) {
                                self.unreviewed(format!("function {}", name.value))?;
                            }
                        }
                        ast::AccessExpr::Dot(_) => return Err(unreadable("SQL")),
                        ast::AccessExpr::Subscript(ast::Subscript::Index { index }) => self.expression(index, scope)?,
                        ast::AccessExpr::Subscript(ast::Subscript::Slice { lower_bound, upper_bound, stride }) => {
                            self.each(lower_bound.iter().chain(upper_bound).chain(stride), scope)?;
                        }
                    }
                }
                return Ok(Some(root));
            }
            Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner)
            | Expr::Nested(inner) => return Ok(Some(inner)),
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                self.operator("=")?;
                self.expression(right, scope)?;
                return Ok(Some(left));
            }
            Expr::IsJson { expr, .. } | Expr::IsNormalized { expr, .. } => return Ok(Some(expr)),
            Expr::InList { expr, list, negated } => {
                self.operator(if *negated { "<>" } else { "=" })?;
                self.each(list, scope)?;
                return Ok(Some(expr));
            }
            Expr::InSubquery { expr, subquery, negated } => {
                self.operator("=")?;
                if *negated {
                    self.operator("<>")?;
                }
                self.subquery(subquery, scope)?;
                return Ok(Some(expr));
            }
            Expr::Between { expr, low, high, .. } => {
                for symbol in ["<", "<=", ">", ">="] {
                    self.operator(symbol)?;
                }
                self.expression(low, scope)?;
                self.expression(high, scope)?;
                return Ok(Some(expr));
            }
            Expr::BinaryOp { left, op, right } => {
                self.binary_operator(op)?;
                self.expression(right, scope)?;
                return Ok(Some(left));
            }
            Expr::Like { expr, pattern, escape_char, .. }
            | Expr::ILike { expr, pattern, escape_char, .. }
            | Expr::SimilarTo { expr, pattern, escape_char, .. } => {
                self.operator(match expression {
                    Expr::Like { negated: false, .. } => "~~",
                    Expr::Like { .. } => "!~~",
                    Expr::ILike { negated: false, .. } => "~~*",
                    Expr::ILike { .. } => "!~~*",
                    Expr::SimilarTo { negated: false, .. } => "~",
                    _ => "!~",
                })?;
                self.expression(pattern, scope)?;
                self.each(escape_char.iter().map(|it| &**it), scope)?;
                return Ok(Some(expr));
            }
            Expr::AnyOp { left, compare_op, right, .. } | Expr::AllOp { left, compare_op, right } => {
                self.binary_operator(compare_op)?;
                match &**right {
                    Expr::Subquery(query) => {
                        self.subquery(query, scope)?;
                    }
                    other => self.expression(other, scope)?,
                }
                return Ok(Some(left));
            }
            Expr::UnaryOp { op, expr } => {
                let symbol = match op {
                    ast::UnaryOperator::Plus => "+",
                    ast::UnaryOperator::Minus => "-",
                    ast::UnaryOperator::Not => "not",
                    ast::UnaryOperator::BitwiseNot => "~",
                    ast::UnaryOperator::PGSquareRoot => "|/",
                    ast::UnaryOperator::PGCubeRoot => "||/",
                    ast::UnaryOperator::PGAbs => "@",
                    _ => return Err(unreadable("SQL")),
                };
                self.operator(symbol)?;
                return Ok(Some(expr));
            }
            Expr::Cast { expr, data_type, format: None, kind: ast::CastKind::Cast | ast::CastKind::DoubleColon } => {
                self.data_type(data_type)?;
                return Ok(Some(expr));
            }
            Expr::AtTimeZone { timestamp, time_zone } => {
                self.expression(time_zone, scope)?;
                return Ok(Some(timestamp));
            }
            Expr::Extract { expr, .. } => return Ok(Some(expr)),
            Expr::Ceil { expr, .. } => {
                self.function(&["ceil".into()], scope)?;
                return Ok(Some(expr));
            }
            Expr::Floor { expr, .. } => {
                self.function(&["floor".into()], scope)?;
                return Ok(Some(expr));
            }
            Expr::Position { expr, r#in } => {
                self.expression(r#in, scope)?;
                return Ok(Some(expr));
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                self.function(&["substring".into()], scope)?;
                self.each(substring_from.iter().chain(substring_for).map(|it| &**it), scope)?;
                return Ok(Some(expr));
            }
            Expr::Trim { expr, trim_what, trim_characters, .. } => {
                self.each(trim_what.iter().map(|it| &**it), scope)?;
                self.each(trim_characters.iter().flatten(), scope)?;
                return Ok(Some(expr));
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                self.expression(overlay_what, scope)?;
                self.expression(overlay_from, scope)?;
                self.each(overlay_for.iter().map(|it| &**it), scope)?;
                return Ok(Some(expr));
            }
            Expr::Collate { expr, collation } => {
                // Behind a schema, as in pg_catalog.default, any word is a name.
                if collation.0.len() == 1 {
                    self.reserved(collation)?;
                }
                self.query.notes.collates = true;
                return Ok(Some(expr));
            }
            Expr::Value(_) => {}
            Expr::TypedString(typed) => {
                if matches!(typed.value.value, ast::Value::DoubleQuotedString(_)) {
                    return Err(unreadable("expression"));
                }
                self.data_type(&typed.data_type)?;
            }
            Expr::Function(function) => self.function_call(function, scope)?,
            Expr::Case { operand, conditions, else_result, .. } => {
                if operand.is_some() {
                    self.operator("=")?;
                }
                self.each(operand.iter().chain(else_result).map(|it| &**it), scope)?;
                for when in conditions {
                    self.expression(&when.condition, scope)?;
                    self.expression(&when.result, scope)?;
                }
            }
            Expr::Exists { subquery, .. } | Expr::Subquery(subquery) => {
                self.subquery(subquery, scope)?;
            }
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                self.each(sets.iter().flatten(), scope)?
            }
            Expr::Tuple(parts) => self.each(parts, scope)?,
            Expr::Array(array) => self.each(&array.elem, scope)?,
            // Anything else behind the word is an expression over a column of that name.
            Expr::Interval(interval) => match &*interval.value {
                Expr::Value(value) if matches!(value.value, ast::Value::SingleQuotedString(_)) => {}
                _ => return Err(unreadable("expression")),
            },
            Expr::Wildcard(_) => {}
            Expr::Named { expr, .. } => return Ok(Some(expr)),
            _ => return Err(unreadable("SQL")),
        }
        Ok(None)
    }

    fn identifier(&mut self, name: &ast::Ident, scope: &Scope<'_, '_>) -> Outcome<()> {
        if is_reserved(name) {
            return match name.value.as_str() {
                "default" => Ok(()),
                word if functions::class(word).is_some() => self.function(&[word.into()], scope),
                _ => Err(unreadable("SQL")),
            };
        }
        self.reference(&[name.value.as_str().into()], scope)
    }

    fn reference(&mut self, parts: &[Arc<str>], scope: &Scope<'_, '_>) -> Outcome<()> {
        let (resolved, level) = self.resolve(parts, scope);
        match resolved {
            Resolved::Missing if self.lenient => Ok(()),
            Resolved::Missing => Err(missing_column(&parts.join("."))),
            Resolved::WholeRow => {
                self.nearest = Some(self.nearest.map_or(level, |it| it.min(level)));
                if self.in_answer {
                    self.query.notes.user_type.get_or_insert_with(|| parts.join("."));
                }
                Ok(())
            }
            Resolved::Variable(_) | Resolved::Opaque => {
                self.nearest = Some(self.nearest.map_or(level, |it| it.min(level)));
                Ok(())
            }
        }
    }

    /// A subquery inside an expression.
    pub(super) fn subquery(&mut self, query: &ast::Query, scope: &Scope<'_, '_>) -> Outcome<super::Answer> {
        let in_answer = std::mem::take(&mut self.in_answer);
        let lenient = std::mem::take(&mut self.lenient);
        let nearest = self.nearest.take();
        let answer = self.query(query, Some(scope), scope.ctes, Some(scope.block), None);
        // Columns of this level that the subquery mentions count for an aggregate around it.
        self.nearest = match (nearest, self.nearest.and_then(|it| it.checked_sub(1))) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.in_answer = in_answer;
        self.lenient = lenient;
        let answer = answer?;
        if let ([output, ..], [true, ..]) = (answer.outputs.as_slice(), answer.inward.as_slice()) {
            let arms = answer.blocks.iter().zip(&output.variables);
            let found = arms.filter_map(|(block, variable)| variable.map(|it| (*block, it))).collect();
            self.subqueries.insert(std::ptr::from_ref(query), found);
        }
        Ok(answer)
    }

    fn binary_operator(&mut self, op: &ast::BinaryOperator) -> Outcome<()> {
        use ast::BinaryOperator as Op;
        let symbol = match op {
            Op::And | Op::Or | Op::Overlaps => return Ok(()),
            Op::Plus => "+",
            Op::Minus => "-",
            Op::Multiply => "*",
            Op::Divide => "/",
            Op::Modulo => "%",
            Op::StringConcat => "||",
            Op::Gt => ">",
            Op::Lt => "<",
            Op::GtEq => ">=",
            Op::LtEq => "<=",
            Op::Eq => "=",
            Op::NotEq => "<>",
            Op::BitwiseOr => "|",
            Op::BitwiseAnd => "&",
            Op::PGBitwiseXor => "#",
            Op::PGBitwiseShiftLeft => "<<",
            Op::PGBitwiseShiftRight => ">>",
            Op::PGExp | Op::BitwiseXor => "^",
            Op::PGOverlap => "&&",
            Op::PGRegexMatch => "~",
            Op::PGRegexIMatch => "~*",
            Op::PGRegexNotMatch => "!~",
            Op::PGRegexNotIMatch => "!~*",
            Op::PGLikeMatch => "~~",
            Op::PGILikeMatch => "~~*",
            Op::PGNotLikeMatch => "!~~",
            Op::PGNotILikeMatch => "!~~*",
            Op::PGStartsWith => "^@",
            Op::Arrow => "->",
            Op::LongArrow => "->>",
            Op::HashArrow => "#>",
            Op::HashLongArrow => "#>>",
            Op::AtAt => "@@",
            Op::AtArrow => "@>",
            Op::ArrowAt => "<@",
            Op::HashMinus => "#-",
            Op::AtQuestion => "@?",
            Op::Question => "?",
            Op::QuestionAnd => "?&",
            Op::QuestionPipe => "?|",
            Op::Custom(symbol) => symbol,
            Op::PGCustomBinaryOperator(parts) => match parts.as_slice() {
                [symbol] => symbol,
                [schema, symbol] if schema.eq_ignore_ascii_case("pg_catalog") => {
                    return self.built_in_operator(symbol);
                }
                _ => return self.unreviewed(format!("operator {}", parts.join("."))),
            },
            _ => return Err(unreadable("SQL")),
        };
        self.operator(symbol)
    }

    /// An operator by its symbol: the user's own are functions that nobody reviewed.
    fn operator(&mut self, symbol: &str) -> Outcome<()> {
        match self.names.user_operator(symbol) {
            Some(true) => self.unreviewed(format!("operator {symbol}")),
            Some(false) if !BUILT_IN_OPERATORS.contains(&symbol) => self.unreviewed(format!("operator {symbol}")),
            _ => self.built_in_operator(symbol),
        }
    }

    fn built_in_operator(&mut self, _symbol: &str) -> Outcome<()> {
        Ok(())
    }

    pub(super) fn unreviewed(&mut self, name: String) -> Outcome<()> {
        self.query.notes.unreviewed.get_or_insert(name);
        Ok(())
    }

    fn function_call(&mut self, function: &ast::Function, scope: &Scope<'_, '_>) -> Outcome<()> {
        if function.uses_odbc_syntax || !matches!(function.parameters, ast::FunctionArguments::None) {
            return Err(unreadable("SQL"));
        }
        let parts = parts(&function.name)?;
        let name = parts.last().cloned().unwrap_or_else(|| "".into());
        let before = self.nearest.take();
        let blocks_before = self.query.blocks.len();
        let vague_before = std::mem::take(&mut self.vague);
        match &function.args {
            ast::FunctionArguments::None => self.call(&parts, &[], scope)?,
            ast::FunctionArguments::Subquery(query) => {
                self.call(&parts, &[], scope)?;
                self.query.notes.array_of_rows = true;
                self.subquery(query, scope)?;
            }
            ast::FunctionArguments::List(list) => {
                self.call(&parts, &list.args, scope)?;
                for clause in &list.clauses {
                    match clause {
                        ast::FunctionArgumentClause::OrderBy(order) => {
                            self.each(order.iter().map(|it| &it.expr), scope)?;
                        }
                        ast::FunctionArgumentClause::JsonNullClause(_)
                        | ast::FunctionArgumentClause::JsonReturningClause(_) => {}
                        _ => return Err(unreadable("SQL")),
                    }
                }
            }
        }
        self.each(function.within_group.iter().map(|it| &it.expr), scope)?;
        self.each(function.filter.iter().map(|it| &**it), scope)?;
        // Of a query inside, the nearest column is its own: which of those further out it mentions is not known.
        let nested = self.query.blocks.len() > blocks_before;
        let arguments = self.nearest.filter(|_| !nested);
        let vague = self.vague || nested;
        self.vague |= vague_before;
        self.nearest = match (before, self.nearest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if let Some(over) = &function.over {
            if let ast::WindowType::WindowSpec(spec) = over {
                self.window(spec, scope)?;
            }
            if let Some(it) = self.query.blocks.get_mut(scope.block) {
                it.windowed = true;
            }
            self.obstacle(scope.block, format!("window function {name}"));
        } else if self.is_aggregate(&parts) {
            // An aggregate belongs to the query that its nearest column stands in.
            let mut owner = Some(scope);
            let mut marked = vec![scope.block];
            for _ in 0..arguments.unwrap_or(0) {
                owner = owner.and_then(|it| it.parent);
            }
            marked.extend(owner.map(|it| it.block));
            while let Some(it) = owner.filter(|_| vague) {
                marked.push(it.block);
                owner = it.parent;
            }
            for block in marked {
                if let Some(it) = self.query.blocks.get_mut(block) {
                    it.aggregated = true;
                    it.by_order |= !parts.last().is_some_and(|it| ORDERLESS.contains(&&**it));
                }
                if vague || !self.names.user_functions(&parts).is_empty() {
                    self.obstacle(block, format!("aggregate {name}"));
                } else {
                    self.soft_obstacle(block, format!("aggregate {name}"));
                }
            }
        }
        Ok(())
    }

    fn is_aggregate(&self, parts: &[Arc<str>]) -> bool {
        let Some(name) = parts.last() else { return false };
        functions::class(name) == Some(Class::Aggregate) || !self.names.user_functions(parts).is_empty()
    }

    pub(super) fn window(&mut self, spec: &ast::WindowSpec, scope: &Scope<'_, '_>) -> Outcome<()> {
        self.each(&spec.partition_by, scope)?;
        self.each(spec.order_by.iter().map(|it| &it.expr), scope)?;
        if let Some(frame) = &spec.window_frame {
            for bound in std::iter::once(&frame.start_bound).chain(&frame.end_bound) {
                match bound {
                    ast::WindowFrameBound::Preceding(Some(it)) | ast::WindowFrameBound::Following(Some(it)) => {
                        self.expression(it, scope)?;
                    }
                    ast::WindowFrameBound::Preceding(None)
                    | ast::WindowFrameBound::Following(None)
                    | ast::WindowFrameBound::CurrentRow => {}
                }
            }
        }
        Ok(())
    }

    /// A function with its arguments, in an expression or in FROM.
    pub(super) fn call(
        &mut self,
        parts: &[Arc<str>],
        arguments: &[ast::FunctionArg],
        scope: &Scope<'_, '_>,
    ) -> Outcome<()> {
        let mut plain: Vec<&Expr> = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let argument = match argument {
                ast::FunctionArg::Named { arg, .. } | ast::FunctionArg::Unnamed(arg) => arg,
                // The name is the function's own word for its argument.
                ast::FunctionArg::ExprNamed { arg, .. } => arg,
            };
            match argument {
                ast::FunctionArgExpr::Expr(expression) => {
                    self.expression(expression, scope)?;
                    plain.push(expression);
                }
                ast::FunctionArgExpr::Wildcard => {}
                // t.* is the whole row, or all its columns.
                ast::FunctionArgExpr::QualifiedWildcard(name) => {
                    let qualifier = super::parts(name)?;
                    if let (Some(first), Some(last)) = (name.0.first(), name.0.last()) {
                        self.cut(&qualifier, first.span(), last.span(), scope);
                    }
                    let Some((leaf, level)) = super::from::find_item(&qualifier, scope).map(|(it, at)| (it.leaf, at))
                    else {
                        return Err(missing_column(&qualifier.join(".")));
                    };
                    self.query.whole_rows.insert(leaf);
                    self.nearest = Some(self.nearest.map_or(level, |it| it.min(level)));
                    if self.in_answer {
                        self.query.notes.user_type.get_or_insert_with(|| qualifier.join("."));
                    }
                }
                ast::FunctionArgExpr::WildcardWithOptions(_) => {
                    return Err(unreadable("SQL"));
                }
            }
        }
        self.function(parts, scope)?;
        if parts.last().map(|it| &**it) == Some("set_config") {
            self.set_config(&plain)?;
        }
        Ok(())
    }

    /// What calling a function of this name means.
    fn function(&mut self, parts: &[Arc<str>], scope: &Scope<'_, '_>) -> Outcome<()> {
        let Some(name) = parts.last() else { return Ok(()) };
        let candidates = self.names.user_functions(parts);
        let safe = candidates.iter().all(|it| self.names.safe_functions.contains(it));
        let system_schema = match parts {
            [schema, _] => matches!(&**schema, "pg_catalog" | "information_schema"),
            _ => true,
        };
        if !candidates.is_empty() && !safe {
            return self.unreviewed(format!("function {}", parts.join(".")));
        }
        let class = if system_schema { functions::class(name) } else { None };
        let Some(class) = class else {
            if candidates.is_empty() && functions::is_catalog(parts) {
                self.query.notes.catalog.get_or_insert_with(|| name.to_string());
                self.query.notes.unlisted.get_or_insert_with(|| format!("function {}", parts.join(".")));
                return Ok(());
            }
            if candidates.is_empty() || !safe {
                return self.unreviewed(format!("function {}", parts.join(".")));
            }
            // Declared to read no tables; whether it writes is not known.
            self.query.notes.primary = true;
            self.query.notes.own_function = true;
            return Ok(());
        };
        let notes = &mut self.query.notes;
        // One of the user's own may be meant; whether it writes is not known.
        notes.primary |= !candidates.is_empty();
        notes.own_function |= !candidates.is_empty();
        if matches!(&**name, "pg_column_size" | "pg_column_compression") {
            // A copy is not stored as its row is.
            notes.stored.get_or_insert_with(|| name.clone());
        }
        if functions::depends_on_numbers(name) {
            notes.per_server.get_or_insert_with(|| name.to_string());
        }
        match class {
            Class::Pure | Class::Aggregate => {
                if matches!(
                    &**name,
                    "current_schema" | "current_schemas" | "current_database" | "current_user" | "session_user"
                ) {
                    notes.placed = true;
                }
            }
            Class::Now => notes.now = true,
            Class::Harmless => {
                notes.placed = true;
                if !functions::says_another_each_time(name) {
                    notes.per_server.get_or_insert_with(|| name.to_string());
                }
                notes.volatile.get_or_insert_with(|| name.to_string());
            }
            Class::Place => {
                notes.placed = true;
                notes.per_server.get_or_insert_with(|| name.to_string());
            }
            Class::Catalog => {
                notes.catalog.get_or_insert_with(|| name.to_string());
            }
            Class::AdvisoryLock => {
                notes.advisory = true;
                notes.acts.get_or_insert_with(|| name.to_string());
            }
            Class::AdvisoryUnlock => {
                notes.unlocks = true;
                notes.acts.get_or_insert_with(|| name.to_string());
            }
            Class::Acts => {
                notes.acts.get_or_insert_with(|| name.to_string());
            }
            Class::TransactionId => {
                notes.primary = true;
                notes.placed = true;
                notes.per_server.get_or_insert_with(|| name.to_string());
                notes.volatile.get_or_insert_with(|| name.to_string());
            }
            Class::SetConfig => {
                notes.placed = true;
                notes.per_server.get_or_insert_with(|| name.to_string());
                notes.volatile.get_or_insert_with(|| name.to_string());
            }
            Class::Sequence => {
                notes.primary = true;
                notes.sequences.push(name.to_string());
            }
            Class::Dangerous => {
                notes.refused.get_or_insert_with(|| {
                    (
                        format!("function {name} is not supported: it acts beyond the shard it runs on"),
                        "Connect to the server itself for this.".to_owned(),
                    )
                });
            }
        }
        let _ = scope;
        Ok(())
    }

    /// `set_config(name, value, is_local)`: the session follows the setting, so its name must be plain.
    fn set_config(&mut self, arguments: &[&Expr]) -> Outcome<()> {
        let refused = || {
            ClientError::new(
                Code::Unsupported,
                "set_config with a computed name or scope is not supported",
                "Write the setting's name and true or false as literals, or use SET.",
            )
        };
        let [name, _, local] = arguments else { return Err(refused()) };
        let of_the_row = |_: &&String| matches!(name, Expr::Identifier(it) if it.value == "name");
        let found = self.literal_text(name).or_else(|| self.setting_named.as_ref().filter(of_the_row).cloned());
        let Some(name) = found else { return Err(refused()) };
        let local = match local {
            Expr::Value(value) => match &value.value {
                ast::Value::Boolean(it) => *it,
                _ => match self.literal_text(local).as_deref() {
                    Some("t" | "true" | "on" | "1" | "yes") => true,
                    Some("f" | "false" | "off" | "0" | "no") => false,
                    _ => return Err(refused()),
                },
            },
            _ => return Err(refused()),
        };
        self.query.notes.exact_only = true;
        self.query.notes.set_config.push((name.to_ascii_lowercase().into(), local));
        Ok(())
    }

    /// `FROM pg_settings WHERE name = '…'`, as pg_dump asks: the name of the only row that there can be.
    pub(super) fn setting_named_by(&self, select: &ast::Select, scope: &Scope<'_, '_>) -> Option<String> {
        let [item] = scope.items.as_slice() else { return None };
        let table = item.table.as_ref().filter(|it| &*it.schema == "pg_catalog" && &*it.name == "pg_settings");
        match (table, &select.selection) {
            (Some(_), Some(Expr::BinaryOp { left, op: ast::BinaryOperator::Eq, right })) => match &**left {
                Expr::Identifier(name) if name.value == "name" => self.literal_text(right),
                _ => None,
            },
            _ => None,
        }
    }

    /// A type's name in a cast.
    pub(super) fn data_type(&mut self, data_type: &ast::DataType) -> Outcome<()> {
        match data_type {
            ast::DataType::Array(
                ast::ArrayElemTypeDef::SquareBracket(inner, _) | ast::ArrayElemTypeDef::Qualified(inner, _),
            ) => self.data_type(inner),
            ast::DataType::Regclass => {
                self.query.notes.catalog.get_or_insert_with(|| "regclass".to_owned());
                Ok(())
            }
            ast::DataType::Custom(name, _) => {
                let parts = parts(name)?;
                let last = parts.last().cloned().unwrap_or_else(|| "".into());
                let user_type = self.names.user_type(&parts);
                // A domain may have one, and names have.
                self.query.notes.collates |= user_type.is_some() || &*last == "name";
                if let Some((full, kind)) = user_type {
                    if self.in_answer {
                        self.query.notes.user_type.get_or_insert_with(|| full.to_string());
                    }
                    return match kind {
                        'b' => self.unreviewed(format!("type {full}")),
                        _ => Ok(()),
                    };
                }
                if last.starts_with("reg") {
                    self.query.notes.catalog.get_or_insert_with(|| last.to_string());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Aggregates that come to the same in whatever order rows come.
const ORDERLESS: &[&str] = &["count", "min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor"];

/// The operators of `pg_catalog` in PostgreSQL 15.
const BUILT_IN_OPERATORS: &[&str] = &[
    "!!", "!~", "!~*", "!~~", "!~~*", "#", "##", "#-", "#>", "#>>", "%", "&", "&&", "&<", "&<|", "&>", "*", "*<",
    "*<=", "*<>", "*=", "*>", "*>=", "+", "-", "->", "->>", "-|-", "/", "<", "<->", "<<", "<<=", "<<|", "<=", "<>",
    "<@", "<^", "=", ">", ">=", ">>", ">>=", ">^", "?", "?#", "?&", "?-", "?-|", "?|", "?||", "@", "@-@", "@>", "@?",
    "@@", "@@@", "^", "^@", "|", "|&>", "|/", "|>>", "||", "||/", "~", "~*", "~<=~", "~<~", "~=", "~>=~", "~>~", "~~",
    "~~*", "not",
];
