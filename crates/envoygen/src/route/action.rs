//! What a route does: forwards to one or several destinations, redirects, or answers itself.

use config::networking::{
    Destination, HttpDirectResponse, HttpRedirect, HttpRewrite, HttpRoute, HttpRouteDestination, Percent,
    RedirectPortSelection,
};
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, RuntimeFractionalPercent, data_source::Specifier,
};
use envoy_types::pb::envoy::config::route::v3::{
    self as pb, redirect_action, route::Action, route_action, weighted_cluster,
};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use super::{RouteContext, headers::Operations, retry};
use crate::alpn;
use crate::names;
use crate::wire::{bool_value, fixed_percent, regex, u32_value};

impl RouteContext<'_> {
    /// Sets what the route does. `authority` is the host that its header operations set.
    pub(super) fn set_action(&self, route: &mut pb::Route, http: &HttpRoute, authority: Option<String>) {
        route.action = Some(if let Some(redirect) = &http.redirect {
            Action::Redirect(self.redirect(redirect))
        } else if let Some(response) = &http.direct_response {
            Action::DirectResponse(direct_response(response))
        } else {
            Action::Route(self.forward(route, http, authority))
        });
    }

    fn forward(&self, route: &mut pb::Route, http: &HttpRoute, authority: Option<String>) -> pb::RouteAction {
        let timeout = http.timeout.map(|t| t.0).unwrap_or_default();
        let mut action = super::timed_action(timeout);
        let mut authority = authority;
        if let Some(rewrite) = &http.rewrite {
            apply_rewrite(&mut action, rewrite);
            if !rewrite.authority.is_empty() {
                authority = Some(rewrite.authority.clone());
            }
        }
        action.host_rewrite_specifier = authority.map(route_action::HostRewriteSpecifier::HostRewriteLiteral);
        self.mirrors(&mut action, http);
        let hashed = match http.route.as_slice() {
            [only] => self.single(route, &mut action, only),
            several => self.weighted(&mut action, several),
        };
        let retries = http
            .retries
            .as_ref()
            .or(self.mesh.default_http_retry_policy.as_ref());
        action.retry_policy = retry::policy(retries, hashed);
        action
    }

    /// Leads to one destination; gives whether a hash chooses its host.
    fn single(&self, route: &mut pb::Route, action: &mut pb::RouteAction, to: &HttpRouteDestination) -> bool {
        let cluster = to
            .destination
            .as_ref()
            .map(|d| self.cluster(d))
            .unwrap_or_default();
        action.cluster_specifier = Some(route_action::ClusterSpecifier::Cluster(cluster));
        if let Some(headers) = &to.headers {
            let operations = Operations::new(headers);
            route.request_headers_to_add.extend(operations.request_add);
            route.request_headers_to_remove.extend(operations.request_remove);
            route.response_headers_to_add.extend(operations.response_add);
            route
                .response_headers_to_remove
                .extend(operations.response_remove);
            if action.host_rewrite_specifier.is_none() {
                action.host_rewrite_specifier = operations
                    .authority
                    .map(route_action::HostRewriteSpecifier::HostRewriteLiteral);
            }
        }
        if let Some(announcement) = to.destination.as_ref().and_then(|d| self.announcement(d)) {
            let settings = &mut route.typed_per_filter_config;
            settings.insert(alpn::FILTER.to_owned(), announcement);
        }
        action
            .hash_policy
            .extend(to.destination.as_ref().and_then(|d| self.hash_policy(d)));
        !action.hash_policy.is_empty()
    }

    fn weighted(&self, action: &mut pb::RouteAction, several: &[HttpRouteDestination]) -> bool {
        let mut clusters = Vec::new();
        for to in several.iter().filter(|to| to.weight > 0) {
            let Some(destination) = &to.destination else {
                continue;
            };
            let operations = to.headers.as_ref().map(Operations::new).unwrap_or_default();
            action.hash_policy.extend(self.hash_policy(destination));
            let announcement = self.announcement(destination).into_iter();
            clusters.push(weighted_cluster::ClusterWeight {
                name: self.cluster(destination),
                weight: u32_value(u32::try_from(to.weight).unwrap_or_default()),
                request_headers_to_add: operations.request_add,
                request_headers_to_remove: operations.request_remove,
                response_headers_to_add: operations.response_add,
                response_headers_to_remove: operations.response_remove,
                typed_per_filter_config: announcement
                    .map(|announcement| (alpn::FILTER.to_owned(), announcement))
                    .collect(),
                host_rewrite_specifier: operations
                    .authority
                    .map(weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
                ..Default::default()
            });
        }
        action.cluster_specifier = Some(if clusters.is_empty() {
            route_action::ClusterSpecifier::Cluster(names::BLACK_HOLE_CLUSTER.to_owned())
        } else {
            let weighted = pb::WeightedCluster {
                clusters,
                ..Default::default()
            };
            route_action::ClusterSpecifier::WeightedClusters(weighted)
        });
        !action.hash_policy.is_empty()
    }

    /// The cluster of a destination.
    pub(crate) fn cluster(&self, destination: &Destination) -> String {
        let service = self.view.service(&destination.host);
        let host = service.map_or(&destination.host, |service| &service.host);
        names::outbound_cluster(self.port_of(destination), &destination.subset, host)
    }

    /// The port of a destination. Without one the service's only port is meant, or else the listener's.
    pub(crate) fn port_of(&self, destination: &Destination) -> u16 {
        let service = self.view.service(&destination.host);
        match (&destination.port, service.map(|s| s.ports.as_slice())) {
            (Some(port), _) => u16::try_from(port.number).unwrap_or(self.port),
            (None, Some([only])) => only.number,
            (None, _) => self.port,
        }
    }

    fn mirrors(&self, action: &mut pb::RouteAction, http: &HttpRoute) {
        let share = http.mirror_percentage.clone().or_else(|| {
            http.mirror_percent.map(|percent| Percent {
                value: f64::from(percent),
            })
        });
        let old = http.mirror.as_ref().map(|destination| (destination, share));
        let new = http
            .mirrors
            .iter()
            .filter_map(|m| Some((m.destination.as_ref()?, m.percentage.clone())));
        for (destination, share) in old.into_iter().chain(new) {
            if let Some(fraction) = mirror_fraction(share.as_ref()) {
                action
                    .request_mirror_policies
                    .push(route_action::RequestMirrorPolicy {
                        cluster: self.cluster(destination),
                        runtime_fraction: Some(fraction),
                        trace_sampled: bool_value(false),
                        ..Default::default()
                    });
            }
        }
    }

    fn redirect(&self, redirect: &HttpRedirect) -> pb::RedirectAction {
        use redirect_action::{PathRewriteSpecifier, RedirectResponseCode as Code, SchemeRewriteSpecifier};
        let path = if redirect.prefix_rewrite.is_empty() {
            (!redirect.uri.is_empty()).then(|| PathRewriteSpecifier::PathRedirect(redirect.uri.clone()))
        } else {
            Some(PathRewriteSpecifier::PrefixRewrite(
                redirect.prefix_rewrite.clone(),
            ))
        };
        let code = match redirect.redirect_code {
            302 => Code::Found,
            303 => Code::SeeOther,
            307 => Code::TemporaryRedirect,
            308 => Code::PermanentRedirect,
            _ => Code::MovedPermanently,
        };
        let scheme = (!redirect.scheme.is_empty()).then(|| redirect.scheme.clone());
        pb::RedirectAction {
            host_redirect: redirect.authority.clone(),
            port_redirect: self.redirect_port(redirect),
            response_code: code as i32,
            path_rewrite_specifier: path,
            scheme_rewrite_specifier: scheme.map(SchemeRewriteSpecifier::SchemeRedirect),
            ..Default::default()
        }
    }

    /// The port of a redirect; 0 where the scheme's default is meant.
    fn redirect_port(&self, redirect: &HttpRedirect) -> u32 {
        let port = match (redirect.port, redirect.derive_port) {
            (Some(port), _) => port,
            (None, Some(RedirectPortSelection::FromRequestPort)) => u32::from(self.port),
            (None, _) => 0,
        };
        let own = if self.tls { "https" } else { "http" };
        let scheme = if redirect.scheme.is_empty() {
            own
        } else {
            redirect.scheme.as_str()
        };
        match (port, scheme) {
            (80, "http") | (443, "https") => 0,
            (port, _) => port,
        }
    }
}

fn apply_rewrite(action: &mut pb::RouteAction, rewrite: &HttpRewrite) {
    if let Some(by_regex) = &rewrite.uri_regex_rewrite {
        action.regex_rewrite = Some(RegexMatchAndSubstitute {
            pattern: Some(regex(&by_regex.r#match)),
            substitution: by_regex.rewrite.clone(),
        });
    } else {
        action.prefix_rewrite.clone_from(&rewrite.uri);
    }
}

/// All requests if no share is given; `None` for a share of zero.
fn mirror_fraction(share: Option<&Percent>) -> Option<RuntimeFractionalPercent> {
    let share = share.map_or(100.0, |percent| percent.value);
    (share > 0.0).then(|| fixed_percent(share))
}

fn direct_response(response: &HttpDirectResponse) -> pb::DirectResponseAction {
    let body = response
        .body
        .as_ref()
        .and_then(|body| match (&body.string, &body.bytes) {
            (Some(text), _) => Some(Specifier::InlineString(text.clone())),
            (None, Some(base64)) => Some(Specifier::InlineBytes(decode_base64(base64)?)),
            (None, None) => None,
        });
    pb::DirectResponseAction {
        status: response.status,
        body: body.map(|specifier| DataSource {
            specifier: Some(specifier),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Bytes as protobuf's JSON has them: standard or URL-safe base64.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}
