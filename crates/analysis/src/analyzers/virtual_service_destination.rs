//! Destinations of VirtualServices: hosts and ports that are not there, and subsets that an ingress passes by.

use std::collections::BTreeSet;

use config::networking::{Destination, VirtualService};
use config::{Kind, Object, Spec};
use model::MESH_GATEWAY;

use super::full_name;
use crate::analyzer::Check;
use crate::hosts::{self, Service};
use crate::term::Term;
use crate::{Analyzer, Code, Report, Set};

/// Whether destinations are services that the VirtualService's namespace sees, and name one of their ports.
pub(crate) const DESTINATIONS: Analyzer = Analyzer::new(
    "virtualservice.DestinationHostAnalyzer",
    "Destinations of VirtualServices: hosts and ports that are not there, subsets that an ingress passes by",
    &[
        Code::ReferencedResourceNotFound,
        Code::VirtualServiceDestinationPortSelectorRequired,
        Code::IngressRouteRulesNotAffected,
    ],
    &[Kind::ServiceEntry, Kind::VirtualService, Kind::Service],
    Check::Each(&[Kind::VirtualService], run),
);

/// The destination of a route that names none.
static NOWHERE: Destination = Destination {
    host: String::new(),
    subset: String::new(),
    port: None,
};

fn run(set: &Set<'_>, object: &Object, report: &mut Report) {
    let Spec::VirtualService(service) = &object.spec else {
        return;
    };
    for Place { path, mirror, to } in destinations(service) {
        match hosts::find(set, &to.host, &object.meta.namespace, &service.export_to) {
            Some(found) => check_port(object, path, to, found, report),
            None => {
                let what = if mirror {
                    "service for the mirror"
                } else {
                    "service for the host"
                };
                let path = path + ".host";
                report.say(Code::ReferencedResourceNotFound, object, path, &[&what, &to.host]);
            }
        }
    }
    passed_by(set, object, service, report);
}

/// A destination and where it is written.
pub(super) struct Place<'a> {
    pub(super) path: String,
    pub(super) mirror: bool,
    pub(super) to: &'a Destination,
}

/// All destinations of a VirtualService, mirrors last.
pub(super) fn destinations(service: &VirtualService) -> Vec<Place<'_>> {
    let tcp = routes("tcp", &service.tcp, |route| {
        route.route.iter().map(|to| to.destination.as_ref()).collect()
    });
    let tls = routes("tls", &service.tls, |route| {
        route.route.iter().map(|to| to.destination.as_ref()).collect()
    });
    let http = routes("http", &service.http, |route| {
        route.route.iter().map(|to| to.destination.as_ref()).collect()
    });
    let mirrors = service.http.iter().enumerate().flat_map(|(index, route)| {
        let one = route
            .mirror
            .as_ref()
            .map(|to| place(format!("spec.http[{index}].mirror"), true, to));
        let several = route
            .mirrors
            .iter()
            .enumerate()
            .filter_map(move |(number, mirror)| {
                let path = format!("spec.http[{index}].mirrors[{number}].destination");
                Some(place(path, true, mirror.destination.as_ref()?))
            });
        one.into_iter().chain(several)
    });
    tcp.chain(tls).chain(http).chain(mirrors).collect()
}

/// The destinations of one sort of routes.
fn routes<'a, R>(
    sort: &'static str,
    routes: &'a [R],
    of: impl Fn(&'a R) -> Vec<Option<&'a Destination>>,
) -> impl Iterator<Item = Place<'a>> {
    routes.iter().enumerate().flat_map(move |(index, route)| {
        let all = of(route).into_iter().enumerate();
        all.map(move |(number, to)| {
            let path = format!("spec.{sort}[{index}].route[{number}].destination");
            place(path, false, to.unwrap_or(&NOWHERE))
        })
    })
}

fn place(path: String, mirror: bool, to: &Destination) -> Place<'_> {
    Place { path, mirror, to }
}

fn check_port(object: &Object, path: String, to: &Destination, found: Service<'_>, report: &mut Report) {
    let ports = found.ports();
    match &to.port {
        None if ports.len() > 1 => {
            let ports: Vec<String> = ports.iter().map(u32::to_string).collect();
            let code = Code::VirtualServiceDestinationPortSelectorRequired;
            report.say(code, object, path, &[&to.host, &ports.join(", ")]);
        }
        Some(port) if !ports.contains(&port.number) => {
            let missing = format!("{}:{}", to.host, port.number);
            let path = path + ".port.number";
            report.say(
                Code::ReferencedResourceNotFound,
                object,
                path,
                &[&"host and port", &missing],
            );
        }
        _ => {}
    }
}

/// VirtualServices that send requests for a host to a subset of that host, by host.
fn subset_users<'a>(set: &Set<'a>, host: &str) -> impl Iterator<Item = &'a Object> {
    let found = set.found(Kind::VirtualService, Term::SubsetRoute(host));
    found.filter(move |object| match &object.spec {
        Spec::VirtualService(service) => {
            let routes = service.http.iter().flat_map(|route| &route.route);
            let mut to = routes.filter_map(|route| route.destination.as_ref());
            service.hosts.iter().any(|name| name == host)
                && to.any(|to| to.host == host && !to.subset.is_empty())
        }
        _ => false,
    })
}

/// Routes of a gateway to a whole host for which another VirtualService chooses a subset: that one is for sidecars, and the
/// gateway does not go through it.
fn passed_by(set: &Set<'_>, object: &Object, service: &VirtualService, report: &mut Report) {
    if !service.gateways.iter().any(|gateway| gateway != MESH_GATEWAY) {
        return;
    }
    let mut said = BTreeSet::new();
    for (index, route) in service.http.iter().enumerate() {
        for (number, to) in route.route.iter().enumerate() {
            let Some(to) = to.destination.as_ref().filter(|to| to.subset.is_empty()) else {
                continue;
            };
            for other in subset_users(set, &to.host) {
                if !said.insert(other.key()) {
                    continue;
                }
                let path = format!("spec.http[{index}].route[{number}].destination");
                let names = (full_name(other), full_name(object));
                let code = Code::IngressRouteRulesNotAffected;
                report.say(code, object, path, &[&names.0, &names.1]);
            }
        }
    }
}
