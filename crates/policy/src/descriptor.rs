//! Reads back what a rate limit descriptor carries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::cel::{ABSENT, DESTINATION_UID, RULE, SIZE};
use crate::http::{HeaderMap, query_of};
use crate::request::{Party, Protocol, Request};
use crate::workload::WorkloadView;

/// The facts of a descriptor, as [`crate::QuotaDescriptor`] asks Envoy to send them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescriptorFacts {
    /// The rule: `NAME.NAMESPACE`.
    pub rule: String,
    /// The workload whose proxy asks: `kubernetes://NAME.NAMESPACE`.
    pub destination_uid: String,
    /// Address of the caller.
    pub source: Option<SocketAddr>,
    /// Address that was called.
    pub destination: Option<SocketAddr>,
    /// Authenticated identity of the caller, without `spiffe://`.
    pub principal: Option<String>,
    mtls: Option<bool>,
    server_name: Option<String>,
    headers: BTreeMap<String, String>,
    path: Option<String>,
    query: BTreeMap<String, String>,
    method: Option<String>,
    host: Option<String>,
    scheme: Option<String>,
    size: Option<i64>,
    /// Keys of all entries, of what is absent too.
    carried: BTreeSet<String>,
}

/// Why a descriptor cannot be understood. Its sender is of another release, or no proxy of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorProblem {
    /// The entry is missing.
    #[error("the descriptor has no entry {0}")]
    Missing(&'static str),
    /// There is no such entry.
    #[error("the descriptor has an unknown entry {0}")]
    Unknown(String),
}

impl DescriptorFacts {
    /// Reads a descriptor's entries.
    ///
    /// # Errors
    /// An entry is missing or unknown.
    pub fn read<'a>(
        entries: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, DescriptorProblem> {
        let mut facts = Self::default();
        for (key, value) in entries {
            facts.carried.insert(key.to_owned());
            match (key, value) {
                // Without the header nothing is known to come, and Envoy itself says 0.
                (SIZE, ABSENT) => facts.size = Some(0),
                (_, ABSENT) => {}
                _ => facts.set(key, value)?,
            }
        }
        if facts.rule.is_empty() {
            return Err(DescriptorProblem::Missing(RULE));
        }
        if facts.destination_uid.is_empty() {
            return Err(DescriptorProblem::Missing(DESTINATION_UID));
        }
        facts.query = facts.path.as_deref().map(query_of).unwrap_or_default();
        Ok(facts)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), DescriptorProblem> {
        let own = || Some(value.to_owned());
        match key {
            RULE => self.rule = value.to_owned(),
            DESTINATION_UID => self.destination_uid = value.to_owned(),
            "source.address" => self.source = value.parse().ok(),
            "destination.address" => self.destination = value.parse().ok(),
            "source.principal" => self.principal = value.strip_prefix("spiffe://").map(str::to_owned),
            "connection.mtls" => self.mtls = value.parse().ok(),
            "connection.requested_server_name" => self.server_name = own(),
            "request.path" => self.path = own(),
            "request.method" => self.method = own(),
            "request.host" => self.host = own(),
            "request.scheme" => self.scheme = own(),
            // What is no number, or too large for one, is not to be taken for small.
            SIZE => self.size = Some(value.parse().ok().filter(|size| *size >= 0).unwrap_or(i64::MAX)),
            key => match key
                .strip_prefix("request.headers[")
                .and_then(|rest| rest.strip_suffix(']'))
            {
                Some(name) => {
                    self.headers.insert(name.to_owned(), value.to_owned());
                }
                None => return Err(DescriptorProblem::Unknown(key.to_owned())),
            },
        }
        Ok(())
    }

    /// Whether an entry of this key was there, be it for a value that is absent.
    pub(crate) fn carries(&self, key: &str) -> bool {
        self.carried.contains(key)
    }

    /// The headers, for [`DescriptorFacts::request`].
    pub fn headers(&self) -> HeaderMap<'_> {
        HeaderMap(&self.headers)
    }

    /// The address of the caller.
    pub fn source_ip(&self) -> Option<IpAddr> {
        self.source.map(|address| address.ip())
    }

    /// The request that the descriptor describes. `headers` are [`DescriptorFacts::headers`], `destination` the workload
    /// that `destination_uid` names, `source` the caller's when it is known for certain.
    pub fn request<'a>(
        &'a self,
        headers: &'a HeaderMap<'a>,
        destination: &'a WorkloadView,
        source: Option<&'a WorkloadView>,
        time: expr::Timestamp,
    ) -> Request<'a> {
        let port = self.destination.map(|address| address.port());
        Request {
            protocol: Protocol::of_content_type(self.headers.get("content-type").map(String::as_str)),
            source: Party {
                workload: source,
                ip: self.source_ip(),
                port: self.source.map(|address| address.port()),
                principal: self.principal.as_deref(),
            },
            destination: Party {
                workload: Some(destination),
                ip: self.destination.map(|address| address.ip()),
                port,
                principal: Some(destination.principal()),
            },
            service: destination.service(port, self.host.as_deref()),
            mtls: self.mtls,
            server_name: self.server_name.as_deref(),
            headers: Some(headers),
            path: self.path.as_deref(),
            query: self.path.is_some().then_some(&self.query),
            method: self.method.as_deref(),
            host: self.host.as_deref(),
            scheme: self.scheme.as_deref(),
            size: self.size,
            time: Some(time),
            ..Request::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_expressions_say() {
        let entries = [
            ("rule", "quota.istio-system"),
            ("destination.uid", "kubernetes://catalog-v1.shop"),
            ("source.address", "127.1.0.10:5000"),
            ("source.principal", "spiffe://cluster.local/ns/shop/sa/frontend"),
            ("connection.mtls", "true"),
            ("request.path", "/a?b=c"),
            ("request.headers[x-user]", "jason"),
            ("request.headers[x-none]", ABSENT),
        ];
        let facts = DescriptorFacts::read(entries).unwrap();
        assert_eq!(
            facts.principal.as_deref(),
            Some("cluster.local/ns/shop/sa/frontend")
        );
        assert_eq!(facts.source_ip(), Some([127, 1, 0, 10].into()));
        let headers: Vec<_> = facts.headers.iter().collect();
        assert_eq!(headers, [(&"x-user".to_owned(), &"jason".to_owned())]);
        assert_eq!(facts.query.get("b").map(String::as_str), Some("c"));
    }

    #[test]
    fn a_size_is_known_whatever_the_client_says() {
        let check = |said: &str, expected: i64| {
            let entries = [("rule", "r.ns"), ("destination.uid", "u"), (SIZE, said)];
            assert_eq!(
                DescriptorFacts::read(entries).unwrap().size,
                Some(expected),
                "{said}"
            );
        };
        check("5", 5);
        check(ABSENT, 0);
        check("9223372036854775808", i64::MAX);
        check("-1", i64::MAX);
        check("five", i64::MAX);
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        assert_eq!(DescriptorFacts::read([]), Err(DescriptorProblem::Missing(RULE)));
        let foreign = [("generic_key", "x")];
        assert_eq!(
            DescriptorFacts::read(foreign),
            Err(DescriptorProblem::Unknown("generic_key".into()))
        );
    }
}
