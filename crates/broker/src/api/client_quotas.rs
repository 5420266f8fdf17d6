//! DescribeClientQuotas and AlterClientQuotas (keys 48 and 49, KIP-546). No quota is enforced yet, so none is
//! accepted: a limit that does not limit would be worse than none.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_client_quotas_response::{EntityData, EntryData};
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
};

use super::{Context, text};

/// What a quota can be set for.
const ENTITY_TYPES: [&str; 3] = ["user", "client-id", "ip"];

/// Answers DescribeClientQuotas: there are none.
pub async fn describe(
    _ctx: &Context,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let response = DescribeClientQuotasResponse::default();
    let kinds = request.components.iter().map(|c| &*c.entity_type);
    match kinds.into_iter().find(|kind| !ENTITY_TYPES.contains(kind)) {
        Some(unknown) => response
            .with_error_code(ResponseError::UnsupportedVersion.code())
            .with_error_message(Some(text(format!(
                "Custom entity type '{unknown}' not supported"
            ))))
            .with_entries(None),
        None => response
            .with_error_message(None)
            .with_entries(Some(Vec::new())),
    }
}

/// Answers AlterClientQuotas: what is not there can be removed, nothing can be set.
pub async fn alter(_ctx: &Context, request: AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let entries = request.entries.into_iter().map(|entry| {
        let unknown = entry
            .entity
            .iter()
            .find(|entity| !ENTITY_TYPES.contains(&&*entity.entity_type));
        let refusal = match unknown {
            Some(unknown) => Some(format!(
                "Unhandled client quota entity type: {}",
                &*unknown.entity_type
            )),
            None if entry.ops.iter().all(|op| op.remove) => None,
            None => {
                Some("Client quotas are not enforced by this server yet: none can be set".into())
            }
        };
        let entity = entry.entity.into_iter().map(|entity| {
            EntityData::default()
                .with_entity_type(entity.entity_type)
                .with_entity_name(entity.entity_name)
        });
        let answer = EntryData::default().with_entity(entity.collect());
        match refusal {
            None => answer.with_error_message(None),
            Some(reason) => answer
                .with_error_code(ResponseError::InvalidRequest.code())
                .with_error_message(Some(text(reason))),
        }
    });
    AlterClientQuotasResponse::default().with_entries(entries.collect())
}
