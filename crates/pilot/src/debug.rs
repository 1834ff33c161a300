//! Pilot's debug pages. Whole configurations and endpoints are for callers on this machine alone, as all admin pages but
//! health, readiness and metrics.
//!
//! `/debug/syncz` (what each proxy has accepted), `/debug/pushes` (what became of the newest changes), and for one proxy
//! (`?proxy=NAME.NAMESPACE`, a whole node id will do too) `/debug/resources` (what it should have and which objects are behind
//! it), `/debug/config_dump` (the same in full, in the form of Envoy's own page) and `/debug/endpoints`.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use config::ObjectKey;
use runtime::admin::{Admin, MountError};
use serde::Deserialize;
use serde_json::{Value, json};
use xds::TypeUrl;
use xds::types::{CLUSTER, ENDPOINTS, LISTENER, ROUTE};

use crate::proxies::Proxies;
use crate::tables::ProxyTable;

#[derive(Deserialize)]
struct Which {
    proxy: Option<String>,
    /// Only resources whose name has this in it.
    name: Option<String>,
}

/// Adds all pages.
///
/// # Errors
/// When another page has the name of one of them.
pub fn mount(admin: &Admin, proxies: &Arc<Proxies>) -> Result<(), MountError> {
    let syncz = async |State(proxies): State<Arc<Proxies>>| Json(proxies.syncz());
    let pushes = async |State(proxies): State<Arc<Proxies>>| Json(proxies.timeline().json());
    let page = |path: &str, route| Router::new().route(path, route).with_state(proxies.clone());
    for (path, route) in [
        ("/debug/syncz", get(syncz)),
        ("/debug/pushes", get(pushes)),
        ("/debug/resources", get(resources)),
        ("/debug/config_dump", get(config_dump)),
        ("/debug/endpoints", get(endpoints)),
    ] {
        admin.mount(path, page(path, route))?;
    }
    Ok(())
}

async fn resources(State(proxies): State<Arc<Proxies>>, Query(which): Query<Which>) -> Response {
    of_proxy(&which, |proxy| proxies.resources(proxy))
}

async fn config_dump(State(proxies): State<Arc<Proxies>>, Query(which): Query<Which>) -> Response {
    of_proxy(&which, |proxy| {
        Some(dump(&proxies.wanted(proxy)?, which.name.as_deref()))
    })
}

async fn endpoints(State(proxies): State<Arc<Proxies>>, Query(which): Query<Which>) -> Response {
    of_proxy(&which, |proxy| {
        Some(all(&proxies.wanted(proxy)?, &ENDPOINTS, which.name.as_deref()))
    })
}

/// A page about one proxy.
fn of_proxy(which: &Which, page: impl FnOnce(&str) -> Option<Value>) -> Response {
    let Some(proxy) = &which.proxy else {
        let text = "which proxy? Say ?proxy=NAME.NAMESPACE; /debug/syncz lists them\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    match page(proxy) {
        Some(page) => Json(page).into_response(),
        None => {
            let text = format!("no proxy {proxy:?} is connected; /debug/syncz lists them\n");
            (StatusCode::NOT_FOUND, text).into_response()
        }
    }
}

/// All that a proxy should have, by type.
fn dump(table: &ProxyTable, name: Option<&str>) -> Value {
    json!({
        "clusters": all(table, &CLUSTER, name),
        "endpoints": all(table, &ENDPOINTS, name),
        "listeners": all(table, &LISTENER, name),
        "routes": all(table, &ROUTE, name),
    })
}

/// The resources of a type, decoded, with the objects behind them.
fn all(table: &ProxyTable, type_url: &TypeUrl, name: Option<&str>) -> Value {
    let resources = table.table.of_type(type_url);
    let wanted = resources
        .iter()
        .filter(|resource| name.is_none_or(|name| resource.name.contains(name)));
    let shown = wanted.map(|resource| {
        let objects = table.origins(type_url, &resource.name);
        let objects: Vec<String> = objects.iter().map(ObjectKey::to_string).collect();
        let config = envoygen::to_json(type_url.as_str(), &resource.bytes);
        json!({
            "name": &*resource.name,
            "version": format!("{:016x}", resource.version),
            "objects": objects,
            "config": config.unwrap_or_else(|error| Value::from(error.to_string())),
        })
    });
    shown.collect()
}
