//! VirtualService: which requests to a host go where, and what happens to them on the way.

use std::collections::BTreeMap;

use super::StringMatch;
use crate::Duration;
use crate::api::{api, api_enum};

api! {
    /// Routes for a set of hosts.
    #[schemars(extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::SOME_ROUTE])))]
    pub struct VirtualService {
        hosts: Vec<String>,
        /// Gateways (`name` or `namespace/name`) that apply the routes; `mesh` for all sidecars, which is also meant
        /// when none is named.
        gateways: Vec<String>,
        http: Vec<HttpRoute>,
        tls: Vec<TlsRoute>,
        tcp: Vec<TcpRoute>,
        export_to: Vec<String>,
    }

    /// A service, or one subset of it, as the target of a route.
    #[schemars(extend("required" = ["host"]))]
    pub struct Destination {
        host: String,
        subset: String,
        port: Option<PortSelector>,
    }

    /// A port by number.
    pub struct PortSelector {
        #[schemars(range(min = 1, max = 65535))]
        number: u32,
    }

    /// One HTTP route: conditions (any of `match`) and what to do.
    #[schemars(extend(
        "x-kubernetes-validations" = crate::cel::rules(crate::cel::ACTIONS),
        "x-also" = [["mirrorPercent", "mirror_percent"]]
    ))]
    pub struct HttpRoute {
        name: String,
        r#match: Vec<HttpMatchRequest>,
        route: Vec<HttpRouteDestination>,
        redirect: Option<HttpRedirect>,
        direct_response: Option<HttpDirectResponse>,
        delegate: Option<Delegate>,
        rewrite: Option<HttpRewrite>,
        timeout: Option<Duration>,
        retries: Option<HttpRetry>,
        fault: Option<HttpFaultInjection>,
        mirror: Option<Destination>,
        mirrors: Vec<HttpMirrorPolicy>,
        /// Deprecated by `mirrorPercentage`: whole percent.
        mirror_percent: Option<u32>,
        mirror_percentage: Option<Percent>,
        cors_policy: Option<CorsPolicy>,
        headers: Option<Headers>,
    }

    /// Another VirtualService that holds the rest of the route.
    pub struct Delegate {
        name: String,
        namespace: String,
    }

    /// Header changes on the way to and from the destination.
    pub struct Headers {
        request: Option<HeaderOperations>,
        response: Option<HeaderOperations>,
    }

    /// Headers set (replaced), added and removed.
    pub struct HeaderOperations {
        set: BTreeMap<String, String>,
        add: BTreeMap<String, String>,
        remove: Vec<String>,
    }

    /// A route for TLS connections that pass through, chosen by SNI.
    #[schemars(extend("required" = ["match"]))]
    pub struct TlsRoute {
        r#match: Vec<TlsMatchAttributes>,
        route: Vec<RouteDestination>,
    }

    /// A route for TCP connections.
    pub struct TcpRoute {
        r#match: Vec<L4MatchAttributes>,
        route: Vec<RouteDestination>,
    }

    /// Conditions on a request, all of which must hold.
    pub struct HttpMatchRequest {
        name: String,
        uri: Option<StringMatch>,
        scheme: Option<StringMatch>,
        method: Option<StringMatch>,
        authority: Option<StringMatch>,
        headers: BTreeMap<String, StringMatch>,
        port: u32,
        source_labels: BTreeMap<String, String>,
        gateways: Vec<String>,
        query_params: BTreeMap<String, StringMatch>,
        ignore_uri_case: bool,
        without_headers: BTreeMap<String, StringMatch>,
        source_namespace: String,
        stat_prefix: String,
    }

    /// A weighted destination of HTTP requests.
    #[schemars(extend("required" = ["destination"]))]
    pub struct HttpRouteDestination {
        destination: Option<Destination>,
        weight: i32,
        headers: Option<Headers>,
    }

    /// A weighted destination of connections.
    #[schemars(extend("required" = ["destination"]))]
    pub struct RouteDestination {
        destination: Option<Destination>,
        weight: i32,
    }

    /// Conditions on a TCP connection.
    pub struct L4MatchAttributes {
        destination_subnets: Vec<String>,
        port: u32,
        source_subnet: String,
        source_labels: BTreeMap<String, String>,
        gateways: Vec<String>,
        source_namespace: String,
    }

    /// Conditions on a TLS connection.
    #[schemars(extend("required" = ["sniHosts"]))]
    pub struct TlsMatchAttributes {
        sni_hosts: Vec<String>,
        destination_subnets: Vec<String>,
        port: u32,
        source_labels: BTreeMap<String, String>,
        gateways: Vec<String>,
        source_namespace: String,
    }

    /// An answer that sends the client elsewhere.
    #[schemars(extend("x-oneof" = [["port", "derivePort"]], "x-kubernetes-validations" = crate::cel::rules(&[crate::cel::REDIRECT_URI_ONCE])))]
    pub struct HttpRedirect {
        uri: String,
        authority: String,
        port: Option<u32>,
        derive_port: Option<RedirectPortSelection>,
        scheme: String,
        /// 301, 302, 303, 307 or 308; 0 means 301.
        redirect_code: u32,
        prefix_rewrite: String,
    }

    /// A fixed answer.
    #[schemars(extend("required" = ["status"]))]
    pub struct HttpDirectResponse {
        status: u32,
        body: Option<HttpBody>,
    }

    /// A body as text or as base64.
    #[schemars(extend("x-oneof" = [["string", "bytes"]]))]
    pub struct HttpBody {
        string: Option<String>,
        bytes: Option<String>,
    }

    /// Changes to path and authority before forwarding.
    #[schemars(extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::REWRITE_URI_ONCE])))]
    pub struct HttpRewrite {
        uri: String,
        authority: String,
        uri_regex_rewrite: Option<RegexRewrite>,
    }

    /// Replaces what an RE2 expression matches.
    pub struct RegexRewrite {
        r#match: String,
        rewrite: String,
    }

    /// Retries of failed requests.
    pub struct HttpRetry {
        /// 0 disables retries.
        attempts: i32,
        per_try_timeout: Option<Duration>,
        retry_on: String,
        retry_remote_localities: Option<bool>,
        retry_ignore_previous_hosts: Option<bool>,
        backoff: Option<Duration>,
    }

    /// Cross-origin resource sharing.
    pub struct CorsPolicy {
        /// Deprecated by `allowOrigins`.
        allow_origin: Vec<String>,
        allow_origins: Vec<StringMatch>,
        allow_methods: Vec<String>,
        allow_headers: Vec<String>,
        expose_headers: Vec<String>,
        max_age: Option<Duration>,
        allow_credentials: Option<bool>,
        unmatched_preflights: UnmatchedPreflights,
    }

    /// Faults put into requests on purpose.
    pub struct HttpFaultInjection {
        delay: Option<FaultDelay>,
        abort: Option<FaultAbort>,
    }

    /// A delay before forwarding.
    #[schemars(extend("x-oneof" = [["fixedDelay", "exponentialDelay"]]))]
    pub struct FaultDelay {
        /// Deprecated by `percentage`: whole percent.
        percent: i32,
        fixed_delay: Option<Duration>,
        exponential_delay: Option<Duration>,
        percentage: Option<Percent>,
    }

    /// An answer with an error instead of forwarding.
    #[schemars(extend("x-oneof" = [["httpStatus", "grpcStatus", "http2Error"]]))]
    pub struct FaultAbort {
        http_status: Option<i32>,
        grpc_status: Option<String>,
        http2_error: Option<String>,
        percentage: Option<Percent>,
    }

    /// A copy of requests that goes elsewhere, answers ignored.
    #[schemars(extend("required" = ["destination"]))]
    pub struct HttpMirrorPolicy {
        destination: Option<Destination>,
        percentage: Option<Percent>,
    }

    /// A percentage, 0.0 to 100.0.
    pub struct Percent {
        value: f64,
    }
}

api_enum! {
    /// Which port a redirect names when none is given.
    pub enum RedirectPortSelection {
        #[default]
        FromProtocolDefault = "FROM_PROTOCOL_DEFAULT",
        FromRequestPort = "FROM_REQUEST_PORT",
    }

    /// What happens to preflight requests of an origin that is not allowed.
    pub enum UnmatchedPreflights {
        #[default]
        Unspecified = "UNSPECIFIED",
        Forward = "FORWARD",
        Ignore = "IGNORE",
    }
}
