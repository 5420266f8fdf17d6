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

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dlog_metadata::Endpoint;
use parking_lot::Mutex;

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
    /// What is done before the client's next request: see [`ConnectionInfo::before_next`].
    pub next: NextHook,
}

/// What is to be done once the connection brings something.
#[derive(Default)]
pub struct NextHook(Mutex<Option<Hook>>);

type Hook = Box<dyn FnOnce(Next) + Send>;

impl fmt::Debug for NextHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NextHook")
    }
}

/// What a connection brings next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A request, which is executed then.
    Request,
    /// Nothing any more.
    End,
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

    /// Has this done before the client's next request is executed, or when none will come any more. For the request
    /// that is being executed, whose answer waits: what comes behind it must not wait as well.
    pub fn before_next(&self, hook: impl FnOnce(Next) + Send + 'static) {
        *self.next.0.lock() = Some(Box::new(hook));
    }

    /// Does what is to be done before the next request.
    fn comes(&self, next: Next) {
        let hook = self.next.0.lock().take();
        if let Some(hook) = hook {
            hook(next);
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
