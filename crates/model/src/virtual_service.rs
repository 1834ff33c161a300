//! VirtualServices with their names resolved: hosts in full, gateways as `namespace/name`. Which routes a proxy gets is
//! envoygen's matter.

use std::sync::Arc;

use config::networking::{self as api, Destination};
use config::{Object, ObjectKey};

use crate::export::ExportTo;
use crate::host;

/// The name of the gateway that stands for all sidecars.
pub const MESH_GATEWAY: &str = "mesh";

/// A VirtualService whose names are resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualService {
    /// The object.
    pub key: ObjectKey,
    /// When it was made, seconds since 1970.
    pub created: Option<i64>,
    /// Who sees it.
    pub export_to: ExportTo,
    /// The object and the delegates whose routes it took over.
    pub origins: Vec<ObjectKey>,
    /// The routes: hosts resolved, gateways `mesh` or `namespace/name` and never empty.
    pub spec: Arc<api::VirtualService>,
}

impl VirtualService {
    /// Resolves the names of a VirtualService object.
    pub fn new(
        object: &Object,
        spec: &api::VirtualService,
        default_export: &[String],
        domain: &str,
    ) -> VirtualService {
        let namespace = object.meta.namespace.as_str();
        let mut resolved = spec.clone();
        Resolver { namespace, domain }.virtual_service(&mut resolved);
        VirtualService {
            key: object.key(),
            created: object.meta.created,
            export_to: ExportTo::new(&spec.export_to, default_export, namespace),
            origins: vec![object.key()],
            spec: Arc::new(resolved),
        }
    }

    /// Whether its routes are for `gateway` (`mesh` or `namespace/name`).
    pub fn is_for(&self, gateway: &str) -> bool {
        self.spec.gateways.iter().any(|g| g == gateway)
    }
}

/// Resolves names relative to an object's namespace.
struct Resolver<'a> {
    namespace: &'a str,
    domain: &'a str,
}

impl Resolver<'_> {
    fn virtual_service(&self, spec: &mut api::VirtualService) {
        spec.hosts.iter_mut().for_each(|host| self.host(host));
        if spec.gateways.is_empty() {
            spec.gateways.push(MESH_GATEWAY.to_owned());
        }
        self.gateways(&mut spec.gateways);
        spec.http.iter_mut().for_each(|route| self.http_route(route));
        for route in &mut spec.tls {
            let gateways = route.r#match.iter_mut().map(|m| &mut m.gateways);
            self.l4_route(gateways, &mut route.route);
        }
        for route in &mut spec.tcp {
            let gateways = route.r#match.iter_mut().map(|m| &mut m.gateways);
            self.l4_route(gateways, &mut route.route);
        }
    }

    fn l4_route<'m>(
        &self,
        gateways: impl Iterator<Item = &'m mut Vec<String>>,
        destinations: &mut [api::RouteDestination],
    ) {
        gateways.for_each(|each| self.gateways(each));
        destinations
            .iter_mut()
            .for_each(|to| self.destination(to.destination.as_mut()));
    }

    fn http_route(&self, route: &mut api::HttpRoute) {
        route
            .r#match
            .iter_mut()
            .for_each(|m| self.gateways(&mut m.gateways));
        route
            .route
            .iter_mut()
            .for_each(|to| self.destination(to.destination.as_mut()));
        self.destination(route.mirror.as_mut());
        route
            .mirrors
            .iter_mut()
            .for_each(|mirror| self.destination(mirror.destination.as_mut()));
        if let Some(delegate) = &mut route.delegate
            && delegate.namespace.is_empty()
        {
            delegate.namespace = self.namespace.to_owned();
        }
    }

    fn destination(&self, destination: Option<&mut Destination>) {
        if let Some(destination) = destination {
            self.host(&mut destination.host);
        }
    }

    fn host(&self, host: &mut String) {
        *host = host::resolve(host, self.namespace, self.domain);
    }

    fn gateways(&self, gateways: &mut [String]) {
        for gateway in gateways {
            *gateway = resolve_gateway(gateway, self.namespace, self.domain);
        }
    }
}

/// The `namespace/name` of a gateway that a VirtualService names: `mesh` stays, `name` is in the object's namespace, and the
/// old form `name.namespace.svc.DOMAIN` is understood too (Istio does so).
fn resolve_gateway(gateway: &str, namespace: &str, domain: &str) -> String {
    if gateway == MESH_GATEWAY || gateway.contains('/') {
        return gateway.to_owned();
    }
    let short = gateway
        .strip_suffix(domain)
        .and_then(|g| g.strip_suffix(".svc."))
        .unwrap_or(gateway);
    match short.split_once('.') {
        Some((name, namespace)) => format!("{namespace}/{name}"),
        None => format!("{namespace}/{short}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_qualified() {
        for (given, expected) in [
            ("mesh", "mesh"),
            ("gw", "shop/gw"),
            ("edge/gw", "edge/gw"),
            ("gw.edge", "edge/gw"),
            ("gw.edge.svc.cluster.local", "edge/gw"),
        ] {
            assert_eq!(resolve_gateway(given, "shop", "cluster.local"), expected);
        }
    }
}
