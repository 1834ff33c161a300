//! Runs folders of cases (YAML in, an expected outcome beside it) against Argosy's crates and says which fail.
//!
//! `corpora DIR [FOLDER…]`; without a folder all that DIR has are run. Each failing case is printed with what was expected
//! and what was seen; a line `FOLDER: N passed, N failed` closes each folder. Exit code 1 when a case failed or a folder is
//! missing, 2 when the arguments are wrong.

mod analyze;
mod case;
mod cexl;
mod inputs;
mod load;
mod simulate;
mod validation;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use case::Outcome;

/// The cases of one folder.
type Runner = fn(&Path) -> Result<Vec<Outcome>>;

/// Which module runs which folder.
const FOLDERS: &[(&str, Runner)] = &[
    ("validation", validation::run),
    ("validation-1.4", validation::run_1_4),
    ("inputs", inputs::run),
    ("cexl", cexl::run),
    ("analyze", analyze::run),
    ("simulate", simulate::run),
];

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(dir) = args
        .next()
        .filter(|dir| !dir.as_os_str().to_string_lossy().starts_with('-'))
    else {
        eprintln!("usage: corpora DIR [FOLDER...]");
        return ExitCode::from(2);
    };
    let named: Vec<String> = args
        .map(|folder| folder.to_string_lossy().trim_end_matches('/').to_owned())
        .collect();
    let folders = match named.is_empty() {
        true => FOLDERS
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .filter(|name| dir.join(name).is_dir())
            .collect(),
        false => named,
    };
    // Every folder is run, also after one that failed.
    let failed = folders.iter().filter(|folder| !run(&dir, folder)).count();
    match failed == 0 && !folders.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs one folder and prints its outcome; says whether all of it passed.
fn run(dir: &Path, folder: &str) -> bool {
    match outcomes(dir, folder) {
        Ok(outcomes) => {
            let failures: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.passed).collect();
            for failure in &failures {
                println!("{folder}/{}", failure.case);
                println!("  expected: {}", failure.expected);
                println!("  seen:     {}", failure.seen.replace('\n', "\n            "));
            }
            println!(
                "{folder}: {} passed, {} failed",
                outcomes.len() - failures.len(),
                failures.len()
            );
            failures.is_empty() && !outcomes.is_empty()
        }
        Err(error) => {
            println!("{folder}: not run: {error:#}");
            println!("{folder}: 0 passed, 1 failed");
            false
        }
    }
}

fn outcomes(dir: &Path, folder: &str) -> Result<Vec<Outcome>> {
    let known = FOLDERS.iter().find(|(name, _)| *name == folder);
    let (_, runner) = known.context("no such folder of cases is known")?;
    let path = dir.join(folder);
    anyhow::ensure!(path.is_dir(), "{} is missing", path.display());
    runner(&path)
}
