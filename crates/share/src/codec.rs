//! The bytes of `__share_group_state`, exactly as Kafka 4.4's share coordinator writes and reads
//! them.
//!
//! A key is an `i16` that says which record it is (0 a snapshot, 1 an update), then group, topic id
//! and partition in the plain encodings. A value is an `i16` version 0, then fields in the compact
//! ones; the count of finished deliveries (KIP-1226) is tagged. A snapshot without a value says that
//! the state is gone.

use bytes::Bytes;
use dlog_coordination::{CodecError, Reader, Writer};
use uuid::Uuid;

use crate::state::{Delivered, DeliveryState, ShareKey, StateBatch};

const SNAPSHOT: i16 = 0;
const UPDATE: i16 = 1;
/// The tag of the count of finished deliveries, left out when it is not known.
const COMPLETE_COUNT: u32 = 0;
/// Not known.
pub const NO_COUNT: i32 = -1;
/// Bytes of one batch: two offsets, a state, a count, no tags.
const BATCH_BYTES: usize = 20;

/// Which record a key is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordKey {
    /// The whole state of a share-partition.
    Snapshot(ShareKey),
    /// What changed since.
    Update(ShareKey),
    /// A kind that this version does not know.
    Other(i16),
}

/// The whole state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotValue {
    /// Counts the snapshots of this state.
    pub snapshot_epoch: i32,
    /// Raised with each initialisation.
    pub state_epoch: i32,
    /// Epoch of the partition's leader.
    pub leader_epoch: i32,
    /// First offset that is not done with, -1 when none was chosen yet.
    pub start_offset: i64,
    /// When this state was made, Unix ms.
    pub create_timestamp_ms: i64,
    /// When it was written last, Unix ms.
    pub write_timestamp_ms: i64,
    /// The fates of offsets, ascending.
    pub batches: Vec<StateBatch>,
    /// Offsets from the start on that are done with, [`NO_COUNT`] when not known.
    pub delivery_complete_count: i32,
}

/// What changed since the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateValue {
    /// The snapshot that this comes after.
    pub snapshot_epoch: i32,
    /// Epoch of the partition's leader.
    pub leader_epoch: i32,
    /// The new start offset, -1 when it stays.
    pub start_offset: i64,
    /// The fates that changed, ascending.
    pub batches: Vec<StateBatch>,
    /// As in [`SnapshotValue`].
    pub delivery_complete_count: i32,
}

fn encode_key(kind: i16, key: &ShareKey) -> Result<Bytes, CodecError> {
    let mut writer = Writer::with_capacity(24 + key.group.len());
    writer.i16(kind);
    writer.str(&key.group, false, "group id")?;
    writer.raw(key.topic_id.as_bytes());
    writer.i32(key.partition);
    Ok(writer.finish())
}

/// Writes the key of a snapshot. An error means that the group's id is longer than 32,767 bytes.
pub fn encode_snapshot_key(key: &ShareKey) -> Result<Bytes, CodecError> {
    encode_key(SNAPSHOT, key)
}

/// Writes the key of an update; errors as [`encode_snapshot_key`].
pub fn encode_update_key(key: &ShareKey) -> Result<Bytes, CodecError> {
    encode_key(UPDATE, key)
}

/// Reads a key.
pub fn decode_key(bytes: &[u8]) -> Result<RecordKey, CodecError> {
    let mut reader = Reader::new(bytes);
    let kind = reader.i16("key version")?;
    if kind != SNAPSHOT && kind != UPDATE {
        return Ok(RecordKey::Other(kind));
    }
    let key = ShareKey {
        group: reader.str(false, "group id")?.into(),
        topic_id: Uuid::from_u128(reader.u128("topic id")?),
        partition: reader.i32("partition")?,
    };
    Ok(if kind == SNAPSHOT {
        RecordKey::Snapshot(key)
    } else {
        RecordKey::Update(key)
    })
}

fn check_version(reader: &mut Reader<'_>, what: &'static str) -> Result<(), CodecError> {
    match reader.i16("value version")? {
        0 => Ok(()),
        version => Err(CodecError::UnknownVersion { what, version }),
    }
}

impl SnapshotValue {
    /// Reads a value.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        check_version(&mut reader, "share snapshot")?;
        Ok(Self {
            snapshot_epoch: reader.i32("snapshot epoch")?,
            state_epoch: reader.i32("state epoch")?,
            leader_epoch: reader.i32("leader epoch")?,
            start_offset: reader.i64("start offset")?,
            create_timestamp_ms: reader.i64("create timestamp")?,
            write_timestamp_ms: reader.i64("write timestamp")?,
            batches: read_batches(&mut reader)?,
            delivery_complete_count: read_complete_count(&mut reader)?,
        })
    }

    /// Writes the value. An error means that it has too many batches to count.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut writer = Writer::with_capacity(56 + self.batches.len() * BATCH_BYTES);
        writer.i16(0);
        writer.i32(self.snapshot_epoch);
        writer.i32(self.state_epoch);
        writer.i32(self.leader_epoch);
        writer.i64(self.start_offset);
        writer.i64(self.create_timestamp_ms);
        writer.i64(self.write_timestamp_ms);
        write_batches(&mut writer, &self.batches)?;
        write_complete_count(&mut writer, self.delivery_complete_count);
        Ok(writer.finish())
    }
}

impl UpdateValue {
    /// Reads a value.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        check_version(&mut reader, "share update")?;
        Ok(Self {
            snapshot_epoch: reader.i32("snapshot epoch")?,
            leader_epoch: reader.i32("leader epoch")?,
            start_offset: reader.i64("start offset")?,
            batches: read_batches(&mut reader)?,
            delivery_complete_count: read_complete_count(&mut reader)?,
        })
    }

    /// Writes the value; errors as [`SnapshotValue::encode`].
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut writer = Writer::with_capacity(32 + self.batches.len() * BATCH_BYTES);
        writer.i16(0);
        writer.i32(self.snapshot_epoch);
        writer.i32(self.leader_epoch);
        writer.i64(self.start_offset);
        write_batches(&mut writer, &self.batches)?;
        write_complete_count(&mut writer, self.delivery_complete_count);
        Ok(writer.finish())
    }
}

fn read_batches(reader: &mut Reader<'_>) -> Result<Vec<StateBatch>, CodecError> {
    let count = reader.count(true, BATCH_BYTES, "state batches")?;
    let mut batches = Vec::with_capacity(count);
    for _ in 0..count {
        let first = reader.i64("first offset")?;
        let last = reader.i64("last offset")?;
        let id = reader.i8("delivery state")?;
        let state = DeliveryState::from_id(id).ok_or(CodecError::UnknownVersion {
            what: "delivery state",
            version: i16::from(id),
        })?;
        let count = reader.i16("delivery count")?;
        let count = u16::try_from(count).map_err(|_| CodecError::BadLength {
            field: "delivery count",
            length: i64::from(count),
        })?;
        reader.tagged(|_, _| Ok(()))?;
        batches.push(StateBatch {
            first,
            last,
            delivered: Delivered { state, count },
        });
    }
    Ok(batches)
}

fn write_batches(writer: &mut Writer, batches: &[StateBatch]) -> Result<(), CodecError> {
    writer.count(batches.len(), true, "state batches")?;
    for batch in batches {
        writer.i64(batch.first);
        writer.i64(batch.last);
        writer.i8(batch.delivered.state.id());
        // Kafka counts to 32,767, which the limit of deliveries stays far below.
        writer.i16(i16::try_from(batch.delivered.count).unwrap_or(i16::MAX));
        writer.uvarint(0);
    }
    Ok(())
}

fn read_complete_count(reader: &mut Reader<'_>) -> Result<i32, CodecError> {
    let mut count = NO_COUNT;
    reader.tagged(|tag, bytes| {
        if tag == COMPLETE_COUNT {
            count = Reader::new(bytes).i32("delivery complete count")?;
        }
        Ok(())
    })?;
    Ok(count)
}

fn write_complete_count(writer: &mut Writer, count: i32) {
    if count == NO_COUNT {
        writer.uvarint(0);
        return;
    }
    writer.uvarint(1);
    writer.uvarint(COMPLETE_COUNT);
    writer.uvarint(4);
    writer.i32(count);
}
