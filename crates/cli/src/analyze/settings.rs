//! The mesh's settings that analysis goes by.

use anyhow::Context;
use config::{Kind, Spec};

use super::Read;
use super::args::Args;

/// The mesh's settings: those of the flag, or else of the control plane's ConfigMap; and what a mesh has without anybody
/// writing it down, where there is no cluster to look at.
pub(super) fn settle_mesh(args: &Args, all: &mut Read, defaults: bool) -> anyhow::Result<()> {
    let name = match args.revision.as_str() {
        "" | "default" => "istio".to_owned(),
        revision => format!("istio-{revision}"),
    };
    let config_maps = all.objects.iter().rev().filter_map(|object| match &object.spec {
        Spec::ConfigMap(map) if object.meta.name == name && object.meta.namespace == args.istio_namespace => {
            Some(map)
        }
        _ => None,
    });
    let map = config_maps
        .into_iter()
        .next()
        .map(|map| map.data.clone())
        .unwrap_or_default();
    if let Some(text) = map.get("mesh") {
        all.add(config::parse_mesh_config(
            &name,
            text.as_bytes(),
            &args.istio_namespace,
        ));
    }
    if let Some(text) = map.get("meshNetworks") {
        all.add(config::parse_mesh_networks(
            &name,
            text.as_bytes(),
            &args.istio_namespace,
        ));
    }
    if let Some(path) = &args.mesh_config {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        let parsed = config::parse_mesh_config(&path.display().to_string(), &text, &args.istio_namespace);
        all.objects.retain(|object| object.kind != Kind::MeshConfig);
        all.add(parsed);
    }
    if defaults {
        let mesh = all.objects.iter().rev().find_map(|object| match &object.spec {
            Spec::MeshConfig(mesh) => Some((**mesh).clone()),
            _ => None,
        });
        let given = std::mem::take(&mut all.objects);
        all.objects = analysis::defaults(&mesh.unwrap_or_default(), &args.istio_namespace);
        all.objects.extend(given);
    }
    Ok(())
}
