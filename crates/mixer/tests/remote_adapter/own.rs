//! Templates of one's own: instances have the fields that the descriptor says, and go to the adapter as its message.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use testkit::wait;

use super::common::server::{SAMPLE, Server};
use super::common::state;
use super::{Adapter, Address, CheckResult, PROTOS, RpcStatus, Value, adapter, ask, descriptor, tell};

const VISA: &str = r#"syntax = "proto3"; package visa; import "google/protobuf/any.proto"; import "model.proto"; import "value.proto";
service HandleVisaService { rpc HandleVisa(HandleVisaRequest) returns (istio.mixer.adapter.model.v1beta1.CheckResult); }
message HandleVisaRequest { InstanceMsg instance = 1; google.protobuf.Any adapter_config = 2; string dedup_id = 3; }
message Paper { bool valid = 1; double weight = 2; }
message InstanceMsg { string name = 72295727; string who_asks = 1; int64 port = 2; istio.policy.v1beta1.IPAddress from = 3;
  map<string, string> tags = 4; Paper paper = 5; map<string, istio.policy.v1beta1.Value> more = 6; }"#;

const STAMP: &str = r#"syntax = "proto3"; package stamp; import "google/protobuf/any.proto"; import "model.proto";
service HandleStampService { rpc HandleStamp(HandleStampRequest) returns (istio.mixer.adapter.model.v1beta1.ReportResult); }
message HandleStampRequest { repeated InstanceMsg instances = 1; google.protobuf.Any adapter_config = 2; string dedup_id = 3; }
message InstanceMsg { string name = 72295727; int64 code = 1; }"#;

/// What makes attributes is not served.
const ENRICH: &str = r#"syntax = "proto3"; package enrich;
service HandleEnrichService { rpc HandleEnrich(InstanceRequest) returns (OutputMsg); }
message InstanceRequest { InstanceMsg instance = 1; }
message OutputMsg { string word = 1; }
message InstanceMsg { string name = 72295727; }"#;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HandleVisaRequest {
    #[prost(message, optional, tag = "1")]
    instance: Option<Visa>,
}

#[derive(Clone, PartialEq, Message)]
struct Visa {
    #[prost(string, tag = "72295727")]
    name: String,
    #[prost(string, tag = "1")]
    who_asks: String,
    #[prost(int64, tag = "2")]
    port: i64,
    #[prost(message, optional, tag = "3")]
    from: Option<Address>,
    #[prost(map = "string, string", tag = "4")]
    tags: HashMap<String, String>,
    #[prost(message, optional, tag = "5")]
    paper: Option<Paper>,
    #[prost(map = "string, message", tag = "6")]
    more: HashMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Paper {
    #[prost(bool, tag = "1")]
    valid: bool,
    #[prost(double, tag = "2")]
    weight: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HandleStampRequest {
    #[prost(message, repeated, tag = "1")]
    instances: Vec<Stamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Stamp {
    #[prost(string, tag = "72295727")]
    name: String,
    #[prost(int64, tag = "1")]
    code: i64,
}

/// Lets everybody pass but mallory.
pub(crate) fn decide(heard: &Adapter, request: HandleVisaRequest) -> CheckResult {
    let is_mallory = request
        .instance
        .as_ref()
        .is_some_and(|visa| visa.who_asks == "mallory");
    heard.lock().visas.push(request);
    let status = is_mallory.then(|| RpcStatus {
        code: 16,
        message: "no visa".to_owned(),
    });
    CheckResult { status }
}

/// The objects: instances of both templates, `visa` given as its parameters.
fn objects(address: std::net::SocketAddr, visa: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let own = [
        ("visa.proto", VISA),
        ("stamp.proto", STAMP),
        ("enrich.proto", ENRICH),
    ];
    for (name, text) in PROTOS.into_iter().chain(own) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let [border, stamp, enrich] =
        ["visa.proto", "stamp.proto", "enrich.proto"].map(|file| descriptor(folder.path(), file));
    format!(
        r#"
{{apiVersion: config.istio.io/v1alpha2, kind: template, metadata: {{name: border, namespace: istio-system}}, spec: {{descriptor: "{border}"}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: template, metadata: {{name: stamp, namespace: istio-system}}, spec: {{descriptor: "{stamp}"}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: template, metadata: {{name: enrich, namespace: shop}}, spec: {{descriptor: "{enrich}"}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: adapter, metadata: {{name: guard, namespace: istio-system}}, spec: {{templates: [border, stamp.istio-system]}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {{name: guard, namespace: istio-system}}, spec: {{adapter: guard, connection: {{address: "{address}"}}}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {{name: visitor, namespace: shop}}, spec: {{template: border.istio-system, params: {{{visa}}}}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {{name: passed, namespace: shop}}, spec: {{template: stamp.istio-system, params: {{code: response.code | 0}}}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {{name: border, namespace: shop}}, spec: {{actions: [{{handler: guard.istio-system, instances: [visitor, passed]}}]}}}}
"#
    )
}

const FIELDS: &str = r#"who_asks: 'request.headers["x-user"] | "nobody"', port: destination.port, from: source.ip,
  tags: {to: 'destination.labels["app"] | "?"'}, paper: {valid: "true", weight: "1.5"}, more: {n: "7", ip: destination.ip}"#;

async fn configured(visa: &str) -> (Server, Adapter, Vec<String>) {
    let (address, heard) = adapter().await;
    let server = Server::start_with(mixer::Args {
        adapter_deadline: Duration::from_secs(5),
        ..mixer::Args::default()
    })
    .await;
    let [_, services, workloads] = SAMPLE;
    let objects = objects(address, visa);
    server
        .mixer
        .configure(state([objects.as_str(), services, workloads]));
    let findings = server.mixer.findings();
    let findings = findings.iter().map(ToString::to_string).collect();
    (server, heard, findings)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_is_asked_and_told_by_templates_of_ones_own() {
    let (server, heard, findings) = configured(FIELDS).await;
    // Nobody uses the one that cannot be used.
    let [unusable] = findings.as_slice() else {
        panic!("{findings:?}")
    };
    assert!(
        unusable.contains("template shop/enrich") && unusable.contains("answers with enrich.OutputMsg"),
        "{unusable}"
    );
    assert_eq!(
        ask(&server, "mallory").await,
        (16, "guard.istio-system:no visa".to_owned())
    );
    assert_eq!(ask(&server, "jason").await.0, 0);
    {
        let heard = heard.lock();
        let expected = Visa {
            name: "visitor.instance.shop".into(),
            who_asks: "mallory".into(),
            port: 8080,
            from: Some(Address {
                value: vec![127, 1, 0, 10],
            }),
            tags: [("to".to_owned(), "catalog".to_owned())].into(),
            paper: Some(Paper {
                valid: true,
                weight: 1.5,
            }),
            more: [
                (
                    "n".to_owned(),
                    Value {
                        int64_value: Some(7),
                        ..Value::default()
                    },
                ),
                (
                    "ip".to_owned(),
                    Value {
                        ip_address_value: Some(Address {
                            value: vec![127, 1, 0, 21],
                        }),
                        ..Value::default()
                    },
                ),
            ]
            .into(),
        };
        assert_eq!(heard.visas[0].instance, Some(expected));
    }
    tell(&server).await;
    let stamped = async || match heard.lock().stamps.first() {
        Some(request) => Ok(request.instances.clone()),
        None => Err("nothing yet".to_owned()),
    };
    let (stamps, _) = wait::until("a report", Duration::from_secs(30), stamped)
        .await
        .unwrap();
    let expected = Stamp {
        name: "passed.instance.shop".into(),
        code: 204,
    };
    assert_eq!(stamps, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_descriptor_is_named() {
    let check = async |visa: &str, expected: &str| {
        let (_, _, findings) = configured(visa).await;
        assert!(
            findings.iter().any(|finding| finding.contains(expected)),
            "{expected}: {findings:?}"
        );
    };
    check(
        "whoAsk: '\"a\"'",
        "spec.params.whoAsk: unknown field; did you mean \"whoAsks\"?",
    )
    .await;
    check("port: '\"a\"'", "spec.params.port: is STRING, but must be INT64").await;
    check(
        "tags: {a: destination.port}",
        "spec.params.tags[a]: is INT64, but must be STRING",
    )
    .await;
    check(
        "paper: {weigth: \"1.0\"}",
        "spec.params.paper.weigth: unknown field",
    )
    .await;
}
