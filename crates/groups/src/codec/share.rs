//! Values of the records that share groups (KIP-932) are stored in, all of version 0 with compact
//! fields. The target assignment has the layout of consumer groups: [`super::TargetEpochValue`],
//! [`super::TargetMemberValue`].

use bytes::Bytes;
use uuid::Uuid;

use dlog_coordination::{CodecError, Reader};

use super::TopicPartitions;
use super::modern::{
    begin, partitions, topic_partitions, write_partitions, write_topic_partitions, writer,
};

/// A topic id, a name, an array of partitions, the end of the tagged fields.
const MIN_TOPIC_BYTES: usize = 18;

/// `ShareGroupMetadataValue`: the group's epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareEpochValue {
    /// The epoch, which grows with every change that asks for a new assignment.
    pub epoch: i32,
    /// Stands for the topics that the group reads.
    pub metadata_hash: i64,
}

impl ShareEpochValue {
    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = begin(bytes, "share group metadata value")?;
        Ok(Self {
            epoch: reader.i32("epoch")?,
            metadata_hash: reader.i64("metadata hash")?,
        })
    }

    /// Writes it.
    pub fn encode(&self) -> Bytes {
        let mut writer = writer();
        writer.i32(self.epoch);
        writer.i64(self.metadata_hash);
        writer.uvarint(0);
        writer.finish()
    }
}

/// `ShareGroupMemberMetadataValue`: what a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareMemberValue {
    /// Its rack.
    pub rack_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// The topics that it asks for.
    pub topic_names: Vec<String>,
}

impl ShareMemberValue {
    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = begin(bytes, "share group member value")?;
        let rack_id = reader.opt_str(true, "rack id")?.map(str::to_owned);
        let client_id = reader.str(true, "client id")?.to_owned();
        let client_host = reader.str(true, "client host")?.to_owned();
        let count = reader.count(true, 1, "topic names")?;
        let names = (0..count).map(|_| Ok(reader.str(true, "topic name")?.to_owned()));
        Ok(Self {
            rack_id,
            client_id,
            client_host,
            topic_names: names.collect::<Result<_, CodecError>>()?,
        })
    }

    /// Writes it. An error means that a text is too long.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut writer = writer();
        writer.opt_str(self.rack_id.as_deref(), true, "rack id")?;
        writer.str(&self.client_id, true, "client id")?;
        writer.str(&self.client_host, true, "client host")?;
        writer.count(self.topic_names.len(), true, "topic names")?;
        for name in &self.topic_names {
            writer.str(name, true, "topic name")?;
        }
        writer.uvarint(0);
        Ok(writer.finish())
    }
}

/// `ShareGroupCurrentMemberAssignmentValue`: what a member has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareCurrentValue {
    /// Its epoch.
    pub epoch: i32,
    /// Its epoch before.
    pub previous_epoch: i32,
    /// Its state, always 0: share groups give nothing back before something else is taken.
    pub state: i8,
    /// What it has.
    pub assigned: Vec<TopicPartitions>,
}

impl ShareCurrentValue {
    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = begin(bytes, "share group current assignment value")?;
        let (epoch, previous_epoch) = (reader.i32("epoch")?, reader.i32("previous epoch")?);
        let state = reader.i8("state")?;
        Ok(Self {
            epoch,
            previous_epoch,
            state,
            assigned: topic_partitions(&mut reader, "assigned partitions")?,
        })
    }

    /// Writes it. An error means that there are too many partitions to count.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut writer = writer();
        writer.i32(self.epoch);
        writer.i32(self.previous_epoch);
        writer.i8(self.state);
        write_topic_partitions(&mut writer, &self.assigned, "assigned partitions")?;
        writer.uvarint(0);
        Ok(writer.finish())
    }
}

/// A topic with its name and partitions.
pub type SharePartitionsOf = (Uuid, String, Vec<i32>);

/// `ShareGroupStatePartitionMetadataValue`: which partitions have their state set up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareStatePartitionsValue {
    /// It is being set up.
    pub initializing: Vec<SharePartitionsOf>,
    /// It is there.
    pub initialized: Vec<SharePartitionsOf>,
    /// It is being deleted.
    pub deleting: Vec<(Uuid, String)>,
}

impl ShareStatePartitionsValue {
    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = begin(bytes, "share group state partitions value")?;
        let initializing = named_partitions(&mut reader, "initializing topics")?;
        let initialized = named_partitions(&mut reader, "initialized topics")?;
        let count = reader.count(true, MIN_TOPIC_BYTES, "deleting topics")?;
        let mut deleting = Vec::with_capacity(count);
        for _ in 0..count {
            let id = Uuid::from_u128(reader.u128("topic id")?);
            deleting.push((id, reader.str(true, "topic name")?.to_owned()));
            reader.tagged(|_, _| Ok(()))?;
        }
        Ok(Self {
            initializing,
            initialized,
            deleting,
        })
    }

    /// Writes it. An error means that a name is too long.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut writer = writer();
        for topics in [&self.initializing, &self.initialized] {
            writer.count(topics.len(), true, "topics")?;
            for (id, name, partitions) in topics {
                writer.raw(id.as_bytes());
                writer.str(name, true, "topic name")?;
                write_partitions(&mut writer, partitions)?;
                writer.uvarint(0);
            }
        }
        writer.count(self.deleting.len(), true, "deleting topics")?;
        for (id, name) in &self.deleting {
            writer.raw(id.as_bytes());
            writer.str(name, true, "topic name")?;
            writer.uvarint(0);
        }
        writer.uvarint(0);
        Ok(writer.finish())
    }
}

fn named_partitions(
    reader: &mut Reader<'_>,
    field: &'static str,
) -> Result<Vec<SharePartitionsOf>, CodecError> {
    let count = reader.count(true, MIN_TOPIC_BYTES, field)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let id = Uuid::from_u128(reader.u128("topic id")?);
        let name = reader.str(true, "topic name")?.to_owned();
        topics.push((id, name, partitions(reader)?));
        reader.tagged(|_, _| Ok(()))?;
    }
    Ok(topics)
}
