//! Who a proxy is, by its bootstrap. Pure.

use serde_json::Value;

use super::dump::{address, list, text};

pub(crate) const HEAD: [&str; 2] = ["FIELD", "VALUE"];

/// The node and its texts, and what Envoy started with.
pub(crate) fn rows(bootstrap: &Value) -> Vec<Vec<String>> {
    let row = |field: &str, value: &str| vec![field.to_owned(), value.to_owned()];
    let mut rows = vec![
        row("node id", text(bootstrap, "/node/id")),
        row("node cluster", text(bootstrap, "/node/cluster")),
        row("Envoy", &envoy(bootstrap)),
    ];
    if let Some((host, Some(port))) = bootstrap.pointer("/admin/address").map(address) {
        rows.push(row("admin", &format!("{host}:{port}")));
    }
    let named = |pointer: &str| -> String {
        let names: Vec<&str> = list(bootstrap, pointer).map(|one| text(one, "/name")).collect();
        names.join(", ")
    };
    rows.push(row("static clusters", &named("/static_resources/clusters")));
    rows.push(row("static listeners", &named("/static_resources/listeners")));
    let metadata = bootstrap.pointer("/node/metadata").and_then(Value::as_object);
    for (key, value) in metadata.into_iter().flatten() {
        match value {
            Value::String(text) => rows.push(row(key, text)),
            value => rows.push(row(key, &value.to_string())),
        }
    }
    rows
}

fn envoy(bootstrap: &Value) -> String {
    let version = bootstrap.pointer("/node/user_agent_build_version/version");
    let number = |field: &str| {
        version
            .and_then(|v| v.get(field))
            .and_then(Value::as_u64)
            .unwrap_or(0)
    };
    let numbers = ["major_number", "minor_number", "patch"].map(|field| number(field).to_string());
    match version {
        Some(_) => numbers.join("."),
        None => String::new(),
    }
}
