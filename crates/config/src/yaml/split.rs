//! Cuts a file at the lines that separate documents. A line that begins with `---` ends what is before it, whatever that
//! was (YAML 1.2.2, 9.1.1 and 9.2), so that a broken document cannot take the next one with it.

/// Part of a file that begins with a separator, or is the file's beginning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    /// Number of its first line.
    pub(crate) line: u32,
    pub(crate) text: &'a [u8],
}

/// The lines of a text with their breaks: `\n`, `\r\n`, or `\r` alone (YAML 1.2.2, 5.4), by which the parser counts too.
pub(crate) fn lines(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let end = match text.iter().position(|byte| b"\r\n".contains(byte)) {
            Some(at) if text.get(at..at + 2) == Some(b"\r\n") => at + 2,
            Some(at) => at + 1,
            None => text.len(),
        };
        let (line, rest) = text.split_at_checked(end)?;
        text = rest;
        Some(line)
    })
}

/// Whether a line (with its line break) separates documents.
fn separates(line: &[u8]) -> bool {
    line.strip_prefix(b"---")
        .is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
}

/// Whether a chunk has nothing that belongs to a document of its own: blank lines, comments, directives.
fn is_prelude(text: &[u8]) -> bool {
    lines(text).all(|line| {
        let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        line.starts_with(b"%") || line.trim_ascii().is_empty() || line.trim_ascii().starts_with(b"#")
    })
}

/// The chunks of a file, those without content left out.
pub(crate) fn chunks(text: &[u8]) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line) = (0, 1);
    let (mut position, mut line) = (0, 1);
    let mut push = |from: usize, to: usize, line: u32| {
        let text = text.get(from..to).unwrap_or_default();
        if !is_prelude(text) {
            chunks.push(Chunk { line, text });
        }
    };
    for text in lines(text) {
        if separates(text) {
            push(start, position, start_line);
            (start, start_line) = (position, line);
        }
        position += text.len();
        line += 1;
    }
    push(start, position, start_line);
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(u32, &str)]) {
        let seen = chunks(text.as_bytes());
        let seen: Vec<_> = seen
            .iter()
            .map(|c| (c.line, std::str::from_utf8(c.text).unwrap()))
            .collect();
        assert_eq!(seen, expected, "{text:?}");
    }

    #[test]
    fn cuts_at_separators() {
        check("a: 1\n---\nb: 2\n", &[(1, "a: 1\n"), (2, "---\nb: 2\n")]);
        check("a: \"open\n---\nb: 2", &[(1, "a: \"open\n"), (2, "---\nb: 2")]);
        check(
            "a: |\n  ---\n  x\n---x: 1\n",
            &[(1, "a: |\n  ---\n  x\n---x: 1\n")],
        );
        check("# note\n%YAML 1.2\n---\na: 1\n", &[(3, "---\na: 1\n")]);
        check("a: 1\r\n---\r\nb: 2", &[(1, "a: 1\r\n"), (2, "---\r\nb: 2")]);
        check(
            "a: 1\r# x\r---\rb: 2\n",
            &[(1, "a: 1\r# x\r"), (3, "---\rb: 2\n")],
        );
        check("---", &[(1, "---")]);
        check("", &[]);
    }
}
