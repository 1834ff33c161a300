//! What is sent: one connection, and on it one request if it speaks HTTP.

use std::net::{IpAddr, Ipv4Addr};

/// What the connection carries, inside TLS if there is TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2, gRPC included.
    Http2,
    /// Other bytes.
    Tcp,
}

/// How the client secures the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// Not at all.
    #[default]
    Plaintext,
    /// TLS without a certificate of its own.
    Tls,
    /// Mutual TLS: it presents a certificate and expects the server's to come from the same issuer, as proxies of a mesh do.
    Mtls,
}

/// How the connection reaches the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Entry {
    /// To the address that it names: a listener bound there, or, where the proxy has a `virtualOutbound` listener, by
    /// redirection of outgoing connections.
    #[default]
    Direct,
    /// By redirection of incoming connections, to `virtualInbound`.
    Inbound,
}

/// One connection and the request on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// How it reaches the proxy.
    pub entry: Entry,
    /// Address that the client connects to.
    pub address: IpAddr,
    /// Port that the client connects to.
    pub port: u16,
    /// The client's address.
    pub source: IpAddr,
    /// What is spoken.
    pub protocol: Protocol,
    /// How it is secured.
    pub tls: Tls,
    /// Protocol offered in the TLS handshake; by default what clients of `protocol` offer.
    pub alpn: Option<String>,
    /// Name asked for in the TLS handshake; by default the host, for TLS that is not mutual.
    pub sni: Option<String>,
    /// SDS name of the server's certificate that a client of mutual TLS accepts; the mesh's is `default`.
    pub server_certificate: String,
    /// The client's identity under mutual TLS, a SPIFFE ID.
    pub principal: Option<String>,
    /// HTTP method.
    pub method: String,
    /// Path with its query.
    pub path: String,
    /// Host, with a port if the client sends one; empty for none.
    pub host: String,
    /// Other headers, in order; names in any case.
    pub headers: Vec<(String, String)>,
    /// Claims of a token that the proxy has verified; none for a request without token.
    pub claims: Option<serde_json::Value>,
    /// The number by which Envoy chooses among weighted clusters and decides percentages; without it, what is left to chance
    /// stays open.
    pub random: Option<u64>,
}

impl Default for Call {
    fn default() -> Call {
        Call {
            entry: Entry::Direct,
            // An address that no service has.
            address: Ipv4Addr::new(1, 3, 3, 7).into(),
            port: 80,
            source: Ipv4Addr::LOCALHOST.into(),
            protocol: Protocol::Http,
            tls: Tls::Plaintext,
            alpn: None,
            sni: None,
            server_certificate: "default".to_owned(),
            principal: None,
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: String::new(),
            headers: Vec::new(),
            claims: None,
            random: None,
        }
    }
}

impl Call {
    /// The name asked for in the TLS handshake, lower case; empty for none.
    pub(crate) fn server_name(&self) -> String {
        let own = self.sni.clone();
        let host = || (self.tls == Tls::Tls).then(|| without_port(&self.host).to_owned());
        own.or_else(host).unwrap_or_default().to_ascii_lowercase()
    }

    /// The protocol offered in the TLS handshake (for clients of the mesh Istio's names).
    pub(crate) fn offered(&self) -> Option<String> {
        if self.alpn.is_some() {
            return self.alpn.clone().filter(|alpn| !alpn.is_empty());
        }
        let name = match (self.tls, self.protocol) {
            (Tls::Plaintext, _) | (Tls::Tls, Protocol::Tcp) => return None,
            (Tls::Tls, Protocol::Http) => "http/1.1",
            (Tls::Tls, Protocol::Http2) => "h2",
            (Tls::Mtls, Protocol::Http) => "istio-http/1.1",
            (Tls::Mtls, Protocol::Http2) => "istio-h2",
            (Tls::Mtls, Protocol::Tcp) => "istio",
        };
        Some(name.to_owned())
    }

    /// The path without query and fragment.
    pub(crate) fn bare_path(&self) -> &str {
        self.path.split(['?', '#']).next().unwrap_or_default()
    }

    /// The query's parameters, as they are sent.
    pub(crate) fn query(&self) -> impl Iterator<Item = (&str, &str)> {
        let whole = self.path.split('#').next().unwrap_or_default();
        let query = whole.split_once('?').map(|(_, query)| query).unwrap_or_default();
        query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// A header's values, several joined by commas, as Envoy compares them.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let lines = self.lines(name);
        (!lines.is_empty()).then(|| lines.join(","))
    }

    /// A header's values, one for each line that it is sent in.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let scheme = || {
            if self.tls == Tls::Plaintext {
                "http"
            } else {
                "https"
            }
            .to_owned()
        };
        match name {
            ":method" => return vec![self.method.clone()],
            ":path" => return vec![self.path.clone()],
            ":authority" | "host" if self.host.is_empty() => return Vec::new(),
            ":authority" | "host" => return vec![self.host.clone()],
            ":scheme" | "x-forwarded-proto" => return vec![scheme()],
            _ => {}
        }
        let own = self
            .headers
            .iter()
            .filter(|(own, _)| own.eq_ignore_ascii_case(name));
        own.map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn is_http(&self) -> bool {
        self.protocol != Protocol::Tcp
    }
}

/// A host without the port behind it; an IPv6 address keeps its brackets.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty() => {
            let bare_ipv6 = name.contains(':') && !name.ends_with(']');
            if bare_ipv6 { host } else { name }
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_taken_off_hosts_alone() {
        let cases = [
            ("a.b:80", "a.b"),
            ("a.b", "a.b"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            ("a:", "a:"),
            ("a:b", "a:b"),
        ];
        for (host, expected) in cases {
            assert_eq!(without_port(host), expected, "{host}");
        }
    }

    #[test]
    fn clients_offer_what_their_protocol_does() {
        let offered = |tls, protocol| {
            Call {
                tls,
                protocol,
                ..Call::default()
            }
            .offered()
        };
        assert_eq!(offered(Tls::Plaintext, Protocol::Http), None);
        assert_eq!(offered(Tls::Tls, Protocol::Http2).as_deref(), Some("h2"));
        assert_eq!(offered(Tls::Mtls, Protocol::Tcp).as_deref(), Some("istio"));
    }
}
