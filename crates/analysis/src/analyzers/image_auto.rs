//! Proxies whose image is left to injection, where none takes place.

use config::Kind;
use config::kube::{PodSpec, Webhook};

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
        Kind::MutatingWebhookConfiguration,
    ],
    run,
);

fn run(set: &Set<'_>, report: &mut Report) {
    let webhooks: Vec<&Webhook> = set
        .injectors()
        .flat_map(|(_, configuration)| &configuration.webhooks)
        .filter(|webhook| webhook.name.ends_with("istio.io"))
        .collect();
    for (object, pod) in set.all_pods() {
        // A pod that exists was not injected, whatever the webhooks select by now.
        if let Some(index) = auto(&pod.spec) {
            let path = format!("spec.containers[{index}].image");
            let code = Code::ImageAutoWithoutInjectionError;
            report.say(code, object, path, &[&"pod", &object.meta.name]);
        }
    }
    let none = Labels::new();
    for (object, deployment) in set.deployments() {
        let template = &deployment.spec.template;
        let Some(index) = auto(&template.spec) else {
            continue;
        };
        let namespace = set.namespace(&object.meta.namespace);
        let of_namespace = namespace.map_or(&none, |namespace| &namespace.meta.labels);
        let injected = webhooks.iter().any(|webhook| {
            matches(webhook.namespace_selector.as_ref(), of_namespace)
                && matches(webhook.object_selector.as_ref(), &template.metadata.labels)
        });
        if !injected {
            let path = format!("spec.template.spec.containers[{index}].image");
            let code = Code::ImageAutoWithoutInjectionWarning;
            report.say(code, object, path, &[&"deployment", &object.meta.name]);
        }
    }
}

fn auto(spec: &PodSpec) -> Option<usize> {
    spec.containers
        .iter()
        .position(|container| container.name == PROXY && container.image == "auto")
}
