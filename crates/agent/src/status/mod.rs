//! The agent's status server on port 15020, and Envoy's metrics on 15090: Istio's ports and paths.
//!
//! Reading is open to whoever reaches the address (the kubelet, Prometheus); what changes something is only for
//! callers on the same machine.

pub mod metrics;
mod ready;

use std::net::{IpAddr, SocketAddr};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use prometheus_client::metrics::counter::Counter;
use runtime::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use ready::View;

/// What the pages show. Clones share it.
#[derive(Debug, Clone)]
pub struct Status {
    context: Context,
    view: View,
    own: IpAddr,
    failed_scrapes: Counter,
}

impl Status {
    /// Pages about `context`'s process and the proxy in `view`, served on `own`.
    pub fn new(context: &Context, view: &View, own: IpAddr) -> Self {
        let failed_scrapes = context.metrics.counter(
            "argosy_agent_envoy_scrape_failures_total",
            "Times that Envoy's metrics could not be read",
        );
        Self {
            context: context.clone(),
            view: view.clone(),
            own,
            failed_scrapes,
        }
    }

    /// The routes of the status port. Paths that are not the agent's own are the admin server's.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/healthz/ready", get(ready_page))
            .route("/stats/prometheus", get(merged_metrics))
            .route("/quitquitquit", post(quit))
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
    page(status.context.metrics.encode() + &status.envoy_metrics().await)
}

async fn envoy_metrics(State(status): State<Status>) -> Response {
    page(status.envoy_metrics().await)
}

fn page(text: String) -> Response {
    ([(header::CONTENT_TYPE, runtime::metrics::CONTENT_TYPE)], text).into_response()
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
