//! Units that an adapter outside of the process grants: to the rate limit service, and to callers of the Mixer API.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use prost::Message;
use proto::mixer::CheckRequest;
use proto::mixer::check_request::QuotaParams as WantedUnits;
use proto::mixer::mixer_client::MixerClient;

use super::common::server::{SAMPLE, Server};
use super::common::state;
use super::{Adapter, Value, adapter, descriptor, request};

/// The messages as an adapter's author has them: same names and numbers as Istio's.
const PROTOS: [(&str, &str); 3] = [
    (
        "quotas.proto",
        r#"syntax = "proto3"; package istio.mixer.adapter.model.v1beta1; import "google/protobuf/duration.proto";
message QuotaRequest { message QuotaParams { int64 amount = 1; bool best_effort = 2; } map<string, QuotaParams> quotas = 1; }
message QuotaResult { message Result { google.protobuf.Duration valid_duration = 2; int64 granted_amount = 3; }
  map<string, Result> quotas = 1; }"#,
    ),
    (
        "value.proto",
        r#"syntax = "proto3"; package istio.policy.v1beta1;
message Value { oneof value { string string_value = 1; int64 int64_value = 2; } }"#,
    ),
    (
        "quota.proto",
        r#"syntax = "proto3"; package quota; import "google/protobuf/any.proto"; import "quotas.proto"; import "value.proto";
service HandleQuotaService { rpc HandleQuota(HandleQuotaRequest) returns (istio.mixer.adapter.model.v1beta1.QuotaResult); }
message HandleQuotaRequest { InstanceMsg instance = 1; google.protobuf.Any adapter_config = 2; string dedup_id = 3;
  istio.mixer.adapter.model.v1beta1.QuotaRequest quota_request = 4; }
message InstanceMsg { string name = 72295727; map<string, istio.policy.v1beta1.Value> dimensions = 1; }"#,
    ),
];

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HandleQuotaRequest {
    #[prost(message, optional, tag = "1")]
    instance: Option<Instance>,
    #[prost(message, optional, tag = "4")]
    quota_request: Option<QuotaRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct Instance {
    #[prost(string, tag = "72295727")]
    name: String,
    #[prost(map = "string, message", tag = "1")]
    dimensions: HashMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
struct QuotaRequest {
    #[prost(map = "string, message", tag = "1")]
    quotas: HashMap<String, QuotaParams>,
}

#[derive(Clone, PartialEq, Message)]
struct QuotaParams {
    #[prost(int64, tag = "1")]
    amount: i64,
    #[prost(bool, tag = "2")]
    best_effort: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct QuotaResult {
    #[prost(map = "string, message", tag = "1")]
    quotas: HashMap<String, Granted>,
}

#[derive(Clone, PartialEq, Message)]
struct Granted {
    #[prost(int64, tag = "3")]
    granted_amount: i64,
}

/// Grants of the units that are left.
pub(crate) fn grant(heard: &Adapter, request: HandleQuotaRequest) -> QuotaResult {
    let mut heard = heard.lock();
    let wanted = request.quota_request.clone().unwrap_or_default().quotas;
    let mut quotas = HashMap::new();
    for (name, wanted) in wanted {
        let whole = wanted.amount <= heard.units;
        let granted_amount = match (whole, wanted.best_effort) {
            (true, _) => wanted.amount,
            (false, true) => heard.units,
            (false, false) => 0,
        };
        heard.units -= granted_amount;
        quotas.insert(name, Granted { granted_amount });
    }
    heard.quotas.push(request);
    QuotaResult { quotas }
}

fn objects(address: std::net::SocketAddr) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in PROTOS {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let quota = descriptor(folder.path(), "quota.proto");
    format!(
        r#"
{{apiVersion: config.istio.io/v1alpha2, kind: template, metadata: {{name: quota, namespace: istio-system}}, spec: {{descriptor: "{quota}"}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: adapter, metadata: {{name: counter, namespace: istio-system}}, spec: {{templates: [quota]}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {{name: counter, namespace: istio-system}}, spec: {{adapter: counter, connection: {{address: "{address}"}}}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {{name: visits, namespace: istio-system}}, spec: {{template: quota, params: {{dimensions: {{user: 'request.headers["x-user"] | "nobody"'}}}}}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {{name: limit-catalog, namespace: istio-system}}, spec: {{actions: [{{handler: counter, instances: [visits]}}]}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: QuotaSpec, metadata: {{name: visits, namespace: istio-system}}, spec: {{rules: [{{quotas: [{{quota: visits, charge: 2}}]}}]}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: QuotaSpecBinding, metadata: {{name: visits, namespace: istio-system}}, spec: {{quotaSpecs: [{{name: visits}}], services: [{{name: catalog, namespace: shop}}]}}}}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn units_are_granted_outside() {
    let (address, heard) = adapter().await;
    let server = Server::start_with(mixer::Args {
        adapter_deadline: Duration::from_secs(5),
        ..mixer::Args::default()
    })
    .await;
    let [_, services, workloads] = SAMPLE;
    let objects = objects(address);
    server
        .mixer
        .configure(state([objects.as_str(), services, workloads]));
    assert!(
        server.mixer.findings().is_empty(),
        "{:?}",
        server.mixer.findings()
    );
    heard.lock().units = 6;

    // As a proxy's rate limit filter asks, for the two units that the QuotaSpec says.
    let limited = server.limit("catalog", "jason").await.unwrap();
    assert_eq!(limited.overall_code(), Code::Ok);
    {
        let heard = heard.lock();
        let told = heard.quotas[0].instance.as_ref().unwrap();
        assert_eq!(told.name, "visits.instance.istio-system");
        assert_eq!(told.dimensions["user"].string_value.as_deref(), Some("jason"));
        assert_eq!(heard.units, 4);
    }
    // As callers of the Mixer API do.
    let wanted = async |amount: i64, best_effort: bool| {
        let units = WantedUnits { amount, best_effort };
        let request = CheckRequest {
            attributes: Some(request("jason")),
            quotas: [("visits".to_owned(), units)].into(),
            ..CheckRequest::default()
        };
        let answer = MixerClient::new(server.proxy("catalog"))
            .check(request)
            .await
            .unwrap();
        answer.into_inner().quotas["visits"].granted_amount
    };
    assert_eq!(wanted(5, false).await, 0);
    assert_eq!(wanted(3, true).await, 3);
    assert_eq!(wanted(3, true).await, 1);
    let limited = server.limit("catalog", "jason").await.unwrap();
    assert_eq!(limited.overall_code(), Code::OverLimit);
}
