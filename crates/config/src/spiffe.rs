//! SPIFFE IDs and trust domains (SPIFFE-ID specification, sections 2.1 to 2.4).

/// Longest trust domain, in bytes.
const MAX_DOMAIN: usize = 255;
/// Longest ID, in bytes.
const MAX_ID: usize = 2048;
/// What an ID begins with.
pub(crate) const SCHEME: &str = "spiffe://";

/// Why a text is no SPIFFE ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// The scheme is another.
    #[error("does not begin with spiffe://")]
    Scheme,
    /// Longer than 2048 bytes.
    #[error("is longer than {MAX_ID} bytes")]
    TooLong,
    /// The trust domain is empty, too long, or has other characters.
    #[error(
        "has a trust domain that is not 1 to {MAX_DOMAIN} lower-case letters, digits, dots, hyphens and underscores"
    )]
    TrustDomain,
    /// The path has an empty part, `.`, `..`, or other characters.
    #[error("has a path whose parts are not letters, digits, dots, hyphens and underscores")]
    Path,
}

/// Whether a text may name a trust domain (section 2.1).
pub fn is_trust_domain(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
    !text.is_empty() && text.len() <= MAX_DOMAIN && text.bytes().all(known)
}

/// The trust domain and the path of an ID; the path begins with a slash, or is empty.
///
/// # Errors
/// The rule of the specification that the text breaks.
pub fn parse(text: &str) -> Result<(&str, &str), SpiffeError> {
    let rest = text.strip_prefix(SCHEME).ok_or(SpiffeError::Scheme)?;
    if text.len() > MAX_ID {
        return Err(SpiffeError::TooLong);
    }
    let (domain, path) = rest
        .split_at_checked(rest.find('/').unwrap_or(rest.len()))
        .ok_or(SpiffeError::TrustDomain)?;
    if !is_trust_domain(domain) {
        return Err(SpiffeError::TrustDomain);
    }
    let known = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(known);
    match path.strip_prefix('/') {
        Some(parts) if !parts.split('/').all(part) => Err(SpiffeError::Path),
        _ => Ok((domain, path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let check = |text: &str, expected: Result<(&str, &str), SpiffeError>| {
            assert_eq!(parse(text), expected, "{text}");
        };
        check("spiffe://cluster.local", Ok(("cluster.local", "")));
        check("spiffe://a_b-1/ns/x/sa/Y", Ok(("a_b-1", "/ns/x/sa/Y")));
        check("http://a/b", Err(SpiffeError::Scheme));
        for domain in ["", "A", "a:1", "u@a", "a%20"] {
            check(&format!("spiffe://{domain}/x"), Err(SpiffeError::TrustDomain));
        }
        for path in ["/", "/a/", "//a", "/a/../b", "/.", "/a?b", "/a%20"] {
            check(&format!("spiffe://a{path}"), Err(SpiffeError::Path));
        }
        check(
            &format!("spiffe://a/{}", "b".repeat(2048)),
            Err(SpiffeError::TooLong),
        );
        check(
            &format!("spiffe://{}", "a".repeat(256)),
            Err(SpiffeError::TrustDomain),
        );
    }
}
