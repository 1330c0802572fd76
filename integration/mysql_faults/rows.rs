//! Answers that break off in the middle of their rows: by KILL, or with their server.

use std::thread;
use std::time::Instant;

use crate::client::Answer;
use crate::client::Client;
use crate::client::Types;
use crate::client::Value;
use crate::house::BOTH;
use crate::house::HANG;
use crate::house::House;
use crate::house::until;

/// Rows of a key before the one at which the server stands still, and the length of each: more than any buffer on the way
/// holds back.
const ROWS: usize = 2000;
const LONG: usize = 200;

/// Rows that come, and then none for a minute.
fn slow(key: i64) -> String {
    format!(
        "SELECT no, REPEAT('x', {LONG}), IF(no > {ROWS}, SLEEP(60), 0) FROM items WHERE id = {key} AND no > 0 ORDER BY no"
    )
}

/// Asks, and does something about it as soon as the server stands still.
fn asked(house: &House, client: &mut Client, ask: Ask<'_>, meanwhile: impl FnOnce()) -> Answer {
    let mut control = house.control(1);
    thread::scope(|scope| {
        let work = scope.spawn(|| ask(client));
        let sleeps = "SELECT 1 FROM information_schema.processlist WHERE state = 'User sleep'";
        until("the server to stand still", || !control.done(sleeps).expect("an answer").rows.is_empty());
        meanwhile();
        let began = Instant::now();
        let mut answers = work.join().expect("it answers");
        assert!(began.elapsed() < HANG, "it goes on");
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    })
}

type Ask<'a> = &'a (dyn Fn(&mut Client) -> Vec<Answer> + Sync);

/// Some rows, each as it should be, and then the error.
fn broke_off(answer: &Answer, errnos: &[u16]) {
    let error = answer.error.as_ref().expect("it broke off");
    assert!(errnos.contains(&error.errno), "{error}");
    assert!(!answer.rows.is_empty() && answer.rows.len() <= ROWS, "{} rows", answer.rows.len());
    assert!(answer.rows.iter().all(|it| it[1].as_ref().is_some_and(|text| text.len() == LONG)));
}

fn fill(house: &House, key: i64) {
    let rows = format!("INSERT INTO items SELECT {key}, seq FROM seq_1_to_{}", ROWS + 1);
    house.direct(1, BOTH).done(&rows).expect("rows");
}

#[test]
fn rows_that_are_killed_break_off_and_nothing_else() {
    let house = House::build("size: 6", "");
    let [_, two] = house.keys();
    fill(&house, two);
    let mut client = house.client(BOTH);
    let number = client.greeting().connection;
    let kill = || {
        house.client(BOTH).done(&format!("KILL QUERY {number}")).expect("it is killed");
    };
    let text = |client: &mut Client| client.query(&slow(two));
    let ask = format!("SELECT COUNT(*) FROM items WHERE id = {two} AND no <= 0");
    let count = |client: &mut Client| client.done(&ask).expect("an answer").value();

    broke_off(&asked(&house, &mut client, &text, kill), &[1317]);
    let warnings = client.done("SHOW WARNINGS").expect("rows").rows;
    assert_eq!(warnings.first().and_then(|it| it[1].as_deref()), Some(&b"1317"[..]));
    assert_eq!(count(&mut client).as_deref(), Some("0"));

    let prepared = client.prepare(&slow(two).replace(&format!("id = {two}"), "id = ?")).expect("it is prepared");
    for types in [Types::Told, Types::AsBefore] {
        let execute = |client: &mut Client| client.execute(&prepared, &[Value::Long(two)], types);
        broke_off(&asked(&house, &mut client, &execute, kill), &[1317]);
        assert_eq!(count(&mut client).as_deref(), Some("0"));
    }

    // What a transaction has done before is still there.
    client.done("BEGIN").expect("it begins");
    client.done(&format!("INSERT INTO items VALUES ({two}, 0)")).expect("a row");
    broke_off(&asked(&house, &mut client, &text, kill), &[1317]);
    client.done(&format!("INSERT INTO items VALUES ({two}, -1)")).expect("a row");
    assert_eq!(count(&mut client).as_deref(), Some("2"));
    client.done("COMMIT").expect("it commits");
    assert_eq!(count(&mut client).as_deref(), Some("2"));
}

#[test]
fn rows_of_a_server_that_dies_break_off_and_are_told_to() {
    let house = House::build("size: 6", "");
    let [one, two] = house.keys();
    fill(&house, two);
    let mut client = house.client(BOTH);
    let text = |client: &mut Client| client.query(&slow(two));
    let kill = || house.wait(house.node(1).kill9()).expect("it is killed");
    let ask = |key: i64| format!("SELECT COUNT(*) FROM items WHERE id = {key} AND no <= 0");
    let back = |client: &mut Client| {
        house.wait(house.node(1).start()).expect("it starts again");
        until("the shard to be back", || client.one(&ask(two)).error.is_none());
    };

    broke_off(&asked(&house, &mut client, &text, kill), &[1213]);
    // The session goes on.
    client.done(&ask(one)).expect("the other shard is there");
    back(&mut client);

    client.done("BEGIN").expect("it begins");
    client.done(&format!("INSERT INTO items VALUES ({two}, 0)")).expect("a row");
    broke_off(&asked(&house, &mut client, &text, kill), &[1213]);
    back(&mut client);
    // As behind a deadlock: what follows is outside of the transaction, which is undone.
    assert_eq!(client.done(&ask(two)).expect("an answer").value().as_deref(), Some("0"));
}
