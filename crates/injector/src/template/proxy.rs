//! The proxy's container: agent and Envoy. What the agent needs to know comes in its environment, under the agent's own names
//! and, for what describes the pod, under those of Istio's agent.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, ExecAction, HTTPGetAction, Lifecycle,
    LifecycleHandler, ObjectFieldSelector, Probe, ResourceFieldSelector, ResourceRequirements,
    SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Ground, Role, volumes};
use crate::names;
use crate::wishes::Interception;

/// How long a native sidecar may take to become ready, in probes of one second.
const START_PATIENCE: i32 = 600;

pub(super) fn container(role: Role, ground: &Ground<'_>) -> Container {
    let native = role == Role::Sidecar && ground.wishes.native;
    let has_status = role == Role::Gateway || ground.wishes.status_port != 0;
    Container {
        name: names::PROXY.to_owned(),
        image: Some(image(ground)),
        image_pull_policy: ground.settings.image_pull_policy.clone(),
        restart_policy: native.then(|| "Always".to_owned()),
        ports: Some(vec![ContainerPort {
            container_port: i32::from(names::PROMETHEUS_PORT),
            name: Some("http-envoy-prom".to_owned()),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        env: Some(environment(role, ground)),
        readiness_probe: has_status.then(|| readiness(ground)),
        startup_probe: (native && has_status).then(startup),
        lifecycle: match (role, native) {
            (Role::Sidecar, true) => has_status.then(leave),
            (Role::Sidecar, false) if ground.wishes.hold => Some(hold()),
            _ => None,
        },
        security_context: Some(security(role, ground)),
        resources: Some(resources(ground)),
        volume_mounts: Some(volumes::mounts(ground)),
        ..Container::default()
    }
}

/// The annotation's, else the settings' in the flavour that the pod or ProxyConfig asks for.
pub(super) fn image(ground: &Ground<'_>) -> String {
    if let Some(image) = ground.annotation(names::PROXY_IMAGE) {
        return image.to_owned();
    }
    let flavour = ground
        .wishes
        .proxy
        .image
        .as_ref()
        .map(|image| image.image_type.as_str());
    let flavour = ground.annotation(names::PROXY_IMAGE_TYPE).or(flavour);
    let image = &ground.settings.image;
    match flavour.unwrap_or_default() {
        "" => image.clone(),
        flavour => with_flavour(image, flavour),
    }
}

/// `proxy:1.0` or `proxy:1.0-debug` in the flavour `distroless` is `proxy:1.0-distroless`; `default` takes the flavour away.
/// A digest names one image, which has no other flavour.
fn with_flavour(image: &str, flavour: &str) -> String {
    if image.contains('@') {
        return image.to_owned();
    }
    let plain = ["-distroless", "-debug"]
        .iter()
        .find_map(|end| image.strip_suffix(end));
    match (plain.unwrap_or(image), flavour) {
        (plain, "default") => plain.to_owned(),
        (plain, flavour) => format!("{plain}-{flavour}"),
    }
}

/// The annotations' when there is any, as in Istio: then they are all that holds.
pub(super) fn resources(ground: &Ground<'_>) -> ResourceRequirements {
    let of = |cpu: &str, memory: &str| {
        let pairs = [
            ("cpu", ground.annotation(cpu)),
            ("memory", ground.annotation(memory)),
        ];
        let given = pairs
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), Quantity(value?.to_owned()))));
        Some(given.collect::<BTreeMap<_, _>>()).filter(|given| !given.is_empty())
    };
    let own = ResourceRequirements {
        claims: None,
        requests: of(names::CPU, names::MEMORY),
        limits: of(names::CPU_LIMIT, names::MEMORY_LIMIT),
    };
    if own == ResourceRequirements::default() {
        ground.settings.resources.clone()
    } else {
        own
    }
}

/// No rights at all, but for what transparent interception needs: sockets with others' addresses.
fn security(role: Role, ground: &Ground<'_>) -> SecurityContext {
    let transparent = role == Role::Sidecar && ground.wishes.interception == Interception::Tproxy;
    SecurityContext {
        allow_privilege_escalation: Some(false),
        privileged: Some(false),
        capabilities: Some(Capabilities {
            add: transparent.then(|| vec!["NET_ADMIN".to_owned()]),
            drop: Some(vec!["ALL".to_owned()]),
        }),
        read_only_root_filesystem: Some(true),
        run_as_group: Some(names::PROXY_USER),
        run_as_non_root: Some(!transparent),
        run_as_user: Some(if transparent { 0 } else { names::PROXY_USER }),
        seccomp_profile: Some(seccomp()),
        ..SecurityContext::default()
    }
}

/// What the runtime allows by default, as Kubernetes' restricted standard wants it said.
pub(super) fn seccomp() -> SeccompProfile {
    SeccompProfile {
        localhost_profile: None,
        type_: "RuntimeDefault".to_owned(),
    }
}

fn ready(path: &str) -> Option<HTTPGetAction> {
    Some(HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::Int(i32::from(names::HEALTH_PORT)),
        ..HTTPGetAction::default()
    })
}

fn readiness(ground: &Ground<'_>) -> Probe {
    let wishes = &ground.wishes.readiness;
    Probe {
        http_get: ready("/healthz/ready"),
        initial_delay_seconds: Some(wishes.initial_delay_seconds),
        period_seconds: Some(wishes.period_seconds),
        timeout_seconds: Some(3),
        failure_threshold: Some(wishes.failure_threshold),
        ..Probe::default()
    }
}

/// Kubernetes starts the application when this has succeeded.
fn startup() -> Probe {
    Probe {
        http_get: ready("/healthz/ready"),
        period_seconds: Some(1),
        timeout_seconds: Some(3),
        failure_threshold: Some(START_PATIENCE),
        ..Probe::default()
    }
}

/// Kubernetes starts the next container when the first one's hook has ended.
fn hold() -> Lifecycle {
    Lifecycle {
        post_start: Some(agent_command("wait")),
        ..Lifecycle::default()
    }
}

/// Kubernetes tells a native sidecar that the pod ends only after the application has ended; its hook runs at once, and has
/// callers go elsewhere meanwhile.
fn leave() -> Lifecycle {
    Lifecycle {
        pre_stop: Some(agent_command("drain")),
        ..Lifecycle::default()
    }
}

fn agent_command(name: &str) -> LifecycleHandler {
    LifecycleHandler {
        exec: Some(ExecAction {
            command: Some(["argosy-agent", name].map(str::to_owned).to_vec()),
        }),
        ..LifecycleHandler::default()
    }
}

pub(crate) fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    }
}

fn field(name: &str, path: &str) -> EnvVar {
    let source = EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            api_version: None,
            field_path: path.to_owned(),
        }),
        ..EnvVarSource::default()
    };
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(source),
    }
}

fn limit(name: &str, resource: &str) -> EnvVar {
    let source = EnvVarSource {
        resource_field_ref: Some(ResourceFieldSelector {
            container_name: None,
            divisor: None,
            resource: resource.to_owned(),
        }),
        ..EnvVarSource::default()
    };
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(source),
    }
}

/// Variables that others are made of come first: Kubernetes fills in those above.
fn environment(role: Role, ground: &Ground<'_>) -> Vec<EnvVar> {
    let mut all = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("INSTANCE_IP", "status.podIP"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("HOST_IP", "status.hostIP"),
        field("ISTIO_META_NODE_NAME", "spec.nodeName"),
        limit("ISTIO_CPU_LIMIT", "limits.cpu"),
        limit("ARGOSY_MEMORY_LIMIT", "limits.memory"),
    ];
    all.extend(
        agent(role, ground)
            .iter()
            .map(|(name, value)| variable(name, value)),
    );
    all.extend(
        description(ground)
            .iter()
            .map(|(name, value)| variable(name, value)),
    );
    let metadata = &ground.wishes.proxy.proxy_metadata;
    all.extend(metadata.iter().map(|(name, value)| variable(name, value)));
    all
}

/// Flags of the agent that have a meaning outside of Kubernetes too.
fn agent(role: Role, ground: &Ground<'_>) -> Vec<(&'static str, String)> {
    let settings = ground.settings;
    let text = str::to_owned;
    let mut all = vec![
        ("ARGOSY_WORKLOAD", text("$(POD_NAMESPACE)/$(POD_NAME)")),
        ("ARGOSY_ADDRESS", text("$(INSTANCE_IP)")),
        (
            "ARGOSY_PROXY_TYPE",
            text(if role == Role::Sidecar {
                "sidecar"
            } else {
                "router"
            }),
        ),
        ("ARGOSY_PILOT_ADDRESS", settings.pilot()),
        ("ARGOSY_CITADEL_ADDRESS", settings.citadel()),
        ("ARGOSY_CA_ROOT", text(volumes::ROOT)),
        ("ARGOSY_TOKEN", text(volumes::TOKEN)),
        ("ARGOSY_TRUST_DOMAIN", settings.trust_domain.clone()),
        ("ARGOSY_DOMAIN", settings.cluster_domain.clone()),
        ("ARGOSY_CLUSTER_ID", settings.cluster_id.clone()),
        ("ARGOSY_STATE_DIR", text(volumes::STATE)),
        ("ARGOSY_POD_INFO", text(volumes::POD_INFO)),
        (
            "ARGOSY_ENVOY_LOG_LEVEL",
            text(ground.annotation_or(names::LOG_LEVEL, &settings.log_level)),
        ),
        (
            "ARGOSY_ENVOY_COMPONENT_LOG_LEVEL",
            text(ground.annotation_or(names::COMPONENT_LOG_LEVEL, &settings.component_log_level)),
        ),
        (
            "ARGOSY_LOG_LEVEL",
            text(ground.annotation_or(names::AGENT_LOG_LEVEL, &settings.agent_log_level)),
        ),
        ("ARGOSY_STATUS_PORT", ground.wishes.status_port.to_string()),
    ];
    let concurrency = ground.wishes.proxy.concurrency.filter(|threads| *threads > 0);
    all.extend(concurrency.map(|threads| ("ARGOSY_ENVOY_CONCURRENCY", threads.to_string())));
    all
}

/// What Istio's agent is told of its pod.
fn description(ground: &Ground<'_>) -> Vec<(&'static str, String)> {
    let settings = ground.settings;
    let containers: Vec<&str> = ground
        .containers()
        .map(|container| container.name.as_str())
        .collect();
    let ports: Vec<&ContainerPort> = ground
        .containers()
        .flat_map(|c| c.ports.iter().flatten())
        .collect();
    let mut all = vec![
        ("PROXY_CONFIG", ground.wishes.proxy_config.to_string()),
        (
            "ISTIO_META_POD_PORTS",
            serde_json::to_string(&ports).unwrap_or_else(|_| "[]".to_owned()),
        ),
        ("ISTIO_META_APP_CONTAINERS", containers.join(",")),
        ("ISTIO_META_CLUSTER_ID", settings.cluster_id.clone()),
        (
            "ISTIO_META_INTERCEPTION_MODE",
            ground.wishes.interception.as_str().to_owned(),
        ),
        ("ISTIO_META_WORKLOAD_NAME", ground.owner.name.clone()),
        ("ISTIO_META_OWNER", ground.owner.url(ground.namespace)),
        ("ISTIO_META_MESH_ID", settings.mesh().to_owned()),
        ("TRUST_DOMAIN", settings.trust_domain.clone()),
    ];
    let network = Some(ground.network()).filter(|network| !network.is_empty());
    all.extend(network.map(|network| ("ISTIO_META_NETWORK", network.to_owned())));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flavour_takes_the_place_of_another() {
        let check =
            |image: &str, flavour: &str, expected: &str| assert_eq!(with_flavour(image, flavour), expected);
        check("argosy/proxy:1.0", "distroless", "argosy/proxy:1.0-distroless");
        check(
            "argosy/proxy:1.0-debug",
            "distroless",
            "argosy/proxy:1.0-distroless",
        );
        check("argosy/proxy:1.0-debug", "default", "argosy/proxy:1.0");
        check("argosy/proxy@sha256:00", "debug", "argosy/proxy@sha256:00");
    }
}
