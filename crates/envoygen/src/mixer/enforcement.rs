//! Whether Mixer's policies hold at a proxy: as MeshConfig says, or as an annotation of its Pod or WorkloadEntry does (Istio 1.4,
//! `policy.istio.io/check`; what is reported does not depend on it).

use model::{Snapshot, Workload};
use policy::Requirements;

/// The annotation: `enable`, `disable` or `allow-on-error`. Anything else is as if it were not there.
const ANNOTATION: &str = "policy.istio.io/check";

/// Whether Mixer's policies hold at a proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Enforcement {
    /// They do, and each rule fails as it says.
    #[default]
    AsRulesSay,
    /// They do, and requests pass where Mixer cannot be asked.
    AllowOnError,
    /// They do not.
    Off,
}

impl Enforcement {
    /// What holds at a workload's proxy; at one of no known workload what the mesh says.
    pub(crate) fn of(snapshot: &Snapshot, workload: Option<&Workload>) -> Enforcement {
        let object = workload.and_then(|workload| snapshot.objects().get(&workload.key));
        let said = object.and_then(|object| object.meta.annotations.get(ANNOTATION));
        match (said.map(String::as_str), snapshot.mesh().disable_policy_checks) {
            (Some("enable"), _) => Enforcement::AsRulesSay,
            (Some("allow-on-error"), _) => Enforcement::AllowOnError,
            (Some("disable"), _) | (_, true) => Enforcement::Off,
            (_, false) => Enforcement::AsRulesSay,
        }
    }

    /// Whether requests pass where Mixer cannot be asked, whatever the rules say.
    pub(crate) fn allows_errors(self) -> bool {
        self == Enforcement::AllowOnError
    }

    /// What is left of what rules need.
    pub(crate) fn apply(self, needs: Requirements) -> Requirements {
        match self {
            Enforcement::AsRulesSay | Enforcement::AllowOnError => needs,
            Enforcement::Off => Requirements {
                counts: needs.counts,
                lines: needs.lines,
                report: needs.report,
                ..Requirements::default()
            },
        }
    }
}
