//! What MySQL clients say to the proxy is answered as by one server, to the last field of a column, or refused.

#[path = "mysql/across.rs"]
mod across;
#[path = "mysql/cases.rs"]
mod cases;
#[path = "mysql/client.rs"]
mod client;
#[path = "mysql/commands.rs"]
mod commands;
#[path = "mysql/compare.rs"]
mod compare;
#[path = "mysql/files.rs"]
mod files;
#[path = "mysql/house.rs"]
mod house;
#[path = "mysql/kills.rs"]
mod kills;
#[path = "mysql/merges.rs"]
mod merges;
#[path = "mysql/parameters.rs"]
mod parameters;
mod proxy;
#[path = "mysql/reads.rs"]
mod reads;
#[path = "mysql/rig.rs"]
mod rig;
#[path = "mysql/sessions.rs"]
mod sessions;
#[path = "mysql/texts.rs"]
mod texts;
#[path = "mysql/usual.rs"]
mod usual;
#[path = "mysql/writes.rs"]
mod writes;

use client::Answer;
use client::Failure;
use compare::is_refused;
use house::Against;
use house::House;
use proxy::Outcome;

/// Which cases are run: those whose title holds it.
fn wanted() -> String {
    std::env::var("MYSQL_CASE").unwrap_or_default()
}

#[tokio::test]
async fn mysql_clients_are_answered_as_by_one_server_or_refused() -> Outcome {
    let house = House::build(Against::Proxy).await?;
    let found = rig::run(&house, Against::Proxy, &wanted())?;
    let found = found.and(files::differences(&house, Against::Proxy, &wanted())?);
    found.and(commands::differences(&house, Against::Proxy, &wanted())?).told(&house.log())?;
    house.stop().await
}

/// Oracle's servers keep 1024 by default.
#[tokio::test]
async fn servers_may_keep_more_conditions_of_a_file_than_usual() -> Outcome {
    let house = House::build_with(Against::Proxy, "SET GLOBAL max_error_count = 200").await?;
    rig::Found::default().and(files::many_conditions(&house)?).told(&house.log())?;
    house.stop().await
}

/// What is found here is a mistake of these tests: something that is another on every server.
#[tokio::test]
async fn two_plain_servers_are_alike() -> Outcome {
    let house = House::build(Against::Plain).await?;
    let found = rig::run(&house, Against::Plain, &wanted())?;
    let found = found.and(files::differences(&house, Against::Plain, &wanted())?);
    found.and(commands::differences(&house, Against::Plain, &wanted())?).told("")?;
    house.stop().await
}

#[tokio::test]
async fn an_answer_or_a_row_that_differs_is_noticed() -> Outcome {
    let house = House::build(Against::Plain).await?;
    let mut direct = house.direct(2)?;
    direct.fill()?;
    direct.plainly("UPDATE items SET price = price + 0.01 WHERE id = 1 AND no = 2")?;
    let told = direct.difference()?.ok_or("nothing is told")?;
    assert!(told.starts_with("table items") && told.contains("1,2,ink,20.01"), "{told}");

    // One server counts digits otherwise.
    house.plain_server("SET GLOBAL div_precision_increment = 6").await?;
    let found = rig::run(&house, Against::Plain, "without a table")?;
    let problems = found.problems();
    assert!(problems.iter().all(|it| it.contains("7 / 2") && it.contains("where one server has")), "{problems:#?}");
    assert_eq!(problems.len(), 4, "in each way: {problems:#?}");
    house.stop().await
}

#[test]
fn a_refusal_is_told_from_a_servers_own() {
    let answer = |errno, message: &str| {
        let sqlstate = if errno == 1364 { "HY000" } else { "42000" }.to_owned();
        let error = Failure { errno, sqlstate, message: message.to_owned() };
        vec![Answer::default(), Answer { error: Some(error), ..Answer::default() }]
    };
    assert!(is_refused(&answer(1235, "an aggregate over several shards")));
    assert!(!is_refused(&answer(1235, "This version of MariaDB doesn't yet support 'LIMIT & IN'")));
    assert!(is_refused(&answer(1364, "insert into \"t\" gives no value for its shard key")));
    assert!(!is_refused(&answer(1364, "Field 'id' doesn't have a default value")));
    assert!(!is_refused(&answer(1064, "You have an error in your SQL syntax")));
}
