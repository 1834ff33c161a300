//! The HTTP server: every path echoes, `/call` calls another service, `/seen` tells what was received.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::behaviour::Behaviour;
use crate::call::Call;
use crate::echo::{self, Echo};
use crate::instance::Instance;

/// Larger bodies are refused with 413.
const MAX_BODY: usize = 1 << 20;

type Pairs = Query<Vec<(String, String)>>;

pub(crate) async fn serve(
    listener: TcpListener,
    instance: Arc<Instance>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/call", get(call))
        .route("/seen", get(seen))
        .route("/healthz", get(async || "ok\n"))
        .fallback(answer)
        .with_state(instance);
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await?;
    Ok(())
}

async fn seen(State(instance): State<Arc<Instance>>) -> Response {
    Json(instance.seen.counts()).into_response()
}

async fn call(State(instance): State<Arc<Instance>>, Query(query): Pairs) -> Response {
    match Call::parse(&query) {
        Ok(call) => Json(instance.caller.run(&call).await).into_response(),
        Err(bad) => (StatusCode::BAD_REQUEST, format!("{bad}\n")).into_response(),
    }
}

async fn answer(State(instance): State<Arc<Instance>>, Query(query): Pairs, request: Request) -> Response {
    let behaviour = match Behaviour::parse(&query) {
        Ok(behaviour) => behaviour,
        Err(bad) => return (StatusCode::BAD_REQUEST, format!("{bad}\n")).into_response(),
    };
    let (request, body) = request.into_parts();
    let id = behaviour
        .id
        .clone()
        .or_else(|| echo::text(&request.headers, "x-request-id"));
    let attempt = instance.seen.record(request.uri.path(), id.as_deref());
    tracing::debug!(method = %request.method, uri = %request.uri, attempt, "received");
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a body has at most {MAX_BODY} bytes\n"),
        )
            .into_response();
    };
    tokio::time::sleep(behaviour.delay).await;
    let failing = behaviour.fail.is_none_or(|fail| fail.fails(attempt));
    let status = if failing { behaviour.status } else { StatusCode::OK };
    (status, Json(Echo::new(&instance, &request, &body, attempt))).into_response()
}
