//! Kubernetes' kinds, as far as the mesh reads them: what a cluster would have refused, for files that come from none.

use crate::kube::{EndpointSlice, IntOrString, Service};
use crate::path::At;
use crate::{meta, syntax};

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
    at.each("ports", &spec.ports, |port, at| {
        super::common::port(port.port, &at.key("port"));
        if !matches!(port.protocol.as_str(), "" | "TCP" | "UDP" | "SCTP") {
            at.key("protocol")
                .error(format!("{:?} is not TCP, UDP or SCTP", port.protocol));
        }
        match &port.target_port {
            Some(IntOrString::Int(number)) => super::common::port(*number, &at.key("targetPort")),
            Some(IntOrString::String(name)) if !syntax::is_dns_label(name) => {
                at.key("targetPort")
                    .error(format!("{name:?} is not the name of a port"));
            }
            _ => {}
        }
        if (spec.ports.len() > 1 || !port.name.is_empty()) && !syntax::is_dns_label(&port.name) {
            at.key("name")
                .error("several ports need a name each: lower-case letters, digits and hyphens");
        }
    });
    super::common::unique(
        "ports",
        spec.ports.iter().map(|port| port.name.as_str()),
        "the port's name",
        &at,
    );
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
    });
}
