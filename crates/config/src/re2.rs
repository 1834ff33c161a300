//! Whether a regular expression is one that Envoy accepts: RE2's syntax. Checked with Rust's `regex`, which has the same
//! syntax but for details that are translated here.

use regex::RegexBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

/// Longest expression accepted, in bytes (Istio's bound).
const MAX_LENGTH: usize = 1024;
/// Largest program accepted, in bytes: expressions that grow beyond it cost too much in every proxy.
const MAX_PROGRAM: usize = 1 << 20;
/// Expressions of this size at most are far from the largest program, so they need not be compiled to find out.
const SMALL: usize = 2000;
/// Largest count of a repetition (RE2's bound).
const MAX_REPEAT: u32 = 1000;

/// Why an expression is refused; none when it is fine.
pub(crate) fn fault(expression: &str) -> Option<String> {
    if expression.len() > MAX_LENGTH {
        return Some(format!(
            "the expression has {} bytes, more than the {MAX_LENGTH} allowed",
            expression.len()
        ));
    }
    let translated = match translate(expression) {
        Ok(translated) => translated,
        Err(fault) => return Some(fault),
    };
    if regex_syntax::parse(&translated).is_ok_and(|parsed| size(&parsed) <= SMALL) {
        return None;
    }
    let error = RegexBuilder::new(&translated)
        .size_limit(MAX_PROGRAM)
        .build()
        .err()?;
    // The parser's message draws a picture over several lines; the last one says what is wrong.
    let reason = error.to_string();
    let reason = reason
        .lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned();
    Some(format!("not a regular expression in RE2's syntax: {reason}"))
}

/// An upper estimate of how many states an expression's program has.
fn size(expression: &Hir) -> usize {
    match expression.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        // A range of characters is up to ten sequences of up to four bytes.
        HirKind::Class(Class::Unicode(class)) => class.ranges().len().saturating_mul(40),
        HirKind::Class(Class::Bytes(class)) => class.ranges().len(),
        HirKind::Capture(capture) => size(&capture.sub).saturating_add(2),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1);
            let times = usize::try_from(times).unwrap_or(usize::MAX);
            size(&repetition.sub).saturating_add(1).saturating_mul(times)
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(size).fold(1, usize::saturating_add)
        }
    }
}

/// The expression in the syntax of Rust's `regex`.
fn translate(expression: &str) -> Result<String, String> {
    let mut translated = String::with_capacity(expression.len() + 8);
    let mut rest = expression;
    let mut in_class = false;
    while let Some(character) = rest.chars().next() {
        let after = rest.strip_prefix(character).unwrap_or_default();
        rest = match character {
            '\\' if after.starts_with('Q') => {
                literal(after.strip_prefix('Q').unwrap_or_default(), &mut translated)
            }
            '\\' => {
                let escaped = after.chars().next();
                translated.push('\\');
                translated.extend(escaped);
                escaped
                    .and_then(|escaped| after.strip_prefix(escaped))
                    .unwrap_or_default()
            }
            '{' if !in_class => repetition(after, &mut translated)?,
            '[' if !in_class => {
                in_class = true;
                translated.push('[');
                class_start(after, &mut translated)
            }
            '[' if after.starts_with(':') => {
                translated.push('[');
                after
            }
            ']' if in_class => {
                in_class = false;
                translated.push(']');
                after
            }
            '[' | '&' | '~' if in_class => {
                translated.extend(['\\', character]);
                after
            }
            '-' if in_class && after.starts_with('-') => {
                translated.push_str("\\-");
                after
            }
            ':' if in_class && after.starts_with(']') && translated.contains("[:") => {
                translated.push_str(":]");
                after.strip_prefix(']').unwrap_or_default()
            }
            other => {
                translated.push(other);
                after
            }
        };
    }
    Ok(translated)
}

/// A class's `^` and a `]` that stands first, and so for itself.
fn class_start<'a>(rest: &'a str, translated: &mut String) -> &'a str {
    let mut rest = rest;
    if let Some(after) = rest.strip_prefix('^') {
        translated.push('^');
        rest = after;
    }
    if let Some(after) = rest.strip_prefix(']') {
        translated.push_str("\\]");
        rest = after;
    }
    rest
}

/// `\Q…\E`: all between stands for itself.
fn literal<'a>(rest: &'a str, translated: &mut String) -> &'a str {
    let (text, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
    translated.push_str(&regex::escape(text));
    rest
}

/// `{n}`, `{n,}`, `{n,m}`; any other brace stands for itself.
fn repetition<'a>(rest: &'a str, translated: &mut String) -> Result<&'a str, String> {
    let count = |text: &str| {
        text.parse::<u32>()
            .ok()
            .filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
    };
    let Some((bounds, after)) = rest.split_once('}') else {
        translated.push_str("\\{");
        return Ok(rest);
    };
    let (low, high) = bounds.split_once(',').unwrap_or((bounds, ""));
    if count(low).is_none() || !(high.is_empty() || count(high).is_some()) {
        translated.push_str("\\{");
        return Ok(rest);
    }
    if [low, high]
        .into_iter()
        .filter_map(count)
        .any(|count| count > MAX_REPEAT)
    {
        return Err(format!("{{{bounds}}} repeats more than {MAX_REPEAT} times"));
    }
    translated.push('{');
    translated.push_str(bounds);
    translated.push('}');
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted() {
        for good in [
            "",
            ".*",
            "^/api/v[0-9]+/.*$",
            "/users/{id}",
            "a{2,3}",
            "[[]",
            "[]a]",
            "[^]a]",
            "[a&&b]",
            "[--a]",
            "[[:alpha:]_]+",
            "(?i)abc",
            "(?P<name>x)",
            r"\Qa.b(\E.*",
            r"\d+\.\w",
            "a{,2}",
            "x}",
            r"\pL",
            "[a-z~~]",
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
    }

    #[test]
    fn refused() {
        for bad in [
            "(",
            "*a",
            "[a",
            "a{2000}",
            "(?=x)",
            r"(a)\1",
            "((a{1000}){1000})",
            &"a".repeat(1025),
            "[z-a]",
        ] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }
}
