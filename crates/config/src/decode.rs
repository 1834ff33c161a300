//! The one way from JSON to a typed object: which kind it is, structure, metadata, then the kind's own rules.

use serde_json::{Map, Value};

use crate::clip::{self, clip};
use crate::foreign;
use crate::path::{At, Issue, Report};
use crate::structure;
use crate::{
    Finding, Kind, Meta, Object, ObjectKey, Options, Origin, Severity, Spec, meta, networking, unserved,
    validate,
};

/// What became of one document.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Which object it is, as far as that can be told.
    pub(crate) key: Option<ObjectKey>,
    /// The object, when nothing is wrong with it; or else as much of it as has its kind's structure.
    pub(crate) object: Result<Object, Option<Object>>,
    pub(crate) issues: Vec<Issue>,
}

impl Decoded {
    /// What a report says of an object.
    pub(crate) fn new(key: Option<ObjectKey>, object: Option<Object>, report: Report) -> Self {
        let object = match object {
            Some(object) if !report.has_errors() => Ok(object),
            other => Err(other),
        };
        Self {
            key,
            object,
            issues: report.into_issues(),
        }
    }
}

/// The object that a JSON value describes, with what there is to say about it.
///
/// The namespace is `default` where the value names none. An object of a kind that the mesh does not read (such as a
/// Kubernetes Deployment) is an error here, since the caller wants an object.
///
/// # Errors
/// All that is wrong, each with the field's path and a way out; warnings are among them.
pub fn decode(value: &Value) -> Result<(Object, Vec<Finding>), Vec<Finding>> {
    let Decoded { key, object, issues } = object(value.clone(), "default", Options::default());
    let mut findings: Vec<Finding> = issues
        .into_iter()
        .map(|issue| issue.into_finding(key.as_ref()))
        .collect();
    match object {
        Ok(object) => Ok((object, findings)),
        Err(_) => {
            if !findings.iter().any(Finding::is_error) {
                findings
                    .iter_mut()
                    .for_each(|finding| finding.severity = Severity::Error);
            }
            Err(findings)
        }
    }
}

/// The typed body of an object of `kind`; `body` is the object's JSON, of which apiVersion, kind and metadata are ignored.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn body(
    kind: Kind,
    meta: &Meta,
    body: Map<String, Value>,
) -> Result<(Spec, Vec<Finding>), Vec<Finding>> {
    let report = Report::default();
    let spec = typed(kind, meta, body, &At::root(&report));
    let errors = report.has_errors();
    let key = ObjectKey::new(kind, &*meta.namespace, &*meta.name);
    let findings = report
        .into_issues()
        .into_iter()
        .map(|issue| issue.into_finding(Some(&key)))
        .collect();
    match spec.filter(|_| !errors) {
        Some(spec) => Ok((spec, findings)),
        None => Err(findings),
    }
}

/// As [`decode`], with the namespace that an object without one belongs to.
pub(crate) fn object(value: Value, namespace: &str, options: Options) -> Decoded {
    let report = Report::new(options);
    let (key, object) = identify_and_read(value, namespace, &At::root(&report));
    Decoded::new(key, object, report)
}

fn identify_and_read(value: Value, namespace: &str, at: &At<'_>) -> (Option<ObjectKey>, Option<Object>) {
    let Value::Object(mut fields) = value else {
        at.error("an object is a map with apiVersion, kind, metadata and spec");
        return (None, None);
    };
    let Some(kind) = identify(&fields, at) else {
        return (None, None);
    };
    let mut meta = meta::read(
        kind,
        fields.swap_remove("metadata"),
        namespace,
        &at.key("metadata"),
    );
    networking::annotate_allocated(kind, &mut meta, fields.get("status"));
    let key = ObjectKey::new(kind, &*meta.namespace, &*meta.name);
    if kind.under_spec() {
        for name in fields.keys().filter(|name| {
            !matches!(
                name.as_str(),
                "apiVersion" | "kind" | "metadata" | "spec" | "status"
            )
        }) {
            at.key(name).error_help(
                "unknown field",
                "beside metadata there is only spec; put the object's fields there",
            );
        }
    }
    let spec = typed(kind, &meta, fields, at);
    if let Some(spec) = &spec {
        validate::annotations(kind, &meta, spec, at);
    }
    let object = spec.map(|spec| Object {
        kind,
        meta,
        spec,
        origin: Origin::default(),
    });
    (Some(key), object)
}

/// The kind that apiVersion and kind say.
fn identify(fields: &Map<String, Value>, at: &At<'_>) -> Option<Kind> {
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.as_str()),
        Some(Value::Null) | None => {
            at.key(name).error("every object needs this field");
            None
        }
        Some(_) => {
            at.key(name).error("must be a text");
            None
        }
    };
    let (api_version, name) = (text("apiVersion"), text("kind"));
    let (api_version, name) = (api_version?, name?);
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let Some(kind) = Kind::find(group, name) else {
        foreign::report(group, api_version, name, at);
        return None;
    };
    if !kind.versions().contains(&version) {
        let served: Vec<String> = kind
            .versions()
            .iter()
            .map(|v| {
                if group.is_empty() {
                    (*v).into()
                } else {
                    format!("{group}/{v}")
                }
            })
            .collect();
        let message = format!("{kind} has no version {version:?}; use {}", served.join(" or "));
        at.key("apiVersion").error(message);
        return None;
    }
    Some(kind)
}

/// The body's structure, then its rules.
fn typed(kind: Kind, meta: &Meta, mut fields: Map<String, Value>, at: &At<'_>) -> Option<Spec> {
    if !kind.under_spec() {
        for name in ["apiVersion", "kind", "metadata"] {
            fields.shift_remove(name);
        }
        return checked(kind, meta, Value::Object(fields), at);
    }
    let spec = fields
        .swap_remove("spec")
        .unwrap_or_else(|| Value::Object(Map::new()));
    checked(kind, meta, spec, &at.key("spec"))
}

/// The body of `kind` that `value` holds, checked; what is wrong is reported.
pub(crate) fn checked(kind: Kind, meta: &Meta, value: Value, at: &At<'_>) -> Option<Spec> {
    let value = structure::normalise(kind, value, at);
    unserved::report(kind, &value, at);
    match Spec::from_value(kind, value) {
        Ok(spec) => {
            validate::spec(kind, meta, &spec, at);
            Some(spec)
        }
        // The structure was checked before, so this names a rule that the structure's check does not know yet.
        Err(error) => {
            let path = error.path().to_string();
            at.error(format!("{path}: {}", error.into_inner()));
            None
        }
    }
}

impl Issue {
    pub(crate) fn into_finding(self, key: Option<&ObjectKey>) -> Finding {
        // Findings are logged and written into status; what is wrong with a secret value must not show it.
        let path = crate::path::Display(&self.path).to_string();
        let secret = key.is_some_and(|key| key.kind == Kind::Secret)
            && (path.starts_with("data") || path.starts_with("stringData"));
        Finding {
            severity: self.severity,
            object: key.cloned(),
            message: match secret {
                true => "must be a text, in quotes".to_owned(),
                false => clip(self.message, clip::MESSAGE),
            },
            path,
            help: self.help.map(|help| clip(help, clip::MESSAGE)),
            origin: Origin::default(),
        }
    }
}
