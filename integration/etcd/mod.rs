//! A real etcd of several members, and what `shardway` says when it is asked there.

#![allow(dead_code, reason = "every test uses a part of it")]

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use crate::proxy::Outcome;
use crate::proxy::free_port;

/// One member of etcd. Dropping it kills it.
pub(crate) struct EtcdNode {
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl EtcdNode {
    /// Starts it, for the first time or again.
    pub(crate) fn start(&mut self) -> Outcome {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new("etcd");
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// As kill -9 does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for EtcdNode {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Members of one etcd, each with more arguments, and the address of all at 127.0.0.1. `hosts` are more addresses of theirs.
pub(crate) fn etcds(
    dir: &Path,
    count: usize,
    scheme: &str,
    hosts: &[String],
    more: &[String],
) -> Outcome<(Vec<EtcdNode>, String)> {
    let mut ports = Vec::new();
    for _ in 0..count {
        ports.push((free_port()?, free_port()?));
    }
    let peers = (0..).zip(&ports).map(|(it, (_, peer)): (usize, _)| format!("n{it}=http://127.0.0.1:{peer}"));
    let peers = peers.collect::<Vec<_>>().join(",");
    let mut nodes = Vec::new();
    for (place, (client, peer)) in ports.iter().enumerate() {
        let besides = hosts.iter().map(|host| format!(",{scheme}://{host}:{client}"));
        let listen = format!("{scheme}://127.0.0.1:{client}{}", besides.collect::<String>());
        let (client, peer) = (format!("{scheme}://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let data = dir.join(format!("etcd-{place}"));
        let mut arguments = Vec::new();
        for (option, value) in [
            ("--name", format!("n{place}")),
            ("--data-dir", data.to_string_lossy().into_owned()),
            ("--listen-client-urls", listen),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", peer.clone()),
            ("--initial-advertise-peer-urls", peer),
            ("--initial-cluster", peers.clone()),
        ] {
            arguments.extend([option.to_owned(), value]);
        }
        arguments.extend_from_slice(more);
        nodes.push(EtcdNode { arguments, log: dir.join(format!("etcd-{place}.log")), child: None });
    }
    for node in &mut nodes {
        node.start()?;
    }
    let hosts: Vec<String> = ports.iter().map(|(client, _)| format!("127.0.0.1:{client}")).collect();
    Ok((nodes, format!("{}://{}/shardway/shop", if scheme == "https" { "etcds" } else { "etcd" }, hosts.join(","))))
}

/// What `shardway` says to standard output and error, and whether it succeeds.
pub(crate) async fn shardway(arguments: &[&str], environment: &[(&str, &str)]) -> Outcome<(bool, String)> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_shardway"));
    let done = command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).output().await?;
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    Ok((done.status.success(), said.into_owned()))
}
