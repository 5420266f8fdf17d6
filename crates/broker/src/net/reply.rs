//! What is sent to a client: bytes, and ranges of log files that go out without being copied.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use dlog_storage::disk::DiskFile;

/// A piece of a reply.
#[derive(Clone, Debug)]
pub enum Part {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A range of a file, sent with `sendfile`.
    File {
        /// The file; stays open, and so readable, even if it is deleted meanwhile.
        file: Arc<dyn DiskFile>,
        /// First byte.
        position: u64,
        /// Number of bytes, at least 1.
        len: usize,
    },
}

impl Part {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File { len, .. } => *len,
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A whole response with its length prefix.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The pieces in order; none of them is empty.
    pub parts: Vec<Part>,
    /// Error codes in it, for the metrics: what the client will see as failed.
    pub errors: Vec<i16>,
}

impl Reply {
    /// A reply of one piece.
    pub fn bytes(bytes: Bytes) -> Self {
        Self {
            parts: vec![Part::Bytes(bytes)],
            errors: Vec::new(),
        }
    }

    /// Number of bytes of all pieces.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }

    /// Bytes that are in memory, not in files.
    pub fn memory_bytes(&self) -> usize {
        let bytes = |part: &Part| match part {
            Part::Bytes(bytes) => bytes.len(),
            Part::File { .. } => 0,
        };
        self.parts.iter().map(bytes).sum()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

/// A reply that waits for something, such as a flush.
pub type PendingReply = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// What became of a request.
pub enum Outcome {
    /// The reply.
    Ready(Reply),
    /// The request was executed and the reply waits; later requests may be executed meanwhile.
    Pending(PendingReply),
    /// The client asked for no reply.
    Silent,
    /// The client asked for no reply and the request failed: closing the connection tells it.
    Close,
}
