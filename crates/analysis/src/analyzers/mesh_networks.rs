//! MeshNetworks that name registries (clusters) which are not there.

use config::{Kind, Object};

use crate::analyzer::Check;
use crate::workload::label;
use crate::{Analyzer, Code, Report, Set};

/// Whether each registry is Istio's own or a cluster with a remote secret.
pub(crate) const REGISTRIES: Analyzer = Analyzer::new(
    "multicluster.MeshNetworksAnalyzer",
    "Registries in MeshNetworks that nobody knows",
    &[Code::UnknownMeshNetworksServiceRegistry],
    &[Kind::MeshNetworks, Kind::Secret, Kind::SecretFacts],
    Check::Mesh(run),
)
.alias("meshnetworks.MeshNetworksAnalyzer");

/// Registries that need no secret.
const OWN: &[&str] = &["Mock", "Kubernetes", "External"];
/// Label of Secrets whose keys are the names of clusters.
const REMOTE: &str = "istio/multiCluster";

fn run(set: &Set<'_>, report: &mut Report) {
    let is_remote = |object: &Object| label(object, REMOTE) == Some("true");
    let secrets = set.secrets().filter(|(object, _)| is_remote(object));
    let facts = set.secret_facts().filter(|(object, _)| is_remote(object));
    let mut clusters: Vec<&str> = secrets.flat_map(|(_, secret)| secret.keys()).collect();
    clusters.extend(facts.flat_map(|(_, facts)| facts.spec.keys.iter().map(String::as_str)));
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
