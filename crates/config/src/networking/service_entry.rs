//! ServiceEntry: services that the platform does not know.

use super::{LabelsSelector, WorkloadEntry};
use crate::api::{api, api_enum};

api! {
    /// A service added to the mesh's registry.
    #[schemars(extend("required" = ["hosts"], "x-kubernetes-validations" = crate::cel::rules(crate::cel::SERVICE)))]
    pub struct ServiceEntry {
        #[schemars(length(min = 1, max = 256), extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::NAMED_HOSTS])))]
        hosts: Vec<String>,
        /// IPs or CIDR prefixes by which TCP traffic is recognised.
        #[schemars(length(max = 256), inner(length(max = 64)))]
        addresses: Vec<String>,
        #[schemars(length(max = 256), extend(
            "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"],
            "x-kubernetes-validations" = crate::cel::rules(&[crate::cel::DIFFERENT_NUMBERS])
        ))]
        ports: Vec<ServicePort>,
        location: Location,
        resolution: Resolution,
        #[schemars(length(max = 4096), extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::ALL_REACHED])))]
        endpoints: Vec<WorkloadEntry>,
        workload_selector: Option<LabelsSelector>,
        export_to: Vec<String>,
        subject_alt_names: Vec<String>,
    }

    /// A port of a service.
    #[schemars(extend("required" = ["number", "name"]))]
    pub struct ServicePort {
        #[schemars(range(min = 1, max = 65535))]
        number: u32,
        #[schemars(length(max = 256))]
        protocol: String,
        #[schemars(length(max = 256))]
        name: String,
        /// Port of the endpoints; left out (0) it is `number`.
        #[schemars(range(min = 1, max = 65535))]
        target_port: u32,
    }
}

api_enum! {
    /// Whether the service's endpoints are in the mesh.
    pub enum Location {
        #[default]
        MeshExternal = "MESH_EXTERNAL",
        MeshInternal = "MESH_INTERNAL",
    }

    /// How endpoints are found.
    pub enum Resolution {
        /// The connection's original destination.
        #[default]
        None = "NONE",
        /// The addresses given.
        Static = "STATIC",
        Dns = "DNS",
        DnsRoundRobin = "DNS_ROUND_ROBIN",
        DynamicDns = "DYNAMIC_DNS",
    }
}
