//! What the program does without serving: check a map, explain a statement, serve beside a demo.

use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::ConnectOptions;
use sqlx::Row;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgDatabaseError;
use sqlx::postgres::PgSslMode;

use crate::local_cluster::demo::Serving;
use crate::plan;
use crate::plan::Planner;
use crate::plan::SessionView;
use crate::server;
use crate::server::Settings;
use crate::server::Stop;
use crate::server::fleet::WithPlaces;
use crate::server::fleet::text_of;
use crate::shard_map::Engine;
use crate::shard_map::ShardMap;
use crate::shard_map::UserAuth;
use crate::shard_map::cli;
use crate::shard_map::cli::Format;
use crate::shard_map::live::ProcessEnvironment;
use crate::shard_map::mistake;
use crate::topology::connect_check;
use crate::topology::fit;
use crate::topology::mysql::own;
use crate::topology::two_phase;
use crate::topology::verify;

/// `shardway check`: what to print, and the exit code.
#[must_use]
pub fn check(path: &Path, connect: bool, format: Format) -> (String, u8) {
    let (mut text, mut code) = cli::check(path, format, &WithPlaces);
    if !connect || code != 0 {
        return (text, code);
    }
    let found = read(path).and_then(|map| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|it| it.to_string())?;
        Ok(runtime.block_on(connect_check::check_connect(&map)))
    });
    match found {
        Ok(findings) => {
            text = match format {
                Format::Text => findings.iter().fold(text, |text, finding| format!("{text}{finding}\n")),
                Format::Json => joined(&text, &findings),
            };
            if findings.iter().any(|finding| finding.severity == fit::Severity::Error) {
                code = 1;
            }
        }
        Err(error) => {
            text.push_str(&format!("{error}\n"));
            code = 1;
        }
    }
    (text, code)
}

/// `shardway check --connect --prepare`: shows what it runs, runs it, and tells where.
///
/// # Errors
/// What could not be done.
pub fn prepare(path: &Path, tell: &mut dyn FnMut(String)) -> Result<(), String> {
    let map = read(path)?;
    let has = |engine| map.databases.values().any(|it| it.engine == engine);
    if has(Engine::Postgres) {
        tell(format!("{};\n{};", two_phase::SCHEMA, two_phase::SETUP));
    }
    if has(Engine::Mysql) {
        tell(format!("{};", own::SETUP.join(";\n")));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|it| it.to_string())?;
    runtime.block_on(connect_check::prepare(&map, tell))
}

/// `shardway verify`: what to print, and the exit code: 0 all is right, 1 something is not, 2 something could not be
/// looked at. How it goes on, and what could not be looked at, is told.
#[must_use]
pub fn verify(path: &Path, request: &verify::Request, format: Format, tell: &mut dyn FnMut(String)) -> (String, u8) {
    let verified = read(path).and_then(|map| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|it| it.to_string())?;
        Ok(runtime.block_on(verify::verify(&map, request, tell)))
    });
    let verified = verified.unwrap_or_else(|error| verify::Verified { findings: Vec::new(), unseen: vec![error] });
    let wrong = verified.findings.iter().any(|finding| finding.severity == fit::Severity::Error);
    let code = if !verified.unseen.is_empty() { 2 } else { u8::from(wrong) };
    for unseen in verified.unseen {
        tell(format!("not looked at: {unseen}"));
    }
    let text = match format {
        Format::Text => verified.findings.iter().map(|finding| format!("{finding}\n")).collect(),
        Format::Json => joined("[]", &verified.findings),
    };
    (text, code)
}

/// `shardway switchover`: asks the running proxy's console, and tells each step with when it was done.
///
/// # Errors
/// Why it was not done, and what there is to do.
pub fn switchover(
    path: &Path,
    shard: &str,
    to: Option<&str>,
    user: Option<&str>,
    tell: &mut dyn FnMut(String),
) -> Result<(), String> {
    let map = read(path)?;
    let has = |database: &str, shard: &str| {
        map.databases.get(database).is_some_and(|it| it.shards.iter().any(|it| *it.name == *shard))
    };
    let qualified = match shard.rsplit_once('.') {
        Some((database, name)) if has(database, name) => shard.to_owned(),
        _ => match map.databases.keys().filter(|it| has(it, shard)).collect::<Vec<_>>().as_slice() {
            [database] => format!("{database}.{shard}"),
            [] => return Err(format!("the map has no shard \"{shard}\"")),
            _ => return Err(format!("several databases have a shard \"{shard}\": write DATABASE.{shard}")),
        },
    };
    let admin = match user {
        Some(name) => map.admins.get(name).ok_or_else(|| format!("the map has no \"{name}\" under admin"))?,
        None => map.admins.values().next().ok_or("the map has nobody under admin, whom the console lets in")?,
    };
    let mut address = map.listen.postgres.ok_or("the map has no listen: postgres, where the console is")?;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let password = match &admin.auth {
        UserAuth::Password(secret) => secret.reveal(),
        UserAuth::Trust => "",
    };
    let options = PgConnectOptions::new_without_pgpass()
        .host(&address.ip().to_string())
        .port(address.port())
        .username(&admin.name)
        .password(password)
        .database("shardway")
        .ssl_mode(PgSslMode::Prefer);
    let to = to.map(|it| format!(" TO {it}")).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|it| it.to_string())?;
    runtime.block_on(async {
        let failed =
            |error: sqlx::Error| match error.as_database_error().map(|it| it.try_downcast_ref::<PgDatabaseError>()) {
                Some(Some(it)) => format!("{}\n{}", it.message(), it.hint().unwrap_or_default()),
                _ => error.to_string(),
            };
        let mut console =
            options.connect().await.map_err(|error| format!("the console at {address}: {}", failed(error)))?;
        let mut steps = sqlx::raw_sql(AssertSqlSafe(format!("SWITCHOVER {qualified}{to}"))).fetch(&mut console);
        while let Some(row) = poll_fn(|cx| steps.as_mut().poll_next(cx)).await {
            let row = row.map_err(failed)?;
            let cell = |at: usize| row.try_get::<String, _>(at).map_err(failed);
            tell(format!("{:>9} ms  {}", cell(0)?, cell(1)?));
        }
        Ok(())
    })
}

/// A JSON array of mistakes with what was found at the servers added to it.
fn joined(mistakes: &str, findings: &[fit::Finding]) -> String {
    let mut all: Vec<serde_json::Value> =
        serde_json::from_str(mistakes).expect("mistakes are rendered as a JSON array by cli::check");
    all.extend(findings.iter().map(|finding| {
        let severity = match finding.severity {
            fit::Severity::Error => "error",
            fit::Severity::Warning => "warning",
            fit::Severity::Note => "note",
        };
        json!({"severity": severity, "code": finding.code, "message": finding.message, "hint": finding.hint})
    }));
    format!("{:#}\n", serde_json::Value::Array(all))
}

/// `shardway explain`: where a statement would go, by the map alone.
///
/// # Errors
/// A map that cannot be read, or a database that it does not have.
pub fn explain(path: &Path, database: Option<&str>, sql: &str) -> Result<String, String> {
    let map = read(path)?;
    let database = match database {
        Some(name) => map.databases.get(name).ok_or_else(|| format!("the map has no database \"{name}\""))?,
        None => map.databases.values().next().ok_or("the map has no database")?,
    };
    let schema = Arc::new(plan::assumed_schema(database));
    let view = match database.engine {
        Engine::Postgres => SessionView::plain("app"),
        Engine::Mysql => SessionView::plain_mysql("app", &database.server_name),
    };
    let mut planner = Planner::new(16);
    let world = planner.world(database, &schema, &view);
    let mut text = String::new();
    match planner.compile(sql, &world) {
        Ok(statements) => {
            for statement in &statements {
                match statement.plan(sql, None, &world) {
                    Ok(plan) => {
                        text.push_str(statement.explain(sql, &plan, &world).trim_end());
                        text.push('\n');
                    }
                    Err(error) => text.push_str(&refused(&error)),
                }
            }
        }
        Err(error) => text.push_str(&refused(&error)),
    }
    Ok(text)
}

fn refused(error: &crate::error::ClientError) -> String {
    format!("refused {}: {}\nhint: {}\n", error.code.sqlstate(), error.message, error.hint)
}

fn read(path: &Path) -> Result<ShardMap, String> {
    let text = text_of(path).map_err(|error| format!("{}: {error}", path.display()))?;
    ShardMap::parse(&path.display().to_string(), &text, &ProcessEnvironment)
        .map(|(map, _)| map)
        .map_err(|mistakes| mistake::render(&mistakes))
}

/// Serves a map on a thread of its own, beside the demo's servers.
#[must_use]
pub fn serve_beside(path: &Path) -> Serving {
    let stop = Stop::default();
    let settings = Settings { map: path.to_owned(), workers: None, ..Settings::default() };
    let (sender, ended) = tokio::sync::oneshot::channel();
    let started = std::thread::Builder::new().name("proxy".to_owned()).spawn({
        let stop = stop.clone();
        move || {
            // The demo's servers are new: they are set up as `check --connect --prepare` does it.
            if let Err(error) = prepare(&settings.map, &mut |_| {}) {
                tracing::warn!(error, "transactions over several shards are refused");
            }
            // Nobody may be waiting for the end any more.
            let _ = sender.send(server::run(&settings, &stop).map_err(|error| error.to_string()));
        }
    });
    Serving {
        ended: Box::pin(async move {
            if let Err(error) = started {
                return Err(error.to_string());
            }
            ended.await.unwrap_or_else(|_| Err("the proxy's thread broke".to_owned()))
        }),
        stop: Box::new(move || stop.stop()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_get_one_array_of_what_the_map_and_the_servers_show() {
        let path = std::env::temp_dir().join(format!("shardway-check-{}.yaml", std::process::id()));
        // Nothing listens on port 1.
        let map = "version: 1\nlisten: {postgres: 127.0.0.1:6432}\ndatabases:\n  shop:\n    shards: {s1: [127.0.0.1:1]}\n\
                   users: {demo: {auth: trust}}\npool: {idle_min: 2}\n";
        std::fs::write(&path, map).unwrap();
        let (text, code) = check(&path, true, Format::Json);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(code, 1, "{text}");
        let all: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let codes: Vec<_> =
            all.iter().map(|it| (it["severity"].as_str().unwrap(), it["code"].as_str().unwrap())).collect();
        assert_eq!(codes[0], ("warning", "map-no-effect"));
        assert!(codes.contains(&("error", "node-unreachable")), "{codes:?}");
    }

    #[test]
    fn statements_are_explained_by_the_rules_of_their_databases_engine() {
        let path = std::env::temp_dir().join(format!("shardway-explain-{}.yaml", std::process::id()));
        let map = "version: 1\nlisten: {mysql: 127.0.0.1:6433}\ndatabases:\n  shop:\n    engine: mysql\n    shards: {s1: \
                   [127.0.0.1:1], s2: [127.0.0.1:2]}\n    groups: {customer: {key: bigint, placement: {s1: 0-8191, s2: 8192-16383}, \
                   tables: {customers: id}}}\nusers: {demo: {auth: trust}}\n";
        std::fs::write(&path, map).unwrap();
        let told = explain(&path, None, "SELECT `name` FROM `customers` WHERE `id` = 7").unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(told.starts_with("single s"), "{told}");
    }
}
