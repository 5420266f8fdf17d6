//! AddPartitionsToTxn (key 24): partitions join a transaction (KIP-98). From version 4 on it comes from
//! brokers, for several transactions at once, and can ask without adding (KIP-890).

use dlog_transactions::{
    AddPartitions, Producer, TopicPartition, TransactionApi, TransactionError, TransactionVersion,
};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::Context;
use crate::transactions::add_once;

/// Requests come from brokers, with several transactions, from this version on.
const BATCHED: i16 = 4;

/// Answers AddPartitionsToTxn.
pub async fn handle(
    ctx: &Context,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if ctx.version < BATCHED {
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(request.v3_and_below_transactional_id)
            .with_producer_id(request.v3_and_below_producer_id)
            .with_producer_epoch(request.v3_and_below_producer_epoch)
            .with_topics(request.v3_and_below_topics);
        let results = answer(ctx, &transaction).await;
        return AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results);
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        let of_topics = answer(ctx, &transaction).await;
        results.push(
            AddPartitionsToTxnResult::default()
                .with_transactional_id(transaction.transactional_id)
                .with_topic_results(of_topics),
        );
    }
    AddPartitionsToTxnResponse::default().with_results_by_transaction(results)
}

async fn answer(
    ctx: &Context,
    transaction: &AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let partitions = match all_exist(ctx, &transaction.topics) {
        Ok(partitions) => partitions,
        Err(results) => return results,
    };
    let version = ctx.version;
    let request = AddPartitions {
        transactional_id: transaction.transactional_id.to_string(),
        producer: Producer {
            id: transaction.producer_id.0,
            epoch: transaction.producer_epoch,
        },
        client_version: if version < BATCHED {
            TransactionVersion::V0
        } else {
            TransactionVersion::V2
        },
        partitions,
    };
    let transactions = &ctx.state.transactions;
    let shard = match transactions
        .shard(&ctx.state, &request.transactional_id)
        .await
    {
        Ok(shard) => shard,
        Err(error) => {
            let code = code(version, Err(error));
            return results(&transaction.topics, |_, _| code);
        }
    };
    if transaction.verify_only {
        let verified = shard.read(|machine| machine.verify_partitions(&request));
        // In the order of the request.
        let mut codes = verified
            .into_iter()
            .map(|(_, result)| code(version, result));
        return results(&transaction.topics, |_, _| codes.next().unwrap_or_default());
    }
    let added = code(version, add_once(&ctx.state, &shard, request).await);
    results(&transaction.topics, |_, _| added)
}

/// The partitions of a request. One that does not exist is enough: then none is added.
fn all_exist(
    ctx: &Context,
    topics: &[AddPartitionsToTxnTopic],
) -> Result<Vec<TopicPartition>, Vec<AddPartitionsToTxnTopicResult>> {
    let image = ctx.state.image();
    let exists = |topic: &str, index: i32| {
        let count = image.topic(topic).map_or(0, |topic| topic.partitions.len());
        usize::try_from(index).is_ok_and(|index| index < count)
    };
    let mut partitions = Vec::new();
    let mut missing = false;
    for topic in topics {
        for &index in &topic.partitions {
            missing |= !exists(&topic.name, index);
            partitions.push(TopicPartition::new(&topic.name, index));
        }
    }
    if !missing {
        return Ok(partitions);
    }
    Err(results(topics, |topic, index| {
        let error = if exists(topic, index) {
            ResponseError::OperationNotAttempted
        } else {
            ResponseError::UnknownTopicOrPartition
        };
        error.code()
    }))
}

fn code(version: i16, result: Result<(), TransactionError>) -> i16 {
    let api = TransactionApi::AddPartitionsToTxn;
    result.map_or_else(|error| error.code_for(api, version), |()| 0)
}

fn results(
    topics: &[AddPartitionsToTxnTopic],
    mut code: impl FnMut(&str, i32) -> i16,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut answer = Vec::with_capacity(topics.len());
    for topic in topics {
        let partitions = topic.partitions.iter().map(|&index| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(code(&topic.name, index))
        });
        answer.push(
            AddPartitionsToTxnTopicResult::default()
                .with_name(topic.name.clone())
                .with_results_by_partition(partitions.collect()),
        );
    }
    answer
}
