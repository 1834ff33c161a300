//! What there is to say of a folder's files.

use config::{Finding, Object, ObjectKey, Origin, Severity};

pub(super) fn error(path: &str, message: String, help: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        object: None,
        path: String::new(),
        message,
        help: Some(help.to_owned()),
        origin: Origin {
            file: Some(path.into()),
            ..Origin::default()
        },
    }
}

pub(super) fn folder_unreadable(reason: &str) -> Finding {
    of_folder(
        Severity::Error,
        format!("the configuration folder cannot be read: {reason}"),
        "the last good state is still served; bring the folder back",
    )
}

pub(super) fn folder_empty(had_files: bool) -> Finding {
    let message = "the configuration folder is empty: it holds no .yaml, .yml or .json file".to_owned();
    if had_files {
        let help = "the last good state is still served; bring the files back (or leave one file without objects, to serve nothing)";
        of_folder(Severity::Error, message, help)
    } else {
        of_folder(
            Severity::Warning,
            message,
            "put the mesh's configuration there; `argosy init` makes a sample",
        )
    }
}

fn of_folder(severity: Severity, message: String, help: &str) -> Finding {
    Finding {
        severity,
        object: None,
        path: String::new(),
        message,
        help: Some(help.to_owned()),
        origin: Origin::default(),
    }
}

pub(super) fn duplicate(key: &ObjectKey, second: &Object, first: &Object) -> Finding {
    Finding {
        severity: Severity::Error,
        object: Some(key.clone()),
        path: "metadata.name".to_owned(),
        message: format!("is defined a second time; the first is at {}", first.origin),
        help: Some("the first is served; remove or rename one of the two".to_owned()),
        origin: second.origin.clone(),
    }
}

/// The finding that an object is served in an older version.
pub(crate) fn still_served(key: &ObjectKey, object: &Object) -> Finding {
    Finding {
        severity: Severity::Info,
        object: Some(key.clone()),
        path: String::new(),
        message: "the last good version is still served".to_owned(),
        help: Some("correct the errors above, or remove the object".to_owned()),
        origin: object.origin.clone(),
    }
}
