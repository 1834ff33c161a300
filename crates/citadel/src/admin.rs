//! The authority's pages on the admin server, for `argosy ca`: `GET /ca/status`, `PUT /ca/rotate`.
//!
//! The admin server shows them to callers on this machine alone. `PUT`, because a browser asks before it sends one to
//! another site.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use crate::keeper::{Command, RotateError, Status};

/// Where the pages are mounted.
pub(crate) const PREFIX: &str = "/ca";

type Keeper = mpsc::Sender<Command>;
type Answer = Result<Json<Status>, (StatusCode, String)>;

#[derive(Debug, Deserialize)]
struct Rotate {
    /// Do not wait for certificates to end: the key was exposed.
    #[serde(default)]
    emergency: bool,
}

pub(crate) fn routes(keeper: Keeper) -> Router {
    Router::new()
        .route("/ca/status", get(status))
        .route("/ca/rotate", put(rotate))
        .with_state(keeper)
}

async fn status(State(keeper): State<Keeper>) -> Answer {
    ask(&keeper, Command::Status).await
}

async fn rotate(State(keeper): State<Keeper>, Query(query): Query<Rotate>) -> Answer {
    let emergency = query.emergency;
    ask(&keeper, |answer| Command::Rotate { emergency, answer }).await
}

async fn ask(
    keeper: &Keeper,
    command: impl FnOnce(oneshot::Sender<Result<Status, RotateError>>) -> Command,
) -> Answer {
    let (answer, answered) = oneshot::channel();
    // Nobody is left to receive the command, or to answer it, when Citadel ends.
    let _ = keeper.send(command(answer)).await;
    let result = answered.await.unwrap_or(Err(RotateError::Stopping));
    result
        .map(Json)
        .map_err(|error| (code(&error), format!("{error}\n")))
}

fn code(error: &RotateError) -> StatusCode {
    match error {
        RotateError::UnderWay(_) | RotateError::Plugged => StatusCode::CONFLICT,
        RotateError::Authority(_) => StatusCode::INTERNAL_SERVER_ERROR,
        RotateError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    }
}
