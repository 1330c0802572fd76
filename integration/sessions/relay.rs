//! A TCP relay that can cut one connection, or keep it waiting, after so many messages in one direction.
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

impl Relay {
    pub(crate) fn start(server: u16) -> Self {
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
                thread::spawn(move || carry(number, Way::ToServer, client, server, &one));
                thread::spawn(move || carry(number, Way::ToProxy, server_too, client_too, &two));
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

fn carry(number: usize, way: Way, mut from: TcpStream, mut to: TcpStream, state: &(Mutex<State>, Condvar)) {
    let outcome = pass(number, way, &mut from, &mut to, state);
    drop(outcome);
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn pass(
    number: usize,
    way: Way,
    from: &mut TcpStream,
    to: &mut TcpStream,
    (state, changed): &(Mutex<State>, Condvar),
) -> io::Result<()> {
    let mut kept: Vec<u8> = Vec::new();
    let mut space = vec![0; 1 << 16];
    // The startup packet has no type.
    let mut header = usize::from(way == Way::ToProxy);
    loop {
        while let Some(length) = kept.get(header..header + 4) {
            let length = header + u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
            if kept.len() < length {
                break;
            }
            let message: Vec<u8> = kept.drain(..length).collect();
            header = 1;
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
