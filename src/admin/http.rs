//! `/healthz` (the process lives), `/readyz` (clients are let in, and every shard has a node that answers) and `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::admin::Operated;
use crate::admin::metrics;
use crate::ident::ShardId;

/// Answers until the proxy stops.
pub async fn serve(listener: TcpListener, process: Arc<dyn Operated>, mut stopping: watch::Receiver<bool>) {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(all_metrics))
        .with_state(process);
    let served = axum::serve(listener, router).with_graceful_shutdown(async move {
        // An error means that whoever could say so is gone, which says it too.
        let _ = stopping.wait_for(|stop| *stop).await;
    });
    if let Err(error) = served.await {
        tracing::error!(%error, "HTTP ended");
    }
}

/// Whether the request brings the map's token, where it has one.
fn allowed(process: &dyn Operated, headers: &HeaderMap) -> bool {
    let deployment = process.deployment();
    let Some(token) = &deployment.map.listen.http_token else { return true };
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    bool::from(given.ct_eq(token.reveal().as_bytes()))
}

async fn healthz(State(process): State<Arc<dyn Operated>>, headers: HeaderMap) -> (StatusCode, String) {
    if !allowed(&*process, &headers) {
        return (StatusCode::UNAUTHORIZED, "unauthorized\n".to_owned());
    }
    (StatusCode::OK, "ok\n".to_owned())
}

async fn all_metrics(State(process): State<Arc<dyn Operated>>, headers: HeaderMap) -> impl IntoResponse {
    let plain = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    if !allowed(&*process, &headers) {
        return (StatusCode::UNAUTHORIZED, plain, "unauthorized\n".to_owned());
    }
    (StatusCode::OK, plain, metrics::render(&*process))
}

async fn readyz(State(process): State<Arc<dyn Operated>>, headers: HeaderMap) -> (StatusCode, String) {
    if !allowed(&*process, &headers) {
        return (StatusCode::UNAUTHORIZED, "unauthorized\n".to_owned());
    }
    if !process.serving() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    let deployment = process.deployment();
    let mut missing = Vec::new();
    for (name, service) in &deployment.services {
        for (shard, it) in (0_u16..).map(ShardId).zip(&service.database.shards) {
            if service.topology.any(shard).is_none() {
                missing.push(format!("{name}.{}: no node answers", it.name));
            }
        }
        if service.schema.current().is_none() {
            missing.push(format!("{name}: the schema has not been read"));
        }
    }
    if missing.is_empty() {
        (StatusCode::OK, format!("ok, map version {}\n", deployment.map.version))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", missing.join("\n")))
    }
}
