//! Addresses and prefixes as Envoy writes them.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::{Address, CidrRange, address, socket_address::PortSpecifier};
use ipnet::IpNet;

/// IP address and port of a socket; none for other addresses.
pub(crate) fn socket(address: Option<&Address>) -> Option<(IpAddr, u16)> {
    let Some(address::Address::SocketAddress(socket)) = address.and_then(|a| a.address.as_ref()) else {
        return None;
    };
    let port = match socket.port_specifier {
        Some(PortSpecifier::PortValue(port)) => u16::try_from(port).ok()?,
        _ => return None,
    };
    Some((socket.address.parse().ok()?, port))
}

/// An address for people.
pub(crate) fn show(address: Option<&Address>) -> String {
    match address.and_then(|a| a.address.as_ref()) {
        Some(address::Address::SocketAddress(socket)) => match socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) if socket.address.contains(':') => {
                format!("[{}]:{port}", socket.address)
            }
            Some(PortSpecifier::PortValue(port)) => format!("{}:{port}", socket.address),
            _ => socket.address.clone(),
        },
        Some(address::Address::Pipe(pipe)) => pipe.path.clone(),
        Some(address::Address::EnvoyInternalAddress(_)) => "internal listener".to_owned(),
        None => "no address".to_owned(),
    }
}

/// A prefix; none if it is not one.
pub(crate) fn prefix(range: &CidrRange) -> Option<IpNet> {
    let address: IpAddr = range.address_prefix.parse().ok()?;
    let length = range.prefix_len.as_ref().map_or(0, |length| length.value);
    IpNet::new(address, u8::try_from(length).ok()?).ok()
}

/// Whether an address lies in a range.
pub(crate) fn within(range: &CidrRange, address: IpAddr) -> bool {
    prefix(range).is_some_and(|prefix| prefix.contains(&address))
}
