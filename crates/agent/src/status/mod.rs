//! The agent's status server on port 15020, and Envoy's metrics on 15090: Istio's ports and paths.
//!
//! Reading is open to whoever reaches the address (the kubelet, Prometheus); what changes something is only for
//! callers on the same machine.

pub mod metrics;
pub mod probes;
mod ready;
pub mod scrape;

use std::net::{IpAddr, SocketAddr};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use prometheus_client::metrics::counter::Counter;
use runtime::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use probes::Probes;
pub use ready::View;
pub use scrape::Scraper;

/// What the pages show. Clones share it.
#[derive(Debug, Clone)]
pub struct Status {
    context: Context,
    view: View,
    own: IpAddr,
    application: Application,
    failed_scrapes: Counter,
    failed_app_scrapes: Counter,
}

/// The ways to the application beside the proxy.
#[derive(Debug, Clone)]
pub struct Application {
    /// The kubelet's probes.
    pub probes: Probes,
    /// Its own metrics, if it has a page of them.
    pub scraper: Option<Scraper>,
}

impl Status {
    /// Pages about `context`'s process, the proxy in `view` and its application, served on `own`.
    pub fn new(context: &Context, view: &View, own: IpAddr, application: Application) -> Self {
        let failed_scrapes = context.metrics.counter(
            "argosy_agent_envoy_scrape_failures_total",
            "Times that Envoy's metrics could not be read",
        );
        Self {
            context: context.clone(),
            view: view.clone(),
            own,
            application,
            failed_scrapes,
            failed_app_scrapes: context.metrics.counter(
                "argosy_agent_application_scrape_failures_total",
                "Times that the application's metrics could not be read",
            ),
        }
    }

    /// The routes of the status port. Paths that are not the agent's own are the admin server's.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/healthz/ready", get(ready_page))
            .route("/stats/prometheus", get(merged_metrics))
            .route("/app-health/{container}/{probe}", get(app_health))
            .route("/quitquitquit", post(quit))
            .route("/drain", post(drain))
            .with_state(self.clone())
            .fallback_service(self.context.admin.router())
            .layer(middleware::from_fn_with_state(self.own, changes_are_local))
    }

    /// The routes of the metrics port: Envoy's metrics alone.
    pub fn metrics_router(&self) -> Router {
        Router::new()
            .route("/stats/prometheus", get(envoy_metrics))
            .with_state(self.clone())
    }

    async fn application_metrics(&self) -> String {
        let Some(scraper) = &self.application.scraper else {
            return String::new();
        };
        scraper.scrape().await.unwrap_or_else(|error| {
            self.failed_app_scrapes.inc();
            tracing::debug!(error, "no metrics from the application");
            String::new()
        })
    }

    async fn envoy_metrics(&self) -> String {
        let Some(admin) = self.view.envoy_admin() else {
            return String::new();
        };
        match admin.prometheus().await {
            Ok(text) => metrics::istio_names(&text),
            Err(error) => {
                self.failed_scrapes.inc();
                tracing::debug!(%error, "no metrics from Envoy");
                String::new()
            }
        }
    }
}

/// Serves `router` until `end`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, router: Router, end: CancellationToken) -> std::io::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(end.cancelled_owned())
        .await
}

async fn ready_page(State(status): State<Status>) -> Response {
    let missing = status.view.missing(&status.context.readiness).await;
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n").into_response()
}

async fn merged_metrics(State(status): State<Status>) -> Response {
    let (envoy, application) = tokio::join!(status.envoy_metrics(), status.application_metrics());
    page(status.context.metrics.encode() + &envoy + &application)
}

async fn envoy_metrics(State(status): State<Status>) -> Response {
    page(status.envoy_metrics().await)
}

fn page(text: String) -> Response {
    ([(header::CONTENT_TYPE, runtime::metrics::CONTENT_TYPE)], text).into_response()
}

/// The kubelet's probe of the application.
async fn app_health(State(status): State<Status>, uri: Uri, headers: HeaderMap) -> Response {
    match status.application.probes.ask(uri.path(), &headers).await {
        Some(code) => code.into_response(),
        None => (StatusCode::NOT_FOUND, "the injector wrote down no such probe\n").into_response(),
    }
}

/// Incoming connections end, and callers go elsewhere; the application can go on calling others.
async fn drain(State(status): State<Status>) -> Response {
    let Some(admin) = status.view.envoy_admin() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "Envoy is not there yet\n").into_response();
    };
    tracing::info!("asked to drain by /drain");
    match admin.drain_inbound().await {
        Ok(()) => "draining\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

async fn quit(State(status): State<Status>) -> &'static str {
    tracing::info!("asked to quit by /quitquitquit");
    status.context.shutdown.cancel();
    "quitting\n"
}

/// Lets only callers on this machine (from loopback, or from the workload's own address) do more than read.
async fn changes_are_local(
    State(own): State<IpAddr>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads || is_local(from.ip(), own) {
        next.run(request).await
    } else {
        (
            StatusCode::FORBIDDEN,
            "only for callers on the workload's own machine\n",
        )
            .into_response()
    }
}

fn is_local(from: IpAddr, own: IpAddr) -> bool {
    let from = from.to_canonical();
    from.is_loopback() || from == own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machine_itself_is_local() {
        let own: IpAddr = "10.0.0.7".parse().unwrap();
        let cases = [
            ("127.0.0.1", true),
            ("127.1.0.21", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.7", true),
            ("10.0.0.8", false),
            ("::ffff:10.0.0.8", false),
        ];
        for (from, expected) in cases {
            assert_eq!(is_local(from.parse().unwrap(), own), expected, "{from}");
        }
    }
}
