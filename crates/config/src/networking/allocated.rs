//! Addresses that a controller has given a ServiceEntry's hosts and written into its `status.addresses` (Istio,
//! `ServiceEntryStatus`). Status does not travel in the feed, so they go as an annotation.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{Kind, Meta};

/// Annotation that carries the addresses in the feed: a JSON list of `{host, value}`. Whoever reads an object makes it of
/// the status alone; what a user writes under this name is dropped.
pub const ALLOCATED_ADDRESSES: &str = "argosy.io/allocated-addresses";

/// Most addresses taken from one status.
const MAX_ADDRESSES: usize = 512;

/// Puts what `status` says of addresses into the annotation.
pub(crate) fn annotate(kind: Kind, meta: &mut Meta, status: Option<&Value>) {
    if kind != Kind::ServiceEntry {
        return;
    }
    meta.annotations.remove(ALLOCATED_ADDRESSES);
    let listed = status.and_then(|status| status.get("addresses")?.as_array());
    let text = |entry: &Value, field: &str| Some(entry.get(field)?.as_str()?.to_owned());
    let addresses: Vec<Value> = listed
        .into_iter()
        .flatten()
        .take(MAX_ADDRESSES)
        .filter_map(|entry| {
            let value: IpAddr = text(entry, "value")?.parse().ok()?;
            Some(json!({"host": text(entry, "host")?.to_ascii_lowercase(), "value": value}))
        })
        .collect();
    if !addresses.is_empty() {
        let text = Value::from(addresses).to_string();
        meta.annotations.insert(ALLOCATED_ADDRESSES.to_owned(), text);
    }
}

/// The addresses, each with its host in lower case, in the order of the status.
pub fn allocated_addresses(meta: &Meta) -> Vec<(String, IpAddr)> {
    let text = meta.annotations.get(ALLOCATED_ADDRESSES);
    let listed: Vec<Value> = text
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let address = |entry: &Value| {
        let value = entry.get("value")?.as_str()?.parse().ok()?;
        Some((entry.get("host")?.as_str()?.to_owned(), value))
    };
    listed.iter().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: &Value, expected: &[(&str, &str)]) {
        let mut meta = Meta::default();
        meta.annotations.insert(
            ALLOCATED_ADDRESSES.to_owned(),
            r#"[{"host":"x","value":"1.1.1.1"}]"#.to_owned(),
        );
        annotate(Kind::ServiceEntry, &mut meta, Some(status));
        let seen: Vec<_> = allocated_addresses(&meta)
            .into_iter()
            .map(|(host, address)| (host, address.to_string()))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(host, address)| ((*host).to_owned(), (*address).to_owned()))
            .collect();
        assert_eq!(seen, expected, "{status}");
    }

    #[test]
    fn addresses_come_from_the_status_alone() {
        let four = json!({"host": "A.example.com", "value": "240.240.3.4"});
        let six = json!({"host": "a.example.com", "value": "2001:2::304"});
        check(
            &json!({"addresses": [four, six]}),
            &[("a.example.com", "240.240.3.4"), ("a.example.com", "2001:2::304")],
        );
        check(
            &json!({"addresses": [{"host": "a", "value": "no address"}, {"value": "1.1.1.1"}, 3]}),
            &[],
        );
        check(&json!({"addresses": "?"}), &[]);
        check(&json!(null), &[]);
    }
}
