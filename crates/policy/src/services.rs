//! The services that a QuotaSpecBinding or an HTTPAPISpecBinding names.

use std::collections::BTreeMap;

use config::mixer::IstioService;

use crate::workload::ServiceView;
use config::adapters::Problem;

/// One entry of a binding's `services`.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    which: Which,
    /// Of the workloads that serve it: a version of the service. Empty means all.
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
enum Which {
    /// All services of the mesh.
    All,
    /// The service with this host name.
    Host(String),
    /// By name and namespace.
    Named {
        /// Short name.
        name: String,
        /// Namespace.
        namespace: String,
    },
}

impl Services {
    fn new(given: &IstioService, own_namespace: &str) -> Result<Self, Problem> {
        Ok(Self {
            which: Which::new(given, own_namespace)?,
            labels: given.labels.clone(),
        })
    }

    /// The services of a binding in `namespace`; entries that cannot be used are named in `problems`.
    pub(crate) fn of_binding(
        given: &[IstioService],
        namespace: &str,
        problems: &mut Vec<Problem>,
    ) -> Vec<Self> {
        let mut services = Vec::new();
        for (i, given) in given.iter().enumerate() {
            match Self::new(given, namespace) {
                Ok(service) => services.push(service),
                Err(problem) => problems.push(problem.below(&format!("services[{i}]"))),
            }
        }
        services
    }

    /// Whether the service is meant, in the version that the workload is. A gateway, which asks for workloads without proxies, does not
    /// know which will answer: for it all are meant, since nobody else would charge.
    pub(crate) fn holds(&self, service: &ServiceView) -> bool {
        let labels = service.labels.as_ref();
        let is_version =
            labels.is_none_or(|own| self.labels.iter().all(|(key, value)| own.get(key) == Some(value)));
        self.which.holds(service) && is_version
    }
}

impl Which {
    fn new(given: &IstioService, own_namespace: &str) -> Result<Self, Problem> {
        match (given.service.as_str(), given.name.as_str()) {
            ("*", _) => Ok(Self::All),
            ("", "") => Err(Problem::new(
                "name",
                "names no service; set name, or service: '*'",
            )),
            ("", name) => {
                let namespace = if given.namespace.is_empty() {
                    own_namespace
                } else {
                    &given.namespace
                };
                Ok(match given.domain.as_str() {
                    "" => Self::Named {
                        name: name.to_owned(),
                        namespace: namespace.to_owned(),
                    },
                    domain => Self::Host(format!("{name}.{namespace}.{}", domain.trim_start_matches('.'))),
                })
            }
            (host, _) => Ok(Self::Host(host.to_ascii_lowercase())),
        }
    }

    fn holds(&self, service: &ServiceView) -> bool {
        match self {
            Self::All => true,
            Self::Host(host) => service.host == *host,
            Self::Named { name, namespace } => service.name == *name && service.namespace == *namespace,
        }
    }
}
