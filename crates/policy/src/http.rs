//! What HTTP says of names and queries.

use std::collections::BTreeMap;

use expr::StringLookup;

/// Headers found by name in any case, as HTTP has it; the map's names are in lower case.
#[derive(Clone, Copy, Debug)]
pub struct HeaderMap<'a>(pub &'a dyn StringLookup);

impl StringLookup for HeaderMap<'_> {
    fn lookup(&self, key: &str) -> Option<&str> {
        if key.bytes().any(|b| b.is_ascii_uppercase()) {
            return self.0.lookup(&key.to_ascii_lowercase());
        }
        self.0.lookup(key)
    }

    fn entries(&self) -> Vec<(&str, &str)> {
        self.0.entries()
    }
}

/// Takes the query of a path apart; escapes are decoded, and of parameters given twice the first counts. At most 256
/// parameters are read.
pub fn query_of(path: &str) -> BTreeMap<String, String> {
    let query = path.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let query = query.split('#').next().unwrap_or_default();
    let mut parameters = BTreeMap::new();
    for part in query.split('&').filter(|part| !part.is_empty()).take(256) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        parameters.entry(decode(name)).or_insert_with(|| decode(value));
    }
    parameters
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                match (digit(ahead.next()), digit(ahead.next())) {
                    (Some(high), Some(low)) => {
                        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                        rest = ahead;
                    }
                    _ => bytes.push(byte),
                }
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = query_of("/a?x=1&y=a%20b+c&x=2&z&%zz=%4");
        let expected = [("%zz", "%4"), ("x", "1"), ("y", "a b c"), ("z", "")];
        assert_eq!(query.entries(), expected);
        assert!(query_of("/a").is_empty());
    }
}
