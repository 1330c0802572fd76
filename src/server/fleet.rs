//! A map that is kept in etcd: how a proxy begins with it, follows its editions, and what `shardway map` does there.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::Process;
use super::Settings;
use super::StartError;
use super::reload;
use crate::clock;
use crate::fleet::Fleet;
use crate::fleet::Seen;
use crate::fleet::etcd::Etcd;
use crate::fleet::etcd::Login;
use crate::fleet::place::Place;
use crate::fleet::store;
use crate::fleet::store::Member;
use crate::fleet::store::PushError;
use crate::fleet::store::Pusher;
use crate::session::cancel::Peers;
use crate::shard_map::Environment;
use crate::shard_map::Listen;
use crate::shard_map::ShardMap;
use crate::shard_map::diff::diff;
use crate::shard_map::live::Edition;
use crate::shard_map::live::ProcessEnvironment;
use crate::shard_map::mistake;
use crate::tasks;

/// The map's place in etcd; `None`: it is a file.
///
/// # Errors
/// What is wrong with the place, or with the login for it.
pub(super) fn place_of(map: &Path) -> Result<Option<Etcd>, String> {
    let Some(text) = map.to_str().filter(|it| Place::is_meant(it)) else { return Ok(None) };
    let login = Login::of_environment(&|name| ProcessEnvironment.variable(name))?;
    Etcd::new(Place::read(text)?, login).map(Some)
}

/// A map's text, from wherever it is.
///
/// # Errors
/// Why it cannot be read, for people.
pub(super) fn text_of(map: &Path) -> Result<String, String> {
    let Some(etcd) = place_of(map)? else { return ProcessEnvironment.file(map) };
    runtime()?.block_on(async { pulled(&etcd.patient(), None).await }).map(|(_, text)| text)
}

/// Variables and files of this process, among which a map in etcd is a file.
#[derive(Debug)]
pub(super) struct WithPlaces;

impl Environment for WithPlaces {
    fn variable(&self, name: &str) -> Option<String> {
        ProcessEnvironment.variable(name)
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        text_of(path)
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|it| it.to_string())
}

async fn pulled(etcd: &Etcd, version: Option<u64>) -> Result<(u64, String), String> {
    let place = etcd.place();
    match (store::pull(etcd, version).await, version) {
        (Ok(Some(found)), _) => Ok(found),
        (Ok(None), None) => {
            Err(format!("there is no map at {place} yet\nPush one: shardway map push FILE --map {place}"))
        }
        (Ok(None), Some(version)) => {
            Err(format!("there is no version {version} of the map at {place}: `shardway map history` lists them"))
        }
        (Err(error), _) => Err(error.to_string()),
    }
}

// ── serving ──

/// The edition to begin with, and whether etcd gave it: else it is the copy.
///
/// # Errors
/// Why there is none.
pub(super) async fn begin(etcd: &Etcd, copy: Option<&Path>) -> Result<(Edition, bool), StartError> {
    let error = match store::pull(etcd, None).await {
        Ok(Some((version, text))) => return Ok((Edition { version, text: text.into() }, true)),
        // Where etcd answers, what it says holds.
        Ok(None) => return Err(StartError::Fleet(pulled(etcd, None).await.err().unwrap_or_default())),
        Err(error) => error,
    };
    let without = |why: &str| StartError::Fleet(format!("{error}\nThe map is there, and {why}"));
    let Some(copy) = copy else {
        return Err(without("no copy of it was asked for: start again when etcd answers, or with --map-copy FILE"));
    };
    let text = ProcessEnvironment
        .file(copy)
        .map_err(|why| without(&format!("there is no copy of it: {}: {why}", copy.display())))?;
    let Some(version) = version_of(&text) else {
        return Err(without(&format!("{} is no copy of it: its first line says no version", copy.display())));
    };
    Ok((Edition { version, text: text.into() }, false))
}

/// What this proxy says of itself.
pub(super) async fn own(etcd: &Etcd, settings: &Settings, listen: &Listen, version: u64) -> Member {
    let bound = listen.postgres.map(|it| it.ip()).filter(|it| !it.is_unspecified());
    let host = match (&settings.advertise, bound) {
        (Some(host), _) => host.clone(),
        (None, Some(ip)) => ip.to_string(),
        (None, None) => etcd.local().await.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_string(),
    };
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = format!("{}:{}", machine.trim(), std::process::id());
    let postgres = listen.postgres.map(|it| it.port());
    Member { name, host, postgres, version, rejected: None }
}

/// Takes up every new edition, and says so to the others.
pub(super) async fn follow(
    process: Arc<Process>,
    fleet: Arc<Fleet>,
    copy: Option<PathBuf>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut seen = fleet.seen();
    let rounds = async {
        loop {
            let wanted = seen.borrow_and_update().version;
            let current = process.live.current().version;
            let is_behind = wanted.is_some_and(|it| it > current);
            if wanted.is_some_and(|it| it < current) {
                tracing::error!(wanted, current, "etcd has an earlier map than is in force here: push one again");
            }
            if is_behind {
                let (version, text) = match store::pull(fleet.etcd(), wanted).await {
                    Ok(Some(found)) => found,
                    Ok(None) => {
                        tracing::error!(wanted, "etcd names a map that it does not have: push one again");
                        sleep(TRY_AGAIN).await;
                        continue;
                    }
                    Err(error) => {
                        tracing::warn!(%error, wanted, "a later map cannot be read yet");
                        sleep(PULL_AGAIN).await;
                        continue;
                    }
                };
                let edition = Edition { version, text: text.into() };
                process.live.offer(edition.clone());
                reload(&process).await;
                if process.live.current().version == version {
                    write_copy(copy.as_deref(), &edition, fleet.etcd().place());
                }
            }
            fleet.acknowledge(process.live.current().version, process.live.rejected().as_deref());
            let behind = wanted.is_some_and(|it| it > process.live.current().version);
            // What a server's failure kept from being taken is tried again; the proxies' own news are no reason to.
            let news = async { drop(seen.wait_for(|it| it.version != wanted).await) };
            if behind {
                tokio::select! { () = news => {} () = sleep(TRY_AGAIN) => {} }
            } else {
                news.await;
            }
        }
    };
    tokio::select! {
        () = rounds => {}
        // An error means that whoever could say so is gone, which says it too.
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

/// The fleet, as cancel requests need it.
pub(super) struct Others(pub(super) watch::Receiver<Seen>);

impl Peers for Others {
    fn number(&self) -> u16 {
        self.0.borrow().number
    }

    fn address(&self, number: u16) -> Option<(String, u16)> {
        let seen = self.0.borrow();
        let member = seen.members.get(&number)?;
        Some((member.host.clone(), member.postgres?))
    }
}

/// Keeps what is in force where a start without etcd finds it, for this user alone: a map may have passwords.
pub(super) fn write_copy(copy: Option<&Path>, edition: &Edition, place: &Place) {
    let Some(copy) = copy else { return };
    let mut beside = copy.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(with_version(edition, place).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, copy)
    })();
    if let Err(error) = written {
        // It may not be there.
        let _ = std::fs::remove_file(&beside);
        tracing::error!(copy = %copy.display(), %error, "the copy of the map cannot be written");
    }
}

/// What SHOW MAP tells of the fleet.
pub(super) fn told(fleet: &Fleet) -> Vec<(String, String)> {
    let seen = fleet.seen().borrow().clone();
    let mut rows = vec![(
        "etcd".to_owned(),
        if seen.answers { "answers".to_owned() } else { "does not answer: the map is the last known".to_owned() },
    )];
    for (number, member) in &seen.members {
        let own = if *number == seen.number { ", this one" } else { "" };
        // What etcd said last of another one may not hold any more, and of this one does not without its mandate.
        let leads = if *number == seen.number { fleet.leads() } else { seen.leader == Some(*number) };
        let leads = if leads { ", leads" } else { "" };
        let rejected = member.rejected.as_ref().map(|it| format!(", rejected: {}", first_line(it))).unwrap_or_default();
        let Member { name, host, postgres, version, .. } = member;
        let port = postgres.map(|it| format!(":{it}")).unwrap_or_default();
        rows.push((
            format!("proxy {number}"),
            format!("{name} at {host}{port}, version {version}{own}{leads}{rejected}"),
        ));
    }
    rows
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

// ── `shardway map` ──

/// `shardway map push`: makes the file's text the next version, and waits until the proxies serve it.
///
/// # Errors
/// Why it is not, or which proxies do not serve it.
pub fn push(
    file: &Path,
    map: &Path,
    from: Option<u64>,
    wait: Duration,
    tell: &mut dyn FnMut(String),
) -> Result<(), String> {
    let etcd = needed(map)?;
    let text = ProcessEnvironment.file(file).map_err(|why| format!("{}: {why}", file.display()))?;
    let name = file.display().to_string();
    let (new, warnings) = ShardMap::parse(&name, &text, &ProcessEnvironment).map_err(|it| mistake::render(&it))?;
    if !warnings.is_empty() {
        tell(mistake::render(&warnings).trim_end().to_owned());
    }
    let pusher = Pusher { by: by(), mark: format!("{:032x}", rand::random::<u128>()) };
    runtime()?.block_on(async {
        let current = store::pull(&etcd, None).await.map_err(|it| it.to_string())?;
        let from = match (from.or_else(|| version_of(&text)), &current) {
            (Some(from), _) => from,
            (None, None) => 0,
            (None, Some((version, _))) => {
                return Err(format!(
                    "{name} does not say which version it was made from, and version {version} is in force\nMake it from \
                     what `shardway map pull` gives, or say --from {version} to replace that."
                ));
            }
        };
        if let Some((version, before)) = &current
            && let Ok((before, _)) = ShardMap::parse("before", before, &ProcessEnvironment)
        {
            let refused = |refusals: Vec<crate::shard_map::diff::Refusal>| {
                refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            };
            let new = new.carrying_over(&before).map_err(refused)?;
            let change = diff(&before, &new).map_err(refused)?;
            if from == *version {
                change.lines.iter().for_each(|it| tell(it.clone()));
            }
        }
        let text = without_version(&text);
        let begun = clock::now();
        let version = store::push(&etcd, text, from, &pusher).await.map_err(|error| why_not(&error, from))?;
        tell(format!("version {version} is pushed"));
        let deadline = begun.plus(wait);
        let mut told = 0;
        loop {
            let (_, members) = store::members(&etcd).await.map_err(|it| it.to_string())?;
            let serve = members.values().filter(|it| it.version >= version).count();
            // One that has died is counted until its lease ends: what the others do is told meanwhile.
            if serve > told || serve == members.len() {
                told = serve;
                let took = clock::now().since(begun).as_millis();
                tell(format!("served by {serve} of {} proxies after {took} ms", members.len()));
            }
            if serve == members.len() {
                return Ok(());
            }
            if clock::now() >= deadline {
                let mut text = format!("served by {serve} of {} proxies after {wait:?}", members.len());
                for (number, member) in members.iter().filter(|(_, it)| it.version < version) {
                    let why = member.rejected.as_deref().unwrap_or("it has not said why");
                    text.push_str(&format!("\nproxy {number}, {}, serves version {}: {why}", member.name, member.version));
                }
                return Err(text);
            }
            sleep(POLL).await;
        }
    })
}

fn why_not(error: &PushError, from: u64) -> String {
    match error {
        PushError::Superseded(0) => {
            format!("nothing was pushed: there is no map there yet, so none is made from version {from}")
        }
        PushError::Superseded(version) => format!(
            "nothing was pushed: it was made from version {from}, and version {version} is in force\nPull that one, and make \
             the change there."
        ),
        PushError::TooLarge => format!("nothing was pushed: the map is larger than {} bytes", store::TEXT_MAX),
        PushError::Etcd(error) => format!("nothing was pushed: {error}"),
        PushError::Unknown(error) => {
            format!("it is not known whether it was pushed: {error}\n`shardway map history` tells when etcd answers.")
        }
    }
}

/// `shardway map pull`: the text in force, or that version's, headed by its number.
///
/// # Errors
/// Why there is none.
pub fn pull(map: &Path, version: Option<u64>) -> Result<String, String> {
    let etcd = needed(map)?;
    let (version, text) = runtime()?.block_on(pulled(&etcd, version))?;
    Ok(with_version(&Edition { version, text: text.into() }, etcd.place()))
}

/// `shardway map history`: what was pushed, the latest first, and who serves it.
///
/// # Errors
/// Why it cannot be told.
pub fn history(map: &Path) -> Result<String, String> {
    let etcd = needed(map)?;
    runtime()?.block_on(async {
        let pushes = store::history(&etcd).await.map_err(|it| it.to_string())?;
        let (_, members) = store::members(&etcd).await.map_err(|it| it.to_string())?;
        let mut text = String::new();
        for push in pushes {
            let served: Vec<String> = members
                .iter()
                .filter(|(_, it)| it.version == push.version)
                .map(|(number, _)| number.to_string())
                .collect();
            let served = if served.is_empty() { String::new() } else { format!("  served by {}", served.join(", ")) };
            text.push_str(&format!("{:>6}  {}  {}{served}\n", push.version, push.at, push.by));
        }
        Ok(text)
    })
}

fn needed(map: &Path) -> Result<Etcd, String> {
    place_of(map)?.map(Etcd::patient).ok_or_else(|| {
        format!("{} is a file: say where in etcd the fleet's map is, --map etcd://HOST/PREFIX", map.display())
    })
}

fn by() -> String {
    let user = ProcessEnvironment.variable("USER").or_else(|| ProcessEnvironment.variable("LOGNAME"));
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}@{}", user.unwrap_or_else(|| "unknown".to_owned()), machine.trim())
}

/// The line that a text from etcd is headed by.
fn with_version(edition: &Edition, place: &Place) -> String {
    format!("{HEAD}{} of {place}\n{}", edition.version, edition.text)
}

fn version_of(text: &str) -> Option<u64> {
    first_line(text).strip_prefix(HEAD)?.split(' ').next()?.parse().ok()
}

fn without_version(text: &str) -> &str {
    if version_of(text).is_none() {
        return text;
    }
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

/// Starts what a member of a fleet has running.
pub(super) fn start(
    process: &Arc<Process>,
    fleet: &Arc<Fleet>,
    copy: Option<PathBuf>,
    stopping: &watch::Receiver<bool>,
) {
    tasks::shared("map watch", follow(Arc::clone(process), Arc::clone(fleet), copy, stopping.clone()));
}

const HEAD: &str = "# shardway map version ";
/// When an edition that was rejected is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// When an edition that could not be read is read again.
const PULL_AGAIN: Duration = Duration::from_millis(500);
/// How often it is looked whether all serve what was pushed.
const POLL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_which_version_it_was_made_from() {
        let place = Place::read("etcd://a/shop").unwrap();
        let text = with_version(&Edition { version: 7, text: "version: 1\n".into() }, &place);
        assert_eq!(text, "# shardway map version 7 of etcd://a:2379/shop\nversion: 1\n");
        assert_eq!((version_of(&text), without_version(&text)), (Some(7), "version: 1\n"));
        assert_eq!((version_of("version: 1\n"), without_version("version: 1\n")), (None, "version: 1\n"));
    }
}
