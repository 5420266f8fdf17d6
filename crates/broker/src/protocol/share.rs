//! The requests of share groups that `kafka-protocol` cannot say in all versions, and their answers.
//!
//! Requests of all served versions become the same types here. Invariants as in [`super::newer`].

use bytes::{Buf, BufMut};
use dlog_share::{AcknowledgementBatch, Delivered, DeliveryState, StateBatch, StateWrite, Summary};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::newer::{Reader, Writer, read};
use super::{ProtocolError, RawRequest};
use crate::net::reply::Reply;

/// KIP-1206 (how records are limited) and KIP-1222 (renewals) came with this version of ShareFetch
/// and ShareAcknowledge.
const RENEWALS: i16 = 2;
/// The count of finished deliveries (KIP-1226) came with this version of the requests for state.
const COMPLETE_COUNT: i16 = 1;

/// Acknowledgements of the partitions of a topic.
pub type Acknowledged = (Uuid, Vec<(i32, Vec<AcknowledgementBatch>)>);

/// ShareFetch.
#[derive(Clone, Debug)]
pub struct ShareFetchRequest {
    /// The group.
    pub group_id: Option<StrBytes>,
    /// The member.
    pub member_id: Option<StrBytes>,
    /// 0 begins a session, -1 ends it.
    pub session_epoch: i32,
    /// How long to wait for records, in ms.
    pub max_wait_ms: i32,
    /// Fewer bytes are waited for.
    pub min_bytes: i32,
    /// Bytes of records in the answer.
    pub max_bytes: i32,
    /// Records to acquire.
    pub max_records: i32,
    /// Records after which acquired ranges are cut.
    pub batch_size: i32,
    /// 0: whole batches, 1: never more than `max_records`.
    pub acquire_mode: i8,
    /// Locks are renewed, and nothing is fetched.
    pub is_renewal: bool,
    /// Partitions to add to the session, and acknowledgements.
    pub topics: Vec<Acknowledged>,
    /// Partitions to take out of the session.
    pub forgotten: Vec<(Uuid, Vec<i32>)>,
}

/// ShareAcknowledge.
#[derive(Clone, Debug)]
pub struct ShareAcknowledgeRequest {
    /// The group.
    pub group_id: Option<StrBytes>,
    /// The member.
    pub member_id: Option<StrBytes>,
    /// -1 ends the session.
    pub session_epoch: i32,
    /// Locks are renewed.
    pub is_renewal: bool,
    /// Acknowledgements.
    pub topics: Vec<Acknowledged>,
}

/// What is said of one partition in the answer to ShareAcknowledge: its index, a code, words.
pub type AcknowledgeResult = (i32, i16, Option<&'static str>);

/// The state of one share-partition as it is to be written.
#[derive(Clone, Debug)]
pub struct PartitionWrite {
    /// The partition.
    pub partition: i32,
    /// Epoch of the state.
    pub state_epoch: i32,
    /// Epoch of the leader.
    pub leader_epoch: i32,
    /// What to write.
    pub write: StateWrite,
}

/// WriteShareGroupState.
#[derive(Clone, Debug)]
pub struct WriteStateRequest {
    /// The group.
    pub group_id: StrBytes,
    /// By topic.
    pub topics: Vec<(Uuid, Vec<PartitionWrite>)>,
}

/// Decodes ShareFetch.
///
/// # Errors
/// [`ProtocolError::Malformed`].
pub fn share_fetch_request(raw: &RawRequest) -> Result<ShareFetchRequest, ProtocolError> {
    read(raw, |r| {
        let mut request = ShareFetchRequest {
            group_id: owned(r.nullable_string()?),
            member_id: owned(r.nullable_string()?),
            session_epoch: r.take(4)?.get_i32(),
            max_wait_ms: r.take(4)?.get_i32(),
            min_bytes: r.take(4)?.get_i32(),
            max_bytes: r.take(4)?.get_i32(),
            max_records: r.take(4)?.get_i32(),
            batch_size: r.take(4)?.get_i32(),
            acquire_mode: 0,
            is_renewal: false,
            topics: Vec::new(),
            forgotten: Vec::new(),
        };
        if raw.version >= RENEWALS {
            request.acquire_mode = r.take(1)?.get_i8();
            request.is_renewal = r.take(1)?.get_u8() != 0;
        }
        request.topics = acknowledged_topics(r)?;
        request.forgotten = r
            .array(|r| {
                let id = r.uuid()?;
                let partitions = r.array(|r| Ok(r.take(4)?.get_i32()))?;
                r.tags()?;
                Ok((id, partitions.ok_or("partitions must not be null")?))
            })?
            .ok_or("forgotten topics must not be null")?;
        Ok(request)
    })
}

/// Decodes ShareAcknowledge.
///
/// # Errors
/// [`ProtocolError::Malformed`].
pub fn share_acknowledge_request(
    raw: &RawRequest,
) -> Result<ShareAcknowledgeRequest, ProtocolError> {
    read(raw, |r| {
        let (group_id, member_id) = (owned(r.nullable_string()?), owned(r.nullable_string()?));
        let session_epoch = r.take(4)?.get_i32();
        let is_renewal = raw.version >= RENEWALS && r.take(1)?.get_u8() != 0;
        Ok(ShareAcknowledgeRequest {
            group_id,
            member_id,
            session_epoch,
            is_renewal,
            topics: acknowledged_topics(r)?,
        })
    })
}

/// A copy: as a slice it would keep the whole receive buffer with the session.
fn owned(text: Option<StrBytes>) -> Option<StrBytes> {
    text.map(|text| StrBytes::from_string(text.to_string()))
}

fn acknowledged_topics(r: &mut Reader) -> Result<Vec<Acknowledged>, &'static str> {
    let topics = r.array(|r| {
        let id = r.uuid()?;
        let partitions = r.array(|r| {
            let index = r.take(4)?.get_i32();
            let batches = r.array(acknowledgement_batch)?;
            r.tags()?;
            Ok((index, batches.ok_or("batches must not be null")?))
        })?;
        r.tags()?;
        Ok((id, partitions.ok_or("partitions must not be null")?))
    })?;
    topics.ok_or("topics must not be null")
}

fn acknowledgement_batch(r: &mut Reader) -> Result<AcknowledgementBatch, &'static str> {
    let (first, last) = (r.take(8)?.get_i64(), r.take(8)?.get_i64());
    let kinds = r.array(|r| Ok(r.take(1)?.get_i8()))?;
    r.tags()?;
    Ok(AcknowledgementBatch {
        first,
        last,
        kinds: kinds.ok_or("acknowledge types must not be null")?,
    })
}

/// Decodes WriteShareGroupState. A delivery state that there is not makes the request malformed.
///
/// # Errors
/// [`ProtocolError::Malformed`].
pub fn write_state_request(raw: &RawRequest) -> Result<WriteStateRequest, ProtocolError> {
    read(raw, |r| {
        let group_id = r.string()?;
        let topics = r.array(|r| {
            let id = r.uuid()?;
            let partitions = r.array(|r| partition_write(r, raw.version))?;
            r.tags()?;
            Ok((id, partitions.ok_or("partitions must not be null")?))
        })?;
        Ok(WriteStateRequest {
            group_id,
            topics: topics.ok_or("topics must not be null")?,
        })
    })
}

fn partition_write(r: &mut Reader, version: i16) -> Result<PartitionWrite, &'static str> {
    let partition = r.take(4)?.get_i32();
    let (state_epoch, leader_epoch) = (r.take(4)?.get_i32(), r.take(4)?.get_i32());
    let start_offset = r.take(8)?.get_i64();
    let delivery_complete_count = if version >= COMPLETE_COUNT {
        r.take(4)?.get_i32()
    } else {
        dlog_share::codec::NO_COUNT
    };
    let batches = r.array(state_batch)?;
    r.tags()?;
    Ok(PartitionWrite {
        partition,
        state_epoch,
        leader_epoch,
        write: StateWrite {
            start_offset,
            delivery_complete_count,
            batches: batches.ok_or("state batches must not be null")?,
        },
    })
}

fn state_batch(r: &mut Reader) -> Result<StateBatch, &'static str> {
    let (first, last) = (r.take(8)?.get_i64(), r.take(8)?.get_i64());
    let state = r.take(1)?.get_i8();
    let count = r.take(2)?.get_i16();
    r.tags()?;
    Ok(StateBatch {
        first,
        last,
        delivered: Delivered {
            // What is not known is as good as not delivered.
            state: DeliveryState::from_id(state).unwrap_or(DeliveryState::Available),
            count: u16::try_from(count).unwrap_or(0),
        },
    })
}

/// The answer to ShareAcknowledge.
///
/// # Errors
/// [`ProtocolError::Encoding`].
pub fn share_acknowledge_reply(
    raw: &RawRequest,
    (error, lock_ms): (i16, i32),
    topics: &[(Uuid, Vec<AcknowledgeResult>)],
) -> Result<Reply, ProtocolError> {
    let mut out = Writer::new(raw);
    out.bytes.put_i32(0);
    out.bytes.put_i16(error);
    out.nullable_string(None);
    if raw.version >= RENEWALS {
        out.bytes.put_i32(lock_ms);
    }
    out.array(topics, |out, (id, partitions)| {
        out.bytes.put_slice(id.as_bytes());
        out.array(partitions, |out, (index, code, message)| {
            out.bytes.put_i32(*index);
            out.bytes.put_i16(*code);
            out.nullable_string(*message);
            // No other leader is known.
            out.bytes.put_i64(0);
            out.bytes.put_u8(0);
        });
    });
    // No endpoints of other nodes.
    out.varint(1);
    let codes = topics.iter().flat_map(|(_, partitions)| partitions);
    let codes = std::iter::once(error).chain(codes.map(|(_, code, _)| *code));
    out.finish(raw, codes.filter(|code| *code != 0).collect())
}

/// What is said of one partition in the answer to ReadShareGroupStateSummary.
pub type SummaryResult = (i32, Result<Summary, (i16, String)>);

/// The answer to ReadShareGroupStateSummary.
///
/// # Errors
/// [`ProtocolError::Encoding`].
pub fn read_summary_reply(
    raw: &RawRequest,
    topics: &[(Uuid, Vec<SummaryResult>)],
) -> Result<Reply, ProtocolError> {
    let mut out = Writer::new(raw);
    let mut codes = Vec::new();
    out.array(topics, |out, (id, partitions)| {
        out.bytes.put_slice(id.as_bytes());
        out.array(partitions, |out, (index, result)| {
            out.bytes.put_i32(*index);
            let nothing = Summary {
                state_epoch: 0,
                leader_epoch: 0,
                start_offset: 0,
                delivery_complete_count: dlog_share::codec::NO_COUNT,
            };
            let summary = match result {
                Ok(summary) => {
                    out.bytes.put_i16(0);
                    out.nullable_string(None);
                    *summary
                }
                Err((code, message)) => {
                    codes.push(*code);
                    out.bytes.put_i16(*code);
                    out.nullable_string(Some(message));
                    nothing
                }
            };
            out.bytes.put_i32(summary.state_epoch);
            out.bytes.put_i32(summary.leader_epoch);
            out.bytes.put_i64(summary.start_offset);
            if raw.version >= COMPLETE_COUNT {
                out.bytes.put_i32(summary.delivery_complete_count);
            }
        });
    });
    out.finish(raw, codes)
}

/// One partition in the answer to DescribeShareGroupOffsets.
#[derive(Clone, Debug)]
pub struct DescribedPartition {
    /// The partition.
    pub index: i32,
    /// First offset that is not done with, -1 when there is none.
    pub start_offset: i64,
    /// Epoch of the leader.
    pub leader_epoch: i32,
    /// Records that are not done with, -1 when not known (KIP-1226).
    pub lag: i64,
    /// A code and words.
    pub error: Option<(i16, String)>,
}

/// One topic in the answer to DescribeShareGroupOffsets.
#[derive(Clone, Debug)]
pub struct DescribedTopic {
    /// Its name.
    pub name: String,
    /// Its id, nil when it is not known.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: Vec<DescribedPartition>,
}

/// One group in the answer to DescribeShareGroupOffsets.
#[derive(Clone, Debug)]
pub struct DescribedOffsets {
    /// The group.
    pub group_id: String,
    /// Its topics, or a code and words.
    pub topics: Result<Vec<DescribedTopic>, (i16, String)>,
}

/// The answer to DescribeShareGroupOffsets.
///
/// # Errors
/// [`ProtocolError::Encoding`].
pub fn describe_offsets_reply(
    raw: &RawRequest,
    groups: &[DescribedOffsets],
) -> Result<Reply, ProtocolError> {
    let mut out = Writer::new(raw);
    let mut codes = Vec::new();
    out.bytes.put_i32(0);
    out.array(groups, |out, group| {
        out.string(&group.group_id);
        let (topics, error) = match &group.topics {
            Ok(topics) => (topics.as_slice(), None),
            Err(error) => (&[][..], Some(error)),
        };
        out.array(topics, |out, topic| {
            out.string(&topic.name);
            out.bytes.put_slice(topic.id.as_bytes());
            out.array(&topic.partitions, |out, partition| {
                out.bytes.put_i32(partition.index);
                out.bytes.put_i64(partition.start_offset);
                out.bytes.put_i32(partition.leader_epoch);
                if raw.version >= COMPLETE_COUNT {
                    out.bytes.put_i64(partition.lag);
                }
                put_error(out, partition.error.as_ref(), &mut codes);
            });
        });
        put_error(out, error, &mut codes);
    });
    out.finish(raw, codes)
}

fn put_error(out: &mut Writer, error: Option<&(i16, String)>, codes: &mut Vec<i16>) {
    out.bytes.put_i16(error.map_or(0, |(code, _)| *code));
    out.nullable_string(error.map(|(_, message)| message.as_str()));
    codes.extend(error.map(|(code, _)| *code));
}
