//! What is remembered of a transactional id, and what each step makes of it. Every transition is a
//! function of what was to what will be; it counts once its record is durable.

use std::collections::BTreeSet;

use crate::api::{NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Producer, TopicPartition};

/// The state of a transaction. The numbers are those of the records, the names those of
/// DescribeTransactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionState {
    /// A producer, and no transaction yet.
    Empty,
    /// A transaction that takes partitions in.
    Ongoing,
    /// It will be committed, whatever happens.
    PrepareCommit,
    /// It will be aborted, whatever happens.
    PrepareAbort,
    /// It was committed in all its partitions.
    CompleteCommit,
    /// It was aborted in all its partitions.
    CompleteAbort,
    /// The id is expiring.
    Dead,
    /// The producer is about to be fenced; never stored.
    PrepareEpochFence,
}

impl TransactionState {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
        Self::Dead,
        Self::PrepareEpochFence,
    ];

    /// Its number in a record.
    pub fn id(self) -> i8 {
        self as i8
    }

    /// The state with this number.
    pub fn from_id(id: i8) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::Dead => "Dead",
            Self::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// Whether the end is decided and not everywhere written.
    pub fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }

    /// Whether a transaction has begun and not ended.
    pub(crate) fn is_open(self) -> bool {
        self == Self::Ongoing || self.is_prepared()
    }

    /// Whether an id in this state may expire.
    pub(crate) fn may_expire(self) -> bool {
        matches!(
            self,
            Self::Empty | Self::CompleteCommit | Self::CompleteAbort
        )
    }
}

/// The version of the transaction protocol (`transaction.version`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionVersion {
    /// As in KIP-98.
    V0,
    /// Records of version 1.
    V1,
    /// KIP-890, part 2: a new epoch for each transaction.
    V2,
}

impl TransactionVersion {
    /// Its feature level.
    pub fn level(self) -> i16 {
        self as i16
    }

    /// The version of this feature level.
    pub fn from_level(level: i16) -> Option<Self> {
        [Self::V0, Self::V1, Self::V2]
            .into_iter()
            .find(|version| version.level() == level)
    }

    /// Whether the end of a transaction gives the producer a new epoch.
    pub fn bumps_epoch(self) -> bool {
        self >= Self::V2
    }

    /// The version of the values that are written under it.
    pub(crate) fn value_version(self) -> i16 {
        i16::from(self >= Self::V1)
    }
}

/// Whether an epoch is the last a client may have: the one after it fences its owner.
pub(crate) fn is_exhausted(epoch: i16) -> bool {
    epoch >= i16::MAX - 1
}

/// What is remembered of a transactional id. All but `last_epoch` is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) producer: Producer,
    /// The producer id before the last step.
    pub(crate) previous_producer_id: i64,
    /// The producer id that follows when this transaction has ended; the epochs of the current one
    /// are used up.
    pub(crate) next_producer_id: i64,
    /// KIP-939's epoch of a prepared transaction: kept as it was found, never used.
    pub(crate) next_epoch: i16,
    /// The epoch before the last bump, by which a repeated InitProducerId is known.
    pub(crate) last_epoch: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) state: TransactionState,
    pub(crate) partitions: BTreeSet<TopicPartition>,
    pub(crate) start_ms: i64,
    pub(crate) last_update_ms: i64,
    pub(crate) client_version: TransactionVersion,
}

impl Metadata {
    /// Of an id that nobody has used yet: its first epoch will be 0.
    pub(crate) fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer: Producer {
                id: producer_id,
                epoch: NO_PRODUCER_EPOCH,
            },
            previous_producer_id: NO_PRODUCER_ID,
            next_producer_id: NO_PRODUCER_ID,
            next_epoch: NO_PRODUCER_EPOCH,
            last_epoch: NO_PRODUCER_EPOCH,
            timeout_ms,
            state: TransactionState::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            last_update_ms: now_ms,
            client_version: TransactionVersion::V0,
        }
    }

    /// The state with the epoch fields of `producer`, without a transaction.
    fn emptied(&self, producer: Producer, last_epoch: i16, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer,
            previous_producer_id: self.producer.id,
            last_epoch,
            timeout_ms,
            state: TransactionState::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            last_update_ms: now_ms,
            ..self.clone()
        }
    }

    /// A producer begins: the epoch grows, except for one that says (KIP-360) that it had the
    /// epoch before: its answer was lost. `None`: it is fenced.
    pub(crate) fn bumped(
        &self,
        expected_epoch: Option<i16>,
        timeout_ms: i32,
        now_ms: i64,
    ) -> Option<Self> {
        let current = self.producer.epoch;
        let (epoch, last_epoch) = match expected_epoch {
            None => (current.checked_add(1)?, NO_PRODUCER_EPOCH),
            Some(expected) if current == NO_PRODUCER_EPOCH || expected == current => {
                (current.checked_add(1)?, current)
            }
            Some(expected) if expected == self.last_epoch => (current, self.last_epoch),
            Some(_) => return None,
        };
        let producer = Producer {
            epoch,
            ..self.producer
        };
        Some(self.emptied(producer, last_epoch, timeout_ms, now_ms))
    }

    /// A producer begins under a new id: the epochs of the old one are used up.
    pub(crate) fn rotated(
        &self,
        producer_id: i64,
        keep_last_epoch: bool,
        timeout_ms: i32,
        now_ms: i64,
    ) -> Self {
        let producer = Producer {
            id: producer_id,
            epoch: 0,
        };
        let last_epoch = if keep_last_epoch {
            self.producer.epoch
        } else {
            NO_PRODUCER_EPOCH
        };
        self.emptied(producer, last_epoch, timeout_ms, now_ms)
    }

    /// Partitions join the transaction; the first ones begin it.
    pub(crate) fn with_partitions(
        &self,
        added: impl IntoIterator<Item = TopicPartition>,
        client_version: TransactionVersion,
        now_ms: i64,
    ) -> Self {
        let mut next = self.clone();
        if self.state != TransactionState::Ongoing {
            next.start_ms = now_ms;
        }
        next.partitions.extend(added);
        next.previous_producer_id = self.producer.id;
        next.state = TransactionState::Ongoing;
        next.last_update_ms = now_ms;
        next.client_version = client_version;
        next
    }

    /// The end is decided. Under version 2 the epoch grows, so that nothing of the old one can
    /// come late; `next_producer_id` is given when that was the last epoch.
    pub(crate) fn prepared(
        &self,
        committed: bool,
        client_version: TransactionVersion,
        next_producer_id: i64,
        now_ms: i64,
    ) -> Self {
        let mut next = self.clone();
        next.previous_producer_id = self.producer.id;
        next.next_producer_id = next_producer_id;
        next.state = if committed {
            TransactionState::PrepareCommit
        } else {
            TransactionState::PrepareAbort
        };
        if client_version.bumps_epoch() {
            // At the very last epoch only an abort is possible, and stays there.
            next.producer.epoch = self.producer.epoch.saturating_add(1);
            next.last_epoch = self.producer.epoch;
        }
        if self.state != TransactionState::Ongoing {
            // Version 2 may abort what never began, and still needs a time of its beginning.
            next.start_ms = now_ms;
        }
        next.last_update_ms = now_ms;
        next.client_version = client_version;
        next
    }

    /// All markers are written.
    pub(crate) fn completed(&self, now_ms: i64) -> Self {
        let mut next = self.clone();
        next.previous_producer_id = self.producer.id;
        next.state = if self.state == TransactionState::PrepareCommit {
            TransactionState::CompleteCommit
        } else {
            TransactionState::CompleteAbort
        };
        next.producer = self.producer_afterwards();
        next.next_producer_id = NO_PRODUCER_ID;
        next.partitions = BTreeSet::new();
        next.last_update_ms = now_ms;
        next
    }

    /// Who the producer is when a prepared transaction has ended.
    pub(crate) fn producer_afterwards(&self) -> Producer {
        if self.client_version.bumps_epoch() && self.next_producer_id != NO_PRODUCER_ID {
            Producer {
                id: self.next_producer_id,
                epoch: 0,
            }
        } else {
            self.producer
        }
    }

    /// When an ongoing transaction is to be aborted, Unix ms.
    pub(crate) fn abort_at_ms(&self) -> Option<i64> {
        // Two-phase commits (KIP-939) have the largest timeout, which means none.
        let limited = self.state == TransactionState::Ongoing && self.timeout_ms != i32::MAX;
        limited.then(|| {
            let timeout_ms = i64::from(self.timeout_ms);
            self.start_ms.saturating_add(timeout_ms).saturating_add(1)
        })
    }
}
