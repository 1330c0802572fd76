//! Pools that are full: who finds no connection in time is told so, nothing of what was asked is done, and everything goes
//! on when one comes free.

use std::thread;

use crate::client::Answer;
use crate::house::BOTH;
use crate::house::House;

fn errno(answer: &Answer) -> u16 {
    answer.error.as_ref().map_or(0, |it| it.errno)
}

/// As MySQL says that it has no connection left.
const TOO_MANY: u16 = 1040;

#[test]
fn who_finds_no_connection_in_time_is_told_so_and_goes_on() {
    let house = House::build("size: 1, wait: 300ms", "");
    let [one, two] = house.keys();
    let insert = |key: i64, no: i64| format!("INSERT INTO items VALUES ({key}, {no})");
    let count = "SELECT COUNT(*), MAX(no) FROM items";

    let mut holder = house.client(BOTH);
    holder.done("BEGIN").expect("it begins");
    holder.done(&insert(one, 1)).expect("a row");

    // Statements of one shard, of all, and of all by way of a server that gathers.
    let mut other = house.client(BOTH);
    let gathered = "SELECT a.no FROM items a JOIN items b ON a.no = b.no + 1 ORDER BY 1";
    for sql in [&*format!("SELECT no FROM items WHERE id = {one}"), &insert(one, 2), count, gathered] {
        let answer = other.one(sql);
        assert_eq!(errno(&answer), TOO_MANY, "{sql}: {answer:?}");
    }
    other.done(&insert(two, 4)).expect("the other shard has one");

    // Within a transaction the statement is not done, and what was done before it is committed.
    let mut within = house.client(BOTH);
    within.done("BEGIN").expect("it begins");
    within.done(&insert(two, 5)).expect("a row");
    for sql in [count, gathered] {
        let refused = within.one(sql);
        assert_eq!(errno(&refused), TOO_MANY, "{sql}: {refused:?}");
    }
    within.done("COMMIT").expect("it is done");

    holder.done("COMMIT").expect("it is done");
    let rows = |client: &mut crate::client::Client, key: i64| {
        let sql = format!("SELECT GROUP_CONCAT(no ORDER BY no) FROM items WHERE id = {key}");
        client.done(&sql).expect("an answer").value()
    };
    assert_eq!(rows(&mut other, one).as_deref(), Some("1"));
    assert_eq!(rows(&mut other, two).as_deref(), Some("4,5"));
    // One connection a server is enough for what is gathered, too.
    assert_eq!(other.done(gathered).expect("an answer").rows.len(), 1);
    assert_eq!(other.done(count).expect("an answer").value().as_deref(), Some("3"));
}

#[test]
fn many_clients_share_few_connections() {
    const CLIENTS: usize = 24;
    const ROUNDS: usize = 20;
    let house = House::build("size: 2, wait: 20s", "");
    let keys = house.keys();
    let gathered = "SELECT COUNT(*) FROM items a JOIN items b ON a.no = b.no";
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let mut client = house.client(BOTH);
            let key = keys[number % 2];
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let no = number * ROUNDS + round;
                    for sql in [
                        "BEGIN",
                        &format!("INSERT INTO items VALUES ({key}, {no})"),
                        "COMMIT",
                        &format!("SELECT no FROM items WHERE id = {key} AND no = {no}"),
                        "SELECT COUNT(*) FROM items",
                        if round % 5 == 0 { gathered } else { "SELECT no FROM items ORDER BY no LIMIT 3" },
                    ] {
                        let answer = client.one(sql);
                        assert_eq!(errno(&answer), 0, "{sql}: {answer:?}");
                    }
                }
            });
        }
    });
    let all = house.client(BOTH).done("SELECT COUNT(*) FROM items").expect("an answer").value();
    assert_eq!(all, Some((CLIENTS * ROUNDS).to_string()));
}
