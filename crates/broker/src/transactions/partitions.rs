//! Whether partitions are part of a producer's transaction (KIP-890).
//!
//! A batch that is appended after its transaction has ended would hang: nobody would ever end it again. So
//! before the first batch of a transaction in a partition the coordinator is asked. Clients of version 2
//! leave it to the server to add the partition; of older ones it is only verified. Whoever asks holds a
//! guard of the log ([`dlog_storage::VerificationGuard`]), which the end of a transaction takes away: between
//! the answer and the append nothing can go wrong.

use std::sync::Arc;
use std::time::Duration;

use dlog_transactions::{
    AddPartitions, Producer, Reply, TopicPartition, TransactionError, TransactionVersion,
};
use kafka_protocol::ResponseError;
use tokio::time::Instant;

use super::Shard;
use crate::state::BrokerState;

/// What the version of a request says about its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// The client adds partitions itself, and knows no TRANSACTION_ABORTABLE.
    Verify,
    /// The client adds partitions itself, and knows TRANSACTION_ABORTABLE.
    VerifyAbortable,
    /// The server adds partitions: version 2 of the transaction protocol.
    Add,
}

impl Membership {
    /// What a request of this version means, if `abortable` and `adds` are the first versions of their
    /// kind.
    pub fn of(version: i16, abortable: i16, adds: i16) -> Self {
        if version >= adds {
            Self::Add
        } else if version >= abortable {
            Self::VerifyAbortable
        } else {
            Self::Verify
        }
    }
}

/// The result for each partition, in the order of `partitions`.
pub async fn join(
    state: &Arc<BrokerState>,
    transactional_id: &str,
    producer: Producer,
    partitions: Vec<TopicPartition>,
    membership: Membership,
) -> Vec<Result<(), ResponseError>> {
    let count = partitions.len();
    let shard = match state.transactions.shard(state, transactional_id).await {
        Ok(shard) => shard,
        Err(error) => return vec![Err(told(error, membership)); count],
    };
    let request = AddPartitions {
        transactional_id: transactional_id.to_owned(),
        producer,
        client_version: TransactionVersion::V2,
        partitions,
    };
    if membership == Membership::Add {
        let added = add(state, &shard, request).await;
        return vec![added.map_err(|error| told(error, membership)); count];
    }
    let verified = shard.read(|machine| machine.verify_partitions(&request));
    let results = verified.into_iter();
    results
        .map(|(_, result)| result.map_err(|error| told(error, membership)))
        .collect()
}

/// Adds partitions; while the end of the last transaction is written, for a while again and again: its
/// client has been told already that it ended.
async fn add(
    state: &Arc<BrokerState>,
    shard: &Arc<Shard>,
    request: AddPartitions,
) -> Result<(), TransactionError> {
    let ms = |name, default: u64| Duration::from_millis(state.number(name, default));
    let patience = ms("add.partitions.to.txn.retry.backoff.max.ms", 100);
    let pause = ms("add.partitions.to.txn.retry.backoff.ms", 20);
    let deadline = Instant::now() + patience;
    loop {
        let ended = shard.extra.ended.notified();
        tokio::pin!(ended);
        // From here on an end is not missed.
        ended.as_mut().enable();
        let added = add_once(state, shard, request.clone()).await;
        if added != Err(TransactionError::ConcurrentTransactions) || Instant::now() >= deadline {
            return added;
        }
        // Whether an end came, or the pause is over, is all the same.
        let _ = tokio::time::timeout(pause, ended).await;
    }
}

/// Adds partitions to a transaction.
///
/// # Errors
/// As the coordinator says.
pub(crate) async fn add_once(
    state: &Arc<BrokerState>,
    shard: &Arc<Shard>,
    request: AddPartitions,
) -> Result<(), TransactionError> {
    let asked = shard.ask(state, |machine, now_ms, token, effects| {
        machine.add_partitions(now_ms, request, token, effects);
    });
    match asked.await? {
        Reply::AddPartitions(result) => result,
        _ => Err(TransactionError::UnknownServerError),
    }
}

/// The coordinator's error as Kafka hands it on to the one who asked.
fn told(error: TransactionError, membership: Membership) -> ResponseError {
    match error {
        TransactionError::ProducerFenced => ResponseError::InvalidProducerEpoch,
        TransactionError::TransactionAbortable if membership == Membership::Verify => {
            ResponseError::InvalidTxnState
        }
        error => {
            ResponseError::try_from_code(error.code()).unwrap_or(ResponseError::UnknownServerError)
        }
    }
}
