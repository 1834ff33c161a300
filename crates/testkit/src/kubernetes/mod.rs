//! A real Kubernetes API: etcd and kube-apiserver on loopback addresses of their own, without nodes or controllers.
//!
//! What controllers would do does not happen: namespaces are not emptied, Services get no endpoints, service accounts no
//! tokens. Authorization is RBAC; Pods need no service account (that admission plugin is off).

mod binaries;
mod pki;
mod server;

pub use kube::Client;

pub use binaries::Binaries;
pub use server::ApiServer;
