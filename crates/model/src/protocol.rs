//! The protocol of a port, from its name, its `appProtocol` or the `protocol` of an Istio port (Istio, "Protocol Selection").

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1, perhaps with an upgrade.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC.
    Grpc,
    /// gRPC-Web over HTTP/1.1.
    GrpcWeb,
    /// HTTP over TLS, opaque unless a gateway ends the TLS.
    Https,
    /// TLS of unknown content, routed by SNI.
    Tls,
    /// Bytes.
    Tcp,
    /// MongoDB, carried as bytes.
    Mongo,
    /// MySQL, carried as bytes.
    MySql,
    /// Redis, carried as bytes.
    Redis,
    /// Datagrams, which Envoy does not carry here.
    Udp,
    /// A forward proxy's port: absolute URLs of any service.
    HttpProxy,
    /// Not declared: found out from the first bytes.
    Auto,
}

impl Protocol {
    /// Reads Istio's spelling (`HTTP`, `http2`, `GRPC-Web`); anything unknown is [`Protocol::Auto`].
    pub fn parse(name: &str) -> Protocol {
        match name.to_ascii_lowercase().as_str() {
            "http" | "http1" => Protocol::Http,
            "http2" => Protocol::Http2,
            "grpc" => Protocol::Grpc,
            "grpc-web" | "grpcweb" => Protocol::GrpcWeb,
            "https" => Protocol::Https,
            "tls" => Protocol::Tls,
            "tcp" => Protocol::Tcp,
            "mongo" => Protocol::Mongo,
            "mysql" => Protocol::MySql,
            "redis" => Protocol::Redis,
            "udp" => Protocol::Udp,
            "http_proxy" => Protocol::HttpProxy,
            _ => Protocol::Auto,
        }
    }

    /// The protocol of a Kubernetes Service's port. `appProtocol` wins over the name's prefix before the first `-`; ports
    /// whose servers speak first are taken as TCP when nothing else is said.
    pub fn of_service_port(transport: &str, app_protocol: Option<&str>, name: &str, number: u16) -> Protocol {
        if transport.eq_ignore_ascii_case("udp") {
            return Protocol::Udp;
        }
        let declared = match app_protocol.map(str::to_ascii_lowercase).as_deref() {
            Some("kubernetes.io/h2c") => "http2".to_owned(),
            Some("kubernetes.io/ws") => "http".to_owned(),
            Some("kubernetes.io/wss") => "https".to_owned(),
            Some(declared) => declared.to_owned(),
            None => name.to_ascii_lowercase(),
        };
        // Istio looks at no more than these letters.
        if declared.starts_with("grpc-web") {
            return Protocol::GrpcWeb;
        }
        match Protocol::parse(declared.split('-').next().unwrap_or_default()) {
            Protocol::Auto if SERVER_FIRST.contains(&number) => Protocol::Tcp,
            protocol => protocol,
        }
    }

    /// Whether requests of this protocol are routed as HTTP.
    pub fn is_http(self) -> bool {
        matches!(
            self,
            Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb | Protocol::HttpProxy
        )
    }

    /// Whether an upstream of this protocol is spoken to in HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Protocol::Http2 | Protocol::Grpc)
    }

    /// Whether connections are carried as bytes (perhaps TLS).
    pub fn is_tcp(self) -> bool {
        matches!(
            self,
            Protocol::Tcp
                | Protocol::Https
                | Protocol::Tls
                | Protocol::Mongo
                | Protocol::MySql
                | Protocol::Redis
        )
    }

    /// Whether bytes are TLS, so that SNI can be read.
    pub fn is_tls(self) -> bool {
        matches!(self, Protocol::Https | Protocol::Tls)
    }

    /// What a TLS-terminating listener sees inside.
    pub fn after_tls_termination(self) -> Protocol {
        match self {
            Protocol::Https => Protocol::Http,
            Protocol::Tls => Protocol::Tcp,
            other => other,
        }
    }
}

/// SMTP, DNS, MySQL, MongoDB.
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_app_protocols() {
        for (transport, app, name, number, expected) in [
            ("TCP", None, "http", 80, Protocol::Http),
            ("TCP", None, "http-admin", 80, Protocol::Http),
            ("TCP", None, "HTTP2-x", 80, Protocol::Http2),
            ("TCP", None, "grpc-web-x", 80, Protocol::GrpcWeb),
            ("TCP", None, "grpc-webx", 80, Protocol::GrpcWeb),
            ("TCP", None, "httpx", 80, Protocol::Auto),
            ("TCP", None, "", 3306, Protocol::Tcp),
            ("TCP", Some("grpc"), "http", 80, Protocol::Grpc),
            ("TCP", Some("kubernetes.io/h2c"), "http", 80, Protocol::Http2),
            ("UDP", None, "http", 80, Protocol::Udp),
            ("TCP", None, "tls-x", 443, Protocol::Tls),
        ] {
            assert_eq!(
                Protocol::of_service_port(transport, app, name, number),
                expected,
                "{name}"
            );
        }
    }
}
