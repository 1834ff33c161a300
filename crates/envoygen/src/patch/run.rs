//! Applies a proxy's patches to its resources. What patches cannot change stays as it was.

use std::collections::BTreeSet;

use config::networking::{ApplyTo, PatchContext, PatchOperation};
use config::{Finding, ObjectKey};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use prost::{Message, Name};
use prost_reflect::DynamicMessage;

use super::compile::Compiled;
use super::{PatchId, Patches};
use crate::output::{Output, Resource, type_url};
use crate::reflect::{self, Lists};

/// Where the resources are from, as far as conditions ask.
pub(crate) struct Place<'a> {
    pub(crate) context: PatchContext,
    /// A gateway's ports: (service port, its own port).
    pub(crate) gateway_ports: &'a [(u16, u16)],
    /// A sidecar's inbound ports: (service's host, service port, its own port).
    pub(crate) inbound_ports: &'a [(String, u16, u16)],
}

impl Place<'_> {
    pub(super) fn is_gateway(&self) -> bool {
        self.context == PatchContext::Gateway
    }

    /// Whether a gateway's own port is meant by `wanted`: the service's port if a service leads to it.
    pub(super) fn has_port(&self, own: u16, wanted: u32) -> bool {
        let mut services = self
            .gateway_ports
            .iter()
            .filter(|(_, target)| *target == own)
            .peekable();
        match services.peek() {
            None => u32::from(own) == wanted,
            Some(_) => services.any(|(port, _)| u32::from(*port) == wanted),
        }
    }

    fn hosts(&self, port: u16) -> Vec<String> {
        let own = self.inbound_ports.iter().filter(|(_, _, target)| *target == port);
        own.map(|(host, _, _)| host.clone()).collect()
    }
}

/// A proxy's patches at work.
pub(super) struct Run<'a> {
    patches: Vec<&'a Compiled>,
    pub(super) place: &'a Place<'a>,
    /// The objects whose patches were applied to the resource at hand.
    applied: BTreeSet<ObjectKey>,
    pub(super) findings: Vec<Finding>,
}

/// Applies patches to all resources of a direction, and adds what they add.
pub(crate) fn apply(patches: &Patches, ids: &[PatchId], place: &Place<'_>, out: &mut Output) {
    if ids.is_empty() {
        return;
    }
    let mut run = Run {
        patches: patches.get(ids),
        place,
        applied: BTreeSet::new(),
        findings: Vec::new(),
    };
    let resources = std::mem::take(&mut out.resources);
    out.resources = resources
        .into_iter()
        .filter_map(|resource| run.resource(resource))
        .collect();
    run.additions(out);
    let known: BTreeSet<String> = out.findings.iter().map(ToString::to_string).collect();
    let mut said = known;
    out.findings.extend(
        run.findings
            .into_iter()
            .filter(|finding| said.insert(finding.to_string())),
    );
}

impl<'a> Run<'a> {
    /// The patches of one kind, in order.
    pub(super) fn of(&self, apply_to: ApplyTo) -> Vec<&'a Compiled> {
        self.patches
            .iter()
            .copied()
            .filter(|patch| patch.apply_to == apply_to)
            .collect()
    }

    /// The patches of one kind of filters: those that merge behind all others, so that they find what those add (Istio).
    pub(super) fn of_filters(&self, apply_to: ApplyTo) -> Vec<&'a Compiled> {
        let mut patches = self.of(apply_to);
        patches.sort_by_key(|patch| patch.merges().is_some());
        patches
    }

    pub(super) fn any_of(&self, kinds: &[ApplyTo]) -> bool {
        self.patches.iter().any(|patch| kinds.contains(&patch.apply_to))
    }

    pub(super) fn applied(&mut self, patch: &Compiled) {
        self.applied.insert(patch.id.object.clone());
    }

    pub(super) fn report(&mut self, patch: &Compiled, message: impl Into<String>) {
        self.findings.push(patch.finding(message));
    }

    /// The resource with its patches; `None` if one removes it.
    fn resource(&mut self, resource: Resource) -> Option<Resource> {
        match resource.type_url {
            type_url::CLUSTER if self.any_of(&[ApplyTo::Cluster]) => self.cluster(resource),
            type_url::LISTENER
                if self.any_of(&[
                    ApplyTo::Listener,
                    ApplyTo::FilterChain,
                    ApplyTo::NetworkFilter,
                    ApplyTo::HttpFilter,
                    ApplyTo::ListenerFilter,
                ]) || (self.place.context == PatchContext::SidecarInbound && self.patches_routes()) =>
            {
                self.patched(resource, |run, listener: Listener| run.listener(listener))
            }
            type_url::ROUTES if self.patches_routes() => self
                .patched(resource, |run, routes: RouteConfiguration| {
                    Some(run.routes(routes))
                }),
            _ => Some(resource),
        }
    }

    pub(super) fn patches_routes(&self) -> bool {
        self.any_of(&[
            ApplyTo::RouteConfiguration,
            ApplyTo::VirtualHost,
            ApplyTo::HttpRoute,
        ])
    }

    fn cluster(&mut self, resource: Resource) -> Option<Resource> {
        let place = self.place;
        let mut patches = self.of(ApplyTo::Cluster);
        patches.retain(|patch| {
            patch.operation != PatchOperation::Add
                && patch.meets_cluster(&resource.name, |port| place.hosts(port))
        });
        if patches.is_empty() {
            return Some(resource);
        }
        self.patched(resource, |run, cluster: Cluster| {
            run.patch_cluster(cluster, &patches)
        })
    }

    /// Decodes a resource, changes it, and encodes it anew if it is not the same.
    fn patched<M: Message + Name + Default + Clone + PartialEq>(
        &mut self,
        mut resource: Resource,
        change: impl FnOnce(&mut Self, M) -> Option<M>,
    ) -> Option<Resource> {
        let (Ok(before), Ok(of)) = (
            M::decode(resource.bytes.clone()),
            reflect::descriptor(&M::full_name()),
        ) else {
            return Some(resource);
        };
        self.applied.clear();
        let after = change(self, before.clone())?;
        if after != before {
            resource.bytes = reflect::canonical(&after.encode_to_vec(), &of).into();
            resource.origins.extend(std::mem::take(&mut self.applied));
            resource.origins.sort();
            resource.origins.dedup();
        }
        Some(resource)
    }

    /// Clusters, listeners and extension configurations that patches add. Those without a direction are added once, to what
    /// the proxy sends (Istio).
    fn additions(&mut self, out: &mut Output) {
        for patch in self.patches.clone() {
            let twice = patch.condition.context == PatchContext::Any
                && self.place.context == PatchContext::SidecarInbound;
            if patch.operation != PatchOperation::Add || twice {
                continue;
            }
            let added = match patch.apply_to {
                ApplyTo::Cluster => patch.typed().map(|c: Cluster| (type_url::CLUSTER, c.name)),
                ApplyTo::Listener => patch.typed().map(|l: Listener| (type_url::LISTENER, l.name)),
                ApplyTo::ExtensionConfig => patch
                    .typed()
                    .map(|e: TypedExtensionConfig| (type_url::EXTENSION, e.name)),
                _ => None,
            };
            let (Some((type_url, name)), Some(value)) = (added, &patch.value) else {
                continue;
            };
            if name.is_empty() {
                self.report(patch, "what is added needs a name");
            } else if out.get(type_url, &name).is_some() {
                self.report(
                    patch,
                    format!("{name} is there already, so it is not added; use MERGE to change it"),
                );
            } else {
                let of = prost_reflect::ReflectMessage::descriptor(value);
                out.resources.push(Resource {
                    type_url,
                    name,
                    bytes: reflect::canonical(&value.encode_to_vec(), &of).into(),
                    origins: vec![patch.id.object.clone()],
                });
            }
        }
    }
}

/// Merges a patch's value into a message; `None` if it is of another type.
pub(super) fn merge<M: Message + Name + Default>(
    target: &M,
    value: &DynamicMessage,
    lists: Lists,
) -> Option<M> {
    let mut dynamic = reflect::dynamic(target)?;
    reflect::merge(&mut dynamic, value, lists);
    reflect::typed(&dynamic)
}
