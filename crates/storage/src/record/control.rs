//! Control records: what brokers write into a log for each other, and consumers do not see.
//!
//! Key, big-endian: `i16` version (0), `i16` type. The value of an end-transaction marker
//! (KIP-98): `i16` version (0), `i32` coordinator epoch. Readers accept newer versions that only
//! add fields behind these.
//!
//! | type | marker |
//! |---|---|
//! | 0 | the producer's transaction was aborted |
//! | 1 | the producer's transaction was committed |
//! | 2 | leader change (KIP-595) |
//! | 3, 4 | snapshot header, footer (KIP-630) |
//! | 5 | KRaft version (KIP-853) |
//! | 6 | KRaft voters (KIP-853) |

use bytes::Bytes;

use super::{Batch, BatchBuilder, NO_SEQUENCE, RecordError};

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 0;
const KEY_BYTES: usize = 4;
const VALUE_BYTES: usize = 6;

/// The type of a control record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControlType {
    /// A transaction was aborted.
    Abort,
    /// A transaction was committed.
    Commit,
    /// A new leader of a metadata quorum.
    LeaderChange,
    /// The first record of a metadata snapshot.
    SnapshotHeader,
    /// The last record of a metadata snapshot.
    SnapshotFooter,
    /// The version of the quorum's protocol.
    KRaftVersion,
    /// The voters of the quorum.
    KRaftVoters,
    /// A type that is not known here; readers skip it.
    Unknown(i16),
}

impl ControlType {
    /// The type's number.
    pub fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::LeaderChange => 2,
            Self::SnapshotHeader => 3,
            Self::SnapshotFooter => 4,
            Self::KRaftVersion => 5,
            Self::KRaftVoters => 6,
            Self::Unknown(id) => id,
        }
    }

    /// The type with this number.
    pub fn from_id(id: i16) -> Self {
        match id {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::KRaftVersion,
            6 => Self::KRaftVoters,
            other => Self::Unknown(other),
        }
    }

    /// Reads the type from a control record's key.
    ///
    /// # Errors
    /// [`RecordError::Truncated`], [`RecordError::BadField`] for a negative version.
    pub fn from_key(key: &[u8]) -> Result<Self, RecordError> {
        let (version, rest) = versioned(key, "a control record's key", KEY_BYTES)?;
        debug_assert!(version >= KEY_VERSION);
        Ok(Self::from_id(i16::from_be_bytes([rest[0], rest[1]])))
    }

    /// A control record's key for this type.
    pub fn to_key(self) -> [u8; KEY_BYTES] {
        let (version, id) = (KEY_VERSION.to_be_bytes(), self.id().to_be_bytes());
        [version[0], version[1], id[0], id[1]]
    }
}

/// The end of one producer's transaction in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndTxnMarker {
    /// Whether the transaction was committed (or aborted).
    pub committed: bool,
    /// The epoch of the transaction coordinator that ended it.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// Reads the marker from a control record; `None` for a control record of another type.
    ///
    /// # Errors
    /// [`RecordError::Truncated`], [`RecordError::BadField`] for a negative version.
    pub fn from_record(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Option<Self>, RecordError> {
        let committed = match ControlType::from_key(key.unwrap_or_default())? {
            ControlType::Commit => true,
            ControlType::Abort => false,
            _ => return Ok(None),
        };
        let what = "an end-transaction marker";
        let (_, rest) = versioned(value.unwrap_or_default(), what, VALUE_BYTES)?;
        Ok(Some(Self {
            committed,
            coordinator_epoch: i32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]),
        }))
    }

    /// Reads the marker of a control batch; `None` when it is no control batch, or one of another
    /// type.
    ///
    /// # Errors
    /// As [`EndTxnMarker::from_record`] and [`Batch::records`]; [`RecordError::Inconsistent`]
    /// when the batch has more than one record (a compacted one may have none).
    pub fn from_batch(batch: &Batch) -> Result<Option<Self>, RecordError> {
        if !batch.header().is_control() {
            return Ok(None);
        }
        let mut records = batch.records()?;
        let Some(record) = records.next().transpose()? else {
            return Ok(None);
        };
        let marker = Self::from_record(record.key.as_deref(), record.value.as_deref())?;
        if marker.is_some() && records.next().is_some() {
            return Err(RecordError::Inconsistent(
                "an end-transaction marker stands alone in its batch".into(),
            ));
        }
        Ok(marker)
    }

    /// The key of the marker's record.
    pub fn to_key(self) -> [u8; KEY_BYTES] {
        let kind = if self.committed {
            ControlType::Commit
        } else {
            ControlType::Abort
        };
        kind.to_key()
    }

    /// The value of the marker's record.
    pub fn to_value(self) -> [u8; VALUE_BYTES] {
        let mut value = [0; VALUE_BYTES];
        value[..2].copy_from_slice(&VALUE_VERSION.to_be_bytes());
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        value
    }

    /// The control batch that ends a producer's transaction.
    ///
    /// # Errors
    /// None that a valid producer id and epoch can cause; as [`BatchBuilder::build`].
    pub fn to_batch(
        self,
        producer_id: i64,
        producer_epoch: i16,
        timestamp_ms: i64,
    ) -> Result<Bytes, RecordError> {
        let mut builder = BatchBuilder::new()
            .producer(producer_id, producer_epoch, NO_SEQUENCE)
            .transactional(true)
            .control(true);
        let (key, value) = (self.to_key(), self.to_value());
        builder.push(timestamp_ms, Some(&key), Some(&value), &[])?;
        builder.build()
    }
}

/// Reads the version in front of a key or value that needs at least `bytes`.
fn versioned<'a>(
    field: &'a [u8],
    what: &'static str,
    bytes: usize,
) -> Result<(i16, &'a [u8]), RecordError> {
    if field.len() < bytes {
        return Err(RecordError::Truncated {
            what,
            needed: bytes,
            available: field.len(),
        });
    }
    let version = i16::from_be_bytes([field[0], field[1]]);
    if version < 0 {
        return Err(RecordError::BadField {
            field: "control record version",
            value: version.into(),
            allowed: "0 or more",
        });
    }
    Ok((version, &field[2..]))
}
