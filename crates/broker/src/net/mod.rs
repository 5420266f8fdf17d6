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
use std::sync::{Arc, OnceLock};

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
}
