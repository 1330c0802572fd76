//! Where log lines go, and how they look.

use std::io::IsTerminal;
use std::path::Path;

use tracing_subscriber::EnvFilter;

use crate::fleet::place::Place;
use crate::shard_map::ShardMap;
use crate::shard_map::live::ProcessEnvironment;

/// Starts logging to standard error as the map at `path` asks; a map that cannot be read is told of later, and one in etcd is
/// asked for later.
pub fn start(path: &Path) {
    if path.to_str().is_some_and(Place::is_meant) {
        return;
    }
    start_by(&std::fs::read_to_string(path).unwrap_or_default());
}

/// Starts logging to standard error as that map asks.
pub(super) fn start_by(text: &str) {
    let log = ShardMap::parse("map", text, &ProcessEnvironment).ok().map(|(map, _)| map.log);
    let level = log.as_ref().map_or("info", |log| &*log.level).to_owned();
    let format = log.as_ref().map_or("auto", |log| &*log.format).to_owned();
    let json = match format.as_str() {
        "json" => true,
        "text" => false,
        _ => !std::io::stderr().is_terminal(),
    };
    install(&level, json);
}

/// Starts logging for the demo: warnings only, as text.
pub fn start_for_demo() {
    install("warn", false);
}

fn install(level: &str, json: bool) {
    let filter = EnvFilter::try_from_env("SHARDWAY_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // Colours are for people: in a file they are noise.
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // Somebody else may have installed a subscriber already (tests do).
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}
