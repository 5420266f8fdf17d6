//! Keys of `__consumer_offsets`.

use bytes::Bytes;

use dlog_coordination::{CodecError, Reader, Writer};

/// The record types of consumer groups of the new protocol (KIP-848) and of share groups (KIP-932):
/// the number in front of a key.
pub mod kind {
    /// A group of the classic protocol.
    pub const CLASSIC_GROUP: i16 = 2;
    /// The epoch of a consumer group.
    pub const CONSUMER_GROUP: i16 = 3;
    /// The topics of a consumer group; read and removed, not written since Kafka 4.1.
    pub const CONSUMER_PARTITIONS: i16 = 4;
    /// A member of a consumer group.
    pub const CONSUMER_MEMBER: i16 = 5;
    /// The epoch of a consumer group's target assignment.
    pub const CONSUMER_TARGET: i16 = 6;
    /// The target assignment of one member.
    pub const CONSUMER_TARGET_MEMBER: i16 = 7;
    /// What a member holds now.
    pub const CONSUMER_CURRENT: i16 = 8;
    /// A member of a share group.
    pub const SHARE_MEMBER: i16 = 10;
    /// The epoch of a share group.
    pub const SHARE_GROUP: i16 = 11;
    /// The epoch of a share group's target assignment.
    pub const SHARE_TARGET: i16 = 12;
    /// The target assignment of one member of a share group.
    pub const SHARE_TARGET_MEMBER: i16 = 13;
    /// What a member of a share group holds now.
    pub const SHARE_CURRENT: i16 = 14;
    /// Which partitions of a share group have their state set up.
    pub const SHARE_STATE_PARTITIONS: i16 = 15;
    /// The topics that a regular expression of a consumer group has matched.
    pub const CONSUMER_REGEX: i16 = 16;

    /// Whether records of this type are about a consumer group of the new protocol.
    pub const fn is_of_consumer(kind: i16) -> bool {
        matches!(kind, CONSUMER_GROUP..=CONSUMER_CURRENT | CONSUMER_REGEX)
    }

    /// Whether records of this type are about a share group.
    pub const fn is_of_share(kind: i16) -> bool {
        matches!(kind, SHARE_MEMBER..=SHARE_STATE_PARTITIONS)
    }

    /// Whether keys of this type name a group and nothing else.
    pub const fn is_of_group(kind: i16) -> bool {
        matches!(
            kind,
            CONSUMER_GROUP
                | CONSUMER_PARTITIONS
                | CONSUMER_TARGET
                | SHARE_GROUP
                | SHARE_TARGET
                | SHARE_STATE_PARTITIONS
        )
    }

    /// Whether keys of this type name a group and a member, or a group and a regular expression.
    pub const fn is_of_part(kind: i16) -> bool {
        matches!(
            kind,
            CONSUMER_MEMBER
                | CONSUMER_TARGET_MEMBER
                | CONSUMER_CURRENT
                | SHARE_MEMBER
                | SHARE_TARGET_MEMBER
                | SHARE_CURRENT
                | CONSUMER_REGEX
        )
    }
}

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
    /// Something about a whole group of the newer kinds: [`kind::is_of_group`].
    OfGroup {
        /// The record type.
        kind: i16,
        /// The group.
        group: &'a str,
    },
    /// Something about a part of such a group: [`kind::is_of_part`].
    OfPart {
        /// The record type.
        kind: i16,
        /// The group.
        group: &'a str,
        /// The member id, or the regular expression.
        part: &'a str,
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
            kind::CLASSIC_GROUP => Ok(Self::Group {
                group: reader.str(false, "group")?,
            }),
            kind if kind::is_of_group(kind) => Ok(Self::OfGroup {
                kind,
                group: reader.str(false, "group")?,
            }),
            kind if kind::is_of_part(kind) => Ok(Self::OfPart {
                kind,
                group: reader.str(false, "group")?,
                part: reader.str(false, "member or regular expression")?,
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
        let mut writer = Writer::with_capacity(64);
        match *self {
            Self::Offset {
                group,
                topic,
                partition,
            } => {
                writer.i16(1);
                writer.str(group, false, "group")?;
                writer.str(topic, false, "topic")?;
                writer.i32(partition);
            }
            Self::Group { group } => {
                writer.i16(kind::CLASSIC_GROUP);
                writer.str(group, false, "group")?;
            }
            Self::OfGroup { kind, group } => {
                writer.i16(kind);
                writer.str(group, false, "group")?;
            }
            Self::OfPart { kind, group, part } => {
                writer.i16(kind);
                writer.str(group, false, "group")?;
                writer.str(part, false, "member or regular expression")?;
            }
            Self::Other { kind } => writer.i16(kind),
        }
        Ok(writer.finish())
    }
}
