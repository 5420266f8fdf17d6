//! One file per API. A handler is `async fn handle(ctx: &Context, request: XRequest) -> XResponse`:
//! errors go into the response, nothing blocks (see [`Context::blocking`]).

pub mod acls;
pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod api_versions;
pub mod authorized;
pub mod client_quotas;
mod configs;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod describe_transactions;
pub mod elect_leaders;
pub mod end_txn;
pub mod fetch;
pub mod find_coordinator;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod list_config_resources;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod list_transactions;
pub mod metadata;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod scram_credentials;
pub mod txn_offset_commit;
pub mod unregister_broker;
pub mod update_features;
pub mod write_txn_markers;

pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod delete_groups;
pub mod describe_groups;
pub mod heartbeat;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
mod offsets_of_groups;
pub mod share_acknowledge;
pub mod share_fetch;
pub mod share_group;
pub mod share_group_state;
pub mod sync_group;

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use crate::net::ConnectionInfo;
use crate::net::reply::Outcome;
use crate::protocol::{ProtocolError, RawRequest};
use crate::state::BrokerState;

/// Text for a response.
fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// The elements of a request in their order, each name once, and whether it was there more often.
fn named_once<'a, T, N: Eq + std::hash::Hash + Clone + 'a>(
    elements: &'a [T],
    name: impl Fn(&T) -> N + 'a,
) -> impl Iterator<Item = (&'a T, bool)> {
    let mut counts: HashMap<N, usize> = HashMap::with_capacity(elements.len());
    for element in elements {
        *counts.entry(name(element)).or_default() += 1;
    }
    // A name is taken out with its first element.
    elements.iter().filter_map(move |element| {
        let count = counts.remove(&name(element))?;
        Some((element, count > 1))
    })
}

/// What a handler knows besides its request.
#[derive(Clone)]
pub struct Context {
    /// The server.
    pub state: Arc<BrokerState>,
    /// The connection that the request came on.
    pub connection: Arc<ConnectionInfo>,
    /// Version of the request.
    pub version: i16,
    /// Who the client says it is.
    pub client_id: Option<StrBytes>,
}

impl Context {
    /// Runs something that may wait for a disk, off the tokio workers.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&BrokerState) -> T + Send + 'static,
    ) -> T {
        let state = self.state.clone();
        match tokio::task::spawn_blocking(move || work(&state)).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only a runtime that is shutting down drops blocking work; nobody reads this answer.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

/// Decodes, handles and encodes. The handler's future is boxed so that the task of an idle connection
/// stays small.
macro_rules! answer {
    ($ctx:expr, $raw:expr, $handle:path) => {{
        let request = $raw.decode()?;
        let response = Box::pin($handle($ctx, request)).await;
        Ok(Outcome::Ready($raw.reply(&response)?))
    }};
}

/// Answers one request. The outcome of everything but Produce and Heartbeat is ready when this returns.
///
/// # Errors
/// When the connection must be closed because the peer breaks the protocol.
pub async fn dispatch(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    match raw.api {
        ApiKey::Produce => {
            let request = raw.decode()?;
            if produce::is_transactional(&request) {
                Box::pin(produce::handle_transactional(ctx, raw, request)).await
            } else {
                produce::handle(ctx, raw, request)
            }
        }
        ApiKey::Fetch => Box::pin(fetch::handle(ctx, raw)).await,
        ApiKey::ListOffsets => answer!(ctx, raw, list_offsets::handle),
        ApiKey::FindCoordinator => answer!(ctx, raw, find_coordinator::handle),
        ApiKey::InitProducerId => answer!(ctx, raw, init_producer_id::handle),
        ApiKey::AddPartitionsToTxn => answer!(ctx, raw, add_partitions_to_txn::handle),
        ApiKey::AddOffsetsToTxn => answer!(ctx, raw, add_offsets_to_txn::handle),
        ApiKey::EndTxn => answer!(ctx, raw, end_txn::handle),
        ApiKey::TxnOffsetCommit => Box::pin(txn_offset_commit::handle(ctx, raw)).await,
        ApiKey::DescribeTransactions => answer!(ctx, raw, describe_transactions::handle),
        ApiKey::ListTransactions => answer!(ctx, raw, list_transactions::handle),
        ApiKey::OffsetForLeaderEpoch => answer!(ctx, raw, offset_for_leader_epoch::handle),
        ApiKey::DescribeCluster => answer!(ctx, raw, describe_cluster::handle),
        ApiKey::ApiVersions => Box::pin(api_versions::handle(ctx, raw)).await,
        ApiKey::Metadata => answer!(ctx, raw, metadata::handle),
        ApiKey::CreateTopics => answer!(ctx, raw, create_topics::handle),
        ApiKey::DeleteTopics => answer!(ctx, raw, delete_topics::handle),
        ApiKey::DeleteRecords => answer!(ctx, raw, delete_records::handle),
        ApiKey::DescribeConfigs => answer!(ctx, raw, describe_configs::handle),
        ApiKey::AlterConfigs => answer!(ctx, raw, alter_configs::handle),
        ApiKey::DescribeLogDirs => Box::pin(describe_log_dirs::handle(ctx, raw)).await,
        ApiKey::CreatePartitions => answer!(ctx, raw, create_partitions::handle),
        ApiKey::IncrementalAlterConfigs => answer!(ctx, raw, incremental_alter_configs::handle),
        ApiKey::ListPartitionReassignments => {
            answer!(ctx, raw, list_partition_reassignments::handle)
        }
        ApiKey::WriteTxnMarkers => Box::pin(write_txn_markers::handle(ctx, raw)).await,
        ApiKey::DescribeProducers => answer!(ctx, raw, describe_producers::handle),
        ApiKey::DescribeTopicPartitions => answer!(ctx, raw, describe_topic_partitions::handle),
        ApiKey::ListConfigResources => answer!(ctx, raw, list_config_resources::handle),
        ApiKey::DescribeAcls => answer!(ctx, raw, acls::describe),
        ApiKey::CreateAcls => answer!(ctx, raw, acls::create),
        ApiKey::DeleteAcls => answer!(ctx, raw, acls::delete),
        ApiKey::AlterReplicaLogDirs => answer!(ctx, raw, alter_replica_log_dirs::handle),
        ApiKey::ElectLeaders => answer!(ctx, raw, elect_leaders::handle),
        ApiKey::AlterPartitionReassignments => {
            answer!(ctx, raw, alter_partition_reassignments::handle)
        }
        ApiKey::DescribeClientQuotas => answer!(ctx, raw, client_quotas::describe),
        ApiKey::AlterClientQuotas => answer!(ctx, raw, client_quotas::alter),
        ApiKey::DescribeUserScramCredentials => answer!(ctx, raw, scram_credentials::describe),
        ApiKey::AlterUserScramCredentials => answer!(ctx, raw, scram_credentials::alter),
        ApiKey::DescribeQuorum => answer!(ctx, raw, describe_quorum::handle),
        ApiKey::UpdateFeatures => answer!(ctx, raw, update_features::handle),
        ApiKey::UnregisterBroker => answer!(ctx, raw, unregister_broker::handle),
        ApiKey::OffsetCommit => Box::pin(offset_commit::handle(ctx, raw)).await,
        ApiKey::OffsetFetch => Box::pin(offset_fetch::handle(ctx, raw)).await,
        ApiKey::JoinGroup => answer!(ctx, raw, join_group::handle),
        ApiKey::Heartbeat => Box::pin(heartbeat::handle(ctx, raw)).await,
        ApiKey::LeaveGroup => answer!(ctx, raw, leave_group::handle),
        ApiKey::SyncGroup => answer!(ctx, raw, sync_group::handle),
        ApiKey::DescribeGroups => answer!(ctx, raw, describe_groups::handle),
        ApiKey::ListGroups => answer!(ctx, raw, list_groups::handle),
        ApiKey::DeleteGroups => Box::pin(delete_groups::handle(ctx, raw)).await,
        ApiKey::ConsumerGroupHeartbeat => answer!(ctx, raw, consumer_group_heartbeat::handle),
        ApiKey::ConsumerGroupDescribe => answer!(ctx, raw, consumer_group_describe::handle),
        ApiKey::OffsetDelete => answer!(ctx, raw, offset_delete::handle),
        ApiKey::ShareFetch => Box::pin(share_fetch::handle(ctx, raw)).await,
        ApiKey::ShareAcknowledge => Box::pin(share_acknowledge::handle(ctx, raw)).await,
        ApiKey::ShareGroupHeartbeat => answer!(ctx, raw, share_group::heartbeat::handle),
        ApiKey::ShareGroupDescribe => answer!(ctx, raw, share_group::describe::handle),
        ApiKey::DescribeShareGroupOffsets => {
            Box::pin(share_group::describe_offsets::handle(ctx, raw)).await
        }
        ApiKey::AlterShareGroupOffsets => answer!(ctx, raw, share_group::alter_offsets::handle),
        ApiKey::DeleteShareGroupOffsets => answer!(ctx, raw, share_group::delete_offsets::handle),
        ApiKey::InitializeShareGroupState => answer!(ctx, raw, share_group_state::initialize),
        ApiKey::ReadShareGroupState => answer!(ctx, raw, share_group_state::read),
        ApiKey::WriteShareGroupState => Box::pin(share_group_state::write(ctx, raw)).await,
        ApiKey::DeleteShareGroupState => answer!(ctx, raw, share_group_state::delete),
        ApiKey::ReadShareGroupStateSummary => Box::pin(share_group_state::summary(ctx, raw)).await,
        other => Err(ProtocolError::UnknownApi(other as i16)),
    }
}
