//! `TransactionLogValue`, versions 0 and 1.

use bytes::Bytes;
use dlog_coordination::{CodecError, Reader, Writer};

use crate::api::{NO_PRODUCER_EPOCH, NO_PRODUCER_ID};

/// Tags of version 1, in the order they are written.
const PREVIOUS_PRODUCER_ID: u32 = 0;
const NEXT_PRODUCER_ID: u32 = 1;
const CLIENT_VERSION: u32 = 2;
const NEXT_EPOCH: u32 = 3;

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPartitions {
    /// The topic's name.
    pub topic: String,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// A transactional id as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionValue {
    /// The producer id.
    pub producer_id: i64,
    /// The producer id before the last step (version 1), -1 when there was none.
    pub previous_producer_id: i64,
    /// The producer id after this transaction (version 1), -1 when it stays.
    pub next_producer_id: i64,
    /// The producer's epoch.
    pub epoch: i16,
    /// KIP-939's epoch of a prepared transaction (version 1), -1 when there is none.
    pub next_epoch: i16,
    /// The transaction's timeout.
    pub timeout_ms: i32,
    /// [`crate::TransactionState::id`].
    pub status: i8,
    /// The partitions, `None` (null) in state Empty.
    pub partitions: Option<Vec<TopicPartitions>>,
    /// When this was written, Unix ms.
    pub last_update_ms: i64,
    /// When the transaction began, Unix ms; -1 when none did.
    pub start_ms: i64,
    /// [`crate::TransactionVersion::level`] of the client (version 1).
    pub client_version: i16,
}

fn check_version(version: i16) -> Result<bool, CodecError> {
    match version {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(CodecError::UnknownVersion {
            what: "transaction value",
            version,
        }),
    }
}

impl TransactionValue {
    /// Reads a value of any version.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let compact = check_version(reader.i16("value version")?)?;
        let mut value = Self {
            producer_id: reader.i64("producer id")?,
            previous_producer_id: NO_PRODUCER_ID,
            next_producer_id: NO_PRODUCER_ID,
            epoch: reader.i16("producer epoch")?,
            next_epoch: NO_PRODUCER_EPOCH,
            timeout_ms: reader.i32("timeout")?,
            status: reader.i8("status")?,
            partitions: read_topics(&mut reader, compact)?,
            last_update_ms: reader.i64("last update")?,
            start_ms: reader.i64("start")?,
            client_version: 0,
        };
        if compact {
            reader.tagged(|tag, bytes| {
                let mut field = Reader::new(bytes);
                match tag {
                    PREVIOUS_PRODUCER_ID => {
                        value.previous_producer_id = field.i64("previous producer id")?;
                    }
                    NEXT_PRODUCER_ID => value.next_producer_id = field.i64("next producer id")?,
                    CLIENT_VERSION => value.client_version = field.i16("client version")?,
                    NEXT_EPOCH => value.next_epoch = field.i16("next producer epoch")?,
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(value)
    }

    /// Writes the value in `version`; fields that version 0 does not have are dropped.
    pub fn encode(&self, version: i16) -> Result<Bytes, CodecError> {
        let compact = check_version(version)?;
        let mut writer = Writer::with_capacity(64);
        writer.i16(version);
        writer.i64(self.producer_id);
        writer.i16(self.epoch);
        writer.i32(self.timeout_ms);
        writer.i8(self.status);
        write_topics(&mut writer, self.partitions.as_deref(), compact)?;
        writer.i64(self.last_update_ms);
        writer.i64(self.start_ms);
        if compact {
            self.write_tagged(&mut writer);
        }
        Ok(writer.finish())
    }

    /// Only what is not at its default is written.
    fn write_tagged(&self, writer: &mut Writer) {
        let long = |value: i64| (value != NO_PRODUCER_ID).then(|| value.to_be_bytes().to_vec());
        let short = |value: i16, default| (value != default).then(|| value.to_be_bytes().to_vec());
        let fields = [
            (PREVIOUS_PRODUCER_ID, long(self.previous_producer_id)),
            (NEXT_PRODUCER_ID, long(self.next_producer_id)),
            (CLIENT_VERSION, short(self.client_version, 0)),
            (NEXT_EPOCH, short(self.next_epoch, NO_PRODUCER_EPOCH)),
        ];
        let present = fields.iter().filter(|(_, bytes)| bytes.is_some()).count();
        writer.uvarint(present as u32);
        for (tag, bytes) in fields {
            if let Some(bytes) = bytes {
                writer.uvarint(tag);
                writer.uvarint(bytes.len() as u32);
                writer.raw(&bytes);
            }
        }
    }
}

fn read_topics(
    reader: &mut Reader<'_>,
    compact: bool,
) -> Result<Option<Vec<TopicPartitions>>, CodecError> {
    // A topic takes at least its two lengths.
    let least_bytes = if compact { 2 } else { 6 };
    let Some(count) = reader.opt_count(compact, least_bytes, "topics")? else {
        return Ok(None);
    };
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let topic = reader.str(compact, "topic")?.to_owned();
        let count = reader.count(compact, 4, "partitions")?;
        let partitions = (0..count)
            .map(|_| reader.i32("partition"))
            .collect::<Result<_, _>>()?;
        if compact {
            reader.tagged(|_, _| Ok(()))?;
        }
        topics.push(TopicPartitions { topic, partitions });
    }
    Ok(Some(topics))
}

fn write_topics(
    writer: &mut Writer,
    topics: Option<&[TopicPartitions]>,
    compact: bool,
) -> Result<(), CodecError> {
    let Some(topics) = topics else {
        writer.null_array(compact);
        return Ok(());
    };
    writer.count(topics.len(), compact, "topics")?;
    for topic in topics {
        writer.str(&topic.topic, compact, "topic")?;
        writer.count(topic.partitions.len(), compact, "partitions")?;
        for &partition in &topic.partitions {
            writer.i32(partition);
        }
        if compact {
            writer.uvarint(0);
        }
    }
    Ok(())
}
