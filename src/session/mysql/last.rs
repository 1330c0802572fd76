//! What the statement before has left (`LAST_INSERT_ID()`, `ROW_COUNT()`, `FOUND_ROWS()`, counts of warnings): kept here, for
//! the next statement may run on another connection; and written out where a statement asks for it.

use std::rc::Rc;

use crate::error::ClientError;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::exec::mysql::relay::Ended;
use crate::plan::Gets;
use crate::plan::Numbering;
use crate::plan::Parameters;
use crate::plan::Planned;
use crate::plan::World;
use crate::plan::mysql_state;
use crate::plan::mysql_state::Left;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::prepared::Renumbered;
use crate::session::mysql::prepared::parameters_of;
use crate::session::mysql::text::Saying;
use crate::session::mysql::text::spliced;
use crate::wire::mysql::result::text_row;

/// What a session's statements have left, but for warnings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    insert_id: u64,
    row_count: i64,
    found_rows: u64,
    /// The first number that the proxy gave to rows of the statement at hand.
    pub(super) first: Option<u64>,
    /// What the server of the statement at hand says to FOUND_ROWS, where rows were left out.
    calculated: Option<u64>,
}

impl Last {
    /// What was asked has been done, and no row was changed.
    pub(super) fn done(&mut self) {
        self.row_count = 0;
    }

    /// What ROW_COUNT says.
    pub(super) fn row_count(&self) -> i64 {
        self.row_count
    }

    /// COM_RESET_CONNECTION.
    pub(super) fn reset(&mut self) {
        (self.insert_id, self.row_count) = (0, 0);
    }

    /// It has failed, or told rows that are not those of a query.
    pub(super) fn no_count(&mut self) {
        self.row_count = -1;
    }

    /// The proxy's own first number has been used.
    pub(super) fn gave(&mut self) {
        self.insert_id = self.first.unwrap_or(self.insert_id);
    }

    /// So many rows of a query of the proxy's own.
    pub(super) fn counted_rows(&mut self, count: u64) {
        (self.row_count, self.found_rows) = (-1, count);
    }

    /// Takes in how a statement ended.
    pub(super) fn heard(&mut self, ended: &Ended) {
        let calculated = self.calculated.take();
        match ended {
            Ended::Done(done) => self.row_count = i64::try_from(done.affected).unwrap_or(i64::MAX),
            Ended::Rows { count, .. } => {
                (self.row_count, self.found_rows) = (-1, calculated.unwrap_or(*count));
            }
            Ended::Failed(_) | Ended::Refused(_) => self.row_count = -1,
        }
    }

    /// A number was generated.
    pub(super) fn counted(&mut self, first: u64) {
        self.insert_id = first;
    }
}

/// What a statement may change of what LAST_INSERT_ID says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// Nothing: what its answer tells is a value of the client's own.
    Nothing,
    /// Its answer tells it.
    Told,
    /// Its server has to be asked.
    Asked,
    /// Its server has to be asked what FOUND_ROWS says.
    AskedRows,
}

/// By what the rows of an INSERT give for the column that counts.
pub(super) fn counts_of(numbering: Option<&Numbering>) -> Counts {
    let Some(numbering) = numbering else { return Counts::Told };
    let is = |wanted: Gets| numbering.rows.contains(&wanted);
    match (is(Gets::Unknown), is(Gets::Next)) {
        (true, _) => Counts::Asked,
        // Whether a row was inserted is not told.
        (false, true) if numbering.ignores || numbering.updates => Counts::Asked,
        (false, true) => Counts::Told,
        (false, false) => Counts::Nothing,
    }
}

/// The longest answer to what is asked here, in bytes.
const ANSWER_MAX: usize = 1 << 10;

impl Session {
    fn left(&self) -> Left {
        let Last { insert_id, row_count, found_rows, .. } = self.last;
        let (warnings, errors) = self.warnings.counts();
        Left { insert_id, row_count, found_rows, warnings, errors, connection: self.ticket.number }
    }

    /// A statement of a text with what it asks for written out; `None`: it asks for nothing of the kind.
    fn written_out(&self, text: &str, planned: &Planned, world: &World) -> Result<Option<String>, ClientError> {
        mysql_state::written_out(text, planned.range.clone(), world.mode(), &self.left())
    }

    /// The same of a text that could not be compiled: a value may be a shard key.
    pub(super) fn told_whole(&self, text: &str, world: &World) -> Option<String> {
        mysql_state::written_out(text, 0..text.len(), world.mode(), &self.left()).ok().flatten()
    }

    /// Runs a statement that asks for the state of the session with what it asks for written out; `None`: nothing is to be.
    pub(super) async fn data_written_out(
        &mut self,
        text: &str,
        saying: Saying<'_>,
        planned: &Planned,
        parameters: Option<&Parameters<'_>>,
        world: &Rc<World>,
        more: bool,
    ) -> Result<Option<()>, Trouble> {
        // Its bytes are not those of the text.
        if matches!(saying, Saying::Raw(_)) {
            return Ok(None);
        }
        let Some(told) = self.written_out(text, planned, world)? else { return Ok(None) };
        self.data_told(&told, saying, parameters, world, more).await.map(Some)
    }

    /// Runs another text in the place of the client's, with the client's parameters.
    pub(super) async fn data_told(
        &mut self,
        told: &str,
        saying: Saying<'_>,
        parameters: Option<&Parameters<'_>>,
        world: &Rc<World>,
        more: bool,
    ) -> Result<(), Trouble> {
        self.data_renumbered(told, saying, parameters, None, world, more).await
    }

    /// The same with parameters of its own.
    pub(super) async fn data_renumbered(
        &mut self,
        told: &str,
        saying: Saying<'_>,
        parameters: Option<&Parameters<'_>>,
        renumbered: Option<&Renumbered>,
        world: &Rc<World>,
        more: bool,
    ) -> Result<(), Trouble> {
        let compiled = self.worker.planner.borrow_mut().compile(told, world);
        let statements = match compiled {
            Ok(statements) => statements,
            Err(error) => return Err(Box::pin(self.verified(error, told)).await),
        };
        let [planned] = statements.as_slice() else {
            return Err(ClientError::unsupported(
                "this statement, which asks for the state of the session, is not supported",
                "Ask for it by a statement of its own.",
            )
            .into());
        };
        let said = spliced(told, planned);
        match saying {
            Saying::Text(_) | Saying::Raw(_) => {
                Box::pin(self.data(told, Saying::Text(&said), planned, parameters, world, more)).await
            }
            Saying::Bound(bound) => {
                let key = self.state.key_of(&said);
                let Some(renumbered) = renumbered else {
                    let bound = bound.with_text(&said, key);
                    return Box::pin(self.data(told, Saying::Bound(&bound), planned, parameters, world, more)).await;
                };
                let bound = bound.with(renumbered, &said, key);
                let texts = bound.texts();
                let (oids, values) = parameters_of(&texts);
                let parameters = Parameters { types: &oids, values: &values };
                Box::pin(self.data(told, Saying::Bound(&bound), planned, Some(&parameters), world, more)).await
            }
        }
    }

    /// Has a connection know what LAST_INSERT_ID says, before a statement that may change it in a way that only its server
    /// tells.
    pub(super) async fn tell_insert_id(&self, link: &mut Link) -> Result<(), Broken> {
        let doubtful = link.doubtful;
        let said = link.run(&format!("SET last_insert_id = {}", self.last.insert_id)).await?;
        // Whoever asks is told anew.
        link.doubtful = doubtful;
        said.map(|_| ()).map_err(|failure| Broken::Server(failure.to_string()))
    }

    /// Asks behind it what it says now.
    pub(super) async fn ask_insert_id(&mut self, link: &mut Link) -> Result<(), Broken> {
        self.last.insert_id = ask_number(link, "SELECT LAST_INSERT_ID()").await?;
        Ok(())
    }

    /// Asks how many rows there were without LIMIT.
    pub(super) async fn ask_found_rows(&mut self, link: &mut Link) -> Result<(), Broken> {
        self.last.calculated = Some(ask_number(link, "SELECT FOUND_ROWS()").await?);
        Ok(())
    }
}

async fn ask_number(link: &mut Link, question: &str) -> Result<u64, Broken> {
    link.say_query(question).await?;
    let answer = relay::collect(link, ANSWER_MAX).await?.map_err(|failure| Broken::Server(failure.to_string()))?;
    let row = answer.rows.first().and_then(|it| text_row(it, 1).ok()?.first().copied().flatten());
    let number = row.and_then(|it| std::str::from_utf8(it).ok()?.parse().ok());
    number.ok_or_else(|| Broken::Server("tells no number".to_owned()))
}
