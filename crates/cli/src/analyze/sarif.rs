//! Messages as SARIF 2.1.0 (OASIS, "Static Analysis Results Interchange Format"), which code hosts and editors read.

use std::collections::BTreeMap;
use std::path::Path;

use analysis::{Code, Message};
use config::{Origin, Severity};
use serde_json::{Value, json};

use super::pages;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// A log with one run. Its rules are the codes that occur, in order.
pub(super) fn log(messages: &[&Message]) -> Value {
    let mut rules: BTreeMap<Code, usize> = messages.iter().map(|message| (message.code, 0)).collect();
    rules
        .values_mut()
        .enumerate()
        .for_each(|(index, place)| *place = index);
    let results: Vec<Value> = messages
        .iter()
        .map(|message| result(message, rules.get(&message.code).copied().unwrap_or_default()))
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "argosy analyze",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules.keys().map(|code| rule(*code)).collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(code: Code) -> Value {
    let mut rule = json!({
        "id": code.id(),
        "name": code.name(),
        "shortDescription": { "text": code.summary() },
        "fullDescription": { "text": code.meaning() },
        "help": { "text": format!("The way out: {}.", code.help()), "markdown": pages::of(code) },
        "defaultConfiguration": { "level": level(code.severity()) },
    });
    // The field must be an absolute URI.
    let url = code.url();
    if let Some(map) = rule.as_object_mut().filter(|_| url.contains("://")) {
        map.insert("helpUri".to_owned(), json!(url));
    }
    rule
}

fn result(message: &Message, rule: usize) -> Value {
    let mut location = json!({ "logicalLocations": [logical(message)] });
    if let (Some(map), Some(place)) = (location.as_object_mut(), physical(&message.origin)) {
        map.insert("physicalLocation".to_owned(), place);
    }
    json!({
        "ruleId": message.code.id(),
        "ruleIndex": rule,
        "level": level(message.severity()),
        "message": { "text": message.text },
        "locations": [location],
    })
}

fn logical(message: &Message) -> Value {
    let name = match message.path.as_str() {
        "" => message.subject(),
        path => format!("{}: {path}", message.subject()),
    };
    json!({ "fullyQualifiedName": name, "kind": "resource" })
}

/// The file and line; none for objects that come from a cluster or from standard input.
fn physical(origin: &Origin) -> Option<Value> {
    let file = origin.file.as_deref().filter(|file| *file != "-")?;
    let mut place = json!({ "artifactLocation": { "uri": uri(file) } });
    if let Some(map) = place.as_object_mut().filter(|_| origin.line > 0) {
        let mut region = json!({ "startLine": origin.line });
        if let Some(region) = region.as_object_mut().filter(|_| origin.column > 0) {
            region.insert("startColumn".to_owned(), json!(origin.column));
        }
        map.insert("region".to_owned(), region);
    }
    Some(place)
}

/// A path as a URI reference: relative ones stay so, and what a URI may not hold is escaped.
fn uri(path: &str) -> String {
    let relative = path.strip_prefix("./").unwrap_or(path);
    let scheme = if Path::new(relative).is_absolute() {
        "file://"
    } else {
        ""
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let escaped: String = relative
        .bytes()
        .map(|byte| match is_plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect();
    format!("{scheme}{escaped}")
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_uris() {
        assert_eq!(uri("./a/b c.yaml"), "a/b%20c.yaml");
        assert_eq!(uri("/etc/ü.yaml"), "file:///etc/%C3%BC.yaml");
    }
}
