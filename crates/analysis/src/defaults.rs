//! What a mesh has without anybody writing it down: the ingress gateway. Files that are analysed by themselves would
//! otherwise refer to something missing.

use std::collections::BTreeMap;

use config::kube::{Container, IntOrString, Pod, PodSpec, Service, ServicePort, ServiceSpec};
use config::mesh::{IngressControllerMode, MeshConfig};
use config::{Kind, Meta, Object, Origin, Spec};

/// Ports of Istio's ingress gateway.
const PORTS: [(&str, u32); 4] = [("http2", 80), ("https", 443), ("tcp", 31400), ("tls", 15443)];

/// The ingress gateway's Service and pod in `namespace`, unless the mesh has no ingress. Put them before the objects of
/// files that are analysed without a cluster.
pub fn defaults(mesh: &MeshConfig, namespace: &str) -> Vec<Object> {
    let mesh = mesh.clone().with_defaults();
    if mesh.ingress_controller_mode == IngressControllerMode::Off {
        return Vec::new();
    }
    let labels = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
    let name = mesh.ingress_service;
    let port = |(name, port): (&str, u32)| ServicePort {
        name: name.to_owned(),
        protocol: "TCP".to_owned(),
        port,
        target_port: Some(IntOrString::Int(port)),
        ..ServicePort::default()
    };
    let service = Service {
        spec: ServiceSpec {
            selector: labels.clone(),
            ports: PORTS.map(port).to_vec(),
            ..ServiceSpec::default()
        },
        ..Service::default()
    };
    let proxy = Container {
        name: crate::workload::PROXY.to_owned(),
        ..Container::default()
    };
    let pod = Pod {
        spec: PodSpec {
            containers: vec![proxy],
            ..PodSpec::default()
        },
        ..Pod::default()
    };
    let pod_name = format!("{name}-default");
    vec![
        object(Kind::Pod, pod_name, namespace, labels, pod.into()),
        object(Kind::Service, name, namespace, BTreeMap::new(), service.into()),
    ]
}

fn object(kind: Kind, name: String, namespace: &str, labels: BTreeMap<String, String>, spec: Spec) -> Object {
    let meta = Meta {
        namespace: namespace.to_owned(),
        name,
        labels,
        ..Meta::default()
    };
    Object {
        kind,
        meta,
        spec,
        origin: Origin::default(),
    }
}
