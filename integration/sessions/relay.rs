//! A TCP relay that can cut one connection, or keep it waiting, after so many messages in one direction: those of Postgres,
//! or packets of MySQL.
//!
//! A connection becomes the one to be cut by carrying the text `MARK` toward the server.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::thread;

/// Which way messages are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToProxy,
}

#[derive(Debug, Default)]
struct State {
    marked: Option<usize>,
    cut: Option<(Way, usize)>,
    passed: usize,
    done: bool,
    /// The connection waits, and is cut when the relay is disarmed.
    holds: bool,
}

/// One relay before one server.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

const MARK: &[u8] = b"MARK";

/// How messages are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Postgres,
    Mysql,
}

impl Framing {
    /// The length of the message that the bytes begin with, as far as they tell it. Postgres's startup packet has no type.
    fn length(self, bytes: &[u8], is_startup: bool) -> Option<usize> {
        match self {
            Self::Postgres => {
                let header = usize::from(!is_startup);
                let length = bytes.get(header..header + 4)?;
                Some(header + u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize)
            }
            Self::Mysql => {
                let length = bytes.get(..4)?;
                Some(4 + u32::from_le_bytes([length[0], length[1], length[2], 0]) as usize)
            }
        }
    }
}

impl Relay {
    #[allow(dead_code, reason = "not every test has such servers")]
    pub(crate) fn start(server: u16) -> Self {
        Self::start_with(server, Framing::Postgres)
    }

    /// Before a server of MySQL.
    #[allow(dead_code, reason = "not every test has such servers")]
    pub(crate) fn of_mysql(server: u16) -> Self {
        Self::start_with(server, Framing::Mysql)
    }

    fn start_with(server: u16, framing: Framing) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", server))) else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { continue };
                let (one, two) = (Arc::clone(&shared), Arc::clone(&shared));
                thread::spawn(move || carry((number, framing), Way::ToServer, client, server, &one));
                thread::spawn(move || carry((number, framing), Way::ToProxy, server_too, client_too, &two));
            }
        });
        Self { port, state }
    }

    /// Cuts the marked connection once `count` messages have gone that way from now on.
    pub(crate) fn arm(&self, way: Way, count: usize) {
        self.set(way, count, false);
    }

    /// Lets nothing more through that way then, until it is disarmed: the connection is cut at last.
    #[allow(dead_code, reason = "not every test holds")]
    pub(crate) fn arm_to_hold(&self, way: Way, count: usize) {
        self.set(way, count, true);
    }

    fn set(&self, way: Way, count: usize, holds: bool) {
        let mut state = self.state.0.lock().expect("no panic");
        state.cut = Some((way, count));
        state.passed = 0;
        state.done = false;
        state.holds = holds;
    }

    /// Whether the connection has been cut, or waits.
    #[allow(dead_code, reason = "not every test holds")]
    pub(crate) fn has_struck(&self) -> bool {
        self.state.0.lock().expect("no panic").done
    }

    /// Cuts nothing any more. True: the cut has happened.
    pub(crate) fn disarm(&self) -> bool {
        let mut state = self.state.0.lock().expect("no panic");
        state.cut = None;
        state.marked = None;
        self.state.1.notify_all();
        state.done
    }
}

fn carry(
    connection: (usize, Framing),
    way: Way,
    mut from: TcpStream,
    mut to: TcpStream,
    state: &(Mutex<State>, Condvar),
) {
    let outcome = pass(connection, way, &mut from, &mut to, state);
    drop(outcome);
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn pass(
    (number, framing): (usize, Framing),
    way: Way,
    from: &mut TcpStream,
    to: &mut TcpStream,
    (state, changed): &(Mutex<State>, Condvar),
) -> io::Result<()> {
    let mut kept: Vec<u8> = Vec::new();
    let mut space = vec![0; 1 << 16];
    let mut is_startup = way == Way::ToServer;
    loop {
        while let Some(length) = framing.length(&kept, is_startup) {
            if kept.len() < length {
                break;
            }
            let message: Vec<u8> = kept.drain(..length).collect();
            is_startup = false;
            {
                let mut state = state.lock().expect("no panic");
                let marked = way == Way::ToServer && message.windows(MARK.len()).any(|it| it == MARK);
                if marked && state.cut.is_none() {
                    state.marked = Some(number);
                }
                if let Some((wanted, count)) = state.cut
                    && state.marked == Some(number)
                    && wanted == way
                {
                    if state.passed >= count {
                        state.done = true;
                        while state.holds && state.cut.is_some() {
                            state = changed.wait(state).expect("no panic");
                        }
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    state.passed += 1;
                }
            }
            to.write_all(&message)?;
        }
        let count = from.read(&mut space)?;
        if count == 0 {
            return Ok(());
        }
        kept.extend_from_slice(&space[..count]);
    }
}
