//! Tree → the values that `file` names, reporting everything that does not fit instead of stopping at it.
//!
//! [`record!`] is the one list of a map's keys: reading, "did you mean", and the JSON Schema all come from it.

use std::borrow::Cow;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;

use crate::shard_map::mistake::Mistakes;
use crate::shard_map::mistake::Place;
use crate::shard_map::tree::Node;
use crate::shard_map::tree::Scalar;
use crate::shard_map::tree::Tree;

/// Something that a map can hold.
pub(super) trait Read: Sized {
    /// Reads it. `None`: why not is in `mistakes`.
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self>;
}

/// The value of a key.
#[derive(Clone, Debug)]
pub(super) enum Field<T> {
    /// The key is not there.
    Absent,
    /// It is, but what it holds could not be read; that has been reported.
    Broken,
    /// It is there.
    Given(T),
}

impl<T> Field<T> {
    pub(super) fn given(&self) -> Option<&T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Broken => None,
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) place: Place,
    pub(super) value: T,
}

impl<T: Read> Read for At<T> {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        T::read(tree, mistakes).map(|value| Self { place: tree.place, value })
    }
}

/// A list; elements that could not be read are `None`.
#[derive(Clone, Debug)]
pub(super) struct List<T> {
    pub(super) place: Place,
    pub(super) items: Vec<Option<At<T>>>,
}

impl<T> List<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &At<T>> {
        self.items.iter().flatten()
    }
}

impl<T: Read> Read for List<T> {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        let Node::List(items) = &tree.node else {
            wrong_type(tree, "a list, such as [a, b]", mistakes);
            return None;
        };
        let items = items.iter().map(|item| At::read(item, mistakes)).collect();
        Some(Self { place: tree.place, items })
    }
}

/// A map whose keys are names of the user's own; values that could not be read are `None`.
#[derive(Clone, Debug)]
pub(super) struct Named<T> {
    pub(super) place: Place,
    pub(super) entries: Vec<(At<String>, Option<T>)>,
}

impl<T> Named<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&At<String>, &T)> {
        self.entries.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)))
    }
}

impl<T: Read> Read for Named<T> {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        let Node::Map(map) = &tree.node else {
            wrong_type(tree, "a map, such as {name: value}", mistakes);
            return None;
        };
        let mut entries = Vec::with_capacity(map.len());
        for (word, value) in map {
            let name = text_of(&word.scalar, word.place, mistakes).unwrap_or_default();
            entries.push((At { place: word.place, value: name }, T::read(value, mistakes)));
        }
        Some(Self { place: tree.place, entries })
    }
}

/// A name or other text of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl Read for Text {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        let scalar = scalar_of(tree, "a text", mistakes)?;
        text_of(scalar, tree.place, mistakes).map(Self)
    }
}

/// `true` or `false`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag(pub(super) bool);

impl Read for Flag {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        let scalar = scalar_of(tree, "true or false", mistakes)?;
        match scalar.text.as_str() {
            "true" => Some(Self(true)),
            "false" => Some(Self(false)),
            other => {
                let meant = yaml_bool(other).map_or_else(
                    || "Write true or false.".to_owned(),
                    |meant| format!("Write {meant}: of YAML's many spellings only true and false are read here."),
                );
                mistakes.error("map-type", tree.place, format!("`{other}` is not true or false"), meant);
                None
            }
        }
    }
}

/// A whole number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number(pub(super) u64);

impl Read for Number {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        let scalar = scalar_of(tree, "a whole number", mistakes)?;
        match scalar.text.parse() {
            Ok(number) if scalar.plain && scalar.text.bytes().all(|byte| byte.is_ascii_digit()) => Some(Self(number)),
            _ => {
                mistakes.error(
                    "map-type",
                    tree.place,
                    format!("`{}` is not a whole number", scalar.text),
                    "Write digits only, without quotes, sign, separators or unit.",
                );
                None
            }
        }
    }
}

impl<T: Read> Read for Box<T> {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        T::read(tree, mistakes).map(Self::new)
    }
}

/// What a value is, for a message.
pub(super) fn kind_of(tree: &Tree) -> &'static str {
    match &tree.node {
        Node::Scalar(scalar) if is_null(scalar) => "nothing",
        Node::Scalar(_) => "a single value",
        Node::List(_) => "a list",
        Node::Map(_) => "a map",
        Node::Broken => "something unreadable",
    }
}

/// Reports that something else was wanted.
pub(super) fn wrong_type(tree: &Tree, wanted: &str, mistakes: &mut Mistakes<'_>) {
    if matches!(tree.node, Node::Broken) {
        return;
    }
    mistakes.error(
        "map-type",
        tree.place,
        format!("here stands {}, and {wanted} is wanted", kind_of(tree)),
        format!("Write {wanted}."),
    );
}

pub(super) fn scalar_of<'t>(tree: &'t Tree, wanted: &str, mistakes: &mut Mistakes<'_>) -> Option<&'t Scalar> {
    match &tree.node {
        Node::Scalar(scalar) if !is_null(scalar) => Some(scalar),
        Node::Scalar(_) | Node::List(_) | Node::Map(_) | Node::Broken => {
            wrong_type(tree, wanted, mistakes);
            None
        }
    }
}

/// A scalar as text, unless another reader of YAML would take it for something else.
pub(super) fn text_of(scalar: &Scalar, place: Place, mistakes: &mut Mistakes<'_>) -> Option<String> {
    let text = &scalar.text;
    if scalar.plain {
        if let Some(meaning) = yaml_bool(text) {
            mistakes.error(
                "map-yaml-bool",
                place,
                format!("without quotes, YAML reads `{text}` as {meaning}"),
                format!("Quote it: \"{text}\"."),
            );
            return None;
        }
        if is_null(scalar) {
            mistakes.error(
                "map-yaml-null",
                place,
                "without quotes, YAML reads this as nothing",
                format!("Quote it: \"{text}\"."),
            );
            return None;
        }
    }
    Some(text.clone())
}

/// What YAML 1.1 makes of a plain scalar that is one of its booleans.
pub(super) fn yaml_bool(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

pub(super) fn is_null(scalar: &Scalar) -> bool {
    scalar.plain && matches!(scalar.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
}

/// The known name that was probably meant.
pub(super) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let name = name.to_lowercase();
    let allowed = match name.chars().count() {
        // Of s3, s1 is no misspelling.
        0..=2 => 0,
        3..=5 => 2,
        _ => 3,
    };
    let near = known.into_iter().filter_map(|other| {
        let away = distance(&name, &other.to_lowercase());
        // A name of which nothing is left is not a misspelling.
        (away <= allowed && away < other.chars().count()).then_some((away, other))
    });
    near.min_by_key(|(away, _)| *away).map(|(_, other)| other)
}

/// Letters to insert, remove, replace, or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut before_above: Vec<usize> = Vec::new();
    let mut previous = None;
    for (row, letter) in (1..).zip(a.chars()) {
        let mut line = vec![row];
        let mut other_previous = None;
        for (column, other) in b.iter().enumerate() {
            let at = |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX);
            let replaced = at(&above, column) + usize::from(letter != *other);
            let mut best = replaced.min(at(&above, column + 1) + 1).min(at(&line, column) + 1);
            if previous == Some(*other) && other_previous == Some(letter) {
                best = best.min(at(&before_above, column - 1).saturating_add(1));
            }
            line.push(best);
            other_previous = Some(*other);
        }
        previous = Some(letter);
        before_above = std::mem::replace(&mut above, line);
    }
    above.last().copied().unwrap_or_default()
}

/// `Write `name` …`, or what there is to choose from.
pub(super) fn did_you_mean<'n>(name: &str, known: impl IntoIterator<Item = &'n str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("Did you mean `{near}`?"),
        None => {
            let list: Vec<String> = known.into_iter().map(|name| format!("`{name}`")).collect();
            if list.is_empty() { "There are none.".to_owned() } else { format!("Possible here: {}.", list.join(", ")) }
        }
    }
}

/// A record being read: its entries by key.
pub(super) struct Keys<'t> {
    entries: Vec<(&'t str, &'t Tree)>,
    place: Place,
    title: &'static str,
}

impl<'t> Keys<'t> {
    /// The entries of a map all of whose keys are `known`; others are reported.
    pub(super) fn of(
        tree: &'t Tree,
        title: &'static str,
        known: &'static [&'static str],
        mistakes: &mut Mistakes<'_>,
    ) -> Option<Self> {
        let Node::Map(map) = &tree.node else {
            if known.contains(&"password") {
                // `app: secret`, where `app: {password: …}` was meant.
                mistakes.hide(tree.place);
            }
            let wanted = format!("a map with {}", known.join(", "));
            wrong_type(tree, &wanted, mistakes);
            return None;
        };
        let mut entries = Vec::new();
        for (word, value) in map {
            let key = word.scalar.text.as_str();
            if known.contains(&key) {
                entries.push((key, value));
            } else {
                mistakes.error(
                    "map-unknown-key",
                    word.place,
                    format!("{title} has no key `{key}`"),
                    did_you_mean(key, known.iter().copied()),
                );
            }
        }
        Some(Self { entries, place: tree.place, title })
    }

    pub(super) fn field<T: Read>(&self, key: &'static str, mistakes: &mut Mistakes<'_>) -> Field<T> {
        match self.entries.iter().find(|(name, _)| *name == key) {
            None => Field::Absent,
            Some((_, tree)) => T::read(tree, mistakes).map_or(Field::Broken, Field::Given),
        }
    }

    pub(super) fn required<T: Read>(&self, key: &'static str, mistakes: &mut Mistakes<'_>) -> Field<T> {
        let field = self.field(key, mistakes);
        if field.is_absent() {
            missing_key(self.title, key, self.place, mistakes);
            return Field::Broken;
        }
        field
    }
}

/// Reports that `title` lacks `key`.
pub(super) fn missing_key(title: &str, key: &str, place: Place, mistakes: &mut Mistakes<'_>) {
    mistakes.error("map-missing-key", place, format!("{title} lacks `{key}`"), format!("Add `{key}:`."));
}

/// Documentation comments as one paragraph.
pub(super) fn paragraph(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// Declares a map with fixed keys: its struct, how it is read, and its JSON Schema.
///
/// `key: Type` may be missing, `key: Type, required` may not.
macro_rules! record {
    ($(
        $(#[doc = $about:literal])*
        $name:ident = $title:literal {
            $($(#[doc = $doc:literal])* $key:ident: $kind:ty $(, $required:ident)?;)*
        }
    )*) => {$(
        $(#[doc = $about])*
        #[derive(Clone, Debug)]
        #[allow(dead_code, reason = "not every record is asked where it begins, and `version` is checked before")]
        pub(super) struct $name {
            /// Where it begins.
            pub(super) place: Place,
            $($(#[doc = $doc])* pub(super) $key: Field<$kind>,)*
        }

        impl Read for $name {
            fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
                let keys = Keys::of(tree, $title, &[$(stringify!($key)),*], mistakes)?;
                Some(Self {
                    place: tree.place,
                    $($key: record!(@field keys, $key, mistakes $(, $required)?),)*
                })
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let mut properties = serde_json::Map::new();
                $(
                    let schema = generator.subschema_for::<$kind>();
                    properties.insert(stringify!($key).to_owned(), described(schema, &[$($doc),*]));
                )*
                let required: &[&str] = &[$($(record!(@name $key, $required),)?)*];
                json_schema!({
                    "type": "object",
                    "description": paragraph(&[$($about),*]),
                    "properties": properties,
                    "required": required,
                    "additionalProperties": false,
                })
            }
        }
    )*};
    (@name $key:ident, required) => { stringify!($key) };
    (@field $keys:ident, $key:ident, $mistakes:ident) => { $keys.field(stringify!($key), $mistakes) };
    (@field $keys:ident, $key:ident, $mistakes:ident, required) => { $keys.required(stringify!($key), $mistakes) };
}
pub(super) use record;

/// Declares a choice of words: its enum, how it is read, and its JSON Schema.
macro_rules! choice {
    ($(
        $(#[doc = $about:literal])*
        $name:ident { $($word:literal => $variant:ident,)* }
    )*) => {$(
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $name { $(#[doc = $word] $variant,)* }

        impl Read for $name {
            fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
                let words = [$($word),*];
                let scalar = scalar_of(tree, &words.join(" or "), mistakes)?;
                match scalar.text.as_str() {
                    $($word => Some(Self::$variant),)*
                    other => {
                        mistakes.error(
                            "map-choice",
                            tree.place,
                            format!("`{other}` is not one of {}", words.join(", ")),
                            match other.eq_ignore_ascii_case("mariadb") && words.contains(&"mysql") {
                                true => "For MariaDB write `mysql`.".to_owned(),
                                false => did_you_mean(other, words),
                            },
                        );
                        None
                    }
                }
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "description": paragraph(&[$($about),*]), "enum": [$($word),*] })
            }
        }
    )*};
}
pub(super) use choice;

/// A schema under its key's own description.
pub(super) fn described(schema: Schema, doc: &[&str]) -> serde_json::Value {
    let mut value = schema.to_value();
    let text = paragraph(doc);
    if let (serde_json::Value::Object(object), false) = (&mut value, text.is_empty()) {
        object.insert("description".to_owned(), text.into());
    }
    value
}

macro_rules! schema {
    ($name:ty, $spelled:literal, $schema:tt) => {
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                $spelled.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}
pub(super) use schema;

schema!(Text, "Text", { "type": "string" });
schema!(Flag, "Flag", { "type": "boolean" });
schema!(Number, "Number", { "type": "integer", "minimum": 0 });

impl<T: JsonSchema> JsonSchema for At<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("ListOf{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": generator.subschema_for::<T>() })
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("NamesTo{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let keys = ["shards", "groups", "reference", "unsharded", "reads"];
        assert_eq!(nearest("shard", keys), Some("shards"));
        assert_eq!(nearest("gruops", keys), Some("groups"));
        assert_eq!(nearest("Reads", keys), Some("reads"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(distance("gruops", "groups"), 1);
    }
}
