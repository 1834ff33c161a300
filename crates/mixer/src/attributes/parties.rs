//! Who calls whom. A workload is named only where an authenticated identity vouches for it: an address alone, a name or a
//! header that a client could write is not believed.

use std::net::IpAddr;

use policy::{Party, WorkloadView};

use super::address::Endpoint;
use crate::mesh::Mesh;

/// The identity in a certificate's URI, as attributes spell it (`cluster.local/ns/shop/sa/catalog`); none for what is no
/// SPIFFE id.
pub(crate) fn principal(uri: &str) -> Option<&str> {
    uri.strip_prefix("spiffe://").filter(|id| !id.is_empty())
}

/// The far end of a connection: the address's workload if it has the identity that was authenticated, else that identity
/// alone. Without an identity only the address is known.
pub(crate) fn far<'a>(mesh: &'a Mesh, address: Endpoint, principal: Option<&'a str>) -> Party<'a> {
    let workload = match (address.ip, principal) {
        (Some(ip), Some(principal)) => mesh.at_with(ip, principal),
        _ => None,
    };
    Party {
        workload,
        ip: address.ip,
        port: address.port,
        principal,
    }
}

/// The upstream that a proxy reports to have called. The address is the control plane's own, so the workload there is
/// believed, unless another identity was seen there.
pub(crate) fn upstream<'a>(mesh: &'a Mesh, address: Endpoint, principal: Option<&'a str>) -> Party<'a> {
    let workload = match principal {
        Some(principal) => address.ip.and_then(|ip| mesh.at_with(ip, principal)),
        None => address.ip.and_then(|ip| mesh.at(ip)),
    };
    Party {
        workload,
        ip: address.ip,
        port: address.port,
        principal,
    }
}

/// The workload whose proxy speaks: that of the node id if it has the caller's identity, else the one at the first address
/// that does, else the only one that has this identity at all.
pub(crate) fn caller<'a>(
    mesh: &'a Mesh,
    principal: &str,
    node_id: Option<&str>,
    addresses: &[Option<IpAddr>],
) -> Option<&'a WorkloadView> {
    let named = node_id
        .and_then(node_name)
        .and_then(|(namespace, name)| mesh.named(namespace, name, principal));
    let at_address = || {
        addresses
            .iter()
            .flatten()
            .find_map(|ip| mesh.at_with(*ip, principal))
    };
    named.or_else(at_address).or_else(|| mesh.only_with(principal))
}

/// NAMESPACE and NAME in `sidecar~IP~NAME.NAMESPACE~DOMAIN`.
fn node_name(id: &str) -> Option<(&str, &str)> {
    let (name, namespace) = id.split('~').nth(2)?.rsplit_once('.')?;
    Some((namespace, name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::Identity;

    use super::*;
    use crate::attributes::address::tests::endpoint;

    fn mesh() -> Mesh {
        let view = |name: &str, account: &str, ip: [u8; 4]| {
            let identity = Identity::new("cluster.local", "shop", account);
            WorkloadView::new(name, &identity, Arc::default(), Some(ip.into()), Vec::new())
        };
        Mesh::of([
            view("catalog-v1", "catalog", [127, 1, 0, 21]),
            view("catalog-v2", "catalog", [127, 1, 0, 22]),
            view("frontend-v1", "frontend", [127, 1, 0, 10]),
            view("host-a", "node", [10, 0, 0, 1]),
            view("host-b", "node", [10, 0, 0, 1]),
        ])
    }

    fn name(workload: Option<&WorkloadView>) -> Option<&str> {
        workload.map(|w| w.name.as_str())
    }

    const CATALOG: &str = "cluster.local/ns/shop/sa/catalog";
    const FRONTEND: &str = "cluster.local/ns/shop/sa/frontend";
    const NODE: &str = "cluster.local/ns/shop/sa/node";

    #[test]
    fn a_far_end_needs_address_and_identity_to_agree() {
        let mesh = mesh();
        let check = |address: &str, principal, expected: Option<&str>| {
            let party = far(&mesh, endpoint(address), principal);
            assert_eq!(
                (name(party.workload), party.principal),
                (expected, principal),
                "{address}"
            );
        };
        check("127.1.0.10:3333", Some(FRONTEND), Some("frontend-v1"));
        check("127.1.0.21", Some(CATALOG), Some("catalog-v1"));
        check("127.1.0.21", Some(FRONTEND), None);
        check("127.1.0.10", None, None);
        check("127.1.0.99", Some(FRONTEND), None);
        check("10.0.0.1", Some(NODE), None);
        check("::ffff:127.1.0.10", Some(FRONTEND), Some("frontend-v1"));
    }

    #[test]
    fn an_upstream_is_known_by_its_address_unless_its_identity_says_otherwise() {
        let mesh = mesh();
        let seen = |address: &str, principal| name(upstream(&mesh, endpoint(address), principal).workload);
        assert_eq!(seen("127.1.0.22:8080", None), Some("catalog-v2"));
        assert_eq!(seen("127.1.0.22:8080", Some(CATALOG)), Some("catalog-v2"));
        assert_eq!(seen("127.1.0.22:8080", Some(FRONTEND)), None);
        assert_eq!(seen("10.0.0.1:80", None), None);
    }

    #[test]
    fn a_caller_cannot_speak_for_another_identity() {
        let mesh = mesh();
        let check = |principal: &str, node: Option<&str>, ip: Option<&str>, expected: Option<&str>| {
            let ip = ip.map(|ip| ip.parse().unwrap());
            assert_eq!(
                name(caller(&mesh, principal, node, &[ip])),
                expected,
                "{principal} {node:?} {ip:?}"
            );
        };
        let v2 = "sidecar~127.1.0.22~catalog-v2.shop~shop.svc.cluster.local";
        check(CATALOG, Some(v2), None, Some("catalog-v2"));
        check(CATALOG, Some(v2), Some("127.1.0.21"), Some("catalog-v2"));
        check(CATALOG, None, Some("127.1.0.21"), Some("catalog-v1"));
        check(CATALOG, None, None, None);
        check(FRONTEND, Some(v2), Some("127.1.0.22"), Some("frontend-v1"));
        check("cluster.local/ns/evil/sa/x", Some(v2), Some("127.1.0.22"), None);
        check(CATALOG, Some("nonsense"), Some("127.1.0.10"), None);
        check(NODE, Some("sidecar~10.0.0.1~host-b.shop~x"), None, Some("host-b"));
    }

    #[test]
    fn only_spiffe_ids_are_principals() {
        assert_eq!(
            principal("spiffe://cluster.local/ns/a/sa/b"),
            Some("cluster.local/ns/a/sa/b")
        );
        assert_eq!(principal("CN=admin"), None);
        assert_eq!(principal("cluster.local/ns/a/sa/b"), None);
        assert_eq!(principal("spiffe://"), None);
    }
}
