//! The admin server: `/healthz`, `/readyz`, `/metrics`, `/logging`, and what services mount beside them.
//!
//! It knows nothing of what services do. It has no login: it belongs on a loopback address, or behind a network policy
//! that lets the kubelet and Prometheus in. Of callers on this machine, browsers are kept out, which bring the requests of
//! pages from anywhere.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::RwLock;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::logging::LogHandle;
use crate::metrics::{self, Metrics};
use crate::readiness::Readiness;

/// A route could not be mounted: a fault of the program.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The prefix does not start with `/`, ends with it, or is the server's own.
    #[error(
        "{0:?} cannot be mounted: a prefix starts with '/', does not end with it, and is not one of the server's own"
    )]
    Prefix(String),
    /// The prefix is mounted already.
    #[error("{0:?} is mounted already")]
    Taken(String),
}

/// The admin server's contents. Clones share them.
#[derive(Debug, Clone)]
pub struct Admin {
    metrics: Metrics,
    readiness: Readiness,
    log: LogHandle,
    mounts: Arc<RwLock<BTreeMap<String, Router>>>,
}

/// What monitoring and probes need from other machines.
pub const PUBLIC: [&str; 3] = ["/healthz", "/readyz", "/metrics"];
const OWN: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/logging"];

impl Admin {
    /// A server that shows `metrics` and `readiness` and changes `log`'s level.
    #[must_use]
    pub fn new(metrics: Metrics, readiness: Readiness, log: LogHandle) -> Self {
        Self {
            metrics,
            readiness,
            log,
            mounts: Arc::default(),
        }
    }

    /// Serves `prefix` and all below it by `router`, which sees whole paths; possible while the server runs.
    ///
    /// # Errors
    /// When the prefix is not well-formed or is taken.
    pub fn mount(&self, prefix: &str, router: Router) -> Result<(), MountError> {
        if !prefix.starts_with('/') || prefix.ends_with('/') || OWN.contains(&prefix) {
            return Err(MountError::Prefix(prefix.to_owned()));
        }
        let mut mounts = self.mounts.write();
        if mounts.contains_key(prefix) {
            return Err(MountError::Taken(prefix.to_owned()));
        }
        mounts.insert(prefix.to_owned(), router);
        Ok(())
    }

    /// Takes a mount away again.
    pub fn unmount(&self, prefix: &str) {
        self.mounts.write().remove(prefix);
    }

    /// The server's routes, for tests and for serving by other means.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(index))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics_page))
            .route("/logging", get(log_level).put(set_log_level))
            .fallback(mounted)
            .with_state(self.clone())
    }

    /// Serves until `shutdown` is cancelled and the requests under way have ended. Callers that are not on this machine,
    /// that name another host than an IP address or `localhost`, or that are browsers (`Origin`) see [`PUBLIC`] alone: the
    /// rest shows the mesh's configuration or changes the process, and has no login.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
        let routes = self.router().layer(middleware::from_fn(others_see_health_only));
        axum::serve(
            listener,
            routes.into_make_service_with_connect_info::<SocketAddr>(),
        )
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
    }

    /// The mount with the longest prefix of `path` that ends at a segment.
    fn find(&self, path: &str) -> Option<Router> {
        let mounts = self.mounts.read();
        let holds = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        mounts
            .iter()
            .rev()
            .find(|(prefix, _)| holds(prefix))
            .map(|(_, router)| router.clone())
    }
}

async fn others_see_health_only(
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if PUBLIC.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    match refusal(from, &request) {
        None => next.run(request).await,
        Some(reason) => (StatusCode::FORBIDDEN, reason).into_response(),
    }
}

/// Why a request gets none of what only people and tools of this machine may have. An address proves little: a browser on the
/// machine asks for any page from anywhere, by a name of that page's own that leads here (DNS rebinding), or with the `Origin`
/// that the Fetch standard (section 3.2) demands of what crosses origins or changes something.
fn refusal(from: SocketAddr, request: &Request) -> Option<&'static str> {
    if !from.ip().to_canonical().is_loopback() {
        return Some("only for callers on this machine's loopback interface\n");
    }
    if request.headers().contains_key(header::ORIGIN) {
        return Some("not for pages in a browser: requests with an Origin are refused; use curl or argosy\n");
    }
    let named = request.headers().get_all(header::HOST).iter();
    let parsed = named.map(|host| Authority::try_from(host.as_bytes()).ok());
    let mut hosts = parsed.chain(request.uri().authority().cloned().map(Some));
    match hosts.all(|host| host.is_some_and(|host| is_local(host.host()))) {
        true => None,
        false => Some("the Host is neither an IP address nor localhost: ask by one of these\n"),
    }
}

/// Whether a host leads here whatever DNS says.
fn is_local(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

async fn index(State(admin): State<Admin>) -> String {
    let mounts = admin.mounts.read();
    let all = OWN.iter().copied().chain(mounts.keys().map(String::as_str));
    all.map(|path| format!("{path}\n")).collect()
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let missing = admin.readiness.missing();
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    let lines: String = missing
        .iter()
        .map(|m| format!("{}: {}\n", m.condition, m.reason))
        .collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

async fn metrics_page(State(admin): State<Admin>) -> Response {
    (
        [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)],
        admin.metrics.encode(),
    )
        .into_response()
}

async fn log_level(State(admin): State<Admin>) -> String {
    format!("{}\n", admin.log.level())
}

#[derive(Deserialize)]
struct Wanted {
    level: Option<String>,
}

async fn set_log_level(State(admin): State<Admin>, Query(wanted): Query<Wanted>) -> Response {
    let Some(level) = wanted.level else {
        let text = "no level; say PUT /logging?level=debug, or a list such as info,xds=debug\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    match admin.log.set_level(&level) {
        Ok(()) => {
            let level = admin.log.level();
            tracing::warn!(level, "log level changed");
            format!("{level}\n").into_response()
        }
        Err(e) => (StatusCode::BAD_REQUEST, format!("{e}\n")).into_response(),
    }
}

async fn mounted(State(admin): State<Admin>, request: Request) -> Result<Response, Infallible> {
    match admin.find(request.uri().path()) {
        Some(router) => router.oneshot(request).await,
        None => Ok((StatusCode::NOT_FOUND, "no such page; / lists them\n").into_response()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};

    fn admin() -> Admin {
        Admin::new(Metrics::new(), Readiness::new(), LogHandle::detached())
    }

    async fn ask(admin: &Admin, method: &str, uri: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .body(Body::empty())
            .unwrap();
        let response = admin.router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readyz_says_what_is_missing_and_why() {
        let admin = admin();
        let starting = "start: no service has started\n";
        assert_eq!(ask(&admin, "GET", "/readyz").await, (503, starting.into()));
        let feed = admin.readiness.scoped("pilot").condition("feed");
        feed.set_ready();
        assert_eq!(ask(&admin, "GET", "/readyz").await, (200, "ready\n".into()));
        feed.set_not_ready("galley is away");
        assert_eq!(
            ask(&admin, "GET", "/readyz").await,
            (503, "pilot/feed: galley is away\n".into())
        );
        assert_eq!(ask(&admin, "GET", "/healthz").await, (200, "ok\n".into()));
    }

    #[tokio::test]
    async fn mounts_are_found_by_whole_segments_and_not_taken_twice() {
        let admin = admin();
        let say = |what: &'static str| Router::new().fallback(move || async move { what });
        admin.mount("/debug", say("all")).unwrap();
        admin.mount("/debug/syncz", say("syncz")).unwrap();
        assert_eq!(ask(&admin, "GET", "/debug/syncz/x").await.1, "syncz");
        assert_eq!(ask(&admin, "GET", "/debug/other").await.1, "all");
        assert_eq!(ask(&admin, "GET", "/debugger").await.0, 404);
        assert!(matches!(
            admin.mount("/debug", say("again")),
            Err(MountError::Taken(_))
        ));
        assert!(matches!(
            admin.mount("/metrics", say("mine")),
            Err(MountError::Prefix(_))
        ));
        assert!(ask(&admin, "GET", "/").await.1.contains("/debug/syncz\n"));
    }

    #[tokio::test]
    async fn a_bad_level_is_refused_with_a_reason() {
        let admin = admin();
        assert_eq!(ask(&admin, "PUT", "/logging?level=debug").await.0, 200);
        let (status, text) = ask(&admin, "PUT", "/logging?level=loud").await;
        assert!(status == 400 && text.contains("loud"), "{text}");
        let (status, text) = ask(&admin, "PUT", "/logging").await;
        assert!(status == 400 && text.contains("PUT /logging?level="), "{text}");
    }

    #[tokio::test]
    async fn strangers_see_health_and_metrics_alone() {
        let routes = admin()
            .router()
            .layer(middleware::from_fn(others_see_health_only));
        let status = async |from: &str, method: &str, path: &str| {
            let from: SocketAddr = from.parse().unwrap();
            let request = Request::builder()
                .method(method)
                .uri(path)
                .extension(ConnectInfo(from));
            let response = routes
                .clone()
                .oneshot(request.body(Body::empty()).unwrap())
                .await
                .unwrap();
            response.status().as_u16()
        };
        for path in PUBLIC {
            assert_ne!(status("192.0.2.7:40000", "GET", path).await, 403, "{path}");
        }
        for (method, path) in [
            ("PUT", "/logging?level=trace"),
            ("GET", "/logging"),
            ("GET", "/"),
            ("GET", "/debug/x"),
        ] {
            assert_eq!(status("192.0.2.7:40000", method, path).await, 403, "{path}");
        }
        assert_eq!(
            status("[::ffff:127.0.0.1]:40000", "PUT", "/logging?level=info").await,
            200
        );
    }

    #[tokio::test]
    async fn istio_security_2022_008_browsers_on_this_machine_see_health_and_metrics_alone() {
        let routes = admin()
            .router()
            .layer(middleware::from_fn(others_see_health_only));
        let check = async |method: &str, uri: &str, headers: &[(&str, &[u8])], expected: Result<(), &str>| {
            let from: SocketAddr = "127.0.0.1:40000".parse().unwrap();
            let mut request = Request::builder()
                .method(method)
                .uri(uri)
                .extension(ConnectInfo(from));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Body::empty()).unwrap();
            let response = routes.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            let body = String::from_utf8_lossy(&body);
            match expected {
                Ok(()) => assert_eq!(status, 200, "{method} {uri} {headers:?}: {body}"),
                Err(part) => assert!(
                    status == 403 && body.contains(part),
                    "{uri} {headers:?}: {status} {body}"
                ),
            }
        };
        let change = "/logging?level=info";
        for host in [
            "127.0.0.1",
            "127.0.0.1:15014",
            "[::1]:15014",
            "[::1]",
            "localhost:15014",
            "LocalHost",
            "192.0.2.7:80",
        ] {
            check("PUT", change, &[("host", host.as_bytes())], Ok(())).await;
        }
        let wrong: [&[u8]; 7] = [
            b"rebound.example:15014",
            b"localhost.example",
            b"127.0.0.1.example",
            b"argosy",
            b"",
            b"[::1",
            b"\xff",
        ];
        for host in wrong {
            check("PUT", change, &[("host", host)], Err("neither an IP address")).await;
            check("GET", "/", &[("host", host)], Err("neither an IP address")).await;
        }
        let two: [(&str, &[u8]); 2] = [("host", b"localhost"), ("host", b"rebound.example")];
        check("GET", "/logging", &two, Err("neither an IP address")).await;
        // The host of HTTP/2, and of a request line with a whole URI.
        check(
            "GET",
            "http://rebound.example/logging",
            &[],
            Err("neither an IP address"),
        )
        .await;
        check("GET", "http://127.0.0.1:15014/logging", &[], Ok(())).await;

        for origin in ["http://page.example", "null", "http://127.0.0.1:15014"] {
            let headers: [(&str, &[u8]); 2] = [("host", b"127.0.0.1:15014"), ("origin", origin.as_bytes())];
            check("PUT", change, &headers, Err("Origin")).await;
        }
        // Probes and Prometheus may ask by any name.
        for path in ["/healthz", "/metrics"] {
            check("GET", path, &[("host", b"pilot.argosy-system.svc:15014")], Ok(())).await;
        }
    }
}
