//! A network of a test's own, in which what goes to or comes from a single server can be dropped.
//!
//! Takes root, `unshare`, `ip` and `iptables`. Who is not root has the machine's network, and cuts nothing.

#![allow(dead_code, reason = "every test uses a part of it")]

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::proxy::Outcome;

/// Tells a test that it is in a network of its own.
const INSIDE: &str = "SHARDWAY_OWN_NETWORK";

/// The network that a test and its servers are in.
pub(crate) struct Network {
    own: bool,
}

/// Which packets are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// All.
    Both,
    /// Those to the server: it hears nothing, and is heard until it waits for somebody.
    Toward,
    /// Those from the server: it hears everybody, and nobody hears it.
    From,
}

/// Runs the test again in a network of its own and returns `None`; there, and for who is not root, it is what the test is in.
///
/// # Errors
///
/// The test has failed there, or there is no such network.
pub(crate) fn enter(test: &str) -> Outcome<Option<Network>> {
    if env::var_os(INSIDE).is_some() {
        return Ok(Some(Network { own: true }));
    }
    if fs::metadata("/proc/self").map_or(true, |it| it.uid() != 0) {
        println!("oracle: {test}: without root, nothing is cut off by the network");
        return Ok(Some(Network { own: false }));
    }
    // A name that is none would be run, and pass.
    let listed = Command::new(env::current_exe()?).args(["--list", "--exact", test]).output()?;
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&format!("{test}: test")), "no test is called {test}");
    if !Command::new("unshare").args(["--net", "--", "true"]).status().is_ok_and(|it| it.success()) {
        println!("oracle: {test}: without network namespaces, nothing is cut off by the network");
        return Ok(Some(Network { own: false }));
    }
    let mut again = Command::new("unshare");
    again.args(["--net", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]).arg(env::current_exe()?);
    let status = again.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").status()?;
    if status.success() { Ok(None) } else { Err(format!("in a network of its own it ends with {status}").into()) }
}

impl Network {
    /// Whether it can be cut.
    pub(crate) fn can_cut(&self) -> bool {
        self.own
    }

    /// Drops packets of the server at that port.
    pub(crate) fn cut(&self, port: u16, cut: Cut) -> Outcome {
        assert!(self.own, "the machine's network is left alone");
        let ends: &[&str] = match cut {
            Cut::Both => &["--dport", "--sport"],
            Cut::Toward => &["--dport"],
            Cut::From => &["--sport"],
        };
        ends.iter().try_for_each(|end| iptables(&["-A", "INPUT", "-p", "tcp", end, &port.to_string(), "-j", "DROP"]))
    }

    /// Drops what goes to an address and comes from it.
    pub(crate) fn cut_address(&self, address: &str) -> Outcome {
        assert!(self.own, "the machine's network is left alone");
        ["-d", "-s"].iter().try_for_each(|end| iptables(&["-A", "INPUT", "-p", "tcp", end, address, "-j", "DROP"]))
    }

    /// Drops nothing any more.
    pub(crate) fn heal(&self) -> Outcome {
        if self.own { iptables(&["-F", "INPUT"]) } else { Ok(()) }
    }
}

fn iptables(arguments: &[&str]) -> Outcome {
    let status = Command::new("iptables").arg("--wait").args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("iptables {arguments:?} ends with {status}").into()) }
}
