//! Pods whose proxy is not the one that the injector would give them now.

use std::collections::BTreeMap;

use config::Kind;
use config::kube::ConfigMap;
use serde_json::Value;

use super::injection::{config_map_name, values};
use super::proxy_image_type::ImageTypes;
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
    run,
);

fn run(set: &Set<'_>, report: &mut Report) {
    let images: BTreeMap<&str, String> = set
        .config_maps()
        .filter(|(object, _)| object.meta.name.starts_with("istio-sidecar-injector"))
        .map(|(object, map)| (object.meta.name.as_str(), image(map)))
        .collect();
    if images.is_empty() {
        return;
    }
    let types = ImageTypes::of(set);
    let mut stale: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (object, pod) in set.all_pods() {
        let Some(namespace) = set.get(Kind::Namespace, "", &object.meta.namespace) else {
            continue;
        };
        let revision = match label(namespace, REVISION) {
            None if label(namespace, INJECTION) != Some("enabled") => continue,
            revision => revision.unwrap_or_default(),
        };
        let chosen = object.meta.annotations.get("sidecar.istio.io/proxyImage");
        let Some(image) = images.get(config_map_name(revision).as_str()) else {
            continue;
        };
        if chosen.is_some_and(|chosen| !chosen.is_empty()) {
            continue;
        }
        let typed = format!("{image}-{}", types.of_pod(object));
        let mut proxies = containers(&pod.spec).filter(|container| container.name == PROXY);
        if proxies.any(|proxy| proxy.image != *image && proxy.image != typed) {
            let pods = stale.entry(namespace.meta.name.as_str()).or_default();
            pods.push(object.meta.name.as_str());
        }
    }
    for (name, pods) in stale {
        if let Some(namespace) = set.get(Kind::Namespace, "", name) {
            let code = Code::PodsIstioProxyImageMismatchInNamespace;
            report.say(code, namespace, "", &[&pods.join(", ")]);
        }
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
