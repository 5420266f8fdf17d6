//! EndTxn (key 26): a transaction is committed or aborted (KIP-98). Answered when the decision is durable;
//! from version 5 on with the producer's next epoch (KIP-890).

use dlog_transactions::{
    EndTxn, Producer, Reply, TransactionApi, TransactionError, TransactionVersion,
};
use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse, ProducerId};

use super::Context;

/// Clients of version 2 of the transaction protocol send this version.
const TRANSACTION_V2: i16 = 5;

/// Answers EndTxn.
pub async fn handle(ctx: &Context, request: EndTxnRequest) -> EndTxnResponse {
    let (code, producer) = match end(ctx, &request).await {
        Ok(producer) => (0, producer),
        Err(error) => {
            let code = error.code_for(TransactionApi::EndTxn, ctx.version);
            (code, Producer::NONE)
        }
    };
    EndTxnResponse::default()
        .with_error_code(code)
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
}

async fn end(ctx: &Context, request: &EndTxnRequest) -> Result<Producer, TransactionError> {
    let end = EndTxn {
        transactional_id: request.transactional_id.to_string(),
        producer: Producer {
            id: request.producer_id.0,
            epoch: request.producer_epoch,
        },
        committed: request.committed,
        client_version: if ctx.version >= TRANSACTION_V2 {
            TransactionVersion::V2
        } else {
            TransactionVersion::V0
        },
    };
    let transactions = &ctx.state.transactions;
    let shard = transactions
        .shard(&ctx.state, &end.transactional_id)
        .await?;
    let asked = shard.ask(&ctx.state, |machine, now_ms, token, effects| {
        machine.end_txn(now_ms, &end, token, effects);
    });
    match asked.await? {
        Reply::EndTxn(result) => result,
        _ => Err(TransactionError::UnknownServerError),
    }
}
