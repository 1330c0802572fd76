//! The console: SHOW and RELOAD, in simple and extended protocol.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use crate::admin::Operated;
use crate::admin::Standing;
use crate::admin::show;
use crate::clock;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::Service;
use crate::exec::client::Client;
use crate::exec::clients::Answered;
use crate::exec::clients::Entered;
use crate::exec::clients::Who;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::session::cancel::Ticket;
use crate::session::login::LoggedIn;
use crate::shard_map::Engine;
use crate::shard_map::diff;
use crate::shard_map::live::Outcome;
use crate::tasks;
use crate::topology::Hold;
use crate::topology::Holder;
use crate::topology::Reads;
use crate::topology::Role;
use crate::topology::Topology;
use crate::topology::events::Kind;
use crate::topology::order::Undrained;
use crate::topology::pause::Unpaused;
use crate::topology::switchover::Switch;
use crate::topology::two_phase::Fitness;
use crate::wire::postgres::backend as reply;
use crate::wire::postgres::backend::Column;
use crate::wire::postgres::backend::Severity;
use crate::wire::postgres::frontend;
use crate::wire::postgres::frontend::Target;

/// What a command answers.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Vec<Vec<Option<String>>>,
    pub(super) tag: String,
}

/// Shards of one database that a command names.
type Named = (Arc<Service>, Vec<ShardId>);

/// The commands, for SHOW HELP.
const COMMANDS: [(&str, &str); 20] = [
    ("SHOW HELP", "this list"),
    ("SHOW CLIENTS", "who is connected, what they do and have done"),
    ("SHOW EVENTS", "what happened to servers and to the map, the latest last"),
    ("SHOW MAP", "the map in force, what its file says, what is wrong with tables"),
    ("SHOW NODES", "role, position, freshness and health of every server"),
    ("SHOW POOLS", "server connections per node, database and user"),
    ("SHOW QUEUES", "what waits for each shard's primary, and whether the shard is paused"),
    ("SHOW SERVERS", "each server connection, and which client has it"),
    ("SHOW SHARDS", "each shard's primary, whether it takes writes, and how many replicas serve reads"),
    ("SHOW SNAPSHOTS", "how often all shards were read at one moment, and how many tries that took"),
    ("SHOW STATS", "what clients of each database have done: totals, and averages of the last minute"),
    ("SHOW TWO_PHASE", "who can take part in transactions over several shards, and what of them waits for a decision"),
    ("SHOW VERSION", "the version of this program"),
    ("PAUSE [database[.shard]]", "let open transactions end, and have everything else wait until RESUME"),
    ("RESUME [database[.shard]]", "let go on what PAUSE holds back"),
    ("DRAIN database.shard.node", "send a replica no more reads, and wait until nothing goes on there"),
    ("FENCE database.shard.node", "send a server nothing any more, and cut off what goes on there"),
    ("RESUME database.shard.node", "take back what DRAIN or FENCE said of it"),
    ("SWITCHOVER database.shard [TO node]", "make another node of a Postgres shard its primary, losing nothing"),
    ("RELOAD", "read the map's file again"),
];

/// Serves one operator until they leave.
pub async fn serve(arrival: LoggedIn, process: Arc<dyn Operated>, ticket: Ticket) {
    let limit = process.live().current().limits.message;
    let who = Who {
        user: arrival.user.as_str().into(),
        database: arrival.database.as_str().into(),
        application: application(&arrival.parameters).into(),
    };
    let entered = process.clients().enter(Engine::Postgres, ticket.pid, &arrival.stream, who);
    let mut client = Client::new(arrival.stream, &arrival.leftover, limit);
    for (name, value) in [
        ("server_version", concat!("15.0 (shardway ", env!("CARGO_PKG_VERSION"), ")")),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
    ] {
        reply::parameter_status(client.out(), name, value).expect("names and values hold no zero byte");
    }
    reply::key_data(client.out(), ticket.pid, &ticket.key.to_be_bytes()).expect("a key of four bytes fits");
    reply::ready(client.out(), b'I');
    let (statements, portals) = (Vec::new(), Vec::new());
    let mut console = Console { client, process, entered, statements, portals, skipping: false };
    if let Err(Some(error)) = console.run().await {
        reply::error(console.client.out(), Severity::Fatal, &error);
        // The operator may be gone.
        let _ = console.client.flush().await;
    }
}

struct Console {
    client: Client,
    process: Arc<dyn Operated>,
    entered: Entered,
    statements: Vec<(String, String)>,
    portals: Vec<(String, String)>,
    skipping: bool,
}

/// How many steps of a switchover may wait for an operator who reads slowly; others are in the log only.
const STEPS_MAX: usize = 64;

/// How much of an unknown command is repeated, in characters.
const SHOWN_MAX: usize = 60;

/// How many statements and portals one operator may keep.
const KEPT_MAX: usize = 100;

impl Console {
    async fn run(&mut self) -> Result<(), Option<ClientError>> {
        loop {
            self.client.flush().await.map_err(|_| None)?;
            while let Some(message) = self.client.message().map_err(Some)? {
                self.entered.begins();
                let body = self.client.bytes(message.body()).to_vec();
                match message.kind {
                    b'X' => return Err(None),
                    b'Q' => {
                        let text = frontend::Query::read(&body).map_err(|violation| Some(violation.into()))?.text;
                        let text = String::from_utf8_lossy(text).into_owned();
                        self.query(&text).await;
                        self.ready();
                    }
                    b'S' => {
                        self.skipping = false;
                        self.ready();
                    }
                    _ if self.skipping => {}
                    b'H' => {}
                    kind => {
                        if let Err(error) = self.extended(kind, &body).await? {
                            self.skipping = true;
                            reply::error(self.client.out(), Severity::Error, &error);
                        }
                    }
                }
                self.client.flush().await.map_err(|_| None)?;
            }
            if self.client.read().await.map_err(|_| None)? == 0 {
                return Err(None);
            }
        }
    }

    fn ready(&mut self) {
        reply::ready(self.client.out(), b'I');
        let (received, sent) = (self.client.came, self.client.sent());
        self.entered.ends(Answered { within: false, received, sent, prepared: self.statements.len() });
    }

    async fn query(&mut self, text: &str) {
        let commands: Vec<&str> = text.split(';').map(str::trim).filter(|it| !it.is_empty()).collect();
        if commands.is_empty() {
            reply::empty_query(self.client.out());
        }
        for command in commands {
            if command.split_whitespace().next().is_some_and(|it| it.eq_ignore_ascii_case("SWITCHOVER")) {
                if let Err(error) = self.switchover(command).await {
                    reply::error(self.client.out(), Severity::Error, &error);
                    return;
                }
                continue;
            }
            match self.answer(command).await {
                Ok(answer) => {
                    let out = self.client.out();
                    if !answer.columns.is_empty() {
                        describe(out, &answer);
                    }
                    rows(out, &answer);
                }
                Err(error) => {
                    reply::error(self.client.out(), Severity::Error, &error);
                    return;
                }
            }
        }
    }

    async fn extended(&mut self, kind: u8, body: &[u8]) -> Result<Result<(), ClientError>, Option<ClientError>> {
        let fatal = |violation: crate::wire::postgres::frame::Violation| Some(ClientError::from(violation));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match kind {
            b'P' => {
                let view = frontend::Parse::read(body).map_err(fatal)?;
                let (name, command) = (text(view.name), text(view.text));
                self.statements.retain(|(known, _)| *known != name);
                if self.statements.len() >= KEPT_MAX {
                    self.statements.remove(0);
                }
                self.statements.push((name, command));
                reply::parse_complete(self.client.out());
            }
            b'B' => {
                let view = frontend::Bind::read(body).map_err(fatal)?;
                let (portal, name) = (text(view.portal), text(view.statement));
                let Some(command) = find(&self.statements, &name) else { return Ok(Err(missing(&name))) };
                self.portals.retain(|(known, _)| *known != portal);
                if self.portals.len() >= KEPT_MAX {
                    self.portals.remove(0);
                }
                self.portals.push((portal, command));
                reply::bind_complete(self.client.out());
            }
            b'D' => {
                let (command, statement) = match Target::read(body).map_err(fatal)? {
                    Target::Statement(name) => (find(&self.statements, &text(name)), true),
                    Target::Portal(name) => (find(&self.portals, &text(name)), false),
                };
                let Some(command) = command else { return Ok(Err(missing(""))) };
                // Describing must not do anything.
                let answer = match verb(&command) {
                    Verb::Show => match self.answer(&command).await {
                        Ok(answer) => answer,
                        Err(error) => return Ok(Err(error)),
                    },
                    Verb::Other => Answer::default(),
                };
                let out = self.client.out();
                if statement {
                    reply::parameter_description(out, &[]).map_err(fatal)?;
                }
                if answer.columns.is_empty() {
                    reply::no_data(out);
                } else {
                    describe(out, &answer);
                }
            }
            b'E' => {
                let view = frontend::Execute::read(body).map_err(fatal)?;
                let name = text(view.portal);
                let Some(command) = find(&self.portals, &name) else { return Ok(Err(missing(&name))) };
                if command.trim().trim_end_matches(';').is_empty() {
                    reply::empty_query(self.client.out());
                    return Ok(Ok(()));
                }
                match self.answer(&command).await {
                    Ok(answer) => rows(self.client.out(), &answer),
                    Err(error) => return Ok(Err(error)),
                }
            }
            b'C' => reply::close_complete(self.client.out()),
            _ => {
                return Err(Some(ClientError::new(
                    Code::ProtocolViolation,
                    "a message that has no place in the console",
                    "The console takes queries and the extended protocol.",
                )));
            }
        }
        Ok(Ok(()))
    }

    async fn answer(&self, command: &str) -> Result<Answer, ClientError> {
        let words: Vec<String> =
            command.trim().trim_end_matches(';').split_whitespace().map(str::to_ascii_uppercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["SHOW", "HELP"] => Ok(Answer {
                columns: vec!["command", "meaning"],
                rows: COMMANDS.iter().map(|(a, b)| vec![Some((*a).to_owned()), Some((*b).to_owned())]).collect(),
                tag: "SHOW".to_owned(),
            }),
            ["SHOW", "VERSION"] => Ok(Answer {
                columns: vec!["version"],
                rows: vec![vec![Some(concat!("shardway ", env!("CARGO_PKG_VERSION")).to_owned())]],
                tag: "SHOW".to_owned(),
            }),
            ["SHOW", "MAP"] => Ok(self.map()),
            ["SHOW", "NODES"] => Ok(self.nodes()),
            ["SHOW", "POOLS"] => Ok(show::pools(&*self.process)),
            ["SHOW", "SHARDS"] => Ok(show::shards(&*self.process)),
            ["SHOW", "CLIENTS"] => Ok(show::clients(&*self.process)),
            ["SHOW", "SERVERS"] => Ok(show::servers(&*self.process)),
            ["SHOW", "STATS"] => Ok(show::stats(&*self.process)),
            ["SHOW", "EVENTS"] => Ok(show::events(&*self.process)),
            ["SHOW", "TWO_PHASE"] => Ok(self.two_phase()),
            ["SHOW", "QUEUES"] => Ok(self.queues()),
            ["SHOW", "SNAPSHOTS"] => Ok(self.snapshots()),
            ["RELOAD"] => match Arc::clone(&self.process).reload().await {
                Outcome::Swapped { .. } | Outcome::Unchanged => {
                    Ok(Answer { tag: "RELOAD".to_owned(), ..Answer::default() })
                }
                Outcome::Rejected { text } => Err(ClientError::new(
                    Code::InvalidSetting,
                    "the map's file was rejected; nothing changed",
                    "Mend the file: the detail says where and how.",
                )
                .with_detail(text)),
            },
            ["PAUSE", ..] => self.pause(command).await,
            ["RESUME", ..] => self.resume(command),
            ["DRAIN", _] => self.drain(argument(command)).await,
            ["FENCE", _] => self.fence(argument(command)),
            // What drivers say of their own accord when they connect.
            ["SET", ..] => Ok(Answer { tag: "SET".to_owned(), ..Answer::default() }),
            ["BEGIN" | "COMMIT" | "ROLLBACK", ..] => {
                Ok(Answer { tag: words.first().copied().unwrap_or_default().to_owned(), ..Answer::default() })
            }
            ["SELECT", "1"] => Ok(Answer {
                columns: vec!["?column?"],
                rows: vec![vec![Some("1".to_owned())]],
                tag: "SELECT 1".to_owned(),
            }),
            _ => Err(no_command(command)),
        }
    }

    /// The shards that a command names: all, those of a database, or one.
    fn named(&self, command: &str) -> Result<Vec<Named>, ClientError> {
        let deployment = self.process.deployment();
        let mut words = command.trim().trim_end_matches(';').split_whitespace().skip(1);
        let (name, more) = (words.next(), words.next());
        if more.is_some() {
            return Err(no_command(command));
        }
        let all = |service: &Arc<Service>| {
            let shards = (0_u16..).zip(&service.database.shards).map(|(place, _)| ShardId(place)).collect();
            (Arc::clone(service), shards)
        };
        let Some(name) = name else { return Ok(deployment.services.values().map(all).collect()) };
        if let Some(service) = deployment.services.get(name) {
            return Ok(vec![all(service)]);
        }
        let (database, shard) = name.rsplit_once('.').unwrap_or((name, ""));
        let service = deployment.services.get(database).ok_or_else(|| {
            ClientError::new(
                Code::NoDatabase,
                format_args!("there is no database \"{database}\" in the map"),
                "SHOW MAP lists the databases and their shards.",
            )
        })?;
        let place = (0_u16..).zip(&service.database.shards).find(|(_, it)| *it.name == *shard).ok_or_else(|| {
            ClientError::new(
                Code::ConsoleSyntax,
                format_args!("database \"{database}\" has no shard \"{shard}\""),
                "SHOW MAP lists the databases and their shards.",
            )
        })?;
        Ok(vec![(Arc::clone(service), vec![ShardId(place.0)])])
    }

    /// What is held back here would not be held back in the process that has taken over.
    fn alone(&self) -> Result<(), ClientError> {
        if matches!(self.process.standing(), Standing::Handing | Standing::Former) {
            return Err(ClientError::new(
                Code::ShuttingDown,
                "another process takes over from this one",
                "Connect again, and say it there.",
            ));
        }
        Ok(())
    }

    async fn pause(&self, command: &str) -> Result<Answer, ClientError> {
        self.alone()?;
        let named = self.named(command)?;
        let mut paused: Vec<&Named> = Vec::new();
        for it @ (service, shards) in &named {
            let deadline = clock::now().plus(service.database.failover.wait);
            let fresh: Vec<ShardId> = shards
                .iter()
                .copied()
                .filter(|it| service.topology.queue(*it).holder() != Some(Holder::Operator))
                .collect();
            if let Err(why) = service.topology.pause(&fresh, Reads::Held, Holder::Operator, deadline).await {
                for (service, shards) in paused {
                    for shard in shards {
                        // What a switchover holds back is not this command's.
                        let _ = service.topology.resume(*shard, Holder::Operator);
                    }
                }
                return Err(unpaused(service, &why));
            }
            paused.push(it);
        }
        Ok(Answer { tag: "PAUSE".to_owned(), ..Answer::default() })
    }

    /// The node that `database.shard.node` names; `None`: it names none, but perhaps a shard. Names may have dots.
    fn node(&self, name: &str) -> Result<Option<(Arc<Service>, NodeId)>, ClientError> {
        let deployment = self.process.deployment();
        let mut found = deployment.services.iter().flat_map(|(database, service)| {
            let called = move |id: NodeId, node: &str| {
                name.strip_prefix(&**database)
                    .and_then(|it| it.strip_prefix('.'))
                    .and_then(|it| it.strip_prefix(&*service.database.shard(id.shard).name))
                    .and_then(|it| it.strip_prefix('.'))
                    == Some(node)
            };
            service
                .topology
                .nodes()
                .filter(move |(id, it)| called(*id, &it.node().name))
                .map(move |(id, _)| (service, id))
        });
        let first = found.next().map(|(service, id)| (Arc::clone(service), id));
        if first.is_some() && found.next().is_some() {
            return Err(ClientError::new(
                Code::ConsoleSyntax,
                format_args!("\"{name}\" names several nodes"),
                "Give databases, shards and nodes names without dots.",
            ));
        }
        Ok(first)
    }

    fn needed(&self, name: &str) -> Result<(Arc<Service>, NodeId), ClientError> {
        self.alone()?;
        self.node(name)?.ok_or_else(|| {
            ClientError::new(
                Code::ConsoleSyntax,
                format_args!("there is no node \"{name}\" in the map"),
                "Name it database.shard.node; SHOW NODES lists them.",
            )
        })
    }

    async fn drain(&self, name: &str) -> Result<Answer, ClientError> {
        let (service, id) = self.needed(name)?;
        let wait = self.process.live().current().timeouts.drain;
        match service.topology.drain(id, clock::now().plus(wait)).await {
            Ok(()) => Ok(Answer { tag: "DRAIN".to_owned(), ..Answer::default() }),
            Err(Undrained::Primary) => Err(ClientError::new(
                Code::ConsoleSyntax,
                format_args!("\"{name}\" is its shard's primary"),
                "Make another node the primary first (SWITCHOVER), or hold back the shard (PAUSE).",
            )),
            Err(Undrained::Busy(count)) => Err(ClientError::new(
                Code::TimedOut,
                format_args!("{count} connections to \"{name}\" are in use still after {wait:?}; no new ones come"),
                "DRAIN again to wait on, FENCE to cut them off, or RESUME to take it back.",
            )),
        }
    }

    fn fence(&self, name: &str) -> Result<Answer, ClientError> {
        let (service, id) = self.needed(name)?;
        service.topology.fence(id);
        Ok(Answer { tag: "FENCE".to_owned(), ..Answer::default() })
    }

    fn resume(&self, command: &str) -> Result<Answer, ClientError> {
        if let Some((service, id)) = self.node(argument(command))? {
            service.topology.readmit(id);
            return Ok(Answer { tag: "RESUME".to_owned(), ..Answer::default() });
        }
        for (service, shards) in self.named(command)? {
            for shard in shards {
                let resumed = service.topology.resume(shard, Holder::Operator);
                resumed.map_err(|holder| unpaused(&service, &Unpaused::Held(shard, holder)))?;
            }
        }
        Ok(Answer { tag: "RESUME".to_owned(), ..Answer::default() })
    }

    /// A row a step, as soon as it is done.
    async fn switchover(&mut self, command: &str) -> Result<(), ClientError> {
        self.alone()?;
        let words: Vec<&str> = command.split_whitespace().collect();
        let (shard, to) = match words.as_slice() {
            [_, shard] => (*shard, None),
            [_, shard, to, node] if to.eq_ignore_ascii_case("TO") => (*shard, Some(*node)),
            _ => return Err(no_command(command)),
        };
        let named = self.named(&format!("SWITCHOVER {shard}"))?;
        let [(service, shards)] = named.as_slice() else { return Err(no_command(command)) };
        let [shard] = shards.as_slice() else { return Err(no_command(command)) };
        let (topology, shard) = (Arc::clone(&service.topology), *shard);
        let to = to.map(|name| {
            let place = (0_u16..).zip(&service.database.shard(shard).nodes).find(|(_, it)| *it.name == *name);
            place.map(|(node, _)| NodeId { shard, node }).ok_or_else(|| {
                ClientError::new(
                    Code::ConsoleSyntax,
                    format_args!("the shard has no node \"{name}\""),
                    "SHOW NODES lists them.",
                )
            })
        });
        let to = to.transpose()?;
        // Other databases may have shards on the same servers.
        let server = |topology: &Topology, shard| {
            let node = topology.node(topology.primary(shard)?).node().clone();
            Some((node.host, node.port))
        };
        let its = server(&topology, shard);
        let deployment = self.process.deployment();
        let beside = deployment.services.values().flat_map(|service| {
            let shards = (0_u16..).zip(&service.database.shards).map(|(place, _)| ShardId(place));
            shards.map(|it| (Arc::clone(&service.topology), it)).collect::<Vec<_>>()
        });
        let beside = beside.filter(|(topology, shard)| server(topology, *shard) == its).collect();
        let drain = service.database.failover.wait / 2;
        let (tell, mut told) = mpsc::channel(STEPS_MAX);
        let running = tasks::local("switchover", async move {
            let begun = clock::now();
            let mut step = |what: String| {
                let since = clock::now().since(begun);
                tracing::info!(?since, "switchover: {what}");
                // The operator may be gone; it goes on all the same.
                let _ = tell.try_send((since, what));
            };
            let events = topology.events(shard);
            let target = to.map(|it| &topology.node(it).node().name);
            let planned = target.map_or_else(|| "to the replica that has most".to_owned(), |it| format!("to {it}"));
            events.note(Kind::Switchover, target, format!("begins, {planned}"));
            let done = Switch { topology: &topology, shard, to, beside, drain }.run(&mut step).await;
            match &done {
                Ok(()) => events.note(Kind::Switchover, target, "done"),
                Err(failed) => events.note(Kind::Switchover, target, failed.to_string()),
            }
            done
        });
        let columns = Answer { columns: vec!["ms", "step"], ..Answer::default() };
        describe(self.client.out(), &columns);
        while let Some((since, what)) = told.recv().await {
            let row = vec![Some(format!("{:.1}", since.as_secs_f64() * 1000.0)), Some(what)];
            reply::data_row(self.client.out(), &row).expect("a row has two cells");
            // It is seen at the end, too.
            let _ = self.client.flush().await;
        }
        match running.await {
            Ok(Ok(())) => {
                reply::command_complete(self.client.out(), "SWITCHOVER").expect("tags hold no zero byte");
                Ok(())
            }
            Ok(Err(failed)) => {
                tracing::error!("switchover: {failed}");
                let left = failed.left.clone();
                Err(ClientError::new(Code::SwitchoverFailed, failed.why, format!("State: {left}.")))
            }
            Err(error) => Err(ClientError::new(Code::Internal, error, "Report this with what the log says.")),
        }
    }

    fn map(&self) -> Answer {
        let deployment = self.process.deployment();
        let mut rows = vec![
            pair("version", deployment.map.version.to_string()),
            pair("file", self.process.live().path().display().to_string()),
        ];
        for (name, service) in &deployment.services {
            let database = &service.database;
            let shards: Vec<&str> = database.shards.iter().map(|shard| &*shard.name).collect();
            rows.push(pair(&format!("database {name}"), format!("shards {}", shards.join(", "))));
            for (group, placed) in diff::records(database) {
                let item = if &*group == diff::WHOLE { group.to_string() } else { format!("group {group}") };
                rows.push(pair(&format!("database {name} {item}"), placed));
            }
            for finding in &service.schema.state().findings {
                rows.push(pair(&format!("database {name} finding"), finding.to_string()));
            }
        }
        rows.extend(self.process.fleet().into_iter().map(|(item, value)| pair(&item, value)));
        rows.push(vec![Some("rejected".to_owned()), self.process.live().rejected().map(|text| text.to_string())]);
        Answer { columns: vec!["item", "value"], rows, tag: "SHOW".to_owned() }
    }

    fn nodes(&self) -> Answer {
        let deployment = self.process.deployment();
        let now = clock::now();
        let mut rows = Vec::new();
        for (name, service) in &deployment.services {
            for (id, state) in service.topology.nodes() {
                let node = state.node();
                let fresh = state.fresh_as_of();
                let fresh_ms = (state.role() == Role::Replica && fresh != clock::Tick::NEVER)
                    .then(|| now.since(fresh).as_millis().to_string());
                rows.push(vec![
                    Some(name.to_string()),
                    Some(service.database.shard(id.shard).name.to_string()),
                    Some(node.name.to_string()),
                    Some(format!("{}:{}", node.host, node.port)),
                    Some(state.role().name().to_owned()),
                    Some(state.health().name().to_owned()),
                    Some(state.position_text()),
                    fresh_ms,
                    Some(state.in_use().to_string()),
                    Some(state.served().to_string()),
                    state.trouble(),
                    state.semi_sync().map(|it| it.to_string()),
                ]);
            }
        }
        Answer {
            columns: vec![
                "database",
                "shard",
                "node",
                "address",
                "role",
                "health",
                "position",
                "fresh_ms_ago",
                "in_use",
                "served",
                "trouble",
                "commits",
            ],
            rows,
            tag: "SHOW".to_owned(),
        }
    }

    /// A row a shard, and one for each part that is prepared there.
    fn two_phase(&self) -> Answer {
        let deployment = self.process.deployment();
        let mut rows = Vec::new();
        for (name, service) in &deployment.services {
            let state = &service.topology.two_phase;
            let in_doubt = state.in_doubt();
            for (place, shard) in (0_u16..).zip(&service.database.shards) {
                let standing = match state.fitness(ShardId(place)) {
                    Fitness::Unknown => "not known".to_owned(),
                    Fitness::NoPrepared => "no: max_prepared_transactions = 0".to_owned(),
                    Fitness::NotSetUp => "no: run shardway check --connect --prepare".to_owned(),
                    Fitness::Ready(cluster) => format!("yes, in cluster {cluster}"),
                };
                let of_shard = || vec![Some(name.to_string()), Some(shard.name.to_string()), Some(standing.clone())];
                let mut alone = true;
                for part in in_doubt.iter().filter(|it| it.shard == shard.name) {
                    alone = false;
                    let mut row = of_shard();
                    row.extend([Some(part.gid.clone()), Some(format!("{:.0}", part.age)), part.trouble.clone()]);
                    rows.push(row);
                }
                if alone {
                    let mut row = of_shard();
                    row.extend([None, None, None]);
                    rows.push(row);
                }
            }
        }
        Answer {
            columns: vec!["database", "shard", "takes_part", "prepared", "age_s", "trouble"],
            rows,
            tag: "SHOW".to_owned(),
        }
    }

    fn queues(&self) -> Answer {
        let deployment = self.process.deployment();
        let row = |name: &Arc<str>, service: &Service, place: u16| {
            let queue = service.topology.queue(ShardId(place));
            let (hold, holder) = (queue.hold(), queue.holder());
            let state = match hold {
                Hold::Open => "open",
                Hold::Draining(_) => "draining",
                Hold::Shut(_) => "paused",
            };
            vec![
                Some(name.to_string()),
                Some(service.database.shard(ShardId(place)).name.to_string()),
                Some(state.to_owned()),
                Some(queue.waiting().to_string()),
                Some(service.database.failover.queue_max.to_string()),
                holder.map(|it| it.name().to_owned()),
            ]
        };
        let rows = deployment.services.iter().flat_map(|(name, service)| {
            (0_u16..).zip(&service.database.shards).map(move |(place, _)| row(name, service, place))
        });
        Answer {
            columns: vec!["database", "shard", "state", "waiting", "waiting_max", "held_by"],
            rows: rows.collect(),
            tag: "SHOW".to_owned(),
        }
    }

    /// What has come of reading all shards of a database at one moment.
    fn snapshots(&self) -> Answer {
        let deployment = self.process.deployment();
        let row = |(name, service): (&Arc<str>, &Arc<Service>)| {
            let counts = &service.gate.counts;
            let count = |of: &AtomicU64| Some(of.load(Ordering::Relaxed).to_string());
            vec![
                Some(name.to_string()),
                count(&counts.found),
                count(&counts.tries),
                count(&counts.shut),
                count(&counts.given_up),
            ]
        };
        Answer {
            columns: vec!["database", "found", "tries", "gates", "given_up"],
            rows: deployment.services.iter().map(row).collect(),
            tag: "SHOW".to_owned(),
        }
    }
}

fn application(parameters: &[(String, String)]) -> &str {
    let named = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("application_name");
    parameters.iter().rfind(named).map_or("", |(_, value)| value)
}

/// The word behind a command's first, as it was written.
fn argument(command: &str) -> &str {
    command.trim().trim_end_matches(';').split_whitespace().nth(1).unwrap_or_default()
}

fn no_command(command: &str) -> ClientError {
    ClientError::new(
        Code::ConsoleSyntax,
        format_args!("\"{}\" is no command of the console", shortened(command)),
        "SHOW HELP lists them. Tables are in the databases of the map.",
    )
}

fn unpaused(service: &Service, why: &Unpaused) -> ClientError {
    let name = |shard: ShardId| &service.database.shard(shard).name;
    match why {
        Unpaused::Held(shard, holder) => ClientError::new(
            Code::InTransaction,
            format_args!("shard \"{}\" is held back by {}", name(*shard), holder.name()),
            "Try again when that is over.",
        ),
        Unpaused::Busy(busy) => {
            let each = busy.iter().map(|(shard, count)| format!("{count} on \"{}\"", name(*shard)));
            ClientError::new(
                Code::TimedOut,
                format_args!(
                    "connections are in use still after {:?}, and nothing is paused: {}",
                    service.database.failover.wait,
                    each.collect::<Vec<_>>().join(", ")
                ),
                "Transactions that stay open, and sessions that are tied to a connection, keep a shard from being \
                 paused: end them, and try again.",
            )
        }
    }
}

enum Verb {
    Show,
    Other,
}

fn verb(command: &str) -> Verb {
    match command.split_whitespace().next().map(str::to_ascii_uppercase).as_deref() {
        Some("SHOW" | "SELECT") => Verb::Show,
        _ => Verb::Other,
    }
}

/// The beginning of a command, on one line: what tools send of their own accord is long.
fn shortened(command: &str) -> String {
    let line = command.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

fn pair(item: &str, value: String) -> Vec<Option<String>> {
    vec![Some(item.to_owned()), Some(value)]
}

fn find(all: &[(String, String)], name: &str) -> Option<String> {
    all.iter().find(|(known, _)| known == name).map(|(_, command)| command.clone())
}

fn missing(name: &str) -> ClientError {
    ClientError::new(
        Code::NoStatement,
        format_args!("prepared statement or portal \"{name}\" does not exist"),
        "Prepare it first.",
    )
}

fn describe(out: &mut Vec<u8>, answer: &Answer) {
    let columns: Vec<Column<'_>> = answer.columns.iter().map(|name| Column::text(name)).collect();
    reply::row_description(out, &columns).expect("names of columns hold no zero byte and are few");
}

fn rows(out: &mut Vec<u8>, answer: &Answer) {
    for row in &answer.rows {
        reply::data_row(out, row).expect("a row has as many cells as there are columns");
    }
    reply::command_complete(out, &answer.tag).expect("tags hold no zero byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_is_repeated_in_part() {
        assert_eq!(shortened(" SHOW\n FOO "), "SHOW FOO");
        let long = shortened(&format!("SELECT\n  {}", "é".repeat(200)));
        assert_eq!(
            (long.chars().count(), long.starts_with("SELECT éé"), long.ends_with("é…")),
            (SHOWN_MAX + 1, true, true)
        );
    }
}
