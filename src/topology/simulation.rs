//! Histories of a shard of Postgres by chance: servers die, freeze, are cut off and promoted, rightly or wrongly; answers come late
//! or never. Whatever happens, [`ShardMonitor`] must never hold two nodes for writable in one timeline, never go back, never
//! call a replica fresh that lacks what was acknowledged, and find the primary again once there is one.
//!
//! `SHARDWAY_HISTORIES` says how many (1,000), `SHARDWAY_HISTORY` which one alone, with everything that happens in it.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::Health;
use super::Role;
use super::freshness::Position;
use super::freshness::WalShape;
use super::health::Heard;
use super::monitor::Advice;
use super::monitor::Event;
use super::monitor::Identity;
use super::monitor::Report;
use super::monitor::ShardMonitor;
use super::roles::Objection;
use crate::clock::Tick;
use crate::shard_map::WantedRole;

const MILLI: u64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(1);
/// `reads.staleness_max`.
const BEHIND: Duration = Duration::from_secs(2);
/// The proxy asks a node again so long after an answer.
const PAUSE: u64 = 100 * MILLI;
/// How long things go wrong in a history, and how long all is well behind that.
const UNREST: u64 = 20_000 * MILLI;
const CALM: u64 = 20_000 * MILLI;

/// What was written on one timeline, and where that forked from another.
struct Branch {
    parent: Option<(usize, u64)>,
    timeline: u32,
}

/// A server as it is, whatever the proxy knows of it.
#[derive(Clone, Debug)]
struct Server {
    up: bool,
    frozen: bool,
    /// The way between it and the proxy is cut.
    cut: bool,
    primary: bool,
    branch: usize,
    wal: u64,
    /// Where its recovery ended, if it was promoted in this life.
    recovered: Option<u64>,
    /// Whose log it receives.
    follows: Option<usize>,
    started: i64,
}

/// What the proxy has of one node: its connection, and the answers that are on their way.
#[derive(Default)]
struct Wire {
    open: bool,
    /// When the last question was asked, which is not answered yet.
    asked: Option<u64>,
    /// When the answer comes, of which branch, and what it says.
    answers: VecDeque<(u64, usize, Report)>,
    next: u64,
}

struct World {
    chance: StdRng,
    now: u64,
    servers: Vec<Server>,
    branches: Vec<Branch>,
    wires: Vec<Wire>,
    monitor: ShardMonitor,
    lives: u64,
    starts: i64,
    /// When a write was acknowledged to a client, in which branch and where.
    acknowledged: Vec<(u64, usize, u64)>,
    /// Who was primary in which timeline.
    reigns: HashMap<u32, usize>,
    /// Branches whose primaries the proxy has heard of.
    claimed: HashSet<usize>,
    latest: u32,
    told: Option<String>,
}

impl World {
    fn new(seed: u64, tells: bool) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let count = chance.random_range(1..=4);
        let server = |place: usize| Server {
            up: true,
            frozen: false,
            cut: false,
            primary: place == 0,
            branch: 0,
            wal: 1000,
            recovered: None,
            follows: (place > 0).then_some(0),
            started: 1,
        };
        Self {
            now: 1000 * MILLI,
            servers: (0..count).map(server).collect(),
            branches: vec![Branch { parent: None, timeline: 1 }],
            wires: (0..count).map(|_| Wire::default()).collect(),
            monitor: ShardMonitor::new(vec![WantedRole::Auto; count], PATIENCE, BEHIND),
            lives: 0,
            starts: 1,
            acknowledged: Vec::new(),
            reigns: HashMap::new(),
            claimed: HashSet::new(),
            latest: 0,
            told: tells.then(String::new),
            chance,
        }
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            let _ = writeln!(told, "{:>7} ms  {}", self.now / MILLI, what());
        }
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.chance.random_range(0..count) == 0
    }

    fn any(&mut self) -> usize {
        self.chance.random_range(0..self.servers.len())
    }

    // ── the world ──

    /// Whether who has `branch` up to `wal` has what was written at `at` of `of`.
    fn has(&self, branch: usize, wal: u64, of: usize, at: u64) -> bool {
        let (mut branch, mut wal) = (branch, wal);
        loop {
            if branch == of {
                return at <= wal;
            }
            match self.branches[branch].parent {
                Some((parent, fork)) => (branch, wal) = (parent, wal.min(fork)),
                None => return false,
            }
        }
    }

    /// The branch of that timeline which a branch is, or comes from.
    fn within(&self, branch: usize, timeline: u32) -> Option<usize> {
        let mut at = branch;
        while self.branches[at].timeline != timeline {
            at = self.branches[at].parent?.0;
        }
        Some(at)
    }

    /// Makes a server a primary in a branch of its own, which begins where it is.
    fn promote(&mut self, place: usize) {
        let server = &mut self.servers[place];
        let timeline = self.branches[server.branch].timeline + 1;
        self.branches.push(Branch { parent: Some((server.branch, server.wal)), timeline });
        server.recovered = Some(server.wal);
        (server.primary, server.follows, server.branch) = (true, None, self.branches.len() - 1);
        self.tell(|| format!("{place} is promoted: timeline {timeline}"));
    }

    fn start(&mut self, place: usize) {
        self.starts += 1;
        let lag = self.chance.random_range(0..5);
        let server = &mut self.servers[place];
        (server.up, server.frozen, server.started, server.recovered) = (true, false, self.starts, None);
        if !server.primary {
            // What it had replayed it replays again.
            server.wal = server.wal.saturating_sub(lag);
        }
        self.tell(|| format!("{place} starts"));
    }

    fn stop(&mut self, place: usize) {
        self.servers[place].up = false;
        self.tell(|| format!("{place} dies"));
    }

    /// Rebuilds a server from another: it follows that.
    fn rebuild(&mut self, place: usize, of: usize) {
        self.stop(place);
        let of_branch = (self.servers[of].branch, self.servers[of].wal);
        let server = &mut self.servers[place];
        (server.primary, server.follows) = (false, Some(of));
        (server.branch, server.wal) = of_branch;
        self.start(place);
        self.tell(|| format!("{place} follows {of}"));
    }

    fn may_be_rebuilt(&self, place: usize, of: usize) -> bool {
        let timeline = |it: usize| self.branches[self.servers[it].branch].timeline;
        self.servers[of].primary && (!self.servers[place].primary || timeline(place) < timeline(of))
    }

    /// Something goes wrong, or somebody does something.
    fn disturb(&mut self) {
        let (place, other) = (self.any(), self.any());
        let server = &mut self.servers[place];
        match self.chance.random_range(0..14) {
            0 | 1 if server.up => self.stop(place),
            0..=3 if !server.up => self.start(place),
            4 if server.up => {
                server.frozen = !server.frozen;
                self.tell(|| format!("{place} freezes or thaws"));
            }
            5..=7 => {
                server.cut = !server.cut;
                self.tell(|| format!("{place} is cut off or not any more"));
            }
            // Rightly or not.
            8 | 9 if server.up && !server.primary => self.promote(place),
            10 | 11 if place != other && !self.servers[place].primary => {
                self.servers[place].follows = Some(other);
                self.tell(|| format!("{place} is pointed at {other}"));
            }
            // Whoever has gone farthest is not thrown away.
            12 if place != other && self.may_be_rebuilt(place, other) => self.rebuild(place, other),
            _ => {}
        }
    }

    /// Replicas receive, and clients write to whoever the proxy holds to be primary.
    fn live(&mut self) {
        for place in 0..self.servers.len() {
            let Some(of) = self.servers[place].follows else { continue };
            let (server, source) = (self.servers[place].clone(), self.servers[of].clone());
            let runs = |it: &Server| it.up && !it.frozen;
            if !runs(&server) || !runs(&source) || !self.has(source.branch, source.wal, server.branch, server.wal) {
                continue;
            }
            let step = self.chance.random_range(0..20);
            let server = &mut self.servers[place];
            (server.branch, server.wal) = (source.branch, source.wal.min(server.wal + step));
        }
        for place in 0..self.servers.len() {
            let server = &self.servers[place];
            if !(server.up && !server.frozen && server.primary) {
                continue;
            }
            // Others write to it as well, past this proxy; only of what it told its own clients it must know.
            let ours = !server.cut && self.monitor.standing(place).role == Role::Primary;
            let step = self.chance.random_range(0..10);
            let server = &mut self.servers[place];
            server.wal += step;
            if ours && step > 0 {
                self.acknowledged.push((self.now, server.branch, server.wal));
            }
        }
    }

    // ── the proxy's probes ──

    fn report(&self, place: usize, asked: u64) -> Report {
        let server = &self.servers[place];
        let wal = Some(Position::Wal(server.wal));
        let receives = server.follows.is_some_and(|of| {
            let source = &self.servers[of];
            source.up && !source.frozen && self.has(source.branch, source.wal, server.branch, server.wal)
        });
        let timeline = (server.primary || receives).then(|| self.branches[server.branch].timeline);
        Report {
            asked: Tick(asked),
            in_recovery: !server.primary,
            sampled: wal.clone().filter(|_| server.primary),
            flushed: wal.clone().filter(|_| server.primary),
            replayed: if server.primary { server.recovered.map(Position::Wal) } else { wal },
            received: None,
            timeline,
            hidden: false,
            trouble: None,
            semi_sync: None,
            started: server.started,
            mark: None,
        }
    }

    fn heard(&mut self, place: usize, event: Event) -> Advice {
        self.tell(|| format!("heard of {place}: {event:?}"));
        let lost = matches!(event, Event::Failed(..));
        let advice = self.monitor.observe(place, event, Tick(self.now));
        if lost || advice == Advice::Reconnect {
            self.wires[place] = Wire { next: self.now + PAUSE, ..Wire::default() };
        }
        self.tell_roles();
        advice
    }

    fn tell_roles(&mut self) {
        if self.told.is_some() {
            let roles: Vec<_> = (0..self.servers.len()).map(|it| self.monitor.standing(it)).collect();
            let roles: Vec<_> = roles.iter().map(|it| (it.role.name(), it.health.name(), it.fresh_as_of.0)).collect();
            self.tell(|| format!("    {roles:?}"));
        }
    }

    fn probe(&mut self, place: usize) {
        let server = self.servers[place].clone();
        let silent = server.cut || server.frozen;
        if self.wires[place].open && !server.up && !silent {
            let _ = self.heard(place, Event::Failed(Heard::Loss, Tick(self.now), "lost".to_owned()));
            return;
        }
        // An answer that was made before it was cut off may still come.
        let due = self.wires[place].answers.front().is_some_and(|(at, ..)| *at <= self.now);
        if due && !server.cut {
            let wire = &mut self.wires[place];
            let (_, branch, report) = wire.answers.pop_front().expect("it is there");
            wire.asked = None;
            wire.next = self.now + PAUSE;
            let claims = !report.in_recovery;
            // What is said in a life that was given up counts for nothing.
            if self.heard(place, Event::Answered(report)) == Advice::GoOn && claims {
                self.claimed.insert(branch);
            }
            return;
        }
        let wire = &mut self.wires[place];
        if let Some(asked) = wire.asked {
            if wire.answers.is_empty() && !silent {
                // It is looked at now, and may have been asked long ago.
                let late = self.chance.random_range(0..60) * MILLI;
                let report = self.report(place, asked);
                self.wires[place].answers.push_back((self.now + late, server.branch, report));
            } else if self.now.saturating_sub(asked) > 1000 * MILLI {
                let _ = self.heard(place, Event::Silent(Tick(asked)));
            }
            return;
        }
        if self.now < wire.next {
            return;
        }
        if wire.open {
            wire.asked = Some(self.now);
            return;
        }
        wire.next = self.now + PAUSE;
        if silent {
            let since = Tick(self.now.saturating_sub(300 * MILLI));
            let _ = self.heard(place, Event::Failed(Heard::Failure, since, "no connection".to_owned()));
        } else if !server.up {
            let _ = self.heard(place, Event::Failed(Heard::Refusal, Tick(self.now), "refused".to_owned()));
        } else {
            self.lives += 1;
            let wal = WalShape { page: 0, segment: 0 };
            let identity = Identity { system: 7, started: server.started, wal };
            self.wires[place].open = true;
            let _ = self.heard(place, Event::Connected(identity, self.lives));
        }
    }

    // ── what must hold ──

    fn check(&mut self) -> Result<(), String> {
        let standings: Vec<_> = (0..self.servers.len()).map(|it| self.monitor.standing(it)).collect();
        let primaries: Vec<usize> =
            (0..).zip(&standings).filter(|(_, it)| it.role == Role::Primary).map(|(at, _)| at).collect();
        if primaries.len() > 1 {
            return Err(format!("{primaries:?} are all primary"));
        }
        let accepted = self.monitor.accepted().map(|it| (it.node, it.history.timeline));
        if let (Some(place), Some((node, timeline))) = (primaries.first(), accepted) {
            if *place != node {
                return Err(format!("{place} is primary, {node} was accepted"));
            }
            if timeline < self.latest {
                return Err(format!("{place} is primary in timeline {timeline}, behind {}", self.latest));
            }
            self.latest = timeline;
            let first = *self.reigns.entry(timeline).or_insert(*place);
            if first != *place {
                return Err(format!("{place} is primary in timeline {timeline}, where {first} was"));
            }
        }
        for (place, standing) in standings.iter().enumerate() {
            let server = &self.servers[place];
            // What another life of it has, its connections will not ask.
            let same_life = server.up && server.started == standing.started && standing.generation != 0;
            if standing.role != Role::Replica || !same_life || standing.fresh_as_of == Tick::NEVER {
                continue;
            }
            let Some((node, timeline)) = accepted else { return Err(format!("{place} is fresh of nobody")) };
            // Who follows a second primary of the same timeline, of which the proxy never heard, looks like any other.
            let of = self.within(server.branch, timeline);
            if of.is_some_and(|it| {
                Some(it) != self.within(self.servers[node].branch, timeline) && !self.claimed.contains(&it)
            }) {
                continue;
            }
            // What was acknowledged where a later timeline did not go on is lost, and was told.
            let reigned = |branch: usize| {
                let at = &self.branches[branch];
                at.timeline == timeline && self.has(self.servers[node].branch, self.servers[node].wal, branch, 0)
            };
            let lacks = self.acknowledged.iter().rev().find(|(at, branch, wal)| {
                *at < standing.fresh_as_of.0 && reigned(*branch) && !self.has(server.branch, server.wal, *branch, *wal)
            });
            if let Some((at, _, wal)) = lacks {
                let fresh = standing.fresh_as_of.0 / MILLI;
                return Err(format!("{place} is fresh as of {fresh} ms, and lacks {wal} of {} ms", at / MILLI));
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        self.now += self.chance.random_range(1..60) * MILLI;
        self.live();
        for place in 0..self.servers.len() {
            self.probe(place);
            self.check()?;
        }
        Ok(())
    }

    /// All is mended, as an operator would: one server is the primary, who has gone farthest.
    fn mend(&mut self) -> usize {
        for place in 0..self.servers.len() {
            (self.servers[place].cut, self.servers[place].frozen) = (false, false);
            if !self.servers[place].up {
                self.start(place);
            }
        }
        let timeline = |world: &Self, place: usize| world.branches[world.servers[place].branch].timeline;
        let accepted = self.monitor.accepted().map(|it| it.node);
        let claimants: Vec<usize> = (0..self.servers.len()).filter(|it| self.servers[*it].primary).collect();
        let best = claimants.iter().copied().max_by_key(|it| (timeline(self, *it), Some(*it) == accepted));
        let primary = best.unwrap_or_else(|| {
            let farthest = (0..self.servers.len()).max_by_key(|it| (timeline(self, *it), self.servers[*it].wal));
            let place = farthest.expect("there is a server");
            self.promote(place);
            place
        });
        for place in claimants {
            if place != primary && timeline(self, place) == timeline(self, primary) {
                self.rebuild(place, primary);
            }
        }
        self.tell(|| format!("all is well: {primary} is the primary"));
        primary
    }

    /// The map says which is the primary from now on.
    fn name(&mut self, primary: usize) {
        let accepted = self.monitor.accepted().cloned();
        let wanted = |place| if place == primary { WantedRole::Primary } else { WantedRole::Auto };
        self.monitor = ShardMonitor::new((0..self.servers.len()).map(wanted), PATIENCE, BEHIND);
        self.monitor.inherit(accepted);
        self.wires.fill_with(Wire::default);
        let timeline = self.branches[self.servers[primary].branch].timeline;
        self.reigns.insert(timeline, primary);
        self.tell(|| format!("the map says that {primary} is the primary"));
    }

    fn calm(&mut self) -> Result<(), String> {
        let end = self.now + CALM;
        while self.now < end {
            self.step()?;
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        let end = self.now + UNREST;
        while self.now < end {
            if self.one_in(12) {
                self.disturb();
            }
            self.step()?;
        }
        let primary = self.mend();
        self.calm()?;
        // A twin of it was heard of by the latest answer, and is gone: nobody but an operator knows which of them is right.
        if self.monitor.trouble(primary) == Some(Objection::SameTimeline.to_string()) {
            self.name(primary);
            self.calm()?;
        }
        let standing = self.monitor.standing(primary);
        if (standing.role, standing.health) == (Role::Primary, Health::Up) {
            Ok(())
        } else {
            Err(format!("{primary} is {} at the end: {:?}", standing.role.name(), self.monitor.trouble(primary)))
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|it| it.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn whatever_happens_one_node_at_most_is_writable() {
    let only = number("SHARDWAY_HISTORY");
    let count = number("SHARDWAY_HISTORIES").unwrap_or(1_000);
    let (mut promoted, mut lost) = (0, 0);
    for seed in only.map_or(0..count, |it| it..it + 1) {
        let mut world = World::new(seed, only.is_some());
        if let Err(wrong) = world.run() {
            let told = world.told.unwrap_or_default();
            panic!("{told}history {seed} at {} ms: {wrong}; SHARDWAY_HISTORY={seed} tells it all", world.now / MILLI);
        }
        promoted += world.reigns.len();
        lost += usize::from(world.monitor.take_loss().is_some());
    }
    println!("{count} histories, {promoted} reigns, {lost} with losses");
    assert!(only.is_some() || (promoted as u64 > count && lost > 0), "{promoted} reigns, {lost} losses");
}
