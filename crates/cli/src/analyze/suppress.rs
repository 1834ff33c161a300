//! `--suppress CODE=KIND NAME.NAMESPACE`: messages that are left out for some objects.

use analysis::{Code, Message};
use anyhow::bail;

/// One use of the flag.
pub(super) struct Suppression {
    code: String,
    /// With `*` for any text.
    pattern: String,
}

impl Suppression {
    /// Whether it leaves the message out. The object is written `KIND NAME.NAMESPACE`, as Istio documents it, or
    /// `KIND NAMESPACE/NAME`, as messages write it.
    pub(super) fn covers(&self, message: &Message) -> bool {
        if self.code != message.code.id() {
            return false;
        }
        let dotted = message
            .object
            .as_ref()
            .map(|object| match object.namespace.as_str() {
                "" => format!("{} {}", object.kind, object.name),
                namespace => format!("{} {}.{namespace}", object.kind, object.name),
            });
        [Some(message.subject()), dotted]
            .iter()
            .flatten()
            .any(|object| glob(&self.pattern, object))
    }
}

/// The flag's values. A code that does not exist is told of and has no effect, as with `istioctl`.
pub(super) fn parse(values: &[String]) -> anyhow::Result<Vec<Suppression>> {
    let mut all = Vec::new();
    for value in values {
        let Some((code, pattern)) = value
            .split_once('=')
            .filter(|(_, pattern)| !pattern.contains('='))
        else {
            bail!(
                "--suppress {value:?} has not the form 'CODE=KIND NAME.NAMESPACE', such as 'IST0103=Pod *.shop'"
            );
        };
        if Code::find(code).is_none_or(|known| known.id() != code) {
            eprintln!(
                "Warning: Supplied message code '{code}' is an unknown message code and will not have any effect."
            );
        }
        all.push(Suppression {
            code: code.to_owned(),
            pattern: pattern.to_owned(),
        });
    }
    Ok(all)
}

/// Whether `text` has the pattern's pieces in order, the first and last at its ends.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match text.split_once(piece) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("Pod a.shop", "Pod a.shop", true),
            ("Pod *.shop", "Pod a.shop", true),
            ("Pod *.shop", "Pod a.shops", false),
            ("Pod *", "Pod shop/a", true),
            ("*", "anything", true),
            ("* a*b*", "Pod axb.shop", true),
            ("* a*b*", "Pod xab", false),
            ("Pod a*a", "Pod a", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
