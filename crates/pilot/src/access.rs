//! Who may ask for which proxy's configuration: a node speaks for the workload that its certificate names.
//!
//! Pure: it is given the verified peer and knows no connection.

use std::net::IpAddr;

use envoygen::Proxy;
use model::Snapshot;
use runtime::Peer;

/// Why a node is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The certificate is no service account's.
    #[error(
        "the certificate's identity {peer} is no service account's; proxies need one of the form spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT"
    )]
    Form {
        /// The SPIFFE ID.
        peer: String,
    },
    /// The node claims another namespace than the certificate.
    #[error(
        "the node is in namespace {claimed}, its certificate {peer} is not; start the agent with a token of that namespace"
    )]
    Namespace {
        /// From the node id.
        claimed: String,
        /// The SPIFFE ID.
        peer: String,
    },
    /// The workload runs under another service account than the certificate.
    #[error(
        "workload {workload} runs as service account {account}, the certificate is {peer}; use that account's token, or correct the workload's serviceAccount"
    )]
    Account {
        /// The workload.
        workload: String,
        /// Its account.
        account: String,
        /// The SPIFFE ID.
        peer: String,
    },
    /// The mesh has no such workload, so nothing says which account it may run under.
    #[error("no workload {namespace}/{name} is known; create its WorkloadEntry")]
    Unknown {
        /// From the node id.
        namespace: String,
        /// From the node id.
        name: String,
    },
    /// The node's address is not its workload's.
    #[error("the node's address {claimed} is not that of workload {workload}")]
    Address {
        /// From the node id.
        claimed: IpAddr,
        /// The workload.
        workload: String,
    },
}

/// Checks a node against its verified peer. `None` is a plaintext connection, which only the loopback listener for tools
/// takes: it may ask for anything.
///
/// # Errors
/// When the certificate does not entitle to that node's configuration.
pub fn check(snapshot: &Snapshot, proxy: &Proxy, peer: Option<&Peer>) -> Result<(), Denied> {
    let Some(peer) = peer else { return Ok(()) };
    let shown = || peer.spiffe_id.to_string();
    let (Some(namespace), Some(account)) = (peer.namespace(), peer.service_account()) else {
        return Err(Denied::Form { peer: shown() });
    };
    if proxy.namespace != namespace {
        return Err(Denied::Namespace {
            claimed: proxy.namespace.clone(),
            peer: shown(),
        });
    }
    let Some(workload) = proxy.workload(snapshot) else {
        return Err(Denied::Unknown {
            namespace: proxy.namespace.clone(),
            name: proxy.name.clone(),
        });
    };
    let name = workload.key.resource_name();
    if workload.account() != account {
        return Err(Denied::Account {
            workload: name,
            account: workload.account().to_owned(),
            peer: shown(),
        });
    }
    match workload.ip() {
        Some(ip) if !proxy.ip.is_unspecified() && ip != proxy.ip => Err(Denied::Address {
            claimed: proxy.ip,
            workload: name,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use runtime::SpiffeId;

    use super::*;

    const WORKLOAD: &str = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: catalog-v1, namespace: shop}\nspec: {address: 127.1.0.21, serviceAccount: catalog}\n";

    fn check(node: &str, peer: Option<&str>) -> Result<(), Denied> {
        let objects = config::parse("x.yaml", WORKLOAD.as_bytes(), "default").objects;
        let snapshot = Snapshot::build(objects.into_iter().map(Arc::new));
        let peer = peer.map(|id| Peer {
            spiffe_id: SpiffeId::parse(id).unwrap(),
            not_after: 0,
        });
        super::check(&snapshot, &Proxy::parse(node, None).unwrap(), peer.as_ref())
    }

    const NODE: &str = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";

    #[test]
    fn a_workload_gets_its_own() {
        let peer = Some("spiffe://cluster.local/ns/shop/sa/catalog");
        assert_eq!(check(NODE, peer), Ok(()));
        assert_eq!(
            check(&NODE.replace("127.1.0.21", "0.0.0.0"), peer),
            Ok(()),
            "before it knows its address"
        );
    }

    #[test]
    fn istio_security_2026_001_nobody_gets_anothers() {
        let says = |node: &str, peer: &str, expected: &str| {
            let denied = check(node, Some(peer)).unwrap_err().to_string();
            assert!(denied.contains(expected), "{denied}");
        };
        says(
            NODE,
            "spiffe://cluster.local/ns/shop/sa/orders",
            "runs as service account catalog",
        );
        says(
            NODE,
            "spiffe://cluster.local/ns/edge/sa/catalog",
            "in namespace shop",
        );
        says(NODE, "spiffe://cluster.local/workload", "no service account");
        says(
            &NODE.replace("127.1.0.21", "127.1.0.40"),
            "spiffe://cluster.local/ns/shop/sa/catalog",
            "address 127.1.0.40",
        );
        says(
            &NODE.replace("-v1", "-v9").replace("21", "99"),
            "spiffe://cluster.local/ns/shop/sa/catalog",
            "no workload",
        );
    }

    #[test]
    fn tools_on_the_plaintext_listener_ask_for_anything() {
        assert_eq!(check(NODE, None), Ok(()));
    }
}
