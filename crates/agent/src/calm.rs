//! Says a thing once, again when it changes, and otherwise at a low rate. Pure: the time comes in.

use std::time::{Duration, Instant};

/// How often an unchanged text is repeated.
const REPEAT: Duration = Duration::from_secs(60);

/// What was said last, and when.
#[derive(Debug, Default)]
pub(crate) struct Calm {
    last: Option<(String, Instant)>,
}

impl Calm {
    /// Whether `text` is to be said now; if so it counts as said.
    pub(crate) fn is_due(&mut self, text: &str, now: Instant) -> bool {
        let said = self
            .last
            .as_ref()
            .is_some_and(|(last, at)| last == text && now.saturating_duration_since(*at) < REPEAT);
        if !said {
            self.last = Some((text.to_owned(), now));
        }
        !said
    }

    /// All is well again: whether there was something to be said before.
    pub(crate) fn clear(&mut self) -> bool {
        self.last.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_rare() {
        let mut calm = Calm::default();
        let start = Instant::now();
        assert!(!calm.clear());
        assert!(calm.is_due("away", start));
        assert!(!calm.is_due("away", start + REPEAT / 2));
        assert!(
            calm.is_due("refused", start + REPEAT / 2),
            "another reason is news"
        );
        assert!(!calm.is_due("refused", start + REPEAT));
        assert!(calm.is_due("refused", start + REPEAT * 2));
        assert!(calm.clear());
        assert!(
            calm.is_due("refused", start + REPEAT * 2),
            "after all was well it is news again"
        );
    }
}
