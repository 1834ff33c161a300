//! Listening sockets, with errors that name the flag and the address.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something else listens there.
    #[error(
        "cannot listen on {address} ({flag}): the port is in use; stop what uses it or give another address with {flag}"
    )]
    InUse {
        /// The address that was asked for.
        address: SocketAddr,
        /// The flag that gave it.
        flag: &'static str,
    },
    /// The address is not this machine's.
    #[error("cannot listen on {address} ({flag}): this machine has no such address")]
    NoSuchAddress {
        /// The address that was asked for.
        address: SocketAddr,
        /// The flag that gave it.
        flag: &'static str,
    },
    /// A port below 1024 without the right to it.
    #[error("cannot listen on {address} ({flag}): permission denied; take a port of 1024 or above")]
    Denied {
        /// The address that was asked for.
        address: SocketAddr,
        /// The flag that gave it.
        flag: &'static str,
    },
    /// Anything else the system says.
    #[error("cannot listen on {address} ({flag}): {source}")]
    Other {
        /// The address that was asked for.
        address: SocketAddr,
        /// The flag that gave it.
        flag: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// Listens on `address`, which `flag` (such as `--listen`) gave. Never shares a port with another process.
///
/// # Errors
/// When the address cannot be had; the message names the flag, the address and what to do.
pub async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address, flag },
            io::ErrorKind::AddrNotAvailable => BindError::NoSuchAddress { address, flag },
            io::ErrorKind::PermissionDenied => BindError::Denied { address, flag },
            _ => BindError::Other {
                address,
                flag,
                source,
            },
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_flag() {
        let first = bind("--listen", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind("--listen", address).await.unwrap_err().to_string();
        assert!(
            error.contains(&address.to_string()) && error.contains("--listen"),
            "{error}"
        );
        assert!(error.contains("in use"), "{error}");
    }
}
