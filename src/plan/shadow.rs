//! Shadows: how a statement of MySQL is gathered. Rows of tables that are spread are copied to one server, into temporary
//! tables of the same names, which hide the real ones: there the client's own text runs as it is.
//!
//! A [`Shadowing`] is compiled once a template; a [`Shadow`] is what it comes to with the values of one execution.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::error::ClientError;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::ident::TableName;
use crate::plan::World;
use crate::plan::key::Values;
use crate::plan::route::Part;
use crate::plan::unite::Unite;
use crate::plan::unite::Uniting;
use crate::schema::Relation;
use crate::sql::model::Comparison;
use crate::sql::model::Value;

/// More values than this in one condition are not sent along with a fetch.
const VALUES_MAX: usize = 1000;

/// How a statement is gathered, values left open.
#[derive(Debug)]
pub(crate) struct Shadowing {
    /// Where it must run; `None`: on any primary.
    pub(crate) at: Option<ShardId>,
    /// Its tables.
    pub(crate) tables: Vec<Table>,
    /// How the answers of shards come to the answer, where they do.
    pub(crate) unite: Option<Uniting>,
}

/// A table of the statement.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) relation: Arc<Relation>,
    pub(crate) columns: Vec<Column>,
    pub(crate) from: From,
    /// A row matters if it satisfies all terms of one of these; none: every row may.
    pub(crate) wanted: Vec<Vec<Term>>,
}

/// Where a table's rows are.
#[derive(Debug)]
pub(crate) enum From {
    /// Wherever one of these parts may have rows.
    Parts(Vec<usize>),
    /// On one shard.
    Home(ShardId),
    /// The same on every shard.
    Everywhere,
}

/// A column that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Arc<str>,
    /// What makes its value travel as it is stored.
    pub form: Form,
}

/// How a column's values travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Plain,
    /// As the bytes of a text, in the column's own character set.
    Bytes,
    /// ENUM and SET: by their numbers.
    Number,
    /// TIMESTAMP: as they are, in UTC.
    Moment,
}

/// A condition on one column of integers, which can neither fail nor warn.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    /// The column's place.
    pub(crate) column: usize,
    pub(crate) kind: TermKind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TermKind {
    Is(Vec<Value>),
    Range(Comparison, Value),
}

/// What one execution copies, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// Where the statement must run; `None`: on any primary.
    pub at: Option<ShardId>,
    /// Its tables.
    pub tables: Vec<Copy>,
    /// The answers of shards come to the answer, unless something unexpected shows.
    pub unite: Option<Unite>,
}

/// A table that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The table.
    pub table: TableName,
    /// Where its rows are.
    pub whence: Whence,
    /// The columns that are copied: the server computes the others.
    pub columns: Vec<Column>,
    /// The rows that matter, as SQL with a `?` for each of `values`; empty: all.
    pub condition: String,
    /// What stands for the `?`.
    pub values: Vec<i64>,
}

/// Where a table's rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whence {
    /// Some on each of these shards.
    Spread(ShardSet),
    /// All on one.
    Home(ShardId),
    /// All on every shard.
    Everywhere,
}

impl Shadowing {
    /// What it comes to with these values.
    pub(crate) fn with(&self, parts: &[Part], values: &Values<'_>, world: &World) -> Shadow {
        let unite = self.unite.as_ref().filter(|_| !world.view.gather);
        Shadow {
            at: self.at,
            tables: self.tables.iter().map(|it| it.copy(parts, values, world)).collect(),
            unite: unite.and_then(|it| it.with(parts, values, world)),
        }
    }
}

impl Table {
    fn copy(&self, parts: &[Part], values: &Values<'_>, world: &World) -> Copy {
        let whence = match &self.from {
            From::Home(shard) => Whence::Home(*shard),
            From::Everywhere => Whence::Everywhere,
            From::Parts(places) => {
                let mut all = ShardSet::none();
                for part in places.iter().filter_map(|it| parts.get(*it)) {
                    all.union(&part.shards(values, &world.database));
                }
                if crate::mistakes::makes("shard-forgotten") {
                    all = all.iter().take(all.len().saturating_sub(1).max(1)).collect();
                }
                Whence::Spread(all)
            }
        };
        let (condition, given) = self.condition(values);
        Copy { table: self.relation.name.clone(), whence, columns: self.columns.clone(), condition, values: given }
    }

    fn condition(&self, values: &Values<'_>) -> (String, Vec<i64>) {
        let (mut alternatives, mut given) = (Vec::with_capacity(self.wanted.len()), Vec::new());
        for terms in &self.wanted {
            let mut all = Vec::with_capacity(terms.len());
            for term in terms {
                all.extend(term.sql(&self.relation, values, &mut given));
            }
            if all.is_empty() {
                return (String::new(), Vec::new());
            }
            alternatives.push(all.join(" AND "));
        }
        let sql = match alternatives.as_slice() {
            [] => String::new(),
            [only] => only.clone(),
            _ => alternatives.iter().map(|it| format!("({it})")).collect::<Vec<_>>().join(" OR "),
        };
        (sql, given)
    }
}

impl Term {
    /// The condition, and what stands for its `?`; `None`: nothing is asked. That nothing compares with NULL is left to the
    /// server that has the copies: other conditions may fail on rows before it comes to that one.
    fn sql(&self, relation: &Relation, values: &Values<'_>, given: &mut Vec<i64>) -> Option<String> {
        let column = quoted(&relation.columns.get(self.column)?.name);
        match &self.kind {
            TermKind::Is(wanted) if wanted.len() <= VALUES_MAX => {
                let known: Vec<Option<i64>> =
                    wanted.iter().map(|it| values.mysql_whole(it)).collect::<Option<Vec<_>>>()?;
                // NULL equals nothing.
                let known: Vec<i64> = known.into_iter().flatten().collect();
                given.extend(&known);
                match known.len() {
                    0 => None,
                    1 => Some(format!("{column} = ?")),
                    count => Some(format!("{column} IN ({})", vec!["?"; count].join(", "))),
                }
            }
            TermKind::Is(_) => None,
            TermKind::Range(comparison, value) => {
                let value = values.mysql_whole(value)??;
                given.push(value);
                let sign = match comparison {
                    Comparison::Less => "<",
                    Comparison::LessOrEqual => "<=",
                    Comparison::Greater => ">",
                    Comparison::GreaterOrEqual => ">=",
                };
                Some(format!("{column} {sign} ?"))
            }
        }
    }
}

impl Copy {
    /// The table's name as SQL.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.table.schema), quoted(&self.table.name))
    }

    /// What each shard is asked.
    #[must_use]
    pub fn fetch(&self) -> String {
        let columns = self.columns.iter().map(|it| {
            let name = quoted(&it.name);
            match it.form {
                Form::Plain | Form::Moment => name,
                Form::Bytes => format!("CAST({name} AS BINARY)"),
                Form::Number => format!("CAST({name} AS UNSIGNED)"),
            }
        });
        let mut text = format!("SELECT {} FROM {}", columns.collect::<Vec<_>>().join(", "), self.quoted());
        if !self.condition.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(text, " WHERE {}", self.condition);
        }
        text
    }

    /// What puts so many rows into the copy.
    #[must_use]
    pub fn insert(&self, rows: usize) -> String {
        let names = self.columns.iter().map(|it| quoted(&it.name)).collect::<Vec<_>>().join(", ");
        let row = format!("({})", vec!["?"; self.columns.len()].join(", "));
        format!("INSERT INTO {} ({names}) VALUES {}", self.quoted(), vec![row; rows].join(", "))
    }

    /// The condition with the values in their places.
    #[must_use]
    pub fn condition_with_values(&self) -> String {
        let mut values = self.values.iter();
        let pieces = self.condition.split('?');
        let mut text = String::new();
        for (place, piece) in pieces.enumerate() {
            if place > 0 {
                // A `?` within a name has no value.
                text.push_str(&values.next().map_or_else(|| "?".to_owned(), i64::to_string));
            }
            text.push_str(piece);
        }
        text
    }

    /// Whether the session's time zone would change values on their way.
    #[must_use]
    pub fn has_moments(&self) -> bool {
        self.columns.iter().any(|it| it.form == Form::Moment)
    }
}

/// The columns that are copied of a table.
///
/// # Errors
/// One is of a type whose values are not known to travel unchanged.
pub(crate) fn columns(relation: &Relation, is_mariadb: bool) -> Result<Vec<Column>, ClientError> {
    let mut columns = Vec::with_capacity(relation.columns.len());
    for it in relation.columns.iter().filter(|it| !it.generated) {
        let full = it.type_name.to_ascii_lowercase();
        let form = match full.split(['(', ' ']).next().unwrap_or_default() {
            "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" | "decimal" | "numeric" | "float"
            | "double" | "real" | "year" | "date" | "datetime" | "time" | "bit" | "binary" | "varbinary"
            | "tinyblob" | "blob" | "mediumblob" | "longblob" | "boolean" => Form::Plain,
            "uuid" | "inet4" | "inet6" if is_mariadb => Form::Plain,
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => Form::Bytes,
            "enum" | "set" => Form::Number,
            "timestamp" => Form::Moment,
            _ => {
                return Err(ClientError::unsupported(
                    format!(
                        "a read over several shards of \"{}\", whose column \"{}\" is of type {full}, is not supported",
                        relation.name, it.name
                    ),
                    "Name one value of the shard key.",
                ));
            }
        };
        columns.push(Column { name: Arc::clone(&it.name), form });
    }
    if columns.is_empty() {
        return Err(ClientError::unsupported(
            format!(
                "a read over several shards of \"{}\", whose columns are not known, is not supported",
                relation.name
            ),
            "Look whether the shards' servers can be reached.",
        ));
    }
    Ok(columns)
}

/// Whether a column's values are integers.
pub(crate) fn is_whole(type_name: &str) -> bool {
    let name = type_name.to_ascii_lowercase();
    matches!(
        name.split(['(', ' ']).next().unwrap_or_default(),
        "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint"
    )
}

/// A name as MySQL writes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
