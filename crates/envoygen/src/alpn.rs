//! What requests tell a server's proxy by ALPN, within mutual TLS, where a port's protocol is not declared. Connections to such a
//! port announce `istio` alone, and the server takes them as bytes; requests announce HTTP in the version that they go out in, so
//! that policies and telemetry of HTTP hold there (Istio's filter `istio.alpn`). Stock Envoy does so by filter state that routes
//! set (Envoy, "Well Known Filter State Objects": `envoy.network.application_protocols`).

use config::networking::Destination;
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, SubstitutionFormatString, data_source::Specifier, substitution_format_string::Format,
};
use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3::{
    FilterStateValue,
    filter_state_value::{Key, Value},
};
use envoy_types::pb::envoy::extensions::filters::http::set_filter_state::v3::Config;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::google::protobuf::Any;
use model::{Protocol, Service};

use crate::cluster::{self, Effective, UpstreamProtocol, upstream_protocol};
use crate::filter;
use crate::route::RouteContext;
use crate::wire::plain_any;

/// The filter's name, Istio's.
pub(crate) const FILTER: &str = "istio.alpn";
/// What decides on ALPN in Envoy.
const STATE: &str = "envoy.network.application_protocols";
const HTTP1: &str = "istio-http/1.1,istio,http/1.1";
const HTTP2: &str = "istio-h2,istio,h2";

/// The filter, which does nothing but what routes ask for.
pub(crate) fn filter() -> HttpFilter {
    filter::http(FILTER, plain_any(&Config::default()))
}

/// What a route asks for, by the protocol of its upstream.
fn announced(protocol: UpstreamProtocol) -> Any {
    let text = match protocol {
        UpstreamProtocol::Http2 => HTTP2.to_owned(),
        // HTTP/3 goes on as HTTP/2 (Envoy, `UseDownstreamHttpConfig`).
        UpstreamProtocol::Downstream => {
            format!("%CEL(request.protocol in ['HTTP/2', 'HTTP/3'] ? '{HTTP2}' : '{HTTP1}')%")
        }
        UpstreamProtocol::Http1 | UpstreamProtocol::Tcp => HTTP1.to_owned(),
    };
    let format = SubstitutionFormatString {
        format: Some(Format::TextFormatSource(DataSource {
            specifier: Some(Specifier::InlineString(text)),
            ..Default::default()
        })),
        ..Default::default()
    };
    plain_any(&Config {
        on_request_headers: vec![FilterStateValue {
            key: Some(Key::ObjectKey(STATE.to_owned())),
            value: Some(Value::FormatString(format)),
            ..Default::default()
        }],
        ..Default::default()
    })
}

impl RouteContext<'_> {
    /// What requests to a destination announce; none where its cluster says all.
    pub(crate) fn announcement(&self, destination: &Destination) -> Option<Any> {
        let service = self.view.service(&destination.host)?;
        self.service_announcement(service, &destination.subset, self.port_of(destination))
    }

    /// The same of a service's port.
    pub(crate) fn service_announcement(&self, service: &Service, subset: &str, port: u16) -> Option<Any> {
        let declared = service.port(port)?.protocol;
        if declared != Protocol::Auto {
            return None;
        }
        let rule = self.view.rule(service).map(|rule| &**rule);
        let policy = Effective::new(rule, subset, port, self.mesh);
        let kind = self.view.scope.kind.into();
        cluster::mutual(service, &policy, self.mesh)
            .then(|| announced(upstream_protocol(&policy, declared, self.mesh, kind)))
    }
}
