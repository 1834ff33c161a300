//! The container that redirects the pod's traffic to the proxy, with the flags of Istio's `istio-iptables`.

use k8s_openapi::api::core::v1::{Capabilities, Container, EnvVar, SecurityContext};

use super::{Ground, proxy};
use crate::names;

/// Runs to its end before the application starts, and needs the right to write the pod's rules.
pub(super) fn container(ground: &Ground<'_>) -> Container {
    Container {
        name: names::INIT.to_owned(),
        image: Some(proxy::image(ground)),
        image_pull_policy: ground.settings.image_pull_policy.clone(),
        args: Some(args(ground)),
        env: environment(ground),
        resources: Some(proxy::resources(ground)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            privileged: Some(false),
            capabilities: Some(Capabilities {
                add: Some(vec!["NET_ADMIN".to_owned(), "NET_RAW".to_owned()]),
                drop: Some(vec!["ALL".to_owned()]),
            }),
            // iptables of the older kind writes a lock into /run.
            read_only_root_filesystem: Some(false),
            run_as_group: Some(0),
            run_as_non_root: Some(false),
            run_as_user: Some(0),
            seccomp_profile: Some(proxy::seccomp()),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

/// ProxyConfig's `proxyMetadata` decides on DNS capture and dual stack.
fn environment(ground: &Ground<'_>) -> Option<Vec<EnvVar>> {
    let metadata = &ground.wishes.proxy.proxy_metadata;
    let variables = metadata.iter().map(|(name, value)| proxy::variable(name, value));
    (!metadata.is_empty()).then(|| variables.collect())
}

fn args(ground: &Ground<'_>) -> Vec<String> {
    let wishes = ground.wishes;
    let traffic = &wishes.traffic;
    let user = names::PROXY_USER.to_string();
    let (outbound, inbound) = (names::OUTBOUND_PORT.to_string(), names::INBOUND_PORT.to_string());
    let excluded = excluded(ground);
    let always = [
        ("-p", outbound.as_str()),
        ("-z", &inbound),
        ("-u", &user),
        ("-m", wishes.interception.as_str()),
        ("-i", &traffic.include_ip_ranges),
        ("-x", &traffic.exclude_ip_ranges),
        ("-b", &traffic.include_inbound_ports),
        ("-d", &excluded),
    ];
    let virtual_interfaces = ground
        .annotation(names::REROUTE_INTERFACES)
        .or_else(|| ground.annotation(names::VIRTUAL_INTERFACES));
    let sometimes = [
        ("-q", Some(traffic.include_outbound_ports.as_str())),
        ("-o", Some(traffic.exclude_outbound_ports.as_str())),
        ("-k", virtual_interfaces),
        ("-c", ground.annotation(names::EXCLUDE_INTERFACES)),
    ];
    let given = sometimes
        .into_iter()
        .filter_map(|(flag, value)| Some((flag, value.filter(|value| !value.is_empty())?)));
    let flags = always.into_iter().chain(given);
    std::iter::once("istio-iptables")
        .chain(flags.flat_map(|(flag, value)| [flag, value]))
        .map(str::to_owned)
        .collect()
}

/// The proxy's own ports are never redirected, nor what the operator and the pod name.
fn excluded(ground: &Ground<'_>) -> String {
    let mut ports = vec![names::PROMETHEUS_PORT.to_string(), names::HEALTH_PORT.to_string()];
    if ground.wishes.status_port != 0 {
        ports.push(ground.wishes.status_port.to_string());
    }
    let own = ground
        .wishes
        .traffic
        .exclude_inbound_ports
        .split(',')
        .map(str::trim);
    for port in own.filter(|port| !port.is_empty()) {
        if !ports.iter().any(|known| known == port) {
            ports.push(port.to_owned());
        }
    }
    ports.join(",")
}
