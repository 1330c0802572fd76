//! What leading writes on servers, into `recovery_end_command`: a command that does nothing, and says how far a failover has
//! come. Whoever begins where another proxy died reads it, and a former primary is known by it when it comes back. Pure.

use std::fmt;
use std::fmt::Write as _;

/// One server's part in a failover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::topology) struct Mark {
    /// Which failover: later ones have higher numbers.
    pub epoch: u64,
    /// How far it has come there.
    pub step: Step,
    /// The node that was primary before.
    pub former: String,
    /// That one's timeline.
    pub timeline: u32,
    /// That one's `synchronous_standby_names`.
    pub names: String,
}

/// How far a failover has come on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::topology) enum Step {
    /// It receives from nobody any more.
    Recruited,
    /// This node is or was being promoted. A copy made of its files says so, too, and is not meant.
    Chosen(String),
    /// It follows that node.
    Follows(String),
}

impl Mark {
    /// Whether this says that its former primary has been succeeded, or may have been.
    #[must_use]
    pub(in crate::topology) fn deposes(&self) -> bool {
        !matches!(self.step, Step::Recruited)
    }

    /// Whether it is the one to be promoted that this was written on.
    #[must_use]
    pub(in crate::topology) fn chooses(&self, node: &str) -> bool {
        matches!(&self.step, Step::Chosen(it) if it == node)
    }

    /// Reads a `recovery_end_command`; `None`: it is nothing of ours.
    #[must_use]
    pub(in crate::topology) fn read(command: &str) -> Option<Self> {
        let rest = command.strip_prefix(BEGINNING)?;
        let words: Vec<&str> = rest.split(' ').collect();
        let [epoch, step, of, "after", former, "timeline", timeline, "names", names] = *words else { return None };
        let step = match step {
            "recruited" => Step::Recruited,
            "chosen" => Step::Chosen(plain(of)?),
            "follows" => Step::Follows(plain(of)?),
            _ => return None,
        };
        let (epoch, timeline) = (epoch.parse().ok()?, timeline.parse().ok()?);
        Some(Self { epoch, step, former: plain(former)?, timeline, names: plain(names)? })
    }
}

/// As a command that every shell takes for nothing, and in which Postgres replaces nothing.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (step, of) = match &self.step {
            Step::Recruited => ("recruited", ""),
            Step::Chosen(of) => ("chosen", &**of),
            Step::Follows(of) => ("follows", &**of),
        };
        let (of, former, names) = (word(of), word(&self.former), word(&self.names));
        write!(f, "{BEGINNING}{} {step} {of} after {former} timeline {} names {names}", self.epoch, self.timeline)
    }
}

const BEGINNING: &str = ": shardway epoch ";

/// Any text as one word without a meaning to shells.
fn word(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    let mut word = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => word.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(word, "={byte:02X}")),
        }
    }
    word
}

fn plain(word: &str) -> Option<String> {
    if word == "-" {
        return Some(String::new());
    }
    let mut bytes = Vec::new();
    let mut parts = word.split('=');
    bytes.extend(parts.next()?.bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend(part.get(2..)?.bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        for (step, former, names) in [
            (Step::Recruited, "s1-a", "ANY 1 (\"b c\", ü)"),
            (Step::Chosen("db.example:5432".to_owned()), "$(rm -rf /)'`\\%r", ""),
            (Step::Follows("-".to_owned()), "a=b", "*"),
        ] {
            let mark = Mark { epoch: 7, step, former: former.to_owned(), timeline: 3, names: names.to_owned() };
            let text = mark.to_string();
            let harmless = |it: char| it.is_ascii_alphanumeric() || " :=._-".contains(it);
            assert!(text.chars().all(harmless), "{text}");
            assert_eq!(Mark::read(&text), Some(mark), "{text}");
        }
    }

    #[test]
    fn other_commands_are_somebody_elses() {
        for text in [
            "",
            "rm -f /tmp/trigger",
            ": shardway",
            ": shardway epoch 1",
            ": shardway epoch x recruited - after a timeline 1 names -",
            ": shardway epoch 1 elected - after a timeline 1 names -",
            ": shardway epoch 1 recruited - after =F timeline 1 names -",
        ] {
            assert_eq!(Mark::read(text), None, "{text}");
        }
    }

    #[test]
    fn only_a_choice_deposes() {
        let mark = |step| Mark { epoch: 1, step, former: "a".to_owned(), timeline: 1, names: String::new() };
        assert!(!mark(Step::Recruited).deposes());
        assert!(mark(Step::Chosen("b".to_owned())).deposes());
        assert!(mark(Step::Chosen("b".to_owned())).chooses("b"));
        assert!(!mark(Step::Chosen("b".to_owned())).chooses("a"));
    }
}
