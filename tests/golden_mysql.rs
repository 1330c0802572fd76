//! Where statements of MySQL go, as data: `tests/golden/mysql/*.golden`, in the form of `golden_plan`'s.
//! `UPDATE_GOLDEN=1` rewrites the outcomes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken fixture ends the test")]

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use shardway::error::Code;
use shardway::ident::TableName;
use shardway::plan::Parameter;
use shardway::plan::Parameters;
use shardway::plan::Plan;
use shardway::plan::Planner;
use shardway::plan::SessionView;
use shardway::schema::Column;
use shardway::schema::Relation;
use shardway::schema::RelationKind;
use shardway::schema::Schema;
use shardway::schema::Trigger;
use shardway::schema::UniqueIndex;
use shardway::shard_map::Database;
use shardway::shard_map::Engine;
use shardway::shard_map::NoEnvironment;
use shardway::shard_map::ShardMap;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mysql")
}

/// The number of the Postgres type that behaves alike.
fn oid(name: &str) -> u32 {
    match name.split('(').next().unwrap() {
        "bigint" => 20,
        "int" => 23,
        "smallint" => 21,
        "varchar" | "char" | "text" => 25,
        "uuid" => 2950,
        "date" => 1082,
        "varbinary" | "binary" => 17,
        _ => 0,
    }
}

fn column(text: &str) -> Column {
    let has = |mark: &str| text.split(' ').any(|it| it == mark);
    let words: Vec<&str> = text.split(' ').filter(|it| !["!", "auto", "loose"].contains(it)).collect();
    Column {
        name: words[0].into(),
        type_oid: oid(words[1]),
        type_name: words[1..].join(" ").into(),
        type_modifier: -1,
        not_null: has("!"),
        default: None,
        generated: false,
        identity: None,
        uses_sequence: has("auto"),
        sequence: None,
        deterministic: !has("loose"),
        default_collation: true,
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|it| {
        depth += i32::from(it == '(') - i32::from(it == ')');
        it == ',' && depth == 0
    })
    .map(str::trim)
    .collect()
}

fn relation(line: &str) -> Relation {
    let (name, rest) = line.split_once(": ").unwrap();
    let mut parts = rest.split("; ");
    let columns: Vec<Column> = split(parts.next().unwrap()).into_iter().map(column).collect();
    let mut relation = Relation { columns, ..Relation::bare(TableName::new("shop", name), RelationKind::Table) };
    for part in parts {
        let words: Vec<&str> = part.split(' ').collect();
        let places = |from: usize| words[from..].iter().map(|it| Some(relation.column(it).unwrap())).collect();
        match words[0] {
            "pk" => relation.unique.push(UniqueIndex { name: "PRIMARY".into(), columns: places(1) }),
            "unique" => relation.unique.push(UniqueIndex { name: words[1].into(), columns: places(2) }),
            "view" => relation.kind = RelationKind::View,
            "trigger-before" => relation.triggers.push(Trigger { name: words[1].into(), before_row: true }),
            other => panic!("option {other}"),
        }
    }
    relation
}

fn schema() -> Schema {
    let mut schema = Schema { server_version: 101_106, ..Schema::default() };
    for line in fs::read_to_string(folder().join("schema.txt")).unwrap().lines().filter(|it| !it.starts_with('#')) {
        let relation = relation(line);
        schema.relations.insert(relation.name.clone(), Arc::new(relation));
    }
    schema
}

/// `int:5`, `string:abc`, `bytes:abc`, `other:5` (a float, a date, …), `null`.
fn parameter(text: &str) -> (u32, Option<Vec<u8>>) {
    let Some((kind, value)) = text.split_once(':') else { return (25, None) };
    let number = match kind {
        "int" => 20,
        "string" => 25,
        "bytes" => 17,
        "other" => 0,
        other => panic!("{other}"),
    };
    (number, Some(value.as_bytes().to_vec()))
}

struct Bench {
    databases: Vec<Arc<Database>>,
    schema: Arc<Schema>,
    planner: Planner,
}

fn outcome(bench: &mut Bench, statement: &str) -> String {
    let mut session = SessionView::plain_mysql("app", "shop");
    let mut database = 0;
    let mut parameters = Vec::new();
    let mut sql = Vec::new();
    for line in statement.lines() {
        if let Some(rest) = line.strip_prefix("set: ") {
            let (name, value) = rest.split_once(" = ").unwrap();
            match name {
                "use" => session.search_path = value.trim_matches('-').into(),
                "sql_mode" => session.sql_mode = value.into(),
                "character_set" => session.client_encoding = value.into(),
                "database" => database = usize::from(value == "small"),
                other => panic!("{other}"),
            }
        } else if let Some(rest) = line.strip_prefix("params: ") {
            parameters = rest.split(" | ").map(parameter).collect();
        } else if !line.starts_with("# ") {
            sql.push(line);
        }
    }
    let sql = sql.join("\n");
    let types: Vec<u32> = parameters.iter().map(|it| it.0).collect();
    let values: Vec<Parameter<'_>> =
        parameters.iter().map(|it| Parameter { binary: false, bytes: it.1.as_deref() }).collect();
    let given = Parameters { types: &types, values: &values };
    let given = if values.is_empty() { None } else { Some(&given) };
    let world = bench.planner.world(&bench.databases[database], &bench.schema, &session);
    let mut lines = Vec::new();
    match bench.planner.compile(&sql, &world) {
        Err(error) => lines.push(refusal(&error)),
        Ok(planned) => {
            for one in &planned {
                match one.plan(&sql, given, &world) {
                    Err(error) => lines.push(refusal(&error)),
                    Ok(plan) => {
                        let allowed = matches!(
                            plan,
                            Plan::Everywhere
                                | Plan::Draw
                                | Plan::One(_)
                                | Plan::Any
                                | Plan::Concat(_)
                                | Plan::Shadow(_)
                                | Plan::Split(_)
                                | Plan::Session
                        );
                        assert!(allowed, "{sql}: {plan:?}");
                        lines.push(one.explain(&sql, &plan, &world));
                    }
                }
                let template = &one.template;
                let it = &template.effects;
                let mut effects = Vec::new();
                if let Some((at, list)) = &template.splice_columns {
                    let text = &sql[one.range.clone()];
                    effects.push(format!("splice {}{list}{}", &text[..*at], &text[*at..]));
                }
                effects.extend(it.asks_session.iter().map(|what| format!("asks for {what}")));
                effects.extend(it.pins.iter().map(|pin| format!("pins {pin:?}")));
                effects.extend(it.unpins.then(|| "unpins".to_owned()));
                effects.extend(it.changes_schema.then(|| "changes the schema".to_owned()));
                effects.extend((template.parameters > 0).then(|| format!("{} parameters", template.parameters)));
                if !effects.is_empty() {
                    lines.push(format!("and: {}", effects.join(", ")));
                }
            }
        }
    }
    lines.join("\n")
}

fn refusal(error: &shardway::error::ClientError) -> String {
    let name = if error.code == Code::Unsupported { String::new() } else { format!(" {}", error.code.label()) };
    format!("refused{name}: {}\nhint: {}", error.message, error.hint)
}

fn bench() -> Bench {
    let text = fs::read_to_string(folder().join("map.yaml")).unwrap();
    let (map, _) = ShardMap::parse("map.yaml", &text, &NoEnvironment)
        .unwrap_or_else(|mistakes| panic!("{}", shardway::shard_map::mistake::render(&mistakes)));
    let of_mysql = |name: &str| Arc::new(Database { engine: Engine::Mysql, ..(*map.databases[name]).clone() });
    let databases = vec![of_mysql("shop"), of_mysql("small")];
    Bench { databases, schema: Arc::new(schema()), planner: Planner::new(100) }
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "golden"));
    files.sort();
    files
}

#[test]
fn statements_go_where_recorded() {
    let mut bench = bench();
    let (mut wrong, mut cases) = (Vec::new(), 0);
    for path in files() {
        let text = fs::read_to_string(&path).unwrap();
        let mut rewritten = String::new();
        for block in text.trim_end().split("\n\n") {
            let (statement, expected) = block.split_once("\n----").unwrap_or((block, ""));
            let actual = outcome(&mut bench, statement);
            // A hit in the cache must say the same.
            assert_eq!(outcome(&mut bench, statement), actual, "{statement}");
            rewritten.push_str(&format!("{statement}\n----\n{actual}\n\n"));
            cases += 1;
            if actual.trim_end() != expected.trim() {
                wrong.push(format!("{}\n{statement}\n--- expected{expected}\n--- actual\n{actual}", path.display()));
            }
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, format!("{}\n", rewritten.trim_end())).unwrap();
        } else {
            assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        }
    }
    assert!(cases > 100, "only {cases} cases were found");
}

#[test]
fn mutated_statements_never_panic() {
    let mut bench = bench();
    let mut seeds: Vec<String> = Vec::new();
    for path in files() {
        let text = fs::read_to_string(path).unwrap();
        seeds.extend(text.split("\n\n").map(|block| {
            let statement = block.split_once("\n----").map_or(block, |it| it.0);
            statement.lines().filter(|it| !it.starts_with("# ")).collect::<Vec<_>>().join("\n")
        }));
    }
    let pieces =
        ["(", ")", ",", "'", "`", ";", "SELECT", "FROM", "?", "7", "NULL", "ON", "é", "/*", "-- ", ".", "*", "@x"];
    let mut state = 0x1234_5678_9ABC_DEF1_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..3000 {
        let mut lines: Vec<&str> = seeds[random(seeds.len())].lines().collect();
        let Some(last) = lines.pop() else { continue };
        let mut words: Vec<&str> = last.split(' ').collect();
        for _ in 0..=random(4) {
            let at = random(words.len());
            match random(3) {
                0 => words.insert(at, pieces[random(pieces.len())]),
                1 => words[at] = pieces[random(pieces.len())],
                _ => {
                    let other = random(words.len());
                    words.swap(at, other);
                }
            }
        }
        let last = words.join(" ");
        lines.push(&last);
        let _ = outcome(&mut bench, &lines.join("\n"));
    }
}

#[test]
fn deep_and_long_statements_are_planned_or_refused_without_harm() {
    let mut bench = bench();
    let times = |it: &str, count: usize| it.repeat(count);
    for count in [10, 150, 1000, 20_000] {
        for text in [
            format!("SELECT {}1{}", times("(", count), times(")", count)),
            format!("SELECT * FROM users WHERE id = 7{}", times(" OR id = 7", count / 2)),
            format!("SELECT * FROM users WHERE id = 7{}", times(" AND id = 7", count / 2)),
            format!("SELECT 1{}", times("+1", count)),
            format!("SELECT 1{}", times(" UNION ALL SELECT 1", count / 10)),
            format!("SELECT * FROM users WHERE id IN (7{})", times(", 7", count)),
            format!("INSERT INTO users (id) VALUES (7){}", times(", (7)", count)),
            format!("INSERT INTO users (id, name) VALUES (7, 'a'){}", times(", (7, lower('a'))", count / 10)),
            format!("SELECT {}1", times("- ", count)),
            format!("SELECT * FROM users WHERE {} id = 7", times("NOT ", count)),
        ] {
            let _ = outcome(&mut bench, &text);
        }
    }
}
