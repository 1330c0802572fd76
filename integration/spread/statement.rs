//! Statements made up by choices: reads of every form whose answer a server has no choice about.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::choices::Choices;
use super::compare::Order;
use super::types::FUNCTIONS;
use super::types::Kind;
use super::types::USUAL;
use super::types::literal_type;
use super::wire::Value;
use super::world::Lies;
use super::world::Table;
use super::world::World;
use super::world::quoted;

/// Stands around a parameter's number in a text.
const MARK: char = '\u{1}';
/// More parts than this a statement does not get.
const PARTS_MAX: usize = 60;

pub(crate) struct Statement {
    /// With parameters marked.
    text: String,
    parameters: Vec<Parameter>,
    pub(crate) order: Order,
    pub(crate) features: BTreeSet<&'static str>,
    /// The search_path that it is meant for.
    pub(crate) path: String,
}

struct Parameter {
    kind: Kind,
    text: Option<String>,
    /// The type is told at Parse; else by a cast.
    told: bool,
}

impl Statement {
    /// The text with constants in the place of parameters.
    pub(crate) fn plain_text(&self) -> String {
        self.with(|_, parameter| {
            let value = parameter.text.as_ref().map_or("NULL".to_owned(), |it| quoted(it));
            format!("CAST({value} AS {})", literal_type(parameter.kind).0)
        })
    }

    /// The text with parameters, and their values.
    pub(crate) fn bound(&self) -> (String, Vec<Value>) {
        let text = self.with(|number, parameter| {
            let name = literal_type(parameter.kind).0;
            if parameter.told { format!("${number}") } else { format!("${number}::{name}") }
        });
        let value = |it: &Parameter| {
            let oid = if it.told { literal_type(it.kind).1 } else { 0 };
            let number = it.text.as_deref().and_then(|text| text.parse::<i32>().ok());
            match number.filter(|_| it.kind == Kind::Int && it.told) {
                Some(number) => Value { oid, binary: true, bytes: Some(number.to_be_bytes().to_vec()) },
                None => Value { oid, binary: false, bytes: it.text.clone().map(String::into_bytes) },
            }
        };
        (text, self.parameters.iter().map(value).collect())
    }

    fn with(&self, show: impl Fn(usize, &Parameter) -> String) -> String {
        let mut out = String::new();
        for (place, piece) in self.text.split(MARK).enumerate() {
            if place % 2 == 0 {
                out.push_str(piece);
            } else {
                let number: usize = piece.parse().expect("a number between marks");
                out.push_str(&show(number, &self.parameters[number - 1]));
            }
        }
        out
    }
}

/// What a name in FROM offers.
#[derive(Clone, Debug)]
struct Item {
    /// How it is referred to, quoted; maybe with a schema.
    name: String,
    columns: Vec<(String, Kind)>,
    /// Expressions that together tell its rows apart, but for rows that are the same all over.
    identity: Vec<String>,
    /// Columns that the others depend on.
    primary_key: Vec<String>,
    /// Its name is a value, too.
    is_value: bool,
    /// Two of its rows may be the same all over.
    repeats: bool,
    /// A function or recursive CTE of which only a server knows the columns: whole rows beside it are a case of their own.
    is_unknown: bool,
}

impl Item {
    fn new(name: &str, columns: Vec<(String, Kind)>, unique: &[String]) -> Self {
        let identity = if unique.is_empty() {
            let exact = |(column, kind): &(String, Kind)| match kind {
                Kind::Ci => format!("({name}.{column} COLLATE \"C\")"),
                _ => format!("{name}.{column}::text"),
            };
            columns.iter().map(exact).collect()
        } else {
            unique.iter().map(|it| format!("{name}.{it}")).collect()
        };
        Self {
            name: name.to_owned(),
            columns,
            identity,
            primary_key: Vec::new(),
            is_value: !name.contains('.'),
            repeats: unique.is_empty(),
            is_unknown: false,
        }
    }
}

/// What a query must be like.
#[derive(Clone, Default)]
struct Want {
    /// Its columns.
    kinds: Option<Vec<Kind>>,
    /// Equal values look alike.
    canonical: bool,
    /// Its columns have names of their own.
    named: bool,
    depth: usize,
}

struct Made {
    text: String,
    columns: Vec<(String, Kind)>,
    order: Order,
}

/// Clauses of one SELECT that its parts add to.
#[derive(Default)]
struct Block {
    windows: Vec<String>,
    /// A window function numbers rows that may be the same all over: which is which is the server's choice.
    tells_same_apart: bool,
}

struct Maker<'a> {
    world: &'a World,
    choices: &'a mut Choices,
    parameters: Vec<Parameter>,
    features: BTreeSet<&'static str>,
    /// What can be named, the innermost last.
    scopes: Vec<Vec<Item>>,
    ctes: Vec<(String, Vec<(String, Kind)>)>,
    /// CTEs that are recursive.
    recursive: Vec<String>,
    /// Names of tables that mean something else.
    hidden: Vec<String>,
    path: Vec<String>,
    serial: usize,
    parts: usize,
}

/// A statement for the tables of this world.
pub(crate) fn statement(world: &World, choices: &mut Choices) -> Statement {
    let schema = world.schema.clone();
    let path = match choices.below(10) {
        0..6 => vec![schema, "public".to_owned()],
        6 => vec![format!("{schema}x"), schema, "public".to_owned()],
        7 => vec![schema.clone(), format!("{schema}x"), "public".to_owned()],
        _ => vec!["public".to_owned()],
    };
    let mut maker = Maker {
        world,
        choices,
        parameters: Vec::new(),
        features: BTreeSet::new(),
        scopes: Vec::new(),
        ctes: Vec::new(),
        recursive: Vec::new(),
        hidden: Vec::new(),
        path: path.clone(),
        serial: 0,
        parts: 0,
    };
    let made = maker.top();
    let (parameters, features) = (maker.parameters, maker.features);
    Statement { text: made.text, parameters, order: made.order, features, path: path.join(", ") }
}

impl Maker<'_> {
    fn below(&mut self, count: usize) -> usize {
        self.choices.below(count)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.choices.chance(percent)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        self.choices.one(of)
    }

    fn tag(&mut self, feature: &'static str) {
        self.features.insert(feature);
    }

    fn fresh(&mut self, prefix: &str) -> String {
        self.serial += 1;
        format!("{prefix}{}", self.serial)
    }

    /// Makes parts as long as chance has it: each can be left out by itself.
    fn several<T>(&mut self, most: usize, percent: usize, part: &mut dyn FnMut(&mut Self) -> T) -> Vec<T> {
        let mut made = Vec::new();
        while made.len() < most {
            let begin = self.choices.begin();
            let more = made.is_empty() || self.chance(percent);
            if !more {
                break;
            }
            made.push(part(self));
            self.choices.end(begin);
        }
        made
    }

    fn top(&mut self) -> Made {
        let begin = self.choices.begin();
        let with = if self.chance(22) { self.with() } else { String::new() };
        self.choices.end(begin);
        let mut made = match self.below(40) {
            38 if with.is_empty() || self.chance(20) => {
                let (item, text) = self.table(true);
                self.tag("TABLE");
                Made { text: format!("TABLE {text}"), columns: item.columns, order: Order::Any }
            }
            39 => {
                self.tag("VALUES");
                let kinds = self.set_kinds();
                self.values(&kinds)
            }
            33..38 => self.union(&Want { depth: 2, ..Want::default() }),
            _ => self.select(&Want { depth: 3, ..Want::default() }),
        };
        made.text = format!("{with}{}", made.text);
        made
    }

    /// WITH and what is behind it.
    fn with(&mut self) -> String {
        self.tag("WITH");
        let recursive = self.chance(25);
        let mut names: Vec<String> = Vec::new();
        for _ in 0..=self.below(2) {
            let name = match self.below(6) {
                0 => "t0".to_owned(),
                1 => "\"C e\"".to_owned(),
                2 => "ref".to_owned(),
                _ => self.fresh("c"),
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if recursive {
            self.hidden.extend(names.iter().cloned());
        }
        let mut texts = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let begin = self.choices.begin();
            if recursive && at == 0 {
                self.tag("WITH RECURSIVE");
                texts.push(self.recursion(name));
            } else {
                let want = Want { named: true, depth: 2, ..Want::default() };
                let made = if self.chance(15) { self.union(&want) } else { self.select(&want) };
                let kept = self.one(&["", "", "", "MATERIALIZED ", "NOT MATERIALIZED "]);
                let mut columns = made.columns;
                let mut list = String::new();
                if self.chance(20) {
                    for (at, column) in columns.iter_mut().enumerate() {
                        column.0 = format!("m{at}");
                    }
                    let names: Vec<&str> = columns.iter().map(|it| it.0.as_str()).collect();
                    list = format!(" ({})", names.join(", "));
                }
                texts.push(format!("{name}{list} AS {kept}({})", made.text));
                self.ctes.push((name.clone(), columns));
            }
            self.hidden.push(name.clone());
            if !name.starts_with('c') {
                self.tag("CTE that shadows a table");
            }
            self.choices.end(begin);
        }
        format!("WITH {}{} ", if recursive { "RECURSIVE " } else { "" }, texts.join(", "))
    }

    fn recursion(&mut self, name: &str) -> String {
        self.scopes.push(Vec::new());
        let from = self.from(1, 1);
        let start = self.expression(Kind::Int, 1);
        let condition = self.condition(1);
        self.scopes.pop();
        self.scopes.push(vec![Item::new(name, vec![("n".to_owned(), Kind::Int), ("d".to_owned(), Kind::Int)], &[])]);
        let more = if self.chance(50) {
            let condition = self.condition(1);
            format!("SELECT n + 1, d + 1 FROM {name} WHERE d < 3 AND ({condition})")
        } else {
            let (item, text) = self.table(false);
            self.scopes.last_mut().expect("a scope").push(item);
            let next = self.expression(Kind::Int, 1);
            let condition = self.condition(0);
            format!("SELECT {next}, {name}.d + 1 FROM {name} JOIN {text} ON {condition} WHERE {name}.d < 3")
        };
        self.scopes.pop();
        self.recursive.push(name.to_owned());
        self.ctes.push((name.to_owned(), vec![("n".to_owned(), Kind::Int), ("d".to_owned(), Kind::Int)]));
        format!("{name} (n, d) AS (SELECT {start}, 1 {from} WHERE {condition} UNION {more})")
    }

    fn set_kinds(&mut self) -> Vec<Kind> {
        self.several(3, 45, &mut |it| USUAL[it.below(USUAL.len())])
    }

    fn union(&mut self, want: &Want) -> Made {
        let kinds = want.kinds.clone().unwrap_or_else(|| self.set_kinds());
        let arm = Want { kinds: Some(kinds), canonical: true, named: true, depth: want.depth.saturating_sub(1) };
        let first = self.arm(&arm);
        let mut text = first.text;
        let more = self.several(2, 30, &mut |it| {
            let operator =
                it.one(&["UNION ALL", "UNION", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL", "UNION DISTINCT"]);
            it.tag(match operator {
                "UNION ALL" => "UNION ALL",
                "INTERSECT" => "INTERSECT",
                "EXCEPT" => "EXCEPT",
                "INTERSECT ALL" => "INTERSECT ALL",
                "EXCEPT ALL" => "EXCEPT ALL",
                _ => "UNION",
            });
            format!("{operator} {}", it.arm(&arm).text)
        });
        for part in more {
            let _ = write!(text, " {part}");
        }
        let columns = first.columns;
        let mut order = Order::Any;
        if self.chance(50) {
            let begin = self.choices.begin();
            let mut terms: Vec<String> = Vec::new();
            let last = columns.len();
            if self.chance(50) {
                let at = self.below(last);
                let way = self.way();
                terms.push(if self.chance(50) {
                    format!("{}{way}", columns[at].0)
                } else {
                    format!("{}{way}", at + 1)
                });
            }
            terms.extend((1..=last).map(|it| it.to_string()));
            let limit = self.limit();
            let _ = write!(text, " ORDER BY {}{limit}", terms.join(", "));
            order = Order::Total;
            self.choices.end(begin);
        }
        Made { text, columns, order }
    }

    fn arm(&mut self, want: &Want) -> Made {
        let begin = self.choices.begin();
        let mut made = match self.below(10) {
            8 if want.depth > 0 => self.union(want),
            9 => self.values(want.kinds.as_deref().unwrap_or_default()),
            _ => self.select(want),
        };
        made.text = format!("({})", made.text);
        self.choices.end(begin);
        made
    }

    fn values(&mut self, kinds: &[Kind]) -> Made {
        let kinds = kinds.to_vec();
        let columns = |kinds: &[Kind]| {
            kinds.iter().enumerate().map(|(at, kind)| (format!("column{}", at + 1), kind.canonical("").1)).collect()
        };
        self.scopes.push(Vec::new());
        let rows = self.several(3, 50, &mut |it| {
            let cells: Vec<String> = kinds
                .iter()
                .map(|kind| {
                    let cell = if it.chance(20) { it.scalar(*kind, 1) } else { it.literal(*kind) };
                    kind.canonical(&cell).0
                })
                .collect();
            format!("({})", cells.join(", "))
        });
        self.scopes.pop();
        Made { text: format!("VALUES {}", rows.join(", ")), columns: columns(&kinds), order: Order::Any }
    }

    // What is in FROM.

    /// A table and how it is written; bare: without an alias.
    fn table(&mut self, bare: bool) -> (Item, String) {
        let world = self.world;
        // Mostly what is spread.
        let mut table = &world.tables[self.below(world.tables.len())];
        if !table.lies.is_spread() && self.chance(50) {
            table = &world.tables[self.below(6)];
        }
        match table.lies {
            Lies::Everywhere => self.tag("reference table"),
            Lies::Home => self.tag("unsharded table"),
            _ => {}
        }
        let columns: Vec<(String, Kind)> = table.columns.iter().map(|it| (it.name.clone(), it.kind)).collect();
        let (mut item, text) = self.named(&table.schema, &table.name, columns, &table.unique, bare);
        item.primary_key.clone_from(&table.unique);
        (item, text)
    }

    /// A relation under a name of its schema.
    fn named(
        &mut self,
        schema: &str,
        name: &str,
        mut columns: Vec<(String, Kind)>,
        unique: &[String],
        bare: bool,
    ) -> (Item, String) {
        let sees = |schema: &str| {
            self.world.tables.iter().any(|it| it.schema == schema && it.name == name)
                || self.world.views.iter().any(|it| self.world.schema == schema && it.name == name)
        };
        let found = self.path.iter().find(|it| sees(it)).is_some_and(|it| it == schema);
        let may_be_bare = found && !self.hidden.iter().any(|it| it == name);
        let qualified = !may_be_bare || self.chance(20);
        let full = if qualified { format!("{schema}.{name}") } else { name.to_owned() };
        if qualified {
            self.tag("schema-qualified");
        }
        let taken = self.scopes.last().is_some_and(|it| it.iter().any(|it| it.name.ends_with(name)));
        let (alias, text) = match self.below(12) {
            _ if bare => (name.to_owned(), full),
            0..2 if !taken => {
                self.tag("no alias");
                // What ONLY a partitioned table has is a case of its own.
                let whole = |it: &Table| it.partitioned && it.schema == schema && it.name == name;
                let may = !self.world.tables.iter().any(whole);
                let only = if may && self.chance(8) { "ONLY " } else { "" };
                // Its columns may be named with the schema, too.
                let called = if qualified && self.chance(30) { full.clone() } else { name.to_owned() };
                (called, format!("{only}{full}"))
            }
            2 => {
                // Another relation's name.
                let alias = self.one(&["t1", "w0", "\"Ids\"", "ref", "date"]);
                let taken = self.scopes.iter().flatten().any(|it| it.name.ends_with(alias));
                let alias = if taken { self.fresh("a") } else { alias.to_owned() };
                (alias.clone(), format!("{full} AS {alias}"))
            }
            3 => {
                self.tag("alias with columns");
                let alias = self.fresh("a");
                let count = 1 + self.below(columns.len());
                let names: Vec<String> = (0..count).map(|it| format!("r{it}")).collect();
                let unique: Vec<String> = unique
                    .iter()
                    .map(|it| {
                        let at = columns.iter().position(|column| column.0 == *it);
                        at.filter(|it| *it < count).map_or(it.clone(), |it| names[it].clone())
                    })
                    .collect();
                for (column, name) in columns.iter_mut().zip(&names) {
                    column.0.clone_from(name);
                }
                let text = format!("{full} AS {alias} ({})", names.join(", "));
                return (Item::new(&alias, columns, &unique), text);
            }
            _ => {
                let alias = self.fresh("a");
                let space = self.one(&["", "AS "]);
                (alias.clone(), format!("{full} {space}{alias}"))
            }
        };
        (Item::new(&alias, columns, unique), text)
    }

    /// One thing to read from; what is lateral sees what stands before it.
    fn source(&mut self, depth: usize, lateral: bool) -> (Item, String) {
        self.parts += 1;
        let roll = if self.parts > PARTS_MAX || depth == 0 { 0 } else { self.below(20) };
        match roll {
            11..14 if !self.ctes.is_empty() => {
                let chosen = self.below(self.ctes.len());
                let (name, columns) = self.ctes[chosen].clone();
                let alias = self.fresh("a");
                let mut item = Item::new(&alias, columns, &[]);
                item.is_unknown = self.recursive.contains(&name);
                (item, format!("{name} {alias}"))
            }
            14 => {
                self.tag("view");
                let views = &self.world.views;
                let view = views[self.below(views.len())].clone();
                let columns = view.columns.iter().map(|it| (it.name.clone(), it.kind)).collect();
                let schema = self.world.schema.clone();
                let (mut item, text) = self.named(&schema, &view.name, columns, &[], false);
                // The row type of a view is a case of its own.
                item.is_value = false;
                (item, text)
            }
            15 | 16 => {
                self.tag("derived table");
                let kept = self.scopes.pop();
                let want = Want { named: true, depth: depth - 1, ..Want::default() };
                let made = if self.chance(15) { self.union(&want) } else { self.select(&want) };
                self.scopes.extend(kept);
                let alias = self.fresh("d");
                (Item::new(&alias, made.columns, &[]), format!("({}) AS {alias}", made.text))
            }
            17 if lateral => {
                self.tag("LATERAL");
                let made = self.select(&Want { named: true, depth: depth - 1, ..Want::default() });
                let alias = self.fresh("l");
                (Item::new(&alias, made.columns, &[]), format!("LATERAL ({}) {alias}", made.text))
            }
            18 => {
                let alias = self.fresh("f");
                self.tag("function in FROM");
                // The name of a function's one value is that value, not a row.
                let (mut item, text) = match self.below(4) {
                    0 => {
                        let item = Item::new(&alias, vec![("n".to_owned(), Kind::Int)], &[]);
                        (item, format!("generate_series(1, 3) AS {alias} (n)"))
                    }
                    1 if lateral => {
                        let array = self.expression(Kind::Ints, 1);
                        let columns = vec![("n".to_owned(), Kind::Int), ("o".to_owned(), Kind::Big)];
                        let text = format!("unnest({array}) WITH ORDINALITY AS {alias} (n, o)");
                        (Item::new(&alias, columns, &[]), text)
                    }
                    2 if lateral => {
                        let json = self.expression(Kind::Json, 1);
                        let columns = vec![("e".to_owned(), Kind::Json)];
                        let text = format!("jsonb_path_query({json}, '$.*') AS {alias} (e)");
                        (Item::new(&alias, columns, &[]), text)
                    }
                    _ => {
                        let item = Item::new(&alias, vec![("w".to_owned(), Kind::Text)], &[]);
                        (item, format!("unnest('{{a,b,NULL}}'::text[]) {alias} (w)"))
                    }
                };
                item.is_value = false;
                item.is_unknown = text.starts_with("jsonb_path_query");
                (item, text)
            }
            19 => {
                self.tag("VALUES");
                let kinds = self.set_kinds();
                let made = self.values(&kinds);
                let alias = self.fresh("v");
                let columns: Vec<(String, Kind)> =
                    made.columns.iter().enumerate().map(|(at, it)| (format!("x{at}"), it.1)).collect();
                let names: Vec<&str> = columns.iter().map(|it| it.0.as_str()).collect();
                let text = format!("({}) AS {alias} ({})", made.text, names.join(", "));
                (Item::new(&alias, columns, &[]), text)
            }
            _ => self.table(false),
        }
    }

    /// FROM, into the innermost scope.
    fn from(&mut self, depth: usize, most: usize) -> String {
        let (item, mut text) = self.source(depth, false);
        self.scope().push(item);
        let mut count = 1;
        while count < most {
            let begin = self.choices.begin();
            if !self.chance(35) {
                break;
            }
            count += 1;
            let roll = self.below(16);
            let join = self.one(&[
                "JOIN",
                "LEFT JOIN",
                "RIGHT JOIN",
                "FULL JOIN",
                "LEFT OUTER JOIN",
                "INNER JOIN",
                "FULL OUTER JOIN",
            ]);
            let full = join.starts_with("FULL");
            let (right, source) = self.source(depth, roll < 8 && !full && !join.starts_with("RIGHT"));
            let common = self.scope().first().and_then(|left| {
                let shared = |it: &&(String, Kind)| right.columns.contains(it) && it.1.sorts();
                left.columns.iter().find(shared).map(|it| it.0.clone())
            });
            match roll {
                0 => {
                    self.tag("CROSS JOIN");
                    let _ = write!(text, " CROSS JOIN {source}");
                    self.scope().push(right);
                }
                1 => {
                    let _ = write!(text, ", {source}");
                    self.scope().push(right);
                }
                14 | 15 if common.is_some() && count == 2 => {
                    self.tag("JOIN USING");
                    let column = common.unwrap_or_default();
                    let _ = write!(text, " {join} {source} USING ({column})");
                    // The column alone is the one that both have; of each side it is still what it was.
                    self.scope().push(right);
                }
                _ => {
                    self.tag(if full {
                        "FULL JOIN"
                    } else if join.starts_with("LEFT") {
                        "LEFT JOIN"
                    } else if join.starts_with("RIGHT") {
                        "RIGHT JOIN"
                    } else {
                        "JOIN"
                    });
                    let equal = self.equal_columns(&right);
                    self.scope().push(right);
                    let on = match equal {
                        Some(equal) if full => equal,
                        None if full => "1 = 1".to_owned(),
                        Some(equal) if self.chance(30) => format!("{equal} AND {}", self.condition(1)),
                        Some(equal) => equal,
                        None => self.condition(1),
                    };
                    let _ = write!(text, " {join} {source} ON {on}");
                }
            }
            self.choices.end(begin);
        }
        format!("FROM {text}")
    }

    fn scope(&mut self) -> &mut Vec<Item> {
        self.scopes.last_mut().expect("a scope")
    }

    /// A column here and one there are equal.
    fn equal_columns(&mut self, right: &Item) -> Option<String> {
        let mut pairs = Vec::new();
        for left in self.scope().iter() {
            for (a, kind) in left.columns.iter().filter(|it| it.1.sorts()) {
                for (b, _) in right.columns.iter().filter(|it| it.1 == *kind) {
                    pairs.push(format!("{}.{a} = {}.{b}", left.name, right.name));
                }
            }
        }
        if pairs.is_empty() { None } else { Some(pairs.swap_remove(self.below(pairs.len()))) }
    }

    // Expressions.

    /// A column of that kind, if there is one.
    fn column(&mut self, kind: Kind) -> Option<String> {
        let outer = self.scopes.len() > 1 && self.chance(25);
        let mut found: Vec<(String, bool)> = Vec::new();
        for (level, scope) in self.scopes.iter().rev().enumerate() {
            if (level == 0) == outer {
                continue;
            }
            for item in scope {
                let hidden = self.scopes[self.scopes.len() - level..].iter().flatten().any(|it| it.name == item.name);
                let columns = item.columns.iter().filter(|it| it.1 == kind && !hidden);
                found.extend(columns.map(|it| (format!("{}.{}", item.name, it.0), level > 0)));
            }
        }
        if found.is_empty() {
            return None;
        }
        let (mut text, correlated) = found.swap_remove(self.below(found.len()));
        if correlated {
            self.tag("correlated");
        } else if self.scopes.len() == 1 && self.scope().len() == 1 && self.chance(25) {
            text = text.rsplit_once('.').map_or(text.clone(), |it| it.1.to_owned());
        }
        Some(text)
    }

    fn any_column(&mut self, fits: &dyn Fn(Kind) -> bool) -> Option<(String, Kind)> {
        let found: Vec<(String, Kind)> = self
            .scope()
            .iter()
            .flat_map(|item| item.columns.iter().map(move |it| (format!("{}.{}", item.name, it.0), it.1)))
            .filter(|it| fits(it.1))
            .collect();
        if found.is_empty() { None } else { Some(found[self.below(found.len())].clone()) }
    }

    fn literal(&mut self, kind: Kind) -> String {
        let (name, _, values) = literal_type(kind);
        if self.chance(8) {
            return format!("NULL::{name}");
        }
        let value = values[self.below(values.len())];
        match kind {
            Kind::Int if !value.starts_with('-') && self.chance(60) => value.to_owned(),
            Kind::Bool => value.to_owned(),
            _ if self.chance(25) => format!("CAST({} AS {name})", quoted(value)),
            _ => format!("{}::{name}", quoted(value)),
        }
    }

    fn parameter(&mut self, kind: Kind) -> String {
        let (_, oid, values) = literal_type(kind);
        let text = if self.chance(8) { None } else { Some(values[self.below(values.len())].to_owned()) };
        self.given(kind, text, oid != 0)
    }

    fn given(&mut self, kind: Kind, text: Option<String>, may_be_told: bool) -> String {
        if self.parameters.len() >= 8 {
            return self.literal(kind);
        }
        self.tag("parameter");
        let told = may_be_told && self.chance(50);
        self.parameters.push(Parameter { kind, text, told });
        format!("{MARK}{}{MARK}", self.parameters.len())
    }

    fn expression(&mut self, kind: Kind, depth: usize) -> String {
        self.parts += 1;
        let depth = if self.parts > PARTS_MAX { 0 } else { depth };
        match self.below(16) {
            0..8 => self.column(kind).unwrap_or_else(|| self.literal(kind)),
            8 => self.literal(kind),
            9 => self.parameter(kind),
            10..13 if depth > 0 => self.function(kind, depth - 1),
            13 if depth > 0 && kind == Kind::Bool => format!("({})", self.condition(depth - 1)),
            13 if depth > 0 => {
                self.tag("CASE");
                let condition = self.condition(depth - 1);
                let (a, b) = (self.expression(kind, depth - 1), self.expression(kind, depth - 1));
                if self.chance(20) {
                    let of = self.expression(Kind::Int, 0);
                    return format!("CASE {of} WHEN 1 THEN {a} WHEN 2 THEN {b} END");
                }
                format!("CASE WHEN {condition} THEN {a} ELSE {b} END")
            }
            14 if depth > 0 => self.scalar(kind, depth - 1),
            _ => self.column(kind).unwrap_or_else(|| self.literal(kind)),
        }
    }

    fn function(&mut self, kind: Kind, depth: usize) -> String {
        let fitting: Vec<_> = FUNCTIONS.iter().filter(|it| it.1 == kind).collect();
        if fitting.is_empty() {
            return self.column(kind).unwrap_or_else(|| self.literal(kind));
        }
        let (template, _, arguments) = fitting[self.below(fitting.len())];
        let mut text = (*template).to_owned();
        for (at, argument) in arguments.iter().enumerate() {
            let argument = self.expression(*argument, depth);
            text = text.replace(&format!("{{{at}}}"), &argument);
        }
        text
    }

    /// A subquery of one value.
    fn scalar(&mut self, kind: Kind, depth: usize) -> String {
        self.tag("scalar subquery");
        self.scopes.push(Vec::new());
        let from = self.from(depth, 1);
        let condition = if self.chance(70) { format!(" WHERE {}", self.condition(depth)) } else { String::new() };
        let text = match self.below(3) {
            0 if kind == Kind::Big => format!("(SELECT count(*) {from}{condition})"),
            0 if kind.has_extremes() && !matches!(kind, Kind::Icu) => {
                let inner = self.expression(kind, depth.min(1));
                format!("(SELECT max({}) {from}{condition})", kind.canonical(&inner).0)
            }
            _ => {
                let inner = self.expression(kind, depth.min(1));
                let order = self.identity().join(", ");
                format!("(SELECT {inner} {from}{condition} ORDER BY {order} LIMIT 1)")
            }
        };
        self.scopes.pop();
        text
    }

    /// What tells the rows of the innermost scope apart.
    fn identity(&mut self) -> Vec<String> {
        self.scope().iter().flat_map(|it| it.identity.clone()).collect()
    }

    fn comparable(&mut self) -> Kind {
        let column = self.any_column(&Kind::sorts).map(|it| it.1);
        match column {
            Some(kind) if self.chance(90) => kind,
            _ => USUAL[self.below(USUAL.len())],
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        self.parts += 1;
        let begin = self.choices.begin();
        let depth = if self.parts > PARTS_MAX { 0 } else { depth };
        let roll = self.below(if depth > 0 { 30 } else { 17 });
        let text = self.condition_of(roll, depth);
        self.choices.end(begin);
        text
    }

    fn condition_of(&mut self, roll: usize, depth: usize) -> String {
        let kind = self.comparable();
        let left = |it: &mut Self| it.column(kind).unwrap_or_else(|| it.literal(kind));
        match roll {
            0..3 => {
                // As the client would write it: a constant beside a column.
                let column = left(self);
                let (_, _, values) = literal_type(kind);
                let value = values[self.below(values.len())];
                let operator = self.one(&["=", "<>", "<", ">=", ">", "<=", "="]);
                match kind {
                    Kind::Int | Kind::Big if !value.starts_with('-') => format!("{column} {operator} {value}"),
                    Kind::Ints | Kind::Words | Kind::Pair => {
                        format!("{column} {operator} {}::{}", quoted(value), literal_type(kind).0)
                    }
                    _ => format!("{column} {operator} {}", quoted(value)),
                }
            }
            3..6 => {
                let (a, b) = (left(self), self.expression(kind, depth.min(1)));
                let operator = self.one(&["=", "<>", "<", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM", "="]);
                format!("{a} {operator} {b}")
            }
            6 => format!("{} IS {}NULL", left(self), self.clone_one(&["", "NOT "])),
            7 => {
                let column = left(self);
                let list = self.several(4, 60, &mut |it| it.literal(kind));
                let not = self.one(&["", "NOT "]);
                format!("{column} {not}IN ({})", list.join(", "))
            }
            8 => {
                let (a, b, c) = (left(self), self.literal(kind), self.literal(kind));
                let not = self.one(&["", "NOT ", ""]);
                format!("{a} {not}BETWEEN {b} AND {c}")
            }
            9 => {
                self.tag("ANY and ALL of arrays");
                let column = self.expression(Kind::Int, 0);
                let array = self.expression(Kind::Ints, 0);
                let operator = self.one(&["= ANY", "<> ALL", "< ANY", ">= ALL"]);
                format!("{column} {operator} ({array})")
            }
            10 => {
                let text = self.expression(Kind::Text, 0);
                let pattern = self.one(&["a%", "%", "_", "%a%", "\\\\%", "%\"%"]);
                let like = self.one(&["LIKE", "NOT LIKE", "ILIKE", "~~"]);
                format!("{text} {like} {}", quoted(pattern))
            }
            11 => self.expression(Kind::Bool, depth.min(1)),
            12 => {
                let (a, b) = (left(self), self.parameter(kind));
                format!("{a} = {b}")
            }
            13 => {
                let other = self.comparable();
                let (a, b) = (left(self), self.column(other).unwrap_or_else(|| self.literal(other)));
                let (c, d) = (self.literal(kind), self.literal(other));
                let operator = self.one(&["=", "<", ">=", "<>"]);
                format!("({a}, {b}) {operator} ({c}, {d})")
            }
            14 => {
                let row = self.values_of_rows().into_iter().next();
                match row {
                    Some(row) if self.chance(50) => {
                        self.tag("whole row");
                        let test = self.one(&["IS NOT NULL", "IS NULL", "IS DISTINCT FROM NULL"]);
                        format!("{row} {test}")
                    }
                    _ => "true".to_owned(),
                }
            }
            15 => {
                let flag = self.expression(Kind::Bool, 0);
                let test = self.one(&["IS TRUE", "IS NOT TRUE", "IS FALSE", "IS UNKNOWN", "IS NOT FALSE"]);
                format!("({flag}) {test}")
            }
            16 => {
                let key = self.any_column(&|kind| kind == Kind::Big);
                match key {
                    Some((key, _)) => format!("{key} < {}", self.below(30)),
                    None => "1 = 1".to_owned(),
                }
            }
            17..20 => format!("({} AND {})", self.condition(depth - 1), self.condition(depth - 1)),
            20..22 => format!("({} OR {})", self.condition(depth - 1), self.condition(depth - 1)),
            22 => format!("NOT ({})", self.condition(depth - 1)),
            23 | 24 => {
                self.tag("EXISTS");
                let not = self.one(&["", "NOT "]);
                self.scopes.push(Vec::new());
                let from = self.from(depth - 1, 2);
                let inner = self.condition(depth - 1);
                let list = self.one(&["1", "", "*", "NULL"]);
                self.scopes.pop();
                format!("{not}EXISTS (SELECT {list} {from} WHERE {inner})")
            }
            25 | 26 => {
                self.tag("IN (SELECT)");
                let column = left(self);
                let operator = self.one(&["IN", "NOT IN", "= ANY", "<> ALL", "< ANY", ">= ALL", "= SOME"]);
                let made = self.select(&Want { kinds: Some(vec![kind]), depth: depth - 1, ..Want::default() });
                format!("{column} {operator} ({})", made.text)
            }
            27 => {
                let (a, b) = (self.scalar(Kind::Big, depth - 1), self.below(6));
                let operator = self.one(&[">", "=", "<="]);
                format!("{a} {operator} {b}")
            }
            28 => {
                self.tag("row IN (SELECT)");
                let other = self.comparable();
                let (a, b) = (left(self), self.column(other).unwrap_or_else(|| self.literal(other)));
                let made = self.select(&Want { kinds: Some(vec![kind, other]), depth: depth - 1, ..Want::default() });
                format!("({a}, {b}) IN ({})", made.text)
            }
            _ => {
                let condition = self.condition(depth - 1);
                let (a, b) = (self.condition(depth - 1), self.one(&["true", "false", "NULL"]));
                format!("CASE WHEN {condition} THEN {a} ELSE {b} END")
            }
        }
    }

    fn clone_one(&mut self, of: &[&'static str]) -> &'static str {
        self.choices.one(of)
    }

    // Order and limits.

    fn way(&mut self) -> &'static str {
        let way = self.choices.one(&[
            "",
            "",
            " DESC",
            " ASC",
            " NULLS FIRST",
            " DESC NULLS LAST",
            " ASC NULLS LAST",
            " USING >",
            " DESC NULLS FIRST",
        ]);
        if way.contains("NULLS") {
            self.tag("NULLS FIRST or LAST");
        }
        way
    }

    /// Something to sort by: never a bare constant.
    fn sort_key(&mut self) -> Option<String> {
        let (column, kind) = self.any_column(&Kind::sorts)?;
        let begin = self.choices.begin();
        let fitting: Vec<_> = FUNCTIONS.iter().filter(|it| it.2.first() == Some(&kind) && it.1.sorts()).collect();
        let key = match self.below(6) {
            4 if !fitting.is_empty() => {
                self.tag("ORDER BY an expression");
                let (template, _, arguments) = fitting[self.below(fitting.len())];
                let mut text = template.replace("{0}", &column);
                for (at, argument) in arguments.iter().enumerate().skip(1) {
                    let argument = self.expression(*argument, 0);
                    text = text.replace(&format!("{{{at}}}"), &argument);
                }
                text
            }
            5 if matches!(kind, Kind::Text | Kind::Icu) => {
                self.tag("COLLATE");
                let collation =
                    self.one(&["\"en-x-icu\"", "\"C\"", "\"de-x-icu\"", "public.ci", "\"und-x-icu\"", "\"POSIX\""]);
                let cast = self.one(&["", "", "", "::text"]);
                format!("{column}{cast} COLLATE {collation}")
            }
            _ => column,
        };
        self.choices.end(begin);
        Some(key)
    }

    /// A limit for what is in a total order.
    fn limit(&mut self) -> String {
        let begin = self.choices.begin();
        let n = self.below(12);
        let text = match self.below(24) {
            0..8 => String::new(),
            8..11 => format!(" LIMIT {n}"),
            11 => format!(" LIMIT {n} OFFSET {}", self.below(5)),
            12 => format!(" OFFSET {n}"),
            13 => format!(" OFFSET {} LIMIT {n}", self.below(5)),
            14 => format!(" FETCH FIRST {n} ROWS ONLY"),
            15 => format!(" OFFSET 1 ROWS FETCH NEXT {n} ROWS ONLY"),
            16 => " FETCH FIRST ROW ONLY".to_owned(),
            17 => self.one(&[" LIMIT ALL", " LIMIT NULL", " OFFSET 0", " OFFSET NULL", " LIMIT '3'"]).to_owned(),
            18 => format!(" LIMIT {n} + 1"),
            19 => format!(" LIMIT (SELECT {n})"),
            20 => " LIMIT length('abc') OFFSET 1 + 1".to_owned(),
            21 => format!(" LIMIT {}", self.given(Kind::Big, Some(n.to_string()), true)),
            22 => {
                let (limit, offset) = (
                    self.given(Kind::Int, Some(n.to_string()), true),
                    self.given(Kind::Big, Some("1".to_owned()), true),
                );
                format!(" LIMIT {limit} + 1 OFFSET {offset}")
            }
            _ => format!(" FETCH FIRST ({}) ROWS ONLY", self.given(Kind::Big, Some(n.to_string()), true)),
        };
        if !text.is_empty() {
            self.tag("LIMIT");
        }
        self.choices.end(begin);
        text
    }

    // Aggregates and windows.

    /// An aggregate of the innermost scope, and its kind.
    fn aggregate(&mut self) -> (String, Kind) {
        self.tag("aggregate");
        let identity = self.identity();
        let order = |it: &mut Self| {
            it.tag("aggregate with ORDER BY");
            let mut terms: Vec<String> = Vec::new();
            if let Some(key) = it.sort_key().filter(|_| true) {
                let way = it.way();
                terms.push(format!("{key}{way}"));
            }
            terms.extend(identity.clone());
            terms.join(", ")
        };
        let (mut text, kind) = match self.below(22) {
            0 => ("count(*)".to_owned(), Kind::Big),
            1 => {
                let inner = self.aggregated(&|_| true);
                (format!("count({})", inner.0), Kind::Big)
            }
            2 => {
                self.tag("aggregate DISTINCT");
                let inner = self.aggregated(&Kind::sorts);
                (format!("count(DISTINCT {})", inner.0), Kind::Big)
            }
            3 | 4 => (format!("sum({})", self.expression(Kind::Int, 1)), Kind::Big),
            5 => (format!("sum({})", self.expression(Kind::Num, 1)), Kind::Num),
            6 => (format!("sum({})", self.expression(Kind::Float, 1)), Kind::Float),
            7 => (format!("avg({})", self.expression(Kind::Int, 1)), Kind::Num),
            8 => (format!("avg({})", self.expression(Kind::Num, 0)), Kind::Num),
            9 | 10 => {
                let (inner, kind) = self.aggregated(&Kind::has_extremes);
                let (inner, kind) = kind.canonical(&inner);
                if !kind.has_extremes() {
                    return ("count(*)".to_owned(), Kind::Big);
                }
                let which = self.one(&["max", "min"]);
                (format!("{which}({inner})"), kind)
            }
            11 => {
                let which = self.one(&["bool_and", "bool_or", "every"]);
                (format!("{which}({})", self.expression(Kind::Bool, 1)), Kind::Bool)
            }
            12 => {
                let (inner, order) = (self.expression(Kind::Text, 1), order(self));
                (format!("string_agg({inner}, ',' ORDER BY {order})"), Kind::Text)
            }
            13 => {
                let (inner, order) = (self.expression(Kind::Int, 1), order(self));
                (format!("array_agg({inner} ORDER BY {order})"), Kind::Ints)
            }
            14 => {
                let (inner, _) = self.aggregated(&|_| true);
                let order = order(self);
                (format!("json_agg({inner} ORDER BY {order})"), Kind::Opaque)
            }
            15 => {
                self.tag("aggregate DISTINCT");
                // Arrays of arrays fail where one is empty or NULL: whether that is ever computed is the planner's affair.
                let (inner, kind) = self.aggregated(&|it| it.sorts() && !matches!(it, Kind::Ints | Kind::Words));
                let (inner, _) = kind.canonical(&inner);
                let way = self.one(&["", " DESC", " NULLS FIRST"]);
                (format!("array_agg(DISTINCT {inner} ORDER BY {inner}{way})"), Kind::Opaque)
            }
            16 => {
                self.tag("WITHIN GROUP");
                let (inner, kind) = self.aggregated(&Kind::sorts);
                let (inner, kind) = kind.canonical(&inner);
                let which = self.one(&["mode()", "percentile_disc(0.5)", "percentile_disc(0.25)"]);
                (format!("{which} WITHIN GROUP (ORDER BY {inner})"), kind)
            }
            17 => {
                self.tag("WITHIN GROUP");
                let inner = self.expression(Kind::Int, 1);
                let which = self.one(&["percentile_cont(0.5)", "percentile_cont(ARRAY[0.25, 1]::float8[])"]);
                let kind = if which.contains("ARRAY") { Kind::Opaque } else { Kind::Float };
                (format!("{which} WITHIN GROUP (ORDER BY {inner})"), kind)
            }
            18 => {
                self.tag("WITHIN GROUP");
                let inner = self.expression(Kind::Int, 1);
                let which = self.one(&["rank", "dense_rank", "cume_dist", "percent_rank"]);
                // Sums of such fractions depend on the order of rows.
                let kind = if which.contains("_dist") || which.contains("percent") { Kind::Opaque } else { Kind::Big };
                (format!("{which}(2) WITHIN GROUP (ORDER BY {inner} DESC)"), kind)
            }
            19 => {
                let which = self.one(&["stddev", "var_pop", "variance", "stddev_pop", "bit_and", "bit_or"]);
                let kind = if which.starts_with("bit") { Kind::Int } else { Kind::Num };
                (format!("{which}({})", self.expression(Kind::Int, 0)), kind)
            }
            20 => (format!("sum(DISTINCT {})", self.expression(Kind::Int, 1)), Kind::Big),
            _ => {
                let row = self.values_of_rows().into_iter().next();
                let row = row.unwrap_or_else(|| "1".to_owned());
                self.tag("whole row");
                (format!("count({row})"), Kind::Big)
            }
        };
        if self.chance(18) {
            self.tag("FILTER");
            let condition = self.condition(1);
            text = format!("{text} FILTER (WHERE {condition})");
        }
        match self.below(12) {
            9 if kind == Kind::Big => (format!("coalesce({text}, 0)"), Kind::Big),
            10 if kind == Kind::Num => (format!("round({text}, 2)"), Kind::Num),
            11 if kind == Kind::Big => (format!("({text} > 1)"), Kind::Bool),
            _ => (text, kind),
        }
    }

    /// What an aggregate is made of.
    fn aggregated(&mut self, fits: &dyn Fn(Kind) -> bool) -> (String, Kind) {
        let column = self.any_column(fits);
        match column {
            Some((_, kind)) if kind.sorts() && self.chance(30) => (self.expression(kind, 1), kind),
            Some(column) => column,
            None => (self.literal(Kind::Int), Kind::Int),
        }
    }

    /// A window function over the innermost scope.
    fn window(&mut self, block: &mut Block) -> (String, Kind) {
        self.tag("window function");
        let begin = self.choices.begin();
        let identity = self.identity().join(", ");
        let mut over = String::new();
        if self.chance(55)
            && let Some(key) = self.sort_key()
        {
            over = format!("PARTITION BY {key}");
        }
        let key = self.sort_key();
        let way = self.way();
        let by = key.map_or(String::new(), |it| format!("{it}{way}, "));
        let total = format!("{over} ORDER BY {by}{identity}");
        let roll = self.below(12);
        if matches!(roll, 0 | 1 | 3..=7 | 9) && self.scope().iter().any(|it| it.repeats) {
            block.tells_same_apart = true;
        }
        let (call, kind, over) = match roll {
            0 | 1 => ("row_number()".to_owned(), Kind::Big, total),
            2 => {
                let which = self.one(&["rank()", "dense_rank()", "percent_rank()", "cume_dist()"]);
                let kind = if which.contains("_dist") || which.contains("percent") { Kind::Opaque } else { Kind::Big };
                let some = format!("{over} ORDER BY {}", if by.is_empty() { "1" } else { by.trim_end_matches(", ") });
                (which.to_owned(), kind, some)
            }
            3 => (format!("ntile({})", 1 + self.below(4)), Kind::Int, total),
            4 => {
                let which = self.one(&["lag", "lead"]);
                let (value, default) = (self.expression(Kind::Int, 0), self.literal(Kind::Int));
                (format!("{which}({value}, {}, {default})", 1 + self.below(2)), Kind::Int, total)
            }
            5 | 6 => {
                let (inner, kind) = self.aggregated(&|_| true);
                let which = self.one(&["first_value", "last_value"]);
                let frame = self.frame("ROWS");
                (format!("{which}({inner})"), kind, format!("{total}{frame}"))
            }
            7 => {
                let inner = self.expression(Kind::Text, 0);
                let frame = self.frame("ROWS");
                (format!("nth_value({inner}, 2)"), Kind::Text, format!("{total}{frame}"))
            }
            8 => (format!("sum({})", self.expression(Kind::Int, 1)), Kind::Big, over),
            9 => {
                let frame = self.frame("ROWS");
                let inner = self.expression(Kind::Int, 1);
                let which = self.one(&["sum", "count", "max", "avg"]);
                let kind = if which == "max" {
                    Kind::Int
                } else if which == "avg" {
                    Kind::Num
                } else {
                    Kind::Big
                };
                (format!("{which}({inner})"), kind, format!("{total}{frame}"))
            }
            10 => {
                let frame = self.frame("GROUPS");
                let some = if by.is_empty() { "1" } else { by.trim_end_matches(", ") };
                (
                    format!("count({})", self.expression(Kind::Text, 0)),
                    Kind::Big,
                    format!("{over} ORDER BY {some}{frame}"),
                )
            }
            _ => {
                let frame = self.frame("RANGE");
                let key = self.expression(Kind::Int, 0);
                let key = if key.starts_with(|it: char| it.is_ascii_digit() || it == '\'') {
                    format!("({key} + 0)")
                } else {
                    key
                };
                (format!("sum({})", self.expression(Kind::Int, 0)), Kind::Big, format!("{over} ORDER BY {key}{frame}"))
            }
        };
        let over = over.trim().to_owned();
        let text = if self.chance(20) {
            self.tag("WINDOW");
            let name = self.fresh("w");
            block.windows.push(format!("{name} AS ({over})"));
            format!("{call} OVER {name}")
        } else {
            format!("{call} OVER ({over})")
        };
        self.choices.end(begin);
        (text, kind)
    }

    fn frame(&mut self, unit: &str) -> String {
        if self.chance(30) {
            return String::new();
        }
        self.tag("window frame");
        let bounds = self.one(&[
            "UNBOUNDED PRECEDING",
            "BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
            "BETWEEN 1 PRECEDING AND 1 FOLLOWING",
            "BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
            "BETWEEN 2 PRECEDING AND 1 PRECEDING",
            "2 PRECEDING",
            "BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
        ]);
        let exclude = self.one(&["", "", " EXCLUDE CURRENT ROW", " EXCLUDE TIES", " EXCLUDE GROUP"]);
        // Which row of its peers is the current one is the server's choice, unless there are none.
        let exclude = if unit == "ROWS" || exclude.is_empty() { exclude } else { "" };
        format!(" {unit} {bounds}{exclude}")
    }

    // A whole SELECT.

    fn select(&mut self, want: &Want) -> Made {
        let begin = self.choices.begin();
        self.scopes.push(Vec::new());
        let hidden = self.hidden.len();
        let most = if want.depth > 1 { 3 } else { 2 };
        let from = self.from(want.depth, most);
        let filter = if self.chance(50) {
            let begin = self.choices.begin();
            let condition = self.condition(want.depth.min(2));
            self.choices.end(begin);
            format!(" WHERE {condition}")
        } else {
            String::new()
        };
        let clause = format!("{from}{filter}");
        let roll = self.below(20);
        let made = match roll {
            9..13 if want.kinds.is_none() => self.grouped(want, &clause),
            13 if want.kinds.is_none() => self.aggregates(want, &clause),
            14 if want.kinds.is_none() => self.grouped_by_key(want, &clause),
            15 | 16 => self.distinct(want, &clause),
            17 => self.distinct_on(want, &clause),
            18 if want.kinds.is_none() && !want.named => self.stars(&clause),
            _ => self.plain(want, &clause),
        };
        self.hidden.truncate(hidden);
        self.scopes.pop();
        self.choices.end(begin);
        made
    }

    /// A column's name, as AS says it.
    fn name(&mut self, want: &Want) -> String {
        if !want.named {
            match self.below(12) {
                8 => return self.one(&["note", "n", "x", "\"A\"\"b\"", "k", "\"größer\"", "id"]).to_owned(),
                9..12 => return String::new(),
                _ => {}
            }
        }
        self.fresh("o")
    }

    /// A list of expressions with names: the texts and the columns.
    fn list(&mut self, exprs: Vec<(String, Kind)>, want: &Want) -> (String, Vec<(String, Kind)>) {
        let mut texts = Vec::new();
        let mut columns = Vec::new();
        for (text, kind) in exprs {
            let (text, kind) = if want.canonical { kind.canonical(&text) } else { (text, kind) };
            let name = self.name(want);
            texts.push(if name.is_empty() { text } else { format!("{text} AS {name}") });
            columns.push((name, kind));
        }
        (texts.join(", "), columns)
    }

    fn outputs(&mut self, want: &Want, block: &mut Block) -> Vec<(String, Kind)> {
        if let Some(kinds) = &want.kinds {
            return kinds.iter().map(|kind| (self.expression(*kind, want.depth.min(2)), *kind)).collect();
        }
        let depth = want.depth.min(2);
        self.several(5, 65, &mut |it| match it.below(14) {
            0..5 => match it.any_column(&|_| true) {
                Some(column) => column,
                None => (it.literal(Kind::Int), Kind::Int),
            },
            5 | 6 => it.window(block),
            7 => it.row(),
            _ => {
                let kind = USUAL[it.below(USUAL.len())];
                (it.expression(kind, depth), kind)
            }
        })
    }

    /// The names that are rows.
    fn values_of_rows(&mut self) -> Vec<String> {
        if self.scopes.iter().flatten().any(|it| it.is_unknown) {
            return Vec::new();
        }
        self.scope().iter().filter(|it| it.is_value).map(|it| it.name.clone()).collect()
    }

    /// A row as a value.
    fn row(&mut self) -> (String, Kind) {
        let items = self.values_of_rows();
        if items.is_empty() {
            return self.any_column(&|_| true).unwrap_or(("1".to_owned(), Kind::Int));
        }
        self.tag("whole row");
        let item = items[self.below(items.len())].clone();
        match self.below(6) {
            0 => (item, Kind::Opaque),
            1 => (format!("{item}::text"), Kind::Text),
            2 => (format!("to_jsonb({item})"), Kind::Json),
            3 => (format!("row_to_json({item})"), Kind::Opaque),
            4 if self.chance(15) => (format!("ROW({item}.*)::text"), Kind::Text),
            _ => {
                let found = self.scope().iter().find(|it| it.name == item).and_then(|it| it.columns.first()).cloned();
                found.map_or((item.clone(), Kind::Opaque), |(column, kind)| (format!("({item}).{column}"), kind))
            }
        }
    }

    /// ORDER BY with the terms that make it total, and a limit.
    fn ordered(&mut self, own: Vec<String>, total: &[String]) -> (String, Order) {
        let begin = self.choices.begin();
        let made = match self.below(10) {
            0..4 => (String::new(), Order::Any),
            4 if !own.is_empty() => {
                self.tag("WITH TIES");
                let n = 1 + self.below(4);
                (format!(" ORDER BY {} FETCH FIRST {n} ROWS WITH TIES", own.join(", ")), Order::Any)
            }
            5 if !own.is_empty() => (format!(" ORDER BY {}", own.join(", ")), Order::Any),
            _ => {
                self.tag("ORDER BY");
                let terms = [own, total.to_vec()].concat();
                if terms.is_empty() {
                    return (String::new(), Order::Any);
                }
                let limit = self.limit();
                (format!(" ORDER BY {}{limit}", terms.join(", ")), Order::Total)
            }
        };
        self.choices.end(begin);
        made
    }

    /// Terms to sort by: positions, names, columns, expressions.
    fn own_terms(&mut self, columns: &[(String, Kind)], extra: &[String], inner: bool) -> Vec<String> {
        if !self.chance(80) {
            return Vec::new();
        }
        let columns = columns.to_vec();
        let extra = extra.to_vec();
        self.several(3, 35, &mut |it| {
            let at = it.below(columns.len());
            let (name, kind) = &columns[at];
            let term = match it.below(6) {
                0 | 1 if kind.sorts() => {
                    it.tag("ORDER BY a position");
                    (at + 1).to_string()
                }
                2 if !name.is_empty() && kind.sorts() && columns.iter().filter(|it| it.0 == *name).count() == 1 => {
                    it.tag("ORDER BY a name");
                    name.clone()
                }
                3 if !extra.is_empty() => extra[it.below(extra.len())].clone(),
                _ if inner => it.sort_key().unwrap_or_else(|| "1".to_owned()),
                _ => match columns.iter().position(|it| it.1.sorts()) {
                    Some(at) => (at + 1).to_string(),
                    None => return "NULL::int".to_owned(),
                },
            };
            let way = it.way();
            format!("{term}{way}")
        })
    }

    fn plain(&mut self, want: &Want, clause: &str) -> Made {
        let mut block = Block::default();
        let outputs = self.outputs(want, &mut block);
        let series = !want.named && want.kinds.is_none() && self.chance(4);
        let (mut list, columns) = self.list(outputs, want);
        let windows =
            if block.windows.is_empty() { String::new() } else { format!(" WINDOW {}", block.windows.join(", ")) };
        if series {
            self.tag("set-returning function");
            let array = self.expression(Kind::Ints, 0);
            let _ = write!(list, ", unnest({array}), generate_series(1, 2)");
            return Made { text: format!("SELECT {list} {clause}{windows}"), columns, order: Order::Any };
        }
        if block.tells_same_apart {
            return Made { text: format!("SELECT {list} {clause}{windows}"), columns, order: Order::Any };
        }
        let own = self.own_terms(&columns, &[], true);
        let total = self.identity();
        let (tail, order) = self.ordered(own, &total);
        Made { text: format!("SELECT {list} {clause}{windows}{tail}"), columns, order }
    }

    fn stars(&mut self, clause: &str) -> Made {
        let items: Vec<String> = self.scope().iter().map(|it| it.name.clone()).collect();
        let list = match self.below(5) {
            0..2 => "*".to_owned(),
            2 => format!("{}.*", items[self.below(items.len())]),
            3 => format!("{}.*, 1 AS one, {}.*", items[self.below(items.len())], items[0]),
            _ => String::new(),
        };
        self.tag("*");
        let total = self.identity();
        let own = self.sort_key().into_iter().collect();
        let (tail, order) = self.ordered(own, &total);
        Made { text: format!("SELECT {list} {clause}{tail}"), columns: Vec::new(), order }
    }

    fn distinct(&mut self, want: &Want, clause: &str) -> Made {
        self.tag("DISTINCT");
        let mut block = Block::default();
        let outputs: Vec<(String, Kind)> =
            self.outputs(want, &mut block).into_iter().map(|it| it.1.canonical(&it.0)).collect();
        // What has no equality is cast by now; a whole row may hold such a column.
        let (list, columns) = self.list(outputs, want);
        let windows =
            if block.windows.is_empty() { String::new() } else { format!(" WINDOW {}", block.windows.join(", ")) };
        let own = self.own_terms(&columns, &[], false);
        let total: Vec<String> = (1..=columns.len()).map(|it| it.to_string()).collect();
        let (tail, order) = self.ordered(own, &total);
        Made { text: format!("SELECT DISTINCT {list} {clause}{windows}{tail}"), columns, order }
    }

    fn distinct_on(&mut self, want: &Want, clause: &str) -> Made {
        let mut block = Block::default();
        let keys = self.several(2, 30, &mut |it| it.sort_key());
        let keys: Vec<String> = keys.into_iter().flatten().collect();
        if keys.is_empty() {
            return self.plain(want, clause);
        }
        self.tag("DISTINCT ON");
        let outputs = self.outputs(want, &mut block);
        let (list, columns) = self.list(outputs, want);
        let windows =
            if block.windows.is_empty() { String::new() } else { format!(" WINDOW {}", block.windows.join(", ")) };
        if block.tells_same_apart {
            return Made { text: format!("SELECT {list} {clause}{windows}"), columns, order: Order::Any };
        }
        let mut terms: Vec<String> = Vec::new();
        for key in &keys {
            let way = self.way();
            terms.push(format!("{key}{way}"));
        }
        terms.extend(self.identity());
        let limit = self.limit();
        let text = format!(
            "SELECT DISTINCT ON ({}) {list} {clause}{windows} ORDER BY {}{limit}",
            keys.join(", "),
            terms.join(", ")
        );
        // Equal keys may look different, and then the order of one row each is total all the same.
        Made { text, columns, order: Order::Total }
    }

    fn aggregates(&mut self, want: &Want, clause: &str) -> Made {
        let outputs = self.several(4, 60, &mut |it| it.aggregate());
        let (list, columns) = self.list(outputs, want);
        let having = match self.below(8) {
            6 => " HAVING count(*) > 2",
            7 => " HAVING false",
            _ => "",
        };
        if !having.is_empty() {
            self.tag("HAVING");
        }
        Made { text: format!("SELECT {list} {clause}{having}"), columns, order: Order::Any }
    }

    fn grouped(&mut self, want: &Want, clause: &str) -> Made {
        self.tag("GROUP BY");
        let keys = self.several(3, 45, &mut |it| {
            let (column, kind) = it.any_column(&Kind::sorts)?;
            let begin = it.choices.begin();
            let fitting: Vec<_> = FUNCTIONS.iter().filter(|f| f.2 == [kind] && f.1.sorts()).collect();
            let (text, kind) = if it.chance(30) && !fitting.is_empty() {
                it.tag("GROUP BY an expression");
                let (template, kind, _) = fitting[it.below(fitting.len())];
                (template.replace("{0}", &column), *kind)
            } else {
                (column, kind)
            };
            it.choices.end(begin);
            Some(kind.canonical(&text))
        });
        let mut keys: Vec<(String, Kind)> = keys.into_iter().flatten().collect();
        keys.dedup_by(|a, b| a.0 == b.0);
        if keys.is_empty() {
            return self.aggregates(want, clause);
        }
        let sets = self.chance(22);
        let mut exprs: Vec<(String, Kind)> = Vec::new();
        let mut groups: Vec<String> = Vec::new();
        let mut renamed: Vec<(usize, String)> = Vec::new();
        for (text, kind) in &keys {
            let shown = self.chance(80);
            let by = if sets || !shown { 0 } else { self.below(4) };
            match by {
                2 => {
                    self.tag("GROUP BY a position");
                    groups.push((exprs.len() + 1).to_string());
                }
                3 => {
                    self.tag("GROUP BY a name");
                    let name = self.fresh("g");
                    renamed.push((exprs.len(), name.clone()));
                    groups.push(name);
                }
                _ => groups.push(text.clone()),
            }
            if shown {
                exprs.push((text.clone(), *kind));
            }
        }
        let texts: Vec<String> = keys.iter().map(|it| it.0.clone()).collect();
        let group = if sets {
            self.tag("GROUPING SETS, ROLLUP, CUBE");
            match self.below(5) {
                0 => format!("ROLLUP ({})", texts.join(", ")),
                1 => format!("CUBE ({})", texts.join(", ")),
                2 => format!("GROUPING SETS (({}), ())", texts.join(", ")),
                3 => format!("GROUPING SETS ({}, ({}))", texts[0], texts.join(", ")),
                _ => format!("{}, ROLLUP ({})", texts[0], texts.join(", ")),
            }
        } else {
            groups.join(", ")
        };
        let grouping = format!("GROUPING({})", texts.join(", "));
        let mut extra: Vec<String> = Vec::new();
        let more = self.several(3, 55, &mut |it| it.aggregate());
        for (text, kind) in more {
            if kind.sorts() {
                extra.push(text.clone());
            }
            exprs.push((text, kind));
        }
        if sets && self.chance(60) {
            exprs.push((grouping.clone(), Kind::Int));
        }
        if self.chance(15) {
            self.tag("window over aggregates");
            let key = &texts[0];
            let total = texts.join(", ");
            exprs.push((format!("rank() OVER (ORDER BY count(*) DESC, {total}, {grouping})"), Kind::Big));
            exprs.push((format!("sum(count(*)) OVER (PARTITION BY {key})"), Kind::Num));
        }
        let (mut list, mut columns) = (Vec::new(), Vec::new());
        for (at, (text, kind)) in exprs.iter().enumerate() {
            let (text, kind) = if want.canonical { kind.canonical(text) } else { (text.clone(), *kind) };
            let name = match renamed.iter().find(|it| it.0 == at) {
                Some((_, name)) => name.clone(),
                None => self.name(want),
            };
            list.push(if name.is_empty() { text } else { format!("{text} AS {name}") });
            columns.push((name, kind));
        }
        let having = if self.chance(25) {
            self.tag("HAVING");
            let begin = self.choices.begin();
            let (text, kind) = self.aggregate();
            let having = match kind {
                Kind::Bool => format!(" HAVING {text}"),
                Kind::Big | Kind::Int | Kind::Num => format!(" HAVING {text} > 1"),
                _ => format!(" HAVING {text} IS NOT NULL"),
            };
            self.choices.end(begin);
            having
        } else {
            String::new()
        };
        let own = self.own_terms(&columns, &[extra, texts.clone()].concat(), false);
        let mut total = texts;
        total.push(grouping);
        let (tail, order) = self.ordered(own, &total);
        Made { text: format!("SELECT {} {clause} GROUP BY {group}{having}{tail}", list.join(", ")), columns, order }
    }

    /// GROUP BY a primary key, with other columns of its table.
    fn grouped_by_key(&mut self, want: &Want, clause: &str) -> Made {
        let Some(item) = self.scope().iter().find(|it| !it.primary_key.is_empty()).cloned() else {
            return self.grouped(want, clause);
        };
        self.tag("GROUP BY a primary key");
        let key: Vec<String> = item.primary_key.iter().map(|it| format!("{}.{it}", item.name)).collect();
        let mut exprs = self.several(3, 60, &mut |it| {
            let (column, kind) = item.columns[it.below(item.columns.len())].clone();
            (format!("{}.{column}", item.name), kind)
        });
        let more = self.several(2, 50, &mut |it| it.aggregate());
        exprs.extend(more);
        let (list, columns) = self.list(exprs, want);
        let (tail, order) = self.ordered(Vec::new(), &key);
        Made { text: format!("SELECT {list} {clause} GROUP BY {}{tail}", key.join(", ")), columns, order }
    }
}
