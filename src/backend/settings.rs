//! Settings as a session wants them, or as a server connection has them.

use std::sync::Arc;

/// Session-level settings that differ from what a new connection has, sorted by name. Immutable and shared, so that
/// "nothing differs" is one pointer comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings(Vec<(Arc<str>, Arc<str>)>);

/// How the names of the proxy's own settings begin.
pub const OWN: &str = "shardway.";

/// The value of a setting of which it is not known what a connection has: no value of a server holds a zero byte.
pub const UNKNOWN: &str = "\0";

/// How the names of settings begin that count from the next transaction on.
const DEFAULTS: &str = "default_transaction_";

/// What must be said to a connection to bring it from one set of settings to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Set to this value.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Back to the connection's own default.
    pub reset: Vec<Arc<str>>,
}

thread_local! {
    static NONE: Arc<Settings> = Arc::default();
}

impl Settings {
    /// None at all: the same `Arc` whenever one thread asks, so that "nothing differs" is seen by its address.
    #[must_use]
    pub fn none() -> Arc<Self> {
        NONE.with(Arc::clone)
    }

    /// The value of one.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Arc<str>> {
        let place = self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    /// The same with one more or another value.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut all = self.0.clone();
        match all.binary_search_by(|(n, _)| (**n).cmp(name)) {
            Ok(place) => {
                if let Some(entry) = all.get_mut(place) {
                    entry.1 = value.into();
                }
            }
            Err(place) => all.insert(place, (name.into(), value.into())),
        }
        Self(all)
    }

    /// The same without one.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|(n, _)| &**n != name).cloned().collect())
    }

    /// The same after `difference` has been said.
    #[must_use]
    pub fn changed_by(&self, difference: &Difference) -> Self {
        let set = difference.set.iter().fold(self.clone(), |all, (name, value)| all.with(name, value));
        difference.reset.iter().fold(set, |all, name| all.without(name))
    }

    /// In order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What turns `self` into `wanted`. The proxy's own settings (`shardway.…`) are no server's affair.
    #[must_use]
    pub fn difference(&self, wanted: &Self) -> Difference {
        let mut difference = Difference::default();
        for (name, value) in wanted.iter() {
            if !name.starts_with(OWN) && self.value(name) != Some(value) {
                difference.set.push((Arc::clone(name), Arc::clone(value)));
            }
        }
        for (name, _) in self.iter() {
            if !name.starts_with(OWN) && wanted.value(name).is_none() {
                difference.reset.push(Arc::clone(name));
            }
        }
        // A role is set after everything else: with it, rights to set the others may be gone.
        difference.set.sort_by_key(|(name, _)| &**name == "role");
        difference
    }
}

impl Difference {
    /// Takes out what counts from the next transaction on only (`default_transaction_…`): it must be said and done
    /// before the transaction that it is for begins.
    #[must_use]
    pub fn take_defaults(&mut self) -> Self {
        let (of_transactions, set) = self.set.drain(..).partition(|(name, _)| name.starts_with(DEFAULTS));
        let (resets, reset) = self.reset.drain(..).partition(|name| name.starts_with(DEFAULTS));
        *self = Self { set, reset };
        Self { set: of_transactions, reset: resets }
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.reset.is_empty()
    }

    /// The statements to say it with, each without a semicolon; resets first.
    #[must_use]
    pub fn statements(&self) -> Vec<String> {
        self.said(false)
    }

    /// The same, until the end of the transaction only (nothing is reset then).
    #[must_use]
    pub fn local_statements(&self) -> Vec<String> {
        self.said(true)
    }

    fn said(&self, local: bool) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for name in self.reset.iter().filter(|_| !local) {
            all.push(format!("RESET {}", dotted(name)));
        }
        if !self.set.is_empty() {
            let calls: Vec<String> = self
                .set
                .iter()
                .map(|(name, value)| format!("pg_catalog.set_config({}, {}, {local})", literal(name), literal(value)))
                .collect();
            all.push(format!("SELECT {}", calls.join(", ")));
        }
        all
    }
}

/// A string constant that means `text` whatever the session's settings are.
#[must_use]
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') { format!(" E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

/// An identifier, quoted.
#[must_use]
pub fn identifier(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A setting's name, each part quoted.
#[must_use]
pub fn dotted(name: &str) -> String {
    name.split('.').map(identifier).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_sets_what_is_wanted_and_resets_the_rest() {
        let have = Settings::default().with("datestyle", "ISO, MDY").with("role", "a");
        let want = Settings::default().with("role", "b").with("work_mem", "1MB");
        let difference = have.difference(&want);
        assert_eq!(
            difference.statements(),
            [
                "RESET \"datestyle\"",
                "SELECT pg_catalog.set_config('work_mem', '1MB', false), pg_catalog.set_config('role', 'b', false)"
            ]
        );
        assert!(want.difference(&want).is_empty());
    }

    #[test]
    fn what_counts_for_whole_transactions_is_said_apart() {
        let have = Settings::default().with("default_transaction_isolation", "serializable").with("a.b", "c");
        let want = Settings::default().with("default_transaction_read_only", "on").with("work_mem", "1MB");
        let mut rest = have.difference(&want);
        let first = rest.take_defaults();
        assert_eq!(
            first.statements(),
            [
                "RESET \"default_transaction_isolation\"",
                "SELECT pg_catalog.set_config('default_transaction_read_only', 'on', false)"
            ]
        );
        assert_eq!(rest.statements(), ["RESET \"a\".\"b\"", "SELECT pg_catalog.set_config('work_mem', '1MB', false)"]);
        assert_eq!(have.changed_by(&first).changed_by(&rest), want);
    }

    #[test]
    fn a_quote_or_backslash_in_a_value_stays_a_value() {
        assert_eq!(literal("a'b"), "'a''b'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
    }
}
