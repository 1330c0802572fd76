//! A stranger's statement text: lexed, analysed and planned without a panic, and the same way twice.
#![no_main]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use shardway::plan;
use shardway::plan::Planner;
use shardway::plan::SessionView;
use shardway::plan::World;
use shardway::shard_map::NoEnvironment;
use shardway::shard_map::ShardMap;

fn prepare() -> (Planner, Rc<World>) {
    let (map, _) =
        ShardMap::parse("map", include_str!("../../shard-map.yaml"), &NoEnvironment).expect("the demo's map is right");
    let database = map.databases.values().next().expect("the demo has a database");
    let view = SessionView::plain("app");
    let mut planner = Planner::new(64);
    let world = planner.world(database, &Arc::new(plan::assumed_schema(database)), &view);
    (planner, world)
}

fn planned(planner: &mut Planner, world: &Rc<World>, text: &str) -> Vec<String> {
    match planner.compile(text, world) {
        Ok(statements) => statements
            .iter()
            .map(|it| {
                assert!(text.get(it.range.clone()).is_some(), "a statement lies in its text");
                match it.plan(text, None, world) {
                    Ok(plan) => it.explain(&plan, world),
                    Err(error) => format!("{error}: {}", error.hint),
                }
            })
            .collect(),
        Err(error) => vec![format!("{error}: {}", error.hint)],
    }
}

thread_local! {
    static KEPT: RefCell<(Planner, Rc<World>)> = RefCell::new(prepare());
}

fuzz_target!(|text: &str| {
    KEPT.with_borrow_mut(|(planner, world)| {
        // The second time the cache answers; it must say what the analysis said.
        let first = planned(planner, world, text);
        assert_eq!(first, planned(planner, world, text));
    });
});
