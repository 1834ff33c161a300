//! Each setting of a chart does something: given another value, the chart renders something else.
//!
//! Charts are rendered many times in one go, as parts of a chart that is made for it: each part is the chart under another name with
//! values of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may fail loudly"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use cluster::{helm, root};
use serde_json::{Map, Value, json};

/// All charts that render something of their own.
const CHARTS: [&str; 7] = [
    "base", "citadel", "galley", "gateway", "injector", "mixer", "pilot",
];
const SYSTEM: &str = "argosy-system";
/// The umbrella's condition, and what Helm puts there for the chart of shared templates.
const NOT_READ: [&str; 2] = ["enabled", "common"];
/// What a chart reads together with a cluster, of which there is none here.
const WITH_CLUSTER: [&str; 1] = ["inheritProxyConfig"];
/// What a text may be, for each rule that a schema has for texts.
const TEXTS: [(&str, &str); 8] = [
    ("^[0-9]+(ms|s|m)$", "7s"),
    ("^[0-9]+(ms|s|m|h)$", "7s"),
    ("^(sha256:[0-9a-f]{64})?$", DIGEST),
    ("^[a-z0-9._-]{1,255}$", "other.example"),
    ("^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", "other"),
    ("^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", "other"),
    ("^[0-9]+%$", "7%"),
    ("^([0-9.]+(ms|us|h|m|s))+$", "7h"),
];
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A setting, and two sets of values that differ in it alone.
struct Leaf {
    path: Vec<String>,
    context: Value,
    varied: Value,
}

fn read(chart: &str) -> (Value, Value) {
    let folder = root().join("helm").join(chart);
    let schema = std::fs::read(folder.join("values.schema.json")).unwrap();
    let values = std::fs::read_to_string(folder.join("values.yaml")).unwrap();
    (
        serde_json::from_slice(&schema).unwrap(),
        serde_saphyr::from_str(&values).unwrap(),
    )
}

fn resolved<'a>(schema: &'a Value, rule: &'a Value) -> &'a Value {
    match rule["$ref"].as_str() {
        Some(name) => &schema["$defs"][name.trim_start_matches("#/$defs/")],
        None => rule,
    }
}

/// The settings below a rule: each that is no object with known fields.
fn leaves(schema: &Value, rule: &Value, path: &[String], found: &mut Vec<(Vec<String>, Value)>) {
    let rule = resolved(schema, rule);
    match rule["properties"].as_object() {
        Some(fields) => {
            for (name, field) in fields {
                if path.is_empty() && NOT_READ.contains(&name.as_str()) {
                    continue;
                }
                leaves(schema, field, &[path, std::slice::from_ref(name)].concat(), found);
            }
        }
        // A constant cannot be given another value.
        None if rule.get("const").is_some() => {}
        None => found.push((path.to_vec(), rule.clone())),
    }
}

/// A value that the rule allows and that is not `known`.
fn other(schema: &Value, rule: &Value, known: &Value) -> Value {
    let rule = resolved(schema, rule);
    if let Some(choices) = rule["enum"].as_array() {
        let not_empty = |choice: &&Value| *choice != known && choice.as_str() != Some("");
        return choices.iter().find(not_empty).unwrap().clone();
    }
    let kind = match &rule["type"] {
        Value::Array(kinds) => kinds[0].as_str().unwrap(),
        kind => kind
            .as_str()
            .unwrap_or_else(|| panic!("a rule without a type: {rule}")),
    };
    match kind {
        "boolean" => json!(!known.as_bool().unwrap_or_default()),
        "integer" => json!(known.as_u64().unwrap_or(rule["minimum"].as_u64().unwrap_or(0)) + 1),
        "string" => json!(text(rule)),
        "array" => json!([whole(schema, &rule["items"])]),
        "object" => whole(schema, rule),
        kind => panic!("no value is known for the type {kind}"),
    }
}

fn text(rule: &Value) -> &'static str {
    let Some(pattern) = rule["pattern"].as_str() else {
        return "other";
    };
    let known = TEXTS.iter().find(|(one, _)| *one == pattern);
    known
        .unwrap_or_else(|| panic!("TEXTS has no text for the pattern {pattern}"))
        .1
}

/// An object with all that a rule knows, or any field where it knows none.
fn whole(schema: &Value, rule: &Value) -> Value {
    let rule = resolved(schema, rule);
    if let Some(fields) = rule["properties"].as_object() {
        let field = |(name, rule): (&String, &Value)| (name.clone(), other(schema, rule, &Value::Null));
        return Value::Object(fields.iter().map(field).collect());
    }
    match rule["type"].as_str() {
        Some("object") | None => match &rule["additionalProperties"] {
            Value::Object(inner) => {
                json!({"other": other(schema, &Value::Object(inner.clone()), &Value::Null)})
            }
            _ => json!({"other": "other"}),
        },
        Some(_) => other(schema, rule, &Value::Null),
    }
}

fn at<'a>(values: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(values, |values, name| &values[name.as_str()])
}

fn put(values: &mut Value, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *values = value;
        return;
    };
    if !values.is_object() {
        *values = Value::Object(Map::new());
    }
    put(&mut values[first.as_str()], rest, value);
}

/// What has to be on for a setting to be read.
fn context(chart: &str, path: &[String], values: &Value) -> Value {
    let mut context = json!({});
    let (last, parents) = path.split_last().unwrap();
    // So long that it is rendered only where it is asked for.
    if chart == "base" && path[0] != "crds" {
        put(
            &mut context,
            &["crds".to_owned(), "enabled".to_owned()],
            json!(false),
        );
    }
    let is_part = |parent: &String| ["policy", "telemetry"].contains(&parent.as_str());
    // Mixer's parts have what the chart has, and do not say it again.
    let is_switched = |parent: &String| ["autoscaling", "serviceMonitor"].contains(&parent.as_str());
    let switch = parents.last().is_some_and(|parent| {
        is_switched(parent) || !is_part(parent) && at(values, parents)["enabled"].is_boolean()
    });
    if switch && last != "enabled" {
        put(
            &mut context,
            &[parents, &["enabled".to_owned()]].concat(),
            json!(true),
        );
    }
    // The autoscaler's number takes its place.
    if last == "replicas" {
        put(
            &mut context,
            &[parents, &["autoscaling".to_owned(), "enabled".to_owned()]].concat(),
            json!(false),
        );
    }
    context
}

fn settings(chart: &str) -> Vec<Leaf> {
    let (schema, values) = read(chart);
    let mut found = Vec::new();
    leaves(&schema, &schema, &[], &mut found);
    let leaf = |(path, rule): (Vec<String>, Value)| {
        let context = context(chart, &path, &values);
        let mut known = at(&values, &path);
        // What `policy` and `telemetry` do not say is Mixer's.
        if known.is_null() {
            known = at(&values, path.get(1..).unwrap_or_default());
        }
        let mut varied = context.clone();
        put(&mut varied, &path, other(&schema, &rule, known));
        Leaf {
            path,
            context,
            varied,
        }
    };
    found.into_iter().map(leaf).collect()
}

/// What a chart renders with each of some values, without what it is called there.
fn rendered(chart: &str, values: &BTreeSet<String>) -> BTreeMap<String, String> {
    let folder = Folder::new(chart);
    let names: Vec<(String, &String)> = values
        .iter()
        .enumerate()
        .map(|(index, values)| (format!("variant{index:04}x"), values))
        .collect();
    let mut definition = "apiVersion: v2\nname: all\nversion: 0.1.0\ndependencies:\n".to_owned();
    let mut all = String::new();
    for (name, values) in &names {
        writeln!(definition, "- {{name: {chart}, version: 0.1.0, alias: {name}}}").unwrap();
        writeln!(all, "{name}: {values}").unwrap();
    }
    std::fs::write(folder.0.join("Chart.yaml"), definition).unwrap();
    std::fs::write(folder.0.join("values.yaml"), all).unwrap();
    let path = folder.0.to_str().unwrap();
    let text = helm::helm(&["template", "all", path, "--namespace", SYSTEM]).unwrap();
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for part in text.split("---\n# Source: all/charts/").skip(1) {
        let name = part.split_once('/').unwrap().0;
        found.entry(name).or_default().push(part.replace(name, chart));
    }
    names
        .iter()
        .map(|(name, values)| {
            let mut parts = found.remove(name.as_str()).unwrap_or_default();
            parts.sort();
            ((*values).clone(), parts.concat())
        })
        .collect()
}

/// A folder for a chart that is made of another one; it goes with this.
struct Folder(PathBuf);

impl Folder {
    fn new(chart: &str) -> Self {
        let path = std::env::temp_dir().join(format!("argosy-values-{}-{chart}", std::process::id()));
        std::fs::create_dir_all(path.join("charts")).unwrap();
        let source = root().join("helm").join(chart).canonicalize().unwrap();
        std::os::unix::fs::symlink(source, path.join("charts").join(chart)).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// The settings of a chart that change nothing, and those that change something.
fn tried(chart: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let leaves = settings(chart);
    let both = leaves.iter().flat_map(|leaf| [&leaf.context, &leaf.varied]);
    let outcomes = rendered(chart, &both.map(Value::to_string).collect());
    let changes = |leaf: &&Leaf| outcomes[&leaf.context.to_string()] != outcomes[&leaf.varied.to_string()];
    let (used, unused): (Vec<&Leaf>, Vec<&Leaf>) = leaves.iter().partition(changes);
    let names = |leaves: Vec<&Leaf>| leaves.iter().map(|leaf| leaf.path.join(".")).collect();
    (names(unused), names(used))
}

#[test]
fn each_setting_changes_what_is_rendered() {
    match helm::program() {
        Ok(_) => {}
        Err(error) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("{error:#}"),
        Err(error) => return eprintln!("A test of the charts is left out: {error:#}"),
    }
    let charts = CHARTS.map(|chart| std::thread::spawn(move || tried(chart)));
    let outcomes = charts.map(|chart| chart.join().unwrap());
    let used: BTreeSet<&String> = outcomes.iter().flat_map(|(_, used)| used).collect();
    assert!(used.len() > 100, "only {} settings were tried", used.len());
    let mut idle = Vec::new();
    for (chart, (unused, _)) in CHARTS.iter().zip(&outcomes) {
        // All charts know the global ones, and some chart uses each.
        let without = |name: &&String| {
            !WITH_CLUSTER.contains(&name.as_str()) && (!name.starts_with("global.") || !used.contains(name))
        };
        idle.extend(
            unused
                .iter()
                .filter(without)
                .map(|name| format!("{chart}: {name}")),
        );
    }
    assert!(idle.is_empty(), "these settings change nothing: {idle:#?}");
}
