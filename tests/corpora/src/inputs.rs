//! Whole configurations of Istio's samples and tests, a file a case. A case passes when every document of it is accepted, or
//! rejected for a reason that was looked at and holds: those are listed here with the reason; and when a real Envoy takes what
//! is generated from what was accepted, for a gateway and for sidecars of each kind of interception.

use std::collections::BTreeMap;
use std::path::Path;

use std::sync::Arc;

use anyhow::{Context, Result};
use config::{Finding, Parsed};
use envoygen::{Generator, Interception, Proxy, Scope, Settings};
use model::Snapshot;

use crate::case::Outcome;
use crate::load::{self, Loaded};

/// Workloads for the proxies that get each configuration.
const WORKLOADS: &str = r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: gateway, namespace: istio-system}
spec: {address: 127.1.9.1, labels: {istio: ingressgateway, app: istio-ingressgateway}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews, namespace: default}
spec: {address: 127.1.9.2, labels: {app: reviews, version: v1, security.istio.io/tlsMode: istio}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: ratings, namespace: default}
spec: {address: 127.1.9.3, labels: {app: ratings, version: v1, security.istio.io/tlsMode: istio}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: details, namespace: default}
spec: {address: 127.1.9.4, labels: {app: details, version: v1}}
"#;

const PROXIES: [(&str, Interception); 4] = [
    (
        "router~127.1.9.1~gateway.istio-system~istio-system.svc.cluster.local",
        Interception::None,
    ),
    (
        "sidecar~127.1.9.2~reviews.default~default.svc.cluster.local",
        Interception::Redirect,
    ),
    (
        "sidecar~127.1.9.3~ratings.default~default.svc.cluster.local",
        Interception::Tproxy,
    ),
    (
        "sidecar~127.1.9.4~details.default~default.svc.cluster.local",
        Interception::None,
    ),
];

/// Rejections that hold: part of the file's path, part of the finding.
const HOLDS: &[(&str, &str)] = &[];

/// Runs every file below the folder.
pub(crate) fn run(folder: &Path) -> Result<Vec<Outcome>> {
    let mut files = BTreeMap::new();
    collect(folder, folder, &mut files)?;
    let envoy = load::envoy()?;
    let scratch = tempfile::tempdir()?;
    Ok(files
        .iter()
        .map(|(name, text)| check(name, text, |parsed| refused(parsed, &envoy, scratch.path())))
        .collect())
}

/// What Envoy says against the configuration of any of the proxies.
fn refused(parsed: Parsed, envoy: &Path, scratch: &Path) -> Vec<String> {
    let workloads = config::parse("workloads", WORKLOADS.as_bytes(), "default");
    let objects = parsed.objects.into_iter().chain(workloads.objects).map(Arc::new);
    let settings = Settings {
        mixer_address: Some("127.0.0.1:15004".to_owned()),
        ..Settings::default()
    };
    let generator = Generator::new(Arc::new(Snapshot::build(objects)), settings);
    let load = |node: &str, interception| {
        let mut proxy = Proxy::parse(node, None)?;
        proxy.interception = Some(interception);
        let mut loaded = Loaded::default();
        for resource in generator.generate(&Scope::of(&proxy, &generator)).resources {
            loaded.add(resource.type_url, &resource.bytes)?;
        }
        loaded.validate(envoy, scratch)
    };
    let said = PROXIES.iter().filter_map(|(node, interception)| {
        load(node, *interception)
            .err()
            .map(|error| format!("{node}: {error:#}"))
    });
    said.collect()
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "json")
        {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            files.insert(
                name,
                std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?,
            );
        }
    }
    Ok(())
}

fn check(name: &str, text: &[u8], refused: impl FnOnce(Parsed) -> Vec<String>) -> Outcome {
    let parsed = config::parse(name, text, "default");
    let holds = |finding: &Finding| {
        let words = finding.to_string();
        HOLDS
            .iter()
            .any(|(file, reason)| name.contains(file) && words.contains(reason))
    };
    let mut wrong: Vec<String> = parsed
        .findings
        .iter()
        .filter(|f| f.is_error() && !holds(f))
        .map(ToString::to_string)
        .collect();
    let empty = parsed.objects.is_empty() && parsed.findings.is_empty();
    wrong.extend(refused(parsed));
    Outcome {
        case: name.to_owned(),
        passed: wrong.is_empty() && !empty,
        expected: "accepted, or rejected for a reason that holds, and taken by Envoy".to_owned(),
        seen: if empty {
            "nothing was read".to_owned()
        } else {
            wrong.join("\n")
        },
    }
}
