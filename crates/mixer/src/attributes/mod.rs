//! Attributes from what Envoy's APIs carry: the one place that says where each comes from.
//!
//! | attribute | ext_authz | access log |
//! |---|---|---|
//! | `source.ip` | the peer's address on the connection, never X-Forwarded-For | `downstream_direct_remote_address` |
//! | `source.principal`, `.user` | URI in the peer's certificate, which Envoy verified | the same; outbound: the caller's identity |
//! | `source.namespace`, `.serviceAccount` | the workload's, else those in the principal | the same |
//! | `source.uid`, `.name`, `.labels`, `.workload.*`, `.owner`, `.services` | the feed's workload at `source.ip`, if it has that principal | the same; outbound: the caller's workload |
//! | `destination.ip`, `.port` | `destination.address` | inbound `downstream_local_address`, outbound `upstream_remote_address` |
//! | `destination.principal`, `.user` | the caller's identity (its certificate towards Mixer) | the same; outbound: custom tag `destination.principal` |
//! | `destination.uid`, `.name`, `.labels`, `.workload.*`, `.container.name`, … | the caller's workload | the same; outbound: the feed's workload at `destination.ip` |
//! | `destination.service.*`, `api.service` | of the workload's services at this port the one that the authority names, else the first | the same; outbound: the service in `upstream_cluster` |
//! | `request.headers` | `request.http.headers` (those that the filter sends) | `request_headers` (those that the logger is told to send), user agent, referer, request id |
//! | `request.path`, `.url_path`, `.query_params` | `request.http.path` | `request.path`, or the path before a rewrite |
//! | `request.method`, `.host`, `.scheme`, `.id` | `request.http` | `request` |
//! | `request.size`, `.total_size` | `request.http.size` if known | body bytes; header and body bytes |
//! | `request.time`, `context.time`, `context.timestamp` | `request.time` | `start_time` |
//! | `request.useragent`, `.referer`, `.api_key` | headers, query | the same |
//! | `request.auth.*` | dynamic metadata of Envoy's jwt_authn filter | the same |
//! | `response.*` | absent | `response`, `duration` |
//! | `connection.mtls` | whether the peer's certificate has a SPIFFE id | the same; outbound: whether the certificate of the upstream that was reached for has one |
//! | `connection.requested_server_name` | `tls_session.sni` | `tls_sni_hostname` |
//! | `connection.event`, `.id`, `.received.*`, `.sent.*`, `.duration` | absent | TCP entries |
//! | `context.protocol`, `api.protocol` | `tcp` without an HTTP request, `grpc` by content type, else `http` | the same |
//! | `context.reporter.kind`, `.local` | `inbound` | the log's name, else the cluster's direction |
//! | `context.reporter.uid` | the caller's workload | the same |
//! | `context.proxy_error_code` | absent | response flags |
//!
//! A rate limit descriptor carries what its rule reads of the first column, under the attributes' names, and the
//! workload that asks; names, labels and services are found as for a check. What stands nowhere in the table is absent
//! (`origin.*`, `check.*`, `quota.*`, `rbac.permissive.*`, `api.operation`, `api.version`, `request.reason`,
//! `context.proxy_version`, `*.metadata`).
//!
//! Nothing is taken from what a client can forge except the request itself: labels, names and identities come from
//! certificates and the feed.

pub(crate) mod address;
pub(crate) mod check;
mod claims;
pub(crate) mod descriptor;
#[cfg(test)]
mod families;
mod flags;
pub(crate) mod http_log;
pub(crate) mod log;
pub(crate) mod parties;
pub(crate) mod tcp_log;
pub(crate) mod time;
