//! Runs analyzers over a set and leaves out what is suppressed or said twice.

use config::Kind;

use crate::{ALL, Analyzer, Code, Message, Report, Set};

/// Annotation whose value lists codes, or `*`, that are not said of the object (Istio, "Analyzer suppressions").
const SUPPRESS: &str = "galley.istio.io/analyze-suppress";

/// What `analyzers` say of the set: errors first, then by code and object. An object's annotation
/// `galley.istio.io/analyze-suppress` leaves out the codes that it lists.
pub fn run<'a>(set: &Set<'_>, analyzers: impl IntoIterator<Item = &'a Analyzer>) -> Vec<Message> {
    let mut report = Report::default();
    for analyzer in analyzers {
        (analyzer.run)(set, &mut report);
    }
    let mut messages = report.messages;
    messages.retain(|message| !is_suppressed(set, message));
    messages.sort_by(|a, b| {
        let key = |m: &Message| (std::cmp::Reverse(m.severity()), m.code);
        key(a)
            .cmp(&key(b))
            .then_with(|| a.object.cmp(&b.object))
            .then_with(|| a.text.cmp(&b.text))
            .then_with(|| a.path.cmp(&b.path))
    });
    messages.dedup_by(|a, b| (a.code, &a.object, &a.text, &a.path) == (b.code, &b.object, &b.text, &b.path));
    messages
}

/// The analyzers that read one of these kinds, which are those to rerun when objects of the kinds have changed.
pub fn dependent(kinds: &[Kind]) -> impl Iterator<Item = &'static Analyzer> {
    ALL.iter()
        .filter(move |analyzer| analyzer.inputs.iter().any(|kind| kinds.contains(kind)))
}

fn is_suppressed(set: &Set<'_>, message: &Message) -> bool {
    set.by_key(&message.object)
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
