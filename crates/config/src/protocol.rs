//! Protocols of ports, by the names that Istio's API and Kubernetes' port names use.

/// A port's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Bytes.
    Tcp,
    /// Datagrams.
    Udp,
    /// HTTP/1.1, with upgrades.
    Http,
    /// A forward proxy's port.
    HttpProxy,
    /// HTTP/2 in clear text.
    Http2,
    /// HTTP inside TLS; what is inside is not seen unless TLS ends here.
    Https,
    /// gRPC.
    Grpc,
    /// gRPC-Web.
    GrpcWeb,
    /// TLS, its inside not known.
    Tls,
    /// MongoDB.
    Mongo,
    /// Redis.
    Redis,
    /// MySQL.
    Mysql,
}

impl Protocol {
    /// The names known, as people write them.
    pub(crate) const NAMES: &str =
        "HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP, UDP, MONGO, REDIS, MYSQL, HTTP_PROXY";

    /// The protocol of that name, in either case; none when the name is empty or not known.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "http" => Self::Http,
            "http_proxy" => Self::HttpProxy,
            "http2" => Self::Http2,
            "https" => Self::Https,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "tls" => Self::Tls,
            "mongo" => Self::Mongo,
            "redis" => Self::Redis,
            "mysql" => Self::Mysql,
            _ => return None,
        })
    }

    /// Whether requests can be seen.
    pub fn is_http(self) -> bool {
        matches!(
            self,
            Self::Http | Self::HttpProxy | Self::Http2 | Self::Grpc | Self::GrpcWeb
        )
    }

    /// Whether requests can be seen and are HTTP/2's.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Whether connections begin with TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// Whether only a stream of bytes is seen (TLS included).
    pub fn is_tcp(self) -> bool {
        self != Self::Udp && !self.is_http()
    }
}
