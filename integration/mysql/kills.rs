//! Statements and sessions that are killed, and clients that go away: what one server does then, the proxy does.

use std::thread;
use std::time::Duration;
use std::time::Instant;

use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;
use shardway::wire::mysql::frame;

use crate::client::Answer;
use crate::client::Client;
use crate::compare::difference;
use crate::compare::renamed;
use crate::house::House;
use crate::proxy::Outcome;

/// How long anything may take that is waited for.
const WAIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

/// Says something on one connection, and kills that from another, until it has ended. A server that is told in the moment in
/// which it begins may forget what it was told, and SLEEP gives 1 then: it is said again.
fn killed(victim: &mut Client, killer: &mut Client, sql: &str, kill: &str) -> Result<Vec<Answer>, String> {
    let deadline = Instant::now() + WAIT;
    loop {
        let answers = killed_once(victim, killer, sql, kill)?;
        let forgotten =
            |it: &Answer| it.error.is_none() && it.rows.iter().any(|row| row.contains(&Some(b"1".to_vec())));
        if !answers.iter().any(forgotten) || Instant::now() > deadline {
            return Ok(answers);
        }
    }
}

fn killed_once(victim: &mut Client, killer: &mut Client, sql: &str, kill: &str) -> Result<Vec<Answer>, String> {
    let number = victim.greeting().connection;
    let kill = kill.replace("{}", &number.to_string());
    thread::scope(|scope| {
        let work = scope.spawn(|| victim.query(sql));
        let deadline = Instant::now() + WAIT;
        while !work.is_finished() {
            if Instant::now() > deadline {
                return Err(format!("{sql} goes on after {kill}"));
            }
            let said = killer.one(&kill);
            if let Some(error) = said.error.filter(|_| !work.is_finished()) {
                return Err(format!("{kill}: {error}"));
            }
            thread::sleep(PAUSE);
        }
        work.join().map_err(|_| "it panicked".to_owned())
    })
}

fn on_one_side(port: u16, database: &str) -> Result<Vec<Answer>, String> {
    let come = || Client::connect(port, USER, PASSWORD, database).map_err(|error| error.to_string());
    let (mut victim, mut killer) = (come()?, come()?);
    let mut answers = killed(&mut victim, &mut killer, "SELECT SLEEP(60) FROM t WHERE id = 1", "KILL QUERY {}")?;
    answers.push(victim.ping());
    answers.extend(victim.query("SELECT a FROM t WHERE id = 1"));
    for sql in ["SELECT SLEEP(60), a FROM t WHERE id IN (1, 2, 3)", "SELECT COUNT(*) FROM t WHERE SLEEP(60) = 0"] {
        answers.extend(killed(&mut victim, &mut killer, sql, "KILL QUERY {}")?);
        answers.extend(victim.query("SELECT COUNT(*), MAX(a) FROM t WHERE id IN (1, 2, 3)"));
    }
    for sql in ["BEGIN", "UPDATE t SET a = 71 WHERE id = 1"] {
        answers.extend(victim.query(sql));
    }
    answers.extend(killed(&mut victim, &mut killer, "SELECT SLEEP(60) FROM t WHERE id = 1", "KILL QUERY {}")?);
    for sql in ["SELECT a FROM t WHERE id = 1", "COMMIT", "SELECT a FROM t WHERE id = 1"] {
        answers.extend(victim.query(sql));
    }
    // What waits for a lock.
    answers.extend(killer.query("BEGIN"));
    answers.extend(killer.query("SELECT a FROM t WHERE id = 2 FOR UPDATE"));
    let mut third = come()?;
    answers.extend(killed(&mut victim, &mut third, "UPDATE t SET a = 72 WHERE id = 2", "KILL QUERY {}")?);
    answers.extend(killer.query("ROLLBACK"));
    answers.extend(killer.query("KILL 4000000000"));
    answers.extend(killer.query("KILL QUERY 4000000000"));
    // A session that does nothing.
    let number = victim.greeting().connection;
    answers.push(killer.raw(0x0c, &number.to_le_bytes()));
    let gone = victim.ping();
    answers.push(Answer { warnings: gone.error.map_or(0, |error| error.errno), ..Answer::default() });
    let itself = third.greeting().connection;
    answers.extend(third.query(&format!("KILL QUERY {itself}")));
    answers.extend(third.query(&format!("KILL {itself}")));
    let gone = third.ping();
    answers.push(Answer { warnings: gone.error.map_or(0, |error| error.errno), ..Answer::default() });
    Ok(answers)
}

/// What differs where something is killed.
pub(crate) fn differences(house: &House, width: usize) -> Outcome<Vec<String>> {
    let [ours, plain] = house.ports();
    let mut problems = Vec::new();
    match (on_one_side(ours, &format!("d{width}")), on_one_side(plain, &format!("plain{width}"))) {
        (Ok(ours), Ok(theirs)) => {
            let told = difference(&ours, &renamed(theirs, width), true);
            problems.extend(told.map(|it| format!("{width} shards, KILL: {it}")));
        }
        (ours, theirs) => {
            let mut told = |who: &str, it: Result<Vec<Answer>, String>| {
                problems.extend(it.err().map(|error| format!("{width} shards, KILL, {who}: {error}")));
            };
            told("ours", ours);
            told("plain", theirs);
        }
    }
    problems.extend(gone(house, width)?.map(|it| format!("{width} shards, a client that goes away: {it}")));
    Ok(problems)
}

/// A client goes away while its statement runs: no server goes on with it.
fn gone(house: &House, width: usize) -> Outcome<Option<String>> {
    let [ours, _] = house.ports();
    let mut servers = house.servers(width)?;
    let mut client = Client::connect(ours, USER, PASSWORD, &format!("d{width}"))?;
    let mut packet = Vec::new();
    frame::put(&mut packet, 0, b"\x03SELECT SLEEP(59) FROM t WHERE id = 1");
    client.send(&packet)?;
    let mut running = || -> Outcome<usize> {
        let asked = "SELECT 1 FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(59)%'";
        let counts = servers.iter_mut().map(|it| Ok(it.done(asked)?.rows.len()));
        counts.collect::<Outcome<Vec<_>>>().map(|it| it.iter().sum())
    };
    let deadline = Instant::now() + WAIT;
    while running()? == 0 {
        if Instant::now() > deadline {
            return Ok(Some("its statement never ran".to_owned()));
        }
        thread::sleep(PAUSE);
    }
    drop(client);
    while running()? > 0 {
        if Instant::now() > deadline {
            return Ok(Some("its statement goes on".to_owned()));
        }
        thread::sleep(PAUSE);
    }
    Ok(None)
}
