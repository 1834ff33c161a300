//! The answer of the HTTP server: who answered, and what arrived.

use std::collections::BTreeMap;

use http::{HeaderMap, request};
use serde::Serialize;

use crate::instance::Instance;

/// Echoed part of a request's body, in bytes.
const MAX_BODY: usize = 64 << 10;

/// The answer to a request.
#[derive(Debug, Serialize)]
pub(crate) struct Echo {
    pub(crate) service: String,
    pub(crate) version: String,
    pub(crate) instance: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) protocol: String,
    /// `x-request-id`, which the proxy gives to each request.
    pub(crate) request_id: Option<String>,
    /// The peer's SPIFFE id, as the proxy verified it (`x-forwarded-client-cert`).
    pub(crate) peer: Option<String>,
    /// Which request with its id this is, from 1.
    pub(crate) attempt: u64,
    /// The headers that arrived; the values of a repeated one are joined by commas.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Echo {
    pub(crate) fn new(instance: &Instance, request: &request::Parts, body: &[u8], attempt: u64) -> Self {
        let body = body.get(..MAX_BODY.min(body.len())).unwrap_or_default();
        Self {
            service: instance.args.name.clone(),
            version: instance.args.version.clone(),
            instance: instance.name.clone(),
            method: request.method.to_string(),
            path: request.uri.path().to_owned(),
            query: request.uri.query().map(str::to_owned),
            protocol: format!("{:?}", request.version),
            request_id: text(&request.headers, "x-request-id"),
            peer: text(&request.headers, "x-forwarded-client-cert")
                .as_deref()
                .and_then(peer),
            attempt,
            headers: headers(&request.headers),
            body: String::from_utf8_lossy(body).into_owned(),
        }
    }
}

/// A header as text, if there is one.
pub(crate) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// All headers as text.
pub(crate) fn headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut out: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        out.entry(name.to_string())
            .and_modify(|all| *all = format!("{all},{value}"))
            .or_insert_with(|| value.into_owned());
    }
    out
}

/// The URI of the last hop in an `x-forwarded-client-cert` header (Envoy appends: the last is the nearest peer).
pub(crate) fn peer(xfcc: &str) -> Option<String> {
    let last = xfcc.rsplit(',').next()?;
    last.split(';')
        .find_map(|pair| pair.strip_prefix("URI="))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_the_last_hop() {
        let one =
            "By=spiffe://td/ns/shop/sa/catalog;Hash=ab12;Subject=\"\";URI=spiffe://td/ns/shop/sa/frontend";
        assert_eq!(peer(one).as_deref(), Some("spiffe://td/ns/shop/sa/frontend"));
        let two = format!("URI=spiffe://td/ns/istio-system/sa/gw,{one}");
        assert_eq!(peer(&two).as_deref(), Some("spiffe://td/ns/shop/sa/frontend"));
        assert_eq!(peer("Hash=ab12"), None);
    }
}
