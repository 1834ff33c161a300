//! The policies of one workload.

use std::collections::{BTreeMap, BTreeSet};

use config::ObjectKey;
use config::security::{Action, AuthorizationPolicy, JwtRule, MutualTlsMode, Rule};
use config::selector::PolicyTargetReference;
use model::{PeerModes, Policy, Snapshot};

/// Annotation of policies that are only tried (Istio).
const DRY_RUN: &str = "istio.io/dry-run";
/// Labels by which Istio names the Kubernetes Gateway that a proxy serves, and its class.
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";
const CLASS: &str = "gateway.networking.k8s.io/gateway-class-name";

/// The policies that select a workload, and what of the mesh they mean.
#[derive(Debug, Clone)]
pub struct PolicySet {
    pub(crate) modes: PeerModes,
    pub(crate) tokens: Vec<JwtRule>,
    pub(crate) rules: Vec<Authorization>,
    /// The mesh's trust domain and its aliases.
    pub(crate) domains: Vec<String>,
    /// Names of the providers that can be asked.
    pub(crate) authorizers: BTreeSet<String>,
}

/// An AuthorizationPolicy in force.
#[derive(Debug, Clone)]
pub(crate) struct Authorization {
    pub(crate) key: ObjectKey,
    pub(crate) action: Action,
    pub(crate) provider: String,
    pub(crate) trial: bool,
    pub(crate) rules: Vec<Rule>,
}

impl PolicySet {
    /// The policies of a workload by its namespace and labels.
    #[must_use]
    pub fn of(snapshot: &Snapshot, namespace: &str, labels: &BTreeMap<String, String>) -> PolicySet {
        let (policies, mesh) = (snapshot.policies(), snapshot.mesh());
        let root = snapshot.root_namespace();
        let is_for = |targets: Vec<&PolicyTargetReference>, policy: &ObjectKey| {
            let named = |label, name| labels.get(label) == Some(name);
            targets.is_empty()
                || targets.iter().any(|target| match target.kind.as_str() {
                    "Gateway" => policy.namespace == namespace && named(GATEWAY, &target.name),
                    "GatewayClass" => policy.namespace == root && named(CLASS, &target.name),
                    _ => false,
                })
        };
        let tokens = policies
            .request(namespace, labels)
            .filter(|p| {
                is_for(
                    p.spec.target_ref.iter().chain(&p.spec.target_refs).collect(),
                    &p.key,
                )
            })
            .flat_map(|policy| policy.spec.jwt_rules.iter().cloned());
        let rules = policies
            .authorization(namespace, labels)
            .filter(|p| {
                is_for(
                    p.spec.target_ref.iter().chain(&p.spec.target_refs).collect(),
                    &p.key,
                )
            })
            .map(authorization);
        let known = mesh
            .extension_providers
            .iter()
            .filter(|p| p.envoy_ext_authz_grpc.is_some() || p.envoy_ext_authz_http.is_some());
        let domains = std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases);
        PolicySet {
            modes: policies.peer_modes(namespace, labels),
            tokens: tokens.collect(),
            rules: rules.collect(),
            domains: domains.cloned().collect(),
            authorizers: known.map(|provider| provider.name.clone()).collect(),
        }
    }

    /// The mode of mutual TLS of a port of the workload.
    #[must_use]
    pub fn mode(&self, port: u16) -> MutualTlsMode {
        self.modes.of(port)
    }
}

fn authorization(policy: &Policy<AuthorizationPolicy>) -> Authorization {
    let provider = policy.spec.provider.as_ref();
    Authorization {
        key: policy.key.clone(),
        action: policy.spec.action,
        provider: provider.map(|provider| provider.name.clone()).unwrap_or_default(),
        trial: policy
            .annotations
            .get(DRY_RUN)
            .is_some_and(|value| value.eq_ignore_ascii_case("true")),
        rules: policy.spec.rules.clone(),
    }
}
