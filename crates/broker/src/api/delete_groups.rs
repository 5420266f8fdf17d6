//! DeleteGroups (key 42): empty groups with their offsets.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::Context;
use crate::groups::machine::{GroupError, Reply};

/// Answers DeleteGroups.
pub async fn handle(ctx: &Context, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in request.groups_names {
        let error = match ctx.state.groups.shard(&ctx.state, &group_id).await {
            Ok(shard) => {
                let answer = shard
                    .ask(&ctx.state, |groups, token| {
                        groups.delete_group(&group_id, token);
                    })
                    .await;
                match answer {
                    Some(Reply::Deleted(error)) => error,
                    _ => Some(GroupError::CoordinatorNotAvailable),
                }
            }
            Err(_) => Some(GroupError::CoordinatorNotAvailable),
        };
        let code = error.map_or(0, GroupError::code);
        results.push(
            DeletableGroupResult::default()
                .with_group_id(group_id)
                .with_error_code(code),
        );
    }
    DeleteGroupsResponse::default().with_results(results)
}
