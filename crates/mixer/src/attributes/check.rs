//! An ext_authz CheckRequest as attributes. Checks are asked by the proxy of the called workload.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use policy::{HeaderMap, Party, Protocol, Request, WorkloadView};

use super::address::Endpoint;
use super::claims::{self, Claims};
use super::{parties, time};
use crate::mesh::Mesh;

/// A CheckRequest and what had to be computed from it.
#[derive(Debug)]
pub(crate) struct Check<'a> {
    context: &'a AttributeContext,
    http: Option<Http<'a>>,
    caller: &'a str,
    claims: Option<Claims>,
}

#[derive(Debug)]
struct Http<'a> {
    request: &'a HttpRequest,
    headers: HeaderMap<'a>,
    query: BTreeMap<String, String>,
}

impl<'a> Check<'a> {
    /// Takes a request from the proxy whose authenticated identity (without `spiffe://`) is `caller`. None if the
    /// message has no attributes at all.
    pub(crate) fn new(message: &'a CheckRequest, caller: &'a str) -> Option<Self> {
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
    pub(crate) fn request<'b>(&'b self, mesh: &'b Mesh, own: &'b WorkloadView) -> Request<'b> {
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
