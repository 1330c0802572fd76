//! The project's example map, with a cluster's own nodes and ports in it.
//!
//! The example is the demo's map: what differs is replaced line by line, so that its comments reach who edits it.

use std::fmt::Write as _;

/// The example at the root of the project.
const EXAMPLE: &str = include_str!("../../shard-map.yaml");
/// What the example says, where a cluster may differ.
const EXAMPLE_PORT: &str = "6432";
const EXAMPLE_DATABASE: &str = "\n  shop:";
const EXAMPLE_USER: &str = "demo: {auth: trust}";
const EXAMPLE_HTTP: &str = "6480";

/// What a map needs to know of a node: its shard, its name, its port.
pub(super) type Place<'a> = (&'a str, &'a str, u16);

/// The map of `places`, with the proxy on `postgres` and, if wanted, its HTTP on `http`.
pub(super) fn yaml(places: &[Place<'_>], database: &str, user: &str, postgres: u16, http: Option<u16>) -> String {
    let mut text = String::new();
    let mut lines = EXAMPLE.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("  http:") && http.is_none() {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
        if line.starts_with("    shards:") {
            let old = lines.by_ref().take_while(|line| !line.is_empty());
            let comments: Vec<&str> = old.filter(|line| line.trim_start().starts_with('#')).collect();
            write_shards(&mut text, places, &comments);
        }
    }
    text.replace(EXAMPLE_PORT, &postgres.to_string())
        .replace(EXAMPLE_HTTP, &http.map_or_else(|| EXAMPLE_HTTP.to_owned(), |port| port.to_string()))
        .replace(EXAMPLE_DATABASE, &format!("\n  {database}:"))
        .replace(EXAMPLE_USER, &format!("{user}: {{auth: trust}}"))
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
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: [Place<'_>; 4] =
        [("s1", "s1-a", 6501), ("s1", "s1-b", 6502), ("s2", "s2-a", 6503), ("s2", "s2-b", 6504)];

    #[test]
    fn the_usual_cluster_has_the_example_itself() {
        assert_eq!(yaml(&USUAL, "shop", "demo", 6432, Some(6480)), EXAMPLE);
    }

    #[test]
    fn other_ports_and_names_take_the_place_of_the_examples() {
        let text = yaml(&[("s1", "s1-a", 7001)], "test", "me", 7432, None);
        assert!(text.contains("\n  postgres: 127.0.0.1:7432"), "{text}");
        assert!(text.contains("\n  test:") && text.contains("\n  me: {auth: trust}"), "{text}");
        assert!(text.contains("      s1:\n        - {name: s1-a, host: 127.0.0.1, port: 7001}\n"), "{text}");
        assert!(!text.contains("6432") && !text.contains("\n  http:") && !text.contains("s2-a"), "{text}");
    }
}
