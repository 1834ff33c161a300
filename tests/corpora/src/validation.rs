//! Cases of one file each that is valid or not. For an invalid one Istio's words are a hint: when they name a field, one of
//! our findings must be about that field.

use std::path::Path;

use anyhow::{Context, Result};
use config::{Finding, Options};
use serde::Deserialize;

use crate::case::{self, Outcome};

#[derive(Deserialize)]
struct Case {
    id: String,
    file: String,
    valid: bool,
    error_contains: Option<String>,
}

/// Runs every case by today's rules.
pub(crate) fn run(folder: &Path) -> Result<Vec<Outcome>> {
    run_with(folder, &Options::default())
}

/// Runs every case by Istio 1.4's rules where they differ: there is no delegation between VirtualServices in it.
pub(crate) fn run_1_4(folder: &Path) -> Result<Vec<Outcome>> {
    let options = Options {
        delegates: false,
        ..Options::default()
    };
    run_with(folder, &options)
}

fn run_with(folder: &Path, options: &Options) -> Result<Vec<Outcome>> {
    let cases: Vec<Case> = case::read(folder)?;
    cases
        .into_iter()
        .map(|case| check(folder, case, options))
        .collect()
}

fn check(folder: &Path, case: Case, options: &Options) -> Result<Outcome> {
    let text = std::fs::read(folder.join(&case.file)).with_context(|| format!("reading {}", case.file))?;
    let parsed = config::parse_with(&case.file, &text, "default", options);
    let valid = !parsed.has_errors() && !parsed.objects.is_empty();
    let errors: Vec<&Finding> = parsed
        .findings
        .iter()
        .filter(|finding| finding.is_error())
        .collect();
    let hint = case.error_contains.unwrap_or_default();
    let field = named_field(&hint);
    let at_field = field.is_none_or(|field| errors.iter().any(|error| is_about(&error.path, field)));
    Ok(Outcome {
        passed: valid == case.valid && (case.valid || at_field),
        case: case.id,
        expected: match (case.valid, hint.as_str()) {
            (true, _) => "valid".to_owned(),
            (false, "") => "invalid".to_owned(),
            (false, hint) => format!("invalid: {hint}"),
        },
        seen: match valid {
            true => "valid".to_owned(),
            false => errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n"),
        },
    })
}

/// The field that one of Istio's messages names: `spec.url in body should …`, `spec.hosts: Required value`.
fn named_field(hint: &str) -> Option<&str> {
    let ends = [
        " in body",
        ": Required value",
        ": Invalid value",
        ": Duplicate value",
        ": Unsupported value",
    ];
    let end = ends.iter().find_map(|end| hint.find(end))?;
    hint.get(..end)
        .filter(|field| !field.is_empty() && !field.contains(' '))
}

/// Whether a finding's path is that field, ends in it, or is something inside it.
fn is_about(path: &str, field: &str) -> bool {
    let inside = path
        .strip_prefix(field)
        .is_some_and(|rest| rest.starts_with(['.', '[']));
    let last = path
        .strip_suffix(field)
        .is_some_and(|before| before.is_empty() || before.ends_with('.'));
    inside || last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_in_hints() {
        assert_eq!(
            named_field("spec.url in body should be at least"),
            Some("spec.url")
        );
        assert_eq!(named_field("spec.hosts: Required value"), Some("spec.hosts"));
        assert_eq!(named_field("port must be between 1-65535"), None);
        assert_eq!(named_field("Unsupported value: \"MANDATORY\""), None);
    }

    #[test]
    fn paths_about_a_field() {
        assert!(is_about("spec.ports[\"@\"]", "spec.ports"));
        assert!(is_about("spec.jwtRules[0].fromCookies[0]", "fromCookies[0]"));
        assert!(!is_about("spec.rename", "name"));
        assert!(!is_about("spec.portsOther", "spec.ports"));
    }
}
