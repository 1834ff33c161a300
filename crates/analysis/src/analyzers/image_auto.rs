//! Proxies whose image is left to injection, where none takes place.

use config::kube::{PodSpec, PodTemplateSpec};
use config::{Kind, Object, Spec};

use crate::analyzer::Check;
use crate::selector::{Labels, matches};
use crate::workload::PROXY;
use crate::{Analyzer, Code, Report, Set};

/// Whether `image: auto` is going to be replaced.
pub(crate) const IMAGE_AUTO: Analyzer = Analyzer::new(
    "injection.ImageAutoAnalyzer",
    "Proxies whose image is left to injection, where none takes place",
    &[
        Code::ImageAutoWithoutInjectionWarning,
        Code::ImageAutoWithoutInjectionError,
    ],
    &[
        Kind::Namespace,
        Kind::Pod,
        Kind::Deployment,
        // Istio passes these by; gateways are often run so, one on each node.
        Kind::DaemonSet,
        Kind::MutatingWebhookConfiguration,
    ],
    Check::Each(&[Kind::Pod, Kind::Deployment, Kind::DaemonSet], run),
);

fn run(set: &Set<'_>, object: &Object, report: &mut Report) {
    let name = &object.meta.name;
    match &object.spec {
        // A pod that exists was not injected, whatever the webhooks select by now.
        Spec::Pod(pod) => {
            if let Some(index) = auto(&pod.spec) {
                let path = format!("spec.containers[{index}].image");
                let code = Code::ImageAutoWithoutInjectionError;
                report.say(code, object, path, &[&"pod", name]);
            }
        }
        Spec::Deployment(deployment) => {
            template(set, object, "deployment", &deployment.spec.template, report);
        }
        Spec::DaemonSet(daemons) => template(set, object, "daemon set", &daemons.spec.template, report),
        _ => {}
    }
}

fn template(set: &Set<'_>, object: &Object, what: &str, template: &PodTemplateSpec, report: &mut Report) {
    let index = auto(&template.spec);
    if let Some(index) = index.filter(|_| !is_injected(set, object, template)) {
        let path = format!("spec.template.spec.containers[{index}].image");
        let code = Code::ImageAutoWithoutInjectionWarning;
        report.say(code, object, path, &[&what, &object.meta.name]);
    }
}

fn is_injected(set: &Set<'_>, object: &Object, template: &PodTemplateSpec) -> bool {
    let none = Labels::new();
    let namespace = set.namespace(&object.meta.namespace);
    let of_namespace = namespace.map_or(&none, |namespace| &namespace.meta.labels);
    let configurations = set.injectors();
    let mut webhooks = configurations
        .flat_map(|(_, configuration)| &configuration.webhooks)
        .filter(|webhook| webhook.name.ends_with("istio.io"));
    webhooks.any(|webhook| {
        let labels = &template.metadata.labels;
        matches(webhook.namespace_selector.as_ref(), of_namespace)
            && matches(webhook.object_selector.as_ref(), labels)
    })
}

fn auto(spec: &PodSpec) -> Option<usize> {
    spec.containers
        .iter()
        .position(|container| container.name == PROXY && container.image == "auto")
}
