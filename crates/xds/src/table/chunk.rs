//! A run of resources of one type: the unit that tables share, and that responses are written in.

use super::resource::Resource;
use crate::encode;
use crate::stream::Variant;
use crate::types::TypeUrl;
use bytes::{Bytes, BytesMut};
use std::sync::{Arc, OnceLock};

/// A run is closed once it has this many bytes: HTTP/2 takes one piece at a time, so pieces should not be small.
const BYTES: usize = 64 << 10;
/// Or this many resources: a change of one of them copies the run's list. Few in tests, so that small tables have runs.
const RESOURCES: usize = if cfg!(test) { 3 } else { 128 };
/// A run that became shorter than this is joined with the next.
const FEW: usize = if cfg!(test) { 2 } else { 16 };

/// Some resources in order of their names, never none.
#[derive(Debug)]
pub struct Chunk {
    pub(super) resources: Box<[Resource]>,
    /// Sum of the resources' hashes.
    pub(super) hash: u64,
    /// About how many bytes it takes in a response.
    pub(crate) weight: usize,
    delta: OnceLock<Bytes>,
    sotw: OnceLock<Bytes>,
}

impl Chunk {
    fn new(resources: Vec<Resource>) -> Self {
        Self {
            hash: resources
                .iter()
                .fold(0, |sum, each| sum.wrapping_add(each.hash())),
            weight: resources.iter().map(Resource::weight).sum(),
            resources: resources.into(),
            delta: OnceLock::new(),
            sotw: OnceLock::new(),
        }
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Resource> {
        self.resources.iter()
    }

    pub(super) fn last_name(&self) -> &str {
        self.resources.last().map_or("", |last| &last.name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Resource> {
        let at = self
            .resources
            .binary_search_by(|resource| resource.name.as_ref().cmp(name))
            .ok()?;
        self.resources.get(at)
    }

    /// The resources as they stand in a response: written by the first stream that sends them, shared by all others.
    pub(crate) fn encoded(&self, variant: Variant, type_url: &TypeUrl) -> Bytes {
        let cell = match variant {
            Variant::Delta => &self.delta,
            Variant::Sotw => &self.sotw,
        };
        let write = || {
            let mut out = BytesMut::with_capacity(encode::size(&self.resources, variant, type_url));
            encode::resources(&self.resources, variant, type_url, &mut out);
            out.freeze()
        };
        cell.get_or_init(write).clone()
    }
}

/// Collects runs in order of names.
#[derive(Debug, Default)]
pub(super) struct Runs {
    chunks: Vec<Arc<Chunk>>,
    open: Vec<Resource>,
    weight: usize,
}

impl Runs {
    pub(super) fn push(&mut self, resource: Resource) {
        self.weight += resource.weight();
        self.open.push(resource);
        if self.weight >= BYTES || self.open.len() >= RESOURCES {
            self.close();
        }
    }

    /// Takes a whole run as it is, or joins it with a short one before it.
    pub(super) fn push_chunk(&mut self, chunk: &Arc<Chunk>) {
        if self.open.is_empty() || self.open.len() >= FEW {
            self.close();
            self.chunks.push(chunk.clone());
        } else {
            chunk.iter().cloned().for_each(|each| self.push(each));
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let open = std::mem::take(&mut self.open);
            self.chunks.push(Arc::new(Chunk::new(open)));
            self.weight = 0;
        }
    }

    pub(super) fn finish(mut self) -> Vec<Arc<Chunk>> {
        self.close();
        self.chunks
    }
}
