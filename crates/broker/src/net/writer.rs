//! The writing half of a connection: replies in order, gathered into few system calls.
//!
//! Bytes go out with `sendmsg` (marked "more to come" when a file range follows), file ranges with
//! `sendfile`. A range that is not in the page cache is sent from a thread of the blocking pool, so that
//! no tokio worker waits for a disk.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use dlog_storage::disk::DiskFile;
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::backlog::Backlog;
use super::connection::Queued;
use super::reply::{Outcome, Part, Reply};
use crate::metrics::{Metrics, RequestTimer};

/// Replies that are ready are gathered up to this many bytes before they are written.
const GATHER_BYTES: usize = 256 << 10;

/// Most pieces of memory in one system call.
const GATHER_SLICES: usize = 64;

/// Most bytes given to one `sendfile`.
const SENDFILE_BYTES: usize = 512 << 10;

/// Distance of the probes that tell whether a file range is in the page cache.
const PROBE_STEP: usize = 128 << 10;

/// Why replies cannot be written any more.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The client took no byte for too long.
    #[error("the client did not read its replies for {0:?}")]
    Timeout(Duration),
    /// A file range ends before the length that was announced.
    #[error("a log file is shorter than the range that was announced to the client")]
    FileEnded,
    /// The operating system's error.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
}

/// Writes the replies of a connection until its queue ends.
pub(super) async fn run(
    stream: Arc<TcpStream>,
    mut queue: mpsc::Receiver<Box<Queued>>,
    timeout: Duration,
    backlog: &Backlog,
    metrics: &Metrics,
) -> Result<(), WriteError> {
    let mut writer = Writer {
        stream,
        timeout,
        parts: VecDeque::new(),
    };
    let mut written: Vec<(RequestTimer, Reply)> = Vec::new();
    let mut waiting: Option<Box<Queued>> = None;
    loop {
        let next = match waiting.take() {
            Some(queued) => Some(queued),
            None => queue.recv().await,
        };
        let Some(next) = next else {
            return Ok(());
        };
        let Queued {
            outcome,
            timer,
            mut held_bytes,
        } = *next;
        let reply = match outcome {
            Outcome::Ready(reply) => reply,
            Outcome::Pending(pending) => pending.await,
            Outcome::Silent | Outcome::Close => Reply::default(),
        };
        let mut gathered = reply.len();
        written.push((timer, reply));
        // Whatever else is ready goes out in the same system calls.
        while gathered < GATHER_BYTES && waiting.is_none() {
            let Ok(mut queued) = queue.try_recv() else {
                break;
            };
            match ready_now(&mut queued.outcome).await {
                Some(reply) => {
                    gathered += reply.len();
                    held_bytes += queued.held_bytes;
                    written.push((queued.timer, reply));
                }
                None => waiting = Some(queued),
            }
        }
        for (_, reply) in &mut written {
            writer.parts.extend(reply.parts.drain(..));
        }
        writer.write_all().await?;
        backlog.take(held_bytes);
        metrics.bytes_out(gathered);
        for (timer, reply) in written.drain(..) {
            metrics.finished(timer, &reply.errors);
        }
    }
}

/// The reply, if it need not be waited for.
async fn ready_now(outcome: &mut Outcome) -> Option<Reply> {
    match outcome {
        Outcome::Ready(reply) => Some(std::mem::take(reply)),
        Outcome::Pending(pending) => match futures_util::poll!(pending.as_mut()) {
            Poll::Ready(reply) => Some(reply),
            Poll::Pending => None,
        },
        Outcome::Silent | Outcome::Close => Some(Reply::default()),
    }
}

struct Writer {
    stream: Arc<TcpStream>,
    timeout: Duration,
    parts: VecDeque<Part>,
}

impl Writer {
    async fn write_all(&mut self) -> Result<(), WriteError> {
        while let Some(part) = self.parts.front() {
            let result = match part {
                Part::Bytes(_) => self.send_bytes(),
                Part::File {
                    file,
                    position,
                    len,
                } => {
                    let (file, position, len) = (file.clone(), *position, *len);
                    self.send_file(&file, position, len).await
                }
            };
            match result {
                Ok(sent) => self.advance(sent),
                Err(WriteError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn wait_writable(&self) -> Result<(), WriteError> {
        match tokio::time::timeout(self.timeout, self.stream.writable()).await {
            Ok(ready) => Ok(ready?),
            Err(_) => Err(WriteError::Timeout(self.timeout)),
        }
    }

    /// Sends the pieces of memory at the front.
    fn send_bytes(&self) -> Result<usize, WriteError> {
        let mut slices = [IoSlice::new(&[]); GATHER_SLICES];
        let mut count = 0;
        let mut more = false;
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) if count < GATHER_SLICES => {
                    slices[count] = IoSlice::new(bytes);
                    count += 1;
                }
                _ => {
                    more = true;
                    break;
                }
            }
        }
        let flags = if more {
            SendFlags::NOSIGNAL | SendFlags::MORE
        } else {
            SendFlags::NOSIGNAL
        };
        let send = || {
            let mut no_control = SendAncillaryBuffer::default();
            rustix::net::sendmsg(&*self.stream, &slices[..count], &mut no_control, flags)
                .map_err(io::Error::from)
        };
        Ok(self.stream.try_io(Interest::WRITABLE, send)?)
    }

    /// Sends from the front of a file range; returns the bytes sent.
    async fn send_file(
        &self,
        file: &Arc<dyn DiskFile>,
        position: u64,
        len: usize,
    ) -> Result<usize, WriteError> {
        let len = len.min(SENDFILE_BYTES);
        let Some(descriptor) = file.descriptor() else {
            return self.send_copy(file, position, len).await;
        };
        let cached = cached_bytes(descriptor, position, len);
        let sent = if cached > 0 {
            self.stream.try_io(Interest::WRITABLE, || {
                sendfile(&self.stream, file, position, cached)
            })?
        } else {
            let (stream, file) = (self.stream.clone(), file.clone());
            // Readiness is asked for first: the blocking thread then has something to do at once.
            self.wait_writable().await?;
            let sending = tokio::task::spawn_blocking(move || {
                stream.try_io(Interest::WRITABLE, || {
                    sendfile(&stream, &file, position, len)
                })
            });
            sending.await.map_err(io::Error::other)??
        };
        if sent == 0 {
            Err(WriteError::FileEnded)
        } else {
            Ok(sent)
        }
    }

    /// For files without a descriptor (a simulated disk).
    async fn send_copy(
        &self,
        file: &Arc<dyn DiskFile>,
        position: u64,
        len: usize,
    ) -> Result<usize, WriteError> {
        let file = file.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; len];
            file.read_at(&mut buffer, position)
                .map(|read| (buffer, read))
        });
        let (buffer, read) = reading.await.map_err(io::Error::other)??;
        if read < len {
            return Err(WriteError::FileEnded);
        }
        let mut bytes = Bytes::from(buffer);
        while bytes.has_remaining() {
            match self.stream.try_write(&bytes) {
                Ok(sent) => bytes.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_writable().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(len)
    }

    /// Takes sent bytes off the front.
    fn advance(&mut self, mut sent: usize) {
        while let Some(part) = self.parts.front_mut() {
            if sent < part.len() {
                match part {
                    Part::Bytes(bytes) => bytes.advance(sent),
                    Part::File { position, len, .. } => {
                        *position += sent as u64;
                        *len -= sent;
                    }
                }
                return;
            }
            sent -= part.len();
            self.parts.pop_front();
        }
    }
}

fn sendfile(
    stream: &TcpStream,
    file: &Arc<dyn DiskFile>,
    position: u64,
    len: usize,
) -> io::Result<usize> {
    let Some(descriptor) = file.descriptor() else {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    };
    let mut offset = position;
    rustix::fs::sendfile(stream, descriptor, Some(&mut offset), len).map_err(io::Error::from)
}

/// How many bytes from `position` on can be sent without waiting for the disk.
fn cached_bytes(file: std::os::fd::BorrowedFd<'_>, position: u64, len: usize) -> usize {
    let mut cached = 0;
    while cached < len {
        // The last byte of a step stands for the step: the kernel reads ahead in larger pieces.
        let end = (cached + PROBE_STEP).min(len);
        if cached == 0 && !is_cached(file, position) || !is_cached(file, position + end as u64 - 1)
        {
            break;
        }
        cached = end;
    }
    cached
}

fn is_cached(file: std::os::fd::BorrowedFd<'_>, position: u64) -> bool {
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    // Anything but "would block" (a file system without support, an error) is left to sendfile.
    rustix::io::preadv2(file, &mut buffers, position, ReadWriteFlags::NOWAIT) != Err(Errno::AGAIN)
}
