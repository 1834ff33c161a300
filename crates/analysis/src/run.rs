//! Runs analyzers over a set and leaves out what is suppressed or said twice.

use config::Kind;

use crate::{ALL, Analyzer, Code, Message, Report, Set};

/// Annotation whose value lists codes, or `*`, that are not said of the object (Istio, "Analyzer suppressions").
pub const SUPPRESS: &str = "galley.istio.io/analyze-suppress";

/// What `analyzers` say of the set, the worst first. An object's annotation [`SUPPRESS`] leaves out the codes that it
/// lists.
pub fn run<'a>(set: &Set<'_>, analyzers: impl IntoIterator<Item = &'a Analyzer>) -> Vec<Message> {
    let mut report = Report::default();
    for analyzer in analyzers {
        for subject in set.subjects(analyzer) {
            set.show(analyzer, &subject, &mut report);
        }
    }
    let mut messages = report.messages;
    messages.retain(|message| !is_suppressed(set, message));
    messages.sort_by(Message::by_severity);
    messages.dedup_by(|a, b| a.repeats(b));
    messages
}

/// The analyzers that read one of these kinds, which are those to rerun when objects of the kinds have changed.
pub fn dependent(kinds: &[Kind]) -> impl Iterator<Item = &'static Analyzer> {
    ALL.iter()
        .filter(move |analyzer| analyzer.inputs.iter().any(|kind| kinds.contains(kind)))
}

/// Whether the message's object asks not to be told.
pub fn is_suppressed(set: &Set<'_>, message: &Message) -> bool {
    message
        .object
        .as_ref()
        .and_then(|key| set.by_key(key))
        .and_then(|object| object.meta.annotations.get(SUPPRESS))
        .is_some_and(|codes| lists(codes, message.code))
}

fn lists(codes: &str, code: Code) -> bool {
    codes
        .split(',')
        .map(str::trim)
        .any(|listed| listed == "*" || listed == code.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suppression_lists() {
        for (codes, expected) in [
            ("IST0101", true),
            ("IST0102, IST0101", true),
            ("*", true),
            ("IST0102", false),
            ("", false),
        ] {
            assert_eq!(
                lists(codes, Code::ReferencedResourceNotFound),
                expected,
                "{codes}"
            );
        }
    }
}
