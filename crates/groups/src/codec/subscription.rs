//! What the members of a classic group of type `consumer` tell each other through the coordinator:
//! `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`. The coordinator reads the
//! topics of a subscription; when a classic member is in a consumer group it speaks both.

use bytes::Bytes;

use dlog_coordination::{CodecError, Reader, Writer};

/// The protocol type whose metadata the coordinator can read.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// Partitions of topics by name.
pub type NamedPartitions<'a> = Vec<(&'a str, Vec<i32>)>;

fn begin<'a>(bytes: &'a [u8], what: &'static str) -> Result<(Reader<'a>, i16), CodecError> {
    let mut reader = Reader::new(bytes);
    let version = reader.i16("protocol version")?;
    if version < 0 {
        return Err(CodecError::UnknownVersion { what, version });
    }
    Ok((reader, version))
}

/// The topics a consumer's subscription names. Later versions only append fields, so any version
/// from 0 on is read.
pub fn subscribed_topics(metadata: &[u8]) -> Result<Vec<&str>, CodecError> {
    let (mut reader, _) = begin(metadata, "subscription")?;
    topics(&mut reader)
}

fn topics<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a str>, CodecError> {
    let count = reader.count(false, 2, "topics")?;
    (0..count).map(|_| reader.str(false, "topic")).collect()
}

fn named_partitions<'a>(
    reader: &mut Reader<'a>,
    field: &'static str,
) -> Result<NamedPartitions<'a>, CodecError> {
    let count = reader.count(false, 6, field)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.str(false, "topic")?;
        let count = reader.count(false, 4, "partitions")?;
        let partitions: Result<Vec<i32>, _> = (0..count).map(|_| reader.i32("partition")).collect();
        topics.push((name, partitions?));
    }
    Ok(topics)
}

/// A consumer's subscription, `ConsumerProtocolSubscription` 0 to 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// Its version, which the assignment sent back has, too.
    pub version: i16,
    /// The topics.
    pub topics: Vec<&'a str>,
    /// What the consumer reads at the moment (version 1 on).
    pub owned: NamedPartitions<'a>,
    /// The consumer's rack (version 3 on).
    pub rack_id: Option<&'a str>,
}

impl<'a> Subscription<'a> {
    /// Reads a subscription of any version.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, CodecError> {
        let (mut reader, version) = begin(bytes, "subscription")?;
        let topics = topics(&mut reader)?;
        reader.opt_bytes(false, "user data")?;
        let owned = if version >= 1 {
            named_partitions(&mut reader, "owned partitions")?
        } else {
            Vec::new()
        };
        if version >= 2 {
            reader.i32("generation")?;
        }
        let rack_id = match version {
            3.. => reader.opt_str(false, "rack id")?,
            _ => None,
        };
        Ok(Self {
            version,
            topics,
            owned,
            rack_id,
        })
    }
}

/// The partitions of a `ConsumerProtocolAssignment` of any version. No bytes are no partitions.
pub fn assigned_partitions(assignment: &[u8]) -> Result<NamedPartitions<'_>, CodecError> {
    if assignment.is_empty() {
        return Ok(Vec::new());
    }
    let (mut reader, _) = begin(assignment, "assignment")?;
    named_partitions(&mut reader, "assigned partitions")
}

/// Writes a `ConsumerProtocolAssignment`. An error means a name that is too long.
pub fn assignment_of(version: i16, topics: &NamedPartitions<'_>) -> Result<Bytes, CodecError> {
    let mut writer = Writer::with_capacity(64);
    writer.i16(version.clamp(0, 3));
    writer.count(topics.len(), false, "assigned partitions")?;
    for (name, partitions) in topics {
        writer.str(name, false, "topic")?;
        writer.count(partitions.len(), false, "partitions")?;
        partitions
            .iter()
            .for_each(|&partition| writer.i32(partition));
    }
    writer.null_array(false);
    Ok(writer.finish())
}
