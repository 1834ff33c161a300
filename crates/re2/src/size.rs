//! How many instructions RE2's program has. Envoy compiles expressions of bytes (Latin-1), so a class has one for each of its
//! ranges up to `\xFF`; a counted repetition is so many copies of what it repeats.

use regex_syntax::hir::{Class, ClassUnicodeRange, HirKind};

/// Of a program around the expression: the search before it, the match, the failure.
pub(crate) const FRAME: usize = 4;

/// Of a class in Rust's syntax.
pub(crate) fn of_class(class: &str) -> usize {
    let Ok(parsed) = regex_syntax::parse(class) else {
        return 1;
    };
    match parsed.kind() {
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Unicode(class)) => of_ranges(class.ranges()),
        HirKind::Class(Class::Bytes(class)) => class.ranges().len(),
        _ => 1,
    }
}

fn of_ranges(ranges: &[ClassUnicodeRange]) -> usize {
    let has = |low: char, high: char| {
        ranges
            .iter()
            .any(|range| range.start() == low && range.end() == high)
    };
    // Letters of both cases are one instruction that ignores case.
    let saved = usize::from(has('A', 'Z') && has('a', 'z'));
    let bytes = ranges.iter().filter(|range| range.start() <= '\u{ff}').count();
    bytes.saturating_sub(saved).max(1)
}

/// Of a repetition of something of `size`: `low` times, up to `high` times if that is bounded.
pub(crate) fn of_repetition(size: usize, low: u32, high: Option<u32>) -> usize {
    let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    let (copies, choices) = match high {
        None => (low.max(1), 1),
        Some(high) => (high, high.saturating_sub(low)),
    };
    size.saturating_mul(count(copies)).saturating_add(count(choices))
}
