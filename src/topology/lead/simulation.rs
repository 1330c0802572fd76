//! Histories of a shard by chance, whose failovers are led: servers die, freeze and are cut off from each other and from the
//! proxy, the proxy itself ends and begins anew, and what it has asked for happens, or not, or later. Whatever happens, what a server
//! acknowledged is in the history of every server that is promoted, nobody is promoted beside another, and in the end,
//! when all is mended, there is a primary that is open.
//!
//! `SHARDWAY_HISTORIES` says how many (150), `SHARDWAY_HISTORY` which one alone, with everything that happens in it.

use std::fmt::Write as _;
use std::sync::Arc;

use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

const MILLI: u64 = 1_000_000;
/// A round of the proxy takes at least so long.
const ROUND: u64 = 100 * MILLI;
/// How long things go wrong in a history, and how long all is well behind that.
const UNREST: u64 = 60_000 * MILLI;
const CALM: u64 = 30_000 * MILLI;
/// Without an answer for so long, a server is down.
const DOWN: u64 = 1_000 * MILLI;

/// What was written on one timeline, and where that forked from another.
struct Branch {
    parent: Option<(usize, u64)>,
    timeline: u32,
}

/// A server as it is, whatever the proxy knows of it.
#[derive(Clone)]
struct Server {
    up: bool,
    frozen: bool,
    primary: bool,
    branch: usize,
    wal: u64,
    /// Whom its `primary_conninfo` names, and whether that has been cut off.
    follows: usize,
    severed: bool,
    mark: Option<Mark>,
    names: String,
}

/// Something that was asked of a server, and may come to it late, or never.
struct Asked {
    at: u64,
    act: Act,
}

struct World {
    chance: StdRng,
    now: u64,
    servers: Vec<Server>,
    branches: Vec<Branch>,
    /// Which ways are cut: between two servers, or (the last place) between one and the proxy.
    cuts: Vec<Vec<bool>>,
    /// What each of two proxies knows, and who of them has the mandate, by which number.
    leads: [Lead; 2],
    holder: usize,
    term: u64,
    open: bool,
    accepted: Option<(usize, u32)>,
    heard: Vec<u64>,
    asked: Vec<Asked>,
    /// What servers have acknowledged.
    acknowledged: Vec<(usize, u64)>,
    promoted: usize,
    told: Option<String>,
}

impl World {
    fn new(seed: u64, tells: bool) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let count = chance.random_range(2..=5);
        let confirm = chance.random_range(1..count);
        let names: Vec<String> = (1..count).map(|it| format!("n{it}")).collect();
        let names = format!("{} {confirm} ({})", if chance.random() { "ANY" } else { "FIRST" }, names.join(", "));
        let server = |place: usize| Server {
            up: true,
            frozen: false,
            primary: place == 0,
            branch: 0,
            wal: 100,
            follows: 0,
            severed: false,
            mark: None,
            names: if place == 0 { names.clone() } else { String::new() },
        };
        Self {
            chance,
            now: 1000 * MILLI,
            servers: (0..count).map(server).collect(),
            branches: vec![Branch { parent: None, timeline: 1 }],
            cuts: vec![vec![false; count + 1]; count],
            leads: [Self::anew(count), Self::anew(count)],
            holder: 0,
            term: 1,
            open: true,
            accepted: None,
            heard: vec![1000 * MILLI; count],
            asked: Vec::new(),
            acknowledged: Vec::new(),
            promoted: 0,
            told: tells.then(String::new),
        }
    }

    fn anew(count: usize) -> Lead {
        Lead::new((0..count).map(|it| Arc::from(format!("n{it}"))).collect())
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            let _ = writeln!(told, "{:>7} ms  {}", self.now / MILLI, what());
        }
    }

    fn any(&mut self) -> usize {
        self.chance.random_range(0..self.servers.len())
    }

    fn runs(&self, place: usize) -> bool {
        self.servers[place].up && !self.servers[place].frozen
    }

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

    fn streams(&self, place: usize) -> bool {
        let server = &self.servers[place];
        let source = &self.servers[server.follows];
        let apart = self.cuts[place][server.follows] || self.cuts[server.follows][place];
        !server.primary
            && !server.severed
            && server.follows != place
            && source.primary
            && self.runs(place)
            && self.runs(server.follows)
            && !apart
            && self.has(source.branch, source.wal, server.branch, server.wal)
    }

    // ── what happens ──

    fn disturb(&mut self) {
        let (place, other) = (self.any(), self.any());
        let proxy = self.servers.len();
        match self.chance.random_range(0..12) {
            0 | 1 => {
                self.servers[place].up = !self.servers[place].up;
                self.servers[place].frozen = false;
                self.tell(|| format!("{place} dies or starts"));
            }
            2 | 3 => {
                self.servers[place].frozen = !self.servers[place].frozen;
                self.tell(|| format!("{place} freezes or thaws"));
            }
            4 | 5 => {
                self.cuts[place][other] = !self.cuts[place][other];
                self.tell(|| format!("the way between {place} and {other} is cut or not any more"));
            }
            6 | 7 => {
                self.cuts[place][proxy] = !self.cuts[place][proxy];
                self.tell(|| format!("{place} is cut off from the proxy or not any more"));
            }
            9 => {
                // What the other had asked for may still come.
                self.holder = 1 - self.holder;
                self.term += self.chance.random_range(1..4);
                self.open = true;
                self.tell(|| "another proxy has the mandate".to_owned());
            }
            8 => {
                // What it had asked for may still come.
                let which = self.chance.random_range(0..2);
                self.leads[which] = Self::anew(self.servers.len());
                (self.accepted, self.open) = (None, true);
                self.tell(|| "the proxy begins anew".to_owned());
            }
            _ => {}
        }
    }

    /// An operator copies what a primary has left behind, and has it confirm again.
    fn rebuild(&mut self) {
        let Some((primary, _)) = self.accepted.filter(|(it, _)| self.runs(*it)) else { return };
        for place in 0..self.servers.len() {
            let server = &self.servers[place];
            let timeline = |it: usize| self.branches[self.servers[it].branch].timeline;
            if place == primary || self.streams(place) || timeline(place) > timeline(primary) {
                continue;
            }
            let left = server.primary
                || !self.has(self.servers[primary].branch, self.servers[primary].wal, server.branch, server.wal);
            if left && self.servers[primary].primary {
                let of = &self.servers[primary];
                self.servers[place] = Server { primary: false, follows: primary, severed: false, ..of.clone() };
                self.tell(|| format!("{place} is rebuilt from {primary}"));
            }
        }
        let all = (0..self.servers.len()).all(|it| it == primary || self.streams(it));
        if all
            && self.open
            && !self.leads[self.holder].is_busy()
            && self.cuts.iter().all(|it| it.iter().all(|cut| !cut))
        {
            let others: Vec<String> =
                (0..self.servers.len()).filter(|it| *it != primary).map(|it| format!("n{it}")).collect();
            let count = self.chance.random_range(1..=others.len());
            self.servers[primary].names = format!("ANY {count} ({})", others.join(", "));
            // It is known before anything else goes wrong.
            self.round();
        }
    }

    /// Replicas receive, clients write, and servers acknowledge what enough others have.
    fn live(&mut self) -> Result<(), String> {
        for place in 0..self.servers.len() {
            if self.streams(place) {
                let source = self.servers[self.servers[place].follows].clone();
                let step = self.chance.random_range(0..20);
                let server = &mut self.servers[place];
                (server.branch, server.wal) = (source.branch, source.wal.min(server.wal + step));
            }
        }
        for place in 0..self.servers.len() {
            if !(self.runs(place) && self.servers[place].primary) {
                continue;
            }
            // Whoever claims to be primary is written to, by clients that know nothing of the proxy, too.
            self.servers[place].wal += self.chance.random_range(0..10);
            let Ok(Some(policy)) = Policy::read(&self.servers[place].names) else { continue };
            let mut held: Vec<u64> = (0..self.servers.len())
                .filter(|it| self.streams(*it) && self.servers[*it].follows == place)
                .filter(|it| self.servers[*it].branch == self.servers[place].branch)
                .filter(|it| policy.names.contains(&format!("n{it}")))
                .map(|it| self.servers[it].wal)
                .collect();
            held.sort_unstable_by(|a, b| b.cmp(a));
            if let Some(wal) = policy.count.checked_sub(1).and_then(|it| held.get(it)) {
                self.acknowledged.push((self.servers[place].branch, *wal));
            }
        }
        Ok(())
    }

    // ── the proxy ──

    fn view(&self, place: usize) -> Option<View> {
        let server = &self.servers[place];
        if !self.runs(place) || self.cuts[place][self.servers.len()] {
            return None;
        }
        let timeline = self.branches[server.branch].timeline;
        Some(View {
            in_recovery: !server.primary,
            receiver: if self.streams(place) { Receiver::Streaming } else { Receiver::Gone },
            at_rest: !server.primary && server.severed,
            timeline,
            position: server.wal,
            mark: server.mark.clone(),
            unfit: None,
            severed: server.severed,
            name: format!("n{place}"),
            names: server.names.clone(),
            is_ours: true,
        })
    }

    fn round(&mut self) {
        let views: Vec<Option<View>> = (0..self.servers.len()).map(|it| self.view(it)).collect();
        for (heard, _) in self.heard.iter_mut().zip(&views).filter(|(_, it)| it.is_some()) {
            *heard = self.now;
        }
        let deposed = |place: usize| {
            let own = views[place].as_ref().and_then(|it| it.mark.as_ref()).map_or(0, |it| it.epoch);
            let marks = views.iter().flatten().filter_map(|it| it.mark.as_ref());
            let name = format!("n{place}");
            marks.into_iter().any(|it| it.deposes() && it.former == name && it.epoch > own)
        };
        let claims = (0..)
            .zip(&views)
            .filter_map(|(place, it)| Some((place, it.as_ref().filter(|it| !it.in_recovery)?.timeline)));
        for (place, timeline) in claims.filter(|(place, _)| !deposed(*place)) {
            if self.accepted.is_none_or(|(_, accepted)| timeline > accepted) {
                self.accepted = Some((place, timeline));
            }
        }
        let accepted = self.accepted;
        let primary = accepted.is_some_and(|(node, timeline)| {
            let claims = |it: &View| !it.in_recovery && it.timeline == timeline;
            self.now.saturating_sub(self.heard[node]) < DOWN
                && !deposed(node)
                && views[node].as_ref().is_none_or(claims)
        });
        let down = accepted.is_some_and(|(node, _)| self.now.saturating_sub(self.heard[node]) >= DOWN);
        let mut round = Round { now: Tick(self.now), accepted, primary, down, term: None, views: &views };
        let idle = self.leads[1 - self.holder].step(&round);
        assert!(idle.iter().all(|it| matches!(it, Act::Tell(_) | Act::Open)), "who has no mandate does {idle:?}");
        round.term = Some(self.term);
        for act in self.leads[self.holder].step(&round) {
            self.tell(|| format!("{act:?}"));
            match act {
                Act::Close { .. } => self.open = false,
                Act::Open => self.open = true,
                Act::Tell(_) | Act::Fence(_) => {}
                act => {
                    // At once mostly, later now and then.
                    let late = if self.chance.random_range(0..5) == 0 { self.chance.random_range(0..4000) } else { 0 };
                    self.asked.push(Asked { at: self.now + late * MILLI, act });
                }
            }
        }
    }

    /// What was asked for comes to servers, unless it is lost.
    fn carry_out(&mut self) -> Result<(), String> {
        let (due, later) = self.asked.drain(..).partition::<Vec<Asked>, _>(|it| it.at <= self.now);
        self.asked = later;
        for Asked { act, .. } in due {
            let (Act::Recruit(node, _) | Act::Appoint(node, ..) | Act::Promote(node, _) | Act::Follow { node, .. }) =
                &act
            else {
                continue;
            };
            let node = *node;
            if !self.runs(node) || self.cuts[node][self.servers.len()] || self.chance.random_range(0..8) == 0 {
                continue;
            }
            let halfway = self.chance.random_range(0..8) == 0;
            let (Act::Recruit(_, mark)
            | Act::Appoint(_, mark, _)
            | Act::Promote(_, mark)
            | Act::Follow { mark: Some(mark), .. }) = &act
            else {
                self.follow(node, act, halfway);
                continue;
            };
            // Whoever comes with an earlier number than somebody has left there is turned away.
            if self.servers[node].mark.as_ref().is_some_and(|it| it.epoch > mark.epoch) {
                continue;
            }
            let server = &mut self.servers[node];
            match act {
                Act::Recruit(_, mark) if !server.primary => {
                    server.mark = Some(mark);
                    server.severed |= !halfway;
                }
                Act::Appoint(_, mark, names) if !server.primary => {
                    server.names = names;
                    if !halfway {
                        server.mark = Some(mark);
                    }
                }
                Act::Promote(_, mark) if !server.primary && server.mark == Some(mark.clone()) => self.promote(node)?,
                act => self.follow(node, act, halfway),
            }
        }
        Ok(())
    }

    fn follow(&mut self, node: usize, act: Act, halfway: bool) {
        let server = &mut self.servers[node];
        if let Act::Follow { of, mark, readdress, .. } = act
            && !server.primary
        {
            server.severed = false;
            if readdress {
                server.follows = of;
            }
            if !halfway {
                server.mark = mark;
            }
        }
    }

    fn promote(&mut self, place: usize) -> Result<(), String> {
        let (branch, wal) = (self.servers[place].branch, self.servers[place].wal);
        if let Some((of, at)) = self.acknowledged.iter().find(|(of, at)| !self.has(branch, wal, *of, *at)) {
            return Err(format!("{place} is promoted at {wal} of branch {branch}, and lacks {at} of {of}"));
        }
        let timeline = self.branches[branch].timeline + 1;
        if self.branches.iter().any(|it| it.timeline == timeline) {
            return Err(format!("{place} is promoted to timeline {timeline}, which another has begun"));
        }
        self.branches.push(Branch { parent: Some((branch, wal)), timeline });
        let server = &mut self.servers[place];
        (server.primary, server.branch) = (true, self.branches.len() - 1);
        self.promoted += 1;
        self.tell(|| format!("{place} is promoted: timeline {timeline}"));
        Ok(())
    }

    fn run_for(&mut self, span: u64, unrest: bool) -> Result<(), String> {
        let end = self.now + span;
        let mut round = self.now;
        while self.now < end {
            self.now += self.chance.random_range(20..60) * MILLI;
            if unrest && self.chance.random_range(0..25) == 0 {
                self.disturb();
            }
            if unrest && self.chance.random_range(0..200) == 0 {
                self.mend();
                self.tell(|| "all is mended for a while".to_owned());
            }
            if self.chance.random_range(0..40) == 0 {
                self.rebuild();
            }
            self.live()?;
            if self.now >= round {
                round = self.now + ROUND;
                self.round();
            }
            self.carry_out()?;
        }
        Ok(())
    }

    fn mend(&mut self) {
        self.servers.iter_mut().for_each(|it| (it.up, it.frozen) = (true, false));
        self.cuts.iter_mut().flatten().for_each(|it| *it = false);
    }

    fn run(&mut self) -> Result<(), String> {
        self.run_for(2000 * MILLI, false)?;
        self.run_for(UNREST, true)?;
        self.mend();
        self.tell(|| "all is well".to_owned());
        self.run_for(CALM, false)?;
        let there = self.accepted.is_some_and(|(node, _)| self.servers[node].primary);
        if there && self.open {
            Ok(())
        } else {
            Err(format!("at the end {:?} is accepted, open: {}", self.accepted, self.open))
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|it| it.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn whoever_is_promoted_has_what_was_acknowledged() {
    let only = number("SHARDWAY_HISTORY");
    let count = number("SHARDWAY_HISTORIES").unwrap_or(150);
    let mut promoted = 0;
    for seed in only.map_or(0..count, |it| it..it + 1) {
        let mut world = World::new(seed, only.is_some());
        if let Err(wrong) = world.run() {
            let told = world.told.unwrap_or_default();
            panic!("{told}history {seed} at {} ms: {wrong}; SHARDWAY_HISTORY={seed} tells it all", world.now / MILLI);
        }
        promoted += world.promoted;
    }
    println!("{count} histories, {promoted} promotions");
    assert!(only.is_some() || promoted as u64 > count / 5, "{promoted} promotions");
}
