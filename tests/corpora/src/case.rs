//! What a case and its outcome are, and how a folder's `cases.jsonl` is read.

use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

/// What became of a case.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) case: String,
    pub(crate) passed: bool,
    pub(crate) expected: String,
    pub(crate) seen: String,
}

/// The cases of a folder, one JSON object a line.
pub(crate) fn read<T: DeserializeOwned>(folder: &Path) -> Result<Vec<T>> {
    let path = folder.join("cases.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("{}:{}: not a case", path.display(), number + 1))
        })
        .collect()
}
