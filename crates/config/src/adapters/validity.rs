//! For how long and how often an answer may be used again.

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;

/// How long and how often a caller of the Mixer API may keep an answer. Envoy keeps none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Nanoseconds.
    pub duration: i64,
    /// Requests.
    pub uses: i32,
}

impl Validity {
    /// What nothing stands against: where no adapter has a say (Istio 1.4's dispatcher).
    pub const UNSAID: Self = Self::new(60, 10_000);
    /// The default of Istio 1.4's denier; also of adapters that say nothing of their own.
    pub const DENIER: Self = Self::new(5, 1_000);
    /// The default of Istio 1.4's listchecker.
    pub(super) const LIST: Self = Self::new(300, 10_000);
    /// Not even once.
    pub const NONE: Self = Self::new(0, 0);

    const fn new(seconds: i64, uses: i32) -> Self {
        Self {
            duration: seconds * SECOND,
            uses,
        }
    }

    /// What two answers allow together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            duration: self.duration.min(other.duration),
            uses: self.uses.min(other.uses),
        }
    }
}
