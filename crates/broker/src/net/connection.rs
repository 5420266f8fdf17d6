//! The loop of one connection: read a frame, handle it, hand the reply to the writing half.
//!
//! Requests are executed one after the other in the order in which they arrive. A reply may still wait
//! (for the flush that covers a produce, or for a rebalance) while the next request is executed, so that the
//! produce requests that a client has in flight share a flush; replies leave in order all the same. The queue
//! between the halves is bounded: a client that does not read its replies is not read from either.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::ApiKey;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backlog::Backlog;
use super::frame::{FrameBuffer, FrameError};
use super::reply::Outcome;
use super::writer;
use super::{ConnectionInfo, Next};
use crate::api::{self, Context};
use crate::metrics::RequestTimer;
use crate::protocol::{self, ProtocolError, RawRequest};
use crate::state::BrokerState;

/// How long an empty receive buffer is kept for a client that may send more at once.
const KEEP_BUFFER: Duration = Duration::from_secs(1);

/// How long a stopping server waits for a client to close its end.
const GOODBYE: Duration = Duration::from_millis(500);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The client closed it.
    #[error("closed by the client")]
    ByPeer,
    /// Nothing arrived for too long.
    #[error("idle for too long")]
    Idle,
    /// The server stops.
    #[error("the server stops")]
    Shutdown,
    /// A produce without acknowledgement failed, which closing the connection tells.
    #[error("a produce request with acks=0 failed")]
    SilentFailure,
    /// The bytes are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The frame is no request.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The replies could not be written.
    #[error(transparent)]
    Write(#[from] writer::WriteError),
}

/// A reply on its way to the writing half. It travels boxed: the queue of an idle connection keeps room
/// for 32 of them.
pub(super) struct Queued {
    pub(super) outcome: Outcome,
    pub(super) timer: RequestTimer,
    /// What it has in the backlog.
    pub(super) held_bytes: usize,
}

impl Queued {
    /// A reply, noted in the backlog.
    fn new(outcome: Outcome, timer: RequestTimer, backlog: &Backlog) -> Box<Self> {
        // What is pending answers a produce or a heartbeat, in few bytes.
        let held_bytes = match &outcome {
            Outcome::Ready(reply) => reply.memory_bytes(),
            _ => 0,
        };
        backlog.add(held_bytes);
        Box::new(Self {
            outcome,
            timer,
            held_bytes,
        })
    }
}

/// Serves a connection until it ends.
pub async fn serve(
    state: Arc<BrokerState>,
    stream: Arc<TcpStream>,
    info: Arc<ConnectionInfo>,
    stop: CancellationToken,
) -> Ended {
    let (replies, queue) = mpsc::channel(usize::from(state.config.max_in_flight_requests.max(1)));
    let write_timeout = Duration::from_millis(state.config.write_timeout_ms);
    let backlog = Backlog::default();
    let writing = writer::run(
        stream.clone(),
        queue,
        write_timeout,
        &backlog,
        &state.metrics,
    );
    let mut reading = Reading {
        state: &state,
        stream: &stream,
        info: info.clone(),
        backlog: &backlog,
        buffer: FrameBuffer::default(),
        trusted: false,
    };
    tokio::pin!(writing);
    let read = tokio::select! {
        ended = reading.run(replies, &stop) => Ok(ended),
        result = &mut writing => Err(result.err().map_or(Ended::ByPeer, Ended::Write)),
    };
    info.comes(Next::End);
    // The reading half dropped its end of the queue: what was executed is still answered.
    let ended = match read {
        Ok(ended) => ended,
        Err(ended) => return ended,
    };
    match writing.await {
        Ok(()) => {
            if matches!(ended, Ended::Shutdown) {
                say_goodbye(&stream).await;
            }
            ended
        }
        Err(error) => Ended::Write(error),
    }
}

struct Reading<'a> {
    state: &'a Arc<BrokerState>,
    stream: &'a Arc<TcpStream>,
    info: Arc<ConnectionInfo>,
    backlog: &'a Backlog,
    buffer: FrameBuffer,
    /// A valid request was seen: the full size limit holds.
    trusted: bool,
}

impl Reading<'_> {
    async fn run(&mut self, replies: mpsc::Sender<Box<Queued>>, stop: &CancellationToken) -> Ended {
        loop {
            if self.backlog.is_full() {
                // A client that never reads again ends by the timeout of the writing half.
                tokio::select! {
                    () = self.backlog.room() => {}
                    () = stop.cancelled() => return Ended::Shutdown,
                }
            }
            let frame = match self.next_frame(stop).await {
                Ok(frame) => frame,
                Err(ended) => return ended,
            };
            self.info.comes(Next::Request);
            match self.handle(frame, &replies, stop).await {
                Ok(()) => {}
                Err(ended) => return ended,
            }
            if let Some(wait) = self.info.take_mute() {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = stop.cancelled() => return Ended::Shutdown,
                }
            }
            // A client with an endless supply of requests must not keep others from this worker.
            tokio::task::consume_budget().await;
        }
    }

    async fn handle(
        &mut self,
        frame: bytes::Bytes,
        replies: &mpsc::Sender<Box<Queued>>,
        stop: &CancellationToken,
    ) -> Result<(), Ended> {
        let bytes_in = frame.len() + 4;
        let head = frame.first_chunk::<8>().copied();
        let raw = match protocol::parse_request(frame) {
            Ok(raw) => raw,
            Err(ProtocolError::UnsupportedVersion {
                api: ApiKey::ApiVersions,
                ..
            }) => {
                return self.refuse_api_versions(head, bytes_in, replies).await;
            }
            Err(error) => return Err(error.into()),
        };
        self.trusted = true;
        let timer = self.state.metrics.request(raw.api, bytes_in);
        // Room in the queue is taken first: nothing is executed whose reply could not be kept.
        let Ok(room) = replies.reserve().await else {
            return Err(Ended::ByPeer);
        };
        let outcome = if may_wait(raw.api) {
            tokio::select! {
                biased;
                outcome = self.dispatch(&raw) => outcome?,
                // A long wait must not hold up the shutdown, nor outlive its client.
                () = stop.cancelled() => return Err(Ended::Shutdown),
                () = hung_up(self.stream) => return Err(Ended::ByPeer),
            }
        } else {
            self.dispatch(&raw).await?
        };
        match outcome {
            Outcome::Silent => {
                self.state.metrics.finished(timer, &[]);
                Ok(())
            }
            Outcome::Close => Err(Ended::SilentFailure),
            outcome => {
                room.send(Queued::new(outcome, timer, self.backlog));
                Ok(())
            }
        }
    }

    async fn dispatch(&self, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
        let ctx = Context {
            state: self.state.clone(),
            connection: self.info.clone(),
            version: raw.version,
            client_id: raw.client_id.clone(),
        };
        api::dispatch(&ctx, raw).await
    }

    /// ApiVersions of an unknown version is answered in version 0, so that newer clients find out.
    async fn refuse_api_versions(
        &self,
        head: Option<[u8; 8]>,
        bytes_in: usize,
        replies: &mpsc::Sender<Box<Queued>>,
    ) -> Result<(), Ended> {
        let Some([_, _, _, _, a, b, c, d]) = head else {
            return Err(Ended::ByPeer);
        };
        let reply = api::api_versions::unsupported(i32::from_be_bytes([a, b, c, d]))?;
        let timer = self.state.metrics.request(ApiKey::ApiVersions, bytes_in);
        let queued = Queued::new(Outcome::Ready(reply), timer, self.backlog);
        replies.send(queued).await.map_err(|_| Ended::ByPeer)
    }

    /// Waits for a whole frame.
    async fn next_frame(&mut self, stop: &CancellationToken) -> Result<bytes::Bytes, Ended> {
        let config = &self.state.config;
        let limit = if self.trusted {
            config.socket_request_max_bytes
        } else {
            config
                .first_request_max_bytes
                .min(config.socket_request_max_bytes)
        };
        let idle = Duration::from_millis(config.connections_max_idle_ms);
        let started = Instant::now();
        loop {
            if let Some(frame) = self.buffer.take(limit)? {
                return Ok(frame);
            }
            match self.buffer.read_from(self.stream, self.trusted) {
                Ok(true) => {}
                Ok(false) if self.buffer.is_empty() => return Err(Ended::ByPeer),
                Ok(false) => return Err(FrameError::Truncated.into()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.wait_readable(started + idle, stop).await?;
                }
                Err(error) => return Err(FrameError::Io(error).into()),
            }
        }
    }

    async fn wait_readable(
        &mut self,
        deadline: Instant,
        stop: &CancellationToken,
    ) -> Result<(), Ended> {
        let kept_until = (Instant::now() + KEEP_BUFFER).min(deadline);
        let mut until = kept_until;
        loop {
            tokio::select! {
                biased;
                ready = self.stream.readable() => {
                    ready.map_err(FrameError::Io)?;
                    return Ok(());
                }
                () = stop.cancelled() => return Err(Ended::Shutdown),
                () = tokio::time::sleep_until(until) => {
                    if until >= deadline {
                        return Err(Ended::Idle);
                    }
                    self.buffer.shrink();
                    until = deadline;
                }
            }
        }
    }
}

/// Ends the stream so that the client gets the last replies: closing with unread requests would reset
/// the connection and take back what the client has not read.
async fn say_goodbye(stream: &TcpStream) {
    if SockRef::from(stream).shutdown(Shutdown::Write).is_err() {
        return;
    }
    let drain = async {
        let mut unread = vec![0; 16 << 10];
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut unread) {
                Ok(0) => return,
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    };
    // A client that does not close its end is not waited for.
    drop(tokio::time::timeout(GOODBYE, drain).await);
}

/// Requests that wait for something that other clients do.
fn may_wait(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup | ApiKey::ShareFetch
    )
}

/// Resolves when the client has gone; never, when it sent more requests meanwhile.
async fn hung_up(stream: &TcpStream) {
    let mut byte = [0];
    if let Ok(1) = stream.peek(&mut byte).await {
        std::future::pending::<()>().await;
    }
}
