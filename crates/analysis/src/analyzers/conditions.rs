//! Conditions that a controller has written and that say no.

use config::{Condition, Kind, Object};

use crate::analyzer::Check;
use crate::{Analyzer, Code, Report, Set};

/// Whether an object's status has a condition that is known to be bad news.
pub(crate) const CONDITIONS: Analyzer = Analyzer::new(
    "conditions.ConditionAnalyzer",
    "Conditions in an object's status that are bad news",
    &[Code::NegativeConditionStatus],
    KINDS,
    Check::Each(KINDS, run),
);

const KINDS: &[Kind] = &[
    Kind::Service,
    Kind::ServiceEntry,
    Kind::WorkloadEntry,
    Kind::AuthorizationPolicy,
    Kind::KubernetesGateway,
    Kind::KubernetesHttpRoute,
    Kind::KubernetesGrpcRoute,
];

fn run(set: &Set<'_>, object: &Object, report: &mut Report) {
    let conditions = set.status(object).map(|status| status.conditions.as_slice());
    for condition in conditions.unwrap_or_default() {
        if is_negative(object.kind, condition) {
            report.say(
                Code::NegativeConditionStatus,
                object,
                "status.conditions",
                &[&condition.r#type, &condition.reason, &condition.message],
            );
        }
    }
}

fn is_negative(kind: Kind, condition: &Condition) -> bool {
    let expected_true: &[&str] = match kind {
        Kind::Service | Kind::ServiceEntry | Kind::WorkloadEntry => &["istio.io/WaypointBound"],
        Kind::AuthorizationPolicy => &["ZtunnelAccepted", "WaypointAccepted"],
        _ => &["Accepted", "Programmed", "ResolvedRefs"],
    };
    // A policy of which a waypoint takes only a part is "accepted", with this reason.
    let in_part = kind == Kind::AuthorizationPolicy
        && condition.r#type == "WaypointAccepted"
        && condition.reason == "PartiallyInvalid";
    in_part || (condition.status == "False" && expected_true.contains(&condition.r#type.as_str()))
}
