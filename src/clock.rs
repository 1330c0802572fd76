//! The only place that reads a clock.

use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

/// A moment on the proxy's monotonic clock: nanoseconds since the process first asked, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// Before every moment that was read.
    pub const NEVER: Self = Self(0);

    /// The time since `earlier`; zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment and `span` later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The time since 1970, by the machine's own clock: for what others read, never for how long something took.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn unix_now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// Reads the clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Tick {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    Tick(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1))
}
