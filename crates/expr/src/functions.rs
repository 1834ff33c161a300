//! The functions on plain text, numbers and addresses. Names (DNS, e-mail, URI) are in `names`.

use regex::{Regex, RegexBuilder};

use crate::MAX_PATTERN;

/// Go's units of time, in nanoseconds, longer names first.
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a length of time as Go's `time.ParseDuration` does (`1h30m`, `1.5s`, `-20ms`, `0`), in nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0i64;
    while !rest.is_empty() {
        let (amount, after) = parse_part(rest)?;
        total = total.checked_add(amount)?;
        rest = after;
    }
    Some(if negative { -total } else { total })
}

/// One number with its unit, and the text behind it.
fn parse_part(text: &str) -> Option<(i64, &str)> {
    let digits = |s: &str| s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    let (whole, rest) = text.split_at_checked(digits(text))?;
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at_checked(digits(rest))?,
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // "m" also begins "ms": the unit ends where the next number begins.
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(end)?;
    let (_, scale) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(scale)?;
    let mut place = scale;
    for digit in fraction.chars().filter_map(|c| c.to_digit(10)).take(18) {
        place /= 10;
        nanos = nanos.checked_add(i64::from(digit) * place)?;
    }
    Some((nanos, rest))
}

/// Writes nanoseconds as Go writes a duration: `1h0m0s`, `1.5s`, `19ms`, `0s`.
pub(crate) fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let decimal = |value: u64, scale: u64, digits: usize| {
        let text = format!("{}.{:0digits$}", value / scale, value % scale);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match n {
        0 => "0s".into(),
        n if n < 1_000 => format!("{sign}{n}ns"),
        n if n < 1_000_000 => format!("{sign}{}µs", decimal(n, 1_000, 3)),
        n if n < 1_000_000_000 => format!("{sign}{}ms", decimal(n, 1_000_000, 6)),
        n => {
            let (minutes, rest) = (n / 60_000_000_000, n % 60_000_000_000);
            let seconds = decimal(rest, 1_000_000_000, 9);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// `match(text, pattern)`: a `*` at the pattern's end or else at its beginning stands for any text.
pub fn wildcard_match(text: &str, pattern: &str) -> bool {
    if let Some(prefix) = pattern.strip_suffix('*') {
        return text.starts_with(prefix);
    }
    match pattern.strip_prefix('*') {
        Some(suffix) => text.ends_with(suffix),
        None => text == pattern,
    }
}

/// Compiles a pattern of `matches`, bounded in length and compiled size. It means what RE2 means by it.
///
/// # Errors
/// What is wrong with the pattern.
pub fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    compile(pattern, str::to_owned)
}

/// As [`compile_pattern`], where the pattern must match all of a text.
///
/// # Errors
/// What is wrong with the pattern.
pub fn compile_whole(pattern: &str) -> Result<Regex, String> {
    compile(pattern, |rust| format!("^(?:{rust})$"))
}

fn compile(pattern: &str, frame: impl Fn(&str) -> String) -> Result<Regex, String> {
    if pattern.len() > MAX_PATTERN {
        return Err(format!("longer than {MAX_PATTERN} bytes"));
    }
    let read = re2::parse(pattern).map_err(|fault| fault.to_string())?;
    RegexBuilder::new(&frame(read.rust()))
        .size_limit(1 << 20)
        .dfa_size_limit(1 << 20)
        .build()
        .map_err(|e| match e {
            regex::Error::CompiledTooBig(_) => "the pattern grows too large when compiled".to_owned(),
            e => e.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(parse_duration(text), expected, "{text}");
        check("0", Some(0));
        check("19ms", Some(19_000_000));
        check("1h30m", Some(5_400_000_000_000));
        check("-1.5s", Some(-1_500_000_000));
        check(".5us", Some(500));
        check("+2m", Some(120_000_000_000));
        for bad in ["", "1", "-", "s", ".s", "1x", "1s ", "9999999h", "1.2.3s"] {
            check(bad, None);
        }
    }

    #[test]
    fn durations_written_as_go_writes_them() {
        for text in [
            "0s", "19ms", "1.5s", "1h0m0s", "2m3.25s", "-20ms", "500ns", "1.5µs",
        ] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn wildcards() {
        assert!(wildcard_match("svc1.ns1.cluster", "*.ns1.cluster"));
        assert!(wildcard_match("anything", "*"));
        assert!(wildcard_match("/health/x", "/health*"));
        assert!(!wildcard_match("abc", "a*c"));
        assert!(wildcard_match("a*c", "a*c"));
    }

    #[test]
    fn patterns_are_bounded() {
        assert!(compile_pattern(&"a".repeat(MAX_PATTERN + 1)).is_err());
        assert!(compile_pattern("(a{1000}){1000}").is_err());
        assert!(compile_pattern("(").is_err());
    }
}
