//! What generation depends on beside the snapshot and the scope: where the mesh's own services are.

use std::time::Duration;

/// Where the mesh's own services are, and bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `host:port` of Mixer for checks and reports, where MeshConfig names none.
    pub mixer_address: Option<String>,
    /// Kubernetes namespace of the mesh's own services, part of their identities.
    pub system_namespace: String,
    /// Longest wait for a secret before a cluster or listener is used without it; then its connections fail until it comes.
    pub secret_timeout: Duration,
    /// File of root certificates beside each proxy, for servers outside the mesh whose roots nobody names.
    pub system_roots: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            mixer_address: None,
            system_namespace: "argosy-system".to_owned(),
            secret_timeout: Duration::from_secs(5),
            system_roots: "/etc/ssl/certs/ca-certificates.crt".to_owned(),
        }
    }
}
