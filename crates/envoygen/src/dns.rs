//! Names for a proxy's agent that answers DNS: hosts of the services that the proxy sees, with their addresses (Istio's NDS, as
//! `envoy.data.dns.v3.DnsTable`). Hosts without addresses of their own are left to other servers.

use std::collections::{BTreeMap, BTreeSet};

use config::ObjectKey;
use envoy_types::pb::envoy::data::dns::v3::DnsTable;
use envoy_types::pb::envoy::data::dns::v3::dns_table::dns_endpoint::EndpointConfig;
use envoy_types::pb::envoy::data::dns::v3::dns_table::{AddressList, DnsEndpoint, DnsVirtualDomain};
use model::{Health, Registry, Resolution, Service, ServiceId};
use prost::Message;

use crate::generator::Generator;
use crate::output::{Resource, type_url};
use crate::proxy::ProxyKind;
use crate::scope::Outbound;
use crate::view::View;

/// The one resource's name.
const NAME: &str = "names";

impl Generator {
    /// Whether names for a scope follow from where these services are served, so that they change as that moves.
    #[must_use]
    pub fn names_follow(&self, scope: &Outbound, services: &BTreeSet<ServiceId>) -> bool {
        let all = self.snapshot.services();
        let mut found = services.iter().filter_map(|id| all.get(&id.host, &id.namespace));
        scope.dns_capture && scope.kind == ProxyKind::Sidecar && found.any(|service| is_headless(service))
    }
}

/// The names that a client sees, as one resource. Of two services of one host the first that it sees counts.
pub(crate) fn table(view: &View<'_>) -> Resource {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut origins: BTreeSet<ObjectKey> = BTreeSet::new();
    for service in view.egress.iter().flat_map(|egress| &egress.services) {
        let own = names_of(service, &view.scope.namespace);
        if !own.is_empty() {
            origins.extend(service.origins.first().cloned());
        }
        for (name, addresses) in own {
            names.entry(name).or_insert(addresses);
        }
    }
    let table = DnsTable {
        virtual_domains: names.into_iter().map(domain).collect(),
        ..DnsTable::default()
    };
    Resource {
        type_url: type_url::DNS_TABLE,
        name: NAME.to_owned(),
        bytes: table.encode_to_vec().into(),
        origins: origins.into_iter().collect(),
    }
}

fn domain((name, address): (String, Vec<String>)) -> DnsVirtualDomain {
    let list = EndpointConfig::AddressList(AddressList { address });
    DnsVirtualDomain {
        name,
        endpoint: Some(DnsEndpoint {
            endpoint_config: Some(list),
        }),
        answer_ttl: None,
    }
}

/// A Kubernetes Service without an address: its name has those of its endpoints.
fn is_headless(service: &Service) -> bool {
    service.registry == Registry::Kubernetes
        && service.addresses.is_empty()
        && service.resolution == Resolution::Passthrough
}

fn names_of(service: &Service, namespace: &str) -> Vec<(String, Vec<String>)> {
    if matches!(service.resolution, Resolution::Alias(_)) {
        return Vec::new();
    }
    let mut names = Vec::new();
    let addresses = if is_headless(service) {
        let healthy = service
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.health == Health::Healthy);
        for endpoint in healthy.clone().filter(|endpoint| !endpoint.workload.is_empty()) {
            let own = endpoint.ips().map(|ip| ip.to_string()).collect();
            names.push((format!("{}.{}", endpoint.workload, service.host), own));
        }
        let all: BTreeSet<String> = healthy
            .flat_map(|endpoint| endpoint.ips())
            .map(|ip| ip.to_string())
            .collect();
        all.into_iter().collect()
    } else {
        own_addresses(service)
    };
    if addresses.is_empty() {
        return names;
    }
    let hosts = std::iter::once(&service.host).chain(&service.aliases).cloned();
    let hosts = hosts.chain(short(service, namespace));
    names.extend(hosts.map(|host| (host, addresses.clone())));
    names
}

/// Ranges are no addresses that a name can have.
fn own_addresses(service: &Service) -> Vec<String> {
    let written = service
        .addresses
        .iter()
        .filter(|address| address.parse::<std::net::IpAddr>().is_ok());
    let written: Vec<String> = written.cloned().collect();
    match service.addresses.is_empty() {
        true => service.auto_addresses.iter().map(ToString::to_string).collect(),
        false => written,
    }
}

/// The shorter forms that clients use of a Kubernetes Service's name; without namespace in its own alone.
fn short(service: &Service, namespace: &str) -> Vec<String> {
    let Service {
        name, namespace: own, ..
    } = service;
    if service.registry != Registry::Kubernetes {
        return Vec::new();
    }
    let mut names = vec![format!("{name}.{own}"), format!("{name}.{own}.svc")];
    if own == namespace {
        names.push(name.clone());
    }
    names
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
    use model::Snapshot;

    use super::*;
    use crate::{Proxy, Scope, Settings};

    const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.7, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: data}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: data, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: tcp, port: 5432}]
endpoints: [{addresses: [10.244.0.9], conditions: {ready: true}}, {addresses: [10.244.0.8], conditions: {ready: false}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: shop}
spec: {hosts: [api.example], addresses: [192.0.2.1, 198.51.100.0/24], resolution: STATIC, endpoints: [{address: 10.1.1.2}], ports: [{number: 443, name: tls, protocol: TLS}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: auto, namespace: shop}
spec: {hosts: ['*.auto.example'], resolution: STATIC, endpoints: [{address: 10.1.1.1}], ports: [{number: 443, name: tls, protocol: TLS}]}
";

    fn output(capture: &str) -> Vec<Resource> {
        let objects = config::parse("x.yaml", OBJECTS.as_bytes(), "default").objects;
        let snapshot = Arc::new(Snapshot::build(objects.into_iter().map(Arc::new)));
        let generator = Generator::new(snapshot, Settings::default());
        let told = Value {
            kind: Some(Kind::StringValue(capture.to_owned())),
        };
        let metadata = Struct {
            fields: [("DNS_CAPTURE".to_owned(), told)].into(),
        };
        let proxy = Proxy::parse(
            "sidecar~10.244.0.2~web-1.shop~shop.svc.cluster.local",
            Some(&metadata),
        )
        .unwrap();
        let all = generator
            .outbound(&Scope::of(&proxy, &generator).outbound)
            .resources;
        all.into_iter()
            .filter(|resource| resource.type_url == type_url::DNS_TABLE)
            .collect()
    }

    #[test]
    fn a_proxy_that_answers_dns_gets_the_names_that_it_sees() {
        let resources = output("true");
        assert_eq!(resources.len(), 1);
        let table = DnsTable::decode(resources[0].bytes.clone()).unwrap();
        let known: BTreeMap<String, Vec<String>> = table
            .virtual_domains
            .into_iter()
            .map(|domain| match domain.endpoint.unwrap().endpoint_config.unwrap() {
                EndpointConfig::AddressList(list) => (domain.name, list.address),
                other => panic!("{other:?}"),
            })
            .collect();
        let of = |name: &str| {
            known
                .get(name)
                .map(|list| list.iter().map(String::as_str).collect::<Vec<_>>())
        };
        for name in ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local"] {
            assert_eq!(of(name), Some(vec!["10.96.0.7"]), "{name}");
        }
        assert_eq!(
            of("db.data.svc.cluster.local"),
            Some(vec!["10.244.0.9"]),
            "its ready endpoints'"
        );
        assert_eq!(of("db"), None, "another namespace's has no short name");
        assert_eq!(
            of("api.example"),
            Some(vec!["192.0.2.1"]),
            "a range is no address"
        );
        assert!(of("*.auto.example").is_none_or(|list| list[0].starts_with("240.240.")));
    }

    #[test]
    fn others_get_none() {
        assert!(output("false").is_empty());
    }
}
