//! Positions of MySQL and MariaDB servers: what they print → what has what. Pure.
//!
//! MariaDB tells of each domain the last transaction, `domain-server-number`, and within a domain numbers only grow. MySQL
//! tells the whole set of transactions, `source:1-5:7`, where a source is a server's UUID, since 8.3 with a tag behind it.

use std::collections::BTreeMap;
use std::fmt;

/// Transactions, as global transaction identifiers name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gtids {
    /// MariaDB: of each domain the last one.
    Last(BTreeMap<u32, Last>),
    /// MySQL: of each source all of them, as intervals that neither touch nor overlap, in order.
    Sets(BTreeMap<String, Vec<Interval>>),
}

/// The last transaction of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    /// Who wrote it.
    pub server: u32,
    /// Its number.
    pub number: u64,
}

/// Numbers from the first to the last, both among them.
type Interval = (u64, u64);

impl Gtids {
    /// Reads `0-1-100,5-2-7`, as `@@gtid_binlog_pos` and `@@gtid_slave_pos` have it; empty: nothing yet.
    #[must_use]
    pub(super) fn of_mariadb(text: &str) -> Option<Self> {
        let mut all: BTreeMap<u32, Last> = BTreeMap::new();
        for it in entries(text) {
            let mut parts = it.splitn(3, '-');
            let domain = parts.next()?.parse().ok()?;
            let last = Last { server: parts.next()?.parse().ok()?, number: parts.next()?.parse().ok()? };
            let known = all.entry(domain).or_insert(last);
            if known.number < last.number {
                *known = last;
            }
        }
        Some(Self::Last(all))
    }

    /// Reads `uuid:1-5:7,uuid:tag:1`, as `@@gtid_executed` has it; empty: nothing yet.
    #[must_use]
    pub(super) fn of_mysql(text: &str) -> Option<Self> {
        let mut all: BTreeMap<String, Vec<Interval>> = BTreeMap::new();
        for it in entries(text) {
            let mut parts = it.split(':').map(str::trim);
            let server = parts.next().filter(|it| it.len() == UUID_LENGTH)?.to_ascii_lowercase();
            let mut source = server.clone();
            for part in parts {
                // A tag holds for the intervals behind it.
                if is_tag(part) {
                    source = format!("{server}:{}", part.to_ascii_lowercase());
                    continue;
                }
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                let interval: Interval = (first.parse().ok()?, last.parse().ok()?);
                if interval.0 == 0 || interval.0 > interval.1 {
                    return None;
                }
                all.entry(source.clone()).or_default().push(interval);
            }
        }
        all.values_mut().for_each(join);
        Some(Self::Sets(all))
    }

    /// Whether who has these has the others, too. Of domains that a server has heard nothing of, it has nothing.
    #[must_use]
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Last(these), Self::Last(others)) => others
                .iter()
                .all(|(domain, other)| these.get(domain).is_some_and(|it| it.number > other.number || it == other)),
            (Self::Sets(these), Self::Sets(others)) => others.iter().all(|(source, others)| {
                let these = these.get(source).map(Vec::as_slice).unwrap_or_default();
                others.iter().all(|(first, last)| these.iter().any(|it| it.0 <= *first && *last <= it.1))
            }),
            _ => false,
        }
    }

    /// Whether it is certain that the other one has something which this one lacks, though it should have come here. A domain
    /// that only the other one knows may come from elsewhere.
    #[must_use]
    pub(super) fn lacks_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Last(these), Self::Last(others)) => {
                others.iter().any(|(domain, other)| these.get(domain).is_some_and(|it| it.number < other.number))
            }
            (Self::Sets(_), Self::Sets(_)) => !self.covers(other),
            _ => false,
        }
    }

    /// What both have together: of MariaDB's domains the later of each.
    #[must_use]
    pub(super) fn united(mut self, other: &Self) -> Self {
        match (&mut self, other) {
            (Self::Last(these), Self::Last(others)) => {
                for (domain, other) in others {
                    let known = these.entry(*domain).or_insert(*other);
                    if known.number < other.number {
                        *known = *other;
                    }
                }
            }
            (Self::Sets(these), Self::Sets(others)) => {
                for (source, others) in others {
                    let known = these.entry(source.clone()).or_default();
                    known.extend(others);
                    join(known);
                }
            }
            _ => {}
        }
        self
    }

    /// What that server of MariaDB wrote last, where it was the last to write.
    #[must_use]
    pub(super) fn written_by(&self, server: u32) -> Self {
        match self {
            Self::Last(all) => Self::Last(
                all.iter().filter(|(_, it)| it.server == server).map(|(domain, it)| (*domain, *it)).collect(),
            ),
            Self::Sets(_) => Self::Last(BTreeMap::new()),
        }
    }

    /// What that server of MySQL wrote itself, and what it has of others.
    #[must_use]
    pub(super) fn split_by(&self, server: &str) -> (Self, Self) {
        let Self::Sets(all) = self else { return (self.clone(), self.clone()) };
        let server = server.to_ascii_lowercase();
        let is_own = |source: &str| source.split(':').next() == Some(&server);
        let (own, others) = all.iter().map(|(source, it)| (source.clone(), it.clone())).partition(|(it, _)| is_own(it));
        (Self::Sets(own), Self::Sets(others))
    }
}

/// As servers print it.
impl fmt::Display for Gtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = match self {
            Self::Last(all) => all.iter().map(|(domain, it)| format!("{domain}-{}-{}", it.server, it.number)).collect(),
            Self::Sets(all) => all
                .iter()
                .map(|(source, intervals)| {
                    let interval = |(first, last): &Interval| match first == last {
                        true => format!(":{first}"),
                        false => format!(":{first}-{last}"),
                    };
                    format!("{source}{}", intervals.iter().map(interval).collect::<String>())
                })
                .collect(),
        };
        f.write_str(&texts.join(","))
    }
}

/// Puts intervals in order, and makes one of those that touch.
fn join(intervals: &mut Vec<Interval>) {
    intervals.sort_unstable();
    let mut joined: Vec<Interval> = Vec::with_capacity(intervals.len());
    for it in intervals.iter() {
        match joined.last_mut() {
            Some(last) if it.0 <= last.1.saturating_add(1) => last.1 = last.1.max(it.1),
            _ => joined.push(*it),
        }
    }
    *intervals = joined;
}

fn is_tag(text: &str) -> bool {
    let of_tag = |it: char| it.is_ascii_alphanumeric() || it == '_';
    text.chars().all(of_tag) && text.starts_with(|it: char| !it.is_ascii_digit())
}

/// Servers break long lists into lines.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|it| !it.is_empty())
}

/// Of a UUID as text.
const UUID_LENGTH: usize = 36;

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn maria(text: &str) -> Gtids {
        Gtids::of_mariadb(text).unwrap()
    }

    fn mysql(text: &str) -> Gtids {
        Gtids::of_mysql(&text.replace('A', A).replace('B', B)).unwrap()
    }

    #[test]
    fn within_a_domain_of_mariadb_the_number_tells() {
        for (these, others) in [
            ("0-1-100", "0-1-100"),
            ("0-1-100", "0-1-99"),
            ("0-2-101", "0-1-100"),
            ("0-1-9,5-3-7", "5-3-7"),
            ("0-1-9,5-3-7", "0-1-9,5-3-6"),
            ("0-1-1", ""),
            ("", ""),
            ("0-1-18446744073709551615", "0-1-18446744073709551614"),
        ] {
            assert!(maria(these).covers(&maria(others)), "{these} {others}");
        }
        for (these, others) in [
            ("0-1-99", "0-1-100"),
            // Two servers wrote the same number: they are not one history.
            ("0-2-100", "0-1-100"),
            ("0-1-100", "5-1-1"),
            ("0-1-100,5-1-1", "0-1-99,5-1-2"),
            ("", "0-1-1"),
        ] {
            assert!(!maria(these).covers(&maria(others)), "{these} {others}");
        }
    }

    #[test]
    fn of_mysql_every_transaction_counts_gaps_too() {
        for (these, others) in [
            ("A:1-5", "A:1-5"),
            ("A:1-5,B:1", "A:2-3:5"),
            ("A:1-5:7-9", "A:8"),
            ("A:1-3:4-6", "A:1-6"),
            ("A:1-5:tag:1-2", "A:tag:2"),
            ("A:1-5", ""),
        ] {
            assert!(mysql(these).covers(&mysql(others)), "{these} {others}");
        }
        for (these, others) in [
            ("A:1-5:7-9", "A:6"),
            ("A:1-5:7-9", "A:1-9"),
            ("A:1-5", "A:1-5,B:1"),
            ("A:1-5", "A:tag:1"),
            ("A:tag:1-5", "A:1"),
            ("", "B:1"),
        ] {
            assert!(!mysql(these).covers(&mysql(others)), "{these} {others}");
        }
    }

    #[test]
    fn what_servers_print_is_read_and_printed_alike() {
        for text in ["", "0-1-100", "0-1-100,5-2-7"] {
            assert_eq!(maria(text).to_string(), text);
        }
        let long = format!("{A}:1-5:7,\n{B}:1-3");
        assert_eq!(Gtids::of_mysql(&long).unwrap().to_string(), long.replace('\n', ""));
        assert_eq!(mysql("B:3-4,A:5:1-4:9"), mysql("A:1-5:9,B:3:4"));
        assert_eq!(mysql("A:1:Tag:2"), mysql("A:1,A:tag:2"));
    }

    #[test]
    fn what_is_no_position_is_not_taken_for_one() {
        for text in ["0-1", "x-1-1", "0-1-", "0-1-1-1", "0-1-x"] {
            assert_eq!(Gtids::of_mariadb(text), None, "{text}");
        }
        for text in ["A:5-1", "A:0", "A:x-", "short:1", "A:1-99999999999999999999"] {
            assert_eq!(Gtids::of_mysql(&text.replace('A', A)), None, "{text}");
        }
        assert!(!maria("0-1-1").covers(&mysql("")) && !mysql("A:1").covers(&maria("")));
    }

    #[test]
    fn who_lacks_what_another_has_is_behind_it() {
        assert!(maria("0-1-99").lacks_of(&maria("0-2-100")));
        assert!(!maria("0-1-100").lacks_of(&maria("0-2-100,7-9-9")));
        assert!(mysql("A:1-5").lacks_of(&mysql("A:1-3,B:1")));
        assert!(!mysql("A:1-5").lacks_of(&mysql("A:1-3")));
    }

    #[test]
    fn two_positions_are_united_and_taken_apart() {
        assert_eq!(maria("0-1-99,3-1-1").united(&maria("0-2-100,4-1-1")), maria("0-2-100,3-1-1,4-1-1"));
        assert_eq!(mysql("A:1-5").united(&mysql("A:6-7,B:1")), mysql("A:1-7,B:1"));
        assert_eq!(maria("0-1-99,3-2-1").written_by(2), maria("3-2-1"));
        assert_eq!(mysql("A:1-5:tag:1,B:1-3").split_by(&A.to_uppercase()), (mysql("A:1-5:tag:1"), mysql("B:1-3")));
    }
}
