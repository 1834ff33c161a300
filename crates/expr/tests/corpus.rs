//! Runs the corpus `cexl` of the folder that `ARGOSY_SHARED` names; in CI (`CI` set) there must be one.

#![allow(clippy::disallowed_methods, reason = "the cases are files")]

use std::path::Path;

use expr::corpus::{Case, Manifests};

#[test]
fn corpus() {
    let Ok(shared) = std::env::var("ARGOSY_SHARED") else {
        let needed = "set ARGOSY_SHARED to the folder that holds corpora/cexl";
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must have the corpora: {needed}"
        );
        eprintln!("skipped: {needed}");
        return;
    };
    let folder = Path::new(&shared).join("corpora/cexl");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let manifests: Manifests = serde_json::from_str(&read("manifests.json")).unwrap();
    let mut failures = Vec::new();
    let cases: Vec<Case> = read("cases.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for case in &cases {
        if let Err(problem) = case.run(&manifests) {
            failures.push(format!("{}: {}: {problem}", case.id, case.expr));
        }
    }
    println!(
        "cexl: {} passed, {} failed",
        cases.len() - failures.len(),
        failures.len()
    );
    assert!(!cases.is_empty());
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
