//! Where reads go: how new they must be, and what the session has seen of each shard (docs/consistency.md).
//!
//! Whatever a session has a primary do may be a write, so the floor of a shard is raised behind every command that used its
//! primary; a read that a replica may serve is proven to be one by its plan.

use std::future::Future;
use std::rc::Rc;

use crate::clock;
use crate::clock::Tick;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::Freshness;
use crate::exec::mysql::Link;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan::Access;
use crate::plan::Template;
use crate::plan::mysql_command::Constant;
use crate::plan::mysql_command::Setting;
use crate::plan::mysql_command::Target;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::kill;
use crate::session::mysql::say;
use crate::session::state::consistency_of;
use crate::shard_map::Consistency;
use crate::topology::Entry;
use crate::topology::Floor;
use crate::wire::mysql::result::Failure;

/// What decides where a session's reads go.
#[derive(Debug, Default)]
pub(super) struct Reads {
    floors: Vec<Floor>,
    /// Nothing older than this is shown of any shard.
    since: Tick,
    /// Shards whose primaries have been used, and whose floors have not been raised since.
    used: ShardSet,
    /// `shardway.consistency`, where the session has set it.
    level: Option<Consistency>,
}

impl Reads {
    /// The shards are others now: what was seen was seen on nodes that may be numbered otherwise.
    pub(super) fn elsewhere(&mut self) {
        self.floors.clear();
        self.used = ShardSet::none();
        self.since = clock::now();
    }

    /// As it was at first, but for what has been seen.
    pub(super) fn as_usual(&mut self) {
        self.level = None;
    }

    pub(super) fn floor(&self, shard: ShardId) -> Floor {
        let unseen = Floor { last_write: self.since, ..Floor::default() };
        self.floors.get(shard.index()).copied().unwrap_or(unseen)
    }

    fn floor_mut(&mut self, shard: ShardId) -> Option<&mut Floor> {
        let unseen = Floor { last_write: self.since, ..Floor::default() };
        if self.floors.len() <= shard.index() {
            self.floors.resize(shard.index() + 1, unseen);
        }
        self.floors.get_mut(shard.index())
    }
}

impl Session {
    /// The session's link to a shard's primary, or a new one.
    pub(super) async fn take_link(&mut self, shard: ShardId) -> Result<Link, Trouble> {
        self.note_effect();
        if let Some(place) = self.links.iter().position(|it| it.shard == shard) {
            if self.links.get(place).is_some_and(|it| it.replica) {
                return Err(on_a_replica("this statement").into());
            }
            self.note_use(shard);
            return Ok(self.links.swap_remove(place));
        }
        self.primary_link(shard).await
    }

    /// A link to whichever shard's primary, for what has nothing to do with rows.
    pub(super) async fn any_link(&mut self) -> Result<Link, Trouble> {
        self.note_effect();
        if let Some(place) = self.links.iter().position(|it| !it.replica) {
            let link = self.links.swap_remove(place);
            self.note_use(link.shard);
            return Ok(link);
        }
        let shard = self.any_shard()?;
        self.primary_link(shard).await
    }

    async fn primary_link(&mut self, shard: ShardId) -> Result<Link, Trouble> {
        self.note_use(shard);
        let access = Rc::clone(&self.used()?.access);
        self.given(access.primary(shard, self.entry())).await
    }

    /// Whether it holds connections already, which others may wait for.
    fn entry(&self) -> Entry {
        if self.held.is_empty() { Entry::New } else { Entry::Joins }
    }

    /// A connection that the session has to wait for, unless it is killed meanwhile.
    pub(super) async fn given(&self, waited: impl Future<Output = Result<Link, ClientError>>) -> Result<Link, Trouble> {
        let link = kill::unless_struck(&self.ticket.entry, waited).await.ok_or_else(say::interrupted)??;
        self.held.add(&link);
        Ok(link)
    }

    /// Links to these shards for one statement: to replicas only or to primaries only, unless the transaction has begun on
    /// others.
    pub(super) async fn take_links(&mut self, shards: &[ShardId], template: &Template) -> Result<Vec<Link>, Trouble> {
        let elsewhere = self.may_go_elsewhere(template);
        if elsewhere {
            self.note_read();
        } else {
            self.note_effect();
        }
        let mut links: Vec<Link> = Vec::with_capacity(shards.len());
        for shard in shards {
            let taken = if elsewhere { self.take_fresh(*shard).await } else { self.take_link(*shard).await };
            match taken {
                Ok(link) => links.push(link),
                Err(trouble) => {
                    links.into_iter().for_each(|it| self.keep(it));
                    return Err(trouble);
                }
            }
        }
        let mixed = links.iter().any(|it| it.replica) && links.iter().any(|it| !it.replica);
        for place in 0..if mixed { links.len() } else { 0 } {
            let Some(link) = links.get_mut(place).filter(|it| it.replica && !it.begun && !it.is_within()) else {
                continue;
            };
            let shard = link.shard;
            match self.primary_link(shard).await {
                Ok(primary) => {
                    let replica = std::mem::replace(link, primary);
                    self.keep(replica);
                }
                Err(trouble) => {
                    links.into_iter().for_each(|it| self.keep(it));
                    return Err(trouble);
                }
            }
        }
        Ok(links)
    }

    /// A link that may serve a proven read.
    async fn take_fresh(&mut self, shard: ShardId) -> Result<Link, Trouble> {
        if let Some(place) = self.links.iter().position(|it| it.shard == shard) {
            if self.links.get(place).is_some_and(|it| !it.replica) {
                self.note_use(shard);
            }
            return Ok(self.links.swap_remove(place));
        }
        let access = Rc::clone(&self.used()?.access);
        if !access.has_choice(shard) {
            return self.given(access.primary(shard, self.entry())).await;
        }
        // Of statements before this one in the same command.
        self.raise_floors();
        let fresh = Freshness { consistency: self.consistency(), floor: self.reads.floor(shard) };
        self.given(access.read(shard, fresh, self.entry())).await
    }

    pub(super) fn consistency(&self) -> Consistency {
        let usual = || {
            let of_map = self.used.as_ref().map(|it| it.access.service.database.reads.consistency);
            self.user.consistency.or(of_map).unwrap_or(Consistency::Strong)
        };
        self.reads.level.unwrap_or_else(usual)
    }

    /// Whether the statement is a read that any fresh node may serve, at this moment of the session.
    pub(super) fn may_go_elsewhere(&self, template: &Template) -> bool {
        let effects = &template.effects;
        let harmless = template.access == Access::Read && effects.asks_session.is_none() && template.is_plain();
        // A cursor stays with its connection, and writes must find a primary.
        if self.opening.is_wanted() && !self.links.iter().any(|it| it.replica) {
            return false;
        }
        // What SET TRANSACTION said may be for the next statement alone.
        if !harmless || self.transaction.has_modes() || self.state.is_serializable() {
            return false;
        }
        if self.transaction.is_open() { self.reads_only() } else { self.state.autocommit() && !self.is_within() }
    }

    /// Refuses writes in a READ ONLY transaction that has begun on replicas, which have no say in that.
    pub(super) fn refuse_on_replicas(&self, template: &Template) -> Result<(), Trouble> {
        if template.access != Access::Write || !self.links.iter().any(|it| it.replica) {
            return Ok(());
        }
        match template.tag {
            "INSERT" | "REPLACE" | "UPDATE" | "DELETE" => Err(say::read_only_transaction().into()),
            tag => Err(on_a_replica(tag).into()),
        }
    }

    /// Refuses what writes on several shards where only reads may be, as each of their servers would.
    pub(super) fn refuse_in_read_only(&self) -> Result<(), Failure> {
        if self.reads_only() { Err(say::read_only_transaction()) } else { Ok(()) }
    }

    /// A node has answered.
    pub(super) fn note_answer(&mut self, link: &Link) {
        if let Some(chosen) = link.chosen
            && let Some(floor) = self.reads.floor_mut(link.shard)
        {
            floor.read(chosen, clock::now());
        }
    }

    pub(super) fn note_use(&mut self, shard: ShardId) {
        if self.used.as_ref().is_some_and(|it| it.access.has_choice(shard)) {
            self.reads.used.insert(shard);
        }
    }

    /// What primaries have done for the session so far has been acknowledged: nothing older is shown from now on.
    pub(super) fn raise_floors(&mut self) {
        if self.reads.used.is_empty() {
            return;
        }
        let now = clock::now();
        for shard in std::mem::take(&mut self.reads.used).iter() {
            if let Some(floor) = self.reads.floor_mut(shard) {
                floor.wrote(now);
            }
        }
        // What is open there will be ended by other words.
        let held: Vec<ShardId> = self.links.iter().filter(|it| !it.replica).map(|it| it.shard).collect();
        held.into_iter().for_each(|shard| self.note_use(shard));
    }

    /// SET of the proxy's own settings: true when it was that.
    pub(super) fn set_own(&mut self, settings: &[Setting]) -> Result<bool, ClientError> {
        let own = |it: &Setting| matches!(&it.target, Target::System(_, name) if name.starts_with(OWN));
        if !settings.iter().any(own) {
            return Ok(false);
        }
        for it in settings {
            let (Target::System(_, name), true) = (&it.target, own(it)) else {
                return Err(ClientError::unsupported(
                    "SET of the proxy's settings and of others at once is not supported",
                    "Set them one by one.",
                ));
            };
            let level = match (&**name, &it.constant) {
                ("shardway.consistency", Constant::Default) => None,
                ("shardway.consistency", Constant::Text(value) | Constant::Plain(value)) => {
                    Some(consistency_of(value).ok_or_else(|| {
                        ClientError::new(
                            Code::InvalidSetting,
                            format!("invalid value for \"shardway.consistency\": \"{value}\""),
                            "Allowed: strong, session, bounded, bounded:500ms, eventual.",
                        )
                    })?)
                }
                _ => {
                    return Err(ClientError::new(
                        Code::UnknownSetting,
                        format!("unknown setting \"{name}\", or no constant"),
                        "For MySQL there is shardway.consistency: SET shardway.consistency = 'strong'.",
                    ));
                }
            };
            self.reads.level = level;
        }
        Ok(true)
    }
}

fn on_a_replica(what: &str) -> ClientError {
    ClientError::unsupported(
        format!("{what} in a READ ONLY transaction that has begun on a replica is not supported"),
        "Begin the transaction without READ ONLY, or SET shardway.consistency = 'strong' before it.",
    )
}

/// What names of the proxy's own settings begin with.
const OWN: &str = "shardway.";
