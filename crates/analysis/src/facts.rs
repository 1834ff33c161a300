//! What is known of a cluster besides its objects: what its API server says of itself and of the caller's rights, and the
//! Services of the mesh's other clusters.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::Object;

/// Facts about the cluster; all empty where only files are analysed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The API server's version, such as `v1.34.4`; none when it was not asked.
    pub kubernetes_version: Option<String>,
    /// What the caller may not create, of what an installation needs.
    pub denied: Vec<Denied>,
    /// Services by the name of their cluster; fewer than two clusters have nothing to disagree about.
    pub clusters: BTreeMap<String, Vec<Arc<Object>>>,
    /// Istio's release, major and minor, that is to be replaced; none when nothing is.
    pub from_version: Option<(u32, u32)>,
}

/// One right that the caller has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The resource that cannot be created, such as `clusterroles.rbac.authorization.k8s.io`.
    pub resource: String,
    /// The API server's reason.
    pub reason: String,
}
