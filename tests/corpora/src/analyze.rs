//! Cases of analysis: a set of objects, one analyzer, and the messages that it must give. Beside the inputs stands what a
//! mesh has anyway, as when files are analysed without a cluster.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use analysis::{Message, Set, Store};
use anyhow::{Context, Result};
use config::mesh::MeshConfig;
use config::{Parsed, Spec};
use serde::Deserialize;

use crate::case::{self, Outcome};

/// Where the mesh's own objects are.
const ROOT: &str = "istio-system";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    id: String,
    analyzer: String,
    inputs: Vec<String>,
    mesh_config_file: Option<String>,
    mesh_networks_file: Option<String>,
    messages: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    code: String,
    name: String,
    object: String,
}

/// Runs every case.
pub(crate) fn run(folder: &Path) -> Result<Vec<Outcome>> {
    let cases: Vec<Case> = case::read(folder)?;
    cases.iter().map(|case| check(folder, case)).collect()
}

fn check(folder: &Path, case: &Case) -> Result<Outcome> {
    let read = |file: &String| {
        let text = std::fs::read(folder.join(file)).with_context(|| format!("reading {file}"))?;
        anyhow::Ok((file.clone(), text))
    };
    let mut all = Parsed::default();
    if let Some(file) = &case.mesh_config_file {
        let (file, text) = read(file)?;
        add(&mut all, config::parse_mesh_config(&file, &text, ROOT));
    }
    if let Some(file) = &case.mesh_networks_file {
        let (file, text) = read(file)?;
        let mut parsed = config::parse_mesh_networks(&file, &text, ROOT);
        // istioctl's name for it.
        let named = parsed.objects.iter_mut().chain(&mut parsed.invalid);
        named.for_each(|object| "meshnetworks".clone_into(&mut object.meta.name));
        add(&mut all, parsed);
    }
    for file in &case.inputs {
        let (file, text) = read(file)?;
        add(&mut all, config::parse(&file, &text, ""));
    }
    let mut expected: Vec<String> = case
        .messages
        .iter()
        .map(|message| format!("{} {}: {}", message.code, message.name, message.object))
        .collect();
    expected.sort();
    let (seen, words) = match analyze(&case.analyzer, &all) {
        Some(messages) => shown(&messages),
        None => (
            Vec::new(),
            vec![format!("no analyzer has the name {}", case.analyzer)],
        ),
    };
    let known = words.len() == seen.len();
    Ok(Outcome {
        case: case.id.clone(),
        passed: known && seen == expected,
        expected: expected.join("\n            "),
        seen: words.join("\n"),
    })
}

fn add(all: &mut Parsed, parsed: Parsed) {
    all.objects.extend(parsed.objects);
    // What breaks a rule is analysed too: it may be in a cluster that does not check.
    all.objects.extend(parsed.invalid);
    all.statuses.extend(parsed.statuses);
    all.findings.extend(parsed.findings);
}

/// What an analyzer says; none when there is no such analyzer.
fn analyze(name: &str, all: &Parsed) -> Option<Vec<Message>> {
    if let Some(rest) = name.strip_prefix("schema.") {
        let kind = rest.rsplit('.').next().unwrap_or_default();
        let messages = analysis::of_findings(&all.findings);
        let any = !all.objects.iter().any(|object| object.kind.as_str() == kind);
        return Some(
            messages
                .into_iter()
                .filter(|message| {
                    any || message
                        .object
                        .as_ref()
                        .is_some_and(|object| object.kind.as_str() == kind)
                })
                .collect(),
        );
    }
    let analyzer = analysis::find(name)?;
    let mesh = all.objects.iter().find_map(|object| match &object.spec {
        Spec::MeshConfig(mesh) => Some((**mesh).clone()),
        _ => None,
    });
    let defaults = analysis::defaults(&mesh.unwrap_or_else(MeshConfig::default), ROOT);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let mut store: Store = defaults
        .into_iter()
        .chain(all.objects.iter().cloned())
        .map(Arc::new)
        .collect();
    for (key, status) in &all.statuses {
        store.set_status(key, Some(status));
    }
    Some(analysis::run(&Set::new(&store, now), [analyzer]))
}

/// Messages in the form in which they are compared, and in words.
fn shown(messages: &[Message]) -> (Vec<String>, Vec<String>) {
    let mut shown: Vec<(String, String)> = messages
        .iter()
        .map(|message| {
            let head = format!("{}: {}", message.code, message.subject());
            let words = format!("{head}: {}: {}", message.path, message.text);
            (head, words)
        })
        .collect();
    shown.sort();
    shown.into_iter().unzip()
}
