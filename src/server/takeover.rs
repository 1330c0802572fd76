//! One process → the next: the listening sockets change hands, so that an upgrade refuses nobody.
//!
//! A process that serves waits at a Unix socket beside its map. Who takes over tells it when it is ready to serve, is given
//! the listening sockets themselves (SCM_RIGHTS), accepts from them, and says so; only then the former process stops
//! accepting, and says that it has. At every moment at least one of the two accepts, and if the new one fails before it has said so, or
//! says so too late, the former one has never stopped. What it serves still, it goes on serving until its clients have left.
//!
//! A cancel request or a KILL reaches the new process, though the session may be with a former one: a datagram socket to each of
//! them comes along, and goes on to the process after this one.

use std::io;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpListener;
use tokio::net::UnixDatagram;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::admin::Operated;
use crate::admin::Standing;
use crate::ident::ShardId;
use crate::server::Process;
use crate::server::StartError;
use crate::session::mysql::kill;
use crate::session::mysql::kill::NotKilled;
use crate::tasks;
use crate::topology::order::Order;

/// Who comes to a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    Postgres,
    Mysql,
    Http,
}

impl Front {
    const ALL: [Self; 3] = [Self::Postgres, Self::Mysql, Self::Http];

    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Http => "http",
        }
    }
}

/// A listening socket, and the address that the map gives it.
pub(super) struct Socket {
    pub(super) front: Front,
    pub(super) address: SocketAddr,
    pub(super) listener: TcpListener,
}

/// What opens every conversation; the number changes with what is said in it.
const HELLO: &str = "shardway takeover 1";
const READY: &str = "ready";
const YOURS: &str = "yours";
const TAKEN: &str = "taken";
const FORMER: &str = "former";
const REFUSED: &str = "no: ";

/// How long an answer may take that needs no work.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long one that has the sockets may take to let clients in: until then nobody leads failovers.
const TAKEN_MAX: Duration = Duration::from_secs(5);
/// How long a request that is passed on may take: somewhat longer than the request to the servers.
const PASS_ON_MAX: Duration = Duration::from_secs(8);
/// How many requests are passed on at once; the others wait.
const PASSED_ON_MAX: usize = 64;
/// After nobody could be let in.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// How long a message may be, in bytes.
const MESSAGE_MAX: usize = 4096;
/// How many descriptors one may carry.
const CARRIED_MAX: usize = 64;
/// How many former processes may be there still.
const FORMERS_MAX: usize = CARRIED_MAX - Front::ALL.len();
/// How far apart the numbers of two processes' sessions are: the former one gives some to those who log in while it hands over.
const NUMBERS_APART: u32 = 1 << 20;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}

// ── the process that takes over ──

/// The process that serves, as the one sees it that is to take over.
pub(super) struct Predecessor {
    stream: UnixStream,
    offered: Vec<(Front, SocketAddr)>,
}

/// What has been handed over.
pub(super) struct Taken {
    pub(super) sockets: Vec<Socket>,
    pub(super) formers: Formers,
    /// The number that its latest session has, or a later one.
    pub(super) number: u32,
    /// Whose it was.
    pub(super) pid: u32,
}

impl Predecessor {
    /// Finds it at `path`. `None`: nobody is there.
    ///
    /// # Errors
    /// Why it hands nothing over.
    pub(super) async fn meet(path: &Path) -> Result<Option<Self>, StartError> {
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(StartError::Takeover(format!("{}: {error}", path.display()))),
        };
        let mut this = Self { stream, offered: Vec::new() };
        let offer = this.ask(HELLO).await?.0;
        for (front, address) in offer.split_whitespace().filter_map(|it| it.split_once('=')) {
            let front = Front::ALL.into_iter().find(|it| it.name() == front);
            if let (Some(front), Ok(address)) = (front, address.parse()) {
                this.offered.push((front, address));
            }
        }
        Ok(Some(this))
    }

    /// Whether it listens there, and will hand that over.
    pub(super) fn offers(&self, front: Front, address: SocketAddr) -> bool {
        self.offered.contains(&(front, address))
    }

    /// Has it hand over, which it goes on accepting from until it hears of [`Self::taken`].
    ///
    /// # Errors
    /// Why it does not.
    pub(super) async fn hand_over(&self) -> Result<Taken, StartError> {
        let (said, carried) = self.ask(READY).await?;
        let nonsense = || StartError::Takeover(format!("the running process said what nobody understands: {said}"));
        let mut words = said.split_whitespace();
        let (Some(YOURS), Some(pid), Some(number)) = (words.next(), words.next(), words.next()) else {
            return Err(nonsense());
        };
        let (pid, number) = (pid.parse().map_err(|_| nonsense())?, number.parse().map_err(|_| nonsense())?);
        if carried.len() < self.offered.len() {
            return Err(nonsense());
        }
        let mut carried = carried.into_iter();
        let mut sockets = Vec::new();
        for (&(front, address), socket) in self.offered.iter().zip(carried.by_ref()) {
            let listener = TcpListener::from_std(socket.into())?;
            sockets.push(Socket { front, address, listener });
        }
        let links = carried.map(|it| Ok(Arc::new(UnixDatagram::from_std(it.into())?)));
        let formers = Formers::new(links.collect::<io::Result<_>>()?);
        Ok(Taken { sockets, formers, number, pid })
    }

    /// Tells it that clients are let in here, and waits until it does what only one may do no more.
    ///
    /// # Errors
    /// It was told too late, and goes on.
    pub(super) async fn taken(self) -> Result<(), StartError> {
        if let Err(error) = send(&self.stream, TAKEN, &[]).await {
            tracing::debug!(%error, "the former process does not listen any more");
        }
        // What it said last is there to be read, whatever became of it. Who says nothing has ended, or is frozen.
        match timeout(ANSWER_MAX, receive(&self.stream)).await {
            Ok(Ok(Some((said, _)))) => match said.strip_prefix(REFUSED) {
                Some(reason) => Err(StartError::Takeover(format!("the running process goes on: {reason}"))),
                None => Ok(()),
            },
            Ok(Ok(None) | Err(_)) | Err(_) => {
                tracing::warn!("the former process has not said that it was taken over from; it may have ended");
                Ok(())
            }
        }
    }

    async fn ask(&self, what: &str) -> Result<(String, Vec<OwnedFd>), StartError> {
        let why = |why: String| StartError::Takeover(why);
        let asked = async {
            same_user(&self.stream)?;
            send(&self.stream, what, &[]).await?;
            receive(&self.stream).await
        };
        match timeout(ANSWER_MAX, asked).await {
            Ok(Ok(Some((said, carried)))) => match said.strip_prefix(REFUSED) {
                Some(reason) => Err(why(format!("the running process does not hand over: {reason}"))),
                None => Ok((said, carried)),
            },
            Ok(Ok(None)) => Err(why("the running process has ended meanwhile: start again".to_owned())),
            Ok(Err(error)) => Err(why(format!("the running process cannot be asked: {error}"))),
            Err(_) => Err(why(format!("the running process does not answer within {ANSWER_MAX:?}"))),
        }
    }
}

/// Whoever is at the other end runs as the same user.
fn same_user(stream: &UnixStream) -> io::Result<()> {
    let (theirs, ours) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
    if theirs == ours {
        return Ok(());
    }
    Err(failed(format!("it runs as user {theirs}, and this process as {ours}: both must be run by the same")))
}

// ── the process that is taken over from ──

/// Where a process waits for the one that takes over.
pub(super) struct Door {
    path: PathBuf,
    /// Which file the socket is: another process may have put its own in that place.
    file: (u64, u64),
}

/// A listening socket, to be handed over later.
type Held = (Front, SocketAddr, OwnedFd);

/// Keeps the sockets for whoever takes over.
pub(super) fn held(sockets: &[Socket]) -> io::Result<Vec<Held>> {
    sockets.iter().map(|it| Ok((it.front, it.address, it.listener.as_fd().try_clone_to_owned()?))).collect()
}

/// What it hands over.
struct House {
    process: Arc<Process>,
    /// None left once they are handed over.
    sockets: Mutex<Option<Arc<Vec<Held>>>>,
    taken: mpsc::Sender<u32>,
}

impl Door {
    /// Opens it at `path`, in the place of what an earlier process left there, and of the one that was taken over from. The
    /// number of the process that takes over comes by the channel.
    ///
    /// # Errors
    /// When nobody can be waited for there.
    pub(super) async fn open(
        path: &Path,
        process: &Arc<Process>,
        held: Vec<Held>,
        took_over: bool,
    ) -> io::Result<(Self, mpsc::Receiver<u32>)> {
        if !took_over && UnixStream::connect(path).await.is_ok() {
            return Err(failed("another process waits there: give one of them --takeover-socket"));
        }
        if std::fs::symlink_metadata(path).is_ok_and(|it| !it.file_type().is_socket()) {
            return Err(failed("there is a file that is no socket"));
        }
        // Nobody finds it before it is this user's alone, and at no moment is nobody there.
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let listener = UnixListener::bind(&beside)?;
        let placed = (|| {
            std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
            let file = file_of(&beside)?;
            std::fs::rename(&beside, path)?;
            io::Result::Ok(file)
        })();
        let file = placed.inspect_err(|_| {
            // It may not be there.
            let _ = std::fs::remove_file(&beside);
        })?;
        let (taken, hears) = mpsc::channel(1);
        let house = House { process: Arc::clone(process), sockets: Mutex::new(Some(Arc::new(held))), taken };
        tasks::shared("takeover", wait(listener, Arc::new(house)));
        Ok((Self { path: path.to_owned(), file }, hears))
    }

    /// Takes it away, unless it is another process's by now.
    pub(super) fn close(&self) {
        if file_of(&self.path).is_ok_and(|it| it == self.file) {
            // Who starts next puts its own in this place.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn file_of(path: &Path) -> io::Result<(u64, u64)> {
    let it = std::fs::symlink_metadata(path)?;
    Ok((it.dev(), it.ino()))
}

async fn wait(listener: UnixListener, house: Arc<House>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let house = Arc::clone(&house);
                tasks::shared("takeover", async move {
                    if let Err(error) = house.converse(&stream).await {
                        tracing::warn!(%error, "a process that was to take over has not; this one goes on");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot be taken over from");
                // Out of file descriptors, most likely: the next attempt would fail at once.
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Goes back to serving when it is dropped, unless another process has taken over.
struct Handing<'a>(&'a Process);

impl Drop for Handing<'_> {
    fn drop(&mut self) {
        self.0.standing.change(Standing::Handing, Standing::Serving);
    }
}

impl House {
    async fn converse(&self, stream: &UnixStream) -> io::Result<()> {
        same_user(stream)?;
        let hello = timeout(ANSWER_MAX, receive(stream)).await.map_err(|_| failed("it said nothing"))??;
        let Some((hello, _)) = hello else { return Ok(()) };
        if hello != HELLO {
            return refuse(stream, &format!("it speaks of \"{HELLO}\", and was told \"{hello}\"")).await;
        }
        let Some(sockets) = locked(&self.sockets).clone() else {
            return refuse(stream, "another process has taken over from it").await;
        };
        let offer: String = sockets.iter().map(|(front, address, _)| format!(" {}={address}", front.name())).collect();
        drop(sockets);
        send(stream, &format!("listens{offer}"), &[]).await?;
        // Starting takes as long as it takes.
        let ready = receive(stream).await?.ok_or_else(|| failed("it has ended before it was ready"))?.0;
        if ready != READY {
            return refuse(stream, "it was told something else than that all is ready").await;
        }
        // Asked before anything changes, for who leads a failover must not stop in its middle; and again behind that.
        if let Some(reason) = self.reason_to_stay() {
            return refuse(stream, &reason).await;
        }
        if !self.process.standing.change(Standing::Serving, Standing::Handing) {
            return refuse(stream, "another process takes over from it, or it is stopping").await;
        }
        let handing = Handing(&self.process);
        if let Some(reason) = self.reason_to_stay() {
            return refuse(stream, &reason).await;
        }
        let Some(sockets) = locked(&self.sockets).clone() else {
            return refuse(stream, "another process has taken over from it").await;
        };
        let (here, there) = UnixDatagram::pair()?;
        let links = self.process.formers.get().map(|it| it.links()).unwrap_or_default();
        let mut carried: Vec<BorrowedFd<'_>> = sockets.iter().map(|it| it.2.as_fd()).collect();
        carried.push(there.as_fd());
        // Of too many, the oldest are forgotten.
        carried.extend(links.iter().rev().take(FORMERS_MAX - 1).map(|it| it.as_fd()));
        let number = self.process.mysql_kills.last().wrapping_add(NUMBERS_APART);
        send(stream, &format!("{YOURS} {} {number}", std::process::id()), &carried).await?;
        drop((sockets, there));
        let Ok(answer) = timeout(TAKEN_MAX, receive(stream)).await else {
            // Before it hears of it: this process leads again, and that one must not.
            drop(handing);
            return refuse(stream, &format!("it let nobody in within {TAKEN_MAX:?}")).await;
        };
        let answer = answer?.ok_or_else(|| failed("it has ended before it let clients in"))?.0;
        if answer != TAKEN || !self.process.standing.change(Standing::Handing, Standing::Former) {
            drop(handing);
            return refuse(stream, "it let nobody in").await;
        }
        drop(handing);
        if let Err(error) = send(stream, FORMER, &[]).await {
            tracing::debug!(%error, "the process that took over does not listen any more");
        }
        locked(&self.sockets).take();
        tasks::shared("former", answer_all(here, Arc::clone(&self.process)));
        let pid = stream.peer_cred()?.pid().and_then(|it| u32::try_from(it).ok()).unwrap_or_default();
        // Who hears of it has left only when the process has ended.
        let _ = self.taken.try_send(pid);
        Ok(())
    }

    /// What another process would not know of.
    fn reason_to_stay(&self) -> Option<String> {
        for (name, service) in &self.process.deployment().services {
            for (id, shard) in (0_u16..).map(ShardId).zip(&service.database.shards) {
                if service.topology.queue(id).holder().is_some() {
                    return Some(format!(
                        "{name}.{} is held back by PAUSE or a switchover, which ends with the process",
                        shard.name
                    ));
                }
                let mut nodes = service.topology.nodes().filter(|(node, _)| node.shard == id);
                if let Some((_, node)) = nodes.find(|(_, it)| it.order() != Order::None) {
                    return Some(format!(
                        "{name}.{}.{} is held back by DRAIN or FENCE, which ends with the process",
                        shard.name,
                        node.node().name
                    ));
                }
                if service.database.failover.lead && service.topology.primary(id).is_none() {
                    return Some(format!(
                        "{name}.{} has no primary, and another process would not know enough to lead that failover",
                        shard.name
                    ));
                }
            }
        }
        None
    }
}

async fn refuse(stream: &UnixStream, why: &str) -> io::Result<()> {
    tracing::warn!(why, "a process that wanted to take over was refused");
    send(stream, &format!("{REFUSED}{why}"), &[]).await
}

// ── what is asked of former processes ──

/// The processes that this one has taken over from, and that serve some clients still.
#[derive(Debug)]
pub struct Formers {
    /// The latest last.
    links: Mutex<Vec<Arc<UnixDatagram>>>,
    turn: Semaphore,
}

impl Formers {
    /// The first is that of the latest.
    fn new(mut links: Vec<Arc<UnixDatagram>>) -> Self {
        links.reverse();
        Self { links: Mutex::new(links), turn: Semaphore::new(PASSED_ON_MAX) }
    }

    fn links(&self) -> Vec<Arc<UnixDatagram>> {
        locked(&self.links).clone()
    }

    /// Carries out a cancel request where the session is. False: it is with none of them.
    pub(super) async fn cancel(&self, pid: u32, key: &[u8]) -> bool {
        let key: String = key.iter().map(|it| format!("{it:02x}")).collect();
        self.ask(&format!("cancel {pid} {key}")).await.is_some()
    }

    /// What the one says that has something else to say than that it knows nothing of it.
    async fn ask(&self, what: &str) -> Option<String> {
        let _turn = self.turn.acquire().await;
        for link in self.links().into_iter().rev() {
            let asked = async {
                let (here, there) = UnixStream::pair()?;
                send(&*link, what, &[there.as_fd()]).await?;
                drop(there);
                receive(&here).await
            };
            match timeout(PASS_ON_MAX, asked).await {
                Ok(Ok(Some((answer, _)))) if answer != UNKNOWN => return Some(answer),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a former process has ended");
                    locked(&self.links).retain(|it| !Arc::ptr_eq(it, &link));
                }
                Err(_) => tracing::warn!("a former process does not answer within {PASS_ON_MAX:?}"),
            }
        }
        None
    }
}

impl kill::Formers for Formers {
    fn kill<'a>(
        &'a self,
        number: u32,
        query: bool,
        by: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), NotKilled>> + Send + 'a>> {
        Box::pin(async move {
            let what = if query { QUERY } else { CONNECTION };
            match self.ask(&format!("kill {number} {what} {by}")).await.as_deref() {
                Some(DONE) => Ok(()),
                Some(ANOTHERS) => Err(NotKilled::AnotherUsers),
                _ => Err(NotKilled::Unknown),
            }
        })
    }
}

const UNKNOWN: &str = "unknown";
const DONE: &str = "done";
const ANOTHERS: &str = "another's";
const QUERY: &str = "query";
const CONNECTION: &str = "connection";

/// Does what the next process passes on.
async fn answer_all(link: UnixDatagram, process: Arc<Process>) {
    loop {
        match receive(&link).await {
            Ok(Some((what, carried))) => {
                let process = Arc::clone(&process);
                tasks::shared("former", async move {
                    let answer = answer(&what, &process).await;
                    for it in carried {
                        let told = async {
                            let stream = UnixStream::from_std(it.into())?;
                            send(&stream, answer, &[]).await
                        };
                        if let Err(error) = told.await {
                            tracing::debug!(%error, "nobody waits any more for what was asked");
                        }
                    }
                });
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "cancel requests for clients of this process reach it no more");
                return;
            }
        }
    }
}

async fn answer(what: &str, process: &Process) -> &'static str {
    let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
    let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let Ok(number) = number.parse::<u32>() else { return UNKNOWN };
    match verb {
        "cancel" => {
            let Some(key) = bytes(rest) else { return UNKNOWN };
            let connect = process.current.load().map.timeouts.connect;
            if process.cancels.cancel(number, &key, connect).await { DONE } else { UNKNOWN }
        }
        "kill" => {
            let (what, by) = rest.split_once(' ').unwrap_or((rest, ""));
            match process.mysql_kills.kill(number, what == QUERY, by) {
                Ok(()) => DONE,
                Err(NotKilled::AnotherUsers) => ANOTHERS,
                Err(NotKilled::Unknown) => UNKNOWN,
            }
        }
        _ => UNKNOWN,
    }
}

/// What two digits each spell.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = (0..digits.len()).step_by(2).map(|at| digits.get(at..at + 2));
    pairs.map(|it| u8::from_str_radix(it?, 16).ok()).collect()
}

// ── messages that carry descriptors ──

/// A Unix socket that is waited for.
trait Waits: AsFd {
    async fn until(&self, interest: Interest) -> io::Result<()>;
    fn attempt<T>(&self, interest: Interest, attempt: impl FnOnce() -> io::Result<T>) -> io::Result<T>;
}

impl Waits for UnixStream {
    async fn until(&self, interest: Interest) -> io::Result<()> {
        self.ready(interest).await.map(drop)
    }

    fn attempt<T>(&self, interest: Interest, attempt: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.try_io(interest, attempt)
    }
}

impl Waits for UnixDatagram {
    async fn until(&self, interest: Interest) -> io::Result<()> {
        self.ready(interest).await.map(drop)
    }

    fn attempt<T>(&self, interest: Interest, attempt: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.try_io(interest, attempt)
    }
}

async fn waiting<S: Waits, T>(
    socket: &S,
    interest: Interest,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        socket.until(interest).await?;
        match socket.attempt(interest, &mut attempt) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

/// Says one line. Both sides wait for each other's, so that there is room for it.
async fn send(socket: &impl Waits, line: &str, carried: &[BorrowedFd<'_>]) -> io::Result<()> {
    let line = format!("{}\n", line.replace('\n', " "));
    if line.len() > MESSAGE_MAX {
        return Err(failed("a message is too long"));
    }
    let sent = waiting(socket, Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(CARRIED_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !carried.is_empty() && !control.push(SendAncillaryMessage::ScmRights(carried)) {
            return Err(failed("too many descriptors for one message"));
        }
        Ok(rustix::net::sendmsg(socket, &[IoSlice::new(line.as_bytes())], &mut control, SendFlags::NOSIGNAL)?)
    });
    if sent.await? == line.len() { Ok(()) } else { Err(failed("there is no room for a message")) }
}

/// Takes in one line, and the descriptors that it carries. `None`: nobody is there any more.
async fn receive(socket: &impl Waits) -> io::Result<Option<(String, Vec<OwnedFd>)>> {
    let (mut said, mut carried) = (Vec::new(), Vec::new());
    loop {
        let mut buffer = [0; MESSAGE_MAX];
        let count = waiting(socket, Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(CARRIED_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut buffer)];
            // Programs that this one runs have no use for them.
            let came = rustix::net::recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    carried.extend(descriptors);
                }
            }
            Ok(came.bytes)
        });
        let count = count.await?;
        said.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if let Some(line) = said.strip_suffix(b"\n") {
            return Ok(Some((String::from_utf8_lossy(line).into_owned(), carried)));
        }
        if count == 0 {
            return Ok(None);
        }
        if said.len() > MESSAGE_MAX {
            return Err(failed("a message is too long"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_message_brings_descriptors_along() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut left, right) = std::os::unix::net::UnixStream::pair().unwrap();
        send(&a, "two\nlines are one", &[right.as_fd(), right.as_fd()]).await.unwrap();
        drop(right);
        let (said, carried) = receive(&b).await.unwrap().unwrap();
        assert_eq!((said.as_str(), carried.len()), ("two lines are one", 2));
        for it in carried {
            assert!(rustix::io::fcntl_getfd(&it).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
            std::os::unix::net::UnixStream::from(it).write_all(b"x").unwrap();
        }
        let mut came = String::new();
        left.read_to_string(&mut came).unwrap();
        assert_eq!(came, "xx");
        drop(a);
        assert!(receive(&b).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_process_that_has_ended_is_not_asked_again() {
        let (here, there) = UnixDatagram::pair().unwrap();
        let formers = Formers::new(vec![Arc::new(there)]);
        let asked = async {
            let (what, carried) = receive(&here).await.unwrap().unwrap();
            let stream = UnixStream::from_std(carried.into_iter().next().unwrap().into()).unwrap();
            send(&stream, DONE, &[]).await.unwrap();
            what
        };
        let (answer, what) = tokio::join!(formers.ask("kill 7 query ann"), asked);
        assert_eq!((answer.as_deref(), what.as_str()), (Some(DONE), "kill 7 query ann"));
        drop(here);
        assert_eq!(formers.ask("cancel 7 00").await, None);
        assert!(formers.links().is_empty());
    }

    #[test]
    fn keys_are_spelled_in_digits() {
        assert_eq!(bytes("00ff10"), Some(vec![0, 255, 16]));
        assert_eq!((bytes(""), bytes("0"), bytes("zz"), bytes("é0")), (Some(Vec::new()), None, None, None));
    }
}
