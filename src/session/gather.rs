//! Statements that are answered by one server with copies of what is elsewhere (`plan::Gather`).
//!
//! Two flights. In the first the server that gathers reads the client's text, so that what is wrong with it is the
//! server's own error, and the text with copies in the place of tables, which must describe itself alike; all shards
//! fetch rows, as the text form of each row. In the second the rows are bound as arrays, one a table, and the
//! statement runs.

use std::rc::Rc;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec::client::Message;
use crate::exec::flight;
use crate::exec::flight::Expect;
use crate::exec::flight::Item;
use crate::exec::flight::Outcome;
use crate::exec::flight::Show;
use crate::exec::say;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan;
use crate::plan::Copy;
use crate::plan::Effects;
use crate::plan::Gather;
use crate::plan::Planned;
use crate::plan::World;
use crate::session::Session;
use crate::session::Trouble;
use crate::session::extended::Portal;
use crate::session::extended::Reached;
use crate::session::extended::fatal;
use crate::session::extended::types_on;
use crate::session::prepared::Prepared;
use crate::session::simple::Place;
use crate::session::simple::characters;
use crate::session::simple::messages;
use crate::session::simple::only_error;
use crate::wire::postgres::frontend;
use crate::wire::postgres::frontend::Format;

/// More rows of one table and shard are not sent as an array.
const ARRAY_ROWS: usize = 10_000;

/// A Bind that is to be gathered for.
pub(super) struct Binding<'a> {
    pub(super) message: &'a Message,
    pub(super) portal: Box<str>,
    pub(super) prepared: Rc<Prepared>,
    pub(super) planned: Rc<Planned>,
}

/// What the first flight is to say.
struct Fetching<'a> {
    /// The client's text; `None`: the server has read it already, under this name.
    text: Result<&'a str, &'a str>,
    /// The text with copies in the place of tables.
    rewritten: &'a str,
    /// The parameter types of both, as the client knows them.
    types: &'a [u32],
    copies: &'a [Copy],
    /// Which link gathers.
    at: usize,
    /// The links by their shards.
    links: Vec<(ShardId, usize)>,
}

/// What the first flight brought.
struct Fetched {
    /// One array a copy, in its text form.
    arrays: Vec<Vec<u8>>,
    /// What was said of the client's text.
    notices: Vec<u8>,
}

impl Session {
    /// The shard that gathers.
    fn gathers_at(&self, gather: &Gather, effects: &Effects) -> ShardId {
        let database = &self.access.service.database;
        let clock = self.transaction.clock.filter(|_| self.transaction.is_open() && effects.uses_now);
        gather.at.or(clock).or(database.gather.on).unwrap_or(database.catalog)
    }

    /// Runs one statement of a Query. True: the client has been told that it may go on.
    pub(super) async fn gathered(
        &mut self,
        text: &str,
        statement: &Planned,
        gather: &Gather,
        place: Place,
        world: &Rc<World>,
    ) -> Result<bool, Trouble> {
        let template = Rc::clone(&statement.template);
        let home = self.gathers_at(gather, &template.effects);
        let shards = shards_of(gather, home);
        self.admit_at(&shards, &ShardSet::one(home), template.access, &template.effects)?;
        let places = self.join_all(&shards, template.access).await?;
        let links: Vec<(ShardId, usize)> = shards.iter().zip(places.iter().map(|at| usize::from(*at))).collect();
        let at = at_home(&links, home)?;
        let kept: SmallVec<[u32; 8]> = links.iter().map(|(_, at)| self.keep(*at)).collect();
        let keeper = self.links.get(at).map_or(0, |link| link.id);
        let sql = text.get(statement.range.clone()).unwrap_or_default();
        let offset = if place == Place::Alone { 0 } else { characters(text, statement.range.start) };
        let rewritten = rewritten(text, statement, gather, 0);
        let fetched = match &rewritten {
            Ok(rewritten) => {
                let fetching = Fetching { text: Ok(sql), rewritten, types: &[], copies: &gather.copies, at, links };
                self.fetch_rows(&fetching, offset).await
            }
            Err(error) => Err(error.clone().into()),
        };
        for id in kept {
            if id != keeper {
                self.unkeep(id);
            }
        }
        self.release_idle();
        let at = self.unkeep(keeper);
        let (fetched, rewritten, at) = match (fetched, rewritten, at) {
            (Ok(fetched), Ok(rewritten), Some(at)) => (fetched, rewritten, at),
            (Err(trouble), ..) => return Err(trouble),
            _ => return Err(not_gathered("").into()),
        };
        let _ = world;
        self.client.push(&fetched.notices);
        self.prefix(at);
        let links: SmallVec<[u8; 8]> = SmallVec::from_slice(&[u8::try_from(at).unwrap_or(u8::MAX)]);
        if let Some(link) = self.links.get_mut(at) {
            say::parse(&mut link.out, "", &rewritten, &[]);
            link.connection.unnamed = 0;
            say_bind(&mut link.out, "", &[], &[], &fetched.arrays, &[])?;
            say::about(&mut link.out, b'D', b'P', "");
            say::execute(&mut link.out, "");
            link.say_sync();
        }
        self.hold_for(&template.effects, &template.command, at);
        let alone = place == Place::Alone;
        let owed = |expect, show| Item::Owed { expect, links: links.clone(), show, prepares: 0 };
        self.items.push(owed(Expect::Parse, Show::Nobody));
        self.items.push(owed(Expect::Bind, Show::Nobody));
        self.items.push(owed(Expect::DescribePortal, Show::Client));
        self.items.push(owed(Expect::Execute, Show::Client));
        self.items.push(owed(Expect::Sync, if alone { Show::Client } else { Show::Nobody }));
        let outcome = self.fly(offset, alone).await?;
        self.shown(&outcome)
    }

    /// The first flight of a Query's statement: it ends what it begins, unless a transaction is open.
    async fn fetch_rows(&mut self, fetching: &Fetching<'_>, offset: u32) -> Result<Fetched, Trouble> {
        for (_, at) in &fetching.links {
            self.prefix(*at);
        }
        let rewritten_at = self.say_fetching(fetching)?;
        let links: SmallVec<[u8; 8]> =
            fetching.links.iter().map(|(_, at)| u8::try_from(*at).unwrap_or(u8::MAX)).collect();
        for (_, at) in &fetching.links {
            if let Some(link) = self.links.get_mut(*at) {
                link.say_sync();
            }
        }
        self.items.push(Item::Owed { expect: Expect::Sync, links, show: Show::Caller, prepares: 0 });
        let outcome = self.fly(offset, false).await?;
        if outcome.failed.is_some() && only_error(&outcome.collected).is_empty() {
            // It has been told already: a setting, say.
            return Err(Trouble::Failed);
        }
        self.take_fetched(&outcome, fetching, rewritten_at, offset)
    }

    /// Binds a portal to a statement that is gathered.
    pub(super) async fn bind_gathered(
        &mut self,
        binding: Binding<'_>,
        gather: &Gather,
        world: &Rc<World>,
    ) -> Result<(), Trouble> {
        let Binding { message, portal, prepared, planned } = binding;
        // What came before is in sight of what is fetched.
        if Box::pin(self.fly_batch()).await? == Reached::Failed {
            return Ok(());
        }
        let template = Rc::clone(&planned.template);
        let home = self.gathers_at(gather, &template.effects);
        let shards = shards_of(gather, home);
        self.admit_at(&shards, &ShardSet::one(home), template.access, &template.effects)?;
        let places = self.join_all(&shards, template.access).await?;
        let links: Vec<(ShardId, usize)> = shards.iter().zip(places.iter().map(|at| usize::from(*at))).collect();
        let at = at_home(&links, home)?;
        for (_, place) in links.iter().filter(|(_, place)| *place != at) {
            self.prefix(*place);
            if let Some(link) = self.links.get_mut(*place) {
                link.unsynced = true;
            }
        }
        self.ready_links(&[u8::try_from(at).unwrap_or(u8::MAX)], &prepared)?;
        let count = usize::from(template.parameters).max(prepared.types.len());
        let given = frontend::Bind::read(self.client.bytes(message.body())).map_err(fatal)?.count();
        if given != count {
            return Err(ClientError::new(
                Code::ProtocolViolation,
                format_args!("bind message supplies {given} parameters, but the statement requires {count}"),
                "Give one value for each $n.",
            )
            .into());
        }
        let rewritten = rewritten(&prepared.text, &planned, gather, count)?;
        let mut types = prepared.types.clone();
        types.resize(count, 0);
        let name = self.server_name(&prepared);
        let id = self.links.get(at).map_or(0, |link| link.id);
        let fetched = {
            let fetching =
                Fetching { text: Err(&name), rewritten: &rewritten, types: &types, copies: &gather.copies, at, links };
            let rewritten_at = self.say_fetching(&fetching)?;
            for (_, place) in &fetching.links {
                if let Some(link) = self.links.get_mut(*place) {
                    link.unsynced = true;
                    say::flush(&mut link.out);
                }
            }
            let outcome = self.fly_items(false).await?;
            if outcome.failed.is_some() && only_error(&outcome.collected).is_empty() {
                return Ok(());
            }
            self.take_fetched(&outcome, &fetching, rewritten_at, 0)?
        };
        let _ = world;
        let Some(at) = self.links.iter().position(|link| link.id == id) else { return Err(not_gathered("").into()) };
        let place = u8::try_from(at).unwrap_or(u8::MAX);
        let places: SmallVec<[u8; 8]> = SmallVec::from_slice(&[place]);
        let in_question;
        {
            let view = frontend::Bind::read(self.client.bytes(message.body())).map_err(fatal)?;
            let formats: Vec<Format> = (0..view.count()).map(|it| view.formats.at(it)).collect();
            let values: Vec<Option<&[u8]>> = view.values().collect();
            let results: Vec<Format> = (0..view.results.given()).map(|it| view.results.at(it)).collect();
            let Some(link) = self.links.get_mut(at) else { return Err(not_gathered("").into()) };
            in_question = link.type_oids.is_some() && results.contains(&Format::Binary);
            let theirs = match &link.type_oids {
                Some(oids) => types_on(&oids.known, &types)?,
                None => types,
            };
            say::parse(&mut link.out, "", &rewritten, &theirs);
            link.connection.unnamed = 0;
            let bound: Vec<(Format, Option<&[u8]>)> = formats.into_iter().zip(values).collect();
            say_bind(&mut link.out, &portal, &bound, &[], &fetched.arrays, &results)?;
            link.unsynced = true;
        }
        let access = template.access;
        let depth = self.transaction.savepoints.len();
        let owed = |expect, show| Item::Owed { expect, links: places.clone(), show, prepares: 0 };
        self.items.push(owed(Expect::Parse, Show::Nobody));
        let described = in_question.then(|| portal.clone());
        let links = SmallVec::from_slice(&[id]);
        self.put_portal(portal, Portal { prepared, planned: Some(planned), links, depth });
        self.items.push(owed(Expect::Bind, Show::Client));
        if let Some(portal) = described {
            return Box::pin(self.describe_numbers(&portal, &places, access)).await;
        }
        Ok(())
    }

    /// Says what the first flight says, but for its end. Which item answers the rewritten text's Parse.
    fn say_fetching(&mut self, fetching: &Fetching<'_>) -> Result<usize, Trouble> {
        let place = u8::try_from(fetching.at).unwrap_or(u8::MAX);
        let owed =
            |place: u8, expect, show| Item::Owed { expect, links: SmallVec::from_slice(&[place]), show, prepares: 0 };
        let Some(link) = self.links.get_mut(fetching.at) else { return Err(not_gathered("").into()) };
        let theirs = match &link.type_oids {
            Some(oids) => types_on(&oids.known, fetching.types)?,
            None => fetching.types.to_vec(),
        };
        match fetching.text {
            Ok(text) => {
                say::parse(&mut link.out, "", text, &theirs);
                say::about(&mut link.out, b'D', b'S', "");
                self.items.push(owed(place, Expect::Parse, Show::Caller));
            }
            Err(name) => say::about(&mut link.out, b'D', b'S', name),
        }
        self.items.push(owed(place, Expect::DescribeStatement, Show::Caller));
        let rewritten_at = self.items.len();
        say::parse(&mut link.out, "", fetching.rewritten, &theirs);
        say::about(&mut link.out, b'D', b'S', "");
        self.items.push(owed(place, Expect::Parse, Show::Caller));
        self.items.push(owed(place, Expect::DescribeStatement, Show::Caller));
        for copy in fetching.copies {
            let fetch = format!("{} LIMIT {}", copy.fetch, ARRAY_ROWS + 1);
            for shard in copy.shards.iter() {
                let Some((_, at)) = fetching.links.iter().find(|(it, _)| *it == shard) else { continue };
                let Some(link) = self.links.get_mut(*at) else { continue };
                let place = u8::try_from(*at).unwrap_or(u8::MAX);
                let mut steps: SmallVec<[(&str, Show); 3]> = SmallVec::new();
                if copy.unsettled {
                    steps.push((SETTLE, Show::Nobody));
                }
                steps.push((&fetch, Show::Caller));
                if copy.unsettled {
                    steps.push((UNSETTLE, Show::Nobody));
                }
                for (statement, show) in steps {
                    link.say_unnamed(statement);
                    for expect in [Expect::Parse, Expect::Bind, Expect::Execute] {
                        // Errors are told apart from what the client said itself.
                        let show = if expect == Expect::Execute { show } else { Show::Caller };
                        self.items.push(owed(place, expect, show));
                    }
                }
            }
        }
        for (_, at) in &fetching.links {
            if let Some(link) = self.links.get_mut(*at) {
                link.connection.unnamed = 0;
            }
        }
        Ok(rewritten_at)
    }

    /// Puts together what the first flight brought.
    fn take_fetched(
        &self,
        outcome: &Outcome,
        fetching: &Fetching<'_>,
        rewritten_at: usize,
        offset: u32,
    ) -> Result<Fetched, Trouble> {
        if let Some(failure) = &outcome.failed {
            let error = only_error(&outcome.collected);
            if failure.item >= rewritten_at && failure.item < rewritten_at + 2 {
                let said = flight::fields(&error).find(|(kind, _)| *kind == b'M').map(|(_, it)| it).unwrap_or_default();
                return Err(not_gathered(&String::from_utf8_lossy(said)).into());
            }
            return Err(Trouble::Told(flight::moved_position(error, offset)));
        }
        if outcome.overflowed {
            return Err(too_large(fetching.copies.first(), "bytes").into());
        }
        let mut notices = Vec::new();
        let mut described: Vec<&[u8]> = Vec::new();
        let mut parameters: Vec<&[u8]> = Vec::new();
        let mut fetches = fetching.copies.iter().enumerate().flat_map(|(at, copy)| copy.shards.iter().map(move |_| at));
        let mut current = fetches.next();
        let mut arrays: Vec<Vec<u8>> = fetching.copies.iter().map(|_| vec![b'{']).collect();
        let mut rows = 0_usize;
        for message in messages(&outcome.collected) {
            match message.first() {
                Some(b't') => parameters.push(message),
                Some(b'T' | b'n') => described.push(message),
                // What the text itself calls forth is told once.
                Some(b'N') if described.is_empty() => notices.extend_from_slice(message),
                Some(b'D') => {
                    rows += 1;
                    if rows > ARRAY_ROWS {
                        return Err(too_large(current.and_then(|at| fetching.copies.get(at)), "rows").into());
                    }
                    if let Some(array) = current.and_then(|at| arrays.get_mut(at)) {
                        put_element(array, message.get(11..).unwrap_or_default());
                    }
                }
                Some(b'C') => {
                    rows = 0;
                    current = fetches.next();
                }
                _ => {}
            }
        }
        if current.is_some() {
            return Err(not_gathered("a shard did not answer").into());
        }
        let alike = match (described.as_slice(), parameters.as_slice()) {
            ([text, rewritten], [ours, theirs]) => {
                let shape = text == rewritten || flight::same_columns(text, rewritten);
                // The copies are parameters too, behind all others.
                shape && theirs.get(7..).unwrap_or_default().starts_with(ours.get(7..).unwrap_or_default())
            }
            _ => false,
        };
        if !alike {
            return Err(not_gathered("with copies of its tables it has other columns").into());
        }
        for array in &mut arrays {
            array.push(b'}');
        }
        if fetching.text.is_err() {
            notices.clear();
        }
        Ok(Fetched { arrays, notices })
    }
}

/// Makes the text form of values independent of settings, until [`UNSETTLE`].
const SETTLE: &str = "SELECT pg_catalog.set_config('shardway.datestyle', pg_catalog.current_setting('datestyle'), true), \
     pg_catalog.set_config('shardway.intervalstyle', pg_catalog.current_setting('intervalstyle'), true), \
     pg_catalog.set_config('shardway.float_digits', pg_catalog.current_setting('extra_float_digits'), true), \
     pg_catalog.set_config('datestyle', 'ISO', true), pg_catalog.set_config('intervalstyle', 'postgres', true), \
     pg_catalog.set_config('extra_float_digits', '3', true)";

/// Takes [`SETTLE`] back.
const UNSETTLE: &str = "SELECT pg_catalog.set_config('datestyle', pg_catalog.current_setting('shardway.datestyle'), true), \
     pg_catalog.set_config('intervalstyle', pg_catalog.current_setting('shardway.intervalstyle'), true), \
     pg_catalog.set_config('extra_float_digits', pg_catalog.current_setting('shardway.float_digits'), true)";

/// All shards that take part.
fn shards_of(gather: &Gather, home: ShardId) -> ShardSet {
    let mut shards = ShardSet::one(home);
    for copy in &gather.copies {
        shards.union(&copy.shards);
    }
    shards
}

fn at_home(links: &[(ShardId, usize)], home: ShardId) -> Result<usize, ClientError> {
    links.iter().find(|(shard, _)| *shard == home).map(|(_, at)| *at).ok_or_else(|| not_gathered(""))
}

/// The statement with its copies as parameters behind the `count` of the client's own.
fn rewritten(text: &str, planned: &Planned, gather: &Gather, count: usize) -> Result<String, ClientError> {
    let copy = |place: usize| match gather.copies.get(place) {
        Some(copy) => plan::as_parameter(copy, count + place + 1),
        None => String::new(),
    };
    planned.rewritten(text, &copy).ok_or_else(|| not_gathered(""))
}

/// Appends an element to an array's text form: the row's text form, quoted.
fn put_element(array: &mut Vec<u8>, row: &[u8]) {
    if array.len() > 1 {
        array.push(b',');
    }
    array.push(b'"');
    for byte in row {
        if matches!(byte, b'"' | b'\\') {
            array.push(b'\\');
        }
        array.push(*byte);
    }
    array.push(b'"');
}

/// Bind with further values behind the client's: arrays in text format.
fn say_bind(
    out: &mut Vec<u8>,
    portal: &str,
    values: &[(Format, Option<&[u8]>)],
    statement: &[u8],
    arrays: &[Vec<u8>],
    results: &[Format],
) -> Result<(), Trouble> {
    let count = |of: usize| u16::try_from(of).map_err(|_| not_gathered("too many parameters"));
    let code = |format: &Format| u16::from(*format == Format::Binary).to_be_bytes();
    let all = count(values.len() + arrays.len())?;
    let size: usize = arrays.iter().map(Vec::len).sum::<usize>()
        + values.iter().map(|(_, it)| it.map_or(0, <[u8]>::len)).sum::<usize>();
    if size > flight::COLLECTED_MAX * 2 {
        return Err(too_large(None, "bytes").into());
    }
    let results_count = count(results.len())?;
    say::message(out, b'B', |out| {
        say::string(out, portal);
        out.extend_from_slice(statement);
        out.push(0);
        out.extend_from_slice(&all.to_be_bytes());
        for (format, _) in values {
            out.extend_from_slice(&code(format));
        }
        out.resize(out.len() + arrays.len() * 2, 0);
        out.extend_from_slice(&all.to_be_bytes());
        for value in values.iter().map(|(_, it)| *it).chain(arrays.iter().map(|it| Some(it.as_slice()))) {
            match value {
                None => out.extend_from_slice(&u32::MAX.to_be_bytes()),
                Some(bytes) => {
                    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
                    out.extend_from_slice(bytes);
                }
            }
        }
        out.extend_from_slice(&results_count.to_be_bytes());
        for format in results {
            out.extend_from_slice(&code(format));
        }
    });
    Ok(())
}

fn not_gathered(why: &str) -> ClientError {
    let error = ClientError::unsupported(
        "this statement across shards is not supported: it does not run on copies of its tables",
        "Add a condition on the shard key so that one shard answers.",
    );
    if why.is_empty() { error } else { error.with_detail(format!("The server said: {why}.")) }
}

fn too_large(copy: Option<&Copy>, what: &str) -> ClientError {
    let table = copy.map_or_else(|| "the statement's tables".to_owned(), |it| format!("\"{}\"", it.table));
    ClientError::new(
        Code::TooLarge,
        format!("the statement needs too many {what} of {table} in one place"),
        "Narrow it by conditions that every row must satisfy, or by the shard key.",
    )
}
