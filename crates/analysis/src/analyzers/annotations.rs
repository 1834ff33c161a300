//! Annotations of Istio on Kubernetes' objects: known, on the right kind, valid, not deprecated, not alpha.

use config::{Kind, Object, Spec};

use super::annotation_table::{self, Annotation, Stage};
use super::annotation_values;
use crate::analyzer::Check;
use crate::workload::INJECT;
use crate::{Analyzer, Code, Report};

const INPUTS: &[Kind] = &[Kind::Namespace, Kind::Service, Kind::Pod, Kind::Deployment];

/// Unknown, misplaced, invalid and deprecated annotations.
pub(crate) const ANNOTATIONS: Analyzer = Analyzer::new(
    "annotations.K8sAnalyzer",
    "Annotations that are unknown, misplaced, invalid or deprecated",
    &[
        Code::MisplacedAnnotation,
        Code::UnknownAnnotation,
        Code::InvalidAnnotation,
        Code::DeprecatedAnnotation,
    ],
    INPUTS,
    Check::Each(INPUTS, |_, object, report| each(object, report, check)),
);

/// Annotations of alpha features. Not among those that run by default, since injection itself sets some.
pub(crate) const ALPHA: Analyzer = Analyzer::new(
    "maturity.AlphaAnalyzer",
    "Annotations of alpha features",
    &[Code::AlphaAnnotation],
    INPUTS,
    Check::Each(INPUTS, |_, object, report| each(object, report, check_alpha)),
)
.alias("annotations.AlphaAnalyzer");

/// Annotations that controllers set, not people.
const IGNORED: &[&str] = &[
    "sidecar.istio.io/status",
    "gateway.istio.io/controller-version",
    "istio.io/rev",
];

/// Annotations that Istio's CNI plugin sets.
const SET_BY_CNI: &[&str] = &[
    "sidecar.istio.io/interceptionMode",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
];

/// An annotation of an object, with what is known of it.
struct Found<'a> {
    object: &'a Object,
    key: &'a str,
    value: &'a str,
    known: Option<&'static Annotation>,
}

impl Found<'_> {
    fn path(&self) -> String {
        format!("metadata.annotations[{:?}]", self.key)
    }
}

fn each(object: &Object, report: &mut Report, check: fn(&Found<'_>, &mut Report)) {
    for (key, value) in &object.meta.annotations {
        if is_istio(key) && !IGNORED.contains(&key.as_str()) {
            let known = annotation_table::find(key);
            let found = Found {
                object,
                key,
                value,
                known,
            };
            check(&found, report);
        }
    }
}

/// Whether an annotation is in a domain of Istio's, or the one of Kubernetes' that Istio documents.
fn is_istio(key: &str) -> bool {
    key == "kubernetes.io/ingress.class"
        || key
            .split('/')
            .next()
            .is_some_and(|domain| domain.ends_with("istio.io"))
}

fn check(found: &Found<'_>, report: &mut Report) {
    let (object, key) = (found.object, found.key);
    let Some(known) = found.known else {
        return report.say(Code::UnknownAnnotation, object, found.path(), &[&key]);
    };
    let replaced = key == INJECT && object.meta.labels.contains_key(INJECT);
    if known.deprecated && !replaced {
        let instead = match key {
            INJECT => "; use the label of the same name",
            _ => "",
        };
        report.say(
            Code::DeprecatedAnnotation,
            object,
            found.path(),
            &[&key, &instead],
        );
    }
    if known.kinds.contains(&"Any") {
        return;
    }
    if !known.kinds.contains(&object.kind.as_str()) {
        let places = known.kinds.join(", ");
        return report.say(Code::MisplacedAnnotation, object, found.path(), &[&key, &places]);
    }
    if let Err(problem) = annotation_values::check(key, found.value) {
        report.say(Code::InvalidAnnotation, object, found.path(), &[&key, &problem]);
    }
}

fn check_alpha(found: &Found<'_>, report: &mut Report) {
    let by_cni = SET_BY_CNI.contains(&found.key) && has_cni(found.object);
    if found.known.is_some_and(|known| known.stage == Stage::Alpha) && !by_cni {
        report.say(Code::AlphaAnnotation, found.object, found.path(), &[&found.key]);
    }
}

/// Whether a pod's traffic is redirected by the CNI plugin, that is, not by an init container.
fn has_cni(object: &Object) -> bool {
    match &object.spec {
        Spec::Pod(pod) => !pod
            .spec
            .init_containers
            .iter()
            .any(|container| container.name == "istio-init"),
        _ => false,
    }
}
