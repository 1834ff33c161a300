//! Which type of proxy image (`distroless`, `debug`) a pod is to have.

use config::networking::ProxyConfig;
use config::{Object, mesh::MeshConfig};
use model::selects;

use super::annotation_values;
use crate::Set;

/// The settings that choose image types, from the widest to the narrowest.
pub(super) struct ImageTypes<'a> {
    mesh: &'a MeshConfig,
    settings: Vec<(&'a Object, &'a ProxyConfig)>,
}

impl<'a> ImageTypes<'a> {
    pub(super) fn of(set: &'a Set<'_>) -> Self {
        Self {
            mesh: set.mesh(),
            settings: set.proxy_configs().collect(),
        }
    }

    /// The type for a pod: of the mesh, of the root namespace, of its own, of ProxyConfigs that select it, of its
    /// annotation; a later one wins. Empty means the default.
    pub(super) fn of_pod(&self, pod: &Object) -> String {
        let mesh = self
            .mesh
            .default_config
            .as_ref()
            .and_then(|config| config.image.as_ref());
        let mut chosen = mesh.map(|image| image.image_type.clone()).unwrap_or_default();
        let root = &self.mesh.root_namespace;
        for level in 0..3 {
            for (object, config) in &self.settings {
                let namespace = &object.meta.namespace;
                let applies = match (&config.selector, level) {
                    (_, 0) => namespace == root,
                    (None, 1) => namespace == &pod.meta.namespace,
                    (Some(selector), 2) => {
                        namespace == &pod.meta.namespace && selects(&selector.match_labels, &pod.meta.labels)
                    }
                    _ => false,
                };
                let image = config.image.as_ref().filter(|image| !image.image_type.is_empty());
                if let Some(image) = image.filter(|_| applies) {
                    chosen.clone_from(&image.image_type);
                }
            }
        }
        let own = pod.meta.annotations.get("proxy.istio.io/config");
        let own = own.and_then(|value| annotation_values::proxy_config(value).ok());
        if let Some(image) = own
            .and_then(|own| own.image)
            .filter(|image| !image.image_type.is_empty())
        {
            chosen = image.image_type;
        }
        if chosen == "default" {
            String::new()
        } else {
            chosen
        }
    }
}
