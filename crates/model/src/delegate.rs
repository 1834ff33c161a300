//! Delegation between VirtualServices: a root's route that names a delegate is replaced by the delegate's routes, each
//! narrowed by the root's conditions (Istio, "Delegate").

use std::collections::HashMap;
use std::sync::Arc;

use config::networking::{HttpMatchRequest, HttpRoute, StringMatch};
use config::{Finding, ObjectKey};

use crate::finding;
use crate::virtual_service::VirtualService;

/// Splits delegates (VirtualServices without hosts) from roots and gives each root its delegates' routes. A route whose
/// delegate is missing or not visible goes nowhere and is reported.
pub(crate) fn merge(all: Vec<Arc<VirtualService>>, findings: &mut Vec<Finding>) -> Vec<Arc<VirtualService>> {
    let (delegates, mut roots): (Vec<_>, Vec<_>) = all.into_iter().partition(|vs| vs.spec.hosts.is_empty());
    let delegates: HashMap<(&str, &str), &VirtualService> = delegates
        .iter()
        .map(|vs| ((vs.key.namespace.as_str(), vs.key.name.as_str()), &**vs))
        .collect();
    for root in &mut roots {
        if root.spec.http.iter().any(|route| route.delegate.is_some()) {
            merge_root(Arc::make_mut(root), &delegates, findings);
        }
    }
    roots
}

fn merge_root(
    root: &mut VirtualService,
    delegates: &HashMap<(&str, &str), &VirtualService>,
    findings: &mut Vec<Finding>,
) {
    let mut spec = (*root.spec).clone();
    let mut routes = Vec::new();
    for (index, route) in std::mem::take(&mut spec.http).into_iter().enumerate() {
        let Some(delegate) = &route.delegate else {
            routes.push(route);
            continue;
        };
        let found = delegates.get(&(delegate.namespace.as_str(), delegate.name.as_str()));
        match found.filter(|vs| vs.export_to.visible_in(&root.key.namespace)) {
            Some(vs) => {
                root.origins.push(vs.key.clone());
                routes.extend(vs.spec.http.iter().filter_map(|inner| merge_route(&route, inner)));
            }
            None => findings.push(missing(&root.key, index, &delegate.namespace, &delegate.name)),
        }
    }
    spec.http = routes;
    root.spec = Arc::new(spec);
}

fn missing(root: &ObjectKey, index: usize, namespace: &str, name: &str) -> Finding {
    finding::warning(
        root,
        format!("spec.http[{index}].delegate"),
        format!(
            "VirtualService {namespace}/{name} does not exist, has hosts, or is not exported to {}",
            root.namespace
        ),
    )
}

/// The delegate's route under the root's conditions; `None` if no request can meet both, or if the delegate delegates again.
fn merge_route(root: &HttpRoute, inner: &HttpRoute) -> Option<HttpRoute> {
    if inner.delegate.is_some() {
        return None;
    }
    let mut out = inner.clone();
    if !root.r#match.is_empty() && !inner.r#match.is_empty() {
        out.r#match = root
            .r#match
            .iter()
            .flat_map(|r| inner.r#match.iter().filter_map(|i| merge_match(r, i)))
            .collect();
        if out.r#match.is_empty() {
            return None;
        }
    } else if inner.r#match.is_empty() {
        out.r#match = root.r#match.clone();
    }
    out.rewrite = out.rewrite.or_else(|| root.rewrite.clone());
    out.timeout = out.timeout.or(root.timeout);
    out.retries = out.retries.or_else(|| root.retries.clone());
    out.fault = out.fault.or_else(|| root.fault.clone());
    out.cors_policy = out.cors_policy.or_else(|| root.cors_policy.clone());
    out.headers = out.headers.or_else(|| root.headers.clone());
    if out.mirror.is_none() {
        out.mirror = root.mirror.clone();
        out.mirror_percent = root.mirror_percent;
        out.mirror_percentage = root.mirror_percentage.clone();
    }
    if out.mirrors.is_empty() {
        out.mirrors = root.mirrors.clone();
    }
    if out.name.is_empty() {
        out.name = root.name.clone();
    } else if !root.name.is_empty() {
        out.name = format!("{}-{}", root.name, out.name);
    }
    Some(out)
}

/// Both conditions in one; `None` where they contradict each other.
fn merge_match(root: &HttpMatchRequest, inner: &HttpMatchRequest) -> Option<HttpMatchRequest> {
    let mut out = inner.clone();
    out.uri = both(&root.uri, &inner.uri)?;
    out.scheme = both(&root.scheme, &inner.scheme)?;
    out.method = both(&root.method, &inner.method)?;
    out.authority = both(&root.authority, &inner.authority)?;
    merge_map(&mut out.headers, &root.headers)?;
    merge_map(&mut out.query_params, &root.query_params)?;
    merge_map(&mut out.without_headers, &root.without_headers)?;
    merge_map(&mut out.source_labels, &root.source_labels)?;
    out.port = merge_scalar(root.port, inner.port)?;
    out.source_namespace = merge_scalar(root.source_namespace.clone(), inner.source_namespace.clone())?;
    out.ignore_uri_case |= root.ignore_uri_case;
    if out.gateways.is_empty() {
        out.gateways = root.gateways.clone();
    }
    out.name = match (root.name.as_str(), inner.name.as_str()) {
        ("", name) | (name, "") => name.to_owned(),
        (root, inner) => format!("{root}-{inner}"),
    };
    Some(out)
}

fn merge_scalar<T: Default + PartialEq>(a: T, b: T) -> Option<T> {
    if a == T::default() || a == b {
        Some(b)
    } else if b == T::default() {
        Some(a)
    } else {
        None
    }
}

fn merge_map<V: Clone + PartialEq>(
    into: &mut std::collections::BTreeMap<String, V>,
    from: &std::collections::BTreeMap<String, V>,
) -> Option<()> {
    for (key, value) in from {
        if into.get(key).is_some_and(|own| own != value) {
            return None;
        }
        into.insert(key.clone(), value.clone());
    }
    Some(())
}

/// The narrower of two comparisons; outer `None` if no value meets both, or if that cannot be told (regular expressions).
fn both(root: &Option<StringMatch>, inner: &Option<StringMatch>) -> Option<Option<StringMatch>> {
    use StringMatch::{Any, Exact, Prefix};
    match (root, inner) {
        (None | Some(Any), other) | (other, None | Some(Any)) => Some(other.clone()),
        (Some(a), Some(b)) if a == b => Some(Some(b.clone())),
        (Some(Prefix(prefix)), Some(Exact(value) | Prefix(value))) if value.starts_with(prefix.as_str()) => {
            Some(inner.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_uri(uri: StringMatch) -> HttpMatchRequest {
        HttpMatchRequest {
            uri: Some(uri),
            ..Default::default()
        }
    }

    #[test]
    fn conditions_narrow_or_exclude() {
        let root = with_uri(StringMatch::Prefix("/shop".into()));
        let inside = merge_match(&root, &with_uri(StringMatch::Exact("/shop/a".into()))).unwrap();
        assert_eq!(inside.uri, Some(StringMatch::Exact("/shop/a".into())));
        assert_eq!(
            merge_match(&root, &with_uri(StringMatch::Prefix("/other".into()))),
            None
        );
        let port = HttpMatchRequest {
            port: 80,
            ..Default::default()
        };
        assert_eq!(merge_match(&root, &port).unwrap().port, 80);
        assert_eq!(
            merge_match(
                &port,
                &HttpMatchRequest {
                    port: 81,
                    ..Default::default()
                }
            ),
            None
        );
    }

    #[test]
    fn an_unconditional_delegate_takes_the_roots_conditions() {
        let root = HttpRoute {
            r#match: vec![with_uri(StringMatch::Prefix("/a".into()))],
            ..Default::default()
        };
        let merged = merge_route(
            &root,
            &HttpRoute {
                name: "x".into(),
                ..Default::default()
            },
        )
        .unwrap();
        assert_eq!(merged.r#match, root.r#match);
        assert_eq!(merged.name, "x");
    }
}
