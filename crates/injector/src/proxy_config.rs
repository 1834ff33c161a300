//! ProxyConfig objects (`networking.istio.io`): what they add to the mesh's ProxyConfig for a pod. Of several the narrower
//! counts: the mesh's `defaultConfig`, then objects without selector in the root namespace, then in the pod's own, then those that
//! select the pod; the pod's annotation lies over all of them
//! (<https://istio.io/latest/docs/reference/config/networking/proxy-config/>).

use std::borrow::Cow;
use std::collections::BTreeMap;

use config::{Object, Spec};
use serde_json::{Map, Value, json};

use crate::settings::Settings;

/// The settings for a pod with these labels. Objects of other kinds are passed over; of two that count the same, the one whose
/// name comes first does.
pub fn settings_for<'a>(
    settings: &'a Settings,
    objects: &[Object],
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Cow<'a, Settings> {
    let mut layers: Vec<(u8, &str, Value)> = objects
        .iter()
        .filter_map(|object| {
            let rank = rank(object, settings, namespace, labels)?;
            Some((rank, object.meta.name.as_str(), overlay(object)?))
        })
        .collect();
    if layers.is_empty() {
        return Cow::Borrowed(settings);
    }
    layers.sort_by(|(a, a_name, _), (b, b_name, _)| a.cmp(b).then(b_name.cmp(a_name)));
    let mut own = settings.clone();
    for (_, _, layer) in &layers {
        json_patch::merge(&mut own.default_config, layer);
    }
    Cow::Owned(own)
}

/// How narrowly an object means the pod; `None` when it does not.
fn rank(
    object: &Object,
    settings: &Settings,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Option<u8> {
    let Spec::ProxyConfig(spec) = &object.spec else {
        return None;
    };
    let own = object.meta.namespace == namespace;
    match &spec.selector {
        Some(selector) if !selector.match_labels.is_empty() => {
            let selected = selector
                .match_labels
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value));
            (own && selected).then_some(2)
        }
        _ if own => Some(1),
        _ => (object.meta.namespace == settings.root_namespace).then_some(0),
    }
}

/// The object as a part of MeshConfig's ProxyConfig.
fn overlay(object: &Object) -> Option<Value> {
    let Spec::ProxyConfig(spec) = &object.spec else {
        return None;
    };
    let mut overlay = Map::new();
    if let Some(concurrency) = spec.concurrency {
        overlay.insert("concurrency".to_owned(), json!(concurrency));
    }
    if !spec.environment_variables.is_empty() {
        overlay.insert("proxyMetadata".to_owned(), json!(spec.environment_variables));
    }
    if let Some(image) = &spec.image {
        overlay.insert("image".to_owned(), json!({"imageType": image.image_type}));
    }
    Some(Value::Object(overlay))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTS: &str = "
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: mesh, namespace: istio-system}
spec: {concurrency: 1, environmentVariables: {A: mesh, B: mesh}}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: all, namespace: shop}
spec: {concurrency: 2, environmentVariables: {B: shop}}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: web, namespace: shop}
spec: {selector: {matchLabels: {app: web}}, concurrency: 3, image: {imageType: distroless}}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: other, namespace: bank}
spec: {concurrency: 9}
";

    #[track_caller]
    fn check(namespace: &str, app: &str, expected: &Value) {
        let parsed = config::parse("x.yaml", OBJECTS.as_bytes(), "default");
        assert!(!parsed.findings.iter().any(config::Finding::is_error));
        let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        let settings: Settings =
            serde_json::from_value(json!({"defaultConfig": {"statusPort": 15020}})).unwrap();
        let found = settings_for(&settings, &parsed.objects, namespace, &labels);
        assert_eq!(&found.default_config, expected);
    }

    #[test]
    fn the_narrower_object_counts() {
        let variables = json!({"A": "mesh", "B": "shop"});
        let image = json!({"imageType": "distroless"});
        check(
            "shop",
            "web",
            &json!({"statusPort": 15020, "concurrency": 3, "proxyMetadata": variables, "image": image}),
        );
        check(
            "shop",
            "db",
            &json!({"statusPort": 15020, "concurrency": 2, "proxyMetadata": variables}),
        );
        let mesh = json!({"A": "mesh", "B": "mesh"});
        check(
            "edge",
            "web",
            &json!({"statusPort": 15020, "concurrency": 1, "proxyMetadata": mesh}),
        );
    }
}
