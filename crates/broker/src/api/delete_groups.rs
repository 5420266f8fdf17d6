//! DeleteGroups (key 42): empty groups with their offsets.

use dlog_groups::{GroupError, Reply};
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::Context;

/// Answers DeleteGroups.
pub async fn handle(ctx: &Context, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in request.groups_names {
        let code = delete(ctx, &group_id)
            .await
            .err()
            .map_or(0, GroupError::code);
        results.push(
            DeletableGroupResult::default()
                .with_group_id(group_id)
                .with_error_code(code),
        );
    }
    DeleteGroupsResponse::default().with_results(results)
}

async fn delete(ctx: &Context, group_id: &str) -> Result<(), GroupError> {
    let shard = ctx.state.groups.shard(&ctx.state, group_id).await?;
    let asked = shard.ask(&ctx.state, |groups, now_ms, token, effects| {
        groups.delete_group(now_ms, group_id, token, effects);
    });
    match asked.await? {
        Reply::DeleteGroup(result) => result,
        _ => Err(GroupError::UnknownServerError),
    }
}
