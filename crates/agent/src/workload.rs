//! What the agent takes from its WorkloadEntry, and what it asks of it. Pure.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use config::{Object, Spec};

use crate::bootstrap::Locality;

/// `NAMESPACE/NAME` of a WorkloadEntry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for WorkloadName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no workload; write NAMESPACE/NAME of its WorkloadEntry");
        let (namespace, name) = text.split_once('/').ok_or_else(wrong)?;
        // These become part of a node id, whose parts `~` separates.
        let ok = |part: &str| {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
            (1..=253).contains(&part.len()) && part.chars().all(allowed)
        };
        if !ok(namespace) || !ok(name) || namespace.contains('.') {
            return Err(wrong());
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// The workload that an agent serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Where it is reached, and where its Envoy listens.
    pub address: IpAddr,
    /// The entry's metadata labels and spec labels; the latter count where both have one.
    pub labels: BTreeMap<String, String>,
    /// The entry's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The account that its certificate must be for.
    pub service_account: String,
    /// Where it runs.
    pub locality: Locality,
    /// The network of its address; empty is the default one.
    pub network: String,
}

/// A WorkloadEntry that no proxy can be run for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// Pilot sent something else.
    #[error("Pilot answered with {0} instead of a WorkloadEntry; run agent and Pilot of the same release")]
    Kind(String),
    /// The address is a name, a Unix socket or absent.
    #[error(
        "WorkloadEntry {entry}: spec.address is {address:?}; a proxy needs an IP address of its own to listen on"
    )]
    Address {
        /// The entry.
        entry: String,
        /// What it says.
        address: String,
    },
    /// The address is everybody's.
    #[error("WorkloadEntry {entry}: spec.address {address} is no address of one workload")]
    Unspecified {
        /// The entry.
        entry: String,
        /// What it says.
        address: IpAddr,
    },
}

impl Workload {
    /// Reads a WorkloadEntry.
    ///
    /// # Errors
    /// When its address is not one that a proxy can listen on; correct the entry.
    pub fn from_object(object: &Object) -> Result<Self, WorkloadError> {
        let Spec::WorkloadEntry(spec) = &object.spec else {
            return Err(WorkloadError::Kind(object.key().to_string()));
        };
        let entry = || format!("{}/{}", object.meta.namespace, object.meta.name);
        let address: IpAddr = spec.address.parse().map_err(|_| WorkloadError::Address {
            entry: entry(),
            address: spec.address.clone(),
        })?;
        if address.is_unspecified() || address.is_multicast() {
            return Err(WorkloadError::Unspecified {
                entry: entry(),
                address,
            });
        }
        let mut labels = object.meta.labels.clone();
        labels.extend(spec.labels.clone());
        let account = spec.service_account.as_str();
        Ok(Self {
            address,
            labels,
            annotations: object.meta.annotations.clone(),
            service_account: if account.is_empty() { "default" } else { account }.to_owned(),
            locality: spec.locality.parse().unwrap_or_default(),
            network: spec.network.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use config::{Kind, Meta, Origin, networking::WorkloadEntry};

    use super::*;

    fn entry(address: &str) -> Object {
        let spec = WorkloadEntry {
            address: address.into(),
            labels: BTreeMap::from([("version".into(), "v1".into())]),
            locality: "eu/eu-1".into(),
            ..WorkloadEntry::default()
        };
        let labels = [("app", "catalog"), ("version", "v0")].map(|(key, value)| (key.into(), value.into()));
        let meta = Meta {
            namespace: "shop".into(),
            name: "catalog-v1".into(),
            labels: labels.into(),
            ..Meta::default()
        };
        Object {
            kind: Kind::WorkloadEntry,
            meta,
            spec: spec.into(),
            origin: Origin::default(),
        }
    }

    #[test]
    fn an_entry_becomes_a_workload() {
        let workload = Workload::from_object(&entry("127.1.0.21")).unwrap();
        assert_eq!(workload.address.to_string(), "127.1.0.21");
        assert_eq!(workload.service_account, "default", "as Kubernetes names it");
        assert_eq!(workload.locality.zone, "eu-1");
        let labels: Vec<_> = workload
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(labels, ["app=catalog", "version=v1"]);
    }

    #[test]
    fn addresses_that_cannot_be_listened_on_are_refused() {
        for address in [
            "",
            "catalog.example.com",
            "unix:///run/catalog.sock",
            "0.0.0.0",
            "::",
            "224.0.0.1",
        ] {
            let error = Workload::from_object(&entry(address)).unwrap_err().to_string();
            assert!(
                error.contains("WorkloadEntry shop/catalog-v1: spec.address"),
                "{error}"
            );
        }
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(
            "shop/catalog-v1".parse::<WorkloadName>().unwrap().to_string(),
            "shop/catalog-v1"
        );
        for wrong in [
            "",
            "shop",
            "shop/",
            "/x",
            "shop/a/b",
            "Shop/x",
            "shop/a~b",
            "a.b/c",
            &"x/y".repeat(200),
        ] {
            assert!(
                wrong
                    .parse::<WorkloadName>()
                    .unwrap_err()
                    .contains("NAMESPACE/NAME"),
                "{wrong}"
            );
        }
    }
}
