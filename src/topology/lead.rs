//! What is seen of a shard's servers → what is done so that one of them takes the place of a primary that is gone, and no write
//! that was acknowledged is lost (design §9, `failover: {by: shardway}`). Pure: views and moments go in, acts come out.
//!
//! Nothing depends on how an act ended: the next views tell, and what they lack is done again. How far a failover has come
//! stands on the servers (`mark`), so that whoever begins where another died goes on.
//!
//! 1. *Suspect*: the primary has been down for `PATIENCE`, and no replica hears from it either.
//! 2. *Recruit*: standbys are cut off from it, so many that it cannot acknowledge anything any more and that one of them has
//!    whatever it has acknowledged: of N standbys of which it needs k, any N − k + 1.
//! 3. *Choose* the one that has most, once each has replayed all that it received. From here there is no way back: promoting
//!    it may have begun, whatever was answered, so nobody else is.
//! 4. *Promote* it, have the others follow it, and open it for writes once as many of them confirm as it needs.
//!
//! Until 3, a primary that is there again ends it all: who was recruited follows it as before.
//!
//! Of several processes one leads at a time, and the others watch as it does. What one asked for before another was given the lead
//! may still come to servers. So whoever has not led since the primary was last there takes it that something has begun: all other
//! standbys have to be there, and its number is higher than any that could have been used.

pub(super) mod carry;
pub(super) mod check;
pub mod mandate;
pub(super) mod mark;
#[cfg(test)]
mod simulation;
pub(super) mod standbys;

use std::sync::Arc;
use std::time::Duration;

use super::freshness::Lsn;
use crate::clock::Tick;
use mark::Mark;
use mark::Step;
use standbys::Policy;

pub use carry::run;

/// What a standby hears from whom it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiver {
    /// It receives from nobody.
    Gone,
    /// It has heard nothing for longer than its primary would be silent.
    Silent,
    /// It receives.
    Streaming,
}

/// What one server says of itself, in one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// What it hears.
    pub receiver: Receiver,
    /// It has no receiver, not even one that begins, and has replayed all that it has.
    pub at_rest: bool,
    /// What it writes, or the latest that it has received anything of.
    pub timeline: u32,
    /// The furthest that it has received or replayed.
    pub position: Lsn,
    /// Its part in the latest failover.
    pub mark: Option<Mark>,
    /// Why it can take no part in one.
    pub unfit: Option<&'static str>,
    /// It is told to receive from nobody.
    pub severed: bool,
    /// The name that it confirms under.
    pub name: String,
    /// `synchronous_standby_names`.
    pub names: String,
    /// Of a primary: no other proxy leads here.
    pub is_ours: bool,
}

/// Everything that is known at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round<'a> {
    /// The moment.
    pub now: Tick,
    /// The primary that was accepted last, and its timeline.
    pub accepted: Option<(usize, u32)>,
    /// It is the primary, and answers.
    pub primary: bool,
    /// It has failed so many probes that it is down.
    pub down: bool,
    /// The number of the mandate to lead; `None`: this process only watches.
    pub term: Option<u64>,
    /// The servers that answered just now.
    pub views: &'a [Option<View>],
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// No statement goes to a primary from now on. `covered`: what was acknowledged will not be lacking.
    Close {
        /// Who was the primary.
        former: usize,
        /// Whether commits waited for standbys.
        covered: bool,
    },
    /// Statements go to the primary again.
    Open,
    /// Runs the map's command against that node.
    Fence(usize),
    /// Cuts a standby off from whom it follows.
    Recruit(usize, Mark),
    /// Prepares a standby to be promoted: who has to confirm its commits, then the mark.
    Appoint(usize, Mark, String),
    /// Promotes it, if it still has that mark.
    Promote(usize, Mark),
    /// Has a standby follow another server, and carry that mark, or none.
    Follow {
        /// Which.
        node: usize,
        /// Whom.
        of: usize,
        /// What it carries then.
        mark: Option<Mark>,
        /// Whether it is given that one's address; else it has the one from before back.
        readdress: bool,
    },
    /// Something that people should know.
    Tell(Told),
}

/// What is told of a failover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// A failure of this primary would not be led.
    Refused(String),
    /// It would be led.
    Ready {
        /// Who is the primary.
        node: usize,
        /// How many standbys would have to be cut off from it.
        need: usize,
        /// Out of how many; 0: commits wait for nobody.
        of: usize,
    },
    /// It has begun.
    Began {
        /// The primary that is down.
        former: usize,
        /// Which failover.
        epoch: u64,
        /// How many standbys have to be cut off from it.
        need: usize,
        /// Out of how many; 0: commits wait for nobody.
        of: usize,
        /// Where another process had left it.
        resumed: bool,
    },
    /// It cannot go on, or not begin.
    Lacking(String),
    /// The primary is back, and nothing has changed.
    Undone(usize),
    /// Who has most.
    Chosen {
        /// Which.
        node: usize,
        /// Its timeline.
        timeline: u32,
        /// The end of what it has.
        position: Lsn,
        /// Who has to confirm its commits.
        names: String,
        /// These are fewer than had to before.
        fewer: bool,
    },
    /// It is over.
    Opened(usize),
}

/// What a primary's acknowledgements wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sync {
    policy: Option<Policy>,
    /// The nodes that are named.
    members: Vec<usize>,
}

impl Sync {
    /// How many of the members have to be cut off.
    fn need(&self) -> usize {
        let Some(policy) = &self.policy else { return 0 };
        (self.members.len() + 1).saturating_sub(policy.count).max(1)
    }
}

/// What is known of the primary that is there.
#[derive(Clone, Debug)]
struct Learned {
    node: usize,
    timeline: u32,
    sync: Sync,
    names: String,
    /// Where it was when this was first seen: under other names, fewer or others may have confirmed what lies before.
    base: Lsn,
    /// As many as have to confirm have all of that by now, so that of any N − k + 1 one has.
    sure: bool,
    /// The mandate that this was seen under last, if this process had one: nobody else has begun anything since.
    term: Option<u64>,
}

#[derive(Clone, Debug)]
struct Failover {
    former: usize,
    timeline: u32,
    sync: Sync,
    names: String,
    epoch: u64,
    since: Tick,
    /// It goes on from what was found on servers: then nobody may be missing.
    resumed: bool,
    /// Whether the map's command has been run, and has succeeded.
    fenced: Option<bool>,
    fence_asked: Option<Tick>,
    /// What each standby that is cut off said last.
    looks: Vec<Option<(u32, Lsn)>>,
    recruited: Vec<bool>,
    /// Who is promoted, and who has to confirm its commits.
    chosen: Option<(usize, String)>,
}

/// One shard's failovers.
#[derive(Debug)]
pub(super) struct Lead {
    names: Vec<Arc<str>>,
    /// The map has a command that stops a machine.
    fences: bool,
    /// The name that each node was last known to confirm under.
    confirms_as: Vec<Option<String>>,
    epoch: u64,
    learned: Option<Learned>,
    silent_since: Option<Tick>,
    failover: Option<Failover>,
    told: Option<Told>,
    /// The mandate of the round before.
    term: Option<u64>,
}

impl Lead {
    /// Nothing is known of these nodes yet.
    #[must_use]
    pub(super) fn new(names: Vec<Arc<str>>) -> Self {
        let confirms_as = names.iter().map(|_| None).collect();
        Self {
            names,
            fences: false,
            confirms_as,
            epoch: 0,
            learned: None,
            silent_since: None,
            failover: None,
            told: None,
            term: None,
        }
    }

    /// Whether the map has a command that stops a machine.
    pub(super) fn may_fence(&mut self, fences: bool) {
        self.fences = fences;
    }

    /// Whether a failover is under way.
    #[must_use]
    pub(super) fn is_busy(&self) -> bool {
        self.failover.is_some()
    }

    /// Whose failover keeps the shard closed, and whether what it acknowledged will be there.
    #[must_use]
    pub(super) fn closes(&self) -> Option<(usize, bool)> {
        self.failover.as_ref().map(|it| (it.former, it.sync.policy.is_some()))
    }

    /// Takes in how the map's command ended.
    pub(super) fn fenced(&mut self, node: usize, succeeded: bool) {
        if let Some(it) = self.failover.as_mut().filter(|it| it.former == node) {
            it.fenced = Some(succeeded);
        }
    }

    /// What is to be done next.
    #[must_use]
    pub(super) fn step(&mut self, round: &Round<'_>) -> Vec<Act> {
        self.hear(round.views);
        let marks = round.views.iter().flatten().filter_map(|it| it.mark.as_ref());
        self.epoch = marks.map(|it| it.epoch).max().unwrap_or(0).max(self.epoch);
        let mut acts = Vec::new();
        if self.term != round.term {
            self.term = round.term;
            self.silent_since = None;
            // Whoever has the mandate now goes on, by what the servers say.
            if self.failover.take().is_some() {
                acts.push(Act::Open);
            }
        }
        // Whoever is chosen may have been promoted: its predecessor's return changes nothing any more.
        let decided = |it: &Failover| it.chosen.is_some() && round.accepted.is_some_and(|(node, _)| node == it.former);
        match round.accepted {
            Some((node, timeline)) if round.primary && !self.failover.as_ref().is_some_and(decided) => {
                self.settle(round, node, timeline, &mut acts);
            }
            _ if round.term.is_some() => self.fail_over(round, &mut acts),
            _ => {}
        }
        acts
    }

    /// How many standbys would have to be cut off from `primary`; 0: its commits wait for nobody.
    ///
    /// # Errors
    /// Why its failure would not be led.
    pub(super) fn outlook(&mut self, primary: usize, views: &[Option<View>]) -> Result<usize, String> {
        self.hear(views);
        let names = views.get(primary).and_then(Option::as_ref).map_or("", |it| &it.names);
        Ok(self.sync_of(primary, names)?.need())
    }

    fn hear(&mut self, views: &[Option<View>]) {
        for (known, view) in self.confirms_as.iter_mut().zip(views) {
            if let Some(view) = view {
                *known = Some(view.name.clone());
            }
        }
    }

    fn name(&self, node: usize) -> &str {
        self.names.get(node).map_or("", |it| it)
    }

    fn tell(&mut self, told: Told, acts: &mut Vec<Act>) {
        if self.told.as_ref() != Some(&told) {
            self.told = Some(told.clone());
            acts.push(Act::Tell(told));
        }
    }

    // ── there is a primary ──

    /// Learns what its failure would mean, has everybody follow it, and opens it.
    fn settle(&mut self, round: &Round<'_>, node: usize, timeline: u32, acts: &mut Vec<Act>) {
        self.silent_since = None;
        let Some(view) = view(round, node).filter(|it| !it.in_recovery) else { return };
        self.learn(round, view, (node, timeline), acts);
        // Who only watches changes nothing.
        if !view.is_ours || round.term.is_none() {
            return;
        }
        let latest = round.views.iter().flatten().filter_map(|it| it.mark.as_ref()).map(|it| it.epoch).max();
        let led = view.mark.as_ref().filter(|it| Some(it.epoch) == latest && it.chooses(self.name(node)));
        let wanted =
            led.map(|it| Mark { step: Step::Follows(self.name(node).to_owned()), names: String::new(), ..it.clone() });
        for (place, of) in standbys(round, node) {
            let follows = match (&wanted, &of.mark) {
                (Some(wanted), mark) => mark.as_ref() == Some(wanted),
                (None, Some(mark)) => matches!(mark.step, Step::Follows(_)),
                (None, None) => true,
            };
            if (follows && !of.severed) || of.unfit.is_some() {
                continue;
            }
            if wanted.is_none() && !self.may_undo(round, of.mark.as_ref(), node) {
                let why = "another process has cut off standbys, and may have chosen one that does not answer";
                self.tell(Told::Lacking(why.to_owned()), acts);
                continue;
            }
            let streams = of.receiver == Receiver::Streaming && of.timeline == timeline && !of.severed;
            let back = wanted.is_none() && of.mark.as_ref().is_none_or(|it| it.former == self.name(node));
            acts.push(Act::Follow { node: place, of: node, mark: wanted.clone(), readdress: !streams && !back });
        }
        let Some(failover) = &self.failover else { return };
        if failover.former == node {
            self.tell(Told::Undone(node), acts);
        } else if is_confirmed(round, node, timeline, &view.names) {
            self.tell(Told::Opened(node), acts);
        } else {
            let names = view.names.clone();
            let why = format!("its commits wait for {names}, and not enough of them follow it yet");
            return self.tell(Told::Lacking(why), acts);
        }
        self.failover = None;
        acts.push(Act::Open);
    }

    /// Whether nobody can have been chosen in the failover that a standby has been cut off for.
    fn may_undo(&self, round: &Round<'_>, mark: Option<&Mark>, primary: usize) -> bool {
        let Some(mark) = mark else { return true };
        let ours = self.failover.as_ref().is_some_and(|it| it.former == primary && it.epoch == mark.epoch);
        let there = |(node, it): (usize, &Option<View>)| it.is_some() || self.name(node) == mark.former;
        ours || (0..).zip(round.views).all(there)
    }

    fn learn(&mut self, round: &Round<'_>, view: &View, (node, timeline): (usize, u32), acts: &mut Vec<Act>) {
        // Of several that are elected, whoever led before holds a server for a moment longer.
        let refused = if view.is_ours || round.term != Some(0) {
            None
        } else {
            Some("another proxy leads this shard".to_owned())
        };
        let sync = refused.map_or_else(|| self.sync_of(node, &view.names), Err);
        // The other proxies know nothing of a failover before its end.
        let sync = match sync {
            Ok(it) if it.policy.is_none() && !self.fences && round.term != Some(0) => {
                Err("commits wait for nobody, and other proxies may write to a primary that is being succeeded: set \
                 synchronous_standby_names there, or `failover.fence` in the map"
                    .to_owned())
            }
            sync => sync,
        };
        match sync {
            Ok(sync) => {
                let past = self.learned.take().filter(|it| (it.node, it.timeline, &it.sync) == (node, timeline, &sync));
                let led = past.as_ref().and_then(|it| it.term);
                let (base, was_sure) = past.map_or((view.position, false), |it| (it.base, it.sure));
                let has = |it: &usize| {
                    let of = super::lead::view(round, *it);
                    of.is_some_and(|it| it.in_recovery && it.timeline == timeline && it.position >= base)
                };
                let count = sync.policy.as_ref().map_or(0, |it| it.count);
                let sure = was_sure || sync.members.iter().filter(|it| has(it)).count() >= count;
                if sure && !was_sure {
                    self.tell(Told::Ready { node, need: sync.need(), of: sync.members.len() }, acts);
                }
                let (names, term) = (view.names.clone(), if view.is_ours { round.term } else { led });
                self.learned = Some(Learned { node, timeline, sync, names, base, sure, term });
            }
            Err(why) => {
                self.learned = None;
                self.tell(Told::Refused(why), acts);
            }
        }
    }

    /// Which nodes can confirm what `primary` commits.
    fn sync_of(&self, primary: usize, names: &str) -> Result<Sync, String> {
        let Some(policy) = Policy::read(names)? else { return Ok(Sync { policy: None, members: Vec::new() }) };
        if policy.is_open() {
            return Err(format!(
                "synchronous_standby_names '{names}' lets anybody confirm: name the shard's nodes in it"
            ));
        }
        let mut members = Vec::new();
        for name in &policy.names {
            let bears = |known: &Option<String>| known.as_ref().is_some_and(|it| it.eq_ignore_ascii_case(name));
            let bearers = (0..).zip(&self.confirms_as).filter(|(node, it)| *node != primary && bears(it));
            match *bearers.map(|(node, _)| node).collect::<Vec<usize>>() {
                [node] => members.push(node),
                [] if self.is_of(primary, name) => {}
                [] => {
                    let unheard = (0..).zip(&self.confirms_as).any(|(node, it)| node != primary && it.is_none());
                    let why =
                        if unheard { "and not every node has been heard yet" } else { "which no node of the map has" };
                    return Err(format!("synchronous_standby_names has \"{name}\", {why}"));
                }
                _ => {
                    return Err(format!(
                        "several nodes confirm under the name \"{name}\" of synchronous_standby_names"
                    ));
                }
            }
        }
        members.sort_unstable();
        members.dedup();
        Ok(Sync { policy: Some(policy), members })
    }

    fn is_of(&self, node: usize, name: &str) -> bool {
        let known = self.confirms_as.get(node).and_then(Option::as_ref);
        self.name(node).eq_ignore_ascii_case(name) || known.is_some_and(|it| it.eq_ignore_ascii_case(name))
    }

    // ── there is none ──

    fn fail_over(&mut self, round: &Round<'_>, acts: &mut Vec<Act>) {
        if self.failover.is_none() {
            let begun = self.begin(round, acts);
            let Some(failover) = begun else { return };
            self.epoch = failover.epoch;
            acts.push(Act::Close { former: failover.former, covered: failover.sync.policy.is_some() });
            let (need, of) = (failover.sync.need(), failover.sync.members.len());
            let told =
                Told::Began { former: failover.former, epoch: failover.epoch, need, of, resumed: failover.resumed };
            self.failover = Some(failover);
            self.tell(told, acts);
        }
        let Some(mut failover) = self.failover.take() else { return };
        if self.fences && failover.fence_is_due(round.now) {
            failover.fence_asked = Some(round.now);
            acts.push(Act::Fence(failover.former));
        }
        if failover.chosen.is_none() {
            self.recruit(&mut failover, round, acts);
        }
        if failover.chosen.is_some() {
            self.promote(&failover, round, acts);
        }
        self.failover = Some(failover);
    }

    /// Whether it is time, and there is enough to go by.
    fn begin(&mut self, round: &Round<'_>, acts: &mut Vec<Act>) -> Option<Failover> {
        let known = self.learned.clone().filter(|it| it.sure && round.accepted == Some((it.node, it.timeline)));
        let failover = match known {
            Some(known) if round.down => self.decided(round).or_else(|| self.fresh(round, &known, acts)),
            Some(_) => self.decided(round),
            None => self.decided(round).or_else(|| self.resumed(round)),
        };
        let Some(mut failover) = failover else {
            self.silent_since = None;
            return None;
        };
        let since = *self.silent_since.get_or_insert(round.now);
        failover.since = round.now;
        (round.now.since(since) >= PATIENCE).then_some(failover)
    }

    /// The failover of a primary that this process knows.
    fn fresh(&mut self, round: &Round<'_>, known: &Learned, acts: &mut Vec<Act>) -> Option<Failover> {
        let mut replicas = standbys(round, known.node).peekable();
        replicas.peek()?;
        if view(round, known.node).is_some() || replicas.any(|(_, it)| it.receiver == Receiver::Streaming) {
            return None;
        }
        let led = known.term == round.term;
        // Who led before may have used the next one, and may have asked for what has not come to the servers yet. Numbers of
        // mandates grow, too.
        let epoch = if led { self.epoch + 1 } else { self.epoch + 2 }.max(round.term.unwrap_or(0));
        let failover =
            self.failover_of((known.node, known.timeline), known.sync.clone(), known.names.clone(), epoch, !led);
        let fit: Vec<usize> = fit(round, known.node).map(|(node, _)| node).collect();
        if let Some(why) = failover.lacks(&fit) {
            self.tell(Told::Lacking(why), acts);
            return None;
        }
        Some(failover)
    }

    /// The failover that another process has left when it had chosen: whoever was cut off then is so until it is over.
    fn decided(&self, round: &Round<'_>) -> Option<Failover> {
        let marked = |(node, it): (usize, &Option<View>)| Some((node, it.as_ref()?.mark.clone()?));
        let latest = || (0..).zip(round.views).filter_map(marked).filter(|(_, it)| it.epoch == self.epoch);
        if latest().any(|(_, it)| matches!(it.step, Step::Follows(_))) {
            return None;
        }
        let (node, mark) = latest().find(|(node, it)| it.chooses(self.name(*node)))?;
        let former = self.names.iter().position(|it| **it == mark.former)?;
        let view = view(round, node).filter(|it| it.in_recovery && it.unfit.is_none())?;
        if former == node || round.accepted.is_some_and(|(it, _)| it != former) {
            return None;
        }
        let sync = self.sync_of(former, &mark.names).unwrap_or(Sync { policy: None, members: Vec::new() });
        let mut failover = self.failover_of((former, mark.timeline), sync, mark.names, mark.epoch, true);
        failover.chosen = Some((node, view.names.clone()));
        Some(failover)
    }

    /// The failover that another process has left before it chose: nobody may be missing, for nothing else is known.
    fn resumed(&self, round: &Round<'_>) -> Option<Failover> {
        let marks = (0..).zip(round.views).filter_map(|(node, it)| Some((node, it.as_ref()?.mark.as_ref()?)));
        let latest: Vec<(usize, &Mark)> = marks.filter(|(_, it)| it.epoch == self.epoch).collect();
        let former = self.names.iter().position(|it| latest.first().is_some_and(|(_, mark)| **it == mark.former))?;
        let (names, timeline) = latest.first().map(|(_, it)| (it.names.clone(), it.timeline))?;
        let others = || (0..).zip(round.views).filter(|(node, _)| *node != former);
        let there = |it: &Option<View>| it.as_ref().is_some_and(|it| it.in_recovery && it.unfit.is_none());
        let agree = latest.iter().all(|(_, it)| it.former == self.name(former) && it.names == names);
        let begun = latest.iter().all(|(_, it)| it.step == Step::Recruited);
        let known = round.accepted.is_none_or(|(node, _)| node == former);
        let streams = |it: &Option<View>| it.as_ref().is_some_and(|it| it.receiver == Receiver::Streaming);
        let gone = view(round, former).is_none() && !others().any(|(_, it)| streams(it));
        if !(agree && begun && known && gone && others().all(|(_, it)| there(it))) {
            return None;
        }
        let sync = self.sync_of(former, &names).ok()?;
        // What another process may still ask for under the former number is asked in vain under another.
        let epoch = (self.epoch + 1).max(round.term.unwrap_or(0));
        Some(self.failover_of((former, timeline), sync, names, epoch, true))
    }

    fn failover_of(
        &self,
        (former, timeline): (usize, u32),
        sync: Sync,
        names: String,
        epoch: u64,
        resumed: bool,
    ) -> Failover {
        Failover {
            former,
            timeline,
            sync,
            names,
            epoch,
            since: Tick::NEVER,
            resumed,
            fenced: None,
            fence_asked: None,
            looks: vec![None; self.names.len()],
            recruited: vec![false; self.names.len()],
            chosen: None,
        }
    }

    /// Cuts off whoever can be, and chooses once that is enough.
    fn recruit(&mut self, failover: &mut Failover, round: &Round<'_>, acts: &mut Vec<Act>) {
        let mark = Mark {
            epoch: failover.epoch,
            step: Step::Recruited,
            former: self.name(failover.former).to_owned(),
            timeline: failover.timeline,
            names: failover.names.clone(),
        };
        failover.recruited.iter_mut().for_each(|it| *it = false);
        let mut waits = false;
        for (node, view) in fit(round, failover.former) {
            let (Some(look), Some(recruited)) = (failover.looks.get_mut(node), failover.recruited.get_mut(node)) else {
                continue;
            };
            if !view.severed || view.mark.as_ref() != Some(&mark) {
                *look = None;
                waits = true;
                acts.push(Act::Recruit(node, mark.clone()));
                continue;
            }
            // One look may fall between two turns of its startup process.
            let now = Some((view.timeline, view.position)).filter(|_| view.at_rest && view.receiver == Receiver::Gone);
            *recruited = now.is_some() && *look == now;
            *look = now;
            waits |= !*recruited;
        }
        let recruited: Vec<usize> = (0..).zip(&failover.recruited).filter(|(_, it)| **it).map(|(it, _)| it).collect();
        let patient = round.now.since(failover.since) < STRAGGLERS;
        if let Some(why) = failover.lacks(&recruited) {
            if !patient {
                self.tell(Told::Lacking(why), acts);
            }
            return;
        }
        // Somebody may have more than those who are enough, and would have to be rebuilt.
        if waits && patient {
            return;
        }
        if failover.sync.policy.is_none() && self.fences && failover.fenced != Some(true) {
            if failover.fenced == Some(false) {
                let why = "commits waited for nobody, and the map's command has not stopped the former primary";
                self.tell(Told::Lacking(why.to_owned()), acts);
            }
            return;
        }
        let has = |node: &usize| failover.looks.get(*node).copied().flatten();
        // Who has not come to its timeline would begin that one a second time.
        let came =
            recruited.iter().copied().filter(|it| has(it).is_some_and(|(timeline, _)| timeline >= failover.timeline));
        // Of two that have the same, the one that stands first in the map.
        let Some(node) = came.rev().max_by_key(has) else {
            let why = "no standby has anything of the timeline that the former primary had begun";
            return self.tell(Told::Lacking(why.to_owned()), acts);
        };
        let Some((timeline, position)) = has(&node) else { return };
        let (names, fewer) = self.names_for(failover, node, &recruited);
        failover.chosen = Some((node, names.clone()));
        self.tell(Told::Chosen { node, timeline, position, names, fewer }, acts);
    }

    /// Who has to confirm what that node commits as the primary: those who had to before, without itself and its predecessor,
    /// and no more than there are.
    fn names_for(&self, failover: &Failover, node: usize, recruited: &[usize]) -> (String, bool) {
        let Some(policy) = &failover.sync.policy else { return (String::new(), false) };
        let others = recruited.iter().filter(|it| **it != node && failover.sync.members.contains(it)).count();
        let count = policy.count.min(others).max(1);
        let names = policy.names.iter().filter(|it| !self.is_of(failover.former, it) && !self.is_of(node, it));
        let left = Policy { count, any: policy.any, names: names.cloned().collect() };
        (left.to_string(), count < policy.count || left.names.is_empty())
    }

    /// Has the chosen one promoted, however often that has to be asked for.
    fn promote(&mut self, failover: &Failover, round: &Round<'_>, acts: &mut Vec<Act>) {
        let Some((node, names)) = &failover.chosen else { return };
        let Some(view) = view(round, *node) else {
            let why = format!("\"{}\" was chosen and does not answer: it may have been promoted", self.name(*node));
            return self.tell(Told::Lacking(why), acts);
        };
        // Nothing but to wait until the monitor has heard of it, too.
        if !view.in_recovery {
            return;
        }
        let mark = Mark {
            epoch: failover.epoch,
            step: Step::Chosen(self.name(*node).to_owned()),
            former: self.name(failover.former).to_owned(),
            timeline: failover.timeline,
            names: failover.names.clone(),
        };
        acts.push(if view.mark.as_ref() == Some(&mark) && view.names == *names {
            Act::Promote(*node, mark)
        } else {
            Act::Appoint(*node, mark, names.clone())
        });
    }
}

impl Failover {
    /// Why these standbys are not enough.
    fn lacks(&self, standbys: &[usize]) -> Option<String> {
        let all = self.recruited.len().saturating_sub(1);
        if self.resumed && standbys.len() < all {
            return Some(format!("it goes on where another process ended once all {all} standbys are cut off"));
        }
        if standbys.is_empty() {
            return Some("no standby can be promoted".to_owned());
        }
        let (need, of) = (self.sync.need(), self.sync.members.len());
        let members = standbys.iter().filter(|it| self.sync.members.contains(it)).count();
        (members < need).then(|| {
            format!(
                "of the {of} standbys that may have confirmed writes, {need} have to be cut off, and {members} can be"
            )
        })
    }

    fn fence_is_due(&self, now: Tick) -> bool {
        match (self.fence_asked, self.fenced) {
            (None, _) => true,
            (Some(at), Some(false)) => now.since(at) >= FENCE_AGAIN,
            (Some(_), _) => false,
        }
    }
}

fn view<'a>(round: &Round<'a>, node: usize) -> Option<&'a View> {
    round.views.get(node).and_then(Option::as_ref)
}

fn standbys<'a>(round: &Round<'a>, primary: usize) -> impl Iterator<Item = (usize, &'a View)> {
    let all = (0..).zip(round.views).filter_map(|(node, it)| Some((node, it.as_ref()?)));
    all.filter(move |(node, it)| *node != primary && it.in_recovery)
}

/// Who can be recruited.
fn fit<'a>(round: &Round<'a>, former: usize) -> impl Iterator<Item = (usize, &'a View)> {
    standbys(round, former).filter(|(_, it)| it.unfit.is_none())
}

/// Whether as many follow a primary as have to confirm what it commits.
fn is_confirmed(round: &Round<'_>, node: usize, timeline: u32, names: &str) -> bool {
    let Ok(policy) = Policy::read(names) else { return false };
    let Some(policy) = policy else { return true };
    let named = |it: &View| policy.is_open() || policy.names.iter().any(|name| name.eq_ignore_ascii_case(&it.name));
    let streams = |it: &View| it.receiver == Receiver::Streaming && it.timeline == timeline && !it.severed;
    standbys(round, node).filter(|(_, it)| named(it) && streams(it)).count() >= policy.count
}

/// How long all signs have to agree: a server that crashed and starts again is back sooner.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long standbys are waited for that are more than enough.
const STRAGGLERS: Duration = Duration::from_secs(5);
/// When the map's command is tried again.
const FENCE_AGAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn lead(nodes: usize) -> Lead {
        Lead::new((0..nodes).map(|it| Arc::from(format!("n{it}"))).collect())
    }

    fn primary(names: &str) -> Option<View> {
        Some(View { in_recovery: false, names: names.to_owned(), is_ours: true, ..standby(0, Receiver::Gone).unwrap() })
    }

    fn standby(place: usize, receiver: Receiver) -> Option<View> {
        Some(View {
            in_recovery: true,
            receiver,
            at_rest: receiver == Receiver::Gone,
            timeline: 1,
            position: 100,
            mark: None,
            unfit: None,
            severed: false,
            name: format!("n{place}"),
            names: String::new(),
            is_ours: false,
        })
    }

    fn cut_off(place: usize, position: Lsn, names: &str) -> Option<View> {
        let mark =
            Mark { epoch: 1, step: Step::Recruited, former: "n0".to_owned(), timeline: 1, names: names.to_owned() };
        Some(View { severed: true, position, mark: Some(mark), ..standby(place, Receiver::Gone).unwrap() })
    }

    fn there(lead: &mut Lead, second: u64, views: &[Option<View>]) -> Vec<Act> {
        lead.step(&Round {
            now: Tick(second * SECOND),
            accepted: Some((0, 1)),
            primary: true,
            down: false,
            term: Some(0),
            views,
        })
    }

    fn gone(lead: &mut Lead, second: u64, views: &[Option<View>]) -> Vec<Act> {
        lead.step(&Round {
            now: Tick(second * SECOND),
            accepted: Some((0, 1)),
            primary: false,
            down: true,
            term: Some(0),
            views,
        })
    }

    fn round(second: u64, primary: bool, term: Option<u64>, views: &[Option<View>]) -> Round<'_> {
        Round { now: Tick(second * SECOND), accepted: Some((0, 1)), primary, down: !primary, term, views }
    }

    #[test]
    fn who_only_watches_learns_and_does_nothing() {
        let mut lead = lead(3);
        let names = "ANY 1 (n1, n2)";
        let well = [primary(names), standby(1, Receiver::Streaming), standby(2, Receiver::Streaming)];
        let told = lead.step(&round(0, true, None, &well));
        assert!(matches!(&*told, [Act::Tell(Told::Ready { node: 0, need: 2, of: 2 })]), "{told:?}");
        let lost = [None, standby(1, Receiver::Gone), standby(2, Receiver::Gone)];
        for second in 1..10 {
            assert_eq!(lead.step(&round(second, false, None, &lost)), []);
        }
        // It is given the mandate: what the one before has begun may still come, so all have to be there.
        assert_eq!(lead.step(&round(10, false, Some(40), &lost)), []);
        let one = [None, standby(1, Receiver::Gone), None];
        let acts = lead.step(&round(14, false, Some(40), &one));
        assert!(matches!(&*acts, [Act::Tell(Told::Lacking(_))]), "{acts:?}");
        assert_eq!(lead.step(&round(15, false, Some(40), &lost)), []);
        let acts = lead.step(&round(19, false, Some(40), &lost));
        assert_eq!(recruited(&acts), [1, 2]);
        assert!(acts.iter().any(|it| matches!(it, Act::Recruit(_, mark) if mark.epoch == 40)), "{acts:?}");
        // It loses it.
        assert_eq!(lead.step(&round(20, false, None, &lost)), [Act::Open]);
        assert!(!lead.is_busy());
        assert_eq!(lead.step(&round(30, false, None, &lost)), []);
    }

    #[test]
    fn where_commits_wait_for_nobody_one_of_several_leads_only_with_a_command() {
        let views = [primary(""), standby(1, Receiver::Streaming), standby(2, Receiver::Streaming)];
        for (term, fences, refused) in
            [(Some(0), false, false), (Some(7), false, true), (None, false, true), (Some(7), true, false)]
        {
            let mut lead = lead(3);
            lead.may_fence(fences);
            let acts = lead.step(&round(1, true, term, &views));
            let says = acts.iter().any(|it| matches!(it, Act::Tell(Told::Refused(_))));
            assert_eq!(says, refused, "{term:?} {fences}: {acts:?}");
        }
    }

    #[test]
    fn who_has_not_led_this_primary_takes_it_that_another_has_begun() {
        let mut lead = lead(3);
        let names = "ANY 2 (n1, n2)";
        let well = |ours| {
            let view = primary(names).map(|it| View { is_ours: ours, ..it });
            [view, standby(1, Receiver::Streaming), standby(2, Receiver::Streaming)]
        };
        let one = [None, standby(1, Receiver::Gone), None];
        // The one before it still holds the primary.
        let _ = lead.step(&round(1, true, Some(40), &well(false)));
        for second in 2..9 {
            assert_eq!(recruited(&lead.step(&round(second, false, Some(40), &one))), [0_usize; 0]);
        }
        let _ = lead.step(&round(9, true, Some(40), &well(true)));
        let _ = lead.step(&round(10, false, Some(40), &one));
        assert_eq!(recruited(&lead.step(&round(14, false, Some(40), &one))), [1]);
    }

    fn recruited(acts: &[Act]) -> Vec<usize> {
        acts.iter().filter_map(|it| if let Act::Recruit(node, _) = it { Some(*node) } else { None }).collect()
    }

    fn chosen(acts: &[Act]) -> Option<(usize, &str)> {
        acts.iter().find_map(|it| if let Act::Appoint(node, _, names) = it { Some((*node, &**names)) } else { None })
    }

    fn refusal(names: &str) -> String {
        let mut lead = lead(3);
        let acts =
            there(&mut lead, 1, &[primary(names), standby(1, Receiver::Streaming), standby(2, Receiver::Streaming)]);
        match &*acts {
            [Act::Tell(Told::Refused(why))] => why.clone(),
            _ => format!("{acts:?}"),
        }
    }

    #[test]
    fn only_named_nodes_may_confirm() {
        assert!(refusal("ANY 1 (*)").contains("anybody"));
        assert!(refusal("ANY 1 (n1, x)").contains("no node of the map"));
        assert!(refusal("ANY 1 (n1").contains("not understood"));
        assert!(refusal("ANY 1 (n0, N1, n2)").contains("Ready"), "its own name confirms nothing");
    }

    #[test]
    fn a_failure_is_led_once_all_signs_agree_for_long_enough() {
        let mut lead = lead(3);
        let names = "ANY 1 (n1, n2)";
        let views = [None, standby(1, Receiver::Gone), standby(2, Receiver::Silent)];
        assert_eq!(gone(&mut lead, 1, &views), [], "nothing is known of the primary");
        let _ =
            there(&mut lead, 2, &[primary(names), standby(1, Receiver::Streaming), standby(2, Receiver::Streaming)]);
        let heard = [None, standby(1, Receiver::Gone), standby(2, Receiver::Streaming)];
        assert_eq!(gone(&mut lead, 3, &heard), []);
        assert_eq!(gone(&mut lead, 9, &heard), [], "a replica hears from it");
        assert_eq!(gone(&mut lead, 10, &views), []);
        assert_eq!(gone(&mut lead, 12, &views), []);
        assert_eq!(recruited(&gone(&mut lead, 13, &views)), [1, 2]);
    }

    #[test]
    fn fewer_than_could_have_confirmed_are_not_enough() {
        for (names, led) in
            [("ANY 1 (n1, n2)", false), ("ANY 2 (n1, n2)", true), ("n1, n2", false), ("n1", true), ("", true)]
        {
            let mut lead = lead(3);
            let _ = there(
                &mut lead,
                1,
                &[primary(names), standby(1, Receiver::Streaming), standby(2, Receiver::Streaming)],
            );
            let one = [None, standby(1, Receiver::Gone), None];
            let _ = gone(&mut lead, 2, &one);
            assert_eq!(!recruited(&gone(&mut lead, 6, &one)).is_empty(), led, "{names}");
        }
    }

    /// Three nodes whose primary waited for `names`, from the beginning to when both standbys are cut off.
    fn begun(names: &str) -> Lead {
        let mut lead = lead(3);
        let _ =
            there(&mut lead, 1, &[primary(names), standby(1, Receiver::Streaming), standby(2, Receiver::Streaming)]);
        let views = [None, standby(1, Receiver::Gone), standby(2, Receiver::Gone)];
        let _ = gone(&mut lead, 2, &views);
        assert!(gone(&mut lead, 6, &views).contains(&Act::Close { former: 0, covered: !names.is_empty() }));
        lead
    }

    #[test]
    fn whoever_has_most_is_chosen_when_two_looks_agree() {
        let names = "ANY 1 (n1, n2)";
        let mut lead = begun(names);
        assert_eq!(gone(&mut lead, 7, &[None, cut_off(1, 100, names), cut_off(2, 110, names)]), []);
        assert_eq!(gone(&mut lead, 8, &[None, cut_off(1, 100, names), cut_off(2, 120, names)]), []);
        let views = [None, cut_off(1, 100, names), cut_off(2, 120, names)];
        let acts = gone(&mut lead, 9, &views);
        assert_eq!(chosen(&acts), Some((2, "ANY 1 (\"n1\")")));
        // What it was asked for may have been done, whatever came back.
        let lost = [None, cut_off(1, 500, names), None];
        assert!(matches!(&*gone(&mut lead, 10, &lost), [Act::Tell(Told::Lacking(_))]));
        assert_eq!(
            chosen(&there(&mut lead, 11, &[primary(names), views[1].clone(), views[2].clone()])).map(|it| it.0),
            Some(2)
        );
    }

    #[test]
    fn a_primary_that_is_back_before_that_stays() {
        let mut lead = begun("ANY 1 (n1, n2)");
        let acts = there(&mut lead, 7, &[primary("ANY 1 (n1, n2)"), cut_off(1, 1, ""), cut_off(2, 1, "")]);
        let follow = |node| Act::Follow { node, of: 0, mark: None, readdress: false };
        assert_eq!(acts, [follow(1), follow(2), Act::Tell(Told::Undone(0)), Act::Open]);
    }

    #[test]
    fn who_is_alone_confirms_alone_and_who_is_not_never_does() {
        let mut alone = begun("ANY 2 (n1, n2)");
        let views = [None, cut_off(1, 100, "ANY 2 (n1, n2)"), None];
        for second in 7..12 {
            let _ = gone(&mut alone, second, &views);
        }
        assert_eq!(chosen(&gone(&mut alone, 12, &views)), Some((1, "ANY 1 (\"n2\")")));
        let mut only = begun("n1");
        let views = [None, cut_off(1, 100, "n1"), cut_off(2, 100, "n1")];
        let _ = gone(&mut only, 7, &views);
        assert_eq!(chosen(&gone(&mut only, 8, &views)), Some((1, "")));
    }

    #[test]
    fn without_confirmations_the_command_has_to_succeed_first() {
        let mut lead = begun("");
        lead.may_fence(true);
        let views = [None, cut_off(1, 100, ""), cut_off(2, 100, "")];
        assert!(gone(&mut lead, 7, &views).contains(&Act::Fence(0)));
        assert_eq!(gone(&mut lead, 8, &views), []);
        lead.fenced(0, false);
        assert!(matches!(&*gone(&mut lead, 9, &views), [Act::Tell(Told::Lacking(_))]));
        assert!(gone(&mut lead, 12, &views).contains(&Act::Fence(0)), "it is tried again");
        lead.fenced(0, true);
        assert_eq!(chosen(&gone(&mut lead, 13, &views)), Some((1, "")));
    }
}
