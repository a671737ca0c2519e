//! Accepts connections and serves the router on them until told to stop.
//!
//! Promises: at most [`CONNECTIONS_MAX`] at once (more wait in the kernel's queue), a client that sends no request
//! within [`HEADER_TIMEOUT`] is let go, open requests are finished within [`GRACE`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::{AppState, router};

/// Serves until `shutdown` is cancelled and the open requests are finished.
///
/// # Errors
/// If the listener cannot accept any more.
pub async fn serve(listener: TcpListener, state: AppState, shutdown: CancellationToken) -> io::Result<()> {
    let router = router(state);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    while let Some((stream, place)) = accept(&listener, &places, &shutdown).await {
        connections.spawn(connection(stream, router.clone(), shutdown.clone(), place));
    }
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "HTTP connections were still open at the end of the grace period"
        );
    }
    Ok(())
}

/// The next connection and its place; none once it is time to stop.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    loop {
        let next = async {
            let place = Arc::clone(places).acquire_owned().await;
            (listener.accept().await, place)
        };
        match shutdown.run_until_cancelled(next).await? {
            (Ok((stream, _)), Ok(place)) => return Some((stream, place)),
            (Err(error), _) => {
                tracing::warn!(%error, "no HTTP connection could be accepted");
                // Out of descriptors: they come back as connections end.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (_, Err(_)) => return None,
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    shutdown: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADERS_MAX_OCTETS);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

const CONNECTIONS_MAX: usize = 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const HEADERS_MAX_OCTETS: usize = 64 * 1024;
const GRACE: Duration = Duration::from_secs(20);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
