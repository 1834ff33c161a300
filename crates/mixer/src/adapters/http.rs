//! The HTTP client of adapters: no redirects, no proxies of the environment, no link-local addresses (where clouds' machines
//! are told their credentials), bounded in time and size.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use tokio::net::lookup_host;

use super::Fault;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// A client whose calls end within `timeout`.
pub(super) fn client(timeout: Duration) -> Result<Client, String> {
    let client = Client::builder()
        // A redirect could lead to an address that nobody configured.
        .redirect(Policy::none())
        .no_proxy()
        .dns_resolver(Arc::new(Resolver))
        .connect_timeout(CONNECT.min(timeout))
        .timeout(timeout)
        .user_agent("argosy-mixer")
        .build();
    client.map_err(|error| format!("no HTTP client: {error}"))
}

/// A handler's URL, if it may be called. Names are looked up, and looked at, with each connection.
pub(super) fn url(given: &str) -> Result<Url, String> {
    let url = Url::parse(given).map_err(|error| format!("{given}: {error}"))?;
    // As the client will understand it: 0xa9fea9fe is an address too.
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    match host.parse().is_ok_and(is_link_local) {
        true => Err(format!("{given}: link-local addresses are not called")),
        false => Ok(url),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The system's look-up without link-local addresses.
#[derive(Debug)]
struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = lookup_host((name.as_str(), 0)).await?;
            let usable: Vec<SocketAddr> = found.filter(|address| !is_link_local(address.ip())).collect();
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

/// An answer of 2xx; anything else as a fault.
pub(super) fn accepted(response: Response) -> Result<Response, Fault> {
    let status = response.status();
    match status.as_u16() {
        200..300 => Ok(response),
        408 | 429 | 500.. => Err(Fault::Away(format!("status {status}"))),
        300..400 => Err(Fault::Refused(format!(
            "status {status}; redirects are not followed"
        ))),
        _ => Err(Fault::Refused(format!("status {status}"))),
    }
}

/// The body, if it is no longer than `most` bytes.
pub(super) async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| away(&error))? {
        if body.len() + chunk.len() > most {
            return Err(Fault::Refused(format!("the body is longer than {most} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A failed call, with its causes: reqwest's own text names none.
pub(super) fn away(error: &reqwest::Error) -> Fault {
    Fault::Away(runtime::context::describe(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_are_not_called_however_they_are_written() {
        for given in [
            "http://169.254.169.254/latest",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fe80::1]/",
        ] {
            assert!(url(given).is_err(), "{given}");
        }
        assert!(url("http://127.0.0.1:8080/list").is_ok());
    }
}
