//! `shardway check` and `shardway schema`: what they print and how they exit, without printing or exiting.

use std::path::Path;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;

use super::Environment;
use super::Mistake;
use super::ShardMap;
use super::file;
use super::mistake;
use super::mistake::Severity;

/// How mistakes are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For tools: a JSON array, empty when nothing is wrong.
    Json,
}

/// Exit codes of `check`.
const CLEAN: u8 = 0;
const WRONG: u8 = 1;

/// Reads the map at `path` and tells what is wrong with it: the text to print, and the exit code (0: nothing but
/// warnings, 1: a mistake).
#[must_use]
pub fn check(path: &Path, format: Format, environment: &dyn Environment) -> (String, u8) {
    let name = path.display().to_string();
    let outcome = match environment.file(path) {
        Ok(text) => ShardMap::parse(&name, &text, environment),
        Err(reason) => Err(vec![Mistake::unreadable(&name, reason)]),
    };
    let (found, summary) = match &outcome {
        Ok((map, warnings)) => (warnings, summary(&name, map)),
        Err(mistakes) => (mistakes, String::new()),
    };
    let code = if outcome.is_ok() { CLEAN } else { WRONG };
    if format == Format::Json {
        return (mistake::render_json(found), code);
    }
    let mut text = mistake::render(found);
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&if outcome.is_ok() { summary } else { count(&name, found) });
    (text, code)
}

/// `shop: 2 shards, 4 nodes, 5 tables in 1 group`
fn summary(name: &str, map: &ShardMap) -> String {
    let mut text = format!("{name} is right\n");
    for database in map.databases.values() {
        let nodes = database.nodes().count();
        let (shards, groups, tables) = (database.shards.len(), database.groups.len(), database.tables.len());
        let line = format!(
            "  {}: {}, {}, {}, {}\n",
            database.name,
            plural(shards, "shard"),
            plural(nodes, "node"),
            plural(groups, "group"),
            plural(tables, "table"),
        );
        text.push_str(&line);
    }
    text
}

fn count(name: &str, found: &[Mistake]) -> String {
    let errors = found.iter().filter(|mistake| mistake.severity == Severity::Error).count();
    let warnings = found.len() - errors;
    let warnings = if warnings == 0 { String::new() } else { format!(" and {}", plural(warnings, "warning")) };
    format!("{name}: {}{warnings}\n", plural(errors, "mistake"))
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A JSON Schema of the map's format, for editors.
#[must_use]
pub fn json_schema() -> String {
    let generator: SchemaGenerator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<file::Map>();
    schema.insert("title".to_owned(), "Shardway shard map".into());
    format!("{:#}\n", schema.as_value())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct OneFile(&'static str);

    impl Environment for OneFile {
        fn variable(&self, _: &str) -> Option<String> {
            None
        }

        fn file(&self, path: &Path) -> Result<String, String> {
            if path == Path::new("map.yaml") { Ok(self.0.to_owned()) } else { Err("no such file".to_owned()) }
        }
    }

    const MAP: &str = "version: 1
listen: {postgres: 127.0.0.1:6432}
databases:
  shop:
    shards: {s1: [{host: a, role: replica}], s2: [b]}
    groups: {customer: {key: bigint, tables: {customers: id, orders: customer_id}}}
users: {demo: {auth: trust}}
";

    fn run(map: &'static str, format: Format) -> (String, u8) {
        check(Path::new("map.yaml"), format, &OneFile(map))
    }

    #[test]
    fn warnings_are_printed_and_are_no_failure() {
        let (text, code) = run(MAP, Format::Text);
        assert_eq!(code, 0);
        assert!(text.starts_with("map-no-primary\n"), "{text}");
        assert!(text.ends_with("map.yaml is right\n  shop: 2 shards, 2 nodes, 1 group, 2 tables\n"), "{text}");
    }

    #[test]
    fn mistakes_are_counted_and_fail() {
        let (text, code) = run("version: 1\n", Format::Text);
        assert_eq!(code, 1);
        assert!(text.ends_with("\nmap.yaml: 3 mistakes\n"), "{text}");
        let (text, code) = check(Path::new("none.yaml"), Format::Text, &OneFile(MAP));
        assert_eq!(code, 1);
        assert!(text.starts_with("map-unreadable\n") && text.contains("no such file"), "{text}");
    }

    #[test]
    fn tools_get_json() {
        let (text, code) = run("version: 3\n", Format::Json);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(code, 1);
        assert_eq!(json[0]["code"], "map-version");
        assert_eq!(
            (&json[0]["file"], &json[0]["line"], &json[0]["column"], &json[0]["length"]),
            (&"map.yaml".into(), &1.into(), &10.into(), &1.into())
        );
        assert_eq!(run(MAP, Format::Json).1, 0);
    }
}
