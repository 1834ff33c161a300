//! The request of `argosy simulate`, as flags say it.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail};
use envoygen::Interception;
use http::Uri;
use simulate::{Call, Entry, Protocol, Tls};

use crate::offline::{Mesh, Tables};

#[derive(clap::Args)]
pub(crate) struct Request {
    /// What is sent: "[METHOD] URL", with http, https, tcp or tls as scheme
    #[arg(long, value_name = "REQUEST")]
    request: String,
    /// A header, NAME:VALUE; may be repeated
    #[arg(long, short = 'H', value_name = "HEADER")]
    header: Vec<String>,
    /// It arrives at the proxy for its application, instead of being sent by it
    #[arg(long)]
    inbound: bool,
    /// Address that the client connects to; by default the service's, or the proxy's own where nothing is redirected
    #[arg(long, value_name = "IP")]
    to: Option<IpAddr>,
    /// Address of the client
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,
    /// HTTP/2 instead of HTTP/1.1
    #[arg(long)]
    http2: bool,
    /// Mutual TLS of the mesh; with the client's SPIFFE ID
    #[arg(long, value_name = "SPIFFE_ID")]
    mtls: Option<String>,
    /// Name in the TLS handshake, if not the URL's host
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// Protocol offered in the TLS handshake
    #[arg(long, value_name = "NAME")]
    alpn: Option<String>,
    /// Claims of a valid token that the request carries, a JSON object
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,
    /// Number that decides among weights and percentages; without it they stay open
    #[arg(long, value_name = "NUMBER")]
    random: Option<u64>,
}

impl Request {
    /// The call to walk.
    pub(crate) fn call(&self, mesh: &Mesh, tables: &Tables) -> Result<Call> {
        let (method, url) = match self.request.trim().split_once(' ') {
            Some((method, url)) => (method, url.trim()),
            None => ("GET", self.request.trim()),
        };
        let uri: Uri = url
            .parse()
            .with_context(|| format!("--request: {url:?} is not a URL"))?;
        let scheme = uri.scheme_str().unwrap_or("http");
        let (protocol, tls, port) = match scheme {
            "http" => (self.http(), Tls::Plaintext, 80),
            "https" => (self.http(), Tls::Tls, 443),
            "tcp" => (Protocol::Tcp, Tls::Plaintext, 0),
            "tls" => (Protocol::Tcp, Tls::Tls, 443),
            other => bail!("--request: scheme {other:?} is none of http, https, tcp, tls"),
        };
        let host = uri
            .host()
            .with_context(|| format!("--request: {url:?} names no host"))?;
        let port = uri.port_u16().unwrap_or(port);
        if port == 0 {
            bail!("--request: {url:?} names no port");
        }
        let headers = self.headers()?;
        let given = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let default = Call::default();
        let redirected = tables.interception != Interception::None && !tables.is_router();
        Ok(Call {
            entry: match self.inbound && redirected {
                true => Entry::Inbound,
                false => Entry::Direct,
            },
            address: self.address(mesh, tables, host),
            port,
            source: self.from.unwrap_or(default.source),
            protocol,
            tls: if self.mtls.is_some() { Tls::Mtls } else { tls },
            alpn: self.alpn.clone(),
            sni: self.sni.clone(),
            principal: self.mtls.clone(),
            method: method.to_ascii_uppercase(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            host: given.map_or_else(|| authority(&uri), |(_, value)| value.clone()),
            headers,
            claims: self.claims()?,
            random: self.random,
            ..default
        })
    }

    fn http(&self) -> Protocol {
        match self.http2 {
            true => Protocol::Http2,
            false => Protocol::Http,
        }
    }

    fn headers(&self) -> Result<Vec<(String, String)>> {
        let split = |header: &String| {
            let (name, value) = header
                .split_once(':')
                .with_context(|| format!("--header {header:?} is not NAME:VALUE"))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        };
        self.header.iter().map(split).collect()
    }

    fn claims(&self) -> Result<Option<serde_json::Value>> {
        let read = |text: &String| {
            serde_json::from_str(text).with_context(|| format!("--claims {text:?} is not JSON"))
        };
        self.claims.as_ref().map(read).transpose()
    }

    /// Where the client connects to: what it says; the URL's own address; the proxy where its listeners are bound; else the
    /// service that the proxy means by the host.
    fn address(&self, mesh: &Mesh, tables: &Tables, host: &str) -> IpAddr {
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        if let Some(address) = self.to.or(literal) {
            return address;
        }
        let own = tables.proxy.ip;
        let bound = tables.is_router() || tables.interception == Interception::None || self.inbound;
        if bound {
            return own;
        }
        let services = mesh.snapshot().services();
        let namespace = &tables.proxy.namespace;
        let name = host.to_ascii_lowercase();
        let names = [
            name.clone(),
            format!("{name}.svc.{}", model::DNS_DOMAIN),
            format!("{name}.{}", model::DNS_DOMAIN),
            format!("{name}.{namespace}.svc.{}", model::DNS_DOMAIN),
        ];
        let found = names.iter().find_map(|name| services.seen_from(name, namespace));
        let mut addresses = found.into_iter().flat_map(|service| &service.addresses);
        // An address that no service has: the connection is told apart by port and host alone.
        addresses
            .find_map(|address| address.parse().ok())
            .unwrap_or(Ipv4Addr::new(1, 3, 3, 7).into())
    }
}

/// The `Host` header that a client sends for a URL.
fn authority(uri: &Uri) -> String {
    let authority = uri
        .authority()
        .map(|authority| authority.as_str())
        .unwrap_or_default();
    let default = match uri.scheme_str() {
        Some("https") => ":443",
        _ => ":80",
    };
    authority.strip_suffix(default).unwrap_or(authority).to_owned()
}
