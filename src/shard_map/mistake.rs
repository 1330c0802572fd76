//! What is wrong with a map, where, and what to write instead: collected, placed, rendered as a compiler would.

use std::fmt;
use std::sync::Arc;

use miette::GraphicalReportHandler;
use miette::GraphicalTheme;
use miette::LabeledSpan;
use miette::MietteError;
use miette::MietteSpanContents;
use miette::SourceCode;
use miette::SourceSpan;
use miette::SpanContents;
use serde_json::json;

use crate::shard_map::redact::Redacted;

/// How wide a rendered mistake may get before its text wraps.
const WIDTH: usize = 110;

/// Whether a map with it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// No.
    Error,
    /// Yes, but it is probably not what was meant.
    Warning,
}

/// One thing wrong with a map. Printed by `Display` as a compiler prints an error; it never shows a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Whether the map can be used all the same.
    pub severity: Severity,
    /// A short name that stays, such as `map-unknown-key`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to write instead: whole sentences.
    pub hint: String,
    /// The file, as it was named to `ShardMap::parse`.
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// In characters, within the line.
    pub length: usize,
    snippet: Arc<Redacted>,
    place: Place,
}

/// Something in a map that can be used but should be looked at.
pub type Warning = Mistake;

/// A stretch of the map's text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The mistakes found so far in one text.
pub(super) struct Mistakes<'a> {
    name: &'a str,
    text: &'a str,
    found: Vec<Found>,
    secrets: Vec<Place>,
}

struct Found {
    severity: Severity,
    code: &'static str,
    message: String,
    hint: String,
    place: Place,
}

impl<'a> Mistakes<'a> {
    pub(super) fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, text, found: Vec::new(), secrets: Vec::new() }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    pub(super) fn error(
        &mut self,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Error, code, place, message.into(), hint.into());
    }

    pub(super) fn warning(
        &mut self,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Warning, code, place, message.into(), hint.into());
    }

    fn add(&mut self, severity: Severity, code: &'static str, place: Place, message: String, hint: String) {
        self.found.push(Found { severity, code, message, hint, place });
    }

    /// Keeps a place out of every snippet.
    pub(super) fn hide(&mut self, place: Place) {
        self.secrets.push(place);
    }

    pub(super) fn any_error(&self) -> bool {
        self.found.iter().any(|found| found.severity == Severity::Error)
    }

    /// The line of a place, from 1.
    pub(super) fn line(&self, place: Place) -> usize {
        1 + self.text.bytes().take(place.start).filter(|byte| *byte == b'\n').count()
    }

    /// All of them, in the order of the text, each once.
    pub(super) fn into_list(self) -> Vec<Mistake> {
        let Self { name, text, mut found, secrets } = self;
        found.sort_by_key(|found| found.place);
        found.dedup_by(|a, b| (a.code, a.place, &a.message) == (b.code, b.place, &b.message));
        if found.is_empty() {
            return Vec::new();
        }
        let file: Arc<str> = name.into();
        let snippet = Arc::new(Redacted::new(text, &secrets));
        let placed = |found: Found| {
            let start = found.place.start.min(text.len());
            let before = text.get(..start).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            let rest = text.get(start..).unwrap_or_default();
            let end = start + rest.find(['\n', '\r']).unwrap_or(rest.len());
            let place = Place { start, end: found.place.end.clamp(start, end) };
            let count = |from: usize, to: usize| text.get(from..to).map_or(0, |part| part.chars().count());
            Mistake {
                severity: found.severity,
                code: found.code,
                message: found.message,
                hint: found.hint,
                file: Arc::clone(&file),
                line: 1 + before.matches('\n').count(),
                column: 1 + count(line_start, start),
                length: count(place.start, place.end),
                snippet: Arc::clone(&snippet),
                place,
            }
        };
        found.into_iter().map(placed).collect()
    }
}

impl Mistake {
    /// A mistake about the file as a whole: it cannot be read.
    #[must_use]
    pub fn unreadable(file: &str, reason: impl fmt::Display) -> Self {
        Self {
            severity: Severity::Error,
            code: "map-unreadable",
            message: format!("the map {file} cannot be read: {reason}"),
            hint: "Name the map's file: `shardway check FILE`, `shardway serve --map FILE`. It is UTF-8 text."
                .to_owned(),
            file: file.into(),
            line: 1,
            column: 1,
            length: 0,
            snippet: Arc::new(Redacted::new("", &[])),
            place: Place::default(),
        }
    }

    /// As a JSON object, for tools: places are of the original text.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        json!({
            "severity": match self.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "file": &*self.file,
            "line": self.line,
            "column": self.column,
            "length": self.length,
        })
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
            .with_links(false)
            .with_width(WIDTH)
            .with_context_lines(1);
        let mut text = String::new();
        handler.render_report(&mut text, &Report(self))?;
        // miette pads lines to its frame; what we print ends where its text ends.
        for line in text.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistake {}

/// Renders mistakes for people, one after the other.
#[must_use]
pub fn render(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Renders mistakes for tools: a JSON array.
#[must_use]
pub fn render_json(mistakes: &[Mistake]) -> String {
    let array = serde_json::Value::Array(mistakes.iter().map(Mistake::json).collect());
    format!("{array:#}\n")
}

/// A mistake as miette wants it.
#[derive(Debug)]
struct Report<'a>(&'a Mistake);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.0.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.0.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.0.hint))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        (!self.0.snippet.text().is_empty()).then_some(self as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (start, end) = self.0.snippet.place(self.0.place.start, self.0.place.end);
        Some(Box::new(std::iter::once(LabeledSpan::new(None, start, end - start))))
    }
}

impl SourceCode for Report<'_> {
    /// The redacted text, with the line and column that the place has in the file itself.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let text = self.0.snippet.text().as_bytes();
        let contents = text.read_span(span, before, after)?;
        // miette asks without context for the place itself.
        let column = if before == 0 { self.0.column - 1 } else { contents.column() };
        Ok(Box::new(MietteSpanContents::new_named(
            self.0.file.to_string(),
            contents.data(),
            *contents.span(),
            contents.line(),
            column,
            contents.line_count(),
        )))
    }
}
