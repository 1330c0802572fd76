//! Whether what several shards show was true at one moment, and shows each transaction on all of them or on none.
//!
//! Each shard is looked at twice: by the transaction that will read there, and then, once all of these have their
//! snapshots, by another connection. A snapshot that is the same both times was the current one at every moment between,
//! so that there was a moment at which all were. A transaction over several shards is seen in part only while its home
//! has committed and another shard has it prepared: the second look lists what is prepared *before* it asks for the
//! snapshot, so that what was prepared at that moment is on the list.

use crate::topology::gid::Gid;

/// What one shard showed.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The shard's name.
    pub shard: String,
    /// Its `system_identifier`; 0: not known.
    pub system: u64,
    /// `pg_current_snapshot()` in the transaction that will read.
    pub first: String,
    /// The same, asked anew by another connection when every shard had given its first.
    pub second: String,
    /// The timeline then.
    pub timeline: u32,
    /// The prepared transactions of this database, asked just before that.
    pub prepared: Vec<String>,
}

/// Why looks are no cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A transaction ended on that shard meanwhile.
    Moved(String),
    /// A transaction that may have committed elsewhere is prepared on that shard: its name.
    InDoubt(String, String),
}

/// A snapshot as `pg_current_snapshot()` spells it.
struct Snapshot {
    /// No transaction from here on has ended.
    end: u64,
    /// Those before that have not.
    running: Vec<u64>,
}

impl Snapshot {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (_, end, running) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        let running = running.split(',').filter(|it| !it.is_empty()).map(str::parse).collect::<Result<_, _>>().ok()?;
        parts.next().is_none().then_some(Self { end, running })
    }

    /// Whether nothing that the transaction did is to be seen, as it has not ended.
    fn is_open(&self, xid: u64) -> bool {
        xid >= self.end || self.running.contains(&xid)
    }
}

/// The first reason for which looks at *all* shards of a database are no cut.
#[must_use]
pub fn flaw(looks: &[Look]) -> Option<Flaw> {
    if let Some(look) = looks.iter().find(|it| it.first.is_empty() || it.first != it.second) {
        return Some(Flaw::Moved(look.shard.clone()));
    }
    looks.iter().find_map(|look| {
        let name = look.prepared.iter().find(|it| !is_harmless(it, looks))?;
        Some(Flaw::InDoubt(look.shard.clone(), name.clone()))
    })
}

/// Whether its home shows nothing of a prepared transaction, so that no shard does.
fn is_harmless(name: &str, looks: &[Look]) -> bool {
    let Some(gid) = Gid::read(name) else { return false };
    // After a failover numbers are given out again: on another timeline this one tells nothing.
    let home = looks
        .iter()
        .find(|it| it.shard == gid.home && it.system == gid.system && gid.system != 0 && it.timeline == gid.timeline);
    home.and_then(|it| Snapshot::read(&it.first)).is_some_and(|it| it.is_open(gid.xid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(shard: &str, snapshot: &str, prepared: &[String]) -> Look {
        Look {
            shard: shard.to_owned(),
            system: if shard == "a" { 7 } else { 8 },
            first: snapshot.to_owned(),
            second: snapshot.to_owned(),
            timeline: 1,
            prepared: prepared.to_vec(),
        }
    }

    fn gid(home: &str, xid: u64, timeline: u32, system: u64) -> String {
        let (cluster, home, digest) = ("c".to_owned(), home.to_owned(), "d".repeat(64));
        Gid { cluster, home, xid, timeline, digest, system }.to_string()
    }

    #[test]
    fn what_ends_between_two_looks_spoils_them() {
        let mut looks = [look("a", "5:9:5,7", &[]), look("b", "3:3:", &[])];
        assert_eq!(flaw(&looks), None);
        looks[1].second = "3:4:".to_owned();
        assert_eq!(flaw(&looks), Some(Flaw::Moved("b".to_owned())));
        looks[1] = look("b", "", &[]);
        assert_eq!(flaw(&looks), Some(Flaw::Moved("b".to_owned())));
    }

    #[test]
    fn a_prepared_part_is_harmless_while_its_home_has_not_ended() {
        let with = |name: String| flaw(&[look("a", "5:9:5,7", &[]), look("b", "3:3:", &[name])]);
        // 5 and 7 run, and so may whatever has not been seen to end.
        for xid in [5, 7, 9, 12] {
            assert_eq!(with(gid("a", xid, 1, 7)), None, "{xid}");
        }
        // These have ended: the home shows what they did, or nobody ever will.
        for xid in [4, 6, 8] {
            assert!(matches!(with(gid("a", xid, 1, 7)), Some(Flaw::InDoubt(..))), "{xid}");
        }
    }

    #[test]
    fn a_part_whose_home_cannot_be_judged_is_in_doubt() {
        let with = |name: String| flaw(&[look("a", "5:9:5", &[]), look("b", "3:3:", &[name])]);
        for name in [
            gid("c", 12, 1, 7),
            gid("a", 12, 2, 7),
            gid("a", 12, 1, 9),
            gid("a", 12, 1, 0),
            "shardway:2:what is to come".to_owned(),
        ] {
            assert!(matches!(with(name.clone()), Some(Flaw::InDoubt(..))), "{name}");
        }
        // A snapshot that cannot be read shows nothing.
        let looks = [look("a", "5:9", &[]), look("b", "3:3:", &[gid("a", 12, 1, 7)])];
        assert!(matches!(flaw(&looks), Some(Flaw::InDoubt(..))));
    }
}
