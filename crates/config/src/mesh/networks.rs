//! MeshNetworks: the networks of the mesh and their gateways.

use std::collections::BTreeMap;

use crate::api::api;

api! {
    /// Networks by name.
    pub struct MeshNetworks {
        networks: BTreeMap<String, Network>,
    }

    /// One network: which endpoints are in it and how others reach it.
    pub struct Network {
        endpoints: Vec<NetworkEndpoints>,
        gateways: Vec<IstioNetworkGateway>,
    }

    /// Endpoints by address range or by registry (cluster).
    #[schemars(extend("x-oneof" = [["fromCidr", "fromRegistry"]]))]
    pub struct NetworkEndpoints {
        from_cidr: Option<String>,
        from_registry: Option<String>,
    }

    /// A gateway into a network.
    #[schemars(extend("x-oneof" = [["registryServiceName", "address"]]))]
    pub struct IstioNetworkGateway {
        registry_service_name: Option<String>,
        address: Option<String>,
        port: u32,
        locality: String,
    }
}
