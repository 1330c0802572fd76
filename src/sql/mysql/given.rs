//! Values in the place of a statement's `?`: what EXECUTE … USING asks for, as one text.

use crate::error::ClientError;
use crate::sql::lex::Kind;
use crate::sql::lex::Lexeme;
use crate::sql::lex::mysql as lex;
use crate::sql::lex::mysql::Mode;

/// The statement with values, as SQL writes them, where its parameters stand; `None`: it has another number of them.
///
/// # Errors
/// A parameter stands where a column would be called by its value.
pub fn with_values(text: &str, mode: Mode, values: &[String]) -> Result<Option<String>, ClientError> {
    let Ok(lexemes) = lex::lexemes(text, 0..text.len(), None, mode) else { return Ok(None) };
    let places: Vec<usize> =
        (0..lexemes.len()).filter(|at| lexemes.get(*at).is_some_and(|it| it.kind == Kind::Parameter)).collect();
    if places.len() != values.len() {
        return Ok(None);
    }
    if places.iter().any(|place| names_a_column(text, &lexemes, *place)) {
        return Err(ClientError::unsupported(
            "EXECUTE with a parameter in a select list is not supported",
            "Prepare the statement by the driver's protocol, or name a column's value by a constant.",
        ));
    }
    let mut out = String::with_capacity(text.len() + 16 * values.len());
    let mut copied = 0;
    for (place, value) in places.iter().zip(values) {
        let Some(lexeme) = lexemes.get(*place) else { continue };
        out.push_str(text.get(copied..lexeme.start).unwrap_or_default());
        // Two signs side by side are a comment.
        out.push(' ');
        out.push_str(value);
        out.push(' ');
        copied = lexeme.end;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Ok(Some(out))
}

/// Whether a parameter may stand in what a result's column is called by.
fn names_a_column(text: &str, lexemes: &[Lexeme], place: usize) -> bool {
    let word = |at: usize| {
        let lexeme = lexemes.get(at).filter(|it| it.kind == Kind::Word)?;
        Some(text.get(lexeme.start..lexeme.end)?.to_ascii_lowercase())
    };
    let is = |at: usize, wanted: &str| word(at).as_deref() == Some(wanted);
    let reads = !["insert", "replace", "update", "delete", "set"].iter().any(|it| is(0, it));
    let mut depth = 0_usize;
    let mut behind_from = false;
    for at in 0..place {
        match lexemes.get(at).map(|it| it.kind) {
            Some(Kind::Open) => depth += 1,
            Some(Kind::Close) => depth = depth.saturating_sub(1),
            _ if is(at, "returning") => return true,
            _ if depth == 0 && is(at, "from") => behind_from = true,
            _ => {}
        }
    }
    // What begins otherwise than with SELECT (WITH, a parenthesis, VALUES) may have its list anywhere.
    reads && !(is(0, "select") && behind_from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_where_parameters_stood() {
        let of = |text: &str, values: &[&str]| {
            let values: Vec<String> = values.iter().map(|it| (*it).to_owned()).collect();
            with_values(text, Mode::default(), &values)
        };
        let told = of("SELECT a FROM t WHERE id = ? AND a = 1-?", &["5", "-7"]).unwrap().unwrap();
        assert_eq!(told, "SELECT a FROM t WHERE id =  5  AND a = 1- -7 ");
        assert_eq!(
            of("SELECT '?' FROM t WHERE id = 1 -- ?", &[]).unwrap().unwrap(),
            "SELECT '?' FROM t WHERE id = 1 -- ?"
        );
        assert_eq!(of("SELECT a FROM t WHERE id = ?", &[]).unwrap(), None);
        assert_eq!(of("SELECT 1", &["1"]).unwrap(), None);
        assert_eq!(
            of("INSERT INTO t VALUES (?, ?)", &["1", "NULL"]).unwrap().unwrap(),
            "INSERT INTO t VALUES ( 1 ,  NULL )"
        );
        for named in ["SELECT ?", "SELECT ? FROM t", "(SELECT a FROM t WHERE id = ?)", "DELETE FROM t RETURNING ?"] {
            assert!(of(named, &["1"]).is_err(), "{named}");
        }
    }
}
