//! Servers that are killed, stand still, or are slower than `timeouts.statement` has it.

use std::time::Instant;

use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;
use shardway::wire::mysql::capability;

use crate::client::Answer;
use crate::client::Client;
use crate::client::MODERN;
use crate::client::Types;
use crate::client::Value;
use crate::house::BOTH;
use crate::house::HANG;
use crate::house::House;
use crate::house::ONE;
use crate::house::until;

/// The number of rows of a key in `items`, as its server has them.
fn rows(house: &House, shard: usize, key: i64) -> String {
    let sql = format!("SELECT COUNT(*) FROM items WHERE id = {key}");
    house.direct(shard, BOTH).done(&sql).expect("an answer").value().expect("a row")
}

fn errno(answer: &Answer) -> u16 {
    answer.error.as_ref().map_or(0, |it| it.errno)
}

fn insert(key: i64, no: i64) -> String {
    format!("INSERT INTO items VALUES ({key}, {no})")
}

fn restart(house: &House, shard: usize) {
    house.wait(house.node(shard).kill9()).expect("it is killed");
    house.wait(house.node(shard).start()).expect("it starts again");
}

#[test]
fn what_a_killed_server_takes_with_it_is_told() {
    let house = House::build("size: 6", "");
    let [one, two] = house.keys();
    let ask = format!("SELECT COUNT(*) FROM items WHERE id = {two}");

    // Idle connections: the next statement is done once, or told not to be.
    let mut idle = house.client(BOTH);
    idle.done(&ask).expect("an answer");
    let prepared = idle.prepare(&format!("INSERT INTO items VALUES ({two}, ?)")).expect("it is prepared");
    let first = idle.execute(&prepared, &[Value::Long(1)], Types::Told);
    assert_eq!(errno(&first[0]), 0, "{first:?}");
    let mut within = house.client(BOTH);
    within.done("BEGIN").expect("it begins");
    within.done(&insert(two, 2)).expect("a row");
    within.done(&insert(one, 2)).map_err(|error| error.errno).map_or_else(|errno| assert_eq!(errno, 1235), |_| ());
    let mut before_commit = house.client(BOTH);
    before_commit.done("START TRANSACTION").expect("it begins");
    before_commit.done(&insert(two, 3)).expect("a row");
    let mut without = house.client(BOTH);
    without.done("SET autocommit = 0").expect("it is set");
    without.done(&insert(two, 4)).expect("a row");
    let mut reader = house.client(BOTH);
    reader.done("BEGIN").expect("it begins");
    reader.done(&ask).expect("rows");
    restart(&house, 1);
    assert_eq!(idle.done(&ask).expect("an answer").value().as_deref(), Some("1"));
    let again = idle.execute(&prepared, &[Value::Long(5)], Types::AsBefore);
    assert_eq!(errno(&again[0]), 0, "{again:?}");
    assert_eq!(rows(&house, 1, two), "2");

    // The transaction is gone, and told to be once: what follows is outside of it, as behind a deadlock.
    let lost = within.one(&insert(two, 6));
    assert_eq!(errno(&lost), 1213, "{lost:?}");
    assert_eq!(rows(&house, 1, two), "2");
    within.done("ROLLBACK").expect("it is over");
    within.done(&insert(two, 7)).expect("a row");
    // Of a COMMIT that no server has heard it may be known that it was not done.
    let lost = before_commit.one("COMMIT");
    assert!([1213, 1105].contains(&errno(&lost)), "{lost:?}");
    assert_eq!(rows(&house, 1, two), "3");
    before_commit.done(&insert(two, 8)).expect("a row");
    let lost = without.one(&insert(two, 9));
    assert_eq!(errno(&lost), 1213, "{lost:?}");
    without.done("ROLLBACK").expect("it is over");
    without.done(&insert(two, 10)).expect("a row");
    without.done("ROLLBACK").expect("it is undone");
    let lost = reader.one(&ask);
    assert_eq!(errno(&lost), 1213, "{lost:?}");
    reader.done("COMMIT").expect("there is nothing to be lost");
    assert_eq!(rows(&house, 1, two), "4");
    assert_eq!(rows(&house, 0, one), "0");

    // The server's own KILL of a connection within a transaction, and of an idle one.
    let mut direct = house.direct(1, BOTH);
    let kill_all = |direct: &mut Client| {
        let sql = "SELECT id FROM information_schema.processlist WHERE user = 'demo' AND id <> CONNECTION_ID()";
        for row in direct.done(sql).expect("an answer").rows {
            let id = String::from_utf8_lossy(row[0].as_deref().unwrap_or_default()).into_owned();
            // It may have gone by itself.
            direct.query(&format!("KILL {id}"));
        }
        until("connections to be gone", || direct.done(sql).expect("an answer").rows.is_empty());
    };
    within.done("BEGIN").expect("it begins");
    within.done(&insert(two, 11)).expect("a row");
    kill_all(&mut direct);
    assert_eq!(errno(&within.one(&insert(two, 12))), 1213);
    // A server forgets a connection before it closes it: what is said in between is not known to be done.
    let again = |client: &mut Client, no: i64| {
        let answer = client.one(&insert(two, no));
        if errno(&answer) != 0 {
            assert_eq!(errno(&answer), 1105, "{answer:?}");
            client.done(&format!("INSERT IGNORE INTO items VALUES ({two}, {no})")).expect("a row");
        }
    };
    again(&mut within, 13);
    kill_all(&mut direct);
    again(&mut within, 14);
    assert_eq!(rows(&house, 1, two), "6");

    // With a shard gone the others go on; what needs it is refused, and no session ends.
    house.wait(house.node(1).kill9()).expect("it is killed");
    let mut client = house.client(BOTH);
    client.done(&insert(one, 20)).expect("a row");
    house.wait(house.node(1).start()).expect("it starts again");
    until("the shard to be back", || client.one(&ask).error.is_none());
}

#[test]
fn what_takes_too_long_is_told_and_what_it_was_part_of_is_undone() {
    let house = House::build("size: 4", "timeouts: {statement: 1s}\n");
    let [one, two] = house.keys();
    let slow = format!("SELECT SLEEP(30) FROM t WHERE id = {two}");
    house.client(BOTH).done(&format!("INSERT INTO t (id) VALUES ({two})")).expect("a row");

    // On its own.
    let mut client = house.client(BOTH);
    let began = Instant::now();
    let late = client.query(&slow);
    assert_eq!((late.len(), errno(&late[0])), (1, 1969), "{late:?}");
    assert!(began.elapsed() < HANG / 2, "{:?}", began.elapsed());
    client.done(&insert(two, 1)).expect("a row");
    let late = client.one(&format!("UPDATE t SET a = SLEEP(30) WHERE id = {two}"));
    assert_eq!(errno(&late), 1105, "{late:?}");
    let mut direct = house.direct(1, BOTH);
    until("the server to stop", || {
        let sql =
            "SELECT id FROM information_schema.processlist WHERE info LIKE '%SLEEP(30)%' AND id <> CONNECTION_ID()";
        direct.done(sql).expect("an answer").rows.is_empty()
    });

    // In a transaction, with BEGIN and without: what follows is refused until the client has ended it.
    for begin in ["BEGIN", "SET autocommit = 0"] {
        let mut client = house.client(BOTH);
        client.done(begin).expect("it begins");
        client.done(&insert(two, 2)).expect("a row");
        let late = client.one(&slow);
        assert_eq!(errno(&late), 1969, "{begin}: {late:?}");
        let next = client.one(&insert(two, 3));
        assert_eq!(errno(&next), 1213, "{begin}: {next:?}");
        let commit = client.one("COMMIT");
        assert_eq!(errno(&commit), 1213, "{begin}: {commit:?}");
        client.done(&insert(two, 4)).expect("a row");
        client.done("ROLLBACK").expect("it ends");
        // Without autocommit the first statement begins a transaction, be it one that takes too long.
        let late = client.one(&slow);
        assert_eq!(errno(&late), 1969, "{begin}: {late:?}");
        client.done("ROLLBACK").expect("it ends");
        client.done(&format!("DELETE FROM items WHERE id = {two} AND no > 1")).expect("an answer");
        client.done("COMMIT").expect("it ends");
    }
    assert_eq!(rows(&house, 1, two), "1");
    // A prepared one.
    let late = client.run(&slow, &[]);
    assert_eq!((late.len(), errno(&late[0])), (1, 1969), "{late:?}");

    // A server that stands still: a read, a write, a transaction's end, and what the others have.
    let mut within = house.client(BOTH);
    within.done("BEGIN").expect("it begins");
    within.done(&insert(two, 5)).expect("a row");
    let mut quick = house.client(BOTH);
    quick.done(&format!("SELECT a FROM t WHERE id = {two}")).expect("an answer");
    house.wait(house.node(1).freeze()).expect("it stands still");
    let began = Instant::now();
    let read = quick.one(&format!("SELECT a FROM t WHERE id = {two}"));
    assert_ne!(errno(&read), 0, "{read:?}");
    quick.done(&insert(one, 5)).expect("the other shard goes on");
    let commit = within.one("COMMIT");
    let took = began.elapsed();
    house.wait(house.node(1).thaw()).expect("it goes on");
    assert!([1105, 1213].contains(&errno(&commit)), "{commit:?}");
    assert!(took < HANG, "{took:?}");
    // What became of it is one or the other, and stays.
    until("the shard to be back", || {
        house.client(BOTH).one(&format!("SELECT a FROM t WHERE id = {two}")).error.is_none()
    });
    assert!(!within.is_lost() && !quick.is_lost());
    within.done("ROLLBACK").expect("it is over");
    let after = rows(&house, 1, two);
    assert!(["1", "2"].contains(&after.as_str()), "{after}");

    // One that left a lock on the connection that was lost hears it by its session's end.
    let mut holder = house.client(ONE);
    assert_eq!(holder.done("SELECT GET_LOCK('slow', 0)").expect("an answer").value().as_deref(), Some("1"));
    let late = holder.one("SELECT SLEEP(30)");
    assert_eq!(errno(&late), 1969, "{late:?}");
    let next = holder.one("SELECT 1");
    assert!(holder.is_lost(), "{next:?}");
    let mut other = house.direct(0, ONE);
    until("the lock to be free", || other.one("SELECT IS_FREE_LOCK('slow')").value().as_deref() == Some("1"));
}

/// Whether a server has nothing of the kind to do.
fn is_done(direct: &mut Client, like: &str) -> bool {
    let sql =
        format!("SELECT id FROM information_schema.processlist WHERE info LIKE '{like}' AND id <> CONNECTION_ID()");
    direct.done(&sql).expect("an answer").rows.is_empty()
}

#[test]
fn what_a_client_says_of_its_file_is_no_command() {
    const LOAD: &str = "LOAD DATA LOCAL INFILE 'f' INTO TABLE items";
    // Stopped by the limit; broken.
    for limit in ["1s", "0s"] {
        let house = House::build("size: 4", &format!("timeouts: {{statement: {limit}}}\n"));
        for packed in [0, capability::COMPRESS, capability::ZSTD] {
            let capabilities = MODERN | capability::LOCAL_FILES | packed;
            let mut client =
                Client::connect_with(house.proxy, USER, PASSWORD, ONE, capabilities).expect("it is let in");
            let asked = client.payload(3, LOAD.as_bytes()).expect("an answer");
            assert_eq!(asked.first(), Some(&0xfb), "{asked:?}");
            client.piece(b"1\t1\n").expect("it is sent");
            let mut direct = house.direct(0, ONE);
            until("the statement to be over", || {
                if limit == "0s" {
                    direct.query("SELECT id INTO @it FROM information_schema.processlist WHERE info LIKE 'LOAD%'");
                    direct.query("KILL @it");
                }
                is_done(&mut direct, "LOAD%")
            });
            // As a client goes on that has heard nothing, with what would be commands.
            for no in 1..100 {
                // Who was cut off hears that below.
                let _ = client.piece(format!("\x03INSERT INTO t (id) VALUES ({no})").as_bytes());
            }
            let _ = client.piece(&[]);
            let told = client.hear_of_file();
            let context = format!("{limit}, {packed:#x}: {told:?}");
            assert_eq!(direct.one("SELECT COUNT(*) FROM t").value().as_deref(), Some("0"), "{context}");
            assert!(told.len() == 1 && [1105, 1213, 1969].contains(&errno(&told[0])), "{context}");
            // LOAD DATA may have left something on its connection, which is lost: the session ends.
            let next = client.one("SELECT COUNT(*) FROM items");
            assert!(client.is_lost(), "{context}: {next:?}");
            assert_eq!(direct.one("SELECT COUNT(*) FROM items").value().as_deref(), Some("0"), "{context}");
        }
    }
}

#[test]
fn who_says_nothing_in_a_transaction_holds_nothing_for_long() {
    let house = House::build("size: 2", "timeouts: {idle_in_transaction: 1s}\n");
    let [_, two] = house.keys();
    for begin in ["BEGIN", "SET autocommit = 0"] {
        let mut idle = house.client(BOTH);
        idle.done(begin).expect("it begins");
        idle.done(&insert(two, 1)).expect("a row");
        // Blocked by the row of the other, until that has been thrown out.
        let mut other = house.client(BOTH);
        other.done(&insert(two, 1)).expect("a row, once the other is gone");
        other.done(&format!("DELETE FROM items WHERE id = {two}")).expect("it goes");
        let next = idle.one("COMMIT");
        assert!(idle.is_lost(), "{begin}: {next:?}");
    }
    // Outside of a transaction nobody is hurried; without autocommit nothing is open before the first statement.
    let mut patient = house.client(BOTH);
    patient.done("SET autocommit = 0").expect("it is set");
    patient.done("COMMIT").expect("nothing to do");
    let mut begun = house.client(BOTH);
    begun.done("BEGIN").expect("it begins");
    begun.done(&insert(two, 1)).expect("a row");
    house.client(BOTH).done(&insert(two, 1)).expect("a row, once the idle one is gone");
    patient.done(&insert(two, 2)).expect("it is there still");
    patient.done("COMMIT").expect("it commits");
    assert_eq!(rows(&house, 1, two), "2");
}
