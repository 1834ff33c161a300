//! The proxy's volumes: its token, the mesh's roots, its own folder, and what the pod's annotations add. No key is in one of
//! them; keys are made by the agent and stay in its memory.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource,
    ObjectFieldSelector, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume, VolumeMount,
    VolumeProjection,
};

use super::Ground;

/// Where the token is.
pub(super) const TOKEN: &str = "/var/run/secrets/tokens/istio-token";
/// Where the mesh's roots are.
pub(super) const ROOT: &str = "/var/run/secrets/istio/root-cert.pem";
/// Where the proxy may write.
const PROXY: &str = "/etc/istio/proxy";
/// The agent's own folder: socket, bootstrap, lock. It makes it, since a volume's own folder belongs to root.
pub(super) const STATE: &str = "/etc/istio/proxy/agent";
/// The downward API's labels and annotations.
pub(super) const POD_INFO: &str = "/etc/istio/pod";

/// The ConfigMap that Citadel keeps in each namespace.
const ROOT_MAP: &str = "istio-ca-root-cert";

/// All volumes.
pub(super) fn all(ground: &Ground<'_>) -> Vec<Volume> {
    let mut volumes = vec![
        memory("istio-envoy"),
        Volume {
            name: "istio-data".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        },
        podinfo(),
        token(ground),
        config_map("istiod-ca-cert", ROOT_MAP),
    ];
    volumes.extend(ground.wishes.volumes.iter().cloned());
    volumes
}

/// Where the proxy has them.
pub(super) fn mounts(ground: &Ground<'_>) -> Vec<VolumeMount> {
    let mut mounts = vec![
        mount("istio-envoy", PROXY, false),
        mount("istio-data", "/var/lib/istio/data", false),
        mount("istio-podinfo", POD_INFO, true),
        mount("istio-token", parent(TOKEN), true),
        mount("istiod-ca-cert", parent(ROOT), true),
    ];
    mounts.extend(ground.wishes.mounts.iter().cloned());
    mounts
}

fn parent(file: &str) -> &str {
    file.rsplit_once('/').map_or(file, |(folder, _)| folder)
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn memory(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: None,
        }),
        ..Volume::default()
    }
}

fn config_map(name: &str, map: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: map.to_owned(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// The kubelet renews the token; Citadel takes it for its audience alone.
fn token(ground: &Ground<'_>) -> Volume {
    let projection = ServiceAccountTokenProjection {
        audience: Some(ground.settings.token_audience.clone()),
        expiration_seconds: Some(ground.settings.token_expiration_seconds),
        path: TOKEN.rsplit('/').next().unwrap_or_default().to_owned(),
    };
    Volume {
        name: "istio-token".to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: None,
            sources: Some(vec![VolumeProjection {
                service_account_token: Some(projection),
                ..VolumeProjection::default()
            }]),
        }),
        ..Volume::default()
    }
}

fn podinfo() -> Volume {
    let item = |path: &str| DownwardAPIVolumeFile {
        path: path.to_owned(),
        field_ref: Some(ObjectFieldSelector {
            api_version: None,
            field_path: format!("metadata.{path}"),
        }),
        ..DownwardAPIVolumeFile::default()
    };
    Volume {
        name: "istio-podinfo".to_owned(),
        downward_api: Some(DownwardAPIVolumeSource {
            default_mode: None,
            items: Some(vec![item("labels"), item("annotations")]),
        }),
        ..Volume::default()
    }
}
