//! SPIFFE identities of workloads in Istio's form.

use std::fmt;

/// Who a workload is: `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Trust domain, lower case.
    pub trust_domain: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Kubernetes service account.
    pub service_account: String,
}

impl Identity {
    /// The identity of a service account.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Identity {
        Identity {
            trust_domain: trust_domain.to_owned(),
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
        }
    }

    /// Reads a SPIFFE ID of Istio's form; `None` for any other.
    pub fn parse(uri: &str) -> Option<Identity> {
        let mut parts = uri.strip_prefix("spiffe://")?.split('/');
        let (domain, ns, namespace) = (parts.next()?, parts.next()?, parts.next()?);
        let (sa, account) = (parts.next()?, parts.next()?);
        let whole = parts.next().is_none() && ns == "ns" && sa == "sa";
        let filled = !domain.is_empty() && !namespace.is_empty() && !account.is_empty();
        (whole && filled).then(|| Identity::new(domain, namespace, account))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let identity = Identity::new("cluster.local", "shop", "catalog");
        assert_eq!(identity.to_string(), "spiffe://cluster.local/ns/shop/sa/catalog");
        assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
        for bad in [
            "spiffe://a/ns/b/sa/",
            "spiffe://a/ns/b/sa/c/d",
            "spiffe://a/b/c",
            "https://a/ns/b/sa/c",
            "",
        ] {
            assert_eq!(Identity::parse(bad), None, "{bad}");
        }
    }
}
