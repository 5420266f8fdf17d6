//! Batches of transactions: before one is appended, its partition has to be part of the transaction
//! (KIP-890).
//!
//! Where the log knows the transaction as open nobody is asked: only the first batch of a transaction in a
//! partition takes a round trip to the coordinator. The connection waits for it, so that batches stay in
//! order.

use std::collections::HashMap;

use bytes::{Buf, Bytes};
use dlog_storage::VerificationGuard;
use dlog_transactions::{Producer, TopicPartition};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::TopicProduceData;

use super::{Refusal, TOPIC_IDS};
use crate::api::Context;
use crate::partitions::Partition;
use crate::transactions::{self, Membership};

/// Clients know TRANSACTION_ABORTABLE from this version on (KIP-890).
const ABORTABLE: i16 = 11;
/// The server adds partitions from this version on (KIP-890).
const ADDS: i16 = 12;

/// Where the fields of a batch are.
const MAGIC_AT: usize = 16;
const ATTRIBUTES_AT: usize = 21;
const PRODUCER_AT: usize = 43;
/// A bit of the attributes.
const TRANSACTIONAL: u16 = 1 << 4;

/// A partition in a request: the places of its topic and of itself.
type Place = (usize, usize);

/// What is known of a partition before its batch is appended: what the log wants to see, if it wants
/// anything, or why the batch is refused.
pub(super) type Admitted = Result<Option<VerificationGuard>, Refusal>;

/// The batches of a request that are part of a transaction.
#[derive(Default)]
pub(super) struct Admission {
    partitions: HashMap<Place, Admitted>,
}

impl Admission {
    /// `None` for a batch that is not part of a transaction.
    pub(super) fn of(&self, place: Place) -> Option<&Admitted> {
        self.partitions.get(&place)
    }
}

/// Who sent a batch of a transaction.
#[derive(Clone, Copy)]
struct Sender {
    producer: Producer,
    first_sequence: i32,
}

/// The sender of a batch that is part of a transaction. Bytes that are no batch are for others to refuse.
fn sender(records: Option<&Bytes>) -> Option<Sender> {
    let records = records?;
    let mut attributes = records.get(ATTRIBUTES_AT..)?;
    let mut producer = records.get(PRODUCER_AT..PRODUCER_AT + 14)?;
    let is_batch = records[MAGIC_AT] == 2;
    (is_batch && attributes.get_u16() & TRANSACTIONAL != 0).then(|| Sender {
        producer: Producer {
            id: producer.get_i64(),
            epoch: producer.get_i16(),
        },
        first_sequence: producer.get_i32(),
    })
}

/// Whether a request has to wait for a coordinator, or at least to be looked at more closely.
pub fn is_transactional(request: &ProduceRequest) -> bool {
    let partitions = request.topic_data.iter().flat_map(|t| &t.partition_data);
    request.transactional_id.is_some()
        || partitions
            .into_iter()
            .any(|partition| sender(partition.records.as_ref()).is_some())
}

/// A reason to refuse every batch of the request.
pub(super) fn refuse_all(request: &ProduceRequest) -> Option<Refusal> {
    let mut senders = request
        .topic_data
        .iter()
        .flat_map(|topic| &topic.partition_data)
        .filter_map(|partition| sender(partition.records.as_ref()));
    let first = senders.next()?;
    if request.transactional_id.is_none() {
        return Some(ResponseError::TransactionalIdAuthorizationFailed.into());
    }
    senders
        .any(|other| other.producer != first.producer)
        .then(|| {
            Refusal::new(
                ResponseError::InvalidProducerIdMapping,
                "Transactional records contained more than one producer ID",
            )
        })
}

/// Finds out for each batch whether its partition is part of the transaction.
pub(super) async fn admit(ctx: &Context, request: &ProduceRequest) -> Admission {
    let mut admission = Admission::default();
    let Some(transactional_id) = request.transactional_id.as_ref() else {
        return admission;
    };
    let membership = Membership::of(ctx.version, ABORTABLE, ADDS);
    let adds = membership == Membership::Add;
    if !adds && !transactions::verification_is_on(&ctx.state) {
        return admission;
    }
    let (mut asked, mut producer) = (Vec::new(), Producer::NONE);
    for (at, topic) in request.topic_data.iter().enumerate() {
        for (index, partition) in topic.partition_data.iter().enumerate() {
            let Some(sender) = sender(partition.records.as_ref()) else {
                continue;
            };
            let place = (at, index);
            // What is not here is refused where it would be appended.
            let hosted = hosted(ctx, topic, partition.index);
            let Some(log) = hosted.as_ref().and_then(|hosted| hosted.log().ok()) else {
                continue;
            };
            producer = sender.producer;
            let (id, epoch) = (producer.id, producer.epoch);
            let guard = log.begin_verification(id, epoch, sender.first_sequence, adds);
            admission.partitions.insert(place, Ok(guard));
            if guard.is_some()
                && let Some(hosted) = hosted
            {
                asked.push((place, hosted));
            }
        }
    }
    if asked.is_empty() {
        return admission;
    }
    let partitions = asked
        .iter()
        .map(|(_, hosted)| TopicPartition::new(&hosted.topic, hosted.index));
    let (id, partitions) = (transactional_id.as_str(), partitions.collect());
    let joined = transactions::join(&ctx.state, id, producer, partitions, membership).await;
    for ((place, _), result) in asked.into_iter().zip(joined) {
        if let Err(error) = result {
            let refusal = refusal(error, membership);
            admission.partitions.insert(place, Err(refusal));
        }
    }
    admission
}

fn hosted(
    ctx: &Context,
    topic: &TopicProduceData,
    index: i32,
) -> Option<std::sync::Arc<Partition>> {
    let partitions = &ctx.state.partitions;
    let found = if ctx.version >= TOPIC_IDS {
        partitions.topic_by_id(topic.topic_id)
    } else {
        partitions.topic(&topic.name)
    };
    found?.partition(index).cloned()
}

/// What a producer is told: errors that old ones would not retry become one that they do.
fn refusal(error: ResponseError, membership: Membership) -> Refusal {
    let is_retried = match error {
        ResponseError::InvalidTxnState => {
            return Refusal::new(error, "Partition was not added to the transaction");
        }
        ResponseError::CoordinatorLoadInProgress
        | ResponseError::CoordinatorNotAvailable
        | ResponseError::NotCoordinator => true,
        ResponseError::ConcurrentTransactions => membership != Membership::Add,
        _ => false,
    };
    if is_retried {
        let message = format!(
            "Unable to verify the partition has been added to the transaction. Underlying error: {error}"
        );
        return Refusal::new(ResponseError::NotEnoughReplicas, message);
    }
    error.into()
}
