//! Cases of Mixer's expression language: an expression with attributes, and its type, value or error.

use std::path::Path;

use anyhow::{Context, Result};
use expr::corpus::{Case, Manifests};

use crate::case::{self, Outcome};

/// Runs every case.
pub(crate) fn run(folder: &Path) -> Result<Vec<Outcome>> {
    let path = folder.join("manifests.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let manifests: Manifests =
        serde_json::from_str(&text).with_context(|| format!("{}: not manifests", path.display()))?;
    let cases: Vec<Case> = case::read(folder)?;
    Ok(cases.iter().map(|case| outcome(case, &manifests)).collect())
}

fn outcome(case: &Case, manifests: &Manifests) -> Outcome {
    let seen = case.run(manifests);
    Outcome {
        case: case.id.clone(),
        passed: seen.is_ok(),
        expected: format!("the case's outcome of {}", case.expr),
        seen: seen.err().unwrap_or_default(),
    }
}
