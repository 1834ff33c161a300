//! From a snapshot to what proxies get. A [`Generator`] belongs to one snapshot; each of its functions depends on its
//! argument alone, so results may be cached under it.

use std::sync::Arc;

use config::Finding;
use config::mesh::{MeshConfig, MeshOutboundTrafficPolicyMode};
use model::Snapshot;
use policy::Rules;

use crate::output::Output;
use crate::patch::Patches;
use crate::scope::{Inbound, Outbound, Scope};
use crate::selected::Selected;
use crate::settings::Settings;

/// Generates Envoy configuration from one snapshot.
#[derive(Debug, Clone)]
pub struct Generator {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) settings: Settings,
    pub(crate) rules: Arc<Rules>,
    pub(crate) patches: Arc<Patches>,
    pub(crate) selected: Arc<Selected>,
    pub(crate) findings: Arc<[Finding]>,
}

impl Generator {
    /// A generator for a snapshot.
    pub fn new(snapshot: Arc<Snapshot>, settings: Settings) -> Generator {
        let (rules, mut findings) = Rules::build(snapshot.objects().values(), snapshot.mesh());
        let patches = Patches::new(&snapshot);
        let selected = Selected::new(&snapshot);
        findings.extend(patches.findings.iter().cloned());
        findings.extend(unserved_mode(snapshot.mesh()));
        Generator {
            snapshot,
            settings,
            rules: Arc::new(rules),
            patches: Arc::new(patches),
            selected: Arc::new(selected),
            findings: findings.into(),
        }
    }

    /// What of Mixer's configuration and of EnvoyFilters cannot be used, whatever the proxy, and why.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The snapshot that it reads.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Everything for a proxy of this scope: clusters, endpoints, listeners and routes, by type and name.
    pub fn generate(&self, scope: &Scope) -> Output {
        let inbound = scope
            .inbound
            .as_ref()
            .map(|scope| self.inbound(scope))
            .unwrap_or_default();
        self.outbound(&scope.outbound).join(inbound)
    }

    /// What a proxy needs to reach others.
    pub fn outbound(&self, scope: &Outbound) -> Output {
        crate::outbound::generate(self, scope)
    }

    /// What a sidecar needs to be reached.
    pub fn inbound(&self, scope: &Inbound) -> Output {
        crate::inbound::generate(self, scope)
    }
}

/// A mode for unknown hosts that is another here.
fn unserved_mode(mesh: &MeshConfig) -> Option<Finding> {
    let asked = mesh.outbound_traffic_policy.as_ref()?.mode;
    (asked == MeshOutboundTrafficPolicyMode::AllowAnyDynamicDns).then(|| {
        Finding::warning(
            "ALLOW_ANY_DYNAMIC_DNS is served as ALLOW_ANY: connections keep their original destination",
        )
        .at("outboundTrafficPolicy.mode")
        .help("write ALLOW_ANY, or ServiceEntries for the hosts that proxies shall resolve")
    })
}
