//! Ports of Services that do not say their protocol.

use config::kube::{IntOrString, ServicePort};
use config::{Kind, Object, Spec};
use model::Protocol;

use crate::analyzer::Check;
use crate::workload::{is_control_plane, label};
use crate::{Analyzer, Code, Report, Set};

/// Whether port names follow Istio's convention.
pub(crate) const NAMES: Analyzer = Analyzer::new(
    "service.PortNameAnalyzer",
    "Ports of Services whose names do not say the protocol",
    &[
        Code::PortNameIsNotUnderNamingConvention,
        Code::ExternalNameServiceTypeInvalidPortName,
    ],
    &[Kind::Service],
    Check::Each(&[Kind::Service], run),
);

/// Label of Services that a controller makes for Gateway API, and its values.
const MANAGED: &str = "gateway.istio.io/managed";
const CONTROLLERS: &[&str] = &[
    "istio.io-gateway-controller",
    "istio.io-mesh-controller",
    "istio.io-eastwest-controller",
];

fn run(_: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::Service(service) = &object.spec else {
        return;
    };
    let managed = label(object, MANAGED).is_some_and(|controller| CONTROLLERS.contains(&controller));
    if managed || is_control_plane(object) {
        return;
    }
    let external = service.spec.r#type == "ExternalName";
    for (index, port) in service.spec.ports.iter().enumerate() {
        let plain = external && port.name == "tcp";
        if protocol(port) != Protocol::Auto && !plain {
            continue;
        }
        let path = format!("spec.ports[{index}].name");
        if external {
            let code = Code::ExternalNameServiceTypeInvalidPortName;
            report.say(code, object, path, &[&name(port)]);
        } else {
            let code = Code::PortNameIsNotUnderNamingConvention;
            report.say(code, object, path, &[&name(port), &port.port, &target(port)]);
        }
    }
}

fn protocol(port: &ServicePort) -> Protocol {
    let app_protocol = Some(port.app_protocol.as_str()).filter(|given| !given.is_empty());
    let number = u16::try_from(port.port).unwrap_or_default();
    Protocol::of_service_port(&port.protocol, app_protocol, &port.name, number)
}

fn name(port: &ServicePort) -> String {
    match port.name.as_str() {
        "" => "without name".to_owned(),
        name => name.to_owned(),
    }
}

fn target(port: &ServicePort) -> String {
    match &port.target_port {
        Some(IntOrString::Int(number)) => number.to_string(),
        Some(IntOrString::String(name)) => name.clone(),
        None => port.port.to_string(),
    }
}
