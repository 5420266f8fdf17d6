//! AddOffsetsToTxn (key 25): the partition that a group's offsets are in joins a transaction (KIP-98).

use dlog_transactions::{
    AddPartitions, Producer, TopicPartition, TransactionApi, TransactionError, TransactionVersion,
};
use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::Context;
use crate::groups::OFFSETS_TOPIC;
use crate::transactions::add_once;

/// Answers AddOffsetsToTxn.
pub async fn handle(ctx: &Context, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let code = match add(ctx, &request).await {
        Ok(()) => 0,
        Err(error) => error.code_for(TransactionApi::AddOffsetsToTxn, ctx.version),
    };
    AddOffsetsToTxnResponse::default().with_error_code(code)
}

async fn add(ctx: &Context, request: &AddOffsetsToTxnRequest) -> Result<(), TransactionError> {
    let group = ctx.state.groups.shard(&ctx.state, &request.group_id).await;
    let group = group.map_err(|_| TransactionError::CoordinatorNotAvailable)?;
    let add = AddPartitions {
        transactional_id: request.transactional_id.to_string(),
        producer: Producer {
            id: request.producer_id.0,
            epoch: request.producer_epoch,
        },
        client_version: TransactionVersion::V0,
        partitions: vec![TopicPartition::new(OFFSETS_TOPIC, group.partition().index)],
    };
    let transactions = &ctx.state.transactions;
    let shard = transactions
        .shard(&ctx.state, &add.transactional_id)
        .await?;
    add_once(&ctx.state, &shard, add).await
}
