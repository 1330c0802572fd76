//! Which of MySQL's and MariaDB's own functions are what, by reviewed lists.
//!
//! They were gone through by hand after the manuals' lists of built-in functions. What stands in none of them (stored
//! functions, what reads files, tables of other engines or sequences) is not called on part of the data.

use std::collections::HashMap;
use std::sync::OnceLock;

/// What a built-in function is to a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Its answer depends on its arguments and the session's settings only.
    Pure,
    /// The same, over many rows.
    Aggregate,
    /// It looks at rows around; nothing but OVER may follow.
    Window,
    /// The statement's time.
    Now,
    /// Another answer each time, or from server to server, without effect.
    Volatile,
    /// What the session is or has done.
    Session,
    /// Asks what a server is or knows.
    Place,
    /// Takes a lock that stays.
    Lock,
    /// Gives one back.
    Unlock,
}

const PURE: &str = include_str!("mysql_pure.txt");
const AGGREGATES: &str = include_str!("mysql_aggregates.txt");
const WINDOWS: &str = include_str!("mysql_windows.txt");
const NOW: &str = include_str!("mysql_now.txt");
const VOLATILE: &str = include_str!("mysql_volatile.txt");
const SESSION: &str = include_str!("mysql_session.txt");
const PLACE: &str = include_str!("mysql_place.txt");

/// The class of a function of the server's own, by its name in lower case; `None`: not reviewed, or there is none.
pub(crate) fn class(name: &str) -> Option<Class> {
    static CLASSES: OnceLock<HashMap<&'static str, Class>> = OnceLock::new();
    let classes = CLASSES.get_or_init(|| {
        let mut map = HashMap::new();
        for (list, class) in [
            (PURE, Class::Pure),
            (AGGREGATES, Class::Aggregate),
            (WINDOWS, Class::Window),
            (NOW, Class::Now),
            (VOLATILE, Class::Volatile),
            (SESSION, Class::Session),
            (PLACE, Class::Place),
            ("get_lock", Class::Lock),
            ("release_lock\nrelease_all_locks", Class::Unlock),
        ] {
            map.extend(list.lines().map(|name| (name, class)));
        }
        map
    });
    classes.get(name).copied()
}

/// Whether the word without parentheses is a call, and never a column.
pub(crate) fn is_called_bare(word: &str) -> bool {
    const BARE: [&str; 10] = [
        "current_date",
        "current_role",
        "current_time",
        "current_timestamp",
        "current_user",
        "localtime",
        "localtimestamp",
        "utc_date",
        "utc_time",
        "utc_timestamp",
    ];
    BARE.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_do_not_overlap() {
        let lists = [PURE, AGGREGATES, WINDOWS, NOW, VOLATILE, SESSION, PLACE];
        for list in lists {
            let names: Vec<&str> = list.lines().collect();
            assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
        }
        let all: Vec<&str> = lists.iter().flat_map(|it| it.lines()).collect();
        let distinct: std::collections::BTreeSet<&&str> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn what_reaches_beyond_its_arguments_is_on_no_harmless_list() {
        for name in ["load_file", "nextval", "lastval", "setval", "master_pos_wait", "master_gtid_wait", "f"] {
            assert_eq!(class(name), None, "{name}");
        }
        assert_eq!(class("rand"), Some(Class::Volatile));
        assert_eq!(class("last_insert_id"), Some(Class::Session));
        assert_eq!(class("get_lock"), Some(Class::Lock));
        assert_eq!(class("release_all_locks"), Some(Class::Unlock));
    }
}
