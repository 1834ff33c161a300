//! The configuration of one proxy, decoded.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use crate::verdict::Resource;

pub(crate) const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub(crate) const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
pub(crate) const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
pub(crate) const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

/// Bytes are not what their type says.
#[derive(Debug, thiserror::Error)]
#[error("{type_url}: not such a message: {source}")]
pub struct DecodeError {
    type_url: String,
    source: prost::DecodeError,
}

/// The configuration of one proxy.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) routes: BTreeMap<String, RouteConfiguration>,
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) endpoints: BTreeMap<String, ClusterLoadAssignment>,
    /// Filter chains that were asked for and not given to Envoy, by listener.
    pub(crate) set_aside: BTreeMap<String, Vec<FilterChain>>,
}

impl Resources {
    /// Adds a resource in its encoded form; types that a walk does not read are passed over.
    ///
    /// # Errors
    /// The bytes are not a message of the type.
    pub fn add(&mut self, type_url: &str, bytes: &[u8]) -> Result<(), DecodeError> {
        let error = |source| DecodeError {
            type_url: type_url.to_owned(),
            source,
        };
        match type_url {
            LISTENER => self.listeners.push(Listener::decode(bytes).map_err(error)?),
            ROUTES => {
                let routes = RouteConfiguration::decode(bytes).map_err(error)?;
                self.routes.insert(routes.name.clone(), routes);
            }
            CLUSTER => {
                let cluster = Cluster::decode(bytes).map_err(error)?;
                self.clusters.insert(cluster.name.clone(), cluster);
            }
            ENDPOINTS => {
                let set = ClusterLoadAssignment::decode(bytes).map_err(error)?;
                self.endpoints.insert(set.cluster_name.clone(), set);
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds a filter chain that the configuration asks for and Envoy does not get, because another of its listener matches the
    /// same. A connection that would meet both is refused with [`crate::Refusal::MultipleFilterChain`].
    ///
    /// # Errors
    /// The bytes are no filter chain.
    pub fn set_aside(&mut self, listener: &str, chain: &[u8]) -> Result<(), DecodeError> {
        let chain = FilterChain::decode(chain).map_err(|source| DecodeError {
            type_url: "envoy.config.listener.v3.FilterChain".to_owned(),
            source,
        })?;
        self.set_aside.entry(listener.to_owned()).or_default().push(chain);
        Ok(())
    }
}

/// Names a resource of the configuration.
pub(crate) fn resource(type_url: &'static str, name: &str) -> Option<Resource> {
    Some(Resource {
        type_url,
        name: name.to_owned(),
    })
}

/// The message inside `Any`, if it is of this type.
pub(crate) fn unpack<M: Message + Default + prost::Name>(any: &Any) -> Option<M> {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    if name != M::full_name() {
        return None;
    }
    M::decode(any.value.as_slice()).ok()
}
