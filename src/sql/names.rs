//! Names → relations, functions and operators, as the server's search_path finds them.

use std::sync::Arc;

use crate::ident::TableName;
use crate::schema::Relation;
use crate::schema::RelationKind;
use crate::schema::Schema;

/// Everything that decides what a name means.
#[derive(Clone, Debug)]
pub struct Names<'a> {
    /// What exists.
    pub schema: &'a Schema,
    /// The session's temporary relations.
    pub temporary: &'a [Arc<str>],
    /// Functions that the map declares to read no tables.
    pub safe_functions: &'a [TableName],
    path: Vec<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Temporary,
    System,
    Schema(Arc<str>),
}

/// What a relation's name means.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    Temporary(Arc<str>),
    System(Arc<str>),
    Table(Arc<Relation>),
    /// Nothing of that name is known; the name that it would have.
    Missing(TableName),
}

impl<'a> Names<'a> {
    /// `search_path` as the server shows it, for a session whose current role is `role`.
    #[must_use]
    pub fn new(
        schema: &'a Schema,
        search_path: &str,
        role: &str,
        temporary: &'a [Arc<str>],
        safe_functions: &'a [TableName],
    ) -> Self {
        let mut path = Vec::new();
        for entry in split(search_path) {
            let place = match entry.as_str() {
                "pg_temp" => Place::Temporary,
                "pg_catalog" => Place::System,
                "$user" => Place::Schema(role.into()),
                other => Place::Schema(other.into()),
            };
            if let Place::Schema(name) = &place
                && !schema.namespaces.is_empty()
                && !schema.namespaces.contains(name)
                && &**name != "information_schema"
            {
                continue;
            }
            if !path.contains(&place) {
                path.push(place);
            }
        }
        if !path.contains(&Place::System) {
            path.insert(0, Place::System);
        }
        if !path.contains(&Place::Temporary) {
            path.insert(0, Place::Temporary);
        }
        Self { schema, temporary, safe_functions, path }
    }

    /// What a view's definition is read with: every name in it is qualified, or built in.
    pub(crate) fn unqualified(&self) -> Self {
        Self { schema: self.schema, temporary: &[], safe_functions: self.safe_functions, path: vec![Place::System] }
    }

    /// The schema in which CREATE makes things.
    pub(crate) fn creation_schema(&self) -> Option<&Arc<str>> {
        self.path.iter().find_map(|place| match place {
            Place::Schema(name) => Some(name),
            Place::Temporary | Place::System => None,
        })
    }

    /// The schemas in which names are looked for.
    pub(crate) fn schemas(&self) -> impl Iterator<Item = &Arc<str>> {
        self.path.iter().filter_map(|place| match place {
            Place::Schema(name) => Some(name),
            Place::Temporary | Place::System => None,
        })
    }

    pub(crate) fn relation(&self, parts: &[Arc<str>]) -> Found {
        match parts {
            [name] => self.unqualified_relation(name),
            [.., schema, name] => match &**schema {
                "pg_temp" => Found::Temporary(name.clone()),
                "pg_catalog" | "information_schema" => Found::System(name.clone()),
                schema if schema.starts_with("pg_toast") => Found::System(name.clone()),
                schema if schema.starts_with("pg_temp_") => Found::Temporary(name.clone()),
                schema => {
                    let name = TableName::new(schema, name);
                    match self.schema.relation(&name) {
                        Some(relation) => Found::Table(relation.clone()),
                        None if self.schema.assumed_whole.contains(&name.schema) => Found::Table(taken_to_be(name)),
                        None => Found::Missing(name),
                    }
                }
            },
            [] => Found::Missing(TableName::new("public", "")),
        }
    }

    fn unqualified_relation(&self, name: &Arc<str>) -> Found {
        for place in &self.path {
            match place {
                Place::Temporary => {
                    if self.temporary.contains(name) {
                        return Found::Temporary(name.clone());
                    }
                }
                Place::System => {
                    if self.schema.system_relations.contains(name)
                        || (self.schema.system_relations.is_empty() && name.starts_with("pg_"))
                    {
                        return Found::System(name.clone());
                    }
                }
                Place::Schema(schema) => {
                    if &**schema == "information_schema" {
                        continue;
                    }
                    let full = TableName { schema: schema.clone(), name: name.clone() };
                    if let Some(relation) = self.schema.relation(&full) {
                        return Found::Table(relation.clone());
                    }
                }
            }
        }
        if let Some(schema) = self.schemas().find(|it| self.schema.assumed_whole.contains(*it)) {
            return Found::Table(taken_to_be(TableName { schema: schema.clone(), name: name.clone() }));
        }
        let schema = self.creation_schema().cloned().unwrap_or_else(|| "public".into());
        Found::Missing(TableName { schema, name: name.clone() })
    }

    /// Schemas of the path in which a user-defined function of this name stands.
    pub(crate) fn user_functions(&self, parts: &[Arc<str>]) -> Vec<TableName> {
        match parts {
            [name] => self
                .schema
                .user_functions
                .get(name)
                .into_iter()
                .flatten()
                .filter(|schema| self.path.contains(&Place::Schema((*schema).clone())))
                .map(|schema| TableName { schema: schema.clone(), name: name.clone() })
                .collect(),
            [.., schema, name] if !matches!(&**schema, "pg_catalog" | "information_schema") => {
                vec![TableName { schema: schema.clone(), name: name.clone() }]
            }
            _ => Vec::new(),
        }
    }

    /// Whether the path has a user-defined operator of this symbol; true inside: it goes before the built-in one.
    pub(crate) fn user_operator(&self, symbol: &str) -> Option<bool> {
        let schemas = self.schema.user_operators.get(symbol)?;
        let system = self.path.iter().position(|place| *place == Place::System);
        let user = schemas
            .iter()
            .filter_map(|schema| self.path.iter().position(|place| *place == Place::Schema(schema.clone())))
            .min()?;
        Some(system.is_none_or(|system| user < system))
    }

    /// Whether built-in types and functions are found before any other.
    pub(crate) fn system_first(&self) -> bool {
        self.path.iter().find(|place| **place != Place::Temporary) == Some(&Place::System)
    }

    /// The user-defined type of that name.
    pub(crate) fn user_type(&self, parts: &[Arc<str>]) -> Option<(TableName, char)> {
        let find = |schema: &Arc<str>, name: &Arc<str>| {
            let full = TableName { schema: schema.clone(), name: name.clone() };
            self.schema.user_types.get(&full).map(|it| (full, it.kind))
        };
        match parts {
            [name] => self.path.iter().find_map(|place| match place {
                Place::Schema(schema) => find(schema, name),
                Place::Temporary | Place::System => None,
            }),
            [.., schema, name] => find(schema, name),
            [] => None,
        }
    }
}

fn taken_to_be(name: TableName) -> Arc<Relation> {
    Arc::new(Relation::bare(name, RelationKind::Table))
}

/// The names of a search_path: quoted or folded, by commas.
fn split(path: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = path.trim_start();
    while !rest.is_empty() {
        let (name, after) = if let Some(inner) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut chars = inner.char_indices().peekable();
            let mut end = inner.len();
            while let Some((place, ch)) = chars.next() {
                if ch != '"' {
                    name.push(ch);
                } else if chars.peek().is_some_and(|(_, next)| *next == '"') {
                    name.push('"');
                    chars.next();
                } else {
                    end = place + 1;
                    break;
                }
            }
            (name, inner.get(end..).unwrap_or_default())
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest.get(..end).unwrap_or_default().trim().to_ascii_lowercase(), rest.get(end..).unwrap_or_default())
        };
        names.push(name);
        rest = after.trim_start().strip_prefix(',').unwrap_or_default().trim_start();
    }
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_paths_are_split_as_the_server_does() {
        assert_eq!(split("\"$user\", public"), ["$user", "public"]);
        assert_eq!(split("Sales , \"Odd \"\"name\", x"), ["sales", "Odd \"name", "x"]);
        assert_eq!(split("\"\""), Vec::<String>::new());
    }
}
