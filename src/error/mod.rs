//! What a client is told when shardway itself refuses or fails.
//!
//! Only [`ClientError`] reaches a client, and it cannot be built without a hint. A database's own error passes
//! through as it came and never becomes one of these.

pub mod code;

use std::fmt;

pub use code::Code;

/// An error of the proxy's own, as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    /// Which kind; decides SQLSTATE and metric label.
    pub code: Code,
    /// What happened: lower case, no full stop, names in double quotes.
    pub message: String,
    /// More about it, if there is more.
    pub detail: Option<String>,
    /// What to do: whole sentences.
    pub hint: String,
    /// Where in the statement, in characters from 1.
    pub position: Option<u32>,
}

impl ClientError {
    /// An error with its hint.
    pub fn new(code: Code, message: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self { code, message: message.to_string(), detail: None, hint: hint.into(), position: None }
    }

    /// The refusal of promise 1: `construct` is not answered here.
    pub fn unsupported(construct: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self::new(Code::Unsupported, construct, hint)
    }

    /// The same with a detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same with a place in the statement (characters from 1).
    #[must_use]
    pub fn at(mut self, position: Option<u32>) -> Self {
        self.position = position;
        self
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code.sqlstate())
    }
}

impl std::error::Error for ClientError {}
