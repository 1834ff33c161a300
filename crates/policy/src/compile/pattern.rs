//! Regular expressions of Mixer as RE2 expressions that mean the same.
//!
//! Rust's `regex` and RE2 read most expressions alike, but not all (`\d` is Unicode's here and ASCII's there). So an expression
//! is read as RE2's and written down again without anything that one of them understands differently.

use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::reason::Reason;

/// Largest expression that is handed on, in characters of text and ranges of classes with repetitions multiplied; about the
/// size of RE2's program, which proxies bound (`re2.max_program_size.error_level`).
const MAX_PROGRAM: u64 = 2_000;
/// RE2's own bound on counted repetitions (re2/parse.cc).
const MAX_REPEAT: u32 = 1_000;

/// An expression that all of a text matches just when `pattern` matches a part of it.
pub(super) fn within(pattern: &str) -> Result<String, Reason> {
    let problem = |why| Reason::Pattern(pattern.to_owned(), why);
    let read = expr::compile_pattern(pattern).map_err(|_| problem("cannot be read"))?;
    let parsed = regex_syntax::parse(read.as_str()).map_err(|_| problem("cannot be read"))?;
    let size = program(&parsed).map_err(problem)?;
    if size > MAX_PROGRAM {
        return Err(problem("is too large for a proxy"));
    }
    let written = parsed.to_string();
    // Bytes that are no characters.
    if written.contains("(?-u") {
        return Err(problem("is about bytes"));
    }
    Ok(format!("(?s:.)*(?:{written})(?s:.)*"))
}

/// The size of the program, or what RE2 does not have.
fn program(hir: &Hir) -> Result<u64, &'static str> {
    Ok(match hir.kind() {
        HirKind::Empty => 0,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(Class::Unicode(class)) => class.ranges().len() as u64,
        HirKind::Class(Class::Bytes(class)) => class.ranges().len() as u64,
        HirKind::Look(Look::Start | Look::End | Look::StartLF | Look::EndLF) => 1,
        HirKind::Look(_) => return Err("has word boundaries, which proxies understand otherwise"),
        HirKind::Repetition(repeated) => {
            let times = repeated.max.unwrap_or(0).max(repeated.min).max(1);
            if times > MAX_REPEAT {
                return Err("repeats more often than proxies allow");
            }
            program(&repeated.sub)?.saturating_mul(u64::from(times))
        }
        HirKind::Capture(capture) => program(&capture.sub)?,
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            let mut sum = 0u64;
            for part in parts {
                sum = sum.saturating_add(program(part)?);
            }
            sum
        }
    })
}

/// An expression for the texts whose lower case (Unicode's) is `text`; none if `text` is not ASCII.
pub(super) fn lower_case(text: &str) -> Option<String> {
    if !text.is_ascii() {
        return None;
    }
    let mut out = String::new();
    for c in text.chars() {
        match c {
            // The Kelvin sign has the lower case k.
            'k' => out.push_str("[kK\u{212a}]"),
            'a'..='z' => out.extend(['[', c, c.to_ascii_uppercase(), ']']),
            c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        let translated = within(pattern).unwrap();
        regex::Regex::new(&format!("^(?:{translated})$"))
            .unwrap()
            .is_match(text)
    }

    #[test]
    fn a_part_of_the_text_is_enough() {
        assert!(matches("b+", "abbc") && !matches("b+", "ac"));
        assert!(matches("^a", "abc") && !matches("^b", "abc"));
        assert!(matches("a|^c$", "xa") && matches("a|^c$", "c") && !matches("a|^c$", "cc"));
        assert!(matches("(?i)SSN", "the ssn"));
        assert!(
            matches(r"\d{2}", "x12y") && !matches(r"\d{2}", "x٠١y"),
            "digits are ASCII's"
        );
    }

    #[test]
    fn what_re2_reads_otherwise_stays_with_mixer() {
        for pattern in [
            r"\bword\b",
            "a{1001}",
            "[^bd]{900}",
            "(a{100}){100}",
            r"(?-u:\xff)",
        ] {
            assert!(matches!(within(pattern), Err(Reason::Pattern(..))), "{pattern}");
        }
    }

    #[test]
    fn lower_case_of_what() {
        let pattern = regex::Regex::new(&format!("^(?:{})$", lower_case("a.k").unwrap())).unwrap();
        for text in ["a.k", "A.K", "A.\u{212a}", "axk", "a.q"] {
            assert_eq!(pattern.is_match(text), text.to_lowercase() == "a.k", "{text}");
        }
        assert_eq!(lower_case("é"), None);
    }
}
