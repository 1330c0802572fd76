//! DDL and other utility statements: which shards they are for.

use std::sync::Arc;

use crate::error::ClientError;
use crate::error::Code;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::ident::TableName;
use crate::plan::CopyIn;
use crate::plan::Number;
use crate::plan::Plan;
use crate::plan::World;
use crate::plan::copy::At;
use crate::plan::copy::Drawn;
use crate::plan::copy::KeyField;
use crate::plan::copy::Whose;
use crate::plan::draw;
use crate::plan::route;
use crate::plan::route::Around;
use crate::plan::route::Route;
use crate::plan::split::Splitting;
use crate::schema::Column;
use crate::schema::RelationKind;
use crate::shard_map::Database;
use crate::shard_map::Placement;
use crate::sql::Changes;
use crate::sql::Constraints;
use crate::sql::CopyFormat;
use crate::sql::CopyKind;
use crate::sql::CreateTable;
use crate::sql::Foreign;
use crate::sql::Names;
use crate::sql::Relation;
use crate::sql::Utility;
use crate::sql::model::Query;
use crate::sql::not_mapped;

/// What a utility statement comes to.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) route: Route,
    /// It is about a temporary relation: data to the session, not a change of the schema.
    pub(crate) temporary: bool,
    /// Columns that the text leaves out: where they are said, in bytes of the text, and what.
    pub(crate) splice: Option<(usize, String)>,
    /// COPY … TO STDOUT in binary format of several shards: what the columns are called, and their types.
    pub(crate) packed: Vec<(Arc<str>, u32)>,
}

impl Compiled {
    fn of(route: Route) -> Self {
        Self { route, temporary: false, splice: None, packed: Vec::new() }
    }
}

/// Where a relation is.
enum Place {
    Everywhere,
    Home(ShardId),
    Temporary,
}

fn fixed(plan: Plan, why: impl Into<String>) -> Result<Compiled, ClientError> {
    Ok(Compiled::of(Route::Fixed(plan, why.into())))
}

/// Plans a utility statement; `query` is the one inside it, if there is one.
pub(crate) fn compile(
    utility: &Utility,
    query: Option<&Query>,
    world: &World,
    names: &Names<'_>,
) -> Result<Compiled, ClientError> {
    let database = &*world.database;
    if let Some(shard) = world.view.hint {
        return fixed(Plan::One(shard), "hint: shardway.shard");
    }
    if database.shards.len() == 1 {
        return fixed(Plan::One(ShardId(0)), "the database has one shard");
    }
    match utility {
        Utility::Code(what) => Err(ClientError::unsupported(
            format!("{what} is not supported: its code may reach rows of any shard"),
            "Send its statements one by one, or connect to the server itself.",
        )),
        Utility::Everywhere => fixed(Plan::Everywhere, "the same on every shard"),
        Utility::Schemas { names: schemas, renamed } => of_schemas(schemas, renamed.as_ref(), world),
        Utility::Objects { names: objects, creates } => of_objects(objects, *creates, world, names),
        Utility::Moves(inner) => {
            let schemas = &database.schemas;
            if schemas.homes.is_empty() && schemas.other.is_none() {
                return compile(inner, query, world, names);
            }
            Err(ClientError::unsupported(
                "ALTER … SET SCHEMA in a database with schemas that are whole on a shard is not supported",
                "Make it anew in the other schema, and copy what is in it.",
            ))
        }
        Utility::CreateTable(table) => create_table(table, query, world, names),
        Utility::CreateView { name, stored, temporary, .. } => {
            if temporary.is_some() {
                return one_of_query(query, world, Around::One("a temporary view"));
            }
            if let Some(home) = database.schema_home(&created(name, names).schema) {
                return match query.map(|query| shown_by(query, home, world)).transpose()? {
                    Some(()) | None => fixed(Plan::One(home), "its schema is there"),
                };
            }
            let compiled = query.map(|query| homes(query, world)).transpose()?.flatten();
            match (compiled, stored) {
                (Some(home), _) => fixed(Plan::One(home), "it shows unsharded tables"),
                (None, false) => fixed(Plan::Everywhere, "the same on every shard"),
                (None, true) => Err(ClientError::unsupported(
                    "a materialized view over sharded or reference tables is not supported",
                    "Use a plain view, or a table that is in the map.",
                )),
            }
        }
        Utility::CreateIndex { table, unique } => {
            if let Some(columns) = unique
                && let Some((name, key)) = sharded(table, world, names)
                && !columns.iter().flatten().any(|it| *it == key)
            {
                return Err(without_key(&name, &key));
            }
            about(std::slice::from_ref(table), world, names, false)
        }
        Utility::AlterTable { table, adds, others, changes } => {
            same_everywhere(table, changes, world, names)?;
            if let Some((name, key)) = sharded(table, world, names) {
                constraints(adds, &name, Some(&key), world, names)?;
            } else if let Relation::Known(relation) = names.find(table) {
                constraints(adds, &relation.name, None, world, names)?;
            }
            let mut all = vec![table.clone()];
            all.extend(others.iter().cloned());
            about(&all, world, names, false)
        }
        Utility::About(tables) => about(tables, world, names, false),
        Utility::Drop(tables) => about(tables, world, names, true),
        Utility::Truncate { tables, restarts } => {
            for name in tables {
                if let Some((table, group)) = directory(name, world, names) {
                    return Err(route::directory_moves("TRUNCATE of", &table, &group.name));
                }
                if let Relation::Known(relation) = names.find(name)
                    && let Some((group, _)) = route::behind_directory(&relation.name, world)
                {
                    return Err(route::behind_refused("TRUNCATE of", &relation.name, &group.name));
                }
            }
            let compiled = each(tables, true, world, names)?;
            if *restarts && matches!(compiled.route, Route::Copies(_)) {
                return Err(ClientError::unsupported(
                    "TRUNCATE … RESTART IDENTITY of tables that are on several shards is not supported",
                    "Leave out RESTART IDENTITY: numbers go on where they are.",
                ));
            }
            Ok(compiled)
        }
        // Who only wants the tables to stay takes no turn among those who write.
        Utility::Lock { tables, shared } => each(tables, !shared, world, names),
        Utility::Copy { table, behind, direction, writes, columns, format } => {
            if direction.is_none() {
                return Err(ClientError::unsupported(
                    "COPY with a file or program on the server is not supported",
                    "Use COPY … FROM STDIN or TO STDOUT.",
                ));
            }
            if *writes
                && let Some((name, group)) = directory(table, world, names)
                && group.function.as_directory().is_some_and(|it| it.missing.is_some())
            {
                return Err(route::directory_moves("COPY into", &name, &group.name));
            }
            if *writes && let Some(copy) = copy_in(table, columns, format.as_ref(), world, names)? {
                return Ok(Compiled::of(Route::Copy(Box::new(copy))));
            }
            if *writes {
                let hint = "Copy into a table of the map.";
                return home(std::slice::from_ref(table), world, names, "COPY into what is on several shards", hint);
            }
            copy_out(table, columns, format.as_ref(), *behind, world, names)
        }
        Utility::CopyQuery { direction, format, .. } => {
            if direction.is_none() {
                return Err(ClientError::unsupported(
                    "COPY with a file or program on the server is not supported",
                    "Use COPY … TO STDOUT.",
                ));
            }
            let around = match format {
                Some(CopyFormat { kind: CopyKind::Text | CopyKind::Csv, .. }) => Around::Copies,
                // Values may hold numbers of the shard's own types, and a head whose length is not known stays as it is.
                Some(CopyFormat { kind: CopyKind::Binary, .. }) | None => Around::Stages("COPY of a query"),
            };
            one_of_query(query, world, around)
        }
    }
}

/// The table of that name and the group whose directory it is, if it is one.
fn directory<'w>(
    parts: &[Arc<str>],
    world: &'w World,
    names: &Names<'_>,
) -> Option<(TableName, &'w crate::shard_map::Group)> {
    let Relation::Known(relation) = names.find(parts) else { return None };
    let group = world.database.directory_of(&relation.name)?;
    Some((relation.name.clone(), world.database.groups.get(group)?))
}

/// Whether it writes or locks a table that says where keys are.
pub(crate) fn changes_directory(utility: &Utility, world: &World, names: &Names<'_>) -> bool {
    let is_one = |parts: &Vec<Arc<str>>| directory(parts, world, names).is_some();
    match utility {
        Utility::Moves(inner) => changes_directory(inner, world, names),
        Utility::Copy { table, writes: true, .. } | Utility::AlterTable { table, .. } => is_one(table),
        Utility::Truncate { tables, .. }
        | Utility::Lock { tables, .. }
        | Utility::About(tables)
        | Utility::Drop(tables) => tables.iter().any(is_one),
        _ => false,
    }
}

/// Where the rows of a table are copied from.
fn copy_out(
    table: &[Arc<str>],
    columns: &[Arc<str>],
    format: Option<&CopyFormat>,
    behind: usize,
    world: &World,
    names: &Names<'_>,
) -> Result<Compiled, ClientError> {
    let database = &*world.database;
    let what = "COPY of what is no table of the map";
    let hint = "Use COPY (SELECT …) TO STDOUT.";
    let Relation::Known(relation) = names.find(table) else {
        return home(&[table.to_vec()], world, names, what, hint);
    };
    if relation.kind == RelationKind::View {
        return fixed(Plan::One(database.catalog), "a view has no rows of its own");
    }
    let name = &relation.name;
    let group = match database.placement(name) {
        Some(Placement::Reference) => return fixed(Plan::Any, "reference tables only"),
        Some(Placement::Sharded { group, key }) => database.groups.get(group).map(|it| (it, key)),
        Some(Placement::Unsharded { .. }) | None => None,
    };
    let Some((group, key)) = group else { return home(&[table.to_vec()], world, names, what, hint) };
    route::is_whole(&relation)?;
    if group.require_key {
        return Err(ClientError::new(
            Code::KeyRequired,
            format!("the statement names no shard key of \"{name}\""),
            format!("Use COPY (SELECT … WHERE {key} = …) TO STDOUT: the map asks for a key (require_key)."),
        ));
    }
    let Some(format) = format else {
        return Err(ClientError::unsupported(
            format!("COPY of sharded table \"{name}\" with an option that shardway does not know is not supported"),
            "Leave the option out.",
        ));
    };
    let plain = relation.columns.iter().filter(|it| !it.generated);
    let meant: Vec<&Column> = plain.filter(|it| columns.is_empty() || columns.contains(&it.name)).collect();
    let binary = format.kind == CopyKind::Binary;
    if let Some(column) = meant.iter().find(|it| binary && route::is_object(it.type_oid)) {
        return Err(ClientError::unsupported(
            format!(
                "COPY in binary format of column \"{}\", which names objects of a database by number, across shards is not supported",
                column.name
            ),
            "Copy in text or csv format.",
        ));
    }
    let list: Vec<String> = meant.iter().map(|it| format!("\"{}\"", it.name.replace('"', "\"\""))).collect();
    let splice = (columns.is_empty() && !list.is_empty()).then(|| (behind, format!(" ({})", list.join(", "))));
    let packed = meant.iter().filter(|_| binary).map(|it| (Arc::clone(&it.name), it.type_oid)).collect();
    let shards = group.function.shards();
    let plan = match shards.only() {
        Some(shard) => Plan::One(shard),
        None => Plan::Concat(shards),
    };
    let route = Route::Fixed(plan, format!("all rows of {name}"));
    Ok(Compiled { route, temporary: false, splice, packed })
}

/// Where the rows of a COPY go; `None`: all to one shard, which counts for itself.
fn copy_in(
    table: &[Arc<str>],
    columns: &[Arc<str>],
    format: Option<&CopyFormat>,
    world: &World,
    names: &Names<'_>,
) -> Result<Option<CopyIn>, ClientError> {
    let database = &*world.database;
    let Relation::Known(relation) = names.find(table) else { return Ok(None) };
    let name = &relation.name;
    let Some(placement) = database.placement(name) else { return Ok(None) };
    let kind = match &placement {
        Placement::Sharded { .. } => "sharded",
        Placement::Reference => "reference",
        Placement::Unsharded { .. } => "unsharded",
    };
    let refuse = |what: String| {
        ClientError::unsupported(
            format!("COPY into {kind} table \"{name}\" {what} is not supported"),
            "Copy all columns in text, csv or binary format, or use INSERT.",
        )
    };
    let plain: Vec<&Column> = relation.columns.iter().filter(|it| !it.generated).collect();
    let named: Vec<&str> = if columns.is_empty() {
        plain.iter().map(|it| &*it.name).collect()
    } else {
        columns.iter().map(|it| &**it).collect()
    };
    let left: Vec<&Column> = plain.into_iter().filter(|it| !named.contains(&&*it.name)).collect();
    let counted = |it: &Column| it.uses_sequence || it.identity.is_some();
    if let Placement::Unsharded { home } = placement {
        let elsewhere = |it: &&Column| {
            counted(it)
                && it.sequence.as_ref().and_then(|it| database.sequences.get(it)).is_some_and(|it| it.shard != home)
        };
        if !left.iter().any(elsewhere) {
            return Ok(None);
        }
    }
    route::is_whole(&relation)?;
    route::is_writable(&relation, database)?;
    let Some(format) = format.filter(|it| !it.encoded) else {
        return Err(refuse("with WHERE or options such as ENCODING".to_owned()));
    };
    if !world.has_utf8() {
        return Err(refuse("in a client_encoding other than UTF8".to_owned()));
    }
    let (mut timed, mut drawn) = (Vec::new(), Vec::new());
    for column in left {
        if counted(column) {
            drawn.push(drawn_by(column, database).ok_or_else(|| {
                refuse(format!("that leaves \"{}\" to a sequence: every shard counts by itself", column.name))
            })?);
            continue;
        }
        let Some(default) = &column.default else { continue };
        match route::computed(default, names) {
            Some(route::Computed::Anywhere) => {}
            // Each row is on one shard.
            Some(route::Computed::ByChance) if kind != "reference" => {}
            Some(route::Computed::Once) if format.kind != CopyKind::Binary => {
                let ask = format!("(({default})::{})::pg_catalog.text", column.type_name);
                timed.push((Arc::clone(&column.name), ask));
            }
            _ => return Err(refuse(format!("that leaves \"{}\" to its default {default}", column.name))),
        }
    }
    let (whose, shards): (Whose, Vec<ShardId>) = match placement {
        Placement::Sharded { group, key } => {
            let Some(shards) = database.groups.get(group) else { return Ok(None) };
            let column = route::key_column(&relation, &key, shards)?;
            let at = match named.iter().position(|it| **it == *key) {
                Some(place) => At::Field(place),
                None => match drawn.iter().position(|it| it.name == key) {
                    Some(place) => At::Number(place),
                    None => return Err(refuse(format!("without its shard key \"{key}\""))),
                },
            };
            if format.forced.contains(&key) {
                return Err(refuse(format!("with FORCE_NULL or FORCE_NOT_NULL of \"{key}\"")));
            }
            let known = relation.column(&key).and_then(|place| relation.columns.get(place));
            let not_null = known.is_some_and(|it| it.not_null);
            (Whose::Key(KeyField { key, group, column, not_null, at }), shards.function.shards().iter().collect())
        }
        Placement::Reference => (Whose::Everybody, ShardSet::all(database.shards.len()).iter().collect()),
        Placement::Unsharded { home } => (Whose::Everybody, vec![home]),
    };
    let meant = if columns.is_empty() { named.iter().map(|it| Arc::from(*it)).collect() } else { Vec::new() };
    Ok(Some(CopyIn {
        table: name.clone(),
        whose,
        fields: named.len(),
        format: format.clone(),
        meant,
        timed,
        drawn,
        shards,
    }))
}

/// How a column is numbered that is left to a sequence of the map; `None`: not by the next number alone.
fn drawn_by(column: &Column, database: &Database) -> Option<Drawn> {
    let sequence = column.sequence.clone().filter(|it| database.sequences.contains_key(it))?;
    let identity = column.identity.is_some();
    if !identity && !draw::is_plain(column.default.as_ref()?) {
        return None;
    }
    let width = match column.type_oid {
        21 => 2,
        23 => 4,
        20 => 8,
        _ => return None,
    };
    let number = if identity { Number::Identity(sequence) } else { Number::Next(sequence) };
    Some(Drawn { name: Arc::clone(&column.name), number, width })
}

fn one_of_query(query: Option<&Query>, world: &World, around: Around<'_>) -> Result<Compiled, ClientError> {
    let Some(query) = query else { return fixed(Plan::One(world.database.catalog), "no tables") };
    let compiled = route::compile(query, world, around)?;
    Ok(Compiled::of(compiled.route))
}

/// The one home of a view's unsharded tables; `None`: it shows sharded and reference tables.
fn homes(query: &Query, world: &World) -> Result<Option<ShardId>, ClientError> {
    let mut home = None;
    let mut elsewhere = false;
    for name in query.leaves.iter().filter_map(crate::sql::model::Leaf::table) {
        match world.database.placement(name).ok_or_else(|| not_mapped(name))? {
            Placement::Unsharded { home: shard } => {
                elsewhere |= home.is_some_and(|it| it != shard);
                home = Some(shard);
            }
            Placement::Sharded { .. } | Placement::Reference => elsewhere = true,
        }
    }
    if home.is_some() && elsewhere {
        return Err(ClientError::unsupported(
            "a view over unsharded and other tables is not supported",
            "Make one view for each.",
        ));
    }
    Ok(home)
}

/// What CREATE calls it by that name.
fn created(name: &[Arc<str>], names: &Names<'_>) -> TableName {
    match name {
        [.., schema, name] => TableName { schema: schema.clone(), name: name.clone() },
        _ => {
            let schema = names.creation_schema_name().unwrap_or_else(|| "public".into());
            TableName { schema, name: name.first().cloned().unwrap_or_else(|| "".into()) }
        }
    }
}

/// A view in a schema that is whole on a shard: all that it shows is there.
fn shown_by(query: &Query, home: ShardId, world: &World) -> Result<(), ClientError> {
    for name in query.leaves.iter().filter_map(crate::sql::model::Leaf::table) {
        match world.database.placement(name).ok_or_else(|| not_mapped(name))? {
            Placement::Reference => {}
            Placement::Unsharded { home: shard } if shard == home => {}
            Placement::Unsharded { .. } | Placement::Sharded { .. } => {
                return Err(ClientError::unsupported(
                    format!("a view over \"{name}\" in a schema that is whole on another shard is not supported"),
                    "Show tables of the same shard, and reference tables.",
                ));
            }
        }
    }
    Ok(())
}

/// What is about schemas: where they are.
fn of_schemas(schemas: &[Arc<str>], renamed: Option<&Arc<str>>, world: &World) -> Result<Compiled, ClientError> {
    let database = &*world.database;
    let home = |name: &Arc<str>| database.schema_home(name);
    if let Some(renamed) = renamed
        && schemas.iter().chain([renamed]).any(|it| home(it).is_some())
    {
        return Err(ClientError::unsupported(
            "ALTER SCHEMA … RENAME of a schema that is whole on a shard is not supported",
            "The map places it by its name: make another one, and copy what is in it.",
        ));
    }
    one_place(schemas.iter().map(home))
}

/// What is about things in schemas: where these are.
fn of_objects(
    objects: &[Vec<Arc<str>>],
    creates: bool,
    world: &World,
    names: &Names<'_>,
) -> Result<Compiled, ClientError> {
    let database = &*world.database;
    let mut homes = Vec::new();
    for name in objects {
        match name.as_slice() {
            [.., schema, _] => homes.push(database.schema_home(schema)),
            _ if creates => homes.push(database.schema_home(&created(name, names).schema)),
            _ if names.schemas().any(|it| database.schema_home(it).is_some()) => {
                return Err(ClientError::unsupported(
                    "a name without its schema is not supported here while search_path names a schema that is whole on a \
                     shard",
                    "Write schema.name.",
                ));
            }
            _ => homes.push(None),
        }
    }
    one_place(homes.into_iter())
}

/// All on one shard, or all everywhere.
fn one_place(homes: impl Iterator<Item = Option<ShardId>>) -> Result<Compiled, ClientError> {
    let mut place: Option<Option<ShardId>> = None;
    for home in homes {
        if place.is_some_and(|it| it != home) {
            return Err(ClientError::unsupported(
                "one statement about schemas that are placed differently is not supported",
                "Name them in one statement each.",
            ));
        }
        place = Some(home);
    }
    match place.flatten() {
        Some(home) => fixed(Plan::One(home), "its schema is there"),
        None => fixed(Plan::Everywhere, "the same on every shard"),
    }
}

fn create_table(
    table: &CreateTable,
    query: Option<&Query>,
    world: &World,
    names: &Names<'_>,
) -> Result<Compiled, ClientError> {
    if table.temporary {
        return match query {
            Some(_) => one_of_query(query, world, Around::One("CREATE TEMPORARY TABLE AS")),
            None => {
                let shard = world.view.temporary.as_ref().map_or(world.database.catalog, |(shard, _)| *shard);
                fixed(Plan::One(shard), "temporary")
            }
        };
    }
    let name = created(&table.name, names);
    let placement = world.database.placement(&name).ok_or_else(|| {
        ClientError::new(
            Code::TableNotMapped,
            format!("table \"{name}\" is not in the shard map"),
            "List it in the map first (in a group, under reference or under unsharded), then create it.",
        )
    })?;
    if query.is_some() {
        return Err(ClientError::unsupported(
            "CREATE TABLE AS is not supported",
            "Create the table, then insert into it.",
        ));
    }
    for parent in &table.parents {
        let same = match names.find(parent) {
            Relation::Known(relation) => same_kind(world.database.placement(&relation.name).as_ref(), &placement),
            Relation::Missing(parent) => same_kind(world.database.placement(&parent).as_ref(), &placement),
            Relation::Temporary(_) | Relation::System(_) => false,
        };
        if !same {
            return Err(ClientError::unsupported(
                format!("table \"{name}\" and its parent are placed differently"),
                "Place a partition as its table is placed.",
            ));
        }
    }
    let key = match &placement {
        Placement::Sharded { key, .. } => Some(key.clone()),
        Placement::Reference | Placement::Unsharded { .. } => None,
    };
    constraints(&table.constraints, &name, key.as_ref(), world, names)?;
    match placement {
        Placement::Unsharded { home } => fixed(Plan::One(home), format!("{name} is unsharded")),
        Placement::Sharded { .. } | Placement::Reference => {
            fixed(Plan::Everywhere, format!("{name} is on every shard"))
        }
    }
}

fn same_kind(a: Option<&Placement>, b: &Placement) -> bool {
    match (a, b) {
        (Some(Placement::Sharded { group: x, key: k }), Placement::Sharded { group: y, key: l }) => x == y && k == l,
        (Some(a), b) => a == b,
        (None, _) => false,
    }
}

/// Refuses what would give copies of a reference table different values, or move the key of rows from where they are.
fn same_everywhere(table: &[Arc<str>], changes: &Changes, world: &World, names: &Names<'_>) -> Result<(), ClientError> {
    let key = sharded(table, world, names).map(|(_, key)| key);
    let copied = match names.find(table) {
        Relation::Known(relation) => world.database.placement(&relation.name) == Some(Placement::Reference),
        _ => false,
    };
    if let Some(key) = key.as_ref().filter(|key| changes.columns.contains(key)) {
        return Err(another_key(key));
    }
    let what = match &changes.chance {
        _ if key.is_none() && !copied => return Ok(()),
        _ if changes.time => "a value that asks for the time".to_owned(),
        _ if changes.numbers => "numbers".to_owned(),
        Some(function) if copied => format!("a value of function {function}"),
        _ => return Ok(()),
    };
    Err(ClientError::unsupported(
        format!("ALTER TABLE that fills rows with {what} is not supported: it would be another on every shard"),
        "Add the column without it, ALTER COLUMN … SET DEFAULT, and UPDATE the rows.",
    ))
}

/// What refuses to make a shard key another.
pub(super) fn another_key(key: &str) -> ClientError {
    ClientError::unsupported(
        format!("adding, dropping, renaming or computing anew the shard key \"{key}\" is not supported"),
        "Make another table, list it in the map, and copy the rows.",
    )
}

fn without_key(name: &TableName, key: &str) -> ClientError {
    ClientError::unsupported(
        format!(
            "a unique constraint on \"{name}\" without the shard key is not supported: it would hold within a shard only"
        ),
        format!("Add \"{key}\" to its columns."),
    )
}

/// Checks what a table promises: that a shard alone can keep it.
pub(super) fn constraints(
    found: &Constraints,
    name: &TableName,
    key: Option<&Arc<str>>,
    world: &World,
    names: &Names<'_>,
) -> Result<(), ClientError> {
    if let Some(key) = key {
        if found.unique.iter().any(|columns| !columns.iter().any(|it| world.is_same_column(it, key))) {
            return Err(without_key(name, key));
        }
        if found.exclude {
            return Err(ClientError::unsupported(
                format!("an exclusion constraint on sharded table \"{name}\" is not supported"),
                "It would hold within a shard only.",
            ));
        }
    }
    let own = world.database.placement(name);
    for Foreign { columns, table: other, referenced: theirs } in &found.foreign {
        let other = match names.find(other) {
            Relation::Known(relation) => relation.name.clone(),
            Relation::Missing(name) => name,
            Relation::Temporary(_) | Relation::System(_) => continue,
        };
        let fits = match (&own, world.database.placement(&other)) {
            (Some(Placement::Unsharded { home }), Some(Placement::Unsharded { home: theirs })) => *home == theirs,
            (Some(Placement::Unsharded { .. }), Some(Placement::Reference)) => true,
            (Some(Placement::Reference), Some(Placement::Reference)) => true,
            (Some(Placement::Sharded { .. }), Some(Placement::Reference)) => true,
            (
                Some(Placement::Sharded { group, key }),
                Some(Placement::Sharded { group: their_group, key: their_key }),
            ) => {
                let place = columns.iter().position(|it| world.is_same_column(it, key));
                let matched = match (place, theirs.is_empty()) {
                    (Some(place), false) => theirs.get(place).is_some_and(|it| world.is_same_column(it, &their_key)),
                    // The other table's primary key: of one column, or known from the schema.
                    (Some(place), true) => primary_key(&other, names)
                        .map_or(columns.len() == 1, |keys| keys.get(place) == Some(&their_key)),
                    (None, _) => false,
                };
                *group == their_group && matched
            }
            _ => false,
        };
        if !fits {
            return Err(ClientError::unsupported(
                format!("a foreign key from \"{name}\" to \"{other}\" leaves its shard"),
                "Refer to a table of the same group by the shard key, or to a reference table.",
            ));
        }
    }
    Ok(())
}

fn primary_key(name: &TableName, names: &Names<'_>) -> Option<Vec<Arc<str>>> {
    let relation = names.schema.relation(name)?;
    let places = relation.primary_key.as_ref()?;
    places.iter().map(|place| relation.columns.get(*place).map(|it| it.name.clone())).collect()
}

/// The sharded table of that name, and its key.
fn sharded(parts: &[Arc<str>], world: &World, names: &Names<'_>) -> Option<(TableName, Arc<str>)> {
    let name = match names.find(parts) {
        Relation::Known(relation) => relation.name.clone(),
        Relation::Missing(name) => name,
        Relation::Temporary(_) | Relation::System(_) => return None,
    };
    match world.database.placement(&name)? {
        Placement::Sharded { key, .. } => Some((name, key)),
        Placement::Reference | Placement::Unsharded { .. } => None,
    }
}

fn place(parts: &[Arc<str>], world: &World, names: &Names<'_>, missing_ok: bool) -> Result<Place, ClientError> {
    let name = match names.find(parts) {
        Relation::Temporary(_) => return Ok(Place::Temporary),
        Relation::System(_) => return Ok(Place::Everywhere),
        Relation::Missing(name) => name,
        Relation::Known(relation) => {
            if let Some(home) = world.database.schema_home(&relation.name.schema) {
                return Ok(Place::Home(home));
            }
            if world.database.tables.contains_key(&relation.name) {
                relation.name.clone()
            } else if matches!(relation.kind, RelationKind::View | RelationKind::Sequence) {
                return view_place(&relation, world);
            } else if let Some(parent) = relation.parents.iter().find(|it| world.database.tables.contains_key(*it)) {
                // A partition of a mapped table stands wherever that stands.
                parent.clone()
            } else {
                relation.name.clone()
            }
        }
    };
    match world.database.placement(&name) {
        Some(Placement::Unsharded { home }) => Ok(Place::Home(home)),
        Some(Placement::Sharded { .. } | Placement::Reference) => Ok(Place::Everywhere),
        None if missing_ok => match index_home(&name, world) {
            Some(home) => Ok(Place::Home(home)),
            None if names.schema.relation(&name).is_some() => Err(not_mapped(&name)),
            None => Ok(Place::Everywhere),
        },
        None => Err(not_mapped(&name)),
    }
}

/// A view stands where the tables that it shows stand.
fn view_place(relation: &crate::schema::Relation, world: &World) -> Result<Place, ClientError> {
    let Some(definition) = &relation.definition else { return Ok(Place::Everywhere) };
    let names = Names::new(&world.schema, "", "", &[], &world.database.safe_functions);
    let Ok(query) = crate::sql::view_query(definition, names) else { return Ok(Place::Everywhere) };
    Ok(homes(&query, world)?.map_or(Place::Everywhere, Place::Home))
}

/// Where an index of that name stands, when it is a unique index of an unsharded table.
fn index_home(name: &TableName, world: &World) -> Option<ShardId> {
    world
        .schema
        .relations
        .values()
        .filter(|it| it.name.schema == name.schema && it.unique.iter().any(|index| index.name == name.name))
        .find_map(|it| match world.database.placement(&it.name) {
            Some(Placement::Unsharded { home }) => Some(home),
            _ => None,
        })
}

fn about(
    tables: &[Vec<Arc<str>>],
    world: &World,
    names: &Names<'_>,
    missing_ok: bool,
) -> Result<Compiled, ClientError> {
    let mut home: Option<ShardId> = None;
    let mut everywhere = false;
    let mut temporary = false;
    for table in tables {
        match place(table, world, names, missing_ok)? {
            Place::Everywhere => everywhere = true,
            Place::Temporary => temporary = true,
            Place::Home(shard) => match home {
                Some(other) if other != shard => everywhere = true,
                _ => home = Some(shard),
            },
        }
    }
    match (home, everywhere, temporary) {
        (Some(home), false, false) => fixed(Plan::One(home), "unsharded"),
        (None, _, false) => fixed(Plan::Everywhere, "on every shard"),
        (None, false, true) => {
            let shard = world.view.temporary.as_ref().map_or(world.database.catalog, |(shard, _)| *shard);
            let route = Route::Fixed(Plan::One(shard), "temporary".to_owned());
            Ok(Compiled { temporary: true, ..Compiled::of(route) })
        }
        _ => Err(ClientError::unsupported(
            "one statement about tables that are placed differently is not supported",
            "Name them in one statement each.",
        )),
    }
}

/// For statements that every shard carries out on its own part, as one transaction.
fn each(tables: &[Vec<Arc<str>>], in_turn: bool, world: &World, names: &Names<'_>) -> Result<Compiled, ClientError> {
    let compiled = about(tables, world, names, false)?;
    let Route::Fixed(Plan::Everywhere, _) = compiled.route else { return Ok(compiled) };
    let is_copied = |table: &Vec<Arc<str>>| match names.find(table) {
        Relation::Known(relation) => world.database.placement(&relation.name) == Some(Placement::Reference),
        _ => false,
    };
    let splitting = Splitting::whole(false, in_turn && tables.iter().any(is_copied));
    Ok(Compiled::of(Route::Copies(Box::new(splitting))))
}

/// For statements that only one shard can carry out.
fn home(
    tables: &[Vec<Arc<str>>],
    world: &World,
    names: &Names<'_>,
    what: &str,
    hint: &str,
) -> Result<Compiled, ClientError> {
    match about(tables, world, names, false)? {
        compiled @ Compiled { route: Route::Fixed(Plan::One(_), _), .. } => Ok(compiled),
        _ => Err(ClientError::unsupported(format!("{what} is not supported"), hint)),
    }
}
