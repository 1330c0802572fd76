//! Queries: each statement of a text in turn, to where its rows are.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::exec::mysql::relay::Ended;
use crate::exec::mysql::relay::Face;
use crate::ident::ShardId;
use crate::plan::Access;
use crate::plan::Command;
use crate::plan::Effects;
use crate::plan::MASK;
use crate::plan::Parameters;
use crate::plan::Plan;
use crate::plan::Planned;
use crate::plan::Template;
use crate::plan::World;
use crate::plan::mysql_state::sets_insert_id;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::command::SETTABLE;
use crate::session::mysql::last::Counts;
use crate::session::mysql::last::counts_of;
use crate::session::mysql::prepared::Bound;
use crate::session::mysql::say;
use crate::session::mysql::split::Inserting;
use crate::tasks;
use crate::wire::mysql::capability;
use crate::wire::mysql::result::Done;

/// A text of one statement as servers are told it: an INSERT without columns names those that it means, so that a table
/// changed meanwhile is the server's error. Comments around the statement are the server's to see.
pub(super) fn spliced<'a>(text: &'a str, planned: &Planned) -> Cow<'a, str> {
    match &planned.template.splice_columns {
        None => Cow::Borrowed(text),
        Some((at, list)) => {
            let (before, behind) = text.split_at_checked(planned.range.start + at).unwrap_or((text, ""));
            Cow::Owned(format!("{before}{list}{behind}"))
        }
    }
}

/// The same for one statement among several.
fn within<'a>(text: &'a str, planned: &Planned) -> Cow<'a, str> {
    let statement = text.get(planned.range.clone()).unwrap_or_default();
    match &planned.template.splice_columns {
        None => Cow::Borrowed(statement),
        Some((at, list)) => {
            let (before, behind) = statement.split_at_checked(*at).unwrap_or((statement, ""));
            Cow::Owned(format!("{before}{list}{behind}"))
        }
    }
}

/// Whether servers are told a statement as it stands.
fn is_passed(planned: &Planned) -> bool {
    planned.template.command == Command::Data && planned.template.splice_columns.is_none()
}

/// A text with one [`MASK`] in the place of each byte that is not UTF-8, so that everything else stands where it stood.
/// One that was there already is taken for another: what holds it is no key either way.
pub(super) fn masked(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| MASK));
    }
    text
}

/// How long a server may take to say whether it would refuse a text, too.
const ASK_MAX: Duration = Duration::from_secs(3);

/// Errors that servers find once tables are open: columns that are ambiguous, unknown, or named twice, aggregates out of
/// place, rows of another length.
pub(super) const OF_OPEN_TABLES: [u16; 5] = [1052, 1054, 1110, 1111, 1136];

/// How long it may take to have a server stop what it does.
pub(super) const KILL: Duration = Duration::from_secs(3);

/// How a statement is said to a server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Saying<'a> {
    /// As text.
    Text(&'a str),
    /// As text that holds bytes of another kind, in strings; what was planned is [`masked`].
    Raw(&'a [u8]),
    /// As a prepared one, with values.
    Bound(&'a Bound<'a>),
}

impl Session {
    /// COM_QUERY. `raw`: the bytes that came, where they are not the text.
    pub(super) async fn query(&mut self, text: &str, raw: Option<&[u8]>) -> Result<(), Trouble> {
        let world = self.world()?;
        // What such a comment sets must be known where the data is on one shard, too.
        if raw.is_none()
            && text.starts_with("/*")
            && let Some(bare) = world.bare(text)
        {
            return Box::pin(self.query(&bare, None)).await;
        }
        let compiled = self.worker.planner.borrow_mut().compile(text, &world);
        let statements = match compiled {
            Ok(statements) => statements,
            Err(error) => {
                if raw.is_none()
                    && let Some(bare) = world.bare(text)
                {
                    return Box::pin(self.query(&bare, None)).await;
                }
                if raw.is_none()
                    && let Some(answer) = Box::pin(self.for_one_statement(text, &world, &error)).await
                {
                    return answer;
                }
                // What it asks for may be a shard key.
                return match self.told_whole(text, &world) {
                    Some(told) => {
                        self.refuse_undone()?;
                        Box::pin(self.data_told(&told, Saying::Text(""), None, &world, false)).await
                    }
                    None => match self.is_there(text) {
                        Some(answer) => answer,
                        None => Err(Box::pin(self.verified_said(error, text)).await),
                    },
                };
            }
        };
        if statements.len() > 1 && !self.multi {
            return Box::pin(self.refuse_several(text)).await;
        }
        if let [only] = statements.as_slice()
            && let Some(behind) = text.get(only.range.end..).and_then(|it| it.trim_start().strip_prefix(';'))
            && self.multi
            && !behind.trim().is_empty()
        {
            return Err(ClientError::unsupported(
                "a comment behind the last semicolon, which is a statement of its own, is not supported",
                "Leave it out, or put it before the semicolon.",
            )
            .into());
        }
        for (one, next) in statements.iter().zip(statements.iter().skip(1)) {
            let between = text.get(one.range.end..next.range.start).unwrap_or_default();
            if between.matches(';').count() != 1 {
                return Err(ClientError::unsupported(
                    "nothing, or a comment with a semicolon, between two statements is not supported",
                    "Send the statements one by one.",
                )
                .into());
            }
        }
        if statements.len() > 1 {
            self.note_effect();
        }
        let last = statements.len().saturating_sub(1);
        for (place, planned) in statements.iter().enumerate() {
            let alone = statements.len() == 1;
            // What the one before has changed may change what this one means.
            let now = self.world()?;
            if !Rc::ptr_eq(&now, &world) && (now.view != world.view || !Arc::ptr_eq(&now.database, &world.database)) {
                return Err(ClientError::unsupported(
                    "a statement behind one that changes how texts are read, in the same query, is not supported",
                    "Send it in a query of its own.",
                )
                .into());
            }
            let world = now;
            if let Some(raw) = raw {
                let range = if alone { 0..raw.len() } else { planned.range.clone() };
                // What is not sent as it came would be sent with other bytes.
                let bytes = raw.get(range).filter(|_| is_passed(planned)).ok_or_else(say::not_utf8)?;
                self.statement(text, Saying::Raw(bytes), planned, None, &world, place < last).await?;
                continue;
            }
            let said = if alone { spliced(text, planned) } else { within(text, planned) };
            let said = without_own(&said).unwrap_or(&said);
            self.statement(text, Saying::Text(said), planned, None, &world, place < last).await?;
        }
        Ok(())
    }

    /// Several statements where one may stand: what a server says to that.
    pub(super) async fn refuse_several(&mut self, text: &str) -> Result<(), Trouble> {
        let mut link = self.any_link().await?;
        // What is prepared is one statement, whatever has been agreed.
        let said = self.prepare_on(&mut link, text).await;
        match said {
            Err(broken) => Err(self.lost_all(broken, &link).await),
            Ok(Err(failure)) => {
                self.keep(link);
                Err(failure.into())
            }
            Ok(Ok(_)) => Err(ClientError::new(
                Code::Unreadable,
                "several statements in one query are not supported by this connection",
                "Connect with multiple statements allowed, or send them one by one.",
            )
            .into()),
        }
    }

    /// A refusal, after a server has been asked whether it would not refuse as well: then its own error is what the client
    /// must see.
    pub(super) async fn verified(&mut self, error: ClientError, text: &str) -> Trouble {
        // Of several, a server would say what is wrong with the first only.
        let one = !text.trim_end().trim_end_matches(';').contains(';');
        if error.code.sqlstate() != "0A000" || error.code == Code::SecondWritingShard || !one {
            return error.into();
        }
        let mut link = match self.any_link().await {
            Ok(link) => link,
            Err(trouble) => return trouble,
        };
        let settings = Arc::clone(&self.state.settings);
        let asked = async {
            match link.take_up(&settings).await? {
                Ok(()) => self.prepare_on(&mut link, text).await,
                Err(failure) => Ok(Err(failure)),
            }
        };
        match tokio::time::timeout(ASK_MAX, asked).await {
            Ok(Ok(said)) => {
                self.keep(link);
                match said {
                    // 1295: it cannot be prepared, which says nothing.
                    Err(failure) if failure.number != 1295 => failure.into(),
                    _ => error.into(),
                }
            }
            // Closed as it is dropped; what was open on it is gone.
            Ok(Err(_)) | Err(_) => {
                let undone = link.begun || link.is_within();
                drop(link);
                if undone {
                    self.roll_back().await;
                    self.transaction.is_undone(true);
                }
                error.into()
            }
        }
    }

    /// The same of a statement that is to be run, not prepared: where a server would have opened its tables before it found
    /// the error, a transaction has begun without autocommit.
    async fn verified_said(&mut self, error: ClientError, text: &str) -> Trouble {
        let trouble = self.verified(error, text).await;
        if let Trouble::Failed(failure) = &trouble
            && OF_OPEN_TABLES.contains(&failure.number)
            && !self.state.autocommit()
        {
            self.transaction.open();
        }
        trouble
    }

    /// A text without a statement: a server tells it from one that is empty.
    pub(super) async fn empty(&mut self, text: &str, more: bool) -> Result<(), Trouble> {
        let mut link = self.any_link().await?;
        let passed = async {
            link.say_query(text).await?;
            relay::pass(&mut link, &mut self.client, Face { more, ..Face::default() }).await
        };
        match passed.await {
            Ok(_) => {
                self.keep(link);
                Ok(())
            }
            Err(broken) => Err(self.lost_all(broken, &link).await),
        }
    }

    /// Runs a statement that reads or writes rows.
    pub(super) async fn data(
        &mut self,
        text: &str,
        saying: Saying<'_>,
        planned: &Planned,
        parameters: Option<&Parameters<'_>>,
        world: &Rc<World>,
        more: bool,
    ) -> Result<(), Trouble> {
        let asks = planned.template.effects.asks_session.as_deref();
        if asks.is_some() {
            let told = Box::pin(self.data_written_out(text, saying, planned, parameters, world, more)).await?;
            if told.is_some() {
                return Ok(());
            }
        }
        if let Some(altered) = &planned.template.altered {
            let statement = text.get(planned.range.clone()).unwrap_or_default();
            return Box::pin(self.alter_everywhere(altered, statement, saying, world, more)).await;
        }
        if let Some(loading) = &planned.template.loading {
            if matches!(saying, Saying::Raw(_)) {
                return Err(say::not_utf8().into());
            }
            let statement = text.get(planned.range.clone()).unwrap_or_default();
            return Box::pin(self.load_file(loading, statement, world, more)).await;
        }
        if planned.counts()
            && self.last.first.is_none()
            && let Some(numbering) = planned.numbering(text, parameters, world).filter(|it| it.by_proxy)
        {
            let told = self.data_numbered(&numbering, text, saying, planned, parameters, world, more);
            if Box::pin(told).await?.is_some() {
                return Ok(());
            }
        }
        let plan = match planned.plan(text, parameters, world) {
            Ok(plan) => plan,
            Err(error) => {
                let statement = text.get(planned.range.clone()).unwrap_or_default();
                return Err(match saying {
                    Saying::Text(_) | Saying::Raw(_) => Box::pin(self.verified_said(error, statement)).await,
                    Saying::Bound(_) => Box::pin(self.verified(error, statement)).await,
                });
            }
        };
        if matches!(saying, Saying::Raw(_))
            && !matches!(plan, Plan::One(_) | Plan::Any | Plan::Concat(_) | Plan::Shadow(_))
        {
            return Err(say::not_utf8().into());
        }
        let names_none = leaves_warnings(text, &planned.template);
        let shards: Vec<ShardId> = match plan {
            Plan::One(shard) => vec![shard],
            Plan::Any => vec![self.any_shard()?],
            Plan::Concat(shards) => shards.iter().collect(),
            Plan::Split(split) if split.rows.is_empty() && split.beside.is_none() => {
                can_be_told(&planned.template.effects, text, true)?;
                refuse_own_number(text, planned, world)?;
                self.refuse_in_read_only()?;
                let numbering = planned.numbering(text, parameters, world);
                return Box::pin(self.write_on_several(&split, numbering.as_ref(), saying, more)).await;
            }
            Plan::Shadow(shadow) => {
                return match &shadow.unite {
                    Some(unite) => Box::pin(self.united(text, saying, planned, (&shadow, unite), world, more)).await,
                    None => Box::pin(self.gather(text, saying, planned, &shadow, world, more)).await,
                };
            }
            Plan::Split(split) if split.beside.is_none() => {
                can_be_told(&planned.template.effects, text, true)?;
                refuse_own_number(text, planned, world)?;
                self.refuse_in_read_only()?;
                let inserting = Inserting { text, split: &split, saying, planned, parameters, world };
                return Box::pin(self.insert_on_several(inserting, more)).await;
            }
            _ => {
                return Err(ClientError::unsupported(
                    format!("{} over several shards in this way is not supported on MySQL", planned.template.tag),
                    "Give it the shard key, or split it.",
                )
                .into());
            }
        };
        let writes = planned.template.access == Access::Write;
        let effects = &planned.template.effects;
        let several = world.database.shards.len() > 1;
        can_be_told(effects, text, several)?;
        if !effects.assigns.is_empty() && shards.len() > 1 {
            return Err(ClientError::unsupported(
                "variables that rows of several shards give values are not supported",
                "Name one value of the shard key, or keep the value in the application.",
            )
            .into());
        }
        if several && effects.pins.is_some() {
            return Err(ClientError::unsupported(
                format!(
                    "{}, which leaves something on one connection, is not supported in a database of several shards",
                    planned.template.tag
                ),
                "Locks by name, table locks and temporary tables belong to one server: take them there.",
            )
            .into());
        }
        let mut counts = match planned.counts() {
            // Rows tell no number.
            true if planned.template.returns() => Counts::Asked,
            true => counts_of(planned.numbering(text, parameters, world).as_ref()),
            false => Counts::Told,
        };
        if asks.is_some() && sets_insert_id(text, planned.range.clone(), world.mode()) {
            counts = Counts::Asked;
        }
        if asks.is_some() && shards.len() == 1 && text.to_ascii_lowercase().contains("sql_calc_found_rows") {
            counts = Counts::AskedRows;
        }
        if planned.template.tag == "LOAD DATA" {
            counts = Counts::Asked;
        }
        if counts == Counts::Asked && shards.len() > 1 {
            return Err(own_number().into());
        }
        if writes {
            self.may_write(&shards)?;
        }
        if several && effects.changes_schema {
            // The server that does it commits its part, and all others have to as well.
            if self.is_within() {
                self.must_be_read(text).await?;
            }
            self.end(true).await?;
        }
        let leaves = !several && asks.is_some() && effects.assigns.is_empty() && leaves_behind(text, writes);
        let ties = !several && (leaves || effects.pins.is_some());
        let mut links = self.take_links(&shards, &planned.template).await?;
        for link in &mut links {
            // What it leaves on the connection is the session's.
            link.pinned |= ties;
        }
        let changes_schema = effects.changes_schema;
        let loads = planned.template.tag == "LOAD DATA" && world.database.local_files;
        self.client.may_send_files = loads && self.client.capabilities & capability::LOCAL_FILES != 0;
        // What is lost with one of these connections: a transaction, or what was left on it.
        let was = self.is_within() || links.iter().any(|it| it.begun || it.is_within());
        // Without autocommit the servers begin one by themselves; what changes the schema commits it.
        let begins = was || (!self.state.autocommit() && !changes_schema);
        let pinned = links.iter().any(|it| it.pinned);
        let limit = self.used()?.access.statement_max();
        let work = self.run_on(&mut links, saying, (writes, counts), begins, more);
        let ended = match limit {
            Some(span) => tokio::time::timeout(span, work).await,
            None => Ok(work.await),
        };
        self.client.may_send_files = false;
        match ended {
            Ok(Ok(ended)) => {
                if let ([link], false) = (links.as_mut_slice(), effects.assigns.is_empty())
                    && let Err(broken) = Box::pin(self.read_variables(link, &effects.assigns)).await
                {
                    // The client has been told already how the statement ended; the session does, too.
                    tracing::debug!(?broken, "a connection broke before variables were read");
                    self.ends = true;
                    return Err(Trouble::Told);
                }
                self.ended(links, &ended, names_none).await?;
                let failed = matches!(ended, Ended::Failed(_) | Ended::Refused(_));
                if changes_schema || ties {
                    self.has_committed();
                }
                if ties || (effects.unpins && !several) {
                    Box::pin(self.settle_pins(text, &planned.template, leaves, failed)).await?;
                }
                if failed {
                    return Err(Trouble::Told);
                }
                // The client has been told already that it is done.
                if changes_schema && Box::pin(self.learn_schema()).await.is_err() {
                    tracing::warn!("the schema could not be read behind a statement that may have changed it");
                    self.forget_world();
                }
                Ok(())
            }
            Ok(Err(trouble)) => {
                drop(links);
                Err(self.broke(trouble, pinned, was).await)
            }
            Err(_) => {
                for link in links {
                    let target = Arc::clone(&link.connection.target);
                    // Closed as it is, the server would go on with it until it has something to say.
                    tasks::local("kill", async move {
                        if let Err(error) = target.kill_query(clock::now().plus(KILL)).await {
                            tracing::debug!(%error, "what took too long may go on");
                        }
                        drop(link);
                    });
                }
                self.ends |= pinned;
                self.roll_back().await;
                self.transaction.is_undone(was);
                if writes && !begins {
                    return Err(say::too_slow_to_know().into());
                }
                Err(say::too_slow().into())
            }
        }
    }

    /// Connections that broke are closed; what they did is undone, and so is what others did.
    pub(super) async fn broke(&mut self, trouble: Trouble, pinned: bool, within: bool) -> Trouble {
        self.ends |= pinned;
        self.roll_back().await;
        // Of this error alone clients know that it has ended the transaction.
        let told = matches!(&trouble, Trouble::Refused(error) if error.code == Code::NotDone);
        self.transaction.is_undone(within && !told);
        trouble
    }

    /// Says it to all, and passes on what they answer.
    async fn run_on(
        &mut self,
        links: &mut [Link],
        saying: Saying<'_>,
        (writes, counts): (bool, Counts),
        was: bool,
        more: bool,
    ) -> Result<Ended, Trouble> {
        if let (true, Saying::Bound(bound)) = (self.opening.is_wanted(), saying)
            && links.iter().all(|it| !it.replica)
        {
            return Box::pin(self.open_on(links, bound, was)).await;
        }
        if links.len() > 1 && !self.state.autocommit() {
            // What servers begin by themselves might begin on the second and not on the first.
            self.transaction.open();
        }
        for link in links.iter_mut() {
            match self.make_ready(link, saying).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => {
                    self.client.put_failure(&failure);
                    return Ok(Ended::Failed(failure));
                }
                Err(broken) => return Err(self.lost_on(broken, link, was, false)),
            }
            if counts == Counts::Asked
                && let Err(broken) = self.tell_insert_id(link).await
            {
                return Err(self.lost_on(broken, link, was, false));
            }
        }
        for link in links.iter_mut() {
            let said = match saying {
                Saying::Text(text) => link.say_query(text).await,
                Saying::Raw(bytes) => link.say_bytes(bytes).await,
                Saying::Bound(bound) => bound.say(link).await,
            };
            if let Err(broken) = said {
                return Err(self.lost_on(broken, link, was, writes));
            }
            link.wrote |= writes;
        }
        // Whoever answers takes part in the transaction, and says so.
        let face = Face { in_transaction: false, more, insert_id: self.last.first };
        if let [link] = links {
            let passed = relay::pass(link, &mut self.client, face).await;
            let ended = passed.map_err(|broken| self.lost_on(broken, link, was, writes))?;
            if counts == Counts::AskedRows {
                let asked = self.ask_found_rows(link).await;
                asked.map_err(|broken| self.lost_on(broken, link, was, writes))?;
            }
            match (&ended, counts) {
                (Ended::Done(Done { affected: 1.., .. }) | Ended::Rows { count: 1.., .. }, _)
                    if self.last.first.is_some() =>
                {
                    self.last.gave();
                }
                _ if self.last.first.is_some() => {}
                (_, Counts::Asked) => {
                    let asked = self.ask_insert_id(link).await;
                    asked.map_err(|broken| self.lost_on(broken, link, was, writes))?;
                }
                (Ended::Done(done), Counts::Told) if done.insert_id != 0 => self.last.counted(done.insert_id),
                _ => {}
            }
            return Ok(ended);
        }
        let passed = relay::unite(links, &mut self.client, face).await;
        passed.map_err(|broken| self.lost(broken, "one of several", was, writes))
    }

    /// Brings a link to where the session is.
    pub(super) async fn make_ready(
        &mut self,
        link: &mut Link,
        saying: Saying<'_>,
    ) -> Result<Result<(), crate::wire::mysql::result::Failure>, Broken> {
        let settings = Arc::clone(&self.state.settings);
        if let Err(failure) = link.take_up(&settings).await? {
            return Ok(Err(failure));
        }
        if let Err(failure) = self.join(link).await? {
            return Ok(Err(failure));
        }
        match saying {
            Saying::Text(_) | Saying::Raw(_) => Ok(Ok(())),
            Saying::Bound(bound) => self.ready_prepared(link, bound).await,
        }
    }

    pub(super) fn lost_on(&mut self, broken: Broken, link: &Link, within: bool, may_have_written: bool) -> Trouble {
        let name = self.used.as_ref().map(|it| Arc::clone(&it.access.service.database.shard(link.shard).name));
        self.lost(broken, &name.unwrap_or_default(), within, may_have_written)
    }

    /// Takes in how a statement ended, and keeps or gives back its links.
    pub(super) async fn ended(
        &mut self,
        links: Vec<Link>,
        ended: &Ended,
        leaves_warnings: bool,
    ) -> Result<(), Trouble> {
        self.last.heard(ended);
        if ended.warnings() > 0 || !leaves_warnings {
            self.warnings.clear();
        }
        self.warnings.count(ended.warnings());
        let several = links.len() > 1;
        let (mut over, mut undone) = (false, false);
        for mut link in links {
            // Of several, those behind the one that failed still have something to say, which nobody is told.
            if several && matches!(ended, Ended::Failed(_)) && !link.connection.is_drained() {
                let rest = tokio::time::timeout(KILL, relay::discard(&mut link)).await;
                if !matches!(rest, Ok(Ok(()))) {
                    over |= link.begun || link.is_within() || !self.state.autocommit();
                    undone |= over;
                    continue;
                }
            }
            if let Ended::Failed(failure) = ended {
                self.warnings.is_by(failure);
            }
            if let Ended::Refused(failure) = ended {
                self.warnings.of_failure(failure);
            } else if ended.warnings() > 0
                // What every shard says of a statement that fails one server says once.
                && !(several && self.warnings.counts().1 > 0)
                && let Err(broken) = self.warnings.read(&mut link).await
            {
                tracing::debug!(?broken, "a connection broke before its warnings were read");
                over |= link.begun || link.is_within();
                undone |= over;
                self.ends |= link.pinned;
                continue;
            }
            // What commits by itself (DDL) has ended it.
            if link.begun && !link.is_within() && !matches!(ended, Ended::Failed(_)) {
                link.is_over();
                over = true;
            }
            // An error does not say whether it has ended the transaction.
            let within = link.begun || link.is_within();
            if matches!(ended, Ended::Failed(_)) && (within || !self.state.autocommit()) {
                match self.is_still_within(&mut link).await {
                    Ok(true) => {}
                    // XA keeps it until it is told to forget it.
                    Ok(false) if link.branch.is_some() => {
                        over = true;
                        continue;
                    }
                    Ok(false) => {
                        link.begun = false;
                        over |= within;
                    }
                    Err(_) => {
                        (over, undone) = (true, true);
                        self.ends |= link.pinned;
                        continue;
                    }
                }
            }
            self.keep(link);
        }
        if over {
            self.roll_back().await;
            // The client has not been told, and must not go on as if nothing had happened.
            self.transaction.is_undone(undone);
        }
        match ended {
            Ended::Failed(failure) | Ended::Refused(failure) => self.statement_failed(Some(failure)),
            _ if leaves_warnings => self.statement_without_tables_ended(),
            _ => self.statement_ended(),
        }
        Ok(())
    }

    /// COM_FIELD_LIST: what a server says of a table's columns.
    pub(super) async fn field_list(&mut self, payload: &[u8]) -> Result<(), Trouble> {
        let mut link = self.any_link().await?;
        let flags = self.usual_status();
        let listed = async {
            link.say(payload).await?;
            relay::list(&mut link, &mut self.client, flags).await
        };
        match listed.await {
            Ok(()) => {
                self.keep(link);
                Ok(())
            }
            Err(broken) => Err(self.lost_all(broken, &link).await),
        }
    }

    // ── links ──

    /// A shard of those that all have what is asked for: one that the session has a connection to, or any that lives.
    pub(super) fn any_shard(&mut self) -> Result<ShardId, Trouble> {
        if let Some(link) = self.links.first() {
            return Ok(link.shard);
        }
        self.turn = self.turn.wrapping_add(1);
        Ok(self.used()?.access.service.topology.in_turn(self.turn))
    }
}

/// Refuses what gives LAST_INSERT_ID a value on each of several shards, of which one server would have the last.
pub(super) fn refuse_own_number(text: &str, planned: &Planned, world: &World) -> Result<(), ClientError> {
    let asks = planned.template.effects.asks_session.is_some();
    if asks && sets_insert_id(text, planned.range.clone(), world.mode()) { Err(own_number()) } else { Ok(()) }
}

fn own_number() -> ClientError {
    ClientError::unsupported(
        "LAST_INSERT_ID with an argument over several shards is not supported",
        "Name one value of the shard key.",
    )
}

/// SHOW DATABASES without the proxy's own, which no session can use.
pub(super) fn without_own(text: &str) -> Option<&'static str> {
    let mut words = text.trim().trim_end_matches(';').split_ascii_whitespace();
    let mut is =
        |wanted: &[&str]| words.next().is_some_and(|it| wanted.iter().any(|word| it.eq_ignore_ascii_case(word)));
    let all = is(&["show"]) && is(&["databases", "schemas"]);
    (all && words.next().is_none()).then_some("SHOW DATABASES WHERE `Database` <> 'shardway'")
}

/// What names no table leaves the warnings of the statement before, unless it has some of its own.
pub(super) fn leaves_warnings(text: &str, template: &Template) -> bool {
    template.effects.asks_catalogs && {
        let lower = text.to_ascii_lowercase();
        !["schema.", "mysql.", "sys."].iter().any(|it| lower.contains(it))
    }
}

/// Whether what a statement computes stays on its connection: variables that it sets, or a count of what it found.
fn leaves_behind(text: &str, writes: bool) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains(":=") || (!writes && text.contains("into")) || text.contains("sql_calc_found_rows")
}

/// What belongs to the statement before, on the very connection that it ran on: words that may stand nowhere in a
/// statement that asks for a session's state, be it in a comment.
const OF_THE_LAST: [&str; 11] = [
    "connection_id",
    "error_count",
    "found_rows",
    "identity",
    "insert_id",
    "last_gtid",
    "row_count",
    "warning_count",
    "thread_id",
    "rand_seed",
    // The proxy's own.
    "session_track_",
];

/// What the analyzer calls it.
const CALC_FOUND_ROWS: &str = "SQL_CALC_FOUND_ROWS";

/// Variables of the servers that any connection of the session tells alike.
const ALIKE: [&str; 32] = [
    "auto_increment_increment",
    "auto_increment_offset",
    "character_set_client",
    "character_set_connection",
    "character_set_database",
    "character_set_filesystem",
    "character_set_results",
    "character_set_server",
    "character_set_system",
    "collation_connection",
    "collation_database",
    "collation_server",
    "have_query_cache",
    "have_ssl",
    "init_connect",
    "innodb_version",
    "license",
    "lower_case_table_names",
    "max_allowed_packet",
    "max_connections",
    "net_buffer_length",
    "performance_schema",
    "protocol_version",
    "query_cache_limit",
    "query_cache_size",
    "query_cache_type",
    "sql_auto_is_null",
    "system_time_zone",
    "version",
    "version_comment",
    "version_compile_machine",
    "version_compile_os",
];

/// Refuses what asks for state that is on no connection, or on one among several.
pub(super) fn can_be_told(effects: &Effects, text: &str, several: bool) -> Result<(), ClientError> {
    let Some(asked) = effects.asks_session.as_deref() else { return Ok(()) };
    let text = text.to_ascii_lowercase();
    // With an argument it tells nothing that was before.
    let is_argument = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '`');
    let argued = text.split("last_insert_id(").skip(1).all(|behind| behind.starts_with(is_argument));
    let searched = text.replace("last_insert_id(", if argued { "(" } else { "last_insert_id(" });
    let searched = searched.replace("sql_calc_found_rows", "");
    let of_the_last = OF_THE_LAST.iter().any(|it| searched.contains(it));
    if !of_the_last && (!several || is_alike(asked, &text, !effects.assigns.is_empty())) {
        return Ok(());
    }
    if !of_the_last && !variables_are_alike(&text) {
        return Err(ClientError::unsupported(
            format!("{asked}, which may be another on every shard's server, is not supported"),
            "Each shard's server has its own: ask it there.",
        ));
    }
    Err(ClientError::unsupported(
        format!("{asked}, which asks for what the session has on one connection, is not supported"),
        "The answer to an INSERT tells its number, and how many rows were affected; keep other values in the application.",
    ))
}

/// Whether what a text in lower case asks is told alike by all connections of a session, and leaves nothing on one.
/// `follows`: what it assigns is read back.
fn is_alike(asked: &str, text: &str, follows: bool) -> bool {
    // A variable that a statement sets is known to its server alone.
    let writes = ["insert", "replace"].iter().any(|it| text.trim_start().starts_with(it));
    let sets = !follows && (text.contains(":=") || (!writes && text.contains("into")));
    let of_all =
        ["database()", "schema()", "user()", "current_user()", "session_user()", "system_user()", "last_insert_id()"];
    let known =
        asked.starts_with('@') || asked == CALC_FOUND_ROWS || of_all.iter().any(|it| asked.eq_ignore_ascii_case(it));
    known && !sets && variables_are_alike(text)
}

/// Whether all system variables of a text are told alike by all connections of a session.
fn variables_are_alike(text: &str) -> bool {
    text.split("@@").skip(1).all(|behind| {
        let end =
            behind.find(|it: char| !(it.is_ascii_alphanumeric() || matches!(it, '_' | '.'))).unwrap_or(behind.len());
        let name = behind.get(..end).unwrap_or_default();
        let name = ["session.", "local.", "global."].iter().find_map(|it| name.strip_prefix(it)).unwrap_or(name);
        ALIKE.contains(&name) || SETTABLE.contains(&name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_statement_before_is_refused_however_it_is_written() {
        let told = |asked: &str, text: &str, several: bool| {
            let effects = Effects { asks_session: Some(asked.into()), ..Effects::default() };
            can_be_told(&effects, text, several).is_ok()
        };
        for several in [false, true] {
            for text in [
                "SELECT LAST_INSERT_ID()",
                "SELECT last_insert_id ()",
                "SELECT LAST_INSERT_ID/**/()",
                "SELECT LAST_INSERT_ID(/**/)",
                "SELECT `last_insert_id`()",
                "SELECT LAST_INSERT_ID(n), LAST_INSERT_ID() FROM t",
                "SELECT LAST_INSERT_ID(n), @@last_insert_id FROM t",
            ] {
                assert!(!told("last_insert_id()", text, several), "{text}");
            }
            assert!(!told("@@identity", "SELECT @@identity", several));
            assert!(!told("@@version", "SELECT @@version, ROW_COUNT()", several));
            assert!(told("last_insert_id()", "UPDATE t SET n = LAST_INSERT_ID(n + 1) WHERE id = 1", several));
            assert!(told("@@version", "SELECT @@version, @@session.sql_mode", several));
            assert!(told("@a", "INSERT INTO t (id, n) VALUES (1, @a)", several));
        }
        // These are a connection's own, and one server's.
        for text in ["SELECT @a := 1", "SELECT a INTO @b FROM t", "SELECT @@hostname", "SELECT @@`version`"] {
            assert!(!told("@a", text, true), "{text}");
            assert!(told("@a", text, false), "{text}");
        }
    }
}
