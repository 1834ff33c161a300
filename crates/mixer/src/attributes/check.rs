//! An ext_authz CheckRequest as attributes. Checks are asked by the proxy of the called workload, or by the gateway that sends
//! the request; which gateways may, is known of their workloads.

use std::collections::BTreeMap;
use std::net::IpAddr;

use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use expr::{Attributes, Value};
use policy::{Extra, HeaderMap, Party, Protocol, ReporterKind, Request, Sent, WorkloadView};

use super::address::Endpoint;
use super::claims::{self, Claims};
use super::{parties, time};
use crate::mesh::Mesh;

/// Why what somebody asks about as a gateway is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsent {
    /// Anybody could use up the quotas of others.
    #[error("{0} asks about what it sends, as gateways do, but no Gateway selects its workload")]
    NoGateway(String),
    /// The feed does not have it (yet).
    #[error("the service {0} is not known (yet); try again")]
    UnknownService(String),
}

/// A CheckRequest and what had to be computed from it.
#[derive(Debug)]
pub(crate) struct Check<'a> {
    context: &'a AttributeContext,
    http: Option<Http<'a>>,
    caller: &'a str,
    claims: Option<Claims>,
    origin: Origin,
    sent: Option<&'a Sent<'a>>,
}

/// The client in front of a gateway: `origin.ip`.
#[derive(Debug)]
struct Origin(Option<IpAddr>);

impl Attributes for Origin {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        (name == "origin.ip").then_some(())?;
        self.0.map(Value::Ip)
    }
}

#[derive(Debug)]
struct Http<'a> {
    request: &'a HttpRequest,
    headers: HeaderMap<'a>,
    query: BTreeMap<String, String>,
}

impl<'a> Check<'a> {
    /// Takes a request from the proxy whose authenticated identity (without `spiffe://`) is `caller`; `sent` is what a gateway
    /// says of it. None if the message has no attributes at all.
    pub(crate) fn new(
        message: &'a CheckRequest,
        caller: &'a str,
        sent: Option<&'a Sent<'a>>,
    ) -> Option<Self> {
        let context = message.attributes.as_ref()?;
        let http = context.request.as_ref().and_then(|request| request.http.as_ref());
        let http = http.map(|request| Http {
            request,
            headers: HeaderMap(&request.headers),
            query: policy::query_of(&request.path),
        });
        Some(Self {
            context,
            http,
            caller,
            claims: claims::of(context.metadata_context.as_ref()),
            origin: Origin(address(context.source.as_ref()).ip),
            sent,
        })
    }

    /// The workload whose proxy asks, if it is known.
    pub(crate) fn own<'b>(&self, mesh: &'b Mesh) -> Option<&'b WorkloadView> {
        parties::caller(
            mesh,
            self.caller,
            None,
            &[address(self.context.destination.as_ref()).ip],
        )
    }

    /// The attributes, for the workload that is [`Self::own`].
    ///
    /// # Errors
    /// It asks about what it sends, and is no gateway, or the service is not known.
    pub(crate) fn request<'b>(
        &'b self,
        mesh: &'b Mesh,
        own: &'b WorkloadView,
    ) -> Result<Request<'b>, Unsent> {
        match self.sent {
            None => Ok(self.arriving(mesh, own)),
            Some(_) if !mesh.is_gateway(own) => Err(Unsent::NoGateway(self.caller.to_owned())),
            Some(sent) => self.leaving(mesh, own, sent),
        }
    }

    /// What a gateway sends: the workload that will answer is not chosen yet.
    fn leaving<'b>(
        &'b self,
        mesh: &'b Mesh,
        own: &'b WorkloadView,
        sent: &Sent<'_>,
    ) -> Result<Request<'b>, Unsent> {
        let unknown = || Unsent::UnknownService(format!("{}/{}", sent.namespace, sent.host));
        let service = mesh.service_in(sent.namespace, sent.host).ok_or_else(unknown)?;
        let near = address(self.context.destination.as_ref());
        Ok(Request {
            reporter: ReporterKind::Outbound,
            source: Party {
                workload: Some(own),
                ip: own.ip.or(near.ip),
                port: None,
                principal: Some(self.caller),
            },
            destination: Party::default(),
            service: Some(service),
            mtls: None,
            extra: Extra(Some(&self.origin)),
            ..self.arriving(mesh, own)
        })
    }

    /// What arrives at the workload.
    fn arriving<'b>(&'b self, mesh: &'b Mesh, own: &'b WorkloadView) -> Request<'b> {
        let context = self.context;
        let near = address(context.destination.as_ref());
        let far = context.source.as_ref();
        let peer = far.and_then(|peer| parties::principal(&peer.principal));
        let base = self.http.as_ref().map_or_else(tcp, Http::request);
        Request {
            reporter_uid: Some(own.uid()),
            source: parties::far(mesh, address(far), peer),
            destination: Party {
                workload: Some(own),
                ip: near.ip,
                port: near.port,
                principal: Some(self.caller),
            },
            service: own.service(near.port, base.host),
            mtls: Some(peer.is_some()),
            server_name: context.tls_session.as_ref().map(|tls| tls.sni.as_str()),
            time: time::timestamp(context.request.as_ref().and_then(|r| r.time.as_ref())),
            claims: self.claims.as_ref().map(|claims| &claims.flat),
            raw_claims: self.claims.as_ref().map(|claims| claims.raw.as_str()),
            ..base
        }
    }
}

impl Http<'_> {
    fn request(&self) -> Request<'_> {
        let http = self.request;
        Request {
            protocol: Protocol::of_content_type(http.headers.get("content-type").map(String::as_str)),
            headers: Some(&self.headers),
            path: Some(&http.path),
            query: Some(&self.query),
            method: Some(&http.method),
            host: Some(&http.host),
            scheme: Some(&http.scheme),
            // Envoy's own number of the stream if the client sent no x-request-id.
            id: http
                .headers
                .get("x-request-id")
                .or(Some(&http.id))
                .map(String::as_str),
            size: (http.size >= 0).then_some(http.size),
            ..Request::default()
        }
    }
}

fn tcp<'a>() -> Request<'a> {
    Request {
        protocol: Protocol::Tcp,
        ..Request::default()
    }
}

fn address(peer: Option<&Peer>) -> Endpoint {
    Endpoint::of(peer.and_then(|peer| peer.address.as_ref()))
}
