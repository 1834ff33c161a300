//! Pilot's debug pages: `/debug/syncz` (what each proxy has accepted) and `/debug/resources?proxy=NODE_ID` (what it
//! should have and which objects are behind it).

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use crate::proxies::Proxies;

#[derive(Deserialize)]
struct Which {
    proxy: String,
}

/// The page of what each proxy has accepted.
pub fn syncz(proxies: Arc<Proxies>) -> Router {
    let page = async |State(proxies): State<Arc<Proxies>>| Json(proxies.syncz());
    Router::new().route("/debug/syncz", get(page)).with_state(proxies)
}

/// The page of what one proxy should have.
pub fn resources(proxies: Arc<Proxies>) -> Router {
    Router::new()
        .route("/debug/resources", get(resources_page))
        .with_state(proxies)
}

async fn resources_page(State(proxies): State<Arc<Proxies>>, Query(which): Query<Which>) -> Response {
    match proxies.resources(&which.proxy) {
        Some(resources) => Json(resources).into_response(),
        None => {
            let text = format!(
                "no proxy {:?} is connected; /debug/syncz lists them\n",
                which.proxy
            );
            (StatusCode::NOT_FOUND, text).into_response()
        }
    }
}
