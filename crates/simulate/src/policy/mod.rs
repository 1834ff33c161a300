//! Filters that may refuse: RBAC, tokens, faults are decided here; what asks others (external authorization, rate limits) is
//! said and taken to allow.

mod cors;
mod metadata;
mod rbac;
mod token;

pub(crate) use self::metadata::metadata;
pub(crate) use self::rbac::template;

use envoy_types::pb::envoy::config::listener::v3::{Filter, filter::ConfigType as NetworkConfig};
use envoy_types::pb::envoy::config::route::v3::{Route, route::Action};
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{ExtAuthz, ext_authz::Services};
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{HttpFault, fault_abort::ErrorType};
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::JwtAuthentication;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter::ConfigType,
};
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use envoy_types::pb::google::protobuf::Any;

use crate::call::Call;
use crate::http::fraction;
use crate::resources::unpack;
use crate::verdict::{Refusal, Resource, Verdict};

/// Filters that change or observe requests and refuse none.
const HARMLESS: &[&str] = &[
    "envoy.filters.http.cors",
    "envoy.filters.http.fault",
    "envoy.filters.http.grpc_web",
    "envoy.filters.http.header_mutation",
    "envoy.filters.http.header_mutation.peer",
    "envoy.filters.http.header_to_metadata",
    "envoy.filters.http.grpc_stats",
    "envoy.filters.http.router",
    "istio.alpn",
];

/// All of several answers: no if one says no, none if one is open.
pub(crate) fn all(parts: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    let mut open = false;
    for part in parts {
        match part {
            Some(false) => return Some(false),
            Some(true) => {}
            None => open = true,
        }
    }
    (!open).then_some(true)
}

/// One of several answers: yes if one says yes, none if one is open.
pub(crate) fn any(parts: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    not(all(parts.into_iter().map(not)))
}

pub(crate) fn not(part: Option<bool>) -> Option<bool> {
    part.map(|yes| !yes)
}

/// A network filter before the one that carries the connection; says whether it ends the walk.
pub(crate) fn network(filter: &Filter, call: &Call, verdict: &mut Verdict, from: Option<Resource>) -> bool {
    let any = match &filter.config_type {
        Some(NetworkConfig::TypedConfig(any)) => any,
        _ => return false,
    };
    if let Some(rules) = unpack::<NetworkRbac>(any) {
        let text = rbac::decide(rules.rules.as_ref(), call);
        return ends(text, &filter.name, verdict, from);
    }
    let text = format!("{}: met, and taken to let the connection through", filter.name);
    verdict.step("policy", text, from);
    false
}

/// The HTTP filters in turn; says whether one ends the walk.
pub(crate) fn http(
    filters: &[HttpFilter],
    route: Option<&Route>,
    call: &Call,
    verdict: &mut Verdict,
) -> bool {
    filters
        .iter()
        .filter(|filter| !filter.disabled)
        .any(|filter| one(filter, route, call, verdict))
}

fn one(filter: &HttpFilter, route: Option<&Route>, call: &Call, verdict: &mut Verdict) -> bool {
    let own = match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        _ => return false,
    };
    let of_route = route.and_then(|route| route.typed_per_filter_config.get(&filter.name));
    if let Some(rules) = unpack::<HttpRbac>(own) {
        let decision = rbac::decide(rules.rules.as_ref(), call);
        return ends(decision, &filter.name, verdict, None);
    }
    if let Some(tokens) = unpack::<JwtAuthentication>(own) {
        return wants_token(&tokens, call, verdict);
    }
    if let Some(fault) = of_route.and_then(unpack::<HttpFault>) {
        return breaks(&fault, call, verdict);
    }
    // The filter looks at routes that forward alone.
    let forwards = route.is_some_and(|route| matches!(route.action, Some(Action::Route(_))));
    if let Some(policy) = of_route.filter(|_| forwards).and_then(unpack::<CorsPolicy>) {
        return preflight(&policy, call, verdict);
    }
    if !HARMLESS.contains(&filter.name.as_str()) {
        verdict.step(
            "policy",
            format!("{}: {}, taken to allow", filter.name, asks(own)),
            None,
        );
    }
    false
}

/// Whom a filter asks.
fn asks(filter: &Any) -> String {
    let Some(authz) = unpack::<ExtAuthz>(filter) else {
        return "met and not evaluated here".to_owned();
    };
    let service = match &authz.services {
        Some(Services::GrpcService(service)) => format!("{:?}", service.target_specifier),
        Some(Services::HttpService(service)) => service
            .server_uri
            .as_ref()
            .map(|uri| uri.uri.clone())
            .unwrap_or_default(),
        None => String::new(),
    };
    let cluster = service.split('"').nth(1).unwrap_or("a service").to_owned();
    let failing = if authz.failure_mode_allow {
        "allows"
    } else {
        "denies"
    };
    format!("asks {cluster} (and {failing} when that is away)")
}

fn ends(decision: rbac::Decision, name: &str, verdict: &mut Verdict, from: Option<Resource>) -> bool {
    verdict.step("policy", format!("{name}: {}", decision.text), from);
    if decision.allows == Some(false) {
        verdict.refuse(Refusal::Denied, decision.text);
        return true;
    }
    false
}

fn wants_token(tokens: &JwtAuthentication, call: &Call, verdict: &mut Verdict) -> bool {
    match token::satisfied(tokens, call) {
        Some(false) => {
            verdict.refuse(Refusal::Unauthorized, "the route requires a valid token");
            true
        }
        open => {
            let text = match (open, &call.claims) {
                (None, _) => "cannot be decided here, taken to allow",
                (_, Some(_)) => "the token is taken as verified",
                (_, None) => "no token is required",
            };
            verdict.step("policy", format!("envoy.filters.http.jwt_authn: {text}"), None);
            false
        }
    }
}

/// A preflight request that a route's CORS policy answers.
fn preflight(policy: &CorsPolicy, call: &Call, verdict: &mut Verdict) -> bool {
    match cors::answers(policy, call) {
        Some(false) => return false,
        Some(true) => {
            verdict.status = Some(200);
            verdict.step(
                "policy",
                "envoy.filters.http.cors: answers the preflight request",
                None,
            );
        }
        None => {
            let text = "envoy.filters.http.cors: cannot be decided here, taken to allow";
            verdict.step("policy", text, None);
            return false;
        }
    }
    true
}

/// A fault that a route injects.
fn breaks(fault: &HttpFault, call: &Call, verdict: &mut Verdict) -> bool {
    if let Some(delay) = &fault.delay {
        let hit = delay
            .percentage
            .as_ref()
            .map_or(Some(false), |share| fraction(share, call));
        if hit != Some(false) {
            verdict.step("fault", format!("delays {}", share(hit)), None);
        }
    }
    let Some(abort) = &fault.abort else { return false };
    let hit = abort
        .percentage
        .as_ref()
        .map_or(Some(false), |share| fraction(share, call));
    let status = match abort.error_type {
        Some(ErrorType::HttpStatus(status)) => u16::try_from(status).ok(),
        Some(ErrorType::GrpcStatus(_)) => Some(200),
        _ => None,
    };
    let shown = status.map_or("a status of the request's header".to_owned(), |status| {
        status.to_string()
    });
    if hit != Some(false) {
        verdict.step("fault", format!("answers {shown} {}", share(hit)), None);
    }
    if hit == Some(true) {
        verdict.status = status;
        return true;
    }
    false
}

fn share(hit: Option<bool>) -> &'static str {
    match hit {
        Some(_) => "this request",
        None => "a share of requests",
    }
}
