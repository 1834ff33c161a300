//! Whether the charts can be installed into a cluster: its version, what the caller may create, and what others have put
//! there before. Pure: facts in, rows out.

use std::collections::BTreeSet;

use serde_json::Value;

use super::judge::{Row, Seen, State, hooks, items, row, text, version};

/// A kind that the charts create: API group, resource, and whether its objects are in a namespace.
pub(super) type Created = (&'static str, &'static str, bool);

/// All of them.
pub(super) const CREATED: [Created; 15] = [
    ("apiextensions.k8s.io", "customresourcedefinitions", false),
    ("rbac.authorization.k8s.io", "clusterroles", false),
    ("rbac.authorization.k8s.io", "clusterrolebindings", false),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        false,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        false,
    ),
    ("", "namespaces", false),
    ("rbac.authorization.k8s.io", "roles", true),
    ("rbac.authorization.k8s.io", "rolebindings", true),
    ("", "serviceaccounts", true),
    ("", "services", true),
    ("", "configmaps", true),
    // Where helm keeps its releases.
    ("", "secrets", true),
    ("", "pods", true),
    ("apps", "deployments", true),
    ("policy", "poddisruptionbudgets", true),
];

/// What was read.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) version: (String, String),
    /// What the caller may not create.
    pub(super) lacking: Vec<Created>,
    pub(super) definitions: Seen,
    pub(super) mutating: Seen,
}

/// All rows.
pub(super) fn judge(facts: &Facts, namespace: &str) -> Vec<Row> {
    let mut rows = vec![
        row("Kubernetes", version(&facts.version)),
        row("rights", rights(&facts.lacking, namespace)),
    ];
    rows.push(seen("definitions of kinds", &facts.definitions, |list| {
        row("definitions of kinds", definitions(list))
    }));
    rows.push(seen("other injectors", &facts.mutating, injectors));
    rows
}

fn seen(object: &str, seen: &Seen, judge: impl FnOnce(&Value) -> Row) -> Row {
    match seen {
        Seen::There(list) => judge(list),
        Seen::Absent => row(object, Ok("none".to_owned())),
        Seen::Refused(words) => unknown(object, words.clone()),
    }
}

fn unknown(object: &str, message: String) -> Row {
    Row {
        object: object.to_owned(),
        state: State::Unknown,
        message,
    }
}

fn rights(lacking: &[Created], namespace: &str) -> Result<String, String> {
    if lacking.is_empty() {
        return Ok(format!("all {} kinds may be created", CREATED.len()));
    }
    let names = lacking.iter().map(|(group, resource, namespaced)| {
        let place = if *namespaced {
            format!(" in {namespace}")
        } else {
            String::new()
        };
        match *group {
            "" => format!("{resource}{place}"),
            group => format!("{resource}.{group}{place}"),
        }
    });
    let names: Vec<String> = names.collect();
    Err(format!(
        "you may not create {}; install as a user who may, such as one with the ClusterRole cluster-admin",
        names.join(", ")
    ))
}

fn is_ours(object: &Value) -> bool {
    text(object, "/metadata/labels/app.kubernetes.io~1part-of") == "argosy"
}

/// helm takes over no definition that another release, or no release, has installed.
fn definitions(list: &Value) -> Result<String, String> {
    let ours = config::crd::all();
    let names: BTreeSet<&str> = ours.iter().map(|one| text(one, "/metadata/name")).collect();
    let there = || items(list).filter(|one| names.contains(text(one, "/metadata/name")));
    let others: Vec<&str> = there()
        .filter(|one| !is_ours(one))
        .map(|one| text(one, "/metadata/name"))
        .collect();
    match others.as_slice() {
        [] => Ok(format!("{} of {} are there", there().count(), ours.len())),
        [first, rest @ ..] => Err(format!(
            "{first} and {} others were installed by somebody else; keep them with --set base.crds.enabled=false, or uninstall them first \
             (which deletes their objects)",
            rest.len()
        )),
    }
}

/// Another mesh's injector would give the same pods a second proxy.
fn injectors(list: &Value) -> Row {
    const OBJECT: &str = "other injectors";
    let injects = |one: &&Value| {
        !is_ours(one)
            && hooks(one).any(|hook| text(hook, "/clientConfig/service/path").starts_with("/inject"))
    };
    let others: Vec<&str> = items(list)
        .filter(injects)
        .map(|one| text(one, "/metadata/name"))
        .collect();
    match others.as_slice() {
        [] => row(OBJECT, Ok("none".to_owned())),
        others => unknown(
            OBJECT,
            format!(
                "{} injects too; label no namespace for both, or install with --set global.revision=NAME",
                others.join(", ")
            ),
        ),
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]
mod tests {
    use serde_json::json;

    use super::*;

    fn empty() -> Facts {
        let none = Seen::There(json!({"items": []}));
        Facts {
            version: ("1".to_owned(), "34".to_owned()),
            lacking: Vec::new(),
            definitions: none.clone(),
            mutating: none,
        }
    }

    /// The rows that are not well after the change, as `state object: message`.
    fn check(change: impl FnOnce(&mut Facts), expected: &[&str]) {
        let mut facts = empty();
        change(&mut facts);
        let rows = judge(&facts, "argosy-system");
        let told: Vec<String> = rows
            .iter()
            .filter(|row| row.state != State::Well)
            .map(|row| format!("{} {}: {}", row.state.name(), row.object, row.message))
            .collect();
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.contains(expected), "{told} has no {expected:?}");
        }
    }

    fn listed(object: &Value) -> Seen {
        Seen::There(json!({"items": [object]}))
    }

    #[test]
    fn an_empty_cluster_is_well() {
        check(|_| {}, &[]);
    }

    #[test]
    fn what_is_in_the_way_is_named_with_the_way_out() {
        check(
            |f| f.version.1 = "26+".to_owned(),
            &["wrong Kubernetes: 1.26+ is older"],
        );
        check(
            |f| f.lacking = vec![CREATED[1], ("", "secrets", true)],
            &[
                "may not create clusterroles.rbac.authorization.k8s.io, secrets in argosy-system; install as a user",
            ],
        );
        let name = "virtualservices.networking.istio.io";
        let definition = |labels: Value| listed(&json!({"metadata": {"name": name, "labels": labels}}));
        check(
            |f| f.definitions = definition(json!({"app.kubernetes.io/part-of": "argosy"})),
            &[],
        );
        check(
            |f| f.definitions = definition(json!({"app.kubernetes.io/part-of": "istio"})),
            &["wrong definitions of kinds: virtualservices.networking.istio.io and 0 others"],
        );
        check(
            |f| f.definitions = listed(&json!({"metadata": {"name": "foos.example.org"}})),
            &[],
        );
        check(
            |f| f.definitions = Seen::Refused("may not list".to_owned()),
            &["unknown definitions of kinds: may not list"],
        );
        let webhook = |labels: Value, path: &str| {
            listed(
                &json!({"metadata": {"name": "istio-sidecar-injector", "labels": labels},
                "webhooks": [{"clientConfig": {"service": {"path": path}}}]}),
            )
        };
        check(
            |f| f.mutating = webhook(json!({}), "/inject"),
            &["unknown other injectors: istio-sidecar-injector injects too"],
        );
        check(|f| f.mutating = webhook(json!({}), "/mutate"), &[]);
        check(
            |f| f.mutating = webhook(json!({"app.kubernetes.io/part-of": "argosy"}), "/inject"),
            &[],
        );
    }
}
