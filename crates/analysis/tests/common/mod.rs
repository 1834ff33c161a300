//! The example of each message: files of the folder `catalogue`, facts about a cluster where the message depends on them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use analysis::{ALL, Code, Denied, EXTRA, Facts, Message, PRECHECK, Set, Store};
use config::Object;

/// 2026-01-01.
pub(crate) const NOW: i64 = 1_767_225_600;

/// The example's text; none where there is no file.
pub(crate) fn yaml(code: Code) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("catalogue/{}.yaml", code.id()));
    std::fs::read_to_string(path).ok()
}

/// The facts of an example, and how they are said.
pub(crate) fn facts(code: Code) -> Option<(&'static str, Facts)> {
    let facts = Facts::default();
    Some(match code {
        Code::InsufficientPermissions => (
            "The caller may not create ClusterRoles (`kubectl auth can-i create clusterroles` says no).",
            Facts {
                denied: vec![Denied {
                    resource: "clusterroles.rbac.authorization.k8s.io".to_owned(),
                    reason: "the caller has no such right".to_owned(),
                }],
                ..facts
            },
        ),
        Code::UnsupportedKubernetesVersion => (
            "The API server is of version v1.28.2.",
            Facts {
                kubernetes_version: Some("v1.28.2".to_owned()),
                ..facts
            },
        ),
        Code::UpdateIncompatibility => (
            "`argosy analyze --precheck --from-version 1.20`, in a cluster with this Service:",
            Facts {
                from_version: Some((1, 20)),
                ..facts
            },
        ),
        Code::MultiClusterInconsistentService => (
            "`argosy analyze --remote-contexts west`; the Service shop/web has port 80 here and port 8080 in the cluster west.",
            Facts {
                clusters: clusters(),
                ..facts
            },
        ),
        _ => return None,
    })
}

fn clusters() -> BTreeMap<String, Vec<Arc<Object>>> {
    let service = |port: u32| {
        let yaml = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop}}, spec: {{ports: [{{name: http, port: {port}}}]}}}}"
        );
        let parsed = config::parse("", yaml.as_bytes(), "");
        parsed
            .objects
            .into_iter()
            .map(|mut object| {
                object.origin = config::Origin::default();
                Arc::new(object)
            })
            .collect()
    };
    BTreeMap::from([
        ("east".to_owned(), service(80)),
        ("west".to_owned(), service(8080)),
    ])
}

/// What all analyzers and validation say of files as they would without a cluster, and of facts.
pub(crate) fn analyze(file: &str, yaml: &str, facts: Facts) -> Vec<Message> {
    let parsed = config::parse(file, yaml.as_bytes(), "default");
    let unreadable: Vec<_> = parsed.findings.iter().filter(|f| f.object.is_none()).collect();
    assert!(unreadable.is_empty(), "{unreadable:?}");
    let defaults = analysis::defaults(&config::mesh::MeshConfig::default(), "istio-system");
    let objects = defaults.into_iter().chain(parsed.objects).chain(parsed.invalid);
    let mut store: Store = objects.map(Arc::new).collect();
    for (key, status) in &parsed.statuses {
        store.set_status(key, Some(status));
    }
    store.set_facts(facts);
    let set = Set::new(&store, NOW);
    let mut messages = analysis::run(&set, ALL.iter().chain(EXTRA).chain(PRECHECK));
    messages.extend(analysis::of_findings(&parsed.findings));
    analysis::point(&mut messages, |name| (name == file).then_some(yaml.as_bytes()));
    messages
}

/// What the example of a code gives of that code.
pub(crate) fn example(code: Code) -> Vec<Message> {
    let file = format!("{}.yaml", code.id());
    let facts = facts(code).map(|(_, facts)| facts).unwrap_or_default();
    let messages = analyze(&file, &yaml(code).unwrap_or_default(), facts);
    messages
        .into_iter()
        .filter(|message| message.code == code)
        .collect()
}
