//! InitProducerId (key 22): ids for idempotent producers (KIP-98, KIP-360).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::Context;

/// Answers InitProducerId.
pub async fn handle(ctx: &Context, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refuse = |error: ResponseError| {
        InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    if let Some(id) = &request.transactional_id {
        if id.is_empty() {
            return refuse(ResponseError::InvalidRequest);
        }
        // Transactions are not offered: an error that clients take as final.
        return refuse(ResponseError::TransactionalIdAuthorizationFailed);
    }
    if (request.producer_id.0 == -1) != (request.producer_epoch == -1) {
        return refuse(ResponseError::InvalidRequest);
    }
    match ctx.state.producer_ids.next() {
        Some(id) => answer(id),
        None => match ctx
            .blocking(|state| state.producer_ids.allocate(&state.metadata))
            .await
        {
            Ok(id) => answer(id),
            Err(error) => {
                tracing::error!(connection = ctx.connection.id, %error, "no producer id could be allocated");
                refuse(ResponseError::KafkaStorageError)
            }
        },
    }
}

fn answer(id: i64) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(0)
        .with_ongoing_txn_producer_id(ProducerId(-1))
        .with_ongoing_txn_producer_epoch(-1)
}
