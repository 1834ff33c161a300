//! A request: route configuration, virtual host, route, HTTP filters, and what the route does.

mod action;
mod header;
mod host;
mod normal;
mod rewrite;
mod route;

pub(crate) use self::header::header;
pub(crate) use self::route::{fraction, matches};

use std::borrow::Cow;

use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, virtual_host::TlsRequirementType};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};

use crate::call::{Call, Tls};
use crate::policy;
use crate::resources::{ROUTES, Resources, resource};
use crate::verdict::{Refusal, Verdict};

pub(crate) fn walk(
    resources: &Resources,
    manager: &HttpConnectionManager,
    call: &Call,
    verdict: &mut Verdict,
) {
    let call = match normal::path(manager, &call.path) {
        normal::Path::Same => Cow::Borrowed(call),
        normal::Path::Other(path) => {
            verdict.step("normalisation", format!("the path becomes {path}"), None);
            Cow::Owned(Call { path, ..call.clone() })
        }
        normal::Path::Refused(status) => {
            verdict.status = Some(status);
            verdict.step(
                "normalisation",
                format!("the path is refused with {status}"),
                None,
            );
            return;
        }
    };
    let Some(routes) = configuration(resources, manager, verdict) else {
        return;
    };
    let chosen = choose(routes, &call, verdict);
    let route = match &chosen {
        Ok(route) => Some(*route),
        Err(_) => None,
    };
    if policy::http(&manager.http_filters, route, &call, verdict) {
        return;
    }
    match chosen {
        Ok(route) => action::take(resources, route, &call, verdict),
        Err((error, text)) => {
            if error == Refusal::TlsRedirect {
                verdict.location = Some(format!("https://{}{}", call.host, call.path));
            }
            verdict.refuse(error, text);
        }
    }
}

/// The routes of a connection manager; what is named and missing is said, and Envoy answers 404.
fn configuration<'a>(
    resources: &'a Resources,
    manager: &'a HttpConnectionManager,
    verdict: &mut Verdict,
) -> Option<&'a RouteConfiguration> {
    match &manager.route_specifier {
        Some(RouteSpecifier::RouteConfig(inline)) => {
            verdict.step("routes", "inside the listener", None);
            Some(inline)
        }
        Some(RouteSpecifier::Rds(rds)) => {
            let name = rds.route_config_name.as_str();
            verdict.route_config = Some(name.to_owned());
            verdict.step("routes", name, resource(ROUTES, name));
            let found = resources.routes.get(name);
            if found.is_none() {
                verdict.refuse(
                    Refusal::NoVirtualHost,
                    format!("the proxy has no route configuration {name}"),
                );
            }
            found
        }
        _ => {
            verdict.refuse(Refusal::NoVirtualHost, "the connection manager names no routes");
            None
        }
    }
}

type Chosen<'a> = Result<&'a envoy_types::pb::envoy::config::route::v3::Route, (Refusal, String)>;

/// The route for a request.
fn choose<'a>(routes: &'a RouteConfiguration, call: &Call, verdict: &mut Verdict) -> Chosen<'a> {
    let from = verdict
        .route_config
        .as_deref()
        .and_then(|name| resource(ROUTES, name));
    let Some(host) = host::choose(routes, &call.host) else {
        return Err((
            Refusal::NoVirtualHost,
            format!("no virtual host has {:?}", call.host),
        ));
    };
    verdict.virtual_host = Some(host.name.clone());
    verdict.step("virtual host", &host.name, from.clone());
    let demanded = TlsRequirementType::try_from(host.require_tls).unwrap_or(TlsRequirementType::None);
    if demanded == TlsRequirementType::All && call.tls == Tls::Plaintext {
        return Err((
            Refusal::TlsRedirect,
            "the host is served over TLS only".to_owned(),
        ));
    }
    for (index, route) in host.routes.iter().enumerate() {
        match route::matches(route.r#match.as_ref(), call) {
            Some(true) => {
                verdict.route = Some(route.name.clone());
                let text = format!("[{index}] {}", route::describe(route));
                verdict.step("route", text, from);
                return Ok(route);
            }
            Some(false) => {}
            None => verdict.step(
                "route",
                format!(
                    "[{index}] {}: cannot be decided here, passed over",
                    route::describe(route)
                ),
                from.clone(),
            ),
        }
    }
    Err((
        Refusal::NoRoute,
        format!("no route of {} takes {} {}", host.name, call.method, call.path),
    ))
}
