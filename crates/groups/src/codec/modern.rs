//! Values of the records that consumer groups of the new protocol (KIP-848) are stored in. All have
//! version 0 with compact fields; what was added later stands in tagged fields. Share groups use
//! the epochs and the target assignments as well: their layout is the same.

use bytes::Bytes;
use uuid::Uuid;

use dlog_coordination::{CodecError, Reader, Writer};

/// Partitions of one topic.
pub type TopicPartitions = (Uuid, Vec<i32>);

/// A topic id, an array of partitions, the end of the tagged fields.
const MIN_TOPIC_BYTES: usize = 18;

pub(super) fn begin<'a>(bytes: &'a [u8], what: &'static str) -> Result<Reader<'a>, CodecError> {
    let mut reader = Reader::new(bytes);
    match reader.i16("value version")? {
        0 => Ok(reader),
        version => Err(CodecError::UnknownVersion { what, version }),
    }
}

pub(super) fn writer() -> Writer {
    let mut writer = Writer::with_capacity(128);
    writer.i16(0);
    writer
}

pub(super) fn partitions(reader: &mut Reader<'_>) -> Result<Vec<i32>, CodecError> {
    let count = reader.count(true, 4, "partitions")?;
    (0..count).map(|_| reader.i32("partition")).collect()
}

pub(super) fn topic_partitions(
    reader: &mut Reader<'_>,
    field: &'static str,
) -> Result<Vec<TopicPartitions>, CodecError> {
    let count = reader.count(true, MIN_TOPIC_BYTES, field)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let id = Uuid::from_u128(reader.u128("topic id")?);
        topics.push((id, partitions(reader)?));
        reader.tagged(|_, _| Ok(()))?;
    }
    Ok(topics)
}

pub(super) fn write_partitions(writer: &mut Writer, partitions: &[i32]) -> Result<(), CodecError> {
    writer.count(partitions.len(), true, "partitions")?;
    partitions
        .iter()
        .for_each(|&partition| writer.i32(partition));
    Ok(())
}

pub(super) fn write_topic_partitions(
    writer: &mut Writer,
    topics: &[TopicPartitions],
    field: &'static str,
) -> Result<(), CodecError> {
    writer.count(topics.len(), true, field)?;
    for (id, partitions) in topics {
        writer.raw(id.as_bytes());
        write_partitions(writer, partitions)?;
        writer.uvarint(0);
    }
    Ok(())
}

fn tagged_i64(bytes: &[u8], field: &'static str) -> Result<i64, CodecError> {
    Reader::new(bytes).i64(field)
}

fn write_tagged_i64(writer: &mut Writer, value: i64) {
    if value == 0 {
        writer.uvarint(0);
        return;
    }
    writer.uvarint(1);
    writer.uvarint(0);
    writer.uvarint(8);
    writer.raw(&value.to_be_bytes());
}

/// `ConsumerGroupMetadataValue`: the group's epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupEpochValue {
    /// The epoch, which grows with every change that asks for a new assignment.
    pub epoch: i32,
    /// Stands for the topics that the group reads; 0 for none, or when an old broker wrote it.
    pub metadata_hash: i64,
}

impl GroupEpochValue {
    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = begin(bytes, "consumer group metadata value")?;
        let epoch = reader.i32("epoch")?;
        let mut metadata_hash = 0;
        reader.tagged(|tag, bytes| {
            if tag == 0 {
                metadata_hash = tagged_i64(bytes, "metadata hash")?;
            }
            Ok(())
        })?;
        Ok(Self {
            epoch,
            metadata_hash,
        })
    }

    /// Writes it.
    pub fn encode(&self) -> Bytes {
        let mut writer = writer();
        writer.i32(self.epoch);
        write_tagged_i64(&mut writer, self.metadata_hash);
        writer.finish()
    }
}

/// `ConsumerGroupTargetAssignmentMetadataValue`: for which group epoch the target was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetEpochValue {
    /// The group epoch that the target assignment belongs to.
    pub assignment_epoch: i32,
    /// When it was computed, Unix ms (KIP-1263); 0 when unknown.
    pub timestamp_ms: i64,
}

impl TargetEpochValue {
    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = begin(bytes, "target assignment metadata value")?;
        let assignment_epoch = reader.i32("assignment epoch")?;
        let mut timestamp_ms = 0;
        reader.tagged(|tag, bytes| {
            if tag == 0 {
                timestamp_ms = tagged_i64(bytes, "assignment timestamp")?;
            }
            Ok(())
        })?;
        Ok(Self {
            assignment_epoch,
            timestamp_ms,
        })
    }

    /// Writes it.
    pub fn encode(&self) -> Bytes {
        let mut writer = writer();
        writer.i32(self.assignment_epoch);
        write_tagged_i64(&mut writer, self.timestamp_ms);
        writer.finish()
    }
}

/// `ConsumerGroupTargetAssignmentMemberValue`: what one member shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetMemberValue {
    /// The partitions by topic.
    pub topics: Vec<TopicPartitions>,
}

impl TargetMemberValue {
    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = begin(bytes, "target assignment member value")?;
        let topics = topic_partitions(&mut reader, "topic partitions")?;
        reader.tagged(|_, _| Ok(()))?;
        Ok(Self { topics })
    }

    /// Writes it. An error means more partitions than an array can have.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut writer = writer();
        write_topic_partitions(&mut writer, &self.topics, "topic partitions")?;
        writer.uvarint(0);
        Ok(writer.finish())
    }
}

/// Partitions of one topic with the epoch in which the member got each (KIP-1251).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPartitions {
    /// The topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
    /// As many epochs; `None` when an older broker wrote the record.
    pub epochs: Option<Vec<i32>>,
}

/// `ConsumerGroupCurrentMemberAssignmentValue`: what a member has, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentValue {
    /// The member's epoch.
    pub epoch: i32,
    /// The epoch before, with which a member comes that missed our answer.
    pub previous_epoch: i32,
    /// Kafka's number of the member's state.
    pub state: i8,
    /// What the member may read.
    pub assigned: Vec<HeldPartitions>,
    /// What the member has to give back first.
    pub revoking: Vec<HeldPartitions>,
}

impl CurrentValue {
    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = begin(bytes, "current member assignment value")?;
        let value = Self {
            epoch: reader.i32("member epoch")?,
            previous_epoch: reader.i32("previous member epoch")?,
            state: reader.i8("member state")?,
            assigned: Self::decode_held(&mut reader, "assigned partitions")?,
            revoking: Self::decode_held(&mut reader, "partitions pending revocation")?,
        };
        reader.tagged(|_, _| Ok(()))?;
        Ok(value)
    }

    fn decode_held(
        reader: &mut Reader<'_>,
        field: &'static str,
    ) -> Result<Vec<HeldPartitions>, CodecError> {
        let count = reader.count(true, MIN_TOPIC_BYTES, field)?;
        let mut held = Vec::with_capacity(count);
        for _ in 0..count {
            let topic_id = Uuid::from_u128(reader.u128("topic id")?);
            let partitions = partitions(reader)?;
            let mut epochs = None;
            reader.tagged(|tag, bytes| {
                if tag == 0 {
                    epochs = Self::decode_epochs(bytes, partitions.len())?;
                }
                Ok(())
            })?;
            held.push(HeldPartitions {
                topic_id,
                partitions,
                epochs,
            });
        }
        Ok(held)
    }

    fn decode_epochs(bytes: &[u8], expected: usize) -> Result<Option<Vec<i32>>, CodecError> {
        let mut reader = Reader::new(bytes);
        let Some(count) = reader.opt_count(true, 4, "assignment epochs")? else {
            return Ok(None);
        };
        if count != expected {
            return Err(CodecError::BadLength {
                field: "assignment epochs",
                length: count as i64,
            });
        }
        let epochs = (0..count).map(|_| reader.i32("assignment epoch"));
        epochs.collect::<Result<Vec<i32>, _>>().map(Some)
    }

    /// Writes it. An error means more partitions than an array can have.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut writer = writer();
        writer.i32(self.epoch);
        writer.i32(self.previous_epoch);
        writer.i8(self.state);
        for held in [&self.assigned, &self.revoking] {
            writer.count(held.len(), true, "held partitions")?;
            for topic in held {
                writer.raw(topic.topic_id.as_bytes());
                write_partitions(&mut writer, &topic.partitions)?;
                match &topic.epochs {
                    None => writer.uvarint(0),
                    Some(epochs) => {
                        let mut field = Writer::with_capacity(5 + 4 * epochs.len());
                        write_partitions(&mut field, epochs)?;
                        writer.uvarint(1);
                        writer.uvarint(0);
                        write_sized(&mut writer, &field.finish())?;
                    }
                }
            }
        }
        writer.uvarint(0);
        Ok(writer.finish())
    }
}

/// A tagged field's content with its length.
fn write_sized(writer: &mut Writer, bytes: &[u8]) -> Result<(), CodecError> {
    let length = u32::try_from(bytes.len()).map_err(|_| CodecError::BadLength {
        field: "tagged field",
        length: i64::MAX,
    })?;
    writer.uvarint(length);
    writer.raw(bytes);
    Ok(())
}

/// `ConsumerGroupRegularExpressionValue`: which topics a regular expression matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegexValue {
    /// The topics.
    pub topics: Vec<String>,
    /// The version of the metadata that was looked at.
    pub version: i64,
    /// When, Unix ms.
    pub timestamp_ms: i64,
}

impl RegexValue {
    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = begin(bytes, "regular expression value")?;
        let value = Self {
            topics: strings(&mut reader, "topics")?,
            version: reader.i64("version")?,
            timestamp_ms: reader.i64("timestamp")?,
        };
        reader.tagged(|_, _| Ok(()))?;
        Ok(value)
    }

    /// Writes it. An error means a name that is too long.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut writer = writer();
        writer.count(self.topics.len(), true, "topics")?;
        for topic in &self.topics {
            writer.str(topic, true, "topic")?;
        }
        writer.i64(self.version);
        writer.i64(self.timestamp_ms);
        writer.uvarint(0);
        Ok(writer.finish())
    }
}

fn strings(reader: &mut Reader<'_>, field: &'static str) -> Result<Vec<String>, CodecError> {
    let count = reader.count(true, 1, field)?;
    (0..count)
        .map(|_| reader.str(true, field).map(str::to_owned))
        .collect()
}

/// What a member of the classic protocol brings (KIP-848's online migration).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMemberValue {
    /// Milliseconds without a heartbeat after which the member is gone.
    pub session_timeout_ms: i32,
    /// The protocols offered, best first, with their metadata.
    pub protocols: Vec<(String, Bytes)>,
}

/// `ConsumerGroupMemberMetadataValue`: who a member is and what it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberValue {
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The client's rack.
    pub rack_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// The topics asked for by name.
    pub topic_names: Vec<String>,
    /// The topics asked for by a regular expression.
    pub topic_regex: Option<String>,
    /// Milliseconds that the member may take to give partitions back; -1 when unknown.
    pub rebalance_timeout_ms: i32,
    /// The assignor that the member prefers.
    pub server_assignor: Option<String>,
    /// Present for a member of the classic protocol.
    pub classic: Option<ClassicMemberValue>,
}

impl MemberValue {
    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = begin(bytes, "consumer group member metadata value")?;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let mut value = Self {
            instance_id: owned(reader.opt_str(true, "instance id")?),
            rack_id: owned(reader.opt_str(true, "rack id")?),
            client_id: reader.str(true, "client id")?.to_owned(),
            client_host: reader.str(true, "client host")?.to_owned(),
            topic_names: strings(&mut reader, "subscribed topic names")?,
            topic_regex: owned(reader.opt_str(true, "subscribed topic regex")?),
            rebalance_timeout_ms: reader.i32("rebalance timeout")?,
            server_assignor: owned(reader.opt_str(true, "server assignor")?),
            classic: None,
        };
        reader.tagged(|tag, bytes| {
            if tag == 0 {
                value.classic = ClassicMemberValue::decode(bytes)?;
            }
            Ok(())
        })?;
        Ok(value)
    }

    /// Writes it. An error means a text or blob that is too long.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut writer = writer();
        writer.opt_str(self.instance_id.as_deref(), true, "instance id")?;
        writer.opt_str(self.rack_id.as_deref(), true, "rack id")?;
        writer.str(&self.client_id, true, "client id")?;
        writer.str(&self.client_host, true, "client host")?;
        writer.count(self.topic_names.len(), true, "subscribed topic names")?;
        for name in &self.topic_names {
            writer.str(name, true, "subscribed topic name")?;
        }
        writer.opt_str(self.topic_regex.as_deref(), true, "subscribed topic regex")?;
        writer.i32(self.rebalance_timeout_ms);
        writer.opt_str(self.server_assignor.as_deref(), true, "server assignor")?;
        // Kafka writes the field also when there is nothing in it.
        writer.uvarint(1);
        writer.uvarint(0);
        match &self.classic {
            None => write_sized(&mut writer, &[0])?,
            Some(classic) => write_sized(&mut writer, &classic.encode()?)?,
        }
        Ok(writer.finish())
    }
}

impl ClassicMemberValue {
    /// A struct that may be null has a number in front: 1 when it is there.
    fn decode(bytes: &[u8]) -> Result<Option<Self>, CodecError> {
        let mut reader = Reader::new(bytes);
        if reader.i8("classic member metadata")? != 1 {
            return Ok(None);
        }
        let session_timeout_ms = reader.i32("session timeout")?;
        let count = reader.count(true, 3, "supported protocols")?;
        let mut protocols = Vec::with_capacity(count);
        for _ in 0..count {
            let name = reader.str(true, "protocol name")?.to_owned();
            let metadata = Bytes::copy_from_slice(reader.bytes(true, "protocol metadata")?);
            reader.tagged(|_, _| Ok(()))?;
            protocols.push((name, metadata));
        }
        reader.tagged(|_, _| Ok(()))?;
        Ok(Some(Self {
            session_timeout_ms,
            protocols,
        }))
    }

    fn encode(&self) -> Result<Bytes, CodecError> {
        let mut writer = Writer::with_capacity(128);
        writer.i8(1);
        writer.i32(self.session_timeout_ms);
        writer.count(self.protocols.len(), true, "supported protocols")?;
        for (name, metadata) in &self.protocols {
            writer.str(name, true, "protocol name")?;
            writer.byte_field(metadata, true, "protocol metadata")?;
            writer.uvarint(0);
        }
        writer.uvarint(0);
        Ok(writer.finish())
    }
}
