//! An HTTP access log entry as attributes.

use std::collections::{BTreeMap, HashMap};

use envoy_types::pb::envoy::config::core::v3::RequestMethod;
use envoy_types::pb::envoy::data::accesslog::v3::{
    AccessLogCommon, AccessLogType, HttpAccessLogEntry, HttpRequestProperties, HttpResponseProperties,
};
use policy::{HeaderMap, Protocol, ReporterKind, Request, Response};

use super::log::{Common, Sender};
use crate::mesh::Mesh;

/// An entry, made ready.
#[derive(Debug, Default)]
pub(crate) struct HttpLog {
    common: AccessLogCommon,
    request: HttpRequestProperties,
    response: HttpResponseProperties,
    query: BTreeMap<String, String>,
}

impl HttpLog {
    /// Takes an entry. None for one that is not a request's last: it would count the request twice.
    pub(crate) fn new(entry: HttpAccessLogEntry) -> Option<Self> {
        let common = entry.common_properties.unwrap_or_default();
        if !matches!(
            common.access_log_type(),
            AccessLogType::NotSet | AccessLogType::DownstreamEnd
        ) {
            return None;
        }
        let mut request = entry.request.unwrap_or_default();
        fill_headers(&mut request);
        let response = entry.response.unwrap_or_default();
        let query = policy::query_of(path_of(&request));
        Some(Self {
            common,
            request,
            response,
            query,
        })
    }

    /// Calls `then` with the attributes.
    pub(crate) fn with_request<T>(
        &self,
        mesh: &Mesh,
        sender: &Sender,
        then: impl FnOnce(&Request<'_>) -> T,
    ) -> T {
        let common = Common::new(&self.common, sender);
        let (of, base) = (&self.request, common.request(mesh));
        let headers = [
            HeaderMap(&of.request_headers),
            HeaderMap(&self.response.response_headers),
        ];
        let [request_headers, response_headers] = &headers;
        let content_type = of.request_headers.get("content-type").map(String::as_str);
        let mut request = Request {
            protocol: Protocol::of_content_type(content_type),
            headers: Some(request_headers),
            path: Some(path_of(of)),
            query: Some(&self.query),
            method: method(of),
            host: Some(&of.authority),
            scheme: Some(&of.scheme),
            id: Some(&of.request_id),
            size: Some(int(of.request_body_bytes)),
            total_size: Some(int(of
                .request_headers_bytes
                .saturating_add(of.request_body_bytes))),
            response: Response {
                headers: Some(response_headers),
                ..self.response(base.response)
            },
            ..base
        };
        if request.reporter == ReporterKind::Inbound {
            let (workload, port) = (request.destination.workload, request.destination.port);
            request.service = workload.and_then(|w| w.service(port, request.host));
        }
        then(&request)
    }

    fn response<'a>(&'a self, base: Response<'a>) -> Response<'a> {
        let of = &self.response;
        // A response without a body carries gRPC's status in its headers.
        let find = |name: &str| {
            of.response_trailers
                .get(name)
                .or_else(|| of.response_headers.get(name))
        };
        Response {
            code: of.response_code.as_ref().map(|code| code.value.into()),
            size: Some(int(of.response_body_bytes)),
            total_size: Some(int(of
                .response_headers_bytes
                .saturating_add(of.response_body_bytes))),
            grpc_status: find("grpc-status").map(String::as_str),
            grpc_message: find("grpc-message").map(String::as_str),
            ..base
        }
    }
}

/// The path that the client asked for, before a rewrite.
fn path_of(request: &HttpRequestProperties) -> &str {
    match request.original_path.as_str() {
        "" => &request.path,
        original => original,
    }
}

fn method(request: &HttpRequestProperties) -> Option<&'static str> {
    match request.request_method() {
        RequestMethod::MethodUnspecified => None,
        method => Some(method.as_str_name()),
    }
}

/// Puts the headers that have fields of their own beside the others.
fn fill_headers(request: &mut HttpRequestProperties) {
    let own = [
        ("user-agent", &request.user_agent),
        ("referer", &request.referer),
        ("x-request-id", &request.request_id),
        ("x-forwarded-for", &request.forwarded_for),
    ];
    let headers: &mut HashMap<String, String> = &mut request.request_headers;
    for (name, value) in own {
        if !value.is_empty() && !headers.contains_key(name) {
            headers.insert(name.to_owned(), value.clone());
        }
    }
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
