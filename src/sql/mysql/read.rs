//! Lexemes → sqlparser's syntax tree, for MySQL.
//!
//! What the parser would group otherwise than the servers do, or not at all, is not given to it.

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::dialect::MySqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::parser::ParserOptions;
use sqlparser::tokenizer::Location;
use sqlparser::tokenizer::Span;
use sqlparser::tokenizer::Token;
use sqlparser::tokenizer::TokenWithSpan;
use sqlparser::tokenizer::Word;

use crate::sql::lex::Kind;
use crate::sql::lex::Lexeme;
use crate::sql::lex::mysql as lex;
use crate::sql::lex::mysql::Mode;
use crate::sql::read::DEPTH_MAX;

/// What had to be taken out, or was seen on the way.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// LOCK IN SHARE MODE.
    pub(crate) locks: bool,
    /// SELECT … INTO.
    pub(crate) into: bool,
    /// What it asks of the session: the first variable.
    pub(crate) variable: Option<String>,
    /// The variables that it gives values, by `:=` before a whole item of its list, or INTO.
    pub(crate) assigned: Vec<Arc<str>>,
}

/// Parses one statement.
pub(crate) fn parse(text: &str, lexemes: &[Lexeme], mode: Mode) -> Option<(ast::Statement, Seen)> {
    let mut seen = Seen::default();
    let tokens = tokens(text, lexemes, mode, &mut seen)?;
    let dialect = MySqlDialect {};
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(DEPTH_MAX * 3)
        .with_options(ParserOptions::new().with_unescape(false))
        .with_tokens_with_locations(tokens);
    let statement = parser.parse_statement().ok()?;
    (parser.peek_token().token == Token::EOF).then_some((statement, seen))
}

/// Functions that are such only with the parenthesis right behind their names, unless IGNORE_SPACE is set: with a blank
/// between, a stored function is meant.
const TIGHT: [&str; 32] = [
    "adddate",
    "bit_and",
    "bit_or",
    "bit_xor",
    "cast",
    "count",
    "curdate",
    "curtime",
    "date_add",
    "date_sub",
    "extract",
    "group_concat",
    "json_arrayagg",
    "json_objectagg",
    "max",
    "mid",
    "min",
    "now",
    "position",
    "session_user",
    "std",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "subdate",
    "substr",
    "substring",
    "sum",
    "sysdate",
    "system_user",
    "trim",
    "variance",
];

/// Units of intervals that consist of two.
const UNITS: [&str; 11] = [
    "day_hour",
    "day_microsecond",
    "day_minute",
    "day_second",
    "hour_microsecond",
    "hour_minute",
    "hour_second",
    "minute_microsecond",
    "minute_second",
    "second_microsecond",
    "year_month",
];

/// Words behind which nothing of the outermost select list comes.
const AFTER_LIST: [&str; 8] = ["from", "where", "group", "having", "order", "limit", "union", "window"];

impl Seen {
    fn gives(&mut self, variable: &str) {
        self.variable.get_or_insert_with(|| variable.to_owned());
        let name = super::session::user_variable(variable);
        if !self.assigned.contains(&name) {
            self.assigned.push(name);
        }
    }
}

/// Words behind the first one that only say how soon or how quietly.
const MANNERS: [&str; 5] = ["low_priority", "high_priority", "delayed", "quick", "ignore"];

fn tokens(text: &str, lexemes: &[Lexeme], mode: Mode, seen: &mut Seen) -> Option<Vec<TokenWithSpan>> {
    let raw = |lexeme: &Lexeme| text.get(lexeme.start..lexeme.end).unwrap_or_default();
    let is = |place: usize, word: &str| {
        lexemes.get(place).is_some_and(|it| it.kind == Kind::Word && raw(it).eq_ignore_ascii_case(word))
    };
    let kind = |place: usize| lexemes.get(place).map(|it| it.kind);
    let reads = !["insert", "replace", "update", "delete"].iter().any(|it| is(0, it));
    let mut tokens: Vec<TokenWithSpan> = Vec::with_capacity(lexemes.len());
    let (mut place, mut depth, mut listing) = (0, 0_usize, is(0, "select"));
    while let Some(lexeme) = lexemes.get(place) {
        let span = Span { start: location(lexeme.start), end: location(lexeme.end) };
        let mut put = |token| tokens.push(TokenWithSpan { token, span });
        let behind_dot = place.checked_sub(1).and_then(kind) == Some(Kind::Dot);
        let next = kind(place + 1);
        place += 1;
        match lexeme.kind {
            Kind::Word if behind_dot => put(name(raw(lexeme))),
            Kind::Word => {
                let word = raw(lexeme).to_ascii_lowercase();
                let called = next == Some(Kind::Open);
                let tight = lexemes.get(place).is_some_and(|it| it.start == lexeme.end);
                if called && !tight && !mode.ignore_space && TIGHT.contains(&word.as_str()) {
                    return None;
                }
                match word.as_str() {
                    // The parser has a priority for it that is another. As OR it stands between the same words, and where
                    // it is true one side is.
                    "xor" => put(Token::make_word("OR", None)),
                    // As an operator the parser would have it take in all that follows. This one binds as closely, and
                    // what it stands before is no constant either.
                    "binary" if next != Some(Kind::Close) && !place.checked_sub(2).is_some_and(|it| is(it, "as")) => {
                        put(Token::Tilde);
                    }
                    // Like LIKE.
                    "sounds" if is(place, "like") => {}
                    "sounds" | "procedure" if !called => return None,
                    // Of the type of a CAST nothing but its name matters here.
                    "character" if is(place, "set") => place += 2,
                    // Units of two parts are reserved words, which the parser lacks.
                    unit if UNITS.contains(&unit) => put(Token::make_word("MINUTE", None)),
                    "distinctrow" => put(Token::make_word("DISTINCT", None)),
                    "mod" if !called => put(Token::Mod),
                    "lock" if is(place, "in") && is(place + 1, "share") && is(place + 2, "mode") => {
                        seen.locks = true;
                        place += 3;
                    }
                    _ if !reads && MANNERS.contains(&word.as_str()) && begins(place - 1, &is) => {
                        if word == "ignore" && is(0, "insert") {
                            put(Token::make_word("IGNORE", None));
                        }
                    }
                    "into" if reads && depth == 0 && next == Some(Kind::UserVariable) => loop {
                        let it = lexemes.get(place).filter(|it| it.kind == Kind::UserVariable)?;
                        seen.gives(raw(it));
                        listing = false;
                        place += 1;
                        if kind(place) != Some(Kind::Comma) {
                            break;
                        }
                        place += 1;
                    },
                    _ => {
                        seen.into |= reads && word == "into";
                        listing &= depth > 0 || !AFTER_LIST.contains(&word.as_str());
                        put(Token::make_word(raw(lexeme), None));
                    }
                }
            }
            Kind::Quoted => put(Token::make_word(&lex::unquote(raw(lexeme)), Some('`'))),
            Kind::Integer | Kind::Number => put(Token::Number(raw(lexeme).to_owned(), false)),
            // Strings that follow each other are one, which is no constant to the planner.
            Kind::String if next == Some(Kind::String) => {
                put(Token::Tilde);
                put(Token::SingleQuotedString(String::new()));
                while kind(place) == Some(Kind::String) {
                    place += 1;
                }
            }
            // Of an alias only that it is there matters.
            Kind::String if raw(lexeme).starts_with(['n', 'N']) => put(Token::NationalStringLiteral(String::new())),
            Kind::String => put(Token::SingleQuotedString(String::new())),
            Kind::Bits => put(Token::HexStringLiteral(String::new())),
            Kind::Parameter => put(Token::Placeholder("?".to_owned())),
            // What is given to a variable is all of the item, for nothing binds less.
            Kind::UserVariable if next == Some(Kind::Assign) => {
                let before = place.checked_sub(2);
                let begins = before.is_some_and(|it| {
                    matches!(kind(it), Some(Kind::Comma | Kind::Assign)) || is(it, "select") || is(it, "distinct")
                });
                if !listing || depth > 0 || !begins {
                    return None;
                }
                seen.gives(raw(lexeme));
                place += 1;
            }
            Kind::UserVariable | Kind::SystemVariable => {
                if seen.variable.is_none() {
                    seen.variable = Some(raw(lexeme).to_owned());
                }
                put(Token::Placeholder("@".to_owned()));
            }
            Kind::Open => {
                depth += 1;
                put(Token::LParen);
            }
            Kind::Close => {
                depth = depth.saturating_sub(1);
                put(Token::RParen);
            }
            Kind::Comma => put(Token::Comma),
            Kind::Dot => put(Token::Period),
            Kind::Operator => put(operator(raw(lexeme), mode)?),
            Kind::OpenBracket
            | Kind::CloseBracket
            | Kind::Assign
            | Kind::Executable
            | Kind::Semicolon
            | Kind::Colon
            | Kind::Cast
            | Kind::DotDot
            | Kind::UnicodeQuoted
            | Kind::UnicodeString
            | Kind::Hint
            | Kind::End => return None,
        }
    }
    Some(tokens)
}

/// Whether nothing but such words stands between the first word and this one.
fn begins(place: usize, is: &impl Fn(usize, &str) -> bool) -> bool {
    place > 0 && (1..place).all(|at| MANNERS.iter().any(|it| is(at, it)))
}

/// A word that is a name, whatever it means elsewhere.
fn name(raw: &str) -> Token {
    Token::Word(Word { value: raw.to_owned(), quote_style: None, keyword: Keyword::NoKeyword })
}

fn location(byte: usize) -> Location {
    Location { line: 1, column: u64::try_from(byte).unwrap_or(0) + 1 }
}

fn operator(raw: &str, mode: Mode) -> Option<Token> {
    Some(match raw {
        "=" => Token::Eq,
        "<=>" => Token::Spaceship,
        "<>" | "!=" => Token::Neq,
        "<" => Token::Lt,
        ">" => Token::Gt,
        "<=" => Token::LtEq,
        ">=" => Token::GtEq,
        "+" => Token::Plus,
        "-" => Token::Minus,
        "*" => Token::Mul,
        "/" => Token::Div,
        "%" => Token::Mod,
        "^" => Token::Caret,
        "~" => Token::Tilde,
        "&" => Token::Ampersand,
        "|" => Token::Pipe,
        "<<" => Token::ShiftLeft,
        ">>" => Token::ShiftRight,
        "&&" => Token::make_word("AND", None),
        "||" if mode.pipes_as_concat => Token::StringConcat,
        "||" => Token::make_word("OR", None),
        "->" => Token::Arrow,
        "->>" => Token::LongArrow,
        // The parser has none for it before an operand.
        "!" => Token::Tilde,
        _ => return None,
    })
}
