//! WasmPlugin and TrafficExtension: where code comes from and what it is given.

use super::common::{attachment, unique};
use crate::extensions::{EnvValueSource, TrafficExtension, VmConfig, WasmPlugin};
use crate::path::At;

/// Checks a WasmPlugin.
pub(super) fn wasm_plugin(spec: &WasmPlugin, at: &At<'_>) {
    attachment(
        spec.selector.as_ref(),
        spec.target_ref.as_ref(),
        &spec.target_refs,
        at,
    );
    url(&spec.url, &at.key("url"));
    at.some("vmConfig", spec.vm_config.as_ref(), vm_config);
}

/// Checks a TrafficExtension.
pub(super) fn traffic_extension(spec: &TrafficExtension, at: &At<'_>) {
    attachment(spec.selector.as_ref(), None, &spec.target_refs, at);
    at.require(spec.wasm.is_some() || spec.lua.is_some(), "wasm or lua is needed");
    at.some("wasm", spec.wasm.as_ref(), |wasm, at| {
        url(&wasm.url, &at.key("url"));
        at.some("vmConfig", wasm.vm_config.as_ref(), vm_config);
    });
}

/// Where a module is: `file`, `http`, `https` or `oci`, which is meant without a scheme.
fn url(url: &str, at: &At<'_>) {
    if url.is_empty() {
        return;
    }
    let (scheme, rest) = url.split_once("://").unwrap_or(("oci", url));
    if !matches!(scheme, "file" | "http" | "https" | "oci") {
        return at.error(format!(
            "{url:?} must have one of the schemes file, http, https and oci"
        ));
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let illegal = url
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || "\\\"<>^`{|}".contains(c));
    let host_fine =
        scheme == "file" || (!host.is_empty() && !host.starts_with(':') && !host.contains(['%', '#']));
    if illegal || !host_fine || !percents_fine(url) {
        at.error(format!(
            "{url:?} is not a URL of a module, such as oci://HOST/NAME:TAG or file:///PATH"
        ));
    }
}

/// Whether each `%` begins two hexadecimal digits (RFC 3986, 2.1).
fn percents_fine(url: &str) -> bool {
    url.split('%')
        .skip(1)
        .all(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
}

fn vm_config(config: &VmConfig, at: &At<'_>) {
    unique(
        "env",
        config.env.iter().map(|variable| variable.name.as_str()),
        "the variable",
        at,
    );
    at.each("env", &config.env, |variable, at| {
        if variable.value_from == EnvValueSource::Host && !variable.value.is_empty() {
            at.key("value")
                .error("valueFrom HOST takes the value from the proxy's environment; remove one of them");
        }
    });
}
