//! Citadel's own notes on its authority: JSON files that later Citadels may write in another form.
//!
//! A form that this Citadel does not know is refused by its number: half of what was revoked is worse than a Citadel that does
//! not start.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::authority::AuthorityError;
use super::files;

/// The form that is written and read. A file without `version` has this one.
const VERSION: u64 = 1;

/// Reads notes; `None` when there are none.
///
/// # Errors
/// When the file cannot be read, is of a newer form, or is not what was written; `way_out` says what to do in the last case.
pub(super) fn read<T: DeserializeOwned>(path: &Path, way_out: &str) -> Result<Option<T>, AuthorityError> {
    let Some(bytes) = files::read(path)? else {
        return Ok(None);
    };
    let wrong = |reason: String| AuthorityError::Certificate {
        path: path.to_owned(),
        reason,
    };
    let broken = |error: serde_json::Error| wrong(format!("not notes of a Citadel ({error}); {way_out}"));
    let mut value: Value = serde_json::from_slice(&bytes).map_err(broken)?;
    let version = value.as_object_mut().and_then(|fields| fields.remove("version"));
    match version.map_or(Some(VERSION), |version| version.as_u64()) {
        Some(VERSION) => serde_json::from_value(value).map(Some).map_err(broken),
        version => Err(wrong(format!(
            "written by a newer Citadel: it has version {}, and this one reads version {VERSION}; start the newer one again",
            version.map_or_else(|| "unknown".to_owned(), |version| version.to_string())
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::Revoked;

    #[test]
    fn notes_of_a_newer_form_are_refused_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.json");
        let check = |text: &str, expected: Result<(), &[&str]>| {
            std::fs::write(&path, text).unwrap();
            let seen = read::<Revoked>(&path, "put it back").map_err(|error| error.to_string());
            match (&seen, expected) {
                (Ok(Some(_)), Ok(())) => {}
                (Err(error), Err(parts)) => {
                    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
                }
                _ => panic!("{text}: {seen:?}"),
            }
        };
        assert!(read::<Revoked>(&path, "").unwrap().is_none());
        check(r#"{"number": 1, "changed": 2, "entries": {}}"#, Ok(()));
        check(r#"{"version": 1, "number": 1}"#, Ok(()));
        let newer = ["revoked.json", "a newer Citadel", "version 2", "reads version 1"];
        check(r#"{"version": 2, "sets": []}"#, Err(&newer));
        check(r#"{"version": "x"}"#, Err(&["version unknown"]));
        check(r#"{"sets": []}"#, Err(&["unknown field", "put it back"]));
        check("rubbish", Err(&["not notes of a Citadel"]));
    }
}
