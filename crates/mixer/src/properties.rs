//! Whatever Envoy, or who pretends to be Envoy, sends: Mixer answers or refuses, and does not panic.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress, address};
use envoy_types::pb::envoy::data::accesslog::v3::{
    AccessLogCommon, ConnectionProperties, HttpAccessLogEntry, HttpRequestProperties, HttpResponseProperties,
    TcpAccessLogEntry,
};
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use envoy_types::pb::google::protobuf::{Duration, Timestamp, UInt32Value};
use proptest::option;
use proptest::prelude::*;
use runtime::Metrics;

use crate::attributes::descriptor::Call;
use crate::attributes::http_log::HttpLog;
use crate::attributes::log::Sender;
use crate::attributes::tcp_log::{TcpLog, Totals};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::testing::{RICH, random, state};

const CATALOG: &str = "cluster.local/ns/shop/sa/catalog";
const EDGE: &str = "cluster.local/ns/istio-system/sa/edge";

fn engine() -> Arc<Engine> {
    let args = crate::Args {
        prometheus_series: 100,
        ..crate::Args::default()
    };
    let engine = Engine::new(&args, Clock::new(|| 0), &Metrics::new());
    engine.configure(state(&RICH));
    let findings = engine.findings();
    assert!(findings.is_empty(), "{findings:?}");
    Arc::new(engine)
}

/// Text that hits, or almost hits, what the code looks for.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("127.1.0.21".to_owned()),
        Just("spiffe://cluster.local/ns/shop/sa/catalog".to_owned()),
        Just("outbound|7080|v1|catalog.shop.svc.cluster.local".to_owned()),
        Just("sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local".to_owned()),
        "[a-z|~./:?&=%#-]{0,20}",
        any::<String>(),
    ]
}

/// A path, of the API or almost.
fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => "/books/[0-9]{0,2}(\\?(token|q)=[a-z%0-9]{0,4}){0,1}",
        1 => "/[a-z0-9%?&=;/.]{0,16}",
        1 => text()
    ]
}

fn method() -> impl Strategy<Value = String> {
    prop_oneof![Just("GET".to_owned()), Just("POST".to_owned()), text()]
}

/// What a gateway says that a check is about: rules that there are, and others.
fn sent() -> impl Strategy<Value = Option<String>> {
    let host = prop_oneof![
        Just("shop/legacy.example"),
        Just("shop/catalog.shop.svc.cluster.local"),
        Just("x/y")
    ];
    let rules = prop_oneof![
        Just("sent.shop".to_owned()),
        Just("sent.shop,cel.shop,keys.shop".to_owned()),
        text()
    ];
    let known = (host, rules).prop_map(|(host, rules)| format!("{host} {rules}"));
    option::of(prop_oneof![4 => known, 1 => text()])
}

fn map() -> impl Strategy<Value = HashMap<String, String>> {
    let name = prop_oneof![
        Just("x-user".to_owned()),
        Just("content-type".to_owned()),
        any::<String>()
    ];
    prop::collection::hash_map(name, text(), 0..4)
}

fn socket() -> impl Strategy<Value = Option<Address>> {
    let socket = (text(), any::<u32>()).prop_map(|(ip, port)| {
        let port_specifier = Some(PortSpecifier::PortValue(port));
        let socket = SocketAddress {
            address: ip,
            port_specifier,
            ..SocketAddress::default()
        };
        Address {
            address: Some(address::Address::SocketAddress(socket)),
        }
    });
    option::of(socket)
}

fn peer() -> impl Strategy<Value = Option<Peer>> {
    option::of((socket(), text()).prop_map(|(address, principal)| Peer {
        address,
        principal,
        ..Peer::default()
    }))
}

/// Mostly the workload that asks, so that what it asks about is looked at.
fn own() -> impl Strategy<Value = Option<Peer>> {
    let socket = SocketAddress {
        address: "127.1.0.21".to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(8080)),
        ..SocketAddress::default()
    };
    let known = Peer {
        address: Some(Address {
            address: Some(address::Address::SocketAddress(socket)),
        }),
        ..Peer::default()
    };
    prop_oneof![3 => Just(Some(known)), 1 => peer()]
}

fn timestamp() -> impl Strategy<Value = Option<Timestamp>> {
    option::of((any::<i64>(), any::<i32>()).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos }))
}

fn duration() -> impl Strategy<Value = Option<Duration>> {
    option::of((any::<i64>(), any::<i32>()).prop_map(|(seconds, nanos)| Duration { seconds, nanos }))
}

fn http_request() -> impl Strategy<Value = HttpRequest> {
    (map(), path(), text(), method(), any::<i64>()).prop_map(|(headers, path, host, method, size)| {
        HttpRequest {
            headers,
            path,
            host,
            method,
            size,
            ..HttpRequest::default()
        }
    })
}

fn check() -> impl Strategy<Value = CheckRequest> {
    let request =
        option::of((timestamp(), option::of(http_request())).prop_map(|(time, http)| Request { time, http }));
    let context = (peer(), own(), request, map());
    option::of(context).prop_map(|context| CheckRequest {
        attributes: context.map(
            |(source, destination, request, context_extensions)| AttributeContext {
                source,
                destination,
                request,
                context_extensions,
                ..AttributeContext::default()
            },
        ),
    })
}

fn descriptor() -> impl Strategy<Value = RateLimitDescriptor> {
    let known = prop::sample::select(vec![
        ("rule", "limit-catalog.istio-system"),
        ("destination.uid", "kubernetes://catalog-v1.shop"),
        ("destination.address", "127.1.0.21:8080"),
        ("request.path", "/limited"),
    ]);
    let known = known.prop_map(|(key, value)| Entry {
        key: key.into(),
        value: value.into(),
    });
    let keys = prop::sample::select(vec![
        "source.address",
        "source.principal",
        "request.size",
        "request.headers[x-user]",
    ]);
    let free = (prop_oneof![keys.prop_map(str::to_owned), text()], text())
        .prop_map(|(key, value)| Entry { key, value });
    let entries = prop::collection::vec(prop_oneof![3 => known, 1 => free], 0..10);
    entries.prop_map(|entries| RateLimitDescriptor {
        entries,
        ..RateLimitDescriptor::default()
    })
}

fn common() -> impl Strategy<Value = AccessLogCommon> {
    let addresses = (socket(), socket(), socket());
    let times = (timestamp(), duration(), any::<i32>());
    (addresses, times, text(), text(), map()).prop_map(
        |(
            (remote, local, upstream),
            (start_time, duration, access_log_type),
            cluster,
            stream_id,
            custom_tags,
        )| {
            AccessLogCommon {
                downstream_direct_remote_address: remote,
                downstream_local_address: local,
                upstream_remote_address: upstream,
                start_time,
                duration,
                access_log_type: access_log_type % 20,
                upstream_cluster: cluster,
                stream_id,
                custom_tags,
                ..AccessLogCommon::default()
            }
        },
    )
}

fn http_log() -> impl Strategy<Value = HttpAccessLogEntry> {
    let request = (map(), text(), text(), any::<u64>(), any::<i32>());
    let response = (any::<u32>(), any::<u64>(), map(), map());
    (option::of(common()), request, response).prop_map(|(common_properties, request, response)| {
        let (request_headers, path, authority, bytes, method) = request;
        let (code, response_body_bytes, response_headers, response_trailers) = response;
        HttpAccessLogEntry {
            common_properties,
            request: Some(HttpRequestProperties {
                request_headers,
                path,
                authority,
                request_body_bytes: bytes,
                request_headers_bytes: bytes,
                request_method: method,
                ..HttpRequestProperties::default()
            }),
            response: Some(HttpResponseProperties {
                response_code: Some(UInt32Value { value: code }),
                response_body_bytes,
                response_headers,
                response_trailers,
                ..HttpResponseProperties::default()
            }),
            ..HttpAccessLogEntry::default()
        }
    })
}

fn tcp_log() -> impl Strategy<Value = TcpAccessLogEntry> {
    (option::of(common()), any::<u64>(), any::<u64>()).prop_map(
        |(common_properties, received_bytes, sent_bytes)| {
            let connection_properties = Some(ConnectionProperties {
                received_bytes,
                sent_bytes,
            });
            TcpAccessLogEntry {
                common_properties,
                connection_properties,
            }
        },
    )
}

fn sender() -> impl Strategy<Value = Sender> {
    let told = option::of(prop::collection::vec(text(), 0..3));
    (option::of(text()), text(), told).prop_map(|(node_id, log_name, told)| Sender {
        principal: CATALOG.to_owned(),
        node_id,
        told: told.map(Into::into),
        reporter: Sender::reporter_of(&log_name),
    })
}

#[test]
fn checks_are_answered() {
    let engine = engine();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answers = RefCell::new(HashMap::<u16, usize>::new());
    proptest!(random(2000), |(request in check(), mode in any::<Option<bool>>(), said in sent())| {
        let asked = policy::Asked { fail_open: mode, rules: None };
        let sent = said.as_deref().and_then(policy::Sent::parse);
        let caller = if said.is_some() { EDGE } else { CATALOG };
        if let Ok(decision) = runtime.block_on(engine.check(&request, caller, &asked, sent.as_ref())) {
            // 503: an engine beside has not answered in time.
            prop_assert!(matches!(decision.http_status, 200 | 401 | 403 | 404 | 500 | 503), "{:?}", decision);
            *answers.borrow_mut().entry(decision.http_status).or_default() += 1;
        }
    });
    let answers = answers.into_inner();
    let enough = |status: u16| answers.get(&status).is_some_and(|count| *count > 20);
    assert!(enough(200) && enough(403), "{answers:?}");
}

#[test]
fn descriptors_are_answered() {
    let engine = engine();
    proptest!(random(2000), |(descriptor in descriptor())| {
        let mut call = Call::new(std::slice::from_ref(&descriptor), 0);
        let charge = engine.charge(&descriptor, &mut call, CATALOG, expr::Timestamp(0));
        if let Ok(Some(denial)) = futures::executor::block_on(charge) {
            prop_assert_eq!(&denial.quota, "catalogquota");
        }
    });
}

#[test]
fn entries_are_counted_within_bounds() {
    let engine = engine();
    let policies = engine.policies().unwrap();
    let totals = RefCell::new(Totals::default());
    proptest!(random(2000), |(http in http_log(), tcp in tcp_log(), sender in sender())| {
        if let Some(log) = HttpLog::new(http) {
            log.with_request(&policies.mesh, &sender, |request| engine.report(&policies, request));
        }
        if let Some(log) = TcpLog::new(tcp, &sender, &mut totals.borrow_mut()) {
            log.with_request(&policies.mesh, &sender, |request| engine.report(&policies, request));
        }
    });
    let series = engine
        .page()
        .lines()
        .filter(|line| line.starts_with("istio_requests_total"))
        .count();
    assert!((1..=100).contains(&series), "{series}");
}
