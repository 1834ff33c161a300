//! Filters of HTTPRoute and GRPCRoute: what happens to a request on its way.

use super::{BackendReference, ParametersReference};
use crate::api::{api, api_enum};

api! {
    /// One step; `type` says which of the fields holds it.
    #[schemars(extend("required" = ["type"]))]
    pub struct HttpRouteFilter {
        r#type: Option<HttpFilterType>,
        request_header_modifier: Option<HeaderModifier>,
        response_header_modifier: Option<HeaderModifier>,
        request_mirror: Option<RequestMirror>,
        request_redirect: Option<RequestRedirect>,
        url_rewrite: Option<UrlRewrite>,
        cors: Option<Cors>,
        external_auth: Option<ExternalAuth>,
        extension_ref: Option<ParametersReference>,
    }

    /// One step; `type` says which of the fields holds it.
    #[schemars(extend("required" = ["type"]))]
    pub struct GrpcRouteFilter {
        r#type: Option<GrpcFilterType>,
        request_header_modifier: Option<HeaderModifier>,
        response_header_modifier: Option<HeaderModifier>,
        request_mirror: Option<RequestMirror>,
        extension_ref: Option<ParametersReference>,
    }

    /// Headers set, added and removed.
    pub struct HeaderModifier {
        #[schemars(length(max = 16))]
        set: Vec<GatewayHeader>,
        #[schemars(length(max = 16))]
        add: Vec<GatewayHeader>,
        #[schemars(length(max = 16))]
        remove: Vec<String>,
    }

    /// A header.
    #[schemars(extend("required" = ["name", "value"]))]
    pub struct GatewayHeader {
        #[schemars(length(min = 1, max = 256))]
        name: String,
        #[schemars(length(min = 1, max = 4096))]
        value: String,
    }

    /// A copy of requests that goes elsewhere.
    #[schemars(extend("required" = ["backendRef"]), extend("x-oneof" = [["percent", "fraction"]]))]
    pub struct RequestMirror {
        backend_ref: BackendReference,
        #[schemars(range(min = 0, max = 100))]
        percent: Option<i32>,
        fraction: Option<Fraction>,
    }

    /// A share.
    #[schemars(extend("required" = ["numerator"]))]
    pub struct Fraction {
        #[schemars(range(min = 0))]
        numerator: Option<i32>,
        /// Absent means 100.
        #[schemars(range(min = 1))]
        denominator: Option<i32>,
    }

    /// An answer that sends the client elsewhere.
    pub struct RequestRedirect {
        scheme: String,
        hostname: String,
        path: Option<PathModifier>,
        #[schemars(range(max = 65535))]
        port: u32,
        /// 301, 302 (when absent), 303, 307 or 308.
        status_code: Option<u32>,
    }

    /// Changes of host and path.
    pub struct UrlRewrite {
        hostname: String,
        path: Option<PathModifier>,
    }

    /// A change of the path; `type` says which of the fields holds it.
    #[schemars(extend("required" = ["type"]))]
    pub struct PathModifier {
        r#type: Option<PathModifierType>,
        replace_full_path: Option<String>,
        replace_prefix_match: Option<String>,
    }

    /// Cross-origin resource sharing.
    pub struct Cors {
        #[schemars(length(max = 64))]
        allow_origins: Vec<String>,
        allow_credentials: Option<bool>,
        #[schemars(length(max = 9))]
        allow_methods: Vec<String>,
        #[schemars(length(max = 64))]
        allow_headers: Vec<String>,
        #[schemars(length(max = 64))]
        expose_headers: Vec<String>,
        /// Seconds; absent means 5.
        #[schemars(range(min = 1))]
        max_age: Option<i32>,
    }

    /// A service that decides.
    #[schemars(extend("required" = ["protocol", "backendRef"]))]
    pub struct ExternalAuth {
        protocol: Option<ExternalAuthProtocol>,
        backend_ref: BackendReference,
        grpc: Option<ExternalAuthGrpc>,
        http: Option<ExternalAuthHttp>,
        forward_body: Option<ForwardBody>,
    }

    /// What a gRPC service is told.
    pub struct ExternalAuthGrpc {
        #[schemars(length(max = 64))]
        allowed_headers: Vec<String>,
    }

    /// What an HTTP service is told, and may tell.
    pub struct ExternalAuthHttp {
        path: String,
        #[schemars(length(max = 64))]
        allowed_headers: Vec<String>,
        #[schemars(length(max = 64))]
        allowed_response_headers: Vec<String>,
    }

    /// How much of the body the service is told.
    pub struct ForwardBody {
        max_size: u32,
    }
}

api_enum! {
    /// Steps of HTTPRoute.
    pub enum HttpFilterType {
        #[default]
        RequestHeaderModifier = "RequestHeaderModifier",
        ResponseHeaderModifier = "ResponseHeaderModifier",
        RequestMirror = "RequestMirror",
        RequestRedirect = "RequestRedirect",
        UrlRewrite = "URLRewrite",
        ExtensionRef = "ExtensionRef",
        Cors = "CORS",
        ExternalAuth = "ExternalAuth",
    }

    /// Steps of GRPCRoute.
    pub enum GrpcFilterType {
        #[default]
        RequestHeaderModifier = "RequestHeaderModifier",
        ResponseHeaderModifier = "ResponseHeaderModifier",
        RequestMirror = "RequestMirror",
        ExtensionRef = "ExtensionRef",
    }

    /// Changes of a path.
    pub enum PathModifierType {
        #[default]
        ReplaceFullPath = "ReplaceFullPath",
        ReplacePrefixMatch = "ReplacePrefixMatch",
    }

    /// How a service that decides is asked.
    pub enum ExternalAuthProtocol {
        #[default]
        Http = "HTTP",
        Grpc = "GRPC",
    }
}
