//! The words in which a coordinator and its shell speak of requests and writes.

use bytes::Bytes;

use crate::PersistError;

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

/// No producer id.
pub const NO_PRODUCER_ID: i64 = -1;
/// No producer epoch.
pub const NO_PRODUCER_EPOCH: i16 = -1;

/// A producer id and its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Producer {
    /// The producer id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
}

impl Producer {
    /// Id and epoch -1: none.
    pub const NONE: Self = Self {
        id: NO_PRODUCER_ID,
        epoch: NO_PRODUCER_EPOCH,
    };
}

/// The end of a producer's transaction in one partition (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionMarker {
    /// The producer, with the epoch that the marker carries.
    pub producer: Producer,
    /// Committed, or aborted.
    pub committed: bool,
    /// The epoch of the transaction's coordinator.
    pub coordinator_epoch: i32,
    /// The epoch has to be larger than that of the transaction (KIP-890, version 2 of the protocol).
    pub strict_epoch: bool,
}

/// What is appended to a coordinator's partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEntry {
    /// Records that count once they are durable, in order.
    Records(Vec<Record>),
    /// Records that are part of a producer's transaction, in one batch.
    InTransaction {
        /// The producer.
        producer: Producer,
        /// The records in order.
        records: Vec<Record>,
    },
    /// The end of a transaction.
    Marker(TransactionMarker),
}

/// Where a coordinator is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is told what the log contains, and serves nobody yet.
    Loading,
    /// It serves.
    Active,
    /// It leads the partition no more, and never will again.
    Resigned,
}

/// What a coordinator asks of whoever drives it. `R` are its answers, `W` what else it has done for
/// it.
#[derive(Debug)]
pub enum Action<R, W> {
    /// Answer the request that came with `token`.
    Reply {
        /// The request.
        token: Token,
        /// Its answer.
        reply: R,
    },
    /// Append `entry` behind those of all earlier writes, then report the end of this write with
    /// [`StateMachine::persisted`].
    Append {
        /// Names this write.
        write: WriteId,
        /// What is written.
        entry: LogEntry,
    },
    /// Something that only this kind of coordinator asks for.
    Work(W),
}

/// A coordinator as its shell sees it: the part of its life that does not depend on what it
/// coordinates. Requests are methods of the coordinator itself.
pub trait StateMachine: Send + 'static {
    /// Answers to requests.
    type Reply: Send + 'static;
    /// What [`Action::Work`] carries.
    type Work: Send + 'static;
    /// The coordinator's own word for an action.
    type Effect: Into<Action<Self::Reply, Self::Work>> + Send + 'static;

    /// All records of the log are applied: requests are served.
    fn finish_loading(&mut self, now_ms: i64, out: &mut Vec<Self::Effect>);

    /// When [`tick`](Self::tick) must be called next, Unix ms. It may turn out to be too early,
    /// never too late.
    fn next_deadline_ms(&self) -> Option<i64>;

    /// Acts on what time has brought.
    fn tick(&mut self, now_ms: i64, out: &mut Vec<Self::Effect>);

    /// The records of a write were put into the log from `first_offset` on; its end is reported
    /// later.
    fn appended(&mut self, write: WriteId, first_offset: i64) {
        let _ = (write, first_offset);
    }

    /// A write has ended.
    fn persisted(
        &mut self,
        now_ms: i64,
        write: WriteId,
        result: Result<(), PersistError>,
        out: &mut Vec<Self::Effect>,
    );
}
