//! Pods whose proxy is not the one that the injector would give them now.

use config::kube::ConfigMap;
use config::{Kind, Object, Spec};
use serde_json::Value;

use super::injection::{config_map_name, values};
use super::proxy_image_type::ImageTypes;
use crate::analyzer::Check;
use crate::workload::{INJECTION, PROXY, REVISION, containers, label};
use crate::{Analyzer, Code, Report, Set};

/// Whether proxies have the injector's image.
pub(crate) const IMAGES: Analyzer = Analyzer::new(
    "injection.ImageAnalyzer",
    "Pods whose proxy has another image than the injector would give it",
    &[Code::PodsIstioProxyImageMismatchInNamespace],
    &[
        Kind::Namespace,
        Kind::Pod,
        Kind::ConfigMap,
        Kind::MeshConfig,
        Kind::ProxyConfig,
    ],
    Check::Each(&[Kind::Namespace], run),
);

fn run(set: &Set<'_>, namespace: &Object, report: &mut Report) {
    let revision = match label(namespace, REVISION) {
        None if label(namespace, INJECTION) != Some("enabled") => return,
        revision => revision.unwrap_or_default(),
    };
    let name = config_map_name(revision);
    let maps = set.config_maps().filter(|(object, _)| object.meta.name == name);
    let Some((_, map)) = maps.last() else { return };
    let (image, types) = (image(map), ImageTypes::of(set));
    let is_stale = |object: &&Object| {
        let chosen = object.meta.annotations.get("sidecar.istio.io/proxyImage");
        let Spec::Pod(pod) = &object.spec else {
            return false;
        };
        let mut proxies = containers(&pod.spec).filter(|container| container.name == PROXY);
        chosen.is_none_or(String::is_empty)
            && proxies.any(|proxy| {
                proxy.image != image && proxy.image != format!("{image}-{}", types.of_pod(object))
            })
    };
    let pods = set.of_namespace(Kind::Pod, &namespace.meta.name).filter(is_stale);
    let names: Vec<&str> = pods.map(|object| object.meta.name.as_str()).collect();
    if !names.is_empty() {
        let code = Code::PodsIstioProxyImageMismatchInNamespace;
        report.say(code, namespace, "", &[&names.join(", ")]);
    }
}

/// The proxy's image as the injector's values say: whole, or made from hub and tag.
fn image(map: &ConfigMap) -> String {
    let values = values(map).unwrap_or_default();
    let text = |path: &str| match values.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let image = text("/global/proxy/image");
    match image.contains('/') {
        true => image,
        false => format!("{}/{image}:{}", text("/global/hub"), text("/global/tag")),
    }
}
