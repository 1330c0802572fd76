//! Several proxies that act as one, by etcd: the map they share, who of them is there, and which edition of it each serves.
//!
//! What is on a statement's way never asks here. While etcd does not answer, everything stays as it was known last.

pub mod etcd;
pub mod place;
pub mod store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::clock;
use crate::clock::Tick;
use etcd::Etcd;
use etcd::EtcdError;
use etcd::Watch;
use store::Held;
use store::Member;

/// What was heard from etcd last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether it answers now.
    pub answers: bool,
    /// The number of the map's edition in force.
    pub version: Option<u64>,
    /// The proxies that are there.
    pub members: BTreeMap<u16, Member>,
    /// This proxy's own number among them; 0 until it has one, and kept when its lease has run out.
    pub number: u16,
}

/// One proxy's membership.
pub struct Fleet {
    etcd: Etcd,
    /// What it says of itself.
    own: Mutex<Member>,
    /// That has changed.
    changed: Notify,
    /// It has stopped.
    gone: Notify,
    seen: watch::Sender<Seen>,
}

/// What hangs on one lease.
#[derive(Debug)]
struct Lease {
    id: i64,
    /// Before it was asked for the last time that it was given.
    renewed: Tick,
}

impl Fleet {
    /// Nobody is asked anything before [`Fleet::run`].
    #[must_use]
    pub fn new(etcd: Etcd, own: Member) -> Arc<Self> {
        Arc::new(Self {
            etcd,
            own: Mutex::new(own),
            changed: Notify::new(),
            gone: Notify::new(),
            seen: watch::Sender::default(),
        })
    }

    /// What is asked.
    #[must_use]
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// What was heard last, and what will be.
    #[must_use]
    pub fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Says which edition is served, and why not a later one.
    pub fn acknowledge(&self, version: u64, rejected: Option<&str>) {
        let rejected = rejected.map(|it| it.chars().take(REJECTED_MAX).collect());
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if (own.version, &own.rejected) != (version, &rejected) {
            (own.version, own.rejected) = (version, rejected);
            self.changed.notify_one();
        }
    }

    /// Is a member until `shutdown` is true.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut lease = None;
        tokio::select! {
            () = self.rounds(&mut lease) => {}
            // An error means that whoever could say so is gone, which says it too.
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
        if let Some(lease) = lease {
            // Or the others would wait for it to run out.
            let _ = self.etcd.revoke(lease.id).await;
        }
        self.gone.notify_one();
    }

    /// Waits until the others know that this proxy has stopped, but no longer than that.
    pub async fn left(&self, span: Duration) {
        let _ = timeout(span, self.gone.notified()).await;
    }

    async fn rounds(&self, lease: &mut Option<Lease>) {
        let mut watch: Option<Watch> = None;
        loop {
            let done = self.round(lease).await;
            let answers = done.is_ok();
            let before = self.seen.send_if_modified(|it| std::mem::replace(&mut it.answers, answers) != answers);
            match done {
                Ok(()) if before => tracing::info!(place = %self.etcd.place(), "etcd answers"),
                Ok(()) => {}
                Err(error) => {
                    if before {
                        tracing::error!(%error, "etcd does not answer: the map stays as it is, and clients are served");
                    }
                    // A lease that etcd does not know any more says so by an answer.
                    if error.is_answer && error.text.contains("lease not found") {
                        *lease = None;
                    }
                    watch = None;
                    sleep(TRY_AGAIN).await;
                    continue;
                }
            }
            if watch.is_none() {
                watch = self.etcd.watch().await.ok();
            }
            // What a watch does not tell, because its connection is dead, is looked at all the same.
            let told = async {
                match &mut watch {
                    Some(it) => it.changed().await,
                    None => std::future::pending().await,
                }
            };
            let goes_on = tokio::select! {
                goes_on = told => goes_on,
                () = self.changed.notified() => true,
                () = sleep(LOOK) => true,
            };
            if !goes_on {
                watch = None;
                sleep(TRY_AGAIN).await;
            }
        }
    }

    /// Renews the lease, looks, and has etcd hold what this proxy says of itself.
    async fn round(&self, kept: &mut Option<Lease>) -> Result<(), EtcdError> {
        let now = clock::now();
        if let Some(lease) = kept
            && now.since(lease.renewed) >= RENEW
        {
            match self.etcd.renew(lease.id).await? {
                Some(_) => lease.renewed = now,
                None => {
                    tracing::warn!("the lease of this proxy has run out; it takes another");
                    *kept = None;
                }
            }
        }
        let lease = match kept {
            Some(lease) => lease,
            None => kept.insert(Lease { id: self.etcd.grant(TTL).await?.0, renewed: now }),
        };
        let mut held = Held::read(&self.etcd).await?;
        let before = self.seen.borrow().number;
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ours = |number: &u16| held.members.get(number).is_some_and(|(_, pair)| pair.lease == lease.id);
        let number = if ours(&before) { Some(before) } else { held.members.keys().copied().find(ours) };
        let current = number.and_then(|it| held.members.get(&it));
        if current.is_none_or(|(member, _)| *member != own) {
            // The number that its sessions' cancel keys name, if nobody has taken it.
            let free = |it: &u16| *it != 0 && !held.members.contains_key(it);
            let number = number.or_else(|| Some(before).filter(free)).or_else(|| (1..=NUMBER_MAX).find(free));
            let Some(number) = number else {
                let text = format!("there are {NUMBER_MAX} proxies under {} already", self.etcd.place());
                return Err(EtcdError { text, is_answer: false });
            };
            let (key, written) = (format!("proxies/{number:04}"), current.map_or(0, |(_, pair)| pair.written));
            // Whoever was faster is seen, and this one tries again.
            self.etcd.write(&[(&key, written)], &[(&key, &own.text())], lease.id, &[]).await?;
            held = Held::read(&self.etcd).await?;
        }
        let ours = held.members.iter().find(|(_, (_, pair))| pair.lease == lease.id);
        let number = ours.map_or(before, |(number, _)| *number);
        let members = held.members.into_iter().map(|(number, (member, _))| (number, member)).collect();
        self.seen.send_if_modified(|it| {
            let now = Seen { answers: it.answers, version: held.version, members, number };
            let differs = *it != now;
            *it = now;
            differs
        });
        Ok(())
    }

    /// Waits until this proxy has a number, but no longer than that.
    pub async fn joined(&self, span: Duration) -> bool {
        let mut seen = self.seen();
        timeout(span, seen.wait_for(|it| it.number != 0)).await.is_ok_and(|it| it.is_ok())
    }
}

/// How long a lease is, in seconds: a proxy that has died is gone after that.
const TTL: u64 = 5;
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(1);
/// How often etcd is looked at, whatever a watch says.
const LOOK: Duration = Duration::from_secs(1);
/// After it has not answered.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// Cancel keys have room for this many.
const NUMBER_MAX: u16 = 1023;
/// How much of a reason is told.
const REJECTED_MAX: usize = 2000;
