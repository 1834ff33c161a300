//! The layers of docs/architecture.md, read from `cargo metadata`: which crate may use which, and which outside
//! libraries stay out of the pure crates. It knows nothing of the code itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// What each of our crates may use of ours, in dependency order. A crate that is not listed fails the test, so
/// that a new one is placed on purpose.
const LAYERS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("re2", &[]),
    ("expr", &["re2"]),
    ("config", &["expr", "re2"]),
    ("model", &["config"]),
    ("analysis", &["config", "model", "re2"]),
    ("authz", &["config", "model"]),
    ("policy", &["config", "expr", "model"]),
    ("envoygen", &["config", "expr", "model", "policy", "proto", "re2"]),
    ("simulate", &["proto", "re2"]),
    ("xds", &["proto"]),
    ("runtime", &["proto"]),
    ("kubernetes", &[]),
    ("feed", &["config", "proto", "runtime", "xds"]),
    ("admission", &["kubernetes", "runtime"]),
    (
        "galley",
        &[
            "admission",
            "analysis",
            "config",
            "feed",
            "kubernetes",
            "model",
            "policy",
            "runtime",
            "xds",
        ],
    ),
    (
        "pilot",
        &["config", "envoygen", "feed", "model", "policy", "runtime", "xds"],
    ),
    ("citadel", &["kubernetes", "proto", "runtime", "xds"]),
    (
        "mixer",
        &[
            "config", "expr", "feed", "model", "policy", "proto", "runtime", "xds",
        ],
    ),
    (
        "injector",
        &["admission", "analysis", "config", "kubernetes", "runtime"],
    ),
    ("agent", &["config", "feed", "proto", "runtime", "xds"]),
    ("sample", &["proto"]),
    ("testkit", &["proto"]),
    (
        "bench",
        &[
            "citadel",
            "config",
            "envoygen",
            "feed",
            "galley",
            "kubernetes",
            "mixer",
            "model",
            "policy",
            "runtime",
            "xds",
        ],
    ),
    (
        "argosy",
        &[
            "analysis",
            "citadel",
            "config",
            "envoygen",
            "expr",
            "galley",
            "injector",
            "kubernetes",
            "mixer",
            "model",
            "pilot",
            "policy",
            "proto",
            "runtime",
            "simulate",
            "xds",
        ],
    ),
    (
        "corpora",
        &[
            "analysis", "config", "envoygen", "expr", "model", "policy", "simulate",
        ],
    ),
    ("mesh", &["config", "proto", "testkit"]),
    ("cluster", &["config", "mesh", "testkit"]),
    ("layering", &[]),
];

/// Logic without sockets, files or clocks.
const PURE: &[&str] = &[
    "config", "model", "analysis", "authz", "expr", "policy", "envoygen", "re2", "simulate",
];

/// Libraries that do input and output.
const IO: &[&str] = &[
    "tokio",
    "tonic",
    "hyper",
    "hyper-util",
    "axum",
    "kube",
    "notify",
    "reqwest",
    "tokio-stream",
];

/// Outside libraries that only these crates may use.
const RESERVED: &[(&str, &[&str])] = &[
    (
        "kube",
        &[
            "admission",
            "kubernetes",
            "galley",
            "citadel",
            "injector",
            "argosy",
            "bench",
            "testkit",
        ],
    ),
    (
        "k8s-openapi",
        &["galley", "citadel", "injector", "argosy", "bench", "testkit"],
    ),
    (
        "envoy-types",
        &[
            "envoygen", "simulate", "xds", "mixer", "agent", "bench", "testkit", "corpora",
        ],
    ),
];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .no_deps()
        .other_options(vec!["--offline".into()])
        .exec()
        .expect("cargo metadata runs")
}

/// Names of what a package is built with; tests may use more.
fn built_with(package: &Package) -> BTreeSet<&str> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development)
        .map(|dependency| dependency.name.as_str())
        .collect()
}

fn check(rule: impl Fn(&str, &BTreeSet<&str>) -> Vec<String>) {
    let metadata = metadata();
    let broken: Vec<String> = metadata
        .workspace_packages()
        .iter()
        .flat_map(|p| rule(p.name.as_str(), &built_with(p)))
        .collect();
    assert!(
        broken.is_empty(),
        "layers broken (see docs/architecture.md):\n{}",
        broken.join("\n")
    );
}

#[test]
fn crates_use_only_the_layers_below() {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let ours: BTreeSet<String> = metadata()
        .workspace_packages()
        .iter()
        .map(|p| p.name.to_string())
        .collect();
    check(|name, uses| match layers.get(name) {
        None => vec![format!("{name} has no place in LAYERS")],
        Some(may) => uses
            .iter()
            .filter(|used| ours.contains(**used) && !may.contains(used))
            .map(|used| format!("{name} must not use {used}"))
            .collect(),
    });
}

#[test]
fn pure_crates_do_no_input_or_output() {
    check(|name, uses| {
        if !PURE.contains(&name) {
            return Vec::new();
        }
        IO.iter()
            .filter(|io| uses.contains(*io))
            .map(|io| format!("{name} is pure and must not use {io}"))
            .collect()
    });
}

#[test]
fn reserved_libraries_stay_where_they_belong() {
    check(|name, uses| {
        RESERVED
            .iter()
            .filter(|(library, users)| uses.contains(library) && !users.contains(&name))
            .map(|(library, _)| format!("{name} must not use {library}"))
            .collect()
    });
}

#[test]
fn each_outside_library_is_declared_once() {
    let metadata = metadata();
    let broken: Vec<String> = metadata
        .workspace_packages()
        .iter()
        .flat_map(|package| {
            let manifest = std::fs::read_to_string(&package.manifest_path).expect("manifest is readable");
            let name = package.name.to_string();
            manifest
                .lines()
                .filter(|line| line.contains("version = \"") || line.contains("= \"^"))
                .filter(|line| !line.trim_start().starts_with('#'))
                .map(|line| format!("{name}: `{line}` belongs into the root Cargo.toml"))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
