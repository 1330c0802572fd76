//! A fleet's map and its editions in etcd: what is pushed, what was, who has it.
//!
//! | key under the prefix | holds |
//! |---|---|
//! | `map` | the number of the edition in force |
//! | `maps/0000000007` | that edition's text |
//! | `pushes/0000000007` | when it was pushed, by whom, and a mark by which the pusher knows it |
//! | `leader` | the name of the proxy that may lead failovers; goes with its lease |
//! | `proxies/0003` | where a proxy is, which edition it serves, why it does not serve a later one; goes with its lease |

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use super::etcd::Etcd;
use super::etcd::EtcdError;
use super::etcd::Pair;
use crate::clock;

/// The largest text that is pushed, in bytes: etcd takes requests of 1.5 MiB, unless it is told otherwise.
pub const TEXT_MAX: usize = 1 << 20;

/// So many editions are kept.
const KEPT: u64 = 100;

/// One edition's place in history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Its number.
    pub version: u64,
    /// When it was pushed, in words.
    pub at: String,
    /// By whom.
    pub by: String,
    mark: String,
}

/// One proxy of a fleet, as it says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its name in logs: host and process.
    pub name: String,
    /// Where others reach it.
    pub host: String,
    /// The port of Postgres's protocol there.
    pub postgres: Option<u16>,
    /// The edition that it serves.
    pub version: u64,
    /// Why it does not serve a later one.
    pub rejected: Option<String>,
}

impl Member {
    pub(super) fn text(&self) -> String {
        let Self { name, host, postgres, version, rejected } = self;
        json!({"name": name, "host": host, "postgres": postgres, "version": version, "rejected": rejected}).to_string()
    }

    fn read(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let word = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let port = value.get("postgres").and_then(Value::as_u64).and_then(|it| u16::try_from(it).ok());
        Some(Self {
            name: word("name")?,
            host: word("host")?,
            postgres: port,
            version: value.get("version")?.as_u64()?,
            rejected: word("rejected"),
        })
    }
}

/// What etcd holds at one moment, the texts aside.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// The number of the edition in force.
    pub(super) version: Option<u64>,
    /// When that was written.
    written: i64,
    /// All proxies by their numbers, and their keys.
    pub(super) members: BTreeMap<u16, (Member, Pair)>,
    /// Who leads.
    pub(super) leader: Option<Pair>,
}

impl Held {
    pub(super) async fn read(etcd: &Etcd) -> Result<Self, EtcdError> {
        let [map, proxies, leader] = &*etcd.read(&["map", "proxies/", "leader"]).await? else {
            return Ok(Self::default());
        };
        let map = map.first();
        let members = proxies.iter().filter_map(|pair| {
            let number = pair.key.rsplit('/').next()?.parse().ok()?;
            Some((number, (Member::read(&pair.value)?, pair.clone())))
        });
        Ok(Self {
            version: map.and_then(|it| it.value.parse().ok()),
            written: map.map_or(0, |it| it.written),
            members: members.collect(),
            leader: leader.first().cloned(),
        })
    }
}

/// Why a text is not the edition in force now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushError {
    /// Another edition is in force than the one that it was made from; 0: none.
    Superseded(u64),
    /// It is larger than [`TEXT_MAX`].
    TooLarge,
    /// etcd has not said that it was done.
    Etcd(EtcdError),
    /// Nor whether it was.
    Unknown(EtcdError),
}

/// Who pushes, and by what they know it again.
#[derive(Clone, Debug)]
pub struct Pusher {
    /// For history.
    pub by: String,
    /// Nobody else's.
    pub mark: String,
}

/// Makes a text the next edition, if `from` is in force (0: none is). Its number.
///
/// # Errors
/// Why it is not.
pub async fn push(etcd: &Etcd, text: &str, from: u64, pusher: &Pusher) -> Result<u64, PushError> {
    if text.len() > TEXT_MAX {
        return Err(PushError::TooLarge);
    }
    let held = Held::read(etcd).await.map_err(PushError::Etcd)?;
    let current = held.version.unwrap_or(0);
    if current != from {
        return Err(PushError::Superseded(current));
    }
    // A proxy takes no earlier edition than it has, and an etcd that was restored may hold one.
    let served = held.members.values().map(|(member, _)| member.version).max().unwrap_or(0);
    let version = current.max(served) + 1;
    let (map, about) = (format!("maps/{version:010}"), format!("pushes/{version:010}"));
    let said = json!({"at": clock::utc(clock::unix_now()), "by": pusher.by, "mark": pusher.mark}).to_string();
    let old = version.saturating_sub(KEPT);
    let number = version.to_string();
    let done = etcd
        .write(
            &[("map", held.written)],
            &[("map", &number), (&map, text), (&about, &said)],
            0,
            &[&format!("maps/{old:010}"), &format!("pushes/{old:010}")],
        )
        .await;
    match done {
        Ok(true) => Ok(version),
        Err(error) if error.is_answer => Err(PushError::Etcd(error)),
        // An answer may have been lost, and the second attempt then found the first one's work.
        Ok(false) | Err(_) => {
            let ours = history(etcd).await.map_err(PushError::Unknown)?.iter().any(|it| it.mark == pusher.mark);
            let current = Held::read(etcd).await.map_err(PushError::Unknown)?.version.unwrap_or(0);
            match done {
                _ if ours => Ok(version),
                // What was asked last may be done still.
                Err(error) => Err(PushError::Unknown(error)),
                Ok(_) => Err(PushError::Superseded(current)),
            }
        }
    }
}

/// An edition's number and text: that one's, or the one's in force. `None`: it is not there.
///
/// # Errors
/// As [`Etcd::ask`].
pub async fn pull(etcd: &Etcd, version: Option<u64>) -> Result<Option<(u64, String)>, EtcdError> {
    let version = match version {
        Some(version) => Some(version),
        None => Held::read(etcd).await?.version,
    };
    let Some(version) = version else { return Ok(None) };
    let found = etcd.read(&[&format!("maps/{version:010}")]).await?;
    Ok(found.first().and_then(|it| it.first()).map(|it| (version, it.value.clone())))
}

/// What was pushed, the latest first.
///
/// # Errors
/// As [`Etcd::ask`].
pub async fn history(etcd: &Etcd) -> Result<Vec<Push>, EtcdError> {
    let found = etcd.read(&["pushes/"]).await?;
    let read = |pair: &Pair| {
        let value: Value = serde_json::from_str(&pair.value).ok()?;
        let word = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let version = pair.key.rsplit('/').next()?.parse().ok()?;
        Some(Push { version, at: word("at"), by: word("by"), mark: word("mark") })
    };
    Ok(found.first().map_or(&[][..], Vec::as_slice).iter().rev().filter_map(read).collect())
}

/// The proxies that are there, by their numbers, and the number of the edition in force.
///
/// # Errors
/// As [`Etcd::ask`].
pub async fn members(etcd: &Etcd) -> Result<(Option<u64>, BTreeMap<u16, Member>), EtcdError> {
    let held = Held::read(etcd).await?;
    Ok((held.version, held.members.into_iter().map(|(number, (member, _))| (number, member)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proxy_says_of_itself_is_read_as_it_was_written() {
        let member = Member {
            name: "a:1".to_owned(),
            host: "::1".to_owned(),
            postgres: Some(6432),
            version: 7,
            rejected: Some("a \"reason\"\nin two lines".to_owned()),
        };
        assert_eq!(Member::read(&member.text()), Some(member));
        assert_eq!(Member::read(&Member::default().text()), Some(Member::default()));
        assert_eq!(Member::read("{}"), None);
        assert_eq!(Member::read("3"), None);
    }
}
