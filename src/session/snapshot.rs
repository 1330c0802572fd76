//! Reads of several shards at one moment.
//!
//! A transaction that is to see one moment on every shard takes all of them in at its first statement: each begins
//! REPEATABLE READ and tells its snapshot, then other connections look a second time (`topology::cut`). If anything has
//! ended in between, the transaction begins anew there, and after two such tries commits through this proxy are held
//! back while it looks (`exec::gate`). From then on every statement finds its shard's link, and with it the snapshot.
//! LOCK TABLE takes no snapshot: what it locks before the first statement is locked when the shards are looked at.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;

use crate::clock;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec;
use crate::exec::ask;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Show;
use crate::exec::gate::LOOKING_MAX;
use crate::exec::link::Link;
use crate::ident::ShardSet;
use crate::plan;
use crate::plan::Effects;
use crate::plan::Isolation;
use crate::plan::Modes;
use crate::plan::Plan;
use crate::plan::Template;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::extended::Reached;
use crate::session::gather::About;
use crate::session::gather::trouble_of;
use crate::session::query_item;
use crate::session::simple::messages;
use crate::session::split::gone;
use crate::session::transaction::Kind;
use crate::topology::Entry;
use crate::topology::cut;
use crate::topology::cut::Flaw;
use crate::topology::cut::Look;

/// The snapshot that the transaction has, or takes by this.
const FIRST: &str = "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text";
/// What is prepared. Before the snapshot and in a statement of its own: in the other order, or in one, a transaction
/// could be prepared by the one and over by the other.
const PREPARED: &str = "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE pg_catalog.starts_with(gid, 'shardway:') \
     AND database OPERATOR(pg_catalog.=) pg_catalog.current_database()";
/// The snapshot that is current, and the timeline.
const SECOND: &str = "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text, \
     pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)";

/// Tries of the first round, and the fewest of any. In the others commits are held back: the first try may find what
/// was on its way ...
const TRIES_MIN: usize = 2;
/// ... and further ones follow until the gate opens by itself.
const TRIES_MAX: usize = 32;
/// Rounds, of which all but the first hold commits back.
const ROUNDS: u32 = 7;
/// How long commits are held back at most, the first time: so many times as long as it took to look, and this at
/// least. Then each time twice as long.
const LOOKS: u32 = 3;
const SHUT: Duration = Duration::from_millis(5);
const SHUT_MAX: Duration = Duration::from_millis(100);
/// The pause between two rounds; each twice as long.
const PAUSE: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// How long a server may take for the second look.
const LOOK_MAX: Duration = Duration::from_secs(10);

impl Session {
    /// Whether this statement must not be begun before all shards have been seen at one moment.
    pub(super) fn moment_due(&self, plan: &Plan, template: &Template) -> bool {
        // What is read behind a lock must see what came before it.
        !template.effects.locks_tables
            && (self.moment_due_for(plan, template.access) || self.moment_due_for_dump(&template.effects))
    }

    /// The same for the first statement of pg_dump's transaction, or of one like it: it looks what there is, to copy all of
    /// it as of that moment.
    pub(super) fn moment_due_for_dump(&self, effects: &Effects) -> bool {
        effects.asks_catalogs
            && self.transaction.kind == Kind::Explicit
            && self.is_read_only()
            && self.moment_due_in_transaction(true)
    }

    /// The same by what it does to data.
    pub(super) fn moment_due_for(&self, plan: &Plan, access: plan::Access) -> bool {
        let several = match plan {
            Plan::One(_) | Plan::Any | Plan::Session | Plan::Draw | Plan::LookUp(_) => false,
            Plan::Concat(shards) => shards.len() > 1,
            Plan::Split(split) => split.shards.len() > 1 || split.beside.is_some(),
            Plan::Copy(copy) => copy.shards.len() > 1,
            Plan::Gather(_) | Plan::Shadow(_) | Plan::Carry | Plan::Everywhere => true,
        };
        if self.transaction.is_open() {
            self.moment_due_in_transaction(several)
        } else {
            several
                && self.has_shards()
                && match self.isolation() {
                    Isolation::ReadCommitted => access != plan::Access::Write && self.wants_moment(),
                    Isolation::RepeatableRead => true,
                    Isolation::Serializable => false,
                }
        }
    }

    /// The same for a statement of an open transaction: at its first one it is decided.
    pub(super) fn moment_due_in_transaction(&self, several: bool) -> bool {
        self.transaction.used.is_empty()
            && !self.transaction.one_moment
            && self.has_shards()
            && self.isolation() == Isolation::RepeatableRead
            && (several || self.wants_moment())
    }

    fn has_shards(&self) -> bool {
        self.access.service.database.shards.len() > 1
    }

    /// Whether the client wants all shards read at one moment, at the price of that.
    fn wants_moment(&self) -> bool {
        self.state.value("shardway.snapshot", &self.transaction.local).is_some_and(|it| &**it != "shard")
    }

    /// Whether a statement may read these shards, all those that its transaction uses, as it wants to see them.
    ///
    /// # Errors
    /// They would be seen at several moments.
    pub(super) fn at_one_moment_only(
        &self,
        used: &ShardSet,
        shards: &ShardSet,
        access: plan::Access,
    ) -> Result<(), ClientError> {
        if used.len() < 2 || self.transaction.one_moment {
            return Ok(());
        }
        match self.isolation() {
            Isolation::Serializable => Err(ClientError::unsupported(
                "SERIALIZABLE across shards is not supported",
                "Use REPEATABLE READ, or keep the transaction on one shard.",
            )),
            Isolation::RepeatableRead => Err(ClientError::unsupported(
                "REPEATABLE READ across shards, when its first statement did not read several, is not supported",
                "SET shardway.snapshot = 'strict' before it, so that its first statement takes all shards in; or use \
                 READ COMMITTED.",
            )),
            Isolation::ReadCommitted if shards.len() > 1 && access != plan::Access::Write && self.wants_moment() => {
                Err(ClientError::unsupported(
                    "reading several shards at one moment within a READ COMMITTED transaction is not supported",
                    "BEGIN ISOLATION LEVEL REPEATABLE READ, or send the statement by itself, or SET LOCAL \
                     shardway.snapshot = 'shard'.",
                ))
            }
            Isolation::ReadCommitted => Ok(()),
        }
    }

    /// Takes all shards in at one moment, in the transaction that is open or in one around this statement of a Query.
    pub(super) async fn take_moment(&mut self) -> Result<(), Trouble> {
        if !self.transaction.is_open() {
            self.begin_implicit();
            self.transaction.modes.isolation = Some(Isolation::RepeatableRead);
        }
        self.look_until_good().await
    }

    /// The same in a pipeline, whose end then ends the transaction.
    pub(super) async fn take_moment_in_batch(&mut self) -> Result<Reached, Trouble> {
        if Box::pin(self.fly_batch()).await? == Reached::Failed {
            return Ok(Reached::Failed);
        }
        if !self.transaction.is_open() {
            if self.batch.is_begun() || !self.portals.is_empty() {
                return Err(ClientError::unsupported(
                    "reading several shards at one moment behind other statements of a pipeline is not supported",
                    "Send a Sync before it, or BEGIN ISOLATION LEVEL REPEATABLE READ at the beginning.",
                )
                .into());
            }
            // Nothing has run there. A server on which anything has been read chooses no isolation any more.
            if !self.unsynced().is_empty() {
                self.sync_links(Show::Nobody).await?;
            }
            let modes = Modes { isolation: Some(Isolation::RepeatableRead), ..Modes::default() };
            self.take_up(Kind::Implicit, &modes).await?;
        }
        self.look_until_good().await?;
        Ok(Reached::Good)
    }

    async fn look_until_good(&mut self) -> Result<(), Trouble> {
        let service = Arc::clone(&self.access.service);
        let gate = &service.gate;
        // Whoever looks holds one connection and wants another: in a small pool fewer may at once.
        let share = LOOKING_MAX.div_ceil(self.map.pool.size.saturating_sub(1).max(1));
        let turns = gate.turns.acquire_many(u32::try_from(share).unwrap_or(1));
        let waiting = exec::within(self.map.timeouts.statement, turns);
        let Some(Ok(_turn)) = waiting.await else {
            return Err(ClientError::new(
                Code::TimedOut,
                "canceling statement due to the proxy's statement timeout",
                "Raise timeouts.statement in the shard map, or read several shards at one moment less often.",
            )
            .into());
        };
        let all = ShardSet::all(service.database.shards.len());
        // What has been locked must stay so: there is one look, and commits are held back for it.
        let locked = self.transaction.locked;
        let (mut flaw, mut pause, mut took) = (None, PAUSE, Duration::ZERO);
        for round in 0..ROUNDS {
            if round > 0 {
                // Whatever was held back goes first.
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            // These may have to be waited for, and so come before the gate is shut.
            let mut others = self.other_links(&all).await?;
            let span = round.checked_sub(1).map(|it| ((took * LOOKS).max(SHUT) * (1 << it)).min(SHUT_MAX));
            let span = if locked { Some(SHUT_MAX) } else { span };
            let _shut = span.map(|it| gate.shut(it));
            let until = clock::now().plus(span.unwrap_or_default());
            for place in 0..TRIES_MAX {
                self.wanted(())?;
                gate.counts.tries.fetch_add(1, Ordering::Relaxed);
                let begun = clock::now();
                flaw = self.look(&all, &mut others, round > 0 || place > 0).await?;
                took = clock::now().since(begun);
                let Some(found) = &flaw else {
                    gate.counts.found.fetch_add(1, Ordering::Relaxed);
                    self.transaction.one_moment = true;
                    self.transaction.used = all;
                    return Ok(());
                };
                tracing::trace!(flaw = ?found, round, place, "the shards were not seen at one moment");
                if locked || others.len() < all.len() || (place + 1 >= TRIES_MIN && clock::now() >= until) {
                    break;
                }
            }
            others.into_iter().for_each(|it| self.access.release(it));
            if locked {
                break;
            }
        }
        gate.counts.given_up.fetch_add(1, Ordering::Relaxed);
        Err(given_up(flaw).into())
    }

    /// Connections for the second look, which are nobody else's.
    async fn other_links(&self, all: &ShardSet) -> Result<Vec<Link>, Trouble> {
        let joining = async {
            let mut links = Vec::new();
            for shard in all.iter() {
                links.push(self.access.primary(shard, Entry::Joins).await?);
            }
            Ok::<_, ClientError>(links)
        };
        match exec::within(self.map.timeouts.statement, joining).await {
            Some(links) => Ok(links?),
            None => Err(ClientError::new(
                Code::TimedOut,
                "canceling statement due to the proxy's statement timeout",
                "Raise timeouts.statement in the shard map, or find out why no server connection is free.",
            )
            .into()),
        }
    }

    /// Looks twice. `None`: the links of all shards have a snapshot of one moment. Of the other links those stay that can
    /// be used again. A look that is not the first begins the transaction anew: it has shown nothing to the client.
    async fn look(&mut self, all: &ShardSet, others: &mut Vec<Link>, again: bool) -> Result<Option<Flaw>, Trouble> {
        let places = self.join_all(all, plan::Access::ReadPrimary).await?;
        let service = Arc::clone(&self.access.service);
        let mut looks = Vec::new();
        for at in &places {
            let link = self.links.get_mut(usize::from(*at)).ok_or_else(gone)?;
            let (id, node) = (link.id, link.node);
            if again && link.begun {
                link.say_query("ROLLBACK");
                link.ended(false);
                self.items.push(query_item(&SmallVec::from_slice(&[*at])));
            }
            self.prefix(usize::from(*at));
            self.say_step(id, FIRST, Show::Caller);
            let shard = service.database.shard(node.shard).name.to_string();
            let system = service.topology.node(node).system();
            looks.push((node, Look { shard, system, ..Look::default() }));
        }
        for at in &places {
            self.links.get_mut(usize::from(*at)).ok_or_else(gone)?.say_sync();
        }
        self.items.push(Item::Owed { expect: Expect::Sync, links: places, show: Show::Caller, prepares: 0 });
        let outcome = self.fly(0, false).await?;
        if outcome.failed.is_some() {
            return Err(trouble_of(&outcome, About::Rows));
        }
        let told = messages(&outcome.collected).filter(|it| it.first() == Some(&b'D'));
        for ((_, look), row) in looks.iter_mut().zip(told) {
            look.first = row.get(11..).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        }
        for other in others.iter_mut() {
            // Who cannot be told anything is not heard either.
            let _ = exec::within(LOOK_MAX, ask::tell(other, &[PREPARED, SECOND])).await;
        }
        for ((node, look), mut other) in looks.iter_mut().zip(std::mem::take(others)) {
            let Some(Ok(heard)) = exec::within(LOOK_MAX, ask::hear(&mut other, 2)).await else { continue };
            let [prepared, second] = heard.as_slice() else { continue };
            // What another server shows is no second look at this one.
            if other.node != *node {
                continue;
            }
            if prepared.error.is_none()
                && let (Some(snapshot), Some(timeline)) = (second.cell(0), second.cell(1))
            {
                snapshot.clone_into(&mut look.second);
                look.timeline = u32::from_str_radix(timeline, 16).unwrap_or(0);
                look.prepared = prepared.rows.iter().filter_map(|row| row.first().cloned().flatten()).collect();
            }
            others.push(other);
        }
        let looks: Vec<Look> = looks.into_iter().map(|(_, look)| look).collect();
        Ok(cut::flaw(&looks))
    }
}

fn given_up(flaw: Option<Flaw>) -> ClientError {
    let message = "could not read all shards at one moment";
    match flaw {
        Some(Flaw::InDoubt(shard, gid)) => ClientError::new(
            Code::NoCommonMoment,
            message,
            "Run the transaction again: SHOW TWO_PHASE in the console tells what is in doubt, and why.",
        )
        .with_detail(format!("Shard \"{shard}\" holds a part of a transaction in doubt: {gid}.")),
        Some(Flaw::Moved(shard)) => ClientError::new(
            Code::NoCommonMoment,
            message,
            "Run the transaction again; if writes that do not go through this proxy never pause, read with \
             shardway.snapshot = 'shard'.",
        )
        .with_detail(format!("Whenever they were looked at, a transaction ended on shard \"{shard}\".")),
        None => gone(),
    }
}
