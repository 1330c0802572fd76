//! One file, statement by statement: first alone, to see what tables there will be, then against the proxy.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;
use std::time::Instant;

use super::compare::Order;
use super::compare::Verdict;
use super::compare::compare;
use super::compare::sorted;
use super::map::Map;
use super::map::Seen;
use super::rig::reason;
use super::rows;
use super::sides::Copier;
use super::sides::Session;
use super::sides::Shuffle;
use super::sides::Side;
use super::text::Kind;
use super::text::Statement;
use super::wire::Answer;

/// What takes longer through the proxy is asked of it once only.
const TWICE_MAX: Duration = Duration::from_secs(1);
/// How many orders of the twin's rows are tried before an answer counts as wrong.
const SHUFFLES: u64 = 6;

/// What a file's statements came to.
#[derive(Default)]
pub(crate) struct Report {
    /// Selects that the plain server answers: answered alike.
    pub(crate) answered: usize,
    /// Of these: rows are the server's choice, so that their columns and number were compared.
    pub(crate) by_shape: usize,
    /// … and declined, by reason.
    pub(crate) refused: BTreeMap<String, (usize, String)>,
    pub(crate) mismatches: Vec<String>,
    /// The plain server fails too: with the same SQLSTATE, or declined.
    pub(crate) failed_alike: usize,
    pub(crate) declined_failing: usize,
    /// Not compared, by reason.
    pub(crate) skipped: BTreeMap<&'static str, usize>,
    /// Answered by the usual way and declined when everything is to be gathered.
    pub(crate) gather_refused: usize,
    /// What took long, in milliseconds: on the plain server, on its twin, through the proxy both ways.
    pub(crate) slow: Vec<(u128, String)>,
    /// What the harness could not do as it should.
    pub(crate) complaints: Vec<String>,
}

impl Report {
    pub(crate) fn refusals(&self) -> usize {
        self.refused.values().map(|it| it.0).sum()
    }

    /// What the plain server answers and was asked of the proxy.
    pub(crate) fn asked(&self) -> usize {
        self.answered + self.refusals() + self.mismatches.len()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.by_shape += other.by_shape;
        self.failed_alike += other.failed_alike;
        self.declined_failing += other.declined_failing;
        self.gather_refused += other.gather_refused;
        self.mismatches.extend(other.mismatches);
        self.slow.extend(other.slow);
        self.complaints.extend(other.complaints);
        for (reason, (count, example)) in other.refused {
            self.refused.entry(reason).or_insert((0, example)).0 += count;
        }
        for (reason, count) in other.skipped {
            *self.skipped.entry(reason).or_default() += count;
        }
    }

    fn skip(&mut self, why: &'static str) {
        *self.skipped.entry(why).or_default() += 1;
    }

    pub(crate) fn line(&self) -> String {
        let (asked, refused) = (self.asked(), self.refusals());
        format!(
            "{} of {asked} answered ({:.1} %, {} by shape), {refused} refused, {} MISMATCH, {} failed alike, {} skipped",
            self.answered,
            self.answered as f64 * 100.0 / asked.max(1) as f64,
            self.by_shape,
            self.mismatches.len(),
            self.failed_alike + self.declined_failing,
            self.skipped.values().sum::<usize>(),
        )
    }
}

/// What only the second run has.
pub(crate) struct Others {
    pub(crate) twin: Side,
    pub(crate) shards: [Side; 2],
    /// Two sessions of the proxy: as it likes, and told to gather.
    pub(crate) proxy: [Session; 2],
    pub(crate) map: Map,
    pub(crate) copier: Copier,
}

pub(crate) struct Run {
    pub(crate) plain: Side,
    pub(crate) seen: Seen,
    pub(crate) others: Option<Others>,
    pub(crate) report: Report,
    /// Whether rows or definitions may have changed since the last read.
    stale: Stale,
    /// Settings of the session, and those that end with the block.
    settings: BTreeMap<String, String>,
    local: Vec<String>,
    /// What there was when the block began.
    before: BTreeSet<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stale {
    No,
    Rows,
    Definitions,
}

impl Run {
    pub(crate) fn new(plain: Side, others: Option<Others>) -> Self {
        Self {
            plain,
            seen: Seen::default(),
            others,
            report: Report::default(),
            stale: Stale::Definitions,
            settings: BTreeMap::new(),
            local: Vec::new(),
            before: BTreeSet::new(),
        }
    }

    /// `named` tells which tables count.
    pub(crate) fn all(&mut self, statements: &[Statement], named: &dyn Fn(&str) -> bool) {
        for statement in statements {
            self.one(statement, named);
        }
        self.refresh(named);
    }

    fn one(&mut self, statement: &Statement, named: &dyn Fn(&str) -> bool) {
        let sql = statement.sql.as_str();
        match statement.kind {
            Kind::Read => self.read(statement, named),
            Kind::Write => self.write(statement),
            Kind::Skip("COPY of a file") => {
                if let Some(sql) = statement.words().get(1).and_then(|it| rows::of(it)) {
                    let answer = self.plain.session.run(&sql);
                    self.changed(answer.error.is_none(), Stale::Rows);
                }
            }
            Kind::Define => {
                if statement.words()[0] == "alter" {
                    self.refresh(named);
                }
                self.define(sql);
            }
            Kind::Session => {
                if self.set(sql) {
                    let name = statement.words().get(1).cloned().unwrap_or_default();
                    self.settings.insert(name, sql.to_owned());
                }
            }
            Kind::SetLocal => {
                let words = statement.words();
                let lasting = sql.replacen("LOCAL ", "", 1).replacen("local ", "", 1);
                if self.set(&lasting) {
                    self.local.extend(words.get(2).cloned());
                }
            }
            // Blocks are taken apart: each statement commits by itself.
            Kind::Begin => self.before = self.relations(),
            Kind::End => {
                for name in std::mem::take(&mut self.local) {
                    let sql = self.settings.get(&name).cloned().unwrap_or_else(|| format!("RESET {name}"));
                    self.set(&sql);
                }
                let first = statement.words().swap_remove(0);
                let before = std::mem::take(&mut self.before);
                if matches!(first.as_str(), "rollback" | "abort") && !before.is_empty() {
                    self.take_back(&before);
                }
            }
            Kind::Skip(why) => self.report.skip(why),
        }
    }

    fn relations(&mut self) -> BTreeSet<(String, String)> {
        let rows = self.plain.control.table(
            "SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, oid::regclass FROM pg_class \
             WHERE relkind IN ('r', 'p', 'v', 'm') AND relnamespace::regnamespace::text !~ '^(pg_|information_schema|shardway)'",
        );
        rows.into_iter().map(|mut it| (it.remove(0), it.remove(0))).collect()
    }

    /// What was made in a block that is rolled back is dropped.
    fn take_back(&mut self, before: &BTreeSet<(String, String)>) {
        for (kind, name) in self.relations().difference(before).cloned().collect::<Vec<_>>() {
            self.define(&format!("DROP {kind} IF EXISTS {name} CASCADE"));
        }
    }

    /// Says a setting to every session, unless the proxy refuses it; whether it is in force.
    fn set(&mut self, sql: &str) -> bool {
        if let Some(others) = &mut self.others {
            let own = others.proxy[0].set(sql).error.filter(|it| !it.by_server && it.sqlstate == "0A000");
            if let Some(error) = own {
                self.report.skip("a setting that the proxy refuses");
                self.report.complaints.push(format!("{sql}: {error}"));
                return false;
            }
            let rest = others.shards.iter_mut().chain([&mut others.twin]).map(|it| &mut it.session);
            rest.chain([&mut others.proxy[1]]).for_each(|it| drop(it.set(sql)));
        }
        self.plain.session.set(sql).error.is_none()
    }

    fn changed(&mut self, changed: bool, what: Stale) {
        if changed {
            self.stale = self.stale.max(what);
        }
    }

    fn write(&mut self, statement: &Statement) {
        let answer = match &statement.data {
            Some(data) => self.plain.session.copy(&statement.sql, data),
            None => self.plain.session.run(&statement.sql),
        };
        self.changed(answer.error.is_none(), Stale::Rows);
    }

    fn define(&mut self, sql: &str) {
        if self.plain.session.run(sql).error.is_some() {
            return;
        }
        self.stale = Stale::Definitions;
        let Some(others) = &mut self.others else { return };
        for side in others.shards.iter_mut().chain([&mut others.twin]) {
            if let Some(error) = side.session.run(sql).error {
                self.report.complaints.push(format!("{}: {error}", shown(sql)));
            }
        }
    }

    /// Brings the others up to date.
    fn refresh(&mut self, named: &dyn Fn(&str) -> bool) {
        let stale = std::mem::replace(&mut self.stale, Stale::No);
        if stale == Stale::No {
            return;
        }
        let Some(others) = &mut self.others else {
            self.seen.look(&mut self.plain.control, named);
            return;
        };
        let complaints = others.copier.sync(&mut self.plain.control, &mut others.twin, &mut others.shards, &others.map);
        self.report.complaints.extend(complaints);
        if stale == Stale::Definitions {
            // After DDL of its own the proxy reads the schema before anybody plans with it.
            let answer = others.proxy[0].run("COMMENT ON SCHEMA public IS 'read me'");
            self.report.complaints.extend(answer.error.map(|it| format!("COMMENT ON SCHEMA: {it}")));
        }
    }

    fn read(&mut self, statement: &Statement, named: &dyn Fn(&str) -> bool) {
        let sql = statement.sql.as_str();
        self.refresh(named);
        let begun = Instant::now();
        self.compared(statement);
        if begun.elapsed().as_millis() > 300 {
            self.report.slow.push((begun.elapsed().as_millis(), shown(sql)));
        }
    }

    fn compared(&mut self, statement: &Statement) {
        let sql = statement.sql.as_str();
        let plain = self.plain.session.read(sql);
        if plain.error.as_ref().is_some_and(|it| it.sqlstate == "25006") {
            let answer = self.plain.session.run(sql);
            self.changed(answer.error.is_none(), Stale::Rows);
            self.report.skip("a SELECT that writes or locks");
            return;
        }
        let Some(others) = &mut self.others else { return };
        let twin = others.twin.session.read(sql);
        let order = match steady(&plain, &twin, statement.ordered()) {
            Some(Order::Count) => {
                // Does it at least repeat itself?
                let again = self.plain.session.read(sql);
                (sorted(again.rows) == sorted(plain.rows.clone())).then_some(Order::Count)
            }
            order => order,
        };
        let Some(order) = order else {
            self.report.skip("another answer each time, or by the order of rows");
            return;
        };
        for (place, way) in ["", "SET shardway.strategy = gather; "].into_iter().enumerate() {
            let begun = Instant::now();
            let answer = others.proxy[place].run(sql);
            let took = begun.elapsed();
            let report = &mut self.report;
            let mut verdict = judge(&answer, &plain, order);
            let mut by_shape = order == Order::Count;
            if let (Verdict::Mismatch(text), Verdict::Same) = (&verdict, judge(&answer, &plain, Order::Count)) {
                let found = others.elsewhere(&mut self.plain.control, &answer, sql);
                verdict = if found { Verdict::Same } else { Verdict::Mismatch(text.clone()) };
                by_shape = found;
            }
            match verdict {
                Verdict::Same if place == 0 => {
                    report.answered += 1;
                    report.by_shape += usize::from(by_shape);
                }
                Verdict::SameError(_) if place == 0 => report.failed_alike += 1,
                Verdict::Same | Verdict::SameError(_) => {}
                Verdict::Refused(_) if plain.error.is_some() => report.declined_failing += usize::from(place == 0),
                Verdict::Refused(reason) if place == 0 => {
                    report.refused.entry(reason).or_insert_with(|| (0, shown(sql))).0 += 1;
                    // Gathering is no way out.
                    return;
                }
                Verdict::Refused(_) => report.gather_refused += 1,
                Verdict::Mismatch(text) => {
                    report.answered -= usize::from(place == 1 && plain.error.is_none());
                    report.mismatches.push(format!("{way}{sql}\n    {text}"));
                    return;
                }
            }
            if took > TWICE_MAX {
                return;
            }
        }
    }
}

impl Others {
    /// Whether one server gives this answer too when its rows lie in another order.
    fn elsewhere(&mut self, plain: &mut Session, answer: &Answer, sql: &str) -> bool {
        let orders = [Shuffle::ByShard, Shuffle::ByShardBackwards].into_iter().chain((1..=SHUFFLES).map(Shuffle::By));
        for shuffle in orders {
            if Copier::shuffle(plain, &mut self.twin, &self.map, shuffle).is_err() {
                return false;
            }
            let twin = self.twin.session.read(sql);
            if sorted(twin.rows) == sorted(answer.rows.clone()) {
                return true;
            }
        }
        false
    }
}

/// How far an answer is settled by the statement; `None`: not at all.
fn steady(plain: &Answer, twin: &Answer, ordered: bool) -> Option<Order> {
    match (&plain.error, &twin.error) {
        (Some(one), Some(other)) if one.sqlstate == other.sqlstate => Some(Order::Any),
        (None, None) if plain.rows == twin.rows && ordered => Some(Order::Total),
        (None, None) if sorted(plain.rows.clone()) == sorted(twin.rows.clone()) => Some(Order::Any),
        (None, None) if plain.rows.len() == twin.rows.len() => Some(Order::Count),
        _ => None,
    }
}

fn judge(proxy: &Answer, plain: &Answer, order: Order) -> Verdict {
    match &proxy.error {
        Some(own) if !own.by_server && matches!(own.sqlstate.as_str(), "0A000" | "54000" | "55000") => {
            Verdict::Refused(format!("{} {}", own.sqlstate, reason(&own.message)))
        }
        _ => compare(proxy, plain, order),
    }
}

/// A statement on one line.
pub(crate) fn shown(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > 300 { line.chars().take(300).collect::<String>() + " …" } else { line }
}

/// Everything that is worth knowing of a report, for a file.
pub(crate) fn details(report: &Report) -> String {
    let mut text = report.line() + "\n";
    for mismatch in &report.mismatches {
        let _ = write!(text, "\nMISMATCH {mismatch}\n");
    }
    let mut refused: Vec<_> = report.refused.iter().collect();
    refused.sort_by_key(|it| std::cmp::Reverse(it.1.0));
    for (reason, (count, example)) in refused {
        let _ = write!(text, "\nREFUSED {count:5} {reason}\n    {example}\n");
    }
    for (reason, count) in &report.skipped {
        let _ = write!(text, "\nSKIPPED {count:5} {reason}\n");
    }
    for (millis, statement) in &report.slow {
        let _ = write!(text, "\nSLOW {millis:6} ms {statement}\n");
    }
    for complaint in &report.complaints {
        let _ = write!(text, "\nCOMPLAINT {complaint}\n");
    }
    text
}
