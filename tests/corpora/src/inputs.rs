//! Whole configurations of Istio's samples and tests, a file a case. A case passes when every document of it is accepted, or
//! rejected for a reason that was looked at and holds: those are listed here with the reason.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use config::Finding;

use crate::case::Outcome;

/// Rejections that hold: part of the file's path, part of the finding.
const HOLDS: &[(&str, &str)] = &[];

/// Runs every file below the folder.
pub(crate) fn run(folder: &Path) -> Result<Vec<Outcome>> {
    let mut files = BTreeMap::new();
    collect(folder, folder, &mut files)?;
    Ok(files.iter().map(|(name, text)| check(name, text)).collect())
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

fn check(name: &str, text: &[u8]) -> Outcome {
    let parsed = config::parse(name, text, "default");
    let holds = |finding: &Finding| {
        let words = finding.to_string();
        HOLDS
            .iter()
            .any(|(file, reason)| name.contains(file) && words.contains(reason))
    };
    let wrong: Vec<String> = parsed
        .findings
        .iter()
        .filter(|f| f.is_error() && !holds(f))
        .map(ToString::to_string)
        .collect();
    let empty = parsed.objects.is_empty() && parsed.findings.is_empty();
    Outcome {
        case: name.to_owned(),
        passed: wrong.is_empty() && !empty,
        expected: "accepted, or rejected for a reason that holds".to_owned(),
        seen: if empty {
            "nothing was read".to_owned()
        } else {
            wrong.join("\n")
        },
    }
}
