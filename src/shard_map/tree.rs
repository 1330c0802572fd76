//! YAML text → a tree that knows where each part stands and how it was written.
//!
//! It is read from the parser's events and not through serde, which stops at the first mistake, has forgotten whether
//! a scalar was quoted, and cannot report two duplicate keys at once. What no map needs (tags, several documents)
//! is refused; aliases and merge keys are expanded, up to a bound.

use std::collections::HashMap;

use serde_yaml::granit_parser::ErrorKind;
use serde_yaml::granit_parser::Event;
use serde_yaml::granit_parser::Parser;
use serde_yaml::granit_parser::ScalarStyle;
use serde_yaml::granit_parser::ScanError;
use serde_yaml::granit_parser::Span;
use serde_yaml::granit_parser::StructureStyle;

use crate::shard_map::mistake::Mistakes;
use crate::shard_map::mistake::Place;

/// How many values a map may hold once its aliases are written out.
const VALUES_MAX: usize = 200_000;

/// A value.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// A scalar's text; a list or map in brackets; the first character of one without.
    pub(super) place: Place,
    pub(super) node: Node,
}

/// What it holds.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Scalar(Scalar),
    List(Vec<Tree>),
    Map(Vec<(Word, Tree)>),
    /// What could not be read; that has been reported.
    Broken,
}

/// A scalar's text, and whether it stood without quotes.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) plain: bool,
}

/// A key of a map.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) place: Place,
    pub(super) scalar: Scalar,
}

/// Reads one document. `None`: what was found is in `mistakes`, and nothing could be read further.
pub(super) fn parse(text: &str, mistakes: &mut Mistakes<'_>) -> Option<Tree> {
    let mut builder = Builder { mistakes, open: Vec::new(), anchors: HashMap::new(), values: 0, root: None };
    let mut options = serde_yaml::granit_parser::options! { emit_unresolved_aliases: true };
    options.set_emit_comments(false);
    for next in Parser::new_from_str_with_options(text, options) {
        match next {
            Ok((event, span)) => builder.take(&event, span)?,
            Err(error) => {
                builder.syntax(&error);
                return None;
            }
        }
    }
    if builder.root.is_none() {
        builder.mistakes.error(
            "map-empty",
            Place::default(),
            "the map is empty",
            "The least a map needs: version, listen, databases and users.",
        );
    }
    builder.root
}

struct Builder<'m, 'a> {
    mistakes: &'m mut Mistakes<'a>,
    open: Vec<Open>,
    /// What each anchor names, and how many values it holds.
    anchors: HashMap<usize, (Tree, usize)>,
    /// So far, aliases written out.
    values: usize,
    root: Option<Tree>,
}

/// A list or map whose end has not come.
struct Open {
    place: Place,
    style: StructureStyle,
    anchor: usize,
    /// `Builder::values` when it began.
    values: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Tree>),
    Map { entries: Vec<(Word, Tree)>, merged: Vec<Tree>, key: Option<Key> },
}

/// A key whose value has not come.
enum Key {
    Word(Word),
    /// `<<`
    Merge,
    /// One that cannot be used: its value is dropped.
    Unusable,
}

impl Builder<'_, '_> {
    /// `None`: reading cannot go on.
    fn take(&mut self, event: &Event<'_>, span: Span) -> Option<()> {
        let place = place(span);
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                self.mistakes.error(
                    "map-syntax",
                    place,
                    "a second document begins here",
                    "A map is one document: remove the line with ---.",
                );
                return None;
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), place);
                let plain = *style == ScalarStyle::Plain;
                let scalar = Scalar { text: text.to_string(), plain };
                self.count(place, 1)?;
                self.finish(Tree { place, node: Node::Scalar(scalar) }, *anchor, 1);
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), place);
                self.begin(place, *style, *anchor, Kind::List(Vec::new()))?;
            }
            Event::MappingStart(style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), place);
                self.begin(place, *style, *anchor, Kind::Map { entries: Vec::new(), merged: Vec::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(place),
            Event::Alias(anchor) => {
                let Some((tree, values)) = self.anchors.get(anchor).cloned() else {
                    self.mistakes.error(
                        "map-alias",
                        place,
                        "this alias stands inside what it names",
                        "Write the value out.",
                    );
                    return None;
                };
                self.count(place, values)?;
                self.finish(tree, 0, values);
            }
            Event::UnresolvedAlias(_) => {
                self.mistakes.error(
                    "map-alias",
                    place,
                    // Without its name, which may be a password that begins with an asterisk.
                    "no anchor of this alias's name stands before it",
                    "Define it with & and the name, or quote the value if the asterisk belongs to it.",
                );
                self.finish(Tree { place, node: Node::Broken }, 0, 1);
            }
            _ => {}
        }
        Some(())
    }

    fn begin(&mut self, place: Place, style: StructureStyle, anchor: usize, kind: Kind) -> Option<()> {
        let values = self.values;
        self.count(place, 1)?;
        self.open.push(Open { place, style, anchor, values, kind });
        Some(())
    }

    fn end(&mut self, last: Place) {
        let Some(Open { mut place, style, anchor, values, kind }) = self.open.pop() else { return };
        if style == StructureStyle::Flow {
            place.end = last.end;
        }
        let node = match kind {
            Kind::List(items) => Node::List(items),
            Kind::Map { mut entries, merged, .. } => {
                for tree in merged {
                    self.merge(&mut entries, tree);
                }
                Node::Map(entries)
            }
        };
        self.finish(Tree { place, node }, anchor, self.values - values);
    }

    /// Puts a whole value where it belongs.
    fn finish(&mut self, tree: Tree, anchor: usize, values: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, (tree.clone(), values));
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(tree),
            Some(Kind::List(items)) => items.push(tree),
            Some(Kind::Map { entries, merged, key }) => match key.take() {
                Some(Key::Word(word)) => entries.push((word, tree)),
                Some(Key::Merge) => merged.push(tree),
                Some(Key::Unusable) => {}
                None => *key = Some(usable_key(tree, entries, self.mistakes)),
            },
        }
    }

    /// Entries of `tree` that `entries` does not name itself.
    fn merge(&mut self, entries: &mut Vec<(Word, Tree)>, tree: Tree) {
        match tree.node {
            Node::Map(merged) => {
                for (word, value) in merged {
                    if !entries.iter().any(|(other, _)| other.scalar.text == word.scalar.text) {
                        entries.push((word, value));
                    }
                }
            }
            Node::List(trees) => trees.into_iter().for_each(|tree| self.merge(entries, tree)),
            Node::Broken => {}
            Node::Scalar(_) => self.mistakes.error(
                "map-type",
                tree.place,
                "<< merges a map, and this is a single value",
                "Write an alias of a map behind <<, such as `<<: *defaults`.",
            ),
        }
    }

    fn count(&mut self, place: Place, values: usize) -> Option<()> {
        self.values += values;
        if self.values <= VALUES_MAX {
            return Some(());
        }
        self.mistakes.error(
            "map-too-large",
            place,
            format!("with its aliases written out, the map holds more than {VALUES_MAX} values"),
            "Use fewer aliases, and none of lists of aliases.",
        );
        None
    }

    fn refuse_tag(&mut self, tagged: bool, place: Place) {
        if tagged {
            self.mistakes.error(
                "map-tag",
                place,
                "a tag (!…) means nothing here",
                "Remove the tag; quote the value if the exclamation mark belongs to it.",
            );
        }
    }

    fn syntax(&mut self, error: &ScanError) {
        let marker = error.marker();
        let text = self.mistakes.text();
        let start = marker.byte_offset().unwrap_or_else(|| byte_offset(text, marker.index()));
        let tab = tab_near(text, start);
        if let Some(tab) = tab {
            self.mistakes.error(
                "map-tab",
                Place { start: tab, end: tab + 1 },
                "a tab where YAML wants spaces",
                "Indent with spaces only.",
            );
            return;
        }
        let hint = match error.kind() {
            ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::UnexpectedEofFlowMapping => {
                "A { is not closed, or a comma is missing between two of its entries."
            }
            ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::UnexpectedEofFlowSequence => {
                "A [ is not closed, or a comma is missing between two of its entries."
            }
            ErrorKind::ExpectedBlockMappingKey | ErrorKind::ExpectedBlockSequenceEntry => {
                "Line it up with the entries above: everything of one map or list starts in the same column."
            }
            _ => "Look at this line and the one above: a colon, quote, bracket or space is missing or too much.",
        };
        self.mistakes.error("map-syntax", Place { start, end: start + 1 }, format!("not YAML: {}", error.info()), hint);
    }
}

/// What a finished value is as a key of `entries`.
fn usable_key(tree: Tree, entries: &[(Word, Tree)], mistakes: &mut Mistakes<'_>) -> Key {
    let Tree { place, node: Node::Scalar(scalar) } = tree else {
        mistakes.error("map-type", tree.place, "a list or map cannot be a key", "Write a name.");
        return Key::Unusable;
    };
    if scalar.plain && scalar.text == "<<" {
        return Key::Merge;
    }
    if let Some((first, _)) = entries.iter().find(|(word, _)| word.scalar.text == scalar.text) {
        let line = mistakes.line(first.place);
        mistakes.error(
            "map-duplicate-key",
            place,
            format!("`{}` stands here a second time", scalar.text),
            format!("The first is on line {line}: keep one of them, with everything that belongs to both."),
        );
        return Key::Unusable;
    }
    Key::Word(Word { place, scalar })
}

fn place(span: Span) -> Place {
    let start = span.start.byte_offset().unwrap_or_default();
    Place { start, end: span.end.byte_offset().unwrap_or(start).max(start) }
}

fn byte_offset(text: &str, characters: usize) -> usize {
    text.char_indices().nth(characters).map_or(text.len(), |(offset, _)| offset)
}

/// A tab in the indentation of the line that the parser stopped at, or of the one before.
fn tab_near(text: &str, offset: usize) -> Option<usize> {
    let before = text.get(..offset.min(text.len()))?;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let previous = before.get(..line_start.saturating_sub(1))?.rfind('\n').map_or(0, |newline| newline + 1);
    [line_start, previous].into_iter().find_map(|start| {
        let line = text.get(start..)?;
        let indent = line.len() - line.trim_start_matches([' ', '\t', '-']).len();
        line.get(..indent)?.find('\t').map(|at| start + at)
    })
}
