//! The edges between the modules, the purity of what decides, and what the papers list.
//!
//! `docs/architecture.md` has the table of layers; this holds the code to it, in both directions.

#![expect(clippy::unwrap_used, reason = "a file that is not as expected ends the test")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use shardway::error::Code;

/// The common vocabulary, which every layer may use.
const LEAVES: [&str; 6] = ["clock", "error", "ident", "mistakes", "schema", "tasks"];

/// The leaves that pure code may use: the clock and tasks are for those who wait.
const PURE_LEAVES: [&str; 4] = ["error", "ident", "mistakes", "schema"];

/// Folders and files that compute only.
const PURE: [&str; 22] = [
    "src/error",
    "src/ident.rs",
    "src/plan",
    "src/schema",
    "src/shard_map",
    "src/sql",
    "src/topology/choose.rs",
    "src/topology/cut.rs",
    "src/topology/fit.rs",
    "src/topology/freshness.rs",
    "src/topology/gtid.rs",
    "src/topology/health.rs",
    "src/topology/lead.rs",
    "src/topology/lead/mark.rs",
    "src/topology/lead/standbys.rs",
    "src/topology/monitor.rs",
    "src/topology/mysql/catalog.rs",
    "src/topology/mysql/fit.rs",
    "src/topology/pace.rs",
    "src/topology/roles.rs",
    "src/topology/rotation.rs",
    "src/wire",
];

/// What waits or reads within them: the map's file, and `shardway check`.
const NOT_PURE: [&str; 2] = ["src/shard_map/cli.rs", "src/shard_map/live.rs"];

/// What pure code has no business with.
const IMPURE: [&str; 9] =
    [".await", "async fn", "tokio::", "std::fs", "std::env", "std::process", "::now()", "rand::", "sqlx::"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file with that ending below a folder (or the file itself), in order, as paths from the root.
fn files(below: &str, ending: &str) -> Vec<String> {
    fn gather(path: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                gather(&entry.unwrap().path(), ending, found);
            }
        } else if path.extension().is_some_and(|it| it == ending) {
            found.push(path.to_owned());
        }
    }
    let mut found = Vec::new();
    gather(&root().join(below), ending, &mut found);
    let mut names: Vec<String> =
        found.iter().map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// A file's code without comments, line by line with its number; tests at its end are left out on request.
fn code(file: &str, with_tests: bool) -> Vec<(usize, String)> {
    let text = read(&root().join(file));
    let text = if with_tests { &*text } else { text.split("\n#[cfg(test)]\nmod tests").next().unwrap() };
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line.split(" // ").next().unwrap().to_owned()))
        .collect()
}

/// The first module that each `crate::…` of a line names.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").filter_map(|(at, found)| {
        let before = line[..at].chars().next_back();
        let rest = &line[at + found.len()..];
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(rest.len());
        (!before.is_some_and(|c| c.is_alphanumeric() || c == '_') && end > 0).then(|| &rest[..end])
    })
}

/// The layer of a file: its folder or file directly below `src/`.
fn layer(file: &str) -> &str {
    file.trim_start_matches("src/").split(['/', '.']).next().unwrap()
}

/// The table of `docs/architecture.md`: layer → the layers that it uses besides the leaves.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let page = read(&root().join("docs/architecture.md"));
    let mut table = BTreeMap::new();
    let rows = page.lines().skip_while(|line| !line.starts_with("| layer | uses |")).skip(2);
    for row in rows.take_while(|line| line.starts_with('|')) {
        let mut cells = row.trim_matches('|').split('|');
        let layer = cells.next().unwrap().trim().trim_matches('`').to_owned();
        let uses = cells.next().unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(table.insert(layer.clone(), uses).is_none(), "docs/architecture.md lists {layer} twice");
    }
    table
}

#[test]
fn each_layer_uses_what_the_table_says_and_all_of_it() {
    let table = table();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files("src", "rs") {
        let layer = layer(&file);
        if ["lib", "main"].contains(&layer) || LEAVES.contains(&layer) {
            continue;
        }
        let uses = used.entry(layer.to_owned()).or_default();
        for (number, line) in code(&file, true) {
            for other in named(&line).filter(|it| *it != layer && !LEAVES.contains(it)) {
                let allowed = table.get(layer).is_some_and(|may| may.contains(other));
                assert!(allowed, "{file}:{number}: {layer} may not use {other} (docs/architecture.md)");
                uses.insert(other.to_owned());
            }
        }
    }
    assert_eq!(used, table, "docs/architecture.md lists edges or layers that are not there");
}

/// Whoever reads a layer need not know those that stand on it.
#[test]
fn no_layer_uses_itself_by_way_of_others() {
    let table = table();
    for layer in table.keys() {
        let mut reached = BTreeSet::new();
        let mut ahead: Vec<&String> = table[layer].iter().collect();
        while let Some(next) = ahead.pop() {
            assert!(next != layer, "{layer} uses itself by way of {reached:?} (docs/architecture.md)");
            if reached.insert(next) {
                ahead.extend(&table[next]);
            }
        }
    }
}

#[test]
fn leaves_use_leaves_only() {
    for leaf in LEAVES {
        let folder = format!("src/{leaf}");
        let path = if root().join(&folder).is_dir() { folder } else { format!("{folder}.rs") };
        for file in files(&path, "rs") {
            for (number, line) in code(&file, true) {
                for other in named(&line) {
                    assert!(LEAVES.contains(&other), "{file}:{number}: the leaf {leaf} uses {other}");
                }
            }
        }
    }
}

/// `super::` must not be a way around the table: at the top of a layer it would reach its neighbours.
#[test]
fn no_layer_reaches_another_by_super() {
    for file in files("src", "rs") {
        let top = file.matches('/').count() == 1 || (file.ends_with("/mod.rs") && file.matches('/').count() == 2);
        for (number, line) in code(&file, false) {
            assert!(!(top && line.starts_with("use super::")), "{file}:{number}: name the layer by crate::");
            assert!(!line.contains("super::super::super::"), "{file}:{number}: name the layer by crate::");
        }
    }
}

#[test]
fn pure_code_computes_only() {
    let pure = PURE.iter().flat_map(|place| files(place, "rs")).filter(|file| !NOT_PURE.contains(&file.as_str()));
    let mut seen = 0;
    for file in pure {
        seen += 1;
        for (number, line) in code(&file, false) {
            for word in IMPURE {
                assert!(!line.contains(word), "{file}:{number}: {word} in pure code");
            }
            // The types of addresses are words, not sockets.
            let net = line.replace("std::net::SocketAddr", "").replace("std::net::IpAddr", "");
            assert!(!net.contains("std::net"), "{file}:{number}: sockets in pure code");
            if !file.starts_with("src/topology") {
                for leaf in named(&line).filter(|it| LEAVES.contains(it)) {
                    assert!(PURE_LEAVES.contains(&leaf), "{file}:{number}: {leaf} in pure code");
                }
            }
        }
    }
    assert!(seen > 40, "the list of pure code names folders that are gone");
}

/// No code shares its name, every SQLSTATE has the form of one, and each is raised somewhere.
#[test]
fn every_error_code_is_one_of_a_kind_and_raised() {
    let mut labels = BTreeSet::new();
    let sources: Vec<String> = files("src", "rs")
        .iter()
        .filter(|file| *file != "src/error/code.rs")
        .flat_map(|file| code(file, false))
        .map(|(_, line)| line)
        .collect();
    for code in Code::ALL {
        assert!(labels.insert(code.label()), "{} twice", code.label());
        let state = code.sqlstate();
        assert!(
            state.len() == 5 && state.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()),
            "{}: {state:?} is no SQLSTATE",
            code.label()
        );
        let name = format!("Code::{}", code.label());
        let raised = sources.iter().any(|line| {
            line.match_indices(&name)
                .any(|(at, _)| !line[at + name.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_'))
        });
        assert!(raised, "{name} is raised nowhere");
    }
}

/// Every key that the map's JSON Schema knows stands in `docs/shard-map.md`, in the same words.
#[test]
fn every_key_of_the_map_is_documented() {
    fn gather(value: &serde_json::Value, keys: &mut BTreeSet<(String, String)>) {
        match value {
            serde_json::Value::Object(object) => {
                if let Some(serde_json::Value::Object(properties)) = object.get("properties") {
                    for (key, about) in properties {
                        let told = about.get("description").and_then(|it| it.as_str()).unwrap_or_default();
                        keys.insert((key.clone(), told.to_owned()));
                    }
                }
                object.values().for_each(|it| gather(it, keys));
            }
            serde_json::Value::Array(all) => all.iter().for_each(|it| gather(it, keys)),
            _ => {}
        }
    }
    let schema: serde_json::Value = serde_json::from_str(&shardway::shard_map::cli::json_schema()).unwrap();
    let mut keys = BTreeSet::new();
    gather(&schema, &mut keys);
    assert!(keys.len() > 80, "the schema lost its keys");
    let page = read(&root().join("docs/shard-map.md"));
    // "| `reads.wait` | How long … |"
    let row = |line: &str| {
        let (key, about) = line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | ")?;
        Some((key.rsplit('.').next()?.to_owned(), about.to_owned()))
    };
    let (_, keys_of_page) = page.split_once("\n## Every key\n").unwrap();
    let listed: BTreeSet<(String, String)> = keys_of_page.lines().filter_map(row).collect();
    let missing: Vec<_> = keys.difference(&listed).collect();
    assert!(missing.is_empty(), "docs/shard-map.md does not say {missing:#?}");
    let unknown: Vec<_> = listed.difference(&keys).collect();
    assert!(unknown.is_empty(), "docs/shard-map.md says what the schema does not: {unknown:#?}");
}

/// A dependency that nothing names is built for nothing.
#[test]
fn every_dependency_is_used() {
    let sources: Vec<String> = ["src", "tests", "integration", "examples"]
        .iter()
        .flat_map(|place| files(place, "rs"))
        .flat_map(|file| code(&file, true))
        .map(|(_, line)| line)
        .collect();
    let manifest = read(&root().join("Cargo.toml"));
    let mut listed = 0;
    for section in
        manifest.split("\n[").filter(|it| it.starts_with("dependencies]") || it.starts_with("dev-dependencies]"))
    {
        for name in section.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name) {
            listed += 1;
            // The one package whose library has another name.
            let library = if name == "rustls-webpki" { "webpki".to_owned() } else { name.replace('-', "_") };
            let path = format!("{library}::");
            let used = sources.iter().any(|line| {
                line.match_indices(&path).any(|(at, _)| {
                    !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':')
                })
            });
            assert!(used, "Cargo.toml: nothing uses {name}");
        }
    }
    assert!(listed > 30, "Cargo.toml is not read as it is written");
}

/// `cargo test` needs no database: whatever starts servers is in `integration/`, and off by default.
#[test]
fn tests_that_start_servers_are_off_by_default() {
    for file in files("tests", "rs").iter().filter(|file| *file != "tests/architecture.rs") {
        for (number, line) in code(file, true) {
            let starts = line.contains("local_cluster::") || line.contains("Command::new");
            assert!(!starts, "{file}:{number}: what starts servers belongs into integration/");
        }
    }
    let manifest = read(&root().join("Cargo.toml"));
    let named: BTreeSet<String> = manifest
        .split("\n[[test]]\n")
        .skip(1)
        .map(|section| {
            let section = section.split("\n[").next().unwrap();
            assert!(section.contains("test = false"), "Cargo.toml: {section}");
            section.split("path = \"").nth(1).unwrap().split('"').next().unwrap().to_owned()
        })
        .collect();
    let there = files("integration", "rs").into_iter().filter(|file| file.matches('/').count() == 1).collect();
    assert_eq!(named, there, "Cargo.toml lists other integration tests than there are");
}

/// Nothing tells on whose machine it was written.
#[test]
fn no_file_names_a_machine() {
    let own = root().to_str().unwrap();
    for (place, endings) in [
        ("src", &["rs", "txt"][..]),
        ("tests", &["rs", "golden", "yaml", "txt"]),
        ("docs", &["md"]),
        ("docker", &["md", "yaml"]),
        ("integration", &["rs", "py", "sh", "js", "java"]),
        ("examples", &["rs"]),
        ("fuzz/fuzz_targets", &["rs"]),
    ] {
        for ending in endings {
            for file in files(place, ending) {
                let text = read(&root().join(&file));
                assert!(!text.contains(own), "{file} names {own}");
                // Homebrew's folder on Linux is nobody's home.
                for home in text.split(concat!("/ho", "me/")).skip(1) {
                    assert!(home.starts_with("linuxbrew/"), "{file} names somebody's home");
                }
                assert!(!text.contains(concat!("/Use", "rs/")), "{file} names somebody's home");
            }
        }
    }
}
