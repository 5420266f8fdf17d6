//! DeleteGroups (key 42): empty groups with their offsets.

use std::collections::HashSet;

use dlog_groups::{GroupError, Reply};
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::Context;
use crate::net::reply::Outcome;
use crate::protocol::{ProtocolError, RawRequest, newer};

/// Results have a place for a message from this version on.
const MESSAGES: i16 = 3;

/// Answers DeleteGroups.
///
/// # Errors
/// [`ProtocolError`] for a malformed request.
pub async fn handle(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    let response = answer(ctx, raw.decode()?).await;
    let reply = if raw.version >= MESSAGES {
        newer::delete_groups_reply(raw, &response)
    } else {
        raw.reply(&response)
    };
    Ok(Outcome::Ready(reply?))
}

async fn answer(ctx: &Context, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    // Whoever names a group twice is answered once.
    let mut seen = HashSet::new();
    for group_id in request.groups_names {
        if !seen.insert(group_id.clone()) {
            continue;
        }
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
    let shard = crate::groups::shard_of(&ctx.state, group_id).await?;
    crate::share::setup::delete_all(&ctx.state, &shard, group_id).await?;
    let asked = shard.ask(&ctx.state, |groups, now_ms, token, effects| {
        groups.delete_group(now_ms, group_id, token, effects);
    });
    match asked.await? {
        Reply::DeleteGroup(result) => result,
        _ => Err(GroupError::UnknownServerError),
    }
}
