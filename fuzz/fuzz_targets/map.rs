//! A map's text: read or refused without a panic; every mistake has a place and can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardway::shard_map::NoEnvironment;
use shardway::shard_map::ShardMap;
use shardway::shard_map::mistake;

fuzz_target!(|text: &str| {
    let mistakes = match ShardMap::parse("map", text, &NoEnvironment) {
        Ok((_, warnings)) => warnings,
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "a map is not refused without a reason");
            mistakes
        }
    };
    assert!(mistakes.iter().all(|it| it.line >= 1 && it.column >= 1));
    let _ = mistake::render(&mistakes);
});
