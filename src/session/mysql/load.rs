//! LOAD DATA LOCAL of several shards: a file of the client's, each line to the shard that has its row.
//!
//! ```text
//! shards ← LOAD DATA LOCAL …        each in the same transaction
//! client ← its file is asked for, as the first shard asked
//! client → a piece → cut into lines (`plan::LineDealer`) → shards, and no more is read before they have it
//! shards → what each has done → one server's answer
//! ```

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use crate::backend::mysql::AWAITED_MAX;
use crate::error::ClientError;
use crate::error::Code;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::exec::mysql::relay::Ended;
use crate::exec::mysql::relay::Taken;
use crate::plan::LineDealer;
use crate::plan::Loading;
use crate::plan::World;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::assign;
use crate::session::mysql::numbers::Counting;
use crate::session::mysql::say;
use crate::session::mysql::span::Span;
use crate::session::mysql::span::same;
use crate::session::mysql::span::sum;
use crate::session::mysql::split::ends_all;
use crate::session::mysql::warnings::COLUMNS;
use crate::session::mysql::warnings::WARNINGS_MAX;
use crate::session::split::copies_differ;
use crate::wire::mysql::capability;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::result::text_row;
use crate::wire::mysql::status;

/// What a shard waits for its next line, in seconds: others may have all those before it.
const READ_TIMEOUT: &str = "86400";
/// The largest piece that a server is given, in bytes.
const PIECE_MAX: usize = 1 << 20;
/// The longest answer to what is asked here, in bytes.
const ANSWER_MAX: usize = 1 << 20;
/// How many conditions servers keep that do not tell.
const KEPT: usize = 64;

/// Why a file came to no end.
enum Stop {
    /// It is not done; the servers have heard the end of what they were given.
    Refused(ClientError),
    /// The same, for the server's own reason, with what SHOW WARNINGS shows, and how much there was of it.
    Failed(Failure, Vec<Condition>, usize),
    /// The connection at that place broke.
    Broken(usize, Broken),
    /// The client did.
    Client(io::Error),
}

/// What a server has to say of what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    level: String,
    number: String,
    message: String,
    /// The line that it is about, as that server counts them.
    line: Option<u64>,
}

impl Session {
    /// Carries it out; `text` is the statement.
    pub(super) async fn load_file(
        &mut self,
        loading: &Loading,
        text: &str,
        world: &Rc<World>,
        more: bool,
    ) -> Result<(), Trouble> {
        if self.client.capabilities & capability::LOCAL_FILES == 0 {
            return Err(relay::no_files().into());
        }
        let mut span = self.open_span(&loading.shards, true).await?;
        if !loading.is_for_everybody() {
            self.make_undoable(&mut span);
        }
        let limit = span.limit;
        let work = self.load_in(&mut span, (loading, text, world));
        let outcome = match limit {
            Some(limit) => tokio::time::timeout(limit, work).await,
            None => Ok(work.await),
        };
        match outcome {
            Ok(Ok(mut done)) => {
                self.keep_span(span).await?;
                done.status = self.face(more).status(done.status & !status::IN_TRANSACTION);
                self.client.put_done(&done);
                self.last.heard(&Ended::Done(done));
                Ok(())
            }
            Ok(Err(Stop::Refused(error))) => {
                self.undo_span(span, None).await?;
                Err(error.into())
            }
            Ok(Err(Stop::Failed(failure, conditions, count))) => {
                self.undo_span(span, Some(&failure)).await?;
                if conditions.is_empty() {
                    return Err(failure.into());
                }
                self.warn_of(count, conditions.iter());
                self.warnings.is_by(&failure);
                self.last.no_count();
                self.client.put_failure(&failure);
                Err(Trouble::Told)
            }
            Ok(Err(Stop::Client(error))) => {
                tracing::debug!(%error, "a client's connection broke before its file had come");
                self.break_off(span, false).await;
                Err(Trouble::Gone)
            }
            Ok(Err(Stop::Broken(place, broken))) => {
                let shard = loading.shards.get(place).map(|it| world.database.shard(*it).name.to_string());
                // What is undone with its transaction, and what is a statement by itself.
                let within = span.is_undoable();
                self.break_off(span, false).await;
                Err(self.lost(broken, &shard.unwrap_or_default(), within, true))
            }
            Err(_) => {
                let within = span.is_undoable();
                self.break_off(span, true).await;
                Err(if within { say::too_slow().into() } else { say::too_slow_to_know().into() })
            }
        }
    }

    async fn load_in(
        &mut self,
        span: &mut Span,
        (loading, text, world): (&Loading, &str, &Rc<World>),
    ) -> Result<Done, Stop> {
        let mut dealer: Option<LineDealer> = None;
        let mut said = text.to_owned();
        let mut name = Vec::new();
        let mut wrote = Vec::new();
        for place in 0..span.len() {
            let patient = format!("SET net_read_timeout = {READ_TIMEOUT}");
            let set: &[&str] = if span.len() > 1 { &[&patient] } else { &[] };
            let broke = |broken| Stop::Broken(place, broken);
            let mut asked = self.enter(span, place, set).await.map_err(broke)?.map(|()| Vec::new());
            let Some(link) = span.links.get_mut(place) else { break };
            if !set.is_empty() {
                // Whoever uses it next has it set back, also where what was said behind it failed.
                link.forget(&["net_read_timeout".to_owned()]);
            }
            if asked.is_ok() {
                if place == 0 && !loading.is_for_everybody() {
                    let character_set = match loading.character_set() {
                        Some(it) => it.to_owned(),
                        None => character_set(link).await.map_err(broke)?,
                    };
                    let line_max = self.map.limits.message;
                    dealer = Some(LineDealer::new(loading, world, &character_set, line_max).map_err(Stop::Refused)?);
                    said = loading.said(text, &character_set).ok_or_else(|| Stop::Refused(untold()))?;
                }
                if loading.counts {
                    self.tell_insert_id(link).await.map_err(broke)?;
                }
                wrote.push(link.wrote);
                link.wrote = true;
                link.say_query(&said).await.map_err(broke)?;
                asked = relay::wanted_file(link).await.map_err(broke)?;
            }
            match asked {
                Ok(wanted) => name = wanted,
                Err(failure) => {
                    let before = span.links.get_mut(..place).unwrap_or_default();
                    end_files(before).await?;
                    return Err(Stop::Failed(failure, Vec::new(), 0));
                }
            }
        }
        self.client.ask_for_file(&name);
        let refused = self.pass_on(span, loading, dealer.as_mut()).await?;
        let mut answers = end_files(&mut span.links).await?;
        if let Some(error) = refused {
            return Err(Stop::Refused(error));
        }
        for ((link, answer), was) in span.links.iter_mut().zip(&mut answers).zip(wrote) {
            // A statement without rows has written nothing.
            if let Ok(taken) = answer
                && taken.done.affected == 0
                && taken.done.info.starts_with(b"Records: 0 ")
            {
                link.wrote = was;
            }
        }
        let done = match &dealer {
            Some(dealer) => self.total(span, dealer, answers).await?,
            None => self.of_copies(span, answers).await?,
        };
        self.read_back(span, loading, dealer.as_ref()).await?;
        Ok(done)
    }

    /// Gives the servers what the client says of its file. What the proxy refuses is the answer, once the client has said all.
    async fn pass_on(
        &mut self,
        span: &mut Span,
        loading: &Loading,
        mut dealer: Option<&mut LineDealer>,
    ) -> Result<Option<ClientError>, Stop> {
        let mut refused = None;
        while self.client.sends_file() {
            let piece = self.client.file_piece().await.map_err(Stop::Client)?;
            if refused.is_some() {
                continue;
            }
            let Some(dealer) = dealer.as_deref_mut() else {
                for link in &mut span.links {
                    say_on(link, &piece);
                }
                relay::flush_all(&mut span.links).await.map_err(|(place, broken)| Stop::Broken(place, broken))?;
                continue;
            };
            let dealt = if piece.is_empty() { dealer.finish() } else { dealer.feed(&piece) };
            let counted = match (dealt, dealer.number()) {
                (Ok(()), Some(number)) => self.count_up(loading, number).await,
                (dealt, _) => dealt,
            };
            if let Err(error) = counted {
                refused = Some(error);
                continue;
            }
            for (place, link) in span.links.iter_mut().enumerate() {
                say_on(link, &dealer.share(place));
            }
            relay::flush_all(&mut span.links).await.map_err(|(place, broken)| Stop::Broken(place, broken))?;
        }
        Ok(refused)
    }

    /// AUTO_INCREMENT goes on behind a number that a line gives.
    async fn count_up(&mut self, loading: &Loading, number: i64) -> Result<(), ClientError> {
        let Some(numbering) = loading.numbering(number) else { return Ok(()) };
        let Ok(used) = self.used() else { return Ok(()) };
        let (access, worker) = (Rc::clone(&used.access), Rc::clone(&self.worker));
        let counting = Counting { access: &access, counters: &worker.counters, limit: self.map.timeouts.statement };
        counting.number(&numbering).await.map(|_| ())
    }

    /// What all shards did to copies, which is the same.
    async fn of_copies(&mut self, span: &mut Span, answers: Vec<Result<Taken, Failure>>) -> Result<Done, Stop> {
        let mut first: Option<Taken> = None;
        for answer in answers {
            match (&first, answer) {
                (None, Ok(taken)) => first = Some(taken),
                (None, Err(failure)) => return Err(Stop::Failed(failure, Vec::new(), 0)),
                (Some(known), Ok(taken)) if same(known, &taken) => {}
                (Some(_), _) => return Err(Stop::Refused(copies_differ())),
            }
        }
        let done = first.map(|it| Done { changes: Vec::new(), ..it.done }).unwrap_or_default();
        if done.warnings > 0
            && let Some(link) = span.links.first_mut()
        {
            self.warnings.count(done.warnings);
            self.warnings.read(link).await.map_err(|broken| Stop::Broken(0, broken))?;
        }
        Ok(done)
    }

    /// What the shards did together, as one server would tell it.
    async fn total(
        &mut self,
        span: &mut Span,
        dealer: &LineDealer,
        answers: Vec<Result<Taken, Failure>>,
    ) -> Result<Done, Stop> {
        let mut total: Option<Done> = None;
        let mut failed: Vec<(Option<u64>, Failure)> = Vec::new();
        let mut told: BTreeMap<(u64, usize, usize), Condition> = BTreeMap::new();
        let mut unknown = false;
        for (place, answer) in answers.into_iter().enumerate() {
            let Some(link) = span.links.get_mut(place) else { continue };
            if answer.as_ref().is_ok_and(|it| it.done.warnings == 0) {
                total = Some(added(total, answer.map(|it| it.done).unwrap_or_default()));
                continue;
            }
            if let Err(failure) = &answer
                && ends_all(failure)
            {
                return Err(Stop::Failed(failure.clone(), Vec::new(), 0));
            }
            let conditions = conditions(link).await.map_err(|broken| Stop::Broken(place, broken))?;
            let own: Vec<u64> = conditions.iter().map(|it| it.line.unwrap_or(0)).collect();
            let lines = dealer.lines_of(place, &own);
            let renamed = conditions.into_iter().zip(&lines).map(|(it, line)| match (it.line, line) {
                (Some(own), Some(line)) => {
                    Condition { message: at_line(&it.message, own, *line), line: Some(*line), ..it }
                }
                _ => Condition { line: None, ..it },
            });
            let renamed: Vec<Condition> = renamed.collect();
            match answer {
                Ok(taken) => {
                    unknown |= renamed.iter().any(|it| it.line.is_none());
                    total = Some(added(total, taken.done));
                }
                Err(failure) => {
                    let number = failure.number.to_string();
                    let its = renamed.iter().rfind(|it| it.level == "Error" && it.number == number);
                    let message = its.map_or(failure.message, |it| it.message.clone());
                    failed.push((its.and_then(|it| it.line), Failure { message, ..failure }));
                }
            }
            for (at, condition) in renamed.into_iter().enumerate() {
                told.insert((condition.line.unwrap_or(0), place, at), condition);
            }
        }
        if failed.len() > 1 && failed.iter().any(|(line, _)| line.is_none()) {
            return Err(Stop::Refused(unclear()));
        }
        if let Some((line, failure)) = failed.into_iter().min_by_key(|(line, _)| *line) {
            // One server does not come to the lines behind it.
            let known = |it: &Condition| line.is_some() && it.line.is_some() && it.line <= line;
            let mut told: Vec<Condition> = told.into_values().filter(known).collect();
            let count = told.len();
            told.truncate(kept(span).await?);
            return Err(Stop::Failed(failure, told, count));
        }
        if unknown {
            return Err(Stop::Refused(unclear()));
        }
        let done = total.unwrap_or_default();
        let kept = if told.is_empty() { 0 } else { kept(span).await? };
        self.warn_of(usize::from(done.warnings), told.values().take(kept));
        Ok(done)
    }

    fn warn_of<'c>(&mut self, count: usize, told: impl Iterator<Item = &'c Condition>) {
        let shown = told.map(|it| (it.level.as_str(), it.number.as_str(), it.message.as_str()));
        self.warnings.are(u64::try_from(count).unwrap_or(u64::MAX), shown);
    }

    /// What the last line left in user variables, and what one server counted.
    async fn read_back(&mut self, span: &mut Span, loading: &Loading, dealer: Option<&LineDealer>) -> Result<(), Stop> {
        let broke = |place| move |broken| Stop::Broken(place, broken);
        if loading.counts
            && let Some(link) = span.links.first_mut()
        {
            self.ask_insert_id(link).await.map_err(broke(0))?;
        }
        if loading.variables.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = loading.variables.iter().map(|it| assign::variable(it)).collect();
        for link in &mut span.links {
            link.forget(&names);
        }
        let place = dealer.map_or(Some(0), LineDealer::last);
        if let Some((place, link)) = place.and_then(|it| Some((it, span.links.get_mut(it)?))) {
            self.read_variables(link, &loading.variables).await.map_err(broke(place))?;
            self.forget_world();
        }
        Ok(())
    }
}

fn added(total: Option<Done>, done: Done) -> Done {
    match total {
        None => Done { changes: Vec::new(), ..done },
        Some(total) => sum(&total, &done),
    }
}

fn say_on(link: &mut Link, bytes: &[u8]) {
    for piece in bytes.chunks(PIECE_MAX) {
        link.connection.say_on(piece);
    }
}

/// Says that there is no more to all that wait for more, and hears what they have done.
async fn end_files(links: &mut [Link]) -> Result<Vec<Result<Taken, Failure>>, Stop> {
    for link in links.iter_mut() {
        link.connection.say_on(&[]);
    }
    relay::flush_all(links).await.map_err(|(place, broken)| Stop::Broken(place, broken))?;
    let mut answers = Vec::with_capacity(links.len());
    for (place, link) in links.iter_mut().enumerate() {
        answers.push(relay::take(link, ANSWER_MAX).await.map_err(|broken| Stop::Broken(place, broken))?);
    }
    Ok(answers)
}

/// How many conditions a server keeps.
async fn kept(span: &mut Span) -> Result<usize, Stop> {
    let Some(link) = span.links.first_mut() else { return Ok(0) };
    let cells = one_row(link, "SELECT @@max_error_count", 1).await.map_err(|broken| Stop::Broken(0, broken))?;
    Ok(cells.and_then(|it| it.into_iter().next().flatten()?.parse().ok()).unwrap_or(KEPT))
}

/// What a file is written in where nobody says it.
async fn character_set(link: &mut Link) -> Result<String, Broken> {
    let cells = one_row(link, "SELECT @@character_set_database", 1).await?;
    let name = cells.and_then(|it| it.into_iter().next().flatten());
    name.ok_or_else(|| Broken::Server("tells no character set".to_owned()))
}

/// One row of texts; none where the server does not answer it.
async fn one_row(link: &mut Link, question: &str, width: usize) -> Result<Option<Vec<Option<String>>>, Broken> {
    link.say_query(question).await?;
    let Ok(answer) = relay::collect(link, ANSWER_MAX).await? else { return Ok(None) };
    let Some(cells) = answer.rows.first().and_then(|it| text_row(it, width).ok()) else { return Ok(None) };
    let text = |it: Option<&[u8]>| it.map(|it| String::from_utf8_lossy(it).into_owned());
    Ok(Some(cells.into_iter().map(text).collect()))
}

/// What a server warns of, and which line each is about, which MariaDB tells (from 10.7 on).
async fn conditions(link: &mut Link) -> Result<Vec<Condition>, Broken> {
    link.say_query("SHOW WARNINGS").await?;
    let Ok(answer) = relay::collect(link, WARNINGS_MAX).await? else { return Ok(Vec::new()) };
    let mut found = Vec::with_capacity(answer.rows.len());
    for row in &answer.rows {
        let Ok(cells) = text_row(row, COLUMNS) else { continue };
        let [Some(level), Some(number), Some(message)] = cells.as_slice() else { continue };
        let [level, number, message] = [level, number, message].map(|it| String::from_utf8_lossy(it).into_owned());
        let line = line_of(&message);
        found.push(Condition { level, number, message, line });
    }
    if found.iter().all(|it| it.line.is_some()) {
        return Ok(found);
    }
    // Left behind in the connection, which nobody else gets.
    link.doubtful = true;
    let variables: Vec<String> = (1..=found.len()).map(|it| format!("@`shardway: line of {it}`")).collect();
    let asked = variables.iter().zip(1..);
    let asked: Vec<String> =
        asked.map(|(name, at)| format!("GET DIAGNOSTICS CONDITION {at} {name} = ROW_NUMBER")).collect();
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    for asked in asked.chunks(AWAITED_MAX) {
        if link.run_all(asked).await?.is_err() {
            return Ok(found);
        }
    }
    let cells = one_row(link, &format!("SELECT {}", variables.join(", ")), variables.len()).await?;
    for (condition, cell) in found.iter_mut().zip(cells.unwrap_or_default()) {
        condition.line = cell.and_then(|it| it.parse().ok()).filter(|it| *it > 0).or(condition.line);
    }
    Ok(found)
}

/// The line that a message names: `… at row 2`, `Row 2 …`.
fn line_of(message: &str) -> Option<u64> {
    if let Some((_, number)) = message.rsplit_once(" at row ") {
        return number.parse().ok();
    }
    message.strip_prefix("Row ")?.split(' ').next()?.parse().ok()
}

/// A message with another line in the place of the one that it names.
fn at_line(message: &str, own: u64, line: u64) -> String {
    if let Some(before) = message.strip_suffix(&format!(" at row {own}")) {
        return format!("{before} at row {line}");
    }
    match message.strip_prefix(&format!("Row {own} ")) {
        Some(behind) => format!("Row {line} {behind}"),
        None => message.to_owned(),
    }
}

fn unclear() -> ClientError {
    ClientError::unsupported(
        "LOAD DATA of several shards that raises errors or warnings whose lines are not known is not supported",
        "Load fewer lines at once, or mend those that raise them; servers of MariaDB from 10.7 on tell which they are.",
    )
}

fn untold() -> ClientError {
    ClientError::new(Code::Internal, "LOAD DATA could not be said to the shards", "Report this.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_client_s_lines() {
        assert_eq!(line_of("Data truncated for column 'a' at row 3"), Some(3));
        assert_eq!(line_of("Row 4 doesn't contain data for all columns"), Some(4));
        assert_eq!(line_of("Duplicate entry '1 at row x' for key 'PRIMARY'"), None);
        assert_eq!(at_line("Data truncated for column 'a' at row 3", 3, 17), "Data truncated for column 'a' at row 17");
        assert_eq!(at_line("Row 3 was truncated; it contained more", 3, 17), "Row 17 was truncated; it contained more");
        assert_eq!(at_line("Duplicate entry '3' for key 'PRIMARY'", 3, 17), "Duplicate entry '3' for key 'PRIMARY'");
    }
}
