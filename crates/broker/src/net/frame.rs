//! The receive buffer: takes whole frames off the front, grows as bytes arrive.
//!
//! Invariants: the claimed size of a frame is checked before anything is allocated for it, and memory
//! for it grows in proportion to what has arrived; a frame handed out is a slice of the buffer.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;

/// Bytes read at once from a connection that has shown no large frame.
const SMALL_READ: usize = 16 << 10;

/// Bytes reserved at once for a large frame of a connection that has spoken Kafka.
const LARGE_READ: usize = 1 << 20;

/// An idle connection keeps a buffer of at most this size.
const KEEP_IDLE: usize = 4 << 10;

/// Why no frame can be read any more.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The size prefix is negative or above the limit.
    #[error("a request of {claimed} bytes was announced, the limit is {limit}")]
    Size {
        /// The prefix.
        claimed: i32,
        /// The limit that holds for the connection.
        limit: u32,
    },
    /// The peer went away in the middle of a frame.
    #[error("the connection ended inside a request")]
    Truncated,
    /// The operating system's error.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The receive buffer of a connection.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    buffer: BytesMut,
}

impl FrameBuffer {
    /// Takes a whole frame, without its size prefix, off the front; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError::Size`].
    pub fn take(&mut self, limit: u32) -> Result<Option<Bytes>, FrameError> {
        let Some(len) = self.claimed(limit)? else {
            return Ok(None);
        };
        if self.buffer.len() < 4 + len {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(4 + len).freeze();
        bytes::Buf::advance(&mut frame, 4);
        Ok(Some(frame))
    }

    /// Whether no byte of a frame is waiting.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Gives memory back while nothing arrives.
    pub fn shrink(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > KEEP_IDLE {
            self.buffer = BytesMut::new();
        }
    }

    /// Reads what is there; `Ok(false)` at the end of the stream, `WouldBlock` when nothing is there.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn read_from(&mut self, stream: &TcpStream, trusted: bool) -> io::Result<bool> {
        let room = self.buffer.capacity() - self.buffer.len();
        let wanted = self.wanted(trusted);
        if room < wanted.min(SMALL_READ) {
            self.buffer.reserve(wanted);
        }
        Ok(stream.try_read_buf(&mut self.buffer)? > 0)
    }

    /// Size of the frame at the front, once its prefix is there.
    fn claimed(&self, limit: u32) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let claimed = i32::from_be_bytes(*prefix);
        match u32::try_from(claimed) {
            Ok(len) if len <= limit => Ok(Some(len as usize)),
            _ => Err(FrameError::Size { claimed, limit }),
        }
    }

    /// How much room the next read should have: the rest of the frame, but never out of proportion to
    /// what has arrived.
    fn wanted(&self, trusted: bool) -> usize {
        let have = self.buffer.len();
        let frame = self
            .claimed(u32::MAX)
            .ok()
            .flatten()
            .map_or(0, |len| len + 4);
        let missing = frame.saturating_sub(have);
        let at_once = if trusted { LARGE_READ } else { SMALL_READ };
        missing
            .min(at_once.max(have))
            .max(if have == 0 && !trusted {
                512
            } else {
                SMALL_READ
            })
    }
}
