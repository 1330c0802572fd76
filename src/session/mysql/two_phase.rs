//! COMMIT of a transaction over several shards: on all of them or on none, whoever dies.
//!
//! Of the shards that joined, the first is the home and has a plain transaction; the others have parts that XA began. Where
//! one alone has written, its commit is the end of it. Otherwise the others that wrote prepare; then the home notes the
//! decision in its own transaction and commits: that commit *is* the decision (`topology::mysql::two_phase`). What is
//! prepared is then committed, however often that takes. Who is cut off from the home asks its log; whoever never comes
//! back is cleared up behind by any proxy.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay::Broken;
use crate::ident::ShardId;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::shard_map::AcrossShards;
use crate::topology::Topology;
use crate::topology::mysql::two_phase;
use crate::topology::mysql::xid::Branch;
use crate::topology::mysql::xid::Gid;
use crate::topology::mysql::xid::NUMBER_MAX;
use crate::topology::two_phase::Decision;
use crate::topology::two_phase::Ended;
use crate::topology::two_phase::Fitness;
use crate::wire::mysql::result::Failure;

/// How long a server may take for one step.
const STEP_MAX: Duration = Duration::from_secs(30);
/// The pause between two attempts, and the longest.
const AGAIN: Duration = Duration::from_millis(20);
const AGAIN_MAX: Duration = Duration::from_secs(1);
/// How often a part may be found nowhere before it is taken to be lost.
const MISSING_MAX: u32 = 6;

/// What came of one step on one link.
enum Step {
    Done,
    /// In the server's words.
    Failed(Failure),
    /// The link is of no more use, and what it was told last may be done or not.
    Lost(String),
}

impl Session {
    /// Refuses a statement that would write on these shards, where what it did could not be committed together with what
    /// the open transaction has done.
    pub(super) fn may_write(&self, shards: &[ShardId]) -> Result<(), Trouble> {
        let within = self.is_within() || !self.state.autocommit();
        // Of a transaction that may only read, servers refuse what writes.
        if (!within && shards.len() < 2) || self.reads_only() {
            return Ok(());
        }
        let mut writers = shards.to_vec();
        if within {
            writers.extend(self.links.iter().filter(|it| it.wrote).map(|it| it.shard));
        }
        writers.sort_unstable();
        writers.dedup();
        if writers.len() > 1 { self.may_all_write(&writers).map_err(Into::into) } else { Ok(()) }
    }

    fn may_all_write(&self, writers: &[ShardId]) -> Result<(), ClientError> {
        let Some(used) = &self.used else { return Ok(()) };
        let service = &used.access.service;
        let database = &service.database;
        let refuse = |why: String, hint: &str| {
            let names: Vec<String> = writers.iter().map(|it| format!("\"{}\"", database.shard(*it).name)).collect();
            let message = format!("one transaction would write on shards {}{why}", names.join(" and "));
            Err(ClientError::new(Code::SecondWritingShard, message, hint))
        };
        if database.across_shards == AcrossShards::Reject {
            return refuse(
                String::new(),
                "The map says transactions: {across_shards: reject}. Split the transaction, or give its rows one shard key.",
            );
        }
        let home = self.transaction.home.map(|it| it.shard);
        let mut cluster = None;
        for shard in home.iter().chain(writers) {
            let name = &database.shard(*shard).name;
            match service.topology.two_phase.fitness(*shard) {
                Fitness::Ready(id) if cluster.as_ref().is_none_or(|known| *known == id) => cluster = Some(id),
                Fitness::Ready(_) => {
                    return refuse(
                        format!(", but shard \"{name}\" was set up as part of another cluster"),
                        "Give all shards one id in shardway.cluster.",
                    );
                }
                Fitness::Unknown => {
                    return refuse(
                        format!(", and whether shard \"{name}\" can prepare transactions is not known yet"),
                        "Try again when its primary can be reached.",
                    );
                }
                Fitness::NoPrepared | Fitness::NotSetUp => {
                    return refuse(
                        format!(", but shard \"{name}\" is not set up for that"),
                        "Run shardway check --connect --prepare once; or split the transaction.",
                    );
                }
            }
        }
        // Whoever joined when that was not known has nothing that could be prepared.
        let plain = |it: &&Link| it.begun && it.branch.is_none() && Some(it.shard) != home;
        if let Some(link) = self.links.iter().filter(plain).find(|it| writers.contains(&it.shard)) {
            let name = &database.shard(link.shard).name;
            return refuse(
                format!(", but shard \"{name}\" joined before all of them could be asked whether they can prepare it"),
                "ROLLBACK, and begin anew.",
            );
        }
        Ok(())
    }

    /// What a shard's part of the open transaction is to be called; `None`: it joins plainly, for it is the first, or what it
    /// does cannot be prepared.
    pub(super) fn branch_of(&mut self, link: &Link) -> Option<Branch> {
        let home = self.transaction.home?;
        let service = &self.used.as_ref()?.access.service;
        if home.shard == link.shard || self.reads_only() || service.database.across_shards == AcrossShards::Reject {
            return None;
        }
        let known = &service.topology.two_phase;
        let (Fitness::Ready(cluster), Fitness::Ready(its)) = (known.fitness(home.shard), known.fitness(link.shard))
        else {
            return None;
        };
        if cluster != its {
            return None;
        }
        let gid = match &self.transaction.gid {
            Some(gid) => gid.clone(),
            None => Gid {
                cluster: (*cluster).into(),
                home: (*known.server(home.shard)?).into(),
                begun: u32::try_from(clock::unix_now().as_secs()).unwrap_or(u32::MAX),
                number: rand::random::<u64>() & NUMBER_MAX,
            },
        };
        self.transaction.gid = Some(gid.clone());
        let thread = link.connection.thread;
        Some(Branch { gid, place: link.shard.0, thread, home_thread: home.thread })
    }

    /// Rolls back whatever can be reached; what cannot is rolled back by its server. Links that are as new are kept.
    pub(super) async fn undo(&mut self, mut parts: Vec<Link>) {
        let said: Vec<_> = parts.iter_mut().map(|it| undone_by(it)).collect();
        let steps = each(&mut parts, &said, Wait::Client).await;
        for (link, step) in parts.into_iter().zip(steps) {
            self.finished(link, &step);
        }
    }

    /// Keeps what is over, closes all else.
    fn finished(&mut self, mut link: Link, step: &Step) {
        match step {
            Step::Done => {
                link.is_over();
                self.keep(link);
            }
            Step::Failed(_) | Step::Lost(_) => self.ends |= link.pinned,
        }
    }

    /// Commits what one shard has written, if any has; the others have nothing to lose.
    pub(super) async fn commit_on_one(&mut self, mut parts: Vec<Link>) -> Result<(), Trouble> {
        let (mut writers, mut readers): (Vec<Link>, Vec<Link>) = parts.drain(..).partition(|it| it.wrote);
        let mut outcome = Ok(());
        // More than one are never let in: what comes behind the first is undone with it.
        if !writers.is_empty() {
            let rest = writers.split_off(1);
            let said: Vec<_> = writers.iter().map(committed_by).collect();
            let step = each(&mut writers, &said, Wait::Client).await.pop();
            for link in writers {
                let name = self.name_of(link.shard);
                match step.as_ref() {
                    Some(Step::Failed(failure)) => outcome = Err(failure.clone().into()),
                    Some(Step::Lost(reason)) => outcome = Err(unknown(&name, reason).into()),
                    Some(Step::Done) | None => {}
                }
                self.finished(link, step.as_ref().unwrap_or(&Step::Done));
            }
            if !rest.is_empty() {
                self.undo(rest).await;
                outcome = outcome.and_then(|()| Err(not_done().into()));
            }
        }
        if outcome.is_err() {
            self.undo(readers).await;
            return outcome;
        }
        // What a deferred error or a server's own mind may say at COMMIT of what only read is the client's to hear.
        let said: Vec<_> = readers.iter().map(committed_by).collect();
        let steps = each(&mut readers, &said, Wait::Client).await;
        for (link, step) in readers.into_iter().zip(steps) {
            if let Step::Failed(failure) = &step
                && outcome.is_ok()
                && link.branch.is_none()
            {
                outcome = Err(failure.clone().into());
            }
            self.finished(link, &step);
        }
        outcome
    }

    /// Commits what several shards have written, on all or on none; if this fails, nothing is done, unless the error says
    /// that it cannot be known.
    pub(super) async fn commit_on_all(&mut self, parts: Vec<Link>, gid: &Gid) -> Result<(), Trouble> {
        let Some(topology) = self.used.as_ref().map(|it| Arc::clone(&it.access.service.topology)) else {
            return Err(not_done().into());
        };
        let result = self.agree(parts, gid, &topology).await;
        if result.is_err() {
            topology.two_phase.let_go(&gid.to_string());
        }
        result
    }

    async fn agree(&mut self, parts: Vec<Link>, gid: &Gid, topology: &Topology) -> Result<(), Trouble> {
        let (mut home, mut others): (Vec<Link>, Vec<Link>) = parts.into_iter().partition(|it| it.branch.is_none());
        let (mut writers, readers): (Vec<Link>, Vec<Link>) = others.drain(..).partition(|it| it.wrote);
        // Whoever is not the home, and has no part that could be prepared, has only read (`may_all_write`).
        let at = self.home_among(&home, gid, topology);
        let Some(at) = at.filter(|at| home.iter().enumerate().all(|(place, it)| place == *at || !it.wrote)) else {
            self.undo(home.into_iter().chain(writers).chain(readers).collect()).await;
            return Err(not_done().into());
        };
        let mut home_link = home.swap_remove(at);
        let readers: Vec<Link> = readers.into_iter().chain(home).collect();

        // Each part that wrote says so, and is prepared.
        let mark = two_phase::mark(gid);
        let said: Vec<Vec<String>> = writers.iter().map(|it| prepared_by(it, &mark)).collect();
        let steps = each(&mut writers, &said, Wait::Step).await;
        let failed = steps.iter().find_map(|step| match step {
            Step::Done => None,
            Step::Failed(failure) => Some(self.not_prepared(failure)),
            Step::Lost(_) => Some(not_done().into()),
        });
        if let Some(trouble) = failed {
            self.undo_prepared(writers, &steps).await;
            self.undo(readers.into_iter().chain([home_link]).collect()).await;
            return Err(trouble);
        }

        // The home notes the decision; until it commits, nothing is decided.
        let servers: Vec<Arc<str>> = writers.iter().filter_map(|it| topology.two_phase.server(it.shard)).collect();
        let noted = match servers.len() == writers.len() {
            true => step(&mut home_link, &[two_phase::decision(gid, &servers)]).await,
            false => Step::Lost("the shards were set up anew meanwhile".to_owned()),
        };
        let trouble = match &noted {
            Step::Done => None,
            Step::Failed(failure) if failure.number == DUPLICATE => Some(aborted_meanwhile().into()),
            Step::Failed(failure) => Some(self.not_prepared(failure)),
            Step::Lost(_) => Some(not_done().into()),
        };
        if let Some(trouble) = trouble {
            self.undo_prepared(writers, &steps).await;
            match noted {
                Step::Lost(_) => self.ends |= home_link.pinned,
                _ => self.undo(vec![home_link]).await,
            }
            self.undo(readers).await;
            return Err(trouble);
        }
        if let Some(used) = &self.used {
            let service = Arc::clone(&used.access.service);
            // What has been decided is not held back: it is seen in part until it is done everywhere.
            service.gate.pass().await;
        }
        let home = self.name_of(home_link.shard);
        let home_thread = home_link.connection.thread;
        let decided = step(&mut home_link, &["COMMIT".to_owned()]).await;
        let decision = match &decided {
            Step::Done => Ok(Decision::Commit),
            // Whether it committed, only its log knows.
            Step::Failed(_) | Step::Lost(_) => {
                self.ends |= home_link.pinned;
                drop(home_link);
                let wait =
                    self.used.as_ref().map_or(STEP_MAX, |it| it.access.service.database.failover.wait + STEP_MAX);
                let found = find_out(topology, gid, home_thread, wait).await;
                return self.decided(found, &decided, &home, writers, readers).await;
            }
        };
        self.finished(home_link, &decided);
        self.decided(decision, &Step::Done, &home, writers, readers).await
    }

    /// Does what has been decided. `said`: what the home said to COMMIT.
    async fn decided(
        &mut self,
        decision: Result<Decision, ()>,
        said: &Step,
        home: &str,
        mut writers: Vec<Link>,
        readers: Vec<Link>,
    ) -> Result<(), Trouble> {
        match decision {
            Ok(Decision::Commit) => {}
            Ok(Decision::Abort) => {
                let steps: Vec<Step> = writers.iter().map(|_| Step::Done).collect();
                self.undo_prepared(writers, &steps).await;
                self.undo(readers).await;
                return Err(match said {
                    Step::Failed(failure) => failure.clone().into(),
                    _ => aborted_meanwhile().into(),
                });
            }
            // The decision is there or not: what is prepared must wait for whoever finds out.
            Err(()) => {
                self.ends |= writers.iter().chain(&readers).any(|it| it.pinned);
                return Err(unknown(home, "it has not come back").into());
            }
        }
        let said: Vec<Vec<String>> = writers.iter().map(|it| ended_by(it, "COMMIT")).collect();
        let steps = each(&mut writers, &said, Wait::Step).await;
        let mut outcome = Ok(());
        for (link, step) in writers.into_iter().zip(steps) {
            if matches!(step, Step::Done) {
                self.finished(link, &Step::Done);
                continue;
            }
            self.ends |= link.pinned;
            let (shard, branch) = (link.shard, link.branch.clone());
            // While its connection lives, nobody else can end it.
            drop(link);
            let Some((branch, used)) = branch.zip(self.used.as_ref()) else { continue };
            if !carry_out(&used.access.service.topology, shard, &branch).await {
                let name = self.name_of(shard);
                tracing::error!(gid = %branch.gid, shard = %name, "a part of a committed transaction is lost");
                outcome = Err(lost_part(&name).into());
            }
        }
        let mut readers = readers;
        let said: Vec<_> = readers.iter().map(committed_by).collect();
        let steps = each(&mut readers, &said, Wait::Step).await;
        for (link, step) in readers.into_iter().zip(steps) {
            self.finished(link, &step);
        }
        outcome
    }

    /// Which of the plain links is the home that the name tells of.
    fn home_among(&self, plain: &[Link], gid: &Gid, topology: &Topology) -> Option<usize> {
        plain.iter().position(|it| topology.two_phase.server(it.shard).is_some_and(|server| *server == *gid.home))
    }

    /// Rolls back parts that were prepared, or that failed on the way to it.
    async fn undo_prepared(&mut self, parts: Vec<Link>, steps: &[Step]) {
        let (mut prepared, mut open) = (Vec::new(), Vec::new());
        for (link, step) in parts.into_iter().zip(steps) {
            match step {
                Step::Done => prepared.push(link),
                Step::Failed(_) => open.push(link),
                // Whoever finds it prepared finds nothing decided.
                Step::Lost(_) => self.ends |= link.pinned,
            }
        }
        // What failed may be in any state: its connection is closed, which rolls it back unless it is prepared.
        self.ends |= open.iter().any(|it| it.pinned);
        for link in &mut open {
            if let Some(branch) = &link.branch {
                let said = format!("XA ROLLBACK {branch}");
                let _ = step(link, &[said]).await;
            }
        }
        drop(open);
        let said: Vec<Vec<String>> = prepared.iter().map(|it| ended_by(it, "ROLLBACK")).collect();
        let steps = each(&mut prepared, &said, Wait::Step).await;
        for (link, step) in prepared.into_iter().zip(steps) {
            self.finished(link, &step);
        }
    }

    /// What the client is told when a server refuses a step before the decision.
    fn not_prepared(&self, failure: &Failure) -> Trouble {
        match failure.number {
            ACCESS_DENIED | TABLE_ACCESS_DENIED | NO_SUCH_TABLE => {
                tracing::error!(%failure, "the decision on a transaction over several shards cannot be noted");
                ClientError::new(
                    Code::SecondWritingShard,
                    "a transaction over several shards cannot be committed here, and was rolled back: its decision may not \
                     be written down",
                    "Run shardway check --connect --prepare: it grants the accounts of the map what that takes.",
                )
                .into()
            }
            _ => failure.clone().into(),
        }
    }

    pub(super) fn name_of(&self, shard: ShardId) -> Arc<str> {
        self.used.as_ref().map(|it| Arc::clone(&it.access.service.database.shard(shard).name)).unwrap_or_default()
    }
}

/// How a part is committed by itself.
fn committed_by(link: &Link) -> Vec<String> {
    match &link.branch {
        None => vec!["COMMIT".to_owned()],
        Some(branch) => vec![format!("XA END {branch}"), format!("XA COMMIT {branch} ONE PHASE")],
    }
}

fn undone_by(link: &Link) -> Vec<String> {
    match &link.branch {
        None => vec!["ROLLBACK".to_owned()],
        Some(branch) => vec![format!("XA END {branch}"), format!("XA ROLLBACK {branch}")],
    }
}

/// How it is prepared.
fn prepared_by(link: &Link, mark: &str) -> Vec<String> {
    let Some(branch) = &link.branch else { return Vec::new() };
    vec![mark.to_owned(), format!("XA END {branch}"), format!("XA PREPARE {branch}")]
}

/// How it is ended once it is prepared.
fn ended_by(link: &Link, word: &str) -> Vec<String> {
    link.branch.iter().map(|branch| format!("XA {word} {branch}")).collect()
}

async fn step(link: &mut Link, said: &[String]) -> Step {
    let texts: Vec<&str> = said.iter().map(String::as_str).collect();
    read(tokio::time::timeout(STEP_MAX, link.run_all(&texts)).await)
}

/// How long a step may take.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// As long as a statement of the client's, and [`STEP_MAX`] at most.
    Client,
    /// [`STEP_MAX`]: what is being prepared is not given up because statements have to be quick.
    Step,
}

impl Wait {
    fn on(self, link: &Link) -> Duration {
        match (self, link.patience) {
            (Self::Client, Some(patience)) => patience.min(STEP_MAX),
            _ => STEP_MAX,
        }
    }
}

/// A step on each link, at once on all.
async fn each(links: &mut [Link], said: &[Vec<String>], wait: Wait) -> Vec<Step> {
    let mut told = Vec::with_capacity(links.len());
    for (link, texts) in links.iter_mut().zip(said) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        told.push(tokio::time::timeout(wait.on(link), link.tell_all(&texts)).await);
    }
    let mut steps = Vec::with_capacity(links.len());
    for ((link, texts), told) in links.iter_mut().zip(said).zip(told) {
        steps.push(match told {
            Ok(Ok(())) => read(tokio::time::timeout(wait.on(link), link.hear_all(texts.len())).await),
            Ok(Err(broken)) => read(Ok(Err(broken))),
            Err(late) => read(Err(late)),
        });
    }
    steps
}

fn read(said: Result<Result<Result<(), Failure>, Broken>, tokio::time::error::Elapsed>) -> Step {
    match said {
        Ok(Ok(Ok(()))) => Step::Done,
        Ok(Ok(Err(failure))) => Step::Failed(failure),
        Ok(Err(Broken::Server(reason) | Broken::Differs(reason))) => Step::Lost(reason),
        Ok(Err(Broken::Client(error))) => Step::Lost(error.to_string()),
        Err(_) => Step::Lost("no answer in time".to_owned()),
    }
}

/// Asks the home's log how it ended, as long as that may take.
async fn find_out(topology: &Topology, gid: &Gid, home_thread: u32, wait: Duration) -> Result<Decision, ()> {
    let deadline = clock::now().plus(wait);
    let mut pause = AGAIN;
    loop {
        match two_phase::resolve(topology, gid, home_thread).await {
            Ok(decision) => return Ok(decision),
            Err(error) => tracing::warn!(%gid, %error, "the decision cannot be read yet"),
        }
        if clock::now() >= deadline {
            return Err(());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

/// Commits a part over other connections: it has been decided, so that this goes on until it is done. False: it is lost.
async fn carry_out(topology: &Topology, shard: ShardId, branch: &Branch) -> bool {
    let mut pause = AGAIN;
    let mut missing = 0;
    loop {
        match two_phase::end(topology, shard, branch, Decision::Commit).await {
            Ok(Ended::Now) => return true,
            // Somebody else has committed it, or it is lost.
            Ok(Ended::NotThere) => match two_phase::has_committed(topology, shard, branch).await {
                Ok(Some(true)) => return true,
                // A server that is still about it shows it nowhere for a moment.
                Ok(Some(false)) if missing == MISSING_MAX => return false,
                Ok(Some(false)) => missing += 1,
                Ok(None) => {}
                Err(error) => tracing::debug!(gid = %branch.gid, %error, "a part cannot be asked for yet"),
            },
            Err(error) => tracing::debug!(gid = %branch.gid, %error, "a part cannot be committed yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

fn not_done() -> ClientError {
    ClientError::new(
        Code::NotDone,
        "a shard was lost while the transaction was being prepared; nothing of it was done",
        "Run the transaction again.",
    )
}

fn aborted_meanwhile() -> ClientError {
    ClientError::new(
        Code::NotDone,
        "the transaction took too long to be decided, and was aborted on all shards",
        "Run it again.",
    )
}

fn unknown(shard: &str, reason: &str) -> ClientError {
    ClientError::new(
        Code::OutcomeUnknown,
        format!("the connection to shard \"{shard}\" was lost while it committed: {reason}"),
        "Look whether it was done before you say it again: it is done on all shards, or on none.",
    )
}

fn lost_part(shard: &str) -> ClientError {
    ClientError::new(
        Code::OutcomeUnknown,
        format!("the transaction was committed, but shard \"{shard}\" has lost what it had prepared of it"),
        "Compare what it wrote on the other shards: this server was set back, or failed over without its last writes.",
    )
}

// As in MySQL's list of errors.
const DUPLICATE: u16 = 1062;
const ACCESS_DENIED: u16 = 1044;
const TABLE_ACCESS_DENIED: u16 = 1142;
const NO_SUCH_TABLE: u16 = 1146;
