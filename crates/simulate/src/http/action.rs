//! What a route does: forwards, redirects, or answers itself.

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::route::v3::{
    RedirectAction, Route, RouteAction,
    redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
    route::Action,
    route_action::{ClusterSpecifier, HostRewriteSpecifier},
};

use crate::call::{Call, Tls, without_port};
use crate::cluster;
use crate::resources::Resources;
use crate::verdict::Verdict;

use super::rewrite;

pub(super) fn take(resources: &Resources, route: &Route, call: &Call, verdict: &mut Verdict) {
    match &route.action {
        Some(Action::Route(action)) => {
            forward(resources, action, call, verdict);
            verdict.path = rewrite::path(route, action, call);
            verdict.host = rewrite::host(action, verdict.cluster.as_deref(), call);
        }
        Some(Action::Redirect(action)) => {
            let location = location(action, call, route);
            verdict.status = Some(code(action));
            verdict.step("redirect", format!("{} to {location}", code(action)), None);
            verdict.location = Some(location);
        }
        Some(Action::DirectResponse(answer)) => {
            verdict.status = u16::try_from(answer.status).ok();
            let body = match answer.body.as_ref().and_then(|body| body.specifier.as_ref()) {
                Some(Specifier::InlineString(text)) => format!(" with {} bytes", text.len()),
                Some(Specifier::InlineBytes(bytes)) => format!(" with {} bytes", bytes.len()),
                _ => String::new(),
            };
            verdict.step("answer", format!("{}{body}", answer.status), None);
        }
        _ => verdict.step("route", "has no action that is known here", None),
    }
}

fn forward(resources: &Resources, action: &RouteAction, call: &Call, verdict: &mut Verdict) {
    rewrites(action, verdict);
    for mirror in &action.request_mirror_policies {
        let share = mirror
            .runtime_fraction
            .as_ref()
            .and_then(|share| share.default_value.as_ref());
        let share = share.map_or("all requests".to_owned(), |share| format!("{share:?}"));
        verdict.step("mirror", format!("{share} to {}", mirror.cluster), None);
    }
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(cluster)) => cluster::reach(resources, cluster, call, verdict),
        Some(ClusterSpecifier::WeightedClusters(all)) => {
            let weighted = all.clusters.iter().map(|c| {
                let weight = c.weight.as_ref().map_or(0, |weight| weight.value);
                (c.name.clone(), weight)
            });
            cluster::choose(resources, weighted.collect(), call, verdict);
        }
        Some(ClusterSpecifier::ClusterHeader(header)) => match call.header(&header.to_ascii_lowercase()) {
            Some(cluster) => cluster::reach(resources, &cluster, call, verdict),
            None => {
                verdict.status = Some(503);
                verdict.step("cluster", format!("header {header} names none"), None);
            }
        },
        _ => verdict.step("cluster", "chosen in a way that is not known here", None),
    }
}

fn rewrites(action: &RouteAction, verdict: &mut Verdict) {
    if !action.prefix_rewrite.is_empty() {
        verdict.step(
            "rewrite",
            format!("the matched path becomes {}", action.prefix_rewrite),
            None,
        );
    }
    if let Some(rewrite) = &action.regex_rewrite {
        let pattern = rewrite
            .pattern
            .as_ref()
            .map(|p| p.regex.as_str())
            .unwrap_or_default();
        verdict.step(
            "rewrite",
            format!("{pattern} in the path becomes {}", rewrite.substitution),
            None,
        );
    }
    if let Some(HostRewriteSpecifier::HostRewriteLiteral(host)) = &action.host_rewrite_specifier {
        verdict.step("rewrite", format!("the host becomes {host}"), None);
    }
}

fn code(action: &RedirectAction) -> u16 {
    match RedirectResponseCode::try_from(action.response_code) {
        Ok(RedirectResponseCode::Found) => 302,
        Ok(RedirectResponseCode::SeeOther) => 303,
        Ok(RedirectResponseCode::TemporaryRedirect) => 307,
        Ok(RedirectResponseCode::PermanentRedirect) => 308,
        _ => 301,
    }
}

/// The `location` of a redirect.
fn location(action: &RedirectAction, call: &Call, route: &Route) -> String {
    let own = if call.tls == Tls::Plaintext {
        "http"
    } else {
        "https"
    };
    let scheme = match &action.scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => "https",
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => scheme,
        _ => own,
    };
    let host = match action.host_redirect.as_str() {
        "" if action.port_redirect != 0 || default_port(call, own, scheme) => without_port(&call.host),
        "" => &call.host,
        other => other,
    };
    let port = match action.port_redirect {
        0 => String::new(),
        port => format!(":{port}"),
    };
    format!("{scheme}://{host}{port}{}", new_path(action, call, route))
}

/// Whether the host carries its old scheme's own port, which goes away with the scheme.
fn default_port(call: &Call, own: &str, scheme: &str) -> bool {
    let own_port = if own == "http" { ":80" } else { ":443" };
    own != scheme && call.host.ends_with(own_port)
}

fn new_path(action: &RedirectAction, call: &Call, route: &Route) -> String {
    let query = match call.path.find('?').and_then(|at| call.path.get(at..)) {
        Some(query) if !action.strip_query => query,
        _ => "",
    };
    let bare = call.bare_path();
    match &action.path_rewrite_specifier {
        None => format!("{bare}{query}"),
        Some(PathRewriteSpecifier::PathRedirect(path)) if path.contains('?') => path.clone(),
        Some(PathRewriteSpecifier::PathRedirect(path) | PathRewriteSpecifier::PathRewrite(path)) => {
            format!("{path}{query}")
        }
        Some(PathRewriteSpecifier::PrefixRewrite(to)) => {
            let matched = rewrite::matched(route, bare);
            format!("{to}{}{query}", bare.get(matched..).unwrap_or_default())
        }
        Some(PathRewriteSpecifier::RegexRewrite(by)) => {
            let path = rewrite::substitute(by, bare);
            format!("{}{query}", path.as_deref().unwrap_or(bare))
        }
    }
}
