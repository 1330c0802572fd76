//! The name of a transaction over several shards: all that anybody needs to find out how it ended.

use std::fmt;

/// A transaction identifier as PREPARE TRANSACTION knows it.
///
/// It names the cluster (so that no other cluster's proxies touch it), the home shard, whose log has the decision, the
/// home's transaction, which alone may take it, and the digest of what proves a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gid {
    /// The cluster, as `shardway.cluster` on every shard says.
    pub cluster: String,
    /// The name of the home shard.
    pub home: String,
    /// The home's transaction: a full transaction id, with its epoch.
    pub xid: u64,
    /// The timeline on which the home handed that number out.
    pub timeline: u32,
    /// SHA-256 of the secret, in hexadecimal.
    pub digest: String,
    /// The home's `system_identifier`: names of shards can change.
    pub system: u64,
}

/// How every such name begins.
pub const PREFIX: &str = "shardway:1:";

/// The longest name that a server takes, in bytes (`GIDSIZE` less its zero byte).
const LENGTH_MAX: usize = 199;

impl Gid {
    /// Reads a name; `None`: it is nobody's of ours.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.strip_prefix(PREFIX)?.split(':').collect();
        let [cluster, home, xid, timeline, digest, system] = parts.as_slice() else { return None };
        Some(Self {
            cluster: (*cluster).to_owned(),
            home: unescaped(home)?,
            xid: xid.parse().ok()?,
            timeline: timeline.parse().ok()?,
            digest: (*digest).to_owned(),
            system: system.parse().ok()?,
        })
    }

    /// Whether a server takes it.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.to_string().len() <= LENGTH_MAX
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, home, xid, timeline, digest, system } = self;
        write!(f, "{PREFIX}{cluster}:{}:{xid}:{timeline}:{digest}:{system}", escaped(home))
    }
}

/// Letters, digits, `_`, `-` and `.` stand for themselves; any other byte is `%` and two hexadecimal digits.
fn escaped(name: &str) -> String {
    name.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') {
            all.push(char::from(byte));
        } else {
            all.push_str(&format!("%{byte:02x}"));
        }
        all
    })
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, more) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = more;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let gid = Gid {
            cluster: "0123456789abcdef".into(),
            home: "größer: 1%".into(),
            xid: u64::MAX,
            timeline: 7,
            digest: "d".repeat(64),
            system: u64::MAX,
        };
        assert_eq!(Gid::read(&gid.to_string()), Some(gid.clone()));
        assert!(gid.fits());
        assert!(!Gid { home: "x".repeat(120), ..gid }.fits());
    }

    #[test]
    fn what_others_prepared_is_left_alone() {
        for text in [
            "",
            "app-1",
            "shardway:2:a:b:1:1:d:1",
            "shardway:1:a:b:1:1:d",
            "shardway:1:a:%zz:1:1:d:1",
            "shardway:1:a:b:x:1:d:1",
        ] {
            assert_eq!(Gid::read(text), None, "{text}");
        }
    }
}
