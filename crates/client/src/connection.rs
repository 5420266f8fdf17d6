//! One connection to one broker: requests go out as they come, answers come back in order.
//!
//! Invariants: an answer's length is checked against [`MAX_ANSWER_BYTES`] before memory is taken; when
//! the connection ends, everybody who waits hears of it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use crate::error::{ClientError, Result};

/// Largest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Requests that may wait to be written.
const QUEUE: usize = 64;

type Waiting = Arc<Mutex<Pending>>;

/// Who waits for an answer, in the order of the requests.
#[derive(Default)]
struct Pending {
    queue: VecDeque<(i32, oneshot::Sender<Bytes>)>,
    ended: Option<String>,
}

/// A connection to a broker.
pub struct Connection {
    address: String,
    client_id: StrBytes,
    timeout: Duration,
    correlation: AtomicI32,
    outgoing: mpsc::Sender<Bytes>,
    waiting: Waiting,
    versions: HashMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects, and learns which versions the broker serves.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], or what the first request brought.
    pub async fn open(address: &str, client_id: &str, timeout: Duration) -> Result<Self> {
        let unreachable = |reason: String| ClientError::Unreachable {
            address: address.to_owned(),
            reason,
        };
        let stream = match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => {
                return Err(unreachable(format!(
                    "no connection within {} ms",
                    timeout.as_millis()
                )));
            }
        };
        // A request is one write; waiting for more would only delay it.
        stream
            .set_nodelay(true)
            .map_err(|error| unreachable(error.to_string()))?;
        let (reading, writing) = stream.into_split();
        let waiting = Waiting::default();
        let (outgoing, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write(writing, queue, waiting.clone()));
        tokio::spawn(read(reading, waiting.clone()));
        let mut connection = Self {
            address: address.to_owned(),
            client_id: StrBytes::from_string(client_id.to_owned()),
            timeout,
            correlation: AtomicI32::new(0),
            outgoing,
            waiting,
            versions: HashMap::new(),
        };
        connection.negotiate().await?;
        Ok(connection)
    }

    async fn negotiate(&mut self) -> Result<()> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("dlog"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut answer: ApiVersionsResponse = self.call_version(&request, 3, self.timeout).await?;
        if answer.error_code != 0 {
            // A broker that knows less says so in version 0.
            answer = self
                .call_version(&ApiVersionsRequest::default(), 0, self.timeout)
                .await?;
        }
        ClientError::check(
            answer.error_code,
            || format!("ApiVersions of {}", self.address),
            None,
        )?;
        let versions = answer
            .api_keys
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)));
        self.versions = versions.collect();
        Ok(())
    }

    /// The address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.waiting.lock().ended.is_some()
    }

    /// Sends a request in the newest version, up to `newest`, that both sides speak.
    ///
    /// # Errors
    /// [`ClientError`]; error codes inside the answer are the caller's to judge.
    pub async fn call<R: Request>(&self, request: &R, newest: i16) -> Result<R::Response> {
        self.call_within(request, newest, self.timeout).await
    }

    /// As [`Connection::call`], with another patience.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn call_within<R: Request>(
        &self,
        request: &R,
        newest: i16,
        patience: Duration,
    ) -> Result<R::Response> {
        let version = self.version_of::<R>(newest)?;
        self.call_version(request, version, patience).await
    }

    /// The version in which a request is sent.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`].
    pub fn version_of<R: Request>(&self, newest: i16) -> Result<i16> {
        let api = api_of::<R>();
        let unsupported = || ClientError::Unsupported {
            address: self.address.clone(),
            api,
        };
        let &(oldest, latest) = self.versions.get(&R::KEY).ok_or_else(unsupported)?;
        let version = latest.min(newest).min(R::VERSIONS.max);
        if version < oldest.max(R::VERSIONS.min) {
            Err(unsupported())
        } else {
            Ok(version)
        }
    }

    async fn call_version<R: Request>(
        &self,
        request: &R,
        version: i16,
        patience: Duration,
    ) -> Result<R::Response> {
        let api = api_of::<R>();
        let malformed = |reason: String| ClientError::Malformed {
            address: self.address.clone(),
            api,
            reason,
        };
        let correlation = self.correlation.fetch_add(1, Ordering::Relaxed);
        let frame = self
            .encode(request, version, correlation)
            .map_err(ClientError::Usage)?;
        let answer = self.exchange(frame, correlation);
        let mut answer = match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer?,
            Err(_) => {
                let timeout_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
                return Err(ClientError::Timeout {
                    address: self.address.clone(),
                    api,
                    timeout_ms,
                });
            }
        };
        ResponseHeader::decode(&mut answer, R::Response::header_version(version))
            .map_err(|error| malformed(error.to_string()))?;
        R::Response::decode(&mut answer, version).map_err(|error| malformed(error.to_string()))
    }

    fn encode<R: Request>(
        &self,
        request: &R,
        version: i16,
        correlation: i32,
    ) -> Result<Bytes, String> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation)
            .with_client_id(Some(self.client_id.clone()));
        let mut frame = BytesMut::zeroed(4);
        header
            .encode(&mut frame, R::header_version(version))
            .map_err(as_text)?;
        request.encode(&mut frame, version).map_err(as_text)?;
        let len = u32::try_from(frame.len() - 4).map_err(as_text)?;
        frame[..4].copy_from_slice(&len.to_be_bytes());
        Ok(frame.freeze())
    }

    async fn exchange(&self, frame: Bytes, correlation: i32) -> Result<Bytes> {
        let (caller, answer) = oneshot::channel();
        // The place in the channel is taken first, so that both queues have the same order.
        let Ok(room) = self.outgoing.reserve().await else {
            return Err(self.disconnected());
        };
        {
            let mut waiting = self.waiting.lock();
            if waiting.ended.is_some() {
                drop(waiting);
                return Err(self.disconnected());
            }
            waiting.queue.push_back((correlation, caller));
            room.send(frame);
        }
        answer.await.map_err(|_| self.disconnected())
    }

    /// Sends a request that is not answered.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tell<R: Request>(&self, request: &R, newest: i16) -> Result<()> {
        let version = self.version_of::<R>(newest)?;
        let correlation = self.correlation.fetch_add(1, Ordering::Relaxed);
        let frame = self
            .encode(request, version, correlation)
            .map_err(ClientError::Usage)?;
        self.outgoing
            .send(frame)
            .await
            .map_err(|_| self.disconnected())
    }

    fn disconnected(&self) -> ClientError {
        let ended = self.waiting.lock().ended.clone();
        let reason = ended.unwrap_or_else(|| "it was closed".to_owned());
        ClientError::Disconnected {
            address: self.address.clone(),
            reason,
        }
    }
}

fn as_text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn api_of<R: Request>() -> ApiKey {
    ApiKey::try_from(R::KEY).unwrap_or(ApiKey::ApiVersions)
}

fn end(waiting: &Waiting, reason: &str) {
    let mut waiting = waiting.lock();
    waiting.ended.get_or_insert_with(|| reason.to_owned());
    // Dropping the callers tells them.
    waiting.queue.clear();
}

async fn write(mut stream: OwnedWriteHalf, mut queue: mpsc::Receiver<Bytes>, waiting: Waiting) {
    while let Some(frame) = queue.recv().await {
        if let Err(error) = stream.write_all(&frame).await {
            return end(&waiting, &error.to_string());
        }
    }
}

async fn read(mut stream: OwnedReadHalf, waiting: Waiting) {
    let reason = loop {
        match read_frame(&mut stream).await {
            Ok(frame) => {
                let Some(&correlation) = frame.first_chunk::<4>() else {
                    break "an answer is too short".to_owned();
                };
                let caller = waiting.lock().queue.pop_front();
                match caller {
                    Some((expected, caller)) if expected == i32::from_be_bytes(correlation) => {
                        // A caller that gave up needs no answer.
                        let _ = caller.send(frame);
                    }
                    _ => break "an answer came that nobody waits for".to_owned(),
                }
            }
            Err(reason) => break reason,
        }
    };
    end(&waiting, &reason);
}

async fn read_frame(stream: &mut OwnedReadHalf) -> Result<Bytes, String> {
    let mut prefix = [0; 4];
    stream
        .read_exact(&mut prefix)
        .await
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "the broker closed it".to_owned(),
            _ => error.to_string(),
        })?;
    let len = usize::try_from(i32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if len > MAX_ANSWER_BYTES {
        return Err(format!(
            "an answer of {len} bytes was announced, more than {MAX_ANSWER_BYTES}"
        ));
    }
    let mut frame = BytesMut::with_capacity(len.min(1 << 20));
    while frame.len() < len {
        let missing = len - frame.len();
        frame.reserve(missing.min(1 << 20));
        let mut limited = (&mut *stream).take(missing as u64);
        let read = limited
            .read_buf(&mut frame)
            .await
            .map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("the broker closed it inside an answer".to_owned());
        }
    }
    debug_assert_eq!(frame.remaining(), len);
    Ok(frame.freeze())
}
