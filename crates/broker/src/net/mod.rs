//! Listeners, connections, frames, replies.
//!
//! One task per connection reads, handles and writes: `connection` owns the loop, `frame` the receive
//! buffer, `writer` the way out, `reply` what is sent.

mod backlog;
pub mod connection;
pub mod frame;
pub mod listener;
pub mod reply;
pub mod writer;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dlog_metadata::Endpoint;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What is known about a connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Number of the connection since the server started; in every log line about it.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The listener that the client connected to: answers name brokers by this listener's endpoints.
    pub endpoint: Arc<Endpoint>,
    /// Name and version of the client software, once ApiVersions told (KIP-511).
    pub software: OnceLock<(String, String)>,
    /// For how long the connection is not to be read from, in ms: see [`ConnectionInfo::mute`].
    pub muted_ms: AtomicU64,
    /// Hears of the client's next request: see [`ConnectionInfo::next_request`].
    pub next: Mutex<Option<oneshot::Sender<()>>>,
}

impl ConnectionInfo {
    /// Nothing more is read from the connection for this long, counted from the end of the request that is
    /// being executed.
    pub fn mute(&self, wait: Duration) {
        if !wait.is_zero() {
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            self.muted_ms.fetch_max(ms, Ordering::Relaxed);
        }
    }

    /// Whether the client says that it is one of these: by the beginning of its software's name.
    pub fn is_of(&self, names: &[&str]) -> bool {
        let software = self.software.get();
        software.is_some_and(|(name, _)| names.iter().any(|known| name.starts_with(known)))
    }

    /// Resolves when the client's next request is here, or none will come any more. For the request that is being
    /// executed, whose answer waits: those behind it must not wait longer than they have to.
    pub fn next_request(&self) -> oneshot::Receiver<()> {
        let (next, receiver) = oneshot::channel();
        *self.next.lock() = Some(next);
        receiver
    }

    /// Tells [`Self::next_request`].
    fn request_is_here(&self) {
        if let Some(next) = self.next.lock().take() {
            // Its answer may have gone already.
            let _ = next.send(());
        }
    }

    /// How long the connection is to be left alone; once.
    fn take_mute(&self) -> Option<Duration> {
        // Most are never muted: only a look.
        if self.muted_ms.load(Ordering::Relaxed) == 0 {
            return None;
        }
        Some(Duration::from_millis(
            self.muted_ms.swap(0, Ordering::Relaxed),
        ))
    }
}
