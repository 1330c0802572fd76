//! What the messages between two Syncs are together: on a server, one transaction, unless COMMIT or ROLLBACK ends it.
//!
//! The session's own commands take their part in it: they are said in the extended protocol, without a Sync, so that
//! what came before them is not committed by them, and a later error undoes them too.

use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::backend::Settings;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Outcome;
use crate::exec::flight::Show;
use crate::exec::say;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan::Access;
use crate::plan::Command;
use crate::plan::Effects;
use crate::plan::Modes;
use crate::plan::Planned;
use crate::session::End;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::close_items;
use crate::session::extended::Portal;
use crate::session::extended::Reached;
use crate::session::prepared::Prepared;
use crate::session::simple::Place;
use crate::session::transaction::Kind;

/// What is known of the batch that the client is sending.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// A command of the session's own is being executed: what it says goes in the extended protocol.
    pub(super) extended: bool,
    /// Something has been executed in the batch's transaction.
    pub(super) ran: bool,
    /// A server has raised an error.
    pub(super) failed: bool,
    /// What is said of settings waits for the end of the batch, or of the statements of one Query.
    pub(super) quiet: bool,
    /// Settings have changed of which the client is told with ReadyForQuery.
    pub(super) unreported: bool,
    /// The session's settings before the batch's transaction changed them.
    pub(super) before: Option<Arc<Settings>>,
    /// What has been executed and suffers nothing behind it in the same transaction.
    pub(super) last: Option<&'static str>,
    /// It has taken numbers from a server's sequences.
    pub(super) drew: bool,
    /// The shards that statements before a Sync have used.
    pub(super) used: ShardSet,
    /// The shard whose now() has been used.
    pub(super) clock: Option<ShardId>,
    /// DDL on several shards, which is done when it is known that nothing comes behind it.
    pub(super) held: Option<(Rc<Prepared>, Rc<Planned>)>,
}

impl Batch {
    /// Forgets what its transaction, which is over, has used.
    pub(super) fn is_over(&mut self) {
        (self.clock, self.drew) = (None, false);
        if !self.used.is_empty() {
            self.used = ShardSet::none();
        }
    }

    /// Whether there is anything that its end has to look after.
    pub(super) fn is_begun(&self) -> bool {
        self.ran || self.unreported || self.before.is_some() || self.last.is_some() || self.held.is_some()
    }
}

/// What a message changed before its answer is known.
#[derive(Debug)]
pub(super) enum Undo {
    /// A named statement, and what had the name before.
    Statement(Box<str>, Option<Rc<Prepared>>),
    /// The unnamed statement before.
    Unnamed(Option<Rc<Prepared>>),
    /// A portal, and what had the name before.
    Portal(Box<str>, Option<Portal>),
}

/// What became of a Query that stands within a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    /// It is to be run.
    Run,
    /// It is skipped, for the batch has failed before it.
    Skip,
    /// It is refused, which the client is to be told with a ReadyForQuery.
    Refused,
}

impl Session {
    // ── saying ──

    /// Says a command of the proxy's own on links, in the extended protocol, and waits for the answers.
    pub(super) async fn own_extended(&mut self, links: &[u8], sql: &str, show: Show) -> Result<Outcome, Trouble> {
        for at in links {
            self.say_own(*at, sql, show);
        }
        self.fly_own().await
    }

    /// Carries out what [`Self::say_own`] has put together.
    pub(super) async fn fly_own(&mut self) -> Result<Outcome, Trouble> {
        self.say_flush();
        let outcome = self.fly(0, false).await?;
        // A Query's failure is its own.
        self.batch.failed |= self.batch.extended && outcome.failed.is_some();
        Ok(outcome)
    }

    /// Says a command in the extended protocol, under the proxy's own names and without Sync; `show` is for what
    /// Execute answers.
    pub(super) fn say_own(&mut self, at: u8, sql: &str, show: Show) {
        let Some(link) = self.links.get_mut(usize::from(at)) else { return };
        link.unsynced = true;
        if link.say_close_setter() {
            close_items(&mut self.items, &SmallVec::from_slice(&[at]), Show::Nobody);
        }
        say::setter(&mut link.out, sql);
        let around = if show == Show::Caller { Show::Caller } else { Show::Nobody };
        for (expect, show) in [
            (Expect::Parse, around),
            (Expect::Bind, around),
            (Expect::Execute, show),
            (Expect::Close, around),
            (Expect::Close, around),
        ] {
            let prepares = if expect == Expect::Close { say::SETTER_NUMBER } else { 0 };
            self.items.push(Item::Owed { expect, links: SmallVec::from_slice(&[at]), show, prepares });
        }
    }

    /// Says SQL's PREPARE in the extended protocol.
    pub(super) fn say_preparing(&mut self, at: usize, sql: &str, number: u64) {
        let first = self.items.len();
        self.say_own(u8::try_from(at).unwrap_or(u8::MAX), sql, Show::Nobody);
        let execute = self.items.iter_mut().skip(first).find_map(|item| match item {
            Item::Owed { expect: Expect::Execute, prepares, .. } => Some(prepares),
            _ => None,
        });
        if let Some(prepares) = execute {
            *prepares = number;
        }
    }

    /// The places of the links that have been said something since the last Sync.
    pub(super) fn unsynced(&self) -> SmallVec<[u8; 8]> {
        (0_u8..).zip(&self.links).filter(|(_, link)| link.unsynced).map(|(at, _)| at).collect()
    }

    /// Ends the batch so far on every server, where nothing of it has been executed: what comes next commits by itself.
    async fn stand_alone(&mut self) -> Result<(), Trouble> {
        if !self.unsynced().is_empty() {
            self.sync_links(Show::Nobody).await?;
        }
        self.portals.clear();
        if self.skipping || self.batch.failed { Err(Trouble::Failed) } else { Ok(()) }
    }

    /// Sends what was gathered; a server's error in it is this one's failure.
    async fn fly_or_fail(&mut self) -> Result<(), Trouble> {
        if self.fly_batch().await? == Reached::Failed { Err(Trouble::Failed) } else { Ok(()) }
    }

    // ── commands of the session's own ──

    /// Executes a command of the session's own, behind everything that has been answered.
    pub(super) async fn execute_own(&mut self, prepared: &Rc<Prepared>, planned: &Rc<Planned>) -> Result<(), Trouble> {
        self.note_effect();
        let template = Rc::clone(&planned.template);
        let sql = prepared.text.get(planned.range.clone()).unwrap_or_default();
        let command = &template.command;
        let open = self.transaction.is_open();
        match command {
            // A pipeline that writes several shards is no block either.
            Command::SetTransaction(_) | Command::SetConstraints
                if !open || self.transaction.kind == Kind::Implicit =>
            {
                if self.batch.ran {
                    return Err(not_in_pipeline("SET TRANSACTION and SET CONSTRAINTS behind other statements"));
                }
                self.batch.last = Some("statements behind SET TRANSACTION or SET CONSTRAINTS");
            }
            Command::DiscardAll if !open => {
                if self.batch.ran {
                    return Err(within_pipeline("DISCARD ALL"));
                }
                self.stand_alone().await?;
                self.batch.quiet = true;
                let result = self.command(sql, command).await;
                self.batch.quiet = false;
                return result;
            }
            Command::Ddl if !open => {
                let world = self.world()?;
                let several = match planned.plan(&prepared.text, None, &world) {
                    Ok(plan) => self.shards(&plan)?.len() > 1,
                    Err(_) => false,
                };
                // Nobody but this transaction sees what it changes: what comes behind is planned within it.
                if world.database.shards.len() > 1 && !template.effects.outside_transaction {
                    let shards = planned.plan(&prepared.text, None, &world).and_then(|plan| self.shards(&plan))?;
                    if self.may_write_all(&shards).is_ok() {
                        self.span_shards(&shards).await?;
                    }
                }
                let several = several && !self.transaction.is_open();
                if template.effects.outside_transaction && self.batch.ran {
                    return Err(within_pipeline("this command"));
                }
                if several && self.batch.ran {
                    return Err(not_in_pipeline("DDL on several shards behind other statements"));
                }
                if several {
                    self.batch.held = Some((Rc::clone(prepared), Rc::clone(planned)));
                    return Ok(());
                }
                if template.effects.outside_transaction {
                    self.stand_alone().await?;
                    self.ddl(&prepared.text, planned, Place::Among, &world).await?;
                    return Ok(());
                }
            }
            _ => {}
        }
        // What ends a transaction ends the batch so far as well, so that nothing of it is open when that is answered.
        self.batch.extended = !matches!(command, Command::Commit(_) | Command::Rollback(_));
        self.batch.quiet = true;
        let result = match command {
            Command::Ddl => match self.world() {
                Ok(world) => self.ddl(&prepared.text, planned, Place::Among, &world).await.map(|_| ()),
                Err(error) => Err(error.into()),
            },
            _ => self.command(sql, command).await,
        };
        self.batch.extended = false;
        self.batch.quiet = false;
        // A transaction that this ended takes with it what ran before.
        self.batch.ran |= !matches!(command, Command::Begin(_) | Command::Commit(_) | Command::Rollback(_));
        result
    }

    /// DDL on one shard, within the batch's transaction there.
    pub(super) async fn ddl_within(
        &mut self,
        sql: &str,
        effects: &Effects,
        shards: &ShardSet,
    ) -> Result<bool, Trouble> {
        let Some(shard) = shards.only() else { return Ok(false) };
        self.admit(shards, Access::Write, effects)?;
        let at = self.join(shard, Access::Write).await?;
        self.prefix(at);
        if let Some(link) = self.links.get_mut(at) {
            link.wrote = true;
        }
        self.hold_for(effects, &Command::Ddl, at);
        self.say_close_portal(at);
        let outcome = self.own_extended(&[u8::try_from(at).unwrap_or(u8::MAX)], sql, Show::Client).await?;
        if outcome.failed.is_some() {
            return Err(Trouble::Failed);
        }
        self.took_effect(&Command::Ddl, effects, shards).await?;
        Ok(false)
    }

    /// Does what has been held back until it was known what comes next, or refuses it.
    pub(super) async fn settle_held(&mut self, next: u8) -> Result<(), Trouble> {
        let Some((prepared, planned)) = self.batch.held.take() else { return Ok(()) };
        if matches!(next, b'P' | b'B' | b'D' | b'E') {
            return Err(not_in_pipeline("DDL on several shards before other statements"));
        }
        self.fly_or_fail().await?;
        self.stand_alone().await?;
        let world = self.world()?;
        self.ddl(&prepared.text, &planned, Place::Among, &world).await?;
        self.batch.last = Some("statements behind DDL on several shards");
        Ok(())
    }

    /// Refuses what cannot run behind what the batch has executed.
    pub(super) fn may_follow(&self) -> Result<(), Trouble> {
        match self.batch.last {
            Some(what) if !self.transaction.is_open() => Err(not_in_pipeline(what)),
            _ => Ok(()),
        }
    }

    // ── settings ──

    /// Carries the batch out so far and reads back what it changed by set_config: what comes next is said with these
    /// settings, wherever it is said.
    pub(super) async fn learn_settings(&mut self) -> Result<(), Trouble> {
        self.fly_or_fail().await?;
        self.batch.extended = true;
        self.batch.quiet = true;
        self.remember_settings();
        let result = self.read_back().await;
        self.batch.extended = false;
        self.batch.quiet = false;
        result
    }

    /// Notes the session's settings before the batch's transaction changes them.
    pub(super) fn remember_settings(&mut self) {
        if self.batch.extended && !self.transaction.is_open() && self.batch.before.is_none() {
            self.batch.before = Some(Arc::clone(&self.state.settings));
        }
    }

    /// Whether the client must hear of settings when the batch has ended.
    pub(super) fn batch_leaves_settings(&self) -> bool {
        self.batch.unreported
            || !self.transaction.is_open() && (self.batch.before.is_some() || !self.transaction.local.is_empty())
    }

    /// The batch's transaction has ended: SET LOCAL is over, and so is SET if it was rolled back.
    pub(super) fn batch_ended(&mut self, committed: bool) {
        let before = self.batch.before.take();
        self.batch.ran = false;
        self.batch.last = None;
        let over = !self.transaction.is_open() && (before.is_some() || !self.transaction.local.is_empty());
        if over {
            if let Some(before) = before
                && !committed
            {
                self.state.settings = before;
            }
            self.transaction.local = Settings::none();
            self.settings_changed();
        }
        if over || std::mem::take(&mut self.batch.unreported) {
            self.report();
        }
    }

    // ── a Query within a batch ──

    /// A Query came before the Sync of a batch: what the batch has executed and the Query are one transaction, which the
    /// Query ends.
    pub(super) async fn query_within(&mut self) -> Result<Within, End> {
        if self.batch.held.take().is_some() {
            self.batch.ran = true;
            self.batch.last = Some("statements behind DDL on several shards");
        }
        let result = match self.settle_deferred().await {
            Ok(()) if !self.readback.is_empty() => self.learn_settings().await,
            Ok(()) => self.fly_or_fail().await,
            Err(trouble) => Err(trouble),
        };
        if let Err(trouble) = result {
            self.break_off(trouble).await?;
            return Ok(Within::Skip);
        }
        let result = if !self.transaction.is_open() && self.batch.ran {
            self.go_on_by_query().await
        } else {
            self.sync_links(Show::Nobody).await.map(|_| ())
        };
        let result = match result {
            Ok(()) if self.skipping => Err(Trouble::Failed),
            other => other,
        };
        self.skipping = false;
        self.batch_writer = None;
        self.batch.is_over();
        self.batch_flown = false;
        self.batch.failed = false;
        self.items.clear();
        if !self.transaction.is_open() {
            self.portals.clear();
        }
        match result {
            Ok(()) => Ok(Within::Run),
            Err(trouble) => {
                self.tell(trouble)?;
                self.drop_busy();
                Ok(Within::Refused)
            }
        }
    }

    /// One statement in a Query behind a batch: for a server it does not stand in a transaction block, though it shares
    /// the batch's transaction.
    pub(super) fn alone_within(&mut self, sql: &str, command: &Command) -> Result<(), ClientError> {
        let warned = match command {
            Command::Set { local: true, .. } => Some("SET LOCAL"),
            Command::SetTransaction(_) => Some("SET TRANSACTION"),
            Command::SetConstraints => Some("SET CONSTRAINTS"),
            _ => None,
        };
        if let Some(what) = warned {
            self.warn("25P01", &format!("{what} can only be used in transaction blocks"));
        }
        let refused = match command {
            Command::Declare { hold: false, .. } => "DECLARE CURSOR",
            Command::Data if sql.trim_start().get(..5).is_some_and(|word| word.eq_ignore_ascii_case("lock ")) => {
                "LOCK TABLE"
            }
            _ => return Ok(()),
        };
        Err(ClientError::new(
            Code::NoTransaction,
            format_args!("{refused} can only be used in transaction blocks"),
            "BEGIN first.",
        ))
    }

    /// Ends a batch whose Query was refused.
    pub(super) async fn refused_within(&mut self) -> Result<(), End> {
        if self.transaction.kind == Kind::Implicit
            && let Err(trouble) = self.end_implicit(false).await
        {
            self.tell(trouble)?;
        }
        self.batch_ended(false);
        self.batch = Batch::default();
        self.ready().await
    }

    /// Makes the batch's transaction one that the proxy holds open, for the statements of a Query to be run in it.
    async fn go_on_by_query(&mut self) -> Result<(), Trouble> {
        if let Some(what) = self.batch.last {
            return Err(not_in_pipeline(what));
        }
        self.take_up(Kind::Implicit, &Modes::default()).await?;
        let unsynced = self.unsynced();
        if unsynced.is_empty() {
            return Ok(());
        }
        for at in &unsynced {
            if let Some(link) = self.links.get_mut(usize::from(*at)) {
                link.say_sync();
            }
        }
        self.items.push(Item::Owed { expect: Expect::Sync, links: unsynced, show: Show::Nobody, prepares: 0 });
        let outcome = self.fly(0, false).await?;
        if outcome.failed.is_some() { Err(Trouble::Failed) } else { Ok(()) }
    }

    // ── a batch that writes several shards ──

    /// Whether the batch would write more than one shard, with these.
    pub(super) fn would_span(&self, shards: &ShardSet) -> bool {
        shards.len() > 1 || self.batch_writer.is_some_and(|before| !shards.contains(before))
    }

    /// Makes the batch a transaction that the proxy holds open, which Sync ends on all shards or on none.
    pub(super) async fn span_shards(&mut self, shards: &ShardSet) -> Result<(), Trouble> {
        let mut writers: ShardSet = self.batch_writer.into_iter().collect();
        for shard in shards.iter().filter(|it| Some(*it) != self.batch_writer) {
            if !writers.is_empty() {
                self.may_write_too(&writers, shard)?;
            }
            writers.insert(shard);
        }
        if let Some(what) = self.batch.last {
            return Err(not_in_pipeline(what));
        }
        self.fly_or_fail().await?;
        self.take_up(Kind::Implicit, &Modes::default()).await
    }

    // ── what is not known to have happened ──

    /// Takes back what messages changed that a server has refused or skipped: everything from `failed_at` on.
    /// The statement that failed is told by its SQLSTATE.
    pub(super) fn take_back(&mut self, failed_at: usize, sqlstate: [u8; 5]) {
        if let Some(deferred) = self.deferred.take() {
            self.undo.push((usize::MAX, deferred.undo));
        }
        while let Some((item, undo)) = self.undo.pop() {
            if item < failed_at {
                continue;
            }
            // What failed itself has destroyed what it was to replace.
            let skipped = item > failed_at;
            match undo {
                Undo::Unnamed(before) => self.unnamed = before.filter(|_| skipped),
                Undo::Statement(name, before) => match before.filter(|_| skipped) {
                    Some(before) => drop(self.prepared.insert(name, before)),
                    None => drop(self.prepared.remove(&name)),
                },
                // A portal whose making has failed is there, and as failed as its transaction.
                Undo::Portal(..) if !skipped && !NO_PORTAL.contains(&&sqlstate) => {}
                Undo::Portal(name, before) => match before {
                    Some(before) => drop(self.portals.insert(name, before)),
                    None => drop(self.portals.remove(&name)),
                },
            }
        }
    }

    /// A server that skips to the next Sync although none is owed is given one: what came before the statement failed
    /// (a setting, say), and the statement was skipped with it.
    pub(super) async fn resync(&mut self) -> Result<(), Trouble> {
        let skipping: SmallVec<[u8; 8]> =
            (0_u8..).zip(&self.links).filter(|(_, link)| link.skips && !link.unsynced).map(|(at, _)| at).collect();
        for at in &skipping {
            if let Some(link) = self.links.get_mut(usize::from(*at)) {
                link.say_sync();
            }
        }
        let items = [Item::Owed { expect: Expect::Sync, links: skipping.clone(), show: Show::Nobody, prepares: 0 }];
        self.fly_aside(&items).await?;
        for at in skipping {
            if let Some(link) = self.links.get_mut(usize::from(at))
                && link.begun
                && link.status == b'I'
            {
                // The BEGIN was skipped as well.
                link.ended(false);
            }
        }
        Ok(())
    }
}

/// Errors of Bind that come before there is a portal.
const NO_PORTAL: [&[u8; 5]; 4] = [b"08P01", b"26000", b"25P02", b"42P03"];

fn not_in_pipeline(what: &str) -> Trouble {
    ClientError::unsupported(
        format_args!("{what} in one pipeline without BEGIN is not supported"),
        "Send a Sync between them, or BEGIN first.",
    )
    .into()
}

fn within_pipeline(what: &str) -> Trouble {
    ClientError::new(
        Code::InTransaction,
        format_args!("{what} cannot be executed within a pipeline"),
        "Send a Sync before it.",
    )
    .into()
}
