//! What the handlers read: the state of the server, and its metrics once there are any.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Logs are being opened; no client is served yet.
    Starting = 0,
    /// Clients are served.
    Ready = 1,
    /// The server is stopping; clients go elsewhere.
    Stopping = 2,
}

impl Health {
    /// One word, as it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
        }
    }
}

/// Shared between the server, which writes it, and the HTTP port, which reads it.
#[derive(Debug, Default)]
pub struct ConsoleState {
    health: AtomicU8,
    registry: OnceLock<Arc<Mutex<Registry>>>,
}

impl ConsoleState {
    /// A server that is starting and has no metrics yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Where the server is now.
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            0 => Health::Starting,
            1 => Health::Ready,
            _ => Health::Stopping,
        }
    }

    /// Called by the server when it moves on.
    pub fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Release);
    }

    /// Gives the metrics to be shown; only the first call has an effect.
    pub fn set_registry(&self, registry: Arc<Mutex<Registry>>) {
        // A second registry would make series vanish between two scrapes.
        drop(self.registry.set(registry));
    }

    pub(crate) fn registry(&self) -> Option<Arc<Mutex<Registry>>> {
        self.registry.get().cloned()
    }
}
