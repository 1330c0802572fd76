//! What the documentation lists is what the code has.

use shardway::error::Code;
use shardway::error::code::Retry;

#[test]
fn every_error_is_listed_as_it_is() {
    let page = include_str!("../docs/errors.md");
    let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let rows: Vec<String> = Code::ALL
        .iter()
        .map(|code| {
            let again = match code.retry() {
                Retry::No => "no",
                Retry::Yes => "yes",
                Retry::AfterLooking => "only after looking",
            };
            format!("| `{}` | {} | {again} | ", code.label(), code.sqlstate())
        })
        .collect();
    assert_eq!(listed.len(), rows.len(), "docs/errors.md lists other errors than src/error/code.rs");
    for (line, row) in listed.iter().zip(&rows) {
        assert!(line.starts_with(row.as_str()), "docs/errors.md has {line:?}, wanted {row:?}");
    }
}
