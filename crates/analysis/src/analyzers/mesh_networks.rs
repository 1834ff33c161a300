//! MeshNetworks that name registries (clusters) which are not there.

use config::Kind;

use crate::workload::label;
use crate::{Analyzer, Code, Report, Set};

/// Whether each registry is Istio's own or a cluster with a remote secret.
pub(crate) const REGISTRIES: Analyzer = Analyzer::new(
    "multicluster.MeshNetworksAnalyzer",
    "Registries in MeshNetworks that nobody knows",
    &[Code::UnknownMeshNetworksServiceRegistry],
    &[Kind::MeshNetworks, Kind::Secret],
    run,
)
.alias("meshnetworks.MeshNetworksAnalyzer");

/// Registries that need no secret.
const OWN: &[&str] = &["Mock", "Kubernetes", "External"];
/// Label of Secrets whose keys are the names of clusters.
const REMOTE: &str = "istio/multiCluster";

fn run(set: &Set<'_>, report: &mut Report) {
    let remote = set
        .secrets()
        .filter(|(object, _)| label(object, REMOTE) == Some("true"));
    let clusters: Vec<&str> = remote.flat_map(|(_, secret)| secret.keys()).collect();
    for (object, networks) in set.mesh_networks() {
        for (name, network) in &networks.networks {
            for (index, endpoints) in network.endpoints.iter().enumerate() {
                let Some(registry) = &endpoints.from_registry else {
                    continue;
                };
                if !OWN.contains(&registry.as_str()) && !clusters.contains(&registry.as_str()) {
                    let path = format!("networks.{name}.endpoints[{index}].fromRegistry");
                    let code = Code::UnknownMeshNetworksServiceRegistry;
                    report.say(code, object, path, &[registry, name]);
                }
            }
        }
    }
}
