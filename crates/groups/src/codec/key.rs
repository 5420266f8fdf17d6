//! Keys of `__consumer_offsets`.

use bytes::Bytes;

use dlog_coordination::{CodecError, Reader, Writer};

/// What a record of `__consumer_offsets` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKey<'a> {
    /// `OffsetCommitKey`, types 0 (written by brokers before 0.9) and 1.
    Offset {
        /// The consumer group.
        group: &'a str,
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: i32,
    },
    /// `GroupMetadataKey`, type 2.
    Group {
        /// The consumer group.
        group: &'a str,
    },
    /// A record type of another kind of group, left alone.
    Other {
        /// The type's number.
        kind: i16,
    },
}

impl<'a> RecordKey<'a> {
    /// Reads a key. Bytes after the last field are ignored, as Kafka does.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        match reader.i16("key type")? {
            0 | 1 => Ok(Self::Offset {
                group: reader.str(false, "group")?,
                topic: reader.str(false, "topic")?,
                partition: reader.i32("partition")?,
            }),
            2 => Ok(Self::Group {
                group: reader.str(false, "group")?,
            }),
            kind if kind < 0 => Err(CodecError::UnknownVersion {
                what: "key",
                version: kind,
            }),
            kind => Ok(Self::Other { kind }),
        }
    }

    /// Writes the key as Kafka 4 does (offsets as type 1). An error means a name is longer than
    /// 32,767 bytes; [`RecordKey::Other`] has no fields and writes its type alone.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        match *self {
            Self::Offset {
                group,
                topic,
                partition,
            } => {
                let mut writer = Writer::with_capacity(10 + group.len() + topic.len());
                writer.i16(1);
                writer.str(group, false, "group")?;
                writer.str(topic, false, "topic")?;
                writer.i32(partition);
                Ok(writer.finish())
            }
            Self::Group { group } => {
                let mut writer = Writer::with_capacity(4 + group.len());
                writer.i16(2);
                writer.str(group, false, "group")?;
                Ok(writer.finish())
            }
            Self::Other { kind } => {
                let mut writer = Writer::with_capacity(2);
                writer.i16(kind);
                Ok(writer.finish())
            }
        }
    }
}
