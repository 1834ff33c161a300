//! The policies of one workload.

use std::collections::BTreeMap;

use config::ObjectKey;
use config::mesh::NormalizationType;
use config::security::{Action, AuthorizationPolicy, JwtRule, MutualTlsMode, Rule};
use config::selector::PolicyTargetReference;
use model::{PeerModes, Policy, Snapshot};

use crate::rule::reads_http;

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
    /// What is made of paths before rules see them.
    pub(crate) normalization: NormalizationType,
    /// The providers that can be asked, by name.
    pub(crate) authorizers: BTreeMap<String, Speaks>,
}

/// What an external authorizer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    Grpc,
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
        let known = mesh.extension_providers.iter().filter_map(|provider| {
            let speaks = match (&provider.envoy_ext_authz_http, &provider.envoy_ext_authz_grpc) {
                (Some(_), _) => Speaks::Http,
                (None, Some(_)) => Speaks::Grpc,
                (None, None) => return None,
            };
            Some((provider.name.clone(), speaks))
        });
        let domains = std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases);
        let normalization = mesh.path_normalization.as_ref().map(|kind| kind.normalization);
        PolicySet {
            normalization: normalization.unwrap_or_default(),
            modes: policies.peer_modes(namespace, labels),
            tokens: tokens.collect(),
            rules: rules.collect(),
            domains: domains.cloned().collect(),
            authorizers: known.collect(),
        }
    }

    /// The mode of mutual TLS of a port of the workload.
    #[must_use]
    pub fn mode(&self, port: u16) -> MutualTlsMode {
        self.modes.of(port)
    }
}

impl Authorization {
    /// Whether the policy reads paths, and a request may be refused by it.
    pub(crate) fn refuses_by_path(&self) -> bool {
        let operations = self.rules.iter().flat_map(|rule| &rule.to);
        let mut operations = operations.filter_map(|to| to.operation.as_ref());
        !self.trial
            && self.action != Action::Audit
            && operations.any(|operation| !operation.paths.is_empty() || !operation.not_paths.is_empty())
    }

    /// With the rules alone that are about connections as much as about requests.
    pub(crate) fn without_http(&self) -> Authorization {
        let mut out = self.clone();
        out.rules.retain(|rule| !reads_http(rule));
        out
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
