//! What shardway keeps on MySQL and MariaDB servers: all of it in a database `shardway`, made by `check --connect --prepare`.
//!
//! One place for its SQL, so that whoever reads a table and whoever makes it agree.

/// What `shardway check --connect --prepare` runs on every shard. All of it may be run again.
///
/// `cluster` has one row: the cluster that the shard belongs to, and what tells this server and its copies from those of
/// all other shards. `txlog` tells how transactions over several shards ended (`two_phase`), `placement` where rows were put.
pub const SETUP: &[&str] = &[
    "CREATE DATABASE IF NOT EXISTS shardway",
    "CREATE TABLE IF NOT EXISTS shardway.cluster (
    id     char(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    server char(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS shardway.txlog (
    gid      varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    decision varchar(6)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    parts    text        CHARACTER SET ascii COLLATE ascii_bin,
    asked    int unsigned NOT NULL DEFAULT 0,
    at       timestamp(6) NOT NULL DEFAULT current_timestamp(6),
    KEY (at)) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS shardway.placement (
    db          varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    grp         varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    fingerprint mediumtext   CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    recorded    timestamp(6) NOT NULL DEFAULT current_timestamp(6),
    PRIMARY KEY (db, grp)) ENGINE = InnoDB",
];

/// How the groups of a database have been placed; the database's name is to follow.
pub(super) const RECORDED: &str = "SELECT grp, fingerprint FROM shardway.placement WHERE db =";

/// Records a group for the first time: database, group and fingerprint are to follow.
pub(super) const RECORD: &str = "INSERT IGNORE INTO shardway.placement (db, grp, fingerprint) VALUES";

/// What every account that clients' statements run as has to be granted: the decision is noted in their transactions.
pub const GRANTED: &str = "GRANT INSERT ON shardway.txlog TO";

/// The cluster and the server's own name.
pub(super) const CLUSTER: &str = "SELECT id, server FROM shardway.cluster ORDER BY id LIMIT 1";

/// Whether the log can be read: an error where there is none, or where it may not be looked at.
pub(super) const LOG: &str = "SELECT gid FROM shardway.txlog LIMIT 0";
