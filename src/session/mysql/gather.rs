//! Reads over several shards: rows of the tables that are spread are copied to one server, into temporary tables that hide
//! the real ones, and there the client's own text runs.
//!
//! The copies are on a connection that is no session's and has no part in any transaction; the rows come by the session's
//! own links, so that a transaction sees what it has written. The connection goes back to its pool when the copies are
//! gone, and is closed where that is not certain.

use std::rc::Rc;
use std::sync::Arc;

use crate::backend::Settings;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::mysql::Access;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::exec::mysql::relay::Ended;
use crate::exec::mysql::rows;
use crate::exec::mysql::rows::Batch;
use crate::exec::mysql::rows::Next;
use crate::ident::ShardId;
use crate::plan::Planned;
use crate::plan::Shade;
use crate::plan::Shadow;
use crate::plan::Whence;
use crate::plan::World;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::text::Saying;
use crate::session::mysql::text::can_be_told;
use crate::session::mysql::text::refuse_own_number;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::result::text_row;
use crate::wire::mysql::status;

/// How many rows one statement brings to the copy at most.
const ROWS_MAX: usize = 200;
/// How many parameters a statement may have.
const PARAMETERS_MAX: usize = 65_535;
/// How many bytes of rows one statement brings, unless a row alone is longer.
const BYTES_MAX: usize = 512 << 10;
/// How much of a server's warnings is read when it tells why a row does not fit.
const WARNINGS_MAX: usize = 64 << 10;

/// How a read that was gathered ended, where no link of the session's broke.
#[derive(Debug)]
pub(super) enum End {
    /// The client has its answer.
    Answered(Ended),
    /// It gets this in the place of one.
    Declined(ClientError),
    /// A shard's server refused to give its rows: the link of that place.
    Failed(usize, Failure),
}

/// What may still be copied.
struct Budget {
    rows: usize,
    bytes: usize,
}

/// A table to be copied, and the places of the links by which its rows come.
struct Copied<'a> {
    copy: &'a Shade,
    from: Vec<usize>,
    /// Where it lives, where the gathering server need not have it.
    away: bool,
}

/// Why a copy cannot be made: `Err` of it is a link of the session's that broke.
type Made<T> = Result<Result<T, End>, Trouble>;

impl Session {
    /// Answers a read from copies of its tables.
    pub(super) async fn gather(
        &mut self,
        text: &str,
        saying: Saying<'_>,
        planned: &Planned,
        shadow: &Shadow,
        world: &World,
        more: bool,
    ) -> Result<(), Trouble> {
        let effects = &planned.template.effects;
        let asks = effects.asks_session.is_some();
        can_be_told(effects, text, true)?;
        refuse_own_number(text, planned, world)?;
        if asks && text.to_ascii_lowercase().contains("autocommit") {
            return Err(ClientError::unsupported(
                "@@autocommit beside tables of several shards is not supported",
                "Ask for it in a statement of its own.",
            )
            .into());
        }
        let access = Rc::clone(&self.used()?.access);
        let database = &access.service.database;
        let at = shadow.at.or(database.gather.on).unwrap_or(database.catalog);
        // What is whole there is read there, but for what the transaction sees otherwise.
        let within = self.is_within() || !self.state.autocommit();
        let mut shards: Vec<ShardId> = Vec::new();
        let mut tables: Vec<(&Shade, Vec<ShardId>, bool)> = Vec::new();
        for copy in &shadow.tables {
            match &copy.whence {
                Whence::Spread(from) => tables.push((copy, from.iter().collect(), false)),
                Whence::Home(home) if *home != at => tables.push((copy, vec![*home], true)),
                Whence::Home(home) if within => tables.push((copy, vec![*home], false)),
                Whence::Everywhere if within => {
                    tables.push((copy, vec![self.links.first().map_or(at, |it| it.shard)], false));
                }
                Whence::Home(_) | Whence::Everywhere => {}
            }
        }
        shards.extend(tables.iter().flat_map(|(_, from, _)| from));
        shards.sort_unstable();
        shards.dedup();
        let place = |shard: &ShardId| shards.binary_search(shard).unwrap_or(0);
        let tables: Vec<Copied<'_>> = tables
            .iter()
            .map(|(copy, from, away)| Copied { copy, from: from.iter().map(place).collect(), away: *away })
            .collect();
        let mut links = self.take_links(&shards, &planned.template).await?;
        // Last, so that whoever has one waits for no other.
        let mut server = match self.given(access.gathering(at)).await {
            Ok(server) => server,
            Err(trouble) => {
                links.into_iter().for_each(|it| self.keep(it));
                return Err(trouble);
            }
        };
        let was = self.is_within() || links.iter().any(|it| it.begun || it.is_within());
        let pinned = links.iter().any(|it| it.pinned);
        let work = self.gather_on(&mut links, &mut server, &tables, saying, was, more);
        let ended = match access.statement_max() {
            Some(span) => tokio::time::timeout(span, work).await,
            None => Ok(work.await),
        };
        match ended {
            Ok(Ok(end)) => {
                if let End::Answered(ended) = &end {
                    if asks
                        && text.to_ascii_lowercase().contains("sql_calc_found_rows")
                        && let Err(broken) = self.ask_found_rows(&mut server).await
                    {
                        // The client has its answer already.
                        tracing::debug!(?broken, "a connection broke before rows left out were counted");
                        self.ends = true;
                    }
                    self.last.heard(ended);
                    self.warnings.clear();
                    self.warnings.count(ended.warnings());
                    if ended.warnings() > 0
                        && let Err(broken) = self.warnings.read(&mut server).await
                    {
                        tracing::debug!(?broken, "a connection broke before its warnings were read");
                    }
                    if !effects.assigns.is_empty()
                        && let Err(broken) = Box::pin(self.read_variables(&mut server, &effects.assigns)).await
                    {
                        // The client has its answer already.
                        tracing::debug!(?broken, "a connection broke before variables were read");
                        self.ends = true;
                    }
                }
                self.gathered(links, &end).await;
                // What was to be stopped may be struck late: the copies go with their connection then.
                if !self.held.remove(&server) {
                    clear(&access, server, &tables).await;
                }
                match end {
                    End::Answered(Ended::Failed(_) | Ended::Refused(_)) => Err(Trouble::Told),
                    End::Answered(_) => Ok(()),
                    End::Failed(_, failure) => Err(failure.into()),
                    End::Declined(error) => {
                        let statement = text.get(planned.range.clone()).unwrap_or_default();
                        Err(Box::pin(self.verified(error, statement)).await)
                    }
                }
            }
            Ok(Err(trouble)) => {
                drop((links, server));
                Err(self.broke(trouble, pinned, was).await)
            }
            Err(_) => {
                links.push(server);
                Err(self.took_too_long(links, pinned, was).await)
            }
        }
    }

    /// Keeps or gives back the links by which rows came.
    pub(super) async fn gathered(&mut self, links: Vec<Link>, end: &End) {
        let (mut over, mut undone) = (false, false);
        for (place, mut link) in links.into_iter().enumerate() {
            let within = link.begun || link.is_within();
            // An error does not say whether it has ended the transaction.
            if matches!(end, End::Failed(failed, _) if *failed == place) && (within || !self.state.autocommit()) {
                match self.is_still_within(&mut link).await {
                    Ok(true) => {}
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
            self.transaction.is_undone(undone);
        }
        self.statement_ended();
    }

    /// Makes the copies, and has the server answer from them.
    async fn gather_on(
        &mut self,
        links: &mut [Link],
        server: &mut Link,
        tables: &[Copied<'_>],
        saying: Saying<'_>,
        was: bool,
        more: bool,
    ) -> Result<End, Trouble> {
        let limits = &self.used()?.access.service.database.gather;
        let mut budget = Budget { rows: limits.rows_max, bytes: limits.bytes_max };
        // By the session's time zone two moments may be one.
        let moments = tables.iter().any(|it| it.copy.has_moments());
        let settings = match moments {
            true => Arc::new(self.state.settings.with("time_zone", UTC)),
            false => Arc::clone(&self.state.settings),
        };
        for (place, link) in links.iter_mut().enumerate() {
            let ready = async {
                if let Err(failure) = link.take_up(&settings).await? {
                    return Ok(Err(failure));
                }
                self.join(link).await
            };
            match ready.await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return Ok(End::Failed(place, failure)),
                Err(broken) => return Err(self.lost_on(broken, link, was, false)),
            }
        }
        if let Err(end) = on_server(server.take_up(&loading(server)).await, "be made ready")? {
            return Ok(end);
        }
        for table in tables {
            if let Err(end) = self.make(links, server, table, was).await? {
                return Ok(end);
            }
        }
        for table in tables {
            if let Err(end) = self.fill(links, server, table, &mut budget, was).await? {
                return Ok(end);
            }
        }
        let settings = &self.state.settings;
        let settings = ["autocommit", "tx_isolation", "tx_read_only"]
            .iter()
            .fold((**settings).clone(), |all: Settings, name| all.without(name));
        if let Err(end) = on_server(server.take_up(&Arc::new(settings)).await, "take up the session's settings")? {
            return Ok(end);
        }
        let said = async {
            match saying {
                Saying::Text(text) => server.say_query(text).await?,
                Saying::Raw(bytes) => server.say_bytes(bytes).await?,
                Saying::Bound(bound) => {
                    // What it had prepared was of other copies.
                    if let Err(failure) = self.prepare_on(server, bound.text()).await? {
                        return Ok(Err(failure));
                    }
                    bound.say(server).await?;
                }
            }
            Ok(Ok(()))
        };
        match said.await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                self.client.put_failure(&failure);
                return Ok(End::Answered(Ended::Failed(failure)));
            }
            Err(broken) => return lost(broken).map(End::Declined),
        }
        let own = self.own_status(links, more);
        let flags = |of_server: u16| of_server & !OWN | own;
        match relay::pass_as(server, &mut self.client, &flags).await {
            Ok(ended) => Ok(End::Answered(ended)),
            Err(broken) => lost(broken).map(End::Declined),
        }
    }

    /// Makes an empty copy.
    async fn make(&mut self, links: &mut [Link], server: &mut Link, table: &Copied<'_>, was: bool) -> Made<()> {
        let name = table.copy.quoted();
        let created = match (table.away, table.from.first().and_then(|it| links.get_mut(*it))) {
            // The server need not have such a table: it is made by its definition.
            (true, Some(link)) => {
                let shown = async {
                    link.say_query(&format!("SHOW CREATE TABLE {name}")).await?;
                    relay::collect(link, DEFINITION_MAX).await
                };
                let collected = match shown.await {
                    Ok(Ok(collected)) => collected,
                    Ok(Err(failure)) => {
                        let place = table.from.first().copied().unwrap_or(0);
                        return Ok(Err(End::Failed(place, failure)));
                    }
                    Err(broken) => return Err(self.lost_on(broken, link, was, false)),
                };
                let cells = collected.rows.first().map(|it| text_row(it, collected.columns.len()));
                let cells = cells.and_then(Result::ok).unwrap_or_default();
                let definition = cells.get(1).copied().flatten().map(String::from_utf8_lossy).unwrap_or_default();
                let Some((_, body)) = definition.strip_prefix("CREATE TABLE ").and_then(|it| it.split_once("` ("))
                else {
                    return Ok(Err(End::Declined(not_copied(table.copy, "its definition is not that of a table"))));
                };
                vec![format!("CREATE TEMPORARY TABLE {name} ({body}")]
            }
            // Nothing can be made like what it hides.
            _ => {
                let other = format!("`{}`.`{COPY}`", table.copy.table.schema.replace('`', "``"));
                vec![
                    format!("CREATE TEMPORARY TABLE {other} LIKE {name}"),
                    format!("ALTER TABLE {other} RENAME TO {name}"),
                ]
            }
        };
        for sql in created {
            match server.run(&sql).await {
                Ok(Ok(done)) if done.warnings == 0 => {}
                Ok(Ok(_)) => return Ok(Err(End::Declined(not_copied(table.copy, &warning(server).await)))),
                Ok(Err(failure)) => return Ok(Err(End::Declined(not_copied(table.copy, &failure.to_string())))),
                Err(broken) => return lost(broken).map(|error| Err(End::Declined(error))),
            }
        }
        Ok(Ok(()))
    }

    /// Brings a table's rows to its copy.
    async fn fill(
        &mut self,
        links: &mut [Link],
        server: &mut Link,
        table: &Copied<'_>,
        budget: &mut Budget,
        was: bool,
    ) -> Made<()> {
        let fetch = table.copy.fetch();
        let mut numbers = Vec::with_capacity(table.from.len());
        for place in &table.from {
            let Some(link) = links.get_mut(*place) else { continue };
            match rows::prepare_once(link, &fetch).await {
                Ok(Ok(number)) => numbers.push(number),
                Ok(Err(failure)) => return Ok(Err(End::Failed(*place, failure))),
                Err(broken) => return Err(self.lost_on(broken, link, was, false)),
            }
        }
        for (place, number) in table.from.iter().zip(numbers) {
            let Some(link) = links.get_mut(*place) else { continue };
            if let Err(broken) = rows::ask(link, number, &table.copy.values).await {
                return Err(self.lost_on(broken, link, was, false));
            }
        }
        // Whatever happens, the shards have said all when this ends.
        let mut outcome: Result<(), End> = Ok(());
        let mut row = Vec::new();
        let mut filling = Filling::new(table.copy);
        for place in &table.from {
            let Some(link) = links.get_mut(*place) else { continue };
            match rows::columns(link).await {
                Ok(Ok(columns)) => {
                    let types: Option<Vec<[u8; 2]>> = columns.iter().map(rows::parameter).collect();
                    if outcome.is_ok() {
                        outcome = filling.takes(server, types).await?;
                    }
                }
                Ok(Err(failure)) => {
                    if outcome.is_ok() {
                        outcome = Err(End::Failed(*place, failure));
                    }
                    continue;
                }
                Err(broken) => return Err(self.lost_on(broken, link, was, false)),
            }
            loop {
                match rows::next(link, &mut row).await {
                    Ok(Next::Row) if outcome.is_ok() => outcome = filling.add(server, &row, budget).await?,
                    Ok(Next::Row) => {}
                    Ok(Next::End(0)) => break,
                    Ok(Next::End(_)) => {
                        if outcome.is_ok() {
                            outcome = Err(End::Declined(not_copied(table.copy, "a shard warned of its rows")));
                        }
                        break;
                    }
                    Ok(Next::Failed(failure)) => {
                        if outcome.is_ok() {
                            outcome = Err(End::Failed(*place, failure));
                        }
                        break;
                    }
                    Err(broken) => return Err(self.lost_on(broken, link, was, false)),
                }
            }
        }
        if outcome.is_ok() {
            outcome = filling.finish(server).await?;
        }
        Ok(outcome)
    }
}

/// A copy while its rows come.
struct Filling<'a> {
    copy: &'a Shade,
    batch: Batch,
    batch_max: usize,
    types: Vec<[u8; 2]>,
    /// The statement that was prepared last, and for how many rows.
    prepared: Option<(u32, usize)>,
}

impl<'a> Filling<'a> {
    fn new(copy: &'a Shade) -> Self {
        let columns = copy.columns.len();
        let batch_max = (PARAMETERS_MAX / columns.max(1)).clamp(1, ROWS_MAX);
        Self { copy, batch: Batch::new(columns), batch_max, types: Vec::new(), prepared: None }
    }

    /// The rows of another shard follow.
    async fn takes(&mut self, server: &mut Link, types: Option<Vec<[u8; 2]>>) -> Made<()> {
        let Some(types) = types.filter(|it| it.len() == self.copy.columns.len()) else {
            let why = "a column is of a type whose values do not travel";
            return Ok(Err(End::Declined(not_copied(self.copy, why))));
        };
        if self.types != types {
            if let Err(end) = self.flush(server).await? {
                return Ok(Err(end));
            }
            self.types = types;
        }
        Ok(Ok(()))
    }

    async fn add(&mut self, server: &mut Link, row: &[u8], budget: &mut Budget) -> Made<()> {
        match (budget.rows.checked_sub(1), budget.bytes.checked_sub(row.len())) {
            (Some(rows), Some(bytes)) => *budget = Budget { rows, bytes },
            _ => {
                return Ok(Err(End::Declined(ClientError::unsupported(
                    format!(
                        "a read over several shards that needs more rows of \"{}\" than the map lets it copy is not supported",
                        self.copy.table
                    ),
                    "Narrow it by conditions that every row must satisfy, or by the shard key; or raise gather.rows_max \
                     and gather.bytes_max in the map.",
                ))));
            }
        }
        if !self.batch.add(row) {
            return Ok(Err(End::Declined(not_copied(self.copy, "a shard gave what is no row"))));
        }
        if self.batch.rows() >= self.batch_max || self.batch.bytes() >= BYTES_MAX {
            return self.flush(server).await;
        }
        Ok(Ok(()))
    }

    async fn finish(&mut self, server: &mut Link) -> Made<()> {
        if let Err(end) = self.flush(server).await? {
            return Ok(Err(end));
        }
        if let Some((number, _)) = self.prepared.take()
            && let Err(broken) = rows::close(server, number).await
        {
            return lost(broken).map(|error| Err(End::Declined(error)));
        }
        Ok(Ok(()))
    }

    async fn flush(&mut self, server: &mut Link) -> Made<()> {
        if self.batch.is_empty() {
            return Ok(Ok(()));
        }
        match self.insert(server).await {
            Ok(Ok(())) => {
                self.batch.clear();
                Ok(Ok(()))
            }
            Ok(Err(why)) => Ok(Err(End::Declined(not_copied(self.copy, &why)))),
            Err(broken) => lost(broken).map(|error| Err(End::Declined(error))),
        }
    }

    /// The inner error: why the rows are not there as they were.
    async fn insert(&mut self, server: &mut Link) -> Result<Result<(), String>, Broken> {
        let count = self.batch.rows();
        if let Some((number, _)) = self.prepared.take_if(|(_, rows)| *rows != count) {
            rows::close(server, number).await?;
        }
        let number = match self.prepared {
            Some((number, _)) => number,
            None => match rows::prepare(server, &self.copy.insert(count)).await? {
                Ok(prepared) => {
                    self.prepared = Some((prepared.statement, count));
                    prepared.statement
                }
                Err(failure) => return Ok(Err(failure.to_string())),
            },
        };
        match self.batch.insert(server, number, &self.types).await? {
            Ok(done) if done.warnings > 0 => Ok(Err(warning(server).await)),
            Ok(done) if done.affected != count as u64 => Ok(Err("rows are missing of it".to_owned())),
            Ok(_) => Ok(Ok(())),
            Err(failure) if failure.number == DUPLICATE => Ok(Err(format!(
                "rows of several shards have the same unique key, which one server would not have ({failure})"
            ))),
            Err(failure) => Ok(Err(failure.to_string())),
        }
    }
}

/// What the gathering server is told before rows come: they are stored as they are.
fn loading(server: &Link) -> Arc<Settings> {
    let settings = Settings::none().with("sql_mode", MODE).with("time_zone", UTC);
    if server.connection.version.contains("MariaDB") {
        return Arc::new(settings.with("check_constraint_checks", "0"));
    }
    Arc::new(settings)
}

/// Takes the copies away, and gives the connection back.
async fn clear(access: &Access, mut server: Link, tables: &[Copied<'_>]) {
    let names: Vec<String> = tables.iter().map(|it| it.copy.quoted()).collect();
    // A copy that was not finished has another name, and fails this: the connection is closed, and the copies with it.
    match server.run(&format!("DROP TEMPORARY TABLE {}", names.join(", "))).await {
        Ok(Ok(_)) => {
            // What has changed was made for this statement.
            server.doubtful = false;
            access.release_gathering(server);
        }
        Ok(Err(failure)) => tracing::debug!(%failure, "copies of tables go with their connection"),
        Err(broken) => tracing::debug!(?broken, "copies of tables go with their connection"),
    }
}

/// The first of a server's warnings.
async fn warning(server: &mut Link) -> String {
    let told = async {
        server.say_query("SHOW WARNINGS LIMIT 1").await?;
        relay::collect(server, WARNINGS_MAX).await
    };
    let Ok(Ok(collected)) = told.await else { return "a server warns of it".to_owned() };
    let cells = collected.rows.first().and_then(|it| text_row(it, collected.columns.len()).ok()).unwrap_or_default();
    cells.get(2).copied().flatten().map(|it| String::from_utf8_lossy(it).into_owned()).unwrap_or_default()
}

/// What the gathering server said to a word of the proxy's own.
fn on_server(said: Result<Result<(), Failure>, Broken>, what: &str) -> Made<()> {
    match said {
        Ok(Ok(())) => Ok(Ok(())),
        Ok(Err(failure)) => Ok(Err(End::Declined(ClientError::unsupported(
            format!("a read over several shards whose server cannot {what} is not supported: {failure}"),
            "Look at the settings of the session.",
        )))),
        Err(broken) => lost(broken).map(|error| Err(End::Declined(error))),
    }
}

/// The gathering server is gone: nothing of the session's is. Only a client that is gone is the session's trouble.
fn lost(broken: Broken) -> Result<ClientError, Trouble> {
    match broken {
        Broken::Client(error) => {
            tracing::debug!(%error, "a client's connection broke");
            Err(Trouble::Gone)
        }
        Broken::Server(reason) | Broken::Differs(reason) => Ok(ClientError::new(
            Code::ShardUnavailable,
            format!("the connection to the server that put the rows together was lost: {reason}"),
            "Say it again: nothing was changed.",
        )),
    }
}

fn not_copied(copy: &Shade, why: &str) -> ClientError {
    ClientError::unsupported(
        format!("a read over several shards of \"{}\", which cannot be copied, is not supported: {why}", copy.table),
        "Name one value of the shard key.",
    )
}

/// What a copy is called before it hides its table.
const COPY: &str = "shardway copy";

/// Rows are brought in this mode: zeros, and dates that are none, stay what they are.
const MODE: &str = "'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'";

/// As SET writes it.
const UTC: &str = "'+00:00'";

/// How long the definition of a table may be, in bytes.
const DEFINITION_MAX: usize = 1 << 20;

/// Flags that tell of the session.
pub(super) const OWN: u16 = status::MORE_RESULTS
    | status::STATE_CHANGED
    | status::IN_TRANSACTION
    | status::IN_TRANSACTION_READ_ONLY
    | status::AUTOCOMMIT;

/// The server's number of a row whose unique key is there already.
const DUPLICATE: u16 = 1062;
