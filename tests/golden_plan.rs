//! Where statements go, as data: `tests/golden/plan/*.golden`. A block is a comment saying why, the statement (with
//! `set:` and `params:` lines before it), `----`, and the outcome. `UPDATE_GOLDEN=1` rewrites the outcomes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken fixture ends the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use shardway::error::Code;
use shardway::ident::ShardId;
use shardway::ident::TableName;
use shardway::plan::Parameter;
use shardway::plan::Parameters;
use shardway::plan::Planner;
use shardway::plan::SessionView;
use shardway::schema::Column;
use shardway::schema::Relation;
use shardway::schema::RelationKind;
use shardway::schema::Schema;
use shardway::schema::Trigger;
use shardway::schema::UniqueIndex;
use shardway::schema::UserType;
use shardway::shard_map::NoEnvironment;
use shardway::shard_map::ShardMap;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plan")
}

fn oid(name: &str) -> u32 {
    match name {
        "bigint" => 20,
        "integer" => 23,
        "smallint" => 21,
        "text" => 25,
        "numeric" => 1700,
        "uuid" => 2950,
        "date" => 1082,
        "timestamptz" => 1184,
        "bytea" => 17,
        "bigint[]" => 1016,
        "text[]" => 1009,
        name if name.starts_with("varchar") => 1043,
        "public.mood" => 16_500,
        other => panic!("type {other}"),
    }
}

fn column(text: &str) -> Column {
    let (head, default) = match text.split_once('=') {
        Some((head, default)) => (head, Some(default.trim().trim_end_matches(" seq").trim_end_matches(" always"))),
        None => (text, None),
    };
    let mut words = head.split_whitespace();
    let name = words.next().unwrap();
    let type_name = words.next().unwrap();
    let length = type_name.split_once('(').map(|(_, rest)| rest.trim_end_matches(')').parse::<i32>().unwrap());
    Column {
        name: name.into(),
        type_oid: oid(type_name),
        type_name: type_name.into(),
        type_modifier: length.map_or(-1, |it| it + 4),
        not_null: words.any(|word| word == "!"),
        default: default.filter(|_| !text.ends_with(" always")).map(Into::into),
        generated: false,
        identity: text.ends_with(" always").then_some('a'),
        uses_sequence: text.ends_with(" seq") || text.ends_with(" always"),
        sequence: default
            .and_then(|it| it.split_once("nextval('")?.1.split_once('\''))
            .map(|(name, _)| TableName::parse(name)),
        deterministic: true,
        default_collation: true,
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (place, ch) in text.char_indices() {
        match ch {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..place].trim());
                start = place + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// What stands between the first `(` and its `)`, and what follows.
fn inside(text: &str) -> (&str, &str) {
    let open = text.find('(').unwrap();
    let mut depth = 0;
    for (place, ch) in text.char_indices().skip_while(|(place, _)| *place < open) {
        match ch {
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return (&text[open + 1..place], &text[place + 1..]);
                }
            }
            _ => {}
        }
    }
    panic!("unbalanced: {text}");
}

fn relation(line: &str, kind: RelationKind) -> Relation {
    let name = TableName::parse(line.split('(').next().unwrap().trim());
    let (columns, mut rest) = inside(line);
    let columns: Vec<Column> = split(columns).into_iter().map(column).collect();
    let mut relation = Relation { columns, ..Relation::bare(name, kind) };
    if let Some((_, definition)) = rest.split_once(" as ") {
        relation.definition = Some(definition.into());
        return relation;
    }
    let places = |relation: &Relation, names: &str| -> Vec<usize> {
        names.split(',').map(|name| relation.column(name.trim()).unwrap()).collect()
    };
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return relation;
        }
        if let Some(after) = rest.strip_prefix("pk") {
            let (names, after) = inside(after);
            let keys = places(&relation, names);
            let name = format!("{}_pkey", relation.name.name).into();
            relation.unique.push(UniqueIndex { name, columns: keys.iter().map(|it| Some(*it)).collect() });
            relation.primary_key = Some(keys);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("unique ") {
            let name = after.split('(').next().unwrap();
            let (names, after) = inside(after);
            let columns = places(&relation, names).into_iter().map(Some).collect();
            relation.unique.push(UniqueIndex { name: name.into(), columns });
            rest = after;
        } else {
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            match word {
                "rules" => relation.has_rules = true,
                "rls" => relation.row_security = true,
                "trigger" | "trigger-before" => {
                    relation.triggers.push(Trigger { name: after.trim().into(), before_row: word != "trigger" });
                    return relation;
                }
                other => panic!("option {other}"),
            }
            rest = after;
        }
    }
}

fn schema() -> Schema {
    let mut schema = Schema { server_version: 150_018, ..Schema::default() };
    schema.namespaces.insert("public".into());
    schema
        .system_relations
        .extend(["pg_class", "pg_namespace", "pg_settings", "pg_stat_activity", "pg_type"].map(Arc::from));
    for line in fs::read_to_string(folder().join("schema.txt")).unwrap().lines() {
        let Some((what, rest)) = line.split_once(' ').filter(|_| !line.starts_with('#')) else { continue };
        match what {
            "table" | "view" => {
                let kind = if what == "view" { RelationKind::View } else { RelationKind::Table };
                let relation = relation(rest, kind);
                schema.relations.insert(relation.name.clone(), Arc::new(relation));
            }
            "sequence" => {
                let relation = Relation::bare(TableName::parse(rest.trim_end_matches("()")), RelationKind::Sequence);
                schema.relations.insert(relation.name.clone(), Arc::new(relation));
            }
            "function" | "operator" => {
                let (namespace, name) = rest.split_once('.').unwrap();
                let map = if what == "function" { &mut schema.user_functions } else { &mut schema.user_operators };
                map.entry(name.into()).or_default().push(namespace.into());
            }
            "type" => {
                let (name, kind) = rest.split_once(' ').unwrap();
                let kind = kind.chars().next().unwrap();
                schema.user_types.insert(TableName::parse(name), UserType { oid: 16_500, kind, array_oid: 0 });
            }
            "namespace" => {
                schema.namespaces.insert(rest.into());
            }
            other => panic!("{other}"),
        }
    }
    schema
}

/// `?:5` undeclared text, `bigint:5` declared text, `bigint!:5` declared binary, `?bigint!:5` binary of a type that is
/// not declared, `null`.
fn parameter(text: &str) -> (u32, bool, Option<Vec<u8>>) {
    if text == "null" {
        return (0, false, None);
    }
    let (kind, value) = text.split_once(':').unwrap();
    let (kind, binary) = kind.strip_suffix('!').map_or((kind, false), |kind| (kind, true));
    let (kind, declared) = kind.strip_prefix('?').map_or((kind, true), |kind| (kind, false));
    let type_oid = if kind.is_empty() { 0 } else { oid(kind) };
    let bytes = match (binary, kind) {
        (false, _) | (true, "text") => value.as_bytes().to_vec(),
        (true, "bigint") => value.parse::<i64>().unwrap().to_be_bytes().to_vec(),
        (true, "integer") => value.parse::<i32>().unwrap().to_be_bytes().to_vec(),
        (true, "bigint[]") => {
            let items: Vec<i64> = value.split(',').map(|it| it.parse().unwrap()).collect();
            let mut bytes = Vec::new();
            for word in [1_i32, 0, 20, i32::try_from(items.len()).unwrap(), 1] {
                bytes.extend(word.to_be_bytes());
            }
            for item in items {
                bytes.extend(8_i32.to_be_bytes());
                bytes.extend(item.to_be_bytes());
            }
            bytes
        }
        other => panic!("{other:?}"),
    };
    (if declared { type_oid } else { 0 }, binary, Some(bytes))
}

struct Bench {
    map: ShardMap,
    schema: Arc<Schema>,
    planner: Planner,
}

fn outcome(bench: &mut Bench, statement: &str, codes: &mut BTreeSet<&'static str>) -> String {
    let mut session = SessionView::plain("app");
    let mut database = "shop";
    let mut parameters = Vec::new();
    let mut sql = Vec::new();
    for line in statement.lines() {
        if let Some(rest) = line.strip_prefix("set: ") {
            let (name, value) = rest.split_once(" = ").unwrap();
            match name {
                "search_path" => session.search_path = value.into(),
                "time_zone" => session.time_zone = value.into(),
                "client_encoding" => session.client_encoding = value.into(),
                "role" => session.role = Some(value.into()),
                "temporary" => session.temporary = Some((ShardId(1), vec![value.into()])),
                "hint" => session.hint = Some(ShardId(value.parse().unwrap())),
                "database" => database = if value == "small" { "small" } else { "shop" },
                other => panic!("{other}"),
            }
        } else if let Some(rest) = line.strip_prefix("params: ") {
            parameters = rest.split(" | ").map(parameter).collect();
        } else if !line.starts_with('#') {
            sql.push(line);
        }
    }
    let sql = sql.join("\n");
    let types: Vec<u32> = parameters.iter().map(|it| it.0).collect();
    let values: Vec<Parameter<'_>> =
        parameters.iter().map(|it| Parameter { binary: it.1, bytes: it.2.as_deref() }).collect();
    let given = Parameters { types: &types, values: &values };
    let given = if values.is_empty() { None } else { Some(&given) };
    let world = bench.planner.world(&bench.map.databases[database], &bench.schema, &session);
    let mut lines = Vec::new();
    match bench.planner.compile(&sql, &world) {
        Err(error) => lines.push(refusal(&error, codes)),
        Ok(planned) => {
            for one in &planned {
                match one.plan(&sql, given, &world) {
                    Err(error) => lines.push(refusal(&error, codes)),
                    Ok(plan) => lines.push(one.explain(&sql, &plan, &world)),
                }
                let template = &one.template;
                let mut effects = Vec::new();
                if let Some((at, list)) = &template.splice_columns {
                    let text = &sql[one.range.clone()];
                    effects.push(format!("splice {}{list}{}", &text[..*at], &text[*at..]));
                }
                let it = &template.effects;
                effects.extend(it.pins.iter().map(|pin| format!("pins {pin:?}")));
                effects.extend(it.unpins.then(|| "unpins".to_owned()));
                effects.extend(it.uses_now.then(|| "uses now".to_owned()));
                effects.extend(it.outside_transaction.then(|| "outside a transaction".to_owned()));
                effects.extend(it.changes_schema.then(|| "changes the schema".to_owned()));
                effects.extend(it.copy.map(|way| format!("copy {way:?}")));
                effects.extend(it.set_config.iter().map(|it| format!("set_config {} local {}", it.name, it.local)));
                if !effects.is_empty() {
                    lines.push(format!("and: {}", effects.join(", ")));
                }
            }
        }
    }
    lines.join("\n")
}

fn refusal(error: &shardway::error::ClientError, codes: &mut BTreeSet<&'static str>) -> String {
    codes.insert(error.code.label());
    let name = if error.code == Code::Unsupported { String::new() } else { format!(" {}", error.code.label()) };
    format!("refused {}{name}: {}\nhint: {}", error.code.sqlstate(), error.message, error.hint)
}

/// A case as `docs/sql-support.md` shows it.
struct Case {
    file: String,
    sql: String,
    /// The first line of its outcome.
    outcome: String,
    hint: String,
}

/// The same for all names: `function …` for `function secret`.
fn pattern(outcome: &str) -> String {
    let mut out = String::new();
    for (place, part) in outcome.split('"').enumerate() {
        out.push_str(if place % 2 == 0 { part } else { "\"…\"" });
    }
    let words: Vec<&str> = out.split(' ').collect();
    let mut shown: Vec<&str> = Vec::new();
    for (place, word) in words.iter().enumerate() {
        let behind = |names: &[&str]| place > 0 && names.contains(&words[place - 1]);
        let is_name = behind(&["function", "type", "operator"])
            || (behind(&["this"]) && words.get(place + 1) == Some(&"statement"));
        shown.push(if is_name { "…" } else { word });
    }
    let out = shown.join(" ");
    match (out.find(" shards: "), out.find(" (settings")) {
        (Some(place), _) => format!("{} shards", &out[..place]),
        (None, Some(place)) => format!("{} (…){}", &out[..place], out[place..].split_once(')').unwrap().1),
        (None, None) => out,
    }
}

fn cell(text: &str) -> String {
    format!("`{}`", text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|"))
}

/// What the cases say, as the tables of `docs/sql-support.md`, by their names.
fn tables(cases: &[Case]) -> Vec<(String, String)> {
    const WAYS: [&str; 12] = [
        "single",
        "any",
        "concat",
        "split",
        "move",
        "merge",
        "gather",
        "carry:",
        "look",
        "draw",
        "everywhere",
        "session:",
    ];
    let mut ways = "| way | for example |\n|---|---|\n".to_owned();
    for way in WAYS {
        let short = cases.iter().filter(|it| it.outcome.split(' ').next() == Some(way) && it.sql.len() < 90);
        // Spread over all there are.
        let short: Vec<&Case> = short.collect();
        let step = short.len().div_ceil(5).max(1);
        let examples: Vec<String> = short.iter().step_by(step).map(|it| cell(&it.sql)).collect();
        ways.push_str(&format!("| {} | {} |\n", way.trim_end_matches(':'), examples.join("<br>")));
    }
    let mut all = vec![("ways".to_owned(), ways)];
    for file in ["reads", "writes", "ddl", "functions", "session"] {
        let mut rows: Vec<(String, &Case)> = Vec::new();
        for case in cases.iter().filter(|it| it.file == file) {
            let Some(refused) = case.outcome.strip_prefix("refused ") else { continue };
            let shown = pattern(refused.strip_prefix("0A000: ").unwrap_or(refused));
            match rows.iter_mut().find(|it| it.0 == shown) {
                Some(known) if known.1.sql.len() > case.sql.len() => known.1 = case,
                Some(_) => {}
                None => rows.push((shown, case)),
            }
        }
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let mut table = "| refused with | for example | instead |\n|---|---|---|\n".to_owned();
        for (shown, case) in rows {
            table.push_str(&format!(
                "| {} | {} | {} |\n",
                cell(&shown),
                cell(&case.sql),
                case.hint.replace('|', "\\|")
            ));
        }
        all.push((file.to_owned(), table));
    }
    all
}

/// Puts each table between the marks that bear its name.
fn with_tables(page: &str, cases: &[Case]) -> String {
    let mut page = page.to_owned();
    for (name, table) in tables(cases) {
        let (open, close) = (format!("<!-- cases: {name} -->\n"), format!("<!-- end of {name} -->"));
        let (before, rest) = page.split_once(&open).unwrap_or_else(|| panic!("docs/sql-support.md lacks {open}"));
        let (_, after) = rest.split_once(&close).unwrap_or_else(|| panic!("docs/sql-support.md lacks {close}"));
        page = format!("{before}{open}\n{table}\n{close}{after}");
    }
    page
}

#[test]
fn statements_go_where_recorded() {
    let text = fs::read_to_string(folder().join("map.yaml")).unwrap();
    let (map, _) = ShardMap::parse("map.yaml", &text, &NoEnvironment)
        .unwrap_or_else(|mistakes| panic!("{}", shardway::shard_map::mistake::render(&mistakes)));
    let mut bench = Bench { map, schema: Arc::new(schema()), planner: Planner::new(100) };
    let mut wrong = Vec::new();
    let mut cases = Vec::new();
    let mut codes = BTreeSet::new();
    let mut files: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "golden"));
    files.sort();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let mut rewritten = String::new();
        for block in text.trim_end().split("\n\n") {
            let (statement, expected) = block.split_once("\n----").unwrap_or((block, ""));
            let actual = outcome(&mut bench, statement, &mut codes);
            // A hit in the cache must say the same.
            assert_eq!(outcome(&mut bench, statement, &mut codes), actual, "{statement}");
            let said =
                |line: &&str| !line.starts_with('#') && !line.starts_with("set: ") && !line.starts_with("params: ");
            let mut told = actual.lines();
            cases.push(Case {
                file: path.file_stem().unwrap().to_string_lossy().into_owned(),
                sql: statement.lines().filter(said).collect::<Vec<_>>().join(" "),
                outcome: told.next().unwrap_or_default().to_owned(),
                hint: told.next().and_then(|it| it.strip_prefix("hint: ")).unwrap_or_default().to_owned(),
            });
            rewritten.push_str(&format!("{statement}\n----\n{actual}\n\n"));
            if actual.trim_end() != expected.trim() {
                wrong.push(format!("{}\n{statement}\n--- expected{expected}\n--- actual\n{actual}", path.display()));
            }
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, format!("{}\n", rewritten.trim_end())).unwrap();
        }
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sql-support.md");
    let text = fs::read_to_string(&page).unwrap();
    let current = with_tables(&text, &cases);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&page, &current).unwrap();
    } else {
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        assert_eq!(text, current, "docs/sql-support.md is not what the cases say: UPDATE_GOLDEN=1 rewrites it");
    }
    assert!(cases.len() > 200, "only {} cases were found", cases.len());
    for code in ["Unsupported", "TableNotMapped", "FunctionNotReviewed", "KeyRequired", "ShardKeyNull", "TableUnfit"] {
        assert!(codes.contains(code), "no case shows {code}");
    }
}
