//! COMMIT of a transaction that wrote on several shards: on all of them or on none, whoever dies.
//!
//! One of the shards is the home. The others prepare; then, in one flight, the home notes the decision and commits: that
//! commit *is* the decision (`topology::two_phase`). What is prepared is then committed, however often that takes. Who
//! is cut off from the home asks its log; whoever never comes back is cleared up behind by any proxy.
//!
//! Links that take part are taken out of the session meanwhile: each is asked and heard on its own (`exec::ask`), and from
//! the first PREPARE on no cancel request strikes them.

use std::sync::Arc;
use std::time::Duration;

use sha2::Digest;
use sha2::Sha256;

use crate::backend::settings;
use crate::clock;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec;
use crate::exec::ask;
use crate::exec::ask::Answer;
use crate::exec::flight;
use crate::exec::link::Link;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::session::Session;
use crate::session::Trouble;
use crate::shard_map::AcrossShards;
use crate::topology::Entry;
use crate::topology::gid::Gid;
use crate::topology::two_phase;
use crate::topology::two_phase::Decision;
use crate::topology::two_phase::Fitness;
use crate::wire::postgres::backend::Severity;
use crate::wire::postgres::backend::notice;

/// Whatever waits for the end of the transaction comes now, as the client's own role, so that nothing of the client's
/// runs behind it. Then the transaction belongs to the role that logged in, which can end it; no timeout of the client's
/// ends it halfway; and it is as durable as the server makes any other. Last: its number, if it wrote anything, and the
/// timeline that the number is of.
const GET_READY: &str = "SET CONSTRAINTS ALL IMMEDIATE; \
     SELECT pg_catalog.set_config('role', 'none', true), pg_catalog.set_config('statement_timeout', '0', true), \
     pg_catalog.set_config('idle_in_transaction_session_timeout', '0', true), \
     pg_catalog.set_config('lock_timeout', '10s', true), \
     pg_catalog.set_config('synchronous_commit', CASE WHEN pg_catalog.current_setting('synchronous_commit') \
     OPERATOR(pg_catalog.=) ANY (ARRAY['off', 'local', 'remote_write']) THEN 'on' \
     ELSE pg_catalog.current_setting('synchronous_commit') END, true), \
     pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text, \
     pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)";

/// The same for COMMIT PREPARED and ROLLBACK PREPARED, which stand in no transaction.
const GET_READY_TO_END: &str = "SELECT pg_catalog.set_config('role', 'none', false), \
     pg_catalog.set_config('statement_timeout', '0', false), pg_catalog.set_config('lock_timeout', '0', false), \
     pg_catalog.set_config('synchronous_commit', CASE WHEN pg_catalog.current_setting('synchronous_commit') \
     OPERATOR(pg_catalog.=) ANY (ARRAY['off', 'local', 'remote_write']) THEN 'on' \
     ELSE pg_catalog.current_setting('synchronous_commit') END, false)";

/// The settings that it changes.
const CHANGED: [&str; 4] = ["lock_timeout", "role", "statement_timeout", "synchronous_commit"];

/// Where in the WAL a part is prepared.
const POSITION: &str = "SELECT pg_catalog.pg_current_wal_insert_lsn()";

/// The number and the timeline in the answer to [`GET_READY`].
const XID: usize = 5;
const TIMELINE: usize = 6;

/// How long a server may take for one step.
const STEP_MAX: Duration = Duration::from_secs(30);
/// The pause between two attempts, and the longest.
const AGAIN: Duration = Duration::from_millis(20);
const AGAIN_MAX: Duration = Duration::from_secs(1);

/// One shard's part.
struct Part {
    link: Link,
    /// Its transaction, and the timeline that the number is of; 0: it wrote nothing.
    xid: u64,
    timeline: u32,
    /// Where its WAL stood when it was prepared.
    position: String,
    /// It has been prepared: the settings that it made then stay, whatever is decided.
    prepared: bool,
    /// What the server remarked, for the client.
    remarks: Vec<u8>,
    /// What is known of it.
    stage: Stage,
    /// Once no cancel request can reach it any more: whether none is on its way.
    shield: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its transaction is open.
    Open,
    /// It waits for the decision.
    Prepared,
    /// It is over, as decided.
    Over,
    /// Its connection is of no more use.
    Lost,
}

/// What became of a COMMIT on several shards.
pub(super) enum Spread {
    /// It is done on all of them.
    Done,
    /// One shard at most wrote anything: no agreement is needed.
    Plain(Option<ShardId>),
}

impl Session {
    /// Whether a transaction that wrote on `before` may write on `shard` too.
    ///
    /// # Errors
    /// Why it may not: the statement is refused.
    pub(super) fn may_write_too(&self, before: &ShardSet, shard: ShardId) -> Result<(), ClientError> {
        let service = &self.access.service;
        let database = &service.database;
        let first = before.first().unwrap_or(shard);
        let refuse = |why: String, hint: &str| {
            let message = format!(
                "transaction writes shard \"{}\" and would write shard \"{}\" too{why}",
                database.shard(first).name,
                database.shard(shard).name
            );
            Err(ClientError::new(Code::SecondWritingShard, message, hint))
        };
        if database.across_shards == AcrossShards::Reject {
            return refuse(
                String::new(),
                "The map says transactions: {across_shards: reject}. Split the transaction, or give its rows one \
                 shard key.",
            );
        }
        let mut cluster = None;
        for it in before.iter().chain([shard]) {
            let name = &database.shard(it).name;
            match service.topology.two_phase.fitness(it) {
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
                Fitness::NoPrepared => {
                    return refuse(
                        format!(", but shard \"{name}\" has max_prepared_transactions = 0"),
                        "Set it there (to max_connections, say) and restart the server; then run shardway check \
                         --connect --prepare.",
                    );
                }
                Fitness::NotSetUp => {
                    return refuse(
                        format!(", but shard \"{name}\" is not set up for that"),
                        "Run shardway check --connect --prepare once; or split the transaction.",
                    );
                }
            }
        }
        let bound = |it: &ShardId| self.links.iter().any(|link| link.shard == *it && link.is_bound());
        if before.iter().chain([shard]).filter(bound).nth(1).is_some() {
            return refuse(
                ", and used temporary tables, NOTIFY or a cursor WITH HOLD on both".to_owned(),
                "What they leave behind cannot be prepared: do it in a transaction of its own.",
            );
        }
        // Where nothing has been written, the server says that nothing may be.
        if self.is_read_only() && !self.transaction.writers.is_empty() {
            return refuse(
                ", and is READ ONLY by now".to_owned(),
                "What is READ ONLY cannot be prepared: set it at the beginning.",
            );
        }
        Ok(())
    }

    /// Commits what the links of `writers` did, on all or on none; if this fails, nothing is done, unless the error says
    /// that it cannot be known. The links are as after any transaction.
    pub(super) async fn commit_on_all(&mut self, writers: &ShardSet) -> Result<Spread, Trouble> {
        let mut parts = self.take_parts();
        let result = self.agree(&mut parts, writers).await;
        let committed = matches!(result, Ok(Spread::Done));
        let over = !matches!(result, Ok(Spread::Plain(_)));
        self.put_back(parts, over, committed);
        result
    }

    fn take_parts(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        for place in (0..self.links.len()).rev() {
            // Others may have written too, by functions that the map calls safe: their servers know.
            if self.links.get(place).is_some_and(|link| link.begun && !link.replica) {
                let mut link = self.links.remove(place);
                link.unpreparable = link.is_bound();
                parts.push(Part::new(link));
            }
        }
        // What cannot be prepared needs not be, at home.
        parts.sort_by_key(|part| (!part.link.unpreparable, part.link.shard));
        parts
    }

    fn put_back(&mut self, parts: Vec<Part>, over: bool, committed: bool) {
        let now = clock::now();
        for Part { mut link, xid, prepared, remarks, stage, shield, .. } in parts {
            self.client.push(&remarks);
            if committed
                && xid != 0
                && let Some(floor) = self.floors.get_mut(link.shard.index())
            {
                floor.wrote(now);
            }
            if !over {
                self.links.push(link);
                continue;
            }
            let clean = shield.unwrap_or_else(|| self.ticket.remove(&link.connection));
            // A late cancel request would hit whoever has the connection next; what is pinned stays with this session.
            if stage == Stage::Lost || (!clean && !link.pinned) || link.status != b'I' {
                if link.pinned {
                    self.state.pins.retain(|(shard, _)| *shard != link.shard);
                    self.world = None;
                }
                self.cursors.retain(|_, shard| *shard != link.shard);
                continue;
            }
            link.ended(committed || prepared);
            self.ticket.add(&link.connection);
            self.links.push(link);
        }
    }

    async fn agree(&mut self, parts: &mut [Part], writers: &ShardSet) -> Result<Spread, Trouble> {
        if !writers.iter().all(|shard| parts.iter().any(|it| it.link.shard == shard)) {
            undo(parts, None).await;
            return Err(not_done().into());
        }
        // Each is ready, or all is undone.
        if let Err(trouble) = get_ready(parts, self.map.timeouts.statement).await {
            undo(parts, None).await;
            return Err(trouble);
        }
        let writing: Vec<ShardId> = parts.iter().filter(|it| it.xid != 0).map(|it| it.link.shard).collect();
        if writing.len() < 2 {
            return Ok(Spread::Plain(writing.first().copied()));
        }
        for part in parts.iter_mut() {
            part.shield = Some(self.ticket.remove(&part.link.connection));
        }
        let (gid, secret) = match self.name(parts) {
            Ok(named) => named,
            Err(refusal) => {
                undo(parts, None).await;
                return Err(refusal.into());
            }
        };
        let result = self.agree_as(parts, &gid, &secret).await;
        if result.is_err() {
            self.access.service.topology.two_phase.let_go(&gid.to_string());
        }
        result.map(|()| Spread::Done)
    }

    /// The same, under its name.
    async fn agree_as(&self, parts: &mut [Part], gid: &Gid, secret: &str) -> Result<(), Trouble> {
        let text = gid.to_string();
        if let Err(trouble) = prepare(parts, &text).await {
            undo(parts, Some(&text)).await;
            return Err(trouble);
        }
        // What has been decided is not held back: it is seen in part until it is done everywhere.
        self.access.service.gate.pass().await;
        match self.decide(parts, gid, secret).await {
            Ok(()) => {}
            Err((Decision::Abort, trouble)) => {
                undo(parts, Some(&text)).await;
                return Err(trouble);
            }
            // The decision is there or not: what is prepared must wait for whoever finds out.
            Err((Decision::Commit, trouble)) => {
                parts.iter_mut().for_each(|part| part.stage = Stage::Lost);
                return Err(trouble);
            }
        }
        if let Err(trouble) = self.carry_out(parts, &text).await {
            // The others are committed; what became of settings on each is not worth telling apart.
            parts.iter_mut().for_each(|part| part.stage = Stage::Lost);
            return Err(trouble);
        }
        // What only read has nothing to agree on.
        for part in parts.iter_mut().filter(|it| it.xid == 0) {
            part.asked(&["COMMIT"]).await;
        }
        Ok(())
    }

    /// Gives the transaction a name, with the first part that wrote as its home; and the secret of its digest.
    fn name(&self, parts: &[Part]) -> Result<(Gid, String), ClientError> {
        let service = &self.access.service;
        let refuse = |why: &str, hint: &str| Err(ClientError::new(Code::SecondWritingShard, why, hint));
        let Some(home) = parts.iter().find(|it| it.xid != 0) else {
            return refuse("the transaction has no home", "Report this.");
        };
        if parts.iter().filter(|it| it.xid != 0 && it.link.unpreparable).nth(1).is_some() {
            return refuse(
                "the transaction used temporary tables, NOTIFY or a cursor WITH HOLD on two shards that it wrote",
                "What they leave behind cannot be prepared: do it in a transaction of its own.",
            );
        }
        let Fitness::Ready(cluster) = service.topology.two_phase.fitness(home.link.shard) else {
            return refuse("the transaction's home is not set up for that any more", "Look at SHOW NODES.");
        };
        let secret = format!("{:032x}", rand::random::<u128>());
        let digest = Sha256::digest(secret.as_bytes()).iter().fold(String::new(), |all, it| all + &format!("{it:02x}"));
        let gid = Gid {
            cluster: cluster.to_string(),
            home: service.database.shard(home.link.shard).name.to_string(),
            system: service.topology.node(home.link.node).system(),
            xid: home.xid,
            timeline: home.timeline,
            digest,
        };
        if gid.system == 0 {
            return refuse("the system identifier of the transaction's home is not known yet", "Try again.");
        }
        if !gid.fits() {
            return refuse("the name of the transaction's home shard is too long", "Give the shard a shorter name.");
        }
        Ok((gid, secret))
    }

    /// Has the home note the decision and commit, in one flight. The error says what is known then: aborted, or (with
    /// `Commit`) nothing.
    async fn decide(&self, parts: &mut [Part], gid: &Gid, secret: &str) -> Result<(), (Decision, Trouble)> {
        let database = &self.access.service.database;
        let others: Vec<String> = parts
            .iter()
            .filter(|it| it.stage == Stage::Prepared)
            .map(|it| format!("{} {} {} {}", database.shard(it.link.shard).name, it.xid, it.timeline, it.position))
            .collect();
        let note = format!(
            "SELECT shardway.decide({}, '{secret}', '{}', {})",
            settings::literal(&gid.to_string()),
            gid.xid,
            settings::literal(&others.join("; "))
        );
        let Some(home) = parts.iter_mut().find(|it| it.xid != 0) else {
            return Err((Decision::Abort, Trouble::Failed));
        };
        let mut said = None;
        if let Some([decided, committed]) = home.asked(&[&note, "COMMIT"]).await.as_deref() {
            if let Some(error) = &decided.error {
                let raced = flight::sqlstate(error) == *b"23505";
                let trouble = if raced { aborted_meanwhile().into() } else { Trouble::Told(error.clone()) };
                // COMMIT came too late: it was a ROLLBACK.
                home.stage = Stage::Over;
                return Err((Decision::Abort, trouble));
            }
            if decided.cell(0) == Some("commit") && committed.is("COMMIT") {
                home.stage = Stage::Over;
                return Ok(());
            }
            said.clone_from(&committed.error);
        }
        // Whether it committed, only its log knows.
        home.stage = Stage::Lost;
        let deadline = clock::now().plus(database.failover.wait + STEP_MAX);
        let mut pause = AGAIN;
        loop {
            match two_phase::resolve(&self.access.service.topology, gid).await {
                Ok(Decision::Commit) => return Ok(()),
                Ok(Decision::Abort) => {
                    let trouble = said.map_or_else(|| aborted_meanwhile().into(), Trouble::Told);
                    return Err((Decision::Abort, trouble));
                }
                Err(error) => tracing::warn!(%gid, %error, "the decision cannot be read yet"),
            }
            if clock::now() >= deadline {
                return Err((Decision::Commit, unknown(&gid.home).into()));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }

    /// Commits what is prepared: it has been decided, so that this goes on until it is done, unless the client cancels.
    async fn carry_out(&self, parts: &mut [Part], gid: &str) -> Result<(), Trouble> {
        let said = format!("COMMIT PREPARED {}", settings::literal(gid));
        end_each(parts, &said, "COMMIT PREPARED").await;
        let mut lost = None;
        for part in parts.iter_mut().filter(|it| it.prepared && it.stage != Stage::Over) {
            part.stage = Stage::Lost;
            // Where the connection is gone, another will do.
            match self.commit_elsewhere(part, gid, &said).await {
                Ok(true) => {}
                Ok(false) => {
                    self.access.service.topology.two_phase.let_go(gid);
                    let name = &self.access.service.database.shard(part.link.shard).name;
                    tracing::warn!(%gid, shard = %name, "a part of a committed transaction is not committed yet");
                    let text = format!(
                        "the transaction is committed; what it wrote on shard \"{name}\" is not to be seen there yet"
                    );
                    notice(&mut part.remarks, Severity::Warning, "01000", &text, None);
                }
                Err(error) => lost = lost.or(Some(error)),
            }
        }
        lost.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Commits a part over other connections of the same login. False: not yet, for the client does not wait any longer;
    /// somebody will.
    async fn commit_elsewhere(&self, part: &Part, gid: &str, said: &str) -> Result<bool, ClientError> {
        let (shard, topology) = (part.link.shard, &self.access.service.topology);
        let name = &self.access.service.database.shard(shard).name;
        let mut pause = AGAIN;
        loop {
            if let Ok(link) = self.access.primary(shard, Entry::Joins).await {
                // Dropped afterwards: its settings are changed, and it is of no more use.
                let mut other = Part::new(link);
                let answers = other.asked(&[GET_READY_TO_END, said]).await;
                let ended = answers.as_deref().and_then(|it| it.get(1));
                if ended.is_some_and(|it| it.is("COMMIT PREPARED")) {
                    return Ok(true);
                }
                let error = ended.and_then(|it| it.error.as_deref());
                if error.is_some_and(|it| flight::sqlstate(it) == *b"42704") {
                    // Somebody else has committed it, or it is lost.
                    match two_phase::has_committed(topology, shard, part.xid, part.timeline).await {
                        Ok(Some(true)) => return Ok(true),
                        Ok(Some(false)) => {
                            tracing::error!(%gid, shard = %name, "a part of a committed transaction is lost");
                            return Err(lost_part(name));
                        }
                        Ok(None) => {
                            tracing::error!(%gid, shard = %name, "a part of a committed transaction cannot be proven");
                            return Err(unproven_part(name));
                        }
                        Err(error) => tracing::debug!(%gid, %error, "a part cannot be asked for yet"),
                    }
                }
            }
            if self.ticket.is_struck() {
                return Ok(false);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }
}

impl Part {
    fn new(link: Link) -> Self {
        Self {
            link,
            xid: 0,
            timeline: 0,
            position: String::new(),
            prepared: false,
            remarks: Vec::new(),
            stage: Stage::Open,
            shield: None,
        }
    }

    /// Takes in the answer to [`GET_READY`].
    fn note(&mut self, answer: &Answer) -> Result<(), ClientError> {
        let [row] = answer.rows.as_slice() else { return Err(not_done()) };
        let (Some(xid), Some(Some(timeline))) = (row.get(XID), row.get(TIMELINE)) else { return Err(not_done()) };
        self.timeline = u32::from_str_radix(timeline, 16).map_err(|_| not_done())?;
        // NULL: it has none, for it wrote nothing.
        self.xid = xid.as_ref().map_or(Ok(0), |it| it.parse()).map_err(|_| not_done())?;
        Ok(())
    }

    /// Says Queries and takes in their answers. `None`: the connection is lost, or the server takes too long.
    async fn asked(&mut self, texts: &[&str]) -> Option<Vec<Answer>> {
        self.told(texts).await;
        self.heard(texts.len()).await
    }

    async fn told(&mut self, texts: &[&str]) {
        if self.stage == Stage::Lost {
            return;
        }
        let said = exec::within(STEP_MAX, ask::tell(&mut self.link, texts)).await;
        if !matches!(said, Some(Ok(()))) {
            self.stage = Stage::Lost;
        }
    }

    async fn heard(&mut self, count: usize) -> Option<Vec<Answer>> {
        self.heard_within(STEP_MAX, count).await
    }

    async fn heard_within(&mut self, limit: Duration, count: usize) -> Option<Vec<Answer>> {
        if self.stage == Stage::Lost {
            return None;
        }
        match exec::within(limit, ask::hear(&mut self.link, count)).await {
            Some(Ok(answers)) => {
                answers.iter().for_each(|it| self.remarks.extend_from_slice(&it.remarks));
                Some(answers)
            }
            _ => {
                self.stage = Stage::Lost;
                None
            }
        }
    }
}

/// Has every part ready to be prepared. What the client left to be done at COMMIT may take as long as a statement.
async fn get_ready(parts: &mut [Part], limit: Duration) -> Result<(), Trouble> {
    for part in parts.iter_mut() {
        part.told(&[GET_READY]).await;
    }
    let mut trouble = None;
    for part in parts.iter_mut() {
        let answers = part.heard_within(limit, 1).await;
        let found = match answers.as_deref() {
            Some([Answer { error: Some(error), .. }]) => Some(Trouble::Told(error.clone())),
            Some([answer]) if part.link.status == b'T' => part.note(answer).err().map(Into::into),
            _ => Some(not_done().into()),
        };
        trouble = trouble.or(found);
    }
    trouble.map_or(Ok(()), Err)
}

/// Prepares every part that wrote, but for the first, which is the home.
async fn prepare(parts: &mut [Part], gid: &str) -> Result<(), Trouble> {
    let said = format!("PREPARE TRANSACTION {}", settings::literal(gid));
    for part in parts.iter_mut().filter(|it| it.xid != 0).skip(1) {
        part.told(&[&said, POSITION]).await;
    }
    let mut trouble = None;
    for part in parts.iter_mut().filter(|it| it.xid != 0).skip(1) {
        let found = match part.heard(2).await.as_deref() {
            Some([said, position]) if said.error.is_none() && said.tag.as_deref() == Some("PREPARE TRANSACTION") => {
                part.stage = Stage::Prepared;
                part.prepared = true;
                part.position = position.cell(0).unwrap_or_default().to_owned();
                // With a warning it is prepared, and perhaps not where it has to be.
                (part.position.is_empty() || !said.warnings.is_empty()).then(|| not_done().into())
            }
            Some([Answer { error: Some(error), .. }, _]) => Some(Trouble::Told(error.clone())),
            _ => Some(not_done().into()),
        };
        trouble = trouble.or(found);
    }
    trouble.map_or(Ok(()), Err)
}

/// Ends what is prepared over the connections that prepared it. What does not answer as it should stays as it was.
async fn end_each(parts: &mut [Part], said: &str, tag: &str) {
    for part in parts.iter_mut().filter(|it| it.stage == Stage::Prepared) {
        let settings = &part.link.connection.settings;
        let changed = CHANGED.iter().fold((**settings).clone(), |all, name| all.with(name, settings::UNKNOWN));
        part.link.connection.settings = Arc::new(changed);
        part.told(&[GET_READY_TO_END, said]).await;
    }
    for part in parts.iter_mut().filter(|it| it.stage == Stage::Prepared) {
        if let Some([_, ended]) = part.heard(2).await.as_deref()
            && ended.is(tag)
        {
            part.stage = Stage::Over;
        }
    }
}

/// Rolls back whatever can be reached. What is prepared and cannot is rolled back by whoever finds it: nobody has decided
/// otherwise.
async fn undo(parts: &mut [Part], gid: Option<&str>) {
    for part in parts.iter_mut().filter(|it| it.stage == Stage::Open && it.link.status != b'I') {
        part.told(&["ROLLBACK"]).await;
    }
    for part in parts.iter_mut().filter(|it| it.stage == Stage::Open && it.link.status != b'I') {
        part.heard(1).await;
    }
    if let Some(gid) = gid {
        end_each(parts, &format!("ROLLBACK PREPARED {}", settings::literal(gid)), "ROLLBACK PREPARED").await;
    }
    for part in parts.iter_mut().filter(|it| it.stage == Stage::Prepared) {
        part.stage = Stage::Lost;
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

fn unknown(home: &str) -> ClientError {
    ClientError::new(
        Code::OutcomeUnknown,
        format_args!("the connection to shard \"{home}\" was lost before the commit was acknowledged"),
        "Look whether it was done before running it again: it is done on all shards, or on none.",
    )
}

fn lost_part(shard: &str) -> ClientError {
    ClientError::new(
        Code::OutcomeUnknown,
        format_args!("the transaction was committed, but shard \"{shard}\" has lost what it had prepared of it"),
        "Compare what it wrote on the other shards: this server was set back, or failed over without its last writes.",
    )
}

fn unproven_part(shard: &str) -> ClientError {
    ClientError::new(
        Code::OutcomeUnknown,
        format_args!(
            "the transaction was committed, but after a failover shard \"{shard}\" cannot tell of what it had prepared"
        ),
        "Compare what it wrote on that shard with the others.",
    )
}
