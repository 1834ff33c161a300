//! Looks over JSON before it is parsed: how deep it nests and how many values it has. Parsing costs memory for each value,
//! and a few bytes make many; this costs none.
//!
//! It does not check that the text is JSON; the parser does.

/// Deepest nesting: 64 in the object, and the request around it.
const MAX_DEPTH: usize = 66;
/// Most values (items of lists and fields of maps). The largest object that etcd takes has fewer, unless it is made of
/// empty ones.
const MAX_VALUES: usize = 300_000;

/// More than a review may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// Nesting.
    #[error("the JSON nests deeper than 64 levels; no kind of the mesh does")]
    Depth,
    /// Values.
    #[error("the JSON has more than {MAX_VALUES} values; split the object")]
    Values,
}

/// Whether text of JSON keeps the bounds.
///
/// # Errors
/// Which one it breaks.
pub fn check(text: &[u8]) -> Result<(), TooMuch> {
    let (mut depth, mut values) = (0_usize, 0_usize);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'{' | b'[' => {
                depth += 1;
                values += 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(TooMuch::Depth);
        }
        if values > MAX_VALUES {
            return Err(TooMuch::Values);
        }
    }
    Ok(())
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_and_values_are_counted_outside_of_strings() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let flat = |values: usize| format!("[{}0]", "0,".repeat(values));
        for (text, expected) in [
            (nested(MAX_DEPTH), Ok(())),
            (nested(MAX_DEPTH + 1), Err(TooMuch::Depth)),
            ("[".repeat(5_000_000), Err(TooMuch::Depth)),
            (flat(MAX_VALUES - 1), Ok(())),
            (flat(MAX_VALUES), Err(TooMuch::Values)),
            ("[[],".repeat(30), Ok(())),
            (format!("{:?}", "[{,".repeat(400_000)), Ok(())),
            (format!(r#""\"{}""#, "[".repeat(100)), Ok(())),
            (format!(r#""\\"{}"#, "[".repeat(100)), Err(TooMuch::Depth)),
            (r#""unfinished \"#.to_owned(), Ok(())),
        ] {
            let start: String = text.chars().take(40).collect();
            assert_eq!(check(text.as_bytes()), expected, "{start}");
        }
    }
}
