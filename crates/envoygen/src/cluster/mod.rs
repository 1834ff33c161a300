//! Clusters: one for each port of a service and each subset of it, and the few that stand for everything else.

mod connection;
mod load_balancing;
mod locality;
mod policy;
mod special;
pub(crate) mod tls;

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::mesh::MeshConfig;
use config::networking::ClientTlsMode;
use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster,
    cluster::{self as pb, ClusterDiscoveryType, DiscoveryType, LbPolicy},
};
use envoy_types::pb::envoy::config::core::v3::{
    AggregatedConfigSource, ApiVersion, BindConfig, ConfigSource, Metadata,
    config_source::ConfigSourceSpecifier,
};
use envoy_types::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily;
use envoy_types::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};
use model::{DestinationRule, Port, Protocol, Registry, Resolution, Service};

pub(crate) use connection::{Speaker, UpstreamProtocol, upstream_protocol};
pub(crate) use locality::Preference;
pub(crate) use policy::{Effective, SIMPLE_PASSTHROUGH};
pub(crate) use special::{Source, black_hole, inbound, inbound_passthrough, own_service, passthrough};

use crate::endpoint::Wanted;
use crate::family::Families;
use crate::generator::Generator;
use crate::names;
use crate::output::Origins;
use crate::proxy::{Interception, ProxyKind};
use crate::view::View;
use crate::wire::{duration, plain_any, seconds, socket_address};

/// A cluster with its endpoints, if the control plane gives them, and the objects behind both.
pub(crate) struct Built {
    pub(crate) cluster: Cluster,
    pub(crate) origins: Origins,
    pub(crate) endpoints: Option<(
        envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment,
        Origins,
    )>,
}

/// Builds the clusters by which a client reaches services.
pub(crate) struct Clusters<'a> {
    pub(crate) generator: &'a Generator,
    pub(crate) view: &'a View<'a>,
}

impl Clusters<'_> {
    /// The clusters of one service.
    pub(crate) fn of_service(&self, service: &Service) -> Vec<Built> {
        if matches!(service.resolution, Resolution::Alias(_)) {
            return Vec::new();
        }
        let rule = self.view.rule(service);
        let mut out = Vec::new();
        for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
            out.extend(self.build(service, port, rule.map(|r| &**r), ""));
            let subsets = rule.iter().flat_map(|rule| &rule.subsets);
            out.extend(
                subsets.filter_map(|subset| self.build(service, port, rule.map(|r| &**r), &subset.name)),
            );
        }
        out
    }

    fn build(
        &self,
        service: &Service,
        port: &Port,
        rule: Option<&DestinationRule>,
        subset: &str,
    ) -> Option<Built> {
        let name = names::outbound_cluster(port.number, subset, &service.host);
        let snapshot = &self.generator.snapshot;
        let mesh = snapshot.mesh();
        let policy = Effective::new(rule, subset, port.number, mesh);
        let mut origins = Origins::of(&service.origins);
        origins.add(rule.iter().flat_map(|rule| &rule.origins));
        let none = BTreeMap::new();
        let labels = rule
            .and_then(|r| r.subset(subset))
            .map_or(&none, |subset| &subset.labels);
        let discovery = self.discovery(service, &policy);
        let preference = Preference::of(policy.load_balancer.as_ref(), service, mesh);
        let mut endpoint_origins = Origins::of(&service.origins);
        let wanted = Wanted {
            snapshot,
            client: self.view.scope,
            service,
            port: port.number,
            labels,
            preference: preference.as_ref(),
            outlier_detection: policy.outlier_detection.is_some(),
        };
        // The rule decides about priorities and weights.
        endpoint_origins.add(rule.iter().flat_map(|rule| &rule.origins));
        let mut cluster = Cluster {
            name,
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery as i32)),
            connect_timeout: snapshot.mesh().connect_timeout.and_then(|t| duration(t.0)),
            metadata: Some(metadata(service, subset)),
            common_lb_config: Some(pb::CommonLbConfig::default()),
            upstream_bind_config: self
                .view
                .scope
                .address
                .filter(|_| !service.mesh_external)
                .and_then(own_address),
            ..Default::default()
        };
        let mut endpoints = None;
        match discovery {
            DiscoveryType::OriginalDst => cluster.lb_policy = LbPolicy::ClusterProvided as i32,
            DiscoveryType::Eds => {
                cluster.eds_cluster_config = Some(eds());
                let assignment = wanted.load_assignment(&cluster.name, &mut endpoint_origins);
                endpoints = Some((assignment, endpoint_origins));
            }
            _ => {
                let assignment = wanted.load_assignment(&cluster.name, &mut origins);
                let assignment = dns_assignment(assignment, discovery)?;
                cluster.load_assignment = Some(assignment);
                let one = discovery == DiscoveryType::LogicalDns;
                resolve_by_dns(&mut cluster, mesh, self.view.scope.families, one);
            }
        }
        connection::apply(
            &mut cluster,
            &policy,
            port.protocol,
            mesh,
            self.view.scope.kind.into(),
        );
        if discovery != DiscoveryType::OriginalDst {
            load_balancing::apply(&mut cluster, policy.load_balancer.as_ref());
            load_balancing::apply_preference(&mut cluster, preference.as_ref());
            if service.shows_unhealthy() {
                load_balancing::never_panic(&mut cluster);
            }
        }
        self.secure(&mut cluster, service, port, subset, &policy);
        connection::leave_out_defaults(&mut cluster);
        if let Some(proxy) = &policy.proxy_protocol {
            tls::introduce(&mut cluster, proxy.version);
        }
        Some(Built {
            cluster,
            origins,
            endpoints,
        })
    }

    /// How endpoints are found. Connections that were not redirected have no original destination: what asks for it is served
    /// by its known endpoints then (Istio does so on gateways).
    fn discovery(&self, service: &Service, policy: &Effective) -> DiscoveryType {
        let scope = self.view.scope;
        let redirected = scope.kind == ProxyKind::Sidecar && scope.interception != Interception::None;
        let known = service.registry == Registry::Kubernetes || !service.endpoints.is_empty();
        match service.resolution {
            _ if policy.simple_lb() == SIMPLE_PASSTHROUGH => DiscoveryType::OriginalDst,
            Resolution::Static => DiscoveryType::Eds,
            Resolution::Dns => DiscoveryType::StrictDns,
            Resolution::DnsRoundRobin => DiscoveryType::LogicalDns,
            Resolution::Passthrough if known && !redirected => DiscoveryType::Eds,
            Resolution::Passthrough | Resolution::DynamicDns | Resolution::Alias(_) => {
                DiscoveryType::OriginalDst
            }
        }
    }

    /// TLS as the DestinationRule says, else mutual TLS with those endpoints that accept it.
    fn secure(
        &self,
        cluster: &mut Cluster,
        service: &Service,
        port: &Port,
        subset: &str,
        policy: &Effective,
    ) {
        let mesh = self.generator.snapshot.mesh();
        let speaker = self.view.scope.kind.into();
        let upstream = tls::Upstream {
            snapshot: &self.generator.snapshot,
            settings: &self.generator.settings,
            service,
            protocol: connection::upstream_protocol(policy, port.protocol, mesh, speaker),
            declared: port.protocol != Protocol::Auto,
            sni: tls::mesh_sni(port.number, subset, &service.host),
        };
        match &policy.tls {
            Some(settings) if settings.mode == ClientTlsMode::Disable => {}
            Some(settings) => upstream.explicit(cluster, settings),
            None => {
                if auto_mutual(service, mesh) && service.meets_proxies() {
                    upstream.auto(cluster);
                }
            }
        }
    }
}

/// Whether clients of a service use mutual TLS by themselves with those of its endpoints that accept it.
fn auto_mutual(service: &Service, mesh: &MeshConfig) -> bool {
    let original_dst = service.resolution == Resolution::Passthrough;
    mesh.enable_auto_mtls.unwrap_or(true) && !service.mesh_external && !original_dst
}

/// Whether clients may use the mesh's own TLS for what a policy is about.
pub(crate) fn mutual(service: &Service, policy: &Effective, mesh: &MeshConfig) -> bool {
    match &policy.tls {
        Some(settings) => settings.mode == ClientTlsMode::IstioMutual,
        None => auto_mutual(service, mesh),
    }
}

/// The control plane's own stream.
pub(crate) fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        initial_fetch_timeout: seconds(15),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

/// Without a service name the endpoints have the cluster's own.
fn eds() -> pb::EdsClusterConfig {
    pb::EdsClusterConfig {
        eds_config: Some(ads()),
        ..Default::default()
    }
}

/// A DNS cluster needs endpoints; LOGICAL_DNS takes exactly one.
fn dns_assignment(
    mut assignment: envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment,
    discovery: DiscoveryType,
) -> Option<envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment> {
    if assignment.endpoints.is_empty() {
        return None;
    }
    if discovery == DiscoveryType::LogicalDns {
        assignment.endpoints.truncate(1);
        assignment
            .endpoints
            .iter_mut()
            .for_each(|locality| locality.lb_endpoints.truncate(1));
    }
    Some(assignment)
}

/// Makes a cluster find its endpoints by DNS: all addresses, or `one` of each answer. A proxy of one family prefers it; one of
/// both takes all (Istio).
fn resolve_by_dns(cluster: &mut Cluster, mesh: &MeshConfig, families: Families, one: bool) {
    let family = match families {
        Families::V4 => DnsLookupFamily::V4Preferred,
        // Asks for IPv6 first (Envoy, `DnsLookupFamily`).
        Families::V6 => DnsLookupFamily::Auto,
        Families::Dual => DnsLookupFamily::All,
    };
    let config = DnsCluster {
        dns_refresh_rate: mesh
            .dns_refresh_rate
            .filter(|rate| !rate.is_zero())
            .and_then(|rate| duration(rate.0)),
        dns_lookup_family: family as i32,
        respect_dns_ttl: true,
        all_addresses_in_single_endpoint: one,
        ..Default::default()
    };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(pb::CustomClusterType {
        name: "envoy.cluster.dns".to_owned(),
        typed_config: Some(plain_any(&config)),
    }));
}

/// Connections leave from the workload's own address where workloads share a machine by loopback addresses: policies and
/// reports then know them apart.
pub(crate) fn own_address(address: IpAddr) -> Option<BindConfig> {
    address.is_loopback().then(|| BindConfig {
        source_address: Some(socket_address(&address.to_string(), 0)),
        ..Default::default()
    })
}

/// The cluster by which a gateway forwards a service's TLS unread (AUTO_PASSTHROUGH), under the name that clients ask for by SNI;
/// `None` for what has no endpoints of the mesh's.
pub(crate) fn unread(built: &Built) -> Option<Built> {
    let (endpoints, origins) = built.endpoints.as_ref()?;
    let parts: Vec<&str> = built.cluster.name.split('|').collect();
    let [_, port, subset, host] = parts.as_slice() else {
        return None;
    };
    let name = tls::mesh_sni(port.parse().ok()?, subset, host);
    if name.is_empty() {
        return None;
    }
    let mut cluster = Cluster {
        eds_cluster_config: Some(eds()),
        name: name.clone(),
        transport_socket: None,
        transport_socket_matches: Vec::new(),
        ..built.cluster.clone()
    };
    cluster.typed_extension_protocol_options.clear();
    let mut endpoints = endpoints.clone();
    endpoints.cluster_name = name;
    Some(Built {
        cluster,
        origins: built.origins.clone(),
        endpoints: Some((endpoints, origins.clone())),
    })
}

/// What telemetry reads of a cluster: its service and subset.
fn metadata(service: &Service, subset: &str) -> Metadata {
    let mut out = described([service]);
    let fields = &mut out.filter_metadata.entry("istio".to_owned()).or_default().fields;
    if !subset.is_empty() {
        let text = Kind::StringValue(subset.to_owned());
        fields.insert("subset".to_owned(), Value { kind: Some(text) });
    }
    if service.mesh_external {
        let external = Value {
            kind: Some(Kind::BoolValue(true)),
        };
        fields.insert("external".to_owned(), external);
    }
    out
}

/// What telemetry reads of a cluster's services.
pub(crate) fn described<'s>(services: impl IntoIterator<Item = &'s Service>) -> Metadata {
    let text = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let service = |service: &Service| {
        let fields = [
            ("host".to_owned(), text(&service.host)),
            ("name".to_owned(), text(&service.name)),
            ("namespace".to_owned(), text(&service.namespace)),
        ];
        Value {
            kind: Some(Kind::StructValue(Struct {
                fields: fields.into(),
            })),
        }
    };
    let list = ListValue {
        values: services.into_iter().map(service).collect(),
    };
    let services = Value {
        kind: Some(Kind::ListValue(list)),
    };
    let fields = [("services".to_owned(), services)].into();
    Metadata {
        filter_metadata: [("istio".to_owned(), Struct { fields })].into(),
        ..Default::default()
    }
}
