//! Lexemes → sqlparser's syntax tree, which does not leave `sql`.
//!
//! The parser gets our own lexemes, not the text: what it takes for a literal or a name is what Postgres's scanner
//! takes for one, and every span is a byte of the text. It is never asked to print, and trees are never cloned.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::OnceLock;

use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::parser::ParserOptions;
use sqlparser::tokenizer::Location;
use sqlparser::tokenizer::Span;
use sqlparser::tokenizer::Token;
use sqlparser::tokenizer::TokenWithSpan;
use sqlparser::tokenizer::Word;

use crate::error::ClientError;
use crate::error::Code;
use crate::sql::lex;
use crate::sql::lex::Kind;
use crate::sql::lex::Lexeme;

/// The most text that is given to the parser, folded rows not counted.
pub(crate) const PARSED_MAX: usize = 128 * 1024;
/// Deeper parentheses are refused.
pub(crate) const DEPTH_MAX: usize = 200;
/// More lexemes than this are refused: a chain of operators makes a tree as deep as the chain is long.
const LEXEMES_MAX: usize = 50_000;
/// Above either, a statement is read on a stack of its own.
const INLINE_LEXEMES: usize = 200;
const INLINE_DEPTH: usize = 6;
/// Definitions of views and defaults longer than this are not read on the caller's stack.
pub(crate) const INLINE_BYTES: usize = 1500;
/// Memory that is only reserved: what is not touched costs nothing.
const STACK: usize = 128 * 1024 * 1024;

/// Whether the caller's stack is enough for a statement.
pub(crate) fn is_small(lexemes: &[Lexeme]) -> bool {
    lexemes.len() <= INLINE_LEXEMES && depth(lexemes) <= INLINE_DEPTH
}

/// Runs `work` on a thread with a large stack; `None`: it panicked, or there is no such thread.
pub(crate) fn on_a_big_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).ok().and_then(|it| it.join().ok())
    })
}

/// How deep parentheses, brackets and CASE are nested.
pub(crate) fn depth(lexemes: &[Lexeme]) -> usize {
    let mut depth = 0_usize;
    let mut deepest = 0;
    for lexeme in lexemes {
        match lexeme.kind {
            Kind::Open | Kind::OpenBracket => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            Kind::Close | Kind::CloseBracket => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Refuses what is too large or too deep to be read safely.
///
/// # Errors
/// [`Code::TooLarge`].
pub(crate) fn check(lexemes: &[Lexeme]) -> Result<(), ClientError> {
    let bytes: usize = lexemes.iter().map(|it| it.end - it.start).sum();
    let strings: usize = lexemes
        .iter()
        .filter(|it| matches!(it.kind, Kind::String | Kind::UnicodeString | Kind::Bits))
        .map(|it| it.end - it.start)
        .sum();
    let hint = "Send long lists as an array parameter (= ANY ($1)), or in several statements.";
    if bytes - strings > PARSED_MAX || lexemes.len() > LEXEMES_MAX {
        return Err(ClientError::new(Code::TooLarge, "the statement is too long to be analysed", hint));
    }
    if depth(lexemes) > DEPTH_MAX {
        return Err(ClientError::new(Code::TooLarge, "the statement is nested too deeply to be analysed", hint));
    }
    Ok(())
}

/// What had to be taken out of a statement before the parser could read it.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    /// `OVERRIDING … VALUE`.
    pub(crate) overriding: bool,
    /// ON CONFLICT with expressions, operator classes or a WHERE.
    pub(crate) conflict: bool,
}

/// Parses one statement.
pub(crate) fn parse(text: &str, lexemes: &[Lexeme]) -> Option<(ast::Statement, Removed)> {
    let mut removed = Removed::default();
    let tokens = tokens(text, lexemes, &mut removed)?;
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(DEPTH_MAX * 3)
        .with_options(ParserOptions::new().with_unescape(false))
        .with_tokens_with_locations(tokens);
    let statement = parser.parse_statement().ok()?;
    (parser.peek_token().token == Token::EOF).then_some((statement, removed))
}

/// Parses an expression (a default, a policy).
pub(crate) fn parse_expression(text: &str, lexemes: &[Lexeme]) -> Option<ast::Expr> {
    let tokens = tokens(text, lexemes, &mut Removed::default())?;
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect)
        .with_options(ParserOptions::new().with_unescape(false))
        .with_tokens_with_locations(tokens);
    let expression = parser.parse_expr().ok()?;
    (parser.peek_token().token == Token::EOF).then_some(expression)
}

/// The bytes of the text under a span.
pub(crate) fn bytes_of(span: Span) -> Range<usize> {
    let at = |location: Location| usize::try_from(location.column).unwrap_or(1).saturating_sub(1);
    at(span.start)..at(span.end)
}

fn tokens(text: &str, lexemes: &[Lexeme], removed: &mut Removed) -> Option<Vec<TokenWithSpan>> {
    let raw = |lexeme: &Lexeme| text.get(lexeme.start..lexeme.end).unwrap_or_default();
    let is = |place: usize, word: &str| {
        lexemes.get(place).is_some_and(|it| it.kind == Kind::Word && raw(it).eq_ignore_ascii_case(word))
    };
    // Whether a value that comes before this lexeme is over.
    let ends_value = |place: usize| {
        is(place, "from")
            || lexemes.get(place).is_none_or(|it| matches!(it.kind, Kind::Comma | Kind::Close | Kind::Semicolon))
    };
    // Whether this is the first word behind OVER and a parenthesis.
    let opens_window = |place: usize| {
        let before = |count: usize| place.checked_sub(count).and_then(|it| lexemes.get(it)).map(|it| it.kind);
        before(1) == Some(Kind::Open)
            && place.checked_sub(2).is_some_and(|it| is(it, "over"))
            // As the name of an output or of a column it means nothing.
            && !matches!(before(3), None | Some(Kind::Dot | Kind::Comma | Kind::Open))
    };
    let mut tokens: Vec<TokenWithSpan> = Vec::with_capacity(lexemes.len() + 4);
    let elements = elements(text, lexemes);
    let mut place = 0;
    // Where ROWS ONLY or ROWS WITH TIES ends what is read as a LIMIT.
    let mut limit_ends = None;
    while let Some(lexeme) = lexemes.get(place) {
        if limit_ends == Some(place) {
            limit_ends = None;
            place += if is(place + 1, "only") { 2 } else { 3 };
            continue;
        }
        let span = Span { start: location(lexeme.start), end: location(lexeme.end) };
        let mut put = |token| tokens.push(TokenWithSpan { token, span });
        place += 1;
        let element = elements.binary_search(&(place - 1)).is_ok();
        if lexeme.kind == Kind::String && before_literal(text, lexemes, place - 1) {
            // circle '((0,0),1)' is '((0,0),1)'::circle; the parser would take the literal for an alias.
            let mut name = tokens.len().checked_sub(1)?;
            while name >= 2 && tokens.get(name - 1).is_some_and(|it| it.token == Token::Period) {
                name -= 2;
            }
            let name = tokens.split_off(name);
            tokens.extend(
                [token(lexeme.kind, raw(lexeme))?, Token::DoubleColon].map(|token| TokenWithSpan { token, span }),
            );
            tokens.extend(name);
            continue;
        }
        if lexeme.kind != Kind::Word {
            if element {
                // ROLLUP ((a)::text): the parser takes the parentheses for a list, but not behind a sign.
                put(Token::Plus);
            }
            put(token(lexeme.kind, raw(lexeme))?);
            continue;
        }
        let before = place.checked_sub(2);
        let after = |word: &str| before.is_some_and(|before| is(before, word));
        // And not behind t.as or x AS as.
        let behind_as = || {
            let further = before.and_then(|it| it.checked_sub(1));
            let is_name = further.and_then(|it| lexemes.get(it)).is_none_or(|it| it.kind == Kind::Dot);
            after("as") && !is_name && !further.is_some_and(|it| is(it, "as"))
        };
        if before.and_then(|it| lexemes.get(it)).is_some_and(|it| it.kind == Kind::Dot) {
            // What follows a dot is a name, whatever else the word means.
            put(plain(raw(lexeme)));
        } else if element {
            // GROUPING SETS (ROLLUP (a, b), …): which sets they are is the server's affair.
            place += usize::from(is(place - 1, "grouping"));
        } else if is(place - 1, "distinct") && after("by") && before.is_some_and(|it| it > 0 && is(it - 1, "group")) {
            // GROUP BY DISTINCT: of sets that come twice, one.
        } else if is(place - 1, "table") && before.is_none_or(|it| starts_query(text, lexemes, it)) {
            // TABLE t is SELECT * FROM t.
            put(Token::make_word("select", None));
            put(Token::Mul);
            put(Token::make_word("from", None));
        } else if is(place - 1, "only")
            && before.is_some_and(|it| {
                ["from", "join", "update", "using", "into"].iter().any(|word| is(it, word))
                    || lexemes.get(it).is_some_and(|l| l.kind == Kind::Comma)
            })
            && lexemes.get(place).is_some_and(|it| matches!(it.kind, Kind::Word | Kind::Quoted | Kind::Open))
        {
            // ONLY t, ONLY (t): the same table, and children are looked at apart.
            if lexemes.get(place).is_some_and(|it| it.kind == Kind::Open) {
                return None;
            }
        } else if is(place - 1, "fetch")
            && (is(place, "first") || is(place, "next"))
            && let Some(end) = closed(lexemes, place + 1).map(|it| it + 1)
            && (is(end, "row") || is(end, "rows"))
            && (is(end + 1, "only") || (is(end + 1, "with") && is(end + 2, "ties")))
        {
            // FETCH FIRST (expression) ROWS ONLY limits as LIMIT (expression) does, as far as routing is concerned.
            put(Token::make_word("limit", None));
            place += 1;
            limit_ends = Some(end);
        } else if is(place - 1, "for")
            && ((is(place, "no") && is(place + 1, "key") && is(place + 2, "update"))
                || (is(place, "key") && is(place + 1, "share")))
        {
            // FOR NO KEY UPDATE, FOR KEY SHARE: rows are locked all the same.
            put(Token::make_word("for", None));
            place += if is(place, "no") { 2 } else { 1 };
        } else if (is(place - 1, "isnull") || is(place - 1, "notnull"))
            && before.is_some()
            && !after("as")
            && lexemes.get(place).is_none_or(|it| it.kind != Kind::Open)
        {
            // x ISNULL is x IS NULL, and no alias.
            put(Token::make_word("is", None));
            if is(place - 1, "notnull") {
                put(Token::make_word("not", None));
            }
            put(Token::make_word("null", None));
        } else if is(place - 1, "between") && is(place, "symmetric") {
            // What it narrows depends on which bound is less: as NOT BETWEEN it narrows nothing.
            if !after("not") {
                put(Token::make_word("not", None));
            }
            put(Token::make_word("between", None));
            place += 1;
        } else if lexemes.get(place).is_some_and(|it| it.kind == Kind::Quoted)
            && TYPED.iter().any(|it| is(place - 1, it))
            && before.and_then(|it| lexemes.get(it)).is_none_or(|it| it.kind != Kind::Cast)
        {
            // date "Day": a column and its alias, where the parser sees a literal of a type.
            put(Token::make_word(&lex::fold(raw(lexeme)), None));
            put(Token::make_word("as", None));
        } else if is(place - 1, "interval") && is_column(text, lexemes, place - 1) {
            // interval - x: a column, where the parser sees a literal.
            put(Token::make_word("interval", Some('"')));
        } else if is(place - 1, "variadic")
            && before.and_then(|it| lexemes.get(it)).is_some_and(|it| matches!(it.kind, Kind::Open | Kind::Comma))
        {
            // f(VARIADIC array): the array is an argument like another.
        } else if is(place - 1, "uescape")
            && before.and_then(|it| lexemes.get(it)).is_some_and(|it| it.kind == Kind::UnicodeString)
            && lexemes.get(place).is_some_and(|it| it.kind == Kind::String)
        {
            // U&'…' UESCAPE '!': its value is not read in any case.
            place += 1;
        } else if is(place - 1, "exclude")
            && (after("row") || after("preceding") || after("following"))
            && ["current", "group", "ties", "no"].iter().any(|word| is(place, word))
        {
            // Which rows of a frame are left out: EXCLUDE CURRENT ROW, GROUP, TIES, NO OTHERS.
            place += if is(place, "current") || is(place, "no") { 2 } else { 1 };
        } else if is(place - 1, "collate")
            && let Some(cast) = cast_to_text(lexemes, place - 1)
            && lexemes.get(cast + 1).is_some_and(|it| TEXTS.iter().any(|word| raw(it).eq_ignore_ascii_case(word)))
        {
            // x::text COLLATE c is x COLLATE c, as far as routing is concerned.
            tokens.truncate(tokens.len().saturating_sub(place - 1 - cast));
            tokens.push(TokenWithSpan { token: Token::make_word("collate", None), span });
        } else if is(place - 1, "overriding") && (is(place, "system") || is(place, "user")) && is(place + 1, "value") {
            removed.overriding = is(place, "user");
            place += 2;
        } else if is(place - 1, "conflict")
            && after("on")
            && lexemes.get(place).is_some_and(|it| it.kind == Kind::Open)
            && !plain_list(lexemes, place)
        {
            removed.conflict = true;
            put(Token::make_word("conflict", None));
            let mut depth = 0_usize;
            while let Some(it) = lexemes.get(place) {
                match it.kind {
                    Kind::Open => depth += 1,
                    Kind::Close => depth = depth.saturating_sub(1),
                    Kind::Word if depth == 0 && is(place, "do") => break,
                    _ => {}
                }
                place += 1;
            }
        } else if LABELS.iter().any(|it| is(place - 1, it)) && before.is_some() && ends_value(place) {
            // count(*) collate FROM t: with nothing behind it, it is the name of an output.
            put(plain(raw(lexeme)));
        } else if opens_window(place - 1) && !WINDOW_BEGINS.iter().any(|it| is(place - 1, it)) {
            // OVER (w ORDER BY x): the name of another window.
            put(plain(raw(lexeme)));
        } else {
            let followed = lexemes.get(place).map(|it| it.kind);
            let token = Token::make_word(&lex::fold(raw(lexeme)), None);
            let Token::Word(word) = &token else { return None };
            let typed = TYPED.contains(&word.value.as_str());
            let stays = word.keyword == Keyword::NoKeyword
                || match before.and_then(|it| lexemes.get(it)).map(|it| it.kind) {
                    // What follows :: is a type, and what follows AS a type, a name, or what a CTE has there.
                    Some(Kind::Cast) => typed || BEHIND_AS.contains(&word.value.as_str()),
                    _ if behind_as() => typed || BEHIND_AS.contains(&word.value.as_str()),
                    _ if CALLED.contains(&word.value.as_str()) => followed == Some(Kind::Open),
                    _ => typed || is_keyword(&word.value) || after("tablesample"),
                };
            put(if stays { token } else { plain(raw(lexeme)) });
        }
    }
    Some(tokens)
}

/// A word that is a name and nothing else, though the parser may have a keyword of that name.
fn plain(raw: &str) -> Token {
    Token::Word(Word { value: lex::fold(raw), quote_style: None, keyword: Keyword::NoKeyword })
}

/// Whether Postgres knows the word. The parser has keywords of other dialects, too.
fn is_keyword(word: &str) -> bool {
    static KEYWORDS: OnceLock<HashSet<&'static str>> = OnceLock::new();
    KEYWORDS.get_or_init(|| include_str!("keywords.txt").lines().collect()).contains(word)
}

/// What begins elements of ROLLUP, CUBE and GROUPING SETS that the parser would read amiss: parentheses that are not the
/// whole element, and these words themselves.
fn elements(text: &str, lexemes: &[Lexeme]) -> Vec<usize> {
    let kind = |at: usize| lexemes.get(at).map(|it| it.kind);
    let is = |at: usize, word: &str| {
        kind(at) == Some(Kind::Word)
            && lexemes.get(at).and_then(|it| text.get(it.start..it.end)).is_some_and(|it| it.eq_ignore_ascii_case(word))
    };
    // The parenthesis behind such words.
    let opens = |at: usize| {
        let open = if is(at, "rollup") || is(at, "cube") {
            at + 1
        } else if is(at, "grouping") && is(at + 1, "sets") {
            at + 2
        } else {
            return None;
        };
        (kind(open) == Some(Kind::Open)).then_some(open)
    };
    let mut found = Vec::new();
    for (word, open) in (0..lexemes.len()).filter_map(|at| Some((at, opens(at)?))) {
        let mut depth = 0_usize;
        let sets = is(word, "grouping");
        for at in open..lexemes.len() {
            let first = depth == 1 && at.checked_sub(1).is_some_and(|it| it == open || kind(it) == Some(Kind::Comma));
            match kind(at) {
                Some(Kind::Open) if first => {
                    let behind = closed(lexemes, at).and_then(|it| kind(it + 1));
                    let query = ["select", "with", "values"].iter().any(|it| is(at + 1, it));
                    if query || !matches!(behind, Some(Kind::Comma | Kind::Close)) {
                        found.push(at);
                    }
                }
                // Within the others such a word is a function's name.
                Some(Kind::Word) if first && sets && opens(at).is_some() => found.push(at),
                _ => {}
            }
            match kind(at) {
                Some(Kind::Open) => depth += 1,
                Some(Kind::Close) => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Whether the name of a type stands before a literal of it, and not one that the parser knows as such.
fn before_literal(text: &str, lexemes: &[Lexeme], literal: usize) -> bool {
    let before = |count: usize| literal.checked_sub(count).and_then(|it| lexemes.get(it));
    let behind = before(2).map(|it| it.kind);
    match before(1) {
        _ if behind == Some(Kind::Cast) => false,
        Some(it) if it.kind == Kind::Word => {
            let word = lex::fold(text.get(it.start..it.end).unwrap_or_default());
            behind == Some(Kind::Dot)
                || TYPE_KEYWORDS.contains(&word.as_str())
                || !(is_keyword(&word) || TYPED.contains(&word.as_str()))
        }
        it => it.is_some_and(|it| it.kind == Kind::Quoted),
    }
}

/// Whether a word that begins literals (`interval '1'`, `interval(3) '1'`) is a value of its own here.
fn is_column(text: &str, lexemes: &[Lexeme], place: usize) -> bool {
    if lexemes.get(place + 1).is_some_and(|it| matches!(it.kind, Kind::String | Kind::UnicodeString | Kind::Open)) {
        return false;
    }
    let Some(before) = place.checked_sub(1).and_then(|it| lexemes.get(it)) else { return false };
    match before.kind {
        Kind::Open | Kind::OpenBracket | Kind::Comma | Kind::Operator => true,
        Kind::Word => {
            let word = text.get(before.start..before.end).unwrap_or_default();
            VALUE_FOLLOWS.iter().any(|it| word.eq_ignore_ascii_case(it))
        }
        _ => false,
    }
}

/// Whether a query may begin behind this lexeme.
fn starts_query(text: &str, lexemes: &[Lexeme], place: usize) -> bool {
    let Some(lexeme) = lexemes.get(place) else { return true };
    let raw = text.get(lexeme.start..lexeme.end).unwrap_or_default();
    match lexeme.kind {
        // Behind WITH … AS (…), too.
        Kind::Open | Kind::Close => true,
        Kind::Word => ["union", "all", "except", "intersect", "distinct"].iter().any(|it| raw.eq_ignore_ascii_case(it)),
        _ => false,
    }
}

/// The parenthesis that closes the one at `place`.
fn closed(lexemes: &[Lexeme], place: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, lexeme) in lexemes.iter().enumerate().skip(place) {
        match lexeme.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return (lexeme.kind == Kind::Close).then_some(at);
        }
    }
    None
}

/// Words that begin something, and may be names of outputs without AS, or columns.
const LABELS: [&str; 15] = [
    "analyze", "and", "between", "cluster", "collate", "explain", "ilike", "in", "is", "like", "match", "operator",
    "or", "similar", "view",
];

/// What a window may begin with beside the name of another one.
const WINDOW_BEGINS: [&str; 5] = ["groups", "order", "partition", "range", "rows"];

/// What may follow AS and :: and is no name, beside the types below.
const BEHIND_AS: [&str; 5] = ["materialized", "national", "not", "regclass", "setof"];

/// What has a syntax of its own with a parenthesis behind it, and is a name without.
const CALLED: [&str; 9] = ["cube", "exists", "extract", "overlay", "position", "rollup", "substring", "trim", "unnest"];

/// Types that are called as keywords of Postgres, beside the types below.
const TYPE_KEYWORDS: [&str; 3] = ["name", "path", "xml"];

/// Types whose names may stand before a literal; columns may be called so too.
const TYPED: [&str; 33] = [
    "bigint",
    "bit",
    "bool",
    "boolean",
    "bytea",
    "char",
    "character",
    "date",
    "dec",
    "decimal",
    "double",
    "float",
    "float4",
    "float8",
    "int",
    "int2",
    "int4",
    "int8",
    "integer",
    "interval",
    "json",
    "jsonb",
    "nchar",
    "numeric",
    "real",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "uuid",
    "varchar",
];

/// Words that are reserved and have a value behind them.
const VALUE_FOLLOWS: [&str; 24] = [
    "all",
    "and",
    "any",
    "between",
    "by",
    "case",
    "distinct",
    "else",
    "from",
    "having",
    "ilike",
    "in",
    "like",
    "limit",
    "not",
    "offset",
    "on",
    "or",
    "returning",
    "select",
    "then",
    "using",
    "when",
    "where",
];

/// Types of text.
const TEXTS: [&str; 5] = ["text", "varchar", "bpchar", "char", "name"];

/// The `::` of a cast whose type ends before this lexeme: `::text`, `::varchar(3)`.
fn cast_to_text(lexemes: &[Lexeme], place: usize) -> Option<usize> {
    let kind = |at: usize| lexemes.get(at).map(|it| it.kind);
    let mut at = place.checked_sub(1)?;
    if kind(at) == Some(Kind::Close) && kind(at.checked_sub(2)?) == Some(Kind::Open) {
        at = at.checked_sub(3)?;
    }
    let cast = at.checked_sub(1)?;
    (kind(at) == Some(Kind::Word) && kind(cast) == Some(Kind::Cast)).then_some(cast)
}

/// Whether the parentheses that open here hold nothing but names and commas, and DO follows.
fn plain_list(lexemes: &[Lexeme], place: usize) -> bool {
    let mut at = place + 1;
    let mut name = true;
    while let Some(lexeme) = lexemes.get(at) {
        match lexeme.kind {
            Kind::Word | Kind::Quoted if name => name = false,
            Kind::Comma if !name => name = true,
            Kind::Close if !name => {
                return lexemes.get(at + 1).is_some_and(|it| it.kind == Kind::Word && it.end - it.start == 2);
            }
            _ => return false,
        }
        at += 1;
    }
    false
}

fn location(byte: usize) -> Location {
    Location { line: 1, column: u64::try_from(byte).unwrap_or(0) + 1 }
}

fn token(kind: Kind, raw: &str) -> Option<Token> {
    Some(match kind {
        Kind::Quoted => Token::make_word(&lex::unquote(raw), Some('"')),
        Kind::Integer | Kind::Number => Token::Number(raw.to_owned(), false),
        Kind::String => Token::SingleQuotedString(String::new()),
        Kind::UnicodeString => Token::UnicodeStringLiteral(String::new()),
        Kind::Bits => Token::HexStringLiteral(String::new()),
        Kind::Parameter => Token::Placeholder(raw.to_owned()),
        Kind::Open => Token::LParen,
        Kind::Close => Token::RParen,
        Kind::OpenBracket => Token::LBracket,
        Kind::CloseBracket => Token::RBracket,
        Kind::Comma => Token::Comma,
        Kind::Semicolon => Token::SemiColon,
        Kind::Dot => Token::Period,
        Kind::Colon => Token::Colon,
        Kind::Cast => Token::DoubleColon,
        // f(name := value) is f(name => value).
        Kind::Assign => Token::RArrow,
        Kind::Operator => operator(raw),
        Kind::UnicodeQuoted | Kind::DotDot | Kind::Hint | Kind::End | Kind::Word => return None,
        Kind::UserVariable | Kind::SystemVariable | Kind::Executable => return None,
    })
}

fn operator(raw: &str) -> Token {
    match raw {
        "=" => Token::Eq,
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
        "||" => Token::StringConcat,
        "=>" => Token::RArrow,
        "->" => Token::Arrow,
        "->>" => Token::LongArrow,
        "#>" => Token::HashArrow,
        "#>>" => Token::HashLongArrow,
        "@>" => Token::AtArrow,
        "<@" => Token::ArrowAt,
        "@@" => Token::AtAt,
        "@?" => Token::AtQuestion,
        "?" => Token::Question,
        "?|" => Token::QuestionPipe,
        "?&" => Token::QuestionAnd,
        "#-" => Token::HashMinus,
        "&&" => Token::Overlap,
        "~" => Token::Tilde,
        "~*" => Token::TildeAsterisk,
        "!~" => Token::ExclamationMarkTilde,
        "!~*" => Token::ExclamationMarkTildeAsterisk,
        "~~" => Token::DoubleTilde,
        "~~*" => Token::DoubleTildeAsterisk,
        "!~~" => Token::ExclamationMarkDoubleTilde,
        "!~~*" => Token::ExclamationMarkDoubleTildeAsterisk,
        "&" => Token::Ampersand,
        "|" => Token::Pipe,
        "#" => Token::Sharp,
        "<<" => Token::ShiftLeft,
        ">>" => Token::ShiftRight,
        "|/" => Token::PGSquareRoot,
        "||/" => Token::PGCubeRoot,
        "@" => Token::AtSign,
        "^@" => Token::CaretAt,
        other => Token::CustomBinaryOperator(other.to_owned()),
    }
}
