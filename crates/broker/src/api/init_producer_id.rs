//! InitProducerId (key 22): ids for idempotent producers, and for transactional ones, whose earlier
//! incarnations are fenced by it (KIP-98, KIP-360).

use dlog_transactions::{InitProducerId, Producer, Reply, TransactionApi, TransactionError};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::Context;
use crate::transactions::prepare_producer_ids;

/// Answers InitProducerId.
pub async fn handle(ctx: &Context, request: InitProducerIdRequest) -> InitProducerIdResponse {
    // Who a producer was is said in full, or not at all.
    if (request.producer_id.0 == -1) != (request.producer_epoch == -1) {
        return answer(
            ResponseError::InvalidRequest.code(),
            Producer { id: -1, epoch: -1 },
        );
    }
    let result = match &request.transactional_id {
        Some(_) => transactional(ctx, &request).await,
        None => idempotent(ctx).await,
    };
    match result {
        Ok(producer) => answer(0, producer),
        Err(code) => answer(code, Producer { id: -1, epoch: -1 }),
    }
}

async fn idempotent(ctx: &Context) -> Result<Producer, i16> {
    if let Some(id) = ctx.state.producer_ids.next() {
        return Ok(Producer { id, epoch: 0 });
    }
    let allocated = ctx
        .blocking(|state| state.producer_ids.allocate(&state.metadata))
        .await;
    match allocated {
        Ok(id) => Ok(Producer { id, epoch: 0 }),
        Err(error) => {
            tracing::error!(connection = ctx.connection.id, %error, "no producer id could be allocated");
            Err(ResponseError::KafkaStorageError.code())
        }
    }
}

async fn transactional(ctx: &Context, request: &InitProducerIdRequest) -> Result<Producer, i16> {
    let id = request.transactional_id.as_ref().map(|id| id.0.to_string());
    let known = Producer {
        id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let init = InitProducerId {
        transactional_id: id.unwrap_or_default(),
        timeout_ms: request.transaction_timeout_ms,
        expected: (known != Producer::NONE).then_some(known),
    };
    let told =
        |error: TransactionError| error.code_for(TransactionApi::InitProducerId, ctx.version);
    if init.transactional_id.is_empty() {
        // Nobody's: no coordinator need be started for it.
        return Err(told(TransactionError::InvalidRequest));
    }
    let transactions = &ctx.state.transactions;
    let shard = transactions.shard(&ctx.state, &init.transactional_id).await;
    let shard = shard.map_err(told)?;
    prepare_producer_ids(&ctx.state, &shard).await;
    let asked = shard.ask(&ctx.state, |machine, now_ms, token, effects| {
        machine.init_producer_id(now_ms, &init, token, effects);
    });
    match asked.await.map_err(told)? {
        Reply::InitProducerId(result) => result.map_err(told),
        _ => Err(told(TransactionError::UnknownServerError)),
    }
}

fn answer(code: i16, producer: Producer) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(code)
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_ongoing_txn_producer_id(ProducerId(-1))
        .with_ongoing_txn_producer_epoch(-1)
}
