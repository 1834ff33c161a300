//! Kubernetes' kinds, as far as the mesh reads them: what a cluster would have refused, for files that come from none.

use crate::kube::{
    ConfigMap, EndpointSlice, IntOrString, Pod, PodSpec, PodTemplateSpec, Service, ServicePort,
};
use crate::path::At;
use crate::{Meta, Severity, meta, parse_mesh_config, parse_mesh_networks, syntax};

/// Checks a Service.
pub(super) fn service(service: &Service, at: &At<'_>) {
    let at = at.key("spec");
    let spec = &service.spec;
    if !matches!(
        spec.r#type.as_str(),
        "" | "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName"
    ) {
        let message = format!(
            "{:?} is not ClusterIP, NodePort, LoadBalancer or ExternalName",
            spec.r#type
        );
        at.key("type").error(message);
    }
    if spec.r#type == "ExternalName" {
        super::host::report(
            super::host::dns_name(&spec.external_name),
            &at.key("externalName"),
        );
    } else if spec.ports.is_empty() && spec.cluster_ip != "None" {
        at.key("ports").error("at least one port is needed");
    }
    meta::check_labels(&spec.selector, &at.key("selector"));
    addresses(spec, &at);
    at.each("ports", &spec.ports, |port, at| {
        service_port(port, at);
        if (spec.ports.len() > 1 || !port.name.is_empty()) && !syntax::is_dns_label(&port.name) {
            at.key("name")
                .error("several ports need a name each: lower-case letters, digits and hyphens");
        }
    });
    for (index, port) in spec.ports.iter().enumerate() {
        let same = |other: &&ServicePort| (other.port, protocol_of(other)) == (port.port, protocol_of(port));
        if spec.ports.iter().take(index).any(|other| same(&other)) {
            at.key("ports").index(index).error(format!(
                "the port {} is given twice with the same protocol",
                port.port
            ));
        }
    }
    super::common::unique(
        "ports",
        spec.ports.iter().map(|port| port.name.as_str()),
        "the port's name",
        &at,
    );
}

fn protocol_of(port: &ServicePort) -> &str {
    match port.protocol.as_str() {
        "" => "TCP",
        protocol => protocol,
    }
}

fn protocol(name: &str, at: &At<'_>) {
    if !matches!(name, "" | "TCP" | "UDP" | "SCTP") {
        at.key("protocol")
            .error(format!("{name:?} is not TCP, UDP or SCTP"));
    }
}

fn app_protocol(name: &str, at: &At<'_>) {
    if !name.is_empty() && !syntax::is_label_key(name) {
        at.key("appProtocol")
            .error(format!("{name:?} must be {}", syntax::LABEL_KEY));
    }
}

fn service_port(port: &ServicePort, at: &At<'_>) {
    super::common::port(port.port, &at.key("port"));
    protocol(&port.protocol, at);
    app_protocol(&port.app_protocol, at);
    if port.node_port != 0 {
        super::common::port(port.node_port, &at.key("nodePort"));
    }
    match &port.target_port {
        Some(IntOrString::Int(number)) => super::common::port(*number, &at.key("targetPort")),
        Some(IntOrString::String(name)) if !syntax::is_port_name(name) => {
            at.key("targetPort")
                .error(format!("{name:?} must be {}", syntax::PORT_NAME));
        }
        _ => {}
    }
}

/// A Service's own addresses, and the fields that choose them.
fn addresses(spec: &crate::kube::ServiceSpec, at: &At<'_>) {
    let cluster = |address: &str, at: &At<'_>| {
        if !matches!(address, "" | "None") && syntax::ip(address).is_none() {
            at.error(format!("{address:?} is neither an IP address nor None"));
        }
    };
    cluster(&spec.cluster_ip, &at.key("clusterIP"));
    at.each("clusterIPs", &spec.cluster_ips, |address, at| {
        cluster(address, at)
    });
    at.each("externalIPs", &spec.external_ips, |address, at| {
        if syntax::ip(address).is_none() {
            at.error(format!("{address:?} is not an IP address"));
        }
    });
    at.each("ipFamilies", &spec.ip_families, |family, at| {
        choice(family, &["IPv4", "IPv6"], at);
    });
    for (key, value, choices) in [
        (
            "ipFamilyPolicy",
            &spec.ip_family_policy,
            &["SingleStack", "PreferDualStack", "RequireDualStack"][..],
        ),
        ("sessionAffinity", &spec.session_affinity, &["ClientIP", "None"]),
        (
            "internalTrafficPolicy",
            &spec.internal_traffic_policy,
            &["Cluster", "Local"],
        ),
        (
            "externalTrafficPolicy",
            &spec.external_traffic_policy,
            &["Cluster", "Local"],
        ),
    ] {
        if !value.is_empty() {
            choice(value, choices, &at.key(key));
        }
    }
}

fn choice(value: &str, choices: &[&str], at: &At<'_>) {
    if !choices.contains(&value) {
        at.error_help(
            format!("{value:?} is not one of the values of this field"),
            format!("use one of {}", choices.join(", ")),
        );
    }
}

/// Checks a Pod.
pub(super) fn pod(pod: &Pod, at: &At<'_>) {
    pod_spec(&pod.spec, &at.key("spec"));
}

/// Checks a template of Pods; `at` is what has it.
pub(super) fn template(template: &PodTemplateSpec, at: &At<'_>) {
    let at = at.key("template");
    meta::check_labels(&template.metadata.labels, &at.key("metadata").key("labels"));
    pod_spec(&template.spec, &at.key("spec"));
}

fn pod_spec(spec: &PodSpec, at: &At<'_>) {
    if !spec.service_account_name.is_empty() && !syntax::is_dns_subdomain(&spec.service_account_name) {
        at.key("serviceAccountName").error(format!(
            "{:?} must be {}",
            spec.service_account_name,
            syntax::DNS_SUBDOMAIN
        ));
    }
    for (key, containers) in [
        ("initContainers", &spec.init_containers),
        ("containers", &spec.containers),
    ] {
        at.each(key, containers, |container, at| {
            at.each("ports", &container.ports, |port, at| {
                super::common::port(port.container_port, &at.key("containerPort"));
                protocol(&port.protocol, at);
                if !port.name.is_empty() && !syntax::is_port_name(&port.name) {
                    at.key("name")
                        .error(format!("{:?} must be {}", port.name, syntax::PORT_NAME));
                }
            });
        });
    }
}

/// Checks a ConfigMap of the mesh (`istio`, or `istio-REVISION`): what Istio's control plane reads in it.
pub(super) fn config_map(map: &ConfigMap, meta: &Meta, at: &At<'_>) {
    if meta.name != "istio" && !meta.name.starts_with("istio-") {
        return;
    }
    let at = at.key("data");
    for (key, read) in [
        (
            "mesh",
            parse_mesh_config as fn(&str, &[u8], &str) -> crate::Parsed,
        ),
        ("meshNetworks", parse_mesh_networks),
    ] {
        let Some(text) = map.data.get(key) else { continue };
        for finding in read(key, text.as_bytes(), &meta.namespace).findings {
            let at = at.key(key);
            let path = finding.path.trim_start_matches("spec.");
            let message = match path {
                "" => finding.message,
                path => format!("{path}: {}", finding.message),
            };
            match (finding.severity, finding.help) {
                (Severity::Error, Some(help)) => at.error_help(message, help),
                (Severity::Error, None) => at.error(message),
                (Severity::Warning, Some(help)) => at.warning_help(message, help),
                (Severity::Warning, None) => at.warning(message),
                (Severity::Info, _) => at.info(message),
            }
        }
    }
}

/// Checks an EndpointSlice.
pub(super) fn endpoint_slice(slice: &EndpointSlice, at: &At<'_>) {
    if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6" | "FQDN") {
        at.key("addressType")
            .error(format!("{:?} is not IPv4, IPv6 or FQDN", slice.address_type));
    }
    at.each("endpoints", &slice.endpoints, |endpoint, at| {
        at.key("addresses")
            .require(!endpoint.addresses.is_empty(), "at least one address is needed");
        at.each("addresses", &endpoint.addresses, |address, at| {
            let fine = match slice.address_type.as_str() {
                "IPv4" => syntax::ip(address).is_some_and(|ip| ip.is_ipv4()),
                "IPv6" => syntax::is_ipv6(address),
                _ => super::host::dns_name(address).is_none(),
            };
            if !fine {
                at.error(format!(
                    "{address:?} is not an address of the type {}",
                    slice.address_type
                ));
            }
        });
    });
    at.each("ports", &slice.ports, |port, at| {
        at.some("port", port.port.as_ref(), |port, at| {
            super::common::port(*port, at)
        });
        protocol(&port.protocol, at);
        app_protocol(&port.app_protocol, at);
        if !port.name.is_empty() && !syntax::is_dns_label(&port.name) {
            at.key("name")
                .error(format!("{:?} must be {}", port.name, syntax::DNS_LABEL));
        }
    });
    super::common::unique(
        "ports",
        slice.ports.iter().map(|port| port.name.as_str()),
        "the port's name",
        at,
    );
}
