//! Says how far the demo is: a bar or a spinner on a terminal, a line per step elsewhere.

use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::time::Duration;

use indicatif::ProgressBar;
use indicatif::ProgressStyle;

/// How often a spinner turns.
const TURN: Duration = Duration::from_millis(100);

/// One step under way. Dropped before [`Progress::done`], it leaves nothing on a terminal.
pub(super) struct Progress {
    what: String,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A step of unknown length.
    pub(super) fn step(what: &str) -> Self {
        Self::new(what, || {
            let bar = ProgressBar::new_spinner().with_message(what.to_owned());
            bar.enable_steady_tick(TURN);
            bar
        })
    }

    /// A step of a known number of parts.
    pub(super) fn counted(what: &str, parts: u64) -> Self {
        Self::new(what, || {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}");
            let bar = ProgressBar::new(parts).with_message(what.to_owned());
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        })
    }

    fn new(what: &str, bar: impl FnOnce() -> ProgressBar) -> Self {
        let bar = io::stderr().is_terminal().then(bar);
        if bar.is_none() {
            print_line(&format!("{what} …"));
        }
        Self { what: what.to_owned(), bar }
    }

    /// Shows that so many parts are done.
    pub(super) fn at(&self, part: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(part);
        }
    }

    /// Ends the step.
    pub(super) fn done(mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            print_line(&format!("{}: done", self.what));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Progress goes to standard error; that nobody reads it stops nothing.
fn print_line(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
