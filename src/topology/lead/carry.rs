//! Carries out what [`super::Lead`] decides, on real servers: every question and every act has a deadline, and none is taken for
//! done before the server says so itself.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use sqlx::postgres::PgRow;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio::time::timeout;

use super::Act;
use super::Lead;
use super::Receiver;
use super::Round;
use super::Told;
use super::View;
use super::mandate::Mandate;
use super::mark::Mark;
use super::standbys;
use crate::clock;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::shard_map::Node;
use crate::tasks;
use crate::topology::Health;
use crate::topology::Holder;
use crate::topology::Role;
use crate::topology::Topology;
use crate::topology::control::ControlError;
use crate::topology::control::Purpose;
use crate::topology::events::Kind;
use crate::topology::freshness::Position;
use crate::topology::health::Heard;
use crate::topology::postgres_probe::parse_lsn;
use crate::topology::shard::Shard;

/// Leads the failovers of every shard of a database until `shutdown` is true, while `may` is.
pub async fn run(
    topology: Arc<Topology>,
    mandate: Arc<Mandate>,
    shutdown: watch::Receiver<bool>,
    may: watch::Receiver<bool>,
) {
    let shards = u16::try_from(topology.database().shards.len()).unwrap_or(u16::MAX);
    for number in 0..shards {
        let (topology, mandate) = (Arc::clone(&topology), Arc::clone(&mandate));
        tasks::shared("lead", shard(topology, mandate, ShardId(number), shutdown.clone(), may.clone()));
    }
}

/// Leads those of one shard, whenever this process may.
async fn shard(
    topology: Arc<Topology>,
    mandate: Arc<Mandate>,
    id: ShardId,
    mut shutdown: watch::Receiver<bool>,
    mut may: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            Ok(_) = may.wait_for(|it| *it) => {}
            // An error means that whoever could say so is gone, which says it too.
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        tokio::select! {
            () = lead(&topology, &mandate, id, shutdown.clone()) => return,
            Ok(_) = may.wait_for(|it| !*it) => topology.shard(id).open(),
        }
    }
}

/// Leads them until `shutdown` is true. Under a new map the next one goes on with what this one knew.
async fn lead(topology: &Arc<Topology>, mandate: &Arc<Mandate>, id: ShardId, mut shutdown: watch::Receiver<bool>) {
    let of = Arc::clone(topology.shard(id));
    if of.nodes().len() < 2 {
        return;
    }
    let mut kept = tokio::select! {
        kept = of.lead() => kept,
        _ = shutdown.wait_for(|stop| *stop) => return,
    };
    let fence = topology.database().failover.fence.clone();
    let lead = kept.get_or_insert_with(|| Lead::new(of.nodes().iter().map(|it| Arc::clone(&it.node().name)).collect()));
    lead.may_fence(!fence.is_empty());
    if let Some((former, covered)) = lead.closes() {
        of.close(former, covered);
    }
    let mut leader = Leader {
        servers: (0..of.nodes().len()).map(|place| Some(Server::new(topology, mandate, id, place))).collect(),
        shard: Arc::clone(&of),
        mandate: Arc::clone(mandate),
        fence,
        fencing: None,
    };
    let rounds = async {
        loop {
            let busy = leader.round(lead).await;
            sleep(if busy { BUSY } else { CALM }).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        // An error means that whoever could say so is gone, which says it too.
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
    of.open();
}

struct Leader {
    shard: Arc<Shard>,
    /// Away while a task has it.
    servers: Vec<Option<Server>>,
    mandate: Arc<Mandate>,
    fence: Vec<String>,
    fencing: Option<(usize, JoinHandle<bool>)>,
}

impl Leader {
    /// Looks once and does what follows. Whether the next look is soon.
    async fn round(&mut self, lead: &mut Lead) -> bool {
        if let Some((node, running)) = self.fencing.take_if(|(_, it)| it.is_finished()) {
            lead.fenced(node, running.await.unwrap_or(false));
        }
        let term = self.mandate.term(clock::now());
        self.servers.iter_mut().flatten().for_each(|it| it.lead_by(term));
        let views = self.look().await;
        // What takes long may outlast it: then nothing is done, and the next round goes by what is.
        let term = term.filter(|it| self.mandate.term(clock::now()) == Some(*it));
        let accepted = self.shard.accepted();
        let state = accepted.and_then(|(node, _)| self.shard.nodes().get(node));
        let round = Round {
            now: clock::now(),
            accepted,
            // Fenced by an operator, it is no less the primary.
            primary: state.is_some_and(|it| it.seen_role() == Role::Primary && it.is_reachable()),
            // Whoever switches over takes it down for a moment, and has it back or another in its place.
            down: state.is_some_and(|it| it.health() == Health::Down)
                && self.shard.queue().holder() != Some(Holder::Switchover),
            term,
            views: &views,
        };
        let acts = lead.step(&round);
        let busy = (!round.primary && term.is_some()) || lead.is_busy() || !acts.is_empty();
        self.carry_out(acts).await;
        busy
    }

    async fn look(&mut self) -> Vec<Option<View>> {
        let ask = |server: Server| tasks::shared("lead", server.look());
        let asked: Vec<_> = self.servers.iter_mut().map(|it| it.take().map(ask)).collect();
        let mut views = Vec::new();
        for (slot, asked) in self.servers.iter_mut().zip(asked) {
            let Some(Ok((server, view))) = (match asked {
                Some(asked) => Some(asked.await),
                None => None,
            }) else {
                views.push(None);
                continue;
            };
            *slot = Some(server);
            views.push(view);
        }
        views
    }

    async fn carry_out(&mut self, acts: Vec<Act>) {
        let mut running = Vec::new();
        for act in acts {
            let node = match &act {
                Act::Close { former, covered } => {
                    self.shard.close(*former, *covered);
                    continue;
                }
                Act::Open => {
                    self.shard.open();
                    continue;
                }
                Act::Fence(node) => {
                    if let Some(of) = self.shard.nodes().get(*node) {
                        let command = stop_machine(self.fence.clone(), of.node().clone());
                        self.fencing = Some((*node, tasks::shared("fence", command)));
                    }
                    continue;
                }
                Act::Tell(told) => {
                    self.tell(told);
                    continue;
                }
                Act::Recruit(node, _) | Act::Appoint(node, ..) | Act::Promote(node, _) | Act::Follow { node, .. } => {
                    *node
                }
            };
            if let Some(server) = self.servers.get_mut(node).and_then(Option::take) {
                running.push((node, tasks::shared("lead", server.carry_out(act))));
            }
        }
        for (node, task) in running {
            if let (Ok(server), Some(slot)) = (task.await, self.servers.get_mut(node)) {
                *slot = Some(server);
            }
            self.shard.probe(node);
        }
    }

    fn tell(&self, told: &Told) {
        let shard = self.shard.name();
        let name = |place: &usize| self.shard.nodes().get(*place).map_or("", |it| &*it.node().name);
        let note = |place: Option<&usize>, what: String| {
            let node = place.and_then(|it| self.shard.nodes().get(*it)).map(|it| &it.node().name);
            self.shard.events().note(Kind::Failover, node, what);
        };
        match told {
            Told::Refused(why) => note(None, format!("a failure of the primary would not be led: {why}")),
            Told::Ready { node, .. } => note(Some(node), "a failure of this primary will be led".to_owned()),
            Told::Began { former, epoch, .. } => {
                note(Some(former), format!("the primary is gone: failover {epoch} begins"))
            }
            Told::Lacking(why) => note(None, format!("the failover cannot go on: {why}")),
            Told::Undone(node) => note(Some(node), "the primary is back: the failover is undone".to_owned()),
            Told::Chosen { node, .. } => note(Some(node), "chosen to be the primary: it has most".to_owned()),
            Told::Opened(node) => note(Some(node), "the failover is over: writes go on".to_owned()),
        }
        match told {
            Told::Refused(why) => tracing::error!(shard, why, "a failure of the primary would not be led"),
            Told::Ready { node, need, of } => {
                let node = name(node);
                if *of == 0 {
                    tracing::warn!(
                        shard,
                        node,
                        "a failure of the primary will be led; its commits wait for nobody, so writes may be lost"
                    );
                } else {
                    tracing::info!(shard, node, need, of, "a failure of the primary will be led");
                }
            }
            Told::Began { former, epoch, need, of, resumed } => {
                let former = name(former);
                tracing::error!(shard, former, epoch, need, of, resumed, "the primary is gone: a failover begins");
            }
            Told::Lacking(why) => tracing::error!(shard, why, "the failover cannot go on"),
            Told::Undone(node) => {
                tracing::warn!(shard, node = name(node), "the primary is back: the failover is undone");
            }
            Told::Chosen { node, timeline, position, names, fewer } => {
                let (node, position) = (name(node), Position::Wal(*position).to_string());
                tracing::warn!(shard, node, timeline, position, names, "chosen to be the primary: it has most");
                if *fewer {
                    tracing::error!(
                        shard,
                        names,
                        "fewer have to confirm commits than before: set synchronous_standby_names when the former \
                         primary has been rebuilt"
                    );
                }
            }
            Told::Opened(node) => tracing::warn!(shard, node = name(node), "the failover is over: writes go on"),
        }
    }
}

/// Runs the map's command; it has succeeded when it ends with 0 in time.
async fn stop_machine(command: Vec<String>, node: Node) -> bool {
    let Some((program, args)) = command.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(args).args([&*node.name, &*node.host]).arg(node.port.to_string());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let node = &*node.name;
    match timeout(FENCE_MAX, command.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            tracing::warn!(node, program, "the former primary has been fenced by the map's command");
            return true;
        }
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said: String = said.chars().take(SAID_MAX).collect();
            tracing::error!(node, program, status = %output.status, said, "the map's command to fence a node failed");
        }
        Ok(Err(error)) => tracing::error!(node, program, %error, "the map's command to fence a node does not run"),
        Err(_) => tracing::error!(node, program, "the map's command to fence a node took longer than {FENCE_MAX:?}"),
    }
    false
}

/// One server, and the connection to it.
struct Server {
    topology: Arc<Topology>,
    id: NodeId,
    line: Option<PgConnection>,
    mandate: Arc<Mandate>,
    /// What this process leads by now, if it does.
    term: Option<u64>,
    /// This connection is the one that leads here.
    ours: bool,
    trouble: Option<String>,
}

impl Server {
    fn new(topology: &Arc<Topology>, mandate: &Arc<Mandate>, shard: ShardId, place: usize) -> Self {
        let id = NodeId { shard, node: u16::try_from(place).unwrap_or(u16::MAX) };
        let (topology, mandate) = (Arc::clone(topology), Arc::clone(mandate));
        Self { topology, id, line: None, mandate, term: None, ours: false, trouble: None }
    }

    fn name(&self) -> &str {
        &self.topology.node(self.id).node().name
    }

    /// A connection that leads by another number, or that leads though this process does not any more, is let go.
    fn lead_by(&mut self, term: Option<u64>) {
        if self.term != term && self.ours {
            self.line = None;
        }
        self.term = term;
    }

    async fn look(mut self) -> (Self, Option<View>) {
        // The monitor tells when it is there again; until then, asking takes time that others wait for.
        if self.topology.node(self.id).health() == Health::Down {
            self.line = None;
            return (self, None);
        }
        let seen =
            timeout(LOOK_MAX, self.seen()).await.unwrap_or_else(|_| Err(failure("no answer in time".to_owned())));
        match seen {
            Ok(view) => (self, Some(view)),
            Err(error) => {
                self.line = None;
                tracing::debug!(node = self.name(), %error, "not seen");
                (self, None)
            }
        }
    }

    async fn line(&mut self) -> Result<&mut PgConnection, ControlError> {
        if self.line.is_none() {
            self.ours = false;
            self.line = Some(self.topology.connect(self.id, Purpose::Lead).await?);
        }
        self.line.as_mut().ok_or_else(|| failure("no connection".to_owned()))
    }

    async fn seen(&mut self) -> Result<View, ControlError> {
        let mut view = view(self.line().await?).await?;
        if !view.in_recovery && self.term.is_some() {
            self.take_turn().await?;
        }
        view.is_ours = self.ours && !view.in_recovery;
        Ok(view)
    }

    /// Has this connection be the one that leads here, if nobody does who may. Whoever led by a lower number is cut off: nothing that it
    /// has sent or will send on that connection is done.
    async fn take_turn(&mut self) -> Result<(), ControlError> {
        let term = self.term.ok_or_else(|| failure("another proxy leads".to_owned()))?;
        if self.ours {
            return Ok(());
        }
        let line = self.line().await?;
        let failed = |error: sqlx::Error| ControlError::from(&error);
        if term > 0 {
            // Before it is held: whoever finds it held looks who holds it.
            let name = sqlx::query("select set_config('application_name', 'shardway lead ' || $1::text, false)");
            name.bind(term.to_string()).execute(&mut *line).await.map_err(failed)?;
        }
        let mut ours = sqlx::query_scalar::<_, bool>(TURN).fetch_one(&mut *line).await.map_err(failed)?;
        if !ours && term > 0 {
            let number = i64::try_from(term).unwrap_or(i64::MAX);
            sqlx::query(CUT_OFF).bind(number).fetch_all(&mut *line).await.map_err(failed)?;
            ours = sqlx::query_scalar::<_, bool>(TURN).fetch_one(&mut *line).await.map_err(failed)?;
        }
        self.ours = ours;
        Ok(())
    }

    /// Makes sure, as the last thing before a server is told to do something, that this process may still lead, and that nobody has
    /// led there by a higher number.
    async fn may(&mut self, act: &Act) -> Result<(), ControlError> {
        if self.term != Some(0) {
            self.take_turn().await?;
            if !self.ours {
                return Err(failure("another proxy leads here".to_owned()));
            }
            let line = self.line().await?;
            let asked = sqlx::query_scalar::<_, String>("select current_setting('recovery_end_command')");
            let found = Mark::read(&asked.fetch_one(line).await.map_err(|error| ControlError::from(&error))?);
            let own = match act {
                Act::Recruit(_, mark) | Act::Appoint(_, mark, _) | Act::Promote(_, mark) => Some(mark.epoch),
                Act::Follow { mark, .. } => mark.as_ref().map(|it| it.epoch),
                Act::Close { .. } | Act::Open | Act::Fence(_) | Act::Tell(_) => None,
            };
            if let (Some(found), Some(own)) = (found, own)
                && found.epoch > own
            {
                return Err(failure(format!("a later failover, {}, has come there", found.epoch)));
            }
        }
        self.still()
    }

    /// Whether this process may lead at this moment.
    fn still(&self) -> Result<(), ControlError> {
        if self.term.is_some() && self.mandate.term(clock::now()) == self.term {
            return Ok(());
        }
        Err(failure("the right to lead has run out".to_owned()))
    }

    async fn carry_out(mut self, act: Act) -> Self {
        let span = if matches!(act, Act::Promote(..)) { PROMOTE_MAX } else { ACT_MAX };
        let done = timeout(span, self.act(&act)).await;
        let trouble = match done {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.text),
            Err(_) => Some(format!("no answer within {span:?}")),
        };
        if let Some(trouble) = &trouble {
            // What became of it is seen on another connection.
            self.line = None;
            if self.trouble.as_ref() != Some(trouble) {
                tracing::error!(node = self.name(), ?act, trouble, "a step of a failover failed");
            }
        }
        self.trouble = trouble;
        self
    }

    async fn act(&mut self, act: &Act) -> Result<(), ControlError> {
        let name = self.name().to_owned();
        self.may(act).await?;
        match act {
            Act::Recruit(_, mark) => {
                let line = self.line().await?;
                let before = conninfo(line).await?;
                let severed = standbys::severed(&before.primary).map_err(|it| failure(it.to_owned()))?;
                // The mark comes first: nobody is cut off without it.
                set(line, "recovery_end_command", &mark.to_string()).await?;
                self.still()?;
                let line = self.line().await?;
                set(line, "primary_conninfo", &severed).await?;
                reload(line).await?;
                tracing::warn!(node = name, epoch = mark.epoch, "cut off from the former primary");
            }
            Act::Appoint(_, mark, names) => {
                let line = self.line().await?;
                set(line, "synchronous_standby_names", names).await?;
                self.still()?;
                let line = self.line().await?;
                set(line, "recovery_end_command", &mark.to_string()).await?;
                reload(line).await?;
            }
            Act::Promote(_, mark) => {
                let line = self.line().await?;
                let patient = sqlx::query("select set_config('statement_timeout', '65s', false)").execute(&mut *line);
                patient.await.map_err(|error| ControlError::from(&error))?;
                self.still()?;
                let line = self.line().await?;
                let asked = sqlx::query_scalar::<_, bool>(PROMOTE).bind(mark.to_string()).fetch_optional(&mut *line);
                let done = asked.await.map_err(|error| ControlError::from(&error))?;
                tracing::warn!(node = name, epoch = mark.epoch, done, "promoted");
                self.line = None;
            }
            Act::Follow { of, mark, readdress, .. } => {
                let of = NodeId { node: u16::try_from(*of).unwrap_or(u16::MAX), ..self.id };
                let target = self.topology.node(of).node().clone();
                let line = self.line().await?;
                let before = conninfo(line).await?;
                if *readdress {
                    let slot = before.slot.clone();
                    if !slot.is_empty() {
                        let mut primary = self.topology.connect(of, Purpose::Lead).await?;
                        let made = sqlx::query(SLOT).bind(slot).execute(&mut primary).await;
                        made.map_err(|error| ControlError::from(&error))?;
                    }
                }
                let line = self.line().await?;
                let after = match readdress {
                    true => standbys::addressed(&before.primary, &target.host, target.port)
                        .ok_or_else(|| failure("its primary_conninfo cannot be read".to_owned()))?,
                    false => standbys::whole(&before.primary).to_owned(),
                };
                if after != before.primary {
                    set(line, "primary_conninfo", &after).await?;
                }
                match mark {
                    Some(mark) => set(line, "recovery_end_command", &mark.to_string()).await?,
                    None => say(line, "alter system reset recovery_end_command".to_owned()).await?,
                }
                reload(line).await?;
                tracing::info!(node = name, of = &*target.name, "told to follow the primary");
            }
            Act::Close { .. } | Act::Open | Act::Fence(_) | Act::Tell(_) => {}
        }
        Ok(())
    }
}

struct Conninfo {
    primary: String,
    slot: String,
}

async fn conninfo(line: &mut PgConnection) -> Result<Conninfo, ControlError> {
    let asked = sqlx::query_as::<_, (String, String)>(
        "select current_setting('primary_conninfo'), current_setting('primary_slot_name')",
    );
    let (primary, slot) = asked.fetch_one(line).await.map_err(|error| ControlError::from(&error))?;
    Ok(Conninfo { primary, slot })
}

async fn set(line: &mut PgConnection, name: &str, value: &str) -> Result<(), ControlError> {
    say(line, format!("alter system set {name} = '{}'", value.replace('\'', "''"))).await
}

/// ALTER SYSTEM takes no parameters, and no transaction around it.
async fn say(line: &mut PgConnection, text: String) -> Result<(), ControlError> {
    let said = sqlx::raw_sql(AssertSqlSafe(text)).execute(line).await;
    said.map(drop).map_err(|error| ControlError::from(&error))
}

async fn reload(line: &mut PgConnection) -> Result<(), ControlError> {
    let asked = sqlx::query("select pg_reload_conf()").execute(line).await;
    asked.map(drop).map_err(|error| ControlError::from(&error))
}

fn failure(text: String) -> ControlError {
    ControlError { heard: Heard::Failure, text, sqlstate: None }
}

/// What one connection is asked, as `check` asks it, too.
pub(in crate::topology) async fn view(line: &mut PgConnection) -> Result<View, ControlError> {
    let row = sqlx::query(VIEW).fetch_one(line).await.map_err(|error| ControlError::from(&error))?;
    view_of(&row).map_err(|error| ControlError::from(&error))
}

fn view_of(row: &PgRow) -> Result<View, sqlx::Error> {
    let lsn = |place: usize| -> Result<u64, sqlx::Error> {
        Ok(row.try_get::<Option<&str>, _>(place)?.and_then(parse_lsn).unwrap_or(0))
    };
    let in_recovery: bool = row.try_get(0)?;
    let (conninfo, command): (Option<&str>, &str) = (row.try_get(6)?, row.try_get(8)?);
    let mark = Mark::read(command);
    let unfit = match conninfo {
        _ if mark.is_none() && !command.is_empty() => Some("it has a recovery_end_command of its own"),
        None => Some("its primary_conninfo may not be seen: GRANT pg_monitor to the control user on the primary"),
        Some(conninfo) if in_recovery => standbys::severed(conninfo).err(),
        Some(_) => None,
    };
    let conninfo = conninfo.unwrap_or_default();
    Ok(View {
        in_recovery,
        receiver: match row.try_get(1)? {
            0 => Receiver::Gone,
            1 => Receiver::Silent,
            _ => Receiver::Streaming,
        },
        at_rest: row.try_get(2)?,
        timeline: row.try_get::<i32, _>(3)?.cast_unsigned(),
        position: lsn(4)?.max(lsn(5)?),
        mark,
        unfit,
        severed: standbys::is_severed(conninfo),
        name: standbys::application_name(conninfo, row.try_get(7)?),
        names: row.try_get(9)?,
        is_ours: false,
    })
}

// Those who led by a lower number, or by none, as the same user. Their connections end before this one is answered, or soon after.
const CUT_OFF: &str = "
select pg_terminate_backend(l.pid)
  from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a using (pid)
 where l.locktype = 'advisory' and l.classid = 1397248580 and l.objid = 2 and l.objsubid = 2 and l.granted
       and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
       and coalesce(substring(a.application_name from '^shardway lead ([0-9]{1,18})$')::int8, 0) < $1";

/// How long a look may take, connecting included.
const LOOK_MAX: Duration = Duration::from_millis(1500);
/// How long an act may take.
const ACT_MAX: Duration = Duration::from_secs(8);
/// A little longer than it is asked to wait.
const PROMOTE_MAX: Duration = Duration::from_secs(70);
/// How long the map's command may take.
const FENCE_MAX: Duration = Duration::from_secs(30);
/// How much of what it said is told.
const SAID_MAX: usize = 500;
/// While all is well.
const CALM: Duration = Duration::from_secs(1);
/// While it is not.
const BUSY: Duration = Duration::from_millis(100);

const PROMOTE: &str = "select pg_promote(true, 60) where current_setting('recovery_end_command') = $1";

const SLOT: &str = "
select pg_create_physical_replication_slot($1::name)
 where not exists (select from pg_catalog.pg_replication_slots where slot_name = $1)";

// Held by the connection for as long as it stands: of two proxies that are told to lead, one does. The numbers spell SHRD.
const TURN: &str = "select pg_try_advisory_lock(1397248580, 2)";

// A standby that hears nothing asks its primary after half of wal_receiver_timeout, and is answered. Who may not see the row has
// NULLs in it, and takes it for one that receives. The startup process waits so when it has replayed all that there is.
const VIEW: &str = "
select pg_is_in_recovery(),
       coalesce((select case when r.status <> 'streaming' then 1
                             when t.setting::int8 > 0
                                  and clock_timestamp() - r.last_msg_receipt_time
                                      > (t.setting::int8 / 2 + 2000) * interval '1 ms' then 1
                             else 2 end
                   from pg_catalog.pg_stat_wal_receiver r, pg_catalog.pg_settings t
                  where t.name = 'wal_receiver_timeout'), 0),
       not exists (select from pg_catalog.pg_stat_wal_receiver)
       and not exists (select from pg_catalog.pg_stat_activity where backend_type = 'walreceiver')
       and exists (select from pg_catalog.pg_stat_activity
                    where backend_type = 'startup' and wait_event = 'RecoveryRetrieveRetryInterval'),
       case when not pg_is_in_recovery()
            then ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int4
            else coalesce((select r.received_tli from pg_catalog.pg_stat_wal_receiver r where r.status = 'streaming'),
                          (select max(('x' || substr(w.name, 1, 8))::bit(32)::int4)
                             from pg_ls_waldir() w where w.name ~ '^[0-9A-F]{24}$'), 0) end,
       pg_last_wal_receive_lsn()::text,
       coalesce(case when not pg_is_in_recovery() then pg_current_wal_flush_lsn() end, pg_last_wal_replay_lsn())::text,
       (select s.setting from pg_catalog.pg_settings s where s.name = 'primary_conninfo'),
       current_setting('cluster_name'), current_setting('recovery_end_command'),
       current_setting('synchronous_standby_names')";
