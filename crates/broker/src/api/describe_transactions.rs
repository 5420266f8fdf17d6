//! DescribeTransactions (key 65): transactional ids, for operators (KIP-664).

use dlog_transactions::{TransactionDescription, TransactionError};
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId, TopicName,
    TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, named_once, text};

/// Answers DescribeTransactions.
pub async fn handle(
    ctx: &Context,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let mut states = Vec::new();
    // Each id is answered once, so that the answer is not larger than all transactions.
    let ids: Vec<_> = named_once(&request.transactional_ids, Clone::clone)
        .map(|(id, _)| id.clone())
        .collect();
    for id in ids {
        let state = match describe(ctx, &id).await {
            Ok(found) => shown(&found),
            Err(error) => TransactionState::default()
                .with_error_code(error.code())
                .with_transaction_timeout_ms(0)
                .with_transaction_start_time_ms(0),
        };
        states.push(state.with_transactional_id(id));
    }
    DescribeTransactionsResponse::default().with_transaction_states(states)
}

async fn describe(
    ctx: &Context,
    id: &TransactionalId,
) -> Result<TransactionDescription, TransactionError> {
    let shard = ctx.state.transactions.shard(&ctx.state, id).await?;
    shard.read(|machine| machine.describe_transaction(id))
}

fn shown(found: &TransactionDescription) -> TransactionState {
    let mut topics: Vec<TopicData> = Vec::new();
    // They are in order.
    for partition in &found.partitions {
        match topics.last_mut() {
            Some(last) if *last.topic.0 == *partition.topic => {
                last.partitions.push(partition.partition);
            }
            _ => topics.push(
                TopicData::default()
                    .with_topic(TopicName(text(&*partition.topic)))
                    .with_partitions(vec![partition.partition]),
            ),
        }
    }
    TransactionState::default()
        .with_transaction_state(StrBytes::from_static_str(found.state.as_str()))
        .with_transaction_timeout_ms(found.timeout_ms)
        .with_transaction_start_time_ms(found.start_ms)
        .with_producer_id(ProducerId(found.producer.id))
        .with_producer_epoch(found.producer.epoch)
        .with_topics(topics)
}
