//! HTTPRoute, GRPCRoute, TLSRoute, TCPRoute and UDPRoute.

use super::{GrpcRouteFilter, HttpRouteFilter};
use crate::Duration;
use crate::api::{api, api_enum};

api! {
    /// A Gateway (or Service, for routes inside the mesh) that applies a route.
    #[schemars(extend("required" = ["name"]))]
    pub struct ParentReference {
        /// Absent means Gateway API's; empty means the core group.
        group: Option<String>,
        /// Empty means Gateway.
        kind: String,
        namespace: String,
        #[schemars(length(min = 1, max = 253))]
        name: String,
        section_name: String,
        #[schemars(range(max = 65535))]
        port: u32,
    }

    /// Where traffic goes.
    #[schemars(extend("required" = ["name"]))]
    pub struct BackendReference {
        /// Empty means the core group.
        group: String,
        /// Empty means Service.
        kind: String,
        #[schemars(length(min = 1, max = 253))]
        name: String,
        namespace: String,
        #[schemars(range(max = 65535))]
        port: u32,
        /// Share of the route's traffic; absent means 1.
        #[schemars(range(min = 0, max = 1_000_000))]
        weight: Option<i32>,
    }

    /// gateway.networking.k8s.io HTTPRoute.
    pub struct KubernetesHttpRoute {
        spec: KubernetesHttpRouteSpec,
    }

    /// Rules for requests of hosts.
    pub struct KubernetesHttpRouteSpec {
        #[schemars(length(max = 32))]
        parent_refs: Vec<ParentReference>,
        use_default_gateways: String,
        #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
        hostnames: Vec<String>,
        #[schemars(length(max = 16))]
        rules: Vec<HttpRouteRule>,
    }

    /// Requests that meet any of `matches` (all requests, when there are none) and what happens to them.
    pub struct HttpRouteRule {
        name: String,
        #[schemars(length(max = 64))]
        matches: Vec<HttpRouteMatch>,
        #[schemars(length(max = 16))]
        filters: Vec<HttpRouteFilter>,
        #[schemars(length(max = 16))]
        backend_refs: Vec<HttpBackendReference>,
        timeouts: Option<HttpRouteTimeouts>,
        retry: Option<HttpRouteRetry>,
        session_persistence: Option<SessionPersistence>,
    }

    /// Conditions on a request, all of which must hold.
    pub struct HttpRouteMatch {
        path: Option<HttpPathMatch>,
        #[schemars(length(max = 16))]
        headers: Vec<NameMatch>,
        #[schemars(length(max = 16))]
        query_params: Vec<NameMatch>,
        method: String,
    }

    /// A condition on the path; absent fields mean the prefix `/`.
    pub struct HttpPathMatch {
        r#type: PathMatchType,
        #[schemars(length(max = 1024))]
        value: Option<String>,
    }

    /// A condition on a header or a query parameter.
    #[schemars(extend("required" = ["name", "value"]))]
    pub struct NameMatch {
        r#type: MatchType,
        #[schemars(length(min = 1, max = 256))]
        name: String,
        #[schemars(length(min = 1, max = 4096))]
        value: String,
    }

    /// Where requests go, and what happens to those on the way.
    #[schemars(extend("required" = ["name"]))]
    pub struct HttpBackendReference {
        /// Empty means the core group.
        group: String,
        /// Empty means Service.
        kind: String,
        #[schemars(length(min = 1, max = 253))]
        name: String,
        namespace: String,
        #[schemars(range(max = 65535))]
        port: u32,
        /// Share of the rule's traffic; absent means 1.
        #[schemars(range(min = 0, max = 1_000_000))]
        weight: Option<i32>,
        #[schemars(length(max = 16))]
        filters: Vec<HttpRouteFilter>,
    }

    /// How long a request may take.
    pub struct HttpRouteTimeouts {
        request: Option<Duration>,
        backend_request: Option<Duration>,
    }

    /// Retries of failed requests.
    pub struct HttpRouteRetry {
        #[schemars(inner(range(min = 400, max = 599)))]
        codes: Vec<u32>,
        #[schemars(range(min = 1))]
        attempts: Option<u32>,
        backoff: Option<Duration>,
    }

    /// How requests of one client stay with a backend.
    pub struct SessionPersistence {
        absolute_timeout: Option<Duration>,
        r#type: SessionPersistenceType,
        cookie: Option<SessionCookie>,
        header: Option<SessionHeader>,
    }

    /// The cookie that names the backend.
    pub struct SessionCookie {
        name: String,
        path: String,
        lifetime_type: CookieLifetime,
    }

    /// The header that names the backend.
    #[schemars(extend("required" = ["name"]))]
    pub struct SessionHeader {
        name: String,
    }

    /// gateway.networking.k8s.io GRPCRoute.
    pub struct KubernetesGrpcRoute {
        spec: KubernetesGrpcRouteSpec,
    }

    /// Rules for calls of hosts.
    pub struct KubernetesGrpcRouteSpec {
        #[schemars(length(max = 32))]
        parent_refs: Vec<ParentReference>,
        use_default_gateways: String,
        #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
        hostnames: Vec<String>,
        #[schemars(length(max = 16))]
        rules: Vec<GrpcRouteRule>,
    }

    /// Calls that meet any of `matches` and what happens to them.
    pub struct GrpcRouteRule {
        name: String,
        #[schemars(length(max = 64))]
        matches: Vec<GrpcRouteMatch>,
        #[schemars(length(max = 16))]
        filters: Vec<GrpcRouteFilter>,
        #[schemars(length(max = 16))]
        backend_refs: Vec<GrpcBackendReference>,
        session_persistence: Option<SessionPersistence>,
    }

    /// Conditions on a call, all of which must hold.
    pub struct GrpcRouteMatch {
        method: Option<GrpcMethodMatch>,
        #[schemars(length(max = 16))]
        headers: Vec<NameMatch>,
    }

    /// A condition on service and method; an empty one means any.
    pub struct GrpcMethodMatch {
        r#type: MatchType,
        #[schemars(length(max = 1024))]
        service: String,
        #[schemars(length(max = 1024))]
        method: String,
    }

    /// Where calls go, and what happens to those on the way.
    #[schemars(extend("required" = ["name"]))]
    pub struct GrpcBackendReference {
        /// Empty means the core group.
        group: String,
        /// Empty means Service.
        kind: String,
        #[schemars(length(min = 1, max = 253))]
        name: String,
        namespace: String,
        #[schemars(range(max = 65535))]
        port: u32,
        /// Share of the rule's traffic; absent means 1.
        #[schemars(range(min = 0, max = 1_000_000))]
        weight: Option<i32>,
        #[schemars(length(max = 16))]
        filters: Vec<GrpcRouteFilter>,
    }

    /// gateway.networking.k8s.io TLSRoute, TCPRoute or UDPRoute; the latter two have no `hostnames`.
    #[schemars(extend("required" = ["spec"]))]
    pub struct KubernetesL4Route {
        spec: KubernetesL4RouteSpec,
    }

    /// Rules for connections or datagrams.
    #[schemars(extend("required" = ["rules"]))]
    pub struct KubernetesL4RouteSpec {
        #[schemars(length(max = 32))]
        parent_refs: Vec<ParentReference>,
        use_default_gateways: String,
        /// Server names of TLS.
        #[schemars(length(max = 1024), inner(length(min = 1, max = 253)))]
        hostnames: Vec<String>,
        #[schemars(length(min = 1, max = 16))]
        rules: Vec<L4RouteRule>,
    }

    /// Where connections or datagrams go.
    #[schemars(extend("required" = ["backendRefs"]))]
    pub struct L4RouteRule {
        name: String,
        #[schemars(length(min = 1, max = 16))]
        backend_refs: Vec<BackendReference>,
    }
}

api_enum! {
    /// How a path is compared.
    pub enum PathMatchType {
        #[default]
        PathPrefix = "PathPrefix",
        Exact = "Exact",
        RegularExpression = "RegularExpression",
    }

    /// How a text is compared.
    pub enum MatchType {
        #[default]
        Exact = "Exact",
        RegularExpression = "RegularExpression",
    }

    /// What names the backend of a session.
    pub enum SessionPersistenceType {
        #[default]
        Cookie = "Cookie",
        Header = "Header",
    }

    /// How long a session's cookie lives.
    pub enum CookieLifetime {
        #[default]
        Session = "Session",
        Permanent = "Permanent",
    }
}
