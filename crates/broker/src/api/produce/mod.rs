//! Produce (key 0): checks each batch, appends it at once, answers when it is acknowledged.
//!
//! The appends of a request happen when it is its turn; what waits is the reply. Only the first batch of a
//! transaction in a partition waits for its coordinator before that (see `transaction`). So the requests that
//! a client has in flight are appended one after the other and share a flush.

mod check;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use dlog_storage::record::TimestampType;
use dlog_storage::{Acknowledged, AppendMode, StorageError};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::Context;
use crate::error::storage_error_code;
use crate::guard::Refused;
use crate::net::reply::{Outcome, Reply};
use crate::partitions::{HostedTopic, Partition};
use crate::protocol::{ProtocolError, RawRequest, encode_reply};
use check::Refusal;
use transaction::{Admission, Admitted};

pub use transaction::is_transactional;

/// Versions from this one on name topics by id.
const TOPIC_IDS: i16 = 13;

/// An append whose acknowledgement is waited for, and where its result is in the response.
struct Wait {
    topic: usize,
    partition: usize,
    acknowledged: Acknowledged,
}

/// Answers Produce for a request with batches of a transaction.
///
/// # Errors
/// As [`handle`].
pub async fn handle_transactional(
    ctx: &Context,
    raw: &RawRequest,
    request: ProduceRequest,
) -> Result<Outcome, ProtocolError> {
    let refusal = refuse_all(&request).or_else(|| transaction::refuse_all(&request));
    let admission = match refusal {
        None => transaction::admit(ctx, &request).await,
        Some(_) => Admission::default(),
    };
    append(ctx, raw, request, refusal.as_ref(), &admission)
}

/// Answers Produce for a request without batches of a transaction.
///
/// # Errors
/// [`ProtocolError`] when the answer cannot be encoded.
pub fn handle(
    ctx: &Context,
    raw: &RawRequest,
    request: ProduceRequest,
) -> Result<Outcome, ProtocolError> {
    let refusal = refuse_all(&request);
    append(ctx, raw, request, refusal.as_ref(), &Admission::default())
}

fn append(
    ctx: &Context,
    raw: &RawRequest,
    request: ProduceRequest,
    refusal: Option<&Refusal>,
    admission: &Admission,
) -> Result<Outcome, ProtocolError> {
    let acks = request.acks;
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let now_ms = ctx.state.now_ms();
    let mut waits = Vec::new();
    let mut throttle = Duration::ZERO;
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for (at, topic) in request.topic_data.into_iter().enumerate() {
        let mut appending = Appending {
            ctx,
            acks,
            now_ms,
            topic: at,
            admission,
            waits: &mut waits,
            throttle: &mut throttle,
        };
        responses.push(appending.topic(topic, refusal));
    }
    // The reply goes at once; what the client sends meanwhile waits (KIP-219).
    ctx.connection.mute(throttle);
    let failed = responses
        .iter()
        .flat_map(|t| &t.partition_responses)
        .any(|p| p.error_code != 0);
    if acks == 0 {
        return Ok(if failed {
            Outcome::Close
        } else {
            Outcome::Silent
        });
    }
    let throttle_ms = i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX);
    let mut response = ProduceResponse::default()
        .with_responses(responses)
        .with_throttle_time_ms(throttle_ms);
    let (version, correlation_id) = (raw.version, raw.correlation_id);
    if waits.is_empty() {
        return reply(version, correlation_id, &response).map(Outcome::Ready);
    }
    Ok(Outcome::Pending(Box::pin(async move {
        let all = acknowledge(&mut response, waits);
        if tokio::time::timeout(timeout, all).await.is_err() {
            time_out(&mut response);
        }
        reply(version, correlation_id, &response).unwrap_or_else(|error| {
            tracing::error!(%error, "a produce response was lost");
            Reply::default()
        })
    })))
}

/// Decompressing and compressing take long: the other tasks of this worker move to another one. The
/// order of a connection's appends is kept, since its task waits here.
fn without_holding_up_others<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// A reason to refuse every batch of the request.
fn refuse_all(request: &ProduceRequest) -> Option<Refusal> {
    (!matches!(request.acks, -1..=1)).then(|| {
        Refusal::new(
            ResponseError::InvalidRequiredAcks,
            "acks must be -1, 0 or 1",
        )
    })
}

fn reply(
    version: i16,
    correlation_id: i32,
    response: &ProduceResponse,
) -> Result<Reply, ProtocolError> {
    let mut reply = encode_reply(ApiKey::Produce, version, correlation_id, response)?;
    let partitions = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    reply
        .errors
        .extend(partitions.map(|p| p.error_code).filter(|&code| code != 0));
    Ok(reply)
}

async fn acknowledge(response: &mut ProduceResponse, waits: Vec<Wait>) {
    for wait in waits {
        let result = wait.acknowledged.await;
        let slot = &mut response.responses[wait.topic].partition_responses[wait.partition];
        // Marks the slot as settled, should the others not be in time.
        slot.error_code = 0;
        if let Err(error) = result {
            tracing::error!(%error, "an append was not acknowledged");
            fail(
                slot,
                &Refusal::new(storage_error_code(&error), error.to_string()),
            );
        }
    }
}

/// Appends that were not acknowledged in time were marked so from the start.
fn time_out(response: &mut ProduceResponse) {
    for slot in response
        .responses
        .iter_mut()
        .flat_map(|topic| &mut topic.partition_responses)
    {
        if slot.error_code == ResponseError::RequestTimedOut.code() {
            slot.base_offset = -1;
            slot.log_append_time_ms = -1;
        }
    }
}

/// What a producer is told that finds no room on the disk: it tries again, and loses nothing.
fn disk_full(refused: Refused) -> Refusal {
    let Refused {
        free_bytes,
        reserve_bytes,
    } = refused;
    Refusal::new(
        ResponseError::KafkaStorageError,
        format!(
            "the disk is full: {free_bytes} bytes are free and {reserve_bytes} are kept; records are taken again when there is room"
        ),
    )
}

fn fail(slot: &mut PartitionProduceResponse, refusal: &Refusal) {
    slot.error_code = refusal.code.code();
    slot.base_offset = -1;
    slot.log_append_time_ms = -1;
    slot.error_message = Some(StrBytes::from_string(refusal.message.clone()));
    slot.record_errors = refusal
        .records
        .iter()
        .map(|(index, message)| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(*index)
                .with_batch_index_error_message(Some(StrBytes::from_string(message.clone())))
        })
        .collect();
}

/// The appends of one topic of a request.
struct Appending<'a> {
    ctx: &'a Context,
    acks: i16,
    now_ms: i64,
    topic: usize,
    admission: &'a Admission,
    waits: &'a mut Vec<Wait>,
    /// How long the client has to wait with its next request.
    throttle: &'a mut Duration,
}

impl Appending<'_> {
    fn topic(&mut self, data: TopicProduceData, refusal: Option<&Refusal>) -> TopicProduceResponse {
        let by_id = self.ctx.version >= TOPIC_IDS;
        let hosted = if by_id {
            self.ctx.state.partitions.topic_by_id(data.topic_id)
        } else {
            self.ctx.state.partitions.topic(&data.name)
        };
        let mut slots = Vec::with_capacity(data.partition_data.len());
        for (at, partition) in data.partition_data.into_iter().enumerate() {
            let index = partition.index;
            let appended = match (&hosted, refusal) {
                (_, Some(refusal)) => Err(refusal.clone()),
                (None, None) if by_id => Err(ResponseError::UnknownTopicId.into()),
                (None, None) => Err(ResponseError::UnknownTopicOrPartition.into()),
                (Some(topic), None) => self.partition(topic, at, partition),
            };
            slots.push(appended.unwrap_or_else(|refusal| {
                tracing::debug!(connection = self.ctx.connection.id, topic = %data.name.0, partition = index, code = ?refusal.code, message = refusal.message, "batch refused");
                let mut slot = PartitionProduceResponse::default().with_index(index).with_log_start_offset(-1);
                fail(&mut slot, &refusal);
                slot
            }));
        }
        // A copy: the name in the request is a slice of the whole receive buffer, which must not live
        // until the flush.
        let name = TopicName(StrBytes::from_string(data.name.to_string()));
        TopicProduceResponse::default()
            .with_name(name)
            .with_topic_id(data.topic_id)
            .with_partition_responses(slots)
    }

    fn partition(
        &mut self,
        topic: &HostedTopic,
        at: usize,
        data: PartitionProduceData,
    ) -> Result<PartitionProduceResponse, Refusal> {
        let partition = topic
            .partition(data.index)
            .ok_or(ResponseError::UnknownTopicOrPartition)?;
        let admitted = self.admission.of((self.topic, at));
        if let Some(Err(refusal)) = admitted {
            return Err(refusal.clone());
        }
        let settings = topic.settings.load();
        // No look at min.insync.replicas: as in Kafka a topic asks for no more replicas than it has, and
        // this node is the only one.
        let checking = || check::check(data.records, self.ctx.version, &settings, self.now_ms);
        let batch = if check::looks_inside(&settings) {
            without_holding_up_others(checking)
        } else {
            checking()
        }?;
        let (bytes, records) = (batch.bytes.len(), batch.records);
        let wait = self.ctx.state.guard.admit(&self.ctx.state, bytes);
        *self.throttle = wait.map_err(disk_full)?.max(*self.throttle);
        let appended = self.append(partition, batch.bytes, settings.timestamp_type, admitted)?;
        self.ctx.state.compaction.client_served();
        topic.metrics.bytes_in.inc_by(bytes as u64);
        topic.metrics.messages_in.inc_by(records);
        let mut slot = PartitionProduceResponse::default()
            .with_index(data.index)
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.log_append_time_ms.unwrap_or(-1))
            .with_log_start_offset(appended.log_start_offset);
        if self.acks != 0 {
            let acknowledged = partition.log()?.acknowledged(appended.last_offset);
            if !acknowledged.is_ready() {
                // Stands until the acknowledgement takes it away.
                slot.error_code = ResponseError::RequestTimedOut.code();
                self.waits.push(Wait {
                    topic: self.topic,
                    partition: at,
                    acknowledged,
                });
            }
        }
        Ok(slot)
    }

    fn append(
        &self,
        partition: &Arc<Partition>,
        bytes: bytes::Bytes,
        timestamp_type: TimestampType,
        admitted: Option<&Admitted>,
    ) -> Result<dlog_storage::Appended, Refusal> {
        let mode = AppendMode::Leader {
            leader_epoch: partition.leader_epoch(),
            log_append_time: (timestamp_type == TimestampType::LogAppendTime)
                .then_some(self.now_ms),
        };
        let log = partition.log()?;
        let appended = match admitted {
            Some(Ok(guard)) => log.append_verified(bytes, mode, *guard),
            _ => log.append_batches(bytes, mode),
        };
        appended.map_err(|error| {
            if matches!(error, StorageError::Io { .. } | StorageError::Offline { .. } | StorageError::Damaged { .. }) {
                tracing::error!(topic = %partition.topic, partition = partition.index, %error, "append failed");
            }
            Refusal::new(storage_error_code(&error), error.to_string())
        })
    }
}
