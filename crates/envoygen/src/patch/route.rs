//! Patches of route configurations, virtual hosts and routes.

use config::networking::{ApplyTo, PatchOperation};
use envoy_types::pb::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};

use super::list;
use super::run::{Run, merge};

impl Run<'_> {
    pub(super) fn routes(&mut self, mut routes: RouteConfiguration) -> RouteConfiguration {
        for patch in self.of(ApplyTo::RouteConfiguration) {
            if !patch.meets_routes(&routes.name, self.place) {
                continue;
            }
            if let Some(merged) = patch
                .merges()
                .zip(patch.value.as_ref())
                .and_then(|(l, v)| merge(&routes, v, l))
            {
                routes = merged;
                self.applied(patch);
            }
        }
        let hosts = std::mem::take(&mut routes.virtual_hosts);
        routes.virtual_hosts = hosts
            .into_iter()
            .filter_map(|host| self.host(&routes.name, host))
            .collect();
        for patch in self.of(ApplyTo::VirtualHost) {
            if patch.operation == PatchOperation::Add && patch.meets_routes(&routes.name, self.place) {
                routes.virtual_hosts.extend(patch.typed::<VirtualHost>());
                self.applied(patch);
            }
        }
        routes
    }

    /// A virtual host with its patches; `None` if one removes it.
    fn host(&mut self, routes: &str, mut host: VirtualHost) -> Option<VirtualHost> {
        for patch in self.of(ApplyTo::VirtualHost) {
            if !patch.meets_routes(routes, self.place) || !patch.meets_host(&host) {
                continue;
            }
            let changed = match patch.operation {
                PatchOperation::Remove => {
                    self.applied(patch);
                    return None;
                }
                PatchOperation::Replace => patch.typed(),
                _ => patch
                    .merges()
                    .zip(patch.value.as_ref())
                    .and_then(|(l, v)| merge(&host, v, l)),
            };
            if let Some(changed) = changed {
                host = changed;
                self.applied(patch);
            }
        }
        self.host_routes(routes, &mut host);
        Some(host)
    }

    /// Changes and removals first, then what is added (Istio).
    fn host_routes(&mut self, routes: &str, host: &mut VirtualHost) {
        let mut patches = self.of(ApplyTo::HttpRoute);
        patches.retain(|patch| patch.meets_routes(routes, self.place) && patch.meets_host(host));
        if patches.is_empty() {
            return;
        }
        let before = std::mem::take(&mut host.routes);
        for mut route in before {
            let mut kept = true;
            for patch in patches.iter().filter(|patch| kept_by(patch.operation)) {
                if !kept || !patch.meets_route(&route) {
                    continue;
                }
                let merged = patch
                    .merges()
                    .zip(patch.value.as_ref())
                    .and_then(|(l, v)| merge(&route, v, l));
                match merged {
                    Some(merged) => route = merged,
                    None => kept = patch.operation != PatchOperation::Remove,
                }
                self.applied(patch);
            }
            if kept {
                host.routes.push(route);
            }
        }
        for patch in patches.iter().filter(|patch| !kept_by(patch.operation)) {
            let named = |route: &Route| patch.meets_route(route);
            let named = patch.names_route().then_some(&named as &dyn Fn(&Route) -> bool);
            let missing = named.is_some_and(|named| !host.routes.iter().any(named));
            if patch.operation == PatchOperation::InsertFirst && missing {
                continue;
            }
            if list::apply(&mut host.routes, patch.operation, patch.typed(), named) {
                self.applied(patch);
            }
        }
    }
}

/// Whether an operation works on routes that are there.
fn kept_by(operation: PatchOperation) -> bool {
    use PatchOperation::{Merge, MergeAndReplaceList, Remove};
    matches!(operation, Merge | MergeAndReplaceList | Remove)
}
