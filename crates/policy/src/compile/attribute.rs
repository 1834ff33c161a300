//! What a proxy knows of each attribute: its value when the proxy is configured, where it reads it in a request, or nothing.

use std::collections::BTreeSet;

use expr::{Attributes, Value};

use super::matcher::{Fact, Matcher, Test};
use super::pattern;
use super::reason::Reason;
use crate::partial::Partial;
use crate::workload::{ServiceView, WorkloadView};

/// How a request's value is found.
pub(super) enum Known<'a> {
    /// It is never there.
    Absent,
    /// It is this for every request.
    Always(Value<'a>),
    /// The request's headers.
    Headers,
    /// A text of the request.
    Text(Subject),
    /// The peer's address.
    SourceIp,
    /// Whether the peer showed a certificate of the mesh.
    Mtls,
    /// `http` or `grpc`, by the content type.
    Protocol,
}

/// A text of a request, as attributes have it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Subject {
    /// A header.
    Header(String),
    /// A pseudo-header, which counts as absent when empty.
    Pseudo(&'static str),
    UrlPath,
    /// The peer's identity without `spiffe://`.
    Principal,
    /// Its namespace.
    Namespace,
    /// Its service account.
    Account,
}

/// What of an attribute can be said for one port of a workload.
pub(super) struct Environment<'a> {
    partial: Partial<'a>,
    tcp: bool,
    /// Whether the service depends on the request.
    several_services: bool,
    /// What HTTPAPISpecs say, by method and path.
    given: BTreeSet<String>,
}

impl<'a> Environment<'a> {
    /// `services` are those that a request at the port may mean; `None` stands for no service.
    pub(super) fn new(
        own: &'a WorkloadView,
        services: &[Option<&'a ServiceView>],
        port: Option<u16>,
        tcp: bool,
        given: BTreeSet<String>,
    ) -> Self {
        let only = match services {
            [only] => *only,
            _ => None,
        };
        Self {
            partial: Partial::inbound(own, only, port, tcp, given.clone()),
            tcp,
            several_services: services.len() > 1,
            given,
        }
    }

    /// Whether an HTTPAPISpec may give the attribute.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.given.contains(name)
    }

    pub(super) fn attribute<'s>(&'s self, name: &str) -> Result<Known<'s>, Reason> {
        let unknown = || Err(Reason::Attribute(name.to_owned()));
        if is_late(name) || self.tcp && name.starts_with("request.") {
            return Ok(Known::Absent);
        }
        if self.given.contains(name) {
            return Err(Reason::Specified(name.to_owned()));
        }
        let service = name == "api.service"
            || name.starts_with("destination.service") && name != "destination.serviceAccount";
        if service && self.several_services {
            return Err(Reason::Service(name.to_owned()));
        }
        Ok(match name {
            "request.headers" => Known::Headers,
            "request.path" => Known::Text(Subject::Pseudo(":path")),
            "request.method" => Known::Text(Subject::Pseudo(":method")),
            "request.host" => Known::Text(Subject::Pseudo(":authority")),
            "request.scheme" => Known::Text(Subject::Pseudo(":scheme")),
            "request.url_path" => Known::Text(Subject::UrlPath),
            "request.useragent" => Known::Text(Subject::Header("user-agent".to_owned())),
            "request.referer" => Known::Text(Subject::Header("referer".to_owned())),
            "source.ip" => Known::SourceIp,
            "source.principal" | "source.user" => Known::Text(Subject::Principal),
            "source.namespace" => Known::Text(Subject::Namespace),
            "source.serviceAccount" => Known::Text(Subject::Account),
            "connection.mtls" => Known::Mtls,
            "context.protocol" | "api.protocol" if !self.tcp => Known::Protocol,
            "api.protocol" => Known::Always(Value::from("tcp")),
            name if service || self.partial.is_known(name) => match self.partial.get(name) {
                Some(value) => Known::Always(value),
                None => Known::Absent,
            },
            _ => return unknown(),
        })
    }
}

/// What is known only after the decision; Mixer has nothing there either when it is asked.
fn is_late(name: &str) -> bool {
    const CONNECTION: [&str; 3] = ["connection.duration", "connection.event", "connection.id"];
    name.starts_with("response.")
        || name.starts_with("connection.received.")
        || name.starts_with("connection.sent.")
        || CONNECTION.contains(&name)
}

/// The beginning of every identity.
const SPIFFE: &str = "spiffe://";

impl Subject {
    /// A header by the name that an expression gives it; `None` if no request can have it.
    pub(super) fn header(name: &str) -> Result<Option<Self>, Reason> {
        let name = name.to_ascii_lowercase();
        let plain = name.strip_prefix(':').unwrap_or(&name);
        if plain.is_empty() || !plain.bytes().all(is_token) {
            return Ok(None);
        }
        // Proxies take `host` for `:authority`; Mixer is not sent it under this name. Names that would have to be escaped in
        // formats are nobody's.
        let usual = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name == "host" || !plain.bytes().all(usual) {
            return Err(Reason::Attribute(format!("request.headers[{name}]")));
        }
        Ok(Some(Self::Header(name)))
    }

    /// When it is there.
    pub(super) fn present(&self) -> Matcher {
        match self {
            Self::Header(name) => Matcher::Text(Fact::Header(name.clone()), Test::Present),
            Self::Pseudo(name) => Matcher::Text(Fact::Header((*name).to_owned()), Test::not_empty()),
            Self::UrlPath => Matcher::Text(Fact::UrlPath, Test::not_empty()),
            Self::Principal => peer(Test::Prefix(SPIFFE.to_owned())),
            Self::Namespace => self.part("[^/]+"),
            Self::Account => self.part("[^/]+"),
        }
    }

    /// When it is there and passes a test.
    pub(super) fn passes(&self, test: Test) -> Result<Matcher, Reason> {
        let fact = match self {
            Self::Header(name) => Fact::Header(name.clone()),
            Self::Pseudo(name) => Fact::Header((*name).to_owned()),
            Self::UrlPath => Fact::UrlPath,
            Self::Principal => return principal(test),
            Self::Namespace | Self::Account => return self.part_passes(&test),
        };
        let tested = Matcher::Text(fact, test);
        Ok(match self {
            // Where empty means absent.
            Self::Pseudo(_) | Self::UrlPath => tested.and(&self.present()),
            _ => tested,
        })
    }

    /// One part of the identity, which matches `inner`.
    fn part(&self, inner: &str) -> Matcher {
        peer(Test::Regex(match self {
            Self::Namespace => format!("{SPIFFE}[^/]*/ns/{inner}/sa/[^/]*"),
            _ => format!("{SPIFFE}[^/]*/ns/[^/]*/sa/{inner}"),
        }))
    }

    fn part_passes(&self, test: &Test) -> Result<Matcher, Reason> {
        let inner = match test {
            Test::Present => return Ok(self.present()),
            Test::Exact(text) | Test::Prefix(text) | Test::Suffix(text) if text.contains('/') => {
                return Ok(Matcher::Never);
            }
            Test::Exact(text) if text.is_empty() => return Ok(Matcher::Never),
            Test::Exact(text) => regex::escape(text),
            Test::Prefix(text) => format!("{}[^/]*", regex::escape(text)),
            Test::Suffix(text) => format!("[^/]*{}", regex::escape(text)),
            Test::Regex(text) => return Err(about_identities(text)),
        };
        Ok(self.part(&inner))
    }
}

fn principal(test: Test) -> Result<Matcher, Reason> {
    Ok(peer(match test {
        Test::Present => Test::Prefix(SPIFFE.to_owned()),
        Test::Exact(text) if text.is_empty() => return Ok(Matcher::Never),
        Test::Exact(text) => Test::Exact(format!("{SPIFFE}{text}")),
        Test::Prefix(text) => Test::Prefix(format!("{SPIFFE}{text}")),
        Test::Suffix(text) => Test::Regex(format!("{SPIFFE}(?s:.)*{}", regex::escape(&text))),
        Test::Regex(text) => return Err(about_identities(&text)),
    }))
}

/// Anchors would stand before the scheme, and slashes could be matched.
fn about_identities(pattern: &str) -> Reason {
    Reason::Pattern(pattern.to_owned(), "is about a part of an identity")
}

fn peer(test: Test) -> Matcher {
    Matcher::Text(Fact::PeerUri, test)
}

/// A character of header names (RFC 9110 5.6.2).
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// What texts pass whose lower case is `text`; `None` if none does.
pub(super) fn lower_case(text: &str) -> Result<Option<Test>, Reason> {
    if text.to_lowercase() != text {
        return Ok(None);
    }
    let pattern = pattern::lower_case(text).ok_or_else(|| Reason::Entry(text.to_owned()))?;
    Ok(Some(Test::Regex(pattern)))
}
