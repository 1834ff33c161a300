//! Gateways with the workloads that they select.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::networking::Gateway as GatewaySpec;
use config::{Object, ObjectKey};

use crate::export::selects;

/// Annotation of Gateways that stand for one or several Services (by host, separated by commas) instead of for labels.
const GATEWAY_SERVICE: &str = "internal.istio.io/gateway-service";

/// A Gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// Its name; no object has it if Ingresses stand behind it.
    pub key: ObjectKey,
    /// The objects that it was made of.
    pub origins: Vec<ObjectKey>,
    /// Its servers and selector.
    pub spec: Arc<GatewaySpec>,
    /// Hosts of the Services whose workloads open its servers, where an annotation names them; the selector does not count
    /// then.
    pub services: Option<Vec<String>>,
}

impl Gateway {
    pub(crate) fn new(object: &Object, spec: &GatewaySpec) -> Gateway {
        Gateway {
            key: object.key(),
            origins: vec![object.key()],
            spec: Arc::new(spec.clone()),
            services: object.meta.annotations.get(GATEWAY_SERVICE).map(|hosts| {
                let hosts = hosts.split(',').map(|host| host.trim().to_ascii_lowercase());
                hosts.collect()
            }),
        }
    }

    /// `namespace/name`, as VirtualServices call it.
    pub fn name(&self) -> String {
        format!("{}/{}", self.key.namespace, self.key.name)
    }

    /// Whether a workload with these labels opens its servers, where no annotation names Services.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        selects(&self.spec.selector, labels)
    }
}
