//! Which of Postgres's own functions are what, by reviewed lists.
//!
//! The lists were taken from `pg_proc` of PostgreSQL 15 (and what 16 to 18 added) and gone through by hand. What
//! stands in none of them is not called on part of the data.

pub(crate) mod mysql;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;

/// What a built-in function is to a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Its answer depends on its arguments and the session's settings only.
    Pure,
    /// The same, over many rows.
    Aggregate,
    /// now() and its family: one value per transaction.
    Now,
    /// Volatile or different from server to server, and without effect.
    Harmless,
    /// Different from server to server, without effect, and asked for that very reason.
    Place,
    /// Looks at the catalogs, or at what a server does: the catalog shard's primary.
    Catalog,
    /// Takes a session advisory lock.
    AdvisoryLock,
    /// Gives one back.
    AdvisoryUnlock,
    /// Acts in the transaction, on the catalog shard's primary.
    Acts,
    /// Only shows or takes a transaction id: the primary.
    TransactionId,
    /// `set_config`
    SetConfig,
    /// Draws from a sequence.
    Sequence,
    /// Never: it reads relations, runs SQL, touches files or other sessions.
    Dangerous,
}

const PURE: &str = include_str!("pure.txt");
const NOW: &str = include_str!("now.txt");
const HARMLESS: &str = include_str!("harmless.txt");
const CATALOG: &str = include_str!("catalog.txt");
const AGGREGATES: &str = include_str!("aggregates.txt");

/// The class of a function of `pg_catalog` (or of the grammar's own); `None`: not reviewed, or there is none.
pub(crate) fn class(name: &str) -> Option<Class> {
    static CLASSES: OnceLock<HashMap<&'static str, Class>> = OnceLock::new();
    let classes = CLASSES.get_or_init(|| {
        let mut map = HashMap::new();
        for (list, class) in [
            (PURE, Class::Pure),
            (AGGREGATES, Class::Aggregate),
            (NOW, Class::Now),
            (HARMLESS, Class::Harmless),
            (CATALOG, Class::Catalog),
        ] {
            map.extend(list.lines().map(|name| (name, class)));
        }
        for (names, class) in [
            (&["inet_server_addr", "inet_server_port", "pg_is_in_recovery"][..], Class::Place),
            (
                &["pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared"],
                Class::AdvisoryLock,
            ),
            (&["pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all"], Class::AdvisoryUnlock),
            (
                &[
                    "pg_advisory_xact_lock",
                    "pg_advisory_xact_lock_shared",
                    "pg_try_advisory_xact_lock",
                    "pg_try_advisory_xact_lock_shared",
                    "pg_notify",
                ],
                Class::Acts,
            ),
            (&["txid_current", "pg_current_xact_id"], Class::TransactionId),
            (&["set_config"], Class::SetConfig),
            (&["nextval", "currval", "lastval", "setval"], Class::Sequence),
            (
                &[
                    "query_to_xml",
                    "query_to_xmlschema",
                    "query_to_xml_and_xmlschema",
                    "table_to_xml",
                    "table_to_xmlschema",
                    "table_to_xml_and_xmlschema",
                    "schema_to_xml",
                    "schema_to_xmlschema",
                    "schema_to_xml_and_xmlschema",
                    "database_to_xml",
                    "database_to_xmlschema",
                    "database_to_xml_and_xmlschema",
                    "cursor_to_xml",
                    "cursor_to_xmlschema",
                    "ts_stat",
                    "ts_rewrite",
                    "pg_terminate_backend",
                    "pg_cancel_backend",
                    "pg_export_snapshot",
                    "setseed",
                ],
                Class::Dangerous,
            ),
        ] {
            map.extend(names.iter().map(|name| (*name, class)));
        }
        map
    });
    classes.get(name).copied()
}

/// What a function of `pg_catalog` begins with that touches files, other sessions or the server itself, or runs SQL.
const BEYOND_CATALOGS: &[&str] = &[
    "binary_upgrade_",
    "brin_desummarize",
    "brin_summarize",
    "currtid",
    "gin_clean",
    "lo_",
    "loread",
    "lowrite",
    "pg_advisory",
    "pg_backup_",
    "pg_clear_",
    "pg_copy_",
    "pg_create_",
    "pg_drop_",
    "pg_export",
    "pg_file_",
    "pg_import_",
    "pg_log_",
    "pg_logical_",
    "pg_ls_",
    "pg_nextoid",
    "pg_promote",
    "pg_read_",
    "pg_reload",
    "pg_replication_",
    "pg_restore_",
    "pg_rotate",
    "pg_set_",
    "pg_start_",
    "pg_stat_file",
    "pg_stat_force",
    "pg_stat_reset",
    "pg_stop_",
    "pg_switch_",
    "pg_sync_",
    "pg_wal_replay_",
];

/// Whether an unlisted function is Postgres's own and may be called by a statement that reads only catalogs: such a
/// statement goes whole to the catalog shard. A bare name counts when it begins as only Postgres's own do; another could
/// be a user's that was made a moment ago.
pub(crate) fn is_catalog(parts: &[Arc<str>]) -> bool {
    let name = match parts {
        [schema, name] if &**schema == "pg_catalog" => name,
        [name] if name.starts_with("pg_") => name,
        _ => return false,
    };
    !BEYOND_CATALOGS.iter().any(|it| name.starts_with(it))
}

/// Whether a volatile function says another thing each time that it is asked, wherever that is.
pub(crate) fn says_another_each_time(name: &str) -> bool {
    matches!(
        name,
        "clock_timestamp" | "gen_random_uuid" | "random" | "random_normal" | "timeofday" | "uuidv4" | "uuidv7"
    )
}

/// Whether an answer may depend on the numbers that a server has given to types and other objects.
pub(crate) fn depends_on_numbers(name: &str) -> bool {
    name == "pg_typeof"
        || ["hashenum", "hash_record", "hash_array", "hash_range", "hash_multirange"]
            .iter()
            .any(|it| name.starts_with(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlisted_functions_are_for_catalogs_unless_they_reach_beyond() {
        let is_catalog = |name: &str| is_catalog(&name.split('.').map(Arc::from).collect::<Vec<_>>());
        for name in ["pg_relation_is_publishable", "pg_catalog.pg_sequence_last_value", "pg_catalog.amvalidate"] {
            assert!(is_catalog(name), "{name}");
        }
        for name in ["pg_read_file", "pg_catalog.lo_get", "pg_reload_conf", "peek", "public.pg_peek", "dblink"] {
            assert!(!is_catalog(name), "{name}");
        }
    }

    #[test]
    fn dangerous_functions_are_on_no_harmless_list() {
        for name in ["query_to_xml", "ts_stat", "pg_terminate_backend", "setseed"] {
            assert_eq!(class(name), Some(Class::Dangerous), "{name}");
        }
        for name in ["lo_get", "pg_read_file", "pg_ls_dir", "dblink", "loread", "pg_reload_conf", "pg_promote"] {
            assert_eq!(class(name), None, "{name}");
        }
        assert_eq!(class("lower"), Some(Class::Pure));
        assert_eq!(class("count"), Some(Class::Aggregate));
        assert_eq!(class("random"), Some(Class::Harmless));
        assert_eq!(class("pg_is_in_recovery"), Some(Class::Place));
    }

    #[test]
    fn lists_are_sorted_and_overlap_only_as_meant() {
        for list in [PURE, NOW, HARMLESS, CATALOG, AGGREGATES] {
            let names: Vec<&str> = list.lines().collect();
            assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", names.windows(2).find(|p| p[0] >= p[1]));
        }
        let pure: std::collections::BTreeSet<&str> = PURE.lines().collect();
        for name in NOW.lines().chain(HARMLESS.lines()).chain(CATALOG.lines()) {
            assert!(!pure.contains(name), "{name}");
        }
    }
}
