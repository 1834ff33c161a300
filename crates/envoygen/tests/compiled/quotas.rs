//! Quotas stay with Mixer; what the proxy tells it is the connection's own.

use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, access_log};
use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, SubstitutionFormatString, data_source, substitution_format_string::Format,
};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as FilterConfig;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{
    FileAccessLog, file_access_log::AccessLogFormat,
};
use envoygen::{Generator, Settings};
use policy::Ports;

use crate::mesh::{INBOUND, MESH, plaintext, policies};
use crate::support::envoy::{echo, request, run};
use crate::support::{generator, manager, snapshot, tables};

const QUOTA: &str = r#"
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: h, namespace: shop}, spec: {compiledAdapter: memquota, params: {quotas: [{name: q.instance.shop, maxAmount: 1, validDuration: 10s}]}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: q, namespace: shop}, spec: {compiledTemplate: quota, params: {dimensions: {ip: source.ip}}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: QuotaSpec, metadata: {name: q, namespace: shop}, spec: {rules: [{quotas: [{quota: q, charge: 1}]}]}}
---
{apiVersion: config.istio.io/v1alpha2, kind: QuotaSpecBinding, metadata: {name: q, namespace: shop}, spec: {quotaSpecs: [{name: q}], services: [{name: echo}]}}
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: q, namespace: shop}, spec: {actions: [{handler: h, instances: [q]}]}}
"#;

/// A client that could choose the address by which it is counted would get past any quota by it.
#[test]
fn a_quota_by_address_goes_by_the_connection() {
    let mesh = MESH.replace("127.11.N.", "127.11.4.");
    let generator = generator(&[&mesh, QUOTA]);
    let (rules, own) = policies(&generator);
    let quotas = rules.requirements_at(&own, INBOUND, Ports::Only(8080)).quotas;
    let asked = quotas[0]
        .entries
        .iter()
        .find(|entry| entry.key == "source.address")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let edit = |bootstrap: &mut Bootstrap| {
        plaintext(bootstrap);
        let listener = &mut bootstrap.static_resources.as_mut().unwrap().listeners[0];
        let filter = listener.filter_chains[0].filters.last_mut().unwrap();
        let mut manager = manager(filter).unwrap();
        manager.access_log = vec![file_log(&log, &format!("[%CEL({})%]", asked.cel))];
        filter.config_type = Some(FilterConfig::TypedConfig(envoy_types::util::pack_any(manager)));
    };
    let node = "sidecar~127.11.4.2~echo-v1.shop~shop.svc.cluster.local";
    let Some(_running) = run(&tables(&generator, node), "127.11.4.2:15000", edit) else {
        return;
    };
    request("127.11.4.3:8080", "GET / HTTP/1.1", &["x-forwarded-for: 9.9.9.9"]).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let seen = loop {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.contains(']') {
            break text;
        }
        assert!(std::time::Instant::now() < until, "no entry");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert!(seen.starts_with("[127.0.0.1:"), "{seen}");
}

/// Dimensions that read all that descriptors can carry.
const ALL: &str = r#"{
  size: 'request.size | 0', user: 'request.headers["x-user"] | ""', path: 'request.path | ""', query: 'request.query_params["q"] | ""', method: 'request.method | ""',
  host: 'request.host | ""', scheme: 'request.scheme | ""', id: 'request.id | ""', agent: 'request.useragent | ""', referer: 'request.referer | ""', key: 'request.api_key | ""',
  protocol: 'context.protocol | ""', mtls: 'connection.mtls | false', sni: 'connection.requested_server_name | ""', principal: 'source.principal | ""', ip: 'source.ip | ip("0.0.0.0")'}"#;

/// Envoy asks nobody where one entry of a descriptor has no value. Here there is no Mixer, and a request that is asked about is
/// refused: none may pass, whatever it leaves out or says.
#[test]
fn no_request_slips_past_a_quota() {
    let mesh = MESH.replace("127.11.N.", "127.11.9.");
    // Of no Mixer the address is known, so that each call fails at once.
    let total = QUOTA.replace("{ip: source.ip}", ALL);
    let generator = Generator::new(snapshot(&[&mesh, &total]), Settings::default());
    let (rules, own) = policies(&generator);
    let quotas = rules.requirements_at(&own, INBOUND, Ports::Only(8080)).quotas;
    let keys: Vec<&str> = quotas[0].entries.iter().map(|entry| entry.key.as_str()).collect();
    assert!(keys.contains(&"request.size") && keys.len() > 15, "{keys:?}");
    let node = "sidecar~127.11.9.2~echo-v1.shop~shop.svc.cluster.local";
    let Some(running) = run(&tables(&generator, node), "127.11.9.2:15000", plaintext) else {
        return;
    };
    echo("127.11.9.2:8080");
    let requests: [(&str, &[&str]); 11] = [
        ("GET / HTTP/1.1", &[]),
        ("POST / HTTP/1.1", &["content-length: 9223372036854775808"]),
        ("POST / HTTP/1.1", &["content-length: 18446744073709551615"]),
        ("POST / HTTP/1.1", &["content-length: 9223372036854775807"]),
        ("POST / HTTP/1.1", &["content-length: 0"]),
        ("POST / HTTP/1.1", &["transfer-encoding: chunked"]),
        ("GET /%00%ff?q=%0d%0a&&=& HTTP/1.1", &["x-user;"]),
        (
            "GET /?q HTTP/1.1",
            &["x-user: ", "user-agent: ", "x-request-id: ", "referer: "],
        ),
        ("GET / HTTP/1.1", &["x-user: a", "x-user: b", "x-api-key: \u{7f}"]),
        (
            "GET / HTTP/1.1",
            &["x-user: \u{e9}", "content-type: application/grpc"],
        ),
        ("GET http://other:1/x HTTP/1.1", &[]),
    ];
    for (line, headers) in requests {
        let answer = request("127.11.9.3:8080", line, headers).unwrap();
        let status = answer.split(' ').nth(1).unwrap_or_default();
        // 400: Envoy itself takes some for nonsense. gRPC has its own status for 503.
        let refused = ["503", "400"].contains(&status) || answer.contains("grpc-status: 14");
        assert!(refused, "{line} {headers:?}: {answer}");
        // The application shows what it gets.
        assert!(!answer.contains("x-forwarded-proto"), "{answer}");
    }
    running.page(
        "/stats?filter=ratelimit.mixer_closed.error",
        "mixer_closed.error: ",
    );
}

fn file_log(path: &std::path::Path, format: &str) -> AccessLog {
    let format = SubstitutionFormatString {
        format: Some(Format::TextFormatSource(DataSource {
            specifier: Some(data_source::Specifier::InlineString(format.to_owned())),
            ..Default::default()
        })),
        ..Default::default()
    };
    let config = FileAccessLog {
        path: path.display().to_string(),
        access_log_format: Some(AccessLogFormat::LogFormat(format)),
    };
    AccessLog {
        name: "file".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(envoy_types::util::pack_any(
            config,
        ))),
        ..Default::default()
    }
}
