//! Addresses as Envoy writes them.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::{Address, address, socket_address::PortSpecifier};

/// An IP address with its port, where known. Pipes and internal addresses are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) ip: Option<IpAddr>,
    pub(crate) port: Option<u16>,
}

impl Endpoint {
    /// The address in a message.
    pub(crate) fn of(address: Option<&Address>) -> Self {
        let Some(address::Address::SocketAddress(socket)) = address.and_then(|a| a.address.as_ref()) else {
            return Self::default();
        };
        let port = match socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => u16::try_from(port).ok(),
            _ => None,
        };
        Self {
            ip: socket.address.parse().ok(),
            port,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::SocketAddr;

    use envoy_types::pb::envoy::config::core::v3::{Pipe, SocketAddress};

    use super::*;

    /// An address as Envoy sends it; the port is 0 where the text has none.
    pub(crate) fn address(text: &str) -> Address {
        let (ip, port) = match text.parse::<SocketAddr>() {
            Ok(address) => (address.ip().to_string(), address.port()),
            Err(_) => (text.to_owned(), 0),
        };
        let port_specifier = Some(PortSpecifier::PortValue(port.into()));
        let socket = SocketAddress {
            address: ip,
            port_specifier,
            ..SocketAddress::default()
        };
        Address {
            address: Some(address::Address::SocketAddress(socket)),
        }
    }

    /// The same, taken in.
    pub(crate) fn endpoint(text: &str) -> Endpoint {
        Endpoint::of(Some(&address(text)))
    }

    #[test]
    fn only_ip_addresses_are_taken() {
        let expected = Endpoint {
            ip: "127.1.0.21".parse().ok(),
            port: Some(8080),
        };
        assert_eq!(endpoint("127.1.0.21:8080"), expected);
        assert_eq!(endpoint("[::1]:80").ip, "::1".parse().ok());
        assert_eq!(endpoint("nonsense").ip, None);
        let pipe = Address {
            address: Some(address::Address::Pipe(Pipe {
                path: "/run/x".into(),
                mode: 0,
            })),
        };
        assert_eq!(Endpoint::of(Some(&pipe)), Endpoint::default());
        assert_eq!(Endpoint::of(None), Endpoint::default());
    }
}
