//! Path and host as the upstream gets them (Envoy, "RouteAction": `prefix_rewrite`, `regex_rewrite`, `host_rewrite_literal`).

use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, WeightedCluster, route_action::ClusterSpecifier, route_action::HostRewriteSpecifier,
    route_match::PathSpecifier, weighted_cluster::cluster_weight,
};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use crate::call::Call;
use crate::strings;

/// The path with its query after a route's rewrites; none where they cannot be followed here.
pub(super) fn path(route: &Route, action: &RouteAction, call: &Call) -> Option<String> {
    let bare = call.bare_path();
    let query = call.path.get(bare.len()..).unwrap_or_default();
    if action.path_rewrite_policy.is_some() {
        return None;
    }
    if !action.prefix_rewrite.is_empty() {
        let rest = bare.get(matched(route, bare)..).unwrap_or_default();
        return Some(format!("{}{rest}{query}", action.prefix_rewrite));
    }
    match &action.regex_rewrite {
        Some(rewrite) => Some(format!("{}{query}", substitute(rewrite, bare)?)),
        None => Some(call.path.clone()),
    }
}

/// The host after a route's rewrites. `cluster` is the one that was chosen of several, none while that is open; then there is
/// an answer only where all of them agree.
pub(super) fn host(action: &RouteAction, cluster: Option<&str>, call: &Call) -> Option<String> {
    match &action.host_rewrite_specifier {
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => return Some(host.clone()),
        Some(_) => return None,
        None => {}
    }
    let Some(ClusterSpecifier::WeightedClusters(all)) = &action.cluster_specifier else {
        return Some(call.host.clone());
    };
    let mut hosts = weighted(all, cluster, call);
    hosts.dedup();
    match hosts.as_mut_slice() {
        [only] => only.take(),
        _ => None,
    }
}

fn weighted(all: &WeightedCluster, cluster: Option<&str>, call: &Call) -> Vec<Option<String>> {
    let possible = all.clusters.iter().filter(|one| {
        let weight = one.weight.as_ref().map_or(0, |weight| weight.value);
        weight > 0 && cluster.is_none_or(|name| name == one.name)
    });
    let host = |own: &Option<cluster_weight::HostRewriteSpecifier>| match own {
        Some(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(host)) => host.clone(),
        None => call.host.clone(),
    };
    possible
        .map(|one| Some(host(&one.host_rewrite_specifier)))
        .collect()
}

/// Every place of a text that a pattern matches, replaced; none if the pattern cannot be read.
pub(super) fn substitute(rewrite: &RegexMatchAndSubstitute, text: &str) -> Option<String> {
    let pattern = strings::compile(&rewrite.pattern.as_ref()?.regex)?;
    // RE2 writes groups as \1 and a backslash as \\; `regex` writes ${1}, and a dollar as $$.
    let mut to = String::new();
    let mut chars = rewrite.substitution.chars();
    while let Some(c) = chars.next() {
        match c {
            '$' => to += "$$",
            '\\' => match chars.next() {
                Some(group) if group.is_ascii_digit() => to += &format!("${{{group}}}"),
                other => to.extend(other),
            },
            other => to.push(other),
        }
    }
    Some(pattern.replace_all(text, to.as_str()).into_owned())
}

/// How many bytes of the path a route's prefix or path takes.
pub(super) fn matched(route: &Route, bare: &str) -> usize {
    match route.r#match.as_ref().and_then(|m| m.path_specifier.as_ref()) {
        Some(PathSpecifier::Prefix(prefix) | PathSpecifier::PathSeparatedPrefix(prefix)) => prefix.len(),
        _ => bare.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::config::route::v3::RouteMatch;
    use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatcher;

    fn check(action: &RouteAction, given: &str, expected: &str) {
        let route = Route {
            r#match: Some(RouteMatch {
                path_specifier: Some(PathSpecifier::Prefix("/a".into())),
                ..Default::default()
            }),
            ..Default::default()
        };
        let call = Call {
            path: given.into(),
            ..Call::default()
        };
        assert_eq!(path(&route, action, &call).as_deref(), Some(expected), "{given}");
    }

    #[test]
    fn paths() {
        let prefix = RouteAction {
            prefix_rewrite: "/b".into(),
            ..Default::default()
        };
        check(&prefix, "/a/x?q=/a", "/b/x?q=/a");
        check(&RouteAction::default(), "/a?x", "/a?x");
        let regex = RouteAction {
            regex_rewrite: Some(RegexMatchAndSubstitute {
                pattern: Some(RegexMatcher {
                    regex: "/([^/]+)".into(),
                    ..Default::default()
                }),
                substitution: r"/\1$\\".into(),
            }),
            ..Default::default()
        };
        check(&regex, "/a/b?/c", r"/a$\/b$\?/c");
    }
}
