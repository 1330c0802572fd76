//! Whether sequences of the map are ahead of the rows that they number: one that is not would hand out numbers again.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::connect_check::primary;
use super::control;
use super::control::Control;
use super::control::ControlError;
use super::control::Purpose;
use super::fit::Finding;
use super::fit::Severity;
use crate::ident::ShardId;
use crate::ident::TableName;
use crate::schema::RelationKind;
use crate::schema::Schema;
use crate::shard_map::Database;

/// A column that a sequence of the map numbers.
struct Numbered<'a> {
    sequence: &'a TableName,
    table: &'a TableName,
    column: &'a str,
}

/// Types whose greatest value can be compared with a number: integers.
const INTEGERS: [u32; 3] = [20, 21, 23];

/// Compares each sequence with the greatest number in its columns, over all shards. What cannot be asked is not found here.
pub(super) async fn behind(database: &Database, control: &Control, schemas: &[Option<&Schema>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(schema) = schemas.get(database.catalog.index()).copied().flatten() else { return findings };
    let tables = schema.relations.values().filter(|it| {
        matches!(it.kind, RelationKind::Table | RelationKind::Partitioned)
            && it.parents.is_empty()
            && database.placement(&it.name).is_some()
    });
    let mut numbered: Vec<Numbered<'_>> = tables
        .flat_map(|relation| relation.columns.iter().map(move |column| (relation, column)))
        .filter(|(_, column)| INTEGERS.contains(&column.type_oid))
        .filter_map(|(relation, column)| {
            let sequence = column.sequence.as_ref().filter(|it| database.sequences.contains_key(*it))?;
            Some(Numbered { sequence, table: &relation.name, column: &column.name })
        })
        .collect();
    numbered.sort_by_key(|it| (it.sequence, it.table));
    if numbered.is_empty() || database.shards.len() == 1 {
        return findings;
    }
    let mut connections: Vec<Option<PgConnection>> = Vec::new();
    for place in (0_u16..).take(database.shards.len()) {
        // Who does not answer has been told of.
        connections.push(primary(database, control, ShardId(place), Purpose::Check).await.ok());
    }
    for it in numbered {
        let Some(sequence) = database.sequences.get(it.sequence) else { continue };
        let counted = match connections.get_mut(sequence.shard.index()) {
            Some(Some(connection)) => last_of(connection, it.sequence).await.ok().flatten(),
            _ => None,
        };
        let Some(counted) = counted else { continue };
        let mut greatest = None;
        for connection in connections.iter_mut().flatten() {
            greatest = greatest.max(greatest_of(connection, &it).await.ok().flatten());
        }
        if let Some(greatest) = greatest.filter(|it| *it > counted) {
            findings.push(Finding::new(
                Severity::Warning,
                "sequence-behind",
                format!(
                    "sequence \"{}\" has come to {counted}, and \"{}\" of table \"{}\" to {greatest}",
                    it.sequence, it.column, it.table
                ),
                format!("SELECT setval('{}', {greatest}) through the proxy, or numbers come again.", it.sequence),
            ));
        }
    }
    findings
}

/// The number that an ascending sequence has come to; `None`: it descends, or may not be read.
async fn last_of(connection: &mut PgConnection, name: &TableName) -> Result<Option<i64>, ControlError> {
    let asked = sqlx::query_scalar::<_, i64>(LAST).bind(&*name.schema).bind(&*name.name);
    control::bounded(asked.fetch_optional(connection)).await
}

async fn greatest_of(connection: &mut PgConnection, it: &Numbered<'_>) -> Result<Option<i64>, ControlError> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let (schema, table, column) = (quoted(&it.table.schema), quoted(&it.table.name), quoted(it.column));
    let text = format!("select max({column})::int8 from {schema}.{table}");
    control::bounded(sqlx::query_scalar::<_, Option<i64>>(AssertSqlSafe(text)).fetch_one(connection)).await
}

const LAST: &str = "
select coalesce(s.last_value, s.start_value - s.increment_by)::int8
  from pg_catalog.pg_sequences s
 where s.schemaname::text = $1 and s.sequencename::text = $2 and s.increment_by > 0
   and has_sequence_privilege(quote_ident(s.schemaname) || '.' || quote_ident(s.sequencename), 'SELECT, USAGE')";
