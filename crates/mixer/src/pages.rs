//! HTTP pages: the Prometheus adapter's /metrics, and /debug/mixer on the admin port.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use config::Finding;
use serde::Serialize;

use crate::engine::Engine;

/// Where the configuration page is mounted on the admin port.
pub(crate) const DEBUG_MIXER: &str = "/debug/mixer";

/// Where the graph of services is, below it.
const GRAPH: &str = "/debug/mixer/graph";

/// The Prometheus adapter's page.
pub(crate) fn prometheus(engine: Arc<Engine>) -> Router {
    async fn page(State(engine): State<Arc<Engine>>) -> Response {
        (
            [(header::CONTENT_TYPE, runtime::metrics::CONTENT_TYPE)],
            engine.page(),
        )
            .into_response()
    }
    Router::new().route("/metrics", get(page)).with_state(engine)
}

/// What Mixer has of its configuration, and what is wrong with it.
#[derive(Debug, Serialize)]
struct Configuration {
    /// Whether the feed's first state has arrived.
    received: bool,
    rules: usize,
    workloads: usize,
    metrics: Vec<String>,
    findings: Vec<Finding>,
}

/// The configuration page.
pub(crate) fn debug_config(engine: Arc<Engine>) -> Router {
    async fn page(State(engine): State<Arc<Engine>>) -> Json<Configuration> {
        Json(configuration(&engine))
    }
    async fn edges(State(engine): State<Arc<Engine>>) -> Json<serde_json::Value> {
        Json(graph(&engine))
    }
    Router::new()
        .route(DEBUG_MIXER, get(page))
        .route(GRAPH, get(edges))
        .with_state(engine)
}

/// The graph of services.
pub(crate) fn graph(engine: &Engine) -> serde_json::Value {
    let shown = engine.graph.show(engine.now());
    serde_json::to_value(shown).unwrap_or_default()
}

fn configuration(engine: &Engine) -> Configuration {
    let Ok(policies) = engine.policies() else {
        return Configuration {
            received: false,
            rules: 0,
            workloads: 0,
            metrics: Vec::new(),
            findings: Vec::new(),
        };
    };
    Configuration {
        received: true,
        rules: policies.rules.len(),
        workloads: policies.mesh.len(),
        metrics: policies
            .rules
            .metrics()
            .iter()
            .map(|metric| metric.name.clone())
            .collect(),
        findings: policies.findings.to_vec(),
    }
}
