//! The OpenAPI document, a page that shows it, and the way there.

use axum::Json;
use axum::extract::State;
use axum::response::Redirect;

use super::super::app::Shared;

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "health", responses(
    (status = 200, description = "OpenAPI 3.1", body = serde_json::Value),
))]
pub(super) async fn openapi(State(app): State<Shared>) -> Json<utoipa::openapi::OpenApi> {
    Json(app.document.clone())
}

/// Where somebody wants to go who opens the address in a browser.
pub(super) async fn root() -> Redirect {
    Redirect::temporary("/docs/")
}
