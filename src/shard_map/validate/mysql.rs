//! What a database of MySQL or MariaDB servers cannot have yet: told by name, rather than read and not heeded.

use super::super::file;
use super::super::file::Scheme;
use super::super::function::KeyType;
use super::super::mistake::Place;
use super::super::read::Named;
use super::Validator;
use super::not_built;

impl Validator<'_, '_> {
    /// Reports every key of `file` that only Postgres servers can follow so far.
    pub(super) fn not_for_mysql(&mut self, file: &file::Database) {
        let mut refuse = |place: Option<Place>, what: &str, hint: &str| {
            if let Some(place) = place {
                not_built(self.mistakes, place, &format!("{what} for MySQL"), hint);
            }
        };
        refuse(
            file.sequences.given().map(|named| named.place),
            "`sequences`",
            "Remove it: AUTO_INCREMENT is counted by the proxy.",
        );
        let shards = file.shards.given().map_or(0, |named| named.entries.len());
        for (name, group) in file.groups.given().into_iter().flat_map(Named::iter) {
            let scheme = group.scheme.given();
            let not_ready = |it: Scheme| matches!(it, Scheme::Directory | Scheme::Schema);
            if let Some(at) = scheme.filter(|at| not_ready(at.value)) {
                let word = if at.value == Scheme::Directory { "scheme directory" } else { "scheme schema" };
                not_built(self.mistakes, at.place, &format!("{word} for MySQL"), "Use scheme hash, range or list.");
            }
            if let Some(at) = group.key.given().filter(|at| at.value.0 == KeyType::TimestampTz) {
                let hint = "Choose a key of another type: one of bigint, int, smallint, text, uuid, date or bytea.";
                not_built(self.mistakes, at.place, "a key of type timestamptz for MySQL", hint);
            }
            let hashed = scheme.is_none_or(|at| at.value == Scheme::Hash);
            if hashed && group.placement.is_absent() && shards > 1 {
                self.mistakes.warning(
                    "map-placement-open",
                    name.place,
                    format!("where rows of group `{}` lie follows from the number of shards alone", name.value),
                    "MySQL servers keep a record of it only once they are prepared (check --connect --prepare): write \
                     `placement:`, or with another shard in the map rows would be looked for where they are not.",
                );
            }
        }
    }
}
