//! Mistakes that proxies of this kind are known to make, made on purpose: the tests must notice each of them.
//!
//! Only builds with the feature `mistakes` can make any: there `SHARDWAY_MISTAKE` names the one to make. In all
//! others [`makes`] is a constant.

/// Their names, as `docs/testing.md` explains them.
pub const ALL: [&str; 22] = [
    "limit-per-shard",
    "offset-twice",
    "limit-without-offset",
    "ties-cut",
    "nulls-order-ignored",
    "descending-ignored",
    "first-key-only",
    "text-by-bytes",
    "average-of-averages",
    "average-of-integers",
    "counts-counted",
    "distinct-counts-added",
    "distinct-per-shard",
    "filter-ignored",
    "groups-per-shard",
    "having-per-shard",
    "having-ignored",
    "key-found-in-or",
    "key-found-in-not",
    "any-join-is-local",
    "subquery-per-shard",
    "shard-forgotten",
];

/// Whether that mistake is to be made.
#[cfg(feature = "mistakes")]
#[must_use]
pub fn makes(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    debug_assert!(ALL.contains(&name), "{name} is in the list");
    CHOSEN.get_or_init(|| std::env::var("SHARDWAY_MISTAKE").ok()).as_deref() == Some(name)
}

/// Whether that mistake is to be made: none is.
#[cfg(not(feature = "mistakes"))]
#[must_use]
#[inline(always)]
pub const fn makes(_name: &str) -> bool {
    false
}
