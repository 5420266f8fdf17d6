//! Transactions in the server: what the common shell ([`crate::coordinator`]) has to know of them, and
//! what it does for them.
//!
//! - `markers` writes the ends of transactions into the partitions, which are all on this node;
//! - `partitions` finds out, for a produce or a commit of offsets, whether a partition is part of a
//!   transaction, and adds it where the client leaves that to the server (KIP-890).
//!
//! Invariants: a producer id is handed to a coordinator once. Work goes on outside of the coordinator's
//! lock, and what became of it is a step of its own.

mod markers;
mod partitions;

use std::sync::Arc;

use dlog_transactions::{
    Applied, TransactionConfig, TransactionCoordinator, TransactionCounts, TransactionError,
    TransactionVersion, Work,
};
use tokio::sync::Notify;

use crate::coordinator::{self, Coordinators, Kind, Stored};
use crate::partitions::Partition;
use crate::state::BrokerState;
use crate::topics::NewTopic;

pub(crate) use markers::end_marker;
pub use markers::through_groups;
pub(crate) use partitions::add_once;
pub use partitions::{Membership, join};

/// Name of the topic that transactions are kept in.
pub const STATE_TOPIC: &str = "__transaction_state";

/// Producer ids that a coordinator takes at once.
const PRODUCER_IDS: i64 = 20;

/// Coordinators of transactions.
pub struct TransactionKind;

/// The transactions of this node.
pub type Transactions = Coordinators<TransactionKind>;

/// The transactional ids of one partition of the topic.
pub type Shard = coordinator::Shard<TransactionKind>;

/// What is kept beside a coordinator.
#[derive(Default)]
pub struct Beside {
    /// Notified when transactions end, for those who wait to begin the next one.
    ended: Notify,
}

impl Kind for TransactionKind {
    type Machine = TransactionCoordinator;
    type Error = TransactionError;
    type Extra = Beside;

    const TOPIC: &'static str = STATE_TOPIC;
    const UNAVAILABLE: TransactionError = TransactionError::CoordinatorNotAvailable;

    fn new_topic(state: &BrokerState) -> NewTopic {
        let config = |name: &str, value: String| (name.to_owned(), value);
        let segment_bytes = state.number("transaction.state.log.segment.bytes", 104_857_600);
        NewTopic {
            name: STATE_TOPIC.to_owned(),
            partitions: state.number("transaction.state.log.num.partitions", 50),
            replication_factor: -1,
            assignments: Vec::new(),
            configs: vec![
                config("cleanup.policy", "compact".to_owned()),
                config("compression.type", "uncompressed".to_owned()),
                config("segment.bytes", segment_bytes.to_string()),
                config("unclean.leader.election.enable", "false".to_owned()),
            ],
        }
    }

    fn all_of(state: &BrokerState) -> &Transactions {
        &state.transactions
    }

    fn machine(state: &BrokerState, partition: &Partition) -> TransactionCoordinator {
        TransactionCoordinator::new(config(state), partition.leader_epoch())
    }

    fn apply(machine: &mut TransactionCoordinator, partition: &Partition, stored: Stored<'_>) {
        let Stored::Record {
            offset, key, value, ..
        } = stored
        else {
            return;
        };
        let partition = partition.index;
        match machine.apply_record(key, value) {
            Ok(Applied::Yes) => {}
            Ok(Applied::OtherKind) => {
                tracing::debug!(partition, offset, "a record of another kind is left alone");
            }
            Err(error) => {
                tracing::warn!(partition, offset, %error, "a record of the transaction log is skipped");
            }
        }
    }

    fn work(state: &Arc<BrokerState>, shard: &Arc<Shard>, work: Work) {
        match work {
            Work::WriteMarkers(markers) => {
                tokio::spawn(markers::write(state.clone(), shard.clone(), markers));
            }
            Work::NeedProducerIds => {
                let (state, shard) = (state.clone(), shard.clone());
                tokio::spawn(async move { give_producer_ids(&state, &shard).await });
            }
            Work::Ended { transactional_id } => {
                tracing::debug!(%transactional_id, "a transaction has ended");
                shard.extra.ended.notify_waiters();
            }
        }
    }
}

/// The settings of transactions, as the server was given them.
fn config(state: &BrokerState) -> TransactionConfig {
    let defaults = TransactionConfig::default();
    TransactionConfig {
        max_timeout_ms: state.number("transaction.max.timeout.ms", defaults.max_timeout_ms),
        id_expiration_ms: state.number("transactional.id.expiration.ms", defaults.id_expiration_ms),
        id_expiration_check_interval_ms: state.number(
            "transaction.remove.expired.transaction.cleanup.interval.ms",
            defaults.id_expiration_check_interval_ms,
        ),
        transaction_version: TransactionVersion::V2,
        ..defaults
    }
}

/// Whether batches of transactions whose client adds the partitions are verified.
pub fn verification_is_on(state: &BrokerState) -> bool {
    state.number("transaction.partition.verification.enable", true)
}

/// Makes sure that the next producer of this shard finds a producer id.
pub async fn prepare_producer_ids(state: &Arc<BrokerState>, shard: &Arc<Shard>) {
    if shard.read(TransactionCoordinator::producer_ids_left) == 0 {
        give_producer_ids(state, shard).await;
    }
}

/// Hands out producer ids to a shard. When none can be had the next request that needs one asks again.
async fn give_producer_ids(state: &Arc<BrokerState>, shard: &Arc<Shard>) {
    let allocating = state.clone();
    let allocated = tokio::task::spawn_blocking(move || {
        let (ids, metadata) = (&allocating.producer_ids, &allocating.metadata);
        ids.take(PRODUCER_IDS, metadata)
    });
    let range = match allocated.await {
        Ok(Ok(range)) => range,
        Ok(Err(error)) => {
            tracing::error!(%error, "no producer ids for transactions could be allocated");
            return;
        }
        // The server stops.
        Err(_) => return,
    };
    shard.step(state, |machine, _, _| machine.add_producer_ids(range));
}

/// How many transactions there are and were on this node.
pub fn counts(state: &BrokerState) -> TransactionCounts {
    let mut sum = TransactionCounts::default();
    for shard in state.transactions.all_loaded() {
        let counts = shard.read(TransactionCoordinator::counts);
        sum.open += counts.open;
        sum.committed += counts.committed;
        sum.aborted += counts.aborted;
    }
    sum
}
