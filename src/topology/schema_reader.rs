//! A server's catalogs → [`Schema`]. A few queries, the same on Postgres 13 and later.
//!
//! [`watermark`] is the cheap question whether anything changed: a sum over the row versions (oid and xmin) of every
//! catalog row that [`read`] looks at. A committed change of a row makes a new version under another transaction id, a
//! new row adds to the sum and a dropped one takes from it; temporary relations are left out, or every session that
//! makes one would count as a change.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use sha2::Digest;
use sha2::Sha256;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use sqlx::postgres::PgRow;

use super::control::ControlError;
use super::control::bounded;
use super::health::Heard;
use crate::ident::TableName;
use crate::schema::Column;
use crate::schema::ForeignKey;
use crate::schema::Relation;
use crate::schema::RelationKind;
use crate::schema::Schema;
use crate::schema::Trigger;
use crate::schema::UniqueIndex;
use crate::schema::UserType;

/// What one server's catalogs say.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// [`watermark`] when it was read.
    pub watermark: String,
    /// What planning may ask about.
    pub schema: Arc<Schema>,
    /// Every type whose OID is not the same on all servers of a version, by its qualified name (`sales.mood[]`).
    pub types: BTreeMap<String, u32>,
}

/// Asks whether anything changed: equal answers mean equal catalogs, as far as [`read`] looks.
///
/// # Errors
/// What the server, or the way to it, said.
pub async fn watermark(connection: &mut PgConnection) -> Result<String, ControlError> {
    one::<(String,)>(connection, WATERMARK).await.map(|(it,)| it)
}

/// Reads everything, at one moment: again if something changed meanwhile.
///
/// # Errors
/// What the server, or the way to it, said; or that it changes faster than it can be read.
pub async fn read(connection: &mut PgConnection) -> Result<Catalog, ControlError> {
    let mut before = watermark(connection).await?;
    let mut trouble = None;
    for _ in 0..ATTEMPTS {
        // Catalog functions see the newest state, not the statement's, so that a table dropped meanwhile is an error.
        let result = read_once(connection).await;
        let after = watermark(connection).await?;
        match result {
            Ok((schema, types)) if before == after => {
                return Ok(Catalog { watermark: after, schema: Arc::new(schema), types });
            }
            Ok(_) => {}
            Err(error) if before == after || error.heard != Heard::Failure => return Err(error),
            Err(error) => trouble = Some(error),
        }
        before = after;
    }
    Err(trouble.unwrap_or_else(|| ControlError {
        heard: Heard::Answer,
        text: "the schema changes faster than it can be read".to_owned(),
        sqlstate: None,
    }))
}

/// How a shard numbers types otherwise than the catalog shard.
#[derive(Debug, PartialEq, Eq)]
pub struct TypeNumbers {
    /// For every type whose OID is another: the shard's → the catalog shard's.
    pub known: HashMap<u32, u32>,
    /// The shard's arrays and composites of such types: values of them hold the shard's OIDs in binary format.
    holders: HashSet<u32>,
}

/// `record` and `record[]`: their values hold the OIDs of whatever is in them.
const RECORDS: [u32; 2] = [2249, 2287];

impl TypeNumbers {
    /// Compares two shards; `None`: they number all types alike.
    #[must_use]
    pub fn compare(canonical: &Catalog, shard: &Catalog) -> Option<Self> {
        let known = type_oids(canonical, shard)?;
        // What is neither of these is an array, a composite or a table's row.
        let plain: HashSet<u32> =
            shard.schema.user_types.values().filter(|it| !matches!(it.kind, 'c' | 'p')).map(|it| it.oid).collect();
        let holds = |(name, oid): &(&String, &u32)| {
            let element = name.strip_suffix("[]").and_then(|it| shard.types.get(it));
            let differs = known.contains_key(oid) || element.is_some_and(|it| known.contains_key(it));
            !plain.contains(oid) && (differs || element.is_none_or(|it| !plain.contains(it)))
        };
        let holders = shard.types.iter().filter(holds).map(|(_, oid)| *oid).collect();
        Some(Self { known, holders })
    }

    /// Whether values of a type, by the shard's OID, hold OIDs in binary format.
    #[must_use]
    pub fn holds_oids(&self, oid: u32) -> bool {
        RECORDS.contains(&oid) || self.holders.contains(&oid)
    }
}

/// For every type of the shard whose OID is another on the catalog shard: the shard's → the catalog shard's.
/// `None`: they are identical.
#[must_use]
pub fn type_oids(canonical: &Catalog, shard: &Catalog) -> Option<HashMap<u32, u32>> {
    let differing = |(name, oid): (&String, &u32)| {
        let wanted = canonical.types.get(name)?;
        (wanted != oid).then_some((*oid, *wanted))
    };
    let map: HashMap<u32, u32> = shard.types.iter().filter_map(differing).collect();
    (!map.is_empty()).then_some(map)
}

type RelationRow = (i64, String, String, String, String, bool, bool, Option<String>);
type ColumnRow = (i64, i32, String, i64, String, i32, bool, Option<String>, bool, String, Vec<String>, String);
type IndexRow = (i64, String, bool, i32, String);
type TriggerRow = (i64, String, bool);
type InheritsRow = (i64, i64);
type ForeignKeyRow = (i64, String, Vec<i16>, i64, Vec<String>);
type TypeRow = (String, String, i64, String, i64);

/// What the catalogs answer, in the order of [`QUESTIONS`].
#[derive(Debug)]
struct Rows {
    version: i32,
    relations: Vec<RelationRow>,
    columns: Vec<ColumnRow>,
    indexes: Vec<IndexRow>,
    triggers: Vec<TriggerRow>,
    inherits: Vec<InheritsRow>,
    foreign_keys: Vec<ForeignKeyRow>,
    functions: Vec<(String, String)>,
    operators: Vec<(String, String)>,
    types: Vec<TypeRow>,
    system: Vec<(String,)>,
    namespaces: Vec<(String,)>,
    oids: Vec<(String, i64)>,
}

/// What is asked, and how many columns each answer has.
const QUESTIONS: [(&str, usize); 13] = [
    (VERSION, 1),
    (RELATIONS, 8),
    (COLUMNS, 12),
    (INDEXES, 5),
    (TRIGGERS, 3),
    (INHERITS, 2),
    (FOREIGN_KEYS, 5),
    (FUNCTIONS, 2),
    (OPERATORS, 2),
    (TYPES, 5),
    (SYSTEM_RELATIONS, 1),
    (NAMESPACES, 1),
    (TYPE_OIDS, 2),
];

async fn read_once(connection: &mut PgConnection) -> Result<(Schema, BTreeMap<String, u32>), ControlError> {
    let (version,) = one::<(i32,)>(connection, VERSION).await?;
    let rows = Rows {
        version,
        relations: all(connection, RELATIONS).await?,
        columns: all(connection, COLUMNS).await?,
        indexes: all(connection, INDEXES).await?,
        triggers: all(connection, TRIGGERS).await?,
        inherits: all(connection, INHERITS).await?,
        foreign_keys: all(connection, FOREIGN_KEYS).await?,
        functions: all(connection, FUNCTIONS).await?,
        operators: all(connection, OPERATORS).await?,
        types: all(connection, TYPES).await?,
        system: all(connection, SYSTEM_RELATIONS).await?,
        namespaces: all(connection, NAMESPACES).await?,
        oids: all(connection, TYPE_OIDS).await?,
    };
    Ok(rows.build())
}

/// What a session asks a server, within a transaction that has changed the schema: each gives rows of one text. To be
/// asked with the `search_path` `pg_catalog`.
pub fn questions() -> impl Iterator<Item = String> {
    QUESTIONS.iter().map(|(question, width)| {
        let names: Vec<String> = (0..*width).map(|it| format!("c{it}")).collect();
        let names = names.join(", ");
        format!("SELECT pg_catalog.json_build_array({names})::pg_catalog.text FROM ({question}) r ({names})")
    })
}

/// The catalogs by the answers to [`questions`].
///
/// # Errors
/// What could not be read, for people.
pub fn answered(answers: &[Vec<String>]) -> Result<Catalog, String> {
    fn rows<Row>(
        answers: &[Vec<String>],
        place: usize,
        read: fn(&str) -> serde_json::Result<Row>,
    ) -> Result<Vec<Row>, String> {
        let texts = answers.get(place).ok_or("an answer is missing")?;
        texts.iter().map(|it| read(it)).collect::<Result<_, _>>().map_err(|error| error.to_string())
    }
    let version: Vec<(i32,)> = rows(answers, 0, |it| serde_json::from_str(it))?;
    let rows = Rows {
        version: version.first().ok_or("no version")?.0,
        relations: rows(answers, 1, |it| serde_json::from_str(it))?,
        columns: rows(answers, 2, |it| serde_json::from_str(it))?,
        indexes: rows(answers, 3, |it| serde_json::from_str(it))?,
        triggers: rows(answers, 4, |it| serde_json::from_str(it))?,
        inherits: rows(answers, 5, |it| serde_json::from_str(it))?,
        foreign_keys: rows(answers, 6, |it| serde_json::from_str(it))?,
        functions: rows(answers, 7, |it| serde_json::from_str(it))?,
        operators: rows(answers, 8, |it| serde_json::from_str(it))?,
        types: rows(answers, 9, |it| serde_json::from_str(it))?,
        system: rows(answers, 10, |it| serde_json::from_str(it))?,
        namespaces: rows(answers, 11, |it| serde_json::from_str(it))?,
        oids: rows(answers, 12, |it| serde_json::from_str(it))?,
    };
    let (schema, types) = rows.build();
    Ok(Catalog { watermark: String::new(), schema: Arc::new(schema), types })
}

impl Rows {
    fn build(self) -> (Schema, BTreeMap<String, u32>) {
        let digest = Sha256::digest(format!("{self:?}"));
        let digest = digest.iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
        let mut build = Build::default();
        self.relations.into_iter().for_each(|row| build.relation(row));
        self.columns.into_iter().for_each(|row| build.column(row));
        self.indexes.into_iter().for_each(|row| build.index(row));
        self.triggers.into_iter().for_each(|row| build.trigger(row));
        self.inherits.iter().for_each(|row| build.inherits(*row));
        self.foreign_keys.into_iter().for_each(|row| build.foreign_key(row));
        let schema = Schema {
            digest,
            server_version: u32::try_from(self.version).unwrap_or(0),
            relations: build.relations.into_values().map(|it| (it.name.clone(), Arc::new(it))).collect(),
            system_relations: texts(self.system),
            namespaces: texts(self.namespaces),
            user_functions: by_name(self.functions),
            user_operators: by_name(self.operators),
            user_types: self.types.into_iter().map(user_type).collect(),
            assumed: false,
            assumed_whole: std::collections::BTreeSet::new(),
            mysql: None,
        };
        (schema, self.oids.into_iter().map(|(name, oid)| (name, oid_of(oid))).collect())
    }
}

/// Relations under construction, by OID.
#[derive(Default)]
struct Build {
    relations: HashMap<i64, Relation>,
    /// `attnum` of each of a relation's columns, in the order of `Relation::columns`.
    numbers: HashMap<i64, Vec<i32>>,
}

impl Build {
    fn relation(&mut self, row: RelationRow) {
        let (oid, schema, name, kind, persistence, row_security, has_rules, definition) = row;
        let kind = match kind.as_str() {
            "p" => RelationKind::Partitioned,
            "v" => RelationKind::View,
            "m" => RelationKind::MaterializedView,
            "f" => RelationKind::Foreign,
            "S" => RelationKind::Sequence,
            _ => RelationKind::Table,
        };
        let relation = Relation {
            has_rules,
            row_security,
            definition: definition.map(Arc::from),
            persistence: persistence.chars().next().unwrap_or('p'),
            ..Relation::bare(TableName::new(&schema, &name), kind)
        };
        self.relations.insert(oid, relation);
    }

    fn column(&mut self, row: ColumnRow) {
        let (
            of,
            number,
            name,
            type_oid,
            type_name,
            type_modifier,
            not_null,
            default,
            generated,
            identity,
            sequence,
            collation,
        ) = row;
        let Some(relation) = self.relations.get_mut(&of) else { return };
        self.numbers.entry(of).or_default().push(number);
        relation.columns.push(Column {
            name: name.into(),
            type_oid: oid_of(type_oid),
            type_name: type_name.into(),
            type_modifier,
            not_null,
            default: default.map(Arc::from),
            generated,
            identity: identity.chars().next(),
            uses_sequence: !sequence.is_empty(),
            sequence: match sequence.as_slice() {
                [_, schema, name] => Some(TableName::new(schema, name)),
                _ => None,
            },
            deterministic: collation != "loose",
            default_collation: collation == "default",
        });
    }

    /// The place of the column with that `attnum`; `None` for 0, which stands for an expression.
    fn place(&self, of: i64, number: i32) -> Option<usize> {
        self.numbers.get(&of)?.iter().position(|it| *it == number)
    }

    fn index(&mut self, (of, name, primary, keys, numbers): IndexRow) {
        let keys = usize::try_from(keys).unwrap_or(0);
        let columns: Vec<Option<usize>> = numbers
            .split_ascii_whitespace()
            .take(keys)
            .map(|number| self.place(of, number.parse().unwrap_or(0)))
            .collect();
        let Some(relation) = self.relations.get_mut(&of) else { return };
        if primary {
            relation.primary_key = columns.iter().copied().collect();
        }
        relation.unique.push(UniqueIndex { name: name.into(), columns });
    }

    fn trigger(&mut self, (of, name, before_row): TriggerRow) {
        if let Some(relation) = self.relations.get_mut(&of) {
            relation.triggers.push(Trigger { name: name.into(), before_row });
        }
    }

    fn inherits(&mut self, (child, parent): InheritsRow) {
        let Some(name) = self.relations.get_mut(&parent).map(|parent| {
            parent.has_children = true;
            parent.name.clone()
        }) else {
            return;
        };
        if let Some(child) = self.relations.get_mut(&child) {
            child.parents.push(name);
        }
    }

    fn foreign_key(&mut self, (of, name, numbers, target, referenced): ForeignKeyRow) {
        let columns = numbers.iter().filter_map(|number| self.place(of, i32::from(*number))).collect();
        let Some(references) = self.relations.get(&target).map(|it| it.name.clone()) else { return };
        let Some(relation) = self.relations.get_mut(&of) else { return };
        relation.foreign_keys.push(ForeignKey {
            name: name.into(),
            columns,
            references,
            referenced_columns: referenced.into_iter().map(Arc::from).collect(),
        });
    }
}

fn user_type((schema, name, oid, kind, array): TypeRow) -> (TableName, UserType) {
    let kind = kind.chars().next().unwrap_or('b');
    (TableName::new(&schema, &name), UserType { oid: oid_of(oid), kind, array_oid: oid_of(array) })
}

fn texts(rows: Vec<(String,)>) -> BTreeSet<Arc<str>> {
    rows.into_iter().map(|(it,)| Arc::from(it)).collect()
}

fn by_name(rows: Vec<(String, String)>) -> HashMap<Arc<str>, Vec<Arc<str>>> {
    let mut map: HashMap<Arc<str>, Vec<Arc<str>>> = HashMap::new();
    for (name, schema) in rows {
        map.entry(name.into()).or_default().push(schema.into());
    }
    map
}

/// OIDs are read as bigint, which holds all of them.
fn oid_of(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

async fn all<Row>(connection: &mut PgConnection, query: &'static str) -> Result<Vec<Row>, ControlError>
where
    Row: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    bounded(sqlx::query_as::<_, Row>(query).fetch_all(connection)).await
}

async fn one<Row>(connection: &mut PgConnection, query: &'static str) -> Result<Row, ControlError>
where
    Row: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    bounded(sqlx::query_as::<_, Row>(query).fetch_one(connection)).await
}

/// How often a schema that changes meanwhile is read again.
const ATTEMPTS: usize = 5;
/// Relations that planning knows, as `c` in namespace `n`.
macro_rules! user_relations {
    () => {
        "pg_catalog.pg_class c
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          and n.nspname not in ('pg_catalog', 'information_schema')
          and n.nspname !~ '^pg_(toast|temp)'
          and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')"
    };
}

/// Row version `x.oid`, `x.xmin` as one number.
macro_rules! version {
    ($alias:literal, $seed:literal) => {
        concat!(
            "concat_ws(':', count(*), sum(hashint8extended((",
            $alias,
            ".oid::int8 << 32) # ",
            $alias,
            ".xmin::text::int8, ",
            $seed,
            ")))"
        )
    };
}

const VERSION: &str = "select current_setting('server_version_num')::int4";

const RELATIONS: &str = concat!(
    "select c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relrowsecurity,
            exists (select from pg_catalog.pg_rewrite r where r.ev_class = c.oid and r.rulename <> '_RETURN'),
            case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end
       from ",
    user_relations!(),
    " order by n.nspname, c.relname"
);

const COLUMNS: &str = concat!(
    "select a.attrelid::int8, a.attnum::int4, a.attname::text, a.atttypid::int8, format_type(a.atttypid, null),
            a.atttypmod, a.attnotnull,
            coalesce(pg_get_expr(d.adbin, d.adrelid), case when a.attidentity = '' then y.typdefault end),
            a.attgenerated <> '', a.attidentity::text,
            case when a.attidentity <> ''
              or coalesce(coalesce(pg_get_expr(d.adbin, d.adrelid), y.typdefault) ~ '\\mnextval\\(', false)
              or exists (select from pg_catalog.pg_depend dep
                           join pg_catalog.pg_class s on s.oid = dep.refobjid and s.relkind = 'S'
                          where dep.classid = 'pg_catalog.pg_attrdef'::regclass and dep.objid = d.oid
                            and dep.refclassid = 'pg_catalog.pg_class'::regclass)
              then array['yes'] else '{}' end ||
            array(select unnest(array[m.nspname::text, s.relname::text])
                    from (select dep.refobjid from pg_catalog.pg_depend dep
                           where dep.classid = 'pg_catalog.pg_attrdef'::regclass and dep.objid = d.oid
                             and dep.refclassid = 'pg_catalog.pg_class'::regclass
                          union
                          select dep.objid from pg_catalog.pg_depend dep
                           where dep.refclassid = 'pg_catalog.pg_class'::regclass and dep.refobjid = a.attrelid
                             and dep.refobjsubid = a.attnum and dep.classid = 'pg_catalog.pg_class'::regclass
                             and dep.deptype = 'i' and a.attidentity <> '') as q (oid)
                    join pg_catalog.pg_class s on s.oid = q.oid and s.relkind = 'S'
                    join pg_catalog.pg_namespace m on m.oid = s.relnamespace),
            case when not l.collisdeterministic then 'loose' when a.attcollation in (0, 100) then 'default'
              else 'other' end
       from ",
    user_relations!(),
    "  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
       left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
       left join pg_catalog.pg_type y on y.oid = a.atttypid and y.typtype = 'd'
       left join pg_catalog.pg_collation l on l.oid = a.attcollation
      order by a.attrelid, a.attnum"
);

const INDEXES: &str = concat!(
    "select i.indrelid::int8, x.relname::text, i.indisprimary, i.indnkeyatts::int4, i.indkey::text
       from ",
    user_relations!(),
    "  join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisunique
       join pg_catalog.pg_class x on x.oid = i.indexrelid
      order by i.indrelid, x.relname"
);

// A partition's copy of its parent's trigger counts as internal on some versions and as the user's on others.
const TRIGGERS: &str = concat!(
    "select t.tgrelid::int8, t.tgname::text, (t.tgtype & 1) <> 0 and (t.tgtype & 2) <> 0
       from ",
    user_relations!(),
    "  join pg_catalog.pg_trigger t on t.tgrelid = c.oid and t.tgenabled in ('O', 'A')
        and (not t.tgisinternal or (t.tgparentid <> 0 and t.tgconstraint = 0))
      order by t.tgrelid, t.tgname"
);

const INHERITS: &str = "
select i.inhrelid::int8, i.inhparent::int8 from pg_catalog.pg_inherits i
 order by i.inhrelid, i.inhseqno";

const FOREIGN_KEYS: &str = concat!(
    "select o.conrelid::int8, o.conname::text, o.conkey, o.confrelid::int8,
            array(select a.attname::text
                    from unnest(o.confkey) with ordinality k (number, place)
                    join pg_catalog.pg_attribute a on a.attrelid = o.confrelid and a.attnum = k.number
                   order by k.place)
       from ",
    user_relations!(),
    "  join pg_catalog.pg_constraint o on o.conrelid = c.oid and o.contype = 'f'
      order by o.conrelid, o.conname"
);

// What somebody put into pg_catalog later is the user's, too.
const FUNCTIONS: &str = "
select distinct p.proname::text, n.nspname::text
  from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
 where n.nspname not in ('pg_catalog', 'information_schema') or p.oid >= 16384
 order by 1, 2";

const OPERATORS: &str = "
select distinct o.oprname::text, n.nspname::text
  from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
 where n.nspname <> 'pg_catalog' or o.oid >= 16384
 order by 1, 2";

const TYPES: &str = "
select n.nspname::text, t.typname::text, t.oid::int8, t.typtype::text, t.typarray::int8
  from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
 where (n.nspname not in ('pg_catalog', 'information_schema') or t.oid >= 16384)
   and n.nspname !~ '^pg_(toast|temp)'
   and (t.typrelid = 0 or exists (select from pg_catalog.pg_class c where c.oid = t.typrelid and c.relkind = 'c'))
   and not exists (select from pg_catalog.pg_type e where e.typarray = t.oid)
 order by 1, 2";

const TYPE_OIDS: &str = "
select format_type(t.oid, null), t.oid::int8
  from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
 where t.oid >= 10000 and n.nspname !~ '^pg_(toast|temp)'
 order by 1, 2";

const SYSTEM_RELATIONS: &str = "
select c.relname::text
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = 'pg_catalog' and c.relkind in ('r', 'p', 'v', 'm', 'f')
 order by 1";

const NAMESPACES: &str = "
select n.nspname::text from pg_catalog.pg_namespace n
 where n.nspname !~ '^pg_(toast|temp)'
 order by 1";

const WATERMARK: &str = concat!(
    "select concat_ws('/',
     (select ",
    version!("n", 1),
    " from pg_catalog.pg_namespace n where n.nspname !~ '^pg_(toast|temp)'),
     (select ",
    version!("c", 2),
    " from ",
    user_relations!(),
    "),
     (select concat_ws(':', count(*), sum(hashint8extended((a.attrelid::int8 << 32) # a.xmin::text::int8, a.attnum)))
        from ",
    user_relations!(),
    "   join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0),
     (select ",
    version!("d", 4),
    " from ",
    user_relations!(),
    " join pg_catalog.pg_attrdef d on d.adrelid = c.oid),
     (select concat_ws(':', count(*), sum(hashint8extended((i.indexrelid::int8 << 32) # i.xmin::text::int8, 5)),
                       sum(hashint8extended((x.oid::int8 << 32) # hashtext(x.relname::text), 5)))
        from ",
    user_relations!(),
    "   join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisunique
        join pg_catalog.pg_class x on x.oid = i.indexrelid),
     (select ",
    version!("o", 6),
    " from ",
    user_relations!(),
    " join pg_catalog.pg_constraint o on o.conrelid = c.oid and o.contype = 'f'),
     (select ",
    version!("t", 7),
    " from ",
    user_relations!(),
    " join pg_catalog.pg_trigger t on t.tgrelid = c.oid),
     (select ",
    version!("r", 8),
    " from ",
    user_relations!(),
    " join pg_catalog.pg_rewrite r on r.ev_class = c.oid),
     (select concat_ws(':', count(*),
                       sum(hashint8extended((i.inhrelid::int8 << 32) # i.inhparent::int8, i.xmin::text::int8)))
        from pg_catalog.pg_inherits i
        join ",
    user_relations!(),
    " on c.oid = i.inhrelid),
     (select ",
    version!("p", 10),
    " from pg_catalog.pg_proc p where p.oid >= 16384),
     (select ",
    version!("o", 11),
    " from pg_catalog.pg_operator o where o.oid >= 16384),
     (select ",
    version!("t", 12),
    " from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
       and n.nspname !~ '^pg_(toast|temp)' where t.oid >= 16384),
     (select ",
    version!("l", 13),
    " from pg_catalog.pg_collation l where l.oid >= 16384))"
);
