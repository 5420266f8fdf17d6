//! UnregisterBroker (key 64, KIP-631): the only node is running, and stays.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::{Context, text};

/// Answers UnregisterBroker.
pub async fn handle(ctx: &Context, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    let id = request.broker_id.0;
    let (code, message) = if ctx.state.image().broker(id).is_some() {
        (
            ResponseError::InvalidRequest,
            format!("Broker ID {id} is the node that was asked, and is running"),
        )
    } else {
        (
            ResponseError::BrokerIdNotRegistered,
            format!("Broker ID {id} is not currently registered"),
        )
    };
    UnregisterBrokerResponse::default()
        .with_error_code(code.code())
        .with_error_message(Some(text(message)))
}
