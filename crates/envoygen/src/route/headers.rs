//! Header operations of routes and destinations.

use std::collections::BTreeMap;

use config::networking::Headers;
use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
};
use envoy_types::pb::envoy::config::route::v3::Route;

/// Header changes in Envoy's form.
#[derive(Debug, Default)]
pub(super) struct Operations {
    pub(super) request_add: Vec<HeaderValueOption>,
    pub(super) request_remove: Vec<String>,
    pub(super) response_add: Vec<HeaderValueOption>,
    pub(super) response_remove: Vec<String>,
    /// New authority: `set` (or `add`) of `host` or `:authority`, which Envoy does not let headers change.
    pub(super) authority: Option<String>,
}

impl Operations {
    pub(super) fn new(headers: &Headers) -> Operations {
        let mut out = Operations::default();
        if let Some(request) = &headers.request {
            let authority = |map: &BTreeMap<String, String>| {
                map.iter()
                    .find(|(name, _)| is_authority(name))
                    .map(|(_, value)| value.clone())
            };
            out.authority = authority(&request.set).or_else(|| authority(&request.add));
            out.request_add = options(&request.set, &request.add);
            out.request_remove = removable(&request.remove);
        }
        if let Some(response) = &headers.response {
            out.response_add = options(&response.set, &response.add);
            out.response_remove = removable(&response.remove);
        }
        out
    }
}

/// Adds a route's header operations to it; gives the new authority, if they set one.
pub(super) fn apply(route: &mut Route, headers: Option<&Headers>) -> Option<String> {
    let operations = Operations::new(headers?);
    route.request_headers_to_add.extend(operations.request_add);
    route.request_headers_to_remove.extend(operations.request_remove);
    route.response_headers_to_add.extend(operations.response_add);
    route
        .response_headers_to_remove
        .extend(operations.response_remove);
    operations.authority
}

fn options(set: &BTreeMap<String, String>, add: &BTreeMap<String, String>) -> Vec<HeaderValueOption> {
    let set = set
        .iter()
        .map(|(name, value)| (name, value, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = add
        .iter()
        .map(|(name, value)| (name, value, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add)
        .filter(|(name, _, _)| !is_internal(name))
        .map(|(name, value, action)| HeaderValueOption {
            header: Some(HeaderValue {
                key: name.clone(),
                value: value.clone(),
                ..Default::default()
            }),
            append_action: action as i32,
            ..Default::default()
        })
        .collect()
}

fn removable(names: &[String]) -> Vec<String> {
    names.iter().filter(|name| !is_internal(name)).cloned().collect()
}

/// Envoy refuses to change these.
fn is_internal(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}
