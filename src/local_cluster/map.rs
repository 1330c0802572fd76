//! The project's example map, with a cluster's own nodes and ports in it.
//!
//! The example is the demo's map: what differs is replaced line by line, so that its comments reach who edits it.

use std::fmt::Write as _;

/// The example at the root of the project.
const EXAMPLE: &str = include_str!("../../shard-map.yaml");
/// What the example says, where a cluster may differ.
const EXAMPLE_PORT: &str = "6432";
const EXAMPLE_DATABASE: &str = "  shop:";
const EXAMPLE_USER: &str = "demo: {auth: trust}";
const EXAMPLE_HTTP: &str = "6480";
const EXAMPLE_MYSQL: &str = "6433";
/// How the lines begin that are for servers of MariaDB: comments, in the example.
const MYSQL_LISTENER: &str = "  #mysql:";
const MYSQL_DATABASE: &str = "  #shop_mysql:";
const MYSQL_SHARD: &str = "      #s";
const MYSQL_PLACEMENT: &str = "{s1: 0-8191, s2: 8192-16383}";
/// How many buckets a map places.
const BUCKETS: usize = 16384;

/// What a map needs to know of a node: its shard, its name, its port.
pub(super) type Place<'a> = (&'a str, &'a str, u16);

/// Where the proxy listens.
#[derive(Clone, Copy, Debug)]
pub struct Listeners {
    /// For clients of Postgres.
    pub postgres: u16,
    /// For clients of MySQL, where there are servers of theirs.
    pub mysql: u16,
    /// For HTTP, if wanted.
    pub http: Option<u16>,
}

/// The map of `places`, and of those of MariaDB if there are any.
pub(super) fn yaml(
    places: &[Place<'_>],
    mariadb: &[Place<'_>],
    database: &str,
    user: &str,
    listeners: Listeners,
) -> String {
    let postgres = listeners.postgres.to_string();
    let http = listeners.http.map_or_else(|| EXAMPLE_HTTP.to_owned(), |port| port.to_string());
    let replaced = |line: &str| {
        let line = line.replace(EXAMPLE_PORT, &postgres).replace(EXAMPLE_HTTP, &http);
        let line = line.replace(EXAMPLE_USER, &format!("{user}: {{auth: trust}}"));
        match line.strip_prefix(EXAMPLE_DATABASE) {
            Some(rest) => format!("  {database}:{rest}"),
            None => line,
        }
    };
    let mut text = String::new();
    let mut lines = EXAMPLE.lines();
    // Writing to a String cannot fail.
    while let Some(line) = lines.next() {
        if line.starts_with("  http:") && listeners.http.is_none() {
            continue;
        }
        if mariadb.is_empty() {
            let _ = writeln!(text, "{}", replaced(line));
        } else if line.starts_with(MYSQL_LISTENER) {
            let _ = writeln!(text, "{}", taken_in(line).replace(EXAMPLE_MYSQL, &listeners.mysql.to_string()));
        } else if line.starts_with(MYSQL_DATABASE) {
            let _ = writeln!(text, "{}", taken_in(line));
            for line in lines.by_ref().take_while(|line| !line.is_empty()) {
                if line.starts_with(MYSQL_SHARD) && !line.contains("#shards") {
                    continue;
                }
                let _ = writeln!(text, "{}", taken_in(line).replace(MYSQL_PLACEMENT, &placement(mariadb)));
                if line.trim_start().starts_with("#shards:") {
                    write_shards(&mut text, mariadb, &[]);
                }
            }
            text.push('\n');
        } else {
            let _ = writeln!(text, "{}", replaced(line));
        }
        if line.starts_with("    shards:") {
            let old = lines.by_ref().take_while(|line| !line.is_empty());
            let comments: Vec<&str> = old.filter(|line| line.trim_start().starts_with('#')).collect();
            write_shards(&mut text, places, &comments);
            text.push('\n');
        }
    }
    text
}

/// An equal share of the buckets for each shard.
fn placement(places: &[Place<'_>]) -> String {
    let shards: Vec<_> = places.chunk_by(|a, b| a.0 == b.0).filter_map(|nodes| Some(nodes.first()?.0)).collect();
    let begin = |index: usize| index * BUCKETS / shards.len();
    let share = |(index, shard): (usize, &&str)| format!("{shard}: {}-{}", begin(index), begin(index + 1) - 1);
    format!("{{{}}}", shards.iter().enumerate().map(share).collect::<Vec<_>>().join(", "))
}

/// A comment as the key that it is.
fn taken_in(line: &str) -> String {
    line.replacen('#', "", 1)
}

/// The block below `shards:`; the example's comments stay with the first shard.
fn write_shards(text: &mut String, places: &[Place<'_>], comments: &[&str]) {
    for (index, nodes) in places.chunk_by(|a, b| a.0 == b.0).enumerate() {
        for (position, (shard, name, port)) in nodes.iter().enumerate() {
            if position == 0 {
                let _ = writeln!(text, "      {shard}:");
            }
            let _ = writeln!(text, "        - {{name: {name}, host: 127.0.0.1, port: {port}}}");
        }
        for comment in comments.iter().filter(|_| index == 0) {
            let _ = writeln!(text, "{comment}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: [Place<'_>; 4] =
        [("s1", "s1-a", 6501), ("s1", "s1-b", 6502), ("s2", "s2-a", 6503), ("s2", "s2-b", 6504)];
    const LISTENERS: Listeners = Listeners { postgres: 6432, mysql: 6433, http: Some(6480) };

    #[test]
    fn the_usual_cluster_has_the_example_itself() {
        assert_eq!(yaml(&USUAL, &[], "shop", "demo", LISTENERS), EXAMPLE);
    }

    #[test]
    fn other_ports_and_names_take_the_place_of_the_examples() {
        let listeners = Listeners { postgres: 7432, mysql: 7433, http: None };
        let text = yaml(&[("s1", "s1-a", 7001)], &[], "test", "me", listeners);
        assert!(text.contains("\n  postgres: 127.0.0.1:7432"), "{text}");
        assert!(text.contains("\n  test:") && text.contains("\n  me: {auth: trust}"), "{text}");
        assert!(text.contains("      s1:\n        - {name: s1-a, host: 127.0.0.1, port: 7001}\n"), "{text}");
        assert!(!text.contains("6432") && !text.contains("\n  http:"), "{text}");
        assert!(text.lines().all(|line| !line.contains("s2-a, host") || line.trim_start().starts_with('#')), "{text}");
    }

    #[test]
    fn servers_of_mariadb_stand_beside_those_of_postgres() {
        // A port that was another's in the example stays what it is.
        let listeners = Listeners { postgres: 6433, mysql: 6432, http: Some(6480) };
        let places = [("s1", "s1-a", 7001), ("s1", "s1-b", 7002), ("s2", "s2-a", 7003)];
        let text = yaml(&USUAL, &places, "shop", "demo", listeners);
        let listeners = "\n  postgres: 127.0.0.1:6433 ";
        assert!(text.contains(listeners) && text.contains("\n  mysql: 127.0.0.1:6432 "), "{text}");
        let shards = "    shards:\n      s1:\n        - {name: s1-a, host: 127.0.0.1, port: 7001}\n        \
                      - {name: s1-b, host: 127.0.0.1, port: 7002}\n      s2:\n        - {name: s2-a, host: 127.0.0.1, \
                      port: 7003}\n    groups:\n      customer:\n        key: bigint\n        placement: {s1: 0-8191, s2: 8192-16383} ";
        assert!(
            text.contains("\n  shop_mysql: ") && text.contains("\n    engine: mysql\n    database: shop\n"),
            "{text}"
        );
        assert!(text.contains(shards), "{text}");
        let three = [places[0], places[2], ("s3", "s3-a", 7004)];
        assert_eq!(placement(&three), "{s1: 0-5460, s2: 5461-10921, s3: 10922-16383}");
    }
}
