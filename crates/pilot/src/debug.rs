//! Pilot's debug pages: `/debug/syncz` (what each proxy has accepted) and `/debug/resources?proxy=NAME.NAMESPACE`
//! (what it should have and which objects are behind it; a whole node id will do too).

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
    proxy: Option<String>,
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
    let Some(proxy) = which.proxy else {
        let text = "which proxy? Say /debug/resources?proxy=NAME.NAMESPACE; /debug/syncz lists them\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    match proxies.resources(&proxy) {
        Some(resources) => Json(resources).into_response(),
        None => {
            let text = format!("no proxy {proxy:?} is connected; /debug/syncz lists them\n");
            (StatusCode::NOT_FOUND, text).into_response()
        }
    }
}
