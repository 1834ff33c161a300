//! The authority's pages on the admin server, for `argosy ca`: `GET /ca/status`, `PUT /ca/rotate`, `/ca/taint` and
//! `/ca/revoke`.
//!
//! The admin server shows them to callers on this machine alone. `PUT`, because a browser asks before it sends one to
//! another site.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use crate::ca::AuthorityError;
use crate::keeper::{Command, RotateError};
use crate::revoke::{self, RevokeError, Which};
use crate::status::Status;

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

#[derive(Debug, Deserialize)]
struct Taint {
    /// SHA-256 of the authority's certificate.
    fingerprint: String,
}

#[derive(Debug, Deserialize)]
struct Revoke {
    serial: Option<String>,
    identity: Option<String>,
    /// Also a serial number that is not in the journal.
    #[serde(default)]
    force: bool,
}

pub(crate) fn routes(keeper: Keeper) -> Router {
    Router::new()
        .route("/ca/status", get(status))
        .route("/ca/rotate", put(rotate))
        .route("/ca/taint", put(taint))
        .route("/ca/revoke", put(revoke))
        .with_state(keeper)
}

async fn status(State(keeper): State<Keeper>) -> Answer {
    ask(&keeper, Command::Status).await
}

async fn rotate(State(keeper): State<Keeper>, Query(query): Query<Rotate>) -> Answer {
    let emergency = query.emergency;
    ask(&keeper, |answer| Command::Rotate { emergency, answer }).await
}

async fn taint(State(keeper): State<Keeper>, Query(Taint { fingerprint }): Query<Taint>) -> Answer {
    ask(&keeper, |answer| Command::Taint { fingerprint, answer }).await
}

async fn revoke(
    State(keeper): State<Keeper>,
    Query(query): Query<Revoke>,
) -> Result<Json<revoke::Answer>, (StatusCode, String)> {
    let refuse = |error: RevokeError| (revoke_code(&error), format!("{error}\n"));
    let which = Which::parse(query.serial.as_deref(), query.identity.as_deref(), query.force);
    let which = which.map_err(refuse)?;
    let (answer, answered) = oneshot::channel();
    // As below.
    let _ = keeper.send(Command::Revoke { which, answer }).await;
    let result = answered.await.unwrap_or(Err(RevokeError::Stopping));
    result.map(Json).map_err(refuse)
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

fn revoke_code(error: &RevokeError) -> StatusCode {
    match error {
        RevokeError::Which | RevokeError::Serial(_) | RevokeError::Identity(_) => StatusCode::BAD_REQUEST,
        RevokeError::Nothing(_) | RevokeError::Unknown { .. } => StatusCode::NOT_FOUND,
        RevokeError::TooMany(_) | RevokeError::Authority(AuthorityError::List { .. }) => StatusCode::CONFLICT,
        RevokeError::Journal(_) | RevokeError::Authority(_) => StatusCode::INTERNAL_SERVER_ERROR,
        RevokeError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn code(error: &RotateError) -> StatusCode {
    match error {
        RotateError::UnderWay(_) | RotateError::Plugged | RotateError::Signs => StatusCode::CONFLICT,
        RotateError::Fingerprint(_) => StatusCode::BAD_REQUEST,
        RotateError::Unknown(_) => StatusCode::NOT_FOUND,
        RotateError::Authority(_) => StatusCode::INTERNAL_SERVER_ERROR,
        RotateError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    }
}
