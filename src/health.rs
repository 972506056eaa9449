//! A listener that says whether a worker consumes, for whoever starts and stops workers. Only `bin/` imports this.
//!
//! `/healthz` says that the process answers, `/readyz` that tasks get to it. Must not touch: how the worker works.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::worker::Health;

/// Listens at `address` (`host:port`) for as long as the process lives.
///
/// # Errors
/// Why it can't, in words.
pub async fn listen(address: &str, health: watch::Receiver<Health>) -> Result<SocketAddr, String> {
    let wrong = |error| format!("can't listen at --health {address}: {error}; give a free address, as 127.0.0.1:8081");
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let bound = listener.local_addr().map_err(wrong)?;
    let routes = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "nobody can ask for the worker's health any more");
        }
    });
    tracing::info!(url = format!("http://{bound}/readyz"), "listening for who asks whether it consumes");
    Ok(bound)
}

async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

async fn readyz(State(health): State<watch::Receiver<Health>>) -> (StatusCode, Json<Value>) {
    let Health { consuming, queues, draining, reason } = health.borrow().clone();
    let ready = health.borrow().is_ready();
    let status = match (ready, draining) {
        (true, _) => "consuming",
        (false, true) => "draining",
        (false, false) => "not consuming",
    };
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({"status": status, "consuming": consuming, "queues": queues, "reason": reason})))
}
