//! Queries that sqlparser cannot read and that look at nothing but catalogs, as tools ask them.
//!
//! Without a syntax tree the names decide: a query in which no word is the name of a user's relation, function or
//! operator, and in which everything that is called is reviewed, can only reach catalogs.

use crate::sql::functions;
use crate::sql::functions::Class;
use crate::sql::lex;
use crate::sql::lex::Kind;
use crate::sql::lex::Lexeme;
use crate::sql::model::Notes;
use crate::sql::model::Query;
use crate::sql::names::Names;

/// Whether the statement can only look at catalogs.
pub(crate) fn only(text: &str, lexemes: &[Lexeme], names: &Names<'_>) -> bool {
    let mut catalog = false;
    for (place, lexeme) in lexemes.iter().enumerate() {
        let raw = text.get(lexeme.start..lexeme.end).unwrap_or_default();
        let word = match lexeme.kind {
            Kind::Word => lex::fold(raw),
            Kind::Quoted => lex::unquote(raw),
            Kind::UnicodeQuoted => return false,
            Kind::Operator if names.schema.user_operators.contains_key(raw) => return false,
            _ => continue,
        };
        if place == 0 && word != "select" && word != "with" {
            return false;
        }
        if lexeme.kind == Kind::Word && ["insert", "update", "delete", "merge", "into"].contains(&word.as_str()) {
            return false;
        }
        catalog |= word.starts_with("pg_") || word == "information_schema";
        let known = names.schema.relations.keys().any(|name| *name.name == *word)
            || names.temporary.iter().any(|name| **name == *word)
            || names.schema.user_functions.contains_key(word.as_str());
        if known {
            return false;
        }
        let called = lexemes.get(place + 1).is_some_and(|it| it.kind == Kind::Open);
        if called && !(lexeme.kind == Kind::Word && NO_CALL.contains(&word.as_str())) {
            let fits = matches!(
                functions::class(&word),
                Some(Class::Pure | Class::Aggregate | Class::Now | Class::Harmless | Class::Place | Class::Catalog)
            );
            if !fits {
                return false;
            }
        }
    }
    catalog
}

/// What such a query is to a plan.
pub(crate) fn query() -> Query {
    Query { notes: Notes { catalog: Some("a query of catalogs".to_owned()), ..Notes::default() }, ..Query::default() }
}

/// Words that a parenthesis may follow without a call.
const NO_CALL: &[&str] = &[
    "all",
    "and",
    "any",
    "array",
    "as",
    "between",
    "bit",
    "by",
    "case",
    "char",
    "character",
    "cube",
    "decimal",
    "distinct",
    "else",
    "except",
    "exists",
    "filter",
    "float",
    "from",
    "group",
    "having",
    "ilike",
    "in",
    "intersect",
    "interval",
    "is",
    "join",
    "lateral",
    "like",
    "limit",
    "not",
    "numeric",
    "offset",
    "on",
    "or",
    "over",
    "rollup",
    "select",
    "sets",
    "some",
    "then",
    "time",
    "timestamp",
    "union",
    "using",
    "values",
    "varchar",
    "varying",
    "when",
    "where",
    "within",
];
