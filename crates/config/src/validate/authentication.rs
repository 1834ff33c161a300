//! PeerAuthentication and RequestAuthentication.

use serde_json::Value;

use super::common::{attachment, port, some_duration, workload_selector};
use crate::jwks::{self, Origin};
use crate::path::At;
use crate::security::{JwtRule, PeerAuthentication, RequestAuthentication};

/// Largest inline key set, in bytes.
const MAX_JWKS: usize = 1 << 20;

/// Checks a PeerAuthentication.
pub(super) fn peer(spec: &PeerAuthentication, at: &At<'_>) {
    workload_selector("selector", spec.selector.as_ref(), at);
    let selects = spec
        .selector
        .as_ref()
        .is_some_and(|selector| !selector.match_labels.is_empty());
    if !spec.port_level_mtls.is_empty() && !selects {
        at.key("portLevelMtls")
            .error("ports belong to workloads; choose them by labels in selector");
    }
    for number in spec.port_level_mtls.keys() {
        port(*number, &at.key("portLevelMtls").key(&number.to_string()));
    }
}

/// Checks a RequestAuthentication.
pub(super) fn request(spec: &RequestAuthentication, at: &At<'_>) {
    attachment(
        spec.selector.as_ref(),
        spec.target_ref.as_ref(),
        &spec.target_refs,
        at,
    );
    at.each("jwtRules", &spec.jwt_rules, jwt_rule);
}

fn jwt_rule(rule: &JwtRule, at: &At<'_>) {
    if rule.issuer.is_empty() && rule.jwks_uri.is_empty() {
        at.error("issuer or jwksUri is needed");
    }
    if !rule.jwks.is_empty() && !rule.jwks_uri.is_empty() {
        at.error("jwks and jwksUri exclude one another; keep one of them");
    }
    if !rule.jwks_uri.is_empty() {
        https_url(&rule.jwks_uri, &at.key("jwksUri"));
    }
    if !rule.jwks.is_empty() {
        inline_keys(&rule.jwks, &at.key("jwks"));
    }
    some_duration("timeout", rule.timeout, at);
}

/// A URL of HTTP or HTTPS with a host and perhaps a port.
pub(super) fn http_url(url: &str, at: &At<'_>) {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let Some(rest) = rest else {
        return at.error(format!("{url:?} must begin with http:// or https://"));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let port_fine = match host.rsplit_once(':') {
        Some((_, port)) if !host.ends_with(']') => port.parse::<u16>().is_ok_and(|port| port > 0),
        _ => true,
    };
    let illegal = url
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || "\\\"<>^`{|}".contains(c));
    if host.is_empty() || !port_fine || illegal {
        at.error(format!("{url:?} is not a URL with a host"));
    }
}

/// The same, with a warning where what is fetched can be changed on its way.
pub(super) fn https_url(url: &str, at: &At<'_>) {
    http_url(url, at);
    if url.starts_with("http://") {
        at.warning("keys that come without TLS can be changed on their way; use https");
    }
}

/// A set of public keys (RFC 7517), or a single key.
pub(super) fn inline_keys(text: &str, at: &At<'_>) {
    if text.len() > MAX_JWKS {
        return at.error(format!(
            "has {} bytes, more than the {MAX_JWKS} allowed; use jwksUri",
            text.len()
        ));
    }
    if let Err(problem) = jwks::usable(text.as_bytes(), Origin::Inline) {
        return at.error(problem.to_string());
    }
    for (index, key) in keys_of(text).iter().enumerate() {
        if key.get("kty").and_then(Value::as_str).is_none() {
            at.error(format!("the key {index} has no type kty"));
        }
        if key.get("d").is_some() || key.get("k").is_some() {
            at.warning(format!(
                "the key {index} has a private part; publish the public part only, and replace the key"
            ));
        }
    }
}

/// The keys of a set, which was read before.
fn keys_of(text: &str) -> Vec<Value> {
    let mut value: Value = serde_json::from_str(text).unwrap_or_default();
    match value.get_mut("keys").map(Value::take) {
        Some(Value::Array(keys)) => keys,
        _ => vec![value],
    }
}
