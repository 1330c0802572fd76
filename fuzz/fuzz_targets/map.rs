//! A map's text: read or refused without a panic; every mistake has a place and can be shown.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use shardway::shard_map::Environment;
use shardway::shard_map::ShardMap;
use shardway::shard_map::mistake;

struct Nothing;

impl Environment for Nothing {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn file(&self, _path: &Path) -> Result<String, String> {
        Err("no such file".to_owned())
    }
}

fuzz_target!(|text: &str| {
    let mistakes = match ShardMap::parse("map", text, &Nothing) {
        Ok((_, warnings)) => warnings,
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "a map is not refused without a reason");
            mistakes
        }
    };
    assert!(mistakes.iter().all(|it| it.line >= 1 && it.column >= 1));
    let _ = mistake::render(&mistakes);
});
