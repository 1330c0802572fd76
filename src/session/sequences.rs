//! Numbers of the map's sequences: taken from the shard that counts in blocks, which the sessions of the process share.
//!
//! Each block is taken by calls of `nextval` in a transaction of their own, on a connection of their own: nobody else gets
//! these numbers, whoever asks the sequence. They are used only once that transaction's commit is confirmed, so that no
//! crash of the server hands them out again. What is left of a block when the process ends is a gap.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec;
use crate::exec::Aside;
use crate::exec::ask;
use crate::exec::ask::Answer;
use crate::exec::client::Message;
use crate::exec::flight;
use crate::ident::ShardId;
use crate::ident::TableName;
use crate::plan::Number;
use crate::plan::Planned;
use crate::plan::World;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::extended::fatal;
use crate::session::extended::same_count;
use crate::session::prepared::Drawn;
use crate::session::prepared::Prepared;
use crate::session::simple::Ask;
use crate::session::simple::Place;
use crate::session::simple::characters;
use crate::shard_map::Sequence;
use crate::wire::postgres::frontend;
use crate::wire::postgres::frontend::Format;

/// How long numbers are waited for, whatever the limit of statements.
const TAKE_MAX: Duration = Duration::from_secs(10);
/// Numbers that one server is asked for at once.
const TAKEN_MAX: usize = 100_000;
/// Parameters that a Bind can have.
const PARAMETERS_MAX: usize = 65_535;
/// bigint
const INT8: u32 = 20;

/// Whose numbers: who may use a sequence is the server's to say, for each role.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owner {
    database: Arc<str>,
    shard: Arc<str>,
    /// `None`: whoever inserts into an identity column, for which no right on the sequence is asked.
    user: Option<Arc<str>>,
    role: Option<Arc<str>>,
    sequence: TableName,
    /// The schema under which they were taken: another of that name is another sequence.
    schema: u64,
}

/// Numbers that have been taken and not handed out yet, of all sessions.
#[derive(Debug, Default)]
pub struct Blocks {
    known: Mutex<HashMap<Owner, Arc<Block>>>,
}

/// Those of one owner.
#[derive(Debug, Default)]
struct Block {
    runs: Mutex<VecDeque<Run>>,
    /// How often what was left has been given up: what was asked for before is not taken in.
    given_up: AtomicU64,
    /// One at a time takes more: others find what it has brought.
    turn: tokio::sync::Mutex<()>,
}

/// Numbers at equal distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    next: i64,
    step: i64,
    left: usize,
}

/// What `currval` and `lastval` say in a session.
#[derive(Debug, Default)]
pub struct Seen {
    current: HashMap<TableName, i64>,
    last: Option<TableName>,
    /// A server has numbered rows by itself since: it would have to be asked.
    elsewhere: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Blocks {
    fn of(&self, owner: &Owner) -> Arc<Block> {
        let mut known = locked(&self.known);
        if let Some(block) = known.get(owner) {
            return Arc::clone(block);
        }
        // What was taken under another schema is given up.
        known.retain(|it, _| it.schema == owner.schema || it.database != owner.database);
        Arc::clone(known.entry(owner.clone()).or_default())
    }

    /// Gives up what is left for a database, for its schema has changed through this proxy.
    pub(super) fn forget(&self, database: &str) {
        locked(&self.known).retain(|owner, block| {
            if *owner.database == *database {
                block.give_up();
            }
            *owner.database != *database
        });
    }

    /// Gives up what is left, for the sequence has been set.
    fn drop_all(&self, of: &Owner) {
        for (owner, block) in &*locked(&self.known) {
            if (&owner.database, &owner.shard, &owner.sequence) == (&of.database, &of.shard, &of.sequence) {
                block.give_up();
            }
        }
    }
}

impl Block {
    fn give_up(&self) {
        let mut runs = locked(&self.runs);
        self.given_up.fetch_add(1, Ordering::Relaxed);
        runs.clear();
    }

    /// Hands out numbers, in their order, until there are `count`.
    fn hand_out(&self, numbers: &mut Vec<i64>, count: usize) {
        let mut runs = locked(&self.runs);
        while numbers.len() < count {
            let Some(run) = runs.front_mut() else { return };
            numbers.push(run.next);
            run.left -= 1;
            if run.left == 0 {
                runs.pop_front();
            } else {
                // The last of a run may be the greatest there is.
                run.next = run.next.saturating_add(run.step);
            }
        }
    }
}

impl Seen {
    /// Forgets all, as DISCARD SEQUENCES does.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// A server numbers rows by itself.
    pub fn counted_elsewhere(&mut self) {
        *self = Self { elsewhere: true, ..Self::default() };
    }

    /// These numbers are the latest that were taken.
    pub fn saw(&mut self, taken: &[Number], numbers: &[i64]) {
        for (number, value) in taken.iter().zip(numbers) {
            if let Number::Next(name) | Number::Identity(name) = number {
                self.current.insert(name.clone(), *value);
                self.last = Some(name.clone());
            }
        }
    }

    fn current(&self, name: &TableName) -> Result<i64, ClientError> {
        if self.elsewhere && !self.current.contains_key(name) {
            return Err(elsewhere());
        }
        self.current.get(name).copied().ok_or_else(|| {
            ClientError::new(
                Code::NotYetDefined,
                format_args!("currval of sequence \"{}\" is not yet defined in this session", name.name),
                "Call nextval first.",
            )
        })
    }

    fn last(&self) -> Result<i64, ClientError> {
        if self.elsewhere && self.last.is_none() {
            return Err(elsewhere());
        }
        self.last.as_ref().and_then(|it| self.current.get(it)).copied().ok_or_else(|| {
            ClientError::new(Code::NotYetDefined, "lastval is not yet defined in this session", "Call nextval first.")
        })
    }
}

impl Session {
    /// Runs a statement of a Query that takes numbers from sequences: with the numbers, it is a statement like any other.
    pub(super) async fn draw(
        &mut self,
        text: &str,
        statement: &Planned,
        place: Place,
        world: &Rc<World>,
    ) -> Result<bool, Trouble> {
        let sql = text.get(statement.range.clone()).unwrap_or_default();
        let told = match statement.told(text, world, false) {
            Ok(told) if statement.template.parameters == 0 => told,
            Err(error) => return Err(Box::pin(self.verified(error, sql, &[], world)).await),
            // Without values a server refuses every parameter.
            Ok(_) => return Err(Box::pin(self.asked(no_values(), sql, &[], world, Ask::Text)).await),
        };
        let numbers = self.take_numbers(&told.numbers, world).await?;
        let sql = told.text(|at| numbers.get(at).map_or_else(String::new, i64::to_string));
        // In its place, so that errors before the first number are told where they stand.
        let before = usize::try_from(characters(text, statement.range.start)).unwrap_or(0);
        let sql = format!("{:before$}{sql}", "");
        let compiled = self.worker.planner.borrow_mut().compile(&sql, world);
        match compiled {
            Ok(statements) => match statements.as_slice() {
                [only] if !only.draws() => {
                    // Rows that were read elsewhere say what they say.
                    let only = Planned { read: statement.read, ..only.clone() };
                    Box::pin(self.data(&sql, &only, place, world)).await
                }
                _ => Err(unclear().into()),
            },
            Err(error) => Err(Box::pin(self.verified(error, &sql, &[], world)).await),
        }
    }

    /// Binds a statement that takes numbers from sequences: they are parameters of the statement that servers get.
    pub(super) async fn bind_drawn(
        &mut self,
        message: &Message,
        prepared: &Rc<Prepared>,
        planned: &Planned,
        world: &Rc<World>,
    ) -> Result<(), Trouble> {
        let drawn = match self.drawn(prepared, planned, world) {
            Ok(drawn) => drawn,
            Err(error) => {
                return Err(Box::pin(self.verified(error, &prepared.text, &prepared.types, world)).await);
            }
        };
        let body = self.client.bytes(message.body()).to_vec();
        let view = frontend::Bind::read(&body).map_err(fatal)?;
        same_count(view.count(), drawn.given)?;
        let numbers = self.take_numbers(&drawn.numbers, world).await?;
        let code = |format: Format| if format == Format::Binary { 1_i16 } else { 0 };
        let added: Vec<[u8; 8]> = numbers.iter().map(|it| it.to_be_bytes()).collect();
        let formats: Vec<i16> =
            (0..drawn.given).map(|at| code(view.formats.at(at))).chain(added.iter().map(|_| 1)).collect();
        let values: Vec<Option<&[u8]>> = view.values().chain(added.iter().map(|it| Some(&it[..]))).collect();
        let results: Vec<i16> = (0..view.results.given()).map(|at| code(view.results.at(at))).collect();
        let mut bytes = Vec::new();
        frontend::bind(&mut bytes, view.portal, view.statement, &formats, &values, &results).map_err(fatal)?;
        let message = self.client.put_in_place(b'B', bytes);
        let drawn_statement = Rc::clone(&drawn.prepared);
        // The client's Parse is answered by the one that servers get.
        if let Some(deferred) = self.deferred.as_mut().filter(|it| Rc::ptr_eq(&it.prepared, prepared)) {
            deferred.prepared = Rc::clone(&drawn_statement);
        }
        Box::pin(self.bind_to(&message, drawn_statement)).await
    }

    /// What servers get for a prepared statement that takes numbers.
    fn drawn(&self, prepared: &Prepared, planned: &Planned, world: &Rc<World>) -> Result<Rc<Drawn>, ClientError> {
        if let Some((known, drawn)) = &*prepared.drawn.borrow()
            && *known == world.id
        {
            return Ok(Rc::clone(drawn));
        }
        let told = planned.told(&prepared.text, world, true)?;
        let given = usize::from(planned.template.parameters).max(prepared.types.len());
        if given + told.numbers.len() > PARAMETERS_MAX {
            return Err(ClientError::new(
                Code::TooLarge,
                format_args!("the statement needs {} numbers of sequences", told.numbers.len()),
                "Insert fewer rows at once.",
            ));
        }
        let text: Arc<str> = told.text(|at| format!("${}", given + at + 1)).into();
        let mut types = prepared.types.clone();
        types.resize(given, 0);
        types.resize(given + told.numbers.len(), INT8);
        let mut statements = self.worker.planner.borrow_mut().compile(&text, world)?;
        let mut compiled = statements.pop().filter(|it| !it.draws()).ok_or_else(unclear)?;
        compiled.read = planned.read;
        let unnamed = self.unnamed.as_ref().is_some_and(|it| it.number.number == prepared.number.number);
        let number = match unnamed || prepared.passing {
            true => self.worker.registry.fresh(),
            false => self.worker.registry.number(&text, &types, None, world),
        };
        let compiled = (world.id, Some(Rc::new(compiled))).into();
        let statement = Prepared {
            text,
            types,
            written_types: None,
            number,
            compiled,
            drawn: None.into(),
            passing: prepared.passing,
        };
        let drawn = Rc::new(Drawn { prepared: Rc::new(statement), numbers: told.numbers, given });
        *prepared.drawn.borrow_mut() = Some((world.id, Rc::clone(&drawn)));
        Ok(drawn)
    }

    /// The numbers that a statement needs. They stay taken, whatever becomes of it.
    async fn take_numbers(&mut self, wanted: &[Number], world: &World) -> Result<Vec<i64>, Trouble> {
        let changes = |it: &&Number| matches!(it, Number::Next(_) | Number::Identity(_) | Number::Set { .. });
        if let Some(number) = wanted.iter().find(changes).filter(|_| self.is_read_only()) {
            let called = if matches!(number, Number::Set { .. }) { "setval" } else { "nextval" };
            return Err(ClientError::new(
                Code::ReadOnlyTransaction,
                format_args!("cannot execute {called}() in a read-only transaction"),
                "Begin a transaction that is READ WRITE.",
            )
            .into());
        }
        self.may_number()?;
        let (access, worker) = (Rc::clone(&self.access), Rc::clone(&self.worker));
        let limit = self.map.timeouts.statement;
        let counter = Counter { access: &access, blocks: &worker.blocks, limit, world };
        let sets = wanted.iter().any(|it| matches!(it, Number::Set { .. }));
        let mut stock: HashMap<(&TableName, Aside), VecDeque<i64>> = HashMap::new();
        let mut numbers = Vec::with_capacity(wanted.len());
        for (at, number) in wanted.iter().enumerate() {
            numbers.push(match number {
                Number::Next(name) | Number::Identity(name) => {
                    let who = if matches!(number, Number::Next(_)) { Aside::User } else { Aside::Control };
                    let key = (name, who);
                    if stock.get(&key).is_none_or(VecDeque::is_empty) {
                        let rest = wanted.get(at..).unwrap_or_default();
                        let count = rest.iter().filter(|it| *it == number).count();
                        let taken = counter.next(number, if sets { 1 } else { count }).await?;
                        stock.insert(key, taken.into());
                    }
                    let next = stock.get_mut(&key).and_then(VecDeque::pop_front).ok_or_else(unclear)?;
                    self.seen.current.insert(name.clone(), next);
                    self.seen.last = Some(name.clone());
                    next
                }
                Number::Current(name) => self.seen.current(name)?,
                Number::Last => self.seen.last()?,
                Number::Set { name, value, called } => {
                    counter.set(name, *value, *called).await?;
                    if *called {
                        self.seen.current.insert(name.clone(), *value);
                    }
                    *value
                }
            });
        }
        Ok(numbers)
    }

    /// Whether numbers may be taken now.
    pub(super) fn may_number(&self) -> Result<(), ClientError> {
        if self.transaction.schema.is_some() || self.transaction.altered {
            return Err(ClientError::unsupported(
                "numbers of a sequence behind a change of the schema in the same transaction are not supported",
                "COMMIT first.",
            ));
        }
        Ok(())
    }
}

/// Takes numbers for a session.
pub(super) struct Counter<'a> {
    pub(super) access: &'a exec::Access,
    pub(super) blocks: &'a Blocks,
    /// How long a statement may take.
    pub(super) limit: Duration,
    pub(super) world: &'a World,
}

impl Counter<'_> {
    fn owner(&self, name: &TableName, who: Aside) -> Result<(Owner, Sequence), ClientError> {
        let world = self.world;
        let sequence = *world.database.sequences.get(name).ok_or_else(unclear)?;
        let owner = Owner {
            database: Arc::clone(&world.database.name),
            shard: Arc::clone(&world.database.shard(sequence.shard).name),
            user: (who == Aside::User).then(|| Arc::clone(&world.view.user)),
            role: world.view.role.clone().filter(|_| who == Aside::User),
            sequence: name.clone(),
            schema: world.schema.digest,
        };
        Ok((owner, sequence))
    }

    /// The next `count` numbers of a sequence.
    pub(super) async fn next(&self, number: &Number, count: usize) -> Result<Vec<i64>, Trouble> {
        let (name, who) = match number {
            Number::Next(name) => (name, Aside::User),
            Number::Identity(name) => (name, Aside::Control),
            Number::Current(_) | Number::Last | Number::Set { .. } => return Err(unclear().into()),
        };
        let (owner, sequence) = self.owner(name, who)?;
        let block = self.blocks.of(&owner);
        let mut numbers = Vec::with_capacity(count);
        block.hand_out(&mut numbers, count);
        if numbers.len() == count {
            return Ok(numbers);
        }
        let taking = async {
            let _turn = block.turn.lock().await;
            loop {
                // Somebody may have brought some meanwhile.
                block.hand_out(&mut numbers, count);
                if numbers.len() == count {
                    return Ok::<(), Trouble>(());
                }
                let wanted = sequence.block.max(count - numbers.len()).min(TAKEN_MAX);
                let before = block.given_up.load(Ordering::Relaxed);
                let answer = self.ask_sequence(&owner, sequence.shard, &next_text(name, wanted)).await?;
                let runs = answer.rows.iter().filter(|row| row.len() == 3).filter_map(|row| run(row));
                let runs: VecDeque<Run> = runs.collect();
                if runs.is_empty() {
                    return Err(unclear().into());
                }
                let mut kept = locked(&block.runs);
                if block.given_up.load(Ordering::Relaxed) == before {
                    kept.extend(runs);
                }
            }
        };
        self.in_time(name, taking).await?;
        Ok(numbers)
    }

    /// Sets the sequence itself, as its own server does it. What other proxies have taken stays theirs.
    async fn set(&self, name: &TableName, value: i64, called: bool) -> Result<(), Trouble> {
        let (owner, sequence) = self.owner(name, Aside::User)?;
        let text = format!("SELECT pg_catalog.setval({}, {value}, {called})", regclass(name));
        let setting = self.ask_sequence(&owner, sequence.shard, &text);
        let set = self.in_time(name, setting).await;
        // Unless its server said that it has not.
        if !matches!(set, Err(Trouble::Told(_))) {
            self.blocks.drop_all(&owner);
        }
        set.map(|_| ())
    }

    async fn in_time<T>(
        &self,
        name: &TableName,
        doing: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let limit = exec::limit(self.limit).map_or(TAKE_MAX, |it| it.min(TAKE_MAX));
        match Box::pin(tokio::time::timeout(limit, doing)).await {
            Ok(done) => done,
            Err(_) => Err(ClientError::new(
                Code::TimedOut,
                format_args!("no number came from sequence \"{name}\" within {limit:?}"),
                "Look at the shard that the map names for it: SHOW NODES in the console.",
            )
            .into()),
        }
    }

    /// Asks the shard that counts, in a transaction that is durable before its answer counts.
    async fn ask_sequence(&self, owner: &Owner, shard: ShardId, text: &str) -> Result<Answer, Trouble> {
        let role = owner.role.as_ref().map_or_else(String::new, |it| format!("SET LOCAL ROLE {}; ", quoted(it)));
        let text = format!("BEGIN READ WRITE; {role}{SAFELY}; {text}; COMMIT");
        let who = if owner.user.is_some() { Aside::User } else { Aside::Control };
        // A connection that rested may have broken since. What the server may have given on it is a gap.
        for _ in 0..ATTEMPTS {
            let mut link = self.access.aside(shard, who).await?;
            let Ok(()) = ask::tell(&mut link, &[&text]).await else { continue };
            let Ok(mut answers) = ask::hear(&mut link, 1).await else { continue };
            let mut answer = answers.pop().unwrap_or_default();
            match answer.error.take() {
                // It stops, or is not up yet.
                Some(error) if flight::fields(&error).any(|(kind, it)| kind == b'C' && it.starts_with(b"57P")) => {}
                // Dropped, the link closes its connection.
                Some(error) => return Err(Trouble::Told(flight::without_position(error))),
                None if answer.is("COMMIT") => {
                    self.access.release_aside(link, who);
                    return Ok(answer);
                }
                None => {}
            }
        }
        Err(ClientError::new(
            Code::ShardUnavailable,
            format_args!("the server that counts for sequence \"{}\" broke off", owner.sequence),
            "Try again: numbers that it may have given are left out.",
        )
        .into())
    }
}

/// How often a server that breaks off is asked.
const ATTEMPTS: usize = 3;

/// Whatever the role or the server say by default: nothing that was told may be lost, and nobody waits for ever. A server
/// logs every 33rd number only: the message makes the commit wait for the log as far as it has come.
const SAFELY: &str = "SELECT pg_catalog.set_config('search_path', 'pg_catalog', true), \
     pg_catalog.set_config('statement_timeout', '10s', true), pg_catalog.set_config('lock_timeout', '10s', true), \
     pg_catalog.set_config('synchronous_commit', CASE WHEN pg_catalog.current_setting('synchronous_commit') \
     OPERATOR(pg_catalog.=) ANY (ARRAY['off', 'local', 'remote_write']) THEN 'on' \
     ELSE pg_catalog.current_setting('synchronous_commit') END, true), \
     pg_catalog.pg_logical_emit_message(true, 'shardway', '')";

/// Takes numbers: as many as are left at the end of a sequence, else `count`, for what a failing nextval has taken is lost.
/// Each row is a run at equal distances: its first number, how many there are, and the distance.
fn next_text(name: &TableName, count: usize) -> String {
    let sequence = regclass(name);
    format!(
        "WITH rule AS (SELECT seqincrement::numeric AS step, CASE WHEN seqcycle THEN {count} ELSE least({count}, greatest(1, \
         div(CASE WHEN seqincrement > 0 THEN seqmax ELSE seqmin END \
         - coalesce(pg_sequence_last_value(seqrelid)::numeric, seqstart::numeric - seqincrement), seqincrement)))::int8 END AS n \
         FROM pg_sequence WHERE seqrelid = {sequence}), \
         taken AS (SELECT at, nextval({sequence}) AS number, step FROM rule, generate_series(1, n) AS at) \
         SELECT (array_agg(number ORDER BY at))[1], count(*), step::int8 \
         FROM (SELECT at, number, step, number - at * step AS run FROM taken) AS numbered GROUP BY run, step ORDER BY min(at)"
    )
}

fn run(row: &[Option<String>]) -> Option<Run> {
    let number = |at: usize| row.get(at)?.as_deref()?.parse::<i64>().ok();
    let left = usize::try_from(number(1)?).ok().filter(|it| *it > 0)?;
    Some(Run { next: number(0)?, step: number(2)?, left })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn regclass(name: &TableName) -> String {
    let name = format!("{}.{}", quoted(&name.schema), quoted(&name.name));
    format!("E'{}'::pg_catalog.regclass", name.replace('\\', "\\\\").replace('\'', "''"))
}

fn elsewhere() -> ClientError {
    ClientError::unsupported(
        "currval and lastval behind rows that their own server has numbered are not supported",
        "Use RETURNING; or list the sequence in the map, on another shard than its table's.",
    )
}

fn no_values() -> ClientError {
    ClientError::unsupported("parameters in a simple query are not supported", "Give them by Bind.")
}

fn unclear() -> ClientError {
    ClientError::unsupported(
        "this use of a sequence is not supported",
        "Take numbers by INSERT … VALUES, or by SELECT nextval('…') before.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_handed_out_in_order_and_once() {
        let block = Block::default();
        locked(&block.runs).extend([
            Run { next: 1, step: 1, left: 3 },
            Run { next: i64::MAX, step: 5, left: 1 },
            Run { next: -2, step: -2, left: 2 },
        ]);
        let mut numbers = Vec::new();
        block.hand_out(&mut numbers, 2);
        assert_eq!(numbers, [1, 2]);
        numbers.clear();
        block.hand_out(&mut numbers, 9);
        assert_eq!(numbers, [3, i64::MAX, -2, -4]);
    }

    #[test]
    fn names_are_quoted() {
        let name = TableName::new("odd", "it's \"a\" \\ name");
        assert_eq!(regclass(&name), r#"E'"odd"."it''s ""a"" \\ name"'::pg_catalog.regclass"#);
    }
}
