//! Versions of requests that Kafka serves and `kafka-protocol` cannot say yet.
//!
//! The decoder's types are filled and read here by hand; what is new in a version (topic ids, a field)
//! stands beside them. Invariants: a body has passed the shape check before it comes here, and is checked
//! again all the same; nothing is allocated for a count that the bytes left cannot hold.
//!
//! Where only the number of a version is new, or only its response, the request is decoded as the newest
//! version that the decoder knows: see [`RawRequest::decode`].

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, DeleteGroupsResponse, DescribeLogDirsResponse, GroupId,
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, ProducerId,
    TopicName, TransactionalId, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
    WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::codes::ErrorCodes;
use super::{ProtocolError, RawRequest};
use crate::net::reply::Reply;

/// The versions that are beyond the decoder. [`super::served`] may name these and no others beyond it.
pub const NEWER: &[(ApiKey, i16)] = &[
    (ApiKey::ListOffsets, 11),
    (ApiKey::OffsetCommit, 10),
    (ApiKey::OffsetFetch, 10),
    (ApiKey::ApiVersions, 5),
    (ApiKey::WriteTxnMarkers, 2),
    (ApiKey::TxnOffsetCommit, 6),
    (ApiKey::DescribeLogDirs, 5),
    (ApiKey::DeleteGroups, 3),
    (ApiKey::ShareFetch, 2),
    (ApiKey::ShareAcknowledge, 2),
    (ApiKey::WriteShareGroupState, 1),
    (ApiKey::ReadShareGroupStateSummary, 1),
    (ApiKey::DescribeShareGroupOffsets, 1),
];

/// What ApiVersions 5 adds: whom the client believes to speak with (KIP-1242).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Believed {
    /// The cluster.
    pub cluster_id: Option<StrBytes>,
    /// The node, -1 for none in particular.
    pub node_id: i32,
}

/// Decodes ApiVersions 5.
///
/// # Errors
/// [`ProtocolError::Malformed`].
pub fn api_versions_request(
    raw: &RawRequest,
) -> Result<(ApiVersionsRequest, Believed), ProtocolError> {
    read(raw, |r| {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(r.string()?)
            .with_client_software_version(r.string()?);
        let believed = Believed {
            cluster_id: r.nullable_string()?,
            node_id: r.take(4)?.get_i32(),
        };
        Ok((request, believed))
    })
}

/// Decodes OffsetCommit 10: names are empty, the ids of the topics follow in their order.
///
/// # Errors
/// [`ProtocolError::Malformed`].
pub fn offset_commit_request(
    raw: &RawRequest,
) -> Result<(OffsetCommitRequest, Vec<Uuid>), ProtocolError> {
    read(raw, |r| {
        let mut request = OffsetCommitRequest::default()
            .with_group_id(GroupId(r.string()?))
            .with_generation_id_or_member_epoch(r.take(4)?.get_i32())
            .with_member_id(r.string()?)
            .with_group_instance_id(r.nullable_string()?);
        let mut ids = Vec::new();
        request.topics = r
            .array(|r| {
                ids.push(r.uuid()?);
                let partitions = r.array(commit_partition)?;
                r.tags()?;
                let partitions = partitions.ok_or("partitions must not be null")?;
                Ok(OffsetCommitRequestTopic::default().with_partitions(partitions))
            })?
            .ok_or("topics must not be null")?;
        Ok((request, ids))
    })
}

/// Decodes WriteTxnMarkers 2 (KIP-1228): the version of each marker's transaction follows, in their order.
///
/// # Errors
/// [`ProtocolError::Malformed`].
pub fn write_txn_markers_request(
    raw: &RawRequest,
) -> Result<(WriteTxnMarkersRequest, Vec<i8>), ProtocolError> {
    read(raw, |r| {
        let mut versions = Vec::new();
        let markers = r.array(|r| {
            let mut marker = WritableTxnMarker::default()
                .with_producer_id(ProducerId(r.take(8)?.get_i64()))
                .with_producer_epoch(r.take(2)?.get_i16())
                .with_transaction_result(r.take(1)?.get_u8() != 0);
            let topics = r.array(|r| {
                let name = TopicName(r.string()?);
                let indexes = r.array(|r| Ok(r.take(4)?.get_i32()))?;
                r.tags()?;
                let indexes = indexes.ok_or("partitions must not be null")?;
                Ok(WritableTxnMarkerTopic::default()
                    .with_name(name)
                    .with_partition_indexes(indexes))
            })?;
            marker.topics = topics.ok_or("topics must not be null")?;
            marker.coordinator_epoch = r.take(4)?.get_i32();
            versions.push(r.take(1)?.get_i8());
            r.tags()?;
            Ok(marker)
        })?;
        let markers = markers.ok_or("markers must not be null")?;
        let request = WriteTxnMarkersRequest::default().with_markers(markers);
        Ok((request, versions))
    })
}

/// Decodes TxnOffsetCommit 6: names are empty, the ids of the topics follow in their order.
///
/// # Errors
/// [`ProtocolError::Malformed`].
pub fn txn_offset_commit_request(
    raw: &RawRequest,
) -> Result<(TxnOffsetCommitRequest, Vec<Uuid>), ProtocolError> {
    read(raw, |r| {
        let mut request = TxnOffsetCommitRequest::default()
            .with_transactional_id(TransactionalId(r.string()?))
            .with_group_id(GroupId(r.string()?))
            .with_producer_id(ProducerId(r.take(8)?.get_i64()))
            .with_producer_epoch(r.take(2)?.get_i16())
            .with_generation_id(r.take(4)?.get_i32())
            .with_member_id(r.string()?)
            .with_group_instance_id(r.nullable_string()?);
        let mut ids = Vec::new();
        let topics = r.array(|r| {
            ids.push(r.uuid()?);
            let partitions = r.array(|r| {
                let partition = TxnOffsetCommitRequestPartition::default()
                    .with_partition_index(r.take(4)?.get_i32())
                    .with_committed_offset(r.take(8)?.get_i64())
                    .with_committed_leader_epoch(r.take(4)?.get_i32())
                    .with_committed_metadata(r.nullable_string()?);
                r.tags()?;
                Ok(partition)
            })?;
            r.tags()?;
            let partitions = partitions.ok_or("partitions must not be null")?;
            Ok(TxnOffsetCommitRequestTopic::default().with_partitions(partitions))
        })?;
        request.topics = topics.ok_or("topics must not be null")?;
        Ok((request, ids))
    })
}

/// Encodes the response to TxnOffsetCommit 6; `ids` are those of the topics, in their order.
///
/// # Errors
/// [`ProtocolError::Encoding`].
pub fn txn_offset_commit_reply(
    raw: &RawRequest,
    response: &TxnOffsetCommitResponse,
    ids: &[Uuid],
) -> Result<Reply, ProtocolError> {
    let mut out = Writer::new(raw);
    out.bytes.put_i32(response.throttle_time_ms);
    let topics = response.topics.iter().zip(ids).collect::<Vec<_>>();
    out.array(&topics, |out, (topic, id)| {
        out.bytes.put_slice(id.as_bytes());
        out.array(&topic.partitions, |out, partition| {
            out.bytes.put_i32(partition.partition_index);
            out.bytes.put_i16(partition.error_code);
        });
    });
    out.finish(raw, response.error_codes())
}

fn commit_partition(r: &mut Reader) -> Result<OffsetCommitRequestPartition, &'static str> {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(r.take(4)?.get_i32())
        .with_committed_offset(r.take(8)?.get_i64())
        .with_committed_leader_epoch(r.take(4)?.get_i32())
        .with_committed_metadata(r.nullable_string()?);
    r.tags()?;
    Ok(partition)
}

/// Decodes OffsetFetch 10: names are empty, the ids of the topics follow for each group in their order.
///
/// # Errors
/// [`ProtocolError::Malformed`].
pub fn offset_fetch_request(
    raw: &RawRequest,
) -> Result<(OffsetFetchRequest, Vec<Vec<Uuid>>), ProtocolError> {
    read(raw, |r| {
        let mut all_ids = Vec::new();
        let groups = r.array(|r| {
            let mut group = OffsetFetchRequestGroup::default()
                .with_group_id(GroupId(r.string()?))
                .with_member_id(r.nullable_string()?)
                .with_member_epoch(r.take(4)?.get_i32());
            let mut ids = Vec::new();
            group.topics = r.array(|r| {
                ids.push(r.uuid()?);
                let indexes = r.array(|r| Ok(r.take(4)?.get_i32()))?;
                r.tags()?;
                let indexes = indexes.ok_or("partitions must not be null")?;
                Ok(OffsetFetchRequestTopics::default().with_partition_indexes(indexes))
            })?;
            r.tags()?;
            all_ids.push(ids);
            Ok(group)
        })?;
        let request = OffsetFetchRequest::default()
            .with_groups(groups.ok_or("groups must not be null")?)
            .with_require_stable(r.take(1)?.get_u8() != 0);
        Ok((request, all_ids))
    })
}

/// Encodes the response to OffsetCommit 10; `ids` are those of the topics, in their order.
///
/// # Errors
/// [`ProtocolError::Encoding`].
pub fn offset_commit_reply(
    raw: &RawRequest,
    response: &OffsetCommitResponse,
    ids: &[Uuid],
) -> Result<Reply, ProtocolError> {
    let mut out = Writer::new(raw);
    out.bytes.put_i32(response.throttle_time_ms);
    out.array(
        &response.topics.iter().zip(ids).collect::<Vec<_>>(),
        |out, (topic, id)| {
            out.bytes.put_slice(id.as_bytes());
            out.array(&topic.partitions, |out, partition| {
                out.bytes.put_i32(partition.partition_index);
                out.bytes.put_i16(partition.error_code);
            });
        },
    );
    out.finish(raw, response.error_codes())
}

/// Encodes the response to OffsetFetch 10; `ids` are those of the topics of each group, in their order.
///
/// # Errors
/// [`ProtocolError::Encoding`].
pub fn offset_fetch_reply(
    raw: &RawRequest,
    groups: &[(OffsetFetchResponseGroup, Vec<Uuid>)],
) -> Result<Reply, ProtocolError> {
    let mut out = Writer::new(raw);
    // Nobody is throttled.
    out.bytes.put_i32(0);
    out.array(groups, |out, (group, ids)| {
        out.string(&group.group_id);
        out.array(
            &group.topics.iter().zip(ids).collect::<Vec<_>>(),
            |out, (topic, id)| {
                out.bytes.put_slice(id.as_bytes());
                out.array(&topic.partitions, |out, partition| {
                    out.bytes.put_i32(partition.partition_index);
                    out.bytes.put_i64(partition.committed_offset);
                    out.bytes.put_i32(partition.committed_leader_epoch);
                    out.nullable_string(partition.metadata.as_deref());
                    out.bytes.put_i16(partition.error_code);
                });
            },
        );
        out.bytes.put_i16(group.error_code);
    });
    let all = groups.iter().map(|(group, _)| group.clone());
    let response = OffsetFetchResponse::default().with_groups(all.collect());
    out.finish(raw, response.error_codes())
}

/// Encodes the response to DescribeLogDirs 5. No folder is cordoned: this server does not know that.
///
/// # Errors
/// [`ProtocolError::Encoding`].
pub fn describe_log_dirs_reply(
    raw: &RawRequest,
    response: &DescribeLogDirsResponse,
) -> Result<Reply, ProtocolError> {
    let mut out = Writer::new(raw);
    out.bytes.put_i32(response.throttle_time_ms);
    out.bytes.put_i16(response.error_code);
    out.array(&response.results, |out, dir| {
        out.bytes.put_i16(dir.error_code);
        out.string(&dir.log_dir);
        out.array(&dir.topics, |out, topic| {
            out.string(&topic.name);
            out.array(&topic.partitions, |out, partition| {
                out.bytes.put_i32(partition.partition_index);
                out.bytes.put_i64(partition.partition_size);
                out.bytes.put_i64(partition.offset_lag);
                out.bytes.put_u8(partition.is_future_key.into());
            });
        });
        out.bytes.put_i64(dir.total_bytes);
        out.bytes.put_i64(dir.usable_bytes);
        out.bytes.put_u8(0);
    });
    out.finish(raw, response.error_codes())
}

/// Encodes the response to DeleteGroups 3. The error codes say it all: there are no messages.
///
/// # Errors
/// [`ProtocolError::Encoding`].
pub fn delete_groups_reply(
    raw: &RawRequest,
    response: &DeleteGroupsResponse,
) -> Result<Reply, ProtocolError> {
    let mut out = Writer::new(raw);
    out.bytes.put_i32(response.throttle_time_ms);
    out.array(&response.results, |out, result| {
        out.string(&result.group_id);
        out.bytes.put_i16(result.error_code);
        out.nullable_string(None);
    });
    out.finish(raw, response.error_codes())
}

/// Reads a whole body with its tagged fields.
pub(super) fn read<T>(
    raw: &RawRequest,
    fields: impl FnOnce(&mut Reader) -> Result<T, &'static str>,
) -> Result<T, ProtocolError> {
    let mut reader = Reader {
        rest: raw.body.clone(),
    };
    let whole = || {
        let value = fields(&mut reader)?;
        reader.tags()?;
        Ok(value)
    };
    whole().map_err(|reason: &str| raw.malformed(reason.to_owned()))
}

/// Takes fields of a flexible version off the front.
pub(super) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(super) fn take(&mut self, len: usize) -> Result<Bytes, &'static str> {
        if len > self.rest.len() {
            return Err("a field is longer than the request");
        }
        Ok(self.rest.split_to(len))
    }

    pub(super) fn varint(&mut self) -> Result<u32, &'static str> {
        let mut value: u64 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| "a length is too large");
            }
        }
        Err("a length has too many bytes")
    }

    pub(super) fn len(&mut self) -> Result<Option<usize>, &'static str> {
        Ok((self.varint()? as usize).checked_sub(1))
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<StrBytes>, &'static str> {
        match self.len()? {
            Some(len) => StrBytes::from_utf8(self.take(len)?)
                .map(Some)
                .map_err(|_| "a text is not UTF-8"),
            None => Ok(None),
        }
    }

    pub(super) fn string(&mut self) -> Result<StrBytes, &'static str> {
        self.nullable_string()?.ok_or("a text must not be null")
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, &'static str> {
        Ok(Uuid::from_u128(self.take(16)?.get_u128()))
    }

    pub(super) fn array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, &'static str>,
    ) -> Result<Option<Vec<T>>, &'static str> {
        let Some(count) = self.len()? else {
            return Ok(None);
        };
        if count > self.rest.len() {
            return Err("a count is larger than the request");
        }
        (0..count)
            .map(|_| element(self))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Passes over tagged fields: no version here has one.
    pub(super) fn tags(&mut self) -> Result<(), &'static str> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let len = self.varint()? as usize;
            self.take(len)?;
        }
        Ok(())
    }
}

/// Writes a response of a flexible version behind its length and header.
pub(super) struct Writer {
    pub(super) bytes: BytesMut,
}

impl Writer {
    pub(super) fn new(raw: &RawRequest) -> Self {
        let mut bytes = BytesMut::with_capacity(256);
        bytes.put_i32(0);
        bytes.put_i32(raw.correlation_id);
        bytes.put_u8(0);
        Self { bytes }
    }

    pub(super) fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(value as u8);
    }

    pub(super) fn string(&mut self, text: &str) {
        self.nullable_string(Some(text));
    }

    pub(super) fn nullable_string(&mut self, text: Option<&str>) {
        self.varint(text.map_or(0, |text| text.len() + 1));
        self.bytes.put_slice(text.unwrap_or_default().as_bytes());
    }

    /// A count and the structs, each with its empty list of tagged fields.
    pub(super) fn array<T>(&mut self, elements: &[T], mut element: impl FnMut(&mut Self, &T)) {
        self.varint(elements.len() + 1);
        for one in elements {
            element(self, one);
            self.bytes.put_u8(0);
        }
    }

    pub(super) fn finish(
        mut self,
        raw: &RawRequest,
        errors: Vec<i16>,
    ) -> Result<Reply, ProtocolError> {
        self.bytes.put_u8(0);
        let len = self.bytes.len() - 4;
        let prefix = i32::try_from(len).map_err(|_| ProtocolError::Encoding {
            api: raw.api,
            version: raw.version,
            reason: format!("{len} bytes are more than a frame can have"),
        })?;
        self.bytes[..4].copy_from_slice(&prefix.to_be_bytes());
        let mut reply = Reply::bytes(self.bytes.freeze());
        reply.errors = errors;
        Ok(reply)
    }
}
