//! Whether an object may be stored: `config`'s rules, the same as for files, applied to what the API server asks.
//!
//! Pure. It refuses only what the mesh would refuse too, and never what an operator needs to get out of trouble: deletion,
//! finalizers, status, and what is in the mesh's own namespace.

use config::{Finding, Kind, Severity};
use runtime::spiffe::SYSTEM_NAMESPACE;
use serde_json::{Map, Value, json};

use super::review::{Cause, Refused, Request, Verdict};

/// Most warnings in an answer, and most faults in a refusal's text.
const MAX_SHOWN: usize = 20;
/// Longest warning in characters: the API server cuts longer ones.
const MAX_WARNING: usize = 256;
/// Longest line about one fault, in characters.
const MAX_LINE: usize = 1024;

/// Decides about a request. It fills in what the API server has not yet: namespace, and name where it is generated.
pub fn judge(request: &mut Request) -> Verdict {
    let changes = matches!(request.operation.as_str(), "CREATE" | "UPDATE");
    if !changes || !request.sub_resource.is_empty() {
        return Verdict::default();
    }
    let kind = Kind::find(&request.kind.group, &request.kind.kind);
    if kind.is_none() && !is_mesh_group(&request.kind.group) {
        return Verdict::default();
    }
    let findings = match complete(request) {
        None => vec![Finding::error(
            "the request holds no object; this is a fault of the API server or of a proxy before Galley",
        )],
        Some(object) => match config::decode(object) {
            Ok((_, findings)) | Err(findings) => findings,
        },
    };
    let spared = spared(kind, request);
    verdict(request, &findings, spared)
}

/// The mesh's own groups, of which every kind is known; `install.istio.io` describes Istio's installation.
fn is_mesh_group(group: &str) -> bool {
    group.ends_with(".istio.io") && group != "install.istio.io"
}

/// The object, with namespace and name filled in.
fn complete(request: &mut Request) -> Option<&Value> {
    let object = request.object.as_mut()?.as_object_mut()?;
    if let Some(metadata) = object
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()))
        .as_object_mut()
    {
        let text = |metadata: &Map<String, Value>, field: &str| {
            let text = metadata.get(field).and_then(Value::as_str).unwrap_or_default();
            text.to_owned()
        };
        if text(metadata, "namespace").is_empty() && !request.namespace.is_empty() {
            metadata.insert("namespace".to_owned(), json!(request.namespace));
        }
        let generated = text(metadata, "generateName");
        if text(metadata, "name").is_empty() && !(request.name.is_empty() && generated.is_empty()) {
            let name = match request.name.as_str() {
                // The API server adds five characters.
                "" => format!("{generated}xxxxx"),
                name => name.to_owned(),
            };
            metadata.insert("name".to_owned(), json!(name));
        }
    }
    request.object.as_ref()
}

/// Why faults are shown as warnings and do not refuse this request.
fn spared(kind: Option<Kind>, request: &Request) -> Option<&'static str> {
    let object = request.object.as_ref();
    match () {
        // Kubernetes has rules of its own for its kinds; the mesh leaves out what it cannot use.
        () if kind.is_some_and(Kind::is_kubernetes) => Some("the mesh will not use this object"),
        () if request.namespace == SYSTEM_NAMESPACE => {
            Some("not refused in the mesh's own namespace, but not used either")
        }
        () if object.is_some_and(is_being_deleted) => Some("not refused because it is being deleted"),
        () if is_unchanged(request) => Some("not refused because it was so before, but not used either"),
        () => None,
    }
}

fn is_being_deleted(object: &Value) -> bool {
    object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|time| !time.is_null())
}

/// Whether an update leaves alone all that the rules are about, as adding a finalizer does.
fn is_unchanged(request: &Request) -> bool {
    let (Some(Value::Object(new)), Some(Value::Object(old))) = (&request.object, &request.old_object) else {
        return false;
    };
    let body = |object: &Map<String, Value>| {
        let fields = object.iter();
        fields
            .filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "metadata" | "status"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Map<String, Value>>()
    };
    let meta = |object: &Map<String, Value>, field: &str| object.get("metadata")?.get(field).cloned();
    request.operation == "UPDATE"
        && body(new) == body(old)
        && ["labels", "annotations"]
            .iter()
            .all(|field| meta(new, field) == meta(old, field))
}

fn verdict(request: &Request, findings: &[Finding], spared: Option<&'static str>) -> Verdict {
    let errors: Vec<&Finding> = findings.iter().filter(|finding| finding.is_error()).collect();
    let mut warnings: Vec<String> = match spared {
        Some(why) => errors
            .iter()
            .map(|error| warning(&format!("{}; {why}", line(error))))
            .collect(),
        None => Vec::new(),
    };
    let others = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Warning);
    warnings.extend(others.map(|finding| warning(&line(finding))));
    if warnings.len() > MAX_SHOWN {
        let more = warnings.len() - MAX_SHOWN;
        warnings.truncate(MAX_SHOWN);
        warnings.push(format!("and {more} more; `argosy validate -f FILE` shows all"));
    }
    let refused = (spared.is_none() && !errors.is_empty()).then(|| refused(request, &errors));
    Verdict {
        refused,
        warnings,
        patch: None,
    }
}

fn refused(request: &Request, errors: &[&Finding]) -> Refused {
    let object = name(request);
    let message = match errors {
        [error] => format!("{object}: {}", line(error)),
        errors => {
            let lines: Vec<String> = errors
                .iter()
                .take(MAX_SHOWN)
                .map(|error| format!("\n- {}", line(error)))
                .collect();
            let more = match errors.len().saturating_sub(MAX_SHOWN) {
                0 => String::new(),
                more => format!("\n- and {more} more"),
            };
            format!("{object} has {} errors:{}{more}", errors.len(), lines.concat())
        }
    };
    let causes = errors.iter().take(MAX_SHOWN).map(|error| Cause {
        reason: "FieldValueInvalid",
        message: said(error),
        field: error.path.clone(),
    });
    Refused {
        message,
        causes: causes.collect(),
    }
}

fn name(request: &Request) -> String {
    let generated = || {
        let name = request.object.as_ref()?.pointer("/metadata/name")?.as_str()?;
        Some(name.to_owned())
    };
    let name = match request.name.as_str() {
        "" => generated().unwrap_or_default(),
        name => name.to_owned(),
    };
    let kind = &request.kind.kind;
    match request.namespace.as_str() {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    }
}

/// `PATH: what is wrong; the way out`.
fn line(finding: &Finding) -> String {
    match finding.path.as_str() {
        "" => said(finding),
        path => cut(&format!("{path}: {}", said(finding)), MAX_LINE),
    }
}

fn said(finding: &Finding) -> String {
    let text = match &finding.help {
        Some(help) => format!("{}; {help}", finding.message),
        None => finding.message.clone(),
    };
    cut(&text, MAX_LINE)
}

/// Warnings travel as HTTP headers: one line, no control characters.
fn warning(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    cut(&text, MAX_WARNING)
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use admission::review::GroupVersionKind;

    fn good() -> Value {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "reviews", "namespace": "shop"},
            "spec": {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "reviews"}}]}]},
        })
    }

    fn bad() -> Value {
        let mut object = good();
        object["spec"]["http"][0]["route"][0]["weight"] = json!(-3);
        object
    }

    fn request(operation: &str, object: Option<Value>, old: Option<Value>) -> Request {
        let text = |field: &str| {
            let either = object.as_ref().or(old.as_ref());
            either
                .and_then(|object| object.pointer(field))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let api_version = text("/apiVersion");
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        Request {
            kind: GroupVersionKind {
                group: group.to_owned(),
                version: version.to_owned(),
                kind: text("/kind"),
            },
            name: text("/metadata/name"),
            namespace: text("/metadata/namespace"),
            operation: operation.to_owned(),
            object,
            old_object: old,
            ..Request::default()
        }
    }

    /// Refused with these words, or allowed with a warning of these words (`""` for none).
    #[track_caller]
    fn check(mut request: Request, expected: Result<&str, &str>) {
        let verdict = judge(&mut request);
        match (&verdict.refused, expected) {
            (Some(refused), Err(words)) => assert!(refused.message.contains(words), "{}", refused.message),
            (None, Ok("")) => assert!(verdict.warnings.is_empty(), "{:?}", verdict.warnings),
            (None, Ok(words)) => assert!(
                verdict.warnings.iter().any(|warning| warning.contains(words)),
                "{:?}",
                verdict.warnings
            ),
            (refused, _) => panic!("{refused:?} {:?}", verdict.warnings),
        }
    }

    #[test]
    fn what_is_stored_must_keep_the_rules() {
        check(request("CREATE", Some(good()), None), Ok(""));
        check(request("UPDATE", Some(good()), Some(bad())), Ok(""));
        let words = "VirtualService shop/reviews: spec.http[0].route[0].weight: ";
        check(request("CREATE", Some(bad()), None), Err(words));
        check(request("UPDATE", Some(bad()), Some(good())), Err(words));
        check(request("CREATE", None, None), Ok(""));
        let mut empty = request("CREATE", Some(good()), None);
        empty.object = None;
        check(empty, Err("holds no object"));
    }

    #[test]
    fn several_errors_are_a_list() {
        let mut object = bad();
        object["spec"]["hots"] = json!(["x"]);
        check(
            request("CREATE", Some(object.clone()), None),
            Err("has 2 errors:\n- "),
        );
        for number in 0..30 {
            object["spec"][format!("x{number}")] = json!(1);
        }
        check(request("CREATE", Some(object), None), Err("\n- and 12 more"));
    }

    #[test]
    fn nothing_bars_the_way_out() {
        check(request("DELETE", None, Some(bad())), Ok(""));
        let mut status = request("UPDATE", Some(bad()), Some(good()));
        status.sub_resource = "status".to_owned();
        check(status, Ok(""));
        let mut deleted = bad();
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        check(
            request("UPDATE", Some(deleted), Some(good())),
            Ok("being deleted"),
        );
        let mut finalizer = bad();
        finalizer["metadata"]["finalizers"] = json!(["a/b"]);
        check(
            request("UPDATE", Some(finalizer), Some(bad())),
            Ok("was so before"),
        );
        let mut labelled = bad();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        check(request("UPDATE", Some(labelled), Some(bad())), Err("weight"));
        let mut own = bad();
        own["metadata"]["namespace"] = json!("argosy-system");
        check(request("CREATE", Some(own), None), Ok("own namespace"));
    }

    #[test]
    fn kinds_that_are_not_the_meshs_pass_and_misspelt_ones_do_not() {
        let of = |api_version: &str, kind: &str| json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "shop"}, "spec": {"odd": 1}});
        for (api_version, kind, expected) in [
            ("example.com/v1", "Thing", Ok("")),
            ("install.istio.io/v1alpha1", "IstioOperator", Ok("")),
            ("apps/v1", "StatefulSet", Ok("")),
            (
                "networking.istio.io/v1",
                "VirtualServices",
                Err("did you mean VirtualService?"),
            ),
            ("networking.istio.io/v9", "VirtualService", Err("no version")),
        ] {
            check(request("CREATE", Some(of(api_version, kind)), None), expected);
        }
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "shop"}, "spec": {"ports": [{"port": 99999}]}});
        check(
            request("CREATE", Some(service), None),
            Ok("the mesh will not use this object"),
        );
    }

    #[test]
    fn names_that_the_api_server_makes_are_no_fault() {
        let mut object = good();
        object["metadata"] = json!({"generateName": "reviews-"});
        let mut generated = request("CREATE", Some(object), None);
        generated.namespace = "shop".to_owned();
        check(generated, Ok(""));
    }

    #[test]
    fn warnings_fit_into_a_header() {
        let mut object = bad();
        object["metadata"]["namespace"] = json!("argosy-system");
        object["spec"][format!("x\n{}", "é".repeat(3000))] = json!(1);
        let verdict = judge(&mut request("CREATE", Some(object), None));
        assert!(verdict.refused.is_none());
        for warning in &verdict.warnings {
            assert!(
                warning.chars().count() <= MAX_WARNING && !warning.contains('\n'),
                "{warning}"
            );
        }
        assert!(verdict.warnings.len() >= 2);
    }
}
