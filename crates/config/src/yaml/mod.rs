//! YAML (and so JSON) as trees that know where each value was written. Bounded in size, depth and expansion, and each
//! document fails alone. Knows nothing of what the documents mean.

mod build;
mod node;
mod scalar;
mod split;

pub(crate) use node::{Data, Key, Node, camel_case};

use build::Builder;

/// Bounds on one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size in bytes.
    pub bytes: usize,
    /// Maps and lists inside one another.
    pub depth: usize,
    /// Values in the file, those repeated by aliases counted each time.
    pub nodes: usize,
    /// Bytes of text that aliases may repeat.
    pub alias_bytes: usize,
    /// Documents in the file.
    pub documents: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 10 << 20,
            depth: 64,
            nodes: 1_000_000,
            alias_bytes: 1 << 20,
            documents: 100_000,
        }
    }
}

/// Why a document, or the whole file, could not be read. Line and column count from 1; 0 means the whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(line: u32, column: u32, message: impl Into<String>) -> Self {
        Self {
            line,
            column,
            message: message.into(),
        }
    }
}

/// A document's tree, or all that is wrong with it as YAML.
pub(crate) type Document = Result<Node, Vec<Fault>>;

/// The documents of a file, empty ones left out.
pub(crate) fn documents(text: &[u8], limits: &Limits) -> Vec<Document> {
    if text.len() > limits.bytes {
        let (size, bound) = (text.len(), limits.bytes);
        let message =
            format!("the file has {size} bytes, more than the {bound} allowed; split it into several files");
        return vec![Err(vec![Fault::new(0, 0, message)])];
    }
    if text.contains(&0) {
        return vec![Err(vec![Fault::new(
            0,
            0,
            "the file is binary (it has NUL bytes), not YAML or JSON text; save it as UTF-8 text or move it elsewhere",
        )])];
    }
    let mut builder = Builder::new(*limits);
    let mut documents = Vec::new();
    for (read, chunk) in split::chunks(text).into_iter().enumerate() {
        // Empty documents leave nothing behind, but each costs a parser.
        let bound = match (read.max(documents.len()) >= limits.documents, builder.exhausted()) {
            (true, _) => Some(format!("{} documents", limits.documents)),
            (_, true) => Some(format!("{} values", limits.nodes)),
            _ => None,
        };
        if let Some(bound) = bound {
            let message = format!(
                "the file has more than {bound}; what follows is not read; split it into several files"
            );
            documents.push(Err(vec![Fault::new(chunk.line, 1, message)]));
            break;
        }
        match std::str::from_utf8(chunk.text) {
            Ok(text) => builder.read(text, chunk.line, &mut documents),
            Err(error) => {
                let before = chunk.text.get(..error.valid_up_to()).unwrap_or_default();
                let lines =
                    split::lines(before).filter(|line| line.ends_with(b"\n") || line.ends_with(b"\r"));
                let line = chunk
                    .line
                    .saturating_add(u32::try_from(lines.count()).unwrap_or(u32::MAX));
                documents.push(Err(vec![Fault::new(
                    line,
                    0,
                    "invalid UTF-8; save the file as UTF-8",
                )]));
            }
        }
    }
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_may_have_the_character_delete_in_its_strings() {
        let read = |text: &str| documents(text.as_bytes(), &Limits::default()).pop().unwrap();
        let with = |text: &str| read(&format!("{{\"a\": \"x{text}y\"}}\n")).unwrap();
        assert_eq!(with("\u{7f}"), with("\\x7f"));
        assert!(read("a: x\u{7f}y\n").is_err());
    }

    #[test]
    fn empty_documents_count() {
        let check = |text: &str, limits: Limits, line: u32, bound: &str| {
            let last = documents(text.as_bytes(), &limits).pop().unwrap();
            let fault = &last.unwrap_err()[0];
            assert_eq!(fault.line, line, "{text:?}");
            assert!(fault.message.contains(bound), "{}", fault.message);
        };
        let three = Limits {
            documents: 3,
            ..Limits::default()
        };
        check("---\n---\n---\n---\na: 1\n", three, 4, "more than 3 documents;");
        check(
            "a: 1\n---\nb: 1\n---\n---\nc: 1\n",
            three,
            5,
            "more than 3 documents;",
        );
        assert_eq!(documents(b"---\n---\n---\n", &three), []);
        let values = Limits {
            nodes: 4,
            ..Limits::default()
        };
        check(
            "a: [1, 2, 3, 4, 5]\n---\nb: 1\n",
            values,
            2,
            "more than 4 values;",
        );
    }
}
