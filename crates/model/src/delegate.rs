//! Delegation between VirtualServices: a root's route that names a delegate is replaced by the delegate's routes, each
//! narrowed by the root's conditions (Istio, "Delegate").

use std::collections::{BTreeMap, HashMap};
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
                for (within, inner) in vs.spec.http.iter().enumerate() {
                    match merge_route(&route, inner) {
                        Ok(merged) => routes.push(merged),
                        Err(reason) => findings.push(dropped(&root.key, index, (&vs.key, within), reason)),
                    }
                }
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

fn dropped(root: &ObjectKey, index: usize, (delegate, within): (&ObjectKey, usize), reason: &str) -> Finding {
    finding::warning(
        root,
        format!("spec.http[{index}].delegate"),
        format!("route http[{within}] of {delegate} is left out: {reason}"),
    )
}

const DELEGATES: &str = "it delegates again; a delegate's routes must lead somewhere themselves";
const CONFLICTS: &str = "one of its conditions allows what no condition of this route does; narrow it";

/// The delegate's route under the root's conditions; else why it is left out. What it does not say it takes from the root
/// (Istio, `mergeHTTPRoute`).
fn merge_route(root: &HttpRoute, inner: &HttpRoute) -> Result<HttpRoute, &'static str> {
    if inner.delegate.is_some() {
        return Err(DELEGATES);
    }
    let mut out = inner.clone();
    out.r#match = merge_matches(&root.r#match, &inner.r#match).ok_or(CONFLICTS)?;
    out.rewrite = out.rewrite.or_else(|| root.rewrite.clone());
    out.direct_response = out.direct_response.or_else(|| root.direct_response.clone());
    out.timeout = out.timeout.or(root.timeout);
    out.retries = out.retries.or_else(|| root.retries.clone());
    out.fault = out.fault.or_else(|| root.fault.clone());
    out.cors_policy = out.cors_policy.or_else(|| root.cors_policy.clone());
    out.headers = out.headers.or_else(|| root.headers.clone());
    out.mirror = out.mirror.or_else(|| root.mirror.clone());
    out.mirror_percent = out.mirror_percent.or(root.mirror_percent);
    out.mirror_percentage = out.mirror_percentage.or_else(|| root.mirror_percentage.clone());
    if out.mirrors.is_empty() {
        out.mirrors.clone_from(&root.mirrors);
    }
    out.name = joined(&root.name, &inner.name);
    Ok(out)
}

/// Each of the delegate's conditions together with those of the root's that it is within; `None` if one of them is within none.
fn merge_matches(root: &[HttpMatchRequest], inner: &[HttpMatchRequest]) -> Option<Vec<HttpMatchRequest>> {
    if root.is_empty() || inner.is_empty() {
        return Some([root, inner].concat());
    }
    let mut out = Vec::new();
    for condition in inner {
        let before = out.len();
        out.extend(root.iter().filter_map(|root| merge_match(root, condition)));
        if out.len() == before {
            return None;
        }
    }
    Some(out)
}

/// Both conditions in one; `None` where they contradict each other.
fn merge_match(root: &HttpMatchRequest, inner: &HttpMatchRequest) -> Option<HttpMatchRequest> {
    let mut out = inner.clone();
    out.uri = both(root.uri.as_ref(), inner.uri.as_ref())?;
    out.scheme = both(root.scheme.as_ref(), inner.scheme.as_ref())?;
    out.method = both(root.method.as_ref(), inner.method.as_ref())?;
    out.authority = both(root.authority.as_ref(), inner.authority.as_ref())?;
    out.headers = merge_map(&root.headers, &inner.headers, narrower)?;
    out.query_params = merge_map(&root.query_params, &inner.query_params, narrower)?;
    // What must not be there is more in the wider of two comparisons.
    out.without_headers = merge_map(&root.without_headers, &inner.without_headers, |root, inner| {
        narrower(root, inner).map(|_| root.clone())
    })?;
    out.source_labels = merge_map(&root.source_labels, &inner.source_labels, |root, inner| {
        (root == inner).then(|| inner.clone())
    })?;
    out.port = merge_scalar(root.port, inner.port)?;
    out.source_namespace = merge_scalar(root.source_namespace.clone(), inner.source_namespace.clone())?;
    if root.ignore_uri_case != inner.ignore_uri_case {
        return None;
    }
    if !root.gateways.is_empty() && !inner.gateways.iter().all(|own| root.gateways.contains(own)) {
        return None;
    }
    if out.gateways.is_empty() {
        out.gateways.clone_from(&root.gateways);
    }
    if out.stat_prefix.is_empty() {
        out.stat_prefix.clone_from(&root.stat_prefix);
    }
    out.name = joined(&root.name, &inner.name);
    Some(out)
}

/// Both names, or the one that there is.
fn joined(root: &str, inner: &str) -> String {
    match (root, inner) {
        ("", name) | (name, "") => name.to_owned(),
        (root, inner) => format!("{root}-{inner}"),
    }
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

/// The entries of both; `one` makes one of two under the same key, if they go together.
fn merge_map<V: Clone>(
    root: &BTreeMap<String, V>,
    inner: &BTreeMap<String, V>,
    one: impl Fn(&V, &V) -> Option<V>,
) -> Option<BTreeMap<String, V>> {
    let mut out = root.clone();
    for (key, value) in inner {
        let value = match root.get(key) {
            Some(root) => one(root, value)?,
            None => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    Some(out)
}

/// The narrower of two comparisons, either of which may be missing; outer `None` if no value meets both.
fn both(root: Option<&StringMatch>, inner: Option<&StringMatch>) -> Option<Option<StringMatch>> {
    match (root, inner) {
        (None, one) | (one, None) => Some(one.cloned()),
        (Some(root), Some(inner)) => narrower(root, inner).map(Some),
    }
}

/// The delegate's comparison, if it is within the root's; `None` if it is not, or if that cannot be told (regular expressions).
fn narrower(root: &StringMatch, inner: &StringMatch) -> Option<StringMatch> {
    use StringMatch::{Any, Exact, Prefix};
    match (root, inner) {
        (root, Any) => Some(root.clone()),
        (Any, inner) => Some(inner.clone()),
        (root, inner) if root == inner => Some(inner.clone()),
        (Prefix(prefix), Exact(value) | Prefix(value)) if value.starts_with(prefix.as_str()) => {
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
    fn headers_narrow_and_exclusions_stay_wide() {
        let with = |field: &str, value: StringMatch| {
            let map: BTreeMap<String, StringMatch> = [("x".to_owned(), value)].into();
            let mut out = HttpMatchRequest::default();
            match field {
                "headers" => out.headers = map,
                "query" => out.query_params = map,
                _ => out.without_headers = map,
            }
            out
        };
        let (wide, narrow) = (StringMatch::Prefix("a".into()), StringMatch::Exact("ab".into()));
        for (field, expected) in [("headers", &narrow), ("query", &narrow), ("without", &wide)] {
            let merged = merge_match(&with(field, wide.clone()), &with(field, narrow.clone())).unwrap();
            assert_eq!(merged, with(field, expected.clone()), "{field}");
            assert_eq!(
                merge_match(&with(field, narrow.clone()), &with(field, wide.clone())),
                None,
                "a delegate allows no more than its root: {field}"
            );
        }
    }

    #[test]
    fn gateways_and_case_must_be_the_roots() {
        let at = |gateways: &[&str], ignore_uri_case| HttpMatchRequest {
            gateways: gateways.iter().map(|name| (*name).to_owned()).collect(),
            ignore_uri_case,
            ..Default::default()
        };
        assert_eq!(merge_match(&at(&["mesh"], false), &at(&["edge/gw"], false)), None);
        let merged = merge_match(&at(&["mesh", "edge/gw"], false), &at(&["edge/gw"], false)).unwrap();
        assert_eq!(merged.gateways, ["edge/gw"]);
        assert_eq!(
            merge_match(&at(&["mesh"], false), &at(&[], false))
                .unwrap()
                .gateways,
            ["mesh"]
        );
        assert_eq!(merge_match(&at(&[], true), &at(&[], false)), None);
    }

    #[test]
    fn one_condition_that_conflicts_drops_the_route() {
        let root = HttpRoute {
            r#match: vec![with_uri(StringMatch::Prefix("/a".into()))],
            ..Default::default()
        };
        let inner = |paths: &[&str]| HttpRoute {
            r#match: paths
                .iter()
                .map(|path| with_uri(StringMatch::Exact((*path).to_owned())))
                .collect(),
            ..Default::default()
        };
        assert_eq!(
            merge_route(&root, &inner(&["/a/1", "/a/2"]))
                .unwrap()
                .r#match
                .len(),
            2
        );
        assert_eq!(merge_route(&root, &inner(&["/a/1", "/b"])), Err(CONFLICTS));
    }

    #[test]
    fn what_a_delegate_leaves_open_is_the_roots() {
        let root = HttpRoute {
            mirror_percentage: Some(config::networking::Percent { value: 10.0 }),
            r#match: vec![HttpMatchRequest {
                stat_prefix: "root".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let inner = HttpRoute {
            mirror: Some(config::networking::Destination::default()),
            r#match: vec![with_uri(StringMatch::Exact("/a".into()))],
            ..Default::default()
        };
        let merged = merge_route(&root, &inner).unwrap();
        assert_eq!(merged.mirror_percentage, root.mirror_percentage);
        assert_eq!(merged.r#match[0].stat_prefix, "root");
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
