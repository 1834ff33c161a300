//! One encoded resource.

use crate::cluster;
use crate::types::{CLUSTER, TypeUrl};
use bytes::Bytes;
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// One encoded resource. Cloning it shares the bytes.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Unique within its type.
    pub name: Arc<str>,
    /// xxh3 of `bytes`.
    pub version: u64,
    /// The encoded message, without the `Any` around it.
    pub bytes: Bytes,
    /// For an EDS cluster: the name of the `ClusterLoadAssignment` that Envoy waits for after each change of it.
    pub endpoints: Option<Arc<str>>,
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.version == other.version
    }
}

impl Eq for Resource {}

impl Resource {
    pub(crate) fn new(type_url: &TypeUrl, name: Arc<str>, bytes: Bytes) -> Self {
        let version = xxh3_64(&bytes);
        let endpoints = (*type_url == CLUSTER)
            .then(|| cluster::endpoints_name(&name, &bytes))
            .flatten();
        Self {
            name,
            version,
            bytes,
            endpoints,
        }
    }

    /// A hash of name and version. A table's version is the sum over its resources, so that a change of few of them
    /// costs little.
    pub(super) fn hash(&self) -> u64 {
        xxh3_64_with_seed(self.name.as_bytes(), self.version)
    }

    /// About how many bytes it takes in a response.
    pub(crate) fn weight(&self) -> usize {
        // Tags, lengths and the version in hexadecimal.
        const AROUND: usize = 40;
        AROUND + self.name.len() + self.bytes.len()
    }
}
