//! One batch on its way: attempts, retries, and what became of its records.
//!
//! Invariants: a batch is sent again under its own sequence number, so the broker writes it once; it is
//! sent under another only when the broker surely has not written it. A batch of which that is not
//! known when it is given up fails as [`ClientError::Uncertain`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dlog_storage::record::{Batch, BatchBuilder, Compression, Record, add_to_sequence};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Delivered, identify};
use crate::cluster::Client;
use crate::error::{ClientError, Result};

/// New identities that one batch may ask for: a broker that knows none of them is broken.
const MAX_IDENTITIES: u32 = 3;

/// Who a partition's broker thinks we are, and the sequence number of the next record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
    pub(super) sequence: i32,
}

impl Identity {
    fn advance(&mut self, records: usize) {
        // Sequence numbers go from the largest to 0.
        let records = i32::try_from(records).unwrap_or(i32::MAX);
        self.sequence = add_to_sequence(self.sequence, records);
    }
}

/// What became of a batch.
pub(super) struct Outcome {
    pub(super) partition: i32,
    /// Bytes of memory that it took.
    pub(super) buffered: usize,
    pub(super) delivered: Vec<Delivered>,
    /// Records that were given up, and why.
    pub(super) failed: Option<(usize, ClientError)>,
    /// What the next batch of the partition begins with; `None`: a new identity.
    pub(super) identity: Option<Identity>,
}

/// Part of a batch: all of it, or a half when it was too large.
struct Piece {
    batch: Bytes,
    records: usize,
}

/// How batches of a partition are sent.
pub(super) struct Sending {
    pub(super) client: Client,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) acks: i16,
    pub(super) compression: (Compression, Option<i32>),
    pub(super) identity: Option<Identity>,
    pub(super) idempotent: bool,
    pub(super) until: Instant,
}

impl Sending {
    /// Sends a batch until it is acknowledged, refused for good, or time is up.
    pub(super) async fn deliver(
        mut self,
        batch: Bytes,
        records: usize,
        buffered: usize,
    ) -> Outcome {
        let mut delivered = Vec::new();
        let mut pieces = VecDeque::from([Piece { batch, records }]);
        let mut failure = None;
        while let Some(piece) = pieces.pop_front() {
            match self.deliver_piece(&piece).await {
                Ok(base_offset) => {
                    if let Some(identity) = &mut self.identity {
                        identity.advance(piece.records);
                    }
                    delivered.push(Delivered {
                        partition: self.partition,
                        base_offset,
                        records: piece.records,
                    });
                }
                // Nothing of it was written: it may fit in halves, as Java's client does it.
                Err(error) if is_too_large(&error) && piece.records > 1 => {
                    match self.halves(&piece) {
                        Ok(halves) => halves
                            .into_iter()
                            .rev()
                            .for_each(|half| pieces.push_front(half)),
                        Err(error) => {
                            failure = Some((piece.records, error));
                            break;
                        }
                    }
                }
                Err(error) => {
                    failure = Some((piece.records, error));
                    break;
                }
            }
        }
        let failed = failure.map(|(records, error)| {
            // The next batch must not take the place of this one.
            self.identity = None;
            let rest: usize = pieces.iter().map(|piece| piece.records).sum();
            (records + rest, error)
        });
        Outcome {
            partition: self.partition,
            buffered,
            delivered,
            failed,
            identity: self.identity,
        }
    }

    async fn deliver_piece(&mut self, piece: &Piece) -> Result<i64> {
        let mut batch = piece.batch.clone();
        let mut pause = Duration::from_millis(20);
        let mut identities = 0;
        // Whether an attempt may have written the batch although no answer says so.
        let mut uncertain = false;
        if self.idempotent && self.identity.is_none() {
            batch = self.identify_anew(&batch).await?;
        }
        loop {
            let error = match self.attempt(&batch).await {
                Ok(offset) => return Ok(offset),
                Err(error) => error,
            };
            match error.response_error() {
                // An earlier attempt was written, so long ago that its offset is forgotten.
                Some(ResponseError::DuplicateSequenceNumber) if self.idempotent => return Ok(-1),
                _ if lost_identity(&error) && self.idempotent && !uncertain => {
                    identities += 1;
                    if identities > MAX_IDENTITIES {
                        return Err(error);
                    }
                    tracing::warn!(topic = %self.topic, partition = self.partition, %error, "the broker forgot this producer; going on under a new id");
                    batch = self.identify_anew(&batch).await?;
                    continue;
                }
                _ => {}
            }
            uncertain |= may_have_written(&error);
            if !error.is_retriable() || Instant::now() + pause >= self.until {
                return Err(if uncertain {
                    ClientError::Uncertain {
                        what: format!("produce to {}-{}", self.topic, self.partition),
                        source: Box::new(error),
                    }
                } else {
                    error
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
            // The leader may have moved; if nobody answers, the next attempt says so.
            let _ = self.client.refresh(&self.topic, false).await;
        }
    }

    /// The batch under a new identity, from sequence number 0 on.
    async fn identify_anew(&mut self, batch: &Bytes) -> Result<Bytes> {
        let identity = identify(&self.client, self.until).await?;
        self.identity = Some(identity);
        self.build(&records_of(batch)?, Some(identity))
    }

    fn halves(&self, piece: &Piece) -> Result<[Piece; 2]> {
        let records = records_of(&piece.batch)?;
        let (first, second) = records.split_at(records.len() / 2);
        let mut identity = self.identity;
        let batch = self.build(first, identity)?;
        if let Some(identity) = &mut identity {
            identity.advance(first.len());
        }
        let rest = self.build(second, identity)?;
        let piece = |batch, records: &[Record]| Piece {
            batch,
            records: records.len(),
        };
        Ok([piece(batch, first), piece(rest, second)])
    }

    fn build(&self, records: &[Record], identity: Option<Identity>) -> Result<Bytes> {
        let mut builder = BatchBuilder::new().compression(self.compression.0, self.compression.1);
        if let Some(identity) = identity {
            builder = builder.producer(identity.id, identity.epoch, identity.sequence);
        }
        for record in records {
            builder
                .push(
                    record.timestamp_ms,
                    record.key.as_deref(),
                    record.value.as_deref(),
                    &record.headers,
                )
                .map_err(unusable)?;
        }
        builder.build().map_err(unusable)
    }

    async fn attempt(&self, batch: &Bytes) -> Result<i64> {
        let connection = self.client.leader(&self.topic, self.partition).await?;
        // The broker gives up before we do, so that its answer still comes.
        let timeout = self.client.timeout().mul_f64(0.9);
        let partition = PartitionProduceData::default()
            .with_index(self.partition)
            .with_records(Some(batch.clone()));
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_string(self.topic.clone())))
            .with_partition_data(vec![partition]);
        let request = ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(self.acks)
            .with_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
            .with_topic_data(vec![topic]);
        // Names identify topics up to version 12.
        let prepared = connection.prepare(&request, 12)?;
        if self.acks == 0 {
            connection.tell_prepared(&prepared).await?;
            return Ok(-1);
        }
        let answer = connection.call_prepared(&prepared).await?;
        let what = || format!("produce to {}-{}", self.topic, self.partition);
        let slot = answer
            .responses
            .first()
            .and_then(|topic| topic.partition_responses.first())
            .filter(|slot| slot.index == self.partition)
            .ok_or_else(|| ClientError::Incomplete { what: what() })?;
        ClientError::check(slot.error_code, what, slot.error_message.as_deref())?;
        Ok(slot.base_offset)
    }
}

fn records_of(batch: &Bytes) -> Result<Vec<Record>> {
    let batch = Batch::from_bytes(batch.clone()).map_err(unusable)?;
    let records = batch.records().map_err(unusable)?;
    records.collect::<Result<_, _>>().map_err(unusable)
}

fn unusable(error: impl std::fmt::Display) -> ClientError {
    ClientError::Usage(error.to_string())
}

/// Whether it was refused for its size, and no earlier attempt may have been written.
fn is_too_large(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { .. })
        && matches!(
            error.response_error(),
            Some(ResponseError::MessageTooLarge | ResponseError::RecordListTooLarge)
        )
}

/// Whether the broker does not know our sequence numbers.
fn lost_identity(error: &ClientError) -> bool {
    matches!(
        error.response_error(),
        Some(
            ResponseError::UnknownProducerId
                | ResponseError::OutOfOrderSequenceNumber
                | ResponseError::InvalidProducerEpoch
                | ResponseError::InvalidProducerIdMapping
        )
    )
}

/// Whether an attempt that ended so may have written the batch.
fn may_have_written(error: &ClientError) -> bool {
    match error {
        // No connection: nothing was sent.
        ClientError::Unreachable { .. } | ClientError::Unsupported { .. } => false,
        ClientError::Disconnected { .. }
        | ClientError::Timeout { .. }
        | ClientError::Malformed { .. }
        | ClientError::Incomplete { .. } => true,
        // After these a batch may be in the log.
        _ => matches!(
            error.response_error(),
            Some(
                ResponseError::RequestTimedOut
                    | ResponseError::NotEnoughReplicasAfterAppend
                    | ResponseError::KafkaStorageError
                    | ResponseError::UnknownServerError
            )
        ),
    }
}
