//! Cases of simulation: a mesh, a proxy in it, and calls with what each must meet there, by Istio's names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use envoygen::{Generator, Interception, Proxy, ProxyKind, Scope, Settings};
use model::Snapshot;
use serde::Deserialize;
use serde_json::{Value, json};
use simulate::{Call, Entry, Protocol, Resources, Tls, Verdict};

use crate::case::{self, Outcome};

/// Name of the proxy's workload.
const WORKLOAD: &str = "simulated-proxy";
/// Its address, unless the case says another: the one that cases give to endpoints on the proxy.
const ADDRESS: &str = "1.1.1.1";
/// DNS domain of Kubernetes Services. Cases were made without one, so their short names end after the namespace.
const DOMAIN: &str = ".svc.cluster.local";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    #[serde(default, rename = "name")]
    _name: String,
    config: String,
    proxy: Client,
    calls: Vec<Expected>,
}

/// The proxy of a case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    r#type: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    ip_addresses: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    #[serde(default)]
    name: String,
    call: Sent,
    result: Met,
}

/// What is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    address: Option<IpAddr>,
    port: u16,
    path: Option<String>,
    protocol: Option<String>,
    tls: Option<String>,
    alpn: Option<String>,
    sni: Option<String>,
    host_header: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    call_mode: Option<String>,
    mtls_secret_config_name: Option<String>,
}

/// What it meets; what is absent is not looked at, or must be empty where the case is strict.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Met {
    error: Option<String>,
    listener_matched: Option<String>,
    filter_chain_matched: Option<String>,
    route_config_matched: Option<String>,
    virtual_host_matched: Option<String>,
    route_matched: Option<String>,
    cluster_matched: Option<String>,
    #[serde(default)]
    strict_match: bool,
    /// Why Istio skips the case after checking it.
    #[serde(default, rename = "skip")]
    _skip: Option<String>,
}

/// Runs every case.
pub(crate) fn run(folder: &Path) -> Result<Vec<Outcome>> {
    let cases: Vec<Value> = case::read(folder)?;
    Ok(cases.into_iter().map(|case| outcome(folder, case)).collect())
}

/// A case that cannot be run has failed.
fn outcome(folder: &Path, case: Value) -> Outcome {
    let id = case
        .get("id")
        .and_then(Value::as_str)
        .unwrap_or("a case without id")
        .to_owned();
    let checked = serde_json::from_value(case)
        .context("not a case")
        .and_then(|case: Case| check(folder, &case));
    checked.unwrap_or_else(|error| Outcome {
        case: id,
        passed: false,
        expected: "to be run".to_owned(),
        seen: format!("{error:#}"),
    })
}

fn check(folder: &Path, case: &Case) -> Result<Outcome> {
    let resources = resources(folder, case)?;
    let (mut expected, mut seen) = (Vec::new(), Vec::new());
    for each in &case.calls {
        let verdict = resources.walk(&call(&each.call)?);
        let differences = differences(&each.result, &verdict);
        if !differences.is_empty() {
            expected.push(format!("{}: {}", each.name, shown(&differences, |d| &d.1)));
            let steps: Vec<&str> = verdict.steps.iter().map(|step| step.text.as_str()).collect();
            seen.push(format!(
                "{}: {}\n  ({})",
                each.name,
                shown(&differences, |d| &d.2),
                steps.join(" > ")
            ));
        }
    }
    Ok(Outcome {
        case: case.id.clone(),
        passed: expected.is_empty(),
        expected: expected.join("; "),
        seen: seen.join("\n"),
    })
}

/// A field, what it should be and what it is.
type Difference = (&'static str, String, String);

fn shown(differences: &[Difference], part: impl Fn(&Difference) -> &String) -> String {
    let all: Vec<String> = differences
        .iter()
        .map(|d| format!("{} {:?}", d.0, part(d)))
        .collect();
    all.join(", ")
}

fn differences(wanted: &Met, verdict: &Verdict) -> Vec<Difference> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let fields = [
        (
            "error",
            &wanted.error,
            verdict.error.map(|e| e.to_string()).unwrap_or_default(),
        ),
        ("listener", &wanted.listener_matched, text(&verdict.listener)),
        (
            "filter chain",
            &wanted.filter_chain_matched,
            text(&verdict.filter_chain),
        ),
        (
            "route configuration",
            &wanted.route_config_matched,
            text(&verdict.route_config),
        ),
        (
            "virtual host",
            &wanted.virtual_host_matched,
            text(&verdict.virtual_host),
        ),
        ("route", &wanted.route_matched, text(&verdict.route)),
        ("cluster", &wanted.cluster_matched, text(&verdict.cluster)),
    ];
    let mut out = Vec::new();
    for (field, wanted_value, seen) in fields {
        // Whether the proxy refuses a call is always part of what is expected.
        let looked_at = wanted_value.is_some() || wanted.strict_match || field == "error";
        let wanted_value = wanted_value.clone().unwrap_or_default();
        if looked_at && !same(field, &wanted_value, &seen) {
            out.push((field, wanted_value, seen));
        }
    }
    out
}

fn same(field: &str, wanted: &str, seen: &str) -> bool {
    wanted == seen || (field == "cluster" && seen.strip_suffix(DOMAIN) == Some(wanted))
}

/// What the case's proxy gets.
fn resources(folder: &Path, case: &Case) -> Result<Resources> {
    let text =
        std::fs::read(folder.join(&case.config)).with_context(|| format!("reading {}", case.config))?;
    let namespace = case.proxy.namespace.as_deref().unwrap_or("default");
    let address = case.proxy.ip_addresses.first().map_or(ADDRESS, String::as_str);
    let workload = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": { "name": WORKLOAD, "namespace": namespace },
        "spec": { "address": address, "labels": case.proxy.labels },
    });
    let mesh = config::parse(&case.config, &text, "default");
    let own = config::parse("proxy", workload.to_string().as_bytes(), "default");
    anyhow::ensure!(
        own.objects.len() == 1,
        "the proxy cannot be a workload: {:?}",
        own.findings
    );
    let objects = mesh.objects.into_iter().chain(own.objects).map(Arc::new);
    let generator = Generator::new(Arc::new(Snapshot::build(objects)), Settings::default());
    let kind = &case.proxy.r#type;
    let node = format!("{kind}~{address}~{WORKLOAD}.{namespace}~{namespace}{DOMAIN}");
    let mut proxy = Proxy::parse(&node, None)?;
    if proxy.kind == ProxyKind::Sidecar {
        proxy.interception = Some(Interception::Redirect);
    }
    let output = generator.generate(&Scope::of(&proxy, &generator));
    let mut resources = Resources::default();
    for resource in &output.resources {
        resources.add(resource.type_url, &resource.bytes)?;
    }
    for aside in &output.set_aside {
        resources.set_aside(&aside.listener, &aside.chain)?;
    }
    Ok(resources)
}

fn call(sent: &Sent) -> Result<Call> {
    let protocol = match sent.protocol.as_deref() {
        Some("http") => Protocol::Http,
        Some("http2") => Protocol::Http2,
        None | Some("tcp" | "") => Protocol::Tcp,
        Some(other) => anyhow::bail!("no protocol is called {other}"),
    };
    let tls = match sent.tls.as_deref() {
        None | Some("plaintext" | "") => Tls::Plaintext,
        Some("tls") => Tls::Tls,
        Some("mtls") => Tls::Mtls,
        Some(other) => anyhow::bail!("no TLS mode is called {other}"),
    };
    let entry = match sent.call_mode.as_deref() {
        None | Some("gateway" | "outbound" | "") => Entry::Direct,
        Some("inbound") => Entry::Inbound,
        Some(other) => anyhow::bail!("no call mode is called {other}"),
    };
    let mut headers = Vec::new();
    for (name, value) in &sent.headers {
        let values = value
            .as_array()
            .map_or(std::slice::from_ref(value), Vec::as_slice);
        headers.extend(
            values
                .iter()
                .filter_map(Value::as_str)
                .map(|v| (name.clone(), v.to_owned())),
        );
    }
    let given = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = sent
        .host_header
        .clone()
        .or_else(|| given.map(|(_, value)| value.clone()));
    let default = Call::default();
    Ok(Call {
        entry,
        address: sent.address.unwrap_or(default.address),
        port: sent.port,
        protocol,
        tls,
        alpn: sent.alpn.clone().filter(|alpn| !alpn.is_empty()),
        sni: sent.sni.clone().filter(|sni| !sni.is_empty()),
        server_certificate: sent
            .mtls_secret_config_name
            .clone()
            .unwrap_or_else(|| default.server_certificate.clone()),
        path: sent.path.clone().unwrap_or_else(|| default.path.clone()),
        host: host.unwrap_or_default(),
        headers,
        ..default
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases of our own, in the form of the corpora: sidecars from both sides, policies, addresses, gateways.
    #[test]
    fn own_cases() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/simulate");
        let outcomes = run(&folder).unwrap();
        assert!(outcomes.len() >= 60, "{}", outcomes.len());
        let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.passed).collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }

    #[test]
    fn a_case_that_expects_what_is_not_there_fails() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/simulate");
        let wrong = json!({
            "id": "wrong", "config": "gateway-bare.yaml",
            "proxy": { "type": "router", "namespace": "istio-system", "labels": { "istio": "ingressgateway" } },
            "calls": [{ "name": "a", "call": { "port": 80, "protocol": "http" }, "result": { "cluster_matched": "x" } }],
        });
        let unknown =
            json!({ "id": "unknown", "config": "x", "proxy": { "type": "router" }, "calls": [], "more": 1 });
        assert!(!outcome(&folder, wrong).passed);
        assert!(!outcome(&folder, unknown).passed);
    }
}
