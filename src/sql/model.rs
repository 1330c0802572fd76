//! A statement without its syntax tree: which relations it names, which conditions bind their columns, what else matters.
//!
//! Everything is numbered within one [`Query`]: relations, columns that matter ([`Variable`]), blocks (one SELECT each),
//! nodes of join trees, conditions. `facts` closes over them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use crate::ident::TableName;
use crate::schema;

/// The place of a [`Leaf`] in [`Query::leaves`].
pub type LeafId = usize;
/// The place of a [`Variable`] in [`Query::variables`].
pub type VariableId = usize;
/// The place of a [`Block`] in [`Query::blocks`].
pub type BlockId = usize;
/// The place of a [`Node`] in [`Query::nodes`].
pub type NodeId = usize;
/// The place of a [`Condition`] in [`Query::conditions`].
pub type ConditionId = usize;

/// A statement that reads or writes rows.
#[derive(Debug, Default)]
pub struct Query {
    /// Everything that stands in a FROM, and every target of a write.
    pub leaves: Vec<Leaf>,
    /// Columns that conditions or outputs mention.
    pub variables: Vec<Variable>,
    /// Join trees.
    pub nodes: Vec<Node>,
    /// SELECTs, set-operation arms, writes.
    pub blocks: Vec<Block>,
    /// What must hold.
    pub conditions: Vec<Condition>,
    /// INSERT, UPDATE, DELETE, MERGE, at the top or in WITH.
    pub writes: Vec<Write>,
    /// Everything else that matters.
    pub notes: Notes,
    /// The block that makes the answer, if it is one plain SELECT.
    pub top: Option<BlockId>,
    /// The statement is an INSERT, UPDATE, DELETE or MERGE and nothing around it: no WITH, no query over what it returns.
    pub only_writes: bool,
    /// The write that is the whole statement has RETURNING.
    pub returns: bool,
    /// How often each `$n` is mentioned, and with a column of which type it is compared or assigned directly.
    pub parameters: Vec<ParameterUse>,
    /// Where relations are named, so that others can be put in their place.
    pub references: Vec<Reference>,
    /// The definitions of the views that references name. The statement is text 0; these are numbered from 1.
    pub definitions: Vec<Arc<str>>,
    /// What stands before the table's name in columns such as `schema.table.column`, up to and with the dot.
    pub qualifiers: Vec<Place>,
    /// Leaves whose row is mentioned as a whole.
    pub whole_rows: BTreeSet<LeafId>,
    /// Some name may stand for a column that is not among the variables.
    pub vague_columns: bool,
    /// A table named with its schema in a column, of whose name alone another one is meant.
    pub shadowed: Option<Arc<str>>,
    /// A query of WITH is named twice, and so was read twice.
    pub reread: bool,
    /// MySQL: what it does with its rows, where that is little.
    pub shape: Option<Box<crate::sql::mysql::Shape>>,
}

/// A part of one of the texts of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which: 0 is the statement, others are [`Query::definitions`] from 1 on.
    pub text: usize,
    /// The lexemes, counted from the statement's (or the definition's) first.
    pub lexemes: Range<usize>,
}

/// A relation's name in a FROM.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Where the name stands, its schema included.
    pub place: Place,
    /// What the name is called without an alias of its own.
    pub name: Arc<str>,
    /// An alias follows.
    pub aliased: bool,
    /// The alias renames columns.
    pub renamed: bool,
    /// What it is, each time that the text is read: a query of WITH that is named twice is read twice.
    pub leaves: Vec<LeafId>,
    /// A view: the text that defines it.
    pub definition: Option<usize>,
}

/// How one `$n` is used.
#[derive(Clone, Debug, Default)]
pub struct ParameterUse {
    /// Mentions in the text.
    pub mentions: u32,
    /// Of these, the ones next to a column, by the column's type.
    pub beside: Vec<u32>,
}

impl ParameterUse {
    /// The type that the server infers, if all mentions agree.
    #[must_use]
    pub fn inferred(&self) -> Option<u32> {
        let first = *self.beside.first()?;
        let agree = self.beside.iter().all(|oid| *oid == first);
        (agree && usize::try_from(self.mentions) == Ok(self.beside.len())).then_some(first)
    }
}

/// One thing of a FROM.
#[derive(Debug)]
pub struct Leaf {
    /// The block in whose FROM it stands.
    pub block: BlockId,
    /// What it is.
    pub source: Source,
    /// What the statement calls it.
    pub alias: Arc<str>,
}

/// What a leaf is.
#[derive(Clone, Debug)]
pub enum Source {
    /// A table or materialized view outside the system schemas.
    Table(Arc<schema::Relation>),
    /// A catalog or a view of one.
    System(Arc<str>),
    /// A temporary relation of the session.
    Temporary(Arc<str>),
    /// A subquery, CTE or view: its arms' blocks.
    Derived(Vec<BlockId>),
    /// Rows made on the spot: functions, VALUES, what a data-modifying CTE returns.
    Rows,
}

/// A column of a leaf.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Whose.
    pub leaf: LeafId,
    /// Its name.
    pub column: Arc<str>,
    /// Its type; 0: not known.
    pub oid: u32,
    /// Whether it is declared NOT NULL.
    pub not_null: bool,
    /// Whether equality is equality of bytes for it (false under a nondeterministic collation).
    pub deterministic: bool,
}

/// A join tree.
#[derive(Debug)]
pub enum Node {
    /// A relation.
    Leaf(LeafId),
    /// All children, and everything in `on` holds.
    Inner {
        /// What is joined.
        children: Vec<NodeId>,
        /// The conditions.
        on: Vec<ConditionId>,
    },
    /// Every row of `kept`, with those of `optional` that fit.
    Outer {
        /// The preserved side.
        kept: NodeId,
        /// The nullable side.
        optional: NodeId,
        /// The conditions.
        on: Vec<ConditionId>,
    },
    /// FULL JOIN.
    Full {
        /// One side.
        left: NodeId,
        /// The other.
        right: NodeId,
        /// The conditions.
        on: Vec<ConditionId>,
    },
}

/// One SELECT (or arm of a set operation, or write).
#[derive(Debug)]
pub struct Block {
    /// Its join tree, WHERE included.
    pub root: NodeId,
    /// The block around it.
    pub parent: Option<BlockId>,
    /// The leaf of `parent` that shows its rows, for FROM items.
    pub host: Option<LeafId>,
    /// Which columns outside equal which columns inside.
    pub links: Vec<Link>,
    /// Why its answer is not the union of the shards' answers: the first construct found.
    pub obstacle: Option<String>,
    /// Some obstacle is more than grouping, order, DISTINCT or a limit.
    pub hard: bool,
    /// It orders, limits, or takes out what is there twice.
    pub ranked: bool,
    /// The items of its select list: whether one has an alias, and its name where that is plain; `None`: a `*`.
    pub items: Vec<Option<(bool, Option<Arc<str>>)>>,
    /// Per expression of GROUP BY, whether it is the name of an output and of no column.
    pub grouped_outputs: Vec<bool>,
    /// Whether it aggregates.
    pub aggregated: bool,
    /// What it aggregates may depend on the order in which rows come.
    pub by_order: bool,
    /// Whether it uses window functions.
    pub windowed: bool,
    /// The plain columns that it groups by.
    pub grouped: Vec<VariableId>,
    /// It groups, and has no row where there is none to group (no grouping sets).
    pub groups: bool,
    /// Where in the block around it it stands, if it is an expression's.
    pub stands: Stands,
}

/// Where in a block a subquery of an expression stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stands {
    /// In FROM or WHERE: it is asked for rows that are there.
    #[default]
    Within,
    /// In the select list, GROUP BY, HAVING or ORDER BY: also for a row that an aggregate makes of none.
    Behind,
    /// In LIMIT or OFFSET: for no row at all.
    Beside,
}

/// A column outside that equals a column inside, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Outside.
    pub outer: VariableId,
    /// Inside.
    pub inner: VariableId,
    /// Rows inside whose column differs from what is asked outside do not matter.
    pub inward: bool,
    /// A row outside comes from a row inside with the same value.
    pub outward: bool,
}

/// Something that must hold, and does not when a column in it is NULL (but for `Null` and `Never`).
#[derive(Debug)]
pub enum Condition {
    /// Two columns are equal by their types' own equality.
    Same(VariableId, VariableId),
    /// The column equals one of these.
    Is(VariableId, Vec<Value>),
    /// The column equals an element of this array.
    AnyOf(VariableId, Value),
    /// The column compares so with this.
    Range(VariableId, Comparison, Value),
    /// The column is NULL.
    Null(VariableId),
    /// The columns are not NULL.
    Real(Vec<LeafId>),
    /// Nothing satisfies it.
    Never,
}

/// `<`, `<=`, `>`, `>=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A value that is known when the statement is executed.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A literal of the text, by its number in the statement.
    Literal(u32),
    /// A literal that stands elsewhere (in a view, in a default): its lexeme.
    Fixed(Arc<str>),
    /// `$n`, from 0.
    Parameter(u16),
    /// NULL
    Null,
    /// TRUE, FALSE
    Bool(bool),
    /// A cast without modifier.
    Cast(Box<Self>, Type),
    /// `-x`
    Negate(Box<Self>),
    /// Sum, difference or product of integers.
    Arithmetic(Arithmetic, Box<Self>, Box<Self>),
    /// `ARRAY[…]`
    Array(Vec<Self>),
}

/// `+`, `-`, `*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
}

/// Types that values are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// smallint
    Int2,
    /// integer
    Int4,
    /// bigint
    Int8,
    /// numeric
    Numeric,
    /// text
    Text,
    /// varchar without length
    Varchar,
    /// uuid
    Uuid,
    /// date
    Date,
    /// timestamp with time zone
    TimestampTz,
    /// bytea
    Bytea,
}

impl Type {
    /// Its OID.
    #[must_use]
    pub fn oid(self) -> u32 {
        match self {
            Self::Int2 => 21,
            Self::Int4 => 23,
            Self::Int8 => 20,
            Self::Numeric => 1700,
            Self::Text => 25,
            Self::Varchar => 1043,
            Self::Uuid => 2950,
            Self::Date => 1082,
            Self::TimestampTz => 1184,
            Self::Bytea => 17,
        }
    }

    /// The type of that OID.
    #[must_use]
    pub fn of(oid: u32) -> Option<Self> {
        Some(match oid {
            21 => Self::Int2,
            23 => Self::Int4,
            20 => Self::Int8,
            1700 => Self::Numeric,
            25 => Self::Text,
            1043 => Self::Varchar,
            2950 => Self::Uuid,
            1082 => Self::Date,
            1184 => Self::TimestampTz,
            17 => Self::Bytea,
            _ => return None,
        })
    }
}

/// A write.
#[derive(Debug)]
pub struct Write {
    /// What it does.
    pub kind: WriteKind,
    /// The table.
    pub target: LeafId,
    /// The block whose conditions bind the target (UPDATE, DELETE, MERGE), or the INSERT's own.
    pub block: BlockId,
    /// INSERT: where the rows come from.
    pub rows: Rows,
    /// INSERT: the columns that rows give, in order.
    pub columns: Vec<Arc<str>>,
    /// INSERT without a column list: the byte in the statement behind the table's name or alias.
    pub splice_at: Option<usize>,
    /// SET, in UPDATE, MERGE and ON CONFLICT DO UPDATE: columns with their values where these are constants.
    pub assigned: Vec<(Arc<str>, Option<Value>)>,
    /// INSERT … ON CONFLICT.
    pub conflict: Option<Conflict>,
    /// OVERRIDING USER VALUE was written: identity columns count all the same.
    pub overriding: bool,
    /// MERGE: what it inserts.
    pub merged: Vec<Merged>,
}

/// A row that MERGE inserts for a row of the source that matches none.
#[derive(Debug)]
pub struct Merged {
    /// The columns that get a value; none: it names none.
    pub columns: Vec<Arc<str>>,
    /// The values.
    pub cells: Vec<Cell>,
    /// The source's column that each value is, where it is one.
    pub variables: Vec<Option<VariableId>>,
}

/// Which write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// INSERT
    Insert,
    /// UPDATE
    Update,
    /// DELETE
    Delete,
    /// MERGE
    Merge,
}

/// Where an INSERT's rows come from.
#[derive(Debug)]
pub enum Rows {
    /// Not an INSERT.
    None,
    /// VALUES: each row's cells.
    Values(Vec<Vec<Cell>>),
    /// VALUES whose first row stands for all.
    Folded {
        /// The first row.
        row: Vec<Cell>,
        /// The number of its first literal.
        first: u32,
        /// How many literals a row has.
        width: u32,
    },
    /// DEFAULT VALUES
    Defaults,
    /// SELECT: its blocks, and the inner column or constant behind each output where it is plain.
    Query {
        /// The arms.
        blocks: Vec<BlockId>,
        /// Per output column, per arm.
        outputs: Vec<Output>,
        /// There are no others: where `*` hides some, those from there on are left out.
        whole: bool,
    },
}

/// One cell of a VALUES row.
#[derive(Clone, Debug)]
pub enum Cell {
    /// Known at execution.
    Value(Value),
    /// DEFAULT
    Default,
    /// Not known here.
    Other,
}

/// What stands behind an output column of a SELECT.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Its name, as the server names it, where that is known.
    pub name: Option<Arc<str>>,
    /// The column that it shows as it is (per arm, in the order of the arms).
    pub variables: Vec<Option<VariableId>>,
    /// The constant that it is (single SELECT).
    pub value: Option<Value>,
    /// Its type, when known; 0: not known.
    pub oid: u32,
}

/// ON CONFLICT.
#[derive(Debug)]
pub struct Conflict {
    /// What is watched.
    pub target: ConflictTarget,
    /// DO UPDATE.
    pub updates: bool,
    /// Not every row need give one: DO NOTHING, or DO UPDATE … WHERE.
    pub may_skip: bool,
}

/// What ON CONFLICT watches.
#[derive(Debug)]
pub enum ConflictTarget {
    /// Nothing named: every unique index.
    Any,
    /// These columns.
    Columns(Vec<Arc<str>>),
    /// ON CONSTRAINT
    Constraint(Arc<str>),
    /// Expressions or a partial index.
    Other,
}

/// What else a statement does or needs.
#[derive(Debug, Default)]
pub struct Notes {
    /// A function that no list knows.
    pub unreviewed: Option<String>,
    /// A function of `pg_catalog` that no list knows: it may be called where only catalogs are read.
    pub unlisted: Option<String>,
    /// now() and its family.
    pub now: bool,
    /// ARRAY(SELECT …): its order is that of the rows.
    pub array_of_rows: bool,
    /// A volatile or otherwise per-server function: the answer depends on where and how often it runs.
    pub volatile: Option<String>,
    /// A function that says the same as long as it is asked on one server, and on another something else.
    pub per_server: Option<String>,
    /// A function whose answer depends on the server or the session, so that a statement without tables goes to the
    /// catalog shard.
    pub placed: bool,
    /// A function or cast that looks at the catalogs.
    pub catalog: Option<String>,
    /// A function that belongs on the catalog shard's primary and does something.
    pub acts: Option<String>,
    /// A function of the user's own, which may be volatile.
    pub own_function: bool,
    /// A reason for the primary without an effect.
    pub primary: bool,
    /// Row locks.
    pub locks: bool,
    /// COLLATE, or a type whose collation is not the database's.
    pub collates: bool,
    /// TABLESAMPLE.
    pub sampled: bool,
    /// TABLESAMPLE … REPEATABLE.
    pub sampled_again: bool,
    /// A system column.
    pub system_column: Option<Arc<str>>,
    /// A function that tells how a value is stored.
    pub stored: Option<Arc<str>>,
    /// Pins by an advisory lock.
    pub advisory: bool,
    /// pg_advisory_unlock and its family.
    pub unlocks: bool,
    /// set_config calls.
    pub set_config: Vec<(Arc<str>, bool)>,
    /// The compiled statement holds for this very text only.
    pub exact_only: bool,
    /// A whole row or a user-defined type in the answer, whose OID differs between shards.
    pub user_type: Option<String>,
    /// Some write or query cannot be planned anyhow, with why and a hint.
    pub refused: Option<(String, String)>,
    /// nextval and its family, as they are called.
    pub sequences: Vec<String>,
    /// SELECT INTO.
    pub into: Option<(Vec<Arc<str>>, bool)>,
    /// EXPLAIN; true: ANALYZE.
    pub explained: Option<bool>,
    /// Where the explained statement begins, in bytes of the statement.
    pub explained_at: usize,
}

impl Leaf {
    /// The table, if it is one.
    #[must_use]
    pub fn table(&self) -> Option<&TableName> {
        match &self.source {
            Source::Table(relation) => Some(&relation.name),
            Source::System(_) | Source::Temporary(_) | Source::Derived(_) | Source::Rows => None,
        }
    }
}
