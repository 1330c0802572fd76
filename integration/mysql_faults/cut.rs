//! A server connection cut at every packet: a right answer or a right error, one to each command, and no hang.

use std::time::Instant;

use crate::client::Answer;
use crate::client::Client;
use crate::client::Value;
use crate::house::BOTH;
use crate::house::HANG;
use crate::house::House;
use crate::house::ONE;
use crate::house::until;
use crate::relay::Way;

/// What a statement does to the rows of the key, if it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Nothing,
    Inserts,
    /// It fails on every server, and nothing is undone by that.
    Fails,
    Begins,
    /// `autocommit = 0`.
    StopsCommitting,
    Saves,
    GoesBack,
    Commits,
    RollsBack,
}

/// One query, or one prepared statement; what each statement in it does.
struct Step(String, &'static [Does], bool);

struct Scenario {
    name: &'static str,
    database: &'static str,
    steps: Vec<Step>,
    /// The session leaves something on its connection: it must end where that is lost.
    ties: bool,
}

fn scenarios(key: i64) -> Vec<Scenario> {
    use Does::Begins;
    use Does::Commits;
    use Does::Fails;
    use Does::GoesBack;
    use Does::Inserts;
    use Does::Nothing;
    use Does::RollsBack;
    use Does::Saves;
    use Does::StopsCommitting;

    let row = |no: i64| format!("INSERT INTO items VALUES ({key}, {no})");
    let insert = |no: i64| Step(row(no), &[Inserts], false);
    let prepared = |no: i64| Step(row(no), &[Inserts], true);
    let say = |sql: &str, does: &'static [Does]| Step(sql.to_owned(), does, false);
    let plain = |name, steps| Scenario { name, database: BOTH, steps, ties: false };
    let read = format!("SELECT no FROM items WHERE id = {key}");
    vec![
        plain("insert", vec![insert(1)]),
        plain("insert behind a setting", vec![say("SET lock_wait_timeout = 77", &[Nothing]), insert(1)]),
        plain("two in one query", vec![Step(format!("{}; {}", row(1), row(2)), &[Inserts, Inserts], false), insert(3)]),
        plain("transaction", vec![say("BEGIN", &[Begins]), insert(1), insert(2), say("COMMIT", &[Commits])]),
        plain(
            "transaction in one query",
            vec![Step(format!("BEGIN; {}; {}; COMMIT", row(1), row(2)), &[Begins, Inserts, Inserts, Commits], false)],
        ),
        plain(
            "transaction with savepoints",
            vec![
                say("START TRANSACTION", &[Begins]),
                insert(1),
                say("SAVEPOINT s", &[Saves]),
                insert(2),
                say("ROLLBACK TO s", &[GoesBack]),
                insert(3),
                say("COMMIT", &[Commits]),
            ],
        ),
        plain("rolled back", vec![say("BEGIN", &[Begins]), insert(1), say("ROLLBACK", &[RollsBack]), insert(2)]),
        plain(
            "without autocommit",
            vec![
                say("SET autocommit = 0", &[StopsCommitting]),
                insert(1),
                insert(2),
                say("COMMIT", &[Commits]),
                insert(3),
                say("ROLLBACK", &[RollsBack]),
            ],
        ),
        plain(
            "without autocommit, where the first statement fails",
            vec![
                insert(1),
                say("SET autocommit = 0", &[StopsCommitting]),
                Step(row(1), &[Fails], false),
                insert(2),
                Step(row(1), &[Fails], false),
                say("COMMIT", &[Commits]),
            ],
        ),
        plain("BEGIN commits", vec![say("BEGIN", &[Begins]), insert(1), say("BEGIN", &[Commits, Begins]), insert(2)]),
        plain(
            "autocommit = 1 commits",
            vec![say("SET autocommit = 0", &[StopsCommitting]), insert(1), say("SET autocommit = 1", &[Commits])],
        ),
        plain("prepared", vec![prepared(1), prepared(2)]),
        plain(
            "prepared in a transaction",
            vec![say("BEGIN", &[Begins]), prepared(1), insert(2), prepared(3), say("COMMIT", &[Commits])],
        ),
        plain(
            "warnings in a transaction",
            vec![
                say("BEGIN", &[Begins]),
                Step(format!("INSERT IGNORE INTO items VALUES ({key}, 'x1')"), &[Inserts], false),
                say("SHOW WARNINGS", &[Nothing]),
                say("COMMIT", &[Commits]),
            ],
        ),
        plain("read", vec![say(&read, &[Nothing]), Step(read.clone(), &[Nothing], true)]),
        plain(
            "SET TRANSACTION",
            vec![
                say("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", &[Nothing]),
                say("BEGIN", &[Begins]),
                insert(1),
                say("COMMIT", &[Commits]),
            ],
        ),
        Scenario {
            name: "with a lock by name",
            database: ONE,
            steps: vec![
                say("SELECT GET_LOCK('cut', 1)", &[Nothing]),
                insert(1),
                say("BEGIN", &[Begins]),
                insert(2),
                say("COMMIT", &[Commits]),
                say("SELECT RELEASE_LOCK('cut')", &[Nothing]),
            ],
            ties: true,
        },
    ]
}

/// Rows, as far as a client can know.
#[derive(Clone, Copy, Debug, Default)]
struct Model {
    committed: usize,
    pending: usize,
    saved: usize,
    within: bool,
    without_autocommit: bool,
}

impl Model {
    fn done(&mut self, does: Does) {
        match does {
            Does::Nothing | Does::Fails => {}
            Does::Inserts if self.within || self.without_autocommit => self.pending += 1,
            Does::Inserts => self.committed += 1,
            Does::Begins => self.within = true,
            Does::StopsCommitting => self.without_autocommit = true,
            Does::Saves => self.saved = self.pending,
            Does::GoesBack => self.pending = self.saved,
            Does::Commits => {
                self.committed += std::mem::take(&mut self.pending);
                self.within = false;
            }
            Does::RollsBack => {
                self.pending = 0;
                self.within = false;
            }
        }
    }
}

/// What a client may be told of a connection that broke, and what that means. They are MySQL's own: deadlock, connection
/// lost, unknown error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    NotDone,
    Unknown,
}

fn told(answer: &Answer) -> Option<Told> {
    let error = answer.error.as_ref()?;
    match error.errno {
        1213 => Some(Told::NotDone),
        1105 if error.message.contains("Look whether it was done") => Some(Told::Unknown),
        // Nothing was said to a server yet.
        1105 if error.message.contains("cannot reach node") || error.message.contains("no reachable primary") => {
            Some(Told::NotDone)
        }
        _ => None,
    }
}

#[test]
fn a_cut_at_every_packet_is_told_as_it_is() {
    let house = House::build("size: 1", "");
    let [one, key] = house.keys();
    let (mut cuts, mut unknown) = (0, 0);
    let all = [(BOTH, key), (ONE, one)].map(|(database, key)| {
        scenarios(key).into_iter().filter(move |it| it.database == database).map(move |it| (it, key))
    });
    for (scenario, key) in all.into_iter().flatten() {
        for way in [Way::ToServer, Way::ToProxy] {
            for count in 0.. {
                let began = Instant::now();
                let (cut, was_unknown) = once(&house, &scenario, key, way, count);
                assert!(began.elapsed() < HANG, "{} hangs, cut {way:?} after {count}", scenario.name);
                if !cut {
                    break;
                }
                cuts += 1;
                unknown += usize::from(was_unknown);
                assert!(count < 200, "{} never ends", scenario.name);
            }
        }
    }
    println!("figure: {cuts} cuts, {unknown} of them with an unknown outcome");
    assert!(cuts > 150, "only {cuts} cuts");
    assert!(unknown > 10, "only {unknown} of unknown outcome");
}

/// Connections of the application's, but for the one that asks.
fn connections(direct: &mut Client) -> Vec<String> {
    let sql = "SELECT id FROM information_schema.processlist WHERE user = 'demo' AND db = DATABASE() AND id <> \
               CONNECTION_ID()";
    let answer = direct.done(sql).expect("an answer");
    answer.rows.iter().map(|row| String::from_utf8_lossy(row[0].as_deref().unwrap_or_default()).into_owned()).collect()
}

/// Runs a scenario with one cut. Whether it came to the cut, and whether the outcome was said to be unknown.
fn once(house: &House, scenario: &Scenario, key: i64, way: Way, count: usize) -> (bool, bool) {
    let context = format!("{}, cut {way:?} after {count}", scenario.name);
    let shard = usize::from(scenario.database == BOTH);
    let mut direct = house.direct(shard, scenario.database);
    direct.done("DELETE FROM items").expect("no rows");
    // The pool has one connection: what marks it is what the scenario gets.
    let mark = format!("SELECT 'MARK' FROM t WHERE id = {key}");
    house.client(scenario.database).done(&mark).unwrap_or_else(|error| panic!("{context}: {error}"));
    let before = connections(&mut direct);
    let mut client = house.client(scenario.database);
    let relay = &house.relays[shard];
    relay.arm(way, count);
    let mut model = Model::default();
    let mut possible = None;
    let mut said = Vec::new();
    'steps: for Step(sql, does, prepared) in &scenario.steps {
        let answers = if *prepared { client.run(sql, &[] as &[Value<'_>]) } else { client.query(sql) };
        assert!(answers.len() <= does.len(), "{context}: {sql}: {} answers: {answers:?}", answers.len());
        let fails = does.contains(&Does::Fails);
        for (place, answer) in answers.iter().enumerate() {
            said.push(format!("{sql} -> {:?}", answer.error));
            // Of several statements each says what it did; one that does two things says it once.
            let of_it = if sql.contains(';') { &does[place..=place] } else { does };
            match told(answer) {
                None if answer.error.is_none()
                    || (fails && answer.error.as_ref().is_some_and(|it| it.errno == 1062)) =>
                {
                    of_it.iter().for_each(|it| model.done(*it));
                }
                None => panic!("{context}: {said:#?}: this is no answer to a cut"),
                Some(Told::NotDone) => {
                    possible = Some(vec![model.committed]);
                    break 'steps;
                }
                Some(Told::Unknown) => {
                    let mut after = model;
                    of_it.iter().for_each(|it| after.done(*it));
                    possible = Some(vec![model.committed, after.committed]);
                    assert_ne!(
                        model.committed, after.committed,
                        "{context}: {said:#?}: it is known that it is not done"
                    );
                    break 'steps;
                }
            }
        }
    }
    let cut = relay.disarm();
    let failed = possible.is_some();
    if cut && scenario.ties {
        // What it held is gone, and nobody could tell it otherwise; or it had nothing yet, or perhaps nothing any more.
        let again = client.one("SELECT 7");
        let ended = client.is_lost();
        let held = said.iter().any(|it| it.starts_with("SELECT GET_LOCK") && it.ends_with("None"));
        assert!(ended || !failed || !held, "{context}: goes on without its lock: {said:#?} {again:?}");
    } else {
        assert!(!client.is_lost(), "{context}: {said:#?}");
        // One answer to each command, and the session goes on.
        let ended = client.one("ROLLBACK");
        assert_eq!(ended.error, None, "{context}: {said:#?}");
        let seven = client.query("SELECT 7");
        assert_eq!(seven.len(), 1, "{context}: {said:#?}");
        assert_eq!(seven[0].value().as_deref(), Some("7"), "{context}: {said:#?} {seven:?}");
        assert_eq!(client.ping().error, None, "{context}");
    }
    drop(client);
    if cut {
        until(&format!("{context}: a server to see the cut"), || {
            connections(&mut direct).iter().all(|it| !before.contains(it))
        });
    }
    // What was not ended is undone when the session has left.
    let count_rows = format!("SELECT COUNT(*) FROM items WHERE id = {key}");
    let rows: usize = direct.done(&count_rows).expect("an answer").value().expect("a row").parse().expect("a number");
    let possible = possible.unwrap_or_else(|| vec![model.committed]);
    assert!(possible.contains(&rows), "{context}: {rows} rows, not {possible:?}: {said:#?}");
    assert!(cut || !failed, "{context}: an error without a cut: {said:#?}");
    (cut, possible.len() > 1)
}
