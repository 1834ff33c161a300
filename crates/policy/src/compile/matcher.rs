//! Conditions that a proxy evaluates by itself: trees of tests of a request's text and of its caller's address. They have no
//! errors: what is not there fails its test.

use std::collections::BTreeSet;

use ipnet::IpNet;

/// A condition on a request, or on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Matcher {
    /// Holds for everything.
    Always,
    /// Holds for nothing.
    Never,
    /// All hold.
    All(Vec<Matcher>),
    /// At least one holds.
    Any(Vec<Matcher>),
    /// Does not hold.
    Not(Box<Matcher>),
    /// A text is there and passes a test.
    Text(Fact, Test),
    /// The peer's own address, which no header changes, is in one of these networks.
    SourceIp(Vec<IpNet>),
}

/// A text that a proxy sees.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fact {
    /// A request header by its name in lower case, or a pseudo-header (`:path`). Several values are joined by commas.
    Header(String),
    /// The path without its query.
    UrlPath,
    /// The URI of the peer's verified certificate: `spiffe://…`.
    PeerUri,
}

/// What a text must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// Anything.
    Present,
    /// Exactly this.
    Exact(String),
    /// Begins with this, which is not empty.
    Prefix(String),
    /// Ends with this, which is not empty.
    Suffix(String),
    /// All of it matches this RE2 expression.
    Regex(String),
}

impl Test {
    /// One character or more.
    pub(super) fn not_empty() -> Self {
        Self::Regex("(?s:.)+".to_owned())
    }

    /// Begins with `text`.
    pub(super) fn prefix(text: &str) -> Self {
        match text {
            "" => Self::Present,
            text => Self::Prefix(text.to_owned()),
        }
    }

    /// Ends with `text`.
    pub(super) fn suffix(text: &str) -> Self {
        match text {
            "" => Self::Present,
            text => Self::Suffix(text.to_owned()),
        }
    }
}

impl Matcher {
    /// All of these, simplified.
    pub(crate) fn all(parts: impl IntoIterator<Item = Matcher>) -> Self {
        let mut out = Vec::new();
        for part in parts {
            match part {
                Self::Always => {}
                Self::Never => return Self::Never,
                Self::All(inner) => out.extend(inner),
                part => out.push(part),
            }
        }
        out.dedup();
        match (out.len(), out.pop()) {
            (_, None) => Self::Always,
            (1, Some(only)) => only,
            (_, Some(last)) => {
                out.push(last);
                Self::All(out)
            }
        }
    }

    /// One of these, simplified.
    pub(crate) fn any(parts: impl IntoIterator<Item = Matcher>) -> Self {
        let mut out = Vec::new();
        for part in parts {
            match part {
                Self::Never => {}
                Self::Always => return Self::Always,
                Self::Any(inner) => out.extend(inner),
                part => out.push(part),
            }
        }
        out.dedup();
        match (out.len(), out.pop()) {
            (_, None) => Self::Never,
            (1, Some(only)) => only,
            (_, Some(last)) => {
                out.push(last);
                Self::Any(out)
            }
        }
    }

    /// The opposite, simplified.
    pub(crate) fn negated(self) -> Self {
        match self {
            Self::Always => Self::Never,
            Self::Never => Self::Always,
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    pub(super) fn and(&self, other: &Matcher) -> Self {
        Self::all([self.clone(), other.clone()])
    }

    pub(super) fn or(&self, other: &Matcher) -> Self {
        Self::any([self.clone(), other.clone()])
    }

    /// The request headers that it reads, pseudo-headers aside.
    pub fn headers(&self) -> BTreeSet<&str> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::headers).collect(),
            Self::Not(inner) => inner.headers(),
            Self::Text(Fact::Header(name), _) if !name.starts_with(':') => BTreeSet::from([name.as_str()]),
            Self::Always | Self::Never | Self::Text(..) | Self::SourceIp(_) => BTreeSet::new(),
        }
    }

    /// How many nodes it has; each network counts.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Always | Self::Never | Self::Text(..) => 1,
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::size).sum::<usize>() + 1,
            Self::Not(inner) => inner.size() + 1,
            Self::SourceIp(networks) => networks.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_simplified() {
        let path = Matcher::Text(Fact::UrlPath, Test::Present);
        let host = Matcher::Text(Fact::Header(":authority".into()), Test::Present);
        assert_eq!(Matcher::all([]), Matcher::Always);
        assert_eq!(Matcher::any([]), Matcher::Never);
        assert_eq!(Matcher::all([Matcher::Always, path.clone()]), path);
        assert_eq!(Matcher::all([Matcher::Never, path.clone()]), Matcher::Never);
        assert_eq!(Matcher::any([Matcher::Always, path.clone()]), Matcher::Always);
        assert_eq!(path.clone().negated().negated(), path);
        let both = path.and(&host);
        assert_eq!(both.and(&Matcher::Always).size(), 3);
        assert_eq!(Matcher::any([both.clone(), Matcher::Never]), both);
        let user = Matcher::Text(Fact::Header("x-user".into()), Test::Present).negated();
        assert_eq!(both.or(&user).headers(), BTreeSet::from(["x-user"]));
    }
}
