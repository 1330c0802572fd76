//! Every mistake that a map's text alone can show, as data: `tests/golden/map/*.golden` holds a map, `----`, and what
//! `shardway check` prints about it. `UPDATE_GOLDEN=1` rewrites the outcomes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use shardway::shard_map::Environment;
use shardway::shard_map::ShardMap;
use shardway::shard_map::mistake;

/// A machine on which some variables and files are there.
struct Machine;

impl Environment for Machine {
    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "SHOP_PASSWORD" | "OPS_TOKEN" | "OWNER_PASSWORD" => Some("hush".to_owned()),
            "GATHER_URL" => Some("postgres://gather.internal/postgres".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        let there = (path.starts_with("/run/secrets") || path.starts_with("/etc/shardway")) && !path.ends_with("none");
        if there { Ok("hush\n".to_owned()) } else { Err("no such file".to_owned()) }
    }
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn outcome(text: &str) -> String {
    match ShardMap::parse("shard-map.yaml", text, &Machine) {
        Ok((_, warnings)) if warnings.is_empty() => "ok\n".to_owned(),
        Ok((_, warnings)) => format!("ok, with warnings\n\n{}", mistake::render(&warnings)),
        Err(mistakes) => mistake::render(&mistakes),
    }
}

#[test]
fn every_mistake_is_shown_as_recorded() {
    let mut wrong = Vec::new();
    let mut cases = 0;
    for entry in fs::read_dir(root("tests/golden/map")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let (map, expected) = text.split_once("\n----\n").unwrap_or_else(|| (text.trim_end(), ""));
        let actual = outcome(&format!("{map}\n"));
        cases += 1;
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, format!("{map}\n----\n{actual}")).unwrap();
        } else if actual != expected {
            wrong.push(format!("{}\n--- expected\n{expected}\n--- actual\n{actual}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(cases > 60, "only {cases} cases were found");
}

/// A code that no case shows is a mistake that nobody has seen rendered.
#[test]
fn every_code_has_a_case() {
    let mut codes = BTreeSet::new();
    for file in sources(&root("src/shard_map")) {
        let text = fs::read_to_string(&file).unwrap();
        let product = text.split("#[cfg(test)]").next().unwrap();
        for part in product.split("\"map-").skip(1) {
            codes.insert(format!("map-{}", part.split('"').next().unwrap()));
        }
    }
    assert!(codes.len() > 50, "{codes:?}");
    // About the file itself, and about what a reload may not do: shown by the tests of `cli` and `diff`.
    for elsewhere in ["map-unreadable", "map-moves-rows", "map-other-database", "map-record-unreadable"] {
        assert!(codes.remove(elsewhere), "{elsewhere} is no code");
    }
    let shown: String = fs::read_dir(root("tests/golden/map"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let unseen: Vec<_> = codes.iter().filter(|code| !shown.lines().any(|line| line.trim() == **code)).collect();
    assert!(unseen.is_empty(), "no golden case shows {unseen:?}");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is in the repository") {
        let path = entry.expect("its entries can be read").path();
        if path.is_dir() { files.extend(sources(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn of_a_map_with_everything_it_is_said_what_has_no_effect() {
    let text = fs::read_to_string(root("tests/golden/maps/everything.yaml")).unwrap();
    let (_, warnings) = ShardMap::parse("everything.yaml", &text, &Machine).unwrap();
    let told: BTreeSet<&str> = warnings
        .iter()
        .map(|warning| {
            assert_eq!(warning.code, "map-no-effect", "{warning}");
            warning.message.split('`').nth(1).unwrap()
        })
        .collect();
    let without = [
        "gather.url",
        "limits.client_buffer",
        "limits.memory",
        "log.slow_query",
        "pool.idle_min",
        "reads.prefer",
        "zone",
    ];
    assert_eq!(told, without.into());
    // The page says so too.
    let page = fs::read_to_string(root("docs/shard-map.md")).unwrap();
    for key in without {
        let says = |line: &str| line.contains(&format!("`{key}`")) && line.to_lowercase().contains("no effect yet");
        assert!(page.lines().any(says), "docs/shard-map.md does not say that `{key}` has no effect");
    }
}

/// What is written behind secret keys is in no output.
#[test]
fn no_secret_is_printed() {
    let map = "version: 1\nlisten: {postgres: 0.0.0.0:6432}\ndatabases:\n  shop:\n    shards: {s1: [a:1]}\n    \
               groups: {g: {key: bigint, tables: {t: id}}}\nusers:\n  app: {password: tell-no-one, databases: [shp]}\n  \
               b: {passwrd: tell-no-one}\n  c:\n    password: [tell-no-one]\n  d: tell-no-one\n  \
               e: {password: {tell-no-one}}\n  f: {password: *tell-no-one}\n  g: {password: {environ: tell}}\n";
    let mistakes = ShardMap::parse("m.yaml", map, &Machine).unwrap_err();
    let (text, json) = (mistake::render(&mistakes), mistake::render_json(&mistakes));
    assert!(!text.contains("tell"), "{text}");
    assert!(!json.contains("tell"), "{json}");
    assert!(!format!("{mistakes:?}").contains("tell"));
    assert!(text.contains("m.yaml:8:44"), "{text}");
}

/// The keys that the demo's map shows as comments are right when they are taken in.
#[test]
fn the_demo_map_is_right_with_its_comments_and_without() {
    let text = fs::read_to_string(root("shard-map.yaml")).unwrap();
    assert_eq!(outcome(&text), "ok\n");
    let (map, _) = ShardMap::parse("shard-map.yaml", &text, &Machine).unwrap();
    let shop = &map.databases["shop"];
    let nodes: Vec<_> = shop.nodes().map(|(_, node)| (node.name.to_string(), node.port)).collect();
    let expected = [("s1-a", 6501), ("s1-b", 6502), ("s2-a", 6503), ("s2-b", 6504)];
    assert_eq!(nodes, expected.map(|(name, port)| (name.to_owned(), port)));
    assert_eq!(&*shop.control.as_ref().unwrap().user, "demo");

    let is_key = |line: &&str| line.trim_start().strip_prefix('#').is_some_and(|rest| !rest.starts_with([' ', '\n']));
    let commented = text.split_inclusive('\n').filter(is_key).count();
    assert!(commented > 30, "{commented}");
    let whole: String = text
        .split_inclusive('\n')
        .map(|line| if is_key(&line) { line.replacen('#', "", 1) } else { line.to_owned() })
        .collect();
    assert_eq!(outcome(&whole), "ok\n", "{whole}");
    let (whole, _) = ShardMap::parse("shard-map.yaml", &whole, &Machine).unwrap();
    assert_eq!(whole.databases["shop"].groups.len(), 5);

    // What stands there as the default is the default.
    assert_eq!((&whole.pool, &whole.timeouts), (&map.pool, &map.timeouts));
    assert_eq!((&whole.limits, &whole.log), (&map.limits, &map.log));
    let (with, without) = (&whole.databases["shop"], shop);
    assert_eq!((&with.reads, &with.failover, &with.tls), (&without.reads, &without.failover, &without.tls));
    assert_eq!(
        (with.across_shards, with.catalog, with.engine),
        (without.across_shards, without.catalog, without.engine)
    );
    assert_eq!(with.groups[0].function.buckets(), without.groups[0].function.buckets());
}

/// Every key of the format is shown in the demo's map.
#[test]
fn the_demo_map_shows_every_key() {
    fn keys(schema: &serde_json::Value, into: &mut BTreeSet<String>) {
        if let Some(properties) = schema.get("properties").and_then(|it| it.as_object()) {
            into.extend(properties.keys().cloned());
        }
        match schema {
            serde_json::Value::Object(object) => object.values().for_each(|value| keys(value, into)),
            serde_json::Value::Array(array) => array.iter().for_each(|value| keys(value, into)),
            _ => {}
        }
    }
    let schema: serde_json::Value = serde_json::from_str(&shardway::shard_map::cli::json_schema()).unwrap();
    let mut known = BTreeSet::new();
    keys(&schema, &mut known);
    assert!(known.len() > 80, "{known:?}");
    let text = fs::read_to_string(root("shard-map.yaml")).unwrap();
    let unseen: Vec<_> = known.iter().filter(|key| !text.contains(&format!("{key}:"))).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
}

/// Whatever is cut off, taken out or put in, there is an answer that renders, and it does not take long.
#[test]
fn a_mangled_map_is_answered() {
    let text = fs::read_to_string(root("tests/golden/maps/everything.yaml")).unwrap();
    // A ring takes a while to lay out.
    let text = text.replace("{ring: {s1: 1, s2: 1, s3: 2}}", "{s1: 0-16383}");
    let mut answers = 0;
    let mut try_map = |map: &str| {
        if let Err(mistakes) = ShardMap::parse("m.yaml", map, &Machine) {
            assert!(!mistakes.is_empty(), "refused without a reason:\n{map}");
            answers += mistake::render(&mistakes).len();
        }
    };
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    for at in places.iter().step_by(71) {
        try_map(&text[..*at]);
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for skipped in 0..lines.len() {
        let without: String =
            lines.iter().enumerate().filter(|(line, _)| *line != skipped).map(|(_, line)| *line).collect();
        try_map(&without);
    }
    let intruders =
        ["{", "]", "\"", "'", ": ", "\t", "&a ", "*a", "!x ", "\u{1F980}", "\0", "null", "- ", "99999999999999999999"];
    for (at, intruder) in places.iter().step_by(97).zip(intruders.iter().cycle()) {
        try_map(&format!("{}{intruder}{}", &text[..*at], &text[*at..]));
    }
    assert!(answers > 0);
}
