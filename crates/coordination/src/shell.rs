//! The words in which a coordinator and its shell speak of requests and writes.

use bytes::Bytes;

/// Names a request that will be answered later; chosen by the shell, which must not reuse one that
/// is still open. Every token gets exactly one reply.
pub type Token = u64;

/// Names a write; chosen by the coordinator, ascending in the order of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// A record of the coordinator's partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Bytes,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
}
