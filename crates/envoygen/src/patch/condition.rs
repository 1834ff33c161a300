//! Whether what is generated meets a patch's conditions (Istio, "EnvoyFilter.EnvoyConfigObjectMatch").

use config::networking::{ApplyTo, FilterMatch, ListenerMatch, RouteAction, RouteConfigurationMatch};
use envoy_types::pb::envoy::config::core::v3::{address::Address, socket_address::PortSpecifier};
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};
use envoy_types::pb::envoy::config::route::v3::{Route, VirtualHost, route::Action};

use super::compile::Compiled;
use super::run::Place;
use crate::names;

impl Compiled {
    fn listener(&self) -> Option<&ListenerMatch> {
        self.condition.listener.as_ref()
    }

    fn routes(&self) -> Option<&RouteConfigurationMatch> {
        self.condition.route_configuration.as_ref()
    }

    /// The listener's name and port. The two listeners that connections are redirected to stand for many ports: there the port
    /// is a chain's.
    pub(super) fn meets_listener(&self, listener: &Listener) -> bool {
        let Some(wanted) = self.listener() else {
            return true;
        };
        if !wanted.name.is_empty() && wanted.name != listener.name {
            return false;
        }
        let many = self.apply_to != ApplyTo::Listener && is_virtual(listener);
        many || wanted.port_number == 0 || port(listener) == Some(wanted.port_number)
    }

    pub(super) fn meets_chain(&self, listener: &Listener, chain: &FilterChain) -> bool {
        let Some(wanted) = self.listener() else {
            return true;
        };
        let empty = Default::default();
        let own = chain.filter_chain_match.as_ref().unwrap_or(&empty);
        let own_port = own.destination_port.map(|port| port.value);
        if is_virtual(listener) && wanted.port_number > 0 && own_port != Some(wanted.port_number) {
            return false;
        }
        let Some(wanted) = &wanted.filter_chain else {
            return true;
        };
        let mut protocols = wanted
            .application_protocols
            .split(',')
            .filter(|protocol| !protocol.is_empty());
        (wanted.name.is_empty() || wanted.name == chain.name)
            && (wanted.sni.is_empty() || own.server_names.contains(&wanted.sni))
            && (wanted.transport_protocol.is_empty() || wanted.transport_protocol == own.transport_protocol)
            && protocols.all(|protocol| own.application_protocols.iter().any(|p| p == protocol))
            && (wanted.destination_port == 0 || own_port == Some(wanted.destination_port))
    }

    /// The listener filter that the patch names.
    pub(super) fn listener_filter(&self) -> Option<&str> {
        self.listener()
            .map(|l| l.listener_filter.as_str())
            .filter(|name| !name.is_empty())
    }

    fn filter(&self) -> Option<&FilterMatch> {
        self.listener()?.filter_chain.as_ref()?.filter.as_ref()
    }

    /// The network filter that the patch names.
    pub(super) fn network_filter(&self) -> Option<&str> {
        self.filter().map(|filter| filter.name.as_str())
    }

    /// The HTTP filter that the patch names.
    pub(super) fn http_filter(&self) -> Option<&str> {
        self.filter()?
            .sub_filter
            .as_ref()
            .map(|filter| filter.name.as_str())
    }

    /// A route configuration's name, port, port name and Gateway.
    pub(super) fn meets_routes(&self, name: &str, place: &Place<'_>) -> bool {
        let Some(wanted) = self.routes() else { return true };
        if !wanted.name.is_empty() && wanted.name != name {
            return false;
        }
        if !place.is_gateway() {
            return wanted.port_number == 0 || routes_port(name) == Some(wanted.port_number);
        }
        let (port, port_name, gateway) = gateway_routes(name);
        (wanted.port_name.is_empty() || wanted.port_name == port_name)
            && (wanted.gateway.is_empty() || wanted.gateway == gateway)
            && (wanted.port_number == 0 || port.is_some_and(|own| place.has_port(own, wanted.port_number)))
    }

    pub(super) fn meets_host(&self, host: &VirtualHost) -> bool {
        let Some(wanted) = self.routes().and_then(|routes| routes.vhost.as_ref()) else {
            return true;
        };
        (wanted.name.is_empty() || wanted.name == host.name)
            && (wanted.domain_name.is_empty() || host.domains.contains(&wanted.domain_name))
    }

    /// Whether the patch names a route.
    pub(super) fn names_route(&self) -> bool {
        let host = self.routes().and_then(|routes| routes.vhost.as_ref());
        host.is_some_and(|host| host.route.is_some())
    }

    pub(super) fn meets_route(&self, route: &Route) -> bool {
        let host = self.routes().and_then(|routes| routes.vhost.as_ref());
        let Some(wanted) = host.and_then(|host| host.route.as_ref()) else {
            return true;
        };
        let action = match (&route.action, wanted.action) {
            (_, RouteAction::Any) => true,
            (Some(Action::Route(_)), wanted) => wanted == RouteAction::Route,
            (Some(Action::Redirect(_)), wanted) => wanted == RouteAction::Redirect,
            (Some(Action::DirectResponse(_)), wanted) => wanted == RouteAction::DirectResponse,
            _ => true,
        };
        action && (wanted.name.is_empty() || wanted.name == route.name)
    }

    /// A cluster by name, or by the parts of its name. Inbound clusters' names have no host: `hosts` gives the services of
    /// a port.
    pub(super) fn meets_cluster(&self, name: &str, hosts: impl Fn(u16) -> Vec<String>) -> bool {
        let Some(wanted) = &self.condition.cluster else {
            return true;
        };
        if !wanted.name.is_empty() {
            return wanted.name == name;
        }
        let parts: Vec<&str> = name.split('|').collect();
        let [direction, port, subset, host] = parts.as_slice() else {
            return wanted.subset.is_empty() && wanted.service.is_empty() && wanted.port_number == 0;
        };
        let number: u16 = port.parse().unwrap_or_default();
        let is_host = |wanted: &String| match *direction {
            "inbound" => hosts(number).contains(wanted),
            _ => wanted == host,
        };
        (wanted.subset.is_empty() || wanted.subset == *subset)
            && (wanted.service.is_empty() || is_host(&wanted.service))
            && (wanted.port_number == 0 || wanted.port_number == u32::from(number))
    }
}

fn is_virtual(listener: &Listener) -> bool {
    listener.name == names::VIRTUAL_INBOUND || listener.name == names::VIRTUAL_OUTBOUND
}

fn port(listener: &Listener) -> Option<u32> {
    match listener.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => match socket.port_specifier.as_ref()? {
            PortSpecifier::PortValue(port) => Some(*port),
            PortSpecifier::NamedPort(_) => None,
        },
        _ => None,
    }
}

/// The port of a sidecar's routes: `PORT`, or `inbound|PORT||`.
fn routes_port(name: &str) -> Option<u32> {
    let port = name
        .strip_prefix("inbound|")
        .map_or(name, |rest| rest.split('|').next().unwrap_or_default());
    port.parse().ok()
}

/// Port, port name and `namespace/name` of the Gateway: `http.PORT`, `https.PORT.PORTNAME.GATEWAY.NAMESPACE`.
fn gateway_routes(name: &str) -> (Option<u16>, &str, String) {
    let parts: Vec<&str> = name.splitn(5, '.').collect();
    match parts.as_slice() {
        ["https", port, port_name, gateway, namespace] => {
            (port.parse().ok(), port_name, format!("{namespace}/{gateway}"))
        }
        ["http", port, ..] => (port.parse().ok(), "", String::new()),
        _ => (None, "", String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_route_configurations() {
        assert_eq!(
            (routes_port("7080"), routes_port("inbound|8080||")),
            (Some(7080), Some(8080))
        );
        assert_eq!(routes_port("http.80"), None);
        assert_eq!(gateway_routes("http.80.127.0.0.1"), (Some(80), "", String::new()));
        assert_eq!(
            gateway_routes("https.443.web.edge.shop"),
            (Some(443), "web", "shop/edge".to_owned())
        );
    }
}
