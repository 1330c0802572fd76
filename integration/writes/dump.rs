//! pg_dump through the proxy, and psql that reads in what it wrote.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Command;
use std::process::Stdio;

use crate::house::House;
use crate::house::WIDTHS;
use crate::outs::filled;
use crate::proxy::Outcome;

/// What is not of the schema's own, and sequences that count on each shard by themselves.
const LEFT_OUT: [&str; 2] = ["--exclude-schema=shardway", "--exclude-table=ident*"];

/// Runs one of Postgres's own programs: what it wrote, and what it complained of.
fn run(program: &str, port: u16, database: &str, arguments: &[&str], input: &str) -> Outcome<(String, String)> {
    let mut child = Command::new(program)
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "demo", "-d", database])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or("its input")?;
    let input = input.to_owned();
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    writing.join().map_err(|_| "the input was not written")??;
    Ok((String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

/// The rows of a dump by table, in an order of their own.
fn rows(dump: &str) -> BTreeMap<String, Vec<String>> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut table = None;
    for line in dump.lines() {
        match (&table, line) {
            (None, line) if line.starts_with("COPY ") => {
                tables.insert(line.to_owned(), Vec::new());
                table = Some(line.to_owned());
            }
            (None, _) => {}
            (Some(_), "\\.") => table = None,
            (Some(name), row) => tables.entry(name.clone()).or_default().push(row.to_owned()),
        }
    }
    tables.values_mut().for_each(|it| it.sort());
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_dumped_and_read_in_again() -> Outcome {
    let house = House::build().await?;
    let [port, plain] = house.ports();
    for width in WIDTHS {
        let mut pair = filled(&house, width)?;
        for client in [&mut pair.ours, &mut pair.plain] {
            assert_eq!(client.simple("INSERT INTO refs2 VALUES ('a', 1), ('b', 2)").error, None);
        }
        let (ours, theirs) = (format!("d{width}"), format!("plain{width}"));
        let some = ["--data-only", "-t", "t", "-t", "items", "-t", "refs"];
        let all = ["--data-only", LEFT_OUT[0], LEFT_OUT[1]];
        let whole = [LEFT_OUT[0], LEFT_OUT[1]];
        for arguments in [&some[..], &all, &whole] {
            let (dump, complaint) = run("pg_dump", port, &ours, arguments, "")?;
            assert_eq!(complaint, "", "{arguments:?} on {width} shards");
            let (one, _) = run("pg_dump", plain, &theirs, arguments, "")?;
            let (dump, one) = (rows(&dump), rows(&one));
            assert_eq!(dump, one, "{arguments:?} on {width} shards");
            assert!(dump.values().map(Vec::len).sum::<usize>() > 40);
        }
        let (dump, _) = run("pg_dump", port, &ours, &all, "")?;
        pair.empty();
        for client in [&mut pair.ours, &mut pair.plain] {
            client.simple("DELETE FROM moods");
        }
        for database in [(port, &ours), (plain, &theirs)] {
            let (_, complaint) = run("psql", database.0, database.1, &["-X", "-q", "-v", "ON_ERROR_STOP=1"], &dump)?;
            assert_eq!(complaint, "", "{width} shards");
        }
        assert_eq!(pair.difference(), None, "{width} shards");
        let count = "SELECT count(*), sum(id) FROM t";
        assert_eq!(pair.ours.simple(count).rows, pair.plain.simple(count).rows);
        assert_eq!(rows(&run("pg_dump", port, &ours, &all, "")?.0), rows(&dump), "{width} shards");
    }
    house.copies_are_alike().await?;
    house.nothing_is_prepared().await
}
