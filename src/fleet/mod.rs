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
use crate::topology::lead::mandate::Mandate;
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
    /// The one of them that may lead failovers.
    pub leader: Option<u16>,
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
    /// What a proxy that is elected is given.
    mandate: Arc<Mandate>,
    /// Whether this one stands for election.
    stands: watch::Receiver<bool>,
}

/// What hangs on one lease.
#[derive(Debug)]
struct Lease {
    id: i64,
    /// Before it was asked for the last time that it was given.
    renewed: Tick,
    /// Until when this proxy may count on it.
    until: Tick,
}

impl Fleet {
    /// Nobody is asked anything before [`Fleet::run`]. Among those of which `stands` is true, one is given its mandate.
    #[must_use]
    pub fn new(etcd: Etcd, own: Member, mandate: Arc<Mandate>, stands: watch::Receiver<bool>) -> Arc<Self> {
        Arc::new(Self {
            etcd,
            own: Mutex::new(own),
            changed: Notify::new(),
            gone: Notify::new(),
            seen: watch::Sender::default(),
            mandate,
            stands,
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

    /// Whether this proxy is the one that may lead failovers.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.mandate.term(clock::now()).is_some()
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
        self.mandate.take_away();
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
        let mut stands = self.stands.clone();
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
                        self.mandate.take_away();
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
                Ok(()) = stands.changed() => true,
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
                Some(span) => *lease = Lease { renewed: now, until: counted_on(now, span), ..*lease },
                None => {
                    tracing::warn!("the lease of this proxy has run out; it takes another");
                    *kept = None;
                    self.mandate.take_away();
                }
            }
        }
        let lease = match kept {
            Some(lease) => lease,
            None => {
                let now = clock::now();
                let (id, span) = self.etcd.grant(TTL).await?;
                kept.insert(Lease { id, renewed: now, until: counted_on(now, span) })
            }
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
        let leads = |held: &Held| held.leader.as_ref().filter(|it| it.lease == lease.id).cloned();
        if !*self.stands.borrow() {
            self.mandate.take_away();
            if let Some(leader) = leads(&held) {
                self.etcd.write(&[("leader", leader.written)], &[], 0, &["leader"]).await?;
                held = Held::read(&self.etcd).await?;
            }
        } else if held.leader.is_none() {
            // Whoever was faster is seen.
            self.etcd.write(&[("leader", 0)], &[("leader", &own.name)], lease.id, &[]).await?;
            held = Held::read(&self.etcd).await?;
        }
        match leads(&held).and_then(|it| u64::try_from(it.created).ok()).filter(|_| *self.stands.borrow()) {
            Some(term) => {
                if self.mandate.term(clock::now()) != Some(term) {
                    tracing::info!(term, "this proxy may lead failovers");
                }
                self.mandate.give(term, lease.until);
            }
            None => self.mandate.take_away(),
        }
        let leader = held.leader.as_ref().and_then(|leader| {
            held.members.iter().find(|(_, (_, pair))| pair.lease == leader.lease).map(|(number, _)| *number)
        });
        let ours = held.members.iter().find(|(_, (_, pair))| pair.lease == lease.id);
        let number = ours.map_or(before, |(number, _)| *number);
        let members = held.members.into_iter().map(|(number, (member, _))| (number, member)).collect();
        self.seen.send_if_modified(|it| {
            let now = Seen { answers: it.answers, version: held.version, members, leader, number };
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

/// Until when a lease may be counted on that was asked for then, and given for so long.
fn counted_on(asked: Tick, span: Duration) -> Tick {
    asked.plus(span.saturating_sub(MARGIN))
}

/// How much earlier a proxy stops to count on its lease than etcd ends it: clocks run differently fast.
const MARGIN: Duration = Duration::from_secs(1);
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
