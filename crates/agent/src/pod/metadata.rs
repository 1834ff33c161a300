//! What the proxy says of itself beyond its labels: variables `ISTIO_META_NAME` become the node's metadata `NAME`, and those of
//! `ISTIO_METAJSON_…` the members of their objects, as in Istio's agent; of `PROXY_CONFIG` what Pilot reads goes along. Pure.

use serde_json::{Map, Value};

/// Most entries, and the longest value in bytes; the rest is left out.
const MAX_ENTRIES: usize = 128;
const MAX_VALUE: usize = 64 << 10;

/// The metadata that these variables make.
pub fn metadata(variables: impl Iterator<Item = (String, String)>) -> Map<String, Value> {
    let mut metadata = Map::new();
    for (name, value) in variables.filter(|(_, value)| value.len() <= MAX_VALUE) {
        if let Some(name) = name.strip_prefix("ISTIO_META_") {
            metadata.insert(name.to_owned(), Value::String(value));
        } else if name.starts_with("ISTIO_METAJSON_") {
            match serde_json::from_str(&value) {
                Ok(Value::Object(members)) => metadata.extend(members),
                _ => tracing::warn!("{name} is no JSON object and is left out"),
            }
        } else if name == "PROXY_CONFIG" {
            metadata.extend(for_pilot(&value).map(|config| (name, config)));
        }
    }
    metadata.into_iter().take(MAX_ENTRIES).collect()
}

/// What Pilot reads of ProxyConfig, if it is there.
fn for_pilot(config: &str) -> Option<Value> {
    let Ok(Value::Object(mut config)) = serde_json::from_str(config) else {
        return None;
    };
    config.retain(|field, _| field == "gatewayTopology");
    (!config.is_empty()).then_some(Value::Object(config))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_istios_variables_become_metadata() {
        let variables = [
            ("ISTIO_META_OWNER", "kubernetes://x"),
            ("ISTIO_METAJSON_LABELS", r#"{"A": {"b": 1}}"#),
            ("ISTIO_METAJSON_BROKEN", "x"),
            ("HOME", "/"),
            (
                "PROXY_CONFIG",
                r#"{"concurrency": 1, "gatewayTopology": {"numTrustedProxies": 2}}"#,
            ),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let expected = json!({
            "OWNER": "kubernetes://x",
            "A": {"b": 1},
            "PROXY_CONFIG": {"gatewayTopology": {"numTrustedProxies": 2}},
        });
        assert_eq!(Value::Object(metadata(variables.into_iter())), expected);
    }
}
