//! Accepting connections, within limits, and surviving the lack of file descriptors.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use dlog_metadata::Endpoint;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ConnectionInfo;
use super::connection::{self, Ended};
use crate::config::{BrokerConfig, ListenerConfig};
use crate::error::{BrokerError, Result};
use crate::state::BrokerState;

/// Connections that wait in the kernel until they are accepted.
const BACKLOG: i32 = 4096;

/// How long accepting pauses after an error such as "too many open files".
const PAUSE: Duration = Duration::from_millis(100);

/// A bound listener with the endpoint that its clients are told.
#[derive(Debug)]
pub struct BoundListener {
    socket: TcpListener,
    /// Address that was bound, with the port that was taken.
    pub address: SocketAddr,
    /// What clients are told to connect to.
    pub endpoint: Arc<Endpoint>,
}

/// Binds a listener.
///
/// # Errors
/// [`BrokerError::Listen`].
pub fn bind(config: &ListenerConfig) -> Result<BoundListener> {
    let failed = |source| BrokerError::Listen {
        listener: config.name.clone(),
        address: config.bind,
        source,
    };
    let socket = listen(config.bind).map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    let host = match &config.advertised_host {
        Some(host) => host.clone(),
        None if address.ip().is_unspecified() => "localhost".to_owned(),
        None => address.ip().to_string(),
    };
    let endpoint = Endpoint {
        listener: config.name.clone(),
        host,
        port: config.advertised_port.unwrap_or(address.port()),
    };
    Ok(BoundListener {
        socket,
        address,
        endpoint: Arc::new(endpoint),
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Raises the limit of open files to what the system allows; returns the limit that holds.
pub fn raise_open_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it is");
            limit.current.unwrap_or(u64::MAX)
        }
    }
}

/// Counts connections, all and by address.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    inner: Mutex<Counts>,
    last_id: AtomicU64,
    last_warning_ms: AtomicI64,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// The right to have a connection; given back when dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    counts: Arc<ConnectionCounts>,
    address: IpAddr,
}

impl ConnectionCounts {
    /// Takes the right to one more connection from `address`, or says which limit is reached.
    ///
    /// # Errors
    /// The name of the limit.
    pub fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        config: &BrokerConfig,
    ) -> Result<ConnectionPermit, &'static str> {
        let mut counts = self.inner.lock();
        if counts.total >= config.max_connections {
            return Err("max_connections");
        }
        let of_address = counts.by_address.entry(address).or_insert(0);
        if *of_address >= config.max_connections_per_ip {
            return Err("max_connections_per_ip");
        }
        *of_address += 1;
        counts.total += 1;
        Ok(ConnectionPermit {
            counts: self.clone(),
            address,
        })
    }

    /// Connections at this moment.
    pub fn total(&self) -> u32 {
        self.inner.lock().total
    }

    /// Whether a refusal may be logged: once a second, so that a flood of connections is none of logs.
    fn may_warn(&self, now_ms: i64) -> bool {
        let last = self.last_warning_ms.load(Ordering::Relaxed);
        (now_ms - last).abs() >= 1000
            && self
                .last_warning_ms
                .compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.counts.inner.lock();
        counts.total -= 1;
        if let Some(of_address) = counts.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// Accepts until `stop`; every connection becomes a task of `tasks`.
pub async fn accept(
    listener: BoundListener,
    state: Arc<BrokerState>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => admit(&listener, &state, &tasks, &stop, stream, peer),
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, listener = listener.endpoint.listener, "a connection vanished");
            }
            Err(error) => {
                // Out of descriptors or memory: connections that end make room.
                tracing::warn!(%error, listener = listener.endpoint.listener, "cannot accept connections");
                state.metrics.accept_failed();
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

fn admit(
    listener: &BoundListener,
    state: &Arc<BrokerState>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let permit = match state.connections.admit(peer.ip(), &state.config) {
        Ok(permit) => permit,
        Err(limit) => {
            state.metrics.connection_refused();
            if state.connections.may_warn(state.now_ms()) {
                tracing::warn!(%peer, limit, "connections are refused");
            }
            return;
        }
    };
    if let Err(error) = set_options(&stream, &state.config) {
        tracing::debug!(%peer, %error, "socket options were not set");
    }
    let info = Arc::new(ConnectionInfo {
        id: state.connections.next_id(),
        peer,
        endpoint: listener.endpoint.clone(),
        software: std::sync::OnceLock::new(),
        muted_ms: AtomicU64::new(0),
        next: super::NextHook::default(),
    });
    let (state, stop) = (state.clone(), stop.child_token());
    tasks.spawn(async move {
        state.metrics.connection_opened();
        let ended = connection::serve(state.clone(), Arc::new(stream), info.clone(), stop).await;
        state.metrics.connection_closed();
        state.share.disconnected(&state, info.id);
        drop(permit);
        log_end(&info, &ended);
    });
}

fn set_options(stream: &TcpStream, config: &BrokerConfig) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_keepalive(true)?;
    if config.socket_send_buffer_bytes > 0 {
        socket.set_send_buffer_size(config.socket_send_buffer_bytes as usize)?;
    }
    if config.socket_receive_buffer_bytes > 0 {
        socket.set_recv_buffer_size(config.socket_receive_buffer_bytes as usize)?;
    }
    Ok(())
}

fn log_end(info: &ConnectionInfo, ended: &Ended) {
    let (connection, peer) = (info.id, info.peer);
    match ended {
        Ended::ByPeer | Ended::Idle | Ended::Shutdown => {
            tracing::debug!(connection, %peer, reason = %ended, "connection closed");
        }
        _ => tracing::info!(connection, %peer, reason = %ended, "connection closed"),
    }
}
