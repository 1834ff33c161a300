//! What access log entries of HTTP and TCP have in common.

use std::sync::Arc;

use envoy_types::pb::envoy::data::accesslog::v3::tls_properties::certificate_properties::subject_alt_name::San;
use envoy_types::pb::envoy::data::accesslog::v3::{AccessLogCommon, TlsProperties};
use policy::{Party, ReporterKind, Request, Response, UPSTREAM_PEER_TAG, WorkloadView};

use super::address::Endpoint;
use super::claims::{self, Claims};
use super::{flags, parties, time};
use crate::mesh::Mesh;

/// Who sends the entries of a stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sender {
    /// The proxy's authenticated identity, without `spiffe://`.
    pub(crate) principal: String,
    /// The node id in the stream's first message; believed as far as the identity agrees.
    pub(crate) node_id: Option<String>,
    /// The rules that are told (`NAME.NAMESPACE`), where the proxy does by itself what others say.
    pub(crate) told: Option<Arc<[String]>>,
    /// Which end the log speaks for, if its name says so.
    pub(crate) reporter: Option<ReporterKind>,
}

impl Sender {
    /// Which end a log of this name speaks for.
    pub(crate) fn reporter_of(log_name: &str) -> Option<ReporterKind> {
        match log_name {
            policy::LOG_INBOUND => Some(ReporterKind::Inbound),
            policy::LOG_OUTBOUND => Some(ReporterKind::Outbound),
            _ => None,
        }
    }
}

/// The common part of an entry and what had to be computed from it.
#[derive(Debug)]
pub(crate) struct Common<'a> {
    entry: &'a AccessLogCommon,
    sender: &'a Sender,
    pub(crate) flags: String,
    claims: Option<Claims>,
}

impl<'a> Common<'a> {
    pub(crate) fn new(entry: &'a AccessLogCommon, sender: &'a Sender) -> Self {
        let flags = entry
            .response_flags
            .as_ref()
            .map(flags::short)
            .unwrap_or_default();
        Self {
            entry,
            sender,
            flags,
            claims: claims::of(entry.metadata.as_ref()),
        }
    }

    /// The attributes that the entry's common part gives.
    pub(crate) fn request<'b>(&'b self, mesh: &'b Mesh) -> Request<'b> {
        let entry = self.entry;
        let own = self.own(mesh);
        let tls = entry.tls_properties.as_ref();
        let mut request = Request {
            reporter: self.reporter(),
            reporter_uid: own.map(WorkloadView::uid),
            server_name: tls.map(|tls| tls.tls_sni_hostname.as_str()),
            time: time::timestamp(entry.start_time.as_ref()),
            claims: self.claims.as_ref().map(|claims| &claims.flat),
            raw_claims: self.claims.as_ref().map(|claims| claims.raw.as_str()),
            response: self.response(),
            ..Request::default()
        };
        match request.reporter {
            ReporterKind::Inbound => self.inbound(&mut request, mesh, own, tls),
            ReporterKind::Outbound => self.outbound(&mut request, mesh, own),
        }
        request
    }

    /// Nanoseconds from the first byte to the end.
    pub(crate) fn duration(&self) -> Option<i64> {
        time::duration(self.entry.duration.as_ref())
            .or_else(|| time::duration(self.entry.time_to_last_downstream_tx_byte.as_ref()))
    }

    fn response(&self) -> Response<'_> {
        let start = time::timestamp(self.entry.start_time.as_ref());
        let end = start
            .zip(self.duration())
            .map(|(start, length)| expr::Timestamp(start.0.saturating_add(length)));
        Response {
            duration: self.duration(),
            time: end,
            flags: Some(&self.flags),
            ..Response::default()
        }
    }

    /// The log's name says it; where it does not, the cluster's name does.
    fn reporter(&self) -> ReporterKind {
        let by_cluster = || match self.entry.upstream_cluster.starts_with("outbound|") {
            true => ReporterKind::Outbound,
            false => ReporterKind::Inbound,
        };
        self.sender.reporter.unwrap_or_else(by_cluster)
    }

    fn own<'b>(&self, mesh: &'b Mesh) -> Option<&'b WorkloadView> {
        let entry = self.entry;
        let places = [&entry.downstream_local_address, &entry.upstream_local_address];
        let addresses = places.map(|place| Endpoint::of(place.as_ref()).ip);
        parties::caller(
            mesh,
            &self.sender.principal,
            self.sender.node_id.as_deref(),
            &addresses,
        )
    }

    fn inbound<'b>(
        &'b self,
        request: &mut Request<'b>,
        mesh: &'b Mesh,
        own: Option<&'b WorkloadView>,
        tls: Option<&'b TlsProperties>,
    ) {
        // The direct address is the connection's; the other may come from x-forwarded-for.
        let entry = self.entry;
        let remote = entry
            .downstream_direct_remote_address
            .as_ref()
            .or(entry.downstream_remote_address.as_ref());
        let peer = tls.and_then(peer_principal);
        let near = Endpoint::of(entry.downstream_local_address.as_ref());
        request.mtls = Some(peer.is_some());
        request.source = parties::far(mesh, Endpoint::of(remote), peer);
        request.destination = Party {
            workload: own,
            ip: near.ip,
            port: near.port,
            principal: Some(&self.sender.principal),
        };
    }

    fn outbound<'b>(&'b self, request: &mut Request<'b>, mesh: &'b Mesh, own: Option<&'b WorkloadView>) {
        let entry = self.entry;
        let tag = entry.custom_tags.get(UPSTREAM_PEER_TAG);
        let peer = tag.and_then(|uri| parties::principal(uri));
        let address = Endpoint::of(entry.upstream_remote_address.as_ref());
        // Without an upstream there is no connection of which to say so.
        request.mtls = address.ip.map(|_| peer.is_some());
        request.source = Party {
            workload: own,
            ip: own
                .and_then(|w| w.ip)
                .or(Endpoint::of(entry.upstream_local_address.as_ref()).ip),
            port: None,
            principal: Some(&self.sender.principal),
        };
        request.destination = parties::upstream(mesh, address, peer);
        let namespace = own.map(|w| w.namespace.as_str());
        request.service =
            cluster_host(&entry.upstream_cluster).and_then(|host| mesh.service(host, namespace));
    }
}

/// The host in `outbound|PORT|SUBSET|HOST`.
fn cluster_host(cluster: &str) -> Option<&str> {
    let mut parts = cluster.split('|');
    let outbound = parts.next()? == "outbound";
    parts.nth(2).filter(|host| outbound && !host.is_empty())
}

/// The SPIFFE id in the peer's certificate, which has one URI only.
fn peer_principal(tls: &TlsProperties) -> Option<&str> {
    let names = &tls.peer_certificate_properties.as_ref()?.subject_alt_name;
    let mut uris = names.iter().filter_map(|name| match &name.san {
        Some(San::Uri(uri)) => Some(uri.as_str()),
        _ => None,
    });
    let uri = uris.next()?;
    uris.next().is_none().then_some(uri).and_then(parties::principal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_clusters() {
        assert_eq!(
            cluster_host("outbound|80|v1|reviews.default.svc.cluster.local"),
            Some("reviews.default.svc.cluster.local")
        );
        assert_eq!(cluster_host("inbound|8080||"), None);
        assert_eq!(cluster_host("PassthroughCluster"), None);
        assert_eq!(cluster_host("outbound|80||"), None);
    }
}
