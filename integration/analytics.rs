//! TPC-H and ClickBench: three shards behind a proxy answer their queries as one plain server does, row for row.
//!
//! `SHARDWAY_TPCH_SCALE` is TPC-H's scale factor: 0.05 is some 300,000 lines of orders. With little of it some queries
//! find nothing, which is looked at from 0.05 on.

#[path = "analytics/clickbench.rs"]
mod clickbench;
#[path = "oracle/compare.rs"]
#[allow(dead_code, reason = "the oracle uses more of it")]
mod compare;
mod proxy;
#[path = "analytics/rig.rs"]
mod rig;
#[path = "analytics/tpch.rs"]
mod tpch;
#[path = "oracle/wire.rs"]
#[allow(dead_code, reason = "the oracle uses more of it")]
mod wire;

use std::env;

use proxy::Outcome;
use rig::Rig;
use wire::How;

const TPCH_SCALE: f64 = 0.05;
/// From this scale factor on, every query finds something.
const TPCH_SCALE_FULL: f64 = 0.05;
const HITS: usize = 20_000;

#[tokio::test]
async fn tpch_is_answered_as_by_one_server() -> Outcome {
    let scale = match env::var("SHARDWAY_TPCH_SCALE") {
        Ok(scale) => scale.parse()?,
        Err(_) => TPCH_SCALE,
    };
    let is_full = scale >= TPCH_SCALE_FULL;
    let queries = rig::queries(include_str!("analytics/tpch.sql"));
    assert_eq!(queries.len(), 22);
    let tables = tpch::tables(scale);
    let contents = (tables.as_slice(), tpch::INDEXES);
    let rig = Rig::start(&["tpch", "by_customer", "by_order"]).await?;
    rig.fill_plain("tpch", contents)?;
    let mut otherwise = Vec::new();
    // Each placement in another protocol and format, so that both are seen.
    for (database, title, placement, how) in [
        ("by_customer", "TPC-H customer-keyed", tpch::BY_CUSTOMER, (How::Simple, false)),
        ("by_order", "TPC-H order-keyed", tpch::BY_ORDER, (How::Unnamed, true)),
    ] {
        let answers = rig::ask(&mut rig.plain("tpch")?, &queries, how)?;
        if is_full {
            assert_eq!(rig::idle(&queries, &answers), Vec::<&str>::new(), "these find nothing");
        }
        let proxy = rig.serve(database, contents, placement).await?;
        otherwise.extend(rig::compare_all(title, &proxy, &queries, &answers, how)?);
        proxy.stop().await?;
    }
    assert_eq!(otherwise, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn clickbench_is_answered_as_by_one_server() -> Outcome {
    let queries = rig::queries(include_str!("analytics/clickbench.sql"));
    assert_eq!(queries.len(), 43);
    let tables = clickbench::tables(HITS);
    let contents = (tables.as_slice(), clickbench::INDEXES);
    let rig = Rig::start(&["clicks"]).await?;
    rig.fill_plain("clicks", contents)?;
    let how = (How::Simple, false);
    let answers = rig::ask(&mut rig.plain("clicks")?, &queries, how)?;
    assert_eq!(rig::idle(&queries, &answers), Vec::<&str>::new(), "these find nothing");
    let proxy = rig.serve("clicks", contents, clickbench::BY_USER).await?;
    let otherwise = rig::compare_all("ClickBench", &proxy, &queries, &answers, how)?;
    proxy.stop().await?;
    assert_eq!(otherwise, Vec::<String>::new());
    Ok(())
}
