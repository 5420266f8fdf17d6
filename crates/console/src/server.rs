//! Accepts connections and bounds what each of them, and all of them, can hold.

use std::net::SocketAddr;
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

use crate::health::ConsoleState;
use crate::routes::router;

/// Bounds of the port.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most connections at any time; more wait to be accepted.
    pub max_connections: usize,
    /// Most bytes of one request's head, at least 8 KiB.
    pub max_head_bytes: usize,
    /// Most header fields of one request.
    pub max_headers: usize,
    /// Longest wait for the head of a request, also of the next one on an idle connection.
    pub head_timeout: Duration,
    /// A connection that is older takes no further request. This bounds clients that never read.
    pub max_age: Duration,
    /// How long a response may still take when its connection is to end.
    pub closing_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 256,
            max_head_bytes: 16 << 10,
            max_headers: 64,
            head_timeout: Duration::from_secs(60),
            max_age: Duration::from_secs(600),
            closing_timeout: Duration::from_secs(5),
        }
    }
}

/// Why the port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (http): {source}")]
pub struct ConsoleError {
    /// The address.
    pub address: SocketAddr,
    /// What the operating system said.
    pub source: std::io::Error,
}

/// A running HTTP port. Dropping it leaves it running; see [`Console::shutdown`].
#[derive(Debug)]
pub struct Console {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Console {
    /// Opens the port; when this returns, requests are answered. Port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(
        address: SocketAddr,
        state: Arc<ConsoleState>,
        limits: Limits,
    ) -> Result<Self, ConsoleError> {
        let failed = |source| ConsoleError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let port = Port {
            listener,
            router: router(state),
            slots: Arc::new(Semaphore::new(limits.max_connections.max(1))),
            limits,
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(port.accept());
        Ok(Self {
            address,
            stop,
            tasks,
        })
    }

    /// The address that is listened on, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port after the responses under way, which get a bounded time.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

struct Port {
    listener: TcpListener,
    router: Router,
    slots: Arc<Semaphore>,
    limits: Limits,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Port {
    async fn accept(self) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = self.accept_one() => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    let connection = Connection {
                        stream,
                        router: self.router.clone(),
                        limits: self.limits.clone(),
                        stop: self.stop.clone(),
                        _slot: slot,
                    };
                    self.tasks.spawn(connection.serve());
                }
                Err(error) => {
                    // Out of file descriptors, most likely: trying again at once would spin.
                    tracing::warn!(%error, "no HTTP connection could be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn accept_one(&self) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let slot = self.slots.clone().acquire_owned().await;
        let slot = slot.expect("nobody closes the semaphore");
        let (stream, _) = self.listener.accept().await?;
        Ok((stream, slot))
    }
}

struct Connection {
    stream: TcpStream,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
    /// Given back when the connection ends.
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(self) {
        let service = TowerToHyperService::new(self.router);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_headers(self.limits.max_headers)
            .max_buf_size(self.limits.max_head_bytes.max(8 << 10))
            .serve_connection(TokioIo::new(self.stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = self.stop.cancelled() => None,
            () = tokio::time::sleep(self.limits.max_age) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(self.limits.closing_timeout, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            // What clients do wrong is no event of ours.
            tracing::debug!(%error, "HTTP connection ended");
        }
    }
}
