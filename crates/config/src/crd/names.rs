//! Names by which kubectl finds objects of a kind, and the columns that it prints. They are Istio's, so that habits hold.

use serde_json::{Value, json};

use crate::Kind;

/// `names` of a definition.
pub(super) fn of(kind: Kind) -> Value {
    let mut names = json!({
        "kind": kind.as_str(),
        "listKind": format!("{kind}List"),
        "plural": kind.plural(),
        "singular": kind.as_str().to_ascii_lowercase(),
        "categories": categories(kind),
    });
    let short = short(kind);
    if let Some(names) = names.as_object_mut().filter(|_| !short.is_empty()) {
        names.insert("shortNames".into(), short.into());
    }
    names
}

fn short(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::VirtualService => &["vs"],
        Kind::DestinationRule => &["dr"],
        Kind::Gateway => &["gw"],
        Kind::ServiceEntry => &["se"],
        Kind::WorkloadEntry => &["we"],
        Kind::WorkloadGroup => &["wg"],
        Kind::AuthorizationPolicy => &["ap"],
        Kind::PeerAuthentication => &["pa"],
        Kind::RequestAuthentication => &["ra"],
        Kind::Telemetry => &["telemetry"],
        _ => &[],
    }
}

/// `kubectl get istio-io` lists all kinds, `kubectl get networking-istio-io` those of a group.
fn categories(kind: Kind) -> [String; 2] {
    let group = match kind.group() {
        // As in Istio 1.4.
        "config.istio.io" => "policy-istio-io".to_owned(),
        group => group.replace('.', "-"),
    };
    ["istio-io".to_owned(), group]
}

/// What replaces a kind of Istio 1.4.
pub(super) fn successor(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Policy | Kind::MeshPolicy => {
            Some("PeerAuthentication and RequestAuthentication of security.istio.io/v1")
        }
        Kind::ServiceRole | Kind::ServiceRoleBinding | Kind::RbacConfig | Kind::ClusterRbacConfig => {
            Some("AuthorizationPolicy of security.istio.io/v1")
        }
        _ => None,
    }
}

/// Columns of `kubectl get`: name, path below the object, meaning.
pub(super) fn columns(kind: Kind) -> Vec<Value> {
    let own: &[(&str, &str, &str)] = match kind {
        Kind::VirtualService => &[
            ("Gateways", ".spec.gateways", "Who applies the routes"),
            ("Hosts", ".spec.hosts", "Which hosts the routes are for"),
        ],
        Kind::DestinationRule => &[("Host", ".spec.host", "Which host the policies are for")],
        Kind::ServiceEntry => &[
            ("Hosts", ".spec.hosts", "Names of the service"),
            ("Location", ".spec.location", "Whether the service is in the mesh"),
            ("Resolution", ".spec.resolution", "How endpoints are found"),
        ],
        Kind::WorkloadEntry => &[("Address", ".spec.address", "Where the workload is reached")],
        Kind::AuthorizationPolicy => &[("Action", ".spec.action", "What a matching rule does")],
        Kind::PeerAuthentication => &[("Mode", ".spec.mtls.mode", "Whether mutual TLS is demanded")],
        Kind::Handler => &[("Adapter", ".spec.compiledAdapter", "The adapter that is built in")],
        Kind::Instance => &[(
            "Template",
            ".spec.compiledTemplate",
            "The template that is built in",
        )],
        Kind::ServiceRoleBinding => &[("Role", ".spec.roleRef.name", "The role that is given")],
        Kind::RbacConfig | Kind::ClusterRbacConfig => &[("Mode", ".spec.mode", "Where access is controlled")],
        _ => &[],
    };
    let own = own.iter().map(|(name, path, description)| {
        json!({"name": name, "type": "string", "jsonPath": path, "description": description})
    });
    let status = json!({"name": "Reconciled", "type": "string", "description": "Whether all proxies that depend on it have accepted it",
        "jsonPath": r#".status.conditions[?(@.type=="Reconciled")].status"#});
    let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": "How old the object is"});
    own.chain([status, age]).collect()
}
