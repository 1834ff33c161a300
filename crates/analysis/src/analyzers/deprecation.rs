//! Fields and kinds that Istio has deprecated.

use config::networking::{Sidecar, VirtualService};
use config::{Kind, Object, Spec};

use crate::analyzer::Check;
use crate::{Analyzer, Code, Report, Set};

/// Deprecated fields, and definitions of kinds that are gone.
pub(crate) const FIELDS: Analyzer = Analyzer::new(
    "deprecation.FieldAnalyzer",
    "Fields and kinds that are deprecated",
    &[Code::Deprecated],
    INPUTS,
    Check::Each(INPUTS, run),
)
.alias("deprecation.DeprecationAnalyzer");

const INPUTS: &[Kind] = &[
    Kind::VirtualService,
    Kind::Sidecar,
    Kind::CustomResourceDefinition,
];

/// Kinds of rbac.istio.io, which AuthorizationPolicy has replaced.
const REMOVED: &[&str] = &[
    "ClusterRbacConfig",
    "RbacConfig",
    "ServiceRole",
    "ServiceRoleBinding",
];

fn run(_: &Set<'_>, object: &Object, report: &mut Report) {
    match &object.spec {
        Spec::VirtualService(service) => virtual_service(object, service, report),
        Spec::Sidecar(sidecar) => egress_proxy(object, sidecar, report),
        Spec::CustomResourceDefinition(definition) => {
            let kind = definition.spec.names.kind.as_str();
            if definition.spec.group == "rbac.istio.io" && REMOVED.contains(&kind) {
                let what = format!("{kind} of rbac.istio.io is replaced by AuthorizationPolicy");
                report.say(Code::Deprecated, object, "spec.names.kind", &[&what]);
            }
        }
        _ => {}
    }
}

fn virtual_service(object: &Object, service: &VirtualService, report: &mut Report) {
    let old = service.http.iter().position(|route| {
        let delay = route.fault.as_ref().and_then(|fault| fault.delay.as_ref());
        delay.is_some_and(|delay| delay.percent > 0)
    });
    if let Some(index) = old {
        let path = format!("spec.http[{index}].fault.delay.percent");
        let what = "percent of fault.delay is replaced by percentage";
        report.say(Code::Deprecated, object, path, &[&what]);
    }
}

fn egress_proxy(object: &Object, sidecar: &Sidecar, report: &mut Report) {
    let policy = sidecar.outbound_traffic_policy.as_ref();
    if policy.is_some_and(|policy| policy.egress_proxy.is_some()) {
        report.say(
            Code::Deprecated,
            object,
            "spec.outboundTrafficPolicy.egressProxy",
            &[&"egressProxy has no effect in Istio"],
        );
    }
}
