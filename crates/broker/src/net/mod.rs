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
