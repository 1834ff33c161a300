//! Folders whose subject is not there yet: each of their cases counts as failed, so that no figure looks better than it is.

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use crate::case::{self, Outcome};

#[derive(Deserialize)]
struct Case {
    id: String,
}

/// Fails every case.
pub(crate) fn run(folder: &Path) -> Result<Vec<Outcome>> {
    let cases: Vec<Case> = case::read(folder)?;
    println!("{}: not run yet; its cases count as failed", folder.display());
    Ok(cases
        .into_iter()
        .map(|case| Outcome {
            case: case.id,
            passed: false,
            expected: "to be run".to_owned(),
            seen: "this folder is not run yet".to_owned(),
        })
        .collect())
}
