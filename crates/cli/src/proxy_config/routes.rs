//! The routes of a dump: which requests go where. Pure.

use serde_json::Value;

use super::dump::{Entry, list, text};

pub(crate) const HEAD: [&str; 5] = ["NAME", "VHOST NAME", "DOMAINS", "MATCH", "DESTINATION"];

/// A row for each route of each virtual host.
pub(crate) fn rows(entry: &Entry) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for host in list(&entry.config, "/virtual_hosts") {
        let domains: Vec<&str> = list(host, "/domains").filter_map(Value::as_str).collect();
        let domains = match domains.as_slice() {
            [] => String::new(),
            [only] => (*only).to_owned(),
            [first, others @ ..] => format!("{first} + {} more", others.len()),
        };
        let row = |on: String, to: String| {
            let host = text(host, "/name").to_owned();
            vec![entry.name.clone(), host, domains.clone(), on, to]
        };
        let before = rows.len();
        rows.extend(list(host, "/routes").map(|route| row(condition(route), destination(route))));
        if rows.len() == before {
            rows.push(row(String::new(), "404".to_owned()));
        }
    }
    if rows.is_empty() {
        rows.push(vec![entry.name.clone()]);
    }
    rows
}

fn condition(route: &Value) -> String {
    let on = route.get("match").unwrap_or(&Value::Null);
    let regex = text(on, "/safe_regex/regex");
    let paths = [
        ("", text(on, "/path"), ""),
        ("", text(on, "/prefix"), "*"),
        ("", text(on, "/path_separated_prefix"), "[/*]"),
        ("regex ", regex, ""),
    ];
    let path = paths.iter().find(|(_, text, _)| !text.is_empty());
    let mut parts = Vec::from_iter(path.map(|(before, text, after)| format!("{before}{text}{after}")));
    if on.get("connect_matcher").is_some() {
        parts.push("CONNECT".to_owned());
    }
    let named = |pointer: &str, what: &str| -> Vec<String> {
        list(on, pointer)
            .map(|one| format!("{what} {}", text(one, "/name")))
            .collect()
    };
    parts.extend(named("/headers", "header"));
    parts.extend(named("/query_parameters", "query"));
    parts.join(", ")
}

fn destination(route: &Value) -> String {
    if let Some(code) = route.pointer("/direct_response/status").and_then(Value::as_u64) {
        return code.to_string();
    }
    if let Some(redirect) = route.get("redirect") {
        let to = text(redirect, "/host_redirect");
        let path = text(redirect, "/path_redirect");
        return format!("redirect {to}{path}").trim_end().to_owned();
    }
    let action = route.get("route").unwrap_or(&Value::Null);
    let weighted: Vec<String> = list(action, "/weighted_clusters/clusters")
        .map(|one| {
            let weight = one.get("weight").and_then(Value::as_u64).unwrap_or(0);
            format!("{} {weight}", text(one, "/name"))
        })
        .collect();
    match (text(action, "/cluster"), text(action, "/cluster_header")) {
        ("", "") => weighted.join(", "),
        ("", header) => format!("by header {header}"),
        (cluster, _) => cluster.to_owned(),
    }
}
