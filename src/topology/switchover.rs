//! A planned switchover of one shard of Postgres: another node becomes the primary, and nobody loses anything.
//!
//! What begins waits in the proxy, what has begun ends, the primary is made to acknowledge nothing more, the candidate gets
//! everything that was acknowledged, and only then is it promoted. Until then every step is undone when one fails. From the
//! promotion on nothing is: whether it took place may be unknown, and then the shard stays as it is for a person to look at.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;

use super::Topology;
use super::control::Purpose;
use super::freshness::Lsn;
use super::pause::Unpaused;
use super::promote;
use super::promote::Promotion;
use super::promote::Refusal;
use super::queue::Holder;
use super::queue::Reads;
use super::roles::Role;
use crate::clock;
use crate::clock::Tick;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::shard_map::Engine;
use crate::shard_map::WantedRole;

/// How long each wait of a switchover may take, beside that for open transactions.
const STEP_MAX: Duration = Duration::from_secs(10);
/// How long a promotion may take.
const PROMOTION_MAX: Duration = Duration::from_secs(60);
/// A candidate that is farther behind is refused: clients would wait for it.
const BEHIND_MAX: Lsn = 64 << 20;
/// How often a condition is looked at again.
const LOOK: Duration = Duration::from_millis(5);

/// How a switchover that did not come to its end has left the shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Why.
    pub why: String,
    /// What that means, and what there is to do.
    pub left: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.why, self.left)
    }
}

/// What is to be switched.
pub struct Switch<'a> {
    /// The shard.
    pub topology: &'a Arc<Topology>,
    /// The shard's number there.
    pub shard: ShardId,
    /// Who is to become its primary; `None`: whoever has most.
    pub to: Option<NodeId>,
    /// All shards, of all databases, that have the same primary: this one among them.
    pub beside: Vec<(Arc<Topology>, ShardId)>,
    /// How long open transactions may take to end.
    pub drain: Duration,
}

/// Tells how it goes on: what was done.
pub type Tell<'a> = &'a mut (dyn FnMut(String) + Send);

impl fmt::Debug for Switch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").field("shard", &self.shard).field("to", &self.to).finish_non_exhaustive()
    }
}

/// Holds the shards back until it is dropped.
struct Held<'a>(&'a [(Arc<Topology>, ShardId)]);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        for (topology, shard) in self.0 {
            // Nobody else's hold can have come in between.
            let _ = topology.resume(*shard, Holder::Switchover);
        }
    }
}

/// Takes back the fence at the former primary, for a switchover that ended before the promotion.
struct Server {
    name: Arc<str>,
    connection: PgConnection,
}

impl Switch<'_> {
    /// Does it.
    ///
    /// # Errors
    /// [`Failed`]: nothing has changed unless it says so.
    pub async fn run(&self, tell: Tell<'_>) -> Result<(), Failed> {
        let unchanged = |why: String| Failed { why, left: "nothing has changed".to_owned() };
        let (old, new) = self.prepare(tell).await.map_err(|it| unchanged(it.0))?;
        let (mut former, mut next) = {
            let former = self.connect(old).await.map_err(|it| unchanged(it.0))?;
            (former, self.connect(new).await.map_err(|it| unchanged(it.0))?)
        };
        let deadline = clock::now().plus(self.drain);
        let held = match self.hold(deadline).await {
            Ok(held) => held,
            Err(why) => {
                let holders = holders(&mut former.connection).await;
                return Err(unchanged(format!("{why}{holders}")));
            }
        };
        tell("paused: what was open has ended, and what begins waits".to_owned());
        if let Err(refusal) = self.hand_over(old, &mut former, &mut next, tell).await {
            let undone = unfence(&mut former.connection).await;
            drop(held);
            return Err(Failed {
                why: refusal.0,
                left: match undone {
                    Ok(()) => format!("nothing was promoted, and \"{}\" takes writes again", former.name),
                    Err(error) => format!(
                        "nothing was promoted, but \"{}\" is fenced still ({error}): ALTER SYSTEM RESET \
                         default_transaction_read_only there, and SELECT pg_reload_conf()",
                        former.name
                    ),
                },
            });
        }
        match promote::promote(&mut next.connection, PROMOTION_MAX).await {
            Promotion::Done => tell(format!("promoted \"{}\"", next.name)),
            Promotion::Refused(refusal) => {
                let undone = unfence(&mut former.connection).await;
                drop(held);
                let left = if undone.is_ok() {
                    "nothing was promoted"
                } else {
                    "nothing was promoted, and the primary is fenced still"
                };
                return Err(Failed { why: refusal.0, left: left.to_owned() });
            }
            Promotion::Unknown(refusal) => {
                // Whoever goes on now may write to one that is succeeded a moment later.
                std::mem::forget(held);
                return Err(Failed {
                    why: format!("whether \"{}\" was promoted is not known: {refusal}", next.name),
                    left: format!(
                        "the shard stays held back, and \"{}\" fenced. Promote no other node. See whether \"{}\" is \
                         in recovery (pg_is_in_recovery()); if it is for good, stop it, take back the fence (ALTER SYSTEM \
                         RESET default_transaction_read_only, pg_reload_conf()), and restart the proxy",
                        former.name, next.name
                    ),
                });
            }
        }
        self.finish(old, new, &mut former, &mut next, tell).await?;
        drop(held);
        tell(format!("resumed: \"{}\" is the primary", next.name));
        tell(format!(
            "\"{0}\" is fenced (default_transaction_read_only) and no part of the shard: stop it, pg_rewind it from \"{1}\" or \
             make it anew with pg_basebackup, and start it as a replica",
            former.name, next.name
        ));
        promote::close(former.connection).await;
        promote::close(next.connection).await;
        Ok(())
    }

    async fn connect(&self, node: NodeId) -> Result<Server, Refusal> {
        let name = self.name(node);
        let connection = self.topology.connect(node, Purpose::Switchover).await;
        let connection = connection.map_err(|it| Refusal(format!("node \"{name}\": {}", it.text)))?;
        Ok(Server { name, connection })
    }

    fn name(&self, node: NodeId) -> Arc<str> {
        Arc::clone(&self.topology.node(node).node().name)
    }

    /// Looks whether it can be done at all: the primary, and who succeeds it.
    async fn prepare(&self, tell: Tell<'_>) -> Result<(NodeId, NodeId), Refusal> {
        let refuse = |text: String| Err(Refusal(text));
        let database = self.topology.database();
        let shard = database.shard(self.shard);
        if database.engine != Engine::Postgres {
            return refuse("switchovers of MySQL are not built".to_owned());
        }
        if shard.nodes.iter().any(|it| it.role == WantedRole::Primary) {
            return refuse("the map insists on a primary (role: primary): take that out first".to_owned());
        }
        let Some(old) = self.topology.primary(self.shard) else { return refuse("it has no primary now".to_owned()) };
        let mut former = self.connect(old).await?;
        must_be_superuser(&mut former).await?;
        let at = promote::lsn(&mut former.connection, "SELECT pg_current_wal_insert_lsn()::text").await?;
        promote::close(former.connection).await;
        let mut best: Option<(Lsn, NodeId)> = None;
        let mut reasons = Vec::new();
        for (place, node) in (0_u16..).zip(&shard.nodes) {
            let id = NodeId { shard: self.shard, node: place };
            if id == old || self.to.is_some_and(|it| it != id) {
                continue;
            }
            let fit = match self.topology.node(id).role() {
                _ if node.role == WantedRole::Replica => Err(Refusal("the map says role: replica".to_owned())),
                Role::Replica => self.candidate(id, at).await,
                other => Err(Refusal(format!("it is {}", other.name()))),
            };
            match fit {
                Ok(has) if best.is_none_or(|(most, _)| has > most) => best = Some((has, id)),
                Ok(_) => {}
                Err(why) => reasons.push(format!("\"{}\": {why}", node.name)),
            }
        }
        let Some((_, new)) = best else {
            let why = if reasons.is_empty() { "there is no other node".to_owned() } else { reasons.join("; ") };
            return refuse(format!("nobody can succeed \"{}\": {why}", self.name(old)));
        };
        tell(format!(
            "\"{}\" is to succeed \"{}\": it streams and has all but what is on its way",
            self.name(new),
            self.name(old)
        ));
        Ok((old, new))
    }

    /// Whether that replica can become the primary: how far it has come.
    async fn candidate(&self, id: NodeId, at: Lsn) -> Result<Lsn, Refusal> {
        let mut server = self.connect(id).await?;
        must_be_superuser(&mut server).await?;
        let asked = &mut server.connection;
        if promote::values(asked, "SELECT status FROM pg_stat_wal_receiver").await? != ["streaming"] {
            return Err(Refusal("it does not stream".to_owned()));
        }
        if promote::value(asked, "SELECT pg_is_wal_replay_paused()::text").await? != "false" {
            return Err(Refusal("its replay is paused".to_owned()));
        }
        let conninfo = promote::value(asked, "SHOW primary_conninfo").await?;
        if promote::pointed_at(&conninfo, "", 0).is_none() {
            return Err(Refusal("its primary_conninfo is not a list of key = value".to_owned()));
        }
        // Where it was fenced as a former primary itself, and rebuilt in place.
        if promote::value(asked, READ_ONLY).await? != "off" {
            unfence(asked).await?;
            within(STEP_MAX, "default_transaction_read_only is on in its configuration", async || {
                Ok(promote::value(asked, READ_ONLY).await? == "off")
            })
            .await?;
        }
        let has = promote::lsn(asked, "SELECT pg_last_wal_replay_lsn()::text").await?;
        if at.saturating_sub(has) > BEHIND_MAX {
            return Err(Refusal(format!("it is {} bytes behind", at - has)));
        }
        promote::close(server.connection).await;
        Ok(has)
    }

    /// Has everything wait, and what is open end.
    async fn hold(&self, deadline: Tick) -> Result<Held<'_>, String> {
        let mut held = Held(&[]);
        for (place, (topology, shard)) in self.beside.iter().enumerate() {
            let paused = topology.pause(&[*shard], Reads::GoOn, Holder::Switchover, deadline).await;
            paused.map_err(|it| match it {
                Unpaused::Held(_, Holder::Operator) => "it is paused (PAUSE) already".to_owned(),
                Unpaused::Held(_, Holder::Switchover) => "another switchover is on its way".to_owned(),
                Unpaused::Busy(_) => format!("transactions are open still after {:?}", self.drain),
            })?;
            let longer = self.beside.get(..=place).unwrap_or_default();
            std::mem::forget(std::mem::replace(&mut held, Held(longer)));
        }
        Ok(held)
    }

    /// Has the primary acknowledge nothing more, and the candidate get all that it has acknowledged.
    async fn hand_over(
        &self,
        old: NodeId,
        former: &mut Server,
        next: &mut Server,
        tell: Tell<'_>,
    ) -> Result<(), Refusal> {
        let at = &mut former.connection;
        promote::run(at, "ALTER SYSTEM SET default_transaction_read_only = on").await?;
        promote::values(at, "SELECT pg_reload_conf()::text").await?;
        let is_fenced = async || {
            let mut fresh = self.connect(old).await?;
            let says = promote::value(&mut fresh.connection, READ_ONLY).await?;
            promote::close(fresh.connection).await;
            Ok(says == "on")
        };
        within(STEP_MAX, "its new sessions take writes still", is_fenced).await?;
        // Whoever came before, and may have begun to write: those of other proxies and of nobody's.
        let since = promote::value(at, "SELECT clock_timestamp()::text").await?;
        let terminate = format!("{TERMINATE} AND backend_start <= {}::timestamptz", promote::literal(&since));
        let terminated = async || Ok(promote::values(at, &terminate).await?.is_empty());
        within(STEP_MAX, "sessions do not end", terminated).await?;
        tell(format!("fenced \"{}\": its sessions are ended, and new ones take no writes", former.name));
        promote::write_something(&mut former.connection).await?;
        let all = promote::lsn(&mut former.connection, "SELECT pg_current_wal_flush_lsn()::text").await?;
        let asked = &mut next.connection;
        let has_all = async || Ok(promote::lsn(asked, "SELECT pg_last_wal_replay_lsn()::text").await? >= all);
        within(STEP_MAX, "the candidate does not get what the primary has", has_all).await?;
        tell(format!("\"{}\" has everything, up to {:X}/{:X}", next.name, all >> 32, all & 0xffff_ffff));
        Ok(())
    }

    /// Behind the promotion: the others follow, and everybody goes to the new one.
    async fn finish(
        &self,
        old: NodeId,
        new: NodeId,
        former: &mut Server,
        next: &mut Server,
        tell: Tell<'_>,
    ) -> Result<(), Failed> {
        let address = self.topology.node(new).node().clone();
        let address = (&*address.host, address.port);
        for (place, _) in (0_u16..).zip(&self.topology.database().shard(self.shard).nodes) {
            let id = NodeId { shard: self.shard, node: place };
            if id == old || id == new {
                continue;
            }
            let followed = async {
                let mut replica = self.connect(id).await?;
                promote::follow(&mut replica.connection, &mut next.connection, address).await?;
                promote::close(replica.connection).await;
                Ok::<_, Refusal>(())
            };
            match followed.await {
                Ok(()) => tell(format!("\"{}\" follows \"{}\"", self.name(id), next.name)),
                Err(error) => {
                    tell(format!("\"{}\" does not follow yet: {error}; point it at \"{}\"", self.name(id), next.name))
                }
            }
        }
        // For when it is a replica itself.
        if let Err(error) = points_back(former, next, address).await {
            tell(format!("\"{}\" has no primary_conninfo: {error}", former.name));
        }
        let promoted = |why: String| Failed {
            why,
            left: format!(
                "\"{}\" is promoted and \"{}\" fenced; what waited goes on. SHOW NODES tells what the proxy sees",
                next.name, former.name
            ),
        };
        let proven = tokio::time::timeout(STEP_MAX, promote::write_something(&mut next.connection)).await;
        match proven {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(promoted(format!("the new primary takes no writes: {error}"))),
            Err(_) => {
                return Err(promoted(
                    "the new primary does not acknowledge a write (its synchronous_standby_names may name nobody)"
                        .to_owned(),
                ));
            }
        }
        let deadline = clock::now().plus(STEP_MAX);
        for (topology, shard) in &self.beside {
            let seen = async {
                let mut tick = tokio::time::interval(LOOK);
                while topology.primary(*shard).is_none_or(|it| {
                    let node = topology.node(it).node();
                    (&*node.host, node.port) != address
                }) {
                    tick.tick().await;
                }
            };
            if tokio::time::timeout(deadline.since(clock::now()), seen).await.is_err() {
                return Err(promoted("the proxy has not taken it for the primary yet".to_owned()));
            }
        }
        tell(format!("\"{}\" takes writes", next.name));
        Ok(())
    }
}

/// The former primary is told whom to follow once it is a replica.
async fn points_back(former: &mut Server, next: &mut Server, (host, port): (&str, u16)) -> Result<(), Refusal> {
    let conninfo = promote::value(&mut next.connection, "SHOW primary_conninfo").await?;
    let conninfo = promote::pointed_at(&conninfo, host, port).ok_or_else(|| Refusal(conninfo.clone()))?;
    let text = format!("ALTER SYSTEM SET primary_conninfo = {}", promote::literal(&conninfo));
    promote::run(&mut former.connection, &text).await
}

/// Takes the fence back.
async fn unfence(connection: &mut PgConnection) -> Result<(), Refusal> {
    promote::run(connection, "ALTER SYSTEM RESET default_transaction_read_only").await?;
    promote::values(connection, "SELECT pg_reload_conf()::text").await.map(drop)
}

async fn must_be_superuser(server: &mut Server) -> Result<(), Refusal> {
    let says = "SELECT rolsuper::text FROM pg_roles WHERE rolname = current_user";
    if promote::value(&mut server.connection, says).await? == "true" {
        return Ok(());
    }
    Err(Refusal(format!(
        "the control user is no superuser on \"{}\", as ALTER SYSTEM and pg_promote need",
        server.name
    )))
}

/// Who keeps a shard from being paused, as its server sees it.
async fn holders(connection: &mut PgConnection) -> String {
    match promote::values(connection, HOLDERS).await {
        Ok(all) if all.is_empty() => ": sessions are tied to a connection (LISTEN, temporary tables)".to_owned(),
        Ok(all) => format!(": {}", all.join("; ")),
        Err(error) => format!(" (by whom cannot be asked: {error})"),
    }
}

/// Waits until `holds`, at most `span`.
async fn within(
    span: Duration,
    otherwise: &str,
    mut holds: impl AsyncFnMut() -> Result<bool, Refusal>,
) -> Result<(), Refusal> {
    let looking = async {
        let mut tick = tokio::time::interval(LOOK);
        loop {
            tick.tick().await;
            if holds().await? {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(span, looking).await.unwrap_or_else(|_| Err(Refusal(format!("{otherwise} after {span:?}"))))
}

const READ_ONLY: &str = "SELECT setting FROM pg_settings WHERE name = 'default_transaction_read_only'";

/// Ends all sessions but the monitors', who only look, and this one. Each that was there is a row.
const TERMINATE: &str = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity \
     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
       AND NOT (usename = current_user AND application_name IN ('shardway monitor', 'shardway switchover'))";

const HOLDERS: &str = "SELECT format('pid %s, %s (%s), %s for %s s', pid, usename, application_name, state, \
     extract(epoch FROM clock_timestamp() - xact_start)::int) FROM pg_stat_activity \
     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 5";
