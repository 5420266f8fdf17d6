//! `OffsetCommitValue`, versions 0 to 4.

use bytes::Bytes;
use uuid::Uuid;

use dlog_coordination::{CodecError, Reader, Writer};

/// A committed offset as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetCommitValue<'a> {
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read (version 3 on), -1 when unknown.
    pub leader_epoch: i32,
    /// The client's free text.
    pub metadata: &'a str,
    /// When it was committed, Unix ms.
    pub commit_timestamp_ms: i64,
    /// When it expires (version 1 only), Unix ms; -1 when retention decides.
    pub expire_timestamp_ms: i64,
    /// The topic's id (version 4 on), nil when unknown.
    pub topic_id: Uuid,
}

impl<'a> OffsetCommitValue<'a> {
    /// Reads a value of any version.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16("value version")?;
        if !(0..=4).contains(&version) {
            return Err(CodecError::UnknownVersion {
                what: "offset commit value",
                version,
            });
        }
        let compact = version >= 4;
        let mut value = Self {
            offset: reader.i64("offset")?,
            leader_epoch: if version >= 3 {
                reader.i32("leader epoch")?
            } else {
                -1
            },
            metadata: reader.str(compact, "metadata")?,
            commit_timestamp_ms: reader.i64("commit timestamp")?,
            expire_timestamp_ms: if version == 1 {
                reader.i64("expire timestamp")?
            } else {
                -1
            },
            topic_id: Uuid::nil(),
        };
        if compact {
            reader.tagged(|tag, bytes| {
                if tag == 0 {
                    value.topic_id = Uuid::from_u128(Reader::new(bytes).u128("topic id")?);
                }
                Ok(())
            })?;
        }
        Ok(value)
    }

    /// The version Kafka 4.3 writes: 1 when the commit carries its own expiry, else 4.
    pub fn preferred_version(&self) -> i16 {
        if self.expire_timestamp_ms == -1 { 4 } else { 1 }
    }

    /// Writes the value in `version`; fields that the version does not have are dropped.
    pub fn encode(&self, version: i16) -> Result<Bytes, CodecError> {
        if !(0..=4).contains(&version) {
            return Err(CodecError::UnknownVersion {
                what: "offset commit value",
                version,
            });
        }
        let compact = version >= 4;
        let mut writer = Writer::with_capacity(52 + self.metadata.len());
        writer.i16(version);
        writer.i64(self.offset);
        if version >= 3 {
            writer.i32(self.leader_epoch);
        }
        writer.str(self.metadata, compact, "metadata")?;
        writer.i64(self.commit_timestamp_ms);
        if version == 1 {
            writer.i64(self.expire_timestamp_ms);
        }
        if compact && self.topic_id.is_nil() {
            writer.uvarint(0);
        } else if compact {
            writer.uvarint(1);
            writer.uvarint(0);
            writer.uvarint(16);
            writer.raw(self.topic_id.as_bytes());
        }
        Ok(writer.finish())
    }
}
