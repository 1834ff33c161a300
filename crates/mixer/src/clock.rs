//! Time as Mixer's adapters take it: nanoseconds since some fixed moment, never running backwards.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Tells the time. Tests bring their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// A clock that asks `now`.
    pub fn new(now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The system's monotonic clock, from this call on.
    #[must_use]
    pub fn system() -> Self {
        let start = Instant::now();
        Self::new(move || i64::try_from(start.elapsed().as_nanos()).unwrap_or(i64::MAX))
    }

    /// Nanoseconds since a fixed moment.
    #[must_use]
    pub fn now(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
