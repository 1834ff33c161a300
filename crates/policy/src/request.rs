//! The attributes of one request or connection, taken from what Envoy's APIs carry and from the mesh's workloads.
//! Nothing is copied: an attribute is computed when an expression asks for it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use expr::{Attributes, StringLookup, Timestamp, Value};

use crate::api_spec::ApiFacts;
use crate::workload::{ServiceView, WorkloadView};

/// Which proxy speaks: that of the request's destination, or that of its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReporterKind {
    /// The destination's.
    #[default]
    Inbound,
    /// The source's.
    Outbound,
}

/// What is spoken (`context.protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP that is not gRPC.
    #[default]
    Http,
    /// gRPC.
    Grpc,
    /// Anything else over TCP.
    Tcp,
}

impl Protocol {
    /// Mixer's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }

    /// HTTP or gRPC, by the request's content type.
    pub fn of_content_type(content_type: Option<&str>) -> Self {
        if content_type.is_some_and(|t| t.starts_with("application/grpc")) {
            Self::Grpc
        } else {
            Self::Http
        }
    }
}

/// One end of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Party<'a> {
    /// The workload, when it is known for certain.
    pub workload: Option<&'a WorkloadView>,
    /// Address.
    pub ip: Option<IpAddr>,
    /// Port.
    pub port: Option<u16>,
    /// Authenticated identity, without `spiffe://`.
    pub principal: Option<&'a str>,
}

/// What came back; absent before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Response<'a> {
    /// HTTP status.
    pub code: Option<i64>,
    /// Nanoseconds from the request's first byte to the response's last.
    pub duration: Option<i64>,
    /// Bytes of the body.
    pub size: Option<i64>,
    /// Bytes of headers, body and trailers.
    pub total_size: Option<i64>,
    /// When it ended.
    pub time: Option<Timestamp>,
    /// Headers.
    pub headers: Option<&'a dyn StringLookup>,
    /// gRPC status, as a number.
    pub grpc_status: Option<&'a str>,
    /// gRPC message.
    pub grpc_message: Option<&'a str>,
    /// Envoy's response flags.
    pub flags: Option<&'a str>,
}

/// A TCP connection's or an HTTP stream's traffic; absent before it ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connection<'a> {
    /// Envoy's number for it.
    pub id: Option<&'a str>,
    /// `open`, `continue` or `close`.
    pub event: Option<&'a str>,
    /// Bytes received since the last report.
    pub received: Option<i64>,
    /// Bytes received in all.
    pub received_total: Option<i64>,
    /// Bytes sent since the last report.
    pub sent: Option<i64>,
    /// Bytes sent in all.
    pub sent_total: Option<i64>,
    /// Nanoseconds that it was open.
    pub duration: Option<i64>,
}

/// A request or connection.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// Who speaks.
    pub reporter: ReporterKind,
    /// The speaking proxy's workload: `context.reporter.uid`.
    pub reporter_uid: Option<&'a str>,
    /// Protocol.
    pub protocol: Protocol,
    /// Who calls.
    pub source: Party<'a>,
    /// Who is called.
    pub destination: Party<'a>,
    /// The service that is called.
    pub service: Option<&'a ServiceView>,
    /// Whether both ends authenticated each other; absent when not known.
    pub mtls: Option<bool>,
    /// Server name that the client asked for.
    pub server_name: Option<&'a str>,
    /// Request headers, names in lower case.
    pub headers: Option<&'a dyn StringLookup>,
    /// Path with query.
    pub path: Option<&'a str>,
    /// Query parameters, decoded, when they were taken apart.
    pub query: Option<&'a BTreeMap<String, String>>,
    /// Method.
    pub method: Option<&'a str>,
    /// Authority.
    pub host: Option<&'a str>,
    /// Scheme.
    pub scheme: Option<&'a str>,
    /// Value of x-request-id.
    pub id: Option<&'a str>,
    /// Bytes of the body.
    pub size: Option<i64>,
    /// Bytes of headers, body and trailers.
    pub total_size: Option<i64>,
    /// When it began.
    pub time: Option<Timestamp>,
    /// Verified claims of the request's token, with `iss`, `sub`, `aud`, `azp`.
    pub claims: Option<&'a BTreeMap<String, String>>,
    /// The claims as JSON.
    pub raw_claims: Option<&'a str>,
    /// What came back.
    pub response: Response<'a>,
    /// The connection's traffic.
    pub connection: Connection<'a>,
    /// Attributes that nothing above gives, as a caller that is believed in them sent them.
    pub extra: Extra<'a>,
    /// What HTTPAPISpecs say of it; [`crate::Rules`] find that out by themselves.
    pub api: Api<'a>,
}

/// Attributes beside those that a [`Request`] has fields for; they never stand in the place of one that these give.
#[derive(Clone, Copy, Default)]
pub struct Extra<'a>(pub Option<&'a (dyn Attributes + Sync)>);

impl fmt::Debug for Extra<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Extra" } else { "None" })
    }
}

/// What HTTPAPISpecs say of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Api<'a>(pub(crate) Option<&'a ApiFacts<'a>>);

fn text(text: Option<&str>) -> Option<Value<'_>> {
    text.filter(|text| !text.is_empty()).map(Value::from)
}

impl<'a> Request<'a> {
    fn header(&self, name: &str) -> Option<Value<'_>> {
        self.headers
            .and_then(|headers| headers.lookup(name))
            .map(Value::from)
    }

    fn claim(&self, name: &str) -> Option<Value<'_>> {
        self.claims
            .and_then(|claims| claims.get(name))
            .map(|claim| Value::from(claim.as_str()))
    }

    /// `ISSUER/SUBJECT`, as Istio names a request's principal.
    fn request_principal(&self) -> Option<Value<'_>> {
        let claims = self.claims?;
        let (issuer, subject) = (claims.get("iss")?, claims.get("sub")?);
        Some(Value::from(format!("{issuer}/{subject}")))
    }

    fn url_path(&self) -> Option<Value<'_>> {
        text(self.path.and_then(|path| path.split(['?', '#']).next()))
    }

    fn service_uid(&self) -> Option<Value<'_>> {
        self.service
            .map(|s| Value::from(format!("istio://{}/services/{}", s.namespace, s.name)))
    }

    fn of_request(&self, field: &str) -> Option<Value<'_>> {
        match field {
            "headers" => self.headers.map(Value::Map),
            "path" => text(self.path),
            "url_path" => self.url_path(),
            "query_params" => self.query.map(|query| Value::Map(query)),
            "method" => text(self.method),
            "host" => text(self.host),
            "scheme" => text(self.scheme),
            "id" => text(self.id).or_else(|| self.header("x-request-id")),
            "referer" => self.header("referer"),
            "useragent" => self.header("user-agent"),
            "size" => self.size.map(Value::Int),
            "total_size" => self.total_size.map(Value::Int),
            "time" => self.time.map(Value::Timestamp),
            "auth.principal" => self.request_principal(),
            "auth.audiences" => self.claim("aud"),
            "auth.presenter" => self.claim("azp"),
            "auth.claims" => self.claims.map(|claims| Value::Map(claims)),
            "auth.raw_claims" => text(self.raw_claims),
            "api_key" => self.api_key(),
            _ => None,
        }
    }

    /// From where an HTTPAPISpec says that keys stand, else from Istio's default places.
    fn api_key(&self) -> Option<Value<'_>> {
        if let Some(key) = self.api.0.and_then(ApiFacts::key) {
            return key.map(Value::from);
        }
        self.query
            .and_then(|query| query.get("key").or_else(|| query.get("api_key")))
            .map(|key| Value::from(key.as_str()))
            .or_else(|| self.header("x-api-key"))
    }

    fn of_response(&self, field: &str) -> Option<Value<'_>> {
        let response = &self.response;
        match field {
            "code" => response.code.map(Value::Int),
            "duration" => response.duration.map(Value::Duration),
            "size" => response.size.map(Value::Int),
            "total_size" => response.total_size.map(Value::Int),
            "time" => response.time.map(Value::Timestamp),
            "headers" => response.headers.map(Value::Map),
            "grpc_status" => text(response.grpc_status),
            "grpc_message" => text(response.grpc_message),
            _ => None,
        }
    }

    fn of_connection(&self, field: &str) -> Option<Value<'_>> {
        let connection = &self.connection;
        match field {
            "mtls" => self.mtls.map(Value::Bool),
            "requested_server_name" => text(self.server_name),
            "id" => text(connection.id),
            "event" => text(connection.event),
            "received.bytes" => connection.received.map(Value::Int),
            "received.bytes_total" => connection.received_total.map(Value::Int),
            "sent.bytes" => connection.sent.map(Value::Int),
            "sent.bytes_total" => connection.sent_total.map(Value::Int),
            "duration" => connection.duration.map(Value::Duration),
            _ => None,
        }
    }

    fn of_context(&self, field: &str) -> Option<Value<'_>> {
        let inbound = self.reporter == ReporterKind::Inbound;
        match field {
            "protocol" => Some(Value::from(self.protocol.name())),
            "proxy_error_code" => text(self.response.flags),
            "reporter.kind" => Some(Value::from(if inbound { "inbound" } else { "outbound" })),
            "reporter.local" => Some(Value::Bool(inbound)),
            "reporter.uid" => text(self.reporter_uid),
            "time" | "timestamp" => self.time.map(Value::Timestamp),
            _ => None,
        }
    }

    fn of_service(&self, field: &str) -> Option<Value<'_>> {
        match field {
            "service" | "service.host" => self.service.map(|s| Value::from(s.host.as_str())),
            "service.name" => self.service.map(|s| Value::from(s.name.as_str())),
            "service.namespace" => self.service.map(|s| Value::from(s.namespace.as_str())),
            "service.uid" => self.service_uid(),
            _ => None,
        }
    }
}

impl Party<'_> {
    /// The identity: that which was authenticated, else that of the workload.
    fn principal(&self) -> Option<Value<'_>> {
        text(self.principal)
    }

    /// NAMESPACE and ACCOUNT of the authenticated identity.
    fn account(&self) -> Option<(&str, &str)> {
        let mut parts = self.principal?.split('/');
        match (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) {
            (Some(_), Some("ns"), Some(namespace), Some("sa"), Some(account), None) => {
                Some((namespace, account))
            }
            _ => None,
        }
    }

    fn namespace(&self) -> Option<&str> {
        self.workload
            .map(|w| w.namespace.as_str())
            .or_else(|| self.account().map(|(namespace, _)| namespace))
    }

    fn get(&self, field: &str) -> Option<Value<'_>> {
        let workload = self.workload;
        match field {
            "ip" => self.ip.or_else(|| workload.and_then(|w| w.ip)).map(Value::Ip),
            "port" => self.port.map(|port| Value::Int(port.into())),
            "principal" | "user" => self.principal(),
            "namespace" => text(self.namespace()),
            "serviceAccount" => {
                let own = workload.map(|w| w.service_account.as_str());
                text(own.or_else(|| self.account().map(|(_, account)| account)))
            }
            "uid" => workload.map(|w| Value::from(w.uid())),
            "name" => workload.map(|w| Value::from(w.name.as_str())),
            "labels" => workload.map(|w| Value::Map(&*w.labels)),
            "owner" => text(workload?.owner()),
            "container.name" => text(workload?.container(self.port?)),
            "workload.name" => workload.map(|w| Value::from(w.workload_name())),
            "workload.namespace" => workload.map(|w| Value::from(w.namespace.as_str())),
            "workload.uid" => workload.map(|w| Value::from(w.workload_uid())),
            "services" => workload.filter(|w| !w.services.is_empty()).map(|w| {
                let hosts: Vec<&str> = w.services.iter().map(|s| s.host.as_str()).collect();
                Value::Text(Cow::Owned(hosts.join(",")))
            }),
            _ => None,
        }
    }
}

impl Attributes for Request<'_> {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        let said = self.api.0.and_then(|api| api.get(name));
        said.or_else(|| self.own(name))
            .or_else(|| self.extra.0?.get(name))
    }
}

impl Request<'_> {
    fn own(&self, name: &str) -> Option<Value<'_>> {
        let (group, field) = name.split_once('.')?;
        match group {
            "request" => self.of_request(field),
            "response" => self.of_response(field),
            "connection" => self.of_connection(field),
            "context" => self.of_context(field),
            "source" => self.source.get(field),
            "destination" if field.starts_with("service") && field != "serviceAccount" => {
                self.of_service(field)
            }
            "destination" => self.destination.get(field),
            "api" => match field {
                "service" => self.service.map(|s| Value::from(s.host.as_str())),
                "protocol" => Some(Value::from(self.protocol.name())),
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_give_namespace_and_account_without_a_workload() {
        let source = Party {
            principal: Some("cluster.local/ns/shop/sa/frontend"),
            ..Party::default()
        };
        let request = Request {
            source,
            ..Request::default()
        };
        let get = |name: &str| request.get(name).map(|v| v.to_string());
        assert_eq!(get("source.namespace").as_deref(), Some("shop"));
        assert_eq!(get("source.serviceAccount").as_deref(), Some("frontend"));
        assert_eq!(
            get("source.principal").as_deref(),
            Some("cluster.local/ns/shop/sa/frontend")
        );
        assert_eq!(get("source.labels"), None);
        assert_eq!(get("destination.principal"), None);
    }

    #[test]
    fn every_attribute_has_the_type_that_the_vocabulary_says() {
        let labels = std::sync::Arc::new([("app".to_owned(), "a".to_owned())].into());
        let identity = model::Identity::new("cluster.local", "shop", "a");
        let service = ServiceView {
            host: "a.shop".into(),
            name: "a".into(),
            namespace: "shop".into(),
            ports: vec![1],
            labels: None,
        };
        let mut view = WorkloadView::new(
            "a-1",
            &identity,
            labels,
            Some([1, 2, 3, 4].into()),
            vec![service.clone()],
        );
        view.owner = Some("o".to_owned());
        view.containers = [(1, "main".to_owned())].into();
        let party = Party {
            workload: Some(&view),
            ip: view.ip,
            port: Some(1),
            principal: Some("c/ns/shop/sa/a"),
        };
        let map: BTreeMap<String, String> = ["iss", "sub", "aud", "azp", "key", "user-agent", "referer"]
            .map(|k| (k.to_owned(), "v".to_owned()))
            .into();
        let request = Request {
            reporter_uid: Some("u"),
            source: party,
            destination: party,
            service: Some(&service),
            mtls: Some(true),
            server_name: Some("s"),
            headers: Some(&map),
            path: Some("/a?b=c"),
            query: Some(&map),
            method: Some("GET"),
            host: Some("a"),
            scheme: Some("http"),
            id: Some("1"),
            size: Some(1),
            total_size: Some(1),
            time: Some(Timestamp(1)),
            claims: Some(&map),
            raw_claims: Some("{}"),
            response: Response {
                code: Some(200),
                duration: Some(1),
                size: Some(1),
                total_size: Some(1),
                time: Some(Timestamp(1)),
                headers: Some(&map),
                grpc_status: Some("0"),
                grpc_message: Some("m"),
                flags: Some("UF"),
            },
            connection: Connection {
                id: Some("1"),
                event: Some("close"),
                received: Some(1),
                received_total: Some(1),
                sent: Some(1),
                sent_total: Some(1),
                duration: Some(1),
            },
            ..Request::default()
        };
        let mut absent = Vec::new();
        for (name, ty) in expr::STANDARD.all() {
            match request.get(name) {
                Some(value) => assert!(value.is(ty), "{name}"),
                None => absent.push(name),
            }
        }
        // What nothing in Envoy's APIs or in the feed tells yet.
        let expected = [
            "api.operation",
            "api.version",
            "check.cache_hit",
            "check.error_code",
            "check.error_message",
            "context.proxy_version",
            "destination.metadata",
            "origin.ip",
            "origin.uid",
            "origin.user",
            "quota.cache_hit",
            "rbac.permissive.effective_policy_id",
            "rbac.permissive.response_code",
            "request.reason",
            "source.metadata",
            "source.service",
        ];
        assert_eq!(absent, expected);
    }
}
