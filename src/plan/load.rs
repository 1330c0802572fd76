//! LOAD DATA LOCAL into tables of several shards: which shard each line of a client's file belongs to.
//!
//! The file is cut as MariaDB's and MySQL's reader cuts it (fields first, then what is left of the line); nothing of a line is
//! changed on its way. Only the shard key is read, and a number for AUTO_INCREMENT. What is wrong with a line is for the
//! server to say that gets it.

use std::rc::Rc;
use std::sync::Arc;

use crate::error::ClientError;
use crate::error::Code;
use crate::ident::ShardId;
use crate::ident::TableName;
use crate::plan::Numbering;
use crate::plan::Plan;
use crate::plan::World;
use crate::plan::key::Column;
use crate::plan::key::Stored;
use crate::plan::key::loaded;
use crate::plan::key::loaded_number;
use crate::plan::route::loads;
use crate::plan::route::no_shard_hint;
use crate::shard_map::Placement;
use crate::sql::mysql::load::Field;
use crate::sql::mysql::load::Format;
use crate::sql::mysql::load::Load;
use crate::sql::not_mapped;

/// Of so many lines it is known where they went: for messages that name one.
const LINES_MAX: usize = 1 << 24;

/// Where the lines of a file go.
#[derive(Clone, Debug)]
pub struct Loading {
    table: TableName,
    /// The shards that take part, in the map's order.
    pub shards: Vec<ShardId>,
    whose: Whose,
    load: Load,
    /// The columns of the table, where the client names none.
    list: Option<String>,
    /// User variables that fields are given to.
    pub variables: Vec<Arc<str>>,
    /// The table counts by AUTO_INCREMENT, and one shard has all of it.
    pub counts: bool,
}

/// Whose a line is.
#[derive(Clone, Debug)]
enum Whose {
    /// That shard's to which its key belongs.
    Key { key: Arc<str>, group: usize, column: Column, field: usize, number: Option<Counted> },
    /// Every shard's that takes part.
    Everybody,
}

/// A column whose numbers the proxy gives.
#[derive(Clone, Debug)]
struct Counted {
    column: Arc<str>,
    is_key: bool,
    field: usize,
}

/// Where a file goes, and why there.
pub(crate) fn compile(load: &Load, world: &World) -> Result<Loading, ClientError> {
    if let Some((what, hint)) = load.refused {
        return Err(ClientError::unsupported(format!("{what} is not supported"), hint));
    }
    let own = &*world.view.search_path;
    if load.database.as_ref().is_some_and(|it| **it != *own) {
        return Err(ClientError::unsupported(
            format!("LOAD DATA into table \"{}\" of another database is not supported", load.table),
            "USE its database first.",
        ));
    }
    let table = TableName::new(own, &load.table);
    let placement = world.database.placement(&table).ok_or_else(|| not_mapped(&table))?;
    let relation = world.schema.relation(&table).ok_or_else(|| not_mapped(&table))?;
    let counter = relation.columns.iter().find(|it| it.uses_sequence);
    let count = u16::try_from(world.database.shards.len()).unwrap_or(u16::MAX);
    let all: Vec<ShardId> = (0..count).map(ShardId).collect();
    let variables = load.fields.iter().filter_map(|it| match it {
        Field::Variable(name) => Some(Arc::clone(name)),
        Field::Column(_) => None,
    });
    let variables: Vec<Arc<str>> = variables.collect();
    let loading = |shards, whose, list, counts| {
        Ok(Loading {
            table: table.clone(),
            shards,
            whose,
            load: load.clone(),
            list,
            variables: variables.clone(),
            counts,
        })
    };
    let (group, key) = match placement {
        Placement::Unsharded { home } => {
            loads(relation, world, None, load.fields.is_empty())?;
            return loading(vec![home], Whose::Everybody, None, counter.is_some());
        }
        Placement::Reference => {
            loads(relation, world, None, load.fields.is_empty())?;
            if let Some(counter) = counter {
                return Err(ClientError::unsupported(
                    format!(
                        "LOAD DATA into reference table \"{table}\", where AUTO_INCREMENT counts \"{}\", is not supported: its \
                         copies could come to differ",
                        counter.name
                    ),
                    "Insert the rows by INSERT.",
                ));
            }
            return loading(all, Whose::Everybody, None, false);
        }
        Placement::Sharded { group, key } => (group, key),
    };
    let column = loads(relation, world, Some((group, &key)), load.fields.is_empty())?;
    let column = column.ok_or_else(|| not_mapped(&table))?;
    let named = |name: &str| {
        let is = |it: &Field| matches!(it, Field::Column(known) if known.eq_ignore_ascii_case(name));
        let mut places = load.fields.iter().enumerate().filter(|(_, it)| is(it)).map(|(place, _)| place);
        let place = match load.fields.is_empty() {
            true => relation.column(name),
            false => places.next(),
        };
        let assigned = load.assigned.iter().any(|it| it.eq_ignore_ascii_case(name));
        match places.next().is_some() || assigned {
            true => Err(ClientError::unsupported(
                format!("LOAD DATA that computes \"{name}\" of \"{table}\" (SET), or gives it twice, is not supported"),
                format!("Give \"{name}\" as a field of its own."),
            )),
            false => Ok(place),
        }
    };
    let field = named(&key)?.ok_or_else(|| {
        ClientError::new(
            Code::ShardKeyMissing,
            format!("LOAD DATA into \"{table}\" gives no value for its shard key"),
            format!("Name \"{key}\" in the list of columns."),
        )
    })?;
    let number = match counter {
        None => None,
        Some(it) => {
            let field = named(&it.name)?.ok_or_else(|| uncounted(&table, &it.name))?;
            Some(Counted { column: Arc::clone(&it.name), is_key: it.name == key, field })
        }
    };
    let list = load.fields.is_empty().then(|| {
        let names = relation.columns.iter().map(|it| format!("`{}`", it.name.replace('`', "``")));
        format!(" ({})", names.collect::<Vec<_>>().join(", "))
    });
    let function = &world.database.groups.get(group).ok_or_else(|| not_mapped(&table))?.function;
    let shards = all.into_iter().filter(|it| function.shards().contains(*it)).collect();
    loading(shards, Whose::Key { key, group, column, field, number }, list, false)
}

fn uncounted(table: &TableName, column: &str) -> ClientError {
    ClientError::unsupported(
        format!("LOAD DATA that leaves \"{column}\" of sharded table \"{table}\" to AUTO_INCREMENT is not supported"),
        format!("Give \"{column}\" in the file, or insert the rows by INSERT."),
    )
}

impl Loading {
    /// The plan that goes with it.
    pub(crate) fn plan(&self) -> Plan {
        match self.shards.as_slice() {
            [only] => Plan::One(*only),
            _ => Plan::Everywhere,
        }
    }

    /// All shards that take part get the same lines.
    #[must_use]
    pub fn is_for_everybody(&self) -> bool {
        matches!(self.whose, Whose::Everybody)
    }

    /// What the file is written in, where the client says it.
    #[must_use]
    pub fn character_set(&self) -> Option<&str> {
        self.load.character_set.as_deref()
    }

    /// What each shard is told: with what the file is written in, and without the lines that are passed over.
    #[must_use]
    pub fn said(&self, text: &str, character_set: &str) -> Option<String> {
        if self.is_for_everybody() {
            return Some(text.to_owned());
        }
        let (head, rest) = text.split_at_checked(self.load.character_set_at)?;
        let between = match &self.load.skips_at {
            None => rest.get(..self.load.fields_at.checked_sub(head.len())?)?,
            Some(skips) => rest.get(..skips.start.checked_sub(head.len())?)?,
        };
        let tail = text.get(self.load.fields_at..)?;
        let character_set = match self.load.character_set {
            Some(_) => String::new(),
            None => format!(" CHARACTER SET {character_set}"),
        };
        let list = self.list.as_deref().unwrap_or_default();
        // An empty list is none.
        let tail = match list.is_empty() {
            true => tail,
            false => {
                tail.trim_start().strip_prefix('(').map_or(tail, |it| it.trim_start().strip_prefix(')').unwrap_or(tail))
            }
        };
        Some(format!("{head}{character_set}{between}{list}{tail}"))
    }

    /// The count moves behind a number that a line gives.
    #[must_use]
    pub fn numbering(&self, number: i64) -> Option<Numbering> {
        match &self.whose {
            Whose::Key { number: Some(it), .. } => {
                Some(Numbering::of_one(self.table.clone(), Arc::clone(&it.column), it.is_key, number))
            }
            Whose::Key { .. } | Whose::Everybody => None,
        }
    }
}

/// Cuts one file into lines, and says whose each is.
#[derive(Debug)]
pub struct Dealer {
    loading: Loading,
    /// How many fields a line has.
    width: usize,
    world: Rc<World>,
    /// The file is UTF-8.
    utf8: bool,
    /// What has come and is not dealt out yet.
    pending: Vec<u8>,
    /// How much has to be there before it is looked at again.
    enough: usize,
    /// The longest line, in bytes.
    line_max: usize,
    skips: u64,
    over: bool,
    /// Per shard, in the order of `loading.shards`: what it gets and has not been taken yet.
    shares: Vec<Vec<u8>>,
    /// The shard of each line, as a place in `loading.shards`.
    lines: Vec<u16>,
    count: u64,
    /// Who has had the last line.
    last: Option<usize>,
    /// The greatest number that a line gave since it was asked for.
    number: Option<i64>,
}

impl Dealer {
    /// Nothing has come yet. `character_set`: what the file is written in; `line_max`: the longest line, in bytes.
    ///
    /// # Errors
    /// Files in that character set are not cut here.
    pub fn new(
        loading: &Loading,
        world: &Rc<World>,
        character_set: &str,
        line_max: usize,
    ) -> Result<Self, ClientError> {
        let is = |names: &[&str]| names.iter().any(|it| it.eq_ignore_ascii_case(character_set));
        let utf8 = is(&["utf8mb4", "utf8mb3", "utf8"]);
        if !utf8 && !is(&["binary", "ascii", "latin1", "latin2", "latin5", "latin7", "cp1250", "cp1251", "cp1252"]) {
            return Err(ClientError::unsupported(
                format!("LOAD DATA of several shards of a file in character set {character_set} is not supported"),
                "Write the file in UTF-8, and say CHARACTER SET utf8mb4.",
            ));
        }
        let width = match loading.load.fields.len() {
            0 => loading.list.as_ref().map_or(1, |it| it.matches("`, `").count() + 1),
            count => count,
        };
        Ok(Self {
            loading: loading.clone(),
            width,
            world: Rc::clone(world),
            utf8,
            pending: Vec::new(),
            enough: 0,
            line_max,
            skips: loading.load.skips,
            over: false,
            shares: vec![Vec::new(); loading.shards.len()],
            lines: Vec::new(),
            count: 0,
            last: None,
            number: None,
        })
    }

    /// Takes in more of the file.
    ///
    /// # Errors
    /// A line whose shard is not known, or that cannot be cut with certainty.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        if self.over {
            return Ok(());
        }
        self.pending.extend_from_slice(bytes);
        if self.pending.len() < self.enough { Ok(()) } else { self.deal(false) }
    }

    /// There is no more.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub fn finish(&mut self) -> Result<(), ClientError> {
        if self.over { Ok(()) } else { self.deal(true) }
    }

    /// What the shard at that place gets of what was taken in.
    pub fn share(&mut self, place: usize) -> Vec<u8> {
        self.shares.get_mut(place).map(std::mem::take).unwrap_or_default()
    }

    /// The place of the shard that has had the last line.
    #[must_use]
    pub fn last(&self) -> Option<usize> {
        self.last
    }

    /// The greatest number that lines have given since this was asked.
    pub fn number(&mut self) -> Option<i64> {
        self.number.take()
    }

    /// The numbers in the client's file of those lines of a shard's, all counted from 1; `None`: not known any more.
    #[must_use]
    pub fn lines_of(&self, place: usize, lines: &[u64]) -> Vec<Option<u64>> {
        let mut wanted: Vec<(u64, usize)> = lines.iter().enumerate().map(|(at, line)| (*line, at)).collect();
        wanted.sort_unstable();
        let mut wanted = wanted.into_iter().peekable();
        let mut found = vec![None; lines.len()];
        let mut own = 0_u64;
        for (line, of) in (1_u64..).zip(&self.lines) {
            if usize::from(*of) != place {
                continue;
            }
            own += 1;
            while let Some((_, at)) = wanted.next_if(|(it, _)| *it <= own) {
                if let Some(slot) = found.get_mut(at) {
                    *slot = Some(line);
                }
            }
            if wanted.peek().is_none() {
                break;
            }
        }
        found
    }

    fn deal(&mut self, all: bool) -> Result<(), ClientError> {
        let pending = std::mem::take(&mut self.pending);
        let mut done = 0;
        let result = self.deal_from(&pending, &mut done, all);
        self.pending = pending;
        self.pending.drain(..done);
        self.enough = self.pending.len() * 2;
        result?;
        if self.pending.len() > self.line_max && !self.over {
            return Err(ClientError::new(
                Code::TooLarge,
                format!("line {} of the file is longer than {} bytes", self.count + 1, self.line_max),
                "Raise limits.message in the map, or look at how lines are said to end.",
            ));
        }
        Ok(())
    }

    fn deal_from(&mut self, pending: &[u8], done: &mut usize, all: bool) -> Result<(), ClientError> {
        let rest = |done: usize| pending.get(done..).unwrap_or_default();
        while self.skips > 0 {
            let mut reader = Reader::new(&self.loading.load.format, rest(*done), all);
            let Ok(ended) = reader.next_line() else { return Ok(()) };
            self.check(rest(*done).get(..reader.at).unwrap_or_default())?;
            *done += reader.at;
            self.skips -= 1;
            if ended {
                self.over = true;
                return Ok(());
            }
        }
        let (key, number) = match &self.loading.whose {
            Whose::Key { field, number, .. } => (*field, number.as_ref().map(|it| it.field)),
            Whose::Everybody => return Ok(()),
        };
        loop {
            let mut reader = Reader::new(&self.loading.load.format, rest(*done), all);
            let Ok(line) = reader.line(self.width, |place| place == key || Some(place) == number) else {
                return Ok(());
            };
            let Some(Line { kept, ended }) = line else {
                self.over = true;
                return Ok(());
            };
            let bytes = rest(*done).get(..reader.at).unwrap_or_default();
            self.check(bytes)?;
            let of = |wanted: usize| kept.iter().find(|(place, _)| *place == wanted).map(|(_, it)| it.as_deref());
            let place = self.place(of(key))?;
            if let Some(field) = number {
                let given = of(field).flatten().and_then(loaded_number);
                let given = given.filter(|it| *it != 0).ok_or_else(|| self.unnumbered())?;
                self.number = Some(self.number.map_or(given, |it| it.max(given)));
            }
            if let Some(share) = self.shares.get_mut(place) {
                share.extend_from_slice(bytes);
            }
            *done += reader.at;
            self.last = Some(place);
            self.count += 1;
            if self.lines.len() < LINES_MAX {
                self.lines.push(u16::try_from(place).unwrap_or(u16::MAX));
            }
            if ended {
                self.over = true;
                return Ok(());
            }
        }
    }

    /// What is not UTF-8 may be cut otherwise by a server: it takes what could belong to a character for a part of it.
    fn check(&self, bytes: &[u8]) -> Result<(), ClientError> {
        if !self.utf8 || std::str::from_utf8(bytes).is_ok() {
            return Ok(());
        }
        Err(ClientError::unsupported(
            format!(
                "line {} of the file is not UTF-8, which LOAD DATA of several shards does not support",
                self.count + 1
            ),
            "Say what it is written in: CHARACTER SET binary, latin1, …",
        ))
    }

    fn unnumbered(&self) -> ClientError {
        match &self.loading.whose {
            Whose::Key { number: Some(it), .. } => uncounted(&self.loading.table, &it.column),
            Whose::Key { .. } | Whose::Everybody => {
                ClientError::new(Code::Internal, "a line has no number, and needs none", "Report this.")
            }
        }
    }

    /// The place of the shard that a key belongs to. `given`: nothing, where the line ends before it.
    fn place(&self, given: Option<Option<&[u8]>>) -> Result<usize, ClientError> {
        let Whose::Key { key, group: at, column, .. } = &self.loading.whose else { return Ok(0) };
        let (table, line) = (&self.loading.table, self.count + 1);
        let Some(group) = self.world.database.groups.get(*at) else { return Ok(0) };
        let Some(given) = given else {
            return Err(ClientError::new(
                Code::ShardKeyMissing,
                format!("line {line} of the file gives no value for the shard key \"{key}\" of \"{table}\""),
                "Give every row a key.",
            ));
        };
        let known = match loaded(given, *column, self.utf8) {
            Stored::Key(known) => known,
            Stored::Null => {
                return Err(ClientError::new(
                    Code::ShardKeyNull,
                    format!("null value for the shard key \"{key}\" of \"{table}\" in line {line} of the file"),
                    "Give every row a key: a row without one belongs to no shard.",
                ));
            }
            Stored::Invalid | Stored::Unknown => {
                return Err(ClientError::unsupported(
                    format!(
                        "the shard key \"{key}\" of \"{table}\" in line {line} of the file, in a form that shardway cannot \
                         compute shards by, is not supported"
                    ),
                    "Write it as the server prints it.",
                ));
            }
        };
        let shard = group.function.shard(&known).ok_or_else(|| {
            ClientError::new(
                Code::NoShardForKey,
                format!("no shard takes the \"{key}\" of \"{table}\" in line {line} of the file"),
                no_shard_hint(group),
            )
        })?;
        self.loading.shards.iter().position(|it| *it == shard).ok_or_else(|| {
            ClientError::new(
                Code::Internal,
                "a row belongs to a shard that takes no part in its LOAD DATA",
                "Report this.",
            )
        })
    }
}

// ── the servers' reader ──

/// There has to be more before it can be said.
#[derive(Debug)]
struct More;

/// One line of a file.
#[derive(Debug)]
struct Line {
    /// Fields that were wanted, by their places; NULL is none.
    kept: Vec<(usize, Option<Vec<u8>>)>,
    /// The file ends with it.
    ended: bool,
}

/// One field.
struct Taken {
    value: Vec<u8>,
    null: bool,
}

/// Reads from the beginning of a line on.
struct Reader<'a> {
    format: &'a Format,
    text: &'a [u8],
    at: usize,
    /// Nothing comes behind the text.
    all: bool,
    /// The last field ended its line.
    line_ended: bool,
    file_ended: bool,
    /// What fields begin behind has not been looked for.
    begins: bool,
    /// What ends lines, where that is not what ends fields.
    line_end: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(format: &'a Format, text: &'a [u8], all: bool) -> Self {
        let line_end: &[u8] = if format.line_end == format.field_end { &[] } else { &format.line_end };
        let begins = !format.line_start.is_empty();
        Self { format, text, at: 0, all, line_ended: false, file_ended: false, begins, line_end }
    }

    /// The next byte; none at the end of the file.
    fn get(&mut self) -> Result<Option<u8>, More> {
        match self.text.get(self.at) {
            Some(byte) => {
                self.at += 1;
                Ok(Some(*byte))
            }
            None if self.all => Ok(None),
            None => Err(More),
        }
    }

    /// Whether these stand there whose first was read; they are read then.
    fn ends(&mut self, first: u8, mark: &[u8]) -> Result<bool, More> {
        if mark.first() != Some(&first) {
            return Ok(false);
        }
        let from = self.at;
        for wanted in mark.get(1..).unwrap_or_default() {
            if self.get()? != Some(*wanted) {
                self.at = from;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads all of a line; none: the file has ended before it.
    fn line(&mut self, width: usize, wanted: impl Fn(usize) -> bool) -> Result<Option<Line>, More> {
        let mut kept = Vec::new();
        for place in 0..width {
            match self.field(wanted(place))? {
                Some(Taken { value, null }) if wanted(place) => kept.push((place, (!null).then_some(value))),
                Some(_) => {}
                None if place == 0 => return Ok(None),
                None => break,
            }
        }
        let ended = self.next_line()?;
        Ok(Some(Line { kept, ended }))
    }

    /// One field; none: the line had ended, or the file has.
    fn field(&mut self, kept: bool) -> Result<Option<Taken>, More> {
        if self.line_ended {
            return Ok(None);
        }
        if std::mem::take(&mut self.begins) && !self.find_start()? {
            return Ok(None);
        }
        let Some(first) = self.get()? else {
            (self.line_ended, self.file_ended) = (true, true);
            return Ok(None);
        };
        let mut data: Vec<u8> = Vec::new();
        let mut length = 0_usize;
        let mut null = false;
        let mut put = |byte: u8, data: &mut Vec<u8>| {
            length += 1;
            if kept {
                data.push(byte);
            }
        };
        let quote = self.format.quote.filter(|it| *it == first);
        match quote {
            Some(quote) => put(quote, &mut data),
            None => self.at -= 1,
        }
        // What stands in quotes is told without the first.
        let mut enclosed = false;
        loop {
            let Some(mut byte) = self.get()? else {
                (self.line_ended, self.file_ended) = (true, true);
                break;
            };
            if self.format.escape == Some(byte) {
                let Some(next) = self.get()? else {
                    put(byte, &mut data);
                    (self.line_ended, self.file_ended) = (true, true);
                    break;
                };
                if self.format.escape != self.format.quote || next == byte {
                    null |= next == b'N';
                    put(unescaped(next), &mut data);
                    continue;
                }
                self.at -= 1;
            }
            if quote.is_none() && self.ends(byte, self.line_end)? {
                self.line_ended = true;
                break;
            }
            if quote == Some(byte) {
                let Some(next) = self.get()? else {
                    (enclosed, self.line_ended) = (true, true);
                    break;
                };
                if Some(next) == quote {
                    put(next, &mut data);
                    continue;
                }
                if self.ends(next, self.line_end)? {
                    (enclosed, self.line_ended) = (true, true);
                    break;
                }
                if self.ends(next, &self.format.field_end)? {
                    enclosed = true;
                    break;
                }
                self.at -= 1;
                byte = quote.unwrap_or(byte);
            } else if quote.is_none() && self.ends(byte, &self.format.field_end)? {
                break;
            }
            put(byte, &mut data);
        }
        if enclosed {
            length -= 1;
            if kept {
                data.remove(0);
            }
        }
        let named = !enclosed && self.format.quote.is_some() && data == b"NULL";
        Ok(Some(Taken { null: named || (null && length == 1), value: data }))
    }

    /// Goes behind what lines begin with, wherever that stands; false: nowhere.
    fn find_start(&mut self) -> Result<bool, More> {
        while let Some(byte) = self.get()? {
            if self.ends(byte, &self.format.line_start)? {
                return Ok(true);
            }
        }
        (self.line_ended, self.file_ended) = (true, true);
        Ok(false)
    }

    /// Goes to the next line; true: the file ends here.
    fn next_line(&mut self) -> Result<bool, More> {
        if self.line_ended || self.file_ended {
            self.line_ended = false;
            return Ok(self.file_ended);
        }
        if self.line_end.is_empty() {
            return Ok(false);
        }
        loop {
            let Some(byte) = self.get()? else { return Ok(true) };
            if self.format.escape == Some(byte) {
                if self.get()?.is_none() {
                    return Ok(true);
                }
            } else if self.ends(byte, self.line_end)? {
                return Ok(false);
            }
        }
    }
}

/// What a byte behind the escape means.
fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 8,
        b'0' => 0,
        b'Z' => 26,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv() -> Format {
        Format { field_end: b",".to_vec(), quote: Some(b'"'), ..Format::default() }
    }

    /// The first of so many fields in each line, as text.
    fn firsts(format: &Format, text: &str, width: usize) -> Vec<Option<String>> {
        let (mut at, mut found) = (0, Vec::new());
        loop {
            let mut reader = Reader::new(format, &text.as_bytes()[at..], true);
            let Some(Line { kept, ended }) = reader.line(width, |place| place == 0).unwrap() else { return found };
            found.extend(kept.into_iter().map(|(_, it)| it.map(|it| String::from_utf8(it).unwrap())));
            at += reader.at;
            if ended {
                return found;
            }
        }
    }

    #[test]
    fn lines_are_cut_as_servers_cut_them() {
        let some = |them: &[&str]| them.iter().map(|it| Some((*it).to_owned())).collect::<Vec<_>>();
        assert_eq!(firsts(&Format::default(), "1\ta\n2\tb\\\n3\n4\tc", 2), some(&["1", "2", "4"]));
        assert_eq!(firsts(&csv(), "\"1\",\"a\n2,b\"\n3,c\n", 2), some(&["1", "3"]));
        assert_eq!(firsts(&csv(), "\"a\"\"b\",x\n\"c\"d\",x\n\"open,1\n", 2), some(&["a\"b", "c\"d", "\"open,1\n"]));
        // Behind the last field, quotes mean nothing.
        assert_eq!(firsts(&csv(), "1,2,\"x\n2,y\"\n", 2), some(&["1", "2"]));
        let null = [None, None, Some("NULL".to_owned()), Some("NX".to_owned())];
        assert_eq!(firsts(&csv(), "\\N,1\nNULL,1\n\"NULL\",1\n\\NX,1\n", 2), null);
        let started = Format { line_start: b">>".to_vec(), ..csv() };
        assert_eq!(firsts(&started, "x>>1,a\nskipped\n>>>2,b\n>>3", 2), some(&["1", ">2", "3"]));
        let none = Format { line_end: Vec::new(), ..csv() };
        assert_eq!(firsts(&none, "1,2,3,4", 2), some(&["1", "3"]));
        let doubled = Format { escape: Some(b'"'), ..csv() };
        assert_eq!(firsts(&doubled, "\"a\"\"b\\\",1\n\"c\",1\n", 2), some(&["a\"b\\", "c"]));
    }

    #[test]
    fn half_a_line_is_none() {
        for text in ["1", "1,", "\"1\"", "1,a\\", "1,a"] {
            assert!(Reader::new(&csv(), text.as_bytes(), false).line(2, |_| true).is_err(), "{text}");
        }
        assert!(Reader::new(&csv(), b"1,a\n", false).line(2, |_| true).is_ok());
    }
}
