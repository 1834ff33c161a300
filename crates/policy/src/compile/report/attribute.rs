//! What a proxy knows of each attribute once a request to its workload has ended, as its access log entry tells Mixer: the same
//! value for the same request, or none. What the two have in different ways stays with Mixer.

use expr::Value;

use super::part::{Part, When, Worth};
use super::{Reason, Text};
use crate::cel::literal;
use crate::compile::attribute::{Environment, Known, Subject};
use crate::workload::WorkloadView;

/// Methods that access log entries have; others are none (`envoy.config.core.v3.RequestMethod`).
const METHODS: &str =
    "request.method in ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH']";

/// `http` or `grpc`, by the content type.
const PROTOCOL: &str = "('content-type' in request.headers && \
     request.headers['content-type'].startsWith('application/grpc') ? 'grpc' : 'http')";

/// Whether the client showed a certificate of the mesh.
const MUTUAL: &str = "(has(connection.uri_san_peer_certificate) && \
     connection.uri_san_peer_certificate.startsWith('spiffe://'))";

/// The path before a rewrite, as access log entries have it.
const PATH: &str = "('x-envoy-original-path' in request.headers && request.headers['x-envoy-original-path'] != '' ? \
     request.headers['x-envoy-original-path'] : request.path)";

/// A workload's finished HTTP requests.
pub(super) struct Ended<'a> {
    pub(super) own: &'a WorkloadView,
    pub(super) before: &'a Environment<'a>,
}

impl Ended<'_> {
    pub(super) fn attribute(&self, name: &str) -> Result<Part<'_>, Reason> {
        if self.before.is_given(name) {
            return Err(Reason::Specified(name.to_owned()));
        }
        let header = |name: &str| {
            let name = literal(name);
            Part::written(
                &format!("request.headers[{name}]"),
                &format!("{name} in request.headers"),
            )
        };
        Ok(match name {
            "request.method" => Part::under("request.method", METHODS),
            "request.path" => Part::written(PATH, "has(request.path)"),
            "request.host" => Part::written("request.host", "has(request.host)"),
            "request.scheme" => Part::written("request.scheme", "has(request.scheme)"),
            "request.useragent" => header("user-agent"),
            "request.referer" => header("referer"),
            "request.id" => header("x-request-id"),
            "request.size" => whole(Text::RequestBytes, "request.size"),
            "request.time" | "context.time" | "context.timestamp" => Part::always("request.time"),
            "response.code" => Part::under("response.code", "has(response.code)"),
            "response.size" => Part::always("response.size"),
            "response.duration" => Part::under("request.duration", "has(request.duration)"),
            "response.time" => Part::under("(request.time + request.duration)", "has(request.duration)"),
            "response.grpc_status" => grpc("grpc-status", false),
            "response.grpc_message" => grpc("grpc-message", true),
            // Without flags it is absent; together with `| "-"` it is what proxies write.
            "context.proxy_error_code" => {
                let flags = Worth::Whole(Text::Flags, "context.proxy_error_code");
                Part::new(flags, When::If("response.flags != 0".to_owned()))
            }
            "context.protocol" | "api.protocol" => Part::always(PROTOCOL),
            "connection.mtls" => Part::always(MUTUAL),
            "connection.requested_server_name" => Part::written(
                "connection.requested_server_name",
                "has(connection.requested_server_name)",
            ),
            "source.ip" => whole(Text::SourceIp, "source.ip"),
            "destination.principal" | "destination.user" => Part::known(Value::from(self.own.principal())),
            name if is_never(name) => Part::absent(),
            name if of_request(name) => return Err(Reason::Unlogged(name.to_owned())),
            name => match self.before.attribute(name)? {
                Known::Always(value) => Part::known(value),
                Known::Absent => Part::absent(),
                _ => return Err(Reason::Unlogged(name.to_owned())),
            },
        })
    }

    /// An entry of a map of headers, or of one that is known.
    pub(super) fn entry(&self, map: &str, key: &str) -> Result<Part<'_>, Reason> {
        let headers = match map {
            "request.headers" | "response.headers" => map,
            map => {
                return Ok(match self.before.attribute(map)? {
                    Known::Absent => Part::absent(),
                    Known::Always(Value::Map(entries)) => match entries.lookup(key) {
                        Some(value) => Part::known(Value::from(value.to_owned())),
                        None => Part::absent(),
                    },
                    _ => return Err(Reason::Unlogged(map.to_owned())),
                });
            }
        };
        match Subject::header(key)? {
            // Pseudo-headers are attributes of their own; access log entries have none.
            Some(Subject::Header(name)) if !name.starts_with(':') => {
                let name = literal(&name);
                let there = Part::under(format!("{headers}[{name}]"), format!("{name} in {headers}"));
                Ok(Part { free: true, ..there })
            }
            Some(_) => Err(Reason::Unlogged(format!("{map}[{key}]"))),
            None => Ok(Part::absent()),
        }
    }
}

fn whole(text: Text, name: &'static str) -> Part<'static> {
    Part::new(Worth::Whole(text, name), When::Always)
}

/// gRPC's status comes in trailers, or in the headers of a response without body.
fn grpc(name: &str, free: bool) -> Part<'static> {
    let of = |place: &str| format!("'{name}' in response.{place} && response.{place}['{name}'] != ''");
    let (trailers, headers) = (of("trailers"), of("headers"));
    let cel =
        format!("('{name}' in response.trailers ? response.trailers['{name}'] : response.headers['{name}'])");
    let present = format!("('{name}' in response.trailers ? {trailers} : ({headers}))");
    Part {
        free,
        ..Part::under(cel, present)
    }
}

/// What no access log entry of HTTP has.
fn is_never(name: &str) -> bool {
    const NAMES: [&str; 6] = [
        "context.proxy_version",
        "destination.metadata",
        "request.reason",
        "source.metadata",
        "source.service",
        "api.version",
    ];
    let connection = name.starts_with("connection.");
    let others = ["origin.", "check.", "quota.", "rbac."];
    connection
        || NAMES.contains(&name)
        || name == "api.operation"
        || others.iter().any(|group| name.starts_with(group))
}

/// What is another thing once the request has ended, or is found out of parts that proxies cannot take apart.
fn of_request(name: &str) -> bool {
    name.starts_with("request.") || name.starts_with("response.") || name.starts_with("source.")
}
