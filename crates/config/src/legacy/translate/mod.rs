//! Istio 1.4's security kinds as today's: Policy and MeshPolicy as PeerAuthentication, RequestAuthentication and (where a
//! token is demanded) AuthorizationPolicy; ServiceRole, ServiceRoleBinding and the RbacConfigs as AuthorizationPolicy.
//!
//! As in Istio 1.4 and 1.5, what today's kinds say of a workload comes before what these say. They name services, and
//! today's kinds select workloads; so a Service's selector is what a name becomes. What has no translation is named in an
//! error, and never widens what is allowed.

mod authentication;
mod rbac;
mod rule;
mod set;

use std::sync::Arc;

use crate::{Finding, Kind, Object, ObjectKey, Origin, Spec};

use set::Set;

/// On a translated object: which object it was made from, as [`ObjectKey`] is displayed.
pub const ANNOTATION: &str = "argosy.io/translated-from";

/// How a mesh is named, as far as the translation depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Mesh<'a> {
    /// Where policies for the whole mesh are.
    pub root_namespace: &'a str,
    /// The DNS domain of services, such as `cluster.local`.
    pub domain: &'a str,
}

impl Default for Mesh<'_> {
    fn default() -> Self {
        Self {
            root_namespace: "istio-system",
            domain: "cluster.local",
        }
    }
}

/// Whether an object of the kind has a translation.
pub fn is_translated(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Policy
            | Kind::MeshPolicy
            | Kind::ServiceRole
            | Kind::ServiceRoleBinding
            | Kind::RbacConfig
            | Kind::ClusterRbacConfig
    )
}

/// Today's objects for those of Istio 1.4 among `objects`, to be served beside them, and what there is to say: a warning
/// for each object that was translated, an error for each part that could not be. The result depends on the set alone, not
/// on its order; without objects of these kinds it is empty and costs one pass.
pub fn translate(objects: &[Arc<Object>], mesh: Mesh<'_>) -> (Vec<Object>, Vec<Finding>) {
    if !objects.iter().any(|object| is_translated(object.kind)) {
        return (Vec::new(), Vec::new());
    }
    let set = Set::new(objects, mesh);
    let mut out = Out::default();
    authentication::translate(&set, &mut out);
    rbac::translate(&set, &mut out);
    out.objects.sort_by_cached_key(Object::key);
    (out.objects, out.findings)
}

/// What is made.
#[derive(Default)]
struct Out {
    objects: Vec<Object>,
    findings: Vec<Finding>,
}

impl Out {
    /// Adds an object made from others.
    fn add(&mut self, kind: Kind, namespace: &str, name: String, spec: Spec, from: &[&Object]) {
        let mut meta = crate::Meta {
            namespace: namespace.to_owned(),
            name,
            ..crate::Meta::default()
        };
        let origins: Vec<String> = from.iter().map(|object| object.key().to_string()).collect();
        meta.annotations.insert(ANNOTATION.to_owned(), origins.join(", "));
        meta.created = from.iter().filter_map(|object| object.meta.created).min();
        let origin = from
            .first()
            .map_or_else(Origin::default, |object| object.origin.clone());
        self.objects.push(Object {
            kind,
            meta,
            spec,
            origin,
        });
    }

    fn translated(&mut self, object: &Object, into: &str) {
        let finding = Finding::warning(format!("a kind of Istio 1.4, in force as {into}"));
        let help = "write that instead: the translation is for the time until then";
        self.findings
            .push(finding.of(object.key()).help(help).from(object.origin.clone()));
    }

    /// A part that has no translation.
    fn refused(&mut self, object: &Object, path: &str, message: impl Into<String>, help: &str) {
        let finding = Finding::error(message).of(object.key()).at(path);
        self.findings.push(finding.help(help).from(object.origin.clone()));
    }

    /// A part that has no effect as long as another object is missing, which is no fault of this one.
    fn awaited(&mut self, object: &Object, path: &str, message: impl Into<String>, help: &str) {
        let finding = Finding::warning(message).of(object.key()).at(path);
        self.findings.push(finding.help(help).from(object.origin.clone()));
    }

    fn ignored(&mut self, object: &Object, path: &str, message: impl Into<String>) {
        let finding = Finding::warning(message).of(object.key()).at(path);
        self.findings.push(finding.from(object.origin.clone()));
    }
}

/// Words for an object of a translation.
fn key(kind: Kind, namespace: &str, name: &str) -> String {
    ObjectKey::new(kind, namespace, name).to_string()
}
