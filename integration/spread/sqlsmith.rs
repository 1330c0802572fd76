//! Statements of sqlsmith (<https://github.com/anse1/sqlsmith>), which nobody here shaped, against the same tables: how many
//! of those that the plain server answers are answered through the proxy over three shards, and alike.

use std::collections::BTreeMap;
use std::env;
use std::process::Command;

use super::compare::Order;
use super::compare::Verdict;
use super::compare::compare;
use super::rig::Rig;
use super::rig::Way;
use super::wire::How;

/// How many statements, unless `SHARDWAY_SQLSMITH_STATEMENTS` says otherwise.
const STATEMENTS: usize = 300;
const WAY: Way =
    Way { database: Some(2), how: How::Simple, binary: false, gather: false, profile: 0, in_transaction: false };

/// What sqlsmith says for these tables: SELECTs only.
fn statements(rig: &Rig, count: usize, seed: &str) -> Vec<String> {
    let target = format!("host=127.0.0.1 port={} user=demo dbname=plain", rig.plain_port());
    // Of its statements about two in three are SELECTs.
    let said = Command::new("sqlsmith")
        .arg(format!("--target={target}"))
        .arg(format!("--seed={seed}"))
        .arg(format!("--max-queries={}", count * 3))
        .args(["--dry-run", "--exclude-catalog"])
        .output()
        .expect("sqlsmith runs (apt-get install sqlsmith)");
    let text = String::from_utf8_lossy(&said.stdout);
    // Tables that the map leaves out, and one that is there to be refused.
    let left_out = |it: &String| ["parts_0", "parts_1", "daughter", "mother"].iter().any(|name| it.contains(name));
    let all = text.split(';').map(|it| it.trim().to_owned()).filter(|it| !left_out(it));
    all.filter(|it| it.to_ascii_lowercase().starts_with("select") || it.to_ascii_lowercase().starts_with("with"))
        .take(count)
        .collect()
}

/// Whether both servers answer it alike now.
fn is_alike(rig: &mut Rig, sql: &str) -> bool {
    let (plain, ours) = (rig.run(WAY.plain(), "public", sql, &[]), rig.run(WAY, "public", sql, &[]));
    compare(&ours, &plain, rig.types(2), Order::Any) == Verdict::Same
}

#[test]
fn statements_of_sqlsmith_are_answered_right_or_refused() {
    let count = env::var("SHARDWAY_SQLSMITH_STATEMENTS").map_or(STATEMENTS, |it| it.parse().expect("a number"));
    let seed = env::var("SHARDWAY_SQLSMITH_SEED").unwrap_or_else(|_| "1".to_owned());
    let mut rig = Rig::start(&[]);
    let statements = statements(&rig, count, &seed);
    assert!(statements.len() * 2 > count, "only {} SELECTs", statements.len());
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let (mut accepted, mut alike, mut counted, mut slow) = (0, 0, 0, 0);
    let mut found = Vec::new();
    for sql in &statements {
        let plain = rig.run(WAY.plain(), "public", sql, &[]);
        match &plain.error {
            Some(error) if error.sqlstate == "57014" => {
                slow += 1;
                continue;
            }
            Some(_) => continue,
            None => accepted += 1,
        }
        // With a limit or by chance another answer is as right: then it need only be an answer.
        let again = rig.run(WAY.plain(), "public", sql, &[]);
        let lower = sql.to_ascii_lowercase();
        let free = again.rows != plain.rows || lower.contains("limit") || lower.contains("tablesample");
        let ours = rig.run(WAY, "public", sql, &[]);
        match compare(&ours, &plain, rig.types(2), Order::Any) {
            Verdict::Refused(reason) => *refused.entry(reason).or_default() += 1,
            Verdict::Same => alike += 1,
            Verdict::SameError(_) | Verdict::Mismatch(_)
                if ours.error.as_ref().is_some_and(|it| it.sqlstate == "57014") =>
            {
                slow += 1;
            }
            _ if free && ours.error.is_none() => counted += 1,
            // What both say alike a moment later was a matter of the moment: it calls functions that tell the server's state.
            _ if is_alike(&mut rig, sql) => counted += 1,
            Verdict::SameError(state) => found.push(format!("{state}: {sql}")),
            Verdict::Mismatch(difference) => found.push(format!("{difference}: {sql}")),
        }
    }
    let answered = alike + counted;
    println!(
        "oracle: sqlsmith: {} SELECTs, plain accepts {accepted}; of these {answered} answered ({:.1} %), {alike} compared \
         alike, {} MISMATCH, {slow} took too long",
        statements.len(),
        f64::from(answered) * 100.0 / f64::from(accepted.max(1)),
        found.len(),
    );
    let mut reasons: Vec<_> = refused.into_iter().collect();
    reasons.sort_by_key(|it| std::cmp::Reverse(it.1));
    for (reason, count) in reasons {
        println!("oracle:   {count:5} {reason}");
    }
    assert_eq!(found, Vec::<String>::new());
}
