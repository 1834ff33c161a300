//! Tokens: JWTs that an issuer of `identity.yaml` signed for a Kubernetes-like service account.

use std::collections::BTreeSet;

use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;

use super::jwks::NoKey;
use crate::identity_file::TokenIssuer;

/// How far clocks may be apart, in seconds.
pub const LEEWAY: i64 = 60;
/// Largest token, in bytes.
pub const MAX_TOKEN: usize = 16 << 10;

/// The service account that a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Why a token does not hold, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Not a JWT.
    #[error("it is not a JWT (three base64url parts with JSON in the first two)")]
    Malformed,
    /// Too long.
    #[error("it is longer than {MAX_TOKEN} bytes")]
    TooLong,
    /// Header parameters that change the meaning of the token.
    #[error("its header has \"crit\", which is not supported")]
    Critical,
    /// Its `iss` is nobody we know.
    #[error("its issuer {0:?} is not one of identity.yaml's tokenIssuers")]
    Issuer(String),
    /// Its `kid` is none of the issuer's.
    #[error(
        "its issuer has no key with its kid; if the issuer's keys have changed, update the issuer's jwks"
    )]
    UnknownKey,
    /// It has no `kid`, and the issuer has several keys.
    #[error("it has no kid, and its issuer has several keys")]
    AmbiguousKey,
    /// Its `alg` is not one for that key.
    #[error("its algorithm {0:?} does not fit the issuer's key")]
    Algorithm(Algorithm),
    /// The signature is not the issuer's.
    #[error(
        "its signature does not verify: it was changed, or its signer is not the issuer whose name it carries"
    )]
    Signature,
    /// A claim has the wrong type, or is there twice.
    #[error("its claims cannot be read: wanted are iss, sub and exp, and aud as a text or a list")]
    Claims,
    /// It has no end.
    #[error("it has no exp: tokens must expire")]
    NoExpiry,
    /// It has ended, at this time (seconds since 1970).
    #[error("it expired at {}; get a new one (if it should be valid, check the clocks)", utc(.0))]
    Expired(i64),
    /// It begins at this time (seconds since 1970).
    #[error("it is valid only from {}; check the clocks of its issuer and of Citadel", utc(.0))]
    NotYet(i64),
    /// It is for somebody else.
    #[error(
        "its audience is not one that identity.yaml names for its issuer; get one for this audience: {0}"
    )]
    Audience(String),
    /// Its subject is not a service account.
    #[error("its subject is not system:serviceaccount:NAMESPACE:NAME with valid Kubernetes names")]
    Subject,
}

/// Seconds since 1970 as a time of day; the same token gives the same message however often it is refused.
fn utc(seconds: &i64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(*seconds).ok();
    let text = time.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_else(|| format!("{seconds} s since 1970"))
}

impl TokenRefusal {
    /// A short name, for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed | Self::TooLong | Self::Critical | Self::Claims => "malformed_token",
            Self::Issuer(_) => "unknown_issuer",
            Self::UnknownKey | Self::AmbiguousKey => "unknown_key",
            Self::Algorithm(_) => "wrong_algorithm",
            Self::Signature => "bad_signature",
            Self::NoExpiry => "no_expiry",
            Self::Expired(_) => "expired_token",
            Self::NotYet(_) => "token_not_yet_valid",
            Self::Audience(_) => "wrong_audience",
            Self::Subject => "malformed_subject",
        }
    }
}

/// Just enough of unverified claims to choose the issuer.
#[derive(Deserialize)]
struct Unverified {
    #[serde(default)]
    iss: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Option<Audience>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn has(&self, accepted: &BTreeSet<String>) -> bool {
        match self {
            Self::One(one) => accepted.contains(one),
            Self::Many(many) => many.iter().any(|one| accepted.contains(one)),
        }
    }
}

/// Verifies a token at `now` (seconds since 1970).
///
/// The issuer is chosen by the token's own `iss` and its key by `kid`; from there on only what the signature covers
/// counts.
///
/// # Errors
/// When a check fails; the message says which one, and what to do.
pub fn verify(issuers: &[TokenIssuer], token: &str, now: i64) -> Result<Account, TokenRefusal> {
    if token.len() > MAX_TOKEN {
        return Err(TokenRefusal::TooLong);
    }
    if token.split('.').count() != 3 {
        return Err(TokenRefusal::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenRefusal::Malformed)?;
    if header.crit.is_some() {
        return Err(TokenRefusal::Critical);
    }
    let unverified: Unverified =
        jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| TokenRefusal::Malformed)?;
    let issuer = issuers
        .iter()
        .find(|i| i.issuer == unverified.iss)
        .ok_or_else(|| {
            let shown = unverified.iss.chars().take(128).collect();
            TokenRefusal::Issuer(shown)
        })?;
    let key = issuer
        .keys
        .find(header.kid.as_deref(), header.alg)
        .map_err(|e| match e {
            NoKey::Unknown => TokenRefusal::UnknownKey,
            NoKey::Ambiguous => TokenRefusal::AmbiguousKey,
        })?;
    if !key.allows(header.alg) {
        return Err(TokenRefusal::Algorithm(header.alg));
    }
    let claims = jsonwebtoken::decode::<Claims>(token, key.decoding(), &signature_only(header.alg));
    let claims = claims.map_err(|e| match e.kind() {
        jsonwebtoken::errors::ErrorKind::Json(_) => TokenRefusal::Claims,
        _ => TokenRefusal::Signature,
    })?;
    check_claims(&claims.claims, issuer, now)
}

/// jsonwebtoken checks the signature; the claims are checked here, for the clock is an argument.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

fn check_claims(claims: &Claims, issuer: &TokenIssuer, now: i64) -> Result<Account, TokenRefusal> {
    if claims.iss != issuer.issuer {
        return Err(TokenRefusal::Claims);
    }
    let expiry = seconds(claims.exp.ok_or(TokenRefusal::NoExpiry)?)?;
    if now.saturating_sub(expiry) >= LEEWAY {
        return Err(TokenRefusal::Expired(expiry));
    }
    for start in [claims.nbf, claims.iat].into_iter().flatten() {
        let start = seconds(start)?;
        if start.saturating_sub(now) > LEEWAY {
            return Err(TokenRefusal::NotYet(start));
        }
    }
    if !claims.aud.as_ref().is_some_and(|aud| aud.has(&issuer.audiences)) {
        let wanted: Vec<&str> = issuer.audiences.iter().map(String::as_str).collect();
        return Err(TokenRefusal::Audience(wanted.join(" or ")));
    }
    account(&claims.sub).ok_or(TokenRefusal::Subject)
}

/// A NumericDate (RFC 7519, section 2) may have a fraction.
fn seconds(date: f64) -> Result<i64, TokenRefusal> {
    #[allow(clippy::cast_possible_truncation, reason = "the range is checked")]
    match (0.0..=253_402_300_799.0).contains(&date) {
        true => Ok(date as i64),
        false => Err(TokenRefusal::Claims),
    }
}

/// The account that `system:serviceaccount:NAMESPACE:NAME` names; `None` when it is anything else.
pub(crate) fn account(subject: &str) -> Option<Account> {
    let mut parts = subject.split(':');
    let fixed = (parts.next()?, parts.next()?) == ("system", "serviceaccount");
    let (namespace, name) = (parts.next()?, parts.next()?);
    let label = |text: &str| {
        let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        (1..=63).contains(&text.len())
            && text.bytes().all(inside)
            && !text.starts_with('-')
            && !text.ends_with('-')
    };
    let subdomain = |text: &str| text.len() <= 253 && text.split('.').all(label);
    let valid = fixed && parts.next().is_none() && label(namespace) && subdomain(name);
    valid.then(|| Account {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "cases read better by value")]
mod tests {
    use super::*;
    use crate::auth::jwks::KeySet;
    use crate::token::IssuerKey;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};
    use std::sync::{Arc, LazyLock};

    const NOW: i64 = 1_700_000_000;
    static KEY: LazyLock<IssuerKey> = LazyLock::new(|| IssuerKey::generate().unwrap());

    fn issuers() -> Vec<TokenIssuer> {
        let keys = Arc::new(KeySet::parse(&KEY.jwks().unwrap()).unwrap());
        vec![TokenIssuer {
            issuer: "https://issuer".into(),
            audiences: BTreeSet::from(["argosy-ca".into()]),
            keys,
        }]
    }

    fn claims(changes: Value) -> Value {
        let mut claims = json!({
            "iss": "https://issuer", "aud": ["argosy-ca"], "sub": "system:serviceaccount:shop:orders",
            "iat": NOW, "exp": NOW + 600,
        });
        for (name, value) in changes.as_object().unwrap() {
            match value.is_null() {
                true => drop(claims.as_object_mut().unwrap().remove(name)),
                false => claims[name] = value.clone(),
            }
        }
        claims
    }

    fn header() -> Header {
        Header {
            kid: Some(KEY.kid().into()),
            ..Header::new(Algorithm::ES256)
        }
    }

    fn sign(header: &Header, claims: &Value) -> String {
        let key = EncodingKey::from_ec_pem(KEY.to_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(header, claims, &key).unwrap()
    }

    fn check(changes: Value, expected: Result<(&str, &str), TokenRefusal>) {
        let token = sign(&header(), &claims(changes.clone()));
        let seen = verify(&issuers(), &token, NOW);
        let expected = expected.map(|(ns, sa)| Account {
            namespace: ns.into(),
            name: sa.into(),
        });
        assert_eq!(seen, expected, "{changes}");
    }

    #[test]
    fn claims_decide_whose_token_it_is() {
        let refused = |changes, refusal| check(changes, Err(refusal));
        check(json!({}), Ok(("shop", "orders")));
        check(json!({"aud": "argosy-ca"}), Ok(("shop", "orders")));
        check(json!({"aud": ["other", "argosy-ca"]}), Ok(("shop", "orders")));
        check(json!({"iat": null}), Ok(("shop", "orders")));
        check(json!({"exp": NOW as f64 + 0.5}), Ok(("shop", "orders")));
        let wrong_audience = || TokenRefusal::Audience("argosy-ca".into());
        refused(json!({"aud": ["other"]}), wrong_audience());
        refused(json!({"aud": []}), wrong_audience());
        refused(json!({"aud": null}), wrong_audience());
        refused(json!({"aud": 5}), TokenRefusal::Claims);
        refused(
            json!({"iss": "https://other"}),
            TokenRefusal::Issuer("https://other".into()),
        );
        refused(json!({"iss": null}), TokenRefusal::Issuer(String::new()));
        refused(json!({"exp": null}), TokenRefusal::NoExpiry);
        refused(json!({"exp": "soon"}), TokenRefusal::Claims);
        refused(json!({"exp": 1e300}), TokenRefusal::Claims);
        refused(json!({"exp": -5}), TokenRefusal::Claims);
    }

    #[test]
    fn a_minute_of_clock_skew_is_forgiven_and_more_is_named() {
        check(json!({"exp": NOW - 59}), Ok(("shop", "orders")));
        check(json!({"exp": NOW - 60}), Err(TokenRefusal::Expired(NOW - 60)));
        check(json!({"iat": NOW + 60, "nbf": NOW + 60}), Ok(("shop", "orders")));
        check(json!({"iat": NOW + 61}), Err(TokenRefusal::NotYet(NOW + 61)));
        check(json!({"nbf": NOW + 61}), Err(TokenRefusal::NotYet(NOW + 61)));
    }

    #[test]
    fn subjects_are_service_accounts_to_the_letter() {
        check(
            json!({"sub": "system:serviceaccount:shop:orders.v1"}),
            Ok(("shop", "orders.v1")),
        );
        for bad in [
            "shop:orders",
            "system:serviceaccount:shop",
            "system:serviceaccount:shop:orders:x",
            "system:node:shop:orders",
            "system:serviceaccount::orders",
            "system:serviceaccount:shop:",
            "system:serviceaccount:Shop:orders",
            "system:serviceaccount:shop/sa/x:orders",
            "system:serviceaccount:shop:../x",
            "system:serviceaccount:a.b:c",
            "system:serviceaccount:shop:-x",
            "system:serviceaccount:shop:x..y",
        ] {
            check(json!({"sub": bad}), Err(TokenRefusal::Subject));
        }
        check(json!({"sub": null}), Err(TokenRefusal::Claims));
    }

    #[test]
    fn signatures_keys_and_algorithms_must_fit() {
        let good = sign(&header(), &claims(json!({})));
        let refused =
            |token: &str, refusal| assert_eq!(verify(&issuers(), token, NOW), Err(refusal), "{token}");
        let (rest, signature) = good.rsplit_once('.').unwrap();
        let (head, _) = rest.split_once('.').unwrap();
        let other = sign(
            &header(),
            &claims(json!({"sub": "system:serviceaccount:argosy-system:citadel"})),
        );
        let payload = other.split('.').nth(1).unwrap();
        refused(&format!("{head}.{payload}.{signature}"), TokenRefusal::Signature);
        refused(&format!("{rest}."), TokenRefusal::Signature);
        let stranger = IssuerKey::generate().unwrap();
        let key = EncodingKey::from_ec_pem(stranger.to_pem().as_bytes()).unwrap();
        refused(
            &jsonwebtoken::encode(&header(), &claims(json!({})), &key).unwrap(),
            TokenRefusal::Signature,
        );
        let unknown = Header {
            kid: Some("other".into()),
            ..header()
        };
        refused(&sign(&unknown, &claims(json!({}))), TokenRefusal::UnknownKey);
        let critical = Header {
            crit: Some(vec!["exp".into()]),
            ..header()
        };
        refused(&sign(&critical, &claims(json!({}))), TokenRefusal::Critical);
        // The public key as an HMAC secret, the classic confusion of algorithms.
        let hmac = Header {
            kid: Some(KEY.kid().into()),
            ..Header::new(Algorithm::HS256)
        };
        let secret = EncodingKey::from_secret(KEY.jwks().unwrap().as_bytes());
        let token = jsonwebtoken::encode(&hmac, &claims(json!({})), &secret).unwrap();
        refused(&token, TokenRefusal::Algorithm(Algorithm::HS256));
    }

    #[test]
    fn what_is_no_jwt_is_refused_without_a_panic() {
        let encode = |text: &str| base64_url(text.as_bytes());
        let none = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode("{}"));
        let null = format!("{}.{}.x", encode(r#"{"alg":"ES256"}"#), encode("null"));
        for bad in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "ä.ö.ü", &none, &null] {
            assert_eq!(
                verify(&issuers(), bad, NOW),
                Err(TokenRefusal::Malformed),
                "{bad}"
            );
        }
        assert_eq!(
            verify(&issuers(), &"a".repeat(MAX_TOKEN + 1), NOW),
            Err(TokenRefusal::TooLong)
        );
    }

    fn base64_url(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let bits =
                chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for place in 0..=chunk.len() {
                text.push(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize] as char);
            }
        }
        text
    }
}
