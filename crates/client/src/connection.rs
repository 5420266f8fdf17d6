//! One connection to one broker: requests go out as they come, answers come back in order.
//!
//! Invariants: an answer's length is checked against [`MAX_ANSWER_BYTES`] before memory is taken; when
//! the connection ends, everybody who waits hears of it; a connection on which an answer did not come
//! in time is ended, for what comes later on it would come later still.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, IoSlice};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use parking_lot::Mutex;
use tokio::io::{AsyncBufRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::error::{ClientError, Result};
use crate::shape;

/// Largest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Requests that may wait to be written.
const QUEUE: usize = 64;
/// Length, API, version and correlation id: what is written anew for each sending of a request.
const HEAD_BYTES: usize = 12;

type Waiting = Arc<Mutex<Pending>>;

/// Who waits for an answer, in the order of the requests.
#[derive(Default)]
struct Pending {
    queue: VecDeque<(i32, oneshot::Sender<Bytes>)>,
    ended: Option<String>,
}

/// A request on its way to the socket.
struct Frame {
    head: [u8; HEAD_BYTES],
    body: Bytes,
    /// Told when all of it was given to the operating system.
    written: Option<oneshot::Sender<()>>,
}

/// A request that was encoded once and can be sent any number of times, without a copy.
#[derive(Clone, Debug)]
pub struct Prepared<R> {
    version: i16,
    body: Bytes,
    request: PhantomData<fn() -> R>,
}

/// A connection to a broker.
pub struct Connection {
    address: String,
    client_id: StrBytes,
    timeout: Duration,
    correlation: AtomicI32,
    outgoing: mpsc::Sender<Frame>,
    waiting: Waiting,
    versions: HashMap<i16, (i16, i16)>,
    tasks: [AbortHandle; 2],
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
            // The address, not the network, is wrong.
            Ok(Err(error)) if error.kind() == ErrorKind::InvalidInput => {
                return Err(unreachable("it is not HOST:PORT".to_owned()));
            }
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
        let tasks = [
            tokio::spawn(write(writing, queue, waiting.clone())).abort_handle(),
            tokio::spawn(read(BufReader::new(reading), waiting.clone())).abort_handle(),
        ];
        let mut connection = Self {
            address: address.to_owned(),
            client_id: StrBytes::from_string(client_id.to_owned()),
            timeout,
            correlation: AtomicI32::new(0),
            outgoing,
            waiting,
            versions: HashMap::new(),
            tasks,
        };
        connection.negotiate().await?;
        Ok(connection)
    }

    async fn negotiate(&mut self) -> Result<()> {
        const NEWEST: i16 = 3;
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("dlog"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let prepared = self.encode(&request, NEWEST)?;
        let frame = self.exchange(&prepared, self.timeout).await?;
        // A broker that does not know the version answers in version 0; the error code is at the same
        // place in all of them, behind the correlation id.
        let refused = frame
            .get(4..6)
            .is_some_and(|code| code == ResponseError::UnsupportedVersion.code().to_be_bytes());
        let answer: ApiVersionsResponse = if refused {
            let prepared = self.encode(&ApiVersionsRequest::default(), 0)?;
            let frame = self.exchange(&prepared, self.timeout).await?;
            self.decode::<ApiVersionsRequest>(frame, 0)?
        } else {
            self.decode::<ApiVersionsRequest>(frame, NEWEST)?
        };
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
        let prepared = self.prepare(request, newest)?;
        let frame = self.exchange(&prepared, patience).await?;
        self.decode::<R>(frame, prepared.version)
    }

    /// Encodes a request in the newest version, up to `newest`, that both sides speak.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`], or [`ClientError::Usage`] for a field that the version lacks.
    pub fn prepare<R: Request>(&self, request: &R, newest: i16) -> Result<Prepared<R>> {
        self.encode(request, self.version_of::<R>(newest)?)
    }

    /// Sends a prepared request.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn call_prepared<R: Request>(&self, request: &Prepared<R>) -> Result<R::Response> {
        let frame = self.exchange(request, self.timeout).await?;
        self.decode::<R>(frame, request.version)
    }

    /// Sends a prepared request that is not answered; waits until the operating system has all of it.
    ///
    /// # Errors
    /// [`ClientError::Disconnected`].
    pub async fn tell_prepared<R: Request>(&self, request: &Prepared<R>) -> Result<()> {
        let (written, told) = oneshot::channel();
        let (head, _) = self.head(request);
        let frame = Frame {
            head,
            body: request.body.clone(),
            written: Some(written),
        };
        if self.is_closed() || self.outgoing.send(frame).await.is_err() {
            return Err(self.disconnected());
        }
        told.await.map_err(|_| self.disconnected())
    }

    /// The newest version of a request that both sides speak, if there is one.
    pub fn newest<R: Request>(&self) -> Option<i16> {
        self.version_of::<R>(i16::MAX).ok()
    }

    /// The version in which a request is sent.
    fn version_of<R: Request>(&self, newest: i16) -> Result<i16> {
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

    fn encode<R: Request>(&self, request: &R, version: i16) -> Result<Prepared<R>> {
        let unusable = |error: String| ClientError::Usage(format!("{:?}: {error}", api_of::<R>()));
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_client_id(Some(self.client_id.clone()));
        let size = request
            .compute_size(version)
            .map_err(|e| unusable(as_text(e)))?;
        let mut body = BytesMut::with_capacity(size.saturating_add(64));
        header
            .encode(&mut body, R::header_version(version))
            .map_err(|error| unusable(as_text(error)))?;
        request
            .encode(&mut body, version)
            .map_err(|error| unusable(as_text(error)))?;
        if i32::try_from(body.len()).is_err() {
            return Err(unusable(format!("{} bytes are no frame", body.len())));
        }
        Ok(Prepared {
            version,
            // API, version and correlation id are written for each sending.
            body: body.freeze().split_off(HEAD_BYTES - 4),
            request: PhantomData,
        })
    }

    /// The first bytes of a frame, with a new correlation id.
    fn head<R: Request>(&self, request: &Prepared<R>) -> ([u8; HEAD_BYTES], i32) {
        let correlation = self.correlation.fetch_add(1, Ordering::Relaxed);
        let mut head = [0; HEAD_BYTES];
        let mut out = head.as_mut_slice();
        // `encode` made sure that it fits.
        out.put_u32((request.body.len() + HEAD_BYTES - 4) as u32);
        out.put_i16(R::KEY);
        out.put_i16(request.version);
        out.put_i32(correlation);
        (head, correlation)
    }

    fn decode<R: Request>(&self, mut frame: Bytes, version: i16) -> Result<R::Response> {
        let malformed = |reason: String| ClientError::Malformed {
            address: self.address.clone(),
            api: api_of::<R>(),
            reason,
        };
        ResponseHeader::decode(&mut frame, R::Response::header_version(version))
            .map_err(|error| malformed(error.to_string()))?;
        // The decoder takes memory for as many elements as a count says.
        shape::check(R::KEY, version, &frame).map_err(malformed)?;
        R::Response::decode(&mut frame, version).map_err(|error| malformed(error.to_string()))
    }

    /// Sends a frame and waits for the one that answers it.
    async fn exchange<R: Request>(
        &self,
        request: &Prepared<R>,
        patience: Duration,
    ) -> Result<Bytes> {
        match tokio::time::timeout(patience, self.send_and_wait(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                let timeout_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
                self.close("an answer did not come in time");
                Err(ClientError::Timeout {
                    address: self.address.clone(),
                    api: api_of::<R>(),
                    timeout_ms,
                })
            }
        }
    }

    async fn send_and_wait<R: Request>(&self, request: &Prepared<R>) -> Result<Bytes> {
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
            let (head, correlation) = self.head(request);
            waiting.queue.push_back((correlation, caller));
            room.send(Frame {
                head,
                body: request.body.clone(),
                written: None,
            });
        }
        answer.await.map_err(|_| self.disconnected())
    }

    fn close(&self, reason: &str) {
        end(&self.waiting, reason);
        self.tasks.iter().for_each(AbortHandle::abort);
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

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Text for a request.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
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

async fn write(mut stream: OwnedWriteHalf, mut queue: mpsc::Receiver<Frame>, waiting: Waiting) {
    let mut frames = Vec::with_capacity(QUEUE);
    while queue.recv_many(&mut frames, QUEUE).await > 0 {
        if let Err(error) = write_frames(&mut stream, &frames).await {
            return end(&waiting, &error.to_string());
        }
        for written in frames.drain(..).filter_map(|frame| frame.written) {
            // Whoever waited may have given up.
            let _ = written.send(());
        }
    }
}

/// Writes all frames, with as few system calls as the socket allows.
async fn write_frames(stream: &mut OwnedWriteHalf, frames: &[Frame]) -> std::io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = frames
        .iter()
        .flat_map(|frame| [IoSlice::new(&frame.head), IoSlice::new(&frame.body)])
        .collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        match stream.write_vectored(rest).await? {
            0 => return Err(ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut rest, written),
        }
    }
    Ok(())
}

async fn read(mut stream: impl AsyncBufRead + Unpin, waiting: Waiting) {
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

async fn read_frame(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Bytes, String> {
    let mut prefix = [0; 4];
    stream
        .read_exact(&mut prefix)
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => "the broker closed it".to_owned(),
            _ => error.to_string(),
        })?;
    let len = i32::from_be_bytes(prefix);
    let len = usize::try_from(len)
        .ok()
        .filter(|len| *len <= MAX_ANSWER_BYTES)
        .ok_or_else(|| {
            format!("an answer of {len} bytes was announced; 0 to {MAX_ANSWER_BYTES} are read")
        })?;
    // Memory that is not written to costs nothing, so an announcement alone takes none.
    let mut frame = BytesMut::with_capacity(len);
    while frame.len() < len {
        let missing = len - frame.len();
        let mut limited = (&mut *stream).take(missing as u64);
        let read = limited
            .read_buf(&mut frame)
            .await
            .map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("the broker closed it inside an answer".to_owned());
        }
    }
    Ok(frame.freeze())
}
