//! The names of a transaction over several shards and of its parts, as XA knows them: all that anybody needs to find out how
//! it ended.

use std::fmt;

/// The number by which our names are told from others': it spells SHRD.
pub const FORMAT: i64 = 1_397_248_580;

/// How every name begins.
const PREFIX: &str = "shardway:";

/// A transaction's name (`gtrid`, 64 bytes at most).
///
/// It names the cluster (so that no other cluster's proxies touch it), the server whose log has the decision, and when it
/// began: what is older than the logs are kept cannot be presumed to be aborted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gid {
    /// The cluster, 16 hexadecimal digits, as `shardway.cluster` on every shard says.
    pub cluster: Box<str>,
    /// The home's own name there, likewise.
    pub home: Box<str>,
    /// When it began, in seconds since 1970 by the clock of its coordinator.
    pub begun: u32,
    /// What tells it from others; 48 bits.
    pub number: u64,
}

/// One of its parts (`bqual`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Branch {
    /// The transaction.
    pub gid: Gid,
    /// The shard's place in its coordinator's map: no two parts are called alike.
    pub place: u16,
    /// The connection that it began on. While that lives, only it can end what it has prepared.
    pub thread: u32,
    /// The home's connection: while that goes on, nothing is decided.
    pub home_thread: u32,
}

impl Gid {
    /// Reads a name; `None`: it is none of ours.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.strip_prefix(PREFIX)?.split(':').collect();
        let [cluster, home, rest] = parts.as_slice() else { return None };
        let is_hex = |it: &str, length: usize| it.len() == length && it.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex(cluster, 16) || !is_hex(home, 16) || !is_hex(rest, 20) {
            return None;
        }
        let (begun, number) = rest.split_at_checked(8)?;
        Some(Self {
            cluster: (*cluster).into(),
            home: (*home).into(),
            begun: u32::from_str_radix(begun, 16).ok()?,
            number: u64::from_str_radix(number, 16).ok()?,
        })
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, home, begun, number } = self;
        write!(f, "{PREFIX}{cluster}:{home}:{begun:08x}{:012x}", number & NUMBER_MAX)
    }
}

/// The largest number of a [`Gid`].
pub const NUMBER_MAX: u64 = (1 << 48) - 1;

impl Branch {
    /// Reads what XA RECOVER tells of a part; `None`: it is none of ours.
    #[must_use]
    pub fn read(format: i64, gtrid: &[u8], bqual: &[u8]) -> Option<Self> {
        if format != FORMAT {
            return None;
        }
        let gid = Gid::read(std::str::from_utf8(gtrid).ok()?)?;
        let mut parts = std::str::from_utf8(bqual).ok()?.split(':');
        let branch = Self {
            gid,
            place: parts.next()?.parse().ok()?,
            thread: parts.next()?.parse().ok()?,
            home_thread: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(branch)
    }
}

/// As XA statements name it.
impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gid, place, thread, home_thread } = self;
        write!(f, "'{gid}','{place}:{thread}:{home_thread}',{FORMAT}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let gid = Gid {
            cluster: "0123456789abcdef".into(),
            home: "fedcba9876543210".into(),
            begun: u32::MAX,
            number: NUMBER_MAX,
        };
        assert_eq!(Gid::read(&gid.to_string()), Some(gid.clone()));
        assert_eq!(gid.to_string().len(), 63);
        let branch = Branch { gid, place: u16::MAX, thread: u32::MAX, home_thread: u32::MAX };
        let text = branch.to_string();
        let names: Vec<&str> = text.split(',').map(|it| it.trim_matches('\'')).collect();
        assert!(names.iter().all(|it| it.len() <= 64), "{text}");
        assert_eq!(Branch::read(FORMAT, names[0].as_bytes(), names[1].as_bytes()), Some(branch));
    }

    #[test]
    fn what_others_prepared_is_left_alone() {
        let name = "shardway:0123456789abcdef:fedcba9876543210:0000000000000000000a";
        assert!(Branch::read(FORMAT, name.as_bytes(), b"1:2:3").is_some());
        for (format, gtrid, bqual) in [
            (1, name, "1:2:3"),
            (FORMAT, name, "1:2"),
            (FORMAT, name, "1:2:3:4"),
            (FORMAT, name, "x:2:3"),
            (FORMAT, "app-1", "1:2:3"),
            (FORMAT, "shardway:0123456789abcdef:fedcba9876543210:0", "1:2:3"),
            (FORMAT, "shardway:0123456789abcdeg:fedcba9876543210:0000000000000000000a", "1:2:3"),
        ] {
            assert_eq!(Branch::read(format, gtrid.as_bytes(), bqual.as_bytes()), None, "{gtrid} {bqual}");
        }
        assert_eq!(Branch::read(FORMAT, &[0xff], b"1:2:3"), None);
    }
}
