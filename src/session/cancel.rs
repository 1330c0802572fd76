//! Cancel keys: which server connections a client's cancel request is for, and which of several proxies has its session.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::backend::Connection;
use crate::backend::connection::CancelTarget;
use crate::backend::connection::login;
use crate::clock;
use crate::clock::Tick;
use crate::net::ClientTls;
use crate::tasks;
use crate::topology::deadlock::Process;
use crate::topology::deadlock::Sessions;
use crate::topology::deadlock::Spread;

/// How long a cancel request of the proxy's own may take.
const CANCEL: Duration = Duration::from_secs(3);

/// Behind a proxy's number, a process's number has room for so many bits.
const NUMBER_AT: u32 = 21;

/// Stands behind the key of a request that another proxy has passed on, and is not passed on again.
const PASSED_ON: &[u8; 4] = b"pass";

/// The proxies that a balancer may hand a cancel request to, though another has the session.
pub trait Peers: Send + Sync {
    /// This proxy's number among them, up to 10 bits; 0: it has none.
    fn number(&self) -> u16;

    /// Where the proxy of that number is reached in Postgres's protocol.
    fn address(&self, number: u16) -> Option<(String, u16)>;
}

/// All sessions' cancel keys.
#[derive(Default)]
pub struct Cancels {
    slots: Mutex<HashMap<u32, (u32, Arc<Slot>)>>,
    peers: OnceLock<Box<dyn Peers>>,
}

impl std::fmt::Debug for Cancels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancels").field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// What one session runs now.
#[derive(Debug, Default)]
struct Slot {
    running: Mutex<Running>,
    /// A cancel request came since the session last began something.
    struck: AtomicBool,
    /// What it waits for is being ended, for others wait for it: [`Ticket::doom`].
    doomed: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Running {
    targets: Vec<Arc<CancelTarget>>,
    /// Of these, the ones that a cancel request is on its way to: their connections are not reused.
    hit: Vec<Arc<CancelTarget>>,
    /// When the newest of them was added.
    joined: Tick,
    /// When it was last ended for a deadlock's sake.
    doomed: Tick,
}

/// A session's own entry; taken out when it is dropped.
#[derive(Debug)]
pub struct Ticket {
    cancels: Arc<Cancels>,
    /// What BackendKeyData tells the client.
    pub pid: u32,
    /// What BackendKeyData tells the client.
    pub key: u32,
    slot: Arc<Slot>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cancels {
    /// From now on, keys say which proxy gave them; at most once.
    pub fn share(&self, peers: Box<dyn Peers>) {
        // A second one changes nothing.
        let _ = self.peers.set(peers);
    }

    fn number(&self) -> u16 {
        self.peers.get().map_or(0, |it| it.number())
    }

    /// An entry with a number and a key of its own.
    #[must_use]
    pub fn ticket(self: &Arc<Self>) -> Ticket {
        let slot = Arc::new(Slot::default());
        let key = rand::random::<u32>();
        let number = u32::from(self.number());
        let mut slots = locked(&self.slots);
        let pid = loop {
            let any = rand::random::<u32>() >> 1;
            let pid = if number == 0 { any } else { number << NUMBER_AT | any & ((1 << NUMBER_AT) - 1) };
            if pid != 0 && !slots.contains_key(&pid) {
                break pid;
            }
        };
        slots.insert(pid, (key, Arc::clone(&slot)));
        Ticket { cancels: Arc::clone(self), pid, key, slot }
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        locked(&self.slots).len()
    }

    /// Carries out a cancel request; a wrong key does nothing, as on a server. False: no session has that number and key.
    pub async fn cancel(&self, pid: u32, key: &[u8], connect: Duration) -> bool {
        let found = locked(&self.slots).get(&pid).cloned();
        let Some((right, slot)) = found else { return false };
        let key = passed_on(key).unwrap_or(key);
        if !bool::from(right.to_be_bytes().ct_eq(key)) {
            return false;
        }
        slot.cancel_all(connect).await;
        true
    }

    /// Passes a cancel request on to the proxy that has the session, unless another has passed it on already.
    pub async fn pass_on(&self, pid: u32, key: &[u8], connect: Duration) {
        if passed_on(key).is_some() {
            return;
        }
        let Some(peers) = self.peers.get() else { return };
        let number = u16::try_from(pid >> NUMBER_AT).unwrap_or(0);
        if number == 0 || number == peers.number() {
            return;
        }
        let Some((host, port)) = peers.address(number) else { return };
        // Whoever listens there has no key of a server: TLS keeps others from reading this one.
        let tls = ClientTls::preferred(None).unwrap_or_else(|_| ClientTls::disabled());
        let key = [key, PASSED_ON].concat();
        let asked = login::cancel(&host, port, &tls, pid, &key, clock::now().plus(connect)).await;
        if let Err(error) = asked {
            tracing::warn!(number, host, port, %error, "a cancel request for another proxy did not get through");
        }
    }
}

/// The key, where another proxy has passed the request on.
fn passed_on(key: &[u8]) -> Option<&[u8]> {
    key.strip_suffix(PASSED_ON).filter(|it| it.len() == PASSED_ON.len())
}

impl Slot {
    async fn cancel_all(&self, connect: Duration) {
        let targets = {
            self.struck.store(true, Ordering::Relaxed);
            let mut running = locked(&self.running);
            let targets = running.targets.clone();
            running.hit.extend(targets.iter().cloned());
            targets
        };
        for target in targets {
            send(&target, connect).await;
        }
    }
}

impl Sessions for Cancels {
    fn spread(&self, age: Duration) -> Vec<Spread> {
        let now = clock::now();
        let mut found = Vec::new();
        for (session, (_, slot)) in locked(&self.slots).iter() {
            let running = locked(&slot.running);
            if running.targets.len() < 2 || now.since(running.joined) < age {
                continue;
            }
            let process = |it: &Arc<CancelTarget>| Process { host: Arc::clone(&it.host), port: it.port, pid: it.pid };
            found.push(Spread { session: *session, processes: running.targets.iter().map(process).collect() });
        }
        found
    }

    fn end(&self, session: u32, waiting: &[Process]) {
        let Some((_, slot)) = locked(&self.slots).get(&session).cloned() else { return };
        let mut running = locked(&slot.running);
        for process in waiting {
            let is_it =
                |it: &&Arc<CancelTarget>| it.pid == process.pid && it.port == process.port && it.host == process.host;
            let Some(target) = running.targets.iter().find(is_it).cloned() else { continue };
            // What has been asked is given time; a request may have got lost, or have struck what came before.
            let now = clock::now();
            if slot.doomed.swap(true, Ordering::Relaxed) && now.since(running.doomed) < CANCEL {
                continue;
            }
            running.doomed = now;
            running.hit.push(Arc::clone(&target));
            tasks::shared("deadlock", async move { send(&target, CANCEL).await });
        }
    }
}

async fn send(target: &CancelTarget, connect: Duration) {
    let deadline = clock::now().plus(connect);
    let asked = login::cancel(&target.host, target.port, &target.tls, target.pid, &target.key, deadline).await;
    if let Err(error) = asked {
        tracing::warn!(host = %target.host, port = target.port, %error, "a cancel request did not get through");
    }
}

impl Ticket {
    /// Notes a connection that the session holds.
    pub fn add(&self, connection: &Connection) {
        let mut running = locked(&self.slot.running);
        running.targets.push(Arc::clone(&connection.target));
        // The only one waits for nobody who waits for it elsewhere.
        if running.targets.len() > 1 {
            running.joined = clock::now();
        }
    }

    /// The session lets go of a connection. False: a cancel request was sent to it and may strike late, so that it must
    /// be closed.
    #[must_use = "a connection that may be cancelled late must not be reused"]
    pub fn remove(&self, connection: &Connection) -> bool {
        let mut running = locked(&self.slot.running);
        // Not by the number of the process: each server counts its own.
        let is_other = |target: &Arc<CancelTarget>| !Arc::ptr_eq(target, &connection.target);
        running.targets.retain(is_other);
        let clean = running.hit.iter().all(is_other);
        running.hit.retain(is_other);
        clean
    }

    /// The session begins something: cancel requests from before are not for it.
    pub fn begin(&self) {
        self.slot.struck.store(false, Ordering::Relaxed);
        self.slot.doomed.store(false, Ordering::Relaxed);
    }

    /// True while what the session waits for is being ended for others' sake: the servers' word for that, "canceling
    /// statement due to user request", is not what its client is to hear.
    #[must_use]
    pub fn doom(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.slot.doomed)
    }

    /// Whether what the session does was to be cancelled. It may have been between two of its steps then, so that no
    /// server was struck.
    #[must_use]
    pub fn is_struck(&self) -> bool {
        self.slot.struck.load(Ordering::Relaxed)
    }

    /// Cancels what runs on the connection, without waiting for it.
    pub fn cancel_now(connection: &Connection) {
        let target = Arc::clone(&connection.target);
        tasks::local("cancel", async move {
            send(&target, CANCEL).await;
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        locked(&self.cancels.slots).remove(&self.pid);
    }
}
