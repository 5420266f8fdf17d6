//! The handlers: each a small function of the state.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;

use crate::health::{ConsoleState, Health};
use crate::process;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const INDEX: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>DistributedLog</title>
<h1>DistributedLog</h1>
<ul>
<li><a href=\"/metrics\">/metrics</a>: metrics for Prometheus</li>
<li><a href=\"/health/live\">/health/live</a>: whether the process runs</li>
<li><a href=\"/health/ready\">/health/ready</a>: whether clients are served</li>
</ul>
</html>
";

/// All paths.
pub fn router(state: Arc<ConsoleState>) -> Router {
    Router::new()
        .route("/", get(|| async { Html(INDEX) }))
        .route("/metrics", get(metrics))
        .route(
            "/health/live",
            get(|| async { no_store(StatusCode::OK, "live\n") }),
        )
        .route("/health/ready", get(ready))
        .fallback(|| async { (StatusCode::NOT_FOUND, "no such path; see /\n") })
        .with_state(state)
}

async fn ready(State(state): State<Arc<ConsoleState>>) -> Response {
    let health = state.health();
    let status = match health {
        Health::Ready => StatusCode::OK,
        Health::Starting | Health::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    no_store(status, format!("{}\n", health.word()))
}

async fn metrics(State(state): State<Arc<ConsoleState>>) -> Response {
    let Some(registry) = state.registry() else {
        return no_store(
            StatusCode::SERVICE_UNAVAILABLE,
            "no metrics yet: starting\n",
        );
    };
    // With many topics this takes long enough to be in the way of the requests of clients.
    let encoded = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        text::encode_registry(&mut text, &registry.lock())?;
        text::encode_registry(&mut text, &process::registry())?;
        text::encode_eof(&mut text).map(|()| text)
    });
    match encoded.await {
        Ok(Ok(text)) => {
            let headers = [
                (header::CONTENT_TYPE, OPEN_METRICS),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (headers, text).into_response()
        }
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "metrics could not be encoded");
    no_store(
        StatusCode::INTERNAL_SERVER_ERROR,
        "metrics could not be encoded\n",
    )
}

fn no_store(status: StatusCode, text: impl Into<String>) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], text.into()).into_response()
}
