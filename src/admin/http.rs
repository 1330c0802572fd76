//! `/healthz` (the process lives), `/readyz` (clients are let in, and every shard has a node that answers) and `/metrics`.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::admin::Operated;
use crate::admin::Standing;
use crate::admin::metrics;

/// Lets in whoever comes, until another process does.
struct Door {
    listener: Option<TcpListener>,
    address: SocketAddr,
    standing: watch::Receiver<Standing>,
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        if let Some(listener) = &mut self.listener {
            tokio::select! {
                came = Listener::accept(listener) => return came,
                _ = self.standing.wait_for(|it| *it == Standing::Former) => {}
            }
        }
        self.listener = None;
        pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Answers until the proxy stops; who comes is another process's affair as soon as that has taken over.
pub async fn serve(
    listener: TcpListener,
    process: Arc<dyn Operated>,
    standing: watch::Receiver<Standing>,
    mut stopping: watch::Receiver<bool>,
) {
    let address = match listener.local_addr() {
        Ok(address) => address,
        Err(error) => return tracing::error!(%error, "HTTP cannot be served"),
    };
    let listener = Door { listener: Some(listener), address, standing };
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
    let missing = super::missing(&*process);
    if missing.is_empty() {
        (StatusCode::OK, format!("ok, map version {}\n", process.deployment().map.version))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", missing.join("\n")))
    }
}
