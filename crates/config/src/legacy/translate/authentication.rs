//! Policy and MeshPolicy. For mutual TLS, STRICT stays STRICT and all else is PERMISSIVE; a token becomes a
//! RequestAuthentication, and a demanded one an AuthorizationPolicy that denies requests without it.

use std::collections::BTreeMap;

use super::set::{Set, workload_port};
use super::{Out, key};
use crate::legacy::{Jwt, MutualTlsMode, PathMatch, Policy, TriggerRule};
use crate::security::{
    Action, AuthorizationPolicy, JwtHeader, JwtRule, MutualTls, MutualTlsMode as Mode, Operation,
    PeerAuthentication, RequestAuthentication, Rule, RuleFrom, RuleTo, Source,
};
use crate::selector::WorkloadSelector;
use crate::{Kind, Object, Spec};

/// The name of what holds for a whole namespace or the mesh.
const DEFAULT: &str = "default";

/// What Policies say of the mutual TLS of one service.
#[derive(Default)]
struct OfService<'a> {
    mode: Option<Mode>,
    ports: BTreeMap<u32, Mode>,
    from: Vec<&'a Object>,
}

/// Where a policy's parts hold.
struct Place<'a> {
    namespace: &'a str,
    name: String,
    selector: Option<WorkloadSelector>,
    ports: Vec<u32>,
}

/// Adds what Policies and MeshPolicies are today.
pub(super) fn translate(set: &Set<'_>, out: &mut Out) {
    let mut services: BTreeMap<(&str, &str), OfService<'_>> = BTreeMap::new();
    for object in set.of(Kind::Policy).chain(set.of(Kind::MeshPolicy)) {
        let Spec::Policy(policy) = &object.spec else {
            continue;
        };
        complain(object, policy, out);
        if policy.targets.is_empty() {
            everywhere(set, object, policy, out);
            continue;
        }
        out.translated(
            object,
            "PeerAuthentication and RequestAuthentication of the services' workloads",
        );
        for (index, target) in policy.targets.iter().enumerate() {
            let path = format!("spec.targets[{index}]");
            let Some(service) = set.service(&object.meta.namespace, &target.name) else {
                let message = format!(
                    "no Service {} with a selector is in the namespace, so no workload is meant",
                    target.name
                );
                out.awaited(
                    object,
                    &path,
                    message,
                    "add the Service, or select the workloads by labels in a PeerAuthentication",
                );
                continue;
            };
            let of_service = services
                .entry((&object.meta.namespace, &target.name))
                .or_default();
            of_service.from.push(object);
            let mut ports = Vec::new();
            for (number, port) in target.ports.iter().enumerate() {
                match workload_port(service, port.number, port.name.as_deref()) {
                    Some(port) => ports.push(port),
                    None => out.refused(
                        object,
                        &format!("{path}.ports[{number}]"),
                        "the Service does not say which port of the workload this is, so the policy holds for all ports",
                        "give the Service's targetPort a number",
                    ),
                }
            }
            if ports.len() == target.ports.len() && !ports.is_empty() {
                of_service
                    .ports
                    .extend(ports.iter().map(|port| (*port, mode(policy))));
            } else {
                ports.clear();
                of_service.mode = Some(mode(policy));
            }
            let selector = WorkloadSelector {
                match_labels: service.spec.selector.clone(),
            };
            let name = format!("legacy-policy.{}.{}", object.meta.name, target.name);
            let place = Place {
                namespace: &object.meta.namespace,
                name,
                selector: Some(selector),
                ports,
            };
            tokens(set, object, policy, &place, out);
        }
    }
    for ((namespace, name), of_service) in services {
        peer_of_service(set, namespace, name, &of_service, out);
    }
}

/// A Policy for its namespace, or the MeshPolicy.
fn everywhere(set: &Set<'_>, object: &Object, policy: &Policy, out: &mut Out) {
    let namespace = match object.kind {
        Kind::MeshPolicy => set.mesh.root_namespace,
        _ => &object.meta.namespace,
    };
    match set.is_namespace_covered(Kind::PeerAuthentication, namespace) {
        true => out.ignored(
            object,
            "spec.peers",
            format!("has no effect: a PeerAuthentication of {namespace} says it"),
        ),
        false => {
            let spec = PeerAuthentication {
                mtls: Some(MutualTls { mode: mode(policy) }),
                ..PeerAuthentication::default()
            };
            out.add(
                Kind::PeerAuthentication,
                namespace,
                format!("legacy-policy.{DEFAULT}"),
                spec.into(),
                &[object],
            );
            out.translated(
                object,
                &key(
                    Kind::PeerAuthentication,
                    namespace,
                    &format!("legacy-policy.{DEFAULT}"),
                ),
            );
        }
    }
    let name = format!("legacy-policy.{DEFAULT}");
    tokens(
        set,
        object,
        policy,
        &Place {
            namespace,
            name,
            selector: None,
            ports: Vec::new(),
        },
        out,
    );
}

fn mode(policy: &Policy) -> Mode {
    let strict = policy.peers.iter().filter_map(|peer| peer.mtls.as_ref());
    let strict = strict
        .into_iter()
        .any(|mtls| mtls.mode == MutualTlsMode::Strict && !mtls.allow_tls);
    match strict && !policy.peer_is_optional {
        true => Mode::Strict,
        false => Mode::Permissive,
    }
}

fn peer_of_service(set: &Set<'_>, namespace: &str, name: &str, of_service: &OfService<'_>, out: &mut Out) {
    let Some(service) = set.service(namespace, name) else {
        return;
    };
    let labels = &service.spec.selector;
    if set.is_covered(Kind::PeerAuthentication, namespace, labels) {
        for object in &of_service.from {
            out.ignored(
                object,
                "spec.peers",
                format!("has no effect on {name}: a PeerAuthentication says it"),
            );
        }
        return;
    }
    let spec = PeerAuthentication {
        selector: Some(WorkloadSelector {
            match_labels: labels.clone(),
        }),
        mtls: of_service.mode.map(|mode| MutualTls { mode }),
        port_level_mtls: of_service
            .ports
            .iter()
            .map(|(port, mode)| (*port, MutualTls { mode: *mode }))
            .collect(),
    };
    out.add(
        Kind::PeerAuthentication,
        namespace,
        format!("legacy-policy.{name}"),
        spec.into(),
        &of_service.from,
    );
}

/// What a policy has that today's kinds do not.
fn complain(object: &Object, policy: &Policy, out: &mut Out) {
    for (index, _) in policy
        .peers
        .iter()
        .enumerate()
        .filter(|(_, peer)| peer.jwt.is_some())
    {
        let path = format!("spec.peers[{index}].jwt");
        out.refused(
            object,
            &path,
            "a peer cannot prove itself by a token",
            "move the token to origins",
        );
    }
    if policy.principal_binding != crate::legacy::PrincipalBinding::default() {
        let message =
            "has no translation: a request's principal is its token's, a connection's its certificate's";
        out.ignored(object, "spec.principalBinding", message);
    }
    let labelled = policy
        .targets
        .iter()
        .enumerate()
        .filter(|(_, target)| !target.labels.is_empty());
    for (index, _) in labelled {
        let path = format!("spec.targets[{index}].labels");
        out.ignored(
            object,
            &path,
            "has no effect, as in Istio 1.4; the Service's selector decides",
        );
    }
}

/// Which tokens are accepted and, unless they are optional, demanded.
fn tokens(set: &Set<'_>, object: &Object, policy: &Policy, place: &Place<'_>, out: &mut Out) {
    let origins: Vec<&Jwt> = policy
        .origins
        .iter()
        .filter_map(|origin| origin.jwt.as_ref())
        .collect();
    if origins.is_empty() {
        return;
    }
    let covered = match &place.selector {
        Some(selector) => set.is_covered(
            Kind::RequestAuthentication,
            place.namespace,
            &selector.match_labels,
        ),
        None => set.is_namespace_covered(Kind::RequestAuthentication, place.namespace),
    };
    if covered {
        return out.ignored(
            object,
            "spec.origins",
            "has no effect: a RequestAuthentication says it",
        );
    }
    let jwt_rules = origins.iter().map(|jwt| jwt_rule(jwt)).collect();
    let spec = RequestAuthentication {
        selector: place.selector.clone(),
        jwt_rules,
        ..RequestAuthentication::default()
    };
    out.add(
        Kind::RequestAuthentication,
        place.namespace,
        place.name.clone(),
        spec.into(),
        &[object],
    );
    if policy.origin_is_optional {
        return;
    }
    let ports = place.ports.iter().map(ToString::to_string).collect();
    let operations = demanded(
        object,
        &origins,
        Operation {
            ports,
            ..Operation::default()
        },
        out,
    );
    let from = RuleFrom {
        source: Some(Source {
            not_request_principals: vec!["*".to_owned()],
            ..Source::default()
        }),
    };
    let to = operations
        .into_iter()
        .filter(|operation| *operation != Operation::default());
    let rule = Rule {
        from: vec![from],
        to: to
            .map(|operation| RuleTo {
                operation: Some(operation),
            })
            .collect(),
        when: Vec::new(),
    };
    let spec = AuthorizationPolicy {
        selector: place.selector.clone(),
        action: Action::Deny,
        rules: vec![rule],
        ..AuthorizationPolicy::default()
    };
    out.add(
        Kind::AuthorizationPolicy,
        place.namespace,
        place.name.clone(),
        spec.into(),
        &[object],
    );
}

/// One issuer's tokens. A header that is named holds the token alone; without names it is `Authorization: Bearer`.
fn jwt_rule(jwt: &Jwt) -> JwtRule {
    let header = |name: &String| JwtHeader {
        name: name.clone(),
        prefix: String::new(),
    };
    JwtRule {
        issuer: jwt.issuer.clone(),
        audiences: jwt.audiences.clone(),
        jwks_uri: jwt.jwks_uri.clone(),
        jwks: jwt.jwks.clone(),
        from_headers: jwt.jwt_headers.iter().map(header).collect(),
        from_params: jwt.jwt_params.clone(),
        // In Istio 1.4 the application saw the token.
        forward_original_token: true,
        ..JwtRule::default()
    }
}

/// The operations that need a token; none in particular means all.
fn demanded(object: &Object, origins: &[&Jwt], all: Operation, out: &mut Out) -> Vec<Operation> {
    let [only] = origins else {
        if origins.iter().any(|jwt| !jwt.trigger_rules.is_empty()) {
            let message = "of several issuers these have no translation, so a token is demanded on all paths";
            out.refused(
                object,
                "spec.origins",
                message,
                "write an AuthorizationPolicy with notRequestPrincipals and paths",
            );
        }
        return vec![all];
    };
    if only.trigger_rules.is_empty() {
        return vec![all];
    }
    let rules = only.trigger_rules.iter();
    rules.map(|rule| triggered(object, rule, &all, out)).collect()
}

fn triggered(object: &Object, rule: &TriggerRule, all: &Operation, out: &mut Out) -> Operation {
    let mut paths = |list: &[PathMatch]| -> Vec<String> {
        let path = |found: &PathMatch| match (&found.exact, &found.prefix, &found.suffix) {
            (Some(exact), _, _) => Some(exact.clone()),
            (_, Some(prefix), _) => Some(format!("{prefix}*")),
            (_, _, Some(suffix)) => Some(format!("*{suffix}")),
            _ => None,
        };
        let translated: Vec<String> = list.iter().filter_map(path).collect();
        if translated.len() < list.len() {
            let message = "paths by regex have no translation, so a token is demanded on more paths";
            out.refused(object, "spec.origins", message, "use exact, prefix or suffix");
            // Of paths that need a token a part would be too few; of those that do not, a part is safe.
            return if std::ptr::eq(list, rule.included_paths.as_slice()) {
                Vec::new()
            } else {
                translated
            };
        }
        translated
    };
    Operation {
        paths: paths(&rule.included_paths),
        not_paths: paths(&rule.excluded_paths),
        ..all.clone()
    }
}
