//! The request that a caller's attributes describe.
//!
//! The caller is a proxy with a certificate of the mesh. It speaks for its own workload alone, which is found by that
//! certificate; of the other end it says the address and the identity that it authenticated, and a workload is believed to be
//! there only where both agree. Whatever else a message says of the source, the destination or the reporter is not believed
//! (ISTIO-SECURITY-2020-002: clients forged attributes of their own).

use std::collections::BTreeMap;

use expr::{Attributes, StringLookup, Value};
use policy::{Connection, Extra, HeaderMap, Party, Protocol, ReporterKind, Request, Response, WorkloadView};

use super::sent::Sent;
use crate::attributes::address::Endpoint;
use crate::attributes::parties;
use crate::mesh::Mesh;

impl Sent<'_> {
    fn endpoint(&self, end: &str) -> Endpoint {
        Endpoint {
            ip: self.ip(&format!("{end}.ip")),
            port: self
                .int(&format!("{end}.port"))
                .and_then(|port| port.try_into().ok()),
        }
    }

    /// Which end's proxy speaks.
    pub(crate) fn reporter(&self) -> ReporterKind {
        let outbound = match self.text("context.reporter.kind") {
            Some(kind) => kind == "outbound",
            None => self.bool("context.reporter.local") == Some(false),
        };
        if outbound {
            ReporterKind::Outbound
        } else {
            ReporterKind::Inbound
        }
    }

    /// The workload whose proxy speaks, if the authenticated `caller` has one that the message may mean.
    /// `node` is a node id that came with it.
    pub(crate) fn own<'b>(
        &self,
        mesh: &'b Mesh,
        caller: &str,
        node: Option<&str>,
    ) -> Option<&'b WorkloadView> {
        let end = match self.reporter() {
            ReporterKind::Inbound => "destination",
            ReporterKind::Outbound => "source",
        };
        let uid = self.text(&format!("{end}.uid"));
        let uid = uid.or_else(|| self.text("context.reporter.uid"));
        let named = uid
            .and_then(|uid| uid.strip_prefix("kubernetes://")?.rsplit_once('.'))
            .and_then(|(name, namespace)| mesh.named(namespace, name, caller));
        named.or_else(|| parties::caller(mesh, caller, node, &[self.endpoint(end).ip]))
    }

    /// What had to be computed beside the message.
    pub(crate) fn derived(&self) -> Derived {
        let query = match self.map("request.query_params") {
            Some(sent) => sent
                .0
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            None => policy::query_of(self.text("request.path").unwrap_or_default()),
        };
        let claims = self.map("request.auth.claims").map(|claims| {
            let own = claims.0.iter();
            own.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        });
        Derived { query, claims }
    }

    /// Calls `then` with the request that the attributes describe, to or from the workload `own` of `caller`.
    pub(crate) fn with_request<T>(
        &self,
        derived: &Derived,
        mesh: &Mesh,
        caller: &str,
        own: Option<&WorkloadView>,
        then: impl FnOnce(&Request<'_>) -> T,
    ) -> T {
        let headers = self.map("request.headers").map(|map| HeaderMap(map));
        let response_headers = self.map("response.headers").map(|map| HeaderMap(map));
        let extra = Unforged(self);
        let mut request = Request {
            reporter: self.reporter(),
            reporter_uid: own.map(WorkloadView::uid),
            protocol: self.protocol(),
            mtls: self.bool("connection.mtls"),
            server_name: self.text("connection.requested_server_name"),
            headers: headers.as_ref().map(|map| map as &dyn StringLookup),
            path: self.text("request.path"),
            query: Some(&derived.query),
            method: self.text("request.method"),
            host: self.text("request.host"),
            scheme: self.text("request.scheme"),
            id: self.text("request.id"),
            size: self.int("request.size"),
            total_size: self.int("request.total_size"),
            time: self
                .time("request.time")
                .or_else(|| self.time("context.time"))
                .or_else(|| self.time("context.timestamp")),
            claims: derived.claims.as_ref(),
            raw_claims: self.text("request.auth.raw_claims"),
            response: Response {
                headers: response_headers.as_ref().map(|map| map as &dyn StringLookup),
                ..self.response()
            },
            connection: self.connection(),
            extra: Extra(Some(&extra)),
            ..Request::default()
        };
        self.parties(&mut request, mesh, caller, own);
        then(&request)
    }

    fn parties<'b>(
        &'b self,
        request: &mut Request<'b>,
        mesh: &'b Mesh,
        caller: &'b str,
        own: Option<&'b WorkloadView>,
    ) {
        let near = |end: &str| {
            let address = self.endpoint(end);
            Party {
                workload: own,
                ip: address.ip.or_else(|| own.and_then(|own| own.ip)),
                port: address.port,
                principal: Some(caller),
            }
        };
        match request.reporter {
            ReporterKind::Inbound => {
                let peer = self.text("source.principal").or_else(|| self.text("source.user"));
                request.source = parties::far(mesh, self.endpoint("source"), peer.map(bare));
                request.destination = near("destination");
                let (port, host) = (request.destination.port, request.host);
                let asked = self.text("destination.service.host").or(host);
                request.service = own.and_then(|own| own.service(port, asked));
            }
            ReporterKind::Outbound => {
                request.source = near("source");
                let peer = self.text("destination.principal").map(bare);
                request.destination = parties::upstream(mesh, self.endpoint("destination"), peer);
                let host = self
                    .text("destination.service.host")
                    .or_else(|| self.text("destination.service"));
                let namespace = own.map(|own| own.namespace.as_str());
                request.service = host.and_then(|host| mesh.service(host, namespace));
            }
        }
    }

    fn protocol(&self) -> Protocol {
        match self.text("context.protocol") {
            Some("tcp" | "mongo" | "mysql" | "redis") => Protocol::Tcp,
            Some("grpc") => Protocol::Grpc,
            Some(_) => Protocol::Http,
            None if self.has("request.method", None) || self.has("request.path", None) => Protocol::Http,
            None => Protocol::Tcp,
        }
    }

    fn response(&self) -> Response<'_> {
        Response {
            code: self.int("response.code"),
            duration: self.duration("response.duration"),
            size: self.int("response.size"),
            total_size: self.int("response.total_size"),
            time: self.time("response.time"),
            headers: None,
            grpc_status: self.text("response.grpc_status"),
            grpc_message: self.text("response.grpc_message"),
            flags: self.text("context.proxy_error_code"),
        }
    }

    fn connection(&self) -> Connection<'_> {
        Connection {
            id: self.text("connection.id"),
            event: self.text("connection.event"),
            received: self.int("connection.received.bytes"),
            received_total: self.int("connection.received.bytes_total"),
            sent: self.int("connection.sent.bytes"),
            sent_total: self.int("connection.sent.bytes_total"),
            duration: self.duration("connection.duration"),
        }
    }
}

/// An identity without its scheme: proxies write it with and without.
fn bare(principal: &str) -> &str {
    principal.strip_prefix("spiffe://").unwrap_or(principal)
}

/// What is computed from attributes.
#[derive(Debug, Default)]
pub(crate) struct Derived {
    query: BTreeMap<String, String>,
    claims: Option<BTreeMap<String, String>>,
}

/// The attributes that a caller may say freely: those that describe no end.
struct Unforged<'a, 'm>(&'a Sent<'m>);

impl Attributes for Unforged<'_, '_> {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        if decided(name) {
            return None;
        }
        match self.0.scalars.get(name) {
            Some(value) => Some(value.clone()),
            None => self.0.map(name).map(|map| Value::Map(map)),
        }
    }
}

/// Whether Mixer itself says what the attribute is, by certificate, address and feed.
pub(crate) fn decided(name: &str) -> bool {
    ["source.", "destination.", "context.reporter.", "api.service"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
