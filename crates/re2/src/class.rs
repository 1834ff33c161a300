//! Classes of characters: `[a-z]`, `\d`, `\p{Greek}`, and characters that are escaped.

use crate::cursor::Cursor;
use crate::{Fault, Problem, property};

/// Largest code that an escape may have: Envoy reads expressions as bytes.
const MAX: u32 = 0xFF;

/// The ASCII classes of `[[:…:]]` (POSIX, and RE2's `word`).
const NAMES: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// `[…]`, for Rust. Its `[` is next.
pub(crate) fn bracketed(input: &mut Cursor<'_>) -> Result<String, Fault> {
    let start = *input;
    input.next();
    let negated = input.eat("^");
    let mut items = String::new();
    let mut is_first = true;
    loop {
        match input.peek() {
            None => return Err(start.fault(Problem::MissingBracket)),
            Some(']') if !is_first => break,
            Some(_) => items.push_str(&item(input, start)?),
        }
        is_first = false;
    }
    input.next();
    Ok(format!("[{}{items}]", if negated { "^" } else { "" }))
}

/// A named class, a range or a character of a class.
fn item(input: &mut Cursor<'_>, class: Cursor<'_>) -> Result<String, Fault> {
    if let Some(named) = posix(input)? {
        return Ok(named);
    }
    if let Some(group) = group(input)? {
        return Ok(group);
    }
    let start = *input;
    let low = character(input, class)?;
    let ends = |rest: &str| {
        rest.strip_prefix('-')
            .is_none_or(|rest| rest.is_empty() || rest.starts_with(']'))
    };
    if ends(input.rest()) {
        return Ok(range(low, low));
    }
    input.eat("-");
    let high = character(input, class)?;
    if high < low {
        return Err(start.fault(Problem::Range(input.since(start).to_owned())));
    }
    Ok(range(low, high))
}

/// `[:alpha:]` or `[:^alpha:]`, if it is next. Without an end `[` is a character.
fn posix(input: &mut Cursor<'_>) -> Result<Option<String>, Fault> {
    let start = *input;
    if !input.eat("[:") {
        return Ok(None);
    }
    let Some(name) = input.until(":]") else {
        *input = start;
        return Ok(None);
    };
    if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
        return Err(start.fault(Problem::ClassName(format!("[:{name}:]"))));
    }
    Ok(Some(format!("[:{name}:]")))
}

/// `\d`, `\p{Greek}` and the like, if one is next: an item of a class.
pub(crate) fn group(input: &mut Cursor<'_>) -> Result<Option<String>, Fault> {
    let perl = [
        ("\\d", "0-9"),
        ("\\D", "\\x{0}-/:-\\x{10FFFF}"),
        ("\\s", "\\t\\n\\x0C\\r\\x20"),
        ("\\S", "\\x{0}-\\x08\\x0B\\x0E-\\x1F\\x21-\\x{10FFFF}"),
        ("\\w", "0-9A-Za-z_"),
        ("\\W", "\\x{0}-/:-@\\x5B-\\x5E`\\x7B-\\x{10FFFF}"),
    ];
    for (escape, items) in perl {
        if input.eat(escape) {
            return Ok(Some(items.to_owned()));
        }
    }
    let start = *input;
    let negated = input.eat("\\P");
    if !negated && !input.eat("\\p") {
        return Ok(None);
    }
    let whole = |input: &Cursor<'_>| Problem::Property(input.since(start).to_owned());
    let mut letter = [0; 4];
    let name = match input.next() {
        Some('{') => match input.until("}") {
            Some(name) => name,
            None => return Err(start.fault(whole(input))),
        },
        Some(c) => c.encode_utf8(&mut letter),
        None => return Err(start.fault(whole(input))),
    };
    let (name, negated) = match name.strip_prefix('^') {
        Some(name) => (name, !negated),
        None => (name, negated),
    };
    match property::rust(name, negated) {
        Some(group) => Ok(Some(group)),
        None => Err(start.fault(whole(input))),
    }
}

/// A character of a class; escapes may be written for any.
fn character(input: &mut Cursor<'_>, class: Cursor<'_>) -> Result<u32, Fault> {
    match input.peek() {
        Some('\\') => escaped(input),
        Some(c) => {
            input.next();
            Ok(u32::from(c))
        }
        None => Err(class.fault(Problem::MissingBracket)),
    }
}

/// The code point of an escape. Its `\` is next.
pub(crate) fn escaped(input: &mut Cursor<'_>) -> Result<u32, Fault> {
    let start = *input;
    input.next();
    let Some(c) = input.next() else {
        return Err(start.fault(Problem::TrailingBackslash));
    };
    let code = match c {
        'a' => Some(7),
        't' => Some(9),
        'n' => Some(10),
        'v' => Some(11),
        'f' => Some(12),
        'r' => Some(13),
        'x' => hexadecimal(input),
        // A single digit would be a reference to a group.
        '1'..='7' if !input.peek().is_some_and(|c| c.is_digit(8)) => None,
        '0'..='7' => Some(octal(c, input)).filter(|code| *code <= MAX),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
        _ => None,
    };
    code.ok_or_else(|| start.fault(Problem::Escape(input.since(start).to_owned())))
}

/// Up to two more digits.
fn octal(first: char, input: &mut Cursor<'_>) -> u32 {
    let mut code = first.to_digit(8).unwrap_or_default();
    for _ in 0..2 {
        match input.peek().and_then(|c| c.to_digit(8)) {
            Some(digit) => {
                code = code * 8 + digit;
                input.next();
            }
            None => break,
        }
    }
    code
}

/// `41` or `{10FFFF}`.
fn hexadecimal(input: &mut Cursor<'_>) -> Option<u32> {
    if !input.eat("{") {
        let (high, low) = (input.next()?.to_digit(16)?, input.next()?.to_digit(16)?);
        return Some(high * 16 + low);
    }
    let mut code: Option<u32> = None;
    loop {
        match input.next()? {
            '}' => return code,
            c => {
                let next = code.unwrap_or(0) * 16 + c.to_digit(16)?;
                code = Some(next).filter(|code| *code <= MAX);
                code?;
            }
        }
    }
}

/// A range as an item of a class of Rust's.
pub(crate) fn range(low: u32, high: u32) -> String {
    match low == high {
        true => format!("\\x{{{low:X}}}"),
        false => format!("\\x{{{low:X}}}-\\x{{{high:X}}}"),
    }
}
