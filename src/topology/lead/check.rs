//! `check --connect`: whether shardway could lead the failovers that the map says it leads, and what would be lost.

use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::Lead;
use super::View;
use super::carry;
use crate::shard_map::Database;
use crate::shard_map::Shard;
use crate::topology::control;
use crate::topology::control::Control;
use crate::topology::control::ControlError;
use crate::topology::control::Purpose;
use crate::topology::fit::Finding;
use crate::topology::fit::Severity;

/// Looks at the servers of every shard that has replicas.
pub(in crate::topology) async fn findings(database: &Database, control: &Control) -> Vec<Finding> {
    let mut findings = Vec::new();
    for shard in database.shards.iter().filter(|it| it.nodes.len() > 1) {
        let mut views = Vec::new();
        for node in &shard.nodes {
            let seen = async {
                let mut line = control.connect(node, Purpose::Check).await?;
                let view = carry::view(&mut line).await?;
                Ok::<_, ControlError>((view, rights(&mut line).await?))
            };
            // That it does not answer has been told.
            let Ok((view, rights)) = seen.await else {
                views.push(None);
                continue;
            };
            let at = format!("node \"{}\" of shard \"{}\"", node.name, shard.name);
            if !rights.promotes {
                findings.push(Finding::new(
                    Severity::Error,
                    "lead-rights",
                    format!("\"{}\" may not promote {at}", control.user()),
                    "Let a superuser be the control user, or grant it what docs/operations.md lists under \"When shardway \
                     promotes\" (Postgres 15 and later).",
                ));
            }
            if !view.in_recovery && rights.lax {
                findings.push(Finding::new(
                    Severity::Warning,
                    "lead-lax-commits",
                    format!("{at} acknowledges commits before standbys have them on disk, unless a session says otherwise"),
                    "Set synchronous_commit to on or remote_apply: what is acknowledged sooner may be lost in a failover.",
                ));
            }
            if let Some(why) = view.unfit {
                findings.push(Finding::new(
                    Severity::Warning,
                    "lead-unfit",
                    format!("{at} cannot take part in a failover: {why}"),
                    "docs/operations.md says under \"When shardway promotes\" what it needs.",
                ));
            }
            views.push(Some(view));
        }
        findings.extend(outlook(database, shard, &views));
    }
    findings
}

fn outlook(database: &Database, shard: &Shard, views: &[Option<View>]) -> Option<Finding> {
    let primary = views.iter().position(|it| it.as_ref().is_some_and(|it| !it.in_recovery))?;
    let mut lead = Lead::new(shard.nodes.iter().map(|it| it.name.clone()).collect());
    match lead.outlook(primary, views) {
        Err(why) => Some(Finding::new(
            Severity::Error,
            "lead-refused",
            format!("a failure of the primary of shard \"{}\" would not be led: {why}", shard.name),
            "Name the shard's replicas in synchronous_standby_names, each by the application_name in its primary_conninfo or \
             its cluster_name; or leave it empty.",
        )),
        Ok(0) => {
            let alone = if database.failover.fence.is_empty() {
                ", and nothing keeps clients that go past this proxy from writing to it"
            } else {
                ""
            };
            Some(Finding::new(
                Severity::Warning,
                "lead-may-lose",
                format!(
                    "commits of shard \"{}\" wait for no standby: what replicas have not received when its primary fails is \
                     lost{alone}",
                    shard.name
                ),
                "Set synchronous_standby_names on the primary. Without it, give `failover.fence` a command that stops the \
                 machine.",
            ))
        }
        Ok(_) => None,
    }
}

struct Rights {
    promotes: bool,
    /// `synchronous_commit` lets commits go before standbys have them.
    lax: bool,
}

async fn rights(line: &mut PgConnection) -> Result<Rights, ControlError> {
    let row = control::bounded(sqlx::query(WHO).fetch_one(&mut *line)).await?;
    let read = |error: sqlx::Error| ControlError::from(&error);
    let (mut promotes, grants): (bool, bool) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
    if !promotes && grants {
        promotes = control::bounded(sqlx::query_scalar::<_, bool>(GRANTED).fetch_one(line)).await?;
    }
    Ok(Rights { promotes, lax: row.try_get(2).map_err(read)? })
}

const WHO: &str = "
select rolsuper, current_setting('server_version_num')::int4 >= 150000,
       current_setting('synchronous_commit') in ('off', 'local', 'remote_write')
  from pg_catalog.pg_roles where rolname = current_user";

const GRANTED: &str = "
select has_function_privilege('pg_promote(boolean, integer)', 'execute') and has_function_privilege('pg_reload_conf()', 'execute')
       and (select bool_and(has_parameter_privilege(name, 'alter system'))
              from unnest(array['primary_conninfo', 'recovery_end_command', 'synchronous_standby_names']) as name)";
