//! Sockets and TLS, with an in-memory twin for tests.
//!
//! A [`Stream`] is what sessions and server connections read and write. It never speaks a protocol; what must be said
//! in clear before TLS begins is said by the login code, which then hands the stream to [`Stream::accept_tls`] or
//! [`Stream::connect_tls`] together with whatever it has read and not used: anything at all is an attack
//! (CVE-2021-23214 and its kind), and the connection is dropped.

mod inbox;
#[cfg(test)]
pub(crate) mod testing;
mod tls;

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
#[cfg(unix)]
use std::net::Shutdown;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::AsFd;
#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use socket2::SockRef;
use socket2::TcpKeepalive;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::DuplexStream;
use tokio::io::Interest;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::clock;
use crate::clock::Tick;

pub use inbox::Inbox;
pub use tls::ClientTls;
pub use tls::ListenerTls;
pub use tls::TlsError;

/// A connection, in clear or in TLS.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP, in either role.
    Tls(Box<tokio_rustls::TlsStream<TcpStream>>),
    /// Within this process.
    Memory(DuplexStream),
}

impl Stream {
    /// Two ends of a connection within this process; each direction holds at most `held_max` bytes.
    #[must_use]
    pub fn memory(held_max: usize) -> (Self, Self) {
        let (one, other) = tokio::io::duplex(held_max);
        (Self::Memory(one), Self::Memory(other))
    }

    /// Takes over a connection that was accepted or opened, and sets it up.
    ///
    /// # Errors
    /// When the system refuses an option, which it does for sockets that are dead already.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY).with_retries(3);
        socket.set_tcp_keepalive(&keepalive)?;
        Ok(Self::Plain(stream))
    }

    /// Whether what is said on it is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The other end's address; none in memory.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.socket().and_then(|it| it.peer_addr().ok())
    }

    /// This end's address; none in memory.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        self.socket().and_then(|it| it.local_addr().ok())
    }

    /// Whether there is nothing to read and the other end has not closed: what an idle server connection must be.
    ///
    /// It asks the reactor's memory, not the system: the one call to the system is made after a read that happened to
    /// fill its buffer. A connection in memory is always quiet.
    pub fn is_quiet(&mut self) -> bool {
        if let Self::Tls(stream) = self {
            let state = match stream.as_mut() {
                tokio_rustls::TlsStream::Client(stream) => stream.get_mut().1.process_new_packets(),
                tokio_rustls::TlsStream::Server(stream) => stream.get_mut().1.process_new_packets(),
            };
            // What rustls has taken in and decrypted would not be seen on the socket.
            match state {
                Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
                _ => return false,
            }
        }
        let Some(socket) = self.socket() else { return true };
        let peeked = socket.try_io(Interest::READABLE, || SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]));
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether nothing more can come: the other end has closed, or it was cut off, and all that had arrived was read. Like
    /// [`Self::is_quiet`] it asks the reactor's memory first.
    pub fn has_ended(&self) -> bool {
        let Some(socket) = self.socket() else { return false };
        match socket.try_io(Interest::READABLE, || SockRef::from(socket).peek(&mut [MaybeUninit::uninit()])) {
            Ok(held) => held == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Waits until there is something to read or the other end has closed. Cancel-safe: nothing is read.
    ///
    /// # Errors
    /// When the socket is broken.
    pub async fn readable(&self) -> io::Result<()> {
        match self.socket() {
            Some(socket) => socket.readable().await,
            None => std::future::pending().await,
        }
    }

    /// A way to end it from anywhere; none in memory.
    ///
    /// # Errors
    /// When the system is out of descriptors.
    pub fn cutter(&self) -> io::Result<Option<Cutter>> {
        #[cfg(unix)]
        return self.socket().map(|it| it.as_fd().try_clone_to_owned().map(Cutter)).transpose();
        #[cfg(not(unix))]
        return Ok(None);
    }

    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Memory(_) => None,
        }
    }
}

/// Ends a connection that somebody else reads and writes, on whatever thread: for them it is as if the other end had closed.
/// Holds a descriptor of its own for the same socket, so that it never meets another that got its number.
#[derive(Debug)]
pub struct Cutter(#[cfg(unix)] OwnedFd);

impl Cutter {
    /// Ends the connection. What has arrived already can still be read.
    pub fn cut(&self) {
        // An error means that it has ended already.
        #[cfg(unix)]
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }
}

/// Opens a connection to `host`, trying each of its addresses in turn until `deadline`.
///
/// # Errors
/// When the name has no address, no address answers, or time is up. Cancel-safe: what was begun is closed.
pub async fn connect(host: &str, port: u16, deadline: Tick) -> Result<Stream, ConnectError> {
    let found = before(deadline, tokio::net::lookup_host((host, port))).await.ok_or(ConnectError::TimedOut)?;
    let addresses: Vec<SocketAddr> = found.map_err(ConnectError::NoAddress)?.take(ADDRESSES_MAX).collect();
    let mut last = None;
    for (left, address) in (1..=addresses.len()).rev().zip(addresses) {
        // One address that swallows packets must not use up the time of the others.
        let now = clock::now();
        let share = deadline.since(now) / u32::try_from(left).unwrap_or(u32::MAX);
        last = Some(match before(now.plus(share), TcpStream::connect(address)).await {
            Some(Ok(stream)) => return toward_server(stream).map_err(ConnectError::Failed),
            Some(Err(error)) => ConnectError::Failed(error),
            None => ConnectError::TimedOut,
        });
    }
    Err(last.unwrap_or_else(|| ConnectError::NoAddress(io::ErrorKind::NotFound.into())))
}

/// A server that is gone without a word is noticed while we wait for it to take what was sent, too. Clients are not held
/// to this: whoever pauses in the middle of a large result has stopped reading, and may.
fn toward_server(stream: TcpStream) -> io::Result<Stream> {
    #[cfg(target_os = "linux")]
    SockRef::from(&stream).set_tcp_user_timeout(Some(UNTAKEN_MAX))?;
    Stream::tcp(stream)
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not resolve.
    #[error("no address found: {0}")]
    NoAddress(#[source] io::Error),
    /// Refused, unreachable, or out of something.
    #[error("{0}")]
    Failed(#[source] io::Error),
    /// Nobody answered in time.
    #[error("no answer in time")]
    TimedOut,
}

/// Waits for `future` until `deadline`; `None`: time is up, and the future was dropped.
pub async fn before<F: Future>(deadline: Tick, future: F) -> Option<F::Output> {
    tokio::time::timeout(deadline.since(clock::now()), future).await.ok()
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Memory(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Memory(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Memory(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Memory(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// A silent peer is asked for a sign of life after this …
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// … and again after this, three times.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// How long a server may leave what was sent to it untaken. It does so honestly, too, when a COPY waits for a lock.
#[cfg(target_os = "linux")]
const UNTAKEN_MAX: Duration = Duration::from_secs(300);
/// How many addresses of one name are tried.
const ADDRESSES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn soon() -> Tick {
        clock::now().plus(Duration::from_secs(20))
    }

    async fn pair() -> (Stream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (one, other) = tokio::join!(connect("127.0.0.1", port, soon()), listener.accept());
        (one.unwrap(), Stream::tcp(other.unwrap().0).unwrap())
    }

    #[tokio::test]
    async fn a_connection_is_quiet_until_something_comes() {
        let (mut one, mut other) = pair().await;
        assert!(one.is_quiet());
        other.write_all(b"12345678").await.unwrap();
        one.readable().await.unwrap();
        assert!(!one.is_quiet());
        assert!(!one.is_quiet(), "asking changes nothing");
        // A read that fills its buffer leaves the reactor in doubt; the answer is right all the same.
        let mut buffer = [0; 8];
        one.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"12345678");
        assert!(one.is_quiet());
        drop(other);
        one.readable().await.unwrap();
        assert!(!one.is_quiet());
    }

    #[tokio::test]
    async fn what_cannot_be_reached_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let refused = connect("127.0.0.1", port, soon()).await;
        assert!(
            matches!(refused, Err(ConnectError::Failed(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
        );
        assert!(matches!(
            connect("127.0.0.1", port, Tick::NEVER).await,
            Err(ConnectError::TimedOut | ConnectError::Failed(_))
        ));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_client_that_pauses_is_not_cut_off() {
        let (toward_server, toward_client) = pair().await;
        let bound = |it: &Stream| SockRef::from(it.socket().unwrap()).tcp_user_timeout().unwrap();
        assert_eq!((bound(&toward_server), bound(&toward_client)), (Some(UNTAKEN_MAX), None));
        assert!(SockRef::from(toward_client.socket().unwrap()).keepalive().unwrap());
    }

    #[test]
    fn streams_may_cross_threads() {
        fn crosses<T: Send>() {}
        crosses::<Stream>();
    }
}
