//! One simulated proxy: what it subscribes to, acknowledges and waits for, as Envoy does over delta ADS. Pure: messages in,
//! requests out; see `drive` for its connection.
//!
//! Envoy asks for clusters, then for the endpoints of each EDS cluster, then for listeners, then for the routes that they
//! name. A cluster that changes later is acknowledged once its endpoints have come.

pub(crate) mod drive;
mod wire;

use std::collections::BTreeSet;

use anyhow::Context;
use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use prost::Message;
use wire::Response;

pub(crate) const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub(crate) const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
pub(crate) const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
pub(crate) const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

/// What a proxy received.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) responses: u64,
    pub(crate) bytes: u64,
    pub(crate) resources: u64,
}

/// A simulated proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    node: Option<Node>,
    pub(crate) tally: Tally,
    endpoints: BTreeSet<String>,
    routes: BTreeSet<String>,
    awaited_endpoints: BTreeSet<String>,
    awaited_routes: BTreeSet<String>,
    listeners: bool,
    /// Nonce of the clusters that wait for endpoints.
    warming: Option<String>,
    pub(crate) ready: bool,
}

impl Proxy {
    pub(crate) fn new(node_id: String) -> Self {
        Self {
            node: Some(Node {
                id: node_id,
                ..Node::default()
            }),
            tally: Tally::default(),
            endpoints: BTreeSet::new(),
            routes: BTreeSet::new(),
            awaited_endpoints: BTreeSet::new(),
            awaited_routes: BTreeSet::new(),
            listeners: false,
            warming: None,
            ready: false,
        }
    }

    /// The request that begins the stream.
    pub(crate) fn hello(&mut self) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            node: self.node.take(),
            type_url: CLUSTER.to_owned(),
            ..Default::default()
        }
    }

    /// Takes a response; gives what Envoy would answer.
    pub(crate) fn on_response(&mut self, raw: Bytes) -> anyhow::Result<Vec<DeltaDiscoveryRequest>> {
        self.tally.responses += 1;
        self.tally.bytes += raw.len() as u64;
        let response = Response::decode(raw).context("a response that is no DeltaDiscoveryResponse")?;
        self.tally.resources += response.resources.len() as u64;
        Ok(match response.type_url.as_str() {
            CLUSTER => self.clusters(&response),
            ENDPOINTS => self.assignments(&response),
            LISTENER => self.listeners(&response),
            ROUTE => self.route_configurations(&response),
            _ => vec![ack(&response.type_url, response.nonce.clone())],
        })
    }

    fn clusters(&mut self, response: &Response) -> Vec<DeltaDiscoveryRequest> {
        let names: Vec<String> = response
            .resources
            .iter()
            .filter_map(wire::endpoints_name)
            .collect();
        let new: Vec<String> = names
            .iter()
            .filter(|name| !self.endpoints.contains(*name))
            .cloned()
            .collect();
        let gone: Vec<String> = response
            .removed
            .iter()
            .filter(|name| self.endpoints.remove(*name))
            .cloned()
            .collect();
        self.endpoints.extend(new.iter().cloned());
        let mut requests = Vec::new();
        if !new.is_empty() || !gone.is_empty() {
            requests.push(subscribe(ENDPOINTS, new, gone));
        }
        self.awaited_endpoints.extend(names);
        if self.ready && !self.awaited_endpoints.is_empty() {
            self.warming = Some(response.nonce.clone());
        } else {
            requests.insert(0, ack(CLUSTER, response.nonce.clone()));
        }
        requests.extend(self.progress());
        requests
    }

    fn assignments(&mut self, response: &Response) -> Vec<DeltaDiscoveryRequest> {
        for resource in &response.resources {
            self.awaited_endpoints.remove(&resource.name);
        }
        for name in &response.removed {
            self.awaited_endpoints.remove(name);
        }
        let mut requests = vec![ack(ENDPOINTS, response.nonce.clone())];
        requests.extend(self.progress());
        requests
    }

    fn listeners(&mut self, response: &Response) -> Vec<DeltaDiscoveryRequest> {
        let names = response.resources.iter().flat_map(wire::route_names);
        let new: BTreeSet<String> = names.filter(|name| !self.routes.contains(name)).collect();
        self.routes.extend(new.iter().cloned());
        self.awaited_routes.extend(new.iter().cloned());
        let mut requests = vec![ack(LISTENER, response.nonce.clone())];
        if !new.is_empty() {
            requests.push(subscribe(ROUTE, new.into_iter().collect(), Vec::new()));
        }
        self.ready |= self.awaited_routes.is_empty();
        requests
    }

    fn route_configurations(&mut self, response: &Response) -> Vec<DeltaDiscoveryRequest> {
        for resource in &response.resources {
            self.awaited_routes.remove(&resource.name);
        }
        for name in &response.removed {
            self.awaited_routes.remove(name);
        }
        self.ready |= self.awaited_routes.is_empty() && self.listeners;
        vec![ack(ROUTE, response.nonce.clone())]
    }

    /// What the last endpoints allow.
    fn progress(&mut self) -> Option<DeltaDiscoveryRequest> {
        if !self.awaited_endpoints.is_empty() {
            return None;
        }
        if let Some(nonce) = self.warming.take() {
            return Some(ack(CLUSTER, nonce));
        }
        if self.listeners {
            return None;
        }
        self.listeners = true;
        Some(subscribe(LISTENER, Vec::new(), Vec::new()))
    }
}

fn ack(type_url: &str, nonce: String) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.to_owned(),
        response_nonce: nonce,
        ..Default::default()
    }
}

fn subscribe(type_url: &str, names: Vec<String>, gone: Vec<String>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.to_owned(),
        resource_names_subscribe: names,
        resource_names_unsubscribe: gone,
        ..Default::default()
    }
}
