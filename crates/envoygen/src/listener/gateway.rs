//! A router's listeners: one for each address and port that its Gateways name.

use std::collections::HashSet;

use config::networking::ServerTlsMode;
use config::{Finding, ObjectKey};
use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

use ipnet::IpNet;
use model::{Protocol, Resolution, Service, host};

use super::http::{Class, Http, Routes};
use super::{Bind, MESH_ALPN, listener, quic, tcp, tls};
use crate::alpn;
use crate::cluster::tls::mesh_sni;
use crate::extension::Extensions;
use crate::filter;
use crate::gateway::{Bound, GatewayServer, Merged};
use crate::generator::Generator;
use crate::l4::Weighted;
use crate::mixer::Sent;
use crate::output::Origins;
use crate::route::{RouteContext, gateway::common_hosts};
use crate::telemetry::{Side, Traced};
use crate::view::View;
use crate::wire::cidr;

/// What becomes of an address and port.
pub(crate) struct Built {
    /// Name of the listener.
    pub(crate) name: String,
    /// None where no chain is left.
    pub(crate) listener: Option<Listener>,
    pub(crate) origins: Origins,
    /// Chains that would match the same as others, with the objects that ask for them.
    pub(crate) aside: Vec<(FilterChain, ObjectKey)>,
}

/// A router's listeners.
pub(crate) struct Gateways<'a> {
    pub(crate) generator: &'a Generator,
    pub(crate) view: &'a View<'a>,
    /// Logs of requests.
    pub(crate) http_log: Vec<AccessLog>,
    /// Logs of connections.
    pub(crate) tcp_log: Vec<AccessLog>,
    /// How requests are traced.
    pub(crate) tracing: Option<Traced>,
    /// What users add to the filters.
    pub(crate) extensions: &'a Extensions,
    /// Filters that decide, before those that routes steer.
    pub(crate) http_filters: Vec<HttpFilter>,
    pub(crate) tcp_filters: Vec<Filter>,
    pub(crate) decides: bool,
    /// Mixer's cluster, and what it is asked.
    pub(crate) mixer: Option<(&'a str, &'a Sent)>,
}

impl Gateways<'_> {
    pub(crate) fn build(&self, merged: &Merged, findings: &mut Vec<Finding>) -> Vec<Built> {
        let mut out = Vec::new();
        for ((port, address), bound) in &merged.bound {
            let families = self.view.scope.families;
            let bound_to = match address.as_str() {
                "" => families.any(),
                given => given,
            };
            let bind = Bind {
                address: bound_to.to_owned(),
                port: *port,
                beside: families.beside(bound_to).filter(|_| address.is_empty()),
                to_port: true,
                exclusive: !address.is_empty(),
            };
            let mut origins = Origins::of(bound.servers.iter().map(|server| &server.gateway));
            let mut aside = Vec::new();
            let chains = self.chains(&bind, bound, &mut origins, &mut aside, findings);
            let mut listener =
                (!chains.is_empty()).then(|| listener(&bind, TrafficDirection::Outbound, chains, None));
            if self.view.scope.topology.proxy_protocol {
                let filters = listener.iter_mut().map(|listener| &mut listener.listener_filters);
                filters.for_each(|filters| filters.insert(0, filter::proxy_protocol()));
            }
            let over_udp = quic::listener(self, &bind, bound);
            out.extend(over_udp.map(|listener| Built {
                name: listener.name.clone(),
                listener: Some(listener),
                origins: origins.clone(),
                aside: Vec::new(),
            }));
            out.push(Built {
                name: bind.name(),
                listener,
                origins,
                aside,
            });
        }
        out
    }

    fn chains(
        &self,
        bind: &Bind,
        bound: &Bound,
        origins: &mut Origins,
        aside: &mut Vec<(FilterChain, ObjectKey)>,
        findings: &mut Vec<Finding>,
    ) -> Vec<FilterChain> {
        if bound.is_http() {
            let name = bound
                .servers
                .first()
                .and_then(|server| server.route_name.clone())
                .unwrap_or_default();
            return vec![FilterChain {
                filters: vec![self.http(bind, name, false)],
                ..Default::default()
            }];
        }
        let mut taken = HashSet::new();
        let mut chains = Vec::new();
        for server in &bound.servers {
            let made = match (&server.tls(), &server.route_name) {
                (Some(tls), _) if tls.mode == ServerTlsMode::AutoPassthrough => {
                    Ok(self.auto_passthrough(bind, server, origins))
                }
                (Some(_), _) if server.passes_through() => {
                    Ok(self.passthrough(bind, server, origins, &mut taken))
                }
                (Some(_), Some(name)) => self
                    .terminated(server, vec![self.http(bind, name.clone(), false)])
                    .map(|chain| vec![chain]),
                (Some(_), None) => {
                    let opaque = self.opaque(bind, server, origins).into_iter();
                    opaque
                        .map(|(subnets, filters)| Ok(towards(&subnets, self.terminated(server, filters)?)))
                        .collect()
                }
                (None, _) => {
                    let opaque = self.opaque(bind, server, origins).into_iter();
                    let chain = |filters| FilterChain {
                        filters,
                        ..Default::default()
                    };
                    Ok(opaque
                        .map(|(subnets, filters)| towards(&subnets, chain(filters)))
                        .collect())
                }
            };
            match made {
                Ok(made) if server.clashes => {
                    aside.extend(made.into_iter().map(|chain| (chain, server.gateway.clone())));
                }
                Ok(made) => chains.extend(made),
                Err(reason) => findings.push(
                    Finding::warning(reason)
                        .at("spec.servers.tls")
                        .of(server.gateway.clone()),
                ),
            }
        }
        chains
    }

    /// A chain that ends TLS for the server's hosts.
    fn terminated(&self, server: &GatewayServer, filters: Vec<Filter>) -> Result<FilterChain, String> {
        let Some(settings) = server.tls() else {
            return Err("the server has no TLS settings".to_owned());
        };
        let timeout = self.generator.settings.secret_timeout;
        let socket = tls::gateway(&self.generator.snapshot, settings, timeout)?;
        Ok(FilterChain {
            filter_chain_match: sni(server.sni_hosts()),
            filters,
            transport_socket: Some(socket),
            ..Default::default()
        })
    }

    /// Chains that forward the mesh's own TLS unread, to the services of the server's hosts by their SNI. Only what announces
    /// mutual TLS of the mesh gets through, and only to services inside it.
    fn auto_passthrough(
        &self,
        bind: &Bind,
        server: &GatewayServer,
        origins: &mut Origins,
    ) -> Vec<FilterChain> {
        let mut out = Vec::new();
        let hosts = |service: &Service| {
            server.hosts.iter().any(|(namespace, host)| {
                namespace.as_ref().is_none_or(|ns| *ns == service.namespace)
                    && host::subset_of(&service.host, host)
            })
        };
        let services = self
            .view
            .reachable
            .values()
            .filter(|s| !s.mesh_external && hosts(s));
        for service in services {
            origins.add(&service.origins);
            let rule = self.view.rule(service);
            let subsets = rule
                .iter()
                .flat_map(|rule| &rule.subsets)
                .map(|subset| subset.name.as_str());
            for subset in std::iter::once("").chain(subsets) {
                for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
                    let name = mesh_sni(port.number, subset, &service.host);
                    if !name.is_empty() && service.resolution == Resolution::Static {
                        out.push(FilterChain {
                            filter_chain_match: Some(FilterChainMatch {
                                server_names: vec![name.clone()],
                                transport_protocol: "tls".to_owned(),
                                application_protocols: MESH_ALPN.map(str::to_owned).to_vec(),
                                ..Default::default()
                            }),
                            filters: self.with_policies(bind, vec![(name, 1)]),
                            ..Default::default()
                        });
                    }
                }
            }
        }
        out
    }

    /// Chains that forward TLS unread, by the name that the client asks for.
    fn passthrough(
        &self,
        bind: &Bind,
        server: &GatewayServer,
        origins: &mut Origins,
        taken: &mut HashSet<(String, Vec<IpNet>)>,
    ) -> Vec<FilterChain> {
        let mut out = Vec::new();
        let context = self.context(server);
        for vs in self
            .view
            .egress
            .iter()
            .flat_map(|e| &e.virtual_services)
            .filter(|vs| vs.is_for(&server.gateway_name))
        {
            if common_hosts(server, vs).is_empty() {
                continue;
            }
            origins.add(&vs.origins);
            for route in context.tls(vs) {
                let hosts: Vec<String> = route
                    .hosts
                    .into_iter()
                    .filter(|host| taken.insert((host.clone(), route.subnets.clone())))
                    .collect();
                if !hosts.is_empty() {
                    let filters = self.with_policies(bind, route.clusters);
                    let chain = FilterChain {
                        filter_chain_match: sni(hosts),
                        filters,
                        ..Default::default()
                    };
                    out.push(towards(&route.subnets, chain));
                }
            }
        }
        out
    }

    /// Filters that forward a server's connections as bytes, where a VirtualService says whereto, by the networks that they
    /// want to reach; no networks for all others.
    fn opaque(
        &self,
        bind: &Bind,
        server: &GatewayServer,
        origins: &mut Origins,
    ) -> Vec<(Vec<IpNet>, Vec<Filter>)> {
        let context = self.context(server);
        let all = self.view.egress.iter().flat_map(|e| &e.virtual_services);
        let mut own =
            all.filter(|vs| vs.is_for(&server.gateway_name) && !common_hosts(server, vs).is_empty());
        let found = own.find_map(|vs| {
            let routes = context.tcp_routes(vs);
            (!routes.is_empty()).then_some((vs, routes))
        });
        let Some((vs, routes)) = found else {
            return Vec::new();
        };
        origins.add(&vs.origins);
        let routes = routes.into_iter();
        routes
            .map(|route| (route.subnets, self.with_policies(bind, route.clusters)))
            .collect()
    }

    fn with_policies(&self, bind: &Bind, clusters: Weighted) -> Vec<Filter> {
        let prefix = match clusters.as_slice() {
            [(only, _)] => only.clone(),
            _ => format!("outbound_{}", bind.name()),
        };
        let mut filters = self.extensions.network(Side::Client, bind.port);
        filters.extend(self.tcp_filters.iter().cloned());
        let mixer = self.mixer.iter();
        filters.extend(mixer.flat_map(|(mixer, sent)| sent.tcp_filters(mixer, &clusters)));
        let policy = self.view.policy(&clusters);
        filters.push(tcp::governed(&prefix, clusters, self.tcp_log.clone(), &policy));
        filters
    }

    fn context<'s>(&'s self, server: &'s GatewayServer) -> RouteContext<'s> {
        RouteContext {
            view: self.view,
            mesh: self.generator.snapshot.mesh(),
            port: server.port,
            gateway: &server.gateway_name,
            tls: server.tls().is_some(),
        }
    }

    /// The filter that reads HTTP; `http3` on QUIC.
    pub(super) fn http(&self, bind: &Bind, routes: String, http3: bool) -> Filter {
        let mut filters = self.http_filters.clone();
        let mixer = self.mixer.iter();
        filters.extend(mixer.flat_map(|(mixer, sent)| sent.http_filters(mixer)));
        filters.extend([
            filter::grpc_web(),
            alpn::filter(),
            filter::fault(),
            filter::cors(),
        ]);
        Http {
            mesh: self.generator.snapshot.mesh(),
            class: Class::Gateway,
            stat_prefix: format!("outbound_{}", bind.name()),
            routes: Routes::Named(routes),
            filters: self.extensions.weave(filters, Side::Client, bind.port),
            access_log: self.http_log.clone(),
            tracing: self.tracing.clone(),
            replies: Vec::new(),
            http3,
            http10: self.view.scope.http10,
            topology: self.view.scope.topology,
            decides: self.decides,
        }
        .build()
    }
}

/// A chain for connections that want to reach these networks; for all where there are none.
fn towards(subnets: &[IpNet], mut chain: FilterChain) -> FilterChain {
    if !subnets.is_empty() {
        let condition = chain.filter_chain_match.get_or_insert_default();
        condition.prefix_ranges = subnets.iter().filter_map(|net| cidr(&net.to_string())).collect();
    }
    chain
}

/// A match by name; `*` takes every name, and connections without one.
pub(super) fn sni(hosts: Vec<String>) -> Option<FilterChainMatch> {
    let any = hosts.iter().any(|host| host == "*");
    let server_names = if any { Vec::new() } else { hosts };
    Some(FilterChainMatch {
        server_names,
        transport_protocol: "tls".to_owned(),
        ..Default::default()
    })
}
