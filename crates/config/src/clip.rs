//! Bounds on what messages repeat of their input: a name may be as long as a file, what is said of it may not.

/// Longest message or help, in bytes.
pub(crate) const MESSAGE: usize = 2_000;
/// Longest name, path's key or line of somebody else's text, in bytes; Kubernetes' own names have at most 253.
pub(crate) const NAME: usize = 300;

/// The text, or its beginning and its size where it is longer than `limit` bytes.
pub(crate) fn clip(mut text: String, limit: usize) -> String {
    if text.len() <= limit {
        return text;
    }
    let size = text.len();
    text.truncate(text.floor_char_boundary(limit));
    text.push_str(&format!("… ({size} bytes)"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_keep_their_beginning() {
        assert_eq!(clip("abc".to_owned(), 3), "abc");
        assert_eq!(clip("abcd".to_owned(), 3), "abc… (4 bytes)");
        assert_eq!(clip("aéé".to_owned(), 2), "a… (5 bytes)");
    }
}
